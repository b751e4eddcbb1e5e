//! Clocks that step back, jump ahead, or fail in the middle of a leader's work.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chainring::disk::sim::{SimClock, SimDisk, SimEntropy};
use chainring::disk::{Clock, Environment};
use chainring::{AppendError, Event, Log, Options};
use support::{check, open};

const START_NS: u64 = 1_700_000_000_000_000_000;
const HOUR_NS: u64 = 3_600_000_000_000;

fn environment(disk: &SimDisk, clock: Arc<dyn Clock>) -> Environment {
    Environment { disk: Arc::new(disk.clone()), clock, entropy: Arc::new(SimEntropy::new(1)) }
}

fn recorded(log: &Log) -> Vec<u64> {
    log.latest().events().map(|event| event.unwrap().recorded_at_ns()).collect()
}

#[test]
fn recorded_time_never_runs_backwards_not_even_across_opens() {
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::new(START_NS, 10));
    let log = open(&environment(&disk, clock.clone())).unwrap();
    log.append(Event::new("s", "E")).unwrap();
    clock.step_to(START_NS - 50 * HOUR_NS);
    log.append(Event::new("s", "E")).unwrap();
    log.close().unwrap();
    let log = open(&environment(&disk, clock.clone())).unwrap();
    log.append(Event::new("s", "E")).unwrap();
    clock.step_to(START_NS + 1000);
    log.append(Event::new("s", "E")).unwrap();
    let times = recorded(&log);
    assert!(times.is_sorted() && times[0] == times[2] && times[3] == START_NS + 1000, "{times:?}");
    log.close().unwrap();
    assert!(check(&environment(&disk, clock)).is_ok());
}

#[test]
fn a_jump_ahead_is_refused_until_it_is_accepted() {
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::new(START_NS, 10));
    let log = open(&environment(&disk, clock.clone())).unwrap();
    log.append(Event::new("s", "E")).unwrap();
    // Time that really passed is no jump.
    clock.advance(100 * HOUR_NS);
    log.append(Event::new("s", "E")).unwrap();
    clock.step_to(START_NS + 200 * HOUR_NS);
    match log.append(Event::new("s", "E")) {
        Err(AppendError::ClockJump { ahead_ns }) => assert!((99 * HOUR_NS..101 * HOUR_NS).contains(&ahead_ns)),
        other => panic!("{other:?}"),
    }
    clock.step_to(START_NS + 100 * HOUR_NS + 1000);
    log.append(Event::new("s", "E")).unwrap();
    assert_eq!(recorded(&log).len(), 3, "what was refused left nothing behind");
    log.close().unwrap();
    let believing = Options::new().accept_clock_jump(true).open_in(environment(&disk, clock.clone()), "simulated").unwrap();
    believing.append(Event::new("s", "E")).unwrap();
    clock.step_to(START_NS + 500 * HOUR_NS);
    believing.append(Event::new("s", "E")).unwrap();
}

/// A clock that panics on demand.
#[derive(Debug)]
struct Failing {
    clock: SimClock,
    fail: AtomicBool,
}

impl Clock for Failing {
    fn realtime_ns(&self) -> u64 {
        assert!(!self.fail.load(Ordering::Relaxed), "this clock is broken");
        self.clock.realtime_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        self.clock.monotonic_ns()
    }
}

/// Three appends wait on a log whose clock is broken, so that whoever leads them panics. Returns how many of the waiting threads did; the others were told
/// that nothing is known.
fn waiting_threads_that_panicked(options: &Options) -> usize {
    let disk = SimDisk::new();
    let clock = Arc::new(Failing { clock: SimClock::new(START_NS, 10), fail: AtomicBool::new(false) });
    let log = options.clone().open_in(environment(&disk, clock.clone()), "simulated").unwrap();
    log.append(Event::new("s", "Kept")).unwrap();
    clock.fail.store(true, Ordering::Relaxed);
    let waiting: Vec<_> = (0..3).map(|_| log.submit(Event::new("s", "Lost")).unwrap()).collect();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            waiting.into_iter().map(|pending| scope.spawn(|| catch_unwind(AssertUnwindSafe(|| pending.wait())))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(outcomes.iter().flatten().all(|outcome| matches!(outcome, Err(AppendError::OutcomeUnknown(_)))));
    clock.fail.store(false, Ordering::Relaxed);
    assert!(matches!(log.append(Event::new("s", "Refused")), Err(AppendError::Poisoned(_))));
    assert_eq!(recorded(&log).len(), 1);
    drop(log);
    let log = open(&environment(&disk, clock)).unwrap();
    assert_eq!(recorded(&log).len(), 1);
    log.append(Event::new("s", "After")).unwrap();
    outcomes.iter().filter(|outcome| outcome.is_err()).count()
}

#[test]
fn a_leader_that_panics_poisons_the_log_and_leaves_nobody_waiting() {
    assert_eq!(waiting_threads_that_panicked(&Options::new().keeper(false)), 1);
    // Beside a keeper it may be the keeper that led, and then none of those who wait.
    assert!(waiting_threads_that_panicked(&Options::new().keeper(true)) <= 1);
}
