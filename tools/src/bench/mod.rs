//! `bench`: what this machine does with a log, and beside it, in the same run, what the machine itself can do.
//!
//! Always: a new store in a new directory, removed afterwards, also after Ctrl-C; the baseline before and after what is measured; facts about the
//! machine with every number. Never: a number without what it was measured with.
//!
//! | module | job |
//! |---|---|
//! | [`workload`], [`zipf`] | what is appended |
//! | [`drive`] | the threads that append, and what is measured of them |
//! | [`raw`] | what the machine itself can do |
//! | [`ingest`], [`read`], [`verify`] | the three subjects |
//! | [`host`], [`usage`] | facts about the machine, and what was used of it |
//! | [`report`], [`picture`], [`canvas`] | telling, drawing |

mod canvas;
mod drive;
mod host;
mod ingest;
mod picture;
mod raw;
mod read;
mod report;
mod store;
mod usage;
mod verify;
mod workload;
mod zipf;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use tempfile::TempDir;

use crate::cli::{Bench, Subject};
use crate::output::{Answer, Failure, Out, complain};
use host::Host;

/// The command.
pub(crate) fn run(args: &Bench, out: &mut Out) -> Answer {
    let ground = Ground::new(args)?;
    // Found out before the time is spent.
    let picture = args.svg.as_deref().map(|path| File::create(path).map_err(|error| cannot("draw to", path, &error))).transpose()?;
    let report = match args.subject {
        Subject::Ingest => ingest::run(args, &ground)?,
        Subject::Read => read::run(args, &ground)?,
        Subject::Verify => verify::run(args, &ground)?,
    };
    if let (Some(mut file), Some(path)) = (picture, &args.svg) {
        let drawn = picture::draw(&report.picture)?;
        file.write_all(drawn.as_bytes()).map_err(|error| cannot("draw to", path, &error))?;
    }
    report::tell(&report, out)?;
    ground.clear()?;
    Ok(true)
}

fn cannot(doing: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Cannot(format!("cannot {doing} {}: {error}", path.display()))
}

/// Where it is measured.
struct Ground {
    place: TempDir,
    host: Host,
    /// Set by Ctrl-C: everything ends soon and is removed. A second Ctrl-C ends the program at once.
    interrupted: Arc<AtomicBool>,
}

impl Ground {
    fn new(args: &Bench) -> Result<Ground, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset, the second one set.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&interrupted))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
                .map_err(|error| Failure::Cannot(format!("cannot listen for signals: {error}")))?;
        }
        let place = tempfile::Builder::new()
            .prefix("chainring-bench-")
            .tempdir_in(&args.dir)
            .map_err(|error| cannot("make a directory in", &args.dir, &error))?;
        let host = Host::of(place.path());
        if host.is_in_memory() {
            complain(&format!("{} lies in memory: syncing does nothing there; see --dir", args.dir.display()));
        }
        if cfg!(debug_assertions) {
            complain("this is a debug build: its numbers say nothing about a release build");
        }
        Ok(Ground { place, host, interrupted })
    }

    /// Directory of the store.
    fn store(&self) -> PathBuf {
        self.place.path().join("store")
    }

    /// A directory for the baseline, gone when the guard is dropped.
    fn raw(&self) -> Result<TempDir, Failure> {
        tempfile::Builder::new()
            .prefix("raw-")
            .tempdir_in(self.place.path())
            .map_err(|error| cannot("make a directory in", self.place.path(), &error))
    }

    fn check_interrupted(&self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Failure::Cannot("interrupted".into())) } else { Ok(()) }
    }

    /// Removes everything, and says so if that fails.
    fn clear(self) -> Result<(), Failure> {
        let path = self.place.path().to_owned();
        self.place.close().map_err(|error| cannot("remove", &path, &error))
    }
}

/// Bytes of the files in a directory.
fn directory_bytes(directory: &Path) -> Result<u64, Failure> {
    let sum = || fs::read_dir(directory)?.map(|entry| Ok(entry?.metadata()?.len())).sum::<std::io::Result<u64>>();
    sum().map_err(|error| cannot("list", directory, &error))
}
