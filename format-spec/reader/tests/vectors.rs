//! The golden vectors of the format: every store in `vectors/valid` and `vectors/invalid` gives what its `expect.json` says.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chainring_reader::{Options, Report, verify};
use serde_json::Value;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(kind)
}

fn vectors(kind: &str) -> Vec<PathBuf> {
    let folder = folder(kind);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("the golden vectors are not there: {}: {error}", folder.display()));
    let mut vectors: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
    vectors.sort();
    assert!(!vectors.is_empty(), "no golden vectors in {}", folder.display());
    vectors
}

/// What differs between the report and the expectation; nothing if they agree.
fn differences(expected: &Value, report: &Report) -> Vec<String> {
    let fault = report.fault.as_ref();
    let found = [
        ("ok", Value::from(fault.is_none())),
        ("records", report.records.into()),
        ("events", report.events.into()),
        ("verified_to", report.verified_to.into()),
        ("fault", fault.map(|fault| fault.kind.to_string()).into()),
        ("rule", fault.map(|fault| fault.rule).into()),
        ("segment", fault.map(|fault| fault.segment.clone()).into()),
        ("offset", fault.map(|fault| fault.offset).into()),
        ("position", fault.and_then(|fault| fault.position).into()),
    ];
    let mut out = Vec::new();
    for (key, found) in found {
        match expected.get(key) {
            None => out.push(format!("expect.json lacks {key}")),
            Some(wanted) if *wanted != found => out.push(format!("{key}: expected {wanted}, found {found}")),
            Some(_) => {}
        }
    }
    if let (false, Some(fault)) = (out.is_empty(), fault) {
        out.push(format!("the reader says: {fault}"));
    }
    out
}

fn run(kind: &str, expect_ok: bool) {
    let mut failures = Vec::new();
    for vector in vectors(kind) {
        let name = vector.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(vector.join("expect.json")).unwrap_or_else(|error| panic!("{name}: expect.json: {error}"));
        let expected: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: expect.json: {error}"));
        if expect_ok && expected["ok"] != Value::Bool(true) {
            failures.push(format!("{name}: a valid vector must expect ok"));
        }
        for threads in [1, 2] {
            match verify(&vector.join("store"), &Options { threads, patience: Duration::ZERO }) {
                Ok(report) => failures.extend(differences(&expected, &report).into_iter().map(|line| format!("{name}: {line}"))),
                Err(error) => failures.push(format!("{name}: {error}")),
            }
        }
    }
    failures.dedup();
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn valid_vectors_hold() {
    run("valid", true);
}

#[test]
fn invalid_vectors_fail_as_expected() {
    run("invalid", false);
}
