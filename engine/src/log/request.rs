//! One atomic append, and how it is finished in the caller's own thread: checked, encoded, salted, hashed.

use std::cell::RefCell;

use chainring_format::EventId;
use chainring_format::lanes::Lanes;

use super::draws::Draws;
use super::event::Event;
use super::write_batch::{Scratch, WriteBatch};
use crate::condition::{Durability, Expected};
use crate::disk::Clock;
use crate::error::AppendError;
use crate::ring::Slot;
use crate::sequencer::{Answer, Content, Draft, Grounds, Patience, PreparedEvent, Sequencer};
use crate::sync::Arc;

/// Bodies longer than this are hashed by their caller: side by side with others they gain nothing, and the leader has no time for them.
const LEADER_HASH_BYTES_MAX: usize = 1024;

/// One atomic append: an event, or a batch over any streams that happens whole or not at all.
#[derive(Debug, Clone)]
pub struct Request {
    events: Events,
    required: Vec<(String, Expected)>,
    not_after_ns: Option<u64>,
    grounds: Grounds,
    durability: Durability,
}

/// What a request appends. A batch of one is not the same as an event alone.
#[derive(Debug, Clone)]
enum Events {
    Alone(Box<Event>),
    /// An event alone that its caller keeps, encoded; or why it cannot be.
    Lent(Result<WriteBatch, AppendError>),
    Apart(Vec<Event>),
    Encoded(WriteBatch),
}

impl From<Events> for Request {
    fn from(events: Events) -> Request {
        Request { events, required: Vec::new(), not_after_ns: None, grounds: Grounds::default(), durability: Durability::Durable }
    }
}

impl From<Event> for Request {
    fn from(event: Event) -> Request {
        Events::Alone(Box::new(event)).into()
    }
}

/// The caller keeps the event, to change it for the next one or to hand it in again.
impl From<&Event> for Request {
    fn from(event: &Event) -> Request {
        Events::Lent(WriteBatch::of(std::slice::from_ref(event), Box::default())).into()
    }
}

impl From<Vec<Event>> for Request {
    fn from(events: Vec<Event>) -> Request {
        Events::Apart(events).into()
    }
}

impl From<WriteBatch> for Request {
    fn from(batch: WriteBatch) -> Request {
        Events::Encoded(batch).into()
    }
}

impl Request {
    /// A single event.
    #[must_use]
    pub fn event(event: Event) -> Request {
        event.into()
    }

    /// A batch. Its id is that of its first event; a batch of one is not the same as an event alone.
    #[must_use]
    pub fn batch(events: Vec<Event>) -> Request {
        events.into()
    }

    /// Also requires something of a stream that is only read.
    #[must_use]
    pub fn require(mut self, stream: impl Into<String>, expected: Expected) -> Request {
        self.required.push((stream.into(), expected));
        self
    }

    /// It may be recorded up to this instant, in nanoseconds since 1970 by the engine's clock, and not later: what it was decided on holds no longer.
    #[must_use]
    pub fn not_after(mut self, instant_ns: u64) -> Request {
        self.not_after_ns = Some(self.not_after_ns.map_or(instant_ns, |before| before.min(instant_ns)));
        self
    }

    /// What its events say they rest on - an authority, reads, a run - counts as if it had been judged here: for events that come from elsewhere, where it
    /// was. Stops hold; so does what requires an actor.
    #[must_use]
    pub fn taken_at_its_word(self) -> Request {
        self.resting_on(Grounds::Claimed)
    }

    /// Says what it was found to rest on.
    pub(crate) fn resting_on(mut self, grounds: Grounds) -> Request {
        self.grounds = grounds;
        self
    }

    /// Sets what must have happened when the append returns.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Request {
        self.durability = durability;
        self
    }

    /// Does everything that can be done before the request's turn comes, in this thread, and hands it in.
    pub(super) fn publish(
        self,
        sequencer: &Sequencer,
        draws: &Draws,
        patience: Patience,
        clock: &dyn Clock,
    ) -> Result<Arc<Slot<Answer>>, AppendError> {
        let Request { events, required, not_after_ns, grounds, durability } = self;
        SCRATCH.with_borrow_mut(|scratch| {
            let is_plain = required.is_empty() && not_after_ns.is_none();
            let (is_batch, mut batch) = match events {
                Events::Alone(event) if is_plain => {
                    let Scratch { metadata, lanes, .. } = scratch;
                    metadata.clear();
                    let prepared = event.encode(metadata)?;
                    let content = Content { name: event.stream.as_bytes(), metadata, body: &event.body };
                    return sequencer.publish_event(alone(prepared, content, grounds, draws, lanes), durability, patience, clock);
                }
                Events::Lent(encoded) if is_plain => {
                    let (prepared, bytes) = encoded?.into_one();
                    let content = prepared.content(&bytes);
                    return sequencer.publish_event(
                        alone(prepared, content, grounds, draws, &mut scratch.lanes),
                        durability,
                        patience,
                        clock,
                    );
                }
                Events::Alone(event) => (false, WriteBatch::of(std::slice::from_ref(&*event), sequencer.parcel())?),
                Events::Lent(encoded) => (false, encoded?),
                Events::Apart(events) => (true, WriteBatch::of(&events, sequencer.parcel())?),
                Events::Encoded(batch) => (true, batch),
            };
            for (name, expected) in required {
                batch.require(name, expected)?;
            }
            let parcel = batch.finish(is_batch, not_after_ns, grounds, draws, scratch)?;
            sequencer.publish_parcel(parcel, durability, patience, clock)
        })
    }
}

/// An event that is appended by itself, finished where it lies. Its digest is left to the leader, unless that would take long.
fn alone<'a>(mut event: PreparedEvent, content: Content<'a>, grounds: Grounds, draws: &Draws, lanes: &mut Lanes) -> Draft<'a> {
    event.grounds = grounds;
    event.take_drawn(draws.one((!event.is_id_drawn).then_some(event.event_id)), content.body);
    if content.body.len() > LEADER_HASH_BYTES_MAX || content.metadata.len() > LEADER_HASH_BYTES_MAX {
        let mut digests = Vec::with_capacity(1);
        lanes.event_digests(&[event.lane_event(content, EventId::default(), 0, 0)], &mut digests);
        event.digest = digests.pop();
    }
    Draft { event, content }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}
