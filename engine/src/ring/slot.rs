//! Where one answer arrives.

use crate::sync::model::{AtomicU32, Mutex, Ordering, lock};

const OPEN: u32 = 0;
const DONE: u32 = 1;
const TAKEN: u32 = 2;

/// Where one answer arrives.
#[derive(Debug)]
pub(crate) struct Slot<A> {
    /// Looked at without the lock: most looks find nothing.
    state: AtomicU32,
    answer: Mutex<Option<A>>,
}

impl<A> Slot<A> {
    pub(crate) fn new() -> Slot<A> {
        Slot { state: AtomicU32::new(OPEN), answer: Mutex::new(None) }
    }

    pub(crate) fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `complete`.
        self.state.load(Ordering::Acquire) != OPEN
    }

    /// Puts the answer in. The first answer stays.
    pub(crate) fn complete(&self, answer: A) {
        let mut place = lock(&self.answer);
        // Relaxed: it changes under the lock only.
        if self.state.load(Ordering::Relaxed) == OPEN {
            *place = Some(answer);
            // Release: pairs with the Acquire in `is_done`.
            self.state.store(DONE, Ordering::Release);
        }
    }

    /// The answer, once.
    pub(crate) fn take(&self) -> Option<A> {
        if !self.is_done() {
            return None;
        }
        let mut place = lock(&self.answer);
        self.state.store(TAKEN, Ordering::Release);
        place.take()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Slot;

    #[test]
    fn the_first_answer_stays_and_is_taken_once() {
        let slot = Slot::new();
        assert_eq!(slot.take(), None);
        slot.complete(1);
        slot.complete(2);
        assert!(slot.is_done());
        assert_eq!((slot.take(), slot.take()), (Some(1), None));
        assert!(slot.is_done());
    }
}
