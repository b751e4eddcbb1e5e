//! Shared by the integration tests: stores in memory and requests drawn from a seed.
#![allow(dead_code)] // each test uses its part

use std::path::Path;

use chainring::disk::Environment;
use chainring::disk::sim::{SimDisk, SimRandom};
use chainring::{Event, EventId, Expected, Log, OpenError, Options, Request, Store, VerifyOptions, VerifyReport, verify_in};

pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;

pub(crate) fn open(environment: &Environment) -> Result<Log, OpenError> {
    Options::new().segment_bytes(SEGMENT_BYTES).open_in(environment.clone(), "simulated")
}

pub(crate) fn read(environment: &Environment) -> Result<Store, OpenError> {
    Store::open_in(environment, Path::new("simulated"))
}

pub(crate) fn check(environment: &Environment) -> VerifyReport {
    verify_in(environment, Path::new("simulated"), &VerifyOptions { threads: 1, ..VerifyOptions::default() }).unwrap()
}

pub(crate) fn names_of_segments(disk: &SimDisk) -> Vec<String> {
    use chainring::disk::Disk;
    disk.list().unwrap().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

/// An event of stream `s0`..`s{streams}` with an id of its own.
pub(crate) fn event(random: &mut SimRandom, streams: u64) -> Event {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random.next_u64().to_le_bytes());
    id[8] = 1;
    let length = match random.below(8) {
        0 => 0,
        1 => random.below(6000),
        _ => random.below(300),
    };
    let body: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
    Event::new(format!("s{}", random.below(streams)), "Happened").id(EventId(id)).body(body).expected(Expected::Any)
}

/// A lone event or a batch.
pub(crate) fn request(random: &mut SimRandom, streams: u64) -> (Vec<Event>, Request) {
    if random.below(3) > 0 {
        let event = event(random, streams);
        return (vec![event.clone()], event.into());
    }
    let events: Vec<Event> = (0..1 + random.below(6)).map(|_| event(random, streams)).collect();
    (events.clone(), events.into())
}

/// Every event of a store in order: stream, version, id, body.
pub(crate) fn content(store: &Store) -> Vec<(String, u64, EventId, Vec<u8>)> {
    let view = store.latest();
    let row = |event: Result<chainring::EventRef<'_>, chainring::ReadError>| {
        let event = event.unwrap();
        (event.stream().unwrap().to_owned(), event.version().0, event.event_id(), event.body().unwrap().to_vec())
    };
    view.events().map(row).collect()
}
