//! The layers of an append and of reading it back, each alone: what is measured by `benches/layers.rs` in time and by `instructions` in instructions.
//!
//! Events are alike everywhere: 256 bytes of body, 80 of metadata, a stream's name of 15. Costs are per event.

use std::hint::black_box;

use chainring::{Durability, Event, Log, Options, Request, RingProbe, Store, VerifyOptions, Version, verify};
use chainring_format::frame::{FrameFields, FrameView, KIND_EVENT, slot_crc};
use chainring_format::hash::{self, EventContent, Leaf, LeafFields};
use chainring_format::lanes::{LaneBody, LaneEvent, Lanes};
use chainring_format::{EventId, Link, StreamId};
use tempfile::TempDir;

pub mod load;

/// Events of a group.
const GROUP: usize = 64;
const BODY_BYTES: usize = 256;
const SALT: [u8; 16] = [7; 16];
const METADATA_BYTES: usize = 80;
/// Events of the store that is read.
const STORED_EVENTS: usize = 20_000;
const STREAMS: usize = 200;
/// A store that is appended to is made anew when it is this large.
const APPENDED_EVENTS_MAX: usize = 500_000;

/// One thing to measure.
pub struct Layer {
    /// `room/what`.
    pub name: &'static str,
    /// Events that one call handles.
    pub events: usize,
    /// Makes ready what it needs, and gives what does it once.
    pub build: fn() -> Box<dyn FnMut()>,
}

/// All of them, from the caller down to the file and back up.
#[must_use]
pub fn layers() -> Vec<Layer> {
    let group = |name, build| Layer { name, events: GROUP, build };
    vec![
        group("ring/publish_drain", ring),
        group("link/digests_plain", digests_plain),
        group("link/digests_in_lanes", digests_in_lanes),
        group("link/link", link),
        group("frame/checksum_of_a_body", checksum),
        group("frame/encode", frame),
        group("frame/parse", parse),
        Layer { name: "commit/one_event_written", events: 1, build: || append(1) },
        group("commit/batch_of_64_written", || append(GROUP)),
        Layer { name: "scan/everything", events: STORED_EVENTS, build: scan },
        Layer { name: "scan/one_stream_of_100", events: STORED_EVENTS / STREAMS, build: stream },
        Layer { name: "verify/everything", events: STORED_EVENTS, build: verified },
    ]
}

/// Bytes that differ from place to place.
fn bytes(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|n| ((n * 31 + seed * 17) % 251) as u8).collect()
}

fn contents() -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..GROUP).map(|n| (bytes(BODY_BYTES, n), bytes(METADATA_BYTES, n + 1))).collect()
}

fn content<'a>(n: usize, metadata: &'a [u8], body_commit: &'a [u8; 32]) -> EventContent<'a> {
    EventContent {
        stream_id: StreamId([n as u8; 16]),
        event_id: EventId([n as u8 ^ 0xFF; 16]),
        batch_id: EventId::default(),
        batch_index: 0,
        batch_count: 0,
        body_commit,
        metadata,
    }
}

/// Claim, copy, publish; drain, look at the bytes, give back.
fn ring() -> Box<dyn FnMut()> {
    let mut probe = RingProbe::new(16, 256, 1 << 20);
    let event = bytes(BODY_BYTES + METADATA_BYTES + 15, 1);
    let run = move || {
        for lane in 0..GROUP as u16 {
            assert!(probe.publish(lane, &event), "the rings are drained every time");
        }
        let mut sum = 0;
        assert_eq!(probe.drain(|bytes| sum += usize::from(bytes[0])), GROUP);
        black_box(sum);
    };
    Box::new(run)
}

fn digests_plain() -> Box<dyn FnMut()> {
    let contents = contents();
    let run = move || {
        for (n, (body, metadata)) in contents.iter().enumerate() {
            let body_commit = hash::body_commit(&SALT, body);
            black_box(hash::event_digest(&content(n, metadata, &body_commit)));
        }
    };
    Box::new(run)
}

fn digests_in_lanes() -> Box<dyn FnMut()> {
    let contents = contents();
    let (mut lanes, mut digests) = (Lanes::new(), Vec::new());
    let run = move || {
        let events: Vec<LaneEvent<'_>> = (contents.iter().enumerate())
            .map(|(n, (body, metadata))| LaneEvent { content: content(n, metadata, &[0; 32]), body: LaneBody::Bytes { salt: SALT, body } })
            .collect();
        digests.clear();
        lanes.event_digests(&events, &mut digests);
        black_box(&digests);
    };
    Box::new(run)
}

/// One link after the other, as a chain must be.
fn link() -> Box<dyn FnMut()> {
    let mut head = [1; 32];
    let run = move || {
        for n in 0..GROUP as u64 {
            head = Leaf::new(&LeafFields {
                kind: KIND_EVENT,
                bucket: n as u16,
                version: n,
                recorded_at_ns: n,
                digest: &[3; 32],
                prev_bucket: &head,
                prev_stream: &[5; 32],
            })
            .link()
            .0;
        }
        black_box(head);
    };
    Box::new(run)
}

fn checksum() -> Box<dyn FnMut()> {
    let contents = contents();
    let run = move || {
        for (body, _) in &contents {
            black_box(slot_crc(body, Some(&SALT)));
        }
    };
    Box::new(run)
}

/// All of a frame but the checksum of its body.
fn fields<'a>(body: &'a [u8], metadata: &'a [u8]) -> FrameFields<'a> {
    FrameFields {
        kind: KIND_EVENT,
        version: 2,
        recorded_at_ns: 1,
        bucket_back: 3,
        stream_back: 4,
        batch_index: 0,
        batch_count: 0,
        stream_id: StreamId([1; 16]),
        event_id: EventId([2; 16]),
        link: Link([3; 32]),
        name: "",
        metadata,
        body,
        salt: Some(&SALT),
        slot_crc: 0,
    }
}

fn frame() -> Box<dyn FnMut()> {
    let contents = contents();
    let mut out = vec![0; fields(&contents[0].0, &contents[0].1).frame_bytes() as usize];
    let prepared: Vec<u32> = contents.iter().map(|(body, _)| slot_crc(body, Some(&SALT))).collect();
    let run = move || {
        for ((body, metadata), slot_crc) in contents.iter().zip(&prepared) {
            FrameFields { slot_crc: *slot_crc, ..fields(body, metadata) }.encode(&mut out, 9);
            black_box(&out);
        }
    };
    Box::new(run)
}

/// Both checksums, every length.
fn parse() -> Box<dyn FnMut()> {
    let frames: Vec<Vec<u8>> = contents()
        .iter()
        .map(|(body, metadata)| {
            let fields = FrameFields { slot_crc: slot_crc(body, Some(&SALT)), ..fields(body, metadata) };
            let mut out = vec![0; fields.frame_bytes() as usize];
            fields.encode(&mut out, 9);
            out
        })
        .collect();
    let run = move || {
        for frame in &frames {
            black_box(FrameView::parse(frame, 9).expect("just encoded"));
        }
    };
    Box::new(run)
}

fn event(n: usize) -> Event {
    Event::new(format!("order/{:09}", n % STREAMS), "OrderPlaced").body(bytes(BODY_BYTES, n))
}

/// The whole way of an append down to the page cache, without a thread beside it.
fn append(batch: usize) -> Box<dyn FnMut()> {
    let open = || {
        let directory = tempfile::tempdir().expect("a directory");
        let log = Options::new().keeper(false).open(directory.path().join("store")).expect("a new store");
        (directory, log)
    };
    let events: Vec<Event> = (0..STREAMS).map(event).collect();
    let mut opened: Option<(TempDir, Log)> = None;
    let mut appended = 0;
    let run = move || {
        if opened.is_none() || appended > APPENDED_EVENTS_MAX {
            opened = None;
            opened = Some(open());
            appended = 0;
        }
        let (_, log) = opened.as_ref().expect("just opened");
        let mut next = (appended..appended + batch).map(|n| events[n % STREAMS].clone());
        let request = if batch == 1 { Request::from(next.next().expect("one")) } else { Request::batch(next.collect()) };
        black_box(log.append(request.durability(Durability::Written)).expect("appended"));
        appended += batch;
    };
    Box::new(run)
}

fn stored() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let log = Log::open(directory.path().join("store")).expect("a new store");
    for first in (0..STORED_EVENTS).step_by(1000) {
        log.append(Request::batch((first..first + 1000).map(event).collect()).durability(Durability::Written)).expect("appended");
    }
    log.close().expect("closed");
    directory
}

fn scan() -> Box<dyn FnMut()> {
    let directory = stored();
    let store = Store::open(directory.path().join("store")).expect("a store");
    let run = move || {
        let _kept = &directory;
        let bodies: usize = store.latest().events().map(|event| event.expect("intact").body().map_or(0, <[u8]>::len)).sum();
        assert!(bodies >= STORED_EVENTS * BODY_BYTES);
    };
    Box::new(run)
}

fn stream() -> Box<dyn FnMut()> {
    let directory = stored();
    let store = Store::open(directory.path().join("store")).expect("a store");
    let run = move || {
        let _kept = &directory;
        let view = store.latest();
        let stream = view.stream("order/000000007").expect("intact").expect("it is there");
        let mut count = 0;
        for event in stream.forward(Version(0)).expect("intact") {
            black_box(event.expect("intact").body());
            count += 1;
        }
        assert_eq!(count, STORED_EVENTS / STREAMS);
    };
    Box::new(run)
}

/// By one thread, the file read as well.
fn verified() -> Box<dyn FnMut()> {
    let directory = stored();
    let run = move || {
        let report = verify(directory.path().join("store"), &VerifyOptions { threads: 1, ..VerifyOptions::default() }).expect("readable");
        assert!(report.fault.is_none());
    };
    Box::new(run)
}
