//! L4: decide, order, link, commit, advance the watermark, poison.
//!
//! Whoever finds the sequencer free leads: it drains the rings, takes each request through the states of a commit (`engine/ARCHITECTURE.md`), makes
//! the group durable and hands out the answers. No thread of its own.
//!
//! Always: an answer leaves only after everything it was decided on is durable (or, for an append at level `Written`, handed to the system).
//! The first failed write or sync is final. Never: foreign code, reading the disk while deciding, a half-placed batch.

use std::task::Waker;
use std::time::Duration;

use chainring_format::{EventId, StreamId};

use crate::condition::Durability;
use crate::disk::Clock;
use crate::error::{AppendError, Poison};
use crate::index::Index;
use crate::ring::{Full, Gate, RingSizes, Rings, Slot};
use crate::segment::{Catalog, spare_number};
use crate::sync::model::{Mutex, MutexGuard, fence, lock, try_lock};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, RwLock, read, write};

mod begin;
mod brakes;
mod catch_up;
mod chores;
mod cold;
mod core;
mod decide;
mod feed;
mod flights;
mod follow;
mod heads;
mod index;
mod live;
mod pack;
mod parcels;
mod pipeline;
mod place;
mod recover;
mod remember;
mod request;
mod said;
mod statement;
mod table;

pub(crate) use self::core::CoreOptions;
use self::core::{Core, Intake};
pub(crate) use begin::{Founding, begin, create};
pub(crate) use brakes::{Brakes, Facts, Grounds, RULES, STOPS, has_read, is_engines};
pub use brakes::{Requirement, Stop};
pub(crate) use chores::Chores;
use cold::Births;
use feed::Feed;
pub(crate) use feed::{LinkedRecord, Stretch};
pub(crate) use heads::Buckets;
use heads::Directory;
pub(crate) use pack::{Looked, Packer};
pub(crate) use recover::{Recovered, list, numbers_among, recover, segment_numbers, segments_behind_packed};
pub use remember::Remembered;
pub(crate) use remember::{Mark, hex, with_check, without_check};
pub(crate) use request::{Answer, Checked, Content, Load, Parcel, PreparedEvent, Required, StreamKey};
pub use request::{EventReceipt, EventReceipts, Receipt};
pub(crate) use said::{Said, say, texts};
pub(crate) use statement::{SealingTurn, StatementDraft};
pub(crate) use table::zeroed;

use follow::Follower;
use live::LiveWriter;
use pipeline::Pipeline;

/// The rings: how many, and how many requests and bytes each holds. Together they also bound a commit: large enough that a sync is paid by thousands
/// of events, small enough that a group is written in a few milliseconds.
pub(crate) const RING_SIZES: RingSizes = RingSizes { rings: 4, slots: 4096, bytes: 2 << 20 };
/// Bytes of batches and large events that wait for a leader.
const BESIDE_BYTES_MAX: u64 = 16 << 20;

/// Commits that may be in flight. More would only make them smaller: they share one device.
const FLIGHTS_MAX: usize = 4;

/// `Written` data is synced when it is older than this and somebody leads.
const UNSYNCED_NS_MAX: u64 = 1_000_000_000;

/// Whether this is the name of a segment that was made ready and not begun.
pub(crate) fn is_spare(name: &str) -> bool {
    spare_number(name).is_some()
}

/// What readers and the sequencer share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Replaced whole by the sequencer when a segment begins or is sealed, and when one was packed.
    catalog: RwLock<Arc<Catalog>>,
    /// Moved by the sequencer, read by everybody through [`Shared::directory`].
    directory: RwLock<Directory>,
    /// Position after the last one known durable; nothing at or above it is ever acknowledged or visible. Stored with Release by the leader after a
    /// sync; the Acquire is in [`Shared::watermark`].
    watermark: AtomicU64,
    /// Moves on with the watermark, and when nothing comes any more. Those who follow the log sleep there.
    pub moved: Gate,
    /// The watermark does not move any more. Set with Release behind its last move; the Acquire is in [`Shared::has_ended`].
    has_ended: AtomicBool,
    packer: Packer,
    /// What is known of sealed segments.
    pub index: Arc<Index>,
    /// Everything below is in the index. Stored with Release behind a new run; the Acquire is in `cold.rs`.
    indexed_to: AtomicU64,
    /// As in the directory. Stored with Release behind what the index knows by then; the Acquire is in `cold.rs`.
    oblivion: AtomicU64,
    /// Records of the engine's own. Relaxed: counted for those who want to know how large the store is.
    engine_records: AtomicU64,
    births: Births,
    /// For whoever seals.
    pub feed: Feed,
    /// What is in force at the end of the log. Replaced by the leader; for whoever writes.
    brakes: RwLock<Arc<Brakes>>,
    /// Of a store that was opened for reading: how it follows its writer. Held by whoever looks for news.
    followed: Mutex<Option<Box<Follower>>>,
}

impl Shared {
    pub(crate) fn new(catalog: Catalog, directory: Directory, watermark: u64, engine_records: u64, index: Arc<Index>) -> Shared {
        Shared {
            indexed_to: AtomicU64::new(index.runs().end()),
            index,
            engine_records: AtomicU64::new(engine_records),
            oblivion: AtomicU64::new(directory.oblivion()),
            births: Births::default(),
            feed: Feed::default(),
            brakes: RwLock::default(),
            followed: Mutex::new(None),
            catalog: RwLock::new(Arc::new(catalog)),
            directory: RwLock::new(directory),
            watermark: AtomicU64::new(watermark),
            moved: Gate::default(),
            has_ended: AtomicBool::new(false),
            packer: Packer::default(),
        }
    }

    pub(crate) fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::Acquire)
    }

    fn note_engine_record(&self) {
        self.engine_records.fetch_add(1, Ordering::Relaxed);
    }

    /// Durable events.
    pub(crate) fn event_count(&self) -> u64 {
        self.watermark().saturating_sub(self.engine_records.load(Ordering::Relaxed))
    }

    /// The one who writes is in this process, and says what moves.
    pub(crate) fn is_written_here(&self) -> bool {
        lock(&self.followed).is_none()
    }

    /// Nothing becomes durable any more. Asked before the watermark, it says whether that was the last one.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Says that nothing becomes durable any more.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.moved.advance();
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

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Submission {
    load: Load,
    durability: Durability,
    reply: Reply,
    checked: Checked,
}

impl Submission {
    /// Ids of the event that travels in the ring.
    fn lone(&self) -> Option<(&StreamId, &EventId)> {
        match &self.load {
            Load::Event(event) => Some(event.ids()),
            Load::Parcel(_) | Load::Statement(_) => None,
        }
    }
}

/// Where an answer is awaited. It is given exactly once.
#[derive(Debug)]
pub(crate) struct Reply(Arc<Slot<Answer>>);

impl Reply {
    fn send(self, answer: Answer) {
        self.0.complete(answer);
    }
}

impl Drop for Reply {
    /// A request that is dropped unanswered was lost by a leader that panicked.
    fn drop(&mut self) {
        if !self.0.is_done() {
            let poison = Poison { doing: "the leader of a commit".into(), source: None };
            self.0.complete(Answer::Failed(AppendError::OutcomeUnknown(Arc::new(poison))));
        }
    }
}

/// A single event on its way into a ring, borrowed from its caller.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub event: PreparedEvent,
    pub content: Content<'a>,
}

impl Draft<'_> {
    /// Writes name, metadata and body one behind the other.
    fn write_to(&self, out: &mut [u8]) {
        let (name, rest) = out.split_at_mut(self.content.name.len());
        let (metadata, body) = rest.split_at_mut(self.content.metadata.len());
        name.copy_from_slice(self.content.name);
        metadata.copy_from_slice(self.content.metadata);
        body.copy_from_slice(self.content.body);
    }
}

/// How long a caller is willing to wait for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until this, by the monotonic clock.
    Until(u64),
    /// As long as it takes.
    Unbounded,
}

/// What the leader works with.
#[derive(Debug)]
struct Helm {
    core: Core,
    intake: Intake,
}

/// The way from the rings to stable storage.
#[derive(Debug)]
pub(crate) struct Sequencer {
    pipeline: Pipeline,
    /// Held by the leader.
    helm: Mutex<Helm>,
    /// Bytes published since somebody led last; a hint, for those who only submit.
    waiting_bytes: AtomicU64,
    closed: AtomicBool,
    /// Somebody seals the log. Two would each go on from the seal that the other has left behind.
    is_being_sealed: AtomicBool,
    /// Number of this writable open.
    opened_epoch: u64,
    /// Process that opened the log; the child of a fork is another one.
    process: u32,
    /// That was noticed: whoever waits is told.
    is_forked: AtomicBool,
    /// Segments that there were when work for the index failed; 0 if it has not.
    index_failed_at: AtomicU64,
}

impl Sequencer {
    fn new(core: Core, intake: Intake, rings: Arc<Rings<Submission>>, shared: Arc<Shared>, live: LiveWriter) -> Sequencer {
        Sequencer {
            opened_epoch: core.epoch,
            pipeline: Pipeline::new(rings, shared, Arc::clone(&core.environment.disk), live),
            helm: Mutex::new(Helm { core, intake }),
            waiting_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            is_being_sealed: AtomicBool::new(false),
            process: std::process::id(),
            is_forked: AtomicBool::new(false),
            index_failed_at: AtomicU64::new(0),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.pipeline.shared
    }

    /// Publishes a single event.
    pub(crate) fn publish_event(
        &self,
        mut draft: Draft<'_>,
        durability: Durability,
        patience: Patience,
        clock: &dyn Clock,
    ) -> Result<Arc<Slot<Answer>>, AppendError> {
        let rings = &self.pipeline.rings;
        let bytes = draft.event.content_bytes();
        if bytes > rings.sizes().request_bytes_max() {
            let mut parcel = self.parcel();
            parcel.bytes.resize(bytes, 0);
            draft.write_to(&mut parcel.bytes);
            parcel.events.push(draft.event);
            return self.publish_parcel(parcel, durability, patience, clock);
        }
        let checked = self.look_up(std::slice::from_mut(&mut draft.event), &mut []).map_err(AppendError::Read)?;
        let lane = draft.event.stream.id.bucket();
        let mut claim = self.claim(|| rings.claim(lane, bytes), patience, clock)?;
        draft.write_to(claim.bytes());
        let slot = Arc::new(Slot::new());
        let submission = Submission { load: Load::Event(draft.event), durability, reply: Reply(Arc::clone(&slot)), checked };
        if rings.publish(lane, claim, submission) {
            self.pipeline.gate.advance();
            self.pipeline.hand_over();
        }
        self.note_waiting(bytes as u64);
        Ok(slot)
    }

    /// An empty parcel, to be filled and published.
    pub(crate) fn parcel(&self) -> Box<Parcel> {
        self.pipeline.parcels.take()
    }

    /// Publishes a request that has its own memory.
    pub(crate) fn publish_parcel(
        &self,
        mut parcel: Box<Parcel>,
        durability: Durability,
        patience: Patience,
        clock: &dyn Clock,
    ) -> Result<Arc<Slot<Answer>>, AppendError> {
        let checked = self.look_up(&mut parcel.events, &mut parcel.required).map_err(AppendError::Read)?;
        let rings = &self.pipeline.rings;
        let bytes = parcel.bytes.len() as u64;
        self.claim(|| rings.claim_beside(bytes), patience, clock)?;
        let lane = parcel.events.first().map_or(0, |event| event.stream.id.bucket());
        let claim = match self.claim(|| rings.claim(lane, 0), patience, clock) {
            Ok(claim) => claim,
            Err(error) => {
                rings.give_back_beside(bytes);
                return Err(error);
            }
        };
        let slot = Arc::new(Slot::new());
        let submission = Submission { load: Load::Parcel(parcel), durability, reply: Reply(Arc::clone(&slot)), checked };
        if rings.publish(lane, claim, submission) {
            self.pipeline.gate.advance();
            self.pipeline.hand_over();
        }
        self.note_waiting(bytes);
        Ok(slot)
    }

    /// Takes room that `try_claim` asks for; leads or waits while there is none, as far as the caller's patience goes.
    fn claim<C>(&self, mut try_claim: impl FnMut() -> Result<C, Full>, patience: Patience, clock: &dyn Clock) -> Result<C, AppendError> {
        let left = || match patience {
            Patience::Unbounded => None,
            Patience::None => Some(Duration::ZERO),
            Patience::Until(deadline_ns) => Some(Duration::from_nanos(deadline_ns.saturating_sub(clock.monotonic_ns()))),
        };
        let mut ready = || match self.refusal() {
            Some(refusal) => Some(Err(refusal)),
            // The child of a fork may publish - it has the rings to itself - but nobody will ever make room or answer.
            None => try_claim().ok().map(Ok).or_else(|| self.is_fork().then_some(Err(AppendError::ForkedHandle))),
        };
        if let Some(claimed) = ready() {
            return claimed;
        }
        let claimed = self.pipeline.gate.wait(ready, || self.work(None), left);
        self.pipeline.hand_over();
        claimed.unwrap_or(Err(AppendError::Full))
    }

    /// Counts what waits for a leader; when it is much, and the disk needs nobody to wait for it, a commit is started here.
    fn note_waiting(&self, bytes: u64) {
        // Relaxed: a hint.
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.pipeline.kick_bytes().is_some_and(|kick| waiting >= kick) && self.try_lead(false) {
            self.pipeline.hand_over();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Why no append can be taken, if so.
    fn refusal(&self) -> Option<AppendError> {
        if let Some(poison) = self.pipeline.poison.get() {
            Some(AppendError::Poisoned(Arc::clone(poison)))
        } else if self.is_closed() {
            Some(AppendError::Closed)
        } else {
            None
        }
    }

    /// Waits for an answer, leading whenever nobody else does. `None` when `at_most` has passed before.
    pub(crate) fn wait(&self, slot: &Arc<Slot<Answer>>, at_most: Option<Duration>, clock: &dyn Clock) -> Option<Answer> {
        let deadline = at_most.map(|at_most| clock.monotonic_ns().saturating_add(u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX)));
        let left = || deadline.map(|deadline| Duration::from_nanos(deadline.saturating_sub(clock.monotonic_ns())));
        self.pipeline.duty.wait(slot, || self.ready(slot), || self.work(left()), left, || self.pipeline.has_work())
    }

    /// Does what can be done for others and oneself: leads, or lands what has come back from the disk. `false` if there is nothing but to sleep.
    fn work(&self, at_most: Option<Duration>) -> bool {
        self.try_lead(true) || !self.is_forked.load(Ordering::Relaxed) && self.pipeline.reap(at_most)
    }

    /// The answer, if nothing needs to be waited for.
    fn ready(&self, slot: &Slot<Answer>) -> Option<Answer> {
        // Relaxed: this process has one thread if it is one that notices.
        slot.take().or_else(|| self.is_forked.load(Ordering::Relaxed).then_some(Answer::Failed(AppendError::ForkedHandle)))
    }

    /// The answer, if it is there after leading; else the task is woken when something has moved on.
    pub(crate) fn poll(&self, slot: &Slot<Answer>, waker: &Waker) -> Option<Answer> {
        loop {
            let seen = self.pipeline.gate.now();
            if let Some(answer) = self.ready(slot) {
                return Some(answer);
            }
            if !self.work(Some(Duration::ZERO)) && self.pipeline.gate.wake_later(seen, waker) {
                return None;
            }
        }
    }

    /// Whether this is the child of a fork. A call of the system: not for every append.
    pub(crate) fn is_fork(&self) -> bool {
        let is_forked = std::process::id() != self.process;
        if is_forked {
            self.is_forked.store(true, Ordering::Relaxed);
        }
        is_forked
    }

    /// Leads one group if nobody else leads and there is one; `false` if there was nothing to do. Who does not wait for the outcome does not wait for
    /// the disk either, if that can be had.
    pub(crate) fn try_lead(&self, waits: bool) -> bool {
        loop {
            if self.is_fork() {
                // Something has happened, in a way: whoever waits can be told.
                return true;
            }
            if self.pipeline.in_flight() >= FLIGHTS_MAX {
                // Whatever lands next wakes those who could not lead.
                return false;
            }
            // Declared before the lock is taken: when a leader panics, leadership is released before the panic is announced.
            let guard = PanicGuard(self);
            // Pairs with the fence below.
            fence(Ordering::SeqCst);
            let led = try_lock(&self.helm).map(|helm| self.lead(helm, waits, false));
            std::mem::forget(guard);
            // Whoever published and then found the helm taken relies on whoever held it. Published before its fence, looked at after this one:
            // one of the two sees the other.
            fence(Ordering::SeqCst);
            match led {
                None => return false,
                Some(true) => return true,
                Some(false) if self.pipeline.rings.has_news() => {}
                Some(false) => return false,
            }
        }
    }

    fn lead(&self, mut helm: MutexGuard<'_, Helm>, waits: bool, sync: bool) -> bool {
        self.waiting_bytes.store(0, Ordering::Relaxed);
        let is_alone = self.pipeline.in_flight() == 0;
        let Helm { core, intake } = &mut *helm;
        let led = core.lead(intake, &self.pipeline, sync);
        drop(helm);
        match led.commit {
            Some(commit) if waits && is_alone && self.pipeline.writes_inline(commit.range.len()) => self.pipeline.write(commit),
            Some(commit) => {
                self.pipeline.start(commit);
                // Somebody has to wait for it, and for what was published meanwhile, if this thread does not.
                self.pipeline.gate.advance();
            }
            None if led.did_something => self.pipeline.gate.advance(),
            None => {}
        }
        led.did_something
    }

    /// Makes everything that was published durable, whatever level it asked for.
    pub(crate) fn sync(&self) -> Result<(), AppendError> {
        if self.is_fork() {
            return Err(AppendError::ForkedHandle);
        }
        let guard = PanicGuard(self);
        self.lead(lock(&self.helm), true, true);
        std::mem::forget(guard);
        self.pipeline.wait_for_all();
        self.pipeline.hand_over();
        self.pipeline.poison.get().map_or(Ok(()), |poison| Err(AppendError::Poisoned(Arc::clone(poison))))
    }

    /// Drains the ring, makes everything durable, writes the closing commit and lets the directory go. Once.
    pub(crate) fn close(&self) -> Result<(), AppendError> {
        if self.is_fork() || self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.shared().packer.stop();
        self.shared().index.stop();
        let mut helm = lock(&self.helm);
        let Helm { core, intake } = &mut *helm;
        // What slipped into the rings before the flag was seen is appended like everything before it.
        if let Some(commit) = core.lead(intake, &self.pipeline, true).commit {
            self.pipeline.write(commit);
        }
        self.pipeline.wait_for_all();
        let closed = core.close(&self.pipeline);
        let closed = match self.pipeline.poison.get() {
            Some(poison) => closed.and(Err(AppendError::Poisoned(Arc::clone(poison)))),
            None => closed,
        };
        core.unlock();
        // What comes now is answered, not left behind.
        core.lead(intake, &self.pipeline, false);
        let is_sound = closed.is_ok() && self.pipeline.poison.get().is_none();
        drop(helm);
        if is_sound {
            self.index_at_close();
        }
        self.shared().end();
        self.pipeline.gate.advance();
        self.pipeline.hand_over();
        closed
    }

    /// Clears away what a writer that died has made ready, later. What would be in the way of this one goes at once.
    pub(crate) fn remove_later(&self, mut spares: Vec<String>) {
        let mut helm = lock(&self.helm);
        let number = helm.core.writer.header().number.get();
        spares.retain(|name| {
            let is_in_the_way = spare_number(name).is_none_or(|spare| spare > number);
            if is_in_the_way {
                let _ = self.pipeline.disk().remove(name);
            }
            !is_in_the_way
        });
        helm.core.leftovers = spares;
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
        self.0.pipeline.poison_with(Poison { doing: "the leader of a commit".into(), source: None });
    }
}
