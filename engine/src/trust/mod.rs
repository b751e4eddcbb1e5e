//! L7: convincing a stranger.
//!
//! [`verify`] recomputes every checksum, hash and link of a store from its bytes alone (FORMAT.md section 10). It trusts no footer, no head and
//! no stored link that it has not recomputed. [`Sealer`] binds the log in seals and signs checkpoints over it; [`Prover`] makes proofs from it that hold
//! without the store (TRUST.md). Absent on purpose: repair, and checking of proofs, which is for those who do not trust this code.

mod evidence;
mod ids;
#[cfg(feature = "ed25519")]
mod key_file;
mod merge;
#[cfg(feature = "metrics")]
mod metrics;
mod note;
mod prove;
mod seal;
mod sealed;
mod segment;
mod signer;
mod since;
mod tree;
mod verify;

pub use evidence::{Anchor, Evidence, Exposure, Grades};
#[cfg(feature = "ed25519")]
pub use key_file::KeyFile;
pub use note::{TreeHead, note_name, verifier_key};
pub use prove::{ProveError, Prover};
pub use seal::{AnchorForm, Checkpoint, SealError, Sealer};
pub(crate) use seal::{read_note, write_note};
pub use signer::Signer;
pub use verify::{VerifyOptions, VerifyReport, verify, verify_in};
