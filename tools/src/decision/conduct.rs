//! `attempts`, `open-intents` and `scope`: what actors tried, left open, and could have done.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use chainring::{AsOf, By, Grant, Position, Store, Value, Version, View};

use super::{list, object, quoted};
use crate::cli::{Attempts, Scope};
use crate::export;
use crate::form::members::hex;
use crate::output::{Answer, BAD, DIM, Failure, Out, STRONG, counted};
use crate::show::{self, printable};
use crate::time;

/// `attempts`: the refusals of an actor. Their numbers have no gaps.
pub(crate) fn attempts(path: &Path, args: &Attempts, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let Some(stream) = view.stream(&format!("$attempts/{}", args.actor))? else {
        if !out.json {
            writeln!(out, "nothing was refused")?;
        }
        out.flush()?;
        return Ok(true);
    };
    for event in stream.forward(Version(1))? {
        let event = event?;
        let metadata = event.metadata()?;
        let (mut reasons, mut digest) = (Vec::new(), String::new());
        for (_, value) in metadata.attributes.iter().filter(|(name, _)| name == "refused") {
            let Value::Map(entries) = value else { continue };
            for entry in entries {
                match entry {
                    (Value::Text(name), Value::Array(texts)) if name == "reasons" => {
                        reasons
                            .extend(texts.iter().filter_map(|text| if let Value::Text(text) = text { Some(text.clone()) } else { None }));
                    }
                    (Value::Text(name), Value::Bytes(bytes)) if name == "digest" => {
                        digest = hex(bytes);
                    }
                    _ => {}
                }
            }
        }
        let recorded = time::render(time::from_nanoseconds(event.recorded_at_ns()));
        if out.json {
            let line = object(|object| {
                object.number("attempt", event.version().0);
                object.number("position", event.position().0);
                object.text("recorded_at", &recorded);
                object.texts("correlation", metadata.correlation.as_deref());
                object.text("digest", &digest);
                list(object, "reasons", reasons.iter().map(|reason| quoted(reason)));
                Ok(())
            })?;
            writeln!(out, "{line}")?;
        } else {
            let number = out.paint(STRONG, &format!("{:>5}", event.version())).into_owned();
            writeln!(out, "{number}  {}  {}", out.paint(DIM, &recorded), printable(&reasons.join("; ")))?;
        }
    }
    out.flush()?;
    Ok(true)
}

/// `open-intents`: what was about to be tried. Whoever finishes one appends an outcome that it caused; whoever gives it up as well.
pub(crate) fn open_intents(path: &Path, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let open = view.open_intents()?;
    for event in &open {
        if out.json {
            let line = object(|object| {
                object.number("position", event.position().0);
                Ok(export::put(event, object)?)
            })?;
            writeln!(out, "{line}")?;
        } else {
            show::show(event, true, out)?;
        }
    }
    if !out.json {
        writeln!(out, "{} open", counted(open.len() as u64, "intent is", "intents are"))?;
    }
    out.flush()?;
    Ok(true)
}

/// A grant while it was in force.
struct Held {
    name: String,
    version: Version,
    grant: Grant,
    from_ns: u64,
    to_ns: Option<u64>,
}

/// `scope`: grants that an actor could have used, and what it did.
pub(crate) fn scope(path: &Path, args: &Scope, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let (from, to) = match args.between[..] {
        [from, to] => (time::to_nanoseconds(from), time::to_nanoseconds(to)),
        _ => (0, u64::MAX),
    };
    let held = held(&view, &args.actor, from, to)?;
    let mut did: BTreeMap<String, u64> = BTreeMap::new();
    let start = if from == 0 { Position(0) } else { store.at(AsOf::RecordedAt(from - 1))?.end() };
    for event in view.events_by(By::Actor(&args.actor), start) {
        let event = event?;
        if event.recorded_at_ns() > to {
            break;
        }
        // What the engine keeps of it is not what it did.
        if !event.stream()?.starts_with('$') {
            *did.entry(event.event_type().to_owned()).or_default() += 1;
        }
    }
    let could: BTreeSet<&String> = held.iter().flat_map(|held| &held.grant.types).collect();
    let unused: Vec<&String> = could.into_iter().filter(|name| !did.contains_key(*name)).collect();
    let any_type = held.iter().any(|held| held.grant.types.is_empty());
    if out.json {
        let told = object(|all| {
            all.text("actor", &args.actor);
            list(all, "could", held.iter().map(Held::json).collect::<Result<Vec<_>, _>>()?);
            let rows = did.iter().map(|(name, count)| format!("{{\"type\":{},\"count\":{count}}}", quoted(name)));
            list(all, "did", rows);
            list(all, "unused_types", unused.iter().map(|name| quoted(name)));
            all.raw("any_type", if any_type { "true" } else { "false" });
            Ok(())
        })?;
        writeln!(out, "{told}")?;
    } else {
        for held in &held {
            let limits = [(&held.grant.streams, "streams"), (&held.grant.types, "types")];
            let limits: Vec<String> =
                limits.map(|(list, what)| if list.is_empty() { format!("any {what}") } else { list.join(", ") }).into();
            writeln!(out, "could  {} v{}: {}", printable(&held.name), held.version, printable(&limits.join("; ")))?;
        }
        for (name, count) in &did {
            writeln!(out, "did    {} {}", printable(name), out.paint(DIM, &counted(*count, "time", "times")))?;
        }
        for name in unused {
            writeln!(out, "{}  {}", out.paint(BAD, "unused"), printable(name))?;
        }
    }
    out.flush()?;
    Ok(true)
}

/// Grants that an actor held at some time between two instants.
fn held(view: &View, actor: &str, from: u64, to: u64) -> Result<Vec<Held>, Failure> {
    let mut all = Vec::new();
    for (stream, _) in view.streams()? {
        let Some(name) = stream.strip_prefix("$authority/").filter(|name| !name.ends_with("/use")) else { continue };
        let Some(stream) = view.stream(stream)? else { continue };
        let events = stream.forward(Version(1))?.collect::<Result<Vec<_>, _>>()?;
        for (place, event) in events.iter().enumerate() {
            let Some((grant, version)) = view.up_to(Position(event.position().0 + 1)).grant(name)? else { continue };
            let from_ns = event.recorded_at_ns().max(grant.valid_from_ns.unwrap_or(0));
            let ended = events.get(place + 1).map(chainring::EventRef::recorded_at_ns);
            let to_ns = [ended, grant.valid_to_ns].into_iter().flatten().min();
            let is_for = grant.actors.is_empty() || grant.actors.iter().any(|one| one == actor);
            if is_for && from_ns <= to && to_ns.is_none_or(|to_ns| to_ns > from) {
                all.push(Held { name: name.to_owned(), version, grant, from_ns, to_ns });
            }
        }
    }
    Ok(all)
}

impl Held {
    fn json(&self) -> Result<String, Failure> {
        object(|object| {
            object.text("grant", &self.name);
            object.number("version", self.version.0);
            list(object, "streams", self.grant.streams.iter().map(|prefix| quoted(prefix)));
            list(object, "types", self.grant.types.iter().map(|name| quoted(name)));
            object.text("from", &time::render(time::from_nanoseconds(self.from_ns)));
            if let Some(to_ns) = self.to_ns {
                object.text("to", &time::render(time::from_nanoseconds(to_ns)));
            }
            self.grant.count_max.into_iter().for_each(|most| object.number("count_max", most));
            self.grant.amount_max.into_iter().for_each(|most| object.number("amount_max", most));
            Ok(())
        })
    }
}
