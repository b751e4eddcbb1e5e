//! `verify`: every checksum, link, digest, commit and the lineage of the segments, by the engine or by the independent reader.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use chainring::{Remembered, VerifyOptions};
use serde_json::json;

use crate::cli::Verify;
use crate::output::{Answer, BAD, Failure, GOOD, Out, grouped, progress, sized, spinner};
use crate::trust;
use crate::verdict::{self, Fault, Verdict};

/// The command.
pub(crate) fn run(path: &Path, args: &Verify, out: &mut Out) -> Answer {
    let started = Instant::now();
    let findings = if args.reader { by_reader(path, &args.expect_at_least)? } else { by_engine(path, &args.expect_at_least)? };
    tell(&findings, started.elapsed().as_secs_f64(), out)?;
    if findings.fault.is_some() || !args.anchors {
        return Ok(findings.fault.is_none());
    }
    trust::anchor::check_all(path, out)
}

fn by_engine(path: &Path, expected: &[Remembered]) -> Result<Verdict, Failure> {
    let bar = progress("verify", 0, true);
    let show = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let found = verdict::by_engine(path, &VerifyOptions { threads: 0, progress: Some(&show), expected: expected.to_vec() })?;
    bar.finish_and_clear();
    Ok(found)
}

fn by_reader(path: &Path, expected: &[Remembered]) -> Result<Verdict, Failure> {
    let spinner = spinner("verify with the independent reader");
    let found = verdict::by_reader(path, expected)?;
    spinner.finish_and_clear();
    Ok(found)
}

/// Why, with the rule of FORMAT.md.
fn why(fault: &Fault) -> String {
    format!("{} (rule {})", fault.why, fault.rule)
}

fn tell(found: &Verdict, seconds: f64, out: &mut Out) -> Result<(), Failure> {
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
            fault.put_into(&mut object, &why(fault));
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
            writeln!(out, "{kind}: {}", why(fault))?;
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
