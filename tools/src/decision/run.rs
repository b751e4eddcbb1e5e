//! `run`: what was done in a run, with what it shares with those it came from.

use std::io::Write;
use std::path::Path;

use chainring::{By, EventRef, Position, Store};

use super::{count_and_ids, id, list, object, quoted};
use crate::cli::Run;
use crate::output::{Answer, DIM, Failure, Out, counted};
use crate::show;

/// The command.
pub(crate) fn run(path: &Path, args: &Run, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let found = view.run(&args.name)?;
    if found.epoch == 0 && view.events_by(By::Correlation(&args.name), Position(0)).next().is_none() {
        return Err(Failure::No(format!("there is no run {}", args.name)));
    }
    let branches = view.branches_of(&args.name)?;
    let left = found.branched.as_ref();
    let at = match left {
        Some(left) => Some((view.event(left.position)?, left)),
        None => None,
    };
    // The engine's own records of it are no part of what was done.
    let mut events: Vec<EventRef<'_>> = Vec::new();
    for event in found.events(&view) {
        let event = event?;
        if !event.stream()?.starts_with("$runs/") {
            events.push(event);
        }
    }
    if out.json {
        let branched = match &at {
            None => "null".to_owned(),
            Some((event, left)) => object(|object| {
                object.text("parent", &left.parent);
                object.number("epoch", left.epoch);
                object.raw("at", &id(event)?);
                object.number("position", left.position.0);
                Ok(())
            })?,
        };
        let told = object(|object| {
            object.text("run", &found.name);
            object.number("epoch", found.epoch);
            object.raw("branched", &branched);
            list(object, "branches", branches.iter().map(|branch| quoted(branch)));
            count_and_ids(&events, object)
        })?;
        writeln!(out, "{told}")?;
    } else {
        for event in &events {
            show::show(event, true, out)?;
        }
        let mut told = format!("{}, epoch {}", counted(events.len() as u64, "event", "events"), found.epoch);
        if let Some((event, left)) = &at {
            told += &format!("; left {} behind position {}, {}", left.parent, left.position, event.event_type());
        }
        if !branches.is_empty() {
            told += &format!("; left by {}", branches.join(", "));
        }
        writeln!(out, "{}", out.paint(DIM, &show::printable(&told)))?;
    }
    out.flush()?;
    Ok(true)
}
