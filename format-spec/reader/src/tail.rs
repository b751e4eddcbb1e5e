//! Section 9: what the bytes behind the last valid commit of a segment mean.
//!
//! Always: only looks; the whole tail is read once, in pieces of bounded size.
//! Never: decides between torn and corrupt by anything but the document's evidence: watermarks found behind the end, and sectors that are all zero.

use crate::Error;
use crate::bytes::{align_up, all_zero, u32_at, u64_at};
use crate::commit::{FOOTER_MAGIC, Layout, TRAILER_BYTES, parse_trailer};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::window::Window;

const SECTOR_BYTES: u64 = 512;
/// A multiple of every block size.
const PIECE_BYTES: u64 = 1 << 18;

pub(crate) const FOOTER_HEADER_BYTES: u64 = 96;
/// Header and tail, without the tables.
pub(crate) const FOOTER_BYTES_FIXED: u64 = FOOTER_HEADER_BYTES + 16;

/// What stands at the end of a segment that no successor describes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tail {
    /// End of file, or only zeros.
    Empty,
    /// A footer whose checksum holds.
    Footer,
    /// Bytes of a commit that never came to be.
    Torn,
    /// Acknowledged bytes that are gone or changed.
    Damaged(&'static str),
}

/// Judges the tail behind `end`, the end of the last valid commit; `bad` is where the bad structure begins and `next_position` is P of section 9.
pub(crate) fn judge(window: &mut Window, layout: &Layout, end: u64, bad: u64, next_position: u64) -> Result<Tail, Error> {
    if footer_holds(window, layout, end)? && zero_behind_footer(window, layout, end)? {
        return Ok(Tail::Footer);
    }
    let evidence = read_tail(window, layout, end, bad)?;
    Ok(if evidence.is_empty {
        Tail::Empty
    } else if evidence.watermark > next_position {
        Tail::Damaged("acknowledged records behind it are beyond reach")
    } else if evidence.has_hole {
        Tail::Torn
    } else {
        Tail::Damaged("it was fully written, then changed")
    })
}

/// A footer stands at `offset` and its own checksum holds.
pub(crate) fn footer_holds(window: &mut Window, layout: &Layout, offset: u64) -> Result<bool, Error> {
    let Some(bytes) = window.get(offset, FOOTER_HEADER_BYTES as usize)? else { return Ok(false) };
    let (magic, stored, footer_bytes) = (u32_at(bytes, 0), u32_at(bytes, 4), u64_at(bytes, 8));
    let bounds = FOOTER_BYTES_FIXED..=footer_bytes_max(layout.segment_bytes);
    if magic != FOOTER_MAGIC || !bounds.contains(&footer_bytes) || footer_bytes % 8 != 0 {
        return Ok(false);
    }
    let Some(bytes) = window.get(offset, footer_bytes as usize)? else { return Ok(false) };
    Ok(layout.masks.checksum(offset, &bytes[8..]) == stored)
}

/// Only zeros stand behind the footer at `offset`, which holds.
fn zero_behind_footer(window: &mut Window, layout: &Layout, offset: u64) -> Result<bool, Error> {
    let footer_bytes = window.get(offset, FOOTER_HEADER_BYTES as usize)?.map_or(0, |bytes| u64_at(bytes, 8));
    let stop = window.file_bytes().min(layout.segment_bytes + footer_bytes_max(layout.segment_bytes));
    let mut here = offset + footer_bytes;
    let mut is_zero = true;
    while here < stop && is_zero {
        let count = PIECE_BYTES.min(stop - here);
        window.hold(here);
        is_zero = window.get(here, count as usize)?.is_none_or(all_zero);
        here += count;
    }
    window.hold(offset);
    Ok(is_zero)
}

/// Largest footer a segment can have: every bucket, and an entry for every eighth of the smallest frames.
fn footer_bytes_max(segment_bytes: u64) -> u64 {
    FOOTER_BYTES_FIXED + 4097 * 56 + align_up(segment_bytes / 152 / 8 * 4 + 4, 8)
}

struct Evidence {
    is_empty: bool,
    /// Highest watermark of a valid trailer behind the end.
    watermark: u64,
    /// A sector of the region is all zero, or the file ends inside the region.
    has_hole: bool,
}

/// Where the bad structure ends by what it says of itself: a frame and everything unknown with a trailer behind it, a footer by itself.
fn claimed_end(window: &mut Window, layout: &Layout, end: u64, bad: u64) -> Result<u64, Error> {
    if bad == end
        && let Some(footer_bytes) = window.get(bad, FOOTER_HEADER_BYTES as usize)?.and_then(|bytes| stated_footer_bytes(bytes, end))
    {
        return Ok(end + footer_bytes);
    }
    let header = window.get(bad, FRAME_HEADER_BYTES)?.map(FrameHeader::parse);
    let frame_bytes = header.filter(|header| header.check_lengths().is_ok()).map_or(0, |header| header.frame_bytes);
    Ok((bad + u64::from(frame_bytes) + TRAILER_BYTES).min(layout.segment_bytes))
}

/// Length of a footer whose header's lengths agree with each other and with its place.
fn stated_footer_bytes(header: &[u8], offset: u64) -> Option<u64> {
    let (footer_bytes, end_offset) = (u64_at(header, 8), u64_at(header, 16));
    let (head_count, offset_count) = (u64::from(u32_at(header, 32)), u64::from(u32_at(header, 40)));
    let agrees = u32_at(header, 0) == FOOTER_MAGIC
        && head_count <= 4097
        && footer_bytes == align_up(FOOTER_HEADER_BYTES + 56 * head_count + 4 * offset_count, 8) + 16
        && end_offset == offset;
    agrees.then_some(footer_bytes)
}

/// Reads the tail once. A zero sector only lies in the region if bytes follow it, so holes count when the next byte that is not zero is seen.
fn read_tail(window: &mut Window, layout: &Layout, end: u64, bad: u64) -> Result<Evidence, Error> {
    // Nothing of this segment can stand behind its largest end and a footer there.
    let stop = window.file_bytes().min(layout.segment_bytes + footer_bytes_max(layout.segment_bytes));
    let claimed_end = claimed_end(window, layout, end, bad)?;
    let mut evidence = Evidence { is_empty: true, watermark: 0, has_hole: false };
    let (mut zero_sector_seen, mut written_end) = (false, end);
    let mut here = end;
    window.hold(here);
    while here < stop {
        let count = PIECE_BYTES.min(stop - here);
        window.hold(here);
        let Some(piece) = window.get(here, count as usize)? else { break };
        for (index, sector) in piece.chunks(SECTOR_BYTES as usize).enumerate() {
            if all_zero(sector) {
                // In front of the bad structure everything holds, zero bytes in bodies included.
                zero_sector_seen |= here + (index as u64 + 1) * SECTOR_BYTES > bad;
            } else {
                evidence.is_empty = false;
                evidence.has_hole |= zero_sector_seen;
                written_end = here + index as u64 * SECTOR_BYTES + sector.len() as u64;
            }
        }
        for (index, block) in piece.chunks_exact(layout.block_bytes as usize).enumerate() {
            let at = block.len() - TRAILER_BYTES as usize;
            let offset = here + index as u64 * layout.block_bytes + at as u64;
            if let Ok(trailer) = parse_trailer(&block[at..], offset, &layout.masks) {
                evidence.watermark = evidence.watermark.max(trailer.watermark);
            }
        }
        here += count;
    }
    // The region is rounded up to whole blocks; what lies between is zero, or not in the file at all.
    let region_end = align_up(written_end.max(claimed_end), layout.block_bytes);
    evidence.has_hole |= region_end > window.file_bytes() || region_end - written_end >= SECTOR_BYTES;
    Ok(evidence)
}
