//! What the leader holds: the live segment, the heads of buckets, and where the log stands.
//!
//! The states of a commit, as `engine/ARCHITECTURE.md` names them: a drained request is *sequenced* here (decided, placed, linked), its commit is
//! *submitted* (`write`), *complete* and *durable* (`sync`, then the watermark), and its answer *released*.

use std::io;

use chainring_format::align;
use chainring_format::commit::{CommitTrailer, FLAG_CLOSED, TRAILER_BYTES};
use chainring_format::footer::{self, FooterContent};
use chainring_format::frame::{FrameFields, KIND_EVENT, back_distance};
use chainring_format::hash::{self, CommitHasher, Hash, LeafFields};
use chainring_format::limits::BATCH_BYTES_MAX;
use chainring_format::{Link, Position, Version};
use zerocopy::FromZeros;

use super::decide::decide;
use super::heads::{Buckets, StreamHead};
use super::remember::{Mark, Remembered};
use super::request::{Answer, EventReceipt, PreparedEvent, PreparedRequest, Receipt};
use super::{Answers, Shared, Submission, UNSYNCED_NS_MAX};
use crate::condition::Durability;
use crate::disk::{Access, DirectoryLock, Environment};
use crate::error::{AppendError, Poison};
use crate::segment::{Image, NewSegment, Predecessor, Reserved, Segment, SegmentWriter};
use crate::sync::{Arc, OnceLock, Ordering, write};

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
    /// Links of the commit under construction.
    pub links: Vec<Link>,
    /// recorded_at of the last record.
    pub time_ns: u64,
    /// Real and monotonic time of the last reading.
    pub clock_read: Option<(u64, u64)>,
    /// Position after the last one known durable.
    pub watermark: u64,
    /// When the oldest unsynced commit was written, by the monotonic clock.
    pub unsynced_since_ns: Option<u64>,
    /// The last commit on disk says that the log was closed.
    pub is_closed: bool,
    pub lock: Option<Box<dyn DirectoryLock>>,
}

/// The group under way: answers that leave when their commit is durable, and answers that may leave.
struct Group<'a> {
    shared: &'a Shared,
    poison: &'a OnceLock<Arc<Poison>>,
    pending: Vec<(Submission, Answer)>,
    released: Answers,
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
    /// Takes a drained group through to its answers. With `sync`, everything placed so far is durable afterwards.
    pub(super) fn run(&mut self, submissions: Vec<Submission>, shared: &Shared, poison: &OnceLock<Arc<Poison>>, sync: bool) -> Answers {
        let mut group = Group { shared, poison, pending: Vec::with_capacity(submissions.len()), released: Answers::default() };
        for mut submission in submissions {
            let request = submission.request.take().expect("a submission is led once");
            if let Some(refusal) = self.refusal(poison) {
                group.released.0.push((submission, Answer::Failed(refusal)));
                continue;
            }
            let answer = self.sequence(request, &mut group);
            group.pending.push((submission, answer));
        }
        if poison.get().is_none() && self.lock.is_some() {
            self.commit(&mut group, sync);
        }
        // A rotation that failed has poisoned the log: what is left is its answer, which waits for nothing.
        group.released.0.append(&mut group.pending);
        group.released
    }

    fn refusal(&self, poison: &OnceLock<Arc<Poison>>) -> Option<AppendError> {
        match poison.get() {
            Some(poison) => Some(AppendError::Poisoned(Arc::clone(poison))),
            None if self.lock.is_none() => Some(AppendError::Closed),
            None => None,
        }
    }

    /// Decides one request and, if it may happen, places it whole.
    fn sequence(&mut self, request: PreparedRequest, group: &mut Group<'_>) -> Answer {
        let decided = decide(&crate::sync::read(&group.shared.directory), request);
        let request = match decided {
            Ok(request) => request,
            Err(answer) => return answer,
        };
        let now_ns = match self.read_clock() {
            Ok(now_ns) => now_ns,
            Err(error) => return Answer::Failed(error),
        };
        let frames_bytes = request.frames_bytes_max();
        debug_assert!(frames_bytes <= BATCH_BYTES_MAX, "the front door bounds a request");
        if !self.writer.has_room(frames_bytes) {
            // Rotation is a barrier: what the old segment holds is durable before the new one exists.
            self.commit(group, true);
            if let Some(poison) = group.poison.get() {
                return Answer::Failed(AppendError::Poisoned(Arc::clone(poison)));
            }
            match self.rotate(frames_bytes, group.shared) {
                Ok(()) => {}
                Err(RotateError::Refused(error)) => return Answer::Failed(refused(error)),
                Err(RotateError::Fatal(doing, error)) => {
                    return Answer::Failed(AppendError::Poisoned(group.fail(self.doing(doing), error)));
                }
            }
        }
        self.time_ns = now_ns;
        Answer::Appended(self.place(&request, group.shared))
    }

    /// The time of the next record: the clock's, but never before the last record's.
    fn read_clock(&mut self) -> Result<u64, AppendError> {
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

    /// Assigns positions, versions and links, and puts the frames into the image. Cannot fail: everything was decided and counted before.
    fn place(&mut self, request: &PreparedRequest, shared: &Shared) -> Receipt {
        let mut directory = write(&shared.directory);
        let batch_count = request.batch_count();
        let mut events = Vec::with_capacity(request.events.len());
        for (index, event) in request.events.iter().enumerate() {
            let head = directory.streams.get(&event.stream.id).copied();
            let batch_index = if request.batch { index as u32 } else { 0 };
            let receipt = self.place_event(event, head, batch_index, batch_count);
            let (version, position, link) = (receipt.version.0, receipt.position.0, receipt.link);
            let first_position = head.map_or(position, |head| head.first_position);
            directory
                .streams
                .insert(event.stream.id, StreamHead { version, position, link, first_position, name_rest: event.stream.name_rest });
            directory.ids.insert(event.event_id, position);
            events.push(receipt);
        }
        Receipt { events, epoch: self.epoch, durability: request.durability, duplicate: false }
    }

    fn place_event(&mut self, event: &PreparedEvent, head: Option<StreamHead>, batch_index: u32, batch_count: u32) -> EventReceipt {
        let position = self.next_position;
        let bucket = event.stream.id.bucket();
        let bucket_head = self.buckets.get(bucket);
        let version = head.map_or(0, |head| head.version) + 1;
        let prev_stream = head.map_or_else(|| hash::name_commit(&self.log_id, &event.stream.name), |head| head.link.0);
        let link = hash::link(&hash::leaf(&LeafFields {
            kind: KIND_EVENT,
            bucket,
            version,
            recorded_at_ns: self.time_ns,
            digest: &event.digest,
            prev_bucket: &bucket_head.map_or(self.log_id, |head| head.link).0,
            prev_stream: &prev_stream,
        }));
        self.writer.place_frame(
            position,
            &FrameFields {
                kind: KIND_EVENT,
                version,
                recorded_at_ns: self.time_ns,
                bucket_back: back_distance(position, bucket_head.map(|head| head.position)),
                stream_back: back_distance(position, head.map(|head| head.position)),
                batch_index,
                batch_count,
                stream_id: event.stream.id,
                event_id: event.event_id,
                link,
                name: if version == 1 { &event.stream.name } else { "" },
                metadata: &event.metadata,
                body: &event.body,
                salt: event.salt.as_ref(),
                slot_crc: event.slot_crc,
            },
        );
        self.buckets.advance(bucket, position, link);
        self.links.push(link);
        self.next_position += 1;
        EventReceipt { position: Position(position), version: Version(version), link }
    }

    /// Closes, writes and, where somebody waits for it, syncs what was placed; then the answers of the group may leave.
    fn commit(&mut self, group: &mut Group<'_>, sync: bool) {
        let result = self.try_commit(&group.pending, sync);
        let pending = std::mem::take(&mut group.pending);
        match result {
            Ok(()) => {
                // Pairs with the Acquire in `Shared::watermark`: who sees it sees the placed frames and heads below it.
                group.shared.watermark.store(self.watermark, Ordering::Release);
                group.released.0.extend(pending);
            }
            Err((doing, error)) => {
                let poison = group.fail(self.doing(doing), error);
                let unknown = |(submission, _)| (submission, Answer::Failed(AppendError::OutcomeUnknown(Arc::clone(&poison))));
                group.released.0.extend(pending.into_iter().map(unknown));
            }
        }
    }

    fn try_commit(&mut self, pending: &[(Submission, Answer)], sync: bool) -> Result<(), (&'static str, io::Error)> {
        let monotonic_ns = self.environment.clock.monotonic_ns();
        if !self.links.is_empty() {
            self.place_trailer(0);
            self.writer.write().map_err(|error| ("writing a commit", error))?;
            self.unsynced_since_ns.get_or_insert(monotonic_ns);
        }
        // Somebody waits for the device, or an answer was decided on heads that are not durable yet, or what is unsynced is getting old.
        let waited_for = |answer: &Answer| !matches!(answer, Answer::Appended(receipt) if receipt.durability == Durability::Written);
        let is_old = |since| monotonic_ns.saturating_sub(since) > UNSYNCED_NS_MAX;
        let due = sync || pending.iter().any(|(_, answer)| waited_for(answer)) || self.unsynced_since_ns.is_some_and(is_old);
        if due && self.unsynced_since_ns.is_some() {
            self.writer.sync().map_err(|error| ("syncing a commit", error))?;
            self.unsynced_since_ns = None;
            self.watermark = self.next_position;
        }
        Ok(())
    }

    fn place_trailer(&mut self, flags: u32) {
        let count = self.links.len() as u32;
        let first_position = self.next_position - u64::from(count);
        let digest = CommitHasher::new(&self.commit_digest, first_position, count, self.time_ns).links(&self.links).finish();
        let mut trailer = CommitTrailer::new_zeroed();
        trailer.first_position = first_position.into();
        trailer.count = count.into();
        trailer.flags = flags.into();
        trailer.watermark = self.watermark.into();
        trailer.time_ns = self.time_ns.into();
        trailer.epoch = self.epoch.into();
        trailer.previous_digest = self.commit_digest;
        trailer.digest = digest;
        self.writer.place_trailer(trailer);
        self.commit_digest = digest;
        self.links.clear();
        self.is_closed = flags & FLAG_CLOSED != 0;
    }

    /// Seals the live segment and begins the next one, which takes a commit of `frames_bytes`. Everything placed is durable when this is called.
    ///
    /// reserve(next); write(old, footer); ftruncate(old); fsync(old); write(next, header); fsync(next); rename(next); fsync(directory)
    fn rotate(&mut self, frames_bytes: u64, shared: &Shared) -> Result<(), RotateError> {
        assert!(self.links.is_empty() && self.watermark == self.next_position, "rotation is a barrier");
        let disk = Arc::clone(&self.environment.disk);
        let block = u64::from(self.options.block_bytes);
        let number = self.writer.header().number.get() + 1;
        // Header, the commit, and the block that `has_room` keeps for the closing commit.
        let needed = 2 * block + align(frames_bytes + TRAILER_BYTES as u64, block);
        let segment_bytes = self.options.segment_bytes.max(needed);
        // Whatever may be lacking, memory, files or space, shows here, where nothing was promised or changed yet.
        let image = Image::create(segment_bytes as usize).map_err(RotateError::Refused)?;
        let reserved = Reserved::new(&*disk, number, segment_bytes).map_err(RotateError::Refused)?;

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
            Ok(SegmentWriter::new(file, header, image, &bytes, Vec::new()))
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
        self.leave_mark(shared);
        Ok(())
    }

    /// Leaves the mark beside the store, saying what is durable now.
    pub(super) fn leave_mark(&self, shared: &Shared) {
        let Some(position) = self.watermark.checked_sub(1).filter(|_| self.options.remember) else { return };
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
    pub(super) fn close(&mut self, shared: &Shared, poison: &OnceLock<Arc<Poison>>) -> Result<(), AppendError> {
        if poison.get().is_some() {
            return Ok(());
        }
        if self.is_closed {
            // Nothing was appended: the space that was reserved at open is given back. Failing here changes nothing.
            let _ = self.writer.file().set_bytes(self.writer.end());
            return Ok(());
        }
        assert!(self.links.is_empty() && self.watermark == self.next_position, "what is closed is durable");
        self.place_trailer(FLAG_CLOSED);
        let end = self.writer.end();
        self.leave_mark(shared);
        let result = self.writer.write().and_then(|()| self.writer.sync()).and_then(|()| {
            self.writer.file().set_bytes(end)?;
            self.writer.file().sync_all()
        });
        result.map_err(|source| {
            let error = Arc::new(Poison { doing: self.doing("closing the log"), source: Some(source) });
            AppendError::Poisoned(Arc::clone(poison.get_or_init(|| error)))
        })
    }

    /// What was being done, with the file it was done to.
    fn doing(&self, doing: &str) -> String {
        format!("{doing} ({})", self.writer.segment().name())
    }

    /// Lets another writer in.
    pub(super) fn unlock(&mut self) {
        self.lock = None;
    }
}

impl Group<'_> {
    /// Poisons the log.
    fn fail(&self, doing: String, error: io::Error) -> Arc<Poison> {
        Arc::clone(self.poison.get_or_init(|| Arc::new(Poison { doing, source: Some(error) })))
    }
}

/// Salt of a segment, from the randomness of this open.
pub(super) fn segment_salt(seed: &[u8; 32], number: u64) -> [u8; 16] {
    let mut input = *b"segment salt\0\0\0\0\0\0\0\0";
    input[12..].copy_from_slice(&number.to_le_bytes());
    *blake3::keyed_hash(seed, &input).as_bytes().first_chunk().expect("32 bytes")
}
