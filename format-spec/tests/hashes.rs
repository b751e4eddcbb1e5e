//! `vectors/hashes.json`: every hash definition of FORMAT.md section 7 on both sides of its edges.
//!
//! Each output is computed twice: by the crate, and straight from the definition with plain BLAKE3 and SHA-256 over one concatenated
//! input. The two must agree, and the file must hold what they give.

mod support;

use chainring_format::hash::{self, EventContent, Hash, Leaf, LeafFields};
use chainring_format::{EventId, Link, StreamId};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use support::bless::golden_file;
use support::{hex, painted, painted_array};

const EXPLANATION: &[&str] = &[
    "Inputs and outputs of every hash of FORMAT.md section 7; all bytes are lower-case hex.",
    "painted(start, n) is n bytes, byte i being (start + i) mod 251. The period is prime, so it fits no block or chunk, and swapped or shifted parts show.",
    "Lengths stand on both sides of every edge: of the 64-byte padding, of BLAKE3's 64-byte blocks and 1024-byte chunks, and of the format's own limits.",
    "Stream names must be UTF-8, so they are painted in printable ASCII: byte i is 33 + i mod 89.",
    "stream_id: name_bytes -> stream_id, bucket. name_commit: log_id = painted(0, 32) and the same names.",
    "body_commit: body = painted(0, body_bytes), under a salt of 16 zero bytes (unsalted) and under salt = painted(100, 16) (salted).",
    "event_digest: stream_id = painted(1, 16), event_id = painted(17, 16), batch_id = painted(33, 16) if batch_count is not 0, else zeros; body_commit = painted(49, 32); metadata = painted(81, metadata_bytes). Metadata is hashed as bytes, whether valid or not.",
    "leaf: digest = painted(1, 32), prev_bucket = painted(33, 32), prev_stream = painted(65, 32), and the fields given; link = SHA-256(00 || leaf).",
    "commit_digest: previous_digest = painted(0, 32); link k of the commit = painted(k, 32).",
    "heads_root: log_id = painted(200, 32); the buckets given hold `events` events and have the link painted(link_start, 32); all others are empty. For 'every bucket' bucket b has b + 1 events and the link painted(b, 32).",
    "packed_salt: salt = painted(100, 16).",
];

fn derive(context: &str, parts: &[&[u8]], pad: bool) -> Hash {
    let mut input = parts.concat();
    if pad {
        input.resize(input.len().next_multiple_of(64), 0);
    }
    blake3::derive_key(context, &input)
}

fn name(length: usize) -> String {
    (0..length).map(|i| (33 + i % 89) as u8 as char).collect()
}

const NAME_BYTES: [usize; 12] = [1, 2, 31, 32, 33, 63, 64, 65, 128, 129, 511, 512];

fn stream_ids() -> Vec<Value> {
    NAME_BYTES
        .iter()
        .map(|&length| {
            let id = hash::stream_id(&name(length));
            assert_eq!(id.0, derive("chainring 2026-11 v1 stream-id", &[name(length).as_bytes()], false)[..16]);
            let bucket = u16::from_le_bytes([id.0[0], id.0[1]]) % 4096;
            assert_eq!(id.bucket(), bucket);
            json!({ "name_bytes": length, "stream_id": hex(&id.0), "bucket": bucket })
        })
        .collect()
}

fn name_commits() -> Vec<Value> {
    // 32 bytes of log id and 2 of length stand before the name: 30 and 94 fill a block.
    let lengths = [NAME_BYTES.as_slice(), &[29, 30, 94, 95]].concat();
    lengths
        .iter()
        .map(|&length| {
            let log_id: Hash = painted_array(0);
            let commit = hash::name_commit(&Link(log_id), &name(length));
            let text = name(length);
            let parts: [&[u8]; 3] = [&log_id, &(length as u16).to_le_bytes(), text.as_bytes()];
            assert_eq!(commit, derive("chainring 2026-11 v1 stream", &parts, false));
            json!({ "name_bytes": length, "name_commit": hex(&commit) })
        })
        .collect()
}

/// Lengths around the edges that `before` bytes in front of a painted part move: of blocks, chunks, and two chunks.
fn around(before: usize) -> Vec<usize> {
    let shifted = [64_usize, 128, 1024, 2048].into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]).filter_map(|n| n.checked_sub(before));
    let plain = [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 65_537];
    let mut lengths: Vec<usize> = shifted.chain(plain).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

fn body_commits() -> Vec<Value> {
    around(24)
        .into_iter()
        .map(|length| {
            let body = painted(0, length);
            let mut entry = Map::new();
            entry.insert("body_bytes".into(), json!(length));
            for (label, salt) in [("unsalted", [0; 16]), ("salted", painted_array(100))] {
                let commit = hash::body_commit(&salt, &body);
                assert_eq!(commit, derive("chainring 2026-11 v1 body", &[&salt, &(length as u64).to_le_bytes(), &body], true));
                entry.insert(label.into(), json!(hex(&commit)));
            }
            Value::Object(entry)
        })
        .collect()
}

fn event_digest(metadata_bytes: usize, batch_index: u32, batch_count: u32) -> Value {
    let metadata = painted(81, metadata_bytes);
    let (stream_id, event_id, body_commit): ([u8; 16], [u8; 16], Hash) = (painted_array(1), painted_array(17), painted_array(49));
    let batch_id = if batch_count == 0 { [0; 16] } else { painted_array(33) };
    let digest = hash::event_digest(&EventContent {
        stream_id: StreamId(stream_id),
        event_id: EventId(event_id),
        batch_id: EventId(batch_id),
        batch_index,
        batch_count,
        body_commit: &body_commit,
        metadata: &metadata,
    });
    let (index, count, length) = (batch_index.to_le_bytes(), batch_count.to_le_bytes(), (metadata_bytes as u32).to_le_bytes());
    let parts: [&[u8]; 9] = [&stream_id, &event_id, &batch_id, &index, &count, &length, &[0; 4], &body_commit, &metadata];
    assert_eq!(digest, derive("chainring 2026-11 v1 event", &parts, true));
    json!({ "metadata_bytes": metadata_bytes, "batch_index": batch_index, "batch_count": batch_count, "digest": hex(&digest) })
}

fn event_digests() -> Vec<Value> {
    let batches = [(0, 0), (0, 1), (1, 2), (u32::MAX - 1, u32::MAX)].map(|(index, count)| event_digest(16, index, count));
    let lengths = around(96).into_iter().chain([1 << 20]).map(|length| event_digest(length, 0, 0));
    lengths.chain(batches).collect()
}

fn links() -> Vec<Value> {
    let cases: [(u8, u16, u64, u64); 6] = [
        (0, 4096, 0, 1_790_000_000_000_000_000),
        (16, 0, 1, 0),
        (16, 255, 256, 65_536),
        (16, 256, 255, 1 << 32),
        (16, 4095, u64::MAX, u64::MAX),
        (1, 4096, 1, 1),
    ];
    cases
        .map(|(kind, bucket, version, recorded_at_ns)| {
            let (digest, prev_bucket, prev_stream): (Hash, Hash, Hash) = (painted_array(1), painted_array(33), painted_array(65));
            let (digest, prev_bucket, prev_stream) = (&digest, &prev_bucket, &prev_stream);
            let leaf = Leaf::new(&LeafFields { kind, bucket, version, recorded_at_ns, digest, prev_bucket, prev_stream });
            let numbers = [&bucket.to_le_bytes()[..], &version.to_le_bytes(), &recorded_at_ns.to_le_bytes()].concat();
            let (link, leaf) = (leaf.link(), leaf.bytes());
            assert_eq!(leaf[..], [&[kind, 1], &numbers[..], digest, prev_bucket, prev_stream].concat());
            assert_eq!(link.0, <Hash>::from(Sha256::new().chain_update([0]).chain_update(leaf).finalize()));
            // Decimal text where a number may be beyond what other JSON readers keep exactly.
            json!({
                "kind": kind, "bucket": bucket, "version": version.to_string(), "recorded_at_ns": recorded_at_ns.to_string(),
                "leaf": hex(leaf), "link": link.to_string(),
            })
        })
        .to_vec()
}

fn commit_digests() -> Vec<Value> {
    // 52 bytes stand before the links, 32 bytes each: 30 links end below a chunk of 1024 bytes, 31 above.
    [0_u32, 1, 2, 3, 30, 31, 32, 62, 63, 1000]
        .map(|count| {
            let links: Vec<Link> = (0..count).map(|k| Link(painted_array(k as usize))).collect();
            let (previous, first, time) = (painted_array(0), 7_u64 + u64::from(count), 1_790_000_000_000_000_000_u64);
            let digest = hash::commit_digest(&previous, first, count, time, &links);
            let joined: Vec<u8> = links.iter().flat_map(|link| link.0).collect();
            let parts: [&[u8]; 5] = [&previous, &first.to_le_bytes(), &count.to_le_bytes(), &time.to_le_bytes(), &joined];
            assert_eq!(digest, derive("chainring 2026-11 v1 commit", &parts, false));
            json!({ "first_position": first, "count": count, "time_ns": time.to_string(), "digest": hex(&digest) })
        })
        .to_vec()
}

/// RFC 6962 section 2.1, by recursion as it is written there.
fn tree_hash(entries: &[Vec<u8>]) -> Hash {
    if let [entry] = entries {
        return Sha256::new().chain_update([0]).chain_update(entry).finalize().into();
    }
    let split = entries.len().next_power_of_two() / 2;
    let (left, right) = (tree_hash(&entries[..split]), tree_hash(&entries[split..]));
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

fn heads_root(head: impl Fn(u16) -> Option<(u64, usize)>) -> String {
    let of = |bucket: u16| {
        let (events, start) = head(bucket).unwrap_or((0, 200));
        (events, painted_array(start))
    };
    let root = hash::heads_root(|bucket| (of(bucket).0, Link(of(bucket).1)));
    let entry = |bucket: u16| [&bucket.to_le_bytes()[..], &of(bucket).0.to_le_bytes(), &of(bucket).1].concat();
    assert_eq!(root, tree_hash(&(0..4096).map(entry).collect::<Vec<_>>()));
    hex(&root)
}

fn heads_roots() -> Vec<Value> {
    let sets: [&[(u16, u64, usize)]; 6] =
        [&[], &[(0, 1, 1)], &[(4095, 1, 1)], &[(1, 2, 9), (2, 1, 10)], &[(2047, 255, 3), (2048, 256, 4)], &[(300, u64::MAX, 0)]];
    let given = sets.iter().map(|set| {
        let root = heads_root(|bucket| set.iter().find(|entry| entry.0 == bucket).map(|entry| (entry.1, entry.2)));
        let entry =
            |&(bucket, events, start): &(u16, u64, usize)| json!({ "bucket": bucket, "events": events.to_string(), "link_start": start });
        json!({ "buckets": set.iter().map(entry).collect::<Vec<_>>(), "root": root })
    });
    let every = json!({ "buckets": "every bucket", "root": heads_root(|bucket| Some((u64::from(bucket) + 1, bucket.into()))) });
    given.chain([every]).collect()
}

fn packed_salts() -> Vec<Value> {
    [1_u64, 2, 255, 256, 1 << 32, 9_999_999_999]
        .map(|number| {
            let salt = painted_array(100);
            let packed = hash::packed_salt(&salt, number);
            assert_eq!(packed, derive("chainring 2026-11 v1 packed", &[&salt, &number.to_le_bytes()], false)[..16]);
            json!({ "number": number, "packed_salt": hex(&packed) })
        })
        .to_vec()
}

#[test]
fn hashes_are_these_values() {
    let all = json!({
        "explanation": EXPLANATION,
        "stream_id": stream_ids(),
        "name_commit": name_commits(),
        "body_commit": body_commits(),
        "event_digest": event_digests(),
        "link": links(),
        "commit_digest": commit_digests(),
        "heads_root": heads_roots(),
        "packed_salt": packed_salts(),
    });
    let mut text = serde_json::to_string_pretty(&all).expect("JSON");
    text.push('\n');
    golden_file("vectors/hashes.json", text.as_bytes());
}
