//! Every single bit of a closed store, every zeroed sector, and blocks that stand where they do not belong: all of it is found, in the right place.
//!
//! The right place is worked out here from the marks alone (FORMAT.md section 10, step 8), not by asking the engine.

mod support;

use chainring::disk::sim::SimDisk;
use chainring::{Event, EventId, Fault, FaultKind, OpenError, Opened, Request};
use chainring_format::commit::TRAILER_BYTES;
use chainring_format::segment::{HEADER_BYTES, SegmentHeader};
use chainring_format::{Mark, align};
use support::{check, names_of_segments, open, read};

const BLOCK_BYTES: usize = 512;
const SECTOR_BYTES: usize = 512;
const FIRST: &str = "0000000001.seg";

fn disk() -> SimDisk {
    SimDisk::new().with_block_bytes(BLOCK_BYTES as u32)
}

/// A closed store of one segment: lone events, a batch over several blocks, an event without a body, padding of several lengths.
fn one_segment() -> Vec<u8> {
    let disk = disk();
    let log = open(&disk.environment(5)).unwrap();
    let event =
        |number: u8, bytes: usize| Event::new(format!("s{}", number % 3), "E").id(EventId([number + 1; 16])).body(vec![number; bytes]);
    log.append(event(0, 40)).unwrap();
    log.append(event(1, 0)).unwrap();
    log.append(Request::batch(vec![event(2, 300), event(3, 700), event(4, 5)])).unwrap();
    log.append(event(5, 333)).unwrap();
    log.close().unwrap();
    assert!(check(&disk.environment(1)).is_ok());
    disk.content(FIRST).unwrap()
}

/// For every byte of a segment's header and commits the offset of the structure it belongs to. A packed segment has no blocks in which others are named.
fn places(bytes: &[u8]) -> Vec<u64> {
    let is_packed = SegmentHeader::parse(bytes).unwrap().is_packed();
    let mut places = vec![0; if is_packed { HEADER_BYTES } else { BLOCK_BYTES }];
    while places.len() < bytes.len() {
        let at = places.len();
        match Mark::of(&bytes[at..]) {
            Mark::Frame(count) => places.extend(vec![at as u64; count as usize]),
            Mark::Trailer if is_packed => places.extend([at as u64; TRAILER_BYTES]),
            Mark::Padding | Mark::Trailer => {
                let end = align((at + TRAILER_BYTES) as u64, BLOCK_BYTES as u64);
                places.extend((at as u64..end).map(|at| at / BLOCK_BYTES as u64 * BLOCK_BYTES as u64));
            }
            Mark::Footer | Mark::Nothing => break,
        }
    }
    places
}

fn on(bytes: Vec<u8>) -> SimDisk {
    let disk = disk();
    disk.overwrite(FIRST, bytes);
    disk
}

fn fault(disk: &SimDisk, what: impl FnOnce() -> String) -> Fault {
    check(&disk.environment(1)).fault.unwrap_or_else(|| panic!("{}: nobody noticed", what()))
}

#[test]
fn every_flipped_bit_is_found_in_its_place() {
    let whole = one_segment();
    let places = places(&whole);
    assert_eq!(places.len(), whole.len(), "a closed segment ends with its closing commit");
    let disk = on(whole.clone());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            disk.overwrite(FIRST, changed);
            let fault = fault(&disk, || format!("bit {bit} of byte {at}"));
            assert_eq!((fault.kind, fault.segment.as_str()), (FaultKind::Corrupt, FIRST), "bit {bit} of byte {at}: {fault}");
            assert_eq!(fault.offset, places[at], "bit {bit} of byte {at}: {fault}");
        }
        // Opening takes none of it for the end of the log.
        let refused = open(&disk.environment(2)).map(drop);
        let is_header_of_unknown_version = matches!(refused, Err(OpenError::Unsupported { .. }));
        assert!(matches!(refused, Err(OpenError::Damaged(_))) || is_header_of_unknown_version, "byte {at}: {refused:?}");
    }
}

#[test]
fn a_zeroed_sector_below_the_watermark_is_damage_and_never_valid() {
    let whole = one_segment();
    let places = places(&whole);
    // All but the closing commit, which is one sector and vouches for the rest.
    for sector in 0..whole.len() / SECTOR_BYTES - 1 {
        let start = sector * SECTOR_BYTES;
        let mut changed = whole.clone();
        changed[start..start + SECTOR_BYTES].fill(0);
        let disk = on(changed);
        let fault = fault(&disk, || format!("sector {sector} of zeros"));
        assert_eq!((fault.kind, fault.offset), (FaultKind::Corrupt, places[start]), "sector {sector}: {fault}");
        assert!(matches!(open(&disk.environment(2)), Err(OpenError::Damaged(_))), "sector {sector}");
    }
}

#[test]
fn a_closing_commit_that_is_gone_loses_nothing_but_itself() {
    let whole = one_segment();
    let content = support::content(&read(&on(whole.clone()).environment(1)).unwrap());
    let closing = whole.len() - BLOCK_BYTES;
    let mut zeroed = whole.clone();
    zeroed[closing..].fill(0);
    for changed in [zeroed, whole[..closing].to_vec(), whole[..closing + 100].to_vec()] {
        let disk = on(changed);
        let log = open(&disk.environment(2)).unwrap();
        assert!(matches!(log.report().opened, Opened::Killed | Opened::Torn));
        assert_eq!(support::content(&log), content);
    }
}

#[test]
fn blocks_that_stand_elsewhere_are_not_taken_for_what_belongs_there() {
    let whole = one_segment();
    let other = {
        let disk = disk();
        let log = open(&disk.environment(77)).unwrap();
        for number in 0..6 {
            log.append(Event::new("s", "E").id(EventId([number + 1; 16])).body(vec![number; 40])).unwrap();
        }
        log.close().unwrap();
        disk.content(FIRST).unwrap()
    };
    let blocks = whole.len() / BLOCK_BYTES;
    let range = |block: usize| block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
    // All but the closing commit: what it vouches for is still there, so another block in its place may pass for a torn write.
    for to in 1..blocks - 1 {
        // From another place of the same segment, and from the same place of another store, as a misdirected write or a reused file would leave it.
        let mut misdirected: Vec<(&[u8], String)> =
            (1..blocks).filter(|from| *from != to).map(|from| (&whole[range(from)], format!("block {from} at {to}"))).collect();
        if let Some(foreign) = other.get(range(to)) {
            misdirected.push((foreign, format!("block {to} of another store")));
        }
        for (block, what) in misdirected {
            let mut changed = whole.clone();
            changed[range(to)].copy_from_slice(block);
            if changed == whole {
                continue;
            }
            let disk = on(changed);
            let fault = fault(&disk, || what.clone());
            assert_eq!(fault.kind, FaultKind::Corrupt, "{what}: {fault}");
            assert!(fault.offset < ((to + 1) * BLOCK_BYTES) as u64, "{what}: {fault}");
            assert!(matches!(open(&disk.environment(2)), Err(OpenError::Damaged(_))), "{what}");
        }
    }
}

#[test]
fn a_changed_footer_is_found_and_harms_nobody() {
    let disk = disk();
    let log = open(&disk.environment(5)).unwrap();
    let mut number = 0;
    while log.stats().segments < 2 {
        log.append(Event::new(format!("s{}", number % 7), "E").body(vec![number; 4000])).unwrap();
        number += 1;
    }
    log.close().unwrap();
    assert_eq!(names_of_segments(&disk).len(), 2);
    let content = support::content(&read(&disk.environment(1)).unwrap());
    let whole = disk.content(FIRST).unwrap();
    let start = places(&whole).len();
    for at in start..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        disk.overwrite(FIRST, changed);
        let fault = fault(&disk, || format!("byte {at} of the footer"));
        // A footer is compared byte for byte with the right one: the sector of the byte is named, the first one from where the footer starts.
        let sector = (at / SECTOR_BYTES * SECTOR_BYTES).max(start);
        assert_eq!((fault.kind, fault.segment.as_str(), fault.offset), (FaultKind::Corrupt, FIRST, sector as u64), "byte {at}: {fault}");
    }
    // It is derived: who reads and writes does without it.
    assert_eq!(support::content(&read(&disk.environment(1)).unwrap()), content);
    let log = open(&disk.environment(2)).unwrap();
    assert_eq!(support::content(&log), content);
    log.append(Event::new("after", "E")).unwrap();
    log.close().unwrap();
}

/// A closed store whose first segment is packed, and that segment before: lone events and a batch.
fn packed() -> (SimDisk, Vec<u8>) {
    let disk = SimDisk::new();
    let log = open(&disk.environment(5)).unwrap();
    let event = |number: u8| Event::new(format!("s{}", number % 3), "E").id(EventId([number + 1; 16])).body(vec![number; 40]);
    log.append(Request::batch(vec![event(100), event(101), event(102)])).unwrap();
    for number in 0.. {
        if log.stats().segments == 2 {
            break;
        }
        log.append(event(number)).unwrap();
    }
    let before = disk.content(FIRST).unwrap();
    assert_eq!(log.pack().unwrap().packed, 1);
    log.close().unwrap();
    // Without an index opening reads everything.
    remove_index(&disk);
    assert!(check(&disk.environment(1)).is_ok());
    (disk, before)
}

fn remove_index(disk: &SimDisk) {
    let disk = &disk.environment(1).disk;
    for name in disk.list().unwrap().iter().filter(|name| name.ends_with(".idx")) {
        disk.remove(name).unwrap();
    }
}

#[test]
fn every_flipped_bit_of_a_packed_segment_is_found_in_its_place() {
    let (disk, _) = packed();
    let whole = disk.content(FIRST).unwrap();
    let places = places(&whole);
    let end = places.len();
    assert!(end < 6000 && whole.len() > end + 300, "few commits, and a footer behind them");
    for at in 0..whole.len() {
        for bit in 0..8 {
            disk.flip(FIRST, at as u64, 1 << bit);
            let fault = fault(&disk, || format!("bit {bit} of byte {at}"));
            let place = places.get(at).copied().unwrap_or((at / SECTOR_BYTES * SECTOR_BYTES).max(end) as u64);
            assert_eq!((fault.kind, fault.segment.as_str()), (FaultKind::Corrupt, FIRST), "bit {bit} of byte {at}: {fault}");
            assert_eq!(fault.offset, place, "bit {bit} of byte {at}: {fault}");
            disk.flip(FIRST, at as u64, 1 << bit);
        }
        disk.flip(FIRST, at as u64, 1);
        let refused = open(&disk.snapshot().environment(2)).map(drop);
        let is_header_of_unknown_version = matches!(refused, Err(OpenError::Unsupported { .. }));
        // Nobody needs a footer to read or write.
        assert!(matches!(refused, Err(OpenError::Damaged(_))) || is_header_of_unknown_version || at >= end, "byte {at}: {refused:?}");
        disk.flip(FIRST, at as u64, 1);
    }
}

#[test]
fn bytes_of_before_are_not_taken_for_what_a_packed_segment_holds() {
    let (disk, before) = packed();
    let whole = disk.content(FIRST).unwrap();
    // Sectors of the old file in the new one, at their own place and where their frames stand now.
    for to in 0..whole.len() / SECTOR_BYTES {
        for from in [to, 8 * to] {
            let (to, from) = (to * SECTOR_BYTES, from * SECTOR_BYTES);
            let Some(stale) = before.get(from..from + SECTOR_BYTES) else { continue };
            let mut changed = whole.clone();
            changed[to..to + SECTOR_BYTES].copy_from_slice(stale);
            disk.overwrite(FIRST, changed);
            let fault = fault(&disk, || format!("bytes {from} of before at {to}"));
            assert!(fault.kind == FaultKind::Corrupt && fault.offset < (to + SECTOR_BYTES) as u64, "{from} at {to}: {fault}");
        }
    }
    // And the whole old file with the packed one's header, or the other way round.
    for (header, rest) in [(&whole, &before), (&before, &whole)] {
        disk.overwrite(FIRST, [&header[..HEADER_BYTES], &rest[HEADER_BYTES..]].concat());
        assert_eq!(fault(&disk, || "two files in one".into()).kind, FaultKind::Corrupt);
    }
    disk.overwrite(FIRST, before);
    assert_eq!(check(&disk.environment(1)).fault, None, "the old file itself is still right");
}
