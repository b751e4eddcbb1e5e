//! `bench ingest`: appending.
//!
//! Raw, engine, raw, in this order, so that a machine that gets faster or slower meanwhile shows; the better raw run counts, half as long each.

use chainring::{Durability, Log, Options, Pending, Request};

use super::drive::{Run, Target, drive};
use super::raw::{Blocks, Chunks, Group};
use super::report::{Appending, Raw, Report};
use super::usage::{forget_memory_peak, memory_peak_bytes};
use super::workload::{Shape, Source};
use super::{Ground, directory_bytes};
use crate::cli::Bench;
use crate::output::{Failure, spinner};

/// The engine, as a user calls it.
pub(super) struct Engine<'l> {
    pub(super) log: &'l Log,
    pub(super) shape: Shape,
}

impl Target for Engine<'_> {
    type Request = Request;
    type Ticket = Pending;

    fn build(&self, source: &mut Source) -> Request {
        let request = match self.shape.batch {
            1 => Request::event(source.event()),
            events => Request::batch((0..events).map(|_| source.event()).collect()),
        };
        request.durability(if self.shape.is_durable { Durability::Durable } else { Durability::Written })
    }

    fn submit(&self, request: Request) -> Result<Pending, Failure> {
        Ok(self.log.submit(request)?)
    }

    fn is_done(&self, ticket: &Pending) -> bool {
        ticket.is_done()
    }

    fn wait(&self, ticket: Pending) -> Result<(), Failure> {
        ticket.wait()?;
        Ok(())
    }
}

/// How the store is opened.
pub(super) fn options(args: &Bench) -> Options {
    Options::new().origin("chainring bench").write_path(args.write_path)
}

/// The subject.
pub(super) fn run(args: &Bench, ground: &Ground) -> Result<Report, Failure> {
    let shape = Shape::new(args, args.threads.unwrap_or(1) as usize)?;
    let generator_ns = Source::cost_ns(&shape);
    let before = if args.no_baseline { None } else { Some(baseline(ground, &shape, args.seconds / 2.0)?) };
    let (engine, write_path) = engine(args, ground, &shape)?;
    let after = if args.no_baseline { None } else { Some(baseline(ground, &shape, args.seconds / 2.0)?) };
    let raw = before.zip(after).map(|((how, before), (_, after))| Raw::better(how, before, after));
    Ok(Report::ingest(args, &shape, ground, write_path, generator_ns, &engine, raw.as_ref()))
}

fn engine(args: &Bench, ground: &Ground, shape: &Shape) -> Result<(Appending, &'static str), Failure> {
    let directory = ground.store();
    forget_memory_peak();
    let log = options(args).open(&directory)?;
    let spinner = spinner("appending");
    let run = drive(&Engine { log: &log, shape: shape.clone() }, shape, args.seconds, &ground.interrupted)?;
    spinner.finish_and_clear();
    let stats = log.stats();
    let memory_peak_bytes = memory_peak_bytes();
    log.close()?;
    // The store was cut to its length when it was closed.
    let disk_bytes_per_event = directory_bytes(&directory)? as f64 / run.events_in_all.max(1) as f64;
    Ok((Appending { run, disk_bytes_per_event, memory_peak_bytes, segments_rotated: stats.segments - 1 }, stats.write_path))
}

/// One run of what fits the shape, and how it works.
fn baseline(ground: &Ground, shape: &Shape, seconds: f64) -> Result<(&'static str, Run), Failure> {
    let place = ground.raw()?;
    let spinner = spinner("raw baseline");
    let measured = if shape.is_lone() {
        let blocks = Blocks::new(place.path(), shape, ground.host.block_bytes())?;
        (blocks.how(), drive(&blocks, shape, seconds, &ground.interrupted)?)
    } else if shape.is_durable {
        (Group::how(), drive(&Group::new(place.path(), shape)?, shape, seconds, &ground.interrupted)?)
    } else {
        let chunks = Chunks::new(place.path(), shape)?;
        let run = drive(&chunks, shape, seconds, &ground.interrupted)?;
        // What is left in the page cache is not the next run's burden.
        chunks.settle()?;
        (Chunks::how(), run)
    };
    spinner.finish_and_clear();
    Ok(measured)
}
