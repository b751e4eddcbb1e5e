//! What sealing costs those who append, and how long a checkpoint and a receipt take.
//!
//! `sealing ingest --dir DIR` appends durable events with and without a sealer that seals every second, in turns. `sealing proofs --dir DIR --events N`
//! fills a store, takes a checkpoint over everything, one over a million new events, and receipts and bundles of events all over it. JSON to standard
//! output.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chainring::{Durability, Event, KeyFile, Log, Options, Pending, Position, Request};
use clap::{Parser, Subcommand};
use serde_json::json;

const BATCH: u64 = 1000;
const BODY_BYTES: usize = 256;
const STREAMS: u64 = 10_000;
const IN_FLIGHT: usize = 1024;
/// Events between the first checkpoint and the second.
const NEWS: u64 = 1_000_000;
const RECEIPTS: u64 = 1000;

#[derive(Parser)]
#[command(about = "What sealing costs, and how long checkpoints and receipts take")]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Compare durable appends with and without sealing every second
    Ingest {
        /// Where stores are made; it must not be there
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value_t = 4)]
        rounds: u64,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Time checkpoints and receipts
    Proofs {
        /// Where the store is made; it must not be there
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value_t = 10_000_000)]
        events: u64,
        #[arg(long, default_value_t = 64)]
        body_bytes: usize,
    },
}

type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Cmd::Ingest { dir, rounds, seconds } => ingest(&dir, rounds, Duration::from_secs_f64(seconds)),
        Cmd::Proofs { dir, events, body_bytes } => proofs(&dir, events, body_bytes),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sealing: {error}");
            ExitCode::FAILURE
        }
    }
}

fn event(number: u64, body_bytes: usize) -> Event {
    let mut body = format!("{{\"n\":{number},\"text\":\"").into_bytes();
    body.resize(body_bytes - 2, b'x');
    body.extend_from_slice(b"\"}");
    Event::new(format!("stream-{}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % STREAMS), "Noted").body(body)
}

fn batch(first: u64, body_bytes: usize) -> Request {
    Request::batch((first..first + BATCH).map(|number| event(number, body_bytes)).collect::<Vec<_>>())
}

/// Appends for as long as is said; events per second.
fn append_for(log: &Log, batches: bool, time: Duration) -> Done<f64> {
    let started = Instant::now();
    let mut waiting: std::collections::VecDeque<Pending> = std::collections::VecDeque::new();
    let mut number = 0;
    while started.elapsed() < time {
        if batches {
            waiting.push_back(log.submit(batch(number, BODY_BYTES))?);
            number += BATCH;
        } else {
            waiting.push_back(log.submit(Request::from(event(number, BODY_BYTES)))?);
            number += 1;
        }
        let most = if batches { 4 } else { IN_FLIGHT };
        while waiting.len() >= most {
            waiting.pop_front().expect("there is one").wait()?;
        }
    }
    for pending in waiting {
        pending.wait()?;
    }
    Ok(number as f64 / started.elapsed().as_secs_f64())
}

/// Threads that each wait for their own event.
fn append_waiting(log: &Log, threads: u64, time: Duration) -> Done<f64> {
    let started = Instant::now();
    let counts: Result<Vec<u64>, chainring::AppendError> = std::thread::scope(|scope| {
        let wait = |thread: u64| {
            move || {
                let mut count = 0;
                while started.elapsed() < time {
                    log.append(event(thread << 40 | count, BODY_BYTES))?;
                    count += 1;
                }
                Ok(count)
            }
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(wait(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("an appender does not panic")).collect()
    });
    Ok(counts?.iter().sum::<u64>() as f64 / started.elapsed().as_secs_f64())
}

fn ingest(dir: &Path, rounds: u64, time: Duration) -> Done {
    std::fs::create_dir(dir)?;
    let key = Arc::new(KeyFile::generate(dir.join("key"), "bench")?);
    for shape in ["1 thread, waiting", "64 threads, waiting", "1 thread, 1024 in flight", "batches of 1000"] {
        let mut ratios = Vec::new();
        let mut rates = [Vec::new(), Vec::new()];
        let mut seals = 0;
        for round in 0..rounds {
            let mut rate = [0.0; 2];
            // Who goes first takes turns.
            for sealed in [round % 2 == 0, round % 2 == 1] {
                let store = dir.join("log");
                let log = Options::new().open(&store)?;
                let sealer = if sealed { Some(log.sealer(key.clone())?.every(Duration::from_secs(1))) } else { None };
                rate[usize::from(sealed)] = match shape {
                    "1 thread, waiting" => append_waiting(&log, 1, time)?,
                    "64 threads, waiting" => append_waiting(&log, 64, time)?,
                    _ => append_for(&log, shape == "batches of 1000", time)?,
                };
                drop(sealer);
                if sealed {
                    seals = log.evidence()?.checkpoints.len();
                }
                log.close()?;
                std::fs::remove_dir_all(&store)?;
            }
            ratios.push(rate[1] / rate[0]);
            (0..2).for_each(|side| rates[side].push(rate[side]));
        }
        ratios.sort_by(f64::total_cmp);
        let median = |rates: &mut Vec<f64>| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        let [mut bare, mut sealed] = rates;
        let told = json!({
            "shape": shape,
            "rounds": rounds,
            "checkpoints": seals,
            "bare_events_per_second": median(&mut bare),
            "sealed_events_per_second": median(&mut sealed),
            "ratio": { "min": ratios[0], "median": ratios[ratios.len() / 2], "max": ratios[ratios.len() - 1] },
        });
        println!("{told}");
    }
    Ok(())
}

fn fill(log: &Log, from: u64, count: u64, body_bytes: usize) -> Done {
    for first in (from..from + count).step_by(BATCH as usize) {
        log.submit(batch(first, body_bytes).durability(Durability::Written))?.wait()?;
    }
    log.sync()?;
    Ok(())
}

fn proofs(dir: &Path, events: u64, body_bytes: usize) -> Done {
    std::fs::create_dir(dir)?;
    let key = Arc::new(KeyFile::generate(dir.join("key"), "bench")?);
    let store = dir.join("log");
    let log = Options::new().open(&store)?;
    let sealer = log.sealer(key.clone())?.every(Duration::from_secs(1));
    let started = Instant::now();
    fill(&log, 0, events - NEWS, body_bytes)?;
    let filled = started.elapsed();
    drop(sealer);
    let sealer = log.sealer(key.clone())?;
    sealer.seal()?;
    fill(&log, events - NEWS, NEWS, body_bytes)?;
    let started = Instant::now();
    let checkpoint = sealer.seal()?;
    let sealing = started.elapsed();
    let started = Instant::now();
    let prover = log.prover()?;
    let opening = started.elapsed();
    let mut times: Vec<[Duration; 2]> = Vec::new();
    let (mut receipt_bytes, mut bundle_bytes) = (0, 0);
    for n in 0..RECEIPTS {
        let mut position = Position(1 + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (checkpoint.head.size - 1));
        while log.latest().event(position).is_err() {
            // One of the engine's own; the last record is a seal, so the search goes round.
            position = Position((position.0 + 1) % checkpoint.head.size);
        }
        let started = Instant::now();
        receipt_bytes = receipt_bytes.max(prover.receipt(position)?.len());
        let receipt = started.elapsed();
        let started = Instant::now();
        bundle_bytes = bundle_bytes.max(prover.event(position, None)?.len());
        times.push([receipt, started.elapsed()]);
    }
    let quantile = |which: usize, per_mille: usize| {
        let mut all: Vec<Duration> = times.iter().map(|times| times[which]).collect();
        all.sort();
        all[(all.len() - 1) * per_mille / 1000].as_secs_f64() * 1e6
    };
    let told = json!({
        "events": events,
        "records": checkpoint.head.size,
        "fill_seconds": filled.as_secs_f64(),
        "checkpoint_over_a_million_ms": sealing.as_secs_f64() * 1e3,
        "prover_ms": opening.as_secs_f64() * 1e3,
        "receipt_bytes_max": receipt_bytes,
        "receipt_us": { "p50": quantile(0, 500), "p99": quantile(0, 990) },
        "bundle_bytes_max": bundle_bytes,
        "bundle_us": { "p50": quantile(1, 500), "p99": quantile(1, 990) },
    });
    println!("{told}");
    drop(sealer);
    log.close()?;
    Ok(())
}
