//! Builds stores byte by byte from FORMAT.md, sharing nothing with the reader: a third reading of the document.
//!
//! Always: what it builds is valid unless a test changes it afterwards. [`Built::spans`] tells which structure every byte belongs to.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

pub(crate) type Hash = [u8; 32];

pub(crate) const ORIGIN: &str = "test-origin";
const CONTEXT: &str = "chainring 2026-11 v1 ";

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
    pub(crate) stream: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) salted: bool,
    pub(crate) erased: bool,
    pub(crate) metadata: Vec<u8>,
}

impl Draft {
    pub(crate) fn new(stream: &'static str, body: &[u8]) -> Self {
        Draft { stream, body: body.to_vec(), salted: false, erased: false, metadata: vec![0xA1, 0x01, 0x64, b'd', b'o', b'n', b'e'] }
    }

    pub(crate) fn salted(self) -> Self {
        Draft { salted: true, ..self }
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

pub(crate) fn derive(context: &str, parts: &[&[u8]]) -> Hash {
    blake3::derive_key(&format!("{CONTEXT}{context}"), &parts.concat())
}

fn pad64(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = parts.concat();
    all.resize(all.len().div_ceil(64) * 64, 0);
    all
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Section 3.2.
pub(crate) fn masked(salt: &[u8; 16], offset: usize, bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes) ^ crc32c::crc32c(&[&salt[..], &(offset as u64).to_le_bytes()].concat())
}

struct Parts<'a> {
    kind: u8,
    version: u64,
    bucket: u16,
    bucket_back: u64,
    stream_back: u64,
    batch: (u32, u32, [u8; 16]),
    stream_id: [u8; 16],
    event_id: [u8; 16],
    name: &'a [u8],
    metadata: &'a [u8],
    body: &'a [u8],
    salt: Option<[u8; 16]>,
    erased: bool,
    previous: (Hash, Hash),
}

impl Built {
    /// A store with its genesis commit.
    pub(crate) fn new(block: usize) -> Self {
        let mut built = Built {
            block,
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
        built.trailer(start, 0, &[link], false);
        built.write_header(0, |header| put(header, 88, &link));
        built
    }

    fn segment(&mut self) -> &mut SegmentBytes {
        self.segments.last_mut().expect("a segment")
    }

    fn begin_segment(&mut self, prev_footer_bytes: usize, cut: u64) {
        let number = self.segments.len() + 1;
        let mut header = vec![0; self.block];
        put(&mut header, 0, b"CHRSEG\r\n");
        put(&mut header, 12, &[1, 0, 1, 0]);
        header[24] = 1;
        put(&mut header, 28, &(self.block as u32).to_le_bytes());
        put(&mut header, 32, &(number as u64).to_le_bytes());
        put(&mut header, 40, &(1u64 << 20).to_le_bytes());
        put(&mut header, 48, &self.epoch.to_le_bytes());
        put(&mut header, 56, &self.position.to_le_bytes());
        put(&mut header, 64, &self.time.to_le_bytes());
        let salt = [number as u8 * 17; 16];
        put(&mut header, 72, &salt);
        put(&mut header, 88, &self.log_id);
        if let Some(before) = self.segments.last() {
            put(&mut header, 120, &(before.end as u64).to_le_bytes());
            put(&mut header, 128, &(prev_footer_bytes as u64).to_le_bytes());
            put(&mut header, 136, &cut.to_le_bytes());
            put(&mut header, 144, &self.digest);
            put(&mut header, 176, &self.heads_root());
        }
        let crc = crc32c::crc32c(&header[12..256]);
        put(&mut header, 8, &crc.to_le_bytes());
        let spans = vec![Span { part: Part::Header, start: 0, end: self.block }];
        let first_position = self.position;
        self.segments.push(SegmentBytes { end: header.len(), bytes: header, spans, salt, first_position, offsets: Vec::new() });
    }

    /// Changes a header and repairs its checksum.
    pub(crate) fn write_header(&mut self, index: usize, change: impl FnOnce(&mut [u8])) {
        let header = &mut self.segments[index].bytes[..256];
        change(header);
        let crc = crc32c::crc32c(&header[12..]);
        put(header, 8, &crc.to_le_bytes());
    }

    fn heads_root(&self) -> Hash {
        let leaves: Vec<Hash> = (0u16..4096)
            .map(|bucket| {
                let (events, link) = self.buckets.get(&bucket).map_or((0, self.log_id), |(events, last)| (*events, last.link));
                Sha256::digest([&[0][..], &bucket.to_le_bytes(), &events.to_le_bytes(), &link].concat()).into()
            })
            .collect();
        fn tree(leaves: &[Hash]) -> Hash {
            if leaves.len() == 1 {
                return leaves[0];
            }
            let (left, right) = leaves.split_at(leaves.len() / 2);
            Sha256::digest([&[1][..], &tree(left), &tree(right)].concat()).into()
        }
        tree(&leaves)
    }

    fn frame(&mut self, parts: &Parts<'_>) -> Hash {
        let (suite, time, position) = (1u8, self.time, self.position);
        let salt = parts.salt.unwrap_or([0; 16]);
        let body_commit = derive("body", &[&pad64(&[&salt, &(parts.body.len() as u64).to_le_bytes(), parts.body])]);
        let digest = derive(
            "event",
            &[&pad64(&[
                &parts.stream_id,
                &parts.event_id,
                &parts.batch.2,
                &parts.batch.0.to_le_bytes(),
                &parts.batch.1.to_le_bytes(),
                &(parts.metadata.len() as u32).to_le_bytes(),
                &[0; 4],
                &body_commit,
                parts.metadata,
            ])],
        );
        let leaf = [
            &[parts.kind, suite][..],
            &parts.bucket.to_le_bytes(),
            &parts.version.to_le_bytes(),
            &time.to_le_bytes(),
            &digest,
            &parts.previous.0,
            &parts.previous.1,
        ]
        .concat();
        assert_eq!(leaf.len(), 116);
        let link: Hash = Sha256::digest([&[0][..], &leaf].concat()).into();

        let mut slot = parts.body.to_vec();
        if let Some(salt) = parts.salt {
            slot.extend_from_slice(&salt);
        }
        slot.resize(slot.len().max(32), 0);
        if parts.erased {
            slot.fill(0);
            put(&mut slot, 0, &body_commit);
        }
        let segment = self.segment();
        let at = segment.bytes.len();
        let mut head = vec![0; 120];
        let length = (120 + parts.name.len() + parts.metadata.len() + slot.len()).div_ceil(8) * 8;
        put(&mut head, 0, &(length as u32).to_le_bytes());
        put(&mut head, 12, &(parts.metadata.len() as u32).to_le_bytes());
        put(&mut head, 16, &(parts.body.len() as u32).to_le_bytes());
        put(&mut head, 20, &(parts.name.len() as u16).to_le_bytes());
        head[22] = parts.kind;
        head[23] = u8::from(parts.salt.is_some());
        put(&mut head, 24, &parts.version.to_le_bytes());
        put(&mut head, 32, &time.to_le_bytes());
        put(&mut head, 40, &(parts.bucket_back as u32).to_le_bytes());
        put(&mut head, 44, &(parts.stream_back as u32).to_le_bytes());
        put(&mut head, 48, &parts.batch.0.to_le_bytes());
        put(&mut head, 52, &parts.batch.1.to_le_bytes());
        put(&mut head, 56, &parts.stream_id);
        put(&mut head, 72, &parts.event_id);
        put(&mut head, 88, &link);
        let checked = [&head[12..], parts.name, parts.metadata].concat();
        let header_crc = masked(&segment.salt, at, &checked);
        let slot_crc = masked(&segment.salt, at, &slot);
        put(&mut head, 4, &header_crc.to_le_bytes());
        put(&mut head, 8, &(if parts.erased { !slot_crc } else { slot_crc }).to_le_bytes());
        let mut frame = [&head[..], parts.name, parts.metadata, &slot].concat();
        frame.resize(length, 0);
        segment.bytes.extend_from_slice(&frame);
        segment.spans.push(Span { part: Part::Frame { position }, start: at, end: at + length });
        if (position - segment.first_position).is_multiple_of(8) {
            segment.offsets.push((at / 8) as u32);
        }
        self.position += 1;
        link
    }

    fn trailer(&mut self, start: usize, first_position: u64, links: &[Hash], closed: bool) {
        let (time, epoch, watermark, previous) = (self.time, self.epoch, self.watermark, self.digest);
        let links_joined = links.concat();
        let count = (links.len() as u32).to_le_bytes();
        let digest = derive("commit", &[&previous, &first_position.to_le_bytes(), &count, &time.to_le_bytes(), &links_joined]);
        let block = self.block;
        let segment = self.segment();
        let here = segment.bytes.len();
        let end = (here + 160).div_ceil(block) * block;
        segment.bytes.resize(end - 160, 0xFF);
        if end - 160 > here {
            segment.spans.push(Span { part: Part::Padding, start: here, end: end - 160 });
        }
        let mut trailer = vec![0; 160];
        put(&mut trailer, 0, b"CMT\xF1");
        put(&mut trailer, 8, &first_position.to_le_bytes());
        put(&mut trailer, 16, &count);
        put(&mut trailer, 20, &u32::from(closed).to_le_bytes());
        put(&mut trailer, 24, &((end - start) as u64).to_le_bytes());
        put(&mut trailer, 32, &watermark.to_le_bytes());
        put(&mut trailer, 40, &time.to_le_bytes());
        put(&mut trailer, 48, &epoch.to_le_bytes());
        put(&mut trailer, 64, &previous);
        put(&mut trailer, 96, &digest);
        let crc = masked(&segment.salt, end - 160, &trailer[8..]);
        put(&mut trailer, 4, &crc.to_le_bytes());
        segment.bytes.extend_from_slice(&trailer);
        segment.spans.push(Span { part: Part::Trailer, start: end - 160, end });
        segment.end = end;
        self.digest = digest;
        // The next commit is written after this one was synced.
        self.watermark = self.position;
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
            let count = if batch.len() > 1 { batch.len() as u32 } else { 0 };
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
            event_id: event_id(position),
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

    /// Writes the footer of section 5 behind the last commit.
    pub(crate) fn footer(&mut self) -> usize {
        let heads: Vec<u8> = self
            .buckets
            .iter()
            .flat_map(|(bucket, (count, last))| {
                [&bucket.to_le_bytes()[..], &[0; 6], &count.to_le_bytes(), &last.position.to_le_bytes(), &last.link].concat()
            })
            .collect();
        let (head_count, digest, position) = (self.buckets.len() as u32, self.digest, self.position);
        let segment = self.segment();
        let mut offsets: Vec<u8> = segment.offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        offsets.resize(offsets.len().div_ceil(8) * 8, 0);
        let length = 96 + heads.len() + offsets.len() + 16;
        let mut head = vec![0; 96];
        put(&mut head, 0, b"FTR\xF1");
        put(&mut head, 8, &(length as u64).to_le_bytes());
        put(&mut head, 16, &(segment.end as u64).to_le_bytes());
        put(&mut head, 24, &position.to_le_bytes());
        put(&mut head, 32, &head_count.to_le_bytes());
        put(&mut head, 36, &8u32.to_le_bytes());
        put(&mut head, 40, &(segment.offsets.len() as u32).to_le_bytes());
        put(&mut head, 48, &digest);
        let mut footer = [&head[..], &heads, &offsets, &(length as u64).to_le_bytes(), b"CHRFTR\r\n"].concat();
        let crc = masked(&segment.salt, segment.end, &footer[8..]);
        put(&mut footer, 4, &crc.to_le_bytes());
        let end = segment.end;
        segment.bytes.extend_from_slice(&footer);
        segment.spans.push(Span { part: Part::Footer, start: end, end: end + length });
        length
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
