//! Makes checksums right again over bytes that were changed, so that what lies behind them is reached.
//!
//! Walks leniently: whatever has the mark of a structure and fits the file is taken for one; where nothing stands it goes on at the next block.

use chainring_format::checksum::{Seed, crc};
use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::footer::{FooterHeader, FooterTail};
use chainring_format::frame::{FLAG_SALTED, FRAME_HEADER_BYTES, FrameHeader, slot_bytes};
use chainring_format::limits::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, PACKED_BLOCK_BYTES};
use chainring_format::segment::{HEADER_BYTES, SegmentHeader};
use chainring_format::{Mark, align};
use zerocopy::{FromBytes, IntoBytes};

/// What stands somewhere in a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The segment header.
    Header,
    /// A frame.
    Frame,
    /// Padding, up to the trailer.
    Padding,
    /// A commit trailer.
    Trailer,
    /// A footer.
    Footer,
}

/// A structure and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Structure {
    /// What it is.
    pub kind: Kind,
    /// Offset in the file.
    pub offset: usize,
    /// Its length.
    pub bytes: usize,
}

/// Block size and checksum seed that a file states; something usable if it states nonsense.
#[must_use]
pub fn layout(file: &[u8]) -> (usize, Seed) {
    let Ok((header, _)) = SegmentHeader::ref_from_prefix(file) else { return (BLOCK_BYTES_MIN as usize, Seed::new(&[0; 16])) };
    let block = header.block_bytes.get();
    let sane = block.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block);
    let otherwise = if header.is_packed() { PACKED_BLOCK_BYTES } else { BLOCK_BYTES_MIN };
    (if sane && !header.is_packed() { block } else { otherwise } as usize, Seed::new(&header.salt))
}

/// Where the commits of a file with this block size begin.
#[must_use]
pub fn start(block: usize) -> usize {
    block.max(HEADER_BYTES)
}

/// The structures of a segment file, as far as its bytes look like any.
#[must_use]
pub fn structures(file: &[u8]) -> Vec<Structure> {
    let (block, _) = layout(file);
    let mut found = Vec::new();
    if file.len() >= HEADER_BYTES {
        found.push(Structure { kind: Kind::Header, offset: 0, bytes: HEADER_BYTES });
    }
    let mut at = start(block);
    while at < file.len() {
        let trailer = align((at + TRAILER_BYTES) as u64, block as u64) as usize - TRAILER_BYTES;
        let (kind, bytes) = match Mark::of(&file[at..]) {
            Mark::Frame(bytes) if at + bytes as usize <= file.len() => (Kind::Frame, bytes as usize),
            Mark::Padding => (Kind::Padding, trailer - at),
            Mark::Trailer if at == trailer => (Kind::Trailer, TRAILER_BYTES),
            Mark::Footer => (Kind::Footer, footer_bytes(&file[at..])),
            _ => {
                at = (at / block + 1) * block;
                continue;
            }
        };
        let bytes = bytes.max(8).min(file.len() - at);
        found.push(Structure { kind, offset: at, bytes });
        at += bytes;
        // What is right is aligned; whatever is not is stepped over block by block.
        at = align(at as u64, 8) as usize;
    }
    found
}

fn footer_bytes(bytes: &[u8]) -> usize {
    FooterHeader::ref_from_prefix(bytes).map_or(8, |(header, _)| usize::try_from(header.footer_bytes.get()).unwrap_or(usize::MAX))
}

/// Stores right checksums in every structure of the file. `is_erased` tells which frames get the complement that marks an erased body.
pub fn checksums(file: &mut [u8], mut is_erased: impl FnMut() -> bool) {
    let (_, seed) = layout(file);
    for Structure { kind, offset, bytes } in structures(file) {
        let mask = seed.mask(offset as u64);
        let part = &mut file[offset..offset + bytes];
        match kind {
            Kind::Header => put(part, 8, crc(&part[12..])),
            Kind::Padding => {}
            Kind::Trailer | Kind::Footer if bytes < size_of::<FooterTail>() => {}
            Kind::Trailer | Kind::Footer => put(part, 4, crc(&part[8..]) ^ mask),
            Kind::Frame => {
                let Some(slot) = slot(part) else { continue };
                put(part, 4, crc(&part[12..slot.start]) ^ mask);
                let sum = crc(&part[slot]) ^ mask;
                put(part, 8, if is_erased() { !sum } else { sum });
            }
        }
    }
}

/// Makes every trailer count the frames and bytes that stand in front of it.
pub fn counts(file: &mut [u8]) {
    let (block, _) = layout(file);
    let (mut start, mut frames) = (start(block), 0_u32);
    for Structure { kind, offset, bytes } in structures(file) {
        match kind {
            Kind::Frame => frames += 1,
            Kind::Trailer if bytes == TRAILER_BYTES => {
                let Ok((trailer, _)) = CommitTrailer::mut_from_prefix(&mut file[offset..]) else { continue };
                trailer.count = frames.into();
                trailer.commit_bytes = ((offset + TRAILER_BYTES).saturating_sub(start) as u64).into();
                (start, frames) = (offset + TRAILER_BYTES, 0);
            }
            _ => {}
        }
    }
}

/// Where a frame's body slot is, by the frame's own lengths.
#[must_use]
pub fn slot(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    let (header, _) = FrameHeader::ref_from_prefix(frame).ok()?;
    let start = FRAME_HEADER_BYTES + usize::from(header.name_bytes.get()) + header.metadata_bytes.get() as usize;
    let end = start + slot_bytes(header.body_bytes.get() as usize, header.flags & FLAG_SALTED != 0);
    (end <= frame.len()).then_some(start..end)
}

fn put(part: &mut [u8], at: usize, sum: u32) {
    if let Some(place) = part.get_mut(at..at + 4) {
        place.copy_from_slice(sum.as_bytes());
    }
}
