//! `verify --anchors`: everything that was bound about checkpoints, checked again, and how long checkpoints waited for it.

use std::io::Write;
use std::path::Path;

use chainring::{Anchor, Evidence, Store};
use serde_json::{Value, json};

use super::artefact::{digest_of, judge, name_of};
use crate::output::{Answer, BAD, Failure, GOOD, Out, counted};
use crate::time;

/// Checks every anchor under the last checkpoint.
pub(crate) fn check_all(path: &Path, wait_ns_max: Option<u64>, out: &mut Out) -> Answer {
    let evidence = Store::open(path)?.evidence()?;
    let mut is_right = true;
    for anchor in &evidence.anchors {
        let verdict = verdict(&evidence, anchor);
        is_right &= verdict.is_ok();
        tell(anchor, verdict, out)?;
    }
    if let Some(wait_ns_max) = wait_ns_max {
        is_right &= is_in_time(&evidence, wait_ns_max, out)?;
    }
    out.flush()?;
    Ok(is_right)
}

fn verdict(evidence: &Evidence, anchor: &Anchor) -> Result<String, String> {
    let of = evidence.checkpoints.iter().find(|checkpoint| checkpoint.head.size == anchor.size);
    let note = &of.ok_or("it is about no checkpoint of this log")?.note;
    if digest_of(note) != anchor.note_sha256 {
        return Err("it is about another note than the checkpoint of its size".to_owned());
    }
    judge(anchor.form, &anchor.artefact, note)
}

fn tell(anchor: &Anchor, verdict: Result<String, String>, out: &mut Out) -> Result<(), Failure> {
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
    Ok(())
}

/// Whether no checkpoint waits for longer than it should.
fn is_in_time(evidence: &Evidence, wait_ns_max: u64, out: &mut Out) -> Answer {
    let now_ns = time::to_nanoseconds(time::now());
    let exposure = evidence.exposure(wait_ns_max, now_ns);
    let waits_ns = exposure.waiting_since_ns.map(|since_ns| now_ns.saturating_sub(since_ns));
    let late_ns = waits_ns.map_or(0, |waits_ns| waits_ns.saturating_sub(wait_ns_max));
    let seconds = |ns: u64| ns as f64 / 1e9;
    if out.json {
        let object = json!({
            "policy": "anchor-every",
            "ok": late_ns == 0,
            "every_seconds": seconds(wait_ns_max),
            "checkpoints": exposure.checkpoints,
            "late": exposure.late,
            "longest_seconds": seconds(exposure.longest_ns),
            "waiting_seconds": waits_ns.map(seconds),
            "late_by_seconds": seconds(late_ns),
        });
        writeln!(out, "{object}")?;
    } else {
        let told = match waits_ns {
            None => out.paint(GOOD, "everything that was signed is anchored").into_owned(),
            Some(waits_ns) if late_ns == 0 => format!("a checkpoint waits for an anchor, for {:.0} s", seconds(waits_ns)),
            Some(_) => out.paint(BAD, &format!("late: an anchor is due for {:.0} s", seconds(late_ns))).into_owned(),
        };
        let late = counted(exposure.late, "checkpoint was", "checkpoints were");
        writeln!(out, "{told}; {late} late, of {}; the longest waited for {:.0} s", exposure.checkpoints, seconds(exposure.longest_ns))?;
    }
    Ok(late_ns == 0)
}
