//! L2: where in the log things are, derived from sealed segments, so that nobody has to read them to know.
//!
//! A *run* lists, for a stretch of sealed segments, the positions of every event id, every stream and everything events name (`key`), sorted by key
//! (`layout`). A sealed segment gets a run of its own; eight runs of a size are merged into one, so that a question asks few of them however long the
//! log is. Runs are files `NNNNNNNNNN-NNNNNNNNNN.idx`, named by their first and last segment. Claimed times are in them as bounds of small stretches (`zone`);
//! what is in no run yet is read by the first who asks (`tail`).
//!
//! Always: a run says no more than its segments do. It can be missing, be left over from another history, or be damaged: it is found out before anything of
//! it is believed, and made anew from the segments. Answers are positions; whoever asks looks at the event. Never: in the way of an append.

use std::io;
use std::ops::RangeInclusive;

use chainring_format::footer::BucketHead;
use chainring_format::metadata::Timestamp;
use chainring_format::segment::SegmentHeader;

use crate::disk::{Access, Disk, DiskFile, Region};
use crate::error::{IndexError, OpenError, ReadError};
use crate::segment::{Catalog, Found, PositionTables, Segment, open_segment};
use crate::sync::model::{Mutex, lock};
use crate::sync::{Arc, AtomicBool, Ordering, RwLock, read, write};

mod build;
mod key;
mod layout;
mod page;
mod run;
mod tail;
#[cfg(test)]
mod tests;
mod write;
mod zone;

use build::{MergeError, advance, examine, merge, write_found};
pub(crate) use key::{Keys, Mixer, Term};
pub(crate) use page::Broken;
use run::Posting;
pub(crate) use run::{Run, Summary};
use tail::Tail;
use write::Target;
use zone::stretches;

/// Runs of a size that are merged into one.
const MERGED: usize = 8;
/// How often the runs of a store are listed again because one of them was merged away meanwhile.
const LIST_TRIES_MAX: u32 = 10;

/// Runs that follow each other from the first segment on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    all: Vec<Arc<Run>>,
}

impl Runs {
    /// Position after the last record that is in a run.
    pub(crate) fn end(&self) -> u64 {
        self.all.last().map_or(0, |run| run.next_position())
    }

    /// Number of the last segment that is in a run; 0 if none is.
    pub(crate) fn last_segment(&self) -> u64 {
        self.all.last().map_or(0, |run| *run.segments().end())
    }

    /// What runs know of their segments, in order.
    pub(crate) fn summaries(&self) -> impl Iterator<Item = &Summary> {
        self.all.iter().flat_map(|run| &run.summaries)
    }

    /// Heads of all buckets at the end of the last run that ends at or before a position, and where that is. Of a run that cannot be read nothing is known.
    pub(crate) fn heads_before(&self, position: u64) -> (u64, Vec<BucketHead>) {
        let runs = self.all.iter().rev().filter(|run| run.next_position() <= position);
        let mut known = runs.filter_map(|run| Some((run.next_position(), run.heads().ok()?)));
        known.next().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Bytes of all runs.
    pub(crate) fn bytes(&self) -> u64 {
        self.all.iter().map(|run| run.bytes()).sum()
    }

    /// The first segment with a record that was recorded after an instant, and the time of the last record before it. `None` if no segment in a run has one.
    pub(crate) fn recorded_after(&self, time_ns: u64) -> Option<(u64, &Summary)> {
        let mut before_ns = 0;
        for run in &self.all {
            let (before_here_ns, summary) = run.recorded_after(time_ns);
            before_ns = before_ns.max(before_here_ns);
            if let Some(summary) = summary {
                return Some((before_ns, summary));
            }
        }
        None
    }

    /// See [`Index::claimed`]. `None` if no segment in a run may.
    fn claimed(&self, from: u64, times: &RangeInclusive<Timestamp>) -> Result<Option<Stretches>, Trouble> {
        for run in self.iter().filter(|run| run.next_position() > from) {
            let may_hold = |summary: &&Summary| summary.next_position > from && summary.claimed.may_hold(times);
            if let Some(summary) = run.summaries.iter().find(may_hold) {
                let zones = run.zones(summary.number).map_err(|Broken| Trouble::Run(Arc::clone(run)))?;
                let (first, next) = (summary.first_position, summary.next_position);
                return Ok(Some((stretches(&zones, first, next, from, times), next)));
            }
        }
        Ok(None)
    }

    /// The run that a record is in.
    fn holding(&self, position: u64) -> Option<&Arc<Run>> {
        self.all.get(self.all.partition_point(|run| run.next_position() <= position))
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Run>> {
        self.all.iter()
    }

    /// Calls `visit` with what is under a key and below a bound, falling, until it gives something.
    fn falling<T>(
        &self,
        key: u64,
        below: u64,
        mut visit: impl FnMut(&Run, Posting) -> Result<Option<T>, ReadError>,
    ) -> Result<Option<T>, Trouble> {
        for run in self.iter().rev().filter(|run| run.first_position() < below) {
            let broken = |Broken| Trouble::Run(Arc::clone(run));
            if run.may_hold(key).map_err(broken)? {
                for posting in run.backward(key, below).map_err(broken)? {
                    if let Some(found) = visit(run, posting.map_err(broken)?)? {
                        return Ok(Some(found));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Calls `visit` with what is under a key from a position on, rising, until it gives something.
    fn rising<T>(&self, key: u64, from: u64, mut visit: impl FnMut(Posting) -> Result<Option<T>, ReadError>) -> Result<Option<T>, Trouble> {
        for run in self.iter().filter(|run| run.next_position() > from) {
            let broken = |Broken| Trouble::Run(Arc::clone(run));
            if run.may_hold(key).map_err(broken)? {
                for posting in run.forward(key, from).map_err(broken)? {
                    if let Some(found) = visit(posting.map_err(broken)?)? {
                        return Ok(Some(found));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Those that are to be merged next: the oldest eight of the youngest size of which there are eight.
    fn to_merge(&self) -> Option<std::ops::Range<usize>> {
        let size = |run: &Arc<Run>| run.segments().count().ilog(MERGED);
        let mut end = self.all.len();
        while end > 0 {
            let start = self.all[..end].iter().rposition(|run| size(run) != size(&self.all[end - 1])).map_or(0, |before| before + 1);
            if end - start >= MERGED {
                return Some(start..start + MERGED);
            }
            end = start;
        }
        None
    }
}

/// Why a question to a run has no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The run is broken, and is made anew.
    Run(Arc<Run>),
    /// The log itself cannot be read.
    Read(ReadError),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Trouble {
        Trouble::Read(error)
    }
}

/// Stretches of records, from position to position, and the position from which on to ask again.
pub(crate) type Stretches = (Vec<(u64, u64)>, u64);

/// What was done for the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Everything that has ended is in runs, and none are to be merged.
    Nothing,
    /// A segment got its run.
    Built,
    Merged,
}

/// All runs of a store.
#[derive(Debug)]
pub(crate) struct Index {
    disk: Arc<dyn Disk>,
    log_id: [u8; 32],
    keys: Keys,
    /// Runs are written to files; else those that are made anew are kept in memory.
    has_files: bool,
    /// Replaced whole.
    runs: RwLock<Arc<Runs>>,
    /// Held by whoever changes the runs.
    work: Mutex<()>,
    /// The segment that has ended last, still in memory.
    ended: Mutex<Option<Arc<Segment>>>,
    /// What is in no run, as far as somebody asked.
    tail: Mutex<Tail>,
    is_stopped: AtomicBool,
}

fn file_name(first: u64, last: u64) -> String {
    format!("{first:010}-{last:010}.idx")
}

/// The stretch of segments that a file name stands for, if it is a run's.
fn segments_of(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".idx")?.split_once('-')?;
    let segments = (first.parse().ok()?, last.parse().ok()?);
    (file_name(segments.0, segments.1) == name).then_some(segments)
}

impl Index {
    /// The directory of the store.
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Finds the runs among the `names` of the files of a store of so many `segments`: as many as hold and follow each other from the first segment on.
    /// `has_files` if runs may be written to files.
    ///
    /// # Errors
    /// Of a store without runs the first segment's header is read.
    pub(crate) fn open(disk: &Arc<dyn Disk>, names: Vec<String>, segments: u64, has_files: bool) -> Result<Index, OpenError> {
        let mut runs = Runs::default();
        let mut listed = Ok(names);
        for _ in 0..LIST_TRIES_MAX {
            match listed.and_then(|names| choose(&**disk, &names, segments)) {
                Ok(chosen) => {
                    runs = chosen;
                    break;
                }
                // One of them was merged into another meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => listed = disk.list(),
                Err(_) => break,
            }
        }
        // A store keeps the seed of its first run; a new one is as random as the salt it comes from, which no caller sees.
        let (log_id, seed) = match runs.all.first() {
            Some(run) => (run.log_id(), run.key_seed()),
            None => {
                let header = open_segment(&**disk, 1, Access::Read)?.1;
                let hash = blake3::hash(&[b"index keys", &header.salt[..]].concat());
                (header.log_id, *hash.as_bytes().first_chunk().expect("32 bytes"))
            }
        };
        Ok(Index {
            disk: Arc::clone(disk),
            log_id,
            keys: Keys::new(seed),
            has_files,
            runs: RwLock::new(Arc::new(runs)),
            work: Mutex::new(()),
            ended: Mutex::new(None),
            tail: Mutex::new(Tail::default()),
            is_stopped: AtomicBool::new(false),
        })
    }

    /// Takes over runs that the writer in another process has made, of a store of so many segments. Whether there are more than before.
    pub(crate) fn adopt(&self, segments: u64) -> bool {
        let _work = lock(&self.work);
        // One that was merged away meanwhile is met the next time.
        let chosen = self.disk.list().and_then(|names| choose(&*self.disk, &names, segments));
        let Ok(chosen) = chosen else { return false };
        self.replace(chosen)
    }

    /// Takes over the runs of the same store as it was opened anew.
    pub(crate) fn adopt_from(&self, other: &Index) {
        let _work = lock(&self.work);
        self.replace((*other.runs()).clone());
    }

    fn replace(&self, chosen: Runs) -> bool {
        let same_keys = chosen.all.first().is_none_or(|run| run.key_seed() == self.keys.seed());
        let is_more = same_keys && chosen.last_segment() > self.runs().last_segment();
        if is_more {
            *write(&self.runs) = Arc::new(chosen);
        }
        is_more
    }

    pub(crate) fn runs(&self) -> Arc<Runs> {
        Arc::clone(&read(&self.runs))
    }

    /// The key of a term in this store.
    pub(crate) fn key(&self, term: &Term<'_>) -> u64 {
        self.keys.of(term)
    }

    /// Leaves the last run out: what it says does not fit its segment.
    pub(crate) fn drop_last(&self) {
        let mut runs = (*self.runs()).clone();
        runs.all.pop();
        *write(&self.runs) = Arc::new(runs);
    }

    /// Removes files of runs that are not used, and what was being written. Best effort.
    pub(crate) fn sweep(&self) {
        let runs = self.runs();
        let names = self.disk.list().unwrap_or_default();
        let is_left_over =
            |name: &&String| name.ends_with(".idx.tmp") || segments_of(name).is_some() && runs.iter().all(|run| run.name != **name);
        for name in names.iter().filter(is_left_over) {
            let _ = self.disk.remove(name);
        }
    }

    /// Notes a segment that has ended while it is in memory, so that it need not be read to get its run.
    pub(crate) fn note_ended(&self, segment: Arc<Segment>) {
        *lock(&self.ended) = Some(segment);
    }

    /// Ends what takes long, and begins nothing any more.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        // Relaxed: it only saves time.
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Asks a question of all runs. A run that turns out to be broken is made anew, and the question is asked again.
    ///
    /// # Errors
    /// The log itself cannot be read.
    pub(crate) fn ask<T>(&self, catalog: &Catalog, mut question: impl FnMut(&Runs) -> Result<T, Trouble>) -> Result<T, ReadError> {
        loop {
            match question(&self.runs()) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Read(error)) => return Err(error),
                Err(Trouble::Run(broken)) => self.mend(&broken, catalog)?,
            }
        }
    }

    /// The newest below a bound, of what is under a key, that `is_it` says yes to.
    ///
    /// # Errors
    /// As for [`Index::ask`], and what `is_it` says.
    pub(crate) fn newest_below(
        &self,
        catalog: &Catalog,
        key: u64,
        below: u64,
        mut is_it: impl FnMut(Found) -> Result<bool, ReadError>,
    ) -> Result<Option<Found>, ReadError> {
        self.ask(catalog, |runs| {
            runs.falling(key, below, |run, posting| {
                let found = run.found(posting);
                Ok(is_it(found)?.then_some(found))
            })
        })
    }

    /// The oldest position, of those under a key, that `is_it` says yes to.
    ///
    /// # Errors
    /// As for [`Index::newest_below`].
    pub(crate) fn oldest(
        &self,
        catalog: &Catalog,
        key: u64,
        mut is_it: impl FnMut(u64) -> Result<bool, ReadError>,
    ) -> Result<Option<u64>, ReadError> {
        self.ask(catalog, |runs| runs.rising(key, 0, |posting| Ok(is_it(posting.position)?.then_some(posting.position))))
    }

    /// The last `count` positions below a bound that may be under a key, falling; with an offset, and the salt of the file that it is of, where that is kept.
    ///
    /// # Errors
    /// As for [`Index::ask`].
    pub(crate) fn last_below(&self, catalog: &Catalog, key: u64, below: u64, count: usize) -> Result<Vec<Found>, ReadError> {
        self.ask(catalog, |runs| {
            let mut found = Vec::new();
            let asked: Vec<_> = runs.iter().rev().filter(|run| run.first_position() < below).collect();
            Run::bring_in(&asked, key, below.saturating_sub(1));
            runs.falling(key, below, |run, posting| {
                found.push(run.found(posting));
                Ok((found.len() >= count).then_some(()))
            })?;
            Ok(found)
        })
    }

    /// The first `count` positions from one on that may be under a key, rising.
    ///
    /// # Errors
    /// As for [`Index::ask`].
    pub(crate) fn first_from(&self, catalog: &Catalog, key: u64, from: u64, count: usize) -> Result<Vec<u64>, ReadError> {
        self.ask(catalog, |runs| {
            let mut positions = Vec::new();
            let asked: Vec<_> = runs.iter().filter(|run| run.next_position() > from).collect();
            Run::bring_in(&asked, key, from);
            runs.rising(key, from, |posting| {
                positions.push(posting.position);
                Ok((positions.len() >= count).then_some(()))
            })?;
            Ok(positions)
        })
    }

    /// The positions from one on and below a limit that may be under the key of a mention, rising, of the part of the log that is in no run, and where that
    /// part begins. `catalog` has all below the limit.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub(crate) fn unindexed(&self, catalog: &Catalog, limit: u64, key: u64, from: u64) -> Result<(u64, Vec<u64>), ReadError> {
        let mut tail = lock(&self.tail);
        tail.extend(catalog, &self.keys, self.runs().end(), limit)?;
        Ok((tail.from(), tail.positions(key, from)))
    }

    /// Of the first segment that has records at or behind a position and may hold an event that claims such a time: the stretches of records that may. What is in
    /// no run counts as one segment, up to the limit. `catalog` has all below that.
    ///
    /// # Errors
    /// As for [`Index::ask`].
    pub(crate) fn claimed(
        &self,
        catalog: &Catalog,
        limit: u64,
        from: u64,
        times: &RangeInclusive<Timestamp>,
    ) -> Result<Stretches, ReadError> {
        loop {
            let indexed_to = self.runs().end();
            if let Some(found) = self.ask(catalog, |runs| runs.claimed(from, times))? {
                return Ok(found);
            }
            let mut tail = lock(&self.tail);
            tail.extend(catalog, &self.keys, self.runs().end(), limit)?;
            // Else more came into runs meanwhile, which are asked again.
            if tail.from() == indexed_to {
                return Ok((tail.claimed(from, times), limit));
            }
        }
    }

    /// Calls `found` with the place in `keys` and the position of everything that may be under these keys, run by run: many keys are asked of one run before
    /// the next, so that their misses of the cache overlap. Asked again after a run was made anew, it begins from the start.
    ///
    /// # Errors
    /// As for [`Index::newest_below`].
    pub(crate) fn each(
        &self,
        catalog: &Catalog,
        keys: &[u64],
        mut found: impl FnMut(usize, u64) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        self.ask(catalog, |runs| {
            for run in runs.iter() {
                let broken = |Broken| Trouble::Run(Arc::clone(run));
                for (place, key) in keys.iter().enumerate() {
                    if run.may_hold(*key).map_err(broken)? {
                        for position in run.forward(*key, 0).map_err(broken)? {
                            found(place, position.map_err(broken)?.position)?;
                        }
                    }
                }
            }
            Ok(())
        })
    }

    /// Whether [`Index::step`] would do something, when so many segments have ended.
    pub(crate) fn has_work(&self, ended: u64) -> bool {
        let runs = self.runs();
        !self.is_stopped() && (runs.last_segment() < ended || runs.to_merge().is_some())
    }

    /// Does the next piece of work: a run for the oldest segment that has ended and has none, or runs that are to be merged. `catalog` holds all segments, of
    /// which the first `ended` have ended.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub(crate) fn step(&self, catalog: &Catalog, ended: usize) -> Result<Step, IndexError> {
        let _work = lock(&self.work);
        let runs = self.runs();
        if self.is_stopped() {
            return Err(IndexError::Closed);
        }
        if runs.last_segment() < ended as u64 {
            return self.build_next(&runs, catalog).map(|()| Step::Built);
        }
        match runs.to_merge() {
            Some(range) => self.merge(&runs, range, catalog),
            None => Ok(Step::Nothing),
        }
    }

    /// The run of the next segment, also when the index was stopped.
    ///
    /// # Errors
    /// As for [`Index::step`].
    pub(crate) fn build_to(&self, catalog: &Catalog, ended: usize) -> Result<(), IndexError> {
        let _work = lock(&self.work);
        while self.runs().last_segment() < ended as u64 {
            self.build_next(&self.runs(), catalog)?;
        }
        Ok(())
    }

    fn build_next(&self, runs: &Runs, catalog: &Catalog) -> Result<(), IndexError> {
        let number = runs.last_segment() + 1;
        let in_memory = lock(&self.ended).take_if(|segment| segment.number == number);
        let segment = in_memory.as_ref().unwrap_or_else(|| catalog.segment(number as usize - 1));
        let mut heads = match runs.all.last().map_or(Ok(Vec::new()), |run| run.heads()) {
            Ok(heads) => heads,
            Err(Broken) => {
                self.mend_locked(runs.all.len() - 1, catalog).map_err(IndexError::Segment)?;
                return Ok(());
            }
        };
        let bytes = self.bytes_of(segment, &mut heads).map_err(IndexError::Segment)?;
        let name = file_name(number, number);
        let run = self
            .publish(&name, |file| file.write_all_at(&bytes, 0))
            .map_err(|error: io::Error| IndexError::Io { file: name.clone(), source: error })?;
        let mut runs = runs.clone();
        runs.all.push(run);
        *write(&self.runs) = Arc::new(runs);
        Ok(())
    }

    /// The run of a segment; `heads` are those before it, and then those at its end.
    fn bytes_of(&self, segment: &Segment, heads: &mut Vec<BucketHead>) -> Result<Vec<u8>, ReadError> {
        let found = examine(segment, &self.keys)?;
        advance(heads, &found);
        let written = write_found(Target::Memory(Vec::new()), self.log_id, &self.keys, &found, heads);
        let Ok(Target::Memory(bytes)) = written else { unreachable!("memory takes what is written") };
        Ok(bytes)
    }

    /// Makes a file with what `fill` writes, and opens the run in it. Whatever fails, nothing is left behind.
    ///
    /// write(tmp); fdatasync(tmp); rename(tmp, NAME.idx)
    fn publish<E: From<io::Error>>(&self, name: &str, fill: impl FnOnce(&Arc<dyn DiskFile>) -> Result<(), E>) -> Result<Arc<Run>, E> {
        let temporary = format!("{name}.tmp");
        let make = || {
            let file = self.disk.create(&temporary)?;
            fill(&file)?;
            file.sync_data()?;
            self.disk.rename(&temporary, name)?;
            Ok(Arc::new(Run::open(&*self.disk, name)?))
        };
        make().inspect_err(|_| {
            // Best effort: the name is ignored by readers and removed by the next writer.
            let _ = self.disk.remove(&temporary);
        })
    }

    fn merge(&self, runs: &Runs, range: std::ops::Range<usize>, catalog: &Catalog) -> Result<Step, IndexError> {
        let merged = &runs.all[range.clone()];
        let name = file_name(*merged[0].segments().start(), *merged[merged.len() - 1].segments().end());
        let run = match self.publish(&name, |file| merge(Arc::clone(file), merged, || self.is_stopped())) {
            Ok(run) => run,
            Err(MergeError::Write(error)) => return Err(IndexError::Io { file: name, source: error }),
            Err(MergeError::Stopped) => return Err(IndexError::Closed),
            Err(MergeError::Broken(broken)) => {
                let place = runs.all.iter().position(|run| Arc::ptr_eq(run, &broken)).expect("it is one of them");
                return self.mend_locked(place, catalog).map(|()| Step::Built).map_err(IndexError::Segment);
            }
        };
        let mut next = runs.clone();
        next.all.splice(range.clone(), [run]);
        *write(&self.runs) = Arc::new(next);
        self.remove(merged);
        Ok(Step::Merged)
    }

    /// Makes every run anew. Questions are answered by the old ones until the new ones are there.
    ///
    /// # Errors
    /// Some are as they were then.
    pub(crate) fn rebuild(&self, catalog: &Catalog) -> Result<(), ReadError> {
        for run in self.runs().iter() {
            self.mend(run, catalog)?;
        }
        Ok(())
    }

    /// Removes the files of runs that others have taken the place of. Best effort: the next writer removes what is left.
    fn remove(&self, runs: &[Arc<Run>]) {
        for run in runs.iter().filter(|run| self.has_files && !run.name.is_empty()) {
            let _ = self.disk.remove(&run.name);
        }
    }

    /// Makes a run anew that is broken, if nobody has meanwhile.
    fn mend(&self, broken: &Arc<Run>, catalog: &Catalog) -> Result<(), ReadError> {
        let _work = lock(&self.work);
        match self.runs().all.iter().position(|run| Arc::ptr_eq(run, broken)) {
            Some(place) => self.mend_locked(place, catalog),
            None => Ok(()),
        }
    }

    /// Puts a run of its own for every segment in the place of a broken one.
    fn mend_locked(&self, mut place: usize, catalog: &Catalog) -> Result<(), ReadError> {
        let runs = self.runs();
        let end = place + 1;
        let mut heads = loop {
            match place.checked_sub(1).map_or(Ok(Vec::new()), |before| runs.all[before].heads()) {
                Ok(heads) => break heads,
                // Nothing of that one is believed either.
                Err(Broken) => place -= 1,
            }
        };
        let broken = &runs.all[place..end];
        self.remove(broken);
        let mut made = Vec::new();
        for number in broken.iter().flat_map(|run| run.segments()) {
            let segment = catalog.segment(number as usize - 1);
            let bytes = self.bytes_of(segment, &mut heads)?;
            let published =
                if self.has_files { self.publish(&file_name(number, number), |file| file.write_all_at(&bytes, 0)).ok() } else { None };
            // Where no file can be written, memory does.
            let in_memory = || Arc::new(Run::of(Region::memory(bytes), "").expect("a run holds when it was just made"));
            made.push(published.unwrap_or_else(in_memory));
        }
        let mut next = (*runs).clone();
        next.all.splice(place..end, made);
        *write(&self.runs) = Arc::new(next);
        Ok(())
    }
}

impl PositionTables for Index {
    fn bring_in(&self, positions: &[u64]) {
        let runs = self.runs();
        Run::bring_in_marks(positions.iter().filter_map(|position| Some((runs.holding(*position)?, *position))));
    }

    fn mark_before(&self, position: u64, salt: &[u8; 16]) -> Option<u32> {
        // A broken run is made anew by those who ask it for positions.
        self.runs().holding(position)?.mark_before(position, salt).ok().flatten()
    }

    fn offsets(&self, first_position: u64, salt: &[u8; 16]) -> Option<Vec<u32>> {
        self.runs().holding(first_position)?.table(first_position, salt).ok().flatten()
    }
}

/// The longest runs that hold and follow each other from the first segment on.
fn choose(disk: &dyn Disk, names: &[String], segments: u64) -> io::Result<Runs> {
    let mut names: Vec<(u64, u64)> = names.iter().filter_map(|name| segments_of(name)).collect();
    // Of those that begin with a segment the longest first.
    names.sort_unstable_by_key(|(first, last)| (*first, u64::MAX - last));
    let mut runs = Runs::default();
    for (first, last) in names.into_iter().filter(|(_, last)| *last <= segments) {
        if first != runs.last_segment() + 1 {
            continue;
        }
        match Run::open(disk, &file_name(first, last)) {
            Ok(run) if run.segments() == (first..=last) && follows(&run, &runs) => runs.all.push(Arc::new(run)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            // It does not hold, or is of another history.
            Ok(_) | Err(_) => {}
        }
    }
    while !runs.all.is_empty() && !is_of_store(&runs, disk, segments) {
        runs.all.pop();
    }
    Ok(runs)
}

/// Whether a run goes on where others end, and its segments follow each other: every header names the digest of the commit before it.
fn follows(run: &Run, before: &Runs) -> bool {
    let last = before.all.last().and_then(|last| last.summaries.last());
    let same_log = before.all.last().is_none_or(|last| (last.log_id(), last.key_seed()) == (run.log_id(), run.key_seed()));
    let all: Vec<&Summary> = last.into_iter().chain(&run.summaries).collect();
    let is_next = |pair: &[&Summary]| continues(&pair[1].header, pair[0]);
    same_log && all.windows(2).all(is_next)
}

/// Whether a header names the end of this segment.
fn continues(header: &SegmentHeader, before: &Summary) -> bool {
    (header.first_position.get(), header.prev_commit_digest) == (before.next_position, before.commit_digest)
}

/// Whether the segment behind the last run continues it. Its header names the digest of the commit before, which stands for everything before that: runs of
/// another history are found out by it. Where no segment is behind it, the last one was closed, and says so itself.
fn is_of_store(runs: &Runs, disk: &dyn Disk, segments: u64) -> bool {
    let Some(last) = runs.all.last() else { return true };
    let summary = last.summaries.last().expect("a run has a segment");
    if summary.number == segments {
        return summary.is_closed;
    }
    open_segment(disk, summary.number + 1, Access::Read)
        .is_ok_and(|(_, header)| header.log_id == last.log_id() && continues(&header, summary))
}
