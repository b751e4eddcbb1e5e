//! What is to happen, and what it rests on.

use chainring_format::metadata::{ExternalRef, ReadRef, Timestamp};
use chainring_format::{EventId, Version};

use crate::condition::Durability;
use crate::log::Event;
use crate::query::View;

/// Context of digests of actions.
const CONTEXT_DIGEST: &str = "chainring 2026-11 v1 action digest";

/// What a resource outside the log is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Its version, if it has one.
    pub version: Option<String>,
    /// Hash of its content, if that is known.
    pub hash: Option<Vec<u8>>,
}

/// Reads something outside the log again; the error says why it could not.
pub(super) type Reread<'a> = Box<dyn Fn(&ExternalRef) -> Result<Observed, String> + 'a>;

/// What a caller's policy says yes to, and for how long that holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    /// Streams it looked at: the action happens only while they are where the policy saw them.
    pub streams: Vec<String>,
    /// Until when it holds, in nanoseconds since 1970.
    pub valid_to_ns: Option<u64>,
}

/// Judges what is to happen against the log as it is; the error says why not.
pub(super) type Policy<'a> = Box<dyn Fn(&View, &[Event]) -> Result<Admission, String> + 'a>;

/// An append that happens only if everything holds that it rests on.
///
/// ```
/// # use chainring::{ActError, Action, Denial, Event, Grant, Log, Version};
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// log.grant("refunds", &Grant { types: vec!["Refunded".into()], amount_max: Some(100), ..Grant::default() }, "boss")?;
/// log.append(Event::new("order-1", "OrderPlaced"))?;
/// let refund = |version| {
///     let event = Event::new("order-1", "Refunded").actor("agent").body("80");
///     Action::new(event).read("order-1", Version(version)).allowed_by("refunds", "goodwill").spending(80)
/// };
/// log.act(&refund(1))?;
/// // It rests on a state that is over, and there is not so much left: both is said.
/// let Err(ActError::Denied(denials)) = log.act(&refund(1)) else { panic!("it was done twice") };
/// assert!(matches!(&denials[..], [Denial::Stale { .. }, Denial::OverCeiling { amount_left: 20, .. }]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Action<'a> {
    pub(super) events: Vec<Event>,
    pub(super) is_batch: bool,
    pub(super) reads: Vec<ReadRef>,
    pub(super) externals: Vec<(ExternalRef, Reread<'a>)>,
    pub(super) policies: Vec<Policy<'a>>,
    /// Grants and rules.
    pub(super) grants: Vec<(String, Option<String>)>,
    pub(super) amount: u64,
    pub(super) approval: Option<String>,
    pub(super) run: Option<(String, u64)>,
    pub(super) durability: Durability,
    pub(super) keeps_attempt: bool,
}

impl<'a> Action<'a> {
    /// One event.
    #[must_use]
    pub fn new(event: Event) -> Action<'a> {
        Action::of(vec![event], false)
    }

    /// Events that happen together.
    #[must_use]
    pub fn batch(events: Vec<Event>) -> Action<'a> {
        Action::of(events, true)
    }

    fn of(events: Vec<Event>, is_batch: bool) -> Action<'a> {
        Action {
            events,
            is_batch,
            reads: Vec::new(),
            externals: Vec::new(),
            policies: Vec::new(),
            grants: Vec::new(),
            amount: 0,
            approval: None,
            run: None,
            durability: Durability::Durable,
            keeps_attempt: true,
        }
    }

    /// It was decided against a stream as of a version, which must still be that. Kept as part of what the events had read.
    #[must_use]
    pub fn read(self, stream: impl Into<String>, version: Version) -> Action<'a> {
        self.read_as(ReadRef { stream: stream.into(), version: version.0, ..ReadRef::default() })
    }

    /// As [`Action::read`], with the digest of the state, and its standing.
    #[must_use]
    pub fn read_as(mut self, read: ReadRef) -> Action<'a> {
        self.reads.push(read);
        self
    }

    /// It was decided against something outside the log, which is read again just before: it must have the same version and hash, as far as these were given,
    /// and have been observed no longer ago than its maximum age.
    #[must_use]
    pub fn read_outside(mut self, read: ExternalRef, again: impl Fn(&ExternalRef) -> Result<Observed, String> + 'a) -> Action<'a> {
        self.externals.push((read, Box::new(again)));
        self
    }

    /// A policy of the caller's must say yes, in the caller's thread, to the events as they are against the log as it is. Its word is bound: if a stream that it
    /// looked at moves, or its time is over, before the action's turn comes, it is asked again.
    #[must_use]
    pub fn judged_by(mut self, policy: impl Fn(&View, &[Event]) -> Result<Admission, String> + 'a) -> Action<'a> {
        self.policies.push(Box::new(policy));
        self
    }

    /// A grant must be in force, and cover every event.
    #[must_use]
    pub fn allowed_by(mut self, grant: impl Into<String>, rule: impl Into<String>) -> Action<'a> {
        let rule = Some(rule.into()).filter(|rule| !rule.is_empty());
        self.grants.push((grant.into(), rule));
        self
    }

    /// How much it takes of the amounts of its grants.
    #[must_use]
    pub fn spending(mut self, amount: u64) -> Action<'a> {
        self.amount = amount;
        self
    }

    /// An approval of exactly this must be there, and is used up.
    #[must_use]
    pub fn approved_by(mut self, approval: impl Into<String>) -> Action<'a> {
        self.approval = Some(approval.into());
        self
    }

    /// It belongs to a run, which must still be in this epoch.
    #[must_use]
    pub fn in_run(mut self, run: impl Into<String>, epoch: u64) -> Action<'a> {
        self.run = Some((run.into(), epoch));
        self
    }

    /// Its first event takes an event back, which must be in force: it is the one compensation of that. The same holds of every event whose metadata says that
    /// it compensates another one.
    #[must_use]
    pub fn taking_back(mut self, event: EventId) -> Action<'a> {
        if let Some(first) = self.events.first_mut() {
            first.metadata.compensates = Some(event);
        }
        self
    }

    /// Sets what must have happened when it returns.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Action<'a> {
        self.durability = durability;
        self
    }

    /// Leaves no note of a refusal in the attempts of its actor.
    #[must_use]
    pub fn without_attempt(mut self) -> Action<'a> {
        self.keeps_attempt = false;
        self
    }

    /// What an approval of it is bound to: streams, types, actors and contents of its events, and the amount.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_DIGEST);
        hasher.update(&self.amount.to_le_bytes());
        for event in &self.events {
            let actor = event.metadata.actor.as_deref().unwrap_or_default();
            for part in [event.stream.as_bytes(), event.metadata.event_type.as_bytes(), actor.as_bytes(), &event.body] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
        }
        *hasher.finalize().as_bytes()
    }

    pub(super) fn actor(&self) -> Option<&str> {
        self.events.iter().find_map(|event| event.metadata.actor.as_deref())
    }
}

impl std::fmt::Debug for Action<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Action").field("events", &self.events).field("grants", &self.grants).field("run", &self.run).finish_non_exhaustive()
    }
}

/// An instant of the engine's clock, as metadata has it.
pub(super) fn timestamp(ns: u64) -> Timestamp {
    Timestamp { seconds: (ns / 1_000_000_000).cast_signed(), nanoseconds: (ns % 1_000_000_000) as u32 }
}
