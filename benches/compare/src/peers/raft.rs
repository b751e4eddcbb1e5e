//! raft-engine: a log per stream, an index of every entry in memory.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, MessageExt};

use crate::store::{Event, Failure, Level, Peer, Store};

pub const PEER: Peer = Peer {
    name: "raft-engine",
    version: "0.4.2",
    has_streams: true,
    has_written: true,
    has_pipeline: false,
    has_group_commit: true,
    open: |directory, level| {
        let config = Config { dir: directory.join("engine").to_string_lossy().into_owned(), ..Config::default() };
        Ok(Box::new(Raft {
            engine: Engine::open(config)?,
            heads: Mutex::default(),
            threads: AtomicU64::new(0),
            is_synced: level == Level::Durable,
        }))
    },
};

struct Raft {
    engine: Engine,
    /// The caller keeps the index of a log's next entry.
    heads: Mutex<HashMap<u64, u64>>,
    threads: AtomicU64,
    is_synced: bool,
}

thread_local! {
    /// A number for each thread, below 64.
    static SLOT: OnceCell<u64> = const { OnceCell::new() };
}

/// An entry must be a Protobuf message; of those that come with the crate, this one has a number and bytes.
struct Entry;

impl MessageExt for Entry {
    type Entry = UninterpretedOption;

    fn index(entry: &UninterpretedOption) -> u64 {
        entry.get_positive_int_value()
    }
}

impl Store for Raft {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        // Entries of one log must be handed in one after the other, so each thread has logs of its own; one lock around everything would take away its
        // sharing of syncs.
        let slot = SLOT.with(|slot| *slot.get_or_init(|| self.threads.fetch_add(1, Ordering::Relaxed)));
        let mut batch = LogBatch::with_capacity(events.len());
        {
            let mut heads = self.heads.lock().map_err(|_| "poisoned")?;
            for event in events {
                let log = event.stream_number * 64 + slot + 1;
                let head = heads.entry(log).or_default();
                *head += 1;
                let mut entry = UninterpretedOption::new();
                entry.set_positive_int_value(*head);
                entry.set_string_value(event.body);
                batch.add_entries::<Entry>(log, &[entry])?;
            }
        }
        self.engine.write(&mut batch, self.is_synced)?;
        Ok(())
    }
}
