//! A writer that is killed at any moment: what was acknowledged is there, whole; the rest can be imported again.

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
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

/// Feeds the history into an import and kills it some time after so many acknowledgements; gives what was acknowledged until its end.
fn killed_import(log: &Path, source: &str, acks_until: usize, delay: Duration) -> Vec<(String, usize)> {
    let mut child =
        command(log, &["import", "-", "--ack"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut from = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::scope(|scope| {
        // It stops taking input when it dies.
        scope.spawn(move || source.as_bytes().chunks(1 << 16).try_for_each(|chunk| to.write_all(chunk)));
        let ack = |line: String| line.split_once('\t').map(|(batch, position)| (batch.to_owned(), position.parse().unwrap()));
        let mut acks: Vec<_> = from.by_ref().take(acks_until).map_while(|line| ack(line.unwrap())).collect();
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        acks.extend(from.map_while(|line| ack(line.unwrap())));
        acks
    })
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let place = Place::new("kill");
    let (source, ends) = history();
    let lines: Vec<&str> = source.lines().collect();
    let file = place.write("in.jsonl", &source);
    let mut cut_short = 0;
    for round in 0..10_u32 {
        let log = place.join(&format!("log-{round}"));
        run(&log, &["init", "--segment-bytes", if round % 2 == 0 { "256KiB" } else { "64MiB" }]).yes();
        let acks = killed_import(&log, &source, round as usize * 450, Duration::from_micros(u64::from(round) * 700));
        for (batch, position) in &acks {
            assert_eq!(ends[batch], *position, "the last event of batch {batch}");
        }
        let kept = run(&log, &["export"]).yes();
        let count = kept.lines().count();
        assert!(count >= acks.last().map_or(0, |(_, position)| *position), "an acknowledged batch is gone");
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
    assert!(cut_short >= 5, "only {cut_short} of 10 imports were killed half-way");
}
