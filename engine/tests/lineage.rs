//! What depends on an event, and how it is taken back: by the index, by what is not in it yet, and by a plain scan, which must all agree.

use std::collections::BTreeSet;
use std::time::Duration;

use chainring::{
    Class, Event, EventId, Log, Metadata, Options, Position, ReadError, ReadRef, Relation, Request, Reversibility, Store, Version, View,
};

fn id(number: u64) -> EventId {
    EventId((u128::from(number) << 64 | 1).to_le_bytes())
}

/// Xorshift: the same history every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// A history in which events cause each other, are decided against each other's streams, and are checked with them.
fn write(log: &Log, random: &mut Random, numbers: std::ops::Range<u64>) {
    let mut number = numbers.start;
    while number < numbers.end {
        let size = if random.below(6) == 0 { 1 + random.below(4) } else { 1 };
        let event = |number: u64, random: &mut Random| {
            let mut seen = |most: u64| {
                let read = |random: &mut Random| ReadRef {
                    stream: format!("s{}", random.below(20)),
                    version: (number / 20 + random.below(4)).saturating_sub(random.below(6)),
                    ..ReadRef::default()
                };
                (random.below(3) == 0).then(|| (0..random.below(most)).map(|_| read(random)).collect::<Vec<_>>())
            };
            let metadata = Metadata { reads: seen(3), checked: seen(2), ..Metadata::new("E") };
            let mut event = Event::with_metadata(format!("s{}", random.below(20)), metadata).id(id(number)).body(vec![b'x'; 150]);
            // Now and then of one that is not there, or that comes in the same batch.
            if random.below(3) > 0 {
                event.metadata.causation = Some(id((number + 3).saturating_sub(random.below(60))));
            }
            event
        };
        let events: Vec<Event> = (number..number + size).map(|number| event(number, random)).collect();
        log.append(Request::batch(events)).unwrap();
        number += size;
    }
}

/// The definition, over and over until nothing is added.
fn by_hand(view: &View, root: EventId, relation: Relation) -> BTreeSet<Position> {
    let all: Vec<_> = view.events().map(Result::unwrap).collect();
    let root = all.iter().find(|event| event.event_id() == root).unwrap();
    let begin = root.position().0 - root.batch().map_or(0, |(index, _)| u64::from(index));
    let mut found = BTreeSet::from([root.position()]);
    loop {
        let before = found.len();
        let known: Vec<_> = all.iter().filter(|event| found.contains(&event.position())).collect();
        for event in all.iter().filter(|event| event.position().0 >= begin) {
            let metadata = event.metadata().unwrap();
            let checked = metadata.checked.iter().flatten().filter(|_| relation == Relation::CausationReadsAndChecked);
            let reads: Vec<_> = metadata.reads.iter().flatten().chain(checked).collect();
            let depends = known.iter().any(|on| {
                // Nothing depends on what comes after it, its own batch aside.
                let start = on.position().0 - on.batch().map_or(0, |(index, _)| u64::from(index));
                let read = || reads.iter().any(|read| read.stream == on.stream().unwrap() && read.version >= on.version().0);
                event.position().0 >= start && (metadata.causation == Some(on.event_id()) || read())
            });
            if depends {
                found.insert(event.position());
            }
        }
        if found.len() == before {
            break;
        }
    }
    found.remove(&root.position());
    found
}

fn compare(store: &Store, events: u64, random: &mut Random) {
    let view = store.latest();
    let mut total = 0;
    for _ in 0..40 {
        // Late ones: early ones have nearly everything depend on them.
        let root = id(events - 1 - random.below(events / 3));
        for relation in [Relation::CausationAndReads, Relation::CausationReadsAndChecked] {
            let found: Vec<Position> = view.dependents(root, relation).unwrap().iter().map(|event| event.position()).collect();
            assert!(found.is_sorted());
            assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), by_hand(&view, root, relation), "{root} {relation:?}");
            total += found.len();
        }
    }
    assert!(total > 200, "only {total} depend on anything");
}

fn index(log: &Log) {
    while log.tick() == Some(Duration::ZERO) {}
}

#[test]
fn dependents_are_those_of_a_scan_however_much_is_in_the_index() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(64 << 10).keeper(false);
    let log = options.open(directory.path()).unwrap();
    let random = &mut Random(0x9E37_79B9_7F4A_7C15);
    write(&log, random, 1..500);
    compare(&log, 500, random);
    index(&log);
    compare(&log, 500, random);
    write(&log, random, 500..700);
    compare(&log, 700, random);
    // A view of the past has only what depended on it by then.
    let past = log.latest().up_to(Position(400));
    for number in 320..330 {
        let found = past.dependents(id(number), Relation::default()).unwrap();
        assert_eq!(found.iter().map(|event| event.position()).collect::<BTreeSet<_>>(), by_hand(&past, id(number), Relation::default()));
    }
    assert!(matches!(past.dependents(id(600), Relation::default()), Err(ReadError::NotFound { .. })));
    log.close().unwrap();
    compare(&Store::open(directory.path()).unwrap(), 700, random);
}

fn appended(log: &Log, stream: &str, number: u64, change: impl FnOnce(&mut Metadata)) {
    let mut event = Event::new(stream, "E").id(id(number));
    change(&mut event.metadata);
    log.append(event).unwrap();
}

fn positions(events: &[chainring::EventRef<'_>]) -> Vec<u64> {
    events.iter().map(|event| event.position().0).collect()
}

#[test]
fn a_plan_ends_where_nothing_can_be_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let caused = |by: u64, class: Option<Reversibility>| {
        move |metadata: &mut Metadata| {
            metadata.causation = Some(id(by));
            metadata.reversibility = class;
        }
    };
    appended(&log, "a", 1, |_| {});
    appended(&log, "b", 2, caused(1, None));
    appended(&log, "c", 3, caused(2, Some(Reversibility::ExternallyReversible)));
    appended(&log, "a", 4, |_| {});
    let view = log.latest();
    let plan = view.undo_plan(&[id(1)]).unwrap();
    assert_eq!((positions(&plan.steps), positions(&plan.kept)), (vec![3, 2, 1], vec![4]));
    assert_eq!((plan.reversibility, plan.horizon.is_some()), (Reversibility::ExternallyReversible, false));
    assert_eq!(plan.heads, [("a", Version(2)), ("b", Version(1)), ("c", Version(1))]);
    assert_eq!(positions(&view.undo_plan(&[id(4)]).unwrap().steps), [4]);
    assert_eq!(positions(&view.undo_plan(&[id(4), id(3)]).unwrap().steps), [4, 3]);

    appended(&log, "d", 5, caused(3, Some(Reversibility::Irreversible)));
    appended(&log, "e", 6, caused(5, None));
    let view = log.latest();
    let plan = view.undo_plan(&[id(1)]).unwrap();
    assert_eq!((positions(&plan.steps), plan.horizon.unwrap().position()), (vec![6], Position(5)), "only what came after it");
    assert_eq!(plan.reversibility, Reversibility::Irreversible);
}

#[test]
fn what_was_taken_back_is_so_until_that_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let compensates = |target: u64| {
        move |metadata: &mut Metadata| {
            metadata.class = Some(Class::Compensation);
            metadata.compensates = Some(id(target));
        }
    };
    let live = |target: u64| log.latest().compensation_of(id(target)).unwrap().map(|event| event.position().0);
    appended(&log, "s", 1, |_| {});
    assert_eq!(live(1), None);
    appended(&log, "s", 2, compensates(1));
    assert_eq!(live(1), Some(2));
    appended(&log, "s", 3, compensates(2));
    assert_eq!((live(1), live(2)), (None, Some(3)));
    appended(&log, "s", 4, compensates(3));
    assert_eq!((live(1), live(2), live(3)), (Some(2), None, Some(4)), "an undo of an undo of an undo");
    let view = log.latest();
    let plan = view.undo_plan(&[id(1)]).unwrap();
    assert_eq!(plan.steps.len(), 0);
    assert_eq!(plan.compensated.iter().map(|(event, by)| (event.position().0, by.position().0)).collect::<Vec<_>>(), [(1, 2)]);
}
