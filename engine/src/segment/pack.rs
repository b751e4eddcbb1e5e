//! Writing a sealed segment anew without padding (FORMAT.md section 3.3).
//!
//! Always: the old file keeps its name until the new one was synced, read back from the device and found to be what was written. Everything that is
//! made anew was verified first, so damage never comes out looking right; a segment in which something does not hold is left as it is.
//! Never: writes to the old file, or retries.

use std::io;

use chainring_format::checksum::Seed;
use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::footer::{self, BucketHead, FooterContent, FooterHeader, HeadEntry, POSITION_STRIDE};
use chainring_format::frame::FrameHeader;
use chainring_format::hash::{Hash, packed_salt};
use chainring_format::limits::{BLOCK_BYTES_MAX, PACKED_BLOCK_BYTES};
use chainring_format::segment::{FEATURE_PACKED, HEADER_BYTES, SegmentHeader, file_name};
use chainring_format::{Link, Mark, Violation, align};
use zerocopy::{FromBytes, IntoBytes};

use super::cursor::{Commit, Cursor};
use super::{FileBuffer, NO_FRAME, SHORTENED, Segment, offset_entry};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Fault, FaultKind, PackError, ReadError};
use crate::sync::Arc;

/// A segment is packed if its padding exceeds one part in this many of its commits: below, writing it anew costs more than it gives back.
const PADDING_SHARE_MIN: u64 = 4;

/// Written and read back with one call.
const CHUNK_BYTES: usize = 1 << 20;

/// So many bytes hold every header's block.
const HEADER_BLOCK_BYTES: u64 = BLOCK_BYTES_MAX as u64;

/// A segment that was packed.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Bytes of header, commits and footer before and after.
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// The segment as it is read from now on; `None` where the new file could not be mapped: the mapping of the old one goes on serving the same records.
    pub segment: Option<Segment>,
}

impl Segment {
    /// Whether padding exceeds a quarter of its commits. Reads no more of the segment than it takes to tell: of one with large commits, a place in each.
    pub(crate) fn deserves_packing(&self) -> Result<bool, ReadError> {
        let body = self.body()?;
        let (block_bytes, seed) = (body.block_bytes, body.seed);
        let start = align(HEADER_BYTES as u64, block_bytes);
        let end = self.commits_end();
        let padding_min = end.saturating_sub(start) / PADDING_SHARE_MIN;
        // Every commit has less padding than a block, and trailers tell where commits begin.
        let (mut at, mut padding_max) = (end, 0);
        while at > start && padding_max <= padding_min {
            let offset = at.saturating_sub(TRAILER_BYTES as u64);
            let trailer = CommitTrailer::parse(self.read(offset, TRAILER_BYTES as u64)?, seed, offset)
                .map_err(|violation| self.wrong_at(offset, violation))?;
            let commit_bytes = trailer.commit_bytes.get();
            at = at
                .checked_sub(commit_bytes)
                .filter(|at| commit_bytes > 0 && *at >= start)
                .ok_or_else(|| self.wrong_at(offset, NO_COMMIT))?;
            padding_max += block_bytes - 1;
        }
        if padding_max <= padding_min {
            return Ok(false);
        }
        let (mut at, mut padding) = (start, 0);
        while at < end && padding <= padding_min {
            at = match Mark::of(self.read(at, super::MARK_BYTES)?) {
                Mark::Frame(frame_bytes) => at + u64::from(frame_bytes),
                Mark::Trailer => at + TRAILER_BYTES as u64,
                Mark::Padding => {
                    let trailer = align(at + TRAILER_BYTES as u64, block_bytes) - TRAILER_BYTES as u64;
                    padding += trailer - at;
                    trailer + TRAILER_BYTES as u64
                }
                Mark::Footer | Mark::Nothing => return Err(self.wrong_at(at, NO_FRAME)),
            };
        }
        Ok(padding > padding_min)
    }

    fn wrong_at(&self, offset: u64, violation: Violation) -> ReadError {
        ReadError::Damaged(Fault::new(FaultKind::Corrupt, self.name(), offset, violation))
    }
}

const NO_COMMIT: Violation = Violation { rule: "C4", why: "the trailer counts other bytes than its commit has" };
const NOT_BEHIND: Violation = Violation { rule: "C5", why: "the commit does not continue the one before it" };
const WRONG_FOOTER: Violation = Violation { rule: "T1", why: "the footer is not what its segment gives" };

/// Packs the segment with this number, which has a successor whose name is durable. `None` if it must stay as it is: packed already, or what recovery
/// cut lies behind it, which is evidence and nowhere else.
///
/// write(tmp, commits || footer); write(tmp, header); fsync(tmp); read(tmp) from the device; exchange(tmp, NNNNNNNNNN.seg); fsync(directory); unlink(tmp);
/// fsync(the old file)
pub(crate) fn pack(disk: &dyn Disk, number: u64) -> Result<Option<Packed>, PackError> {
    let (_, _, successor) = open(disk, number + 1, HEADER_BLOCK_BYTES)?;
    if successor.prev_cut_bytes.get() > 0 {
        return Ok(None);
    }
    let named_bytes = successor.prev_end_offset.get().saturating_add(successor.prev_footer_bytes.get());
    let (old, bytes, header) = open(disk, number, named_bytes)?;
    if header.is_packed() {
        return Ok(None);
    }
    let temporary = format!("{}.tmp", file_name(number));
    let result = write_anew(disk, &temporary, &bytes, &header, &successor);
    let (packed, offsets) = match result {
        Ok(written) => written,
        Err(error) => {
            // Best effort: the name is ignored by readers and removed by the next writer.
            let _ = disk.remove(&temporary);
            return Err(error);
        }
    };
    // From here on nobody knows which file has which name until the directory is synced, so a failure removes none: the next writer does.
    disk.replace(&temporary, &file_name(number)).map_err(PackError::io(format!("renaming {temporary}")))?;
    disk.sync_directory().map_err(PackError::io(format!("syncing the name of {}", file_name(number))))?;
    // The old file, if it has still a name. Its blocks are given to others when it is closed; without a journal the device must know before that it does
    // not own them any more. Best effort: the next writer removes what is left.
    let _ = disk.remove(&temporary).and_then(|()| old.sync_all());
    // By its name: a mapping asks for the file again when it cannot be read.
    let region = disk.open(&file_name(number), Access::Read).and_then(|file| file.region(packed.packed_end_offset.get() as usize));
    let footer_bytes = successor.prev_footer_bytes.get();
    Ok(Some(Packed {
        bytes_before: named_bytes,
        bytes_after: packed.packed_end_offset.get() + footer_bytes,
        segment: region.ok().map(|region| Segment::sealed(&packed, region, footer_bytes, offsets)),
    }))
}

/// Opens a segment file and reads its beginning, with the header in it.
fn open(disk: &dyn Disk, number: u64, limit: u64) -> Result<(Arc<dyn DiskFile>, FileBuffer, SegmentHeader), PackError> {
    let name = file_name(number);
    let file = disk.open(&name, Access::Read).map_err(PackError::io(format!("opening {name}")))?;
    let mut bytes = FileBuffer::default();
    bytes.read(&*file, limit.max(HEADER_BLOCK_BYTES)).map_err(|failure| PackError::Read {
        segment: name.clone(),
        offset: failure.offset,
        source: failure.source,
    })?;
    let fault = |violation| PackError::Damaged(Fault::new(FaultKind::Corrupt, name.clone(), 0, violation));
    let header = SegmentHeader::parse(&bytes).map_err(fault)?;
    if header.number.get() != number {
        return Err(fault(Violation { rule: "S6", why: "the header has the number of another segment" }));
    }
    Ok((file, bytes, header))
}

/// Writes the packed file under its temporary name. Returns its header and the position table of its frames.
fn write_anew(
    disk: &dyn Disk,
    temporary: &str,
    bytes: &[u8],
    header: &SegmentHeader,
    successor: &SegmentHeader,
) -> Result<(SegmentHeader, Vec<u32>), PackError> {
    let name = file_name(header.number.get());
    let io = |doing: &str| PackError::io(format!("{doing} {temporary}"));
    let file = disk.create(temporary).map_err(io("creating"))?;
    let mut sink = Sink { file: &*file, at: HEADER_BYTES as u64, chunk: Vec::with_capacity(CHUNK_BYTES), written: blake3::Hasher::new() };
    let (packed, offsets) = rewrite(bytes, header, successor, &mut |bytes| sink.put(bytes)).map_err(|stopped| match stopped {
        Stopped::Damaged(kind, offset, violation) => PackError::Damaged(Fault::new(kind, name.clone(), offset, violation)),
        Stopped::Io(source) => io("writing")(source),
    })?;
    sink.flush().map_err(io("writing"))?;
    file.write_all_at(packed.as_bytes(), 0).map_err(io("writing"))?;
    file.sync_all().map_err(io("syncing"))?;
    // What the device gives back, not what the system still holds of it.
    file.drop_cache().map_err(io("syncing"))?;
    let (end, written) = (sink.at, sink.written.finalize());
    if read_back(&*file, end).map_err(io("reading back"))? != (*packed.as_bytes().first_chunk().expect("the header"), written) {
        return Err(io("reading back")(io::Error::new(io::ErrorKind::InvalidData, "the device gives back other bytes than were written")));
    }
    Ok((packed, offsets))
}

/// Puts bytes behind each other into a file.
struct Sink<'a> {
    file: &'a dyn DiskFile,
    /// Where the chunk goes.
    at: u64,
    chunk: Vec<u8>,
    written: blake3::Hasher,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.chunk.len() + bytes.len() > CHUNK_BYTES {
            self.flush()?;
        }
        if bytes.len() > CHUNK_BYTES {
            self.chunk.clear();
            return self.write(bytes);
        }
        self.chunk.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        if !chunk.is_empty() {
            self.write(&chunk)?;
        }
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.written.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// The header of a file of `end` bytes, and a hash over what stands behind it.
fn read_back(file: &dyn DiskFile, end: u64) -> io::Result<([u8; HEADER_BYTES], blake3::Hash)> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    let mut found = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = HEADER_BYTES as u64;
    while at < end {
        let count = chunk.len().min((end - at) as usize);
        file.read_exact_at(&mut chunk[..count], at)?;
        found.update(&chunk[..count]);
        at += count as u64;
    }
    Ok((header, found.finalize()))
}

/// Why a segment is not written anew.
#[derive(Debug)]
enum Stopped {
    /// Something in it does not hold, at this offset.
    Damaged(FaultKind, u64, Violation),
    Io(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Io(error)
    }
}

/// Hands out everything that stands behind the header of the packed segment, piece by piece. Returns that header, and every eighth frame's offset / 8.
///
/// `bytes` is the segment's file, at least as far as its successor names it.
fn rewrite(
    bytes: &[u8],
    header: &SegmentHeader,
    successor: &SegmentHeader,
    put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(SegmentHeader, Vec<u32>), Stopped> {
    let (end, footer_bytes) = (successor.prev_end_offset.get(), successor.prev_footer_bytes.get());
    let named = end.checked_add(footer_bytes).filter(|_| end <= header.segment_bytes.get());
    if named.is_none_or(|named| (bytes.len() as u64) < named) {
        return Err(Stopped::Damaged(FaultKind::Missing, bytes.len() as u64, SHORTENED));
    }
    let mut packing = Packing {
        before: Seed::new(&header.salt),
        seed: Seed::new(&packed_salt(&header.salt, header.number.get())),
        first_position: header.first_position.get(),
        next_position: header.first_position.get(),
        commit_digest: header.prev_commit_digest,
        at: HEADER_BYTES as u64,
        offsets_before: Vec::new(),
        offsets: Vec::new(),
        piece: Vec::new(),
    };
    let mut cursor = Cursor::new(&bytes[..end as usize], header);
    while cursor.offset() < end {
        let commit = cursor.next_commit().map_err(|bad| Stopped::Damaged(FaultKind::Corrupt, bad.offset, bad.violation))?;
        packing.commit(&commit)?;
        put(&packing.piece)?;
    }
    let follows = (packing.next_position, packing.commit_digest) == (successor.first_position.get(), successor.prev_commit_digest);
    if cursor.offset() != end || !follows || successor.log_id != header.log_id {
        let violation = Violation { rule: "S6", why: "the segment does not end as its successor says" };
        return Err(Stopped::Damaged(FaultKind::Tampered, cursor.offset(), violation));
    }
    if footer_bytes > 0 {
        put(&packing.footer(&bytes[end as usize..(end + footer_bytes) as usize], end)?)?;
    }
    let mut packed = *header;
    packed.features = FEATURE_PACKED.into();
    packed.block_bytes = PACKED_BLOCK_BYTES.into();
    packed.salt = packed_salt(&header.salt, header.number.get());
    packed.packed_end_offset = packing.at.into();
    packed.unpacked_end_offset = end.into();
    Ok((packed.resealed(), packing.offsets))
}

/// Where packing has come to.
struct Packing {
    before: Seed,
    seed: Seed,
    first_position: u64,
    next_position: u64,
    commit_digest: Hash,
    /// Where the next byte goes.
    at: u64,
    /// Every eighth frame, as the old footer must have it and as the new one does.
    offsets_before: Vec<u32>,
    offsets: Vec<u32>,
    /// The commit in hand, as it is written.
    piece: Vec<u8>,
}

impl Packing {
    /// Makes a commit anew whose checksums and structure hold.
    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), Stopped> {
        let trailer = &commit.trailer;
        if (trailer.first_position.get(), trailer.previous_digest) != (self.next_position, self.commit_digest) {
            return Err(Stopped::Damaged(FaultKind::Tampered, commit.trailer_block, NOT_BEHIND));
        }
        let start = self.at;
        self.piece.clear();
        for placed in &commit.frames {
            if (self.next_position - self.first_position).is_multiple_of(POSITION_STRIDE) {
                self.offsets_before.push(offset_entry(placed.offset));
                self.offsets.push(offset_entry(self.at));
            }
            // The mask is all that ties a checksum to its place, and the complement that marks an erased body stays one.
            let moved = self.before.mask(placed.offset) ^ self.seed.mask(self.at);
            let from = self.piece.len();
            self.piece.extend_from_slice(placed.frame.bytes());
            let (frame, _) = FrameHeader::mut_from_prefix(&mut self.piece[from..]).expect("a frame has a header");
            frame.header_crc = (frame.header_crc.get() ^ moved).into();
            frame.body_crc = (frame.body_crc.get() ^ moved).into();
            self.at += placed.frame.bytes().len() as u64;
            self.next_position += 1;
        }
        let mut packed = *trailer;
        packed.commit_bytes = (self.at + TRAILER_BYTES as u64 - start).into();
        self.piece.extend_from_slice(packed.sealed(self.seed, self.at).as_bytes());
        self.at += TRAILER_BYTES as u64;
        self.commit_digest = trailer.digest;
        Ok(())
    }

    /// The footer for the new offsets. The old one, at `end`, must be right for the old ones; the heads in it nobody but a verifier can check.
    fn footer(&self, old: &[u8], end: u64) -> Result<Vec<u8>, Stopped> {
        let wrong = |violation| Stopped::Damaged(FaultKind::Corrupt, end, violation);
        let stated = footer::parse(old, self.before, end).map_err(wrong)?;
        let heads = heads(old, &stated).ok_or_else(|| wrong(WRONG_FOOTER))?;
        let content = |end_offset, offsets| FooterContent {
            end_offset,
            next_position: self.next_position,
            commit_digest: &self.commit_digest,
            heads: &heads,
            offsets,
        };
        if footer::encode(&content(end, &self.offsets_before), self.before) != old {
            return Err(Stopped::Damaged(FaultKind::Tampered, end, WRONG_FOOTER));
        }
        Ok(footer::encode(&content(self.at, &self.offsets), self.seed))
    }
}

/// The head table of a footer.
fn heads(footer: &[u8], header: &FooterHeader) -> Option<Vec<BucketHead>> {
    let count = header.head_count.get() as usize;
    let table = footer.get(size_of::<FooterHeader>()..)?.get(..count.checked_mul(size_of::<HeadEntry>())?)?;
    let head = |entry: &[u8]| {
        let entry = HeadEntry::read_from_bytes(entry).ok()?;
        let link = Link(entry.link);
        Some(BucketHead { bucket: entry.bucket.get(), count: entry.count.get(), position: entry.position.get(), link })
    };
    table.chunks_exact(size_of::<HeadEntry>()).map(head).collect()
}
