//! Whether bytes of mappings that lie here and there can be read, asked of the system all at once.
//!
//! Reading a byte that is not to be had ends in a signal; having it copied by the system ends in an error. So one call copies a byte of each to a file that
//! exists in memory only, and nobody looks at it. One behind the other each copy would wait for memory; therefore the processor is told of all of them
//! before. Of a hundred pages in 40 GB, all in the page cache, this takes 16 us, reading them without asking 11, and asking for each by `madvise` 100.

#![allow(unsafe_code)] // one block: a hint to the processor

use std::fs::File;
use std::io::IoSlice;
use std::sync::Mutex;

use rustix::fs::MemfdFlags;
use rustix::io::pwritev;
use rustix::process::{Resource, getrlimit};

use super::memory::new_file;

/// Pieces that the system takes in one call.
const PIECES_MAX: usize = 1024;
const CACHE_LINE_BYTES: usize = 64;

/// Files to copy to, about as many as were ever in use at once: each copy has one for itself, because who writes to a file waits for others who do.
/// Nobody waits for this list either: somebody may hold it for ever, in the child of a fork.
static SINKS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Tells the processor of bytes that are going to be read. Where they are not in memory nothing happens.
pub(super) fn announce(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(CACHE_LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see, and never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Whether the first byte of each, and so its page, can be read. `false` also where the system cannot be asked this way.
pub(super) fn can_be_read(pieces: &[&[u8]]) -> bool {
    // Who may write no bytes to files is killed for writing one, also to one that is in memory only.
    if getrlimit(Resource::Fsize).current == Some(0) {
        return false;
    }
    let kept = SINKS.try_lock().ok().and_then(|mut sinks| sinks.pop());
    let Some(sink) = kept.or_else(|| new_file("chainring-touch", MemfdFlags::empty())) else { return false };
    let all = pieces.chunks(PIECES_MAX).all(|pieces| {
        let bytes: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(&piece[..1])).collect();
        // pwritev(memory, a byte of each, 0): short, or EFAULT, at the first one that cannot be read
        pwritev(&sink, &bytes, 0) == Ok(pieces.len())
    });
    if let Ok(mut sinks) = SINKS.try_lock() {
        sinks.push(sink);
    }
    all
}
