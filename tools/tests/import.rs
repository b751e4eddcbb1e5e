//! What an import takes, what makes it stop, and what it leaves behind then.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use common::{Place, Ran, assert_same_lines, command, import, run, run_with_input};
use serde_json::{Value, json};

/// A UUID with this number in it.
fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// A line: event `number` of a stream at a version.
fn event(number: u32, stream: &str, version: u64) -> Value {
    json!({ "stream": stream, "version": version, "type": "T", "id": id(number), "data": { "n": number } })
}

fn with(mut event: Value, key: &str, value: impl Into<Value>) -> Value {
    event[key] = value.into();
    event
}

fn in_batch(number: u32, stream: &str, version: u64, batch: &str) -> Value {
    with(event(number, stream, version), "batch", batch)
}

fn lines(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// Imports text; gives the answer and what the log holds then.
fn import_text(place: &Place, text: impl AsRef<[u8]>, more: &[&str]) -> (Ran, String) {
    let file = place.write("in.jsonl", text);
    let ran = import(&place.log(), &file, more);
    let kept = if place.log().exists() { run(&place.log(), &["export"]).yes() } else { String::new() };
    (ran, kept)
}

/// Asserts that the import stopped at a line for a reason that says this, and kept these events.
fn assert_stops(place: &Place, text: impl AsRef<[u8]>, line: u64, reason: &str, kept: &[Value]) {
    let (ran, exported) = import_text(place, text, &[]);
    let object = ran.json();
    assert_eq!(ran.code, 1, "{object}");
    assert_eq!(object["error"]["line"], line, "{object}");
    assert!(object["error"]["reason"].as_str().unwrap().contains(reason), "{object} lacks {reason:?}");
    assert!(object["error"]["file"].as_str().unwrap().ends_with("in.jsonl"), "{object}");
    assert!(ran.err.contains(&format!("in.jsonl:{line}: ")), "{}", ran.err);
    assert_same_lines(&exported, &lines(kept));
}

#[test]
fn counts_what_it_took() {
    let place = Place::new("counts");
    let events = [
        event(1, "a", 1),
        with(in_batch(2, "a", 2, "x"), "expected_version", 0),
        with(in_batch(3, "b", 1, "x"), "expected_version", 0),
        with(event(4, "a", 3), "expected_version", 2),
        with(event(5, "a", 4), "expected_version", "four"),
    ];
    let (ran, kept) = import_text(&place, lines(&events), &[]);
    let object = ran.json();
    let expected = json!({
        "events": 5, "batches": 1, "streams": 2, "stale": 2, "refused": 0, "duplicates": 0,
        "first_position": 1, "last_position": 5, "seconds": object["seconds"],
    });
    assert_eq!((ran.code, &object), (0, &expected));
    assert_same_lines(&kept, &lines(&events));

    let (ran, kept_again) = import_text(&place, lines(&events), &[]);
    let object = ran.json();
    let expected = json!({
        "events": 0, "batches": 0, "streams": 0, "stale": 0, "refused": 0, "duplicates": 5,
        "first_position": null, "last_position": null, "seconds": object["seconds"],
    });
    assert_eq!((ran.code, &object), (0, &expected));
    assert_eq!(kept_again, kept);
}

#[test]
fn several_files_are_one_import() {
    let place = Place::new("several");
    let (one, two) = (place.write("1", lines(&[in_batch(1, "a", 1, "x")])), place.join("2.zst"));
    std::fs::write(&two, zstd::encode_all(lines(&[in_batch(2, "a", 2, "y"), event(3, "b", 1)]).as_bytes(), 1).unwrap()).unwrap();
    let args = ["import", one.to_str().unwrap(), two.to_str().unwrap(), "-", "--json"];
    let object = run_with_input(&place.log(), &args, lines(&[in_batch(4, "c", 1, "x")]).as_bytes()).json();
    assert_eq!([&object["events"], &object["batches"], &object["streams"]], [4, 2, 3], "batch x is one value, in two files");
    let packed = zstd::encode_all(lines(&[event(5, "b", 2)]).as_bytes(), 1).unwrap();
    assert_eq!(run_with_input(&place.log(), &["import", "-", "--json"], &packed).json()["last_position"], 5);
}

#[test]
fn stops_at_a_malformed_line_and_goes_on_once_it_is_mended() {
    let place = Place::new("malformed");
    let good = [event(1, "a", 1), in_batch(2, "a", 2, "x"), in_batch(3, "a", 3, "x"), event(4, "a", 4)];
    let text = lines(&good);
    let broken = text.replacen("\"n\":3", "\"n\":", 1);
    // Whether the line belongs to the batch cannot be read, so the batch is not appended in part.
    assert_stops(&place, &broken, 3, "not valid JSON", &good[..1]);
    let (ran, kept) = import_text(&place, &text, &[]);
    assert_eq!((ran.code, ran.json()["events"].as_u64(), ran.json()["duplicates"].as_u64()), (0, Some(3), Some(1)));
    assert_same_lines(&kept, &text);
}

#[test]
fn a_readable_line_ends_the_batch_before_it_even_if_it_is_malformed() {
    let place = Place::new("readable");
    let batch = [in_batch(1, "a", 1, "x"), in_batch(2, "a", 2, "x")];
    let text = lines(&batch) + &lines(&[with(in_batch(3, "a", 3, "y"), "type", "")]);
    assert_stops(&place, text, 3, "\"type\"", &batch);
    let text = lines(&batch) + &lines(&[with(in_batch(3, "a", 3, "x"), "type", "")]);
    let place = Place::new("readable-same");
    assert_stops(&place, text, 3, "\"type\"", &[]);
}

#[test]
fn malformed_lines() {
    let bad_values = [("id", json!(7)), ("stream", json!("")), ("version", json!(0)), ("version", json!("1")), ("time", json!("noon"))];
    for (number, (key, value)) in bad_values.into_iter().enumerate() {
        let place = Place::new(&format!("bad-{number}"));
        assert_stops(&place, lines(&[event(1, "a", 1), with(event(2, "a", 2), key, value)]), 2, &format!("{key:?}"), &[event(1, "a", 1)]);
    }
    for (number, (line, why)) in
        [("[1]", "not a JSON object"), ("{\"id\":1,\"id\":2}", "occurs twice"), ("\u{feff}{}", "not valid JSON")].into_iter().enumerate()
    {
        let place = Place::new(&format!("bad-line-{number}"));
        assert_stops(&place, format!("\n{}\r\n \t\n{line}", event(1, "a", 1)), 4, why, &[event(1, "a", 1)]);
    }
    let place = Place::new("bad-bytes");
    assert_stops(&place, b"{\"a\":\"\xff\"}\n", 1, "not UTF-8", &[]);
}

#[test]
fn stops_where_the_version_does_not_come_out() {
    let place = Place::new("version");
    let events = [in_batch(1, "a", 1, "x"), in_batch(2, "a", 3, "x"), event(3, "b", 1)];
    assert_stops(&place, lines(&events), 2, "version 3 of stream \"a\" cannot follow version 1", &[]);
    let events = [event(1, "a", 1), event(2, "a", 1)];
    assert_stops(&place, lines(&events), 2, "version 1 of stream \"a\" cannot follow version 1", &events[..1]);
    // What is there already is compared as well.
    assert_stops(&place, lines(&[event(1, "a", 2)]), 1, "is version 1 in the log, not 2", &events[..1]);
}

#[test]
fn stops_at_an_id_with_other_content() {
    let place = Place::new("conflict");
    let kept = [event(1, "a", 1), event(2, "a", 2)];
    let other = with(event(1, "a", 1), "actor", "somebody");
    let text = lines(&[kept[0].clone(), kept[1].clone(), other.clone(), event(3, "a", 3)]);
    assert_stops(&place, text, 3, "other content", &kept);
    assert_stops(&place, lines(&[other, event(3, "a", 3)]), 1, "other content, at position 1", &kept);
    assert_stops(&place, lines(&[with(event(2, "b", 1), "data", 1)]), 1, "other content, at position 2", &kept);
}

#[test]
fn stops_at_a_batch_that_is_partly_known_or_known_otherwise() {
    let place = Place::new("partly");
    let batch = [in_batch(1, "a", 1, &id(1)), in_batch(2, "a", 2, &id(1))];
    assert_eq!(import_text(&place, lines(&batch), &[]).0.code, 0);
    let more = lines(&batch) + &lines(&[in_batch(3, "a", 3, &id(1))]);
    assert_stops(&place, more, 1, "2 of the 3 events of this batch are in the log already", &batch);
    assert_stops(&place, lines(&batch[..1]), 1, "appended otherwise", &batch);
    assert_stops(&place, lines(&[event(1, "a", 1)]), 1, "appended otherwise", &batch);
}

#[test]
fn stops_at_an_id_that_occurs_twice_in_a_batch() {
    let place = Place::new("twice");
    let batch = [in_batch(1, "a", 1, "x"), in_batch(2, "a", 2, "x"), in_batch(1, "a", 3, "x")];
    assert_stops(&place, lines(&batch), 3, "occurs twice in this batch", &[]);
    // Alone and again it is a retry, as long as it says the same.
    let (ran, _) = import_text(&place, lines(&[event(1, "a", 1), event(1, "a", 1), event(2, "a", 2)]), &[]);
    assert_eq!((ran.code, ran.json()["events"].as_u64(), ran.json()["duplicates"].as_u64()), (0, Some(2), Some(1)));
}

#[test]
fn stops_at_a_batch_that_recurs() {
    let place = Place::new("recurs");
    let events = [in_batch(1, "a", 1, "x"), event(2, "a", 2), in_batch(3, "a", 3, "x")];
    assert_stops(&place, lines(&events), 3, "batch x recurs", &events[..2]);
}

#[test]
fn a_gate_refuses_whole_batches_by_the_heads_of_the_log() {
    let place = Place::new("gate");
    let expecting = |event: Value, version: u64| with(event, "expected_version", version);
    let events = [
        expecting(event(1, "a", 1), 0),
        expecting(in_batch(2, "a", 2, "x"), 1),
        expecting(in_batch(3, "a", 3, "x"), 2), // the earlier event of its batch counted in
        expecting(in_batch(4, "b", 1, "y"), 0),
        expecting(in_batch(5, "a", 4, "y"), 1), // stale: b is refused with it
        expecting(event(6, "b", 2), 1),         // follows from the refusal
        event(7, "b", 3),                       // never looked
        with(event(8, "b", 9), "expected_version", -1),
    ];
    let (ran, kept) = import_text(&place, lines(&events), &["--gate", "expected"]);
    let object = ran.json();
    assert_eq!((ran.code, &object["events"], &object["refused"], &object["duplicates"]), (1, &json!(4), &json!(4), &json!(0)));
    assert!(object.get("error").is_none());
    let expected = [events[0].clone(), events[1].clone(), events[2].clone(), with(events[6].clone(), "version", 1)];
    assert_same_lines(&kept, &lines(&expected));

    // Judged again: b exists at version 1 now, so the event that expects it passes.
    let (ran, _) = import_text(&place, lines(&events), &["--gate", "expected"]);
    let object = ran.json();
    assert_eq!((&object["events"], &object["refused"], &object["duplicates"]), (&json!(1), &json!(3), &json!(4)));
}

#[test]
fn a_gate_needs_no_versions_and_still_stops_at_what_is_wrong() {
    let place = Place::new("gate-stop");
    let mut free = event(1, "a", 1);
    free.as_object_mut().unwrap().remove("version");
    let text = lines(&[free, in_batch(2, "a", 1, "x"), event(3, "a", 1), in_batch(4, "a", 1, "x")]);
    let (ran, kept) = import_text(&place, text, &["--gate", "expected"]);
    assert_eq!((ran.code, ran.json()["error"]["line"].as_u64()), (1, Some(4)));
    assert_same_lines(&kept, &lines(&[event(1, "a", 1), in_batch(2, "a", 2, "x"), event(3, "a", 3)]));
}

#[test]
fn odd_lines_come_back_as_they_were() {
    let place = Place::new("odd");
    let text = concat!(
        r#"{"seq":9,"stream":"s\u00e9 \"\\","version":1,"type":"T","id":"Not a UUID","time":"2025-08-01T15:57:32.000000Z","data":{"a":489.0,"b":74.11999999999995,"c":[],"d":null}}"#,
        "\n",
        r#"{"stream":"s\u00e9 \"\\","version":2,"type":"T","id":"806FB35D-21AD-596B-BD3F-A5234076332D","batch":5,"reads":[],"expected_version":1e0,"extra":{"deep":[1E5]}}"#,
        "\n",
    );
    let (ran, kept) = import_text(&place, text, &[]);
    assert_eq!((ran.code, ran.json()["stale"].as_u64()), (0, Some(0)));
    assert_same_lines(&kept, text);
    assert!(kept.contains("489.0") && kept.contains("74.11999999999995") && kept.contains(".000000Z") && kept.contains("1E5"));
    // What was exported can be imported, and says the same again.
    let copy = Place::new("odd-copy");
    assert_eq!(import_text(&copy, &kept, &[]).1, kept);
    let by_id = run(&place.log(), &["state", "s\u{e9} \"\\", "--as-of", "event:Not a UUID"]).yes();
    assert_eq!(by_id, "{\"stream\":\"sé \\\"\\\\\",\"version\":1,\"state\":{\"a\":489.0,\"b\":74.11999999999995,\"c\":[],\"d\":null}}\n");
}

#[test]
fn two_imports_give_the_same_states_and_lines_whatever_the_grouping() {
    let texts: Vec<Value> =
        (0..2000).map(|k| with(event(k, &format!("s{}", k % 7), u64::from(k / 7) + 1), "data", json!({ "set": { "k": k } }))).collect();
    let (one, two) = (Place::new("same-1"), Place::new("same-2"));
    run(&one.log(), &["init", "--segment-bytes", "256KiB"]).yes();
    let (_, kept) = import_text(&one, lines(&texts), &[]);
    for part in texts.chunks(300) {
        assert_eq!(import_text(&two, lines(part), &[]).0.code, 0);
    }
    assert_eq!(run(&two.log(), &["export"]).yes(), kept);
    assert_eq!(run(&two.log(), &["state", "--all"]).yes(), run(&one.log(), &["state", "--all"]).yes());
}

#[test]
fn acknowledges_batches_while_the_input_is_still_open() {
    let place = Place::new("ack");
    let mut child =
        command(&place.log(), &["import", "-", "--ack", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    to.write_all(lines(&[in_batch(1, "a", 1, "x"), in_batch(2, "a", 2, "x"), event(3, "a", 3)]).as_bytes()).unwrap();
    assert_eq!(from.next().unwrap().unwrap(), "x\t2");
    to.write_all(lines(&[in_batch(4, "a", 4, &id(4)), event(5, "a", 5)]).as_bytes()).unwrap();
    assert_eq!(from.next().unwrap().unwrap(), format!("{}\t4", id(4)));
    drop(to);
    let object: Value = serde_json::from_str(&from.next().unwrap().unwrap()).unwrap();
    assert_eq!((&object["events"], &object["batches"]), (&json!(5), &json!(2)));
    assert!(from.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_not_there_cannot_be_read_and_nothing_is_made() {
    let place = Place::new("absent");
    let good = place.write("good", lines(&[event(1, "a", 1)]));
    for bad in [place.join("nope"), place.join(".")] {
        let ran = run(&place.log(), &["import", good.to_str().unwrap(), bad.to_str().unwrap()]);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{}", ran.err);
        assert!(!place.log().exists());
    }
}

#[test]
fn a_damaged_archive_stops_the_import() {
    let place = Place::new("archive");
    let events: Vec<Value> = (1..3000).map(|k| event(k, "a", u64::from(k))).collect();
    let mut packed = zstd::encode_all(lines(&events).as_bytes(), 1).unwrap();
    packed.truncate(packed.len() - 10);
    let ran = import(&place.log(), &place.write("in.jsonl", packed), &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.json()["error"]["reason"].as_str().unwrap().contains("cannot read on"), "{}", ran.out);
}
