//! From a closed commit to stable storage, and from there back to the callers: submitted, complete, durable, released.
//!
//! Commits are launched by the leader in order and written by whoever led, several at a time; [`Flights`] releases their answers in order. The first
//! write or sync that fails poisons the log, and nothing that is not released yet is known any more.

use std::io;
use std::time::Duration;

use super::core::{Answers, Commit};
use super::flights::{Flights, Released};
use super::live::{LiveWriter, Reach};
use super::parcels::Parcels;
use super::request::Answer;
use super::{Reply, Shared, Submission};
use crate::disk::{Disk, Landed, QueuedWrite, Reaped, SharedBytes};
use crate::error::{AppendError, Poison};
use crate::ring::{Duty, Gate, Rings};
use crate::sync::model::{Mutex, lock};
use crate::sync::{Arc, OnceLock, Ordering};

/// What leader, waiters and readers share.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub rings: Arc<Rings<Submission>>,
    pub gate: Gate,
    pub duty: Duty<Answer>,
    pub shared: Arc<Shared>,
    pub parcels: Parcels,
    pub poison: OnceLock<Arc<Poison>>,
    flights: Mutex<Flights<(Reply, Answer)>>,
    disk: Arc<dyn Disk>,
    live: LiveWriter,
}

impl Pipeline {
    pub(super) fn new(rings: Arc<Rings<Submission>>, shared: Arc<Shared>, disk: Arc<dyn Disk>, live: LiveWriter) -> Pipeline {
        Pipeline {
            rings,
            gate: Gate::default(),
            duty: Duty::default(),
            shared,
            parcels: Parcels::default(),
            poison: OnceLock::new(),
            flights: Mutex::new(Flights::new()),
            disk,
            live,
        }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// So far everything is durable, and no commit that is not is older.
    pub(super) fn raise_watermark(&self, reach: Reach) {
        let flights = lock(&self.flights);
        // As in `land`.
        self.shared.watermark.fetch_max(reach.position, Ordering::Release);
        drop(flights);
        self.live.write(reach);
        self.shared.moved.advance();
    }

    /// Commits that are under way.
    pub(super) fn in_flight(&self) -> usize {
        lock(&self.flights).len()
    }

    /// Takes a commit in, behind all that were launched before. Called by the leader only. `None` if the log is poisoned: then its answers have left.
    pub(super) fn launch(&self, answers: Answers, durable_to: Option<Reach>) -> Option<u64> {
        let mut flights = lock(&self.flights);
        // Looked at under the lock: whoever poisons the log sets the poison first and then, under the lock, gives up what is there.
        let Some(poison) = self.poison.get() else { return Some(flights.launch(answers, durable_to)) };
        drop(flights);
        self.deliver(unknown(answers, poison));
        None
    }

    /// Notes how a commit ended, and lets go what can go.
    pub(super) fn land(&self, flight: u64, result: io::Result<()>, doing: impl FnOnce() -> String) {
        let answers = match result {
            Ok(()) => {
                let mut flights = lock(&self.flights);
                let Released { answers, watermark } = flights.land(flight);
                if let Some(reach) = watermark {
                    // Release: pairs with the Acquire in `Shared::watermark`; who sees it sees the placed frames and heads below it. Under the lock, so
                    // that it never goes back.
                    self.shared.watermark.fetch_max(reach.position, Ordering::Release);
                }
                drop(flights);
                if let Some(reach) = watermark {
                    self.live.write(reach);
                }
                answers
            }
            Err(error) => {
                self.fail(doing(), error);
                return;
            }
        };
        self.deliver(answers);
        self.shared.moved.advance();
    }

    /// Poisons the log. What was launched and not released gets no other answer than that.
    pub(super) fn fail(&self, doing: String, error: io::Error) -> Arc<Poison> {
        self.poison_with(Poison { doing, source: Some(error) })
    }

    pub(super) fn poison_with(&self, poison: Poison) -> Arc<Poison> {
        let poison = Arc::clone(self.poison.get_or_init(|| Arc::new(poison)));
        let lost = lock(&self.flights).give_up();
        self.deliver(unknown(lost, &poison));
        self.shared.end();
        poison
    }

    /// Hands answers out and wakes who waits. No lock of the pipeline is held.
    pub(super) fn deliver(&self, answers: Answers) {
        for (reply, answer) in answers {
            reply.send(answer);
        }
        self.gate.advance();
    }

    /// Writes a commit and lands it, in this thread.
    pub(super) fn write(&self, commit: Commit) {
        let Commit { file, image, range, flight, segment } = commit;
        // A disk that panics does not leave its flight in the air for ever.
        let guard = Unfinished { pipeline: self, segment: &segment };
        let result = file.write_durable_at(&image.bytes()[range.clone()], range.start as u64);
        std::mem::forget(guard);
        self.land(flight, result, || format!("committing ({segment})"));
    }

    /// Starts writing a commit without waiting, where the disk can do that; else as [`Pipeline::write`].
    pub(super) fn start(&self, commit: Commit) {
        let Some(queue) = self.disk.queue() else { return self.write(commit) };
        let Commit { file, image, range, flight, segment } = commit;
        let write = QueuedWrite { tag: flight, file, memory: image, offset: range.start as u64, range };
        if let Err(QueuedWrite { file, memory, range, offset, .. }) = queue.start(write) {
            let guard = Unfinished { pipeline: self, segment: &segment };
            let result = file.write_durable_at(&memory.bytes()[range], offset);
            std::mem::forget(guard);
            self.land(flight, result, || format!("committing ({segment})"));
        }
    }

    /// Whether the thread that led a commit of so many bytes writes it as well, if it waits for it and nothing else is under way.
    pub(super) fn writes_inline(&self, bytes: usize) -> bool {
        self.disk.queue().is_none_or(|queue| bytes <= queue.inline_bytes_max())
    }

    /// Bytes that a thread which only submits lets pile up before it starts a commit itself: a little less than what is worth a start. `None` if
    /// nothing can be started without waiting.
    pub(super) fn kick_bytes(&self) -> Option<u64> {
        self.disk.queue().map(|queue| queue.inline_bytes_max() as u64 / 4 * 3)
    }

    /// Lands what has come back from the disk's queue, waiting for something if nothing has; `false` if there was nothing to do, or somebody else does it.
    pub(super) fn reap(&self, at_most: Option<Duration>) -> bool {
        let Some(queue) = self.disk.queue() else { return false };
        let mut landed = Vec::new();
        if queue.reap(at_most, &mut landed) == Reaped::TimeUp {
            // Somebody may sleep because this thread waited for the disk.
            self.gate.advance();
        }
        let any = !landed.is_empty();
        for Landed { tag, result } in landed {
            self.land(tag, result, || "committing".to_owned());
        }
        any
    }

    /// Whether somebody has to look after something: a commit that has to be landed, a request that has to be led.
    pub(super) fn has_work(&self) -> bool {
        self.rings.has_news() || self.in_flight() > 0
    }

    /// Calls somebody to look after what is left, if nobody does.
    pub(super) fn hand_over(&self) {
        self.duty.hand_over(|| self.has_work());
    }

    /// Waits until nothing is in flight.
    pub(super) fn wait_for_all(&self) {
        self.gate.wait(|| lock(&self.flights).is_empty().then_some(()), || self.reap(None), || None).expect("without a deadline it ends");
    }
}

/// What is left to say about answers whose commit is lost. What was refused because the log is poisoned or closed was decided on nothing.
fn unknown(answers: Answers, poison: &Arc<Poison>) -> Answers {
    let unknown = |(reply, answer)| match answer {
        Answer::Failed(AppendError::Poisoned(_) | AppendError::Closed) => (reply, answer),
        _ => (reply, Answer::Failed(AppendError::OutcomeUnknown(Arc::clone(poison)))),
    };
    answers.into_iter().map(unknown).collect()
}

/// Poisons the log when whoever writes a commit panics.
struct Unfinished<'a> {
    pipeline: &'a Pipeline,
    segment: &'a str,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.pipeline.poison_with(Poison { doing: format!("committing ({})", self.segment), source: None });
    }
}
