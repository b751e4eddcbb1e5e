//! L7: convincing a stranger.
//!
//! [`verify`] recomputes every checksum, hash and link of a store from its bytes alone (FORMAT.md section 10). It trusts no footer, no head and
//! no stored link that it has not recomputed. Absent on purpose: repair, and any use of the engine's own state.

mod merge;
mod sealed;
mod segment;
mod verify;

pub use verify::{VerifyOptions, VerifyReport, verify, verify_in};
