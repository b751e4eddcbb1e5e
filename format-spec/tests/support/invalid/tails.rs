//! What stands behind the last whole commit: torn tails, and damage that only looks like one (FORMAT.md section 9).

use super::super::case::Case;
use super::super::painted;
use super::super::records::event;
use super::super::store::{Place, Store};
use super::{CORRUPT, changed, sealed};

pub(super) fn cases() -> Vec<Case> {
    [torn(), changed_afterwards()].concat()
}

/// Position 1 is durable as far as trailers tell; the last commit, positions 2 and 3 in three blocks, is not.
fn in_flight(name: &str) -> Store {
    let mut store = Store::new(name, 512);
    store.lone(&event("order-1", "placed"));
    store.event(&event("order-1", painted(0, 1000)));
    store.event(&event("order-1", "paid"));
    store.commit();
    assert_eq!(store.commits[2].bytes, 1536);
    store
}

/// A sealed segment whose footer has twenty heads or so.
fn sealed_with_many_heads(name: &str) -> Store {
    let mut store = Store::new(name, 512);
    for number in 0..20 {
        store.event(&event(&format!("order-{number}"), "placed"));
    }
    store.commit();
    store.commit();
    store.seal();
    store
}

/// A store cut at the start of commit `index`, which is torn.
fn cut(store: &Store, index: usize, why: &str) -> Case {
    let commit = store.commits[index];
    let before = |f: &&Place| (f.segment, f.offset) < (commit.segment, commit.offset);
    let records = store.frames.iter().filter(before).count();
    Case::at(store, records as u64, (commit.segment, commit.offset), "torn", "R", why)
}

fn zero(store: &mut Store, offset: usize, length: usize) {
    let last = store.segments.len() - 1;
    store.write(last, offset, &vec![0; length]);
}

fn torn() -> Vec<Case> {
    let torn = |name: &str, why: &str, change: fn(&mut Store, usize)| {
        let mut store = in_flight(name);
        let start = store.commits[2].offset;
        change(&mut store, start);
        cut(&store, 2, why)
    };
    let mut ghost = Store::new("R-hole-before-a-whole-commit", 512);
    ghost.lone(&event("order-1", "placed"));
    ghost.lone(&event("order-1", "in flight, never written"));
    ghost.commit_with(|trailer| trailer.watermark = 2.into());
    let hole = ghost.commits[2].offset;
    zero(&mut ghost, hole, 512);

    let mut first = sealed("R-first-commit-of-a-segment");
    first.next_segment(512);
    first.event(&event("order-1", painted(0, 600)));
    first.commit();
    let start = first.commits[2].offset;
    zero(&mut first, start, 512);

    let mut footer = sealed("R-footer-half-written");
    let end = footer.segments[0].end;
    footer.last().bytes.truncate(end + 200);

    let mut footer_block = sealed_with_many_heads("R-footer-first-block-written");
    let footer_start = footer_block.segments[0].end;
    let footer_end = footer_block.segments[0].bytes.len();
    assert!(footer_end > footer_start + 1024, "the footer reaches into a third block");
    footer_block.last().bytes[footer_start + 512..].fill(0);
    footer_block.last().bytes.resize(footer_end.next_multiple_of(512) + 512, 0);
    vec![
        torn("R-zero-sector", "the second sector of the last commit was never written", |store, start| zero(store, start + 512, 512)),
        torn("R-zero-sector-first", "the first sector of the last commit was never written", |store, start| zero(store, start, 512)),
        torn(
            "R-prefix-written",
            "only the first block of the last commit was written, and space was reserved behind it",
            |store, start| {
                zero(store, start + 512, 1024);
            },
        ),
        torn("R-file-ends-at-a-block", "the file ends behind the first block of the last commit", |store, start| {
            store.last().bytes.truncate(start + 512);
        }),
        torn("R-file-ends-inside", "the file ends inside the last commit", |store, start| store.last().bytes.truncate(start + 1100)),
        torn("R-file-ends-in-first-sector", "the file ends 100 bytes behind the last whole commit", |store, start| {
            store.last().bytes.truncate(start + 100);
        }),
        cut(&ghost, 2, "a commit that was never written, and a whole one behind it that saw nothing durable beyond"),
        cut(&first, 2, "the first commit of a new segment: its header vouches only for what came before"),
        Case::at(&footer, 2, (0, end), "torn", "R", "a footer that was not written to its end"),
        Case::at(
            &footer_block,
            21,
            (0, footer_start),
            "torn",
            "R",
            "a footer of which only the first block was written, and space was reserved behind it",
        ),
    ]
}

/// Bytes that were whole once: damage, whatever the place.
fn changed_afterwards() -> Vec<Case> {
    let mut body = in_flight("F3-last-commit");
    let (slot, _) = body.slot(2);
    body.flip(0, slot + 600);

    let mut second = in_flight("F2-last-commit-second-frame");
    let at = second.frames[3].offset + 30;
    second.flip(0, at);

    let mut trailer = in_flight("C4-last-commit");
    let at = trailer.trailer(2) + 130;
    trailer.flip(0, at);

    let below = changed("C1-zero-sector-below-watermark", |store| {
        let start = store.commits[1].offset;
        zero(store, start, 512);
    });

    // A body of zeros in front of the damage is whole, and no evidence of a torn write.
    let mut zeros = Store::new("F2-zeros-in-a-whole-frame-before", 512);
    zeros.event(&event("order-1", vec![0; 1500]));
    zeros.event(&event("order-1", "paid"));
    zeros.commit();
    let at = zeros.frames[2].offset + 30;
    zeros.flip(0, at);

    // The only evidence is a trailer behind the damage, found at a block's end.
    let mut witness = Store::new("F3-acknowledged", 512);
    witness.event(&event("order-1", painted(0, 1000)));
    witness.commit();
    witness.commit_with(|trailer| trailer.watermark = 2.into());
    let (slot, _) = witness.slot(1);
    zero(&mut witness, slot.next_multiple_of(512), 512);

    let mut garbage = in_flight("C1-garbage-behind-the-end");
    let end = garbage.segments[0].end;
    garbage.last().bytes.extend(painted(3, 1024));
    let mut garbage = Case::at(&garbage, 4, (0, end), CORRUPT, "C1", "bytes without any zero sector behind the last commit");
    let mut below =
        Case::at_frame(&below, 1, CORRUPT, "C1", "a zero sector below the watermark of a later trailer is damage, not a torn tail");
    for case in [&mut garbage, &mut below] {
        case.verdict.fault.iter_mut().for_each(|fault| fault.position = None);
    }
    vec![
        Case::at_frame(&body, 2, CORRUPT, "F3", "the last commit was fully written, then a byte of a body changed"),
        Case::at_frame(&second, 3, CORRUPT, "F2", "the same in its second frame: the first one counts as held"),
        Case::at_trailer(&trailer, 2, CORRUPT, "C4", "the same in its trailer: all its frames count as held"),
        Case::at_frame(&witness, 1, CORRUPT, "F3", "a zero sector inside a body, and a later trailer that says it was durable"),
        Case::at_frame(&zeros, 2, CORRUPT, "F2", "zero sectors inside a frame that holds do not make the damage behind it a torn write"),
        below,
        garbage,
    ]
}
