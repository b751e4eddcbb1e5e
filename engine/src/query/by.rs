//! Events by what they name: looked up in the index as far as that goes, and read from there on.

use std::collections::VecDeque;

use chainring_format::metadata::{Class, Mention, mentions};
use chainring_format::{EventId, Position};

use super::View;
use super::event::EventRef;
use super::scan::Events;
use crate::error::ReadError;
use crate::index::Term;

/// Something that an event names in its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum By<'a> {
    /// Events of this type.
    Type(&'a str),
    /// Events by this actor.
    Actor(&'a str),
    /// Events on behalf of this one.
    OnBehalfOf(&'a str),
    /// Events of this run.
    Correlation(&'a str),
    /// Events that this one caused.
    Cause(EventId),
    /// Events that were allowed by something of this name: a stream, a policy or a rule.
    Authority(&'a str),
    /// Events that were allowed by what this one says, or for which this one confirmed it.
    AuthorityEvent(EventId),
    /// Events that were decided against this stream, or checked with it, at any version.
    Read(&'a str),
    /// Events of this class; facts, which most are, are not found so.
    Class(Class),
    /// Compensations of this event.
    Compensated(EventId),
}

impl<'a> By<'a> {
    fn mention(self) -> Mention<'a> {
        match self {
            By::Type(name) => Mention::Type(name),
            By::Actor(name) => Mention::Actor(name),
            By::OnBehalfOf(name) => Mention::OnBehalfOf(name),
            By::Correlation(name) => Mention::Correlation(name),
            By::Cause(id) => Mention::Causation(id),
            By::Authority(name) => Mention::Authority(name),
            By::AuthorityEvent(id) => Mention::AuthorityEvent(id),
            By::Read(stream) => Mention::Reads(stream, 0),
            By::Class(class) => Mention::Class(class),
            By::Compensated(id) => Mention::Compensates(id),
        }
    }

    /// Whether the event names it.
    #[must_use]
    pub fn is_named_by(self, event: &EventRef<'_>) -> bool {
        let wanted = self.mention();
        let mut is_named = false;
        mentions(event.metadata_bytes(), |mention| {
            is_named |= match (mention, wanted) {
                (Mention::Reads(stream, _) | Mention::Checked(stream, _), Mention::Reads(wanted, _)) => stream == wanted,
                _ => mention == wanted,
            };
        });
        is_named
    }
}

/// Positions that are looked up together.
const LOOKED_UP: usize = 1024;

/// Events in order of position that name something. After an error it is at its end.
#[derive(Debug)]
pub struct EventsBy<'a> {
    view: &'a View,
    by: By<'a>,
    key: u64,
    /// Where the next look into the index begins.
    from: u64,
    /// Positions that the index has given.
    found: VecDeque<u64>,
    /// What is not in the index.
    rest: Option<Events<'a>>,
    is_over: bool,
}

impl View {
    /// Events that name something, from a position on, in order. Costs what is found of them, not what lies between, but for what was appended since the
    /// last segment ended.
    #[must_use]
    pub fn events_by<'a>(&'a self, by: By<'a>, from: Position) -> EventsBy<'a> {
        let key = self.shared.index.key(&Term::Mention(by.mention()));
        EventsBy { view: self, by, key, from: from.0, found: VecDeque::new(), rest: None, is_over: false }
    }
}

impl<'a> EventsBy<'a> {
    fn step(&mut self) -> Result<Option<EventRef<'a>>, ReadError> {
        let view = self.view;
        loop {
            if let Some(rest) = &mut self.rest {
                return rest.find(|event| event.as_ref().map_or(true, |event| self.by.is_named_by(event))).transpose();
            }
            while let Some(position) = self.found.pop_front() {
                if position >= view.limit {
                    return Ok(None);
                }
                let event = view.record(position)?;
                if event.is_event() && view.shows(&event) && self.by.is_named_by(&event) {
                    return Ok(Some(event));
                }
            }
            let shared = &view.shared;
            // Before it is asked: what comes into the index meanwhile is read as well.
            let indexed_to = shared.index.runs().end();
            let found = shared.index.first_from(&shared.catalog(), self.key, self.from, LOOKED_UP)?;
            match found.last() {
                Some(last) => self.from = last + 1,
                None => self.rest = Some(Events::new(view, self.from.max(indexed_to), view.limit)),
            }
            self.found.extend(found);
        }
    }
}

impl<'a> Iterator for EventsBy<'a> {
    type Item = Result<EventRef<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.step().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}
