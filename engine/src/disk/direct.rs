//! The fast write path: past the page cache (`O_DIRECT`, `O_DSYNC`), and several writes in flight through io_uring where the system allows it.
//!
//! Everything else is as in `portable`. Whatever the system refuses - io_uring, direct writes in this file system, one write that is not aligned -
//! is done the portable way instead; what it was is told by [`Disk::write_path`] and [`Disk::write_path_reason`].
//! Never: mapping for writing what is written past the cache; retrying a write that failed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::portable::{PortableDisk, PortableFile, still_writes};
use super::uring::Uring;
use super::{Access, DirectoryLock, Disk, DiskFile, LockError, MemoryAddress, QueuedAs, Region, SharedMemory, WriteQueue};

/// A directory of a file system that can be written past the page cache.
#[derive(Debug)]
pub struct DirectDisk {
    portable: PortableDisk,
    queue: Option<Uring>,
    reason: Option<String>,
}

impl DirectDisk {
    /// The directory need not exist yet. Without io_uring, or without the right to it, direct writes are waited for by the threads that commit;
    /// without direct writing everything is done the portable way.
    pub(super) fn or_portable(directory: &Path) -> Arc<dyn Disk> {
        if let Err(error) = probe(directory) {
            return Arc::new(PortableDisk::because(directory, format!("direct writing is refused: {error}")));
        }
        let (queue, reason) = match Uring::new() {
            Ok(queue) => (Some(queue), None),
            Err(error) => (None, Some(format!("io_uring is refused: {error}"))),
        };
        Arc::new(DirectDisk { portable: PortableDisk::new(directory), queue, reason })
    }

    /// With io_uring and direct writing or not at all.
    ///
    /// # Errors
    /// What the system says against it.
    pub fn with_uring(directory: &Path) -> io::Result<DirectDisk> {
        probe(directory)?;
        Ok(DirectDisk { portable: PortableDisk::new(directory), queue: Some(Uring::new()?), reason: None })
    }

    fn file(&self, portable: PortableFile) -> DirectFile {
        let direct = open_direct(&portable).ok();
        DirectFile { portable, direct, refused: AtomicBool::new(false), has_queue: self.queue.is_some() }
    }
}

/// Whether files of a directory, or of its nearest ancestor that exists, can be opened for direct writing. Leaves nothing behind.
fn probe(directory: &Path) -> io::Result<()> {
    let directory = std::path::absolute(directory)?;
    let existing = directory.ancestors().find(|ancestor| ancestor.is_dir()).ok_or(io::ErrorKind::NotFound)?;
    // open(DIR, O_TMPFILE | O_DIRECT): a file without a name
    let flags = OFlags::TMPFILE | OFlags::DIRECT;
    OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(existing).map(drop)
}

/// A second descriptor of the same file, for direct writing.
fn open_direct(portable: &PortableFile) -> io::Result<File> {
    let flags = OFlags::DIRECT | OFlags::DSYNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(portable.path())?;
    let (one, other) = (portable.metadata()?, file.metadata()?);
    if (one.dev(), one.ino()) == (other.dev(), other.ino()) { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

impl Disk for DirectDisk {
    fn create_directory(&self) -> io::Result<()> {
        self.portable.create_directory()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.portable.list()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let portable = self.portable.open_file(name, access)?;
        Ok(if access == Access::Write { Arc::new(self.file(portable)) } else { Arc::new(portable) })
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.file(self.portable.create_file(name)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.portable.rename(from, to)
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.portable.replace(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.portable.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.portable.sync_directory()
    }

    fn lock(&self) -> Result<Box<dyn DirectoryLock>, LockError> {
        self.portable.lock()
    }

    fn block_bytes(&self) -> u32 {
        self.portable.block_bytes()
    }

    fn file_bytes(&self, name: &str) -> io::Result<u64> {
        self.portable.file_bytes(name)
    }

    fn create_live(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        self.portable.create_live()
    }

    fn open_live(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        self.portable.open_live()
    }

    fn is_followed(&self) -> bool {
        self.portable.is_followed()
    }

    fn create_memory(&self, bytes: u64) -> Option<SharedMemory> {
        self.portable.create_memory(bytes)
    }

    fn open_memory(&self, address: MemoryAddress) -> Option<SharedMemory> {
        self.portable.open_memory(address)
    }

    fn has_writer(&self) -> bool {
        self.portable.has_writer()
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        self.portable.boot_id()
    }

    fn pause(&self) -> bool {
        self.portable.pause()
    }

    fn rewrites_in_place(&self) -> bool {
        self.portable.rewrites_in_place()
    }

    fn write_path(&self) -> &'static str {
        if self.queue.is_some() { "uring" } else { "direct" }
    }

    fn write_path_reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn queue(&self) -> Option<&dyn WriteQueue> {
        self.queue.as_ref().map(|queue| queue as &dyn WriteQueue)
    }

    fn remembered(&self) -> io::Result<Option<Vec<u8>>> {
        self.portable.remembered()
    }

    fn remember(&self, bytes: &[u8]) -> io::Result<()> {
        self.portable.remember(bytes)
    }
}

#[derive(Debug)]
struct DirectFile {
    portable: PortableFile,
    direct: Option<File>,
    /// A direct write was refused for its shape; no more are tried.
    refused: AtomicBool,
    has_queue: bool,
}

impl DirectFile {
    fn direct(&self) -> Option<&File> {
        // Relaxed: a hint; whoever misses it is refused again.
        self.direct.as_ref().filter(|_| !self.refused.load(Ordering::Relaxed))
    }
}

impl DiskFile for DirectFile {
    fn bytes(&self) -> io::Result<u64> {
        self.portable.bytes()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.portable.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.portable.write_all_at(bytes, offset)
    }

    fn write_durable_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct() {
            // pwrite(O_DIRECT | O_DSYNC); futimens(now), twice
            match direct.write_all_at(bytes, offset) {
                // Memory, offset or length do not suit the device: refused before anything was written.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => self.refused.store(true, Ordering::Relaxed),
                result => return result.and_then(|()| still_writes(direct)),
            }
        }
        self.portable.write_durable_at(bytes, offset)
    }

    fn queued_as(&self) -> Option<QueuedAs<'_>> {
        self.direct().filter(|_| self.has_queue).map(|file| QueuedAs::Descriptor(file.as_fd()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.portable.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.portable.sync_all()
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.portable.reserve(bytes)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.portable.set_bytes(bytes)
    }

    fn region(&self, bytes: usize) -> io::Result<Region> {
        self.portable.region(bytes)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.portable.drop_cache()
    }
}
