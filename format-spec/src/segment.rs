//! Segment header and file names (FORMAT.md sections 2 and 3).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::crc;
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, PACKED_BLOCK_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::violation::Violation;
use crate::{FORMAT_VERSION, SUITE, align};

/// First bytes of every segment file.
pub const SEGMENT_MAGIC: [u8; 8] = *b"CHRSEG\r\n";

/// Bytes of [`SegmentHeader`].
pub const HEADER_BYTES: usize = size_of::<SegmentHeader>();

/// Feature bit of a segment that was written anew without padding (FORMAT.md section 3.3).
pub const FEATURE_PACKED: u64 = 1;

/// The first 256 bytes of a segment file; the rest of its first block is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)] // FORMAT.md section 3.1 has the meaning of every field.
pub struct SegmentHeader {
    pub magic: [u8; 8],
    pub header_crc: U32,
    pub read_version: U16,
    pub write_version: U16,
    pub features: U64,
    pub suite: u8,
    pub reserved_a: [u8; 3],
    pub block_bytes: U32,
    pub number: U64,
    pub segment_bytes: U64,
    pub epoch: U64,
    pub first_position: U64,
    pub created_at_ns: U64,
    pub salt: [u8; 16],
    pub log_id: [u8; 32],
    pub prev_end_offset: U64,
    pub prev_footer_bytes: U64,
    pub prev_cut_bytes: U64,
    pub prev_commit_digest: [u8; 32],
    pub prev_heads_root: [u8; 32],
    pub packed_end_offset: U64,
    pub unpacked_end_offset: U64,
    pub reserved_b: [u8; 32],
}

const _: () = assert!(HEADER_BYTES == 256 && HEADER_BYTES <= BLOCK_BYTES_MIN as usize);

/// The file ends inside the header.
pub const HEADER_CUT_SHORT: Violation = Violation::new("S4", "segment header is cut short");
/// The file ends inside the header's block.
pub const BLOCK_CUT_SHORT: Violation = Violation::new("S4", "header block is cut short");

impl SegmentHeader {
    /// Fills in magic, versions, suite and checksum, which no caller chooses.
    #[must_use]
    pub fn sealed(mut self) -> SegmentHeader {
        self.magic = SEGMENT_MAGIC;
        self.read_version = FORMAT_VERSION.into();
        self.write_version = FORMAT_VERSION.into();
        self.suite = SUITE;
        self.resealed()
    }

    /// Makes the checksum right for the rest. A header that is changed keeps the versions it was written with.
    #[must_use]
    pub fn resealed(mut self) -> SegmentHeader {
        self.header_crc = crc(&self.as_bytes()[12..]).into();
        self
    }

    /// Reads and checks the header at the start of a segment file: rules S4, S7 and, for reading, S5.
    ///
    /// `file` is the beginning of the file, at least one block if the file has that much.
    ///
    /// # Errors
    /// The first rule that the bytes break.
    pub fn parse(file: &[u8]) -> Result<SegmentHeader, Violation> {
        let s4 = |why| Violation::new("S4", why);
        let (header, _) = SegmentHeader::read_from_prefix(file).map_err(|_| HEADER_CUT_SHORT)?;
        if header.magic != SEGMENT_MAGIC {
            return Err(s4("not a segment file: magic differs"));
        }
        if header.header_crc.get() != crc(&header.as_bytes()[12..]) {
            return Err(s4("segment header checksum differs"));
        }
        if header.read_version.get() > FORMAT_VERSION || header.read_version.get() == 0 {
            return Err(Violation::new("S5", "segment needs a reader of another format version"));
        }
        if header.features.get() & !FEATURE_PACKED != 0 {
            return Err(Violation::new("S5", "segment needs features that this version does not know"));
        }
        if header.suite != SUITE {
            return Err(Violation::new("S5", "segment uses a hash suite that this version does not know"));
        }
        let block = header.block_bytes.get();
        if header.is_packed() && block != PACKED_BLOCK_BYTES {
            return Err(Violation::new("S7", "a packed segment has blocks of 8 bytes"));
        }
        if !header.is_packed() && (!block.is_power_of_two() || !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block)) {
            return Err(s4("block_bytes out of bounds"));
        }
        let bytes = header.segment_bytes.get();
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) || bytes % u64::from(block) != 0 {
            return Err(s4("segment_bytes out of bounds"));
        }
        if header.reserved_a != [0; 3] || header.reserved_b != [0; 32] {
            return Err(s4("reserved bytes of the segment header are not zero"));
        }
        header.check_ends()?;
        let Some(filling) = file.get(HEADER_BYTES..header.start() as usize) else {
            return Err(BLOCK_CUT_SHORT);
        };
        if filling.iter().any(|&b| b != 0) {
            return Err(s4("filling of the header block is not zero"));
        }
        Ok(header)
    }

    /// Rule S7 for the two ends that only a packed segment states.
    fn check_ends(&self) -> Result<(), Violation> {
        let (packed, unpacked) = (self.packed_end_offset.get(), self.unpacked_end_offset.get());
        let holds = if self.is_packed() {
            let are_aligned = (packed | unpacked).is_multiple_of(PACKED_BLOCK_BYTES.into());
            are_aligned && self.start() <= packed && packed <= unpacked && unpacked <= self.segment_bytes.get()
        } else {
            (packed, unpacked) == (0, 0)
        };
        if holds {
            Ok(())
        } else {
            Err(Violation::new("S7", "the ends of a packed segment are out of bounds, or the segment is not packed"))
        }
    }

    /// Whether the segment was written anew without padding.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.features.get() & FEATURE_PACKED != 0
    }

    /// Offset of the first commit: behind the header and what fills its block.
    #[must_use]
    pub fn start(&self) -> u64 {
        align(HEADER_BYTES as u64, self.block_bytes.get().into())
    }

    /// The end that the segment itself states: only a packed one knows it.
    #[must_use]
    pub fn packed_end(&self) -> Option<u64> {
        self.is_packed().then(|| self.packed_end_offset.get())
    }

    /// Whether this version may append to the store (rule S5); reading may be allowed where writing is not.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.write_version.get() <= FORMAT_VERSION
    }
}

/// `NNNNNNNNNN.seg`, the file name of a segment (rule L1).
#[must_use]
pub fn file_name(number: u64) -> String {
    format!("{number:010}.seg")
}

/// The segment number in a file name; `None` for names that are no segment's.
#[must_use]
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let number = (digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())??;
    (number > 0).then_some(number)
}
