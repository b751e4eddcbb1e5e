//! One stream, forward and backward, by walking back from its head.
//!
//! Every frame tells how far back its predecessor is: backward is the walk itself, forward is the walk remembered. The index says where a walk begins.

use chainring_format::frame::{BACK_FAR, FrameView};
use chainring_format::{StreamId, Version};

use super::event::EventRef;
use super::records::Records;
use super::{Filter, View};
use crate::error::ReadError;
use crate::index::Term;
use crate::segment::{Catalog, Found};

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
        let Some(last) = view.last_of(id)? else { return Ok(None) };
        let mut shown = Backward { view, next: Next::At(last) };
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
        let indexed = if matches!(self.view.filter, Filter::None) { self.indexed_positions(from)? } else { None };
        let positions = match indexed {
            Some(positions) => positions,
            None => self.walked_positions(from)?.into_iter().map(|position| (position, None)).collect(),
        };
        Ok(StreamEvents(Records::all(self.view, positions.into_iter().rev())))
    }

    /// Positions of the events in view from a version on, falling, as the frames themselves tell.
    fn walked_positions(&self, from: Version) -> Result<Vec<u64>, ReadError> {
        let mut positions = Vec::new();
        for event in self.backward() {
            let event = event?;
            if event.version() < from {
                break;
            }
            positions.push(event.position().0);
        }
        Ok(positions)
    }

    /// The same, of a view that leaves nothing out, as the index tells: without looking at the events. `None` if it does not tell.
    fn indexed_positions(&self, from: Version) -> Result<Option<Vec<Found>>, ReadError> {
        let shared = &self.view.shared;
        let indexed_to = shared.index.runs().end();
        let mut positions = Vec::new();
        let mut next = Some(self.last);
        while let Some(event) = next.filter(|event| event.position().0 >= indexed_to && event.version() >= from) {
            positions.push((event.position().0, None));
            next = predecessor(self.view, &event)?;
        }
        let Some(newest) = next.filter(|event| event.version() >= from) else { return Ok(Some(positions)) };
        let count = newest.version().0 - from.0.max(1) + 1;
        let stream = self.last.stream_id();
        let key = shared.index.key(&Term::Stream(stream));
        let below = newest.position().0 + 1;
        let found = shared.index.last_below(&shared.catalog(), key, below, usize::try_from(count).unwrap_or(usize::MAX))?;
        // Another stream with the same key would have pushed the oldest one out.
        let oldest = found.last().map(|oldest| self.view.record_found(*oldest)).transpose()?;
        let is_it = oldest.is_some_and(|oldest| oldest.stream_id() == stream && oldest.version().0 == from.0.max(1));
        positions.extend(found);
        Ok(is_it.then_some(positions))
    }

    /// Events from the newest back.
    pub fn backward(&self) -> impl Iterator<Item = Result<EventRef<'a>, ReadError>> + use<'a> {
        Backward { view: self.view, next: Next::At(self.last) }
    }
}

/// Events of a stream, oldest first.
#[derive(Debug, Clone)]
pub struct StreamEvents<'a>(Records<'a>);

impl<'a> Iterator for StreamEvents<'a> {
    type Item = Result<EventRef<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_record().transpose()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl ExactSizeIterator for StreamEvents<'_> {}

/// The walk back.
struct Backward<'a> {
    view: &'a View,
    next: Next<'a>,
}

/// Where a walk back goes on.
enum Next<'a> {
    At(EventRef<'a>),
    /// At its predecessor, which nobody has asked for yet.
    Before(EventRef<'a>),
    Nowhere,
}

impl<'a> Iterator for Backward<'a> {
    type Item = Result<EventRef<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let event = match std::mem::replace(&mut self.next, Next::Nowhere) {
                Next::At(event) => event,
                Next::Before(event) => match predecessor(self.view, &event).transpose()? {
                    Ok(event) => event,
                    Err(error) => return Some(Err(error)),
                },
                Next::Nowhere => return None,
            };
            self.next = Next::Before(event);
            if self.view.shows(&event) {
                return Some(Ok(event));
            }
        }
    }
}

impl View {
    /// The last event of a stream in a view that leaves nothing out.
    pub(crate) fn last_of(&self, id: &StreamId) -> Result<Option<EventRef<'_>>, ReadError> {
        newest_below(self, id)?.map(|found| self.record_found(found)).transpose()
    }
}

/// The stream's last event below the view's limit.
///
/// Heads run ahead of the watermark and of what a view shows, also into segments that are younger than the view: those are read through the
/// catalog of the moment, which is taken after the head and therefore holds it.
fn newest_below(view: &View, id: &StreamId) -> Result<Option<Found>, ReadError> {
    let shared = &view.shared;
    let head = shared.directory()?.stream(id).map(|head| head.position);
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
    Ok(Some((position, None)))
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
