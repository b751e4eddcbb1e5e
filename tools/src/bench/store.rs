//! The store that is read or verified: filled first, outside of what is measured.

use std::path::PathBuf;

use chainring::{Durability, Event, Request};

use super::ingest::options;
use super::workload::{Shape, Source};
use super::{Ground, directory_bytes};
use crate::cli::Bench;
use crate::output::{Failure, progress};

/// Events of a batch where nothing else was said.
const BATCH_EVENTS: u64 = 1000;

/// A store full of events, closed.
pub(super) struct Filled {
    pub(super) directory: PathBuf,
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) write_path: &'static str,
}

/// Fills a store with the events of a workload.
pub(super) fn fill(args: &Bench, ground: &Ground) -> Result<Filled, Failure> {
    let shape = Shape::new(args, 1)?;
    let directory = ground.store();
    let log = options(args).open(&directory)?;
    let write_path = log.stats().write_path;
    let bar = progress("fill", args.events, false);
    let mut source = Source::new(&shape, 1);
    let mut events = 0;
    while events < args.events {
        ground.check_interrupted()?;
        let count = BATCH_EVENTS.min(args.events - events);
        let batch: Vec<Event> = (0..count).map(|_| source.event()).collect();
        log.append(Request::batch(batch).durability(Durability::Written))?;
        events += count;
        bar.set_position(events);
    }
    log.close()?;
    bar.finish_and_clear();
    let bytes = directory_bytes(&directory)?;
    Ok(Filled { directory, events, bytes, write_path })
}
