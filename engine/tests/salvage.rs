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
use chainring::{
    Action, DamageKind, Durability, Event, EventId, Grant, Log, Manifest, OpenError, Ranges, Reason, Requirement, Salvage, SalvageError,
    SalvageOptions, Stop, Store, StreamId,
};
use chainring_format::Mark;
use chainring_format::checksum::Seed;
use chainring_format::frame::FrameView;
use chainring_format::segment::SegmentHeader;
use support::{check, names_of_segments, open, read, request};

/// Rounds of random holes; a failure names its seed.
const ROUNDS: u64 = 150;

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
            // As if it had worked: what a failed call leaves behind is not to be believed.
            self.0.read_exact_at(buffer, offset)?;
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
    /// Place and size of its batch.
    batch: Option<(u32, u32)>,
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
            batch: event.batch(),
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
    let ends = files.values().skip(1).map(|bytes| SegmentHeader::parse(bytes).unwrap().prev_end_offset.get() as usize);
    let ends: Vec<usize> = ends.chain([usize::MAX]).collect();
    for ((name, bytes), end) in files.iter().zip(ends) {
        let header = SegmentHeader::parse(bytes).unwrap();
        let (seed, block) = (Seed::new(&header.salt), header.block_bytes.get() as usize);
        let end = header.packed_end().map_or(end, |end| end as usize);
        let mut at = header.start() as usize;
        while at < end {
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
    // A batch is one only if all of it is there.
    let is_whole = |record: &Record, (index, count): (u32, u32)| {
        let first = record.position - u64::from(index);
        (first..first + u64::from(count)).all(|position| kept_positions.contains(&position))
    };
    let expect = |record: &&Record| {
        let row = record.event.as_ref()?;
        Some(Row { batch: row.batch.filter(|batch| is_whole(record, *batch)), ..strip(row) })
    };
    let expected: Vec<Row> = kept.iter().filter_map(expect).collect();
    let copied: Vec<Row> = copied.iter().map(strip).collect();
    if let Some(at) = (0..copied.len().max(expected.len())).find(|&at| copied.get(at) != expected.get(at)) {
        let place =
            kept.iter().filter(|record| record.event.is_some()).nth(at).map(|record| (&record.segment, record.offset, record.bytes.len()));
        let say = |row: Option<&Row>| row.map(|row| (row.stream.clone(), row.id, row.recorded_at_ns, row.body.len(), row.batch));
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

/// The same with all but the last segment packed, as far as they deserve it: blocks are large, and commits small.
fn packed_history(seed: u64, requests: u64, streams: u64) -> Files {
    let disk = SimDisk::new().with_block_bytes(4096);
    let environment = disk.environment(seed);
    let mut random = SimRandom::new(seed);
    for _ in 0..2 {
        let log = open(&environment).unwrap();
        (0..requests).for_each(|_| drop(log.append(request(&mut random, streams).1).unwrap()));
        assert!(log.pack().unwrap().failed.is_empty());
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
        let make = if seed % 2 == 0 { history } else { packed_history };
        let whole = make(seed, 100, 30);
        let records = records(&whole);
        let manifest = judge(&records, &relic(&whole), "whole");
        assert!(manifest.is_whole() && manifest.damage.is_empty() && manifest.streams.is_empty() && manifest.cut.is_empty());
        assert_eq!((manifest.totals.link_unverified, manifest.broken_batches.len()), (0, 0));
    }
}

#[test]
fn what_happened_comes_back_though_the_end_of_a_stop_is_lost() {
    let disk = SimDisk::new().with_block_bytes(512);
    let log = open(&disk.environment(1)).unwrap();
    log.declare(&[Requirement { streams: vec!["r-".into()], authority: true, ..Requirement::default() }], "boss").unwrap();
    log.grant("g", &Grant::default(), "boss").unwrap();
    log.act(&Action::new(Event::new("r-1", "Judged")).allowed_by("g", "")).unwrap();
    log.freeze(Stop::Log, "boss").unwrap();
    log.unfreeze(Stop::Log, "boss").unwrap();
    log.append(Event::new("s", "Goes on")).unwrap();
    log.close().unwrap();
    let whole = files(&disk);
    let records = records(&whole);
    let end_of_stop = &records[records.len() - 2];
    let mut damaged = whole.clone();
    damaged.get_mut(&end_of_stop.segment).unwrap()[end_of_stop.offset..][..end_of_stop.bytes.len()].fill(0);
    judge(&records, &relic(&damaged), "the end of a stop is lost");
    let (rows, _) = copy(&examine(&disk_of(&damaged), &SalvageOptions::default()));
    assert_eq!(rows.iter().filter(|row| !row.stream.starts_with('$')).map(|row| row.stream.as_str()).collect::<Vec<_>>(), ["r-1", "s"]);
}

#[test]
fn random_holes_cost_what_they_cover_and_nothing_else() {
    for seed in 0..ROUNDS {
        let mut random = SimRandom::new(seed);
        let make = if seed % 2 == 0 { history } else { packed_history };
        let whole = make(seed % 5, 60 + random.below(60), 1 + random.below(60));
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
        let make = if seed % 2 == 0 { history } else { packed_history };
        let whole = make(seed % 3, 80, 20);
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

#[test]
fn every_flipped_byte_costs_the_record_it_is_in_and_no_other() {
    let whole = history(7, 5, 4);
    let records = records(&whole);
    let damaged = relic(&whole);
    let mut random = SimRandom::new(1);
    for (name, bytes) in &whole {
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << random.below(8);
            damaged.disk.overwrite(name, changed);
            let what = format!("byte {at} of {name}");
            if at % 61 == 0 {
                judge(&records, &damaged, &what);
                continue;
            }
            let salvage = examine(&damaged.disk, &SalvageOptions::default());
            let manifest = salvage.manifest();
            let hit = records
                .iter()
                .filter(|record| record.segment == *name && (record.offset..record.offset + record.bytes.len()).contains(&at));
            let lost = hit.filter(|record| record.event.is_some()).count() as u64;
            assert_eq!(manifest.totals.copied, records.len() as u64 - 1 - lost, "{what}: {manifest:?}");
            assert!(!manifest.damage.is_empty() || manifest.totals.missing > 0, "{what} was changed and nobody noticed");
        }
        damaged.disk.overwrite(name, bytes.clone());
    }
}

/// What is done to the files of a store.
type Damaging<'a> = &'a dyn Fn(&mut Files);

/// A packed segment knows its own end, and its successor another one: whatever of them is lost, nothing else is.
#[test]
fn a_packed_segment_is_read_without_its_header_its_footer_or_its_successor() {
    let whole = packed_history(3, 60, 9);
    let records = records(&whole);
    let header = |name: &str| SegmentHeader::parse(&whole[name]).unwrap();
    let packed: Vec<&String> = whole.keys().filter(|name| header(name).is_packed()).collect();
    assert!(packed.len() >= 4 && packed.len() < whole.len(), "{packed:?}");
    for (index, name) in whole.keys().enumerate().filter(|(_, name)| packed.contains(name)) {
        let end = header(name).packed_end().unwrap() as usize;
        let next = whole.keys().nth(index + 1).unwrap();
        let spoil = |damaged: &mut Files, name: &String, range: std::ops::Range<usize>| damaged.get_mut(name).unwrap()[range].fill(0x5A);
        let damages: [(&str, Damaging<'_>); 7] = [
            ("no header", &|damaged| spoil(damaged, name, 0..256)),
            ("no footer", &|damaged| spoil(damaged, name, end..whole[name].len())),
            ("neither header nor footer", &|damaged| {
                spoil(damaged, name, 0..256);
                spoil(damaged, name, end..whole[name].len());
            }),
            ("no header of the next", &|damaged| spoil(damaged, next, 0..256)),
            ("neither header nor the next one's", &|damaged| {
                spoil(damaged, name, 0..256);
                spoil(damaged, next, 0..256);
            }),
            ("no header, and the first commit is gone", &|damaged| spoil(damaged, name, 0..900)),
            ("cut off in the middle", &|damaged| damaged.get_mut(name).unwrap().truncate(end / 2)),
        ];
        for (what, damage) in damages {
            let mut damaged = whole.clone();
            damage(&mut damaged);
            judge(&records, &relic(&damaged), &format!("{name}: {what}"));
        }
        // The store ends with a packed segment: what was behind it is missing, with or without the header that says so.
        let mut damaged: Files = whole.clone().into_iter().take(index + 1).collect();
        for what in ["nothing behind it", "nothing behind it, and no header"] {
            let what = format!("{name}: {what}");
            let manifest = judge(&records, &relic(&damaged), &what);
            let number = index as u64 + 2;
            assert_eq!(manifest.missing_segments.iter().collect::<Vec<_>>(), [(number, number)], "{what}");
            assert!(!manifest.end_known && !manifest.is_whole(), "{what}");
            spoil(&mut damaged, name, 0..256);
        }
    }
}

#[test]
fn missing_and_shortened_segments_cost_what_they_held() {
    let whole = history(2, 100, 20);
    let records = records(&whole);
    assert!(whole.len() >= 3);
    for (name, bytes) in &whole {
        let mut damaged = whole.clone();
        damaged.remove(name);
        let is_last = whole.keys().next_back() == Some(name);
        // That the newest segment is gone only a receipt can show.
        if !is_last {
            let manifest = judge(&records, &relic(&damaged), &format!("without {name}"));
            assert_eq!(manifest.missing_segments.count(), 1);
        }
        for length in (0..bytes.len()).step_by(bytes.len() / 13 + 1) {
            // An empty rest behind whole commits was never written, as far as anybody can see.
            let ends_a_commit = is_last && length % 512 == 0;
            damaged.insert(name.clone(), bytes[..length].to_vec());
            if !ends_a_commit {
                judge(&records, &relic(&damaged), &format!("{name} cut to {length}"));
            }
        }
    }
}

/// A killed store whose last commit was not written whole: its file, and the offset of that commit.
fn torn() -> (Vec<u8>, usize) {
    let disk = SimDisk::new().with_block_bytes(512);
    let log = open(&disk.environment(3)).unwrap();
    for number in 0..20_u8 {
        log.append(Event::new(format!("s{}", number % 3), "Kept").body(vec![number; 200])).unwrap();
    }
    let before = disk.content("0000000001.seg").unwrap();
    log.append((0..4_u8).map(|number| Event::new(format!("s{number}"), "Torn").body(vec![number + 1; 700])).collect::<Vec<_>>()).unwrap();
    std::mem::forget(log);
    let mut bytes = disk.content("0000000001.seg").unwrap();
    let at = (0..bytes.len()).find(|&at| before[at] != bytes[at]).unwrap() / 512 * 512;
    bytes[at + 2048..at + 2560].fill(0);
    (bytes, at)
}

fn single(bytes: Vec<u8>) -> SimDisk {
    let disk = SimDisk::new().with_block_bytes(512);
    disk.overwrite("0000000001.seg", bytes);
    disk
}

#[test]
fn a_torn_commit_is_listed_and_not_copied() {
    let (bytes, at) = torn();
    let salvage = examine(&single(bytes.clone()), &SalvageOptions::default());
    let manifest = salvage.manifest();
    assert!(manifest.is_whole() && manifest.damage.is_empty() && manifest.streams.is_empty(), "{manifest:?}");
    let [cut] = &manifest.cut[..] else { panic!("{:?}", manifest.cut) };
    assert_eq!((cut.offset, cut.is_done), (at as u64, false));
    assert!(cut.records >= 2 && cut.streams.iter().any(|stream| stream.name.as_deref() == Some("s0")), "{cut:?}");
    let (copied, _) = copy(&salvage);
    let kept: Vec<Row> = rows(&read(&single(bytes.clone()).environment(1)).unwrap());
    assert_eq!((copied.len(), &copied), (20, &kept));

    // A hole below the watermark is damage, whatever the tail looks like: what stands between the two is copied.
    let mut holed = bytes;
    holed[1536..2048].fill(0);
    let salvage = examine(&single(holed), &SalvageOptions::default());
    assert!(!salvage.manifest().is_whole() && salvage.manifest().cut.len() == 1, "{:?}", salvage.manifest());
    let (copied, manifest) = copy(&salvage);
    assert_eq!(copied.len() as u64 + manifest.totals.missing, 20);
    assert!(copied.iter().all(|row| row.body.len() == 200), "nothing of the torn commit");
}

#[test]
fn what_recovery_cut_stays_cut() {
    let (bytes, _) = torn();
    let disk = single(bytes);
    let log = open(&disk.environment(8)).unwrap();
    log.append(Event::new("after", "E").body("after")).unwrap();
    log.close().unwrap();
    let whole = files(&disk);
    assert_eq!(whole.len(), 2);
    let records = records(&whole);
    let manifest = judge(&records, &relic(&whole), "recovered");
    assert!(manifest.is_whole() && manifest.cut.len() == 1 && manifest.cut[0].is_done, "{manifest:?}");
    // Also when the header that names the end is gone, or the whole segment.
    let mut damaged = whole.clone();
    damaged.get_mut("0000000002.seg").unwrap()[..512].fill(0x55);
    let manifest = judge(&records, &relic(&damaged), "recovered, without the header that says so");
    assert!(manifest.is_whole() && manifest.cut.len() == 1, "{manifest:?}");
}

/// A store in which stream `lost` lost its first event, and whether another one says its name.
fn nameless(mentioned: bool) -> SimDisk {
    let disk = SimDisk::new().with_block_bytes(512);
    let log = open(&disk.environment(4)).unwrap();
    for number in 0..3_u8 {
        log.append(Event::new("lost", "E").body(vec![number; 40])).unwrap();
    }
    if mentioned {
        let mut event = Event::new("other", "E");
        event.metadata.reads = Some(vec![chainring::ReadRef { stream: "lost".into(), version: 3, ..Default::default() }]);
        log.append(event).unwrap();
    }
    log.close().unwrap();
    let whole = files(&disk);
    let first = &records(&whole)[1];
    let mut bytes = whole[&first.segment].clone();
    bytes[first.offset..first.offset + 130].fill(0);
    single(bytes)
}

#[test]
fn a_lost_name_is_found_where_another_event_or_the_caller_says_it() {
    let name_of = |disk: &SimDisk, guesses: &[&str]| {
        let names = guesses.iter().map(|name| (*name).to_owned()).collect();
        let salvage = examine(disk, &SalvageOptions { names, ..SalvageOptions::default() });
        let (rows, manifest) = copy(&salvage);
        let stream = manifest.streams.iter().find(|stream| stream.stream_id == id_of("lost")).unwrap().clone();
        assert_eq!(stream.missing.iter().collect::<Vec<_>>(), [(1, 1)]);
        assert_eq!(Some(&rows[0].stream), stream.new_name.as_ref());
        (stream.name, stream.new_name.unwrap())
    };
    let called = |name: &str| (Some(name.to_owned()), name.to_owned());
    assert_eq!(name_of(&nameless(true), &[]), called("lost"));
    assert_eq!(name_of(&nameless(false), &["wrong", "lost"]), called("lost"));
    assert_eq!(name_of(&nameless(false), &["wrong"]), (None, format!("$salvaged/{}", id_of("lost"))));
}

/// Rewrites the record at an index of a store: its frame is changed and given checksums that are right.
fn forge(files: &mut Files, record: &Record, change: impl FnOnce(&mut [u8])) {
    let bytes = files.get_mut(&record.segment).unwrap();
    let header = SegmentHeader::parse(bytes).unwrap();
    let mask = Seed::new(&header.salt).mask(record.offset as u64);
    let frame = &mut bytes[record.offset..record.offset + record.bytes.len()];
    change(frame);
    let (metadata, body, name) =
        (u32_at(frame, 12) as usize, u32_at(frame, 16) as usize, u16::from_le_bytes([frame[20], frame[21]]) as usize);
    let slot = 120 + name + metadata;
    let slot_end = slot + (body + 16 * usize::from(frame[23])).max(32);
    let crc = chainring_format::checksum::crc;
    // An erased slot has the complement for its checksum.
    let erased = if frame[4..8] == [0xEE; 4] { u32::MAX } else { 0 };
    let body_crc = crc(&frame[slot..slot_end]) ^ mask ^ erased;
    frame[8..12].copy_from_slice(&body_crc.to_le_bytes());
    let header_crc = crc(&frame[12..slot]) ^ mask;
    frame[4..8].copy_from_slice(&header_crc.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

#[test]
fn a_rewritten_record_is_left_out_unless_it_is_asked_for() {
    let whole = history(1, 40, 5);
    let records = records(&whole);
    let victim =
        records.iter().find(|record| record.position > 20 && record.event.as_ref().is_some_and(|row| row.body.len() > 50)).unwrap();
    let row = victim.event.as_ref().unwrap();
    let mut forged = whole.clone();
    let body = victim.bytes.windows(50).position(|window| window == &row.body[..50]).unwrap();
    forge(&mut forged, victim, |frame| frame[body + 7] ^= 1);

    let salvage = examine(&disk_of(&forged), &SalvageOptions::default());
    let (copied, manifest) = copy(&salvage);
    assert_eq!(copied.len(), records.len() - 2);
    assert!(copied.iter().all(|other| other.id != row.id), "it was not copied silently");
    let [left_out] = &manifest.left_out[..] else { panic!("{:?}", manifest.left_out) };
    assert_eq!((left_out.event_id, left_out.version.0), (row.id, row.version));
    assert!(matches!(left_out.reason, Reason::Tampered { rule: "H1", .. }) && !manifest.is_whole());
    let stream = manifest.streams.iter().find(|stream| stream.name.as_ref() == Some(&row.stream)).unwrap();
    assert_eq!(stream.left_out.iter().collect::<Vec<_>>(), [(row.version, row.version)]);

    let salvage = examine(&disk_of(&forged), &SalvageOptions { copies_tampered: true, ..SalvageOptions::default() });
    let (copied, manifest) = copy(&salvage);
    assert_eq!((copied.len(), manifest.copied_tampered.len(), manifest.left_out.len()), (records.len() - 1, 1, 0));
}

#[test]
fn what_stands_where_it_cannot_is_left_out_and_takes_nobody_with_it() {
    let whole = history(1, 40, 5);
    let records = records(&whole);
    let victim = records.iter().find(|record| record.event.as_ref().is_some_and(|row| row.version == 4)).unwrap();
    // Another version, far away or taken; another event's id.
    let id_of_another = records[3].event.as_ref().unwrap().id.0;
    for (at, bytes) in [(24, &[200][..]), (24, &[2]), (72, &id_of_another)] {
        let mut forged = whole.clone();
        forge(&mut forged, victim, |frame| frame[at..at + bytes.len()].copy_from_slice(bytes));
        // Nor is it copied on request: it would stand where another one stands.
        for copies_tampered in [false, true] {
            let (copied, manifest) = copy(&examine(&disk_of(&forged), &SalvageOptions { copies_tampered, ..SalvageOptions::default() }));
            assert_eq!((copied.len(), manifest.left_out.len()), (records.len() - 2, 1), "{:?}", manifest.left_out);
        }
    }
}

/// Masks of offsets that differ in one bit differ by the same number everywhere: what was written by so much to the wrong place, over the header of another
/// segment, agrees with itself. It is of another time.
#[test]
fn what_was_written_over_the_header_of_another_segment_is_not_taken_for_its_own() {
    for seed in 0..2 {
        let whole = history(seed, 120, 6);
        let records = records(&whole);
        let names: Vec<&String> = whole.keys().collect();
        assert!(names.len() >= 4, "{}", names.len());
        for (from, to) in (0..names.len()).flat_map(|from| (0..names.len()).map(move |to| (from, to))).filter(|(from, to)| from != to) {
            for distance in [2048, 8192] {
                let Some(moved) = whole[names[from]].get(distance..2 * distance) else { continue };
                for is_rest_lost in [false, true] {
                    let mut damaged = whole.clone();
                    let over = damaged.get_mut(names[to]).unwrap();
                    let Some(start) = over.get_mut(..distance) else { continue };
                    start.copy_from_slice(moved);
                    if is_rest_lost {
                        over[distance..].fill(0xA5);
                    }
                    let what = format!("seed {seed}, {distance} bytes of {} over {}, rest lost: {is_rest_lost}", names[from], names[to]);
                    judge(&records, &relic(&damaged), &what);
                }
            }
        }
    }
}

#[test]
fn an_erased_body_is_listed_and_not_invented() {
    let mut whole = history(1, 40, 5);
    let records = records(&whole);
    let victim = records.iter().find(|record| record.event.as_ref().is_some_and(|row| row.body.len() > 100)).unwrap().clone();
    let header = SegmentHeader::parse(&whole[&victim.segment]).unwrap();
    let mask = Seed::new(&header.salt).mask(victim.offset as u64);
    let commit = FrameView::parse(&victim.bytes, mask).unwrap().body_commit();
    forge(&mut whole, &victim, |frame| {
        let slot = 120 + usize::from(u16::from_le_bytes([frame[20], frame[21]])) + u32_at(frame, 12) as usize;
        let end = slot + u32_at(frame, 16) as usize + 16;
        frame[slot..end].fill(0);
        frame[slot..slot + 32].copy_from_slice(&commit);
        frame[4..8].fill(0xEE);
    });
    assert!(check(&disk_of(&whole).environment(1)).is_ok(), "an erasure breaks nothing");
    let (copied, manifest) = copy(&examine(&disk_of(&whole), &SalvageOptions::default()));
    assert_eq!((copied.len(), manifest.left_out.len()), (records.len() - 2, 1));
    assert_eq!(manifest.left_out[0].reason, Reason::Erased);
    assert_eq!(manifest.totals.link_unverified, 0, "the chain goes on over it");
}

#[test]
fn files_that_are_not_of_this_place_are_no_part_of_it() {
    let whole = history(2, 100, 20);
    let records = records(&whole);
    let names: Vec<&String> = whole.keys().collect();
    // A segment of another log in the place of ours.
    let mut damaged = whole.clone();
    damaged.insert(names[1].clone(), history(9, 100, 20)[names[1]].clone());
    let manifest = judge(&records, &relic(&damaged), "swapped");
    assert!(manifest.damage.iter().any(|damage| damage.kind == DamageKind::Foreign));
    // Our own, under another name: it is found all the same.
    let mut damaged = whole.clone();
    let moved = damaged.remove(names[1]).unwrap();
    damaged.insert("0000000077.seg".into(), moved);
    let salvage = examine(&disk_of(&damaged), &SalvageOptions::default());
    assert_eq!(copy(&salvage).0.len(), records.len() - 1, "{:?}", salvage.manifest());
}

#[test]
fn a_new_store_is_only_made_where_there_is_nothing() {
    let salvage = examine(&disk_of(&history(1, 10, 3)), &SalvageOptions::default());
    let taken = SimDisk::new();
    taken.overwrite("note.txt", b"mine".to_vec());
    let error = salvage.copy_to(&taken.environment(1), Path::new("new"), None).unwrap_err();
    assert!(matches!(error, SalvageError::NotEmpty { .. }), "{error}");
    assert_eq!(taken.list().unwrap(), ["note.txt"]);
    let empty = SimDisk::new();
    assert!(matches!(Log::open_salvage_in(&empty.environment(1), Path::new("none")), Err(OpenError::NotAStore { .. })));
}

/// Every golden vector: what is valid is salvaged whole, what is not never ends in a panic, and what comes out always verifies.
#[test]
fn golden_vectors() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/vectors");
    for (kind, at_least) in [("valid", 30), ("invalid", 80)] {
        let mut seen = 0;
        for entry in std::fs::read_dir(vectors.join(kind)).unwrap() {
            let store = entry.unwrap().path().join("store");
            let Ok(salvage) = Log::open_salvage(&store) else { continue };
            let (copied, manifest) = copy(&salvage);
            seen += 1;
            if kind == "valid" {
                // A log takes no event without a type, and none whose body nobody knows any more.
                let erased = manifest.left_out.len();
                let is_known = |irregular: &chainring::Irregular| matches!(irregular.reason, Reason::Erased | Reason::Untyped);
                assert!(manifest.left_out.iter().all(is_known), "{store:?}: {:?}", manifest.left_out);
                let lost = !manifest.missing.is_empty() || !manifest.damage.is_empty() || !manifest.end_known;
                assert!(!lost, "{store:?}: {manifest:?}");
                assert_eq!(copied.len() + erased, Store::open(&store).unwrap().stats().events as usize, "{store:?}");
            }
        }
        assert!(seen >= at_least, "{seen} of {kind}");
    }
}

/// A power cut is no damage: from whatever it leaves, a salvage takes what recovery keeps, and misses nothing.
#[test]
fn after_a_power_cut_it_takes_what_recovery_keeps() {
    let mut torn = 0;
    for seed in 0..120 {
        let mut random = SimRandom::new(seed);
        let mut disk = SimDisk::new().with_block_bytes(512);
        for round in 0..3 {
            let environment = disk.environment(seed * 31 + round);
            let Ok(log) = open(&environment) else { break };
            // Written and not synced: what of it reaches the device, the cut decides.
            let level = if random.below(3) == 0 { Durability::Durable } else { Durability::Written };
            let count = random.below(80);
            let submit = |_| log.submit(request(&mut random, 9).1.durability(level)).unwrap();
            let pending: Vec<_> = (0..count).map(submit).collect();
            if let Some(last) = pending.into_iter().last() {
                last.wait().unwrap();
            }
            match random.below(3) {
                0 => log.close().unwrap(),
                _ => std::mem::forget(log),
            }
            disk = disk.crash(random.next_u64());
        }
        let Ok(store) = read(&disk.environment(1)) else { continue };
        let salvage = examine(&disk, &SalvageOptions::default());
        let (copied, manifest) = copy(&salvage);
        assert!(copied == rows(&store), "seed {seed}: {} of {} events", copied.len(), rows(&store).len());
        assert!(manifest.is_whole() && manifest.damage.is_empty(), "seed {seed}: {manifest:?}");
        torn += usize::from(manifest.cut.iter().any(|cut| !cut.is_done));
    }
    assert!(torn > 5, "only {torn} stores were torn");
}

/// Somebody who knows the salt can write anything under a checksum that is right: nothing of it may panic, or be copied wrongly.
#[test]
fn whatever_is_forged_what_comes_out_verifies() {
    let stores = [history(7, 15, 4), packed_history(7, 15, 4)];
    assert!(stores[1].values().any(|bytes| SegmentHeader::parse(bytes).unwrap().is_packed()));
    let records = stores.each_ref().map(records);
    let put = |bytes: &mut [u8], number: u64| bytes.copy_from_slice(&number.to_le_bytes()[..bytes.len()]);
    for seed in 0..400 {
        let mut random = SimRandom::new(seed);
        let (whole, records) = (&stores[seed as usize % 2], &records[seed as usize % 2]);
        let mut forged = whole.clone();
        for _ in 0..1 + random.below(3) {
            let number = match random.below(5) {
                0 => 0,
                1 => u64::MAX - random.below(3),
                2 => random.next_u64(),
                _ => random.below(5000),
            };
            match random.below(4) {
                // A field of a segment header.
                0 => {
                    let bytes = forged.values_mut().nth(random.below(whole.len() as u64) as usize).unwrap();
                    let at = [16, 28, 32, 40, 48, 56, 64, 88, 120, 128, 136, 208, 216][random.below(13) as usize];
                    put(&mut bytes[at..at + 4 + 4 * random.below(2) as usize], number);
                    let sum = chainring_format::checksum::crc(&bytes[12..256]);
                    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
                }
                // A field of a trailer.
                1 => {
                    let bytes = forged.values_mut().nth(random.below(whole.len() as u64) as usize).unwrap();
                    let Ok(header) = SegmentHeader::parse(bytes) else { continue };
                    let step = if header.is_packed() { 8 } else { 512 };
                    let mut ends = (1..=bytes.len() / step).map(|block| block * step).filter(|end| *end >= 512).collect::<Vec<_>>();
                    ends.retain(|end| bytes[end - 160..end - 156] == *b"CMT\xF1");
                    if ends.is_empty() {
                        continue;
                    }
                    let at = ends[random.below(ends.len() as u64) as usize] - 160;
                    let field = at + [8, 16, 20, 24, 32, 40, 48, 64, 96][random.below(9) as usize];
                    put(&mut bytes[field..field + 4 + 4 * random.below(2) as usize], number);
                    let sum = chainring_format::checksum::crc(&bytes[at + 8..at + 160]) ^ Seed::new(&header.salt).mask(at as u64);
                    bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
                }
                // A field of a frame that does not move its body.
                _ => {
                    let record = &records[random.below(records.len() as u64) as usize];
                    if SegmentHeader::parse(&forged[&record.segment]).is_err() {
                        continue;
                    }
                    let at = [24, 32, 40, 44, 48, 52, 56, 72, 88][random.below(9) as usize];
                    forge(&mut forged, record, |frame| put(&mut frame[at..at + 4 + 4 * random.below(2) as usize], number));
                }
            }
        }
        let Ok(salvage) = Log::open_salvage_in(&disk_of(&forged).environment(1), Path::new("forged")) else { continue };
        if seed % 5 == 0 {
            copy(&salvage);
        }
    }
}

/// Whoever can read the store and append to it can put a frame for the right place into a body, and wait for the frame around it to be damaged.
#[test]
fn a_frame_inside_a_body_is_no_record() {
    let build = |body: &[u8]| {
        let disk = SimDisk::new().with_block_bytes(512);
        let log = open(&disk.environment(6)).unwrap();
        log.append(Event::new("victim", "E").body("first")).unwrap();
        log.append(Event::new("victim", "E").id(EventId([9; 16])).body(body.to_vec())).unwrap();
        log.append(Event::new("other", "E").body("last")).unwrap();
        log.close().unwrap();
        files(&disk)
    };
    let mut body = vec![b'x'; 1000];
    let plain = build(&body);
    let outer = &records(&plain)[2];
    let start = outer.bytes.windows(50).position(|window| window == [b'x'; 50]).unwrap();
    let inside = (outer.offset + start + 300).next_multiple_of(8);
    let seed = Seed::new(&SegmentHeader::parse(&plain[&outer.segment]).unwrap().salt);
    let metadata = chainring::Metadata::new("Forged").encode();
    let fields = chainring_format::frame::FrameFields {
        kind: chainring_format::frame::KIND_EVENT,
        version: 2,
        recorded_at_ns: 1_700_000_000_000_001_000,
        bucket_back: 1,
        stream_back: 1,
        batch_index: 0,
        batch_count: 0,
        stream_id: id_of("victim"),
        event_id: EventId([66; 16]),
        link: chainring::Link([1; 32]),
        name: "",
        metadata: &metadata,
        body: b"forged",
        salt: None,
        slot_crc: chainring_format::frame::slot_crc(b"forged", None),
    };
    let at = inside - outer.offset - start;
    let length = fields.frame_bytes() as usize;
    fields.encode(&mut body[at..at + length], seed.mask(inside as u64));
    // Its link is right, as far as anybody can tell who has not the frame around it.
    let first = &records(&plain)[1];
    let first = FrameView::parse(&first.bytes, seed.mask(first.offset as u64)).unwrap().link().0;
    let forged = FrameView::parse(&body[at..], seed.mask(inside as u64)).unwrap();
    let link = forged.expected_link(&forged.digest(EventId::default()), &first, &first);
    chainring_format::frame::FrameFields { link, ..fields }.encode(&mut body[at..at + length], seed.mask(inside as u64));
    let whole = build(&body);
    let outer = records(&whole)[2].clone();
    FrameView::parse(&whole[&outer.segment][inside..], seed.mask(inside as u64)).expect("the forged frame is as good as any");
    let mut damaged = whole.clone();
    damaged.get_mut(&outer.segment).unwrap()[outer.offset + start + 10] ^= 1;

    let (copied, manifest) = copy(&examine(&disk_of(&damaged), &SalvageOptions::default()));
    assert_eq!(copied.iter().map(|row| row.body.as_slice()).collect::<Vec<_>>(), [b"first".as_slice(), b"last"]);
    // It is known what the body belonged to, though it was the last event of its stream.
    let stream = manifest.streams.iter().find(|stream| stream.stream_id == id_of("victim")).unwrap();
    assert_eq!(stream.missing.iter().collect::<Vec<_>>(), [(2, 2)]);
    assert_eq!(manifest.missing.len(), 1);

    // With the frame's header gone nothing says where its body ends; but the commit sums up another record.
    let mut damaged = whole;
    damaged.get_mut(&outer.segment).unwrap()[outer.offset + 30] ^= 1;
    let (copied, manifest) = copy(&examine(&disk_of(&damaged), &SalvageOptions::default()));
    assert_eq!(copied.iter().map(|row| row.body.as_slice()).collect::<Vec<_>>(), [b"first".as_slice(), b"last"]);
    assert_eq!(manifest.totals.missing, 1);
}

/// Reading a damaged store must itself survive a device that fails anywhere: an error or a hole, never a panic, never an invented record.
#[test]
fn every_call_fails_once_while_salvaging() {
    use chainring::disk::sim::{Failure, Fault};
    let disk = SimDisk::new().with_block_bytes(512);
    let log = open(&disk.environment(5)).unwrap();
    let mut random = SimRandom::new(3);
    while log.stats().segments < 3 {
        log.append(request(&mut random, 7).1).unwrap();
    }
    log.close().unwrap();
    let whole = support::content(&read(&disk.environment(1)).unwrap());
    let places: Vec<_> = whole.iter().map(|(_, _, id, _)| *id).collect();
    for (on_source, failure) in [(true, Failure::Device), (false, Failure::Device), (false, Failure::NoSpace)] {
        for n in 1.. {
            let (source, target) = (disk.snapshot(), SimDisk::new().with_block_bytes(512));
            let failing = if on_source { &source } else { &target };
            failing.inject(Fault::Nth { call: None, n, failure, lasting: false });
            let environment = target.environment(9);
            let copied = Log::open_salvage_in(&source.environment(2), Path::new("old"))
                .map_err(|error| error.to_string())
                .and_then(|salvage| salvage.copy_to(&environment, Path::new("new"), None).map_err(|error| error.to_string()));
            let is_through = failing.is_fault_waiting();
            target.heal();
            if let Ok(manifest) = &copied {
                let found = support::content(&read(&environment).unwrap());
                let mut rest = places.iter();
                assert!(found.iter().all(|(_, _, id, _)| rest.any(|known| known == id)), "n {n}: invented, or out of order");
                assert_eq!(manifest.is_whole(), found.len() == whole.len(), "n {n}: what is missing is said");
            }
            for name in names_of_segments(&disk) {
                assert_eq!(source.content(&name), disk.content(&name), "n {n}: the original was touched");
            }
            if is_through {
                assert!(copied.is_ok(), "{copied:?}");
                break;
            }
        }
    }
}
