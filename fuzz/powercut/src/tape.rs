//! What happened to a disk, in order, and what the disk may hold if the power fails in between.
//!
//! A write that stands before a flush is on the disk. What came after the last flush may be there or not, in any choice, and a write may be there in part:
//! some of its sectors, old or new, never mixed within one. Promises stand on the tape behind the flush they rest on, so a cut knows what was promised.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::image::{Image, SECTOR_BYTES};
use crate::model::Promise;
use crate::random::Random;

pub(crate) enum Op {
    Write { offset: u64, bytes: Box<[u8]> },
    Zero { offset: u64, length: u64 },
    Flush,
    Promise(Arc<Promise>),
}

/// A disk as it was when recording began, and everything since.
pub(crate) struct Tape {
    pub(crate) base: Image,
    pub(crate) ops: Vec<Op>,
}

/// How much of what was not flushed reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    Nothing,
    /// All of it: a disk that writes in order.
    Everything,
    /// A random choice of whole writes.
    Some,
    /// A random choice of writes, some of them in part.
    Torn,
}

/// One state of the disk after a cut.
pub(crate) struct Cut {
    pub(crate) image: Image,
    /// Operations of the tape that happened before the power failed.
    pub(crate) at: usize,
    /// The last flush that counts.
    pub(crate) flushed: usize,
    pub(crate) survival: Survival,
    /// What became of each write that was not flushed, for people.
    pub(crate) fates: String,
    pub(crate) in_flight: usize,
}

/// Makes the states of cuts at growing places of a tape.
pub(crate) struct Cutter<'a> {
    tape: &'a Tape,
    durable: Image,
    applied: usize,
    /// Writes within these bytes are never torn: a file system may rely on a device that writes them whole.
    pub(crate) whole: &'a [std::ops::Range<u64>],
}

impl Tape {
    pub(crate) fn flushes(&self) -> usize {
        self.ops.iter().filter(|op| matches!(op, Op::Flush)).count()
    }

    pub(crate) fn writes(&self) -> usize {
        self.ops.iter().filter(|op| matches!(op, Op::Write { .. } | Op::Zero { .. })).count()
    }

    /// What was promised before this place.
    pub(crate) fn promises(&self, at: usize) -> Vec<Arc<Promise>> {
        self.ops[..at].iter().filter_map(|op| if let Op::Promise(promise) = op { Some(Arc::clone(promise)) } else { None }).collect()
    }

    /// Places to cut, in order: mostly before a flush, where most is in flight; right after one; right after a promise; anywhere.
    pub(crate) fn places(&self, count: usize, random: &mut Random) -> Vec<usize> {
        let all = |wanted: fn(&Op) -> bool| -> Vec<usize> { (0..self.ops.len()).filter(|&at| wanted(&self.ops[at])).collect() };
        let (flushes, promises) = (all(|op| matches!(op, Op::Flush)), all(|op| matches!(op, Op::Promise(_))));
        let choose = |places: &[usize], random: &mut Random| places.get(random.below(places.len() as u64) as usize).copied().unwrap_or(0);
        let mut places: Vec<usize> = (0..count)
            .map(|_| match random.below(10) {
                0..=4 => choose(&flushes, random),
                5 => choose(&flushes, random) + 1,
                6 | 7 => choose(&promises, random) + 1,
                _ => random.below(self.ops.len() as u64 + 1) as usize,
            })
            .map(|at| at.min(self.ops.len()))
            .collect();
        places.sort_unstable();
        places
    }
}

impl<'a> Cutter<'a> {
    pub(crate) fn new(tape: &'a Tape, whole: &'a [std::ops::Range<u64>]) -> Cutter<'a> {
        Cutter { tape, durable: tape.base.clone(), applied: 0, whole }
    }

    /// The disk after a cut before operation `at`; `ignored` flushes before it were lies. Places must not go back further than those lies.
    pub(crate) fn cut(&mut self, at: usize, ignored: usize, survival: Survival, random: &mut Random) -> Cut {
        let flush_places = (0..at).rev().filter(|&place| matches!(self.tape.ops[place], Op::Flush));
        let flushed = flush_places.map(|place| place + 1).nth(ignored).unwrap_or(0);
        // With lies the last true flush may lie before what was applied for an earlier cut.
        if flushed < self.applied {
            self.durable = self.tape.base.clone();
            self.applied = 0;
        }
        for op in &self.tape.ops[self.applied..flushed] {
            apply(&mut self.durable, op);
        }
        self.applied = flushed;
        let mut image = self.durable.clone();
        let mut fates = String::new();
        let mut in_flight = 0;
        let keep_per_16 = 1 + random.below(15);
        for (index, op) in self.tape.ops[flushed..at].iter().enumerate() {
            let (offset, length) = match op {
                Op::Write { offset, bytes } => (*offset, bytes.len() as u64),
                Op::Zero { offset, length } => (*offset, *length),
                Op::Flush | Op::Promise(_) => continue,
            };
            in_flight += 1;
            let fate = match survival {
                Survival::Nothing => "lost".to_owned(),
                Survival::Everything => {
                    apply(&mut image, op);
                    "kept".to_owned()
                }
                Survival::Some | Survival::Torn if random.below(16) >= keep_per_16 => "lost".to_owned(),
                Survival::Torn if random.one_in(2) && !self.is_whole(offset, length) => tear(&mut image, op, random),
                Survival::Some | Survival::Torn => {
                    apply(&mut image, op);
                    "kept".to_owned()
                }
            };
            let kind = if matches!(op, Op::Zero { .. }) { "zero" } else { "write" };
            let _ = writeln!(fates, "op {}: {kind} {offset:#x}+{length:#x} {fate}", flushed + index);
        }
        Cut { image, at, flushed, survival, fates, in_flight }
    }

    fn is_whole(&self, offset: u64, length: u64) -> bool {
        length <= SECTOR_BYTES as u64 || self.whole.iter().any(|range| offset < range.end && range.start < offset + length)
    }
}

fn apply(image: &mut Image, op: &Op) {
    match op {
        Op::Write { offset, bytes } => image.write(*offset, bytes),
        Op::Zero { offset, length } => image.zero(*offset, *length),
        Op::Flush | Op::Promise(_) => {}
    }
}

/// Applies some sectors of a write: the first ones, the last ones, or any.
fn tear(image: &mut Image, op: &Op, random: &mut Random) -> String {
    let (offset, bytes) = match op {
        Op::Write { offset, bytes } => (*offset, bytes),
        _ => {
            apply(image, op);
            return "kept".to_owned();
        }
    };
    let sectors = bytes.len() / SECTOR_BYTES;
    let (way, at) = (random.below(4), random.below(sectors as u64 + 1) as usize);
    let kept: Vec<bool> = (0..sectors)
        .map(|sector| match way {
            0 => sector < at,
            1 => sector >= at,
            2 => random.one_in(2),
            // All but one.
            _ => sector != at,
        })
        .collect();
    for (sector, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
        let start = sector * SECTOR_BYTES;
        image.write(offset + start as u64, &bytes[start..start + SECTOR_BYTES]);
    }
    let map: String = kept.iter().map(|kept| if *kept { '1' } else { '0' }).collect();
    format!("torn {map}")
}
