use std::collections::BTreeMap;

use chainring_format::Link;
use chainring_format::footer::BucketHead;
use chainring_format::segment::SegmentHeader;
use zerocopy::FromZeros;

use super::build::merge;
use super::layout::{put_number, take_number};
use super::page::PAGE_BYTES;
use super::run::{Posting, Run, Summary};
use super::write::{Plan, RunWriter, Target};
use super::zone::Zone;
use crate::disk::{Disk, PortableDisk, Region};
use crate::sync::Arc;

type Lists = BTreeMap<u64, Vec<u64>>;

/// A generator with a period long enough for tests.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state ^ *state >> 29
}

fn summary(number: u64, first_position: u64, next_position: u64) -> Summary {
    Summary {
        number,
        first_position,
        next_position,
        epoch: number,
        time_ns: number * 10,
        watermark: next_position,
        watermark_offset: 8 * number,
        streams: number,
        is_closed: number.is_multiple_of(2),
        commit_digest: [number as u8; 32],
        claimed: Zone { earliest: -5, latest: number as i64 },
        header: SegmentHeader { salt: [number as u8; 16], ..SegmentHeader::new_zeroed() },
    }
}

fn plan(number: u64, first_position: u64, lists: &Lists) -> Plan {
    Plan {
        log_id: [7; 32],
        key_seed: [3; 16],
        first_segment: number,
        last_segment: number,
        first_position,
        next_position: first_position + 100_000,
        keys_max: lists.len() as u64,
    }
}

fn heads(count: u16) -> Vec<BucketHead> {
    (0..count).map(|bucket| BucketHead { bucket, count: 1, position: u64::from(bucket), link: Link([bucket as u8; 32]) }).collect()
}

fn table(number: u64) -> Vec<u32> {
    (0..100_000 / 8).map(|entry| entry * 7 + number as u32).collect()
}

fn zones(number: u64) -> Vec<Zone> {
    (0..1563).map(|zone| Zone { earliest: zone - 5, latest: zone * number as i64 }).collect()
}

fn bytes_of(number: u64, first_position: u64, lists: &Lists) -> Vec<u8> {
    let mut writer = RunWriter::new(Target::Memory(Vec::new()), plan(number, first_position, lists));
    for (key, positions) in lists {
        positions.iter().for_each(|position| writer.put(*key, posting(*key, *position)).unwrap());
    }
    let written =
        writer.finish(&[summary(number, first_position, first_position + 100_000)], &table(number), &zones(number), &heads(4097)).unwrap();
    let Target::Memory(bytes) = written else { unreachable!() };
    bytes
}

/// Every third key comes with offsets.
fn posting(key: u64, position: u64) -> Posting {
    Posting { position, offset: if key.is_multiple_of(3) { 8 * (position % 1000 + 1) } else { 0 } }
}

fn run_of(bytes: Vec<u8>) -> Run {
    Run::of(Region::memory(bytes), "").unwrap()
}

/// Keys of every kind: many with one position, some with a few, one with very many.
fn lists(seed: u64, first_position: u64) -> Lists {
    let mut state = seed;
    let mut lists = Lists::new();
    for position in first_position..first_position + 20_000 {
        lists.entry(next(&mut state)).or_default().push(position);
        lists.entry((next(&mut state) % 500) << 54).or_default().push(position);
        lists.entry(42).or_default().push(position);
        if position % 3 == 0 {
            lists.entry(u64::MAX).or_default().push(position);
        }
    }
    lists
}

fn compare(run: &Run, lists: &Lists, first_position: u64) {
    for (number, (key, positions)) in lists.iter().enumerate() {
        let plain = |found: Posting| {
            assert_eq!(found, posting(*key, found.position));
            found.position
        };
        let all =
            |found: Result<super::run::Postings<'_>, _>| -> Vec<u64> { found.unwrap().map(|posting| plain(posting.unwrap())).collect() };
        assert!(run.may_hold(*key).unwrap());
        let last = positions[positions.len() - 1];
        assert_eq!(run.backward(*key, u64::MAX).unwrap().next().unwrap().unwrap().position, last);
        if number % 100 == 0 || positions.len() > 1000 {
            assert_eq!(all(run.forward(*key, 0)), *positions);
            for middle in [0, first_position, positions[positions.len() / 2], positions[0], last, last + 1, first_position + 777] {
                let split = positions.partition_point(|position| *position < middle);
                assert_eq!(all(run.forward(*key, middle)), positions[split..]);
                let backward: Vec<u64> = run.backward(*key, middle).unwrap().map(|posting| plain(posting.unwrap())).collect();
                assert!(backward.iter().eq(positions[..split].iter().rev()));
            }
        }
    }
}

/// The position table that was put in for a segment comes out, whole and mark by mark.
fn compare_table(run: &Run, number: u64, first_position: u64) {
    let (put_in, salt) = (table(number), [number as u8; 16]);
    for (position, mark) in (first_position..).zip(put_in.iter().flat_map(|mark| [*mark; 8])) {
        assert_eq!(run.mark_before(position, &salt), Ok(Some(mark)));
    }
    assert_eq!(run.table(first_position, &salt), Ok(Some(put_in)));
}

#[test]
fn a_run_gives_back_what_was_put_in() {
    for first_position in [0, 5_000_000_000] {
        let lists = lists(1, first_position);
        let run = run_of(bytes_of(1, first_position, &lists));
        compare(&run, &lists, first_position);
        assert_eq!(run.summaries, [summary(1, first_position, first_position + 100_000)]);
        assert_eq!(run.heads().unwrap(), heads(4097));
        compare_table(&run, 1, first_position);
        assert_eq!((run.zones(1), run.zones(2)), (Ok(zones(1)), Ok(Vec::new())));
        assert_eq!((run.table(first_position, &[2; 16]), run.table(first_position + 1, &[1; 16])), (Ok(None), Ok(None)));
        assert_eq!(run.mark_before(first_position, &[2; 16]), Ok(None), "the file has another salt");
        assert_eq!(run.mark_before(first_position + 100_000, &[1; 16]), Ok(None), "it is not in this run");
        let mut state = 99;
        let (mut wrong, mut asked) = (0, 0);
        while asked < 10_000 {
            let key = next(&mut state);
            if !lists.contains_key(&key) {
                asked += 1;
                wrong += u32::from(run.may_hold(key).unwrap());
                assert!(run.forward(key, 0).unwrap().next().is_none() && run.backward(key, u64::MAX).unwrap().next().is_none());
            }
        }
        assert!(wrong < 300, "{wrong} of 10000 keys that are not there pass the filter");
    }
}

#[test]
fn an_empty_run_holds_nothing() {
    let run = run_of(bytes_of(1, 0, &Lists::new()));
    assert!(!run.may_hold(1).unwrap() && run.forward(1, 0).unwrap().next().is_none() && run.backward(1, 9).unwrap().next().is_none());
}

#[test]
fn merged_runs_hold_what_they_held_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let disk = PortableDisk::new(directory.path());
    let mut all = Lists::new();
    let runs: Vec<Arc<Run>> = (0..5)
        .map(|number| {
            let first_position = number * 100_000;
            let lists = lists(number, first_position);
            lists.iter().for_each(|(key, positions)| all.entry(*key).or_default().extend(positions));
            Arc::new(run_of(bytes_of(number + 1, first_position, &lists)))
        })
        .collect();
    merge(disk.create("run").unwrap(), &runs, || false).ok().unwrap();
    let merged = Run::open(&disk, "run").unwrap();
    compare(&merged, &all, 0);
    assert_eq!((merged.segments(), merged.first_position(), merged.next_position()), (1..=5, 0, 500_000));
    assert_eq!(merged.summaries.len(), 5);
    (0..5).for_each(|number| compare_table(&merged, number + 1, number * 100_000));
    assert!((1..=5).all(|number| merged.zones(number) == Ok(zones(number))));
    assert_eq!(merged.heads().unwrap(), heads(4097));
    assert!(merge(disk.create("run").unwrap(), &runs, || true).is_err(), "it ends when it is told to");
}

#[test]
fn a_page_that_was_changed_is_never_believed() {
    let lists = lists(1, 0);
    let bytes = bytes_of(1, 0, &lists);
    let sound = run_of(bytes.clone());
    let ask = |run: &Run, key: u64| -> Result<Vec<Posting>, super::Broken> {
        if run.may_hold(key)? { run.forward(key, 0)?.collect() } else { Ok(Vec::new()) }
    };
    let mut state = 5;
    let mut broken = 0;
    for _ in 0..300 {
        let at = next(&mut state) as usize % bytes.len();
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (next(&mut state) % 8);
        let Ok(run) = Run::of(Region::memory(bytes), "") else {
            broken += 1;
            continue;
        };
        for key in lists.keys().step_by(50).chain([&42, &1]) {
            match ask(&run, *key) {
                Ok(positions) => assert_eq!(positions, ask(&sound, *key).unwrap(), "byte {at}"),
                Err(super::Broken) => broken += 1,
            }
        }
    }
    assert!(broken > 100, "{broken}");
    for cut in [0, 1, PAGE_BYTES - 1, PAGE_BYTES, bytes.len() / 2 / PAGE_BYTES * PAGE_BYTES] {
        assert!(Run::of(Region::memory(bytes[..cut].to_vec()), "").is_err(), "{cut} bytes");
    }
}

#[test]
fn numbers_come_back() {
    let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
    let mut bytes = Vec::new();
    numbers.iter().for_each(|number| put_number(&mut bytes, *number));
    let mut rest = &bytes[..];
    assert!(numbers.iter().all(|number| take_number(&mut rest) == Some(*number)) && take_number(&mut rest).is_none());
    assert_eq!(take_number(&mut &[0x80; 20][..]), None);
}
