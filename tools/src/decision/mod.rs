//! The decision record: what an event was decided against, what allowed it, what it changed, what came of it, and how it is taken back.
//!
//! The engine knows which event names which; here is what that means for states in the import form, and how it is told.

use std::io::Write;

use chainring::{EventRef, ReadError, Version, View};

use crate::fold::{Fields, Fold};
use crate::form::members::{Members, hex};
use crate::form::{self, export};
use crate::output::{Answer, Failure, Out, counted};
use crate::show;

pub(crate) mod authority;
pub(crate) mod compensate;
pub(crate) mod conduct;
pub(crate) mod dependents;
pub(crate) mod explain;
pub(crate) mod run;
pub(crate) mod undo;

/// The event with an id as it was typed.
fn asked<'v>(view: &'v View, text: &str) -> Result<EventRef<'v>, Failure> {
    view.find_event(form::event_id(text))?.ok_or_else(|| Failure::No(format!("there is no event {text}")))
}

/// The id of an event as it stands in the form, as JSON.
fn id(event: &EventRef<'_>) -> Result<String, Failure> {
    Ok(export::field(event.event_id(), &event.metadata()?, "id").unwrap_or_else(|| format!("\"{}\"", event.event_id())))
}

/// Which event it is, in few words.
fn brief(event: &EventRef<'_>, object: &mut Members<'_>) -> Result<(), Failure> {
    object.raw("id", &id(event)?);
    object.text("stream", event.stream()?);
    object.number("version", event.version().0);
    object.number("position", event.position().0);
    object.text("type", event.event_type());
    Ok(())
}

/// Answers with events: their ids and what was asked, a name and a JSON value, for programs; themselves and what one and many of them are, for people.
fn tell_all(events: &[EventRef<'_>], (name, asked): (&str, &str), (one, many): (&str, &str), out: &mut Out) -> Answer {
    if out.json {
        let told = object(|object| {
            object.raw(name, asked);
            count_and_ids(events, object)
        })?;
        writeln!(out, "{told}")?;
    } else {
        events.iter().try_for_each(|event| show::show(event, true, out))?;
        writeln!(out, "{}", counted(events.len() as u64, one, many))?;
    }
    out.flush()?;
    Ok(true)
}

/// How many events these are, and which.
fn count_and_ids(events: &[EventRef<'_>], object: &mut Members<'_>) -> Result<(), Failure> {
    object.number("count", events.len() as u64);
    list(object, "ids", events.iter().map(id).collect::<Result<Vec<_>, _>>()?);
    Ok(())
}

/// Appends a list of JSON values.
fn list(object: &mut Members<'_>, name: &str, items: impl IntoIterator<Item = String>) {
    let items: Vec<String> = items.into_iter().collect();
    object.raw(name, &format!("[{}]", items.join(",")));
}

/// An object of its own, as JSON.
fn object(write: impl FnOnce(&mut Members<'_>) -> Result<(), Failure>) -> Result<String, Failure> {
    let mut text = Vec::new();
    let mut members = Members::open(&mut text);
    write(&mut members)?;
    members.close();
    Ok(String::from_utf8(text).expect("JSON is text"))
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    crate::rawjson::push_string(&mut out, text);
    String::from_utf8(out).expect("JSON is text")
}

/// Takes an event into a state; `false` if its body was erased and what it changed is not known any more.
fn take_in(fold: &mut Fold, event: &EventRef<'_>) -> Result<bool, Failure> {
    match chainring::Fold::apply(&Fields, fold, event) {
        Ok(()) => Ok(true),
        Err(ReadError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The state of a stream behind its first `version` events; `None` if it is not known any more. That of no events is the state of a stream that does not
/// exist.
fn state_at(view: &View, stream: &str, version: u64) -> Result<Option<Fold>, Failure> {
    let mut fold = Fold::default();
    let Some(stream) = view.stream(stream)?.filter(|_| version > 0) else { return Ok(Some(fold)) };
    for event in stream.forward(Version(1))? {
        let event = event?;
        if event.version().0 > version {
            break;
        }
        if !take_in(&mut fold, &event)? {
            return Ok(None);
        }
    }
    Ok(Some(fold))
}

/// SHA-256 of a state, as `state` prints it.
fn digest(fold: &Fold) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(fold.state().as_bytes()))
}
