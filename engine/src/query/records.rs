//! Records at positions that are known beforehand, located in groups: what has to be read for a group is brought in side by side.

use std::collections::VecDeque;
use std::vec;

use super::View;
use super::event::EventRef;
use crate::error::ReadError;
use crate::segment::{Found, Place};

/// Records that are located together at most.
const GROUP_MAX: usize = 128;
/// How much larger each group is than the one before it, where it is not known that all of them will be read.
const GROWTH: usize = 4;

/// Records that lie here and there, in the order that they were asked for.
#[derive(Debug, Clone)]
pub(super) struct Records<'v> {
    view: &'v View,
    /// Those still to be located.
    ahead: VecDeque<Found>,
    located: vec::IntoIter<Place>,
    /// How many are located next.
    group: usize,
}

impl<'v> Records<'v> {
    /// For somebody who reads all of them.
    pub(super) fn all(view: &'v View, ahead: impl IntoIterator<Item = Found>) -> Records<'v> {
        Records { view, ahead: ahead.into_iter().collect(), located: Vec::new().into_iter(), group: GROUP_MAX }
    }

    /// For somebody who may stop at any of them; those behind it cost no more than a few times what the ones before it do.
    pub(super) fn some(view: &'v View) -> Records<'v> {
        Records { group: 1, ..Records::all(view, []) }
    }

    /// Records behind those that are there.
    pub(super) fn extend(&mut self, found: impl IntoIterator<Item = Found>) {
        self.ahead.extend(found);
    }

    pub(super) fn clear(&mut self) {
        self.ahead.clear();
        self.located = Vec::new().into_iter();
    }

    pub(super) fn len(&self) -> usize {
        self.ahead.len() + self.located.len()
    }

    /// Locates the next group. After an error nothing is left.
    fn locate(&mut self) -> Result<(), ReadError> {
        let catalog = &self.view.catalog;
        let count = self.group.min(self.ahead.len());
        let group: Vec<Found> = self.ahead.range(..count).copied().collect();
        let places = match catalog.places(&group) {
            Ok(places) => places,
            // One of them cannot be located. Those before it can.
            Err(_) if count > 1 => {
                self.group = 1;
                return self.locate();
            }
            Err(error) => {
                self.clear();
                return Err(error);
            }
        };
        self.ahead.drain(..count);
        self.group = (self.group * GROWTH).min(GROUP_MAX);
        std::hint::black_box(catalog.touch(&places));
        self.located = places.into_iter();
        Ok(())
    }

    /// The next one.
    pub(super) fn next_record(&mut self) -> Result<Option<EventRef<'v>>, ReadError> {
        if self.located.len() == 0 && !self.ahead.is_empty() {
            self.locate()?;
        }
        let place = self.located.next();
        place.map(|place| Ok(EventRef::new(self.view, place.position, self.view.catalog.frame_at(place)?))).transpose()
    }
}
