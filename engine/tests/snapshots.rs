//! States from snapshots are those from all events, at every moment, whatever became of the snapshots.

use std::fs;
use std::path::Path;

use chainring::{AsOf, Event, EventRef, Fold, Log, Options, Position, ReadError, Snapshots, Store, Timestamp, Version};

const STREAMS: u64 = 5;

/// A state in which the order of events shows, and how many were applied to get there.
struct Trace<const VERSION: u32>;

impl<const N: u32> Fold for Trace<N> {
    type State = (u64, Vec<u8>);
    const ID: &'static str = "trace";
    const VERSION: u32 = N;

    fn begin(&self) -> (u64, Vec<u8>) {
        (u64::from(N), Vec::new())
    }

    fn apply(&self, (sum, last): &mut (u64, Vec<u8>), event: &EventRef<'_>) -> Result<(), ReadError> {
        *sum = sum.wrapping_mul(31).wrapping_add(event.position().0);
        *last = event.body().unwrap_or_default().to_vec();
        Ok(())
    }

    fn encode(&self, (sum, last): &(u64, Vec<u8>)) -> Vec<u8> {
        [&sum.to_le_bytes()[..], last].concat()
    }

    fn decode(&self, bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
        let (sum, last) = bytes.split_first_chunk()?;
        Some((u64::from_le_bytes(*sum), last.to_vec()))
    }
}

fn append(log: &Log, numbers: std::ops::Range<u64>, salt: u64) {
    for number in numbers {
        let time = Timestamp { seconds: (number * 7 % 100) as i64, nanoseconds: 0 };
        let event = Event::new(format!("s{}", number * number % STREAMS), "E").body(format!("{number}-{salt}"));
        log.append(event.occurred_at(time)).unwrap();
    }
}

/// Every stream at many moments, with and without. Returns how many states came from a snapshot.
fn compare(store: &Store, snapshots: &Snapshots) -> usize {
    let mut from_snapshots = 0;
    let records = store.stats().records;
    let time = |seconds| Timestamp { seconds, nanoseconds: 0 };
    let moments = (0..records).step_by(23).map(|position| AsOf::Position(Position(position)));
    let others =
        [AsOf::Latest, AsOf::Version(Version(17)), AsOf::Version(Version(40)), AsOf::OccurredAt(time(50)), AsOf::OccurredAt(time(3))];
    for moment in moments.chain(others) {
        let view = store.at(moment).unwrap();
        for stream in 0..=STREAMS {
            let name = format!("s{stream}");
            let plain = view.state(&name, &Trace::<1>, &Snapshots::none()).unwrap();
            let kept = view.state(&name, &Trace::<1>, snapshots).unwrap();
            assert_eq!(plain.is_some(), view.stream(&name).unwrap().is_some());
            if let (Some(plain), Some(kept)) = (plain, kept) {
                assert_eq!(
                    (&kept.state, kept.version, kept.position, kept.link),
                    (&plain.state, plain.version, plain.position, plain.link)
                );
                assert_eq!(plain.folded_from, Version(0));
                assert!(kept.folded_from <= kept.version);
                from_snapshots += usize::from(kept.folded_from > Version(0));
            }
        }
    }
    from_snapshots
}

fn snap_files(directory: &Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "snap")).collect()
}

#[test]
fn states_are_the_same_whatever_becomes_of_snapshots() {
    let place = tempfile::tempdir().unwrap();
    let (path, kept) = (place.path().join("log"), place.path().join("snapshots"));
    let log = Options::new().segment_bytes(64 << 10).open(&path).unwrap();
    append(&log, 0..600, 1);
    let snapshots = Snapshots::open(&kept).unwrap();
    assert_eq!(compare(&log, &Snapshots::none()), 0);
    compare(&log, &snapshots);
    let used = compare(&log, &snapshots);
    assert!(used > 50, "{used}");
    assert_eq!(compare(&log, &Snapshots::in_memory().every_events(3)), compare(&log, &Snapshots::in_memory().every_events(3)));
    // Another one keeps them: these are read, and none added.
    let files = snap_files(&kept);
    let before = fs::read(&files[0]).unwrap();
    assert_eq!(compare(&log, &Snapshots::open(&kept).unwrap()), used);
    assert!(fs::read(&files[0]).unwrap() == before && files.len() == 1);
    drop(snapshots);
    log.close().unwrap();

    // Cut, changed, empty, or gone.
    let store = Store::open(&path).unwrap();
    assert_eq!(compare(&store, &Snapshots::open(&kept).unwrap()), used);
    for at in (0..before.len()).step_by(before.len() / 40) {
        let mut bytes = before.clone();
        bytes[at] ^= 0x41;
        fs::write(&files[0], &bytes).unwrap();
        compare(&store, &Snapshots::open(&kept).unwrap());
        fs::write(&files[0], &before[..at]).unwrap();
        compare(&store, &Snapshots::open(&kept).unwrap());
        assert!(compare(&store, &Snapshots::open(&kept).unwrap()) > 50, "what was lost is made anew");
    }
    fs::remove_dir_all(&kept).unwrap();
    compare(&store, &Snapshots::open(&kept).unwrap());
    // Another version of the fold has nothing to do with them.
    let snapshots = Snapshots::open(&kept).unwrap();
    let other = store.latest().state("s1", &Trace::<2>, &snapshots).unwrap().unwrap();
    assert_eq!((other.folded_from, snap_files(&kept).len()), (Version(0), 2));
}

#[test]
fn a_snapshot_of_another_history_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let (path, kept) = (place.path().join("log"), place.path().join("snapshots"));
    let before = place.path().join("before");
    let log = Log::open(&path).unwrap();
    append(&log, 0..200, 1);
    log.close().unwrap();
    fs::create_dir(&before).unwrap();
    let copy = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&path, &before);
    let log = Log::open(&path).unwrap();
    append(&log, 200..400, 2);
    compare(&log, &Snapshots::open(&kept).unwrap());
    log.close().unwrap();
    // Put back, and gone on in another way.
    fs::remove_dir_all(&path).unwrap();
    fs::create_dir(&path).unwrap();
    copy(&before, &path);
    let log = Log::open(&path).unwrap();
    append(&log, 200..400, 3);
    compare(&log, &Snapshots::open(&kept).unwrap());
    assert!(compare(&log, &Snapshots::open(&kept).unwrap()) > 20);
}
