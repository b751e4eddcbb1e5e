//! `anchor`: what others say about a checkpoint, asked for and bound; and checking all of it again.

use std::io::Write;
use std::path::Path;

use chainring::{Anchor as Bound, AnchorForm as Form, Store};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ots::{self, Attestation};
use super::{cannot, key_of, open, tsp};
use crate::cli::{Anchor, AnchorForm};
use crate::form::members::hex;
use crate::output::{Answer, BAD, Failure, GOOD, Out};
use crate::time;

fn form_of(form: AnchorForm) -> Form {
    match form {
        AnchorForm::Rfc3161 => Form::Rfc3161,
        AnchorForm::Ots => Form::OpenTimestamps,
        AnchorForm::Note => Form::Note,
        AnchorForm::File => Form::Other,
    }
}

/// What an artefact says about a note with this hash, as far as that can be told here; `Err` if it is about something else.
fn judge(form: Form, artefact: &[u8], note: &str) -> Result<String, String> {
    let digest: [u8; 32] = Sha256::digest(note).into();
    match form {
        Form::Rfc3161 => {
            let stamp = tsp::stamp(artefact).ok_or("not a time stamp that was granted")?;
            let right = stamp.imprint == digest;
            right.then(|| format!("stamped at {}", time::render(stamp.time))).ok_or("the stamp is over something else".into())
        }
        Form::OpenTimestamps => {
            let proof = ots::parse(artefact).ok_or("not an OpenTimestamps proof")?;
            if proof.digest != digest {
                return Err("the proof is of something else".into());
            }
            let told = proof.attestations.iter().map(|attestation| match attestation {
                Attestation::Pending(uri) => format!("pending at {uri}"),
                Attestation::Bitcoin(height) => format!("in Bitcoin block {height}"),
                Attestation::Other => "attested otherwise".to_owned(),
            });
            Ok(told.collect::<Vec<_>>().join(", "))
        }
        Form::Note => {
            // Other signatures under the same text.
            let text = |note: &str| note.rfind("\n\n").map(|at| note[..=at].to_owned());
            let found = std::str::from_utf8(artefact).ok().and_then(text);
            let right = found.is_some() && found == text(note);
            right.then(|| "signed by others".to_owned()).ok_or("the note is another one".into())
        }
        Form::Other => Ok("a file".to_owned()),
    }
}

/// The command.
pub(crate) fn run(path: &Path, args: &Anchor, out: &mut Out) -> Answer {
    let note_path = args.checkpoint.clone().unwrap_or_else(|| path.join("checkpoint.note"));
    let note = std::fs::read_to_string(&note_path).map_err(cannot(&note_path))?;
    let form = form_of(args.form);
    if let Some(file) = &args.request {
        let digest: [u8; 32] = Sha256::digest(&note).into();
        let bytes = match form {
            Form::Rfc3161 => {
                // A nonce ties the reply to the query; time and place are new each time.
                let fresh = format!("{digest:?} {:?} {}", std::time::SystemTime::now(), std::process::id());
                let fresh: [u8; 32] = Sha256::digest(fresh).into();
                tsp::query(&digest, u64::from_be_bytes(*fresh.first_chunk().expect("8 of 32 bytes")))
            }
            _ => note.clone().into_bytes(),
        };
        std::fs::write(file, bytes).map_err(cannot(file))?;
        if out.json {
            writeln!(out, "{}", json!({ "ok": true, "note_sha256": hex(&digest) }))?;
        } else {
            writeln!(out, "wrote {}", file.display())?;
        }
        out.flush()?;
        return Ok(true);
    }
    let (Some(file), Some(key)) = (&args.reply, &args.key) else { return Err(Failure::Usage("--reply needs --key".into())) };
    let artefact = std::fs::read(file).map_err(cannot(file))?;
    let says = judge(form, &artefact, &note).map_err(|why| Failure::No(format!("{}: {why}", file.display())))?;
    let log = open(path)?;
    let sealer = log.sealer(key_of(&log, key)?)?;
    // Only what this log has published is witnessed.
    let known = log.evidence()?.checkpoints.iter().any(|checkpoint| checkpoint.note == note);
    if !known {
        return Err(Failure::No(format!("{} is not a checkpoint of this log", note_path.display())));
    }
    let receipt = sealer.anchor(form, &note, &artefact)?;
    let checkpoint = sealer.seal()?;
    drop(sealer);
    log.close()?;
    if out.json {
        writeln!(out, "{}", json!({ "ok": true, "position": receipt.position.0, "says": says, "size": checkpoint.head.size }))?;
    } else {
        writeln!(out, "bound at position {}: {says}", receipt.position)?;
    }
    out.flush()?;
    Ok(true)
}

/// Checks every anchor under the last checkpoint again. `None` if there is no checkpoint.
pub(crate) fn check_all(path: &Path, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let evidence = store.evidence()?;
    let name_of = |form: Form| match form {
        Form::Rfc3161 => "rfc3161",
        Form::OpenTimestamps => "ots",
        Form::Note => "note",
        Form::Other => "file",
    };
    let verdict = |anchor: &Bound| {
        let of = evidence.checkpoints.iter().find(|checkpoint| checkpoint.head.size == anchor.size);
        let note = &of.ok_or("it is about no checkpoint of this log")?.note;
        if <[u8; 32]>::from(Sha256::digest(note)) != anchor.note_sha256 {
            return Err("it is about another note than the checkpoint of its size".to_owned());
        }
        judge(anchor.form, &anchor.artefact, note)
    };
    let mut is_right = true;
    for anchor in &evidence.anchors {
        let verdict = verdict(anchor);
        is_right &= verdict.is_ok();
        let bound = time::render(time::from_nanoseconds(anchor.recorded_at_ns));
        if out.json {
            let (ok, says) = (verdict.is_ok(), Value::from(verdict.unwrap_or_else(|why| why)));
            let object = json!({
                "anchor": name_of(anchor.form), "ok": ok, "size": anchor.size, "position": anchor.position.0, "bound_at": bound, "says": says,
            });
            writeln!(out, "{object}")?;
        } else {
            let (style, says) = match &verdict {
                Ok(says) => (GOOD, says),
                Err(why) => (BAD, why),
            };
            let form = out.paint(style, name_of(anchor.form)).into_owned();
            writeln!(out, "{form}: over the first {} records, {says}, bound at {bound}", anchor.size)?;
        }
    }
    out.flush()?;
    Ok(is_right)
}
