//! Where every stream and bucket stands: the state that the one writer decides on.
//!
//! Only the sequencer moves heads; readers look streams and ids up under a shared lock. Heads run ahead of the watermark, so a reader walks back
//! from a head to what it may see.
//!
//! Not everything is here. Of sealed segments that are in the index, ids are forgotten, and so are heads beyond the memory they may take: what is not
//! found here is asked of the index, by the caller of an append before it is published. Always: every id at or above [`Directory::ids_from`] and every
//! stream that has an event at or above [`Directory::streams_from`] is here. A caller asks the index only for streams that are not here; once heads were
//! forgotten ([`Directory::oblivion`]), what he did not ask for may be nowhere but there.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use chainring_format::footer::BucketHead;
use chainring_format::frame::FrameView;
use chainring_format::hash::{Hash, heads_root};
use chainring_format::limits::{BUCKET_COUNT, ENGINE_LANE};
use chainring_format::{EventId, Link, StreamId};
use memmap2::MmapMut;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::table::{Entry, Table, zeroed};
use crate::index::Mixer;

/// Records that are taken in before readers of the directory get a turn, and whose heads and ids are brought into the cache together.
pub(super) const STRETCH: usize = 64;

/// Last event of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamHead {
    pub version: u64,
    pub position: u64,
    pub link: Link,
    /// `None` if it was not looked up yet.
    pub birth: Option<Birth>,
}

/// What its first event says of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Birth {
    /// Position of version 1, which holds the name.
    pub position: u64,
    /// Second half of the name's hash: tells two names with one id apart.
    pub name_rest: [u8; 16],
}

/// Where a stream is in the younger generation. It stays until the next one begins.
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
    /// [`UNBORN`] if its first event was not looked up.
    birth_position: u64,
}

/// No position of a first event.
const UNBORN: u64 = u64::MAX;

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
        let Stored { version, position, birth_position, name_rest, .. } = *stored;
        let birth = (birth_position != UNBORN).then_some(Birth { position: birth_position, name_rest });
        StreamHead { version, position, link: Link(stored.link), birth }
    }
}

impl Stored {
    fn new(id: StreamId, head: StreamHead) -> Stored {
        let StreamHead { version, position, link, birth } = head;
        let Birth { position: birth_position, name_rest } = birth.unwrap_or(Birth { position: UNBORN, name_rest: [0; 16] });
        Stored { stream_id: id.0, name_rest, link: link.0, version, position, birth_position }
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

/// Heads of streams that were touched since some moment.
#[derive(Debug)]
struct Generation {
    heads: Heads,
    streams: Table<StreamEntry>,
    /// Every stream with an event at or above this is in this generation or in a younger one.
    since: u64,
}

impl Generation {
    fn new(since: u64) -> Generation {
        Generation { heads: Heads::default(), streams: Table::new(), since }
    }

    fn find(&self, hash: u64, id: &StreamId) -> Option<StreamNumber> {
        let is_it = |entry: &StreamEntry| entry.tag == tag(hash) && self.heads.get(entry.number()).stream_id == id.0;
        self.streams.find(hash, is_it).map(StreamEntry::number)
    }

    fn push(&mut self, mixer: Mixer, hash: u64, head: Stored) -> StreamNumber {
        let number = self.heads.push(head);
        let heads = &self.heads;
        let hash_of = |entry: &StreamEntry| mixer.hash_id(&heads.get(entry.number()).stream_id);
        self.streams.insert(hash, StreamEntry { number_after: number.0 + 1, tag: tag(hash) }, hash_of);
        number
    }

    fn bytes(&self) -> u64 {
        u64::from(self.heads.count) * size_of::<Stored>() as u64 + self.streams.bytes()
    }
}

/// Ids of the events of one segment.
#[derive(Debug)]
struct Ids {
    table: Table<IdEntry>,
    /// Position after its last event; `u64::MAX` for the live one.
    end: u64,
}

/// Streams and event ids.
#[derive(Debug)]
pub(crate) struct Directory {
    young: Generation,
    /// The generation before, whose heads move over as they are touched.
    old: Option<Generation>,
    /// By segment, the live one last. There is always one.
    ids: VecDeque<Ids>,
    ids_from: u64,
    streams_from: u64,
    oblivion: u64,
    /// For the ids of the next segment.
    spare: Option<ClearedTable>,
    /// Streams of the whole log.
    stream_count: u64,
    /// Everything below was taken in. `u64::MAX` where every record is, as it is placed.
    taken_to: u64,
    mixer: Mixer,
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// What a directory does not need any more. Giving memory back takes its time: to be dropped where nobody waits.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    generation: Option<Box<Generation>>,
    ids: Vec<Ids>,
}

impl Forgotten {
    /// Memory for the ids of another segment: memory that is there costs a fraction of memory that the system has to find.
    pub(crate) fn cleared_table(&mut self) -> Option<ClearedTable> {
        self.generation = None;
        let mut table = self.ids.drain(..).map(|ids| ids.table).max_by_key(Table::bytes)?;
        table.clear();
        Some(ClearedTable(table))
    }
}

/// A table without entries.
#[derive(Debug)]
pub(crate) struct ClearedTable(Table<IdEntry>);

impl Directory {
    /// An empty one for a log that goes on at `from`: `stream_count` streams, and everything below, are in the index. About `events` will be taken in soon.
    pub(crate) fn new(from: u64, stream_count: u64, events: usize) -> Directory {
        Directory {
            young: Generation::new(from),
            old: None,
            ids: VecDeque::from([Ids { table: Table::for_entries(events), end: u64::MAX }]),
            ids_from: from,
            streams_from: from,
            oblivion: u64::from(from > 0),
            spare: None,
            stream_count,
            taken_to: u64::MAX,
            mixer: Mixer::new(RandomState::new().hash_one(0_u64)),
        }
    }

    /// Every id of an event at or above this position is here.
    pub(crate) fn ids_from(&self) -> u64 {
        self.ids_from
    }

    /// Every stream with an event at or above this position is here.
    pub(crate) fn streams_from(&self) -> u64 {
        self.streams_from
    }

    /// How often heads were forgotten that only the index knows since. 0 if every stream there is has always been here.
    pub(crate) fn oblivion(&self) -> u64 {
        self.oblivion
    }

    /// Everything below was taken in.
    pub(crate) fn taken_to(&self) -> u64 {
        self.taken_to
    }

    /// Says that everything below was taken in, and what comes is only when somebody asks.
    pub(crate) fn set_taken_to(&mut self, position: u64) {
        self.taken_to = position;
    }

    fn hash(&self, id: &[u8; 16]) -> u64 {
        self.mixer.hash_id(id)
    }

    /// Where a stream stands, if it is here. The head of one that is not touched any more may have moved on since only in a way that the index knows.
    pub(crate) fn stream(&self, id: &StreamId) -> Option<StreamHead> {
        let hash = self.hash(&id.0);
        let find = |generation: &Generation| generation.find(hash, id).map(|number| generation.heads.get(number).into());
        find(&self.young).or_else(|| self.old.as_ref().and_then(find))
    }

    /// The same for the sequencer: brings it into the younger generation.
    pub(crate) fn recall(&mut self, id: &StreamId) -> Option<StreamNumber> {
        let hash = self.hash(&id.0);
        self.young.find(hash, id).or_else(|| {
            let old = self.old.as_ref()?;
            let head = *old.heads.get(old.find(hash, id)?);
            Some(self.young.push(self.mixer, hash, head))
        })
    }

    /// Where the stream with this number stands.
    pub(crate) fn head(&self, number: StreamNumber) -> StreamHead {
        self.young.heads.get(number).into()
    }

    /// Moves a stream on.
    pub(crate) fn advance(&mut self, number: StreamNumber, version: u64, position: u64, link: Link) {
        let stored = self.young.heads.get_mut(number);
        (stored.version, stored.position, stored.link) = (version, position, link.0);
    }

    /// Notes what the first event of a stream says.
    pub(crate) fn set_birth(&mut self, number: StreamNumber, birth: Birth) {
        let stored = self.young.heads.get_mut(number);
        (stored.birth_position, stored.name_rest) = (birth.position, birth.name_rest);
    }

    /// Takes in a stream that is not there yet: a new one, or one that the index knows.
    pub(crate) fn add_stream(&mut self, id: StreamId, head: StreamHead) -> StreamNumber {
        self.stream_count += u64::from(head.version == 1 && head.position >= self.streams_from);
        let hash = self.hash(&id.0);
        self.young.push(self.mixer, hash, Stored::new(id, head))
    }

    /// Streams of the whole log.
    pub(crate) fn stream_count(&self) -> u64 {
        self.stream_count
    }

    /// The streams that are here and have an event at or above a position.
    pub(crate) fn streams_since(&self, position: u64) -> impl Iterator<Item = (StreamId, StreamHead)> {
        let all = |generation: &Generation| {
            let heads = (0..generation.heads.count).map(|number| generation.heads.get(StreamNumber(number)));
            heads.map(|stored| (StreamId(stored.stream_id), StreamHead::from(stored))).collect::<Vec<_>>()
        };
        let old = self.old.as_ref().map(all).unwrap_or_default();
        let not_younger = move |(id, _): &(StreamId, StreamHead)| self.young.find(self.hash(&id.0), id).is_none();
        all(&self.young).into_iter().chain(old.into_iter().filter(not_younger)).filter(move |(_, head)| head.position >= position)
    }

    /// Position of the event with this id, if it is here.
    pub(crate) fn position_of(&self, id: &EventId) -> Option<u64> {
        let hash = self.hash(&id.0);
        self.ids.iter().rev().find_map(|ids| ids.table.find(hash, |entry| entry.id == id.0)).map(|entry| entry.position_after - 1)
    }

    /// Remembers an id that is not there yet.
    pub(crate) fn add_id(&mut self, id: EventId, position: u64) {
        let mixer = self.mixer;
        let live = &mut self.ids.back_mut().expect("there is always one").table;
        live.insert(mixer.hash_id(&id.0), IdEntry { id: id.0, position_after: position + 1 }, |entry| mixer.hash_id(&entry.id));
    }

    /// A new segment begins at this position.
    pub(crate) fn begin_segment(&mut self, position: u64) {
        self.ids.back_mut().expect("there is always one").end = position;
        let table = self.spare.take().map_or_else(Table::new, |ClearedTable(table)| table);
        self.ids.push_back(Ids { table, end: u64::MAX });
    }

    /// Takes memory for the ids of the next segment.
    pub(crate) fn use_table(&mut self, table: ClearedTable) {
        self.spare = Some(table);
    }

    /// Forgets what the index knows: it holds everything below `indexed_to`. Ids at once, heads when those that were touched lately take half of
    /// `heads_bytes_max`, those that were not touched for as long.
    pub(crate) fn forget(&mut self, indexed_to: u64, next_position: u64, heads_bytes_max: u64) -> Forgotten {
        let mut forgotten = Forgotten::default();
        while self.ids.front().is_some_and(|ids| ids.end <= indexed_to) {
            let ids = self.ids.pop_front().expect("there is one");
            self.ids_from = ids.end;
            forgotten.ids.push(ids);
        }
        // What only the old generation knows has no event since the young one began.
        let may_forget = self.old.is_none() || self.young.since <= indexed_to;
        if self.young.bytes() > heads_bytes_max / 2 && may_forget {
            let young = std::mem::replace(&mut self.young, Generation::new(next_position));
            let young_since = young.since;
            if let Some(old) = self.old.replace(young) {
                self.streams_from = young_since;
                self.oblivion += 1;
                forgotten.generation = Some(Box::new(old));
            }
        }
        forgotten
    }

    /// As [`Directory::touch`], of frames that will be taken in: each id is looked for in every segment.
    pub(crate) fn touch_all<'a>(&self, frames: impl Iterator<Item = &'a FrameView<'a>>) -> u64 {
        let ids: Vec<_> = frames.filter(|frame| frame.is_event()).map(|frame| (frame.stream_id(), frame.event_id())).collect();
        let older = self.ids.range(..self.ids.len() - 1);
        let seen = |of: &Ids| ids.iter().fold(0, |seen, (_, id)| seen ^ of.table.touch(self.hash(&id.0)).position_after);
        older.fold(self.touch(ids.iter().map(|(stream, id)| (stream, id))), |all, of| all ^ seen(of))
    }

    /// Brings what will be asked about these into the cache, for many of them side by side: one after the other, each would wait for memory alone.
    /// Returns a number that means nothing but that the work was done.
    pub(crate) fn touch<'a>(&self, of: impl Iterator<Item = (&'a StreamId, &'a EventId)> + Clone) -> u64 {
        let mut seen = 0_u64;
        let Generation { heads, streams, .. } = &self.young;
        let live = &self.ids.back().expect("there is always one").table;
        for (stream, id) in of.clone() {
            seen ^= u64::from(streams.touch(self.hash(&stream.0)).number_after) ^ live.touch(self.hash(&id.0)).position_after;
        }
        // The heads are found by what the first round brought in.
        for (stream, _) in of {
            let entry = streams.touch(self.hash(&stream.0));
            if !entry.is_free() {
                let head = heads.get(entry.number());
                seen ^= head.version ^ u64::from(head.stream_id[0]);
            }
        }
        seen
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

    /// Heads as they are listed.
    pub(crate) fn of(list: &[BucketHead]) -> Buckets {
        let mut buckets = Buckets::new();
        for head in list.iter().filter(|head| head.bucket <= ENGINE_LANE) {
            buckets.add(head.bucket, head.count, head.position, head.link);
        }
        buckets
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

    /// Records in the engine's lane.
    pub(crate) fn engine_records(&self) -> u64 {
        self.get(ENGINE_LANE).map_or(0, |head| head.count)
    }

    /// Heads of all buckets and of the engine's lane, by number.
    pub(crate) fn all(&self) -> Vec<Option<Head>> {
        self.heads.clone()
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
