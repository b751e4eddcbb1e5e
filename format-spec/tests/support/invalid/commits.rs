//! Faults of padding and trailers: rules C1, C4, C5, C6.

use chainring_format::commit::CommitTrailer;

use super::super::case::Case;
use super::super::records::event;
use super::super::store::Store;
use super::{CORRUPT, TAMPERED, base, changed};

pub(super) fn cases() -> Vec<Case> {
    [padding(), structure(), order(), digests()].concat()
}

/// Rule C1.
fn padding() -> Vec<Case> {
    let near = changed("C1-padding-byte", |store| {
        let frame = store.frames[1];
        store.flip(0, frame.offset + frame.bytes + 10);
    });
    let block = near.commits[1].offset;

    let mut far = Store::new("C1-padding-byte-next-block", 512);
    // The frame ends 152 bytes before the end of its block, 8 too few for the trailer.
    far.event(&event("order-1", super::super::painted(0, 209)));
    far.commit();
    far.close();
    let commit = far.commits[1];
    assert_eq!((far.frames[1].bytes, commit.bytes), (360, 1024));
    far.flip(0, commit.offset + 700);

    let nothing = changed("C1-nothing-valid", |store| store.write(0, store.commits[1].offset, &7_u32.to_le_bytes()));
    vec![
        Case::at(&near, 2, (0, block), CORRUPT, "C1", "a padding byte is not FF"),
        Case::at(&far, 2, (0, commit.offset + 512), CORRUPT, "C1", "the same in the second block of a long padding: that block is named"),
        Case::at_frame(&nothing, 1, CORRUPT, "C1", "where a commit should start stands nothing valid"),
    ]
    .into_iter()
    .map(without_position)
    .collect()
}

/// No record is known at the place of padding.
fn without_position(mut case: Case) -> Case {
    case.verdict.fault.iter_mut().for_each(|fault| fault.position = None);
    case
}

/// Rule C4.
fn structure() -> Vec<Case> {
    let forged = |name: &str, why: &str, change: fn(&mut CommitTrailer)| {
        Case::at_trailer(&changed(name, |store| store.forge_trailer(1, change)), 1, CORRUPT, "C4", why)
    };
    let flipped = |name: &str, why: &str, at: usize| {
        Case::at_trailer(&changed(name, |store| store.flip(0, store.trailer(1) + at)), 1, CORRUPT, "C4", why)
    };
    vec![
        flipped("C4-magic", "the trailer's magic differs, behind padding", 1),
        flipped("C4-crc", "a byte of the trailer differs, its checksum was not repaired", 100),
        forged("C4-count", "count is not the number of frames", |trailer| trailer.count = 2.into()),
        forged("C4-commit-bytes", "commit_bytes is not the commit's length", |trailer| trailer.commit_bytes = 1024.into()),
        forged("C4-watermark", "the watermark lies beyond the commit itself", |trailer| trailer.watermark = 3.into()),
        forged("C4-flags", "a reserved flag is set", |trailer| trailer.flags = 2.into()),
        forged("C4-reserved-a", "a reserved byte is not zero", |trailer| trailer.reserved_a[7] = 1),
        forged("C4-mac", "the place of the MAC is not zero", |trailer| trailer.mac[0] = 1),
        forged("C4-reserved-b", "a reserved byte is not zero", |trailer| trailer.reserved_b[15] = 1),
        forged("C4-first-position-overflow", "first_position + count does not fit 64 bits", |trailer| {
            trailer.first_position = u64::MAX.into();
        }),
    ]
}

/// Rule C5: the lie stands in the last commit, so that no later one differs.
fn order() -> Vec<Case> {
    let lied = |name: &str, why: &str, lie: fn(&mut CommitTrailer)| {
        let mut store = base(name);
        store.commit_with(lie);
        Case::at_trailer(&store, 3, TAMPERED, "C5", why)
    };
    vec![
        lied("C5-first-position", "a position is left out", |trailer| trailer.first_position = 3.into()),
        lied("C5-time", "time_ns is not the last record's", |trailer| trailer.time_ns = (trailer.time_ns.get() + 1).into()),
        lied("C5-time-earlier", "time_ns decreases", |trailer| trailer.time_ns = (trailer.time_ns.get() - 1).into()),
        lied("C5-epoch", "the epoch is lower than the segment's", |trailer| trailer.epoch = 0.into()),
        lied("C5-watermark", "the watermark decreases", |trailer| trailer.watermark = 1.into()),
    ]
}

/// Rule C6.
fn digests() -> Vec<Case> {
    let mut digest = base("C6-digest");
    digest.forge_trailer(2, |trailer| trailer.digest[0] ^= 1);
    let mut previous = base("C6-previous");
    previous.commit_with(|trailer| trailer.previous_digest[0] ^= 1);
    vec![
        Case::at_trailer(&digest, 2, TAMPERED, "C6", "the digest is not that of the commit"),
        Case::at_trailer(&previous, 3, TAMPERED, "C6", "previous_digest is not that of the commit before; the own digest was made over it"),
    ]
}
