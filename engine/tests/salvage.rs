//! Stores with holes: what is intact is found and copied, what is missing is named, and the store itself is never touched.
//!
//! The oracle knows every record of the whole store, byte for byte: after any damage exactly the records whose bytes are unchanged must come out.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use chainring::disk::sim::{SimDisk, SimRandom};
use chainring::disk::{Access, DirectoryLock, Disk, DiskFile, Environment, LockError, Region};
use chainring::{DamageKind, EventId, Manifest, Ranges, Salvage, SalvageOptions, Store, StreamId};
use chainring_format::Mark;
use chainring_format::checksum::Seed;
use chainring_format::frame::FrameView;
use chainring_format::segment::SegmentHeader;
use support::{check, names_of_segments, open, read, request};

/// Rounds of random holes; a failure names its seed.
const ROUNDS: u64 = 400;

type Files = BTreeMap<String, Vec<u8>>;

/// A disk that can only be read: every other call fails the test. Some ranges of its files give EIO.
#[derive(Debug, Clone)]
struct Relic {
    disk: SimDisk,
    unreadable: Vec<(String, u64, u64)>,
}

impl Disk for Relic {
    fn create_directory(&self) -> io::Result<()> {
        panic!("a salvage makes no directory here")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        assert_eq!(access, Access::Read);
        let ranges = self.unreadable.iter().filter(|(file, ..)| file == name).map(|(_, from, to)| (*from, *to)).collect();
        Ok(Arc::new(RelicFile(self.disk.open(name, access)?, ranges)))
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        panic!("a salvage creates nothing here")
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        panic!("a salvage renames nothing")
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        panic!("a salvage removes nothing")
    }

    fn sync_directory(&self) -> io::Result<()> {
        panic!("a salvage syncs nothing here")
    }

    fn lock(&self) -> Result<Box<dyn DirectoryLock>, LockError> {
        panic!("a salvage takes no lock")
    }

    fn block_bytes(&self) -> u32 {
        self.disk.block_bytes()
    }

    fn write_path(&self) -> &'static str {
        "relic"
    }
}

#[derive(Debug)]
struct RelicFile(Arc<dyn DiskFile>, Vec<(u64, u64)>);

impl DiskFile for RelicFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        if self.1.iter().any(|(from, to)| *from < end && offset < *to) {
            buffer.fill(0xEE);
            return Err(io::Error::from_raw_os_error(5));
        }
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        panic!("a salvage writes nothing here")
    }

    fn sync_data(&self) -> io::Result<()> {
        panic!("a salvage syncs nothing here")
    }

    fn sync_all(&self) -> io::Result<()> {
        panic!("a salvage syncs nothing here")
    }

    fn reserve(&self, _: u64) -> io::Result<()> {
        panic!("a salvage reserves nothing here")
    }

    fn set_bytes(&self, _: u64) -> io::Result<()> {
        panic!("a salvage cuts nothing")
    }

    fn region(&self, _: usize) -> io::Result<Region> {
        panic!("a mapping dies of what a salvage is for")
    }

    fn drop_cache(&self) -> io::Result<()> {
        panic!("a salvage changes no cache")
    }
}

/// One record of a whole store.
#[derive(Debug, Clone)]
struct Record {
    segment: String,
    offset: usize,
    bytes: Vec<u8>,
    position: u64,
    event: Option<Row>,
}

/// What of an event must survive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    stream: String,
    version: u64,
    id: EventId,
    recorded_at_ns: u64,
    metadata: Vec<u8>,
    body: Vec<u8>,
}

fn rows(store: &Store) -> Vec<Row> {
    let view = store.latest();
    let row = |event: Result<chainring::EventRef<'_>, chainring::ReadError>| {
        let event = event.unwrap();
        Row {
            stream: event.stream().unwrap().to_owned(),
            version: event.version().0,
            id: event.event_id(),
            recorded_at_ns: event.recorded_at_ns(),
            metadata: event.metadata_bytes().to_vec(),
            body: event.body().unwrap_or_default().to_vec(),
        }
    };
    view.events().map(row).collect()
}

fn files(disk: &SimDisk) -> Files {
    names_of_segments(disk).into_iter().map(|name| (name.clone(), disk.content(&name).unwrap())).collect()
}

fn disk_of(files: &Files) -> SimDisk {
    let disk = SimDisk::new().with_block_bytes(512);
    files.iter().for_each(|(name, bytes)| disk.overwrite(name, bytes.clone()));
    disk
}

/// Every record of a store that is whole, and where it stands.
fn records(files: &Files) -> Vec<Record> {
    let store = read(&disk_of(files).environment(1)).unwrap();
    let mut events = rows(&store).into_iter();
    let mut found = Vec::new();
    for (name, bytes) in files {
        let header = SegmentHeader::parse(bytes).unwrap();
        let (seed, block) = (Seed::new(&header.salt), header.block_bytes.get() as usize);
        let mut at = block;
        loop {
            match Mark::of(bytes.get(at..).unwrap_or_default()) {
                Mark::Frame(length) => {
                    let frame = FrameView::parse(&bytes[at..], seed.mask(at as u64)).unwrap();
                    let event = frame.is_event().then(|| events.next().unwrap());
                    let end = at + length as usize;
                    found.push(Record {
                        segment: name.clone(),
                        offset: at,
                        bytes: bytes[at..end].to_vec(),
                        position: found.len() as u64,
                        event,
                    });
                    at = end;
                }
                Mark::Padding => at = (at + 160).next_multiple_of(block),
                Mark::Trailer => at += 160,
                Mark::Footer | Mark::Nothing => break,
            }
        }
    }
    assert!(events.next().is_none());
    found
}

fn examine(disk: &SimDisk, options: &SalvageOptions<'_>) -> Salvage {
    examine_relic(&Relic { disk: disk.clone(), unreadable: Vec::new() }, options)
}

fn examine_relic(relic: &Relic, options: &SalvageOptions<'_>) -> Salvage {
    let environment = Environment { disk: Arc::new(relic.clone()), ..relic.disk.environment(1) };
    Salvage::open_in(&environment, Path::new("simulated"), options).unwrap()
}

/// Copies to a new store, which must verify, and gives its events.
fn copy(salvage: &Salvage) -> (Vec<Row>, Manifest) {
    let environment = SimDisk::new().with_block_bytes(512).environment(77);
    let manifest = salvage.copy_to(&environment, Path::new("new"), None).unwrap();
    let report = check(&environment);
    assert!(report.is_ok(), "{:?}", report.fault);
    assert_eq!(report.events, manifest.totals.copied);
    let store = read(&environment).unwrap();
    assert_eq!(Some(store.stats().log_id), manifest.new_log_id);
    (rows(&store), manifest)
}

/// Salvages a damaged store and compares with what the whole one held: exactly the unchanged records come out, and the manifest knows what does not.
fn judge(whole: &[Record], damaged: &Relic, what: &str) -> Manifest {
    let now = files(&damaged.disk);
    let is_readable = |record: &Record| {
        let (from, to) = (record.offset as u64, (record.offset + record.bytes.len()) as u64);
        // The device refuses whole sectors.
        !damaged.unreadable.iter().any(|(name, a, b)| *name == record.segment && a / 512 * 512 < to && from < b.next_multiple_of(512))
    };
    let survives = |record: &&Record| {
        is_readable(record)
            && now.get(&record.segment).and_then(|bytes| bytes.get(record.offset..record.offset + record.bytes.len()))
                == Some(&record.bytes)
    };
    let kept: Vec<&Record> = whole.iter().filter(survives).collect();
    let kept_positions: BTreeSet<u64> = kept.iter().map(|record| record.position).collect();
    let (copied, manifest) = copy(&examine_relic(damaged, &SalvageOptions::default()));

    // Streams that lost their first event are called otherwise; versions are counted anew. All else is as it was.
    let names: HashMap<String, &str> = whole
        .iter()
        .filter_map(|record| record.event.as_ref())
        .flat_map(|row| [(row.stream.clone(), &*row.stream), (format!("$salvaged/{}", id_of(&row.stream)), &*row.stream)])
        .collect();
    let strip = |row: &Row| Row { stream: names[&row.stream].to_owned(), version: 0, ..row.clone() };
    let expected: Vec<Row> = kept.iter().filter_map(|record| record.event.as_ref()).map(strip).collect();
    let copied: Vec<Row> = copied.iter().map(strip).collect();
    if let Some(at) = (0..copied.len().max(expected.len())).find(|&at| copied.get(at) != expected.get(at)) {
        let place =
            kept.iter().filter(|record| record.event.is_some()).nth(at).map(|record| (&record.segment, record.offset, record.bytes.len()));
        let say = |row: Option<&Row>| row.map(|row| (row.stream.clone(), row.id, row.recorded_at_ns, row.body.len()));
        let (came, should) = (say(copied.get(at)), say(expected.get(at)));
        panic!(
            "{what}: {} of {} events came out; number {at} at {place:?} is {came:?} and not {should:?}; {manifest:?}",
            copied.len(),
            expected.len()
        );
    }
    assert!(manifest.left_out.is_empty(), "{what}: {:?}", manifest.left_out);

    // Positions: every lost one is in a range that is missing, and as many are counted.
    let lost: Vec<u64> = whole.iter().map(|record| record.position).filter(|position| !kept_positions.contains(position)).collect();
    let is_named = |position: u64| {
        manifest.missing.iter().any(|missing| missing.first <= position && missing.last.is_none_or(|last| position <= last))
    };
    assert!(lost.iter().all(|position| is_named(*position)), "{what}: {lost:?} {:?}", manifest.missing);
    if manifest.end_known {
        assert_eq!(manifest.totals.missing, lost.len() as u64, "{what}: {lost:?} {:?}", manifest.missing);
    }
    // That nothing followed a damaged last trailer, nobody can know.
    assert_eq!(manifest.is_whole(), lost.is_empty() && manifest.end_known, "{what}: {:?}", manifest.missing);

    // Streams.
    let mut versions: BTreeMap<&str, (BTreeSet<u64>, BTreeSet<u64>)> = BTreeMap::new();
    for record in whole {
        let Some(row) = &record.event else { continue };
        let (found, lost) = versions.entry(&row.stream).or_default();
        if kept_positions.contains(&record.position) {
            found.insert(row.version)
        } else {
            lost.insert(row.version)
        };
    }
    let set = |ranges: &Ranges| ranges.iter().flat_map(|(first, last)| first..=last).collect::<BTreeSet<u64>>();
    for (name, (found, lost)) in versions {
        let Some(listed) = manifest.streams.iter().find(|stream| stream.stream_id == id_of(name)) else {
            assert!(lost.is_empty() || found.is_empty() || !manifest.end_known, "{what}: stream {name} lost {lost:?} and is not listed");
            continue;
        };
        assert_eq!(set(&listed.found), found, "{what}: {name}");
        let missing = set(&listed.missing);
        assert!(missing.is_subset(&lost), "{what}: {name} {missing:?} {lost:?}");
        let inner = lost.iter().filter(|version| found.last().is_some_and(|last| *version < last));
        assert!(inner.into_iter().all(|version| missing.contains(version)), "{what}: {name} {missing:?} {lost:?}");
        assert!(!listed.complete || lost.is_empty(), "{what}: stream {name} lost {lost:?} and is called complete");
        // The mapping: the old versions found, counted from 1.
        let mapped: Vec<(u64, u64)> = listed
            .versions
            .iter()
            .flat_map(|run| (run.first..=run.last).map(|version| (version, run.new_first + version - run.first)))
            .collect();
        assert_eq!(mapped, found.iter().copied().zip(1..).collect::<Vec<_>>(), "{what}: {name}");
    }
    manifest
}

fn id_of(name: &str) -> StreamId {
    chainring_format::hash::stream_id(name)
}

/// A closed store of several small segments, with lone events, batches and two opens.
fn history(seed: u64, requests: u64, streams: u64) -> Files {
    let disk = SimDisk::new().with_block_bytes(512);
    let environment = disk.environment(seed);
    let mut random = SimRandom::new(seed);
    for _ in 0..2 {
        let log = open(&environment).unwrap();
        let mut pending = Vec::new();
        for _ in 0..requests {
            pending.push(log.submit(request(&mut random, streams).1).unwrap());
            if random.below(3) == 0 {
                pending.drain(..).for_each(|receipt| drop(receipt.wait().unwrap()));
            }
        }
        log.close().unwrap();
    }
    files(&disk)
}

fn relic(files: &Files) -> Relic {
    Relic { disk: disk_of(files), unreadable: Vec::new() }
}

/// Damages a range of a file: zeros, garbage, all ones, or bytes of elsewhere in the file.
fn spoil(bytes: &mut [u8], from: usize, to: usize, random: &mut SimRandom) -> &'static str {
    // Without its header a segment believes the most of what is in it: bytes moved over the header and most of the rest would win.
    match random.below(if from < 512 { 4 } else { 5 }) {
        // A last commit that became zeros to the end of the file was never there, as far as anybody can see (FORMAT.md section 9).
        0 | 1 if to < bytes.len() => {
            bytes[from..to].fill(0);
            "zeros"
        }
        0..=2 => {
            bytes[from..to].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
            "garbage"
        }
        3 => {
            bytes[from..to].fill(0xFF);
            "ones"
        }
        _ => {
            let elsewhere = random.below((bytes.len() - (to - from)) as u64 + 1) as usize / 8 * 8;
            bytes.copy_within(elsewhere..elsewhere + (to - from), from);
            "repeated"
        }
    }
}

#[test]
fn a_whole_store_is_salvaged_whole() {
    for seed in 0..4 {
        let whole = history(seed, 100, 30);
        let records = records(&whole);
        let manifest = judge(&records, &relic(&whole), "whole");
        assert!(manifest.is_whole() && manifest.damage.is_empty() && manifest.streams.is_empty() && manifest.cut.is_empty());
        assert_eq!((manifest.totals.link_unverified, manifest.broken_batches.len()), (0, 0));
    }
}

#[test]
fn batches_that_are_whole_stay_batches() {
    let whole = history(3, 60, 10);
    let batches = |environment: &Environment| -> Vec<(EventId, Option<EventId>)> {
        let store = read(environment).unwrap();
        store.latest().events().map(|event| event.unwrap()).map(|event| (event.event_id(), event.batch_id().unwrap())).collect()
    };
    let new = SimDisk::new().environment(9);
    examine(&disk_of(&whole), &SalvageOptions::default()).copy_to(&new, Path::new("new"), None).unwrap();
    assert_eq!(batches(&new), batches(&disk_of(&whole).environment(1)));
}

#[test]
fn random_holes_cost_what_they_cover_and_nothing_else() {
    for seed in 0..ROUNDS {
        let mut random = SimRandom::new(seed);
        let whole = history(seed % 5, 60 + random.below(60), 1 + random.below(60));
        let records = records(&whole);
        let mut damaged = whole.clone();
        let mut what = format!("seed {seed}");
        for _ in 0..1 + random.below(3) {
            let number = random.below(damaged.len() as u64) as usize;
            let (name, bytes) = damaged.iter_mut().nth(number).unwrap();
            let length = match random.below(3) {
                0 => 1 + random.below(600),
                1 => 1 + random.below(8000),
                _ => 1 + random.below(40_000),
            };
            // The edges are met often.
            let from = match random.below(6) {
                0 => 0,
                1 => (bytes.len() as u64).saturating_sub(length),
                _ => random.below(bytes.len() as u64),
            } as usize;
            let to = (from + length as usize).min(bytes.len());
            let kind = spoil(bytes, from, to, &mut random);
            what += &format!(", {kind} at {from}..{to} of {name}");
        }
        judge(&records, &relic(&damaged), &what);
    }
}

#[test]
fn unreadable_sectors_are_holes() {
    for seed in 0..30 {
        let mut random = SimRandom::new(seed);
        let whole = history(seed % 3, 80, 20);
        let records = records(&whole);
        let mut damaged = relic(&whole);
        for _ in 0..1 + random.below(3) {
            let (name, bytes) = whole.iter().nth(random.below(whole.len() as u64) as usize).unwrap();
            let from = random.below(bytes.len() as u64);
            damaged.unreadable.push((name.clone(), from, (from + 1 + random.below(5000)).min(bytes.len() as u64)));
        }
        let manifest = judge(&records, &damaged, &format!("seed {seed}: {:?}", damaged.unreadable));
        assert!(manifest.damage.iter().any(|damage| damage.kind == DamageKind::Unreadable), "{:?}", manifest.damage);
    }
}
