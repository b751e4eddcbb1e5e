//! On what it was measured.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::store::Failure;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    pub kernel: String,
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub filesystem: String,
    pub seconds: f64,
    pub rounds: usize,
}

pub fn describe(directory: &Path, seconds: f64, rounds: usize) -> Result<Host, Failure> {
    let system = rustix::system::uname();
    let information = fs::read_to_string("/proc/cpuinfo")?;
    let processor = information.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    Ok(Host {
        kernel: format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy()),
        processor: processor.trim_start_matches([' ', '\t', ':']).to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        memory_gib: rustix::system::sysinfo().totalram >> 30,
        filesystem: filesystem(directory)?,
        seconds,
        rounds,
    })
}

/// Type and options of the file system that a directory is on: the longest mount point it starts with.
fn filesystem(directory: &Path) -> Result<String, Failure> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let best = mounts
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields.len() > 3 && directory.starts_with(fields[1])).then(|| (fields[1].len(), format!("{} ({})", fields[2], fields[3])))
        })
        .max_by_key(|(length, _)| *length);
    Ok(best.map_or_else(|| "unknown".into(), |(_, text)| text))
}
