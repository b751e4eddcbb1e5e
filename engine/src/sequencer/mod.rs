//! L4: decide, order, link, commit, advance the watermark, poison.
//!
//! Whoever finds the sequencer free leads: it drains the ring, takes each request through the states of a commit (`engine/ARCHITECTURE.md`), makes
//! the group durable and hands out the answers. No thread of its own.
//!
//! Always: an answer leaves only after everything it was decided on is durable (or, for an append at level `Written`, handed to the system).
//! The first failed write or sync is final. Never: foreign code, reading the disk while deciding, a half-placed batch.

use std::task::Waker;
use std::time::Duration;

use crate::disk::Clock;
use crate::error::{AppendError, Poison};
use crate::ring::{Epoch, Ring, Slot};
use crate::segment::Catalog;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, MutexGuard, OnceLock, Ordering, RwLock, lock, read, try_lock, write};

mod begin;
mod core;
mod decide;
mod heads;
mod pack;
mod recover;
mod remember;
mod request;

pub(crate) use self::core::{Core, CoreOptions};
pub(crate) use begin::{begin, create};
pub(crate) use heads::{Buckets, Directory, StreamHead, name_rest};
pub(crate) use pack::{Looked, Packer};
pub(crate) use recover::{Recovered, open_segment, recover, segment_numbers, segments_behind_packed};
pub(crate) use remember::Mark;
pub use remember::Remembered;
pub(crate) use request::{Answer, PreparedEvent, PreparedRequest, Target};
pub use request::{EventReceipt, Receipt};

/// Requests waiting for a leader, in bytes of frames; also about the size of the largest commit. Large enough that a sync is paid by thousands
/// of events, small enough that a group is written in a few milliseconds.
const RING_BYTES_MAX: u64 = 8 << 20;

/// `Written` data is synced when it is older than this and somebody leads.
const UNSYNCED_NS_MAX: u64 = 1_000_000_000;

/// What readers and the sequencer share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Replaced whole by the sequencer when a segment begins or is sealed, and when one was packed.
    catalog: RwLock<Arc<Catalog>>,
    /// Moved by the sequencer, read by everybody.
    pub directory: RwLock<Directory>,
    /// Position after the last one known durable; nothing at or above it is ever acknowledged or visible. Stored with Release by the leader after a
    /// sync; the Acquire is in [`Shared::watermark`].
    watermark: AtomicU64,
    packer: Packer,
}

impl Shared {
    pub(crate) fn new(catalog: Catalog, directory: Directory, watermark: u64) -> Shared {
        Shared {
            catalog: RwLock::new(Arc::new(catalog)),
            directory: RwLock::new(directory),
            watermark: AtomicU64::new(watermark),
            packer: Packer::default(),
        }
    }

    pub(crate) fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::Acquire)
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&read(&self.catalog))
    }

    /// Puts a changed catalog in the place of the present one. Views go on with the one they have.
    fn change_catalog(&self, change: impl FnOnce(&mut Catalog)) {
        let mut place = write(&self.catalog);
        let mut catalog = (**place).clone();
        change(&mut catalog);
        *place = Arc::new(catalog);
    }
}

/// A request on its way, with the place where its answer is awaited.
#[derive(Debug)]
pub(crate) struct Submission {
    request: Option<PreparedRequest>,
    slot: Arc<Slot<Answer>>,
}

impl Drop for Submission {
    /// A submission that is dropped unanswered was lost by a leader that panicked.
    fn drop(&mut self) {
        if !self.slot.is_done() {
            let poison = Poison { doing: "the leader of a commit".into(), source: None };
            self.slot.complete(Answer::Failed(AppendError::OutcomeUnknown(Arc::new(poison))));
        }
    }
}

/// Answers that are ready to leave. They leave after leadership was released: waking a future runs foreign code.
#[derive(Debug, Default)]
struct Answers(Vec<(Submission, Answer)>);

impl Answers {
    fn deliver(self) {
        for (submission, answer) in self.0 {
            submission.slot.complete(answer);
        }
    }
}

/// The way from the ring to stable storage.
#[derive(Debug)]
pub(crate) struct Sequencer {
    ring: Ring<Submission>,
    /// Held by the leader.
    core: Mutex<Core>,
    epoch: Epoch,
    shared: Arc<Shared>,
    poison: OnceLock<Arc<Poison>>,
    closed: AtomicBool,
    /// Number of this writable open.
    opened_epoch: u64,
    /// Process that opened the log; the child of a fork is another one.
    process: u32,
}

impl Sequencer {
    pub(crate) fn new(core: Core, shared: Arc<Shared>) -> Sequencer {
        Sequencer {
            ring: Ring::new(RING_BYTES_MAX),
            opened_epoch: core.epoch,
            core: Mutex::new(core),
            epoch: Epoch::default(),
            shared,
            poison: OnceLock::new(),
            closed: AtomicBool::new(false),
            process: std::process::id(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Publishes a request; leads or waits while the ring is full.
    pub(crate) fn publish(&self, request: PreparedRequest) -> Result<Arc<Slot<Answer>>, AppendError> {
        let slot = Arc::new(Slot::new());
        let bytes = request.frames_bytes_max();
        let mut submission = Submission { request: Some(request), slot: Arc::clone(&slot) };
        loop {
            if let Some(refusal) = self.refusal() {
                submission.slot.complete(Answer::Failed(refusal.clone()));
                return Err(refusal);
            }
            let seen = self.epoch.now();
            match self.ring.publish(submission, bytes) {
                Ok(()) => return Ok(slot),
                Err(back) => submission = back,
            }
            if !self.try_lead() {
                self.epoch.wait(seen, None);
            }
        }
    }

    /// Why no append can be taken, if so.
    fn refusal(&self) -> Option<AppendError> {
        if let Some(poison) = self.poison.get() {
            Some(AppendError::Poisoned(Arc::clone(poison)))
        } else if self.closed.load(Ordering::Acquire) {
            Some(AppendError::Closed)
        } else {
            None
        }
    }

    /// Waits for an answer, leading whenever nobody else does. `None` when `at_most` has passed before.
    pub(crate) fn wait(&self, slot: &Slot<Answer>, at_most: Option<Duration>, clock: &dyn Clock) -> Option<Answer> {
        let deadline = at_most.map(|at_most| clock.monotonic_ns().saturating_add(u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX)));
        loop {
            let seen = self.epoch.now();
            if let Some(answer) = self.ready(slot) {
                return Some(answer);
            }
            let left = deadline.map(|deadline| deadline.saturating_sub(clock.monotonic_ns()));
            if left == Some(0) {
                return None;
            }
            if !self.try_lead() {
                self.epoch.wait(seen, left.map(Duration::from_nanos));
            }
        }
    }

    /// The answer, if nothing needs to be waited for.
    fn ready(&self, slot: &Slot<Answer>) -> Option<Answer> {
        slot.take().or_else(|| self.is_fork().then_some(Answer::Failed(AppendError::ForkedHandle)))
    }

    /// The answer, if it is there after leading; else the task is woken when the leader of the moment is done.
    pub(crate) fn poll(&self, slot: &Slot<Answer>, waker: &Waker) -> Option<Answer> {
        loop {
            let seen = self.epoch.now();
            if let Some(answer) = self.ready(slot) {
                return Some(answer);
            }
            if !self.try_lead() && self.epoch.wake_later(seen, waker) {
                return None;
            }
        }
    }

    pub(crate) fn is_fork(&self) -> bool {
        std::process::id() != self.process
    }

    /// Leads one group if nobody else leads; `false` if somebody does.
    pub(crate) fn try_lead(&self) -> bool {
        if self.is_fork() {
            return false;
        }
        // Declared before the lock is taken: when a leader panics, leadership is released before the panic is announced.
        let guard = PanicGuard(self);
        let Some(core) = try_lock(&self.core) else {
            std::mem::forget(guard);
            return false;
        };
        self.lead(guard, core, false);
        true
    }

    fn lead(&self, guard: PanicGuard<'_>, mut core: MutexGuard<'_, Core>, sync: bool) {
        let answers = core.run(self.ring.drain(), &self.shared, &self.poison, sync);
        drop(core);
        std::mem::forget(guard);
        // Released, then announced: whoever failed to lead meanwhile is awake before it could miss its turn.
        answers.deliver();
        self.epoch.advance();
    }

    /// Makes everything that was published durable, whatever level it asked for.
    pub(crate) fn sync(&self) -> Result<(), AppendError> {
        if self.is_fork() {
            return Err(AppendError::ForkedHandle);
        }
        let guard = PanicGuard(self);
        self.lead(guard, lock(&self.core), true);
        self.poison.get().map_or(Ok(()), |poison| Err(AppendError::Poisoned(Arc::clone(poison))))
    }

    /// Drains the ring, makes everything durable, writes the closing commit and lets the directory go. Once.
    pub(crate) fn close(&self) -> Result<(), AppendError> {
        if self.is_fork() || self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let synced = self.sync();
        self.shared.packer.stop();
        let mut core = lock(&self.core);
        // What slipped into the ring between the flag and the lock is answered, not left behind.
        let late = self.ring.drain();
        let answers = Answers(late.into_iter().map(|submission| (submission, Answer::Failed(AppendError::Closed))).collect());
        let closed = synced.and_then(|()| core.close(&self.shared, &self.poison));
        core.unlock();
        drop(core);
        answers.deliver();
        self.epoch.advance();
        closed
    }

    /// Number of this writable open.
    pub(crate) fn opened_epoch(&self) -> u64 {
        self.opened_epoch
    }
}

/// Poisons the log when a leader panics; the submissions it held answer for themselves as they are dropped.
struct PanicGuard<'a>(&'a Sequencer);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        let _ = self.0.poison.set(Arc::new(Poison { doing: "the leader of a commit".into(), source: None }));
        self.0.epoch.advance();
    }
}
