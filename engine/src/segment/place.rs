//! Placing frames and trailers into the image of the live segment, and writing commits from it as they lie.

use std::io;
use std::ops::Range;

use chainring_format::align;
use chainring_format::checksum::Seed;
use chainring_format::commit::{CommitTrailer, PADDING_BYTE, TRAILER_BYTES};
use chainring_format::frame::FrameFields;
use chainring_format::segment::SegmentHeader;
use zerocopy::IntoBytes;

use super::image::{Image, ImageWriter};
use super::{Ground, Segment};
use crate::disk::DiskFile;
use crate::sync::Arc;

/// The one who appends to the live segment.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    seed: Seed,
    image: ImageWriter,
    segment: Arc<Segment>,
    ground: Arc<Ground>,
    /// Where the commit under construction starts.
    commit_start: u64,
    /// Commits below this were taken to be written.
    taken_end: u64,
}

impl SegmentWriter {
    /// Continues a segment whose first bytes, up to a commit's end, are `existing`, in an empty image of the segment's size; `ready_to` is how far the
    /// file holds zeros that were written.
    pub(crate) fn new(
        file: Arc<dyn DiskFile>,
        header: SegmentHeader,
        mut image: ImageWriter,
        existing: &[u8],
        ready_to: u64,
        offsets: Vec<u32>,
    ) -> SegmentWriter {
        image.place(existing.len(), |room| room.copy_from_slice(existing));
        image.show();
        let end = existing.len() as u64;
        assert!(end.is_multiple_of(u64::from(header.block_bytes.get())), "a segment is continued at a commit's end");
        let segment = Arc::new(Segment::live(&header, Arc::clone(image.image()), offsets));
        let ground = Arc::new(Ground::new(Arc::clone(&file), end, ready_to.max(end), header.segment_bytes.get()));
        SegmentWriter { file, header, seed: Seed::new(&header.salt), image, segment, ground, commit_start: end, taken_end: end }
    }

    /// Goes on in another image, which holds the first bytes of this one already.
    pub(crate) fn move_to(&mut self, mut image: ImageWriter) {
        let placed = self.image.image().placed();
        let rest = &placed[image.end()..];
        image.place(rest.len(), |room| room.copy_from_slice(rest));
        image.show();
        self.segment = Arc::new(Segment::live(&self.header, Arc::clone(image.image()), self.segment.offsets()));
        self.image = image;
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Offset behind everything placed; at a commit's end, the segment's end.
    pub(crate) fn end(&self) -> u64 {
        self.image.end() as u64
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    fn block(&self) -> u64 {
        self.header.block_bytes.get().into()
    }

    /// Whether the commit under construction can take this many bytes of frames more. One block is always kept for the closing commit.
    pub(crate) fn has_room(&self, frames_bytes: u64) -> bool {
        align(self.end() + frames_bytes + TRAILER_BYTES as u64, self.block()) + self.block() <= self.header.segment_bytes.get()
    }

    /// Places the frame of the record at `position`.
    pub(crate) fn place_frame(&mut self, position: u64, fields: &FrameFields<'_>) {
        let offset = self.end();
        let mask = self.seed.mask(offset);
        self.image.place(fields.frame_bytes() as usize, |room| fields.encode(room, mask));
        self.segment.note_offset(position, offset);
    }

    /// Closes the commit under construction: padding, then its trailer in the last bytes of its last block.
    ///
    /// `trailer` lacks what only this place knows: length, checksum and magic.
    pub(crate) fn place_trailer(&mut self, mut trailer: CommitTrailer) {
        let end = align(self.end() + TRAILER_BYTES as u64, self.block());
        let offset = end - TRAILER_BYTES as u64;
        self.image.place((offset - self.end()) as usize, |room| room.fill(PADDING_BYTE));
        trailer.commit_bytes = (end - self.commit_start).into();
        let trailer = trailer.sealed(self.seed, offset);
        self.image.place(TRAILER_BYTES, |room| room.copy_from_slice(trailer.as_bytes()));
        self.commit_start = end;
    }

    /// Where the closed commits lie that nobody has taken yet, in the file as in the image; the caller hands them to the file.
    pub(crate) fn take_closed(&mut self) -> Range<usize> {
        let closed = self.taken_end as usize..self.commit_start as usize;
        self.taken_end = self.commit_start;
        if !closed.is_empty() {
            self.ground.enter(closed.len() as u64, self.commit_start);
        }
        closed
    }

    pub(crate) fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    /// The image that commits are written from.
    pub(crate) fn image(&self) -> &Arc<Image> {
        self.image.image()
    }

    /// Hands closed commits to the file, without making them durable. An error is final: nothing is known about what was written.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let closed = self.take_closed();
        if closed.is_empty() {
            return Ok(());
        }
        self.ground.settle();
        // pwrite(segment, commits, start)
        self.file.write_all_at(&self.image.image().placed()[closed.clone()], closed.start as u64)
    }

    /// Makes everything that was handed over durable. An error is final.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // fdatasync(segment)
        self.file.sync_data()
    }
}

/// Bytes of the one commit that exists before its segment does: a single frame at position 0 behind this header.
pub(crate) fn lone_commit(header: &SegmentHeader, fields: &FrameFields<'_>, mut trailer: CommitTrailer) -> Vec<u8> {
    let (seed, start) = (Seed::new(&header.salt), u64::from(header.block_bytes.get()));
    let mut bytes = vec![0; fields.frame_bytes() as usize];
    fields.encode(&mut bytes, seed.mask(start));
    let commit_bytes = align((bytes.len() + TRAILER_BYTES) as u64, start);
    bytes.resize(commit_bytes as usize - TRAILER_BYTES, PADDING_BYTE);
    trailer.commit_bytes = commit_bytes.into();
    bytes.extend_from_slice(trailer.sealed(seed, start + bytes.len() as u64).as_bytes());
    bytes
}
