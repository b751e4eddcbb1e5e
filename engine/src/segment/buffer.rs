//! A segment file in memory, for as long as it is being judged.
//!
//! Always: memory follows what a file holds, not what it claims: bytes that are zero take none, so reserved space and hostile sparse files are cheap.
//! What the device refuses is named by its offset, and a short file is never mixed up with it (FORMAT.md R3).
//! Absent on purpose: any meaning of the bytes.

use std::io;
use std::ops::Deref;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut};

use super::tail::used_bytes;
use crate::disk::{Disk, DiskFile, Region};
use crate::error::OpenError;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Read with one call.
const CHUNK_BYTES: usize = 256 << 10;
/// Memory of at least this much asks for huge pages.
const HUGE_BYTES_MIN: usize = 4 << 20;
/// The device is asked for so much at a time to find out where it refuses.
const PIECE_BYTES: usize = 512;

/// The first byte that could not be read, and why.
#[derive(Debug)]
pub(crate) struct ReadFailure {
    pub offset: u64,
    pub source: io::Error,
}

impl ReadFailure {
    /// As the error of opening this segment.
    pub(crate) fn of(self, segment: &str) -> OpenError {
        OpenError::Read { segment: segment.to_owned(), offset: self.offset, source: self.source }
    }
}

/// Looks at the end of a segment again that somebody may be writing: commits that are under way reach the file in any order, so that for a moment a later
/// one is there and an earlier one is not.
#[derive(Debug, Default)]
pub(crate) struct Again {
    changes: u32,
    pauses: u32,
}

/// How often the end is looked at again because it has changed, before it is taken as it is.
const CHANGES_MAX: u32 = 100;
/// How long is waited for a change, in pauses of the disk.
const PAUSES_MAX: u32 = 40;
/// What is looked at while waiting. It begins where the first thing is wrong.
const WATCHED_BYTES: usize = 64 << 10;

impl Again {
    /// Reads the segment again if it changes at `offset`, where something is wrong, within the time that a write takes. `false` if it stays as it is.
    pub(crate) fn look(
        &mut self,
        buffer: &mut FileBuffer,
        file: &dyn DiskFile,
        disk: &dyn Disk,
        (offset, limit): (u64, u64),
    ) -> Result<bool, ReadFailure> {
        if self.changes == CHANGES_MAX {
            return Ok(false);
        }
        self.changes += 1;
        if buffer.read_again(file, limit)? {
            return Ok(true);
        }
        while self.pauses < PAUSES_MAX && disk.pause() {
            self.pauses += 1;
            if !buffer.holds(file, offset) {
                return buffer.read_again(file, limit);
            }
        }
        Ok(false)
    }
}

/// How fast files may be read, by all who share it: a verification in the background leaves the device to others.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    since: Instant,
    bytes: AtomicU64,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Pace {
        Pace { bytes_per_second, since: Instant::now(), bytes: AtomicU64::new(0) }
    }

    /// Waits until so many more bytes are due.
    fn take(&self, bytes: usize) {
        // Relaxed: a sum, which publishes nothing.
        let bytes = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let due = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        std::thread::sleep(due.saturating_sub(self.since.elapsed()));
    }
}

/// The bytes of a file. Used again for the next one, it keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct FileBuffer {
    /// Pages are taken when they are first written.
    memory: Option<MmapMut>,
    bytes: usize,
    /// Memory at and beyond this was never written: it is zero.
    touched: usize,
    chunk: Vec<u8>,
    pace: Option<Arc<Pace>>,
}

impl Deref for FileBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[..self.bytes])
    }
}

impl FileBuffer {
    /// A buffer that is read into at this pace.
    pub(crate) fn paced(pace: Option<Arc<Pace>>) -> FileBuffer {
        FileBuffer { pace, ..FileBuffer::default() }
    }

    /// Reads a whole file, or its first `limit` bytes. A file that is shorter gives what it has.
    pub(crate) fn read(&mut self, file: &dyn DiskFile, limit: u64) -> Result<(), ReadFailure> {
        let at_start = |source| ReadFailure { offset: 0, source };
        loop {
            let file_bytes = file.bytes().map_err(at_start)?.min(limit);
            self.set_bytes(file_bytes).map_err(at_start)?;
            match self.fill(file) {
                // A writer has sealed or closed the segment meanwhile, which gives back what was reserved: the file became shorter.
                Err(failure)
                    if failure.source.kind() == io::ErrorKind::UnexpectedEof && file.bytes().map_err(at_start)? < self.bytes as u64 => {}
                result => return result,
            }
        }
    }

    /// Bytes of a file from an offset on, for as long as nothing else is read. What was read before stays.
    pub(crate) fn window(&mut self, file: &dyn DiskFile, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        if let Some(pace) = &self.pace {
            pace.take(bytes);
        }
        if self.chunk.len() < bytes {
            self.chunk.resize(bytes, 0);
        }
        file.read_exact_at(&mut self.chunk[..bytes], offset)?;
        Ok(&self.chunk[..bytes])
    }

    /// Its first bytes, without copying them.
    pub(crate) fn into_region(self, bytes: usize) -> Region {
        match self.memory {
            Some(memory) => Region::anonymous(memory, bytes),
            None => Region::memory(Vec::new()),
        }
    }

    /// Reads the file again; whether anything changed.
    pub(crate) fn read_again(&mut self, file: &dyn DiskFile, limit: u64) -> Result<bool, ReadFailure> {
        let mut again = FileBuffer::default();
        again.read(file, limit)?;
        again.pace = self.pace.take();
        let changed = **self != *again;
        *self = again;
        Ok(changed)
    }

    /// Whether the file still holds what is in memory, from an offset on for a bit. What cannot be read has changed.
    fn holds(&self, file: &dyn DiskFile, offset: u64) -> bool {
        let known = self.get(offset as usize..).unwrap_or_default();
        let known = &known[..known.len().min(WATCHED_BYTES)];
        let mut now = vec![0; known.len()];
        file.read_exact_at(&mut now, offset).is_ok() && now == known
    }

    fn set_bytes(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if bytes > self.memory.as_ref().map_or(0, |memory| memory.len()) {
            let memory = MmapMut::map_anon(bytes)?;
            if bytes >= HUGE_BYTES_MIN {
                // A fraction of the page faults. Where it is not to be had, nothing changes.
                let _ = memory.advise(Advice::HugePage);
            }
            let (chunk, pace) = (std::mem::take(&mut self.chunk), self.pace.take());
            *self = FileBuffer { memory: Some(memory), bytes: 0, touched: 0, chunk, pace };
        }
        self.bytes = bytes;
        Ok(())
    }

    fn fill(&mut self, file: &dyn DiskFile) -> Result<(), ReadFailure> {
        let Some(memory) = &mut self.memory else { return Ok(()) };
        let memory = &mut memory[..self.bytes];
        if self.chunk.len() < CHUNK_BYTES {
            self.chunk.resize(CHUNK_BYTES.min(memory.len()), 0);
        }
        let mut at = 0;
        while at < memory.len() {
            let end = memory.len().min(at + CHUNK_BYTES);
            if let Some(pace) = &self.pace {
                pace.take(end - at);
            }
            if end <= self.touched {
                read_chunk(file, &mut memory[at..end], at as u64)?;
            } else {
                let chunk = &mut self.chunk[..end - at];
                read_chunk(file, chunk, at as u64)?;
                let is_zero = at >= self.touched && used_bytes(chunk) == 0;
                if !is_zero {
                    memory[at..end].copy_from_slice(chunk);
                    self.touched = end;
                }
            }
            at = end;
        }
        Ok(())
    }
}

/// The first bytes of a file, `limit` at most: so few that they need no memory that follows what is in the file. A file that is shorter gives what it has.
pub(crate) fn read_start(file: &dyn DiskFile, limit: u64) -> Result<Vec<u8>, ReadFailure> {
    let file_bytes = || file.bytes().map_err(|source| ReadFailure { offset: 0, source });
    loop {
        let mut start = vec![0; file_bytes()?.min(limit) as usize];
        match read_chunk(file, &mut start, 0) {
            // As for a whole file: it became shorter.
            Err(failure) if failure.source.kind() == io::ErrorKind::UnexpectedEof && file_bytes()? < start.len() as u64 => {}
            result => return result.map(|()| start),
        }
    }
}

/// Reads one chunk; where the device refuses, finds the first piece that it refuses.
fn read_chunk(file: &dyn DiskFile, chunk: &mut [u8], offset: u64) -> Result<(), ReadFailure> {
    let Err(source) = file.read_exact_at(chunk, offset) else { return Ok(()) };
    let failure = ReadFailure { offset, source };
    if failure.source.kind() == io::ErrorKind::UnexpectedEof {
        return Err(failure);
    }
    for (number, piece) in chunk.chunks_mut(PIECE_BYTES).enumerate() {
        let offset = offset + (number * PIECE_BYTES) as u64;
        file.read_exact_at(piece, offset).map_err(|source| ReadFailure { offset, source })?;
    }
    // Refused once and not again: a device that cannot make up its mind is not to be trusted.
    Err(failure)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::{Access, Disk, PortableDisk};

    #[test]
    fn what_a_file_holds_is_read_also_into_used_memory() {
        let directory = tempfile::tempdir().unwrap();
        let disk = PortableDisk::new(directory.path());
        let mut buffer = FileBuffer::default();
        // Longer and shorter files in turn; zeros where the one before had bytes, and bytes where it had zeros.
        let painted = |bytes: usize, zeros: std::ops::Range<usize>| -> Vec<u8> {
            (0..bytes).map(|at| if zeros.contains(&at) { 0 } else { (at % 251) as u8 + 1 }).collect()
        };
        let chunk = CHUNK_BYTES;
        let files = [
            painted(3 * chunk + 5, 0..0),
            painted(chunk, 0..chunk),
            painted(5 * chunk, chunk..4 * chunk),
            painted(1, 0..0),
            vec![],
            vec![0; 6 * chunk],
        ];
        for content in files {
            fs::write(directory.path().join("f"), &content).unwrap();
            let file = disk.open("f", Access::Read).unwrap();
            buffer.read(&*file, u64::MAX).unwrap();
            assert!(*buffer == *content, "{} bytes", content.len());
            assert!(!buffer.read_again(&*file, u64::MAX).unwrap());
            buffer.read(&*file, 100).unwrap();
            assert_eq!(*buffer, content[..content.len().min(100)]);
        }
    }

    #[test]
    fn a_huge_file_of_zeros_takes_no_memory() {
        let directory = tempfile::tempdir().unwrap();
        fs::File::create(directory.path().join("f")).unwrap().set_len(1 << 30).unwrap();
        let file = PortableDisk::new(directory.path()).open("f", Access::Read).unwrap();
        let mut buffer = FileBuffer::default();
        buffer.read(&*file, u64::MAX).unwrap();
        assert_eq!((buffer.bytes, buffer.touched), (1 << 30, 0));
    }
}
