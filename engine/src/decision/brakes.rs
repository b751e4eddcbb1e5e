//! Freezing, and saying what events must rest on: one recorded event each, in force from the next append on. The sequencer holds appends against them.

use chainring_format::Version;
use chainring_format::cbor::Value;
use chainring_format::metadata::Class;

use super::{ActError, newest, note, version_of};
use crate::condition::Expected;
use crate::log::{Event, Log, Request};
use crate::query::View;
use crate::sequencer::{Brakes, RULES, Receipt, Requirement, STOPS, Stop, say, texts};

impl Log {
    /// Freezes something: from the next append on nothing happens to it, by whatever door, but in streams of the engine's own, whose names begin with `$`.
    /// The receipt names the event that says so.
    ///
    /// # Errors
    /// As for every append.
    pub fn freeze(&self, what: Stop<'_>, actor: &str) -> Result<Receipt, ActError> {
        self.change_stops("Frozen", actor, |frozen| {
            if !frozen.contains(&what.text()) {
                frozen.push(what.text());
            }
        })
    }

    /// Takes a stop back.
    ///
    /// # Errors
    /// As for every append.
    pub fn unfreeze(&self, what: Stop<'_>, actor: &str) -> Result<Receipt, ActError> {
        self.change_stops("Unfrozen", actor, |frozen| frozen.retain(|text| *text != what.text()))
    }

    fn change_stops(&self, event_type: &str, actor: &str, change: impl Fn(&mut Vec<String>)) -> Result<Receipt, ActError> {
        self.append_to_the_newest(|view| {
            let mut frozen =
                newest(view, STOPS)?.map_or(Ok(Vec::new()), |event| event.metadata().map(|metadata| Brakes::frozen(&metadata)))?;
            change(&mut frozen);
            say_of_all(view, STOPS, event_type, actor, ("stops", [("frozen", texts(&frozen))]))
        })
    }

    /// Sets what events must say of themselves, and rest on, from the next append on: all of it, in place of what was set before. Streams of the engine's own
    /// are exempt.
    ///
    /// # Errors
    /// As for every append.
    pub fn declare(&self, requirements: &[Requirement], actor: &str) -> Result<Receipt, ActError> {
        self.append_to_the_newest(|view| {
            let all = Value::Array(requirements.iter().map(Requirement::value).collect());
            say_of_all(view, RULES, "Declared", actor, ("rules", [("all", Some(all))]))
        })
    }
}

/// The next event of a stream whose newest event says everything.
fn say_of_all(
    view: &View,
    stream: &str,
    event_type: &str,
    actor: &str,
    (name, entries): (&str, [(&str, Option<Value>); 1]),
) -> Result<Request, ActError> {
    let version = version_of(view, stream)?;
    let event: Event = note(stream.to_owned(), event_type, |metadata| {
        metadata.actor = Some(actor.to_owned());
        metadata.class = Some(Class::Authority);
        say(metadata, name, entries);
    });
    Ok(event.expected(Expected::Exactly(Version(version))).into())
}
