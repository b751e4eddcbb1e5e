//! Making the index anew.

use super::Log;
use crate::error::IndexError;
use crate::index::Step;

/// What the index of a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexReport {
    /// Segments that are in it: all that have ended.
    pub segments: u64,
    /// Files that it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Log {
    /// Makes the whole index anew from the segments. It is made, kept and mended by itself; this is for those who do not trust what is there.
    ///
    /// Reads every segment that has ended. Safe while other threads append and ask.
    ///
    /// # Errors
    /// [`IndexError`]; some of it is as it was then.
    pub fn reindex(&self) -> Result<IndexReport, IndexError> {
        let shared = &self.store.shared;
        shared.index.rebuild(&shared.catalog()).map_err(IndexError::Segment)?;
        while self.sequencer.index_next()? != Step::Nothing {}
        let runs = shared.index.runs();
        Ok(IndexReport { segments: runs.last_segment(), files: runs.len() as u64, bytes: runs.bytes() })
    }
}
