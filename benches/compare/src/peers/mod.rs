//! The engines, each opened as its own documents say.
//!
//! - Durable means that the peer's own synced commit is used. What has a weaker level is opened with it for the runs that are not synced.
//! - A key-value store is used as an event store: events by position, positions by stream and version, both in one atomic batch. Its heads are kept in
//!   memory for it, a present of one look-up an event.
//! - A bare log gets the stream's name and the body as one record.
//! - Where a peer does not share syncs among waiting threads by itself, [`Grouped`](crate::group::Grouped) stands in front.

mod bare;
mod chain;
mod dcb;
mod kv;
mod raft;
mod raw;
#[cfg(feature = "rocksdb")]
mod rocks;

use crate::store::Peer;

/// Everyone who takes part, the yardstick first.
pub fn all() -> Vec<Peer> {
    vec![
        raw::GROWING,
        raw::PREPARED,
        chain::PEER,
        dcb::TEPHRA,
        dcb::UMADB,
        raft::PEER,
        bare::OKAYWAL,
        bare::OPEN_WAL,
        kv::SQLITE,
        kv::REDB,
        kv::FJALL,
        kv::HEED,
        #[cfg(feature = "rocksdb")]
        rocks::PEER,
    ]
}
