//! RocksDB, whose write groups share syncs.

use std::sync::Mutex;

use rocksdb::{ColumnFamily, DB, Options, WriteBatch, WriteOptions};

use super::kv::Heads;
use crate::store::{Event, Failure, Level, Peer, Store};

pub const PEER: Peer = Peer {
    name: "rocksdb",
    version: "crate 0.20",
    has_streams: true,
    has_written: true,
    has_pipeline: false,
    has_group_commit: true,
    open: |directory, level| {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let database = DB::open_cf(&options, directory.join("rocks"), ["events", "versions"])?;
        Ok(Box::new(Rocks { database, heads: Mutex::default(), level }))
    },
};

struct Rocks {
    database: DB,
    heads: Mutex<Heads>,
    level: Level,
}

impl Rocks {
    fn family(&self, name: &str) -> Result<&ColumnFamily, Failure> {
        Ok(self.database.cf_handle(name).ok_or("no such column family")?)
    }
}

impl Store for Rocks {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        let (events_family, versions_family) = (self.family("events")?, self.family("versions")?);
        let mut batch = WriteBatch::default();
        {
            let mut heads = self.heads.lock().map_err(|_| "poisoned")?;
            for event in &events {
                let row = heads.row(event);
                batch.put_cf(events_family, row.position, &row.value);
                batch.put_cf(versions_family, row.stream_version, row.position);
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(self.level == Level::Durable);
        Ok(self.database.write_opt(batch, &options)?)
    }
}
