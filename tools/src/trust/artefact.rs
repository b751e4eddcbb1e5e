//! What comes back from outside about a checkpoint, and what it says, as far as that can be told here.

use chainring::{AnchorForm as Form, Checkpoint};
use sha2::{Digest, Sha256};

use super::ots;
use super::tsp;
use crate::time;

pub(super) fn name_of(form: Form) -> &'static str {
    match form {
        Form::Rfc3161 => "rfc3161",
        Form::OpenTimestamps => "ots",
        Form::Note => "note",
        Form::Other => "file",
    }
}

/// What is stamped.
pub(super) fn digest_of(note: &str) -> [u8; 32] {
    Sha256::digest(note).into()
}

/// A query for a time stamping authority. A nonce ties the reply to it; time and place are new each time.
pub(super) fn query(note: &str) -> Vec<u8> {
    let digest = digest_of(note);
    let fresh: [u8; 32] = Sha256::digest(format!("{digest:?} {:?} {}", std::time::SystemTime::now(), std::process::id())).into();
    tsp::query(&digest, u64::from_be_bytes(*fresh.first_chunk().expect("8 of 32 bytes")))
}

/// What an artefact says about a note, or why it is not about it.
pub(super) fn judge(form: Form, artefact: &[u8], note: &str) -> Result<String, String> {
    let digest = digest_of(note);
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
            Ok(proof.attestations.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
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

/// The newest of these checkpoints that an artefact is about, and what it says. What a calendar answered, not being a proof yet, becomes one.
pub(super) fn fit<'c>(form: Form, artefact: &mut Vec<u8>, checkpoints: &'c [Checkpoint]) -> Result<(&'c Checkpoint, String), String> {
    let mut why = "there is no checkpoint it could be about".to_owned();
    for checkpoint in checkpoints.iter().rev() {
        match judge(form, artefact, &checkpoint.note) {
            Ok(says) => return Ok((checkpoint, says)),
            // Of the last one it is told.
            Err(of_it) if checkpoints.last() == Some(checkpoint) => why = of_it,
            Err(_) => {}
        }
    }
    // An answer does not say what it answers: only that it was asked for the last one can be supposed.
    let proof = |of: &Checkpoint| Some(ots::proof(&digest_of(&of.note), artefact)).filter(|proof| ots::parse(proof).is_some());
    if let (Form::OpenTimestamps, Some(last)) = (form, checkpoints.last())
        && !ots::is_proof(artefact)
        && let Some(proof) = proof(last)
    {
        let says = judge(form, &proof, &last.note)?;
        *artefact = proof;
        return Ok((last, says));
    }
    Err(why)
}
