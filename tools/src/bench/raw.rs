//! What the machine itself can do: the same bytes, brought to the same level of durability in the plainest way, without order, hash, checksum or index.
//!
//! | what is measured | what stands beside it |
//! |---|---|
//! | lone durable appends | one block after the other, past the page cache, each synced by its own write ([`Blocks`]) |
//! | other durable appends | a log with group commit: whoever waits first writes and syncs for all ([`Group`]) |
//! | written appends | large writes into the page cache ([`Chunks`]) |
//!
//! Durable files were written and synced before, and are written over in circles: nothing is allocated while it is measured, which is the best case.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;

use super::drive::Target;
use super::workload::{FRAME_BYTES, Shape, Source};
use crate::output::Failure;

/// Size of a file that is written in circles; larger only where the requests under way need it.
const FILE_BYTES: u64 = 64 << 20;
/// Written through the page cache at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// A file of written appends starts over here, so that a long run does not fill the disk twice.
const WRITTEN_BYTES_MAX: u64 = 4 << 30;
/// Direct writes want their memory aligned; no device asks for more.
const ALIGNMENT: usize = 4096;

/// What a request becomes in a file, beside its body.
const HEAD: [u8; FRAME_BYTES as usize] = [0xA5; FRAME_BYTES as usize];

fn failed(doing: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Cannot(format!("raw baseline: {doing}: {error}"))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file full of bytes that are not zero, synced.
fn prewritten(path: &Path, file_bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let chunk = vec![0x5A; CHUNK_BYTES];
    let mut offset = 0;
    while offset < file_bytes {
        let bytes = (file_bytes - offset).min(CHUNK_BYTES as u64);
        file.write_all_at(&chunk[..bytes as usize], offset)?;
        offset += bytes;
    }
    file.sync_all()?;
    Ok(file)
}

/// Memory whose bytes of interest start at a multiple of [`ALIGNMENT`].
struct Aligned {
    memory: Vec<u8>,
    from: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        let memory = vec![0; len + ALIGNMENT];
        let from = memory.as_ptr().align_offset(ALIGNMENT);
        Aligned { memory, from, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.from..self.from + self.len]
    }
}

/// One write of whole blocks after the other, each durable when it returns.
pub(super) struct Blocks {
    file: File,
    file_bytes: u64,
    /// The one thread's memory and place.
    state: Mutex<(Aligned, u64)>,
    is_direct: bool,
}

impl Blocks {
    /// Of as many blocks as a frame of this shape takes.
    pub(super) fn new(directory: &Path, shape: &Shape, block_bytes: u64) -> Result<Blocks, Failure> {
        let path = directory.join("raw-blocks");
        let write_bytes = (shape.frame_bytes() as u64).next_multiple_of(block_bytes);
        let file_bytes = FILE_BYTES.next_multiple_of(write_bytes);
        let plain = prewritten(&path, file_bytes).map_err(failed("preparing a file"))?;
        let mut memory = Aligned::new(write_bytes as usize);
        memory.bytes().fill(0x5A);
        let flags = OFlags::DIRECT | OFlags::DSYNC;
        let direct = OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(&path);
        // Some file systems refuse to open such a file, others to write to it.
        let direct = direct.and_then(|file| file.write_all_at(memory.bytes(), 0).map(|()| file));
        let (file, is_direct) = direct.map_or((plain, false), |file| (file, true));
        Ok(Blocks { file, file_bytes, state: Mutex::new((memory, 0)), is_direct })
    }

    /// How the bytes get to the device.
    pub(super) fn how(&self) -> &'static str {
        if self.is_direct { "O_DIRECT, O_DSYNC write of whole blocks" } else { "write of whole blocks, fdatasync (no O_DIRECT here)" }
    }
}

impl Target for Blocks {
    type Request = ();
    type Ticket = ();

    fn build(&self, source: &mut Source) {
        let (memory, _) = &mut *locked(&self.state);
        let mut body = Vec::new();
        source.write_body(&mut body);
        memory.bytes()[HEAD.len()..HEAD.len() + body.len()].copy_from_slice(&body);
    }

    fn submit(&self, (): ()) -> Result<(), Failure> {
        let (memory, offset) = &mut *locked(&self.state);
        let bytes = memory.bytes();
        self.file.write_all_at(bytes, *offset).map_err(failed("writing a block"))?;
        *offset = (*offset + bytes.len() as u64) % self.file_bytes;
        if self.is_direct { Ok(()) } else { self.file.sync_data().map_err(failed("syncing a block")) }
    }

    fn is_done(&self, (): &()) -> bool {
        true
    }

    fn wait(&self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

/// A request as a log of bytes has it: a frame for each of its events.
fn frames(shape: &Shape, source: &mut Source) -> Vec<u8> {
    let mut frames = Vec::with_capacity(shape.batch * shape.frame_bytes());
    for _ in 0..shape.batch {
        frames.extend_from_slice(&HEAD);
        source.write_body(&mut frames);
    }
    frames
}

/// A log of bytes with group commit.
pub(super) struct Group {
    shape: Shape,
    file: File,
    file_bytes: u64,
    state: Mutex<GroupState>,
    led: Condvar,
    /// Copy of the state's, for a look without the lock.
    durable: AtomicU64,
}

#[derive(Default)]
struct GroupState {
    /// Frames that nobody took to the file yet.
    waiting: Vec<u8>,
    /// Memory of the group before, to be used again.
    spare: Vec<u8>,
    /// Requests handed in.
    submitted: u64,
    /// Requests on stable storage.
    durable: u64,
    is_led: bool,
    offset: u64,
    error: Option<String>,
}

impl Group {
    /// A new one, in a file large enough for everything that can wait at once.
    pub(super) fn new(directory: &Path, shape: &Shape) -> Result<Group, Failure> {
        let waiting = (shape.threads * shape.in_flight * shape.batch * shape.frame_bytes()) as u64;
        let file_bytes = FILE_BYTES.max(2 * waiting);
        let file = prewritten(&directory.join("raw-group"), file_bytes).map_err(failed("preparing a file"))?;
        let state = Mutex::new(GroupState::default());
        Ok(Group { shape: shape.clone(), file, file_bytes, state, led: Condvar::new(), durable: AtomicU64::new(0) })
    }

    /// How the bytes get to the device.
    pub(super) fn how() -> &'static str {
        "group commit, leader and followers: write, fdatasync; no hash, no checksum"
    }

    fn lead<'g>(&'g self, mut state: MutexGuard<'g, GroupState>) -> MutexGuard<'g, GroupState> {
        state.is_led = true;
        let spare = std::mem::take(&mut state.spare);
        let mut group = std::mem::replace(&mut state.waiting, spare);
        let last = state.submitted;
        // A group is never parted: the file holds two of the largest.
        let offset = if state.offset + group.len() as u64 > self.file_bytes { 0 } else { state.offset };
        state.offset = offset + group.len() as u64;
        drop(state);
        let outcome = self.file.write_all_at(&group, offset).and_then(|()| self.file.sync_data());
        group.clear();
        let mut state = locked(&self.state);
        state.spare = group;
        state.is_led = false;
        match outcome {
            Ok(()) => state.durable = last,
            Err(error) => state.error = Some(error.to_string()),
        }
        // Relaxed: what was made durable is in the file, nothing is read through this number.
        self.durable.store(state.durable, Ordering::Relaxed);
        self.led.notify_all();
        state
    }
}

impl Target for Group {
    type Request = Vec<u8>;
    type Ticket = u64;

    fn build(&self, source: &mut Source) -> Vec<u8> {
        frames(&self.shape, source)
    }

    fn submit(&self, frames: Vec<u8>) -> Result<u64, Failure> {
        let mut state = locked(&self.state);
        state.waiting.extend_from_slice(&frames);
        state.submitted += 1;
        Ok(state.submitted)
    }

    fn is_done(&self, ticket: &u64) -> bool {
        self.durable.load(Ordering::Relaxed) >= *ticket
    }

    fn wait(&self, ticket: u64) -> Result<(), Failure> {
        if self.is_done(&ticket) {
            return Ok(());
        }
        let mut state = locked(&self.state);
        loop {
            if state.durable >= ticket {
                return Ok(());
            }
            if let Some(error) = &state.error {
                return Err(Failure::Cannot(format!("raw baseline: writing a group: {error}")));
            }
            state = if state.is_led { self.led.wait(state).unwrap_or_else(PoisonError::into_inner) } else { self.lead(state) };
        }
    }
}

/// Large writes into the page cache; nobody waits for the device.
pub(super) struct Chunks {
    shape: Shape,
    file: File,
    /// What is not written yet, and where it goes.
    state: Mutex<(Vec<u8>, u64)>,
}

impl Chunks {
    /// A new, empty file that grows.
    pub(super) fn new(directory: &Path, shape: &Shape) -> Result<Chunks, Failure> {
        let path = directory.join("raw-written");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(failed("making a file"))?;
        Ok(Chunks { shape: shape.clone(), file, state: Mutex::new((Vec::with_capacity(2 * CHUNK_BYTES), 0)) })
    }

    /// How the bytes get to the page cache.
    pub(super) fn how() -> &'static str {
        "writes of 1 MiB into a growing file; no hash, no checksum, no sync"
    }

    /// Brings everything written to the device.
    pub(super) fn settle(&self) -> Result<(), Failure> {
        self.file.sync_all().map_err(failed("syncing a file"))
    }
}

impl Target for Chunks {
    type Request = Vec<u8>;
    type Ticket = ();

    fn build(&self, source: &mut Source) -> Vec<u8> {
        frames(&self.shape, source)
    }

    fn submit(&self, frames: Vec<u8>) -> Result<(), Failure> {
        let (full, offset) = {
            let (waiting, end) = &mut *locked(&self.state);
            waiting.extend_from_slice(&frames);
            if waiting.len() < CHUNK_BYTES {
                return Ok(());
            }
            let offset = if *end >= WRITTEN_BYTES_MAX { 0 } else { *end };
            *end = offset + waiting.len() as u64;
            (std::mem::replace(waiting, Vec::with_capacity(2 * CHUNK_BYTES)), offset)
        };
        self.file.write_all_at(&full, offset).map_err(failed("writing a chunk"))
    }

    fn is_done(&self, (): &()) -> bool {
        true
    }

    fn wait(&self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(threads: usize, in_flight: usize, batch: usize) -> Shape {
        Shape { threads, in_flight, payload_bytes: 100, streams: 10, zipf: 0.0, batch, is_durable: true }
    }

    #[test]
    fn aligned_memory_is_aligned() {
        for len in [512, 4096, 12288] {
            let mut memory = Aligned::new(len);
            assert_eq!((memory.bytes().len(), memory.bytes().as_ptr().align_offset(ALIGNMENT)), (len, 0));
        }
    }

    /// Every frame that was handed in is in the file when its ticket is answered, in the order of the tickets.
    #[test]
    fn a_group_holds_what_was_handed_in() {
        let directory = tempfile::tempdir().unwrap();
        let shape = shape(1, 8, 3);
        let group = Group::new(directory.path(), &shape).unwrap();
        let mut source = Source::new(&shape, 1);
        let requests: Vec<Vec<u8>> = (0..8).map(|_| group.build(&mut source)).collect();
        let tickets: Vec<u64> = requests.iter().map(|frames| group.submit(frames.clone()).unwrap_or(0)).collect();
        assert!(tickets.iter().all(|ticket| !group.is_done(ticket)));
        for ticket in tickets {
            assert!(group.wait(ticket).is_ok());
        }
        let expected = requests.concat();
        assert_eq!(expected.len(), 8 * 3 * 300);
        assert_eq!(std::fs::read(directory.path().join("raw-group")).unwrap()[..expected.len()], expected);
    }

    #[test]
    fn blocks_go_round() {
        let directory = tempfile::tempdir().unwrap();
        let shape = shape(1, 1, 1);
        let blocks = Blocks::new(directory.path(), &shape, 4096).unwrap();
        let mut source = Source::new(&shape, 1);
        for _ in 0..3 {
            blocks.build(&mut source);
            assert!(blocks.submit(()).is_ok());
        }
        assert_eq!(locked(&blocks.state).1, 3 * 4096);
        assert_eq!(std::fs::metadata(directory.path().join("raw-blocks")).unwrap().len(), FILE_BYTES);
    }
}
