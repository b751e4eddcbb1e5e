//! Acts out one history on one thread: clients whose steps the seed interleaves, faults, ends, and what is checked between two lives.

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chainring::disk::Environment;
use chainring::disk::sim::{Fault, SimClock, SimDisk, SimEntropy, SimRandom};
use chainring::{
    AppendError, AsOf, Durability, Event, EventId, Expected, FaultKind, Log, OpenError, Opened, Options, PackError, Pending, Position,
    Receipt, Store, Timestamp, Value, VerifyOptions, VerifyReport, Version, verify_in,
};

use super::model::{Asked, Excuses, Model, STOPS, found};
use super::{Canary, Summary, any_fault};

const START_NS: u64 = 1_700_000_000_000_000_000;
const HOUR_NS: u64 = 3_600_000_000_000;
/// Requests under way at once.
const FLIGHT_MAX: usize = 10;

/// A request that was handed in and not yet taken in by the model.
struct InFlight {
    asked: Asked,
    pending: Option<Pending>,
    result: Option<Result<Receipt, AppendError>>,
}

impl InFlight {
    fn poll(&mut self) {
        if let Some(mut pending) = self.pending.take() {
            match Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => self.result = Some(result),
                Poll::Pending => panic!("nobody else leads, so polling does"),
            }
        }
    }
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Close,
    Drop,
    Kill,
    Cut,
}

pub(super) struct Driver {
    random: SimRandom,
    canary: Canary,
    disk: SimDisk,
    clock: Arc<SimClock>,
    model: Model,
    excuses: Excuses,
    /// Every request so far, for retries.
    asked: Vec<Asked>,
    in_flight: VecDeque<InFlight>,
    streams: u64,
    /// Size of most bodies.
    body_bytes: u64,
    drawn: u64,
    opens: u64,
    epoch: u64,
    /// The store was opened once: from then on there is one.
    exists: bool,
    story: Vec<String>,
    summary: Summary,
}

impl Driver {
    pub(super) fn new(seed: u64, canary: Canary) -> Driver {
        let mut random = SimRandom::new(seed ^ 0x00C0_FFEE);
        let disk = SimDisk::new().with_seed(random.next_u64());
        Driver {
            streams: 1 + random.below(10),
            body_bytes: [40, 300, 2000, 6000][random.below(4) as usize],
            random,
            canary,
            disk,
            clock: Arc::new(SimClock::new(START_NS, 1000)),
            model: Model::default(),
            excuses: Excuses::default(),
            asked: Vec::new(),
            in_flight: VecDeque::new(),
            drawn: 0,
            opens: 0,
            epoch: 0,
            exists: false,
            story: Vec::new(),
            summary: Summary::default(),
        }
    }

    pub(super) fn summary(&self) -> Summary {
        self.summary.clone()
    }

    pub(super) fn story(&self) -> String {
        format!("{}\n{}", self.story.join("\n"), self.disk.trace())
    }

    fn tell(&mut self, text: String) {
        self.disk.note(&text);
        self.story.push(text);
    }

    pub(super) fn run(&mut self) {
        for _ in 0..1 + self.random.below(6) {
            self.live();
            self.look_between();
        }
        if self.random.one_in(6) {
            self.live_on_a_treacherous_drive();
        } else {
            self.last_open();
        }
    }

    fn environment(&mut self) -> Environment {
        self.opens += 1;
        Environment {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::clone(&self.clock) as Arc<dyn chainring::disk::Clock>,
            entropy: Arc::new(SimEntropy::new(self.random.next_u64())),
        }
    }

    fn arm(&mut self, within: u64) {
        let fault = any_fault(&mut self.random, within);
        self.story.push(format!("armed {fault:?}"));
        self.disk.inject(fault);
        self.excuses.fault = true;
    }

    fn heal(&mut self) {
        self.disk.heal();
        if self.canary == Canary::LyingDisk {
            self.disk.inject(Fault::Lie);
        }
    }

    /// Opens for writing, with sizes of the moment. `None` if a fault forbade it.
    fn open(&mut self) -> Option<Log> {
        let block_bytes = [512, 512, 512, 4096, 4096, 16384][self.random.below(6) as usize];
        let segment_bytes = [64 << 10, 64 << 10, 64 << 10, 100_000, 256 << 10][self.random.below(5) as usize];
        self.disk = self.disk.clone().with_block_bytes(block_bytes);
        // Commits one after the other; several in flight now and then; as many as there can be.
        self.disk = match self.random.below(4) {
            0 => self.disk.clone().without_queue(),
            1 => self.disk.clone().with_queue(8192),
            _ => self.disk.clone().with_queue(0),
        };
        self.disk = self.disk.clone().followed(self.random.one_in(3));
        let accept = self.random.one_in(4);
        let mut environment = self.environment();
        if self.random.one_in(40) {
            let entropy = SimEntropy::new(1);
            entropy.set_failing(true);
            environment.entropy = Arc::new(entropy);
            self.excuses.fault = true;
        }
        let mut options =
            Options::new().segment_bytes(segment_bytes).accept_clock_jump(accept).origin("simulated").remember(self.random.one_in(2));
        if self.model.durable() > 0 && self.random.one_in(3) {
            options = options.expect_at_least(self.model.remembered(self.random.below(self.model.durable() as u64) as usize));
        }
        if self.random.one_in(2) {
            // Heads of streams leave memory as soon as the index has them.
            options = options.heads_bytes_max(1);
        }
        match options.open_in(environment, "simulated") {
            Ok(log) => {
                self.opened(&log);
                Some(log)
            }
            Err(error) => {
                assert!(self.excuses.fault, "it cannot be opened: {error}");
                check_io_error(&error);
                self.tell(format!("not opened: {error}"));
                self.summary.count("open failed");
                None
            }
        }
    }

    /// What an open shows is what is there from now on.
    fn opened(&mut self, log: &Log) {
        let report = log.report().clone();
        assert_eq!(report.rollback, None, "nobody has put it back");
        let mut shown = found(log).unwrap_or_else(|error| {
            assert!(self.excuses.fault, "what was just recovered cannot be read: {error}");
            self.heal();
            found(log).expect("nothing fails any more")
        });
        self.tell(format!("opened: {:?}, epoch {}, {} events", report.opened, report.epoch, shown.len()));
        match self.canary {
            Canary::LostEvent => drop(shown.pop()),
            Canary::ChangedEvent if !shown.is_empty() => shown.last_mut().unwrap().spoil(),
            _ => {}
        }
        self.model.reconcile(&shown, false);
        self.model.revive();
        // An open that never got a commit to the device leaves no trace, and the next one has its number again.
        assert!(report.epoch >= self.epoch, "epoch {} after {}", report.epoch, self.epoch);
        assert!(!self.exists || report.opened != Opened::Created, "a second store was made");
        (self.exists, self.epoch) = (true, report.epoch);
        self.summary.count(&format!("opened {:?}", report.opened));
    }

    /// One life of a log: open, steps, end. Leaves the disk as the next life finds it.
    fn live(&mut self) {
        self.excuses = Excuses::default();
        self.heal();
        if self.random.one_in(4) {
            self.arm(60);
        }
        if self.random.one_in(8) {
            self.limit_space();
        }
        let log = self.open();
        let end = [End::Close, End::Drop, End::Kill, End::Cut, End::Cut][self.random.below(5) as usize];
        if let Some(log) = &log {
            for _ in 0..self.random.below(60) {
                self.step(log);
            }
            self.settle();
        }
        self.end(log, end);
    }

    fn limit_space(&mut self) {
        let bytes = self.disk.used_bytes() + self.random.below(800_000);
        self.story.push(format!("space is {bytes}"));
        self.disk.limit_space(Some(bytes));
        self.excuses.space = true;
        // Opening meets the full disk as a failing call.
        self.excuses.fault = true;
    }

    fn end(&mut self, log: Option<Log>, end: End) {
        self.tell(format!("the end: {end:?}"));
        let in_flight = self.disk.writes_under_way_max();
        match (log, end) {
            (Some(log), End::Close) => match log.close() {
                Ok(()) => {
                    self.settle();
                    assert!(self.in_flight.is_empty(), "closing answers everybody");
                    self.model.all_durable();
                }
                Err(error) => {
                    assert!(self.excuses.fault, "not closed: {error}");
                    self.settle();
                }
            },
            (Some(log), End::Drop) => {
                drop(log);
                self.settle();
                assert!(self.in_flight.is_empty(), "a log that is dropped answers everybody");
            }
            (log, _) => {
                let left = if end == End::Cut { self.cut() } else { self.disk.snapshot() };
                self.disk.unplug();
                drop(log);
                self.disk = left;
            }
        }
        if in_flight > 1 {
            self.summary.count("commits in flight");
        }
        if self.model.is_poisoned() {
            self.summary.count("poisoned");
        }
        // Whoever waits for an answer has died with the process.
        let excuses = self.excuses;
        for left in std::mem::take(&mut self.in_flight) {
            self.model.leave_undecided(left.asked, excuses);
        }
        if matches!(end, End::Close | End::Drop) {
            self.disk = if self.random.one_in(2) { self.cut() } else { self.disk.snapshot() };
        }
    }

    fn cut(&mut self) -> SimDisk {
        self.summary.count("power cut");
        self.disk.crash(self.random.next_u64())
    }

    /// One step of one client, of the world, or of the one who checks.
    fn step(&mut self, log: &Log) {
        match self.random.below(100) {
            0..50 => self.submit(log),
            50..64 => self.poll_one(),
            64..68 => self.wait_timeout(),
            68..72 => self.sync(log),
            72..74 => self.submit_and_forget(log),
            74..84 => self.look(log),
            84..87 => self.look_beside(),
            87..92 => self.change_the_clock(),
            92..94 => self.arm(40),
            94 => self.limit_space(),
            95 => {
                self.tell("healed".into());
                self.heal();
            }
            96 => self.pack(log),
            97..99 => self.tick(log),
            _ => self.settle(),
        }
    }

    fn submit(&mut self, log: &Log) {
        if self.in_flight.len() >= FLIGHT_MAX {
            return self.poll_one();
        }
        let asked = self.ask();
        self.asked.push(asked.clone());
        match log.submit(asked.request()) {
            Ok(pending) => self.in_flight.push_back(InFlight { asked, pending: Some(pending), result: None }),
            Err(error) => {
                // Requests that were handed in before, and wait for room in flight, are refused as well when their turn comes.
                self.in_flight.iter_mut().for_each(InFlight::poll);
                self.settle();
                assert!(self.in_flight.is_empty(), "refused before others were answered: {error}");
                self.answer(asked, Err(error));
            }
        }
    }

    /// Nobody keeps the receipt; what became of the request is found out by looking for its first event.
    fn submit_and_forget(&mut self, log: &Log) {
        self.submit(log);
        let Some(last) = self.in_flight.pop_back() else { return };
        if last.result.is_some() || last.pending.as_ref().is_some_and(Pending::is_done) {
            return self.in_flight.push_back(last);
        }
        drop(last.pending);
        let synced = log.sync();
        self.settle();
        match synced {
            Ok(()) => {
                assert!(self.in_flight.is_empty(), "a sync answers everybody");
                let id = last.asked.events[0].id.unwrap();
                if let Ok(position) = log.locate(id) {
                    self.model.forgotten(&last.asked, position, self.excuses);
                } else {
                    assert!(self.excuses.fault, "nothing was wrong");
                    self.model.leave_undecided(last.asked, self.excuses);
                }
            }
            Err(_) => {
                assert!(self.excuses.fault, "nothing was wrong");
                self.model.leave_undecided(last.asked, self.excuses);
            }
        }
    }

    fn poll_one(&mut self) {
        if !self.in_flight.is_empty() {
            let index = self.random.below(self.in_flight.len() as u64) as usize;
            self.in_flight[index].poll();
        }
        self.settle();
    }

    fn wait_timeout(&mut self) {
        if !self.in_flight.is_empty() {
            let index = self.random.below(self.in_flight.len() as u64) as usize;
            let flying = &mut self.in_flight[index];
            let was_done = flying.pending.as_ref().is_some_and(Pending::is_done);
            let at_most = if self.random.one_in(2) { Duration::ZERO } else { Duration::from_secs(1) };
            match flying.pending.take().map(|pending| pending.wait_timeout(at_most)) {
                Some(Ok(result)) => flying.result = Some(result),
                Some(Err(pending)) => {
                    assert!(!was_done && at_most.is_zero(), "time was not up");
                    flying.pending = Some(pending);
                }
                None => {}
            }
        }
        self.settle();
    }

    /// Takes in the answers that are there, in order.
    fn settle(&mut self) {
        while let Some(mut first) = self.in_flight.pop_front() {
            if first.result.is_none() && first.pending.as_ref().is_some_and(Pending::is_done) {
                first.result = first.pending.take().map(Pending::wait);
            }
            match first.result {
                Some(result) => self.answer(first.asked, result),
                None => {
                    let is_later_done = self.in_flight.iter().any(|later| later.result.is_some());
                    assert!(!is_later_done, "answered out of order");
                    return self.in_flight.push_front(first);
                }
            }
        }
    }

    fn answer(&mut self, asked: Asked, result: Result<Receipt, AppendError>) {
        self.summary.count(kind(&result));
        if let Err(error) = &result {
            self.disk.note(&format!("answered: {error}"));
        }
        self.model.answer(asked, result, self.excuses);
    }

    fn sync(&mut self, log: &Log) {
        let result = log.sync();
        self.settle();
        match result {
            Ok(()) => {
                assert!(self.in_flight.is_empty() && !self.model.is_poisoned(), "a sync answers everybody");
                self.model.all_durable();
            }
            Err(error) => assert!(self.excuses.fault, "nothing was wrong: {error}"),
        }
    }

    /// What nobody waits for is done: what was written is synced, the next segment is made ready, segments that have ended come into the index.
    fn tick(&mut self, log: &Log) {
        for _ in 0..=self.random.below(20) {
            log.tick();
        }
        self.summary.count("ticked");
        self.look(log);
    }

    /// Sealed segments are packed. Whatever becomes of that, the log shows what it showed.
    fn pack(&mut self, log: &Log) {
        match log.pack() {
            Ok(report) => {
                self.tell(format!("packed {}, {} bytes for {}", report.packed, report.bytes_after, report.bytes_before));
                (0..report.packed).for_each(|_| self.summary.count("packed"));
                for failure in &report.failed {
                    assert!(self.excuses.fault, "{} cannot be packed: {}", failure.segment, failure.error);
                    assert!(!matches!(failure.error, PackError::Damaged(_)), "a failing call is no damage: {}", failure.error);
                    self.summary.count("not packed");
                }
            }
            Err(error) => assert!(self.excuses.fault && matches!(error, AppendError::Poisoned(_)), "{error}"),
        }
        self.look(log);
    }

    /// The log itself, and a random view of it.
    fn look(&mut self, log: &Log) {
        self.settle();
        match found(log) {
            Ok(shown) => self.model.check_log(&shown),
            Err(error) => return assert!(self.excuses.fault, "it cannot be read: {error}"),
        }
        let end = log.latest().end().0;
        if end <= 1 || self.excuses.fault {
            return;
        }
        let random = &mut self.random;
        let (recorded_at_ns, id) = self.model.event_at(random.below(end - 1) as usize);
        let moment = match random.below(6) {
            0 => AsOf::Latest,
            1 => AsOf::Position(Position(random.below(end + 3))),
            2 => AsOf::Event(id),
            3 => AsOf::Version(Version(random.below(9))),
            4 => AsOf::RecordedAt(recorded_at_ns - random.below(2)),
            _ => AsOf::OccurredAt(Timestamp { seconds: random.below(100) as i64, nanoseconds: 0 }),
        };
        let stream = format!("s{}", random.below(self.streams));
        let from = random.below(6);
        self.model.check_view(log, moment, &stream, from);
    }

    /// A reader in another process, beside the writer.
    fn look_beside(&mut self) {
        self.settle();
        let environment = self.environment();
        match Store::open_in(&environment, Path::new("simulated")).map(|store| found(&store)) {
            Ok(Ok(shown)) => self.model.peek(&shown, false),
            Ok(Err(error)) => assert!(self.excuses.fault, "beside: {error}"),
            Err(error) => {
                assert!(self.excuses.fault, "beside: {error}");
                check_io_error(&error);
            }
        }
    }

    fn change_the_clock(&mut self) {
        let now = self.clock.now_ns();
        let by = self.random.below(2 * HOUR_NS);
        match self.random.below(4) {
            0 => self.clock.advance(by),
            1 => self.clock.step_to(now - by),
            2 => self.clock.step_to(now + by / 4),
            _ => self.clock.step_to(now + by + 30 * 24 * HOUR_NS),
        }
        self.tell(format!("the clock went from {now} to {}", self.clock.now_ns()));
        // A step back makes the way forward again a jump as well.
        self.excuses.clock = true;
    }

    fn event(&mut self) -> Event {
        self.drawn += 1;
        let random = &mut self.random;
        let mut id = [7; 16];
        id[..8].copy_from_slice(&self.drawn.to_be_bytes());
        let bytes = match random.below(40) {
            0 => 20_000 + random.below(40_000),
            1..8 => 0,
            _ => random.below(self.body_bytes),
        };
        let fill = random.next_u64() as u8;
        // Zeros in bodies look like what was not written.
        let body: Vec<u8> = (0..bytes).map(|at| if fill.is_multiple_of(5) { 0 } else { fill.wrapping_add(at as u8) }).collect();
        let stream = format!("s{}", random.below(self.streams));
        let mut event = Event::new(stream, ["Placed", "Paid", "Sent"][random.below(3) as usize]).id(EventId(id)).body(body);
        event.salted = !random.one_in(5);
        if random.one_in(3) {
            event = event.occurred_at(Timestamp { seconds: random.below(100) as i64, nanoseconds: 0 });
        }
        if random.one_in(4) {
            event = event.actor("agent:a").on_behalf_of("user:u");
        }
        event
    }

    /// What a client expects of a stream it has looked at, or not.
    fn expected(&mut self, stream: &str) -> Expected {
        let version = self.model.version(stream);
        match self.random.below(20) {
            0 => Expected::NoStream,
            1 => Expected::Exactly(Version(version + 1)),
            2..7 => Expected::Exactly(Version(version)),
            _ => Expected::Any,
        }
    }

    /// The next request of some client: new, or one again.
    fn ask(&mut self) -> Asked {
        if !self.asked.is_empty() && self.random.one_in(7) {
            return self.ask_again();
        }
        if self.random.one_in(20) {
            return self.ask_to_freeze();
        }
        let count = match self.random.below(60) {
            0..36 => 1,
            36..58 => 1 + self.random.below(6),
            // More than a segment holds.
            _ => 40,
        };
        let batch = count > 1 || self.random.one_in(10);
        let mut events: Vec<Event> = (0..count).map(|_| self.event()).collect();
        if count == 40 {
            events.iter_mut().for_each(|event| event.body = vec![event.body.len() as u8; 2500]);
        }
        for event in &mut events {
            event.expected = if count == 40 { Expected::Any } else { self.expected(&event.stream) };
        }
        let gates = if self.random.one_in(5) { 1 + self.random.below(2) } else { 0 };
        let required = (0..gates)
            .map(|_| {
                let stream = format!("s{}", self.random.below(self.streams + 1));
                let expected = self.expected(&stream);
                (stream, expected)
            })
            .collect();
        let level = if self.random.one_in(4) { Durability::Written } else { Durability::Durable };
        Asked { events: events.into_iter().map(Arc::new).collect(), batch, required, level }
    }

    /// Some streams are frozen, mostly none: what was frozen before goes on.
    fn ask_to_freeze(&mut self) -> Asked {
        let mut event = self.event();
        STOPS.clone_into(&mut event.stream);
        event.expected = Expected::Any;
        let frozen = if self.random.one_in(3) { self.random.below(3) } else { 0 };
        let texts = (0..frozen).map(|_| Value::text(format!("streams s{}", self.random.below(self.streams)))).collect();
        event.metadata.attributes = vec![("stops".to_owned(), Value::Map(vec![(Value::text("frozen"), Value::Array(texts))]))];
        let level = if self.random.one_in(2) { Durability::Written } else { Durability::Durable };
        Asked { events: vec![Arc::new(event)], batch: false, required: Vec::new(), level }
    }

    /// A retry: the same, or with the same ids and something else.
    fn ask_again(&mut self) -> Asked {
        let near = (self.asked.len() as u64).min(12);
        let index = if self.random.one_in(2) {
            self.asked.len() as u64 - 1 - self.random.below(near)
        } else {
            self.random.below(self.asked.len() as u64)
        };
        let mut asked = self.asked[index as usize].clone();
        match self.random.below(10) {
            0 => Arc::make_mut(&mut asked.events[0]).body.push(1),
            1 => asked.batch = true,
            2 => {
                asked.events.truncate(1);
                asked.batch = false;
            }
            3 => {
                let other = self.event();
                asked.events.push(Arc::new(other));
                asked.batch = true;
            }
            4 => asked.events.reverse(),
            _ => {}
        }
        asked
    }

    /// What must hold of a store that nobody has open.
    fn look_between(&mut self) {
        if self.random.one_in(2) {
            self.check_at_rest();
        }
        if self.random.one_in(5) {
            self.damage_a_copy();
        }
        for _ in 0..3 {
            if !self.random.one_in(4) {
                break;
            }
            self.interrupt_recovery();
        }
    }

    /// Whether there may be no store: it was never opened.
    fn is_absence_fine(&self, error: &OpenError) -> bool {
        !self.exists && matches!(error, OpenError::NotAStore { .. })
    }

    /// A reader, verification, and now and then the independent reader must agree with the model and with each other.
    fn check_at_rest(&mut self) {
        let environment = self.environment();
        let store = match Store::open_in(&environment, Path::new("simulated")) {
            Ok(store) => store,
            Err(error) => return assert!(self.is_absence_fine(&error), "a reader is refused: {error}"),
        };
        let shown = found(&store).expect("nothing fails here");
        self.model.peek(&shown, false);
        let report = verify(&environment).expect("nothing fails here");
        let is_torn = store.report().opened == Opened::Torn;
        let kind = report.fault.as_ref().map(|fault| fault.kind);
        assert_eq!(kind, is_torn.then_some(FaultKind::Torn), "{:?}", report.fault);
        assert_eq!(report.events, shown.len() as u64);
        // Whoever has seen more than there is must be told.
        let unseen = Position(shown.len() as u64 + 1);
        match Options::new().segment_bytes(64 << 10).expect_at_least(unseen).open_in(self.disk.snapshot().environment(1), "simulated") {
            Err(OpenError::Damaged(fault)) if fault.kind == FaultKind::RollbackSuspected => {}
            other => panic!("position {unseen} was expected, and nobody minds: {:?}", other.map(|log| log.report().clone())),
        }
        if self.random.one_in(8) {
            self.compare_with_second_reader(&self.disk.clone(), &report);
        }
    }

    fn compare_with_second_reader(&mut self, disk: &SimDisk, report: &VerifyReport) {
        self.summary.count("second reader");
        let directory = tempfile::tempdir().expect("a temporary directory");
        disk.save(directory.path()).expect("a temporary directory is writable");
        let options = chainring_reader::Options { threads: 1, patience: Duration::ZERO };
        let second = chainring_reader::verify(directory.path(), &options).expect("a store is there");
        // The mark beside the store is known to the engine alone.
        let of_the_store = report.fault.as_ref().filter(|fault| fault.rule != "R4");
        let ours = of_the_store.map(|fault| (fault.kind.to_string(), fault.segment.clone(), fault.offset));
        let theirs = second.fault.as_ref().map(|fault| (fault.kind.to_string(), fault.segment.clone(), fault.offset));
        assert_eq!((report.records, report.events, ours), (second.records, second.events, theirs), "the two readers disagree");
    }

    /// A bit flips, or a sector cannot be read: what is shown is right, or there is an error.
    fn damage_a_copy(&mut self) {
        self.summary.count("damaged copy");
        let copy = self.disk.snapshot();
        let seed = self.random.next_u64();
        let Some((name, offset)) = copy.flip_somewhere(seed) else { return };
        let is_flip = self.random.one_in(2);
        if !is_flip {
            // The same place, whole again, but unreadable.
            let sector = offset / 512 * 512;
            copy.overwrite(&name, self.disk.content(&name).expect("it was copied"));
            copy.make_unreadable(&name, sector..sector + 512);
        }
        self.tell(format!("a copy: {name}, offset {offset}, {}", if is_flip { "a bit flips" } else { "cannot be read" }));
        let environment = Environment { disk: Arc::new(copy.clone()), ..self.environment() };
        let report = verify(&environment);
        if let Err(error) = &report {
            assert!(matches!(error, OpenError::Io { .. } | OpenError::Read { .. }) || self.is_absence_fine(error), "{error}");
        }
        if self.random.one_in(3) {
            let is_whole = report.as_ref().is_ok_and(VerifyReport::is_ok);
            self.salvage(&environment, is_whole);
        }
        let check = |store: &Store, who: &str| {
            let Ok(shown) = found(store) else { return };
            // Damage to the last commit, which no later one vouches for, may pass for a torn write where a whole sector is zero; then it is said.
            let is_said = store.report().opened == Opened::Torn;
            assert!(
                shown.len() >= self.model.durable() || is_said,
                "{who}: only {} of {} events, silently",
                shown.len(),
                self.model.durable()
            );
            self.model.peek(&shown, is_said);
        };
        if let Ok(store) = Store::open_in(&environment, Path::new("simulated")) {
            check(&store, "a reader");
        }
        if let Ok(log) = Options::new().segment_bytes(64 << 10).open_in(environment.clone(), "simulated") {
            check(&log, "a writer");
        }
        if let (true, Ok(report)) = (is_flip && self.random.one_in(4), report) {
            let copy = self.disk.snapshot();
            copy.flip_somewhere(seed);
            self.compare_with_second_reader(&copy, &report);
        }
    }

    /// What is salvaged of a store is part of what was there; of a store in which nothing is wrong, all of what a reader is shown.
    fn salvage(&mut self, environment: &Environment, is_whole: bool) {
        let salvage = match Log::open_salvage_in(environment, Path::new("simulated")) {
            Ok(salvage) => salvage,
            Err(error) => return assert!(matches!(error, OpenError::NotAStore { .. }), "salvage gave up: {error}"),
        };
        let new = SimDisk::new().environment(self.random.next_u64());
        let copied = salvage.copy_to(&new, Path::new("salvaged"), None);
        if let Err(error) = copied {
            panic!("what was found cannot be copied: {error}\n{:?}", salvage.manifest());
        }
        let store = Store::open_in(&new, Path::new("salvaged")).expect("a new store");
        let salvaged = found(&store).expect("nothing fails there");
        self.summary.count("salvaged");
        let manifest = salvage.manifest();
        self.story.push(format!("salvaged {}: {:?}, not placed {:?}", salvaged.len(), manifest.damage, manifest.unplaced));
        // Records whose positions nothing proves may stand where they did not; the manifest lists them.
        let is_ordered = manifest.unplaced.is_empty();
        self.model.check_salvaged(&salvaged, is_ordered);
        assert!(!is_whole || salvaged.len() >= self.model.durable(), "only {} of {} events", salvaged.len(), self.model.durable());
    }

    /// Recovery that fails somewhere, and then a cut, or not.
    fn interrupt_recovery(&mut self) {
        self.excuses = Excuses { fault: true, ..Excuses::default() };
        self.heal();
        self.arm(30);
        let environment = self.environment();
        match Options::new().segment_bytes(64 << 10).open_in(environment, "simulated") {
            Ok(log) => {
                let shown = found(&log);
                if let Ok(shown) = shown {
                    self.model.peek(&shown, false);
                }
                (self.exists, self.epoch) = (true, log.report().epoch);
                drop(log);
            }
            Err(error) => check_io_error(&error),
        }
        self.disk = if self.random.one_in(2) { self.cut() } else { self.disk.snapshot() };
    }

    /// Everything is healed: the store opens, goes on, closes and verifies.
    fn last_open(&mut self) {
        self.excuses = Excuses::default();
        self.heal();
        self.tell("the last life".into());
        let log = loop {
            // Only randomness may fail.
            if let Some(log) = self.open() {
                break log;
            }
        };
        self.excuses = Excuses::default();
        let asked = Asked { events: vec![Arc::new(self.event())], batch: false, required: Vec::new(), level: Durability::Durable };
        self.excuses.clock = true;
        let result = log.append(asked.request());
        self.answer(asked, result);
        log.close().expect("nothing is wrong");
        self.model.all_durable();
        let environment = self.environment();
        let report = verify(&environment).expect("nothing fails here");
        assert_eq!((&report.fault, report.events), (&None, self.model.events() as u64));
        let store = Store::open_in(&environment, Path::new("simulated")).expect("a closed store");
        self.model.reconcile(&found(&store).expect("nothing fails here"), false);
        assert_eq!(store.report().opened, Opened::Clean);
        if self.random.one_in(20) {
            self.compare_with_second_reader(&self.disk.clone(), &report);
        }
    }

    /// A drive that lies, or writes to wrong places: what it took may be gone from the end, or is found out; nothing is invented or changed.
    fn live_on_a_treacherous_drive(&mut self) {
        self.excuses = Excuses::default();
        self.heal();
        let Some(log) = self.open() else { return };
        let fault = if self.random.one_in(2) { Fault::Lie } else { Fault::Misdirect(1 + self.random.below(12)) };
        self.tell(format!("treacherous: {fault:?}"));
        self.disk.inject(fault);
        for _ in 0..self.random.below(40) {
            match self.random.below(20) {
                0..2 => self.sync(&log),
                // What a treacherous drive makes of it is found out later, or told at once.
                2 => drop(log.pack()),
                3..8 => self.poll_one(),
                _ => self.submit(&log),
            }
        }
        let end = [End::Close, End::Kill, End::Cut][self.random.below(3) as usize];
        self.excuses.fault = true;
        self.end(Some(log), end);
        self.disk = self.cut();
        let environment = self.environment();
        match verify(&environment) {
            Ok(report) if self.random.one_in(3) => self.compare_with_second_reader(&self.disk.clone(), &report),
            Ok(_) | Err(OpenError::Io { .. } | OpenError::Read { .. } | OpenError::NotAStore { .. }) => {}
            Err(error) => panic!("verification gave up: {error}"),
        }
        self.salvage(&environment, false);
        let opened = Options::new().segment_bytes(64 << 10).open_in(environment, "simulated");
        self.tell(format!("after treason: {:?}", opened.as_ref().map(|log| log.report().clone())));
        self.summary.count(if opened.is_ok() { "treason unseen" } else { "treason found" });
        match opened {
            Ok(log) => match found(&log) {
                Ok(shown) => self.model.reconcile(&shown, true),
                Err(error) => self.tell(format!("after treason: {error}")),
            },
            Err(OpenError::Damaged(_)) => {}
            Err(error) => panic!("what a drive did is damage, not: {error}"),
        }
    }
}

/// An answer in a word.
fn kind(result: &Result<Receipt, AppendError>) -> &'static str {
    match result {
        Ok(receipt) if receipt.duplicate => "answer duplicate",
        Ok(receipt) if receipt.durability == Durability::Written => "answer written",
        Ok(_) => "answer durable",
        Err(AppendError::Refused(_)) => "answer refused",
        Err(AppendError::Barred(_)) => "answer barred",
        Err(AppendError::IdConflict { .. }) => "answer id conflict",
        Err(AppendError::PartlyKnown { .. }) => "answer partly known",
        Err(AppendError::OutcomeUnknown(_)) => "answer unknown",
        Err(AppendError::Poisoned(_)) => "answer poisoned",
        Err(AppendError::NoSpace(_)) => "answer no space",
        Err(AppendError::NoSegment(_)) => "answer no segment",
        Err(AppendError::ClockJump { .. }) => "answer clock jump",
        Err(AppendError::TooLate { .. }) => "answer too late",
        Err(AppendError::Read(_)) => "answer unreadable",
        Err(_) => "answer other",
    }
}

fn verify(environment: &Environment) -> Result<VerifyReport, OpenError> {
    verify_in(environment, Path::new("simulated"), &VerifyOptions { threads: 1, ..VerifyOptions::default() })
}

/// An error of opening under a fault: the device's, and what was being done.
fn check_io_error(error: &OpenError) {
    match error {
        OpenError::Io { doing, source } => assert!(!doing.is_empty() && source.raw_os_error().is_some(), "{error}"),
        OpenError::Read { segment, source, .. } => {
            assert!(segment.ends_with(".seg") && source.raw_os_error().is_some(), "{error}");
        }
        other => panic!("a failing call is no {other:?}"),
    }
}
