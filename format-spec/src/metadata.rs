//! What an event can say (FORMAT.md section 8): the metadata map, its known keys, and everything unknown kept as it is.

use crate::cbor::{Item, Reader, Value, head};
use crate::ids::{EventId, Link};
use crate::limits::METADATA_DEPTH_MAX;
pub use crate::metadata_schema::holds;
use crate::violation::Violation;

/// Keys of the top-level map.
pub mod key {
    #![allow(missing_docs)] // FORMAT.md section 8 has the table.
    pub const TYPE: u64 = 1;
    pub const SCHEMA_VERSION: u64 = 2;
    pub const CONTENT_TYPE: u64 = 3;
    pub const OCCURRED_AT: u64 = 4;
    pub const ACTOR: u64 = 5;
    pub const ON_BEHALF_OF: u64 = 6;
    pub const CORRELATION: u64 = 7;
    pub const CAUSATION: u64 = 8;
    pub const RUN_EPOCH: u64 = 9;
    pub const CLASS: u64 = 10;
    pub const AUTHORITY: u64 = 11;
    pub const READS: u64 = 12;
    pub const CHECKED: u64 = 13;
    pub const EXTERNAL: u64 = 14;
    pub const COMPENSATES: u64 = 15;
    pub const REVERSIBILITY: u64 = 16;
    pub const TRACE: u64 = 17;
    pub const ATTRIBUTES: u64 = 18;
    pub const EXPECTED_VERSION: u64 = 19;
    pub const BATCH_LABEL: u64 = 20;
}

/// A claimed instant: seconds since 1970-01-01T00:00:00Z (may be negative) and nanoseconds below 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds behind the second, below 10^9.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Before which there is none.
    pub const MIN: Timestamp = Timestamp { seconds: i64::MIN, nanoseconds: 0 };
}

macro_rules! coded {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $code),+ }

        impl $name {
            /// The value with this number in FORMAT.md.
            #[must_use]
            pub fn from_code(code: u64) -> Option<$name> {
                match code { $($code => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

coded! {
    /// What kind of statement an event is.
    Class {
        /// Something happened.
        Fact = 0,
        /// Something is about to be tried.
        Intent = 1,
        /// What came of an intent.
        Outcome = 2,
        /// A policy, grant or delegation.
        Authority = 3,
        /// Consent to one proposal.
        Approval = 4,
        /// A refused attempt.
        Refusal = 5,
        /// Takes an earlier event back.
        Compensation = 6,
        /// Something seen, not done.
        Observation = 7,
        /// Passes work on.
        Handoff = 8,
    }
}

coded! {
    /// How far an event can be taken back.
    Reversibility {
        /// Changed nothing.
        ReadOnly = 0,
        /// Can be undone here.
        Reversible = 1,
        /// Can be undone with help from outside.
        ExternallyReversible = 2,
        /// Cannot be undone.
        Irreversible = 3,
    }
}

coded! {
    /// Weight of something read.
    Standing {
        /// It was looked at.
        Relevant = 0,
        /// It decided.
        Authoritative = 1,
    }
}

/// What allowed an event.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs)] // FORMAT.md section 8
pub struct AuthorityRef {
    pub stream: Option<String>,
    pub version: Option<u64>,
    pub link: Option<Link>,
    pub rule: Option<String>,
    pub policy: Option<String>,
    pub policy_version: Option<String>,
    pub digest: Option<Vec<u8>>,
    pub event: Option<EventId>,
    pub confirmed_by: Option<EventId>,
    pub unknown: Vec<(u64, Value)>,
}

/// A stream as of a version, that a decision was made against or checked with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadRef {
    /// Name of the stream.
    pub stream: String,
    /// Its first `version` events were seen.
    pub version: u64,
    /// Digest of the state seen.
    pub state: Option<Vec<u8>>,
    /// Weight.
    pub standing: Option<Standing>,
    /// Keys this version does not know.
    pub unknown: Vec<(u64, Value)>,
}

/// Something read outside the log.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs)] // FORMAT.md section 8
pub struct ExternalRef {
    pub resource: String,
    pub version: Option<String>,
    pub hash: Option<Vec<u8>>,
    pub observed_at: Option<Timestamp>,
    pub max_age_ns: Option<u64>,
    pub unknown: Vec<(u64, Value)>,
}

/// Everything an event says beside its body. Fields are those of FORMAT.md section 8; `None` and absent are the same,
/// an empty list of reads is not the same as none.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs)]
pub struct Metadata {
    pub event_type: String,
    pub schema_version: Option<u64>,
    pub content_type: Option<String>,
    pub occurred_at: Option<Timestamp>,
    pub actor: Option<String>,
    pub on_behalf_of: Option<String>,
    pub correlation: Option<String>,
    pub causation: Option<EventId>,
    pub run_epoch: Option<u64>,
    pub class: Option<Class>,
    pub authority: Vec<AuthorityRef>,
    pub reads: Option<Vec<ReadRef>>,
    pub checked: Option<Vec<ReadRef>>,
    pub external: Vec<ExternalRef>,
    pub compensates: Option<EventId>,
    pub reversibility: Option<Reversibility>,
    /// W3C traceparent and tracestate.
    pub trace: Option<(String, Option<String>)>,
    pub attributes: Vec<(String, Value)>,
    pub expected_version: Option<u64>,
    pub batch_label: Option<String>,
    /// Keys this version does not know, and attributes that are there but empty.
    pub unknown: Vec<(u64, Value)>,
}

/// Writes one map with integer keys, in key order, behind what is in `out`.
///
/// Keys that have a field come in order, and there are few. Those that this version does not know come behind them, and only then there is something to sort.
struct MapWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the map's head is: one byte, unless there are more than [`SHORT_MAP`] entries.
    start: usize,
    count: usize,
    /// Where the entries start, if there are unknown keys among them.
    starts: Option<Vec<usize>>,
}

/// Entries that a map can have whose head is one byte.
const SHORT_MAP: usize = 23;

impl<'a> MapWriter<'a> {
    /// A map that ends with these `unknown` entries, which are handed over at [`MapWriter::finish`].
    fn new(out: &'a mut Vec<u8>, unknown: &[(u64, Value)]) -> MapWriter<'a> {
        let start = out.len();
        out.push(0);
        MapWriter { out, start, count: 0, starts: (!unknown.is_empty()).then(Vec::new) }
    }

    fn put(&mut self, key: u64, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(starts) = &mut self.starts {
            starts.push(self.out.len() - self.start);
        }
        self.count += 1;
        head(self.out, 0, key);
        write(self.out);
    }

    fn uint(&mut self, key: u64, value: Option<u64>) {
        if let Some(value) = value {
            self.put(key, |out| head(out, 0, value));
        }
    }

    fn bytes(&mut self, key: u64, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.put(key, |out| {
                head(out, 2, value.len() as u64);
                out.extend_from_slice(value);
            });
        }
    }

    fn text(&mut self, key: u64, value: Option<&str>) {
        if let Some(value) = value {
            self.put(key, |out| text(out, value));
        }
    }

    fn time(&mut self, key: u64, value: Option<Timestamp>) {
        if let Some(value) = value {
            self.put(key, |out| {
                head(out, 4, 2);
                Value::int(value.seconds).encode(out);
                head(out, 0, value.nanoseconds.into());
            });
        }
    }

    fn list<T>(&mut self, key: u64, items: &[T], write: impl Fn(&T, &mut Vec<u8>)) {
        self.put(key, |out| {
            head(out, 4, items.len() as u64);
            for item in items {
                write(item, out);
            }
        });
    }

    fn finish(mut self, unknown: &[(u64, Value)]) {
        for (key, value) in unknown {
            self.put(*key, |out| value.encode(out));
        }
        let Some(starts) = self.starts else {
            assert!(self.count <= SHORT_MAP, "there are fewer keys with a field");
            self.out[self.start] = 5 << 5 | self.count as u8;
            return;
        };
        let written = self.out.split_off(self.start);
        let ends = starts.iter().skip(1).copied().chain([written.len()]);
        let mut entries: Vec<&[u8]> = starts.iter().zip(ends).map(|(&start, end)| &written[start..end]).collect();
        // Keys are unsigned integers in shortest form, which sort bytewise as they sort by value.
        entries.sort_by(|a, b| key_bytes(a).cmp(key_bytes(b)));
        head(self.out, 5, self.count as u64);
        entries.into_iter().for_each(|entry| self.out.extend_from_slice(entry));
    }
}

/// The key of an entry that starts with one: an unsigned integer.
fn key_bytes(entry: &[u8]) -> &[u8] {
    let argument_bytes = match entry[0] & 0x1F {
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => 0,
    };
    &entry[..1 + argument_bytes]
}

fn text(out: &mut Vec<u8>, value: &str) {
    head(out, 3, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

fn read_ref(read: &ReadRef, out: &mut Vec<u8>) {
    let mut map = MapWriter::new(out, &read.unknown);
    map.text(1, Some(&read.stream));
    map.uint(2, Some(read.version));
    map.bytes(3, read.state.as_deref());
    map.uint(4, read.standing.map(|standing| standing as u64));
    map.finish(&read.unknown);
}

fn authority_ref(authority: &AuthorityRef, out: &mut Vec<u8>) {
    let mut map = MapWriter::new(out, &authority.unknown);
    map.text(1, authority.stream.as_deref());
    map.uint(2, authority.version);
    map.bytes(3, authority.link.as_ref().map(|link| &link.0[..]));
    map.text(4, authority.rule.as_deref());
    map.text(5, authority.policy.as_deref());
    map.text(6, authority.policy_version.as_deref());
    map.bytes(7, authority.digest.as_deref());
    map.bytes(8, authority.event.as_ref().map(|id| &id.0[..]));
    map.bytes(9, authority.confirmed_by.as_ref().map(|id| &id.0[..]));
    map.finish(&authority.unknown);
}

fn external_ref(external: &ExternalRef, out: &mut Vec<u8>) {
    let mut map = MapWriter::new(out, &external.unknown);
    map.text(1, Some(&external.resource));
    map.text(2, external.version.as_deref());
    map.bytes(3, external.hash.as_deref());
    map.time(4, external.observed_at);
    map.uint(5, external.max_age_ns);
    map.finish(&external.unknown);
}

impl Metadata {
    /// Metadata of an event of this type, and nothing else.
    #[must_use]
    pub fn new(event_type: impl Into<String>) -> Metadata {
        Metadata { event_type: event_type.into(), ..Metadata::default() }
    }

    /// The deterministic encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.encode_into(&mut out);
        out
    }

    /// The deterministic encoding, behind what is in `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let mut map = MapWriter::new(out, &self.unknown);
        map.text(key::TYPE, Some(&self.event_type));
        map.uint(key::SCHEMA_VERSION, self.schema_version);
        map.text(key::CONTENT_TYPE, self.content_type.as_deref());
        map.time(key::OCCURRED_AT, self.occurred_at);
        map.text(key::ACTOR, self.actor.as_deref());
        map.text(key::ON_BEHALF_OF, self.on_behalf_of.as_deref());
        map.text(key::CORRELATION, self.correlation.as_deref());
        map.bytes(key::CAUSATION, self.causation.as_ref().map(|id| &id.0[..]));
        map.uint(key::RUN_EPOCH, self.run_epoch);
        map.uint(key::CLASS, self.class.map(|class| class as u64));
        if !self.authority.is_empty() {
            map.list(key::AUTHORITY, &self.authority, authority_ref);
        }
        if let Some(reads) = &self.reads {
            map.list(key::READS, reads, read_ref);
        }
        if let Some(checked) = &self.checked {
            map.list(key::CHECKED, checked, read_ref);
        }
        if !self.external.is_empty() {
            map.list(key::EXTERNAL, &self.external, external_ref);
        }
        map.bytes(key::COMPENSATES, self.compensates.as_ref().map(|id| &id.0[..]));
        map.uint(key::REVERSIBILITY, self.reversibility.map(|reversibility| reversibility as u64));
        if let Some((parent, state)) = &self.trace {
            map.put(key::TRACE, |out| {
                head(out, 4, 1 + u64::from(state.is_some()));
                text(out, parent);
                state.iter().for_each(|state| text(out, state));
            });
        }
        if !self.attributes.is_empty() {
            let entries = self.attributes.iter().map(|(name, value)| (Value::text(name), value.clone())).collect();
            map.put(key::ATTRIBUTES, |out| Value::Map(entries).encode(out));
        }
        map.uint(key::EXPECTED_VERSION, self.expected_version);
        map.text(key::BATCH_LABEL, self.batch_label.as_deref());
        map.finish(&self.unknown);
    }

    /// Encodes, and checks what a caller could have put in that the format does not allow: keys twice, values nested too deeply, a time without
    /// its second, no type.
    ///
    /// # Errors
    /// The rule that the encoding would break.
    pub fn encode_checked(&self) -> Result<Vec<u8>, Violation> {
        let mut bytes = Vec::with_capacity(128);
        self.encode_checked_into(&mut bytes)?;
        Ok(bytes)
    }

    /// As [`Metadata::encode_checked`], behind what is in `out`, which holds more or less of it after an error.
    ///
    /// # Errors
    /// The rule that the encoding would break.
    pub fn encode_checked_into(&self, out: &mut Vec<u8>) -> Result<(), Violation> {
        let start = out.len();
        self.encode_into(out);
        let bytes = &out[start..];
        let times = self.occurred_at.iter().chain(self.external.iter().filter_map(|external| external.observed_at.as_ref()));
        if self.event_type.is_empty() {
            return Err(M3);
        }
        if times.into_iter().any(|time| time.nanoseconds > 999_999_999) {
            return Err(BAD_TIME);
        }
        // Everything else that has a field of its own is right by its type; only free keys and values need to be read again.
        let is_typed = |reads: &Option<Vec<ReadRef>>| reads.iter().flatten().all(|read| read.unknown.is_empty());
        let is_typed = self.attributes.is_empty()
            && self.unknown.is_empty()
            && is_typed(&self.reads)
            && is_typed(&self.checked)
            && self.authority.iter().all(|authority| authority.unknown.is_empty())
            && self.external.iter().all(|external| external.unknown.is_empty());
        if !is_typed {
            check(bytes)?;
        }
        debug_assert_eq!(check(bytes), Ok(()), "what is right by its type is right");
        Ok(())
    }

    /// Reads metadata bytes, strictly: rules M1 to M3.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Metadata, Violation> {
        let mut metadata = Metadata::default();
        let mut typed = false;
        let mut reader = Reader::new(Reader::new(bytes).skip()?);
        if reader.clone().skip()?.len() != bytes.len() {
            return Err(M1_BEHIND);
        }
        let at = &mut reader;
        for _ in 0..map_of(at)? {
            match key_of(at)? {
                key::TYPE => {
                    metadata.event_type = text_of(at)?;
                    typed = true;
                }
                key::SCHEMA_VERSION => metadata.schema_version = Some(uint_of(at)?),
                key::CONTENT_TYPE => metadata.content_type = Some(text_of(at)?),
                key::OCCURRED_AT => metadata.occurred_at = Some(time_of(at)?),
                key::ACTOR => metadata.actor = Some(text_of(at)?),
                key::ON_BEHALF_OF => metadata.on_behalf_of = Some(text_of(at)?),
                key::CORRELATION => metadata.correlation = Some(text_of(at)?),
                key::CAUSATION => metadata.causation = Some(EventId(array_of(at)?)),
                key::RUN_EPOCH => metadata.run_epoch = Some(uint_of(at)?),
                key::CLASS => metadata.class = Some(Class::from_code(uint_of(at)?).ok_or(m2("class is not one of those known"))?),
                key::AUTHORITY => metadata.authority = list_of(at, 1, authority_of)?,
                key::READS => metadata.reads = Some(list_of(at, 0, read_of)?),
                key::CHECKED => metadata.checked = Some(list_of(at, 0, read_of)?),
                key::EXTERNAL => metadata.external = list_of(at, 1, external_of)?,
                key::COMPENSATES => metadata.compensates = Some(EventId(array_of(at)?)),
                key::REVERSIBILITY => {
                    let code = uint_of(at)?;
                    metadata.reversibility = Some(Reversibility::from_code(code).ok_or(m2("reversibility is not one of those known"))?);
                }
                key::TRACE => {
                    let count = match at.item()? {
                        Item::Array(count @ 1..=2) => count,
                        _ => return Err(m2("trace is not an array of one or two texts")),
                    };
                    let parent = text_of(at)?;
                    metadata.trace = Some((parent, if count == 2 { Some(text_of(at)?) } else { None }));
                }
                key::ATTRIBUTES => match attributes_of(at)? {
                    // Allowed, and not the same bytes as none.
                    empty if empty.is_empty() => metadata.unknown.push((key::ATTRIBUTES, Value::Map(Vec::new()))),
                    attributes => metadata.attributes = attributes,
                },
                key::EXPECTED_VERSION => metadata.expected_version = Some(uint_of(at)?),
                key::BATCH_LABEL => metadata.batch_label = Some(text_of(at)?),
                other => metadata.unknown.push((other, at.value()?)),
            }
        }
        if typed { Ok(metadata) } else { Err(M3) }
    }
}

const M1_BEHIND: Violation = Violation::new("M1", "bytes behind the metadata map");
const BAD_TIME: Violation = m2("a time is [int seconds, uint nanoseconds below 10^9]");
const M3: Violation = Violation::new("M3", "an event has a type");

const fn m2(why: &'static str) -> Violation {
    Violation::new("M2", why)
}

fn map_of(at: &mut Reader<'_>) -> Result<u64, Violation> {
    match at.item()? {
        Item::Map(count) => Ok(count),
        _ => Err(Violation::new("M1", "not a map")),
    }
}

fn key_of(at: &mut Reader<'_>) -> Result<u64, Violation> {
    match at.item()? {
        Item::Uint(key) => Ok(key),
        _ => Err(Violation::new("M1", "a key is not an unsigned integer")),
    }
}

/// A map in a list: what is wrong with it is its type, for the bytes were found deterministic before.
fn inner_map_of(at: &mut Reader<'_>) -> Result<u64, Violation> {
    map_of(at).map_err(|_| m2("a list of maps is expected"))
}

fn inner_key_of(at: &mut Reader<'_>) -> Result<u64, Violation> {
    key_of(at).map_err(|_| m2("a key of an inner map is not an unsigned integer"))
}

fn uint_of(at: &mut Reader<'_>) -> Result<u64, Violation> {
    match at.item()? {
        Item::Uint(value) => Ok(value),
        _ => Err(m2("an unsigned integer is expected")),
    }
}

fn str_of<'a>(at: &mut Reader<'a>) -> Result<&'a str, Violation> {
    match at.item()? {
        Item::Text(text) => Ok(text),
        _ => Err(m2("a text is expected")),
    }
}

fn text_of(at: &mut Reader<'_>) -> Result<String, Violation> {
    str_of(at).map(str::to_owned)
}

fn bytes_of<'a>(at: &mut Reader<'a>) -> Result<&'a [u8], Violation> {
    match at.item()? {
        Item::Bytes(bytes) => Ok(bytes),
        _ => Err(m2("bytes are expected")),
    }
}

fn array_of<const N: usize>(at: &mut Reader<'_>) -> Result<[u8; N], Violation> {
    bytes_of(at)?.try_into().map_err(|_| m2("an id or a link has another length"))
}

fn time_of(at: &mut Reader<'_>) -> Result<Timestamp, Violation> {
    let Item::Array(2) = at.item()? else { return Err(BAD_TIME) };
    let seconds = at.value()?.as_int().ok_or(BAD_TIME)?;
    match at.item()? {
        Item::Uint(nanoseconds @ 0..=999_999_999) => Ok(Timestamp { seconds, nanoseconds: nanoseconds as u32 }),
        _ => Err(BAD_TIME),
    }
}

fn list_of<T>(at: &mut Reader<'_>, least: u64, read: fn(&mut Reader<'_>) -> Result<T, Violation>) -> Result<Vec<T>, Violation> {
    match at.item()? {
        Item::Array(count) if count >= least => (0..count).map(|_| read(at)).collect(),
        _ => Err(m2("a list of maps is expected")),
    }
}

fn authority_of(at: &mut Reader<'_>) -> Result<AuthorityRef, Violation> {
    let mut authority = AuthorityRef::default();
    for _ in 0..inner_map_of(at)? {
        match inner_key_of(at)? {
            1 => authority.stream = Some(text_of(at)?),
            2 => authority.version = Some(uint_of(at)?),
            3 => authority.link = Some(Link(array_of(at)?)),
            4 => authority.rule = Some(text_of(at)?),
            5 => authority.policy = Some(text_of(at)?),
            6 => authority.policy_version = Some(text_of(at)?),
            7 => authority.digest = Some(bytes_of(at)?.to_vec()),
            8 => authority.event = Some(EventId(array_of(at)?)),
            9 => authority.confirmed_by = Some(EventId(array_of(at)?)),
            other => authority.unknown.push((other, at.value()?)),
        }
    }
    Ok(authority)
}

fn read_of(at: &mut Reader<'_>) -> Result<ReadRef, Violation> {
    let mut read = ReadRef::default();
    let mut required = 0;
    for _ in 0..inner_map_of(at)? {
        match inner_key_of(at)? {
            1 => {
                read.stream = text_of(at)?;
                required += 1;
            }
            2 => {
                read.version = uint_of(at)?;
                required += 1;
            }
            3 => read.state = Some(bytes_of(at)?.to_vec()),
            4 => read.standing = Some(Standing::from_code(uint_of(at)?).ok_or(m2("standing is not one of those known"))?),
            other => read.unknown.push((other, at.value()?)),
        }
    }
    if required == 2 { Ok(read) } else { Err(m2("a read names a stream and a version")) }
}

fn external_of(at: &mut Reader<'_>) -> Result<ExternalRef, Violation> {
    let mut external = ExternalRef::default();
    let mut named = false;
    for _ in 0..inner_map_of(at)? {
        match inner_key_of(at)? {
            1 => {
                external.resource = text_of(at)?;
                named = true;
            }
            2 => external.version = Some(text_of(at)?),
            3 => external.hash = Some(bytes_of(at)?.to_vec()),
            4 => external.observed_at = Some(time_of(at)?),
            5 => external.max_age_ns = Some(uint_of(at)?),
            other => external.unknown.push((other, at.value()?)),
        }
    }
    if named { Ok(external) } else { Err(m2("an external read names its resource")) }
}

fn attributes_of(at: &mut Reader<'_>) -> Result<Vec<(String, Value)>, Violation> {
    let Item::Map(count) = at.item()? else { return Err(m2("attributes are a map")) };
    (0..count).map(|_| Ok((text_of(at)?, at.value()?))).collect()
}

/// Checks metadata bytes of an event: rules M1 to M3.
///
/// # Errors
/// The first rule that is broken.
pub fn check(bytes: &[u8]) -> Result<(), Violation> {
    // What is wrong is told by decoding.
    if holds(bytes) { Ok(()) } else { Metadata::decode(bytes).map(drop) }
}

/// The claimed time, without decoding the rest; `None` if absent or the metadata is not valid.
#[must_use]
pub fn occurred_at(bytes: &[u8]) -> Option<Timestamp> {
    let mut reader = field(bytes, key::OCCURRED_AT)?;
    time_of(&mut reader).ok()
}

/// The event's type, without decoding the rest; `None` if absent or the metadata is not valid.
#[must_use]
pub fn event_type(bytes: &[u8]) -> Option<&str> {
    let mut reader = field(bytes, key::TYPE)?;
    str_of(&mut reader).ok()
}

/// Something outside of itself that an event names, and by which it can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // FORMAT.md section 8
pub enum Mention<'a> {
    Type(&'a str),
    Actor(&'a str),
    OnBehalfOf(&'a str),
    Correlation(&'a str),
    Causation(EventId),
    /// Stream, policy or rule of something that allowed it.
    Authority(&'a str),
    /// An event that allowed it or confirmed that.
    AuthorityEvent(EventId),
    /// A stream it was decided against, as of a version.
    Reads(&'a str, u64),
    /// A stream it was checked with, as of a version.
    Checked(&'a str, u64),
    Compensates(EventId),
    /// What kind of statement it is; not said of facts that say so.
    Class(Class),
}

/// Calls `visit` with everything that an event names, in the order of the fields, without decoding the rest. Where the metadata breaks a rule, it ends.
pub fn mentions<'a>(bytes: &'a [u8], mut visit: impl FnMut(Mention<'a>)) {
    // What is wrong is said by whoever decodes the whole.
    let _ = visit_mentions(&mut Reader::new(bytes), &mut visit);
}

fn visit_mentions<'a>(at: &mut Reader<'a>, visit: &mut impl FnMut(Mention<'a>)) -> Result<(), Violation> {
    for _ in 0..map_of(at)? {
        match key_of(at)? {
            key::TYPE => visit(Mention::Type(str_of(at)?)),
            key::ACTOR => visit(Mention::Actor(str_of(at)?)),
            key::ON_BEHALF_OF => visit(Mention::OnBehalfOf(str_of(at)?)),
            key::CORRELATION => visit(Mention::Correlation(str_of(at)?)),
            key::CAUSATION => visit(Mention::Causation(EventId(array_of(at)?))),
            key::COMPENSATES => visit(Mention::Compensates(EventId(array_of(at)?))),
            key::CLASS => Class::from_code(uint_of(at)?)
                .filter(|class| *class != Class::Fact)
                .into_iter()
                .for_each(|class| visit(Mention::Class(class))),
            key::AUTHORITY => each_of(at, |at| {
                for _ in 0..inner_map_of(at)? {
                    match inner_key_of(at)? {
                        1 | 4 | 5 => visit(Mention::Authority(str_of(at)?)),
                        8 | 9 => visit(Mention::AuthorityEvent(EventId(array_of(at)?))),
                        _ => drop(at.skip()?),
                    }
                }
                Ok(())
            })?,
            list @ (key::READS | key::CHECKED) => each_of(at, |at| {
                let (mut stream, mut version) = (None, 0);
                for _ in 0..inner_map_of(at)? {
                    match inner_key_of(at)? {
                        1 => stream = Some(str_of(at)?),
                        2 => version = uint_of(at)?,
                        _ => drop(at.skip()?),
                    }
                }
                let mention = if list == key::READS { Mention::Reads } else { Mention::Checked };
                stream.into_iter().for_each(|stream| visit(mention(stream, version)));
                Ok(())
            })?,
            _ => drop(at.skip()?),
        }
    }
    Ok(())
}

fn each_of<'a>(at: &mut Reader<'a>, mut read: impl FnMut(&mut Reader<'a>) -> Result<(), Violation>) -> Result<(), Violation> {
    let Item::Array(count) = at.item()? else { return Err(m2("a list of maps is expected")) };
    (0..count).try_for_each(|_| read(at))
}

/// A reader that stands at the value of one top-level key.
fn field(bytes: &[u8], wanted: u64) -> Option<Reader<'_>> {
    let mut reader = Reader::new(bytes);
    for _ in 0..map_of(&mut reader).ok()? {
        let key = key_of(&mut reader).ok()?;
        if key == wanted {
            return Some(reader);
        }
        if key > wanted {
            return None;
        }
        reader.skip().ok()?;
    }
    None
}

const _: () = assert!(METADATA_DEPTH_MAX >= 4, "reads are maps in an array in a map");

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Metadata {
        Metadata {
            event_type: "OrderCancelled".into(),
            schema_version: Some(2),
            content_type: Some("application/json".into()),
            occurred_at: Some(Timestamp { seconds: -1, nanoseconds: 999_999_999 }),
            actor: Some("agent:a".into()),
            on_behalf_of: Some("user:u".into()),
            correlation: Some("run-1".into()),
            causation: Some(EventId([1; 16])),
            run_epoch: Some(3),
            class: Some(Class::Compensation),
            authority: vec![AuthorityRef {
                stream: Some("p".into()),
                version: Some(1),
                link: Some(Link([4; 32])),
                rule: Some("r".into()),
                policy: Some("p".into()),
                policy_version: Some("1".into()),
                digest: Some(vec![5; 32]),
                event: Some(EventId([6; 16])),
                confirmed_by: Some(EventId([7; 16])),
                unknown: vec![(77, Value::Null)],
            }],
            reads: Some(vec![ReadRef {
                stream: "s".into(),
                version: 9,
                state: Some(vec![8]),
                standing: Some(Standing::Authoritative),
                unknown: vec![],
            }]),
            checked: Some(vec![ReadRef { stream: "s".into(), version: 9, ..ReadRef::default() }]),
            external: vec![ExternalRef {
                resource: "r".into(),
                version: Some("v".into()),
                hash: Some(vec![1]),
                observed_at: Some(Timestamp { seconds: 1, nanoseconds: 0 }),
                max_age_ns: Some(5),
                unknown: vec![],
            }],
            compensates: Some(EventId([9; 16])),
            reversibility: Some(Reversibility::Irreversible),
            trace: Some(("00-a".into(), Some("b".into()))),
            attributes: vec![("model".into(), Value::text("m")), ("cost".into(), Value::Float(0.5))],
            expected_version: Some(0),
            batch_label: Some("b".into()),
            unknown: vec![(1000, Value::Array(vec![Value::Bool(true)]))],
        }
    }

    #[test]
    fn every_field_comes_back() {
        let mut metadata = full();
        let bytes = metadata.encode();
        let read = Metadata::decode(&bytes).unwrap();
        assert_eq!(read.encode(), bytes);
        metadata.attributes.sort_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)));
        assert_eq!(read, metadata);
        assert_eq!(occurred_at(&bytes), metadata.occurred_at);
        assert_eq!(event_type(&bytes), Some("OrderCancelled"));
    }

    #[test]
    fn what_an_event_names_is_told_in_order_and_nothing_of_what_is_broken() {
        let bytes = full().encode();
        let all = |bytes: &[u8]| {
            let mut found = Vec::new();
            mentions(bytes, |mention| found.push(format!("{mention:?}")));
            found
        };
        let expected = [
            Mention::Type("OrderCancelled"),
            Mention::Actor("agent:a"),
            Mention::OnBehalfOf("user:u"),
            Mention::Correlation("run-1"),
            Mention::Causation(EventId([1; 16])),
            Mention::Class(Class::Compensation),
            Mention::Authority("p"),
            Mention::Authority("r"),
            Mention::Authority("p"),
            Mention::AuthorityEvent(EventId([6; 16])),
            Mention::AuthorityEvent(EventId([7; 16])),
            Mention::Reads("s", 9),
            Mention::Checked("s", 9),
            Mention::Compensates(EventId([9; 16])),
        ];
        assert_eq!(all(&bytes), expected.map(|mention| format!("{mention:?}")));
        for end in 0..bytes.len() {
            let found = all(&bytes[..end]);
            assert_eq!(found, expected[..found.len()].iter().map(|mention| format!("{mention:?}")).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_a_caller_can_put_in_wrongly_is_refused_before_it_is_stored() {
        let refused = |change: fn(&mut Metadata)| {
            let mut metadata = Metadata::new("T");
            change(&mut metadata);
            metadata.encode_checked().unwrap_err().rule
        };
        assert!(full().encode_checked().is_ok() && Metadata::new("T").encode_checked().is_ok());
        assert_eq!(refused(|metadata| metadata.event_type.clear()), "M3");
        assert_eq!(refused(|metadata| metadata.occurred_at = Some(Timestamp { seconds: 0, nanoseconds: 1_000_000_000 })), "M2");
        assert_eq!(refused(|metadata| metadata.attributes = vec![("a".into(), Value::Null), ("a".into(), Value::Null)]), "M1");
        assert_eq!(refused(|metadata| metadata.attributes = vec![("a".into(), deep(METADATA_DEPTH_MAX))]), "M1");
    }

    fn deep(depth: usize) -> Value {
        (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_its_name() {
        let rule = |bytes: &[u8]| check(bytes).unwrap_err().rule;
        assert_eq!(rule(&[]), "M1");
        assert_eq!(rule(&[0xA0]), "M3");
        assert_eq!(rule(&[0xA1, 0x01, 0x01]), "M2");
        assert_eq!(rule(&[0xA1, 0x61, b'a', 0x01]), "M1");
        assert_eq!(rule(&[0xA1, 0x01, 0x61, b't', 0x00]), "M1");
        assert_eq!(rule(&[0xA2, 0x01, 0x61, b't', 0x0A, 0x18, 0x63]), "M2");
    }
}
