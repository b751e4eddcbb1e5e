//! What the tests of this package share: a builder of small stores, the golden cases made with it, and a judge that walks them.
//!
//! Everything here is fixed: no clock, no randomness, so the same case gives the same bytes on every machine.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub(crate) mod bless;
pub(crate) mod case;
pub(crate) mod document;
pub(crate) mod example;
pub(crate) mod inner_keys;
pub(crate) mod invalid;
pub(crate) mod judge;
pub(crate) mod maps;
pub(crate) mod pack;
pub(crate) mod patch;
pub(crate) mod records;
pub(crate) mod store;
pub(crate) mod types;
pub(crate) mod valid;

/// Bytes painted with period 251, which divides no block, chunk or sector size: swapped or shifted blocks show.
pub(crate) fn painted(start: usize, length: usize) -> Vec<u8> {
    (start..start + length).map(|i| (i % 251) as u8).collect()
}

/// [`painted`] bytes of a fixed number.
pub(crate) fn painted_array<const N: usize>(start: usize) -> [u8; N] {
    std::array::from_fn(|i| ((start + i) % 251) as u8)
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
