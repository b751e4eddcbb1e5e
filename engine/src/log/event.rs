//! An event as a caller makes it, checked and encoded.

use chainring_format::EventId;
use chainring_format::commit::TRAILER_BYTES;
use chainring_format::frame::frame_bytes;
use chainring_format::limits::{BATCH_BYTES_MAX, METADATA_BYTES_MAX, STREAM_NAME_BYTES_MAX};
use chainring_format::metadata::{Metadata, Timestamp};

use crate::condition::Expected;
use crate::error::AppendError;
use crate::sequencer::{Grounds, PreparedEvent, StreamKey, is_engines};

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

    /// Checks, and encodes its metadata behind what is in `out`, which holds more or less of it after an error. Id and salt are placeholders where they
    /// are to be drawn, and what depends on them is not there yet.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<PreparedEvent, AppendError> {
        check_name(&self.stream)?;
        if self.id == Some(EventId::default()) {
            return Err(invalid("an event id of zeros means that there is none".into()));
        }
        let before = out.len();
        self.metadata.encode_checked_into(out).map_err(|violation| invalid(format!("metadata: {violation}")))?;
        let metadata_bytes = out.len() - before;
        if metadata_bytes > METADATA_BYTES_MAX {
            return Err(invalid(format!("metadata of {metadata_bytes} bytes is longer than {METADATA_BYTES_MAX}")));
        }
        if frame_bytes(self.stream.len(), metadata_bytes, self.body.len(), self.salted) + TRAILER_BYTES as u64 > BATCH_BYTES_MAX {
            return Err(invalid(format!("a body of {} bytes is too long", self.body.len())));
        }
        Ok(PreparedEvent {
            stream: StreamKey::of(&self.stream),
            event_id: self.id.unwrap_or_default(),
            is_id_drawn: self.id.is_none(),
            expected: self.expected,
            is_engines: is_engines(&self.stream),
            grounds: Grounds::default(),
            salt: self.salted.then_some([0; 16]),
            slot_crc: 0,
            digest: None,
            known_at: 0,
            cold: None,
            name_bytes: self.stream.len() as u16,
            metadata_bytes: metadata_bytes as u32,
            body_bytes: self.body.len() as u32,
        })
    }
}

pub(super) fn invalid(why: String) -> AppendError {
    AppendError::Invalid { why }
}

pub(super) fn check_name(name: &str) -> Result<(), AppendError> {
    if name.is_empty() || name.len() > STREAM_NAME_BYTES_MAX {
        return Err(invalid(format!("a stream name has 1 to {STREAM_NAME_BYTES_MAX} bytes, not {}", name.len())));
    }
    Ok(())
}
