//! However events are grouped into commits and segments: the same input, clock and randomness give the same bodies, metadata, digests and links.

mod support;

use std::sync::Arc;

use chainring::disk::Environment;
use chainring::disk::sim::{SimClock, SimDisk, SimEntropy, SimRandom};
use chainring::{Durability, Link, Options, Request};
use support::request;

#[derive(Clone, Copy)]
enum Grouping {
    EachWaited,
    AllInFlight,
    Written,
}

fn links(segment_bytes: u64, block_bytes: u32, grouping: Grouping) -> Vec<(Vec<u8>, Vec<u8>, u64, Link)> {
    let disk = SimDisk::new().with_block_bytes(block_bytes);
    let clock = Arc::new(SimClock::new(1_000_000_000_000, 17));
    let environment = Environment { disk: Arc::new(disk), clock, entropy: Arc::new(SimEntropy::new(42)) };
    let log = Options::new().segment_bytes(segment_bytes).open_in(environment, "simulated").unwrap();
    let mut random = SimRandom::new(3);
    let mut pending = Vec::new();
    for _ in 0..200 {
        let request: Request = request(&mut random, 9).1;
        match grouping {
            Grouping::EachWaited => drop(log.append(request).unwrap()),
            Grouping::Written => drop(log.append(request.durability(Durability::Written)).unwrap()),
            Grouping::AllInFlight => pending.push(log.submit(request).unwrap()),
        }
    }
    pending.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    log.sync().unwrap();
    let view = log.latest();
    let row = |event: chainring::EventRef<'_>| {
        (event.metadata_bytes().to_vec(), event.body().unwrap().to_vec(), event.recorded_at_ns(), event.link())
    };
    view.events().map(|event| row(event.unwrap())).collect()
}

#[test]
fn grouping_does_not_change_a_single_link() {
    let expected = links(64 << 10, 512, Grouping::EachWaited);
    assert!(expected.len() > 300);
    for segment_bytes in [64 << 10, 1 << 20, 64 << 20] {
        for block_bytes in [512, 4096, 65536] {
            for grouping in [Grouping::EachWaited, Grouping::AllInFlight, Grouping::Written] {
                let segment_bytes = segment_bytes.max(u64::from(block_bytes) * 8);
                assert_eq!(links(segment_bytes, block_bytes, grouping), expected, "{segment_bytes} {block_bytes}");
            }
        }
    }
}
