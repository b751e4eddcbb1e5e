//! The state of a stream: the fold of `data.set` and `data.unset` over its events.
//!
//! An event with neither leaves the state as it is. Where no event so far carried either, the state is the data of the last event.
//! Numbers stay as they were written; the state comes out in canonical form.

use std::collections::BTreeMap;

use chainring::{EventRef, ReadError};

use crate::rawjson;

/// A fold under way.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fold {
    version: u64,
    /// Fields set so far, with their raw values; `None` while no event carried a change.
    fields: Option<BTreeMap<String, String>>,
    /// Data of the last event, while `fields` is `None`.
    last: String,
}

/// The same for the engine, which keeps snapshots of it.
pub(crate) struct Fields;

impl chainring::Fold for Fields {
    type State = Fold;
    const ID: &'static str = "chainring fields";
    const VERSION: u32 = 1;

    fn begin(&self) -> Fold {
        Fold::default()
    }

    fn apply(&self, fold: &mut Fold, event: &EventRef<'_>) -> Result<(), ReadError> {
        let what = || format!("the body at position {} was erased: what it changed is not known any more", event.position());
        let erased = || ReadError::NotFound { what: what() };
        fold.apply(event.version().0, event.body().ok_or_else(erased)?);
        Ok(())
    }

    fn encode(&self, fold: &Fold) -> Vec<u8> {
        serde_json::to_vec(&(fold.version, &fold.fields, &fold.last)).expect("numbers and texts")
    }

    fn decode(&self, bytes: &[u8]) -> Option<Fold> {
        let (version, fields, last) = serde_json::from_slice(bytes).ok()?;
        Some(Fold { version, fields, last })
    }
}

impl Fold {
    /// Applies the next event of the stream.
    pub(crate) fn apply(&mut self, version: u64, body: &[u8]) {
        self.version = version;
        let data = rawjson::valid_bytes(body).unwrap_or("null");
        let (set, unset) = changes(data);
        if set.is_none() && unset.is_none() {
            if self.fields.is_none() {
                data.clone_into(&mut self.last);
            }
            return;
        }
        let fields = self.fields.get_or_insert_default();
        for (name, value) in set.and_then(rawjson::members).into_iter().flatten() {
            fields.insert(rawjson::name(name), value.to_owned());
        }
        for name in unset.and_then(rawjson::elements).into_iter().flatten() {
            fields.remove(&rawjson::name(name));
        }
    }

    /// Whether events set and unset fields; else the last one's data is all there is.
    pub(crate) fn has_fields(&self) -> bool {
        self.fields.is_some()
    }

    /// Version of the last event applied; 0 = none.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The state field by field, values canonical. A state that is no object is one field without a name.
    pub(crate) fn fields(&self) -> BTreeMap<String, String> {
        let canonical = |(name, value): (&String, &String)| (name.clone(), rawjson::canonical(value));
        match (&self.fields, rawjson::members(&self.last)) {
            (Some(fields), _) => fields.iter().map(canonical).collect(),
            (None, _) if self.last.is_empty() => BTreeMap::new(),
            (None, Some(members)) => members.map(|(name, value)| (rawjson::name(name), rawjson::canonical(value))).collect(),
            (None, None) => BTreeMap::from([(String::new(), rawjson::canonical(&self.last))]),
        }
    }

    /// The state, canonical; that of a stream that does not exist is null.
    pub(crate) fn state(&self) -> String {
        match &self.fields {
            None if self.last.is_empty() => "null".to_owned(),
            None => rawjson::canonical(&self.last),
            Some(fields) => {
                let values: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), rawjson::canonical(value))).collect();
                let object = rawjson::object(values.iter().map(|(name, value)| (*name, value.as_bytes())));
                String::from_utf8(object).unwrap_or_default()
            }
        }
    }
}

/// Names of the fields that data of an event sets or unsets; that of the whole state, which is no name, if it does neither.
pub(crate) fn touched(body: &[u8]) -> Vec<String> {
    let (set, unset) = changes(rawjson::valid_bytes(body).unwrap_or("null"));
    if set.is_none() && unset.is_none() {
        return vec![String::new()];
    }
    let set = set.and_then(rawjson::members).into_iter().flatten().map(|(name, _)| rawjson::name(name));
    set.chain(unset.and_then(rawjson::elements).into_iter().flatten().map(rawjson::name)).collect()
}

/// The raw texts of `set` (an object) and `unset` (an array), where the data has them. Of repeated members the last one counts.
fn changes(data: &str) -> (Option<&str>, Option<&str>) {
    let (mut set, mut unset) = (None, None);
    for (name, value) in rawjson::members(data).into_iter().flatten() {
        match rawjson::string(name).as_deref() {
            Some("set") => set = Some(value).filter(|value| value.starts_with('{')),
            Some("unset") => unset = Some(value).filter(|value| value.starts_with('[')),
            _ => {}
        }
    }
    (set, unset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(bodies: &[&str]) -> String {
        let mut fold = Fold::default();
        for (k, body) in bodies.iter().enumerate() {
            fold.apply(k as u64 + 1, body.as_bytes());
        }
        assert_eq!(fold.version(), bodies.len() as u64);
        fold.state()
    }

    #[test]
    fn sets_and_unsets_in_order() {
        let cases: [(&[&str], &str); 12] = [
            (&[], "null"),
            (&[""], "null"),
            (&["not JSON"], "null"),
            (&[r#"{"blob":"a"}"#, r#"{"blob":null}"#], r#"{"blob":null}"#),
            (&[r#"{"blob":"a"}"#, ""], "null"),
            (&[r#"{"set":{"b":1.50,"a":[ ]}}"#], r#"{"a":[],"b":1.50}"#),
            (&[r#"{"set":{"b":1,"a":2}}"#, r#"{"set":{"a":3},"unset":["b","c"]}"#], r#"{"a":3}"#),
            (&[r#"{"set":{"a":1},"unset":["a"]}"#], "{}"),
            (&[r#"{"set":{"a":1}}"#, r#"{"text":"x"}"#, ""], r#"{"a":1}"#),
            (&[r#"{"text":"x"}"#, r#"{"unset":[]}"#], "{}"),
            (&[r#"{"set":null,"unset":null}"#], r#"{"set":null,"unset":null}"#),
            (&[r#"{"set":{"\u00e9":1}}"#, r#"{"unset":["é"],"s\u0065t":{"x":1}}"#], r#"{"x":1}"#),
        ];
        for (bodies, state) in cases {
            assert_eq!(folded(bodies), state, "{bodies:?}");
        }
    }
}
