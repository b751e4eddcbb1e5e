//! What the log itself says against appends: what is frozen, and what events must say of themselves.
//!
//! Both are events: the newest one of `$stops` names everything that is frozen, the newest one of `$rules` everything that is required. They hold from the
//! next append in the order of the log, whoever makes it and by whatever door, because the leader looks at them where it places that event. Streams of
//! the engine are exempt: a log that is frozen whole can still be told to go on, and says who was refused.

use chainring_format::cbor::Value;
use chainring_format::metadata::Metadata;

use super::Shared;
use super::core::Core;
use super::request::{PreparedEvent, RequestView, StreamKey};
use super::said::{Said, texts};
use crate::error::{Bar, ReadError};
use crate::sync::{Arc, read, write};

/// What is frozen: the newest event names all of it.
pub(crate) const STOPS: &str = "$stops";

/// What events must say of themselves: the newest event names all of it.
pub(crate) const RULES: &str = "$rules";

/// What may be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop<'a> {
    /// Everything.
    Log,
    /// One actor.
    Actor(&'a str),
    /// Streams whose names start so.
    Streams(&'a str),
}

impl<'a> Stop<'a> {
    pub(crate) fn text(self) -> String {
        match self {
            Stop::Log => "log".to_owned(),
            Stop::Actor(actor) => format!("actor {actor}"),
            Stop::Streams(prefix) => format!("streams {prefix}"),
        }
    }

    /// The stop that a text says. What it does not understand stops everything: whoever wrote it wanted something stopped.
    fn of(text: &'a str) -> Stop<'a> {
        match text.split_once(' ') {
            Some(("actor", name)) => Stop::Actor(name),
            Some(("streams", prefix)) => Stop::Streams(prefix),
            _ => Stop::Log,
        }
    }

    fn is_about(self, event: &Facts<'_>) -> bool {
        match self {
            Stop::Log => true,
            Stop::Actor(name) => event.metadata.actor.as_deref() == Some(name),
            Stop::Streams(prefix) => event.stream.starts_with(prefix),
        }
    }
}

/// What events must say of themselves to be appended. What is empty is not limited.
///
/// An actor is a word of the caller's. The rest is what an action rests on, and holds only of one that was judged: an append past
/// [`Log::act`](crate::Log::act) has neither authority nor reads nor a run, whatever its metadata says - unless it is taken at its word
/// ([`Request::taken_at_its_word`](crate::Request::taken_at_its_word)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // One for each thing that can be said.
pub struct Requirement {
    /// Streams it is about: prefixes of their names.
    pub streams: Vec<String>,
    /// Types it is about.
    pub types: Vec<String>,
    /// Who acts.
    pub actor: bool,
    /// A grant or an approval.
    pub authority: bool,
    /// What it was decided against.
    pub reads: bool,
    /// The run it belongs to.
    pub run: bool,
}

impl Requirement {
    pub(crate) fn value(&self) -> Value {
        let flags = [("actor", self.actor), ("authority", self.authority), ("reads", self.reads), ("run", self.run)];
        let lists = [("streams", texts(&self.streams)), ("types", texts(&self.types))];
        let lists = lists.into_iter().filter_map(|(name, list)| Some((Value::text(name), list?)));
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (Value::text(name), Value::Bool(true)));
        Value::Map(lists.chain(flags).collect())
    }

    fn of(value: Value) -> Requirement {
        let said = Said::of(value);
        Requirement {
            streams: said.texts("streams"),
            types: said.texts("types"),
            actor: said.is("actor"),
            authority: said.is("authority"),
            reads: said.is("reads"),
            run: said.is("run"),
        }
    }

    fn is_about(&self, event: &Facts<'_>) -> bool {
        (self.streams.is_empty() || self.streams.iter().any(|prefix| event.stream.starts_with(prefix.as_str())))
            && (self.types.is_empty() || self.types.contains(&event.metadata.event_type))
    }

    fn lacking(&self, event: &Facts<'_>) -> Option<&'static str> {
        let metadata = event.metadata;
        let (authority, reads, run) = match event.grounds {
            Grounds::Judged { authority, reads, run } => (authority, reads, run),
            Grounds::Claimed => (!metadata.authority.is_empty(), has_read(metadata), metadata.run_epoch.is_some()),
            Grounds::Restored => return None,
        };
        let lacking = [
            (self.actor && metadata.actor.is_none(), "an actor"),
            (self.authority && !authority, "an authority"),
            (self.reads && !reads, "what was read"),
            (self.run && !run, "a run"),
        ];
        lacking.into_iter().find_map(|(is_lacking, what)| is_lacking.then_some(what))
    }
}

/// What an append rests on, and by whose word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grounds {
    /// What was found by who judged it. Nothing, if nobody did.
    Judged { authority: bool, reads: bool, run: bool },
    /// What its metadata says.
    Claimed,
    /// It happened: it comes back to where it was.
    Restored,
}

impl Default for Grounds {
    fn default() -> Grounds {
        Grounds::Judged { authority: false, reads: false, run: false }
    }
}

/// What is asked of one event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub stream: &'a str,
    pub metadata: &'a Metadata,
    pub grounds: Grounds,
}

/// Everything that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Brakes {
    frozen: Vec<String>,
    requirements: Vec<Requirement>,
}

impl Brakes {
    /// What an event of `$stops` says is frozen.
    pub(crate) fn frozen(metadata: &Metadata) -> Vec<String> {
        Said::by(metadata, "stops").texts("frozen")
    }

    fn is_off(&self) -> bool {
        self.frozen.is_empty() && self.requirements.is_empty()
    }

    /// Takes in an event of one of the two streams.
    fn turn(&mut self, stream: &str, metadata: &Metadata) {
        if stream == STOPS {
            self.frozen = Brakes::frozen(metadata);
        } else {
            self.requirements = Said::by(metadata, "rules").values("all").into_iter().map(Requirement::of).collect();
        }
    }

    /// Everything that speaks against an append of these events.
    pub(crate) fn judge(&self, events: &[Facts<'_>]) -> Vec<Bar> {
        let events = || events.iter().filter(|event| !is_engines(event.stream));
        let frozen = self.frozen.iter().filter(|text| events().any(|event| Stop::of(text).is_about(event)));
        let mut bars: Vec<Bar> = frozen.map(|text| Bar::Frozen { what: text.clone() }).collect();
        for requirement in &self.requirements {
            for event in events().filter(|event| requirement.is_about(event)) {
                let bar = |what| Bar::Lacking { stream: event.stream.to_owned(), what };
                bars.extend(requirement.lacking(event).map(bar));
            }
        }
        bars
    }
}

/// Whether an event says what it was decided against.
pub(crate) fn has_read(metadata: &Metadata) -> bool {
    metadata.reads.as_ref().is_some_and(|reads| !reads.is_empty())
}

/// Whether a stream belongs to the engine and its conventions.
pub(crate) fn is_engines(stream: &str) -> bool {
    stream.starts_with('$')
}

/// Metadata as the front door has encoded it.
fn decoded(bytes: &[u8]) -> Metadata {
    Metadata::decode(bytes).expect("the front door encodes metadata")
}

impl Core {
    /// Everything that speaks against a request. Where nothing is in force this is one look at two empty lists.
    pub(super) fn bars(&self, request: RequestView<'_>) -> Vec<Bar> {
        let is_exempt = |event: &PreparedEvent| event.is_engines || event.grounds == Grounds::Restored;
        if self.brakes.is_off() || request.events.iter().all(is_exempt) {
            return Vec::new();
        }
        let metadata: Vec<Metadata> = request.contents().map(|(_, content)| decoded(content.metadata)).collect();
        let facts = request.contents().zip(&metadata);
        let facts = facts.map(|((event, content), metadata)| Facts { stream: content.name(), metadata, grounds: event.grounds });
        self.brakes.judge(&facts.collect::<Vec<_>>())
    }

    /// Takes in what a request that was placed says of them.
    pub(super) fn turn_brakes(&mut self, request: RequestView<'_>, shared: &Shared) {
        let own = |(event, _): &(&PreparedEvent, _)| event.is_engines;
        for (_, content) in request.contents().filter(own) {
            if [STOPS, RULES].contains(&content.name()) {
                Arc::make_mut(&mut self.brakes).turn(content.name(), &decoded(content.metadata));
                shared.set_brakes(&self.brakes);
            }
        }
    }
}

impl Shared {
    /// What is in force at the end of the log, as the leader knows it.
    pub(crate) fn brakes(&self) -> Arc<Brakes> {
        Arc::clone(&read(&self.brakes))
    }

    pub(super) fn set_brakes(&self, brakes: &Arc<Brakes>) {
        *write(&self.brakes) = Arc::clone(brakes);
    }

    /// Reads what was in force when the log was left.
    pub(super) fn read_brakes(&self) -> Result<Brakes, ReadError> {
        let mut brakes = Brakes::default();
        for stream in [STOPS, RULES] {
            let id = StreamKey::of(stream).id;
            let resident = read(&self.directory).stream(&id).map(|head| head.position);
            let newest = resident.map_or_else(|| self.indexed_below(&id, u64::MAX), |position| Ok(Some((position, None))))?;
            let Some(found) = newest else { continue };
            let (position, catalog) = (found.0, self.catalog());
            let frame = catalog.frame_found(found)?;
            let metadata = Metadata::decode(frame.metadata());
            brakes.turn(stream, &metadata.map_err(|violation| catalog.damaged(position, violation))?);
        }
        Ok(brakes)
    }
}
