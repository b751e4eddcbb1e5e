//! One stream, forward and backward, by walking back from its head.
//!
//! Every frame tells how far back its predecessor is: backward is the walk itself, forward is the walk remembered. The index says where a walk begins.

use chainring_format::frame::{BACK_FAR, FrameView};
use chainring_format::{StreamId, Version};

use super::View;
use super::event::EventRef;
use crate::error::ReadError;
use crate::segment::Catalog;
use crate::sync::read;

/// A stream in a view.
#[derive(Debug, Clone, Copy)]
pub struct StreamView<'a> {
    view: &'a View,
    /// The last event below the view's limit, in view or not.
    last: EventRef<'a>,
    version: Version,
}

impl<'a> StreamView<'a> {
    /// The stream with this id, if it has an event in view.
    pub(super) fn new(view: &'a View, id: &StreamId) -> Result<Option<StreamView<'a>>, ReadError> {
        let Some(position) = newest_below(view, id)? else { return Ok(None) };
        let last = view.record(position)?;
        let mut shown = Backward { view, next: Some(last) };
        match shown.next() {
            Some(newest) => {
                let version = newest?.version();
                Ok(Some(StreamView { view, last, version }))
            }
            None => Ok(None),
        }
    }

    /// Name of the stream.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn name(&self) -> Result<&'a str, ReadError> {
        self.last.stream()
    }

    /// Version of the newest event in view. Where the view leaves events out by claimed time, older ones may be missing below it.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Events from a version on, oldest first. Takes memory for one position an event.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn forward(&self, from: Version) -> Result<StreamEvents<'a>, ReadError> {
        let mut positions = Vec::new();
        for event in (Backward { view: self.view, next: Some(self.last) }) {
            let event = event?;
            if event.version() < from {
                break;
            }
            positions.push(event.position().0);
        }
        Ok(StreamEvents { view: self.view, positions })
    }

    /// Events from the newest back.
    pub fn backward(&self) -> impl Iterator<Item = Result<EventRef<'a>, ReadError>> + use<'a> {
        Backward { view: self.view, next: Some(self.last) }
    }
}

/// Events of a stream, oldest first.
#[derive(Debug, Clone)]
pub struct StreamEvents<'a> {
    view: &'a View,
    /// Positions still to come, the next one last.
    positions: Vec<u64>,
}

impl<'a> Iterator for StreamEvents<'a> {
    type Item = Result<EventRef<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.positions.pop().map(|position| self.view.record(position))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.positions.len(), Some(self.positions.len()))
    }
}

impl ExactSizeIterator for StreamEvents<'_> {}

/// The walk back.
struct Backward<'a> {
    view: &'a View,
    next: Option<EventRef<'a>>,
}

impl<'a> Iterator for Backward<'a> {
    type Item = Result<EventRef<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let event = self.next.take()?;
            match predecessor(self.view, &event) {
                Ok(previous) => self.next = previous,
                Err(error) => return Some(Err(error)),
            }
            if self.view.shows(&event) {
                return Some(Ok(event));
            }
        }
    }
}

/// Position of the stream's last event below the view's limit.
///
/// Heads run ahead of the watermark and of what a view shows, also into segments that are younger than the view: those are read through the
/// catalog of the moment, which is taken after the head and therefore holds it.
fn newest_below(view: &View, id: &StreamId) -> Result<Option<u64>, ReadError> {
    let shared = &view.shared;
    let head = read(&shared.directory).stream(id).map(|head| head.position);
    // Behind the head: what was in the directory and is not any more is in the index.
    let indexed_to = shared.index.runs().end();
    let Some(mut position) = head else { return shared.indexed_below(id, view.limit) };
    let catalog = shared.catalog();
    while position >= view.limit {
        if position < indexed_to {
            return shared.indexed_below(id, view.limit);
        }
        match previous(&catalog, position, &catalog.frame(position)?)? {
            Some(before) => position = before,
            None => return Ok(None),
        }
    }
    Ok(Some(position))
}

/// The event before this one in its stream.
fn predecessor<'a>(view: &'a View, event: &EventRef<'a>) -> Result<Option<EventRef<'a>>, ReadError> {
    previous(&view.catalog, event.position().0, event.frame())?.map(|position| view.record(position)).transpose()
}

/// Position of the stream's event before the one at `position`.
fn previous(catalog: &Catalog, position: u64, frame: &FrameView<'_>) -> Result<Option<u64>, ReadError> {
    match frame.header.stream_back.get() {
        0 => Ok(None),
        BACK_FAR => {
            // Farther than the field can say: the records in between are searched.
            let mut before = position.checked_sub(u64::from(BACK_FAR));
            while let Some(at) = before {
                let candidate = catalog.frame(at)?;
                if candidate.is_event() && candidate.stream_id() == frame.stream_id() {
                    break;
                }
                before = at.checked_sub(1);
            }
            Ok(before)
        }
        back => Ok(position.checked_sub(back.into())),
    }
}
