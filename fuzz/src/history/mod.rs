//! Random histories of a log on a simulated disk, checked against a model.
//!
//! One seed is one history: a few lives of a log with appends, batches, conditions, retries, reads, rotation, faults of every kind, cuts and kills, each
//! followed by looking at what is left. `model` knows what must be there and what must be answered; `drive` acts; `threads` does with real threads
//! what one thread cannot show, and checks invariants only.
//!
//! Always: the seed decides everything (but for the order of real threads). Never: a fault that the model is not told of, except as a [`Canary`],
//! which breaks the engine's promise on purpose and must be noticed.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

mod drive;
mod model;
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

/// What happened in a history, or in many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Histories.
    pub histories: u64,
    /// Opens for writing that succeeded.
    pub opens: u64,
    /// Opens for writing that failed by a fault.
    pub failed_opens: u64,
    /// Requests that were answered.
    pub answers: u64,
    /// Events that were in the log at the end.
    pub events: u64,
    /// Logs that were poisoned.
    pub poisoned: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Copies that were damaged on purpose.
    pub damaged: u64,
    /// Copies the independent reader judged as well.
    pub compared: u64,
}

impl Summary {
    /// Adds another one.
    pub fn add(&mut self, other: &Summary) {
        self.histories += other.histories;
        self.opens += other.opens;
        self.failed_opens += other.failed_opens;
        self.answers += other.answers;
        self.events += other.events;
        self.poisoned += other.poisoned;
        self.cuts += other.cuts;
        self.damaged += other.damaged;
        self.compared += other.compared;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { histories, opens, failed_opens, answers, events, poisoned, cuts, damaged, compared } = self;
        write!(
            f,
            "{histories} histories: {opens} opens and {failed_opens} that failed, {answers} answers, {events} events, {poisoned} poisoned logs, \
             {cuts} power cuts, {damaged} damaged copies, {compared} judged by the second reader"
        )
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
    guarded(seed, drive::Driver::new(seed, canary), drive::Driver::run, |driver| (driver.summary(), driver.story()))
}

fn guarded<T>(seed: u64, mut state: T, run: impl FnOnce(&mut T), tell: impl FnOnce(&T) -> (Summary, String)) -> Result<Summary, Failure> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut state)));
    let (summary, story) = tell(&state);
    match outcome {
        Ok(()) => Ok(summary),
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
