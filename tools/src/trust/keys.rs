//! `keys`: the key that signs checkpoints.

use std::io::Write;
use std::path::Path;

use chainring::{KeyFile, Store, note_name};
use serde_json::json;

use super::{cannot, key_of, load_key, open};
use crate::cli::{Keys, KeysAction};
use crate::output::{Answer, Out};

fn tell(key: &KeyFile, out: &mut Out) -> Answer {
    if out.json {
        writeln!(out, "{}", json!({ "name": key.name(), "verifier_key": key.verifier_key() }))?;
    } else {
        writeln!(out, "{}", key.verifier_key())?;
    }
    out.flush()?;
    Ok(true)
}

fn generate(path: &Path, name: &str, out: &mut Out) -> Answer {
    tell(&KeyFile::generate(path, name).map_err(cannot(path))?, out)
}

/// What needs no log.
pub(crate) fn without_log(action: &KeysAction, out: &mut Out) -> Answer {
    match action {
        KeysAction::Generate { out: path, name } => generate(path, name.as_deref().unwrap_or_default(), out),
        KeysAction::Show { key } | KeysAction::Rotate { key, .. } => tell(&*load_key(key)?, out),
    }
}

/// The command, where it is about a log.
pub(crate) fn run(path: &Path, args: &Keys, out: &mut Out) -> Answer {
    let (key, to) = match &args.action {
        KeysAction::Rotate { key, to } => (key, to),
        KeysAction::Generate { out: file, name: None } => {
            let store = Store::open(path)?;
            return generate(file, &note_name(store.origin(), &store.log_id()), out);
        }
        other => return without_log(other, out),
    };
    let log = open(path)?;
    let (old, new) = (key_of(&log, key)?, key_of(&log, to)?);
    let sealer = log.sealer(old)?;
    let receipt = sealer.rotate(new.clone())?;
    sealer.seal()?;
    drop(sealer);
    log.close()?;
    if out.json {
        writeln!(out, "{}", json!({ "ok": true, "position": receipt.position.0, "verifier_key": new.verifier_key() }))?;
    } else {
        writeln!(out, "from position {} on, checkpoints are signed by {}", receipt.position, new.verifier_key())?;
    }
    out.flush()?;
    Ok(true)
}
