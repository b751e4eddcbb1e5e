//! What a log should hold and answer, told in the plainest way: a list of events and what is known of each request.
//!
//! Knows nothing of files, commits or groups. Requests are judged in the order in which they were handed in; every answer of the engine must be the
//! one the model gives. What was handed in and not answered waits as undecided, until an open shows what became of it.
//! A broken rule panics, with the reason.

use std::collections::HashMap;
use std::sync::Arc;

use chainring::{
    AppendError, AsOf, Bar, Conflict, Durability, Event, EventId, EventRef, Expected, Link, Position, ReadError, Receipt, Remembered,
    Request, Store, Value, Version,
};
use chainring_format::hash::stream_id;

/// The stream whose newest event says what is frozen.
pub(super) const STOPS: &str = "$stops";

/// A request as its client made it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) events: Vec<Arc<Event>>,
    pub(super) batch: bool,
    pub(super) required: Vec<(String, Expected)>,
    pub(super) level: Durability,
}

impl Asked {
    pub(super) fn request(&self) -> Request {
        let mut events: Vec<Event> = self.events.iter().map(|event| Event::clone(event)).collect();
        let request: Request = if self.batch { events.into() } else { events.remove(0).into() };
        let required = self.required.iter();
        required.fold(request.durability(self.level), |request, (stream, expected)| request.require(stream.clone(), *expected))
    }
}

/// What may go wrong at the moment, so that an answer saying so is believed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Excuses {
    /// A call to the disk may fail.
    pub(super) fault: bool,
    /// Space may run out.
    pub(super) space: bool,
    /// The clock jumped ahead.
    pub(super) clock: bool,
}

/// An event of the log.
#[derive(Debug, Clone)]
struct Row {
    event: Arc<Event>,
    version: u64,
    batch: Option<(u32, u32)>,
    /// Where the engine has told.
    link: Option<Link>,
    recorded_at_ns: Option<u64>,
    /// Last event of its request.
    is_last: bool,
}

/// An event as a store shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    position: u64,
    stream: String,
    version: u64,
    id: EventId,
    event_type: String,
    body: Vec<u8>,
    batch: Option<(u32, u32)>,
    link: Link,
    recorded_at_ns: u64,
}

/// Every event of a store; the first thing that cannot be read ends it.
pub(super) fn found(store: &Store) -> Result<Vec<Found>, ReadError> {
    let one = |event: Result<EventRef<'_>, ReadError>| {
        let event = event?;
        Ok(Found {
            position: event.position().0,
            stream: event.stream()?.to_owned(),
            version: event.version().0,
            id: event.event_id(),
            event_type: event.event_type().to_owned(),
            body: event.body().expect("nothing is erased here").to_vec(),
            batch: event.batch(),
            link: event.link(),
            recorded_at_ns: event.recorded_at_ns(),
        })
    };
    store.latest().events().map(one).collect()
}

/// What the model says of a request at its turn.
#[derive(Debug, PartialEq)]
enum Verdict {
    Append,
    /// Rows that are this request.
    Duplicate(Vec<usize>),
    IdConflict(EventId, usize),
    PartlyKnown(usize, usize),
    Refused(Vec<Conflict>),
    Barred(Vec<Bar>),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    rows: Vec<Row>,
    /// Rows that can never go.
    durable: usize,
    heads: HashMap<String, u64>,
    ids: HashMap<EventId, usize>,
    /// Handed in and not answered, or answered with nobody knows; in order. Whether it may have been refused for want of space or time.
    undecided: Vec<(Asked, bool)>,
    is_poisoned: bool,
}

impl Model {
    pub(super) fn events(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn durable(&self) -> usize {
        self.durable
    }

    pub(super) fn version(&self, stream: &str) -> u64 {
        self.heads.get(stream).copied().unwrap_or(0)
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.is_poisoned
    }

    /// A new life begins.
    pub(super) fn revive(&mut self) {
        self.is_poisoned = false;
    }

    /// Everything that is known to be in the log became durable.
    pub(super) fn all_durable(&mut self) {
        self.durable = self.rows.len();
    }

    /// No answer will come any more.
    pub(super) fn leave_undecided(&mut self, asked: Asked, excuses: Excuses) {
        self.undecided.push((asked, excuses.space || excuses.clock || excuses.fault));
    }

    fn judge(&self, asked: &Asked) -> Verdict {
        let known: Vec<Option<usize>> = asked.events.iter().map(|event| self.ids.get(&event.id.unwrap()).copied()).collect();
        let rows: Vec<usize> = known.iter().copied().flatten().collect();
        let partly = Verdict::PartlyKnown(rows.len(), known.len());
        if !rows.is_empty() {
            if rows.len() < known.len() {
                return partly;
            }
            for (index, (event, &row)) in asked.events.iter().zip(&rows).enumerate() {
                let stored = &self.rows[row];
                let is_same =
                    (&event.stream, &event.metadata, &event.body) == (&stored.event.stream, &stored.event.metadata, &stored.event.body);
                if !is_same {
                    return Verdict::IdConflict(event.id.unwrap(), row);
                }
                if stored.batch != batch_place(asked, index) || row != rows[0] + index {
                    return partly;
                }
            }
            return Verdict::Duplicate(rows);
        }
        let mut conflicts = Vec::new();
        let mut check = |stream: &String, expected: Expected, found: u64| {
            let holds = match expected {
                Expected::Any => true,
                Expected::NoStream => found == 0,
                Expected::Exactly(version) => version.0 == found,
            };
            if !holds {
                conflicts.push(Conflict { stream: stream.clone(), expected, found: Version(found) });
            }
        };
        asked.required.iter().for_each(|(stream, expected)| check(stream, *expected, self.version(stream)));
        let mut moved: HashMap<&str, u64> = HashMap::new();
        for event in &asked.events {
            let version = moved.entry(&event.stream).or_insert_with(|| self.version(&event.stream));
            check(&event.stream, event.expected, *version);
            *version += 1;
        }
        let is_hit = |prefix: &String| asked.events.iter().any(|event| event.stream != STOPS && event.stream.starts_with(prefix.as_str()));
        let bars: Vec<Bar> =
            self.frozen().into_iter().filter(is_hit).map(|prefix| Bar::Frozen { what: format!("streams {prefix}") }).collect();
        match (conflicts.is_empty(), bars.is_empty()) {
            (false, _) => Verdict::Refused(conflicts),
            (true, false) => Verdict::Barred(bars),
            (true, true) => Verdict::Append,
        }
    }

    /// Prefixes of streams that nothing is appended to: what the newest event that says so says.
    fn frozen(&self) -> Vec<String> {
        if self.version(STOPS) == 0 {
            return Vec::new();
        }
        let newest = self.rows.iter().rev().find(|row| row.event.stream == STOPS).expect("it has a version");
        let Some((_, Value::Map(said))) = newest.event.metadata.attributes.first() else { return Vec::new() };
        let Some((_, Value::Array(texts))) = said.first() else { return Vec::new() };
        let prefix = |text: &Value| match text {
            Value::Text(text) => text.strip_prefix("streams ").expect("only streams are frozen here").to_owned(),
            other => panic!("no text: {other:?}"),
        };
        texts.iter().map(prefix).collect()
    }

    /// Takes in the answer to a request; it must be the right one.
    pub(super) fn answer(&mut self, asked: Asked, result: Result<Receipt, AppendError>, excuses: Excuses) {
        let verdict = self.judge(&asked);
        match result {
            Ok(receipt) => {
                assert!(!self.is_poisoned || receipt.duplicate, "appended after an unknown outcome: {receipt:?}");
                assert_eq!(receipt.durability, asked.level);
                self.answered_ok(&asked, &receipt, verdict);
            }
            Err(AppendError::Refused(conflicts)) => self.told(&verdict, &Verdict::Refused(conflicts)),
            Err(AppendError::Barred(bars)) => self.told(&verdict, &Verdict::Barred(bars)),
            Err(AppendError::IdConflict { id, position }) => self.told(&verdict, &Verdict::IdConflict(id, position.0 as usize - 1)),
            Err(AppendError::PartlyKnown { known, of }) => self.told(&verdict, &Verdict::PartlyKnown(known, of)),
            Err(AppendError::OutcomeUnknown(poison)) => {
                assert!(excuses.fault, "nothing was wrong: {poison}");
                assert!(poison.source.is_some(), "the leader panicked: {poison}");
                self.is_poisoned = true;
                self.leave_undecided(asked, excuses);
            }
            Err(AppendError::Poisoned(poison)) => {
                assert!(excuses.fault && poison.source.is_some(), "nothing was wrong: {poison}");
                self.is_poisoned = true;
            }
            Err(error @ AppendError::NoSpace(_)) => assert!(excuses.space || excuses.fault, "there is space: {error}"),
            Err(error @ AppendError::ClockJump { .. }) => assert!(excuses.clock, "no jump: {error}"),
            Err(
                error @ (AppendError::StreamIdCollision { .. }
                | AppendError::Invalid { .. }
                | AppendError::Closed
                | AppendError::ForkedHandle),
            ) => panic!("no reason for: {error}"),
            // Refused because the device failed before anything was promised.
            Err(error) => assert!(excuses.fault, "nothing was wrong: {error}"),
        }
    }

    fn answered_ok(&mut self, asked: &Asked, receipt: &Receipt, verdict: Verdict) {
        match verdict {
            Verdict::Duplicate(rows) => {
                assert!(receipt.duplicate, "done twice: {receipt:?}");
                for (told, row) in receipt.events.iter().zip(&rows) {
                    let stored = &mut self.rows[*row];
                    assert_eq!((told.position.0 as usize, told.version.0), (row + 1, stored.version), "a duplicate stands elsewhere");
                    assert_eq!(*stored.link.get_or_insert(told.link), told.link, "a duplicate has another link");
                }
                self.all_durable();
            }
            Verdict::Append => {
                assert!(!receipt.duplicate, "never done before: {receipt:?}");
                assert_eq!(receipt.events.len(), asked.events.len());
                let first = self.rows.len();
                self.push(asked);
                for (row, told) in (first..).zip(&receipt.events) {
                    let stored = &mut self.rows[row];
                    assert_eq!((told.position.0 as usize, told.version.0), (row + 1, stored.version), "an event got the wrong place");
                    stored.link = Some(told.link);
                }
                if asked.level == Durability::Durable {
                    self.all_durable();
                }
            }
            verdict => panic!("appended, but {verdict:?}"),
        }
    }

    /// An answer that tells of heads leaves only when they are durable.
    fn told(&mut self, expected: &Verdict, told: &Verdict) {
        assert_eq!(told, expected, "the wrong refusal");
        self.all_durable();
    }

    fn push(&mut self, asked: &Asked) {
        for (index, event) in asked.events.iter().enumerate() {
            let version = self.heads.entry(event.stream.clone()).or_default();
            *version += 1;
            let before = self.ids.insert(event.id.unwrap(), self.rows.len());
            assert!(before.is_none());
            self.rows.push(Row {
                event: Arc::clone(event),
                version: *version,
                batch: batch_place(asked, index),
                link: None,
                recorded_at_ns: None,
                is_last: index + 1 == asked.events.len(),
            });
        }
    }

    fn truncate(&mut self, events: usize) {
        self.rows.truncate(events);
        (self.heads, self.ids) = (HashMap::new(), HashMap::new());
        for (index, row) in self.rows.iter().enumerate() {
            *self.heads.entry(row.event.stream.clone()).or_default() += 1;
            self.ids.insert(row.event.id.unwrap(), index);
        }
    }

    /// Takes in what a store shows: it must be what may have become of what was handed in. What is undecided is decided by it.
    ///
    /// `may_lose` is for a drive that has lied: then even what was acknowledged may be gone from the end.
    pub(super) fn reconcile(&mut self, found: &[Found], may_lose: bool) {
        assert!(found.len() >= self.durable || may_lose, "{} of {} acknowledged events are gone", self.durable - found.len(), self.durable);
        for (index, event) in found.iter().enumerate().take(self.rows.len()) {
            self.compare(index, event);
        }
        let undecided = std::mem::take(&mut self.undecided);
        if found.len() < self.rows.len() {
            let is_whole = found.len().checked_sub(1).is_none_or(|last| self.rows[last].is_last);
            assert!(is_whole, "a batch was torn at event {}", found.len());
            self.truncate(found.len());
        } else {
            let mut hole: Option<EventId> = None;
            for (asked, may_be_refused) in &undecided {
                let at = self.rows.len();
                let would_append = self.judge(asked) == Verdict::Append;
                let is_there = found.get(at).map(|event| event.id) == asked.events[0].id;
                if is_there && would_append {
                    assert_eq!(hole, None, "before event {at} something is missing");
                    self.push(asked);
                    assert!(found.len() >= self.rows.len(), "a batch was torn at event {}", found.len());
                    (at..self.rows.len()).for_each(|index| self.compare(index, &found[index]));
                } else if would_append && !may_be_refused {
                    hole = hole.or(asked.events[0].id);
                }
            }
            assert_eq!(found.len(), self.rows.len(), "something was invented: {:?}", found.get(self.rows.len()));
        }
        self.durable = self.rows.len();
    }

    /// An event of a store against the row at its place.
    fn compare(&mut self, index: usize, found: &Found) {
        let row = &mut self.rows[index];
        let event = &row.event;
        assert_eq!((found.position, found.id), (index as u64 + 1, event.id.unwrap()), "another event stands at {index}");
        assert_eq!((&found.stream, found.version, found.batch), (&event.stream, row.version, row.batch), "event {index}");
        assert!(found.event_type == event.metadata.event_type && found.body == event.body, "event {index} has other content");
        assert_eq!(*row.link.get_or_insert(found.link), found.link, "event {index} has another link");
        assert_eq!(
            *row.recorded_at_ns.get_or_insert(found.recorded_at_ns),
            found.recorded_at_ns,
            "event {index} was recorded at another time"
        );
        let before = index.checked_sub(1).and_then(|before| self.rows[before].recorded_at_ns);
        assert!(before.is_none_or(|before| before <= found.recorded_at_ns), "recorded time runs backwards at event {index}");
    }

    /// A store that may be younger or older than what is known: what it shows must be what may be there.
    pub(super) fn peek(&self, found: &[Found], may_lose: bool) {
        self.clone().reconcile(found, may_lose);
    }

    /// What a log shows while it is open: the beginning of what is known, everything durable included.
    pub(super) fn check_log(&mut self, found: &[Found]) {
        assert!(found.len() >= self.durable, "{} of {} durable events cannot be read", self.durable - found.len(), self.durable);
        assert!(found.len() <= self.rows.len(), "something is shown that nobody was told of: {:?}", found.get(self.rows.len()));
        found.iter().enumerate().for_each(|(index, event)| self.compare(index, event));
    }

    /// Compares a view with the filtered list. Everything is settled and the log's recorded times are known to the model.
    pub(super) fn check_view(&self, store: &Store, moment: AsOf, stream: &str, from: u64) {
        let end = store.latest().end().0 as usize;
        let is_shown = |index: usize, row: &Row| match moment {
            AsOf::Latest => true,
            AsOf::Position(position) => (index as u64) < position.0,
            AsOf::Event(id) => self.ids.get(&id).is_some_and(|&last| index <= last),
            AsOf::Version(version) => row.version <= version.0,
            AsOf::RecordedAt(time_ns) => row.recorded_at_ns.is_some_and(|recorded| recorded <= time_ns),
            AsOf::OccurredAt(time) => row.event.metadata.occurred_at.is_some_and(|occurred| occurred <= time),
        };
        let rows = self.rows[..end - 1].iter().enumerate();
        let expected: Vec<(usize, &Row)> = rows.filter(|(index, row)| is_shown(*index, row)).collect();
        let view = match store.at(moment) {
            Ok(view) => view,
            Err(ReadError::NotFound { .. }) if matches!(moment, AsOf::Event(_)) => return assert!(expected.is_empty(), "{moment:?}"),
            Err(error) => panic!("{moment:?}: {error}"),
        };
        let shown: Vec<usize> = view.events().map(|event| event.unwrap().position().0 as usize - 1).collect();
        assert_eq!(shown, expected.iter().map(|(index, _)| *index).collect::<Vec<_>>(), "{moment:?}");
        let own: Vec<u64> = expected.iter().filter(|(_, row)| row.event.stream == stream).map(|(_, row)| row.version).collect();
        let streams = view.streams().unwrap();
        let listed = streams.iter().find(|(name, _)| *name == stream).map(|(_, version)| version.0);
        assert_eq!(listed, own.last().copied(), "{moment:?}: {stream}");
        let Some(shown) = view.stream(stream).unwrap() else { return assert!(own.is_empty(), "{moment:?}: {stream} is not found") };
        let forward: Vec<u64> = shown.forward(Version(from)).unwrap().map(|event| event.unwrap().version().0).collect();
        assert_eq!(forward, own.iter().copied().filter(|version| *version >= from).collect::<Vec<_>>(), "{moment:?}: {stream}");
        assert!(shown.backward().map(|event| event.unwrap().version().0).eq(own.iter().rev().copied()), "{moment:?}: {stream}");
    }

    /// What was got out of a damaged store: any part of what was there, in its order, unchanged.
    pub(super) fn check_salvaged(&self, salvaged: &[Found], is_ordered: bool) {
        let mut last = None;
        for found in salvaged {
            let is_same = |event: &Event| {
                // A stream whose first event is lost has lost its name; its id is known.
                let nameless = format!("$salvaged/{}", stream_id(&event.stream));
                (event.id, &event.metadata.event_type, &event.body) == (Some(found.id), &found.event_type, &found.body)
                    && (found.stream == event.stream || found.stream.starts_with(&nameless))
            };
            match self.ids.get(&found.id) {
                Some(&index) => {
                    assert!(is_same(&self.rows[index].event), "event {index} was salvaged with other content");
                    assert!(last < Some(index) || !is_ordered, "event {index} was salvaged out of order");
                    last = Some(index);
                }
                None => {
                    let mut undecided = self.undecided.iter().flat_map(|(asked, _)| &asked.events);
                    assert!(undecided.any(|event| is_same(event)), "salvaged and never there: {}", found.id);
                }
            }
        }
    }

    /// What a client has kept of an event.
    pub(super) fn remembered(&self, index: usize) -> Remembered {
        Remembered { position: Position(index as u64 + 1), link: self.rows[index].link }
    }

    /// Recorded time and id of an event, for choosing moments.
    pub(super) fn event_at(&self, index: usize) -> (u64, EventId) {
        let row = &self.rows[index];
        (row.recorded_at_ns.unwrap_or(0), row.event.id.unwrap())
    }
}

fn batch_place(asked: &Asked, index: usize) -> Option<(u32, u32)> {
    asked.batch.then_some((index as u32, asked.events.len() as u32))
}

impl Model {
    /// A request whose receipt nobody kept, after a sync: its first event was found at this position or not.
    pub(super) fn forgotten(&mut self, asked: &Asked, position: Option<Position>, excuses: Excuses) {
        let next = self.rows.len() as u64 + 1;
        if position.is_some_and(|position| position.0 == next) {
            assert_eq!(self.judge(asked), Verdict::Append);
            self.push(asked);
        } else {
            let may_be_refused = excuses.space || excuses.clock || excuses.fault;
            assert!(self.judge(asked) != Verdict::Append || may_be_refused, "a request was lost");
        }
        self.all_durable();
    }
}

impl Found {
    /// Makes it another event.
    pub(super) fn spoil(&mut self) {
        self.event_type.push('?');
    }
}
