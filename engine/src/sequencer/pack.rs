//! Packing the segments behind the live one, beside the sequencer and without its lock.
//!
//! Every sealed segment is looked at once while the log is open, in order; one is packed at a time, whoever asks. A failure is that segment's own: it
//! stays as it is and is not tried again, and the log goes on.

use super::{Sequencer, Shared};
use crate::disk::Disk;
use crate::error::{AppendError, PackError};
use crate::segment::{Packed, Segment, pack};
use crate::sync::Arc;
use crate::sync::model::{Mutex, lock};

/// What became of one segment.
#[derive(Debug)]
pub(crate) enum Looked {
    /// It has little padding, is packed already, or keeps what recovery cut.
    Left,
    Packed {
        bytes_before: u64,
        bytes_after: u64,
    },
    Failed {
        segment: String,
        error: PackError,
    },
}

/// How far the segments were looked at.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    /// Held while a segment is being packed.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Index in the catalog of the first segment that was not looked at.
    next: usize,
    stopped: bool,
}

impl Packer {
    /// Lets the segment in hand be finished, and no other be begun: another process may write soon.
    pub(super) fn stop(&self) {
        lock(&self.state).stopped = true;
    }

    fn look(&self, disk: &dyn Disk, shared: &Shared) -> Option<Looked> {
        let mut state = lock(&self.state);
        let catalog = shared.catalog();
        // What is in the catalog and not its last segment has a successor whose name is durable.
        if state.stopped || state.next + 1 >= catalog.len() {
            return None;
        }
        let segment = catalog.segment(state.next);
        state.next += 1;
        Some(match pack_if_it_pays(disk, segment) {
            Ok(None) => Looked::Left,
            Ok(Some(Packed { bytes_before, bytes_after, segment })) => {
                if let Some(segment) = segment {
                    shared.change_catalog(|catalog| catalog.replace(Arc::new(segment)));
                }
                Looked::Packed { bytes_before, bytes_after }
            }
            Err(error) => Looked::Failed { segment: segment.name(), error },
        })
    }
}

fn pack_if_it_pays(disk: &dyn Disk, segment: &Segment) -> Result<Option<Packed>, PackError> {
    if segment.is_packed() || !segment.deserves_packing()? { Ok(None) } else { pack(disk, segment.number) }
}

impl Sequencer {
    /// Looks at the next sealed segment that was not looked at while this log is open, and packs it if that pays. `None` if there is none now.
    ///
    /// Takes as long as reading the segment and writing what is left of it, and holds up nobody but another packer and a close.
    pub(crate) fn pack_next(&self, disk: &dyn Disk) -> Result<Option<Looked>, AppendError> {
        if self.is_fork() {
            return Err(AppendError::ForkedHandle);
        }
        self.refusal().map_or_else(|| Ok(self.shared().packer.look(disk, self.shared())), Err)
    }
}
