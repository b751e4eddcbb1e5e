//! `fsck`: is this log sound, how did its last writer end, what is wrong, what does that mean, and what to do next - in words.
//!
//! Verifies as `verify` does and, where something does not hold, examines as `salvage` does. Reads only, takes no lock. A torn tail is sound: it
//! was never acknowledged, and the next writer cuts it off.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use chainring::{Log, Manifest, OpenError, OpenReport, Opened, Store, VerifyOptions};
use serde_json::{Value, json};

use crate::output::{Answer, BAD, Failure, GOOD, Out, STRONG, counted, grouped, progress, sized};
use crate::salvage::{ranges_in_words, tell_damage};
use crate::verdict::{self, Verdict};

/// What the log is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Killed,
    InUse,
    Torn,
    RolledBack,
    Damaged,
    Unsupported,
    NoStore,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Killed => "killed",
            State::InUse => "in-use",
            State::Torn => "torn",
            State::RolledBack => "rollback-suspected",
            State::Damaged => "damaged",
            State::Unsupported => "unsupported",
            State::NoStore => "no-store",
        }
    }

    fn is_sound(self) -> bool {
        matches!(self, State::Closed | State::Killed | State::InUse | State::Torn)
    }
}

/// Everything there is to tell.
struct Findings {
    state: State,
    verdict: Option<Verdict>,
    /// Why it could not be verified to its end, where the device or the format stands in the way.
    obstacle: Option<String>,
    open: Option<OpenReport>,
    manifest: Option<Manifest>,
    holder: Option<String>,
    leftovers: Vec<String>,
    advice: Vec<String>,
}

/// The command.
pub(crate) fn run(path: &Path, out: &mut Out) -> Answer {
    let started = Instant::now();
    let findings = look(path)?;
    let state = findings.state;
    if out.json {
        let mut object = object(&findings);
        object["seconds"] = started.elapsed().as_secs_f64().into();
        writeln!(out, "{object}")?;
    } else {
        tell(path, &findings, out)?;
    }
    out.flush()?;
    match state {
        State::NoStore => Err(Failure::Cannot(format!("there is no store in {}", path.display()))),
        State::Unsupported => Err(Failure::Cannot("this log needs a newer program".into())),
        _ => Ok(state.is_sound()),
    }
}

fn look(path: &Path) -> Result<Findings, Failure> {
    let mut findings = Findings {
        state: State::NoStore,
        verdict: None,
        obstacle: None,
        open: None,
        manifest: None,
        holder: holder(path),
        leftovers: leftovers(path),
        advice: Vec::new(),
    };
    let bar = progress("verify", 0, true);
    let show = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let verified = verdict::by_engine(path, &VerifyOptions { progress: Some(&show), ..VerifyOptions::default() });
    bar.finish_and_clear();
    match verified {
        Ok(verdict) => {
            findings.state = match &verdict.fault {
                None => State::Killed,
                Some(fault) if fault.kind == "torn" => State::Torn,
                Some(fault) if fault.rule == "R4" => State::RolledBack,
                Some(fault) if fault.rule == "S5" => State::Unsupported,
                Some(_) => State::Damaged,
            };
            findings.verdict = Some(verdict);
        }
        Err(OpenError::NotAStore { .. }) => {}
        Err(error @ OpenError::Unsupported { .. }) => {
            findings.state = State::Unsupported;
            findings.obstacle = Some(error.to_string());
        }
        Err(error @ (OpenError::Io { .. } | OpenError::Read { .. })) if path.is_dir() => {
            findings.state = State::Damaged;
            findings.obstacle = Some(error.to_string());
        }
        Err(error) => return Err(error.into()),
    }
    if findings.state.is_sound() {
        match Store::open(path) {
            Ok(store) => {
                let report = store.report().clone();
                if findings.state == State::Killed && report.opened == Opened::Clean {
                    findings.state = State::Closed;
                }
                findings.open = Some(report);
            }
            // Verified a moment ago: what opening cannot read now is an obstacle, and no damage that verifying would have named.
            Err(error) => return Err(error.into()),
        }
        if findings.holder.is_some() {
            findings.state = State::InUse;
        }
    }
    if matches!(findings.state, State::Torn | State::Damaged) {
        let manifest = Log::open_salvage(path)?.manifest().clone();
        // The format alone cannot tell a torn last write from a last commit that was damaged later; the length of the file can.
        if findings.state == State::Torn && !manifest.is_whole() {
            findings.state = State::Damaged;
        }
        findings.manifest = Some(manifest);
    }
    findings.advice = advice(path, &findings);
    Ok(findings)
}

/// Who holds the writer's lock, as far as the system tells without touching it: a lock of this file in `/proc/locks`.
fn holder(path: &Path) -> Option<String> {
    let lock = path.join("LOCK");
    let inode = fs::metadata(&lock).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let holder = locks.lines().filter_map(lock_of_line).find(|(_, locked)| *locked == inode).map(|(process, _)| process)?;
    // The file names its last owner; it is the present one if the process is.
    let owner = fs::read_to_string(&lock).unwrap_or_default();
    let owner = owner.trim();
    let is_named = owner.split_whitespace().any(|word| word == holder);
    Some(if is_named { owner.to_owned() } else { format!("process {holder}") })
}

/// Process and inode of a line such as `1: FLOCK  ADVISORY  WRITE 4711 fe:01:131077 0 EOF`. The device is not compared: file systems with
/// sub-volumes name another one here.
fn lock_of_line(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_whitespace();
    let is_held = words.nth(1) == Some("FLOCK") && words.nth(1) == Some("WRITE");
    let process = words.next().filter(|_| is_held)?;
    Some((process, words.next()?.rsplit(':').next()?.parse().ok()?))
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if path.chars().all(is_plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// Segments that were being made or packed when a writer died. They are no part of the store.
fn leftovers(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".tmp")).collect();
    names.sort_unstable();
    names
}

/// What to do next, the exact commands among it.
fn advice(path: &Path, findings: &Findings) -> Vec<String> {
    let log = quoted(&path.display().to_string());
    let beside = quoted(&format!("{}-salvaged", path.display().to_string().trim_end_matches('/')));
    let mut advice = Vec::new();
    match findings.state {
        State::Closed | State::Killed => {}
        State::InUse => advice.push("a writer is at work: ask again when it has closed for a final answer about the end".into()),
        State::Torn => advice.push("nothing needs to be done: the next writer cuts this off and says so".into()),
        State::RolledBack => {
            advice.push("if this was not meant: do not write here, find the newer log, and look what restored this one".into());
            advice.push(format!("if it was: chainring --log {log} import --accept-rollback FILE, or remove {log}.mark"));
        }
        State::Damaged => {
            advice.push("do not write to this directory; copy it away before anything else is tried".into());
            advice.push("if there is a backup, restore it, verify it, and compare its last position with the receipts you hold".into());
            advice.push(format!("else get out what is intact: chainring salvage --log {log} --to {beside}"));
        }
        State::Unsupported => advice.push("use a program that knows this format version".into()),
        State::NoStore if findings.leftovers.is_empty() => {
            advice.push(format!("is this the right directory? chainring --log {log} init makes a new log"));
        }
        State::NoStore => {
            advice.push("a log was about to be made here and its writer died before it existed; making it again is safe".into());
        }
    }
    if !findings.leftovers.is_empty() && findings.state.is_sound() {
        advice.push("the leftovers are no part of the log; the next writer removes them".into());
    }
    advice
}

fn object(findings: &Findings) -> Value {
    let verdict = findings.verdict.as_ref();
    let manifest = findings.manifest.as_ref();
    let mut object = json!({
        "ok": findings.state.is_sound(),
        "state": findings.state.name(),
        "records": verdict.map(|verdict| verdict.records),
        "events": verdict.map(|verdict| verdict.events),
        "bytes": verdict.map(|verdict| verdict.bytes),
        "verified_to": verdict.and_then(|verdict| verdict.verified_to),
        "obstacle": findings.obstacle,
        "in_use_by": findings.holder,
        "leftovers": findings.leftovers,
        "advice": findings.advice,
    });
    if let Some(open) = &findings.open {
        object["watermark"] =
            json!({ "position": open.watermark.position, "segment": open.watermark.segment_name(), "offset": open.watermark.offset });
        object["cut_bytes"] = open.cut_bytes.into();
    }
    if let Some(fault) = verdict.and_then(|verdict| verdict.fault.as_ref()) {
        fault.put_into(&mut object, &format!("{} (rule {})", fault.why, fault.rule));
    }
    if let Some(manifest) = manifest {
        object["readable"] = json!({
            "events": manifest.totals.found,
            "records_missing": manifest.totals.missing,
            "end_known": manifest.end_known,
            "missing_segments": manifest.missing_segments.iter().map(|(first, last)| json!([first, last])).collect::<Vec<_>>(),
            "damaged_places": manifest.damage.len(),
            "streams_touched": manifest.totals.streams_touched,
        });
    }
    object
}

fn tell(path: &Path, findings: &Findings, out: &mut Out) -> Result<(), Failure> {
    let word = findings.state.name();
    let style = if findings.state.is_sound() { GOOD } else { BAD };
    let word = out.paint(style, word).into_owned();
    let records = findings.verdict.as_ref().map_or(0, |verdict| verdict.records);
    match (findings.state, &findings.open) {
        (State::Closed, _) => writeln!(out, "{word}: sound, and closed in order by its last writer")?,
        (State::Killed, _) => {
            writeln!(out, "{word}: sound. Its last writer ended without closing it; everything it wrote is whole, nothing has to be cut")?;
        }
        (State::InUse, _) => writeln!(out, "{word}: sound as far as it goes now; it is being written")?,
        (State::Torn, Some(open)) => {
            writeln!(
                out,
                "{word}: sound. Its last writer was interrupted in the middle of a write, and the next one cuts off what came of it"
            )?;
            if let Some(cut) = &open.cut {
                writeln!(out, "  where     {} offset {}, {}", cut.segment, grouped(cut.offset), sized(open.cut_bytes))?;
                writeln!(out, "  why       {} (rule {})", cut.why, cut.rule)?;
            }
            writeln!(
                out,
                "  harmless  {} are whole, and no commit and no header says that anything behind them was ever on stable storage\n            ({}); a part of the write never arrived, so nothing of it was acknowledged",
                counted(open.records, "record", "records"),
                open.watermark
            )?;
        }
        (State::RolledBack, _) => {
            writeln!(out, "{word}: everything in it holds, but it is not what it was")?;
            for fault in findings.verdict.iter().filter_map(|verdict| verdict.fault.as_ref()) {
                writeln!(out, "  why       {} (the mark beside the log says so)", fault.why)?;
            }
        }
        (State::Damaged, _) => tell_damaged(findings, &word, out)?,
        (State::Unsupported, _) => {
            writeln!(out, "{word}: {}", findings.obstacle.as_deref().unwrap_or("a segment needs what this program does not know"))?;
            for fault in findings.verdict.iter().filter_map(|verdict| verdict.fault.as_ref()) {
                writeln!(out, "  where     {}: {}", fault.segment, fault.why)?;
            }
        }
        _ => writeln!(out, "{word}: {} holds no log", path.display())?,
    }
    let mut rows = Vec::new();
    if findings.verdict.is_some() {
        rows.push(("verified", counted(records, "record", "records")));
    }
    rows.extend(findings.holder.clone().map(|holder| ("in use by", holder)));
    if !findings.leftovers.is_empty() {
        rows.push(("leftovers", findings.leftovers.join(", ")));
    }
    out.table(&rows)?;
    for advice in &findings.advice {
        let next = out.paint(STRONG, "next").into_owned();
        writeln!(out, "{next}  {advice}")?;
    }
    Ok(())
}

fn tell_damaged(findings: &Findings, word: &str, out: &mut Out) -> Result<(), Failure> {
    match (findings.verdict.as_ref().and_then(|verdict| verdict.fault.as_ref()), &findings.obstacle) {
        (Some(fault), _) => {
            writeln!(out, "{word}: {} (rule {}) in {} at offset {}", fault.why, fault.rule, fault.segment, grouped(fault.offset))?;
            let known = fault.position.map(|position| format!("position {position}"));
            let known: Vec<String> =
                known.into_iter().chain(fault.stream.iter().map(|stream| format!("stream {}", stream.escape_debug()))).collect();
            if !known.is_empty() {
                writeln!(out, "  what      {}", known.join(", "))?;
            }
            let means = match &*fault.kind {
                "tampered" => "checksums hold and the chain does not: somebody or something rewrote it on purpose",
                "torn" => {
                    "it looks like a torn write, but the file has the length of one that was closed or sealed: what is broken here had been\n            acknowledged. The next writer would cut it off, and what is intact of it too"
                }
                "missing" => "what others in the log vouch for is not there any more",
                _ => "bytes that had been written in full are not what they were; this is no torn write",
            };
            writeln!(out, "  means     {means}")?;
        }
        (None, Some(obstacle)) => {
            writeln!(out, "{word}: the device does not give all of it: {obstacle}")?;
        }
        (None, None) => writeln!(out, "{word}")?,
    }
    let Some(manifest) = &findings.manifest else { return Ok(()) };
    let totals = &manifest.totals;
    if manifest.is_whole() {
        writeln!(out, "  lost      no record: only what lies between or around them")?;
    } else if totals.missing > 0 {
        let acknowledged = "acknowledged data is gone";
        writeln!(out, "  lost      {acknowledged}: {}", counted(totals.missing, "record", "records"))?;
    }
    if !manifest.missing_segments.is_empty() {
        writeln!(out, "  missing   segments {}", ranges_in_words(&manifest.missing_segments))?;
    }
    if !manifest.end_known {
        writeln!(out, "  the end   is damaged: what followed, nobody can tell")?;
    }
    writeln!(out, "  readable  {} in {}", counted(totals.found, "event", "events"), counted(totals.streams, "stream", "streams"))?;
    tell_damage(manifest, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_read_from_the_systems_table() {
        assert_eq!(lock_of_line("1: FLOCK  ADVISORY  WRITE 4711 fe:01:131077 0 EOF"), Some(("4711", 131_077)));
        assert_eq!(lock_of_line("2: POSIX  ADVISORY  WRITE 4711 fe:01:131077 0 EOF"), None);
        assert_eq!(lock_of_line("3: -> FLOCK  ADVISORY  WRITE 4711 fe:01:131077 0 EOF"), None);
        assert_eq!(lock_of_line(""), None);
    }

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(quoted("/var/lib/log-1"), "/var/lib/log-1");
        assert_eq!(quoted("my log's"), r"'my log'\''s'");
    }
}
