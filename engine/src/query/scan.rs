//! Everything in order of position.

use super::View;
use super::event::EventRef;
use crate::error::ReadError;

/// Iterator over events in order of position; the engine's own records are left out. After an error it is at its end.
#[derive(Debug, Clone)]
pub struct Events<'a> {
    view: &'a View,
    position: u64,
    limit: u64,
    /// Segment and offset of the frame at `position`, once the first was found.
    at: Option<(usize, u64)>,
}

impl<'a> Events<'a> {
    pub(super) fn new(view: &'a View, position: u64, limit: u64) -> Events<'a> {
        Events { view, position, limit, at: None }
    }

    /// Position after the last one it shows.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// The record at `position`; steps on.
    fn step(&mut self) -> Result<EventRef<'a>, ReadError> {
        let view = self.view;
        let catalog = &view.catalog;
        let position = self.position;
        let (index, offset) = match self.at {
            // The next frame of the same segment, without looking it up.
            Some((index, offset)) if index + 1 == catalog.len() || position < catalog.segment(index + 1).first_position => {
                (index, catalog.segment(index).next_frame(offset, position)?)
            }
            _ => {
                let index = catalog.index_of(position);
                (index, catalog.segment(index).locate(position)?)
            }
        };
        self.at = Some((index, offset));
        self.position += 1;
        Ok(EventRef::new(view, position, catalog.segment(index).frame(offset, position)?))
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<EventRef<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.position < self.limit {
            match self.step() {
                Ok(event) if event.is_event() && self.view.shows(&event) => return Some(Ok(event)),
                Ok(_) => {}
                Err(error) => {
                    self.position = self.limit;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
