//! `history` and `diff`: what changed in a stream, event by event or between two points.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use chainring::{EventRef, Store, Version, View};

use crate::cli::{Diff, History, Point};
use crate::fold::Fold;
use crate::form::members::Members;
use crate::output::{Answer, BAD, DIM, Failure, GOOD, Out, STRONG};
use crate::show::printable;
use crate::{state, time};

/// A field before and after; `None` where it is not there. Values are canonical JSON.
pub(crate) struct Change {
    field: String,
    before: Option<String>,
    after: Option<String>,
}

/// What differs between two states, in the order of the fields' names.
pub(crate) fn changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Change> {
    let gone = before.keys().filter(|field| !after.contains_key(*field));
    let mut fields: Vec<&String> = gone.chain(after.keys()).collect();
    fields.sort_unstable();
    let changed = fields.into_iter().filter(|field| before.get(*field) != after.get(*field));
    changed.map(|field| Change { field: field.clone(), before: before.get(field).cloned(), after: after.get(field).cloned() }).collect()
}

/// `history`: the timeline of a stream, with what every event changed.
pub(crate) fn history(path: &Path, args: &History, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = state::view(&store, args.as_of.as_ref())?;
    let Some(stream) = view.stream(&args.stream)? else {
        return Err(Failure::No(format!("there is no stream {:?}", args.stream)));
    };
    let (mut fold, mut before) = (Fold::default(), BTreeMap::new());
    for event in stream.forward(Version(1))? {
        let event = event?;
        state::apply(&mut fold, &event)?;
        let after = fold.fields();
        tell(&event, &changes(&before, &after), out)?;
        before = after;
    }
    out.flush()?;
    Ok(true)
}

fn tell(event: &EventRef<'_>, changes: &[Change], out: &mut Out) -> Result<(), Failure> {
    let metadata = event.metadata()?;
    let recorded = time::render(time::from_nanoseconds(event.recorded_at_ns()));
    if out.json {
        let mut line = Vec::new();
        let mut object = Members::open(&mut line);
        object.number("version", event.version().0);
        object.number("position", event.position().0);
        object.text("type", &metadata.event_type);
        object.text("recorded_at", &recorded);
        let claimed = metadata.occurred_at.map(time::render);
        let told = [
            ("occurred_at", &claimed),
            ("actor", &metadata.actor),
            ("on_behalf_of", &metadata.on_behalf_of),
            ("correlation", &metadata.correlation),
        ];
        for (name, text) in told {
            text.iter().for_each(|text| object.text(name, text));
        }
        object.raw("changes", &listed(changes));
        object.close();
        line.push(b'\n');
        out.write_all(&line)?;
        return Ok(());
    }
    let version = format!("v{}", event.version());
    let at = metadata.occurred_at.map_or(recorded, time::render);
    let mut line =
        format!("{}  {}  {}", out.paint(STRONG, &format!("{version:<5}")), out.paint(DIM, &at), out.paint(STRONG, &metadata.event_type));
    if let Some(actor) = &metadata.actor {
        line += &format!("  by {}", printable(actor));
    }
    if let Some(principal) = &metadata.on_behalf_of {
        line += &format!(" for {}", printable(principal));
    }
    writeln!(out, "{line}")?;
    for authority in &metadata.authority {
        let named = [&authority.policy, &authority.policy_version, &authority.rule, &authority.stream];
        let words: Vec<String> = named.into_iter().flatten().map(|word| printable(word)).collect();
        if !words.is_empty() {
            writeln!(out, "       allowed by {}", words.join(" "))?;
        }
    }
    tell_changes(changes, out)
}

pub(crate) fn tell_changes(changes: &[Change], out: &mut Out) -> Result<(), Failure> {
    let width = changes.iter().map(|change| printable(&change.field).chars().count()).max().unwrap_or(0);
    for Change { field, before, after } in changes {
        let field = printable(field);
        let value = |value: &Option<String>| value.as_deref().map(printable);
        let told = match (value(before), value(after)) {
            (Some(before), Some(after)) => format!("{} -> {}", out.paint(BAD, &before), out.paint(GOOD, &after)),
            (None, Some(after)) => out.paint(GOOD, &after).into_owned(),
            (Some(before), None) => format!("{} -> nothing", out.paint(BAD, &before)),
            (None, None) => continue,
        };
        writeln!(out, "       {field:<width$}  {told}")?;
    }
    Ok(())
}

/// Changes as a JSON array; what is not there is left out.
pub(crate) fn listed(changes: &[Change]) -> String {
    let mut line = vec![b'['];
    for (index, Change { field, before, after }) in changes.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        let mut object = Members::open(&mut line);
        object.text("field", field);
        before.iter().for_each(|value| object.raw("before", value));
        after.iter().for_each(|value| object.raw("after", value));
        object.close();
    }
    line.push(b']');
    String::from_utf8(line).expect("JSON is text")
}

/// `diff`: how a stream differs between two points.
pub(crate) fn diff(path: &Path, args: &Diff, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let at = |point: &Option<Point>| -> Result<Fold, Failure> { folded(&state::view(&store, point.as_ref())?, &args.stream) };
    let (from, to) = (at(&Some(args.from.clone()))?, at(&args.to)?);
    if from.version() == 0 && to.version() == 0 {
        return Err(Failure::No(format!("there is no stream {:?} at either point", args.stream)));
    }
    let changes = changes(&from.fields(), &to.fields());
    if out.json {
        let mut line = Vec::new();
        let mut object = Members::open(&mut line);
        object.text("stream", &args.stream);
        object.number("from_version", from.version());
        object.number("to_version", to.version());
        object.raw("changes", &listed(&changes));
        object.close();
        line.push(b'\n');
        out.write_all(&line)?;
    } else {
        let (versions, fields) = (format!("v{} -> v{}", from.version(), to.version()), changes.len());
        writeln!(out, "{}  {versions}  {fields} {} differ", printable(&args.stream), if fields == 1 { "field" } else { "fields" })?;
        tell_changes(&changes, out)?;
    }
    out.flush()?;
    Ok(true)
}

fn folded(view: &View, name: &str) -> Result<Fold, Failure> {
    let mut fold = Fold::default();
    if let Some(stream) = view.stream(name)? {
        for event in stream.forward(Version(1))? {
            state::apply(&mut fold, &event?)?;
        }
    }
    Ok(fold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rawjson;

    #[test]
    fn what_changed_is_told_field_by_field() {
        let state = |fields: &[(&str, &str)]| fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (before, after) = (state(&[("a", "1"), ("b", "2"), ("d", "4")]), state(&[("a", "1"), ("b", "3"), ("c", "\"x\"")]));
        let found: Vec<_> = changes(&before, &after).into_iter().map(|change| (change.field, change.before, change.after)).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found, [("b".into(), text("2"), text("3")), ("c".into(), None, text("\"x\"")), ("d".into(), text("4"), None)]);
        assert_eq!(
            listed(&changes(&before, &after)),
            r#"[{"field":"b","before":2,"after":3},{"field":"c","after":"x"},{"field":"d","before":4}]"#
        );
        assert!(changes(&before, &before).is_empty());
        let _ = rawjson::valid(&listed(&[])).expect("an empty list is JSON");
    }
}
