//! The rooms import only downward. Every `crate::room` in a source file names a room below its own, or one that belongs to all.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up; see `engine/ARCHITECTURE.md`.
const LADDER: [&str; 11] = ["disk", "segment", "index", "ring", "sequencer", "log", "query", "decision", "trust", "salvage", "backup"];
/// Belong to all: errors, conditions, the seam of concurrency.
const SHARED: [&str; 3] = ["error", "condition", "sync"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn level(room: &str) -> Option<usize> {
    LADDER.iter().position(|name| *name == room)
}

/// Rooms named behind `crate::` in code, comments aside.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

fn upward(room: &str, text: &str) -> Vec<String> {
    let own = level(room);
    let is_wrong = |named: &&str| match (own, level(named)) {
        (Some(own), Some(named)) => named > own,
        (None, Some(_)) => room != "lib" && !(room == "error" && *named == "disk"),
        (_, None) => !SHARED.contains(named) && !named.is_empty(),
    };
    imports(text).filter(is_wrong).map(|named| format!("{room} -> {named}")).collect()
}

#[test]
fn rooms_import_only_downward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let room = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let found = upward(&room, &fs::read_to_string(&file).unwrap());
        wrong.extend(found.into_iter().map(|arrow| format!("{}: {arrow}", relative.display())));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn an_upward_import_would_be_noticed() {
    assert_eq!(upward("ring", "use crate::sequencer::Core;"), ["ring -> sequencer"]);
    assert_eq!(upward("sequencer", "use crate::ring::Ring;\n// crate::log is above\nuse crate::error::X;"), Vec::<String>::new());
}

#[test]
fn only_the_named_rooms_hold_unsafe_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let holders = |sources_of: &str| -> Vec<String> {
        let root = root.join(sources_of);
        let mut files = Vec::new();
        sources(&root, &mut files);
        let holds = |file: &&PathBuf| {
            fs::read_to_string(file).unwrap().lines().any(|line| line.contains("unsafe {") || line.contains("unsafe impl"))
        };
        let mut holders: Vec<String> =
            files.iter().filter(holds).map(|file| file.strip_prefix(&root).unwrap().display().to_string()).collect();
        holders.sort();
        holders
    };
    assert_eq!(holders("src"), ["disk/portable.rs", "disk/touch.rs", "disk/uring.rs", "ring/buffer.rs", "segment/image.rs"]);
    assert_eq!(holders("../format-spec/src"), ["crc_chains.rs", "sha_pair.rs"]);
}
