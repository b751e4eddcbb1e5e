//! Many hashes side by side: the same results as `hash`, several times as fast.
//!
//! The inputs of [`hash::body_commit`] and [`hash::event_digest`] are whole 64-byte blocks by definition, so that inputs of equal length can go through the
//! lanes of one SIMD register together (BLAKE3 paper, section 5.3: `hash_many`). Up to [`LANE_BYTES_MAX`] an input is a single chunk, and a single
//! chunk is also the root; longer ones are hashed in the plain way, which has lanes of its own within one input.
//!
//! `hash_many` is no stable interface of the crate blake3, therefore its version is pinned; the tests here compare every length with the plain path.

use std::sync::LazyLock;

use blake3::IncrementCounter;
use blake3::platform::{Platform, words_from_le_bytes_32};

use crate::hash::{self, EventContent, Hash};

/// Bytes of the longest input that takes a lane: one chunk of BLAKE3.
pub const LANE_BYTES_MAX: usize = 1024;
/// Inputs that are laid out before they are hashed: enough to fill lanes although lengths differ, small enough to stay in the cache.
const GROUP_INPUTS_MAX: usize = 64;
const BLOCK_BYTES: usize = 64;
const BLOCKS_MAX: usize = LANE_BYTES_MAX / BLOCK_BYTES;

// Flags of BLAKE3 (paper, section 2.1, table 3).
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;
const DERIVE_KEY_MATERIAL: u8 = 1 << 6;

/// A hash of at most one block, without the room and the care that a hasher needs for longer inputs: a third of the time.
pub(crate) fn block_hash(key: &[u8; 32], input: &[u8]) -> Hash {
    static PLATFORM: LazyLock<Platform> = LazyLock::new(Platform::detect);
    let mut block = [0; BLOCK_BYTES];
    block[..input.len()].copy_from_slice(input);
    let mut state = words_from_le_bytes_32(key);
    let flags = DERIVE_KEY_MATERIAL | CHUNK_START | CHUNK_END | ROOT;
    PLATFORM.compress_in_place(&mut state, &block, input.len() as u8, 0, flags);
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_le_bytes();
    }
    hash
}

/// What an event is, for its digest; the body commitment is computed on the way.
#[derive(Debug, Clone, Copy)]
pub struct LaneEvent<'a> {
    /// Its content; `body_commit` is not looked at.
    pub content: EventContent<'a>,
    /// Its body.
    pub body: LaneBody<'a>,
}

/// A body, or what stands for it.
#[derive(Debug, Clone, Copy)]
pub enum LaneBody<'a> {
    /// The body and its salt; zeros if unsalted.
    Bytes {
        /// The salt.
        salt: [u8; 16],
        /// The bytes.
        body: &'a [u8],
    },
    /// The commitment to a body that was erased.
    Commit(Hash),
}

/// Hashes groups of inputs. Owns the memory they are laid out in, and takes no more once that is there.
#[derive(Debug)]
pub struct Lanes {
    platform: Platform,
    /// Inputs of the group, one behind the other, each in whole blocks.
    bytes: Vec<u8>,
    /// Where each input is, how many blocks it has, and whose it is.
    inputs: Vec<Input>,
    commits: Vec<Hash>,
}

#[derive(Debug, Clone, Copy)]
struct Input {
    start: usize,
    blocks: usize,
    index: usize,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes::new()
    }
}

impl Lanes {
    /// Lanes as wide as this processor has them.
    #[must_use]
    pub fn new() -> Lanes {
        Lanes { platform: Platform::detect(), bytes: Vec::new(), inputs: Vec::new(), commits: Vec::new() }
    }

    /// Digests of events, in order, behind what is in `digests`: [`hash::event_digest`] over [`hash::body_commit`].
    pub fn event_digests(&mut self, events: &[LaneEvent<'_>], digests: &mut Vec<Hash>) {
        for group in events.chunks(GROUP_INPUTS_MAX) {
            let mut commits = std::mem::take(&mut self.commits);
            commits.clear();
            commits.resize(group.len(), [0; 32]);
            for (index, event) in group.iter().enumerate() {
                match event.body {
                    LaneBody::Bytes { salt, body } if !self.lay_out(index, [&hash::body_head(&salt, body), body]) => {
                        commits[index] = hash::body_commit(&salt, body);
                    }
                    LaneBody::Bytes { .. } => {}
                    LaneBody::Commit(commit) => commits[index] = commit,
                }
            }
            self.hash(hash::body_key(), DERIVE_KEY_MATERIAL, &mut commits);
            let first = digests.len();
            digests.resize(first + group.len(), [0; 32]);
            for (index, event) in group.iter().enumerate() {
                let content = EventContent { body_commit: &commits[index], ..event.content };
                if !self.lay_out(index, [&hash::event_head(&content), content.metadata]) {
                    digests[first + index] = hash::event_digest(&content);
                }
            }
            self.hash(hash::event_key(), DERIVE_KEY_MATERIAL, &mut digests[first..]);
            self.commits = commits;
        }
    }

    /// Keyed hashes of single blocks, in order, behind what is in `hashes`.
    pub fn keyed_blocks(&mut self, key: &[u8; 32], blocks: &[[u8; BLOCK_BYTES]], hashes: &mut Vec<Hash>) {
        let first = hashes.len();
        hashes.resize(first + blocks.len(), [0; 32]);
        let inputs: Vec<&[u8; BLOCK_BYTES]> = blocks.iter().collect();
        self.many(&inputs, key, KEYED_HASH, hashes[first..].as_flattened_mut());
    }

    /// Lays an input out in whole blocks; `false` if it is too long for a lane.
    fn lay_out(&mut self, index: usize, parts: [&[u8]; 2]) -> bool {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > LANE_BYTES_MAX {
            return false;
        }
        let start = self.bytes.len();
        let blocks = length.div_ceil(BLOCK_BYTES);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.resize(start + blocks * BLOCK_BYTES, 0);
        self.inputs.push(Input { start, blocks, index });
        true
    }

    /// Hashes what is laid out, to each input's own place in `out`.
    fn hash(&mut self, key: &[u8; 32], flags: u8, out: &mut [Hash]) {
        // Inputs of one length side by side.
        self.inputs.sort_unstable_by_key(|input| input.blocks);
        for group in self.inputs.chunk_by(|a, b| a.blocks == b.blocks) {
            macro_rules! of_blocks {
                ($($blocks:literal)*) => {
                    match group[0].blocks {
                        $($blocks => self.equal::<{ $blocks * BLOCK_BYTES }>(group, key, flags, out),)*
                        _ => unreachable!("an input has 1..=16 blocks"),
                    }
                };
            }
            const { assert!(BLOCKS_MAX == 16) }
            of_blocks!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        }
        self.inputs.clear();
        self.bytes.clear();
    }

    /// Hashes inputs of `N` bytes each.
    fn equal<const N: usize>(&self, group: &[Input], key: &[u8; 32], flags: u8, out: &mut [Hash]) {
        let mut inputs: [&[u8; N]; GROUP_INPUTS_MAX] = [&[0; N]; GROUP_INPUTS_MAX];
        for (place, input) in inputs.iter_mut().zip(group) {
            *place = self.bytes[input.start..].first_chunk().expect("laid out in whole blocks");
        }
        let mut hashes = [[0; 32]; GROUP_INPUTS_MAX];
        self.many(&inputs[..group.len()], key, flags, hashes[..group.len()].as_flattened_mut());
        for (hash, input) in hashes.iter().zip(group) {
            out[input.index] = *hash;
        }
    }

    /// A single chunk that is also the root: its first block starts the chunk, its last block ends chunk and tree. The counter of a root is 0 for all.
    fn many<const N: usize>(&self, inputs: &[&[u8; N]], key: &[u8; 32], flags: u8, out: &mut [u8]) {
        let key = words_from_le_bytes_32(key);
        self.platform.hash_many(inputs, &key, 0, IncrementCounter::No, flags, CHUNK_START, CHUNK_END | ROOT, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventId, StreamId};

    fn plain(event: &LaneEvent<'_>) -> Hash {
        let body_commit = match event.body {
            LaneBody::Bytes { salt, body } => hash::body_commit(&salt, body),
            LaneBody::Commit(commit) => commit,
        };
        hash::event_digest(&EventContent { body_commit: &body_commit, ..event.content })
    }

    fn compare(lengths: &[(usize, usize)]) {
        let bytes: Vec<u8> = (0..5000).map(|n| (n % 251) as u8).collect();
        let events: Vec<LaneEvent<'_>> = lengths
            .iter()
            .enumerate()
            .map(|(n, &(body, metadata))| LaneEvent {
                content: EventContent {
                    stream_id: StreamId([n as u8; 16]),
                    event_id: EventId([n as u8 ^ 0xFF; 16]),
                    batch_id: EventId([(n % 3) as u8; 16]),
                    batch_index: n as u32,
                    batch_count: lengths.len() as u32,
                    body_commit: &[0; 32],
                    metadata: &bytes[n % 7..][..metadata],
                },
                // Now and then a body was erased.
                body: match n % 13 {
                    12 => LaneBody::Commit([n as u8; 32]),
                    _ => LaneBody::Bytes { salt: [(n % 5) as u8; 16], body: &bytes[n % 11..][..body] },
                },
            })
            .collect();
        let mut digests = vec![[7; 32]];
        let mut lanes = Lanes::new();
        lanes.event_digests(&events, &mut digests);
        assert_eq!(digests[0], [7; 32], "what was there stays");
        for (event, digest) in events.iter().zip(&digests[1..]) {
            assert_eq!(*digest, plain(event), "{event:?}");
        }
        // The memory is used again.
        let mut again = Vec::new();
        lanes.event_digests(&events, &mut again);
        assert_eq!(again, digests[1..]);
    }

    #[test]
    fn every_length_gives_the_hash_of_the_plain_path() {
        for start in (0..2100).step_by(100) {
            let lengths: Vec<_> = (start..start + 100).flat_map(|n| [(n, 80), (256, n), (n, 2100 - n)]).collect();
            compare(&lengths);
        }
        for count in [0, 1, 2, 7, 8, 9, 63, 64, 65, 200] {
            compare(&vec![(256, 80); count]);
        }
    }

    #[test]
    fn the_hash_of_a_block_is_that_of_the_plain_path() {
        let bytes: Vec<u8> = (0..64).collect();
        let key = blake3::hazmat::hash_derive_key_context("a context");
        for length in 0..=64 {
            let plain = blake3::derive_key("a context", &bytes[..length]);
            assert_eq!(block_hash(&key, &bytes[..length]), plain, "{length}");
        }
    }

    #[test]
    fn keyed_blocks_are_keyed_hashes() {
        let key = [9; 32];
        let blocks: Vec<[u8; 64]> = (0..37).map(|n| [n; 64]).collect();
        let mut hashes = Vec::new();
        Lanes::new().keyed_blocks(&key, &blocks, &mut hashes);
        assert!(blocks.iter().zip(&hashes).all(|(block, hash)| *hash == *blake3::keyed_hash(&key, block).as_bytes()));
    }
}
