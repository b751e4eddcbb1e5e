//! A write queue over io_uring.
//!
//! Invariant: from the moment a write is submitted until its completion is taken, `under_way` holds the file and the memory it was started with.

#![allow(unsafe_code)] // three blocks: the kernel is handed a pointer, and the two halves of the ring are each used under a lock

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};

use rustix::io::Errno;

use super::{Landed, QueuedAs, QueuedWrite, Reaped, WriteQueue};

/// Writes that can be under way at once; far more than any depth that pays.
const ENTRIES: u32 = 64;
/// Written data is durable when the write completes.
const RWF_DSYNC: i32 = 2;

/// One io_uring instance.
pub(super) struct Uring {
    ring: IoUring,
    /// Guards the submission half.
    submitting: Mutex<()>,
    /// Guards the completion half. Held while waiting.
    reaping: Mutex<()>,
    under_way: Mutex<HashMap<u64, QueuedWrite>>,
    process: u32,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

impl Uring {
    /// # Errors
    /// What the system says: there is no io_uring, or it is forbidden.
    pub(super) fn new() -> io::Result<Uring> {
        let ring = IoUring::new(ENTRIES)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Uring { ring, submitting: Mutex::new(()), reaping: Mutex::new(()), under_way: Mutex::default(), process: std::process::id() })
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<u64, QueuedWrite>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes completions that are there.
    fn take_completions(&self, landed: &mut Vec<Landed>) {
        // SAFETY: `reaping` is held by the caller, so nobody else uses the completion half.
        let completions = unsafe { self.ring.completion_shared() };
        for completion in completions {
            let write = self.under_way().remove(&completion.user_data()).expect("the kernel completes what was submitted, once");
            landed.push(Landed { tag: write.tag, result: finish(&write, completion.result()) });
        }
    }
}

/// What a completion means. What a short write has left - nothing, nearly always - is written here, which also asks what is asked behind every write.
fn finish(write: &QueuedWrite, result: i32) -> io::Result<()> {
    let bytes = &write.memory.bytes()[write.range.clone()];
    match usize::try_from(result) {
        Ok(written) => write.file.write_durable_at(&bytes[written..], write.offset + written as u64),
        // Refused for its shape before anything was written: done in another way.
        Err(_) if -result == Errno::INVAL.raw_os_error() => write.file.write_durable_at(bytes, write.offset),
        Err(_) => Err(io::Error::from_raw_os_error(-result)),
    }
}

impl WriteQueue for Uring {
    fn start(&self, write: QueuedWrite) -> Result<(), QueuedWrite> {
        let (Some(QueuedAs::Descriptor(file)), Ok(bytes)) = (write.file.queued_as(), u32::try_from(write.range.len())) else {
            return Err(write);
        };
        let file = Fd(file.as_raw_fd());
        let start = write.memory.bytes()[write.range.clone()].as_ptr();
        let (offset, tag) = (write.offset, write.tag);
        let entry = opcode::Write::new(file, start, bytes).offset(offset).rw_flags(RWF_DSYNC).build().user_data(tag);
        let guard = self.submitting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut under_way = self.under_way();
        if under_way.len() >= ENTRIES as usize || self.process != std::process::id() {
            return Err(write);
        }
        assert!(under_way.insert(tag, write).is_none(), "tags are used once");
        drop(under_way);
        // SAFETY: `submitting` is held, so nobody else uses the submission half. File and memory of the entry are held by `under_way` until the
        // completion is taken; `SharedBytes` promises that the bytes stay.
        let pushed = unsafe { self.ring.submission_shared().push(&entry) };
        pushed.expect("there are as many places as writes under way");
        // io_uring_enter(1)
        let submitted = loop {
            match self.ring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        drop(guard);
        // An entry that the kernel did not take now (no memory, too many completions) is taken with the next call; it is under way all the same.
        let _ = submitted;
        Ok(())
    }

    fn reap(&self, at_most: Option<Duration>, landed: &mut Vec<Landed>) -> Reaped {
        if self.process != std::process::id() {
            return Reaped::Idle;
        }
        let timespec = at_most.map(Timespec::from);
        let args = SubmitArgs::new();
        let args = if let Some(timespec) = &timespec { args.timespec(timespec) } else { args };
        loop {
            let Ok(guard) = self.reaping.try_lock() else { return Reaped::Elsewhere };
            self.take_completions(landed);
            if !landed.is_empty() {
                return Reaped::Some;
            }
            if self.under_way().is_empty() {
                drop(guard);
                // Who has started a write meanwhile may have found the guard taken and rely on whoever held it.
                if self.under_way().is_empty() {
                    return Reaped::Idle;
                }
                continue;
            }
            // io_uring_enter(0, 1, GETEVENTS)
            let waited = self.ring.submitter().submit_with_args(1, &args);
            self.take_completions(landed);
            match waited {
                _ if !landed.is_empty() => return Reaped::Some,
                Err(error) if error.raw_os_error() == Some(Errno::TIME.raw_os_error()) => return Reaped::TimeUp,
                // Interrupted, or too busy to take what is submitted: again.
                Ok(_) | Err(_) if at_most.is_some() => return Reaped::TimeUp,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl Drop for Uring {
    /// Memory and files stay until the kernel is done with them.
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // The parent's writes are not ours to wait for, and their memory is not shared with it.
            return;
        }
        let mut landed = Vec::new();
        while !self.under_way().is_empty() {
            self.reap(None, &mut landed);
        }
    }
}
