//! A store taken apart into what somebody chose and put together again, with everything derived made anew: lengths, positions, links, digests,
//! lineage, footers, checksums.
//!
//! A [`Lie`] changes one structure before hashes and checksums are made, so that the store is wrong in one place and right everywhere else:
//! the inputs that get past checksums. Without a lie the result of a valid store is a valid store.

use std::collections::{BTreeMap, HashMap};

use chainring_format::checksum::{Seed, crc};
use chainring_format::commit::{CommitTrailer, PADDING_BYTE, TRAILER_BYTES};
use chainring_format::footer::{self, BucketHead, FooterContent, POSITION_STRIDE};
use chainring_format::frame::{
    FLAG_SALTED, FRAME_HEADER_BYTES, FrameHeader, KIND_EVENT, SALT_BYTES, back_distance, frame_bytes, slot_bytes, slot_crc,
};
use chainring_format::hash::{self, EventContent, Hash, Leaf, LeafFields};
use chainring_format::limits::{ENGINE_LANE, SEGMENT_BYTES_MAX};
use chainring_format::segment::{HEADER_BYTES, SegmentHeader};
use chainring_format::{EventId, Link, StreamId, align};
use zerocopy::{FromBytes, IntoBytes};

use super::archive::Archive;
use super::random::Random;
use super::repair::{Kind, layout, slot, start, structures};

/// What a frame says.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Lengths, checksums and link in it are made anew.
    pub header: FrameHeader,
    /// Stream name.
    pub name: Vec<u8>,
    /// Metadata.
    pub metadata: Vec<u8>,
    /// Body; of an erased one the body's commitment.
    pub body: Vec<u8>,
    /// Salt.
    pub salt: [u8; SALT_BYTES],
    /// The body was erased; its length is that in the header.
    pub is_erased: bool,
}

/// Frames and the trailer that closes them.
#[derive(Debug, Clone)]
pub struct Commit {
    /// In order.
    pub frames: Vec<Frame>,
    /// Flags, watermark and epoch are kept, the rest is made anew.
    pub trailer: CommitTrailer,
}

/// One segment.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Sizes, salt, epoch are kept, the rest is made anew.
    pub header: SegmentHeader,
    /// In order.
    pub commits: Vec<Commit>,
    /// Whether a footer follows.
    pub is_sealed: bool,
    /// What stands behind all that.
    pub tail: Vec<u8>,
}

/// A whole store.
#[derive(Debug, Clone)]
pub struct Model {
    /// In order.
    pub segments: Vec<Segment>,
}

/// A change to one structure that everything around it agrees with.
#[derive(Debug, Clone, Copy)]
pub struct Lie {
    /// The how-manieth structure that is written.
    pub structure: usize,
    /// Where in it.
    pub offset: usize,
    /// How many bytes: 1, 2, 4 or 8.
    pub bytes: usize,
    /// What happens to them.
    pub change: Change,
}

/// What a [`Lie`] does to a number.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// Another number takes its place.
    Set(u64),
    /// It grows, wrapping.
    Add(u64),
    /// Bits flip.
    Flip(u64),
}

impl Lie {
    /// Some lie about one of the first `structures` structures.
    #[must_use]
    pub fn random(random: &mut Random, structures: usize) -> Lie {
        let bytes = *random.pick(&[1, 2, 4, 8, 8]);
        // Frame headers are the smallest structures; the rest of the larger ones is met less often.
        let reach = if random.once_in(3) { HEADER_BYTES } else { FRAME_HEADER_BYTES };
        let offset = random.below(reach / bytes) * bytes;
        let change = match random.below(4) {
            0 => Change::Set(random.edge()),
            1 => Change::Flip(1 << random.below(bytes * 8)),
            2 => Change::Add(1),
            _ => Change::Add(u64::MAX),
        };
        Lie { structure: random.below(structures), offset, bytes, change }
    }

    fn tell(&self, to: &mut [u8]) {
        let Some(place) = to.get_mut(self.offset..self.offset + self.bytes) else { return };
        let mut number = [0; 8];
        number[..self.bytes].copy_from_slice(place);
        let number = u64::from_le_bytes(number);
        let number = match self.change {
            Change::Set(other) => other,
            Change::Add(more) => number.wrapping_add(more),
            Change::Flip(bits) => number ^ bits,
        };
        place.copy_from_slice(&number.to_le_bytes()[..self.bytes]);
    }
}

impl Model {
    /// Takes a store apart, as far as it looks like one.
    #[must_use]
    pub fn of(archive: &Archive) -> Model {
        let files = archive.files.iter().filter(|(number, _)| **number > 0);
        Model { segments: files.filter_map(|(_, file)| Segment::of(file)).collect() }
    }

    /// Structures that [`Model::encode`] writes: headers, frames, trailers, footers.
    #[must_use]
    pub fn structures(&self) -> usize {
        let frames = |segment: &Segment| segment.commits.iter().map(|commit| 1 + commit.frames.len()).sum::<usize>();
        self.segments.iter().map(|segment| 1 + frames(segment) + usize::from(segment.is_sealed)).sum()
    }

    /// Every commit, in order.
    pub fn commits(&mut self) -> Vec<&mut Commit> {
        self.segments.iter_mut().flat_map(|segment| &mut segment.commits).collect()
    }

    /// Every frame, in order.
    pub fn frames(&mut self) -> Vec<&mut Frame> {
        self.segments.iter_mut().flat_map(|segment| &mut segment.commits).flat_map(|commit| &mut commit.frames).collect()
    }

    /// Puts the store together.
    #[must_use]
    pub fn encode(&self, lies: &[Lie]) -> Archive {
        let mut writer = Writer { lies, ..Writer::default() };
        let mut archive = Archive::default();
        for (index, segment) in self.segments.iter().enumerate() {
            let number = index as u16 + 1;
            let file = writer.segment(number.into(), segment);
            archive.files.insert(number, file);
        }
        archive
    }
}

impl Segment {
    fn of(file: &[u8]) -> Option<Segment> {
        let (header, _) = SegmentHeader::read_from_prefix(file).ok()?;
        let (block, seed) = layout(file);
        let mut segment = Segment { header, commits: Vec::new(), is_sealed: false, tail: Vec::new() };
        let (mut frames, mut end) = (Vec::new(), start(block));
        for structure in structures(file) {
            let bytes = &file[structure.offset..structure.offset + structure.bytes];
            match structure.kind {
                Kind::Header | Kind::Padding => {}
                Kind::Frame => frames.extend(Frame::of(bytes, seed.mask(structure.offset as u64))),
                Kind::Trailer => {
                    let Ok((trailer, _)) = CommitTrailer::read_from_prefix(bytes) else { continue };
                    segment.commits.push(Commit { frames: std::mem::take(&mut frames), trailer });
                    end = structure.offset + structure.bytes;
                }
                Kind::Footer => {
                    segment.is_sealed = true;
                    end = structure.offset + structure.bytes;
                    break;
                }
            }
        }
        segment.tail = file.get(end..).unwrap_or_default().to_vec();
        Some(segment)
    }
}

impl Frame {
    fn of(bytes: &[u8], mask: u32) -> Option<Frame> {
        let (header, _) = FrameHeader::read_from_prefix(bytes).ok()?;
        let slot = slot(bytes)?;
        let (name_bytes, salted) = (usize::from(header.name_bytes.get()), header.flags & FLAG_SALTED != 0);
        let mut frame = Frame {
            name: bytes[FRAME_HEADER_BYTES..][..name_bytes].to_vec(),
            metadata: bytes[FRAME_HEADER_BYTES + name_bytes..slot.start].to_vec(),
            body: Vec::new(),
            salt: [0; SALT_BYTES],
            is_erased: false,
            header,
        };
        let slot = &bytes[slot];
        let body_bytes = header.body_bytes.get() as usize;
        frame.is_erased = header.body_crc.get() == !(crc(slot) ^ mask);
        frame.body = slot[..if frame.is_erased { 32 } else { body_bytes }].to_vec();
        if salted {
            frame.salt.copy_from_slice(&slot[body_bytes..][..SALT_BYTES]);
        }
        Some(frame)
    }
}

/// Where a lane or a stream stands.
#[derive(Debug, Clone, Copy)]
struct Head {
    count: u64,
    position: u64,
    link: Link,
}

/// What is known of everything written so far.
#[derive(Debug, Default)]
struct Writer<'a> {
    lies: &'a [Lie],
    structures: usize,
    lanes: BTreeMap<u16, Head>,
    streams: HashMap<StreamId, Head>,
    log_id: Hash,
    digest: Hash,
    position: u64,
    time_ns: u64,
    epoch: u64,
    watermark: u64,
    /// End, footer and cut bytes of the segment before.
    before: (u64, u64, u64),
}

impl Writer<'_> {
    fn lie(&self, to: &mut [u8]) {
        self.lies.iter().filter(|lie| lie.structure == self.structures).for_each(|lie| lie.tell(to));
    }

    fn segment(&mut self, number: u64, segment: &Segment) -> Vec<u8> {
        let (lineage, structure) = (self.lineage(number, segment), self.structures);
        self.structures += 1;
        let block = lineage.block_bytes.get() as usize;
        let seed = Seed::new(&lineage.salt);
        let mut file = vec![0; start(block)];
        let first_position = self.position;
        let mut offsets = Vec::new();
        for commit in &segment.commits {
            self.commit(&mut file, seed, block, commit, (first_position, &mut offsets));
        }
        let end = file.len();
        if segment.is_sealed {
            let heads: Vec<BucketHead> = self.lanes.iter().map(|(&bucket, head)| entry(bucket, head)).collect();
            let content = FooterContent {
                end_offset: end as u64,
                next_position: self.position,
                commit_digest: &self.digest,
                heads: &heads,
                offsets: &offsets,
            };
            let mut bytes = footer::encode(&content, seed);
            self.lie(&mut bytes);
            let sum = crc(&bytes[8..]) ^ seed.mask(end as u64);
            bytes[4..8].copy_from_slice(&sum.to_le_bytes());
            file.extend_from_slice(&bytes);
            self.structures += 1;
        }
        let footer_bytes = file.len() - end;
        file.extend_from_slice(&segment.tail);
        let cut = segment.tail.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        // The first header names the genesis record, and a packed one its ends, which are known only now.
        let mut header = lineage;
        if header.is_packed() {
            header.packed_end_offset = (end as u64).into();
            header.unpacked_end_offset = align(header.unpacked_end_offset.get().clamp(end as u64, SEGMENT_BYTES_MAX), 8).into();
        }
        let named_end = if header.is_packed() { header.unpacked_end_offset.get() } else { end as u64 };
        self.before = (named_end, footer_bytes as u64, cut as u64);
        if number == 1 {
            header.log_id = self.log_id;
        }
        let now = std::mem::replace(&mut self.structures, structure);
        self.lie(header.as_mut_bytes());
        self.structures = now;
        header.header_crc = crc(&header.as_bytes()[12..]).into();
        file[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        file
    }

    fn lineage(&mut self, number: u64, segment: &Segment) -> SegmentHeader {
        let mut header = segment.header;
        header.block_bytes = (layout(header.as_bytes()).0 as u32).into();
        if !header.is_packed() {
            (header.packed_end_offset, header.unpacked_end_offset) = (0.into(), 0.into());
        }
        let block = u64::from(header.block_bytes.get());
        header.segment_bytes = align(header.segment_bytes.get().clamp(block, SEGMENT_BYTES_MAX), block).into();
        self.epoch = self.epoch.max(header.epoch.get());
        header.epoch = self.epoch.into();
        header.number = number.into();
        header.first_position = self.position.into();
        header.log_id = self.log_id;
        header.created_at_ns = self.time_ns.into();
        if number == 1 {
            let genesis = segment.commits.iter().find_map(|commit| commit.frames.first());
            header.created_at_ns = genesis.map_or(0.into(), |genesis| genesis.header.recorded_at_ns);
        } else {
            (header.prev_end_offset, header.prev_footer_bytes, header.prev_cut_bytes) =
                (self.before.0.into(), self.before.1.into(), self.before.2.into());
            header.prev_commit_digest = self.digest;
            header.prev_heads_root = hash::heads_root(|bucket| {
                let head = self.lanes.get(&bucket);
                head.map_or((0, Link(self.log_id)), |head| (head.count, head.link))
            });
        }
        header
    }

    fn commit(&mut self, file: &mut Vec<u8>, seed: Seed, block: usize, commit: &Commit, (first, offsets): (u64, &mut Vec<u32>)) {
        let (start, first_position) = (file.len(), self.position);
        let mut links = Vec::new();
        let mut batch_id = EventId::default();
        for frame in &commit.frames {
            if (self.position - first).is_multiple_of(POSITION_STRIDE) {
                offsets.push((file.len() / 8) as u32);
            }
            match (frame.header.batch_index.get(), frame.header.batch_count.get()) {
                (0, 0) => batch_id = EventId::default(),
                (0, _) => batch_id = EventId(frame.header.event_id),
                _ => {}
            }
            links.push(self.frame(file, seed, frame, batch_id));
        }
        let trailer_offset = align((file.len() + TRAILER_BYTES) as u64, block as u64) as usize - TRAILER_BYTES;
        file.resize(trailer_offset, PADDING_BYTE);
        let mut trailer = commit.trailer;
        trailer.first_position = first_position.into();
        trailer.count = (links.len() as u32).into();
        trailer.commit_bytes = ((trailer_offset + TRAILER_BYTES - start) as u64).into();
        self.watermark = self.watermark.max(trailer.watermark.get().min(self.position));
        trailer.watermark = self.watermark.into();
        trailer.time_ns = self.time_ns.into();
        self.epoch = self.epoch.max(trailer.epoch.get());
        trailer.epoch = self.epoch.into();
        trailer.previous_digest = self.digest;
        self.lie(trailer.as_mut_bytes());
        let (first, count, time) = (trailer.first_position.get(), trailer.count.get(), trailer.time_ns.get());
        trailer.digest = hash::commit_digest(&trailer.previous_digest, first, count, time, &links);
        if self.lies.iter().any(|lie| lie.structure == self.structures && lie.offset >= 96) {
            self.lie(trailer.as_mut_bytes());
        }
        let trailer = trailer.sealed(seed, trailer_offset as u64);
        self.structures += 1;
        self.digest = trailer.digest;
        file.extend_from_slice(trailer.as_bytes());
    }

    fn frame(&mut self, file: &mut Vec<u8>, seed: Seed, frame: &Frame, batch_id: EventId) -> Link {
        let position = self.position;
        let mut header = frame.header;
        let salted = header.flags & FLAG_SALTED != 0;
        let body_bytes = if frame.is_erased { header.body_bytes.get() as usize } else { frame.body.len() };
        header.frame_bytes = (frame_bytes(frame.name.len(), frame.metadata.len(), body_bytes, salted) as u32).into();
        header.name_bytes = (frame.name.len() as u16).into();
        header.metadata_bytes = (frame.metadata.len() as u32).into();
        header.body_bytes = (body_bytes as u32).into();
        self.time_ns = self.time_ns.max(header.recorded_at_ns.get());
        header.recorded_at_ns = self.time_ns.into();
        let is_event = header.kind == KIND_EVENT;
        let name = std::str::from_utf8(&frame.name).unwrap_or_default();
        if is_event && !name.is_empty() {
            header.stream_id = hash::stream_id(name).0;
        }
        let stream_id = StreamId(header.stream_id);
        let bucket = if is_event { stream_id.bucket() } else { ENGINE_LANE };
        let lane = self.lanes.get(&bucket).copied();
        let stream = if is_event { self.streams.get(&stream_id).copied() } else { lane };
        header.bucket_back = back_distance(position, lane.map(|head| head.position)).into();
        header.stream_back = back_distance(position, stream.map(|head| head.position)).into();
        header.version = if is_event { stream.map_or(1, |head| head.count.wrapping_add(1)) } else { header.version.get() }.into();
        self.lie(header.as_mut_bytes());

        let body_commit = match frame.body.first_chunk() {
            Some(commit) if frame.is_erased => *commit,
            _ => hash::body_commit(if salted { &frame.salt } else { &[0; 16] }, &frame.body),
        };
        let digest = hash::event_digest(&EventContent {
            stream_id: StreamId(header.stream_id),
            event_id: EventId(header.event_id),
            batch_id,
            batch_index: header.batch_index.get(),
            batch_count: header.batch_count.get(),
            body_commit: &body_commit,
            metadata: &frame.metadata,
        });
        let log_id = self.log_id;
        let first = if is_event { hash::name_commit(&Link(log_id), name) } else { [0; 32] };
        header.link = Leaf::new(&LeafFields {
            kind: header.kind,
            bucket,
            version: header.version.get(),
            recorded_at_ns: header.recorded_at_ns.get(),
            digest: &digest,
            prev_bucket: &lane.map_or(if is_event { log_id } else { [0; 32] }, |head| head.link.0),
            prev_stream: &stream.map_or(first, |head| head.link.0),
        })
        .link()
        .0;
        if self.lies.iter().any(|lie| lie.structure == self.structures && lie.offset >= 88) {
            self.lie(header.as_mut_bytes());
        }
        let link = Link(header.link);
        if position == 0 {
            self.log_id = link.0;
        }
        let before = lane.map_or(0, |head| head.count);
        self.lanes.insert(bucket, Head { count: before + 1, position, link });
        if is_event {
            self.streams.insert(stream_id, Head { count: header.version.get(), position, link });
        }
        self.time_ns = header.recorded_at_ns.get();
        self.position += 1;
        self.structures += 1;
        write_frame(file, seed, header, frame);
        link
    }
}

fn write_frame(file: &mut Vec<u8>, seed: Seed, mut header: FrameHeader, frame: &Frame) {
    let (start, mask) = (file.len(), seed.mask(file.len() as u64));
    let salted = frame.header.flags & FLAG_SALTED != 0;
    // As it was taken apart: a lie about the length takes no room.
    let body_bytes = if frame.is_erased { frame.header.body_bytes.get() as usize } else { frame.body.len() };
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&frame.name);
    file.extend_from_slice(&frame.metadata);
    let slot = file.len();
    file.extend_from_slice(&frame.body);
    if salted && !frame.is_erased {
        file.extend_from_slice(&frame.salt);
    }
    let end = slot + slot_bytes(body_bytes, salted);
    file.resize(align(end as u64, 8) as usize, 0);
    header.header_crc = (crc(&file[start + 12..slot]) ^ mask).into();
    let sum = slot_crc(&file[slot..end], None) ^ mask;
    header.body_crc = if frame.is_erased { !sum } else { sum }.into();
    file[start..start + FRAME_HEADER_BYTES].copy_from_slice(header.as_bytes());
}

fn entry(bucket: u16, head: &Head) -> BucketHead {
    BucketHead { bucket, count: head.count, position: head.position, link: head.link }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::targets::seeds::STORES;
    use crate::targets::store::verified;

    fn holds(archive: &Archive) -> bool {
        verified(archive).is_ok_and(|report| report.is_ok())
    }

    #[test]
    fn a_valid_store_put_together_again_is_valid() {
        let valid: Vec<_> = STORES.iter().filter(|archive| holds(archive)).collect();
        assert!(valid.len() > 20, "most golden stores are small enough to start from");
        for archive in valid {
            let report = verified(&Model::of(archive).encode(&[]));
            assert_eq!(report.expect("files in memory can be read").fault, None);
        }
    }

    #[test]
    fn a_lie_about_a_length_takes_no_room() {
        let bytes = size_of::<u32>();
        let offset = offset_of!(FrameHeader, body_bytes);
        for archive in STORES.iter() {
            let mut model = Model::of(archive);
            model.frames().into_iter().for_each(|frame| frame.is_erased = frame.body.len() >= 32);
            let lies: Vec<Lie> =
                (0..model.structures()).map(|structure| Lie { structure, offset, bytes, change: Change::Set(u32::MAX.into()) }).collect();
            assert!(model.encode(&lies).files.values().all(|file| file.len() < 1 << 20));
        }
    }
}
