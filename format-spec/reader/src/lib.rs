//! An independent reader and verifier of the Chainring store format.
//!
//! It was written from `FORMAT.md` and `metadata.cddl` alone and shares no code and no types with the engine, so that one of the two being wrong is
//! seen. [`verify`] performs section 10 of the document; [`walk`] shows the records that held.
//!
//! Always: reads only; bounded memory; an answer names the first place that fails, by rule, file and offset. Every byte is untrusted.
//! Never: writes, locks, maps or repairs. A store may be in use by a writer meanwhile.
//!
//! | module | part of the document |
//! |---|---|
//! | `bytes`, `window` | section 1, and files |
//! | `store`, `header` | sections 2 and 3: steps 1 and 2 |
//! | `frame`, `commit`, `scan`, `tail` | sections 4, 6 and 9: step 3 |
//! | `record`, `cbor`, `metadata` | sections 6 and 8: step 4 |
//! | `hash`, `chain`, `ledger` | section 7: steps 5 and 6 within a segment |
//! | `log`, `footer`, `verify` | across segments, section 5: steps 5 to 8 |
#![forbid(unsafe_code)]

mod bytes;
mod cbor;
mod chain;
mod commit;
mod finding;
mod footer;
mod frame;
mod hash;
mod header;
pub mod json;
mod ledger;
mod log;
mod metadata;
mod note;
mod proof;
mod record;
mod scan;
mod seal;
mod store;
mod tail;
mod tree;
mod verify;
mod walk;
mod window;

pub use note::{Checkpoint, Policy, VerifierKey};
pub use proof::{BUNDLE, Claim, Proved, ProvedEvent, RECEIPT, Refused, Trust, check};

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to verify.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that scan segments; 0 = as many as the machine has processors.
    pub threads: usize,
    /// How long to wait, a few times, before the end of the last segment is judged torn: a writer may be in the middle of a commit.
    /// Zero judges what is there at once.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { threads: 0, patience: walk::PATIENCE }
    }
}

/// What verification found. With a fault, the numbers count what held before the first place that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Records, those of the engine included.
    pub records: u64,
    /// Records of kind event.
    pub events: u64,
    /// Different streams.
    pub streams: u64,
    /// Records whose body was erased.
    pub erased: u64,
    /// Segments that held as a whole.
    pub segments: u64,
    /// Bytes in use: headers, commits and footers.
    pub bytes: u64,
    /// Position of the last record for which everything before it held.
    pub verified_to: Option<u64>,
    /// The first place that failed.
    pub fault: Option<Fault>,
    /// The writer closed the log in order, and nothing failed.
    pub closed: bool,
    /// Link of the genesis record, if that record held.
    pub log_id: Option<[u8; 32]>,
    /// Origin in the genesis record.
    pub origin: Option<String>,
}

/// The first place of a store that failed a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What sort of fault.
    pub kind: FaultKind,
    /// The document's name of the rule; `R` for the verdicts of section 9.
    pub rule: &'static str,
    /// File name of the segment.
    pub segment: String,
    /// Where in the file: the start of the frame that failed, of the block of its trailer or padding, of the sector of its footer; 0 for a header
    /// or a missing file, the file's length if it is too short, the end of the log for a torn tail.
    pub offset: u64,
    /// Position of the record, if a frame failed.
    pub position: Option<u64>,
    /// Name of the stream of a failing event, where it is known.
    pub stream: Option<String>,
    /// One sentence for people.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}) in {} at offset {}: {}", self.kind, self.rule, self.segment, self.offset, self.why)
    }
}

/// Sorts of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Bytes changed without their checksum: damage.
    Corrupt,
    /// Checksums hold, hashes or rules do not: somebody rewrote bytes.
    Tampered,
    /// A commit that never became durable; nothing acknowledged is lost.
    Torn,
    /// A segment, or a part of one, is not there.
    Missing,
    /// The store ends before a head that is known from elsewhere. A store alone cannot show it, so [`verify`] never says it; it is the word for
    /// callers who compare the report with such a head.
    RollbackSuspected,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            FaultKind::Corrupt => "corrupt",
            FaultKind::Tampered => "tampered",
            FaultKind::Torn => "torn",
            FaultKind::Missing => "missing",
            FaultKind::RollbackSuspected => "rollback-suspected",
        })
    }
}

/// Why there is no report.
#[derive(Debug)]
pub enum Error {
    /// The directory holds no segment.
    NotAStore(PathBuf),
    /// The device or the file system failed; this says nothing about the store.
    Io {
        /// The file or directory.
        file: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What the system said.
        source: std::io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotAStore(dir) => write!(out, "{} is not a store: it holds no segment", dir.display()),
            Error::Io { file, offset, source } => write!(out, "cannot read {} at offset {offset}: {source}", file.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::NotAStore(_) => None,
            Error::Io { source, .. } => Some(source),
        }
    }
}

/// One record, as [`walk`] shows it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its place in the log, from 0.
    pub position: u64,
    /// Its number in its stream, or in the engine's lane.
    pub version: u64,
    /// 0 genesis, 16 event.
    pub kind: u8,
    /// Name of its stream; engine records have none.
    pub stream: Option<&'a str>,
    /// The caller's id; zero in engine records.
    pub event_id: [u8; 16],
    /// Its batch, if it was appended in one.
    pub batch: Option<BatchPlace>,
    /// The writer's clock.
    pub recorded_at_ns: u64,
    /// Deterministic CBOR.
    pub metadata: &'a [u8],
    /// The body, unless it was erased.
    pub body: Option<&'a [u8]>,
    /// Its link, which is its leaf hash.
    pub link: [u8; 32],
}

/// Place of an event in the batch it was appended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// Event id of the batch's first event.
    pub id: [u8; 16],
    /// From 0.
    pub index: u32,
    /// Events of the batch.
    pub count: u32,
}

/// Verifies the store in `dir` (FORMAT.md section 10).
///
/// # Errors
/// [`Error::NotAStore`] without any segment, [`Error::Io`] if a file cannot be read. Whatever the bytes are is an answer, not an error.
pub fn verify(dir: &Path, options: &Options) -> Result<Report, Error> {
    verify::run(dir, options).map(|(report, _)| report)
}

/// Verifies the store in `dir`, then shows every record that held, in order, until `each` breaks off.
///
/// # Errors
/// As [`verify`].
pub fn walk<F>(dir: &Path, each: F) -> Result<Report, Error>
where
    F: FnMut(Record<'_>) -> ControlFlow<()>,
{
    let (report, store) = verify::run(dir, &Options::default())?;
    walk::show(&store.segments, &report, each)?;
    Ok(report)
}
