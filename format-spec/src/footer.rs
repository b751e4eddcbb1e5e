//! Segment footer (FORMAT.md section 5): derived from the commits before it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::align;
use crate::checksum::{Seed, crc};
use crate::ids::Link;
use crate::limits::ENGINE_LANE;
use crate::violation::Violation;

/// First four bytes of a footer ("FTR\xF1").
pub const FOOTER_MAGIC: u32 = 0xF152_5446;
/// Last eight bytes of a footer.
pub const FOOTER_TAIL_MAGIC: [u8; 8] = *b"CHRFTR\r\n";
/// Positions between two entries of the position table: half a byte an event, at most seven frames to step over.
pub const POSITION_STRIDE: u64 = 8;

/// Head of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)] // FORMAT.md section 5 has the meaning of every field.
pub struct FooterHeader {
    pub magic: U32,
    pub footer_crc: U32,
    pub footer_bytes: U64,
    pub end_offset: U64,
    pub next_position: U64,
    pub head_count: U32,
    pub stride: U32,
    pub offset_count: U32,
    pub reserved: [u8; 4],
    pub commit_digest: [u8; 32],
    pub reserved_b: [u8; 16],
}

/// One bucket's head at the segment's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct HeadEntry {
    pub bucket: U16,
    pub reserved: [u8; 6],
    pub count: U64,
    pub position: U64,
    pub link: [u8; 32],
}

/// Last 16 bytes of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct FooterTail {
    pub footer_bytes: U64,
    pub magic: [u8; 8],
}

const HEADER_BYTES: u64 = size_of::<FooterHeader>() as u64;
const HEAD_BYTES: u64 = size_of::<HeadEntry>() as u64;
const TAIL_BYTES: u64 = size_of::<FooterTail>() as u64;
const _: () = assert!(HEADER_BYTES == 96 && HEAD_BYTES == 56 && TAIL_BYTES == 16);

/// Last record of a bucket, as a footer states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketHead {
    /// 0..=4096.
    pub bucket: u16,
    /// Records in the bucket so far.
    pub count: u64,
    /// Position of the last one.
    pub position: u64,
    /// Its link.
    pub link: Link,
}

/// Bytes of a footer with this many heads and position table entries.
#[must_use]
pub fn footer_bytes(head_count: usize, offset_count: usize) -> u64 {
    align(HEADER_BYTES + HEAD_BYTES * head_count as u64 + 4 * offset_count as u64, 8) + TAIL_BYTES
}

/// Length that the header of a footer at file offset `offset` states, if its lengths agree with each other; `bytes` starts there. Its checksum is not
/// asked: most of the footer may never have been written (FORMAT.md section 9).
#[must_use]
pub fn stated_bytes(bytes: &[u8], offset: u64) -> Option<u64> {
    let (header, _) = FooterHeader::ref_from_prefix(bytes).ok()?;
    let (heads, offsets) = (header.head_count.get(), header.offset_count.get());
    let agrees = header.magic.get() == FOOTER_MAGIC
        && heads <= u32::from(ENGINE_LANE) + 1
        && header.footer_bytes.get() == footer_bytes(heads as usize, offsets as usize)
        && header.end_offset.get() == offset;
    agrees.then_some(header.footer_bytes.get())
}

/// What a footer is built from.
#[derive(Debug)]
pub struct FooterContent<'a> {
    /// The segment's end, where the footer stands.
    pub end_offset: u64,
    /// Position after the segment's last record.
    pub next_position: u64,
    /// Digest of the segment's last commit.
    pub commit_digest: &'a [u8; 32],
    /// Heads of all buckets that hold a record, sorted by bucket.
    pub heads: &'a [BucketHead],
    /// File offsets / 8 of every eighth frame.
    pub offsets: &'a [u32],
}

/// The bytes of a footer (rule T1: there is only one right footer).
#[must_use]
pub fn encode(content: &FooterContent<'_>, seed: Seed) -> Vec<u8> {
    let total = footer_bytes(content.heads.len(), content.offsets.len());
    let mut bytes = Vec::with_capacity(total as usize);
    let header = FooterHeader {
        magic: FOOTER_MAGIC.into(),
        footer_crc: 0.into(),
        footer_bytes: total.into(),
        end_offset: content.end_offset.into(),
        next_position: content.next_position.into(),
        head_count: (content.heads.len() as u32).into(),
        stride: (POSITION_STRIDE as u32).into(),
        offset_count: (content.offsets.len() as u32).into(),
        reserved: [0; 4],
        commit_digest: *content.commit_digest,
        reserved_b: [0; 16],
    };
    bytes.extend_from_slice(header.as_bytes());
    for head in content.heads {
        let entry = HeadEntry {
            bucket: head.bucket.into(),
            reserved: [0; 6],
            count: head.count.into(),
            position: head.position.into(),
            link: head.link.0,
        };
        bytes.extend_from_slice(entry.as_bytes());
    }
    for offset in content.offsets {
        bytes.extend_from_slice(&offset.to_le_bytes());
    }
    bytes.resize((total - TAIL_BYTES) as usize, 0);
    let tail = FooterTail { footer_bytes: total.into(), magic: FOOTER_TAIL_MAGIC };
    bytes.extend_from_slice(tail.as_bytes());
    let sum = crc(&bytes[8..]) ^ seed.mask(content.end_offset);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Checks length and checksum of the footer at file offset `offset` and returns its header; `bytes` starts there. Whether it says what is right is
/// seen by comparing it with [`encode`].
///
/// # Errors
/// Rule T1 and what is wrong.
pub fn parse(bytes: &[u8], seed: Seed, offset: u64) -> Result<FooterHeader, Violation> {
    let t1 = |why| Violation::new("T1", why);
    let (header, _) = FooterHeader::read_from_prefix(bytes).map_err(|_| t1("footer is cut short"))?;
    if header.magic.get() != FOOTER_MAGIC {
        return Err(t1("footer magic differs"));
    }
    let total = header.footer_bytes.get();
    if total < footer_bytes(0, 0) || total % 8 != 0 || total > bytes.len() as u64 {
        return Err(t1("footer length is out of bounds"));
    }
    let bytes = &bytes[..total as usize];
    if header.footer_crc.get() != crc(&bytes[8..]) ^ seed.mask(offset) {
        return Err(t1("footer checksum differs"));
    }
    Ok(header)
}
