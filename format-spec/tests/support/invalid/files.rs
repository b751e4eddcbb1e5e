//! Faults of files, segment headers and footers: rules L1, S1, S4, S5, S6, T1.

use chainring_format::footer::BucketHead;
use chainring_format::segment::{SegmentHeader, file_name};

use super::super::case::Case;
use super::super::records::event;
use super::super::store::Store;
use super::{CORRUPT, TAMPERED, base, pair, sealed};

pub(super) fn cases() -> Vec<Case> {
    [missing(), headers(), unknown(), lineage(), first_lineage(), footers()].concat()
}

fn missing() -> Vec<Case> {
    let three = |name: &str| {
        let mut store = sealed(name);
        store.next_segment(512);
        store.lone(&event("order-1", "paid"));
        store.seal();
        store.next_segment(512);
        store.close();
        store
    };
    let without = |number: usize, store: &Store, records: u64, why: &str| {
        let mut case = Case::at(store, records, (number - 1, 0), "missing", "L1", why);
        case.files.remove(&file_name(number as u64));
        case
    };
    let short = |name: &str, footer: bool, records: u64, why: &str| {
        let mut store = pair(name);
        let length = if footer { store.segments[0].end } else { store.segments[0].end - 512 };
        store.segments[0].bytes.truncate(length);
        Case::at(&store, records, (0, length), "missing", "S1", why)
    };
    vec![
        without(2, &three("L1-gap"), 2, "segments 1 and 3 are there, segment 2 is not"),
        without(1, &three("L1-first"), 0, "segment 1 is missing"),
        short("S1-shorter-than-end", false, 1, "segment 1 ends a whole commit before the end that its successor names"),
        short("S1-shorter-than-footer", true, 2, "segment 1 ends where its footer should start"),
    ]
}

/// Rule S4.
fn headers() -> Vec<Case> {
    let broken = |name: &str, why: &str, change: fn(&mut Store)| {
        let mut store = Store::new(name, 512);
        change(&mut store);
        Case::at(&store, 0, (0, 0), CORRUPT, "S4", why)
    };
    let mut second = pair("S4-crc-in-segment-2");
    second.flip(1, 56);
    vec![
        broken("S4-magic", "a byte of the magic differs", |store| store.flip(0, 3)),
        broken("S4-crc", "a byte of the header differs, its checksum was not repaired", |store| store.flip(0, 64)),
        broken("S4-filling", "a byte of the header block behind the header is not zero", |store| store.flip(0, 300)),
        broken("S4-reserved-a", "a reserved byte is not zero", |store| store.forge_header(0, |header| header.reserved_a[2] = 1)),
        broken("S4-reserved-b", "a reserved byte is not zero", |store| store.forge_header(0, |header| header.reserved_b[31] = 1)),
        broken("S4-block-bytes-power", "block_bytes is no power of two", |store| {
            store.forge_header(0, |header| header.block_bytes = 1536.into());
        }),
        broken("S4-block-bytes-small", "block_bytes is below 512", |store| {
            store.forge_header(0, |header| header.block_bytes = 256.into());
        }),
        broken("S4-block-bytes-large", "block_bytes is above 65536", |store| {
            store.forge_header(0, |header| header.block_bytes = 131_072.into());
        }),
        broken("S4-segment-bytes-small", "segment_bytes is below SEGMENT_BYTES_MIN", |store| {
            store.forge_header(0, |header| header.segment_bytes = (65_536 - 512).into());
        }),
        broken("S4-segment-bytes-large", "segment_bytes is above SEGMENT_BYTES_MAX", |store| {
            store.forge_header(0, |header| header.segment_bytes = (8_589_934_592 + 512).into());
        }),
        broken("S4-segment-bytes-multiple", "segment_bytes is no multiple of block_bytes", |store| {
            store.forge_header(0, |header| header.segment_bytes = (65_536 + 256).into());
        }),
        broken("S4-cut-short", "the file ends inside its header", |store| store.last().bytes.truncate(200)),
        Case::at(&second, 2, (1, 0), CORRUPT, "S4", "a byte of the second segment's header differs; the first segment holds"),
    ]
}

/// Rule S5.
fn unknown() -> Vec<Case> {
    let broken = |name: &str, why: &str, change: fn(&mut SegmentHeader)| {
        let mut store = Store::new(name, 512);
        store.forge_header(0, change);
        Case::at(&store, 0, (0, 0), CORRUPT, "S5", why)
    };
    vec![
        broken("S5-read-version-2", "needs a reader of format version 2", |header| header.read_version = 2.into()),
        broken("S5-feature", "has a feature bit that version 1 does not know", |header| header.features = (1 << 63).into()),
        broken("S5-suite-2", "has a hash suite that version 1 does not know", |header| header.suite = 2),
    ]
}

/// Rule S6 in a segment with a predecessor.
fn lineage() -> Vec<Case> {
    let broken = |name: &str, why: &str, lie: fn(&mut SegmentHeader)| {
        let mut store = sealed(name);
        store.next_segment_with(512, lie);
        store.close();
        Case::at(&store, 2, (1, 0), TAMPERED, "S6", why)
    };
    let mut epoch = sealed("S6-epoch");
    epoch.epoch = 2;
    epoch.next_segment(512);
    epoch.lone(&event("order-1", "paid"));
    epoch.seal();
    epoch.epoch = 1;
    epoch.next_segment(512);
    epoch.close();
    vec![
        broken("S6-number", "the header has another number than the file's name", |header| header.number = 3.into()),
        broken("S6-log-id", "a segment of another log", |header| header.log_id[0] ^= 1),
        broken("S6-first-position", "a position is left out", |header| header.first_position = 3.into()),
        Case::at(&epoch, 3, (2, 0), TAMPERED, "S6", "the third segment has a lower epoch than the second"),
        broken("S6-prev-commit-digest", "names another last commit than the predecessor's", |header| header.prev_commit_digest[31] ^= 1),
        broken("S6-prev-heads-root", "names another root than the bucket heads give", |header| header.prev_heads_root[0] ^= 1),
    ]
}

/// Rule S6 in the first segment.
fn first_lineage() -> Vec<Case> {
    let broken = |name: &str, why: &str, change: fn(&mut SegmentHeader)| {
        let mut store = Store::new(name, 512);
        store.forge_header(0, change);
        Case::at(&store, 0, (0, 0), TAMPERED, "S6", why)
    };
    vec![
        broken("S6-first-log-id", "the log id is not the link of the genesis record", |header| header.log_id[9] ^= 1),
        broken("S6-first-number", "the first segment says it is the second", |header| header.number = 2.into()),
        broken("S6-first-predecessor", "the first segment names the end of a predecessor", |header| header.prev_end_offset = 512.into()),
        broken("S6-first-starts-late", "the first segment starts at position 1", |header| header.first_position = 1.into()),
    ]
}

/// Rule T1.
fn footers() -> Vec<Case> {
    let forged = |name: &str, why: &str, from_end: usize| {
        let mut store = pair(name);
        let end = store.segments[0].end;
        let at = end + store.segments[0].footer_bytes - from_end;
        store.flip(0, at);
        store.repair_footer(0);
        Case::at(&store, 2, (0, end), TAMPERED, "T1", why)
    };
    let lied = |name: &str, why: &str, lie: fn(&mut Vec<BucketHead>)| {
        let mut store = Store::new(name, 512);
        store.lone(&event("order-1", "placed"));
        store.seal_with(lie);
        store.next_segment(512);
        Case::at(&store, 2, (0, store.segments[0].end), TAMPERED, "T1", why)
    };
    let mut flip = pair("T1-flip");
    let end = flip.segments[0].end;
    flip.flip(0, end + 70);

    let mut far = Store::new("T1-flip-far", 512);
    (0..12).for_each(|n| far.event(&event(&format!("stream-{n}"), "body")));
    far.commit();
    far.seal();
    let far_end = far.segments[0].end;
    far.flip(0, far_end + 600);
    far.next_segment(512);

    let mut last = base("T1-last-segment");
    last.seal_with(|heads| heads[0].count += 1);
    let last_end = last.segments[0].end;
    vec![
        Case::at(&flip, 2, (0, end), CORRUPT, "T1", "a byte of the footer differs, its checksum was not repaired"),
        Case::at(
            &far,
            13,
            (0, (far_end + 600) / 512 * 512),
            CORRUPT,
            "T1",
            "the same in a footer of several sectors: the bad sector is named",
        ),
        lied("T1-count", "right checksum, but a bucket holds one record more than the commits give", |heads| heads[0].count += 1),
        lied("T1-head-missing", "right checksum, but a bucket is left out", |heads| {
            heads.pop();
        }),
        forged("T1-position-table", "right checksum, but an entry of the position table leads elsewhere", 24),
        forged("T1-filling", "right checksum, but the filling behind the position table is not zero", 17),
        forged("T1-tail", "right checksum, but another magic in the tail", 1),
        Case::at(&last, 2, (0, last_end), TAMPERED, "T1", "the same in the last segment, whose successor was never made"),
    ]
}
