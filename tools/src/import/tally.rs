//! The numbers an import reports: counted when an event is durable, not when it is read.

use std::collections::HashSet;

use chainring::{Position, Receipt, StreamId};

use crate::form::entry::BatchName;

/// What an import did.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Events newly appended.
    pub(super) events: u64,
    /// Among these, events made against another version than the file's order gave their stream.
    pub(super) stale: u64,
    /// Events a gate refused.
    pub(super) refused: u64,
    /// Events that were there already.
    pub(super) duplicates: u64,
    pub(super) first_position: Option<Position>,
    pub(super) last_position: Option<Position>,
    streams: HashSet<StreamId>,
    batches: HashSet<u128>,
}

impl Tally {
    /// Distinct streams among the newly appended events.
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Distinct batches among the newly appended events.
    pub(super) fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Counts a unit that was newly appended; its events are counted one by one.
    pub(super) fn appended(&mut self, batch: Option<&BatchName>, receipt: &Receipt) {
        self.batches.extend(batch.map(BatchName::key));
        self.first_position = self.first_position.or(Some(receipt.first_position()));
        self.last_position = Some(receipt.last_position());
    }

    /// Counts a newly appended event.
    pub(super) fn event(&mut self, stream: StreamId, is_stale: bool) {
        self.events += 1;
        self.stale += u64::from(is_stale);
        self.streams.insert(stream);
    }
}
