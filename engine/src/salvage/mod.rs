//! L8: getting out of a damaged store what is intact.
//!
//! [`Salvage`] examines a store of any damage - a hole in the middle, a header overwritten, segments gone, sectors that cannot be read - and tells
//! what it found in a [`Manifest`]. [`Salvage::copy_to`] appends every intact event to a new store, in the old order, with its old id, time, metadata
//! and body. The way there: `read` gets the bytes, `seed` the checksums' key, `scan` the structures, `place` their positions, `books` the verdict on
//! each record; `files` and `ends` say what is of the log at all. `examine` leads through all of it and `copy` goes the same way again.
//!
//! Always: the old store is only read, never locked, and nothing that recovery cut or would cut is taken for a record. What cannot be proven is
//! counted and listed. Absent on purpose: repair in place, and guessing.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, Environment};
use crate::error::{AppendError, OpenError};
use crate::log::Log;
use crate::sync::Arc;

mod batch;
mod books;
mod copy;
mod ends;
mod examine;
mod files;
mod manifest;
mod place;
mod ranges;
mod read;
mod scan;
mod seed;

pub use manifest::{
    BrokenBatch, Cut, CutStream, Damage, DamageKind, Irregular, Manifest, Missing, Reason, SalvagedStream, Totals, Unplaced, VersionRun,
};
pub use ranges::Ranges;

/// How a store is salvaged.
#[derive(Default)]
pub struct SalvageOptions<'a> {
    /// Names that streams may have. A stream's name stands in its first event only; where that is lost, and no other event says the name, one of
    /// these is taken if it gives the stream's id.
    pub names: Vec<String>,
    /// Also copy events of which nothing is wrong but the link. They are listed in any case.
    pub copies_tampered: bool,
    /// Called now and then with the bytes done and the bytes in all.
    pub progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
}

impl fmt::Debug for SalvageOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("SalvageOptions");
        fields.field("names", &self.names).field("copies_tampered", &self.copies_tampered).finish_non_exhaustive()
    }
}

/// Why what was found could not be copied.
#[derive(Debug)]
#[non_exhaustive]
pub enum SalvageError {
    /// There is something in the directory where the new store was to be.
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// The new store could not be made.
    Open(OpenError),
    /// The new store does not take an event.
    Append(AppendError),
    /// A segment of the old store cannot be read any more, or holds other records than when it was examined.
    Changed {
        /// File name of the segment.
        segment: String,
    },
}

impl fmt::Display for SalvageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SalvageError::NotEmpty { directory } => write!(f, "{} is not empty: a salvage makes a store of its own", directory.display()),
            SalvageError::Open(error) => write!(f, "making the new store: {error}"),
            SalvageError::Append(error) => write!(f, "copying to the new store: {error}"),
            SalvageError::Changed { segment } => write!(f, "{segment} has changed since it was examined"),
        }
    }
}

impl std::error::Error for SalvageError {}

/// A store of any damage, examined: what is in it, and what is not any more.
#[derive(Debug)]
pub struct Salvage {
    disk: Arc<dyn Disk>,
    findings: examine::Findings,
}

impl Salvage {
    /// Examines the store on this disk; the directory is only named in messages.
    ///
    /// # Errors
    /// [`OpenError::NotAStore`] if there is no segment file, [`OpenError::Unsupported`] if all of them need a newer program, and
    /// [`OpenError::Io`] if the directory cannot be listed. Damage is no error.
    pub fn open_in(environment: &Environment, directory: &Path, options: &SalvageOptions<'_>) -> Result<Salvage, OpenError> {
        let findings = examine::examine(&*environment.disk, directory, options)?;
        Ok(Salvage { disk: Arc::clone(&environment.disk), findings })
    }

    /// What was found.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.findings.manifest
    }

    /// Copies every intact event to a new store, which must not exist yet: its directory is empty or absent. Gives the manifest with the new log's id.
    ///
    /// A batch that is whole stays one; of a broken one, what is left is appended event by event. Versions are counted anew where events are missing.
    /// `progress` is called now and then with the events done and the events in all.
    ///
    /// # Errors
    /// [`SalvageError`]. What was copied before the error stays where it is.
    pub fn copy_to(
        &self,
        environment: &Environment,
        directory: &Path,
        progress: Option<&(dyn Fn(u64, u64) + Sync)>,
    ) -> Result<Manifest, SalvageError> {
        let (log_id, reencoded) = copy::copy(&*self.disk, &self.findings, environment, directory, progress)?;
        let mut manifest = self.findings.manifest.clone();
        manifest.new_log_id = Some(log_id);
        manifest.totals.reencoded = reencoded;
        Ok(manifest)
    }
}

impl Log {
    /// Examines the store in a directory, whatever is wrong with it, to copy what is intact to a new one. Never writes to it, and takes no lock.
    ///
    /// # Errors
    /// As [`Salvage::open_in`].
    pub fn open_salvage(directory: impl AsRef<Path>) -> Result<Salvage, OpenError> {
        let directory = directory.as_ref();
        Log::open_salvage_in(&Environment::system(directory), directory)
    }

    /// As [`Log::open_salvage`], in another environment; the directory is only named in messages.
    ///
    /// # Errors
    /// As [`Salvage::open_in`].
    pub fn open_salvage_in(environment: &Environment, directory: &Path) -> Result<Salvage, OpenError> {
        Salvage::open_in(environment, directory, &SalvageOptions::default())
    }
}
