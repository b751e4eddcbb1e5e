//! Old events in today's words: bodies of earlier schema versions, brought up to date when they are read. What is stored never changes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use super::event::EventRef;
use crate::error::ReadError;

/// Turns the body of one schema version into that of the next; the error says why it cannot.
type Step = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync>;

/// How bodies of types become those of their newest schema version, one step at a time.
///
/// ```
/// # use chainring::{Event, Log, Position, Upcasts};
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// // Version 1 had cents, version 2 has a currency.
/// let upcasts = Upcasts::new().step("Paid", 1, |body| Ok([body, b" EUR"].concat()));
/// log.append(Event::new("payment-1", "Paid").body("42"))?;
/// let event = log.latest().event(Position(1))?.body().map(<[u8]>::to_vec);
/// let view = log.latest();
/// assert_eq!(upcasts.body(&view.event(Position(1))?)?.unwrap().as_ref(), b"42 EUR");
/// # assert_eq!(event.unwrap(), b"42");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Upcasts {
    steps: HashMap<String, HashMap<u64, Step>>,
}

impl Upcasts {
    /// None: every body as it is.
    #[must_use]
    pub fn new() -> Upcasts {
        Upcasts::default()
    }

    /// How the body of a type becomes that of the next schema version. An event that states no version is of version 1.
    #[must_use]
    pub fn step(
        mut self,
        event_type: impl Into<String>,
        from_version: u64,
        step: impl Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Upcasts {
        self.steps.entry(event_type.into()).or_default().insert(from_version, Box::new(step));
        self
    }

    /// The body of an event in the newest version there is a way to; `None` if it was erased.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if a step fails, naming the event; damage.
    pub fn body<'a>(&self, event: &EventRef<'a>) -> Result<Option<Cow<'a, [u8]>>, ReadError> {
        let Some(body) = event.body() else { return Ok(None) };
        let Some(steps) = self.steps.get(event.event_type()) else { return Ok(Some(body.into())) };
        let mut version = event.metadata()?.schema_version.unwrap_or(1);
        let mut body = Cow::Borrowed(body);
        while let Some(step) = steps.get(&version) {
            let failed = |why: String| ReadError::NotFound {
                what: format!("version {} of {} at position {}: {why}", version + 1, event.event_type(), event.position()),
            };
            body = step(&body).map_err(failed)?.into();
            version += 1;
        }
        Ok(Some(body))
    }
}

impl fmt::Debug for Upcasts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().map(|(event_type, steps)| (event_type, steps.keys().collect::<Vec<_>>()));
        f.debug_map().entries(steps).finish()
    }
}
