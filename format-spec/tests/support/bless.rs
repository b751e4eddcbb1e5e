//! Golden files: compared byte for byte, rewritten only when `CHAINRING_BLESS=1` is set.
//!
//! A run without that variable never writes anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A path inside this package.
pub(crate) fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn blessing() -> bool {
    std::env::var_os("CHAINRING_BLESS").is_some_and(|value| value == "1")
}

/// Compares one file with what it should hold, or rewrites it.
pub(crate) fn golden_file(path: &str, expected: &[u8]) {
    let full = here(path);
    if blessing() {
        fs::create_dir_all(full.parent().expect("a file has a folder")).expect("folder of a golden file");
        fs::write(&full, expected).expect("golden file");
        return;
    }
    let found = fs::read(&full).unwrap_or_else(|error| panic!("{path}: {error}"));
    if let Some(at) = first_difference(&found, expected) {
        panic!("{path} differs at byte {at}; if the change is wanted, run the test once with CHAINRING_BLESS=1");
    }
}

/// Compares a whole folder (names relative to it) with what it should hold, or rewrites it. Files that should not be there count.
pub(crate) fn golden_folder(path: &str, expected: &BTreeMap<String, Vec<u8>>) {
    let full = here(path);
    if blessing() && full.exists() {
        fs::remove_dir_all(&full).expect("old golden files");
    }
    for (name, bytes) in expected {
        golden_file(&format!("{path}/{name}"), bytes);
    }
    let mut found = Vec::new();
    list(&full, "", &mut found);
    found.sort();
    let names: Vec<&String> = expected.keys().collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), names, "{path} holds other files than it should");
}

/// Place of the first differing byte; `None` if the two are equal.
pub(crate) fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).position(|(a, b)| a != b);
    common.or_else(|| (a.len() != b.len()).then(|| a.len().min(b.len())))
}

fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("golden folder") {
        let entry = entry.expect("golden folder entry");
        let name = format!("{prefix}{}", entry.file_name().to_str().expect("golden names are ASCII"));
        if entry.path().is_dir() {
            list(&entry.path(), &format!("{name}/"), names);
        } else {
            names.push(name);
        }
    }
}
