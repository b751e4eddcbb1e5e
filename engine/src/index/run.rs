//! One run: the positions of every key in a stretch of segments.

use std::io;
use std::ops::RangeInclusive;

use chainring_format::Link;
use chainring_format::checksum::Seed;
use chainring_format::footer::{BucketHead, HeadEntry, POSITION_STRIDE};
use chainring_format::segment::SegmentHeader;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::layout::{
    FANOUT, FILTER_BLOCK_BYTES, FILTER_BLOCKS_PER_PAGE, HEADS_PER_PAGE, LEAF_HEAD_BYTES, LEVELS_MAX, MAGIC, OFFSETS_PER_PAGE, Part,
    RunHead, SUMMARIES_PER_PAGE, StoredSummary, StoredZone, VERSION, WITH_OFFSETS, ZONES_PER_PAGE, filter_bits, filter_block, take_number,
};
use super::page::{Broken, PAGE_BYTES, Pages, check};
use super::zone::{ZONE_RECORDS, Zone};
use crate::disk::{Access, Disk, Region};
use crate::segment::Found;
use crate::sync::Arc;

/// What opening needs to know of a segment without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub number: u64,
    pub first_position: u64,
    pub next_position: u64,
    pub epoch: u64,
    /// The latest recorded_at of its records.
    pub time_ns: u64,
    /// The highest watermark that its trailers state, and the offset of the trailer that does.
    pub watermark: u64,
    pub watermark_offset: u64,
    /// Streams that begin in it.
    pub streams: u64,
    /// Its last commit says that the log was closed.
    pub is_closed: bool,
    pub commit_digest: [u8; 32],
    /// Of all its events.
    pub claimed: Zone,
    /// Of the segment's file, when the run was made: offsets are of this file.
    pub header: SegmentHeader,
}

impl From<Zone> for StoredZone {
    fn from(zone: Zone) -> StoredZone {
        StoredZone { earliest: zone.earliest.into(), latest: zone.latest.into() }
    }
}

impl From<&StoredZone> for Zone {
    fn from(stored: &StoredZone) -> Zone {
        Zone { earliest: stored.earliest.get(), latest: stored.latest.get() }
    }
}

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posting {
    pub position: u64,
    /// Offset of the frame in the file that its segment was when the run was made; 0 if that is not kept.
    pub offset: u64,
}

impl Summary {
    pub(super) fn stored(&self) -> StoredSummary {
        StoredSummary {
            number: self.number.into(),
            first_position: self.first_position.into(),
            next_position: self.next_position.into(),
            epoch: self.epoch.into(),
            time_ns: self.time_ns.into(),
            watermark: self.watermark.into(),
            watermark_offset: self.watermark_offset.into(),
            streams: self.streams.into(),
            is_closed: u32::from(self.is_closed).into(),
            reserved: 0.into(),
            commit_digest: self.commit_digest,
            claimed: self.claimed.into(),
            header: self.header,
        }
    }

    fn of(stored: &StoredSummary) -> Summary {
        Summary {
            number: stored.number.get(),
            first_position: stored.first_position.get(),
            next_position: stored.next_position.get(),
            epoch: stored.epoch.get(),
            time_ns: stored.time_ns.get(),
            watermark: stored.watermark.get(),
            watermark_offset: stored.watermark_offset.get(),
            streams: stored.streams.get(),
            is_closed: stored.is_closed.get() == 1,
            commit_digest: stored.commit_digest,
            claimed: (&stored.claimed).into(),
            header: stored.header,
        }
    }
}

/// What is brought in of a page that is going to be searched, so that it is mapped.
const KEYS_TOUCHED_BYTES: usize = 64;

/// A run, read in place.
#[derive(Debug)]
pub(crate) struct Run {
    /// Name of its file; empty for one in memory.
    pub name: String,
    head: RunHead,
    pages: Pages,
    pub summaries: Vec<Summary>,
    /// Position of the first record of each segment: looked through for every posting that is found.
    starts: Vec<u64>,
    /// The latest recorded_at of each segment's records and of all before it in the run: looked through for every instant.
    times_ns: Vec<u64>,
    /// Where each segment's position table begins among all of them.
    table_starts: Vec<u64>,
}

impl Run {
    /// Opens the run in a file.
    ///
    /// # Errors
    /// Whatever keeps it from being used: that costs time, and nothing else.
    pub(super) fn open(disk: &dyn Disk, name: &str) -> io::Result<Run> {
        let file = disk.open(name, Access::Read)?;
        let bytes = usize::try_from(file.bytes()?).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Run::of(file.region(bytes)?, name).map_err(|Broken| io::ErrorKind::InvalidData.into())
    }

    pub(super) fn of(region: Region, name: &str) -> Result<Run, Broken> {
        let first = region.read(0, PAGE_BYTES as u64).map_err(|_| Broken)?;
        let payload = check(first.get(..PAGE_BYTES).ok_or(Broken)?, Seed::new(&[0; 16]), 0)?;
        let (head, _) = RunHead::read_from_prefix(payload).map_err(|_| Broken)?;
        let is_known = head.magic == MAGIC && head.version.get() == VERSION && head.levels.get() as usize <= LEVELS_MAX;
        let pages = Pages::new(region, Seed::new(&head.salt));
        let fits = |part: &Part| part.start.get().checked_add(part.pages.get()).is_some_and(|end| end <= pages.count());
        let parts = [&head.filter, &head.leaves, &head.summaries, &head.tables, &head.zones, &head.heads].into_iter().chain(&head.inner);
        let order = head.first_segment <= head.last_segment && head.first_position <= head.next_position;
        if !is_known || !order || !parts.into_iter().all(fits) || head.filter.count.get() == 0 {
            return Err(Broken);
        }
        let mut run = Run {
            name: name.to_owned(),
            head,
            pages,
            summaries: Vec::new(),
            starts: Vec::new(),
            times_ns: Vec::new(),
            table_starts: Vec::new(),
        };
        run.summaries = run.all::<StoredSummary>(head.summaries, SUMMARIES_PER_PAGE)?.iter().map(Summary::of).collect();
        let covers = run.segments().zip(run.summaries.iter().map(|summary| summary.number)).all(|(expected, number)| expected == number);
        let rises = run.summaries.iter().all(|summary| summary.first_position <= summary.next_position);
        if !covers || !rises || run.segments().count() != run.summaries.len() {
            return Err(Broken);
        }
        let (mut latest_ns, mut table_start) = (0, 0);
        for summary in &run.summaries {
            latest_ns = summary.time_ns.max(latest_ns);
            run.starts.push(summary.first_position);
            run.times_ns.push(latest_ns);
            run.table_starts.push(table_start);
            table_start += (summary.next_position - summary.first_position).div_ceil(POSITION_STRIDE);
        }
        Ok(run)
    }

    fn all<T: FromBytes + KnownLayout + Immutable + Unaligned + Copy>(&self, part: Part, per_page: usize) -> Result<Vec<T>, Broken> {
        self.some(part, per_page, 0, part.count.get())
    }

    /// Some of the things in a part: `count` of them from the so manieth on.
    fn some<T: FromBytes + KnownLayout + Immutable + Unaligned + Copy>(
        &self,
        part: Part,
        per_page: usize,
        from: u64,
        count: u64,
    ) -> Result<Vec<T>, Broken> {
        if from.checked_add(count).is_none_or(|end| end > part.count.get()) {
            return Err(Broken);
        }
        let (mut some, per_page) = (Vec::new(), per_page as u64);
        let mut at = from;
        while at < from + count {
            if at / per_page >= part.pages.get() {
                return Err(Broken);
            }
            let payload = self.pages.page(part.start.get() + at / per_page)?;
            let in_page = (from + count - at).min(per_page - at % per_page);
            let bytes = payload.get(at as usize % per_page as usize * size_of::<T>()..).ok_or(Broken)?;
            let (things, _) = <[T]>::ref_from_prefix_with_elems(bytes, in_page as usize).map_err(|_| Broken)?;
            some.extend_from_slice(things);
            at += in_page;
        }
        Ok(some)
    }

    /// The latest time of the records before the first segment that has a record which was recorded after an instant, and that segment, if there is one.
    pub(super) fn recorded_after(&self, time_ns: u64) -> (u64, Option<&Summary>) {
        let place = self.times_ns.partition_point(|latest_ns| *latest_ns <= time_ns);
        let before_ns = place.checked_sub(1).map_or(0, |before| self.times_ns[before]);
        (before_ns, self.summaries.get(place))
    }

    /// The segment that a record is in: its place among those of the run.
    fn place_of(&self, position: u64) -> usize {
        self.starts.partition_point(|start| *start <= position).saturating_sub(1)
    }

    /// The page, and the byte of it, with the offset of the last eighth frame at or before a position; and of which segment's table it is.
    fn mark_place(&self, position: u64) -> Option<(u64, usize, &Summary)> {
        let segment = self.place_of(position);
        let summary = self.summaries.get(segment).filter(|summary| position < summary.next_position)?;
        let place = self.table_starts[segment] + position.checked_sub(summary.first_position)? / POSITION_STRIDE;
        let page = self.head.tables.start.get() + place / OFFSETS_PER_PAGE as u64;
        let is_there = place < self.head.tables.count.get();
        is_there.then_some((page, place as usize % OFFSETS_PER_PAGE * size_of::<U32>(), summary))
    }

    /// The offset, in units of 8 bytes, of the last eighth frame at or before a position in its segment, if the segment's file has this salt.
    pub(super) fn mark_before(&self, position: u64, salt: &[u8; 16]) -> Result<Option<u32>, Broken> {
        let Some((page, byte, _)) = self.mark_place(position).filter(|(.., summary)| summary.header.salt == *salt) else { return Ok(None) };
        let entry = self.pages.page(page)?.get(byte..).and_then(<[u8]>::first_chunk).ok_or(Broken)?;
        Ok(Some(u32::from_le_bytes(*entry)))
    }

    /// The whole position table of a segment, if its file has this salt.
    pub(super) fn table(&self, first_position: u64, salt: &[u8; 16]) -> Result<Option<Vec<u32>>, Broken> {
        let segment = self.place_of(first_position);
        let is_it = |summary: &&Summary| summary.first_position == first_position && summary.header.salt == *salt;
        let Some(summary) = self.summaries.get(segment).filter(is_it) else { return Ok(None) };
        let count = (summary.next_position - first_position).div_ceil(POSITION_STRIDE);
        let table = self.some::<U32>(self.head.tables, OFFSETS_PER_PAGE, self.table_starts[segment], count)?;
        Ok(Some(table.iter().map(|offset| offset.get()).collect()))
    }

    /// Brings in what [`Run::mark_before`] looks at, side by side.
    pub(super) fn bring_in_marks<'r>(positions: impl Iterator<Item = (&'r Arc<Run>, u64)>) {
        let place = |(run, position): (&'r Arc<Run>, u64)| {
            let (page, byte, _) = run.mark_place(position)?;
            Some((&run.pages, (page, byte), size_of::<U32>()))
        };
        Pages::bring_in(positions.filter_map(place));
    }

    /// All position tables, one behind the other.
    pub(super) fn tables(&self) -> Result<Vec<u32>, Broken> {
        Ok(self.all::<U32>(self.head.tables, OFFSETS_PER_PAGE)?.iter().map(|offset| offset.get()).collect())
    }

    /// The zones of a segment.
    pub(super) fn zones(&self, number: u64) -> Result<Vec<Zone>, Broken> {
        let zones = |summary: &Summary| (summary.next_position - summary.first_position).div_ceil(ZONE_RECORDS);
        let before = self.summaries.iter().take_while(|summary| summary.number < number);
        let start = before.map(zones).sum();
        let count = self.summaries.iter().find(|summary| summary.number == number).map_or(0, zones);
        Ok(self.some::<StoredZone>(self.head.zones, ZONES_PER_PAGE, start, count)?.iter().map(Zone::from).collect())
    }

    /// The zones of all segments, one behind the other.
    pub(super) fn all_zones(&self) -> Result<Vec<Zone>, Broken> {
        Ok(self.all::<StoredZone>(self.head.zones, ZONES_PER_PAGE)?.iter().map(Zone::from).collect())
    }

    pub(super) fn log_id(&self) -> [u8; 32] {
        self.head.log_id
    }

    pub(super) fn key_seed(&self) -> [u8; 16] {
        self.head.key_seed
    }

    pub(crate) fn segments(&self) -> RangeInclusive<u64> {
        self.head.first_segment.get()..=self.head.last_segment.get()
    }

    pub(crate) fn first_position(&self) -> u64 {
        self.head.first_position.get()
    }

    /// Position after its last record.
    pub(crate) fn next_position(&self) -> u64 {
        self.head.next_position.get()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pages.count() * PAGE_BYTES as u64
    }

    /// An upper bound of its keys, as many entries as there are.
    pub(super) fn entries(&self) -> u64 {
        self.head.leaves.count.get()
    }

    /// Last record of every bucket at its end.
    pub(crate) fn heads(&self) -> Result<Vec<BucketHead>, Broken> {
        let head = |entry: &HeadEntry| BucketHead {
            bucket: entry.bucket.get(),
            count: entry.count.get(),
            position: entry.position.get(),
            link: Link(entry.link),
        };
        Ok(self.all::<HeadEntry>(self.head.heads, HEADS_PER_PAGE)?.iter().map(head).collect())
    }

    /// The page, and the byte of it, where the filter's block for a key begins.
    fn filter_place(&self, key: u64) -> (u64, usize) {
        let block = filter_block(key, self.head.filter.count.get());
        let page = self.head.filter.start.get() + block / FILTER_BLOCKS_PER_PAGE as u64;
        (page, block as usize % FILTER_BLOCKS_PER_PAGE * FILTER_BLOCK_BYTES)
    }

    /// Brings in what asking these runs for a key and a position looks at, side by side: one after the other, each page would be waited for alone. What is
    /// wrong with a run shows when it is asked.
    pub(super) fn bring_in(runs: &[&Arc<Run>], key: u64, position: u64) {
        Pages::bring_in(runs.iter().map(|run| (&run.pages, run.filter_place(key), FILTER_BLOCK_BYTES)));
        let holding = runs.iter().filter(|run| run.may_hold(key).unwrap_or(true));
        let mut ways: Vec<Way<'_>> = holding.map(|run| Way::new(run, key, position)).collect();
        while !ways.is_empty() {
            Pages::bring_in(ways.iter().map(|way| (&way.run.pages, (way.page(), 0), KEYS_TOUCHED_BYTES)));
            ways.retain_mut(|way| way.go_down().unwrap_or(false));
        }
    }

    /// Whether there may be positions under a key. A yes is wrong once in a hundred times, a no never.
    pub(crate) fn may_hold(&self, key: u64) -> Result<bool, Broken> {
        let (page, byte) = self.filter_place(key);
        let block = &self.pages.page(page)?[byte..][..FILTER_BLOCK_BYTES];
        Ok(filter_bits(key).all(|bit| block[bit / 8] & 1 << (bit % 8) != 0))
    }

    fn leaf(&self, page: u64) -> Result<Leaf<'_>, Broken> {
        Leaf::of(self.pages.page(self.head.leaves.start.get() + page)?)
    }

    /// The last entry at or before this key and position. `None` if all are behind it.
    fn seek(&self, key: u64, position: u64) -> Result<Option<Place>, Broken> {
        let leaves = self.head.leaves.pages.get();
        if leaves == 0 {
            return Ok(None);
        }
        let mut way = Way::new(self, key, position);
        while way.go_down()? {}
        let leaf = self.leaf(way.child)?;
        Ok(leaf.sorted.last_at_or_before(key, way.first).map(|slot| Place { page: way.child, slot }))
    }

    fn next(&self, place: Option<Place>) -> Result<Option<Place>, Broken> {
        let next = match place {
            None => Place { page: 0, slot: 0 },
            Some(place) if place.slot + 1 < self.leaf(place.page)?.sorted.count => Place { slot: place.slot + 1, ..place },
            Some(place) => Place { page: place.page + 1, slot: 0 },
        };
        Ok((next.page < self.head.leaves.pages.get()).then_some(next))
    }

    fn before(&self, place: Place) -> Result<Option<Place>, Broken> {
        Ok(match (place.slot.checked_sub(1), place.page.checked_sub(1)) {
            (Some(slot), _) => Some(Place { slot, ..place }),
            (None, Some(page)) => Some(Place { page, slot: self.leaf(page)?.sorted.count - 1 }),
            (None, None) => None,
        })
    }

    /// The positions of an entry, appended to `out` in order.
    fn positions(&self, place: Place, out: &mut Vec<Posting>) -> Result<(), Broken> {
        let leaf = self.leaf(place.page)?;
        let mut position = self.first_position() + u64::from(leaf.sorted.first(place.slot));
        let (mut list, with_offsets) = leaf.list(place.slot)?;
        let offset = |list: &mut &[u8]| match with_offsets {
            true => take_number(list).and_then(|eighths| eighths.checked_mul(8)).ok_or(Broken),
            false => Ok(0),
        };
        out.push(Posting { position, offset: offset(&mut list)? });
        while !list.is_empty() {
            position = take_number(&mut list).and_then(|more| position.checked_add(more)?.checked_add(1)).ok_or(Broken)?;
            out.push(Posting { position, offset: offset(&mut list)? });
        }
        Ok(())
    }

    /// What a posting says, with the salt of the file that its offset is of.
    pub(super) fn found(&self, Posting { position, offset }: Posting) -> Found {
        (position, (offset > 0).then(|| (offset, self.summaries[self.place_of(position)].header.salt)))
    }

    /// Positions under a key and below a bound, falling.
    pub(crate) fn backward(&self, key: u64, below: u64) -> Result<Postings<'_>, Broken> {
        let at = match below.checked_sub(1).filter(|last| *last >= self.first_position()) {
            Some(last) => self.seek(key, last)?,
            None => None,
        };
        Ok(Postings { run: self, key, direction: Direction::FallingBelow(below), at, ready: Vec::new() })
    }

    /// Positions under a key from one on, rising.
    pub(crate) fn forward(&self, key: u64, from: u64) -> Result<Postings<'_>, Broken> {
        let at = match self.seek(key, from)? {
            Some(place) if self.leaf(place.page)?.sorted.key(place.slot) == key => Some(place),
            other => self.next(other)?,
        };
        Ok(Postings { run: self, key, direction: Direction::RisingFrom(from), at, ready: Vec::new() })
    }

    /// Every key with its positions, in the order of keys.
    pub(super) fn everything(&self) -> Result<Everything<'_>, Broken> {
        Ok(Everything { run: self, at: self.next(None)? })
    }
}

/// On the way from the root of a run to the leaf where an entry is, or the last one before it.
#[derive(Debug)]
struct Way<'r> {
    run: &'r Run,
    key: u64,
    /// Counted from the run's first position.
    first: u32,
    /// Levels of inner pages still to go through.
    levels: usize,
    /// Number of the page in its level.
    child: u64,
}

impl<'r> Way<'r> {
    fn new(run: &'r Run, key: u64, position: u64) -> Way<'r> {
        let first = u32::try_from(position.saturating_sub(run.first_position())).unwrap_or(u32::MAX);
        Way { run, key, first, levels: run.head.levels.get() as usize, child: 0 }
    }

    /// The page to look at next.
    fn page(&self) -> u64 {
        let level = self.levels.checked_sub(1).map_or(&self.run.head.leaves, |level| &self.run.head.inner[level]);
        level.start.get() + self.child
    }

    /// Goes to the level below; `false` at the leaf.
    fn go_down(&mut self) -> Result<bool, Broken> {
        if self.levels == 0 {
            return Ok(false);
        }
        let inner = Sorted::of(self.run.pages.page(self.page())?)?;
        self.child = self.child * FANOUT as u64 + inner.last_at_or_before(self.key, self.first).unwrap_or(0) as u64;
        self.levels -= 1;
        Ok(true)
    }
}

/// An entry of a run.
#[derive(Debug, Clone, Copy)]
struct Place {
    page: u64,
    slot: usize,
}

/// Keys and first positions, in order, as leaves and inner pages hold them.
#[derive(Debug, Clone, Copy)]
struct Sorted<'a> {
    count: usize,
    keys: &'a [u8],
    firsts: &'a [u8],
}

impl<'a> Sorted<'a> {
    fn of(payload: &'a [u8]) -> Result<Sorted<'a>, Broken> {
        let (count, rest) = payload.split_first_chunk::<LEAF_HEAD_BYTES>().ok_or(Broken)?;
        let count = u32::from_le_bytes(*count) as usize;
        if count == 0 || count > rest.len() / 12 {
            return Err(Broken);
        }
        let (keys, rest) = rest.split_at(8 * count);
        Ok(Sorted { count, keys, firsts: &rest[..4 * count] })
    }

    fn key(&self, slot: usize) -> u64 {
        u64::from_le_bytes(*self.keys[8 * slot..].first_chunk().expect("8 bytes a key"))
    }

    fn first(&self, slot: usize) -> u32 {
        u32::from_le_bytes(*self.firsts[4 * slot..].first_chunk().expect("4 bytes a position"))
    }

    fn last_at_or_before(&self, key: u64, first: u32) -> Option<usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            if (self.key(middle), self.first(middle)) <= (key, first) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }
}

#[derive(Debug, Clone, Copy)]
struct Leaf<'a> {
    sorted: Sorted<'a>,
    ends: &'a [u8],
    lists: &'a [u8],
}

impl<'a> Leaf<'a> {
    fn of(payload: &'a [u8]) -> Result<Leaf<'a>, Broken> {
        let sorted = Sorted::of(payload)?;
        let rest = &payload[LEAF_HEAD_BYTES + 12 * sorted.count..];
        let (ends, lists) = rest.split_at_checked(2 * sorted.count).ok_or(Broken)?;
        Ok(Leaf { sorted, ends, lists })
    }

    fn end(&self, slot: usize) -> u16 {
        u16::from_le_bytes(*self.ends[2 * slot..].first_chunk().expect("2 bytes an end"))
    }

    /// The list of an entry, and whether offsets are in it.
    fn list(&self, slot: usize) -> Result<(&'a [u8], bool), Broken> {
        let start = slot.checked_sub(1).map_or(0, |before| self.end(before) & !WITH_OFFSETS);
        let end = self.end(slot);
        let list = self.lists.get(start.into()..(end & !WITH_OFFSETS).into()).ok_or(Broken)?;
        Ok((list, end & WITH_OFFSETS != 0))
    }
}

/// Positions under a key: falling below a bound, or rising from one on.
#[derive(Debug)]
pub(crate) struct Postings<'a> {
    run: &'a Run,
    key: u64,
    direction: Direction,
    at: Option<Place>,
    /// Positions still to be given, the next one last.
    ready: Vec<Posting>,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    FallingBelow(u64),
    RisingFrom(u64),
}

impl Postings<'_> {
    fn fill(&mut self) -> Result<(), Broken> {
        while let (true, Some(place)) = (self.ready.is_empty(), self.at) {
            self.at = None;
            if self.run.leaf(place.page)?.sorted.key(place.slot) != self.key {
                continue;
            }
            self.run.positions(place, &mut self.ready)?;
            let (Direction::FallingBelow(bound) | Direction::RisingFrom(bound)) = self.direction;
            let below = self.ready.partition_point(|posting| posting.position < bound);
            self.at = match self.direction {
                Direction::FallingBelow(_) => {
                    self.ready.truncate(below);
                    self.run.before(place)?
                }
                Direction::RisingFrom(_) => {
                    self.ready.drain(..below);
                    self.ready.reverse();
                    self.run.next(Some(place))?
                }
            };
        }
        Ok(())
    }
}

impl Iterator for Postings<'_> {
    type Item = Result<Posting, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.fill() {
            Ok(()) => self.ready.pop().map(Ok),
            Err(broken) => Some(Err(broken)),
        }
    }
}

/// See [`Run::everything`].
#[derive(Debug)]
pub(super) struct Everything<'a> {
    run: &'a Run,
    at: Option<Place>,
}

impl Everything<'_> {
    /// The key of the next entry.
    pub(super) fn key(&self) -> Result<Option<u64>, Broken> {
        self.at.map(|place| Ok(self.run.leaf(place.page)?.sorted.key(place.slot))).transpose()
    }

    /// The positions of the next entry, in place of what `out` holds; steps over it.
    pub(super) fn take(&mut self, out: &mut Vec<Posting>) -> Result<(), Broken> {
        out.clear();
        let Some(place) = self.at else { return Ok(()) };
        self.run.positions(place, out)?;
        self.at = self.run.next(Some(place))?;
        Ok(())
    }
}
