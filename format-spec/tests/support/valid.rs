//! The golden stores in which everything holds: one for every form that the format allows.

use chainring_format::frame::FRAME_HEADER_BYTES;
use chainring_format::hash;
use chainring_format::metadata::Metadata;

use super::case::Case;
use super::maps::{full_metadata, unknown_keys};
use super::records::{Event, event, frame_length, neighbour, unsalted};
use super::store::Store;
use super::{painted, painted_array};

/// Lengths on both sides of every edge of a body slot.
const BODY_LENGTHS: [usize; 11] = [0, 1, 15, 16, 17, 31, 32, 33, 40, 41, 1000];

pub(crate) fn cases() -> Vec<Case> {
    [events(), metadata(), commits(), ends(), segments(), packed(), statements()].concat()
}

fn events() -> Vec<Case> {
    let with = |name: &str, why: &str, one: &Event| {
        let mut store = Store::new(name, 512);
        store.lone(one);
        store.close();
        Case::valid(&store, why)
    };
    // Two-byte letters and one of three bytes, so that bytes and letters differ in number.
    let long = format!("{}{}", "\u{e4}".repeat(254), "\u{20ac}x");
    let mut cases = vec![
        Case::valid(&super::example::store(), "the example at the top of FORMAT.md"),
        with("event-salted", "one event with a salted body", &event("order-1", "salted")),
        with("event-unsalted", "one event with an unsalted body, shorter than the slot", &unsalted("order-1", "unsalted")),
        with("name-1-byte", "the shortest stream name", &event("s", "body")),
        with("name-512-bytes", "the longest stream name: 512 bytes of UTF-8", &event(&long, "body")),
        with("name-engine-convention", "a stream whose name starts with $ is stored like any other", &event("$keys/1", "body")),
    ];
    for (name, salted) in [("bodies-salted", true), ("bodies-unsalted", false)] {
        let mut store = Store::new(name, 512);
        for length in BODY_LENGTHS {
            store.event(&Event { salted, ..event("lengths", painted(0, length)) });
        }
        store.commit();
        store.close();
        cases.push(Case::valid(&store, "bodies of 0, 1, 15, 16, 17, 31, 32, 33, 40, 41 and 1000 bytes, painted with period 251"));
    }
    cases.push(batch("batch-of-one", "a batch of one event is not the same as an event alone", &["a"]));
    cases.push(batch("batch-of-three", "a batch of three events over two streams, the same stream twice", &["a", "b", "a"]));
    cases.push(erased());
    cases
}

fn batch(name: &str, why: &str, streams: &[&str]) -> Case {
    let mut store = Store::new(name, 512);
    let events: Vec<Event> = streams.iter().map(|stream| event(stream, format!("of {stream}"))).collect();
    store.event(&event("before", "alone, in the same commit"));
    store.batch(&events);
    store.event(&event("a", "alone again"));
    store.commit();
    store.close();
    Case::valid(&store, why)
}

fn erased() -> Case {
    let mut store = Store::new("erased-bodies", 512);
    let bodies: [(usize, bool); 4] = [(6, true), (100, true), (5, false), (0, false)];
    for (length, salted) in bodies {
        let one = Event { salted, ..event("person-1", painted(7, length)) };
        let draft = store.draft(&one);
        let commit = hash::body_commit(&draft.salt.unwrap_or_default(), &draft.body);
        store.place(&draft);
        store.erase(store.next_position() - 1, &commit);
    }
    store.event(&event("person-1", "this one stays"));
    store.commit();
    store.close();
    Case::valid(&store, "four bodies erased in place, salted and not, shorter and longer than a commitment; one body stays")
}

fn metadata() -> Vec<Case> {
    let with = |name: &str, why: &str, metadata: &Metadata| {
        let mut store = Store::new(name, 512);
        store.lone(&Event { metadata: metadata.encode(), ..event("order-1", "body") });
        store.close();
        Case::valid(&store, why)
    };
    vec![
        with("metadata-full", "every known key of the metadata, and of the maps in it", &full_metadata()),
        with("metadata-minimal", "nothing but a type, which is empty", &Metadata::new("")),
        with("metadata-unknown-keys", "keys that this version does not know, at the top and in the inner maps", &unknown_keys()),
    ]
}

/// An event whose frame leaves `free` bytes between itself and the trailer of a commit of one 512-byte block.
fn filling(free: usize) -> Event {
    let one = event("filler", "");
    let wanted = 512 - 160 - free;
    let fixed = FRAME_HEADER_BYTES + "filler".len() + one.metadata.len() + 16;
    let body = painted(0, wanted - fixed);
    assert_eq!(frame_length("filler".len(), one.metadata.len(), body.len(), true), wanted, "a multiple of 8 is left free");
    Event { body, ..one }
}

fn commits() -> Vec<Case> {
    let one_block = |name: &str, why: &str, free: usize, commit_bytes: usize| {
        let mut store = Store::new(name, 512);
        store.lone(&Event { body: filling(0).body[free..].to_vec(), ..filling(0) });
        assert_eq!(store.commits[1].bytes, commit_bytes);
        store.close();
        Case::valid(&store, why)
    };
    let mut longest = Store::new("padding-longest", 512);
    let mut one = filling(0);
    one.body.push(b'+');
    longest.lone(&one);
    assert_eq!(longest.commits[1].bytes, 1024);
    longest.close();

    let mut empty = Store::new("empty-commits", 512);
    empty.commit();
    empty.lone(&event("order-1", "between empty commits"));
    let durable = empty.next_position();
    empty.commit_with(|trailer| trailer.watermark = durable.into());
    empty.commit();
    empty.close();

    let mut behind = Store::with_genesis_behind(2, "empty-commits-before-genesis", 512, |_| {});
    behind.lone(&event("order-1", "behind commits without frames"));
    behind.next_segment(512);
    behind.lone(&event("order-1", "in another segment"));
    behind.close();

    let mut wide = Store::new("block-4096", 4096);
    wide.event(&event("order-1", painted(0, 3000)));
    wide.event(&event("order-1", painted(0, 900)));
    wide.commit();
    vec![
        one_block("padding-none", "frames that end exactly where the trailer starts", 0, 512),
        one_block("padding-8-bytes", "eight bytes of padding", 8, 512),
        Case::valid(&longest, "the longest padding: the frames leave 8 bytes too few for the trailer, so a whole block follows"),
        Case::valid(&empty, "commits without frames, with and without news of the watermark"),
        Case::valid(&behind, "commits without frames before the genesis record, and another segment"),
        Case::valid(&wide, "commits in blocks of 4096 bytes, one of two blocks"),
    ]
}

fn ends() -> Vec<Case> {
    let genesis = Store::new("genesis-only", 512);
    let started = |name: &str| {
        let mut store = Store::new(name, 512);
        store.lone(&event("order-1", "placed"));
        store
    };
    let killed = started("killed");
    let mut closed = started("closed");
    closed.close();

    let mut reopened = started("reopened");
    reopened.close();
    reopened.epoch = 2;
    reopened.lone(&event("order-1", "paid"));
    reopened.close();

    let mut reserved = started("zeros-reserved");
    reserved.last().bytes.resize(8 * 512 + 100, 0);

    let mut sealed = started("sealed-without-successor");
    sealed.close();
    sealed.seal();

    let mut write_version = started("write-version-2");
    write_version.forge_header(0, |header| header.write_version = 2.into());

    let mut foreign = Case::valid(&started("foreign-files"), "files with other names are not part of the store (L2)");
    for name in ["0000000002.tmp", "0000000002.seg.tmp", "2.seg", "00000000002.seg", "0000000000.seg", "LOCK", "notes.txt"] {
        foreign.files.insert(name.to_owned(), format!("{name} is not part of the store\n").into_bytes());
    }
    vec![
        Case::valid(&genesis, "a store just made: the genesis record and nothing else"),
        Case::valid(&closed, "closed in order: the last commit is CLOSED"),
        Case::valid(&killed, "the writer was killed; nothing has to be cut"),
        Case::valid(&reopened, "closed, opened again and continued in the same segment with the next epoch"),
        Case::valid(&reserved, "reserved space of zeros behind the last commit, not a multiple of a block"),
        Case::valid(&sealed, "the last segment has its footer, but its successor was never made"),
        Case::valid(&write_version, "may be read by version 1, but not appended to (S5)"),
        foreign,
    ]
}

fn segments() -> Vec<Case> {
    let mut footer = Store::new("two-segments", 512);
    footer.lone(&event("order-1", "placed"));
    footer.seal();
    footer.next_segment(1024);
    footer.lone(&event("order-1", "paid"));

    let mut three = Store::new("three-segments", 512);
    let (stream, other) = ("order-1", neighbour("order-1", "lane"));
    for round in 0..3 {
        // Nine records and more: the position table has a second entry, and with an odd number of entries its filling.
        for index in 0..4 {
            three.event(&event(stream, format!("{round}.{index}")));
            three.event(&event(&other, format!("{round}.{index} of the other stream in the same bucket")));
        }
        three.commit();
        if round < 2 {
            three.seal();
            three.next_segment(512);
        }
    }
    three.close();
    vec![
        Case::valid(&footer, "a sealed segment with its footer, and its successor with another block size"),
        Case::valid(&three, "a stream, and a bucket of two streams, that go through three segments"),
        recovered(),
        recovered_after_ghost(),
    ]
}

/// A store with `rest` behind its first segment, and the same one with that segment packed.
fn before_and_after(store: &Store, rest: impl Fn(&mut Store)) -> [Store; 2] {
    let (mut before, mut after) = (store.clone(), store.clone());
    after.pack(0);
    rest(&mut before);
    rest(&mut after);
    before.name.push_str("-before");
    [before, after]
}

fn packed() -> Vec<Case> {
    let lone = |store: &mut Store, count: usize| {
        (0..count).for_each(|index| store.lone(&event(["order-1", "order-2"][index % 2], painted(index, 40 * index))));
    };
    let mut live = Store::new("packed", 512);
    lone(&mut live, 12);
    live.seal();
    live.next_segment(512);
    let live = before_and_after(&live, |store| store.lone(&event("order-1", "in the live segment")));

    // Everything that a commit can hold: a batch, commits without frames, padding of every kind before it went, and an erased body.
    let mut mixed = Store::new("packed-mixed", 4096);
    mixed.batch(&[event("a", "of a"), event("b", painted(0, 5000)), event("a", "")]);
    mixed.commit();
    mixed.commit();
    let erased = event("person-1", painted(7, 100));
    let draft = mixed.draft(&erased);
    let commit = hash::body_commit(&draft.salt.unwrap_or_default(), &draft.body);
    mixed.place(&draft);
    mixed.erase(mixed.next_position() - 1, &commit);
    mixed.event(&unsalted("person-1", "this one stays"));
    mixed.commit();
    mixed.close();
    mixed.epoch = 2;
    mixed.lone(&event("a", "after opening again"));
    mixed.seal();
    mixed.next_segment(4096);
    let mixed = before_and_after(&mixed, |store| {
        store.lone(&event("person-1", "behind it"));
        store.close();
    });

    let mut killed = Store::new("packed-without-footer", 512);
    lone(&mut killed, 3);
    killed.epoch = 2;
    killed.next_segment(512);
    killed.pack(0);
    killed.close();

    let mut cut = Store::new("packed-after-cut", 512);
    lone(&mut cut, 2);
    cut.last().bytes.extend([painted(3, 600), vec![0; 1000], painted(5, 88)].concat());
    cut.epoch = 2;
    cut.next_segment(512);
    cut.pack(0);
    cut.close();

    let mut many = Store::new("packed-many", 512);
    for block in [1024, 512, 4096, 512] {
        lone(&mut many, 5);
        many.seal();
        many.next_segment(block);
    }
    many.close();
    [0, 2, 3].into_iter().for_each(|index| many.pack(index));
    vec![
        Case::valid(&live[0], "the store `packed` before its first segment was packed: packing that gives the same bytes"),
        Case::valid(&live[1], "a packed segment of lone events, and the live segment behind it"),
        Case::valid(&mixed[0], "the store `packed-mixed` before its first segment was packed: packing that gives the same bytes"),
        Case::valid(&mixed[1], "a packed segment with a batch, commits without frames, an erased body, a closing commit and two epochs"),
        Case::valid(&killed, "a packed segment whose writer was killed: it never had a footer"),
        Case::valid(&cut, "a packed segment of which recovery had cut 1688 bytes: they are gone, and counted in the successor's header"),
        Case::valid(&many, "packed segments behind each other and between others, of several block sizes before"),
    ]
}

fn recovered() -> Case {
    let mut store = Store::new("recovered-after-cut", 512);
    store.lone(&event("order-1", "placed"));
    let garbage = [painted(3, 600), vec![0; 1000], painted(5, 88), vec![0; 300]].concat();
    store.last().bytes.extend(garbage);
    store.epoch = 2;
    store.next_segment(512);
    store.lone(&event("order-1", "paid"));
    store.close();
    Case::valid(&store, "after recovery: the first segment has no footer, and 1688 bytes behind its named end were cut")
}

/// A commit that was in flight behind the cut, whole and with right checksums, must stay unseen.
fn recovered_after_ghost() -> Case {
    let mut store = Store::new("recovered-ghost", 512);
    store.lone(&event("order-1", "placed"));
    let mut before = store.clone();
    store.lone(&event("order-1", "in flight, torn"));
    store.lone(&event("order-1", "in flight behind it, whole"));
    let mut ghost = store.segments[0].bytes[before.segments[0].end..].to_vec();
    ghost[..512].fill(0);
    before.last().bytes.extend(ghost);
    before.epoch = 2;
    before.next_segment(512);
    before.lone(&event("order-1", "paid"));
    before.close();
    Case::valid(&before, "after recovery: behind the named end lies a hole, and behind it a whole commit that does not exist any more")
}

/// Records of the engine's own, behind the genesis record.
fn statements() -> Vec<Case> {
    let mut seals = Store::new("seals", 512);
    seals.lone(&event("order-1", "placed"));
    seals.sealed();
    seals.commit();
    // A seal over what was there a little earlier.
    let before = seals.sum();
    seals.event(&event("order-1", "paid"));
    seals.event(&event("order-2", "placed"));
    seals.seal_over(before, |_| {}, |_| {});
    seals.commit();
    seals.seal();
    seals.next_segment(512);
    // Nothing of the new segment is in it.
    seals.sealed();
    seals.event(&event("order-2", "paid"));
    seals.sealed();
    seals.commit();
    seals.close();

    let mut keys = Store::new("keys", 512);
    keys.sealed();
    keys.rotated(painted_array(10), |_| {});
    keys.lone(&event("order-1", "placed"));
    let size = keys.next_position() + 1;
    keys.sealed();
    keys.rotated(painted_array(11), |_| {});
    keys.anchored(size, b"what a time stamping authority answered", |_| {});
    let (root, next) = (keys.tree.root(), keys.sum());
    keys.seal_over(next, |seal| (seal.signed_size, seal.signed_root, seal.signature) = (size.into(), root, painted_array(5)), |_| {});
    keys.commit();
    keys.close();

    let mut born = Store::with_genesis("born-with-a-key", 512, |genesis| genesis.body.log_key = painted_array(12));
    born.key = painted_array(12);
    born.lone(&event("order-1", "placed"));
    born.sealed();
    born.commit();

    let mut many = Store::new("seals-over-blocks", 512);
    for turn in 0..3 {
        for index in 0..190 {
            many.event(&unsalted(&format!("s-{}", index % 7), painted(turn, 10)));
        }
        many.sealed();
        many.commit();
        many.seal();
        many.next_segment(512);
    }
    many.close();
    vec![
        Case::valid(&seals, "seals over everything before them, over less, and as the first record of a segment"),
        Case::valid(&keys, "key records, an anchor, and a seal that names the last signed checkpoint"),
        Case::valid(&born, "a log whose genesis record names its key"),
        Case::valid(&many, "seals in a log of several hundred records"),
    ]
}
