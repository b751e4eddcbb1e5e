//! Valid stores hold, and single changes to them are named by the right rule at the right place.

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use chainring_reader::{Error, FaultKind, Options, verify, walk};
use support::{Built, Draft, ORIGIN, Part, TempDir, check, event_id, fault, options, two_segments};

#[test]
fn a_valid_store_holds() {
    for block in [512, 4096, 65536] {
        let mut built = Built::new(block);
        let report = check(&built);
        assert_eq!((report.fault.clone(), report.records, report.events, report.verified_to), (None, 1, 0, Some(0)));
        assert!(!report.closed);
        built.commit(&[&[Draft::new("a", b"1")]]);
        built.close();
        let report = check(&built);
        assert_eq!(report.fault, None);
        assert!(report.closed);
        assert_eq!((report.log_id, report.origin.as_deref()), (Some(built.log_id), Some(ORIGIN)));
        assert_eq!(report.bytes, built.segments[0].bytes.len() as u64);
    }
}

#[test]
fn a_store_of_two_segments_holds_with_any_number_of_threads() {
    let built = two_segments();
    let dir = TempDir::new();
    built.write(dir.path());
    for threads in [0, 1, 2, 7] {
        let report = verify(dir.path(), &Options { threads, patience: Duration::ZERO }).expect("a report");
        assert_eq!(report.fault, None);
        let counted = (report.records, report.events, report.streams, report.erased, report.segments);
        assert_eq!(counted, (17, 16, 5, 2, 2));
        assert_eq!(report.verified_to, Some(16));
        assert_eq!(report.bytes, built.segments.iter().map(|segment| segment.bytes.len() as u64).sum::<u64>());
        assert!(report.closed);
    }
}

#[test]
fn a_sealed_last_segment_and_unused_space_hold() {
    let mut built = two_segments();
    built.footer();
    let report = check(&built);
    assert_eq!((report.fault, report.segments), (None, 2));
    let mut built = two_segments();
    built.segments[1].bytes.resize(300_000, 0);
    assert_eq!(check(&built).fault, None);
}

#[test]
fn names_that_are_not_segments_are_ignored() {
    let built = two_segments();
    let dir = TempDir::new();
    built.write(dir.path());
    for name in ["LOCK", "0000000003.seg.tmp", "0000000003.tmp", "3.seg", "0000000000.seg"] {
        fs::write(dir.path().join(name), b"whatever").expect("a file");
    }
    assert_eq!(verify(dir.path(), &options()).expect("a report").fault, None);
}

#[test]
fn a_directory_without_segments_is_not_a_store() {
    let dir = TempDir::new();
    assert!(matches!(verify(dir.path(), &options()), Err(Error::NotAStore(_))));
    assert!(matches!(verify(&dir.path().join("none"), &options()), Err(Error::Io { .. })));
    fs::create_dir(dir.path().join("0000000001.seg")).expect("a directory");
    assert!(matches!(verify(dir.path(), &options()), Err(Error::Io { .. })));
}

#[test]
fn a_walk_shows_every_record() {
    let built = two_segments();
    let dir = TempDir::new();
    built.write(dir.path());
    let mut seen = Vec::new();
    let report = walk(dir.path(), |record| {
        let batch = record.batch.map(|batch| (batch.id, batch.index, batch.count));
        let body = record.body.map(<[u8]>::to_vec);
        seen.push((record.position, record.version, record.stream.map(str::to_owned), record.event_id, batch, body));
        ControlFlow::Continue(())
    })
    .expect("a report");
    assert_eq!(report.fault, None);
    assert_eq!(seen.len(), 17);
    assert_eq!((seen[0].2.as_deref(), seen[0].4), (None, None));
    assert_eq!(seen[2], (2, 1, Some("orders/2".into()), event_id(2), Some((event_id(1), 1, 2)), Some(Vec::new())));
    assert_eq!(seen[3], (3, 2, Some("orders/1".into()), event_id(3), None, Some(vec![7; 700])));
    assert_eq!(seen[4], (4, 2, Some("orders/2".into()), event_id(4), None, None));
    assert_eq!(seen[12], (12, 6, Some("orders/1".into()), event_id(12), None, Some(b"second segment".to_vec())));
    let mut count = 0;
    walk(dir.path(), |_| {
        count += 1;
        if count == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .expect("a report");
    assert_eq!(count, 5);
}

#[test]
fn a_walk_ends_where_the_log_stops_holding() {
    let mut built = two_segments();
    let (index, at) = built.frame_at(9);
    built.segments[index].bytes[at + 130] ^= 1;
    let dir = TempDir::new();
    built.write(dir.path());
    let mut positions = Vec::new();
    let report = walk(dir.path(), |record| {
        positions.push(record.position);
        ControlFlow::Continue(())
    })
    .expect("a report");
    assert_eq!(report.verified_to, Some(8));
    assert_eq!(positions, (0..9).collect::<Vec<_>>());
}

/// A rewritten body with repaired checksums; `offset` is inside the frame's slot.
fn rewritten(position: u64) -> (Built, usize) {
    let mut built = two_segments();
    let (index, at) = built.frame_at(position);
    let frame = built.segments[index].spans.iter().find(|span| span.start == at).expect("a span").clone();
    let slot_at =
        at + 120 + usize::from(u16::from_le_bytes([built.segments[index].bytes[at + 20], built.segments[index].bytes[at + 21]])) + 7;
    assert!(slot_at < frame.end);
    built.segments[index].bytes[slot_at] ^= 0x20;
    built.repair_frame(index, at);
    (built, at)
}

#[test]
fn a_rewritten_body_is_tampered_at_its_frame() {
    for (position, segment, stream) in
        [(1, 0, "orders/1"), (10, 0, "orders/1"), (12, 1, "orders/1"), (13, 1, "orders/4"), (15, 1, "orders/2")]
    {
        let (built, at) = rewritten(position);
        let report = check(&built);
        let fault = report.fault.expect("a fault");
        assert_eq!((fault.kind, fault.rule, fault.offset), (FaultKind::Tampered, "H1", at as u64), "{position}: {fault}");
        assert_eq!((fault.segment, fault.position), (Built::name(segment), Some(position)));
        assert_eq!(fault.stream.as_deref(), Some(stream));
        let events_before = position - 1;
        assert_eq!((report.records, report.events, report.verified_to), (position, events_before, Some(position - 1)));
    }
}

/// Changes one frame, repairs its checksums, and gives the rule that is named; the fault must be at that frame.
fn rule_of_changed_frame(position: u64, change: impl FnOnce(&mut [u8])) -> &'static str {
    let mut built = two_segments();
    let (index, at) = built.frame_at(position);
    change(&mut built.segments[index].bytes[at..]);
    built.repair_frame(index, at);
    let report = check(&built);
    let fault = report.fault.expect("a fault");
    assert_eq!((fault.offset, fault.segment), (at as u64, Built::name(index)), "{}", fault.why);
    assert_eq!((fault.position, report.records), (Some(position), position));
    fault.rule
}

#[test]
fn every_changed_field_of_a_frame_has_its_rule() {
    assert_eq!(rule_of_changed_frame(1, |frame| frame[22] = 17), "F2");
    assert_eq!(rule_of_changed_frame(1, |frame| frame[23] = 2), "F2");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[24] = 0), "F4");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[24] = 3), "H1");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[38] -= 1), "H1");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[40] += 1), "H1");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[44] += 1), "H1");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[48] = 1), "F4");
    assert_eq!(rule_of_changed_frame(3, |frame| (frame[48], frame[52]) = (1, 2)), "B1");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[52] = 1), "H1");
    assert_eq!(rule_of_changed_frame(5, |frame| frame[52] = 2), "H1");
    assert_eq!(rule_of_changed_frame(2, |frame| frame[52] = 3), "B1");
    assert_eq!(rule_of_changed_frame(2, |frame| frame[48] = 0), "B1");
    assert_eq!(rule_of_changed_frame(1, |frame| frame[56] ^= 1), "F4");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[60] ^= 1), "H1");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[72..88].fill(0)), "F4");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[88] ^= 1), "H1");
    assert_eq!(rule_of_changed_frame(1, |frame| frame[120] = 0xFF), "F4");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[121] = 0x20), "M1");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[122] = 0x44), "M2");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[121] = 0x12), "M2");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[121] = 0x14), "M3");
    assert_eq!(rule_of_changed_frame(0, |frame| frame[22] = 16), "F7");
    assert_eq!(rule_of_changed_frame(3, |frame| frame[22] = 0), "F7");
    assert_eq!(rule_of_changed_frame(0, |frame| frame[24] = 1), "F7");
    assert_eq!(rule_of_changed_frame(0, |frame| frame[56] = 1), "F6");
    assert_eq!(rule_of_changed_frame(0, |frame| frame[72] = 1), "F6");
    assert_eq!(rule_of_changed_frame(0, |frame| frame[120 + 32] = 1), "H1");
    assert_eq!(rule_of_changed_frame(0, |frame| frame[120 + 64] ^= 1), "F7");
    assert_eq!(rule_of_changed_frame(0, |frame| frame[120 + 78] = 10), "F7");
    assert_eq!(rule_of_changed_frame(0, |frame| frame[120 + 95] = 1), "F7");
    assert_eq!(rule_of_changed_frame(0, |frame| frame[120 + 97] = 0xFF), "F7");
}

#[test]
fn an_event_id_used_twice_is_found_in_any_segment() {
    let mut built = Built::new(512);
    built.commit(&[&[Draft::new("a", b"1")]]);
    built.commit(&[&[Draft::new("b", b"2")]]);
    built.rotate();
    built.commit(&[&[Draft::new("a", b"3"), Draft::new("b", b"4").with_id(event_id(1)), Draft::new("b", b"5")]]);
    let (_, at) = built.frame_at(4);
    let report = check(&built);
    let fault = report.fault.expect("a fault");
    assert_eq!((fault.kind, fault.rule, fault.segment), (FaultKind::Tampered, "H2", Built::name(1)));
    assert_eq!((fault.offset, fault.position, fault.stream.as_deref()), (at as u64, Some(4), Some("b")));
    assert_eq!((report.records, report.events, report.verified_to), (4, 3, Some(3)));
}

#[test]
fn a_batch_is_whole_and_in_one_commit() {
    let mut built = Built::new(512);
    built.batch_count = Some(4);
    built.commit(&[&[Draft::new("a", b"1"), Draft::new("b", b"2"), Draft::new("c", b"3")]]);
    built.batch_count = None;
    built.commit(&[&[Draft::new("d", b"4")]]);
    let fault = fault(&built);
    let trailer = built.segments[0].spans.iter().filter(|span| span.part == Part::Trailer).nth(1).expect("a trailer");
    assert_eq!((fault.kind, fault.rule, fault.position), (FaultKind::Tampered, "B1", None));
    assert_eq!(fault.offset, (trailer.end - 512) as u64);
}

#[test]
fn events_may_share_the_commit_of_the_genesis_record() {
    let report = check(&Built::with_first_commit(512, &[Draft::new("a", b"1")]));
    assert_eq!((report.fault, report.records), (None, 2));
}

#[test]
fn trailers_have_their_rules() {
    let trailers = |built: &Built| -> Vec<usize> {
        built.segments[0].spans.iter().filter(|span| span.part == Part::Trailer).map(|span| span.start).collect()
    };
    let changed = |field: usize, value: &[u8]| {
        let mut built = two_segments();
        let at = trailers(&built)[2];
        built.segments[0].bytes[at + field..at + field + value.len()].copy_from_slice(value);
        built.repair_trailer(0, at);
        let report = check(&built);
        let fault = report.fault.expect("a fault");
        assert_eq!(fault.offset, (at + 160 - 512) as u64, "{}", fault.why);
        assert_eq!(report.verified_to, Some(5));
        (fault.kind, fault.rule)
    };
    let (corrupt, tampered) = (FaultKind::Corrupt, FaultKind::Tampered);
    assert_eq!(changed(8, &[5]), (tampered, "C5"));
    assert_eq!(changed(16, &[3]), (corrupt, "C4"));
    assert_eq!(changed(20, &[2]), (corrupt, "C4"));
    assert_eq!(changed(24, &[1]), (corrupt, "C4"));
    assert_eq!(changed(32, &[7]), (corrupt, "C4"));
    assert_eq!(changed(32, &[0]), (tampered, "C5"));
    assert_eq!(changed(40, &[0xFF]), (tampered, "C5"));
    assert_eq!(changed(48, &[0]), (tampered, "C5"));
    assert_eq!(changed(56, &[1]), (corrupt, "C4"));
    assert_eq!(changed(64, &[0, 0, 0, 0]), (tampered, "C6"));
    assert_eq!(changed(96, &[0, 0, 0, 0]), (tampered, "C6"));
    assert_eq!(changed(128, &[1]), (corrupt, "C4"));
    assert_eq!(changed(159, &[1]), (corrupt, "C4"));
}

#[test]
fn headers_have_their_rules() {
    let changed = |index: usize, field: usize, value: &[u8]| {
        let mut built = two_segments();
        built.write_header(index, |header| header[field..field + value.len()].copy_from_slice(value));
        let report = check(&built);
        let records = report.records;
        let fault = report.fault.expect("a fault");
        assert_eq!((fault.segment.as_str(), fault.offset), (Built::name(index).as_str(), 0), "{}", fault.why);
        assert_eq!(records, if index == 0 { 0 } else { 12 });
        (fault.kind, fault.rule)
    };
    let (corrupt, tampered) = (FaultKind::Corrupt, FaultKind::Tampered);
    assert_eq!(changed(0, 0, b"X"), (corrupt, "S4"));
    assert_eq!(changed(0, 12, &[2]), (corrupt, "S5"));
    assert_eq!(changed(1, 16, &[2]), (corrupt, "S5"));
    assert_eq!(changed(1, 16, &[1]), (corrupt, "S7"));
    assert_eq!(changed(1, 24, &[2]), (corrupt, "S5"));
    assert_eq!(changed(1, 25, &[2]), (corrupt, "S4"));
    assert_eq!(changed(1, 28, &[0, 3]), (corrupt, "S4"));
    assert_eq!(changed(1, 40, &[1]), (corrupt, "S4"));
    assert_eq!(changed(0, 32, &[2]), (tampered, "S6"));
    assert_eq!(changed(1, 32, &[3]), (tampered, "S6"));
    assert_eq!(changed(1, 48, &[0]), (tampered, "S6"));
    assert_eq!(changed(0, 56, &[1]), (tampered, "S6"));
    assert_eq!(changed(1, 56, &[11]), (tampered, "S6"));
    assert_eq!(changed(0, 64, &[0xFF]), (tampered, "S6"));
    assert_eq!(changed(1, 64, &[0xFF]), (tampered, "S6"));
    assert_eq!(changed(0, 88, &[0, 0]), (tampered, "S6"));
    assert_eq!(changed(1, 88, &[0, 0]), (tampered, "S6"));
    assert_eq!(changed(0, 120, &[1]), (tampered, "S6"));
    assert_eq!(changed(1, 144, &[0, 0]), (tampered, "S6"));
    assert_eq!(changed(1, 176, &[0, 0]), (tampered, "S6"));
    assert_eq!(changed(1, 208, &[8]), (corrupt, "S7"));
    assert_eq!(changed(1, 216, &[8]), (corrupt, "S7"));
    assert_eq!(changed(1, 224, &[1]), (corrupt, "S4"));
    assert_eq!(changed(1, 255, &[1]), (corrupt, "S4"));
    // A later program may demand more of writers; a reader reads.
    let mut built = two_segments();
    built.write_header(0, |header| header[14] = 9);
    assert_eq!(check(&built).fault, None);
}

#[test]
fn a_missing_segment_is_named() {
    let mut built = two_segments();
    built.rotate();
    built.commit(&[&[Draft::new("a", b"1")]]);
    let dir = TempDir::new();
    built.write(dir.path());
    fs::remove_file(dir.path().join(Built::name(1))).expect("removing");
    let report = verify(dir.path(), &options()).expect("a report");
    assert_eq!(report.verified_to, Some(11));
    let fault = report.fault.expect("a fault");
    assert_eq!((fault.kind, fault.rule, fault.segment, fault.offset), (FaultKind::Missing, "L1", Built::name(1), 0));
    fs::remove_file(dir.path().join(Built::name(0))).expect("removing");
    let report = verify(dir.path(), &options()).expect("a report");
    assert_eq!((report.verified_to, report.fault.map(|fault| fault.segment)), (None, Some(Built::name(0))));
}

#[test]
fn a_footer_made_wrong_is_tampered() {
    let mut built = two_segments();
    let span = built.segments[0].spans.iter().find(|span| span.part == Part::Footer).expect("a footer").clone();
    built.segments[0].bytes[span.start + 96 + 8] ^= 1;
    let report = check(&built);
    let damaged = report.fault.expect("a fault");
    assert_eq!((damaged.kind, damaged.rule, damaged.offset), (FaultKind::Corrupt, "T1", span.start as u64));
    assert_eq!(report.verified_to, Some(11));
    let footer = built.segments[0].bytes[span.start + 8..span.end].to_vec();
    let crc = support::masked(&[17; 16], span.start, &footer);
    built.segments[0].bytes[span.start + 4..span.start + 8].copy_from_slice(&crc.to_le_bytes());
    let fault = fault(&built);
    assert_eq!((fault.kind, fault.rule, fault.offset), (FaultKind::Tampered, "T1", span.start as u64));
}

#[test]
fn a_store_that_is_not_one_at_all_is_corrupt() {
    let cases: [&[u8]; 3] = [b"", b"CHRSEG\r\n", &[0; 70_000]];
    for bytes in cases {
        let dir = TempDir::new();
        fs::write(dir.path().join("0000000001.seg"), bytes).expect("writing");
        let report = verify(dir.path(), &options()).expect("a report");
        let fault = report.fault.expect("a fault");
        assert_eq!((fault.kind, fault.rule, fault.offset, report.records), (FaultKind::Corrupt, "S4", 0, 0));
    }
    let mut built = Built::new(512);
    built.segments[0].bytes.truncate(512);
    assert_eq!(fault(&built).rule, "F7");
}

#[test]
fn the_program_answers_in_json_and_exit_codes() {
    let program = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_chainring-reader")).args(arguments).output().expect("the program");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let text = |path: &Path| path.to_str().expect("a path of text").to_owned();
    let mut built = two_segments();
    let dir = TempDir::new();
    built.write(dir.path());
    let (code, out) = program(&["verify", &text(dir.path())]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["ok"], &json["records"], &json["fault"]), (Some(0), &true.into(), &17.into(), &serde_json::Value::Null));
    let (code, out) = program(&["dump", &text(dir.path())]);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((code, lines.len()), (Some(0), 17));
    assert_eq!(
        (&lines[1]["stream"], &lines[1]["body"], &lines[4]["body"]),
        (&"orders/1".into(), &"68656c6c6f".into(), &serde_json::Value::Null)
    );
    let (index, at) = built.frame_at(5);
    built.segments[index].bytes[at + 100] ^= 1;
    built.write(dir.path());
    let (code, out) = program(&["verify", &text(dir.path())]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["ok"], &json["rule"], &json["offset"]), (Some(1), &false.into(), &"F2".into(), &at.into()));
    assert_eq!(program(&["verify"]).0, Some(2));
    assert_eq!(program(&["verify", &text(&dir.path().join("none"))]).0, Some(3));
}
