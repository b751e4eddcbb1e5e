//! A handle for those who should do less than its owner could: it can only express what it was made for.

use super::{ActError, Action, Denial};
use crate::log::Log;
use crate::sequencer::Receipt;

/// Acts in one name, in some streams, with some types. What is outside of that does not get as far as a grant.
///
/// ```
/// # use chainring::{ActError, Action, Denial, Event, Log};
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// let agent = log.writer("agent-7").streams(["order-"]).types(["Refunded"]);
/// agent.act(Action::new(Event::new("order-1", "Refunded")))?;
/// for event in [Event::new("user-1", "Refunded"), Event::new("order-1", "Deleted"), Event::new("order-1", "Refunded").actor("boss")] {
///     assert!(matches!(agent.act(Action::new(event)), Err(ActError::Denied(_))));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Writer<'l> {
    log: &'l Log,
    actor: String,
    streams: Vec<String>,
    types: Vec<String>,
    grants: Vec<(String, String)>,
    run: Option<(String, u64)>,
}

impl Log {
    /// A handle that acts in this name, and in no other.
    #[must_use]
    pub fn writer(&self, actor: impl Into<String>) -> Writer<'_> {
        Writer { log: self, actor: actor.into(), streams: Vec::new(), types: Vec::new(), grants: Vec::new(), run: None }
    }
}

impl Writer<'_> {
    /// Only in streams whose names start so.
    #[must_use]
    pub fn streams<S: Into<String>>(mut self, prefixes: impl IntoIterator<Item = S>) -> Self {
        self.streams.extend(prefixes.into_iter().map(Into::into));
        self
    }

    /// Only with these types.
    #[must_use]
    pub fn types<S: Into<String>>(mut self, types: impl IntoIterator<Item = S>) -> Self {
        self.types.extend(types.into_iter().map(Into::into));
        self
    }

    /// Everything it does is allowed by this grant, or not done.
    #[must_use]
    pub fn allowed_by(mut self, grant: impl Into<String>, rule: impl Into<String>) -> Self {
        self.grants.push((grant.into(), rule.into()));
        self
    }

    /// Everything it does belongs to this run, in this epoch.
    #[must_use]
    pub fn in_run(mut self, run: impl Into<String>, epoch: u64) -> Self {
        self.run = Some((run.into(), epoch));
        self
    }

    /// As [`Log::act`].
    ///
    /// # Errors
    /// [`ActError::Denied`] also for what the handle cannot express; else as [`Log::act`].
    pub fn act(&self, mut action: Action<'_>) -> Result<Receipt, ActError> {
        let mut denials = Vec::new();
        for event in &mut action.events {
            let event_type = &event.metadata.event_type;
            if event.stream.starts_with('$')
                || !(self.streams.is_empty() || self.streams.iter().any(|one| event.stream.starts_with(one.as_str())))
            {
                denials.push(Denial::NotExpressible { what: format!("stream {}", event.stream) });
            }
            if !self.types.is_empty() && !self.types.contains(event_type) {
                denials.push(Denial::NotExpressible { what: format!("type {event_type}") });
            }
            let actor = event.metadata.actor.get_or_insert_with(|| self.actor.clone());
            if *actor != self.actor {
                denials.push(Denial::NotExpressible { what: format!("actor {actor}") });
                // The attempt is its own.
                actor.clone_from(&self.actor);
            }
        }
        if !denials.is_empty() {
            self.log.keep_attempt(&action, &denials)?;
            return Err(ActError::Denied(denials));
        }
        for (grant, rule) in &self.grants {
            action = action.allowed_by(grant, rule);
        }
        if let Some((run, epoch)) = &self.run {
            action = action.in_run(run, *epoch);
        }
        self.log.act(&action)
    }
}
