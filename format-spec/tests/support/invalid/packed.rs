//! Faults that only a packed segment can have, and some of all others in it: rules S7 and S8, and places where no block is.

use chainring_format::segment::SegmentHeader;

use super::super::case::Case;
use super::super::painted;
use super::super::records::event;
use super::super::store::Store;
use super::{CORRUPT, TAMPERED};

pub(super) fn cases() -> Vec<Case> {
    [headers(), ends(), inside()].concat()
}

/// Segment 1 with the genesis record and positions 1 to 3, each in a commit of its own, and a footer; segment 2 with position 4.
fn before_packing(name: &str) -> Store {
    let mut store = Store::new(name, 512);
    (0..3).for_each(|index| store.lone(&event("order-1", painted(index, 30 * index))));
    store.seal();
    store.next_segment(512);
    store.lone(&event("order-1", "paid"));
    store
}

/// [`before_packing`], packed.
fn packed(name: &str) -> Store {
    let mut store = before_packing(name);
    store.pack(0);
    store
}

/// Rules S7 and S4: what a header says of itself.
fn headers() -> Vec<Case> {
    let lied = |name: &str, why: &str, lie: fn(&mut SegmentHeader)| {
        let mut store = before_packing(name);
        store.pack_with(0, lie);
        Case::at(&store, 0, (0, 0), CORRUPT, "S7", why)
    };
    let forged = |name: &str, rule, why: &str, change: fn(&mut SegmentHeader)| {
        let mut store = before_packing(name);
        store.forge_header(0, change);
        Case::at(&store, 0, (0, 0), CORRUPT, rule, why)
    };
    vec![
        lied("S7-block-bytes", "a packed segment with blocks of 4096 bytes", |header| header.block_bytes = 4096.into()),
        lied("S7-end-inside-header", "the packed end lies inside the header", |header| header.packed_end_offset = 248.into()),
        lied("S7-end-odd", "the packed end is no multiple of 8", |header| {
            header.packed_end_offset = (header.packed_end_offset.get() + 4).into();
        }),
        lied("S7-end-behind-unpacked-end", "packing made the segment longer", |header| {
            header.packed_end_offset = (header.unpacked_end_offset.get() + 8).into();
        }),
        lied("S7-unpacked-end-odd", "the end before packing is no multiple of 8", |header| {
            header.unpacked_end_offset = (header.unpacked_end_offset.get() + 1).into();
        }),
        lied("S7-unpacked-end-behind-segment", "the end before packing lies behind the largest one", |header| {
            header.unpacked_end_offset = (header.segment_bytes.get() + 8).into();
        }),
        lied("S7-no-end", "a packed segment that states no end", |header| header.packed_end_offset = 0.into()),
        forged("S7-end-without-bit", "S7", "a segment that is not packed states a packed end", |header| {
            header.packed_end_offset = 2560.into();
        }),
        forged("S7-unpacked-end-without-bit", "S7", "a segment that is not packed states an end before packing", |header| {
            header.unpacked_end_offset = 2560.into();
        }),
        forged("S4-block-bytes-8", "S4", "a segment that is not packed has blocks of 8 bytes", |header| header.block_bytes = 8.into()),
    ]
}

/// The two ends, the file's length, and the successor.
fn ends() -> Vec<Case> {
    let mut unpacked_end = before_packing("S6-unpacked-end");
    unpacked_end.pack_with(0, |header| header.unpacked_end_offset = (header.unpacked_end_offset.get() - 512).into());

    // The end is moved to where the last commit starts.
    let early = |name: &str, has_footer: bool| {
        let mut store = Store::new(name, 512);
        (0..3).for_each(|index| store.lone(&event("order-1", painted(index, 30 * index))));
        if has_footer {
            store.seal();
        }
        store.next_segment(512);
        store.pack(0);
        let last = store.commits[3].offset;
        store.forge_header(0, |header| header.packed_end_offset = (last as u64).into());
        (store, last)
    };
    let (early_footer, end) = early("T1-packed-end-early", true);
    let (early_bare, _) = early("S6-packed-end-early", false);

    let mut no_successor = packed("S8-last-segment-packed");
    no_successor.segments.truncate(1);
    let mut middle = packed("S8-second-segment-packed");
    middle.seal();
    middle.next_segment(512);
    middle.pack(1);
    middle.segments.truncate(2);

    let short = |name: &str, cut: fn(&Store) -> usize, records: u64, why: &str| {
        let mut store = packed(name);
        let length = cut(&store);
        store.segments[0].bytes.truncate(length);
        Case::at(&store, records, (0, length), "missing", "S1", why)
    };
    vec![
        Case::at(&unpacked_end, 4, (1, 0), TAMPERED, "S6", "the end before packing is not the one that the successor names"),
        Case::at(&early_footer, 3, (0, end), CORRUPT, "T1", "the packed end leaves out a commit: no footer stands there"),
        Case::at(&early_bare, 3, (1, 0), TAMPERED, "S6", "the same without a footer: the successor names another last commit"),
        Case::at(&no_successor, 4, (1, 0), "missing", "S8", "the only segment is packed, so its successor is gone"),
        Case::at(&middle, 5, (2, 0), "missing", "S8", "the last of two segments is packed, so its successor is gone"),
        short("S1-packed-shorter-than-end", |store| store.commits[3].offset, 3, "a packed segment ends a commit before its packed end"),
        short("S1-packed-shorter-than-footer", |store| store.segments[0].end + 40, 4, "a packed segment ends inside its footer"),
    ]
}

/// Faults inside a packed segment, each at the place of its structure: there is no block that it lies in.
fn inside() -> Vec<Case> {
    let changed = |name: &str, change: fn(&mut Store)| {
        let mut store = packed(name);
        change(&mut store);
        store
    };
    let body = changed("F3-packed-body", |store| {
        let (slot, _) = store.slot(3);
        store.flip(0, slot + 3);
    });
    let trailer = changed("C4-packed-trailer", |store| {
        let at = store.trailer(2) + 100;
        store.flip(0, at);
    });
    let magic = changed("C4-packed-magic", |store| {
        let at = store.trailer(2);
        store.flip(0, at + 1);
    });
    let commit_bytes = changed("C4-packed-commit-bytes", |store| {
        store.forge_trailer(2, |trailer| trailer.commit_bytes = 512.into());
    });
    let zeroed = changed("C1-packed-zeroed", |store| {
        let commit = store.commits[2];
        store.write(0, commit.offset, &vec![0; commit.bytes]);
    });
    // Padding where the frames leave no room for any: what stands there is taken for the trailer.
    let padding = changed("C4-packed-padding", |store| {
        let at = store.trailer(2);
        store.write(0, at, &[0xFF; 8]);
    });
    // The bytes of a frame as they stood before packing, right for their old place and salt.
    let mut stale = before_packing("F2-packed-under-the-old-salt");
    let old = stale.frames[2];
    let old = stale.segments[0].bytes[old.offset..old.offset + old.bytes].to_vec();
    stale.pack(0);
    let at = stale.frames[2].offset;
    stale.write(0, at, &old);

    let link = changed("H1-packed-link", |store| store.forge_frame(2, |header| header.link[5] ^= 1));
    let position_table = {
        let mut store = before_packing("T1-packed-position-table");
        let footer = &store.segments[0];
        // Behind the table of one entry and its filling comes the tail.
        let entry = footer.bytes[footer.bytes.len() - 24..footer.bytes.len() - 20].to_vec();
        store.pack(0);
        let at = store.segments[0].bytes.len() - 24;
        store.write(0, at, &entry);
        store.repair_footer(0);
        store
    };
    let flipped_footer = changed("T1-packed-flip", |store| {
        let at = store.segments[0].end + 70;
        store.flip(0, at);
    });
    let end = |store: &Store| store.segments[0].end;
    let mut zeroed_case = Case::at_frame(&zeroed, 2, CORRUPT, "C1", "a whole commit of a packed segment is zero");
    zeroed_case.verdict.fault.iter_mut().for_each(|fault| fault.position = None);
    vec![
        Case::at_frame(&body, 3, CORRUPT, "F3", "a byte of a body in a packed segment differs"),
        Case::at_trailer(&trailer, 2, CORRUPT, "C4", "a byte of a trailer in a packed segment differs: its own place is named"),
        Case::at_trailer(&magic, 2, CORRUPT, "C4", "the same in its magic"),
        Case::at_trailer(&commit_bytes, 2, CORRUPT, "C4", "a trailer in a packed segment counts the bytes of before"),
        zeroed_case,
        Case::at_trailer(&padding, 2, CORRUPT, "C4", "bytes FF where a trailer of a packed segment begins"),
        Case::at_frame(&stale, 2, CORRUPT, "F2", "a frame with the checksums of its place before packing"),
        Case::at_frame(&link, 2, TAMPERED, "H1", "another link in a packed segment, under right checksums"),
        Case::at(
            &position_table,
            4,
            (0, end(&position_table)),
            TAMPERED,
            "T1",
            "the position table of before packing, under a right checksum",
        ),
        Case::at(
            &flipped_footer,
            4,
            (0, ((end(&flipped_footer) + 70) / 512 * 512).max(end(&flipped_footer))),
            CORRUPT,
            "T1",
            "a byte of the footer of a packed segment differs",
        ),
    ]
}
