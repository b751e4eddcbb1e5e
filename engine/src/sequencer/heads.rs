//! Where every stream and bucket stands: the state that the one writer decides on.
//!
//! Only the sequencer moves heads; readers look streams and ids up under a shared lock. Heads run ahead of the watermark, so a reader walks back
//! from a head to what it may see. All of it is rebuilt from the log at open.

use std::hash::{BuildHasher, RandomState};

use chainring_format::footer::BucketHead;
use chainring_format::hash::{Hash, heads_root};
use chainring_format::limits::{BUCKET_COUNT, ENGINE_LANE};
use chainring_format::{EventId, Link, StreamId};
use memmap2::MmapMut;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::table::{Entry, Table, zeroed};

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

/// Number of a stream in this open of the log, in order of appearance. It stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StreamNumber(u32);

/// A stream's head as it lies in memory.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Stored {
    stream_id: [u8; 16],
    name_rest: [u8; 16],
    link: [u8; 32],
    version: u64,
    position: u64,
    first_position: u64,
}

/// Heads by number. In pieces, so that none of them ever moves.
#[derive(Debug, Default)]
struct Heads {
    pieces: Vec<MmapMut>,
    count: u32,
}

/// Heads of a piece.
const PIECE_HEADS: usize = 1 << 16;

impl Heads {
    fn get(&self, StreamNumber(number): StreamNumber) -> &Stored {
        let (piece, place) = (number as usize / PIECE_HEADS, number as usize % PIECE_HEADS);
        &<[Stored]>::ref_from_bytes(&self.pieces[piece]).expect("a piece begins on a page and holds whole heads")[place]
    }

    fn get_mut(&mut self, StreamNumber(number): StreamNumber) -> &mut Stored {
        let (piece, place) = (number as usize / PIECE_HEADS, number as usize % PIECE_HEADS);
        &mut <[Stored]>::mut_from_bytes(&mut self.pieces[piece]).expect("a piece begins on a page and holds whole heads")[place]
    }

    fn push(&mut self, head: Stored) -> StreamNumber {
        let number = StreamNumber(self.count);
        self.count = self.count.checked_add(1).expect("a log has fewer than 2^32 streams");
        if self.pieces.len() * PIECE_HEADS < self.count as usize {
            self.pieces.push(zeroed(PIECE_HEADS * size_of::<Stored>()));
        }
        *self.get_mut(number) = head;
        number
    }
}

impl From<&Stored> for StreamHead {
    fn from(stored: &Stored) -> StreamHead {
        let Stored { version, position, first_position, name_rest, .. } = *stored;
        StreamHead { version, position, link: Link(stored.link), first_position, name_rest }
    }
}

/// Where a stream is: its number, one up.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StreamEntry {
    number_after: u32,
    /// Some bits of the hash, so that a head is only looked at if it is the right one, mostly.
    tag: u32,
}

impl Entry for StreamEntry {
    fn is_free(&self) -> bool {
        self.number_after == 0
    }
}

impl StreamEntry {
    fn number(&self) -> StreamNumber {
        StreamNumber(self.number_after - 1)
    }
}

/// Where an event is: its position, one up.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct IdEntry {
    id: [u8; 16],
    position_after: u64,
}

impl Entry for IdEntry {
    fn is_free(&self) -> bool {
        self.position_after == 0
    }
}

/// Streams and event ids.
#[derive(Debug)]
pub(crate) struct Directory {
    heads: Heads,
    streams: Table<StreamEntry>,
    ids: Table<IdEntry>,
    mixer: Mixer,
}

impl Default for Directory {
    fn default() -> Directory {
        let mixer = Mixer { seed: RandomState::new().hash_one(0_u64) };
        Directory { heads: Heads::default(), streams: Table::new(), ids: Table::new(), mixer }
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Directory {
    fn hash(&self, id: &[u8; 16]) -> u64 {
        self.mixer.hash_id(id)
    }

    /// Number of a stream.
    pub(crate) fn number_of(&self, id: &StreamId) -> Option<StreamNumber> {
        let hash = self.hash(&id.0);
        let is_it = |entry: &StreamEntry| entry.tag == tag(hash) && self.heads.get(entry.number()).stream_id == id.0;
        self.streams.find(hash, is_it).map(StreamEntry::number)
    }

    /// Where the stream with this number stands.
    pub(crate) fn head(&self, number: StreamNumber) -> StreamHead {
        self.heads.get(number).into()
    }

    pub(crate) fn stream(&self, id: &StreamId) -> Option<StreamHead> {
        self.number_of(id).map(|number| self.head(number))
    }

    /// Moves a stream on.
    pub(crate) fn advance(&mut self, number: StreamNumber, version: u64, position: u64, link: Link) {
        let stored = self.heads.get_mut(number);
        (stored.version, stored.position, stored.link) = (version, position, link.0);
    }

    /// Takes in a stream that is not there yet.
    pub(crate) fn add_stream(&mut self, id: StreamId, head: StreamHead) -> StreamNumber {
        let hash = self.hash(&id.0);
        let StreamHead { version, position, first_position, name_rest, link } = head;
        let number = self.heads.push(Stored { stream_id: id.0, name_rest, link: link.0, version, position, first_position });
        let (heads, mixer) = (&self.heads, self.mixer);
        let hash_of = |entry: &StreamEntry| mixer.hash_id(&heads.get(entry.number()).stream_id);
        self.streams.insert(hash, StreamEntry { number_after: number.0 + 1, tag: tag(hash) }, hash_of);
        number
    }

    pub(crate) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = StreamHead> {
        (0..self.heads.count).map(|number| self.head(StreamNumber(number)))
    }

    /// Position of the event with this id.
    pub(crate) fn position_of(&self, id: &EventId) -> Option<u64> {
        self.ids.find(self.hash(&id.0), |entry| entry.id == id.0).map(|entry| entry.position_after - 1)
    }

    /// Remembers an id that is not there yet.
    pub(crate) fn add_id(&mut self, id: EventId, position: u64) {
        let mixer = self.mixer;
        self.ids.insert(mixer.hash_id(&id.0), IdEntry { id: id.0, position_after: position + 1 }, |entry| mixer.hash_id(&entry.id));
    }

    /// Brings what will be asked about these into the cache, for many of them side by side: one after the other, each would wait for memory alone.
    /// Returns a number that means nothing but that the work was done.
    pub(crate) fn touch<'a>(&self, of: impl Iterator<Item = (&'a StreamId, &'a EventId)> + Clone) -> u64 {
        let mut seen = 0_u64;
        for (stream, id) in of.clone() {
            seen ^= u64::from(self.streams.touch(self.hash(&stream.0)).number_after) ^ self.ids.touch(self.hash(&id.0)).position_after;
        }
        // The heads are found by what the first round brought in.
        for (stream, _) in of {
            let entry = self.streams.touch(self.hash(&stream.0));
            if !entry.is_free() {
                let head = self.heads.get(entry.number());
                seen ^= head.version ^ u64::from(head.stream_id[0]);
            }
        }
        seen
    }
}

/// Hashes ids of 16 bytes, seeded: callers choose event ids and stream names, and must not be able to choose what collides.
///
/// A multiplication of two 64-bit halves to 128 bits, folded, twice; the idea is that of wyhash (Wang Yi, public domain).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mixer {
    seed: u64,
}

impl Mixer {
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    }

    fn hash_id(self, id: &[u8; 16]) -> u64 {
        let whole = u128::from_le_bytes(*id);
        let (low, high) = (whole as u64, (whole >> 64) as u64);
        let once = Mixer::fold(low ^ self.seed, high ^ self.seed.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15);
        Mixer::fold(once ^ 0xE703_7ED1_A0B4_28DB, once.rotate_left(29) ^ 0x8EBC_6AF0_9C88_C6E3)
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
