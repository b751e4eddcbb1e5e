//! Making a store, and making a recovered store writable.
//!
//! A store that was closed in order is continued in its last segment if that is short; else a new one begins, whose header names the exact end
//! of its predecessor and the bytes cut (rule R1). One rename is the only commit point, so an interrupted beginning can be repeated.

use chainring_format::commit::CommitTrailer;
use chainring_format::frame::{FrameFields, GenesisBody, KIND_GENESIS, back_distance, slot_crc};
use chainring_format::hash::{Hash, commit_digest};
use chainring_format::limits::BUCKET_COUNT;
use chainring_format::segment::file_name;
use chainring_format::{EventId, Link, SUITE, StreamId};
use zerocopy::{FromZeros, IntoBytes};

use super::core::{Core, CoreOptions, Intake, segment_salt};
use super::decide::Found;
use super::live::LiveWriter;
use super::recover::{LastSegment, Recovered};
use super::statement::statement_link;
use super::{BESIDE_BYTES_MAX, RING_SIZES, Sequencer, Shared};
use crate::disk::{DirectoryLock, Environment};
use crate::error::OpenError;
use crate::ring::Rings;
use crate::segment::{Image, NewSegment, Predecessor, Reserved, RetiredImages, SegmentWriter, Tail, lone_commit, reserved_bytes};
use crate::sync::Arc;

/// What a log is born with, and keeps.
pub(crate) struct Founding<'a> {
    pub origin: &'a str,
    /// Signs its checkpoints; zeros while there is none.
    pub log_key: [u8; 32],
}

/// The first commit of every store: the genesis record. Returns the bytes behind the header block, built in a throw-away segment image.
fn genesis(environment: &Environment, seed: &[u8; 32], founding: &Founding<'_>) -> (u64, Link, Vec<u8>, Hash) {
    let created_at_ns = environment.clock.realtime_ns();
    let mut body = GenesisBody::new_zeroed();
    body.nonce = *blake3::keyed_hash(seed, b"genesis nonce").as_bytes();
    body.created_at_ns = created_at_ns.into();
    body.bucket_count = u32::from(BUCKET_COUNT).into();
    body.suite = u16::from(SUITE).into();
    body.log_key = founding.log_key;
    body.origin_bytes = (founding.origin.len() as u16).into();
    let body = [body.as_bytes(), founding.origin.as_bytes()].concat();
    let link = statement_link(KIND_GENESIS, 0, created_at_ns, &body, &[0; 32]);
    let commit_digest = commit_digest(&[0; 32], 0, 1, created_at_ns, [&link]);
    (created_at_ns, link, body, commit_digest)
}

/// Makes a new store: the first segment with the genesis record in it, one rename.
pub(crate) fn create(environment: &Environment, options: &CoreOptions, seed: &[u8; 32], founding: &Founding<'_>) -> Result<(), OpenError> {
    let io = |doing: &'static str| OpenError::io(doing);
    let (created_at_ns, link, body, commit_digest) = genesis(environment, seed, founding);
    let segment = NewSegment {
        number: 1,
        segment_bytes: options.segment_bytes,
        block_bytes: options.block_bytes,
        epoch: 1,
        first_position: 0,
        created_at_ns,
        salt: segment_salt(seed, 1),
        log_id: link.0,
        predecessor: None,
    };
    let header = segment.header();
    let reserved = Reserved::new(&*environment.disk, 1, options.segment_bytes).map_err(io("reserving the first segment"))?;
    let fields = FrameFields {
        kind: KIND_GENESIS,
        version: 0,
        recorded_at_ns: created_at_ns,
        bucket_back: back_distance(0, None),
        stream_back: back_distance(0, None),
        batch_index: 0,
        batch_count: 0,
        stream_id: StreamId::default(),
        event_id: EventId::default(),
        link,
        name: "",
        metadata: &[],
        body: &body,
        salt: None,
        slot_crc: slot_crc(&body, None),
    };
    let mut trailer = CommitTrailer::new_zeroed();
    trailer.count = 1.into();
    trailer.time_ns = created_at_ns.into();
    trailer.epoch = 1.into();
    trailer.digest = commit_digest;
    let commit = lone_commit(&header, &fields, trailer);
    reserved.publish(&*environment.disk, &header, &commit).map_err(io("creating the first segment"))?;
    Ok(())
}

/// Makes a recovered store writable. Nothing before this has changed a byte.
///
/// A store that was just `created` keeps its first segment and its first epoch.
pub(crate) fn begin(
    mut recovered: Recovered,
    created: bool,
    environment: Environment,
    options: CoreOptions,
    seed: [u8; 32],
    lock: Box<dyn DirectoryLock>,
) -> Result<Sequencer, OpenError> {
    let epoch = if created { recovered.epoch } else { recovered.epoch + 1 };
    let same_blocks = recovered.last.header.block_bytes.get() == options.block_bytes;
    // fsync(directory)
    // The writer that gave the last segment its name may have died before the name was durable; what is begun now rests on it.
    environment.disk.sync_directory().map_err(OpenError::io("syncing the names of the segments"))?;
    let is_read = recovered.last.is_read;
    let is_continued = (created || recovered.closed) && same_blocks && is_read;
    let writer = if is_continued {
        // Recovery has just read this segment up to its end.
        let existing = recovered.catalog.segment(recovered.catalog.len() - 1);
        let existing = existing.read(0, recovered.last.end).expect("the last segment is held in memory");
        let writer = continue_segment(&recovered.last, existing)?;
        recovered.catalog.replace_last(Arc::clone(writer.segment()));
        writer
    } else {
        let writer = next_segment(&recovered, epoch, &environment, &options, &seed)?;
        recovered.catalog.push(Arc::clone(writer.segment()));
        writer
    };
    let engine_records = recovered.buckets.engine_records();
    let (rings, drain) = Rings::new(RING_SIZES, BESIDE_BYTES_MAX);
    let mut core = Core {
        environment,
        options,
        seed,
        epoch,
        log_id: recovered.log_id,
        writer,
        buckets: recovered.buckets,
        next_position: recovered.next_position,
        commit_digest: recovered.commit_digest,
        found: Found::default(),
        brakes: Arc::default(),
        links: Vec::new(),
        link_buckets: Vec::new(),
        time_ns: recovered.time_ns,
        clock_read: None,
        unsynced_since_ns: None,
        spare: None,
        leftovers: Vec::new(),
        retired: RetiredImages::default(),
        // A segment that was just begun says nothing yet.
        is_closed: recovered.closed && is_continued,
        lock: Some(lock),
    };
    recovered.index.sweep();
    let mut directory = recovered.directory;
    if !is_continued {
        directory.begin_segment(recovered.next_position);
    }
    let shared = Shared::new(recovered.catalog, directory, recovered.next_position, engine_records, recovered.index);
    core.brakes = Arc::new(shared.read_brakes()?);
    shared.set_brakes(&core.brakes);
    core.leave_mark(&shared);
    let live = LiveWriter::new(&*core.environment.disk, core.log_id, core.epoch, core.reach());
    Ok(Sequencer::new(core, Intake::new(drain), rings, Arc::new(shared), live))
}

/// Goes on where the last segment ends: nothing follows its closing commit.
///
/// fallocate(segment); fsync(segment)
fn continue_segment(last: &LastSegment, existing: &[u8]) -> Result<SegmentWriter, OpenError> {
    let resume = || {
        let image = Image::create(last.header.segment_bytes.get() as usize, None)?;
        last.file.reserve(reserved_bytes(last.header.segment_bytes.get()))?;
        last.file.sync_all()?;
        Ok(SegmentWriter::new(Arc::clone(&last.file), last.header, image, existing, 0, last.offsets.clone()))
    };
    resume().map_err(OpenError::io(format!("continuing {}", file_name(last.header.number.get()))))
}

/// Begins the segment behind one that is not continued, and names its end.
fn next_segment(
    recovered: &Recovered,
    epoch: u64,
    environment: &Environment,
    options: &CoreOptions,
    seed: &[u8; 32],
) -> Result<SegmentWriter, OpenError> {
    let (footer_bytes, cut_bytes) = match recovered.tail {
        Tail::Footer(footer_bytes) => (footer_bytes, 0),
        Tail::Torn { cut_bytes, .. } => (0, cut_bytes),
        Tail::Empty | Tail::Damaged(_) => (0, 0),
    };
    let last = &recovered.last;
    let number = last.header.number.get() + 1;
    let predecessor = Predecessor {
        end_offset: last.end,
        footer_bytes,
        cut_bytes,
        commit_digest: recovered.commit_digest,
        heads_root: recovered.buckets.root(recovered.log_id),
    };
    let header = NewSegment {
        number,
        segment_bytes: options.segment_bytes,
        block_bytes: options.block_bytes,
        epoch,
        first_position: recovered.next_position,
        created_at_ns: recovered.time_ns,
        salt: segment_salt(seed, number),
        log_id: recovered.log_id.0,
        predecessor: Some(predecessor),
    }
    .header();
    // The predecessor was synced before it was read (`recover`), so what the new header calls its end is on stable storage.
    let begin = || {
        let image = Image::create(options.segment_bytes as usize, None)?;
        let reserved = Reserved::new(&*environment.disk, number, options.segment_bytes)?;
        let (file, bytes) = reserved.publish(&*environment.disk, &header, &[])?;
        Ok(SegmentWriter::new(file, header, image, &bytes, 0, Vec::new()))
    };
    let writer = begin().map_err(OpenError::io(format!("beginning {}", file_name(number))))?;
    // Space that was reserved and holds only zeros is given back; what was cut stays as evidence. Failing here changes nothing.
    let _ = last.file.set_bytes(last.end + footer_bytes + cut_bytes);
    Ok(writer)
}
