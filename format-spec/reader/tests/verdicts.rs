//! The end of a log (FORMAT.md section 9): what is torn, what is damage, and what is not there at all.

mod support;

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use chainring_reader::{FaultKind, Options, Report, verify};
use support::{Built, Draft, Part, TempDir, check, fault, options, two_segments};

#[test]
fn what_recovery_cut_does_not_exist() {
    let mut built = Built::new(512);
    built.commit(&[&[Draft::new("a", b"1")]]);
    let kept = built.segments[0].bytes.len() as u64;
    built.recover(&[&[0x98, 0, 0, 0][..], &[0; 508], &[0xEE; 700]].concat());
    built.commit(&[&[Draft::new("a", b"2")]]);
    let report = check(&built);
    assert_eq!((report.fault, report.records), (None, 3));
    assert_eq!(report.bytes, kept + built.segments[1].bytes.len() as u64);
}

#[test]
fn a_zeroed_sector_is_torn_at_the_end_and_corrupt_before() {
    let mut checked = 0;
    let built = two_segments();
    for (index, segment) in built.segments.iter().enumerate() {
        for sector in (0..segment.bytes.len()).step_by(512) {
            let mut built = two_segments();
            let end = built.segments[index].bytes.len().min(sector + 512);
            built.segments[index].bytes[sector..end].fill(0);
            let report = check(&built);
            // The last commit of the store is the closing one, a block of its own: without it the log was killed, not damaged.
            if index == 1 && end == segment.bytes.len() {
                assert_eq!((report.fault, report.closed, report.verified_to), (None, false, Some(16)));
                continue;
            }
            let fault = report.fault.expect("a fault");
            assert_eq!(
                (fault.kind, fault.segment.as_str()),
                (FaultKind::Corrupt, Built::name(index).as_str()),
                "sector {sector}: {fault:?}"
            );
            checked += 1;
        }
    }
    assert!(checked > 10);
}

#[test]
fn a_torn_commit_is_torn() {
    let mut built = two_segments();
    let whole = built.segments[1].bytes.len();
    built.commit(&[&[Draft::new("orders/9", &[5; 1500]), Draft::new("orders/1", b"x")]]);
    for sector in (whole..built.segments[1].bytes.len()).step_by(512) {
        let mut bytes = built.segments[1].bytes.clone();
        bytes[sector..sector + 512].fill(0);
        let dir = TempDir::new();
        built.write(dir.path());
        fs::write(dir.path().join(Built::name(1)), &bytes).expect("writing");
        let report = verify(dir.path(), &options()).expect("a report");
        let fault = report.fault.expect("a fault");
        assert_eq!(fault.kind, FaultKind::Torn, "sector {sector}: {fault:?}");
        assert_eq!((fault.rule, fault.offset, fault.position, report.verified_to), ("R", whole as u64, None, Some(16)));
    }
}

#[test]
fn acknowledged_bytes_cannot_tear() {
    // The next commit's watermark says the damaged one was on stable storage.
    let mut built = two_segments();
    let start = built.segments[1].bytes.len();
    built.commit(&[&[Draft::new("orders/9", &[5; 1500])]]);
    built.commit(&[&[Draft::new("orders/9", b"after")]]);
    built.segments[1].bytes[start + 512..start + 1024].fill(0);
    let fault = fault(&built);
    assert_eq!((fault.kind, fault.rule, fault.offset, fault.position), (FaultKind::Corrupt, "F3", start as u64, Some(17)));
    assert_eq!(fault.stream.as_deref(), Some("orders/9"));
}

/// What recovery cut stands behind the first segment, and the second one's header is damaged: then nobody names the first one's end.
fn recovered_with_a_bad_successor(tail: &[u8]) -> Report {
    let mut built = Built::new(512);
    built.commit(&[&[Draft::new("a", b"1")]]);
    built.recover(tail);
    built.commit(&[&[Draft::new("a", b"2")]]);
    built.segments[1].bytes[60] ^= 1;
    check(&built)
}

#[test]
fn what_was_cut_is_no_fault_though_the_successor_is_damaged() {
    let tail = [&[0x98, 0, 0, 0][..], &[0; 508], &[0xEE; 700]].concat();
    let report = recovered_with_a_bad_successor(&tail);
    let fault = report.fault.expect("a fault");
    assert_eq!((fault.kind, fault.rule, fault.segment, fault.offset), (FaultKind::Corrupt, "S4", Built::name(1), 0));
    assert_eq!((report.records, report.segments), (2, 1));
}

#[test]
fn damage_in_front_of_a_damaged_successor_comes_first() {
    let mut built = two_segments();
    let (index, at) = built.frame_at(6);
    built.segments[index].bytes[at + 100] ^= 1;
    built.segments[1].bytes[60] ^= 1;
    let fault = fault(&built);
    assert_eq!((fault.rule, fault.segment, fault.offset), ("F2", Built::name(0), at as u64));
}

#[test]
fn a_tampered_record_in_front_of_damage_comes_first() {
    let mut built = two_segments();
    let (index, at) = built.frame_at(13);
    built.segments[index].bytes[at + 88] ^= 1;
    built.repair_frame(index, at);
    let (index, behind) = built.frame_at(15);
    built.segments[index].bytes[behind + 100] ^= 1;
    let fault = fault(&built);
    assert_eq!((fault.kind, fault.rule, fault.offset, fault.position), (FaultKind::Tampered, "H1", at as u64, Some(13)));
}

#[test]
fn a_record_in_a_torn_commit_is_not_judged() {
    let mut built = two_segments();
    let whole = built.segments[1].bytes.len();
    built.commit(&[&[Draft::new("a", &[5; 400]), Draft::new("b", &[6; 900])]]);
    let (index, at) = built.frame_at(17);
    built.segments[index].bytes[at + 88] ^= 1;
    built.repair_frame(index, at);
    built.segments[1].bytes[whole + 1024..whole + 1536].fill(0);
    let report = check(&built);
    let fault = report.fault.expect("a fault");
    assert_eq!((fault.kind, fault.rule, fault.offset), (FaultKind::Torn, "R", whole as u64));
    assert_eq!((report.records, report.streams), (17, 5));
}

#[test]
fn a_damaged_footer_at_the_end_of_the_log() {
    // With blocks of one sector a footer leaves no zero sector behind it, so it is damage; the file is filled up to whole blocks.
    let mut built = two_segments();
    built.footer();
    let footer = built.segments[1].spans.iter().find(|span| span.part == Part::Footer).expect("a footer").clone();
    let length = built.segments[1].bytes.len().next_multiple_of(512);
    built.segments[1].bytes.resize(length, 0);
    built.segments[1].bytes[footer.end - 20] ^= 1;
    let report = check(&built);
    let fault = report.fault.expect("a fault");
    assert_eq!((fault.kind, fault.rule), (FaultKind::Corrupt, "T1"));
    assert_eq!((fault.offset, report.verified_to), ((footer.end - 20) as u64 / 512 * 512, Some(16)));
}

#[test]
fn a_segment_that_says_another_end_is_damage() {
    for end in [0u64, 100, 1024, 1 << 40, u64::MAX] {
        let mut built = two_segments();
        built.write_header(1, |header| header[120..128].copy_from_slice(&end.to_le_bytes()));
        let fault = fault(&built);
        assert_eq!(fault.segment, Built::name(0), "end {end}: {fault}");
        assert!(matches!(fault.kind, FaultKind::Corrupt | FaultKind::Missing), "end {end}: {fault}");
    }
}

#[test]
fn a_log_in_use_is_not_called_torn() {
    let mut built = two_segments();
    let whole = built.segments[1].bytes.len();
    built.commit(&[&[Draft::new("orders/9", &[5; 2500]), Draft::new("orders/1", b"x")]]);
    let dir = TempDir::new();
    built.write(dir.path());
    let (path, bytes) = (dir.path().join(Built::name(1)), built.segments[1].bytes.clone());
    // The commit's first half is there, its second is on its way.
    let half = whole + 1024;
    let mut file = OpenOptions::new().write(true).open(&path).expect("the segment");
    file.set_len(half as u64).expect("a shorter file");
    file.set_len(bytes.len() as u64).expect("zeros in its place");
    file.seek(SeekFrom::Start(half as u64 + 512)).expect("seeking");
    file.write_all(&bytes[half + 512..]).expect("writing");
    assert_eq!(verify(dir.path(), &options()).expect("a report").fault.map(|fault| fault.kind), Some(FaultKind::Torn));
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        file.seek(SeekFrom::Start(half as u64)).expect("seeking");
        file.write_all(&bytes[half..]).expect("writing");
    });
    let patient = Options { threads: 1, patience: Duration::from_secs(2) };
    let report = verify(dir.path(), &patient).expect("a report");
    writer.join().expect("the writer");
    assert_eq!((report.fault, report.records), (None, 19));
}
