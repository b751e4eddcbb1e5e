//! The rings alone, for benchmarks that stand outside of this crate.

use super::{Drain, Drained, RingSizes, Rings};
use crate::sync::Arc;

/// Rings and their consumer, in one thread.
#[derive(Debug)]
pub struct RingProbe {
    rings: Arc<Rings<()>>,
    drain: Drain<()>,
    drained: Vec<Drained<()>>,
}

impl RingProbe {
    /// `rings` rings of `slots` requests and `bytes` bytes; all powers of two.
    #[must_use]
    pub fn new(rings: usize, slots: usize, bytes: usize) -> RingProbe {
        let (rings, drain) = Rings::new(RingSizes { rings, slots, bytes }, 0);
        RingProbe { rings, drain, drained: Vec::new() }
    }

    /// Claims, copies, publishes; `false` if the ring is full.
    pub fn publish(&self, lane: u16, content: &[u8]) -> bool {
        let Ok(mut claim) = self.rings.claim(lane, content.len()) else { return false };
        claim.bytes().copy_from_slice(content);
        self.rings.publish(lane, claim, ());
        true
    }

    /// Drains once, shows the bytes of every request, gives them back; returns how many there were.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) -> usize {
        self.drain.drain(&mut self.drained);
        let count = self.drained.len();
        for drained in self.drained.drain(..) {
            each(self.drain.content(drained.parts().1));
        }
        self.drain.give_back();
        count
    }
}
