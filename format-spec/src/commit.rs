//! Commit trailer (FORMAT.md section 4).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::{Seed, crc};
use crate::violation::Violation;

/// First four bytes of padding inside a commit; every padding byte is [`PADDING_BYTE`].
pub const PADDING_MARK: u32 = 0xFFFF_FFFF;
/// Padding is not zero, so that a zero sector inside a commit is evidence of a torn write.
pub const PADDING_BYTE: u8 = 0xFF;
/// First four bytes of a trailer ("CMT\xF1"); larger than any frame length.
pub const TRAILER_MAGIC: u32 = 0xF154_4D43;
/// Bytes of [`CommitTrailer`].
pub const TRAILER_BYTES: usize = size_of::<CommitTrailer>();
/// Trailer flag: the writer closed the log in order.
pub const FLAG_CLOSED: u32 = 1;

/// The last 160 bytes of a commit's last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)] // FORMAT.md section 4.1 has the meaning of every field.
pub struct CommitTrailer {
    pub magic: U32,
    pub trailer_crc: U32,
    pub first_position: U64,
    pub count: U32,
    pub flags: U32,
    pub commit_bytes: U64,
    pub watermark: U64,
    pub time_ns: U64,
    pub epoch: U64,
    pub reserved_a: [u8; 8],
    pub previous_digest: [u8; 32],
    pub digest: [u8; 32],
    pub mac: [u8; 16],
    pub reserved_b: [u8; 16],
}

const _: () = assert!(TRAILER_BYTES == 160);

impl CommitTrailer {
    /// Fills in magic and checksum for a trailer at this file offset.
    #[must_use]
    pub fn sealed(mut self, seed: Seed, offset: u64) -> CommitTrailer {
        self.magic = TRAILER_MAGIC.into();
        self.trailer_crc = (crc(&self.as_bytes()[8..]) ^ seed.mask(offset)).into();
        self
    }

    /// Reads and checks the trailer at file offset `offset`: what of rule C4 can be seen from its own bytes.
    ///
    /// # Errors
    /// Rule C4 and what is wrong.
    pub fn parse(bytes: &[u8], seed: Seed, offset: u64) -> Result<CommitTrailer, Violation> {
        let c4 = |why| Violation::new("C4", why);
        let (trailer, _) = CommitTrailer::read_from_prefix(bytes).map_err(|_| c4("commit trailer is cut short"))?;
        if trailer.magic.get() != TRAILER_MAGIC {
            return Err(c4("commit trailer magic differs"));
        }
        if trailer.trailer_crc.get() != crc(&trailer.as_bytes()[8..]) ^ seed.mask(offset) {
            return Err(c4("commit trailer checksum differs"));
        }
        if trailer.reserved_a != [0; 8]
            || trailer.reserved_b != [0; 16]
            || trailer.mac != [0; 16]
            || trailer.flags.get() & !FLAG_CLOSED != 0
        {
            return Err(c4("reserved bytes of the commit trailer are not zero"));
        }
        let next = trailer.first_position.get().checked_add(u64::from(trailer.count.get()));
        if next.is_none_or(|next| trailer.watermark.get() > next) {
            return Err(c4("watermark lies beyond its own commit"));
        }
        Ok(trailer)
    }

    /// Whether the writer closed the log with this commit.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.flags.get() & FLAG_CLOSED != 0
    }

    /// Position of the first record after this commit.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.first_position.get() + u64::from(self.count.get())
    }
}
