//! `dependents`: what came of an event.

use std::path::Path;

use chainring::{Relation, Store};

use super::{asked, id, tell_all};
use crate::cli::{Dependents, Depends};
use crate::output::{Answer, Out};

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
    tell_all(&dependents, ("event", &id(&event)?), ("event depends on it", "events depend on it"), out)
}
