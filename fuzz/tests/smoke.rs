//! Every kept input once, then some seconds of mutations for every target, with bounds on time and memory. And every target can fail.

use std::time::{Duration, Instant};

use chainring_fuzz::targets::runner::{Meter, Rounds, kept, quiet_panics, run_once, shrink};
use chainring_fuzz::targets::{ALL, with_canary};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a run of the tests can spare for each target. `CHAINRING_FUZZ_SECONDS` gives another number.
const SECONDS: u64 = 5;
/// Mutations within which a planted bug must be found.
const CANARY_RUNS: u64 = 200_000;

/// One after the other and in one test, so that memory is counted for one run at a time.
#[test]
fn kept_inputs_and_mutations_pass_and_planted_bugs_are_found() {
    quiet_panics();
    let failures: Vec<String> = ALL.iter().flat_map(|target| [passes(target), catches(target)]).filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn passes(target: &chainring_fuzz::targets::Target) -> Result<(), String> {
    let meter =
        Some(Meter { reset: || MEMORY.reset_peak_usage(), current_bytes: || MEMORY.current_usage(), peak_bytes: || MEMORY.peak_usage() });
    // What a target starts from is made once and stays; it is no run's memory.
    let mut rounds = Rounds::new(*target, 0);
    let mut runs = 0;
    for (file, input) in kept(target).unwrap_or_default() {
        run_once(target, &input, meter).map_err(|why| format!("{}: {}: {why}", target.name, file.display()))?;
        runs += 1;
    }
    let seconds = std::env::var("CHAINRING_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let (mutations, findings) = rounds.run(u64::MAX, Instant::now() + Duration::from_secs(seconds), meter);
    println!("{}: {runs} kept inputs, {mutations} mutations", target.name);
    match findings.first() {
        None => Ok(()),
        Some(finding) => {
            let small = shrink(target, finding);
            let name = std::env::temp_dir().join(format!("chainring-fuzz-{}", target.name));
            let saved = std::fs::write(&name, &small.input).is_ok();
            Err(format!("{}: {} (input {}saved as {})", target.name, small.why, if saved { "" } else { "not " }, name.display()))
        }
    }
}

fn catches(target: &chainring_fuzz::targets::Target) -> Result<(), String> {
    let started = Instant::now();
    let until = started + Duration::from_secs(60);
    let (runs, findings) = with_canary(|| {
        let mut rounds = Rounds::new(*target, 0);
        let mut runs = 0;
        loop {
            let (more, findings) = rounds.run(64, until, None);
            runs += more;
            if !findings.is_empty() || more < 64 || runs >= CANARY_RUNS {
                break (runs, findings);
            }
        }
    });
    match findings.first() {
        Some(finding) => {
            println!("{}: canary found within {runs} mutations, {:?}: {}", target.name, started.elapsed(), finding.why);
            // The same input passes without the planted bug: it was the bug that was found.
            run_once(target, &finding.input, None).map_err(|why| format!("{}: fails without a planted bug: {why}", target.name))
        }
        None => Err(format!("{}: {runs} mutations did not find out that {}", target.name, target.canary)),
    }
}
