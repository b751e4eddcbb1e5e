//! Instructions of every layer, per event: `cargo run --release -p chainring-benches --bin instructions`.
//!
//! Runs itself under valgrind's callgrind, a layer few and many times, and divides the difference: what was set up before cancels out. The figures
//! are the same on a busy machine. They are not times: a wait for memory or for the disk costs no instruction, and valgrind knows neither AVX-512 nor
//! SHA extensions, so that hashes take the ways that processors without them take.

use std::error::Error;
use std::process::Command;

use chainring_benches::layers;

/// Memory is taken and tables grow in the first rounds.
const FEW: u64 = 20;
/// Rounds that count, of a layer whose rounds are short.
const EVENTS: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, name, times] = &arguments[..] {
        let layer = layers().into_iter().find(|layer| layer.name == name).ok_or("no such layer")?;
        let mut run = (layer.build)();
        for _ in 0..times.parse::<u64>()? {
            run();
        }
        return Ok(());
    }
    println!("{:32} {:>22}", "layer", "instructions an event");
    for layer in layers() {
        let rounds = (EVENTS / layer.events as u64).max(1);
        let difference = instructions(layer.name, FEW + rounds)?.saturating_sub(instructions(layer.name, FEW)?);
        println!("{:32} {:>22.0}", layer.name, difference as f64 / (rounds * layer.events as u64) as f64);
    }
    Ok(())
}

/// Instructions of the whole process that runs a layer so often.
fn instructions(name: &str, times: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([name, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(told.into());
    }
    let line = told.lines().find_map(|line| line.split_once("Collected :")).ok_or("callgrind told no count")?;
    Ok(line.1.trim().parse()?)
}
