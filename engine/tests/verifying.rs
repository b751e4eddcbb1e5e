//! Going on with a verification: behind a checkpoint that was kept, and behind what was remembered.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chainring::disk::Environment;
use chainring::disk::sim::{SimClock, SimDisk, SimEntropy, SimRandom};
use chainring::{Event, EventId, FaultKind, KeyFile, Log, Options, Store, TreeHead, VerifyOptions, VerifyReport, verify, verify_in};
use support::{SEGMENT_BYTES, names_of_segments, open, request};

/// Everything, and the root over it.
fn whole_options() -> VerifyOptions<'static> {
    VerifyOptions { head: true, ..VerifyOptions::default() }
}

fn since(store: &Path, head: TreeHead) -> VerifyReport {
    verify(store, &VerifyOptions { since: Some(head), ..whole_options() }).unwrap()
}

fn whole(store: &Path) -> VerifyReport {
    verify(store, &whole_options()).unwrap()
}

/// What was verified differs, what was found does not.
fn finds_the_same(part: &VerifyReport, whole: &VerifyReport) {
    assert_eq!((part.records, part.events, part.head, part.verified_to), (whole.records, whole.events, whole.head, whole.verified_to));
    assert_eq!(part.fault, whole.fault);
    assert!(part.bytes <= whole.bytes);
}

/// A log of many segments and streams, some of which rest for long, sealed now and then. Gives the checkpoints.
fn sealed_log(store: &Path, key: &Arc<KeyFile>, rounds: usize) -> Vec<TreeHead> {
    let mut random = SimRandom::new(7);
    let mut heads = Vec::new();
    for _ in 0..rounds {
        let log = Options::new().segment_bytes(SEGMENT_BYTES).open(store).unwrap();
        let sealer = log.sealer(key.clone()).unwrap();
        for _ in 0..3 {
            for _ in 0..60 {
                log.append(request(&mut random, 300).1).unwrap();
            }
            heads.push(sealer.seal().unwrap().head);
        }
        drop(sealer);
        log.close().unwrap();
    }
    heads
}

fn key(directory: &Path) -> Arc<KeyFile> {
    Arc::new(KeyFile::generate(directory.join("key"), "log.example").unwrap())
}

#[test]
fn from_every_checkpoint_it_finds_what_a_whole_verification_finds() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("log");
    let heads = sealed_log(&store, &key(place.path()), 4);
    let full = whole(&store);
    assert_eq!((&full.fault, full.since), (&None, 0));
    assert!(
        fs::read_dir(&store).unwrap().filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "seg")).count() > 5
    );
    let derived = ["tree", "index"];
    for gone in derived {
        for head in &heads {
            let part = since(&store, *head);
            finds_the_same(&part, &full);
            assert!(part.since <= head.size);
        }
        // Without what is derived it takes longer, and no more.
        for entry in fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.ends_with(gone) || (gone == "index" && entry.extension().is_some_and(|extension| extension == "idx")) {
                fs::remove_file(entry).unwrap();
            }
        }
    }
    let last = since(&store, *heads.last().unwrap());
    finds_the_same(&last, &full);
    // Nothing tells any more that the log is sealed: that is seen on the way.
    fs::remove_file(store.join("checkpoint.note")).unwrap();
    finds_the_same(&verify(&store, &VerifyOptions::default()).unwrap(), &full);
    assert!(last.since > full.records / 2 && last.bytes < full.bytes / 4, "{last:?}");
}

#[test]
fn damage_behind_the_checkpoint_is_found_as_by_a_whole_verification() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("log");
    let heads = sealed_log(&store, &key(place.path()), 3);
    let names: Vec<_> = (1..).map(|number| store.join(format!("{number:010}.seg"))).take_while(|path| path.exists()).collect();
    let full = whole(&store);
    let mut random = SimRandom::new(3);
    let mut faults = 0;
    for _ in 0..40 {
        let name = &names[random.below(names.len() as u64) as usize];
        let bytes = fs::read(name).unwrap();
        let mut damaged = bytes.clone();
        damaged[random.below(bytes.len() as u64) as usize] ^= 1 << random.below(8);
        fs::write(name, &damaged).unwrap();
        let (now, part) = (whole(&store), since(&store, heads[heads.len() / 2]));
        if now.records >= part.since && part.since > 0 {
            finds_the_same(&part, &now);
        } else {
            // It lies in what somebody vouches for, which was not looked at; unless a link is wrong, or opening met it.
            assert!(part.fault.is_none() || part.fault == now.fault || part.fault.as_ref().unwrap().rule == "R4", "{part:?} {now:?}");
        }
        faults += usize::from(now.fault.is_some());
        fs::write(name, &bytes).unwrap();
    }
    assert!(faults > 20);
    finds_the_same(&since(&store, heads[0]), &full);
}

fn simulated(entropy: u64) -> (SimDisk, Environment) {
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::new(1_700_000_000_000_000_000, 10));
    (disk.clone(), Environment { disk: Arc::new(disk), clock, entropy: Arc::new(SimEntropy::new(entropy)) })
}

fn verified(environment: &Environment, options: &VerifyOptions<'_>) -> VerifyReport {
    verify_in(environment, Path::new("simulated"), options).unwrap()
}

/// A log of `count` events; the one with number `other` says something else.
fn history(environment: &Environment, count: usize, other: Option<usize>) {
    let log = open(environment).unwrap();
    for index in 0..count {
        let body = if other == Some(index) { b"other".to_vec() } else { vec![7; 2000] };
        let id = EventId([(index % 251) as u8 + 1, (index / 251) as u8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        log.append(Event::new(format!("s{}", index % 7), "E").id(id).body(body)).unwrap();
    }
    log.close().unwrap();
}

#[test]
fn another_history_of_the_same_log_is_not_gone_on_from() {
    let (_, one) = simulated(1);
    history(&one, 400, None);
    let report = verified(&one, &whole_options());
    let head = report.head.unwrap();
    let asked = VerifyOptions { since: Some(head), ..whole_options() };
    assert_eq!(verified(&one, &asked).fault, None);
    for other in [3, 200, 399] {
        let (_, two) = simulated(1);
        history(&two, 450, Some(other));
        assert_eq!(verified(&two, &whole_options()).fault, None, "whole in itself");
        let fault = verified(&two, &asked).fault.unwrap();
        assert_eq!((fault.kind, fault.rule), (FaultKind::Tampered, "R4"), "{fault}");
    }
    let (_, shorter) = simulated(1);
    history(&shorter, 399, None);
    let fault = verified(&shorter, &asked).fault.unwrap();
    assert_eq!((fault.kind, fault.rule), (FaultKind::RollbackSuspected, "R4"), "{fault}");
    let (_, empty) = simulated(1);
    history(&empty, 0, None);
    assert_eq!(verified(&empty, &asked).fault.unwrap().kind, FaultKind::RollbackSuspected);
}

#[test]
fn a_verification_resumes_where_the_last_one_ended() {
    let (disk, environment) = simulated(2);
    let resume = VerifyOptions { resume: true, remember: true, threads: 1, ..whole_options() };
    let mut events = 0;
    for round in 0..5 {
        let log = open(&environment).unwrap();
        for index in 0..100 * round {
            log.append(Event::new(format!("s{}", index % 40), "E").body(vec![1; 1500])).unwrap();
        }
        log.close().unwrap();
        events += 100 * round;
        let report = verified(&environment, &resume);
        assert_eq!((report.fault.as_ref(), report.events), (None, events as u64));
        finds_the_same(&report, &verified(&environment, &VerifyOptions { threads: 1, ..whole_options() }));
        if round > 1 {
            assert!(report.since > 0, "{report:?}");
        }
        let again = verified(&environment, &resume);
        assert!(again.since >= report.since && again.bytes <= report.bytes);
        let grades = support::read(&environment).unwrap().grades().unwrap();
        assert_eq!(grades.verified_to.map(|(size, _)| size), Some(report.records));
        assert_eq!(grades.durable_to, report.records);
    }
    assert!(names_of_segments(&disk).len() > 10);
    // What is remembered counts for the log it is of, and for nothing that differs.
    let (other_disk, other) = simulated(2);
    history(&other, 100, None);
    copy(&disk, &other_disk, "verified");
    let fault = verified(&other, &resume).fault.unwrap();
    assert_eq!(fault.rule, "R4");
    assert_eq!(support::read(&other).unwrap().grades().unwrap().verified_to, None);
    let (third_disk, third) = simulated(3);
    history(&third, 100, None);
    copy(&disk, &third_disk, "verified");
    let report = verified(&third, &resume);
    assert_eq!((report.fault, report.since), (None, 0), "of another log it says nothing");
}

fn copy(from: &SimDisk, to: &SimDisk, name: &str) {
    use chainring::disk::{Access, Disk};
    let file = from.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.bytes().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    to.create(name).unwrap().write_all_at(&bytes, 0).unwrap();
}

#[test]
fn verifying_writes_nothing_unless_told_to() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("log");
    let log = Log::open(&store).unwrap();
    log.append(Event::new("s", "E").body("body")).unwrap();
    log.close().unwrap();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    assert!(verify(&store, &VerifyOptions { resume: true, ..whole_options() }).unwrap().is_ok());
    assert_eq!(names(), before);
    assert!(verify(&store, &VerifyOptions { remember: true, ..whole_options() }).unwrap().is_ok());
    assert_eq!(names().len(), before.len() + 1);
    assert_eq!(Store::open(&store).unwrap().grades().unwrap().verified_to.map(|(size, _)| size), Some(2));
    // What does not hold any more is not remembered to hold.
    let segment = store.join("0000000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(4).position(|four| four == b"body").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    assert!(!verify(&store, &VerifyOptions { remember: true, ..whole_options() }).unwrap().is_ok());
    assert_eq!(names(), before);
}

#[test]
fn a_verification_in_the_background_keeps_its_pace() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("log");
    let log = Options::new().segment_bytes(4 << 20).open(&store).unwrap();
    for _ in 0..6 {
        log.append(Event::new("s", "E").body(vec![1; 256 << 10])).unwrap();
    }
    log.close().unwrap();
    let started = Instant::now();
    let report = verify(&store, &VerifyOptions { bytes_per_second: 8 << 20, ..whole_options() }).unwrap();
    assert!(report.is_ok() && report.bytes > 3 << 19);
    // No shorter than that pace allows for what was read.
    let least = Duration::from_secs_f64(report.bytes as f64 / (8 << 20) as f64 * 0.9);
    assert!(started.elapsed() >= least, "{:?} for {} bytes", started.elapsed(), report.bytes);
}
