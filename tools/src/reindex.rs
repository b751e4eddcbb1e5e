//! `reindex`: makes the index anew from the segments.

use std::io::Write;
use std::path::Path;

use chainring::Options;
use serde_json::json;

use crate::output::{Answer, Failure, GOOD, Out, counted, sized};

/// The command. Opens the log for writing, as its one writer.
pub(crate) fn run(path: &Path, out: &mut Out) -> Answer {
    let log = Options::new().create(false).remember(true).open(path)?;
    let report = log.reindex().map_err(|error| Failure::Cannot(error.to_string()))?;
    log.close()?;
    if out.json {
        let object = json!({ "ok": true, "segments": report.segments, "files": report.files, "bytes": report.bytes });
        writeln!(out, "{object}")?;
    } else {
        let made = out.paint(GOOD, "indexed").into_owned();
        let (segments, files) = (counted(report.segments, "segment", "segments"), counted(report.files, "file", "files"));
        writeln!(out, "{made} {segments} that ended, in {files} of {}", sized(report.bytes))?;
    }
    out.flush()?;
    Ok(true)
}
