//! What the bytes of a Chainring store are.
//!
//! The prose of record is `FORMAT.md` beside this package; the types here are checked against its tables by a test.
//! This room knows bytes, hashes and checksums. It knows no files, no clock, no policy, and it never panics on bytes from disk.
//!
//! | module | FORMAT.md |
//! |---|---|
//! | [`limits`] | 1.1 |
//! | [`segment`] | 3 |
//! | [`checksum`] | 3.2 |
//! | [`commit`] | 4 |
//! | [`footer`] | 5 |
//! | [`frame`] | 6 |
//! | [`record`] | 6.6 to 6.8 |
//! | [`hash`], [`tree`] | 7 |
//! | [`cbor`], [`metadata`] | 8 |

pub mod cbor;
pub mod checksum;
pub mod commit;
#[cfg(target_arch = "x86_64")]
mod crc_chains;
pub mod footer;
pub mod frame;
pub mod hash;
pub mod ids;
pub mod lanes;
pub mod limits;
pub mod metadata;
mod metadata_schema;
pub mod record;
pub mod segment;
#[cfg(target_arch = "x86_64")]
mod sha_pair;
pub mod tree;
mod two_blocks;

mod violation;

pub use ids::{EventId, Link, Position, StreamId, Version};
pub use violation::Violation;

/// Format version this package reads and writes.
pub const FORMAT_VERSION: u16 = 1;

/// Hash suite of format version 1.
pub const SUITE: u8 = 1;

/// Rounds `x` up to a multiple of `to`, which is a power of two.
#[must_use]
pub const fn align(x: u64, to: u64) -> u64 {
    debug_assert!(to.is_power_of_two());
    (x + to - 1) & !(to - 1)
}

/// What stands at an 8-aligned place of a commit area, told by its first four bytes (FORMAT.md section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A frame of that many bytes.
    Frame(u32),
    /// Padding up to the trailer.
    Padding,
    /// A commit trailer.
    Trailer,
    /// A segment footer.
    Footer,
    /// Nothing valid: zeros, or bytes that are none of ours.
    Nothing,
}

impl Mark {
    /// Reads the mark of the structure that starts with these bytes; fewer than four bytes are [`Mark::Nothing`].
    #[must_use]
    pub fn of(bytes: &[u8]) -> Mark {
        let Some(first) = bytes.first_chunk::<4>() else { return Mark::Nothing };
        match u32::from_le_bytes(*first) {
            commit::PADDING_MARK => Mark::Padding,
            commit::TRAILER_MAGIC => Mark::Trailer,
            footer::FOOTER_MAGIC => Mark::Footer,
            n if (frame::FRAME_BYTES_MIN..=frame::FRAME_BYTES_MAX).contains(&n) && n % 8 == 0 => Mark::Frame(n),
            _ => Mark::Nothing,
        }
    }
}
