//! A writer that is killed at any moment: what was acknowledged is there, whole; the rest can be imported again.

mod common;

use std::collections::HashMap;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use common::{Place, assert_same_lines, command, import, run};
use serde_json::{Value, json};

/// Batches of several sizes over many streams.
fn history() -> (String, HashMap<String, usize>) {
    let mut versions: HashMap<String, u64> = HashMap::new();
    let (mut text, mut ends, mut number) = (String::new(), HashMap::new(), 0);
    for batch in 0..6000 {
        let name = format!("00000000-0000-4000-9000-{batch:012}");
        for part in 0..1 + batch % 9 {
            number += 1;
            let stream = format!("stream-{}", (batch * 7 + part * 13) % 500);
            let version = versions.entry(stream.clone()).or_insert(0);
            *version += 1;
            let event = json!({
                "stream": stream, "version": *version, "type": "Happened", "id": format!("00000000-0000-4000-8000-{number:012}"),
                "time": "2026-01-01T00:00:00Z", "actor": "writer", "batch": name, "expected_version": *version - 1, "data": { "set": { "n": number } },
            });
            text += &format!("{event}\n");
        }
        ends.insert(name, number);
    }
    (text, ends)
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let place = Place::new("kill");
    let (source, ends) = history();
    let lines: Vec<&str> = source.lines().collect();
    let file = place.write("in.jsonl", &source);
    let mut cut_short = 0;
    for round in 0..12_u64 {
        let log = place.join(&format!("log-{round}"));
        run(&log, &["init", "--segment-bytes", if round % 2 == 0 { "256KiB" } else { "64MiB" }]).yes();
        let acks = place.join("acks");
        let args = ["import", file.to_str().unwrap(), "--ack", "--json"];
        let mut child = command(&log, &args).stdout(File::create(&acks).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 23));
        child.kill().unwrap();
        child.wait().unwrap();

        let acks = std::fs::read_to_string(&acks).unwrap();
        let whole_lines = acks.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains('\t'));
        let acked = whole_lines.map(|line| line.trim_end().split_once('\t').unwrap());
        let last = acked.inspect(|(batch, position)| assert_eq!(ends[*batch].to_string(), *position)).last();
        let kept = run(&log, &["export"]).yes();
        let count = kept.lines().count();
        assert!(count >= last.map_or(0, |(batch, _)| ends[batch]), "an acknowledged batch is gone");
        assert_same_lines(&kept, &lines[..count].join("\n"));
        assert!(count == 0 || ends.values().any(|end| *end == count), "a batch is there in part");
        cut_short += usize::from(count > 0 && count < lines.len());
        for args in [&["verify", "--json"][..], &["verify", "--json", "--reader"]] {
            let found: Value = run(&log, args).json();
            assert!(found["ok"] == true || found["fault"] == "torn", "{found}");
        }

        let again = import(&log, &file, &[]);
        assert_eq!((again.code, again.json()["duplicates"].as_u64()), (0, Some(count as u64)), "{}", again.err);
        assert_eq!(again.json()["events"].as_u64(), Some((lines.len() - count) as u64));
        assert_same_lines(&run(&log, &["export"]).yes(), &source);
        assert_eq!(run(&log, &["verify", "--json"]).json()["ok"], true);
    }
    eprintln!("{cut_short} of 12 imports were killed half-way");
}
