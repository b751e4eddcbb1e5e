//! Memory of requests that were placed, for the next ones.
//!
//! A large batch given back to the allocator goes back to the system, and the next one takes it anew, page by page: a fifth of what a batch of a
//! thousand small events cost.

use super::request::{Parcel, PreparedEvent};
use crate::sync::model::{Mutex, lock};

/// Parcels that are kept.
const KEPT_MAX: usize = 4;
/// Memory of a parcel that is kept.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Empty parcels.
#[derive(Debug, Default)]
pub(super) struct Parcels {
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    kept: Mutex<Vec<Box<Parcel>>>,
}

impl Parcels {
    /// An empty one, with memory if there is any: that which was used last, and is still in a cache.
    pub(super) fn take(&self) -> Box<Parcel> {
        lock(&self.kept).pop().unwrap_or_default()
    }

    /// Takes back one that was used.
    pub(super) fn give(&self, mut parcel: Box<Parcel>) {
        let Parcel { events, bytes, batch, required, not_after_ns } = &mut *parcel;
        if bytes.capacity() + events.capacity() * size_of::<PreparedEvent>() > KEPT_BYTES_MAX {
            return;
        }
        events.clear();
        bytes.clear();
        required.clear();
        (*batch, *not_after_ns) = (false, None);
        let mut kept = lock(&self.kept);
        if kept.len() < KEPT_MAX {
            kept.push(parcel);
        }
    }
}
