//! What travels down to the sequencer, and what comes back.

use chainring_format::frame::frame_bytes;
use chainring_format::hash::Hash;
use chainring_format::{EventId, Link, Position, StreamId, Version};

use crate::condition::{Durability, Expected};
use crate::error::AppendError;

/// An event as its caller finished it: encoded, salted, hashed. The sequencer adds position, version, time and link.
#[derive(Debug)]
pub(crate) struct PreparedEvent {
    pub stream: Target,
    pub event_id: EventId,
    pub expected: Expected,
    pub metadata: Vec<u8>,
    pub body: Vec<u8>,
    pub salt: Option<[u8; 16]>,
    pub digest: Hash,
    pub slot_crc: u32,
}

/// A stream by name and id.
#[derive(Debug)]
pub(crate) struct Target {
    pub name: String,
    pub id: StreamId,
    pub name_rest: [u8; 16],
}

/// One atomic append.
#[derive(Debug)]
pub(crate) struct PreparedRequest {
    pub events: Vec<PreparedEvent>,
    /// Appended as a batch; a batch of one is not the same as an event alone.
    pub batch: bool,
    /// Streams that are only read, and what must hold of them.
    pub required: Vec<(Target, Expected)>,
    pub durability: Durability,
}

impl PreparedRequest {
    /// The most that its frames can take: as if every event were its stream's first.
    pub(crate) fn frames_bytes_max(&self) -> u64 {
        self.events
            .iter()
            .map(|event| frame_bytes(event.stream.name.len(), event.metadata.len(), event.body.len(), event.salt.is_some()))
            .sum()
    }

    pub(crate) fn batch_count(&self) -> u32 {
        if self.batch { self.events.len() as u32 } else { 0 }
    }
}

/// Where one event of an append stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventReceipt {
    /// Place in the whole log.
    pub position: Position,
    /// Place in its stream.
    pub version: Version,
    /// Its link in the chain.
    pub link: Link,
}

/// What an append returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// One entry for every event of the request, in order.
    pub events: Vec<EventReceipt>,
    /// Writable open of the store that answered.
    pub epoch: u64,
    /// What has happened to the events.
    pub durability: Durability,
    /// The events were in the log before, with the same content; nothing was appended.
    pub duplicate: bool,
}

impl Receipt {
    /// Position of the first event.
    #[must_use]
    pub fn first_position(&self) -> Position {
        self.events[0].position
    }

    /// Position of the last event.
    #[must_use]
    pub fn last_position(&self) -> Position {
        self.events[self.events.len() - 1].position
    }
}

/// The sequencer's answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Appended, at the level that was asked for.
    Appended(Receipt),
    /// Some of these ids are in the log. The sequencer never reads the disk, so the caller compares; ids and events never change, so it has all the
    /// time it needs.
    Known { request: PreparedRequest, positions: Vec<Option<u64>> },
    /// Not appended, or not known.
    Failed(AppendError),
}
