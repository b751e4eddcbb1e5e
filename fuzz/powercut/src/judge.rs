//! What must hold after a cut: the state is mounted, opened for reading and for writing, appended to, closed, verified twice, and opened again.
//!
//! While that happens the device may record, so that the cut can come again in the middle of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use chainring::{FaultKind, OpenError, Opened, Store, VerifyOptions};

use crate::device::Device;
use crate::model::{Found, Level, Planned, Promise, content};
use crate::random::Random;
use crate::workload;

/// What a good state was like.
pub(crate) struct Verdict {
    pub(crate) opened: Opened,
    pub(crate) cut_bytes: u64,
    pub(crate) events: u64,
    /// Packed segments found.
    pub(crate) packed: u64,
    /// Everything asked for after the cut, on top of what was found.
    pub(crate) level: Level,
}

/// Judges the store in a directory after a cut before which these promises were made.
pub(crate) fn judge(
    device: &Device,
    store: &Path,
    level: &Level,
    promises: &[Arc<Promise>],
    segment_bytes: u64,
    random: &mut Random,
) -> Result<Verdict, String> {
    let judged = catch_unwind(AssertUnwindSafe(|| recover(device, store, level, promises, segment_bytes, random)));
    judged.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without words")))
    })
}

fn recover(
    device: &Device,
    store: &Path,
    level: &Level,
    promises: &[Arc<Promise>],
    segment_bytes: u64,
    random: &mut Random,
) -> Result<Verdict, String> {
    // For reading: shows what recovery will keep.
    let must_exist = !promises.is_empty() || !level.base.is_empty();
    let before = match Store::open(store) {
        Ok(opened) => {
            let found = content(&opened)?;
            let report = opened.report().clone();
            let verified = chainring::verify(store, &VerifyOptions { threads: 1, ..VerifyOptions::default() })
                .map_err(|error| format!("verify: {error}"))?;
            match verified.fault {
                None if report.opened != Opened::Torn => {}
                Some(fault) if fault.kind == FaultKind::Torn && report.opened == Opened::Torn => {}
                fault => return Err(format!("opening for reading says {:?}, verify says {fault:?}", report.opened)),
            }
            if verified.events != found.len() as u64 {
                return Err(format!("verify counts {} events, reading {}", verified.events, found.len()));
            }
            let patience = chainring_reader::Options { threads: 1, patience: std::time::Duration::ZERO };
            let second = chainring_reader::verify(store, &patience).map_err(|error| format!("second reader: {error}"))?;
            let second_torn = match &second.fault {
                None => false,
                Some(fault) if fault.kind == chainring_reader::FaultKind::Torn => true,
                Some(fault) => return Err(format!("opening for reading says {:?}, the second reader says {fault}", report.opened)),
            };
            if second_torn != (report.opened == Opened::Torn) || second.events != verified.events {
                return Err(format!("the second reader disagrees: torn {second_torn}, {} events of {}", second.events, verified.events));
            }
            level.judge(&found, promises, true)?;
            if let Some(fault) = report.rollback {
                return Err(format!("a cut is no rollback, but the mark says {fault}"));
            }
            Some((found, report.opened))
        }
        Err(OpenError::NotAStore { .. }) if !must_exist => None,
        Err(error) => return Err(format!("opening for reading: {error}")),
    };

    // For writing.
    let log = workload::open(store, segment_bytes).map_err(|error| format!("opening for writing: {error}"))?;
    device.promise(Promise::Opened);
    let report = log.report().clone();
    let found = content(&log)?;
    let packed = log.stats().packed_segments;
    if let Some(fault) = report.rollback {
        return Err(format!("a cut is no rollback, but the mark says {fault}"));
    }
    match &before {
        Some((before, _)) if *before != found => {
            return Err(format!("a reader saw {} events, recovery kept {}", before.len(), found.len()));
        }
        Some((_, opened)) if *opened != report.opened => return Err(format!("a reader saw {opened:?}, recovery {:?}", report.opened)),
        None if report.opened != Opened::Created || !found.is_empty() => {
            return Err(format!("there was no store, recovery says {:?}", report.opened));
        }
        _ => {}
    }

    // What is packed now may be cut again, like everything below.
    if random.one_in(2) {
        let more = log.pack().map_err(|error| format!("packing after recovery: {error}"))?;
        if let Some(failure) = more.failed.first() {
            return Err(format!("packing {} after recovery: {}", failure.segment, failure.error));
        }
        if content(&log)? != found {
            return Err("packing changed what is shown".into());
        }
    }

    // A retry of what is there is answered with its place; what was lost is appended; then something new.
    let after = Level::on(found.clone());
    let planned = level.planned();
    let is_there = |planned: &&Planned| found.iter().any(|found| planned.events[0].id == Some(found.id));
    if let Some(last) = planned.iter().rev().find(is_there) {
        let receipt = log.append(last.request()).map_err(|error| format!("retry of what is there: {error}"))?;
        let place = found.iter().find(|found| last.events[0].id == Some(found.id)).map(|found| (found.position, found.link));
        if !receipt.duplicate || place != Some((receipt.events[0].position.0, receipt.events[0].link)) {
            return Err(format!("a retry was answered with {receipt:?} instead of {place:?}"));
        }
    }
    let lost = planned.iter().filter(|planned| !is_there(planned)).take(2).cloned();
    let new: Vec<Planned> = (0..1 + random.below(3)).map(|_| workload::plan(random, 0, segment_bytes)).collect();
    for mut planned in lost.collect::<Vec<_>>().into_iter().chain(new) {
        planned.thread = 0;
        let (request, events) = (planned.request(), planned.events.clone());
        after.plan(planned);
        let receipt = log.append(request).map_err(|error| format!("append after recovery: {error}"))?;
        if receipt.duplicate {
            return Err(format!("{receipt:?} is called a duplicate, but was lost or is new"));
        }
        device.promise(Promise::durable(&receipt, &events));
    }
    let whole = content(&log)?;
    let submitted = after.submitted();
    log.close().map_err(|error| format!("close after recovery: {error}"))?;
    let closed = Arc::new(Promise::Synced(submitted.clone()));
    device.promise(Promise::Synced(submitted));

    // Twice the same, and two programs that share no line agree that it holds.
    check_closed(store, &whole)?;
    after.judge(&whole, &[closed], true)?;
    Ok(Verdict { opened: report.opened, cut_bytes: report.cut_bytes, events: found.len() as u64, packed, level: after })
}

/// A store that was closed in order holds exactly this.
pub(crate) fn check_closed(store: &Path, expected: &[Found]) -> Result<(), String> {
    let verified =
        chainring::verify(store, &VerifyOptions { threads: 1, ..VerifyOptions::default() }).map_err(|error| format!("verify: {error}"))?;
    if let Some(fault) = verified.fault {
        return Err(format!("verify after close: {fault}"));
    }
    let second = chainring_reader::verify(store, &chainring_reader::Options { threads: 1, patience: std::time::Duration::ZERO })
        .map_err(|error| format!("second reader: {error}"))?;
    if let Some(fault) = &second.fault {
        return Err(format!("the second reader after close: {fault}"));
    }
    let again = Store::open(store).map_err(|error| format!("opening again: {error}"))?;
    if again.report().opened != Opened::Clean {
        return Err(format!("after close the store is {:?}", again.report().opened));
    }
    if content(&again)? != expected {
        return Err("a second open shows other content than the first".into());
    }
    Ok(())
}
