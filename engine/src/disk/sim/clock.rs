//! Time that is set by hand.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::Clock;

/// A clock that is set by hand and ticks by a fixed step at every reading.
#[derive(Debug)]
pub struct SimClock {
    realtime_ns: AtomicU64,
    monotonic_ns: AtomicU64,
    step_ns: u64,
}

impl SimClock {
    /// Starts at an instant and advances by `step_ns` whenever the time of day is read.
    #[must_use]
    pub fn new(realtime_ns: u64, step_ns: u64) -> SimClock {
        SimClock { realtime_ns: AtomicU64::new(realtime_ns), monotonic_ns: AtomicU64::new(0), step_ns }
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, by_ns: u64) {
        self.realtime_ns.fetch_add(by_ns, Ordering::Relaxed);
        self.monotonic_ns.fetch_add(by_ns, Ordering::Relaxed);
    }

    /// Sets the time of day without time passing, as a wrong or hostile administrator would; forward or back.
    pub fn step_to(&self, realtime_ns: u64) {
        self.realtime_ns.store(realtime_ns, Ordering::Relaxed);
    }

    /// The time of day, without a tick.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.realtime_ns.load(Ordering::Relaxed)
    }
}

impl Clock for SimClock {
    fn realtime_ns(&self) -> u64 {
        self.monotonic_ns.fetch_add(self.step_ns, Ordering::Relaxed);
        self.realtime_ns.fetch_add(self.step_ns, Ordering::Relaxed)
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.load(Ordering::Relaxed)
    }

    fn passes(&self) -> bool {
        false
    }
}
