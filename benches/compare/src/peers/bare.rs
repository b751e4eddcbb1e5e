//! Logs of records: no streams, no index.

use std::path::Path;
use std::sync::Mutex;

use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};
use open_wal::{Wal, WalConfig};

use crate::group::Grouped;
use crate::store::{Event, Failure, Peer, Store};

fn record(event: &Event) -> Vec<u8> {
    [event.stream.as_bytes(), &event.body].concat()
}

pub const OKAYWAL: Peer = Peer {
    name: "okaywal",
    version: "0.3.1",
    has_streams: false,
    has_written: false,
    has_pipeline: false,
    has_group_commit: true,
    open: |directory, _| Ok(Box::new(Okay { log: open_okaywal(directory)? })),
};

/// Its checkpoint throws the log away, which is no use for a history: nothing is checkpointed here. Zeros are written ahead at open; they are brought to
/// the device before anything is measured.
fn open_okaywal(directory: &Path) -> Result<WriteAheadLog, Failure> {
    let configuration = Configuration::default_for(directory).preallocate_bytes(64 << 20).checkpoint_after_bytes(u64::MAX);
    let log = configuration.open(Keep)?;
    rustix::fs::sync();
    Ok(log)
}

#[derive(Debug)]
struct Keep;

impl LogManager for Keep {
    fn recover(&mut self, _: &mut Entry<'_>) -> std::io::Result<()> {
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> std::io::Result<()> {
        Ok(())
    }
}

struct Okay {
    log: WriteAheadLog,
}

impl Store for Okay {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        let mut entry = self.log.begin_entry()?;
        for event in &events {
            entry.write_chunk(&record(event))?;
        }
        entry.commit()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.log.shutdown()?)
    }
}

pub const OPEN_WAL: Peer = Peer {
    name: "open-wal",
    version: "0.2.1",
    has_streams: false,
    has_written: false,
    has_pipeline: false,
    has_group_commit: false,
    open: |directory, _| {
        let (wal, _) = Wal::open(directory, WalConfig::default())?;
        Ok(Box::new(Grouped::new(Open { wal: Mutex::new(wal) })))
    },
};

struct Open {
    wal: Mutex<Wal>,
}

impl Store for Open {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        let mut wal = self.wal.lock().map_err(|_| "poisoned")?;
        for event in &events {
            wal.append(&record(event))?;
        }
        wal.commit()?;
        Ok(())
    }
}
