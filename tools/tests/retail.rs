//! Two real histories of agents at work: in, out unchanged, and every state their truth files tell of.

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};

use common::{Place, assert_same_lines, fields, histories, import, read_json, run, sha256, unpacked};
use serde_json::Value;
use serde_json::value::RawValue;

/// Digest over the states of all entities, as the truth files define it.
fn digest_all(place: &Place, point: &str) -> String {
    let table = run(&place.log(), &["state", "--all", "--format", "tsv", "--as-of", point]).yes();
    let is_entity = |line: &&str| !line.starts_with("run-") && !line.starts_with("policy-");
    let lines: Vec<&str> = table.lines().filter(is_entity).collect();
    assert!(lines.is_sorted(), "streams come in byte order");
    sha256(lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

fn state(place: &Place, stream: &str, point: &str) -> Value {
    serde_json::from_str(&run(&place.log(), &["state", stream, "--as-of", point]).yes()).unwrap()
}

fn lives_again(name: &str) {
    let Some(folder) = histories(name) else { return };
    let place = Place::new(name);
    let packed = folder.join(format!("{name}.jsonl.zst"));
    let truth = read_json(&folder.join(format!("{name}.truth.json")));
    let source = unpacked(&packed);

    let imported = import(&place.log(), &packed, &[]).json();
    for (key, expected) in [("events", &truth["events"]), ("streams", &truth["streams"]), ("batches", &truth["batches"])] {
        assert_eq!(&imported[key], expected, "{key}");
    }
    assert_eq!(imported["stale"], truth["stale_writes"].as_array().unwrap().len());
    assert_same_lines(&run(&place.log(), &["export"]).yes(), &source);

    // The engine's first record has position 0, so position and line number agree.
    let ids: Vec<String> = source.lines().map(|line| fields(line)["id"].trim_matches('"').to_owned()).collect();
    for cut in truth["as_of"].as_array().unwrap() {
        let (count, time) = (cut["events_up_to"].as_u64().unwrap(), cut["time"].as_str().unwrap());
        for point in [format!("position:{count}"), format!("event:{}", ids[count as usize - 1]), format!("occurred:{time}")] {
            assert_eq!(digest_all(&place, &point), cut["digest_all"].as_str().unwrap(), "{point}");
        }
        for (stream, full) in cut["full_states"].as_object().unwrap() {
            assert_eq!(&state(&place, stream, &format!("occurred:{time}"))["state"], full, "{stream}");
        }
    }
    assert_eq!(digest_all(&place, "position:99999999"), truth["final"]["digest_all"].as_str().unwrap());
    for probe in truth["probes"].as_array().unwrap() {
        assert_probe(&place, probe);
    }

    let again = import(&place.log(), &packed, &[]);
    assert_eq!((again.code, &again.json()["events"], &again.json()["duplicates"]), (0, &0.into(), &truth["events"]));
    for args in [&["verify", "--json"][..], &["verify", "--json", "--reader"]] {
        let verified = run(&place.log(), args).json();
        assert_eq!((&verified["ok"], &verified["events"]), (&true.into(), &truth["events"]), "{args:?}");
    }
}

/// A write and the states around it.
fn assert_probe(place: &Place, probe: &Value) {
    let (stream, id) = (probe["stream"].as_str().unwrap(), probe["id"].as_str().unwrap());
    let tsv = |point: String| run(&place.log(), &["state", stream, "--format", "tsv", "--as-of", &point]).yes();
    let after = tsv(format!("event:{id}"));
    let columns: Vec<&str> = after.trim_end().split('\t').collect();
    assert_eq!(columns[2], probe["state_after_sha256"].as_str().unwrap(), "{stream} after {id}");
    let before = tsv(format!("version:{}", columns[1].parse::<u64>().unwrap() - 1));
    assert_eq!(before.trim_end().rsplit('\t').next(), probe["state_before_sha256"].as_str(), "{stream} before {id}");
}

/// What a gate keeps, worked out by hand: lines of whole batches whose expected versions are the heads at their turn, and, if the gate is full, whose reads
/// are, and whose authority is the newest of its stream.
fn kept_by_a_gate(source: &str, is_full: bool) -> (Vec<String>, u64) {
    let (mut heads, mut kept, mut refused): (HashMap<String, u64>, _, _) = (HashMap::new(), Vec::new(), 0);
    let mut places: HashMap<String, (String, u64)> = HashMap::new();
    let lines: Vec<(Value, &str)> = source.lines().map(|line| (serde_json::from_str(line).unwrap(), line)).collect();
    for run in lines.chunk_by(|(a, _), (b, _)| a["batch"].is_string() && a["batch"] == b["batch"]) {
        let mut ahead = heads.clone();
        let mut versions = Vec::new();
        let fits = run.iter().all(|(event, _)| {
            let head = ahead.entry(event["stream"].as_str().unwrap().to_owned()).or_insert(0);
            *head += 1;
            versions.push(*head);
            let expected = event["expected_version"].as_u64().filter(|_| !is_full || event["batch"].is_string());
            expected.is_none_or(|expected| expected + 1 == *head)
        });
        let at = |stream: &Value| heads.get(stream.as_str().unwrap()).copied().unwrap_or(0);
        let fits = fits
            && (!is_full
                || run.iter().filter(|(event, _)| event["batch"].is_string()).all(|(event, _)| {
                    let is_fresh = event["reads"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .all(|read| at(&read["stream"]) == read["version"].as_u64().unwrap());
                    let place = event["authority"]["event"].as_str().map(|id| places.get(id));
                    is_fresh && place.is_none_or(|place| place.is_some_and(|(stream, version)| heads[stream] == *version))
                }));
        if fits {
            heads = ahead;
            for ((event, _), version) in run.iter().zip(&versions) {
                places.insert(event["id"].as_str().unwrap().to_owned(), (event["stream"].as_str().unwrap().to_owned(), *version));
            }
            kept.extend(run.iter().zip(versions).map(|((_, line), version)| {
                // As text: nothing but the version may change, not even the last digit of a price.
                let mut event: BTreeMap<&str, Box<RawValue>> = serde_json::from_str(line).unwrap();
                event.insert("version", RawValue::from_string(version.to_string()).unwrap());
                serde_json::to_string(&event).unwrap()
            }));
        } else {
            refused += run.len() as u64;
        }
    }
    (kept, refused)
}

fn passes_a_gate(name: &str, gate: &str) {
    let Some(folder) = histories(name) else { return };
    let place = Place::new(&format!("gate-{gate}-{name}"));
    let packed = folder.join(format!("{name}.jsonl.zst"));
    let (kept, refused) = kept_by_a_gate(&unpacked(&packed), gate == "full");
    let imported = import(&place.log(), &packed, &["--gate", gate]);
    assert_eq!(imported.code, 1, "something was refused");
    assert_eq!((&imported.json()["events"], &imported.json()["refused"]), (&kept.len().into(), &refused.into()));
    assert_same_lines(&run(&place.log(), &["export"]).yes(), &kept.join("\n"));

    let again = import(&place.log(), &packed, &["--gate", gate]).json();
    assert_eq!((&again["duplicates"], &again["refused"]), (&kept.len().into(), &refused.into()));
}

#[test]
fn retail_runs_live_again() {
    lives_again("retail-runs");
}

#[test]
fn retail_shared_lives_again() {
    lives_again("retail-shared");
}

#[test]
fn a_gate_keeps_what_the_rule_keeps() {
    for gate in ["expected", "full"] {
        passes_a_gate("retail-runs", gate);
        passes_a_gate("retail-shared", gate);
    }
}

#[test]
fn reads_name_the_states_that_come_out() {
    let Some(folder) = histories("reads_name_the_states_that_come_out") else { return };
    let place = Place::new("reads");
    import(&place.log(), &folder.join("retail-shared.jsonl.zst"), &[]);
    let source = unpacked(&folder.join("retail-shared.jsonl.zst"));
    let mut seen = HashSet::new();
    for line in source.lines().rev() {
        let event: Value = serde_json::from_str(line).unwrap();
        for read in event["reads"].as_array().into_iter().flatten().filter(|read| read["state"].is_string()) {
            if seen.len() < 40 && seen.insert(read.to_string()) {
                let (stream, point) = (read["stream"].as_str().unwrap(), format!("version:{}", read["version"]));
                let line = run(&place.log(), &["state", stream, "--format", "tsv", "--as-of", &point]).yes();
                let expected = format!("{stream}\t{}\t{}", read["version"], read["state"].as_str().unwrap());
                assert!(line.starts_with(&expected), "{line} {expected}");
            }
        }
    }
    assert_eq!(seen.len(), 40);
}
