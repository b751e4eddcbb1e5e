//! Bytes changed in a closed store: every one of them is found, with its place, and nothing panics.

mod support;

use std::collections::BTreeMap;

use chainring::disk::sim::{SimDisk, SimRandom};
use chainring::{Event, FaultKind, OpenError};
use support::{check, names_of_segments, open, read, request};

/// A closed store of several segments, with footers, batches and padding.
fn store() -> SimDisk {
    let disk = SimDisk::new().with_block_bytes(512);
    let environment = disk.environment(5);
    let mut random = SimRandom::new(11);
    for _ in 0..2 {
        let log = open(&environment).unwrap();
        for _ in 0..120 {
            log.append(request(&mut random, 40).1).unwrap();
        }
        log.close().unwrap();
    }
    assert!(check(&environment).is_ok());
    disk
}

fn copy(files: &BTreeMap<String, Vec<u8>>, changed: &str, content: Option<Vec<u8>>) -> SimDisk {
    let disk = SimDisk::new().with_block_bytes(512);
    for (name, bytes) in files {
        if name != changed {
            disk.overwrite(name, bytes.clone());
        }
    }
    if let Some(content) = content {
        disk.overwrite(changed, content);
    }
    disk
}

fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    names_of_segments(disk).into_iter().map(|name| (name.clone(), disk.content(&name).unwrap())).collect()
}

#[test]
fn every_changed_byte_is_found_in_its_place() {
    let files = files(&store());
    assert!(files.len() >= 3, "{} segments", files.len());
    let mut random = SimRandom::new(1);
    let disk = copy(&files, "", None);
    let environment = disk.environment(1);
    for (name, bytes) in &files {
        // Dense at the start and at the end, where headers and footers or closing commits are; a stride that meets every residue between.
        let places = (0..bytes.len()).filter(|&at| at < 100 || at + 100 > bytes.len() || at % 997 == 0);
        for at in places {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << random.below(8);
            disk.overwrite(name, changed);
            let report = check(&environment);
            let fault = report.fault.unwrap_or_else(|| panic!("{name}: byte {at} was changed and nobody noticed"));
            assert_eq!((&fault.segment, fault.kind), (name, FaultKind::Corrupt), "byte {at}: {fault}");
            let at = at as u64;
            let reach = 8000; // the longest frame here; headers, footers and blocks are shorter
            assert!(fault.offset <= at && at < fault.offset + reach, "byte {at} is not in what begins at {}: {fault}", fault.offset);
            if let Err(OpenError::Damaged(found)) = read(&environment).map(drop) {
                assert_eq!(&found.segment, name, "byte {at}");
            }
        }
        disk.overwrite(name, bytes.clone());
    }
    assert!(check(&environment).is_ok(), "the store itself is whole");
}

#[test]
fn a_store_cut_anywhere_never_panics_and_never_lies() {
    let files = files(&store());
    let (last, bytes) = files.iter().next_back().unwrap();
    let whole = support::content(&read(&copy(&files, "", None).environment(1)).unwrap());
    for length in (0..bytes.len()).rev().filter(|length| length % 211 == 0 || bytes.len() - length < 600) {
        let environment = copy(&files, last, Some(bytes[..length].to_vec())).environment(1);
        let report = check(&environment);
        if length % 512 != 0 {
            let fault = report.fault.expect("a cut inside a block leaves a trace");
            assert!(matches!(fault.kind, FaultKind::Torn | FaultKind::Corrupt | FaultKind::Missing), "{length}: {fault}");
        }
        if let Ok(log) = open(&environment) {
            let kept = support::content(&log);
            assert_eq!(kept[..], whole[..kept.len()], "length {length}");
            log.append(Event::new("after", "E")).unwrap();
            log.close().unwrap();
            assert!(check(&environment).is_ok(), "length {length}: {:?}", check(&environment).fault);
        }
    }
}

#[test]
fn a_byte_of_the_last_commit_of_a_killed_store_is_damage_and_no_torn_tail() {
    let disk = SimDisk::new().with_block_bytes(512);
    let log = open(&disk.environment(5)).unwrap();
    log.append(Event::new("s", "First").body("1")).unwrap();
    let before = disk.content("0000000001.seg").unwrap();
    let batch: Vec<Event> = (0..4).map(|n| Event::new(format!("s{n}"), "Last").body(vec![n + 1; 400])).collect();
    log.append(batch).unwrap();
    std::mem::forget(log);
    let whole = disk.content("0000000001.seg").unwrap();
    let differs = |at: &usize| before[*at] != whole[*at];
    let (start, end) = ((0..whole.len()).find(differs).unwrap() / 512 * 512, (0..whole.len()).rev().find(differs).unwrap());
    let changed = SimDisk::new().with_block_bytes(512);
    for at in start..=end {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        changed.overwrite("0000000001.seg", bytes);
        let environment = changed.environment(1);
        assert_eq!(check(&environment).fault.map(|fault| fault.kind), Some(FaultKind::Corrupt), "byte {at}");
        assert!(matches!(open(&environment), Err(OpenError::Damaged(_))), "byte {at}");
    }
}

#[test]
fn a_missing_segment_is_missing() {
    let files = files(&store());
    let names: Vec<&String> = files.keys().collect();
    for name in &names[..names.len() - 1] {
        let environment = copy(&files, name, None).environment(1);
        let fault = check(&environment).fault.unwrap();
        assert_eq!((fault.kind, &fault.segment), (FaultKind::Missing, *name));
        assert!(matches!(open(&environment), Err(OpenError::Damaged(_))));
    }
}

#[test]
fn segments_of_another_store_or_place_are_refused() {
    let files = files(&store());
    let other = {
        let disk = SimDisk::new().with_block_bytes(512);
        let log = open(&disk.environment(99)).unwrap();
        (0..300).for_each(|n| drop(log.append(Event::new("x", "E").body(vec![n as u8; 300])).unwrap()));
        log.close().unwrap();
        disk
    };
    let swapped = copy(&files, "0000000002.seg", other.content("0000000002.seg"));
    assert!(matches!(open(&swapped.environment(1)), Err(OpenError::Damaged(_))));
    assert!(!check(&swapped.environment(1)).is_ok());
    let moved = copy(&files, "0000000002.seg", Some(files["0000000001.seg"].clone()));
    assert!(matches!(open(&moved.environment(1)), Err(OpenError::Damaged(_))));
}

#[test]
fn a_changed_header_is_no_shortened_segment_whatever_blocks_its_successor_has() {
    let disk = SimDisk::new().with_block_bytes(512);
    open(&disk.environment(5)).unwrap().close().unwrap();
    let disk = disk.with_block_bytes(16384);
    open(&disk.environment(6)).unwrap().close().unwrap();
    assert_eq!(names_of_segments(&disk).len(), 2);
    let first = disk.content("0000000001.seg").unwrap();
    for at in 0..512 {
        disk.flip("0000000001.seg", at, 1);
        let fault = check(&disk.environment(1)).fault.unwrap();
        assert_eq!((fault.kind, fault.offset), (FaultKind::Corrupt, 0), "byte {at}: {fault}");
        disk.flip("0000000001.seg", at, 1);
    }
    for length in [0, 100, 300, 511] {
        disk.overwrite("0000000001.seg", first[..length].to_vec());
        let fault = check(&disk.environment(1)).fault.unwrap();
        assert_eq!((fault.kind, fault.offset), (FaultKind::Missing, length as u64), "{fault}");
    }
}
