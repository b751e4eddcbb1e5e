//! Import then export gives the same line, whatever it holds.

use proptest::prelude::*;

use super::entry::{BatchName, Claim, Entry, LineReader, Malformed};
use super::{canonical_id, event_id};
use crate::fuzzing::{self, fields};
use crate::rawjson;

const ID: &str = "806fb35d-21ad-596b-bd3f-a5234076332d";

fn read(line: &str) -> Result<(Entry, Option<BatchName>), Malformed> {
    LineReader::new(true).read(1, line.as_bytes())
}

fn exported(line: &str) -> String {
    fuzzing::exported(line.as_bytes()).unwrap_or_else(|| panic!("refused: {line}"))
}

fn comes_back(line: &str) {
    let back = exported(line);
    assert!(!back.contains(['\n', '\r']), "{back:?}");
    assert_eq!(fields(&back), fields(line), "{line}");
    assert_eq!(exported(&back), back, "a second time");
}

#[test]
fn whatever_a_line_holds_comes_back() {
    for rest in [
        r#""data":{"a":489.0,"b":74.11999999999995,"c":1E5,"d":-0,"e":[],"f":null,"g":123456789012345678901234567890}"#,
        r#""data":null,"actor":null,"reads":null"#,
        r#""data":"text","actor":"","correlation":"\u0000\"\\é😀""#,
        r#""data":[],"actor":7,"on_behalf_of":["x"],"on_behalf_of_basis":{},"correlation":false"#,
        "\"data\":{\"a\" :\t1,\r \"b\": [ ] }",
        r#""time":"2025-08-01T15:57:32.620908Z""#,
        r#""time":"2025-08-01T15:57:32.000000Z""#,
        r#""time":"2025-08-01t17:57:32.1234567890123+02:00""#,
        r#""on_behalf_of":"user:u","on_behalf_of_basis":"claimed""#,
        r#""causation":"806fb35d-21ad-596b-bd3f-a5234076332d","compensates":"00000000-0000-0000-0000-000000000000""#,
        r#""causation":"806FB35D-21ad-596b-bd3f-a5234076332d","compensates":"the other one""#,
        r#""batch":"806fb35d-21ad-596b-bd3f-a5234076332d""#,
        r#""batch":"b""#,
        r#""batch":"""#,
        r#""batch":{"a":[1.0]}"#,
        r#""reads":[],"checked":[]"#,
        r#""reads":[{"stream":"s","version":1,"state":"00ff"},{"version":1,"stream":"s"},{"stream":"s","version":1}]"#,
        r#""reads":[{"stream":"s","version":1,"standing":"authoritative"}],"checked":[{"stream":"s"}]"#,
        r#""reads":"none","checked":{"stream":"s","version":1}"#,
        r#""reads":[{"stream":"s","version":1.0}],"checked":[{"stream":"s","version":1,"state":null}]"#,
        r#""class":"intent","reversibility":"externally-reversible""#,
        r#""class":"Intent","reversibility":4"#,
        r#""expected_version":0"#,
        r#""expected_version":18446744073709551616"#,
        r#""expected_version":-1"#,
        r#""expected_version":2.0"#,
        r#""authority":{"policy":"p","version":"1","rule":"r","event":"806fb35d-21ad-596b-bd3f-a5234076332d","sha256":"00aa","confirmed_by":"806fb35d-21ad-596b-bd3f-a5234076332d"}"#,
        r#""authority":{}"#,
        r#""authority":{"policy":"p","version":1}"#,
        r#""authority":{"policy":"p","scope":["x"]}"#,
        r#""authority":{"sha256":"AA"}"#,
        r#""authority":[{"policy":"p"}]"#,
        r#""schema_version":"odd","attributes":[1],"content_type":"t","class":1,"external":2,"trace":3,"import":{"id":"x"},"erased":true,"body_hex":"00""#,
        r#""":1,"stream ":"x","\u0000":[{}]"#,
        r#""correlation":"\ud800","data":"\ud800""#,
    ] {
        comes_back(&format!(r#"{{"seq":1,"stream":"s","version":1,"type":"T","id":"{ID}",{rest}}}"#));
    }
    comes_back(r#"{"id":"not a uuid","type":"T","version":18446744073709551615,"stream":"s\n"}"#);
    comes_back(r#"{"id":"00000000-0000-0000-0000-000000000000","type":"T","version":1,"stream":"s"}"#);
}

#[test]
fn malformed_lines_say_why() {
    let line = |rest: &str| format!(r#"{{"stream":"s","version":1,"type":"T","id":"{ID}"{rest}}}"#);
    let cases = [
        ("{".to_owned(), "not valid JSON"),
        ("[]".to_owned(), "not a JSON object"),
        (line(",\"x\":NaN"), "not valid JSON"),
        (line("} {"), "not valid JSON"),
        (line(r#","stream":"s""#), "\"stream\" occurs twice"),
        (line(r#","x":1,"y":2,"\u0078":null"#), "\"x\" occurs twice"),
        (line(r#","\ud800":1"#), "surrogate"),
        (line(r#","time":"2025-08-01""#), "\"time\""),
        (line(r#","time":5"#), "\"time\""),
        (line("").replace("\"s\"", "\"\""), "\"stream\""),
        (line("").replace("\"s\"", &format!("{:?}", "x".repeat(513))), "513 bytes"),
        (line("").replace("\"s\"", "null"), "\"stream\""),
        (line("").replace("\"T\"", "[]"), "\"type\""),
        (line("").replace(&format!("{ID:?}"), "17"), "\"id\""),
        (line("").replace(":1,", ":0,"), "\"version\""),
        (line("").replace(":1,", ":1.0,"), "\"version\""),
        (line(&format!(",\"x\":{:?}", "x".repeat(1 << 20))), "at most 1048576 fit"),
    ];
    for (line, why) in cases {
        let error = read(&line).unwrap_err();
        assert!(error.why.contains(why), "{}: {why}", error.why);
    }
    assert!(LineReader::new(false).read(1, b"\xff").unwrap_err().why.contains("UTF-8"));
    assert!(LineReader::new(false).read(1, line("").replace(":1,", ":\"x\",").as_bytes()).is_ok(), "a gate gives versions itself");
}

#[test]
fn a_malformed_line_still_tells_its_batch_where_it_can() {
    let named = read(r#"{"batch":"b"}"#).unwrap_err();
    assert_eq!(named.batch, Some(Some(BatchName::Text("b".into()))));
    assert_eq!(read("{}").unwrap_err().batch, Some(None));
    assert_eq!(read("{").unwrap_err().batch, None);
}

#[test]
fn ids() {
    assert_eq!(event_id(ID).to_string(), ID);
    assert_eq!(canonical_id(&ID.to_uppercase()), None);
    assert_ne!(event_id(&ID.to_uppercase()), event_id(ID));
    assert_ne!(event_id("a"), event_id("b"));
    assert_ne!(event_id("00000000-0000-0000-0000-000000000000").0, [0; 16]);
}

#[test]
fn claims() {
    let claim =
        |raw: &str| read(&format!(r#"{{"stream":"s","version":3,"type":"T","id":"{ID}","expected_version":{raw}}}"#)).unwrap().0.claim;
    assert_eq!(claim("null"), Claim::Blind);
    assert_eq!(claim("2"), Claim::At(2));
    assert_eq!(claim("2.0"), Claim::At(2));
    assert_eq!(claim("20e-1"), Claim::At(2));
    for never in ["-1", "2.5", "\"2\"", "[2]", "1e300", "true"] {
        assert_eq!(claim(never), Claim::Never, "{never}");
    }
    assert!(!Claim::Blind.is_stale_at(1) && !Claim::At(2).is_stale_at(3));
    assert!(Claim::At(3).is_stale_at(3) && Claim::Never.is_stale_at(1) && Claim::At(u64::MAX).is_stale_at(0));
}

#[test]
fn only_a_name_that_is_not_the_first_id_takes_room() {
    let second = ID.replace("80", "81");
    let mut reader = LineReader::new(false);
    let mut label = |id: &str, batch: &str| {
        let line = format!(r#"{{"stream":"s","type":"T","id":"{id}","batch":{batch}}}"#);
        reader.read(1, line.as_bytes()).unwrap().0.event.metadata.batch_label
    };
    let quoted = format!("{ID:?}");
    assert_eq!(label(ID, &quoted), None);
    assert_eq!(label(&second, &quoted), None);
    assert_eq!(label(&second, "\"b\"").as_deref(), Some("b"));
    assert_eq!(label(&second, &quoted).as_deref(), Some(ID));
    assert_eq!(label(ID, "5"), None);
}

/// JSON text of any kind, with odd spacing and numbers.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        "\\PC{0,12}"
            .prop_map(|text| format!("{text:?}").replace("\\u{", "").replace("\\'", "'"))
            .prop_filter("JSON", |t| rawjson::valid(t).is_ok()),
        Just(format!("{ID:?}")),
        Just("\"2025-08-01T15:57:32.000Z\"".to_owned()),
        Just("\"\\ud83d\\ude00\\u0000\"".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let names = prop_oneof![
            Just("stream"),
            Just("version"),
            Just("state"),
            Just("policy"),
            Just("rule"),
            Just("event"),
            Just("sha256"),
            Just("confirmed_by"),
            Just("x y"),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec((names, inner), 0..4)
                .prop_map(|m| format!("{{{}}}", m.iter().map(|(name, value)| format!("{name:?} :{value}")).collect::<Vec<_>>().join(","))),
        ]
    })
}

fn any_line() -> impl Strategy<Value = String> {
    let optional = [
        "seq",
        "actor",
        "on_behalf_of",
        "on_behalf_of_basis",
        "correlation",
        "causation",
        "batch",
        "authority",
        "reads",
        "checked",
        "expected_version",
        "compensates",
        "data",
        "compensated_by",
        "attributes",
        "class",
    ];
    let fields = prop::sample::subsequence(optional.to_vec(), 0..optional.len());
    let required = ("[a-z/#\u{e9}]{1,20}", 1_u64.., "[A-Z][a-z]{0,9}", prop_oneof![Just(ID.to_owned()), "[a-zA-Z0-9 -]{1,40}"]);
    (required, fields, prop::collection::vec(any_json(), optional.len())).prop_map(|((stream, version, kind, id), names, values)| {
        let rest: String = names.iter().zip(values).map(|(name, value)| format!(", {name:?}: {value}")).collect();
        format!(r#"{{"stream":{stream:?},"version":{version},"type":{kind:?},"id":{id:?}{rest}}}"#)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_line_comes_back(line in any_line()) {
        let back = exported(&line);
        prop_assert_eq!(fields(&back), fields(&line));
    }

    #[test]
    fn the_same_line_gives_the_same_bytes(line in any_line()) {
        let (a, b) = (read(&line).unwrap().0.event, read(&line).unwrap().0.event);
        prop_assert_eq!(a.metadata.encode(), b.metadata.encode());
        prop_assert_eq!(a.body, b.body);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), line in any_line(), cut in any::<prop::sample::Index>()) {
        let _ = LineReader::new(false).read(1, &bytes);
        let _ = LineReader::new(false).read(1, &line.as_bytes()[..cut.index(line.len())]);
    }
}
