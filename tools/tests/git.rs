//! A real history of a repository, expanded from its compact form: batches of thousands, stale writes, clocks that run backwards.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;

use common::{Place, assert_same_lines, histories, import, read_json, run, sha256, unpacked};
use serde_json::{Value, json};
use uuid::Uuid;

const REPOSITORY: &str = "vcpkg";

/// Expands compact commits, `[commit, parents, time, who, [[file, operation, blob, lag], ...]]`, into lines of the import form.
///
/// A file is its path where it comes first, and its number from 0 after that. Lag is how many versions the change was behind; null = nobody knows.
struct Expansion {
    namespace: Uuid,
    commits: Vec<String>,
    paths: Vec<String>,
    versions: Vec<u64>,
    lines: String,
}

impl Expansion {
    fn of(compact: &str) -> String {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"chainring/data");
        let mut expansion = Expansion { namespace, commits: vec![], paths: vec![], versions: vec![], lines: String::new() };
        for line in compact.lines() {
            expansion.commit(&serde_json::from_str(line).unwrap());
        }
        expansion.lines
    }

    fn id(&self, name: &str) -> String {
        Uuid::new_v5(&self.namespace, format!("{REPOSITORY}:{name}").as_bytes()).to_string()
    }

    fn commit(&mut self, commit: &Value) {
        let (name, who, files) = (commit[0].as_str().unwrap(), commit[3].as_str().unwrap(), commit[4].as_array().unwrap());
        let batch = self.id(name);
        let number = self.commits.len() as u64;
        let common = json!({
            "time": utc(commit[2].as_u64().unwrap()),
            "actor": format!("dev:{who}"),
            "correlation": format!("{REPOSITORY}/{name}"),
            "batch": batch,
        });
        let history = format!("{REPOSITORY}/history");
        let mut event = common.clone();
        event["data"] = json!({ "commit": name, "files": files.len() });
        let parents: Vec<u64> = commit[1].as_array().unwrap().iter().map(|back| back.as_u64().unwrap()).collect();
        if let Some(first) = parents.first() {
            event["causation"] = self.commits[(number - first) as usize].as_str().into();
            event["reads"] = parents.iter().map(|back| json!({ "stream": history, "version": number - back + 1 })).collect();
        }
        self.commits.push(batch.clone());
        self.put(event, &history, number + 1, "Committed", &batch);
        for (index, file) in files.iter().enumerate() {
            let mut event = common.clone();
            event["causation"] = batch.as_str().into();
            let id = self.id(&format!("{name}:{index}"));
            self.file(event, file, &id);
        }
    }

    fn file(&mut self, mut event: Value, file: &Value, id: &str) {
        let number = file[0].as_u64().map_or(self.paths.len(), |number| number as usize);
        if let Some(path) = file[0].as_str() {
            self.paths.push(path.to_owned());
            self.versions.push(0);
        }
        let head = self.versions[number];
        self.versions[number] += 1;
        let stream = format!("{REPOSITORY}/file/{}", self.paths[number]);
        if let Some(lag) = file[3].as_u64() {
            let expected = head - lag;
            event["expected_version"] = expected.into();
            event["reads"] = if expected > 0 { json!([{ "stream": stream, "version": expected }]) } else { json!([]) };
        }
        let operation = file[1].as_str().unwrap();
        event["data"] = json!({ "blob": if operation == "D" { &Value::Null } else { &file[2] } });
        let kind = match operation {
            "A" => "FileAdded",
            "M" => "FileModified",
            "D" => "FileDeleted",
            "T" => "FileTypeChanged",
            other => panic!("operation {other}"),
        };
        self.put(event, &stream, head + 1, kind, id);
    }

    fn put(&mut self, mut event: Value, stream: &str, version: u64, kind: &str, id: &str) {
        event["stream"] = stream.into();
        event["version"] = version.into();
        event["type"] = kind.into();
        event["id"] = id.into();
        writeln!(self.lines, "{event}").unwrap();
    }
}

/// Seconds since 1970 as text, counted forward year by year.
fn utc(seconds: u64) -> String {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}T{:02}:{:02}:{:02}Z", month + 1, day + 1, second / 3600, second / 60 % 60, second % 60)
}

/// The files as of a point: path to version and blob; and the version of the history itself.
fn files(place: &Place, point: &str) -> (BTreeMap<String, (u64, Option<String>)>, u64) {
    let (mut files, mut history) = (BTreeMap::new(), 0);
    for line in run(&place.log(), &["state", "--all", "--as-of", point]).yes().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let version = line["version"].as_u64().unwrap();
        match line["stream"].as_str().unwrap().strip_prefix(&format!("{REPOSITORY}/file/")) {
            Some(path) => {
                files.insert(path.to_owned(), (version, line["state"]["blob"].as_str().map(str::to_owned)));
            }
            None => history = version,
        }
    }
    (files, history)
}

fn assert_tree(place: &Place, point: &str, truth: &Value) {
    let (files, history) = files(place, point);
    assert_eq!(
        (files.len(), history),
        (truth["file_streams"].as_u64().unwrap() as usize, truth["history_version"].as_u64().unwrap()),
        "{point}"
    );
    let live = || files.iter().filter_map(|(path, (_, blob))| Some((path, blob.as_ref()?)));
    assert_eq!(live().count() as u64, truth["live_files"].as_u64().unwrap(), "{point}");
    let tree: String = live().map(|(path, blob)| format!("{path}\t{blob}\n")).collect();
    assert_eq!(sha256(tree), truth["tree_sha256"].as_str().unwrap(), "{point}");
    let line =
        |(path, (version, blob)): (&String, &(u64, Option<String>))| format!("{path}\t{version}\t{}\n", blob.as_deref().unwrap_or("-"));
    assert_eq!(sha256(files.iter().map(line).collect::<String>()), truth["versions_sha256"].as_str().unwrap(), "{point}");
}

#[test]
fn a_repository_lives_again() {
    let Some(folder) = histories("a_repository_lives_again") else { return };
    let place = Place::new("git");
    let truth = read_json(&folder.join(format!("git-{REPOSITORY}.truth.json")));
    let source = Expansion::of(&unpacked(&folder.join(format!("git-{REPOSITORY}.compact.jsonl.zst"))));
    let file = place.write("history.jsonl", &source);

    run(&place.log(), &["init", "--segment-bytes", "1MiB"]).yes();
    let imported = import(&place.log(), &file, &[]);
    assert_eq!(imported.code, 0, "{}", imported.err);
    let imported = imported.json();
    assert_eq!(
        (&imported["events"], &imported["batches"], &imported["stale"]),
        (&truth["events"], &truth["commits"], &truth["stale_writes"])
    );
    assert_same_lines(&run(&place.log(), &["export"]).yes(), &source);
    assert!(run(&place.log(), &["info", "--json"]).json()["segments"].as_u64().unwrap() > 20, "it rotated at the size it was made with");

    for cut in truth["as_of"].as_array().unwrap() {
        assert_tree(&place, &format!("position:{}", cut["after_seq"]), cut);
        if cut["time_is_a_cut"] == true {
            assert_tree(&place, &format!("occurred:{}", utc(cut["time"].as_u64().unwrap())), cut);
        }
    }
    for args in [&["verify", "--json"][..], &["verify", "--json", "--reader"]] {
        assert_eq!(run(&place.log(), args).json()["ok"], true, "{args:?}");
    }
}

#[test]
fn times_are_counted_right() {
    assert_eq!(utc(0), "1970-01-01T00:00:00Z");
    assert_eq!(utc(951_782_400 + 86_399), "2000-02-29T23:59:59Z");
    assert_eq!(utc(1_787_418_361), "2026-08-22T17:06:01Z");
}
