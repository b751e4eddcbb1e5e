//! The segment header (FORMAT.md sections 3.1 and 3.3): its layout and the rules that need no other segment, S4, S5 and S7.
//!
//! Always: a [`Header`] returned from here has a right checksum, bounds and features this reader knows.
//! Never: compares with a neighbour; that is the lineage of S6.

use crate::bytes::{Hash, align_up, all_zero, array_at, u16_at, u32_at, u64_at};
use crate::finding::{Check, Finding};
use crate::hash::{Masks, SUITE};
use crate::window::Window;

const HEADER_BYTES: usize = 256;
const MAGIC: [u8; 8] = *b"CHRSEG\r\n";
const READ_VERSION: u16 = 1;
const FEATURE_PACKED: u64 = 1;
const PACKED_BLOCK_BYTES: u32 = 8;
const BLOCK_BYTES_MIN: u32 = 512;
const BLOCK_BYTES_MAX: u32 = 65_536;
const SEGMENT_BYTES_MIN: u64 = 65_536;
const SEGMENT_BYTES_MAX: u64 = 8_589_934_592;

/// The fields of a segment header that hold by themselves.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) block_bytes: u64,
    pub(crate) number: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) epoch: u64,
    pub(crate) first_position: u64,
    pub(crate) created_at_ns: u64,
    pub(crate) salt: [u8; 16],
    pub(crate) log_id: Hash,
    pub(crate) prev_end_offset: u64,
    pub(crate) prev_footer_bytes: u64,
    pub(crate) prev_cut_bytes: u64,
    pub(crate) prev_commit_digest: Hash,
    pub(crate) prev_heads_root: Hash,
    pub(crate) packed: Option<Packed>,
}

/// What only a packed segment states.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed {
    /// Where its commits end.
    pub(crate) end: u64,
    /// Where they ended before, which is what the successor names.
    pub(crate) unpacked_end: u64,
}

impl Header {
    /// Offset of the first commit.
    pub(crate) fn start(&self) -> u64 {
        start(self.block_bytes)
    }

    /// Checksums of this segment.
    pub(crate) fn masks(&self) -> Masks {
        Masks::new(&self.salt)
    }
}

fn start(block_bytes: u64) -> u64 {
    align_up(HEADER_BYTES as u64, block_bytes)
}

/// Step 2 for one file: S4, S5 and S7.
pub(crate) fn read_header(window: &mut Window) -> Check<Header> {
    let Some(bytes) = window.get(0, HEADER_BYTES)? else {
        return Err(Finding::cut("S4", 0, "the file ends inside the segment header").into());
    };
    let header = parse(bytes)?;
    let Some(block) = window.get(0, header.start() as usize)? else {
        return Err(Finding::cut("S4", 0, "the file ends inside the header block").into());
    };
    if !all_zero(&block[HEADER_BYTES..]) {
        return Err(Finding::corrupt("S4", 0, "the header block is not filled with zeros").into());
    }
    Ok(header)
}

fn parse(bytes: &[u8]) -> Result<Header, Finding> {
    let bad = |rule, why: &str| Err(Finding::corrupt(rule, 0, why));
    if bytes[..8] != MAGIC {
        return bad("S4", "not a segment: wrong magic");
    }
    if u32_at(bytes, 8) != crc32c::crc32c(&bytes[12..HEADER_BYTES]) {
        return bad("S4", "the segment header's checksum is wrong");
    }
    // What a later version means by the other bytes is not known, so what it demands comes first.
    let (read_version, features, suite) = (u16_at(bytes, 12), u64_at(bytes, 16), bytes[24]);
    if read_version != READ_VERSION {
        return bad("S5", &format!("needs a reader of format version {read_version}, this one knows 1"));
    }
    if features & !FEATURE_PACKED != 0 {
        return bad("S5", &format!("needs unknown features {features:#x}"));
    }
    if suite != SUITE {
        return bad("S5", &format!("needs hash suite {suite}, this reader knows 1"));
    }
    if !all_zero(&bytes[25..28]) || !all_zero(&bytes[224..256]) {
        return bad("S4", "reserved header bytes are not zero");
    }
    let (block_bytes, segment_bytes) = (u32_at(bytes, 28), u64_at(bytes, 40));
    let (packed_end, unpacked_end) = (u64_at(bytes, 208), u64_at(bytes, 216));
    let packed = (features & FEATURE_PACKED != 0).then_some(Packed { end: packed_end, unpacked_end });
    if packed.is_none() && (packed_end, unpacked_end) != (0, 0) {
        return bad("S7", "the segment is not packed and states the ends of a packed one");
    }
    if packed.is_some() && block_bytes != PACKED_BLOCK_BYTES {
        return bad("S7", "block_bytes of a packed segment is not 8");
    }
    let is_block = block_bytes.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block_bytes);
    if packed.is_none() && !is_block {
        return bad("S4", "block_bytes is out of bounds");
    }
    let block_bytes = u64::from(block_bytes);
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes) || segment_bytes % block_bytes != 0 {
        return bad("S4", "segment_bytes is out of bounds or not a multiple of block_bytes");
    }
    if packed.is_some() {
        let are_aligned = packed_end.is_multiple_of(block_bytes) && unpacked_end.is_multiple_of(block_bytes);
        if !are_aligned || packed_end < start(block_bytes) || packed_end > unpacked_end || unpacked_end > segment_bytes {
            return bad("S7", "the ends of the packed segment are out of bounds");
        }
    }
    Ok(Header {
        block_bytes,
        number: u64_at(bytes, 32),
        segment_bytes,
        epoch: u64_at(bytes, 48),
        first_position: u64_at(bytes, 56),
        created_at_ns: u64_at(bytes, 64),
        salt: array_at(bytes, 72),
        log_id: array_at(bytes, 88),
        prev_end_offset: u64_at(bytes, 120),
        prev_footer_bytes: u64_at(bytes, 128),
        prev_cut_bytes: u64_at(bytes, 136),
        prev_commit_digest: array_at(bytes, 144),
        prev_heads_root: array_at(bytes, 176),
        packed,
    })
}
