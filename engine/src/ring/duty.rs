//! Who looks after what is under way, while everybody else sleeps and is woken by an answer of its own.
//!
//! There is no thread for it: whoever waits for an answer leads and lands commits, for others as well, until its own answer is there. Then it leaves,
//! and calls one of the sleepers if something is left to be done and nobody is at it. So a landing wakes those whom it answers, and one more at most,
//! however many sleep.
//!
//! No duty is lost: a caller puts itself on the list of sleepers and then looks for work once more. Whoever leaves looks at the list after its last
//! piece of work. Either the sleeper finds what was left behind, or who left finds the sleeper.

use std::time::Duration;

use super::Slot;
use super::slot::Asleep;
use crate::sync::Arc;
use crate::sync::model::{AtomicU32, Mutex, Ordering, fence, lock};

/// Who sleeps, and how many look after things.
#[derive(Debug)]
pub(crate) struct Duty<A> {
    sleepers: Mutex<Vec<Arc<Slot<A>>>>,
    /// Length of that list, for a look without the lock.
    sleeper_count: AtomicU32,
    /// Callers that are at work or were called to it.
    on_duty: AtomicU32,
}

impl<A> Default for Duty<A> {
    fn default() -> Duty<A> {
        Duty { sleepers: Mutex::new(Vec::new()), sleeper_count: AtomicU32::new(0), on_duty: AtomicU32::new(0) }
    }
}

impl<A> Duty<A> {
    /// Waits for the answer in `slot` that `ready` takes, helping with `work` whenever there is some to be had; `work` says whether it did
    /// anything. `left` is how long to wait at most: `None` for ever. `is_left` says whether there is something to look after. Returns `None` when no time
    /// is left.
    pub(crate) fn wait<T>(
        &self,
        slot: &Arc<Slot<A>>,
        mut ready: impl FnMut() -> Option<T>,
        mut work: impl FnMut() -> bool,
        mut left: impl FnMut() -> Option<Duration>,
        is_left: impl Fn() -> bool,
    ) -> Option<T> {
        let mut was_called = false;
        let answer = loop {
            if let Some(answer) = ready() {
                break Some(answer);
            }
            let left = left();
            if left == Some(Duration::ZERO) {
                break None;
            }
            if !std::mem::take(&mut was_called) {
                self.on_duty.fetch_add(1, Ordering::AcqRel);
            }
            let on_duty = OnDuty { duty: self, is_left: &is_left };
            let did_something = work();
            drop(on_duty);
            if did_something {
                continue;
            }
            let Some(asleep) = slot.lies_down() else { continue };
            was_called = self.sleep(slot, asleep, &mut work, left);
        };
        if was_called {
            self.on_duty.fetch_sub(1, Ordering::AcqRel);
        }
        self.hand_over(&is_left);
        answer
    }

    /// Sleeps until the answer is there, or somebody calls; whether somebody has.
    fn sleep(&self, slot: &Arc<Slot<A>>, asleep: Asleep, work: &mut impl FnMut() -> bool, at_most: Option<Duration>) -> bool {
        {
            let mut sleepers = lock(&self.sleepers);
            sleepers.push(Arc::clone(slot));
            self.sleeper_count.fetch_add(1, Ordering::SeqCst);
        }
        // Pairs with the fence in `hand_over`. Not counted as being on duty: who leaves now does not rely on somebody who may find nothing.
        fence(Ordering::SeqCst);
        if !work() {
            slot.sleep(&asleep, at_most);
        }
        slot.gets_up(asleep);
        let mut sleepers = lock(&self.sleepers);
        match sleepers.iter().rposition(|sleeper| Arc::ptr_eq(sleeper, slot)) {
            Some(place) => {
                sleepers.swap_remove(place);
                self.sleeper_count.fetch_sub(1, Ordering::SeqCst);
                false
            }
            None => true,
        }
    }

    /// Calls a sleeper if something `is_left` to look after and nobody does. Whoever has led or landed something and goes away says this, and holds
    /// nothing by then.
    pub(crate) fn hand_over(&self, is_left: impl Fn() -> bool) {
        fence(Ordering::SeqCst);
        if self.sleeper_count.load(Ordering::SeqCst) == 0 || self.on_duty.load(Ordering::SeqCst) > 0 || !is_left() {
            return;
        }
        let called = {
            let mut sleepers = lock(&self.sleepers);
            let called = sleepers.pop();
            if called.is_some() {
                self.sleeper_count.fetch_sub(1, Ordering::SeqCst);
                // On behalf of the one that is called, which finds itself off the list.
                self.on_duty.fetch_add(1, Ordering::AcqRel);
            }
            called
        };
        if let Some(slot) = called {
            slot.wake();
        }
    }
}

/// Counted as being on duty.
struct OnDuty<'a, A, F: Fn() -> bool> {
    duty: &'a Duty<A>,
    is_left: &'a F,
}

impl<A, F: Fn() -> bool> Drop for OnDuty<'_, A, F> {
    fn drop(&mut self) {
        self.duty.on_duty.fetch_sub(1, Ordering::AcqRel);
        if std::thread::panicking() {
            // A leader that panics goes away as well.
            self.duty.hand_over(self.is_left);
        }
    }
}
