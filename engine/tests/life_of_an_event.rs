//! One event from the call to the proof, and what a reader sees of it afterwards: the first test to read.

use chainring::{
    AppendError, AsOf, Event, EventId, Expected, Log, Opened, Options, Position, Request, Store, Timestamp, VerifyOptions, Version, verify,
};

fn uuid(n: u8) -> EventId {
    EventId([n; 16])
}

#[test]
fn an_event_is_appended_chained_read_back_and_verified() {
    let directory = tempfile::tempdir().unwrap();
    let log = Options::new().segment_bytes(1 << 20).origin("orders").open(directory.path()).unwrap();
    assert_eq!(log.report().opened, Opened::Created);

    // Down: one call, and the event is ordered, chained and durable.
    let placed = log.append(Event::new("order-1", "OrderPlaced").id(uuid(1)).expected(Expected::NoStream).body(br#"{"items":2}"#)).unwrap();
    assert_eq!((placed.first_position(), placed.events[0].version), (Position(1), Version(1)));

    // A batch over two streams happens whole or not at all; inside it versions count up.
    let cancel = Event::new("order-1", "OrderCancelled").id(uuid(2)).expected(Expected::Exactly(Version(1))).actor("agent:a").body("{}");
    let refund = Event::new("payment-1", "Refunded").id(uuid(3)).caused_by(uuid(2)).body("{}");
    let note = Event::new("order-1", "Noted").id(uuid(4)).expected(Expected::Exactly(Version(2))).body("{}");
    let batch = Request::batch(vec![cancel, refund, note]).require("customer-1", Expected::NoStream);
    let receipt = log.append(batch.clone()).unwrap();
    assert_eq!(receipt.last_position(), Position(4));

    // The same request again is the same receipt, not another event.
    let again = log.append(batch).unwrap();
    assert!(again.duplicate && again.events == receipt.events);

    // What is expected and does not hold is refused, with everything that failed.
    let late = Request::event(Event::new("order-1", "OrderShipped").expected(Expected::Exactly(Version(1))))
        .require("payment-1", Expected::NoStream);
    match log.append(late) {
        Err(AppendError::Refused(conflicts)) => {
            let found: Vec<_> = conflicts.iter().map(|conflict| (conflict.stream.as_str(), conflict.found)).collect();
            assert_eq!(found, [("payment-1", Version(1)), ("order-1", Version(3))]);
        }
        other => panic!("{other:?}"),
    }

    // The same id with other content is a conflict; a batch of which a part is known is none.
    let other = Event::new("order-1", "OrderPlaced").id(uuid(1)).body("other");
    assert!(matches!(log.append(other), Err(AppendError::IdConflict { position: Position(1), .. })));
    let partly = vec![Event::new("a", "A").id(uuid(9)), Event::new("payment-1", "Refunded").id(uuid(3)).caused_by(uuid(2)).body("{}")];
    assert!(matches!(log.append(partly), Err(AppendError::PartlyKnown { known: 1, of: 2 })));

    // Back up: a view of now, and one of before the cancellation.
    let now = log.latest();
    let order = now.stream("order-1").unwrap().unwrap();
    let types: Vec<_> = order.forward(Version(1)).unwrap().map(|event| event.unwrap().event_type().to_owned()).collect();
    assert_eq!(types, ["OrderPlaced", "OrderCancelled", "Noted"]);
    let newest = order.backward().next().unwrap().unwrap();
    assert_eq!((newest.batch(), newest.batch_id().unwrap()), (Some((2, 3)), Some(uuid(2))));
    let before = log.at(AsOf::Position(Position(1))).unwrap();
    assert_eq!(before.stream("order-1").unwrap().unwrap().version(), Version(1));
    assert!(before.stream("payment-1").unwrap().is_none());
    log.close().unwrap();

    // Closed, reopened, verified by recomputing everything.
    let report = verify(directory.path(), &VerifyOptions::default()).unwrap();
    assert_eq!((report.fault, report.records, report.verified_to), (None, 5, Some(Position(4))));
    let log = Log::open(directory.path()).unwrap();
    assert_eq!((log.report().opened, log.report().epoch), (Opened::Clean, 2));
    assert_eq!(log.head("order-1").unwrap(), Version(3));
    let third = log.append(Event::new("order-1", "Reopened").id(uuid(7))).unwrap();
    assert_eq!((third.epoch, third.events[0].version), (2, Version(4)));
    drop(log);
    assert_eq!(Store::open(directory.path()).unwrap().stats().events, 5);
}

#[test]
fn a_view_shows_what_was_known_or_claimed_at_an_instant() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
    // Claimed times run backwards here: the second event says that it happened first.
    let first = log.append(Event::new("s", "Second").occurred_at(at(20))).unwrap();
    log.append(Event::new("s", "First").occurred_at(at(10))).unwrap();
    log.append(Event::new("s", "Timeless")).unwrap();
    let types = |moment| -> Vec<String> {
        let view = log.at(moment).unwrap();
        view.events().map(|event| event.unwrap().event_type().to_owned()).collect()
    };
    assert_eq!(types(AsOf::OccurredAt(at(9))), Vec::<String>::new());
    assert_eq!(types(AsOf::OccurredAt(at(10))), ["First"]);
    assert_eq!(types(AsOf::OccurredAt(at(20))), ["Second", "First"]);
    assert_eq!(types(AsOf::Version(Version(1))), ["Second"]);
    let view = log.latest();
    let recorded = view.event(first.first_position()).unwrap().recorded_at_ns();
    assert_eq!(types(AsOf::RecordedAt(recorded)), ["Second"]);
    assert_eq!(types(AsOf::RecordedAt(recorded - 1)), Vec::<String>::new());
    let early = log.at(AsOf::OccurredAt(at(10))).unwrap();
    assert_eq!(early.stream("s").unwrap().unwrap().version(), Version(2));
}

#[test]
fn thousands_of_receipts_are_in_flight_from_one_thread_and_share_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let log = Options::new().segment_bytes(1 << 18).open(directory.path()).unwrap();
    let pending: Vec<_> = (0..5000).map(|n| log.submit(Event::new(format!("s{}", n % 7), "E").body(vec![n as u8; 100])).unwrap()).collect();
    for (n, pending) in pending.into_iter().enumerate() {
        let receipt = pending.wait().unwrap();
        assert_eq!(receipt.first_position().0, n as u64 + 1, "in the order they were submitted");
    }
    assert!(log.stats().segments > 2, "segments were rotated");
    log.close().unwrap();
    let report = verify(directory.path(), &VerifyOptions::default()).unwrap();
    assert_eq!((report.fault, report.events), (None, 5000));
}

#[test]
fn one_writer_and_the_second_is_told_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let refused = Log::open(directory.path()).unwrap_err().to_string();
    assert!(refused.contains("already open") && refused.contains(&std::process::id().to_string()), "{refused}");
    // Readers are let in by design.
    assert_eq!(Store::open(directory.path()).unwrap().stats().events, 0);
    drop(log);
    Log::open(directory.path()).unwrap();
}

#[test]
fn a_log_that_is_opened_and_closed_is_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let segment = directory.path().join("0000000001.seg");
    let log = Log::open(directory.path()).unwrap();
    log.append(Event::new("s", "E")).unwrap();
    log.close().unwrap();
    let before = std::fs::read(&segment).unwrap();
    Log::open(directory.path()).unwrap().close().unwrap();
    assert!(std::fs::read(&segment).unwrap() == before, "byte for byte, without the space that was reserved meanwhile");
}
