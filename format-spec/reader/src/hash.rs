//! Hash suite 1 (FORMAT.md section 7) and the masked checksums of section 3.2.
//!
//! Always: every function is one formula of the document. BLAKE3 for content, SHA-256 for links and trees.
//! Never: decides whether a value is right; it only computes.

use sha2::{Digest, Sha256};

use crate::bytes::{Hash, Id, array_at, u16_at};

/// Suite number of this module.
pub(crate) const SUITE: u8 = 1;

/// Buckets of streams; the engine's lane is the number behind them.
pub(crate) const BUCKET_COUNT: u16 = 4096;

/// Bucket number of the engine's own records.
pub(crate) const ENGINE_LANE: u16 = 4096;

/// `mask(offset)` of one segment: the salt's checksum is computed once, the offset is appended to it.
#[derive(Clone, Copy)]
pub(crate) struct Masks {
    salt_crc: u32,
}

impl Masks {
    pub(crate) fn new(salt: &[u8; 16]) -> Self {
        Masks { salt_crc: crc32c::crc32c(salt) }
    }

    /// The checksum a structure at file offset `offset` stores for `bytes`.
    pub(crate) fn checksum(&self, offset: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c(bytes) ^ crc32c::crc32c_append(self.salt_crc, &offset.to_le_bytes())
    }
}

/// One BLAKE3 context; the derived key is computed once and kept over resets.
struct Context(blake3::Hasher);

impl Context {
    fn new(context: &str) -> Self {
        Context(blake3::Hasher::new_derive_key(context))
    }

    fn hash(&mut self, parts: &[&[u8]]) -> Hash {
        self.0.reset();
        for part in parts {
            self.0.update(part);
        }
        *self.0.finalize().as_bytes()
    }

    /// The same over `pad64` of the parts.
    fn hash_padded(&mut self, parts: &[&[u8]]) -> Hash {
        self.0.reset();
        let mut total = 0;
        for part in parts {
            self.0.update(part);
            total += part.len();
        }
        self.0.update(&[0; 64][..total.wrapping_neg() % 64]);
        *self.0.finalize().as_bytes()
    }
}

/// Everything `digest` of section 7.2 binds besides the body.
pub(crate) struct DigestInput<'a> {
    pub(crate) stream_id: &'a Id,
    pub(crate) event_id: &'a Id,
    pub(crate) batch_id: &'a Id,
    pub(crate) batch_index: u32,
    pub(crate) batch_count: u32,
    pub(crate) metadata: &'a [u8],
}

/// The contexts of section 7, one set per thread.
pub(crate) struct Suite {
    stream_id: Context,
    name: Context,
    body: Context,
    event: Context,
    commit: Context,
}

impl Suite {
    pub(crate) fn new() -> Self {
        Suite {
            stream_id: Context::new("chainring 2026-11 v1 stream-id"),
            name: Context::new("chainring 2026-11 v1 stream"),
            body: Context::new("chainring 2026-11 v1 body"),
            event: Context::new("chainring 2026-11 v1 event"),
            commit: Context::new("chainring 2026-11 v1 commit"),
        }
    }

    pub(crate) fn stream_id(&mut self, name: &[u8]) -> Id {
        array_at(&self.stream_id.hash(&[name]), 0)
    }

    pub(crate) fn name_commit(&mut self, log_id: &Hash, name: &[u8]) -> Hash {
        self.name.hash(&[log_id, &(name.len() as u16).to_le_bytes(), name])
    }

    pub(crate) fn body_commit(&mut self, salt: &[u8; 16], body: &[u8]) -> Hash {
        self.body.hash_padded(&[salt, &(body.len() as u64).to_le_bytes(), body])
    }

    pub(crate) fn event_digest(&mut self, input: &DigestInput<'_>, body_commit: &Hash) -> Hash {
        let mut fixed = [0; 64];
        fixed[..16].copy_from_slice(input.stream_id);
        fixed[16..32].copy_from_slice(input.event_id);
        fixed[32..48].copy_from_slice(input.batch_id);
        fixed[48..52].copy_from_slice(&input.batch_index.to_le_bytes());
        fixed[52..56].copy_from_slice(&input.batch_count.to_le_bytes());
        fixed[56..60].copy_from_slice(&(input.metadata.len() as u32).to_le_bytes());
        self.event.hash_padded(&[&fixed, body_commit, input.metadata])
    }

    /// Begins a commit digest; links follow with [`Suite::add_link`].
    pub(crate) fn begin_commit(&mut self, previous: &Hash, first_position: u64, count: u32, time_ns: u64) {
        self.commit.0.reset();
        self.commit.0.update(previous);
        self.commit.0.update(&first_position.to_le_bytes());
        self.commit.0.update(&count.to_le_bytes());
        self.commit.0.update(&time_ns.to_le_bytes());
    }

    pub(crate) fn add_link(&mut self, link: &Hash) {
        self.commit.0.update(link);
    }

    pub(crate) fn end_commit(&mut self) -> Hash {
        *self.commit.0.finalize().as_bytes()
    }
}

/// The fields of a leaf (section 7.2) before its two predecessors.
pub(crate) struct Leaf<'a> {
    pub(crate) kind: u8,
    pub(crate) bucket: u16,
    pub(crate) version: u64,
    pub(crate) recorded_at_ns: u64,
    pub(crate) digest: &'a Hash,
}

/// `link = SHA-256(0x00 || leaf)`.
pub(crate) fn link(leaf: &Leaf<'_>, previous_in_bucket: &Hash, previous_in_stream: &Hash) -> Hash {
    let mut bytes = [0; 117];
    bytes[1] = leaf.kind;
    bytes[2] = SUITE;
    bytes[3..5].copy_from_slice(&leaf.bucket.to_le_bytes());
    bytes[5..13].copy_from_slice(&leaf.version.to_le_bytes());
    bytes[13..21].copy_from_slice(&leaf.recorded_at_ns.to_le_bytes());
    bytes[21..53].copy_from_slice(leaf.digest);
    bytes[53..85].copy_from_slice(previous_in_bucket);
    bytes[85..117].copy_from_slice(previous_in_stream);
    Sha256::digest(bytes).into()
}

/// Bucket of a stream.
pub(crate) fn bucket_of(stream_id: &Id) -> u16 {
    u16_at(stream_id, 0) & (BUCKET_COUNT - 1)
}

/// Heads root of section 7.4 over `(events, last link)` of buckets 0..4096 in order. The count is a power of two, so the RFC 6962 tree is complete.
pub(crate) fn heads_root(heads: impl Iterator<Item = (u64, Hash)>) -> Hash {
    let mut level: Vec<Hash> = heads
        .enumerate()
        .map(|(bucket, (events, link))| {
            let mut entry = [0; 43];
            entry[1..3].copy_from_slice(&(bucket as u16).to_le_bytes());
            entry[3..11].copy_from_slice(&events.to_le_bytes());
            entry[11..43].copy_from_slice(&link);
            Sha256::digest(entry).into()
        })
        .collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| {
                let mut node = [1; 65];
                node[1..33].copy_from_slice(&pair[0]);
                node[33..65].copy_from_slice(&pair[pair.len() - 1]);
                Sha256::digest(node).into()
            })
            .collect();
    }
    level.first().copied().unwrap_or(crate::bytes::ZERO_HASH)
}
