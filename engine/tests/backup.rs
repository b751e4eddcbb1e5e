//! Copies of a store, also while it is written, and brought up to date.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use chainring::{BackupError, Event, Log, OpenError, Options, Position, Remembered, Store, VerifyOptions, backup, verify};

/// Small, so that there are many segments.
const SEGMENT_BYTES: u64 = 256 << 10;

fn open(directory: &Path) -> Log {
    Options::new().segment_bytes(SEGMENT_BYTES).open(directory).unwrap()
}

fn append(log: &Log, count: usize) {
    let pending: Vec<_> =
        (0..count).map(|n| log.submit(Event::new(format!("s{}", n % 7), "E").body(vec![n as u8; 500])).unwrap()).collect();
    pending.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
}

fn links(directory: &Path) -> Vec<chainring::Link> {
    Store::open(directory).unwrap().latest().events().map(|event| event.unwrap().link()).collect()
}

#[test]
fn a_copy_is_brought_up_to_date_segment_by_segment() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("log"), place.path().join("deep/copy"));
    let log = open(&from);
    append(&log, 3000);
    let first = backup(&from, &to).unwrap();
    assert_eq!((first.records, first.segments_kept), (log.stats().records, 0));
    assert!(first.segments_copied > 4 && first.segments_copied == log.stats().segments);
    assert_eq!(links(&to), links(&from));
    // The copy takes no more than what was used.
    let bytes: u64 = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < log.stats().bytes + 4096, "{bytes} for {}", log.stats().bytes);

    append(&log, 1000);
    let second = backup(&from, &to).unwrap();
    assert_eq!(second.segments_kept, first.segments_copied - 1, "all but the one that was still written");
    assert!(second.bytes_copied * 2 < first.bytes_copied);
    assert_eq!(links(&to), links(&from));
    let (position, link) = second.last.unwrap();
    log.close().unwrap();
    assert_eq!((position, second.records), (Position(4000), 4001));

    // Nothing new: the last segment again, closed now.
    assert_eq!(backup(&from, &to).unwrap().segments_copied, 1);
    let report = verify(&to, &VerifyOptions::default()).unwrap();
    assert!(report.is_ok() && report.events == 4000);
    // The copy is a log like any other, and knows what was told of it.
    let copy = Options::new().expect_at_least(Remembered { position, link: Some(link) }).open(&to).unwrap();
    append(&copy, 1);
    copy.close().unwrap();
    // And then it is ahead.
    assert!(matches!(backup(&from, &to), Err(BackupError::Foreign { .. })));
    assert_eq!(links(&to).len(), 4001, "it was left as it is");
}

#[test]
fn copies_of_a_log_that_is_written_are_prefixes_of_it() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("log"), place.path().join("copy"));
    let log = open(&from);
    append(&log, 10);
    let is_over = AtomicBool::new(false);
    let copies: Vec<Vec<chainring::Link>> = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        append(&log, 20);
                    }
                })
            })
            .collect();
        let copies = (0..12)
            .map(|round| {
                let acknowledged = log.latest().end().0;
                if round == 6 {
                    log.pack().unwrap();
                }
                let report = backup(&from, &to).unwrap();
                assert!(report.records >= acknowledged, "what was acknowledged before it began is in it");
                links(&to)
            })
            .collect();
        is_over.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        copies
    });
    log.close().unwrap();
    let whole = links(&from);
    assert!(copies.windows(2).all(|pair| pair[0].len() <= pair[1].len()));
    assert!(copies.iter().all(|copy| whole.starts_with(copy)));
    assert!(copies[11].len() > copies[0].len() && Store::open(&from).unwrap().stats().segments > 3);
}

#[test]
fn what_is_no_earlier_copy_is_left_alone_and_damage_is_not_copied_quietly() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    for name in ["log", "other"] {
        let log = open(&path(name));
        append(&log, 1500);
        log.close().unwrap();
    }
    let before = links(&path("other"));
    assert!(matches!(backup(path("log"), path("other")), Err(BackupError::Foreign { .. })));
    assert_eq!(links(&path("other")), before);
    assert!(matches!(backup(path("none"), path("copy")), Err(BackupError::Original(OpenError::NotAStore { .. }))));
    assert!(!path("copy").exists(), "nothing was made");
    // A writer of the copy is not disturbed.
    let other = open(&path("other"));
    assert!(matches!(backup(path("log"), path("other")), Err(BackupError::Copy(OpenError::Locked { .. }))));
    other.close().unwrap();

    // A flipped bit in a body of a sealed segment is found while reading; one that only a hash shows, by verifying the copy.
    let segment = path("log").join("0000000002.seg");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[100_000] ^= 4;
    fs::write(&segment, &bytes).unwrap();
    assert!(matches!(backup(path("log"), path("copy")), Err(BackupError::Original(OpenError::Damaged(_)))));
}
