//! Putting the segments' findings together, in order: chains across segments, ids, lineage, footers.

use std::hint::black_box;

use chainring_format::checksum::Seed;
use chainring_format::footer::{self, BucketHead, FooterContent};
use chainring_format::frame::back_distance;
use chainring_format::hash::{Hash, name_commit};
use chainring_format::limits::ENGINE_LANE;
use chainring_format::segment::{SegmentHeader, file_name};
use chainring_format::tree::Frontier;
use chainring_format::{EventId, Link, StreamId, Violation};

use super::ids::{EventIds, StreamMap};
use super::note::TreeHead;
use super::sealed::Sealed;
use super::segment::{Deferred, Finding, SegmentFindings, StreamEnd, WRONG_FOOTER};
use super::since::{Earlier, Verified};
use crate::error::{Fault, FaultKind, ReadError};
use crate::sequencer::Buckets;

/// Damage in a footer is named by the sector it lies in.
const FOOTER_PLACE_BYTES: u64 = 512;
/// Streams whose ends are brought into the cache together.
const ASKED_TOGETHER: usize = 64;

/// Where the log stands after the segments merged so far.
#[derive(Debug)]
pub(super) struct Merge {
    streams: StreamMap<(StreamEnd, u64)>,
    names: Vec<String>,
    buckets: Buckets,
    ids: EventIds,
    log_id: Option<Link>,
    next_position: u64,
    pub events: u64,
    sealed: Sealed,
    end: u64,
    /// What the next header must call that end: the one before packing.
    named_end: u64,
    commit_digest: Hash,
    time_ns: u64,
    epoch: u64,
    /// The last trailer's.
    watermark: u64,
    pub bytes: u64,
    /// The tree over the records before the segment taken in last.
    before: Frontier,
    /// Link of the last record.
    last: Link,
}

impl Merge {
    pub(super) fn new() -> Merge {
        Merge {
            streams: StreamMap::default(),
            names: Vec::new(),
            buckets: Buckets::new(),
            ids: EventIds::new(0),
            log_id: None,
            next_position: 0,
            events: 0,
            sealed: Sealed::default(),
            end: 0,
            named_end: 0,
            commit_digest: [0; 32],
            time_ns: 0,
            epoch: 0,
            watermark: 0,
            bytes: 0,
            before: Frontier::new(),
            last: Link::default(),
        }
    }

    /// A log without seals, of which nobody wants to know the tree.
    pub(super) fn without_tree() -> Merge {
        let mut merge = Merge::new();
        merge.sealed.is_without_tree = true;
        merge
    }

    pub(super) fn is_without_tree(&self) -> bool {
        self.sealed.is_without_tree
    }

    /// Says how many events are still to come, about.
    pub(super) fn expect_events(&mut self, count: usize) {
        self.ids.expect(count);
    }

    /// A log whose first records are vouched for, as far as that is known from the first record on.
    pub(super) fn vouched(head: TreeHead) -> Merge {
        let mut merge = Merge::new();
        merge.sealed.vouched = Some(head);
        merge
    }

    /// Goes on behind records that were not verified: the segment before has the first header, the next one to be taken in the second.
    pub(super) fn behind(
        earlier: &Earlier,
        (before, header): (&SegmentHeader, &SegmentHeader),
        vouched: TreeHead,
        known: Option<&Frontier>,
    ) -> Result<Merge, ReadError> {
        let buckets = earlier.buckets()?;
        let sealed = earlier.sealed(&buckets, vouched, known)?;
        Ok(Merge {
            events: sealed.events,
            buckets,
            sealed,
            log_id: Some(Link(header.log_id)),
            next_position: header.first_position.get(),
            // The header vouches for these: what comes behind is bound to the links alone.
            named_end: header.prev_end_offset.get(),
            commit_digest: header.prev_commit_digest,
            time_ns: earlier.time_ns()?,
            epoch: before.epoch.get(),
            ..Merge::new()
        })
    }

    /// Learns from the log before what a segment hangs on that was not verified.
    pub(super) fn learn(&mut self, found: &SegmentFindings, earlier: &Earlier) -> Result<(), ReadError> {
        let first_here = found.deferred.iter().filter(|deferred| deferred.kind_is_event && deferred.stream_before.is_none());
        let to_be_named = found.finding.and_then(|finding| finding.stream);
        for id in first_here.map(|deferred| deferred.stream_id).chain(to_be_named) {
            if self.streams.contains_key(&id) {
                continue;
            }
            if let Some(event) = earlier.stream(&id)? {
                let end = StreamEnd { version: event.version().0, position: event.position().0, link: event.link() };
                self.streams.insert(id, (end, self.names.len() as u64));
                self.names.push(event.stream()?.to_owned());
            }
        }
        for id in found.ids.iter().filter(|id| **id != EventId::default()) {
            if earlier.has_id(id)? {
                // There already, if a segment before this one has it, too.
                let _ = self.ids.take_in(&[*id], |_| true);
            }
        }
        Ok(())
    }

    /// What holds, if everything taken in so far is to be gone on from. Before a segment that is not at its end it is begun with again.
    pub(super) fn verified(&self, is_last: bool, time_ns: u64) -> Option<Verified> {
        let head = self.head();
        let before = if is_last { &self.before } else { &self.sealed.tree };
        let log_id = self.log_id.filter(|_| head.size > 0)?;
        Some(Verified { log_id, head, last: self.last, time_ns, before: before.clone() })
    }

    /// Records taken in, and their root.
    pub(super) fn head(&self) -> TreeHead {
        TreeHead { size: self.sealed.tree.size(), root: self.sealed.tree.root() }
    }

    /// What was vouched for and has not been reached.
    pub(super) fn not_reached(&self) -> Option<TreeHead> {
        self.sealed.vouched
    }

    /// Records verified so far.
    pub(super) fn records(&self) -> u64 {
        self.next_position
    }

    /// Offset in the last segment where its commits end.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Takes in the next segment; `Err` is the first fault in file order, with everything before it counted in. Whether an event in an earlier segment has an
    /// id says `is_earlier`, which is hardly ever asked.
    pub(super) fn take_in(&mut self, found: &SegmentFindings, is_earlier: impl Fn(&EventId) -> bool) -> Result<(), Fault> {
        let name = file_name(found.header.number.get());
        let place = |finding: Finding| {
            let mut fault = Fault::new(finding.kind, name.clone(), finding.offset, finding.violation);
            fault.position = finding.position.map(chainring_format::Position);
            fault
        };
        self.lineage(found).map_err(|why| place(tampered(0, None, Violation { rule: "S6", why })))?;
        let vouched = self.sealed.vouched;
        if !self.sealed.is_as_vouched(&found.leaves, &found.blocks) {
            let position = vouched.and_then(|head| head.size.checked_sub(1));
            let violation = Violation { rule: "R4", why: "the records up to here are not those that were verified or signed before" };
            return Err(place(tampered(0, position, violation)));
        }
        self.before = self.sealed.tree.clone();

        // The first fault in file order may be the segment's own or one that only its predecessors show.
        let own = found.finding.as_ref().map_or(u64::MAX, |finding| finding.place);
        let candidates = [
            found.finding,
            self.commits(found, own),
            self.records_across(found, own),
            self.unique(found, own, is_earlier),
            self.statements(found, own),
        ];
        if let Some(finding) = candidates.into_iter().flatten().min_by_key(|finding| finding.place) {
            let mut finding = finding;
            if finding.violation == WRONG_FOOTER {
                // All commits before it hold.
                let bytes = self.bytes;
                self.advance(found);
                self.bytes = bytes;
                let wrong = first_difference(&self.right_footer(found), &found.footer);
                finding.offset = wrong.map_or(finding.offset, |wrong| footer_place(found.end, wrong));
            } else {
                let (records, events) = found.counts_before(finding.place);
                self.next_position += records;
                self.events += events;
            }
            self.bytes += finding.place;
            let mut fault = place(finding);
            fault.stream = finding.stream.and_then(|id| self.name_of(id, found));
            return Err(fault);
        }
        self.advance(found);
        self.footer(found).map_err(place)
    }

    /// Rule S6.
    fn lineage(&mut self, found: &SegmentFindings) -> Result<(), &'static str> {
        let header = &found.header;
        let is_first = header.number.get() == 1;
        let log_id = *self.log_id.get_or_insert(Link(header.log_id));
        // A genesis record that does not hold by itself is named for that, later.
        let genesis = found.deferred.first().filter(|deferred| deferred.position == 0);
        let genesis = genesis.filter(|genesis| {
            (genesis.bucket_back, genesis.stream_back) == (0, 0) && genesis.expected_link(&[0; 32], &[0; 32]) == genesis.link
        });
        if header.log_id != log_id.0 || genesis.is_some_and(|genesis| genesis.link != log_id) {
            return Err("the header has the id of another log");
        }
        if header.first_position.get() != self.next_position {
            return Err("the header's first position does not continue the segment before it");
        }
        if header.epoch.get() < self.epoch {
            return Err("the epoch runs backwards");
        }
        let stated = (header.prev_end_offset.get(), header.prev_commit_digest, header.prev_heads_root);
        let expected = if is_first { (0, [0; 32], [0; 32]) } else { (self.named_end, self.commit_digest, self.buckets.root(log_id)) };
        if stated.0 != expected.0 {
            return Err("the header names another end of the segment before it");
        }
        if stated.1 != expected.1 {
            return Err("the header names another last commit of the segment before it");
        }
        if stated.2 != expected.2 {
            return Err("the header names other heads at the end of the segment before it");
        }
        if is_first && (header.prev_footer_bytes.get(), header.prev_cut_bytes.get()) != (0, 0) {
            return Err("the first segment names a predecessor");
        }
        let time_ns = if is_first { genesis.map(|genesis| genesis.recorded_at_ns) } else { Some(self.time_ns) };
        if time_ns.is_some_and(|time_ns| header.created_at_ns.get() != time_ns) {
            return Err("the header's time is not that of the record it names");
        }
        Ok(())
    }

    /// Whether the segment's first commit follows the last one before it, unless something is wrong before `own`.
    fn commits(&self, found: &SegmentFindings, own: u64) -> Option<Finding> {
        let (trailer, offset, place) = found.first_commit.filter(|(_, _, place)| *place < own)?;
        let violation = if trailer.watermark.get() < self.watermark {
            Violation { rule: "C5", why: "the watermark runs backwards" }
        } else if trailer.previous_digest != self.commit_digest {
            Violation { rule: "C6", why: "the commit does not follow the digest before it" }
        } else {
            return None;
        };
        Some(Finding { place, ..tampered(offset, None, violation) })
    }

    /// Whether the records that hang on earlier segments follow from them.
    fn records_across(&self, found: &SegmentFindings, own: u64) -> Option<Finding> {
        if let Some((recorded_at_ns, position, offset)) = found.first_recorded
            && recorded_at_ns < self.time_ns
            && offset < own
        {
            return Some(tampered(offset, Some(position), Violation { rule: "H1", why: "recorded time runs backwards" }));
        }
        let mut engine_records = self.buckets.engine_records();
        let in_groups = found.deferred.chunks(ASKED_TOGETHER).flat_map(|group| {
            self.ask_ahead(group.iter().map(|deferred| &deferred.stream_id));
            group
        });
        let wrong = in_groups.take_while(|deferred| deferred.offset < own).find_map(|deferred| {
            let why = self.record(deferred, engine_records).err();
            engine_records += u64::from(deferred.bucket == ENGINE_LANE);
            Some((deferred, why?))
        });
        wrong.map(|(deferred, why)| Finding {
            kind: FaultKind::Tampered,
            offset: deferred.offset,
            place: deferred.offset,
            position: Some(deferred.position),
            stream: deferred.kind_is_event.then_some(deferred.stream_id),
            violation: Violation { rule: "H1", why },
        })
    }

    /// Asks where streams stand, for many of them at once: one by one, each would wait for memory.
    fn ask_ahead<'i>(&self, ids: impl Iterator<Item = &'i StreamId>) {
        black_box(ids.fold(0, |all, id| all ^ self.streams.get(id).map_or(0, |(end, _)| end.version)));
    }

    /// `engine_records` is the number of the engine's records before it.
    fn record(&self, deferred: &Deferred, engine_records: u64) -> Result<(), &'static str> {
        let log_id = self.log_id.unwrap_or_default();
        let bucket_before = deferred.bucket_before.or_else(|| self.buckets.get(deferred.bucket).map(|head| (head.position, head.link)));
        let bucket_back = back_distance(deferred.position, bucket_before.map(|(position, _)| position));
        if bucket_back != deferred.bucket_back {
            return Err("the distance to the bucket's previous record is wrong");
        }
        if deferred.bucket == ENGINE_LANE {
            // Engine records are counted from 0; both predecessors are the engine's previous record, and the genesis record has none.
            if deferred.version != engine_records {
                return Err("the version does not continue the engine's lane");
            }
            let before = bucket_before.map_or([0; 32], |(_, link)| link.0);
            let is_right = deferred.stream_back == deferred.bucket_back && deferred.expected_link(&before, &before) == deferred.link;
            let is_log_id = deferred.position != 0 || deferred.link == log_id;
            return if is_right && is_log_id { Ok(()) } else { Err("the link does not follow from the record and its predecessors") };
        }
        let prev_bucket = bucket_before.map_or(log_id, |(_, link)| link).0;
        let prev_stream = match (deferred.stream_before, self.streams.get(&deferred.stream_id)) {
            (Some(link), _) => link.0,
            (None, Some((stream, _))) => {
                if deferred.version - 1 != stream.version {
                    return Err("the version does not continue the stream");
                }
                if deferred.stream_back != back_distance(deferred.position, Some(stream.position)) {
                    return Err("the distance to the stream's previous event is wrong");
                }
                stream.link.0
            }
            (None, None) => {
                if deferred.version != 1 || deferred.stream_back != 0 {
                    return Err("the version does not continue the stream");
                }
                name_commit(&log_id, deferred.name.as_deref().unwrap_or_default())
            }
        };
        if deferred.expected_link(&prev_bucket, &prev_stream) == deferred.link {
            Ok(())
        } else {
            Err("the link does not follow from the record and its predecessors")
        }
    }

    /// Rule H2.
    fn unique(&mut self, found: &SegmentFindings, own: u64, is_earlier: impl Fn(&EventId) -> bool) -> Option<Finding> {
        let violation = Violation { rule: "H2", why: "the event id occurs twice" };
        let ids = &found.ids[..found.leaves.partition_point(|leaf| leaf.offset() < own)];
        let index = self.ids.take_in(ids, |index| ids[..index].contains(&ids[index]) || is_earlier(&ids[index]))?;
        Some(tampered(found.leaves[index].offset(), Some(found.position(index)), violation))
    }

    /// Rules E1 and E2.
    fn statements(&mut self, found: &SegmentFindings, own: u64) -> Option<Finding> {
        if let Some(key) = found.genesis_key {
            self.sealed.key = key;
        }
        let log_id = self.log_id.unwrap_or_default();
        let wrong = self.sealed.take_in(&found.leaves, &found.blocks, &found.statements, &self.buckets, log_id);
        let (statement, violation) = wrong.filter(|(statement, _)| statement.offset < own)?;
        Some(tampered(statement.offset, Some(statement.position), violation))
    }

    fn advance(&mut self, found: &SegmentFindings) {
        for deferred in &found.deferred {
            if let (Some(name), false) = (&deferred.name, self.streams.contains_key(&deferred.stream_id)) {
                let end = StreamEnd { version: 0, position: deferred.position, link: deferred.link };
                self.streams.insert(deferred.stream_id, (end, self.names.len() as u64));
                self.names.push(name.clone());
            }
        }
        for group in found.streams.chunks(ASKED_TOGETHER) {
            self.ask_ahead(group.iter().map(|(id, _)| id));
            for (id, end) in group {
                self.streams.entry(*id).or_insert((*end, u64::MAX)).0 = *end;
            }
        }
        for (bucket, end) in (0..).zip(&found.buckets) {
            if let Some(end) = end {
                self.buckets.add(bucket, end.count, end.position, end.link);
            }
        }
        self.next_position = found.next_position;
        self.events += found.events;
        self.last = found.leaves.last().map_or(self.last, |leaf| leaf.link);
        self.end = found.end;
        self.named_end = if found.header.is_packed() { found.header.unpacked_end_offset.get() } else { found.end };
        self.commit_digest = found.commit_digest;
        self.time_ns = found.time_ns;
        self.epoch = found.epoch;
        // A segment without commits says nothing of it.
        self.watermark = self.watermark.max(found.watermark);
        self.bytes += found.end + found.footer.len() as u64;
    }

    /// Rule T1: a footer is compared with the one right footer, byte for byte.
    fn footer(&self, found: &SegmentFindings) -> Result<(), Finding> {
        if found.footer.is_empty() {
            return Ok(());
        }
        let right = self.right_footer(found);
        let longer = (right.len() < found.footer.len()).then_some(right.len());
        let Some(wrong) = first_difference(&right, &found.footer).or(longer) else { return Ok(()) };
        let (kind, offset) = match footer::parse(&found.footer, Seed::new(&found.header.salt), found.end) {
            Ok(_) => (FaultKind::Tampered, found.end),
            Err(_) => (FaultKind::Corrupt, footer_place(found.end, wrong)),
        };
        let violation = Violation { rule: "T1", why: "the footer is not what its segment gives" };
        Err(Finding { kind, offset, place: offset, position: None, stream: None, violation })
    }

    /// The footer that the segment just taken in should have.
    fn right_footer(&self, found: &SegmentFindings) -> Vec<u8> {
        let heads: Vec<BucketHead> = self.buckets.list();
        let content = FooterContent {
            end_offset: found.end,
            next_position: found.next_position,
            commit_digest: &found.commit_digest,
            heads: &heads,
            offsets: &found.offsets,
        };
        footer::encode(&content, Seed::new(&found.header.salt))
    }

    fn name_of(&self, id: StreamId, found: &SegmentFindings) -> Option<String> {
        let known = self.streams.get(&id).and_then(|(_, name)| self.names.get(*name as usize)).cloned();
        known.or_else(|| found.deferred.iter().find(|deferred| deferred.stream_id == id)?.name.clone())
    }
}

/// Index of the first byte that is not as it should be, or not there.
fn first_difference(right: &[u8], found: &[u8]) -> Option<usize> {
    let cut = (found.len() < right.len()).then_some(found.len());
    right.iter().zip(found).position(|(a, b)| a != b).or(cut)
}

/// The sector of a wrong byte in the footer at `end`.
fn footer_place(end: u64, wrong: usize) -> u64 {
    ((end + wrong as u64) / FOOTER_PLACE_BYTES * FOOTER_PLACE_BYTES).max(end)
}

fn tampered(offset: u64, position: Option<u64>, violation: Violation) -> Finding {
    Finding { kind: FaultKind::Tampered, offset, place: offset, position, stream: None, violation }
}
