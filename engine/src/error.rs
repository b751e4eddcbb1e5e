//! What can go wrong, one type per question the caller asks.
//!
//! Bytes from disk never panic: they end here, with file, offset and rule. A broken promise of our own panics.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chainring_format::segment::file_name;
use chainring_format::{EventId, Position, Version, Violation};

use crate::condition::Expected;

/// In what way a store is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Bytes changed: a checksum or a structure does not hold.
    Corrupt,
    /// Checksums hold, a hash or a rule about content does not: somebody rewrote it.
    Tampered,
    /// The last bytes written before a crash, never acknowledged as far as the store can tell.
    Torn,
    /// Something that was there is gone.
    Missing,
    /// The store is older than what was remembered of it.
    RollbackSuspected,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::Corrupt => "corrupt",
            FaultKind::Tampered => "tampered",
            FaultKind::Torn => "torn",
            FaultKind::Missing => "missing",
            FaultKind::RollbackSuspected => "rollback-suspected",
        })
    }
}

/// The first place where a store is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In what way.
    pub kind: FaultKind,
    /// Rule of FORMAT.md that is broken.
    pub rule: &'static str,
    /// File name of the segment.
    pub segment: String,
    /// Offset in the file, in bytes, of the damaged frame or block.
    pub offset: u64,
    /// Position of the record, where known.
    pub position: Option<Position>,
    /// Name of the stream, where known.
    pub stream: Option<String>,
    /// What is wrong, in words.
    pub why: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, segment: String, offset: u64, violation: Violation) -> Fault {
        Fault { kind, rule: violation.rule, segment, offset, position: None, stream: None, why: violation.why.to_owned() }
    }

    pub(crate) fn at_position(mut self, position: u64) -> Fault {
        self.position = Some(Position(position));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (rule {}), segment {}, offset {}", self.kind, self.why, self.rule, self.segment, self.offset)?;
        if let Some(position) = self.position {
            write!(f, ", position {position}")?;
        }
        self.stream.iter().try_for_each(|stream| write!(f, ", stream {stream}"))
    }
}

/// How far a store is known to have been durable, and what says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Every record at a position below this was on stable storage.
    pub position: u64,
    /// Number of the segment that says so.
    pub segment: u64,
    /// Offset in it of the header (0) or the commit trailer that says so, in bytes.
    pub offset: u64,
}

impl Watermark {
    /// Known from somewhere else, for a judgement in which nobody asks from where.
    pub(crate) fn known(position: u64) -> Watermark {
        Watermark { position, segment: 0, offset: 0 }
    }

    /// Takes another one if it says more.
    pub(crate) fn raise(&mut self, position: u64, segment: u64, offset: u64) {
        if position > self.position {
            *self = Watermark { position, segment, offset };
        }
    }

    /// File name of the segment that says so.
    #[must_use]
    pub fn segment_name(&self) -> String {
        file_name(self.segment)
    }
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.offset == 0 { "header" } else { "commit trailer" };
        write!(
            f,
            "records below position {} were durable, says the {what} at offset {} of {}",
            self.position,
            self.offset,
            self.segment_name()
        )
    }
}

/// Why a store could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no store in this directory.
    NotAStore {
        /// The directory.
        directory: PathBuf,
    },
    /// Another writer has it.
    Locked {
        /// Who, in words.
        owner: String,
    },
    /// Something that may have been acknowledged is damaged. Nothing was changed.
    Damaged(Fault),
    /// The store needs a newer program.
    Unsupported {
        /// What is missing, in words.
        what: String,
    },
    /// An option is out of bounds.
    InvalidOption {
        /// Which and why.
        why: String,
    },
    /// A segment could not be read. That is an error, never an end of the log; nothing was changed.
    Read {
        /// File name of the segment.
        segment: String,
        /// The first byte that could not be read.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The device or the file system failed.
    Io {
        /// What was being done, and to which file.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
        let doing = doing.into();
        move |source| OpenError::Io { doing, source }
    }
}

/// Reading again what was read to open the store.
impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> OpenError {
        match error {
            ReadError::Io { segment, offset, source } => {
                let source = source.raw_os_error().map_or_else(|| source.kind().into(), io::Error::from_raw_os_error);
                OpenError::Read { segment, offset, source }
            }
            ReadError::Damaged(fault) => OpenError::Damaged(fault),
            ReadError::NotFound { .. } => unreachable!("the record was there a moment ago"),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NotAStore { directory } => write!(f, "no store in {}", directory.display()),
            OpenError::Locked { owner } => write!(f, "the store is already open for writing by {owner}"),
            OpenError::Damaged(fault) => {
                write!(
                    f,
                    "the store is damaged and was left as it is: {fault}; restore a backup, or salvage what is intact into a new store"
                )
            }
            OpenError::Unsupported { what } => write!(f, "the store needs a newer program: {what}"),
            OpenError::InvalidOption { why } => write!(f, "invalid option: {why}"),
            OpenError::Read { segment, offset, source } => write!(f, "reading {segment} at offset {offset}: {source}"),
            OpenError::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io { source, .. } | OpenError::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a backup was not made. The original is never touched.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackupError {
    /// The original is damaged, cannot be read, or is no store.
    Original(OpenError),
    /// The copy cannot be read, is in use, or does not verify.
    Copy(OpenError),
    /// The directory holds something that is not an earlier state of this log. It was left as it is.
    Foreign {
        /// What it is.
        why: String,
    },
    /// The copy could not be written.
    Io {
        /// What was being done, and to which file.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
}

impl BackupError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> BackupError {
        let doing = doing.into();
        move |source| BackupError::Io { doing, source }
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Original(error) => write!(f, "the original: {error}"),
            BackupError::Copy(error) => write!(f, "the copy: {error}"),
            BackupError::Foreign { why } => write!(f, "the directory of the copy was left as it is: {why}"),
            BackupError::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for BackupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BackupError::Original(error) | BackupError::Copy(error) => Some(error),
            BackupError::Foreign { .. } => None,
            BackupError::Io { source, .. } => Some(source),
        }
    }
}

/// Why a piece of the index was not made. Nothing is lost but time: what is not in the index is read from the log.
#[derive(Debug)]
#[non_exhaustive]
pub enum IndexError {
    /// A segment is damaged or cannot be read.
    Segment(ReadError),
    /// A file could not be made.
    Io {
        /// Its name.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// The log is closed, or is being closed.
    Closed,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexError::Segment(error) => error.fmt(f),
            IndexError::Io { file, source } => write!(f, "writing {file}: {source}"),
            IndexError::Closed => f.write_str("the log is closed"),
        }
    }
}

impl std::error::Error for IndexError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            IndexError::Segment(error) => Some(error),
            IndexError::Io { source, .. } => Some(source),
            IndexError::Closed => None,
        }
    }
}

/// Why a segment was not packed. It is as it was before, and so is the log.
#[derive(Debug)]
#[non_exhaustive]
pub enum PackError {
    /// Something in it does not hold: packing would make it look right.
    Damaged(Fault),
    /// It, or the header of its successor, could not be read.
    Read {
        /// File name of the segment.
        segment: String,
        /// The first byte that could not be read.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The packed file could not be made: there is no room for it, say, or the device failed.
    Io {
        /// What was being done, and to which file.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
}

impl PackError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> PackError {
        let doing = doing.into();
        move |source| PackError::Io { doing, source }
    }
}

/// Deciding whether a segment is packed reads it.
impl From<ReadError> for PackError {
    fn from(error: ReadError) -> PackError {
        match OpenError::from(error) {
            OpenError::Damaged(fault) => PackError::Damaged(fault),
            OpenError::Read { segment, offset, source } => PackError::Read { segment, offset, source },
            other => unreachable!("a read error is no {other:?}"),
        }
    }
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Damaged(fault) => fault.fmt(f),
            PackError::Read { segment, offset, source } => write!(f, "reading {segment} at offset {offset}: {source}"),
            PackError::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for PackError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PackError::Damaged(_) => None,
            PackError::Read { source, .. } | PackError::Io { source, .. } => Some(source),
        }
    }
}

/// One condition of an append that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The stream it was about.
    pub stream: String,
    /// What the caller expected.
    pub expected: Expected,
    /// The version found.
    pub found: Version,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {} was expected {}, but is at version {}", self.stream, self.expected, self.found)
    }
}

/// What the log itself says against an append.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bar {
    /// A stop is in force.
    Frozen {
        /// What is frozen.
        what: String,
    },
    /// An event of this kind must say more, or rest on more.
    Lacking {
        /// The stream.
        stream: String,
        /// What is lacking.
        what: &'static str,
    },
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bar::Frozen { what } => write!(f, "{what} is frozen"),
            Bar::Lacking { stream, what } => write!(f, "an event in stream {stream} must have {what}"),
        }
    }
}

/// Why an append was not done, or why that is not known.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AppendError {
    /// Conditions did not hold; all of them, with what was found. Nothing was appended.
    Refused(Vec<Conflict>),
    /// The log itself does not allow it: everything that speaks against it. Nothing was appended; see [`Log::freeze`](crate::Log::freeze) and
    /// [`Log::declare`](crate::Log::declare).
    Barred(Vec<Bar>),
    /// The event id is there already, with other content. Nothing was appended.
    IdConflict {
        /// The id.
        id: EventId,
        /// Where the first one stands.
        position: Position,
    },
    /// Some events of the batch are there already and some are not, or not as this batch. Nothing was appended.
    PartlyKnown {
        /// Events of the batch that are there.
        known: usize,
        /// Events of the batch.
        of: usize,
    },
    /// Another stream name has the same stream id. Nothing was appended.
    StreamIdCollision {
        /// The name that came second.
        stream: String,
    },
    /// The request breaks a limit or a rule. Nothing was appended.
    Invalid {
        /// Which and why.
        why: String,
    },
    /// The clock jumped ahead by more than an hour. Nothing was appended; see `Options::accept_clock_jump`.
    ClockJump {
        /// By how many nanoseconds.
        ahead_ns: u64,
    },
    /// Its turn came after the instant up to which it was allowed ([`Request::not_after`](crate::Request::not_after)). Nothing was appended.
    TooLate {
        /// That instant, in nanoseconds since 1970.
        not_after_ns: u64,
        /// When its turn came.
        now_ns: u64,
    },
    /// There is no room for another segment. Nothing was appended; try again when there is.
    NoSpace(Arc<io::Error>),
    /// Another segment could not be begun, for want of memory or files, say. Nothing was appended and nothing was changed; try again.
    NoSegment(Arc<io::Error>),
    /// Too much is under way, and the caller did not want to wait for room, or no longer. Nothing was appended.
    Full,
    /// The request may or may not be in the log: writing or syncing failed while it was under way. Reopen and append again with the same id.
    OutcomeUnknown(Arc<Poison>),
    /// An earlier write or sync failed; this log takes no appends until it is reopened. Nothing was appended.
    Poisoned(Arc<Poison>),
    /// The log was closed. Nothing was appended.
    Closed,
    /// This handle came over a fork; only the parent may write. Nothing was appended.
    ForkedHandle,
    /// Reading what is already there failed, so the answer is not known. Nothing was appended.
    Read(ReadError),
}

/// What it is, and every reason for it.
pub(crate) fn all(f: &mut fmt::Formatter<'_>, what: &str, reasons: &[impl fmt::Display]) -> fmt::Result {
    write!(f, "{what}: ")?;
    reasons.iter().enumerate().try_for_each(|(i, reason)| write!(f, "{}{reason}", if i > 0 { "; " } else { "" }))
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Refused(conflicts) => all(f, "refused", conflicts),
            AppendError::Barred(bars) => all(f, "barred", bars),
            AppendError::IdConflict { id, position } => write!(f, "event id {id} is already at position {position} with other content"),
            AppendError::PartlyKnown { known, of } => write!(f, "batch partly known: {known} of its {of} events are already in the log"),
            AppendError::StreamIdCollision { stream } => write!(f, "another stream has the id of stream {stream}"),
            AppendError::Invalid { why } => write!(f, "invalid request: {why}"),
            AppendError::TooLate { not_after_ns, now_ns } => {
                write!(f, "too late: it was allowed until {not_after_ns} ns, and its turn came {} ns after that", now_ns - not_after_ns)
            }
            AppendError::ClockJump { ahead_ns } => write!(f, "the clock jumped ahead by {} s", ahead_ns / 1_000_000_000),
            AppendError::NoSpace(source) => write!(f, "no room for another segment: {source}"),
            AppendError::NoSegment(source) => write!(f, "another segment could not be begun: {source}"),
            AppendError::Full => f.write_str("too much is under way; try again"),
            AppendError::OutcomeUnknown(poison) => write!(f, "outcome unknown: {poison}"),
            AppendError::Poisoned(poison) => write!(f, "the log takes no appends until it is reopened: {poison}"),
            AppendError::Closed => f.write_str("the log is closed"),
            AppendError::ForkedHandle => f.write_str("this handle came over a fork; only the parent process may write"),
            AppendError::Read(error) => write!(f, "cannot compare with what is already there: {error}"),
        }
    }
}

impl std::error::Error for AppendError {}

/// The failure after which a log takes no appends.
#[derive(Debug)]
pub struct Poison {
    /// What was being done.
    pub doing: String,
    /// The system's error; `None` when a thread panicked.
    pub source: Option<io::Error>,
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{} failed: {source}", self.doing),
            None => write!(f, "{} panicked", self.doing),
        }
    }
}

/// Why something could not be read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReadError {
    /// What was asked for is not in this view.
    NotFound {
        /// What, in words.
        what: String,
    },
    /// The bytes there are not valid.
    Damaged(Fault),
    /// The device failed.
    Io {
        /// File name of the segment.
        segment: String,
        /// The first byte that could not be read.
        offset: u64,
        /// The system's error.
        source: Arc<io::Error>,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::NotFound { what } => write!(f, "not found: {what}"),
            ReadError::Damaged(fault) => fault.fmt(f),
            ReadError::Io { segment, offset, source } => write!(f, "reading {segment} at offset {offset}: {source}"),
        }
    }
}

impl std::error::Error for ReadError {}
