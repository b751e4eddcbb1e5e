//! What a program might do with a log: create it, append alone and in batches from several threads, sync, pack, close, open again; with other files being
//! written in the same file system, whose writes travel between the log's.
//!
//! The seed fixes the plan. When the kernel writes what, it does not fix.

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chainring::{AppendError, Durability, Event, EventId, Log, OpenError, Options, PackError, Pending, Request, Store};

use rustix::fs::{Advice, fadvise};

use crate::device::Device;
use crate::model::{Found, Level, Planned, Promise, content};
use crate::random::Random;

/// Why a workload ended before its time.
#[derive(Debug)]
pub(crate) enum Stopped {
    Open(OpenError),
    /// The error, and what the log still showed afterwards.
    Append(AppendError, Vec<Found>),
    /// After a failure the log did something that it may not.
    Wrong(String),
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stopped::Open(error) => write!(f, "open: {error}"),
            Stopped::Append(error, shown) => write!(f, "append: {error}; {} events shown", shown.len()),
            Stopped::Wrong(why) => f.write_str(why),
        }
    }
}

/// The smallest there are: rotations are frequent.
pub(crate) const SEGMENT_BYTES_SMALL: u64 = 64 << 10;

/// How much is done.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) segment_bytes: u64,
    pub(crate) sessions: u32,
    pub(crate) threads: u32,
    pub(crate) requests: u64,
    /// Of 16 appends so many ask only for `Written`.
    pub(crate) written: u64,
    pub(crate) noise: bool,
    /// Small events, each alone in its commit: mostly padding.
    pub(crate) lone: bool,
    /// Sealed segments are packed while others append.
    pub(crate) packs: bool,
    /// Somebody follows, and believes what he sees.
    pub(crate) followed: bool,
}

impl Shape {
    pub(crate) fn draw(random: &mut Random) -> Shape {
        let lone = random.one_in(3);
        Shape {
            segment_bytes: if random.one_in(3) && !lone { 256 << 10 } else { SEGMENT_BYTES_SMALL },
            sessions: 1 + random.below(3) as u32,
            threads: if random.one_in(3) { 2 + random.below(6) as u32 } else { 1 },
            requests: if lone { 250 } else { 10 + random.below(60) },
            written: if random.one_in(3) && !lone { 14 } else { 4 },
            noise: random.below(3) > 0,
            lone,
            packs: random.below(3) > 0,
            followed: random.below(3) > 0,
        }
    }
}

/// Opens for writing. Stores with small segments also keep the mark beside them, so that both ways are tried.
pub(crate) fn open(store: &Path, segment_bytes: u64) -> Result<Log, OpenError> {
    Options::new().segment_bytes(segment_bytes).remember(segment_bytes == SEGMENT_BYTES_SMALL).open(store)
}

fn event(random: &mut Random) -> Event {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random.next().to_le_bytes());
    id[8..].copy_from_slice(&random.next().to_le_bytes());
    let length = match random.below(16) {
        0 => 0,
        1 | 2 => random.below(9000),
        // A page and more of zeros: what a torn write could be taken for.
        3 => return Event::new(format!("s{}", random.below(7)), "Zeros").id(EventId(id)).body(vec![0; random.below(9000) as usize]),
        _ => random.below(400),
    };
    let body = random.fill(length as usize);
    Event::new(format!("s{}", random.below(7)), "Happened").id(EventId(id)).body(body)
}

/// A request: mostly an event alone, sometimes a batch over several streams, seldom one that is larger than a segment.
pub(crate) fn plan(random: &mut Random, thread: u32, segment_bytes: u64) -> Planned {
    if random.one_in(40) {
        let each = segment_bytes / 8;
        let events = (0..10)
            .map(|_| {
                let body = random.fill(each as usize);
                event(random).body(body)
            })
            .collect();
        return Planned { thread, events, batch: true };
    }
    let batch = random.one_in(3);
    let count = if batch { 1 + random.below(6) } else { 1 };
    Planned { thread, events: (0..count).map(|_| event(random)).collect(), batch }
}

/// A small event alone.
fn plan_lone(random: &mut Random, thread: u32) -> Planned {
    let length = random.below(60) as usize;
    let body = random.fill(length);
    Planned { thread, events: vec![event(random).body(body)], batch: false }
}

impl Planned {
    pub(crate) fn request(&self) -> Request {
        if self.batch { Request::batch(self.events.clone()) } else { Request::event(self.events[0].clone()) }
    }
}

/// Runs the whole of it. Every promise the engine makes goes onto the device's tape as soon as it is made.
pub(crate) fn run(device: &Device, store: &Path, level: &Level, shape: Shape, seed: u64) -> Result<(), Box<Stopped>> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if shape.noise {
            let done = &done;
            scope.spawn(move || noise(store, done, seed));
        }
        if shape.followed {
            let done = &done;
            scope.spawn(move || follow(device, store, done));
        }
        let outcome = (0..shape.sessions).try_for_each(|session| run_session(device, store, level, shape, session, seed));
        done.store(true, Ordering::Relaxed);
        outcome
    })
}

fn run_session(device: &Device, store: &Path, level: &Level, shape: Shape, session: u32, seed: u64) -> Result<(), Box<Stopped>> {
    let log = open(store, shape.segment_bytes).map_err(|error| Box::new(Stopped::Open(error)))?;
    device.promise(Promise::Opened);
    let done = AtomicBool::new(false);
    let appended = std::thread::scope(|scope| {
        let packing = shape.packs.then(|| scope.spawn(|| pack_many(&log, &done)));
        let handles: Vec<_> = (0..shape.threads)
            .map(|thread| {
                let (log, number) = (&log, session * shape.threads + thread);
                scope.spawn(move || append_many(device, log, level, shape, number, Random::new(seed * 1000 + u64::from(number))))
            })
            .collect();
        let outcomes: Vec<_> = handles.into_iter().map(|handle| handle.join().expect("a workload does not panic")).collect();
        done.store(true, Ordering::Relaxed);
        let packed = packing.map_or(Ok(()), |packing| packing.join().expect("a workload does not panic"));
        packed.map_err(|why| Box::new(Stopped::Wrong(why)))?;
        outcomes.into_iter().collect::<Result<(), AppendError>>().map_err(|error| Box::new(after_failure(&log, error)))
    });
    appended?;
    let submitted = level.submitted();
    // Closing consumes the log, so there is nothing left to look at.
    log.close().map_err(|error| Box::new(Stopped::Append(error, Vec::new())))?;
    device.promise(Promise::Synced(submitted));
    Ok(())
}

/// Follows, from one session to the next, as another process would. What somebody is shown who follows is durable: he passes every event on as promised.
fn follow(device: &Device, store: &Path, done: &AtomicBool) {
    let is_done = || done.load(Ordering::Relaxed);
    let pause = Duration::from_micros(300);
    let opened = loop {
        if is_done() {
            return;
        }
        match Store::open(store) {
            Ok(opened) => break opened,
            Err(_) => std::thread::sleep(pause),
        }
    };
    // What was there when nobody wrote may be what a failed writer has left.
    let mut subscription = opened.follow(opened.latest().end()).look_every(pause);
    while let Some(batch) = subscription.next_batch_timeout(Duration::from_millis(5)) {
        let shown: Vec<_> = batch.map_while(Result::ok).map(|event| (event.position().0, event.link(), event.event_id())).collect();
        if !shown.is_empty() {
            device.promise(Promise::Durable(shown));
        }
        if is_done() {
            return;
        }
    }
}

/// Packs whatever was sealed, until the others are done. A device may fail it; the log may not call its own bytes damaged.
fn pack_many(log: &Log, done: &AtomicBool) -> Result<(), String> {
    loop {
        let is_last = done.load(Ordering::Relaxed);
        match log.pack() {
            Ok(report) => match report.failed.iter().find(|failure| matches!(failure.error, PackError::Damaged(_))) {
                None => {}
                Some(failure) => return Err(format!("packing {}: {}", failure.segment, failure.error)),
            },
            Err(AppendError::Poisoned(_)) => return Ok(()),
            Err(error) => return Err(format!("packing: {error:?}")),
        }
        if is_last {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// A log that failed takes nothing more, and still shows what is known durable.
fn after_failure(log: &Log, error: AppendError) -> Stopped {
    if matches!(error, AppendError::OutcomeUnknown(_) | AppendError::Poisoned(_)) {
        match log.append(Event::new("late", "Late")) {
            Err(AppendError::Poisoned(_)) => {}
            other => return Stopped::Wrong(format!("after {error:?} an append was answered with {other:?}")),
        }
    }
    match content(log) {
        Ok(shown) => Stopped::Append(error, shown),
        // A file system that has given up refuses reads, too.
        Err(why) if why.contains("os error 5") => Stopped::Append(error, Vec::new()),
        Err(why) => Stopped::Wrong(format!("after {error:?}: {why}")),
    }
}

/// A request that was handed in.
type Sent = (Vec<Event>, Durability, Pending);

/// One thread: a few requests in flight, most of them waited for.
fn append_many(device: &Device, log: &Log, level: &Level, shape: Shape, thread: u32, mut random: Random) -> Result<(), AppendError> {
    let mut pending = Vec::new();
    let appended = append_some(device, log, level, shape, thread, &mut random, &mut pending);
    // Also behind an error: what others were answered counts.
    appended.and(settle(device, level, &mut pending))
}

fn append_some(
    device: &Device,
    log: &Log,
    level: &Level,
    shape: Shape,
    thread: u32,
    random: &mut Random,
    pending: &mut Vec<Sent>,
) -> Result<(), AppendError> {
    for _ in 0..shape.requests / u64::from(shape.threads) + 1 {
        let planned = if shape.lone { plan_lone(random, thread) } else { plan(random, thread, shape.segment_bytes) };
        let durability = if random.below(16) < shape.written { Durability::Written } else { Durability::Durable };
        let (request, events) = (planned.request().durability(durability), planned.events.clone());
        level.plan(planned);
        let receipt = log.submit(request).inspect_err(|error| take_back_if_refused(level, &events, error))?;
        pending.push((events, durability, receipt));
        if shape.lone || random.one_in(3) {
            settle(device, level, pending)?;
        }
        if random.one_in(15) {
            let mine: Vec<_> = level.submitted().into_iter().filter(|(other, _)| *other == thread).collect();
            log.sync()?;
            // Everybody has an answer. What was refused was not appended.
            settle(device, level, pending)?;
            device.promise(Promise::Synced(mine));
        }
    }
    Ok(())
}

/// Waits for every answer; the first error among them.
fn settle(device: &Device, level: &Level, pending: &mut Vec<Sent>) -> Result<(), AppendError> {
    let mut settled = Ok(());
    for (events, durability, receipt) in pending.drain(..) {
        match receipt.wait() {
            Ok(receipt) if durability == Durability::Durable => device.promise(Promise::durable(&receipt, &events)),
            Ok(_) => {}
            Err(error) => {
                take_back_if_refused(level, &events, &error);
                settled = settled.and(Err(error));
            }
        }
    }
    settled
}

/// Only of an unknown outcome nobody knows.
fn take_back_if_refused(level: &Level, events: &[Event], error: &AppendError) {
    if !matches!(error, AppendError::OutcomeUnknown(_)) {
        level.take_back(events[0].id);
    }
}

/// Files that come, grow and go; nothing is promised about them. And pages of the log that the kernel writes before anybody asks it to, in any order, as it
/// does when memory is short. Errors are somebody else's.
fn noise(store: &Path, done: &AtomicBool, seed: u64) {
    let mut random = Random::new(seed ^ 0xFEED);
    let room = store.parent().unwrap_or(store).join("noise");
    let _ = fs::create_dir_all(&room);
    while !done.load(Ordering::Relaxed) {
        let path = room.join(format!("{}", random.below(20)));
        match random.below(12) {
            0 => drop(fs::remove_file(&path)),
            1 => drop(fs::rename(&path, room.join(format!("{}", random.below(20))))),
            2 => drop(fs::File::open(&path).and_then(|file| file.sync_all())),
            3..=5 => {
                let length = random.below(40_000) as usize;
                drop(fs::write(&path, random.fill(length)));
            }
            _ => drop(write_back(store, &mut random)),
        }
        std::thread::sleep(Duration::from_micros(random.below(2000)));
    }
}

/// Starts writing some pages of a segment, without a flush.
fn write_back(store: &Path, random: &mut Random) -> io::Result<()> {
    let names: Vec<_> = fs::read_dir(store)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let Some(path) = names.get(random.below(names.len() as u64) as usize) else { return Ok(()) };
    let file = fs::File::open(path)?;
    let pages = file.metadata()?.len().div_ceil(4096);
    for _ in 0..1 + random.below(4) {
        // Before it drops pages that are clean, the kernel starts writing those that are not.
        let length = NonZeroU64::new((1 + random.below(3)) * 4096);
        fadvise(&file, random.below(pages) * 4096, length, Advice::DontNeed)?;
    }
    Ok(())
}
