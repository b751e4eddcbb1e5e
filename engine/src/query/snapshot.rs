//! States of streams, kept so that they need not be folded again.
//!
//! Apart from the log: a directory of their own, or memory. One file for every fold and version of it; states are appended, each with a checksum and with the
//! link of the event it was folded to, so that one of a stream that was rewritten is never used. Everything here can be deleted: it costs time.
//! One process keeps snapshots in a directory; others read what it has kept. Absent on purpose: what a state is.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use chainring_format::checksum::{crc, crc_append};
use chainring_format::{Link, Position, StreamId, Version};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::event::EventRef;
use super::fold::Fold;
use crate::disk::{Access, DirectoryLock, Disk, DiskFile, PortableDisk};
use crate::error::OpenError;
use crate::sync::Arc;
use crate::sync::model::{Mutex, lock};

/// Events between two snapshots of a stream.
const EVERY: u64 = 16;
/// A state longer than this is not kept.
const STATE_BYTES_MAX: usize = 16 << 20;
const MAGIC: u32 = 0xF150_4E53;
const HEADER_BYTES: usize = size_of::<Header>();

/// What stands before a state.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: U32,
    state_bytes: U32,
    /// Over the header behind this field, and the state.
    crc: U32,
    reserved: U32,
    stream: [u8; 16],
    version: U64,
    position: U64,
    link: [u8; 32],
}

impl Header {
    fn sum(&self, state: &[u8]) -> u32 {
        crc_append(crc(&self.as_bytes()[12..]), state)
    }
}

/// A snapshot.
#[derive(Debug)]
pub(super) struct Found {
    pub stream: StreamId,
    pub version: Version,
    pub position: Position,
    pub link: Link,
    pub state: Vec<u8>,
}

/// Where snapshots are kept.
#[derive(Debug)]
pub struct Snapshots {
    place: Place,
    every: u64,
    kept: Mutex<HashMap<(&'static str, u32), Arc<Kept>>>,
}

#[derive(Debug)]
enum Place {
    Nowhere,
    Memory,
    Directory {
        disk: PortableDisk,
        /// Held if this process may write.
        lock: Option<Box<dyn DirectoryLock>>,
    },
}

impl Snapshots {
    fn new(place: Place) -> Snapshots {
        Snapshots { place, every: EVERY, kept: Mutex::default() }
    }

    /// None at all: everything is folded, every time.
    #[must_use]
    pub fn none() -> Snapshots {
        Snapshots::new(Place::Nowhere)
    }

    /// Kept in memory as long as this lives.
    #[must_use]
    pub fn in_memory() -> Snapshots {
        Snapshots::new(Place::Memory)
    }

    /// Kept in a directory, which is made if it is not there. Where another process keeps snapshots at this moment, they are read and none are added.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Snapshots, OpenError> {
        let directory = directory.as_ref();
        let disk = PortableDisk::new(directory);
        disk.create_directory().map_err(OpenError::io(format!("creating {}", directory.display())))?;
        let lock = disk.lock().ok();
        Ok(Snapshots::new(Place::Directory { disk, lock }))
    }

    /// Events between two snapshots of a stream, 16 if not said. Fewer take room, more take time.
    #[must_use]
    pub fn every_events(mut self, every: u64) -> Snapshots {
        self.every = every.max(1);
        self
    }

    pub(super) fn every(&self) -> u64 {
        self.every
    }

    /// Those of a fold; `None` where none are kept.
    pub(super) fn of<F: Fold>(&self) -> Option<Arc<Kept>> {
        if matches!(self.place, Place::Nowhere) {
            return None;
        }
        let mut all = lock(&self.kept);
        let kept = all.entry((F::ID, F::VERSION)).or_insert_with(|| {
            Arc::new(match &self.place {
                Place::Directory { disk, lock } => Kept::load(disk, &file_name(F::ID, F::VERSION), lock.is_some()),
                Place::Memory | Place::Nowhere => Kept::new(Store::Memory(Vec::new())),
            })
        });
        Some(Arc::clone(kept))
    }
}

/// Neither letters nor lengths of a fold's name matter to the file system.
fn file_name(id: &str, version: u32) -> String {
    let hash = blake3::Hasher::new().update(&version.to_le_bytes()).update(id.as_bytes()).finalize();
    format!("{}.snap", &hash.to_hex()[..32])
}

/// Snapshots of one fold.
#[derive(Debug)]
pub(super) struct Kept(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    /// Versions and places of a stream's snapshots, by version.
    streams: HashMap<StreamId, Vec<(u64, u64)>>,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<u8>),
    /// Up to where it holds snapshots; whether more may be added.
    File {
        file: Arc<dyn DiskFile>,
        end: u64,
        writes: bool,
    },
    /// Nothing can be kept.
    None,
}

impl Store {
    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Store::Memory(memory) => {
                let from = memory.get(at as usize..).and_then(|rest| rest.get(..bytes.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
                bytes.copy_from_slice(from);
                Ok(())
            }
            Store::File { file, .. } => file.read_exact_at(bytes, at),
            Store::None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Option<u64> {
        match self {
            Store::Memory(memory) => {
                memory.extend_from_slice(bytes);
                Some((memory.len() - bytes.len()) as u64)
            }
            Store::File { file, end, writes: true } => {
                let at = *end;
                file.write_all_at(bytes, at).ok()?;
                *end += bytes.len() as u64;
                Some(at)
            }
            Store::File { .. } | Store::None => None,
        }
    }
}

impl Kept {
    fn new(store: Store) -> Kept {
        Kept(Mutex::new(Inner { store, streams: HashMap::new() }))
    }

    /// Reads where snapshots are. Behind the first that does not hold nothing is believed; it is written over.
    fn load(disk: &PortableDisk, name: &str, writes: bool) -> Kept {
        let access = if writes { Access::Write } else { Access::Read };
        let opened = match disk.open(name, access) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && writes => disk.create(name),
            opened => opened,
        };
        let Ok(file) = opened else { return Kept::new(Store::None) };
        let mut inner = Inner { store: Store::File { file: Arc::clone(&file), end: 0, writes }, streams: HashMap::new() };
        let (bytes, mut at) = (file.bytes().unwrap_or(0), 0);
        let mut header = [0; HEADER_BYTES];
        while at + HEADER_BYTES as u64 <= bytes && file.read_exact_at(&mut header, at).is_ok() {
            let (header, _) = Header::read_from_prefix(&header).expect("as long as a header");
            let end = at + HEADER_BYTES as u64 + u64::from(header.state_bytes.get());
            if header.magic.get() != MAGIC || end > bytes {
                break;
            }
            inner.note(StreamId(header.stream), header.version.get(), at);
            at = end;
        }
        if let Store::File { end, .. } = &mut inner.store {
            *end = at;
        }
        Kept(Mutex::new(inner))
    }

    /// The newest snapshot of a stream up to a version.
    pub(super) fn newest(&self, stream: StreamId, at_most: Version) -> Option<Found> {
        let mut at_most = at_most.0;
        let inner = lock(&self.0);
        let places = inner.streams.get(&stream)?;
        loop {
            let (version, at) = *places[..places.partition_point(|(version, _)| *version <= at_most)].last()?;
            match inner.read(at) {
                Some(found) if (found.stream, found.version.0) == (stream, version) => return Some(found),
                _ => at_most = version.checked_sub(1)?,
            }
        }
    }

    /// Forgets a snapshot that is of no use, so that another one can take its place.
    pub(super) fn forget(&self, stream: StreamId, version: Version) {
        if let Some(places) = lock(&self.0).streams.get_mut(&stream) {
            places.retain(|(known, _)| *known != version.0);
        }
    }

    /// Keeps the state behind an event, if there is none. What cannot be written is not kept.
    pub(super) fn save(&self, event: &EventRef<'_>, state: &[u8]) {
        let (stream, version) = (event.stream_id(), event.version().0);
        let mut inner = lock(&self.0);
        let is_known =
            inner.streams.get(&stream).is_some_and(|places| places.binary_search_by_key(&version, |(version, _)| *version).is_ok());
        if is_known || state.len() > STATE_BYTES_MAX {
            return;
        }
        let mut header = Header {
            magic: MAGIC.into(),
            state_bytes: (state.len() as u32).into(),
            crc: 0.into(),
            reserved: 0.into(),
            stream: stream.0,
            version: version.into(),
            position: event.position().0.into(),
            link: event.link().0,
        };
        header.crc = header.sum(state).into();
        if let Some(at) = inner.store.append(&[header.as_bytes(), state].concat()) {
            inner.note(stream, version, at);
        }
    }
}

impl Inner {
    fn note(&mut self, stream: StreamId, version: u64, at: u64) {
        let places = self.streams.entry(stream).or_default();
        match places.binary_search_by_key(&version, |(version, _)| *version) {
            // The later one, which may be of the history that holds.
            Ok(place) => places[place].1 = at,
            Err(place) => places.insert(place, (version, at)),
        }
    }

    fn read(&self, at: u64) -> Option<Found> {
        let mut header = [0; HEADER_BYTES];
        self.store.read(at, &mut header).ok()?;
        let (header, _) = Header::read_from_prefix(&header).ok()?;
        let mut state = vec![0; (header.state_bytes.get() as usize).min(STATE_BYTES_MAX)];
        self.store.read(at + HEADER_BYTES as u64, &mut state).ok()?;
        (header.magic.get() == MAGIC && header.crc.get() == header.sum(&state)).then_some(Found {
            stream: StreamId(header.stream),
            version: Version(header.version.get()),
            position: Position(header.position.get()),
            link: Link(header.link),
            state,
        })
    }
}
