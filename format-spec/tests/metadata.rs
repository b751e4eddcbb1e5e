//! `vectors/metadata.json`: metadata maps as bytes, what they mean, and the rule that refuses each invalid one.

mod support;

use chainring_format::cbor::{Reader, Value};
use chainring_format::metadata::{Metadata, check};
use serde_json::json;
use support::bless::golden_file;
use support::hex;
use support::maps::{full_metadata, unknown_keys};

const EXPLANATION: &[&str] = &[
    "Metadata of events (FORMAT.md section 8). `hex` is the whole metadata of one event.",
    "valid: `means` is the map in CBOR diagnostic notation (RFC 8949 section 8). Encoding what was read gives the same bytes again.",
    "invalid: `rule` names the rule of FORMAT.md that refuses the bytes, `why` says what is wrong.",
];

/// CBOR diagnostic notation, with floats always showing a point or an exponent.
fn diagnostic(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Uint(n) => n.to_string(),
        Value::Nint(n) => (-1 - i128::from(*n)).to_string(),
        Value::Bytes(bytes) => format!("h'{}'", hex(bytes)),
        Value::Text(text) => json!(text).to_string(),
        Value::Array(items) => format!("[{}]", joined(items.iter().map(diagnostic).collect())),
        Value::Map(entries) => {
            let entry = |(key, value): &(Value, Value)| format!("{}: {}", diagnostic(key), diagnostic(value));
            format!("{{{}}}", joined(entries.iter().map(entry).collect()))
        }
        Value::Bool(value) => value.to_string(),
        Value::Null => "null".into(),
        Value::Float(f) if f.is_nan() => "NaN".into(),
        Value::Float(f) if f.is_infinite() => if *f > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Value::Float(f) => format!("{f:?}"),
    }
}

/// Floats at the edges between half, single and double precision, and the special ones.
fn floats() -> Metadata {
    let values = [
        0.0,
        -0.0,
        1.0,
        1.5,
        65_504.0,
        65_505.0,
        65_536.0,
        5.960_464_477_539_063e-8,
        0.000_061_035_156_25,
        1e-8,
        0.1,
        3.402_823_466_385_288_6e38,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    let list = Value::Array(values.map(Value::Float).to_vec());
    Metadata { attributes: vec![("floats".into(), list)], ..Metadata::new("t") }
}

/// Integers at the edges of every length of their encoding.
fn integers() -> Metadata {
    let edges = [0, 23, 24, 0xFF, 0x100, 0xFFFF, 0x1_0000, 0xFFFF_FFFF, 0x1_0000_0000, u64::MAX];
    let list = edges.iter().flat_map(|&n| [Value::Uint(n), Value::Nint(n)]).collect();
    Metadata { attributes: vec![("integers".into(), Value::Array(list))], ..Metadata::new("t") }
}

/// Nested as deep as allowed: the top-level map, the attributes, and arrays.
fn nested(depth: usize) -> Metadata {
    let inner = (0..depth - 2).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    Metadata { attributes: vec![("deep".into(), inner)], ..Metadata::new("t") }
}

/// Attribute keys that sort by their encodings: shorter first.
fn sorted_keys() -> Metadata {
    let names = ["b", "aa", "", "a", "\u{e9}", "aaaaaaaaaaaaaaaaaaaaaaaa"];
    Metadata { attributes: names.iter().map(|name| ((*name).into(), Value::Bool(false))).collect(), ..Metadata::new("t") }
}

fn valid() -> Vec<(&'static str, Vec<u8>)> {
    let empty_lists = Metadata { reads: Some(vec![]), checked: Some(vec![]), ..Metadata::new("t") };
    let short_trace = Metadata { trace: Some(("00-a".into(), None)), ..Metadata::new("t") };
    vec![
        ("minimal", Metadata::new("OrderPlaced").encode()),
        ("type that is empty", Metadata::new("").encode()),
        ("every known key", full_metadata().encode()),
        ("unknown keys, at the top and in inner maps", unknown_keys().encode()),
        ("empty lists of reads, which are not the same as none", empty_lists.encode()),
        ("attributes that are there but empty, which is not the same as none", b"\xa2\x01\x61t\x12\xa0".to_vec()),
        ("trace without tracestate", short_trace.encode()),
        ("floats in their shortest forms", floats().encode()),
        ("integers in their shortest forms", integers().encode()),
        ("attributes sorted by the bytes of their keys", sorted_keys().encode()),
        ("nested as deep as METADATA_DEPTH_MAX allows, the top-level map counted", nested(16).encode()),
        ("an inner map with keys of several types under an unknown key", b"\xa2\x01\x61t\x18\x1e\xa3\x05\x00\x20\x00\xf4\x00".to_vec()),
    ]
}

type Invalid = (&'static str, &'static str, &'static [u8]);

/// Rule M1.
const NOT_DETERMINISTIC: &[Invalid] = &[
    ("M1", "no bytes", b""),
    ("M1", "a text, not a map", b"\x61t"),
    ("M1", "an array, not a map", b"\x82\x01\x61t"),
    ("M1", "a byte behind the map", b"\xa1\x01\x61t\x00"),
    ("M1", "cut short inside a text", b"\xa1\x01\x62t"),
    ("M1", "cut short before the second pair", b"\xa2\x01\x61t"),
    ("M1", "a map of 2^64 - 1 pairs", b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff"),
    ("M1", "a text of 2^63 bytes", b"\xa1\x01\x7b\x80\x00\x00\x00\x00\x00\x00\x00"),
    ("M1", "a key that is a text", b"\xa2\x01\x61t\x61a\x00"),
    ("M1", "a key that is negative", b"\xa2\x01\x61t\x20\x00"),
    ("M1", "keys out of order", b"\xa2\x02\x00\x01\x61t"),
    ("M1", "a key twice", b"\xa2\x01\x61t\x01\x61t"),
    ("M1", "attributes out of order", b"\xa2\x01\x61t\x12\xa2\x61b\x00\x61a\x00"),
    ("M1", "attributes sorted as text, not by their encodings", b"\xa2\x01\x61t\x12\xa2\x62aa\x00\x61b\x00"),
    ("M1", "23 in two bytes", b"\xa2\x01\x61t\x02\x18\x17"),
    ("M1", "255 in three bytes", b"\xa2\x01\x61t\x02\x19\x00\xff"),
    ("M1", "65535 in five bytes", b"\xa2\x01\x61t\x02\x1a\x00\x00\xff\xff"),
    ("M1", "2^32 - 1 in nine bytes", b"\xa2\x01\x61t\x02\x1b\x00\x00\x00\x00\xff\xff\xff\xff"),
    ("M1", "a key in two bytes", b"\xa1\x18\x01\x61t"),
    ("M1", "a length in two bytes", b"\xa1\x01\x78\x01t"),
    ("M1", "a map of indefinite length", b"\xbf\x01\x61t\xff"),
    ("M1", "a text of indefinite length", b"\xa1\x01\x7f\x61t\xff"),
    ("M1", "a tag", b"\xa2\x01\x61t\x18\x1e\xc1\x00"),
    ("M1", "undefined", b"\xa2\x01\x61t\x18\x1e\xf7"),
    ("M1", "a simple value that is not assigned", b"\xa2\x01\x61t\x18\x1e\xf8\x20"),
    ("M1", "true in two bytes", b"\xa2\x01\x61t\x18\x1e\xf8\x15"),
    ("M1", "a break outside of anything", b"\xa2\x01\x61t\x18\x1e\xff"),
    ("M1", "a reserved length code", b"\xa2\x01\x61t\x18\x1e\x1c"),
    ("M1", "1.0 as single", b"\xa2\x01\x61t\x18\x1e\xfa\x3f\x80\x00\x00"),
    ("M1", "0.5 as double", b"\xa2\x01\x61t\x18\x1e\xfb\x3f\xe0\x00\x00\x00\x00\x00\x00"),
    ("M1", "another NaN", b"\xa2\x01\x61t\x18\x1e\xf9\x7e\x01"),
    ("M1", "a NaN as single", b"\xa2\x01\x61t\x18\x1e\xfa\x7f\xc0\x00\x00"),
    ("M1", "a text that is not UTF-8", b"\xa1\x01\x62\xc3\x28"),
    ("M1", "a text with a surrogate", b"\xa1\x01\x63\xed\xa0\x80"),
    (
        "M1",
        "nested one deeper than METADATA_DEPTH_MAX",
        b"\xa2\x01\x61t\x18\x1e\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x00",
    ),
];

/// Rules M2 and M3.
const NOT_TYPED: &[Invalid] = &[
    ("M2", "type is not a text", b"\xa1\x01\x41t"),
    ("M2", "schema_version is negative", b"\xa2\x01\x61t\x02\x20"),
    ("M2", "content_type is null", b"\xa2\x01\x61t\x03\xf6"),
    ("M2", "occurred_at is an integer", b"\xa2\x01\x61t\x04\x00"),
    ("M2", "occurred_at has one part", b"\xa2\x01\x61t\x04\x81\x00"),
    ("M2", "occurred_at has three parts", b"\xa2\x01\x61t\x04\x83\x00\x00\x00"),
    ("M2", "occurred_at has 10^9 nanoseconds", b"\xa2\x01\x61t\x04\x82\x00\x1a\x3b\x9a\xca\x00"),
    ("M2", "occurred_at has negative nanoseconds", b"\xa2\x01\x61t\x04\x82\x00\x20"),
    ("M2", "actor is bytes", b"\xa2\x01\x61t\x05\x41a"),
    ("M2", "on_behalf_of is a number", b"\xa2\x01\x61t\x06\x00"),
    ("M2", "correlation is a list", b"\xa2\x01\x61t\x07\x80"),
    ("M2", "causation has 15 bytes", b"\xa2\x01\x61t\x08\x4f000000000000000"),
    ("M2", "causation has 17 bytes", b"\xa2\x01\x61t\x08\x5100000000000000000"),
    ("M2", "run_epoch is a float", b"\xa2\x01\x61t\x09\xf9\x3c\x00"),
    ("M2", "class 9", b"\xa2\x01\x61t\x0a\x09"),
    ("M2", "authority is empty", b"\xa2\x01\x61t\x0b\x80"),
    ("M2", "authority is a map", b"\xa2\x01\x61t\x0b\xa0"),
    ("M2", "a link of authority has 16 bytes", b"\xa2\x01\x61t\x0b\x81\xa1\x03\x500000000000000000"),
    ("M2", "a read without a version", b"\xa2\x01\x61t\x0c\x81\xa1\x01\x61s"),
    ("M2", "a read without a stream", b"\xa2\x01\x61t\x0c\x81\xa1\x02\x01"),
    ("M2", "a read with standing 2", b"\xa2\x01\x61t\x0c\x81\xa3\x01\x61s\x02\x01\x04\x02"),
    ("M2", "checked holds a text", b"\xa2\x01\x61t\x0d\x81\x61s"),
    ("M2", "external is empty", b"\xa2\x01\x61t\x0e\x80"),
    ("M2", "an external read without a resource", b"\xa2\x01\x61t\x0e\x81\xa1\x02\x61v"),
    ("M2", "compensates is a text", b"\xa2\x01\x61t\x0f\x700000000000000000"),
    ("M2", "reversibility 4", b"\xa2\x01\x61t\x10\x04"),
    ("M2", "trace is empty", b"\xa2\x01\x61t\x11\x80"),
    ("M2", "trace has three parts", b"\xa2\x01\x61t\x11\x83\x61a\x61b\x61c"),
    ("M2", "attributes are a list", b"\xa2\x01\x61t\x12\x80"),
    ("M2", "an attribute whose name is a number", b"\xa2\x01\x61t\x12\xa1\x00\x00"),
    ("M2", "expected_version is a text", b"\xa2\x01\x61t\x13\x611"),
    ("M2", "batch_label is true", b"\xa2\x01\x61t\x14\xf5"),
    ("M3", "an empty map", b"\xa0"),
    ("M3", "a map without a type", b"\xa1\x02\x01"),
];

#[test]
fn metadata_is_read_as_these_values_and_refused_by_these_rules() {
    let read = |(name, bytes): &(&str, Vec<u8>)| {
        let metadata = Metadata::decode(bytes).unwrap_or_else(|violation| panic!("{name}: {violation}"));
        assert_eq!(metadata.encode(), *bytes, "{name}");
        let value = Reader::new(bytes).value().expect("decoded above");
        json!({ "name": name, "hex": hex(bytes), "means": diagnostic(&value) })
    };
    let refuse = |(rule, why, bytes): &Invalid| {
        assert_eq!(check(bytes).map_err(|violation| violation.rule), Err(*rule), "{why}");
        json!({ "hex": hex(bytes), "rule": rule, "why": why })
    };
    let all = json!({
        "explanation": EXPLANATION,
        "valid": valid().iter().map(read).collect::<Vec<_>>(),
        "invalid": NOT_DETERMINISTIC.iter().chain(NOT_TYPED).map(refuse).collect::<Vec<_>>(),
    });
    let mut text = serde_json::to_string_pretty(&all).expect("JSON");
    text.push('\n');
    golden_file("vectors/metadata.json", text.as_bytes());
}

#[test]
fn one_level_deeper_is_refused() {
    assert_eq!(check(&nested(17).encode()).map_err(|violation| violation.rule), Err("M1"));
}
