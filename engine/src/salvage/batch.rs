//! Following a batch through its events: whether all of them are there.

use chainring_format::EventId;

/// The batch whose events go by.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    pub segment: String,
    pub offset: u64,
    /// Id of its first event, if that was found and nothing is missing since.
    pub id: Option<EventId>,
    /// Events of the batch; 0 = there is no batch under way.
    pub count: u32,
    pub next: u32,
    pub copied: u64,
    is_broken: bool,
}

impl OpenBatch {
    pub(super) fn begin(&mut self, segment: &str, offset: u64, event: EventId, index: u32, count: u32) {
        let id = (index == 0).then_some(event);
        *self = OpenBatch { segment: segment.to_owned(), offset, id, count, next: index, copied: 0, is_broken: index > 0 };
    }

    pub(super) fn goes_on(&self, index: u32, count: u32) -> bool {
        // Behind a gap, events of two batches of one size look like one broken batch; their first events tell them apart.
        self.count > 0 && self.count == count && (index == self.next || self.is_broken && index > self.next)
    }

    /// Something is missing here: of this batch, or the end of this one and the beginning of another.
    pub(super) fn interrupt(&mut self) {
        if self.next < self.count {
            (self.id, self.is_broken) = (None, true);
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        !self.is_broken && self.copied == u64::from(self.count)
    }
}
