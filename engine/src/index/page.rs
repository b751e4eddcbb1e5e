//! Files of pages, each with a checksum bound to its place, read in place.
//!
//! A page is checked when it is first touched, not when the file is opened: opening costs the same for every size. Bytes that do not hold are never
//! handed out.

use chainring_format::checksum::{Seed, crc};

use crate::disk::Region;
use crate::sync::{AtomicU64, Ordering};

/// Bytes of a page.
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of a page that are its own: the rest is its checksum.
pub(super) const PAYLOAD_BYTES: usize = PAGE_BYTES - 4;

/// What is wrong with a run: nothing of it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// Puts the checksum into a page.
pub(super) fn seal(page: &mut [u8], seed: Seed, number: u64) {
    let (payload, sum) = page.split_at_mut(PAYLOAD_BYTES);
    sum.copy_from_slice(&(crc(payload) ^ seed.mask(number)).to_le_bytes());
}

/// The bytes of a page, if its checksum holds.
pub(super) fn check(page: &[u8], seed: Seed, number: u64) -> Result<&[u8], Broken> {
    let (payload, sum) = page.split_at_checked(PAYLOAD_BYTES).ok_or(Broken)?;
    let holds = sum.first_chunk() == Some(&(crc(payload) ^ seed.mask(number)).to_le_bytes());
    holds.then_some(payload).ok_or(Broken)
}

/// A file of pages.
#[derive(Debug)]
pub(super) struct Pages {
    region: Region,
    seed: Seed,
    /// A bit for every page that was found to hold. Relaxed: it only saves work.
    checked: Box<[AtomicU64]>,
}

impl Pages {
    pub(super) fn new(region: Region, seed: Seed) -> Pages {
        let words = region.bytes().div_ceil(PAGE_BYTES).div_ceil(64);
        Pages { region, seed, checked: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(super) fn count(&self) -> u64 {
        (self.region.bytes() / PAGE_BYTES) as u64
    }

    /// Brings in so many bytes from a byte of a page of each of these on, side by side.
    pub(super) fn bring_in<'p>(places: impl Iterator<Item = (&'p Pages, (u64, usize), usize)>) {
        // Which page it is may come from bytes that are wrong: behind the end there is nothing to bring in.
        let offset = |(page, byte): (u64, usize)| page.saturating_mul(PAGE_BYTES as u64).saturating_add(byte as u64);
        Region::bring_in_apart(places.map(|(pages, place, count)| (&pages.region, offset(place), count as u64)));
    }

    /// The bytes of a page without its checksum.
    pub(super) fn page(&self, number: u64) -> Result<&[u8], Broken> {
        if number >= self.count() {
            return Err(Broken);
        }
        let bytes = self.region.read_page(number * PAGE_BYTES as u64, PAGE_BYTES as u64).map_err(|_| Broken)?;
        let page = bytes.get(..PAGE_BYTES).ok_or(Broken)?;
        let (word, bit) = (&self.checked[number as usize / 64], 1 << (number % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            check(page, self.seed, number)?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(&page[..PAYLOAD_BYTES])
    }
}
