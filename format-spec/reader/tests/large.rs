//! A store of the size people have. Built and verified on demand: `cargo test --release -p chainring-reader --test large -- --ignored --nocapture`.

mod support;

use std::fs;
use std::time::Instant;

use chainring_reader::{Options, verify};
use support::{Built, Draft, TempDir};

const EVENTS: u64 = 1_200_000;
const STREAMS: u64 = 60_000;
const SEGMENT_BYTES: usize = 64 << 20;

#[test]
#[ignore = "writes 700 MB"]
fn a_large_store_is_verified_in_seconds() {
    let dir = TempDir::new();
    let mut built = Built::new(4096);
    built.segment_bytes = 2 * SEGMENT_BYTES as u64;
    built.write_header(0, |header| header[40..48].copy_from_slice(&(2 * SEGMENT_BYTES as u64).to_le_bytes()));
    let mut appended = 0;
    while appended < EVENTS {
        let drafts: Vec<Draft> =
            (appended..appended + 64).map(|event| Draft::new(&format!("stream/{}", event * 7919 % STREAMS), &[event as u8; 370])).collect();
        let batches: Vec<&[Draft]> = drafts.chunks(4).collect();
        built.commit(&batches);
        appended += 64;
        let index = built.segments.len() - 1;
        if built.segments[index].bytes.len() > SEGMENT_BYTES {
            built.rotate();
            fs::write(dir.path().join(Built::name(index)), &built.segments[index].bytes).expect("writing");
            built.segments[index].bytes = Vec::new();
        }
    }
    built.close();
    let index = built.segments.len() - 1;
    fs::write(dir.path().join(Built::name(index)), &built.segments[index].bytes).expect("writing");
    for threads in [1, 2] {
        let started = Instant::now();
        let report = verify(dir.path(), &Options { threads, ..Options::default() }).expect("a report");
        assert_eq!((report.fault, report.events, report.streams), (None, EVENTS, STREAMS));
        println!(
            "{threads} threads: {:.2} s for {} MB in {} segments",
            started.elapsed().as_secs_f64(),
            report.bytes >> 20,
            report.segments
        );
    }
}
