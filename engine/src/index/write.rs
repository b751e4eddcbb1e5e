//! Writing a run from positions that come in the order of their keys. Takes memory for a few pages and 12 bytes for every leaf, however large the run.

use std::io;

use chainring_format::align;
use chainring_format::checksum::Seed;
use chainring_format::footer::{BucketHead, HeadEntry};
use zerocopy::little_endian::U32;
use zerocopy::{FromZeros, IntoBytes};

use super::layout::{
    FANOUT, FILTER_BITS_PER_KEY, FILTER_BLOCK_BYTES, FILTER_BLOCKS_PER_PAGE, HEADS_PER_PAGE, LEAF_ENTRY_BYTES, LEAF_HEAD_BYTES, LEVELS_MAX,
    LIST_BYTES_MAX, MAGIC, OFFSETS_PER_PAGE, Part, RunHead, SUMMARIES_PER_PAGE, StoredSummary, StoredZone, VERSION, WITH_OFFSETS,
    ZONES_PER_PAGE, filter_bits, filter_block, put_number,
};
use super::page::{PAGE_BYTES, PAYLOAD_BYTES, seal};
use super::run::{Posting, Summary};
use super::zone::Zone;
use crate::disk::DiskFile;
use crate::sync::Arc;

/// Where a run is written to.
pub(super) enum Target {
    Memory(Vec<u8>),
    /// With the bytes that were written and not synced.
    File(Arc<dyn DiskFile>, u64),
}

/// Bytes of a file that are written before they are synced. Gigabytes that wait for one sync at the end would be in the way of the syncs of a log that is being
/// written: a file system that writes data before its journal takes them along.
const UNSYNCED_BYTES_MAX: u64 = 16 << 20;

impl Target {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Target::File(file, unsynced) => {
                file.write_all_at(bytes, offset)?;
                *unsynced += bytes.len() as u64;
                if *unsynced >= UNSYNCED_BYTES_MAX {
                    *unsynced = 0;
                    file.sync_data()?;
                }
                Ok(())
            }
            Target::Memory(memory) => {
                let (start, end) = (offset as usize, offset as usize + bytes.len());
                memory.resize(memory.len().max(end), 0);
                memory[start..end].copy_from_slice(bytes);
                Ok(())
            }
        }
    }
}

/// What a run is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub log_id: [u8; 32],
    pub key_seed: [u8; 16],
    pub first_segment: u64,
    pub last_segment: u64,
    pub first_position: u64,
    pub next_position: u64,
    /// Different keys, at most.
    pub keys_max: u64,
}

/// Bytes that are handed on together.
const CHUNK_BYTES: usize = 64 * PAGE_BYTES;

/// Pages on their way, one behind the other.
struct PageWriter {
    number: u64,
    chunk: Vec<u8>,
    seed: Seed,
}

impl PageWriter {
    fn new(number: u64, seed: Seed) -> PageWriter {
        PageWriter { number, chunk: Vec::with_capacity(CHUNK_BYTES), seed }
    }

    /// Number of the next page.
    fn next(&self) -> u64 {
        self.number + (self.chunk.len() / PAGE_BYTES) as u64
    }

    fn put(&mut self, target: &mut Target, payload: &[u8]) -> io::Result<()> {
        debug_assert!(payload.len() <= PAYLOAD_BYTES);
        let (number, start) = (self.next(), self.chunk.len());
        self.chunk.extend_from_slice(payload);
        self.chunk.resize(start + PAGE_BYTES, 0);
        seal(&mut self.chunk[start..], self.seed, number);
        if self.chunk.len() >= CHUNK_BYTES { self.flush(target) } else { Ok(()) }
    }

    fn flush(&mut self, target: &mut Target) -> io::Result<()> {
        target.write_at(&self.chunk, self.number * PAGE_BYTES as u64)?;
        self.number = self.next();
        self.chunk.clear();
        Ok(())
    }
}

/// The filter, written as keys come.
struct FilterWriter {
    pages: PageWriter,
    part: Part,
    page: Vec<u8>,
}

impl FilterWriter {
    fn new(plan: &Plan, seed: Seed) -> FilterWriter {
        let blocks = (plan.keys_max * FILTER_BITS_PER_KEY).div_ceil(8 * FILTER_BLOCK_BYTES as u64).max(1);
        let part = Part { start: 1.into(), pages: blocks.div_ceil(FILTER_BLOCKS_PER_PAGE as u64).into(), count: blocks.into() };
        FilterWriter { pages: PageWriter::new(1, seed), part, page: vec![0; FILTER_BLOCKS_PER_PAGE * FILTER_BLOCK_BYTES] }
    }

    fn put(&mut self, target: &mut Target, key: u64) -> io::Result<()> {
        let block = filter_block(key, self.part.count.get());
        let (page, block) = (1 + block / FILTER_BLOCKS_PER_PAGE as u64, block as usize % FILTER_BLOCKS_PER_PAGE);
        while self.pages.next() < page {
            self.next_page(target)?;
        }
        let block = &mut self.page[block * FILTER_BLOCK_BYTES..][..FILTER_BLOCK_BYTES];
        filter_bits(key).for_each(|bit| block[bit / 8] |= 1 << (bit % 8));
        Ok(())
    }

    fn next_page(&mut self, target: &mut Target) -> io::Result<()> {
        self.pages.put(target, &self.page)?;
        self.page.fill(0);
        Ok(())
    }

    fn finish(&mut self, target: &mut Target) -> io::Result<()> {
        while self.pages.next() < self.part.start.get() + self.part.pages.get() {
            self.next_page(target)?;
        }
        self.pages.flush(target)
    }
}

/// A leaf under construction.
#[derive(Default)]
struct Leaf {
    keys: Vec<u64>,
    firsts: Vec<u32>,
    ends: Vec<u16>,
    lists: Vec<u8>,
}

impl Leaf {
    fn bytes(&self) -> usize {
        LEAF_HEAD_BYTES + self.keys.len() * LEAF_ENTRY_BYTES + self.lists.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&(self.keys.len() as u32).to_le_bytes());
        self.keys.iter().for_each(|key| out.extend_from_slice(&key.to_le_bytes()));
        self.firsts.iter().for_each(|first| out.extend_from_slice(&first.to_le_bytes()));
        self.ends.iter().for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
        out.extend_from_slice(&self.lists);
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.firsts.clear();
        self.ends.clear();
        self.lists.clear();
    }
}

/// An entry under construction.
#[derive(Default)]
struct Entry {
    is_open: bool,
    with_offsets: bool,
    key: u64,
    first: u64,
    last: u64,
    list: Vec<u8>,
}

/// Writes a run.
pub(super) struct RunWriter {
    target: Target,
    plan: Plan,
    salt: [u8; 16],
    filter: FilterWriter,
    pages: PageWriter,
    leaf: Leaf,
    entry: Entry,
    entries: u64,
    payload: Vec<u8>,
    /// First key and first position of every leaf.
    firsts: Vec<(u64, u32)>,
}

impl RunWriter {
    pub(super) fn new(target: Target, plan: Plan) -> RunWriter {
        let mut input = plan.log_id.to_vec();
        for number in [plan.first_segment, plan.last_segment, plan.next_position, plan.keys_max] {
            input.extend_from_slice(&number.to_le_bytes());
        }
        let salt = *blake3::hash(&input).as_bytes().first_chunk().expect("32 bytes");
        let seed = Seed::new(&salt);
        let filter = FilterWriter::new(&plan, seed);
        let pages = PageWriter::new(1 + filter.part.pages.get(), seed);
        RunWriter {
            target,
            plan,
            salt,
            filter,
            pages,
            leaf: Leaf::default(),
            entry: Entry::default(),
            entries: 0,
            payload: Vec::new(),
            firsts: Vec::new(),
        }
    }

    /// Takes in a position under a key: keys never fall, and positions rise under each of them. A position that was there a moment ago is taken once. Offsets
    /// are kept for all positions of a key or for none, mostly.
    pub(super) fn put(&mut self, key: u64, Posting { position, offset }: Posting) -> io::Result<()> {
        let entry = &mut self.entry;
        let with_offsets = offset > 0;
        if entry.is_open && entry.key == key {
            if position == entry.last {
                return Ok(());
            }
            debug_assert!(position > entry.last, "positions rise");
            if entry.list.len() + 20 <= LIST_BYTES_MAX && entry.with_offsets == with_offsets {
                put_number(&mut entry.list, position - entry.last - 1);
                if with_offsets {
                    put_number(&mut entry.list, offset / 8);
                }
                entry.last = position;
                return Ok(());
            }
        } else {
            debug_assert!(!entry.is_open || key > entry.key, "keys rise");
            self.filter.put(&mut self.target, key)?;
        }
        self.close_entry()?;
        let entry = &mut self.entry;
        (entry.is_open, entry.with_offsets) = (true, with_offsets);
        (entry.key, entry.first, entry.last) = (key, position, position);
        if with_offsets {
            put_number(&mut entry.list, offset / 8);
        }
        Ok(())
    }

    fn close_entry(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.entry.is_open) {
            return Ok(());
        }
        if self.leaf.bytes() + LEAF_ENTRY_BYTES + self.entry.list.len() > PAYLOAD_BYTES {
            self.close_leaf()?;
        }
        let first = u32::try_from(self.entry.first - self.plan.first_position).expect("a run has fewer than 2^32 records");
        let leaf = &mut self.leaf;
        if leaf.keys.is_empty() {
            self.firsts.push((self.entry.key, first));
        }
        leaf.keys.push(self.entry.key);
        leaf.firsts.push(first);
        leaf.lists.append(&mut self.entry.list);
        leaf.ends.push(leaf.lists.len() as u16 | if self.entry.with_offsets { WITH_OFFSETS } else { 0 });
        self.entries += 1;
        Ok(())
    }

    fn close_leaf(&mut self) -> io::Result<()> {
        self.leaf.encode(&mut self.payload);
        self.leaf.clear();
        self.pages.put(&mut self.target, &self.payload)
    }

    /// Writes what belongs behind the leaves, and the head. What is left to be synced is the caller's to sync.
    pub(super) fn finish(mut self, summaries: &[Summary], tables: &[u32], zones: &[Zone], heads: &[BucketHead]) -> io::Result<Target> {
        self.close_entry()?;
        if !self.leaf.keys.is_empty() {
            self.close_leaf()?;
        }
        self.filter.finish(&mut self.target)?;
        let mut head = RunHead::new_zeroed();
        head.magic = MAGIC;
        head.version = VERSION.into();
        head.log_id = self.plan.log_id;
        head.key_seed = self.plan.key_seed;
        head.salt = self.salt;
        head.first_segment = self.plan.first_segment.into();
        head.last_segment = self.plan.last_segment.into();
        head.first_position = self.plan.first_position.into();
        head.next_position = self.plan.next_position.into();
        head.filter = self.filter.part;
        let leaves_start = head.filter.start.get() + head.filter.pages.get();
        head.leaves = Part { start: leaves_start.into(), pages: (self.firsts.len() as u64).into(), count: self.entries.into() };
        let mut below = std::mem::take(&mut self.firsts);
        let mut level = 0;
        while below.len() > 1 {
            let start = self.pages.next();
            let above: Vec<(u64, u32)> = below.chunks(FANOUT).map(|chunk| chunk[0]).collect();
            for chunk in below.chunks(FANOUT) {
                self.payload.clear();
                self.payload.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
                chunk.iter().for_each(|(key, _)| self.payload.extend_from_slice(&key.to_le_bytes()));
                chunk.iter().for_each(|(_, first)| self.payload.extend_from_slice(&first.to_le_bytes()));
                self.pages.put(&mut self.target, &self.payload)?;
            }
            assert!(level < LEVELS_MAX, "a run has fewer than 2^32 records");
            head.inner[level] = Part { start: start.into(), pages: (above.len() as u64).into(), count: (below.len() as u64).into() };
            level += 1;
            below = above;
        }
        head.levels = (level as u32).into();
        let summaries: Vec<StoredSummary> = summaries.iter().map(Summary::stored).collect();
        head.summaries = self.put_all(&summaries, SUMMARIES_PER_PAGE)?;
        let tables: Vec<U32> = tables.iter().map(|offset| U32::new(*offset)).collect();
        head.tables = self.put_all(&tables, OFFSETS_PER_PAGE)?;
        let zones: Vec<StoredZone> = zones.iter().map(|zone| (*zone).into()).collect();
        head.zones = self.put_all(&zones, ZONES_PER_PAGE)?;
        let entry = |head: &BucketHead| HeadEntry {
            bucket: head.bucket.into(),
            reserved: [0; 6],
            count: head.count.into(),
            position: head.position.into(),
            link: head.link.0,
        };
        let heads: Vec<HeadEntry> = heads.iter().map(entry).collect();
        head.heads = self.put_all(&heads, HEADS_PER_PAGE)?;
        self.pages.flush(&mut self.target)?;
        let mut first = vec![0; align(size_of::<RunHead>() as u64, PAGE_BYTES as u64) as usize];
        first[..size_of::<RunHead>()].copy_from_slice(head.as_bytes());
        // Its own salt is in it, so its checksum is bound to none.
        seal(&mut first, Seed::new(&[0; 16]), 0);
        self.target.write_at(&first, 0)?;
        Ok(self.target)
    }

    fn put_all<T: IntoBytes + zerocopy::Immutable>(&mut self, all: &[T], per_page: usize) -> io::Result<Part> {
        let start = self.pages.next();
        for some in all.chunks(per_page) {
            self.pages.put(&mut self.target, some.as_bytes())?;
        }
        Ok(Part { start: start.into(), pages: (self.pages.next() - start).into(), count: (all.len() as u64).into() })
    }
}
