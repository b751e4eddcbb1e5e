//! Where mutations start: the golden vectors, and small stores that the engine makes from a seed.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use chainring::disk::sim::SimDisk;
use chainring::{Durability, Event, EventId, Log, Metadata, Options, ReadRef, Request, Timestamp, Value};
use chainring_format::segment::number_of;

use super::archive::Archive;
use super::random::Random;

/// Golden stores that are longer than this, without trailing zeros, are left out: they would only make every run slow.
const GOLDEN_BYTES_MAX: usize = 48 << 10;
/// Stores that the engine makes.
const GENERATED: u64 = 24;

/// All start inputs of the targets over whole stores.
pub static STORES: LazyLock<Vec<Archive>> = LazyLock::new(|| {
    let mut stores = golden();
    stores.extend((0..GENERATED).map(generated));
    stores
});

fn golden() -> Vec<Archive> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/vectors");
    let cases = ["valid", "invalid"].map(|kind| fs::read_dir(vectors.join(kind)).expect("the golden vectors are part of the repository"));
    let mut directories: Vec<_> = cases.into_iter().flatten().map(|case| case.expect("a readable vector").path().join("store")).collect();
    directories.sort();
    let archives = directories.iter().map(|directory| of_directory(directory));
    archives.filter(|archive| archive.encode().len() <= GOLDEN_BYTES_MAX).collect()
}

/// The segments in a directory.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn of_directory(directory: &Path) -> Archive {
    let mut archive = Archive::default();
    for entry in fs::read_dir(directory).expect("a store directory") {
        let entry = entry.expect("a directory entry");
        let number = entry.file_name().to_str().and_then(number_of).and_then(|number| u16::try_from(number).ok());
        if let Some(number) = number {
            archive.files.insert(number, fs::read(entry.path()).expect("a segment file"));
        }
    }
    archive
}

/// A store of a few segments as the engine leaves it: closed, killed, or cut off by a power cut.
///
/// # Panics
/// If the engine fails where nothing is wrong.
#[must_use]
pub fn generated(seed: u64) -> Archive {
    let mut random = Random::new(seed);
    let mut disk = SimDisk::new().with_block_bytes(512);
    for opened in 0..=random.below(3) {
        let options = Options::new().segment_bytes(64 << 10).origin("fuzz");
        let log = options.open_in(disk.environment(seed.wrapping_add(opened as u64)), "sim").expect("nothing is wrong with this disk");
        for _ in 0..random.below(9) {
            log.append(request(&mut random)).expect("appending to a good disk");
        }
        if random.once_in(2) {
            log.pack().expect("packing on a good disk");
        }
        match random.below(3) {
            0 => log.close().expect("closing on a good disk"),
            1 => disk = disk.crash(random.number()),
            _ => disk = unsynced(&log, &disk, &mut random),
        }
    }
    Archive::of_disk(&disk)
}

/// What a power cut leaves while a commit is on its way.
fn unsynced(log: &Log, disk: &SimDisk, random: &mut Random) -> SimDisk {
    for _ in 0..=random.below(2) {
        let written = request(random).durability(Durability::Written);
        log.append(written).expect("appending to a good disk");
    }
    disk.crash(random.number())
}

fn request(random: &mut Random) -> Request {
    let count = if random.once_in(3) { 1 + random.below(4) } else { 0 };
    match count {
        0 => event(random).into(),
        count => (0..count).map(|_| event(random)).collect::<Vec<_>>().into(),
    }
}

fn event(random: &mut Random) -> Event {
    let stream = format!("stream-{}", random.below(5));
    let body_bytes = *random.pick(&[0, 5, 16, 31, 32, 33, 100, 600]);
    let mut event = Event::with_metadata(stream, metadata(random)).body(random.bytes(body_bytes));
    event.salted = !random.once_in(3);
    event
}

/// Metadata that uses some of everything.
fn metadata(random: &mut Random) -> Metadata {
    let mut metadata = Metadata::new("Happened");
    if random.once_in(2) {
        metadata.actor = Some("agent:a".into());
        metadata.occurred_at = Some(Timestamp { seconds: -1 - random.below(300) as i64, nanoseconds: random.below(1_000_000_000) as u32 });
    }
    if random.once_in(3) {
        metadata.causation = Some(EventId([7; 16]));
        metadata.reads = Some(vec![ReadRef { stream: "stream-1".into(), version: random.number(), ..ReadRef::default() }]);
    }
    if random.once_in(3) {
        let list = Value::Array(vec![Value::Null, Value::Float(0.5), Value::int(-70_000), Value::Bytes(vec![1, 2])]);
        metadata.attributes = vec![("list".into(), list), ("map".into(), Value::Map(vec![(Value::Uint(1), Value::Bool(true))]))];
        metadata.unknown = vec![(99, Value::text("later"))];
    }
    metadata
}

/// Metadata as bytes: from the golden vectors, and what the stores above hold.
pub static METADATA: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut random = Random::new(1);
    let mut all: Vec<Vec<u8>> = (0..40).map(|_| metadata(&mut random).encode()).collect();
    let text = include_str!("../../../format-spec/vectors/metadata.json");
    // Every second part of a text cut at quotation marks is a string; those that are hexadecimal are the bytes of a vector.
    all.extend(text.split('"').skip(1).step_by(2).filter_map(unhex));
    all.sort();
    all.dedup();
    all
});

fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap_or(0)).collect())
}
