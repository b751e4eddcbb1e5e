//! From the files of a store to the state the sequencer and the readers start from (FORMAT.md section 9).
//!
//! Segments that are in the index are taken as their headers and the index describe them. Every commit of the others is read, and heads and ids are
//! rebuilt from them. Refuses what may have been acknowledged and is damaged. Never writes; `begin` does.

use std::path::Path;

use chainring_format::checksum::Seed;
use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::frame::{FrameView, genesis_origin};
use chainring_format::hash::Hash;
use chainring_format::segment::{SegmentHeader, file_name, number_of};
use chainring_format::{Link, Mark, Violation};

use super::heads::{Birth, Buckets, Directory, STRETCH, StreamHead, name_rest};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Fault, FaultKind, OpenError, Watermark};
use crate::index::{Index, Summary};
use crate::segment::{
    Again, Bad, Catalog, Commit, Cursor, FileBuffer, Frames, PositionTables, SHORTENED, Segment, Tail, Unread, closing_commit, judge,
    offset_entry, open_segment, read_start, records_guessed, reserved_bytes,
};
use crate::sync::Arc;

/// Everything the log says about itself, as far as it holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub catalog: Catalog,
    pub directory: Directory,
    pub buckets: Buckets,
    pub log_id: Link,
    pub origin: String,
    pub next_position: u64,
    pub commit_digest: Hash,
    pub time_ns: u64,
    pub epoch: u64,
    /// Highest watermark found, and what says so.
    pub watermark: Watermark,
    /// Segment size the store was made with: that of its first segment; later ones may be larger for one large batch.
    pub segment_bytes: u64,
    /// The last commit says that the log was closed, and nothing follows it.
    pub closed: bool,
    pub tail: Tail,
    pub last: LastSegment,
    pub index: Arc<Index>,
}

/// The last segment of a store.
#[derive(Debug)]
pub(crate) struct LastSegment {
    pub file: Arc<dyn DiskFile>,
    pub header: SegmentHeader,
    pub end: u64,
    pub offsets: Vec<u32>,
    /// It was read, and is held in memory; else the index stands for it.
    pub is_read: bool,
}

impl Recovered {
    /// Whether this version may append (rule S5), and anybody may.
    pub(crate) fn check_writable(&self) -> Result<(), OpenError> {
        if !self.last.header.may_write() {
            return Err(OpenError::Unsupported { what: "it may be read, but appending needs a newer format version".into() });
        }
        // Every writable open has an epoch of its own, and nobody gets here by counting.
        if self.epoch == u64::MAX {
            return Err(OpenError::Unsupported { what: "it may be read, but its epochs are used up".into() });
        }
        Ok(())
    }

    /// The fault that recovery would cut off, for reports.
    pub(crate) fn torn(&self) -> Option<(Fault, u64)> {
        match self.tail {
            Tail::Torn { cut_bytes, bad } => {
                let name = file_name(self.last.header.number.get());
                Some((Fault::new(FaultKind::Torn, name, self.last.end, Violation { rule: "R", ..bad.violation }), cut_bytes))
            }
            _ => None,
        }
    }
}

/// Numbers of the segments in a directory, in order.
pub(crate) fn segment_numbers(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, OpenError> {
    numbers_among(&list(disk, directory)?, directory)
}

/// Names of the files in a directory; none if there is no such directory.
pub(crate) fn list(disk: &dyn Disk, directory: &Path) -> Result<Vec<String>, OpenError> {
    match disk.list() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(OpenError::io(format!("listing {}", directory.display()))),
    }
}

/// The segments among the files of a directory: their numbers, in order.
pub(crate) fn numbers_among(names: &[String], directory: &Path) -> Result<Vec<u64>, OpenError> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        return Err(OpenError::NotAStore { directory: directory.to_owned() });
    }
    match (1..).zip(&numbers).find(|(expected, number)| expected != *number) {
        None => Ok(numbers),
        Some((missing, _)) => Err(OpenError::Damaged(Fault::new(
            FaultKind::Missing,
            file_name(missing),
            0,
            Violation { rule: "L1", why: "a segment is missing" },
        ))),
    }
}

/// Rule S8: lists the segments again because the last one listed is packed. It has a successor, but that may be younger than the list.
pub(crate) fn segments_behind_packed(disk: &dyn Disk, directory: &Path, last: u64) -> Result<Vec<u64>, OpenError> {
    let numbers = segment_numbers(disk, directory)?;
    if numbers.last().is_some_and(|number| *number > last) {
        return Ok(numbers);
    }
    let violation = Violation { rule: "S8", why: "the segment before it is packed, so it was there" };
    Err(OpenError::Damaged(Fault::new(FaultKind::Missing, file_name(last + 1), 0, violation)))
}

/// Reads a store. With [`Access::Write`] the last segment is read from the device, not from a cache that may hold what never got there, and the index may
/// be written.
pub(crate) fn recover(disk: &Arc<dyn Disk>, directory: &Path, access: Access) -> Result<Recovered, OpenError> {
    let names = list(&**disk, directory)?;
    let numbers = numbers_among(&names, directory)?;
    let mut index = Arc::new(Index::open(disk, names, numbers.len() as u64, access == Access::Write)?);
    loop {
        let recovery = Recovery { disk, directory, numbers: numbers.clone(), access };
        match recovery.run(index) {
            Ok(recovered) => return Ok(*recovered),
            Err(Halt::Failed(error)) => return Err(error),
            // It says something else than the log. With fewer runs there is less to believe.
            Err(Halt::Index(disbelieved)) => {
                disbelieved.drop_last();
                index = disbelieved;
            }
        }
    }
}

/// Why a store was not recovered.
enum Halt {
    Failed(OpenError),
    /// The index does not fit.
    Index(Arc<Index>),
}

impl From<OpenError> for Halt {
    fn from(error: OpenError) -> Halt {
        Halt::Failed(error)
    }
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    directory: &'a Path,
    /// Of the segments, as they were listed.
    numbers: Vec<u64>,
    access: Access,
}

impl Recovery<'_> {
    fn run(self, index: Arc<Index>) -> Result<Box<Recovered>, Halt> {
        let Recovery { disk, directory, mut numbers, access } = self;
        let runs = index.runs();
        let mut scan = Scan::new();
        let mut summaries = runs.summaries().peekable();
        while let Some(summary) = summaries.next() {
            let successor = match summaries.peek() {
                Some(next) => Some(next.header),
                None if summary.number < numbers.len() as u64 => Some(open_segment(&**disk, summary.number + 1, Access::Read)?.1),
                None => None,
            };
            match successor {
                Some(successor) => scan.indexed_segment((disk, &index), summary, &successor)?,
                None => match scan.indexed_last_segment((disk, &index), summary, access)? {
                    Some(last) => {
                        let Some(buckets) = runs.iter().next_back().and_then(|run| run.heads().ok()) else {
                            return Err(Halt::Index(index));
                        };
                        scan.buckets = Buckets::of(&buckets);
                        scan.directory = Some(Directory::new(scan.next_position, scan.streams, 0));
                        return Ok(Box::new(scan.recovered(Tail::Empty, last, index, disk)?));
                    }
                    None => return Err(Halt::Index(index)),
                },
            }
        }
        match runs.iter().next_back().map(|run| run.heads()) {
            None => {}
            Some(Ok(buckets)) => scan.buckets = Buckets::of(&buckets),
            Some(Err(_)) => return Err(Halt::Index(index)),
        }
        // As if all that is left were one segment, full of events of usual size.
        let events = records_guessed(scan.segment_bytes);
        scan.directory = Some(Directory::new(scan.next_position, scan.streams, events));
        let (shared_disk, disk, first) = (disk, &**disk, runs.last_segment() + 1);
        let access_of = |number, count: usize| if number == count as u64 { access } else { Access::Read };
        let mut buffer = FileBuffer::default();
        let mut opened = open_segment(disk, first, access_of(first, numbers.len()))?;
        for number in first.. {
            let (file, header) = opened;
            scan.check_lineage(&header)?;
            if header.is_packed() && number == numbers.len() as u64 {
                numbers = segments_behind_packed(disk, directory, number)?;
            }
            if number == numbers.len() as u64 {
                return Ok(Box::new(scan.last_segment(file, header, access, buffer, index, shared_disk)?));
            }
            opened = open_segment(disk, number + 1, access_of(number + 1, numbers.len()))?;
            scan.sealed_segment(number, &*file, &header, &opened.1, &mut buffer)?;
        }
        unreachable!("the last segment returns")
    }
}

/// State while reading a store from its beginning.
#[derive(Debug)]
pub(super) struct Scan {
    catalog: Catalog,
    /// `None` if heads and ids are not looked at.
    directory: Option<Directory>,
    buckets: Buckets,
    log_id: Option<Link>,
    /// Once its record was read.
    origin: Option<String>,
    next_position: u64,
    commit_digest: Hash,
    time_ns: u64,
    epoch: u64,
    watermark: Watermark,
    segment_bytes: u64,
    /// The last trailer's watermark; trailers never state less.
    stated_watermark: u64,
    closed: bool,
    /// What the last segment read ended with, as its successor must name it.
    last_end: u64,
    /// Streams that begin in segments which are in the index.
    streams: u64,
}

impl Scan {
    fn new() -> Scan {
        Scan {
            catalog: Catalog::default(),
            directory: None,
            buckets: Buckets::new(),
            log_id: None,
            origin: None,
            next_position: 0,
            commit_digest: [0; 32],
            time_ns: 0,
            epoch: 0,
            watermark: Watermark { position: 0, segment: 1, offset: 0 },
            segment_bytes: 0,
            stated_watermark: 0,
            closed: false,
            last_end: 0,
            streams: 0,
        }
    }

    /// Goes on behind a store that was read, and does not look at heads and ids any more; gives what readers look at.
    pub(super) fn resume(recovered: Recovered) -> (Scan, Catalog, Directory) {
        let scan = Scan {
            buckets: recovered.buckets,
            log_id: Some(recovered.log_id),
            origin: Some(recovered.origin),
            next_position: recovered.next_position,
            commit_digest: recovered.commit_digest,
            time_ns: recovered.time_ns,
            epoch: recovered.epoch,
            watermark: recovered.watermark,
            segment_bytes: recovered.segment_bytes,
            ..Scan::new()
        };
        (scan, recovered.catalog, recovered.directory)
    }

    /// Records of the engine's own.
    pub(super) fn engine_records(&self) -> u64 {
        self.buckets.engine_records()
    }

    /// Position of the next record.
    pub(super) fn next_position(&self) -> u64 {
        self.next_position
    }

    /// The segment ends here, before its successor is looked at.
    pub(super) fn end_segment(&mut self, end: u64) {
        self.last_end = end;
    }

    /// Takes in a sealed segment as the index describes it: there is as much of it as its successor says.
    fn indexed_segment(
        &mut self,
        of: (&Arc<dyn Disk>, &Arc<Index>),
        summary: &Summary,
        successor: &SegmentHeader,
    ) -> Result<(), OpenError> {
        let name = file_name(summary.number);
        let footer_bytes = successor.prev_footer_bytes.get();
        let end_of = |header: &SegmentHeader| header.packed_end().unwrap_or(successor.prev_end_offset.get());
        let file_bytes = of.0.file_bytes(&name).map_err(|source| OpenError::Io { doing: format!("opening {name}"), source })?;
        let mut header = summary.header;
        let is_as_it_was = end_of(&header).checked_add(footer_bytes).and_then(|bytes| bytes.checked_add(successor.prev_cut_bytes.get()));
        if is_as_it_was != Some(file_bytes) {
            // It was packed, mostly.
            header = open_segment(&**of.0, summary.number, Access::Read)?.1;
        }
        self.check_lineage(&header)?;
        let end = end_of(&header);
        check_length(&header, end, footer_bytes, file_bytes)?;
        self.take_in_summary(of, &header, summary, end, footer_bytes);
        self.last_end = if header.is_packed() { header.unpacked_end_offset.get() } else { end };
        Ok(())
    }

    /// The same for the last segment, which ends where the file does, with the closing commit. `None` if it does not.
    fn indexed_last_segment(
        &mut self,
        of: (&Arc<dyn Disk>, &Arc<Index>),
        summary: &Summary,
        access: Access,
    ) -> Result<Option<LastSegment>, OpenError> {
        let name = file_name(summary.number);
        let (file, header) = open_segment(&**of.0, summary.number, access)?;
        self.check_lineage(&header)?;
        if access == Access::Write {
            file.drop_cache().map_err(OpenError::io(format!("syncing {name}")))?;
        }
        let closing = closing_commit(&*file, &header).map_err(OpenError::io(format!("reading {name}")))?;
        let is_it = |(trailer, _): &(CommitTrailer, u64)| {
            trailer.digest == summary.commit_digest && trailer.next_position() == summary.next_position
        };
        // Whatever is wrong is found out by reading the whole.
        let Some((_, end)) = closing.filter(is_it) else { return Ok(None) };
        self.take_in_summary(of, &header, summary, end, 0);
        Ok(Some(LastSegment { file, header, end, offsets: Vec::new(), is_read: false }))
    }

    fn take_in_summary(
        &mut self,
        (disk, index): (&Arc<dyn Disk>, &Arc<Index>),
        header: &SegmentHeader,
        summary: &Summary,
        end: u64,
        footer_bytes: u64,
    ) {
        let tables = Arc::clone(index) as Arc<dyn PositionTables>;
        let unread = Unread::new(Arc::clone(disk), *header, end, footer_bytes, summary.next_position, tables);
        self.catalog.push(Arc::new(Segment::unread(header, unread)));
        self.next_position = summary.next_position;
        self.commit_digest = summary.commit_digest;
        self.epoch = summary.epoch;
        self.time_ns = self.time_ns.max(summary.time_ns);
        self.stated_watermark = self.stated_watermark.max(summary.watermark);
        self.watermark.raise(summary.watermark, summary.number, summary.watermark_offset);
        // A segment without commits does not change how the last one left the log.
        if summary.commit_digest != summary.header.prev_commit_digest {
            self.closed = summary.is_closed;
        }
        self.streams += summary.streams;
    }

    /// What was found, once everything was.
    fn recovered(self, tail: Tail, last: LastSegment, index: Arc<Index>, disk: &Arc<dyn Disk>) -> Result<Recovered, OpenError> {
        let Some(log_id) = self.log_id.filter(|_| self.next_position > 0) else {
            unreachable!("a store that was read has a first segment with a record");
        };
        let origin = match self.origin {
            Some(origin) => origin,
            // Its segment was not read.
            None => origin(&**disk, &self.catalog, log_id)?,
        };
        Ok(Recovered {
            catalog: self.catalog,
            directory: self.directory.expect("whoever recovers a store looks at heads and ids"),
            buckets: self.buckets,
            log_id,
            origin,
            next_position: self.next_position,
            commit_digest: self.commit_digest,
            time_ns: self.time_ns,
            epoch: self.epoch,
            watermark: self.watermark,
            segment_bytes: self.segment_bytes,
            closed: self.closed && tail == Tail::Empty,
            tail,
            last,
            index,
        })
    }

    /// Whether a header continues what was read before it (rule S6). Heads roots are left to verification.
    pub(super) fn check_lineage(&mut self, header: &SegmentHeader) -> Result<(), OpenError> {
        let first = header.number.get() == 1;
        let continues = header.first_position.get() == self.next_position
            && header.epoch.get() >= self.epoch
            && header.prev_end_offset.get() == self.last_end
            && header.prev_commit_digest == self.commit_digest
            && self.log_id.is_none_or(|log_id| header.log_id == log_id.0)
            && (!first || (header.prev_footer_bytes.get(), header.prev_cut_bytes.get(), header.prev_heads_root) == (0, 0, [0; 32]));
        if !continues {
            let violation = Violation { rule: "S6", why: "the header does not continue the segment before it" };
            return Err(OpenError::Damaged(Fault::new(FaultKind::Tampered, file_name(header.number.get()), 0, violation)));
        }
        if first {
            self.segment_bytes = header.segment_bytes.get();
        }
        self.epoch = header.epoch.get();
        self.log_id = Some(Link(header.log_id));
        // Rotation is a barrier: what lies before this segment was durable before it existed.
        self.watermark.raise(header.first_position.get(), header.number.get(), 0);
        Ok(())
    }

    /// Reads a segment whose end is named, by its successor or, if it is packed, by itself: every byte up to there must be valid.
    fn sealed_segment(
        &mut self,
        number: u64,
        file: &dyn DiskFile,
        header: &SegmentHeader,
        successor: &SegmentHeader,
        buffer: &mut FileBuffer,
    ) -> Result<(), OpenError> {
        let name = file_name(number);
        let end = header.packed_end().unwrap_or(successor.prev_end_offset.get());
        let file_bytes = file.bytes().map_err(OpenError::io(format!("reading {name}")))?;
        check_length(header, end, successor.prev_footer_bytes.get(), file_bytes)?;
        buffer.read(file, end).map_err(|failure| failure.of(&name))?;
        let mut cursor = Cursor::new(buffer, header);
        let mut offsets = Vec::new();
        while cursor.offset() < end {
            let commit = cursor.next_commit().map_err(|bad| {
                self.watermark.raise(successor.first_position.get(), successor.number.get(), 0);
                self.damaged(&name, bad)
            })?;
            self.take_in(&name, header, &commit, &mut offsets)?;
        }
        let region = file.region(end as usize).map_err(OpenError::io(format!("mapping {name}")))?;
        self.catalog.push(Arc::new(Segment::sealed(header, region, successor.prev_footer_bytes.get(), offsets)));
        self.last_end = if header.is_packed() { header.unpacked_end_offset.get() } else { end };
        Ok(())
    }

    /// Reads the last segment up to where its commits end, and judges what stands behind them.
    fn last_segment(
        mut self,
        file: Arc<dyn DiskFile>,
        header: SegmentHeader,
        access: Access,
        mut buffer: FileBuffer,
        index: Arc<Index>,
        disk: &Arc<dyn Disk>,
    ) -> Result<Recovered, OpenError> {
        let name = file_name(header.number.get());
        if access == Access::Write {
            file.drop_cache().map_err(OpenError::io(format!("syncing {name}")))?;
        }
        let limit = reserved_bytes(header.segment_bytes.get());
        buffer.read(&*file, limit).map_err(|failure| failure.of(&name))?;
        let mut offsets = Vec::new();
        let (mut end, mut again) = (header.start(), Again::default());
        let (tail, bad) = loop {
            let mut cursor = Cursor::resume(&buffer, &header, end);
            let bad = loop {
                match cursor.next_commit() {
                    Ok(commit) => self.take_in(&name, &header, &commit, &mut offsets)?,
                    Err(bad) => break bad,
                }
            };
            end = cursor.offset();
            let tail = judge(&buffer, &header, &cursor, bad, self.next_position, &mut self.watermark);
            // A reader may have looked while a writer was in the middle of a commit: what still changes is not judged yet.
            let is_final = access == Access::Write || matches!(tail, Tail::Empty | Tail::Footer(_));
            if is_final || !again.look(&mut buffer, &*file, &**disk, (end, limit)).map_err(|failure| failure.of(&name))? {
                break (tail, bad);
            }
        };
        if let Tail::Damaged(bad) = tail {
            return Err(self.damaged(&name, bad));
        }
        if self.next_position == 0 {
            // The genesis commit is on stable storage before the first segment gets its name.
            return Err(self.damaged(&name, bad));
        }
        let footer_bytes = if let Tail::Footer(footer_bytes) = tail { footer_bytes } else { 0 };
        // Held in memory, not mapped: a writer may be at work on this file.
        let region = buffer.into_region(end as usize);
        self.catalog.push(Arc::new(Segment::sealed(&header, region, footer_bytes, offsets.clone())));
        self.recovered(tail, LastSegment { file, header, end, offsets, is_read: true }, index, disk)
    }

    /// Takes in a commit whose checksums hold: it must continue the log (rules C5, C6 as far as stated, H1 and H2 as far as heads show).
    pub(super) fn take_in(
        &mut self,
        name: &str,
        header: &SegmentHeader,
        commit: &Commit<'_>,
        offsets: &mut Vec<u32>,
    ) -> Result<(), OpenError> {
        let trailer = &commit.trailer;
        let tampered = |offset, violation| OpenError::Damaged(Fault::new(FaultKind::Tampered, name.to_owned(), offset, violation));
        let continues = trailer.first_position.get() == self.next_position
            && trailer.previous_digest == self.commit_digest
            && trailer.watermark.get() >= self.stated_watermark
            && trailer.time_ns.get() >= self.time_ns
            && trailer.epoch.get() >= self.epoch;
        if !continues {
            return Err(tampered(commit.trailer_block, Violation { rule: "C5", why: "the commit does not continue the one before it" }));
        }
        for (count, placed) in commit.frames.iter().enumerate() {
            if let Some(directory) = self.directory.as_ref().filter(|_| count % STRETCH == 0) {
                directory.touch_all(commit.frames[count..].iter().take(STRETCH).map(|placed| &placed.frame));
            }
            let position = self.next_position;
            let frame = &placed.frame;
            if (position - header.first_position.get()).is_multiple_of(chainring_format::footer::POSITION_STRIDE) {
                offsets.push(offset_entry(placed.offset));
            }
            if position == 0 || !frame.is_event() {
                frame.check(position).map_err(|violation| tampered(placed.offset, violation))?;
            }
            if position == 0 {
                if frame.link().0 != header.log_id {
                    return Err(tampered(placed.offset, Violation { rule: "S6", why: "the header has the id of another log" }));
                }
                self.origin = Some(genesis_origin(frame.body().unwrap_or_default()).to_owned());
            }
            if let Some(directory) = &mut self.directory {
                directory.take_in(position, frame).map_err(|violation| tampered(placed.offset, violation))?;
            }
            // Without heads of streams there are none of buckets either, but for the count of the engine's own records.
            if self.directory.is_some() || !frame.is_event() {
                self.buckets.advance(frame.bucket(), position, frame.link());
            }
            self.time_ns = self.time_ns.max(frame.header.recorded_at_ns.get());
            self.next_position += 1;
        }
        self.commit_digest = trailer.digest;
        self.epoch = trailer.epoch.get();
        self.stated_watermark = trailer.watermark.get();
        self.watermark.raise(self.stated_watermark, header.number.get(), commit.end - TRAILER_BYTES as u64);
        self.closed = trailer.closed();
        Ok(())
    }

    fn damaged(&self, name: &str, bad: Bad) -> OpenError {
        let mut fault = Fault::new(FaultKind::Corrupt, name.to_owned(), bad.offset, bad.violation);
        if self.watermark.position > self.next_position {
            fault.why = format!("{}; {}", fault.why, self.watermark);
        }
        OpenError::Damaged(if bad.in_frame { fault.at_position(self.next_position + bad.frames_before) } else { fault })
    }
}

/// Name of the log, from its first record, which is all of the first segment that is read here.
fn origin(disk: &dyn Disk, catalog: &Catalog, log_id: Link) -> Result<String, OpenError> {
    let name = file_name(1);
    let (file, header) = open_segment(disk, 1, Access::Read)?;
    let start = read_start(&*file, header.start() + GENESIS_BYTES_MAX).map_err(|failure| failure.of(&name))?;
    let at = header.start();
    let fault = |violation| OpenError::Damaged(Fault::new(FaultKind::Corrupt, name.clone(), at, violation).at_position(0));
    let bytes = start.get(at as usize..).unwrap_or_default();
    let genesis = match Mark::of(bytes) {
        // Commits without frames may stand before it; no writer of ours makes any there.
        Mark::Padding | Mark::Trailer => Frames::new(catalog, 0).next_frame()?,
        _ => FrameView::parse(bytes, Seed::new(&header.salt).mask(at)).map_err(fault)?,
    };
    genesis.check(0).map_err(fault)?;
    if genesis.link() != log_id {
        let violation = Violation { rule: "S6", why: "the header has the id of another log" };
        return Err(OpenError::Damaged(Fault::new(FaultKind::Tampered, name.clone(), at, violation).at_position(0)));
    }
    Ok(genesis_origin(genesis.body().unwrap_or_default()).to_owned())
}

/// More than the first frame of a store takes: its body has the name of the log, of at most 512 bytes.
const GENESIS_BYTES_MAX: u64 = 4096;

/// Whether there is as much of a segment as its successor says.
fn check_length(header: &SegmentHeader, end: u64, footer_bytes: u64, file_bytes: u64) -> Result<(), OpenError> {
    let named = end.checked_add(footer_bytes);
    if named.is_none_or(|named| file_bytes < named) || end > header.segment_bytes.get() {
        let name = file_name(header.number.get());
        return Err(OpenError::Damaged(Fault::new(FaultKind::Missing, name, file_bytes, SHORTENED)));
    }
    Ok(())
}

impl Directory {
    /// Takes in a record that was found in the log.
    pub(super) fn take_in(&mut self, position: u64, frame: &FrameView<'_>) -> Result<(), Violation> {
        if !frame.is_event() {
            return Ok(());
        }
        let id = frame.event_id();
        if self.position_of(&id).is_some() {
            return Err(Violation { rule: "H2", why: "the event id occurs twice" });
        }
        self.add_id(id, position);
        let (version, link) = (frame.header.version.get(), frame.link());
        let number = self.recall(&frame.stream_id());
        // Of a stream that began before what is read here nothing is known: the verifier reads everything.
        let is_older = number.is_none() && version > 1 && self.streams_from() > 0;
        if !is_older && number.map_or(0, |number| self.head(number).version).checked_add(1) != Some(version) {
            return Err(Violation { rule: "H1", why: "the version does not continue the stream" });
        }
        match number {
            Some(number) => self.advance(number, version, position, link),
            None => {
                let birth = frame.name().map(|name| Birth { position, name_rest: name_rest(name) });
                self.add_stream(frame.stream_id(), StreamHead { version, position, link, birth });
            }
        }
        Ok(())
    }
}
