//! How an event, and everything that depends on it, can be taken back: a plan, which does nothing by itself.
//!
//! What depends on an event is taken back with it, newest first, so that at every step nothing stands on what is taken away. The plan ends at the newest event
//! that cannot be taken back: older ones stay as well, for that one stands on them.

use std::collections::{BTreeMap, HashMap, HashSet};

use chainring_format::metadata::{Mention, Reversibility};
use chainring_format::{EventId, Position, StreamId, Version};

use super::View;
use super::event::EventRef;
use super::lineage::{Relation, dependents};
use crate::error::ReadError;

/// What taking events back means.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UndoPlan<'v> {
    /// What is to be taken back, newest first.
    pub steps: Vec<EventRef<'v>>,
    /// The newest of all these events that cannot be taken back. What lies before it is in no step.
    pub horizon: Option<EventRef<'v>>,
    /// Events among them that were taken back already, each with the compensation that did it. They and their compensations are in no step.
    pub compensated: Vec<(EventRef<'v>, EventRef<'v>)>,
    /// The worst class among all these events. One that says nothing of itself counts as reversible.
    pub reversibility: Reversibility,
    /// Later events in the streams of the steps that stay: what is taken back must not take them along.
    pub kept: Vec<EventRef<'v>>,
    /// The streams of the steps and the versions the plan was made against. It holds as long as these do.
    pub heads: Vec<(&'v str, Version)>,
}

impl View {
    /// How events can be taken back, together with what depends on them by causation and reads.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if one of them is not in view; damage, or an error of the device.
    pub fn undo_plan(&self, events: &[EventId]) -> Result<UndoPlan<'_>, ReadError> {
        let mut all = events.iter().map(|event| self.event_with_id(*event)).collect::<Result<Vec<_>, _>>()?;
        all.extend(dependents(self, &all, Relation::CausationAndReads)?);
        all.sort_unstable_by_key(EventRef::position);
        all.dedup_by_key(|event| event.position());

        let mut compensated = Vec::new();
        for event in &all {
            compensated.extend(live_compensation(self, event)?.map(|by| (*event, by)));
        }
        let undone: HashSet<EventId> = compensated.iter().flat_map(|(event, by)| [event.event_id(), by.event_id()]).collect();

        let (mut steps, mut horizon, mut reversibility) = (Vec::new(), None, Reversibility::ReadOnly);
        for event in all.iter().rev() {
            let class = event.metadata()?.reversibility.unwrap_or(Reversibility::Reversible);
            if class as u8 > reversibility as u8 {
                reversibility = class;
            }
            if undone.contains(&event.event_id()) {
                continue;
            }
            if class == Reversibility::Irreversible && horizon.is_none() {
                horizon = Some(*event);
            }
            if horizon.is_none() {
                steps.push(*event);
            }
        }
        let mut plan = UndoPlan { steps, horizon, compensated, reversibility, kept: Vec::new(), heads: Vec::new() };
        plan.look_beside(self, &undone)?;
        Ok(plan)
    }

    /// The compensation of an event that is in force: one that was not itself taken back.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if the event is not in view; damage, or an error of the device.
    pub fn compensation_of(&self, event: EventId) -> Result<Option<EventRef<'_>>, ReadError> {
        live_compensation(self, &self.event_with_id(event)?)
    }

    /// Whether taking an event back leaves every event with one compensation in force at most. Gives the one that it would not go with: what took the event back
    /// already, or, where the event is itself a compensation, what took back in its place meanwhile. The second part is the event that all of these are about
    /// in the end.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub(crate) fn what_bars_undoing(&self, event: &EventRef<'_>) -> Result<(Option<EventId>, EventId), ReadError> {
        let mut at = *event;
        let mut barred_by = live_compensation(self, &at)?.map(|by| by.event_id());
        // What is taken back loses its force, what it had taken back regains it, and so on.
        let mut regains = false;
        while let Some(target) = at.metadata()?.compensates {
            // Whatever is named there: this ends.
            let Some(target) = self.find_event(target)?.filter(|target| target.position() < at.position()) else { break };
            if regains && barred_by.is_none() {
                barred_by = live_compensation(self, &target)?.map(|by| by.event_id());
            }
            regains = !regains;
            at = target;
        }
        Ok((barred_by, at.event_id()))
    }
}

impl<'v> UndoPlan<'v> {
    /// Finds the events behind the oldest step of each stream that are in no step, and where these streams stand.
    fn look_beside(&mut self, view: &'v View, undone: &HashSet<EventId>) -> Result<(), ReadError> {
        // Newest first: the oldest of a stream stays.
        let oldest: HashMap<StreamId, EventRef<'v>> = self.steps.iter().map(|step| (step.stream_id(), *step)).collect();
        let steps: HashSet<EventId> = self.steps.iter().map(EventRef::event_id).collect();
        let mut kept = BTreeMap::new();
        for step in oldest.values() {
            let name = step.stream()?;
            let Some(stream) = view.stream(name)? else { continue };
            self.heads.push((name, stream.version()));
            for event in stream.forward(step.version())? {
                let event = event?;
                if !steps.contains(&event.event_id()) && !undone.contains(&event.event_id()) {
                    kept.insert(event.position(), event);
                }
            }
        }
        self.heads.sort_unstable();
        self.kept = kept.into_values().collect();
        Ok(())
    }
}

/// The compensation of an event that was not taken back itself; the newest, if a history from elsewhere has more than one.
fn live_compensation<'v>(view: &'v View, event: &EventRef<'v>) -> Result<Option<EventRef<'v>>, ReadError> {
    // Compensations, those of compensations and so on, each with the position of what it takes back.
    let mut found: BTreeMap<Position, (EventRef<'v>, Position)> = BTreeMap::new();
    let mut ahead = vec![*event];
    while let Some(event) = ahead.pop() {
        let what = Mention::Compensates(event.event_id());
        for compensation in view.naming(what, event.position().0 + 1, |mention| mention == what)? {
            if found.insert(compensation.position(), (compensation, event.position())).is_none() {
                ahead.push(compensation);
            }
        }
    }
    // Each follows what it takes back: newest first, it is known whether one is in force before what it takes back is looked at.
    let mut taken_back: HashMap<Position, EventRef<'v>> = HashMap::new();
    for (compensation, target) in found.values().rev() {
        if !taken_back.contains_key(&compensation.position()) {
            taken_back.entry(*target).or_insert(*compensation);
        }
    }
    Ok(taken_back.remove(&event.position()))
}
