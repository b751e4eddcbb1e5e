//! L2: one file of commits. Where its frames are, how they are read, placed, sealed and how its successor is prepared.
//!
//! Always: a segment's bytes below its end never change (but for erasure). Never: policy, heads, waiting.

use std::collections::BTreeMap;

use chainring_format::checksum::Seed;
use chainring_format::commit::TRAILER_BYTES;
use chainring_format::footer::POSITION_STRIDE;
use chainring_format::frame::FrameView;
use chainring_format::limits::PACKED_BLOCK_BYTES;
use chainring_format::segment::{HEADER_BYTES, SegmentHeader, file_name};
use chainring_format::{Mark, Violation, align};

use crate::disk::{DiskFile, Region};
use crate::error::{Fault, FaultKind, OpenError, ReadError};
use crate::sync::{Arc, OnceLock, RwLock, read, write};

mod buffer;
pub(crate) mod cursor;
mod frames;
mod ground;
mod image;
mod pack;
mod place;
mod prepare;
mod tail;
mod unread;

pub(crate) use buffer::{Again, FileBuffer, Pace, ReadFailure, read_start};
pub(crate) use cursor::{BAD_PADDING, Bad, CUT_PADDING, Commit, Cursor, Placed};
pub(crate) use frames::Frames;
pub(crate) use ground::{Ground, Zeros};
pub(crate) use image::{Image, ImageFollower, ImageWriter, RetiredImages};
pub(crate) use pack::{Packed, pack};
pub(crate) use place::{SegmentWriter, lone_commit};
pub(crate) use prepare::{NewSegment, Predecessor, Reserved, reserved_bytes, spare_number};
pub(crate) use tail::{Tail, closing_commit, judge};
pub(crate) use unread::{PositionTables, Unread, open_segment};

/// Bytes on disk of a record, about.
const RECORD_BYTES_USUAL: u64 = 384;
/// More are not expected before they were seen.
const RECORDS_MAX_GUESSED: u64 = 1 << 18;

/// Records in so many bytes of a segment, about: for making room before they are read.
pub(crate) fn records_guessed(bytes: u64) -> usize {
    (bytes / RECORD_BYTES_USUAL).min(RECORDS_MAX_GUESSED) as usize
}

/// Where the bytes of a segment are.
#[derive(Debug)]
enum Source {
    /// On disk, immutable.
    Sealed(Region),
    /// In memory, growing.
    Live(Arc<Image>),
}

/// What it takes to read a segment.
#[derive(Debug)]
struct Body {
    block_bytes: u64,
    salt: [u8; 16],
    seed: Seed,
    source: Source,
    /// File offset / 8 of every eighth frame. Of a segment that [`Unread`] opened, once frames were often asked for by their positions alone.
    offsets: OnceLock<RwLock<Vec<u32>>>,
}

/// One segment, as readers see it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub number: u64,
    pub first_position: u64,
    footer_bytes: u64,
    body: OnceLock<Body>,
    /// Of one that nobody has read yet: how to get at it.
    unread: Option<Unread>,
}

impl Segment {
    /// A segment that is not written any more; `region` ends where its commits end.
    pub(crate) fn sealed(header: &SegmentHeader, region: Region, footer_bytes: u64, offsets: Vec<u32>) -> Segment {
        Segment::new(header, footer_bytes, OnceLock::from(Body::with_offsets(header, Source::Sealed(region), offsets)), None)
    }

    pub(crate) fn live(header: &SegmentHeader, image: Arc<Image>, offsets: Vec<u32>) -> Segment {
        Segment::new(header, 0, OnceLock::from(Body::with_offsets(header, Source::Live(image), offsets)), None)
    }

    /// A sealed segment that is opened when somebody reads it.
    pub(crate) fn unread(header: &SegmentHeader, unread: Unread) -> Segment {
        Segment::new(header, unread.footer_bytes, OnceLock::new(), Some(unread))
    }

    fn new(header: &SegmentHeader, footer_bytes: u64, body: OnceLock<Body>, unread: Option<Unread>) -> Segment {
        Segment { footer_bytes, number: header.number.get(), first_position: header.first_position.get(), body, unread }
    }

    fn body(&self) -> Result<&Body, ReadError> {
        self.body_of(None)
    }

    /// The same; `begun` is the segment's file, if somebody has opened it for this.
    fn body_of(&self, begun: Option<Arc<dyn DiskFile>>) -> Result<&Body, ReadError> {
        if let Some(body) = self.body.get() {
            return Ok(body);
        }
        let unread = self.unread.as_ref().expect("a segment has a body or knows how to get one");
        let body = unread.open(begun)?;
        // Two who open it at once find the same.
        Ok(self.body.get_or_init(|| body))
    }

    /// Whether it holds no padding (FORMAT.md section 3.3).
    pub(crate) fn is_packed(&self) -> bool {
        match (self.body.get(), &self.unread) {
            (Some(body), _) => body.block_bytes == u64::from(PACKED_BLOCK_BYTES),
            (None, unread) => unread.as_ref().is_some_and(Unread::is_packed),
        }
    }

    pub(crate) fn name(&self) -> String {
        file_name(self.number)
    }

    /// Bytes of header, commits and footer.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.commits_end() + self.footer_bytes
    }

    /// Offset behind the last byte that was placed; in a sealed segment, its end.
    pub(crate) fn commits_end(&self) -> u64 {
        match (self.body.get(), &self.unread) {
            (Some(body), _) => body.end(),
            (None, unread) => unread.as_ref().map_or(0, |unread| unread.end),
        }
    }

    /// The bytes from `offset` on: at least `count`, fewer where the segment, or what was placed of the live one, ends.
    pub(crate) fn read(&self, offset: u64, count: u64) -> Result<&[u8], ReadError> {
        self.body()?.read(self.number, offset, count)
    }

    /// The image of one that is being written.
    pub(crate) fn image(&self) -> Option<&Arc<Image>> {
        match &self.body.get()?.source {
            Source::Live(image) => Some(image),
            Source::Sealed(_) => None,
        }
    }

    /// Called by the writer when it places the frame at `position`.
    fn note_offset(&self, position: u64, offset: u64) {
        if (position - self.first_position).is_multiple_of(POSITION_STRIDE) {
            write(self.growing_offsets()).push(offset_entry(offset));
        }
    }

    /// Adds to the position table of a segment that somebody else writes.
    pub(crate) fn add_offsets(&self, offsets: &[u32]) {
        write(self.growing_offsets()).extend_from_slice(offsets);
    }

    /// The position table of a segment that is written, or was until a moment ago.
    pub(crate) fn offsets(&self) -> Vec<u32> {
        read(self.growing_offsets()).clone()
    }

    fn growing_offsets(&self) -> &RwLock<Vec<u32>> {
        self.body.get().and_then(|body| body.offsets.get()).expect("a live segment has a body and a position table")
    }

    /// The position table, which is looked up if nobody has asked for it yet.
    fn known_offsets<'a>(&'a self, body: &'a Body) -> Result<&'a RwLock<Vec<u32>>, ReadError> {
        if let Some(offsets) = body.offsets.get() {
            return Ok(offsets);
        }
        let unread = self.unread.as_ref().expect("a segment has a position table or knows how to get one");
        let offsets = unread.offsets(body)?;
        // Two who look it up at once find the same.
        Ok(body.offsets.get_or_init(|| offsets.into()))
    }

    /// File offset of the frame at `position`, which this segment holds and which lies apart from what was read before.
    pub(crate) fn locate(&self, position: u64) -> Result<u64, ReadError> {
        self.step_to(position, self.mark_before(position)?)
    }

    /// The same from a mark before it on.
    fn step_to(&self, position: u64, (mut at, mut steps): (u64, u64)) -> Result<u64, ReadError> {
        let body = self.body()?;
        let (mut start, mut bytes): (u64, &[u8]) = (at, &[]);
        loop {
            // What was handed out mostly reaches beyond the next mark.
            let mut rest = bytes.get((at - start) as usize..).unwrap_or_default();
            if (rest.len() as u64) < MARK_BYTES {
                (start, bytes) = (at, body.read_apart(self.number, at, MARK_BYTES)?);
                rest = bytes;
            }
            let mark = Mark::of(rest);
            if let Mark::Frame(_) = mark {
                let Some(left) = steps.checked_sub(1) else { return Ok(at) };
                steps = left;
            }
            at = body.behind(mark, at).ok_or_else(|| self.damaged(at, position, NO_FRAME))?;
        }
    }

    /// What lies between a mark and the frame so many behind it, about, where it is on a disk.
    fn steps(&self, (mark, frames): (u64, u64)) -> Option<(&Region, u64, u64)> {
        match &self.body.get()?.source {
            Source::Sealed(region) => Some((region, mark, (frames + 1) * RECORD_BYTES_USUAL)),
            Source::Live(_) => None,
        }
    }

    /// File offset of the last frame at or before `position` that the position table has, and how many frames there are from it on.
    fn mark_before(&self, position: u64) -> Result<(u64, u64), ReadError> {
        let ahead = position - self.first_position;
        let body = self.body()?;
        let unread = self.unread.as_ref().filter(|_| body.offsets.get().is_none());
        let mark = match unread.and_then(|unread| unread.mark_before(position, body)) {
            Some(mark) => Some(mark),
            None => read(self.known_offsets(body)?).get((ahead / POSITION_STRIDE) as usize).copied(),
        };
        let offset = u64::from(mark.ok_or_else(|| self.damaged(0, position, NO_FRAME))?) * 8;
        Ok((offset, ahead % POSITION_STRIDE))
    }

    fn damaged(&self, offset: u64, position: u64, violation: Violation) -> ReadError {
        ReadError::Damaged(Fault::new(FaultKind::Corrupt, self.name(), offset, violation).at_position(position))
    }
}

impl Body {
    fn new(header: &SegmentHeader, source: Source) -> Body {
        Body {
            block_bytes: header.block_bytes.get().into(),
            salt: header.salt,
            seed: Seed::new(&header.salt),
            source,
            offsets: OnceLock::new(),
        }
    }

    fn with_offsets(header: &SegmentHeader, source: Source, offsets: Vec<u32>) -> Body {
        Body { offsets: OnceLock::from(RwLock::new(offsets)), ..Body::new(header, source) }
    }

    /// Offset behind the last byte that was placed; of a sealed segment, where its commits end.
    fn end(&self) -> u64 {
        match &self.source {
            Source::Sealed(region) => region.bytes() as u64,
            Source::Live(image) => image.placed().len() as u64,
        }
    }

    /// Offset behind what stands at an offset; `None` if no more frames follow there.
    fn behind(&self, mark: Mark, offset: u64) -> Option<u64> {
        match mark {
            Mark::Frame(frame_bytes) => Some(offset + u64::from(frame_bytes)),
            Mark::Padding => Some(align(offset + TRAILER_BYTES as u64, self.block_bytes)),
            Mark::Trailer => Some(offset + TRAILER_BYTES as u64),
            Mark::Footer | Mark::Nothing => None,
        }
    }

    fn read(&self, number: u64, offset: u64, count: u64) -> Result<&[u8], ReadError> {
        match &self.source {
            Source::Sealed(region) => region.read(offset, count).map_err(|(offset, source)| ReadError::Io {
                segment: file_name(number),
                offset,
                source: Arc::new(source),
            }),
            Source::Live(image) => Ok(image.placed().get(offset as usize..).unwrap_or_default()),
        }
    }

    /// As [`Body::read`], of bytes whose neighbours nobody asks for.
    fn read_apart(&self, number: u64, offset: u64, count: u64) -> Result<&[u8], ReadError> {
        match &self.source {
            Source::Sealed(region) => region.read_apart(offset, count).map_err(|(offset, source)| ReadError::Io {
                segment: file_name(number),
                offset,
                source: Arc::new(source),
            }),
            Source::Live(_) => self.read(number, offset, count),
        }
    }
}

/// Files that are open at a time while their headers are on their way: a process may not have many.
const BEGUN_MAX: usize = 32;
/// What is brought in of a frame before it is read: most are no longer.
const TOUCHED_BYTES: usize = 512;
const CACHE_LINE_BYTES: usize = 64;

/// Enough to tell what stands at a place.
const MARK_BYTES: u64 = 4;

const NO_FRAME: Violation = Violation { rule: "C1", why: "no frame where the position table says" };

/// What is wrong with a segment that has lost its end.
pub(crate) const SHORTENED: Violation = Violation { rule: "S1", why: "the segment is shorter than its successor says" };

/// An offset as the position table stores it.
pub(crate) fn offset_entry(offset: u64) -> u32 {
    u32::try_from(offset / 8).expect("SEGMENT_BYTES_MAX keeps offsets in 32 bits of 8 bytes")
}

/// A position, and the offset of its frame where that is known: it holds if the segment's salt is the one that comes with it.
pub(crate) type Found = (u64, Option<(u64, [u8; 16])>);

/// Where a frame is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub position: u64,
    /// Index in the catalog.
    pub segment: usize,
    /// Offset in the file.
    pub offset: u64,
}

/// All segments of a store at some moment, in order. Cheap to hold; a view keeps one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    segments: Vec<Arc<Segment>>,
    /// Position of the first record of each: looked through for every frame that is asked for.
    starts: Vec<u64>,
}

impl Catalog {
    pub(crate) fn push(&mut self, segment: Arc<Segment>) {
        debug_assert!(
            self.segments.last().is_none_or(|last| last.number < segment.number && last.first_position <= segment.first_position)
        );
        self.starts.push(segment.first_position);
        self.segments.push(segment);
    }

    /// Puts a segment in the place of the last one: the same commits, read from elsewhere.
    pub(crate) fn replace_last(&mut self, segment: Arc<Segment>) {
        let last = self.segments.last_mut().expect("a store has a segment");
        debug_assert_eq!((last.number, last.first_position), (segment.number, segment.first_position));
        *last = segment;
    }

    /// Puts a segment in the place of the one with its number: the same commits, read from elsewhere.
    pub(crate) fn replace(&mut self, segment: Arc<Segment>) {
        if let Ok(index) = self.segments.binary_search_by_key(&segment.number, |segment| segment.number) {
            self.segments[index] = segment;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn segment(&self, index: usize) -> &Arc<Segment> {
        &self.segments[index]
    }

    /// Index of the segment that holds `position`, if it was written.
    pub(crate) fn index_of(&self, position: u64) -> usize {
        self.starts.partition_point(|start| *start <= position) - 1
    }

    /// Position at which the segment behind this one begins; `u64::MAX` if there is none.
    pub(crate) fn end_of(&self, index: usize) -> u64 {
        self.starts.get(index + 1).copied().unwrap_or(u64::MAX)
    }

    /// Where the frames at these positions are, in their order. What has to be read of files for it is brought in side by side.
    pub(crate) fn places(&self, found: &[Found]) -> Result<Vec<Place>, ReadError> {
        let segments: Vec<usize> = found.iter().map(|(position, _)| self.index_of(*position)).collect();
        self.open(&segments, found)?;
        let hinted = segments.iter().zip(found).map(|(index, (_, hint))| self.hinted(*index, *hint)).collect::<Result<Vec<_>, _>>()?;
        let all = || segments.iter().zip(found).zip(&hinted).map(|((index, (position, _)), hinted)| (*index, *position, *hinted));
        let unknown: Vec<_> = all().filter(|(.., hinted)| hinted.is_none()).map(|(index, position, _)| (index, position)).collect();
        let mut located = self.locate_all(&unknown)?.into_iter();
        let mut offset = |hinted: Option<u64>| hinted.or_else(|| located.next()).expect("what has no hint was located");
        Ok(all().map(|(segment, position, hinted)| Place { position, segment, offset: offset(hinted) }).collect())
    }

    /// Offsets of frames of which nobody knows more than the position, each in the segment with the index that comes with it: first what is needed of position
    /// tables is brought in, then what lies between the frames that stand there and the ones that are asked for.
    fn locate_all(&self, unknown: &[(usize, u64)]) -> Result<Vec<u64>, ReadError> {
        let segments = || unknown.iter().map(|(index, position)| (self.segment(*index), *position));
        // One by itself has nothing to wait beside.
        if unknown.len() < 2 {
            return segments().map(|(segment, position)| segment.locate(position)).collect();
        }
        if let Some(unread) = segments().find_map(|(segment, _)| segment.unread.as_ref()) {
            unread.tables.bring_in(&segments().map(|(_, position)| position).collect::<Vec<_>>());
        }
        let marks = segments().map(|(segment, position)| segment.mark_before(position)).collect::<Result<Vec<_>, _>>()?;
        Region::bring_in_apart(segments().zip(&marks).filter_map(|((segment, _), mark)| segment.steps(*mark)));
        segments().zip(&marks).map(|((segment, position), mark)| segment.step_to(position, *mark)).collect()
    }

    /// Opens the segments that these are in; frames whose offsets are known are on their way then, too.
    fn open(&self, segments: &[usize], found: &[Found]) -> Result<(), ReadError> {
        let mut begun = BTreeMap::new();
        for (&index, (_, hint)) in segments.iter().zip(found) {
            let segment = self.segment(index);
            let Some(unread) = segment.unread.as_ref().filter(|_| segment.body.get().is_none()) else { continue };
            if begun.len() == BEGUN_MAX {
                self.open_begun(&mut begun)?;
            }
            if let (Some(file), Some((offset, _))) = (begun.entry(index).or_insert_with(|| unread.begin()), hint) {
                file.read_soon(*offset, TOUCHED_BYTES as u64);
            }
        }
        self.open_begun(&mut begun)
    }

    /// Opens segments whose headers are on their way.
    fn open_begun(&self, begun: &mut BTreeMap<usize, Option<Arc<dyn DiskFile>>>) -> Result<(), ReadError> {
        std::mem::take(begun).into_iter().try_for_each(|(index, file)| self.segment(index).body_of(file).map(drop))
    }

    /// Where the frame at a position is.
    pub(crate) fn place(&self, (position, hint): Found) -> Result<Place, ReadError> {
        let segment = self.index_of(position);
        let offset = match self.hinted(segment, hint)? {
            Some(offset) => offset,
            None => self.segment(segment).locate(position)?,
        };
        Ok(Place { position, segment, offset })
    }

    /// The offset that comes with a position in the segment with this index, if it is of the file that is read.
    fn hinted(&self, index: usize, hint: Option<(u64, [u8; 16])>) -> Result<Option<u64>, ReadError> {
        let Some((offset, salt)) = hint else { return Ok(None) };
        Ok((self.segment(index).body()?.salt == salt).then_some(offset))
    }

    /// Brings frames that lie here and there into memory and into the cache, side by side: one after the other, each would wait alone.
    /// Returns a number that means nothing but that the work was done.
    pub(crate) fn touch(&self, places: &[Place]) -> u8 {
        let bodies = || places.iter().filter_map(|place| Some((self.segments[place.segment].body.get()?, place.offset)));
        let sealed = bodies().filter_map(|(body, offset)| match &body.source {
            Source::Sealed(region) => Some((region, offset, TOUCHED_BYTES as u64)),
            Source::Live(_) => None,
        });
        Region::bring_in_apart(sealed);
        let mut seen = 0;
        for (body, offset) in bodies() {
            // What cannot be read says so when it is asked for.
            let bytes = body.read_apart(0, offset, TOUCHED_BYTES as u64).unwrap_or_default();
            seen ^= bytes.iter().take(TOUCHED_BYTES).step_by(CACHE_LINE_BYTES).fold(0, |seen, byte| seen ^ byte);
        }
        seen
    }

    /// The frame at a place that lies apart from what was read before.
    pub(crate) fn frame_at(&self, place: Place) -> Result<FrameView<'_>, ReadError> {
        let segment = &self.segments[place.segment];
        let body = segment.body()?;
        let damaged = |violation| segment.damaged(place.offset, place.position, violation);
        let mut bytes = body.read_apart(segment.number, place.offset, MARK_BYTES)?;
        let Mark::Frame(count) = Mark::of(bytes) else { return Err(damaged(NO_FRAME)) };
        if bytes.len() < count as usize {
            bytes = body.read_apart(segment.number, place.offset, count.into())?;
        }
        FrameView::parse(bytes, body.seed.mask(place.offset)).map_err(damaged)
    }

    /// The frame at a position below everything that was placed.
    pub(crate) fn frame(&self, position: u64) -> Result<FrameView<'_>, ReadError> {
        self.frame_found((position, None))
    }

    /// The same, of a position that was found.
    pub(crate) fn frame_found(&self, found: Found) -> Result<FrameView<'_>, ReadError> {
        self.frame_at(self.place(found)?)
    }

    /// What is said of a frame whose checksums hold, and which breaks a rule.
    pub(crate) fn damaged(&self, position: u64, violation: Violation) -> ReadError {
        let segment = self.segment(self.index_of(position));
        let offset = segment.locate(position).unwrap_or_default();
        ReadError::Damaged(Fault::new(FaultKind::Tampered, segment.name(), offset, violation).at_position(position))
    }
}

/// Reads and checks the header of a segment file; `bytes` is as much of the file's beginning as there is.
pub(crate) fn read_header(bytes: &[u8], number: u64) -> Result<SegmentHeader, OpenError> {
    let fault = |violation| OpenError::Damaged(Fault::new(FaultKind::Corrupt, file_name(number), 0, violation));
    let header = SegmentHeader::parse(bytes).map_err(|violation| match violation.rule {
        "S5" => OpenError::Unsupported { what: format!("{}: {}", file_name(number), violation.why) },
        _ => fault(violation),
    })?;
    if header.number.get() != number {
        let violation = Violation { rule: "S6", why: "the header has the number of another segment" };
        return Err(OpenError::Damaged(Fault::new(FaultKind::Tampered, file_name(number), 0, violation)));
    }
    Ok(header)
}

const _: () = assert!(HEADER_BYTES.is_multiple_of(8) && TRAILER_BYTES.is_multiple_of(8), "frames stay 8-byte aligned");
