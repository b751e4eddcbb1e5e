//! Convincing a stranger: keys, checkpoints, proofs, and checking them.

use std::path::Path;
use std::sync::Arc;

use chainring::{KeyFile, Log, Options, ProveError, SealError, note_name};

use crate::output::Failure;

pub(crate) mod anchor;
pub(crate) mod anchored;
mod artefact;
pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod cose;
#[cfg(feature = "http")]
mod http;
pub(crate) mod keys;
mod ots;
pub(crate) mod prove;
pub(crate) mod tiles;
mod tsp;

pub(crate) use ots::parse as read_proof;
pub(crate) use tsp::stamp as read_stamp;

impl From<SealError> for Failure {
    fn from(error: SealError) -> Failure {
        let message = error.to_string();
        match error {
            SealError::Append(error) => error.into(),
            SealError::Read(error) => error.into(),
            SealError::OtherKey { .. } | SealError::RollbackSuspected { .. } | SealError::InvalidAnchor => Failure::No(message),
            _ => Failure::Cannot(message),
        }
    }
}

impl From<ProveError> for Failure {
    fn from(error: ProveError) -> Failure {
        match error {
            ProveError::Read(error) => error.into(),
            error => Failure::No(error.to_string()),
        }
    }
}

fn cannot(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::Cannot(format!("{}: {error}", path.display()))
}

pub(crate) fn load_key(path: &Path) -> Result<Arc<KeyFile>, Failure> {
    KeyFile::load(path).map(Arc::new).map_err(cannot(path))
}

/// Opens the log for writing, as its one writer.
fn open(path: &Path) -> Result<Log, Failure> {
    Ok(Options::new().create(false).remember(true).open(path)?)
}

/// A key that signs under the name of this log. Under another one nobody would find its signatures.
fn key_of(log: &Log, path: &Path) -> Result<Arc<KeyFile>, Failure> {
    let (key, name) = (load_key(path)?, note_name(log.origin(), &log.log_id()));
    if key.name() == name {
        return Ok(key);
    }
    let file = path.display();
    Err(Failure::No(format!(
        "{file} is a key named {}; checkpoints of this log are those of {name}: draw a key with --log and without --name",
        key.name()
    )))
}
