//! Random histories of a log on a simulated disk, checked against a model.
//!
//! One seed is one history: a few lives of a log with appends, batches, conditions, retries, reads, rotation, faults of every kind, cuts and kills, each
//! followed by looking at what is left. `model` knows what must be there and what must be answered; `drive` acts. Two more check invariants only: `threads`
//! does with real threads what one thread cannot show, and `sealed` seals and signs while things fail.
//!
//! Always: the seed decides everything (but for the order of real threads). Never: a fault that the model is not told of, except as a [`Canary`],
//! which breaks the engine's promise on purpose and must be noticed.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chainring::disk::sim::{Call, Failure as CallFailure, Fault, SimRandom};

mod drive;
mod model;
mod sealed;
mod threads;

/// A promise broken behind the model's back, to see that the harness notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Canary {
    /// Nothing is broken.
    #[default]
    None,
    /// The disk acknowledges syncs without doing them.
    LyingDisk,
    /// The last event is dropped from what recovery shows.
    LostEvent,
    /// One byte of what recovery shows is another one.
    ChangedEvent,
}

/// What happened in a history, or in many: how often each kind of thing was met.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    met: BTreeMap<String, u64>,
}

impl Summary {
    fn count(&mut self, what: &str) {
        *self.met.entry(what.to_owned()).or_default() += 1;
    }

    /// How often something was met.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.met.get(what).copied().unwrap_or(0)
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Summary) {
        other.met.iter().for_each(|(what, count)| *self.met.entry(what.clone()).or_default() += count);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} histories", self.of("histories"))?;
        self.met.iter().filter(|(what, _)| *what != "histories").try_for_each(|(what, count)| write!(f, ", {what} {count}"))
    }
}

/// A history that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Which promise.
    pub message: String,
    /// Everything done, with the faults that were armed, and the last calls to the disk.
    pub story: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.story)?;
        writeln!(f, "seed {}: {}", self.seed, self.message)?;
        write!(f, "again: cargo run --release -p chainring-fuzz -- --seed {}", self.seed)
    }
}

/// Runs the history of a seed.
///
/// # Errors
/// [`Failure`] if a promise was broken.
pub fn run(seed: u64, canary: Canary) -> Result<Summary, Failure> {
    // The second mode cannot be replayed exactly; its plan can.
    if seed % 16 == 15 && canary == Canary::None {
        return guarded(seed, threads::Crowd::new(seed), threads::Crowd::run, |crowd| (crowd.summary(), crowd.story()));
    }
    if seed % 16 == 7 && matches!(canary, Canary::None | Canary::LyingDisk) {
        let is_lying = canary == Canary::LyingDisk;
        return guarded(seed, sealed::Office::new(seed, is_lying), sealed::Office::run, |office| (office.summary(), office.story()));
    }
    guarded(seed, drive::Driver::new(seed, canary), drive::Driver::run, |driver| (driver.summary(), driver.story()))
}

/// A fault that a call will meet within so many calls.
fn any_fault(random: &mut SimRandom, within: u64) -> Fault {
    let n = 1 + random.below(within);
    let failure = CallFailure::ALL[random.below(3) as usize];
    match random.below(7) {
        // Another segment cannot be begun.
        6 => {
            let call = [Call::Create, Call::Reserve][random.below(2) as usize];
            Fault::Nth { call: Some(call), n: 1 + random.below(2), failure, lasting: false }
        }
        0 => Fault::Write(n.div_ceil(3)),
        1 => Fault::Sync(n.div_ceil(3)),
        2 => Fault::Full,
        3 => {
            let call = Call::ALL[random.below(Call::ALL.len() as u64) as usize];
            Fault::Nth { call: Some(call), n: n.div_ceil(8), failure, lasting: random.one_in(3) }
        }
        // Lasting: the device is gone from here on, as if the power had been cut in the middle of a call.
        _ => Fault::Nth { call: None, n, failure, lasting: random.one_in(2) },
    }
}

fn guarded<T>(seed: u64, mut state: T, run: impl FnOnce(&mut T), tell: impl FnOnce(&T) -> (Summary, String)) -> Result<Summary, Failure> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut state)));
    let (summary, story) = tell(&state);
    match outcome {
        Ok(()) => {
            let mut summary = summary;
            summary.count("histories");
            Ok(summary)
        }
        Err(panic) => Err(Failure { seed, message: message_of(&*panic), story }),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// Seeds in a text file: a number a line, behind `#` what it found.
///
/// # Panics
/// If a line is no number.
#[must_use]
pub fn seeds_in(text: &str) -> Vec<u64> {
    let numbers = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
    numbers.map(|line| line.parse().unwrap_or_else(|_| panic!("not a seed: {line}"))).collect()
}
