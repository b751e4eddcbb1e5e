//! A sliding window over one segment file.
//!
//! Always: what it returns was read from the file; a short file gives `None`, a failing device gives [`Error::Io`], and the two are never mixed up (R3).
//! Memory is one chunk, or the largest structure asked for if that is more; nothing is allocated for bytes the file does not have.
//! Never: writes, locks, or maps.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::Error;

/// Read-ahead: large enough to keep a disk busy, small enough to stay in a processor's cache.
const CHUNK_BYTES: u64 = 1 << 20;

pub(crate) struct Window {
    file: File,
    path: PathBuf,
    file_bytes: u64,
    buffer: Vec<u8>,
    filled: usize,
    start: u64,
    held: u64,
}

impl Window {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Io { file: path.to_path_buf(), offset: 0, source };
        // Opening a pipe would wait for ever, and a link leads out of the store, so only plain files are opened.
        if !std::fs::symlink_metadata(path).map_err(fail)?.is_file() {
            return Err(fail(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(path).map_err(fail)?;
        let file_bytes = file.metadata().map_err(fail)?.len();
        Ok(Window { file, path: path.to_path_buf(), file_bytes, buffer: Vec::new(), filled: 0, start: 0, held: 0 })
    }

    /// Length of the file when it was last looked at.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Shows nothing at or behind `offset`.
    pub(crate) fn end_at(&mut self, offset: u64) {
        self.file_bytes = self.file_bytes.min(offset);
    }

    /// Looks at the file anew: a writer may have gone on meanwhile.
    pub(crate) fn refresh(&mut self) -> Result<(), Error> {
        self.file_bytes = self.file.metadata().map_err(|source| self.failure(0, source))?.len();
        self.filled = 0;
        Ok(())
    }

    /// Says that bytes from `offset` on are going to be read twice, so that a refill keeps them if they fit.
    pub(crate) fn hold(&mut self, offset: u64) {
        self.held = offset;
    }

    /// `count` bytes at `offset`, or `None` if the file ends before.
    pub(crate) fn get(&mut self, offset: u64, count: usize) -> Result<Option<&[u8]>, Error> {
        let Some(end) = offset.checked_add(count as u64) else { return Ok(None) };
        if end > self.file_bytes {
            return Ok(None);
        }
        if offset < self.start || end > self.start + self.filled as u64 {
            self.refill(offset, end)?;
            // The file may have become shorter since its length was taken.
            if end > self.start + self.filled as u64 {
                return Ok(None);
            }
        }
        let at = (offset - self.start) as usize;
        Ok(Some(&self.buffer[at..at + count]))
    }

    fn refill(&mut self, offset: u64, end: u64) -> Result<(), Error> {
        let from = if self.held <= offset && end - self.held <= CHUNK_BYTES { self.held } else { offset };
        let wanted = CHUNK_BYTES.max(end - from).min(self.file_bytes - from) as usize;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        self.start = from;
        self.filled = 0;
        self.file.seek(SeekFrom::Start(from)).map_err(|source| self.failure(from, source))?;
        while self.filled < wanted {
            match self.file.read(&mut self.buffer[self.filled..wanted]) {
                Ok(0) => {
                    self.file_bytes = from + self.filled as u64;
                    break;
                }
                Ok(count) => self.filled += count,
                Err(source) if source.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failure(from + self.filled as u64, source)),
            }
        }
        Ok(())
    }

    fn failure(&self, offset: u64, source: std::io::Error) -> Error {
        Error::Io { file: self.path.clone(), offset, source }
    }
}
