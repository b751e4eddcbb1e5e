//! What the steps of verification hand each other when something does not hold.
//!
//! A [`Finding`] is a fault inside one segment, before names are looked up and before it is known whether it is the first one of the store.
//! Always: `place` is the file offset that orders findings of one segment; `offset` is the structure reported to the user.

use crate::bytes::Id;
use crate::{Error, FaultKind};

/// One failed check inside a segment.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: FaultKind,
    pub(crate) rule: &'static str,
    /// Where the failing bytes stand; the lowest place of a segment wins.
    pub(crate) place: u64,
    /// Offset of the structure that is blamed: a frame, a block, a footer's sector or the header.
    pub(crate) offset: u64,
    pub(crate) position: Option<u64>,
    pub(crate) stream: Option<StreamRef>,
    pub(crate) why: String,
    /// The structure reaches beyond the file's last byte.
    pub(crate) cut: bool,
}

/// The stream of a damaged frame: by id, and by name where the frame itself carries it.
#[derive(Clone, Debug)]
pub(crate) struct StreamRef {
    pub(crate) id: Id,
    pub(crate) name: Option<String>,
}

impl Finding {
    pub(crate) fn new(kind: FaultKind, rule: &'static str, offset: u64, why: impl Into<String>) -> Self {
        Finding { kind, rule, place: offset, offset, position: None, stream: None, why: why.into(), cut: false }
    }

    pub(crate) fn corrupt(rule: &'static str, offset: u64, why: impl Into<String>) -> Self {
        Finding::new(FaultKind::Corrupt, rule, offset, why)
    }

    pub(crate) fn tampered(rule: &'static str, offset: u64, why: impl Into<String>) -> Self {
        Finding::new(FaultKind::Tampered, rule, offset, why)
    }

    /// A structure at `offset` that the file ends in.
    pub(crate) fn cut(rule: &'static str, offset: u64, why: impl Into<String>) -> Self {
        Finding { cut: true, ..Finding::corrupt(rule, offset, why) }
    }

    /// S1: a file of `file_bytes` that its successor says is longer.
    pub(crate) fn short(file_bytes: u64, why: &str) -> Self {
        Finding::new(FaultKind::Missing, "S1", file_bytes, format!("the segment is shorter than its successor says: {why}"))
    }

    pub(crate) fn at_position(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }

    pub(crate) fn in_stream(mut self, stream: Option<StreamRef>) -> Self {
        self.stream = stream;
        self
    }

    /// Blames the structure at `offset` for bytes that stand at `self.place`.
    pub(crate) fn blaming(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }
}

/// Why a step ended early: a check failed, or the device did.
pub(crate) enum Stop {
    Found(Box<Finding>),
    Failed(Error),
}

impl From<Finding> for Stop {
    fn from(finding: Finding) -> Self {
        Stop::Found(Box::new(finding))
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

/// The result of a step that checks and reads.
pub(crate) type Check<T> = Result<T, Stop>;

/// Separates a finding, which is an answer, from an error, which is none.
pub(crate) fn settle<T>(result: Check<T>) -> Result<Result<T, Finding>, Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Found(finding)) => Ok(Err(*finding)),
        Err(Stop::Failed(error)) => Err(error),
    }
}
