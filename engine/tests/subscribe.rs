//! Subscriptions: everything that is there, then everything that comes, once and in order, until the log ends.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use chainring::{Durability, Event, Log, Options, Position, Request, Store, Subscription};

/// Small, so that segments change under the followers.
const SEGMENT_BYTES: u64 = 256 << 10;

fn open(directory: &std::path::Path) -> Log {
    Options::new().segment_bytes(SEGMENT_BYTES).open(directory).unwrap()
}

/// Stream, version and type of everything up to the end of the log, with its position.
fn follow(mut subscription: Subscription) -> Vec<(u64, String, u64, String)> {
    let mut seen = Vec::new();
    while let Some(events) = subscription.next_batch() {
        for event in events {
            let event = event.unwrap();
            seen.push((event.position().0, event.stream().unwrap().to_owned(), event.version().0, event.event_type().to_owned()));
        }
    }
    assert!(subscription.is_over());
    seen
}

fn everything(store: &Store) -> Vec<(u64, String, u64, String)> {
    let view = store.latest();
    let row = |event: chainring::EventRef<'_>| {
        (event.position().0, event.stream().unwrap().to_owned(), event.version().0, event.event_type().to_owned())
    };
    view.events().map(|event| row(event.unwrap())).collect()
}

#[test]
fn followers_see_everything_once_and_in_order_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let event = |writer: usize, n: usize| {
        Event::new(format!("{}/{}", ["order", "payment"][n % 2], (writer * 7 + n) % 11), ["Placed", "Paid", "Shipped"][n % 3])
            .body(vec![n as u8; 300])
    };
    for n in 0..100 {
        log.append(event(0, n)).unwrap();
    }
    let all: Vec<Subscription> = [0, 0, 50].into_iter().map(|from| log.subscribe(Position(from))).collect();
    let orders = log.subscribe(Position(0)).stream_prefix("order/");
    let shipped_or_paid = log.subscribe(Position(0)).event_types(["Shipped", "Paid"]);
    let halves = [0..2048, 2048..4096].map(|buckets| log.subscribe(Position(0)).buckets(buckets));
    let mut followers: Vec<_> = all.into_iter().map(|subscription| thread::spawn(move || follow(subscription))).collect();
    followers.extend([orders, shipped_or_paid].map(|subscription| thread::spawn(move || follow(subscription))));
    followers.extend(halves.map(|subscription| thread::spawn(move || follow(subscription))));
    thread::scope(|scope| {
        for writer in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..150 {
                    match n % 3 {
                        0 => drop(log.append(event(writer, n)).unwrap()),
                        1 => drop(log.submit(event(writer, n)).unwrap()),
                        _ => {
                            let batch = Request::batch((0..5).map(|index| event(writer, n + index)).collect());
                            log.append(batch.durability(Durability::Written)).unwrap();
                        }
                    }
                }
            });
        }
    });
    log.close().unwrap();
    let expected = everything(&Store::open(directory.path()).unwrap());
    assert_eq!(expected.len(), 100 + 4 * (100 + 50 * 5));
    let seen: Vec<_> = followers.into_iter().map(|follower| follower.join().unwrap()).collect();
    assert!(seen[0] == expected && seen[1] == expected, "from the beginning");
    assert!(seen[2] == expected[49..], "from a position on; the genesis record has the first");
    assert!(seen[3].iter().eq(expected.iter().filter(|row| row.1.starts_with("order/"))), "streams with a prefix");
    assert!(seen[4].iter().eq(expected.iter().filter(|row| row.3 != "Placed")), "events of some types");
    let mut halves = [&seen[5][..], &seen[6][..]].concat();
    assert!(!seen[5].is_empty() && !seen[6].is_empty());
    halves.sort_unstable();
    assert!(halves == expected, "two that share the buckets");
}

#[test]
fn what_was_not_taken_comes_again_and_where_it_stopped_is_where_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    for n in 0..10 {
        log.append(Event::new("s", format!("E{n}"))).unwrap();
    }
    let types = |subscription: &mut Subscription, count: usize| -> Vec<String> {
        subscription.ready().take(count).map(|event| event.unwrap().event_type().to_owned()).collect()
    };
    let mut subscription = log.subscribe(Position(0));
    assert_eq!(types(&mut subscription, 3), ["E0", "E1", "E2"]);
    assert_eq!(subscription.position(), Position(4));
    let mut other = log.subscribe(subscription.position());
    assert_eq!(types(&mut other, 2), ["E3", "E4"]);
    assert_eq!(types(&mut subscription, 100).len(), 7);
    assert_eq!((types(&mut subscription, 100).len(), subscription.is_over()), (0, false));
    // Nothing comes: an empty batch, not an end.
    assert_eq!(subscription.next_batch_timeout(Duration::from_millis(1)).map(Iterator::count), Some(0));
    log.close().unwrap();
    assert!(subscription.next_batch().is_none() && subscription.is_over());
    assert!(subscription.next_batch_timeout(Duration::ZERO).is_none());

    // A store that is only read ends where it ends; far behind it is behind it.
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(follow(store.subscribe(Position(0))), everything(&store));
    assert!(follow(store.subscribe(Position(1_000_000))).is_empty());
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_task_is_woken_by_what_comes_and_by_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let mut subscription = log.subscribe(log.latest().end());
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    {
        let mut next = pin!(subscription.next_batch_async());
        assert!(next.as_mut().poll(&mut context).is_pending());
        log.append(Event::new("s", "First")).unwrap();
        assert!(flag.0.swap(false, Ordering::Acquire), "woken");
        let Poll::Ready(Some(events)) = next.as_mut().poll(&mut context) else { panic!("there is an event") };
        assert_eq!(events.map(|event| event.unwrap().event_type().to_owned()).collect::<Vec<_>>(), ["First"]);
    }
    let mut next = pin!(subscription.next_batch_async());
    assert!(next.as_mut().poll(&mut context).is_pending());
    log.close().unwrap();
    assert!(flag.0.load(Ordering::Acquire), "woken by the end");
    assert!(matches!(next.as_mut().poll(&mut context), Poll::Ready(None)));
}
