//! Tables by ids of 16 bytes, for whoever looks up some of them for every record there is.
//!
//! Seeded anew for every table: what is verified may have been written by somebody who would like ids to collide.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;

use chainring_format::{EventId, StreamId};
use memmap2::MmapMut;
use zerocopy::FromBytes;

use crate::index::Mixer;
use crate::sequencer::zeroed;

/// A table by streams.
pub(super) type StreamMap<V> = HashMap<StreamId, V, Ids>;
/// A set of streams.
pub(super) type StreamSet = HashSet<StreamId, Ids>;

/// Places of a set of which nobody said how large it becomes.
const PLACES_MIN: usize = 1 << 10;
/// Ids that are looked up side by side, so that their misses of the cache overlap.
const TOGETHER: usize = 32;

/// Every event id of a log: 16 bytes each in one flat piece of memory, in huge pages where the system has them, a place in five free. An id of zeros is a
/// free place, and no event has it.
#[derive(Debug)]
pub(super) struct EventIds {
    places: MmapMut,
    count: usize,
    mixer: Mixer,
}

impl EventIds {
    /// A set that takes so many without growing.
    pub(super) fn new(count: usize) -> EventIds {
        EventIds { places: zeroed((count + count / 4).max(PLACES_MIN) * size_of::<EventId>()), count: 0, mixer: mixer() }
    }

    /// Makes room for so many, if it is empty.
    pub(super) fn expect(&mut self, count: usize) {
        if self.count == 0 {
            *self = EventIds::new(count);
        }
    }

    /// Takes ids in, up to the first that is there already, or occurs twice among them: its index.
    pub(super) fn take_in<'i>(&mut self, ids: impl Iterator<Item = &'i EventId>) -> Option<usize> {
        let mut ids = ids.peekable();
        let (mut group, mut taken) = (Vec::with_capacity(TOGETHER), 0);
        while ids.peek().is_some() {
            group.clear();
            group.extend(ids.by_ref().take(TOGETHER).map(|id| (self.mixer.hash_id(&id.0), id)));
            let places = self.places();
            black_box(group.iter().fold(0, |all, (hash, _)| all ^ places[home(*hash, places.len())][0]));
            for (hash, id) in &group {
                if !self.insert(*hash, id) {
                    return Some(taken);
                }
                taken += 1;
            }
        }
        None
    }

    fn places(&self) -> &[[u8; 16]] {
        <[[u8; 16]]>::ref_from_bytes(&self.places).expect("it was made of whole places")
    }

    fn insert(&mut self, hash: u64, id: &EventId) -> bool {
        let count = self.count;
        let places = <[[u8; 16]]>::mut_from_bytes(&mut self.places).expect("it was made of whole places");
        if count > places.len() / 8 * 7 {
            self.grow();
            return self.insert(hash, id);
        }
        let mut place = home(hash, places.len());
        while places[place] != [0; 16] {
            if places[place] == id.0 {
                return false;
            }
            place = if place + 1 == places.len() { 0 } else { place + 1 };
        }
        places[place] = id.0;
        self.count += 1;
        true
    }

    fn grow(&mut self) {
        let mut larger = EventIds { mixer: self.mixer, ..EventIds::new(self.count * 2) };
        let all = self.places().iter().filter(|place| **place != [0; 16]);
        all.for_each(|place| assert!(larger.insert(self.mixer.hash_id(place), &EventId(*place)), "an id is in one place"));
        *self = larger;
    }
}

/// The place that a hash points to, of so many: any number, not only powers of two.
fn home(hash: u64, places: usize) -> usize {
    ((u128::from(hash) * places as u128) >> 64) as usize
}

/// From the library's own source of seeds, which an attacker does not know.
fn mixer() -> Mixer {
    Mixer::new(RandomState::new().build_hasher().finish())
}

/// Makes hashers of one table.
#[derive(Debug, Clone)]
pub(super) struct Ids(Mixer);

impl Default for Ids {
    fn default() -> Ids {
        Ids(mixer())
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
    use super::*;

    fn ids(numbers: std::ops::Range<u128>) -> Vec<EventId> {
        numbers.map(|n| EventId((n + 1).to_le_bytes())).collect()
    }

    #[test]
    fn an_id_is_taken_in_once() {
        for expected in [0, 10_000] {
            let mut set = EventIds::new(expected);
            assert_eq!(set.take_in(ids(0..10_000).iter()), None);
            assert_eq!(set.count, 10_000);
            assert!(ids(0..10_000).iter().all(|id| set.take_in([id].into_iter()) == Some(0)));
            // Behind others, and among them.
            assert_eq!(set.take_in(ids(10_000..10_100).iter().chain(&ids(77..78))), Some(100));
            assert_eq!(set.take_in(ids(20_000..20_010).iter().chain(&ids(20_003..20_004))), Some(10));
        }
    }

    #[test]
    fn streams_are_found_again_and_spread() {
        let mut set = StreamSet::default();
        let streams: Vec<_> = (0..10_000_u128).map(|n| StreamId(n.to_le_bytes())).collect();
        assert!(streams.iter().all(|id| set.insert(*id)));
        assert!(streams.iter().all(|id| !set.insert(*id)));
        let hashes: HashSet<u64> = set.iter().map(|id| set.hasher().hash_one(id)).collect();
        assert_eq!(hashes.len(), 10_000);
    }
}
