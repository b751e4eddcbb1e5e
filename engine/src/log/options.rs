//! How a log is opened.

use std::path::Path;

use chainring_format::align;
use chainring_format::limits::{ORIGIN_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

use super::Log;
use crate::disk::{Environment, WritePath};
use crate::error::OpenError;
use crate::sequencer::Remembered;

/// A crash costs at most one scan of the last segment; this much is read in some 50 ms.
const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// Two million streams.
pub(super) const HEADS_BYTES_MAX_DEFAULT: u64 = 256 << 20;

/// Options of opening a log for appending.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(super) segment_bytes: Option<u64>,
    pub(super) origin: String,
    pub(super) log_key: [u8; 32],
    pub(super) existing_only: bool,
    pub(super) accept_clock_jump: bool,
    pub(super) expected: Vec<Remembered>,
    pub(super) remember: bool,
    pub(super) accept_rollback: bool,
    pub(super) keeper: Option<bool>,
    pub(super) write_path: WritePath,
    pub(super) heads_bytes_max: Option<u64>,
}

impl Options {
    /// The defaults: segments as the store was made with (64 MiB in a new one), created if absent, no origin.
    #[must_use]
    pub fn new() -> Options {
        Options::default()
    }

    /// Size of segments begun while this log is open, in bytes (64 KiB to 8 GiB); rounded up to whole blocks of the device. A store keeps the
    /// size it was made with for opens that do not say.
    #[must_use]
    pub fn segment_bytes(mut self, segment_bytes: u64) -> Options {
        self.segment_bytes = Some(segment_bytes);
        self
    }

    /// Name of a new log, up to 512 bytes; bound by its first hash. No personal data: it can never be erased.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Options {
        self.origin = origin.into();
        self
    }

    /// Ed25519 public key that signs the checkpoints of a new log from the beginning ([`Signer::public_key`](crate::Signer::public_key)), bound by its first
    /// hash: who has the log's id needs no other word for whose key it is. Without it, the first sealer brings the key.
    #[must_use]
    pub fn log_key(mut self, public_key: [u8; 32]) -> Options {
        self.log_key = public_key;
        self
    }

    /// Whether a store is made where there is none.
    #[must_use]
    pub fn create(mut self, create: bool) -> Options {
        self.existing_only = !create;
        self
    }

    /// Believe the clock even if it jumps ahead by more than an hour while the log is open.
    #[must_use]
    pub fn accept_clock_jump(mut self, accept: bool) -> Options {
        self.accept_clock_jump = accept;
        self
    }

    /// The log must hold what was seen of it: a position, a receipt, or a position with its link. Else opening refuses and changes nothing:
    /// `rollback-suspected` if the log ends before, `tampered` if another record stands there. May be given several times.
    ///
    /// Only this, or evidence that somebody else keeps, shows that a whole store was put back to an earlier state.
    #[must_use]
    pub fn expect_at_least(mut self, seen: impl Into<Remembered>) -> Options {
        self.expected.push(seen.into());
        self
    }

    /// Keeps a small file `NAME.mark` beside the store `NAME` that says how far the log was, written at open, rotation and close. When the store is put
    /// back by accident, the mark stays, and [`OpenReport::rollback`](super::OpenReport::rollback) and verification show it. Off by default:
    /// it is written outside of the store's directory. A convenience, not protection.
    #[must_use]
    pub fn remember(mut self, remember: bool) -> Options {
        self.remember = remember;
        self
    }

    /// Whether the log has a thread of its own for what nobody waits for: appends without a waiter, `Written` bytes to be synced, making the next segment
    /// ready. On by default; it starts with the first append. Without it, call [`Log::tick`] now and then.
    #[must_use]
    pub fn keeper(mut self, keeper: bool) -> Options {
        self.keeper = Some(keeper);
        self
    }

    /// How bytes are to get to the disk; the fastest way that is allowed, if not said. [`Stats::write_path`](super::Stats::write_path) tells which it is.
    #[must_use]
    pub fn write_path(mut self, write_path: WritePath) -> Options {
        self.write_path = write_path;
        self
    }

    /// Memory that the heads of streams may take, in bytes, about 110 for each; 256 MiB if not said. However many streams a log has, those that were touched
    /// last are in memory, and others are looked up in the index. What was appended since the last segment that is in the index is in memory in any case.
    #[must_use]
    pub fn heads_bytes_max(mut self, bytes: u64) -> Options {
        self.heads_bytes_max = Some(bytes);
        self
    }

    /// The store was put back to an earlier state on purpose: the mark beside it is written anew. Until then it is left as it is.
    #[must_use]
    pub fn accept_rollback(mut self, accept: bool) -> Options {
        self.accept_rollback = accept;
        self
    }

    /// Opens the log in a directory: creates it, recovers it, or refuses with a reason.
    ///
    /// # Errors
    /// [`OpenError`]: locked by another writer, damaged, unsupported, or an error of the device. A refused store was not changed.
    pub fn open(&self, directory: impl AsRef<Path>) -> Result<Log, OpenError> {
        let directory = directory.as_ref();
        let environment = Environment::system_on(directory, self.write_path);
        Log::open_with(self, environment.map_err(OpenError::io("setting up the write path"))?, directory)
    }

    /// As [`Options::open`], in another environment; the directory is only named in messages.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_in(&self, environment: Environment, directory: impl AsRef<Path>) -> Result<Log, OpenError> {
        Log::open_with(self, environment, directory.as_ref())
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        if let Some(bytes) = self.segment_bytes.filter(|bytes| !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(bytes)) {
            let why = format!("segment size {bytes} is not within {SEGMENT_BYTES_MIN}..={SEGMENT_BYTES_MAX} bytes");
            return Err(OpenError::InvalidOption { why });
        }
        if self.origin.len() > ORIGIN_BYTES_MAX {
            return Err(OpenError::InvalidOption { why: format!("the origin is longer than {ORIGIN_BYTES_MAX} bytes") });
        }
        Ok(())
    }

    /// The segment size in whole blocks, with room for a header, one commit and the closing commit; `made_with` is that of an existing store.
    pub(super) fn segment_bytes_on(&self, block_bytes: u32, made_with: Option<u64>) -> u64 {
        let bytes = self.segment_bytes.or(made_with).unwrap_or(SEGMENT_BYTES_DEFAULT);
        align(bytes, block_bytes.into()).max(4 * u64::from(block_bytes))
    }
}
