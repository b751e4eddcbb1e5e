//! From a sealed segment to its run, and from many runs to one.

use std::collections::HashMap;
use std::io;

use chainring_format::commit::TRAILER_BYTES;
use chainring_format::footer::{BucketHead, POSITION_STRIDE};
use chainring_format::metadata::mentions;

use super::key::{Keys, Term};
use super::page::Broken;
use super::run::{Posting, Run, Summary};
use super::write::{Plan, RunWriter, Target};
use super::zone::{self, Zone};
use crate::disk::DiskFile;
use crate::error::{Fault, FaultKind, OpenError, ReadError};
use crate::segment::{Cursor, Placed, Segment, offset_entry, read_header};
use crate::sync::Arc;

/// What a segment holds, to be found again.
#[derive(Debug)]
pub(super) struct Found {
    pub summary: Summary,
    /// Sorted.
    postings: Vec<Keyed>,
    /// Records of every bucket in this segment.
    heads: Vec<BucketHead>,
    /// The position table.
    offsets: Vec<u32>,
    zones: Vec<Zone>,
}

/// So many bytes of a segment give a posting, about: some six for an event of usual size.
const POSTING_PER_BYTES: usize = 80;

/// Reads a sealed segment, every checksum of it.
pub(super) fn examine(segment: &Segment, keys: &Keys) -> Result<Found, ReadError> {
    let bytes = segment.read(0, segment.commits_end())?;
    let header = read_header(bytes, segment.number).map_err(|error| match error {
        OpenError::Damaged(fault) => ReadError::Damaged(fault),
        other => ReadError::Io { segment: segment.name(), offset: 0, source: Arc::new(io::Error::other(other.to_string())) },
    })?;
    let first_position = header.first_position.get();
    let mut summary = Summary {
        number: segment.number,
        first_position,
        next_position: first_position,
        epoch: header.epoch.get(),
        time_ns: 0,
        watermark: 0,
        watermark_offset: 0,
        streams: 0,
        is_closed: false,
        commit_digest: header.prev_commit_digest,
        claimed: Zone::EMPTY,
        header,
    };
    // Growing it would touch new memory again and again.
    let mut postings = Postings { keys, relative: 0, all: Vec::with_capacity(bytes.len() / POSTING_PER_BYTES) };
    let mut heads: HashMap<u16, BucketHead> = HashMap::new();
    let (mut offsets, mut zones) = (Vec::new(), Vec::new());
    let mut cursor = Cursor::new(bytes, &header);
    while cursor.offset() < segment.commits_end() {
        let commit = cursor.next_commit().map_err(|bad| {
            ReadError::Damaged(Fault::new(FaultKind::Corrupt, segment.name(), bad.offset, bad.violation).at_position(summary.next_position))
        })?;
        for placed in &commit.frames {
            let (position, frame) = (summary.next_position, &placed.frame);
            let relative = u32::try_from(position - first_position).expect("a segment has fewer than 2^32 records");
            if u64::from(relative).is_multiple_of(POSITION_STRIDE) {
                offsets.push(offset_entry(placed.offset));
            }
            zone::take_in(&mut zones, relative.into(), frame);
            if frame.is_event() {
                postings.take_in(relative, placed);
                summary.streams += u64::from(frame.header.version.get() == 1);
            }
            let bucket = frame.bucket();
            let head = heads.entry(bucket).or_insert(BucketHead { bucket, count: 0, position, link: frame.link() });
            (head.count, head.position, head.link) = (head.count + 1, position, frame.link());
            summary.time_ns = summary.time_ns.max(frame.header.recorded_at_ns.get());
            summary.next_position += 1;
        }
        let trailer = &commit.trailer;
        summary.commit_digest = trailer.digest;
        summary.epoch = trailer.epoch.get();
        summary.is_closed = trailer.closed();
        if trailer.watermark.get() > summary.watermark {
            (summary.watermark, summary.watermark_offset) = (trailer.watermark.get(), commit.end - TRAILER_BYTES as u64);
        }
    }
    let mut postings = postings.all;
    sort(&mut postings);
    let mut heads: Vec<BucketHead> = heads.into_values().collect();
    heads.sort_unstable_by_key(|head| head.bucket);
    summary.claimed = zones.iter().copied().fold(Zone::EMPTY, Zone::join);
    Ok(Found { summary, postings, heads, offsets, zones })
}

/// A key, a position relative to the segment's first, and an offset in units of 8 bytes where it is kept.
type Keyed = (u64, u32, u32);

struct Postings<'a> {
    keys: &'a Keys,
    relative: u32,
    all: Vec<Keyed>,
}

impl Postings<'_> {
    fn take_in(&mut self, relative: u32, placed: &Placed<'_>) {
        let frame = &placed.frame;
        self.relative = relative;
        self.put(&Term::Id(frame.event_id()), 0);
        // Streams are read from end to end, so their frames should be found without a step in between.
        self.put(&Term::Stream(frame.stream_id()), offset_entry(placed.offset));
        if frame.header.version.get() == 1 {
            self.put(&Term::Birth, 0);
        }
        mentions(frame.metadata(), |mention| self.put(&Term::Mention(mention), 0));
    }

    fn put(&mut self, term: &Term<'_>, offset: u32) {
        self.all.push((self.keys.of(term), self.relative, offset));
    }
}

/// Parts that are sorted each for itself, so that what is compared lies together.
const PARTS: usize = 1024;

/// Sorts by key and position. Keys are even over their range, so their first bits part them evenly: they are exchanged until each is in its part (an American
/// flag sort: McIlroy, Bostic, McIlroy, "Engineering radix sort", 1993), and each part is sorted.
fn sort(all: &mut [Keyed]) {
    let part_of = |keyed: &Keyed| (keyed.0 >> (u64::BITS - PARTS.ilog2())) as usize;
    let mut ends = vec![0; PARTS];
    all.iter().for_each(|keyed| ends[part_of(keyed)] += 1);
    let mut next = vec![0; PARTS];
    let mut end = 0;
    for part in 0..PARTS {
        next[part] = end;
        end += ends[part];
        ends[part] = end;
    }
    for part in 0..PARTS {
        while next[part] < ends[part] {
            let place = next[part];
            let home = part_of(&all[place]);
            if home != part {
                all.swap(place, next[home]);
            }
            next[home] += 1;
        }
    }
    let mut start = 0;
    for end in ends {
        all[start..end].sort_unstable();
        start = end;
    }
}

/// Last records of all buckets, behind those in `heads`.
pub(super) fn advance(heads: &mut Vec<BucketHead>, found: &Found) {
    for moved in &found.heads {
        match heads.binary_search_by_key(&moved.bucket, |head| head.bucket) {
            Ok(place) => heads[place] = BucketHead { count: heads[place].count + moved.count, ..*moved },
            Err(place) => heads.insert(place, *moved),
        }
    }
}

/// Writes the run of one segment; `heads` are those at its end.
pub(super) fn write_found(target: Target, log_id: [u8; 32], keys: &Keys, found: &Found, heads: &[BucketHead]) -> io::Result<Target> {
    let summary = &found.summary;
    let plan = Plan {
        log_id,
        key_seed: keys.seed(),
        first_segment: summary.number,
        last_segment: summary.number,
        first_position: summary.first_position,
        next_position: summary.next_position,
        keys_max: found.postings.chunk_by(|a, b| a.0 == b.0).count() as u64,
    };
    let mut writer = RunWriter::new(target, plan);
    for (key, relative, eighths) in &found.postings {
        writer.put(*key, Posting { position: summary.first_position + u64::from(*relative), offset: 8 * u64::from(*eighths) })?;
    }
    writer.finish(&[*summary], &found.offsets, &found.zones, heads)
}

/// Why runs were not merged.
pub(super) enum MergeError {
    /// This one is broken.
    Broken(Arc<Run>),
    Write(io::Error),
    Stopped,
}

impl From<io::Error> for MergeError {
    fn from(error: io::Error) -> MergeError {
        MergeError::Write(error)
    }
}

/// Writes one run with everything that is in these, which follow each other.
pub(super) fn merge(file: Arc<dyn DiskFile>, runs: &[Arc<Run>], stop: impl Fn() -> bool) -> Result<(), MergeError> {
    let (first, last) = (&runs[0], &runs[runs.len() - 1]);
    let plan = Plan {
        log_id: first.log_id(),
        key_seed: first.key_seed(),
        first_segment: *first.segments().start(),
        last_segment: *last.segments().end(),
        first_position: first.first_position(),
        next_position: last.next_position(),
        keys_max: runs.iter().map(|run| run.entries()).sum(),
    };
    let mut writer = RunWriter::new(Target::File(file, 0), plan);
    let broken = |index: usize| move |Broken| MergeError::Broken(Arc::clone(&runs[index]));
    let mut all = Vec::with_capacity(runs.len());
    for (index, run) in runs.iter().enumerate() {
        let everything = run.everything().map_err(broken(index))?;
        all.push((everything.key().map_err(broken(index))?, everything));
    }
    let mut positions = Vec::new();
    let mut entries = 0_u64;
    // The lowest key, and of those that have it the oldest run, whose positions come first.
    while let Some((key, index)) = all.iter().enumerate().filter_map(|(index, (key, _))| Some(((*key)?, index))).min() {
        let (next, everything) = &mut all[index];
        everything.take(&mut positions).map_err(broken(index))?;
        *next = everything.key().map_err(broken(index))?;
        positions.iter().try_for_each(|posting| writer.put(key, *posting))?;
        entries += 1;
        if entries.is_multiple_of(4096) && stop() {
            return Err(MergeError::Stopped);
        }
    }
    let summaries: Vec<Summary> = runs.iter().flat_map(|run| run.summaries.iter().copied()).collect();
    let (mut tables, mut zones) = (Vec::new(), Vec::new());
    for (index, run) in runs.iter().enumerate() {
        tables.extend(run.tables().map_err(broken(index))?);
        zones.extend(run.all_zones().map_err(broken(index))?);
    }
    let heads = last.heads().map_err(broken(runs.len() - 1))?;
    writer.finish(&summaries, &tables, &zones, &heads)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimRandom;

    #[test]
    fn parts_make_no_difference_to_the_order() {
        for (seed, count, bits) in [(1, 0, 64), (2, 1, 64), (3, 50_000, 64), (4, 20_000, 3), (5, 20_000, 10), (6, 300, 0)] {
            let mut random = SimRandom::new(seed);
            let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            let key = |random: &mut SimRandom| (random.next_u64() & mask).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut all: Vec<Keyed> = (0..count).map(|place| (key(&mut random), place / 3, place)).collect();
            let mut expected = all.clone();
            expected.sort_unstable();
            sort(&mut all);
            assert_eq!(all, expected);
        }
    }
}
