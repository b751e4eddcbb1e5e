//! What readers in other processes cost whoever writes, and whether they see everything, once and in order.
//!
//! `following --dir DIR` appends durable events alone, and with followers, in turns. Each follower is a process of its own, which opens the store for reading
//! and follows it from the beginning; at the end each must have the digest of what is in the log. JSON to standard output.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chainring::{EventRef, Options, Position, Store};
use chainring_benches::load::{Done, Shape};
use clap::Parser;
use serde_json::{Value, json};

/// Links hashed at a time.
const LINKS_BYTES: usize = 16 << 10;

#[derive(Parser)]
#[command(about = "What followers in other processes cost whoever writes")]
struct Cli {
    /// Where stores are made; it must not be there
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 4)]
    followers: usize,
    /// Followers take only time that nobody else wants
    #[arg(long)]
    nice: bool,
    /// Follow a store: what a follower is started with
    #[arg(long, hide = true)]
    follow: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = if cli.follow { follow(&cli.dir) } else { measure(&cli) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("following: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Follows until the end that a line of the standard input names, and tells what was seen.
fn follow(dir: &Path) -> Done {
    let end = Arc::new(AtomicU64::new(u64::MAX));
    let told = Arc::clone(&end);
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        told.store(read.ok().and_then(|_| line.trim().parse().ok()).unwrap_or(0), Ordering::Relaxed);
    });
    let store = Store::open(dir)?;
    println!("ready");
    let mut subscription = store.follow(Position(0));
    let mut seen = Seen::default();
    while subscription.position().0 < end.load(Ordering::Relaxed) {
        for event in subscription.next_batch_timeout(Duration::from_millis(50)).ok_or("the store can not be followed any more")? {
            seen.take_in(&event?);
        }
    }
    let (events, digest) = seen.end();
    println!("{}", json!({ "events": events, "digest": digest, "cpu_ns": cpu_ns() }));
    Ok(())
}

/// Events that were seen, and a hash of their links.
#[derive(Default)]
struct Seen {
    events: u64,
    hasher: blake3::Hasher,
    /// Links that are hashed together.
    links: Vec<u8>,
}

impl Seen {
    fn take_in(&mut self, event: &EventRef<'_>) {
        self.events += 1;
        self.links.extend_from_slice(&event.link().0);
        if self.links.len() >= LINKS_BYTES {
            self.hash();
        }
    }

    fn hash(&mut self) {
        self.hasher.update(&self.links);
        self.links.clear();
    }

    fn end(mut self) -> (u64, String) {
        self.hash();
        (self.events, self.hasher.finalize().to_string())
    }
}

/// Time that this thread has run on a processor, so far as the system tells.
fn cpu_ns() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

fn start(dir: &Path, is_nice: bool) -> Done<(Child, BufReader<ChildStdout>)> {
    let itself = std::env::current_exe()?;
    let mut command = if is_nice { Command::new("nice") } else { Command::new(&itself) };
    if is_nice {
        command.arg("-n19").arg(&itself);
    }
    let mut child = command.arg("--follow").arg("--dir").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut told = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    told.read_line(&mut line)?;
    if line == "ready\n" { Ok((child, told)) } else { Err("a follower did not start".into()) }
}

/// What was seen in one turn.
struct Turn {
    events_per_second: f64,
    /// How long the followers were behind the writer at the end.
    behind_seconds: f64,
    /// What an event has cost a follower, with opening the store and whatever the turn has in the way of pauses.
    follower_ns: f64,
}

/// Appends to a new log for `time`, alone or followed, and removes it.
fn turn(dir: &Path, shape: Shape, (followers, is_nice): (usize, bool), time: Duration) -> Done<Turn> {
    let log = Options::new().open(dir)?;
    let mut children = (0..followers).map(|_| start(dir, is_nice)).collect::<Done<Vec<_>>>()?;
    let rate = shape.append(&log, time)?;
    let ended = Instant::now();
    let view = log.latest();
    for (child, _) in &mut children {
        writeln!(child.stdin.take().ok_or("no input")?, "{}", view.end().0)?;
    }
    let mut seen = Vec::new();
    for (mut child, told) in children {
        let line = told.lines().next().ok_or("a follower said nothing")??;
        seen.push(serde_json::from_str::<Value>(&line)?);
        child.wait()?;
    }
    let behind_seconds = ended.elapsed().as_secs_f64();
    let mut all = Seen::default();
    for event in view.events() {
        all.take_in(&event?);
    }
    let (events, digest) = all.end();
    if seen.iter().any(|seen| seen["events"] != events || seen["digest"] != digest.as_str()) {
        return Err(format!("followers have seen {seen:?}, the log has {events}, {digest}").into());
    }
    log.close()?;
    std::fs::remove_dir_all(dir)?;
    let cpu_ns: u64 = seen.iter().filter_map(|seen| seen["cpu_ns"].as_u64()).sum();
    let follower_ns = cpu_ns as f64 / (events.max(1) * followers.max(1) as u64) as f64;
    Ok(Turn { events_per_second: rate, behind_seconds, follower_ns })
}

fn measure(cli: &Cli) -> Done {
    std::fs::create_dir(&cli.dir)?;
    let (store, time) = (cli.dir.join("log"), Duration::from_secs_f64(cli.seconds));
    for shape in Shape::ALL {
        let (mut ratios, mut rates, mut behind, mut costs) = (Vec::new(), [Vec::new(), Vec::new()], 0.0_f64, Vec::new());
        for round in 0..cli.rounds {
            let mut rate = [0.0; 2];
            // Who goes first takes turns.
            for is_followed in [round % 2 == 0, round % 2 == 1] {
                let turn = turn(&store, shape, (if is_followed { cli.followers } else { 0 }, cli.nice), time)?;
                rate[usize::from(is_followed)] = turn.events_per_second;
                if is_followed {
                    behind = behind.max(turn.behind_seconds);
                    costs.push(turn.follower_ns);
                }
            }
            ratios.push(rate[1] / rate[0]);
            (0..2).for_each(|side| rates[side].push(rate[side]));
        }
        rates.iter_mut().chain([&mut ratios, &mut costs]).for_each(|list| list.sort_by(f64::total_cmp));
        let told = json!({
            "shape": shape.name(),
            "followers": cli.followers,
            "nice": cli.nice,
            "alone_events_per_second": rates[0][rates[0].len() / 2],
            "followed_events_per_second": rates[1][rates[1].len() / 2],
            "ratio": { "min": ratios[0], "median": ratios[ratios.len() / 2], "max": ratios[ratios.len() - 1] },
            "behind_seconds_max": behind,
            "follower_ns_per_event": costs[costs.len() / 2],
        });
        println!("{told}");
    }
    Ok(())
}
