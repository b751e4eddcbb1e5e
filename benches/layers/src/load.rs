//! Durable appends in the ways that logs are written to, for as long as is said.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chainring::{Event, Log, Pending, Request};

/// Events of a batch.
pub const BATCH: u64 = 1000;
const BODY_BYTES: usize = 256;
const STREAMS: u64 = 10_000;
const IN_FLIGHT: usize = 1024;

/// What a bench does, or why it could not.
pub type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How a log is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// So many threads, each of which waits for its event.
    Waiting(u64),
    /// One thread with many events in flight.
    Pipelined,
    /// One thread with a few batches in flight.
    Batches,
}

impl Shape {
    /// All that are measured.
    pub const ALL: [Shape; 4] = [Shape::Waiting(1), Shape::Waiting(64), Shape::Pipelined, Shape::Batches];

    /// What tables call it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Shape::Waiting(1) => "1 thread, waiting".to_owned(),
            Shape::Waiting(threads) => format!("{threads} threads, waiting"),
            Shape::Pipelined => format!("1 thread, {IN_FLIGHT} in flight"),
            Shape::Batches => format!("batches of {BATCH}"),
        }
    }

    /// Appends for as long as is said; events per second.
    ///
    /// # Errors
    /// Those of appending.
    pub fn append(self, log: &Log, time: Duration) -> Done<f64> {
        match self {
            Shape::Waiting(threads) => append_waiting(log, threads, time),
            Shape::Pipelined => append_for(log, false, time),
            Shape::Batches => append_for(log, true, time),
        }
    }
}

/// One event, whose body is JSON of so many bytes.
#[must_use]
pub fn event(number: u64, body_bytes: usize) -> Event {
    let mut body = format!("{{\"n\":{number},\"text\":\"").into_bytes();
    body.resize(body_bytes - 2, b'x');
    body.extend_from_slice(b"\"}");
    Event::new(format!("stream-{}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % STREAMS), "Noted").body(body)
}

/// Events with consecutive numbers.
#[must_use]
pub fn batch(first: u64, body_bytes: usize) -> Request {
    Request::batch((first..first + BATCH).map(|number| event(number, body_bytes)).collect::<Vec<_>>())
}

fn append_for(log: &Log, batches: bool, time: Duration) -> Done<f64> {
    let started = Instant::now();
    let mut waiting: VecDeque<Pending> = VecDeque::new();
    let mut number = 0;
    while started.elapsed() < time {
        if batches {
            waiting.push_back(log.submit(batch(number, BODY_BYTES))?);
            number += BATCH;
        } else {
            waiting.push_back(log.submit(Request::from(event(number, BODY_BYTES)))?);
            number += 1;
        }
        let most = if batches { 4 } else { IN_FLIGHT };
        while waiting.len() >= most {
            waiting.pop_front().expect("there is one").wait()?;
        }
    }
    for pending in waiting {
        pending.wait()?;
    }
    Ok(number as f64 / started.elapsed().as_secs_f64())
}

/// Threads that each wait for their own event.
fn append_waiting(log: &Log, threads: u64, time: Duration) -> Done<f64> {
    let started = Instant::now();
    let counts: Result<Vec<u64>, chainring::AppendError> = std::thread::scope(|scope| {
        let wait = |thread: u64| {
            move || {
                let mut count = 0;
                while started.elapsed() < time {
                    log.append(event(thread << 40 | count, BODY_BYTES))?;
                    count += 1;
                }
                Ok(count)
            }
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(wait(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("an appender does not panic")).collect()
    });
    Ok(counts?.iter().sum::<u64>() as f64 / started.elapsed().as_secs_f64())
}
