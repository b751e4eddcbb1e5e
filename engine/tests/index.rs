//! The index: answers are the same with it, without it, and with one that is damaged, half there or left over; memory follows what it may take.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::Duration;

use chainring::{
    AppendError, AsOf, By, Event, EventId, EventRef, Events, Expected, Log, Opened, Options, Position, Request, Store, Timestamp, Version,
};

const SEGMENT_BYTES: u64 = 64 << 10;
const STREAMS: u64 = 40;

fn options() -> Options {
    Options::new().segment_bytes(SEGMENT_BYTES).keeper(false)
}

fn id(number: u64) -> EventId {
    // As an attacker would choose them: they differ in their last bits only.
    EventId((u128::from(number) << 100 | 7).to_le_bytes())
}

fn stream(number: u64) -> String {
    // Some are long, some have two events far from each other, some begin late.
    if number.is_multiple_of(97) { format!("rare-{}", number / 970) } else { format!("s{}", number * number % STREAMS) }
}

fn event(number: u64) -> Event {
    let event = Event::new(stream(number), if number.is_multiple_of(3) { "Third" } else { "Other" }).id(id(number));
    let event = event.body(format!("{number:0>200}"));
    match occurred(number) {
        Some(seconds) => event.occurred_at(at(seconds)),
        None => event,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: 500 }
}

/// Most events claim a time that rises with them, not quite in order; some one that is far off, some none.
fn occurred(number: u64) -> Option<i64> {
    match number {
        _ if number.is_multiple_of(11) => None,
        _ if number.is_multiple_of(701) => Some(-5_000_000_000),
        _ => Some((number + number * 7 % 20) as i64),
    }
}

fn append(log: &Log, numbers: std::ops::Range<u64>) {
    for number in numbers {
        log.append(event(number)).unwrap();
        if number.is_multiple_of(50) {
            index(log);
        }
    }
}

/// Does everything there is to do for the index.
fn index(log: &Log) {
    while log.tick() == Some(Duration::ZERO) {}
}

fn runs(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".idx")).collect();
    names.sort();
    names
}

/// What a plain scan says.
struct Scanned {
    streams: BTreeMap<String, Vec<(u64, EventId)>>,
    ids: HashMap<EventId, u64>,
    /// Positions, and the times that are claimed there.
    claimed: Vec<(u64, Timestamp)>,
    records: u64,
}

fn scan(store: &Store) -> Scanned {
    let mut scanned = Scanned { streams: BTreeMap::new(), ids: HashMap::new(), claimed: Vec::new(), records: store.stats().records };
    let mut names = HashMap::new();
    for event in store.latest().events() {
        let event = event.unwrap();
        if event.version() == Version(1) {
            names.insert(event.stream_id(), event.stream().unwrap().to_owned());
        }
        let name: &String = &names[&event.stream_id()];
        scanned.streams.entry(name.clone()).or_default().push((event.position().0, event.event_id()));
        scanned.ids.insert(event.event_id(), event.position().0);
        scanned.claimed.extend(event.occurred_at().map(|time| (event.position().0, time)));
    }
    scanned
}

/// Everything that can be asked is answered as a scan answers it.
fn compare(store: &Store, scanned: &Scanned, seed: u64) {
    assert_eq!(store.stats().streams, scanned.streams.len() as u64);
    for (id, position) in scanned.ids.iter().filter(|(_, position)| (**position + seed).is_multiple_of(7)) {
        assert_eq!(store.locate(*id).unwrap(), Some(Position(*position)));
    }
    assert_eq!(store.locate(EventId([9; 16])).unwrap(), None);
    for moment in [0, 1, 2, scanned.records / 3 + seed * 31, scanned.records / 2, scanned.records - 2, scanned.records] {
        let view = store.at(AsOf::Position(Position(moment))).unwrap();
        let mut shown: Vec<(String, Version)> =
            view.streams().unwrap().into_iter().map(|(name, version)| (name.to_owned(), version)).collect();
        shown.sort();
        let mut expected = Vec::new();
        for (name, events) in &scanned.streams {
            let count = events.partition_point(|(position, _)| *position <= moment);
            let stream = view.stream(name).unwrap();
            assert_eq!(stream.map_or(0, |stream| stream.version().0), count as u64, "{name} as of {moment}");
            if let Some(stream) = stream {
                expected.push((name.clone(), Version(count as u64)));
                let forward: Vec<(u64, EventId)> = stream
                    .forward(Version(1))
                    .unwrap()
                    .map(|event| event.map(|event| (event.position().0, event.event_id())).unwrap())
                    .collect();
                assert_eq!(forward, events[..count]);
                assert_eq!(stream.name().unwrap(), name);
            }
        }
        assert_eq!(shown, expected);
    }
    assert!(store.latest().stream("none").unwrap().is_none());
    let records = scanned.records as i64;
    for (from, to) in [(-9, -1), (-5_000_000_000, 3), (records / 3, records / 3 + 40), (records / 2, records / 2), (records - 30, i64::MAX)]
    {
        let times = at(from + seed as i64)..=at(to);
        let positions = |events: Events<'_>| events.map(|event| event.unwrap().position().0).collect::<Vec<_>>();
        let expected = scanned.claimed.iter().filter(|(_, time)| times.contains(time)).map(|(position, _)| *position);
        assert_eq!(positions(store.latest().events_occurred(times.clone())), expected.collect::<Vec<_>>(), "{times:?}");
        let limit = Position(scanned.records / 3);
        let until = store.at(AsOf::OccurredAt(at(to))).unwrap().up_to(limit);
        let is_shown = |(position, time): &&(u64, Timestamp)| *time <= at(to) && *position < limit.0;
        let expected: Vec<u64> = scanned.claimed.iter().filter(is_shown).map(|(position, _)| *position).collect();
        assert_eq!(positions(until.events()), expected, "{times:?}");
        let middle = Position(limit.0 / 2);
        let behind = expected.iter().copied().filter(|position| *position >= middle.0).collect::<Vec<_>>();
        assert_eq!(positions(until.events_in(middle..=limit)), behind);
    }
}

#[test]
fn answers_are_the_same_with_and_without_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let log = options().open(path).unwrap();
    append(&log, 1..4000);
    let scanned = scan(&log);
    compare(&log, &scanned, 1);
    log.close().unwrap();
    let names = runs(path);
    assert!(names[0].starts_with("0000000001-0000000064") && names.len() < 20, "eight runs become one: {names:?}");
    for (seed, name) in names.iter().enumerate().step_by(3) {
        // One is missing, changed in some places, cut, of another stretch, or empty.
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        compare(&Store::open(path).unwrap(), &scanned, seed as u64);
        fs::remove_file(&file).unwrap();
        compare(&Store::open(path).unwrap(), &scanned, seed as u64);
        let damaged = (0..15).map(|part| {
            let mut bytes = whole.clone();
            let at = (part * whole.len() / 15 + part * 7) % whole.len();
            bytes[at] ^= 0x10;
            bytes
        });
        let torn = [&whole[..whole.len() / 2], &vec![0; whole.len() / 2 + 1]].concat();
        let other = fs::read(path.join(&names[(seed + 1) % names.len()])).unwrap();
        for bytes in damaged.chain([torn, whole[..5000].to_vec(), Vec::new(), other]) {
            fs::write(&file, bytes).unwrap();
            compare(&Store::open(path).unwrap(), &scanned, seed as u64);
        }
        fs::write(&file, &whole).unwrap();
    }
    // A writer finds out as well, and puts it right.
    let last = path.join(&names[0]);
    let mut bytes = fs::read(&last).unwrap();
    (4096..bytes.len()).step_by(4096).for_each(|at| bytes[at + 9] ^= 1);
    fs::write(&last, bytes).unwrap();
    let log = options().open(path).unwrap();
    compare(&log, &scanned, 3);
    assert!(log.append(event(1)).unwrap().duplicate);
    append(&log, 4000..4010);
    log.close().unwrap();
    let log = options().open(path).unwrap();
    compare(&log, &scan(&log), 4);
    log.close().unwrap();
    for name in runs(path) {
        fs::remove_file(path.join(name)).unwrap();
    }
    let log = options().open(path).unwrap();
    compare(&log, &scan(&log), 5);
    index(&log);
    compare(&log, &scan(&log), 6);
    assert!(!runs(path).is_empty(), "it was made anew");
}

#[test]
fn what_was_just_appended_is_found_by_what_it_names_and_claims() {
    let directory = tempfile::tempdir().unwrap();
    let log = options().open(directory.path()).unwrap();
    let first = log.latest().end().0;
    let mut old = None;
    for number in 0..1500 {
        log.append(event(number)).unwrap();
        // Runs come late, some of them between two questions.
        if number % 400 == 399 {
            index(&log);
        }
        if number % 9 > 0 {
            continue;
        }
        let view = log.latest();
        let numbers = |events: Vec<EventRef<'_>>| events.iter().map(|event| event.position().0 - first).collect::<Vec<_>>();
        for (view, to) in [(&view, number + 1), (old.get_or_insert_with(|| view.clone()), 1)] {
            for from in [0, number / 2, number.saturating_sub(3)] {
                let named = view.events_by(By::Type("Third"), Position(first + from)).collect::<Result<Vec<_>, _>>().unwrap();
                assert_eq!(numbers(named), (from..to).filter(|number| number.is_multiple_of(3)).collect::<Vec<_>>());
                let times = at(from as i64)..=at(from as i64 + 10);
                let claimed = view.events_occurred(times.clone()).collect::<Result<Vec<_>, _>>().unwrap();
                let expected = (0..to).filter(|number| occurred(*number).is_some_and(|seconds| times.contains(&at(seconds))));
                assert_eq!(numbers(claimed), expected.collect::<Vec<_>>());
            }
        }
        if number % 200 == 0 {
            old = Some(log.at(AsOf::Position(Position(first))).unwrap());
        }
    }
}

#[test]
fn what_is_not_in_memory_is_decided_on_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    // Next to nothing is kept in memory.
    let options = options().heads_bytes_max(1);
    let log = options.open(path).unwrap();
    let mut versions: HashMap<String, u64> = HashMap::new();
    let check = |log: &Log, versions: &mut HashMap<String, u64>, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let name = stream(number);
            let version = versions.entry(name.clone()).or_insert(0);
            // One too many is refused with what is there, exactly right is taken, and what was taken is known for ever.
            let wrong = log.append(event(number).expected(Expected::Exactly(Version(*version + 1)))).unwrap_err();
            let AppendError::Refused(conflicts) = wrong else { panic!("{wrong}") };
            assert_eq!(conflicts[0].found, Version(*version), "{name}");
            let receipt = log.append(event(number).expected(Expected::Exactly(Version(*version)))).unwrap();
            *version += 1;
            assert_eq!(receipt.events[0].version, Version(*version));
            if number.is_multiple_of(13) {
                let earlier = number / 2 + 1;
                let again = log.append(event(earlier)).unwrap();
                assert!(again.duplicate && again.first_position() == log.locate(id(earlier)).unwrap().unwrap());
                assert!(matches!(log.append(event(earlier).body("other")), Err(AppendError::IdConflict { .. })));
                let batch = Request::batch(vec![event(earlier), Event::new("s1", "New").id(EventId([number as u8; 16]))]);
                assert!(matches!(log.append(batch), Err(AppendError::PartlyKnown { known: 1, of: 2 })));
                let read = Request::from(Event::new("s2", "Reads")).require("rare-0", Expected::NoStream);
                assert!(versions_known(versions, "rare-0") == 0 || matches!(log.append(read), Err(AppendError::Refused(_))));
            }
            if number.is_multiple_of(50) {
                index(log);
            }
        }
    };
    check(&log, &mut versions, 1..2000);
    let scanned = scan(&log);
    compare(&log, &scanned, 1);
    // Closed, and killed: the next open knows none of it.
    log.close().unwrap();
    let log = options.open(path).unwrap();
    assert_eq!(log.report().opened, Opened::Clean);
    check(&log, &mut versions, 2000..2600);
    std::mem::forget(log);
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        // What is only prepared beside the log comes and goes while it is copied.
        if entry.path().extension().is_none_or(|extension| extension != "tmp") {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let log = options.open(copy.path()).unwrap();
    assert_ne!(log.report().opened, Opened::Clean);
    check(&log, &mut versions, 2600..3000);
    compare(&log, &scan(&log), 2);
    log.close().unwrap();
    assert!(chainring::verify(copy.path(), &chainring::VerifyOptions::default()).unwrap().is_ok());
}

fn versions_known(versions: &HashMap<String, u64>, name: &str) -> u64 {
    versions.get(name).copied().unwrap_or(0)
}

#[test]
fn a_long_last_segment_is_not_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let log = Options::new().keeper(false).open(path).unwrap();
    for number in 1..400 {
        log.append(Event::new(stream(number), "E").id(id(number)).body(vec![7; 5000])).unwrap();
    }
    log.close().unwrap();
    assert_eq!(runs(path), ["0000000001-0000000001.idx"]);
    let (records, segments) = {
        let store = Store::open(path).unwrap();
        compare(&store, &scan(&store), 1);
        (store.stats().records, store.stats().segments)
    };
    assert_eq!(segments, 1);
    // It is not continued, but another one begun behind it.
    let log = Log::open(path).unwrap();
    assert_eq!((log.report().opened, log.stats().records, log.stats().segments), (Opened::Clean, records, 2));
    log.append(event(5000)).unwrap();
    log.close().unwrap();
    // A short one is.
    let log = Log::open(path).unwrap();
    assert_eq!((log.report().opened, log.stats().segments), (Opened::Clean, 2));
    compare(&log, &scan(&log), 2);
    log.close().unwrap();
    // What does not end with the closing commit is read, whatever the index says of it.
    fs::remove_file(path.join("0000000002.seg")).unwrap();
    let segment = path.join("0000000001.seg");
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..bytes.len() - 4096]).unwrap();
    let store = Store::open(path).unwrap();
    assert_eq!((store.report().opened, store.stats().records), (Opened::Killed, records));
    compare(&store, &scan(&store), 3);
}

#[test]
fn a_log_that_was_put_back_and_went_another_way_is_not_asked_of_the_old_index() {
    let place = tempfile::tempdir().unwrap();
    let (path, before) = (place.path().join("log"), place.path().join("before"));
    let log = options().open(&path).unwrap();
    append(&log, 1..600);
    log.close().unwrap();
    fs::create_dir(&before).unwrap();
    let copy = |from: &Path, to: &Path, what: &str| {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.file_name().to_str().unwrap().ends_with(what)) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&path, &before, ".seg");
    let log = options().open(&path).unwrap();
    append(&log, 600..2400);
    log.close().unwrap();
    // The segments of before, and the index of after.
    fs::read_dir(&path).unwrap().map(Result::unwrap).filter(|entry| entry.file_name().to_str().unwrap().ends_with(".seg")).for_each(
        |entry| {
            fs::remove_file(entry.path()).unwrap();
        },
    );
    copy(&before, &path, ".seg");
    let store = Store::open(&path).unwrap();
    compare(&store, &scan(&store), 1);
    let log = options().open(&path).unwrap();
    append(&log, 5000..6500);
    compare(&log, &scan(&log), 2);
    assert_eq!(log.locate(id(700)).unwrap(), None);
    log.close().unwrap();
    let store = Store::open(&path).unwrap();
    compare(&store, &scan(&store), 3);
}
