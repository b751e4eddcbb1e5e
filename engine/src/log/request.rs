//! What a caller appends, and how it is finished in the caller's own thread: checked, encoded, salted, hashed.

use std::collections::HashSet;

use chainring_format::commit::TRAILER_BYTES;
use chainring_format::frame::{frame_bytes, slot_crc};
use chainring_format::hash::{self, EventContent};
use chainring_format::limits::{BATCH_BYTES_MAX, METADATA_BYTES_MAX, STREAM_NAME_BYTES_MAX};
use chainring_format::metadata::{Metadata, Timestamp};
use chainring_format::{EventId, StreamId};

use crate::condition::{Durability, Expected};
use crate::error::AppendError;
use crate::sequencer::{PreparedEvent, PreparedRequest, Target};

/// An event to append. Fields that the methods below do not set can be set directly.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// Stream to append to, 1..=512 bytes.
    pub stream: String,
    /// The caller's id; an append with the same id and content is done once, for ever. `None` draws one.
    pub id: Option<EventId>,
    /// What must hold of the stream; inside a batch, with the batch's earlier events counted in.
    pub expected: Expected,
    /// Type, actor, reads, authority and the rest.
    pub metadata: Metadata,
    /// Content, up to 1 GiB.
    pub body: Vec<u8>,
    /// Stored with a random salt, so that the body can be erased for good later. Can never be undone if `false`.
    pub salted: bool,
}

impl Event {
    /// An event of this type for this stream, with nothing else.
    #[must_use]
    pub fn new(stream: impl Into<String>, event_type: impl Into<String>) -> Event {
        Event::with_metadata(stream, Metadata::new(event_type))
    }

    /// An event with this metadata for this stream.
    #[must_use]
    pub fn with_metadata(stream: impl Into<String>, metadata: Metadata) -> Event {
        Event { stream: stream.into(), id: None, expected: Expected::Any, metadata, body: Vec::new(), salted: true }
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: EventId) -> Event {
        self.id = Some(id);
        self
    }

    /// Sets what must hold of the stream.
    #[must_use]
    pub fn expected(mut self, expected: Expected) -> Event {
        self.expected = expected;
        self
    }

    /// Sets the content.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Event {
        self.body = body.into();
        self
    }

    /// Sets who acted.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Event {
        self.metadata.actor = Some(actor.into());
        self
    }

    /// Sets for whom.
    #[must_use]
    pub fn on_behalf_of(mut self, whom: impl Into<String>) -> Event {
        self.metadata.on_behalf_of = Some(whom.into());
        self
    }

    /// Sets the run, commit or conversation.
    #[must_use]
    pub fn correlation(mut self, correlation: impl Into<String>) -> Event {
        self.metadata.correlation = Some(correlation.into());
        self
    }

    /// Sets the event that caused this one.
    #[must_use]
    pub fn caused_by(mut self, cause: EventId) -> Event {
        self.metadata.causation = Some(cause);
        self
    }

    /// Sets the claimed time.
    #[must_use]
    pub fn occurred_at(mut self, time: Timestamp) -> Event {
        self.metadata.occurred_at = Some(time);
        self
    }

    fn prepare(self, seed: &[u8; 32], id: EventId, batch: (EventId, u32, u32)) -> Result<PreparedEvent, AppendError> {
        let invalid = |why: String| AppendError::Invalid { why };
        let stream = target(self.stream)?;
        if id == EventId::default() {
            return Err(invalid("an event id of zeros means that there is none".into()));
        }
        let metadata = self.metadata.encode_checked().map_err(|violation| invalid(format!("metadata: {violation}")))?;
        if metadata.len() > METADATA_BYTES_MAX {
            return Err(invalid(format!("metadata of {} bytes is longer than {METADATA_BYTES_MAX}", metadata.len())));
        }
        if frame_bytes(stream.name.len(), metadata.len(), self.body.len(), self.salted) + TRAILER_BYTES as u64 > BATCH_BYTES_MAX {
            return Err(invalid(format!("a body of {} bytes is too long", self.body.len())));
        }
        // From the randomness of this open and the id, which is unique: as good as drawn, and the same for whoever replays the same open.
        let salt = self
            .salted
            .then(|| *blake3::keyed_hash(seed, &[&b"body salt"[..], &id.0].concat()).as_bytes().first_chunk().expect("32 bytes"));
        let body_commit = hash::body_commit(&salt.unwrap_or([0; 16]), &self.body);
        let (batch_id, batch_index, batch_count) = batch;
        let content = EventContent {
            stream_id: stream.id,
            event_id: id,
            batch_id,
            batch_index,
            batch_count,
            body_commit: &body_commit,
            metadata: &metadata,
        };
        let digest = hash::event_digest(&content);
        let slot_crc = slot_crc(&self.body, salt.as_ref());
        Ok(PreparedEvent { stream, event_id: id, expected: self.expected, metadata, body: self.body, salt, digest, slot_crc })
    }
}

fn target(name: String) -> Result<Target, AppendError> {
    if name.is_empty() || name.len() > STREAM_NAME_BYTES_MAX {
        return Err(AppendError::Invalid { why: format!("a stream name has 1 to {STREAM_NAME_BYTES_MAX} bytes, not {}", name.len()) });
    }
    let full = hash::stream_name_hash(&name);
    let (id, name_rest) = (StreamId(*full.first_chunk().expect("32 bytes")), *full.last_chunk().expect("32 bytes"));
    Ok(Target { name, id, name_rest })
}

/// One atomic append: an event, or a batch over any streams that happens whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    events: Vec<Event>,
    batch: bool,
    required: Vec<(String, Expected)>,
    durability: Durability,
}

impl From<Event> for Request {
    fn from(event: Event) -> Request {
        Request { events: vec![event], batch: false, required: Vec::new(), durability: Durability::Durable }
    }
}

impl From<Vec<Event>> for Request {
    fn from(events: Vec<Event>) -> Request {
        Request { events, batch: true, required: Vec::new(), durability: Durability::Durable }
    }
}

impl Request {
    /// A single event.
    #[must_use]
    pub fn event(event: Event) -> Request {
        event.into()
    }

    /// A batch. Its id is that of its first event; a batch of one is not the same as an event alone.
    #[must_use]
    pub fn batch(events: Vec<Event>) -> Request {
        events.into()
    }

    /// Also requires something of a stream that is only read.
    #[must_use]
    pub fn require(mut self, stream: impl Into<String>, expected: Expected) -> Request {
        self.required.push((stream.into(), expected));
        self
    }

    /// Sets what must have happened when the append returns.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Request {
        self.durability = durability;
        self
    }

    /// Everything that can be done before the request's turn comes.
    pub(super) fn prepare(self, seed: &[u8; 32], mut draw_id: impl FnMut() -> EventId) -> Result<PreparedRequest, AppendError> {
        let ids: Vec<EventId> = self.events.iter().map(|event| event.id.unwrap_or_else(&mut draw_id)).collect();
        let (Some(&first), Ok(count)) = (ids.first(), u32::try_from(ids.len())) else {
            return Err(AppendError::Invalid { why: "a batch has at least one event".into() });
        };
        if count > 1 {
            let mut seen = HashSet::with_capacity(ids.len());
            if let Some(twice) = ids.iter().find(|id| !seen.insert(**id)) {
                return Err(AppendError::Invalid { why: format!("event id {twice} occurs twice in one batch") });
            }
        }
        let (batch_id, batch_count) = if self.batch { (first, count) } else { (EventId::default(), 0) };
        let numbered = self.events.into_iter().zip(ids).zip(0..);
        let events =
            numbered.map(|((event, id), index)| event.prepare(seed, id, (batch_id, index, batch_count))).collect::<Result<_, _>>()?;
        let required =
            self.required.into_iter().map(|(name, expected)| Ok((target(name)?, expected))).collect::<Result<_, AppendError>>()?;
        let request = PreparedRequest { events, batch: self.batch, required, durability: self.durability };
        if request.frames_bytes_max() + TRAILER_BYTES as u64 > BATCH_BYTES_MAX {
            return Err(AppendError::Invalid { why: format!("the batch takes more than {BATCH_BYTES_MAX} bytes") });
        }
        Ok(request)
    }
}
