//! Giving back the space that padding takes.

use super::Log;
use crate::error::{AppendError, PackError};
use crate::sequencer::Looked;

/// What packing did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct PackReport {
    /// Segments that were packed.
    pub packed: u64,
    /// Their bytes on disk before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
    /// Segments that should have been packed and could not be. They are as they were, and are not tried again while this log is open.
    pub failed: Vec<PackFailure>,
}

/// A segment that could not be packed.
#[derive(Debug)]
#[non_exhaustive]
pub struct PackFailure {
    /// Its file name.
    pub segment: String,
    /// Why.
    pub error: PackError,
}

impl Log {
    /// Packs sealed segments: those of which more than a quarter is padding are written anew without it (FORMAT.md section 3.3).
    ///
    /// A commit begins on a block of the device, so an event that is appended alone takes a block, mostly 4096 bytes, until its segment is sealed and
    /// packed. No position, version or link changes. Views that are held, and other processes that read, go on with the old file; its space is
    /// given back when the last of them lets go. Safe while other threads append, and nothing waits for it but [`Log::close`], for the segment in hand.
    ///
    /// Every segment is looked at once while the log is open; a later call looks at those that were sealed since. A segment in which anything does not
    /// hold is left alone, and so is one behind which recovery cut something: what was cut lies there as evidence. While a segment is packed it is
    /// held in memory, and there is room for both files.
    ///
    /// # Errors
    /// [`AppendError::Poisoned`], [`AppendError::Closed`], [`AppendError::ForkedHandle`]. What concerns single segments is in the report.
    pub fn pack(&self) -> Result<PackReport, AppendError> {
        let mut report = PackReport::default();
        while let Some(looked) = self.sequencer.pack_next(&*self.environment.disk)? {
            match looked {
                Looked::Left => {}
                Looked::Packed { bytes_before, bytes_after } => {
                    report.packed += 1;
                    report.bytes_before += bytes_before;
                    report.bytes_after += bytes_after;
                }
                Looked::Failed { segment, error } => report.failed.push(PackFailure { segment, error }),
            }
        }
        Ok(report)
    }
}
