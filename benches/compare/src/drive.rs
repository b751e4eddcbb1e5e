//! One cell of the table: one store under one load, in this process.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::store::{Failure, Peer, Store};
use crate::workload::{Source, Workload};

/// What was measured. Figures of requests answered after the warm-up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    pub peer: String,
    pub workload: String,
    pub events: u64,
    /// Those of the warm-up and those answered behind the end as well.
    #[serde(default)]
    pub events_in_all: u64,
    pub seconds: f64,
    pub events_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub longest_ms: f64,
    pub cpu_us_per_event: f64,
    /// Written to the device by this process, as the kernel accounts for it, from opening to closing.
    pub written_bytes_per_event: f64,
    /// Allocated after an orderly close.
    pub disk_bytes_per_event: f64,
    pub memory_peak_mib: f64,
}

struct Measured {
    events: u64,
    events_in_all: u64,
    latency: Histogram<u64>,
    started: Instant,
    ended: Instant,
}

/// Runs it in an empty directory.
pub fn run(peer: &Peer, workload: &Workload, directory: &Path, seconds: f64) -> Result<Cell, Failure> {
    let written_before = written_bytes()?;
    let store = (peer.open)(directory, workload.level)?;
    let barrier = Barrier::new(workload.threads + 1);
    let mut cpu = (0.0, 0.0);
    let measured: Vec<Measured> = thread::scope(|scope| -> Result<Vec<Measured>, Failure> {
        let threads: Vec<_> = (0..workload.threads)
            .map(|number| {
                let (store, barrier) = (store.as_ref(), &barrier);
                scope.spawn(move || {
                    let source = Source::new(workload, number as u64 + 1);
                    barrier.wait();
                    if workload.in_flight > 1 {
                        pipelined(store, workload, source, seconds)
                    } else {
                        waiting(store, workload, source, seconds)
                    }
                })
            })
            .collect();
        barrier.wait();
        thread::sleep(warm_up(seconds));
        cpu.0 = cpu_seconds()?;
        thread::sleep(Duration::from_secs_f64(seconds));
        cpu.1 = cpu_seconds()?;
        threads.into_iter().map(|thread| thread.join().map_err(|_| Failure::from("a thread panicked"))?).collect()
    })?;
    let memory_peak_mib = memory_peak_mib()?;
    store.close()?;
    let events: u64 = measured.iter().map(|thread| thread.events).sum();
    let events_in_all = measured.iter().map(|thread| thread.events_in_all).sum::<u64>().max(1) as f64;
    let started = measured.iter().map(|thread| thread.started).min().ok_or("no thread")?;
    let ended = measured.iter().map(|thread| thread.ended).max().ok_or("no thread")?;
    let elapsed = (ended - started).as_secs_f64();
    let mut latency = histogram()?;
    for thread in &measured {
        latency.add(&thread.latency)?;
    }
    let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Cell {
        peer: peer.name.into(),
        workload: workload.name.into(),
        events,
        events_in_all: events_in_all as u64,
        seconds: elapsed,
        events_per_second: events as f64 / elapsed,
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        longest_ms: latency.max() as f64 / 1e6,
        cpu_us_per_event: (cpu.1 - cpu.0) * 1e6 / (events as f64 * seconds / elapsed).max(1.0),
        written_bytes_per_event: (written_bytes()? - written_before) as f64 / events_in_all,
        disk_bytes_per_event: allocated_bytes(directory)? as f64 / events_in_all,
        memory_peak_mib,
    })
}

fn warm_up(seconds: f64) -> Duration {
    Duration::from_secs_f64((seconds / 4.0).min(0.5))
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, 600_000_000_000, 3)?)
}

/// What a thread counts: nothing of the warm-up.
struct Counter {
    measured: Measured,
    batch: u64,
    until: Instant,
}

impl Counter {
    fn new(workload: &Workload, seconds: f64) -> Result<Counter, Failure> {
        let started = Instant::now() + warm_up(seconds);
        let until = started + Duration::from_secs_f64(seconds);
        Ok(Counter {
            measured: Measured { events: 0, events_in_all: 0, latency: histogram()?, started, ended: started },
            batch: workload.batch as u64,
            until,
        })
    }

    fn answered(&mut self, submitted: Instant) {
        let now = Instant::now();
        self.measured.events_in_all += self.batch;
        if now >= self.measured.started {
            self.measured.events += self.batch;
            self.measured.latency.saturating_record((now - submitted).as_nanos() as u64);
            self.measured.ended = now;
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

fn waiting(store: &dyn Store, workload: &Workload, mut source: Source, seconds: f64) -> Result<Measured, Failure> {
    let mut counter = Counter::new(workload, seconds)?;
    while !counter.is_over() {
        let request = source.request(workload.batch);
        let submitted = Instant::now();
        store.append(request)?;
        counter.answered(submitted);
    }
    Ok(counter.measured)
}

fn pipelined(store: &dyn Store, workload: &Workload, mut source: Source, seconds: f64) -> Result<Measured, Failure> {
    let mut pipeline = store.pipeline().ok_or("nothing can be handed in without waiting")?;
    let mut submitted = VecDeque::with_capacity(workload.in_flight);
    let mut counter = Counter::new(workload, seconds)?;
    while !counter.is_over() {
        while submitted.len() < workload.in_flight {
            let request = source.request(workload.batch);
            submitted.push_back(Instant::now());
            pipeline.submit(request)?;
        }
        pipeline.wait_one()?;
        counter.answered(submitted.pop_front().ok_or("nothing was handed in")?);
    }
    // What is still out is waited for, so that closing finds nothing under way; the time is over.
    for _ in submitted {
        pipeline.wait_one()?;
        counter.measured.events_in_all += workload.batch as u64;
    }
    Ok(counter.measured)
}

fn field(path: &str, name: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("{path} without {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

fn written_bytes() -> Result<u64, Failure> {
    field("/proc/self/io", "write_bytes:")
}

fn memory_peak_mib() -> Result<f64, Failure> {
    Ok(field("/proc/self/status", "VmHWM:")? as f64 / 1024.0)
}

/// Of all threads, in user and system mode.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may contain anything: fields 14 and 15, in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields.get(11).ok_or("stat")?.parse::<u64>()? + fields.get(12).ok_or("stat")?.parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

fn allocated_bytes(directory: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { allocated_bytes(&entry.path())? } else { std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 };
    }
    Ok(bytes)
}
