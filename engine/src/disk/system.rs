//! The system's clock and randomness.

use std::io;

use rustix::time::{ClockId, clock_gettime};

use super::{Clock, Entropy};

/// The system's clocks: `CLOCK_REALTIME`, and `CLOCK_BOOTTIME`, which also counts while the machine sleeps.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl Clock for SystemClock {
    fn realtime_ns(&self) -> u64 {
        nanoseconds(ClockId::Realtime)
    }

    fn monotonic_ns(&self) -> u64 {
        nanoseconds(ClockId::Boottime)
    }
}

/// The system's source of randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::from)
    }
}
