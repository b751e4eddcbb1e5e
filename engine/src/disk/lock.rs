//! One writer: `flock` on the file `LOCK`, and a table of the directories this process holds.
//!
//! `flock` and not `fcntl`: closing any other descriptor of a file drops an `fcntl` lock. The table names the owner when it is ourselves,
//! where the lock file would only repeat our own process id.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock, major, minor};

use super::DirectoryLock;
use super::portable::open_plain;

const LOCK_FILE: &str = "LOCK";

/// Directories this process writes, by device and inode, with the thread that opened them.
static HELD: LazyLock<Mutex<HashMap<(u64, u64), String>>> = LazyLock::new(Mutex::default);

/// Why a directory could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else is the writer.
    Held {
        /// Who, in words.
        owner: String,
    },
    /// The lock file could not be opened or locked.
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { owner } => write!(f, "already open for writing by {owner}"),
            LockError::Io(source) => write!(f, "cannot lock: {source}"),
        }
    }
}

impl std::error::Error for LockError {}

impl From<io::Error> for LockError {
    fn from(source: io::Error) -> Self {
        LockError::Io(source)
    }
}

/// Whether somebody holds the lock of a directory, as the system lists its locks: asking by locking would be in the way of a writer who comes at this
/// moment. `false` where that cannot be told.
pub(super) fn is_locked(directory: &Path) -> bool {
    let path = directory.join(LOCK_FILE);
    let (Ok(file), Ok(locks)) = (fs::metadata(&path), fs::read_to_string("/proc/locks")) else { return false };
    is_listed(&locks, (file.dev(), file.ino()), || is_held(&path))
}

/// Whether the lock of a file is in the system's list. A lock of a file with the same number on another device is that of another file - or of this one, where
/// the file system's own name for its device is not the one that its files have (btrfs, overlays): then `is_held` is asked.
fn is_listed(locks: &str, (device, inode): (u64, u64), is_held: impl Fn() -> bool) -> bool {
    let (device, inode) = (format!("{:02x}:{:02x}", major(device), minor(device)), inode.to_string());
    // 1: FLOCK  ADVISORY  WRITE 4242 fd:00:131141 0 EOF
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let kind = (words.next(), words.nth(1));
        let file = words.nth(1).and_then(|file| file.rsplit_once(':'));
        kind == (Some("FLOCK"), Some("WRITE"))
            && file.is_some_and(|(of_device, number)| number == inode && (of_device == device || is_held()))
    })
}

/// Whether a file is locked, by trying.
fn is_held(path: &Path) -> bool {
    let Ok(file) = open_plain(OpenOptions::new().read(true), path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

#[derive(Debug)]
struct Held {
    key: (u64, u64),
    _file: File,
}

impl DirectoryLock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

pub(super) fn lock(directory: &Path) -> Result<Box<dyn DirectoryLock>, LockError> {
    let identity = fs::metadata(directory)?;
    let key = (identity.dev(), identity.ino());
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(thread) = held.get(&key) {
        return Err(LockError::Held { owner: format!("this process ({}), thread {thread}", std::process::id()) });
    }
    let mut file = open_plain(OpenOptions::new().read(true).write(true).create(true).truncate(false), &directory.join(LOCK_FILE))?;
    if let Err(refused) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if refused != rustix::io::Errno::WOULDBLOCK {
            return Err(LockError::Io(refused.into()));
        }
        let mut owner = String::new();
        // What the owner wrote about itself; only for the message, so an unreadable one is no error.
        let _ = file.take(200).read_to_string(&mut owner);
        let owner = owner.trim();
        return Err(LockError::Held { owner: if owner.is_empty() { "another process".into() } else { owner.into() } });
    }
    let program = std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} ({})", std::process::id(), program.as_deref().unwrap_or("unknown program"))?;
    let thread = std::thread::current();
    held.insert(key, thread.name().unwrap_or("without a name").to_owned());
    Ok(Box::new(Held { key, _file: file }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_from_that_of_another_file_with_its_number() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_locked(directory.path()), "there is no file");
        let held = lock(directory.path()).unwrap();
        let path = directory.path().join(LOCK_FILE);
        assert!(is_held(&path));
        if fs::read_to_string("/proc/locks").is_ok() {
            assert!(is_locked(directory.path()));
        }
        drop(held);
        assert!(!is_held(&path) && !is_locked(directory.path()));

        let here = ((0xfd << 8) | 1, 131_141);
        let list = |kind: &str, file: &str| format!("1: POSIX  ADVISORY  READ 9 fd:01:131141 0 EOF\n2: {kind} 4242 {file} 0 EOF\n");
        let never = || unreachable!("it is certain");
        assert!(is_listed(&list("FLOCK  ADVISORY  WRITE", "fd:01:131141"), here, never));
        assert!(!is_listed(&list("FLOCK  ADVISORY  READ", "fd:01:131141"), here, never));
        assert!(!is_listed(&list("FLOCK  ADVISORY  WRITE", "fd:01:31141"), here, never));
        for is_held in [true, false] {
            assert_eq!(is_listed(&list("FLOCK  ADVISORY  WRITE", "07:01:131141"), here, || is_held), is_held);
        }
    }
}
