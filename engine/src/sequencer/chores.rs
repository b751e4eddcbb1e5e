//! What nobody waits for: appends whose receipt nobody awaits, commits that nobody reaps, `Written` bytes to be synced, the next segment.
//!
//! [`Sequencer::tick`] does a bounded piece of it and says when to come again. A keeper thread calls it (`log/keeper.rs`), or the user of a log that has
//! none. Nothing here is on the way of an append that somebody waits for.

use std::time::Duration;

use super::Sequencer;
use super::core::{Core, Spare};
use crate::disk::Clock;
use crate::segment::{Ground, Image, ImageWriter, Zeros};
use crate::sync::Arc;
use crate::sync::model::{lock, try_lock};

/// An append that nobody waits for is led when it is older than this.
const LINGER: Duration = Duration::from_millis(1);
/// `Written` bytes are synced in pieces of what was written in this time, so that a later sync has little left to do.
const SYNC_EVERY_NS: u64 = 20_000_000;
/// Whether there are readers in other processes is looked at no more often.
const LOOK_EVERY_NS: u64 = 50_000_000;
/// Rounds without work before the keeper sleeps until it is called.
const IDLE_ROUNDS_MAX: u32 = 20;

/// What a keeper remembers from round to round.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    /// Something was published and not led when this was looked at last.
    had_news: bool,
    /// Commits that were in flight when this was looked at last.
    in_flight: usize,
    synced_ns: u64,
    /// When it was looked whether somebody follows.
    looked_ns: Option<u64>,
    idle_rounds: u32,
    zeros: Option<Zeros>,
    /// Whether the file system writes in place; asked once.
    rewrites_in_place: Option<bool>,
    /// Making a spare has failed; it is not tried again before the next segment.
    no_spare_for: u64,
}

/// What is to be done for the next segment.
enum Ahead {
    Nothing,
    Clear(Vec<String>),
    Ground(Arc<Ground>),
    Spare { number: u64, segment_bytes: u64, again: Option<ImageWriter>, is_shown: bool },
}

impl Sequencer {
    /// Does a bounded piece of what nobody waits for. Returns when to come again; `None` if there is no reason to before something happens.
    pub(crate) fn tick(&self, chores: &mut Chores, clock: &dyn Clock) -> Option<Duration> {
        if self.is_fork() {
            return None;
        }
        if self.is_closed() || self.pipeline.poison.get().is_some() {
            // Whoever published while the helm was held here found it taken, and sleeps: what is left gets its answer before nobody comes any more.
            if self.pipeline.rings.has_news() {
                self.try_lead(true);
            }
            self.pipeline.hand_over();
            return None;
        }
        let has_news = self.pipeline.rings.has_news();
        let mut busy = has_news;
        if has_news && std::mem::replace(&mut chores.had_news, has_news) {
            self.try_lead(true);
        }
        chores.had_news = self.pipeline.rings.has_news();
        // Landed by whoever waits, and here if nobody has for a while.
        let in_flight = self.pipeline.in_flight();
        if in_flight > 0 && std::mem::replace(&mut chores.in_flight, in_flight) > 0 {
            busy |= self.pipeline.reap(Some(LINGER));
        }
        chores.in_flight = self.pipeline.in_flight();
        busy |= chores.in_flight > 0;
        self.pipeline.hand_over();
        busy |= self.sync_written(chores, clock);
        busy |= self.prepare_ahead(chores);
        busy |= self.show(chores, clock);
        chores.idle_rounds = if busy { 0 } else { chores.idle_rounds + 1 };
        (chores.idle_rounds < IDLE_ROUNDS_MAX).then_some(LINGER)
    }

    /// Syncs what was written and not synced, beside the leader's work.
    fn sync_written(&self, chores: &mut Chores, clock: &dyn Clock) -> bool {
        let now_ns = clock.monotonic_ns();
        if now_ns.saturating_sub(chores.synced_ns) < SYNC_EVERY_NS {
            return false;
        }
        let (file, reach, since_ns) = {
            let Some(mut helm) = try_lock(&self.helm) else { return true };
            let core = &mut helm.core;
            // Commits in flight may be older than what is unsynced; the watermark must not pass them.
            let Some(since_ns) = core.unsynced_since_ns.filter(|_| self.pipeline.in_flight() == 0) else { return false };
            (Arc::clone(core.writer.file()), core.reach(), since_ns)
        };
        chores.synced_ns = now_ns;
        // fdatasync(segment)
        match file.sync_data() {
            Ok(()) => {
                let mut helm = lock(&self.helm);
                let core = &mut helm.core;
                // If nothing was written meanwhile, nothing is unsynced; else what is unsynced is at most as old as this sync.
                if core.unsynced_since_ns == Some(since_ns) {
                    core.unsynced_since_ns = (core.next_position > reach.position).then_some(now_ns);
                }
                drop(helm);
                self.pipeline.raise_watermark(reach);
            }
            Err(error) => {
                self.pipeline.fail("syncing a commit".to_owned(), error);
            }
        }
        self.pipeline.gate.advance();
        true
    }

    /// Moves the live segment into memory that others may look at, when somebody in another process has come to follow. Its successors are there from the
    /// beginning.
    fn show(&self, chores: &mut Chores, clock: &dyn Clock) -> bool {
        let now_ns = clock.monotonic_ns();
        if chores.looked_ns.is_some_and(|looked_ns| now_ns.saturating_sub(looked_ns) < LOOK_EVERY_NS) {
            return false;
        }
        chores.looked_ns = Some(now_ns);
        let (disk, catalog) = (self.pipeline.disk(), self.shared().catalog());
        let segment = catalog.segment(catalog.len() - 1);
        let Some(image) = segment.image().filter(|image| !image.is_shown() && disk.is_followed()) else { return false };
        let memory = disk.create_memory(image.bytes_max() as u64);
        // Where there is none, others read the file.
        let Some(Ok(mut shown)) = memory.map(|memory| Image::create(image.bytes_max(), Some(memory))) else { return false };
        shown.image().populate();
        let placed = image.placed();
        shown.place(placed.len(), |room| room.copy_from_slice(placed));
        let mut helm = lock(&self.helm);
        let core = &mut helm.core;
        if core.is_open() && core.writer.segment().number == segment.number {
            core.show(shown, self.shared());
        }
        drop(helm);
        // For who published meanwhile, and found it taken.
        self.pipeline.hand_over();
        true
    }

    /// Makes the ground of the live segment ready, or the next segment.
    fn prepare_ahead(&self, chores: &mut Chores) -> bool {
        let Some(mut helm) = try_lock(&self.helm) else { return true };
        let ahead = next_step(&mut helm.core, chores);
        let disk = self.pipeline.disk();
        match ahead {
            Ahead::Nothing => return false,
            Ahead::Clear(leftovers) => {
                drop(helm);
                leftovers.iter().for_each(|name| drop(disk.remove(name)));
            }
            Ahead::Ground(ground) => {
                // Begun under the lock: whoever writes through the page cache afterwards waits for it.
                let step = ground.step();
                drop(helm);
                if let Err(error) = step.write(chores.zeros.get_or_insert_with(Zeros::new)) {
                    self.pipeline.fail("making a segment ready".to_owned(), error);
                }
            }
            Ahead::Spare { number, segment_bytes, again, is_shown } => {
                drop(helm);
                match Spare::ahead(disk, number, segment_bytes, again, is_shown) {
                    Ok(spare) => {
                        let mut helm = lock(&self.helm);
                        let core = &mut helm.core;
                        if core.is_open() && core.writer.header().number.get() + 1 == number {
                            core.spare = Some(spare);
                        } else {
                            // A rotation was faster.
                            drop(helm);
                            spare.discard(disk);
                        }
                    }
                    // The rotation meets the same want, and says so.
                    Err(_) => chores.no_spare_for = number,
                }
            }
        }
        true
    }
}

fn next_step(core: &mut Core, chores: &mut Chores) -> Ahead {
    if !core.is_open() {
        return Ahead::Nothing;
    }
    if !core.leftovers.is_empty() {
        return Ahead::Clear(std::mem::take(&mut core.leftovers));
    }
    let in_place = *chores.rewrites_in_place.get_or_insert_with(|| core.environment.disk.rewrites_in_place());
    // They are written past the page cache, which nothing may be that shares a page with what is dirty in it.
    let zeros_pay = in_place && core.unsynced_since_ns.is_none() && core.writer.ground().is_worth_it();
    if zeros_pay && core.writer.ground().needs_step() {
        return Ahead::Ground(Arc::clone(core.writer.ground()));
    }
    match &core.spare {
        Some(spare) if zeros_pay && spare.ground.needs_step() => Ahead::Ground(Arc::clone(&spare.ground)),
        Some(_) => Ahead::Nothing,
        None => {
            let number = core.writer.header().number.get() + 1;
            let half = core.writer.end() > core.writer.header().segment_bytes.get() / 2;
            if half && chores.no_spare_for != number {
                let segment_bytes = core.options.segment_bytes;
                // As the live one is, while somebody follows: where the system has no such memory, that one is not shown either.
                let is_live_shown = core.writer.segment().image().is_some_and(|image| image.is_shown());
                let is_shown = is_live_shown && core.environment.disk.is_followed();
                Ahead::Spare { number, segment_bytes, again: core.retired.again(segment_bytes, Some(is_shown)), is_shown }
            } else {
                Ahead::Nothing
            }
        }
    }
}
