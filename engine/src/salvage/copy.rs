//! Copying intact events to a new store, by the way they came: appended, in their order, each at the time it was first recorded.
//!
//! The new log is an ordinary one: nothing is put into it but by [`Log::append`]. Its clock is set to the old time before every request, so that
//! the engine records what was recorded.

use std::collections::VecDeque;
use std::path::Path;

use chainring_format::Link;
use chainring_format::checksum::Seed;
use chainring_format::frame::{FLAG_SALTED, FrameView};
use chainring_format::metadata::Metadata;

use super::SalvageError;
use super::examine::{Findings, Plan};
use super::read::Content;
use super::scan::{What, scan};
use crate::condition::Durability;
use crate::disk::{Clock, Disk, Environment};
use crate::error::OpenError;
use crate::log::{Event, Log, Options, Pending, Request};
use crate::sequencer::Grounds;
use crate::sync::Arc;
use crate::sync::model::{Mutex, lock};

/// So many events, or bytes of them, are under way before their receipts are waited for: they share a commit.
const PENDING_MAX: usize = 4096;
const PENDING_BYTES_MAX: usize = 4 << 20;

/// Shows the times that were set, one a reading: the engine reads the clock once a request, in the order they were submitted. Time passes as it
/// does outside.
#[derive(Debug)]
struct OldClock {
    /// Times to come, and the one shown last.
    times: Mutex<(VecDeque<u64>, u64)>,
    outside: Arc<dyn Clock>,
}

impl Clock for OldClock {
    fn realtime_ns(&self) -> u64 {
        let mut times = lock(&self.times);
        times.1 = times.0.pop_front().unwrap_or(times.1);
        times.1
    }

    fn monotonic_ns(&self) -> u64 {
        self.outside.monotonic_ns()
    }
}

/// Events that may yet turn out to be a whole batch.
#[derive(Default)]
struct Group {
    events: Vec<Event>,
    recorded_at_ns: u64,
    count: u32,
}

struct Copy<'a> {
    log: Log,
    clock: Arc<OldClock>,
    group: Group,
    /// File name of the segment in hand.
    segment: String,
    pending: Vec<Pending>,
    pending_bytes: usize,
    findings: &'a Findings,
    progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
    copied: u64,
    reencoded: u64,
}

/// Copies what was found; gives the id of the new log, and how many events say the same in other bytes.
pub(super) fn copy(
    disk: &dyn Disk,
    findings: &Findings,
    environment: &Environment,
    directory: &Path,
    progress: Option<&(dyn Fn(u64, u64) + Sync)>,
) -> Result<(Link, u64), SalvageError> {
    let is_taken = match environment.disk.list() {
        Ok(names) => !names.is_empty(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(SalvageError::Open(OpenError::io(format!("listing {}", directory.display()))(error))),
    };
    if is_taken {
        return Err(SalvageError::NotEmpty { directory: directory.to_owned() });
    }
    let manifest = &findings.manifest;
    let clock = Arc::new(OldClock {
        times: Mutex::new((VecDeque::new(), manifest.created_at_ns.or(findings.first_recorded_at_ns).unwrap_or(0))),
        outside: Arc::clone(&environment.clock),
    });
    let inside = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..environment.clone() };
    let mut options = Options::new().origin(manifest.origin.clone().unwrap_or_default()).accept_clock_jump(true);
    if let Some(bytes) = findings.segment_bytes {
        options = options.segment_bytes(bytes);
    }
    let log = options.open_in(inside, directory).map_err(SalvageError::Open)?;
    let mut copy = Copy {
        log,
        clock,
        group: Group::default(),
        segment: String::new(),
        pending: Vec::new(),
        pending_bytes: 0,
        findings,
        progress,
        copied: 0,
        reencoded: 0,
    };
    let mut content = Content::default();
    for plan in &findings.plans {
        copy.segment(disk, plan, &mut content)?;
    }
    if copy.copied != manifest.totals.copied {
        return Err(SalvageError::Changed { segment: copy.segment });
    }
    let log_id = copy.log.stats().log_id;
    copy.log.close().map_err(SalvageError::Append)?;
    Ok((log_id, copy.reencoded))
}

impl Copy<'_> {
    fn segment(&mut self, disk: &dyn Disk, plan: &Plan, content: &mut Content) -> Result<(), SalvageError> {
        self.segment.clone_from(&plan.name);
        let changed = || SalvageError::Changed { segment: plan.name.clone() };
        content.open(disk, &plan.name, plan.end).map_err(|_| changed())?;
        let seed = Seed::new(&plan.salt);
        let before = self.copied;
        for cell in scan(&content.bytes, seed, plan.block_bytes, plan.start..plan.end).cells {
            let held = &content.bytes[cell.offset as usize..];
            match cell.what {
                // A batch that is not whole where something is missing will not be.
                What::Gap | What::Bodyless => self.flush()?,
                What::Trailer => self.flush()?,
                What::Frame if plan.skip.binary_search(&cell.offset).is_ok() => self.flush()?,
                What::Frame => {
                    let frame = FrameView::parse(held, seed.mask(cell.offset)).map_err(|_| changed())?;
                    self.take(&frame).ok_or_else(changed)??;
                }
            }
        }
        self.flush()?;
        self.settle()?;
        if self.copied - before == plan.copied { Ok(()) } else { Err(changed()) }
    }

    /// Takes an event up; `None` if it is none that could be copied, which examining has ruled out.
    fn take(&mut self, frame: &FrameView<'_>) -> Option<Result<(), SalvageError>> {
        let metadata = Metadata::decode(frame.metadata()).ok()?;
        self.reencoded += u64::from(metadata.encode() != frame.metadata());
        let mut event = Event::with_metadata(self.findings.books.new_name(frame.stream_id()), metadata).id(frame.event_id());
        event.body = frame.body()?.to_vec();
        event.salted = frame.header.flags & FLAG_SALTED != 0;

        let (index, count) = (frame.header.batch_index.get(), frame.header.batch_count.get());
        let recorded_at_ns = frame.header.recorded_at_ns.get();
        // Only what begins with its first event can become a whole batch; what cannot need not be held.
        let goes_on = group_goes_on(&self.group, index, count, recorded_at_ns);
        if !goes_on {
            if let Err(error) = self.flush() {
                return Some(Err(error));
            }
            self.group = Group { events: Vec::new(), recorded_at_ns, count };
        }
        self.group.events.push(event);
        if goes_on || count > 0 && index == 0 { Some(Ok(())) } else { Some(self.flush()) }
    }

    /// Submits what was taken up: as a batch if it is one, else event by event.
    fn flush(&mut self) -> Result<(), SalvageError> {
        let Group { events, recorded_at_ns, count } = std::mem::take(&mut self.group);
        let bytes = events.iter().map(|event| event.body.len()).sum();
        if count > 0 && events.len() == count as usize {
            return self.submit(Request::batch(events), recorded_at_ns, bytes);
        }
        events.into_iter().try_for_each(|event| self.submit(event.into(), recorded_at_ns, bytes))
    }

    /// Nothing is synced one by one: the new store is whole when it is closed, or it is made again.
    fn submit(&mut self, request: Request, recorded_at_ns: u64, bytes: usize) -> Result<(), SalvageError> {
        lock(&self.clock.times).0.push_back(recorded_at_ns);
        self.pending
            .push(self.log.submit(request.durability(Durability::Written).resting_on(Grounds::Restored)).map_err(SalvageError::Append)?);
        self.pending_bytes += bytes;
        if self.pending.len() >= PENDING_MAX || self.pending_bytes >= PENDING_BYTES_MAX { self.settle() } else { Ok(()) }
    }

    /// Waits for what is under way.
    fn settle(&mut self) -> Result<(), SalvageError> {
        self.pending_bytes = 0;
        for pending in self.pending.drain(..) {
            let receipt = pending.wait().map_err(SalvageError::Append)?;
            if receipt.duplicate {
                // An id that occurred twice was left out.
                return Err(SalvageError::Changed { segment: self.segment.clone() });
            }
            self.copied += receipt.events.len() as u64;
        }
        if let Some(progress) = self.progress {
            progress(self.copied, self.findings.manifest.totals.copied);
        }
        Ok(())
    }
}

/// Whether an event is the next one of the batch under way.
fn group_goes_on(group: &Group, index: u32, count: u32, recorded_at_ns: u64) -> bool {
    let next = group.events.len();
    count > 0 && next > 0 && group.count == count && index as usize == next && recorded_at_ns == group.recorded_at_ns
}
