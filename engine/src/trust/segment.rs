//! Verifying one segment by itself: everything that its own bytes can show. What hangs on earlier segments is deferred to the merge.

use std::hint::black_box;

use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::footer::POSITION_STRIDE;
use chainring_format::frame::{FrameHeader, FrameView, GenesisBody, back_distance};
use chainring_format::hash::{self, Hash, LeafFields, commit_digest};
use chainring_format::lanes::Lanes;
use chainring_format::limits::ENGINE_LANE;
use chainring_format::record::{KIND_KEY, KIND_SEAL, KeyBody, SealBody};
use chainring_format::segment::SegmentHeader;
use chainring_format::{EventId, Link, Mark, StreamId, Violation};

use super::ids::StreamSet;
use super::sealed::{Said, Statement, VerifiedRecord, blocks};
use crate::disk::DiskFile;
use crate::error::{FaultKind, Watermark};
use crate::segment::{
    BAD_PADDING, Bad, CUT_PADDING, Commit, Cursor, FileBuffer, Placed, SHORTENED, Tail, judge, offset_entry, records_guessed,
    reserved_bytes,
};
use zerocopy::FromBytes;

/// Positions from here on are never reached: writing a record for every nanosecond would take three centuries.
const FIRST_POSITION_MAX: u64 = 1 << 63;

/// Commits are taken together up to this many records, so that they are hashed side by side also where every commit holds one.
const GROUP_RECORDS: usize = 256;

/// Read and verified at a time, where nothing is wrong: what fits into the cache of a core.
const WINDOW_BYTES: u64 = 512 << 10;

/// What holds a commit that is larger, as bulk makes them. Beyond that, a file may only say that it holds one.
const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// A footer behind the last commit whose checksum differs.
pub(super) const WRONG_FOOTER: Violation = Violation { rule: "T1", why: "the footer's checksum differs" };

/// Records whose contents are laid out at a time.
const HASHED_TOGETHER: usize = 64;

const NO_GENESIS: Violation = Violation { rule: "F7", why: "the first segment has no genesis record" };

/// Something wrong at a place of the segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finding {
    pub kind: FaultKind,
    pub offset: u64,
    /// Where the structure itself begins: what comes before it in the file holds.
    pub place: u64,
    /// Position of the record, for frames.
    pub position: Option<u64>,
    pub stream: Option<StreamId>,
    pub violation: Violation,
}

/// A record whose predecessor in its bucket or stream lies in an earlier segment.
#[derive(Debug)]
pub(super) struct Deferred {
    pub offset: u64,
    pub position: u64,
    pub kind_is_event: bool,
    pub kind: u8,
    pub bucket: u16,
    pub stream_id: StreamId,
    pub version: u64,
    pub recorded_at_ns: u64,
    pub digest: Hash,
    pub link: Link,
    pub bucket_back: u32,
    pub stream_back: u32,
    /// Full hash of the name in a stream's first event.
    pub name: Option<String>,
    pub bucket_before: Option<(u64, Link)>,
    pub stream_before: Option<Link>,
}

/// Where a stream stands at the end of what was verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamEnd {
    pub version: u64,
    pub position: u64,
    pub link: Link,
}

/// Where a bucket stands at the end of a segment, counted from the segment's start.
#[derive(Debug, Clone, Copy)]
pub(super) struct BucketEnd {
    pub count: u64,
    pub position: u64,
    pub link: Link,
}

/// What a segment shows by itself.
#[derive(Debug)]
pub(super) struct SegmentFindings {
    pub header: SegmentHeader,
    /// First thing wrong, in file order.
    pub finding: Option<Finding>,
    pub deferred: Vec<Deferred>,
    /// Streams that have events here, and where each of them ends.
    pub streams: Vec<(StreamId, StreamEnd)>,
    /// Every bucket and the engine's lane, by number.
    pub buckets: Vec<Option<BucketEnd>>,
    /// Every record, from the segment's first position on.
    pub leaves: Vec<VerifiedRecord>,
    /// The id of each, zeros where it is no event.
    pub ids: Vec<EventId>,
    /// How many of them are events.
    pub events: u64,
    /// Roots over whole blocks of them.
    pub blocks: Vec<Hash>,
    /// The log's key, in the first segment.
    pub genesis_key: Option<Hash>,
    /// Seals and key records.
    pub statements: Vec<Statement>,
    pub offsets: Vec<u32>,
    pub end: u64,
    pub next_position: u64,
    /// The first commit's trailer, the block it is in, and its offset.
    pub first_commit: Option<(CommitTrailer, u64, u64)>,
    pub commit_digest: Hash,
    pub first_recorded: Option<(u64, u64, u64)>,
    pub time_ns: u64,
    pub watermark: u64,
    pub epoch: u64,
    pub closed: bool,
    /// Bytes from the end on, as far as a footer may reach.
    pub footer: Vec<u8>,
}

impl SegmentFindings {
    /// Records, and events among them, in front of a place.
    pub(super) fn counts_before(&self, place: u64) -> (u64, u64) {
        let before = &self.leaves[..self.leaves.partition_point(|leaf| leaf.offset() < place)];
        (before.len() as u64, before.iter().filter(|leaf| leaf.is_event).count() as u64)
    }

    /// Position of the record with this index.
    pub(super) fn position(&self, index: usize) -> u64 {
        self.header.first_position.get() + index as u64
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    found: SegmentFindings,
    lanes: Lanes,
    /// Digests of the records under way.
    digests: Vec<Hash>,
    /// Streams of which there was an event.
    streams: StreamSet,
    /// Leaves of records that were taken in, by their index, whose links are still to be made: side by side.
    to_link: Vec<(usize, hash::Leaf)>,
}

/// Verifies a segment. `named_end` is its end and the length of its footer, as far as a header names them; `None` in the last segment. What was found of an
/// earlier segment, and is `spent`, gives its memory.
pub(super) fn examine(
    bytes: &[u8],
    header: SegmentHeader,
    named_end: Option<(u64, u64)>,
    with_tree: bool,
    spent: Option<SegmentFindings>,
) -> SegmentFindings {
    let mut walk = Walk::new(bytes, header, spent);
    walk.run(named_end);
    walk.finish(with_tree)
}

/// Verifies a segment whose end is named, a window at a time, so that nothing is fetched from memory twice. `None` if something is wrong: what, is found by
/// [`examine`].
pub(super) fn examine_in_windows(
    file: &dyn DiskFile,
    buffer: &mut FileBuffer,
    header: SegmentHeader,
    (end, footer_bytes): (u64, u64),
    with_tree: bool,
    spent: &mut Option<SegmentFindings>,
) -> Option<SegmentFindings> {
    let mut walk = Walk::new(&[], header, spent.take());
    walk.expect_records(records_guessed(end.min(file.bytes().ok()?)));
    let mut window_bytes = WINDOW_BYTES;
    let mut at = header.start();
    while at < end {
        let bytes = buffer.window(file, at, (end - at).min(window_bytes) as usize).ok()?;
        let mut cursor = Cursor::from_offset(bytes, &walk.found.header, at);
        let mut group = Vec::new();
        while next_group(&mut cursor, Some((end, footer_bytes)), &mut group).is_ok() && !group.is_empty() {
            walk.commits(&group).ok()?;
        }
        // The last commit may go on behind the window.
        walk.commits(&group).ok()?;
        if cursor.offset() == at {
            window_bytes *= 2;
            (window_bytes <= WINDOW_BYTES_MAX).then_some(())?;
        }
        at = cursor.offset();
    }
    if at != end || walk.lacks_genesis() {
        return None;
    }
    walk.found.footer = buffer.window(file, end, usize::try_from(footer_bytes).ok()?).ok()?.to_vec();
    Some(walk.finish(with_tree))
}

fn nothing_found(mut header: SegmentHeader, spent: Option<SegmentFindings>) -> SegmentFindings {
    let (deferred, streams, leaves, ids) = match spent {
        Some(spent) => (emptied(spent.deferred), emptied(spent.streams), emptied(spent.leaves), emptied(spent.ids)),
        None => Default::default(),
    };
    // A header can say anything. One that begins up here does not continue its predecessor, and counting on from it must not overflow.
    header.first_position = header.first_position.get().min(FIRST_POSITION_MAX).into();
    SegmentFindings {
        header,
        finding: None,
        deferred,
        streams,
        buckets: vec![None; usize::from(ENGINE_LANE) + 1],
        leaves,
        ids,
        events: 0,
        blocks: Vec::new(),
        genesis_key: None,
        statements: Vec::new(),
        offsets: Vec::new(),
        end: header.start(),
        next_position: header.first_position.get(),
        first_commit: None,
        commit_digest: header.prev_commit_digest,
        first_recorded: None,
        // The first header speaks of the genesis record itself, which is still to come.
        time_ns: if header.number.get() == 1 { 0 } else { header.created_at_ns.get() },
        watermark: 0,
        epoch: header.epoch.get(),
        closed: false,
        footer: Vec::new(),
    }
}

fn emptied<T>(mut list: Vec<T>) -> Vec<T> {
    list.clear();
    list
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], header: SegmentHeader, spent: Option<SegmentFindings>) -> Walk<'a> {
        let found = nothing_found(header, spent);
        Walk { bytes, found, lanes: Lanes::new(), digests: Vec::new(), streams: StreamSet::default(), to_link: Vec::new() }
    }

    /// Makes room for about so many records, so that lists do not have to move while they grow.
    fn expect_records(&mut self, count: usize) {
        self.found.leaves.reserve(count);
        self.found.ids.reserve(count);
    }

    fn finish(mut self, with_tree: bool) -> SegmentFindings {
        let mut streams = std::mem::take(&mut self.found.streams);
        let found = &self.found;
        let ends = found.leaves.iter().enumerate().filter(|(_, leaf)| leaf.is_event && !leaf.is_followed);
        let end = |(index, leaf): (_, &VerifiedRecord)| {
            (leaf.stream_id, StreamEnd { version: leaf.version, position: found.position(index), link: leaf.link })
        };
        streams.extend(ends.map(end));
        self.found.streams = streams;
        if with_tree {
            self.found.blocks = blocks(&self.found.leaves, self.found.header.first_position.get());
        }
        self.found
    }

    fn run(&mut self, named_end: Option<(u64, u64)>) {
        let bytes = self.bytes;
        let readable = named_end.map_or(bytes, |(end, _)| bytes.get(..end as usize).unwrap_or(bytes));
        let mut cursor = Cursor::new(readable, &self.found.header);
        let mut group = Vec::new();
        loop {
            let bad = next_group(&mut cursor, named_end, &mut group);
            if let Err(finding) = self.commits(&group) {
                self.found.finding = Some(finding);
                return;
            }
            if let Err(bad) = bad {
                self.found.finding = self.at_the_end(&cursor, bad, named_end);
                return;
            }
            if group.is_empty() {
                break;
            }
        }
        if let Some((end, footer_bytes)) = named_end {
            let wrong_end = Violation { rule: "S1", why: "the end that the successor names lies inside the header" };
            let violation = if self.lacks_genesis() { Some(NO_GENESIS) } else { (end < self.found.end).then_some(wrong_end) };
            if let Some(violation) = violation {
                let offset = self.found.end;
                self.found.finding =
                    Some(Finding { kind: FaultKind::Corrupt, offset, place: offset, position: None, stream: None, violation });
                return;
            }
            let footer = bytes.get(end as usize..).unwrap_or_default();
            self.found.footer = footer[..footer.len().min(footer_bytes as usize)].to_vec();
            if (footer.len() as u64) < footer_bytes {
                self.found.finding = Some(self.shortened());
            }
        }
    }

    /// The first segment exists only since the genesis record in it is on stable storage (L3).
    fn lacks_genesis(&self) -> bool {
        self.found.header.number.get() == 1 && self.found.next_position == 0
    }

    /// Rule S1: the file ends before its successor says.
    fn shortened(&self) -> Finding {
        let end = self.bytes.len() as u64;
        Finding { kind: FaultKind::Missing, offset: end, place: end, position: None, stream: None, violation: SHORTENED }
    }

    /// The walk cannot go on: damage, or the tail of the last segment.
    fn at_the_end(&mut self, cursor: &Cursor<'_>, bad: Bad, named_end: Option<(u64, u64)>) -> Option<Finding> {
        let position = bad.in_frame.then_some(self.found.next_position + bad.frames_before);
        // A body can only be found wrong behind a header that is right, and then the header says whose it is.
        let frame = FrameView::peek(self.bytes.get(bad.offset as usize..).unwrap_or_default());
        let stream = frame.filter(|frame| bad.violation.rule == "F3" && frame.is_event()).map(|frame| frame.stream_id());
        let corrupt =
            Finding { kind: FaultKind::Corrupt, offset: bad.offset, place: bad.place, position, stream, violation: bad.violation };
        // Without it nothing is merely torn.
        let lacks_genesis = self.lacks_genesis();
        if let Some((end, _)) = named_end {
            let is_short = (self.bytes.len() as u64) < end && is_cut(self.bytes, &bad);
            let finding = if is_short { self.shortened() } else { corrupt };
            return Some(self.broken_frames(cursor).err().unwrap_or(finding));
        }
        let position = self.found.watermark.max(self.found.header.first_position.get());
        match judge(self.bytes, &self.found.header, cursor, bad, self.found.next_position, &mut Watermark::known(position)) {
            Tail::Empty | Tail::Footer(_) if lacks_genesis => Some(Finding { violation: NO_GENESIS, ..corrupt }),
            Tail::Empty => None,
            Tail::Footer(footer_bytes) => {
                self.found.footer = self.bytes[cursor.offset() as usize..][..footer_bytes as usize].to_vec();
                None
            }
            Tail::Torn { .. } if !lacks_genesis => {
                let violation = Violation { rule: "R", why: "a torn write behind the last commit; opening for writing cuts it off" };
                Some(Finding {
                    kind: FaultKind::Torn,
                    offset: cursor.offset(),
                    place: cursor.offset(),
                    position: None,
                    stream: None,
                    violation,
                })
            }
            Tail::Damaged(_) if cursor.mark() == Mark::Footer => {
                // Which of its bytes are wrong is seen beside the right ones, which the merge can make.
                let segment_bytes = self.found.header.segment_bytes.get();
                let tail = &self.bytes[cursor.offset() as usize..];
                self.found.footer = tail[..tail.len().min((reserved_bytes(segment_bytes) - segment_bytes) as usize)].to_vec();
                Some(Finding { violation: WRONG_FOOTER, ..corrupt })
            }
            Tail::Torn { .. } | Tail::Damaged(_) => Some(self.broken_frames(cursor).err().unwrap_or(corrupt)),
        }
    }

    /// Verifies commits that follow each other.
    fn commits(&mut self, group: &[Commit<'_>]) -> Result<(), Finding> {
        self.hash(group.iter().flat_map(|commit| &commit.frames));
        let digests = std::mem::take(&mut self.digests);
        let mut from = 0;
        for commit in group {
            let result = self.commit(commit, &digests[from..]);
            if result.is_err() {
                // A link that lies before it comes first.
                return self.links().and(result);
            }
            self.found.end = commit.end;
            from += commit.frames.len();
        }
        self.digests = digests;
        self.links()
    }

    /// Compares the links of records that were taken in with those that their leaves give.
    fn links(&mut self) -> Result<(), Finding> {
        let found = &self.found;
        let wrong = self.to_link.chunks(2).find_map(|pair| {
            let links = hash::Leaf::links([&pair[0].1, &pair[pair.len() - 1].1]);
            pair.iter().zip(links).find(|((index, _), link)| found.leaves[*index].link != *link)
        });
        let finding = wrong.map(|((index, _), _)| {
            let leaf = &found.leaves[*index];
            let violation = Violation { rule: "H1", why: "the link does not follow from the record and its predecessors" };
            let stream = leaf.is_event.then_some(leaf.stream_id);
            let (offset, position) = (leaf.offset(), Some(found.position(*index)));
            Finding { kind: FaultKind::Tampered, offset, place: offset, position, stream, violation }
        });
        self.to_link.clear();
        finding.map_or(Ok(()), Err)
    }

    /// The frames of a commit that is not whole, as far as they are valid by themselves.
    fn broken_frames(&mut self, cursor: &Cursor<'_>) -> Result<(), Finding> {
        let frames = cursor.broken_commit();
        self.hash(frames.iter());
        let digests = std::mem::take(&mut self.digests);
        let result = self.frames(frames, &digests);
        self.links().and(result.map(drop))
    }

    /// Recomputes the digests of all records. What a record that breaks the rules of batches hashes to is never asked for: every batch is whole in one
    /// commit, and begins with the event that it is named after.
    fn hash<'f>(&mut self, frames: impl Iterator<Item = &'f Placed<'f>>) {
        self.digests.clear();
        let mut batch_id = EventId::default();
        let mut frames = frames.peekable();
        let mut contents = Vec::with_capacity(HASHED_TOGETHER);
        while frames.peek().is_some() {
            contents.clear();
            contents.extend(frames.by_ref().take(HASHED_TOGETHER).map(|placed| {
                let header = placed.frame.header;
                if header.batch_index.get() == 0 {
                    batch_id = if header.batch_count.get() > 0 { placed.frame.event_id() } else { EventId::default() };
                }
                placed.frame.lane_event(batch_id)
            }));
            self.lanes.event_digests(&contents, &mut self.digests);
        }
    }

    /// Steps 4 and 5 of FORMAT.md section 10 for the frames of one commit, whose digests are given. Gives the batch that is still open behind them.
    fn frames(&mut self, frames: &[Placed<'_>], digests: &[Hash]) -> Result<Option<(EventId, u32, u32)>, Finding> {
        let mut batch: Option<(EventId, u32, u32)> = None;
        for (index, (placed, digest)) in frames.iter().zip(digests).enumerate() {
            if index.is_multiple_of(HASHED_TOGETHER) {
                if self.to_link.len() >= HASHED_TOGETHER {
                    self.links()?;
                }
                self.ask_ahead(&frames[index..frames.len().min(index + HASHED_TOGETHER)]);
            }
            let position = self.found.next_position;
            let finding = |violation| Finding {
                kind: FaultKind::Tampered,
                offset: placed.offset,
                place: placed.offset,
                position: Some(position),
                stream: placed.frame.is_event().then(|| placed.frame.stream_id()),
                violation,
            };
            placed.frame.check(position).map_err(finding)?;
            batch = follow_batch(batch, &placed.frame).map_err(finding)?;
            self.record(placed.offset, &placed.frame, *digest).map_err(finding)?;
            batch = batch.filter(|(_, index, count)| index + 1 < *count);
        }
        Ok(batch)
    }

    /// Asks for what the next records hang on, for all of them at once: one by one, each would wait for memory.
    fn ask_ahead(&self, frames: &[Placed<'_>]) {
        let found = &self.found;
        let of_record = |(index, placed): (usize, &Placed<'_>)| {
            let before = index.checked_sub(placed.frame.header.stream_back.get() as usize);
            let version = before.and_then(|before| found.leaves.get(before)).map_or(0, |leaf| leaf.version);
            version ^ found.buckets[usize::from(placed.frame.bucket())].map_or(0, |end| end.position)
        };
        black_box((found.leaves.len()..).zip(frames).map(of_record).fold(0, |all, one| all ^ one));
    }

    /// Steps 4 to 6 of FORMAT.md section 10 for one commit.
    fn commit(&mut self, commit: &Commit<'_>, digests: &[Hash]) -> Result<(), Finding> {
        let batch = self.frames(&commit.frames, digests)?;
        let trailer = &commit.trailer;
        let place = commit.end - TRAILER_BYTES as u64;
        let finding =
            |violation| Finding { kind: FaultKind::Tampered, offset: commit.trailer_block, place, position: None, stream: None, violation };
        if batch.is_some() {
            return Err(finding(Violation { rule: "B1", why: "a batch does not end in its commit" }));
        }
        let found = &mut self.found;
        let c5 = |why| Err(finding(Violation { rule: "C5", why }));
        if trailer.next_position() != found.next_position {
            return c5("the commit's first position does not continue the one before it");
        }
        if trailer.watermark.get() < found.watermark || trailer.epoch.get() < found.epoch {
            return c5("watermark or epoch runs backwards");
        }
        if trailer.time_ns.get() != found.time_ns {
            return c5("the commit's time is not that of its last record");
        }
        let links = commit.frames.iter().map(|placed| placed.frame.link()).collect::<Vec<_>>();
        let digest =
            commit_digest(&trailer.previous_digest, trailer.first_position.get(), trailer.count.get(), trailer.time_ns.get(), &links);
        if digest != trailer.digest {
            return Err(finding(Violation { rule: "C6", why: "the commit digest differs" }));
        }
        // The very first commit follows nothing; that of a later segment is left to the merge.
        let follows = match found.first_commit {
            None => found.header.number.get() != 1 || trailer.previous_digest == [0; 32],
            Some(_) => trailer.previous_digest == found.commit_digest,
        };
        if !follows {
            return Err(finding(Violation { rule: "C6", why: "the commit does not follow the digest before it" }));
        }
        found.first_commit.get_or_insert((*trailer, commit.trailer_block, place));
        found.commit_digest = trailer.digest;
        (found.watermark, found.epoch, found.closed) = (trailer.watermark.get(), trailer.epoch.get(), trailer.closed());
        Ok(())
    }

    /// Takes in a record with this digest, and its leaf if both predecessors lie in this segment.
    fn record(&mut self, offset: u64, frame: &FrameView<'_>, digest: Hash) -> Result<(), Violation> {
        let found = &mut self.found;
        let header = frame.header;
        let position = found.next_position;
        let h1 = |why| Err(Violation { rule: "H1", why });
        let recorded_at_ns = header.recorded_at_ns.get();
        if position > found.header.first_position.get() && recorded_at_ns < found.time_ns {
            return h1("recorded time runs backwards");
        }
        let bucket = frame.bucket();
        let bucket_before = found.buckets[usize::from(bucket)].map(|end| (end.position, end.link));
        let stream_before = if frame.is_event() { follow(found, &mut self.streams, frame) } else { None };
        match (bucket_before, stream_before) {
            (Some((bucket_position, bucket_link)), Some(stream)) => {
                if header.version.get() - 1 != stream.version {
                    return h1("the version does not continue the stream");
                }
                let backs = (back_distance(position, Some(bucket_position)), back_distance(position, Some(stream.position)));
                if backs != (header.bucket_back.get(), header.stream_back.get()) {
                    return h1("a back distance is wrong");
                }
                let leaf = frame.leaf(&digest, &bucket_link.0, &stream.link.0);
                self.to_link.push((found.leaves.len(), leaf));
            }
            (bucket_before, stream_before) => {
                if stream_before.is_some_and(|stream| header.version.get() - 1 != stream.version) {
                    return h1("the version does not continue the stream");
                }
                if stream_before.is_some_and(|stream| header.stream_back.get() != back_distance(position, Some(stream.position))) {
                    return h1("a back distance is wrong");
                }
                found.deferred.push(Deferred {
                    offset,
                    position,
                    kind_is_event: frame.is_event(),
                    kind: header.kind,
                    bucket,
                    stream_id: frame.stream_id(),
                    version: header.version.get(),
                    recorded_at_ns,
                    digest,
                    link: frame.link(),
                    bucket_back: header.bucket_back.get(),
                    stream_back: header.stream_back.get(),
                    name: frame.name().map(str::to_owned),
                    bucket_before,
                    stream_before: stream_before.map(|stream| stream.link),
                });
            }
        }
        if position == 0 {
            found.genesis_key = frame.body().and_then(|body| GenesisBody::ref_from_prefix(body).ok()).map(|(genesis, _)| genesis.log_key);
        }
        let said = match (frame.header.kind, frame.body()) {
            (KIND_SEAL, Some(body)) => SealBody::read_from_bytes(body).ok().map(Said::Seal),
            (KIND_KEY, Some(body)) => KeyBody::read_from_bytes(body).ok().map(Said::Key),
            _ => None,
        };
        found.statements.extend(said.map(|said| Statement { said, offset, position, link: frame.link() }));
        let (stream_id, version, is_event) = (frame.stream_id(), header.version.get(), frame.is_event());
        found.leaves.push(VerifiedRecord {
            link: frame.link(),
            stream_id,
            version,
            offset: offset_entry(offset),
            is_event,
            is_followed: false,
        });
        found.ids.push(if is_event { frame.event_id() } else { EventId::default() });
        found.events += u64::from(is_event);
        let end = &mut found.buckets[usize::from(bucket)];
        *end = Some(BucketEnd { count: end.map_or(0, |end| end.count) + 1, position, link: frame.link() });
        found.first_recorded.get_or_insert((recorded_at_ns, position, offset));
        if (position - found.header.first_position.get()).is_multiple_of(POSITION_STRIDE) {
            found.offsets.push(offset_entry(offset));
        }
        found.time_ns = recorded_at_ns;
        found.next_position += 1;
        Ok(())
    }
}

/// The event that this one follows in its stream, if that is in this segment, and marks it as followed.
///
/// A stream's events in a segment are a chain: each but the first follows one that nothing else followed, which is its newest then. So the one that the
/// event's back distance leads to is right if it is the stream's and not followed; nothing needs to be looked up.
fn follow(found: &mut SegmentFindings, streams: &mut StreamSet, frame: &FrameView<'_>) -> Option<StreamEnd> {
    let id = frame.stream_id();
    let is_newest = |leaf: &VerifiedRecord| leaf.is_event && leaf.stream_id == id && !leaf.is_followed;
    let back = frame.header.stream_back.get() as usize;
    let named = found.leaves.len().checked_sub(back).filter(|index| found.leaves.get(*index).is_some_and(is_newest));
    let index = match named {
        Some(index) => index,
        None if streams.insert(id) => return None,
        // The distance is wrong, and the caller will see it.
        None => found.leaves.iter().rposition(is_newest)?,
    };
    let position = found.position(index);
    let leaf = &mut found.leaves[index];
    leaf.is_followed = true;
    Some(StreamEnd { version: leaf.version, position, link: leaf.link })
}

impl Deferred {
    /// The link this record should have behind these predecessors.
    pub(super) fn expected_link(&self, prev_bucket: &Hash, prev_stream: &Hash) -> Link {
        let fields = LeafFields {
            kind: self.kind,
            bucket: self.bucket,
            version: self.version,
            recorded_at_ns: self.recorded_at_ns,
            digest: &self.digest,
            prev_bucket,
            prev_stream,
        };
        hash::Leaf::new(&fields).link()
    }
}

/// Reads on until a group is complete, or the end that is named; on an error, with the commits before it in the group.
fn next_group<'a>(cursor: &mut Cursor<'a>, named_end: Option<(u64, u64)>, group: &mut Vec<Commit<'a>>) -> Result<(), Bad> {
    group.clear();
    let mut records = 0;
    while records < GROUP_RECORDS && named_end.is_none_or(|(end, _)| cursor.offset() < end) {
        let commit = cursor.next_commit()?;
        records += commit.frames.len();
        group.push(commit);
    }
    Ok(())
}

/// Whether what is bad is only that the file ends inside it.
fn is_cut(bytes: &[u8], bad: &Bad) -> bool {
    let left = bytes.get(bad.place as usize..).unwrap_or_default();
    let header = FrameHeader::ref_from_prefix(left).ok();
    match bad.violation.rule {
        "F1" => header.is_none_or(|(header, _)| header.stated_bytes().is_some_and(|bytes| bytes as usize > left.len())),
        "C4" => left.len() < TRAILER_BYTES,
        // Fewer bytes than tell what stands here.
        _ => bad.violation == CUT_PADDING || (bad.violation != BAD_PADDING && left.len() < size_of::<u32>()),
    }
}

/// Rule B1: the frame continues the batch under way, or begins one, or stands alone.
fn follow_batch(batch: Option<(EventId, u32, u32)>, frame: &FrameView<'_>) -> Result<Option<(EventId, u32, u32)>, Violation> {
    let (index, count) = (frame.header.batch_index.get(), frame.header.batch_count.get());
    match batch {
        Some((id, last, whole)) if count == whole && index == last + 1 => Ok(Some((id, index, count))),
        Some(_) => Err(Violation { rule: "B1", why: "the batch before it is not complete" }),
        None if index != 0 => Err(Violation { rule: "B1", why: "the batch does not begin with its first event" }),
        None => Ok((count > 0).then_some((frame.event_id(), 0, count))),
    }
}
