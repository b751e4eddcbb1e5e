//! Reading the commits of one segment, strictly: every checksum, every length, every padding byte (FORMAT.md section 4).
//!
//! Works on bytes in memory and knows no files. It never panics and never reads outside of what it was given.

use chainring_format::checksum::Seed;
use chainring_format::commit::{CommitTrailer, PADDING_BYTE, TRAILER_BYTES, TRAILER_MAGIC};
use chainring_format::frame::FrameView;
use chainring_format::segment::SegmentHeader;
use chainring_format::{Mark, Violation, align};

/// A place where the bytes are not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Offset in the file of the frame or block that is wrong.
    pub offset: u64,
    /// Where the structure itself begins, inside that block: what comes before it in the file holds.
    pub place: u64,
    /// What is wrong is a frame, not padding, a trailer, or the lack of anything.
    pub in_frame: bool,
    /// Frames of the same commit that stand before it and are valid by themselves.
    pub frames_before: u64,
    pub violation: Violation,
}

/// Padding that is there and wrong.
pub(crate) const BAD_PADDING: Violation = Violation { rule: "C1", why: "a padding byte is not FF" };
/// The file ends inside padding that is right as far as it is there.
pub(crate) const CUT_PADDING: Violation = Violation { rule: "C1", why: "padding is cut short" };
const NOTHING_VALID: Violation = Violation { rule: "C1", why: "neither frame nor padding nor trailer stands here" };

/// A frame and where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed<'a> {
    pub offset: u64,
    pub frame: FrameView<'a>,
}

/// A commit whose checksums and structure hold.
#[derive(Debug, Clone)]
pub(crate) struct Commit<'a> {
    pub trailer: CommitTrailer,
    /// Offset of the block in which its trailer begins.
    pub trailer_block: u64,
    /// Offset behind the commit.
    pub end: u64,
    pub frames: Vec<Placed<'a>>,
}

/// Walks the commits of a segment.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    /// Offset in the file of the first of them.
    base: u64,
    seed: Seed,
    block_bytes: u64,
    /// Where commits must have ended.
    limit: u64,
    at: u64,
    /// Valid frames of the commit that [`Cursor::next_commit`] last failed in.
    broken: Vec<Placed<'a>>,
}

impl<'a> Cursor<'a> {
    /// Starts at the first commit. `bytes` is the file from its beginning, as far as it may be read.
    pub(crate) fn new(bytes: &'a [u8], header: &SegmentHeader) -> Cursor<'a> {
        let block_bytes = u64::from(header.block_bytes.get());
        let limit = header.segment_bytes.get().min(bytes.len() as u64);
        Cursor { bytes, base: 0, seed: Seed::new(&header.salt), block_bytes, limit, at: header.start(), broken: Vec::new() }
    }

    /// Starts at an offset where a commit begins; `bytes` is the file from there on, as far as it was read.
    pub(crate) fn from_offset(bytes: &'a [u8], header: &SegmentHeader, at: u64) -> Cursor<'a> {
        let limit = header.segment_bytes.get().min(at + bytes.len() as u64);
        Cursor { base: at, at, limit, ..Cursor::new(bytes, header) }
    }

    /// Continues at an offset where a commit begins.
    pub(crate) fn resume(bytes: &'a [u8], header: &SegmentHeader, at: u64) -> Cursor<'a> {
        Cursor { at, ..Cursor::new(bytes, header) }
    }

    /// Offset of the next commit.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    /// The bytes from an offset on; empty beyond the end.
    fn from(&self, offset: u64) -> &'a [u8] {
        let (start, end) = (offset.wrapping_sub(self.base), self.limit.saturating_sub(self.base));
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// What stands at the cursor.
    pub(crate) fn mark(&self) -> Mark {
        Mark::of(self.bytes.get((self.at - self.base) as usize..).unwrap_or_default())
    }

    /// Frames, valid by themselves, that stand before the place where the last call of [`Cursor::next_commit`] failed.
    pub(crate) fn broken_commit(&self) -> &[Placed<'a>] {
        &self.broken
    }

    /// Reads the commit at the cursor and steps over it. On an error the cursor stays where it was.
    pub(crate) fn next_commit(&mut self) -> Result<Commit<'a>, Bad> {
        let mut frames = Vec::new();
        match self.read_commit(&mut frames) {
            Ok((trailer, end)) => {
                self.at = end;
                let trailer_block = (end - TRAILER_BYTES as u64) / self.block_bytes * self.block_bytes;
                Ok(Commit { trailer, trailer_block, end, frames })
            }
            Err((place, violation)) => {
                let frames_before = frames.len() as u64;
                self.broken = frames;
                let in_frame = violation.rule.starts_with('F');
                let offset = if in_frame || violation == NOTHING_VALID { place } else { place / self.block_bytes * self.block_bytes };
                Err(Bad { offset, place, in_frame, frames_before, violation })
            }
        }
    }

    /// The commit at the cursor: its trailer, its end, and its frames as far as they are valid.
    fn read_commit(&self, frames: &mut Vec<Placed<'a>>) -> Result<(CommitTrailer, u64), (u64, Violation)> {
        let mut at = self.at;
        loop {
            let trailer_offset = align(at + TRAILER_BYTES as u64, self.block_bytes) - TRAILER_BYTES as u64;
            match Mark::of(self.from(at)) {
                Mark::Frame(_) => {
                    let frame = FrameView::parse(self.from(at), self.seed.mask(at)).map_err(|violation| (at, violation))?;
                    frames.push(Placed { offset: at, frame });
                    at += u64::from(frame.header.frame_bytes.get());
                }
                Mark::Padding => {
                    self.check_padding(at, trailer_offset)?;
                    return self.trailer(trailer_offset, frames.len());
                }
                Mark::Trailer if at == trailer_offset => return self.trailer(trailer_offset, frames.len()),
                _ if at == trailer_offset && self.is_trailer_but_for_its_magic(at, frames.len()) => {
                    return Err((at, Violation { rule: "C4", why: "neither a frame nor the trailer stands here" }));
                }
                // With the commit's own trailer in place, what is damaged in front of it is padding; else anything may have stood here.
                _ if at != self.at && self.is_trailer_but_for_its_magic(trailer_offset, frames.len()) => return Err((at, BAD_PADDING)),
                _ => return Err((at, NOTHING_VALID)),
            }
        }
    }

    /// Whether this is the trailer of the commit at the cursor, had its first bytes not changed. If not, a frame may have stood here as well.
    fn is_trailer_but_for_its_magic(&self, offset: u64, count: usize) -> bool {
        let Some(mut bytes) = self.from(offset).first_chunk::<TRAILER_BYTES>().copied() else { return false };
        bytes[..4].copy_from_slice(&TRAILER_MAGIC.to_le_bytes());
        CommitTrailer::parse(&bytes, self.seed, offset).is_ok_and(|trailer| self.is_own(&trailer, offset, count))
    }

    fn is_own(&self, trailer: &CommitTrailer, offset: u64, count: usize) -> bool {
        trailer.commit_bytes.get() == offset + TRAILER_BYTES as u64 - self.at && trailer.count.get() as usize == count
    }

    /// Rule C1: bytes `FF` from `at` up to the trailer.
    fn check_padding(&self, at: u64, trailer_offset: u64) -> Result<(), (u64, Violation)> {
        let padding = self.from(at);
        let there = padding.len().min((trailer_offset - at) as usize);
        match padding[..there].iter().position(|&b| b != PADDING_BYTE) {
            Some(wrong) => Err((at + wrong as u64, BAD_PADDING)),
            None if there as u64 == trailer_offset - at => Ok(()),
            None => Err((at, CUT_PADDING)),
        }
    }

    /// Rule C4: the trailer at this offset, of the commit at the cursor, which has `count` frames. Also gives the commit's end.
    fn trailer(&self, offset: u64, count: usize) -> Result<(CommitTrailer, u64), (u64, Violation)> {
        let trailer = CommitTrailer::parse(self.from(offset), self.seed, offset).map_err(|violation| (offset, violation))?;
        if !self.is_own(&trailer, offset, count) {
            return Err((offset, Violation { rule: "C4", why: "the trailer counts other bytes or frames than its commit has" }));
        }
        Ok((trailer, offset + TRAILER_BYTES as u64))
    }

    /// Valid trailers at block ends at or behind the cursor, with their offsets, wherever damage lies: evidence of what was durable. Also where no commit can
    /// end: who has put one there has changed the file.
    pub(crate) fn trailers_behind(&self) -> impl Iterator<Item = (u64, CommitTrailer)> + use<'a> {
        let (seed, block, bytes, base) = (self.seed, self.block_bytes, self.bytes, self.base);
        let first = self.at + block;
        (first..=base + bytes.len() as u64).step_by(block as usize).filter_map(move |end| {
            let offset = end - TRAILER_BYTES as u64;
            Some((offset, CommitTrailer::parse(bytes.get((offset - base) as usize..(end - base) as usize)?, seed, offset).ok()?))
        })
    }
}
