//! Reading a segment whose header is gone.
//!
//! Every checksum is masked with `crc32c(salt || offset)`, and the salt stood in the header. But a checksum is affine: the salt's whole share in every
//! mask is one number of 32 bits, the same at every offset. A structure whose bytes hold gives that number; a frame gives it twice, from its
//! two checksums, and where both say the same it is proven as well as a checksum proves anything. Any salt with that share serves in the lost one's stead.
//!
//! What was written to the wrong place can agree with itself, too: the masks of offsets that differ in one bit differ by the same number everywhere. The
//! times of its records tell: they never decrease, and the headers of other segments say between which they must be.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::RangeInclusive;

use chainring_format::checksum::{Seed, crc};
use chainring_format::commit::{CommitTrailer, FLAG_CLOSED, TRAILER_BYTES, TRAILER_MAGIC};
use chainring_format::frame::{FLAG_SALTED, FrameHeader, slot_bytes};
use zerocopy::{FromBytes, IntoBytes};

use super::scan::{Effort, stated_frame};

/// So many votes are enough.
const VOTES_ENOUGH: u32 = 64;

/// A salt that gives the masks of this segment, if enough of it holds to prove one. Its records were recorded within `times_ns`.
pub(super) fn find_salt(bytes: &[u8], times_ns: &RangeInclusive<u64>) -> Option<[u8; 16]> {
    let plain = Seed::new(&[0; 16]);
    let mut votes: HashMap<u32, u32> = HashMap::new();
    let mut effort = Effort::for_bytes(bytes.len() as u64);
    let (mut at, mut frames) = (0, 0);
    // What lies in a frame that holds has no vote: a body may be anything, a copy of another store as well.
    while at < bytes.len() && frames < VOTES_ENOUGH {
        let left = &bytes[at..];
        let (mask, time_ns, vote, passed) = match (frame_mask(left, &mut effort), trailer_mask(left)) {
            (Some((mask, frame)), _) => (mask, frame.recorded_at_ns.get(), 2, frame.frame_bytes.get() as usize),
            (None, Some((mask, trailer))) => (mask, trailer.time_ns.get(), 1, TRAILER_BYTES),
            (None, None) => {
                at += 8;
                continue;
            }
        };
        if times_ns.contains(&time_ns) {
            *votes.entry(mask ^ plain.mask(at as u64)).or_default() += vote;
            frames += u32::from(vote == 2);
        }
        at += passed;
    }
    // Two trailers, or one frame: less is no proof.
    let (share, _) = votes.into_iter().filter(|(_, votes)| *votes >= 2).max_by_key(|(share, votes)| (*votes, Reverse(*share)))?;
    Some(stand_in(share ^ plain.mask(0)))
}

/// The mask that makes a trailer's checksum right, if it looks like a trailer.
fn trailer_mask(bytes: &[u8]) -> Option<(u32, &CommitTrailer)> {
    let (trailer, _) = CommitTrailer::ref_from_prefix(bytes).ok()?;
    let is_plain = trailer.magic.get() == TRAILER_MAGIC
        && (trailer.reserved_a, trailer.mac, trailer.reserved_b) == ([0; 8], [0; 16], [0; 16])
        && trailer.flags.get() & !FLAG_CLOSED == 0;
    is_plain.then(|| (trailer.trailer_crc.get() ^ crc(&trailer.as_bytes()[8..]), trailer))
}

/// The mask that makes both checksums of a frame right.
fn frame_mask<'a>(bytes: &'a [u8], effort: &mut Effort) -> Option<(u32, &'a FrameHeader)> {
    let (header, head_bytes) = stated_frame(bytes)?;
    let slot_end = head_bytes + slot_bytes(header.body_bytes.get() as usize, header.flags & FLAG_SALTED != 0);
    let slot = bytes.get(head_bytes..slot_end)?;
    if !effort.allows(slot_end) {
        return None;
    }
    let mask = header.header_crc.get() ^ crc(&bytes[12..head_bytes]);
    let sum = crc(slot) ^ mask;
    if header.body_crc.get() == sum || header.body_crc.get() == !sum {
        return Some((mask, header));
    }
    effort.spend(slot_end);
    None
}

/// A salt whose mask at offset 0 is this one; then its masks at all offsets are those of whatever salt was lost.
fn stand_in(mask_at_0: u32) -> [u8; 16] {
    let salt = |tail: u32| {
        let mut salt = [0; 16];
        salt[12..].copy_from_slice(&tail.to_le_bytes());
        salt
    };
    let mask = |tail: u32| Seed::new(&salt(tail)).mask(0);
    let zero = mask(0);
    // The mask is affine in the salt's last four bytes and takes every value once: elimination over its 32 columns.
    let mut columns: Vec<(u32, u32)> = (0..32).map(|bit| (mask(1 << bit) ^ zero, 1 << bit)).collect();
    let (mut wanted, mut tail) = (mask_at_0 ^ zero, 0);
    for bit in 0..32 {
        let has_bit = |image: u32| image >> bit & 1 == 1;
        let pivot = columns.iter().position(|(image, _)| has_bit(*image)).expect("a checksum of four bytes takes every value");
        let (image, source) = columns.swap_remove(pivot);
        for column in columns.iter_mut().filter(|(column, _)| has_bit(*column)) {
            *column = (column.0 ^ image, column.1 ^ source);
        }
        if has_bit(wanted) {
            (wanted, tail) = (wanted ^ image, tail ^ source);
        }
    }
    salt(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_gives_the_masks_of_the_lost_salt() {
        for byte in 0..=255_u8 {
            let mut lost = [byte; 16];
            lost[7] = byte.wrapping_mul(31);
            let (lost, found) = (Seed::new(&lost), Seed::new(&stand_in(Seed::new(&lost).mask(0))));
            for offset in [0, 8, 512, 4096, 123_456, 1 << 33, u64::MAX] {
                assert_eq!(lost.mask(offset), found.mask(offset));
            }
        }
    }
}
