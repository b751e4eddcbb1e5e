//! Randomness from a seed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Failure;
use crate::disk::Entropy;

/// A small deterministic generator (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct SimRandom(u64);

impl SimRandom {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> SimRandom {
        SimRandom(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// True once in `of` times, on average.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// Randomness from a seed, as a log draws it. Can be told to fail.
#[derive(Debug)]
pub struct SimEntropy {
    random: Mutex<SimRandom>,
    fails: AtomicBool,
}

impl SimEntropy {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> SimEntropy {
        SimEntropy { random: Mutex::new(SimRandom::new(seed)), fails: AtomicBool::new(false) }
    }

    /// Whether drawing fails from now on, with EIO.
    pub fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(Failure::Device.error());
        }
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next_u64().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
