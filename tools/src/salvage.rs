//! `salvage`: everything intact of a damaged log into a new one, and a list of what is not there any more.
//!
//! The list is `salvage.json` beside the new log's segments, and what `--json` prints: one form for both. Never: a byte written to the old log.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use chainring::disk::Environment;
use chainring::{Irregular, Manifest, Ranges, Salvage, SalvageOptions, SalvagedStream, StreamId, VerifyOptions};
use serde_json::{Value, json};

use crate::cli;
use crate::output::{Answer, BAD, DIM, Failure, GOOD, Out, counted, grouped, progress, sized};
use crate::time;

/// Where the list of losses is left.
const MANIFEST_FILE: &str = "salvage.json";
/// How many rows of a kind people are shown; programs get all.
const ROWS_SHOWN: usize = 8;

/// The command.
pub(crate) fn run(log: &Path, args: &cli::Salvage, out: &mut Out) -> Answer {
    let started = Instant::now();
    let names = args.names.as_deref().map_or_else(|| Ok(Vec::new()), names)?;
    if let Some(to) = &args.to {
        check_target(log, to)?;
    }
    let bar = progress("examine", 0, true);
    let show = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let options = SalvageOptions { names, copies_tampered: args.include_tampered, progress: Some(&show) };
    let salvage = Salvage::open_in(&Environment::system(log), log, &options)?;
    bar.finish_and_clear();
    let to = args.to.as_deref().filter(|_| !args.dry_run);
    let manifest = match to {
        Some(to) => copy(&salvage, to)?,
        None => salvage.manifest().clone(),
    };
    let mut object = object(&manifest);
    object["log"] = log.display().to_string().into();
    object["to"] = to.map(|to| to.display().to_string()).into();
    object["seconds"] = started.elapsed().as_secs_f64().into();
    if let Some(to) = to {
        write_manifest(&to.join(MANIFEST_FILE), &object)?;
    }
    if out.json {
        writeln!(out, "{object}")?;
    } else {
        tell(&manifest, to, out)?;
    }
    out.flush()?;
    Ok(manifest.is_whole())
}

/// One name a line.
fn names(path: &Path) -> Result<Vec<String>, Failure> {
    let cannot = |error: std::io::Error| Failure::Cannot(format!("cannot read {}: {error}", path.display()));
    let lines = BufReader::new(File::open(path).map_err(cannot)?).lines();
    let names = lines.collect::<Result<Vec<String>, _>>().map_err(cannot)?;
    Ok(names.into_iter().map(|name| name.trim_end_matches('\r').to_owned()).filter(|name| !name.is_empty()).collect())
}

/// A new log inside the old one's directory would change that.
fn check_target(log: &Path, to: &Path) -> Result<(), Failure> {
    let to = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
    let above = to.ancestors().find_map(|above| fs::canonicalize(above).ok());
    match fs::canonicalize(log) {
        Ok(log) if above.is_some_and(|above| above.starts_with(&log)) => {
            Err(Failure::Usage(format!("{} lies in the log that is to be salvaged", to.display())))
        }
        _ => Ok(()),
    }
}

fn copy(salvage: &Salvage, to: &Path) -> Result<Manifest, Failure> {
    let bar = progress("copy", salvage.manifest().totals.copied, false);
    let show = |done, _| bar.set_position(done);
    let manifest = salvage.copy_to(&Environment::system(to), to, Some(&show)).map_err(|error| Failure::Cannot(error.to_string()))?;
    bar.finish_and_clear();
    let report = chainring::verify(to, &VerifyOptions::default())?;
    match report.fault {
        None if report.events == manifest.totals.copied => Ok(manifest),
        fault => Err(Failure::Cannot(format!(
            "the new log does not hold what was copied: {} of {} events{}",
            report.events,
            manifest.totals.copied,
            fault.map_or_else(String::new, |fault| format!(", {fault}"))
        ))),
    }
}

fn write_manifest(path: &PathBuf, object: &Value) -> Result<(), Failure> {
    let write = || {
        let mut file = File::create(path)?;
        serde_json::to_writer_pretty(&mut file, object)?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|error| Failure::Cannot(format!("cannot write {}: {error}", path.display())))
}

fn pairs(ranges: &Ranges) -> Value {
    ranges.iter().map(|(first, last)| json!([first, last])).collect()
}

fn instant(ns: u64) -> String {
    time::render(time::from_nanoseconds(ns))
}

/// The manifest as JSON; `tools/README.md` explains every member.
fn object(manifest: &Manifest) -> Value {
    let totals = &manifest.totals;
    let names: HashMap<StreamId, &str> =
        manifest.streams.iter().filter_map(|stream| Some((stream.stream_id, stream.name.as_deref()?))).collect();
    let irregular = |record: &Irregular| {
        json!({
            "segment": record.segment,
            "offset": record.offset,
            "position": record.position.map(|position| position.0),
            "stream": names.get(&record.stream_id),
            "stream_id": record.stream_id.to_string(),
            "version": record.version.0,
            "id": record.event_id.to_string(),
            "reason": record.reason.to_string(),
        })
    };
    let cut = manifest.cut.iter().map(|cut| {
        let streams = cut
            .streams
            .iter()
            .map(|stream| json!({ "stream": stream.name, "stream_id": stream.stream_id.to_string(), "versions": pairs(&stream.versions) }));
        json!({
            "segment": cut.segment,
            "offset": cut.offset,
            "bytes": cut.bytes,
            "done": cut.is_done,
            "records": cut.records,
            "streams": streams.collect::<Vec<_>>(),
        })
    });
    let damage = manifest.damage.iter().map(|damage| {
        json!({
            "segment": damage.segment,
            "offset": damage.offset,
            "bytes": damage.bytes,
            "kind": damage.kind.to_string(),
            "why": damage.why,
        })
    });
    let missing = manifest.missing.iter().map(|gone| json!({ "first": gone.first, "last": gone.last, "count": gone.count }));
    let unplaced = manifest.unplaced.iter().map(
        |run| json!({ "segment": run.segment, "first_offset": run.first_offset, "last_offset": run.last_offset, "records": run.records }),
    );
    let broken = manifest
        .broken_batches
        .iter()
        .map(|batch| json!({ "segment": batch.segment, "offset": batch.offset, "events": batch.events, "copied": batch.copied }));
    json!({
        "ok": manifest.is_whole(),
        "log_id": manifest.log_id.map(|id| id.to_string()),
        "new_log_id": manifest.new_log_id.map(|id| id.to_string()),
        "origin": manifest.origin,
        "created_at": manifest.created_at_ns.map(instant),
        "segments": totals.segments,
        "bytes": totals.bytes,
        "events_found": totals.found,
        "events_copied": totals.copied,
        "events_left_out": totals.left_out,
        "records_missing": totals.missing,
        "end_known": manifest.end_known,
        "events_reencoded": totals.reencoded,
        "links_verified": totals.link_verified,
        "links_unverified": totals.link_unverified,
        "streams_found": totals.streams,
        "streams_touched": totals.streams_touched,
        "damage": damage.collect::<Vec<_>>(),
        "missing_segments": pairs(&manifest.missing_segments),
        "cut": cut.collect::<Vec<_>>(),
        "missing_positions": missing.collect::<Vec<_>>(),
        "left_out": manifest.left_out.iter().map(irregular).collect::<Vec<_>>(),
        "copied_tampered": manifest.copied_tampered.iter().map(irregular).collect::<Vec<_>>(),
        "unverified_positions": pairs(&manifest.link_unverified),
        "unplaced": unplaced.collect::<Vec<_>>(),
        "broken_batches": broken.collect::<Vec<_>>(),
        "streams": manifest.streams.iter().map(stream).collect::<Vec<_>>(),
    })
}

fn stream(stream: &SalvagedStream) -> Value {
    let runs = stream.versions.iter().map(|run| json!({ "first": run.first, "last": run.last, "new_first": run.new_first }));
    json!({
        "stream": stream.name,
        "stream_id": stream.stream_id.to_string(),
        "complete": stream.complete,
        "found": pairs(&stream.found),
        "missing": pairs(&stream.missing),
        "left_out": pairs(&stream.left_out),
        "mentioned": stream.mentioned.map(|version| version.0),
        "new_stream": stream.new_name,
        "versions": runs.collect::<Vec<_>>(),
    })
}

/// Ranges for people.
pub(crate) fn ranges_in_words(ranges: &Ranges) -> String {
    let words: Vec<String> =
        ranges.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") }).collect();
    words.join(", ")
}

/// The damaged places, a line each.
pub(crate) fn tell_damage(manifest: &Manifest, out: &mut Out) -> Result<(), Failure> {
    for damage in manifest.damage.iter().take(ROWS_SHOWN) {
        let kind = out.paint(BAD, &damage.kind.to_string()).into_owned();
        writeln!(out, "{kind}  {} offset {}, {}: {}", damage.segment, grouped(damage.offset), sized(damage.bytes), damage.why)?;
    }
    more(manifest.damage.len(), out)
}

fn more(all: usize, out: &mut Out) -> Result<(), Failure> {
    if let Some(rest @ 1..) = all.checked_sub(ROWS_SHOWN) {
        let rest = format!("... and {} more", grouped(rest as u64));
        let rest = out.paint(DIM, &rest).into_owned();
        writeln!(out, "{rest}")?;
    }
    Ok(())
}

fn tell(manifest: &Manifest, to: Option<&Path>, out: &mut Out) -> Result<(), Failure> {
    let totals = &manifest.totals;
    let verdict = match (manifest.is_whole(), totals.missing) {
        (true, _) => out.paint(GOOD, "nothing is missing").into_owned(),
        (false, 0) => out.paint(BAD, "not everything is there").into_owned(),
        (false, missing) => out.paint(BAD, &format!("{} missing", counted(missing, "record is", "records are"))).into_owned(),
    };
    match to {
        Some(to) => writeln!(out, "{verdict}; {} copied to {}", counted(totals.copied, "event", "events"), to.display())?,
        None => writeln!(out, "{verdict}; {} can be copied", counted(totals.copied, "event", "events"))?,
    }
    tell_damage(manifest, out)?;
    for stream in manifest.streams.iter().take(ROWS_SHOWN) {
        let name = stream.name.clone().unwrap_or_else(|| format!("(name lost) {}", stream.stream_id));
        let mut what = Vec::new();
        if !stream.missing.is_empty() {
            what.push(format!("versions missing: {}", ranges_in_words(&stream.missing)));
        }
        if !stream.left_out.is_empty() {
            what.push(format!("versions left out: {}", ranges_in_words(&stream.left_out)));
        }
        if stream.name.is_none() {
            what.extend(stream.new_name.as_ref().map(|name| format!("now called {name}")));
        }
        if what.is_empty() {
            what.push(format!("found up to version {}; more may be missing", stream.found.last().unwrap_or(0)));
        }
        writeln!(out, "stream {}: {}", name.escape_debug(), what.join("; "))?;
    }
    more(manifest.streams.len(), out)?;
    let mut rows = vec![("events found", grouped(totals.found)), ("copied", grouped(totals.copied))];
    if totals.left_out > 0 {
        rows.push(("left out", grouped(totals.left_out)));
    }
    if !manifest.end_known {
        rows.push(("the end", "is damaged: any stream may have gone on".into()));
    }
    if !manifest.missing_segments.is_empty() {
        rows.push(("missing segments", ranges_in_words(&manifest.missing_segments)));
    }
    for cut in manifest.cut.iter().filter(|cut| !cut.is_done) {
        let records = counted(cut.records, "intact record", "intact records");
        rows.push(("torn", format!("{} of {} with {records}, never acknowledged, not copied", sized(cut.bytes), cut.segment)));
    }
    if totals.link_unverified > 0 {
        rows.push(("links unverified", format!("{}: what they hang on is lost", grouped(totals.link_unverified))));
    }
    rows.push(("streams", format!("{}, {} of them listed", grouped(totals.streams), grouped(totals.streams_touched))));
    out.table(&rows)?;
    if let Some(to) = to {
        writeln!(out, "all of it, stream by stream: {}", to.join(MANIFEST_FILE).display())?;
    }
    Ok(())
}
