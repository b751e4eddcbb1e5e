//! A store that was put back to an earlier state: consistent in itself, so only what was remembered outside of it can show it.

use std::fs;
use std::path::Path;

use chainring::{Event, EventId, FaultKind, Link, Log, OpenError, Options, Position, Receipt, Remembered, Store, VerifyOptions, verify};

/// Small segments, so that the copies are quick.
fn options() -> Options {
    Options::new().segment_bytes(64 << 10)
}

fn append(log: &Log, number: u8) -> Receipt {
    log.append(Event::new("s", "E").id(EventId([number + 1; 16])).body(vec![number; 9000])).unwrap()
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn content(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn fault(result: Result<Log, OpenError>) -> (FaultKind, Option<Position>) {
    match result {
        Err(OpenError::Damaged(fault)) => (fault.kind, fault.position),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_that_lacks_what_was_seen_of_it_is_refused_and_left_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let (store, backup) = (place.path().join("store"), place.path().join("backup"));
    let log = options().open(&store).unwrap();
    let early = append(&log, 0);
    log.close().unwrap();
    copy(&store, &backup);
    let log = options().expect_at_least(&early).open(&store).unwrap();
    let late = (1..20).map(|number| append(&log, number)).last().unwrap();
    log.close().unwrap();

    // What is there is found, by receipt and by position, as often as asked.
    options().expect_at_least(&early).expect_at_least(&late).expect_at_least(late.last_position()).open(&store).unwrap().close().unwrap();
    // The last segment alone is gone, or the whole store is an older one: nothing in it tells.
    copy(&backup, &store);
    assert_eq!(verify(&store, &VerifyOptions::default()).unwrap().fault, None);
    let before = content(&store);
    assert_eq!(fault(options().expect_at_least(&late).open(&store)), (FaultKind::RollbackSuspected, Some(late.last_position())));
    assert_eq!(fault(options().expect_at_least(Position(20)).open(&store)), (FaultKind::RollbackSuspected, Some(Position(20))));
    assert_eq!(content(&store), before, "refusing changes nothing");
    let asked = VerifyOptions { expected: vec![(&late).into()], ..VerifyOptions::default() };
    assert_eq!(verify(&store, &asked).unwrap().fault.unwrap().kind, FaultKind::RollbackSuspected);

    // Another history of the same length: only the link tells.
    let log = options().expect_at_least(&early).open(&store).unwrap();
    (1..20).for_each(|number| drop(log.append(Event::new("s", "Forged").id(EventId([number + 1; 16])).body(vec![7; 9000])).unwrap()));
    log.close().unwrap();
    assert!(options().expect_at_least(late.last_position()).open(&store).is_ok());
    assert_eq!(fault(options().expect_at_least(&late).open(&store)), (FaultKind::Tampered, Some(late.last_position())));
    assert_eq!(verify(&store, &asked).unwrap().fault.unwrap().kind, FaultKind::Tampered);
    let absent = place.path().join("absent");
    assert!(matches!(options().expect_at_least(&late).open(&absent), Err(OpenError::NotAStore { .. })));
    assert!(!absent.exists(), "a log of which something was seen is not made anew");
}

#[test]
fn a_mark_beside_the_store_shows_that_it_was_put_back() {
    let place = tempfile::tempdir().unwrap();
    let (store, backup, mark) = (place.path().join("store"), place.path().join("backup"), place.path().join("store.mark"));
    let log = options().remember(true).open(&store).unwrap();
    append(&log, 0);
    log.close().unwrap();
    copy(&store, &backup);
    let log = options().remember(true).open(&store).unwrap();
    assert_eq!(log.report().rollback, None);
    (1..20).for_each(|number| drop(append(&log, number)));
    log.close().unwrap();
    let remembered = fs::read_to_string(&mark).unwrap();
    assert!(remembered.contains("seen 20:"), "{remembered}");

    copy(&backup, &store);
    let suspected = |rollback: &Option<chainring::Fault>| rollback.as_ref().map(|fault| fault.kind) == Some(FaultKind::RollbackSuspected);
    assert!(suspected(&Store::open(&store).unwrap().report().rollback));
    assert!(suspected(&verify(&store, &VerifyOptions::default()).unwrap().fault));
    // Going on does not wipe out what shows it, also when the log has outgrown it.
    let log = options().remember(true).open(&store).unwrap();
    assert!(suspected(&log.report().rollback));
    (1..30).for_each(|number| drop(append(&log, number)));
    log.close().unwrap();
    assert_eq!(fs::read_to_string(&mark).unwrap(), remembered);
    assert_eq!(
        Store::open(&store).unwrap().report().rollback.as_ref().map(|fault| fault.kind),
        Some(FaultKind::Tampered),
        "another history by now"
    );
    // Until somebody says that it was meant so.
    let log = options().remember(true).accept_rollback(true).open(&store).unwrap();
    assert!(log.report().rollback.is_some());
    log.close().unwrap();
    assert_eq!(Store::open(&store).unwrap().report().rollback, None);

    // A lost, broken or foreign mark is none, and so is that of another store.
    for content in [&b""[..], b"garbage", &remembered.as_bytes()[..remembered.len() / 2]] {
        fs::write(&mark, content).unwrap();
        assert_eq!(Store::open(&store).unwrap().report().rollback, None);
    }
    fs::remove_file(&mark).unwrap();
    assert_eq!(Store::open(&store).unwrap().report().rollback, None);
    let log = options().remember(true).open(place.path().join("other")).unwrap();
    (0..40).for_each(|number| drop(append(&log, number)));
    log.close().unwrap();
    fs::copy(place.path().join("other.mark"), &mark).unwrap();
    assert_eq!(Store::open(&store).unwrap().report().rollback, None);
}

#[test]
fn without_being_told_nothing_is_written_outside_of_the_store() {
    let place = tempfile::tempdir().unwrap();
    let log = options().open(place.path().join("store")).unwrap();
    append(&log, 0);
    log.close().unwrap();
    let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["store"]);
}

#[test]
fn what_is_remembered_can_be_typed() {
    let seen: Remembered = format!("5:{}", Link([3; 32])).parse().unwrap();
    assert_eq!(seen, Remembered { position: Position(5), link: Some(Link([3; 32])) });
}
