//! Builds stores byte by byte from FORMAT.md, sharing nothing with the reader: a third reading of the document.
//!
//! Always: what it builds is valid unless a test changes it afterwards. [`Built::spans`] tells which structure every byte belongs to.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chainring_reader::{Fault, Options, Report, verify};

mod encode;

pub(crate) use encode::masked;
use encode::{Parts, derive, put};

pub(crate) type Hash = [u8; 32];

pub(crate) const ORIGIN: &str = "test-origin";

/// A directory that is removed with the value.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("chainring-reader-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What stands in a range of a segment file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Header,
    Frame { position: u64 },
    Padding,
    Trailer,
    Footer,
}

#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) part: Part,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// One event to append.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) stream: String,
    pub(crate) body: Vec<u8>,
    pub(crate) salted: bool,
    pub(crate) erased: bool,
    pub(crate) metadata: Vec<u8>,
    /// In place of the one its position gives.
    pub(crate) event_id: Option<[u8; 16]>,
}

impl Draft {
    pub(crate) fn new(stream: &str, body: &[u8]) -> Self {
        Draft {
            stream: stream.to_owned(),
            body: body.to_vec(),
            salted: false,
            erased: false,
            metadata: vec![0xA1, 0x01, 0x64, b'd', b'o', b'n', b'e'],
            event_id: None,
        }
    }

    pub(crate) fn salted(self) -> Self {
        Draft { salted: true, ..self }
    }

    pub(crate) fn with_id(self, event_id: [u8; 16]) -> Self {
        Draft { event_id: Some(event_id), ..self }
    }

    pub(crate) fn erased(self) -> Self {
        Draft { erased: true, ..self }
    }
}

#[derive(Clone, Copy)]
struct Last {
    version: u64,
    position: u64,
    link: Hash,
}

pub(crate) struct SegmentBytes {
    pub(crate) bytes: Vec<u8>,
    pub(crate) spans: Vec<Span>,
    salt: [u8; 16],
    first_position: u64,
    end: usize,
    offsets: Vec<u32>,
}

pub(crate) struct Built {
    pub(crate) block: usize,
    /// In place of the true number of events of a batch; hashed as if it were true.
    pub(crate) batch_count: Option<u32>,
    /// The size its segments are allowed to have.
    pub(crate) segment_bytes: u64,
    pub(crate) segments: Vec<SegmentBytes>,
    pub(crate) log_id: Hash,
    pub(crate) position: u64,
    epoch: u64,
    time: u64,
    watermark: u64,
    digest: Hash,
    buckets: BTreeMap<u16, (u64, Last)>,
    streams: BTreeMap<[u8; 16], Last>,
}

impl Built {
    /// A store with its genesis commit.
    pub(crate) fn new(block: usize) -> Self {
        Built::with_first_commit(block, &[])
    }

    /// A store whose first commit holds events too.
    pub(crate) fn with_first_commit(block: usize, drafts: &[Draft]) -> Self {
        let mut built = Built {
            block,
            batch_count: None,
            segment_bytes: 1 << 20,
            segments: Vec::new(),
            log_id: [0; 32],
            position: 0,
            epoch: 1,
            time: 1_700_000_000_000_000_000,
            watermark: 0,
            digest: [0; 32],
            buckets: BTreeMap::new(),
            streams: BTreeMap::new(),
        };
        built.begin_segment(0, 0);
        let mut body = vec![0; 96];
        put(&mut body, 0, &[9; 32]);
        put(&mut body, 64, &built.time.to_le_bytes());
        put(&mut body, 72, &4096u32.to_le_bytes());
        put(&mut body, 76, &1u16.to_le_bytes());
        put(&mut body, 78, &(ORIGIN.len() as u16).to_le_bytes());
        body.extend_from_slice(ORIGIN.as_bytes());
        let start = built.segment().bytes.len();
        let link = built.frame(&Parts {
            kind: 0,
            version: 0,
            bucket: 4096,
            bucket_back: 0,
            stream_back: 0,
            batch: (0, 0, [0; 16]),
            stream_id: [0; 16],
            event_id: [0; 16],
            name: &[],
            metadata: &[],
            body: &body,
            salt: None,
            erased: false,
            previous: ([0; 32], [0; 32]),
        });
        built.buckets.insert(4096, (1, Last { version: 0, position: 0, link }));
        built.log_id = link;
        let mut links = vec![link];
        for draft in drafts {
            links.push(built.event(draft, (0, 0, [0; 16])));
        }
        built.trailer(start, 0, &links, false);
        built.write_header(0, |header| put(header, 88, &link));
        built
    }

    fn segment(&mut self) -> &mut SegmentBytes {
        self.segments.last_mut().expect("a segment")
    }

    /// Changes a header and repairs its checksum.
    pub(crate) fn write_header(&mut self, index: usize, change: impl FnOnce(&mut [u8])) {
        let header = &mut self.segments[index].bytes[..256];
        change(header);
        let crc = crc32c::crc32c(&header[12..]);
        put(header, 8, &crc.to_le_bytes());
    }

    /// Appends one commit of batches; a batch of one event is appended alone.
    pub(crate) fn commit(&mut self, batches: &[&[Draft]]) {
        self.commit_as(batches, false);
    }

    /// Closes the log in order.
    pub(crate) fn close(&mut self) {
        self.commit_as(&[], true);
    }

    /// A new writable open.
    pub(crate) fn reopen(&mut self) {
        self.epoch += 1;
    }

    fn commit_as(&mut self, batches: &[&[Draft]], closed: bool) {
        let (start, first_position) = (self.segment().bytes.len(), self.position);
        let mut links = Vec::new();
        for batch in batches {
            let batch_id = if batch.len() > 1 { event_id(self.position) } else { [0; 16] };
            let count = if batch.len() > 1 { self.batch_count.unwrap_or(batch.len() as u32) } else { 0 };
            for (index, draft) in batch.iter().enumerate() {
                self.time += 1_000;
                links.push(self.event(draft, (index as u32, count, batch_id)));
            }
        }
        self.trailer(start, first_position, &links, closed);
    }

    fn event(&mut self, draft: &Draft, batch: (u32, u32, [u8; 16])) -> Hash {
        let name = draft.stream.as_bytes();
        let mut stream_id = [0; 16];
        stream_id.copy_from_slice(&derive("stream-id", &[name])[..16]);
        let bucket = u16::from_le_bytes([stream_id[0], stream_id[1]]) & 0x0FFF;
        let in_bucket = self.buckets.get(&bucket).copied();
        let in_stream = self.streams.get(&stream_id).copied();
        let version = in_stream.map_or(1, |last| last.version + 1);
        let position = self.position;
        let name_commit = derive("stream", &[&self.log_id, &(name.len() as u16).to_le_bytes(), name]);
        let link = self.frame(&Parts {
            kind: 16,
            version,
            bucket,
            bucket_back: in_bucket.map_or(0, |(_, last)| position - last.position),
            stream_back: in_stream.map_or(0, |last| position - last.position),
            batch,
            stream_id,
            event_id: draft.event_id.unwrap_or(event_id(position)),
            name: if version == 1 { name } else { &[] },
            metadata: &draft.metadata,
            body: &draft.body,
            salt: draft.salted.then_some([0xA5; 16]),
            erased: draft.erased,
            previous: (in_bucket.map_or(self.log_id, |(_, last)| last.link), in_stream.map_or(name_commit, |last| last.link)),
        });
        let last = Last { version, position, link };
        self.buckets.insert(bucket, (in_bucket.map_or(0, |(count, _)| count) + 1, last));
        self.streams.insert(stream_id, last);
        link
    }

    /// Seals the last segment with a footer and begins the next.
    pub(crate) fn rotate(&mut self) {
        let footer_bytes = self.footer();
        self.begin_segment(footer_bytes, 0);
    }

    /// Begins the next segment as recovery does, after `tail` was found behind the last commit.
    pub(crate) fn recover(&mut self, tail: &[u8]) {
        self.segment().bytes.extend_from_slice(tail);
        self.epoch += 1;
        let cut = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        self.begin_segment(0, cut);
    }

    /// Sets `header_crc` and `body_crc` of the frame at `at` of segment `index` right for what its bytes now are.
    pub(crate) fn repair_frame(&mut self, index: usize, at: usize) {
        let segment = &mut self.segments[index];
        let frame = &mut segment.bytes[at..];
        let number = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]) as usize;
        let slot_at = 120 + usize::from(u16::from_le_bytes([frame[20], frame[21]])) + number(12);
        let slot_end = slot_at + (number(16) + if frame[23] == 1 { 16 } else { 0 }).max(32);
        let header_crc = masked(&segment.salt, at, &frame[12..slot_at]);
        let body_crc = masked(&segment.salt, at, &frame[slot_at..slot_end]);
        put(frame, 4, &header_crc.to_le_bytes());
        put(frame, 8, &body_crc.to_le_bytes());
    }

    /// Sets `trailer_crc` of the trailer at `at` of segment `index` right.
    pub(crate) fn repair_trailer(&mut self, index: usize, at: usize) {
        let segment = &mut self.segments[index];
        let crc = masked(&segment.salt, at, &segment.bytes[at + 8..at + 160]);
        put(&mut segment.bytes, at + 4, &crc.to_le_bytes());
    }

    /// The span of the frame at `position`, with the index of its segment.
    pub(crate) fn frame_at(&self, position: u64) -> (usize, usize) {
        for (index, segment) in self.segments.iter().enumerate() {
            for span in &segment.spans {
                if span.part == (Part::Frame { position }) {
                    return (index, span.start);
                }
            }
        }
        panic!("no record at {position}");
    }

    pub(crate) fn name(index: usize) -> String {
        format!("{:010}.seg", index + 1)
    }

    /// Writes the segment files.
    pub(crate) fn write(&self, dir: &Path) {
        for (index, segment) in self.segments.iter().enumerate() {
            fs::write(dir.join(Self::name(index)), &segment.bytes).expect("writing a segment");
        }
    }
}

/// The event id the builder gives at a position.
pub(crate) fn event_id(position: u64) -> [u8; 16] {
    let mut id = [0xE0; 16];
    put(&mut id, 8, &position.to_le_bytes());
    id
}

/// Two segments with a footer, batches, salted, erased and large bodies, several commits.
pub(crate) fn two_segments() -> Built {
    let mut built = Built::new(512);
    built.commit(&[&[Draft::new("orders/1", b"hello"), Draft::new("orders/2", b"")], &[Draft::new("orders/1", &[7; 700]).salted()]]);
    built.commit(&[&[Draft::new("orders/2", &[0x21; 40]).erased()], &[Draft::new("orders/3", &[0x21; 33]).salted().erased()]]);
    built.commit(&[]);
    for _ in 0..3 {
        built.commit(&[&[Draft::new("orders/1", b"again"), Draft::new("orders/3", b"more")]]);
    }
    built.rotate();
    built.commit(&[&[Draft::new("orders/1", b"second segment")], &[Draft::new("orders/4", b"first of a stream")]]);
    built.reopen();
    built.commit(&[&[Draft::new("orders/4", b"x"), Draft::new("orders/2", &[3; 300]), Draft::new("orders/5", b"z").salted()]]);
    built.close();
    built
}

/// Judges at once: no writer is at work in these tests.
pub(crate) fn options() -> Options {
    Options { threads: 2, patience: Duration::ZERO }
}

/// What the reader says of a built store.
pub(crate) fn check(built: &Built) -> Report {
    let dir = TempDir::new();
    built.write(dir.path());
    verify(dir.path(), &options()).expect("a report")
}

/// The fault the reader finds in it.
pub(crate) fn fault(built: &Built) -> Fault {
    check(built).fault.expect("a fault")
}
