//! Verifying a whole store, a segment per thread (FORMAT.md section 10).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use chainring_format::frame::FRAME_BYTES_MIN;
use chainring_format::segment::{BLOCK_CUT_SHORT, HEADER_CUT_SHORT, SegmentHeader, file_name};
use chainring_format::{EventId, Link, Position, Violation};

use super::merge::Merge;
use super::note::TreeHead;
use super::seal::CHECKPOINT_FILE;
use super::sealed::Statement;
use super::segment::{SegmentFindings, examine, examine_in_windows};
use super::since::{Earlier, Verified};
use super::tree::HASHES_FILE;
use crate::disk::{Access, Disk, DiskFile, Environment};
use crate::error::{Fault, FaultKind, OpenError, ReadError};
use crate::log::Store;
use crate::segment::{Again, Cursor, FileBuffer, Pace, ReadFailure, SHORTENED, closing_commit, open_segment, reserved_bytes};
use crate::sequencer::{Mark, Remembered, segment_numbers, segments_behind_packed};
use crate::sync::model::{Mutex, lock};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How often is remembered how far a verification came.
const LEAVE_EVERY_NS: u64 = 1_000_000_000;

/// How a store is verified.
#[derive(Default)]
pub struct VerifyOptions<'a> {
    /// Threads that hash; 0 = one for every core.
    pub threads: usize,
    /// Called now and then with the bytes done and the bytes in all.
    pub progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
    /// What was seen of this log before: it must still hold it (FORMAT.md R4). The mark beside the store is asked in any case.
    pub expected: Vec<Remembered>,
    /// The log's first records, of which somebody vouches that they hold: a checkpoint that was kept. Those before the segment that they end in are not
    /// read again, only held against this root by their links; what comes behind must follow from them. What that leaves open says [`verify`].
    pub since: Option<TreeHead>,
    /// Where `since` is not given: go on behind what an earlier verification with [`VerifyOptions::remember`] found to hold.
    pub resume: bool,
    /// Leave in the store how far it holds, while verifying and at the end: for `resume`, and for [`Grades::verified_to`](super::Grades::verified_to).
    pub remember: bool,
    /// Give the tree head over everything also of a log that is not sealed; kept, it can be given as `since` later. Costs a sixth more.
    pub head: bool,
    /// Bytes read in a second, at most; 0 = as fast as can be. For verifying in the background.
    pub bytes_per_second: u64,
}

impl std::fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyOptions").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Records that hold, events and the engine's own: those verified and those vouched for.
    pub records: u64,
    /// Events among them.
    pub events: u64,
    /// Bytes verified now: headers, commits, footers.
    pub bytes: u64,
    /// Records before the first that was verified now: others vouched for them. 0 if everything was verified.
    pub since: u64,
    /// Root over everything that holds. `None` where something does not, and where it was not made: see [`VerifyOptions::head`].
    pub head: Option<TreeHead>,
    /// Position of the last record for which everything up to it holds.
    pub verified_to: Option<Position>,
    /// The first thing wrong, in file order.
    pub fault: Option<Fault>,
}

impl VerifyReport {
    /// Whether everything holds.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.fault.is_none()
    }
}

type Opened = (Arc<dyn DiskFile>, SegmentHeader);

/// Verifies the store in a directory: every checksum, link, digest, commit, and the lineage of its segments. Takes no lock; writes nothing unless told to
/// remember how far it came.
///
/// Told to begin behind records that somebody vouches for, it leaves two things to the index, which is derived: that no earlier event has the id of a new one,
/// and that a stream's last event is the one that a new event follows. Whoever can change the index can hide a branch there, until everything is verified.
///
/// # Errors
/// [`OpenError::NotAStore`], [`OpenError::Unsupported`], and errors of the device; what is wrong with the store is in the report.
pub fn verify(directory: impl AsRef<Path>, options: &VerifyOptions<'_>) -> Result<VerifyReport, OpenError> {
    let directory = directory.as_ref();
    verify_in(&Environment::system(directory), directory, options)
}

/// As [`verify`], in another environment; the directory is only named in messages.
///
/// # Errors
/// As [`verify`].
pub fn verify_in(environment: &Environment, directory: &Path, options: &VerifyOptions<'_>) -> Result<VerifyReport, OpenError> {
    let disk = &*environment.disk;
    // Step 1. A gap hides everything behind it, but what lies before it is verified all the same.
    let (mut numbers, mut outlying) = match segment_numbers(disk, directory) {
        Ok(numbers) => (numbers, None),
        Err(OpenError::Damaged(fault)) => {
            let missing = chainring_format::segment::number_of(&fault.segment).unwrap_or(1);
            ((1..missing).collect(), Some(fault))
        }
        Err(error) => return Err(error),
    };
    // Step 2.
    let mut segments: Vec<Opened> = Vec::with_capacity(numbers.len());
    while let Some(&number) = numbers.get(segments.len()) {
        match open_segment(disk, number, Access::Read) {
            // What a segment of another log says of this one's end counts for nothing.
            Ok((_, header)) if segments.first().is_some_and(|(_, first)| first.log_id != header.log_id) => {
                let violation = Violation { rule: "S6", why: "the header has the id of another log" };
                outlying = Some(Fault::new(FaultKind::Tampered, file_name(number), 0, violation));
                break;
            }
            Ok(opened) => {
                let is_packed = opened.1.is_packed();
                segments.push(opened);
                if is_packed && segments.len() == numbers.len() && outlying.is_none() {
                    match segments_behind_packed(disk, directory, number) {
                        Ok(more) => numbers = more,
                        Err(OpenError::Damaged(fault)) => outlying = Some(fault),
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(OpenError::Damaged(fault)) => {
                let is_cut = [HEADER_CUT_SHORT.why, BLOCK_CUT_SHORT.why].contains(&&*fault.why);
                outlying = Some(if is_cut { shortened(disk, number, numbers.len())?.unwrap_or(fault) } else { fault });
                break;
            }
            Err(OpenError::Unsupported { what }) => {
                let violation = Violation { rule: "S5", why: "the segment needs what this version does not know" };
                let fault = Fault::new(FaultKind::Corrupt, file_name(number), 0, violation);
                outlying = Some(Fault { why: what, ..fault });
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let mut start = begin(environment, directory, &segments, options)?;
    let since = start.merge.records();
    let leave = |merge: &Merge, is_last: bool| {
        let verified = merge.verified(is_last, environment.clock.realtime_ns());
        verified.map_or(Ok(()), |verified| verified.leave(disk))
    };
    let mut left_ns = environment.clock.monotonic_ns();
    let taken_in = |merge: &Merge| {
        let now_ns = environment.clock.monotonic_ns();
        if !options.remember || now_ns.saturating_sub(left_ns) < LEAVE_EVERY_NS {
            return Ok(());
        }
        left_ns = now_ns;
        leave(merge, false)
    };
    let fault = match run(disk, &segments, outlying.is_none(), options, &mut start, taken_in)? {
        Verdict::Holds => None,
        Verdict::Fault(fault) => Some(fault),
        Verdict::NeedsTree => {
            start = Start { merge: Merge::new(), first: 0, earlier: None };
            match run(disk, &segments, outlying.is_none(), options, &mut start, |_| Ok(()))? {
                Verdict::Fault(fault) => Some(fault),
                _ => None,
            }
        }
    };
    let merge = start.merge;
    let records = merge.records();
    let mut fault = fault.or(outlying);
    if fault.is_none() {
        fault = check_remembered(disk, &segments, &merge, &options.expected)?;
    }
    match fault {
        None if options.remember => leave(&merge, true)?,
        // Whatever was found earlier is no reason any more to look at less.
        Some(_) if options.remember => Verified::forget(disk),
        _ => {}
    }
    let head = (fault.is_none() && !merge.is_without_tree()).then(|| merge.head());
    let verified_to = records.checked_sub(1).map(Position);
    Ok(VerifyReport { records, events: merge.events, bytes: merge.bytes, since, head, verified_to, fault })
}

/// What came of going through the segments.
enum Verdict {
    Holds,
    Fault(Fault),
    /// There is a seal where nothing had told of one: everything once more, with the tree.
    NeedsTree,
}

/// Where to begin.
struct Start {
    merge: Merge,
    /// Index of the first segment to verify.
    first: usize,
    /// What comes before it.
    earlier: Option<Earlier>,
}

fn begin(environment: &Environment, directory: &Path, segments: &[Opened], options: &VerifyOptions<'_>) -> Result<Start, OpenError> {
    let from_start = |merge| Ok(Start { merge, first: 0, earlier: None });
    let Some((_, header)) = segments.first() else { return from_start(Merge::new()) };
    let asks = options.resume && options.since.is_none();
    let left = if asks { Verified::find(&*environment.disk, Link(header.log_id)) } else { None };
    let Some(vouched) = options.since.or(left.as_ref().map(|left| left.head)) else {
        // The tree is a third of the hashing. Without a seal, which leaves traces beside the log, nobody may want it.
        let is_sealed = [HASHES_FILE, CHECKPOINT_FILE].iter().any(|name| environment.disk.open(name, Access::Read).is_ok());
        return from_start(if is_sealed || options.remember || options.head { Merge::new() } else { Merge::without_tree() });
    };
    let first = segments.partition_point(|(_, header)| header.first_position.get() <= vouched.size).saturating_sub(1);
    if first == 0 {
        return from_start(Merge::vouched(vouched));
    }
    let store = match Store::open_in(environment, directory) {
        Ok(store) => store,
        // What is wrong is found, and where, by going through all of it.
        Err(OpenError::Damaged(_) | OpenError::Unsupported { .. }) => return from_start(Merge::vouched(vouched)),
        Err(error) => return Err(error),
    };
    let header = &segments[first].1;
    let end = header.first_position.get();
    // Headers that say something else than what was opened a moment later are judged where everything is.
    if end == 0 || end > store.stats().records {
        return from_start(Merge::vouched(vouched));
    }
    let earlier = Earlier::new(store, end);
    match Merge::behind(&earlier, (&segments[first - 1].1, header), vouched, left.as_ref().map(|left| &left.before)) {
        Ok(merge) => Ok(Start { merge, first, earlier: Some(earlier) }),
        Err(ReadError::Damaged(_)) => from_start(Merge::vouched(vouched)),
        Err(error) => Err(error.into()),
    }
}

/// Rule R4, in a store in which everything holds.
fn check_remembered(disk: &dyn Disk, segments: &[Opened], merge: &Merge, expected: &[Remembered]) -> Result<Option<Fault>, OpenError> {
    let Some((_, last)) = segments.last() else { return Ok(None) };
    if let Some(head) = merge.not_reached() {
        let seen = Remembered { position: Position(head.size - 1), link: None };
        return Ok(seen.fault(merge.records(), None, &file_name(last.number.get()), merge.end()));
    }
    let mark = Mark::find(disk, Link(last.log_id)).map(|mark| mark.seen);
    for seen in expected.iter().copied().chain(mark) {
        let found = if seen.position.0 < merge.records() { Some(link_at(segments, seen.position.0)?) } else { None };
        if let Some(fault) = seen.fault(merge.records(), found, &file_name(last.number.get()), merge.end()) {
            return Ok(Some(fault));
        }
    }
    Ok(None)
}

/// Link of the record at a position that was just verified.
fn link_at(segments: &[Opened], position: u64) -> Result<Link, OpenError> {
    let index = segments.partition_point(|(_, header)| header.first_position.get() <= position) - 1;
    let (file, header) = &segments[index];
    let name = file_name(header.number.get());
    let mut buffer = FileBuffer::default();
    buffer.read(&**file, reserved_bytes(header.segment_bytes.get())).map_err(|failure| failure.of(&name))?;
    let mut cursor = Cursor::new(&buffer, header);
    loop {
        // The segment held a moment ago; if it does not now, somebody is changing it.
        let commit = cursor
            .next_commit()
            .map_err(|bad| OpenError::Damaged(Fault::new(FaultKind::Corrupt, name.clone(), bad.offset, bad.violation)))?;
        let first = commit.trailer.first_position.get();
        if let Some(placed) = position.checked_sub(first).and_then(|ahead| commit.frames.get(ahead as usize)) {
            return Ok(placed.frame.link());
        }
    }
}

/// Rule S1 for a segment that was cut off inside its header, while its successor is there and vouches for more.
fn shortened(disk: &dyn Disk, number: u64, count: usize) -> Result<Option<Fault>, OpenError> {
    let name = file_name(number);
    let file_bytes = disk.open(&name, Access::Read).and_then(|file| file.bytes()).map_err(OpenError::io(format!("reading {name}")))?;
    let successor = if number < count as u64 { open_segment(disk, number + 1, Access::Read).ok() } else { None };
    Ok(successor.map(|_| Fault::new(FaultKind::Missing, name, file_bytes, SHORTENED)))
}

/// Steps 3 to 7. Segments are examined side by side and merged in order; a few at a time are in memory.
fn run(
    disk: &dyn Disk,
    segments: &[Opened],
    is_whole: bool,
    options: &VerifyOptions<'_>,
    start: &mut Start,
    mut taken_in: impl FnMut(&Merge) -> Result<(), OpenError>,
) -> Result<Verdict, OpenError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (if options.threads == 0 { cores } else { options.threads }).clamp(1, (segments.len() - start.first).max(1));
    start.merge.expect_events(events_expected(&segments[start.first..]));
    let spent = Mutex::new(Vec::new());
    let (next, stop, done) = (AtomicUsize::new(start.first), AtomicBool::new(false), AtomicU64::new(0));
    let with_tree = !start.merge.is_without_tree();
    let pace = (options.bytes_per_second > 0).then(|| Arc::new(Pace::new(options.bytes_per_second)));
    let total: u64 = segments[start.first..].iter().map(|(file, _)| file.bytes().unwrap_or(0)).sum();
    let (sender, receiver) = sync_channel::<(usize, Result<SegmentFindings, OpenError>)>(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            let (next, stop, done, spent, pace) = (&next, &stop, &done, &spent, pace.clone());
            scope.spawn(move || {
                let mut buffer = FileBuffer::paced(pace);
                // Relaxed: the counter hands out work and the flag saves some; nothing is published through them.
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((file, header)) = segments.get(index) else { break };
                    let successor = segments.get(index + 1).map(|(_, header)| header);
                    let is_last = is_whole && successor.is_none();
                    let memory = lock(spent).pop();
                    let found = examine_file(disk, &**file, header, successor, (is_last, with_tree), &mut buffer, memory);
                    let file_bytes = file.bytes().unwrap_or(0);
                    let bytes = done.fetch_add(file_bytes, Ordering::Relaxed) + file_bytes;
                    if let Some(progress) = options.progress {
                        progress(bytes, total);
                    }
                    if sender.send((index, found)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let merged = merge_in_order(segments, receiver.iter(), start, &mut taken_in, |found| lock(&spent).push(found));
        stop.store(true, Ordering::Relaxed);
        // Whoever still wants to send finds nobody listening, and ends.
        drop(receiver);
        merged
    })
}

fn merge_in_order(
    segments: &[Opened],
    results: impl Iterator<Item = (usize, Result<SegmentFindings, OpenError>)>,
    start: &mut Start,
    taken_in: &mut impl FnMut(&Merge) -> Result<(), OpenError>,
    give_back: impl Fn(SegmentFindings),
) -> Result<Verdict, OpenError> {
    let Start { merge, earlier, first } = start;
    let mut waiting = BTreeMap::new();
    let mut index = *first;
    for (number, result) in results {
        waiting.insert(number, result);
        while let Some(result) = waiting.remove(&index) {
            let before = &segments[..index];
            index += 1;
            let found = result?;
            if merge.is_without_tree() && found.statements.iter().any(Statement::is_seal) {
                return Ok(Verdict::NeedsTree);
            }
            if let Some(earlier) = earlier {
                match merge.learn(&found, earlier) {
                    Err(ReadError::Damaged(fault)) => return Ok(Verdict::Fault(fault)),
                    result => result?,
                }
            }
            if let Err(fault) = merge.take_in(&found, |id| before.iter().any(|segment| has_id(segment, id))) {
                return Ok(Verdict::Fault(fault));
            }
            taken_in(merge)?;
            give_back(found);
        }
    }
    Ok(Verdict::Holds)
}

/// Whether an event of a segment that was verified has this id. One that cannot be read any more is taken to have it: a hash says so.
fn has_id((file, header): &Opened, id: &EventId) -> bool {
    let mut buffer = FileBuffer::default();
    if buffer.read(&**file, reserved_bytes(header.segment_bytes.get())).is_err() {
        return true;
    }
    let mut cursor = Cursor::new(&buffer, header);
    let commits = std::iter::from_fn(|| cursor.next_commit().ok());
    let mut frames = commits.flat_map(|commit| commit.frames).map(|placed| placed.frame);
    frames.any(|frame| frame.is_event() && frame.event_id() == *id)
}

/// Events that these segments hold, about: how many there are in front of the last one is what its header says, and no more than their bytes allow.
fn events_expected(segments: &[Opened]) -> usize {
    let (Some((_, first)), Some((_, last))) = (segments.first(), segments.last()) else { return 0 };
    let stated = last.first_position.get().saturating_sub(first.first_position.get());
    let bytes: u64 = segments.iter().map(|(file, _)| file.bytes().unwrap_or(0)).sum();
    stated.min(bytes / u64::from(FRAME_BYTES_MIN)) as usize
}

/// Reads and examines one segment.
fn examine_file(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    header: &SegmentHeader,
    successor: Option<&SegmentHeader>,
    (is_last, with_tree): (bool, bool),
    buffer: &mut FileBuffer,
    mut spent: Option<SegmentFindings>,
) -> Result<SegmentFindings, OpenError> {
    let name = file_name(header.number.get());
    let failed = |failure: ReadFailure| failure.of(&name);
    let named_footer = successor.map_or(0, |successor| successor.prev_footer_bytes.get());
    let named_end = header.packed_end().or(successor.map(|successor| successor.prev_end_offset.get())).map(|end| (end, named_footer));
    let segment_bytes = header.segment_bytes.get();
    let limit = reserved_bytes(segment_bytes);
    let closed_end = || closing_commit(file, header).ok().flatten().map(|(_, end)| (end, 0));
    let known_end = if is_last { named_end.or_else(closed_end) } else { named_end };
    if let (Some(end), true) = (known_end, named_footer <= limit - segment_bytes)
        && let Some(found) = examine_in_windows(file, buffer, *header, end, with_tree, &mut spent)
    {
        return Ok(found);
    }
    let named_bytes = named_end.map(|(end, footer_bytes)| end.saturating_add(footer_bytes));
    buffer.read(file, named_bytes.unwrap_or(limit).min(limit)).map_err(failed)?;
    let mut found = examine(buffer, *header, named_end, with_tree, spent);
    // A writer may have been in the middle of a commit: what still changes is not judged yet.
    let mut again = Again::default();
    while is_last
        && let Some(offset) = found.finding.as_ref().map(|finding| finding.offset)
        && again.look(buffer, file, disk, (offset, limit)).map_err(failed)?
    {
        found = examine(buffer, *header, named_end, with_tree, Some(found));
    }
    if !is_last && successor.is_none() {
        // The next header cannot be read, so where this segment ends is not known, and what recovery may have cut looks like a torn write.
        found.finding = found.finding.filter(|finding| finding.kind != FaultKind::Torn);
    }
    Ok(found)
}
