//! Packing a segment of a store being built (FORMAT.md section 3.3), over the crate's own types and nothing of the engine.

use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::footer::{FooterHeader, POSITION_STRIDE};
use chainring_format::frame::FrameHeader;
use chainring_format::hash;
use chainring_format::limits::PACKED_BLOCK_BYTES;
use chainring_format::segment::{FEATURE_PACKED, HEADER_BYTES, SegmentHeader};
use chainring_format::{checksum::Seed, checksum::crc};
use zerocopy::{FromBytes, IntoBytes};

use super::store::{Segment, Store};

impl Store {
    /// Packs a segment whose successor was begun.
    pub(crate) fn pack(&mut self, index: usize) {
        self.pack_with(index, |_| {});
    }

    /// Packs a segment with a lie in its header.
    pub(crate) fn pack_with(&mut self, index: usize, lie: impl FnOnce(&mut SegmentHeader)) {
        let old = self.segments[index].clone();
        let mut header = old.header;
        header.features = FEATURE_PACKED.into();
        header.block_bytes = PACKED_BLOCK_BYTES.into();
        header.salt = hash::packed_salt(&old.header.salt, old.header.number.get());
        header.unpacked_end_offset = (old.end as u64).into();
        let (before, seed) = (old.seed(), Seed::new(&header.salt));
        let mut bytes = vec![0; HEADER_BYTES];
        let mut offsets = Vec::new();
        for commit in self.commits.iter_mut().filter(|commit| commit.segment == index) {
            let (from, start) = (commit.offset..commit.offset + commit.bytes, bytes.len());
            let frames = self.frames.iter_mut().enumerate();
            for (position, place) in frames.filter(|(_, place)| place.segment == index && from.contains(&place.offset)) {
                let at = bytes.len();
                if (position as u64 - old.header.first_position.get()).is_multiple_of(POSITION_STRIDE) {
                    offsets.push((at / 8) as u32);
                }
                bytes.extend_from_slice(&old.bytes[place.offset..place.offset + place.bytes]);
                let (frame, _) = FrameHeader::mut_from_prefix(&mut bytes[at..]).expect("a frame was built here");
                // A checksum moves with its mask, whichever of its two forms it has.
                let moved = before.mask(place.offset as u64) ^ seed.mask(at as u64);
                frame.header_crc = (frame.header_crc.get() ^ moved).into();
                frame.body_crc = (frame.body_crc.get() ^ moved).into();
                place.offset = at;
            }
            let trailer = &old.bytes[from.end - TRAILER_BYTES..from.end];
            let mut trailer = CommitTrailer::read_from_bytes(trailer).expect("a trailer was built here");
            trailer.commit_bytes = ((bytes.len() + TRAILER_BYTES - start) as u64).into();
            bytes.extend_from_slice(trailer.sealed(seed, bytes.len() as u64).as_bytes());
            (commit.offset, commit.bytes) = (start, bytes.len() - start);
        }
        let end = bytes.len();
        bytes.extend(footer(&old, end, &offsets, seed));
        header.packed_end_offset = (end as u64).into();
        // Made of the rest, the header says what somebody wants it to say.
        let salt = header.salt;
        lie(&mut header);
        assert_eq!(header.salt, salt, "the checksums were made with it");
        header.header_crc = crc(&header.as_bytes()[12..]).into();
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        self.segments[index] = Segment { header, bytes, end, footer_bytes: old.footer_bytes };
    }
}

/// The footer of a segment, if it has one, for other offsets.
fn footer(old: &Segment, end: usize, offsets: &[u32], seed: Seed) -> Vec<u8> {
    let mut bytes = old.bytes[old.end..old.end + old.footer_bytes].to_vec();
    let Ok((header, tables)) = FooterHeader::mut_from_prefix(&mut bytes) else { return bytes };
    header.end_offset = (end as u64).into();
    assert_eq!(header.offset_count.get() as usize, offsets.len());
    let table = &mut tables[56 * header.head_count.get() as usize..];
    for (entry, offset) in table.chunks_exact_mut(4).zip(offsets) {
        entry.copy_from_slice(&offset.to_le_bytes());
    }
    let sum = crc(&bytes[8..]) ^ seed.mask(end as u64);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}
