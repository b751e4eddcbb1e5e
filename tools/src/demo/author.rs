//! How the people and programs of the story write to the log.
//!
//! Every event states the version of its stream that its author acted on, and the log holds it to that. Ids and claimed times are fixed: the
//! story is the same whenever it is told.

use std::cell::Cell;

use chainring::{
    AppendError, AuthorityRef, Class, Conflict, Event, EventId, Expected, Log, ReadRef, Request, Reversibility, Timestamp, Version, View,
};

use crate::output::Failure;
use crate::time;

/// The day on which everything happens.
const DAY: &str = "2026-03-12";

/// An append that the log refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) actor: String,
    pub(super) event_type: String,
    pub(super) conflicts: Vec<Conflict>,
}

/// Appends to a log, event by event.
#[derive(Debug)]
pub(super) struct Author<'l> {
    log: &'l Log,
    /// Events written so far; the number is part of the next one's id.
    written: Cell<u32>,
}

impl<'l> Author<'l> {
    pub(super) fn new(log: &'l Log) -> Author<'l> {
        Author { log, written: Cell::new(0) }
    }

    /// The log as it is now.
    pub(super) fn now(&self) -> View {
        self.log.latest()
    }

    /// A fact that its author states at this time of day, of a stream that it knows at this version.
    pub(super) fn event(&self, at: &str, stream: &str, version: u64, event_type: &str, actor: &str, body: &str) -> Event {
        let number = self.written.get() + 1;
        self.written.set(number);
        // A UUID of version 8, whose digits are ours to choose: day, time of day, number.
        let id = format!("{}-{}{}-8000-8000-{number:012}", DAY.replace('-', ""), &at[..2], &at[3..5]);
        let event = Event::new(stream, event_type).actor(actor).body(body).occurred_at(instant(at));
        let mut event = event.id(id.parse().expect("these digits are a UUID")).expected(Expected::Exactly(Version(version)));
        event.metadata.expected_version = Some(version);
        event.metadata.content_type = Some("application/json".into());
        event.class(Class::Fact)
    }

    /// Appends an event and gives its id.
    pub(super) fn append(&self, event: Event) -> Result<EventId, Failure> {
        let id = event.id.unwrap_or_default();
        self.take(event.into())?;
        Ok(id)
    }

    /// Appends two events as one, if all that was read is so still, and gives their ids.
    pub(super) fn append_both(&self, events: [Event; 2], reads: &[ReadRef]) -> Result<[EventId; 2], Failure> {
        let ids = [&events[0], &events[1]].map(|event| event.id.unwrap_or_default());
        self.take(requiring(Request::batch(events.into()), reads))?;
        Ok(ids)
    }

    /// Tries what [`Author::append_both`] does, or the same with one event, and is told by the log why not.
    pub(super) fn refused(&self, events: &[Event], reads: &[ReadRef]) -> Result<Refusal, Failure> {
        let [first, ..] = events else { return Err(Failure::No("there is nothing to append".into())) };
        let request = if events.len() == 1 { Request::event(first.clone()) } else { Request::batch(events.to_vec()) };
        match self.log.append(requiring(request, reads)) {
            Err(AppendError::Refused(conflicts)) => {
                let (actor, event_type) = (first.metadata.actor.clone().unwrap_or_default(), first.metadata.event_type.clone());
                Ok(Refusal { actor, event_type, conflicts })
            }
            Err(error) => Err(error.into()),
            Ok(_) => Err(Failure::No("an append that rests on stale reads was taken".into())),
        }
    }

    fn take(&self, request: Request) -> Result<(), Failure> {
        match self.log.append(request) {
            Ok(_) => Ok(()),
            Err(error @ AppendError::Refused(_)) => Err(Failure::No(format!("an event of the run was {error}"))),
            Err(error) => Err(error.into()),
        }
    }
}

/// What the engine's builder leaves to its user.
pub(super) trait Also: Sized {
    /// Sets what kind of statement it is.
    fn class(self, class: Class) -> Self;
    /// Sets how far it can be taken back.
    fn undoable(self, reversibility: Reversibility) -> Self;
    /// Sets what the decision was made against.
    fn having_read(self, reads: &[ReadRef]) -> Self;
    /// Sets what allowed it.
    fn allowed_by(self, authority: &AuthorityRef) -> Self;
}

impl Also for Event {
    fn class(mut self, class: Class) -> Event {
        self.metadata.class = Some(class);
        self
    }

    fn undoable(mut self, reversibility: Reversibility) -> Event {
        self.metadata.reversibility = Some(reversibility);
        self
    }

    fn having_read(mut self, reads: &[ReadRef]) -> Event {
        self.metadata.reads = Some(reads.to_vec());
        self
    }

    fn allowed_by(mut self, authority: &AuthorityRef) -> Event {
        self.metadata.authority = vec![authority.clone()];
        self
    }
}

/// The request, on condition that all that was read is so still.
fn requiring(request: Request, reads: &[ReadRef]) -> Request {
    reads.iter().fold(request, |request, read| request.require(&read.stream, Expected::Exactly(Version(read.version))))
}

fn instant(at: &str) -> Timestamp {
    time::parse(&format!("{DAY}T{at}Z")).expect("this is a time of that day")
}
