//! What travels down to the sequencer, and what comes back.

use std::ops::Deref;

use chainring_format::frame::{frame_bytes, slot_crc};
use chainring_format::hash::{EventContent, Hash};
use chainring_format::lanes::{LaneBody, LaneEvent};
use chainring_format::{EventId, Link, Position, StreamId, Version};

use super::brakes::Grounds;
use super::heads::StreamHead;
use super::statement::StatementDraft;
use crate::condition::{Durability, Expected};
use crate::error::AppendError;

/// A stream's identity: the two halves of its name's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamKey {
    pub id: StreamId,
    /// Tells two names with one id apart.
    pub name_rest: [u8; 16],
}

impl StreamKey {
    pub(crate) fn of(name: &str) -> StreamKey {
        let full = chainring_format::hash::stream_name_hash(name);
        StreamKey { id: StreamId(*full.first_chunk().expect("32 bytes")), name_rest: *full.last_chunk().expect("32 bytes") }
    }
}

/// An event as its caller finished it, without its bytes. The sequencer adds position, version, time and link.
#[derive(Debug, Clone)]
pub(crate) struct PreparedEvent {
    pub stream: StreamKey,
    pub event_id: EventId,
    /// The id is new: this open of the log has just drawn it.
    pub is_id_drawn: bool,
    pub expected: Expected,
    /// The stream belongs to the engine and its conventions.
    pub is_engines: bool,
    /// What it was found to rest on.
    pub grounds: Grounds,
    pub salt: Option<[u8; 16]>,
    /// Checksum of the body's slot, not yet bound to a place.
    pub slot_crc: u32,
    /// `None` if the leader is to compute it, side by side with those of other callers.
    pub digest: Option<Hash>,
    /// Where the index has an event with this id; 0, where none is, if it has not, or was not asked.
    pub known_at: u64,
    /// What the index knows of the stream, if it had to be asked.
    pub cold: Option<Box<StreamHead>>,
    pub name_bytes: u16,
    pub metadata_bytes: u32,
    pub body_bytes: u32,
}

/// The bytes of one event, wherever they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    /// The stream's name, which is text.
    pub name: &'a [u8],
    pub metadata: &'a [u8],
    pub body: &'a [u8],
}

impl<'a> Content<'a> {
    pub(crate) fn name(&self) -> &'a str {
        std::str::from_utf8(self.name).expect("callers hand in names as text")
    }
}

impl PreparedEvent {
    /// Whose event it is, and which.
    pub(crate) fn ids(&self) -> (&StreamId, &EventId) {
        (&self.stream.id, &self.event_id)
    }

    /// Takes the id and the salt that were drawn for it, as far as it lacks them, and what depends on them.
    pub(crate) fn take_drawn(&mut self, (id, salt): (EventId, [u8; 16]), body: &[u8]) {
        self.event_id = id;
        self.salt = self.salt.map(|_| salt);
        self.slot_crc = slot_crc(body, self.salt.as_ref());
    }

    /// Bytes of name, metadata and body, which lie one behind the other.
    pub(crate) fn content_bytes(&self) -> usize {
        usize::from(self.name_bytes) + self.metadata_bytes as usize + self.body_bytes as usize
    }

    /// Name, metadata and body out of `bytes`, which begin with them.
    pub(crate) fn content<'a>(&self, bytes: &'a [u8]) -> Content<'a> {
        let (name, rest) = bytes.split_at(self.name_bytes.into());
        let (metadata, rest) = rest.split_at(self.metadata_bytes as usize);
        Content { name, metadata, body: &rest[..self.body_bytes as usize] }
    }

    /// What its digest is made of; id, index and count of the batch are zero for an event alone.
    pub(crate) fn lane_event<'a>(&self, content: Content<'a>, batch_id: EventId, batch_index: u32, batch_count: u32) -> LaneEvent<'a> {
        LaneEvent {
            content: EventContent {
                stream_id: self.stream.id,
                event_id: self.event_id,
                batch_id,
                batch_index,
                batch_count,
                body_commit: &[0; 32],
                metadata: content.metadata,
            },
            body: LaneBody::Bytes { salt: self.salt.unwrap_or_default(), body: content.body },
        }
    }

    /// The most that its frame can take: as if it were its stream's first.
    pub(crate) fn frame_bytes_max(&self) -> u64 {
        frame_bytes(self.name_bytes.into(), self.metadata_bytes as usize, self.body_bytes as usize, self.salt.is_some())
    }
}

/// A stream that is only read, and what must hold of it.
#[derive(Debug, Clone)]
pub(crate) struct Required {
    pub stream: StreamKey,
    pub name: String,
    pub expected: Expected,
    /// As in [`PreparedEvent`].
    pub cold: Option<Box<StreamHead>>,
}

/// A request with memory of its own: a batch, or what does not fit into a ring.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parcel {
    pub events: Vec<PreparedEvent>,
    /// Names, metadata and bodies of all events, in order.
    pub bytes: Vec<u8>,
    /// Appended as a batch; a batch of one is not the same as an event alone.
    pub batch: bool,
    pub required: Vec<Required>,
    /// The last instant at which it may be recorded.
    pub not_after_ns: Option<u64>,
}

impl Parcel {
    /// The parcel as a request for which the index was asked so far.
    pub(crate) fn view(&self, checked: Checked) -> RequestView<'_> {
        RequestView {
            events: &self.events,
            bytes: &self.bytes,
            batch: self.batch,
            required: &self.required,
            not_after_ns: self.not_after_ns,
            checked,
        }
    }
}

/// How far its caller has asked the index for what a request needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// For ids: of all events below this position.
    pub ids_to: u64,
    /// For streams: of all that were not in the directory when it had forgotten heads this often.
    pub oblivion: u64,
}

/// One atomic append, wherever its bytes are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestView<'a> {
    pub events: &'a [PreparedEvent],
    pub bytes: &'a [u8],
    pub batch: bool,
    pub required: &'a [Required],
    pub not_after_ns: Option<u64>,
    pub checked: Checked,
}

impl<'a> RequestView<'a> {
    /// Every event with its bytes.
    pub(crate) fn contents(self) -> impl Iterator<Item = (&'a PreparedEvent, Content<'a>)> {
        let mut rest = self.bytes;
        self.events.iter().map(move |event| {
            let (own, behind) = rest.split_at(event.content_bytes());
            rest = behind;
            (event, event.content(own))
        })
    }

    /// The most that its frames can take.
    pub(crate) fn frames_bytes_max(self) -> u64 {
        self.events.iter().map(PreparedEvent::frame_bytes_max).sum()
    }

    pub(crate) fn batch_count(self) -> u32 {
        if self.batch { self.events.len() as u32 } else { 0 }
    }

    /// The same request with memory of its own.
    pub(crate) fn to_parcel(self) -> Parcel {
        Parcel {
            events: self.events.to_vec(),
            bytes: self.bytes.to_vec(),
            batch: self.batch,
            required: self.required.to_vec(),
            not_after_ns: self.not_after_ns,
        }
    }
}

/// What a submission carries.
#[derive(Debug)]
pub(crate) enum Load {
    /// One event; its bytes are in the ring.
    Event(PreparedEvent),
    /// Everything else; its bytes were counted beside the rings.
    Parcel(Box<Parcel>),
    /// A record of the engine's own.
    Statement(Box<StatementDraft>),
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

/// Receipts of the events of one append, in order: a slice, which needs no memory of its own for a single event.
#[derive(Debug, Clone)]
pub struct EventReceipts(Receipts);

#[derive(Debug, Clone)]
enum Receipts {
    One(EventReceipt),
    Many(Vec<EventReceipt>),
}

impl From<EventReceipt> for EventReceipts {
    fn from(receipt: EventReceipt) -> EventReceipts {
        EventReceipts(Receipts::One(receipt))
    }
}

impl From<Vec<EventReceipt>> for EventReceipts {
    fn from(receipts: Vec<EventReceipt>) -> EventReceipts {
        EventReceipts(Receipts::Many(receipts))
    }
}

impl Deref for EventReceipts {
    type Target = [EventReceipt];

    fn deref(&self) -> &[EventReceipt] {
        match &self.0 {
            Receipts::One(receipt) => std::slice::from_ref(receipt),
            Receipts::Many(receipts) => receipts,
        }
    }
}

impl PartialEq for EventReceipts {
    fn eq(&self, other: &EventReceipts) -> bool {
        **self == **other
    }
}

impl Eq for EventReceipts {}

impl<'a> IntoIterator for &'a EventReceipts {
    type Item = &'a EventReceipt;
    type IntoIter = std::slice::Iter<'a, EventReceipt>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What an append returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// One entry for every event of the request, in order.
    pub events: EventReceipts,
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
    Known { parcel: Box<Parcel>, durability: Durability, positions: Vec<Option<u64>> },
    /// Not appended: a seal over records that lie too far back by now.
    Stale,
    /// Not appended, or not known.
    Failed(AppendError),
}
