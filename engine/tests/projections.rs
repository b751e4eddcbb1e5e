//! Projections: kept with their place, made anew beside the old one by many threads; replay and upcasting have their examples in the documentation.

use std::collections::BTreeMap;
use std::fs;

use chainring::{Encoding, Event, EventRef, FileOutput, Log, Projection, ProjectionError, Projector, ReadError, Store};

/// Of every stream, its last body and how often an event came out of order.
#[derive(Debug, PartialEq)]
struct Last {
    streams: BTreeMap<String, (u64, String)>,
    wrong: u64,
}

impl Projection for Last {
    fn apply(&mut self, event: &EventRef<'_>) -> Result<(), ReadError> {
        let body = String::from_utf8_lossy(event.body().unwrap_or_default()).into_owned();
        if body == "poison" {
            return Err(ReadError::NotFound { what: "sense in this".into() });
        }
        let (version, last) = self.streams.entry(event.stream()?.to_owned()).or_default();
        self.wrong += u64::from(event.version().0 != *version + 1);
        (*version, *last) = (event.version().0, body);
        Ok(())
    }

    fn merge(&mut self, other: Last) {
        self.wrong += other.wrong;
        for (stream, last) in other.streams {
            assert!(self.streams.insert(stream, last).is_none(), "a stream is taken in by one thread");
        }
    }
}

impl Encoding for Last {
    const ID: &'static str = "last body, version 1";

    fn begin() -> Last {
        Last { streams: BTreeMap::new(), wrong: 0 }
    }

    fn encode(&self) -> Vec<u8> {
        self.streams.iter().map(|(stream, (version, last))| format!("{stream} {version} {last}\n")).collect::<String>().into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Last> {
        let mut last = Last::begin();
        for line in std::str::from_utf8(bytes).ok()?.lines() {
            let mut words = line.split(' ');
            let (stream, version, body) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
            last.streams.insert(stream.to_owned(), (version, body.to_owned()));
        }
        Some(last)
    }
}

fn append(log: &Log, numbers: std::ops::Range<u64>) {
    let events = numbers.map(|number| Event::new(format!("s{}", number * number % 37), "E").body(number.to_string()));
    log.append(events.collect::<Vec<_>>()).unwrap();
}

#[test]
fn a_projection_goes_on_where_it_was_and_can_be_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path().join("log")).unwrap();
    let open = || Projector::<Last, _>::open(FileOutput::new(directory.path(), "last")).unwrap();
    append(&log, 0..3000);
    let mut last = open();
    last.catch_up(&log).unwrap();
    append(&log, 3000..5000);
    // In another process, which sees only what is durable.
    let mut again = open();
    assert_eq!(again.place().unwrap().next.0, 3001);
    let store = Store::open(directory.path().join("log")).unwrap();
    again.catch_up(&store).unwrap();
    assert_eq!((again.get().wrong, again.place().unwrap().next.0), (0, 5001));
    last.catch_up(&log).unwrap();
    assert_eq!(last.get(), again.get());
    for threads in [1, 2, 5] {
        assert_eq!(open().rebuild(&log, threads).unwrap(), last.get(), "{threads} threads");
    }

    // What is damaged, of another projection, or of another log is not believed.
    let path = directory.path().join("last");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(97) {
        let mut spoiled = whole.clone();
        spoiled[at] ^= 1;
        fs::write(&path, spoiled).unwrap();
        assert!(open().place().is_none(), "byte {at}");
    }
    fs::write(&path, &whole[..10]).unwrap();
    assert!(open().place().is_none());
    fs::write(&path, &whole).unwrap();
    let other = Log::open(directory.path().join("other")).unwrap();
    append(&other, 7..9000);
    let mut other_last = open();
    other_last.catch_up(&other).unwrap();
    assert_eq!((other_last.get().wrong, other_last.get().streams["s0"].0), (0, other.head("s0").unwrap().0));
}

#[test]
fn what_cannot_be_taken_in_leaves_it_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path().join("log")).unwrap();
    let mut last = Projector::<Last, _>::open(FileOutput::new(directory.path(), "last")).unwrap();
    append(&log, 0..100);
    let before = last.catch_up(&log).unwrap().encode();
    append(&log, 100..200);
    log.append(Event::new("s1", "E").body("poison")).unwrap();
    for _ in 0..2 {
        assert!(matches!(last.catch_up(&log), Err(ProjectionError::Read(_))));
        assert_eq!((last.get().encode(), last.place().unwrap().next.0), (before.clone(), 101));
    }
    assert!(last.rebuild(&log, 3).is_err());
    assert_eq!(last.get().encode(), before);
}
