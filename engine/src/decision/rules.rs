//! What actions in some streams, or of some types, must say of themselves.

use chainring_format::Version;
use chainring_format::cbor::Value;
use chainring_format::metadata::Class;

use super::notes::{self, RULES, Said};
use super::{ActError, Action, Denial, newest, note, version_of};
use crate::condition::Expected;
use crate::error::ReadError;
use crate::log::{Event, Log};
use crate::query::View;
use crate::sequencer::Receipt;

/// What an action must say. What is empty is not limited.
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
    fn value(&self) -> Value {
        let flags = [("actor", self.actor), ("authority", self.authority), ("reads", self.reads), ("run", self.run)];
        let lists = [("streams", notes::texts(&self.streams)), ("types", notes::texts(&self.types))];
        let lists = lists.into_iter().filter_map(|(name, list)| Some((Value::text(name), list?)));
        Value::Map(
            lists.chain(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (Value::text(name), Value::Bool(true)))).collect(),
        )
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

    fn is_about(&self, event: &Event) -> bool {
        (self.streams.is_empty() || self.streams.iter().any(|prefix| event.stream.starts_with(prefix.as_str())))
            && (self.types.is_empty() || self.types.contains(&event.metadata.event_type))
    }

    fn lacking(&self, action: &Action<'_>, event: &Event) -> Option<&'static str> {
        let metadata = &event.metadata;
        let has_authority = !action.grants.is_empty() || action.approval.is_some();
        let has_reads = !action.reads.is_empty() || metadata.reads.as_ref().is_some_and(|reads| !reads.is_empty());
        let lacking = [
            (self.actor && metadata.actor.is_none(), "an actor"),
            (self.authority && !has_authority, "an authority"),
            (self.reads && !has_reads, "what was read"),
            (self.run && action.run.is_none(), "a run"),
        ];
        lacking.into_iter().find_map(|(is_lacking, what)| is_lacking.then_some(what))
    }
}

/// What of an action is lacking.
pub(super) fn judge(view: &View, action: &Action<'_>) -> Result<Vec<Denial>, ReadError> {
    let mut denials = Vec::new();
    for requirement in declared(view)? {
        for event in action.events.iter().filter(|event| requirement.is_about(event)) {
            let denial = |what| Denial::Lacking { stream: event.stream.clone(), what };
            denials.extend(requirement.lacking(action, event).map(denial));
        }
    }
    Ok(denials)
}

fn declared(view: &View) -> Result<Vec<Requirement>, ReadError> {
    let Some(event) = newest(view, RULES)? else { return Ok(Vec::new()) };
    Ok(Said::by(&event, "rules")?.values("all").into_iter().map(Requirement::of).collect())
}

impl Log {
    /// Sets what actions must say of themselves from the next one on: all of it, in place of what was set before.
    ///
    /// # Errors
    /// As for every append.
    pub fn declare(&self, requirements: &[Requirement], actor: &str) -> Result<Receipt, ActError> {
        self.append_to_the_newest(|view| {
            let version = version_of(view, RULES)?;
            let event = note(RULES.to_owned(), "Declared", |metadata| {
                metadata.actor = Some(actor.to_owned());
                metadata.class = Some(Class::Authority);
                let all = Value::Array(requirements.iter().map(Requirement::value).collect());
                notes::say(metadata, "rules", [("all", Some(all))]);
            });
            Ok(event.expected(Expected::Exactly(Version(version))).into())
        })
    }
}
