//! Everything in order of position.

use super::View;
use super::event::EventRef;
use crate::error::ReadError;
use crate::segment::Frames;

/// Iterator over events in order of position; the engine's own records are left out. After an error it is at its end.
#[derive(Debug, Clone)]
pub struct Events<'a> {
    view: &'a View,
    position: u64,
    limit: u64,
    frames: Frames<'a>,
}

impl<'a> Events<'a> {
    pub(super) fn new(view: &'a View, position: u64, limit: u64) -> Events<'a> {
        Events { view, position, limit, frames: Frames::new(&view.catalog, position) }
    }

    /// Position after the last one it shows.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// The record at `position`; steps on.
    fn step(&mut self) -> Result<EventRef<'a>, ReadError> {
        let event = EventRef::new(self.view, self.position, self.frames.next_frame()?);
        self.position += 1;
        Ok(event)
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
