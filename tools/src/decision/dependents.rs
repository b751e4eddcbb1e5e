//! `dependents`: what came of an event.

use std::io::Write;
use std::path::Path;

use chainring::{Relation, Store};

use super::{asked, id, list, object};
use crate::cli::{Dependents, Depends};
use crate::output::{Answer, Out, counted};
use crate::show;

/// The command.
pub(crate) fn run(path: &Path, args: &Dependents, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let event = asked(&view, &args.event)?;
    let relation = match args.relation {
        Depends::OnReads => Relation::CausationAndReads,
        Depends::OnReadsAndChecked => Relation::CausationReadsAndChecked,
    };
    let dependents = view.dependents(event.event_id(), relation)?;
    if out.json {
        let ids = dependents.iter().map(id).collect::<Result<Vec<_>, _>>()?;
        let told = object(|object| {
            object.raw("event", &id(&event)?);
            object.number("count", ids.len() as u64);
            list(object, "ids", ids);
            Ok(())
        })?;
        writeln!(out, "{told}")?;
    } else {
        dependents.iter().try_for_each(|event| show::show(event, true, out))?;
        writeln!(out, "{} on it", counted(dependents.len() as u64, "event depends", "events depend"))?;
    }
    out.flush()?;
    Ok(true)
}
