//! `bench`: what it prints and draws can be relied on, and nothing stays behind.

mod common;

use std::fs;

use common::{Place, Ran, command};
use serde_json::Value;

fn bench(place: &Place, args: &[&str]) -> Ran {
    let directory = place.join("");
    let all = [&["--json", "bench"], args, &["--dir", directory.to_str().unwrap()]].concat();
    Ran::of(command(&place.log(), &all).output().unwrap())
}

fn number(object: &Value, path: &str) -> f64 {
    object.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {path}: {object}"))
}

#[test]
fn every_kind_of_ingestion_is_measured_beside_its_baseline() {
    let place = Place::new("bench-ingest");
    let cases: &[&[&str]] = &[
        &["ingest", "--payload", "100"],
        &["ingest", "--threads", "3", "--zipf", "1.1"],
        &["ingest", "--in-flight", "64", "--write-path", "portable"],
        &["ingest", "--batch", "50", "--durability", "written", "--streams", "100k"],
    ];
    for args in cases {
        let ran = bench(&place, &[*args, &["--seconds", "0.2"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        let told: Value = serde_json::from_str(&ran.out).unwrap();
        for side in ["/engine", "/raw"] {
            for member in ["events", "events_per_second", "latency_us/p50", "latency_us/p99_9", "longest_append_us", "cpu_us_per_event"] {
                assert!(number(&told, &format!("{side}/{member}")) > 0.0, "{args:?}: {side}/{member}: {told}");
            }
        }
        let ratio = number(&told, "/engine/events_per_second") / number(&told, "/raw/events_per_second");
        assert!((number(&told, "/ratio/events_per_second") - ratio).abs() < 1e-6 * ratio);
        assert!(number(&told, "/engine/disk_bytes_per_event") > 100.0 && number(&told, "/engine/memory_peak_bytes") > 1e6);
        for member in ["write_path", "file_system", "kernel"] {
            assert!(told["host"][member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {told}");
        }
        assert_eq!(told["workload"]["threads"], if args.contains(&"--threads") { 3 } else { 1 });
        if args.contains(&"portable") {
            assert_eq!(told["host"]["write_path"], "portable");
        }
        let measured = told["timeline"]["engine"].as_array().map_or(0, Vec::len);
        assert!(measured >= 2, "a timeline of {measured}");
    }
    assert_eq!(fs::read_dir(place.join("")).unwrap().count(), 0, "something was left behind");
}

#[test]
fn reading_and_verifying_are_measured_on_a_store_of_the_size_asked_for() {
    let place = Place::new("bench-read");
    let picture = place.join("picture.svg");
    let picture_name = picture.to_str().unwrap();
    let args = ["--events", "3k", "--streams", "100", "--seconds", "0.3", "--svg", picture_name];
    for (subject, figures) in [
        ("read", &["/engine/events_per_second", "/engine/bytes_per_second", "/engine/latency_us/p50", "/raw/bytes_per_second"][..]),
        (
            "verify",
            &[
                "/engine/events_per_second",
                "/engine/cpu_us_per_event",
                "/raw/events_per_second",
                "/ratio/events_per_second",
                "/one_by_one/events_per_second",
                "/one_by_one/cpu_us_per_event",
                "/ratio/one_by_one",
            ][..],
        ),
    ] {
        let ran = bench(&place, &[&[subject], &args[..]].concat());
        assert_eq!(ran.code, 0, "{subject}: {}", ran.err);
        let told: Value = serde_json::from_str(&ran.out).unwrap();
        figures.iter().for_each(|path| assert!(number(&told, path) > 0.0));
        assert_eq!(told["workload"]["events"], 3000);
        if subject == "read" {
            assert_eq!(told["engine"]["stream_events"], 30.0);
        }
        let svg = fs::read_to_string(&picture).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("Chainring") && svg.trim_end().ends_with("</svg>"), "{svg}");
        fs::remove_file(&picture).unwrap();
    }
    assert_eq!(fs::read_dir(place.join("")).unwrap().count(), 0, "something was left behind");
}

#[test]
fn what_cannot_be_measured_is_refused_first() {
    let place = Place::new("bench-usage");
    for args in [
        &["ingest", "--threads", "0"][..],
        &["ingest", "--seconds", "0"],
        &["ingest", "--write-path", "magic"],
        &["ingest", "--batch", "1M", "--in-flight", "1M"],
        &["sing"],
    ] {
        assert_eq!(bench(&place, args).code, 2, "{args:?}");
    }
    let nowhere = bench(&place, &["ingest", "--seconds", "0.1", "--svg", "/nowhere/at/all.svg"]);
    assert!(nowhere.code == 3 && nowhere.err.contains("/nowhere/at/all.svg"), "{}", nowhere.err);
}
