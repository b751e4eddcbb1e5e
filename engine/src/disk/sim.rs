//! A simulated disk, clock and source of randomness (feature `sim`).
//!
//! The disk keeps for every file what is on stable storage and what was only written. [`SimDisk::crash`] gives the disk as it might look after a
//! power cut: unsynced writes are kept, lost or torn sector by sector, and unsynced names come or stay away, all decided by one seed.
//! The same seed always gives the same disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chainring_format::limits::SECTOR_BYTES;

use super::{Access, Clock, DirectoryLock, Disk, DiskFile, Entropy, Environment, LockError, Region};

/// A small deterministic generator (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct SimRandom(u64);

impl SimRandom {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> SimRandom {
        SimRandom(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

/// A write, sync or other call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The n-th write from now on (1 is the next) fails with EIO.
    Write(u64),
    /// The n-th sync from now on fails with EIO; what was written before is lost for the device.
    Sync(u64),
    /// Reserving space fails from now on, as on a full disk.
    Full,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    durable: Vec<u8>,
    volatile: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

fn apply_length(content: &mut Vec<u8>, bytes: u64) {
    content.resize(usize::try_from(bytes).expect("simulated files are small"), 0);
}

fn apply_write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

impl Inode {
    fn sync(&mut self) {
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Write { offset, bytes } => apply_write(&mut self.durable, offset, &bytes),
                Pending::Length(bytes) => apply_length(&mut self.durable, bytes),
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    directory: bool,
    locked: bool,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    inodes: Vec<Inode>,
    fail_write: Option<u64>,
    fail_sync: Option<u64>,
    full: bool,
    syncs: u64,
    writes: u64,
}

/// Counts down to a failing call.
fn due(counter: &mut Option<u64>) -> bool {
    match counter {
        Some(1) => {
            *counter = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

/// A directory in memory that remembers what was synced.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    block_bytes: Option<u32>,
}

impl SimDisk {
    /// An empty disk with blocks of 4096 bytes.
    #[must_use]
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// The same disk, stating another block size.
    #[must_use]
    pub fn with_block_bytes(mut self, block_bytes: u32) -> SimDisk {
        self.block_bytes = Some(block_bytes);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms a fault.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.state();
        match fault {
            Fault::Write(n) => state.fail_write = Some(n),
            Fault::Sync(n) => state.fail_sync = Some(n),
            Fault::Full => state.full = true,
        }
    }

    /// Disarms all faults.
    pub fn heal(&self) {
        let mut state = self.state();
        (state.fail_write, state.fail_sync, state.full) = (None, None, false);
    }

    /// Writes and syncs so far.
    #[must_use]
    pub fn calls(&self) -> (u64, u64) {
        let state = self.state();
        (state.writes, state.syncs)
    }

    /// The disk after a power cut now, as the seed decides. This disk goes on as it was.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimDisk {
        let mut random = SimRandom::new(seed);
        let state = self.state();
        // Four kinds of fate, so that the extremes are met often: of what is unsynced nothing survives, all of it, random sectors, or of every write
        // the sectors up to some place.
        let fate = random.below(5);
        let mut cut = 0;
        let mut keep = move |sector: u64, sectors: u64| match fate {
            0 => false,
            1 => true,
            2 => {
                if sector == 0 {
                    cut = random.below(sectors + 1);
                }
                sector < cut
            }
            _ => random.below(2) == 0,
        };
        let inodes = state
            .inodes
            .iter()
            .map(|inode| {
                let mut content = inode.durable.clone();
                for pending in &inode.pending {
                    match pending {
                        Pending::Length(bytes) => {
                            if keep(0, 1) {
                                apply_length(&mut content, *bytes);
                            }
                        }
                        Pending::Write { offset, bytes } => {
                            // Writes of the engine start at sectors, so a write is torn into chunks of one.
                            let sectors = bytes.len().div_ceil(SECTOR_BYTES) as u64;
                            for (sector, chunk) in bytes.chunks(SECTOR_BYTES).enumerate() {
                                if keep(sector as u64, sectors) {
                                    apply_write(&mut content, offset + (sector * SECTOR_BYTES) as u64, chunk);
                                }
                            }
                        }
                    }
                }
                Inode { durable: content.clone(), volatile: content, pending: Vec::new() }
            })
            .collect();
        let names = if keep(0, 1) { state.names.clone() } else { state.durable_names.clone() };
        let after = State { directory: state.directory, durable_names: names.clone(), names, inodes, ..State::default() };
        SimDisk { state: Arc::new(Mutex::new(after)), block_bytes: self.block_bytes }
    }

    /// Bytes of a file as a program sees them now.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let &inode = state.names.get(name)?;
        Some(state.inodes[inode].volatile.clone())
    }

    /// Changes a file from outside, durably.
    pub fn overwrite(&self, name: &str, content: Vec<u8>) {
        let mut state = self.state();
        let inode = Inode { durable: content.clone(), volatile: content, pending: Vec::new() };
        state.inodes.push(inode);
        let number = state.inodes.len() - 1;
        state.directory = true;
        state.names.insert(name.to_owned(), number);
        state.durable_names.insert(name.to_owned(), number);
    }

    /// An environment with this disk, a clock that ticks by itself, and randomness from the seed.
    #[must_use]
    pub fn environment(&self, seed: u64) -> Environment {
        Environment {
            disk: Arc::new(self.clone()),
            clock: Arc::new(SimClock::new(1_700_000_000_000_000_000, 1000)),
            entropy: Arc::new(SimEntropy::new(seed)),
        }
    }
}

impl Disk for SimDisk {
    fn create_directory(&self) -> io::Result<()> {
        self.state().directory = true;
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.directory {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state.names.keys().cloned().collect())
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let inode = *self.state().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.names.insert(name.to_owned(), inode);
        drop(state);
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        state.syncs += 1;
        if due(&mut state.fail_sync) {
            return Err(eio());
        }
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn DirectoryLock>, LockError> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(LockError::Held { owner: "another log of this simulation".into() });
        }
        Ok(Box::new(SimLock(self.clone())))
    }

    fn block_bytes(&self) -> u32 {
        self.block_bytes.unwrap_or(4096)
    }

    fn write_path(&self) -> &'static str {
        "simulated"
    }
}

#[derive(Debug)]
struct SimLock(SimDisk);

impl DirectoryLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl SimFile {
    fn with<T>(&self, f: impl FnOnce(&mut Inode) -> T) -> T {
        f(&mut self.disk.state().inodes[self.inode])
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs += 1;
        if due(&mut state.fail_sync) {
            // As measured on ext4, xfs and btrfs: the pages are marked clean, so a later sync succeeds and the bytes never reach the device.
            state.inodes[self.inode].pending.clear();
            return Err(eio());
        }
        state.inodes[self.inode].sync();
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.with(|inode| inode.volatile.len() as u64))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|inode| {
            let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(inode.volatile.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.writes += 1;
        if due(&mut state.fail_write) {
            return Err(eio());
        }
        let inode = &mut state.inodes[self.inode];
        apply_write(&mut inode.volatile, offset, bytes);
        inode.pending.push(Pending::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        if self.disk.state().full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.set_bytes(self.bytes()?.max(bytes))
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.with(|inode| {
            apply_length(&mut inode.volatile, bytes);
            inode.pending.push(Pending::Length(bytes));
        });
        Ok(())
    }

    fn region(&self, bytes: usize) -> io::Result<Region> {
        let mut content = vec![0; bytes];
        self.read_exact_at(&mut content, 0)?;
        Ok(Region::memory(content))
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.sync()?;
        self.with(|inode| inode.volatile = inode.durable.clone());
        Ok(())
    }
}

/// A clock that is set by hand and ticks by a fixed step at every reading.
#[derive(Debug)]
pub struct SimClock {
    realtime_ns: AtomicU64,
    monotonic_ns: AtomicU64,
    step_ns: u64,
}

impl SimClock {
    /// Starts at an instant and advances by `step_ns` whenever the time of day is read.
    #[must_use]
    pub fn new(realtime_ns: u64, step_ns: u64) -> SimClock {
        SimClock { realtime_ns: AtomicU64::new(realtime_ns), monotonic_ns: AtomicU64::new(0), step_ns }
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, by_ns: u64) {
        self.realtime_ns.fetch_add(by_ns, Ordering::Relaxed);
        self.monotonic_ns.fetch_add(by_ns, Ordering::Relaxed);
    }

    /// Sets the time of day without time passing, as a wrong or hostile administrator would.
    pub fn step_to(&self, realtime_ns: u64) {
        self.realtime_ns.store(realtime_ns, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn realtime_ns(&self) -> u64 {
        self.monotonic_ns.fetch_add(self.step_ns, Ordering::Relaxed);
        self.realtime_ns.fetch_add(self.step_ns, Ordering::Relaxed)
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.load(Ordering::Relaxed)
    }
}

/// Randomness from a seed.
#[derive(Debug)]
pub struct SimEntropy(Mutex<SimRandom>);

impl SimEntropy {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> SimEntropy {
        SimEntropy(Mutex::new(SimRandom::new(seed)))
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next_u64().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
