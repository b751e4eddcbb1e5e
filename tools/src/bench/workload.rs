//! What is appended: bodies, streams, and who picks them.
//!
//! Always: the same seed gives the same workload; no two bodies of a run are alike, nothing in them can be compressed away. Making an event costs little
//! beside appending it, and [`Source::cost_ns`] says how much, so that nobody has to believe that.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chainring::Event;

use super::zipf::Zipf;
use crate::cli::{Bench, Level};
use crate::output::Failure;

/// Text to cut bodies from, per thread: larger than a first-level cache, small enough for the second.
const TEXT_BYTES: usize = 128 << 10;
/// A body is cut from the text in pieces of at most this many bytes, so that long bodies do not repeat themselves.
const PIECE_BYTES_MAX: usize = TEXT_BYTES / 2;
const HEAD: &[u8] = b"{\"id\":\"";
const MIDDLE: &[u8] = b"\",\"note\":\"";
const TAIL: &[u8] = b"\"}";
/// A shorter body is plain text: no object fits.
const OBJECT_BYTES_MIN: usize = HEAD.len() + 16 + MIDDLE.len() + TAIL.len();
/// What the digits of a stream's name can tell apart.
const STREAMS_MAX: u64 = 1_000_000_000;
/// Requests under way are held in memory, by the benchmark and by the engine.
const OUTSTANDING_BYTES_MAX: u64 = 2 << 30;
/// A frame beside its body: header, checksums, metadata, padding.
pub(super) const FRAME_BYTES: u64 = 200;

const EVENT_TYPES: [&str; 8] =
    ["OrderPlaced", "OrderPaid", "OrderShipped", "OrderCancelled", "ParcelScanned", "AddressChanged", "RefundRequested", "NoteAdded"];

/// What the events of a run look like and how they are handed in.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) threads: usize,
    /// Requests that each thread leaves outstanding.
    pub(super) in_flight: usize,
    pub(super) payload_bytes: usize,
    pub(super) streams: u64,
    pub(super) zipf: f64,
    /// Events of a request; 1 = a single event, no batch.
    pub(super) batch: usize,
    pub(super) is_durable: bool,
}

impl Shape {
    /// What was typed, if it can be done.
    pub(super) fn new(args: &Bench, threads: usize) -> Result<Shape, Failure> {
        let outstanding =
            [threads as u64, args.in_flight, args.batch, args.payload + FRAME_BYTES].into_iter().try_fold(1_u64, u64::checked_mul);
        if outstanding.is_none_or(|bytes| bytes > OUTSTANDING_BYTES_MAX) {
            let limit = crate::output::sized(OUTSTANDING_BYTES_MAX);
            return Err(Failure::Usage(format!("threads x in-flight x batch x payload is more than {limit} at a time")));
        }
        if args.streams > STREAMS_MAX {
            return Err(Failure::Usage(format!("at most {} streams", crate::output::grouped(STREAMS_MAX))));
        }
        Ok(Shape {
            threads,
            in_flight: args.in_flight as usize,
            payload_bytes: args.payload as usize,
            streams: args.streams,
            zipf: args.zipf,
            batch: args.batch as usize,
            is_durable: args.durability == Level::Durable,
        })
    }

    /// A thread appends one event, waits until it is durable, and nobody shares its sync.
    pub(super) fn is_lone(&self) -> bool {
        self.is_durable && self.threads * self.in_flight * self.batch == 1
    }

    /// Bytes of one event in a log that hashes nothing.
    pub(super) fn frame_bytes(&self) -> usize {
        self.payload_bytes + FRAME_BYTES as usize
    }
}

/// SplitMix64: passes for random, costs a nanosecond.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`: the high half of a product, whose bias nobody could measure.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// From 0 up to, but not with, 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Which stream is next.
#[derive(Debug, Clone)]
pub(super) enum Picker {
    Uniform(u64),
    Zipf(Zipf),
}

impl Picker {
    pub(super) fn new(streams: u64, exponent: f64) -> Picker {
        if exponent == 0.0 { Picker::Uniform(streams) } else { Picker::Zipf(Zipf::new(streams, exponent)) }
    }

    /// A stream's number, from 0.
    pub(super) fn pick(&self, random: &mut Random) -> u64 {
        match self {
            Picker::Uniform(streams) => random.below(*streams),
            Picker::Zipf(zipf) => zipf.rank(random) - 1,
        }
    }
}

/// Name of a stream, by its number.
pub(super) fn stream_name(number: u64) -> String {
    const DIGITS: usize = 9;
    let mut digits = [b'0'; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    let mut name = String::with_capacity(6 + DIGITS);
    name.push_str("order/");
    name.extend(digits.iter().map(|&digit| char::from(digit)));
    name
}

/// One thread's events.
#[derive(Debug)]
pub(super) struct Source {
    random: Random,
    picker: Picker,
    text: Vec<u8>,
    payload_bytes: usize,
    /// Distinguishes every body of every thread.
    id: u64,
}

impl Source {
    /// The events of a thread; other numbers give others.
    pub(super) fn new(shape: &Shape, number: u64) -> Source {
        let mut random = Random::new(number.wrapping_mul(0xD1B5_4A32_D192_ED03));
        let text = text(&mut random);
        Source { random, picker: Picker::new(shape.streams, shape.zipf), text, payload_bytes: shape.payload_bytes, id: number << 40 }
    }

    /// Puts the bytes of the next body behind what is there.
    pub(super) fn write_body(&mut self, to: &mut Vec<u8>) {
        self.id += 1;
        let is_object = self.payload_bytes >= OBJECT_BYTES_MIN;
        if is_object {
            to.extend_from_slice(HEAD);
            // Spread, so that bodies differ in more than their last digits.
            to.extend_from_slice(&hexadecimal(self.id.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            to.extend_from_slice(MIDDLE);
        }
        let mut rest = if is_object { self.payload_bytes - OBJECT_BYTES_MIN } else { self.payload_bytes };
        while rest > 0 {
            let piece = rest.min(PIECE_BYTES_MAX);
            let from = self.random.below((TEXT_BYTES - piece) as u64) as usize;
            to.extend_from_slice(&self.text[from..from + piece]);
            rest -= piece;
        }
        if is_object {
            to.extend_from_slice(TAIL);
        }
    }

    /// Number of the next stream.
    pub(super) fn pick(&mut self) -> u64 {
        self.picker.pick(&mut self.random)
    }

    /// The next event.
    pub(super) fn event(&mut self) -> Event {
        let stream = stream_name(self.pick());
        let mut body = Vec::with_capacity(self.payload_bytes);
        self.write_body(&mut body);
        let event_type = EVENT_TYPES[self.id as usize % EVENT_TYPES.len()];
        Event::new(stream, event_type).body(body)
    }

    /// What making and dropping an event costs, in ns: the median of several short measurements.
    pub(super) fn cost_ns(shape: &Shape) -> f64 {
        const ROUNDS: usize = 9;
        const ROUND: Duration = Duration::from_millis(8);
        let mut source = Source::new(shape, u64::MAX >> 40);
        let mut costs: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let (started, mut events) = (Instant::now(), 0_u32);
                while started.elapsed() < ROUND {
                    for _ in 0..16 {
                        black_box(source.event());
                    }
                    events += 16;
                }
                started.elapsed().as_nanos() as f64 / f64::from(events)
            })
            .collect();
        costs.sort_by(f64::total_cmp);
        costs[ROUNDS / 2]
    }
}

fn hexadecimal(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (index, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (60 - 4 * index)) as usize & 15];
    }
    digits
}

/// Lower-case words and digits: what JSON strings are made of, without anything to escape.
fn text(random: &mut Random) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrst     ,.-";
    let mut text = Vec::with_capacity(TEXT_BYTES);
    while text.len() < TEXT_BYTES {
        let mut bits = random.next();
        for _ in 0..8 {
            text.push(LETTERS[(bits & 63) as usize]);
            bits >>= 6;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(payload_bytes: usize) -> Shape {
        Shape { threads: 1, in_flight: 1, payload_bytes, streams: 10, zipf: 0.0, batch: 1, is_durable: true }
    }

    #[test]
    fn bodies_have_their_length_and_differ() {
        for payload_bytes in [0, 1, OBJECT_BYTES_MIN - 1, OBJECT_BYTES_MIN, 256, 1024, 3 * PIECE_BYTES_MAX + 5] {
            let mut source = Source::new(&shape(payload_bytes), 1);
            let (first, second) = (source.event(), source.event());
            assert_eq!((first.body.len(), second.body.len()), (payload_bytes, payload_bytes));
            assert!(payload_bytes < 16 || first.body != second.body);
            if payload_bytes >= OBJECT_BYTES_MIN {
                let object: serde_json::Value = serde_json::from_slice(&first.body).expect("a JSON object");
                assert_eq!(object["id"].as_str().map(str::len), Some(16));
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_gives_others() {
        let events = |number| {
            let mut source = Source::new(&shape(256), number);
            (0..100).map(|_| source.event()).collect::<Vec<_>>()
        };
        assert_eq!(events(1), events(1));
        assert!(events(1).iter().zip(&events(2)).all(|(a, b)| a.body != b.body));
    }

    #[test]
    fn uniform_picks_reach_every_stream() {
        let (picker, mut random, mut hits) = (Picker::new(10, 0.0), Random::new(7), [0_u32; 10]);
        for _ in 0..10_000 {
            hits[picker.pick(&mut random) as usize] += 1;
        }
        assert!(hits.iter().all(|&count| (850..1150).contains(&count)), "{hits:?}");
        assert_eq!((stream_name(0), stream_name(1_234_567)), ("order/000000000".into(), "order/001234567".into()));
    }
}
