//! A segment file in memory, for as long as it is being judged.
//!
//! Always: memory follows what a file holds, not what it claims: bytes that are zero take none, so reserved space and hostile sparse files are cheap.
//! What the device refuses is named by its offset, and a short file is never mixed up with it (FORMAT.md R3).
//! Absent on purpose: any meaning of the bytes.

use std::io;
use std::ops::Deref;

use memmap2::MmapMut;

use super::tail::used_bytes;
use crate::disk::DiskFile;
use crate::error::OpenError;

/// Read with one call.
const CHUNK_BYTES: usize = 256 << 10;
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

/// The bytes of a file. Used again for the next one, it keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct FileBuffer {
    /// Pages are taken when they are first written.
    memory: Option<MmapMut>,
    bytes: usize,
    /// Memory at and beyond this was never written: it is zero.
    touched: usize,
    chunk: Vec<u8>,
}

impl Deref for FileBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[..self.bytes])
    }
}

impl FileBuffer {
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

    /// Reads the file again; whether anything changed.
    pub(crate) fn read_again(&mut self, file: &dyn DiskFile, limit: u64) -> Result<bool, ReadFailure> {
        let mut again = FileBuffer::default();
        again.read(file, limit)?;
        let changed = **self != *again;
        *self = again;
        Ok(changed)
    }

    fn set_bytes(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if bytes > self.memory.as_ref().map_or(0, |memory| memory.len()) {
            *self = FileBuffer { memory: Some(MmapMut::map_anon(bytes)?), chunk: std::mem::take(&mut self.chunk), ..FileBuffer::default() };
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
