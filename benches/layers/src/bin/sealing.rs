//! What sealing costs those who append, and how long a checkpoint and a receipt take.
//!
//! `sealing ingest --dir DIR` appends durable events with and without a sealer that seals every second, in turns. `sealing proofs --dir DIR --events N`
//! fills a store, takes a checkpoint over everything, one over a million new events, and receipts and bundles of events all over it. JSON to standard
//! output.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chainring::{Durability, KeyFile, Log, Options, Position};
use chainring_benches::load::{BATCH, Done, Shape, batch};
use clap::{Parser, Subcommand};
use serde_json::json;

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

fn ingest(dir: &Path, rounds: u64, time: Duration) -> Done {
    std::fs::create_dir(dir)?;
    let key = Arc::new(KeyFile::generate(dir.join("key"), "bench")?);
    for shape in Shape::ALL {
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
                rate[usize::from(sealed)] = shape.append(&log, time)?;
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
            "shape": shape.name(),
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
