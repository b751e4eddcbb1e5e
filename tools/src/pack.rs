//! `pack`: gives back the space that padding takes in segments that are not written any more.

use std::io::Write;
use std::path::Path;

use chainring::Options;
use serde_json::json;

use crate::output::{Answer, BAD, GOOD, Out, counted, sized};

/// The command. Opens the log for writing, as its one writer; `false` if a segment could not be packed.
pub(crate) fn run(path: &Path, out: &mut Out) -> Answer {
    let log = Options::new().create(false).remember(true).open(path)?;
    let report = log.pack()?;
    let stats = log.stats();
    log.close()?;
    let is_done = report.failed.is_empty();
    if out.json {
        let failed = report.failed.iter().map(|failure| json!({ "segment": failure.segment, "why": failure.error.to_string() }));
        let object = json!({
            "ok": is_done,
            "packed": report.packed,
            "bytes_before": report.bytes_before,
            "bytes_after": report.bytes_after,
            "failed": failed.collect::<Vec<_>>(),
            "segments": stats.segments,
            "packed_segments": stats.packed_segments,
        });
        writeln!(out, "{object}")?;
    } else {
        let packed = out.paint(GOOD, "packed").into_owned();
        match report.packed {
            0 => writeln!(out, "{packed} nothing: no sealed segment is padded by more than a quarter")?,
            count => writeln!(
                out,
                "{packed} {}: {} for {}",
                counted(count, "segment", "segments"),
                sized(report.bytes_after),
                sized(report.bytes_before)
            )?,
        }
        for failure in &report.failed {
            let left = out.paint(BAD, "left").into_owned();
            writeln!(out, "{left}   {} as it is: {}", failure.segment, failure.error)?;
        }
    }
    out.flush()?;
    Ok(is_done)
}
