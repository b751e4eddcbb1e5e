//! One frame (FORMAT.md section 6): its layout and the rules of its bytes, F1, F2 and F3.
//!
//! Always: lengths are bounded and agree with `frame_bytes` before they are used to cut the frame into parts.
//! Never: judges what a record means; that is `record.rs`.

use crate::bytes::{Hash, Id, all_zero, array_at, u16_at, u32_at, u64_at};
use crate::hash::Masks;
use crate::metadata::METADATA_BYTES_MAX;
use crate::seal::{KIND_ANCHOR, KIND_KEY, KIND_SEAL};

pub(crate) const FRAME_HEADER_BYTES: usize = 120;
/// Smallest frame: a header and an empty slot.
pub(crate) const FRAME_BYTES_MIN: u32 = 152;
/// Largest value that marks a frame.
pub(crate) const FRAME_BYTES_MAX: u32 = 0x7FFF_FFF8;

pub(crate) const KIND_GENESIS: u8 = 0;
pub(crate) const KIND_EVENT: u8 = 16;

pub(crate) const STREAM_NAME_BYTES_MAX: u16 = 512;
/// One atomic append with its frames and its trailer.
const BATCH_BYTES_MAX: u64 = 1_073_741_824;
const TRAILER_BYTES: u64 = 160;

const FLAG_SALTED: u8 = 1;
const SLOT_BYTES_MIN: u64 = 32;
const SALT_BYTES: u64 = 16;

/// The 120 fixed bytes of a frame.
#[derive(Clone, Debug)]
pub(crate) struct FrameHeader {
    pub(crate) frame_bytes: u32,
    pub(crate) header_crc: u32,
    pub(crate) body_crc: u32,
    pub(crate) metadata_bytes: u32,
    pub(crate) body_bytes: u32,
    pub(crate) name_bytes: u16,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) version: u64,
    pub(crate) recorded_at_ns: u64,
    pub(crate) bucket_back: u32,
    pub(crate) stream_back: u32,
    pub(crate) batch_index: u32,
    pub(crate) batch_count: u32,
    pub(crate) stream_id: Id,
    pub(crate) event_id: Id,
    pub(crate) link: Hash,
}

impl FrameHeader {
    /// `bytes` holds at least the 120 bytes of the header.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        FrameHeader {
            frame_bytes: u32_at(bytes, 0),
            header_crc: u32_at(bytes, 4),
            body_crc: u32_at(bytes, 8),
            metadata_bytes: u32_at(bytes, 12),
            body_bytes: u32_at(bytes, 16),
            name_bytes: u16_at(bytes, 20),
            kind: bytes[22],
            flags: bytes[23],
            version: u64_at(bytes, 24),
            recorded_at_ns: u64_at(bytes, 32),
            bucket_back: u32_at(bytes, 40),
            stream_back: u32_at(bytes, 44),
            batch_index: u32_at(bytes, 48),
            batch_count: u32_at(bytes, 52),
            stream_id: array_at(bytes, 56),
            event_id: array_at(bytes, 72),
            link: array_at(bytes, 88),
        }
    }

    pub(crate) fn is_salted(&self) -> bool {
        self.flags & FLAG_SALTED != 0
    }

    fn salt_bytes(&self) -> u64 {
        if self.is_salted() { SALT_BYTES } else { 0 }
    }

    fn slot_bytes(&self) -> u64 {
        (u64::from(self.body_bytes) + self.salt_bytes()).max(SLOT_BYTES_MIN)
    }

    fn slot_offset(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.name_bytes) + u64::from(self.metadata_bytes)
    }

    /// F1, as far as one frame can show it: bounds, and lengths that add up.
    pub(crate) fn check_lengths(&self) -> Result<(), &'static str> {
        if self.name_bytes > STREAM_NAME_BYTES_MAX || self.metadata_bytes > METADATA_BYTES_MAX {
            return Err("name_bytes or metadata_bytes is out of bounds");
        }
        if u64::from(self.frame_bytes) + TRAILER_BYTES > BATCH_BYTES_MAX {
            return Err("the frame is larger than any batch may be");
        }
        if (self.slot_offset() + self.slot_bytes()).next_multiple_of(8) != u64::from(self.frame_bytes) {
            return Err("frame_bytes does not equal its parts");
        }
        Ok(())
    }
}

/// A frame cut into its parts; made only of lengths that passed F1.
pub(crate) struct Frame<'a> {
    pub(crate) header: FrameHeader,
    pub(crate) name: &'a [u8],
    pub(crate) metadata: &'a [u8],
    pub(crate) slot: &'a [u8],
    checked: &'a [u8],
    filling: &'a [u8],
}

/// Whether a slot holds its body or only the body's commitment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Slot {
    Kept,
    Erased,
}

impl<'a> Frame<'a> {
    /// `bytes` is the whole frame, its lengths checked by [`FrameHeader::check_lengths`].
    pub(crate) fn cut(bytes: &'a [u8]) -> Self {
        let header = FrameHeader::parse(bytes);
        let name_end = FRAME_HEADER_BYTES + header.name_bytes as usize;
        let slot_at = header.slot_offset() as usize;
        let slot_end = slot_at + header.slot_bytes() as usize;
        Frame {
            name: &bytes[FRAME_HEADER_BYTES..name_end],
            metadata: &bytes[name_end..slot_at],
            slot: &bytes[slot_at..slot_end],
            checked: &bytes[12..slot_at],
            filling: &bytes[slot_end..],
            header,
        }
    }

    /// F2, first part: the checksum of header, name and metadata.
    pub(crate) fn header_holds(&self, offset: u64, masks: &Masks) -> bool {
        masks.checksum(offset, self.checked) == self.header.header_crc
    }

    /// F2, second part, for a frame whose header checksum holds.
    pub(crate) fn check_reserved(&self) -> Result<(), &'static str> {
        if self.header.flags & !FLAG_SALTED != 0 {
            return Err("reserved flags are set");
        }
        if !matches!(self.header.kind, KIND_GENESIS | KIND_SEAL | KIND_KEY | KIND_ANCHOR | KIND_EVENT) {
            return Err("the record's kind is reserved");
        }
        if !all_zero(self.filling) {
            return Err("the frame's filling is not zero");
        }
        Ok(())
    }

    /// F3: which of its two forms the slot's checksum has, if any.
    pub(crate) fn slot_state(&self, offset: u64, masks: &Masks) -> Option<Slot> {
        let checksum = masks.checksum(offset, self.slot);
        match self.header.body_crc {
            stored if stored == checksum => Some(Slot::Kept),
            stored if stored == !checksum => Some(Slot::Erased),
            _ => None,
        }
    }

    /// Zero filling inside the slot (F3, sections 6.3 and 6.4).
    pub(crate) fn slot_filling_is_zero(&self, state: Slot) -> bool {
        let used = match state {
            Slot::Kept => self.header.body_bytes as usize + self.header.salt_bytes() as usize,
            Slot::Erased => SLOT_BYTES_MIN as usize,
        };
        all_zero(&self.slot[used..])
    }

    /// The body of a kept slot.
    pub(crate) fn body(&self) -> &'a [u8] {
        &self.slot[..self.header.body_bytes as usize]
    }

    /// The salt of a kept slot: stored, or sixteen zeros.
    pub(crate) fn salt(&self) -> [u8; 16] {
        if self.header.is_salted() { array_at(self.slot, self.header.body_bytes as usize) } else { [0; 16] }
    }
}
