//! Events that name something, looked up in the index.

use chainring_format::metadata::{Mention, mentions};

use super::View;
use super::event::EventRef;
use super::records::Records;
use crate::error::ReadError;
use crate::index::Term;

/// Positions that are looked up together.
const LOOKED_UP: usize = 1024;

/// Events in order of position that may name a thing: most do, and whoever asks looks. After an error it is at its end.
#[derive(Debug)]
pub(super) struct Named<'v> {
    view: &'v View,
    key: u64,
    /// Where the next look into the index begins.
    from: u64,
    /// Runs up to here have no others.
    asked_to: Option<u64>,
    /// What was looked up.
    found: Records<'v>,
    /// There are no others.
    is_all: bool,
}

impl View {
    /// Events from a position on that may name this.
    pub(super) fn may_name(&self, what: Mention<'_>, from: u64) -> Named<'_> {
        let key = self.shared.index.key(&Term::Mention(what));
        Named { view: self, key, from, asked_to: None, found: Records::some(self), is_all: false }
    }

    /// Events from a position on that name something of which `is_it` holds; `what` is such a thing.
    pub(super) fn naming(&self, what: Mention<'_>, from: u64, is_it: impl Fn(Mention<'_>) -> bool) -> Result<Vec<EventRef<'_>>, ReadError> {
        let is_named_by = |event: &EventRef<'_>| {
            let mut is_named = false;
            mentions(event.metadata_bytes(), |mention| is_named |= is_it(mention));
            is_named
        };
        let may_name = Named { found: Records::all(self, []), ..self.may_name(what, from) };
        may_name.filter(|event| event.as_ref().map_or(true, is_named_by)).collect()
    }
}

impl<'v> Named<'v> {
    fn step(&mut self) -> Result<Option<EventRef<'v>>, ReadError> {
        loop {
            while let Some(event) = self.found.next_record()? {
                if event.is_event() && self.view.shows(&event) {
                    return Ok(Some(event));
                }
            }
            if self.is_all {
                return Ok(None);
            }
            self.look_up()?;
        }
    }

    fn look_up(&mut self) -> Result<(), ReadError> {
        let index = &self.view.shared.index;
        if let Some(asked_to) = self.asked_to.take() {
            let (start, rest) = index.unindexed(&self.view.catalog, self.view.limit, self.key, self.from)?;
            // Else more came into runs meanwhile, which are asked again.
            if start == asked_to {
                self.is_all = true;
                self.take_in(&rest);
            }
            return Ok(());
        }
        let indexed_to = index.runs().end();
        let found = index.first_from(&self.view.shared.catalog(), self.key, self.from, LOOKED_UP)?;
        self.asked_to = (found.len() < LOOKED_UP).then_some(indexed_to);
        self.from = found.last().map_or(self.from, |last| last + 1);
        self.take_in(&found);
        Ok(())
    }

    /// Takes in what is in view of these positions, which rise.
    fn take_in(&mut self, positions: &[u64]) {
        let in_view = positions.partition_point(|position| *position < self.view.limit);
        self.is_all |= in_view < positions.len();
        self.found.extend(positions[..in_view].iter().map(|position| (*position, None)));
    }
}

impl<'v> Iterator for Named<'v> {
    type Item = Result<EventRef<'v>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.is_all = true;
            self.found.clear();
        }
        next
    }
}
