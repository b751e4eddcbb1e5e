//! Exit codes, what goes where, and the commands that look.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Place, Ran, command, copy_log, feed, import, run};
use serde_json::{Value, json};

const LINES: &str = concat!(
    r#"{"stream":"order/1","version":1,"type":"Placed","id":"00000000-0000-4000-8000-000000000001","time":"2025-08-01T14:00:00Z","actor":"agent","on_behalf_of":"user","data":{"set":{"total":489.0,"items":[]}}}"#,
    "\n",
    r#"{"stream":"order/2","version":1,"type":"Placed","id":"00000000-0000-4000-8000-000000000002","time":"2025-08-01T14:05:00Z","actor":"agent","batch":"b","data":{"set":{"total":1}}}"#,
    "\n",
    r#"{"stream":"order/1","version":2,"type":"Cancelled","id":"00000000-0000-4000-8000-000000000003","time":"2025-08-01T13:59:00+00:00","batch":"b","data":{"set":{"status":"cancelled"},"unset":["items"]}}"#,
    "\n",
    r#"{"stream":"note","version":1,"type":"Noted","id":"00000000-0000-4000-8000-000000000004","data":"x"}"#,
    "\n",
);

/// A log with four events in three streams.
fn filled(name: &str) -> Place {
    let place = Place::new(name);
    let file = place.write("in.jsonl", LINES);
    assert_eq!(import(&place.log(), &file, &[]).code, 0);
    place
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn typed_wrongly_is_2() {
    let place = filled("usage");
    let cases: &[&[&str]] = &[
        &[],
        &["unknown"],
        &["import"],
        &["init", "--segment-bytes", "262143"],
        &["init", "--segment-bytes", "many"],
        &["state"],
        &["state", "note", "--all"],
        &["state", "note", "--as-of", "yesterday"],
        &["state", "note", "--as-of", "occurred:2025-08-01"],
        &["state", "note", "--format", "xml"],
        &["import", "-", "--gate", "closed"],
        &["cat"],
        &["cat", "note", "--from", "x"],
    ];
    for args in cases {
        let ran = run(&place.log(), args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(!ran.err.is_empty());
    }
    let without_log = Command::new(env!("CARGO_BIN_EXE_chainring")).env_remove("CHAINRING_LOG").arg("info").output().unwrap();
    assert_eq!(Ran::of(without_log).code, 2);
}

#[test]
fn a_stream_tells_its_history_and_how_it_differs() {
    let place = filled("history");
    let ran = run(&place.log(), &["history", "order/1", "--json"]);
    let told = json_lines(&ran.out);
    assert_eq!((ran.code, told.len()), (0, 2));
    assert_eq!(
        told[0]["changes"],
        json!([{ "field": "items", "after": [] }, { "field": "total", "after": 489.0 }]),
        "what is new has no before"
    );
    assert_eq!(told[1]["changes"], json!([{ "field": "items", "before": [] }, { "field": "status", "after": "cancelled" }]));
    assert_eq!((&told[0]["version"], &told[0]["type"], &told[0]["actor"]), (&json!(1), &json!("Placed"), &json!("agent")));
    assert_eq!((&told[0]["on_behalf_of"], &told[1]["actor"]), (&json!("user"), &Value::Null));
    let people = run(&place.log(), &["history", "order/1"]).out;
    assert!(people.contains("Placed  by agent for user") && people.contains("status  \"cancelled\""), "{people}");
    let then = run(&place.log(), &["history", "order/1", "--as-of", "version:1", "--json"]);
    assert_eq!(json_lines(&then.out), told[..1]);

    let diff = |args: &[&str]| run(&place.log(), &[&["diff", "order/1", "--json", "--from"], args].concat());
    let whole = diff(&["version:1"]).json();
    assert_eq!((&whole["from_version"], &whole["to_version"], &whole["changes"]), (&json!(1), &json!(2), &told[1]["changes"]));
    assert_eq!(diff(&["version:0", "--to", "version:1"]).json()["changes"], told[0]["changes"]);
    assert_eq!(diff(&["version:2", "--to", "version:2"]).json()["changes"], json!([]));
    let back = diff(&["version:2", "--to", "version:1"]).json();
    assert_eq!(back["changes"], json!([{ "field": "items", "after": [] }, { "field": "status", "before": "cancelled" }]));
    let people = run(&place.log(), &["diff", "order/1", "--from", "version:1"]).out;
    assert!(people.starts_with("order/1  v1 -> v2  2 fields differ\n"), "{people}");
    // A state that is no object is one value.
    assert_eq!(json_lines(&run(&place.log(), &["history", "note", "--json"]).out)[0]["changes"], json!([{ "field": "", "after": "x" }]));
    for no in [&["history", "gone"][..], &["diff", "gone", "--from", "version:1"], &["diff", "note", "--from", "event:none"]] {
        assert_eq!(run(&place.log(), no).code, 1, "{no:?}");
    }
}

#[test]
fn events_are_found_by_what_they_say() {
    let place = Place::new("find");
    let more = concat!(
        r#"{"stream":"refund","version":1,"type":"Refunded","id":"00000000-0000-4000-8000-000000000009","time":"2025-08-01T15:00:00Z","actor":"agent","correlation":"run-7","authority":{"policy":"refunds","rule":"r1"},"data":{}}"#,
        "\n"
    );
    let file = place.write("in.jsonl", format!("{LINES}{more}"));
    assert_eq!(import(&place.log(), &file, &[]).code, 0);
    let find = |args: &[&str]| {
        let ran = run(&place.log(), &[&["find", "--json"], args].concat());
        let positions: Vec<u64> = json_lines(&ran.out).iter().map(|line| line["position"].as_u64().unwrap()).collect();
        assert_eq!(ran.code == 0, !positions.is_empty(), "finding nothing is a no");
        positions
    };
    assert_eq!(find(&["--type", "Placed"]), [1, 2]);
    assert_eq!(find(&["--type", "Placed", "--type", "Noted"]), [1, 2, 4]);
    assert_eq!(find(&["--actor", "agent"]), [1, 2, 5]);
    assert_eq!(find(&["--actor", "agent", "--limit", "2"]), [1, 2]);
    assert_eq!(find(&["--actor", "agent", "--as-of", "position:2"]), [1, 2]);
    assert_eq!(find(&["--correlation", "run-7"]), [5]);
    assert_eq!((find(&["--authority", "refunds"]), find(&["--authority", "r1"])), (vec![5], vec![5]));
    assert_eq!(find(&["--actor", "agent", "--type", "Noted"]), [0; 0]);
    assert_eq!(find(&["--occurred", "--between", "2025-08-01T14:00:00Z..2025-08-01T14:05:00Z"]), [1, 2]);
    assert_eq!(find(&["--occurred", "--between", "2025-08-01T13:00:00Z..2025-08-01T13:59:00Z"]), [3]);
    // Recorded now, not then.
    assert_eq!(find(&["--between", "2025-08-01T13:00:00Z..2025-08-01T16:00:00Z"]), [0; 0]);
    assert_eq!(find(&["--between", "2026-01-01T00:00:00Z..2200-01-01T00:00:00Z"]), [1, 2, 3, 4, 5]);
    assert!(run(&place.log(), &["find", "--type", "Refunded"]).out.contains("refund  v1"));
    for wrong in
        [&["find"][..], &["find", "--occurred", "--type", "x"], &["find", "--between", "2026-01-02T00:00:00Z..2026-01-01T00:00:00Z"]]
    {
        assert_eq!(run(&place.log(), wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn a_copy_is_made_verified_and_brought_up_to_date() {
    let place = filled("backup");
    let copy = place.join("copy");
    let to = ["backup", "--to", copy.to_str().unwrap(), "--json"];
    let ran = run(&place.log(), &to);
    let told = ran.json();
    assert_eq!((ran.code, &told["ok"], &told["records"], &told["position"]), (0, &json!(true), &json!(5), &json!(4)));
    assert_eq!(run(&copy, &["export"]).out, run(&place.log(), &["export"]).out);
    let seen = format!("{}:{}", told["position"], told["link"].as_str().unwrap());
    assert_eq!(run(&copy, &["verify", "--expect-at-least", &seen]).code, 0);
    assert_eq!(run(&copy, &["verify", "--reader"]).code, 0);
    let more = place.write(
        "more.jsonl",
        LINES
            .replace("00000000-0000-4000-8000-0000000000", "00000000-0000-4000-8000-0000000001")
            .replace("order", "later")
            .replace("note", "other"),
    );
    assert_eq!(import(&place.log(), &more, &[]).code, 0);
    assert!(run(&place.log(), &to[..3]).out.starts_with("copied 1 segment"));
    assert_eq!(run(&copy, &["info", "--json"]).json()["events"], 8);
    // Another log is not written over, nor a copy that went on by itself.
    let other = filled("backup-other");
    assert_eq!(run(&other.log(), &to).code, 1);
    assert_eq!(run(&copy, &["info", "--json"]).json()["events"], 8);
    assert_eq!(run(&place.join("none"), &to).code, 3);
    assert_eq!(run(&place.log(), &["backup"]).code, 2);
}

#[test]
fn padded_segments_are_packed_and_told() {
    let place = Place::new("pack");
    let fill = |log: &Path| {
        let log = chainring::Options::new().segment_bytes(64 << 10).open(log).unwrap();
        while log.stats().segments < 4 {
            log.append(chainring::Event::new("s", "E").body("{}")).unwrap();
        }
        log.close().unwrap();
    };
    fill(&place.log());
    let before = run(&place.log(), &["export"]).out;
    assert_eq!(run(&place.log(), &["info", "--json"]).json()["packed_segments"], 0);

    let told = run(&place.log(), &["pack", "--json"]);
    let (code, told) = (told.code, told.json());
    assert_eq!(
        (code, &told["ok"], &told["packed"], &told["segments"], &told["packed_segments"]),
        (0, &json!(true), &json!(3), &json!(4), &json!(3))
    );
    assert!(told["bytes_after"].as_u64().unwrap() * 4 < told["bytes_before"].as_u64().unwrap(), "{told}");
    assert_eq!(run(&place.log(), &["export"]).out, before);
    let info = run(&place.log(), &["info"]);
    assert!(info.out.contains("4, 3 of them packed"), "{}", info.out);
    for verify in [&["verify"][..], &["verify", "--reader"], &["fsck"]] {
        assert_eq!(run(&place.log(), verify).code, 0, "{verify:?}");
    }
    let again = run(&place.log(), &["pack"]);
    assert!(again.code == 0 && again.out.starts_with("packed nothing"), "{}", again.out);

    // A footer that does not hold stands in nobody's way, but it is not made anew.
    let damaged = place.join("damaged");
    fill(&damaged);
    let mut bytes = fs::read(damaged.join("0000000002.seg")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(damaged.join("0000000002.seg"), &bytes).unwrap();
    let told = run(&damaged, &["pack", "--json"]);
    assert_eq!((told.code, &told.json()["packed"], &told.json()["failed"][0]["segment"]), (1, &json!(2), &json!("0000000002.seg")));
    assert!(fs::read(damaged.join("0000000002.seg")).unwrap() == bytes);
    assert_eq!(run(&place.join("none"), &["pack"]).code, 3);
}

#[test]
fn the_log_may_be_named_by_the_environment() {
    let place = filled("environment");
    let info = Command::new(env!("CARGO_BIN_EXE_chainring")).env("CHAINRING_LOG", place.log()).args(["--json", "info"]).output().unwrap();
    assert_eq!(Ran::of(info).json()["events"], 4);
}

#[test]
fn no_store_is_3_and_is_not_made() {
    let place = Place::new("no-store");
    let cases: &[&[&str]] = &[
        &["export"],
        &["state", "--all"],
        &["streams"],
        &["cat", "a"],
        &["tail"],
        &["info", "--json"],
        &["verify", "--json"],
        &["verify", "--json", "--reader"],
    ];
    for args in cases {
        let ran = run(&place.log(), args);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{args:?}: {}", ran.err);
        assert!(!place.log().exists());
    }
}

#[test]
fn init_makes_a_log_once() {
    let place = Place::new("init");
    let made = run(&place.log(), &["init", "--origin", "shop", "--segment-bytes", "256KiB", "--json"]);
    assert_eq!((made.code, &made.json()["origin"]), (0, &json!("shop")));
    let info = run(&place.log(), &["info", "--json"]).json();
    assert_eq!([&info["events"], &info["streams"], &info["segments"], &info["format_version"]], [0, 0, 1, 1]);
    let again = run(&place.log(), &["init"]);
    assert_eq!((again.code, again.out.as_str()), (1, ""));
    assert!(again.err.contains("is a log already"));
    assert_eq!(run(&place.log(), &["init", "--origin", &"x".repeat(513)]).code, 1, "what is there counts first");
    assert_eq!(run(&place.join("other"), &["init", "--origin", &"x".repeat(513)]).code, 2);
}

#[test]
fn a_second_writer_is_turned_away_and_readers_are_not() {
    let place = filled("locked");
    let mut writer = command(&place.log(), &["import", "-", "--ack"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // One acknowledgement, and the writer surely has the log.
    let mut to = writer.stdin.take().unwrap();
    to.write_all(b"{\"stream\":\"w\",\"version\":1,\"type\":\"T\",\"id\":\"w1\",\"batch\":\"w\"}\n{\"stream\":\"w\",\"version\":2,\"type\":\"T\",\"id\":\"w2\"}\n").unwrap();
    let mut acks = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert_eq!(acks.next().unwrap().unwrap(), "w\t5");
    let ran = import(&place.log(), &place.join("in.jsonl"), &[]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{}", ran.err);
    assert!(run(&place.log(), &["streams", "--prefix", "w"]).yes().ends_with("  w\n"), "what was acknowledged can be read");
    drop(to);
    assert!(writer.wait().unwrap().success());
    assert_eq!(import(&place.log(), &place.join("in.jsonl"), &[]).json()["duplicates"], 4);
}

#[test]
fn nobody_reading_is_no_error() {
    let place = Place::new("pipe");
    let many: String = (1..20_000)
        .map(|k| format!("{{\"stream\":\"s{k}\",\"version\":1,\"type\":\"T\",\"id\":\"i{k}\",\"data\":{{\"set\":{{}}}}}}\n"))
        .collect();
    let mut child = command(&place.log(), &["import", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    feed(&mut child, many.as_bytes());
    assert!(child.wait().unwrap().success());
    for args in [&["export"][..], &["streams"], &["streams", "--json"], &["state", "--all"], &["tail", "-n", "20000"]] {
        let mut child = command(&place.log(), args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut from = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        assert!(from.read_line(&mut first).unwrap() > 0);
        drop(from);
        let rest = Ran::of(child.wait_with_output().unwrap());
        assert_eq!((rest.code, rest.err.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn streams_cat_and_tail_show_what_is_there() {
    let place = filled("show");
    let log = place.log();
    assert_eq!(run(&log, &["streams"]).yes(), "1  note\n2  order/1\n1  order/2\n");
    let orders = [json!({ "stream": "order/1", "version": 2 }), json!({ "stream": "order/2", "version": 1 })];
    assert_eq!(json_lines(&run(&log, &["streams", "--json", "--prefix", "order/"]).yes()), orders);
    assert_eq!(run(&log, &["streams", "--prefix", "none"]).yes(), "");

    let versions = |args: &[&str]| -> Vec<u64> {
        let all = [&["cat", "order/1", "--json"], args].concat();
        json_lines(&run(&log, &all).yes()).iter().map(|event| event["version"].as_u64().unwrap()).collect()
    };
    assert_eq!(versions(&[]), [1, 2]);
    assert_eq!(versions(&["--reverse"]), [2, 1]);
    assert_eq!(versions(&["--from", "2"]), [2]);
    assert_eq!(versions(&["--from", "1", "--reverse"]), [1]);
    assert_eq!(versions(&["--limit", "1"]), [1]);
    assert_eq!(versions(&["--limit", "1", "--reverse"]), [2]);
    assert_eq!(versions(&["--from", "3"]), [0; 0]);
    let unknown = run(&log, &["cat", "order/3"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""));
    let shown = run(&log, &["cat", "order/1"]).yes();
    assert_eq!(shown.lines().count(), 2);
    assert!(shown.contains("agent for user") && shown.contains("Cancelled") && !shown.contains('\u{1b}'), "{shown}");

    let positions: Vec<Value> =
        json_lines(&run(&log, &["tail", "-n", "2", "--json"]).yes()).iter().map(|event| event["position"].clone()).collect();
    assert_eq!(positions, [3, 4]);
    assert_eq!(run(&log, &["tail"]).yes().lines().count(), 4);
    assert_eq!(run(&log, &["tail", "-n", "0"]).yes(), "");
}

#[test]
fn info_tells_what_the_log_is_made_of() {
    let place = filled("info");
    let info = run(&place.log(), &["info", "--json"]).json();
    for key in ["segments", "events", "streams", "bytes", "bytes_per_event", "heads", "format_version", "write_path"] {
        assert!(!info[key].is_null(), "{key}");
    }
    assert_eq!((&info["events"], &info["streams"]), (&json!(4), &json!(3)));
    assert_eq!(info["bytes_per_event"].as_f64(), Some(info["bytes"].as_f64().unwrap() / 4.0));
    assert!(run(&place.log(), &["info"]).yes().lines().all(|line| line.is_ascii()));
}

#[test]
fn export_can_be_cut() {
    let place = filled("cut");
    let ids = |args: &[&str]| -> Vec<String> {
        let lines = json_lines(&run(&place.log(), &[&["export"], args].concat()).yes());
        lines.iter().map(|event| event["id"].as_str().unwrap()[35..].to_owned()).collect()
    };
    assert_eq!(ids(&[]), ["1", "2", "3", "4"]);
    assert_eq!(ids(&["--from", "2", "--to", "3"]), ["2", "3"]);
    assert_eq!(ids(&["--to", "0"]), [""; 0]);
    assert_eq!(ids(&["--from", "9"]), [""; 0]);
    assert_eq!(ids(&["--stream", "order/1"]), ["1", "3"]);
    assert_eq!(ids(&["--stream", "order/1", "--from", "2"]), ["3"]);
    assert_eq!(run(&place.log(), &["export", "--stream", "order"]).code, 1);
}

#[test]
fn state_as_of_any_point() {
    let place = filled("state");
    let state = |point: &str| run(&place.log(), &["state", "order/1", "--as-of", point]);
    let before = "{\"stream\":\"order/1\",\"version\":1,\"state\":{\"items\":[],\"total\":489.0}}\n";
    let after = "{\"stream\":\"order/1\",\"version\":2,\"state\":{\"status\":\"cancelled\",\"total\":489.0}}\n";
    let nothing = "{\"stream\":\"order/1\",\"version\":0,\"state\":null}\n";
    let id = |n: u32| format!("event:00000000-0000-4000-8000-00000000000{n}");
    for (point, expected) in [
        ("position:1", before),
        ("position:2", before),
        ("position:3", after),
        ("position:18446744073709551615", after),
        ("version:1", before),
        ("version:7", after),
        (&id(1), before),
        (&id(2), before),
        (&id(3), after),
        ("recorded:2999-01-01T00:00:00Z", after),
        ("occurred:2025-08-01T14:00:00Z", after),
        ("occurred:2025-08-01T16:00:00.0+02:00", after),
    ] {
        assert_eq!(state(point).yes(), expected, "{point}");
    }
    // By its own clock the second event came first: it alone is folded, and the version is still its own.
    assert_eq!(
        state("occurred:2025-08-01T13:59:30Z").yes(),
        "{\"stream\":\"order/1\",\"version\":2,\"state\":{\"status\":\"cancelled\"}}\n"
    );
    for point in ["position:0", "version:0", "recorded:1969-01-01T00:00:00Z", "occurred:2025-08-01T13:58:59.999999999Z"] {
        let ran = state(point);
        assert_eq!((ran.code, ran.out.as_str()), (1, nothing), "{point}");
    }
    let unknown = state("event:none");
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""));
    assert!(unknown.err.contains("no event:none"), "{}", unknown.err);
}

#[test]
fn states_of_all_streams() {
    let place = filled("states");
    let all = json_lines(&run(&place.log(), &["state", "--all", "--json"]).yes());
    assert_eq!(all.iter().map(|line| line["stream"].as_str().unwrap()).collect::<Vec<_>>(), ["note", "order/1", "order/2"]);
    assert_eq!(all[0]["state"], "x");
    let table = run(&place.log(), &["state", "--all", "--format", "tsv"]).yes();
    assert_eq!(table.lines().next().unwrap(), format!("note\t1\t{}", common::sha256("\"x\"")));
    assert_eq!(run(&place.log(), &["state", "--all", "--as-of", "position:0"]).yes(), "");
    let unknown = run(&place.log(), &["state", "nope", "--format", "tsv"]);
    assert_eq!((unknown.code, unknown.out), (1, format!("nope\t0\t{}\n", common::sha256("null"))));
}

/// The only segment of a small log.
fn segment(log: &Path) -> std::path::PathBuf {
    log.join("0000000001.seg")
}

#[test]
fn damage_is_found_and_named_both_ways() {
    let place = filled("damage");
    let copy = place.join("copy");
    copy_log(&place.log(), &copy);
    let mut bytes = fs::read(segment(&copy)).unwrap();
    let at = bytes.windows(9).position(|window| window == b"cancelled").unwrap();
    bytes[at] ^= 1;
    fs::write(segment(&copy), bytes).unwrap();
    for args in [&["verify", "--json"][..], &["verify", "--json", "--reader"]] {
        assert_eq!(run(&place.log(), args).json()["ok"], true);
        let ran = run(&copy, args);
        let found = ran.json();
        assert_eq!((ran.code, &found["ok"], &found["fault"]), (1, &json!(false), &json!("corrupt")), "{found}");
        assert_eq!((&found["segment"], &found["position"]), (&json!("0000000001.seg"), &json!(3)), "{found}");
        let offset = found["offset"].as_u64().unwrap() as usize;
        assert!(offset < at && at < offset + 1000, "{found}");
        assert!(found["why"].as_str().is_some_and(|why| !why.is_empty()));
    }
    let told = run(&copy, &["verify"]);
    assert!(told.code == 1 && told.out.starts_with("corrupt: "), "{}", told.out);
    assert_eq!(import(&copy, &place.join("in.jsonl"), &[]).code, 1, "a damaged log takes nothing");
}

#[test]
fn looking_writes_nothing() {
    let place = filled("looking");
    let snapshot = || {
        let mut files: Vec<_> = fs::read_dir(place.log()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap(), file)).collect::<Vec<_>>()
    };
    let before = snapshot();
    for args in
        [&["export"][..], &["state", "--all"], &["streams"], &["cat", "note"], &["tail"], &["info"], &["verify"], &["verify", "--reader"]]
    {
        run(&place.log(), args).yes();
    }
    assert_eq!(snapshot(), before);
}
