//! What events of the engine's own streams say in their attributes.

use chainring_format::cbor::Value;
use chainring_format::metadata::Metadata;

/// A map of the attributes, under one name.
pub(crate) struct Said(Vec<(Value, Value)>);

impl Said {
    /// What an event says under a name; nothing if it says nothing.
    pub(crate) fn by(metadata: &Metadata, name: &str) -> Said {
        let found = metadata.attributes.iter().find(|(found, _)| found == name);
        found.map_or(Said(Vec::new()), |(_, value)| Said::of(value.clone()))
    }

    /// What a map says; nothing if it is none.
    pub(crate) fn of(value: Value) -> Said {
        Said(if let Value::Map(entries) = value { entries } else { Vec::new() })
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }

    pub(crate) fn values(&self, name: &str) -> Vec<Value> {
        if let Some(Value::Array(values)) = self.get(name) { values.clone() } else { Vec::new() }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| matches!(key, Value::Text(key) if key == name)).map(|(_, value)| value)
    }

    pub(crate) fn uint(&self, name: &str) -> Option<u64> {
        if let Some(Value::Uint(value)) = self.get(name) { Some(*value) } else { None }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        if let Some(Value::Text(value)) = self.get(name) { Some(value) } else { None }
    }

    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        if let Some(Value::Bytes(value)) = self.get(name) { Some(value) } else { None }
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let Some(Value::Array(values)) = self.get(name) else { return Vec::new() };
        let text = |value: &Value| if let Value::Text(text) = value { Some(text.clone()) } else { None };
        values.iter().filter_map(text).collect()
    }
}

/// Puts a map under a name into the attributes; what is nothing is left out.
pub(crate) fn say<'a>(metadata: &mut Metadata, name: &str, entries: impl IntoIterator<Item = (&'a str, Option<Value>)>) {
    let entries = entries.into_iter().filter_map(|(name, value)| Some((Value::text(name), value?)));
    metadata.attributes.push((name.to_owned(), Value::Map(entries.collect())));
}

/// Texts as a value; nothing if there are none.
pub(crate) fn texts(texts: &[String]) -> Option<Value> {
    (!texts.is_empty()).then(|| Value::Array(texts.iter().map(Value::text).collect()))
}
