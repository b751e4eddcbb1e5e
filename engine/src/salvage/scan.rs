//! Finding every structure of a segment that holds, wherever damage lies.
//!
//! Walks frames, padding and trailers as they follow each other; where nothing valid stands it goes on in steps of 8 bytes until something does.
//! What is found is a row of [`Cell`]s, ascending and without overlap. Always: lengths are bounded before they are used, and the work is bounded
//! by the number of bytes, whatever they say. Absent: meaning - positions, links and streams are for others.

use std::ops::Range;

use chainring_format::checksum::{Seed, crc};
use chainring_format::commit::{CommitTrailer, PADDING_BYTE, TRAILER_BYTES};
use chainring_format::footer::{self, FooterHeader};
use chainring_format::frame::{FLAG_SALTED, FRAME_HEADER_BYTES, FrameHeader, FrameView, is_known_kind};
use chainring_format::limits::{BLOCK_BYTES_MAX, PACKED_BLOCK_BYTES};
use chainring_format::segment::HEADER_BYTES;
use chainring_format::{Mark, align};
use zerocopy::FromBytes;

/// What a candidate of a few words costs is not counted: it is a small multiple of its step.
const CHEAP_BYTES: usize = 4096;

/// What stands in a range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A frame whose two checksums hold.
    Frame,
    /// A frame whose header, name and metadata hold and whose body does not: the record is lost, but not what it was.
    Bodyless,
    /// A commit trailer; the padding before it holds too.
    Trailer,
    /// Nothing valid.
    Gap,
}

/// A range of bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub what: What,
    pub offset: u64,
    pub end: u64,
    /// Position of the record, if it can be told.
    pub position: Option<u64>,
    /// Records may have been lost in this gap or, where it is none, before this place.
    pub loses: bool,
}

impl Cell {
    pub(super) fn gap(offset: u64, end: u64) -> Cell {
        Cell { what: What::Gap, offset, end, position: None, loses: false }
    }

    pub(super) fn is_record(&self) -> bool {
        matches!(self.what, What::Frame | What::Bodyless)
    }
}

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub cells: Vec<Cell>,
    /// The footer that ends the segment, and its offset, which is the segment's end.
    pub footer: Option<(u64, FooterHeader)>,
}

/// Bytes that may still be summed up in vain. A file can be made so that every 8 bytes of it claim to begin a frame of a megabyte; summing all of
/// them up would take its length squared.
#[derive(Debug)]
pub(super) struct Effort {
    left: u64,
}

impl Effort {
    pub(super) fn for_bytes(bytes: u64) -> Effort {
        Effort { left: 64 * bytes }
    }

    pub(super) fn allows(&self, bytes: usize) -> bool {
        bytes <= CHEAP_BYTES || self.left > 0
    }

    /// Counts bytes that were summed up and proved nothing.
    pub(super) fn spend(&mut self, bytes: usize) {
        if bytes > CHEAP_BYTES {
            self.left = self.left.saturating_sub(bytes as u64);
        }
    }
}

/// The header of a frame that may stand here, its lengths agreeing, and the bytes up to its body slot.
pub(super) fn stated_frame(bytes: &[u8]) -> Option<(&FrameHeader, usize)> {
    let (header, _) = FrameHeader::ref_from_prefix(bytes).ok()?;
    header.stated_bytes()?;
    let is_known = is_known_kind(header.kind) && header.flags & !FLAG_SALTED == 0;
    is_known.then(|| (header, FRAME_HEADER_BYTES + header.name_bytes.get() as usize + header.metadata_bytes.get() as usize))
}

/// Scans `range` of a file. `block_bytes` is `None` where the header that knew it is gone; then everything up to the first structure is one gap.
pub(super) fn scan(bytes: &[u8], seed: Seed, block_bytes: Option<u64>, range: Range<u64>) -> Scan {
    let end = range.end.min(bytes.len() as u64);
    let grid = block_bytes.unwrap_or(PACKED_BLOCK_BYTES.into());
    let effort = Effort::for_bytes(end.saturating_sub(range.start));
    let mut scanner = Scanner { bytes: &bytes[..end as usize], seed, grid, is_sure: block_bytes.is_some(), effort };
    let mut found = Scan::default();
    let mut at = range.start;
    let mut gap = None;
    if block_bytes.is_none() {
        (gap, at) = (Some(range.start), range.start.max(HEADER_BYTES as u64));
    }
    let close = |gap: &mut Option<u64>, cells: &mut Vec<Cell>, at| cells.extend(gap.take().map(|start| Cell::gap(start, at)));
    while at < end {
        match scanner.structure(at, gap.is_none()) {
            Found::Cell(what, next) => {
                close(&mut gap, &mut found.cells, at);
                found.cells.push(Cell { what, offset: at, end: next, position: None, loses: false });
                at = next;
            }
            Found::Padding(trailer) => at = trailer,
            Found::Footer(header) => {
                found.footer = Some((at, header));
                break;
            }
            Found::Nothing(from) => {
                gap.get_or_insert(from);
                at = from + 8;
            }
        }
    }
    close(&mut gap, &mut found.cells, at.min(end));
    found
}

/// What stands at a place.
enum Found {
    /// A structure, and the offset behind it.
    Cell(What, u64),
    /// Padding, whole, and the trailer behind it, which holds.
    Padding(u64),
    Footer(FooterHeader),
    /// Nothing valid from this offset on, which is this place or lies in the padding that begins here.
    Nothing(u64),
}

struct Scanner<'a> {
    bytes: &'a [u8],
    seed: Seed,
    /// Trailers end at multiples of this.
    grid: u64,
    /// The grid is the block, and not only a divisor of it.
    is_sure: bool,
    effort: Effort,
}

impl Scanner<'_> {
    fn from(&self, offset: u64) -> &[u8] {
        self.bytes.get(offset as usize..).unwrap_or_default()
    }

    /// `steady`: what stands before this place holds, so padding may begin here.
    fn structure(&mut self, at: u64, steady: bool) -> Found {
        let found = match Mark::of(self.from(at)) {
            Mark::Frame(_) => self.frame(at),
            Mark::Trailer if self.is_trailer(at) => Some(Found::Cell(What::Trailer, at + TRAILER_BYTES as u64)),
            Mark::Footer if at.is_multiple_of(self.grid) => self.footer(at),
            Mark::Padding if steady => return self.padding(at),
            _ => None,
        };
        found.unwrap_or(Found::Nothing(at))
    }

    fn frame(&mut self, at: u64) -> Option<Found> {
        let bytes = self.bytes.get(at as usize..)?;
        let (header, head_bytes) = stated_frame(bytes)?;
        if head_bytes > bytes.len() || !self.effort.allows(head_bytes) {
            return None;
        }
        let mask = self.seed.mask(at);
        let end = (at + u64::from(header.frame_bytes.get())).min(self.bytes.len() as u64);
        if FrameView::parse(bytes, mask).is_ok() {
            return Some(Found::Cell(What::Frame, end));
        }
        if header.header_crc.get() != crc(&bytes[12..head_bytes]) ^ mask {
            self.effort.spend(head_bytes);
            return None;
        }
        // The length is proven: whatever the body looks like inside, nothing of it is a structure of this segment.
        Some(Found::Cell(What::Bodyless, end))
    }

    fn is_trailer(&self, at: u64) -> bool {
        let end = at + TRAILER_BYTES as u64;
        end.is_multiple_of(self.grid)
            && CommitTrailer::parse(self.from(at), self.seed, at).is_ok_and(|trailer| {
                (1..=end).contains(&trailer.commit_bytes.get()) && trailer.commit_bytes.get().is_multiple_of(self.grid)
            })
    }

    fn footer(&mut self, at: u64) -> Option<Found> {
        let bytes = self.bytes.get(at as usize..)?;
        let (header, _) = FooterHeader::ref_from_prefix(bytes).ok()?;
        let stated = usize::try_from(header.footer_bytes.get()).ok().filter(|stated| *stated <= bytes.len())?;
        if header.end_offset.get() != at || !self.effort.allows(stated) {
            return None;
        }
        match footer::parse(bytes, self.seed, at) {
            Ok(header) => Some(Found::Footer(header)),
            Err(_) => {
                self.effort.spend(stated);
                None
            }
        }
    }

    /// Padding up to the trailer, which is where the block says or, where that is not known, where the padding stops.
    fn padding(&self, at: u64) -> Found {
        let reach =
            if self.is_sure { align(at + TRAILER_BYTES as u64, self.grid) - TRAILER_BYTES as u64 } else { at + u64::from(BLOCK_BYTES_MAX) };
        let padding = self.from(at);
        let padding = &padding[..padding.len().min((reach - at) as usize)];
        let right = padding.iter().take_while(|&&byte| byte == PADDING_BYTE).count();
        let stop = (at + right as u64) / 8 * 8;
        if self.is_trailer(stop) { Found::Padding(stop) } else { Found::Nothing(stop) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::seed::find_salt;
    use super::*;

    #[test]
    fn a_file_that_claims_a_megabyte_every_few_bytes_costs_no_more_than_its_length() {
        // Lengths that agree, every 24 bytes: metadata of a megabyte, a short body.
        let (metadata, body) = ((1 << 20) - 64, 40_u32);
        let frame = align(120 + u64::from(metadata) + u64::from(body), 8) as u32;
        let mut claim = [0_u8; 24];
        for (at, number) in [(0, frame), (12, metadata), (16, body), (20, 16 << 16)] {
            claim[at..at + 4].copy_from_slice(&u32::to_le_bytes(number));
        }
        let bytes = claim.repeat((16 << 20) / claim.len());
        assert!(stated_frame(&bytes).is_some() && stated_frame(&bytes[24..]).is_some());
        let started = Instant::now();
        let found = scan(&bytes, Seed::new(&[7; 16]), Some(512), 512..bytes.len() as u64);
        assert!(found.cells.len() == 1 && find_salt(&bytes, &(0..=u64::MAX)).is_none());
        assert!(started.elapsed().as_secs() < 20, "summing up every claim takes minutes: {:?}", started.elapsed());
    }
}
