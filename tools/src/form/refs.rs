//! The nested fields `authority`, `reads` and `checked`: raw JSON text to the typed references of the metadata.
//!
//! Each function gives what fits, and whether that is all there was: if not, the caller keeps the raw text too.

use chainring::{AuthorityRef, EventId, ReadRef};

use super::named_id;
use crate::rawjson;

/// An integer as this program would write it: no sign, fraction, exponent or leading zero.
pub(super) fn integer(raw: &str) -> Option<u64> {
    let canonical = raw == "0" || (raw.bytes().all(|b| b.is_ascii_digit()) && !raw.starts_with('0'));
    if canonical { raw.parse().ok() } else { None }
}

/// Bytes of a text of lower-case hexadecimal digits.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Puts a value in its place; says whether it fitted and the place was free.
fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let fits = value.is_some() && place.is_none();
    if fits {
        *place = value;
    }
    fits
}

/// As [`put`], of an id and whether it alone gives the text back.
fn put_id(place: &mut Option<EventId>, id: Option<(EventId, bool)>) -> bool {
    put(place, id.map(|(id, _)| id)) && id.is_some_and(|(_, is_exact)| is_exact)
}

/// `authority`: one object.
pub(super) fn authority(raw: &str) -> (Option<AuthorityRef>, bool) {
    let Some(members) = rawjson::members(raw) else { return (None, false) };
    let mut authority = AuthorityRef::default();
    let mut exact = true;
    for (name, value) in members {
        let text = rawjson::string(value);
        let owned = || text.as_deref().map(str::to_owned);
        let id = || text.as_deref().map(named_id);
        exact &= match rawjson::string(name).as_deref() {
            Some("policy") => put(&mut authority.policy, owned()),
            Some("version") => put(&mut authority.policy_version, owned()),
            Some("rule") => put(&mut authority.rule, owned()),
            Some("event") => put_id(&mut authority.event, id()),
            Some("sha256") => put(&mut authority.digest, text.as_deref().and_then(hex)),
            Some("confirmed_by") => put_id(&mut authority.confirmed_by, id()),
            _ => false,
        };
    }
    (Some(authority), exact)
}

/// `reads` and `checked`: a list of objects. A list with an entry that names no stream or version gives nothing.
pub(super) fn reads(raw: &str) -> (Option<Vec<ReadRef>>, bool) {
    let Some(elements) = rawjson::elements(raw) else { return (None, false) };
    let mut reads = Vec::new();
    let mut exact = true;
    for element in elements {
        let (read, all) = read(element);
        let Some(read) = read else { return (None, false) };
        reads.push(read);
        exact &= all;
    }
    (Some(reads), exact)
}

fn read(raw: &str) -> (Option<ReadRef>, bool) {
    let Some(members) = rawjson::members(raw) else { return (None, false) };
    let (mut stream, mut version, mut state) = (None, None, None);
    let mut exact = true;
    for (name, value) in members {
        exact &= match rawjson::string(name).as_deref() {
            Some("stream") => put(&mut stream, rawjson::string(value).map(std::borrow::Cow::into_owned)),
            Some("version") => put(&mut version, integer(value)),
            Some("state") => put(&mut state, rawjson::string(value).as_deref().and_then(hex)),
            _ => false,
        };
    }
    match (stream, version) {
        (Some(stream), Some(version)) => (Some(ReadRef { stream, version, state, ..ReadRef::default() }), exact),
        _ => (None, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_only_in_the_form_they_come_back_in() {
        let cases = [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-0", None),
            ("1.0", None),
            ("1e2", None),
            ("\"1\"", None),
            ("[]", None),
        ];
        for (raw, value) in cases {
            assert_eq!(integer(raw), value, "{raw}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_exact() {
        for raw in [
            "{}",
            "null",
            "[[]]",
            r#"[{"stream":"s"}]"#,
            r#"[{"stream":"s","version":1,"state":null}]"#,
            r#"[{"stream":"s","version":1,"state":"AB"}]"#,
            r#"[{"stream":"s","version":1,"x":1}]"#,
            r#"[{"stream":"s","version":1,"version":1}]"#,
        ] {
            assert!(!reads(raw).1, "{raw}");
        }
        assert_eq!(reads("[]"), (Some(vec![]), true));
        let partly = reads(r#"[{"stream":"s","version":1,"state":"0","why":2}]"#);
        assert_eq!(partly, (Some(vec![ReadRef { stream: "s".into(), version: 1, ..ReadRef::default() }]), false));
        for raw in [r#"{"version":1}"#, r#"{"event":"x"}"#, r#"{"policy":null}"#, r#"{"sha256":"abc"}"#, "[]", "\"p\""] {
            assert!(!authority(raw).1, "{raw}");
        }
        assert_eq!(authority("{}"), (Some(AuthorityRef::default()), true));
    }
}
