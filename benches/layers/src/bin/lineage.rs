//! What it costs to record decisions, and to ask what came of one.
//!
//! `lineage ask --dir DIR --events 10000000` fills a store in which every tenth event has a full record - four reads, an authority, a cause - and every
//! hundred thousand events one is read by a thousand others; then asks for the dependents of those. `lineage record --dir DIR` appends events with a full
//! record and bare ones of the same size, in turns, durable, and says how they compare. JSON to standard output.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chainring::{AuthorityRef, Durability, Event, EventId, Link, Log, Metadata, Options, Pending, ReadRef, Relation, Request, Store};
use clap::{Parser, Subcommand};
use serde_json::json;

const BATCH: u64 = 1000;
const BODY_BYTES: usize = 256;
/// Events between two that many depend on.
const HUB_EVERY: u64 = 100_000;
/// Events that depend on each of those.
const READERS: u64 = 1000;
const IN_FLIGHT: usize = 1024;

#[derive(Parser)]
#[command(about = "What it costs to record decisions, and to ask what came of one")]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Fill a store, and ask it for dependents
    Ask {
        /// Where the store is made, unless it is there
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value_t = 10_000_000)]
        events: u64,
    },
    /// Compare events with a full record to bare ones of the same size
    Record {
        /// Where stores are made; it must not be there
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value_t = 5)]
        rounds: u64,
        /// Only ways of appending whose names have this in them
        #[arg(long, default_value = "")]
        way: String,
    },
}

type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Cmd::Ask { dir, events } => ask(&dir, events),
        Cmd::Record { dir, rounds, way } => record(&dir, rounds, &way),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lineage: {error}");
            ExitCode::FAILURE
        }
    }
}

fn id(number: u64) -> EventId {
    let number = number + 1;
    EventId((u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64 | u128::from(number)).to_le_bytes())
}

/// A decision: what it read, what allowed it, what caused it.
fn decided(number: u64, hub: u64) -> Metadata {
    let read = |stream: String| ReadRef { stream, version: 1, state: Some(vec![7; 8]), ..ReadRef::default() };
    let catalog = (1..4).map(|n| read(format!("catalog-{:05}", number * n % 10_000)));
    let authority = AuthorityRef {
        stream: Some("$authority/refunds".into()),
        version: Some(3),
        link: Some(Link([5; 32])),
        rule: Some("goodwill".into()),
        ..AuthorityRef::default()
    };
    Metadata {
        actor: Some("agent-7".into()),
        causation: Some(id(number | 1 << 60)),
        reads: Some(std::iter::once(read(format!("policy-{hub:05}"))).chain(catalog).collect()),
        authority: vec![authority],
        ..Metadata::new("Refunded")
    }
}

/// One event of the history that is asked.
fn event(number: u64) -> Event {
    let hub = number / HUB_EVERY;
    let event = if number.is_multiple_of(HUB_EVERY) {
        Event::new(format!("policy-{hub:05}"), "PolicyPublished")
    } else if number.is_multiple_of(10) {
        // Of ten thousand, a thousand have read the newest; the others the one that nobody asks for.
        let is_reader = number.is_multiple_of(HUB_EVERY / READERS);
        Event::with_metadata(format!("order-{:06}", number % 100_000), decided(number, if is_reader { hub } else { 99_999 }))
    } else {
        Event::new(format!("order-{:06}", number % 100_000), "NoteAdded").actor("agent-7")
    };
    event.id(id(number)).body(vec![b'x'; BODY_BYTES])
}

fn fill(dir: &Path, events: u64) -> Done {
    let log = Options::new().open(dir)?;
    let mut pending: Option<Pending> = None;
    for first in (0..events).step_by(BATCH as usize) {
        let batch = (first..(first + BATCH).min(events)).map(event).collect();
        let next = log.submit(Request::batch(batch).durability(Durability::Written))?;
        pending.replace(next).map_or(Ok(()), |before| before.wait().map(drop))?;
    }
    pending.map_or(Ok(()), |last| last.wait().map(drop))?;
    log.close()?;
    Ok(())
}

fn ask(dir: &Path, events: u64) -> Done {
    let started = Instant::now();
    if !dir.exists() {
        fill(dir, events)?;
    }
    let filled_s = started.elapsed().as_secs_f64();
    let store = Store::open(dir)?;
    let view = store.latest();
    let hubs: Vec<u64> = (0..events / HUB_EVERY).collect();
    let mut passes = Vec::new();
    for _ in 0..3 {
        let mut took = Vec::new();
        for hub in &hubs {
            let started = Instant::now();
            let found = view.dependents(id(hub * HUB_EVERY), Relation::CausationAndReads)?.len() as u64;
            took.push(started.elapsed().as_secs_f64() * 1e3);
            // The hub's own event has no reader's number.
            assert_eq!(found, READERS - 1, "hub {hub}");
        }
        took.sort_by(f64::total_cmp);
        passes.push(json!({ "p50_ms": took[took.len() / 2], "max_ms": took[took.len() - 1] }));
    }
    println!(
        "{}",
        json!({ "events": store.stats().events, "filled_s": filled_s, "asked": hubs.len(), "dependents": READERS - 1, "passes": passes })
    );
    Ok(())
}

fn record(dir: &Path, rounds: u64, wanted: &str) -> Done {
    let extra = decided(1, 1).encode().len() - Metadata::new("Refunded").encode().len();
    let full = Maker {
        make: &|number| Event::with_metadata(format!("order-{:06}", number % 10_000), decided(number, 1)).body(vec![b'x'; BODY_BYTES]),
        change: &|event, number| {
            change(event, number, BODY_BYTES);
            event.metadata.causation = Some(id(number | 1 << 60));
            for (read, n) in event.metadata.reads.iter_mut().flatten().skip(1).zip(1..) {
                read.stream.clear();
                write!(read.stream, "catalog-{:05}", number * n % 10_000).expect("a text takes everything");
            }
        },
    };
    let bare = Maker {
        make: &|number| Event::new(format!("order-{:06}", number % 10_000), "Refunded").body(vec![b'x'; BODY_BYTES + extra]),
        change: &|event, number| change(event, number, BODY_BYTES + extra),
    };
    let mut ratios = serde_json::Map::new();
    let ways = [
        ("64 threads, each waiting", Way::Waiting { threads: 64 }, 200_000_u64),
        ("single, pipelined, made beforehand", Way::Pipelined { batch: 1, is_made_before: true }, 150_000),
        ("single, pipelined, made as they go", Way::Pipelined { batch: 1, is_made_before: false }, 500_000),
        ("batches of 1000, made beforehand", Way::Pipelined { batch: BATCH, is_made_before: true }, 400_000),
        ("batches of 1000, made as they go", Way::Pipelined { batch: BATCH, is_made_before: false }, 1_500_000),
        ("single, pipelined, lent from one event", Way::TakenIn { batch: 1 }, 500_000),
        ("batches of 1000, taken in from one event", Way::TakenIn { batch: BATCH }, 1_500_000),
    ];
    for (name, way, events) in ways.into_iter().filter(|(name, ..)| name.contains(wanted)) {
        let (mut rates, mut engines) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for round in 0..rounds {
            for (which, maker) in [full, bare].into_iter().enumerate() {
                let place = dir.join(format!("{round}-{which}"));
                let took = measure(&place, way, events, maker)?;
                rates[which].push(events as f64 / took.all_s);
                engines[which].push(events as f64 / (took.all_s - took.making_s));
                std::fs::remove_dir_all(&place)?;
            }
        }
        let middle = |mut rates: Vec<f64>| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        let ([full, bare], [full_engine, bare_engine]) = (rates.map(middle), engines.map(middle));
        ratios.insert(
            name.into(),
            json!({ "full_per_s": full, "bare_per_s": bare, "ratio": full / bare, "ratio_without_making": full_engine / bare_engine }),
        );
    }
    println!("{}", json!({ "record_bytes": extra, "durable": ratios }));
    Ok(())
}

/// How events come about.
#[derive(Clone, Copy)]
struct Maker<'a> {
    make: &'a (dyn Fn(u64) -> Event + Sync),
    /// Makes one into another, in the same memory.
    change: &'a dyn Fn(&mut Event, u64),
}

/// What every event has.
fn change(event: &mut Event, number: u64, body_bytes: usize) {
    event.stream.clear();
    write!(event.stream, "order-{:06}", number % 10_000).expect("a text takes everything");
    event.body.clear();
    event.body.resize(body_bytes, b'x');
}

/// How events are appended.
#[derive(Clone, Copy)]
enum Way {
    /// By threads that wait for each of theirs.
    Waiting { threads: u64 },
    /// By one thread that has many under way. If they are made beforehand, making them is not measured, and they are not in the cache any more.
    Pipelined { batch: u64, is_made_before: bool },
    /// By one thread that has many under way, and one event that it changes for the next one.
    TakenIn { batch: u64 },
}

/// How long it took until every event was durable, and how much of that the caller was busy making batches: where events are made one by one, that is not
/// measured, since asking for the time would take as long.
struct Took {
    all_s: f64,
    making_s: f64,
}

fn measure(dir: &Path, way: Way, events: u64, maker: Maker<'_>) -> Done<Took> {
    let log = Options::new().open(dir)?;
    let took = match way {
        Way::Waiting { threads } => Took { all_s: waiting(&log, threads, events, maker.make)?, making_s: 0.0 },
        Way::Pipelined { batch, is_made_before } => pipelined(&log, batch, events, maker.make, is_made_before)?,
        Way::TakenIn { batch } => Took { all_s: taken_in(&log, batch, events, maker)?, making_s: 0.0 },
    };
    log.close()?;
    Ok(took)
}

fn waiting(log: &Log, threads: u64, events: u64, make: &(dyn Fn(u64) -> Event + Sync)) -> Done<f64> {
    let started = Instant::now();
    std::thread::scope(|scope| {
        let append = |thread| move || (thread..events).step_by(threads as usize).try_for_each(|number| log.append(make(number)).map(drop));
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(append(thread))).collect();
        all.into_iter().try_for_each(|one| one.join().expect("it does not panic"))
    })?;
    Ok(started.elapsed().as_secs_f64())
}

fn pipelined(log: &Log, batch: u64, events: u64, make: &dyn Fn(u64) -> Event, is_made_before: bool) -> Done<Took> {
    let mut pending = std::collections::VecDeque::new();
    let request = |first| if batch == 1 { Request::event(make(first)) } else { Request::batch((first..first + batch).map(make).collect()) };
    let made = (0..events).step_by(batch as usize).map(request);
    let mut made: Box<dyn Iterator<Item = Request>> =
        if is_made_before { Box::new(made.collect::<Vec<_>>().into_iter()) } else { Box::new(made) };
    let (started, mut making) = (Instant::now(), Duration::ZERO);
    loop {
        let asked = (batch > 1).then(Instant::now);
        let Some(request) = made.next() else { break };
        making += asked.map_or(Duration::ZERO, |asked| asked.elapsed());
        pending.push_back(log.submit(request)?);
        if pending.len() >= if batch == 1 { IN_FLIGHT } else { 4 } {
            pending.pop_front().map_or(Ok(()), |first: Pending| first.wait().map(drop))?;
        }
    }
    for last in pending {
        last.wait()?;
    }
    Ok(Took { all_s: started.elapsed().as_secs_f64(), making_s: making.as_secs_f64() })
}

fn taken_in(log: &Log, batch: u64, events: u64, maker: Maker<'_>) -> Done<f64> {
    let mut pending = std::collections::VecDeque::new();
    let (started, mut event) = (Instant::now(), (maker.make)(0));
    for first in (0..events).step_by(batch as usize) {
        pending.push_back(if batch == 1 {
            (maker.change)(&mut event, first);
            log.submit(&event)?
        } else {
            let mut taken = log.write_batch();
            for number in first..first + batch {
                (maker.change)(&mut event, number);
                taken.push(&event)?;
            }
            log.submit(taken)?
        });
        if pending.len() >= if batch == 1 { IN_FLIGHT } else { 4 } {
            pending.pop_front().map_or(Ok(()), |first: Pending| first.wait().map(drop))?;
        }
    }
    for last in pending {
        last.wait()?;
    }
    Ok(started.elapsed().as_secs_f64())
}
