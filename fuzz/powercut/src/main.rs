//! A judge of power cuts: Chainring on real file systems whose disk is recorded, and cut at every moment.
//!
//! | module | job |
//! |---|---|
//! | `image` | the bytes of a disk, cheap to copy |
//! | `device` | a FUSE file under a loop device: records, replays, fails on demand |
//! | `tape` | what happened to the disk in order; states after a cut |
//! | `filesystem` | making and mounting ext4, xfs, btrfs |
//! | `workload` | what a program does with a log |
//! | `model` | what was asked and promised; whether what is found honours it |
//! | `judge` | everything that must hold after a cut |
//! | `power` | cuts, cuts during recovery, lying drives |
//! | `faults` | failing writes and flushes, full disks, unreadable sectors |
//!
//! Invariant: nothing here knows how the engine or a file system work inside; only what they were asked, and what they answered.

mod device;
mod faults;
mod filesystem;
mod image;
mod judge;
mod model;
mod power;
mod random;
mod tape;
mod workload;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use device::Device;
use filesystem::Kind;
use power::Trial;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Power cuts, and power cuts during recovery.
    Cuts,
    /// A drive that acknowledges flushes and loses them.
    Lies,
    /// The n-th write or flush fails, for every n.
    Errors,
    /// Writers are killed, then the power fails.
    Kills,
    /// No space left, then some again.
    Full,
    /// Sectors that cannot be read.
    Unreadable,
}

/// Judges Chainring on a real file system whose disk is cut, fills up, or fails. Needs root, loop devices and FUSE.
#[derive(Parser)]
struct Arguments {
    /// The file system.
    #[arg(long = "fs", value_enum)]
    kind: Kind,
    /// What happens to the disk.
    #[arg(long, value_enum, default_value = "cuts")]
    mode: Mode,
    /// Disk states to judge; with `errors`, at most so many failing requests.
    #[arg(long, default_value_t = 2000)]
    states: u64,
    /// Fixes the plan; when the kernel writes what, it does not fix.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the disk images of failing states in this directory.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Logical sectors of the disk: 512 or 4096.
    #[arg(long, default_value_t = 512)]
    sector: u32,
    /// The free space of the disk holds what is left of removed files, not zeros.
    #[arg(long)]
    stale: bool,
    /// Size of the disk in MiB.
    #[arg(long, default_value_t = 384)]
    disk: u64,
}

fn main() -> ExitCode {
    if let Some(code) = faults::run_as_child() {
        return code;
    }
    match run(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("powercut: {error}");
            ExitCode::from(3)
        }
    }
}

/// Returns the number of violations.
fn run(arguments: &Arguments) -> io::Result<u64> {
    let room = tempfile::Builder::new().prefix("powercut").tempdir()?;
    let device = Device::new(room.path(), arguments.disk << 20, arguments.sector)?;
    arguments.kind.make(&device.node)?;
    if arguments.stale {
        arguments.kind.fill_and_remove(&device.node, &room.path().join("mnt"), (arguments.disk << 20) / 4 * 3)?;
    }
    let fresh = device.image();
    let trial = Trial {
        kind: arguments.kind,
        device: &device,
        fresh: &fresh,
        point: room.path().join("mnt"),
        keep: arguments.keep.as_deref(),
        seed: arguments.seed,
    };
    let name = format!("{} {}", arguments.kind.name(), arguments.mode.to_possible_value().expect("none is skipped").get_name());
    let started = std::time::Instant::now();
    let violations = match arguments.mode {
        Mode::Cuts | Mode::Lies => {
            let counts = trial.run(arguments.states, arguments.mode == Mode::Lies)?;
            println!(
                "{name}: {} states ({} of them cut again during recovery) from {} runs with {} writes and {} flushes; {:.1} writes in flight, {:.0} events and {:.1} packed segments kept on average; {:?}, {} bytes cut off; {} unmountable; {} violations",
                counts.states,
                counts.again,
                counts.runs,
                counts.writes,
                counts.flushes,
                counts.in_flight as f64 / counts.states.max(1) as f64,
                counts.events as f64 / counts.states.max(1) as f64,
                counts.packed as f64 / counts.states.max(1) as f64,
                counts.opened,
                counts.cut_bytes,
                counts.unmountable,
                counts.violations
            );
            counts.violations
        }
        Mode::Errors => faults::errors(&trial, arguments.states)?,
        Mode::Kills => faults::kills(&trial, arguments.states)?,
        Mode::Full => faults::full(&trial, arguments.states)?,
        Mode::Unreadable => faults::unreadable(&trial, arguments.states)?,
    };
    println!(
        "{name}: seed {}, {:.0} s, {}",
        arguments.seed,
        started.elapsed().as_secs_f64(),
        if violations == 0 { "passed" } else { "FAILED" }
    );
    Ok(violations)
}
