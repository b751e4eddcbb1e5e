//! A run played again: what it asks for is answered from the record, and nothing is done a second time.

use std::fmt;

use chainring_format::{EventId, Position, Version};

use super::View;
use super::event::EventRef;
use super::stream::StreamEvents;
use crate::error::ReadError;

/// Plays a recorded stream again. It has no way to append: whoever holds it can only be told what was.
///
/// ```
/// # use chainring::{Event, EventId, Log, ReplayError};
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// let call = EventId([1; 16]);
/// log.append(Event::new("run-7", "ToolCalled").id(call).body("weather in Bern"))?;
/// log.append(Event::new("run-7", "ToolReturned").caused_by(call).body("rain"))?;
///
/// let view = log.latest();
/// let mut replay = view.replay("run-7", ["ToolCalled"])?;
/// assert_eq!(replay.ask("ToolCalled", b"weather in Bern")?.unwrap().body(), Some(&b"rain"[..]));
/// replay.finish()?;
///
/// // Asked for something else: where, and what was asked then.
/// let Err(ReplayError::Diverged(divergence)) = view.replay("run-7", ["ToolCalled"])?.ask("ToolCalled", b"weather in Rome") else { panic!() };
/// assert_eq!(divergence.recorded.unwrap().1, b"weather in Bern");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replay<'v> {
    events: StreamEvents<'v>,
    /// Types of events that ask for something.
    requests: Vec<String>,
    /// Read already, and not given out: answers may come later, and in another order.
    ahead: Vec<EventRef<'v>>,
    /// Where the last request was.
    at: Position,
}

/// What a replay asked for was not what was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// Where in the log the recorded request is, or the last one if there is none behind it.
    pub position: Position,
    /// Type and body of the recorded request; `None` if there is none any more.
    pub recorded: Option<(String, Vec<u8>)>,
    /// Type and body that were asked for; `None` if the replay ended before the record.
    pub asked: Option<(String, Vec<u8>)>,
}

/// Why a replay cannot go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// It is not the same run any more.
    Diverged(Divergence),
    /// The record cannot be read.
    Read(ReadError),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |said: &Option<(String, Vec<u8>)>| {
            said.as_ref().map_or("nothing".to_owned(), |(event_type, body)| format!("{event_type} {}", String::from_utf8_lossy(body)))
        };
        match self {
            ReplayError::Diverged(divergence) => {
                write!(
                    f,
                    "at position {} was asked for {}, now for {}",
                    divergence.position,
                    told(&divergence.recorded),
                    told(&divergence.asked)
                )
            }
            ReplayError::Read(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<ReadError> for ReplayError {
    fn from(error: ReadError) -> ReplayError {
        ReplayError::Read(error)
    }
}

impl View {
    /// Plays a stream again, in which events of these types ask for something, and events that they caused are the answers.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if there is no such stream in view; damage, or an error of the device.
    pub fn replay<S: Into<String>>(&self, stream: &str, requests: impl IntoIterator<Item = S>) -> Result<Replay<'_>, ReadError> {
        let there = self.stream(stream)?.ok_or_else(|| ReadError::NotFound { what: format!("stream {stream}") })?;
        let events = there.forward(Version(1))?;
        Ok(Replay { events, requests: requests.into_iter().map(Into::into).collect(), ahead: Vec::new(), at: Position(0) })
    }
}

impl<'v> Replay<'v> {
    /// Asks for something; the recorded answer, or `None` if the record has none.
    ///
    /// # Errors
    /// [`ReplayError::Diverged`] if that is not what was asked for next; damage, or an error of the device.
    pub fn ask(&mut self, event_type: &str, body: &[u8]) -> Result<Option<EventRef<'v>>, ReplayError> {
        let asked = || Some((event_type.to_owned(), body.to_vec()));
        let Some(recorded) = self.next_request()? else {
            return Err(ReplayError::Diverged(Divergence { position: self.at, recorded: None, asked: asked() }));
        };
        self.at = recorded.position();
        // What was erased cannot be compared.
        if recorded.event_type() != event_type || recorded.body().is_some_and(|recorded| recorded != body) {
            let divergence = Divergence { position: self.at, recorded: Some(told(&recorded)), asked: asked() };
            return Err(ReplayError::Diverged(divergence));
        }
        Ok(self.answer_to(recorded.event_id())?)
    }

    /// Ends the replay.
    ///
    /// # Errors
    /// [`ReplayError::Diverged`] if the record asks for more; damage, or an error of the device.
    pub fn finish(mut self) -> Result<(), ReplayError> {
        match self.next_request()? {
            None => Ok(()),
            Some(recorded) => {
                let divergence = Divergence { position: recorded.position(), recorded: Some(told(&recorded)), asked: None };
                Err(ReplayError::Diverged(divergence))
            }
        }
    }

    fn next_request(&mut self) -> Result<Option<EventRef<'v>>, ReadError> {
        let is_request = |requests: &[String], event: &EventRef<'_>| requests.iter().any(|name| name == event.event_type());
        if let Some(place) = self.ahead.iter().position(|event| is_request(&self.requests, event)) {
            return Ok(Some(self.ahead.remove(place)));
        }
        for event in self.events.by_ref() {
            let event = event?;
            if is_request(&self.requests, &event) {
                return Ok(Some(event));
            }
            self.ahead.push(event);
        }
        Ok(None)
    }

    fn answer_to(&mut self, request: EventId) -> Result<Option<EventRef<'v>>, ReadError> {
        for place in 0..self.ahead.len() {
            if self.ahead[place].metadata()?.causation == Some(request) {
                return Ok(Some(self.ahead.remove(place)));
            }
        }
        for event in self.events.by_ref() {
            let event = event?;
            if event.metadata()?.causation == Some(request) {
                return Ok(Some(event));
            }
            self.ahead.push(event);
        }
        Ok(None)
    }
}

fn told(event: &EventRef<'_>) -> (String, Vec<u8>) {
    (event.event_type().to_owned(), event.body().unwrap_or_default().to_vec())
}
