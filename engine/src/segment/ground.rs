//! Making ready the part of a segment's file that commits come to next.
//!
//! Space that is only reserved has to be converted when it is first written: another write of metadata in the middle of a commit, about as long as the
//! commit itself. Writing zeros there beforehand takes that away, but costs the bytes once more. So it is done by somebody for whom nobody waits, just
//! ahead of commits that are small; bulk writing outruns it, and loses nothing.

use std::io;

use chainring_format::align;
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::disk::DiskFile;
use crate::sync::model::{Mutex, MutexGuard, lock};
use crate::sync::{Arc, AtomicU64, Ordering};

/// How far ahead of the commits the ground is made ready.
const AHEAD_BYTES: u64 = 8 << 20;
/// What is written at once: long enough to disturb few commits, short enough not to hold one up for long.
const STEP_BYTES: usize = 512 << 10;
/// What the system caches together, at the least.
const PAGE_BYTES: u64 = 4096;
/// Commits that are larger on average gain too little to pay for the zeros.
const COMMIT_BYTES_MAX: u64 = 64 << 10;

/// Memory as direct writing wants it.
#[derive(Debug, Clone, Copy, FromZeros, IntoBytes, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; 4096]);

/// Zeros to write.
#[derive(Debug)]
pub(crate) struct Zeros(Vec<Block>);

impl Zeros {
    pub(crate) fn new() -> Zeros {
        Zeros(vec![Block([0; 4096]); STEP_BYTES / 4096])
    }
}

/// The space of one segment, and how far it was made ready.
#[derive(Debug)]
pub(crate) struct Ground {
    file: Arc<dyn DiskFile>,
    /// Everything below was written, by commits or by zeros. Zeros are written at or above it only, commits below or after moving it.
    ready_to: AtomicU64,
    /// Commits end at or below this.
    limit: u64,
    /// Where the last commit ends.
    end: AtomicU64,
    /// Held while zeros are written, and by whoever moves `ready_to`.
    writing: Mutex<()>,
    /// Bytes of a commit, on a running average.
    commit_bytes: AtomicU64,
}

impl Ground {
    /// The ground of a file whose bytes below `end` hold commits, and below `ready_to` at least zeros.
    pub(crate) fn new(file: Arc<dyn DiskFile>, end: u64, ready_to: u64, limit: u64) -> Ground {
        Ground {
            file,
            ready_to: AtomicU64::new(ready_to),
            limit,
            end: AtomicU64::new(end),
            writing: Mutex::new(()),
            commit_bytes: AtomicU64::new(0),
        }
    }

    /// Announces that `bytes` up to `end` are going to be written now. Waits for zeros that are being written there.
    pub(crate) fn enter(&self, bytes: u64, end: u64) {
        // Relaxed: one leader at a time comes here; whoever writes zeros may see it late and does a step more or less.
        let average = self.commit_bytes.load(Ordering::Relaxed);
        self.commit_bytes.store(average - average / 8 + bytes / 8, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        // Acquire: pairs with the Release in `step`; the zeros below were written before.
        if end > self.ready_to.load(Ordering::Acquire) {
            let _writing = lock(&self.writing);
            self.ready_to.fetch_max(end, Ordering::Release);
        }
    }

    /// Whether commits come here, and are so small that zeros pay.
    pub(crate) fn is_worth_it(&self) -> bool {
        (1..=COMMIT_BYTES_MAX).contains(&self.commit_bytes.load(Ordering::Relaxed))
    }

    /// Whether less is ready than is wanted.
    pub(crate) fn needs_step(&self) -> bool {
        self.ready_to.load(Ordering::Relaxed) < self.limit.min(self.end.load(Ordering::Relaxed) + AHEAD_BYTES)
    }

    /// No zeros are written here any more: what follows the commits is somebody else's. Waits for those that are being written.
    pub(crate) fn close(&self) {
        let _writing = lock(&self.writing);
        self.ready_to.store(u64::MAX, Ordering::Release);
    }

    /// Waits for zeros that are being written, wherever. For those who write through the page cache: zeros are written past it, and the two ways must not
    /// meet in a page. The caller sees to it that no more are begun.
    pub(crate) fn settle(&self) {
        drop(lock(&self.writing));
    }

    /// Begins to write zeros ahead, once; nobody who waits for them goes on before the step is done or dropped.
    pub(crate) fn step(&self) -> Step<'_> {
        Step { ground: self, _writing: lock(&self.writing) }
    }

    pub(crate) fn ready_to(&self) -> u64 {
        self.ready_to.load(Ordering::Acquire)
    }
}

/// Zeros about to be written.
#[derive(Debug)]
pub(crate) struct Step<'g> {
    ground: &'g Ground,
    _writing: MutexGuard<'g, ()>,
}

impl Step<'_> {
    /// Writes them.
    ///
    /// # Errors
    /// Any error of the device. It is final: the error may belong to commits in the same file.
    pub(crate) fn write(self, zeros: &Zeros) -> io::Result<()> {
        let ground = self.ground;
        // From a page's beginning: commits before it are written meanwhile.
        let from = align(ground.ready_to.load(Ordering::Relaxed), PAGE_BYTES);
        let bytes = zeros.0.as_bytes();
        let count = bytes.len().min(ground.limit.saturating_sub(from) as usize);
        if count > 0 {
            // pwrite(segment, zeros, from); durable
            ground.file.write_durable_at(&bytes[..count], from)?;
        }
        // Less than a page is left as it is. Release: pairs with the Acquire in `enter`.
        ground.ready_to.store((from + count as u64).min(ground.limit), Ordering::Release);
        Ok(())
    }
}
