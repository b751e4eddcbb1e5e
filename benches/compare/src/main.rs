//! One workload, every engine.
//!
//! ```text
//! cargo run --release -- run --dir DIRECTORY_ON_THE_DISK      # every cell in a process of its own; table, JSON and picture
//! cargo run --release -- prove --dir DIRECTORY_ON_THE_DISK    # with strace: does a durable commit reach the device?
//! ```

mod drive;
mod group;
mod host;
mod peers;
mod prove;
mod report;
mod store;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::drive::Cell;
use crate::store::{Failure, Level, Peer};
use crate::workload::{WORKLOADS, Workload};

#[derive(Parser)]
#[command(about = "One workload, every engine: Chainring beside what its users would pick instead.")]
struct Cli {
    #[command(subcommand)]
    command: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// Measures, and writes results.jsonl, results.md and results.svg
    Run(RunArgs),
    /// Writes results.md and results.svg anew from results.jsonl
    Report {
        /// Where results.jsonl is
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// Counts, with strace, what reaches the device for each durable commit
    Prove {
        /// A directory on the disk that is meant
        #[arg(long)]
        dir: PathBuf,
        /// Only these peers
        #[arg(long, value_delimiter = ',')]
        peers: Vec<String>,
    },
    /// One cell, here and now; prints it as JSON
    #[command(hide = true)]
    Cell {
        #[arg(long)]
        peer: String,
        #[arg(long)]
        workload: String,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        seconds: f64,
    },
}

#[derive(Args)]
struct RunArgs {
    /// A directory on the disk that is meant
    #[arg(long)]
    dir: PathBuf,
    /// Where the results go
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// Measured time of a cell
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Every cell is measured this many times, round after round; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these peers (raw always takes part)
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Only these workloads
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Subject::Run(args) => run(&args),
        Subject::Report { out } => report::write(&out),
        Subject::Prove { dir, peers } => prove::prove(&dir, &peers),
        Subject::Cell { peer, workload, dir, seconds } => cell(&peer, &workload, &dir, seconds),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn cell(peer: &str, workload: &str, directory: &Path, seconds: f64) -> Result<(), Failure> {
    let peers = peers::all();
    let peer = peers.iter().find(|known| known.name == peer).ok_or("no such peer")?;
    let workload = WORKLOADS.iter().find(|known| known.name == workload).ok_or("no such workload")?;
    println!("{}", serde_json::to_string(&drive::run(peer, workload, directory, seconds)?)?);
    Ok(())
}

fn is_chosen(chosen: &[String], name: &str) -> bool {
    chosen.is_empty() || chosen.iter().any(|wanted| wanted == name)
}

/// A peer that cannot do a workload at all is left out of its row.
fn can(peer: &Peer, workload: &Workload) -> bool {
    workload.in_flight == 1 || peer.has_pipeline
}

fn run(args: &RunArgs) -> Result<(), Failure> {
    let peers = peers::all();
    let names: Vec<&str> = peers.iter().map(|peer| peer.name).chain(WORKLOADS.iter().map(|workload| workload.name)).collect();
    if let Some(unknown) = args.peers.iter().chain(&args.workloads).find(|name| !names.contains(&name.as_str())) {
        return Err(format!("nothing is called {unknown}").into());
    }
    fs::create_dir_all(&args.dir)?;
    fs::create_dir_all(&args.out)?;
    let mut lines = vec![serde_json::to_string(&host::describe(&args.dir, args.seconds, args.rounds)?)?];
    for round in 1..=args.rounds {
        for workload in WORKLOADS.iter().filter(|workload| is_chosen(&args.workloads, workload.name)) {
            for peer in peers.iter().filter(|peer| can(peer, workload)) {
                if !peer.name.starts_with("raw") && !is_chosen(&args.peers, peer.name) {
                    continue;
                }
                match measure(peer, workload, args) {
                    Ok(cell) => {
                        let (rate, p50) = (cell.events_per_second, cell.p50_us);
                        eprintln!("round {round} {:6} {:12} {rate:10.0}/s  p50 {p50:8.0} us", workload.name, peer.name);
                        lines.push(serde_json::to_string(&cell)?);
                    }
                    // One peer's trouble is told, and does not take the others with it.
                    Err(failure) => eprintln!("round {round} {:6} {:12} failed: {failure}", workload.name, peer.name),
                }
                fs::write(args.out.join("results.jsonl"), lines.join("\n") + "\n")?;
            }
        }
    }
    report::write(&args.out)
}

/// In a process of its own, in an empty directory, on a disk that has nothing left to do.
fn measure(peer: &Peer, workload: &Workload, args: &RunArgs) -> Result<Cell, Failure> {
    let directory = tempfile::Builder::new().prefix("compare-").tempdir_in(&args.dir)?;
    rustix::fs::sync();
    thread::sleep(Duration::from_millis(500));
    let output = Command::new(std::env::current_exe()?)
        .args(["cell", "--peer", peer.name, "--workload", workload.name, "--seconds", &args.seconds.to_string(), "--dir"])
        .arg(directory.path())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(output.status.to_string().into());
    }
    // A peer may talk on its own account before the last line.
    let text = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(text.lines().last().ok_or("nothing was printed")?)?)
}

/// Whether a peer ran a workload at another level than the workload has.
fn is_stricter(peer: &Peer, workload: &Workload) -> bool {
    workload.level == Level::Written && !peer.has_written
}
