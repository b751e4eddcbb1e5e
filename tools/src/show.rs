//! `streams`, `cat`, `tail` and `info`: what is in the log, to look at.

use std::io::Write;
use std::path::Path;

use chainring::{EventRef, Grades, Store, Version};
use serde_json::{Value, json};

use crate::cli::{Cat, Streams, Tail};
use crate::export;
use crate::form::members::Members;
use crate::output::{Answer, DIM, Failure, Out, STRONG, grouped, sized};
use crate::{rawjson, time};

/// How much of an event's data one line of human output shows.
const DATA_CHARS_SHOWN: usize = 60;

/// Priority of a process that only looks on: the lowest.
const LOOKING_ON: i32 = 19;

/// `streams`: names and versions, in byte order of the names.
pub(crate) fn streams(path: &Path, args: &Streams, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let mut found = view.streams()?;
    found.retain(|(name, _)| name.starts_with(&args.prefix));
    found.sort_unstable();
    let width = found.iter().map(|(_, version)| grouped(version.0).len()).max().unwrap_or(0);
    for (name, version) in found {
        if out.json {
            writeln!(out, "{}", json!({ "stream": name, "version": version.0 }))?;
        } else {
            let version = format!("{:>width$}", grouped(version.0));
            let version = out.paint(DIM, &version).into_owned();
            writeln!(out, "{version}  {}", printable(name))?;
        }
    }
    out.flush()?;
    Ok(true)
}

/// `cat`: one stream, oldest or newest first.
pub(crate) fn cat(path: &Path, args: &Cat, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let Some(stream) = view.stream(&args.stream)? else {
        return Err(Failure::No(format!("there is no stream {:?}", args.stream)));
    };
    let limit = args.limit.unwrap_or(usize::MAX);
    if args.reverse {
        let from = args.from.unwrap_or(u64::MAX);
        let older = stream.backward().skip_while(|event| event.as_ref().is_ok_and(|event| event.version().0 > from));
        older.take(limit).try_for_each(|event| show(&event?, false, out))?;
    } else {
        stream.forward(Version(args.from.unwrap_or(1).max(1)))?.take(limit).try_for_each(|event| show(&event?, false, out))?;
    }
    out.flush()?;
    Ok(true)
}

/// `tail`: the last events of the whole log, oldest first.
pub(crate) fn tail(path: &Path, args: &Tail, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    view.last_events(args.count)?.iter().try_for_each(|event| show(event, true, out))?;
    out.flush()?;
    if args.follow {
        // Where every core is taken, the log's writer has more to do than who looks on. Where that is not to be had, it has as much.
        let _ = rustix::process::nice(LOOKING_ON);
        let mut events = store.follow(view.end());
        while let Some(batch) = events.next_batch() {
            for event in batch {
                show(&event?, true, out)?;
            }
            out.flush()?;
        }
        // It only ends because the store cannot be followed any more.
        store.refresh()?;
    }
    Ok(true)
}

/// One event: for programs the export form with its place in the log, for people one line of the most telling things.
pub(crate) fn show(event: &EventRef<'_>, with_stream: bool, out: &mut Out) -> Result<(), Failure> {
    let recorded = time::render(time::from_nanoseconds(event.recorded_at_ns()));
    if out.json {
        let mut line = Vec::new();
        let mut object = Members::open(&mut line);
        object.number("position", event.position().0);
        export::put(event, &mut object)?;
        object.text("recorded_at", &recorded);
        object.text("link", &event.link().to_string());
        object.close();
        line.push(b'\n');
        out.write_all(&line)?;
        return Ok(());
    }
    let metadata = event.metadata()?;
    let place = format!("{:>9}", event.position());
    let at = metadata.occurred_at.map_or(recorded, time::render);
    let (place, at, kind) = (out.paint(DIM, &place), out.paint(DIM, &at), out.paint(STRONG, &metadata.event_type));
    let stream = if with_stream { format!("{}  ", printable(event.stream()?)) } else { String::new() };
    let version = format!("v{}", event.version());
    let mut line = format!("{place}  {stream}{version:<6}  {at}  {kind}  {}", printable(metadata.actor.as_deref().unwrap_or("-")));
    if let Some(principal) = &metadata.on_behalf_of {
        line += &format!(" for {}", printable(principal));
    }
    line += "  ";
    line += &out.paint(DIM, &data_shown(event.body()));
    writeln!(out, "{line}")?;
    Ok(())
}

fn data_shown(body: Option<&[u8]>) -> String {
    let text = match body {
        None => return "(erased)".to_owned(),
        Some(bytes) => rawjson::valid_bytes(bytes).map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), rawjson::on_one_line),
    };
    let mut shown: String = printable(&text).chars().take(DATA_CHARS_SHOWN + 1).collect();
    if shown.chars().count() > DATA_CHARS_SHOWN {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// Text from the log as a terminal may see it: control characters cannot steer it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// How far the log is what, as `info` and `explain` have it: numbers of records, from the first one on, and since how long.
pub(crate) fn grade(grades: &Grades) -> Value {
    let dated = |graded: Option<(u64, u64)>| graded.map(|(size, at_ns)| json!({ "size": size, "age_seconds": age_seconds(at_ns) }));
    json!({
        "durable_to": grades.durable_to,
        "chained_to": grades.durable_to,
        "verified_to": dated(grades.verified_to),
        "sealed_to": dated(grades.sealed_to),
        "anchored_to": dated(grades.anchored_to),
    })
}

/// The same in words.
pub(crate) fn grade_rows(grades: &Grades) -> [(&'static str, String); 4] {
    let words = |(size, at_ns)| format!("the first {}, {:.0} s ago", grouped(size), age_seconds(at_ns));
    let dated = |graded: Option<(u64, u64)>| graded.map_or_else(|| "never".to_owned(), words);
    [
        ("durable and chained", format!("all {} records", grouped(grades.durable_to))),
        ("verified here", dated(grades.verified_to)),
        ("sealed", dated(grades.sealed_to)),
        ("anchored", dated(grades.anchored_to)),
    ]
}

fn age_seconds(at_ns: u64) -> f64 {
    time::to_nanoseconds(time::now()).saturating_sub(at_ns) as f64 / 1e9
}

/// `info`: numbers about the log.
pub(crate) fn info(path: &Path, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let (stats, report, grades) = (store.stats(), store.report(), store.grades()?);
    let bytes_per_event = if stats.events == 0 { 0.0 } else { stats.bytes as f64 / stats.events as f64 };
    if out.json {
        let object = json!({
            "segments": stats.segments,
            "packed_segments": stats.packed_segments,
            "events": stats.events,
            "streams": stats.streams,
            "bytes": stats.bytes,
            "bytes_per_event": bytes_per_event,
            "heads": stats.streams,
            "format_version": stats.format_version,
            "write_path": stats.write_path,
            "next_position": stats.records,
            "epoch": stats.epoch,
            "origin": stats.origin,
            "log_id": stats.log_id.to_string(),
            "watermark": report.watermark.position,
            "rollback_suspected": report.rollback.is_some(),
            "grade": grade(&grades),
        });
        writeln!(out, "{object}")?;
    } else {
        let segments = match stats.packed_segments {
            0 => grouped(stats.segments),
            packed => format!("{}, {} of them packed", grouped(stats.segments), grouped(packed)),
        };
        let mut rows = vec![
            ("events", grouped(stats.events)),
            ("streams", grouped(stats.streams)),
            ("segments", segments),
            ("bytes", format!("{} ({bytes_per_event:.1} an event)", sized(stats.bytes))),
            ("epoch", stats.epoch.to_string()),
            ("format", stats.format_version.to_string()),
            ("write path", stats.write_path.to_owned()),
            ("log id", stats.log_id.to_string()),
        ];
        rows.extend(grade_rows(&grades));
        if !stats.origin.is_empty() {
            rows.push(("origin", printable(&stats.origin)));
        }
        rows.extend(report.rollback.as_ref().map(|fault| ("warning", fault.to_string())));
        out.table(&rows)?;
    }
    out.flush()?;
    Ok(true)
}
