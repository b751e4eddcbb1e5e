//! Names of the engine's own streams, and what their events say in their attributes.

use chainring_format::cbor::Value;
use chainring_format::metadata::Metadata;

use crate::error::ReadError;
use crate::query::EventRef;

/// Grants and their end.
pub(super) fn authority(name: &str) -> String {
    format!("$authority/{name}")
}

/// What was used of a grant that has a ceiling.
pub(super) fn usage(name: &str) -> String {
    format!("$authority/{name}/use")
}

/// An approval and its one use.
pub(super) fn approval(name: &str) -> String {
    format!("$approvals/{name}")
}

/// Epochs of a run: its version is the epoch.
pub(super) fn run(run: &str) -> String {
    format!("$runs/{run}")
}

/// What an actor was refused.
pub(super) fn attempts(actor: &str) -> String {
    format!("$attempts/{actor}")
}

/// What is frozen: the newest event names all of it.
pub(super) const STOPS: &str = "$stops";

/// What actions must say of themselves: the newest event names all of it.
pub(super) const RULES: &str = "$rules";

/// A map of the attributes, under one name.
pub(super) struct Said(Vec<(Value, Value)>);

impl Said {
    /// What an event says under a name; nothing if it says nothing.
    pub(super) fn by(event: &EventRef<'_>, name: &str) -> Result<Said, ReadError> {
        let attributes = event.metadata()?.attributes;
        let found = attributes.into_iter().find(|(found, _)| found == name);
        Ok(found.map_or(Said(Vec::new()), |(_, value)| Said::of(value)))
    }

    /// What a map says; nothing if it is none.
    pub(super) fn of(value: Value) -> Said {
        Said(if let Value::Map(entries) = value { entries } else { Vec::new() })
    }

    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }

    pub(super) fn values(&self, name: &str) -> Vec<Value> {
        if let Some(Value::Array(values)) = self.get(name) { values.clone() } else { Vec::new() }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| matches!(key, Value::Text(key) if key == name)).map(|(_, value)| value)
    }

    pub(super) fn uint(&self, name: &str) -> Option<u64> {
        if let Some(Value::Uint(value)) = self.get(name) { Some(*value) } else { None }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        if let Some(Value::Text(value)) = self.get(name) { Some(value) } else { None }
    }

    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        if let Some(Value::Bytes(value)) = self.get(name) { Some(value) } else { None }
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let Some(Value::Array(values)) = self.get(name) else { return Vec::new() };
        let text = |value: &Value| if let Value::Text(text) = value { Some(text.clone()) } else { None };
        values.iter().filter_map(text).collect()
    }
}

/// Puts a map under a name into the attributes; what is nothing is left out.
pub(super) fn say<'a>(metadata: &mut Metadata, name: &str, entries: impl IntoIterator<Item = (&'a str, Option<Value>)>) {
    let entries = entries.into_iter().filter_map(|(name, value)| Some((Value::text(name), value?)));
    metadata.attributes.push((name.to_owned(), Value::Map(entries.collect())));
}

/// Texts as a value; nothing if there are none.
pub(super) fn texts(texts: &[String]) -> Option<Value> {
    (!texts.is_empty()).then(|| Value::Array(texts.iter().map(Value::text).collect()))
}
