//! L3: from many callers to one writer, and the answers back.
//!
//! [`Ring`] takes requests in the order of their tickets and hands them to whoever leads; [`Slot`] carries one answer back; [`Epoch`] is where
//! callers sleep. Order promise: requests of one thread leave the ring in the order that thread published them.
//!
//! This ring is one bounded queue behind a lock. The shape above it is final: many rings with tickets from one counter, drained in ticket
//! order, can take its place without a caller or the sequencer noticing.
//! Absent on purpose: what a request means, files, time.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use crate::sync::{Condvar, Mutex, lock};

/// A bounded queue of requests.
#[derive(Debug)]
pub(crate) struct Ring<R> {
    queue: Mutex<Queue<R>>,
    bytes_max: u64,
}

#[derive(Debug)]
struct Queue<R> {
    requests: VecDeque<(u64, R)>,
    bytes: u64,
}

impl<R> Ring<R> {
    /// A ring that takes requests of together `bytes_max`; a single larger one is taken when the ring is empty.
    pub(crate) fn new(bytes_max: u64) -> Ring<R> {
        Ring { queue: Mutex::new(Queue { requests: VecDeque::new(), bytes: 0 }), bytes_max }
    }

    /// Publishes a request of `bytes`; gives it back when the ring is full.
    pub(crate) fn publish(&self, request: R, bytes: u64) -> Result<(), R> {
        let mut queue = lock(&self.queue);
        if !queue.requests.is_empty() && queue.bytes + bytes > self.bytes_max {
            return Err(request);
        }
        queue.bytes += bytes;
        queue.requests.push_back((bytes, request));
        Ok(())
    }

    /// Takes everything published so far, in order.
    pub(crate) fn drain(&self) -> Vec<R> {
        let mut queue = lock(&self.queue);
        queue.bytes = 0;
        queue.requests.drain(..).map(|(_, request)| request).collect()
    }
}

/// Where one answer arrives.
#[derive(Debug)]
pub(crate) struct Slot<A> {
    state: Mutex<SlotState<A>>,
}

#[derive(Debug)]
enum SlotState<A> {
    Open,
    Done(A),
    Taken,
}

impl<A> Slot<A> {
    pub(crate) fn new() -> Slot<A> {
        Slot { state: Mutex::new(SlotState::Open) }
    }

    pub(crate) fn is_done(&self) -> bool {
        !matches!(*lock(&self.state), SlotState::Open)
    }

    /// Puts the answer in. The first answer stays.
    pub(crate) fn complete(&self, answer: A) {
        let mut state = lock(&self.state);
        if matches!(*state, SlotState::Open) {
            *state = SlotState::Done(answer);
        }
    }

    /// The answer, once.
    pub(crate) fn take(&self) -> Option<A> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, SlotState::Taken) {
            SlotState::Done(answer) => Some(answer),
            other => {
                *state = other;
                None
            }
        }
    }
}

/// Counts what leaders have done; callers that did not become leader sleep until it moves.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    state: Mutex<EpochState>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct EpochState {
    count: u64,
    wakers: Vec<Waker>,
}

impl Epoch {
    /// Read before trying to lead: whatever a leader finishes after this moves the count away from it, so no wake-up is lost.
    pub(crate) fn now(&self) -> u64 {
        lock(&self.state).count
    }

    /// Called by a leader after it released leadership.
    pub(crate) fn advance(&self) {
        let mut state = lock(&self.state);
        state.count += 1;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.moved.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Sleeps until the count is no longer `seen`, or for as long as given. Returns early for no reason at times.
    pub(crate) fn wait(&self, seen: u64, at_most: Option<Duration>) {
        let state = lock(&self.state);
        if state.count != seen {
            return;
        }
        match at_most {
            // The guard comes back either way, and nothing was changed under it.
            Some(at_most) => drop(self.moved.wait_timeout(state, at_most)),
            None => drop(self.moved.wait(state)),
        }
    }

    /// Has a task woken when the count moves on; `false` if it already is no longer `seen`.
    pub(crate) fn wake_later(&self, seen: u64, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        if state.count == seen {
            state.wakers.push(waker.clone());
        }
        state.count == seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_gives_the_request_back_and_an_empty_one_takes_any() {
        let ring = Ring::new(100);
        assert_eq!(ring.publish('a', 1000), Ok(()));
        assert_eq!(ring.publish('b', 1), Err('b'));
        assert_eq!(ring.drain(), ['a']);
        assert_eq!((ring.publish('b', 60), ring.publish('c', 40), ring.publish('d', 1)), (Ok(()), Ok(()), Err('d')));
        assert_eq!(ring.drain(), ['b', 'c']);
    }

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
