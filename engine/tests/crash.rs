//! Random histories on a disk that loses and tears what was not synced, against a model: what is recovered is a prefix of what was submitted, holds
//! everything that was acknowledged, keeps batches whole, and verifies. One seed replays a run; a failure names it.

mod support;

use std::sync::Arc;

use chainring::disk::sim::{Call, Failure, Fault, SimClock, SimDisk, SimEntropy, SimRandom};
use chainring::disk::{Disk, Environment};
use chainring::{AppendError, Durability, Event, EventId, Opened, Options, Request};
use support::{check, content, names_of_segments, open, read, request};

/// What the model knows of one run: every request in the order it was submitted, and how many of them were acknowledged.
#[derive(Default)]
struct Model {
    submitted: Vec<Vec<Event>>,
    acknowledged: usize,
}

impl Model {
    /// Recovered events must be whole requests from the front, at least the acknowledged ones. Forgets what was lost.
    fn reconcile(&mut self, recovered: &[(String, u64, EventId, Vec<u8>)], seed: u64) {
        let mut at = 0;
        let mut requests = 0;
        while at < recovered.len() {
            let expected = self.submitted.get(requests).unwrap_or_else(|| panic!("seed {seed}: something was invented at event {at}"));
            for event in expected {
                let found = recovered.get(at).unwrap_or_else(|| panic!("seed {seed}: a batch was torn at event {at}"));
                assert_eq!((&found.0, Some(found.2), &found.3), (&event.stream, event.id, &event.body), "seed {seed}: event {at} differs");
                at += 1;
            }
            requests += 1;
        }
        assert!(
            requests >= self.acknowledged,
            "seed {seed}: {} of {} acknowledged requests are gone",
            self.acknowledged - requests,
            self.acknowledged
        );
        self.submitted.truncate(requests);
        self.acknowledged = requests;
    }
}

/// Some appends, some of them waited for; gives up at the first failure.
fn work(environment: &Environment, random: &mut SimRandom, model: &mut Model) {
    let Ok(log) = open(environment) else { return };
    let mut pending = Vec::new();
    for _ in 0..random.below(60) {
        let (events, request) = request(random, 5);
        let level = if random.below(4) == 0 { Durability::Written } else { Durability::Durable };
        model.submitted.push(events);
        match log.submit(request.durability(level)) {
            Ok(receipt) => pending.push((model.submitted.len(), level, receipt)),
            Err(_) => {
                model.submitted.pop();
                break;
            }
        }
        if random.below(12) == 0 {
            // Whatever becomes of it, nothing is lost by it.
            drop(log.pack());
        }
        if random.below(5) == 0 {
            for (count, level, receipt) in pending.drain(..) {
                if receipt.wait().is_ok() && level == Durability::Durable {
                    model.acknowledged = model.acknowledged.max(count);
                }
            }
        }
    }
    match random.below(3) {
        0 => std::mem::forget(log), // killed: nothing is written any more
        1 => drop(log),
        _ => {
            if log.close().is_ok() {
                model.acknowledged = model.submitted.len();
            }
        }
    }
}

fn run(seed: u64) {
    let mut random = SimRandom::new(seed);
    let mut disk = SimDisk::new().with_block_bytes(if random.below(2) == 0 { 512 } else { 4096 });
    let mut model = Model::default();
    for round in 0..4 {
        let environment = disk.environment(seed * 31 + round);
        match random.below(6) {
            0 => disk.inject(Fault::Write(1 + random.below(20))),
            1 => disk.inject(Fault::Sync(1 + random.below(20))),
            _ => {}
        }
        work(&environment, &mut random, &mut model);
        disk = disk.crash(random.next_u64());
        // A reader sees what recovery will keep, and changes nothing.
        let environment = disk.environment(seed * 31 + round);
        let Ok(before) = read(&environment).map(|store| content(&store)) else {
            assert_eq!(model.acknowledged, 0, "seed {seed}: an acknowledged store is gone");
            model.submitted.clear();
            continue;
        };
        // The cut may come again while recovering; recovery is idempotent.
        if random.below(2) == 0 {
            let interrupted = SimDisk::crash(&disk, 1);
            interrupted.inject(Fault::Sync(1 + random.below(4)));
            drop(open(&interrupted.environment(seed)));
            disk = interrupted.crash(random.next_u64());
        }
        let environment = disk.environment(seed * 31 + round + 100);
        let log = open(&environment).unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        assert_eq!(content(&log), before, "seed {seed}: reader and writer recover the same");
        model.reconcile(&before, seed);
        log.close().unwrap();
        let report = check(&environment);
        assert_eq!((&report.fault, report.events), (&None, before.len() as u64), "seed {seed}, round {round}");
        disk = disk.crash(1);
    }
}

#[test]
fn recovered_is_a_prefix_with_everything_acknowledged() {
    for seed in 0..100 {
        run(seed);
    }
}

#[test]
fn a_failed_sync_is_final_and_hides_what_it_did_not_make_durable() {
    let disk = SimDisk::new();
    let environment = disk.environment(1);
    let log = open(&environment).unwrap();
    let mut random = SimRandom::new(7);
    let (first, request_a) = request(&mut random, 3);
    log.append(request_a).unwrap();
    disk.inject(Fault::Sync(1));
    let lost: Vec<_> = (0..3).map(|_| log.submit(request(&mut random, 3).1).unwrap()).collect();
    for receipt in lost {
        assert!(matches!(receipt.wait(), Err(AppendError::OutcomeUnknown(_))));
    }
    // The device works again, and that changes nothing: what it said before was final.
    disk.heal();
    assert!(matches!(log.append(request(&mut random, 3).1), Err(AppendError::Poisoned(_))));
    assert_eq!(content(&log).len(), first.len(), "readers stay below the last good watermark");
    assert!(log.close().is_err());
    // Reopening reads from the device, where the lost bytes never arrived, not from the cache that still shows them.
    let log = open(&environment).unwrap();
    assert_eq!(content(&log).len(), first.len());
    log.append(request(&mut random, 3).1).unwrap();
}

/// A chore that fails poisons the log, and nobody comes for chores any more: what was published meanwhile, and left to whoever was at it, is answered first.
#[test]
fn what_was_published_when_a_chore_failed_is_answered() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new(1_000_000_000_000, 1000)));
    let environment = Environment { disk: Arc::new(disk.clone()), clock: clock.clone(), entropy: Arc::new(SimEntropy::new(1)) };
    let log = Options::new().keeper(false).open_in(environment, "simulated").unwrap();
    log.append(Request::from(Event::new("s", "E")).durability(Durability::Written)).unwrap();
    disk.inject(Fault::Sync(1));
    clock.advance(1_000_000_000);
    let left = log.submit(Event::new("s", "E")).unwrap();
    while log.tick().is_some() {
        assert!(!left.is_done(), "the first tick syncs what was written, and fails");
    }
    assert!(left.is_done());
    assert!(matches!(left.wait(), Err(AppendError::Poisoned(_))));
}

#[test]
fn a_full_disk_refuses_before_anything_is_promised_and_is_no_end() {
    let disk = SimDisk::new();
    let environment = disk.environment(1);
    let log = open(&environment).unwrap();
    disk.inject(Fault::Full);
    let append = |n: u32| log.append(Event::new("s", "E").body(vec![n as u8; 5000]));
    let appended = (0..100).take_while(|&n| append(n).is_ok()).count();
    assert!((5..20).contains(&appended), "one segment was filled: {appended}");
    assert!(matches!(append(0), Err(AppendError::NoSpace(_))));
    disk.heal();
    append(0).unwrap();
    assert_eq!(content(&log).len(), appended + 1);
    log.close().unwrap();
    assert!(check(&environment).is_ok());
}

#[test]
fn a_closed_log_stays_closed_over_segments_that_nobody_wrote_to() {
    let mut disk = SimDisk::new().with_block_bytes(512);
    let log = open(&disk.environment(1)).unwrap();
    log.append(Event::new("s", "E")).unwrap();
    log.close().unwrap();
    // Every life finds other blocks, begins a segment, and is killed; the last one goes on in it, and brings what has ended into the index.
    for life in 2..6 {
        disk = disk.crash(life).with_block_bytes(if life % 2 == 0 { 4096 } else { 512 });
        let log = open(&disk.environment(life)).unwrap();
        assert_eq!(log.report().opened, Opened::Clean, "life {life}");
        std::mem::forget(log);
    }
    let disk = disk.crash(6);
    open(&disk.environment(6)).unwrap().close().unwrap();
    assert!(disk.content("0000000004-0000000004.idx").is_some(), "{:?}", disk.list());
    assert_eq!(names_of_segments(&disk).len(), 5);
    assert_eq!(read(&disk.environment(7)).unwrap().report().opened, Opened::Clean);
    assert_eq!(open(&disk.environment(7)).unwrap().report().opened, Opened::Clean);
}

#[test]
fn a_torn_tail_is_cut_and_reported_never_silently() {
    let disk = SimDisk::new().with_block_bytes(512);
    let environment = disk.environment(3);
    let log = open(&environment).unwrap();
    log.append(Event::new("s", "Kept").body("kept")).unwrap();
    let whole = disk.content("0000000001.seg").unwrap();
    log.append(Event::new("s", "Torn").body(vec![1; 3000])).unwrap();
    std::mem::forget(log);
    let mut torn = disk.content("0000000001.seg").unwrap();
    let end = (0..torn.len()).rev().find(|&at| whole[at] != torn[at]).unwrap() + 1;
    let start = (0..torn.len()).find(|&at| whole[at] != torn[at]).unwrap() / 512 * 512;
    torn[start + 1024..start + 1536].fill(0);
    let disk = SimDisk::new().with_block_bytes(512);
    disk.overwrite("0000000001.seg", torn);
    let environment = disk.environment(4);

    let fault = check(&environment).fault.unwrap();
    assert_eq!((fault.kind.to_string().as_str(), fault.offset), ("torn", start as u64));
    assert_eq!(read(&environment).unwrap().report().opened, Opened::Torn);
    let log = open(&environment).unwrap();
    assert_eq!((log.report().opened, log.report().cut_bytes), (Opened::Torn, (end - start) as u64));
    assert_eq!(content(&log).len(), 1);
    log.append(Event::new("s", "After")).unwrap();
    log.close().unwrap();
    assert!(check(&environment).is_ok());
    assert_eq!(names_of_segments(&disk).len(), 2, "recovery never appends to a segment it had to cut");
}

#[test]
fn a_footer_of_which_only_the_beginning_was_written_is_a_torn_tail() {
    // Behind every commit, up to the last block of the segment, the footer ends where no commit can.
    for bodies in [40_000, 62_400] {
        let disk = SimDisk::new().with_block_bytes(512);
        let environment = disk.environment(1);
        let log = open(&environment).unwrap();
        let kept = (0..9).map(|n| Event::new(format!("s{n}"), "Kept").body(vec![1; bodies / 9])).collect::<Vec<_>>();
        log.append(kept).unwrap();
        disk.inject(Fault::Nth { call: Some(Call::SetBytes), n: 1, failure: Failure::Device, lasting: true });
        assert!(log.append(Event::new("s", "Lost").body(vec![1; 60_000])).is_err());
        disk.unplug();
        let name = "0000000001.seg";
        let sealed = disk.content(name).unwrap();
        let footer_end = sealed.iter().rposition(|&b| b != 0).unwrap() + 1;
        let footer = (0..footer_end).rev().find(|&at| at % 512 == 0 && sealed[at..].starts_with(b"FTR\xF1".as_slice())).unwrap();
        assert!(footer_end > footer + 512, "a footer of more than a sector");
        for written in (footer..footer_end).step_by(512) {
            let mut torn = sealed.clone();
            torn[written + 512..].fill(0);
            let disk = SimDisk::new().with_block_bytes(512);
            disk.overwrite(name, torn);
            let environment = disk.environment(2);
            let log = open(&environment).unwrap_or_else(|error| panic!("{} bytes of the footer: {error}", written + 512 - footer));
            assert_eq!(content(&log).len(), 9);
            log.close().unwrap();
            assert_eq!(check(&environment).fault, None);
        }
    }
}

#[test]
fn a_name_that_an_earlier_writer_could_not_make_durable_is_made_durable_before_anything_is_promised() {
    let disk = SimDisk::new().with_block_bytes(512);
    open(&disk.environment(1)).unwrap().close().unwrap();
    // With other blocks a closed store goes on in a new segment; the sync of the directory fails behind its rename.
    let disk = disk.with_block_bytes(4096);
    disk.inject(Fault::Nth { call: Some(Call::SyncDirectory), n: 2, failure: Failure::Device, lasting: false });
    assert!(open(&disk.environment(2)).is_err());
    let log = open(&disk.environment(3)).unwrap();
    assert_eq!(log.report().opened, Opened::Clean);
    log.append(Event::new("s", "Acknowledged")).unwrap();
    for seed in 0..20 {
        let log = open(&disk.crash(seed).environment(4)).unwrap();
        assert_eq!(content(&log).len(), 1, "seed {seed}");
    }
}

#[test]
fn a_log_that_is_closed_with_nothing_in_its_new_segment_is_closed() {
    let disk = SimDisk::new().with_block_bytes(512);
    open(&disk.environment(1)).unwrap().close().unwrap();
    let disk = disk.with_block_bytes(4096);
    open(&disk.environment(2)).unwrap().close().unwrap();
    let log = open(&disk.environment(3)).unwrap();
    assert_eq!((log.report().opened, names_of_segments(&disk).len()), (Opened::Clean, 2));
}

#[test]
fn a_segment_is_begun_only_behind_one_whose_name_is_durable() {
    let disk = SimDisk::new().with_block_bytes(512);
    open(&disk.environment(1)).unwrap().close().unwrap();
    let disk = disk.with_block_bytes(4096);
    let no_sync_of_names = |n| Fault::Nth { call: Some(Call::SyncDirectory), n, failure: Failure::Device, lasting: true };
    disk.inject(no_sync_of_names(2));
    assert!(open(&disk.environment(2)).is_err());
    assert_eq!(names_of_segments(&disk).len(), 2);
    // The next one begins a third segment, and cannot make its name durable either.
    let disk = disk.snapshot().with_block_bytes(512);
    disk.inject(no_sync_of_names(2));
    assert!(open(&disk.environment(3)).is_err());
    assert_eq!(names_of_segments(&disk).len(), 3);
    for seed in 0..40 {
        let after = disk.crash(seed);
        assert!(open(&after.environment(4)).is_ok(), "seed {seed}: {:?}", after.names());
    }
}
