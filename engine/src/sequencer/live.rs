//! The live mark: how far the log is durable, for readers in other processes.
//!
//! A small file in the store, written over after every move of the watermark and before the answers that rest on it leave; not synced. So it is never ahead
//! of what is durable, and while the machine runs it is never behind what was acknowledged. It can be deleted: readers then see what was there when they
//! opened the store, until its writer begins another segment.

use chainring_format::Link;
use chainring_format::checksum::crc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::{Disk, DiskFile};
use crate::sync::Arc;
use crate::sync::model::{Mutex, lock};

const MAGIC: [u8; 8] = *b"CHRLIV\r\n";

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
    reserved: U32,
    /// Over everything before it.
    crc: U32,
}

/// What a writer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub position: u64,
    pub epoch: u64,
    /// It was written since the machine has started: nothing of it is lost.
    pub is_of_this_boot: bool,
}

impl Live {
    /// The mark in a store, if there is one of this log that holds.
    pub(super) fn read(disk: &dyn Disk, log_id: Link) -> Option<Live> {
        let file = disk.open_live().ok()??;
        let mut bytes = [0; size_of::<Stored>()];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let (stored, _) = Stored::read_from_prefix(&bytes).ok()?;
        let holds = stored.magic == MAGIC && stored.crc.get() == crc(&bytes[..bytes.len() - 4]) && stored.log_id == log_id.0;
        let is_of_this_boot = disk.boot_id() == Some(stored.boot_id);
        holds.then_some(Live { position: stored.position.get(), epoch: stored.epoch.get(), is_of_this_boot })
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
    pub(super) fn new(disk: &dyn Disk, log_id: Link, epoch: u64, position: u64) -> LiveWriter {
        let (Some(boot_id), Ok(Some(file))) = (disk.boot_id(), disk.create_live()) else { return LiveWriter::default() };
        let stored =
            Stored { magic: MAGIC, log_id: log_id.0, boot_id, epoch: epoch.into(), position: 0.into(), reserved: 0.into(), crc: 0.into() };
        let writer = LiveWriter { inner: Some(Inner { file: Mutex::new((file, stored)) }) };
        writer.write(|| position);
        writer
    }

    /// Says how far the log is durable by now. Two who come at once write one behind the other, and neither takes back what the other said.
    pub(super) fn write(&self, watermark: impl Fn() -> u64) {
        let Some(inner) = &self.inner else { return };
        let mut file = lock(&inner.file);
        let (file, stored) = &mut *file;
        let position = watermark();
        if position > stored.position.get() {
            stored.position = position.into();
            let bytes = stored.as_bytes();
            stored.crc = crc(&bytes[..bytes.len() - 4]).into();
            // Too low is not wrong: the next one says more.
            let _ = file.write_all_at(stored.as_bytes(), 0);
        }
    }
}
