//! Bringing sealed segments into the index, and forgetting what it knows by then. Beside the sequencer; nobody who appends waits for it.

use super::heads::Forgotten;
use super::{Sequencer, Shared};
use crate::error::IndexError;
use crate::index::Step;
use crate::sync::model::lock;
use crate::sync::{Ordering, write};

/// A last segment of at most this many bytes is read when the store is opened, and continued. A longer one gets its run when the log is closed.
const CONTINUED_BYTES_MAX: u64 = 1 << 20;

impl Shared {
    /// Lets the directory forget what is in the index; what it has let go of is to be dropped where nobody waits.
    pub(super) fn forget_indexed(&self, next_position: u64, heads_bytes_max: u64) -> Forgotten {
        let indexed_to = self.note_indexed();
        let mut directory = write(&self.directory);
        let forgotten = directory.forget(indexed_to, next_position, heads_bytes_max);
        // Release: who sees it finds in the index what was forgotten.
        self.oblivion.store(directory.oblivion(), Ordering::Release);
        forgotten
    }

    /// Says what is in the index by now.
    pub(super) fn note_indexed(&self) -> u64 {
        let indexed_to = self.index.runs().end();
        // Release: who sees it finds the run. Before anything is forgotten: a caller who asks the index by it has asked for all that is gone.
        self.indexed_to.store(indexed_to, Ordering::Release);
        indexed_to
    }
}

impl Sequencer {
    /// Whether there is work for the index: a segment has ended that is not in it, or runs are to be merged. What has failed is not tried again before
    /// another segment has ended.
    pub(crate) fn has_index_work(&self) -> bool {
        let shared = self.shared();
        let segments = shared.catalog().len() as u64;
        let is_over = self.is_closed() || self.pipeline.poison.get().is_some();
        // Relaxed: read by those who wrote it, mostly; seen too late, something is tried once more.
        let has_failed = self.index_failed_at.load(Ordering::Relaxed) == segments;
        !is_over && !has_failed && shared.index.has_work(segments - 1)
    }

    /// Does a piece of the work for the index: reads one segment, or merges some runs. Whatever keeps it from being done, nothing is lost but time and
    /// memory: the log goes on, and so do questions about it.
    pub(crate) fn index_next(&self) -> Result<Step, IndexError> {
        if self.is_fork() {
            return Err(IndexError::Closed);
        }
        let shared = self.shared();
        let catalog = shared.catalog();
        let step = shared.index.step(&catalog, catalog.len() - 1);
        match step {
            Ok(Step::Built) => self.forget_indexed(),
            Ok(Step::Merged | Step::Nothing) => {}
            Err(_) => self.index_failed_at.store(catalog.len() as u64, Ordering::Relaxed),
        }
        step
    }

    /// Ends what the index is doing, if that takes long, and lets it begin nothing any more.
    pub(crate) fn stop_index(&self) {
        self.shared().index.stop();
    }

    /// Lets the directory forget what is in the index.
    fn forget_indexed(&self) {
        let shared = self.shared();
        // Under the helm: no request is between its decision and its place, so no number of a stream is held.
        let helm = lock(&self.helm);
        let mut forgotten = shared.forget_indexed(helm.core.next_position, helm.core.options.heads_bytes_max);
        drop(helm);
        // For who published meanwhile, and found it taken.
        self.pipeline.hand_over();
        if let Some(table) = forgotten.cleared_table() {
            write(&shared.directory).use_table(table);
        }
    }

    /// What is left to be done so that the next open reads little. What fails is done then.
    pub(super) fn index_at_close(&self) {
        let shared = self.shared();
        let catalog = shared.catalog();
        let is_long = catalog.segment(catalog.len() - 1).commits_end() > CONTINUED_BYTES_MAX;
        let _ = shared.index.build_to(&catalog, if is_long { catalog.len() } else { catalog.len() - 1 });
    }
}
