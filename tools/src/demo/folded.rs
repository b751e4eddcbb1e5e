//! What a stream is in a view: its version and the fold of its changes, which is what `chainring state` shows too.

use std::collections::BTreeMap;

use chainring::{ReadRef, Version, View};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::fold::Fold;
use crate::output::Failure;

/// A stream at a version, folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) version: u64,
    /// Canonical JSON.
    pub(super) state: String,
}

impl Folded {
    /// The stream as the view shows it; version 0 if it does not show any of it.
    pub(super) fn of(view: &View, stream: &str) -> Result<Folded, Failure> {
        let mut fold = Fold::default();
        if let Some(stream) = view.stream(stream)? {
            for event in stream.forward(Version(1))? {
                let event = event?;
                let body = event.body().ok_or_else(|| Failure::No(format!("the body at position {} was erased", event.position())))?;
                fold.apply(event.version().0, body);
            }
        }
        Ok(Folded { version: fold.version(), state: fold.state() })
    }

    /// One field of the state: a text as it reads, anything else as it was written.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        field(&self.state, name)
    }

    /// The first eight bytes of the hash of the state: what a reader leaves in its record of what it read.
    pub(super) fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.state.as_bytes())[..8].to_vec()
    }
}

/// One member of a JSON object: a text as it reads, anything else as it was written.
pub(super) fn field(object: &str, name: &str) -> Option<String> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(object).ok()?;
    let raw = members.get(name)?.get();
    Some(serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned()))
}

/// What somebody who looks at these streams now has seen.
pub(super) fn seen(view: &View, streams: &[&str]) -> Result<Vec<ReadRef>, Failure> {
    let look = |stream: &&str| {
        let folded = Folded::of(view, stream)?;
        Ok(ReadRef { stream: (*stream).to_owned(), version: folded.version, state: Some(folded.digest()), ..ReadRef::default() })
    };
    streams.iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::members::hex;

    #[test]
    fn fields_come_as_they_were_written() {
        let object = r#"{"a":"x \u00e9","b":189.90,"c":{"d":[1]},"e":null}"#;
        let cases = [("a", Some("x é")), ("b", Some("189.90")), ("c", Some(r#"{"d":[1]}"#)), ("e", Some("null")), ("f", None)];
        for (name, value) in cases {
            assert_eq!(field(object, name).as_deref(), value, "{name}");
        }
        assert_eq!(field("[]", "a"), None);
        assert_eq!(hex(&[0, 0xAB]), "00ab");
    }
}
