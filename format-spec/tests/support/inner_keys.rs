//! The keys of the maps inside metadata, as the codec writes them: one field set at a time, and its key looked up in the bytes.

use chainring_format::cbor::{Reader, Value};
use chainring_format::metadata::{AuthorityRef, ExternalRef, Metadata, ReadRef, Standing, Timestamp, key};
use chainring_format::{EventId, Link};

/// A map inside: its name in the document, its rule in the CDDL, key and name of each field.
type InnerMap = (&'static str, &'static str, Vec<(u64, &'static str)>);

pub(crate) fn written() -> Vec<InnerMap> {
    vec![
        ("authority", "authority", authority()),
        ("reads", "read", reads(key::READS)),
        ("checked", "read", reads(key::CHECKED)),
        ("external", "external", external()),
    ]
}

/// Keys of the one map in the list under `list`.
fn keys_of(metadata: &Metadata, list: u64) -> Vec<u64> {
    let Ok(Value::Map(top)) = Reader::new(&metadata.encode()).value() else { panic!("metadata is a map") };
    let Some((_, Value::Array(maps))) = top.iter().find(|entry| entry.0 == Value::Uint(list)) else { panic!("key {list} was written") };
    let [Value::Map(entries)] = &maps[..] else { panic!("one map was written") };
    let number = |key: &Value| if let Value::Uint(number) = key { *number } else { panic!("keys are numbers") };
    entries.iter().map(|(key, _)| number(key)).collect()
}

fn only(keys: &[u64]) -> u64 {
    let [key] = keys else { panic!("one key was written, not {keys:?}") };
    *key
}

fn authority() -> Vec<(u64, &'static str)> {
    let none = AuthorityRef::default;
    let fields = [
        ("stream", AuthorityRef { stream: Some("s".into()), ..none() }),
        ("version", AuthorityRef { version: Some(1), ..none() }),
        ("link", AuthorityRef { link: Some(Link([1; 32])), ..none() }),
        ("rule", AuthorityRef { rule: Some("r".into()), ..none() }),
        ("policy", AuthorityRef { policy: Some("p".into()), ..none() }),
        ("policy_version", AuthorityRef { policy_version: Some("1".into()), ..none() }),
        ("digest", AuthorityRef { digest: Some(vec![1]), ..none() }),
        ("event", AuthorityRef { event: Some(EventId([1; 16])), ..none() }),
        ("confirmed_by", AuthorityRef { confirmed_by: Some(EventId([1; 16])), ..none() }),
    ];
    let key = |one: AuthorityRef| only(&keys_of(&Metadata { authority: vec![one], ..Metadata::new("t") }, key::AUTHORITY));
    fields.map(|(name, one)| (key(one), name)).to_vec()
}

fn reads(list: u64) -> Vec<(u64, &'static str)> {
    let keys = |one: ReadRef| {
        let (reads, checked) = if list == key::READS { (Some(vec![one]), None) } else { (None, Some(vec![one])) };
        keys_of(&Metadata { reads, checked, ..Metadata::new("t") }, list)
    };
    let required = keys(ReadRef::default());
    let beyond = |one: ReadRef| only(&keys(one)[required.len()..]);
    assert_eq!(required.len(), 2, "stream and version are always written");
    vec![
        (required[0], "stream"),
        (required[1], "version"),
        (beyond(ReadRef { state: Some(vec![1]), ..ReadRef::default() }), "state"),
        (beyond(ReadRef { standing: Some(Standing::Relevant), ..ReadRef::default() }), "standing"),
    ]
}

fn external() -> Vec<(u64, &'static str)> {
    let keys = |one: ExternalRef| keys_of(&Metadata { external: vec![one], ..Metadata::new("t") }, key::EXTERNAL);
    let none = ExternalRef::default;
    let beyond = |one: ExternalRef| only(&keys(one)[1..]);
    vec![
        (only(&keys(none())), "resource"),
        (beyond(ExternalRef { version: Some("v".into()), ..none() }), "version"),
        (beyond(ExternalRef { hash: Some(vec![1]), ..none() }), "hash"),
        (beyond(ExternalRef { observed_at: Some(Timestamp { seconds: 0, nanoseconds: 0 }), ..none() }), "observed_at"),
        (beyond(ExternalRef { max_age_ns: Some(1), ..none() }), "max_age_ns"),
    ]
}

/// "KEY NAME" of each field in a cell such as "1 stream text (required), 2 version uint (required), 4 standing uint (0 ..., 1 ...)".
pub(crate) fn said(cell: &str) -> Vec<String> {
    let mut depth = 0;
    let top_level: String = cell
        .chars()
        .filter(|c| {
            depth += i32::from("([".contains(*c)) - i32::from(")]".contains(*c));
            depth == 0
        })
        .collect();
    top_level.split(", ").map(|field| field.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}
