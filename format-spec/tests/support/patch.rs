//! Changes bytes of a store that was built, with or without repairing the checksums over them.

use std::mem::offset_of;

use chainring_format::checksum::crc;
use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::footer::FooterHeader;
use chainring_format::frame::{FLAG_SALTED, FRAME_HEADER_BYTES, FrameHeader, slot_bytes};
use chainring_format::hash::Hash;
use chainring_format::segment::{HEADER_BYTES, SegmentHeader};
use zerocopy::{FromBytes, IntoBytes};

use super::store::Store;

impl Store {
    /// Writes bytes over what stands there.
    pub(crate) fn write(&mut self, segment: usize, offset: usize, bytes: &[u8]) {
        self.segments[segment].bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Flips one bit.
    pub(crate) fn flip(&mut self, segment: usize, offset: usize) {
        self.segments[segment].bytes[offset] ^= 0x10;
    }

    /// Offset of the trailer of commit `index`.
    pub(crate) fn trailer(&self, index: usize) -> usize {
        self.commits[index].offset + self.commits[index].bytes - TRAILER_BYTES
    }

    /// Start of the block in which the trailer of commit `index` begins.
    pub(crate) fn trailer_block(&self, index: usize) -> u64 {
        let block = self.segments[self.commits[index].segment].block();
        (self.trailer(index) / block * block) as u64
    }

    /// The header of a frame.
    pub(crate) fn frame_header(&self, position: u64) -> FrameHeader {
        let place = self.frames[position as usize];
        FrameHeader::read_from_prefix(&self.segments[place.segment].bytes[place.offset..]).expect("a frame was built here").0
    }

    /// Changes the header of a frame; its checksums are left as they are.
    pub(crate) fn change_frame(&mut self, position: u64, change: impl FnOnce(&mut FrameHeader)) {
        let place = self.frames[position as usize];
        let mut header = self.frame_header(position);
        change(&mut header);
        self.write(place.segment, place.offset, header.as_bytes());
    }

    /// Changes the header of a frame and repairs its checksums.
    pub(crate) fn forge_frame(&mut self, position: u64, change: impl FnOnce(&mut FrameHeader)) {
        self.change_frame(position, change);
        self.repair_frame(position);
    }

    /// Offset of a frame's stream name.
    pub(crate) fn name_offset(&self, position: u64) -> usize {
        self.frames[position as usize].offset + FRAME_HEADER_BYTES
    }

    /// Offset and length of a frame's body slot.
    pub(crate) fn slot(&self, position: u64) -> (usize, usize) {
        let header = self.frame_header(position);
        let start = self.name_offset(position) + header.name_bytes.get() as usize + header.metadata_bytes.get() as usize;
        (start, slot_bytes(header.body_bytes.get() as usize, header.flags & FLAG_SALTED != 0))
    }

    /// Makes both checksums of a frame right for the bytes that stand there.
    pub(crate) fn repair_frame(&mut self, position: u64) {
        let place = self.frames[position as usize];
        let (slot, slot_bytes) = self.slot(position);
        let segment = &self.segments[place.segment];
        let mask = segment.seed().mask(place.offset as u64);
        let header_crc = crc(&segment.bytes[place.offset + 12..slot]) ^ mask;
        let body_crc = crc(&segment.bytes[slot..slot + slot_bytes]) ^ mask;
        self.write(place.segment, place.offset + offset_of!(FrameHeader, header_crc), &header_crc.to_le_bytes());
        self.write(place.segment, place.offset + offset_of!(FrameHeader, body_crc), &body_crc.to_le_bytes());
    }

    /// Erases a body as FORMAT.md section 6.4 says.
    pub(crate) fn erase(&mut self, position: u64, body_commit: &Hash) {
        let place = self.frames[position as usize];
        let (slot, slot_bytes) = self.slot(position);
        let mut bytes = body_commit.to_vec();
        bytes.resize(slot_bytes, 0);
        self.write(place.segment, slot, &bytes);
        self.complement_body_crc(position);
    }

    /// Stores the complement of the body checksum.
    pub(crate) fn complement_body_crc(&mut self, position: u64) {
        self.repair_frame(position);
        self.change_frame(position, |header| header.body_crc = (!header.body_crc.get()).into());
    }

    /// Changes the trailer of commit `index` and repairs its checksum, not its digest.
    pub(crate) fn forge_trailer(&mut self, index: usize, change: impl FnOnce(&mut CommitTrailer)) {
        let (segment, offset) = (self.commits[index].segment, self.trailer(index));
        let mut trailer = CommitTrailer::read_from_prefix(&self.segments[segment].bytes[offset..]).expect("a trailer was built here").0;
        change(&mut trailer);
        let sum = crc(&trailer.as_bytes()[8..]) ^ self.segments[segment].seed().mask(offset as u64);
        trailer.trailer_crc = sum.into();
        self.write(segment, offset, trailer.as_bytes());
    }

    /// Changes the header of a segment and repairs its checksum.
    pub(crate) fn forge_header(&mut self, segment: usize, change: impl FnOnce(&mut SegmentHeader)) {
        let mut header = self.segments[segment].header;
        change(&mut header);
        header.header_crc = crc(&header.as_bytes()[12..HEADER_BYTES]).into();
        self.segments[segment].header = header;
        self.write(segment, 0, header.as_bytes());
    }

    /// Makes the checksum of a footer right for the bytes that stand there.
    pub(crate) fn repair_footer(&mut self, segment: usize) {
        let one = &self.segments[segment];
        let sum = crc(&one.bytes[one.end + 8..one.end + one.footer_bytes]) ^ one.seed().mask(one.end as u64);
        self.write(segment, self.segments[segment].end + offset_of!(FooterHeader, footer_crc), &sum.to_le_bytes());
    }
}
