//! L6: whether something may happen, and by whose leave.
//!
//! An [`Action`] is an append together with everything it rests on: what was read, what allowed it, which run it belongs to, what it takes back. [`Log::act`]
//! looks at all of that in the caller's thread, against what is durable, and binds its verdict to the versions it saw; the sequencer checks just those when
//! the append's turn comes. If one of them has moved on, everything is looked at again. So a verdict never outlives what it rests on, and no foreign code runs
//! where appends are ordered.
//!
//! Everything here is events in streams of its own, and nothing else: `$authority/NAME` holds grants and their end, `$authority/NAME/use` what was used of
//! one, `$approvals/ID` an approval and its one use, `$runs/RUN` the epochs of a run, `$attempts/ACTOR` what was refused; `$stops`
//! and `$rules`, which hold for every append, are looked at by the sequencer. Each of them changes in the same batch as what it is about, on condition that it is where it was seen: what may happen
//! once happens once, whoever tries at the same time, and after every crash. Absent on purpose: answering who did what, which is `query`.

use std::fmt;

use chainring_format::metadata::Metadata;
use chainring_format::{EventId, Version};

use crate::error::{AppendError, Bar, ReadError};
use crate::log::Event;
use crate::query::{EventRef, View};

mod act;
mod action;
mod brakes;
mod grant;
mod notes;
mod run;
mod writer;

pub use action::{Action, Admission, Observed};
pub use grant::Grant;
pub use run::{Branching, Run};
pub use writer::Writer;

/// One reason why an action may not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// A stream is not at the version that was read or expected.
    Stale {
        /// The stream.
        stream: String,
        /// The version that was read.
        read: Version,
        /// The version it is at.
        found: Version,
    },
    /// Something outside the log is not what it was when it was read.
    Diverged {
        /// What was read.
        resource: String,
        /// How it differs, or why it could not be read again.
        why: String,
    },
    /// A grant is not in force.
    NotInForce {
        /// Name of the grant.
        grant: String,
        /// Missing, revoked, too early, too late, or of a parent that is.
        why: String,
    },
    /// A grant does not cover this.
    OutOfScope {
        /// Name of the grant.
        grant: String,
        /// What it does not cover.
        what: String,
    },
    /// A grant does not have so much left.
    OverCeiling {
        /// Name of the grant.
        grant: String,
        /// Events it has left.
        count_left: u64,
        /// How much of its amount is left.
        amount_left: u64,
    },
    /// An approval does not hold: there is none, it is of something else, used, or over.
    NotApproved {
        /// Name of the approval.
        approval: String,
        /// Which of these.
        why: &'static str,
    },
    /// The run has gone on elsewhere.
    Fenced {
        /// The run.
        run: String,
        /// The epoch it is in.
        epoch: u64,
    },
    /// A run cannot be branched so.
    NotToBranch {
        /// The run that was to be left.
        run: String,
        /// Why not.
        why: &'static str,
    },
    /// An event is taken back in its own stream, and once in an action.
    TakenBackElsewhere {
        /// The event.
        event: EventId,
        /// Its stream.
        stream: String,
    },
    /// What is to be taken back is not there, or was taken back.
    NotToTakeBack {
        /// The event.
        event: EventId,
        /// The compensation in force; `None` if there is no such event.
        by: Option<EventId>,
    },
    /// An action of this kind must say more.
    Lacking {
        /// The stream.
        stream: String,
        /// What it does not say.
        what: &'static str,
    },
    /// The handle was not made for this.
    NotExpressible {
        /// What it cannot express.
        what: String,
    },
    /// A stop is in force.
    Frozen {
        /// What is frozen.
        what: String,
    },
    /// The caller's policy says no.
    NotAdmitted {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Stale { stream, read, found } => write!(f, "stream {stream} was read at version {read}, but is at version {found}"),
            Denial::Diverged { resource, why } => write!(f, "{resource} is not as it was read: {why}"),
            Denial::NotInForce { grant, why } => write!(f, "grant {grant} is not in force: {why}"),
            Denial::OutOfScope { grant, what } => write!(f, "grant {grant} does not cover {what}"),
            Denial::OverCeiling { grant, count_left, amount_left } => {
                write!(f, "grant {grant} has only {count_left} events and an amount of {amount_left} left")
            }
            Denial::NotApproved { approval, why } => write!(f, "approval {approval} does not hold: {why}"),
            Denial::Fenced { run, epoch } => write!(f, "run {run} has gone on elsewhere, in epoch {epoch}"),
            Denial::NotToBranch { run, why } => write!(f, "run {run} cannot be branched so: {why}"),
            Denial::NotToTakeBack { event, by: Some(by) } => write!(f, "event {event} is not to be taken back: {by} is in force"),
            Denial::NotToTakeBack { event, by: None } => write!(f, "event {event} is not in the log"),
            Denial::Lacking { stream, what } => write!(f, "an event in stream {stream} must have {what}"),
            Denial::NotExpressible { what } => write!(f, "this handle was not made for {what}"),
            Denial::TakenBackElsewhere { event, stream } => write!(f, "event {event} is taken back once, in its own stream {stream}"),
            Denial::Frozen { what } => write!(f, "{what} is frozen"),
            Denial::NotAdmitted { why } => write!(f, "the policy says no: {why}"),
        }
    }
}

impl From<Bar> for Denial {
    fn from(bar: Bar) -> Denial {
        match bar {
            Bar::Frozen { what } => Denial::Frozen { what },
            Bar::Lacking { stream, what } => Denial::Lacking { stream, what },
        }
    }
}

/// Why an action did not happen, or why that is not known.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ActError {
    /// It may not: all the reasons. Nothing was appended but, if the action has an actor, a note in its attempts.
    Denied(Vec<Denial>),
    /// As for every append.
    Append(AppendError),
}

impl fmt::Display for ActError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActError::Denied(denials) => crate::error::all(f, "denied", denials),
            ActError::Append(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ActError {}

impl From<AppendError> for ActError {
    fn from(error: AppendError) -> ActError {
        ActError::Append(error)
    }
}

impl From<ReadError> for ActError {
    fn from(error: ReadError) -> ActError {
        ActError::Append(AppendError::Read(error))
    }
}

/// Version of a stream in a view; 0 if it does not exist.
fn version_of(view: &View, stream: &str) -> Result<u64, ReadError> {
    Ok(view.stream(stream)?.map_or(0, |stream| stream.version().0))
}

/// The newest event of a stream.
fn newest<'v>(view: &'v View, stream: &str) -> Result<Option<EventRef<'v>>, ReadError> {
    view.stream(stream)?.and_then(|stream| stream.backward().next()).transpose()
}

/// An event of the conventions above.
fn note(stream: String, event_type: &str, change: impl FnOnce(&mut Metadata)) -> Event {
    let mut event = Event::new(stream, event_type);
    change(&mut event.metadata);
    event
}
