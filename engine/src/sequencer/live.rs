//! The live mark: how far the log is durable, for readers in other processes.
//!
//! A small file in the store, written over after every move of the watermark and before the answers that rest on it leave; not synced. So it is never ahead
//! of what is durable, and while the machine runs it is never behind what was acknowledged. It can be deleted: readers then see what was there when they
//! opened the store, until its writer begins another segment.

use chainring_format::Link;
use chainring_format::checksum::crc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::{Disk, DiskFile, MemoryAddress};
use crate::sync::Arc;
use crate::sync::model::{Mutex, lock};

const MAGIC: [u8; 8] = *b"CHRLV2\r\n";

/// The file.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Stored {
    magic: [u8; 8],
    log_id: [u8; 32],
    boot_id: [u8; 16],
    epoch: U64,
    /// Every record below this is durable.
    position: U64,
    /// Where they end: number of the segment, and offset.
    segment: U64,
    end: U64,
    /// Where the writer has that segment in memory: number of the process, and of the file, one up; 0 if nobody may look at it there.
    process: U32,
    memory_after: U32,
    reserved: U32,
    /// Over everything before it.
    crc: U32,
}

/// How far a log is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Every record below this is.
    pub position: u64,
    /// Number of the segment that they end in.
    pub segment: u64,
    /// Where in that.
    pub end: u64,
    /// Where its writer has that segment in memory.
    pub memory: Option<MemoryAddress>,
}

/// What a writer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub reach: Reach,
    pub epoch: u64,
    /// It was written since the machine has started: nothing of it is lost.
    pub is_of_this_boot: bool,
}

/// Reads the mark, again and again.
#[derive(Debug)]
pub(super) struct LiveReader {
    log_id: Link,
    boot_id: Option<[u8; 16]>,
    /// Held open: so the writer knows that somebody follows. As long as there is news in it: another writer may make another file.
    file: Option<Arc<dyn DiskFile>>,
}

impl LiveReader {
    pub(super) fn new(disk: &dyn Disk, log_id: Link) -> LiveReader {
        LiveReader { log_id, boot_id: disk.boot_id(), file: None }
    }

    /// The mark in a store, if there is one of this log that holds.
    pub(super) fn read(&mut self, disk: &dyn Disk) -> Option<Live> {
        if self.file.is_none() {
            self.file = disk.open_live().ok()?;
        }
        let file = self.file.as_ref()?;
        let mut bytes = [0; size_of::<Stored>()];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let (stored, _) = Stored::read_from_prefix(&bytes).ok()?;
        let holds = stored.magic == MAGIC && stored.crc.get() == crc(&bytes[..bytes.len() - 4]) && stored.log_id == self.log_id.0;
        let is_of_this_boot = self.boot_id == Some(stored.boot_id);
        let number = stored.memory_after.get().checked_sub(1);
        let memory = number.map(|number| MemoryAddress { process: stored.process.get(), number });
        let reach = Reach { position: stored.position.get(), segment: stored.segment.get(), end: stored.end.get(), memory };
        holds.then_some(Live { reach, epoch: stored.epoch.get(), is_of_this_boot })
    }

    /// As [`LiveReader::read`], if it says more than what was known.
    pub(super) fn news(&mut self, disk: &dyn Disk, known: u64) -> Option<Live> {
        let news = self.read(disk).filter(|live| live.reach.position > known);
        if news.is_none() {
            // The new one first: nobody is to think that nobody follows.
            self.file = disk.open_live().ok().flatten();
        }
        news
    }

    /// Lets it go: nobody follows, so far.
    pub(super) fn let_go(&mut self) {
        self.file = None;
    }
}

/// Writes the mark.
#[derive(Debug, Default)]
pub(super) struct LiveWriter {
    inner: Option<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Mutex<(Arc<dyn DiskFile>, Stored)>,
}

impl LiveWriter {
    /// Where no mark can be kept none is: other processes see what they open.
    pub(super) fn new(disk: &dyn Disk, log_id: Link, epoch: u64, reach: Reach) -> LiveWriter {
        let (Some(boot_id), Ok(Some(file))) = (disk.boot_id(), disk.create_live()) else { return LiveWriter::default() };
        let mut stored = Stored::new_zeroed();
        (stored.magic, stored.log_id, stored.boot_id, stored.epoch) = (MAGIC, log_id.0, boot_id, epoch.into());
        let writer = LiveWriter { inner: Some(Inner { file: Mutex::new((file, stored)) }) };
        writer.write(reach);
        writer
    }

    /// Says how far the log is durable by now. Two who come at once write one behind the other, and neither takes back what the other said.
    pub(super) fn write(&self, reach: Reach) {
        let Some(inner) = &self.inner else { return };
        let mut file = lock(&inner.file);
        let (file, stored) = &mut *file;
        if reach.position > stored.position.get() {
            (stored.position, stored.segment, stored.end) = (reach.position.into(), reach.segment.into(), reach.end.into());
            let (process, memory_after) = reach.memory.map_or((0, 0), |memory| (memory.process, memory.number + 1));
            (stored.process, stored.memory_after) = (process.into(), memory_after.into());
            let bytes = stored.as_bytes();
            stored.crc = crc(&bytes[..bytes.len() - 4]).into();
            // Too low is not wrong: the next one says more.
            let _ = file.write_all_at(stored.as_bytes(), 0);
        }
    }
}
