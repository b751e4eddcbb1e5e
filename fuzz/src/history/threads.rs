//! Real threads on one log, with faults and a cut: only what holds in every order is checked.

use std::collections::HashMap;
use std::sync::Arc;

use chainring::disk::sim::{Fault, SimDisk, SimRandom};
use chainring::{AppendError, Durability, Event, EventId, Expected, Log, Options, PackError, Store, VerifyOptions, Version, verify_in};

use super::Summary;

pub(super) struct Crowd {
    random: SimRandom,
    disk: SimDisk,
    story: Vec<String>,
    summary: Summary,
}

/// What one thread knows of one of its requests: number, events, whether it was acknowledged.
#[derive(Debug, Clone, Copy)]
struct Sent {
    events: u64,
    is_durable: bool,
    is_refused: bool,
}

/// Event `index` of the request `number` of a thread; everything in it follows from that.
fn event(thread: u64, number: u64, index: u64) -> Event {
    let mut id = [9; 16];
    id[0] = thread as u8;
    id[1..9].copy_from_slice(&number.to_be_bytes());
    id[9] = index as u8;
    let stream = if number.is_multiple_of(4) { "shared".to_owned() } else { format!("t{thread}") };
    Event::new(stream, "Happened").id(EventId(id)).body(vec![(number ^ thread) as u8; (number * 131 % 3000) as usize])
}

fn place(id: EventId) -> (u64, u64, u64) {
    (id.0[0].into(), u64::from_be_bytes(id.0[1..9].try_into().expect("eight bytes")), id.0[9].into())
}

impl Crowd {
    pub(super) fn new(seed: u64) -> Crowd {
        let mut random = SimRandom::new(seed ^ 0x000C_40D5);
        let disk = SimDisk::new().with_seed(random.next_u64()).with_block_bytes([512, 4096][random.below(2) as usize]);
        Crowd { random, disk, story: vec!["real threads: the plan is the seed's, the order is not".into()], summary: Summary::default() }
    }

    pub(super) fn summary(&self) -> Summary {
        self.summary.clone()
    }

    pub(super) fn story(&self) -> String {
        format!("{}\n{}", self.story.join("\n"), self.disk.trace())
    }

    pub(super) fn run(&mut self) {
        let threads = 2 + self.random.below(4);
        let mut sent: Vec<Vec<Sent>> = vec![Vec::new(); threads as usize];
        for _ in 0..1 + self.random.below(3) {
            self.disk = self.disk.clone().followed(self.random.one_in(2));
            let Ok(log) = Options::new().segment_bytes(64 << 10).open_in(self.disk.environment(self.random.next_u64()), "simulated") else {
                panic!("without a fault it opens");
            };
            self.summary.count("opened by threads");
            self.check(&log, &mut sent);
            if self.random.one_in(2) {
                let n = 1 + self.random.below(60);
                let fault = [Fault::Write(n), Fault::Sync(n), Fault::Full][self.random.below(3) as usize];
                self.story.push(format!("armed {fault:?}"));
                self.disk.inject(fault);
            }
            let seeds: Vec<u64> = (0..threads).map(|_| self.random.next_u64()).collect();
            std::thread::scope(|scope| {
                for ((thread, sent), seed) in (0..).zip(&mut sent).zip(seeds) {
                    let log = &log;
                    scope.spawn(move || work(log, thread, sent, seed));
                }
                let log = &log;
                scope.spawn(move || (0..20).for_each(|_| drop(look(log))));
                scope.spawn(move || (0..10).for_each(|_| pack(log)));
            });
            let closes = self.random.one_in(3);
            self.story.push(format!("closes: {closes}"));
            self.disk = if closes {
                drop(log);
                self.disk.snapshot()
            } else {
                self.summary.count("power cut");
                let left = self.disk.crash(self.random.next_u64());
                self.disk.unplug();
                drop(log);
                left
            };
        }
        let environment = self.disk.environment(self.random.next_u64());
        let log = Options::new().open_in(environment.clone(), "simulated").expect("without a fault it opens");
        self.check(&log, &mut sent);
        log.close().expect("nothing is wrong");
        let report = verify_in(&environment, std::path::Path::new("simulated"), &VerifyOptions { threads: 1, ..VerifyOptions::default() });
        assert_eq!(report.expect("nothing fails here").fault, None);
    }

    /// Each thread's requests are there in its order and whole, the acknowledged ones all of them, and nothing else.
    fn check(&mut self, log: &Log, sent: &mut [Vec<Sent>]) {
        let mut seen: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
        let view = log.latest();
        for (position, stored) in (1..).zip(view.events()) {
            let stored = stored.expect("what was just recovered can be read");
            let (thread, number, index) = place(stored.event_id());
            let expected = event(thread, number, index);
            assert_eq!(
                (stored.position().0, stored.body(), stored.stream().ok()),
                (position, Some(&expected.body[..]), Some(&*expected.stream))
            );
            seen.entry(thread).or_default().push((number, index));
        }
        for (thread, sent) in (0..).zip(sent) {
            let seen = seen.remove(&thread).unwrap_or_default();
            let mut rest = &seen[..];
            for (number, one) in (0..).zip(sent.iter_mut()) {
                let whole: Vec<(u64, u64)> = (0..one.events).map(|index| (number, index)).collect();
                if rest.first() == whole.first() {
                    assert!(rest.starts_with(&whole), "request {number} of thread {thread} is torn");
                    assert!(!one.is_refused, "request {number} of thread {thread} was refused and is there");
                    rest = &rest[whole.len()..];
                    one.is_durable = true;
                } else {
                    assert!(!one.is_durable, "request {number} of thread {thread} was acknowledged and is gone");
                    // What one recovery did not find never comes back.
                    one.is_refused = true;
                }
            }
            assert!(rest.is_empty(), "thread {thread}: invented or out of order: {rest:?}");
        }
        assert!(seen.is_empty(), "unknown threads: {seen:?}");
    }
}

/// One thread: hands in a few requests at a time and waits for them in some order.
fn work(log: &Log, thread: u64, sent: &mut Vec<Sent>, seed: u64) {
    let mut random = SimRandom::new(seed);
    for _ in 0..random.below(12) {
        let mut under_way = Vec::new();
        for _ in 0..1 + random.below(4) {
            let (number, events) = (sent.len() as u64, if random.one_in(3) { 1 + random.below(5) } else { 1 });
            let written = random.one_in(5);
            let mut batch: Vec<Event> = (0..events).map(|index| event(thread, number, index)).collect();
            if random.one_in(8) {
                // Somebody else will have moved the shared stream, most of the time.
                batch[0].expected = Expected::Exactly(Version(random.below(20)));
            }
            let request: chainring::Request = if events == 1 {
                batch.remove(0).into()
            } else if random.one_in(2) {
                let mut taken = log.write_batch();
                batch.iter().for_each(|event| taken.push(event).expect("it is within every limit"));
                taken.into()
            } else {
                batch.into()
            };
            let level = if written { Durability::Written } else { Durability::Durable };
            sent.push(Sent { events, is_durable: false, is_refused: false });
            under_way.push((number, written, log.submit(request.durability(level))));
        }
        while !under_way.is_empty() {
            let (number, written, pending) = under_way.remove(random.below(under_way.len() as u64) as usize);
            let one = &mut sent[number as usize];
            match pending.and_then(chainring::Pending::wait) {
                Ok(receipt) => {
                    assert_eq!(receipt.events.len() as u64, one.events);
                    one.is_durable = !written;
                }
                Err(AppendError::OutcomeUnknown(poison)) => assert!(poison.source.is_some(), "{poison}"),
                Err(_) => one.is_refused = true,
            }
        }
    }
}

/// Packs what was sealed meanwhile. A fault may forbid it, and harms nobody.
fn pack(log: &Log) {
    if let Ok(report) = log.pack() {
        assert!(report.failed.iter().all(|failure| !matches!(failure.error, PackError::Damaged(_))), "{report:?}");
    }
    std::thread::yield_now();
}

/// A reader beside the threads: versions without gaps, whatever the moment.
fn look(store: &Store) -> Arc<HashMap<String, u64>> {
    let mut versions: HashMap<String, u64> = HashMap::new();
    let view = store.latest();
    for event in view.events() {
        let event = event.expect("the live log can be read");
        let version = versions.entry(event.stream().expect("it has a name").to_owned()).or_default();
        *version += 1;
        assert_eq!(event.version().0, *version);
    }
    Arc::new(versions)
}
