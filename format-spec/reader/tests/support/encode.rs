//! The byte layouts of FORMAT.md, written out a second time: frames, trailers, headers, footers and the hashes in them.

use sha2::{Digest, Sha256};

use super::{Built, Hash, Part, SegmentBytes, Span};

const CONTEXT: &str = "chainring 2026-11 v1 ";

pub(crate) fn derive(context: &str, parts: &[&[u8]]) -> Hash {
    blake3::derive_key(&format!("{CONTEXT}{context}"), &parts.concat())
}

fn pad64(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = parts.concat();
    all.resize(all.len().div_ceil(64) * 64, 0);
    all
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Section 3.2.
pub(crate) fn masked(salt: &[u8; 16], offset: usize, bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes) ^ crc32c::crc32c(&[&salt[..], &(offset as u64).to_le_bytes()].concat())
}

/// Everything a frame is made of.
pub(super) struct Parts<'a> {
    pub(super) kind: u8,
    pub(super) version: u64,
    pub(super) bucket: u16,
    pub(super) bucket_back: u64,
    pub(super) stream_back: u64,
    pub(super) batch: (u32, u32, [u8; 16]),
    pub(super) stream_id: [u8; 16],
    pub(super) event_id: [u8; 16],
    pub(super) name: &'a [u8],
    pub(super) metadata: &'a [u8],
    pub(super) body: &'a [u8],
    pub(super) salt: Option<[u8; 16]>,
    pub(super) erased: bool,
    pub(super) previous: (Hash, Hash),
}

impl Built {
    pub(super) fn begin_segment(&mut self, prev_footer_bytes: usize, cut: u64) {
        let number = self.segments.len() + 1;
        let mut header = vec![0; self.block];
        put(&mut header, 0, b"CHRSEG\r\n");
        put(&mut header, 12, &[1, 0, 1, 0]);
        header[24] = 1;
        put(&mut header, 28, &(self.block as u32).to_le_bytes());
        put(&mut header, 32, &(number as u64).to_le_bytes());
        put(&mut header, 40, &self.segment_bytes.to_le_bytes());
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

    pub(super) fn frame(&mut self, parts: &Parts<'_>) -> Hash {
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

    pub(super) fn trailer(&mut self, start: usize, first_position: u64, links: &[Hash], closed: bool) {
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
}
