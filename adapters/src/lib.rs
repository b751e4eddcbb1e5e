//! Recording what an agent does with its tools.
//!
//! A tool call is three steps in the log: the *intent*, durable before anything happens, and only if the action may be; the effect, outside; the *outcome*, caused
//! by the intent. Whatever dies in between leaves an intent that is open ([`chainring::View::open_intents`]): the effect may have happened, and nobody has said.
//!
//! ```
//! use chainring::{Grant, Log};
//! use chainring_adapters::{CallError, Caller, Outcome, Recorder};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let log = Arc::new(Log::open(directory.path())?);
//! log.grant("refunds", &Grant { streams: vec!["tool/refund".into()], count_max: Some(1), ..Grant::default() }, "boss")?;
//! let agent = Caller { actor: "agent".into(), grant: Some(("refunds".into(), "goodwill".into())), ..Caller::default() };
//! let run = Recorder::new(Arc::clone(&log), agent, "run-7");
//!
//! // The gate, the intent, the effect, the outcome. The same call again is answered with what came of it.
//! let refund = |key: &str| run.call("refund", key, r#"{"order":1,"amount":42}"#, || Ok(r#"{"paid":true}"#.into()));
//! assert_eq!(refund("call-1")?, Outcome::Answered(r#"{"paid":true}"#.into()));
//! assert_eq!(refund("call-1")?, Outcome::Answered(r#"{"paid":true}"#.into()));
//! // Another one is more than the grant has left, and does not happen.
//! assert!(matches!(refund("call-2"), Err(CallError::Act(_))));
//! assert!(log.latest().open_intents()?.is_empty());
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use chainring::{ActError, Action, Class, Event, EventId, Log, Metadata, ReadError};

/// Type of an intent.
pub const CALLED: &str = "ToolCalled";
/// Type of an outcome that is an answer.
pub const ANSWERED: &str = "ToolAnswered";
/// Type of an outcome that is a failure.
pub const FAILED: &str = "ToolFailed";

/// Context of the ids of calls.
const CONTEXT_ID: &str = "chainring 2026-11 v1 tool call";

/// In whose name tools are called.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Who acts.
    pub actor: String,
    /// For whom.
    pub on_behalf_of: Option<String>,
    /// The grant that every call must be covered by, and the rule it is cited for.
    pub grant: Option<(String, String)>,
}

/// What came of a call: bodies as they were given, JSON by custom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The tool's answer.
    Answered(String),
    /// Its failure.
    Failed(String),
}

/// Why there is no outcome.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// It may not happen, or could not be recorded; nothing happened.
    Act(ActError),
    /// It was begun before, and nobody has said what came of it. Look, and say so with [`Recorder::end`].
    Open {
        /// The intent.
        intent: EventId,
    },
    /// The effect happened, and its outcome could not be recorded: the intent stays open.
    NotRecorded {
        /// What came of it.
        outcome: Outcome,
        /// Why that is not in the log.
        error: Box<ActError>,
    },
    /// The log could not be read.
    Read(ReadError),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Act(error) => error.fmt(f),
            CallError::Open { intent } => write!(f, "the call was begun before (event {intent}), and what came of it is not known"),
            CallError::NotRecorded { error, .. } => write!(f, "the call happened, and its outcome is not recorded: {error}"),
            CallError::Read(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CallError {}

impl From<ActError> for CallError {
    fn from(error: ActError) -> CallError {
        CallError::Act(error)
    }
}

impl From<ReadError> for CallError {
    fn from(error: ReadError) -> CallError {
        CallError::Read(error)
    }
}

/// Records the tool calls of one run.
#[derive(Debug)]
pub struct Recorder {
    log: Arc<Log>,
    caller: Caller,
    run: String,
}

impl Recorder {
    /// For calls of a run, each with a key of its own in it. A run that was interrupted is gone on with under its name.
    #[must_use]
    pub fn new(log: Arc<Log>, caller: Caller, run: impl Into<String>) -> Recorder {
        Recorder { log, caller, run: run.into() }
    }

    /// Calls a tool once: records the intent, lets it happen, records what came of it. A call that was made before under this key is not made again.
    ///
    /// # Errors
    /// [`CallError`]; only after [`CallError::Open`] and [`CallError::NotRecorded`] the effect may have happened.
    pub fn call(
        &self,
        tool: &str,
        key: &str,
        arguments: &str,
        effect: impl FnOnce() -> Result<String, String>,
    ) -> Result<Outcome, CallError> {
        if let Some(outcome) = self.begin(tool, key, arguments)? {
            return Ok(outcome);
        }
        let outcome = effect().map_or_else(Outcome::Failed, Outcome::Answered);
        match self.end(tool, key, &outcome) {
            Ok(()) => Ok(outcome),
            Err(error) => Err(CallError::NotRecorded { outcome, error: Box::new(error) }),
        }
    }

    /// Records, durably, that a tool is about to be called. Gives what came of it if it was called before.
    ///
    /// # Errors
    /// [`CallError::Act`], [`CallError::Open`], [`CallError::Read`]: the tool is not to be called.
    pub fn begin(&self, tool: &str, key: &str, arguments: &str) -> Result<Option<Outcome>, CallError> {
        let view = self.log.latest();
        let intent = self.id(key, 0);
        if let Some(outcome) = view.find_event(self.id(key, 1))? {
            let body = String::from_utf8_lossy(outcome.body().unwrap_or_default()).into_owned();
            return Ok(Some(if outcome.event_type() == FAILED { Outcome::Failed(body) } else { Outcome::Answered(body) }));
        }
        if view.find_event(intent)?.is_some() {
            return Err(CallError::Open { intent });
        }
        let mut action = Action::new(self.event(tool, CALLED, Class::Intent).id(intent).body(arguments));
        if let Some((grant, rule)) = &self.caller.grant {
            action = action.allowed_by(grant, rule);
        }
        let receipt = self.log.act(&action)?;
        // Two threads with one key: the other one calls.
        if receipt.duplicate { Err(CallError::Open { intent }) } else { Ok(None) }
    }

    /// Records what came of a call, as the outcome of its intent.
    ///
    /// # Errors
    /// [`ActError`]; the intent stays open.
    pub fn end(&self, tool: &str, key: &str, outcome: &Outcome) -> Result<(), ActError> {
        let (event_type, body) = match outcome {
            Outcome::Answered(body) => (ANSWERED, body),
            Outcome::Failed(body) => (FAILED, body),
        };
        let event = self.event(tool, event_type, Class::Outcome).id(self.id(key, 1)).caused_by(self.id(key, 0)).body(body.as_str());
        self.log.act(&Action::new(event)).map(drop)
    }

    fn event(&self, tool: &str, event_type: &str, class: Class) -> Event {
        let metadata = Metadata {
            content_type: Some("application/json".into()),
            actor: Some(self.caller.actor.clone()),
            on_behalf_of: self.caller.on_behalf_of.clone(),
            correlation: Some(self.run.clone()),
            class: Some(class),
            ..Metadata::new(event_type)
        };
        Event::with_metadata(format!("tool/{tool}"), metadata)
    }

    /// Id of the intent (0) or the outcome (1) of a call.
    fn id(&self, key: &str, which: u8) -> EventId {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_ID);
        hasher.update(&(self.run.len() as u64).to_le_bytes()).update(self.run.as_bytes()).update(&[which]).update(key.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        EventId(id)
    }
}
