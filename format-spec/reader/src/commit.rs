//! Step 3 for one commit (FORMAT.md section 4): from its first byte to its trailer, by checksums and structure alone.
//!
//! Always: F1, F2, F3, C1 and C4 hold for every commit returned; the frames that held before the first bad structure are listed even when one is found.
//! Never: hashes, and never looks at other commits.

use crate::bytes::{Hash, align_down, align_up, all_zero, array_at, u32_at, u64_at};
use crate::finding::{Check, Finding, StreamRef};
use crate::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MIN, FRAME_HEADER_BYTES, Frame, FrameHeader, KIND_EVENT, Slot};
use crate::hash::Masks;
use crate::header::Header;
use crate::window::Window;

pub(crate) const TRAILER_BYTES: u64 = 160;
const PADDING: u32 = 0xFFFF_FFFF;
const TRAILER_MAGIC: u32 = 0xF154_4D43;
pub(crate) const FOOTER_MAGIC: u32 = 0xF152_5446;
const FLAG_CLOSED: u32 = 1;

/// What the walk needs to know of the segment around a commit.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) block_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) masks: Masks,
}

impl Layout {
    pub(crate) fn of(header: &Header) -> Self {
        Layout { block_bytes: header.block_bytes, segment_bytes: header.segment_bytes, masks: header.masks() }
    }

    /// Where the trailer stands if padding or the trailer itself begins at `here`.
    fn trailer_at(&self, here: u64) -> u64 {
        align_up(here + TRAILER_BYTES, self.block_bytes) - TRAILER_BYTES
    }
}

/// A commit trailer whose own bytes hold.
#[derive(Clone, Debug)]
pub(crate) struct Trailer {
    pub(crate) offset: u64,
    pub(crate) first_position: u64,
    pub(crate) count: u32,
    pub(crate) closed: bool,
    pub(crate) commit_bytes: u64,
    pub(crate) watermark: u64,
    pub(crate) time_ns: u64,
    pub(crate) epoch: u64,
    pub(crate) previous_digest: Hash,
    pub(crate) digest: Hash,
}

impl Trailer {
    pub(crate) fn end(&self) -> u64 {
        self.offset + TRAILER_BYTES
    }
}

/// Where a frame stands, and whether its body is there.
#[derive(Clone, Copy)]
pub(crate) struct FrameAt {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    pub(crate) slot: Slot,
}

/// C4, as far as the 160 bytes show it alone.
pub(crate) fn parse_trailer(bytes: &[u8], offset: u64, masks: &Masks) -> Result<Trailer, &'static str> {
    if u32_at(bytes, 0) != TRAILER_MAGIC {
        return Err("the trailer's magic is wrong");
    }
    if u32_at(bytes, 4) != masks.checksum(offset, &bytes[8..160]) {
        return Err("the trailer's checksum is wrong");
    }
    let flags = u32_at(bytes, 20);
    if flags & !FLAG_CLOSED != 0 || !all_zero(&bytes[56..64]) || !all_zero(&bytes[128..160]) {
        return Err("reserved bytes or bits of the trailer are not zero");
    }
    let trailer = Trailer {
        offset,
        first_position: u64_at(bytes, 8),
        count: u32_at(bytes, 16),
        closed: flags & FLAG_CLOSED != 0,
        commit_bytes: u64_at(bytes, 24),
        watermark: u64_at(bytes, 32),
        time_ns: u64_at(bytes, 40),
        epoch: u64_at(bytes, 48),
        previous_digest: array_at(bytes, 64),
        digest: array_at(bytes, 96),
    };
    let Some(next_position) = trailer.first_position.checked_add(u64::from(trailer.count)) else {
        return Err("the positions of the commit do not fit 64 bits");
    };
    if trailer.watermark > next_position {
        return Err("the watermark lies beyond the commit");
    }
    Ok(trailer)
}

/// Reads the commit that starts at `start`; `position` is that of its first frame. `frames` is emptied and then filled with what held.
pub(crate) fn read_commit(window: &mut Window, layout: &Layout, start: u64, position: u64, frames: &mut Vec<FrameAt>) -> Check<Trailer> {
    frames.clear();
    window.hold(start);
    let mut here = start;
    loop {
        let next = position.saturating_add(frames.len() as u64);
        let Some(word) = window.get(here, 4)?.map(|bytes| u32_at(bytes, 0)) else {
            let cut = |rule| Finding::cut(rule, here, "the file ends inside a commit");
            let is_trailer = here == layout.trailer_at(here);
            return Err(if is_trailer { cut("C4").blaming(align_down(here, layout.block_bytes)) } else { cut("C1") }.into());
        };
        match word {
            FRAME_BYTES_MIN..=FRAME_BYTES_MAX if word % 8 == 0 && here < layout.segment_bytes => {
                let frame = read_frame(window, layout, here, next)?;
                here += u64::from(frame.bytes);
                frames.push(frame);
            }
            PADDING => {
                check_padding(window, layout, here)?;
                return read_trailer(window, layout, layout.trailer_at(here), start, frames.len());
            }
            TRAILER_MAGIC if layout.trailer_at(here) == here => return read_trailer(window, layout, here, start, frames.len()),
            FOOTER_MAGIC if here == start => return Err(Finding::corrupt("T1", here, "the footer's checksum is wrong").into()),
            _ => return Err(diagnose(window, layout, start, here, frames.len())?.into()),
        }
    }
}

/// F1, F2 and F3 of the frame at `here`.
fn read_frame(window: &mut Window, layout: &Layout, here: u64, position: u64) -> Check<FrameAt> {
    let cut = || Finding::cut("F1", here, "the file ends inside a frame").at_position(position);
    let Some(bytes) = window.get(here, FRAME_HEADER_BYTES)? else { return Err(cut().into()) };
    let header = FrameHeader::parse(bytes);
    let frame_bytes = header.frame_bytes;
    let f1 = |why: &str| Finding::corrupt("F1", here, why).at_position(position);
    header.check_lengths().map_err(f1)?;
    if here + u64::from(frame_bytes) + TRAILER_BYTES > layout.segment_bytes {
        return Err(f1("the frame leaves no room for a trailer in its segment").into());
    }
    let Some(bytes) = window.get(here, frame_bytes as usize)? else { return Err(cut().into()) };
    let frame = Frame::cut(bytes);
    if !frame.header_holds(here, &layout.masks) {
        return Err(Finding::corrupt("F2", here, "the frame header's checksum is wrong").at_position(position).into());
    }
    let bad = |rule, why: &str| Finding::corrupt(rule, here, why).at_position(position).in_stream(stream_of(&frame));
    frame.check_reserved().map_err(|why| bad("F2", why))?;
    let Some(slot) = frame.slot_state(here, &layout.masks) else {
        return Err(bad("F3", "the body's checksum is wrong").into());
    };
    if !frame.slot_filling_is_zero(slot) {
        return Err(bad("F3", "the body slot's filling is not zero").into());
    }
    Ok(FrameAt { offset: here, bytes: frame_bytes, slot })
}

/// The stream a frame with a right header checksum says it belongs to.
pub(crate) fn stream_of(frame: &Frame<'_>) -> Option<StreamRef> {
    if frame.header.kind != KIND_EVENT {
        return None;
    }
    let name = std::str::from_utf8(frame.name).ok().filter(|name| !name.is_empty()).map(str::to_owned);
    Some(StreamRef { id: frame.header.stream_id, name })
}

/// C1: bytes `FF` from `here` to the trailer.
fn check_padding(window: &mut Window, layout: &Layout, here: u64) -> Check<()> {
    let end = layout.trailer_at(here);
    // What is there of it comes first in the file, before its being cut off.
    let there = end.min(window.file_bytes()).saturating_sub(here);
    let Some(bytes) = window.get(here, there as usize)? else { return Err(cut_padding(layout, here).into()) };
    match bytes.iter().position(|byte| *byte != 0xFF) {
        Some(at) => Err(bad_padding(layout, here + at as u64).into()),
        None if here + there < end => Err(cut_padding(layout, here).into()),
        None => Ok(()),
    }
}

fn cut_padding(layout: &Layout, here: u64) -> Finding {
    Finding::cut("C1", here, "the file ends inside padding").blaming(align_down(here, layout.block_bytes))
}

fn bad_padding(layout: &Layout, place: u64) -> Finding {
    Finding::corrupt("C1", place, "a padding byte is not FF").blaming(align_down(place, layout.block_bytes))
}

/// C4 of the trailer at `offset`, for a commit that began at `start` and has `count` frames.
fn read_trailer(window: &mut Window, layout: &Layout, offset: u64, start: u64, count: usize) -> Check<Trailer> {
    let block = align_down(offset, layout.block_bytes);
    let Some(bytes) = window.get(offset, TRAILER_BYTES as usize)? else {
        return Err(Finding::cut("C4", offset, "the file ends inside a trailer").blaming(block).into());
    };
    let bad = |rule, why: &str| Finding::corrupt(rule, offset, why).blaming(block);
    let trailer = parse_trailer(bytes, offset, &layout.masks).map_err(|why| bad("C4", why))?;
    if trailer.end() > layout.segment_bytes {
        return Err(bad("C1", "the commit ends beyond segment_bytes").into());
    }
    if trailer.commit_bytes != trailer.end() - start {
        return Err(bad("C4", "commit_bytes is not the commit's length").into());
    }
    if trailer.count as usize != count {
        return Err(bad("C4", "count is not the number of the commit's frames").into());
    }
    Ok(trailer)
}

/// Names what is wrong where nothing valid stands. If the trailer of this very commit follows in the same block, then only padding or the trailer's
/// magic can have stood here; else a frame did.
fn diagnose(window: &mut Window, layout: &Layout, start: u64, here: u64, count: usize) -> Check<Finding> {
    let offset = layout.trailer_at(here);
    if let Some(bytes) = window.get(offset, TRAILER_BYTES as usize)? {
        let mut repaired: [u8; TRAILER_BYTES as usize] = array_at(bytes, 0);
        repaired[..4].copy_from_slice(&TRAILER_MAGIC.to_le_bytes());
        let own = parse_trailer(&repaired, offset, &layout.masks)
            .is_ok_and(|trailer| trailer.count as usize == count && trailer.commit_bytes == trailer.end() - start);
        if own && offset == here {
            return Ok(Finding::corrupt("C4", here, "the trailer's magic is wrong").blaming(align_down(here, layout.block_bytes)));
        }
        if own && let Some(padding) = window.get(here, (offset - here) as usize)? {
            let at = padding.iter().position(|byte| *byte != 0xFF).unwrap_or(0);
            return Ok(bad_padding(layout, here + at as u64));
        }
    }
    Ok(Finding::corrupt("C1", here, "neither a frame, padding nor a trailer stands here"))
}
