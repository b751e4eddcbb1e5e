//! What a caller asks of an append, beside its content.

use std::fmt;

use chainring_format::Version;

/// What must hold of a stream for an append to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Expected {
    /// Anything.
    #[default]
    Any,
    /// The stream does not exist yet.
    NoStream,
    /// The stream is at exactly this version: it has its first v events and no more. Version 0 is the same as [`Expected::NoStream`].
    Exactly(Version),
}

impl Expected {
    pub(crate) fn holds(self, found: u64) -> bool {
        match self {
            Expected::Any => true,
            Expected::NoStream => found == 0,
            Expected::Exactly(version) => found == version.0,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Any => f.write_str("at any version"),
            Expected::NoStream => f.write_str("not to exist"),
            Expected::Exactly(version) => write!(f, "at version {version}"),
        }
    }
}

/// What has happened to an event when its append returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// Its bytes and its chain link are on stable storage.
    #[default]
    Durable,
    /// It was handed to the operating system: it survives this process, not a power cut. Synced within a second of further use, at rotation
    /// and at close; only then is it visible to readers.
    Written,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Durable => "durable",
            Durability::Written => "written",
        })
    }
}
