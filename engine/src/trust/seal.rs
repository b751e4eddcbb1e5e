//! Sealing: a record that binds everything before it, and a signed checkpoint over both. Beside the way of an append; nobody who appends waits for it.
//!
//! Always: only what is durable is sealed and signed; what was signed is remembered before it is shown; a log whose past is not the one that was signed is
//! not signed for again.

use std::fmt;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chainring_format::frame::BACK_FAR;
use chainring_format::hash::Hash;
use chainring_format::limits::{BUCKET_COUNT, ENGINE_LANE};
use chainring_format::record::{ARTEFACT_BYTES_MAX, AnchorHead, KIND_ANCHOR, KIND_KEY, KIND_SEAL, KeyBody, SealBody, key_statement};
use chainring_format::tree::HeadsTree;
use chainring_format::{Link, Position};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::Signer;
use super::note::{ParsedNote, TreeHead, checkpoint_text, note_name, parse_note, signed_note, verifier_key};
use super::tree::{Tree, root};
use crate::disk::{Access, Disk, Environment, read_small};
use crate::error::{AppendError, ReadError};
use crate::log::Log;
use crate::segment::Catalog;
use crate::sequencer::{EventReceipt, LinkedRecord, SealingTurn, Sequencer, Shared, StatementDraft, Stretch};
use crate::sync::model::{Mutex, lock};
use crate::sync::{Arc, AtomicBool, Ordering};

/// Name of the file with the last checkpoint.
pub(super) const CHECKPOINT_FILE: &str = "checkpoint.note";
/// Longest note that is read.
const NOTE_BYTES_MAX: u64 = 64 << 10;
/// A seal that came too late for its segment is made again; at full speed that happens once in a segment.
const TRIES_MAX: usize = 64;

/// Why a log is not sealed or signed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SealError {
    /// The record could not be appended.
    Append(AppendError),
    /// The log could not be read.
    Read(ReadError),
    /// Another sealer of this log is there.
    Busy,
    /// Another key is in force.
    OtherKey {
        /// The key in force, as verifiers are configured with it.
        in_force: String,
    },
    /// A checkpoint was signed that this log does not lead to: the store seems to have been put back to an earlier state, or to be another branch of the
    /// log. Signing again would vouch for two histories.
    RollbackSuspected {
        /// Size of the checkpoint that was signed.
        signed_size: u64,
        /// Records the log has.
        records: u64,
    },
    /// The signer, or where the checkpoint is to be kept, failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// An artefact is empty or longer than 1 MiB, or about a checkpoint that the log has not reached.
    InvalidAnchor,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealError::Append(error) => error.fmt(f),
            SealError::Read(error) => error.fmt(f),
            SealError::Busy => f.write_str("the log is being sealed by somebody else"),
            SealError::OtherKey { in_force } => write!(f, "another key signs for this log: {in_force}; rotate to sign with this one"),
            SealError::RollbackSuspected { signed_size, records } => write!(
                f,
                "rollback suspected: a checkpoint over {signed_size} records was signed that this log of {records} records does not lead to; nothing is signed"
            ),
            SealError::Io { doing, source } => write!(f, "{doing}: {source}"),
            SealError::InvalidAnchor => f.write_str("an artefact has 1 byte to 1 MiB and is about a checkpoint of this log"),
        }
    }
}

impl std::error::Error for SealError {}

impl From<AppendError> for SealError {
    fn from(error: AppendError) -> SealError {
        SealError::Append(error)
    }
}

impl From<ReadError> for SealError {
    fn from(error: ReadError) -> SealError {
        SealError::Read(error)
    }
}

impl SealError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> SealError {
        move |source| SealError::Io { doing, source: Arc::new(source) }
    }
}

/// A signed statement of what the log is, up to a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Size and root.
    pub head: TreeHead,
    /// Events that its seal is over.
    pub events: u64,
    /// When it was made, by the engine's clock, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The C2SP signed note, the log's signature only: these bytes are what is time-stamped.
    pub note: String,
}

/// Form of an artefact that came back from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AnchorForm {
    /// Reply of a time stamping authority (RFC 3161).
    Rfc3161 = 1,
    /// OpenTimestamps proof.
    OpenTimestamps = 2,
    /// The checkpoint with the signatures of others.
    Note = 3,
    /// Anything else.
    Other = 4,
}

/// What the last seal in the log says, and where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastSeal {
    pub body: SealBody,
    pub link: Link,
}

/// Position of the engine's own record before the one at a position; `None` before the genesis record.
pub(super) fn statement_before(catalog: &Catalog, position: u64) -> Result<Option<u64>, ReadError> {
    let distance = catalog.frame(position)?.header.bucket_back.get();
    let Some(mut before) = position.checked_sub(distance.into()).filter(|_| distance > 0) else { return Ok(None) };
    // That far or farther: some four billion events in a row.
    while distance == BACK_FAR && catalog.frame(before)?.is_event() {
        before -= 1;
    }
    Ok(Some(before))
}

/// Walks the engine's lane back from its last record: the last seal, and the key in force.
pub(super) fn last_seal(catalog: &Catalog, mut position: u64) -> Result<(Option<LastSeal>, Hash), ReadError> {
    let mut key = None;
    loop {
        let frame = catalog.frame(position)?;
        let body = frame.body().unwrap_or_default();
        match frame.header.kind {
            KIND_SEAL => {
                let body = SealBody::read_from_bytes(body).expect("rule F8");
                return Ok((Some(LastSeal { body, link: frame.link() }), key.unwrap_or(body.log_key)));
            }
            KIND_KEY => {
                let body = KeyBody::ref_from_bytes(body).expect("rule F9");
                key = key.or(Some(body.new_key));
            }
            _ => {}
        }
        let Some(before) = statement_before(catalog, position)? else {
            let genesis = body.get(32..64).and_then(|key| key.try_into().ok()).unwrap_or_default();
            return Ok((None, key.unwrap_or(genesis)));
        };
        position = before;
    }
}

#[derive(Debug)]
struct State {
    tree: Tree,
    heads: HeadsTree,
    /// Events in the tree.
    events: u64,
    /// What was taken from the feed; not all of it is in the tree.
    fed: Stretch,
    last_seal: Option<LastSeal>,
    /// The last checkpoint that was signed, to be named by the next seal.
    signed: Option<(TreeHead, [u8; 64])>,
    last: Option<Checkpoint>,
    signer: Arc<dyn Signer>,
}

impl State {
    /// Events that the last seal is over.
    fn sealed_events(&self) -> u64 {
        self.last_seal.map_or(0, |seal| seal.body.events.get())
    }
}

#[derive(Debug)]
struct Inner {
    sequencer: Arc<Sequencer>,
    shared: Arc<Shared>,
    environment: Environment,
    log_id: Link,
    name: String,
    state: Mutex<State>,
    is_over: AtomicBool,
    _turn: SealingTurn,
}

/// Seals a log and signs checkpoints for it: when asked to, and, if told to, in a thread of its own every so often.
///
/// Dropping it ends the thread; what was appended since the last seal is sealed by the next one.
#[derive(Debug)]
pub struct Sealer {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Begins to seal this log with a key. A log without a key gets this one; one sealer per log at a time.
    ///
    /// # Errors
    /// [`SealError::Busy`], [`SealError::OtherKey`], [`SealError::RollbackSuspected`], and what the device says.
    pub fn sealer(&self, signer: Arc<dyn Signer>) -> Result<Sealer, SealError> {
        let (sequencer, environment) = self.parts();
        let turn = SealingTurn::take(sequencer).ok_or(SealError::Busy)?;
        let shared = Arc::clone(sequencer.shared());
        let name = note_name(self.origin(), &self.log_id());
        // Everything the heads are over is durable, and stays in the views there are.
        let (size, heads) = sequencer.heads();
        sequencer.sync()?;
        let catalog = shared.catalog();
        let lane = heads[usize::from(ENGINE_LANE)].expect("the genesis record is in it");
        let (last_seal, key) = last_seal(&catalog, lane.position)?;
        let sealed = last_seal.map(|seal| (seal.body.tree_size.get(), seal.body.tree_root));
        let mut tree = Tree::load(&*environment.disk, Access::Write, &catalog, sealed)?;
        tree.grow(&catalog, size, |_| {})?;
        let log_id = self.log_id();
        let head = |bucket: u16| heads[usize::from(bucket)].map_or((0, log_id), |head| (head.count, head.link));
        let events = (0..BUCKET_COUNT).map(|bucket| head(bucket).0).sum();
        let heads = HeadsTree::of(head);
        let signed = last_seal
            .filter(|seal| seal.body.signed_size.get() > 0)
            .map(|LastSeal { body, .. }| (TreeHead { size: body.signed_size.get(), root: body.signed_root }, body.signature));
        let state = Mutex::new(State { tree, heads, events, fed: Stretch::default(), last_seal, signed, last: None, signer });
        let inner = Inner {
            sequencer: Arc::clone(sequencer),
            shared,
            environment: environment.clone(),
            log_id,
            name,
            state,
            is_over: AtomicBool::new(false),
            _turn: turn,
        };
        inner.begin(key)?;
        Ok(Sealer { inner: Arc::new(inner), thread: None })
    }
}

impl Inner {
    /// Makes sure that this log is the one that was signed for, and that the key is in force.
    fn begin(&self, key: Hash) -> Result<(), SealError> {
        let mut state = lock(&self.state);
        let signer = Arc::clone(&state.signer);
        let public_key = signer.public_key();
        if key != public_key && key != [0; 32] {
            return Err(SealError::OtherKey { in_force: verifier_key(&self.name, &key) });
        }
        let remembered = signer.last_signed(&self.log_id).map_err(SealError::io("asking the signer what it signed"))?;
        let copy = read_note(&*self.environment.disk);
        for note in remembered.iter().chain(&copy) {
            if let Some(parsed) = parse_note(note, &public_key) {
                self.check_signed(&mut state, &parsed)?;
                if parsed.head.size == state.tree.size() {
                    // Nothing has come since.
                    let time_ns = self.shared.catalog().frame(parsed.head.size - 1)?.header.recorded_at_ns.get();
                    state.last = Some(Checkpoint { head: parsed.head, events: state.sealed_events(), time_ns, note: note.clone() });
                }
            }
        }
        if let Some(last) = state.last.as_ref().filter(|last| copy.as_ref() != Some(&last.note)) {
            // It was signed and remembered, and then something came between.
            write_note(&*self.environment.disk, &last.note).map_err(SealError::io("keeping the checkpoint"))?;
        }
        if key == [0; 32] {
            let statement = key_statement(&self.log_id, &[0; 32], &public_key);
            let mut body = KeyBody::new_zeroed();
            body.new_key = public_key;
            body.new_signature = signer.sign(&statement).map_err(SealError::io("signing"))?;
            self.append(KIND_KEY, body.as_bytes())?;
        }
        Ok(())
    }

    /// The log must lead to what was signed for it.
    fn check_signed(&self, state: &mut State, signed: &ParsedNote) -> Result<(), SealError> {
        let (size, records) = (signed.head.size, state.tree.size());
        let suspected = SealError::RollbackSuspected { signed_size: size, records };
        if signed.name != self.name || size == 0 || size > records {
            return Err(suspected);
        }
        if root(&state.tree.over(&self.shared.catalog()), size)? != signed.head.root {
            return Err(suspected);
        }
        if state.signed.is_none_or(|(before, _)| before.size < size) {
            state.signed = Some((signed.head, signed.signature));
        }
        Ok(())
    }

    fn append(&self, kind: u8, body: &[u8]) -> Result<Option<EventReceipt>, SealError> {
        let draft = StatementDraft { kind, body: body.to_vec() };
        Ok(self.sequencer.append_statement(draft, &*self.environment.clock)?)
    }

    /// Takes durable records into the tree and the heads until there are `size`: from the feed, and what is not there from the log.
    fn grow(&self, state: &mut State, size: u64) -> Result<(), SealError> {
        let State { tree, heads, events, fed, .. } = state;
        let mut note = |leaf: LinkedRecord| {
            if let Some(bucket) = leaf.bucket {
                heads.advance(bucket, leaf.link);
                *events += 1;
            }
        };
        while tree.size() < size {
            if fed.end() <= tree.size() {
                self.shared.feed.take(fed);
            }
            let (from, to) = (tree.size(), size.min(fed.end()));
            if (fed.first..fed.end()).contains(&from) {
                for leaf in &fed.leaves[(from - fed.first) as usize..(to - fed.first) as usize] {
                    tree.push(leaf.link);
                    note(*leaf);
                }
            } else {
                let to = if fed.first > from { size.min(fed.first) } else { size };
                tree.grow(&self.shared.catalog(), to, &mut note)?;
            }
        }
        Ok(())
    }

    /// Takes in what becomes durable, as much comes, until it is time for the next seal.
    fn follow_for(&self, interval: Duration) {
        let (clock, bell) = (&self.environment.clock, &self.shared.feed.bell);
        let nanoseconds = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let end_ns = clock.monotonic_ns().saturating_add(nanoseconds);
        while let Some(left_ns) = end_ns.checked_sub(clock.monotonic_ns()).filter(|left_ns| *left_ns > 0) {
            let seen = bell.now();
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            // What cannot be read shows when it is to be sealed.
            let _ = self.grow(&mut lock(&self.state), self.shared.watermark());
            bell.sleep(seen, Some(Duration::from_nanos(left_ns)));
            if bell.now() == seen {
                return;
            }
        }
    }

    /// Seals what is durable and signs. What is there already, if nothing has come since.
    fn seal(&self) -> Result<Checkpoint, SealError> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        for _ in 0..TRIES_MAX {
            let size = self.shared.watermark();
            if let Some(last) = state.last.as_ref().filter(|last| last.head.size == size) {
                return Ok(last.clone());
            }
            self.grow(state, size)?;
            let mut body = SealBody::new_zeroed();
            body.number = state.last_seal.map_or(1, |seal| seal.body.number.get() + 1).into();
            body.previous_seal = state.last_seal.map_or([0; 32], |seal| seal.link.0);
            body.tree_size = size.into();
            body.tree_root = state.tree.root();
            body.heads_root = state.heads.root();
            body.events = state.events.into();
            body.log_key = state.signer.public_key();
            if let Some((head, signature)) = state.signed {
                (body.signed_size, body.signed_root, body.signature) = (head.size.into(), head.root, signature);
            }
            let Some(receipt) = self.append(KIND_SEAL, body.as_bytes())? else { continue };
            state.last_seal = Some(LastSeal { body, link: receipt.link });
            self.grow(state, receipt.position.0 + 1)?;
            state.tree.save(&*self.environment.disk);
            return self.sign(state, receipt.position);
        }
        // Somebody rotates segments faster than anything can be sealed; the next turn may have more luck.
        Err(SealError::Io { doing: "sealing while segments change", source: Arc::new(io::ErrorKind::WouldBlock.into()) })
    }

    /// Signs the tree that ends with the seal at a position; it was made durable a moment ago.
    fn sign(&self, state: &mut State, seal: Position) -> Result<Checkpoint, SealError> {
        let head = TreeHead { size: state.tree.size(), root: state.tree.root() };
        debug_assert_eq!(head.size, seal.0 + 1, "a seal is the last record of its checkpoint");
        let signature = state.signer.sign(checkpoint_text(&self.name, &head).as_bytes()).map_err(SealError::io("signing"))?;
        let note = signed_note(&self.name, &head, &state.signer.public_key(), &signature);
        state.signer.remember(&self.log_id, &note).map_err(SealError::io("remembering what was signed"))?;
        write_note(&*self.environment.disk, &note).map_err(SealError::io("keeping the checkpoint"))?;
        let time_ns = self.shared.catalog().frame(seal.0)?.header.recorded_at_ns.get();
        let checkpoint = Checkpoint { head, events: state.sealed_events(), time_ns, note };
        (state.signed, state.last) = (Some((head, signature)), Some(checkpoint.clone()));
        Ok(checkpoint)
    }
}

impl Sealer {
    /// Seals every so often, as long as there is something new, in a thread of its own.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Sealer {
        let inner = Arc::clone(&self.inner);
        let work = move || {
            while !inner.is_over.load(Ordering::SeqCst) {
                inner.follow_for(interval);
                // What keeps it from sealing shows in the age of the last checkpoint, and when somebody seals by hand. A log that is closed or poisoned
                // is not sealed any more.
                if let Err(SealError::Append(_)) = inner.seal() {
                    break;
                }
            }
        };
        self.thread = thread::Builder::new().name("chainring-sealer".into()).spawn(work).ok();
        self
    }

    /// Seals everything that is durable now, and signs. Returns the last checkpoint if nothing has come since.
    ///
    /// # Errors
    /// [`SealError`]; nothing was signed then.
    pub fn seal(&self) -> Result<Checkpoint, SealError> {
        self.inner.seal()
    }

    /// Ends the thread, if there is one, and seals what has come since: to be called before the log is closed.
    ///
    /// # Errors
    /// As for [`Sealer::seal`].
    pub fn finish(mut self) -> Result<Checkpoint, SealError> {
        self.stop();
        self.inner.seal()
    }

    fn stop(&mut self) {
        self.inner.is_over.store(true, Ordering::SeqCst);
        self.inner.shared.feed.bell.advance();
        self.inner.shared.feed.bell.wake(1);
        if let Some(thread) = self.thread.take() {
            // A sealer that panicked has said so.
            let _ = thread.join();
        }
    }

    /// The last checkpoint that this sealer made.
    #[must_use]
    pub fn last(&self) -> Option<Checkpoint> {
        lock(&self.inner.state).last.clone()
    }

    /// The key in force, as verifiers are configured with it.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        verifier_key(&self.inner.name, &lock(&self.inner.state).signer.public_key())
    }

    /// Hands over to another key: a record that both have signed. Checkpoints are signed by the new one from here on.
    ///
    /// # Errors
    /// [`SealError`]; the old key is in force then.
    pub fn rotate(&self, new: Arc<dyn Signer>) -> Result<EventReceipt, SealError> {
        let inner = &self.inner;
        let mut state = lock(&inner.state);
        let mut body = KeyBody::new_zeroed();
        (body.old_key, body.new_key) = (state.signer.public_key(), new.public_key());
        let statement = key_statement(&inner.log_id, &body.old_key, &body.new_key);
        body.old_signature = state.signer.sign(&statement).map_err(SealError::io("signing with the old key"))?;
        body.new_signature = new.sign(&statement).map_err(SealError::io("signing with the new key"))?;
        let receipt = inner.append(KIND_KEY, body.as_bytes())?.expect("only a seal can come too late");
        state.signer = new;
        Ok(receipt)
    }

    /// Binds what came back from outside about a checkpoint: `note` is the checkpoint as it was sent there. The next seal covers it.
    ///
    /// # Errors
    /// [`SealError::InvalidAnchor`], and those of appending.
    pub fn anchor(&self, form: AnchorForm, note: &str, artefact: &[u8]) -> Result<EventReceipt, SealError> {
        use sha2::{Digest, Sha256};
        let size = note.lines().nth(1).and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
        if size == 0 || size > self.inner.shared.watermark() || artefact.is_empty() || artefact.len() > ARTEFACT_BYTES_MAX {
            return Err(SealError::InvalidAnchor);
        }
        let mut head = AnchorHead::new_zeroed();
        head.form = form as u8;
        head.size = size.into();
        head.note_sha256 = Sha256::digest(note).into();
        let body = [head.as_bytes(), artefact].concat();
        Ok(self.inner.append(KIND_ANCHOR, &body)?.expect("only a seal can come too late"))
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The checkpoint that lies in the store.
pub(crate) fn read_note(disk: &dyn Disk) -> Option<String> {
    String::from_utf8(read_small(disk, CHECKPOINT_FILE, NOTE_BYTES_MAX)?).ok()
}

/// write(tmp); fdatasync(tmp); rename; fsync(directory)
pub(crate) fn write_note(disk: &dyn Disk, note: &str) -> io::Result<()> {
    let temporary = format!("{CHECKPOINT_FILE}.tmp");
    let file = disk.create(&temporary)?;
    file.write_all_at(note.as_bytes(), 0)?;
    file.sync_all()?;
    disk.rename(&temporary, CHECKPOINT_FILE)?;
    disk.sync_directory()
}
