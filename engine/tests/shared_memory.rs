//! Following a writer in the memory that it writes from: nothing is written over while somebody looks at it, and nothing is believed that is not the segment.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use chainring::{Durability, Event, Log, Options, Position, Request, Store, Subscription};
use chainring_format::checksum::crc;
use chainring_format::segment::file_name;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Small, so that memory would be used again soon.
const SEGMENT_BYTES: u64 = 256 << 10;

/// Mappings are counted: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn open(directory: &Path) -> Log {
    Options::new().segment_bytes(SEGMENT_BYTES).open(directory).unwrap()
}

/// Mappings of memory that some writer shows, in this process, for reading only.
fn followed() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("/memfd:chainring-segment") && line.contains(" r--s ")).count()
}

/// Everything that was not taken yet, once there is something.
fn next(subscription: &mut Subscription) -> Vec<Vec<u8>> {
    let batch = subscription.next_batch_timeout(Duration::from_secs(10)).unwrap();
    batch.map(|event| event.unwrap().body().unwrap().to_owned()).collect()
}

#[test]
fn what_somebody_looks_at_in_the_writers_memory_is_not_written_over() {
    let _alone = ALONE.lock();
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let event = |n: u64| Event::new(format!("s{}", n % 5), "E").body(vec![n as u8; 900]);
    log.append(event(0)).unwrap();
    // What is followed through `/proc` is found there by this process as by any other.
    let store = Store::open(directory.path()).unwrap();
    let mut subscription = store.follow(Position(0));
    assert_eq!(next(&mut subscription), [[0; 900]]);
    if memory(None).is_none() {
        return eprintln!("SKIPPED: this system has no files in memory");
    }
    // The writer looks now and then whether somebody follows.
    let mut appended = 1;
    while followed() == 0 {
        log.append(event(appended)).unwrap();
        assert_eq!(next(&mut subscription), [[appended as u8; 900]]);
        appended += 1;
        assert!(appended < 1000, "the writer does not let anybody look");
        thread::sleep(Duration::from_millis(10));
    }
    let view = store.latest();
    let events: Vec<_> = view.events().map(Result::unwrap).collect();
    for n in appended..5000 {
        log.append(Request::from(event(n)).durability(Durability::Written)).unwrap();
        if n % 50 == 0 {
            log.append(event(n)).unwrap();
            assert!(next(&mut subscription).iter().all(|body| body.len() == 900));
        }
    }
    assert!(log.stats().segments > 10);
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.body().unwrap(), [n as u8; 900], "it was read from memory that was used again");
    }
    let (held, all) = (followed(), view.end());
    drop(events);
    drop(view);
    assert!((1..=3).contains(&held) && all == Position(appended + 1), "{held} {all}");
    assert!(followed() < held, "nobody looks at it any more");
}

/// Follows a writer whose live mark leads to a file of this process, or to a number that it has no file under.
fn follow_misled(to: impl FnOnce(&Path) -> u32) {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let store = Store::open(directory.path()).unwrap();
    let mut subscription = store.follow(Position(0));
    assert!(next(&mut subscription).is_empty(), "there is nothing but the record that the log begins with");
    log.append(Event::new("s", "E").body("first")).unwrap();
    let mark = directory.path().join("LIVE");
    let mut bytes = fs::read(&mark).unwrap();
    let end = bytes.len();
    // The process; the number, one up; something reserved; the checksum.
    bytes[end - 16..end - 12].copy_from_slice(&std::process::id().to_le_bytes());
    bytes[end - 12..end - 8].copy_from_slice(&(to(directory.path()) + 1).to_le_bytes());
    let sum = crc(&bytes[..end - 4]).to_le_bytes();
    bytes[end - 4..].copy_from_slice(&sum);
    fs::write(&mark, bytes).unwrap();
    assert_eq!(next(&mut subscription), [b"first"], "it is read from the file");
    assert_eq!(followed(), 0);
    log.append(Event::new("s", "E").body("second")).unwrap();
    assert_eq!(next(&mut subscription), [b"second"], "and so it goes on");
}

#[test]
fn memory_that_is_not_the_segments_is_not_believed() {
    let _alone = ALONE.lock();
    if memory(None).is_none() {
        return eprintln!("SKIPPED: this system has no files in memory");
    }
    let mut files = Vec::new();
    // Nothing; the right header, and nothing behind it; less than the header.
    for header_bytes in [0, 4096, 100] {
        follow_misled(|store| {
            let file = memory(Some((store, header_bytes))).unwrap();
            let number = u32::try_from(file.as_raw_fd()).unwrap();
            files.push(file);
            number
        });
    }
    for number in [0, 9999, u32::MAX - 1] {
        follow_misled(|_| number);
    }
}

/// Memory that looks like that of the first segment of a store, as far as its first so many bytes.
fn memory(like: Option<(&Path, usize)>) -> Option<File> {
    let file = File::from(memfd_create("chainring-segment", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).ok()?);
    file.set_len(SEGMENT_BYTES).unwrap();
    if let Some((store, header_bytes)) = like {
        let segment = fs::read(store.join(file_name(1))).unwrap();
        file.write_all_at(&segment[..header_bytes], 0).unwrap();
    }
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    Some(file)
}
