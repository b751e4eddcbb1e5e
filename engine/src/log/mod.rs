//! L5: the front door. Open a store, hand requests in, get receipts back.
//!
//! [`Log`] is the one writer; it can be shared between threads by reference. [`Store`] only reads, and so a log can be asked everything a store can.
//! Absent on purpose: any decision about an append (sequencer), any way of reading the past (query).

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chainring_format::segment::file_name;
use chainring_format::{EventId, FORMAT_VERSION, Link, Position};

use crate::disk::{Access, Clock, Environment, LockError};
use crate::error::{AppendError, Fault, OpenError, ReadError, Watermark};
use crate::segment::Tail;
use crate::sequencer::{self, Brakes, Chores, CoreOptions, Founding, Mark, Patience, Receipt, Recovered, Remembered, Sequencer, Shared};
use crate::sync::Arc;
use crate::sync::model::{Mutex, lock};
use draws::Draws;
use keeper::Keeper;

mod draws;
mod event;
mod index;
mod keeper;
mod options;
mod pack;
mod pending;
mod request;
mod write_batch;

pub use event::Event;
pub use index::IndexReport;
use options::HEADS_BYTES_MAX_DEFAULT;
pub use options::Options;
pub use pack::{PackFailure, PackReport};
pub use pending::Pending;
pub use request::Request;
pub use write_batch::WriteBatch;

/// What opening found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// There was no store; one was made.
    Created,
    /// It had been closed in order.
    Clean,
    /// Its writer had died; nothing had to be cut.
    Killed,
    /// Its writer had died; a torn write behind the last valid commit was cut off.
    Torn,
}

/// What opening found and did.
#[derive(Debug, Clone)]
pub struct OpenReport {
    /// In what state the store was.
    pub opened: Opened,
    /// Number of this writable open; for a read-only one, of the last.
    pub epoch: u64,
    /// Records found.
    pub records: u64,
    /// How far the store itself says that it was durable, and what in it says so. Nothing below this is ever cut.
    pub watermark: Watermark,
    /// Bytes that were cut off, or would be by a writer: from the last valid commit to the last byte that is not zero. None of them was acknowledged,
    /// as far as the store can tell.
    pub cut_bytes: u64,
    /// Where and why.
    pub cut: Option<Fault>,
    /// The mark beside the store remembers more of this log, or another history, than the store holds: it seems to have been put back to an
    /// earlier state. See [`Options::remember`].
    pub rollback: Option<Fault>,
}

/// How large a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Segment files.
    pub segments: u64,
    /// How many of them are packed: written anew without padding.
    pub packed_segments: u64,
    /// Durable events.
    pub events: u64,
    /// Durable records: events and the engine's own.
    pub records: u64,
    /// Streams.
    pub streams: u64,
    /// Bytes of headers, commits and footers.
    pub bytes: u64,
    /// Size of a segment the store was made with.
    pub segment_bytes: u64,
    /// Format version.
    pub format_version: u16,
    /// How bytes get to the disk.
    pub write_path: &'static str,
    /// Number of the last writable open.
    pub epoch: u64,
    /// Name the log was created with.
    pub origin: String,
    /// Link of the genesis record.
    pub log_id: Link,
}

/// A store, for reading. Opening one takes no lock and never writes; it shows what recovery would keep, and of what another process writes at this moment
/// only what is durable. It does not change until it is asked to: [`Store::refresh`].
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    directory: PathBuf,
    report: OpenReport,
    origin: String,
    log_id: Link,
    segment_bytes: u64,
    write_path: &'static str,
}

impl Store {
    /// Opens the store in a directory for reading.
    ///
    /// # Errors
    /// [`OpenError::NotAStore`], [`OpenError::Damaged`] and what the device says.
    pub fn open(directory: impl AsRef<Path>) -> Result<Store, OpenError> {
        let directory = directory.as_ref();
        Store::open_in(&Environment::system(directory), directory)
    }

    /// As [`Store::open`], in another environment; the directory is only named in messages.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_in(environment: &Environment, directory: &Path) -> Result<Store, OpenError> {
        let recovered = sequencer::recover(&environment.disk, directory, Access::Read)?;
        let mut report = report(&recovered, recovered.epoch);
        report.rollback = rollback(environment, &recovered)?;
        let (origin, log_id, segment_bytes) = (recovered.origin.clone(), recovered.log_id, recovered.segment_bytes);
        let shared = Shared::following(recovered, &environment.disk, directory);
        Ok(Store {
            shared,
            directory: directory.to_owned(),
            report,
            origin,
            log_id,
            segment_bytes,
            write_path: environment.disk.write_path(),
        })
    }

    /// Takes in what the writer of the store, in another process, has made durable since it was opened or refreshed. Whether there is anything new; views
    /// that are held do not change. Of a [`Log`] there never is: what it appends is there.
    ///
    /// # Errors
    /// As for [`Store::open`]: the store was damaged, put back to an earlier state, or cannot be read.
    pub fn refresh(&self) -> Result<bool, OpenError> {
        self.shared.refresh()
    }

    /// What opening found.
    #[must_use]
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Where the store lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Name the log was created with.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Link of the genesis record: the id of the log.
    #[must_use]
    pub fn log_id(&self) -> Link {
        self.log_id
    }

    /// How large the store is now. Counting the streams of a store that another process writes, it reads what has come since something was asked last.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let catalog = self.shared.catalog();
        let records = self.shared.watermark();
        Stats {
            segments: catalog.len() as u64,
            packed_segments: (0..catalog.len()).filter(|&index| catalog.segment(index).is_packed()).count() as u64,
            events: self.shared.event_count(),
            records,
            streams: self.shared.stream_count(),
            bytes: (0..catalog.len()).map(|index| catalog.segment(index).used_bytes()).sum(),
            segment_bytes: self.segment_bytes,
            format_version: FORMAT_VERSION,
            write_path: self.write_path,
            epoch: self.report.epoch,
            origin: self.origin.clone(),
            log_id: self.log_id,
        }
    }

    /// Position of the event with this id, if it is durable.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn locate(&self, id: EventId) -> Result<Option<Position>, ReadError> {
        let position = self.shared.position_of(&id)?;
        Ok(position.filter(|position| *position < self.shared.watermark()).map(Position))
    }
}

fn report(recovered: &Recovered, epoch: u64) -> OpenReport {
    let cut = recovered.torn();
    let opened = match recovered.tail {
        _ if recovered.closed => Opened::Clean,
        Tail::Torn { .. } => Opened::Torn,
        _ => Opened::Killed,
    };
    OpenReport {
        opened,
        epoch,
        records: recovered.next_position,
        watermark: recovered.watermark.clone(),
        cut_bytes: cut.as_ref().map_or(0, |(_, bytes)| *bytes),
        cut: cut.map(|(fault, _)| fault),
        rollback: None,
    }
}

/// Rule R4, for one thing remembered.
fn check_remembered(recovered: &Recovered, seen: &Remembered) -> Result<Option<Fault>, OpenError> {
    let position = seen.position.0;
    let found = (position < recovered.next_position).then(|| recovered.catalog.frame(position)).transpose();
    let found = found.map_err(OpenError::from)?;
    let last = recovered.last.header.number.get();
    Ok(seen.fault(recovered.next_position, found.map(|frame| frame.link()), &file_name(last), recovered.last.end))
}

/// What the mark beside the store has to say against it.
fn rollback(environment: &Environment, recovered: &Recovered) -> Result<Option<Fault>, OpenError> {
    let mark = Mark::find(&*environment.disk, recovered.log_id);
    mark.map_or(Ok(None), |mark| check_remembered(recovered, &mark.seen))
}

/// A log, for appending and reading: the one writer of its store.
///
/// Appends from many threads share syncs. Dropping a log closes it; [`Log::close`] also says whether that worked.
#[derive(Debug)]
pub struct Log {
    sequencer: Arc<Sequencer>,
    store: Store,
    environment: Environment,
    draws: Draws,
    keeper: Arc<Keeper>,
    /// What [`Log::tick`] remembers.
    chores: Mutex<Chores>,
}

impl Deref for Log {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Log {
    /// Opens the log in a directory with default options: creates it, recovers it, or refuses with a reason.
    ///
    /// # Errors
    /// Everything [`Options::open`] can say.
    pub fn open(directory: impl AsRef<Path>) -> Result<Log, OpenError> {
        Options::new().open(directory)
    }

    fn open_with(options: &Options, environment: Environment, directory: &Path) -> Result<Log, OpenError> {
        options.check()?;
        let disk = &*environment.disk;
        let exists = match sequencer::segment_numbers(disk, directory) {
            Ok(_) => true,
            Err(OpenError::NotAStore { .. }) if !options.existing_only && options.expected.is_empty() => false,
            Err(error) => return Err(error),
        };
        if !exists {
            disk.create_directory().map_err(OpenError::io(format!("creating {}", directory.display())))?;
        }
        let lock = disk.lock().map_err(|error| match error {
            LockError::Held { owner } => OpenError::Locked { owner },
            LockError::Io(source) => OpenError::Io { doing: format!("locking {}", directory.display()), source },
        })?;
        let mut seed = [0; 32];
        environment.entropy.fill(&mut seed).map_err(OpenError::io("drawing randomness"))?;
        // Asked again under the lock: another process may have made the store meanwhile.
        let names = sequencer::list(disk, directory)?;
        let created = match sequencer::numbers_among(&names, directory) {
            Ok(_) => false,
            Err(OpenError::NotAStore { .. }) => true,
            Err(error) => return Err(error),
        };
        let spares = remove_leftovers(&environment, names)?;
        let block_bytes = disk.block_bytes();
        let mut core_options = CoreOptions {
            segment_bytes: options.segment_bytes_on(block_bytes, None),
            block_bytes,
            accept_clock_jump: options.accept_clock_jump,
            remember: options.remember,
            heads_bytes_max: options.heads_bytes_max.unwrap_or(HEADS_BYTES_MAX_DEFAULT),
        };
        if created {
            let founding = Founding { origin: &options.origin, log_key: options.log_key };
            sequencer::create(&environment, &core_options, &seed, &founding)?;
        }
        let recovered = sequencer::recover(&environment.disk, directory, Access::Write)?;
        recovered.check_writable()?;
        for seen in &options.expected {
            check_remembered(&recovered, seen)?.map_or(Ok(()), |fault| Err(OpenError::Damaged(fault)))?;
        }
        core_options.segment_bytes = options.segment_bytes_on(block_bytes, Some(recovered.segment_bytes));
        let mut report = report(&recovered, recovered.epoch + 1);
        if created {
            report.opened = Opened::Created;
        } else {
            report.rollback = rollback(&environment, &recovered)?;
            // What shows an accident is not written over by whoever goes on after it.
            core_options.remember &= report.rollback.is_none() || options.accept_rollback;
        }
        let seed = open_seed(&seed, &recovered);
        let (origin, log_id, segment_bytes) = (recovered.origin.clone(), recovered.log_id, recovered.segment_bytes);
        let has_keeper = options.keeper.unwrap_or_else(|| environment.clock.passes());
        let sequencer = sequencer::begin(recovered, created, environment.clone(), core_options, seed, lock)?;
        report.epoch = sequencer.opened_epoch();
        sequencer.remove_later(spares);
        let store = Store {
            shared: Arc::clone(sequencer.shared()),
            directory: directory.to_owned(),
            report,
            origin,
            log_id,
            segment_bytes,
            write_path: disk.write_path(),
        };
        Ok(Log {
            sequencer: Arc::new(sequencer),
            store,
            environment,
            draws: Draws::new(seed),
            keeper: Arc::new(Keeper::new(has_keeper)),
            chores: Mutex::default(),
        })
    }

    /// An empty batch, in memory that an earlier one was placed from, if there is any.
    #[must_use]
    pub fn write_batch(&self) -> WriteBatch {
        WriteBatch::new(self.sequencer.parcel())
    }

    /// Appends and waits until it is durable, or at the level that the request names.
    ///
    /// # Errors
    /// See [`AppendError`]; everything but [`AppendError::OutcomeUnknown`] means that nothing was appended.
    pub fn append(&self, request: impl Into<Request>) -> Result<Receipt, AppendError> {
        self.hand_in(request.into(), Patience::Unbounded)?.wait()
    }

    /// Hands a request in and returns at once, unless too much is under way already: then it waits for room. Requests that were submitted one after the
    /// other, by one thread or by threads that know of each other, are sequenced in that order.
    ///
    /// # Errors
    /// What can be said before the request is sequenced: limits, poison, closed.
    pub fn submit(&self, request: impl Into<Request>) -> Result<Pending, AppendError> {
        self.hand_in(request.into(), Patience::Unbounded)
    }

    /// As [`Log::submit`], but never waits.
    ///
    /// # Errors
    /// [`AppendError::Full`] if there is no room; else as [`Log::submit`].
    pub fn try_submit(&self, request: impl Into<Request>) -> Result<Pending, AppendError> {
        self.hand_in(request.into(), Patience::None)
    }

    /// As [`Log::submit`], but waits for room no longer than `at_most`.
    ///
    /// # Errors
    /// [`AppendError::Full`] if there is no room by then; else as [`Log::submit`].
    pub fn submit_timeout(&self, request: impl Into<Request>, at_most: Duration) -> Result<Pending, AppendError> {
        let at_most_ns = u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = self.environment.clock.monotonic_ns().saturating_add(at_most_ns);
        self.hand_in(request.into(), Patience::Until(deadline_ns))
    }

    fn hand_in(&self, request: Request, patience: Patience) -> Result<Pending, AppendError> {
        let clock = &*self.environment.clock;
        let slot = request.publish(&self.sequencer, &self.draws, patience, clock)?;
        self.keeper.call(&self.sequencer, &self.environment.clock);
        Ok(Pending::new(Arc::clone(&self.sequencer), slot, Arc::clone(&self.environment.clock), Arc::clone(&self.keeper)))
    }

    /// Does a bounded piece of what the keeper thread does: leads appends that nobody waits for, lands commits, syncs what was only written, makes the
    /// next segment ready, brings a segment that has ended into the index. For a log without a keeper ([`Options::keeper`]), to be called every few milliseconds while it is used.
    ///
    /// Returns when to come again; `None` if there is no reason to before the next append.
    pub fn tick(&self) -> Option<Duration> {
        let again = self.sequencer.tick(&mut lock(&self.chores), &*self.environment.clock);
        if !self.sequencer.has_index_work() {
            return again;
        }
        // What fails is tried again when another segment has ended.
        let _ = self.sequencer.index_next();
        Some(Duration::ZERO)
    }

    /// What those above work with who append records of the engine's own.
    pub(crate) fn parts(&self) -> (&Arc<Sequencer>, &Environment) {
        (&self.sequencer, &self.environment)
    }

    /// What is in force at the end of the log.
    pub(crate) fn brakes(&self) -> Arc<Brakes> {
        self.sequencer.shared().brakes()
    }

    /// The clock that the log goes by.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.environment.clock
    }

    /// Makes everything submitted so far durable, whatever level it asked for.
    ///
    /// # Errors
    /// [`AppendError::Poisoned`].
    pub fn sync(&self) -> Result<(), AppendError> {
        self.sequencer.sync()
    }

    /// Makes everything durable, writes the closing commit and lets another writer in.
    ///
    /// # Errors
    /// [`AppendError::Poisoned`]: what was not acknowledged may or may not be in the log.
    pub fn close(self) -> Result<(), AppendError> {
        self.shut()
    }

    fn shut(&self) -> Result<(), AppendError> {
        if !self.sequencer.is_fork() {
            self.keeper.stop();
        }
        self.sequencer.close()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _ = self.shut();
    }
}

/// What salts and drawn ids of this open are derived from. A source of randomness that repeats itself, as in a machine that was restored from a
/// snapshot, still gives other ids at another place of the log.
fn open_seed(drawn: &[u8; 32], recovered: &Recovered) -> [u8; 32] {
    let mut input = [0; 48];
    input[..32].copy_from_slice(&recovered.log_id.0);
    input[32..40].copy_from_slice(&recovered.epoch.to_le_bytes());
    input[40..].copy_from_slice(&recovered.next_position.to_le_bytes());
    *blake3::keyed_hash(drawn, &input).as_bytes()
}

/// Removes what a writer that died has left, of the files with these names: a segment under construction, or that it was packing, before or after. None of
/// it is part of the store. Returns the names of segments that it had made ready and not begun, which are in nobody's way and take their time.
fn remove_leftovers(environment: &Environment, names: Vec<String>) -> Result<Vec<String>, OpenError> {
    let disk = &*environment.disk;
    let (spares, names): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| sequencer::is_spare(name));
    let leftovers: Vec<&String> = names.iter().filter(|name| name.ends_with(".seg.tmp")).collect();
    if !leftovers.is_empty() {
        // One of them may be what the device still knows under a segment's name.
        disk.sync_directory().map_err(OpenError::io("syncing the names of the segments"))?;
    }
    for name in leftovers {
        disk.remove(name).map_err(OpenError::io(format!("removing {name}")))?;
    }
    Ok(spares)
}
