//! What was asked of the store and what it promised, and whether what is found honours it.
//!
//! A *level* is the time between two cuts: it starts from content that was there for certain, and adds requests. What is found after a cut must begin with that
//! content, go on with whole requests, keep the order of each thread without a gap, and hold everything that was promised before the cut.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chainring::{Event, EventId, Link, Receipt, Store};

/// An event as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) position: u64,
    pub(crate) id: EventId,
    pub(crate) stream: String,
    pub(crate) version: u64,
    pub(crate) link: Link,
    pub(crate) body: Vec<u8>,
    /// Index and count of its batch.
    pub(crate) batch: Option<(u32, u32)>,
}

/// What the engine has said.
#[derive(Debug)]
pub(crate) enum Promise {
    /// A log was opened for writing: the store exists, with what it held.
    Opened,
    /// An append returned at the level `Durable`: position, link and id of its events.
    Durable(Vec<(u64, Link, EventId)>),
    /// `sync` or `close` returned: everything submitted so far is there; how many requests of each thread that are.
    Synced(Vec<(u32, usize)>),
}

/// A request as it was submitted.
#[derive(Clone)]
pub(crate) struct Planned {
    pub(crate) thread: u32,
    pub(crate) events: Vec<Event>,
    /// A batch of one is not the same as an event alone.
    pub(crate) batch: bool,
}

/// Everything asked for between two cuts.
#[derive(Default)]
pub(crate) struct Level {
    /// Content that was there before.
    pub(crate) base: Vec<Found>,
    planned: Mutex<Vec<Planned>>,
}

impl Promise {
    pub(crate) fn durable(receipt: &Receipt, events: &[Event]) -> Promise {
        let named = receipt.events.iter().zip(events);
        Promise::Durable(named.map(|(receipt, event)| (receipt.position.0, receipt.link, event.id.unwrap_or_default())).collect())
    }
}

impl Level {
    pub(crate) fn on(base: Vec<Found>) -> Level {
        Level { base, planned: Mutex::default() }
    }

    /// To be called before the request is submitted.
    pub(crate) fn plan(&self, planned: Planned) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).push(planned);
    }

    /// Takes back a request that was refused, by its first event.
    pub(crate) fn take_back(&self, first: Option<EventId>) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).retain(|planned| planned.events[0].id != first);
    }

    pub(crate) fn planned(&self) -> Vec<Planned> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests each thread has planned.
    pub(crate) fn submitted(&self) -> Vec<(u32, usize)> {
        let mut counts = HashMap::new();
        for planned in self.planned.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *counts.entry(planned.thread).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    /// Whether this content honours those promises. `strict` asks for them; without it a drive may have lied about them.
    pub(crate) fn judge(&self, found: &[Found], promises: &[Arc<Promise>], strict: bool) -> Result<(), String> {
        for (index, (found, expected)) in found.iter().zip(1..).enumerate() {
            if found.position != expected {
                return Err(format!("event {index} has position {} instead of {expected}", found.position));
            }
        }
        let common = found.iter().zip(&self.base).take_while(|(found, base)| found == base).count();
        if common < self.base.len() && (strict || common < found.len()) {
            let what = found.get(common).map_or("nothing".to_owned(), describe);
            return Err(format!("position {} was {}, now it is {what}", common + 1, describe(&self.base[common])));
        }
        let taken = self.requests(&found[common..])?;
        if !strict {
            return Ok(());
        }
        for promise in promises {
            match &**promise {
                Promise::Opened => {}
                Promise::Durable(events) => {
                    for (position, link, id) in events {
                        match found.get(*position as usize - 1) {
                            Some(found) if found.id == *id && found.link == *link => {}
                            Some(other) => return Err(format!("position {position} was promised to {id}, now it is {}", describe(other))),
                            None => {
                                return Err(format!(
                                    "position {position} (id {id}) was acknowledged; only {} events are there",
                                    found.len()
                                ));
                            }
                        }
                    }
                }
                Promise::Synced(threads) => {
                    for (thread, count) in threads {
                        let there = taken.get(thread).copied().unwrap_or(0);
                        if there < *count {
                            return Err(format!("{count} requests of thread {thread} were synced; {there} are there"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads found events as whole requests, each thread's in order; says how many of each thread there are.
    fn requests(&self, mut found: &[Found]) -> Result<HashMap<u32, usize>, String> {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queues: HashMap<u32, Vec<&Planned>> = HashMap::new();
        for planned in planned.iter() {
            queues.entry(planned.thread).or_default().push(planned);
        }
        let mut versions: HashMap<&str, u64> = self.base.iter().map(|found| (found.stream.as_str(), found.version)).collect();
        let mut taken: HashMap<u32, usize> = HashMap::new();
        while let Some(first) = found.first() {
            let next = queues.iter().find_map(|(thread, queue)| {
                let next = queue.get(taken.get(thread).copied().unwrap_or(0))?;
                (next.events[0].id == Some(first.id)).then_some(*next)
            });
            let Some(next) = next else {
                let known = planned.iter().any(|planned| planned.events.iter().any(|event| event.id == Some(first.id)));
                let why = if known { "out of the order of its thread, or without the first of its batch" } else { "nobody asked for it" };
                return Err(format!("{}: {why}", describe(first)));
            };
            for (index, event) in next.events.iter().enumerate() {
                let Some(found) = found.get(index) else {
                    return Err(format!("a batch of {} ends after {index} events, {}", next.events.len(), describe(first)));
                };
                let batch = next.batch.then_some((index as u32, next.events.len() as u32));
                let same = event.id == Some(found.id) && event.stream == found.stream && event.body == found.body && found.batch == batch;
                if !same {
                    return Err(format!("{} differs from what was submitted as {:?}", describe(found), event.id));
                }
                let version = versions.entry(event.stream.as_str()).or_insert(0);
                *version += 1;
                if found.version != *version {
                    return Err(format!("{} should have version {version}", describe(found)));
                }
            }
            found = &found[next.events.len()..];
            *taken.entry(next.thread).or_insert(0) += 1;
        }
        Ok(taken)
    }
}

fn describe(found: &Found) -> String {
    format!("position {} id {} stream {} version {} with {} bytes", found.position, found.id, found.stream, found.version, found.body.len())
}

/// Everything in a store.
pub(crate) fn content(store: &Store) -> Result<Vec<Found>, String> {
    let view = store.latest();
    let mut found = Vec::new();
    for event in view.events() {
        let event = event.map_err(|error| format!("reading: {error}"))?;
        found.push(Found {
            position: event.position().0,
            id: event.event_id(),
            stream: event.stream().map_err(|error| format!("reading a name: {error}"))?.to_owned(),
            version: event.version().0,
            link: event.link(),
            body: event.body().ok_or("a body is gone")?.to_vec(),
            batch: event.batch(),
        });
    }
    Ok(found)
}
