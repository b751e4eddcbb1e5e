//! Where every stream and bucket stands: the state that the one writer decides on.
//!
//! Only the sequencer moves heads; readers look streams and ids up under a shared lock. Heads run ahead of the watermark, so a reader walks back
//! from a head to what it may see. All of it is rebuilt from the log at open.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use chainring_format::footer::BucketHead;
use chainring_format::hash::{Hash, heads_root};
use chainring_format::limits::{BUCKET_COUNT, ENGINE_LANE};
use chainring_format::{EventId, Link, StreamId};

/// Last event of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamHead {
    pub version: u64,
    pub position: u64,
    pub link: Link,
    /// Position of version 1, which holds the name.
    pub first_position: u64,
    /// Second half of the name's hash: tells two names with one id apart.
    pub name_rest: [u8; 16],
}

/// Streams and event ids, in many small tables: a table that grows moves everything in it at once, and a writer that moves millions of entries at once
/// keeps everybody waiting.
#[derive(Debug)]
pub(crate) struct Directory {
    /// By bucket.
    streams: Vec<HashMap<StreamId, StreamHead, Mixer>>,
    stream_count: usize,
    /// By some bits of the id's hash.
    ids: Vec<HashMap<EventId, u64, Mixer>>,
    mixer: Mixer,
}

impl Default for Directory {
    fn default() -> Directory {
        let mixer = Mixer { seed: RandomState::new().hash_one(0_u64) };
        let tables = usize::from(BUCKET_COUNT);
        Directory {
            streams: vec![HashMap::with_hasher(mixer); tables],
            stream_count: 0,
            ids: vec![HashMap::with_hasher(mixer); tables],
            mixer,
        }
    }
}

impl Directory {
    pub(crate) fn stream(&self, id: &StreamId) -> Option<&StreamHead> {
        self.streams[usize::from(id.bucket())].get(id)
    }

    /// Sets where a stream stands.
    pub(crate) fn set_stream(&mut self, id: StreamId, head: StreamHead) {
        if self.streams[usize::from(id.bucket())].insert(id, head).is_none() {
            self.stream_count += 1;
        }
    }

    pub(crate) fn stream_count(&self) -> usize {
        self.stream_count
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = &StreamHead> {
        self.streams.iter().flat_map(HashMap::values)
    }

    fn ids_of(&self, id: &EventId) -> usize {
        // Not the bits that the table itself looks at.
        (self.mixer.hash_one(id) >> 40) as usize % self.ids.len()
    }

    /// Position of the event with this id.
    pub(crate) fn position_of(&self, id: &EventId) -> Option<u64> {
        self.ids[self.ids_of(id)].get(id).copied()
    }

    /// Remembers an id; `false` if it was known.
    pub(crate) fn insert_id(&mut self, id: EventId, position: u64) -> bool {
        let table = self.ids_of(&id);
        self.ids[table].insert(id, position).is_none()
    }
}

/// Hashes ids of 16 bytes, seeded: callers choose event ids and stream names, and must not be able to choose what collides.
///
/// A multiplication of two 64-bit halves to 128 bits, folded, twice; the idea is that of wyhash (Wang Yi, public domain).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mixer {
    seed: u64,
}

#[derive(Debug)]
pub(crate) struct Mixed(u64);

impl BuildHasher for Mixer {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.seed)
    }
}

impl Mixed {
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    }
}

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(16) {
            let mut padded = [0; 16];
            padded[..chunk.len()].copy_from_slice(chunk);
            let (low, high) = (u128::from_le_bytes(padded) as u64, (u128::from_le_bytes(padded) >> 64) as u64);
            self.0 = Mixed::fold(low ^ self.0, high ^ self.0.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15);
        }
    }

    fn write_usize(&mut self, _length: usize) {
        // Lengths of the ids that are hashed here are all the same.
    }

    fn finish(&self) -> u64 {
        Mixed::fold(self.0 ^ 0xE703_7ED1_A0B4_28DB, self.0.rotate_left(29) ^ 0x8EBC_6AF0_9C88_C6E3)
    }
}

/// Last record of a bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub count: u64,
    pub position: u64,
    pub link: Link,
}

/// Heads of all buckets and of the engine's lane.
#[derive(Debug)]
pub(crate) struct Buckets {
    heads: Vec<Option<Head>>,
}

impl Buckets {
    pub(crate) fn new() -> Buckets {
        Buckets { heads: vec![None; usize::from(ENGINE_LANE) + 1] }
    }

    pub(crate) fn get(&self, bucket: u16) -> Option<Head> {
        self.heads[usize::from(bucket)]
    }

    pub(crate) fn advance(&mut self, bucket: u16, position: u64, link: Link) {
        self.add(bucket, 1, position, link);
    }

    /// Takes in `count` records of a bucket at once; the last of them is at `position`.
    pub(crate) fn add(&mut self, bucket: u16, count: u64, position: u64, link: Link) {
        let head = &mut self.heads[usize::from(bucket)];
        *head = Some(Head { count: head.map_or(0, |head| head.count) + count, position, link });
    }

    /// Heads of the buckets that hold a record, as a footer lists them.
    pub(crate) fn list(&self) -> Vec<BucketHead> {
        let entry = |(bucket, head): (usize, &Option<Head>)| {
            head.map(|Head { count, position, link }| BucketHead { bucket: bucket as u16, count, position, link })
        };
        self.heads.iter().enumerate().filter_map(entry).collect()
    }

    /// Root over the heads of all 4096 buckets (FORMAT.md section 7.4).
    pub(crate) fn root(&self, log_id: Link) -> Hash {
        heads_root(|bucket| self.get(bucket).map_or((0, log_id), |head| (head.count, head.link)))
    }
}

const _: () = assert!(ENGINE_LANE == BUCKET_COUNT, "the engine's lane follows the buckets");

/// Second half of the hash whose first half is the stream id.
pub(crate) fn name_rest(name: &str) -> [u8; 16] {
    *chainring_format::hash::stream_name_hash(name).last_chunk().expect("32 bytes")
}
