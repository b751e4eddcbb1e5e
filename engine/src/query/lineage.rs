//! What came of an event: the events that depend on it, through however many steps.
//!
//! An event depends on E if E caused it, or if it was decided against E's stream as of E's version or a later one, or if it depends on one that does. Both are
//! in the index by name, so the walk costs what it finds; a stream is asked for its readers once, from the lowest version that counts.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use chainring_format::metadata::{Class, Mention};
use chainring_format::{EventId, StreamId};

use super::View;
use super::event::EventRef;
use crate::error::ReadError;

/// What makes an event depend on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Relation {
    /// It was caused by it, or decided against what it wrote.
    #[default]
    CausationAndReads,
    /// Also if it was only checked with what it wrote: what a command's handler loaded, while its author may never have seen it.
    CausationReadsAndChecked,
}

impl View {
    /// Everything that depends on an event, in order of position, without the event itself. Empty if nothing does.
    ///
    /// Nothing depends on what comes after it: events before the batch of the event are not looked at.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if the event is not in view; damage, or an error of the device.
    pub fn dependents(&self, of: EventId, relation: Relation) -> Result<Vec<EventRef<'_>>, ReadError> {
        dependents(self, &[self.event_with_id(of)?], relation)
    }

    /// Intents without an outcome, in order: what was about to be tried, and nobody has said what came of it. An outcome is an event of that class that the intent
    /// caused.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn open_intents(&self) -> Result<Vec<EventRef<'_>>, ReadError> {
        let intent = Mention::Class(Class::Intent);
        let mut open = Vec::new();
        for event in self.naming(intent, 0, |mention| mention == intent)? {
            let caused = Mention::Causation(event.event_id());
            let mut has_outcome = false;
            for outcome in self.naming(caused, event.position().0, |mention| mention == caused)? {
                has_outcome |= outcome.metadata()?.class == Some(Class::Outcome);
            }
            if !has_outcome {
                open.push(event);
            }
        }
        Ok(open)
    }

    /// The event with this id.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if there is none in view; damage, or an error of the device.
    pub fn event_with_id(&self, id: EventId) -> Result<EventRef<'_>, ReadError> {
        self.find_event(id)?.ok_or_else(|| ReadError::NotFound { what: format!("event {id}") })
    }

    /// The event with this id, if there is one in view.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn find_event(&self, id: EventId) -> Result<Option<EventRef<'_>>, ReadError> {
        let position = self.shared.position_of(&id)?.filter(|position| *position < self.limit);
        Ok(position.map(|position| self.record(position)).transpose()?.filter(|event| self.shows(event)))
    }
}

/// Everything that depends on any of these events, without them, in order of position.
pub(super) fn dependents<'v>(view: &'v View, roots: &[EventRef<'v>], relation: Relation) -> Result<Vec<EventRef<'v>>, ReadError> {
    let mut walk = Walk { relation, found: BTreeMap::new(), ahead: BinaryHeap::new(), streams: HashMap::new() };
    walk.take_in(roots.iter().copied());
    while let Some(Reverse(position)) = walk.ahead.pop() {
        walk.expand(view, walk.found[&position])?;
    }
    roots.iter().for_each(|root| _ = walk.found.remove(&root.position().0));
    Ok(walk.found.into_values().collect())
}

struct Walk<'v> {
    relation: Relation,
    found: BTreeMap<u64, EventRef<'v>>,
    /// Positions that were found and not expanded: the lowest comes first, so that a stream is mostly met at its lowest version.
    ahead: BinaryHeap<Reverse<u64>>,
    /// Versions from which on readers of a stream were found.
    streams: HashMap<StreamId, u64>,
}

impl<'v> Walk<'v> {
    fn take_in(&mut self, events: impl IntoIterator<Item = EventRef<'v>>) {
        for event in events {
            if self.found.insert(event.position().0, event).is_none() {
                self.ahead.push(Reverse(event.position().0));
            }
        }
    }

    /// Finds what depends on an event directly.
    fn expand(&mut self, view: &'v View, event: EventRef<'v>) -> Result<(), ReadError> {
        // The events of a batch happen at once, in whatever order they stand.
        let from = event.position().0 - event.batch().map_or(0, |(index, _)| u64::from(index));
        let (version, relation) = (event.version().0, self.relation);
        let caused = Mention::Causation(event.event_id());
        self.take_in(view.naming(caused, from, |mention| mention == caused)?);
        match self.streams.entry(event.stream_id()) {
            Entry::Occupied(found) if *found.get() <= version => return Ok(()),
            entry => _ = entry.insert_entry(version),
        }
        let stream = event.stream()?;
        let reads = view.naming(Mention::Reads(stream, version), from, |mention| match mention {
            Mention::Reads(read, at) => read == stream && at >= version,
            Mention::Checked(read, at) => relation == Relation::CausationReadsAndChecked && read == stream && at >= version,
            _ => false,
        })?;
        self.take_in(reads);
        Ok(())
    }
}
