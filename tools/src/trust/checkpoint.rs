//! `checkpoint`: seals everything so far and signs.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::{cannot, key_of, open};
use crate::cli::Checkpoint;
use crate::output::{Answer, Out};

/// The command. Prints the note as it is, so that it can be kept or sent as it is.
pub(crate) fn run(path: &Path, args: &Checkpoint, out: &mut Out) -> Answer {
    let log = open(path)?;
    let key = key_of(&log, &args.key)?;
    let started = Instant::now();
    let sealer = log.sealer(key)?;
    let checkpoint = sealer.seal()?;
    let seconds = started.elapsed().as_secs_f64();
    let verifier_key = sealer.verifier_key();
    drop(sealer);
    log.close()?;
    if let Some(file) = &args.out {
        std::fs::write(file, &checkpoint.note).map_err(cannot(file))?;
    }
    if out.json {
        let object = json!({
            "ok": true,
            "size": checkpoint.head.size,
            "root": checkpoint.head.root.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "position": checkpoint.head.size - 1,
            "sealed_at_ns": checkpoint.time_ns,
            "note": checkpoint.note,
            "verifier_key": verifier_key,
            "seconds": seconds,
        });
        writeln!(out, "{object}")?;
    } else {
        write!(out, "{}", checkpoint.note)?;
    }
    out.flush()?;
    Ok(true)
}
