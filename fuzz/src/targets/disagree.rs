//! The engine and the independent reader give the same verdict on any bytes: whether it holds, what is wrong, and where.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use chainring::OpenError;
use tempfile::TempDir;

use super::archive::Archive;
use super::{Target, mutate, store, store_seeds};

/// See the module.
pub const TARGET: Target = Target {
    name: "disagree",
    run,
    seeds: store_seeds,
    mutate: mutate::store,
    canary: "the engine finds nothing wrong with a body whose checksum differs (rule F3)",
};

thread_local! {
    /// The reader takes a directory: one for each thread, in memory where the system has such a place.
    static DIRECTORY: RefCell<TempDir> = RefCell::new(directory());
}

fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a temporary directory")
}

fn run(input: &[u8]) {
    let archive = Archive::decode(input);
    let engine = match store::verified(&archive) {
        Ok(report) => report,
        Err(OpenError::NotAStore { .. }) => return assert!(matches!(read(&archive), Err(chainring_reader::Error::NotAStore(_)))),
        Err(error) => panic!("files in memory can be read: {error}"),
    };
    let reader = read(&archive).expect("plain files can be read");
    assert_eq!(engine.is_ok(), reader.fault.is_none(), "engine: {:?}, reader: {:?}", engine.fault, reader.fault);
    let told = (engine.records, engine.verified_to.map(|position| position.0));
    assert_eq!(told, (reader.records, reader.verified_to), "engine: {:?}, reader: {:?}", engine.fault, reader.fault);
    let (Some(engine), Some(reader)) = (engine.fault, reader.fault) else { return };
    let position = engine.position.map(|position| position.0);
    let ours = (engine.kind.to_string(), &engine.segment, engine.offset, position);
    let theirs = (reader.kind.to_string(), &reader.segment, reader.offset, reader.position);
    assert_eq!(ours, theirs, "engine: {} ({}), reader: {} ({})", engine.why, engine.rule, reader.why, reader.rule);
}

/// What the independent reader says.
fn read(archive: &Archive) -> Result<chainring_reader::Report, chainring_reader::Error> {
    DIRECTORY.with_borrow(|directory| {
        let directory = directory.path();
        for entry in fs::read_dir(directory).expect("our own directory") {
            fs::remove_file(entry.expect("our own file").path()).expect("our own file");
        }
        for (name, content) in archive.named() {
            fs::write(directory.join(name), content).expect("writing a temporary file");
        }
        chainring_reader::verify(directory, &chainring_reader::Options { threads: 1, patience: Duration::ZERO })
    })
}
