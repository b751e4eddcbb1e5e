//! `verify`: every checksum, link, digest, commit and the lineage of the segments, by the engine or by the independent reader.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use chainring::{VerifyOptions, VerifyReport};
use serde_json::json;

use crate::cli::Verify;
use crate::output::{Answer, BAD, Failure, GOOD, Out, counted, fault_name, fault_place, sized};

/// The command.
pub(crate) fn run(path: &Path, args: &Verify, out: &mut Out) -> Answer {
    let started = Instant::now();
    if args.reader {
        return Err(Failure::Cannot("the independent reader is not built in".into()));
    }
    let report = chainring::verify(path, &VerifyOptions::default())?;
    tell(&report, started.elapsed(), out)?;
    Ok(report.fault.is_none())
}

fn tell(report: &VerifyReport, took: Duration, out: &mut Out) -> Result<(), Failure> {
    if out.json {
        let mut object = json!({
            "ok": report.fault.is_none(),
            "records": report.records,
            "events": report.events,
            "bytes": report.bytes,
            "verified_to": report.verified_to.map(|position| position.0),
            "seconds": took.as_secs_f64(),
        });
        if let Some(fault) = &report.fault {
            object["fault"] = fault_name(fault.kind).into();
            object["segment"] = fault.segment.as_str().into();
            object["offset"] = fault.offset.into();
            object["position"] = fault.position.map(|position| position.0).into();
            object["stream"] = fault.stream.as_deref().into();
            object["why"] = fault.why.as_str().into();
        }
        writeln!(out, "{object}")?;
    } else {
        if let Some(fault) = &report.fault {
            let name = out.paint(BAD, fault_name(fault.kind)).into_owned();
            writeln!(out, "{name}  {}\n          {}", fault_place(fault), fault.why)?;
        } else {
            let ok = out.paint(GOOD, "ok").into_owned();
            writeln!(out, "{ok}  every checksum, link and digest holds")?;
        }
        let to = report.verified_to.map_or_else(|| "nothing".to_owned(), |position| format!("position {position}"));
        let rows = [
            ("verified to", to),
            ("records", counted(report.records, "record", "records")),
            ("events", counted(report.events, "event", "events")),
            ("bytes", sized(report.bytes)),
            ("took", format!("{:.2} s", took.as_secs_f64())),
        ];
        out.table(&rows)?;
    }
    out.flush()?;
    Ok(())
}
