//! `undo-plan`: how an event, and everything that depends on it, can be taken back.
//!
//! The engine says which events, and in which order. Here every step gets what it has to change: the difference between the state of its stream, and the one
//! that a history without the events taken back so far would have led to. Applying the steps in order is folding that other history; where it is not, as for a
//! stream that only exists because of what is taken back, the plan says so and is not called reversible.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use chainring::{EventId, EventRef, Position, Reversibility, Store, StreamId, Version, View};

use super::{asked, brief, id, list, object, quoted, take_in};
use crate::cli;
use crate::fold::{Fold, touched};
use crate::output::{Answer, BAD, DIM, Failure, GOOD, Out, STRONG, counted};
use crate::show::printable;

/// One event to take back that changed something, and the data of the event that does so.
pub(super) struct Step<'v> {
    pub(super) event: EventRef<'v>,
    /// Version of the stream that it is appended to.
    expected: u64,
    data: String,
}

/// What the plan cannot do, or what whoever follows it should know.
enum Conflict<'v> {
    /// A later event changed the same fields. Its change stays.
    Overwritten { by: EventRef<'v>, fields: Vec<String> },
    /// It was part of the same batch, all of it or nothing. It stays.
    Split { event: EventRef<'v> },
    /// The stream would not exist. It will, with an empty state.
    Created { stream: &'v str },
    /// A body was erased: what the stream would be is not known.
    Erased { stream: &'v str },
    /// It was taken back already.
    Compensated { event: EventRef<'v>, by: EventRef<'v> },
}

/// A plan in full.
pub(super) struct Plan<'v> {
    root: EventRef<'v>,
    engine: chainring::UndoPlan<'v>,
    pub(super) steps: Vec<Step<'v>>,
    conflicts: Vec<Conflict<'v>>,
}

impl<'v> Plan<'v> {
    /// The plan for an event, or for the whole batch that it was part of.
    pub(super) fn new(view: &'v View, root: EventRef<'v>, whole_batch: bool) -> Result<Plan<'v>, Failure> {
        let (index, count) = root.batch().unwrap_or((0, 1));
        let first = root.position().0 - u64::from(index);
        let batch = (first..first + u64::from(count)).map(|position| view.event(Position(position))).collect::<Result<Vec<_>, _>>()?;
        let roots: Vec<EventRef<'v>> = if whole_batch { batch.clone() } else { vec![root] };
        let ids: Vec<EventId> = roots.iter().map(EventRef::event_id).collect();
        let engine = view.undo_plan(&ids)?;
        let mut plan = Plan { root, engine, steps: Vec::new(), conflicts: Vec::new() };
        for (event, by) in &plan.engine.compensated {
            if ids.contains(&event.event_id()) {
                plan.conflicts.push(Conflict::Compensated { event: *event, by: *by });
            }
        }
        let goes: HashSet<EventId> = plan.engine.steps.iter().map(EventRef::event_id).chain(ids).collect();
        let stays = batch.into_iter().filter(|event| !goes.contains(&event.event_id()));
        plan.conflicts.extend(stays.map(|event| Conflict::Split { event }));
        let already: HashSet<EventId> = plan.engine.compensated.iter().flat_map(|(event, by)| [event.event_id(), by.event_id()]).collect();
        // Of each stream, in the order of the plan.
        let mut streams: HashMap<StreamId, Vec<EventRef<'v>>> = HashMap::new();
        plan.engine.steps.iter().for_each(|step| streams.entry(step.stream_id()).or_default().push(*step));
        let mut data: HashMap<EventId, (u64, String)> = HashMap::new();
        for (name, _) in plan.engine.heads.clone() {
            let Some(stream) = view.stream(name)? else { continue };
            let events = stream.forward(Version(1))?.collect::<Result<Vec<_>, _>>()?;
            let Some(id) = events.first().map(EventRef::stream_id) else { continue };
            plan.take_back(name, &events, &streams[&id], &already, &mut data)?;
        }
        let steps = plan.engine.steps.iter();
        plan.steps =
            steps.filter_map(|step| data.remove(&step.event_id()).map(|(expected, data)| Step { event: *step, expected, data })).collect();
        Ok(plan)
    }

    /// What the steps of one stream have to change. `already` holds what was taken back before.
    fn take_back(
        &mut self,
        name: &'v str,
        events: &[EventRef<'v>],
        steps: &[EventRef<'v>],
        already: &HashSet<EventId>,
        data: &mut HashMap<EventId, (u64, String)>,
    ) -> Result<(), Failure> {
        let mut gone = already.clone();
        let is_concerned =
            |event: &EventRef<'_>| already.contains(&event.event_id()) || steps.iter().any(|step| step.event_id() == event.event_id());
        let from = events.iter().position(is_concerned).unwrap_or(events.len());
        let (before, behind) = events.split_at(from);
        let mut prefix = Fold::default();
        for event in before {
            if !take_in(&mut prefix, event)? {
                self.conflicts.push(Conflict::Erased { stream: name });
                return Ok(());
            }
        }
        let folded = |gone: &HashSet<EventId>| -> Result<Option<Fold>, Failure> {
            let mut fold = prefix.clone();
            for event in behind.iter().filter(|event| !gone.contains(&event.event_id())) {
                if !take_in(&mut fold, event)? {
                    return Ok(None);
                }
            }
            Ok(Some(fold))
        };
        let Some(mut now) = folded(&HashSet::new())? else {
            self.conflicts.push(Conflict::Erased { stream: name });
            return Ok(());
        };
        let mut version = events.len() as u64;
        let mut fields: BTreeSet<String> = BTreeSet::new();
        let mut is_exact = true;
        for step in steps {
            gone.insert(step.event_id());
            let Some(then) = folded(&gone)? else { break };
            if let Some(change) = difference(&now, &then) {
                fields.extend(touched(change.as_bytes()));
                now.apply(version + 1, change.as_bytes());
                is_exact = now.state() == then.state();
                data.insert(step.event_id(), (version, change));
                version += 1;
            }
        }
        if !is_exact {
            self.conflicts.push(Conflict::Created { stream: name });
        }
        let kept = self.engine.kept.iter().filter(|kept| events.first().is_some_and(|first| first.stream_id() == kept.stream_id()));
        for by in kept {
            let same: Vec<String> = touched(by.body().unwrap_or_default()).into_iter().filter(|field| fields.contains(field)).collect();
            if !same.is_empty() {
                self.conflicts.push(Conflict::Overwritten { by: *by, fields: same });
            }
        }
        Ok(())
    }

    /// Whether following the plan leaves everything as if the event, and what depends on it, had never been.
    pub(super) fn is_reversible(&self) -> bool {
        let is_bad = |conflict: &Conflict<'_>| !matches!(conflict, Conflict::Overwritten { .. } | Conflict::Split { .. });
        self.engine.horizon.is_none() && !self.conflicts.iter().any(is_bad)
    }

    /// As JSON.
    pub(super) fn json(&self) -> Result<String, Failure> {
        let engine = &self.engine;
        let of = |event: &EventRef<'_>| object(|object| brief(event, object));
        object(|all| {
            all.raw("event", &id(&self.root)?);
            all.raw("reversible", if self.is_reversible() { "true" } else { "false" });
            all.text("reversibility", word(engine.reversibility));
            all.raw("horizon", &engine.horizon.as_ref().map_or_else(|| Ok("null".to_owned()), of)?);
            list(all, "events", engine.steps.iter().map(id).collect::<Result<Vec<_>, _>>()?);
            list(all, "steps", self.steps.iter().map(Step::json).collect::<Result<Vec<_>, _>>()?);
            let pairs = engine.compensated.iter().map(|(event, by)| {
                object(|object| {
                    object.raw("event", &id(event)?);
                    object.raw("by", &id(by)?);
                    Ok(())
                })
            });
            list(all, "already_undone", pairs.collect::<Result<Vec<_>, _>>()?);
            list(all, "conflicts", self.conflicts.iter().map(Conflict::json).collect::<Result<Vec<_>, _>>()?);
            list(all, "needs_outside", self.outside()?.iter().map(id).collect::<Result<Vec<_>, _>>()?);
            let heads = engine.heads.iter().map(|(stream, version)| {
                object(|object| {
                    object.text("stream", stream);
                    object.number("version", version.0);
                    Ok(())
                })
            });
            list(all, "heads", heads.collect::<Result<Vec<_>, _>>()?);
            Ok(())
        })
    }

    /// Steps that need help from outside of the log.
    fn outside(&self) -> Result<Vec<EventRef<'v>>, Failure> {
        let mut outside = Vec::new();
        for step in &self.engine.steps {
            if step.metadata()?.reversibility == Some(Reversibility::ExternallyReversible) {
                outside.push(*step);
            }
        }
        Ok(outside)
    }

    /// For people.
    pub(super) fn tell(&self, out: &mut Out) -> Result<(), Failure> {
        let (style, verdict) = match (&self.engine.horizon, self.is_reversible()) {
            (_, true) => (GOOD, "can be taken back"),
            (Some(_), false) => (BAD, "cannot be taken back: something that cannot be undone stands on it"),
            (None, false) => (BAD, "cannot be taken back without a rest"),
        };
        let size = counted(self.engine.steps.len() as u64, "event", "events");
        writeln!(out, "{}  ({size}, {} to append)", out.paint(style, verdict), self.steps.len())?;
        if let Some(horizon) = &self.engine.horizon {
            writeln!(out, "  horizon: {}", named(horizon)?)?;
        }
        // Where nothing is set or unset, every event is the whole of what is known: mostly a conversation, of which only the length is telling.
        let (changes, rest): (Vec<_>, Vec<_>) = self.steps.iter().partition(|step| !touched(step.data.as_bytes()).contains(&String::new()));
        let mut whole: BTreeMap<&str, usize> = BTreeMap::new();
        for step in rest {
            *whole.entry(step.event.stream()?).or_default() += 1;
        }
        for (stream, count) in whole {
            writeln!(out, "  undo  {} of {}", counted(count as u64, "event", "events"), printable(stream))?;
        }
        for step in changes {
            let place = format!("{} v{}", printable(step.event.stream()?), step.event.version());
            writeln!(out, "  undo  {}  {}  {}", out.paint(STRONG, step.event.event_type()), place, out.paint(DIM, &printable(&step.data)))?;
        }
        for conflict in &self.conflicts {
            writeln!(out, "  {} {}", out.paint(BAD, "note:"), conflict.words()?)?;
        }
        for event in self.outside()? {
            writeln!(out, "  {} {} needs help from outside", out.paint(BAD, "note:"), named(&event)?)?;
        }
        Ok(())
    }
}

fn named(event: &EventRef<'_>) -> Result<String, Failure> {
    Ok(format!("{} of {} v{}, {}", event.event_type(), printable(event.stream()?), event.version(), event.event_id()))
}

impl Step<'_> {
    fn json(&self) -> Result<String, Failure> {
        object(|object| {
            object.raw("compensates", &id(&self.event)?);
            object.text("stream", self.event.stream()?);
            object.number("version", self.event.version().0);
            object.number("position", self.event.position().0);
            object.text("type", self.event.event_type());
            object.number("expected_version", self.expected);
            object.raw("data", &self.data);
            Ok(())
        })
    }
}

impl Conflict<'_> {
    fn json(&self) -> Result<String, Failure> {
        object(|object| {
            match self {
                Conflict::Overwritten { by, fields } => {
                    object.text("kind", "overwritten");
                    object.text("stream", by.stream()?);
                    object.raw("event", &id(by)?);
                    list(object, "fields", fields.iter().map(|field| quoted(field)));
                }
                Conflict::Split { event } => {
                    object.text("kind", "split-batch");
                    object.text("stream", event.stream()?);
                    object.raw("event", &id(event)?);
                }
                Conflict::Created { stream } => {
                    object.text("kind", "created");
                    object.text("stream", stream);
                }
                Conflict::Erased { stream } => {
                    object.text("kind", "erased");
                    object.text("stream", stream);
                }
                Conflict::Compensated { event, by } => {
                    object.text("kind", "already-compensated");
                    object.text("stream", event.stream()?);
                    object.raw("event", &id(by)?);
                }
            }
            Ok(())
        })
    }

    fn words(&self) -> Result<String, Failure> {
        Ok(match self {
            Conflict::Overwritten { by, fields } => {
                let fields: Vec<String> =
                    fields.iter().map(|field| if field.is_empty() { "the state".into() } else { printable(field) }).collect();
                format!("{} was changed since by {}, which stays", fields.join(", "), named(by)?)
            }
            Conflict::Split { event } => format!("{} happened in the same batch, and stays (--batch takes it along)", named(event)?),
            Conflict::Created { stream } => format!("stream {} would not exist; it can only be left empty", printable(stream)),
            Conflict::Erased { stream } => format!("what stream {} would be is not known: a body was erased", printable(stream)),
            Conflict::Compensated { by, .. } => format!("it was taken back already, by {}", named(by)?),
        })
    }
}

/// What has to be appended so that one state becomes the other; `None` if it is that already.
fn difference(now: &Fold, then: &Fold) -> Option<String> {
    if now.state() == then.state() {
        return None;
    }
    if !now.has_fields() {
        return Some(then.state());
    }
    let (now, then) = (now.fields(), then.fields());
    let set: Vec<_> = then.iter().filter(|(name, value)| !name.is_empty() && now.get(*name) != Some(*value)).collect();
    let unset: Vec<String> = now.keys().filter(|name| !then.contains_key(*name)).map(|name| quoted(name)).collect();
    let set: Vec<String> = set.into_iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    let members = [
        (!set.is_empty()).then(|| format!("\"set\":{{{}}}", set.join(","))),
        (!unset.is_empty()).then(|| format!("\"unset\":[{}]", unset.join(","))),
    ];
    Some(format!("{{{}}}", members.into_iter().flatten().collect::<Vec<_>>().join(",")))
}

/// The class as it is written.
fn word(class: Reversibility) -> &'static str {
    match class {
        Reversibility::ReadOnly => "read-only",
        Reversibility::Reversible => "reversible",
        Reversibility::ExternallyReversible => "externally-reversible",
        Reversibility::Irreversible => "irreversible",
    }
}

/// The command. That something cannot be taken back is an answer, too.
pub(crate) fn run(path: &Path, args: &cli::UndoPlan, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let plan = Plan::new(&view, asked(&view, &args.event)?, args.batch)?;
    if out.json {
        let told = plan.json()?;
        writeln!(out, "{told}")?;
    } else {
        plan.tell(out)?;
    }
    out.flush()?;
    Ok(true)
}
