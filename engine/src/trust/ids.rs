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

/// Which event ids a log has: eight bytes of a hash for each, in one flat piece of memory, in huge pages where the system has them, two places in three
/// taken. A hash of zero is a free place.
///
/// Two ids have one hash once in 2^64 pairs, and who does not know the seed can't look for such. So where a hash is met again, the caller is asked whether
/// the id is, too.
#[derive(Debug)]
pub(super) struct EventIds {
    places: MmapMut,
    count: usize,
    mixer: Mixer,
}

impl EventIds {
    /// A set that takes so many without growing.
    pub(super) fn new(count: usize) -> EventIds {
        EventIds { places: zeroed((count + count / 2).max(PLACES_MIN) * size_of::<u64>()), count: 0, mixer: mixer() }
    }

    /// Makes room for so many, if it is empty.
    pub(super) fn expect(&mut self, count: usize) {
        if self.count == 0 {
            *self = EventIds::new(count);
        }
    }

    /// Takes ids in, except those of zeros, which no event has. Ends with the first whose hash was there already and of which `is_known`, asked with its index,
    /// says that the id was.
    pub(super) fn take_in(&mut self, ids: &[EventId], is_known: impl Fn(usize) -> bool) -> Option<usize> {
        let mut hashes = [0; TOGETHER];
        for (group, first) in ids.chunks(TOGETHER).zip((0..).step_by(TOGETHER)) {
            let hashes = &mut hashes[..group.len()];
            for (hash, id) in hashes.iter_mut().zip(group) {
                *hash = if *id == EventId::default() { 0 } else { self.mixer.hash_id(&id.0).max(1) };
            }
            self.make_room(group.len());
            let places = places_mut(&mut self.places);
            black_box(hashes.iter().fold(0, |all, hash| all ^ places[home(*hash, places.len())]));
            for (hash, index) in hashes.iter().zip(first..).filter(|(hash, _)| **hash != 0) {
                if insert(places, *hash) {
                    self.count += 1;
                } else if is_known(index) {
                    return Some(index);
                }
            }
        }
        None
    }

    /// Grows if so many more would leave too few places free.
    fn make_room(&mut self, more: usize) {
        let places = places_mut(&mut self.places);
        if self.count + more <= places.len() / 4 * 3 {
            return;
        }
        let mut larger = EventIds { mixer: self.mixer, count: self.count, ..EventIds::new(self.count * 2) };
        let room = places_mut(&mut larger.places);
        let all = places.iter().filter(|hash| **hash != 0);
        all.for_each(|hash| assert!(insert(room, *hash), "a hash is in one place"));
        *self = larger;
    }
}

fn places_mut(memory: &mut MmapMut) -> &mut [u64] {
    <[u64]>::mut_from_bytes(memory).expect("it was made of whole places")
}

/// `false` if it was there. There is a free place.
fn insert(places: &mut [u64], hash: u64) -> bool {
    let mut place = home(hash, places.len());
    while places[place] != 0 {
        if places[place] == hash {
            return false;
        }
        place = if place + 1 == places.len() { 0 } else { place + 1 };
    }
    places[place] = hash;
    true
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
            let never = |index: usize| panic!("nobody asks for {index}");
            assert_eq!(set.take_in(&ids(0..10_000), never), None);
            assert_eq!(set.count, 10_000);
            assert!(ids(0..10_000).iter().all(|id| set.take_in(&[*id], |_| true) == Some(0)));
            // Behind others, and among them, and behind what is no event.
            assert_eq!(set.take_in(&[ids(10_000..10_100), ids(77..78)].concat(), |_| true), Some(100));
            assert_eq!(set.take_in(&[ids(20_000..20_010), ids(20_003..20_004)].concat(), |_| true), Some(10));
            assert_eq!(set.take_in(&[vec![EventId::default(); 40], ids(5..6)].concat(), |_| true), Some(40));
            // Where only the hash is known, it goes on.
            let again = [ids(30_000..30_001), ids(100..103), ids(30_001..30_002)].concat();
            assert_eq!(set.take_in(&again, |index| index == 3), Some(3));
            assert_eq!(set.take_in(&again[4..], |_| true), None, "behind where it had ended");
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
