//! Memory that other processes can read: files that exist in memory only, and end with the last who has them.
//!
//! While somebody follows, a writer keeps the segment that it writes in such a file, and says in its live mark where it has it open. Who follows opens it
//! through `/proc`, which the system allows whoever could look into that process anyway. Who looks at a piece of memory holds a shared lock on it; for as
//! long, its owner does not use it for anything else.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FlockOperation, MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, flock, ftruncate, memfd_create};
use rustix::process::{Resource, getrlimit};

/// What such files are called.
const NAME: &str = "chainring-segment";
/// It keeps its length, so that a mapping of it can be read to its end.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Where a process has memory that others may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryAddress {
    /// Number of the process.
    pub process: u32,
    /// Number under which it has the file open.
    pub number: u32,
}

/// A file in memory, of fixed length.
#[derive(Debug)]
pub struct SharedMemory {
    file: File,
    address: MemoryAddress,
}

impl SharedMemory {
    /// Memory of `bytes`, all zeros. `None` where the system has no such thing.
    pub(super) fn create(bytes: u64) -> Option<SharedMemory> {
        // Who makes a file longer than it may be is killed for it, also if it is in memory only.
        if getrlimit(Resource::Fsize).current.is_some_and(|bytes_max| bytes_max < bytes) {
            return None;
        }
        let file = new_file(NAME, MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, bytes).ok()?;
        fcntl_add_seals(&file, SEALS).ok()?;
        let number = u32::try_from(file.as_raw_fd()).ok()?;
        Some(SharedMemory { file, address: MemoryAddress { process: std::process::id(), number } })
    }

    /// What is at an address, if that is memory of this kind, and its owner is not about to use it for something else.
    pub(super) fn open(address: MemoryAddress) -> Option<SharedMemory> {
        let path = format!("/proc/{}/fd/{}", address.process, address.number);
        // Looked at before it is opened: opening something else could do something.
        let name = fs::read_link(&path).ok()?;
        name.to_str()?.strip_prefix("/memfd:")?.strip_prefix(NAME)?;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
        let is_sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALS));
        (is_sealed && flock(&file, FlockOperation::NonBlockingLockShared).is_ok()).then_some(SharedMemory { file, address })
    }

    /// Where its owner has it.
    #[must_use]
    pub fn address(&self) -> MemoryAddress {
        self.address
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// For mapping it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// From here on nobody maps it for writing, or writes it, but by the mapping that is there; on kernels before 5.1 nothing changes.
    pub(crate) fn allow_reading_only(&self) {
        let _ = fcntl_add_seals(&self.file, SealFlags::FUTURE_WRITE);
    }

    /// Takes it for its owner alone, unless somebody looks at it. Then nobody comes to look at it before [`SharedMemory::show`].
    pub(crate) fn take_alone(&self) -> bool {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    /// Lets others look at it.
    pub(crate) fn show(&self) {
        // Where it fails nobody can: they have other ways.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// A file in memory.
pub(super) fn new_file(name: &str, flags: MemfdFlags) -> Option<File> {
    let flags = flags | MemfdFlags::CLOEXEC;
    // Kernels before 6.3 do not know the second flag.
    memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create(name, flags)).ok().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_by_its_number_and_by_nobody_while_it_is_taken() {
        let Some(memory) = SharedMemory::create(8192) else { return eprintln!("SKIPPED: the system has no files in memory") };
        let find = || SharedMemory::open(memory.address());
        let found = find().expect("it is this process's own");
        assert_eq!(found.bytes().unwrap(), 8192);
        assert!(!memory.take_alone(), "somebody looks at it");
        drop(found);
        assert!(memory.take_alone() && find().is_none());
        memory.show();
        assert!(find().is_some());

        let found_at = |file: &File| {
            let number = u32::try_from(file.as_raw_fd()).unwrap();
            SharedMemory::open(MemoryAddress { number, ..memory.address() })
        };
        assert!(found_at(&tempfile::tempfile().unwrap()).is_none(), "a file of the disk");
        assert!(found_at(&new_file("chainring-touch", MemfdFlags::empty()).unwrap()).is_none(), "memory for something else");
        assert!(found_at(&new_file(NAME, MemfdFlags::ALLOW_SEALING).unwrap()).is_none(), "it could get shorter");
    }
}
