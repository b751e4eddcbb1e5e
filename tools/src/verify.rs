//! `verify`: every checksum, link, digest, commit and the lineage of the segments, by the engine or by the independent reader.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use chainring::VerifyOptions;
use serde_json::json;

use crate::cli::Verify;
use crate::output::{Answer, BAD, Failure, GOOD, Out, grouped, progress, sized, spinner};

/// What either of the two verifiers found.
struct Findings {
    records: u64,
    events: u64,
    bytes: u64,
    verified_to: Option<u64>,
    fault: Option<Fault>,
}

/// The first place that is not as it should be.
struct Fault {
    kind: String,
    segment: String,
    offset: u64,
    position: Option<u64>,
    stream: Option<String>,
    why: String,
}

/// The command.
pub(crate) fn run(path: &Path, args: &Verify, out: &mut Out) -> Answer {
    let started = Instant::now();
    let findings = if args.reader { by_reader(path)? } else { by_engine(path)? };
    tell(&findings, started.elapsed().as_secs_f64(), out)?;
    Ok(findings.fault.is_none())
}

fn by_engine(path: &Path) -> Result<Findings, Failure> {
    let bar = progress("verify", 0, true);
    let show = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let report = chainring::verify(path, &VerifyOptions { threads: 0, progress: Some(&show) })?;
    bar.finish_and_clear();
    let fault = report.fault.map(|fault| Fault {
        kind: fault.kind.to_string(),
        segment: fault.segment,
        offset: fault.offset,
        position: fault.position.map(|position| position.0),
        stream: fault.stream,
        why: format!("{} (rule {})", fault.why, fault.rule),
    });
    let verified_to = report.verified_to.map(|position| position.0);
    Ok(Findings { records: report.records, events: report.events, bytes: report.bytes, verified_to, fault })
}

fn by_reader(path: &Path) -> Result<Findings, Failure> {
    let spinner = spinner("verify with the independent reader");
    let report =
        chainring_reader::verify(path, &chainring_reader::Options::default()).map_err(|error| Failure::Cannot(error.to_string()))?;
    spinner.finish_and_clear();
    let fault = report.fault.map(|fault| Fault {
        kind: fault.kind.to_string(),
        segment: fault.segment,
        offset: fault.offset,
        position: fault.position,
        stream: fault.stream,
        why: format!("{} (rule {})", fault.why, fault.rule),
    });
    Ok(Findings { records: report.records, events: report.events, bytes: report.bytes, verified_to: report.verified_to, fault })
}

fn tell(found: &Findings, seconds: f64, out: &mut Out) -> Result<(), Failure> {
    if out.json {
        let mut object = json!({
            "ok": found.fault.is_none(),
            "records": found.records,
            "events": found.events,
            "bytes": found.bytes,
            "verified_to": found.verified_to,
            "seconds": seconds,
        });
        if let Some(fault) = &found.fault {
            object["fault"] = fault.kind.as_str().into();
            object["segment"] = fault.segment.as_str().into();
            object["offset"] = fault.offset.into();
            object["position"] = fault.position.into();
            object["stream"] = fault.stream.as_deref().into();
            object["why"] = fault.why.as_str().into();
        }
        writeln!(out, "{object}")?;
        out.flush()?;
        return Ok(());
    }
    let mut rows = Vec::new();
    match &found.fault {
        None => {
            let ok = out.paint(GOOD, "ok").into_owned();
            writeln!(out, "{ok}: every checksum, link and digest holds")?;
        }
        Some(fault) => {
            let kind = out.paint(BAD, &fault.kind).into_owned();
            writeln!(out, "{kind}: {}", fault.why)?;
            rows.push(("at", format!("{} offset {}", fault.segment, grouped(fault.offset))));
            rows.extend(fault.position.map(|position| ("position", position.to_string())));
            rows.extend(fault.stream.clone().map(|stream| ("stream", stream)));
        }
    }
    rows.push(("verified to", found.verified_to.map_or_else(|| "nothing".to_owned(), |position| format!("position {position}"))));
    rows.push(("records", format!("{}, {} of them events", grouped(found.records), grouped(found.events))));
    rows.push(("bytes", sized(found.bytes)));
    rows.push(("took", format!("{seconds:.2} s")));
    out.table(&rows)?;
    out.flush()?;
    Ok(())
}
