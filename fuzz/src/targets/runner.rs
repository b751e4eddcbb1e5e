//! Runs a target on inputs, one after the other, and says which one failed.
//!
//! Always: the same seed gives the same inputs in the same order. A run takes at most [`SECONDS_MAX`] and, where the program counts its memory,
//! [`PEAK_BYTES_MAX`] more than was in use before; inputs are smaller than a megabyte and no target has reason to take more.
//! Never: guided by coverage; `libfuzzer/` is.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use super::Target;
use super::random::Random;

/// Longest time of one run.
pub const SECONDS_MAX: u64 = 10;
/// Most memory of one run.
pub const PEAK_BYTES_MAX: usize = 64 << 20;
/// Inputs kept to mutate further, beside those a target starts from.
const POOL_MAX: usize = 512;
/// Kinds of findings after which a job ends.
const FINDINGS_MAX: usize = 24;
/// Runs that fail the same way while a finding is made smaller.
const SHRINK_TRIES: usize = 4000;

/// Tells how much memory is in use. Only a program can count its memory, so it hands this in.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    /// Starts counting the peak anew.
    pub reset: fn(),
    /// Bytes in use now.
    pub current_bytes: fn() -> usize,
    /// Most bytes in use since the reset.
    pub peak_bytes: fn() -> usize,
}

/// An input on which a target failed.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The input.
    pub input: Vec<u8>,
    /// What the target said.
    pub why: String,
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// From now on a target that panics is told of by whoever runs it, not by the panic; every other panic speaks as before.
pub fn quiet_panics() {
    let loudly = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !RUNNING.get() {
            loudly(panic);
        }
    }));
}

/// Runs the target once.
///
/// # Errors
/// What went wrong, in words.
pub fn run_once(target: &Target, input: &[u8], meter: Option<Meter>) -> Result<(), String> {
    let before = meter.map_or(0, |meter| {
        (meter.reset)();
        (meter.current_bytes)()
    });
    let started = Instant::now();
    RUNNING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    RUNNING.set(false);
    outcome.map_err(|panic| words(&*panic))?;
    let took = started.elapsed();
    let peak = meter.map_or(0, |meter| (meter.peak_bytes)().saturating_sub(before));
    if peak > PEAK_BYTES_MAX {
        return Err(format!("took {peak} bytes of memory for an input of {}", input.len()));
    }
    if took > Duration::from_secs(SECONDS_MAX) {
        return Err(format!("took {took:?}"));
    }
    Ok(())
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// Rounds of mutation from a seed.
#[derive(Debug)]
pub struct Rounds {
    target: Target,
    random: Random,
    pool: Vec<Vec<u8>>,
    starts: usize,
}

impl Rounds {
    /// Starts from what the target starts from, and the inputs that were kept.
    #[must_use]
    pub fn new(target: Target, seed: u64) -> Rounds {
        let mut pool = (target.seeds)();
        pool.extend(kept(&target).unwrap_or_default().into_iter().map(|(_, input)| input));
        if pool.is_empty() {
            pool.push(Vec::new());
        }
        Rounds { target, random: Random::new(seed), starts: pool.len(), pool }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.random.pick(&self.pool).clone();
        for _ in 0..=self.random.below(2) {
            input = (self.target.mutate)(&input, &mut self.random);
        }
        // Now and then an input is a start for others, so that changes add up.
        if self.random.once_in(8) {
            if self.pool.len() < self.starts + POOL_MAX {
                self.pool.push(input.clone());
            } else {
                let at = self.starts + self.random.below(POOL_MAX);
                self.pool[at].clone_from(&input);
            }
        }
        input
    }

    /// Runs until `until`, or `most` times, and goes on after a finding; each kind of finding counts once. Gives the runs and the findings.
    pub fn run(&mut self, most: u64, until: Instant, meter: Option<Meter>) -> (u64, Vec<Finding>) {
        let (mut runs, mut findings): (u64, Vec<Finding>) = (0, Vec::new());
        while runs < most && Instant::now() < until && findings.len() < FINDINGS_MAX {
            let input = self.next_input();
            runs += 1;
            if let Err(why) = run_once(&self.target, &input, meter)
                && findings.iter().all(|known| kind(&known.why) != kind(&why))
            {
                findings.push(Finding { input, why });
            }
        }
        (runs, findings)
    }
}

/// The words of a finding without the numbers in them: two of a kind have the same cause, mostly.
fn kind(why: &str) -> String {
    why.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The folder of a target's kept inputs.
#[must_use]
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The inputs that were kept for a target, with their files, in order.
///
/// # Errors
/// Any error of the file system.
pub fn kept(target: &Target) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(target))?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    files.into_iter().map(|file| Ok((file.clone(), fs::read(&file)?))).collect()
}

/// A smaller input on which the target still fails: parts are left out and bytes made zero, as long as that helps.
#[must_use]
pub fn shrink(target: &Target, finding: &Finding) -> Finding {
    let mut smallest = finding.clone();
    let mut tries = 0;
    let mut part = finding.input.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < smallest.input.len() && tries < SHRINK_TRIES {
            let end = (at + part).min(smallest.input.len());
            let mut cut = smallest.input.clone();
            cut.drain(at..end);
            let mut zeroed = smallest.input.clone();
            zeroed[at..end].fill(0);
            tries += 2;
            if let Err(why) = run_once(target, &cut, None)
                && kind(&why) == kind(&finding.why)
            {
                smallest = Finding { input: cut, why };
                continue;
            }
            if zeroed != smallest.input
                && let Err(why) = run_once(target, &zeroed, None)
                && kind(&why) == kind(&finding.why)
            {
                smallest = Finding { input: zeroed, why };
            }
            at = end;
        }
        if part == 1 || tries >= SHRINK_TRIES {
            return smallest;
        }
        part = part.div_ceil(2);
    }
}
