//! `export`: the log back in the import form, one line an event, in the order of positions.

use std::io::Write;
use std::path::Path;

use chainring::{EventRef, Position, ReadError, Store, Version};

use crate::cli::Export;
use crate::form::export::{Told, members};
use crate::form::members::Members;
use crate::output::{Answer, Failure, Out, progress};
use crate::trust::cose;

/// Appends one event's fields to an object.
pub(crate) fn put(event: &EventRef<'_>, to: &mut Members<'_>) -> Result<(), ReadError> {
    let metadata = event.metadata()?;
    let told = Told {
        stream: event.stream()?,
        version: event.version().0,
        id: event.event_id(),
        batch: event.batch_id()?,
        metadata: &metadata,
        body: event.body(),
    };
    members(&told, to);
    Ok(())
}

/// The command.
pub(crate) fn run(path: &Path, args: &Export, out: &mut Out) -> Answer {
    if let (Some(event), Some(key), Some(to)) = (&args.cose, &args.key, &args.out) {
        return cose::export(path, event, key, to, out);
    }
    let store = Store::open(path)?;
    let view = store.latest();
    let range = Position(args.from)..=Position(args.to);
    let Some(name) = &args.stream else {
        let bar = progress("export", store.stats().events, false);
        write_all(view.events_in(range), out, |count| bar.set_position(count))?;
        bar.finish_and_clear();
        return Ok(true);
    };
    let Some(stream) = view.stream(name)? else {
        return Err(Failure::No(format!("there is no stream {name:?}")));
    };
    let inside = stream.forward(Version(1))?.filter(|event| event.as_ref().map_or(true, |event| range.contains(&event.position())));
    write_all(inside, out, |_| {})?;
    Ok(true)
}

fn write_all<'e>(
    events: impl Iterator<Item = Result<EventRef<'e>, ReadError>>,
    out: &mut Out,
    progress: impl Fn(u64),
) -> Result<(), Failure> {
    let mut line = Vec::new();
    for (count, event) in events.enumerate() {
        if count % 4096 == 0 {
            progress(count as u64);
        }
        line.clear();
        let mut object = Members::open(&mut line);
        put(&event?, &mut object)?;
        object.close();
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()?;
    Ok(())
}
