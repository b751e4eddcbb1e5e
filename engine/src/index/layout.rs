//! How a run lies in its file. Private to this version of the engine: a run that it does not know is made anew.
//!
//! | pages | what |
//! |---|---|
//! | 1 | head: which segments, and where the other parts are |
//! | filter | blocks of 64 bytes, in the order of the keys; a key has six bits in the block that its upper bits name |
//! | leaves | entries in the order of (key, first position): keys, first positions, ends of lists, lists |
//! | inner pages | the first entry of each page of the level below, up to a single page |
//! | summaries | one for every segment |
//! | tables | position tables of all segments, one behind the other: offsets of every eighth frame, in units of 8 bytes |
//! | zones | those of all segments, one behind the other: claimed times of every 64 records (`zone`) |
//! | heads | last record of every bucket at the end of the last segment |
//!
//! A list holds the distances of an entry's further positions, each less one, as LEB128. An entry takes as many as fit into `LIST_BYTES_MAX`; the next
//! entry with the same key goes on. So a list of any length can be entered anywhere, and nothing is ever longer than a page. Where the end of a list
//! has its upper bit set, positions come with the offsets of their frames: the first one begins the list, and each distance is followed by one. An
//! offset is that of the frame in its file, in units of 8 bytes, and holds while the segment has the salt that its summary names.

use chainring_format::footer::HeadEntry;
use chainring_format::segment::SegmentHeader;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::page::PAYLOAD_BYTES;

pub(super) const MAGIC: [u8; 8] = *b"CHRIDX\r\n";
pub(super) const VERSION: u32 = 4;

/// Bits of the filter for every key.
pub(super) const FILTER_BITS_PER_KEY: u64 = 11;
pub(super) const FILTER_BLOCK_BYTES: usize = 64;
pub(super) const FILTER_BLOCKS_PER_PAGE: usize = PAYLOAD_BYTES / FILTER_BLOCK_BYTES;
/// Bits of a key in its block.
pub(super) const FILTER_PROBES: u32 = 6;

/// Count of entries, and 2 bytes that are zero.
pub(super) const LEAF_HEAD_BYTES: usize = 4;
/// Key, first position, end of the list.
pub(super) const LEAF_ENTRY_BYTES: usize = 8 + 4 + 2;
pub(super) const LIST_BYTES_MAX: usize = 512;

/// In the end of a list: positions come with offsets.
pub(super) const WITH_OFFSETS: u16 = 1 << 15;

/// Pages that an inner page leads to: a key and a first position each.
pub(super) const FANOUT: usize = (PAYLOAD_BYTES - LEAF_HEAD_BYTES) / 12;
/// 340^5 leaves are more than any run has.
pub(super) const LEVELS_MAX: usize = 5;

/// A stretch of pages and the things in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Part {
    pub start: U64,
    pub pages: U64,
    /// Blocks, entries, pages, summaries or heads in it.
    pub count: U64,
}

/// The first page of a run.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RunHead {
    pub magic: [u8; 8],
    pub version: U32,
    pub levels: U32,
    pub log_id: [u8; 32],
    pub key_seed: [u8; 16],
    /// Binds the checksums of the other pages to this run.
    pub salt: [u8; 16],
    pub first_segment: U64,
    pub last_segment: U64,
    pub first_position: U64,
    pub next_position: U64,
    pub filter: Part,
    pub leaves: Part,
    /// From the pages above the leaves to the root. None if there is one leaf or none.
    pub inner: [Part; LEVELS_MAX],
    pub summaries: Part,
    pub tables: Part,
    pub zones: Part,
    pub heads: Part,
}

/// The earliest and the latest claimed second.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct StoredZone {
    pub earliest: I64,
    pub latest: I64,
}

/// What opening needs to know of a segment without reading it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct StoredSummary {
    pub number: U64,
    pub first_position: U64,
    pub next_position: U64,
    pub epoch: U64,
    /// The latest recorded_at of its records.
    pub time_ns: U64,
    /// The highest watermark that its trailers state, and the offset of the trailer that does.
    pub watermark: U64,
    pub watermark_offset: U64,
    /// Streams that begin in it.
    pub streams: U64,
    /// 1 if its last commit says that the log was closed.
    pub is_closed: U32,
    pub reserved: U32,
    pub commit_digest: [u8; 32],
    pub claimed: StoredZone,
    /// Of the segment's file, when the run was made.
    pub header: SegmentHeader,
}

pub(super) const SUMMARIES_PER_PAGE: usize = PAYLOAD_BYTES / size_of::<StoredSummary>();
pub(super) const OFFSETS_PER_PAGE: usize = PAYLOAD_BYTES / 4;
pub(super) const ZONES_PER_PAGE: usize = PAYLOAD_BYTES / size_of::<StoredZone>();
pub(super) const HEADS_PER_PAGE: usize = PAYLOAD_BYTES / size_of::<HeadEntry>();

/// The block of a filter with so many of them that a key belongs to. In the order of keys, so that a filter can be written as keys come.
pub(super) fn filter_block(key: u64, blocks: u64) -> u64 {
    ((u128::from(key) * u128::from(blocks)) >> 64) as u64
}

/// The bits of a key in its block: six numbers below 512, from the lower bits of the key.
pub(super) fn filter_bits(key: u64) -> impl Iterator<Item = usize> {
    let mixed = u64::from(key as u32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 10;
    (0..FILTER_PROBES).map(move |probe| (mixed >> (probe * 9) & 511) as usize)
}

/// Puts a number in as LEB128.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the front of `bytes`; `None` where they end inside it, or it is too large.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

const _: () = assert!(size_of::<RunHead>() <= PAYLOAD_BYTES && FANOUT == 340);
