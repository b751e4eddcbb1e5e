//! Every call to the disk fails once, for every public operation: the first, the second, the third, until a run meets no failure any more; with EIO,
//! ENOSPC and EMFILE. Nothing panics, nothing acknowledged is lost, a batch is whole or absent, a refusal changes nothing and the log goes on or is
//! poisoned as documented, and the store verifies when it was opened again, with and without a power cut in between.

mod support;

use std::path::Path;
use std::thread;

use chainring::disk::Environment;
use chainring::disk::sim::{Call, Failure, Fault, SimDisk, SimRandom};
use chainring::{
    AppendError, AsOf, Durability, Event, EventId, Log, OpenError, PackError, Pending, Position, ReadError, Receipt, Request, Store,
    VerifyOptions, Version, verify_in,
};
use chainring_format::segment::SegmentHeader;
use support::{check, content, open, read};

/// What became of a request, as its caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    /// Acknowledged as handed to the system: a power cut may take it, and a failed sync.
    Written,
    Refused,
    Unknown,
}

/// Every request that was handed in, in order.
#[derive(Debug, Default, Clone)]
struct Ledger {
    requests: Vec<(Vec<EventId>, Outcome)>,
    drawn: u64,
}

impl Ledger {
    fn event(&mut self, bytes: usize) -> Event {
        self.drawn += 1;
        let mut id = [1; 16];
        id[..8].copy_from_slice(&self.drawn.to_be_bytes());
        Event::new(format!("s{}", self.drawn % 3), "Happened").id(EventId(id)).body(vec![self.drawn as u8; bytes])
    }

    /// A request of that many events: one alone, or a batch.
    fn request(&mut self, events: usize, bytes: usize) -> (Vec<EventId>, Request) {
        let events: Vec<Event> = (0..events).map(|_| self.event(bytes)).collect();
        let ids = events.iter().map(|event| event.id.unwrap()).collect();
        let request = if events.len() == 1 { events[0].clone().into() } else { events.into() };
        (ids, request)
    }

    fn note(&mut self, ids: Vec<EventId>, outcome: Outcome) {
        self.requests.push((ids, outcome));
    }

    /// Found must be whole requests in order: all that were acknowledged, none that was refused, nothing else.
    fn compare(&self, store: &Store, may_lose_written: bool) {
        let found: Vec<EventId> = content(store).into_iter().map(|event| event.2).collect();
        let mut rest = &found[..];
        for (ids, outcome) in &self.requests {
            if rest.first() == ids.first() {
                assert!(rest.starts_with(ids), "a batch is torn");
                assert_ne!(*outcome, Outcome::Refused, "what was refused is there: {ids:?}");
                rest = &rest[ids.len()..];
            } else {
                let may_be_gone = match outcome {
                    Outcome::Refused | Outcome::Unknown => true,
                    Outcome::Written => may_lose_written,
                    Outcome::Acknowledged => false,
                };
                assert!(may_be_gone, "{outcome:?} and gone: {ids:?}");
            }
        }
        assert!(rest.is_empty(), "invented: {rest:?}");
    }
}

/// Says where a test was when it panicked.
struct Where<'a> {
    what: String,
    disk: &'a SimDisk,
}

impl Drop for Where<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}\n{}", self.what, self.disk.trace());
        }
    }
}

/// What an error of opening must say.
fn check_open_error(error: &OpenError) {
    match error {
        OpenError::Io { doing, source } => {
            assert!(!doing.is_empty() && source.raw_os_error().is_some(), "{error}");
        }
        OpenError::Read { segment, source, .. } => {
            assert!(segment.ends_with(".seg") && source.raw_os_error().is_some(), "{error}");
        }
        other => panic!("a failing call is no {other:?}"),
    }
}

/// What a failing call makes of packing: an error with its file, and no damage.
fn check_pack_error(error: &PackError) {
    match error {
        PackError::Io { doing, source } => assert!(doing.contains(".seg") && source.raw_os_error().is_some(), "{error}"),
        PackError::Read { segment, source, .. } => assert!(segment.ends_with(".seg") && source.raw_os_error().is_some(), "{error}"),
        other => panic!("a failing call is no {other:?}"),
    }
}

fn check_read_error(error: &ReadError) {
    assert!(
        matches!(error, ReadError::Io { segment, source, .. } if segment.ends_with(".seg") && source.raw_os_error().is_some()),
        "{error:?}"
    );
}

/// Notes an outcome; checks that the log then is as documented.
fn settle(ledger: &mut Ledger, ids: Vec<EventId>, level: Durability, result: Result<Receipt, AppendError>) {
    let outcome = match result {
        Ok(receipt) => {
            assert_eq!(receipt.events.len(), ids.len());
            if level == Durability::Written { Outcome::Written } else { Outcome::Acknowledged }
        }
        Err(AppendError::OutcomeUnknown(poison)) => {
            assert!(!poison.doing.is_empty() && poison.source.is_some(), "{poison}");
            Outcome::Unknown
        }
        Err(AppendError::Poisoned(poison)) => {
            assert!(!poison.doing.is_empty() && poison.source.is_some(), "{poison}");
            Outcome::Refused
        }
        Err(
            error @ (AppendError::Refused(_)
            | AppendError::IdConflict { .. }
            | AppendError::PartlyKnown { .. }
            | AppendError::StreamIdCollision { .. }
            | AppendError::Invalid { .. }
            | AppendError::ClockJump { .. }
            | AppendError::Closed
            | AppendError::ForkedHandle),
        ) => panic!("a failing call is no {error:?}"),
        // No room for the next segment, or what else means that nothing was appended.
        Err(_) => Outcome::Refused,
    };
    ledger.note(ids, outcome);
}

/// One thing a program does with an open log.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Events and bytes of each.
    Append(usize, usize),
    Written(usize),
    /// Handed in together, then waited for.
    Crowd(usize),
    Sync,
    Read,
    Pack,
}

fn take(log: &Log, disk: &SimDisk, step: Step, ledger: &mut Ledger) {
    let append = |ledger: &mut Ledger, (ids, request): (Vec<EventId>, Request), level| {
        let result = log.append(request.durability(level));
        let failed = result.as_ref().err().cloned();
        settle(ledger, ids, level, result);
        failed
    };
    match step {
        Step::Append(events, bytes) => {
            let request = ledger.request(events, bytes);
            let again = request.clone();
            match append(ledger, request, Durability::Durable) {
                None => {}
                Some(AppendError::OutcomeUnknown(_) | AppendError::Poisoned(_)) => {
                    let request = ledger.request(1, 10);
                    let next = append(ledger, request, Durability::Durable);
                    assert!(matches!(next, Some(AppendError::Poisoned(_))), "poisoned for good");
                }
                // Refused: when space has come back, the log goes on as if nothing had been.
                Some(_) => {
                    disk.heal();
                    ledger.requests.pop();
                    assert_eq!(append(ledger, again, Durability::Durable).map(|error| error.to_string()), None, "refused and usable");
                }
            }
        }
        Step::Written(bytes) => {
            let request = ledger.request(1, bytes);
            append(ledger, request, Durability::Written);
        }
        Step::Crowd(count) => {
            let handed_in: Vec<(Vec<EventId>, Result<Pending, AppendError>)> = (0..count)
                .map(|n| {
                    let (ids, request) = ledger.request(1 + n % 3, 900);
                    (ids, log.submit(request))
                })
                .collect();
            // Each is waited for by a thread of its own: nobody hangs, whoever leads.
            let outcomes = thread::scope(|scope| {
                let wait =
                    |(ids, pending): (Vec<EventId>, Result<Pending, AppendError>)| scope.spawn(|| (ids, pending.and_then(Pending::wait)));
                let threads: Vec<_> = handed_in.into_iter().map(wait).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            });
            outcomes.into_iter().for_each(|(ids, result)| settle(ledger, ids, Durability::Durable, result));
        }
        Step::Sync => {
            if log.sync().is_ok() {
                promote(ledger);
            }
        }
        Step::Read => drop(content(log)),
        Step::Pack => match log.pack() {
            Ok(report) => report.failed.iter().for_each(|failure| check_pack_error(&failure.error)),
            Err(error) => assert!(matches!(error, AppendError::Poisoned(_)), "{error:?}"),
        },
    }
}

/// What was written became durable.
fn promote(ledger: &mut Ledger) {
    for (_, outcome) in &mut ledger.requests {
        if *outcome == Outcome::Written {
            *outcome = Outcome::Acknowledged;
        }
    }
}

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Close,
    Drop,
    Kill,
}

/// Opens, takes the steps, ends. Gives up when opening fails.
fn live(environment: &Environment, disk: &SimDisk, steps: &[Step], end: End, ledger: &mut Ledger) {
    let log = match open(environment) {
        Ok(log) => log,
        Err(error) => return check_open_error(&error),
    };
    for &step in steps {
        take(&log, disk, step, ledger);
    }
    match end {
        End::Close => {
            if log.close().is_ok() {
                promote(ledger);
            }
        }
        End::Drop => drop(log),
        End::Kill => {
            disk.unplug();
            drop(log);
        }
    }
}

/// A store as an earlier life left it.
fn prepared(steps: &[Step], end: End, block_bytes: u32) -> (SimDisk, Ledger) {
    let disk = SimDisk::new().with_block_bytes(block_bytes);
    let mut ledger = Ledger::default();
    if steps.is_empty() {
        return (disk, ledger);
    }
    let environment = disk.environment(1);
    let log = open(&environment).unwrap();
    steps.iter().for_each(|&step| take(&log, &disk, step, &mut ledger));
    let left = disk.snapshot();
    if end == End::Kill {
        disk.unplug();
        drop(log);
        return (left, ledger);
    }
    log.close().unwrap();
    (disk, ledger)
}

/// Opens what is there, compares, retries what is not known, appends, closes, verifies.
fn recover(disk: &SimDisk, mut ledger: Ledger, may_lose_written: bool) {
    let environment = disk.environment(77);
    if disk.names().iter().any(|name| name.ends_with(".seg")) {
        ledger.compare(&read(&environment).unwrap(), may_lose_written);
    }
    let log = open(&environment).unwrap();
    ledger.compare(&log, may_lose_written);
    let (ids, request) = ledger.request(2, 100);
    settle(&mut ledger, ids, Durability::Durable, log.append(request));
    assert_eq!(ledger.requests.last().unwrap().1, Outcome::Acknowledged);
    log.close().unwrap();
    assert_eq!(check(&environment).fault, None);
    ledger.compare(&read(&environment).unwrap(), may_lose_written);
}

/// The loop: the n-th call fails, for every n and in every way; with one write after the other, and with several under way.
fn every_call_fails(name: &str, prepared: &(SimDisk, Ledger), steps: &[Step], end: End) {
    let mut met = 0;
    let mut overlapped = 0;
    let ways = Failure::ALL.into_iter().flat_map(|failure| [(failure, false), (failure, true)]);
    for (failure, is_queued) in ways {
        for n in 1.. {
            let disk = prepared.0.snapshot().with_seed(n);
            let disk = if is_queued { disk.with_queue(0) } else { disk };
            let mut ledger = prepared.1.clone();
            let what = format!("{name}: call {n} fails with {failure:?}{}", if is_queued { ", writes in flight" } else { "" });
            let _where = Where { what, disk: &disk };
            disk.inject(Fault::Nth { call: None, n, failure, lasting: false });
            live(&disk.environment(2), &disk, steps, end, &mut ledger);
            if disk.is_fault_waiting() {
                break;
            }
            met += 1;
            overlapped += usize::from(disk.writes_under_way_max() > 1);
            recover(&disk.crash(n), ledger.clone(), true);
            // Without a cut, only a failed sync takes what was handed to the system.
            let trace = disk.trace();
            let sync_failed =
                trace.lines().any(|line| line.contains("(injected)") && (line.contains(" Sync ") || line.contains(" DropCache ")));
            recover(&disk.snapshot(), ledger, sync_failed);
        }
    }
    let is_crowd = steps.iter().any(|step| matches!(step, Step::Crowd(_)));
    assert!(!is_crowd || overlapped > 10, "{name}: commits were in flight together in {overlapped} runs");
    assert!(met >= 30, "{name}: {met} faults were met");
}

#[test]
fn creating_a_store() {
    every_call_fails("create", &prepared(&[], End::Close, 4096), &[Step::Append(1, 10)], End::Close);
}

#[test]
fn opening_a_store_closed_in_order() {
    let store = prepared(&[Step::Append(3, 20_000), Step::Append(1, 10)], End::Close, 512);
    every_call_fails("clean", &store, &[Step::Append(1, 10)], End::Close);
    // With other blocks a closed store gets a new segment.
    let store = (store.0.with_block_bytes(4096), store.1);
    every_call_fails("clean, other blocks", &store, &[Step::Append(2, 10)], End::Drop);
}

#[test]
fn opening_a_store_whose_writer_was_killed() {
    let store = prepared(&[Step::Append(3, 20_000), Step::Written(10), Step::Append(1, 10)], End::Kill, 512);
    every_call_fails("killed", &store, &[Step::Append(1, 10)], End::Close);
}

#[test]
fn opening_a_torn_store() {
    let (disk, mut ledger) = prepared(&[Step::Append(1, 10), Step::Append(3, 1000)], End::Kill, 512);
    let name = "0000000001.seg";
    let mut bytes = disk.content(name).unwrap();
    let used = bytes.iter().rposition(|&b| b != 0).unwrap() / 512 * 512 + 512;
    bytes[used - 1024..used - 512].fill(0);
    disk.overwrite(name, bytes);
    ledger.requests.last_mut().unwrap().1 = Outcome::Unknown;
    every_call_fails("torn", &(disk, ledger), &[Step::Append(1, 10)], End::Close);
}

#[test]
fn opening_a_store_that_was_sealed_and_has_no_successor() {
    let disk = SimDisk::new().with_block_bytes(512);
    let mut ledger = Ledger::default();
    let log = open(&disk.environment(1)).unwrap();
    disk.inject(Fault::Nth { call: Some(Call::Rename), n: 1, failure: Failure::Device, lasting: false });
    for _ in 0..2 {
        take(&log, &disk, Step::Append(2, 20_000), &mut ledger);
    }
    drop(log);
    assert_eq!(disk.names(), ["0000000001.seg", "0000000002.seg.tmp"]);
    every_call_fails("sealed", &(disk, ledger), &[Step::Append(1, 10)], End::Close);
}

#[test]
fn appending_at_every_level_alone_and_in_a_crowd() {
    let steps = [
        Step::Append(1, 10),
        Step::Append(4, 700),
        Step::Written(10),
        Step::Written(3000),
        Step::Sync,
        Step::Read,
        Step::Crowd(7),
        Step::Written(10),
    ];
    for end in [End::Close, End::Drop, End::Kill] {
        every_call_fails(&format!("append, {end:?}"), &prepared(&[Step::Append(1, 10)], End::Close, 512), &steps, end);
    }
}

#[test]
fn rotating_to_the_next_segment_and_to_one_large_enough_for_a_batch() {
    let store = prepared(&[Step::Append(1, 10)], End::Close, 4096);
    let steps = [Step::Append(1, 40_000), Step::Written(100), Step::Append(1, 40_000), Step::Append(5, 30_000), Step::Append(1, 10)];
    every_call_fails("rotate", &store, &steps, End::Close);
    every_call_fails("rotate in a crowd", &store, &[Step::Append(1, 55_000), Step::Crowd(9), Step::Read], End::Kill);
}

/// A closed store of lone events in three segments, of which all but the last deserve to be packed.
fn padded() -> (SimDisk, Ledger) {
    let disk = SimDisk::new();
    let mut ledger = Ledger::default();
    let log = open(&disk.environment(1)).unwrap();
    while log.stats().segments < 3 {
        take(&log, &disk, Step::Append(1, 10), &mut ledger);
    }
    log.close().unwrap();
    (disk, ledger)
}

#[test]
fn packing_where_any_call_fails_loses_nothing() {
    let store = padded();
    every_call_fails("pack", &store, &[Step::Pack, Step::Append(1, 10), Step::Pack, Step::Read], End::Close);
    every_call_fails("pack, killed", &store, &[Step::Append(1, 10), Step::Pack, Step::Written(10)], End::Kill);
    every_call_fails("pack and rotate", &store, &[Step::Pack, Step::Append(1, 60_000), Step::Append(1, 60_000), Step::Pack], End::Drop);
}

#[test]
fn a_power_cut_at_any_call_of_packing_leaves_the_old_file_or_the_new_one() {
    let (store, ledger) = padded();
    let whole = |disk: &SimDisk| {
        let names = ["0000000001.seg", "0000000002.seg"];
        names.map(|name| SegmentHeader::parse(&disk.content(name).unwrap()).unwrap().is_packed())
    };
    let mut met = [0; 3];
    for n in 1.. {
        let disk = store.snapshot().with_seed(n);
        let log = open(&disk.environment(2)).unwrap();
        // From this call on there is no device any more.
        disk.inject(Fault::Nth { call: None, n, failure: Failure::Device, lasting: true });
        drop(log.pack());
        let was_met = !disk.is_fault_waiting();
        for seed in 0..12 {
            let after = disk.crash(seed * 1000 + n);
            met[whole(&after).into_iter().filter(|is_packed| *is_packed).count()] += 1;
            recover(&after, ledger.clone(), false);
            let names = after.names();
            assert!(names.iter().all(|name| !name.ends_with(".tmp")), "the next writer has removed what was left: {names:?}");
        }
        disk.unplug();
        if !was_met {
            break;
        }
    }
    assert!(met.into_iter().all(|count| count > 20), "none, one and both were packed: {met:?}");
}

#[test]
fn failing_again_while_recovering_from_a_failure() {
    let steps = [Step::Append(1, 30_000), Step::Append(2, 20_000), Step::Written(10)];
    let store = prepared(&[Step::Append(1, 10)], End::Kill, 512);
    let mut random = SimRandom::new(5);
    for round in 0..60 {
        let mut disk = store.0.snapshot().with_seed(round);
        let mut ledger = store.1.clone();
        let _where = Where { what: format!("round {round}"), disk: &disk.clone() };
        for life in 0..4 {
            let failure = Failure::ALL[random.below(3) as usize];
            disk.inject(Fault::Nth { call: None, n: 1 + random.below(40), failure, lasting: random.one_in(3) });
            live(&disk.environment(life), &disk, &steps, End::Drop, &mut ledger);
            for (_, outcome) in &mut ledger.requests {
                // What one life left undecided, or a power cut could take, the next one decides.
                if *outcome == Outcome::Written {
                    *outcome = Outcome::Unknown;
                }
            }
            disk = if random.one_in(2) { disk.crash(random.next_u64()) } else { disk.snapshot() };
        }
        recover(&disk, ledger, true);
    }
}

#[test]
fn a_retry_after_an_unknown_outcome_is_done_once() {
    let store = prepared(&[Step::Append(1, 10)], End::Close, 512);
    let (mut before, mut anew) = (0, 0);
    for n in 1..40 {
        for cut in [false, true] {
            let disk = store.0.snapshot().with_seed(n);
            let _where = Where { what: format!("call {n} fails"), disk: &disk };
            let mut ledger = store.1.clone();
            let log = open(&disk.environment(2)).unwrap();
            disk.inject(Fault::Nth { call: None, n: 1 + n % 2, failure: Failure::Device, lasting: false });
            let (ids, request) = ledger.request(2, 10);
            assert!(matches!(log.append(request.clone()), Err(AppendError::OutcomeUnknown(_))), "a lone append is one write and one sync");
            drop(log);
            let after = if cut { disk.crash(n) } else { disk.snapshot() };
            let log = open(&after.environment(3)).unwrap();
            let receipt = log.append(request.clone()).unwrap();
            *(if receipt.duplicate { &mut before } else { &mut anew }) += 1;
            let again = log.append(request).unwrap();
            assert!(again.duplicate && again.events == receipt.events);
            drop(log);
            ledger.note(ids, Outcome::Acknowledged);
            recover(&after, ledger, false);
        }
    }
    assert!(before > 5 && anew > 5, "both were met: {before} {anew}");
}

/// Everything a reader can ask; the first error ends it.
fn look_around(store: &Store) -> Result<u64, ReadError> {
    let end = store.latest().end();
    let event = store.latest().event(Position(2))?.event_id();
    let moments = [
        AsOf::Latest,
        AsOf::Position(Position(end.0 / 2)),
        AsOf::Event(event),
        AsOf::Version(Version(2)),
        AsOf::RecordedAt(1_700_000_000_000_020_000),
        AsOf::OccurredAt(chainring::Timestamp { seconds: 0, nanoseconds: 0 }),
    ];
    let mut seen = 0;
    for moment in moments {
        let view = store.at(moment)?;
        for event in view.events() {
            let event = event?;
            event.stream()?;
            event.batch_id()?;
            event.metadata()?;
            seen += 1;
        }
        for (name, version) in view.streams()? {
            let stream = view.stream(name)?.expect("it was just listed");
            for event in stream.forward(Version(1))?.chain(stream.backward()) {
                seen += event?.version().0.min(version.0);
            }
        }
        seen += view.last_events(3)?.len() as u64;
    }
    Ok(seen)
}

#[test]
fn reading_and_verifying() {
    let steps = [Step::Append(3, 20_000), Step::Append(1, 10), Step::Append(3, 20_000), Step::Append(4, 10), Step::Append(1, 50_000)];
    for end in [End::Close, End::Kill] {
        let (store, _) = prepared(&steps, end, 512);
        assert!(store.names().len() >= 3, "{:?}", store.names());
        let whole = look_around(&read(&store.environment(1)).unwrap()).unwrap();
        for failure in Failure::ALL {
            for n in 1.. {
                let disk = store.snapshot();
                let _where = Where { what: format!("reading: call {n} fails with {failure:?}"), disk: &disk };
                disk.inject(Fault::Nth { call: None, n, failure, lasting: false });
                let environment = disk.environment(1);
                match read(&environment) {
                    Ok(store) => match look_around(&store) {
                        Ok(seen) => assert_eq!(seen, whole),
                        Err(error) => check_read_error(&error),
                    },
                    Err(error) => check_open_error(&error),
                }
                let seen_by_reader = !disk.is_fault_waiting();
                disk.heal();
                disk.inject(Fault::Nth { call: None, n, failure, lasting: false });
                match verify_in(&environment, Path::new("simulated"), &VerifyOptions { threads: 1, ..VerifyOptions::default() }) {
                    // The bytes done are counted by asking for lengths; that alone may fail without harm.
                    Ok(report) => assert!(report.is_ok(), "an error of the device is no damage: {report:?}"),
                    Err(error) => check_open_error(&error),
                }
                if disk.is_fault_waiting() && !seen_by_reader {
                    break;
                }
            }
        }
    }
}

#[test]
fn reading_in_place_where_any_look_may_fail() {
    let (store, _) =
        prepared(&[Step::Append(3, 20_000), Step::Append(4, 10), Step::Append(1, 50_000), Step::Append(1, 10)], End::Close, 512);
    let environment = store.environment(1);
    let opened = read(&environment).unwrap();
    let whole = look_around(&opened).unwrap();
    let mut failed = 0;
    for n in 1.. {
        store.inject(Fault::Nth { call: Some(Call::Probe), n, failure: Failure::Device, lasting: false });
        match look_around(&opened) {
            Ok(seen) => assert_eq!(seen, whole),
            Err(error) => {
                failed += 1;
                check_read_error(&error);
            }
        }
        if store.is_fault_waiting() {
            break;
        }
    }
    assert!(failed > 100, "{failed} looks failed");
    store.heal();
    // A retry whose first answer was lost is compared with what is stored: where that cannot be read, the answer is not known.
    let log = open(&environment).unwrap();
    let (ids, request) = Ledger::default().request(3, 20_000);
    store.make_unreadable("0000000001.seg", 0..1 << 20);
    assert!(matches!(log.append(request.clone()), Err(AppendError::Read(ReadError::Io { .. }))));
    store.heal();
    let receipt = log.append(request).unwrap();
    assert!(receipt.duplicate && receipt.events.len() == ids.len());
}

#[test]
fn a_full_disk_that_stays_full_and_space_that_comes_back() {
    let disk = SimDisk::new().with_block_bytes(512);
    let mut ledger = Ledger::default();
    let log = open(&disk.environment(1)).unwrap();
    for round in 0..4 {
        disk.limit_space(Some(disk.used_bytes() + 1000));
        let mut refused = 0;
        while refused < 3 {
            let (ids, request) = ledger.request(2, 9000);
            match log.append(request) {
                Ok(_) => ledger.note(ids, Outcome::Acknowledged),
                Err(AppendError::NoSpace(_)) => {
                    refused += 1;
                    ledger.note(ids, Outcome::Refused);
                }
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        ledger.compare(&log, false);
        disk.limit_space(None);
        let (ids, request) = ledger.request(2, 9000);
        settle(&mut ledger, ids, Durability::Durable, log.append(request));
    }
    assert!(ledger.requests.iter().filter(|(_, outcome)| *outcome == Outcome::Acknowledged).count() > 8);
    drop(log);
    recover(&disk, ledger, false);
}

#[test]
fn randomness_that_fails_refuses_to_open_and_changes_nothing() {
    let (disk, _) = prepared(&[Step::Append(1, 10)], End::Kill, 512);
    let before = disk.content("0000000001.seg");
    let entropy = std::sync::Arc::new(chainring::disk::sim::SimEntropy::new(1));
    entropy.set_failing(true);
    let environment = Environment { entropy, ..disk.environment(1) };
    check_open_error(&open(&environment).map(drop).unwrap_err());
    assert_eq!((disk.names(), disk.content("0000000001.seg")), (vec!["0000000001.seg".to_owned()], before));
}
