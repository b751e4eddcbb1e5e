//! Key-value stores and SQLite, used as event stores.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use fjall::{Keyspace, KeyspaceCreateOptions, PersistMode};
use heed::types::Bytes;
use heed::{CommitOrAbort, EnvFlags, EnvOpenOptions};
use redb::TableDefinition;
use rusqlite::Connection;

use crate::group::Grouped;
use crate::store::{Event, Failure, Level, Peer, Store};

/// Positions and versions, counted by the caller.
#[derive(Default)]
pub struct Heads {
    position: u64,
    versions: HashMap<u64, u64>,
}

/// One event as a key-value store takes it.
pub struct Row {
    /// Big-endian, so that keys sort.
    pub position: [u8; 8],
    pub stream_version: [u8; 16],
    /// Stream and body.
    pub value: Vec<u8>,
}

impl Heads {
    pub fn row(&mut self, event: &Event) -> Row {
        let version = self.versions.entry(event.stream_number).or_default();
        let mut stream_version = [0; 16];
        stream_version[..8].copy_from_slice(&event.stream_number.to_be_bytes());
        stream_version[8..].copy_from_slice(&version.to_be_bytes());
        *version += 1;
        let position = self.position.to_be_bytes();
        self.position += 1;
        Row { position, stream_version, value: [event.stream.as_bytes(), &event.body].concat() }
    }
}

pub const SQLITE: Peer = Peer {
    name: "sqlite",
    version: "rusqlite 0.42",
    has_streams: true,
    has_written: true,
    has_pipeline: false,
    has_group_commit: false,
    open: Sqlite::open,
};

struct Sqlite {
    state: Mutex<(Connection, Heads)>,
}

impl Sqlite {
    fn open(directory: &Path, level: Level) -> Result<Box<dyn Store>, Failure> {
        let connection = Connection::open(directory.join("events.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", if level == Level::Durable { "FULL" } else { "OFF" })?;
        connection.execute_batch(
            "CREATE TABLE events (position INTEGER PRIMARY KEY, stream INTEGER NOT NULL, version INTEGER NOT NULL, event BLOB NOT NULL);
             CREATE UNIQUE INDEX versions ON events (stream, version);",
        )?;
        Ok(Box::new(Grouped::new(Sqlite { state: Mutex::new((connection, Heads::default())) })))
    }
}

impl Store for Sqlite {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        let (connection, heads) = &mut *self.state.lock().map_err(|_| "poisoned")?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?;
            for event in &events {
                let row = heads.row(event);
                let version = i64::from_be_bytes(row.stream_version[8..].try_into()?);
                insert.execute((i64::from_be_bytes(row.position), event.stream_number as i64, version, &row.value))?;
            }
        }
        Ok(transaction.commit()?)
    }
}

pub const REDB: Peer = Peer {
    name: "redb",
    version: "4.6",
    has_streams: true,
    has_written: true,
    has_pipeline: false,
    has_group_commit: false,
    open: |directory, level| {
        let database = redb::Database::create(directory.join("events.redb"))?;
        Ok(Box::new(Grouped::new(Redb { database, heads: Mutex::default(), level })))
    },
};

struct Redb {
    database: redb::Database,
    heads: Mutex<Heads>,
    level: Level,
}

const EVENTS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("events");
const VERSIONS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("versions");

impl Store for Redb {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        let mut heads = self.heads.lock().map_err(|_| "poisoned")?;
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(if self.level == Level::Durable { redb::Durability::Immediate } else { redb::Durability::None })?;
        {
            let (mut table, mut versions) = (transaction.open_table(EVENTS)?, transaction.open_table(VERSIONS)?);
            for event in &events {
                let row = heads.row(event);
                table.insert(row.position.as_slice(), row.value.as_slice())?;
                versions.insert(row.stream_version.as_slice(), row.position.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }
}

pub const FJALL: Peer = Peer {
    name: "fjall",
    version: "3.1.13",
    has_streams: true,
    has_written: true,
    has_pipeline: false,
    has_group_commit: false,
    open: |directory, level| {
        let database = fjall::Database::builder(directory.join("fjall")).open()?;
        let events = database.keyspace("events", KeyspaceCreateOptions::default)?;
        let versions = database.keyspace("versions", KeyspaceCreateOptions::default)?;
        Ok(Box::new(Grouped::new(Fjall { database, events, versions, heads: Mutex::default(), level })))
    },
};

struct Fjall {
    database: fjall::Database,
    events: Keyspace,
    versions: Keyspace,
    heads: Mutex<Heads>,
    level: Level,
}

impl Store for Fjall {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        let mut heads = self.heads.lock().map_err(|_| "poisoned")?;
        let mode = if self.level == Level::Durable { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for event in &events {
            let row = heads.row(event);
            batch.insert(&self.events, row.position, row.value);
            batch.insert(&self.versions, row.stream_version, row.position);
        }
        Ok(batch.commit()?)
    }
}

pub const HEED: Peer = Peer {
    name: "lmdb (heed)",
    version: "0.23.1",
    has_streams: true,
    has_written: true,
    has_pipeline: false,
    has_group_commit: false,
    open: Heed::open,
};

struct Heed {
    env: heed::Env,
    events: heed::Database<'static, Bytes, Bytes>,
    versions: heed::Database<'static, Bytes, Bytes>,
    heads: Mutex<Heads>,
}

impl Heed {
    fn open(directory: &Path, level: Level) -> Result<Box<dyn Store>, Failure> {
        let mut options = EnvOpenOptions::new();
        options.map_size(64 << 30).max_dbs(2);
        if level == Level::Written {
            // SAFETY: the machine does not lose power while this is measured, and nothing is kept.
            unsafe { options.flags(EnvFlags::NO_SYNC) };
        }
        // SAFETY: a new directory that nobody else opens.
        let env = unsafe { options.open(directory)? };
        let transaction = env.write_txn()?;
        let created = env.create_databases_and_commit(transaction, |databases, transaction| -> heed::Result<CommitOrAbort<_, ()>> {
            let events = databases.create_database(transaction, Some("events"))?;
            Ok(CommitOrAbort::Commit((events, databases.create_database(transaction, Some("versions"))?)))
        })?;
        let (events, versions) = created.unwrap_commit();
        Ok(Box::new(Grouped::new(Heed { env, events, versions, heads: Mutex::default() })))
    }
}

impl Store for Heed {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        let mut heads = self.heads.lock().map_err(|_| "poisoned")?;
        let mut transaction = self.env.write_txn()?;
        for event in &events {
            let row = heads.row(event);
            self.events.put_with_flags(&mut transaction, heed::PutFlags::APPEND, &row.position, &row.value)?;
            self.versions.put(&mut transaction, &row.stream_version, &row.position)?;
        }
        Ok(transaction.commit()?)
    }
}
