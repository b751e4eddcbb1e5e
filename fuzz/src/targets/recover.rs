//! Opening for writing: keeps exactly what a reader sees, refuses what a reader refuses and then changes nothing, does the same when it is cut off
//! and done again, and what is appended afterwards verifies.

use std::path::Path;

use chainring::disk::sim::SimDisk;
use chainring::{Event, EventId, FaultKind, Link, OpenError, Opened, Options, Position, Store, View};
use chainring_format::segment::SegmentHeader;
use zerocopy::FromBytes;

use super::archive::Archive;
use super::{Target, is_planted, mutate, store, store_seeds};

/// See the module.
pub const TARGET: Target =
    Target { name: "recover", run, seeds: store_seeds, mutate: mutate::store, canary: "recovering a torn store loses its last event" };

/// Stores that claim larger segments are left to the other targets: a writer reserves what they claim.
const SEGMENT_BYTES_MAX: u64 = 1 << 20;

/// What an event is known by.
type Seen = (Position, EventId, Link, Option<Vec<u8>>);

fn run(input: &[u8]) {
    let mut archive = Archive::decode(input);
    archive.files.remove(&0);
    let headers = archive.files.values().filter_map(|file| SegmentHeader::ref_from_prefix(file).ok());
    if archive.files.is_empty() || headers.into_iter().any(|(header, _)| header.segment_bytes.get() > SEGMENT_BYTES_MAX) {
        return;
    }
    let before = store::verified(&archive).expect("files in memory can be read").fault;
    let reader = Store::open_in(&Archive::environment(&archive.disk()), Path::new("store"));
    let disk = archive.disk();
    let log = match (Options::new().create(false).open_in(Archive::environment(&disk), "store"), &reader) {
        (Ok(log), Ok(_)) => log,
        (Err(OpenError::Damaged(writer)), Err(OpenError::Damaged(reader))) => {
            assert_eq!(&writer, reader, "a writer and a reader refuse for the same reason");
            return assert!(Archive::of_disk(&disk) == archive, "a refused store was changed");
        }
        (Err(OpenError::Unsupported { .. }), _) => return assert!(Archive::of_disk(&disk) == archive, "a refused store was changed"),
        (writer, reader) => panic!("a writer says {:?}, a reader {:?}", writer.err(), reader.as_ref().err()),
    };
    let reader = reader.expect("matched above");
    let mut kept = seen(&log.latest());
    if is_planted() && log.report().opened == Opened::Torn {
        kept.pop();
    }
    assert!(kept == seen(&reader.latest()), "recovery keeps something else than a reader was shown");
    assert_eq!(log.stats().records, reader.stats().records);

    // Cut off here and done again.
    let again = Archive::of_disk(&disk).disk();
    let second = Options::new().create(false).open_in(Archive::environment(&again), "store");
    if log.report().epoch == u64::MAX {
        // It has taken the last epoch there is, and leaves none to whoever comes next.
        return assert!(matches!(second, Err(OpenError::Unsupported { .. })));
    }
    let second = second.expect("a recovered store opens");
    assert!(seen(&second.latest()) == kept && second.report().opened != Opened::Torn, "recovered twice is not recovered once");
    drop(second);

    // And then it is a log like any other.
    let receipt = log.append(Event::new("recovered", "Appended").body("{}")).expect("a recovered log takes appends");
    assert_eq!(receipt.last_position(), Position(reader.stats().records));
    log.close().expect("closing on a good disk");
    let after = store::verified(&Archive::of_disk(&disk)).expect("files in memory can be read");
    let was_sound = before.as_ref().is_none_or(|fault| fault.kind == FaultKind::Torn);
    assert_eq!(after.fault.is_none(), was_sound, "before: {before:?}, after: {:?}", after.fault);
    reopened(&disk, reader.stats().records + 1);
}

fn seen(view: &View) -> Vec<Seen> {
    let events = view.events().filter_map(Result::ok);
    events.map(|event| (event.position(), event.event_id(), event.link(), event.body().map(<[u8]>::to_vec))).collect()
}

/// What was closed in order is clean, and continued where it ended.
fn reopened(disk: &SimDisk, records: u64) {
    let log = Options::new().create(false).open_in(Archive::environment(disk), "store").expect("a closed log opens");
    assert_eq!((log.report().opened, log.stats().records), (Opened::Clean, records));
}
