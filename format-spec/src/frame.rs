//! Frames: the bytes of one record (FORMAT.md section 6).
//!
//! [`FrameView::parse`] borrows; nothing is copied. It checks what the frame's own bytes can show (rules F1 to F3); rules that need the
//! frame's neighbours or its hashes are checked by whoever walks them.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::align;
use crate::checksum::{crc, crc_append, crc_pair};
use crate::commit::TRAILER_BYTES;
use crate::hash::{self, EventContent, Hash, Leaf, LeafFields};
use crate::ids::{EventId, Link, StreamId};
use crate::lanes::{LaneBody, LaneEvent};
use crate::limits::{BATCH_BYTES_MAX, ENGINE_LANE, METADATA_BYTES_MAX, ORIGIN_BYTES_MAX, STREAM_NAME_BYTES_MAX};
use crate::metadata;
use crate::record;
use crate::violation::Violation;

/// Kind of the record at position 0.
pub const KIND_GENESIS: u8 = 0;
/// Kind of an event.
pub const KIND_EVENT: u8 = 16;
/// Frame flag: the body is followed by a salt.
pub const FLAG_SALTED: u8 = 1;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// Bytes of [`FrameHeader`].
pub const FRAME_HEADER_BYTES: usize = size_of::<FrameHeader>();
/// A body slot is at least as long as the body commitment that replaces an erased body.
pub const SLOT_BYTES_MIN: usize = 32;
/// Shortest frame.
pub const FRAME_BYTES_MIN: u32 = (FRAME_HEADER_BYTES + SLOT_BYTES_MIN) as u32;
/// Longest frame length that is not taken for a mark of section 4.
pub const FRAME_BYTES_MAX: u32 = 0x7FFF_FFF8;
/// Back distance of a predecessor that is this far away or farther.
pub const BACK_FAR: u32 = u32::MAX;

/// The first 120 bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)] // FORMAT.md section 6 has the meaning of every field.
pub struct FrameHeader {
    pub frame_bytes: U32,
    pub header_crc: U32,
    pub body_crc: U32,
    pub metadata_bytes: U32,
    pub body_bytes: U32,
    pub name_bytes: U16,
    pub kind: u8,
    pub flags: u8,
    pub version: U64,
    pub recorded_at_ns: U64,
    pub bucket_back: U32,
    pub stream_back: U32,
    pub batch_index: U32,
    pub batch_count: U32,
    pub stream_id: [u8; 16],
    pub event_id: [u8; 16],
    pub link: [u8; 32],
}

const _: () = assert!(FRAME_HEADER_BYTES == 120 && FRAME_BYTES_MIN.is_multiple_of(8));
const _: () = assert!(BATCH_BYTES_MAX < FRAME_BYTES_MAX as u64);

/// Fixed layout at the start of the genesis record's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)] // FORMAT.md section 6.5 has the meaning of every field.
pub struct GenesisBody {
    pub nonce: [u8; 32],
    pub log_key: [u8; 32],
    pub created_at_ns: U64,
    pub bucket_count: U32,
    pub suite: U16,
    pub origin_bytes: U16,
    pub reserved: [u8; 16],
}

const _: () = assert!(size_of::<GenesisBody>() == 96);

/// Bytes of a body slot.
#[must_use]
pub fn slot_bytes(body_bytes: usize, salted: bool) -> usize {
    (body_bytes + if salted { SALT_BYTES } else { 0 }).max(SLOT_BYTES_MIN)
}

/// Bytes of a whole frame (rule F1).
#[must_use]
pub fn frame_bytes(name_bytes: usize, metadata_bytes: usize, body_bytes: usize, salted: bool) -> u64 {
    align((FRAME_HEADER_BYTES + name_bytes + metadata_bytes + slot_bytes(body_bytes, salted)) as u64, 8)
}

/// Checksum of a body slot before it is bound to a place; a caller computes it before the place is known.
#[must_use]
pub fn slot_crc(body: &[u8], salt: Option<&[u8; SALT_BYTES]>) -> u32 {
    let mut sum = crc(body);
    let mut length = body.len();
    if let Some(salt) = salt {
        sum = crc_append(sum, salt);
        length += SALT_BYTES;
    }
    crc_append(sum, &[0; SLOT_BYTES_MIN][length.min(SLOT_BYTES_MIN)..])
}

/// Back distance from `position` to `previous`, as the header stores it.
#[must_use]
pub fn back_distance(position: u64, previous: Option<u64>) -> u32 {
    previous.map_or(0, |previous| u32::try_from(position - previous).unwrap_or(BACK_FAR))
}

/// Everything a frame is made of.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // as in FrameHeader
pub struct FrameFields<'a> {
    pub kind: u8,
    pub version: u64,
    pub recorded_at_ns: u64,
    pub bucket_back: u32,
    pub stream_back: u32,
    pub batch_index: u32,
    pub batch_count: u32,
    pub stream_id: StreamId,
    pub event_id: EventId,
    pub link: Link,
    /// Empty unless version is 1.
    pub name: &'a str,
    pub metadata: &'a [u8],
    pub body: &'a [u8],
    pub salt: Option<&'a [u8; SALT_BYTES]>,
    /// [`slot_crc`] of body and salt.
    pub slot_crc: u32,
}

impl FrameFields<'_> {
    /// Bytes of the frame.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.name.len(), self.metadata.len(), self.body.len(), self.salt.is_some())
    }

    /// Writes the frame. `out` is exactly [`FrameFields::frame_bytes`] long; `mask` is that of its file offset.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn encode(&self, out: &mut [u8], mask: u32) {
        let total = self.frame_bytes();
        assert_eq!(out.len() as u64, total, "a frame is encoded into exactly its own bytes");
        let mut header = FrameHeader {
            frame_bytes: (total as u32).into(),
            header_crc: 0.into(),
            body_crc: (self.slot_crc ^ mask).into(),
            metadata_bytes: (self.metadata.len() as u32).into(),
            body_bytes: (self.body.len() as u32).into(),
            name_bytes: (self.name.len() as u16).into(),
            kind: self.kind,
            flags: if self.salt.is_some() { FLAG_SALTED } else { 0 },
            version: self.version.into(),
            recorded_at_ns: self.recorded_at_ns.into(),
            bucket_back: self.bucket_back.into(),
            stream_back: self.stream_back.into(),
            batch_index: self.batch_index.into(),
            batch_count: self.batch_count.into(),
            stream_id: self.stream_id.0,
            event_id: self.event_id.0,
            link: self.link.0,
        };
        let mut sum = crc(&header.as_bytes()[12..]);
        sum = crc_append(sum, self.name.as_bytes());
        sum = crc_append(sum, self.metadata);
        header.header_crc = (sum ^ mask).into();

        let (head, rest) = out.split_at_mut(FRAME_HEADER_BYTES);
        head.copy_from_slice(header.as_bytes());
        let (name, rest) = rest.split_at_mut(self.name.len());
        name.copy_from_slice(self.name.as_bytes());
        let (meta, rest) = rest.split_at_mut(self.metadata.len());
        meta.copy_from_slice(self.metadata);
        let (body, mut rest) = rest.split_at_mut(self.body.len());
        body.copy_from_slice(self.body);
        if let Some(salt) = self.salt {
            let (at, behind) = rest.split_at_mut(SALT_BYTES);
            at.copy_from_slice(salt);
            rest = behind;
        }
        rest.fill(0);
    }
}

/// A frame in some bytes, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct FrameView<'a> {
    /// Its header.
    pub header: &'a FrameHeader,
    bytes: &'a [u8],
    erased: bool,
}

impl<'a> FrameView<'a> {
    /// The frame at the start of `bytes`, unchecked but for its length: for stepping over frames that were checked before.
    #[must_use]
    pub fn peek(bytes: &'a [u8]) -> Option<FrameView<'a>> {
        let (header, _) = FrameHeader::ref_from_prefix(bytes).ok()?;
        let frame = bytes.get(..header.frame_bytes.get() as usize)?;
        (header.stated_bytes().is_some()).then_some(FrameView { header, bytes: frame, erased: false })
    }

    /// Reads and checks the frame at the start of `bytes`: rules F1, F2, F3. `mask` is that of its file offset.
    ///
    /// # Errors
    /// The first rule that is broken.
    // A walk over frames is a twelfth faster where the view stays in registers: in memory it is written by the word and read two at a time, which waits until
    // everything before it, checksums too, is done.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8], mask: u32) -> Result<FrameView<'a>, Violation> {
        let f1 = |why| Violation::new("F1", why);
        let f2 = |why| Violation::new("F2", why);
        let Ok((header, _)) = FrameHeader::ref_from_prefix(bytes) else {
            return Err(f1("frame header is cut short"));
        };
        if header.stated_bytes().is_none() {
            return Err(f1("frame lengths do not agree"));
        }
        let Some(frame) = bytes.get(..header.frame_bytes.get() as usize) else {
            return Err(f1("frame is longer than what holds it"));
        };
        let mut view = FrameView { header, bytes: frame, erased: false };
        let slot = view.slot_range();
        let (header_crc, slot_crc) = crc_pair(&frame[12..slot.start], &frame[slot.clone()]);
        if header.header_crc.get() != header_crc ^ mask {
            return Err(f2("frame header checksum differs"));
        }
        if header.flags & !FLAG_SALTED != 0 || !is_known_kind(header.kind) {
            return Err(f2("frame flags or kind are reserved"));
        }
        if frame[slot.end..].iter().any(|&b| b != 0) {
            return Err(f2("filling behind the frame is not zero"));
        }
        let slot = &frame[slot];
        let content_bytes = header.body_bytes.get() as usize + if view.salted() { SALT_BYTES } else { 0 };
        let sum = slot_crc ^ mask;
        view.erased = header.body_crc.get() == !sum;
        if header.body_crc.get() != sum && !view.erased {
            return Err(Violation::new("F3", "body checksum differs"));
        }
        let filling = if view.erased { SLOT_BYTES_MIN } else { content_bytes.min(slot.len()) };
        if slot[filling..].iter().any(|&b| b != 0) {
            return Err(Violation::new("F3", "filling of the body slot is not zero"));
        }
        Ok(view)
    }

    /// The header of the frame at the start of `bytes`, its checksum verified; nothing is said of the body. For those who only want links.
    ///
    /// # Errors
    /// Rule F1, or F2 as far as the checksum goes.
    pub fn checked_header(bytes: &'a [u8], mask: u32) -> Result<&'a FrameHeader, Violation> {
        let view = FrameView::peek(bytes).ok_or_else(|| Violation::new("F1", "frame lengths do not agree"))?;
        let is_right = view.header.header_crc.get() == crc(&view.bytes[12..view.slot_range().start]) ^ mask;
        is_right.then_some(view.header).ok_or_else(|| Violation::new("F2", "frame header checksum differs"))
    }

    fn slot_range(&self) -> std::ops::Range<usize> {
        let start = FRAME_HEADER_BYTES + self.header.name_bytes.get() as usize + self.header.metadata_bytes.get() as usize;
        start..start + slot_bytes(self.header.body_bytes.get() as usize, self.salted())
    }

    fn salted(&self) -> bool {
        self.header.flags & FLAG_SALTED != 0
    }

    /// The whole frame.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Name of the stream; `Some` in the first event of a stream, if it is UTF-8.
    #[must_use]
    pub fn name(&self) -> Option<&'a str> {
        let bytes = &self.bytes[FRAME_HEADER_BYTES..][..self.header.name_bytes.get() as usize];
        std::str::from_utf8(bytes).ok().filter(|name| !name.is_empty())
    }

    /// Metadata bytes.
    #[must_use]
    pub fn metadata(&self) -> &'a [u8] {
        &self.bytes[FRAME_HEADER_BYTES + self.header.name_bytes.get() as usize..][..self.header.metadata_bytes.get() as usize]
    }

    /// Whether the body was erased in place.
    #[must_use]
    pub fn erased(&self) -> bool {
        self.erased
    }

    /// The body; `None` if it was erased.
    #[must_use]
    pub fn body(&self) -> Option<&'a [u8]> {
        let start = self.slot_range().start;
        (!self.erased).then(|| &self.bytes[start..start + self.header.body_bytes.get() as usize])
    }

    /// The salt; zeros if unsalted or erased.
    #[must_use]
    pub fn salt(&self) -> [u8; SALT_BYTES] {
        if self.erased || !self.salted() {
            return [0; SALT_BYTES];
        }
        let start = self.slot_range().start + self.header.body_bytes.get() as usize;
        *self.bytes[start..].first_chunk().expect("the slot holds body and salt")
    }

    /// Commitment to the body: computed, or taken from the slot if the body was erased.
    #[must_use]
    pub fn body_commit(&self) -> Hash {
        match self.body() {
            Some(body) => hash::body_commit(&self.salt(), body),
            None => *self.bytes[self.slot_range()].first_chunk().expect("a slot has at least 32 bytes"),
        }
    }

    /// Whether this is an event, not one of the engine's own records.
    #[must_use]
    pub fn is_event(&self) -> bool {
        self.header.kind == KIND_EVENT
    }

    /// Stream of the event.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        StreamId(self.header.stream_id)
    }

    /// Id of the event.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        EventId(self.header.event_id)
    }

    /// The stored link.
    #[must_use]
    pub fn link(&self) -> Link {
        Link(self.header.link)
    }

    /// Lane of the record.
    #[must_use]
    pub fn bucket(&self) -> u16 {
        if self.is_event() { self.stream_id().bucket() } else { ENGINE_LANE }
    }

    /// The record's content, to be hashed beside others; `batch_id` is the id of its batch's first event, zero if appended alone.
    #[must_use]
    pub fn lane_event(&self, batch_id: EventId) -> LaneEvent<'a> {
        LaneEvent {
            content: EventContent {
                stream_id: self.stream_id(),
                event_id: self.event_id(),
                batch_id,
                batch_index: self.header.batch_index.get(),
                batch_count: self.header.batch_count.get(),
                body_commit: &[0; 32],
                metadata: self.metadata(),
            },
            body: match self.body() {
                Some(body) => LaneBody::Bytes { salt: self.salt(), body },
                None => LaneBody::Commit(self.body_commit()),
            },
        }
    }

    /// Digest of the record's content; `batch_id` is the id of its batch's first event, zero if appended alone.
    #[must_use]
    pub fn digest(&self, batch_id: EventId) -> Hash {
        hash::event_digest(&EventContent {
            stream_id: self.stream_id(),
            event_id: self.event_id(),
            batch_id,
            batch_index: self.header.batch_index.get(),
            batch_count: self.header.batch_count.get(),
            body_commit: &self.body_commit(),
            metadata: self.metadata(),
        })
    }

    /// The link this record should have behind these predecessors.
    #[must_use]
    pub fn expected_link(&self, digest: &Hash, prev_bucket: &Hash, prev_stream: &Hash) -> Link {
        self.leaf(digest, prev_bucket, prev_stream).link()
    }

    /// This record's leaf behind these predecessors.
    #[must_use]
    #[inline]
    pub fn leaf(&self, digest: &Hash, prev_bucket: &Hash, prev_stream: &Hash) -> Leaf {
        Leaf::new(&LeafFields {
            kind: self.header.kind,
            bucket: self.bucket(),
            version: self.header.version.get(),
            recorded_at_ns: self.header.recorded_at_ns.get(),
            digest,
            prev_bucket,
            prev_stream,
        })
    }

    /// Checks what a frame with valid checksums must still hold by itself: rules F4 to F10 and M1 to M3.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, position: u64) -> Result<(), Violation> {
        let header = self.header;
        if (position == 0) != (header.kind == KIND_GENESIS) {
            return Err(Violation::new("F7", "the genesis record belongs at position 0, and nowhere else"));
        }
        if !self.is_event() {
            return self.check_engine(position);
        }
        let f4 = |why| Violation::new("F4", why);
        let (index, count) = (header.batch_index.get(), header.batch_count.get());
        if index >= count && (index, count) != (0, 0) {
            return Err(f4("batch index lies outside its batch"));
        }
        if header.version.get() == 0 || header.event_id == [0; 16] {
            return Err(f4("an event has a version from 1 and an id that is not zero"));
        }
        if (header.version.get() == 1) != (header.name_bytes.get() > 0) {
            return Err(f4("the first event of a stream, and no other, carries its name"));
        }
        if header.name_bytes.get() > 0 {
            match self.name() {
                None => return Err(f4("stream name is not UTF-8")),
                Some(name) if hash::stream_id(name) != self.stream_id() => return Err(f4("stream id is not that of the name")),
                Some(_) => {}
            }
        }
        metadata::check(self.metadata())
    }

    fn check_engine(&self, position: u64) -> Result<(), Violation> {
        let header = self.header;
        let other = [header.stream_id, header.event_id].concat().iter().any(|&b| b != 0);
        if other || header.name_bytes.get() != 0 || header.batch_index.get() != 0 || header.batch_count.get() != 0 || header.flags != 0 {
            return Err(Violation::new("F6", "an engine record has no stream, id, batch or salt"));
        }
        if header.kind == KIND_GENESIS {
            return self.check_genesis();
        }
        if header.metadata_bytes.get() != 0 {
            return Err(Violation::new("F6", "an engine record has no metadata"));
        }
        let Some(body) = self.body() else { return Err(Violation::new("F6", "the body of an engine record is erased")) };
        record::check_body(header.kind, body, position, header.recorded_at_ns.get())
    }

    fn check_genesis(&self) -> Result<(), Violation> {
        let header = self.header;
        let f7 = |why| Violation::new("F7", why);
        let (Some(body), 0, 0) = (self.body(), header.version.get(), header.metadata_bytes.get()) else {
            return Err(f7("the genesis record has version 0, a body and no metadata"));
        };
        let Ok((genesis, origin)) = GenesisBody::ref_from_prefix(body) else {
            return Err(f7("genesis body is cut short"));
        };
        let fixed = genesis.bucket_count.get() == u32::from(crate::limits::BUCKET_COUNT)
            && genesis.suite.get() == u16::from(crate::SUITE)
            && genesis.created_at_ns == header.recorded_at_ns
            && genesis.reserved == [0; 16];
        let origin_fits =
            origin.len() == genesis.origin_bytes.get() as usize && origin.len() <= ORIGIN_BYTES_MAX && std::str::from_utf8(origin).is_ok();
        if fixed && origin_fits { Ok(()) } else { Err(f7("genesis body has values that are not of this format version")) }
    }
}

/// Whether records of this kind are defined.
#[must_use]
pub fn is_known_kind(kind: u8) -> bool {
    matches!(kind, KIND_GENESIS | KIND_EVENT) || record::is_engine_kind(kind)
}

impl FrameHeader {
    /// Whether the record is an event, and then its bucket.
    #[must_use]
    pub fn event_bucket(&self) -> Option<u16> {
        (self.kind == KIND_EVENT).then(|| StreamId(self.stream_id).bucket())
    }

    /// The frame's length, if all lengths are within bounds and agree (rule F1).
    #[must_use]
    pub fn stated_bytes(&self) -> Option<u32> {
        lengths_of(self).filter(|&bytes| bytes == self.frame_bytes.get())
    }
}

/// The frame length that the other lengths give; `None` when one is out of bounds.
fn lengths_of(header: &FrameHeader) -> Option<u32> {
    let (name, metadata, body) = (header.name_bytes.get() as usize, header.metadata_bytes.get() as usize, header.body_bytes.get() as usize);
    let bytes = frame_bytes(name, metadata, body, header.flags & FLAG_SALTED != 0);
    let bounded = name <= STREAM_NAME_BYTES_MAX && metadata <= METADATA_BYTES_MAX && bytes + TRAILER_BYTES as u64 <= BATCH_BYTES_MAX;
    bounded.then_some(bytes as u32)
}

/// The origin in a genesis body that passed [`FrameView::check`].
#[must_use]
pub fn genesis_origin(body: &[u8]) -> &str {
    body.get(size_of::<GenesisBody>()..).and_then(|origin| std::str::from_utf8(origin).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(body: &'a [u8], salt: Option<&'a [u8; 16]>) -> FrameFields<'a> {
        FrameFields {
            kind: KIND_EVENT,
            version: 1,
            recorded_at_ns: 7,
            bucket_back: 0,
            stream_back: 0,
            batch_index: 0,
            batch_count: 0,
            stream_id: hash::stream_id("s"),
            event_id: EventId([1; 16]),
            link: Link([2; 32]),
            name: "s",
            metadata: b"\xa1\x01\x61t",
            body,
            salt,
            slot_crc: slot_crc(body, salt),
        }
    }

    #[test]
    fn every_single_bit_flip_is_noticed() {
        for (body, salt) in [(&b""[..], None), (b"body", Some(&[9; 16])), (&[5; 40], Some(&[9; 16])), (&[0; 33], None)] {
            let fields = fields(body, salt);
            let mut bytes = vec![0; fields.frame_bytes() as usize];
            fields.encode(&mut bytes, 0xABCD);
            let view = FrameView::parse(&bytes, 0xABCD).unwrap();
            assert_eq!((view.body(), view.name(), view.metadata()), (Some(body), Some("s"), &b"\xa1\x01\x61t"[..]));
            view.check(1).unwrap();
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(FrameView::parse(&bytes, 0xABCD).is_err(), "bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            assert!(FrameView::parse(&bytes, 0xABCE).is_err(), "another place has another mask");
        }
    }

    #[test]
    fn erasure_keeps_digest_and_takes_body() {
        let fields = fields(b"secret", Some(&[9; 16]));
        let mut bytes = vec![0; fields.frame_bytes() as usize];
        fields.encode(&mut bytes, 5);
        let (digest, commit) = {
            let view = FrameView::parse(&bytes, 5).unwrap();
            (view.digest(EventId::default()), view.body_commit())
        };
        let slot = FrameView::peek(&bytes).unwrap().slot_range();
        bytes[slot.clone()].fill(0);
        assert!(FrameView::parse(&bytes, 5).is_err(), "zeros alone are damage, not erasure");
        bytes[slot.start..slot.start + 32].copy_from_slice(&commit);
        let sum = !(crc(&bytes[slot]) ^ 5);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        let view = FrameView::parse(&bytes, 5).unwrap();
        assert!(view.erased() && view.body().is_none());
        assert_eq!(view.digest(EventId::default()), digest);
    }
}
