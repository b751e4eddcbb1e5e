//! `bench read`: scanning everything, then reading single streams, both warm.
//!
//! Beside the scan stands a plain sum over the same files, mapped, which is what reading them at all costs.

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use chainring::disk::{Access, Disk, PortableDisk, Region};
use chainring::{Position, Store, Version, View};
use chainring_format::segment::number_of;

use super::Ground;
use super::drive::{Run, Target, drive};
use super::report::{Reading, Report};
use super::store::fill;
use super::workload::{Shape, Source, stream_name};
use crate::cli::Bench;
use crate::output::{Failure, spinner};

/// Records that a thread scans at a time, at most.
const CHUNK_RECORDS_MAX: u64 = 4096;
/// Bytes that a thread sums up at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The subject.
pub(super) fn run(args: &Bench, ground: &Ground) -> Result<Report, Failure> {
    let threads = args.threads.unwrap_or(1) as usize;
    let filled = fill(args, ground)?;
    let store = Store::open(&filled.directory)?;
    let view = store.latest();
    let reads = Shape { threads, in_flight: 1, batch: 1, ..Shape::new(args, threads)? };

    // Of equal length, so that every chunk counts alike.
    let records = view.end().0 + 1;
    let chunks = records.div_ceil(CHUNK_RECORDS_MAX);
    let scan = Scan { view: &view, chunks, chunk_records: records.div_ceil(chunks), next: AtomicU64::new(0) };
    let shape = Shape { batch: scan.chunk_records as usize, ..reads.clone() };
    let spinner = spinner("reading");
    let scanned = drive(&scan, &shape, args.seconds / 2.0, &ground.interrupted)?;
    let streams = drive(&Streams { view: &view }, &reads, args.seconds / 2.0, &ground.interrupted)?;
    spinner.finish_and_clear();
    let summed = if args.no_baseline { None } else { Some(sum(&filled.directory, &shape, args.seconds / 2.0, ground)?) };
    let bytes_per_event = filled.bytes as f64 / filled.events as f64;
    let events_per_stream = filled.events as f64 / view.streams()?.len().max(1) as f64;
    let reading = Reading { scanned, streams, summed, bytes_per_event, events_per_stream, events: filled.events };
    Ok(Report::read(args, &reads, ground, filled.write_path, &reading))
}

/// Everything, over and over.
struct Scan<'v> {
    view: &'v View,
    chunks: u64,
    chunk_records: u64,
    next: AtomicU64,
}

impl Target for Scan<'_> {
    type Request = u64;
    type Ticket = ();

    fn build(&self, _: &mut Source) -> u64 {
        // Relaxed: chunks are only shared out.
        self.next.fetch_add(1, Ordering::Relaxed) % self.chunks
    }

    fn submit(&self, chunk: u64) -> Result<(), Failure> {
        let (first, last) = (chunk * self.chunk_records, (chunk + 1) * self.chunk_records - 1);
        let mut bytes = 0;
        for event in self.view.events_in(Position(first)..=Position(last)) {
            let event = event?;
            bytes += black_box(event.body()).map_or(0, <[u8]>::len) + black_box(event.metadata_bytes()).len();
        }
        black_box(bytes);
        Ok(())
    }

    fn is_done(&self, (): &()) -> bool {
        true
    }

    fn wait(&self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

/// One stream after the other, from its first event to its last.
struct Streams<'v> {
    view: &'v View,
}

impl Target for Streams<'_> {
    type Request = String;
    type Ticket = ();

    fn build(&self, source: &mut Source) -> String {
        stream_name(source.pick())
    }

    fn submit(&self, name: String) -> Result<(), Failure> {
        // A stream that was never picked while the store was filled is read as what it is: nothing.
        let Some(stream) = self.view.stream(&name)? else { return Ok(()) };
        for event in stream.forward(Version(0))? {
            black_box(event?.body());
        }
        Ok(())
    }

    fn is_done(&self, (): &()) -> bool {
        true
    }

    fn wait(&self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

/// A sum over the bytes of the segments, mapped as the engine maps them.
struct Sum {
    /// Each segment, and where its whole chunks begin.
    regions: Vec<Region>,
    chunks: Vec<(usize, u64)>,
    next: AtomicU64,
}

impl Target for Sum {
    type Request = (usize, u64);
    type Ticket = ();

    fn build(&self, _: &mut Source) -> (usize, u64) {
        // Relaxed: chunks are only shared out.
        self.chunks[(self.next.fetch_add(1, Ordering::Relaxed) % self.chunks.len() as u64) as usize]
    }

    fn submit(&self, (region, start): (usize, u64)) -> Result<(), Failure> {
        let bytes = self.regions[region].read(start, CHUNK_BYTES as u64).map_err(|(_, error)| error)?;
        let (words, _) = bytes[..CHUNK_BYTES].as_chunks::<8>();
        black_box(words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word))));
        Ok(())
    }

    fn is_done(&self, (): &()) -> bool {
        true
    }

    fn wait(&self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

/// Sums up what the segments hold; the events of the run are bytes.
fn sum(directory: &Path, shape: &Shape, seconds: f64, ground: &Ground) -> Result<Run, Failure> {
    let failed = |error| super::cannot("read", directory, &error);
    let disk = PortableDisk::new(directory);
    let (mut regions, mut chunks) = (Vec::new(), Vec::new());
    for name in disk.list().map_err(failed)?.into_iter().filter(|name| number_of(name).is_some()) {
        let file = disk.open(&name, Access::Read).map_err(failed)?;
        let bytes = file.bytes().map_err(failed)?;
        // Only whole ones, so that all are alike.
        chunks.extend((0..bytes / CHUNK_BYTES as u64).map(|chunk| (regions.len(), chunk * CHUNK_BYTES as u64)));
        regions.push(file.region(bytes as usize).map_err(failed)?);
    }
    if chunks.is_empty() {
        regions.push(Region::memory(vec![0x5A; CHUNK_BYTES]));
        chunks.push((regions.len() - 1, 0));
    }
    let shape = Shape { batch: CHUNK_BYTES, ..shape.clone() };
    drive(&Sum { regions, chunks, next: AtomicU64::new(0) }, &shape, seconds, &ground.interrupted)
}
