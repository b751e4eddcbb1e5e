//! A batch that takes its events in one by one is the same as one that is handed in whole.

use std::sync::Arc;

use chainring::disk::Environment;
use chainring::disk::sim::{SimClock, SimDisk, SimEntropy};
use chainring::{AppendError, Event, EventId, Expected, Link, Log, Metadata, Options, ReadRef, Request, Version};

fn log() -> Log {
    let clock = Arc::new(SimClock::new(1_000_000_000_000, 17));
    let environment = Environment { disk: Arc::new(SimDisk::new()), clock, entropy: Arc::new(SimEntropy::new(42)) };
    Options::new().open_in(environment, "simulated").unwrap()
}

/// Longer, then shorter than the one before, with and without an id, a salt, reads; more than are hashed together.
fn event(number: u64) -> Event {
    let read = |stream: &str| ReadRef { stream: stream.into(), version: number, ..ReadRef::default() };
    let metadata = Metadata { reads: (!number.is_multiple_of(3)).then(|| vec![read("policy"), read("catalog")]), ..Metadata::new("Noted") };
    let mut event = Event::with_metadata(format!("stream-{}", number % 7), metadata).body(vec![b'x'; (number * 37 % 900) as usize]);
    event.id = number.is_multiple_of(5).then(|| EventId([number as u8 + 1; 16]));
    event.salted = !number.is_multiple_of(4);
    event.expected = if number < 7 { Expected::NoStream } else { Expected::Exactly(Version(number / 7)) };
    event
}

/// Id, metadata, body, place in the batch and link of an event.
type Row = (EventId, Vec<u8>, Vec<u8>, Option<(u32, u32)>, Link);

fn rows(log: &Log) -> Vec<Row> {
    let view = log.latest();
    let rows = view.events().map(|event| {
        let event = event.unwrap();
        (event.event_id(), event.metadata_bytes().to_vec(), event.body().unwrap().to_vec(), event.batch(), event.link())
    });
    rows.collect()
}

#[test]
fn events_taken_in_one_by_one_get_the_same_links() {
    for count in [1, 2, 64, 65, 200] {
        let (whole, taken) = (log(), log());
        whole.append(Request::batch((0..count).map(event).collect()).require("other", Expected::NoStream)).unwrap();

        let mut batch = taken.write_batch();
        assert!(batch.is_empty());
        let mut one = Event::new("", "");
        for number in 0..count {
            one.clone_from(&event(number));
            batch.push(&one).unwrap();
            assert_eq!(batch.len() as u64, number + 1);
        }
        let receipt = taken.append(Request::from(batch.clone()).require("other", Expected::NoStream)).unwrap();
        assert_eq!(receipt.events.len() as u64, count);
        assert_eq!(rows(&taken), rows(&whole));

        // A batch is bound to no log; ids that it names are done once in each.
        let again = Request::from(batch).require("other", Expected::NoStream);
        match count {
            1 => assert!(whole.append(again).unwrap().duplicate),
            _ => assert!(matches!(whole.append(again), Err(AppendError::PartlyKnown { .. }))),
        }
    }
}

#[test]
fn an_event_that_breaks_a_limit_leaves_the_batch_as_it_was() {
    let log = log();
    let mut batch = log.write_batch();
    assert!(matches!(log.append(batch.clone()), Err(AppendError::Invalid { .. })), "it is empty");
    batch.push(&event(0)).unwrap();
    let too_long = "n".repeat(513);
    let bad =
        [Event::new("", "Noted"), Event::new(too_long, "Noted"), Event::new("s", ""), Event::new("s", "Noted").id(EventId::default())];
    for event in bad {
        assert!(matches!(batch.push(&event), Err(AppendError::Invalid { .. })), "{event:?}");
        assert_eq!(batch.len(), 1);
    }
    batch.push(&event(1)).unwrap();
    log.append(batch).unwrap();
    assert_eq!(rows(&log).iter().map(|row| row.2.len()).collect::<Vec<_>>(), [0, 37]);

    let mut twice = log.write_batch();
    twice.push(&event(35).id(EventId([9; 16]))).unwrap();
    twice.push(&Event::new("s", "Noted").id(EventId([9; 16]))).unwrap();
    assert!(matches!(log.append(twice), Err(AppendError::Invalid { .. })));
    assert_eq!(rows(&log).len(), 2);
}

#[test]
fn a_lent_event_gets_the_same_link_as_one_handed_over() {
    let (handed_over, lent) = (log(), log());
    for number in 0..40 {
        let one = event(number).body(vec![b'x'; (number * 97) as usize]);
        assert_eq!(lent.append(&one).unwrap().events.len(), 1);
        handed_over.append(one.clone()).unwrap();
        // With something required, which takes another way.
        let more = Event::new("more", "Noted").expected(Expected::Exactly(Version(number)));
        lent.append(Request::from(&more).require("other", Expected::NoStream)).unwrap();
        handed_over.append(Request::event(more).require("other", Expected::NoStream)).unwrap();
        // Again, with an id that the caller has given: the same answer.
        if one.id.is_some() {
            assert!(lent.append(&one).unwrap().duplicate);
        }
    }
    assert_eq!(rows(&lent), rows(&handed_over));
    let bad = Event::new("", "Noted");
    assert!(matches!(lent.append(&bad), Err(AppendError::Invalid { .. })));
}
