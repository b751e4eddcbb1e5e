//! Many callers at once: the order promise, optimistic contention, readers beside writers, futures without a runtime, waiting with a deadline.

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use chainring::disk::sim::SimDisk;
use chainring::{AppendError, Event, Expected, Log, Options, Pending, Store, VerifyOptions, Version, View, verify};

/// What may cross threads, checked when this is compiled.
const _: fn() = || {
    fn crosses<T: Send + Sync>() {}
    crosses::<Log>();
    crosses::<Store>();
    crosses::<View>();
    crosses::<Pending>();
    crosses::<AppendError>();
};

#[test]
fn requests_of_one_thread_are_sequenced_in_its_order() {
    const THREADS: u8 = 8;
    const EACH: u32 = 400;
    let directory = tempfile::tempdir().unwrap();
    let log = Options::new().segment_bytes(256 << 10).open(directory.path()).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                let mut pending = Vec::new();
                for number in 0..EACH {
                    // Over many streams, so over many buckets: the promise is about the thread, not about a stream.
                    let event = Event::new(format!("s{}", number % 37), "E").body([&[thread][..], &number.to_le_bytes()].concat());
                    pending.push(log.submit(event).unwrap());
                    if number % 50 == u32::from(thread) {
                        pending.drain(..).for_each(|pending| drop(pending.wait().unwrap()));
                    }
                }
                pending.drain(..).for_each(|pending| drop(pending.wait().unwrap()));
            });
        }
    });
    let mut next = [0; THREADS as usize];
    for event in log.latest().events() {
        let body = event.unwrap().body().unwrap().to_vec();
        let number = u32::from_le_bytes(body[1..].try_into().unwrap());
        assert_eq!(number, next[usize::from(body[0])], "thread {}", body[0]);
        next[usize::from(body[0])] += 1;
    }
    assert_eq!(next, [EACH; THREADS as usize]);
    log.close().unwrap();
    assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
}

#[test]
fn of_all_who_saw_the_same_version_one_wins() {
    const THREADS: usize = 6;
    const EACH: usize = 60;
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let refused: usize = thread::scope(|scope| {
        let increments = || {
            let mut refused = 0;
            for _ in 0..EACH {
                loop {
                    let seen = log.head("counter").unwrap();
                    match log.append(Event::new("counter", "Incremented").expected(Expected::Exactly(seen))) {
                        Ok(receipt) => break assert_eq!(receipt.events[0].version.0, seen.0 + 1),
                        Err(AppendError::Refused(conflicts)) => {
                            assert!(conflicts[0].found > seen, "refused for what it says");
                            refused += 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            refused
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(increments)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(log.head("counter").unwrap(), Version((THREADS * EACH) as u64));
    println!("{refused} refused on the way");
}

#[test]
fn readers_see_whole_batches_and_only_ever_more() {
    let directory = tempfile::tempdir().unwrap();
    let log = Options::new().segment_bytes(256 << 10).open(directory.path()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let view = log.latest();
                    let count = view.end().0 - 1;
                    assert!(count >= last && count.is_multiple_of(3), "{count} after {last}");
                    last = count;
                    let Some(stream) = view.stream("a").unwrap() else { continue };
                    assert_eq!(stream.version().0, count / 3);
                    assert_eq!(stream.backward().count() as u64, count / 3);
                }
            });
        }
        for number in 0..300_u32 {
            let batch = ["a", "b", "c"].map(|stream| Event::new(stream, "E").body(vec![number as u8; 500]));
            log.append(batch.to_vec()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn receipts_are_futures_that_need_no_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..100 {
                    let receipt = block_on(log.submit(Event::new(format!("s{thread}"), "E")).unwrap()).unwrap();
                    assert_eq!(receipt.events[0].version.0, number + 1);
                }
            });
        }
    });
    assert_eq!(log.stats().events, 400);
}

#[test]
fn waiting_with_a_deadline_gives_the_receipt_back_when_time_is_up() {
    let disk = SimDisk::new();
    let log = support::open(&disk.environment(1)).unwrap();
    let pending = log.submit(Event::new("s", "E")).unwrap();
    // No time at all: nothing is led, and nothing is lost.
    let pending = pending.wait_timeout(Duration::ZERO).unwrap_err();
    assert!(!pending.is_done());
    assert_eq!(pending.wait_timeout(Duration::from_secs(3600)).unwrap().unwrap().events[0].version, Version(1));
}

#[test]
fn an_append_that_nobody_waits_for_is_made_durable_by_closing() {
    let disk = SimDisk::new();
    let environment = disk.environment(1);
    let log = support::open(&environment).unwrap();
    let forgotten = log.submit(Event::new("s", "E")).unwrap();
    let kept = log.submit(Event::new("s", "E")).unwrap();
    drop(forgotten);
    log.close().unwrap();
    assert_eq!(kept.wait().unwrap().events[0].version, Version(2), "a receipt outlives its log");
    assert_eq!(support::read(&environment).unwrap().stats().events, 2);
}
