//! Ids and salts that callers leave to the engine.

use chainring_format::EventId;
use chainring_format::hash::Hash;
use chainring_format::lanes::Lanes;

use crate::sync::{AtomicU64, Ordering};

/// Draws event ids and salts, from the randomness of one open.
#[derive(Debug)]
pub(super) struct Draws {
    seed: [u8; 32],
    /// Ids drawn so far.
    count: AtomicU64,
}

impl Draws {
    pub(super) fn new(seed: [u8; 32]) -> Draws {
        Draws { seed, count: AtomicU64::new(0) }
    }

    /// What is hashed, under the seed, to the salt of an event with this id, or to id and salt of the next one without.
    fn block(&self, id: Option<EventId>) -> [u8; 64] {
        let mut block = [0; 64];
        match id {
            // From the id, which is unique: as good as drawn, and the same for whoever replays the same open.
            Some(id) => {
                block[..9].copy_from_slice(b"body salt");
                block[16..32].copy_from_slice(&id.0);
            }
            None => {
                block[..8].copy_from_slice(b"event id");
                // Relaxed: only uniqueness matters.
                block[16..24].copy_from_slice(&self.count.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            }
        }
        block
    }

    /// The id and salt that a hash gives. Two halves of one hash tell nothing of each other.
    fn of(id: Option<EventId>, hash: &Hash) -> (EventId, [u8; 16]) {
        let (first, second) = (*hash.first_chunk().expect("32 bytes"), *hash.last_chunk().expect("32 bytes"));
        match id {
            Some(id) => (id, first),
            None => {
                // UUID version 4.
                let mut id: [u8; 16] = first;
                id[6] = id[6] & 0x0F | 0x40;
                id[8] = id[8] & 0x3F | 0x80;
                (EventId(id), second)
            }
        }
    }

    /// The id and salt of one event that has this id, or none.
    pub(super) fn one(&self, id: Option<EventId>) -> (EventId, [u8; 16]) {
        Draws::of(id, blake3::keyed_hash(&self.seed, &self.block(id)).as_bytes())
    }

    /// As [`Draws::one`] for a few, side by side.
    pub(super) fn few(&self, ids: &[Option<EventId>], lanes: &mut Lanes, drawn: &mut Vec<(EventId, [u8; 16])>) {
        let blocks: Vec<[u8; 64]> = ids.iter().map(|id| self.block(*id)).collect();
        let mut hashes = Vec::with_capacity(ids.len());
        lanes.keyed_blocks(&self.seed, &blocks, &mut hashes);
        drawn.extend(ids.iter().zip(&hashes).map(|(id, hash)| Draws::of(*id, hash)));
    }
}
