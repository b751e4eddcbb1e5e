//! Does a durable commit reach the device? One second of lone commits under strace, counted.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::drive::Cell;
use crate::store::Failure;
use crate::{is_chosen, peers};

const CALLS: &str = "openat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,msync,io_uring_enter,close";

/// Prints a line for each peer.
pub fn prove(directory: &Path, chosen: &[String]) -> Result<(), Failure> {
    println!(
        "| peer | commits | fdatasync | fsync | writes on O_DSYNC/O_SYNC | io_uring_enter | sync_file_range, msync | syncs a commit |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for peer in peers::all().iter().filter(|peer| is_chosen(chosen, peer.name)) {
        let place = tempfile::Builder::new().prefix("prove-").tempdir_in(directory)?;
        let (store, trace) = (place.path().join("store"), place.path().join("trace"));
        fs::create_dir(&store)?;
        let output = Command::new("strace")
            .args(["-f", "-qq", "-e", &format!("trace={CALLS}"), "-o"])
            .arg(&trace)
            .arg(std::env::current_exe()?)
            .args(["cell", "--peer", peer.name, "--workload", "W1", "--seconds", "1", "--dir"])
            .arg(&store)
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let cell: Cell = serde_json::from_str(text.lines().last().ok_or("nothing was printed")?)?;
        let counts = count(&fs::read_to_string(&trace)?);
        let of = |name: &str| counts.get(name).copied().unwrap_or(0);
        let commits = cell.events_in_all;
        let syncs = of("fdatasync") + of("fsync") + of("synchronous") + of("io_uring_enter");
        println!(
            "| {} | {commits} | {} | {} | {} | {} | {} | {:.2} |",
            peer.name,
            of("fdatasync"),
            of("fsync"),
            of("synchronous"),
            of("io_uring_enter"),
            of("sync_file_range") + of("msync"),
            syncs as f64 / commits.max(1) as f64
        );
    }
    Ok(())
}

/// Calls by name; writes to descriptors that were opened for synchronous writing count as `synchronous`.
fn count(trace: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut synchronous: HashSet<String> = HashSet::new();
    for line in trace.lines() {
        // "1234  pwrite64(5, ...", or "1234  <... fdatasync resumed>", which was counted when it began.
        let Some((name, rest)) = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().split_once('(') else { continue };
        let descriptor = rest.split([',', ')', ' ']).next().unwrap_or_default().to_owned();
        match name {
            "openat" => {
                let is_synchronous = rest.contains("O_DSYNC") || rest.contains("O_SYNC");
                if let Some((_, opened)) = rest.rsplit_once("= ").filter(|_| is_synchronous) {
                    synchronous.insert(opened.trim().to_owned());
                }
                continue;
            }
            "close" => {
                synchronous.remove(&descriptor);
                continue;
            }
            _ => {}
        }
        let is_write = name.starts_with("write") || name.starts_with("pwrite");
        let key = if is_write && synchronous.contains(&descriptor) { "synchronous" } else { name };
        *counts.entry(key.to_owned()).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn synchronous_descriptors_are_followed_until_they_are_closed() {
        let trace = "7 openat(AT_FDCWD, \"a\", O_WRONLY|O_DSYNC) = 5\n7 pwrite64(5, \"\", 0, 0) = 0\n8 fdatasync(6 <unfinished ...>\n\
                     8 <... fdatasync resumed>) = 0\n7 close(5) = 0\n7 pwrite64(5, \"\", 0, 0) = 0\n";
        let counts = count(trace);
        assert_eq!((counts["synchronous"], counts["fdatasync"], counts["pwrite64"]), (1, 1, 1));
    }
}
