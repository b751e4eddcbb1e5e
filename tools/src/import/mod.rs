//! `import`: files of the import form into the log.
//!
//! One thread reads and parses ([`source`]), this one decides and submits ([`pipeline`]); thousands of units are in flight.

mod pipeline;
mod source;
mod tally;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use chainring::{Log, Options};
use serde_json::json;

use crate::cli::{Gate, Import};
use crate::output::{Answer, BAD, Failure, GOOD, Out, complain, counted, grouped, progress};
use pipeline::{Acks, Importer};
use source::{Feed, Source, Stop};
use tally::Tally;

/// The command.
pub(crate) fn run(path: &Path, import: &Import, out: &mut Out) -> Answer {
    let started = Instant::now();
    let source = source::open(&import.files, import.gate == Gate::None)?;
    let log = open(path, import)?;
    let acks = import.ack.then_some(Acks { to: &mut *out });
    let mut importer = Importer::new(&log, import.gate, acks);
    let stop = feed(&source, &mut importer).err();
    let tally = importer.tally;
    let closed = log.close();
    let took = started.elapsed();
    if out.json {
        report(out, &import.files, &tally, stop.as_ref(), took)?;
    } else {
        // Behind acknowledgements, which programs read, the summary for people goes where people look.
        let mut summary = if import.ack { Out::for_messages() } else { Out::new(false) };
        tell(&mut summary, &tally, stop.is_some(), took)?;
    }
    if let Some(stop) = stop {
        let message = format!("{}:{}: {}", import.files[stop.file].display(), stop.line, stop.reason);
        return Err(if stop.is_io { Failure::Cannot(message) } else { Failure::No(message) });
    }
    closed?;
    Ok(tally.refused == 0)
}

/// The log, with the mark beside it kept; says so if that mark speaks of more than the log holds.
fn open(path: &Path, import: &Import) -> Result<Log, Failure> {
    let options = Options::new().remember(true).accept_rollback(import.accept_rollback);
    let options = import.expect_at_least.iter().fold(options, |options, seen| options.expect_at_least(*seen));
    let log = options.open(path)?;
    if let Some(fault) = log.report().rollback.as_ref().filter(|_| !import.accept_rollback) {
        complain(&format!("warning: {fault}; if that was on purpose, say --accept-rollback"));
    }
    Ok(log)
}

/// Takes units as they come until the input ends or one stops the import. Every answer is in when this returns.
fn feed(source: &Source, importer: &mut Importer<'_, '_>) -> Result<(), Stop> {
    let bar = progress("import", source.bytes_total, true);
    let result = loop {
        bar.set_position(source.bytes_read.load(Ordering::Relaxed));
        let next = if importer.is_waiting() {
            match source.feed.try_recv() {
                Ok(next) => Some(next),
                Err(TryRecvError::Disconnected) => None,
                Err(TryRecvError::Empty) => match importer.collect_some() {
                    Ok(()) => continue,
                    Err(stop) => break Err(stop),
                },
            }
        } else {
            source.feed.recv().ok()
        };
        let taken = match next {
            None => break Ok(()),
            Some(Feed::Stop(stop)) => break Err(stop),
            Some(Feed::Units(units)) => units.into_iter().try_for_each(|unit| importer.take(unit)),
        };
        if let Err(stop) = taken.and_then(|()| importer.collect_ready()) {
            break Err(stop);
        }
    };
    // An answer still in flight may stop the import as well: the line that comes first is the one to tell.
    let settled = importer.settle();
    bar.finish_and_clear();
    match result.err().into_iter().chain(settled.err()).min_by_key(|stop| (stop.file, stop.line)) {
        None => Ok(()),
        Some(stop) => Err(stop),
    }
}

/// The object for programs.
fn report(out: &mut Out, files: &[PathBuf], tally: &Tally, stop: Option<&Stop>, took: Duration) -> Result<(), Failure> {
    let mut object = json!({
        "events": tally.events,
        "batches": tally.batches(),
        "streams": tally.streams(),
        "stale": tally.stale,
        "refused": tally.refused,
        "duplicates": tally.duplicates,
        "first_position": tally.first_position.map(|position| position.0),
        "last_position": tally.last_position.map(|position| position.0),
        "seconds": took.as_secs_f64(),
    });
    if let Some(stop) = stop {
        object["error"] = json!({ "file": files[stop.file].display().to_string(), "line": stop.line, "reason": stop.reason });
    }
    writeln!(out, "{object}")?;
    out.flush()?;
    Ok(())
}

/// The summary for people.
fn tell(out: &mut Out, tally: &Tally, is_stopped: bool, took: Duration) -> Result<(), Failure> {
    let verdict = if is_stopped { out.paint(BAD, "stopped after") } else { out.paint(GOOD, "imported") }.into_owned();
    writeln!(out, "{verdict} {} in {:.1} s", counted(tally.events, "event", "events"), took.as_secs_f64())?;
    let mut rows = vec![
        ("batches", grouped(tally.batches() as u64)),
        ("streams", grouped(tally.streams() as u64)),
        ("stale writes", grouped(tally.stale)),
        ("refused", grouped(tally.refused)),
        ("already there", grouped(tally.duplicates)),
    ];
    if let (Some(first), Some(last)) = (tally.first_position, tally.last_position) {
        rows.push(("positions", format!("{first} to {last}")));
    }
    out.table(&rows)?;
    out.flush()?;
    Ok(())
}
