//! Everything in order of position, or what claims to have occurred in some time.

use std::ops::RangeInclusive;

use chainring_format::metadata::Timestamp;

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
    claimed: Option<Claimed>,
}

/// What claimed times are asked for, and where they may be.
#[derive(Debug, Clone)]
struct Claimed {
    times: RangeInclusive<Timestamp>,
    /// End of the stretch that is being read.
    end: u64,
    /// The stretches behind it, the next one last.
    stretches: Vec<(u64, u64)>,
    /// Where the index was asked up to.
    asked_to: u64,
}

impl<'a> Events<'a> {
    pub(super) fn new(view: &'a View, position: u64, limit: u64) -> Events<'a> {
        Events { view, position, limit, frames: Frames::new(&view.catalog, position), claimed: None }
    }

    /// Only those that claim to have occurred in this time. What lies between is not read, where the index knows that nothing is there.
    pub(super) fn occurred(self, times: RangeInclusive<Timestamp>) -> Events<'a> {
        let claimed = Claimed { times, end: self.position, stretches: Vec::new(), asked_to: self.position };
        Events { claimed: Some(claimed), ..self }
    }

    /// Position after the last one it shows.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// The next one that is in view; steps over it and what is not.
    fn step(&mut self) -> Result<Option<EventRef<'a>>, ReadError> {
        while self.position < self.limit {
            if self.claimed.as_ref().is_some_and(|claimed| self.position >= claimed.end) {
                self.skip()?;
                continue;
            }
            let event = EventRef::new(self.view, self.position, self.frames.next_frame()?);
            self.position += 1;
            let is_asked_for = |claimed: &Claimed| event.occurred_at().is_some_and(|time| claimed.times.contains(&time));
            if event.is_event() && self.view.shows(&event) && self.claimed.as_ref().is_none_or(is_asked_for) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Goes on to the next stretch that may hold what is asked for.
    fn skip(&mut self) -> Result<(), ReadError> {
        let Some(claimed) = &mut self.claimed else { return Ok(()) };
        if let Some((start, end)) = claimed.stretches.pop() {
            (self.position, claimed.end) = (start, end);
            self.frames = Frames::new(&self.view.catalog, start);
        } else if claimed.asked_to >= self.limit {
            self.position = self.limit;
        } else {
            let index = &self.view.shared.index;
            (claimed.stretches, claimed.asked_to) = index.claimed(&self.view.catalog, self.limit, claimed.asked_to, &claimed.times)?;
            claimed.stretches.reverse();
        }
        Ok(())
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<EventRef<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step().transpose();
        if next.as_ref().is_some_and(Result::is_err) {
            self.position = self.limit;
        }
        next
    }
}
