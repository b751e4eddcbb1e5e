//! The portable write path: buffered `pwrite` and `fdatasync` on a directory of any POSIX file system.

#![allow(unsafe_code)] // one block: mapping a file that nobody writes any more

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{
    Advice, CWD, FallocateFlags, FlockOperation, OFlags, RenameFlags, Timestamps, UTIME_NOW, fadvise, fallocate, flock, futimens, major,
    minor, renameat_with, statfs,
};
use rustix::io::Errno;
use rustix::time::Timespec;

use chainring_format::limits::{BLOCK_BYTES_DEFAULT, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN};

use super::{Access, DirectoryLock, Disk, DiskFile, LockError, MemoryAddress, Region, SharedMemory, lock};

/// A directory of the file system.
#[derive(Debug)]
pub struct PortableDisk {
    directory: PathBuf,
    /// Why nothing faster is used.
    reason: Option<String>,
}

impl PortableDisk {
    /// The directory need not exist yet.
    #[must_use]
    pub fn new(directory: &Path) -> PortableDisk {
        PortableDisk { directory: directory.to_owned(), reason: None }
    }

    /// The same, because something faster was refused.
    pub(super) fn because(directory: &Path, reason: String) -> PortableDisk {
        PortableDisk { directory: directory.to_owned(), reason: Some(reason) }
    }
}

/// More than this is not ours.
const BESIDE_BYTES_MAX: u64 = 4096;
/// Where a writer says how far it is.
const LIVE_FILE: &str = "LIVE";
/// A moment: devices need less for a write, mostly.
const PAUSE: Duration = Duration::from_millis(1);

impl PortableDisk {
    /// `NAME.mark` beside a directory `NAME`; none for the root of a file system, whose neighbours belong to another one.
    fn path_beside(&self) -> Option<PathBuf> {
        let directory = self.directory.canonicalize().ok()?;
        let parent = directory.parent()?;
        let same_device = fs::metadata(parent).ok()?.dev() == fs::metadata(&directory).ok()?.dev();
        let mut name = directory.file_name()?.to_owned();
        name.push(".mark");
        same_device.then(|| parent.join(name))
    }
}

impl PortableDisk {
    pub(super) fn open_file(&self, name: &str, access: Access) -> io::Result<PortableFile> {
        let path = self.directory.join(name);
        let file = open_plain(OpenOptions::new().read(true).write(access == Access::Write), &path)?;
        Ok(PortableFile { file, path })
    }

    pub(super) fn create_file(&self, name: &str) -> io::Result<PortableFile> {
        let path = self.directory.join(name);
        let file = create_anew(&path)?;
        Ok(PortableFile { file, path })
    }
}

impl Disk for PortableDisk {
    fn create_directory(&self) -> io::Result<()> {
        // mkdir(missing ancestors, directory); fsync(parent of each); where that fails, rmdir(what was made)
        let directory = std::path::absolute(&self.directory)?;
        let missing = directory.ancestors().take_while(|ancestor| !ancestor.exists()).count();
        fs::create_dir_all(&directory)?;
        // At least its own entry: an earlier attempt may have been cut off between making and syncing it.
        let mut parents = directory.ancestors().skip(1).take(missing.max(1));
        let synced = parents.try_for_each(|parent| File::open(parent)?.sync_all()).and_then(|()| still_writes(&File::open(&directory)?));
        if synced.is_err() {
            // A failed sync is not told twice (measured on ext4 without a journal): the next one would succeed, and the name would never be durable. So
            // the next attempt is to make it anew. What was there before stays.
            directory.ancestors().take(missing).take_while(|made| fs::remove_dir(made).is_ok()).for_each(drop);
        }
        synced
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.open_file(name, access)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.create_file(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.directory.join(from), self.directory.join(to));
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
            result => Ok(result?),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let directory = File::open(&self.directory)?;
        directory.sync_all().and_then(|()| still_writes(&directory))
    }

    fn lock(&self) -> Result<Box<dyn DirectoryLock>, LockError> {
        lock::lock(&self.directory)
    }

    fn block_bytes(&self) -> u32 {
        device_block_bytes(&self.directory).unwrap_or(BLOCK_BYTES_DEFAULT)
    }

    fn rewrites_in_place(&self) -> bool {
        // btrfs, ZFS and bcachefs write to a new place every time; in tmpfs there is nothing to gain.
        const ELSEWHERE: [i64; 4] = [0x9123_683E, 0x2FC1_2FC1, 0xCA45_1A4E, 0x0102_1994];
        statfs(&self.directory).is_ok_and(|system| !ELSEWHERE.contains(&system.f_type))
    }

    fn file_bytes(&self, name: &str) -> io::Result<u64> {
        let metadata = fs::symlink_metadata(self.directory.join(name))?;
        // Opening says what is wrong with what is no file.
        if metadata.is_file() { Ok(metadata.len()) } else { self.open(name, Access::Read)?.bytes() }
    }

    fn create_live(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        match self.open(LIVE_FILE, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(LIVE_FILE).map(Some),
            opened => opened.map(Some),
        }
    }

    fn open_live(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let file = match self.open_file(LIVE_FILE, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        // For `is_followed`. Whoever cannot have it now does not wait: the writer looks at this moment, and will again.
        let _ = flock(&file.file, FlockOperation::NonBlockingLockShared);
        Ok(Some(Arc::new(file)))
    }

    fn is_followed(&self) -> bool {
        let live = self.open_file(LIVE_FILE, Access::Read);
        live.is_ok_and(|live| flock(&live.file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK))
    }

    fn create_memory(&self, bytes: u64) -> Option<SharedMemory> {
        SharedMemory::create(bytes)
    }

    fn open_memory(&self, address: MemoryAddress) -> Option<SharedMemory> {
        SharedMemory::open(address)
    }

    fn has_writer(&self) -> bool {
        lock::is_locked(&self.directory)
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let digits: String = text.trim().chars().filter(|&digit| digit != '-').collect();
        Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
    }

    fn pause(&self) -> bool {
        std::thread::sleep(PAUSE);
        true
    }

    fn write_path(&self) -> &'static str {
        "portable"
    }

    fn write_path_reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn remembered(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = self.path_beside() else { return Ok(None) };
        match open_plain(OpenOptions::new().read(true), &path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(BESIDE_BYTES_MAX).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// unlink(NAME.mark.tmp); write(NAME.mark.tmp); rename(NAME.mark.tmp, NAME.mark)
    fn remember(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(path) = self.path_beside() else { return Ok(()) };
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        create_anew(temporary.as_ref())?.write_all(bytes)?;
        fs::rename(temporary, path)
    }
}

/// Opens a regular file and nothing else: no link is followed, no pipe waited for.
pub(super) fn open_plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits() as i32).open(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => refused("a symbolic link, not a regular file"),
        Some(Errno::ISDIR) => refused("a directory, not a regular file"),
        Some(Errno::NXIO) => refused("a pipe, not a regular file"),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused("not a regular file")) }
}

/// Creates a file that nobody else has a name or a link to: what bears the name is unlinked, not emptied.
///
/// unlink(path); open(path, O_CREAT | O_EXCL)
fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().read(true).write(true).create_new(true).open(path),
    }
}

/// max(logical, physical, minimum-io) block of the device below a directory; `None` where the system does not say.
fn device_block_bytes(directory: &Path) -> Option<u32> {
    let device = fs::metadata(directory).ok()?.dev();
    let node = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
    // A partition has no queue of its own; its disk's is one level up.
    let queue = ["queue", "../queue"].into_iter().map(|queue| node.join(queue)).find(|queue| queue.exists())?;
    let read = |name: &str| fs::read_to_string(queue.join(name)).ok()?.trim().parse::<u32>().ok();
    let block = ["logical_block_size", "physical_block_size", "minimum_io_size"].into_iter().filter_map(read).max()?;
    Some(block.checked_next_power_of_two()?.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX))
}

#[derive(Debug)]
pub(super) struct PortableFile {
    file: File,
    path: PathBuf,
}

impl PortableFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn metadata(&self) -> io::Result<fs::Metadata> {
        self.file.metadata()
    }
}

impl DiskFile for PortableFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn read_no_further(&self) {
        // Where it is not understood, more is read.
        let _ = fadvise(&self.file, 0, None, Advice::Random);
    }

    fn read_soon(&self, offset: u64, bytes: u64) {
        // A hint: what cannot be brought in is met by whoever reads it.
        let _ = fadvise(&self.file, offset, NonZeroU64::new(bytes), Advice::WillNeed);
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// fdatasync(file); futimens(file, now), twice
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().and_then(|()| still_writes(&self.file))
    }

    /// fsync(file); futimens(file, now), twice
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all().and_then(|()| still_writes(&self.file))
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                // No reservation on this file system: writing zeros is the only honest one.
                static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
                let mut at = self.bytes()?;
                while at < bytes {
                    let count = (bytes - at).min(ZEROS.len() as u64);
                    self.file.write_all_at(&ZEROS[..count as usize], at)?;
                    at += count;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn region(&self, bytes: usize) -> io::Result<Region> {
        let metadata = self.file.metadata()?;
        if bytes as u64 > metadata.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: `Mmap` asks that the file is not changed or cut while it is mapped. Callers map only sealed segments: this engine never
        // writes below their named end again (FORMAT.md C3), holds the directory's lock while it writes, and the length was checked above.
        // Bytes that another program changes are caught by checksums where they are read; cutting the file is caught by the probe in `Region`,
        // but for the moment between probe and use, which is documented.
        let map = unsafe { memmap2::MmapOptions::new().len(bytes).map(&self.file)? };
        Ok(Region::mapped(map, self.path.clone(), &metadata))
    }

    fn drop_cache(&self) -> io::Result<()> {
        // Only clean pages can be dropped, so they are made clean first.
        self.file.sync_all()?;
        fadvise(&self.file, 0, None, Advice::DontNeed).map_err(io::Error::from)
    }
}

/// Whether the file system of a file still takes changes: asked behind everything that it calls durable, before anybody is told.
///
/// ext4 answers a sync with success if the transaction that the data depends on has ended, also where it ended because the journal failed
/// (`jbd2_complete_transaction`); it notices the failure when it begins another. So a change is made that begins one - of the times, which differ
/// anyway - and a second, which is refused if the first made it notice. Costs 1.5 us. Other file systems say of themselves that they are shut down.
/// Any other refusal says nothing of what was written: the file is another user's, the call is forbidden, there is no space for another change.
pub(super) fn still_writes(file: &File) -> io::Result<()> {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    for _ in 0..2 {
        match futimens(file, &Timestamps { last_access: NOW, last_modification: NOW }) {
            Err(refused @ (Errno::ROFS | Errno::IO)) => return Err(refused.into()),
            Err(_) => break,
            Ok(()) => {}
        }
    }
    Ok(())
}
