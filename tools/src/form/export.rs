//! One event to one line of the form.
//!
//! What an import kept as raw text is shown as that text. What the form has no field for - events need not come from an import - follows
//! behind `data` under the names of FORMAT.md, so that nothing an event says is left out.

use chainring::{AuthorityRef, EventId, Metadata, ReadRef, Timestamp, Value};

use super::members::{Members, push_value};
use super::{ATTRIBUTE_BASIS, ATTRIBUTE_RAW};
use crate::{rawjson, time};

/// An event as the log shows it.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) stream: &'a str,
    pub(crate) version: u64,
    pub(crate) id: EventId,
    /// Id of the batch it was appended in; `None` if alone.
    pub(crate) batch: Option<EventId>,
    pub(crate) metadata: &'a Metadata,
    /// `None` if erased.
    pub(crate) body: Option<&'a [u8]>,
}

/// The raw texts an import kept. What another program put under that name, and is no such map, is an attribute like any other.
struct Kept<'a> {
    texts: Vec<(&'a str, &'a str)>,
}

impl<'a> Kept<'a> {
    fn of(metadata: &'a Metadata) -> Kept<'a> {
        let map = metadata.attributes.iter().find(|(name, _)| name == ATTRIBUTE_RAW);
        let texts = match map {
            Some((_, Value::Map(entries))) => entries.iter().map(raw_text).collect::<Option<Vec<_>>>().unwrap_or_default(),
            _ => Vec::new(),
        };
        Kept { texts }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.texts.iter().find(|(kept, _)| *kept == name).map(|(_, raw)| *raw)
    }

    /// The raw text of the field if there is one, else what `write` writes.
    fn or(&self, members: &mut Members<'_>, name: &str, write: impl FnOnce(&mut Members<'_>)) {
        match self.get(name) {
            Some(raw) => members.raw(name, raw),
            None => write(members),
        }
    }

    /// Those of fields the form does not know.
    fn others(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts.iter().copied().filter(|(name, _)| !FIELDS.contains(name))
    }
}

fn raw_text((name, raw): &(Value, Value)) -> Option<(&str, &str)> {
    match (name, raw) {
        (Value::Text(name), Value::Text(raw)) => Some((name, rawjson::valid(raw).ok()?)),
        _ => None,
    }
}

/// The fields of the form, in the order they are written.
const FIELDS: [&str; 18] = [
    "seq",
    "stream",
    "version",
    "type",
    "id",
    "time",
    "actor",
    "on_behalf_of",
    "on_behalf_of_basis",
    "correlation",
    "causation",
    "batch",
    "authority",
    "reads",
    "checked",
    "expected_version",
    "compensates",
    "data",
];

/// Appends the event's fields to an object.
pub(crate) fn members(told: &Told<'_>, to: &mut Members<'_>) {
    let metadata = told.metadata;
    let kept = Kept::of(metadata);
    to.text("stream", told.stream);
    to.number("version", told.version);
    to.text("type", &metadata.event_type);
    kept.or(to, "id", |to| to.id("id", told.id));
    kept.or(to, "time", |to| to.texts("time", metadata.occurred_at.map(time::render).as_deref()));
    kept.or(to, "actor", |to| to.texts("actor", metadata.actor.as_deref()));
    kept.or(to, "on_behalf_of", |to| to.texts("on_behalf_of", metadata.on_behalf_of.as_deref()));
    kept.or(to, "on_behalf_of_basis", |to| to.texts("on_behalf_of_basis", basis(metadata)));
    kept.or(to, "correlation", |to| to.texts("correlation", metadata.correlation.as_deref()));
    kept.or(to, "causation", |to| metadata.causation.into_iter().for_each(|id| to.id("causation", id)));
    kept.or(to, "batch", |to| match (&metadata.batch_label, told.batch) {
        (Some(label), _) => to.text("batch", label),
        (None, Some(id)) => to.id("batch", id),
        (None, None) => {}
    });
    authorities(metadata, &kept, to);
    reads("reads", &metadata.reads, &kept, to);
    reads("checked", &metadata.checked, &kept, to);
    kept.or(to, "expected_version", |to| metadata.expected_version.into_iter().for_each(|v| to.number("expected_version", v)));
    kept.or(to, "compensates", |to| metadata.compensates.into_iter().for_each(|id| to.id("compensates", id)));
    body(told.body, to);
    kept.others().for_each(|(name, raw)| to.raw(name, raw));
    beyond_the_form(metadata, &kept, to);
}

fn basis(metadata: &Metadata) -> Option<&str> {
    metadata.attributes.iter().find_map(|(name, value)| match value {
        Value::Text(text) if name == ATTRIBUTE_BASIS => Some(text.as_str()),
        _ => None,
    })
}

fn body(body: Option<&[u8]>, to: &mut Members<'_>) {
    match body {
        None => to.raw("erased", "true"),
        Some([]) => {}
        Some(bytes) => match rawjson::valid_bytes(bytes) {
            Some(text) => to.raw("data", text),
            None => to.hex("body_hex", bytes),
        },
    }
}

/// One of `id`, `authority`, `reads` and `checked` as it stands in the form, if the event has it.
pub(crate) fn field(id: EventId, metadata: &Metadata, name: &str) -> Option<String> {
    let (kept, mut text) = (Kept::of(metadata), Vec::new());
    let mut object = Members::open(&mut text);
    match name {
        "id" => kept.or(&mut object, "id", |to| to.id("id", id)),
        "authority" => authorities(metadata, &kept, &mut object),
        "reads" => reads("reads", &metadata.reads, &kept, &mut object),
        "checked" => reads("checked", &metadata.checked, &kept, &mut object),
        _ => {}
    }
    object.close();
    let text = String::from_utf8(text).expect("JSON is text");
    rawjson::members(&text)?.next().map(|(_, value)| value.to_owned())
}

fn authorities(metadata: &Metadata, kept: &Kept<'_>, to: &mut Members<'_>) {
    kept.or(to, "authority", |to| match metadata.authority.as_slice() {
        [] => {}
        [one] => {
            let mut inner = Members::open(to.name("authority"));
            authority(one, &mut inner);
            inner.close();
        }
        several => to.list("authority", several, authority),
    });
}

fn reads(name: &str, reads: &Option<Vec<ReadRef>>, kept: &Kept<'_>, to: &mut Members<'_>) {
    kept.or(to, name, |to| reads.iter().for_each(|reads| to.list(name, reads, read)));
}

fn authority(authority: &AuthorityRef, to: &mut Members<'_>) {
    to.texts("policy", authority.policy.as_deref());
    to.texts("version", authority.policy_version.as_deref());
    to.texts("rule", authority.rule.as_deref());
    authority.event.into_iter().for_each(|id| to.id("event", id));
    authority.digest.iter().for_each(|digest| to.hex("sha256", digest));
    authority.confirmed_by.into_iter().for_each(|id| to.id("confirmed_by", id));
    to.texts("stream", authority.stream.as_deref());
    authority.version.into_iter().for_each(|version| to.number("stream_version", version));
    authority.link.iter().for_each(|link| to.hex("link", &link.0));
    unknown(&authority.unknown, to);
}

fn read(read: &ReadRef, to: &mut Members<'_>) {
    to.text("stream", &read.stream);
    to.number("version", read.version);
    read.state.iter().for_each(|state| to.hex("state", state));
    read.standing.into_iter().for_each(|standing| to.text("standing", &word(standing)));
    unknown(&read.unknown, to);
}

/// `ExternallyReversible` is written `externally-reversible`.
pub(super) fn word(value: impl std::fmt::Debug) -> String {
    let mut word = String::new();
    for c in format!("{value:?}").chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

/// What only events of other origin have. A name that an import kept as raw text is taken already.
fn beyond_the_form(metadata: &Metadata, kept: &Kept<'_>, to: &mut Members<'_>) {
    let free = |name: &str| kept.get(name).is_none();
    let number =
        |to: &mut Members<'_>, name: &str, value: Option<u64>| value.filter(|_| free(name)).iter().for_each(|v| to.number(name, *v));
    number(to, "schema_version", metadata.schema_version);
    to.texts("content_type", metadata.content_type.as_deref().filter(|_| free("content_type")));
    number(to, "run_epoch", metadata.run_epoch);
    metadata.class.filter(|_| free("class")).into_iter().for_each(|class| to.text("class", &word(class)));
    metadata.reversibility.filter(|_| free("reversibility")).into_iter().for_each(|r| to.text("reversibility", &word(r)));
    if !metadata.external.is_empty() && free("external") {
        to.list("external", &metadata.external, |external, to| {
            to.text("resource", &external.resource);
            to.texts("version", external.version.as_deref());
            external.hash.iter().for_each(|hash| to.hex("hash", hash));
            to.texts("observed_at", external.observed_at.map(|t: Timestamp| time::render(t)).as_deref());
            external.max_age_ns.into_iter().for_each(|ns| to.number("max_age_ns", ns));
            unknown(&external.unknown, to);
        });
    }
    if let Some((parent, state)) = metadata.trace.as_ref().filter(|_| free("trace")) {
        let mut inner = Members::open(to.name("trace"));
        inner.text("traceparent", parent);
        inner.texts("tracestate", state.as_deref());
        inner.close();
    }
    let shown = |(name, value): &&(String, Value)| {
        let is_basis = name == ATTRIBUTE_BASIS && matches!(value, Value::Text(_)) && free(ATTRIBUTE_BASIS);
        let is_kept = name == ATTRIBUTE_RAW && !kept.texts.is_empty();
        !is_basis && !is_kept
    };
    let attributes: Vec<_> = metadata.attributes.iter().filter(shown).collect();
    if !attributes.is_empty() && free("attributes") {
        let mut inner = Members::open(to.name("attributes"));
        attributes.iter().for_each(|(name, value)| push_value(inner.name(name), value));
        inner.close();
    }
    if free("unknown") {
        unknown(&metadata.unknown, to);
    }
}

/// Keys this version of the format does not know.
fn unknown(entries: &[(u64, Value)], to: &mut Members<'_>) {
    if !entries.is_empty() {
        let mut inner = Members::open(to.name("unknown"));
        entries.iter().for_each(|(key, value)| push_value(inner.name(&key.to_string()), value));
        inner.close();
    }
}
