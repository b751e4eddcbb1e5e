//! One event, borrowed from its segment.

use chainring_format::frame::FrameView;
use chainring_format::metadata::{self, Metadata, Timestamp};
use chainring_format::{EventId, Link, Position, StreamId, Version};

use super::View;
use crate::error::ReadError;

/// An event in a view. Cheap to copy; lives as long as the view.
#[derive(Debug, Clone, Copy)]
pub struct EventRef<'a> {
    view: &'a View,
    position: u64,
    frame: FrameView<'a>,
}

impl<'a> EventRef<'a> {
    pub(super) fn new(view: &'a View, position: u64, frame: FrameView<'a>) -> EventRef<'a> {
        EventRef { view, position, frame }
    }

    pub(super) fn is_event(&self) -> bool {
        self.frame.is_event()
    }

    pub(super) fn frame(&self) -> &FrameView<'a> {
        &self.frame
    }

    /// Place in the whole log.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.position)
    }

    /// Place in its stream.
    #[must_use]
    pub fn version(&self) -> Version {
        Version(self.frame.header.version.get())
    }

    /// Id of its stream.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        self.frame.stream_id()
    }

    /// Name of its stream, from the stream's first event.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn stream(&self) -> Result<&'a str, ReadError> {
        if let Some(name) = self.frame.name() {
            return Ok(name);
        }
        let name = match self.view.shared.birth_position(&self.frame.stream_id())? {
            Some(first) => self.view.catalog.frame(first)?.name(),
            None => None,
        };
        name.ok_or_else(|| self.damaged("F4", "the stream has no first event with its name"))
    }

    /// The caller's id.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.frame.event_id()
    }

    /// When the engine recorded it, in nanoseconds since 1970.
    #[must_use]
    pub fn recorded_at_ns(&self) -> u64 {
        self.frame.header.recorded_at_ns.get()
    }

    /// When it claims to have occurred.
    #[must_use]
    pub fn occurred_at(&self) -> Option<Timestamp> {
        metadata::occurred_at(self.frame.metadata())
    }

    /// Its link in the chain.
    #[must_use]
    pub fn link(&self) -> Link {
        self.frame.link()
    }

    /// Its place in its batch, from 0, and the events of that batch; `None` if it was appended alone.
    #[must_use]
    pub fn batch(&self) -> Option<(u32, u32)> {
        let header = self.frame.header;
        (header.batch_count.get() > 0).then(|| (header.batch_index.get(), header.batch_count.get()))
    }

    /// Id of its batch: that of the batch's first event; `None` if it was appended alone.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn batch_id(&self) -> Result<Option<EventId>, ReadError> {
        match self.batch() {
            None => Ok(None),
            Some((0, _)) => Ok(Some(self.event_id())),
            Some((index, _)) => {
                let first = self.position.checked_sub(index.into()).ok_or_else(|| self.damaged("B1", "the batch starts before the log"))?;
                Ok(Some(self.view.catalog.frame(first)?.event_id()))
            }
        }
    }

    /// Metadata as stored.
    #[must_use]
    pub fn metadata_bytes(&self) -> &'a [u8] {
        self.frame.metadata()
    }

    /// Metadata, decoded.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the bytes break a rule of the format.
    pub fn metadata(&self) -> Result<Metadata, ReadError> {
        Metadata::decode(self.frame.metadata()).map_err(|violation| self.damaged(violation.rule, violation.why))
    }

    /// What happened; empty if the metadata is not valid.
    #[must_use]
    pub fn event_type(&self) -> &'a str {
        metadata::event_type(self.frame.metadata()).unwrap_or_default()
    }

    /// Content; `None` if it was erased.
    #[must_use]
    pub fn body(&self) -> Option<&'a [u8]> {
        self.frame.body()
    }

    fn damaged(&self, rule: &'static str, why: &'static str) -> ReadError {
        self.view.catalog.damaged(self.position, chainring_format::Violation { rule, why })
    }
}
