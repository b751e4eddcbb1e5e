//! What a caller appends, and how it is finished in the caller's own thread: checked, encoded, salted, hashed.

use std::cell::RefCell;
use std::collections::HashSet;

use chainring_format::EventId;
use chainring_format::commit::TRAILER_BYTES;
use chainring_format::frame::{frame_bytes, slot_crc};
use chainring_format::hash::Hash;
use chainring_format::lanes::Lanes;
use chainring_format::limits::{BATCH_BYTES_MAX, METADATA_BYTES_MAX, STREAM_NAME_BYTES_MAX};
use chainring_format::metadata::{Metadata, Timestamp};

use crate::condition::{Durability, Expected};
use crate::disk::Clock;
use crate::error::AppendError;
use crate::ring::Slot;
use crate::sequencer::{Answer, Content, Draft, Grounds, Parcel, Patience, PreparedEvent, Required, Sequencer, StreamKey, is_engines};
use crate::sync::{Arc, AtomicU64, Ordering};

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

    /// Checks and encodes: everything but the digest. `metadata` is where its metadata goes, behind what is there.
    fn prepare(&self, (id, salt): (EventId, [u8; 16]), grounds: Grounds, metadata: &mut Vec<u8>) -> Result<PreparedEvent, AppendError> {
        let salt = self.salted.then_some(salt);
        check_name(&self.stream)?;
        if id == EventId::default() {
            return Err(invalid("an event id of zeros means that there is none".into()));
        }
        let before = metadata.len();
        self.metadata.encode_checked_into(metadata).map_err(|violation| invalid(format!("metadata: {violation}")))?;
        let metadata_bytes = metadata.len() - before;
        if metadata_bytes > METADATA_BYTES_MAX {
            return Err(invalid(format!("metadata of {metadata_bytes} bytes is longer than {METADATA_BYTES_MAX}")));
        }
        if frame_bytes(self.stream.len(), metadata_bytes, self.body.len(), self.salted) + TRAILER_BYTES as u64 > BATCH_BYTES_MAX {
            return Err(invalid(format!("a body of {} bytes is too long", self.body.len())));
        }
        Ok(PreparedEvent {
            stream: StreamKey::of(&self.stream),
            event_id: id,
            is_id_drawn: self.id.is_none(),
            expected: self.expected,
            is_engines: is_engines(&self.stream),
            grounds,
            salt,
            slot_crc: slot_crc(&self.body, salt.as_ref()),
            digest: None,
            known_at: 0,
            cold: None,
            name_bytes: self.stream.len() as u16,
            metadata_bytes: metadata_bytes as u32,
            body_bytes: self.body.len() as u32,
        })
    }
}

fn invalid(why: String) -> AppendError {
    AppendError::Invalid { why }
}

fn check_name(name: &str) -> Result<(), AppendError> {
    if name.is_empty() || name.len() > STREAM_NAME_BYTES_MAX {
        return Err(invalid(format!("a stream name has 1 to {STREAM_NAME_BYTES_MAX} bytes, not {}", name.len())));
    }
    Ok(())
}

/// Bodies longer than this are hashed by their caller: side by side with others they gain nothing, and the leader has no time for them.
const LEADER_HASH_BYTES_MAX: usize = 1024;

/// One atomic append: an event, or a batch over any streams that happens whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    events: Vec<Event>,
    batch: bool,
    required: Vec<(String, Expected)>,
    not_after_ns: Option<u64>,
    grounds: Grounds,
    durability: Durability,
}

impl From<Event> for Request {
    fn from(event: Event) -> Request {
        Request { events: vec![event], batch: false, ..Request::batch(Vec::new()) }
    }
}

impl From<Vec<Event>> for Request {
    fn from(events: Vec<Event>) -> Request {
        let (required, grounds, durability) = (Vec::new(), Grounds::default(), Durability::Durable);
        Request { events, batch: true, required, not_after_ns: None, grounds, durability }
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

    /// It may be recorded up to this instant, in nanoseconds since 1970 by the engine's clock, and not later: what it was decided on holds no longer.
    #[must_use]
    pub fn not_after(mut self, instant_ns: u64) -> Request {
        self.not_after_ns = Some(self.not_after_ns.map_or(instant_ns, |before| before.min(instant_ns)));
        self
    }

    /// What its events say they rest on - an authority, reads, a run - counts as if it had been judged here: for events that come from elsewhere, where it
    /// was. Stops hold; so does what requires an actor.
    #[must_use]
    pub fn taken_at_its_word(self) -> Request {
        self.resting_on(Grounds::Claimed)
    }

    /// Says what it was found to rest on.
    pub(crate) fn resting_on(mut self, grounds: Grounds) -> Request {
        self.grounds = grounds;
        self
    }

    /// Sets what must have happened when the append returns.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Request {
        self.durability = durability;
        self
    }

    /// Does everything that can be done before the request's turn comes, in this thread, and hands it in.
    pub(super) fn publish(
        mut self,
        sequencer: &Sequencer,
        draws: &Draws,
        patience: Patience,
        clock: &dyn Clock,
    ) -> Result<Arc<Slot<Answer>>, AppendError> {
        SCRATCH.with_borrow_mut(|scratch| {
            if !self.batch && self.required.is_empty() && self.not_after_ns.is_none() && self.events.len() == 1 {
                let event = self.events.pop().expect("there is one");
                let Scratch { metadata, lanes, .. } = scratch;
                metadata.clear();
                let mut prepared = event.prepare(draws.one(event.id), self.grounds, metadata)?;
                let content = Content { name: event.stream.as_bytes(), metadata, body: &event.body };
                if content.body.len() > LEADER_HASH_BYTES_MAX || metadata.len() > LEADER_HASH_BYTES_MAX {
                    let mut digests = Vec::with_capacity(1);
                    lanes.event_digests(&[prepared.lane_event(content, EventId::default(), 0, 0)], &mut digests);
                    prepared.digest = digests.pop();
                }
                return sequencer.publish_event(Draft { event: prepared, content }, self.durability, patience, clock);
            }
            let durability = self.durability;
            let mut parcel = sequencer.parcel();
            self.fill(&mut parcel, draws, scratch)?;
            sequencer.publish_parcel(parcel, durability, patience, clock)
        })
    }

    /// Puts everything into memory of its own, hashed. `parcel` is empty.
    fn fill(self, parcel: &mut Parcel, draws: &Draws, scratch: &mut Scratch) -> Result<(), AppendError> {
        let Scratch { metadata, lanes, drawn, digests } = scratch;
        drawn.clear();
        draws.many(self.events.iter().map(|event| event.id), lanes, drawn);
        let (Some(&(first, _)), Ok(count)) = (drawn.first(), u32::try_from(drawn.len())) else {
            return Err(invalid("a batch has at least one event".into()));
        };
        if count > 1 && self.events.iter().any(|event| event.id.is_some()) {
            // Drawn ids are unique.
            let mut seen = HashSet::with_capacity(drawn.len());
            if let Some((twice, _)) = drawn.iter().find(|(id, _)| !seen.insert(*id)) {
                return Err(invalid(format!("event id {twice} occurs twice in one batch")));
            }
        }
        (parcel.batch, parcel.not_after_ns) = (self.batch, self.not_after_ns);
        parcel.events.reserve(drawn.len());
        parcel.bytes.reserve(self.events.iter().map(|event| event.stream.len() + event.body.len() + METADATA_BYTES_USUAL).sum());
        let mut frames_bytes = 0;
        for (event, drawn) in self.events.iter().zip(&*drawn) {
            metadata.clear();
            let prepared = event.prepare(*drawn, self.grounds, metadata)?;
            frames_bytes += prepared.frame_bytes_max();
            if frames_bytes + TRAILER_BYTES as u64 > BATCH_BYTES_MAX {
                return Err(invalid(format!("the batch takes more than {BATCH_BYTES_MAX} bytes")));
            }
            for part in [event.stream.as_bytes(), metadata, &event.body] {
                parcel.bytes.extend_from_slice(part);
            }
            parcel.events.push(prepared);
        }
        let (batch_id, batch_count) = if self.batch { (first, count) } else { (EventId::default(), 0) };
        digests.clear();
        {
            let contents = (parcel.view(0).contents().zip(0..))
                .map(|((event, content), index)| event.lane_event(content, batch_id, if self.batch { index } else { 0 }, batch_count));
            // A few at a time, in the cache.
            let mut contents = contents.peekable();
            let mut group = Vec::with_capacity(GROUP_EVENTS);
            while contents.peek().is_some() {
                group.clear();
                group.extend(contents.by_ref().take(GROUP_EVENTS));
                lanes.event_digests(&group, digests);
            }
        }
        for (event, digest) in parcel.events.iter_mut().zip(&*digests) {
            event.digest = Some(*digest);
        }
        for (name, expected) in self.required {
            check_name(&name)?;
            parcel.required.push(Required { stream: StreamKey::of(&name), name, expected, cold: None });
        }
        Ok(())
    }
}

/// Events that are hashed together.
const GROUP_EVENTS: usize = 64;
/// What metadata mostly fits into.
const METADATA_BYTES_USUAL: usize = 128;

/// Memory of a thread that appends, kept for its next request.
#[derive(Debug, Default)]
struct Scratch {
    metadata: Vec<u8>,
    lanes: Lanes,
    drawn: Vec<(EventId, [u8; 16])>,
    digests: Vec<Hash>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Draws event ids and salts, from the randomness of one open.
#[derive(Debug)]
pub(super) struct Draws {
    seed: [u8; 32],
    /// Ids drawn so far.
    count: AtomicU64,
}

impl Draws {
    pub(super) fn new(seed: [u8; 32]) -> Draws {
        Draws { seed, count: AtomicU64::new(0) }
    }

    /// What is hashed, under the seed, to the salt of an event with this id, or to id and salt of the next one without.
    fn block(&self, id: Option<EventId>) -> [u8; 64] {
        let mut block = [0; 64];
        match id {
            // From the id, which is unique: as good as drawn, and the same for whoever replays the same open.
            Some(id) => {
                block[..9].copy_from_slice(b"body salt");
                block[16..32].copy_from_slice(&id.0);
            }
            None => {
                block[..8].copy_from_slice(b"event id");
                // Relaxed: only uniqueness matters.
                block[16..24].copy_from_slice(&self.count.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            }
        }
        block
    }

    /// The id and salt that a hash gives. Two halves of one hash tell nothing of each other.
    fn of(id: Option<EventId>, hash: &Hash) -> (EventId, [u8; 16]) {
        let (first, second) = (*hash.first_chunk().expect("32 bytes"), *hash.last_chunk().expect("32 bytes"));
        match id {
            Some(id) => (id, first),
            None => {
                // UUID version 4.
                let mut id: [u8; 16] = first;
                id[6] = id[6] & 0x0F | 0x40;
                id[8] = id[8] & 0x3F | 0x80;
                (EventId(id), second)
            }
        }
    }

    fn one(&self, id: Option<EventId>) -> (EventId, [u8; 16]) {
        Draws::of(id, blake3::keyed_hash(&self.seed, &self.block(id)).as_bytes())
    }

    fn many(&self, ids: impl Iterator<Item = Option<EventId>>, lanes: &mut Lanes, drawn: &mut Vec<(EventId, [u8; 16])>) {
        let mut ids = ids.peekable();
        let (mut group, mut blocks, mut hashes) =
            (Vec::with_capacity(GROUP_EVENTS), Vec::with_capacity(GROUP_EVENTS), Vec::with_capacity(GROUP_EVENTS));
        while ids.peek().is_some() {
            group.clear();
            group.extend(ids.by_ref().take(GROUP_EVENTS));
            blocks.clear();
            blocks.extend(group.iter().map(|id| self.block(*id)));
            hashes.clear();
            lanes.keyed_blocks(&self.seed, &blocks, &mut hashes);
            drawn.extend(group.iter().zip(&hashes).map(|(id, hash)| Draws::of(*id, hash)));
        }
    }
}
