//! Writes that are started now and waited for later.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::DiskFile;

/// Memory that stays where it is and as it is, in the part that is written, for as long as somebody holds it.
pub trait SharedBytes: Send + Sync + Debug {
    /// The bytes; those of a range that was handed out once never move or change.
    fn bytes(&self) -> &[u8];
}

/// One write for a queue.
#[derive(Debug)]
pub struct QueuedWrite {
    /// What the caller calls it.
    pub tag: u64,
    /// The file.
    pub file: Arc<dyn DiskFile>,
    /// Where the bytes are; the queue holds it until the write has landed.
    pub memory: Arc<dyn SharedBytes>,
    /// Which of them.
    pub range: Range<usize>,
    /// Where they go.
    pub offset: u64,
}

/// What a queue knows a file by.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum QueuedAs<'a> {
    /// A file of the system.
    Descriptor(BorrowedFd<'a>),
    /// The so manieth file of a simulated disk.
    #[cfg(any(test, feature = "sim"))]
    Simulated(usize),
}

/// A write that has come to its end.
#[derive(Debug)]
pub struct Landed {
    /// Its tag.
    pub tag: u64,
    /// As for [`DiskFile::write_durable_at`].
    pub result: io::Result<()>,
}

/// Where writes are started without waiting for them. Each is durable when it lands well; they land in any order.
pub trait WriteQueue: Send + Sync + Debug {
    /// Starts a write; gives it back if it cannot be started this way, and then nothing has been done.
    ///
    /// # Errors
    /// The write itself, to be done in another way.
    fn start(&self, write: QueuedWrite) -> Result<(), QueuedWrite>;

    /// A commit of at most this many bytes is written by the thread that led it, if that waits for it and nothing else is under way: to start a
    /// write and to wait for it takes longer than to write.
    fn inline_bytes_max(&self) -> usize {
        128 << 10
    }

    /// Adds what has landed to `landed`. If nothing has, and something is under way, waits for it, but not longer than `at_most` if that is given.
    ///
    /// One caller waits at a time; for others this is [`Reaped::Elsewhere`] at once. Who gets [`Reaped::TimeUp`] leaves writes behind that nobody
    /// waits for any more: somebody else is to be told.
    fn reap(&self, at_most: Option<Duration>, landed: &mut Vec<Landed>) -> Reaped;
}

/// What a call of [`WriteQueue::reap`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// Something has landed.
    Some,
    /// Nothing is under way.
    Idle,
    /// Somebody else waits.
    Elsewhere,
    /// Nothing has landed in time.
    TimeUp,
}
