//! Frames in order of position, one after the other.
//!
//! What a region hands out is walked through to the end of a page without asking it again. (Asking for memory ahead gains nothing: the processor does it.)

use chainring_format::frame::{FrameHeader, FrameView};
use chainring_format::{Mark, Violation, align};

use super::{Body, Catalog, MARK_BYTES, NO_FRAME, Segment, Source};
use crate::error::ReadError;

/// What the system throws out at once, at the least.
const PAGE_BYTES: u64 = 4096;

/// The frames of a catalog from a position on. After an error it stays where it was.
#[derive(Debug, Clone)]
pub(crate) struct Frames<'a> {
    catalog: &'a Catalog,
    /// Of the next frame.
    position: u64,
    /// Where the next frame is, or the end of the one before it, once the first was found.
    at: Option<Stand<'a>>,
}

/// Where a walk through a segment stands.
#[derive(Debug, Clone)]
struct Stand<'a> {
    segment: &'a Segment,
    body: &'a Body,
    /// Position at which the next segment begins.
    end: u64,
    offset: u64,
    /// From `offset` on, as far as was handed out.
    bytes: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(crate) fn new(catalog: &'a Catalog, position: u64) -> Frames<'a> {
        Frames { catalog, position, at: None }
    }

    /// The next frame, which was placed, its checksums verified.
    pub(crate) fn next_frame(&mut self) -> Result<FrameView<'a>, ReadError> {
        self.advance(Stand::frame)
    }

    /// The header of the next frame, which was placed: of a file, its checksum verified; of the image that is being written, as it was put there.
    pub(crate) fn next_header(&mut self) -> Result<&'a FrameHeader, ReadError> {
        self.advance(Stand::header)
    }

    fn advance<T>(&mut self, read: impl Fn(&Stand<'a>) -> Result<T, Violation>) -> Result<T, ReadError> {
        let position = self.position;
        let stand = match &mut self.at {
            Some(stand) if position < stand.end => stand,
            at => at.insert(Stand::of(self.catalog, position)?),
        };
        let end = stand.seek(position)?;
        let frame = read(stand).map_err(|violation| stand.segment.damaged(stand.offset, position, violation))?;
        stand.go_to(end);
        self.position += 1;
        Ok(frame)
    }
}

impl<'a> Stand<'a> {
    fn of(catalog: &'a Catalog, position: u64) -> Result<Stand<'a>, ReadError> {
        let index = catalog.index_of(position);
        let segment = catalog.segment(index);
        Ok(Stand { segment, body: segment.body()?, end: catalog.end_of(index), offset: segment.locate(position)?, bytes: &[] })
    }

    /// Goes on to where a frame begins, and has as much of it as there is; where it ends, by its mark.
    fn seek(&mut self, position: u64) -> Result<u64, ReadError> {
        loop {
            self.have(MARK_BYTES)?;
            let mark = Mark::of(self.bytes);
            let end = self.body.behind(mark, self.offset).ok_or_else(|| self.segment.damaged(self.offset, position, NO_FRAME))?;
            if let Mark::Frame(frame_bytes) = mark {
                self.have(frame_bytes.into())?;
                return Ok(end);
            }
            self.go_to(end);
        }
    }

    /// Asks for bytes that were not handed out yet. No more than to the end of a page is kept: whoever takes his time over each frame comes to pages
    /// that the system may have thrown out again, and they have to be asked for then.
    fn have(&mut self, count: u64) -> Result<(), ReadError> {
        if (self.bytes.len() as u64) < count {
            let bytes = self.body.read(self.segment.number, self.offset, count)?;
            let kept = align(self.offset + count, PAGE_BYTES) - self.offset;
            self.bytes = bytes.get(..kept as usize).unwrap_or(bytes);
        }
        Ok(())
    }

    fn go_to(&mut self, offset: u64) {
        self.bytes = self.bytes.get((offset - self.offset) as usize..).unwrap_or_default();
        self.offset = offset;
    }

    fn frame(&self) -> Result<FrameView<'a>, Violation> {
        FrameView::parse(self.bytes, self.body.seed.mask(self.offset))
    }

    fn header(&self) -> Result<&'a FrameHeader, Violation> {
        match &self.body.source {
            Source::Live(_) => FrameView::peek(self.bytes).map(|frame| frame.header).ok_or(NO_FRAME),
            Source::Sealed(_) => FrameView::checked_header(self.bytes, self.body.seed.mask(self.offset)),
        }
    }
}
