//! Packing sealed segments: what is read stays what it was, and takes less room; damage is left as it is.

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use chainring::disk::Disk;
use chainring::disk::sim::{Call, Failure, Fault, SimDisk, SimRandom};
use chainring::{AppendError, AsOf, Event, EventId, FaultKind, Log, Options, PackError, Position, Request, Store, VerifyOptions, verify};
use chainring_format::segment::SegmentHeader;
use support::{check, content, names_of_segments, open, read, request};

const FIRST: &str = "0000000001.seg";

fn header(disk: &SimDisk, name: &str) -> SegmentHeader {
    SegmentHeader::parse(&disk.content(name).unwrap()).unwrap()
}

/// Appends events one by one until there are so many segments.
fn fill(log: &Log, segments: u64, bytes: usize) {
    let mut number = log.stats().events;
    while log.stats().segments < segments {
        number += 1;
        let mut id = [3; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        log.append(Event::new(format!("s{}", number % 5), "E").id(EventId(id)).body(vec![number as u8; bytes])).unwrap();
    }
}

/// A disk with a closed store of lone events in so many segments.
fn lone_events(segments: u64) -> SimDisk {
    let disk = SimDisk::new();
    let log = open(&disk.environment(1)).unwrap();
    fill(&log, segments, 100);
    log.close().unwrap();
    // So that whatever is read is read of the segments.
    for name in disk.list().unwrap().iter().filter(|name| name.ends_with(".idx")) {
        disk.environment(1).disk.remove(name).unwrap();
    }
    disk
}

#[test]
fn packing_a_golden_store_gives_the_golden_bytes() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/vectors/valid");
    for name in ["packed", "packed-mixed"] {
        let directory = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(vectors.join(format!("{name}-before/store"))).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
        }
        let log = Log::open(directory.path()).unwrap();
        let report = log.pack().unwrap();
        assert!(report.failed.is_empty() && report.packed >= 1, "{report:?}");
        assert!(
            fs::read(directory.path().join(FIRST)).unwrap() == fs::read(vectors.join(name).join("store").join(FIRST)).unwrap(),
            "{name}"
        );
        log.close().unwrap();
        assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
    }
}

#[test]
fn everything_reads_as_before_and_takes_less_room() {
    for block_bytes in [4096, 16384] {
        let disk = SimDisk::new().with_block_bytes(block_bytes);
        let environment = disk.environment(1);
        let log = open(&environment).unwrap();
        let mut random = SimRandom::new(block_bytes.into());
        while log.stats().segments < 6 {
            log.append(request(&mut random, 5).1).unwrap();
        }
        let (before, view, bytes) = (content(&log), log.latest(), log.stats().bytes);
        let links: Vec<_> = view.events().map(|event| event.unwrap().link()).collect();
        let beside = read(&environment).unwrap();

        let report = log.pack().unwrap();
        assert!(report.failed.is_empty(), "{report:?}");
        assert!(report.packed > 0 && log.stats().packed_segments == report.packed, "{report:?}");
        assert_eq!(log.stats().bytes, bytes - report.bytes_before + report.bytes_after);
        assert!(report.bytes_after < report.bytes_before * 3 / 4, "{report:?}");
        let on_disk: u64 = names_of_segments(&disk).iter().map(|name| disk.content(name).unwrap().len() as u64).sum();
        assert!(
            on_disk < bytes - report.bytes_before + report.bytes_after + (64 << 10) + 300_000,
            "only the live segment has room to spare"
        );

        // A view from before, a reader from before, and everything that is asked now.
        assert_eq!(view.events().map(|event| event.unwrap().link()).collect::<Vec<_>>(), links);
        assert!(content(&log) == before && content(&beside) == before && content(&read(&environment).unwrap()) == before);
        for position in (1..=before.len() as u64).step_by(7) {
            let event = log.at(AsOf::Position(Position(position))).unwrap();
            assert_eq!(event.event(Position(position)).unwrap().link(), links[position as usize - 1]);
        }
        assert_eq!(check(&environment).fault, None);

        // The log goes on, and a retry of what is packed now is known.
        log.append(request(&mut random, 5).1).unwrap();
        let (stream, _, id, body) = &before[3];
        let again = log.append(Event::new(stream.clone(), "Happened").id(*id).body(body.clone()));
        assert!(!matches!(again, Ok(receipt) if !receipt.duplicate), "an id is done once");
        assert_eq!(log.pack().unwrap().packed, 0, "nothing is packed twice");
        log.close().unwrap();
        assert_eq!(check(&environment).fault, None);
        let log = open(&environment).unwrap();
        assert_eq!(content(&log)[..before.len()], before);
        assert_eq!(log.pack().unwrap().packed, 0, "nor after opening again");
    }
}

#[test]
fn what_is_dense_and_what_is_live_stays_as_it_is() {
    let disk = SimDisk::new();
    let environment = disk.environment(1);
    let log = open(&environment).unwrap();
    while log.stats().segments < 3 {
        let event = |stream: &str| Event::new(stream, "E").body(vec![7; 2000]);
        log.append(Request::batch(["a", "b", "c", "d", "e", "f", "g"].map(event).to_vec())).unwrap();
    }
    let files = || names_of_segments(&disk).into_iter().map(|name| disk.content(&name).unwrap()).collect::<Vec<_>>();
    let before = files();
    let written = disk.count(Call::Create);
    let report = log.pack().unwrap();
    assert_eq!((report.packed, report.failed.len()), (0, 0));
    assert!(files() == before && disk.count(Call::Create) == written);
    // A live segment has no successor.
    let disk = SimDisk::new();
    let log = open(&disk.environment(1)).unwrap();
    (0..3).for_each(|_| drop(log.append(Event::new("s", "E")).unwrap()));
    assert_eq!(log.pack().unwrap().packed, 0);
}

#[test]
fn large_commits_are_told_from_small_ones_without_reading_all_of_them() {
    let disk = SimDisk::new();
    let log = Options::new().segment_bytes(1 << 20).open_in(disk.environment(1), "simulated").unwrap();
    while log.stats().segments < 2 {
        log.append((0..40).map(|_| Event::new("s", "E").body(vec![9; 2000])).collect::<Vec<_>>()).unwrap();
    }
    let probes = disk.count(Call::Probe);
    assert_eq!(log.pack().unwrap().packed, 0);
    assert!(disk.count(Call::Probe) - probes <= 14, "{} looks", disk.count(Call::Probe) - probes);
}

#[test]
fn what_recovery_cut_is_kept_as_evidence() {
    let disk = SimDisk::new().with_block_bytes(512);
    let log = open(&disk.environment(1)).unwrap();
    (0..20).for_each(|_| drop(log.append(Event::new("s", "E").body("kept")).unwrap()));
    log.append(Event::new("s", "Torn").body(vec![1; 3000])).unwrap();
    let torn = disk.snapshot();
    disk.unplug();
    drop(log);
    let mut bytes = torn.content(FIRST).unwrap();
    let used = bytes.iter().rposition(|&b| b != 0).unwrap() / 512 * 512 + 512;
    bytes[used - 2048..used - 1024].fill(0);
    torn.overwrite(FIRST, bytes);
    let log = open(&torn.environment(2)).unwrap();
    assert!(log.report().cut_bytes > 0);
    let before = torn.content(FIRST);
    let report = log.pack().unwrap();
    assert_eq!((report.packed, report.failed.len()), (0, 0));
    assert!(torn.content(FIRST) == before, "what was cut still lies behind its segment");
}

#[test]
fn a_killed_writers_segment_is_packed_without_a_footer() {
    let disk = SimDisk::new();
    let log = open(&disk.environment(1)).unwrap();
    (0..12).for_each(|_| drop(log.append(Event::new("s", "E")).unwrap()));
    let killed = disk.snapshot();
    disk.unplug();
    drop(log);
    let log = open(&killed.environment(2)).unwrap();
    let before = content(&log);
    assert_eq!(log.pack().unwrap().packed, 1);
    let packed = header(&killed, FIRST);
    assert_eq!(packed.packed_end(), Some(killed.content(FIRST).unwrap().len() as u64), "it had no footer and has none");
    assert!(content(&log) == before);
    log.close().unwrap();
    assert_eq!(check(&killed.environment(1)).fault, None);
}

#[test]
fn damage_is_found_and_never_packed() {
    let whole = lone_events(2);
    let bytes = whole.content(FIRST).unwrap();
    let log = open(&whole.snapshot().environment(1)).unwrap();
    assert_eq!(log.pack().unwrap().packed, 1, "whole it is packed");
    drop(log);
    // Every byte of header, commits and footer.
    for at in (0..bytes.len()).step_by(23) {
        let disk = whole.snapshot();
        let log = open(&disk.environment(1)).unwrap();
        disk.flip(FIRST, at as u64, 1 << (at % 8));
        let damaged = disk.content(FIRST).unwrap();
        let report = log.pack().unwrap();
        assert_eq!((report.packed, report.failed.len()), (0, 1), "byte {at}");
        let failure = &report.failed[0];
        assert!(
            failure.segment == FIRST && matches!(&failure.error, PackError::Damaged(fault) if fault.segment == FIRST),
            "byte {at}: {failure:?}"
        );
        assert!(disk.content(FIRST).unwrap() == damaged && names_of_segments(&disk).len() == 2, "byte {at}");
        assert!(disk.list().unwrap().iter().all(|name| !name.ends_with(".tmp")), "byte {at}: nothing is left behind");
        assert_eq!(log.pack().unwrap().failed.len(), 0, "it is not tried again");
        log.append(Event::new("after", "E")).unwrap();
    }
}

#[test]
fn what_cannot_be_read_or_written_is_left_and_told() {
    let whole = lone_events(2);
    let before = whole.content(FIRST).unwrap();
    let attempt = |fail: &dyn Fn(&SimDisk)| {
        let disk = whole.snapshot();
        let log = open(&disk.environment(1)).unwrap();
        fail(&disk);
        let mut report = log.pack().unwrap();
        assert_eq!((report.packed, report.failed.len()), (0, 1));
        disk.heal();
        assert!(disk.content(FIRST).unwrap() == before);
        assert!(disk.list().unwrap().iter().all(|name| !name.ends_with(".tmp")));
        log.append(Event::new("after", "E")).unwrap();
        log.close().unwrap();
        assert_eq!(check(&disk.environment(1)).fault, None);
        report.failed.remove(0).error
    };
    let unreadable = attempt(&|disk| disk.make_unreadable(FIRST, 8192..8704));
    assert!(matches!(unreadable, PackError::Read { segment, offset: 8192, .. } if segment == FIRST));
    let full = attempt(&|disk| disk.limit_space(Some(disk.used_bytes() + 2000)));
    assert!(
        matches!(&full, PackError::Io { doing, source } if doing == "writing 0000000001.seg.tmp" && source.kind() == std::io::ErrorKind::StorageFull),
        "{full}"
    );
    let unread = |disk: &SimDisk| disk.inject(Fault::Nth { call: Some(Call::Probe), n: 1, failure: Failure::Device, lasting: false });
    assert!(matches!(attempt(&unread), PackError::Read { .. }));
    // A write that landed elsewhere is met when it is read back, before anything rests on it. What it was written over is another matter.
    let disk = whole.snapshot().with_seed(3);
    let log = open(&disk.environment(1)).unwrap();
    disk.inject(Fault::Misdirect(1));
    let report = log.pack().unwrap();
    assert!(matches!(&report.failed[0].error, PackError::Io { doing, .. } if doing.starts_with("reading back")), "{report:?}");
}

#[test]
fn a_log_that_takes_nothing_packs_nothing() {
    let disk = lone_events(3);
    let log = open(&disk.environment(1)).unwrap();
    disk.inject(Fault::Sync(1));
    assert!(log.append(Event::new("s", "E")).is_err());
    assert!(matches!(log.pack(), Err(AppendError::Poisoned(_))));
    assert_eq!(names_of_segments(&disk).iter().filter(|name| header(&disk, name).is_packed()).count(), 0);
}

#[test]
fn a_lost_successor_is_missing_and_not_a_shorter_log() {
    let disk = lone_events(2);
    let log = open(&disk.environment(1)).unwrap();
    assert_eq!(log.pack().unwrap().packed, 1);
    log.close().unwrap();
    disk.remove("0000000002.seg").unwrap();
    let fault = check(&disk.environment(1)).fault.unwrap();
    assert_eq!((fault.kind, fault.rule, fault.segment.as_str(), fault.offset), (FaultKind::Missing, "S8", "0000000002.seg", 0));
    assert!(open(&disk.environment(1)).is_err() && read(&disk.environment(1)).is_err());
}

#[test]
fn packing_while_others_append_and_read() {
    let directory = tempfile::tempdir().unwrap();
    let log = Options::new().segment_bytes(64 << 10).open(directory.path()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..150_u64 {
                    log.append(Event::new(format!("s{thread}"), "E").body(number.to_le_bytes())).unwrap();
                }
            });
        }
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0;
                    while !done.load(Ordering::Relaxed) {
                        // By their own opening, as another process would, and through the log.
                        let store = Store::open(directory.path()).unwrap();
                        let held = log.latest();
                        for event in store.latest().events().chain(held.events()) {
                            event.unwrap();
                            seen += 1;
                        }
                        assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
                    }
                    seen
                })
            })
            .collect();
        let mut packed = 0;
        while log.stats().events < 450 {
            let report = log.pack().unwrap();
            assert!(report.failed.is_empty(), "{report:?}");
            packed += report.packed;
        }
        packed += log.pack().unwrap().packed;
        done.store(true, Ordering::Relaxed);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
        assert!(packed >= 10, "{packed} segments");
        assert_eq!(log.stats().packed_segments, packed);
    });
    log.close().unwrap();
    assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().events, 450);
}
