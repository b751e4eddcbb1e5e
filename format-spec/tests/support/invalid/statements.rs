//! Records of the engine's own that do not hold: rules F6, F8 to F10, E1, E2.

use chainring_format::frame::FRAME_HEADER_BYTES;
use chainring_format::hash::{self, Hash};
use chainring_format::record::{KIND_ANCHOR, KIND_KEY, KIND_SEAL, SealBody};
use zerocopy::{FromZeros, IntoBytes};

use super::super::case::Case;
use super::super::painted_array;
use super::super::records::{Draft, event};
use super::super::store::Store;
use super::TAMPERED;

pub(super) fn cases() -> Vec<Case> {
    [seals_by_themselves(), others_by_themselves(), seals(), keys()].concat()
}

/// Genesis, an event, a seal, another event; then what `last` adds, which does not hold.
fn behind(name: &str, rule: &'static str, why: &str, last: impl FnOnce(&mut Store)) -> Case {
    let mut store = Store::new(name, 512);
    store.event(&event("order-1", "placed"));
    store.sealed();
    store.event(&event("order-1", "paid"));
    let position = store.next_position();
    last(&mut store);
    store.commit();
    Case::at_frame(&store, position, TAMPERED, rule, why)
}

fn lied(name: &str, rule: &'static str, why: &str, lie: impl FnOnce(&mut SealBody)) -> Case {
    behind(name, rule, why, |store| {
        let sum = store.sum();
        store.seal_over(sum, lie, |_| {});
    })
}

/// Rules F6, H1 and F8.
fn seals_by_themselves() -> Vec<Case> {
    let around = |name: &str, rule: &'static str, why: &str, lie: fn(&mut Draft)| {
        behind(name, rule, why, |store| {
            let sum = store.sum();
            store.seal_over(sum, |_| {}, lie);
        })
    };
    let mut erased = Store::new("F6-erased-seal", 512);
    erased.sealed();
    let offset = erased.frames[1].offset + FRAME_HEADER_BYTES;
    let commit = hash::body_commit(&[0; 16], &erased.segments[0].bytes[offset..][..size_of::<SealBody>()]);
    erased.erase(1, &commit);
    erased.commit();
    vec![
        around("F6-seal-with-metadata", "F6", "a seal with metadata", |draft| draft.metadata = vec![0xA0]),
        Case::at_frame(&erased, 1, TAMPERED, "F6", "a seal whose body is erased"),
        around("H1-engine-version", "H1", "a seal that skips a number of the engine's lane", |draft| draft.version += 1),
        around("F8-length", "F8", "a seal that is a byte too long", |draft| draft.body.push(0)),
        around("F8-short", "F8", "a seal that is a byte too short", |draft| draft.body.truncate(319)),
        lied("F8-number-0", "F8", "a seal with number 0", |seal| seal.number = 0.into()),
        lied("F8-first-again", "F8", "number 1 with a seal before it", |seal| seal.number = 1.into()),
        lied("F8-position", "F8", "a seal that states another position", |seal| seal.position = 3.into()),
        lied("F8-time", "F8", "a seal that states another time", |seal| seal.time_ns = (seal.time_ns.get() + 1).into()),
        lied("F8-tree-size-0", "F8", "a seal over nothing", |seal| seal.tree_size = 0.into()),
        lied("F8-tree-size", "F8", "a seal over itself", |seal| seal.tree_size = (seal.position.get() + 1).into()),
        lied("F8-signed-size", "F8", "a checkpoint that is larger than the log", |seal| seal.signed_size = 5.into()),
        lied("F8-signature-of-nothing", "F8", "a signature without a checkpoint", |seal| seal.signature[0] = 1),
        lied("F8-streams-root", "F8", "streams_root is reserved", |seal| seal.streams_root[0] = 1),
        lied("F8-reserved", "F8", "a reserved byte is set", |seal| seal.reserved[7] = 1),
    ]
}

/// Rules F9 and F10.
fn others_by_themselves() -> Vec<Case> {
    let new: Hash = painted_array(10);
    let key = |name: &str, why: &str, lie: fn(&mut chainring_format::record::KeyBody)| {
        behind(name, "F9", why, |store| store.rotated(painted_array(10), lie))
    };
    let anchor = |name: &str, why: &str, lie: fn(&mut chainring_format::record::AnchorHead)| {
        behind(name, "F10", why, |store| store.anchored(3, b"artefact", lie))
    };
    vec![
        behind("F9-length", "F9", "a key record that is too short", |store| {
            store.engine_record(KIND_KEY, &[1; 199], |_| {});
        }),
        key("F9-no-key", "the new key is zero", |body| body.new_key = [0; 32]),
        key("F9-signed-by-nobody", "a signature by no key", |body| body.old_signature[5] = 1),
        key("F9-reserved", "a reserved byte is set", |body| body.reserved[0] = 1),
        behind("F9-same-key", "F9", "the new key is the old one", |store| store.rotated(new, |body| body.old_key = body.new_key)),
        anchor("F10-form", "a form that is not defined", |head| head.form = 5),
        anchor("F10-reserved", "a reserved byte is set", |head| head.reserved[6] = 1),
        anchor("F10-size", "about a checkpoint that is not before it", |head| head.size = 5.into()),
        anchor("F10-size-0", "about a checkpoint of nothing", |head| head.size = 0.into()),
        behind("F10-empty", "F10", "an anchor without artefact", |store| store.anchored(3, b"", |_| {})),
        behind("F10-short", "F10", "an anchor that is cut short", |store| {
            store.engine_record(KIND_ANCHOR, &[1; 47], |_| {});
        }),
    ]
}

/// Rule E1.
fn seals() -> Vec<Case> {
    let mut far = Store::new("E1-another-segment", 512);
    far.event(&event("order-1", "placed"));
    let sum = far.sum();
    far.event(&event("order-1", "paid"));
    far.commit();
    far.seal();
    far.next_segment(512);
    far.seal_over(sum, |_| {}, |_| {});
    far.commit();
    let back = behind("E1-shrinks", "E1", "a seal over less than the seal before it", |store| {
        let mut earlier = Store::new("E1-shrinks", 512);
        earlier.commit();
        let sum = earlier.sum();
        store.seal_over(sum, |_| {}, |_| {});
    });
    let skipped = behind("E1-no-first", "E1", "the first seal has number 2", |store| {
        let mut body = SealBody::new_zeroed();
        body.number = 3.into();
        (body.position, body.tree_size, body.previous_seal) = (4.into(), 4.into(), painted_array(1));
        body.time_ns = (store.time_ns + super::super::records::TICK_NS).into();
        store.engine_record(KIND_SEAL, body.as_bytes(), |_| {});
    });
    vec![
        lied("E1-number", "E1", "a number is left out", |seal| seal.number = 3.into()),
        lied("E1-previous", "E1", "another seal before it", |seal| seal.previous_seal[0] ^= 1),
        lied("E1-tree-root", "E1", "another tree root", |seal| seal.tree_root[31] ^= 1),
        lied("E1-heads-root", "E1", "another heads root", |seal| seal.heads_root[0] ^= 1),
        lied("E1-events", "E1", "another count of events", |seal| seal.events = 3.into()),
        lied("E1-key", "E1", "a key that is not in force", |seal| seal.log_key[0] = 1),
        lied("E1-size-of-another-root", "E1", "the roots are those of another size", |seal| seal.tree_size = 3.into()),
        Case::at_frame(&far, 3, TAMPERED, "E1", "a seal over less than the segments before its own"),
        back,
        skipped,
    ]
}

/// Rule E2.
fn keys() -> Vec<Case> {
    let mut whole = Store::new("E2-first-again", 512);
    whole.rotated(painted_array(10), |_| {});
    whole.rotated(painted_array(11), |body| (body.old_key, body.old_signature) = ([0; 32], [0; 64]));
    whole.commit();
    let other = behind("E2-another-key", "E2", "the old key was never in force", |store| {
        store.rotated(painted_array(10), |body| (body.old_key, body.old_signature) = (painted_array(9), painted_array(1)));
    });
    vec![other, Case::at_frame(&whole, 2, TAMPERED, "E2", "a second first key")]
}
