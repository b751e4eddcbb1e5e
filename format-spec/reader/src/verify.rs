//! FORMAT.md section 10 as a whole: scans segments in parallel, merges them in order, ends at the first place that fails.
//!
//! Always: a worker holds one segment's results and hands them over through a channel of one, so memory stays bounded however many segments there are.
//! Never: lets a later fault hide an earlier one; segments are merged strictly in order.

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use crate::bytes::Hash;
use crate::commit::Layout;
use crate::finding::{Check, Finding, settle};
use crate::footer;
use crate::ledger::Scan;
use crate::log::Log;
use crate::scan::{End, Opened, Segment, scan};
use crate::store::{self, Store};
use crate::tail::Tail;
use crate::{Error, Fault, Options, Report};

const THREADS_MAX: usize = 64;

/// Verifies the store; gives its segments too, for a walk.
pub(crate) fn run(dir: &Path, options: &Options) -> Result<(Report, Store), Error> {
    // Steps 1 and 2
    let store = store::open(dir)?;
    let mut merge = Merge { log: Log::new(), segments: 0, bytes: 0, is_closed: false };
    let fault = scan_all(&store.segments, options, &mut merge)?;
    let fault = fault.or_else(|| {
        let (name, finding) = store.broken.as_ref()?;
        Some(merge.fault(name, finding.clone()))
    });
    Ok((merge.report(fault), store))
}

/// Steps 3 to 7 for all segments; the first fault in file order.
fn scan_all(segments: &[Segment], options: &Options, merge: &mut Merge) -> Result<Option<Fault>, Error> {
    let threads = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let threads = threads.min(THREADS_MAX).min(segments.len()).max(1);
    thread::scope(|scope| {
        let workers: Vec<Receiver<_>> = (0..threads)
            .map(|first| {
                let (sender, receiver) = sync_channel(1);
                scope.spawn(move || {
                    for segment in segments.iter().skip(first).step_by(threads) {
                        // The merge has dropped its end if it found a fault before.
                        if sender.send(settle(open_and_scan(segment, options))).is_err() {
                            break;
                        }
                    }
                });
                receiver
            })
            .collect();
        for (segment, worker) in segments.iter().zip(workers.iter().cycle()) {
            // A worker that is gone has panicked, and the scope passes that on.
            let Ok(result) = worker.recv() else { break };
            let fault = match result? {
                Ok((scan, mut opened)) => merge.segment(&segment.name, &mut opened, scan, options)?,
                // The header held a moment ago.
                Err(finding) => Some(merge.fault(&segment.name, finding)),
            };
            if fault.is_some() {
                return Ok(fault);
            }
        }
        Ok(None)
    })
}

fn open_and_scan(segment: &Segment, options: &Options) -> Check<(Scan, Opened)> {
    let mut opened = segment.open()?;
    let result = scan(&mut opened, u64::MAX, options.patience)?;
    Ok((result, opened))
}

struct Merge {
    log: Log,
    segments: u64,
    bytes: u64,
    is_closed: bool,
}

impl Merge {
    /// Merges the next segment; the fault in it, if there is one.
    fn segment(&mut self, name: &str, opened: &mut Opened, mut result: Scan, options: &Options) -> Result<Option<Fault>, Error> {
        if let Some(finding) = self.log.first_finding(&opened.header, &result) {
            if finding.place > 0 {
                self.take_until(opened, result, &finding, options)?;
            }
            return Ok(Some(self.fault(name, self.precise(opened, finding)?)));
        }
        self.log.absorb(&opened.header, &mut result);
        self.segments += 1;
        self.bytes += result.end;
        self.is_closed = result.is_closed;
        let footer = settle(self.check_footer(opened, &result))?;
        match footer {
            Ok(footer_bytes) => {
                self.bytes += footer_bytes;
                Ok(None)
            }
            Err(finding) => Ok(Some(self.fault(name, finding))),
        }
    }

    /// Takes in what held before a finding. The scan went on behind it if only the merge could see it; then it is repeated up to there.
    fn take_until(&mut self, opened: &mut Opened, result: Scan, finding: &Finding, options: &Options) -> Result<(), Error> {
        let own = result.finding.as_ref().is_some_and(|own| own.place == finding.place);
        let mut result = if own { result } else { scan(opened, finding.place, options.patience)? };
        self.bytes += result.end;
        self.log.absorb(&opened.header, &mut result);
        Ok(())
    }

    /// Step 7, T1: the length of the segment's footer, after comparing it.
    fn check_footer(&self, opened: &mut Opened, result: &Scan) -> Check<u64> {
        let Opened { window, header, end } = opened;
        let named_bytes = match *end {
            End::Named { footer_bytes: 0, .. } => return Ok(0),
            End::Named { footer_bytes, .. } => Some(footer_bytes),
            End::Walked | End::Unknown if result.tail == Tail::Footer => None,
            End::Walked | End::Unknown => return Ok(0),
        };
        let layout = Layout::of(header);
        let right = footer::build(&self.log.footer_input(result), &layout);
        window.refresh()?;
        if let Some(named_bytes) = named_bytes {
            // S2: what stands behind does not exist.
            window.end_at(result.end.saturating_add(named_bytes));
        }
        footer::compare(window, &layout, result.end, &right)?;
        if named_bytes.is_some_and(|named| named != right.len() as u64) {
            return Err(Finding::tampered("T1", result.end, "the footer's length is not what the successor says").into());
        }
        Ok(right.len() as u64)
    }

    /// Names the sector of a damaged footer at the end of the log, now that the right one can be made.
    fn precise(&self, opened: &mut Opened, finding: Finding) -> Result<Finding, Error> {
        if finding.rule != "T1" {
            return Ok(finding);
        }
        let result = scan(opened, finding.place, std::time::Duration::ZERO)?;
        let right = footer::build(&self.log.footer_input(&result), &Layout::of(&opened.header));
        opened.window.refresh()?;
        let offset = footer::first_difference(&mut opened.window, finding.place, &right)?;
        let found = finding.offset;
        Ok(finding.blaming(offset.unwrap_or(found)))
    }

    fn fault(&self, segment: &str, finding: Finding) -> Fault {
        let stream = finding.stream.and_then(|stream| stream.name.or_else(|| self.log.stream_name(&stream.id).map(str::to_owned)));
        Fault {
            kind: finding.kind,
            rule: finding.rule,
            segment: segment.to_owned(),
            offset: finding.offset,
            position: finding.position,
            stream,
            why: finding.why,
        }
    }

    /// Step 8
    fn report(&self, fault: Option<Fault>) -> Report {
        let genesis = self.log.genesis.as_ref();
        let log_id: Option<Hash> = genesis.map(|genesis| genesis.link);
        Report {
            records: self.log.records,
            events: self.log.events,
            streams: self.log.stream_count(),
            erased: self.log.erased,
            segments: self.segments,
            bytes: self.bytes,
            verified_to: self.log.records.checked_sub(1),
            closed: self.is_closed && fault.is_none(),
            log_id,
            origin: genesis.map(|genesis| genesis.origin.clone()),
            fault,
        }
    }
}
