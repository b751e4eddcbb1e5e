//! `backup`: a verified copy of the log, also while it is written.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use chainring::BackupError;
use serde_json::json;

use crate::cli::Backup;
use crate::output::{Answer, Failure, GOOD, Out, counted, grouped, sized, spinner};

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Failure {
        let message = error.to_string();
        match error {
            BackupError::Original(error) | BackupError::Copy(error) => match Failure::from(error) {
                Failure::No(_) => Failure::No(message),
                _ => Failure::Cannot(message),
            },
            BackupError::Foreign { .. } => Failure::No(message),
            _ => Failure::Cannot(message),
        }
    }
}

/// The command.
pub(crate) fn run(path: &Path, args: &Backup, out: &mut Out) -> Answer {
    let started = Instant::now();
    let spinner = spinner("copying");
    let report = chainring::backup(path, &args.to);
    spinner.finish_and_clear();
    let report = report?;
    let took = started.elapsed().as_secs_f64();
    if out.json {
        let object = json!({
            "ok": true,
            "records": report.records,
            "position": report.last.map(|(position, _)| position.0),
            "link": report.last.map(|(_, link)| link.to_string()),
            "segments_copied": report.segments_copied,
            "segments_kept": report.segments_kept,
            "bytes_copied": report.bytes_copied,
            "bytes_verified": report.bytes_verified,
            "seconds": took,
        });
        writeln!(out, "{object}")?;
    } else {
        let done = out.paint(GOOD, "copied").into_owned();
        let segments = counted(report.segments_copied, "segment", "segments");
        writeln!(out, "{done} {segments}, {}, in {took:.1} s; {} were there", sized(report.bytes_copied), grouped(report.segments_kept))?;
        let mut rows = vec![("records", grouped(report.records)), ("verified", sized(report.bytes_verified))];
        rows.extend(report.last.map(|(position, link)| ("ends with", format!("{position}:{link}"))));
        out.table(&rows)?;
    }
    out.flush()?;
    Ok(true)
}
