//! Runs: their epochs, and branches that share what a run did up to an event.
//!
//! A run goes on in one place: a new epoch fences those who are at work in an earlier one. Who wants to try something else from the same beginning, without
//! ending what is under way, opens a branch: a run of its own name, whose first record cites the run, its epoch, and the last event that both have. So a run
//! forks in the open, or not at all.

use chainring_format::cbor::Value;
use chainring_format::metadata::{Class, ReadRef};
use chainring_format::{EventId, Position, Version};

use super::{ActError, Denial, newest, note, notes, version_of};
use crate::condition::Expected;
use crate::error::ReadError;
use crate::log::{Log, Request};
use crate::query::{By, EventRef, View};
use crate::sequencer::{Said, say};

const EPOCH_BEGAN: &str = "EpochBegan";
const BRANCHED: &str = "Branched";

/// Where a run left another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branching {
    /// The run that it left.
    pub parent: String,
    /// The epoch that the other one was in.
    pub epoch: u64,
    /// The last event that both have.
    pub at: EventId,
    /// Its position.
    pub position: Position,
}

/// A run as of a view, with everything it shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// The epoch it is in; 0 if it never began, and is only named by events.
    pub epoch: u64,
    /// Where it left another run, if it is a branch.
    pub branched: Option<Branching>,
    /// The run and those it came from, each with the last position that is a part of this one.
    lineage: Vec<(String, Position)>,
}

impl Run {
    /// Its history: what it shares, from the first of the runs it came from on, and what it did itself. `view` is the one it was asked of.
    pub fn events<'a>(&'a self, view: &'a View) -> impl Iterator<Item = Result<EventRef<'a>, ReadError>> + 'a {
        self.lineage.iter().rev().flat_map(move |(run, last)| {
            let is_shared = move |event: &Result<EventRef<'_>, ReadError>| event.as_ref().map_or(true, |event| event.position() <= *last);
            view.events_by(By::Correlation(run), Position(0)).take_while(is_shared)
        })
    }

    /// Whether an event is one of its own or of those that it shares.
    fn has(&self, event: &EventRef<'_>) -> Result<bool, ReadError> {
        let Some(run) = event.metadata()?.correlation else { return Ok(false) };
        Ok(self.lineage.iter().any(|(name, last)| *name == run && event.position() <= *last))
    }
}

/// What the first record of a run says of where it comes from.
fn branching(view: &View, run: &str) -> Result<Option<(Branching, Position)>, ReadError> {
    let Some(stream) = view.stream(&notes::run(run))? else { return Ok(None) };
    let Some(first) = stream.forward(Version(1))?.next().transpose()?.filter(|first| first.event_type() == BRANCHED) else {
        return Ok(None);
    };
    let metadata = first.metadata()?;
    let said = Said::by(&metadata, "branch");
    let (Some(parent), Some(epoch), Some(at)) = (said.text("parent"), said.uint("epoch"), metadata.causation) else { return Ok(None) };
    let Some(last) = view.find_event(at)? else { return Ok(None) };
    Ok(Some((Branching { parent: parent.to_owned(), epoch, at, position: last.position() }, first.position())))
}

impl View {
    /// A run, with where it comes from.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn run(&self, name: &str) -> Result<Run, ReadError> {
        let (mut lineage, mut branched) = (vec![(name.to_owned(), Position(u64::MAX))], None);
        let mut before = Position(u64::MAX);
        loop {
            let (run, last) = lineage.last().expect("it has itself");
            // A branch was opened behind what it left. Records that say otherwise were not made by `branch_run`, and lead nowhere.
            let found = branching(self, run)?.filter(|(branching, opened)| branching.position < *opened && *opened < before);
            let Some((branching, opened)) = found else { break };
            lineage.push((branching.parent.clone(), branching.position.min(*last)));
            branched.get_or_insert(branching);
            before = opened;
        }
        Ok(Run { name: name.to_owned(), epoch: version_of(self, &notes::run(name))?, branched, lineage })
    }

    /// Names of the branches that left a run, in the order in which they were opened.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn branches_of(&self, run: &str) -> Result<Vec<String>, ReadError> {
        let mut branches = Vec::new();
        for event in self.events_by(By::Read(&notes::run(run)), Position(0)) {
            let event = event?;
            if event.event_type() == BRANCHED && event.version() == Version(1) {
                branches.extend(notes::run_of(event.stream()?).map(str::to_owned));
            }
        }
        Ok(branches)
    }
}

impl Log {
    /// Begins the next epoch of a run: whoever is still at work in an earlier one is fenced. Returns the epoch.
    ///
    /// # Errors
    /// As for every append.
    pub fn begin_run(&self, run: &str, actor: &str) -> Result<u64, ActError> {
        let event = note(notes::run(run), EPOCH_BEGAN, |metadata| {
            metadata.actor = Some(actor.to_owned());
            metadata.correlation = Some(run.to_owned());
        });
        Ok(self.append(event)?.events[0].version.0)
    }

    /// Opens a branch of a run: a run of its own, in its first epoch, that has the other one's events up to and with `at`, which may also be one that the
    /// other shares with a run before it. The other goes on as it is. Returns the epoch.
    ///
    /// # Errors
    /// [`ActError::Denied`] with [`Denial::NotToBranch`]; else as for every append.
    pub fn branch_run(&self, run: &str, parent: &str, at: EventId, actor: &str) -> Result<u64, ActError> {
        let receipt = self.append_to_the_newest(|view| {
            let denied = |why| ActError::Denied(vec![Denial::NotToBranch { run: parent.to_owned(), why }]);
            if newest(view, &notes::run(run))?.is_some() || view.events_by(By::Correlation(run), Position(0)).next().transpose()?.is_some()
            {
                return Err(denied("there is a run of that name"));
            }
            let (left, last) = (view.run(parent)?, view.find_event(at)?);
            let Some(last) = last else { return Err(denied("there is no such event")) };
            if !left.has(&last)? {
                return Err(denied("the event is none of that run"));
            }
            let event = note(notes::run(run), BRANCHED, |metadata| {
                metadata.actor = Some(actor.to_owned());
                metadata.correlation = Some(run.to_owned());
                metadata.class = Some(Class::Handoff);
                metadata.causation = Some(at);
                metadata.reads = Some(vec![ReadRef { stream: notes::run(parent), version: left.epoch, ..ReadRef::default() }]);
                let link = Value::Bytes(last.link().0.to_vec());
                say(
                    metadata,
                    "branch",
                    [("parent", Some(Value::text(parent))), ("epoch", Some(Value::Uint(left.epoch))), ("link", Some(link))],
                );
            });
            let request = Request::event(event.expected(Expected::NoStream));
            Ok(request.require(notes::run(parent), Expected::Exactly(Version(left.epoch))))
        })?;
        Ok(receipt.events[0].version.0)
    }
}
