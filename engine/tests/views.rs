//! Every way of looking at the past, against a plain list of what was appended: random histories, random moments, reopened in between.

mod support;

use chainring::disk::sim::{SimDisk, SimRandom};
use chainring::{AsOf, EventId, Expected, Log, Position, ReadError, Store, Timestamp, Version};
use support::{open, read, request};

/// One event as the model remembers it.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    position: u64,
    stream: String,
    version: u64,
    id: EventId,
    occurred: Option<i64>,
    recorded: u64,
}

fn matches(row: &Row, moment: AsOf, rows: &[Row]) -> bool {
    match moment {
        AsOf::Latest => true,
        AsOf::Position(position) => row.position <= position.0,
        AsOf::Event(id) => rows.iter().any(|other| other.id == id && row.position <= other.position),
        AsOf::Version(version) => row.version <= version.0,
        AsOf::RecordedAt(time_ns) => row.recorded <= time_ns,
        AsOf::OccurredAt(time) => row.occurred.is_some_and(|occurred| occurred <= time.seconds),
    }
}

fn moment(random: &mut SimRandom, rows: &[Row]) -> AsOf {
    let row = &rows[random.below(rows.len() as u64) as usize];
    let seconds = random.below(110) as i64 - 5;
    match random.below(6) {
        0 => AsOf::Latest,
        1 => AsOf::Position(Position(random.below(rows.len() as u64 + 5))),
        2 => AsOf::Event(row.id),
        3 => AsOf::Version(Version(random.below(12))),
        4 => AsOf::RecordedAt(row.recorded - random.below(2)),
        _ => AsOf::OccurredAt(Timestamp { seconds, nanoseconds: 0 }),
    }
}

fn check(store: &Store, rows: &[Row], random: &mut SimRandom) {
    for _ in 0..40 {
        let moment = moment(random, rows);
        let expected: Vec<&Row> = rows.iter().filter(|row| matches(row, moment, rows)).collect();
        let view = store.at(moment).unwrap();
        let found: Vec<u64> = view.events().map(|event| event.unwrap().position().0).collect();
        assert_eq!(found, expected.iter().map(|row| row.position).collect::<Vec<_>>(), "{moment:?}");
        let mut names: Vec<&str> = Vec::new();
        for row in &expected {
            if !names.contains(&row.stream.as_str()) {
                names.push(&row.stream);
            }
        }
        let mut streams: Vec<(&str, u64)> = view.streams().unwrap().into_iter().map(|(name, version)| (name, version.0)).collect();
        streams.sort_unstable();
        names.sort_unstable();
        assert_eq!(streams.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names, "{moment:?}");
        for (name, version) in streams {
            let own: Vec<u64> = expected.iter().filter(|row| row.stream == name).map(|row| row.version).collect();
            assert_eq!(version, *own.iter().max().unwrap());
            let stream = view.stream(name).unwrap().unwrap();
            assert_eq!(stream.name().unwrap(), name);
            let from = Version(random.below(own.len() as u64 + 2));
            let forward: Vec<u64> = stream.forward(from).unwrap().map(|event| event.unwrap().version().0).collect();
            assert_eq!(forward, own.iter().copied().filter(|version| *version >= from.0).collect::<Vec<_>>(), "{moment:?} {name}");
            let backward: Vec<u64> = stream.backward().map(|event| event.unwrap().version().0).collect();
            assert!(backward.iter().eq(own.iter().rev()), "{moment:?} {name}");
        }
        assert!(view.stream("never written").unwrap().is_none());
        let last: Vec<u64> = view.last_events(3).unwrap().iter().map(|event| event.position().0).collect();
        assert_eq!(last, found[found.len().saturating_sub(3)..], "{moment:?}");
    }
    assert!(matches!(store.at(AsOf::Event(EventId([255; 16]))), Err(ReadError::NotFound { .. })));
}

fn append(log: &Log, random: &mut SimRandom, rows: &mut Vec<Row>) {
    let (events, _) = request(random, 6);
    let is_batch = random.below(2) == 0 || events.len() > 1;
    let mut events = events;
    for event in &mut events {
        let is_new = !rows.iter().any(|row| row.stream == event.stream);
        // In a batch an earlier event may have made the stream.
        event.expected = if is_new && !is_batch { Expected::NoStream } else { Expected::Any };
        if random.below(4) > 0 {
            event.metadata.occurred_at = Some(Timestamp { seconds: random.below(100) as i64, nanoseconds: 0 });
        }
    }
    let told = events.clone();
    let receipt = if is_batch { log.append(events) } else { log.append(events.remove(0)) }.unwrap();
    let view = log.latest();
    for (event, receipt) in told.iter().zip(&receipt.events) {
        let version = rows.iter().filter(|row| row.stream == event.stream).count() as u64 + 1;
        assert_eq!(receipt.version.0, version);
        let recorded = view.event(receipt.position).unwrap().recorded_at_ns();
        let occurred = event.metadata.occurred_at.map(|time| time.seconds);
        rows.push(Row { position: receipt.position.0, stream: event.stream.clone(), version, id: event.id.unwrap(), occurred, recorded });
    }
}

#[test]
fn every_view_equals_the_filtered_list() {
    for seed in 0..12 {
        let mut random = SimRandom::new(seed);
        let disk = SimDisk::new().with_block_bytes(512);
        let mut rows = Vec::new();
        for round in 0..3 {
            let environment = disk.environment(seed * 10 + round);
            let log = open(&environment).unwrap();
            for _ in 0..70 {
                append(&log, &mut random, &mut rows);
            }
            check(&log, &rows, &mut random);
            // A view does not move, whatever is appended after it was taken.
            let view = log.latest();
            let before = view.events().count();
            append(&log, &mut random, &mut rows);
            assert_eq!(view.events().count(), before);
            log.close().unwrap();
            check(&read(&environment).unwrap(), &rows, &mut random);
        }
    }
}
