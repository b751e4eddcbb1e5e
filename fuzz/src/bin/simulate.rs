//! Runs random histories with faults against a model.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chainring_fuzz::history::{Canary, Summary, run};
use clap::Parser;

/// A history that takes longer than this hangs.
const HANG: Duration = Duration::from_secs(120);

/// Random histories of a log on a simulated disk, checked against a model.
#[derive(Parser)]
struct Arguments {
    /// Histories to run at most.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// Minutes to run at most.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Histories side by side.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (first, end) = arguments.seed.map_or((arguments.first, arguments.first.saturating_add(arguments.seeds)), |seed| (seed, seed + 1));
    let start = Instant::now();
    let stop_after = Duration::from_secs_f64(arguments.minutes * 60.0);
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(0);
    let total = Mutex::new(Summary::default());
    let running = Mutex::new(BTreeMap::<u64, Instant>::new());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs.max(1))
            .map(|_| {
                scope.spawn(|| {
                    while start.elapsed() < stop_after && failed.load(Ordering::Relaxed) < 10 {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            break;
                        }
                        running.lock().expect("no panic leaves a history").insert(seed, Instant::now());
                        match run(seed, Canary::None) {
                            Ok(summary) => total.lock().expect("no panic leaves a history").add(&summary),
                            Err(failure) => {
                                failed.fetch_add(1, Ordering::Relaxed);
                                println!("{failure}\n");
                            }
                        }
                        running.lock().expect("no panic leaves a history").remove(&seed);
                    }
                })
            })
            .collect();
        scope.spawn(|| watch(&running, &total, &is_over));
        workers.into_iter().for_each(|worker| worker.join().expect("a history's panic is caught"));
        is_over.store(true, Ordering::Relaxed);
    });
    let failed = failed.into_inner();
    println!("{}, {failed} failed, {:.0} s", total.lock().expect("no panic leaves a history"), start.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says now and then how far it is; ends the program when a history hangs.
fn watch(running: &Mutex<BTreeMap<u64, Instant>>, total: &Mutex<Summary>, is_over: &AtomicBool) {
    let mut told = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            println!("{}", total.lock().expect("no panic leaves a history"));
        }
        if let Some((seed, since)) = running.lock().expect("no panic leaves a history").iter().find(|(_, since)| since.elapsed() > HANG) {
            println!("seed {seed} has been running for {} s: it hangs", since.elapsed().as_secs());
            std::process::exit(2);
        }
    }
}
