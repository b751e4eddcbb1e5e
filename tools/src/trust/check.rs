//! `check`: checks a proof by the independent checker; no log is needed, none is asked.

use std::io::Write;
use std::path::Path;

use chainring::EventId;
use chainring_reader::{Checkpoint, Claim, Policy, Proved, Refused, Trust, VerifierKey, check};
use serde_json::json;

use super::cannot;
use crate::cli::Check;
use crate::form::members::hex;
use crate::output::{Answer, BAD, Failure, GOOD, Out, counted};
use crate::show::printable;
use crate::time;

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(cannot(path))
}

/// A checkpoint that its holder trusts for having it.
pub(crate) fn saved(path: &Path) -> Result<Checkpoint, Failure> {
    Checkpoint::parse(&read(path)?).map_err(not_valid(path))
}

fn not_valid(path: &Path) -> impl Fn(String) -> Failure {
    move |why| Failure::Cannot(format!("{}: {why}", path.display()))
}

/// The command.
pub(crate) fn run(args: &Check, out: &mut Out) -> Answer {
    let mut trust = Trust::default();
    if let Some(key) = &args.key {
        // A key has + in it, and hardly a file of that name beside it.
        let text = if key.contains('+') { key.clone() } else { read(Path::new(key))? };
        trust.policy = Some(Policy::of_key(VerifierKey::parse(text.trim()).map_err(Failure::Usage)?));
    }
    if let Some(path) = &args.policy {
        trust.policy = Some(Policy::parse(&read(path)?).map_err(not_valid(path))?);
    }
    if let Some(path) = &args.saved_checkpoint {
        trust.saved = Some(saved(path)?);
    }
    let bytes = std::fs::read(&args.file).map_err(cannot(&args.file))?;
    let checked = match String::from_utf8(bytes) {
        Ok(text) => check(&text, &trust),
        Err(_) => Err(Refused { step: 1, why: "not text".to_owned() }),
    };
    let is_right = checked.is_ok();
    match checked {
        Ok(proved) => tell(&proved, out)?,
        Err(refused) if out.json => writeln!(out, "{}", json!({ "ok": false, "step": refused.step, "why": refused.why }))?,
        Err(refused) => {
            let bad = out.paint(BAD, "refused").into_owned();
            writeln!(out, "{bad}: {} (step {} of TRUST.md)", refused.why, refused.step)?;
        }
    }
    out.flush()?;
    Ok(is_right)
}

fn tell(proved: &Proved, out: &mut Out) -> Result<(), Failure> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| hex(bytes));
    if out.json {
        let events = proved.events.iter().map(|event| {
            json!({
                "version": event.version,
                "event_id": EventId(event.event_id).to_string(),
                "recorded_at": time::render(time::from_nanoseconds(event.recorded_at_ns)),
                "metadata": hex(&event.metadata),
                "body": event.body.as_deref().map(text),
                "link": hex(&event.link),
            })
        });
        let object = json!({
            "ok": true,
            "claim": proved.claim.name(),
            "log_id": (proved.claim != Claim::Record).then(|| hex(&proved.log_id)),
            "origin": proved.origin,
            "size": proved.checkpoint.size,
            "root": hex(&proved.checkpoint.root),
            "signed": proved.key.is_some(),
            "stream": proved.stream,
            "position": proved.position,
            "events": events.collect::<Vec<_>>(),
            "complete_to": proved.complete_to,
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    let good = out.paint(GOOD, "holds").into_owned();
    let events = counted(proved.events.len() as u64, "event", "events");
    let stream = printable(proved.stream.as_deref().unwrap_or_default());
    match proved.claim {
        Claim::Record => writeln!(out, "{good}: the record is in the log")?,
        Claim::Event => writeln!(out, "{good}: the event is in the log")?,
        Claim::Stream => writeln!(out, "{good}: {stream} has {events}, and no others")?,
        Claim::Absent => writeln!(out, "{good}: there is no stream {stream}")?,
    }
    let mut rows = vec![("log", printable(&proved.checkpoint.name)), ("checkpoint", format!("{} records", proved.checkpoint.size))];
    rows.push(("vouched for by", if proved.key.is_some() { "the key" } else { "the saved checkpoint" }.to_owned()));
    rows.extend(proved.position.map(|position| ("position", position.to_string())));
    rows.extend(proved.complete_to.map(|size| ("complete up to", format!("the first {size} records"))));
    for event in &proved.events {
        let body = event.body.as_deref().map_or_else(|| "(withheld or erased)".to_owned(), |body| printable(&text(body)));
        rows.push(("event", format!("{} version {}: {body}", EventId(event.event_id), event.version)));
    }
    out.table(&rows)?;
    Ok(())
}
