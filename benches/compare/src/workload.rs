//! What is appended, and by how many: the rows of the table.

use crate::store::{Event, Level};

/// A body of this many bytes, JSON with nothing in it that can be compressed away.
pub const BODY_BYTES: usize = 256;

/// One way to load a store.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub what: &'static str,
    pub threads: usize,
    /// Events of a request.
    pub batch: usize,
    /// Requests that a thread leaves unanswered.
    pub in_flight: usize,
    pub streams: u64,
    pub level: Level,
}

const DURABLE: Workload = Workload { name: "", what: "", threads: 1, batch: 1, in_flight: 1, streams: 10_000, level: Level::Durable };

/// All of them, in the order of the table.
pub const WORKLOADS: [Workload; 8] = [
    Workload { name: "W1", what: "1 thread, one durable event at a time", ..DURABLE },
    Workload { name: "W2x2", what: "2 threads, each waits for its own durable event", threads: 2, ..DURABLE },
    Workload { name: "W2x16", what: "16 threads, each waits for its own durable event", threads: 16, ..DURABLE },
    Workload { name: "W2x64", what: "64 threads, each waits for its own durable event", threads: 64, ..DURABLE },
    Workload { name: "PIPE", what: "1 thread, 1024 durable events in flight", in_flight: 1024, ..DURABLE },
    Workload { name: "W3", what: "1 thread, durable batches of 1000 over 1000 streams", batch: 1000, streams: 1000, ..DURABLE },
    Workload { name: "W4", what: "1 thread, batches of 1000, not synced", batch: 1000, level: Level::Written, ..DURABLE },
    Workload { name: "W4x2", what: "2 threads, batches of 1000, not synced", threads: 2, batch: 1000, level: Level::Written, ..DURABLE },
];

/// One thread's events: the same seed gives the same events.
pub struct Source {
    random: u64,
    text: Vec<u8>,
    streams: u64,
    id: u64,
}

impl Source {
    pub fn new(workload: &Workload, seed: u64) -> Source {
        let mut source = Source { random: seed, text: Vec::new(), streams: workload.streams, id: seed << 40 };
        const LETTERS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghij ,.:-_()";
        while source.text.len() < 128 << 10 {
            let mut bits = source.next();
            for _ in 0..8 {
                source.text.push(LETTERS[(bits & 63) as usize]);
                bits >>= 6;
            }
        }
        source
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn request(&mut self, batch: usize) -> Vec<Event> {
        (0..batch).map(|_| self.event()).collect()
    }

    fn event(&mut self) -> Event {
        self.id += 1;
        let stream_number = self.next() % self.streams;
        let mut body = Vec::with_capacity(BODY_BYTES);
        body.extend_from_slice(b"{\"id\":\"");
        let id = self.id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        body.extend((0..16).map(|digit| b"0123456789abcdef"[(id >> (60 - 4 * digit)) as usize & 15]));
        body.extend_from_slice(b"\",\"note\":\"");
        let rest = BODY_BYTES - body.len() - 2;
        let from = self.next() as usize % (self.text.len() - rest);
        body.extend_from_slice(&self.text[from..from + rest]);
        body.extend_from_slice(b"\"}");
        Event { stream_number, stream: format!("order/{stream_number:09}"), body }
    }
}
