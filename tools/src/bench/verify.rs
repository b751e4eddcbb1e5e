//! `bench verify`: every checksum, link and digest of a store, over and over.
//!
//! Beside it stands a bare loop: the same hashes over the same bodies and metadata, by as many threads, and nothing else: no file, no chain to
//! follow, no rule to check. It hashes many events at a time, as the engine does, and then once more one after the other, as whoever knows only the hash
//! functions would.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chainring::{EventId, EventRef, Store, VerifyOptions, verify};
use chainring_format::hash::{EventContent, Hash, Leaf, LeafFields, body_commit, event_digest};
use chainring_format::lanes::{LaneBody, LaneEvent, Lanes};

use super::Ground;
use super::drive::Sample;
use super::report::{Hashed, Report, Verifying};
use super::store::fill;
use super::usage::Usage;
use super::workload::Shape;
use crate::cli::Bench;
use crate::output::{Failure, spinner};

/// Events hashed at a time in the bare loop.
const CHUNK_EVENTS: usize = 256;

/// Passes over the whole store.
pub(super) struct Passes {
    pub(super) events: u64,
    pub(super) seconds: f64,
    pub(super) timeline: Vec<Sample>,
    pub(super) usage: Usage,
}

impl Passes {
    pub(super) fn events_per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// The subject.
pub(super) fn run(args: &Bench, ground: &Ground) -> Result<Report, Failure> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, |threads| threads as usize);
    let filled = fill(args, ground)?;
    let spinner = spinner("verifying");
    let verified = passes(args.seconds, ground, || {
        let report = verify(&filled.directory, &VerifyOptions { threads, ..VerifyOptions::default() })?;
        match report.fault {
            None => Ok(report.events),
            Some(fault) => Err(Failure::No(format!("the store that was just written does not verify: {fault}"))),
        }
    })?;
    let bare = |hash| bare_loop(&filled.directory, threads, args.seconds / 2.0, ground, hash);
    let hashed =
        if args.no_baseline { None } else { Some(Hashed { together: bare(Hasher::together)?, one_by_one: bare(Hasher::one_by_one)? }) };
    spinner.finish_and_clear();
    let shape = Shape { threads, ..Shape::new(args, 1)? };
    let verifying = Verifying { verified, hashed, bytes: filled.bytes, events: filled.events };
    Ok(Report::verify(args, &shape, ground, filled.write_path, &verifying))
}

/// Repeats a pass until the time is over, once at least. The first one, which finds nothing warm, does not count if there is a second.
fn passes(seconds: f64, ground: &Ground, mut pass: impl FnMut() -> Result<u64, Failure>) -> Result<Passes, Failure> {
    let over = Instant::now() + Duration::from_secs_f64(seconds);
    let (mut from, mut usage, mut events, mut timeline) = (Instant::now(), Usage::now(), 0, Vec::new());
    let mut is_warm = false;
    loop {
        ground.check_interrupted()?;
        let started = Instant::now();
        let done = pass()?;
        let took = started.elapsed().as_secs_f64();
        if !is_warm && Instant::now() < over {
            is_warm = true;
            (from, usage) = (Instant::now(), Usage::now());
            continue;
        }
        events += done;
        timeline.push(Sample { at_seconds: from.elapsed().as_secs_f64(), per_second: done as f64 / took.max(1e-9) });
        if Instant::now() >= over {
            return Ok(Passes { events, seconds: from.elapsed().as_secs_f64().max(1e-9), timeline, usage: Usage::now().since(usage) });
        }
    }
}

fn lane_event<'a>(event: &EventRef<'a>) -> LaneEvent<'a> {
    let (batch_index, batch_count) = event.batch().unwrap_or_default();
    let content = EventContent {
        stream_id: event.stream_id(),
        event_id: event.event_id(),
        batch_id: EventId::default(),
        batch_index,
        batch_count,
        body_commit: &[0; 32],
        metadata: event.metadata_bytes(),
    };
    LaneEvent { content, body: LaneBody::Bytes { salt: [0x5A; 16], body: event.body().unwrap_or_default() } }
}

/// A leaf with this digest. What else is in it costs nothing more or less.
fn leaf(digest: &Hash) -> Leaf {
    let nothing = &[0; 32];
    Leaf::new(&LeafFields { kind: 0, bucket: 0, version: 0, recorded_at_ns: 0, digest, prev_bucket: nothing, prev_stream: nothing })
}

/// What hashes events, and the memory it does so in.
#[derive(Default)]
struct Hasher {
    lanes: Lanes,
    digests: Vec<Hash>,
}

impl Hasher {
    /// In lanes and pairs, as the engine does.
    fn together(&mut self, events: &[LaneEvent<'_>]) {
        self.digests.clear();
        self.lanes.event_digests(events, &mut self.digests);
        for pair in self.digests.chunks(2) {
            black_box(Leaf::links([&leaf(&pair[0]), &leaf(&pair[pair.len() - 1])]));
        }
    }

    /// By the plain functions.
    fn one_by_one(&mut self, events: &[LaneEvent<'_>]) {
        for event in events {
            let LaneBody::Bytes { salt, body } = event.body else { unreachable!("made of bytes above") };
            let digest = event_digest(&EventContent { body_commit: &body_commit(&salt, body), ..event.content });
            black_box(leaf(&digest).link());
        }
    }
}

fn bare_loop(
    directory: &std::path::Path,
    threads: usize,
    seconds: f64,
    ground: &Ground,
    hash: fn(&mut Hasher, &[LaneEvent<'_>]),
) -> Result<Passes, Failure> {
    let store = Store::open(directory)?;
    let view = store.latest();
    let events = view.events().map(|event| Ok(lane_event(&event?))).collect::<Result<Vec<_>, Failure>>()?;
    passes(seconds, ground, || {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut hasher = Hasher::default();
                    // Relaxed: chunks are only shared out.
                    while let Some(chunk) = events.chunks(CHUNK_EVENTS).nth(next.fetch_add(1, Ordering::Relaxed)) {
                        hash(&mut hasher, chunk);
                    }
                });
            }
        });
        Ok(events.len() as u64)
    })
}
