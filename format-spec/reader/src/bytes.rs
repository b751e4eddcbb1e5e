//! Integers and arrays out of byte slices (FORMAT.md section 1), and the arithmetic of alignment.
//!
//! Always: little-endian. The caller passes a slice whose length it has checked for the whole structure; offsets are constants of the layout.
//! Never: reads past the slice it was given.

/// A SHA-256 or BLAKE3 value.
pub(crate) type Hash = [u8; 32];

/// A stream id or an event id.
pub(crate) type Id = [u8; 16];

/// What a field holds before its first value, and what the first link hashes.
pub(crate) const ZERO_HASH: Hash = [0; 32];

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// `x` rounded down to a multiple of the power of two `unit`.
pub(crate) fn align_down(x: u64, unit: u64) -> u64 {
    x & !(unit - 1)
}

/// `x` rounded up to a multiple of the power of two `unit`; offsets in files stay far below the end of u64.
pub(crate) fn align_up(x: u64, unit: u64) -> u64 {
    align_down(x.saturating_add(unit - 1), unit)
}
