//! One line of the form to one event.

use chainring::{Class, Event, EventId, Metadata, Reversibility, Value};

use super::line::{Field, Line};
use super::{ATTRIBUTE_BASIS, ATTRIBUTE_RAW, event_id, named_id, refs};
use crate::{rawjson, time};
use chainring_format::limits::{METADATA_BYTES_MAX, STREAM_NAME_BYTES_MAX};

/// What a line says of the version its actor acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing: it never looked.
    Blind,
    /// This version of the stream it writes to.
    At(u64),
    /// Something that is no version of anything.
    Never,
}

impl Claim {
    /// Whether an event with this claim, as version `version` of its stream, was made against another state.
    pub(crate) fn is_stale_at(self, version: u64) -> bool {
        match self {
            Claim::Blind => false,
            Claim::At(claimed) => claimed.checked_add(1) != Some(version),
            Claim::Never => true,
        }
    }
}

/// The value of `batch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BatchName {
    /// A text, as it should be.
    Text(String),
    /// Any other JSON value, as written.
    Raw(String),
}

impl BatchName {
    /// For people and for acknowledgements: never breaks a line.
    pub(crate) fn shown(&self) -> String {
        match self {
            BatchName::Text(text) if text.chars().any(char::is_control) => format!("{text:?}"),
            BatchName::Text(text) => text.clone(),
            BatchName::Raw(raw) => rawjson::on_one_line(raw).replace('\t', " "),
        }
    }

    /// Enough of a hash to tell batches apart.
    pub(crate) fn key(&self) -> u128 {
        let (kind, text) = match self {
            BatchName::Text(text) => (b'"', text),
            BatchName::Raw(raw) => (b'=', raw),
        };
        let hash = blake3::Hasher::new().update(&[kind]).update(text.as_bytes()).finalize();
        u128::from_le_bytes(*hash.as_bytes().first_chunk().expect("16 of 32 bytes"))
    }
}

/// One line, read.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Number of the line in its file, from 1.
    pub(crate) line: u64,
    /// Length of the line.
    pub(crate) bytes: usize,
    /// The event, its expected version still open.
    pub(crate) event: Event,
    /// Its id.
    pub(crate) id: EventId,
    /// The place in its stream that the line states, if it states one.
    pub(crate) version: Option<u64>,
    /// `expected_version`.
    pub(crate) claim: Claim,
}

/// Why a line is malformed; with its batch where that much could be read.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) why: String,
    /// The line's `batch`; the outer `None` = the line is no JSON object, so nobody knows.
    pub(crate) batch: Option<Option<BatchName>>,
}

/// The fields whose raw text must be kept, by name.
struct Kept(Vec<(Value, Value)>);

impl Kept {
    fn keep(&mut self, name: &str, raw: &str) {
        self.0.push((Value::text(name), Value::text(raw)));
    }

    /// The field as `read` gives it; where that is nothing, its raw text is kept.
    fn unless<'a, T>(&mut self, line: &Line<'a>, field: Field, read: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        let raw = line.raw(field)?;
        let value = read(raw);
        if value.is_none() {
            self.keep(field.name(), raw);
        }
        value
    }

    /// The field as `read` gives it; where that is not all of it, its raw text is kept.
    fn beside<'a, T>(&mut self, line: &Line<'a>, field: Field, read: impl FnOnce(&'a str) -> (Option<T>, bool)) -> Option<T> {
        let raw = line.raw(field)?;
        let (value, exact) = read(raw);
        if !exact {
            self.keep(field.name(), raw);
        }
        value
    }
}

fn text(raw: &str) -> Option<String> {
    rawjson::string(raw).map(std::borrow::Cow::into_owned)
}

/// The event that a text names; `false` if the id alone does not give the text back.
fn id(raw: &str) -> (Option<EventId>, bool) {
    match rawjson::string(raw) {
        Some(text) => {
            let (id, is_exact) = named_id(&text);
            (Some(id), is_exact)
        }
        None => (None, false),
    }
}

/// One of the values of FORMAT.md section 8 by its word.
fn named<T: std::fmt::Debug>(raw: &str, from_code: impl Fn(u64) -> Option<T>) -> Option<T> {
    let text = rawjson::string(raw)?;
    (0..).map_while(from_code).find(|value| super::export::word(value) == *text)
}

fn batch_name(line: &Line<'_>) -> Option<BatchName> {
    let raw = line.raw(Field::Batch)?;
    Some(text(raw).map_or_else(|| BatchName::Raw(raw.to_owned()), BatchName::Text))
}

fn claim(raw: Option<&str>) -> Claim {
    let Some(raw) = raw else { return Claim::Blind };
    if let Some(version) = refs::integer(raw) {
        return Claim::At(version);
    }
    // 3.0 is the number 3, however it is written. Above 2^53 a float names no one version.
    match raw.parse::<f64>() {
        Ok(number) if number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number) => Claim::At(number as u64),
        _ => Claim::Never,
    }
}

/// Reads lines one after the other and knows where one batch ends and the next begins.
#[derive(Debug)]
pub(crate) struct LineReader {
    /// Whether a line must state the version that comes out.
    version_required: bool,
    /// The batch the last line was in, and the id text of its first event.
    run: Option<(BatchName, String)>,
}

impl LineReader {
    /// A reader at the start of a file.
    pub(crate) fn new(version_required: bool) -> LineReader {
        LineReader { version_required, run: None }
    }

    /// Reads the next line: what it says, and its batch.
    pub(crate) fn read(&mut self, number: u64, bytes: &[u8]) -> Result<(Entry, Option<BatchName>), Malformed> {
        let line = Line::cut(bytes).map_err(|why| Malformed { why, batch: None })?;
        let batch = batch_name(&line);
        match self.entry(number, bytes.len(), &line, batch.as_ref()) {
            Ok(entry) => Ok((entry, batch)),
            Err(why) => Err(Malformed { why, batch: Some(batch) }),
        }
    }

    fn entry(&mut self, number: u64, bytes: usize, line: &Line<'_>, batch: Option<&BatchName>) -> Result<Entry, String> {
        let required = |field: Field| {
            let value = line.raw(field).and_then(text).filter(|text| !text.is_empty());
            value.ok_or_else(|| format!("{:?} is not a text, or empty", field.name()))
        };
        let (stream, event_type, id_text) = (required(Field::Stream)?, required(Field::Type)?, required(Field::Id)?);
        if stream.len() > STREAM_NAME_BYTES_MAX {
            return Err(format!("\"stream\" is {} bytes long, at most {STREAM_NAME_BYTES_MAX} fit", stream.len()));
        }
        let version = line.raw(Field::Version).and_then(refs::integer).filter(|version| *version > 0);
        if version.is_none() && self.version_required {
            return Err("\"version\" is not a positive integer".into());
        }
        let id = event_id(&id_text);
        let mut metadata = metadata(line, event_type)?;
        metadata.batch_label = self.label(batch, &id_text);
        if bytes > METADATA_BYTES_MAX / 2 {
            let size = metadata.encode().len();
            if size > METADATA_BYTES_MAX {
                return Err(format!("the fields beside \"data\" take {size} bytes, at most {METADATA_BYTES_MAX} fit"));
            }
        }
        let body = line.raw(Field::Data).unwrap_or_default().as_bytes();
        let claim = claim(line.raw(Field::ExpectedVersion));
        let event = Event::with_metadata(stream, metadata).id(id).body(body);
        Ok(Entry { line: number, bytes, event, id, version, claim })
    }

    /// The name the batch needs beside the id of its first event.
    fn label(&mut self, batch: Option<&BatchName>, id_text: &str) -> Option<String> {
        let Some(batch) = batch else {
            self.run = None;
            return None;
        };
        if self.run.as_ref().is_none_or(|(name, _)| name != batch) {
            self.run = Some((batch.clone(), event_id(id_text).to_string()));
        }
        match batch {
            BatchName::Text(name) if self.run.as_ref().is_some_and(|(_, first)| first != name) => Some(name.clone()),
            _ => None,
        }
    }
}

fn metadata(line: &Line<'_>, event_type: String) -> Result<Metadata, String> {
    let mut kept = Kept(Vec::new());
    let mut metadata = Metadata::new(event_type);
    if let Some(raw) = line.raw(Field::Id)
        && !id(raw).1
    {
        kept.keep(Field::Id.name(), raw);
    }
    if let Some(raw) = line.raw(Field::Time) {
        let said = rawjson::string(raw);
        let instant = said.as_deref().and_then(time::parse).ok_or("\"time\" is not an RFC 3339 time")?;
        if said.as_deref() != Some(&time::render(instant)) {
            kept.keep(Field::Time.name(), raw);
        }
        metadata.occurred_at = Some(instant);
    }
    metadata.actor = kept.unless(line, Field::Actor, text);
    metadata.on_behalf_of = kept.unless(line, Field::OnBehalfOf, text);
    let basis = kept.unless(line, Field::OnBehalfOfBasis, text);
    metadata.correlation = kept.unless(line, Field::Correlation, text);
    metadata.causation = kept.beside(line, Field::Causation, id);
    kept.unless(line, Field::Batch, text);
    metadata.authority.extend(kept.beside(line, Field::Authority, refs::authority));
    metadata.reads = kept.beside(line, Field::Reads, refs::reads);
    metadata.checked = kept.beside(line, Field::Checked, refs::reads);
    metadata.expected_version = kept.unless(line, Field::ExpectedVersion, refs::integer);
    metadata.compensates = kept.beside(line, Field::Compensates, id);
    metadata.class = kept.unless(line, Field::Class, |raw| named(raw, Class::from_code));
    metadata.reversibility = kept.unless(line, Field::Reversibility, |raw| named(raw, Reversibility::from_code));
    for (name, raw) in &line.others {
        kept.keep(name, raw);
    }
    metadata.attributes.extend(basis.map(|basis| (ATTRIBUTE_BASIS.to_owned(), Value::Text(basis))));
    if !kept.0.is_empty() {
        metadata.attributes.push((ATTRIBUTE_RAW.to_owned(), Value::Map(kept.0)));
    }
    Ok(metadata)
}
