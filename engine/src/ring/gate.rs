//! Where callers sleep until something has moved on.

use std::task::Waker;
use std::time::Duration;

use crate::sync::model::{AtomicU32, Futex, Mutex, Ordering, lock};

/// The kernel counts in signed numbers: more than this would be negative, and wake a single one.
const EVERYBODY: u32 = i32::MAX as u32;

/// Counts what leaders have done; callers with nothing to do sleep until it moves.
///
/// No wake-up is lost: a caller reads the count first, then looks for its answer and for work, then sleeps only while the count is what it read. Who
/// has done something moves the count after the result can be seen.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    word: Futex,
    /// Callers that sleep or are about to; whoever moves the count saves the kernel call if there are none.
    sleepers: AtomicU32,
    /// Tasks to wake. A caller that is one never sleeps.
    wakers: Mutex<Vec<Waker>>,
    waker_count: AtomicU32,
}

impl Gate {
    /// The count. Read before looking for an answer and for work.
    pub(crate) fn now(&self) -> u32 {
        self.word.now()
    }

    /// Moves the count on and wakes everybody. Called when everything that was done can be seen and no lock is held: wakers are foreign code.
    pub(crate) fn advance(&self) {
        self.word.advance();
        // Both this look and the sleeper's count are sequentially consistent, and so are the moved word here and the kernel's look at it there: if this
        // does not see the sleeper, the sleeper sees the word moved.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.word.wake(EVERYBODY);
        }
        if self.waker_count.load(Ordering::SeqCst) > 0 {
            let wakers = {
                let mut wakers = lock(&self.wakers);
                self.waker_count.store(0, Ordering::SeqCst);
                std::mem::take(&mut *wakers)
            };
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Sleeps while the count is `seen`, at most as long as given. Returns early for no reason at times.
    fn sleep(&self, seen: u32, at_most: Option<Duration>) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        self.word.sleep(seen, at_most);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Has a task woken when the count moves on; `false` if it already is no longer `seen`.
    pub(crate) fn wake_later(&self, seen: u32, waker: &Waker) -> bool {
        let mut wakers = lock(&self.wakers);
        // A task with many receipts asks once for each, one after the other.
        if !wakers.last().is_some_and(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
            self.waker_count.fetch_add(1, Ordering::SeqCst);
        }
        drop(wakers);
        // Looked at after the waker is in its place: whoever moves the count from now on finds it there.
        self.now() == seen
    }

    /// Waits for `ready`, helping with `work` whenever there is some to be had; `work` says whether it did anything. `left` is how long to wait at most:
    /// `None` for ever. Returns `None` when no time is left.
    pub(crate) fn wait<T>(
        &self,
        mut ready: impl FnMut() -> Option<T>,
        mut work: impl FnMut() -> bool,
        mut left: impl FnMut() -> Option<Duration>,
    ) -> Option<T> {
        loop {
            let seen = self.now();
            if let Some(answer) = ready() {
                return Some(answer);
            }
            let left = left();
            if left == Some(Duration::ZERO) {
                return None;
            }
            if !work() {
                self.sleep(seen, left);
            }
        }
    }
}
