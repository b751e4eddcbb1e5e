//! A store that is read while its segments are packed: by the engine and by the independent reader, each as another process would.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chainring::{Event, Log, Options, Store, VerifyOptions, verify};

fn options() -> chainring_reader::Options {
    chainring_reader::Options { threads: 2, patience: Duration::from_millis(20) }
}

fn append(log: &Log, number: u64) {
    log.append(Event::new(format!("s{}", number % 7), "E").body(number.to_le_bytes())).expect("a good disk");
}

/// Reads again and again; every look must find everything in order, and never less than the one before.
fn read_beside(directory: &Path, done: &AtomicBool) -> u64 {
    let (mut looks, mut before) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        let second = chainring_reader::verify(directory, &options()).expect("plain files can be read");
        assert_eq!(second.fault, None, "the independent reader");
        assert!(second.events >= before, "{} events after {before}", second.events);
        let mut walked = 0;
        let report = chainring_reader::walk(directory, |_| {
            walked += 1;
            std::ops::ControlFlow::Continue(())
        })
        .expect("plain files can be read");
        assert_eq!((report.fault, report.records), (None, walked), "every record that held is shown");
        let ours = verify(directory, &VerifyOptions::default()).expect("a store");
        assert_eq!(ours.fault, None, "the engine");
        let store = Store::open(directory).expect("a store");
        assert!(store.latest().events().all(|event| event.is_ok()));
        before = ours.events.min(second.events);
        looks += 1;
    }
    looks
}

#[test]
fn segments_are_packed_under_readers_of_both_kinds() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = Options::new().segment_bytes(64 << 10).open(directory.path()).expect("a new log");
    append(&log, 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| read_beside(directory.path(), &done))).collect();
        let mut packed = 0;
        for number in 1..600 {
            append(&log, number);
            let report = log.pack().expect("an open log packs");
            assert!(report.failed.is_empty(), "{report:?}");
            packed += report.packed;
        }
        done.store(true, Ordering::Relaxed);
        assert!(packed > 20, "{packed} segments");
        assert!(readers.into_iter().all(|reader| reader.join().expect("a reader that ends") > 2));
    });
    log.close().expect("a good disk");
    let second = chainring_reader::verify(directory.path(), &options()).expect("plain files can be read");
    assert_eq!((second.fault, second.events), (None, 600));
}

/// Between listing and reading a segment its name comes to lead to another file: what was listed is not what is read.
#[test]
fn a_segment_packed_in_the_middle_of_a_walk_is_read_as_it_is_then() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = Options::new().segment_bytes(64 << 10).open(directory.path()).expect("a new log");
    (0..80).for_each(|number| append(&log, number));
    let segments = log.stats().segments;
    assert!(segments > 4);
    let mut shown = Vec::new();
    let report = chainring_reader::walk(directory.path(), |record| {
        // In the first segment; those behind it are opened only after it.
        if shown.is_empty() {
            assert_eq!(log.pack().expect("an open log packs").packed, segments - 1);
        }
        shown.push(record.position);
        std::ops::ControlFlow::Continue(())
    })
    .expect("plain files can be read");
    assert_eq!((report.fault, shown), (None, (0..81).collect()));
}
