//! What was measured, for people, for programs and for the picture. `tools/README.md` explains every member.

use std::io::{self, Write};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Ground;
use super::drive::{Run, Sample};
use super::picture::{Chart, Curve, Line, Lines, Picture};
use super::verify::Passes;
use super::workload::Shape;
use crate::cli::{Bench, Level, Subject};
use crate::output::{DIM, Failure, Out, STRONG, counted, grouped, sized};

const SUMMED: &str = "sum over the same files, mapped; no frame is found, no checksum computed";
const HASHED_ONE_BY_ONE: &str = "the same by the plain functions, one event after the other";
const HASHED: &str = "the same hashes over the same bodies and metadata in a loop; no file, no chain, no rules";

/// Everything there is to tell.
pub(super) struct Report {
    pub(super) json: Value,
    pub(super) title: String,
    /// Machine, storage, place.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) columns: Columns,
    pub(super) notes: Vec<(&'static str, String)>,
    pub(super) picture: Picture,
}

/// The engine beside the baseline.
#[derive(Default)]
pub(super) struct Columns {
    rows: Vec<[String; 4]>,
}

impl Columns {
    /// A row of the engine's alone.
    pub(super) fn engine(&mut self, name: &str, value: impl Into<String>) {
        self.rows.push([name.into(), value.into(), String::new(), String::new()]);
    }

    /// A row of both, with the engine's part of the baseline.
    pub(super) fn both(&mut self, name: &str, engine: f64, raw: Option<f64>, shown: impl Fn(f64) -> String) {
        let compared = raw.map_or_else(String::new, |raw| format!("{:.2}", engine / raw));
        self.rows.push([name.into(), shown(engine), raw.map_or_else(String::new, shown), compared]);
    }
}

/// A run of the engine.
pub(super) struct Appending {
    pub(super) run: Run,
    pub(super) disk_bytes_per_event: f64,
    pub(super) memory_peak_bytes: Option<u64>,
    pub(super) segments_rotated: u64,
}

/// Two runs of the baseline.
pub(super) struct Raw {
    how: &'static str,
    /// Events per second, before and after the engine.
    runs: [f64; 2],
    better: Run,
}

impl Raw {
    pub(super) fn better(how: &'static str, before: Run, after: Run) -> Raw {
        let runs = [before.events_per_second(), after.events_per_second()];
        let better = if runs[1] > runs[0] { after } else { before };
        Raw { how, runs, better }
    }
}

/// A quantile of latencies, in us.
fn quantile_us(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e3
}

pub(super) fn latency_json(latency: &Histogram<u64>) -> Value {
    json!({
        "count": latency.len(),
        "mean": latency.mean() / 1e3,
        "p50": quantile_us(latency, 0.5),
        "p90": quantile_us(latency, 0.9),
        "p99": quantile_us(latency, 0.99),
        "p99_9": quantile_us(latency, 0.999),
        "p99_99": quantile_us(latency, 0.9999),
        "max": latency.max() as f64 / 1e3,
    })
}

/// Latencies at the percentiles that are drawn, in us; as far as there were enough measurements to say.
pub(super) fn curve(name: &'static str, latency: &Histogram<u64>) -> Curve {
    const POINTS: u32 = 160;
    const NINES_MAX: f64 = 4.0;
    let known = (latency.len().max(1) as f64).log10().min(NINES_MAX);
    let nines = (0..=POINTS).map(|point| NINES_MAX * f64::from(point) / f64::from(POINTS)).filter(|nines| *nines <= known);
    Curve { name, points: nines.map(|nines| (nines, quantile_us(latency, 1.0 - 10_f64.powf(-nines)).max(0.01))).collect() }
}

fn timeline_json(timeline: &[Sample]) -> Value {
    timeline.iter().map(|sample| json!([sample.at_seconds, sample.per_second])).collect()
}

fn line(name: &'static str, timeline: &[Sample]) -> Line {
    Line { name, points: timeline.iter().map(|sample| (sample.at_seconds, sample.per_second)).collect() }
}

fn run_json(run: &Run, shape: &Shape) -> Value {
    let per_event = |number: f64| number / run.events.max(1) as f64;
    json!({
        "events": run.events,
        "seconds": run.seconds,
        "events_per_second": run.events_per_second(),
        "payload_bytes_per_second": run.events_per_second() * shape.payload_bytes as f64,
        "latency_us": latency_json(&run.latency),
        "longest_append_us": run.latency.max() as f64 / 1e3,
        "longest_gap_us": run.longest_gap_ns as f64 / 1e3,
        "cpu_us_per_event": per_event(run.usage.cpu_ns as f64 / 1e3),
        "written_bytes_per_event": run.usage.written_bytes.map(|bytes| per_event(bytes as f64)),
    })
}

/// The options that shaped the run.
pub(super) fn workload_json(args: &Bench, threads: usize) -> Value {
    json!({
        "threads": threads,
        "in_flight": args.in_flight,
        "payload_bytes": args.payload,
        "streams": args.streams,
        "zipf": args.zipf,
        "batch": args.batch,
        "durability": if args.durability == Level::Durable { "durable" } else { "written" },
        "seconds": args.seconds,
        "events": if args.subject == Subject::Ingest { None } else { Some(args.events) },
    })
}

/// What every report begins with.
pub(super) fn head_json(args: &Bench, threads: usize, ground: &Ground, write_path: &str) -> Value {
    let mut host = ground.host.json();
    host["write_path"] = write_path.into();
    json!({
        "bench": match args.subject {
            Subject::Ingest => "ingest",
            Subject::Read => "read",
            Subject::Verify => "verify",
        },
        "version": env!("CARGO_PKG_VERSION"),
        "is_release_build": !cfg!(debug_assertions),
        "host": host,
        "workload": workload_json(args, threads),
    })
}

pub(super) fn facts(ground: &Ground, write_path: &str) -> Vec<(&'static str, String)> {
    vec![
        ("machine", ground.host.machine()),
        ("storage", ground.host.storage()),
        ("directory", ground.place.path().display().to_string()),
        ("write path", write_path.to_owned()),
    ]
}

/// How streams are chosen, in words.
pub(super) fn spread(args: &Bench) -> String {
    let streams = counted(args.streams, "stream", "streams");
    if args.zipf == 0.0 { streams } else { format!("{streams} (Zipf {})", args.zipf) }
}

/// A time in us, for people.
pub(super) fn time_us(us: f64) -> String {
    match us {
        us if us < 9.995 => format!("{us:.2} us"),
        us if us < 99.95 => format!("{us:.1} us"),
        us if us < 9_999.5 => format!("{} us", grouped(us.round() as u64)),
        us if us < 99_950.0 => format!("{:.1} ms", us / 1e3),
        us if us < 9_999_500.0 => format!("{} ms", grouped((us / 1e3).round() as u64)),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// A rate or a number of bytes, for people.
pub(super) fn amount(number: f64) -> String {
    if number < 99.95 { format!("{number:.1}") } else { grouped(number.round() as u64) }
}

/// A rate in three digits.
pub(super) fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        n if n >= 999.5e6 => (n / 1e9, " G"),
        n if n >= 999.5e3 => (n / 1e6, " M"),
        n if n >= 999.5 => (n / 1e3, " k"),
        n => (n, ""),
    };
    let decimals = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
    format!("{scaled:.decimals$}{unit}")
}

/// Bytes per second, in MB or GB.
pub(super) fn bytes_per_second(number: f64) -> String {
    if number < 999.5e6 { format!("{} MB/s", amount(number / 1e6)) } else { format!("{:.2} GB/s", number / 1e9) }
}

impl Report {
    /// Of `ingest`.
    pub(super) fn ingest(
        args: &Bench,
        shape: &Shape,
        ground: &Ground,
        write_path: &'static str,
        generator_ns: f64,
        engine: &Appending,
        raw: Option<&Raw>,
    ) -> Report {
        let run = &engine.run;
        let better = raw.map(|raw| &raw.better);
        let quantile_ratio =
            |quantile| better.map(|raw| quantile_us(&run.latency, quantile) / quantile_us(&raw.latency, quantile).max(0.001));
        let rate_ratio = better.map(|raw| run.events_per_second() / raw.events_per_second());

        let mut json = head_json(args, shape.threads, ground, write_path);
        json["engine"] = run_json(run, shape);
        json["engine"]["disk_bytes_per_event"] = engine.disk_bytes_per_event.into();
        json["engine"]["memory_peak_bytes"] = engine.memory_peak_bytes.into();
        json["engine"]["segments_rotated"] = engine.segments_rotated.into();
        json["generator_ns_per_event"] = generator_ns.into();
        json["raw"] = raw.map_or(Value::Null, |raw| {
            let mut object = run_json(&raw.better, shape);
            object["how"] = raw.how.into();
            object["runs_events_per_second"] = raw.runs.to_vec().into();
            object
        });
        json["ratio"] = rate_ratio.map_or(
            Value::Null,
            |rate| json!({ "events_per_second": rate, "latency_p50": quantile_ratio(0.5), "latency_p99": quantile_ratio(0.99) }),
        );
        json["timeline"] = json!({
            "engine": timeline_json(&run.timeline),
            "raw": better.map(|raw| timeline_json(&raw.timeline)),
        });

        let title = ingest_title(args, shape);
        let notes = notes(generator_ns, raw);
        let picture = ingest_picture(&title, ground, write_path, run, raw, rate_ratio);
        Report { json, title, facts: facts(ground, write_path), columns: ingest_columns(shape, engine, better), notes, picture }
    }
}

/// Two runs over a full store, and what reading the bytes at all costs.
pub(super) struct Reading {
    /// Of everything.
    pub(super) scanned: Run,
    /// Of single streams; its events are streams.
    pub(super) streams: Run,
    /// Of the bytes in memory; its events are bytes.
    pub(super) summed: Option<Run>,
    pub(super) bytes_per_event: f64,
    pub(super) events_per_stream: f64,
    pub(super) events: u64,
}

/// The same hashes in a bare loop.
pub(super) struct Hashed {
    /// Many events at a time, as the engine does it.
    pub(super) together: Passes,
    /// By the plain functions.
    pub(super) one_by_one: Passes,
}

/// Passes over a full store, by the verifier and by a bare loop over the same hashes.
pub(super) struct Verifying {
    pub(super) verified: Passes,
    pub(super) hashed: Option<Hashed>,
    pub(super) bytes: u64,
    pub(super) events: u64,
}

impl Report {
    /// Of `read`.
    pub(super) fn read(args: &Bench, shape: &Shape, ground: &Ground, write_path: &'static str, reading: &Reading) -> Report {
        let Reading { scanned, streams, .. } = reading;
        let scan_bytes = scanned.events_per_second() * reading.bytes_per_event;
        let summed = reading.summed.as_ref().map(Run::events_per_second);
        let ratio = summed.map(|summed| scan_bytes / summed);
        let mut json = head_json(args, shape.threads, ground, write_path);
        json["engine"] = json!({
            "events": reading.events,
            "events_per_second": scanned.events_per_second(),
            "bytes_per_second": scan_bytes,
            "disk_bytes_per_event": reading.bytes_per_event,
            "cpu_us_per_event": scanned.usage.cpu_ns as f64 / 1e3 / scanned.events.max(1) as f64,
            "stream_reads_per_second": streams.events_per_second(),
            "stream_events": reading.events_per_stream,
            "latency_us": latency_json(&streams.latency),
        });
        json["raw"] = json!(summed.map(|summed| json!({ "how": SUMMED, "bytes_per_second": summed })));
        json["ratio"] = json!(ratio.map(|ratio| json!({ "bytes_per_second": ratio })));
        json["timeline"] = json!({ "engine": timeline_json(&scanned.timeline), "raw": null });

        let title = format!(
            "read: {} of {} in {}, {}",
            counted(reading.events, "event", "events"),
            sized(args.payload),
            spread(args),
            counted(shape.threads as u64, "thread", "threads")
        );
        let mut columns = Columns::default();
        columns.engine("scan events/s", amount(scanned.events_per_second()));
        columns.both("scan", scan_bytes, summed, bytes_per_second);
        columns.engine("stream reads/s", amount(streams.events_per_second()));
        columns.engine("events/stream", amount(reading.events_per_stream));
        for (name, quantile) in [("stream p50", 0.5), ("stream p99", 0.99), ("stream p99.9", 0.999)] {
            columns.engine(name, time_us(quantile_us(&streams.latency, quantile)));
        }
        let mut tiles = vec![
            (short(scanned.events_per_second()), "events/s scanned".to_owned()),
            (bytes_per_second(scan_bytes), "of segments scanned".to_owned()),
            (time_us(quantile_us(&streams.latency, 0.5)), format!("to read a stream of {:.0} (p50)", reading.events_per_stream)),
        ];
        tiles.extend(ratio.map(|ratio| (format!("{ratio:.2} x"), "of a plain sum's rate".to_owned())));
        let picture = Picture {
            title: title.clone(),
            tiles,
            left: Lines { title: "Events scanned per second over time".into(), lines: vec![line("Chainring", &scanned.timeline)] },
            right: Chart::Latency { title: "Latency of reading a stream".into(), curves: vec![curve("Chainring", &streams.latency)] },
            footer: picture_footer(ground, write_path),
        };
        let notes = if summed.is_some() { vec![("raw", SUMMED.to_owned())] } else { Vec::new() };
        Report { json, title, facts: facts(ground, write_path), columns, notes, picture }
    }

    /// Of `verify`.
    pub(super) fn verify(args: &Bench, shape: &Shape, ground: &Ground, write_path: &'static str, verifying: &Verifying) -> Report {
        let Verifying { verified, hashed, .. } = verifying;
        let rate = verified.events_per_second();
        let bytes_rate = rate * verifying.bytes as f64 / verifying.events.max(1) as f64;
        let together = hashed.as_ref().map(|hashed| &hashed.together);
        let one_by_one = hashed.as_ref().map(|hashed| &hashed.one_by_one);
        let hashed_rate = together.map(Passes::events_per_second);
        let ratio = hashed_rate.map(|hashed| rate / hashed);
        let plain_ratio = one_by_one.map(|plain| rate / plain.events_per_second());
        let cpu_us = |passes: &Passes| passes.usage.cpu_ns as f64 / 1e3 / passes.events.max(1) as f64;
        let mut json = head_json(args, shape.threads, ground, write_path);
        json["engine"] = json!({
            "events": verified.events,
            "seconds": verified.seconds,
            "events_per_second": rate,
            "bytes_per_second": bytes_rate,
            "disk_bytes_per_event": verifying.bytes as f64 / verifying.events.max(1) as f64,
            "cpu_us_per_event": cpu_us(verified),
        });
        let passes_json = |how, passes: &Passes| {
            let (rate, cpu_us) = (passes.events_per_second(), cpu_us(passes));
            json!({ "how": how, "events_per_second": rate, "cpu_us_per_event": cpu_us })
        };
        json["raw"] = json!(together.map(|passes| passes_json(HASHED, passes)));
        json["one_by_one"] = json!(one_by_one.map(|passes| passes_json(HASHED_ONE_BY_ONE, passes)));
        json["ratio"] = json!(ratio.map(|ratio| json!({ "events_per_second": ratio, "one_by_one": plain_ratio })));
        let timelines = [Some(verified), together].map(|passes| passes.map(|passes| timeline_json(&passes.timeline)));
        json["timeline"] = json!({ "engine": timelines[0], "raw": timelines[1] });

        let title = format!(
            "verify: {} of {} in {}, {}",
            counted(verifying.events, "event", "events"),
            sized(args.payload),
            spread(args),
            counted(shape.threads as u64, "thread", "threads")
        );
        let mut columns = Columns::default();
        columns.both("events/s", rate, hashed_rate, amount);
        columns.engine("of segments", bytes_per_second(bytes_rate));
        columns.both("CPU/event", cpu_us(verified), together.map(cpu_us), time_us);
        let mut tiles =
            vec![(short(rate), "events/s verified".to_owned()), (bytes_per_second(bytes_rate), "of segments verified".to_owned())];
        tiles.extend(ratio.map(|ratio| (format!("{ratio:.2} x"), "of the bare hashes' rate".to_owned())));
        let mut lines = vec![line("Chainring", &verified.timeline)];
        let mut bars = vec![("Chainring", rate, format!("{}/s", short(rate)))];
        for (name, passes) in [("bare hashes", together), ("one by one", one_by_one)] {
            if let Some(passes) = passes {
                lines.push(line(name, &passes.timeline));
                let rate = passes.events_per_second();
                bars.push((name, rate, format!("{}/s", short(rate))));
            }
        }
        let picture = Picture {
            title: title.clone(),
            tiles,
            left: Lines { title: "Events verified per second, pass by pass".into(), lines },
            right: Chart::Bars { title: "Events per second".into(), bars },
            footer: picture_footer(ground, write_path),
        };
        let mut notes = Vec::new();
        if let (Some(plain), Some(ratio)) = (one_by_one, plain_ratio) {
            notes.push(("raw", HASHED.to_owned()));
            let rate = short(plain.events_per_second());
            notes.push(("one by one", format!("{HASHED_ONE_BY_ONE}: {rate} events/s, of which verifying is {ratio:.2} times")));
        }
        Report { json, title, facts: facts(ground, write_path), columns, notes, picture }
    }
}

fn ingest_title(args: &Bench, shape: &Shape) -> String {
    let requests = match shape.batch {
        1 => format!("events of {}", sized(args.payload)),
        batch => format!("batches of {} x {}", grouped(batch as u64), sized(args.payload)),
    };
    let waiting = match shape.in_flight {
        1 => "each waited for".to_owned(),
        in_flight => format!("{} in flight", grouped(in_flight as u64)),
    };
    let level = if shape.is_durable { "durable" } else { "written" };
    let threads = counted(shape.threads as u64, "thread", "threads");
    format!("ingest, {level}: {requests}, {threads}, {waiting}, {}", spread(args))
}

fn ingest_columns(shape: &Shape, engine: &Appending, raw: Option<&Run>) -> Columns {
    let run = &engine.run;
    let mut columns = Columns::default();
    let mut both = |name: &str, of: &dyn Fn(&Run) -> f64, shown: &dyn Fn(f64) -> String| columns.both(name, of(run), raw.map(of), shown);
    both("events/s", &Run::events_per_second, &amount);
    both("payload", &|run| run.events_per_second() * shape.payload_bytes as f64, &bytes_per_second);
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("longest append", 1.0)] {
        both(name, &|run| quantile_us(&run.latency, quantile), &time_us);
    }
    both("longest gap", &|run| run.longest_gap_ns as f64 / 1e3, &time_us);
    both("CPU/event", &|run| run.usage.cpu_ns as f64 / 1e3 / run.events.max(1) as f64, &time_us);
    both("written/event", &|run| run.usage.written_bytes.unwrap_or(0) as f64 / run.events.max(1) as f64, &|bytes| amount(bytes) + " B");
    columns.engine("on disk/event", amount(engine.disk_bytes_per_event) + " B");
    columns.engine("memory peak", engine.memory_peak_bytes.map_or_else(|| "unknown".to_owned(), sized));
    columns.engine("segments rotated", grouped(engine.segments_rotated));
    columns
}

fn notes(generator_ns: f64, raw: Option<&Raw>) -> Vec<(&'static str, String)> {
    let mut notes = vec![("generator", format!("{generator_ns:.0} ns an event, measured alone"))];
    if let Some(raw) = raw {
        let [before, after] = raw.runs.map(amount);
        notes.push(("raw", format!("{}; the better of two runs, {before} events/s before and {after} after the engine", raw.how)));
    }
    notes
}

fn ingest_picture(title: &str, ground: &Ground, write_path: &str, run: &Run, raw: Option<&Raw>, rate_ratio: Option<f64>) -> Picture {
    let mut tiles = vec![
        (short(run.events_per_second()), "events/s".to_owned()),
        (time_us(quantile_us(&run.latency, 0.5)), "p50 latency".to_owned()),
        (time_us(quantile_us(&run.latency, 0.99)), "p99 latency".to_owned()),
        (time_us(run.latency.max() as f64 / 1e3), "longest append".to_owned()),
    ];
    tiles.extend(rate_ratio.map(|ratio| (format!("{ratio:.2} x"), "of the raw baseline's rate".to_owned())));
    let mut lines = vec![line("Chainring", &run.timeline)];
    let mut curves = vec![curve("Chainring", &run.latency)];
    let mut footer = picture_footer(ground, write_path);
    if let Some(raw) = raw {
        lines.push(line("raw", &raw.better.timeline));
        curves.push(curve("raw", &raw.better.latency));
        footer.push(format!("raw: {}", raw.how));
    }
    Picture {
        title: title.to_owned(),
        tiles,
        left: Lines { title: "Events per second over time".into(), lines },
        right: Chart::Latency { title: "Latency of an append".into(), curves },
        footer,
    }
}

/// Facts about the machine, below a picture.
pub(super) fn picture_footer(ground: &Ground, write_path: &str) -> Vec<String> {
    let build = if cfg!(debug_assertions) { ", DEBUG BUILD" } else { "" };
    vec![
        format!("{}; Chainring {}, write path {write_path}{build}", ground.host.machine(), env!("CARGO_PKG_VERSION")),
        ground.host.storage(),
    ]
}

/// Prints it.
pub(super) fn tell(report: &Report, out: &mut Out) -> Result<(), Failure> {
    if out.json {
        writeln!(out, "{}", report.json)?;
    } else {
        out.table(&report.facts)?;
        let title = out.paint(STRONG, &report.title).into_owned();
        writeln!(out, "\n{title}")?;
        print_columns(&report.columns, out)?;
        writeln!(out)?;
        out.table(&report.notes)?;
    }
    out.flush()?;
    Ok(())
}

fn print_columns(columns: &Columns, out: &mut Out) -> io::Result<()> {
    let head = ["", "engine", "raw", "ratio"].map(str::to_owned);
    let is_compared = columns.rows.iter().any(|row| !row[2].is_empty());
    let shown = if is_compared { 4 } else { 2 };
    let rows: Vec<&[String; 4]> = std::iter::once(&head).chain(&columns.rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..shown).map(width).collect();
    for (number, row) in rows.into_iter().enumerate() {
        let name = format!("{:<width$}", row[0], width = widths[0]);
        let name = out.paint(DIM, &name).into_owned();
        let values: Vec<String> = (1..shown).map(|column| format!("{:>width$}", row[column], width = widths[column])).collect();
        let values = values.join("   ");
        let values = values.trim_end();
        let values = if number == 0 { out.paint(DIM, values).into_owned() } else { values.to_owned() };
        writeln!(out, "{name}   {values}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        let times = [0.123, 9.996, 151.4, 1530.0, 12_345.0, 250_000.0, 12e6].map(time_us);
        assert_eq!(times, ["0.12 us", "10.0 us", "151 us", "1,530 us", "12.3 ms", "250 ms", "12.0 s"]);
        assert_eq!([0.0, 12.34, 1234.5].map(amount), ["0.0", "12.3", "1,235"]);
        assert_eq!([5.0, 612.0, 6123.0, 1_020_000.0, 3.3e9].map(short), ["5.00", "612", "6.12 k", "1.02 M", "3.30 G"]);
        assert_eq!([1.6e6, 1.5e9].map(bytes_per_second), ["1.6 MB/s", "1.50 GB/s"]);
    }

    /// Nothing is drawn beyond what so many measurements can say.
    #[test]
    fn curves_end_where_knowledge_does() {
        let mut latency = super::super::drive::latencies();
        (1..=1000).for_each(|us| latency.saturating_record(us * 1000));
        let drawn = curve("x", &latency);
        let last = drawn.points.last().copied().unwrap_or_default();
        assert!((2.9..=3.0).contains(&last.0) && (990.0..=1001.0).contains(&last.1), "{last:?}");
        assert!(drawn.points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    }
}
