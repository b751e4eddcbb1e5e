//! Tables by ids of 16 bytes, for whoever looks up two of them for every record there is.
//!
//! Seeded anew for every table: what is verified may have been written by somebody who would like ids to collide.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

use crate::index::Mixer;

/// A table by stream or event ids.
pub(super) type IdMap<K, V> = HashMap<K, V, Ids>;
/// A set of them.
pub(super) type IdSet<K> = HashSet<K, Ids>;

/// Makes hashers of one table.
#[derive(Debug, Clone)]
pub(super) struct Ids(Mixer);

impl Default for Ids {
    fn default() -> Ids {
        // The library's own source of seeds, which an attacker does not know.
        Ids(Mixer::new(RandomState::new().build_hasher().finish()))
    }
}

impl BuildHasher for Ids {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { mixer: self.0, hash: 0 }
    }
}

/// Hashes one id.
#[derive(Debug)]
pub(super) struct IdHasher {
    mixer: Mixer,
    hash: u64,
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.hash = self.mixer.hash_id(bytes.try_into().expect("keys of these tables are ids of 16 bytes"));
    }

    /// The length of an array, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use chainring_format::EventId;

    use super::*;

    #[test]
    fn ids_are_found_again_and_spread() {
        let mut set = IdSet::default();
        assert!((0..10_000_u128).all(|n| set.insert(EventId(n.to_le_bytes()))));
        assert!((0..10_000_u128).all(|n| !set.insert(EventId(n.to_le_bytes()))));
        let hashes: HashSet<u64> = set.iter().map(|id| set.hasher().hash_one(id)).collect();
        assert_eq!(hashes.len(), 10_000);
    }
}
