//! What it costs to open a log and to ask it, as it grows from a hundred thousand events to as many as the disk takes.
//!
//! `growth run --dir DIR --to 10000000` fills one store step by step - a hundred events a stream, 256 bytes of body, batches of a thousand - and at each step
//! closes it, opens it, asks it, kills a writer and opens it again. Every step is a process of its own, so nothing is warm in it that a user's process
//! would not have warm. JSON lines to standard output; `growth draw FILE --svg FILE` makes a table and a picture of them.

mod draw;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use chainring::{
    AsOf, Durability, Event, EventId, EventRef, Fold, Options, Position, ReadError, Request, Snapshots, Store, Timestamp, Version,
};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

const EVENTS_PER_STREAM: u64 = 100;
/// By the time that they claim.
const EVENTS_PER_SECOND: u64 = 10;
const BATCH: u64 = 1000;
const BODY_BYTES: usize = 256;
/// Streams and ids that are asked for.
const ASKED: usize = 250;
/// Between writing and asking.
const REST: Duration = Duration::from_secs(10);
/// Processes that open a store, one after the other; the middle of them counts.
const OPENS: usize = 5;
/// How often everything is asked before it is measured: once to bring it into memory, and once more to have it, after waiting for a device, in the
/// processor's cache, as far as that goes.
const ASKED_BEFORE: usize = 2;
/// More than a processor's cache holds.
const CACHE_BYTES: usize = 256 << 20;
/// Events behind the last segment that ended, when a writer is killed.
const LIVE_EVENTS: u64 = 100_000;

#[derive(Parser)]
#[command(about = "What it costs to open a log and to ask it, as it grows")]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Grow a store from 100,000 events on, tenfold at each step, and measure at each
    Run {
        /// Where the store is made; it must not be there
        #[arg(long)]
        dir: PathBuf,
        /// Events at the last step
        #[arg(long)]
        to: u64,
        /// Memory for heads of streams, in bytes
        #[arg(long)]
        heads_bytes_max: Option<u64>,
        /// Streams; one for every hundred events if not said
        #[arg(long)]
        streams: Option<u64>,
    },
    /// A table, to standard output, and a picture of what was measured
    Draw {
        /// What `run` wrote
        measured: PathBuf,
        /// Where the picture goes
        #[arg(long)]
        svg: PathBuf,
    },
    /// One step: append until there are so many events, and close, or be killed
    #[command(hide = true)]
    Fill {
        dir: PathBuf,
        to: u64,
        streams: u64,
        heads_bytes_max: u64,
        #[arg(long)]
        kill: bool,
    },
    /// One step: open
    #[command(hide = true)]
    Open { dir: PathBuf },
    /// One step: open and ask
    #[command(hide = true)]
    Ask { dir: PathBuf },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Cmd::Run { dir, to, heads_bytes_max, streams } => run(&dir, to, streams, heads_bytes_max.unwrap_or(256 << 20)),
        Cmd::Fill { dir, to, streams, heads_bytes_max, kill } => fill(&dir, to, streams, heads_bytes_max, kill),
        Cmd::Open { dir } => open(&dir),
        Cmd::Ask { dir } => ask(&dir),
        Cmd::Draw { measured, svg } => draw::draw(&measured, &svg),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("growth: {error}");
            ExitCode::FAILURE
        }
    }
}

type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn run(dir: &Path, to: u64, streams: Option<u64>, heads_bytes_max: u64) -> Done {
    let mut events = 100_000;
    while events <= to {
        let streams = streams.unwrap_or(events / EVENTS_PER_STREAM);
        let fill = |to: u64, kill: bool| {
            let mut args =
                vec!["fill".to_owned(), dir.display().to_string(), to.to_string(), streams.to_string(), heads_bytes_max.to_string()];
            args.extend(kill.then(|| "--kill".to_owned()));
            step(&args)
        };
        let ask = || {
            // What was written before is not to be on its way to the device any more, nor to what lies behind a device that others share.
            Command::new("sync").status()?;
            std::thread::sleep(REST);
            let step = |what: &str| step(&[what.to_owned(), dir.display().to_string()]);
            let mut opens = (0..OPENS).map(|_| step("open")).collect::<Done<Vec<_>>>()?;
            let ms = |opened: &Value| opened["open_ms"].as_f64().unwrap_or(f64::NAN);
            opens.sort_by(|a, b| ms(a).total_cmp(&ms(b)));
            let mut asked = step("ask")?;
            asked["open_ms"] = opens[OPENS / 2]["open_ms"].clone();
            Done::Ok(asked)
        };
        let filled = fill(events, false)?;
        let clean = ask()?;
        let killed = fill(events + LIVE_EVENTS, true)?;
        let crashed = ask()?;
        println!(
            "{}",
            json!({ "events": events, "streams": streams, "filled": filled, "clean": clean, "killed": killed, "crashed": crashed })
        );
        events *= 10;
    }
    Ok(())
}

/// Runs this program again with other arguments; what it says.
fn step(args: &[String]) -> Done<Value> {
    let output = Command::new(std::env::current_exe()?).args(args).stderr(Stdio::inherit()).output()?;
    let line = output.stdout.split(|&byte| byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    Ok(serde_json::from_slice(line)?)
}

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

fn name(stream: u64) -> String {
    format!("order-{stream:09}")
}

/// When the event with this number claims to have occurred: ten of them a second, not in order, within half a minute of each other.
fn occurred(random: &mut Random, number: u64) -> Timestamp {
    Timestamp { seconds: 1_700_000_000 + (number / EVENTS_PER_SECOND + random.below(30)) as i64, nanoseconds: 0 }
}

fn event(random: &mut Random, number: u64, streams: u64) -> Event {
    const TYPES: [&str; 4] = ["OrderPlaced", "OrderPaid", "OrderShipped", "NoteAdded"];
    let occurred = occurred(random, number);
    let number = random.next();
    let mut body = format!("{{\"id\":\"{number:016x}\",\"note\":\"").into_bytes();
    body.resize(BODY_BYTES - 2, b'a' + (number % 26) as u8);
    body.extend_from_slice(b"\"}");
    Event::new(name(random.below(streams)), TYPES[(number % 4) as usize])
        .actor(format!("agent-{}", number % 50))
        .occurred_at(occurred)
        .body(body)
}

fn fill(dir: &Path, to: u64, streams: u64, heads_bytes_max: u64, kill: bool) -> Done {
    let opening = Instant::now();
    let log = Options::new().heads_bytes_max(heads_bytes_max).open(dir)?;
    let open_ms = milliseconds(opening);
    let from = log.stats().events;
    let mut random = Random(from);
    let (start, mut done, mut longest) = (Instant::now(), from, 0.0_f64);
    while done < to {
        let count = BATCH.min(to - done);
        let events = (0..count).map(|at| event(&mut random, done + at, streams)).collect();
        let asked = Instant::now();
        log.append(Request::batch(events).durability(Durability::Written))?;
        longest = longest.max(milliseconds(asked));
        done += count;
    }
    log.sync()?;
    let seconds = start.elapsed().as_secs_f64();
    let indexing = Instant::now();
    if !kill {
        // A log that stays open merges the runs of its index when nobody appends at full speed any more.
        while log.tick() == Some(Duration::ZERO) {}
    }
    let index_behind_ms = milliseconds(indexing);
    let closing = Instant::now();
    if !kill {
        log.close()?;
    }
    let close_ms = milliseconds(closing);
    println!(
        "{}",
        json!({
            "open_ms": open_ms,
            "appended": to.saturating_sub(from),
            "seconds": seconds,
            "longest_append_ms": longest,
            "index_behind_ms": index_behind_ms,
            "close_ms": close_ms,
            "peak_memory_bytes": status_bytes("VmHWM:"),
            "anonymous_memory_bytes": status_bytes("RssAnon:"),
        })
    );
    // Killed: nothing is closed, and nothing is dropped.
    std::process::exit(0);
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// A line of what the kernel says of this process, in bytes.
fn status_bytes(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    found.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn open(dir: &Path) -> Done {
    let opening = Instant::now();
    let store = Store::open(dir)?;
    println!("{}", json!({ "open_ms": milliseconds(opening), "events": store.stats().events }));
    Ok(())
}

fn ask(dir: &Path) -> Done {
    let store = Store::open(dir)?;
    let stats = store.stats();
    let mut random = Random(stats.events);
    // The first stream after opening.
    let first = Instant::now();
    read(&store, &name(random.below(1000)))?;
    let first_stream_us = milliseconds(first) * 1e3;
    let streams: Vec<String> = (0..ASKED).map(|_| name(random.below(stats.streams))).collect();
    let stream_us = warm(&streams, |stream| read(&store, stream).map(drop))?;
    let events = streams.iter().map(|stream| read(&store, stream)).sum::<Done<u64>>()?;
    let view = store.latest();
    let ids = (0..ASKED).map(|_| Ok(view.event(Position(1 + random.below(stats.events)))?.event_id()));
    let ids: Vec<EventId> = ids.collect::<Done<_>>()?;
    let locate = |id: &EventId| {
        black_box(store.locate(*id)?);
        Ok(())
    };
    let locate_us = warm(&ids, locate)?;
    let absent = |_| EventId((u128::from(random.next()) << 64 | u128::from(random.next())).to_le_bytes());
    let absent_us = warm(&(0..ASKED).map(absent).collect::<Vec<_>>(), locate)?;
    let (from, to) = (view.event(Position(1))?.recorded_at_ns(), view.event(Position(stats.events))?.recorded_at_ns());
    let instants: Vec<u64> = (0..ASKED).map(|_| from + random.below(to - from + 1)).collect();
    let instant_us = warm(&instants, |instant| {
        black_box(store.at(AsOf::RecordedAt(*instant))?);
        Ok(())
    })?;
    let snapshots = Snapshots::open(dir.join("snapshots"))?;
    let states: Vec<(&String, u64)> = streams.iter().map(|stream| (stream, from + random.below(to - from + 1))).collect();
    let state_us = warm(&states, |&(stream, instant)| {
        black_box(store.at(AsOf::RecordedAt(instant))?.state(stream, &Written, &snapshots)?);
        Ok(())
    })?;
    let seconds: Vec<Timestamp> = (0..ASKED).map(|_| occurred(&mut Random(0), random.below(stats.events))).collect();
    let occurred_us = warm(&seconds, |&second| {
        for event in view.events_occurred(second..=second) {
            black_box(event?.body());
        }
        Ok(())
    })?;
    println!(
        "{}",
        json!({
            "opened": format!("{:?}", store.report().opened),
            "events": stats.events,
            "bytes": stats.bytes,
            "segments": stats.segments,
            "index_bytes": index_bytes(dir)?,
            "first_stream_us": first_stream_us,
            "events_per_stream": events as f64 / ASKED as f64,
            "stream_us": stream_us,
            "locate_us": locate_us,
            "locate_absent_us": absent_us,
            "as_of_instant_us": instant_us,
            "state_as_of_instant_us": state_us,
            "occurred_in_a_second_us": occurred_us,
            "peak_memory_bytes": status_bytes("VmHWM:"),
            "anonymous_memory_bytes": status_bytes("RssAnon:"),
        })
    );
    Ok(())
}

fn index_bytes(dir: &Path) -> Done<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "idx") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// How many events a stream has, and how many bytes are in them.
struct Written;

impl Fold for Written {
    type State = (u64, u64);
    const ID: &'static str = "written";
    const VERSION: u32 = 1;

    fn begin(&self) -> (u64, u64) {
        (0, 0)
    }

    fn apply(&self, (events, bytes): &mut (u64, u64), event: &EventRef<'_>) -> Result<(), ReadError> {
        *events += 1;
        *bytes += event.body().map_or(0, |body| body.len() as u64);
        Ok(())
    }

    fn encode(&self, (events, bytes): &(u64, u64)) -> Vec<u8> {
        [events.to_le_bytes(), bytes.to_le_bytes()].concat()
    }

    fn decode(&self, bytes: &[u8]) -> Option<(u64, u64)> {
        let (events, bytes) = bytes.split_first_chunk()?;
        Some((u64::from_le_bytes(*events), u64::from_le_bytes(bytes.try_into().ok()?)))
    }
}

/// Reads a stream from its beginning; how many events it has.
fn read(store: &Store, stream: &str) -> Done<u64> {
    let view = store.latest();
    let Some(stream) = view.stream(stream)? else { return Ok(0) };
    let mut count = 0;
    for event in stream.forward(Version(1))? {
        black_box(event?.body());
        count += 1;
    }
    Ok(count)
}

/// The time of each question in microseconds: the middle and the slow end, of questions that were asked before. `uncached`: the same with nothing in the
/// processor's cache when the first is asked.
fn warm<T>(questions: &[T], ask: impl Fn(&T) -> Done) -> Done<Value> {
    for _ in 0..ASKED_BEFORE {
        questions.iter().try_for_each(&ask)?;
    }
    let mut cached = percentiles(questions.iter().map(&ask))?;
    black_box(vec![1_u8; CACHE_BYTES]);
    cached["uncached"] = percentiles(questions.iter().map(&ask))?;
    Ok(cached)
}

/// The time of each, in microseconds: the middle and the slow end.
fn percentiles(mut tasks: impl Iterator<Item = Done>) -> Done<Value> {
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        let Some(done) = tasks.next() else { break };
        done?;
        times.push(milliseconds(start) * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(json!({ "p50": times[times.len() / 2], "p99": times[times.len() * 99 / 100] }))
}
