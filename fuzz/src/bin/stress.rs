//! Many threads on one log, for sanitizers: a plain program, because the test harness has races of its own.
//!
//! Appenders use every way of waiting and every level while readers walk views over segments that come and go; then a log is closed under its
//! appenders, and one is poisoned under them. Every round checks its own results.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use chainring::disk::sim::{Fault, SimDisk};
use chainring::{AppendError, Durability, Event, Expected, Log, Options, Pending, Position, Receipt, Request, Version, verify};

const THREADS: u64 = 4;
/// Requests of each appender in a round.
const REQUESTS: u64 = 150;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    for round in 0..rounds {
        crowd();
        closed_under_appenders(round);
        poisoned_under_waiters(round);
        println!("round {}: all as it should be", round + 1);
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future until it is ready; sleeps in between.
fn block_on(pending: Pending) -> Result<Receipt, AppendError> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut pending = pin!(pending);
    loop {
        match pending.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => thread::park_timeout(Duration::from_millis(50)),
        }
    }
}

/// Whatever comes of it, waits in one of the ways there are.
fn wait(pending: Pending, way: u64) -> Result<Receipt, AppendError> {
    match way % 3 {
        0 => pending.wait(),
        1 => block_on(pending),
        _ => {
            let mut pending = pending;
            loop {
                match pending.wait_timeout(Duration::from_micros(300)) {
                    Ok(outcome) => return outcome,
                    Err(again) => pending = again,
                }
            }
        }
    }
}

fn request(thread: u64, number: u64) -> Request {
    let event = |stream: String| Event::new(stream, "Stressed").body(vec![number as u8; (number % 7 * 150) as usize]);
    let request = match number % 4 {
        0 => Request::batch(vec![event(format!("own-{thread}")), event(format!("shared-{}", number % 5)), event(format!("own-{thread}"))]),
        _ => Request::event(event(format!("own-{thread}"))),
    };
    request.durability(if number.is_multiple_of(3) { Durability::Written } else { Durability::Durable })
}

/// Appends in a pipeline, a few receipts behind; gives the positions in the order they were submitted in.
fn append_all(log: &Log, thread: u64) -> Vec<Position> {
    let (mut under_way, mut positions) = (Vec::new(), Vec::new());
    for number in 0..REQUESTS {
        under_way.push(log.submit(request(thread, number)).expect("an open log takes requests"));
        if under_way.len() > (number % 6) as usize {
            for (way, pending) in under_way.drain(..).enumerate() {
                let receipt = wait(pending, number + way as u64).expect("nothing stands in the way");
                positions.extend(receipt.events.iter().map(|event| event.position));
            }
        }
        if number.is_multiple_of(40) {
            log.sync().expect("a good disk syncs");
        }
    }
    for pending in under_way {
        positions.extend(pending.wait().expect("nothing stands in the way").events.iter().map(|event| event.position));
    }
    positions
}

/// Reads until told to stop: what a view shows never changes, and later views show more.
fn read_all(log: &Log, stop: &AtomicBool) {
    let mut last_end = Position(0);
    while !stop.load(Ordering::Relaxed) {
        let view = log.latest();
        assert!(view.end() >= last_end, "the past went away");
        last_end = view.end();
        let events = view.events().collect::<Result<Vec<_>, _>>().expect("what is durable can be read");
        assert_eq!(events.len() as u64 + 1, view.end().0);
        for (name, version) in view.streams().expect("what is durable can be read") {
            let stream = view.stream(name).expect("can be read").expect("a listed stream is there");
            let forward = stream.forward(Version(1)).expect("can be read").count() as u64;
            assert_eq!((forward, stream.backward().count() as u64), (version.0, version.0));
        }
    }
}

/// A real directory, small segments, so that views are walked while segments are sealed and begun.
fn crowd() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = Options::new().segment_bytes(64 << 10).open(directory.path()).expect("a new log");
    let (stop, won) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut all = BTreeSet::new();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| read_all(&log, &stop));
        }
        // Segments are written anew under the views.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let report = log.pack().expect("an open log packs");
                assert!(report.failed.is_empty(), "{report:?}");
                thread::yield_now();
            }
        });
        // Versions of one stream that everybody wants to write: somebody always wins.
        for _ in 0..2 {
            scope.spawn(|| contend(&log, &won));
        }
        let appenders: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let log = &log;
                    move || append_all(log, thread)
                })
            })
            .collect();
        for appender in appenders {
            let positions = appender.join().expect("an appender that ends");
            assert!(positions.is_sorted(), "one thread's requests keep their order");
            assert!(positions.iter().all(|position| all.insert(*position)), "a position was given twice");
        }
        stop.store(true, Ordering::Relaxed);
    });
    log.sync().expect("a good disk syncs");
    let stats = log.stats();
    assert!(stats.segments > 1, "a crowd fills more than one segment");
    assert!(all.len() as u64 <= stats.events);
    log.close().expect("a good disk closes");
    let report = verify(directory.path(), &Default::default()).expect("a store");
    assert!(report.is_ok() && report.events == stats.events, "{report:?}");
}

fn contend(log: &Log, won: &AtomicU64) {
    for _ in 0..REQUESTS / 3 {
        let version = log.head("contended").expect("can be read");
        match log.append(Event::new("contended", "Won").expected(Expected::Exactly(version))) {
            Ok(receipt) => {
                assert_eq!(receipt.events[0].version, Version(version.0 + 1));
                won.fetch_add(1, Ordering::Relaxed);
            }
            Err(AppendError::Refused(conflicts)) => assert!(conflicts[0].found > version),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(log.head("contended").expect("can be read").0.min(1), won.load(Ordering::Relaxed).min(1));
}

/// Requests that are under way when a log is closed are done or refused, and what was acknowledged is there.
fn closed_under_appenders(round: u64) {
    let disk = SimDisk::new();
    let log = Options::new().segment_bytes(64 << 10).open_in(disk.environment(round), "sim").expect("a new log");
    let (mut left_over, acknowledged) = (Vec::new(), AtomicU64::new(0));
    thread::scope(|scope| {
        let appenders: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (log, acknowledged) = (&log, &acknowledged);
                scope.spawn(move || {
                    let mut pending = Vec::new();
                    for number in 0..REQUESTS / 4 {
                        pending.push(log.submit(Event::new(format!("s-{thread}"), "E")).expect("an open log takes requests"));
                        if number.is_multiple_of(5) {
                            pending.pop().expect("one was just pushed").wait().expect("nothing stands in the way");
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    pending
                })
            })
            .collect();
        left_over.extend(appenders.into_iter().flat_map(|appender| appender.join().expect("an appender that ends")));
    });
    // The waiters race with the close.
    thread::scope(|scope| {
        let waiters: Vec<_> = left_over.drain(..).map(|pending| scope.spawn(move || wait(pending, round))).collect();
        log.close().expect("a good disk closes");
        for waiter in waiters {
            match waiter.join().expect("a waiter that ends") {
                Ok(_) => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                Err(AppendError::Closed) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let again = Options::new().create(false).open_in(disk.environment(round), "sim").expect("a closed log opens");
    assert!(again.stats().events >= acknowledged.into_inner());
}

/// When a sync fails, everybody who waits hears of it, and nobody waits for ever.
fn poisoned_under_waiters(round: u64) {
    let disk = SimDisk::new();
    let log = Options::new().segment_bytes(64 << 10).open_in(disk.environment(round), "sim").expect("a new log");
    disk.inject(Fault::Sync(20 + round % 5));
    let acknowledged = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (log, acknowledged) = (&log, &acknowledged);
            scope.spawn(move || {
                for number in 0.. {
                    match log.submit(request(thread, number)).and_then(|pending| wait(pending, number)) {
                        Ok(receipt) if receipt.durability == Durability::Durable => {
                            acknowledged.fetch_max(receipt.last_position().0 + 1, Ordering::Relaxed);
                        }
                        Ok(_) => {}
                        Err(AppendError::OutcomeUnknown(_) | AppendError::Poisoned(_)) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(matches!(log.sync(), Err(AppendError::Poisoned(_))), "a poisoned log stays poisoned");
    assert!(log.latest().events().all(|event| event.is_ok()), "what is durable can still be read");
    drop(log);
    let again = Options::new().create(false).open_in(disk.environment(round), "sim").expect("a poisoned log opens again");
    assert!(again.stats().records >= acknowledged.into_inner(), "something acknowledged is gone");
}
