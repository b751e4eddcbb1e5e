//! What the leader holds: the live segment, the heads of buckets, and where the log stands.
//!
//! The states of a commit, as `engine/ARCHITECTURE.md` names them: a drained request is *sequenced* here (decided, placed, linked), its commit is
//! *submitted* (`write`), *complete* and *durable* (`sync`, then the watermark), and its answer *released*.

use std::io;
use std::ops::Range;

use chainring_format::align;
use chainring_format::commit::{CommitTrailer, FLAG_CLOSED, TRAILER_BYTES};
use chainring_format::footer::{self, FooterContent};
use chainring_format::hash::{self, Hash};
use chainring_format::lanes::{LaneEvent, Lanes};
use chainring_format::limits::BATCH_BYTES_MAX;
use chainring_format::{EventId, Link, Position};
use zerocopy::FromZeros;

use super::brakes::Brakes;
use super::decide::{Found, Refusal, decide};
use super::heads::{Buckets, Directory, STRETCH};
use super::live::Reach;
use super::pipeline::Pipeline;
use super::remember::{Mark, Remembered};
use super::request::{Answer, Load, PreparedEvent, RequestView};
use super::{Reply, Shared, Submission, UNSYNCED_NS_MAX};
use crate::condition::Durability;
use crate::disk::{Access, DirectoryLock, Disk, DiskFile, Environment};
use crate::error::{AppendError, Poison};
use crate::ring::{Drain, Drained};
use crate::segment::{Ground, Image, ImageWriter, NewSegment, Predecessor, Reserved, RetiredImages, Segment, SegmentWriter};
use crate::sync::{Arc, RwLock, RwLockWriteGuard, write};

/// A jump of the clock beyond this is not believed without being told to.
const CLOCK_JUMP_NS_MAX: u64 = 3_600_000_000_000;

/// What the caller of open decided about writing.
#[derive(Debug, Clone)]
pub(crate) struct CoreOptions {
    pub segment_bytes: u64,
    pub block_bytes: u32,
    pub accept_clock_jump: bool,
    /// Keep a mark beside the store.
    pub remember: bool,
    /// Memory for heads of streams.
    pub heads_bytes_max: u64,
}

/// State of the one writer.
#[derive(Debug)]
pub(crate) struct Core {
    pub environment: Environment,
    pub options: CoreOptions,
    /// Randomness of this open; segment salts are derived from it, so that they do not depend on how often others draw.
    pub seed: [u8; 32],
    pub epoch: u64,
    pub log_id: Link,
    pub writer: SegmentWriter,
    pub buckets: Buckets,
    pub next_position: u64,
    /// Digest of the last closed commit.
    pub commit_digest: Hash,
    /// What was found about the request whose turn it is.
    pub found: Found,
    /// What the log itself says against appends.
    pub brakes: Arc<Brakes>,
    /// Links of the commit under construction.
    pub links: Vec<Link>,
    /// Bucket of each of them.
    pub link_buckets: Vec<u16>,
    /// recorded_at of the last record.
    pub time_ns: u64,
    /// Real and monotonic time of the last reading.
    pub clock_read: Option<(u64, u64)>,
    /// When the oldest unsynced commit was written, by the monotonic clock.
    pub unsynced_since_ns: Option<u64>,
    /// The next segment, made ready before it is needed.
    pub spare: Option<Spare>,
    /// Segments that the writer before had made ready. Removing them gives space back, and takes its time.
    pub leftovers: Vec<String>,
    /// Whose memory may be used again as soon as nobody reads them.
    pub retired: RetiredImages,
    /// The last commit on disk says that the log was closed.
    pub is_closed: bool,
    pub lock: Option<Box<dyn DirectoryLock>>,
}

/// What a segment needs before it begins: space, memory, and ground made ready.
#[derive(Debug)]
pub(crate) struct Spare {
    reserved: Reserved,
    segment_bytes: u64,
    image: ImageWriter,
    pub(super) ground: Arc<Ground>,
}

impl Spare {
    /// Reserves space and memory, if there is none to use `again`.
    ///
    /// # Errors
    /// Want of either; nothing was promised.
    fn new(disk: &dyn Disk, number: u64, segment_bytes: u64, again: Option<ImageWriter>) -> io::Result<Spare> {
        let image = again.map_or_else(|| Image::create(segment_bytes as usize, None), Ok)?;
        Ok(Spare::of(Reserved::new(disk, number, segment_bytes)?, segment_bytes, image))
    }

    /// The same, ahead of need, with the memory taken; memory that others may look at, if they are to, and the system has such.
    ///
    /// # Errors
    /// As for [`Spare::new`].
    pub(super) fn ahead(disk: &dyn Disk, number: u64, segment_bytes: u64, again: Option<ImageWriter>, is_shown: bool) -> io::Result<Spare> {
        let image = match again {
            Some(image) => image,
            None => {
                let shown = is_shown.then(|| disk.create_memory(segment_bytes)).flatten();
                let image = Image::create(segment_bytes as usize, shown)?;
                image.image().populate();
                image
            }
        };
        Ok(Spare::of(Reserved::ahead(disk, number, segment_bytes)?, segment_bytes, image))
    }

    fn of(reserved: Reserved, segment_bytes: u64, image: ImageWriter) -> Spare {
        let ground = Arc::new(Ground::new(Arc::clone(reserved.file()), 0, 0, segment_bytes));
        Spare { reserved, segment_bytes, image, ground }
    }

    /// Gives everything back.
    pub(super) fn discard(self, disk: &dyn Disk) {
        self.ground.close();
        self.reserved.discard(disk);
    }
}

/// The consumer's end of the rings.
#[derive(Debug)]
pub(crate) struct Intake {
    drain: Drain<Submission>,
    /// What was drained; empty between two leads.
    drained: Vec<Drained<Submission>>,
    lanes: Lanes,
    digests: Vec<Hash>,
}

impl Intake {
    pub(super) fn new(drain: Drain<Submission>) -> Intake {
        Intake { drain, drained: Vec::new(), lanes: Lanes::new(), digests: Vec::new() }
    }

    /// Takes everything out of the rings, and computes what their callers left to be computed side by side.
    fn take_in(&mut self) {
        self.drain.drain(&mut self.drained);
        let unhashed = |load: &Load| matches!(load, Load::Event(event) if event.digest.is_none());
        let events: Vec<LaneEvent<'_>> = (self.drained.iter().map(Drained::parts))
            .filter_map(|(submission, at)| match &submission.load {
                Load::Event(event) if event.digest.is_none() => {
                    Some(event.lane_event(event.content(self.drain.content(at)), EventId::default(), 0, 0))
                }
                _ => None,
            })
            .collect();
        self.digests.clear();
        self.lanes.event_digests(&events, &mut self.digests);
        let waiting = self.drained.iter_mut().map(Drained::request_mut).filter(|submission| unhashed(&submission.load));
        for (submission, digest) in waiting.zip(&self.digests) {
            if let Load::Event(event) = &mut submission.load {
                event.digest = Some(*digest);
            }
        }
    }
}

/// The directory, locked for as long as it is moved.
pub(super) struct Held<'a> {
    lock: &'a RwLock<Directory>,
    guard: Option<RwLockWriteGuard<'a, Directory>>,
}

impl<'a> Held<'a> {
    fn new(lock: &'a RwLock<Directory>) -> Held<'a> {
        Held { lock, guard: None }
    }

    fn get(&mut self) -> &mut Directory {
        self.guard.get_or_insert_with(|| write(self.lock))
    }

    pub(super) fn release(&mut self) {
        self.guard = None;
    }
}

/// Answers on their way, with the callers who get them.
pub(super) type Answers = Vec<(Reply, Answer)>;

/// A closed commit, and what is to be answered when it is durable.
#[derive(Debug)]
pub(super) struct Commit {
    pub file: Arc<dyn DiskFile>,
    pub image: Arc<Image>,
    /// Where its bytes are, in the image as in the file.
    pub range: Range<usize>,
    /// Number of its flight.
    pub flight: u64,
    /// What it was written to, for reports.
    pub segment: String,
}

/// What became of the requests that were drained.
#[derive(Debug, Default)]
pub(super) struct Led {
    /// To be written and landed by whoever led.
    pub commit: Option<Commit>,
    /// Something was drained or made durable.
    pub did_something: bool,
}

/// Why a rotation did not happen.
enum RotateError {
    /// What the next segment needs is not to be had now; nothing was changed.
    Refused(io::Error),
    /// Final.
    Fatal(&'static str, io::Error),
}

fn refused(error: io::Error) -> AppendError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => AppendError::NoSpace(Arc::new(error)),
        _ => AppendError::NoSegment(Arc::new(error)),
    }
}

impl Core {
    /// Drains the rings and takes what was drained up to a closed commit, which the caller writes. With `sync`, everything placed so far is on its way
    /// to be durable afterwards.
    pub(super) fn lead(&mut self, intake: &mut Intake, pipeline: &Pipeline, sync: bool) -> Led {
        intake.take_in();
        let Intake { drain, drained, .. } = intake;
        let mut answers = Vec::with_capacity(drained.len());
        let mut did_something = !drained.is_empty();
        let mut directory = Held::new(&pipeline.shared.directory);
        let mut rest = drained.drain(..);
        loop {
            let ahead = rest.as_slice();
            if ahead.len().is_multiple_of(STRETCH) {
                directory.release();
                directory.get().touch(ahead.iter().take(STRETCH).filter_map(|drained| drained.parts().0.lone()));
            }
            let Some((Submission { mut load, durability, reply, checked }, at)) = rest.next().map(Drained::split) else { break };
            let answer = match (self.refusal(pipeline), &mut load) {
                (Some(refusal), _) => Answer::Failed(refusal),
                (None, Load::Statement(draft)) => self.sequence_statement(draft, &mut answers, &mut directory, pipeline),
                (None, load) => {
                    let request = match load {
                        Load::Event(event) => RequestView {
                            events: std::slice::from_ref(event),
                            bytes: drain.content(at),
                            batch: false,
                            required: &[],
                            not_after_ns: None,
                            checked,
                        },
                        Load::Parcel(parcel) => parcel.view(checked),
                        Load::Statement(_) => unreachable!("matched before"),
                    };
                    self.sequence(request, durability, &mut answers, &mut directory, pipeline)
                }
            };
            if let Load::Parcel(parcel) = load {
                pipeline.rings.give_back_beside(parcel.bytes.len() as u64);
                pipeline.parcels.give(parcel);
            }
            answers.push((reply, answer));
        }
        directory.release();
        drop(rest);
        drain.give_back();
        if self.lock.is_none() {
            // Refusals of a log that is closed, which wait for nothing.
            pipeline.deliver(answers);
            return Led { commit: None, did_something };
        }
        did_something |= sync && self.unsynced_since_ns.is_some();
        Led { commit: self.close_commit(answers, pipeline, sync), did_something }
    }

    fn refusal(&self, pipeline: &Pipeline) -> Option<AppendError> {
        match pipeline.poison.get() {
            Some(poison) => Some(AppendError::Poisoned(Arc::clone(poison))),
            None if self.lock.is_none() => Some(AppendError::Closed),
            None => None,
        }
    }

    /// Decides one request and, if it may happen, places it whole. `answers` are those before it in the same group.
    fn sequence(
        &mut self,
        request: RequestView<'_>,
        durability: Durability,
        answers: &mut Answers,
        directory: &mut Held<'_>,
        pipeline: &Pipeline,
    ) -> Answer {
        if request.events.len() > 1 {
            directory.get().touch(request.events.iter().map(PreparedEvent::ids));
        }
        match decide(directory.get(), &*pipeline.shared, request, &mut self.found) {
            Ok(()) => {}
            Err(Refusal::Known(positions)) => return Answer::Known { parcel: Box::new(request.to_parcel()), durability, positions },
            Err(Refusal::Failed(error)) => return Answer::Failed(error),
        }
        let bars = self.bars(request);
        if !bars.is_empty() {
            return Answer::Failed(AppendError::Barred(bars));
        }
        let now_ns = match self.read_clock() {
            Ok(now_ns) => now_ns,
            Err(error) => return Answer::Failed(error),
        };
        if let Some(not_after_ns) = request.not_after_ns.filter(|not_after_ns| now_ns > *not_after_ns) {
            return Answer::Failed(AppendError::TooLate { not_after_ns, now_ns });
        }
        let frames_bytes = request.frames_bytes_max();
        debug_assert!(frames_bytes <= BATCH_BYTES_MAX, "the front door bounds a request");
        if !self.writer.has_room(frames_bytes) {
            // Takes its time, and moves no head.
            directory.release();
            if let Err(error) = self.make_room(frames_bytes, answers, pipeline) {
                return Answer::Failed(error);
            }
        }
        self.time_ns = now_ns;
        let receipt = self.place(request, durability, directory.get());
        self.turn_brakes(request, &pipeline.shared);
        Answer::Appended(receipt)
    }

    /// Ends the live segment and begins one that has room for `frames_bytes`. Rotation is a barrier: what the old segment holds is durable before
    /// the new one exists.
    pub(super) fn make_room(&mut self, frames_bytes: u64, answers: &mut Answers, pipeline: &Pipeline) -> Result<(), AppendError> {
        if let Some(commit) = self.close_commit(std::mem::take(answers), pipeline, true) {
            pipeline.write(commit);
        }
        pipeline.wait_for_all();
        let poisoned = |poison: &Arc<Poison>| Err(AppendError::Poisoned(Arc::clone(poison)));
        if let Some(poison) = pipeline.poison.get() {
            return poisoned(poison);
        }
        match self.rotate(frames_bytes, &pipeline.shared) {
            Ok(()) => Ok(()),
            Err(RotateError::Refused(error)) => Err(refused(error)),
            Err(RotateError::Fatal(doing, error)) => poisoned(&pipeline.fail(self.doing(doing), error)),
        }
    }

    /// The time of the next record: the clock's, but never before the last record's.
    pub(super) fn read_clock(&mut self) -> Result<u64, AppendError> {
        let clock = &self.environment.clock;
        let (real, monotonic) = (clock.realtime_ns(), clock.monotonic_ns());
        if let Some((last_real, last_monotonic)) = self.clock_read {
            let passed = monotonic.saturating_sub(last_monotonic);
            // A clock that was wrong and is put right does not run ahead of what was recorded.
            let ahead_ns = real.saturating_sub(last_real.max(self.time_ns)).saturating_sub(passed);
            if ahead_ns > CLOCK_JUMP_NS_MAX && !self.options.accept_clock_jump {
                return Err(AppendError::ClockJump { ahead_ns });
            }
        }
        self.clock_read = Some((real, monotonic));
        Ok(real.max(self.time_ns))
    }

    /// Closes the commit under construction and launches it with its answers. `None` if nothing is left to be written by the caller.
    ///
    /// What is to be durable is written by the caller, who has let go of the leadership by then, so that the next commit is sequenced meanwhile. Bytes
    /// that nobody waits to be synced go through the page cache, and are synced through it, here.
    ///
    /// The two ways never meet in one page: the kernel fails the next sync of a file in which a page was made dirty while it was written past the cache.
    /// As long as a page may be dirty, everything goes through the cache; as long as something is being written past it, everything goes past it.
    fn close_commit(&mut self, answers: Answers, pipeline: &Pipeline, sync: bool) -> Option<Commit> {
        let has_frames = !self.links.is_empty();
        let monotonic_ns = self.environment.clock.monotonic_ns();
        // Somebody waits for the device, or an answer was decided on heads that are not durable yet, or what is unsynced is getting old.
        let waited_for = |answer: &Answer| !matches!(answer, Answer::Appended(receipt) if receipt.durability == Durability::Written);
        let is_old = self.unsynced_since_ns.is_some_and(|since| monotonic_ns.saturating_sub(since) > UNSYNCED_NS_MAX);
        let is_past_cache = has_frames && self.unsynced_since_ns.is_none() && pipeline.in_flight() > 0;
        let due = sync || is_old || is_past_cache || answers.iter().any(|(_, answer)| waited_for(answer));
        if has_frames {
            let first_position = self.next_position - self.links.len() as u64;
            pipeline.shared.feed.put(first_position, &self.links, &self.link_buckets);
            self.place_trailer(0, pipeline.shared.watermark());
        }
        if due && self.unsynced_since_ns.is_none() {
            let flight = pipeline.launch(answers, has_frames.then(|| self.reach()))?;
            if has_frames {
                let (file, image) = (Arc::clone(self.writer.file()), Arc::clone(self.writer.image()));
                return Some(Commit { file, image, range: self.writer.take_closed(), flight, segment: self.writer.segment().name() });
            }
            pipeline.land(flight, Ok(()), || unreachable!("nothing was done"));
            return None;
        }
        let flight = pipeline.launch(answers, due.then(|| self.reach()))?;
        let mut doing = "writing a commit";
        let mut result = self.writer.write();
        if result.is_ok() && has_frames {
            self.unsynced_since_ns.get_or_insert(monotonic_ns);
        }
        if result.is_ok() && due {
            doing = "syncing a commit";
            result = self.writer.sync();
            self.unsynced_since_ns = None;
        }
        pipeline.land(flight, result, || self.doing(doing));
        None
    }

    /// How far the log is durable, once everything is that was closed.
    pub(super) fn reach(&self) -> Reach {
        let memory = self.writer.image().shown_at();
        Reach { position: self.next_position, segment: self.writer.header().number.get(), end: self.writer.end(), memory }
    }

    fn place_trailer(&mut self, flags: u32, watermark: u64) {
        let count = self.links.len() as u32;
        let first_position = self.next_position - u64::from(count);
        let digest = hash::commit_digest(&self.commit_digest, first_position, count, self.time_ns, &self.links);
        let mut trailer = CommitTrailer::new_zeroed();
        trailer.first_position = first_position.into();
        trailer.count = count.into();
        trailer.flags = flags.into();
        trailer.watermark = watermark.into();
        trailer.time_ns = self.time_ns.into();
        trailer.epoch = self.epoch.into();
        trailer.previous_digest = self.commit_digest;
        trailer.digest = digest;
        self.writer.place_trailer(trailer);
        self.commit_digest = digest;
        self.links.clear();
        self.link_buckets.clear();
        self.is_closed = flags & FLAG_CLOSED != 0;
    }

    /// Seals the live segment and begins the next one, which takes a commit of `frames_bytes`. Everything placed is durable when this is called.
    ///
    /// reserve(next); write(old, footer); ftruncate(old); fsync(old); write(next, header); fsync(next); rename(next); fsync(directory)
    fn rotate(&mut self, frames_bytes: u64, shared: &Shared) -> Result<(), RotateError> {
        assert!(self.links.is_empty() && shared.watermark() == self.next_position, "rotation is a barrier");
        let disk = Arc::clone(&self.environment.disk);
        let block = u64::from(self.options.block_bytes);
        let number = self.writer.header().number.get() + 1;
        // Header, the commit, and the block that `has_room` keeps for the closing commit.
        let needed = 2 * block + align(frames_bytes + TRAILER_BYTES as u64, block);
        let segment_bytes = self.options.segment_bytes.max(needed);
        // Whatever may be lacking, memory, files or space, shows here, where nothing was promised or changed yet.
        let spare = match self.spare.take() {
            Some(spare) if spare.reserved.number() == number && spare.segment_bytes == segment_bytes => spare,
            other => {
                other.into_iter().for_each(|other| other.discard(&*disk));
                Spare::new(&*disk, number, segment_bytes, self.retired.again(segment_bytes, None)).map_err(RotateError::Refused)?
            }
        };
        let Spare { reserved, image, ground, .. } = spare;
        let ready_to = ground.ready_to();
        ground.close();
        self.writer.ground().close();

        let end = self.writer.end();
        let footer = self.footer();
        let old = self.writer.file();
        let seal = || {
            old.write_all_at(&footer, end)?;
            old.set_bytes(end + footer.len() as u64)?;
            old.sync_all()
        };
        seal().map_err(|error| RotateError::Fatal("sealing a segment", error))?;

        let next = NewSegment {
            number,
            segment_bytes,
            block_bytes: self.options.block_bytes,
            epoch: self.epoch,
            first_position: self.next_position,
            created_at_ns: self.time_ns,
            salt: segment_salt(&self.seed, number),
            log_id: self.log_id.0,
            predecessor: Some(Predecessor {
                end_offset: end,
                footer_bytes: footer.len() as u64,
                cut_bytes: 0,
                commit_digest: self.commit_digest,
                heads_root: self.buckets.root(self.log_id),
            }),
        };
        let header = next.header();
        let begin = || {
            let (file, bytes) = reserved.publish(&*disk, &header, &[])?;
            Ok(SegmentWriter::new(file, header, image, &bytes, ready_to, Vec::new()))
        };
        let writer = begin().map_err(|error| RotateError::Fatal("beginning a segment", error))?;

        let old = std::mem::replace(&mut self.writer, writer);
        // Without a mapping the image goes on serving: more memory, the same bytes. Opened by its name, which a mapping asks when it cannot be read;
        // the file was created under another one.
        let region = disk.open(&old.segment().name(), Access::Read).and_then(|file| file.region(end as usize)).ok();
        shared.change_catalog(|catalog| {
            if let Some(region) = region {
                catalog.replace_last(Arc::new(Segment::sealed(old.header(), region, footer.len() as u64, old.segment().offsets())));
            }
            catalog.push(Arc::clone(self.writer.segment()));
        });
        self.retired.push(Arc::clone(old.image()));
        write(&shared.directory).begin_segment(self.next_position);
        shared.index.note_ended(Arc::clone(old.segment()));
        self.leave_mark(shared);
        Ok(())
    }

    /// Goes on in an image that others may look at, which holds what was placed a moment ago.
    pub(super) fn show(&mut self, shown: ImageWriter, shared: &Shared) {
        self.writer.move_to(shown);
        shared.change_catalog(|catalog| catalog.replace_last(Arc::clone(self.writer.segment())));
    }

    /// Leaves the mark beside the store, saying what is durable now.
    pub(super) fn leave_mark(&self, shared: &Shared) {
        let Some(position) = shared.watermark().checked_sub(1).filter(|_| self.options.remember) else { return };
        if let Ok(frame) = shared.catalog().frame(position) {
            let seen = Remembered { position: Position(position), link: Some(frame.link()) };
            Mark { log_id: self.log_id, seen }.leave(&*self.environment.disk);
        }
    }

    fn footer(&self) -> Vec<u8> {
        let content = FooterContent {
            end_offset: self.writer.end(),
            next_position: self.next_position,
            commit_digest: &self.commit_digest,
            heads: &self.buckets.list(),
            offsets: &self.writer.segment().offsets(),
        };
        footer::encode(&content, self.writer.seed())
    }

    /// Writes the closing commit, which carries the watermark of everything, and cuts off the space that was reserved and not used.
    ///
    /// write(closing commit); fdatasync; ftruncate(end); fsync
    pub(super) fn close(&mut self, pipeline: &Pipeline) -> Result<(), AppendError> {
        self.writer.ground().close();
        if pipeline.poison.get().is_some() {
            return Ok(());
        }
        if self.is_closed {
            // Nothing was appended: the space that was reserved at open is given back. Failing here changes nothing.
            let _ = self.writer.file().set_bytes(self.writer.end());
            return Ok(());
        }
        assert!(self.links.is_empty() && pipeline.shared.watermark() == self.next_position, "what is closed is durable");
        self.place_trailer(FLAG_CLOSED, self.next_position);
        let end = self.writer.end();
        self.leave_mark(&pipeline.shared);
        let result = self.writer.write().and_then(|()| self.writer.sync()).and_then(|()| {
            self.writer.file().set_bytes(end)?;
            self.writer.file().sync_all()
        });
        result.map_err(|source| AppendError::Poisoned(pipeline.fail(self.doing("closing the log"), source)))
    }

    /// What was being done, with the file it was done to.
    fn doing(&self, doing: &str) -> String {
        format!("{doing} ({})", self.writer.segment().name())
    }

    /// Whether this is the writer of the store.
    pub(super) fn is_open(&self) -> bool {
        self.lock.is_some()
    }

    /// Lets another writer in.
    pub(super) fn unlock(&mut self) {
        let disk = &*self.environment.disk;
        self.spare.take().into_iter().for_each(|spare| spare.discard(disk));
        // Best effort, here as in the keeper: the next writer meets what is left.
        self.leftovers.drain(..).for_each(|name| drop(disk.remove(&name)));
        self.lock = None;
    }
}

/// Salt of a segment, from the randomness of this open.
pub(super) fn segment_salt(seed: &[u8; 32], number: u64) -> [u8; 16] {
    let mut input = *b"segment salt\0\0\0\0\0\0\0\0";
    input[12..].copy_from_slice(&number.to_le_bytes());
    *blake3::keyed_hash(seed, &input).as_bytes().first_chunk().expect("32 bytes")
}
