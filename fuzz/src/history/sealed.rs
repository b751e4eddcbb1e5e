//! A log that is sealed and signed for, with faults of every kind: what was signed is for ever what the log leads to.
//!
//! The signers are beside the machine: what they remember outlives every cut. Always: a checkpoint that a signer remembers is over records that are there
//! after whatever fails; a log that is what it was is signed for again; one that was put back to an earlier state, or took another way from there, is not.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use chainring::disk::Environment;
use chainring::disk::sim::{Fault, SimClock, SimDisk, SimEntropy, SimRandom};
use chainring::{
    AnchorForm, Durability, Event, EventId, Link, Log, Options, Position, Receipt, Request, SealError, Sealer, Signer, TreeHead,
    VerifyOptions, verify_in,
};

use super::{Summary, any_fault};

const START_NS: u64 = 1_700_000_000_000_000_000;
/// Name of the file in the store that holds the last checkpoint.
const CHECKPOINT_FILE: &str = "checkpoint.note";

/// What a signer does instead of what it is asked for, once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Whim {
    RefusesToSign,
    RefusesToRemember,
    /// It remembers, and says that it could not.
    RemembersSilently,
}

/// A signer beside the machine.
#[derive(Debug)]
struct Key {
    key: ed25519_dalek::SigningKey,
    notes: Mutex<Vec<String>>,
    whim: Mutex<Option<Whim>>,
}

impl Key {
    fn new(random: &mut SimRandom) -> Arc<Key> {
        let mut seed = [0; 32];
        seed.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next_u64().to_le_bytes()));
        Arc::new(Key { key: ed25519_dalek::SigningKey::from_bytes(&seed), notes: Mutex::default(), whim: Mutex::default() })
    }

    fn notes(&self) -> MutexGuard<'_, Vec<String>> {
        self.notes.lock().expect("nobody panics with it")
    }

    fn whim(&self) -> MutexGuard<'_, Option<Whim>> {
        self.whim.lock().expect("nobody panics with it")
    }

    /// Whether it is in that mood; if so, it is not any more.
    fn is(&self, whim: Whim) -> bool {
        self.whim().take_if(|now| *now == whim).is_some()
    }

    fn heads(&self) -> Vec<TreeHead> {
        self.notes().iter().map(|note| head_of(note)).collect()
    }
}

/// Size and root that a note is about.
fn head_of(note: &str) -> TreeHead {
    let mut lines = note.lines().skip(1);
    let size = lines.next().and_then(|size| size.parse().ok()).expect("a note has a size");
    let root =
        lines.next().and_then(|root| Base64::decode_vec(root).ok()).and_then(|root| root.try_into().ok()).expect("a note has a root");
    TreeHead { size, root }
}

impl Signer for Key {
    fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> io::Result<[u8; 64]> {
        if self.is(Whim::RefusesToSign) {
            return Err(io::Error::other("not now"));
        }
        Ok(ed25519_dalek::Signer::sign(&self.key, message).to_bytes())
    }

    fn last_signed(&self, _: &Link) -> io::Result<Option<String>> {
        Ok(self.notes().last().cloned())
    }

    fn remember(&self, _: &Link, note: &str) -> io::Result<()> {
        if self.is(Whim::RefusesToRemember) {
            return Err(io::Error::other("not now"));
        }
        self.notes().push(note.to_owned());
        if self.is(Whim::RemembersSilently) { Err(io::Error::other("who knows")) } else { Ok(()) }
    }
}

/// A store as it was once.
struct Backup {
    disk: SimDisk,
    /// Checkpoints that the signer in force had signed by then.
    signed: usize,
    signer: Arc<Key>,
}

pub(super) struct Office {
    random: SimRandom,
    disk: SimDisk,
    clock: Arc<SimClock>,
    is_lying: bool,
    /// Whose key is in force, last; before it those that were, and one that may be if a rotation did not say how it ended.
    signers: Vec<Arc<Key>>,
    /// What was acknowledged as durable.
    durable: Vec<(EventId, Position, Link)>,
    /// Acknowledged as written, since the last sync.
    written: Vec<(EventId, Position, Link)>,
    backup: Option<Backup>,
    /// A call may fail.
    is_excused: bool,
    drawn: u64,
    story: Vec<String>,
    summary: Summary,
}

impl Office {
    pub(super) fn new(seed: u64, is_lying: bool) -> Office {
        let mut random = SimRandom::new(seed ^ 0x005E_A1ED);
        let disk = SimDisk::new().with_seed(random.next_u64()).with_block_bytes([512, 4096][random.below(2) as usize]);
        Office {
            disk: if random.one_in(3) { disk.without_queue() } else { disk.with_queue([0, 8192][random.below(2) as usize]) },
            clock: Arc::new(SimClock::new(START_NS, 1000)),
            is_lying,
            signers: vec![Key::new(&mut random)],
            random,
            durable: Vec::new(),
            written: Vec::new(),
            backup: None,
            is_excused: false,
            drawn: 0,
            story: Vec::new(),
            summary: Summary::default(),
        }
    }

    pub(super) fn summary(&self) -> Summary {
        self.summary.clone()
    }

    pub(super) fn story(&self) -> String {
        format!("{}\n{}", self.story.join("\n"), self.disk.trace())
    }

    pub(super) fn run(&mut self) {
        for _ in 0..1 + self.random.below(5) {
            self.live();
            self.look_between();
        }
        self.is_excused = false;
        self.heal();
        let log = self.open().expect("nothing fails any more");
        let sealer = self.sealer(&log).expect("nothing fails any more");
        self.append(&log, Durability::Durable);
        let last = sealer.finish().expect("nothing fails any more");
        log.close().expect("nothing fails any more");
        assert_eq!(self.signer().heads().last(), Some(&last.head));
        self.look_between();
    }

    fn tell(&mut self, text: String) {
        self.disk.note(&text);
        self.story.push(text);
    }

    fn signer(&self) -> &Arc<Key> {
        self.signers.last().expect("there is one")
    }

    fn environment_of(&mut self, disk: &SimDisk) -> Environment {
        Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::clone(&self.clock) as Arc<dyn chainring::disk::Clock>,
            entropy: Arc::new(SimEntropy::new(self.random.next_u64())),
        }
    }

    fn heal(&mut self) {
        self.disk.heal();
        self.signers.iter().for_each(|signer| *signer.whim() = None);
        if self.is_lying {
            self.disk.inject(Fault::Lie);
        }
    }

    fn arm(&mut self, within: u64) {
        let fault = any_fault(&mut self.random, within);
        self.tell(format!("armed {fault:?}"));
        self.disk.inject(fault);
        self.is_excused = true;
    }

    fn open(&mut self) -> Option<Log> {
        let disk = self.disk.clone();
        let environment = self.environment_of(&disk);
        let segment_bytes = [64 << 10, 64 << 10, 256 << 10][self.random.below(3) as usize];
        match Options::new().segment_bytes(segment_bytes).accept_clock_jump(true).origin("simulated").open_in(environment, "simulated") {
            Ok(log) => {
                self.tell(format!("opened: {:?}", log.report().opened));
                Some(log)
            }
            Err(error) => {
                assert!(self.is_excused, "it cannot be opened: {error}");
                self.tell(format!("not opened: {error}"));
                None
            }
        }
    }

    /// Somebody whose key is in force can always seal.
    fn sealer(&mut self, log: &Log) -> Option<Sealer> {
        loop {
            match log.sealer(self.signer().clone()) {
                Ok(sealer) => return Some(sealer),
                // Of a rotation that failed nobody knows whether it happened.
                Err(SealError::OtherKey { .. }) if self.signers.len() > 1 => drop(self.signers.pop()),
                Err(error) => {
                    self.excuse("no sealer", &error);
                    return None;
                }
            }
        }
    }

    fn excuse(&mut self, what: &str, error: &SealError) {
        let is_of_a_call = matches!(error, SealError::Append(_) | SealError::Read(_) | SealError::Io { .. });
        assert!(self.is_excused && is_of_a_call, "{what}: {error}");
        self.tell(format!("{what}: {error}"));
    }

    /// One life: open, steps, end. Leaves the disk as the next life finds it.
    fn live(&mut self) {
        self.is_excused = false;
        self.heal();
        if self.random.one_in(4) {
            self.arm(60);
        }
        let log = self.open();
        let mut sealer = log.as_ref().and_then(|log| self.sealer(log));
        if let Some(log) = &log {
            for _ in 0..self.random.below(50) {
                self.step(log, sealer.as_ref());
                if sealer.is_some() && self.random.one_in(30) {
                    // Another one takes over, in the same life.
                    drop(sealer.take());
                    sealer = self.sealer(log);
                }
            }
        }
        let end = self.random.below(4);
        self.tell(format!("the end: {end}"));
        match (log, end) {
            (Some(log), 0) => {
                if let Some(Err(error)) = sealer.map(Sealer::finish) {
                    self.excuse("not finished", &error);
                }
                match log.close() {
                    Ok(()) => self.durable.append(&mut self.written),
                    Err(error) => assert!(self.is_excused, "not closed: {error}"),
                }
                self.disk = self.disk.snapshot();
            }
            (log, _) => {
                let left = if end == 1 { self.disk.snapshot() } else { self.cut() };
                self.disk.unplug();
                drop((sealer, log));
                self.disk = left;
            }
        }
        self.written.clear();
    }

    fn cut(&mut self) -> SimDisk {
        self.summary.count("power cut of a sealed log");
        self.disk.crash(self.random.next_u64())
    }

    fn step(&mut self, log: &Log, sealer: Option<&Sealer>) {
        match (self.random.below(40), sealer) {
            (0..20, _) => self.append(log, Durability::Durable),
            (20..24, _) => self.append(log, Durability::Written),
            (24..32, Some(sealer)) => self.seal(sealer),
            (32, Some(sealer)) => self.rotate(sealer),
            (33, Some(sealer)) => self.anchor(sealer),
            (34, _) => {
                let whims = [Whim::RefusesToSign, Whim::RefusesToRemember, Whim::RemembersSilently];
                let whim = whims[self.random.below(3) as usize];
                self.tell(format!("the signer {whim:?}"));
                *self.signer().whim() = Some(whim);
                self.is_excused = true;
            }
            (35, _) => self.arm(40),
            (36, _) => {
                self.tell("healed".into());
                self.heal();
            }
            (37, _) => (0..=self.random.below(20)).for_each(|_| _ = log.tick()),
            (38, _) => {
                let by = self.random.below(3_600_000_000_000);
                self.clock.advance(by);
            }
            _ => drop(log.pack()),
        }
    }

    /// A small batch, or an event.
    fn append(&mut self, log: &Log, level: Durability) {
        let count = if self.random.one_in(3) { 1 + self.random.below(6) } else { 1 };
        let events: Vec<Event> = (0..count)
            .map(|_| {
                self.drawn += 1;
                let stream = format!("s{}", self.random.below(12));
                Event::new(stream, "Happened")
                    .id(EventId(u128::from(self.drawn).to_be_bytes()))
                    .body(vec![b'x'; self.random.below(1500) as usize])
            })
            .collect();
        let ids: Vec<EventId> = events.iter().filter_map(|event| event.id).collect();
        match log.append(Request::batch(events).durability(level)) {
            Ok(Receipt { events, .. }) => {
                let placed = ids.into_iter().zip(&events).map(|(id, event)| (id, event.position, event.link));
                if level == Durability::Durable {
                    // What was written before it is as safe.
                    self.durable.append(&mut self.written);
                    self.durable.extend(placed);
                } else {
                    self.written.extend(placed);
                }
            }
            Err(error) => assert!(self.is_excused, "not appended: {error}"),
        }
    }

    fn seal(&mut self, sealer: &Sealer) {
        let before = sealer.last();
        match sealer.seal() {
            Ok(checkpoint) => {
                self.summary.count("sealed");
                assert!(before.is_none_or(|before| before.head.size <= checkpoint.head.size), "checkpoints grow");
                assert_eq!(self.signer().heads().last(), Some(&checkpoint.head), "shown, and not remembered");
                assert_eq!(head_of(&checkpoint.note), checkpoint.head);
                assert_eq!(self.disk.content(CHECKPOINT_FILE), Some(checkpoint.note.clone().into_bytes()));
                // What is written and not durable may be behind it.
                self.durable.extend(self.written.extract_if(.., |(_, position, _)| position.0 < checkpoint.head.size));
            }
            Err(error) => {
                self.summary.count("not sealed");
                self.excuse("not sealed", &error);
            }
        }
    }

    fn rotate(&mut self, sealer: &Sealer) {
        let new = Key::new(&mut self.random);
        let rotated = sealer.rotate(new.clone());
        // If it failed, the sealer goes on with the old key, but the log may know the new one: then it is not sealed any more in this life.
        match rotated {
            Ok(_) => {
                self.summary.count("rotated");
                self.signers.push(new);
            }
            Err(error) => {
                self.excuse("not rotated", &error);
                let old = self.signers.pop().expect("there is one");
                self.signers.extend([old.clone(), new, old]);
            }
        }
    }

    fn anchor(&mut self, sealer: &Sealer) {
        let Some(checkpoint) = sealer.last() else { return };
        match sealer.anchor(AnchorForm::Other, &checkpoint.note, b"seen by somebody") {
            Ok(_) => self.summary.count("anchored"),
            Err(error) => self.excuse("not anchored", &error),
        }
    }

    /// What must hold of a store that nobody has open.
    fn look_between(&mut self) {
        self.disk.heal();
        let disk = self.disk.snapshot();
        if self.random.one_in(4) {
            self.look_at(&disk);
        }
        // Before anything is recovered, and after.
        let environment = self.environment_of(&disk);
        let Ok(log) = Options::new().accept_clock_jump(true).origin("simulated").open_in(environment, "simulated") else {
            assert!(self.durable.is_empty(), "it cannot be opened any more");
            return;
        };
        let view = log.latest();
        for (id, position, link) in &self.durable {
            assert_eq!(log.locate(*id).expect("nothing fails here"), Some(*position), "an acknowledged event is gone");
            assert_eq!(view.event(*position).expect("nothing fails here").link(), *link);
        }
        drop((view, log));
        self.look_at(&disk);
        if self.random.one_in(3) {
            self.put_back();
        }
        if self.random.one_in(2) {
            let signer = Arc::clone(self.signer());
            let signed = signer.notes().len();
            self.backup = Some(Backup { disk: self.disk.snapshot(), signed, signer });
        }
    }

    /// Everything holds, and every checkpoint that was ever signed is over its beginning.
    fn look_at(&mut self, disk: &SimDisk) {
        let notes: Vec<String> = self.signers.iter().flat_map(|signer| signer.notes().clone()).collect();
        if let Some(kept) = disk.content(CHECKPOINT_FILE) {
            assert!(notes.iter().any(|note| note.as_bytes() == kept), "a checkpoint that no signer remembers");
        }
        let heads: Vec<TreeHead> = notes.iter().map(|note| head_of(note)).collect();
        let largest = heads.iter().max_by_key(|head| head.size).copied();
        let some = if heads.is_empty() { None } else { Some(heads[self.random.below(heads.len() as u64) as usize]) };
        for since in [None].into_iter().chain([largest, some].into_iter().flatten().map(Some)) {
            let environment = self.environment_of(disk);
            let options = VerifyOptions { threads: 1, since, ..VerifyOptions::default() };
            let Ok(report) = verify_in(&environment, Path::new("simulated"), &options) else {
                assert!(self.durable.is_empty() && heads.is_empty(), "there is nothing to verify any more");
                return;
            };
            let fault = report.fault.filter(|fault| fault.kind != chainring::FaultKind::Torn);
            assert_eq!(fault, None, "signed for {since:?}");
            assert!(since.is_none_or(|head| head.size <= report.records), "{since:?} was signed, and there are {}", report.records);
        }
        if self.random.one_in(6) {
            self.summary.count("second reader of seals");
            let directory = tempfile::tempdir().expect("a temporary directory");
            disk.save(directory.path()).expect("a temporary directory is writable");
            let second = chainring_reader::verify(directory.path(), &chainring_reader::Options { threads: 1, patience: Duration::ZERO });
            let fault = second.expect("a store is there").fault.filter(|fault| fault.kind.to_string() != "torn");
            assert!(fault.is_none(), "the second reader: {fault:?}");
        }
    }

    /// The store is what it was some time ago: nobody signs for it who has signed more meanwhile, also when it went on from there another way.
    fn put_back(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        let signer = Arc::clone(self.signer());
        if !Arc::ptr_eq(&signer, &backup.signer) || signer.notes().len() == backup.signed {
            return;
        }
        self.summary.count("put back");
        let environment = self.environment_of(&backup.disk);
        let log = Options::new().accept_clock_jump(true).origin("simulated").open_in(environment, "simulated").expect("it was one");
        if self.random.one_in(2) {
            let signed = signer.heads().last().expect("it has signed").size;
            while log.latest().end().0 <= signed {
                log.append(Event::new("s1", "Happened").body("another way")).expect("nothing fails there");
            }
        }
        let signed = signer.notes().len();
        match log.sealer(Arc::clone(&signer) as Arc<dyn Signer>) {
            Err(SealError::RollbackSuspected { .. }) => {}
            other => panic!("it was put back, and nobody minds: {other:?}"),
        }
        assert_eq!(signer.notes().len(), signed);
    }
}
