//! `verify`: every checksum, link, digest, commit and the lineage of the segments, by the engine or by the independent reader.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use chainring::{Remembered, Store, TreeHead, VerifyOptions, note_name};
use serde_json::json;

use crate::cli::Verify;
use crate::form::members::hex;
use crate::output::{Answer, BAD, Failure, GOOD, Out, grouped, progress, sized, spinner};
use crate::trust;
use crate::verdict::{self, Fault, Verdict};

/// The command.
pub(crate) fn run(path: &Path, args: &Verify, out: &mut Out) -> Answer {
    let started = Instant::now();
    let findings = if args.reader { by_reader(path, &args.expect_at_least)? } else { by_engine(path, args)? };
    tell(&findings, started.elapsed().as_secs_f64(), out)?;
    if findings.fault.is_some() || !args.anchors {
        return Ok(findings.fault.is_none());
    }
    trust::anchored::check_all(path, args.anchor_every, out)
}

/// A checkpoint that the caller trusts for having kept it; it must be one of this log.
fn kept(file: &Path, path: &Path) -> Result<TreeHead, Failure> {
    let store = Store::open(path)?;
    let kept = trust::check::saved(file)?;
    let name = note_name(&store.stats().origin, &store.log_id());
    if kept.name != name {
        return Err(Failure::Cannot(format!("{} is a checkpoint of {}, this log is {name}", file.display(), kept.name)));
    }
    Ok(TreeHead { size: kept.size, root: kept.root })
}

fn by_engine(path: &Path, args: &Verify) -> Result<Verdict, Failure> {
    let since = args.since.as_ref().map(|file| kept(file, path)).transpose()?;
    let bar = progress("verify", 0, true);
    let show = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let options = VerifyOptions {
        threads: 0,
        progress: Some(&show),
        expected: args.expect_at_least.clone(),
        since,
        resume: args.resume,
        remember: args.remember || args.resume,
        head: false,
        bytes_per_second: args.rate.unwrap_or(0),
    };
    let found = verdict::by_engine(path, &options)?;
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
            "since": found.since,
            "root": found.root.as_ref().map(|root| hex(root)),
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
            let behind = if found.since > 0 { format!(" behind the first {} records", grouped(found.since)) } else { String::new() };
            writeln!(out, "{ok}: every checksum, link and digest{behind} holds")?;
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
