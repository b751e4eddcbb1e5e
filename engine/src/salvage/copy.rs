//! Copying intact events to a new store, by the way they came: appended, in their order, each at the time it was first recorded.
//!
//! The new log is an ordinary one: nothing is put into it but by [`Log::append`]. Its clock is set to the old time before every request, so that
//! the engine records what was recorded.

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
use crate::disk::{Access, Clock, Disk, Environment};
use crate::error::{AppendError, OpenError};
use crate::log::{Event, Log, Options, Request};
use crate::sync::{Arc, AtomicU64, Ordering};

/// Shows the time that was last set; time passes as it does outside.
#[derive(Debug)]
struct OldClock {
    realtime_ns: AtomicU64,
    outside: Arc<dyn Clock>,
}

impl Clock for OldClock {
    fn realtime_ns(&self) -> u64 {
        // Relaxed: set and read by the one thread that copies.
        self.realtime_ns.load(Ordering::Relaxed)
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
    is_broken: bool,
}

struct Copy<'a> {
    log: Log,
    clock: Arc<OldClock>,
    group: Group,
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
        realtime_ns: AtomicU64::new(manifest.created_at_ns.or(findings.first_recorded_at_ns).unwrap_or(0)),
        outside: Arc::clone(&environment.clock),
    });
    let inside = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..environment.clone() };
    let mut options = Options::new().origin(manifest.origin.clone().unwrap_or_default()).accept_clock_jump(true);
    if let Some(bytes) = findings.segment_bytes {
        options = options.segment_bytes(bytes);
    }
    let log = options.open_in(inside, directory).map_err(SalvageError::Open)?;
    let mut copy = Copy { log, clock, group: Group::default(), findings, progress, copied: 0, reencoded: 0 };
    let mut content = Content::default();
    for plan in &findings.plans {
        copy.segment(disk, plan, &mut content)?;
    }
    if copy.copied != manifest.totals.copied {
        let segment = findings.plans.last().map_or_else(String::new, |plan| plan.name.clone());
        return Err(SalvageError::Changed { segment });
    }
    let log_id = copy.log.stats().log_id;
    copy.log.close().map_err(SalvageError::Append)?;
    Ok((log_id, copy.reencoded))
}

impl Copy<'_> {
    fn segment(&mut self, disk: &dyn Disk, plan: &Plan, content: &mut Content) -> Result<(), SalvageError> {
        let changed = || SalvageError::Changed { segment: plan.name.clone() };
        let file = disk.open(&plan.name, Access::Read).map_err(|_| changed())?;
        content.read(&*file, plan.end).map_err(|_| changed())?;
        let seed = Seed::new(&plan.salt);
        let before = self.copied;
        for cell in scan(&content.bytes, seed, plan.block_bytes, plan.start..plan.end).cells {
            let held = &content.bytes[cell.offset as usize..];
            match cell.what {
                What::Gap | What::Bodyless => self.group.is_broken = true,
                What::Trailer => self.flush()?,
                What::Frame if plan.skip.binary_search(&cell.offset).is_ok() => self.group.is_broken = true,
                What::Frame => {
                    let frame = FrameView::parse(held, seed.mask(cell.offset)).map_err(|_| changed())?;
                    self.take(&frame).ok_or_else(changed)??;
                }
            }
        }
        self.flush()?;
        if let Some(progress) = self.progress {
            progress(self.copied, self.findings.manifest.totals.copied);
        }
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
        let group = &mut self.group;
        let goes_on = count > 0
            && group.count == count
            && !group.is_broken
            && index as usize == group.events.len()
            && recorded_at_ns == group.recorded_at_ns;
        if !goes_on {
            if let Err(error) = self.flush() {
                return Some(Err(error));
            }
            self.group = Group { events: Vec::new(), recorded_at_ns, count, is_broken: count == 0 || index > 0 };
        }
        self.group.events.push(event);
        // What cannot become a whole batch any more need not wait, nor be held.
        if self.group.is_broken { Some(self.flush()) } else { Some(Ok(())) }
    }

    /// Appends what was taken up: as a batch if it is one, else event by event.
    fn flush(&mut self) -> Result<(), SalvageError> {
        let Group { events, recorded_at_ns, count, is_broken } = std::mem::take(&mut self.group);
        if events.len() as u64 == u64::from(count) && !is_broken && count > 0 {
            return self.append(Request::batch(events), recorded_at_ns, count.into());
        }
        events.into_iter().try_for_each(|event| self.append(event.into(), recorded_at_ns, 1))
    }

    /// Nothing is synced one by one: the new store is whole when it is closed, or it is made again.
    fn append(&mut self, request: Request, recorded_at_ns: u64, events: u64) -> Result<(), SalvageError> {
        self.clock.realtime_ns.store(recorded_at_ns, Ordering::Relaxed);
        let receipt = self.log.append(request.durability(Durability::Written)).map_err(SalvageError::Append)?;
        if receipt.duplicate {
            return Err(SalvageError::Append(AppendError::Invalid { why: "an event id occurs twice".into() }));
        }
        self.copied += events;
        if let Some(progress) = self.progress.filter(|_| self.copied.is_multiple_of(4096)) {
            progress(self.copied, self.findings.manifest.totals.copied);
        }
        Ok(())
    }
}
