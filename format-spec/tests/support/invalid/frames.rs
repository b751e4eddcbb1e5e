//! Faults that a frame shows by itself, in lengths and checksums: rules F1, F2, F3.

use chainring_format::frame::FrameHeader;
use chainring_format::hash;

use super::super::case::Case;
use super::super::records::event;
use super::super::store::Store;
use super::super::{painted, records};
use super::{CORRUPT, changed, sealed};

pub(super) fn cases() -> Vec<Case> {
    [lengths(), headers(), bodies(), moved()].concat()
}

/// The frame length that a header's other lengths give, cut to 32 bits.
fn agree(header: &mut FrameHeader) {
    let (name, metadata) = (header.name_bytes.get() as usize, header.metadata_bytes.get() as usize);
    let total = records::frame_length(name, metadata, header.body_bytes.get() as usize, header.flags & 1 != 0);
    header.frame_bytes = (total as u32).into();
}

/// Rule F1.
fn lengths() -> Vec<Case> {
    let broken = |name: &str, why: &str, change: fn(&mut FrameHeader)| {
        Case::at_frame(&changed(name, |store| store.change_frame(1, change)), 1, CORRUPT, "F1", why)
    };
    let long_name = changed("F1-name-bytes", |store| {
        store.forge_frame(1, |header| {
            header.name_bytes = 513.into();
            agree(header);
        });
    });
    vec![
        broken("F1-frame-bytes", "frame_bytes does not agree with the other lengths", |header| {
            header.frame_bytes = (header.frame_bytes.get() + 8).into();
        }),
        Case::at_frame(&long_name, 1, CORRUPT, "F1", "a name longer than STREAM_NAME_BYTES_MAX; lengths agree, checksums were repaired"),
        broken("F1-metadata-bytes", "metadata longer than METADATA_BYTES_MAX; lengths agree", |header| {
            header.metadata_bytes = ((1 << 20) + 1).into();
            agree(header);
        }),
        broken("F1-body-bytes", "a body longer than BATCH_BYTES_MAX; lengths agree", |header| {
            header.body_bytes = ((1 << 30) + 1).into();
            agree(header);
        }),
        broken("F1-body-bytes-wraps", "lengths agree only if their sum is cut to 32 bits", |header| {
            header.body_bytes = u32::MAX.into();
            agree(header);
            assert_eq!(header.frame_bytes.get(), 152);
        }),
        broken("F1-beyond-file", "lengths agree, but the frame ends behind the file", |header| {
            header.body_bytes = 100_000.into();
            agree(header);
        }),
    ]
}

/// Rule F2.
fn headers() -> Vec<Case> {
    let forged = |name: &str, why: &str, change: fn(&mut FrameHeader)| {
        Case::at_frame(&changed(name, |store| store.forge_frame(1, change)), 1, CORRUPT, "F2", why)
    };
    let flipped = |name: &str, why: &str, at: fn(&Store) -> usize| {
        Case::at_frame(
            &changed(name, |store| {
                let at = at(store);
                store.flip(0, at);
            }),
            1,
            CORRUPT,
            "F2",
            why,
        )
    };
    vec![
        flipped("F2-crc-link", "a byte of the link differs, the checksum was not repaired", |store| store.frames[1].offset + 90),
        flipped("F2-crc-name", "a byte of the stream name differs", |store| store.name_offset(1)),
        flipped("F2-crc-metadata", "a byte of the metadata differs", |store| store.slot(1).0 - 1),
        flipped("F2-filling", "a byte of the filling behind the body slot is not zero; no checksum covers it", |store| {
            let (frame, (slot, slot_bytes)) = (store.frames[1], store.slot(1));
            assert!(slot + slot_bytes < frame.offset + frame.bytes, "the frame has filling");
            frame.offset + frame.bytes - 1
        }),
        forged("F2-flags", "a reserved flag is set; checksums were repaired", |header| header.flags |= 2),
        forged("F2-kind-5", "a kind reserved for the engine; checksums were repaired", |header| header.kind = 5),
        forged("F2-kind-17", "a kind that is not defined; checksums were repaired", |header| header.kind = 17),
    ]
}

/// Rule F3.
fn bodies() -> Vec<Case> {
    let flipped = |name: &str, why: &str, at: usize| {
        Case::at_frame(&changed(name, |store| store.flip(0, store.slot(1).0 + at)), 1, CORRUPT, "F3", why)
    };
    let zeroed = changed("F3-zeroed", |store| {
        let (slot, slot_bytes) = store.slot(1);
        store.write(0, slot, &vec![0; slot_bytes]);
    });

    let mut rest = Store::new("F3-erased-rest", 512);
    let body = painted(0, 60);
    let draft = rest.draft(&event("order-1", body.clone()));
    rest.place(&draft);
    rest.commit();
    rest.close();
    rest.erase(1, &hash::body_commit(&draft.salt.expect("salted"), &body));
    let (slot, _) = rest.slot(1);
    rest.write(0, slot + 40, &[1]);
    rest.complement_body_crc(1);
    vec![
        flipped("F3-body", "a byte of the body differs", 2),
        flipped("F3-salt", "a byte of the salt differs", "placed".len() + 3),
        flipped("F3-slot", "a byte of the slot behind body and salt is not zero", 31),
        Case::at_frame(&zeroed, 1, CORRUPT, "F3", "the slot is all zero: damage, not erasure"),
        Case::at_frame(&rest, 1, CORRUPT, "F3", "an erased body, complement and all, with bytes behind the commitment that are not zero"),
    ]
}

/// Whole frames, every byte of them valid somewhere else.
fn moved() -> Vec<Case> {
    let mut place = Store::new("F2-frame-of-another-place", 512);
    place.lone(&event("order-1", "placed"));
    place.lone(&event("order-2", "placed"));
    place.close();
    let (from, to) = (place.frames[1], place.frames[2]);
    assert_eq!(from.bytes, to.bytes);
    let bytes = place.segments[0].bytes[from.offset..from.offset + from.bytes].to_vec();
    place.write(0, to.offset, &bytes);

    let mut segment = sealed("F2-frame-of-another-segment");
    segment.next_segment(512);
    segment.commit();
    segment.lone(&event("order-2", "placed"));
    segment.close();
    let (from, to) = (segment.frames[1], segment.frames[2]);
    assert_eq!((from.bytes, from.offset), (to.bytes, to.offset));
    let bytes = segment.segments[0].bytes[from.offset..from.offset + from.bytes].to_vec();
    segment.write(1, to.offset, &bytes);
    vec![
        Case::at_frame(&place, 2, CORRUPT, "F2", "the frame before, copied here as it is: checksums are bound to their offset"),
        Case::at_frame(&segment, 2, CORRUPT, "F2", "the frame at the same offset of segment 1: checksums are bound to their segment"),
    ]
}
