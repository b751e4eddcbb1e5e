//! Records that do not fit their neighbours: rules B1, H1, H2.

use chainring_format::frame::BACK_FAR;
use chainring_format::hash::stream_id;
use chainring_format::{EventId, Link};

use super::super::case::Case;
use super::super::painted_array;
use super::super::records::{Draft, Event, event, event_id};
use super::super::store::{Store, TIME_NS};
use super::{TAMPERED, changed};

pub(super) fn cases() -> Vec<Case> {
    [batches(), links(), order(), rewritten()].concat()
}

fn three() -> [Event; 3] {
    [event("a", "first"), event("b", "second"), event("a", "third")]
}

/// Rule B1.
fn batches() -> Vec<Case> {
    let lied = |name: &str, why: &str, position: u64, lie: fn(&mut Draft)| {
        let mut store = Store::new(name, 512);
        store.batch_with(&three(), lie);
        store.commit();
        Case::at_frame(&store, position, TAMPERED, "B1", why)
    };
    let mut across = Store::new("B1-across-commits", 512);
    across.event_with(&event("a", "first"), |draft| {
        (draft.batch_count, draft.batch_id) = (2, event_id(1));
    });
    across.commit();
    across.event_with(&event("b", "second"), |draft| {
        (draft.batch_index, draft.batch_count, draft.batch_id) = (1, 2, event_id(1));
    });
    across.commit();

    let mut interrupted = Store::new("B1-interrupted", 512);
    interrupted.batch_with(&three()[..1], |draft| draft.batch_count = 2);
    interrupted.lone(&event("b", "alone"));
    vec![
        lied("B1-index-skips", "batch_index runs 0, 2, 1", 2, |draft| {
            draft.batch_index = [0, 2, 1][draft.batch_index as usize];
        }),
        lied("B1-index-starts-late", "a batch that starts with batch_index 1", 1, |draft| {
            draft.batch_index += 1;
            draft.batch_count = 4;
        }),
        lied("B1-count-changes", "the second event of three states another batch_count", 2, |draft| {
            draft.batch_count = [3, 2, 3][draft.batch_index as usize];
        }),
        Case::at_frame(&interrupted, 2, TAMPERED, "B1", "an event appended alone stands in the middle of a batch"),
        Case::at_trailer(
            &across,
            1,
            TAMPERED,
            "B1",
            "a batch of two that goes on in the next commit: the trailer that cuts it off is named",
        ),
    ]
}

/// A store in which the second event of `order-1`, position 3, carries a lie; position 2 is of another stream.
fn lied(name: &str, rule: &'static str, why: &str, lie: impl FnOnce(&mut Draft)) -> Case {
    let mut store = Store::new(name, 512);
    store.event(&event("order-1", "placed"));
    store.event(&event("stock-9", "counted"));
    store.event_with(&event("order-1", "paid"), lie);
    store.event(&event("order-1", "sent"));
    store.commit();
    Case::at_frame(&store, 3, TAMPERED, rule, why)
}

/// Rule H1: what the link is made of.
fn links() -> Vec<Case> {
    let rewritten = |draft: &mut Draft| draft.link = Some(Link(painted_array(5)));
    let mut batch = Store::new("H1-batch-id", 512);
    batch.batch_with(&three()[..1], |draft| draft.batch_id = EventId::default());
    batch.commit();
    vec![
        lied("H1-link", "H1", "another link; everything behind it was made over it", rewritten),
        lied("H1-prev-bucket", "H1", "the link was not made over the bucket's previous link", |draft| draft.prev_bucket = [0; 32]),
        lied("H1-prev-stream", "H1", "the link was not made over the stream's previous link", |draft| draft.prev_stream = [0; 32]),
        Case::at_frame(&batch, 1, TAMPERED, "H1", "the link of a batch of one was made as if the event stood alone"),
    ]
}

/// Rule H1: an event that hangs, in every way rightly, on an event that another one follows already. `is_across`: what both follow is in an earlier segment.
fn forked(name: &str, is_across: bool, why: &str) -> Case {
    let mut store = Store::new(name, 512);
    store.lone(&event("order-1", "placed"));
    if is_across {
        store.next_segment(512);
    }
    let placed = store.streams[&stream_id("order-1")].link;
    store.event(&event("order-1", "paid"));
    store.event(&event("stock-9", "counted"));
    store.event_with(&event("order-1", "sent"), |draft| {
        (draft.version, draft.stream_back, draft.prev_stream) = (2, 3, placed);
    });
    store.commit();
    Case::at_frame(&store, 4, TAMPERED, "H1", why)
}

/// Rules H1 and H2: what no hash covers, or what contradicts the records before.
fn order() -> Vec<Case> {
    vec![
        lied("H1-bucket-back", "H1", "bucket_back leads one record too far", |draft| draft.bucket_back += 1),
        lied("H1-stream-back", "H1", "stream_back leads one record too far", |draft| draft.stream_back += 1),
        lied("H1-back-none", "H1", "back distances say that there is no predecessor", |draft| {
            (draft.bucket_back, draft.stream_back) = (0, 0);
        }),
        lied("H1-back-far", "H1", "back distances say far, the predecessor is near", |draft| {
            (draft.bucket_back, draft.stream_back) = (BACK_FAR, BACK_FAR);
        }),
        lied("H1-version-skip", "H1", "version 3 follows version 1", |draft| draft.version = 3),
        lied("H1-version-twice", "H1", "version 1 of a stream that exists", |draft| {
            draft.version = 1;
            draft.name = "order-1".into();
        }),
        forked("H1-stream-forked", false, "a second event follows the stream's first one"),
        forked("H1-stream-forked-across-segments", true, "a second event follows the stream's last one in the segment before"),
        lied("H1-time-backwards", "H1", "recorded_at_ns is lower than that of the record before", |draft| {
            draft.recorded_at_ns = TIME_NS;
        }),
        lied("H2-id-twice", "H2", "the id of the event at position 1 again", |draft| draft.event_id = event_id(1)),
    ]
}

/// Rule H1: bytes changed afterwards by somebody who repairs checksums, but not hashes.
fn rewritten() -> Vec<Case> {
    let body = changed("H1-body-rewritten", |store| {
        let (slot, _) = store.slot(1);
        store.write(0, slot, b"PLACED");
        store.repair_frame(1);
    });
    let metadata = changed("H1-metadata-rewritten", |store| {
        let (slot, _) = store.slot(1);
        store.write(0, slot - 1, b"D");
        store.repair_frame(1);
    });
    let erased = changed("H1-erased-with-another-commitment", |store| store.erase(1, &painted_array(0)));
    let stamped = changed("H1-event-id-rewritten", |store| store.forge_frame(1, |header| header.event_id[15] = 77));

    let mut place = Store::new("H1-frame-of-another-place", 512);
    place.lone(&event("order-1", "placed"));
    place.lone(&event("order-2", "placed"));
    let (from, to) = (place.frames[1], place.frames[2]);
    let bytes = place.segments[0].bytes[from.offset..from.offset + from.bytes].to_vec();
    place.write(0, to.offset, &bytes);
    place.repair_frame(2);

    let other = changed("another store", |_| {});
    let store = changed("H1-frame-of-another-store", |store| {
        let (from, to) = (other.frames[1], store.frames[1]);
        assert_eq!(from.bytes, to.bytes);
        store.write(0, to.offset, &other.segments[0].bytes[from.offset..from.offset + from.bytes]);
        store.repair_frame(1);
    });
    vec![
        Case::at_frame(&body, 1, TAMPERED, "H1", "the body was rewritten, checksums were repaired"),
        Case::at_frame(&metadata, 1, TAMPERED, "H1", "the metadata was rewritten, checksums were repaired"),
        Case::at_frame(&erased, 1, TAMPERED, "H1", "a body erased with a commitment that is not its own"),
        Case::at_frame(&stamped, 1, TAMPERED, "H1", "the event id was rewritten, checksums were repaired"),
        Case::at_frame(&place, 2, TAMPERED, "H1", "the frame before, copied here, checksums repaired"),
        Case::at_frame(&store, 1, TAMPERED, "H1", "the same frame of another store, copied here, checksums repaired"),
    ]
}
