//! Where a segment ends that no later header speaks of: what stands behind its last commit is judged as recovery would judge it (FORMAT.md section 9).
//!
//! One thing more is asked than recovery asks: whether the writer ended the segment itself. Then everything in it had been synced, and what looks
//! like a torn write is damage.

use std::collections::HashSet;

use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::footer::{POSITION_STRIDE, footer_bytes};
use chainring_format::frame::FrameView;
use chainring_format::limits::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, SEGMENT_BYTES_MAX};
use chainring_format::segment::SegmentHeader;
use zerocopy::FromZeros;

use super::books::Books;
use super::scan::{Cell, What};
use crate::error::Watermark;
use crate::segment::{Cursor, Tail, judge, reserved_bytes};

/// What is known of the segment behind the one in hand.
pub(super) enum Successor<'a> {
    /// There is none.
    None,
    Header(&'a SegmentHeader),
    /// There was one; the epoch is that of the first commit found in it.
    Lost {
        epoch: Option<u64>,
    },
}

/// A segment without a named end.
pub(super) struct Unnamed<'a> {
    pub header: SegmentHeader,
    /// The header is a stand-in: nothing but its salt can be relied on.
    pub is_stand_in: bool,
    pub behind: &'a Successor<'a>,
    pub file_bytes: u64,
    pub bytes: &'a [u8],
    pub trailers: &'a [(u64, CommitTrailer)],
    /// Highest watermark found in the segments before.
    pub watermark: u64,
}

/// How a segment ends.
pub(super) enum End {
    /// At this offset, with nothing behind it.
    Whole(u64),
    /// At this offset; what stands behind it was never acknowledged.
    Torn { end: u64, cut_bytes: u64 },
    /// Nobody knows where. `was_ended`: all of the file had been written.
    Damaged { was_ended: bool },
}

/// The verdict on everything behind the last commits that hold.
pub(super) fn judge_end(unnamed: &Unnamed<'_>, cells: &[Cell], books: &Books) -> End {
    let Unnamed { header, bytes, trailers, .. } = unnamed;
    // Where nothing at all is left of the segment behind, not even its epoch, recovery's verdict stands.
    // A live segment has its full length, so a last one that is shorter was closed or sealed, which comes after the last sync; and one that goes on
    // in the next segment in the same epoch was sealed.
    let was_ended = match unnamed.behind {
        Successor::None => !is_reserved(unnamed.file_bytes) && !was_being_sealed(unnamed, cells, books),
        Successor::Lost { epoch } => epoch.is_some() && *epoch == trailers.last().map(|(_, trailer)| trailer.epoch.get()),
        Successor::Header(_) => false,
    };
    let start = (!unnamed.is_stand_in).then(|| (header.start(), header.first_position.get()));
    let ends = broken_ends(start, trailers, cells);
    let before = unnamed.watermark.max(header.first_position.get());
    let watermark = trailers.iter().map(|(_, trailer)| trailer.watermark.get()).fold(before, u64::max);
    // As recovery would, from the first place that does not hold; and, where that is damage, from the first one that may never have been
    // acknowledged: a writer can be killed in a store that is damaged elsewhere.
    let behind_watermark = ends.iter().copied().find(|(_, position)| *position >= watermark);
    for (end, position) in ends.first().copied().into_iter().chain(behind_watermark) {
        let mut cursor = Cursor::resume(bytes, header, end);
        let Err(bad) = cursor.next_commit() else { continue };
        match judge(bytes, header, &cursor, bad, position, &mut Watermark::known(before)) {
            Tail::Empty | Tail::Footer(_) => return End::Whole(end),
            Tail::Torn { cut_bytes, .. } if !was_ended => return End::Torn { end, cut_bytes },
            Tail::Torn { .. } | Tail::Damaged(_) => {}
        }
    }
    End::Damaged { was_ended }
}

/// Whether the file is as long as its last commit and the one right footer behind it: then only the footer can be torn.
fn was_being_sealed(unnamed: &Unnamed<'_>, cells: &[Cell], books: &Books) -> bool {
    let Some((offset, trailer)) = unnamed.trailers.last().filter(|_| !unnamed.is_stand_in) else { return false };
    let Some(records) = trailer.next_position().checked_sub(unnamed.header.first_position.get()) else { return false };
    let frames = cells.iter().filter(|cell| cell.what == What::Frame);
    let here = frames.filter_map(|cell| Some(FrameView::peek(&unnamed.bytes[cell.offset as usize..])?.bucket()));
    let heads = books.buckets().chain(here).collect::<HashSet<u16>>().len();
    let offsets = records.div_ceil(POSITION_STRIDE) as usize;
    unnamed.file_bytes == offset + TRAILER_BYTES as u64 + footer_bytes(heads, offsets)
}

/// Whether a file has the length of a live segment of some size.
fn is_reserved(file_bytes: u64) -> bool {
    let unit = u64::from(BLOCK_BYTES_MIN);
    let (mut low, mut high) = (1, SEGMENT_BYTES_MAX / unit);
    while low < high {
        let middle = low + (high - low) / 2;
        if reserved_bytes(middle * unit) < file_bytes { low = middle + 1 } else { high = middle }
    }
    reserved_bytes(low * unit) == file_bytes
}

/// The ends of commits behind which no whole commit follows, each with the position behind it.
fn broken_ends(start: Option<(u64, u64)>, trailers: &[(u64, CommitTrailer)], cells: &[Cell]) -> Vec<(u64, u64)> {
    let end_of = |(offset, trailer): &(u64, CommitTrailer)| (offset + TRAILER_BYTES as u64, trailer.next_position());
    let ends = start.into_iter().chain(trailers.iter().map(end_of));
    let following = trailers.iter().skip(usize::from(start.is_none())).map(Some).chain([None]);
    let is_broken = |(end, next): (u64, Option<&(u64, CommitTrailer)>)| {
        let Some((offset, trailer)) = next else { return true };
        let inside = &cells[cells.partition_point(|cell| cell.offset < end)..];
        offset + TRAILER_BYTES as u64 - end != trailer.commit_bytes.get()
            || inside.iter().take_while(|cell| cell.offset < *offset).any(|cell| cell.what != What::Frame)
    };
    ends.zip(following).filter(|((end, _), next)| is_broken((*end, *next))).map(|(end, _)| end).collect()
}

/// A header for a segment that lost its own: with what can be inferred, and otherwise as wide as may be.
pub(super) fn stand_in(salt: [u8; 16], block_bytes: Option<u64>, trailers: &[(u64, CommitTrailer)]) -> SegmentHeader {
    // Every commit begins and ends at a multiple of the block.
    let edges = trailers.iter().fold(0, |edges, (offset, trailer)| edges | (offset + TRAILER_BYTES as u64) | trailer.commit_bytes.get());
    let widest = 1 << edges.trailing_zeros().clamp(BLOCK_BYTES_MIN.trailing_zeros(), BLOCK_BYTES_MAX.trailing_zeros());
    let block_bytes = block_bytes.filter(|block| edges.is_multiple_of(*block)).unwrap_or(widest);
    let mut header = SegmentHeader::new_zeroed();
    header.block_bytes = (block_bytes as u32).into();
    header.segment_bytes = SEGMENT_BYTES_MAX.into();
    header.salt = salt;
    header
}
