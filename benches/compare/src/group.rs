//! A group commit in front of a store that has none: whoever comes first appends for all that wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::store::{Event, Failure, Store};

/// Leader and followers. Two conditions in turn: only those are woken who are answered, and one that leads next.
pub struct Grouped<S> {
    store: S,
    state: Mutex<State>,
    turns: [Condvar; 2],
}

#[derive(Default)]
struct State {
    gathering: Vec<Event>,
    /// Number of the group that is gathered.
    group: u64,
    /// Groups that are durable.
    done: u64,
    is_led: bool,
    error: Option<String>,
}

impl<S: Store> Grouped<S> {
    pub fn new(store: S) -> Grouped<S> {
        Grouped { store, state: Mutex::default(), turns: [Condvar::new(), Condvar::new()] }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Store for Grouped<S> {
    fn append(&self, mut events: Vec<Event>) -> Result<(), Failure> {
        let mut state = self.locked();
        state.gathering.append(&mut events);
        let mine = state.group;
        let turn = &self.turns[(mine % 2) as usize];
        while state.is_led && state.done <= mine {
            state = turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(error) = &state.error {
            return Err(error.clone().into());
        }
        if state.done > mine {
            return Ok(());
        }
        state.is_led = true;
        state.group += 1;
        let group = std::mem::take(&mut state.gathering);
        drop(state);
        let outcome = self.store.append(group);
        let mut state = self.locked();
        state.is_led = false;
        state.done = mine + 1;
        state.error = outcome.err().map(|error| error.to_string());
        turn.notify_all();
        self.turns[((mine + 1) % 2) as usize].notify_one();
        state.error.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Box::new(self.store).close()
    }
}
