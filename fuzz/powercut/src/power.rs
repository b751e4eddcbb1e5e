//! Power cuts: record a workload, cut it everywhere, judge every state; and cut again while a state is being recovered.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chainring::{OpenError, Opened, Store};

use crate::device::Device;
use crate::filesystem::Kind;
use crate::image::Image;
use crate::judge::{Verdict, judge};
use crate::model::{Level, Promise, content};
use crate::random::Random;
use crate::tape::{Cut, Cutter, Survival, Tape};
use crate::workload::{self, Shape};

/// States made from one recording of a workload.
const STATES_PER_RUN: usize = 80;
/// Of so many states, one is recovered on the record and cut again.
const AGAIN_ONE_IN: u64 = 6;
/// States made from one recording of a recovery.
const STATES_AGAIN: usize = 8;

/// What to do, and where.
pub(crate) struct Trial<'a> {
    pub(crate) kind: Kind,
    pub(crate) device: &'a Device,
    /// The file system as it was made.
    pub(crate) fresh: &'a Image,
    pub(crate) point: PathBuf,
    pub(crate) keep: Option<&'a Path>,
    pub(crate) seed: u64,
}

/// What was seen, counted.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) runs: u64,
    pub(crate) states: u64,
    /// States made by cutting a recovery.
    pub(crate) again: u64,
    /// Different outcomes of opening.
    pub(crate) opened: BTreeMap<String, u64>,
    pub(crate) cut_bytes: u64,
    pub(crate) events: u64,
    pub(crate) packed: u64,
    /// States that the file system itself could not be mounted from.
    pub(crate) unmountable: u64,
    pub(crate) violations: u64,
    pub(crate) flushes: usize,
    pub(crate) writes: usize,
    pub(crate) in_flight: usize,
}

impl Counts {
    fn opened(&mut self, what: &str) {
        *self.opened.entry(what.to_lowercase()).or_insert(0) += 1;
    }
}

/// Why a state is not as it should be.
enum Failure {
    Unmountable(io::Error),
    Violation(String),
}

impl Trial<'_> {
    /// Until that many states were judged. `lies` lets the drive acknowledge flushes that it does not do.
    pub(crate) fn run(&self, states: u64, lies: bool) -> io::Result<Counts> {
        let mut counts = Counts::default();
        while counts.states < states {
            let seed = self.seed * 1_000_000 + counts.runs;
            let mut random = Random::new(seed);
            let shape = Shape::draw(&mut random);
            let level = Level::default();
            let tape = self.record(&level, shape, seed)?;
            counts.runs += 1;
            counts.flushes += tape.flushes();
            counts.writes += tape.writes();
            let count = STATES_PER_RUN.min((states - counts.states) as usize);
            if lies {
                self.judge_lies(&tape, &level, count, &mut random, &mut counts)?;
            } else {
                self.judge_cuts(&tape, &level, shape, count, seed, &mut random, &mut counts)?;
            }
            eprintln!("{} seed {seed}: {} states so far, {} violations", self.kind.name(), counts.states, counts.violations);
        }
        Ok(counts)
    }

    /// Runs a workload on a fresh file system and returns what the device saw.
    fn record(&self, level: &Level, shape: Shape, seed: u64) -> io::Result<Tape> {
        self.device.load(self.fresh);
        self.kind.repair(&self.device.node)?;
        let mounted = self.kind.mount(&self.device.node, &self.point)?;
        self.device.record();
        let outcome = workload::run(self.device, &mounted.store(), level, shape, seed);
        let tape = self.device.stop_recording().expect("it was recording");
        mounted.unmount()?;
        outcome.map_err(|stopped| io::Error::other(format!("seed {seed}: the workload stopped without a fault: {stopped}")))?;
        Ok(tape)
    }

    #[allow(clippy::too_many_arguments)]
    fn judge_cuts(
        &self,
        tape: &Tape,
        level: &Level,
        shape: Shape,
        count: usize,
        seed: u64,
        random: &mut Random,
        counts: &mut Counts,
    ) -> io::Result<()> {
        let mut cutter = Cutter::new(tape, self.kind.whole());
        for place in tape.places(count, random) {
            let cut = cutter.cut(place, 0, survival(random), random);
            let again = random.one_in(AGAIN_ONE_IN);
            counts.states += 1;
            counts.in_flight += cut.in_flight;
            let promises = tape.promises(place);
            let (judged, recovery) = self.judge_state(&cut, level, &promises, shape, again, random)?;
            let Some(next) = self.count(judged, &cut, "", seed, counts) else { continue };
            let Some(recovery) = recovery else { continue };
            // Before the recovery was done, the state must be recovered to what it was to be recovered to before.
            let mut cutter = Cutter::new(&recovery, self.kind.whole());
            for place in recovery.places(STATES_AGAIN, random) {
                let second = cutter.cut(place, 0, survival(random), random);
                counts.states += 1;
                counts.again += 1;
                counts.in_flight += second.in_flight;
                let mut promises = recovery.promises(place);
                if next.opened != Opened::Created {
                    promises.push(Arc::new(Promise::Opened));
                }
                let (judged, _) = self.judge_state(&second, &next.level, &promises, shape, false, random)?;
                let first = format!("first cut at op {} after flush at op {} ({:?}):\n{}", cut.at, cut.flushed, cut.survival, cut.fates);
                self.count(judged, &second, &first, seed, counts);
            }
        }
        Ok(())
    }

    /// Loads a state, mounts it and judges it; with `record` also says what the device saw meanwhile.
    fn judge_state(
        &self,
        cut: &Cut,
        level: &Level,
        promises: &[Arc<Promise>],
        shape: Shape,
        record: bool,
        random: &mut Random,
    ) -> io::Result<(Result<Verdict, Failure>, Option<Tape>)> {
        self.device.load(&cut.image);
        if record {
            self.device.record();
        }
        let mounted = match self.kind.repair(&self.device.node).and_then(|()| self.kind.mount(&self.device.node, &self.point)) {
            Ok(mounted) => mounted,
            Err(error) => return Ok((Err(Failure::Unmountable(error)), None)),
        };
        let judged = judge(self.device, &mounted.store(), level, promises, shape.segment_bytes, random);
        let tape = self.device.stop_recording();
        mounted.unmount()?;
        Ok((judged.map_err(Failure::Violation), tape))
    }

    /// Counts a verdict, and reports what is not as it should be.
    fn count(&self, judged: Result<Verdict, Failure>, cut: &Cut, before: &str, seed: u64, counts: &mut Counts) -> Option<Verdict> {
        let (word, why) = match judged {
            Ok(verdict) => {
                counts.opened(&format!("{:?}", verdict.opened));
                counts.cut_bytes += verdict.cut_bytes;
                counts.events += verdict.events;
                counts.packed += verdict.packed;
                return Some(verdict);
            }
            Err(Failure::Unmountable(error)) => {
                counts.unmountable += 1;
                ("UNMOUNTABLE", error.to_string())
            }
            Err(Failure::Violation(why)) => {
                counts.violations += 1;
                ("VIOLATION", why)
            }
        };
        let name = format!("{}-{seed}-{}-{}", self.kind.name(), counts.states, cut.at);
        println!(
            "{word} {} seed {seed}, cut before op {} (last flush is op {}), {:?} of {} writes in flight: {why}",
            self.kind.name(),
            cut.at,
            cut.flushed,
            cut.survival,
            cut.in_flight
        );
        if let Some(keep) = self.keep {
            let text = format!("{word}: {why}\n\ncut before op {}, flushed to op {}:\n{}\n{before}", cut.at, cut.flushed, cut.fates);
            let kept = std::fs::create_dir_all(keep)
                .and_then(|()| cut.image.save(&keep.join(format!("{name}.img"))))
                .and_then(|()| std::fs::write(keep.join(format!("{name}.txt")), text));
            match kept {
                Ok(()) => println!("  kept as {}/{name}.img and .txt", keep.display()),
                Err(error) => println!("  not kept: {error}"),
            }
        }
        None
    }

    /// The drive acknowledged flushes and lost them. Loss is allowed, silent damage is not: what opens is a beginning of the truth.
    fn judge_lies(&self, tape: &Tape, level: &Level, count: usize, random: &mut Random, counts: &mut Counts) -> io::Result<()> {
        let mut cutter = Cutter::new(tape, self.kind.whole());
        for place in tape.places(count, random) {
            let ignored = 1 + random.below(6) as usize;
            let cut = cutter.cut(place, ignored, survival(random), random);
            counts.states += 1;
            counts.in_flight += cut.in_flight;
            self.device.load(&cut.image);
            let Ok(mounted) = self.kind.repair(&self.device.node).and_then(|()| self.kind.mount(&self.device.node, &self.point)) else {
                counts.unmountable += 1;
                continue;
            };
            let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge_liar(&mounted.store(), level)));
            mounted.unmount()?;
            match judged.unwrap_or_else(|_| Err("panic".into())) {
                Ok(word) => counts.opened(word),
                Err(why) => {
                    counts.violations += 1;
                    println!(
                        "VIOLATION {} lying drive, cut before op {place}, {ignored} flushes lost, {:?}: {why}",
                        self.kind.name(),
                        cut.survival
                    );
                    if let Some(keep) = self.keep {
                        std::fs::create_dir_all(keep)?;
                        cut.image.save(&keep.join(format!("{}-lies-{}-{place}.img", self.kind.name(), counts.states)))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Opens for reading and for writing: refused, or a beginning of what was written, the same for both.
fn judge_liar(store: &Path, level: &Level) -> Result<&'static str, String> {
    let before = match Store::open(store) {
        Ok(opened) => match content(&opened) {
            Ok(found) => {
                level.judge(&found, &[], false)?;
                Some(found)
            }
            Err(_) => return Ok("refused"),
        },
        Err(OpenError::NotAStore { .. }) => None,
        Err(OpenError::Damaged(_) | OpenError::Io { .. } | OpenError::Read { .. }) => return Ok("refused"),
        Err(error) => return Err(format!("opening for reading: {error}")),
    };
    match workload::open(store, workload::SEGMENT_BYTES_SMALL) {
        Ok(log) => {
            let found = content(&log)?;
            if before.unwrap_or_default() != found {
                return Err("reader and writer see different content".into());
            }
            log.close().map_err(|error| format!("close: {error}"))?;
            let verified = chainring::verify(store, &chainring::VerifyOptions::default()).map_err(|error| format!("verify: {error}"))?;
            match verified.fault {
                None => Ok("a beginning"),
                // Footers are derived; nothing is read from them, and verification tells.
                // The mark outlived what the drive lost.
                Some(fault) if fault.rule == "R4" => Ok("a rollback is suspected"),
                Some(fault) if fault.rule.starts_with('T') => Ok("a footer is damaged"),
                Some(fault) => Err(format!("opened, but verify says {fault}")),
            }
        }
        // The file system itself may be broken: nothing can be written.
        Err(OpenError::Io { .. } | OpenError::Read { .. } | OpenError::Damaged(_)) => Ok("refused"),
        Err(error) => Err(format!("a reader opens it, a writer says {error}")),
    }
}

pub(crate) fn survival(random: &mut Random) -> Survival {
    match random.below(10) {
        0 => Survival::Nothing,
        1 | 2 => Survival::Everything,
        3..=5 => Survival::Some,
        _ => Survival::Torn,
    }
}
