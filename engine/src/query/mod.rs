//! L6: asking about the past.
//!
//! Every read goes through a [`View`]: the log as of a position, an event, a version or an instant. A view is cheap to hold, sees nothing above
//! the watermark of its moment, and never changes. Events are borrowed from the segments; nothing is copied, and every frame's checksums are
//! verified when it is read. Absent on purpose: writing, and any order of answers that depends on when they were asked for.

use std::ops::RangeInclusive;

use chainring_format::metadata::Timestamp;
use chainring_format::{EventId, Position, Version};

use self::records::Records;
use crate::error::ReadError;
use crate::index::Term;
use crate::log::Store;
use crate::segment::{Catalog, Found};
use crate::sequencer::Shared;
use crate::sync::Arc;

mod by;
mod event;
mod fold;
mod lineage;
mod naming;
mod projection;
mod records;
mod replay;
mod scan;
mod snapshot;
mod stream;
mod subscribe;
mod undo;
mod upcast;

pub use by::{By, EventsBy};
pub use event::EventRef;
pub use fold::{Fold, Folded};
pub use lineage::Relation;
pub use projection::{Encoding, FileOutput, Output, Place, Projection, ProjectionError, Projector};
pub use replay::{Divergence, Replay, ReplayError};
pub use scan::Events;
pub use snapshot::Snapshots;
pub use stream::{StreamEvents, StreamView};
pub use subscribe::{Batch, Subscription};
pub use undo::UndoPlan;
pub use upcast::Upcasts;

/// The moment a view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Everything durable now.
    Latest,
    /// Everything up to and with this position.
    Position(Position),
    /// Everything up to and with this event, also inside its batch.
    Event(EventId),
    /// The first events of every stream, up to this version.
    Version(Version),
    /// Everything recorded up to this instant, in nanoseconds since 1970.
    RecordedAt(u64),
    /// Every event that claims to have occurred up to this instant, whenever it was recorded. Events without a claimed time are left out.
    OccurredAt(Timestamp),
}

/// What of the records below the limit a view leaves out.
#[derive(Debug, Clone, Copy)]
enum Filter {
    None,
    Version(u64),
    OccurredAt(Timestamp),
}

/// The log as of a moment.
#[derive(Debug, Clone)]
pub struct View {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    /// Position after the last one in view.
    limit: u64,
    filter: Filter,
}

impl Store {
    /// Everything durable now.
    #[must_use]
    pub fn latest(&self) -> View {
        // The watermark first: the catalog then holds at least the segments below it.
        let limit = self.shared.watermark();
        View { shared: Arc::clone(&self.shared), catalog: self.shared.catalog(), limit, filter: Filter::None }
    }

    /// The log as of a moment.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an event that is not in the log.
    pub fn at(&self, moment: AsOf) -> Result<View, ReadError> {
        let mut view = self.latest();
        match moment {
            AsOf::Latest => {}
            AsOf::Position(position) => view.limit = view.limit.min(position.0.saturating_add(1)),
            AsOf::Event(id) => {
                let position = self.locate(id)?.ok_or_else(|| ReadError::NotFound { what: format!("event {id}") })?;
                view.limit = position.0 + 1;
            }
            AsOf::Version(version) => view.filter = Filter::Version(version.0),
            AsOf::RecordedAt(time_ns) => view.limit = view.recorded_up_to(time_ns)?,
            AsOf::OccurredAt(time) => view.filter = Filter::OccurredAt(time),
        }
        Ok(view)
    }

    /// Version of a stream now; 0 if it does not exist.
    ///
    /// # Errors
    /// Damage, or an error of the device, met on the way back from events that are not durable yet.
    pub fn head(&self, stream: &str) -> Result<Version, ReadError> {
        Ok(self.latest().stream(stream)?.map_or(Version(0), |stream| stream.version()))
    }
}

impl View {
    /// Position after the last one this view can show.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.limit)
    }

    /// The same view without what stands at a position or behind it.
    #[must_use]
    pub fn up_to(&self, end: Position) -> View {
        View { limit: self.limit.min(end.0), ..self.clone() }
    }

    /// First position that was recorded after an instant. Recorded times never run backwards: the index knows the segment, and in it every other step goes
    /// to where the record would be if records came evenly, and the one between halves what is left.
    fn recorded_up_to(&self, time_ns: u64) -> Result<u64, ReadError> {
        let runs = self.shared.index.runs();
        let (mut low, mut high, mut times) = match runs.recorded_after(time_ns) {
            Some((before_ns, segment)) => {
                (segment.first_position, segment.next_position.min(self.limit), Some((before_ns, segment.time_ns)))
            }
            None => (runs.end().min(self.limit), self.limit, None),
        };
        let mut halves = false;
        while low < high {
            let evenly = times.filter(|_| !halves).map(|(from, to): (u64, u64)| {
                let part = u128::from(time_ns.saturating_sub(from)) * u128::from(high - low) / u128::from(to.saturating_sub(from).max(1));
                low + u64::try_from(part).unwrap_or(u64::MAX).min(high - low - 1)
            });
            let middle = evenly.unwrap_or(low + (high - low) / 2);
            halves = !halves;
            let recorded_ns = self.catalog.frame(middle)?.header.recorded_at_ns.get();
            if recorded_ns <= time_ns {
                low = middle + 1;
                times = times.map(|(_, to)| (recorded_ns, to));
            } else {
                high = middle;
                times = times.map(|(from, _)| (from, recorded_ns));
            }
        }
        Ok(low)
    }

    /// Whether an event below the limit is in view.
    fn shows(&self, event: &EventRef<'_>) -> bool {
        match self.filter {
            Filter::None => true,
            Filter::Version(version) => event.version().0 <= version,
            Filter::OccurredAt(time) => event.occurred_at().is_some_and(|occurred_at| occurred_at <= time),
        }
    }

    /// A stream, if it has an event in this view.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn stream(&self, name: &str) -> Result<Option<StreamView<'_>>, ReadError> {
        let stream = StreamView::new(self, &chainring_format::hash::stream_id(name))?;
        match stream {
            // Another name with the same id has no events.
            Some(stream) => Ok((stream.name()? == name).then_some(stream)),
            None => Ok(None),
        }
    }

    /// All events in order of position.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        self.scan(0, self.limit)
    }

    /// The events at these positions, in order.
    #[must_use]
    pub fn events_in(&self, positions: RangeInclusive<Position>) -> Events<'_> {
        let (first, last) = (positions.start().0, positions.end().0);
        self.scan(first, self.limit.min(last.saturating_add(1)))
    }

    /// The events that claim to have occurred in this time, in order of position. Where the index knows the earliest and the latest of 64 records, what lies
    /// between is not read.
    #[must_use]
    pub fn events_occurred(&self, times: RangeInclusive<Timestamp>) -> Events<'_> {
        Events::new(self, 0, self.limit).occurred(times)
    }

    fn scan(&self, from: u64, to: u64) -> Events<'_> {
        let events = Events::new(self, from, to);
        match self.filter {
            Filter::OccurredAt(time) => events.occurred(Timestamp::MIN..=time),
            Filter::None | Filter::Version(_) => events,
        }
    }

    /// The last `count` events, in order.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn last_events(&self, count: usize) -> Result<Vec<EventRef<'_>>, ReadError> {
        let mut events = Vec::new();
        let mut position = self.limit;
        while position > 0 && events.len() < count {
            position -= 1;
            let event = self.record(position)?;
            if event.is_event() && self.shows(&event) {
                events.push(event);
            }
        }
        events.reverse();
        Ok(events)
    }

    /// Names of all streams in view with their versions, in order of first appearance.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn streams(&self) -> Result<Vec<(&str, Version)>, ReadError> {
        let mut streams = Vec::new();
        let mut births = Records::all(self, self.births()?.into_iter().map(|position| (position, None)));
        while let Some(first) = births.next_record()? {
            if first.version().0 == 1
                && let Some(stream) = StreamView::new(self, &first.stream_id())?
            {
                streams.push((first.stream()?, stream.version()));
            }
        }
        Ok(streams)
    }

    /// Positions below the limit at which streams begin, all of them and maybe a few more, rising.
    fn births(&self) -> Result<Vec<u64>, ReadError> {
        // The directory first: what it forgets meanwhile the index has by then.
        let directory = self.shared.directory()?;
        let resident = directory.streams_since(directory.streams_from());
        let mut births: Vec<u64> = resident.filter_map(|(_, head)| head.birth).map(|birth| birth.position).collect();
        drop(directory);
        let index = &self.shared.index;
        let limit = self.limit;
        index.each(&self.shared.catalog(), &[index.key(&Term::Birth)], |_, position| {
            births.push(position);
            Ok(())
        })?;
        births.retain(|position| *position < limit);
        births.sort_unstable();
        births.dedup();
        Ok(births)
    }

    /// The event at a position.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if there is no event in view; damage, or an error of the device.
    pub fn event(&self, position: Position) -> Result<EventRef<'_>, ReadError> {
        let not_found = || ReadError::NotFound { what: format!("an event at position {position}") };
        if position.0 >= self.limit {
            return Err(not_found());
        }
        let event = self.record(position.0)?;
        if event.is_event() && self.shows(&event) { Ok(event) } else { Err(not_found()) }
    }

    /// The record at a position below the limit, whatever it is.
    fn record(&self, position: u64) -> Result<EventRef<'_>, ReadError> {
        self.record_found((position, None))
    }

    /// The same, where the index found it.
    fn record_found(&self, found: Found) -> Result<EventRef<'_>, ReadError> {
        Ok(EventRef::new(self, found.0, self.catalog.frame_found(found)?))
    }
}
