//! A disk that remembers: one file of a FUSE file system, with a loop device on it.
//!
//! Every write and flush that a file system on the loop device sends arrives here, one at a time and in order, and is put on the tape before it is answered.
//! So what a caller promises after a sync has returned stands on the tape behind the flush that made it true. The content can be exchanged while
//! nothing is mounted: a block device forgets its cache when its last user lets go.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, KernelConfig, MountOption, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request,
};

use crate::image::{Image, SECTOR_BYTES};
use crate::model::Promise;
use crate::tape::{Op, Tape};

const ROOT: u64 = 1;
const DISK: u64 = 2;
const DISK_NAME: &str = "disk";
const FOREVER: Duration = Duration::from_secs(3600);

/// What the device does wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// Writes until one fails: 1 = the next.
    pub(crate) fail_write: u64,
    /// Flushes until one fails.
    pub(crate) fail_flush: u64,
    /// Once it failed, every later write and flush fails too.
    pub(crate) for_ever: bool,
    /// Sectors that cannot be read.
    pub(crate) unreadable: BTreeSet<u64>,
    /// Requests that failed so far.
    pub(crate) failed: u64,
}

struct State {
    image: Image,
    tape: Option<Tape>,
    faults: Faults,
}

pub(crate) struct Device {
    state: Arc<Mutex<State>>,
    /// `/dev/loopN`.
    pub(crate) node: PathBuf,
    session: Option<BackgroundSession>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// A disk of zeros.
    pub(crate) fn new(room: &Path, bytes: u64, sector_bytes: u32) -> io::Result<Device> {
        let state = Arc::new(Mutex::new(State { image: Image::new(bytes), tape: None, faults: Faults::default() }));
        let point = room.join("fuse");
        std::fs::create_dir_all(&point)?;
        let files = Files { state: Arc::clone(&state), bytes };
        let session = fuser::spawn_mount2(files, &point, &[MountOption::FSName("powercut".into())])?;
        let output = Command::new("losetup").args(["--show", "-f", "-b", &sector_bytes.to_string()]).arg(point.join(DISK_NAME)).output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("losetup: {}", String::from_utf8_lossy(&output.stderr))));
        }
        let node = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        Ok(Device { state, node, session: Some(session) })
    }

    pub(crate) fn image(&self) -> Image {
        lock(&self.state).image.clone()
    }

    /// Exchanges the content. Nothing may be mounted.
    pub(crate) fn load(&self, image: &Image) {
        let mut state = lock(&self.state);
        state.image = image.clone();
        state.tape = None;
        state.faults = Faults::default();
    }

    pub(crate) fn record(&self) {
        let mut state = lock(&self.state);
        state.tape = Some(Tape { base: state.image.clone(), ops: Vec::new() });
    }

    pub(crate) fn stop_recording(&self) -> Option<Tape> {
        lock(&self.state).tape.take()
    }

    /// Puts a promise on the tape.
    pub(crate) fn promise(&self, promise: Promise) {
        if let Some(tape) = &mut lock(&self.state).tape {
            tape.ops.push(Op::Promise(Arc::new(promise)));
        }
    }

    /// The promises on the tape so far.
    pub(crate) fn promises(&self) -> Vec<Arc<Promise>> {
        lock(&self.state).tape.as_ref().map_or_else(Vec::new, |tape| tape.promises(tape.ops.len()))
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    pub(crate) fn failed(&self) -> u64 {
        lock(&self.state).faults.failed
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.node).status();
        drop(self.session.take());
    }
}

struct Files {
    state: Arc<Mutex<State>>,
    bytes: u64,
}

impl Faults {
    /// Whether the request that is counted down here fails.
    fn strikes(countdown: &mut u64, for_ever: bool, failed: &mut u64) -> bool {
        let strikes = *countdown == 1;
        *countdown = if strikes && for_ever { 1 } else { countdown.saturating_sub(1) };
        *failed += u64::from(strikes);
        strikes
    }

    fn write_fails(&mut self) -> bool {
        let strikes = Faults::strikes(&mut self.fail_write, self.for_ever, &mut self.failed);
        if strikes && self.for_ever {
            self.fail_flush = 1;
        }
        strikes
    }

    fn flush_fails(&mut self) -> bool {
        let strikes = Faults::strikes(&mut self.fail_flush, self.for_ever, &mut self.failed);
        if strikes && self.for_ever {
            self.fail_write = 1;
        }
        strikes
    }
}

impl Files {
    fn attributes(&self, node: u64) -> FileAttr {
        let is_root = node == ROOT;
        FileAttr {
            ino: node,
            size: if is_root { 0 } else { self.bytes },
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_root { FileType::Directory } else { FileType::RegularFile },
            perm: if is_root { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request<'_>, config: &mut KernelConfig) -> Result<(), libc::c_int> {
        // As large as the kernel sends them: a write of the file system stays one write here.
        if let Err(at_most) = config.set_max_write(1 << 20) {
            let _ = config.set_max_write(at_most);
        }
        Ok(())
    }

    fn lookup(&mut self, _: &Request<'_>, _: u64, name: &OsStr, reply: ReplyEntry) {
        if name == DISK_NAME {
            reply.entry(&FOREVER, &self.attributes(DISK), 0);
        } else {
            reply.error(libc::ENOENT);
        }
    }

    fn getattr(&mut self, _: &Request<'_>, node: u64, _: Option<u64>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(node));
    }

    fn open(&mut self, _: &Request<'_>, _: u64, _: i32, reply: ReplyOpen) {
        // No cache between the loop device and this program.
        reply.opened(0, fuser::consts::FOPEN_DIRECT_IO);
    }

    fn read(&mut self, _: &Request<'_>, _: u64, _: u64, offset: i64, size: u32, _: i32, _: Option<u64>, reply: ReplyData) {
        let state = lock(&self.state);
        let offset = offset as u64;
        let end = (offset + u64::from(size)).min(self.bytes);
        let sectors = offset / SECTOR_BYTES as u64..end.div_ceil(SECTOR_BYTES as u64);
        if !sectors.is_empty() && state.faults.unreadable.range(sectors).next().is_some() {
            return reply.error(libc::EIO);
        }
        let mut buffer = vec![0; end.saturating_sub(offset) as usize];
        state.image.read(offset, &mut buffer);
        reply.data(&buffer);
    }

    fn write(&mut self, _: &Request<'_>, _: u64, _: u64, offset: i64, bytes: &[u8], _: u32, _: i32, _: Option<u64>, reply: ReplyWrite) {
        let mut state = lock(&self.state);
        if state.faults.write_fails() {
            return reply.error(libc::EIO);
        }
        state.image.write(offset as u64, bytes);
        if let Some(tape) = &mut state.tape {
            tape.ops.push(Op::Write { offset: offset as u64, bytes: bytes.into() });
        }
        reply.written(bytes.len() as u32);
    }

    fn fsync(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        let mut state = lock(&self.state);
        if state.faults.flush_fails() {
            return reply.error(libc::EIO);
        }
        if let Some(tape) = &mut state.tape {
            tape.ops.push(Op::Flush);
        }
        reply.ok();
    }

    fn flush(&mut self, _: &Request<'_>, _: u64, _: u64, _: u64, reply: ReplyEmpty) {
        // The close of a descriptor, not a flush of the disk.
        reply.ok();
    }

    fn fallocate(&mut self, _: &Request<'_>, _: u64, _: u64, offset: i64, length: i64, mode: i32, reply: ReplyEmpty) {
        if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) == 0 {
            return reply.error(libc::EOPNOTSUPP);
        }
        let mut state = lock(&self.state);
        if state.faults.write_fails() {
            return reply.error(libc::EIO);
        }
        let (offset, length) = (offset as u64, length as u64);
        state.image.zero(offset, length);
        if let Some(tape) = &mut state.tape {
            tape.ops.push(Op::Zero { offset, length });
        }
        reply.ok();
    }
}
