//! Steps 4 to 6 for one segment: every record's rules and hashes, every commit's digest, with what the segment alone and its header can tell.
//!
//! Always: what is counted has passed every check that needs no earlier segment; what does need one is kept in [`Scan::deferred`], [`Scan::event_ids`]
//! and [`Scan::first_commit`] for the merge.
//! Never: trusts the header's lineage fields; it starts from them, and the merge compares them with the predecessor.

use std::collections::HashMap;

use crate::bytes::{Hash, Id, ZERO_HASH, align_down, array_at};
use crate::chain::{Previous, Step};
use crate::commit::{FrameAt, Trailer, stream_of};
use crate::finding::{Check, Finding};
use crate::frame::{Frame, KIND_EVENT, KIND_GENESIS, Slot};
use crate::hash::{DigestInput, ENGINE_LANE, Suite, bucket_of};
use crate::header::Header;
use crate::record::{self, Batch};
use crate::seal::{self, LeafAt, StatementAt};
use crate::tail::Tail;
use crate::window::Window;

/// A record with a predecessor in an earlier segment; what was found in this segment is filled in.
pub(crate) struct Deferred {
    pub(crate) step: Step,
    pub(crate) in_bucket: Option<Previous>,
    pub(crate) in_stream: Option<Previous>,
}

/// A bucket as one segment leaves it.
#[derive(Clone, Copy)]
pub(crate) struct BucketPart {
    pub(crate) records: u64,
    pub(crate) last: Previous,
}

/// A stream as one segment leaves it; the name is there if the segment holds its first event.
pub(crate) struct StreamPart {
    pub(crate) last: Previous,
    pub(crate) name: Option<String>,
}

/// An event id and where it was used.
pub(crate) struct EventAt {
    pub(crate) id: Id,
    pub(crate) stream_id: Id,
    pub(crate) position: u64,
    pub(crate) offset: u64,
}

/// The genesis record, once H1 and F7 hold for it.
pub(crate) struct Genesis {
    pub(crate) link: Hash,
    pub(crate) recorded_at_ns: u64,
    pub(crate) origin: String,
    pub(crate) log_key: Hash,
}

/// What one segment gave.
pub(crate) struct Scan {
    pub(crate) finding: Option<Finding>,
    pub(crate) tail: Tail,
    /// End of the last commit that held.
    pub(crate) end: u64,
    pub(crate) records: u64,
    pub(crate) events: u64,
    pub(crate) erased: u64,
    pub(crate) genesis: Option<Genesis>,
    pub(crate) deferred: Vec<Deferred>,
    pub(crate) event_ids: Vec<EventAt>,
    /// Every record.
    pub(crate) leaves: Vec<LeafAt>,
    /// Seals and key records.
    pub(crate) statements: Vec<StatementAt>,
    pub(crate) buckets: HashMap<u16, BucketPart>,
    pub(crate) streams: HashMap<Id, StreamPart>,
    /// Trailer offset and watermark of the first commit.
    pub(crate) first_commit: Option<(u64, u64)>,
    /// File offset / 8 of every eighth frame.
    pub(crate) frame_offsets: Vec<u32>,
    pub(crate) next_position: u64,
    pub(crate) last_time_ns: u64,
    pub(crate) last_digest: Hash,
    pub(crate) last_epoch: u64,
    pub(crate) last_watermark: u64,
    pub(crate) is_closed: bool,
}

pub(crate) struct Ledger<'a> {
    header: &'a Header,
    suite: Suite,
    pub(crate) scan: Scan,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(header: &'a Header) -> Self {
        let scan = Scan {
            finding: None,
            tail: Tail::Empty,
            end: header.start(),
            records: 0,
            events: 0,
            erased: 0,
            genesis: None,
            deferred: Vec::new(),
            event_ids: Vec::new(),
            leaves: Vec::new(),
            statements: Vec::new(),
            buckets: HashMap::new(),
            streams: HashMap::new(),
            first_commit: None,
            frame_offsets: Vec::new(),
            next_position: header.first_position,
            // The first segment's header speaks of the genesis record itself, which is compared when it is known.
            last_time_ns: if header.number == 1 { 0 } else { header.created_at_ns },
            last_digest: header.prev_commit_digest,
            last_epoch: header.epoch,
            last_watermark: 0,
            is_closed: false,
        };
        Ledger { header, suite: Suite::new(), scan }
    }

    /// Checks the records of one commit, in order, up to `stop_at`. `trailer` is `None` if the commit broke off, which the caller reports.
    pub(crate) fn check_frames(&mut self, window: &mut Window, frames: &[FrameAt], trailer: Option<&Trailer>, stop_at: u64) -> Check<()> {
        let mut batch = Batch::default();
        if let Some(trailer) = trailer {
            self.suite.begin_commit(&trailer.previous_digest, trailer.first_position, trailer.count, trailer.time_ns);
        }
        for at in frames {
            if at.offset >= stop_at {
                return Ok(());
            }
            // The first walk has read these bytes; if they are gone now, somebody cut the file meanwhile.
            let Some(bytes) = window.get(at.offset, at.bytes as usize)? else {
                return Err(Finding::cut("C1", at.offset, "the file became shorter while it was read").into());
            };
            let frame = Frame::cut(bytes);
            self.check_frame(&frame, at, &mut batch).map_err(|finding| {
                let position = self.scan.next_position;
                finding.at_position(position).in_stream(stream_of(&frame))
            })?;
            self.count(&frame, at);
        }
        match trailer {
            Some(trailer) if batch.is_open() => {
                let finding = Finding::tampered("B1", trailer.offset, "the commit ends inside a batch");
                Err(finding.blaming(align_down(trailer.offset, self.header.block_bytes)).into())
            }
            _ => Ok(()),
        }
    }

    /// Steps 4 and 5 for one record.
    fn check_frame(&mut self, frame: &Frame<'_>, at: &FrameAt, batch: &mut Batch) -> Result<(), Finding> {
        let position = self.scan.next_position;
        let tampered = |(rule, why): (&'static str, &'static str)| Finding::tampered(rule, at.offset, why);
        // Step 4
        record::check_record(frame, at.slot, position, &mut self.suite).map_err(tampered)?;
        let batch_id = batch.step(frame).map_err(tampered)?;
        // Step 5
        if frame.header.recorded_at_ns < self.scan.last_time_ns {
            return Err(tampered(("H1", "recorded_at_ns decreases")));
        }
        let step = self.step_of(frame, at, position, &batch_id);
        self.check_chains(step).map_err(|why| tampered(("H1", why)))?;
        if frame.header.kind == KIND_GENESIS {
            let origin = record::origin(frame.body()).unwrap_or_default().to_owned();
            let log_key = record::genesis_key(frame.body());
            self.scan.genesis = Some(Genesis { link: frame.header.link, recorded_at_ns: frame.header.recorded_at_ns, origin, log_key });
        } else if let Some(statement) = seal::statement(frame.header.kind, frame.body()) {
            self.scan.statements.push(StatementAt { statement, offset: at.offset, position, link: frame.header.link });
        }
        Ok(())
    }

    /// Recomputes body_commit and digest, and gathers what the link binds.
    fn step_of(&mut self, frame: &Frame<'_>, at: &FrameAt, position: u64, batch_id: &Id) -> Step {
        let header = &frame.header;
        let body_commit = match at.slot {
            Slot::Kept => self.suite.body_commit(&frame.salt(), frame.body()),
            Slot::Erased => array_at(frame.slot, 0),
        };
        let input = DigestInput {
            stream_id: &header.stream_id,
            event_id: &header.event_id,
            batch_id,
            batch_index: header.batch_index,
            batch_count: header.batch_count,
            metadata: frame.metadata,
        };
        let is_event = header.kind == KIND_EVENT;
        Step {
            offset: at.offset,
            position,
            kind: header.kind,
            bucket: if is_event { bucket_of(&header.stream_id) } else { ENGINE_LANE },
            version: header.version,
            recorded_at_ns: header.recorded_at_ns,
            bucket_back: header.bucket_back,
            stream_back: header.stream_back,
            stream_id: header.stream_id,
            digest: self.suite.event_digest(&input, &body_commit),
            link: header.link,
            name_commit: if is_event && header.version == 1 { self.suite.name_commit(&self.header.log_id, frame.name) } else { ZERO_HASH },
        }
    }

    /// H1, now if both predecessors are in this segment, else in the merge.
    fn check_chains(&mut self, step: Step) -> Result<(), &'static str> {
        let in_bucket = self.scan.buckets.get(&step.bucket).map(|part| part.last);
        let in_stream = if step.is_event() { self.scan.streams.get(&step.stream_id).map(|part| part.last) } else { in_bucket };
        if step.position == 0 || (in_bucket.is_some() && in_stream.is_some()) {
            return step.check(in_bucket.as_ref(), in_stream.as_ref(), &self.header.log_id);
        }
        self.scan.deferred.push(Deferred { step, in_bucket, in_stream });
        Ok(())
    }

    /// Takes a record that held into the segment's sums and heads.
    fn count(&mut self, frame: &Frame<'_>, at: &FrameAt) {
        let (scan, header) = (&mut self.scan, &frame.header);
        let position = scan.next_position;
        let last = Previous { version: header.version, position, link: header.link };
        let is_event = header.kind == KIND_EVENT;
        let bucket = if is_event { bucket_of(&header.stream_id) } else { ENGINE_LANE };
        let part = scan.buckets.entry(bucket).or_insert(BucketPart { records: 0, last });
        *part = BucketPart { records: part.records + 1, last };
        scan.leaves.push(LeafAt { bucket, link: header.link });
        if is_event {
            let part = scan.streams.entry(header.stream_id).or_insert(StreamPart { last, name: None });
            part.last = last;
            if header.version == 1 {
                part.name = Some(String::from_utf8_lossy(frame.name).into_owned());
            }
            scan.event_ids.push(EventAt { id: header.event_id, stream_id: header.stream_id, position, offset: at.offset });
            scan.events += 1;
        }
        if (position - self.header.first_position).is_multiple_of(8) {
            scan.frame_offsets.push((at.offset / 8) as u32);
        }
        scan.erased += u64::from(at.slot == Slot::Erased);
        scan.records += 1;
        scan.last_time_ns = header.recorded_at_ns;
        scan.next_position = position.saturating_add(1);
        self.suite.add_link(&header.link);
    }

    /// Step 6 for a commit whose records were counted: C5 and C6, as far as this segment goes.
    pub(crate) fn check_trailer(&mut self, trailer: &Trailer, first_position: u64) -> Result<(), Finding> {
        let block = align_down(trailer.offset, self.header.block_bytes);
        let bad = |rule, why: &str| Err(Finding::tampered(rule, trailer.offset, why).blaming(block));
        let digest = self.suite.end_commit();
        let scan = &mut self.scan;
        if trailer.first_position != first_position {
            return bad("C5", "first_position does not continue the commit before");
        }
        if trailer.watermark < scan.last_watermark {
            return bad("C5", "the watermark decreases");
        }
        if trailer.epoch < scan.last_epoch {
            return bad("C5", "the epoch decreases");
        }
        if trailer.time_ns != scan.last_time_ns {
            return bad("C5", "time_ns is not the last record's");
        }
        if trailer.previous_digest != scan.last_digest {
            return bad("C6", "previous_digest is not the digest of the commit before");
        }
        if trailer.digest != digest {
            return bad("C6", "the commit digest is not that of its records");
        }
        scan.first_commit.get_or_insert((trailer.offset, trailer.watermark));
        scan.last_watermark = trailer.watermark;
        scan.last_epoch = trailer.epoch;
        scan.last_digest = trailer.digest;
        scan.is_closed = trailer.closed;
        scan.end = trailer.end();
        Ok(())
    }
}
