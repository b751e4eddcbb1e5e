//! Where one answer arrives, and where its caller sleeps until then.

use std::time::Duration;

use crate::sync::model::{AtomicU32, Futex, Mutex, Ordering, lock};

/// The answer is there.
const DONE: u32 = 1;
/// It was taken.
const TAKEN: u32 = 2;
/// The caller sleeps, or is about to.
const SLEEPS: u32 = 4;

/// Where one answer arrives.
#[derive(Debug)]
pub(crate) struct Slot<A> {
    /// Looked at without the lock: most looks find nothing.
    state: AtomicU32,
    answer: Mutex<Option<A>>,
    bed: Futex,
}

impl<A> Slot<A> {
    pub(crate) fn new() -> Slot<A> {
        Slot { state: AtomicU32::new(0), answer: Mutex::new(None), bed: Futex::default() }
    }

    pub(crate) fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `complete`.
        self.state.load(Ordering::Acquire) & DONE != 0
    }

    /// Puts the answer in, and wakes its caller if that sleeps. The first answer stays.
    pub(crate) fn complete(&self, answer: A) {
        let mut place = lock(&self.answer);
        // Relaxed: these bits change under the lock only.
        if self.state.load(Ordering::Relaxed) & DONE != 0 {
            return;
        }
        *place = Some(answer);
        // Release: pairs with the Acquire in `is_done`. One read-modify-write of the word that `lies_down` changes as well: one of the two comes first
        // and the other sees it.
        let before = self.state.fetch_or(DONE, Ordering::AcqRel);
        drop(place);
        if before & SLEEPS != 0 {
            self.wake();
        }
    }

    /// The answer, once.
    pub(crate) fn take(&self) -> Option<A> {
        if !self.is_done() {
            return None;
        }
        let mut place = lock(&self.answer);
        self.state.fetch_or(TAKEN, Ordering::Release);
        place.take()
    }

    /// Wakes the caller for another reason. If it does not sleep yet, it will not.
    pub(super) fn wake(&self) {
        self.bed.advance();
        self.bed.wake(1);
    }

    /// The caller says that it is going to sleep: what happens from now on wakes it. `None` if the answer is there already.
    pub(super) fn lies_down(&self) -> Option<Asleep> {
        let seen = self.bed.now();
        // Acquire and Release: see `complete`.
        let before = self.state.fetch_or(SLEEPS, Ordering::AcqRel);
        (before & DONE == 0).then_some(Asleep { seen })
    }

    /// Sleeps until something has happened since the caller lay down, at most as long as given. Returns early for no reason at times.
    pub(super) fn sleep(&self, Asleep { seen }: &Asleep, at_most: Option<Duration>) {
        self.bed.sleep(*seen, at_most);
    }

    /// The caller is up again.
    pub(super) fn gets_up(&self, _: Asleep) {
        // Relaxed: who still sees the bit makes a needless call.
        self.state.fetch_and(!SLEEPS, Ordering::Relaxed);
    }
}

/// A caller that lies down, with what it saw before.
#[derive(Debug)]
pub(super) struct Asleep {
    seen: u32,
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
        assert!(slot.is_done() && slot.lies_down().is_none());
    }
}
