//! The merge: segments in order, each compared with everything before it (steps 5 to 7 across segments, and the lineage of S6).
//!
//! Always: holds only what the log's sums need: one head per bucket, one per stream with its name, and the event ids seen.
//! Never: reads a file.

use std::collections::{HashMap, HashSet};

use crate::bytes::{Hash, Id, ZERO_HASH, align_down};
use crate::chain::Previous;
use crate::finding::{Finding, StreamRef};
use crate::footer::FooterInput;
use crate::hash::{BUCKET_COUNT, heads_root};
use crate::header::Header;
use crate::ledger::{BucketPart, Genesis, Scan};
use crate::seal::Sealed;

/// A stream as the log leaves it.
struct Stream {
    last: Previous,
    name: String,
}

/// Everything before the next segment.
pub(crate) struct Log {
    pub(crate) records: u64,
    pub(crate) events: u64,
    pub(crate) erased: u64,
    pub(crate) genesis: Option<Genesis>,
    pub(crate) next_position: u64,
    last_time_ns: u64,
    last_digest: Hash,
    last_epoch: u64,
    last_watermark: u64,
    /// The end of the last segment, as its successor must name it.
    last_end: u64,
    /// By bucket number, the engine's lane last.
    buckets: Vec<Option<BucketPart>>,
    streams: HashMap<Id, Stream>,
    event_ids: HashSet<Id>,
    sealed: Sealed,
}

impl Log {
    pub(crate) fn new() -> Self {
        Log {
            records: 0,
            events: 0,
            erased: 0,
            genesis: None,
            next_position: 0,
            last_time_ns: 0,
            last_digest: ZERO_HASH,
            last_epoch: 0,
            last_watermark: 0,
            last_end: 0,
            buckets: vec![None; usize::from(BUCKET_COUNT) + 1],
            streams: HashMap::new(),
            event_ids: HashSet::new(),
            sealed: Sealed::default(),
        }
    }

    pub(crate) fn stream_count(&self) -> u64 {
        self.streams.len() as u64
    }

    pub(crate) fn stream_name(&self, id: &Id) -> Option<&str> {
        self.streams.get(id).map(|stream| stream.name.as_str())
    }

    /// The first place of the next segment where a check fails, the segment's own finding included.
    pub(crate) fn first_finding(&mut self, header: &Header, scan: &Scan) -> Option<Finding> {
        // Step 2, S6
        if let Err(why) = self.check_lineage(header, scan) {
            return Some(Finding::tampered("S6", 0, why));
        }
        let chains = self.check_deferred(header, scan);
        let ids = self.check_event_ids(scan);
        let watermark = self.check_first_commit(header, scan);
        let sealed = self.check_statements(header, scan);
        scan.finding.iter().cloned().chain(chains).chain(ids).chain(watermark).chain(sealed).min_by_key(|finding| finding.place)
    }

    /// S6: what the header says of the log before it.
    fn check_lineage(&self, header: &Header, scan: &Scan) -> Result<(), &'static str> {
        if header.number == 1 {
            let prev_bytes = (header.prev_end_offset, header.prev_footer_bytes, header.prev_cut_bytes);
            if prev_bytes != (0, 0, 0) || header.prev_commit_digest != ZERO_HASH || header.prev_heads_root != ZERO_HASH {
                return Err("the first segment names a predecessor");
            }
            if header.first_position != 0 {
                return Err("the first segment does not begin at position 0");
            }
            // If the genesis record itself does not hold, that is the finding.
            let Some(genesis) = &scan.genesis else { return Ok(()) };
            if header.log_id != genesis.link {
                return Err("log_id is not the link of the genesis record");
            }
            return if header.created_at_ns == genesis.recorded_at_ns {
                Ok(())
            } else {
                Err("created_at_ns is not the genesis record's time")
            };
        }
        if header.first_position != self.next_position {
            return Err("first_position does not continue the predecessor");
        }
        if header.created_at_ns != self.last_time_ns {
            return Err("created_at_ns is not the time of the last record before");
        }
        if header.epoch < self.last_epoch {
            return Err("the epoch decreases");
        }
        if header.prev_end_offset != self.last_end {
            return Err("prev_end_offset is not the predecessor's end");
        }
        if header.prev_commit_digest != self.last_digest {
            return Err("prev_commit_digest is not the predecessor's last");
        }
        // Step 7, heads root
        if header.prev_heads_root != self.heads_root(&header.log_id) {
            return Err("prev_heads_root is not the root of the predecessor's heads");
        }
        Ok(())
    }

    fn heads_root(&self, log_id: &Hash) -> Hash {
        let streams = &self.buckets[..usize::from(BUCKET_COUNT)];
        heads_root(streams.iter().map(|head| head.map_or((0, *log_id), |head| (head.records, head.last.link))))
    }

    /// Step 5, H1, of the records whose predecessors stand in earlier segments.
    fn check_deferred(&self, header: &Header, scan: &Scan) -> Option<Finding> {
        scan.deferred.iter().find_map(|deferred| {
            let step = &deferred.step;
            let in_bucket = deferred.in_bucket.or(self.buckets[usize::from(step.bucket)].map(|head| head.last));
            let in_stream = deferred.in_stream.or(self.streams.get(&step.stream_id).map(|stream| stream.last));
            let why = step.check(in_bucket.as_ref(), in_stream.as_ref(), &header.log_id).err()?;
            Some(
                Finding::tampered("H1", step.offset, why)
                    .at_position(step.position)
                    .in_stream(step.is_event().then(|| stream_of(step.stream_id, scan))),
            )
        })
    }

    /// Step 5, H2.
    fn check_event_ids(&mut self, scan: &Scan) -> Option<Finding> {
        let double = scan.event_ids.iter().find(|event| !self.event_ids.insert(event.id))?;
        let finding = Finding::tampered("H2", double.offset, "the event id occurs twice in the store");
        Some(finding.at_position(double.position).in_stream(Some(stream_of(double.stream_id, scan))))
    }

    /// Step 5, E1 and E2.
    fn check_statements(&mut self, header: &Header, scan: &Scan) -> Option<Finding> {
        if let Some(genesis) = &scan.genesis {
            self.sealed.key = genesis.log_key;
        }
        let taken = self.sealed.take_in(&scan.leaves, &scan.statements, &self.buckets, &header.log_id);
        let (at, rule, why) = taken.err()?;
        Some(Finding::tampered(rule, at.offset, why).at_position(at.position))
    }

    /// C5 between the last commit before the segment and its first.
    fn check_first_commit(&self, header: &Header, scan: &Scan) -> Option<Finding> {
        let (offset, watermark) = scan.first_commit?;
        if watermark >= self.last_watermark {
            return None;
        }
        let block = align_down(offset, header.block_bytes);
        Some(Finding::tampered("C5", offset, "the watermark decreases").blaming(block))
    }

    /// Takes in what held of a segment.
    pub(crate) fn absorb(&mut self, header: &Header, scan: &mut Scan) {
        self.last_end = header.packed.map_or(scan.end, |packed| packed.unpacked_end);
        self.records += scan.records;
        self.events += scan.events;
        self.erased += scan.erased;
        self.genesis = self.genesis.take().or(scan.genesis.take());
        self.next_position = scan.next_position;
        self.last_time_ns = scan.last_time_ns;
        self.last_digest = scan.last_digest;
        self.last_epoch = scan.last_epoch;
        self.last_watermark = self.last_watermark.max(scan.last_watermark);
        for (bucket, part) in scan.buckets.drain() {
            let before = self.buckets[usize::from(bucket)].map_or(0, |head| head.records);
            self.buckets[usize::from(bucket)] = Some(BucketPart { records: before + part.records, last: part.last });
        }
        for (id, part) in scan.streams.drain() {
            let stream = self.streams.entry(id).or_insert(Stream { last: part.last, name: String::new() });
            stream.last = part.last;
            if let Some(name) = part.name {
                stream.name = name;
            }
        }
    }

    /// What the footer of the segment just taken in must be made of.
    pub(crate) fn footer_input<'a>(&'a self, scan: &'a Scan) -> FooterInput<'a> {
        FooterInput {
            end: scan.end,
            next_position: self.next_position,
            commit_digest: &self.last_digest,
            heads: &self.buckets,
            frame_offsets: &scan.frame_offsets,
        }
    }
}

/// A stream of the segment just scanned; if the segment holds its first event, its name need not have reached the log yet.
fn stream_of(id: Id, scan: &Scan) -> StreamRef {
    StreamRef { id, name: scan.streams.get(&id).and_then(|part| part.name.clone()) }
}
