//! Builds small stores, segment by segment and commit by commit, over the crate's own types.
//!
//! Invariant: without a lie the result is a valid store. Every step takes a lie, a function that changes what is about to be written
//! before hashes and checksums are made, so that a store can be wrong in one place and consistent everywhere else.
//! Times count up from a fixed instant; salts, nonces and ids are derived from the store's name.

use std::collections::BTreeMap;

use chainring_format::checksum::Seed;
use chainring_format::commit::{CommitTrailer, FLAG_CLOSED, PADDING_BYTE, TRAILER_BYTES};
use chainring_format::footer::{self, BucketHead, FooterContent, POSITION_STRIDE};
use chainring_format::hash::{self, Hash};
use chainring_format::segment::{self, SegmentHeader};
use chainring_format::tree::Frontier;
use chainring_format::{Link, StreamId, align};
use zerocopy::{FromZeros, IntoBytes};

/// Recording time of the first record.
pub(crate) const TIME_NS: u64 = 1_790_000_000_000_000_000;

/// Last record of a lane or a stream. In a stream, `count` is the version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) count: u64,
    pub(crate) position: u64,
    pub(crate) link: Hash,
}

/// One segment file, and what the builder knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    /// The whole file.
    pub(crate) bytes: Vec<u8>,
    /// End of its last commit.
    pub(crate) end: usize,
    pub(crate) footer_bytes: usize,
}

impl Segment {
    pub(crate) fn seed(&self) -> Seed {
        Seed::new(&self.header.salt)
    }

    pub(crate) fn block(&self) -> usize {
        self.header.block_bytes.get() as usize
    }
}

/// Where a structure stands: index of its segment, file offset, length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) segment: usize,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

/// A store being built.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) name: String,
    pub(crate) segments: Vec<Segment>,
    /// Every frame, by position.
    pub(crate) frames: Vec<Place>,
    /// Every commit, trailer included, in order.
    pub(crate) commits: Vec<Place>,
    pub(crate) lanes: BTreeMap<u16, Head>,
    pub(crate) streams: BTreeMap<StreamId, Head>,
    pub(crate) log_id: Hash,
    /// Digest of the last commit.
    pub(crate) digest: Hash,
    pub(crate) epoch: u64,
    /// Recording time of the last record.
    pub(crate) time_ns: u64,
    /// Links of the commit being built.
    pub(crate) links: Vec<Link>,
    /// Kind of every record.
    pub(crate) kinds: Vec<u8>,
    /// The tree over all records.
    pub(crate) tree: Frontier,
    /// Number and link of the last seal.
    pub(crate) last_seal: (u64, Hash),
    /// The key in force.
    pub(crate) key: Hash,
}

impl Store {
    /// A store that holds its genesis record and nothing else.
    pub(crate) fn new(name: &str, block_bytes: u32) -> Store {
        Store::with_genesis(name, block_bytes, |_| {})
    }

    /// A store without any segment or record.
    pub(crate) fn empty(name: &str) -> Store {
        Store {
            name: name.to_owned(),
            segments: Vec::new(),
            frames: Vec::new(),
            commits: Vec::new(),
            lanes: BTreeMap::new(),
            streams: BTreeMap::new(),
            log_id: [0; 32],
            digest: [0; 32],
            epoch: 1,
            time_ns: TIME_NS,
            links: Vec::new(),
            kinds: Vec::new(),
            tree: Frontier::new(),
            last_seal: (0, [0; 32]),
            key: [0; 32],
        }
    }

    /// 32 bytes that differ by store and by use.
    pub(crate) fn derived(&self, what: &str) -> Hash {
        hash::stream_name_hash(&format!("{what} of {}", self.name))
    }

    pub(crate) fn next_position(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The segment being written.
    pub(crate) fn last(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a store has a segment")
    }

    /// Starts the next segment behind whatever the last one holds.
    pub(crate) fn next_segment(&mut self, block_bytes: u32) {
        self.next_segment_with(block_bytes, |_| {});
    }

    /// Starts the next segment with a lie in its header.
    pub(crate) fn next_segment_with(&mut self, block_bytes: u32, lie: impl FnOnce(&mut SegmentHeader)) {
        assert!(self.links.is_empty(), "a segment ends with a commit");
        let number = self.segments.len() as u64 + 1;
        let mut header = SegmentHeader::new_zeroed();
        header.number = number.into();
        header.block_bytes = block_bytes.into();
        header.segment_bytes = (64 << 10).into();
        header.epoch = self.epoch.into();
        header.first_position = self.next_position().into();
        header.created_at_ns = self.time_ns.into();
        header.salt.copy_from_slice(&self.derived(&format!("salt of segment {number}"))[..16]);
        header.log_id = self.log_id;
        if let Some(previous) = self.segments.last() {
            let named = previous.end + previous.footer_bytes;
            let cut = previous.bytes[named..].iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
            header.prev_end_offset = (previous.end as u64).into();
            header.prev_footer_bytes = (previous.footer_bytes as u64).into();
            header.prev_cut_bytes = (cut as u64).into();
            header.prev_commit_digest = self.digest;
            header.prev_heads_root = self.heads_root();
        }
        lie(&mut header);
        let header = header.sealed();
        let mut bytes = vec![0; block_bytes as usize];
        bytes[..segment::HEADER_BYTES].copy_from_slice(header.as_bytes());
        self.segments.push(Segment { header, end: bytes.len(), bytes, footer_bytes: 0 });
    }

    /// Root over all bucket heads as of now.
    pub(crate) fn heads_root(&self) -> Hash {
        let none = Head { count: 0, position: 0, link: self.log_id };
        hash::heads_root(|bucket| {
            let head = self.lanes.get(&bucket).unwrap_or(&none);
            (head.count, Link(head.link))
        })
    }

    /// Closes the commit.
    pub(crate) fn commit(&mut self) {
        self.commit_with(|_| {});
    }

    /// The writer's last commit: empty, everything durable, CLOSED.
    pub(crate) fn close(&mut self) {
        let next = self.next_position();
        self.commit_with(|trailer| {
            trailer.flags = FLAG_CLOSED.into();
            trailer.watermark = next.into();
        });
    }

    /// Closes the commit with a lie in its trailer. The digest is made behind the lie, unless the lie brings its own.
    pub(crate) fn commit_with(&mut self, lie: impl FnOnce(&mut CommitTrailer)) {
        let (next, links) = (self.next_position(), std::mem::take(&mut self.links));
        let (time_ns, epoch, previous) = (self.time_ns, self.epoch, self.digest);
        let index = self.segments.len() - 1;
        let segment = self.last();
        let (start, block) = (segment.end, segment.block() as u64);
        let offset = align((segment.bytes.len() + TRAILER_BYTES) as u64, block) as usize - TRAILER_BYTES;
        segment.bytes.resize(offset, PADDING_BYTE);
        let first = next - links.len() as u64;
        let mut trailer = CommitTrailer::new_zeroed();
        trailer.first_position = first.into();
        trailer.count = (links.len() as u32).into();
        trailer.commit_bytes = ((offset + TRAILER_BYTES - start) as u64).into();
        trailer.watermark = first.into();
        trailer.time_ns = time_ns.into();
        trailer.epoch = epoch.into();
        trailer.previous_digest = previous;
        lie(&mut trailer);
        if trailer.digest == [0; 32] {
            let (first, count, time) = (trailer.first_position.get(), trailer.count.get(), trailer.time_ns.get());
            trailer.digest = hash::commit_digest(&trailer.previous_digest, first, count, time, &links);
        }
        let trailer = trailer.sealed(segment.seed(), offset as u64);
        segment.bytes.extend_from_slice(trailer.as_bytes());
        segment.end = segment.bytes.len();
        let place = Place { segment: index, offset: start, bytes: segment.end - start };
        self.digest = trailer.digest;
        self.commits.push(place);
    }

    /// Writes the footer.
    pub(crate) fn seal(&mut self) {
        self.seal_with(|_| {});
    }

    /// Writes the footer with a lie about the heads.
    pub(crate) fn seal_with(&mut self, lie: impl FnOnce(&mut Vec<BucketHead>)) {
        let mut heads = self.heads();
        lie(&mut heads);
        let index = self.segments.len() - 1;
        let first = self.segments[index].header.first_position.get();
        let mine = self.frames.iter().enumerate().filter(|(_, place)| place.segment == index);
        let at_stride = mine.filter(|&(position, _)| (position as u64 - first).is_multiple_of(POSITION_STRIDE));
        let offsets: Vec<u32> = at_stride.map(|(_, place)| (place.offset / 8) as u32).collect();
        let (next_position, digest) = (self.next_position(), self.digest);
        let segment = self.last();
        let content =
            FooterContent { end_offset: segment.end as u64, next_position, commit_digest: &digest, heads: &heads, offsets: &offsets };
        let bytes = footer::encode(&content, segment.seed());
        segment.footer_bytes = bytes.len();
        segment.bytes.extend_from_slice(&bytes);
    }

    fn heads(&self) -> Vec<BucketHead> {
        let entry =
            |(&bucket, head): (&u16, &Head)| BucketHead { bucket, count: head.count, position: head.position, link: Link(head.link) };
        self.lanes.iter().map(entry).collect()
    }

    /// The files of the store.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let file = |(index, segment): (usize, &Segment)| (segment::file_name(index as u64 + 1), segment.bytes.clone());
        self.segments.iter().enumerate().map(file).collect()
    }
}
