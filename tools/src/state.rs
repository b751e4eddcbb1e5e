//! `state`: what a stream, or every stream, is as of a point.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Write;
use std::path::Path;

use chainring::{EventRef, ReadError, Snapshots, Store, StreamId, View};
use sha2::{Digest, Sha256};

use crate::cli::{Format, Point, State};
use crate::fold::{Fields, Fold};
use crate::output::{Answer, Failure, Out, progress};
use crate::rawjson;

/// The command.
pub(crate) fn run(path: &Path, args: &State, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = view(&store, args.as_of.as_ref())?;
    let known = match &args.stream {
        Some(stream) => {
            let snapshots = args.snapshots.as_ref().map_or_else(|| Ok(Snapshots::none()), Snapshots::open)?;
            one(&view, stream, &snapshots, args.format, out)?
        }
        None => {
            all(&store, &view, args.format, out)?;
            true
        }
    };
    out.flush()?;
    Ok(known)
}

/// The log as of a point; as it is now where none is given.
pub(crate) fn view(store: &Store, point: Option<&Point>) -> Result<View, Failure> {
    let Some(point) = point else { return Ok(store.latest()) };
    store.at(point.as_of).map_err(|error| match error {
        ReadError::NotFound { .. } => Failure::No(format!("there is no {}", point.text)),
        other => other.into(),
    })
}

fn one(view: &View, name: &str, snapshots: &Snapshots, format: Format, out: &mut Out) -> Answer {
    let folded = view.state(name, &Fields, snapshots).map_err(unknown)?;
    let is_known = folded.is_some();
    print(name, &folded.map(|folded| folded.state).unwrap_or_default(), format, out)?;
    Ok(is_known)
}

/// One pass over the log: inside a stream, the order of positions is the order of versions.
fn all(store: &Store, view: &View, format: Format, out: &mut Out) -> Result<(), Failure> {
    let bar = progress("fold", store.stats().events, false);
    let mut folds: HashMap<StreamId, (&str, Fold)> = HashMap::new();
    for (count, event) in view.events().enumerate() {
        let event = event?;
        if count % 4096 == 0 {
            bar.set_position(count as u64);
        }
        let (_, fold) = match folds.entry(event.stream_id()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => free.insert((event.stream()?, Fold::default())),
        };
        apply(fold, &event)?;
    }
    bar.finish_and_clear();
    let mut folds: Vec<_> = folds.into_values().collect();
    folds.sort_unstable_by_key(|(name, _)| *name);
    for (name, fold) in folds {
        print(name, &fold, format, out)?;
    }
    Ok(())
}

/// Applies the next event of a stream.
pub(crate) fn apply(fold: &mut Fold, event: &EventRef<'_>) -> Result<(), Failure> {
    chainring::Fold::apply(&Fields, fold, event).map_err(unknown)
}

/// Why a state is not known: what is missing says so in its own words.
fn unknown(error: ReadError) -> Failure {
    match error {
        ReadError::NotFound { what } => Failure::No(what),
        other => other.into(),
    }
}

fn print(name: &str, fold: &Fold, format: Format, out: &mut Out) -> Result<(), Failure> {
    let (version, state) = (fold.version(), fold.state());
    match format {
        Format::Json => {
            let mut quoted = Vec::new();
            rawjson::push_string(&mut quoted, name);
            out.write_all(b"{\"stream\":")?;
            out.write_all(&quoted)?;
            writeln!(out, ",\"version\":{version},\"state\":{state}}}")?;
        }
        Format::Tsv => {
            write!(out, "{name}\t{version}\t")?;
            for byte in Sha256::digest(state.as_bytes()) {
                write!(out, "{byte:02x}")?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}
