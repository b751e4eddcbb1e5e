//! Grants: who may do what, how long and how much of it, as events.

use chainring_format::Version;
use chainring_format::cbor::Value;
use chainring_format::metadata::{AuthorityRef, Class, Metadata};

use super::notes;
use super::{ActError, Denial, note, version_of};
use crate::condition::Expected;
use crate::error::ReadError;
use crate::log::{Event, Log, Request};
use crate::query::{EventRef, View};
use crate::sequencer::{Receipt, Said, say, texts};

/// Parents of parents that are followed.
const PARENTS_MAX: usize = 16;

/// Leave to do something. What is empty or `None` is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// Streams it is for: prefixes of their names.
    pub streams: Vec<String>,
    /// Types it is for.
    pub types: Vec<String>,
    /// Actors it is for.
    pub actors: Vec<String>,
    /// From when on, in nanoseconds since 1970.
    pub valid_from_ns: Option<u64>,
    /// Until when, in nanoseconds since 1970; not at that instant any more.
    pub valid_to_ns: Option<u64>,
    /// Events that may be appended by it.
    pub count_max: Option<u64>,
    /// The sum that may be spent by it, in whatever unit the caller counts.
    pub amount_max: Option<u64>,
    /// The grant that this one was delegated from: it allows no more than that one, and only as long as that one is in force.
    pub parent: Option<String>,
    /// What it says, for people.
    pub text: String,
}

impl Grant {
    fn put(&self, metadata: &mut Metadata) {
        let entries = [
            ("streams", texts(&self.streams)),
            ("types", texts(&self.types)),
            ("actors", texts(&self.actors)),
            ("valid_from_ns", self.valid_from_ns.map(Value::Uint)),
            ("valid_to_ns", self.valid_to_ns.map(Value::Uint)),
            ("count_max", self.count_max.map(Value::Uint)),
            ("amount_max", self.amount_max.map(Value::Uint)),
            ("parent", self.parent.as_deref().map(Value::text)),
        ];
        say(metadata, "grant", entries);
    }

    fn of(event: &EventRef<'_>) -> Result<Grant, ReadError> {
        let said = Said::by(&event.metadata()?, "grant");
        Ok(Grant {
            streams: said.texts("streams"),
            types: said.texts("types"),
            actors: said.texts("actors"),
            valid_from_ns: said.uint("valid_from_ns"),
            valid_to_ns: said.uint("valid_to_ns"),
            count_max: said.uint("count_max"),
            amount_max: said.uint("amount_max"),
            parent: said.text("parent").map(str::to_owned),
            text: event.body().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default(),
        })
    }

    /// Whether it is for such an event, at an instant.
    #[must_use]
    pub fn covers(&self, stream: &str, event_type: &str, actor: &str, at_ns: u64) -> bool {
        self.lacks(stream, event_type, Some(actor)).is_none() && self.is_valid_at(at_ns)
    }

    /// What of such an event it is not for, whenever that is; `None` if it is. Actors are not looked at where none is given.
    fn lacks(&self, stream: &str, event_type: &str, actor: Option<&str>) -> Option<String> {
        let is_in = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
        if !self.streams.is_empty() && !self.streams.iter().any(|prefix| stream.starts_with(prefix.as_str())) {
            Some(format!("stream {stream}"))
        } else if !is_in(&self.types, event_type) {
            Some(format!("type {event_type}"))
        } else {
            actor.filter(|actor| !is_in(&self.actors, actor)).map(|actor| format!("actor {actor}"))
        }
    }

    /// Whether its time has come and is not over.
    #[must_use]
    pub fn is_valid_at(&self, at_ns: u64) -> bool {
        self.valid_from_ns.is_none_or(|from| at_ns >= from) && self.valid_to_ns.is_none_or(|to| at_ns < to)
    }

    /// What keeps this grant from being a part of another one; `None` if it is one.
    fn exceeds(&self, parent: &Grant) -> Option<&'static str> {
        let within =
            |own: &[String], others: &[String]| others.is_empty() || (!own.is_empty() && own.iter().all(|own| others.contains(own)));
        let is_prefix = |own: &String| parent.streams.iter().any(|prefix| own.starts_with(prefix.as_str()));
        let at_most = |own: Option<u64>, most: Option<u64>| most.is_none_or(|most| own.is_some_and(|own| own <= most));
        if !parent.streams.is_empty() && (self.streams.is_empty() || !self.streams.iter().all(is_prefix)) {
            return Some("other streams");
        }
        if !within(&self.types, &parent.types) {
            return Some("other types");
        }
        if !at_most(self.valid_to_ns, parent.valid_to_ns) || self.valid_from_ns.unwrap_or(0) < parent.valid_from_ns.unwrap_or(0) {
            return Some("another time");
        }
        if !at_most(self.count_max, parent.count_max) || !at_most(self.amount_max, parent.amount_max) {
            return Some("more");
        }
        None
    }
}

impl View {
    /// The grant of a name that is in force in this view, whatever time it is; with its version.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn grant(&self, name: &str) -> Result<Option<(Grant, Version)>, ReadError> {
        Ok(current(self, name)?.map(|(grant, event)| (grant, event.version())))
    }
}

fn current<'v>(view: &'v View, name: &str) -> Result<Option<(Grant, EventRef<'v>)>, ReadError> {
    let newest = super::newest(view, &notes::authority(name))?.filter(|event| event.event_type() == GRANTED);
    newest.map(|event| Ok((Grant::of(&event)?, event))).transpose()
}

const GRANTED: &str = "Granted";
const REVOKED: &str = "Revoked";
const USED: &str = "Used";

/// What an action asks of a grant.
pub(super) struct Asked<'a> {
    pub events: &'a [Event],
    pub amount: u64,
    pub now_ns: u64,
}

/// What follows if a grant, and all it was delegated from, allow something.
#[derive(Default)]
pub(super) struct Allowed {
    /// Streams that must be at these versions.
    pub required: Vec<(String, u64)>,
    /// What was used, to be appended with it.
    pub used: Vec<Event>,
    pub reference: AuthorityRef,
    pub denials: Vec<Denial>,
    /// When the first of these grants ends.
    pub valid_to_ns: Option<u64>,
}

/// Looks at a grant and everything that it was delegated from.
pub(super) fn judge(view: &View, name: &str, rule: Option<&str>, asked: &Asked<'_>) -> Result<Allowed, ReadError> {
    let mut allowed = Allowed::default();
    let mut next = Some(name.to_owned());
    for depth in 0.. {
        let Some(name) = next.take() else { break };
        let not_in_force = |why: &str| {
            let why = if depth == 0 { why.to_owned() } else { format!("{name}, which it was delegated from, is {why}") };
            Denial::NotInForce { grant: name.clone(), why }
        };
        let stream = notes::authority(&name);
        // Also where there is none: it may come.
        allowed.required.push((stream.clone(), version_of(view, &stream)?));
        let Some((grant, event)) = current(view, &name)? else {
            allowed.denials.push(not_in_force("missing or revoked"));
            break;
        };
        if depth == 0 {
            let rule = rule.map(str::to_owned);
            let (version, link) = (Some(event.version().0), Some(event.link()));
            allowed.reference =
                AuthorityRef { stream: Some(stream), version, link, rule, event: Some(event.event_id()), ..AuthorityRef::default() };
        }
        allowed.valid_to_ns = allowed.valid_to_ns.into_iter().chain(grant.valid_to_ns).min();
        if grant.valid_from_ns.is_some_and(|from| asked.now_ns < from) {
            allowed.denials.push(not_in_force("too early"));
        }
        if grant.valid_to_ns.is_some_and(|to| asked.now_ns >= to) {
            allowed.denials.push(not_in_force("over"));
        }
        // The actors of a grant are those it was given to: who it was delegated on to is in the delegation.
        let lacks = |event: &Event| {
            let actor = event.metadata.actor.as_deref().unwrap_or_default();
            grant.lacks(&event.stream, &event.metadata.event_type, (depth == 0).then_some(actor))
        };
        for what in asked.events.iter().filter_map(lacks) {
            allowed.denials.push(Denial::OutOfScope { grant: name.clone(), what });
        }
        use_up(view, &name, &grant, event.version(), asked, &mut allowed)?;
        if depth == PARENTS_MAX {
            allowed.denials.push(not_in_force("delegated too often"));
            break;
        }
        next = grant.parent;
    }
    Ok(allowed)
}

/// Counts an action against the ceilings of a grant. Each use says how much was used of that grant in all, so that only the newest is read.
fn use_up(view: &View, name: &str, grant: &Grant, version: Version, asked: &Asked<'_>, allowed: &mut Allowed) -> Result<(), ReadError> {
    if grant.count_max.is_none() && grant.amount_max.is_none() {
        return Ok(());
    }
    let stream = notes::usage(name);
    let newest = super::newest(view, &stream)?;
    let head = newest.as_ref().map_or(0, |event| event.version().0);
    let (mut count, mut amount) = (0, 0);
    if let Some(event) = newest {
        let said = Said::by(&event.metadata()?, "used");
        // A grant that was given anew begins anew.
        if said.uint("grant") == Some(version.0) {
            (count, amount) = (said.uint("count").unwrap_or(0), said.uint("amount").unwrap_or(0));
        }
    }
    let count_left = grant.count_max.map_or(u64::MAX, |most| most.saturating_sub(count));
    let amount_left = grant.amount_max.map_or(u64::MAX, |most| most.saturating_sub(amount));
    allowed.required.push((stream.clone(), head));
    if asked.events.len() as u64 > count_left || asked.amount > amount_left {
        allowed.denials.push(Denial::OverCeiling { grant: name.to_owned(), count_left, amount_left });
        return Ok(());
    }
    let (count, amount) = (count + asked.events.len() as u64, amount.saturating_add(asked.amount));
    let entries = [("grant", version.0), ("count", count), ("amount", amount)];
    let used = note(stream, USED, |metadata| say(metadata, "used", entries.map(|(name, value)| (name, Some(Value::Uint(value))))));
    allowed.used.push(used.expected(Expected::Exactly(Version(head))));
    Ok(())
}

impl Log {
    /// Gives leave under a name. A grant of that name that is in force is superseded, and what was used of it begins anew.
    ///
    /// # Errors
    /// [`ActError::Denied`] if it allows more than the grant it is delegated from, or that one is not in force; else as for every append.
    pub fn grant(&self, name: &str, grant: &Grant, actor: &str) -> Result<Receipt, ActError> {
        self.append_to_the_newest(|view| {
            let stream = notes::authority(name);
            let event = note(stream.clone(), GRANTED, |metadata| {
                metadata.actor = Some(actor.to_owned());
                metadata.class = Some(Class::Authority);
                grant.put(metadata);
            });
            let mut request =
                Request::event(event.body(grant.text.as_bytes()).expected(Expected::Exactly(Version(version_of(view, &stream)?))));
            if let Some(parent) = &grant.parent {
                let denied = |denial| Err(ActError::Denied(vec![denial]));
                let Some((above, event)) = current(view, parent)? else {
                    return denied(Denial::NotInForce { grant: parent.clone(), why: "missing or revoked".into() });
                };
                if let Some(what) = grant.exceeds(&above) {
                    return denied(Denial::OutOfScope { grant: parent.clone(), what: what.into() });
                }
                if !above.actors.is_empty() && !above.actors.iter().any(|granted| granted == actor) {
                    return denied(Denial::OutOfScope { grant: parent.clone(), what: format!("actor {actor}") });
                }
                request = request.require(notes::authority(parent), Expected::Exactly(event.version()));
            }
            Ok(request)
        })
    }

    /// Ends a grant: from the next action on it is not in force.
    ///
    /// # Errors
    /// As for every append.
    pub fn revoke(&self, name: &str, actor: &str) -> Result<Receipt, ActError> {
        let event = note(notes::authority(name), REVOKED, |metadata| {
            metadata.actor = Some(actor.to_owned());
            metadata.class = Some(Class::Authority);
        });
        Ok(self.append(event)?)
    }
}
