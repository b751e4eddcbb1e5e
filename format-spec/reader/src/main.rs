//! `chainring-reader verify DIR` prints one JSON object; `chainring-reader dump DIR` prints every record that held, one JSON object a line.
//!
//! Exit codes: 0 the store holds, 1 it has a fault, 2 wrong usage, 3 it could not be read.
#![forbid(unsafe_code)]

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use chainring_reader::json::Object;
use chainring_reader::{Error, Options, Record, Report, verify, walk};

const USAGE: &str = "usage: chainring-reader verify DIR | chainring-reader dump DIR";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [command, dir] = arguments.as_slice() else { return usage() };
    match command.to_str() {
        Some("verify") => run_verify(Path::new(dir)),
        Some("dump") => run_dump(Path::new(dir)),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn cannot(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("chainring-reader: {error}");
    ExitCode::from(3)
}

fn run_verify(dir: &Path) -> ExitCode {
    let started = Instant::now();
    match verify(dir, &Options::default()) {
        Ok(report) => {
            let line = report_json(&report, started.elapsed().as_secs_f64());
            match writeln!(std::io::stdout(), "{line}") {
                Ok(()) => exit_code(&report),
                Err(error) => cannot(&error),
            }
        }
        Err(error) => cannot(&error),
    }
}

fn run_dump(dir: &Path) -> ExitCode {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let report: Result<Report, Error> = walk(dir, |record| {
        written = writeln!(out, "{}", record_json(&record));
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if let Err(error) = written.and_then(|()| out.flush()) {
        return cannot(&error);
    }
    match report {
        Ok(report) => {
            if let Some(fault) = &report.fault {
                eprintln!("chainring-reader: {fault}");
            }
            exit_code(&report)
        }
        Err(error) => cannot(&error),
    }
}

fn exit_code(report: &Report) -> ExitCode {
    ExitCode::from(u8::from(report.fault.is_some()))
}

fn report_json(report: &Report, seconds: f64) -> String {
    let fault = report.fault.as_ref();
    let kind = fault.map(|fault| fault.kind.to_string());
    Object::new()
        .boolean("ok", fault.is_none())
        .number("records", Some(report.records))
        .number("events", Some(report.events))
        .number("streams", Some(report.streams))
        .number("erased", Some(report.erased))
        .number("segments", Some(report.segments))
        .number("bytes", Some(report.bytes))
        .number("verified_to", report.verified_to)
        .boolean("closed", report.closed)
        .hex("log_id", report.log_id.as_ref().map(|id| &id[..]))
        .text("origin", report.origin.as_deref())
        .seconds("seconds", seconds)
        .text("fault", kind.as_deref())
        .text("rule", fault.map(|fault| fault.rule))
        .text("segment", fault.map(|fault| fault.segment.as_str()))
        .number("offset", fault.map(|fault| fault.offset))
        .number("position", fault.and_then(|fault| fault.position))
        .text("stream", fault.and_then(|fault| fault.stream.as_deref()))
        .text("why", fault.map(|fault| fault.why.as_str()))
        .finish()
}

fn record_json(record: &Record<'_>) -> String {
    let batch = record.batch.as_ref();
    Object::new()
        .number("position", Some(record.position))
        .number("kind", Some(u64::from(record.kind)))
        .text("stream", record.stream)
        .number("version", Some(record.version))
        .hex("event_id", Some(&record.event_id))
        .hex("batch_id", batch.map(|batch| &batch.id[..]))
        .number("batch_index", batch.map(|batch| u64::from(batch.index)))
        .number("batch_count", batch.map(|batch| u64::from(batch.count)))
        .number("recorded_at_ns", Some(record.recorded_at_ns))
        .hex("metadata", Some(record.metadata))
        .hex("body", record.body)
        .hex("link", Some(&record.link))
        .finish()
}
