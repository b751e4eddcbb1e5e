//! Events by what they name.

use chainring_format::metadata::{Class, Mention, mentions};
use chainring_format::{EventId, Position};

use super::View;
use super::event::EventRef;
use super::naming::Named;
use crate::error::ReadError;

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

/// Events in order of position that name something. After an error it is at its end.
#[derive(Debug)]
pub struct EventsBy<'a> {
    by: By<'a>,
    named: Named<'a>,
}

impl View {
    /// Events that name something, from a position on, in order. Costs what is found of them, not what lies between. What was appended since the last segment
    /// ended is read once, by the first who asks so far.
    #[must_use]
    pub fn events_by<'a>(&'a self, by: By<'a>, from: Position) -> EventsBy<'a> {
        EventsBy { by, named: self.may_name(by.mention(), from.0) }
    }
}

impl<'a> Iterator for EventsBy<'a> {
    type Item = Result<EventRef<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.named.find(|event| event.as_ref().map_or(true, |event| self.by.is_named_by(event)))
    }
}
