//! Units to answers: what is known is decided here, before anything is submitted, so that nothing behind a stopping line is ever appended.
//!
//! The importer is the log's only writer, so its own count of heads is the truth also for what is still in flight. Answers are collected in the
//! order of submission. Where a decision depends on an answer that is still out - the same id again, a new unit behind one believed to be there
//! already - it waits for that answer first.
//! Invariants: at most [`IN_FLIGHT_MAX`] units and about [`IN_FLIGHT_BYTES_MAX`] bytes wait for their answers; every answer is counted once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io::{self, Write};

use chainring::{AppendError, AuthorityRef, EventId, Expected, Log, Pending, ReadError, Receipt, Request, StreamId, Version};
use chainring_format::hash::stream_id;

use super::source::{Stop, Unit};
use super::tally::Tally;
use crate::cli::Gate;
use crate::decision::authority::{Action, Force, cite};
use crate::form::entry::{self, BatchName, Claim};
use crate::output::Failure;
use crate::time;

const IN_FLIGHT_MAX: usize = 4096;
const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;

/// What is remembered of an event in flight.
#[derive(Debug)]
struct Sent {
    line: u64,
    id: EventId,
    stream: StreamId,
    version: Option<u64>,
    claim: Claim,
}

/// A unit whose answer is still out.
struct InFlight {
    pending: Pending,
    file: usize,
    batch: Option<BatchName>,
    events: Vec<Sent>,
    bytes: usize,
    /// Whether all its ids were in the log before.
    known: bool,
}

/// The acknowledgement lines of `--ack`.
pub(super) struct Acks<'o> {
    pub(super) to: &'o mut dyn Write,
}

/// Submits units and collects answers.
pub(super) struct Importer<'l, 'o> {
    log: &'l Log,
    gate: Gate,
    acks: Option<Acks<'o>>,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    in_flight_ids: HashSet<EventId>,
    /// Units in flight that are believed to be there already.
    in_flight_known: usize,
    /// Version of each stream when everything in flight is through. Only without a gate: else the log decides.
    heads: HashMap<StreamId, u64>,
    pub(super) tally: Tally,
}

impl<'l, 'o> Importer<'l, 'o> {
    pub(super) fn new(log: &'l Log, gate: Gate, acks: Option<Acks<'o>>) -> Importer<'l, 'o> {
        Importer {
            log,
            gate,
            acks,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            in_flight_ids: HashSet::new(),
            in_flight_known: 0,
            heads: HashMap::new(),
            tally: Tally::default(),
        }
    }

    /// Takes one unit on its way.
    pub(super) fn take(&mut self, unit: Unit) -> Result<(), Stop> {
        if unit.entries.iter().any(|entry| self.in_flight_ids.contains(&entry.id)) {
            self.settle()?;
        }
        let mut known = 0;
        for entry in &unit.entries {
            let position = self.log.locate(entry.id).map_err(|error| unreadable(unit.file, entry.line, &error))?;
            known += usize::from(position.is_some());
        }
        let all_known = known == unit.entries.len();
        if known > 0 && !all_known {
            return Err(partly_known(&unit, known));
        }
        let mut required = Vec::new();
        if self.gate == Gate::Full && unit.batch.is_some() && !all_known {
            match self.judge(&unit)? {
                Some(judged) => required = judged,
                None => {
                    self.tally.refused += unit.entries.len() as u64;
                    return Ok(());
                }
            }
        }
        if !all_known {
            if self.in_flight_known > 0 {
                self.settle()?;
            }
            self.check_versions(&unit)?;
        }
        for entry in &unit.entries {
            if !self.in_flight_ids.insert(entry.id) {
                return Err(stop(unit.file, entry.line, format!("id {} occurs twice in this batch", entry.id)));
            }
        }
        self.make_room(unit.bytes)?;
        self.submit(unit, all_known, required)
    }

    /// Without a gate, the version a line states is the one that must come out.
    fn check_versions(&mut self, unit: &Unit) -> Result<(), Stop> {
        if self.gate != Gate::None {
            return Ok(());
        }
        for entry in &unit.entries {
            let name = entry.event.stream.as_str();
            let head = match self.heads.entry(stream_id(name)) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(free) => {
                    let head = self.log.head(name).map_err(|error| unreadable(unit.file, entry.line, &error))?;
                    free.insert(head.0)
                }
            };
            if entry.version != Some(*head + 1) {
                let stated = entry.version.unwrap_or(0);
                return Err(stop(unit.file, entry.line, format!("version {stated} of stream {name:?} cannot follow version {head}")));
            }
            *head += 1;
        }
        Ok(())
    }

    /// What must hold when a batch's turn comes: that all it has read is so still, and the streams of what allowed it, too. `None` if that is not in force.
    fn judge(&mut self, unit: &Unit) -> Result<Option<Vec<(String, u64)>>, Stop> {
        let mut required: BTreeSet<(String, u64)> = BTreeSet::new();
        for entry in &unit.entries {
            let metadata = &entry.event.metadata;
            required.extend(metadata.reads.iter().flatten().map(|read| (read.stream.clone(), read.version)));
            for reference in &metadata.authority {
                // What it is part of itself is in force with it.
                if reference.event.is_some_and(|id| unit.entries.iter().any(|entry| entry.id == id)) {
                    continue;
                }
                match self.authority(unit.file, entry, reference)? {
                    Some(bound) => _ = required.insert(bound),
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(required.into_iter().collect()))
    }

    /// The stream of what allows an event, and the version up to which that is known to be in force; `None` if it is not.
    fn authority(&mut self, file: usize, entry: &entry::Entry, reference: &AuthorityRef) -> Result<Option<(String, u64)>, Stop> {
        let unread = |error| unreadable(file, entry.line, &error);
        loop {
            let view = self.log.latest();
            let action = Action {
                stream: &entry.event.stream,
                event_type: &entry.event.metadata.event_type,
                actor: entry.event.metadata.actor.as_deref(),
                recorded_ns: time::to_nanoseconds(time::now()),
                at: entry.event.metadata.occurred_at.unwrap_or_else(time::now),
                begin: view.end(),
                end: view.end(),
            };
            let citation = cite(&view, reference.clone(), &action).map_err(|failure| failed(file, entry.line, failure))?;
            // Nothing on its way may bring or change it.
            let moves = |stream: StreamId| self.in_flight.iter().any(|unit| unit.events.iter().any(|sent| sent.stream == stream));
            let is_settled = citation.event.map_or(self.in_flight.is_empty(), |event| !moves(event.stream_id()));
            if !is_settled {
                drop(citation);
                drop(view);
                self.settle()?;
                continue;
            }
            let Some(event) = citation.event.filter(|_| citation.force == Force::Holds) else { return Ok(None) };
            let stream = event.stream().map_err(unread)?;
            let head = view.stream(stream).map_err(unread)?.map_or(0, |stream| stream.version().0);
            return Ok(Some((stream.to_owned(), head)));
        }
    }

    fn submit(&mut self, unit: Unit, known: bool, required: Vec<(String, u64)>) -> Result<(), Stop> {
        let Unit { file, batch, entries, bytes } = unit;
        let first_line = entries.first().map_or(0, |entry| entry.line);
        let mut sent = Vec::with_capacity(entries.len());
        let mut events = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut event = entry.event;
            event.expected = match (self.gate, entry.version, entry.claim) {
                (Gate::None, Some(version), _) => Expected::Exactly(Version(version - 1)),
                (Gate::None, None, _) | (_, _, Claim::Blind) => Expected::Any,
                (Gate::Full, ..) if batch.is_none() => Expected::Any,
                (_, _, Claim::At(version)) => Expected::Exactly(Version(version)),
                (_, _, Claim::Never) => Expected::Exactly(Version(u64::MAX)),
            };
            sent.push(Sent {
                line: entry.line,
                id: entry.id,
                stream: stream_id(&event.stream),
                version: entry.version,
                claim: entry.claim,
            });
            events.push(event);
        }
        // Authorities and reads of the form are claims; the gates look at them before this.
        let request = match (&batch, events.pop()) {
            (None, Some(event)) => Request::event(event),
            (_, last) => {
                events.extend(last);
                Request::batch(events)
            }
        };
        let at = |version| Expected::Exactly(Version(version));
        let request =
            required.into_iter().fold(request.taken_at_its_word(), |request, (stream, version)| request.require(stream, at(version)));
        let pending = self.log.submit(request).map_err(|error| refusal(file, first_line, &sent, &error))?;
        self.in_flight_bytes += bytes;
        self.in_flight_known += usize::from(known);
        self.in_flight.push_back(InFlight { pending, file, batch, events: sent, bytes, known });
        Ok(())
    }

    /// Waits until so many more bytes fit.
    fn make_room(&mut self, bytes: usize) -> Result<(), Stop> {
        while self.in_flight.len() >= IN_FLIGHT_MAX || (!self.in_flight.is_empty() && self.in_flight_bytes + bytes > IN_FLIGHT_BYTES_MAX) {
            self.collect_one()?;
        }
        Ok(())
    }

    /// Collects the answers that are there.
    pub(super) fn collect_ready(&mut self) -> Result<(), Stop> {
        while self.in_flight.front().is_some_and(|first| first.pending.is_done()) {
            self.collect_one()?;
        }
        self.flush_acks();
        Ok(())
    }

    /// Collects at least one answer, if any is out.
    pub(super) fn collect_some(&mut self) -> Result<(), Stop> {
        self.collect_one()?;
        self.collect_ready()
    }

    /// Whether an answer is still out.
    pub(super) fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Collects every answer. The first that stops the import is the one to tell, the others still count.
    pub(super) fn settle(&mut self) -> Result<(), Stop> {
        let mut first = Ok(());
        while self.is_waiting() {
            let result = self.collect_one();
            if first.is_ok() {
                first = result;
            }
        }
        self.flush_acks();
        first
    }

    fn collect_one(&mut self) -> Result<(), Stop> {
        let Some(InFlight { pending, file, batch, events, bytes, known }) = self.in_flight.pop_front() else { return Ok(()) };
        if !pending.is_done() {
            self.flush_acks();
        }
        let answer = pending.wait();
        self.in_flight_bytes -= bytes;
        self.in_flight_known -= usize::from(known);
        for event in &events {
            self.in_flight_ids.remove(&event.id);
        }
        match answer {
            Ok(receipt) => self.count(file, batch.as_ref(), &events, &receipt),
            Err(AppendError::Refused(_) | AppendError::Barred(_)) if self.gate != Gate::None => {
                self.tally.refused += events.len() as u64;
                Ok(())
            }
            Err(error) => Err(refusal(file, events.first().map_or(0, |event| event.line), &events, &error)),
        }
    }

    fn count(&mut self, file: usize, batch: Option<&BatchName>, events: &[Sent], receipt: &Receipt) -> Result<(), Stop> {
        let last = receipt.last_position();
        if let (Some(acks), Some(batch)) = (&mut self.acks, batch) {
            // Whoever read the acknowledgements may have gone; the import goes on.
            let _ = writeln!(acks.to, "{}\t{last}", batch.shown());
        }
        if receipt.duplicate {
            self.tally.duplicates += events.len() as u64;
        } else {
            self.tally.appended(batch, receipt);
            for event in events {
                self.tally.event(event.stream, event.version.is_some_and(|version| event.claim.is_stale_at(version)));
            }
        }
        if self.gate == Gate::None {
            for (event, kept) in events.iter().zip(&receipt.events) {
                if event.version.is_some_and(|version| version != kept.version.0) {
                    let stated = event.version.unwrap_or(0);
                    return Err(stop(file, event.line, format!("id {} is version {} in the log, not {stated}", event.id, kept.version)));
                }
            }
        }
        Ok(())
    }

    fn flush_acks(&mut self) {
        if let Some(acks) = &mut self.acks {
            let _: io::Result<()> = acks.to.flush();
        }
    }
}

fn stop(file: usize, line: u64, reason: String) -> Stop {
    Stop { file, line, reason, is_io: false }
}

fn partly_known(unit: &Unit, known: usize) -> Stop {
    let line = unit.entries.first().map_or(0, |entry| entry.line);
    stop(unit.file, line, format!("{known} of the {} events of this batch are in the log already", unit.entries.len()))
}

fn failed(file: usize, line: u64, failure: Failure) -> Stop {
    match failure {
        Failure::Cannot(reason) => Stop { file, line, reason, is_io: true },
        Failure::No(reason) | Failure::Usage(reason) => stop(file, line, reason),
        Failure::NobodyReads => stop(file, line, "nobody reads".into()),
    }
}

fn unreadable(file: usize, line: u64, error: &ReadError) -> Stop {
    Stop { file, line, reason: error.to_string(), is_io: matches!(error, ReadError::Io { .. }) }
}

/// An answer that ends the import.
fn refusal(file: usize, first_line: u64, events: &[Sent], error: &AppendError) -> Stop {
    match error {
        AppendError::IdConflict { id, position } => {
            let line = events.iter().find(|event| event.id == *id).map_or(first_line, |event| event.line);
            stop(file, line, format!("id {id} is in the log already, with other content, at position {position}"))
        }
        AppendError::PartlyKnown { known, of } if known == of => {
            stop(file, first_line, "what this batch holds is in the log already, but was appended otherwise".into())
        }
        AppendError::Refused(_)
        | AppendError::Barred(_)
        | AppendError::PartlyKnown { .. }
        | AppendError::Invalid { .. }
        | AppendError::StreamIdCollision { .. } => stop(file, first_line, error.to_string()),
        _ => Stop { file, line: first_line, reason: error.to_string(), is_io: true },
    }
}
