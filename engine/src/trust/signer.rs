//! Who signs checkpoints, and what a signer remembers.

use std::fmt::Debug;
use std::io;

use chainring_format::Link;
use chainring_format::hash::Hash;

/// A key that signs checkpoints, wherever it is kept: in a file ([`KeyFile`](super::KeyFile)), in a device, behind a service.
///
/// A signer remembers the last checkpoint it signed for every log, outside of the store: so a store that was put back to an earlier state is not signed for
/// a second time with another history.
pub trait Signer: Send + Sync + Debug {
    /// The Ed25519 public key.
    fn public_key(&self) -> Hash;

    /// Signs a message with Ed25519.
    ///
    /// # Errors
    /// Whatever keeps it from signing.
    fn sign(&self, message: &[u8]) -> io::Result<[u8; 64]>;

    /// The last note it remembers to have signed for a log.
    ///
    /// # Errors
    /// It cannot tell; then nothing is signed.
    fn last_signed(&self, log_id: &Link) -> io::Result<Option<String>>;

    /// Remembers a note, durably, before anybody sees it.
    ///
    /// # Errors
    /// It could not; then the note is shown to nobody.
    fn remember(&self, log_id: &Link, note: &str) -> io::Result<()>;
}
