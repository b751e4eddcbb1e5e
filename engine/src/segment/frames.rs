//! Frames in order of position, one after the other.
//!
//! What a region hands out is walked through to the end of a page without asking it again. (Asking for memory ahead gains nothing: the processor does it.)

use chainring_format::commit::TRAILER_BYTES;
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
    at: Option<Place<'a>>,
}

#[derive(Debug, Clone)]
struct Place<'a> {
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

    /// The next frame, its checksums verified, and its position, which was placed.
    pub(crate) fn next_frame(&mut self) -> Result<FrameView<'a>, ReadError> {
        self.advance(Place::frame)
    }

    /// The header of the next frame, which was placed: of a file, its checksum verified; of the image that is being written, as it was put there.
    pub(crate) fn next_header(&mut self) -> Result<&'a FrameHeader, ReadError> {
        self.advance(Place::header)
    }

    fn advance<T>(&mut self, read: impl Fn(&Place<'a>) -> Result<T, Violation>) -> Result<T, ReadError> {
        let position = self.position;
        let place = match &mut self.at {
            Some(place) if position < place.end => place,
            at => at.insert(Place::of(self.catalog, position)?),
        };
        let frame_bytes = place.seek(position)?;
        let frame = read(place).map_err(|violation| place.segment.damaged(place.offset, position, violation))?;
        place.step(frame_bytes.into());
        self.position += 1;
        Ok(frame)
    }
}

impl<'a> Place<'a> {
    fn of(catalog: &'a Catalog, position: u64) -> Result<Place<'a>, ReadError> {
        let index = catalog.index_of(position);
        let segment = catalog.segment(index);
        let end = if index + 1 < catalog.len() { catalog.segment(index + 1).first_position } else { u64::MAX };
        Ok(Place { segment, body: segment.body()?, end, offset: segment.locate(position)?, bytes: &[] })
    }

    /// Goes on to where a frame begins, and has as much of it as there is; its bytes, by its mark.
    fn seek(&mut self, position: u64) -> Result<u32, ReadError> {
        loop {
            self.have(MARK_BYTES)?;
            match Mark::of(self.bytes) {
                Mark::Frame(frame_bytes) => {
                    self.have(frame_bytes.into())?;
                    return Ok(frame_bytes);
                }
                Mark::Padding => self.step(align(self.offset + TRAILER_BYTES as u64, self.body.block_bytes) - self.offset),
                Mark::Trailer => self.step(TRAILER_BYTES as u64),
                Mark::Footer | Mark::Nothing => return Err(self.segment.damaged(self.offset, position, NO_FRAME)),
            }
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

    fn step(&mut self, bytes: u64) {
        self.offset += bytes;
        self.bytes = self.bytes.get(bytes as usize..).unwrap_or_default();
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
