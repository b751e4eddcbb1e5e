//! Many questions of the same view for events that name something. The index answers them; what it does not have yet is read once, for all of them.

use std::collections::HashMap;

use chainring_format::metadata::{Mention, mentions};

use super::View;
use super::event::EventRef;
use super::scan::Events;
use crate::error::ReadError;
use crate::index::Term;

/// Positions that are looked up together.
const LOOKED_UP: usize = 1024;

/// Whether this is something that is asked for here.
fn is_asked_for(mention: Mention<'_>) -> bool {
    matches!(mention, Mention::Causation(_) | Mention::Reads(..) | Mention::Checked(..) | Mention::Compensates(_) | Mention::Class(_))
}

/// Asks of one view, about causes, reads, classes, and what was compensated.
#[derive(Debug)]
pub(super) struct Naming<'v> {
    view: &'v View,
    /// Positions of events that are not in the index, by what they name; read at first need.
    tail: Option<HashMap<u64, Vec<u64>>>,
}

impl<'v> Naming<'v> {
    pub(super) fn new(view: &'v View) -> Naming<'v> {
        Naming { view, tail: None }
    }

    /// Events from a position on that name something of which `is_it` holds, in order.
    pub(super) fn events(
        &mut self,
        what: Mention<'_>,
        mut from: u64,
        is_it: impl Fn(Mention<'_>) -> bool,
    ) -> Result<Vec<EventRef<'v>>, ReadError> {
        let view = self.view;
        let index = &view.shared.index;
        let key = index.key(&Term::Mention(what));
        // Before the index is asked: what comes into it meanwhile is found twice, not missed.
        let mut positions: Vec<u64> = self.tail()?.get(&key).into_iter().flatten().copied().filter(|position| *position >= from).collect();
        loop {
            let indexed = index.first_from(&view.shared.catalog(), key, from, LOOKED_UP)?;
            positions.extend(&indexed);
            match indexed.last() {
                Some(last) if indexed.len() == LOOKED_UP => from = last + 1,
                _ => break,
            }
        }
        positions.sort_unstable();
        positions.dedup();
        let mut events = Vec::new();
        for position in positions.into_iter().take_while(|position| *position < view.limit) {
            let event = view.record(position)?;
            let mut is_named = false;
            mentions(event.metadata_bytes(), |mention| is_named |= is_it(mention));
            if is_named && event.is_event() && view.shows(&event) {
                events.push(event);
            }
        }
        Ok(events)
    }

    fn tail(&mut self) -> Result<&HashMap<u64, Vec<u64>>, ReadError> {
        if self.tail.is_none() {
            let index = &self.view.shared.index;
            let mut tail: HashMap<u64, Vec<u64>> = HashMap::new();
            for event in Events::new(self.view, index.runs().end(), self.view.limit) {
                let event = event?;
                mentions(event.metadata_bytes(), |mention| {
                    if is_asked_for(mention) {
                        tail.entry(index.key(&Term::Mention(mention))).or_default().push(event.position().0);
                    }
                });
            }
            self.tail = Some(tail);
        }
        Ok(self.tail.as_ref().expect("was just read"))
    }
}
