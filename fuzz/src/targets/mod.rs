//! Fuzz targets as plain functions: bytes in, a panic where something is not as it must be.
//!
//! Always: a target is deterministic, leaves nothing behind, and can fail: its *canary* is a bug planted in what it watches, switched on by
//! [`with_canary`], and a test proves that mutations find it. Never: a target does not know how its inputs come about; [`runner`] and
//! `libfuzzer/` feed the same functions.
//!
//! | module | part |
//! |---|---|
//! | [`frame`], [`metadata`], [`segment`], [`store`], [`recover`], [`import_line`], [`disagree`], [`proof`] | the targets |
//! | [`archive`] | a whole store as one piece of bytes |
//! | [`seeds`] | what mutations start from |
//! | [`mutate`], [`repair`], [`model`] | mutations that know what a store is |
//! | [`runner`] | rounds of mutations from a seed, with bounds on time and memory |

use std::cell::Cell;

pub mod archive;
pub mod disagree;
pub mod frame;
pub mod import_line;
pub mod metadata;
pub mod model;
pub mod mutate;
pub mod proof;
pub mod random;
pub mod recover;
pub mod repair;
pub mod runner;
pub mod seeds;
pub mod segment;
pub mod store;

use random::Random;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Takes any bytes; panics on a finding.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// An input near another one.
    pub mutate: fn(&[u8], &mut Random) -> Vec<u8>,
    /// The planted bug, in words.
    pub canary: &'static str,
}

/// Every target.
pub const ALL: [Target; 8] = [
    frame::TARGET,
    metadata::TARGET,
    segment::TARGET,
    store::TARGET,
    recover::TARGET,
    import_line::TARGET,
    disagree::TARGET,
    proof::TARGET,
];

/// The target of that name.
#[must_use]
pub fn named(name: &str) -> Option<Target> {
    ALL.into_iter().find(|target| target.name == name)
}

thread_local! {
    static PLANTED: Cell<bool> = const { Cell::new(false) };
}

/// Does something while the bugs of the canaries are planted, in this thread.
pub fn with_canary<T>(act: impl FnOnce() -> T) -> T {
    struct Remove;
    impl Drop for Remove {
        fn drop(&mut self) {
            PLANTED.set(false);
        }
    }
    PLANTED.set(true);
    let _remove = Remove;
    act()
}

/// Whether this target's subject is to misbehave.
pub(crate) fn is_planted() -> bool {
    PLANTED.get()
}

/// Start inputs of the targets over whole stores.
fn store_seeds() -> Vec<Vec<u8>> {
    seeds::STORES.iter().map(archive::Archive::encode).collect()
}
