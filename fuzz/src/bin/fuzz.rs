//! Runs one target for a while, in several threads, without guidance: no other tool than this program is needed.
//!
//! Whatever fails is made smaller and saved; the exit code tells whether anything did.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use chainring_fuzz::targets::runner::{Meter, Rounds, quiet_panics, run_once, shrink};
use chainring_fuzz::targets::{ALL, Target, named};
use clap::Parser;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs fuzz targets on mutated inputs.
#[derive(Debug, Parser)]
struct Args {
    /// Name of the target; all of them one after the other if absent.
    #[arg(long)]
    target: Option<String>,
    /// Minutes for each target.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Seed; every job adds its number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs this file once, loudly, instead.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Where failing inputs are saved.
    #[arg(long, default_value = "fuzz/findings")]
    save: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let targets: Vec<Target> = match &args.target {
        None => ALL.to_vec(),
        Some(name) => named(name).into_iter().collect(),
    };
    if targets.is_empty() {
        eprintln!("there is no such target; known are {}", ALL.map(|target| target.name).join(", "));
        return ExitCode::from(2);
    }
    if let Some(file) = &args.input {
        let input = match fs::read(file) {
            Ok(input) => input,
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                return ExitCode::from(2);
            }
        };
        targets.iter().for_each(|target| (target.run)(&input));
        return ExitCode::SUCCESS;
    }
    // Findings are told once, when they are small.
    quiet_panics();
    let failed = targets.iter().filter(|target| !passes(target, &args)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a target in all jobs until time is up.
fn passes(target: &Target, args: &Args) -> bool {
    let until = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
    let (runs, findings) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    // Memory is counted for the whole program, so only a lone job can tell whose it was.
    let meter = (args.jobs == 1).then_some(Meter {
        reset: || MEMORY.reset_peak_usage(),
        current_bytes: || MEMORY.current_usage(),
        peak_bytes: || MEMORY.peak_usage(),
    });
    thread::scope(|scope| {
        for job in 0..args.jobs.max(1) {
            let (runs, findings) = (&runs, &findings);
            scope.spawn(move || {
                let (done, found) = Rounds::new(*target, args.seed.wrapping_add(job)).run(u64::MAX, until, meter);
                runs.fetch_add(done, Ordering::Relaxed);
                for finding in found {
                    // What only takes too much cannot be shrunk by asking whether it panics.
                    let small = if run_once(target, &finding.input, None).is_err() { shrink(target, &finding) } else { finding };
                    findings.lock().expect("no job panics while it holds the list").push(small);
                }
            });
        }
    });
    let findings = findings.into_inner().expect("all jobs have ended");
    println!("{}: {} executions, {} findings", target.name, runs.into_inner(), findings.len());
    for (number, finding) in findings.iter().enumerate() {
        let file = args.save.join(format!("{}-{}-{number}", target.name, args.seed));
        let saved = fs::create_dir_all(&args.save).and_then(|()| fs::write(&file, &finding.input));
        println!("  {}: {}", if saved.is_ok() { file.display().to_string() } else { "not saved".into() }, finding.why);
    }
    findings.is_empty()
}
