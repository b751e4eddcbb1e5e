//! What is not in memory, asked of the index: by callers before they publish, by readers, and in rare cases by the leader.

use std::collections::HashMap;

use chainring_format::frame::FrameView;
use chainring_format::{EventId, StreamId};

use super::decide::Cold;
use super::heads::{Birth, StreamHead, name_rest};
use super::request::{Checked, PreparedEvent, Required, StreamKey};
use super::{Sequencer, Shared};
use crate::error::ReadError;
use crate::index::Term;
use crate::segment::{Catalog, Found};
use crate::sync::{Ordering, RwLock, read, write};

/// Streams whose beginnings are remembered for those who ask for names.
const BIRTHS_MAX: usize = 1 << 16;

/// Where streams begin, for readers who have asked before.
#[derive(Debug, Default)]
pub(super) struct Births(RwLock<HashMap<StreamId, u64>>);

impl Births {
    fn get(&self, id: &StreamId) -> Option<u64> {
        read(&self.0).get(id).copied()
    }

    fn put(&self, id: StreamId, position: u64) {
        let mut births = write(&self.0);
        if births.len() >= BIRTHS_MAX {
            births.clear();
        }
        births.insert(id, position);
    }
}

fn is_of(frame: &FrameView<'_>, id: &StreamId) -> bool {
    frame.is_event() && frame.stream_id() == *id
}

impl Shared {
    /// The newest event of a stream below a bound, of those that are in the index.
    pub(crate) fn indexed_below(&self, id: &StreamId, below: u64) -> Result<Option<Found>, ReadError> {
        let catalog = self.catalog();
        let key = self.index.key(&Term::Stream(*id));
        self.index.newest_below(&catalog, key, below, |found| Ok(is_of(&catalog.frame_found(found)?, id)))
    }

    /// Where a stream begins, wherever it is known. `None` if there is none.
    pub(crate) fn birth_position(&self, id: &StreamId) -> Result<Option<u64>, ReadError> {
        let resident = self.directory()?.stream(id).and_then(|head| head.birth);
        if let Some(position) = resident.map(|birth| birth.position).or_else(|| self.births.get(id)) {
            return Ok(Some(position));
        }
        let catalog = self.catalog();
        let first = self.oldest(&catalog, id)?;
        first.into_iter().for_each(|position| self.births.put(*id, position));
        Ok(first)
    }

    /// The first event of a stream, if it is in the index.
    fn oldest(&self, catalog: &Catalog, id: &StreamId) -> Result<Option<u64>, ReadError> {
        self.index.oldest(catalog, self.index.key(&Term::Stream(*id)), |position| Ok(is_of(&catalog.frame(position)?, id)))
    }

    /// Position of the event with this id, wherever it is known.
    pub(crate) fn position_of(&self, id: &EventId) -> Result<Option<u64>, ReadError> {
        let resident = self.directory()?.position_of(id);
        resident.map_or_else(|| Cold::position(self, id), |position| Ok(Some(position)))
    }

    /// Whether an event below a bound has this id.
    pub(crate) fn has_id_below(&self, id: &EventId, below: u64) -> Result<bool, ReadError> {
        let resident = self.directory()?.position_of(id);
        Ok(resident.is_some_and(|position| position < below) || self.indexed_id_below(id, below)?.is_some())
    }

    /// The newest event with this id below a bound, of those that are in the index.
    fn indexed_id_below(&self, id: &EventId, below: u64) -> Result<Option<u64>, ReadError> {
        let catalog = self.catalog();
        let found = self.index.newest_below(&catalog, self.index.key(&Term::Id(*id)), below, |found| {
            let frame = catalog.frame_found(found)?;
            Ok(frame.is_event() && frame.event_id() == *id)
        })?;
        Ok(found.map(|(position, _)| position))
    }

    /// Everything below is in the index.
    pub(crate) fn indexed_to(&self) -> u64 {
        self.indexed_to.load(Ordering::Acquire)
    }

    /// Asks the index for what the directory does not have of a request.
    fn look_up(&self, events: &mut [PreparedEvent], required: &mut [Required]) -> Result<Checked, ReadError> {
        // Both before anything is looked at: whatever goes from memory into the index later is looked up by the leader.
        let checked = Checked { oblivion: self.oblivion.load(Ordering::Acquire), ids_to: self.indexed_to() };
        if checked.ids_to == 0 {
            return Ok(checked);
        }
        self.look_up_ids(events)?;
        if checked.oblivion > 0 {
            for event in events {
                event.cold = self.look_up_stream(&event.stream)?;
            }
            for required in required {
                required.cold = self.look_up_stream(&required.stream)?;
            }
        }
        Ok(checked)
    }

    fn look_up_ids(&self, events: &mut [PreparedEvent]) -> Result<(), ReadError> {
        let asked: Vec<usize> = (0..events.len()).filter(|&place| !events[place].is_id_drawn).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let catalog = self.catalog();
        let keys: Vec<u64> = asked.iter().map(|&place| self.index.key(&Term::Id(events[place].event_id))).collect();
        self.index.each(&catalog, &keys, |place, position| {
            let event = &mut events[asked[place]];
            if catalog.frame(position)?.event_id() == event.event_id {
                event.known_at = position;
            }
            Ok(())
        })
    }

    fn look_up_stream(&self, stream: &StreamKey) -> Result<Option<Box<StreamHead>>, ReadError> {
        let resident = read(&self.directory).stream(&stream.id);
        match resident {
            Some(StreamHead { birth: Some(_), .. }) => Ok(None),
            Some(head) => Ok(Some(Box::new(StreamHead { birth: self.birth(&stream.id)?, ..head }))),
            None => Ok(self.head(&stream.id)?.map(Box::new)),
        }
    }
}

impl Cold for Shared {
    fn head(&self, id: &StreamId) -> Result<Option<StreamHead>, ReadError> {
        let Some(found) = self.indexed_below(id, u64::MAX)? else { return Ok(None) };
        let (position, catalog) = (found.0, self.catalog());
        let frame = catalog.frame_found(found)?;
        let head = StreamHead { version: frame.header.version.get(), position, link: frame.link(), birth: self.birth(id)? };
        Ok(Some(head))
    }

    fn birth(&self, id: &StreamId) -> Result<Option<Birth>, ReadError> {
        let catalog = self.catalog();
        let first = self.oldest(&catalog, id)?;
        let birth = |position| {
            let name = catalog.frame(position)?.name().ok_or_else(|| {
                catalog.damaged(position, chainring_format::Violation { rule: "F4", why: "the stream has no first event with its name" })
            })?;
            Ok(Birth { position, name_rest: name_rest(name) })
        };
        first.map(birth).transpose()
    }

    fn position(&self, id: &EventId) -> Result<Option<u64>, ReadError> {
        self.indexed_id_below(id, u64::MAX)
    }
}

impl Sequencer {
    /// What a request needs to know from the index before it is published.
    pub(super) fn look_up(&self, events: &mut [PreparedEvent], required: &mut [Required]) -> Result<Checked, ReadError> {
        self.shared().look_up(events, required)
    }
}
