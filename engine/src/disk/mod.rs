//! L1: the only room that calls the kernel.
//!
//! Everything the engine wants of the outside world goes through three traits: [`Disk`] with its [`DiskFile`]s, [`Clock`] and [`Entropy`].
//! The real ones are in `portable`, `direct` and `system`; `queue` writes without waiting; `sim` (feature `sim`) loses and tears what was not synced, from a seed.
//! Absent on purpose: retries. An error is handed up as it is; whether it is final is decided above.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

mod direct;
mod lock;
mod memory;
mod portable;
mod queue;
mod region;
#[cfg(feature = "sim")]
pub mod sim;
mod system;
mod touch;
mod uring;

pub use direct::DirectDisk;
pub use lock::LockError;
pub use memory::{MemoryAddress, SharedMemory};
pub use portable::PortableDisk;
pub use queue::{Landed, QueuedAs, QueuedWrite, Reaped, SharedBytes, WriteQueue};
pub use region::{Probe, Region};
pub use system::{SystemClock, SystemEntropy};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// Which way bytes are to take to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WritePath {
    /// The fastest that system and file system allow.
    #[default]
    Auto,
    /// `pwrite` and `fdatasync`: works everywhere.
    Portable,
    /// Past the page cache, several commits in flight through io_uring; refused where that is not to be had.
    Uring,
}

impl FromStr for WritePath {
    type Err = String;

    /// `auto`, `portable` or `uring`.
    fn from_str(text: &str) -> Result<WritePath, String> {
        match text {
            "auto" => Ok(WritePath::Auto),
            "portable" => Ok(WritePath::Portable),
            "uring" => Ok(WritePath::Uring),
            _ => Err(format!("{text:?} is no write path; there are auto, portable and uring")),
        }
    }
}

/// A directory of files.
pub trait Disk: Send + Sync + Debug {
    /// Makes the directory, and makes its own directory entry durable.
    ///
    /// # Errors
    /// Any error of the file system.
    fn create_directory(&self) -> io::Result<()>;

    /// Names of the files in the directory; an error of kind `NotFound` if there is none.
    ///
    /// # Errors
    /// Any error of the file system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a regular file that exists. Links, pipes and devices are refused: a store holds none, and opening one could wait for ever or lead
    /// somewhere else.
    ///
    /// # Errors
    /// Any error of the file system.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Length of a regular file in bytes.
    ///
    /// # Errors
    /// Any error of the file system.
    fn file_bytes(&self, name: &str) -> io::Result<u64> {
        self.open(name, Access::Read)?.bytes()
    }

    /// Creates an empty file for writing; an old one of that name is replaced, not emptied: it may have other names.
    ///
    /// # Errors
    /// Any error of the file system.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name. Durable only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// Any error of the file system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file the name of another one. Where the file system can, the two exchange names, so that the old file has one at every moment, and goes when
    /// it is removed; else it goes at once. Durable only after [`Disk::sync_directory`].
    ///
    /// A file system without a journal can lose the name of a file that was just renamed over another one: what reaches the device first may be that the
    /// old file is gone.
    ///
    /// # Errors
    /// Any error of the file system; then nothing is known about the two names.
    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename(from, to)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// Any error of the file system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created, renamed and removed names durable.
    ///
    /// # Errors
    /// Any error of the device; then nothing is known about the names.
    fn sync_directory(&self) -> io::Result<()>;

    /// Becomes the one writer of this directory until the guard is dropped.
    ///
    /// # Errors
    /// [`LockError::Held`] names the owner.
    fn lock(&self) -> Result<Box<dyn DirectoryLock>, LockError>;

    /// Commit alignment: what the device writes as one, in bytes; a power of two, 512..=65536.
    fn block_bytes(&self) -> u32;

    /// Whether writing a block again writes it in its place, so that making space ready by writing zeros to it can pay.
    fn rewrites_in_place(&self) -> bool {
        true
    }

    /// Where the writer of this directory says how far it is, for other processes; made if it is not there. `None` where there are no others.
    ///
    /// # Errors
    /// Any error of the file system.
    fn create_live(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        Ok(None)
    }

    /// The same for reading; `None` if no writer says anything.
    ///
    /// # Errors
    /// Any error of the file system.
    fn open_live(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        Ok(None)
    }

    /// Whether somebody has a file of [`Disk::open_live`] open, as far as can be told.
    fn is_followed(&self) -> bool {
        false
    }

    /// Memory of `bytes` for a segment that is written, which readers in other processes can look at. `None` where there are none.
    fn create_memory(&self, bytes: u64) -> Option<SharedMemory> {
        let _ = bytes;
        None
    }

    /// The memory that is at an address, for reading; `None` if it cannot be had.
    fn open_memory(&self, address: MemoryAddress) -> Option<SharedMemory> {
        let _ = address;
        None
    }

    /// Whether somebody writes this directory now, as far as can be told.
    fn has_writer(&self) -> bool {
        false
    }

    /// What the files of this disk are lost with, if they were not synced: the running system. `None` if that cannot be told.
    fn boot_id(&self) -> Option<[u8; 16]> {
        None
    }

    /// Waits a moment for a writer in another process, whose commits come in any order while they are under way. `false` where nobody else can write.
    fn pause(&self) -> bool {
        false
    }

    /// The write path in words, for reports: `uring`, `direct`, `portable`, `simulated`.
    fn write_path(&self) -> &'static str;

    /// Why it is not the fastest one, if that was not asked for.
    fn write_path_reason(&self) -> Option<&str> {
        None
    }

    /// Where writes can be started without waiting for them, if there is such a place.
    fn queue(&self) -> Option<&dyn WriteQueue> {
        None
    }

    /// What was last handed to [`Disk::remember`]; `None` if nothing was, or where there is no such place.
    ///
    /// # Errors
    /// Any error of the file system.
    fn remembered(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Keeps some bytes beside the directory, not in it, so that restoring the directory does not restore them. Whole or not at all; not synced.
    ///
    /// # Errors
    /// Any error of the file system.
    fn remember(&self, bytes: &[u8]) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
}

/// Held while this process is the writer.
pub trait DirectoryLock: Send + Sync + Debug {}

/// One file. All methods take absolute offsets; there is no cursor.
pub trait DiskFile: Send + Sync + Debug {
    /// Length in bytes.
    ///
    /// # Errors
    /// Any error of the file system.
    fn bytes(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before; any error of the device.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// From here on nothing is to be read but what is asked for: somebody writes behind it.
    fn read_no_further(&self) {}

    /// These bytes will be asked for in a moment: the system may begin to bring them in.
    fn read_soon(&self, _offset: u64, _bytes: u64) {}

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Any error of the device; then nothing is known about what was written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset` and makes them durable; nothing is said of what was written before.
    ///
    /// # Errors
    /// As for [`DiskFile::write_all_at`] and [`DiskFile::sync_data`].
    fn write_durable_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)?;
        self.sync_data()
    }

    /// What a [`WriteQueue`] knows the file by, if it can be written through one.
    fn queued_as(&self) -> Option<QueuedAs<'_>> {
        None
    }

    /// Makes written bytes, and a length that is needed to read them, durable.
    ///
    /// # Errors
    /// Any error of the device. It is final: a later success would say nothing about these bytes.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes bytes and length durable.
    ///
    /// # Errors
    /// As for [`DiskFile::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Reserves space, so that writing below `bytes` cannot run out of it; the file gets that length and reads as zeros.
    ///
    /// # Errors
    /// `StorageFull` if there is no such space: nothing was promised yet.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Cuts the file.
    ///
    /// # Errors
    /// Any error of the file system.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;

    /// The first `bytes` of the file for reading in place. Only for files that nobody writes any more.
    ///
    /// # Errors
    /// Any error of the file system.
    fn region(&self, bytes: usize) -> io::Result<Region>;

    /// Forgets what the system has cached of this file, so that the next read comes from the device.
    ///
    /// # Errors
    /// Any error of the device.
    fn drop_cache(&self) -> io::Result<()>;
}

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// Nanoseconds since 1970-01-01T00:00:00Z. May step back and forth.
    fn realtime_ns(&self) -> u64;

    /// Nanoseconds since some start, never stepping; counts while the machine sleeps.
    fn monotonic_ns(&self) -> u64;

    /// Whether this time passes by itself. A log whose time does not has no keeper thread unless it is asked for.
    fn passes(&self) -> bool {
        true
    }
}

/// Source of randomness. The engine draws once per open: 32 bytes.
pub trait Entropy: Send + Sync + Debug {
    /// Fills `bytes` with random bytes.
    ///
    /// # Errors
    /// Any error of the system's source.
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// The outside world of one log.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where the store lies.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where salts come from.
    pub entropy: Arc<dyn Entropy>,
}

/// A small file, or its first `bytes_max` bytes. `None` if it is not there or cannot be read: for what is derived, or proved otherwise.
pub(crate) fn read_small(disk: &dyn Disk, name: &str, bytes_max: u64) -> Option<Vec<u8>> {
    let file = disk.open(name, Access::Read).ok()?;
    let mut bytes = vec![0; file.bytes().ok()?.min(bytes_max) as usize];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

impl Environment {
    /// The real world: a directory of the file system, written in the fastest way it allows, the system's clock and randomness.
    #[must_use]
    pub fn system(directory: &Path) -> Environment {
        Environment::system_on(directory, WritePath::Auto).expect("one way is always left")
    }

    /// As [`Environment::system`], written in a way of the caller's choice.
    ///
    /// # Errors
    /// [`WritePath::Uring`] where io_uring or direct writing is refused: what the system says.
    pub fn system_on(directory: &Path, write_path: WritePath) -> io::Result<Environment> {
        let disk: Arc<dyn Disk> = match write_path {
            WritePath::Auto => DirectDisk::or_portable(directory),
            WritePath::Portable => Arc::new(PortableDisk::new(directory)),
            WritePath::Uring => Arc::new(DirectDisk::with_uring(directory)?),
        };
        Ok(Environment { disk, clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) })
    }
}
