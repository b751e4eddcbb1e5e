//! The choices of a mutation: everything follows from one seed, so that a seed names an input.

use chainring::disk::sim::SimRandom;

/// A source of choices.
#[derive(Debug, Clone)]
pub struct Random(SimRandom);

impl Random {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(SimRandom::new(seed))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.number() % bound as u64) as usize }
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A number that sits at an edge of something: of a type, of a sector, of a limit of the format.
    pub fn edge(&mut self) -> u64 {
        const EDGES: [u64; 22] = [
            0,
            1,
            2,
            7,
            8,
            16,
            32,
            120,
            152,
            159,
            160,
            256,
            511,
            512,
            4096,
            65_536,
            1 << 20,
            0x7FFF_FFF8,
            0xFFFF_FFF8,
            0xFFFF_FFFF,
            i64::MAX as u64,
            u64::MAX,
        ];
        let edge = *self.pick(&EDGES);
        match self.below(4) {
            0 => edge.wrapping_add(1),
            1 => edge.wrapping_sub(1),
            _ => edge,
        }
    }

    /// That many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number() as u8).collect()
    }
}
