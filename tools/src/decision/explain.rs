//! `explain`: one event, and everything that bears on it.

use std::io::Write;
use std::path::Path;

use chainring::{EventRef, Grades, Position, ReadRef, Relation, Store, Timestamp, Version, View};

use super::authority::{Force, citations};
use super::undo::Plan;
use super::{asked, brief, digest, list, object, state_at, take_in};
use crate::cli::Explain;
use crate::fold::Fold;
use crate::form::export as form;
use crate::form::members::{Members, hex};
use crate::history::{changes, listed, tell_changes};
use crate::output::{Answer, BAD, DIM, Failure, GOOD, Out, STRONG, counted};
use crate::show::printable;
use crate::{export, rawjson, show, time};

/// The command.
pub(crate) fn run(path: &Path, args: &Explain, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let event = match (&args.event, args.at, &args.stream) {
        (Some(event), ..) => asked(&view, event)?,
        (None, Some(at), Some(stream)) => last_until(&view, stream, at)?,
        _ => unreachable!("one of them is required"),
    };
    let told = Told::new(&view, event, store.grades()?)?;
    if out.json {
        let line = told.json(&view)?;
        writeln!(out, "{line}")?;
    } else {
        told.tell(&view, out)?;
    }
    out.flush()?;
    Ok(true)
}

/// The last event of a stream up to an instant: as claimed, or as recorded where nothing is claimed.
fn last_until<'v>(view: &'v View, stream: &str, at: Timestamp) -> Result<EventRef<'v>, Failure> {
    let there = view.stream(stream)?.ok_or_else(|| Failure::No(format!("there is no stream {stream:?}")))?;
    for event in there.backward() {
        let event = event?;
        if event.occurred_at().unwrap_or_else(|| time::from_nanoseconds(event.recorded_at_ns())) <= at {
            return Ok(event);
        }
    }
    Err(Failure::No(format!("stream {stream:?} has no event up to {}", time::render(at))))
}

/// A stream as it was seen when the event was decided.
struct Seen {
    stream: String,
    version: u64,
    /// As it stands in the form.
    raw: String,
    /// The state of that version; `None` if it is not known any more.
    state: Option<Fold>,
    /// Whether the digest on record is that of the state; `None` if there is none.
    holds: Option<bool>,
    /// Version of the stream when the event was recorded.
    head: u64,
}

/// An event and what bears on it.
struct Told<'v> {
    event: EventRef<'v>,
    reads: Vec<Seen>,
    checked: Vec<Seen>,
    /// States of the event's stream before and after its batch; `None` if they are not known any more.
    states: Option<(Fold, Fold)>,
    dependents: usize,
    plan: Plan<'v>,
    grades: Grades,
}

impl<'v> Told<'v> {
    fn new(view: &'v View, event: EventRef<'v>, grades: Grades) -> Result<Told<'v>, Failure> {
        let metadata = event.metadata()?;
        let seen = |name: &str, refs: &Option<Vec<ReadRef>>| -> Result<Vec<Seen>, Failure> {
            let raw = form::field(event.event_id(), &metadata, name);
            let raw: Vec<&str> = raw.as_deref().and_then(rawjson::elements).into_iter().flatten().collect();
            refs.iter().flatten().zip(raw).map(|(read, raw)| Seen::new(view, &event, read, raw)).collect()
        };
        Ok(Told {
            event,
            reads: seen("reads", &metadata.reads)?,
            checked: seen("checked", &metadata.checked)?,
            states: states(view, &event)?,
            dependents: view.dependents(event.event_id(), Relation::CausationAndReads)?.len(),
            plan: Plan::new(view, event, false)?,
            grades,
        })
    }

    fn json(&self, view: &View) -> Result<String, Failure> {
        let event = &self.event;
        let metadata = event.metadata()?;
        object(|all| {
            let told = object(|told| {
                told.number("position", event.position().0);
                export::put(event, told)?;
                told.text("recorded_at", &time::render(time::from_nanoseconds(event.recorded_at_ns())));
                told.text("link", &event.link().to_string());
                Ok(())
            })?;
            all.raw("event", &told);
            list(all, "reads", self.reads.iter().map(Seen::json).collect::<Result<Vec<_>, _>>()?);
            list(all, "checked", self.checked.iter().map(Seen::json).collect::<Result<Vec<_>, _>>()?);
            all.raw("authority", form::field(event.event_id(), &metadata, "authority").as_deref().unwrap_or("null"));
            let citations = citations(view, event)?;
            list(all, "authority_found", citations.iter().map(super::authority::Citation::json).collect::<Result<Vec<_>, _>>()?);
            all.raw("wrote", &self.wrote()?);
            let cause = match metadata.causation {
                Some(cause) => match view.find_event(cause)? {
                    Some(cause) => object(|object| brief(&cause, object))?,
                    None => format!("{{\"id\":\"{cause}\",\"missing\":true}}"),
                },
                None => "null".to_owned(),
            };
            all.raw("caused_by", &cause);
            let count = self.dependents;
            all.raw("dependents", &format!("{{\"count\":{count}}}"));
            all.raw("undo_plan", &self.plan.json()?);
            let mut grade = show::grade(&self.grades);
            grade["states"] = "folded".into();
            all.raw("grade", &grade.to_string());
            Ok(())
        })
    }

    fn wrote(&self) -> Result<String, Failure> {
        object(|wrote| {
            wrote.text("stream", self.event.stream()?);
            wrote.number("version", self.event.version().0);
            if let Some((before, after)) = &self.states {
                wrote.number("before_version", before.version());
                wrote.number("after_version", after.version());
                wrote.text("before_sha256", &digest(before));
                wrote.text("after_sha256", &digest(after));
                wrote.raw("before", &before.state());
                wrote.raw("after", &after.state());
                wrote.raw("changed", &listed(&changes(&before.fields(), &after.fields())));
            } else {
                wrote.raw("erased", "true");
            }
            Ok(())
        })
    }

    fn tell(&self, view: &View, out: &mut Out) -> Result<(), Failure> {
        let event = &self.event;
        let metadata = event.metadata()?;
        let at = metadata.occurred_at.unwrap_or_else(|| time::from_nanoseconds(event.recorded_at_ns()));
        let name = out.paint(STRONG, event.event_type()).into_owned();
        writeln!(out, "{name}  {} v{}  {}", printable(event.stream()?), event.version(), time::render(at))?;
        let whom = metadata.on_behalf_of.as_deref().map(|whom| format!(" for {}", printable(whom))).unwrap_or_default();
        let run = metadata.correlation.as_deref().map(|run| format!(", in {}", printable(run))).unwrap_or_default();
        label(out, "acted", &format!("{}{whom}{run}", printable(metadata.actor.as_deref().unwrap_or("nobody"))))?;
        let mut cause = metadata.causation;
        for _ in 0..CAUSES_SHOWN {
            let Some(id) = cause else { break };
            let Some(event) = view.find_event(id)? else {
                label(out, "caused by", &format!("{id}, which is not in the log"))?;
                break;
            };
            label(out, "caused by", &format!("{} of {} v{}", event.event_type(), printable(event.stream()?), event.version()))?;
            cause = event.metadata()?.causation;
        }
        for citation in citations(view, event)? {
            let force = citation.force.words();
            let style = if citation.force == Force::Holds { GOOD } else { BAD };
            let force = out.paint(style, &force).into_owned();
            label(out, "allowed by", &format!("{}: {force}", printable(&citation.name())))?;
            if let Some(text) = citation.text()? {
                let shown: String = printable(&text).chars().take(TEXT_CHARS_SHOWN).collect();
                label(out, "", &out.paint(DIM, &shown))?;
            }
        }
        for (what, all) in [("had read", &self.reads), ("checked with", &self.checked)] {
            for seen in all {
                let mut words = format!("{} v{}", printable(&seen.stream), seen.version);
                if seen.head != seen.version {
                    words += &out.paint(BAD, &format!(", stale: it was at v{}", seen.head));
                }
                match seen.holds {
                    Some(true) => words += &out.paint(DIM, " (the digest on record holds)"),
                    Some(false) => words += &out.paint(BAD, " (the digest on record is that of another state)"),
                    None => {}
                }
                label(out, what, &words)?;
            }
        }
        match &self.states {
            Some((before, after)) => {
                label(out, "changed", &format!("v{} -> v{}", before.version(), after.version()))?;
                tell_changes(&changes(&before.fields(), &after.fields()), out)?;
            }
            None => label(out, "changed", "not known any more: a body was erased")?,
        }
        label(out, "evidence", &self.evidence())?;
        label(out, "built on it", &counted(self.dependents as u64, "event", "events"))?;
        write!(out, "  {} ", out.paint(DIM, "undo        ").into_owned())?;
        self.plan.tell(out)
    }

    /// What there is for this event, the strongest last.
    fn evidence(&self) -> String {
        let position = self.event.position().0;
        let dated = [("verified here", self.grades.verified_to), ("sealed", self.grades.sealed_to), ("anchored", self.grades.anchored_to)];
        let there = dated.into_iter().filter(|(_, graded)| graded.is_some_and(|(size, _)| position < size)).map(|(name, _)| name);
        ["durable", "chained"].into_iter().chain(there).collect::<Vec<_>>().join(", ")
    }
}

/// Causes of causes that are told.
const CAUSES_SHOWN: usize = 16;
/// How much of the text of an authority is told.
const TEXT_CHARS_SHOWN: usize = 200;

fn label(out: &mut Out, name: &str, text: &str) -> Result<(), Failure> {
    let name = format!("  {name:<13}");
    let name = out.paint(DIM, &name).into_owned();
    Ok(writeln!(out, "{name}{text}")?)
}

impl Seen {
    fn new(view: &View, event: &EventRef<'_>, read: &ReadRef, raw: &str) -> Result<Seen, Failure> {
        let head = head_before(view, &read.stream, event)?;
        let state = state_at(view, &read.stream, read.version)?.filter(|fold| fold.version() == read.version);
        let on_record = read.state.as_deref().map(hex);
        // A digest may be given by its first digits.
        let holds = state.as_ref().and_then(|fold| Some(!on_record.as_ref()?.is_empty() && digest(fold).starts_with(on_record.as_ref()?)));
        Ok(Seen { stream: read.stream.clone(), version: read.version, raw: raw.to_owned(), state, holds, head })
    }

    /// The entry as it stands in the form, and what is known of it.
    fn json(&self) -> Result<String, Failure> {
        object(|object: &mut Members<'_>| {
            for (name, value) in rawjson::members(&self.raw).into_iter().flatten() {
                object.raw(&rawjson::name(name), value);
            }
            object.number("head", self.head);
            object.raw("is_fresh", if self.head == self.version { "true" } else { "false" });
            object.raw("digest_holds", self.holds.map_or("null", |holds| if holds { "true" } else { "false" }));
            match &self.state {
                Some(state) => {
                    object.text("value_sha256", &digest(state));
                    object.raw("value", &state.state());
                }
                None => object.raw("value", "null"),
            }
            Ok(())
        })
    }
}

/// Version of a stream when an event was recorded, the event's own batch left out.
fn head_before(view: &View, stream: &str, event: &EventRef<'_>) -> Result<u64, Failure> {
    let begin = Position(event.position().0 - event.batch().map_or(0, |(index, _)| u64::from(index)));
    Ok(view.up_to(begin).stream(stream)?.map_or(0, |stream| stream.version().0))
}

/// States of the event's stream before and after everything its batch did to it.
fn states(view: &View, event: &EventRef<'_>) -> Result<Option<(Fold, Fold)>, Failure> {
    let (index, count) = event.batch().unwrap_or((0, 1));
    let begin = event.position().0 - u64::from(index);
    let end = begin + u64::from(count);
    let Some(stream) = view.stream(event.stream()?)? else { return Ok(None) };
    let (mut before, mut after) = (Fold::default(), Fold::default());
    for event in stream.forward(Version(1))? {
        let event = event?;
        if event.position().0 >= end {
            break;
        }
        if !take_in(&mut after, &event)? {
            return Ok(None);
        }
        if event.position().0 < begin {
            before = after.clone();
        }
    }
    Ok(Some((before, after)))
}
