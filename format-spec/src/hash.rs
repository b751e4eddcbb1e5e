//! Hash suite 1 (FORMAT.md section 7). Frozen by format version 1: a change here is a new suite.
//!
//! BLAKE3 in derive-key mode for content, SHA-256 for links, so that any RFC 6962 tool can check inclusion.
//! Invariant: every function here is injective in its inputs before hashing; lengths stand at fixed places.

use std::sync::LazyLock;

use blake3::Hasher;
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use crate::SUITE;
use crate::ids::{EventId, Link, StreamId};
use crate::lanes;
use crate::tree::HeadsTree;
use crate::two_blocks::{self, Message};

/// 32 bytes of hash.
pub type Hash = [u8; 32];

/// Context of [`stream_id`].
pub const CONTEXT_STREAM_ID: &str = "chainring 2026-11 v1 stream-id";
/// Context of [`name_commit`].
pub const CONTEXT_STREAM: &str = "chainring 2026-11 v1 stream";
/// Context of [`body_commit`].
pub const CONTEXT_BODY: &str = "chainring 2026-11 v1 body";
/// Context of [`event_digest`].
pub const CONTEXT_EVENT: &str = "chainring 2026-11 v1 event";
/// Context of [`commit_digest`].
pub const CONTEXT_COMMIT: &str = "chainring 2026-11 v1 commit";
/// Context of [`packed_salt`].
pub const CONTEXT_PACKED: &str = "chainring 2026-11 v1 packed";

/// Bytes of a [`Leaf`].
pub const LEAF_BYTES: usize = 116;

// BLAKE3 hashes its context string anew for every hasher (about 110 ns); the derived keys never change, so they are kept.
static KEY_STREAM_ID: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(CONTEXT_STREAM_ID));
static KEY_STREAM: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(CONTEXT_STREAM));
static KEY_BODY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(CONTEXT_BODY));
static KEY_EVENT: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(CONTEXT_EVENT));
static KEY_COMMIT: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(CONTEXT_COMMIT));

/// Bytes from the beginning of a message that are given to BLAKE3 in one piece.
const FIRST_PIECE_BYTES: usize = 8192;
/// Bytes of a commit's links that are given to BLAKE3 in one piece: as many chunks as the widest processors have lanes.
const LINKS_PIECE_BYTES: usize = 16_384;

/// Hashes `head || tail`, padded with zeros to whole blocks.
///
/// BLAKE3 fills its SIMD lanes with the chunks of one piece, and only with as many as the bytes before the piece are a multiple of. A short head would set
/// everything behind it off by its length, and 4 KiB would take twice as long; so the beginning of a long message is made one piece.
fn hash_padded(key: &ContextKey, head: &[u8], tail: &[u8]) -> Hash {
    let mut hasher = Hasher::new_from_context_key(key);
    let length = head.len() + tail.len();
    if length <= blake3::CHUNK_LEN {
        hasher.update(head).update(tail);
    } else {
        let mut first = [0; FIRST_PIECE_BYTES];
        let (in_first, behind) = tail.split_at(tail.len().min(FIRST_PIECE_BYTES - head.len()));
        first[..head.len()].copy_from_slice(head);
        first[head.len()..][..in_first.len()].copy_from_slice(in_first);
        hasher.update(&first[..head.len() + in_first.len()]).update(behind);
    }
    hasher.update(&[0; 64][..length.wrapping_neg() % 64]);
    *hasher.finalize().as_bytes()
}

/// Identity of the stream with this name.
#[must_use]
pub fn stream_id(name: &str) -> StreamId {
    let full = stream_name_hash(name);
    StreamId(*full.first_chunk().expect("16 of 32 bytes"))
}

/// The whole hash whose first half is [`stream_id`]; the second half tells two names with one id apart.
#[must_use]
pub fn stream_name_hash(name: &str) -> Hash {
    if name.len() <= 64 {
        return lanes::block_hash(&KEY_STREAM_ID, name.as_bytes());
    }
    *Hasher::new_from_context_key(&KEY_STREAM_ID).update(name.as_bytes()).finalize().as_bytes()
}

/// What the first link of a stream commits to: the log and the full name.
#[must_use]
pub fn name_commit(log_id: &Link, name: &str) -> Hash {
    let mut hasher = Hasher::new_from_context_key(&KEY_STREAM);
    hasher.update(&log_id.0).update(&(name.len() as u16).to_le_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

/// Commitment to a body under its salt (16 zero bytes if unsalted).
#[must_use]
pub fn body_commit(salt: &[u8; 16], body: &[u8]) -> Hash {
    hash_padded(&KEY_BODY, &body_head(salt, body), body)
}

/// What stands before the body in the input of [`body_commit`].
pub(crate) fn body_head(salt: &[u8; 16], body: &[u8]) -> [u8; 24] {
    let mut head = [0; 24];
    head[..16].copy_from_slice(salt);
    head[16..].copy_from_slice(&(body.len() as u64).to_le_bytes());
    head
}

/// Everything an event says, as its caller fixed it; see [`event_digest`].
#[derive(Debug, Clone, Copy)]
pub struct EventContent<'a> {
    /// Stream it is appended to.
    pub stream_id: StreamId,
    /// The caller's id.
    pub event_id: EventId,
    /// Id of the batch's first event; zero if appended alone.
    pub batch_id: EventId,
    /// Place in the batch, from 0.
    pub batch_index: u32,
    /// Events in the batch; 0 if appended alone.
    pub batch_count: u32,
    /// [`body_commit`] of its body.
    pub body_commit: &'a Hash,
    /// Metadata bytes as stored.
    pub metadata: &'a [u8],
}

/// Digest of an event's content.
#[must_use]
pub fn event_digest(content: &EventContent<'_>) -> Hash {
    hash_padded(&KEY_EVENT, &event_head(content), content.metadata)
}

/// What stands before the metadata in the input of [`event_digest`].
pub(crate) fn event_head(content: &EventContent<'_>) -> [u8; 96] {
    let mut head = [0_u8; 96];
    head[0..16].copy_from_slice(&content.stream_id.0);
    head[16..32].copy_from_slice(&content.event_id.0);
    head[32..48].copy_from_slice(&content.batch_id.0);
    head[48..52].copy_from_slice(&content.batch_index.to_le_bytes());
    head[52..56].copy_from_slice(&content.batch_count.to_le_bytes());
    head[56..60].copy_from_slice(&(content.metadata.len() as u32).to_le_bytes());
    head[64..96].copy_from_slice(content.body_commit);
    head
}

/// Key of [`body_commit`].
pub(crate) fn body_key() -> &'static ContextKey {
    &KEY_BODY
}

/// Key of [`event_digest`].
pub(crate) fn event_key() -> &'static ContextKey {
    &KEY_EVENT
}

/// What the sequencer adds to an event's digest; together they are the leaf.
#[derive(Debug, Clone, Copy)]
pub struct LeafFields<'a> {
    /// Record kind.
    pub kind: u8,
    /// Bucket, or the engine's lane.
    pub bucket: u16,
    /// Version in the stream.
    pub version: u64,
    /// Engine time.
    pub recorded_at_ns: u64,
    /// [`event_digest`].
    pub digest: &'a Hash,
    /// Link of the bucket's previous record.
    pub prev_bucket: &'a Hash,
    /// Link of the stream's previous event.
    pub prev_stream: &'a Hash,
}

/// What a record is to the tree: the 116 bytes whose RFC 6962 leaf hash is its link.
#[derive(Debug, Clone, Copy)]
pub struct Leaf {
    /// They, behind the 0 that RFC 6962 puts before a leaf, in the two blocks that SHA-256 takes: it is made at once where it is needed.
    message: Message,
}

impl Leaf {
    /// The leaf of these fields.
    #[must_use]
    #[inline]
    pub fn new(fields: &LeafFields<'_>) -> Leaf {
        let mut message = two_blocks::padding(LEAF_BYTES);
        let leaf: &mut [u8; LEAF_BYTES] = message.as_flattened_mut()[1..].first_chunk_mut().expect("a message has 128 bytes");
        leaf[0] = fields.kind;
        leaf[1] = SUITE;
        leaf[2..4].copy_from_slice(&fields.bucket.to_le_bytes());
        leaf[4..12].copy_from_slice(&fields.version.to_le_bytes());
        leaf[12..20].copy_from_slice(&fields.recorded_at_ns.to_le_bytes());
        leaf[20..52].copy_from_slice(fields.digest);
        leaf[52..84].copy_from_slice(fields.prev_bucket);
        leaf[84..116].copy_from_slice(fields.prev_stream);
        Leaf { message }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; LEAF_BYTES] {
        self.message.as_flattened()[1..].first_chunk().expect("a message has 128 bytes")
    }

    /// `SHA-256(0x00 || leaf)`.
    #[must_use]
    pub fn link(&self) -> Link {
        Link(two_blocks::one(&self.message))
    }

    /// The links of two, in half the time.
    #[must_use]
    pub fn links(leaves: [&Leaf; 2]) -> [Link; 2] {
        two_blocks::two(leaves.map(|leaf| &leaf.message)).map(Link)
    }
}

/// Digest of a commit: of what its head says, and of the links of its records in order.
#[must_use]
pub fn commit_digest<'a>(
    previous: &Hash,
    first_position: u64,
    count: u32,
    time_ns: u64,
    links: impl IntoIterator<Item = &'a Link>,
) -> Hash {
    let mut hasher = Hasher::new_from_context_key(&KEY_COMMIT);
    let mut head = [0; 52];
    head[..32].copy_from_slice(previous);
    head[32..40].copy_from_slice(&first_position.to_le_bytes());
    head[40..44].copy_from_slice(&count.to_le_bytes());
    head[44..].copy_from_slice(&time_ns.to_le_bytes());
    if head.len() + count as usize * 32 <= blake3::CHUNK_LEN {
        hasher.update(&head);
        for link in links {
            hasher.update(&link.0);
        }
        return *hasher.finalize().as_bytes();
    }
    // In whole pieces, as in `hash_padded`: link by link, chunk would follow chunk.
    let mut piece = Vec::with_capacity(LINKS_PIECE_BYTES);
    piece.extend_from_slice(&head);
    for link in links {
        let (in_piece, behind) = link.0.split_at(link.0.len().min(LINKS_PIECE_BYTES - piece.len()));
        piece.extend_from_slice(in_piece);
        if piece.len() == LINKS_PIECE_BYTES {
            hasher.update(&piece);
            piece.clear();
            piece.extend_from_slice(behind);
        }
    }
    *hasher.update(&piece).finalize().as_bytes()
}

/// RFC 6962 root over the heads of all 4096 buckets: `head(bucket)` gives events in the bucket and its last link.
#[must_use]
pub fn heads_root(head: impl Fn(u16) -> (u64, Link)) -> Hash {
    HeadsTree::of(head).root()
}

/// Salt of the packed form of the segment with this salt and number. Another one, so that no byte of the old file passes in the new one; and always
/// the same, so that packing a segment again gives the same bytes.
#[must_use]
pub fn packed_salt(salt: &[u8; 16], number: u64) -> [u8; 16] {
    let mut input = [0_u8; 24];
    input[..16].copy_from_slice(salt);
    input[16..].copy_from_slice(&number.to_le_bytes());
    *blake3::derive_key(CONTEXT_PACKED, &input).first_chunk().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// The kept context keys give what plain BLAKE3 gives, on both sides of every padding edge.
    #[test]
    fn body_commit_equals_plain_blake3() {
        for length in [0, 1, 39, 40, 41, 63, 64, 65, 103, 104, 105, 1024, 5000] {
            let body: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut input = vec![7_u8; 16];
            input.extend((length as u64).to_le_bytes());
            input.extend(&body);
            input.resize(input.len().next_multiple_of(64), 0);
            assert_eq!(body_commit(&[7; 16], &body), blake3::derive_key(CONTEXT_BODY, &input), "length {length}");
        }
    }

    #[test]
    fn event_digest_separates_metadata_from_padding() {
        let content = |metadata: &'static [u8]| {
            event_digest(&EventContent {
                stream_id: StreamId([1; 16]),
                event_id: EventId([2; 16]),
                batch_id: EventId::default(),
                batch_index: 0,
                batch_count: 0,
                body_commit: &[3; 32],
                metadata,
            })
        };
        assert_ne!(content(b""), content(b"\0"));
        assert_ne!(content(b"\0"), content(b"\0\0"));
    }

    #[test]
    fn link_is_an_rfc_6962_leaf_hash() {
        let fields = |version| LeafFields {
            kind: 16,
            bucket: 5,
            version,
            recorded_at_ns: 9,
            digest: &[1; 32],
            prev_bucket: &[2; 32],
            prev_stream: &[3; 32],
        };
        let leaves = [Leaf::new(&fields(1)), Leaf::new(&fields(2))];
        let expected = leaves.map(|leaf| Link(Sha256::new().chain_update([0]).chain_update(leaf.bytes()).finalize().into()));
        assert_eq!(leaves.map(|leaf| leaf.link()), expected);
        assert_eq!(Leaf::links([&leaves[0], &leaves[1]]), expected);
    }
}
