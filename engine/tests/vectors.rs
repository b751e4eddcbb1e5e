//! The engine gives every golden store the verdict that its `expect.json` states; the independent reader runs the same ones.

use std::fs;
use std::path::{Path, PathBuf};

use chainring::{Log, OpenError, Store, VerifyOptions, verify};
use serde_json::Value;

fn vectors(kind: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/vectors").join(kind);
    let mut found: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn expected(vector: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(vector.join("expect.json")).unwrap()).unwrap()
}

/// The verdict in the words of `expect.json`.
fn verdict(store: &Path) -> Value {
    match verify(store, &VerifyOptions::default()) {
        Ok(report) => {
            let fault = report.fault.as_ref();
            serde_json::json!({
                "ok": report.is_ok(),
                "records": report.records,
                "events": report.events,
                "verified_to": report.verified_to.map(|position| position.0),
                "fault": fault.map(|fault| fault.kind.to_string()),
                "rule": fault.map(|fault| fault.rule),
                "segment": fault.map(|fault| fault.segment.clone()),
                "offset": fault.map(|fault| fault.offset),
                "position": fault.and_then(|fault| fault.position).map(|position| position.0),
            })
        }
        Err(error) => serde_json::json!({ "error": error.to_string() }),
    }
}

#[test]
fn every_vector_gets_its_verdict() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for vector in vectors("valid").into_iter().chain(vectors("invalid")) {
        let mut expected = expected(&vector);
        expected.as_object_mut().unwrap().remove("why");
        let found = verdict(&vector.join("store"));
        count += 1;
        if found != expected {
            wrong.push(format!("{}\n  expected {expected}\n  found    {found}", vector.file_name().unwrap().display()));
        }
    }
    assert!(count > 100, "{count} vectors");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn valid_stores_open_for_reading_and_writing_and_damaged_ones_are_left_alone() {
    for vector in vectors("valid") {
        let store = Store::open(vector.join("store")).unwrap_or_else(|error| panic!("{}: {error}", vector.display()));
        assert_eq!(store.stats().records, expected(&vector)["records"].as_u64().unwrap(), "{}", vector.display());
        let copy = tempfile::tempdir().unwrap();
        copy_store(&vector.join("store"), copy.path());
        match Log::open(copy.path()) {
            Ok(log) => {
                log.append(chainring::Event::new("after", "Appended")).unwrap();
                log.reindex().unwrap();
                log.close().unwrap();
            }
            // A store that a newer version wrote may be read and not be written.
            Err(OpenError::Unsupported { .. }) => continue,
            Err(error) => panic!("{}: {error}", vector.display()),
        }
        let report = verify(copy.path(), &VerifyOptions::default()).unwrap();
        assert_eq!(report.fault, None, "{}", vector.display());
        // Now that there is an index, of what is in it only the first record is read.
        let again = Log::open(copy.path()).unwrap_or_else(|error| panic!("{}: {error}", vector.display()));
        assert_eq!((again.stats().records, again.origin()), (report.records, store.origin()), "{}", vector.display());
    }
    for vector in vectors("invalid") {
        let copy = tempfile::tempdir().unwrap();
        copy_store(&vector.join("store"), copy.path());
        let before = content(copy.path());
        // What only hashes can tell may be opened; what is refused must be left as it was.
        if let Err(OpenError::Damaged(_) | OpenError::Unsupported { .. }) = Log::open(copy.path()) {
            assert_eq!(content(copy.path()), before, "{}", vector.display());
        }
    }
}

fn copy_store(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn content(store: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}
