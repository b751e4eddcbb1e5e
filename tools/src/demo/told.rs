//! One event as the log gives it back, in the words of the story.

use chainring::{EventId, EventRef, Metadata, Store, View};

use super::folded::field;
use crate::output::Failure;
use crate::time;

/// An event, read back.
pub(super) struct Told<'v> {
    pub(super) id: EventId,
    pub(super) position: u64,
    pub(super) version: u64,
    pub(super) stream: &'v str,
    pub(super) metadata: Metadata,
    body: &'v str,
    batch: Option<(u32, u32)>,
}

impl<'v> Told<'v> {
    pub(super) fn new(event: &EventRef<'v>) -> Result<Told<'v>, Failure> {
        Ok(Told {
            id: event.event_id(),
            position: event.position().0,
            version: event.version().0,
            stream: event.stream()?,
            metadata: event.metadata()?,
            body: event.body().and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default(),
            batch: event.batch(),
        })
    }

    pub(super) fn by_id(view: &'v View, store: &Store, id: EventId) -> Result<Told<'v>, Failure> {
        let position = store.locate(id)?.ok_or_else(|| Failure::No(format!("event {id} is not in the log")))?;
        Told::new(&view.event(position)?)
    }

    pub(super) fn event_type(&self) -> &str {
        &self.metadata.event_type
    }

    /// Hours, minutes and seconds of the claimed time.
    pub(super) fn time_of_day(&self) -> String {
        let time = self.metadata.occurred_at.map(time::render).unwrap_or_default();
        time.get(11..19).unwrap_or_default().to_owned()
    }

    /// Who acted, and for whom.
    pub(super) fn who(&self) -> String {
        let actor = self.metadata.actor.as_deref().unwrap_or("nobody");
        match &self.metadata.on_behalf_of {
            Some(principal) => format!("{actor} for {principal}"),
            None => actor.to_owned(),
        }
    }

    /// What was said, or which tool was called; else who acted.
    pub(super) fn gist(&self) -> String {
        let (text, tool) = (field(self.body, "text"), field(self.body, "tool"));
        text.map(|text| format!("{text:?}")).or(tool).unwrap_or_else(|| self.who())
    }

    /// A bracket around the events of one batch, top to bottom.
    pub(super) fn batch_mark(&self) -> char {
        match self.batch {
            None => ' ',
            Some((0, _)) => '┌',
            Some((index, count)) if index + 1 == count => '└',
            Some(_) => '│',
        }
    }
}
