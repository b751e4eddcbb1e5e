//! `authorised-by`, `wrong-authority` and `re-admit`: what an authority allowed, whether what events name was in force, and what another version would say.
//!
//! An authority is an event: that which an action names by id, or by stream and version. It is in force for an action if it was recorded before it, nothing in
//! its stream has revoked or replaced it by then, and the action keeps to what it says of itself: `valid_from` and `valid_to` (or `expires_at`), RFC 3339
//! times, and `scope` with `streams`, prefixes of names, and `types`. A later event of its stream replaces it if it is of the same type or of the class
//! authority, and revokes it if its type ends in `Revoked` or its data says `"revoked":true`. Anything else in the stream, such as what was used of it, does
//! neither.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use chainring::{AuthorityRef, By, Class, EventRef, Position, Store, Timestamp, Version, View};
use sha2::{Digest, Sha256};

use super::{brief, object, quoted, tell_all};
use crate::cli::{AuthorisedBy, ReAdmit, WrongAuthority};
use crate::form::event_id;
use crate::form::members::hex;
use crate::output::{Answer, BAD, DIM, Failure, Out, counted, progress};
use crate::show::printable;
use crate::{rawjson, time};

/// Whether something was in force for an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Force {
    /// It was.
    Holds,
    /// Nothing of that name is in the log, or the action names nothing.
    Missing,
    /// It was recorded after the action.
    NotYet,
    /// Another one had taken its place, at this version of its stream.
    Superseded(Version),
    /// It had been taken back, at this version of its stream.
    Revoked(Version),
    /// Its time was over, or had not come.
    Expired,
    /// It is for other streams or types.
    OutOfScope,
    /// What it says is not what the action says it does.
    OtherText,
}

impl Force {
    fn word(&self) -> &'static str {
        match self {
            Force::Holds => "in-force",
            Force::Missing => "missing",
            Force::NotYet => "not-yet",
            Force::Superseded(_) => "superseded",
            Force::Revoked(_) => "revoked",
            Force::Expired => "expired",
            Force::OutOfScope => "out-of-scope",
            Force::OtherText => "other-text",
        }
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        match self {
            Force::Holds => "in force".to_owned(),
            Force::Missing => "not in the log".to_owned(),
            Force::NotYet => "recorded only afterwards".to_owned(),
            Force::Superseded(by) => format!("superseded by v{by}"),
            Force::Revoked(by) => format!("revoked by v{by}"),
            Force::Expired => "not valid at that time".to_owned(),
            Force::OutOfScope => "for other streams or types".to_owned(),
            Force::OtherText => "its text is another one".to_owned(),
        }
    }
}

/// What an action names as what allowed it.
pub(crate) struct Citation<'v> {
    reference: AuthorityRef,
    /// The event that is the authority.
    pub(crate) event: Option<EventRef<'v>>,
    pub(crate) force: Force,
}

/// What is to be allowed: an event, or one that is still to be appended.
pub(crate) struct Action<'a> {
    pub(crate) stream: &'a str,
    pub(crate) event_type: &'a str,
    pub(crate) actor: Option<&'a str>,
    pub(crate) at: Timestamp,
    pub(crate) recorded_ns: u64,
    /// What stands before it, and before the end of its batch: that happens at the same moment.
    pub(crate) begin: Position,
    pub(crate) end: Position,
}

impl<'a> Action<'a> {
    fn of(event: &EventRef<'a>, actor: Option<&'a str>) -> Result<Action<'a>, Failure> {
        let (index, count) = event.batch().unwrap_or((0, 1));
        Ok(Action {
            stream: event.stream()?,
            event_type: event.event_type(),
            actor,
            recorded_ns: event.recorded_at_ns(),
            at: event.occurred_at().unwrap_or_else(|| time::from_nanoseconds(event.recorded_at_ns())),
            begin: event.position(),
            end: Position(event.position().0 - u64::from(index) + u64::from(count)),
        })
    }
}

/// Everything an event names as what allowed it.
pub(super) fn citations<'v>(view: &'v View, event: &EventRef<'_>) -> Result<Vec<Citation<'v>>, Failure> {
    let metadata = event.metadata()?;
    // Most name none, and asking for the stream of an event costs more than knowing that.
    if metadata.authority.is_empty() {
        return Ok(Vec::new());
    }
    let action = Action::of(event, metadata.actor.as_deref())?;
    metadata.authority.iter().cloned().map(|reference| cite(view, reference, &action)).collect()
}

/// What a reference means, and whether that is in force for an action.
pub(crate) fn cite<'v>(view: &'v View, reference: AuthorityRef, action: &Action<'_>) -> Result<Citation<'v>, Failure> {
    let event = resolve(view, &reference)?;
    let force = match &event {
        Some(event) => force(view, event, &reference, action)?,
        None => Force::Missing,
    };
    Ok(Citation { reference, event, force })
}

/// The event that a reference means.
fn resolve<'v>(view: &'v View, reference: &AuthorityRef) -> Result<Option<EventRef<'v>>, Failure> {
    if let Some(id) = reference.event {
        return Ok(view.find_event(id)?);
    }
    let version = reference.version.or_else(|| reference.policy_version.as_ref()?.parse().ok());
    let name = reference.stream.as_deref().or(reference.policy.as_deref());
    let (Some(name), Some(version)) = (name, version) else { return Ok(None) };
    at_version(view, name, version)
}

fn at_version<'v>(view: &'v View, stream: &str, version: u64) -> Result<Option<EventRef<'v>>, Failure> {
    let Some(stream) = view.stream(stream)?.filter(|_| version > 0) else { return Ok(None) };
    let first = stream.forward(Version(version))?.next().transpose()?;
    Ok(first.filter(|event| event.version().0 == version))
}

fn force(view: &View, authority: &EventRef<'_>, reference: &AuthorityRef, action: &Action<'_>) -> Result<Force, Failure> {
    if authority.position() >= action.end {
        return Ok(Force::NotYet);
    }
    let before = view.up_to(action.begin);
    if let Some(stream) = before.stream(authority.stream()?)? {
        let mut superseded = None;
        for later in stream.forward(Version(authority.version().0 + 1))? {
            let later = later?;
            if is_revocation(&later) {
                return Ok(Force::Revoked(later.version()));
            }
            if superseded.is_none() && (later.event_type() == authority.event_type() || later.metadata()?.class == Some(Class::Authority)) {
                superseded = Some(Force::Superseded(later.version()));
            }
        }
        if let Some(superseded) = superseded {
            return Ok(superseded);
        }
    }
    let fit = fit(view, authority, action)?;
    Ok(if fit == Force::Holds && !is_text(&data(authority), authority, reference) { Force::OtherText } else { fit })
}

/// Whether what an authority says of itself covers an action.
fn fit(view: &View, authority: &EventRef<'_>, action: &Action<'_>) -> Result<Force, Failure> {
    // A grant of the engine's own says it in its attributes, for the time of recording.
    if let Some(name) = authority.stream()?.strip_prefix("$authority/")
        && let Some((grant, _)) = view.up_to(Position(authority.position().0 + 1)).grant(name)?
    {
        let at_ns = action.recorded_ns;
        if !grant.is_valid_at(at_ns) {
            return Ok(Force::Expired);
        }
        if !grant.covers(action.stream, action.event_type, action.actor.unwrap_or_default(), at_ns) {
            return Ok(Force::OutOfScope);
        }
    }
    let says = data(authority);
    let at = action.at;
    let instant = |name: &str| says.get(name).and_then(|value| time::parse(&rawjson::string(value)?));
    let is_early = instant("valid_from").is_some_and(|from| at < from);
    if is_early || ["valid_to", "expires_at"].into_iter().filter_map(instant).any(|to| at >= to) {
        return Ok(Force::Expired);
    }
    Ok(if is_in_scope(says.get("scope").map(String::as_str), action) { Force::Holds } else { Force::OutOfScope })
}

fn is_revocation(event: &EventRef<'_>) -> bool {
    event.event_type().ends_with("Revoked") || data(event).get("revoked").is_some_and(|revoked| revoked == "true")
}

/// Data of an event, member by member, with what it sets laid over.
fn data(event: &EventRef<'_>) -> HashMap<String, String> {
    let text = event.body().and_then(rawjson::valid_bytes).unwrap_or("null");
    let own = |text: &str| -> HashMap<String, String> {
        rawjson::members(text).into_iter().flatten().map(|(name, value)| (rawjson::name(name), value.to_owned())).collect()
    };
    let mut all = own(text);
    if let Some(set) = all.get("set").cloned() {
        all.extend(own(&set));
    }
    all
}

fn is_in_scope(scope: Option<&str>, action: &Action<'_>) -> bool {
    let Some(scope) = scope.and_then(rawjson::members) else { return true };
    let mut is_in = true;
    for (name, values) in scope {
        let values: Vec<String> = rawjson::elements(values).into_iter().flatten().map(rawjson::name).collect();
        match rawjson::name(name).as_str() {
            "streams" => is_in &= values.iter().any(|prefix| action.stream.starts_with(prefix.as_str())),
            "types" => is_in &= values.iter().any(|name| name == action.event_type),
            _ => {}
        }
    }
    is_in
}

/// Whether the digest that an action names is that of the authority's text, or of all it says.
fn is_text(says: &HashMap<String, String>, authority: &EventRef<'_>, reference: &AuthorityRef) -> bool {
    let Some(digest) = &reference.digest else { return true };
    let is = |bytes: &[u8]| Sha256::digest(bytes).as_slice() == &digest[..];
    let text = says.get("text").and_then(|text| rawjson::string(text));
    match (text, says.get("sha256").and_then(|text| rawjson::string(text))) {
        (Some(text), _) => is(text.as_bytes()),
        (None, Some(stated)) => stated == hex(digest),
        (None, None) => authority.body().is_none_or(is),
    }
}

impl Citation<'_> {
    /// What it goes by.
    pub(super) fn name(&self) -> String {
        let reference = &self.reference;
        let version = reference.version.map(|version| format!("v{version}"));
        let words = [&reference.policy, &reference.policy_version, &reference.stream, &version, &reference.rule];
        let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
        if words.is_empty() { reference.event.map(|id| id.to_string()).unwrap_or_default() } else { words.join(" ") }
    }

    /// What it says, if it says it in so many words.
    pub(super) fn text(&self) -> Result<Option<String>, Failure> {
        let Some(event) = &self.event else { return Ok(None) };
        Ok(data(event).get("text").and_then(|text| Some(rawjson::string(text)?.into_owned())))
    }

    /// As JSON.
    pub(super) fn json(&self) -> Result<String, Failure> {
        object(|object| {
            object.raw("in_force", if self.force == Force::Holds { "true" } else { "false" });
            object.text("force", self.force.word());
            if let Force::Superseded(by) | Force::Revoked(by) = &self.force {
                object.number("by_version", by.0);
            }
            let Some(event) = &self.event else { return Ok(()) };
            brief(event, object)?;
            object.texts("text", self.text()?.as_deref());
            Ok(())
        })
    }
}

/// `authorised-by`: actions that name an authority.
pub(crate) fn authorised_by(path: &Path, args: &AuthorisedBy, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let (name, version) = named(&args.authority);
    let actions = actions(&view, name, version)?;
    let actions: Vec<EventRef<'_>> = actions.into_values().collect();
    tell_all(&actions, ("authority", &quoted(&args.authority)), ("event was allowed by it", "events were allowed by it"), out)
}

/// Name and version of an authority as it was typed.
fn named(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once('@') {
        Some((name, version)) if !name.is_empty() => (name, Some(version)),
        _ => (text, None),
    }
}

/// Actions that name an authority, in order.
fn actions<'v>(view: &'v View, name: &'v str, version: Option<&str>) -> Result<BTreeMap<Position, EventRef<'v>>, Failure> {
    // The events that are the authority, where it goes by a stream or an id.
    let mut sources = Vec::new();
    if let Some(stream) = view.stream(name)? {
        for event in stream.forward(Version(1))? {
            let event = event?;
            if version.is_none_or(|version| event.version().to_string() == version) {
                sources.push(event.event_id());
            }
        }
    } else if let Some(event) = view.find_event(event_id(name))? {
        sources.push(event.event_id());
    }
    let mut actions = BTreeMap::new();
    for source in sources {
        for event in view.events_by(By::AuthorityEvent(source), Position(0)) {
            let event = event?;
            if event.metadata()?.authority.iter().any(|authority| authority.event == Some(source)) {
                actions.insert(event.position(), event);
            }
        }
    }
    for event in view.events_by(By::Authority(name), Position(0)) {
        let event = event?;
        let is_it = |authority: &AuthorityRef| {
            let names = [&authority.stream, &authority.policy, &authority.rule];
            let versions = [authority.policy_version.clone(), authority.version.map(|version| version.to_string())];
            names.into_iter().any(|found| found.as_deref() == Some(name))
                && version.is_none_or(|version| versions.iter().flatten().any(|found| found == version))
        };
        if event.metadata()?.authority.iter().any(is_it) {
            actions.insert(event.position(), event);
        }
    }
    Ok(actions)
}

/// `re-admit`: recorded decisions, judged by another version of what allowed them.
pub(crate) fn re_admit(path: &Path, args: &ReAdmit, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let (name, version) = named(&args.policy);
    let version: Option<u64> =
        version.map(|version| version.parse().map_err(|_| Failure::Usage(format!("{version:?} is no version")))).transpose()?;
    let (mut judged, mut differing) = (0, 0);
    for event in actions(&view, name, None)?.values() {
        let metadata = event.metadata()?;
        let action = Action::of(event, metadata.actor.as_deref())?;
        for citation in citations(&view, event)? {
            let Some(cited) = citation.event else { continue };
            let is_it = [&citation.reference.stream, &citation.reference.policy, &citation.reference.rule]
                .into_iter()
                .any(|found| found.as_deref() == Some(name));
            if !is_it && cited.stream()? != name {
                continue;
            }
            let Some((by, now)) = judge_anew(&view, cited.stream()?, version, &action)? else {
                return Err(Failure::No(format!("{name} has no version {}", version.unwrap_or_default())));
            };
            judged += 1;
            if now != citation.force {
                differing += 1;
                tell_difference(event, &citation.force, &now, by, out)?;
            }
        }
    }
    if !out.json {
        writeln!(out, "{}, {differing} of them otherwise", counted(judged, "decision was judged anew", "decisions were judged anew"))?;
    }
    out.flush()?;
    Ok(true)
}

/// What a version of an authority, or the one in force today, says of an action, whenever that was; and which version it is.
fn judge_anew(view: &View, stream: &str, version: Option<u64>, action: &Action<'_>) -> Result<Option<(Version, Force)>, Failure> {
    let Some(version) = version else {
        let Some(there) = view.stream(stream)? else { return Ok(None) };
        for event in there.backward() {
            let event = event?;
            if is_revocation(&event) {
                return Ok(Some((event.version(), Force::Revoked(event.version()))));
            }
            // What was used of it says nothing.
            if event.event_type() != "Used" && event.event_type() != "GrantUsed" {
                return Ok(Some((event.version(), fit(view, &event, action)?)));
            }
        }
        return Ok(None);
    };
    let event = at_version(view, stream, version)?;
    event.map(|event| Ok((event.version(), fit(view, &event, action)?))).transpose()
}

fn tell_difference(event: &EventRef<'_>, then: &Force, now: &Force, by: Version, out: &mut Out) -> Result<(), Failure> {
    if out.json {
        let line = object(|object| {
            brief(event, object)?;
            object.text("then", then.word());
            object.text("now", now.word());
            object.number("by_version", by.0);
            Ok(())
        })?;
        writeln!(out, "{line}")?;
    } else {
        let place = out.paint(DIM, &format!("{:>9}", event.position())).into_owned();
        let now = out.paint(BAD, &now.words()).into_owned();
        writeln!(
            out,
            "{place}  {} v{}  {}  was {}; by v{by}: {now}",
            printable(event.stream()?),
            event.version(),
            event.event_type(),
            then.words()
        )?;
    }
    Ok(())
}

/// `wrong-authority`: actions whose authority was not in force.
pub(crate) fn wrong(path: &Path, args: &WrongAuthority, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = store.latest();
    let bar = progress("read", view.end().0, false);
    let events: Box<dyn Iterator<Item = _>> = match &args.authority {
        Some(name) if args.required.is_empty() => Box::new(view.events_by(By::Authority(name), Position(0))),
        _ => Box::new(view.events()),
    };
    let mut found = 0;
    for (count, event) in events.enumerate() {
        let event = event?;
        if count % 4096 == 0 {
            bar.set_position(event.position().0);
        }
        let is_named = |citation: &Citation<'_>| {
            let names = [&citation.reference.stream, &citation.reference.policy, &citation.reference.rule];
            args.authority.is_none() || names.contains(&&args.authority)
        };
        let mut wrong = citations(&view, &event)?;
        if wrong.is_empty() && args.required.iter().any(|name| name == event.event_type()) {
            wrong.push(Citation { reference: AuthorityRef::default(), event: None, force: Force::Missing });
        } else {
            wrong.retain(|citation| citation.force != Force::Holds && is_named(citation));
        }
        for citation in wrong {
            tell(&event, &citation, out)?;
            found += 1;
        }
    }
    bar.finish_and_clear();
    if !out.json {
        writeln!(out, "{} by something that was not in force", counted(found, "event was allowed", "events were allowed"))?;
    }
    out.flush()?;
    Ok(true)
}

fn tell(event: &EventRef<'_>, citation: &Citation<'_>, out: &mut Out) -> Result<(), Failure> {
    if out.json {
        let line = object(|object| {
            brief(event, object)?;
            object.texts("actor", event.metadata()?.actor.as_deref());
            object.raw("authority", &citation.json()?);
            Ok(())
        })?;
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let name = if citation.name().is_empty() { "nothing".to_owned() } else { printable(&citation.name()) };
    let place = out.paint(DIM, &format!("{:>9}", event.position())).into_owned();
    let force = out.paint(BAD, &citation.force.words()).into_owned();
    writeln!(out, "{place}  {} v{}  {}  by {name}: {force}", printable(event.stream()?), event.version(), event.event_type())?;
    Ok(())
}
