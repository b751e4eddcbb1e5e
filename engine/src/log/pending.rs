//! An append under way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use chainring_format::frame::FrameView;
use chainring_format::{Position, Version};

use super::keeper::Keeper;
use crate::condition::Durability;
use crate::disk::Clock;
use crate::error::AppendError;
use crate::ring::Slot;
use crate::sequencer::{Answer, Checked, Content, EventReceipt, Parcel, PreparedEvent, Receipt, Sequencer};
use crate::sync::Arc;

/// The receipt of an append that was handed in. Dropping it does not take the append back.
///
/// As a future it needs no runtime; it drives the log itself when nobody else does, so polling may do I/O.
#[must_use = "nothing is known about an append before its receipt is there"]
#[derive(Debug)]
pub struct Pending {
    sequencer: Arc<Sequencer>,
    slot: Arc<Slot<Answer>>,
    clock: Arc<dyn Clock>,
    keeper: Arc<Keeper>,
}

impl Pending {
    pub(super) fn new(sequencer: Arc<Sequencer>, slot: Arc<Slot<Answer>>, clock: Arc<dyn Clock>, keeper: Arc<Keeper>) -> Pending {
        Pending { sequencer, slot, clock, keeper }
    }

    /// Whether [`Pending::wait`] would return at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.slot.is_done()
    }

    /// Waits for the receipt.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn wait(self) -> Result<Receipt, AppendError> {
        let answer = self.sequencer.wait(&self.slot, None, &*self.clock).expect("without a deadline there is an answer");
        self.resolve(answer)
    }

    /// Waits for the receipt for at most that long; gives itself back if it is not there by then.
    ///
    /// # Errors
    /// `Err(self)` when time is up; else the outcome.
    pub fn wait_timeout(self, at_most: Duration) -> Result<Result<Receipt, AppendError>, Pending> {
        match self.sequencer.wait(&self.slot, Some(at_most), &*self.clock) {
            Some(answer) => Ok(self.resolve(answer)),
            None => Err(self),
        }
    }

    fn resolve(&self, answer: Answer) -> Result<Receipt, AppendError> {
        match answer {
            Answer::Appended(receipt) => Ok(receipt),
            Answer::Failed(error) => Err(error),
            Answer::Stale => unreachable!("an event is no seal"),
            Answer::Known { parcel, durability, positions } => compare(&self.sequencer, &parcel, durability, &positions),
        }
    }
}

impl Future for Pending {
    type Output = Result<Receipt, AppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.sequencer.poll(&self.slot, context.waker()) {
            Some(answer) => Poll::Ready(self.resolve(answer)),
            None => {
                // Nobody may be left who waits for the disk.
                self.keeper.call(&self.sequencer, &self.clock);
                Poll::Pending
            }
        }
    }
}

/// Compares a request with the events that bear its ids: the same content is the same append.
fn compare(sequencer: &Sequencer, parcel: &Parcel, durability: Durability, positions: &[Option<u64>]) -> Result<Receipt, AppendError> {
    let request = parcel.view(Checked::default());
    let known: Vec<u64> = positions.iter().copied().flatten().collect();
    if known.len() != positions.len() {
        return Err(AppendError::PartlyKnown { known: known.len(), of: positions.len() });
    }
    let catalog = sequencer.shared().catalog();
    let mut events = Vec::with_capacity(known.len());
    for (index, ((event, content), &position)) in request.contents().zip(&known).enumerate() {
        let frame = catalog.frame(position).map_err(AppendError::Read)?;
        if !same_content(event, content, &frame) {
            return Err(AppendError::IdConflict { id: event.event_id, position: Position(position) });
        }
        let batch_index = if request.batch { index as u32 } else { 0 };
        if (frame.header.batch_index.get(), frame.header.batch_count.get()) != (batch_index, request.batch_count())
            || position != known[0] + index as u64
        {
            return Err(AppendError::PartlyKnown { known: known.len(), of: positions.len() });
        }
        events.push(EventReceipt { position: Position(position), version: Version(frame.header.version.get()), link: frame.link() });
    }
    Ok(Receipt { events: events.into(), epoch: sequencer.opened_epoch(), durability, duplicate: true })
}

/// Whether an event says what the stored one says. An erased body cannot be compared any more and counts as the same.
fn same_content(event: &PreparedEvent, content: Content<'_>, frame: &FrameView<'_>) -> bool {
    frame.stream_id() == event.stream.id && frame.metadata() == content.metadata && frame.body().is_none_or(|body| body == content.body)
}
