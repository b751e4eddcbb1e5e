//! Every byte flipped, and every length of the last segment: always an answer, always at the right place, never a panic.

mod support;

use std::fs;
use std::time::Duration;

use chainring_reader::{FaultKind, Options, Report, verify};
use support::{Built, Draft, Part, Span, TempDir};

fn options() -> Options {
    Options { threads: 1, patience: Duration::ZERO }
}

fn small_closed_store() -> Built {
    let mut built = Built::new(512);
    built.commit(&[&[Draft::new("a", b"1").salted(), Draft::new("b", b"2")]]);
    built.commit(&[&[Draft::new("a", &[9; 64]).erased()]]);
    built.rotate();
    built.commit(&[&[Draft::new("b", b"3")], &[Draft::new("c", &[0x55; 600])]]);
    built.commit(&[&[Draft::new("c", b"4")]]);
    built.close();
    built
}

/// Whether a fault at `offset` blames the structure, or the block in it, that holds the byte at `flipped`.
fn blames(span: &Span, offset: u64, flipped: usize) -> bool {
    let block = (flipped / 512 * 512) as u64;
    match span.part {
        Part::Header => offset == 0,
        Part::Frame { .. } => offset == span.start as u64,
        Part::Padding | Part::Trailer => offset == block,
        Part::Footer => offset == block.max(span.start as u64),
    }
}

#[test]
fn every_flipped_byte_is_reported_where_it_is() {
    let built = small_closed_store();
    let dir = TempDir::new();
    built.write(dir.path());
    assert_eq!(verify(dir.path(), &options()).expect("a report").fault, None);
    for (index, segment) in built.segments.iter().enumerate() {
        let path = dir.path().join(Built::name(index));
        for span in &segment.spans {
            for at in span.start..span.end {
                for flip in [0x01, 0x80, 0xFF] {
                    let mut bytes = segment.bytes.clone();
                    bytes[at] ^= flip;
                    fs::write(&path, &bytes).expect("writing");
                    let report = verify(dir.path(), &options()).expect("a report");
                    let fault =
                        report.fault.clone().unwrap_or_else(|| panic!("byte {at} of segment {index} ({:?}) is not missed", span.part));
                    assert_eq!(fault.kind, FaultKind::Corrupt, "byte {at} of segment {index} ({:?}): {fault:?}", span.part);
                    assert_eq!(fault.segment, Built::name(index), "byte {at} ({:?}): {fault:?}", span.part);
                    assert!(blames(span, fault.offset, at), "byte {at} of segment {index}, {span:?}: {fault:?}");
                    assert_counts(&built, span, index, &report);
                }
            }
        }
        fs::write(&path, &segment.bytes).expect("writing");
    }
}

/// The records in front of the damaged structure, and only those, are verified.
fn assert_counts(built: &Built, damaged: &Span, index: usize, report: &Report) {
    let before = built.segments[..index].iter().flat_map(|segment| &segment.spans);
    let in_front = built.segments[index].spans.iter().filter(|span| span.end <= damaged.start);
    let records = before.chain(in_front).filter(|span| matches!(span.part, Part::Frame { .. })).count() as u64;
    assert_eq!((report.records, report.verified_to), (records, records.checked_sub(1)), "{damaged:?}");
}

#[test]
fn every_length_of_the_last_segment_gives_the_verdict_of_section_9() {
    let built = small_closed_store();
    let dir = TempDir::new();
    built.write(dir.path());
    let segment = &built.segments[1];
    let path = dir.path().join(Built::name(1));
    let commit_ends: Vec<usize> = segment.spans.iter().filter(|span| span.part == Part::Trailer).map(|span| span.end).collect();
    let mut verdicts = [0; 3];
    for length in 0..segment.bytes.len() {
        fs::write(&path, &segment.bytes[..length]).expect("writing");
        let report = verify(dir.path(), &options()).expect("a report");
        let fault = report.fault.map(|fault| (fault.kind, fault.rule, fault.offset));
        let end = commit_ends.iter().rev().find(|end| **end <= length).copied().unwrap_or(512);
        let expected = match length {
            // The header was on stable storage before the file had its name.
            0..512 => Some((FaultKind::Corrupt, "S4", 0)),
            _ if length == end => None,
            // Whatever was written of a commit, its end is missing.
            _ => Some((FaultKind::Torn, "R", end as u64)),
        };
        assert_eq!(fault, expected, "length {length}");
        verdicts[match expected {
            None => 0,
            Some((FaultKind::Torn, ..)) => 1,
            Some(_) => 2,
        }] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 0), "{verdicts:?}");
}

#[test]
fn every_length_of_a_segment_with_a_successor_is_missing_bytes() {
    let built = small_closed_store();
    let dir = TempDir::new();
    built.write(dir.path());
    let path = dir.path().join(Built::name(0));
    for length in 0..built.segments[0].bytes.len() {
        fs::write(&path, &built.segments[0].bytes[..length]).expect("writing");
        let fault = verify(dir.path(), &options()).expect("a report").fault.expect("a fault");
        assert_eq!((fault.kind, fault.rule, fault.segment), (FaultKind::Missing, "S1", Built::name(0)), "length {length}");
        assert_eq!(fault.offset, length as u64);
    }
}

/// A small generator of repeatable noise.
fn noise(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn random_damage_never_passes_and_never_panics() {
    let built = small_closed_store();
    let dir = TempDir::new();
    let mut state = 0x9E37_79B9_7F4A_7C15;
    for round in 0..3000 {
        let index = (noise(&mut state) % 2) as usize;
        built.write(dir.path());
        let mut bytes = built.segments[index].bytes.clone();
        let end = bytes.len();
        for _ in 0..=noise(&mut state) % 6 {
            let at = noise(&mut state) as usize % end;
            let count = (noise(&mut state) as usize % 40).min(end - at);
            for byte in &mut bytes[at..at + count] {
                *byte = match round % 3 {
                    0 => noise(&mut state) as u8,
                    1 => 0xFF,
                    _ => 0,
                };
            }
        }
        if bytes == built.segments[index].bytes {
            continue;
        }
        fs::write(dir.path().join(Built::name(index)), &bytes).expect("writing");
        let report = verify(dir.path(), &options()).expect("a report");
        let fault = report.fault.unwrap_or_else(|| panic!("round {round} is missed"));
        assert_ne!(fault.kind, FaultKind::Tampered, "round {round}: {fault:?}");
    }
}

#[test]
fn random_lies_with_right_checksums_are_found() {
    let dir = TempDir::new();
    let mut state = 0xD1B5_4A32_D192_ED03;
    let mut tampered = 0;
    for round in 0..3000 {
        let mut built = small_closed_store();
        let index = (noise(&mut state) % 2) as usize;
        let before = built.segments[index].bytes.clone();
        let spans = &built.segments[index].spans;
        let span = spans[noise(&mut state) as usize % spans.len()].clone();
        let value = noise(&mut state).to_le_bytes();
        let count = 1 + noise(&mut state) as usize % 8;
        let (from, to) = match span.part {
            // The lengths of a frame stay, so that its checksums can be put right.
            Part::Frame { .. } => (span.start + 22, span.end),
            Part::Header => (12, 256),
            Part::Trailer => (span.start + 8, span.end),
            Part::Padding | Part::Footer => continue,
        };
        let at = from + noise(&mut state) as usize % (to - from - count);
        built.segments[index].bytes[at..at + count].copy_from_slice(&value[..count]);
        match span.part {
            // Another salt flag means another slot, which the frame has no room for.
            Part::Frame { .. } if built.segments[index].bytes[span.start + 23] != before[span.start + 23] => {}
            Part::Frame { .. } => built.repair_frame(index, span.start),
            Part::Header => built.write_header(index, |_| ()),
            _ => built.repair_trailer(index, span.start),
        }
        if built.segments[index].bytes == before {
            continue;
        }
        built.write(dir.path());
        let report = verify(dir.path(), &options()).expect("a report");
        let free = is_free(&span, &before, &built.segments[index].bytes);
        let fault = report.fault.map(|fault| fault.kind);
        assert!(fault.is_some() || free, "round {round}: {count} bytes at {at} of segment {index}, {span:?} are missed");
        tampered += u32::from(fault == Some(FaultKind::Tampered));
    }
    assert!(tampered > 500, "{tampered}");
}

/// What no hash binds, so that another value may pass: some header fields, and a trailer's watermark, epoch and closing flag.
fn is_free(span: &Span, before: &[u8], after: &[u8]) -> bool {
    let changed = |at: &usize| before[*at] != after[*at];
    let free: &[std::ops::Range<usize>] = match span.part {
        // The checksum itself, write_version, segment_bytes, the epoch, prev_cut_bytes.
        Part::Header => &[8..12, 14..16, 40..56, 136..144],
        Part::Trailer => &[4..8, 20..24, 32..40, 48..56],
        _ => &[],
    };
    (span.start..span.end).filter(changed).all(|at| free.iter().any(|range| range.contains(&(at - span.start))))
}
