//! `anchor`: what others say about a checkpoint, asked for and bound.

use std::io::Write;
use std::path::Path;

use chainring::{AnchorForm as Form, Checkpoint, Store};
use serde_json::json;

use super::artefact::{digest_of, fit, query};
use super::{cannot, key_of, open};
use crate::cli::{Anchor, AnchorForm};
use crate::form::members::hex;
use crate::output::{Answer, Failure, Out};

fn form_of(form: AnchorForm) -> Form {
    match form {
        AnchorForm::Rfc3161 => Form::Rfc3161,
        AnchorForm::Ots => Form::OpenTimestamps,
        AnchorForm::Note => Form::Note,
        AnchorForm::File => Form::Other,
    }
}

/// The command.
pub(crate) fn run(path: &Path, args: &Anchor, out: &mut Out) -> Answer {
    if let Some(file) = &args.artefact {
        return fetch(path, args, file, out);
    }
    if let Some(file) = &args.request {
        return request(path, args, file, out);
    }
    let Some(key) = &args.key else { return Err(Failure::Usage("binding a reply needs --key".into())) };
    let (mut artefact, from) = answer(path, args)?;
    let log = open(path)?;
    let sealer = log.sealer(key_of(&log, key)?)?;
    // Only what this log has published is witnessed.
    let mut checkpoints = log.evidence()?.checkpoints;
    if let Some(file) = &args.checkpoint {
        let note = std::fs::read_to_string(file).map_err(cannot(file))?;
        checkpoints.retain(|checkpoint| checkpoint.note == note);
        if checkpoints.is_empty() {
            return Err(Failure::No(format!("{} is not a checkpoint of this log", file.display())));
        }
    }
    let form = form_of(args.form);
    let (Checkpoint { note, head, .. }, says) =
        fit(form, &mut artefact, &checkpoints).map_err(|why| Failure::No(format!("{from}: {why}")))?;
    let receipt = sealer.anchor(form, note, &artefact)?;
    let covering = sealer.seal()?;
    drop(sealer);
    log.close()?;
    if out.json {
        let object = json!({
            "ok": true, "position": receipt.position.0, "says": says, "checkpoint": head.size, "size": covering.head.size,
        });
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "bound at position {}: {says}, over the first {} records", receipt.position, head.size)?;
    }
    out.flush()?;
    Ok(true)
}

/// The last checkpoint, or the one that is named.
fn note_of(path: &Path, args: &Anchor) -> Result<String, Failure> {
    let file = args.checkpoint.clone().unwrap_or_else(|| path.join("checkpoint.note"));
    std::fs::read_to_string(&file).map_err(cannot(&file))
}

/// Writes what is to be sent.
fn request(path: &Path, args: &Anchor, file: &Path, out: &mut Out) -> Answer {
    let note = note_of(path, args)?;
    let bytes = match form_of(args.form) {
        Form::Rfc3161 => query(&note),
        _ if args.digest => digest_of(&note).to_vec(),
        _ => note.clone().into_bytes(),
    };
    std::fs::write(file, bytes).map_err(cannot(file))?;
    if out.json {
        writeln!(out, "{}", json!({ "ok": true, "note_sha256": hex(&digest_of(&note)) }))?;
    } else {
        writeln!(out, "wrote {}", file.display())?;
    }
    out.flush()?;
    Ok(true)
}

/// What came back, and from where.
fn answer(path: &Path, args: &Anchor) -> Result<(Vec<u8>, String), Failure> {
    #[cfg(feature = "http")]
    if let Some(url) = &args.url {
        let note = note_of(path, args)?;
        let reply = match form_of(args.form) {
            Form::Rfc3161 => super::http::post(url, "application/timestamp-query", &query(&note))?,
            Form::OpenTimestamps => {
                super::http::post(&format!("{}/digest", url.trim_end_matches('/')), "application/octet-stream", &digest_of(&note))?
            }
            _ => return Err(Failure::Usage("--url asks time stamping authorities (rfc3161) and calendars (ots)".into())),
        };
        return Ok((reply, url.clone()));
    }
    #[cfg(not(feature = "http"))]
    let _ = path;
    let file = args.reply.as_ref().expect("one of the group is there");
    Ok((std::fs::read(file).map_err(cannot(file))?, file.display().to_string()))
}

/// Writes what was bound last.
fn fetch(path: &Path, args: &Anchor, file: &Path, out: &mut Out) -> Answer {
    let form = form_of(args.form);
    let evidence = Store::open(path)?.evidence()?;
    let anchor = evidence.anchors.iter().rev().find(|anchor| anchor.form == form);
    let anchor = anchor.ok_or_else(|| Failure::No("nothing of this form was bound".into()))?;
    std::fs::write(file, &anchor.artefact).map_err(cannot(file))?;
    if out.json {
        writeln!(out, "{}", json!({ "ok": true, "position": anchor.position.0, "checkpoint": anchor.size }))?;
    } else {
        writeln!(out, "wrote {}, about the checkpoint over the first {} records", file.display(), anchor.size)?;
    }
    out.flush()?;
    Ok(true)
}
