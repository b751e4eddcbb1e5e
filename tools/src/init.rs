//! `init`: a new, empty log.

use std::io::Write;
use std::path::Path;

use chainring::{OpenError, Options, Signer, Store};
use serde_json::json;

use crate::cli::Init;
use crate::output::{Answer, Failure, GOOD, Out};
use crate::trust;
use chainring_format::limits::ORIGIN_BYTES_MAX;

/// The command.
pub(crate) fn run(path: &Path, args: &Init, out: &mut Out) -> Answer {
    match Store::open(path) {
        Err(OpenError::NotAStore { .. }) => {}
        Ok(_) => return Err(Failure::No(format!("{} is a log already", path.display()))),
        Err(error) => return Err(error.into()),
    }
    let mut options = Options::new().remember(true);
    if let Some(bytes) = args.segment_bytes {
        options = options.segment_bytes(bytes);
    }
    if let Some(origin) = &args.origin {
        if origin.len() > ORIGIN_BYTES_MAX {
            return Err(Failure::Usage(format!("an origin has at most {ORIGIN_BYTES_MAX} bytes")));
        }
        options = options.origin(origin);
        if let Some(file) = &args.key {
            let key = trust::load_key(file)?;
            // Nobody would find its signatures under another name.
            if key.name() != origin {
                return Err(Failure::No(format!("{} is a key named {}, and the log is {origin}", file.display(), key.name())));
            }
            options = options.log_key(key.public_key());
        }
    }
    options.open(path)?.close()?;
    let stats = Store::open(path)?.stats();
    if out.json {
        writeln!(out, "{}", json!({ "log": path.display().to_string(), "origin": stats.origin, "log_id": stats.log_id.to_string() }))?;
    } else {
        let made = out.paint(GOOD, "made").into_owned();
        writeln!(out, "{made} the log {} with id {}", path.display(), stats.log_id)?;
    }
    out.flush()?;
    Ok(true)
}
