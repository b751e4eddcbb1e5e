//! The simulated directory: names, faults, power cuts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::{Fate, Plan};
use super::file::SimFile;
use super::inode::Inode;
use super::queue::Queued;
use super::trace::{Place, Trace};
use super::{Call, Failure, Fault, SimClock, SimEntropy, SimRandom};
use crate::disk::{Access, DirectoryLock, Disk, DiskFile, Environment, LockError, SharedMemory, WriteQueue};

/// A directory in memory that remembers what was synced.
///
/// Clones are the same disk; [`SimDisk::snapshot`] makes another one.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    block_bytes: Option<u32>,
    queue_inline_bytes_max: Option<usize>,
    is_followed: bool,
}

#[derive(Default)]
pub(super) struct State {
    exists: bool,
    locked: bool,
    pub(super) unplugged: bool,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// What has happened to names since the directory was synced, in order.
    renamed: Vec<(u64, NameChange)>,
    pub(super) inodes: Vec<Inode>,
    pub(super) plan: Plan,
    /// How much of a failing call is done after all; nothing without a seed.
    pub(super) chance: Option<SimRandom>,
    space_bytes: Option<u64>,
    /// What was handed to `remember`, the newest last; any of it may be what survives a power cut.
    beside: Vec<Vec<u8>>,
    /// Writes that were started and have not landed.
    pub(super) queued: Vec<Queued>,
    /// The most of them at a time.
    pub(super) queued_max: usize,
    counts: [u64; Call::ALL.len()],
    /// Number of the last call or change.
    number: u64,
    trace: Trace,
}

#[derive(Debug, Clone)]
enum NameChange {
    Put(String, usize),
    Moved(String, String, usize),
    /// Two names, each with the file that it leads to afterwards.
    Exchanged([(String, usize); 2]),
    Removed(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Put(name, inode) => drop(names.insert(name.clone(), *inode)),
            NameChange::Moved(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            NameChange::Exchanged(both) => names.extend(both.iter().cloned()),
            NameChange::Removed(name) => drop(names.remove(name)),
        }
    }
}

/// What a call is made on.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Name(&'a str),
    Inode(usize),
}

/// Which unsynced changes survive a power cut.
enum Keeps {
    Nothing,
    Everything,
    /// Those made before this one: a device that keeps the order.
    Before(u64),
    /// Each with this chance in 16: a device that does not.
    Some(u64, SimRandom),
}

impl Keeps {
    /// The extremes are met as often as what lies between: each finds other mistakes.
    fn draw(random: &mut SimRandom, oldest: u64, newest: u64) -> Keeps {
        match random.below(7) {
            0 => Keeps::Nothing,
            1 => Keeps::Everything,
            2 => Keeps::Before(oldest + random.below(newest + 2 - oldest)),
            fate => Keeps::Some([8, 8, 15, 1][fate as usize - 3], random.clone()),
        }
    }

    fn keeps(&mut self, number: u64) -> bool {
        match self {
            Keeps::Nothing => false,
            Keeps::Everything => true,
            Keeps::Before(end) => number < *end,
            Keeps::Some(chance, random) => random.below(16) < *chance,
        }
    }
}

impl State {
    /// The number of a change.
    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Whether a part of a failing call is done.
    pub(super) fn happens_anyway(&mut self) -> bool {
        self.chance.as_mut().is_some_and(|chance| chance.one_in(2))
    }

    fn changed(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        let number = self.next_number();
        self.renamed.push((number, change));
    }

    /// Whether a file may get this length.
    pub(super) fn check_space(&self, inode: usize, bytes: u64) -> io::Result<()> {
        let growth = bytes.saturating_sub(self.inodes[inode].bytes());
        let used = || self.names.values().map(|&inode| self.inodes[inode].bytes()).sum::<u64>();
        match self.space_bytes {
            Some(space) if growth > 0 && used() + growth > space => Err(Failure::NoSpace.error()),
            _ => Ok(()),
        }
    }

    /// Where a misdirected write of `bytes` at `offset` lands instead: an inode and an offset, if there is a place.
    pub(super) fn misdirect(&mut self, inode: usize, offset: u64, bytes: u64) -> Option<(usize, u64)> {
        let mut random = self.chance.clone().unwrap_or_else(|| SimRandom::new(self.number));
        let others: Vec<usize> = self.names.values().copied().collect();
        let chosen = if random.one_in(2) { inode } else { others[random.below(others.len() as u64) as usize] };
        let room = (self.inodes[chosen].durable.len() as u64).checked_sub(bytes)?;
        // The right place in the wrong file, or a wrong place: what a device gets wrong is the number of a sector.
        let place = if chosen != inode && offset <= room && random.one_in(2) { offset } else { random.below(room / 512 + 1) * 512 };
        ((chosen, place) != (inode, offset)).then_some((chosen, place))
    }
}

impl SimDisk {
    /// An empty disk with blocks of 4096 bytes, on which a failing call does nothing else.
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

    /// The same disk, where the seed decides how much of a failing call is done all the same: sectors of a write, sectors that a failed sync had
    /// already brought to the device, part of a reservation, a name that was changed although the answer was EIO.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> SimDisk {
        self.state().chance = Some(SimRandom::new(seed));
        self
    }

    /// The same disk, where several writes can be under way at a time, which land in an order of the seed's choice. A commit of at most so many bytes is
    /// written in the plain way if nothing else is under way.
    #[must_use]
    pub fn with_queue(mut self, inline_bytes_max: usize) -> SimDisk {
        self.queue_inline_bytes_max = Some(inline_bytes_max);
        self
    }

    /// The same disk, where a write is waited for before the next one.
    #[must_use]
    pub fn without_queue(mut self) -> SimDisk {
        self.queue_inline_bytes_max = None;
        self
    }

    /// The same disk, whose writer is told that somebody follows: it writes from memory that others may look at.
    #[must_use]
    pub fn followed(mut self, is_followed: bool) -> SimDisk {
        self.is_followed = is_followed;
        self
    }

    pub(super) fn queue_inline_bytes_max(&self) -> Option<usize> {
        self.queue_inline_bytes_max
    }

    /// The most writes that were under way at one time.
    #[must_use]
    pub fn writes_under_way_max(&self) -> usize {
        self.state().queued_max
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and traces a call, and asks the armed faults about it.
    pub(super) fn call<T>(
        &self,
        call: Call,
        target: Target<'_>,
        span: Option<(u64, u64)>,
        act: impl FnOnce(&mut State, Fate) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        if state.unplugged {
            return Err(Failure::Device.error());
        }
        state.counts[call as usize] += 1;
        let number = state.next_number();
        let fate = state.plan.meet(call);
        let result = act(&mut state, fate);
        if call == Call::Probe && result.is_ok() {
            // There are too many of them to be told.
            return result;
        }
        let note = match fate {
            Fate { failure: Some(_), .. } => " (injected)",
            Fate { misdirected: true, .. } => " (misdirected)",
            _ if state.plan.lies && matches!(call, Call::Sync | Call::SyncDirectory | Call::DropCache) => " (a lie)",
            _ => "",
        };
        let name = match target {
            Target::Name(name) => name.to_owned(),
            Target::Inode(inode) => state.inodes[inode].label.clone(),
        };
        state.trace.call(number, call, Place { name: &name, span }, note, result.as_ref().err());
        result
    }

    /// Arms a fault.
    pub fn inject(&self, fault: Fault) {
        self.note(&format!("armed {fault:?}"));
        self.state().plan.arm(fault);
    }

    /// Whether a fault is armed that no call has met yet.
    #[must_use]
    pub fn is_fault_waiting(&self) -> bool {
        self.state().plan.is_waiting()
    }

    /// Disarms all faults, gives back unlimited space and makes all sectors readable.
    pub fn heal(&self) {
        let mut state = self.state();
        (state.plan, state.space_bytes) = (Plan::default(), None);
        state.inodes.iter_mut().for_each(|inode| inode.unreadable.clear());
    }

    /// Limits the files to together that many bytes: what would make them longer fails with ENOSPC. What is there stays.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.note(&format!("space is {bytes:?}"));
        self.state().space_bytes = bytes;
    }

    /// Bytes of all files together, reserved ones included.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let state = self.state();
        state.names.values().map(|&inode| state.inodes[inode].bytes()).sum()
    }

    /// Makes every read that touches these bytes of a file fail with EIO.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn make_unreadable(&self, name: &str, range: Range<u64>) {
        let mut state = self.state();
        let inode = state.names[name];
        state.inodes[inode].unreadable.push(range);
    }

    /// Flips the bits of `mask` in one byte of a file, on the device and in the cache.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip(&self, name: &str, offset: u64, mask: u8) {
        let mut state = self.state();
        let number = state.next_number();
        state.trace.note(number, &format!("flipped {mask:#04x} in {name} at {offset}"));
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        inode.cached[offset as usize] ^= mask;
        if let Some(byte) = inode.durable.get_mut(offset as usize) {
            *byte ^= mask;
        }
    }

    /// Flips one bit somewhere before the last byte of a file that is not zero; says where.
    pub fn flip_somewhere(&self, seed: u64) -> Option<(String, u64)> {
        let mut random = SimRandom::new(seed);
        let used = |name: &String| self.content(name)?.iter().rposition(|&byte| byte != 0).map(|last| last as u64 + 1);
        let files: Vec<(String, u64)> = self.names().into_iter().filter_map(|name| used(&name).map(|used| (name, used))).collect();
        let (name, used) = files.get(random.below(files.len().max(1) as u64) as usize)?;
        let offset = random.below(*used);
        self.flip(name, offset, 1 << random.below(8));
        Some((name.clone(), offset))
    }

    /// Calls of one kind so far.
    #[must_use]
    pub fn count(&self, call: Call) -> u64 {
        self.state().counts[call as usize]
    }

    /// Calls of every kind so far, [`Call::Probe`] left out.
    #[must_use]
    pub fn calls(&self) -> u64 {
        let state = self.state();
        state.counts.iter().sum::<u64>() - state.counts[Call::Probe as usize]
    }

    /// The last calls, a line each, for the message of a failing test. A copy of a disk carries on its trace.
    #[must_use]
    pub fn trace(&self) -> String {
        self.state().trace.to_string()
    }

    /// Puts a line of the test's own into the trace.
    pub fn note(&self, text: &str) {
        let mut state = self.state();
        let number = state.next_number();
        state.trace.note(number, text);
    }

    /// Makes every further call fail with EIO. A log on this disk can then be dropped without leaving anything behind: as good as killed.
    pub fn unplug(&self) {
        self.state().unplugged = true;
    }

    /// Another disk with the same cache and device, as the next process finds it when this one was killed: unlocked, no faults armed.
    #[must_use]
    pub fn snapshot(&self) -> SimDisk {
        self.copy("copied", |state, after| {
            after.inodes.clone_from(&state.inodes);
            (after.names, after.durable_names) = (state.names.clone(), state.durable_names.clone());
            after.renamed.clone_from(&state.renamed);
            after.beside.clone_from(&state.beside);
            // The system finishes what it has begun, and drops what it has not.
            for queued in &state.queued {
                let sectors = after.inodes[queued.inode].take_queued(queued.number);
                if after.happens_anyway() {
                    sectors.iter().for_each(|(place, bytes)| after.inodes[queued.inode].write_through(*place, bytes));
                }
            }
        })
    }

    /// The disk after a power cut now, as the seed decides. This disk goes on as it was.
    ///
    /// Of what was not synced, any part may have survived: sectors of writes, lengths, names, each for itself.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimDisk {
        self.copy("the power was cut", |state, after| {
            let mut random = SimRandom::new(seed);
            let numbers = || {
                let written = state.inodes.iter().flat_map(|inode| inode.pending.iter().map(|pending| pending.number));
                written.chain(state.renamed.iter().map(|(number, _)| *number))
            };
            let (oldest, newest) = (numbers().min().unwrap_or(0), numbers().max().unwrap_or(0));
            let mut keeps = Keeps::draw(&mut random, oldest, newest);
            let mut names = state.durable_names.clone();
            for (number, change) in &state.renamed {
                if keeps.keeps(*number) {
                    change.apply(&mut names);
                }
            }
            let survivor =
                |inode: &Inode| Inode::settled(&inode.label, inode.survivor(|number| keeps.keeps(number)), inode.unreadable.clone());
            after.inodes = state.inodes.iter().map(survivor).collect();
            for (name, &inode) in &names {
                after.inodes[inode].label.clone_from(name);
            }
            (after.names, after.durable_names) = (names.clone(), names);
            let remembered = state.beside.len();
            let kept = if random.one_in(2) { remembered } else { random.below(remembered as u64 + 1) as usize };
            after.beside = state.beside[..kept].last().cloned().into_iter().collect();
        })
    }

    /// What every copy has in common: the device, but neither faults nor lock.
    fn copy(&self, note: &str, fill: impl FnOnce(&State, &mut State)) -> SimDisk {
        let state = self.state();
        let mut after = State {
            exists: state.exists,
            chance: state.chance.clone(),
            space_bytes: state.space_bytes,
            number: state.number + 1,
            trace: state.trace.clone(),
            ..State::default()
        };
        after.trace.note(after.number, note);
        fill(&state, &mut after);
        SimDisk { state: Arc::new(Mutex::new(after)), ..*self }
    }

    /// Names of the files as a program sees them now.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// Bytes of a file as a program sees them now.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let &inode = state.names.get(name)?;
        Some(state.inodes[inode].cached.clone())
    }

    /// Changes a file from outside, durably.
    pub fn overwrite(&self, name: &str, content: Vec<u8>) {
        let mut state = self.state();
        state.exists = true;
        let settled = Inode::settled(name, content, Vec::new());
        let inode = match state.names.get(name) {
            Some(&inode) => {
                state.inodes[inode] = settled;
                inode
            }
            None => {
                state.inodes.push(settled);
                state.inodes.len() - 1
            }
        };
        state.names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
    }

    /// Writes the files, as a program sees them now, into a real directory.
    ///
    /// # Errors
    /// Any error of the real file system.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        let state = self.state();
        state.names.iter().try_for_each(|(name, &inode)| fs::write(directory.join(name), &state.inodes[inode].cached))
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

    fn file(&self, inode: usize) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), inode })
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("names", &self.names()).finish_non_exhaustive()
    }
}

/// Fails as planned. After EIO nobody knows whether the change was made: the seed decides.
fn change_or_fail(state: &mut State, fate: Fate, change: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
    match fate.failure {
        None => change(state),
        Some(failure) => {
            if failure == Failure::Device && state.happens_anyway() {
                change(state)?;
            }
            Err(failure.error())
        }
    }
}

impl Disk for SimDisk {
    fn create_directory(&self) -> io::Result<()> {
        self.call(Call::CreateDirectory, Target::Name(""), None, |state, fate| {
            change_or_fail(state, fate, |state| {
                state.exists = true;
                Ok(())
            })
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.call(Call::List, Target::Name(""), None, |state, fate| match fate.failure {
            Some(failure) => Err(failure.error()),
            None if state.exists => Ok(state.names.keys().cloned().collect()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.call(Call::Open, Target::Name(name), None, |state, fate| match fate.failure {
            Some(failure) => Err(failure.error()),
            None => state.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into()),
        });
        Ok(self.file(inode?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut created = 0;
        self.call(Call::Create, Target::Name(name), None, |state, fate| {
            if !state.exists {
                return Err(io::ErrorKind::NotFound.into());
            }
            change_or_fail(state, fate, |state| {
                if let Some(&inode) = state.names.get(name) {
                    created = inode;
                    let number = state.next_number();
                    state.inodes[inode].set_length(number, 0);
                } else {
                    created = state.inodes.len();
                    state.inodes.push(Inode { label: name.to_owned(), ..Inode::default() });
                    state.changed(NameChange::Put(name.to_owned(), created));
                }
                Ok(())
            })
        })?;
        Ok(self.file(created))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Call::Rename, Target::Name(from), None, |state, fate| {
            change_or_fail(state, fate, |state| {
                let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
                to.clone_into(&mut state.inodes[inode].label);
                state.changed(NameChange::Moved(from.to_owned(), to.to_owned(), inode));
                Ok(())
            })
        })
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Call::Replace, Target::Name(from), None, |state, fate| {
            change_or_fail(state, fate, |state| {
                let inode = |name: &str| state.names.get(name).copied().ok_or(io::ErrorKind::NotFound);
                let (new, old) = (inode(from)?, inode(to)?);
                to.clone_into(&mut state.inodes[new].label);
                from.clone_into(&mut state.inodes[old].label);
                state.changed(NameChange::Exchanged([(to.to_owned(), new), (from.to_owned(), old)]));
                Ok(())
            })
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(Call::Remove, Target::Name(name), None, |state, fate| {
            change_or_fail(state, fate, |state| {
                if !state.names.contains_key(name) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                state.changed(NameChange::Removed(name.to_owned()));
                Ok(())
            })
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.call(Call::SyncDirectory, Target::Name(""), None, |state, fate| {
            // After a failure the names stay on their way: a file system whose journal fails takes nothing more, so no later sync forgets them.
            if let Some(failure) = fate.failure {
                return Err(failure.error());
            }
            if !state.plan.lies {
                state.durable_names = state.names.clone();
                state.renamed.clear();
            }
            Ok(())
        })
    }

    fn lock(&self) -> Result<Box<dyn DirectoryLock>, LockError> {
        let was_locked = self.call(Call::Lock, Target::Name(""), None, |state, fate| match fate.failure {
            Some(failure) => Err(failure.error()),
            None => Ok(std::mem::replace(&mut state.locked, true)),
        });
        match was_locked {
            Ok(false) => Ok(Box::new(SimLock(self.clone()))),
            Ok(true) => Err(LockError::Held { owner: "another log of this simulation".into() }),
            Err(error) => Err(LockError::Io(error)),
        }
    }

    fn is_followed(&self) -> bool {
        self.is_followed
    }

    fn create_memory(&self, bytes: u64) -> Option<SharedMemory> {
        SharedMemory::create(bytes)
    }

    fn block_bytes(&self) -> u32 {
        self.block_bytes.unwrap_or(4096)
    }

    fn write_path(&self) -> &'static str {
        "simulated"
    }

    fn queue(&self) -> Option<&dyn WriteQueue> {
        self.queue_inline_bytes_max.map(|_| self as &dyn WriteQueue)
    }

    fn remembered(&self) -> io::Result<Option<Vec<u8>>> {
        self.call(Call::Remembered, Target::Name(""), None, |state, fate| match fate.failure {
            Some(failure) => Err(failure.error()),
            None => Ok(state.beside.last().cloned()),
        })
    }

    fn remember(&self, bytes: &[u8]) -> io::Result<()> {
        self.call(Call::Remember, Target::Name(""), None, |state, fate| {
            change_or_fail(state, fate, |state| {
                state.beside.push(bytes.to_vec());
                Ok(())
            })
        })
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
