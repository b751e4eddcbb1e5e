//! Metadata: what is accepted is what would be written, byte for byte; two ways of reading it agree.

use chainring_format::cbor::{Reader, Value};
use chainring_format::limits::METADATA_DEPTH_MAX;
use chainring_format::metadata::{self, Metadata};

use super::random::Random;
use super::{Target, is_planted, mutate, seeds};

/// See the module.
pub const TARGET: Target = Target {
    name: "metadata",
    run,
    seeds: || seeds::METADATA.clone(),
    mutate: near,
    canary: "keys that this version does not know are dropped",
};

fn run(bytes: &[u8]) {
    if let Ok(value) = Reader::new(bytes).value() {
        assert!(depth(&value) <= METADATA_DEPTH_MAX, "nested deeper than the format allows");
        let mut written = Vec::new();
        value.encode(&mut written);
        assert!(bytes.starts_with(&written), "a value that was accepted is not the one that would be written");
    }
    // The quick looks that queries take must stand anything.
    let (event_type, occurred_at) = (metadata::event_type(bytes), metadata::occurred_at(bytes));
    let decoded = Metadata::decode(bytes);
    assert_eq!(metadata::check(bytes).err(), decoded.as_ref().err().copied(), "checking and decoding give the same verdict");
    let Ok(mut decoded) = decoded else { return };
    assert_eq!(event_type, Some(&decoded.event_type[..]));
    assert_eq!(occurred_at, decoded.occurred_at);
    if is_planted() {
        decoded.unknown.clear();
    }
    assert!(decoded.encode() == bytes, "metadata that was accepted is not what would be written");
    // An empty type may be read, but a caller may not write it.
    assert_eq!(decoded.encode_checked().is_ok(), !decoded.event_type.is_empty());
}

/// Containers around the innermost value.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().flat_map(|(key, value)| [depth(key), depth(value)]).max().unwrap_or(0),
        _ => 0,
    }
}

fn near(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    match random.below(8) {
        0 => {
            // Deeper and deeper.
            let at = random.below(bytes.len() + 1);
            let nest = vec![*random.pick(&[0x81, 0x82, 0xA1]); 1 + random.below(20)];
            bytes.splice(at..at, nest);
        }
        1 => {
            let other = random.pick(&seeds::METADATA);
            let (from, at) = (random.below(other.len()), random.below(bytes.len() + 1));
            let end = (from + random.below(24)).min(other.len());
            bytes.splice(at..at, other[from..end].iter().copied());
        }
        2 => {
            // One pair more, or less, than the map says.
            if let Some(first) = bytes.first_mut() {
                *first = first.wrapping_add(if random.once_in(2) { 1 } else { 255 });
            }
            if random.once_in(2) {
                bytes.extend_from_slice(&[0x18, 0x63, random.number() as u8]);
            }
        }
        _ => bytes = mutate::bytes(&bytes, random),
    }
    bytes
}
