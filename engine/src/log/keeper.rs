//! The thread that does what nobody waits for.
//!
//! It starts with the first append, looks around every millisecond while something goes on, and sleeps until it is called when nothing does. An
//! append that somebody waits for never needs it.

use std::thread::{self, JoinHandle};

use crate::disk::Clock;
use crate::sequencer::{Chores, Sequencer};
use crate::sync::model::{Futex, Mutex, lock};
use crate::sync::{Arc, AtomicBool, Ordering};

/// The thread of one log, once it has started.
#[derive(Debug)]
pub(super) struct Keeper {
    bell: Arc<Bell>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Set once the thread was started, or could not be.
    has_started: AtomicBool,
    is_wanted: bool,
}

#[derive(Debug, Default)]
struct Bell {
    word: Futex,
    /// The thread sleeps, or is about to, until it is called.
    is_asleep: AtomicBool,
    is_over: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        self.word.advance();
        self.word.wake(1);
    }
}

impl Keeper {
    pub(super) fn new(is_wanted: bool) -> Keeper {
        Keeper { bell: Arc::default(), thread: Mutex::new(None), has_started: AtomicBool::new(false), is_wanted }
    }

    /// Calls the keeper: there is something to do that nobody waits for.
    pub(super) fn call(&self, sequencer: &Arc<Sequencer>, clock: &Arc<dyn Clock>) {
        if !self.is_wanted {
            return;
        }
        // Relaxed: whoever sees it too late finds the lock.
        if !self.has_started.load(Ordering::Relaxed) {
            self.start(sequencer, clock);
        }
        // A look before the swap, which every append would pay. Seen too late it costs nothing but time: the keeper looks around once more after it has
        // said that it sleeps.
        if self.bell.is_asleep.load(Ordering::Relaxed) && self.bell.is_asleep.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    fn start(&self, sequencer: &Arc<Sequencer>, clock: &Arc<dyn Clock>) {
        let mut thread = lock(&self.thread);
        if self.has_started.swap(true, Ordering::Relaxed) {
            return;
        }
        let (bell, sequencer, clock) = (Arc::clone(&self.bell), Arc::clone(sequencer), Arc::clone(clock));
        // Without a thread nothing is lost but time: appends that nobody waits for become durable with the next that somebody does.
        *thread = thread::Builder::new().name("chainring-keeper".into()).spawn(move || keep(&bell, &sequencer, &*clock)).ok();
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&self) {
        self.bell.is_over.store(true, Ordering::SeqCst);
        self.bell.ring();
        let thread = lock(&self.thread).take();
        // A log can be dropped by the code that a waker runs, in this very thread.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            // A keeper that panicked has poisoned the log, which says more than this.
            let _ = thread.join();
        }
    }
}

fn keep(bell: &Bell, sequencer: &Arc<Sequencer>, clock: &dyn Clock) {
    let mut chores = Chores::default();
    let mut indexer: Option<JoinHandle<()>> = None;
    while !bell.is_over.load(Ordering::SeqCst) {
        let seen = bell.word.now();
        if indexer.as_ref().is_none_or(JoinHandle::is_finished) && sequencer.has_index_work() {
            indexer = start_indexer(sequencer);
        }
        match sequencer.tick(&mut chores, clock) {
            Some(pause) => bell.word.sleep(seen, Some(pause)),
            None => {
                bell.is_asleep.store(true, Ordering::SeqCst);
                // What came before that was said may have been silent.
                if sequencer.tick(&mut chores, clock).is_none() && !bell.is_over.load(Ordering::SeqCst) {
                    bell.word.sleep(seen, None);
                }
                bell.is_asleep.store(false, Ordering::SeqCst);
            }
        }
    }
    sequencer.stop_index();
    if let Some(indexer) = indexer {
        let _ = indexer.join();
    }
}

/// Starts a thread that brings what has ended into the index, and ends with that. It reads whole segments, which the keeper has no time for.
fn start_indexer(sequencer: &Arc<Sequencer>) -> Option<JoinHandle<()>> {
    let sequencer = Arc::clone(sequencer);
    let index = move || {
        while sequencer.has_index_work() {
            // What fails is tried again when another segment has ended.
            let _ = sequencer.index_next();
        }
    };
    // Without a thread nothing is lost but time and memory.
    thread::Builder::new().name("chainring-indexer".into()).spawn(index).ok()
}
