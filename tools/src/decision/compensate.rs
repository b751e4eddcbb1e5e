//! `compensate`: follows a plan to take something back. All of it is appended as one batch, or nothing is.
//!
//! A plan holds for the versions it was made against. Where a stream has moved on, or something in it was taken back already, nothing happens. The same plan
//! appended twice is appended once: the ids follow from what is taken back, and at which version.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;

use chainring::{
    ActError, Action, AppendError, Class, Event, EventId, Expected, Metadata, Options, ReadRef, Reversibility, Standing, Value, Version,
};

use super::{asked, list, object};
use crate::cli::Compensate;
use crate::output::{Answer, BAD, Failure, GOOD, Out, counted};
use crate::rawjson;

/// Type of the events that take others back.
const TYPE: &str = "Compensated";
/// Context of their ids.
const CONTEXT_ID: &str = "chainring 2026-11 v1 compensation id";

/// One step of a plan, read.
struct Step {
    compensates: String,
    stream: String,
    expected: u64,
    data: String,
}

/// The command.
pub(crate) fn run(path: &Path, args: &Compensate, out: &mut Out) -> Answer {
    let (steps, is_reversible) = read(&args.plan)?;
    if !is_reversible && !args.accept_rest {
        return Err(Failure::No("the plan does not take everything back; if that is as it should be, say --accept-rest".into()));
    }
    let log = Options::new().remember(true).open(path)?;
    let mut seen: HashMap<&str, u64> = HashMap::new();
    let mut events = Vec::with_capacity(steps.len());
    let view = log.latest();
    for step in &steps {
        let target = asked(&view, &step.compensates)?;
        if target.stream()? != step.stream {
            return Err(Failure::No(format!("event {} is in stream {:?}, not in {:?}", step.compensates, target.stream()?, step.stream)));
        }
        let id = compensation_id(target.event_id(), step.expected);
        // The first step of a stream was made against what the plan saw.
        let read_at = *seen.entry(&step.stream).or_insert(step.expected);
        let read = ReadRef { stream: step.stream.clone(), version: read_at, standing: Some(Standing::Authoritative), ..ReadRef::default() };
        let reason = args.reason.iter().map(|reason| ("reason".to_owned(), Value::text(reason)));
        let metadata = Metadata {
            actor: args.actor.clone(),
            class: Some(Class::Compensation),
            compensates: Some(target.event_id()),
            reversibility: Some(Reversibility::Reversible),
            reads: Some(vec![read]),
            expected_version: Some(step.expected),
            attributes: reason.collect(),
            ..Metadata::new(TYPE)
        };
        let event = Event::with_metadata(step.stream.clone(), metadata).id(id).body(step.data.as_bytes());
        events.push(event.expected(Expected::Exactly(Version(step.expected))));
    }
    if events.is_empty() {
        return tell(&[], None, out);
    }
    let ids: Vec<EventId> = events.iter().filter_map(|event| event.id).collect();
    match log.act(&Action::batch(events).without_attempt()) {
        Ok(receipt) => {
            let told = Some((receipt.last_position().0, receipt.duplicate));
            log.close()?;
            tell(&ids, told, out)
        }
        Err(ActError::Denied(denials)) => {
            let denials: Vec<String> = denials.iter().map(ToString::to_string).collect();
            Err(Failure::No(format!("the plan does not hold any more, nothing was appended: {}", denials.join("; "))))
        }
        Err(ActError::Append(error @ (AppendError::Refused(_) | AppendError::IdConflict { .. } | AppendError::PartlyKnown { .. }))) => {
            Err(Failure::No(format!("something of this was appended before, otherwise: {error}")))
        }
        Err(error) => Err(Failure::Cannot(error.to_string())),
    }
}

/// The one id that a compensation of an event has, against one version of its stream.
fn compensation_id(target: EventId, expected: u64) -> EventId {
    let hash = blake3::derive_key(CONTEXT_ID, &[&target.0[..], &expected.to_le_bytes()].concat());
    EventId(*hash.first_chunk().expect("32 bytes"))
}

fn tell(ids: &[EventId], appended: Option<(u64, bool)>, out: &mut Out) -> Answer {
    let (position, is_duplicate) = appended.map_or((None, false), |(position, is_duplicate)| (Some(position), is_duplicate));
    if out.json {
        let told = object(|object| {
            object.number("appended", if is_duplicate { 0 } else { ids.len() as u64 });
            object.raw("duplicate", if is_duplicate { "true" } else { "false" });
            position.iter().for_each(|position| object.number("last_position", *position));
            list(object, "ids", ids.iter().map(|id| format!("\"{id}\"")));
            Ok(())
        })?;
        writeln!(out, "{told}")?;
    } else {
        let (style, words) = match (ids.len() as u64, is_duplicate) {
            (0, _) => (GOOD, "nothing to take back".to_owned()),
            (_, true) => (BAD, "this was appended before".to_owned()),
            (count, false) => (GOOD, format!("{} appended", counted(count, "compensation", "compensations"))),
        };
        writeln!(out, "{}", out.paint(style, &words))?;
    }
    out.flush()?;
    Ok(true)
}

/// The steps of a plan, and whether it takes everything back.
fn read(file: &Path) -> Result<(Vec<Step>, bool), Failure> {
    let cannot = |error| Failure::Cannot(format!("cannot read {}: {error}", file.display()));
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map_err(cannot)?;
    } else {
        text = std::fs::read_to_string(file).map_err(cannot)?;
    }
    parse(&text).ok_or_else(|| Failure::No(format!("{} is no plan as undo-plan --json prints it", file.display())))
}

fn parse(text: &str) -> Option<(Vec<Step>, bool)> {
    let plan: HashMap<String, &str> =
        rawjson::members(rawjson::valid(text).ok()?)?.map(|(name, value)| (rawjson::name(name), value)).collect();
    let step = |raw: &str| {
        let step: HashMap<String, &str> = rawjson::members(raw)?.map(|(name, value)| (rawjson::name(name), value)).collect();
        let text = |name: &str| Some(rawjson::string(step.get(name)?)?.into_owned());
        Some(Step {
            compensates: text("compensates")?,
            stream: text("stream")?,
            expected: step.get("expected_version")?.parse().ok()?,
            data: (*step.get("data")?).to_owned(),
        })
    };
    let steps = rawjson::elements(plan.get("steps")?)?.map(step).collect::<Option<Vec<_>>>()?;
    Some((steps, *plan.get("reversible")? == "true"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::event_id;

    #[test]
    fn only_a_plan_is_read_as_one() {
        let id = event_id("e");
        let step = format!(r#"{{"compensates":"{id}","stream":"s","expected_version":3,"data":{{"set":{{"a":1.50}}}}}}"#);
        let (steps, is_reversible) = parse(&format!(r#"{{"steps":[{step}],"reversible":true,"more":1}}"#)).unwrap();
        assert!(is_reversible);
        let [only] = &steps[..] else { panic!("{} steps", steps.len()) };
        assert_eq!((&*only.compensates, &*only.stream, only.expected), (&*id.to_string(), "s", 3));
        assert_eq!(only.data, r#"{"set":{"a":1.50}}"#, "numbers as they were written");
        assert!(!parse(r#"{"steps":[],"reversible":false}"#).unwrap().1);
        for bad in ["", "[]", "{}", r#"{"steps":[]}"#, r#"{"steps":[{}],"reversible":true}"#, r#"{"steps":{},"reversible":true}"#] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_compensation_has_one_id_for_one_version() {
        let (a, b) = (event_id("a"), event_id("b"));
        assert_eq!(compensation_id(a, 1), compensation_id(a, 1));
        assert_ne!(compensation_id(a, 1), compensation_id(a, 2));
        assert_ne!(compensation_id(a, 1), compensation_id(b, 1));
    }
}
