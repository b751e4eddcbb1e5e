//! Records whose checksums and hashes hold while what they say does not: rules F4, F6, F7, M1, M2, M3.

use chainring_format::frame::KIND_GENESIS;
use chainring_format::{EventId, Link, StreamId, hash};

use super::super::case::Case;
use super::super::records::{Draft, Event, Genesis, event};
use super::super::store::Store;
use super::{TAMPERED, changed};

pub(super) fn cases() -> Vec<Case> {
    [events(), metadata(), genesis(), kinds()].concat()
}

/// A store whose record at position 2 carries a lie; position 1 is the first event of the same stream.
fn lied(name: &str, rule: &'static str, why: &str, lie: impl FnOnce(&mut Draft)) -> Case {
    let mut store = Store::new(name, 512);
    store.event(&event("order-1", "placed"));
    store.event_with(&event("order-1", "paid"), lie);
    store.commit();
    Case::at_frame(&store, 2, TAMPERED, rule, why)
}

/// A store whose record at position 1, the first event of its stream, carries a lie.
fn lied_first(name: &str, rule: &'static str, why: &str, lie: impl FnOnce(&mut Draft, &Link)) -> Case {
    let mut store = Store::new(name, 512);
    let log_id = Link(store.log_id);
    store.event_with(&event("order-1", "placed"), |draft| lie(draft, &log_id));
    store.commit();
    Case::at_frame(&store, 1, TAMPERED, rule, why)
}

/// Rule F4.
fn events() -> Vec<Case> {
    let utf8 = changed("F4-name-not-utf8", |store| {
        store.write(0, store.name_offset(1), &[0xFF]);
        store.repair_frame(1);
    });
    vec![
        lied("F4-batch-index", "F4", "batch_index is not below batch_count", |draft| (draft.batch_index, draft.batch_count) = (2, 2)),
        lied("F4-batch-index-alone", "F4", "a batch_index in an event appended alone", |draft| draft.batch_index = 1),
        lied("F4-version-0", "F4", "an event with version 0", |draft| draft.version = 0),
        lied("F4-event-id-zero", "F4", "an event without id", |draft| draft.event_id = EventId::default()),
        lied("F4-name-on-version-2", "F4", "the second event of a stream carries the name again", |draft| {
            draft.name = "order-1".into();
        }),
        lied_first("F4-no-name-on-version-1", "F4", "the first event of a stream carries no name", |draft, _| draft.name.clear()),
        lied_first("F4-name-of-another-stream", "F4", "the stream id is not that of the name", |draft, log_id| {
            draft.name = "order-2".into();
            draft.prev_stream = hash::name_commit(log_id, "order-2");
        }),
        Case::at_frame(&utf8, 1, TAMPERED, "F4", "the name is not UTF-8; checksums were repaired"),
    ]
}

/// Rules M1, M2, M3 (F5): more of them, without stores around them, are in `metadata.json`.
fn metadata() -> Vec<Case> {
    let with = |name: &str, rule: &'static str, why: &str, metadata: &[u8]| {
        let mut store = Store::new(name, 512);
        store.lone(&Event { metadata: metadata.to_vec(), ..event("order-1", "placed") });
        Case::at_frame(&store, 1, TAMPERED, rule, why)
    };
    vec![
        with("M1-absent", "M1", "an event without metadata", b""),
        with("M1-bytes-behind", "M1", "a byte behind the map", b"\xa1\x01\x61t\x00"),
        with("M1-keys-unsorted", "M1", "keys out of order", b"\xa2\x02\x01\x01\x61t"),
        with("M1-not-shortest", "M1", "an integer in a longer form than it needs", b"\xa2\x01\x61t\x02\x18\x05"),
        with("M2-type", "M2", "the type is not a text", b"\xa1\x01\x05"),
        with("M2-class", "M2", "a class that is not defined", b"\xa2\x01\x61t\x0a\x09"),
        with("M3-no-type", "M3", "a map without a type", b"\xa1\x02\x01"),
    ]
}

/// Rules F6 and F7 at position 0.
fn genesis() -> Vec<Case> {
    let lied = |name: &str, rule: &'static str, why: &str, lie: fn(&mut Genesis)| {
        let store = Store::with_genesis(name, 512, lie);
        Case::at_frame(&store, 0, TAMPERED, rule, why)
    };
    vec![
        lied("F6-event-id", "F6", "an engine record with an event id", |genesis| genesis.draft.event_id = EventId([1; 16])),
        lied("F6-stream-id", "F6", "an engine record with a stream id", |genesis| genesis.draft.stream_id = StreamId([1; 16])),
        lied("F6-name", "F6", "an engine record with a stream name", |genesis| genesis.draft.name = "log".into()),
        lied("F6-batch", "F6", "an engine record in a batch", |genesis| genesis.draft.batch_count = 1),
        lied("F6-salted", "F6", "a salted engine record", |genesis| genesis.draft.salt = Some([9; 16])),
        lied("F7-version", "F7", "a genesis record with version 1", |genesis| genesis.draft.version = 1),
        lied("F7-metadata", "F7", "a genesis record with metadata", |genesis| genesis.draft.metadata = b"\xa1\x01\x61t".to_vec()),
        lied("F7-created-at", "F7", "created_at_ns is not the record's own time", |genesis| genesis.body.created_at_ns = 1.into()),
        lied("F7-bucket-count", "F7", "another number of buckets", |genesis| genesis.body.bucket_count = 2048.into()),
        lied("F7-suite", "F7", "another hash suite", |genesis| genesis.body.suite = 2.into()),
        lied("F7-reserved", "F7", "a reserved byte is not zero", |genesis| genesis.body.reserved[15] = 1),
        lied("F7-origin-bytes", "F7", "the body is longer than 96 + origin_bytes", |genesis| genesis.body.origin_bytes = 3.into()),
        lied("F7-origin-not-utf8", "F7", "the origin is not UTF-8", |genesis| genesis.origin[0] = 0xFF),
        lied("F7-body-short", "F7", "the body is shorter than its fixed part", |genesis| genesis.body_bytes = Some(95)),
    ]
}

/// Rule F7: kinds at positions where they do not belong.
fn kinds() -> Vec<Case> {
    let mut first = Store::empty("F7-event-at-position-0");
    let mut draft = first.draft(&event("order-1", "placed"));
    // What position 0 holds gives the log id, so its own link cannot be made of it.
    draft.prev_bucket = [0; 32];
    draft.prev_stream = [0; 32];
    first.log_id = draft.leaf().1.link().0;
    first.next_segment(512);
    first.place(&draft);
    first.commit();
    let later = lied("F7-genesis-later", "F7", "a second genesis record", |draft| {
        draft.kind = KIND_GENESIS;
        draft.version = 1;
        (draft.stream_id, draft.event_id) = (StreamId::default(), EventId::default());
        draft.salt = None;
        draft.metadata.clear();
    });
    vec![Case::at_frame(&first, 0, TAMPERED, "F7", "position 0 holds an event"), later]
}
