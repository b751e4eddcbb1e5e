//! Puts records into a store being built: the genesis record, lone events, batches.

use chainring_format::frame::{self, FrameFields, GenesisBody, KIND_EVENT, KIND_GENESIS, back_distance, slot_crc};
use chainring_format::hash::{self, EventContent, Hash, Leaf, LeafFields};
use chainring_format::limits::{BUCKET_COUNT, ENGINE_LANE};
use chainring_format::metadata::Metadata;
use chainring_format::record::{AnchorHead, KIND_ANCHOR, KIND_KEY, KIND_SEAL, KeyBody, SealBody};
use chainring_format::{EventId, Link, SUITE, StreamId};
use zerocopy::{FromZeros, IntoBytes};

use super::painted_array;
use super::store::{Head, Place, Store, TIME_NS};

/// Nanoseconds between two records.
pub(crate) const TICK_NS: u64 = 1_000_000;

/// What a caller appends.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) stream: String,
    pub(crate) metadata: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) salted: bool,
}

/// A salted event with minimal metadata.
pub(crate) fn event(stream: &str, body: impl Into<Vec<u8>>) -> Event {
    Event { stream: stream.to_owned(), metadata: Metadata::new("Noted").encode(), body: body.into(), salted: true }
}

/// The same without a salt.
pub(crate) fn unsalted(stream: &str, body: impl Into<Vec<u8>>) -> Event {
    Event { salted: false, ..event(stream, body) }
}

/// Id of the event at this position: the word "event", zeros, the position in big-endian.
pub(crate) fn event_id(position: u64) -> EventId {
    let mut id = [0; 16];
    id[..5].copy_from_slice(b"event");
    id[8..].copy_from_slice(&position.to_be_bytes());
    EventId(id)
}

/// Everything that goes into one frame, before hashes and checksums are made of it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) kind: u8,
    pub(crate) version: u64,
    pub(crate) recorded_at_ns: u64,
    pub(crate) bucket_back: u32,
    pub(crate) stream_back: u32,
    pub(crate) batch_index: u32,
    pub(crate) batch_count: u32,
    pub(crate) batch_id: EventId,
    pub(crate) stream_id: StreamId,
    pub(crate) event_id: EventId,
    pub(crate) name: String,
    pub(crate) metadata: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) salt: Option<[u8; 16]>,
    pub(crate) prev_bucket: Hash,
    pub(crate) prev_stream: Hash,
    /// Stored instead of the right link.
    pub(crate) link: Option<Link>,
}

impl Draft {
    /// Digest and leaf of the record.
    pub(crate) fn leaf(&self) -> (Hash, Leaf) {
        let digest = hash::event_digest(&EventContent {
            stream_id: self.stream_id,
            event_id: self.event_id,
            batch_id: self.batch_id,
            batch_index: self.batch_index,
            batch_count: self.batch_count,
            body_commit: &hash::body_commit(&self.salt.unwrap_or_default(), &self.body),
            metadata: &self.metadata,
        });
        let leaf = Leaf::new(&LeafFields {
            kind: self.kind,
            bucket: self.bucket(),
            version: self.version,
            recorded_at_ns: self.recorded_at_ns,
            digest: &digest,
            prev_bucket: &self.prev_bucket,
            prev_stream: &self.prev_stream,
        });
        (digest, leaf)
    }

    fn bucket(&self) -> u16 {
        if self.kind == KIND_EVENT { self.stream_id.bucket() } else { ENGINE_LANE }
    }
}

/// Parts of the genesis record that a lie may change.
pub(crate) struct Genesis {
    pub(crate) body: GenesisBody,
    pub(crate) origin: Vec<u8>,
    /// Cuts the body after that many bytes.
    pub(crate) body_bytes: Option<usize>,
    pub(crate) draft: Draft,
}

impl Store {
    /// A store whose genesis record carries a lie.
    pub(crate) fn with_genesis(name: &str, block_bytes: u32, lie: impl FnOnce(&mut Genesis)) -> Store {
        Store::with_genesis_behind(0, name, block_bytes, lie)
    }

    /// The same behind so many commits without frames.
    pub(crate) fn with_genesis_behind(commits: usize, name: &str, block_bytes: u32, lie: impl FnOnce(&mut Genesis)) -> Store {
        let mut store = Store::empty(name);
        let mut body = GenesisBody::new_zeroed();
        body.nonce = store.derived("nonce");
        body.created_at_ns = TIME_NS.into();
        body.bucket_count = u32::from(BUCKET_COUNT).into();
        body.suite = u16::from(SUITE).into();
        body.origin_bytes = (name.len() as u16).into();
        let mut genesis = Genesis { body, origin: name.as_bytes().to_vec(), body_bytes: None, draft: genesis_draft() };
        lie(&mut genesis);
        let Genesis { body, origin, body_bytes, mut draft } = genesis;
        draft.body = [body.as_bytes(), &origin].concat();
        draft.body.truncate(body_bytes.unwrap_or(usize::MAX));
        store.log_id = draft.leaf().1.link().0;
        store.next_segment(block_bytes);
        (0..commits).for_each(|_| store.commit_with(|trailer| trailer.time_ns = 0.into()));
        store.place(&draft);
        store.commit();
        store
    }

    /// Appends an event to the commit being built.
    pub(crate) fn event(&mut self, event: &Event) {
        self.event_with(event, |_| {});
    }

    /// Appends an event with a lie in it.
    pub(crate) fn event_with(&mut self, event: &Event, lie: impl FnOnce(&mut Draft)) {
        let mut draft = self.draft(event);
        lie(&mut draft);
        self.place(&draft);
    }

    /// Appends events as one batch.
    pub(crate) fn batch(&mut self, events: &[Event]) {
        self.batch_with(events, |_| {});
    }

    /// Appends a batch with a lie in its frames.
    pub(crate) fn batch_with(&mut self, events: &[Event], mut lie: impl FnMut(&mut Draft)) {
        let batch_id = event_id(self.next_position());
        for (index, event) in events.iter().enumerate() {
            self.event_with(event, |draft| {
                draft.batch_index = index as u32;
                draft.batch_count = events.len() as u32;
                draft.batch_id = batch_id;
                lie(draft);
            });
        }
    }

    /// An event in a commit of its own.
    pub(crate) fn lone(&mut self, one: &Event) {
        self.event(one);
        self.commit();
    }

    /// The frame that this event would become.
    pub(crate) fn draft(&mut self, event: &Event) -> Draft {
        let (position, stream_id) = (self.next_position(), hash::stream_id(&event.stream));
        let stream = self.streams.get(&stream_id).copied();
        let lane = self.lanes.get(&stream_id.bucket()).copied();
        self.time_ns += TICK_NS;
        let salt = *self.derived(&format!("salt of position {position}")).first_chunk().expect("16 of 32 bytes");
        Draft {
            kind: KIND_EVENT,
            version: stream.map_or(0, |head| head.count) + 1,
            recorded_at_ns: self.time_ns,
            bucket_back: back_distance(position, lane.map(|head| head.position)),
            stream_back: back_distance(position, stream.map(|head| head.position)),
            batch_index: 0,
            batch_count: 0,
            batch_id: EventId::default(),
            stream_id,
            event_id: event_id(position),
            name: if stream.is_none() { event.stream.clone() } else { String::new() },
            metadata: event.metadata.clone(),
            body: event.body.clone(),
            salt: event.salted.then_some(salt),
            prev_bucket: lane.map_or(self.log_id, |head| head.link),
            prev_stream: stream.map_or_else(|| hash::name_commit(&Link(self.log_id), &event.stream), |head| head.link),
            link: None,
        }
    }

    /// Writes the frame of a draft and moves the heads.
    pub(crate) fn place(&mut self, draft: &Draft) {
        let link = draft.link.unwrap_or_else(|| draft.leaf().1.link());
        let fields = FrameFields {
            kind: draft.kind,
            version: draft.version,
            recorded_at_ns: draft.recorded_at_ns,
            bucket_back: draft.bucket_back,
            stream_back: draft.stream_back,
            batch_index: draft.batch_index,
            batch_count: draft.batch_count,
            stream_id: draft.stream_id,
            event_id: draft.event_id,
            link,
            name: &draft.name,
            metadata: &draft.metadata,
            body: &draft.body,
            salt: draft.salt.as_ref(),
            slot_crc: slot_crc(&draft.body, draft.salt.as_ref()),
        };
        let index = self.segments.len() - 1;
        let segment = self.last();
        let (offset, bytes) = (segment.bytes.len(), fields.frame_bytes() as usize);
        let mask = segment.seed().mask(offset as u64);
        segment.bytes.resize(offset + bytes, 0);
        fields.encode(&mut segment.bytes[offset..], mask);

        let position = self.next_position();
        let count = self.lanes.get(&draft.bucket()).map_or(0, |head| head.count) + 1;
        self.lanes.insert(draft.bucket(), Head { count, position, link: link.0 });
        if draft.kind == KIND_EVENT {
            self.streams.insert(draft.stream_id, Head { count: draft.version, position, link: link.0 });
        }
        self.time_ns = draft.recorded_at_ns;
        self.frames.push(Place { segment: index, offset, bytes });
        self.kinds.push(draft.kind);
        self.tree.push(&link);
        self.links.push(link);
    }
}

/// What a seal states of the log at some size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    size: u64,
    tree_root: Hash,
    heads_root: Hash,
    events: u64,
}

impl Store {
    /// What a seal over everything so far would state.
    pub(crate) fn sum(&self) -> Sum {
        let events = self.kinds.iter().filter(|&&kind| kind == KIND_EVENT).count() as u64;
        Sum { size: self.next_position(), tree_root: self.tree.root(), heads_root: self.heads_root(), events }
    }

    /// Seals everything so far.
    pub(crate) fn sealed(&mut self) {
        let sum = self.sum();
        self.seal_over(sum, |_| {}, |_| {});
    }

    /// Seals what there was, with lies in the body and in the record around it.
    pub(crate) fn seal_over(&mut self, sum: Sum, lie: impl FnOnce(&mut SealBody), about: impl FnOnce(&mut Draft)) {
        let mut body = SealBody::new_zeroed();
        body.number = (self.last_seal.0 + 1).into();
        body.position = self.next_position().into();
        body.previous_seal = self.last_seal.1;
        body.tree_size = sum.size.into();
        body.tree_root = sum.tree_root;
        body.heads_root = sum.heads_root;
        body.events = sum.events.into();
        body.time_ns = (self.time_ns + TICK_NS).into();
        body.log_key = self.key;
        lie(&mut body);
        let link = self.engine_record(KIND_SEAL, body.as_bytes(), about);
        self.last_seal = (body.number.get(), link.0);
    }

    /// Another key takes over, signed by nobody that these stores know.
    pub(crate) fn rotated(&mut self, new_key: Hash, lie: impl FnOnce(&mut KeyBody)) {
        let mut body = KeyBody::new_zeroed();
        (body.old_key, body.new_key) = (self.key, new_key);
        if self.key != [0; 32] {
            body.old_signature = painted_array(1);
        }
        body.new_signature = painted_array(2);
        lie(&mut body);
        self.engine_record(KIND_KEY, body.as_bytes(), |_| {});
        self.key = new_key;
    }

    /// Something came back about the checkpoint of a size.
    pub(crate) fn anchored(&mut self, size: u64, artefact: &[u8], lie: impl FnOnce(&mut AnchorHead)) {
        let mut head = AnchorHead::new_zeroed();
        head.form = 1;
        head.size = size.into();
        head.note_sha256 = painted_array(3);
        lie(&mut head);
        self.engine_record(KIND_ANCHOR, &[head.as_bytes(), artefact].concat(), |_| {});
    }

    /// A record in the engine's lane, with a lie in it.
    pub(crate) fn engine_record(&mut self, kind: u8, body: &[u8], lie: impl FnOnce(&mut Draft)) -> Link {
        let (position, lane) = (self.next_position(), self.lanes[&ENGINE_LANE]);
        let back = back_distance(position, Some(lane.position));
        let mut draft = Draft {
            kind,
            version: lane.count,
            recorded_at_ns: self.time_ns + TICK_NS,
            bucket_back: back,
            stream_back: back,
            body: body.to_vec(),
            prev_bucket: lane.link,
            prev_stream: lane.link,
            ..genesis_draft()
        };
        lie(&mut draft);
        self.place(&draft);
        Link(self.lanes[&ENGINE_LANE].link)
    }
}

fn genesis_draft() -> Draft {
    Draft {
        kind: KIND_GENESIS,
        version: 0,
        recorded_at_ns: TIME_NS,
        bucket_back: 0,
        stream_back: 0,
        batch_index: 0,
        batch_count: 0,
        batch_id: EventId::default(),
        stream_id: StreamId::default(),
        event_id: EventId::default(),
        name: String::new(),
        metadata: Vec::new(),
        body: Vec::new(),
        salt: None,
        prev_bucket: [0; 32],
        prev_stream: [0; 32],
        link: None,
    }
}

/// The first streams `PREFIX-0`, `PREFIX-1`, ... that share a bucket with `stream`, found by trying.
pub(crate) fn neighbour(stream: &str, prefix: &str) -> String {
    let bucket = hash::stream_id(stream).bucket();
    let mut names = (0..).map(|n| format!("{prefix}-{n}"));
    names.find(|name| name != stream && hash::stream_id(name).bucket() == bucket).expect("4096 buckets are soon tried")
}

/// Length of a frame with this much in it.
pub(crate) fn frame_length(name: usize, metadata: usize, body: usize, salted: bool) -> usize {
    frame::frame_bytes(name, metadata, body, salted) as usize
}
