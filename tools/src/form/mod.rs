//! The import form: one JSON object a line, and where each of its fields lives in an event.
//!
//! | field | home | the raw text is kept beside when |
//! |---|---|---|
//! | `seq` | not kept: lines are counted anew | |
//! | `stream` | the stream | (required: text of 1 to 512 bytes) |
//! | `version` | the version the log gives | (required where nothing gates the import) |
//! | `type` | key 1 | (required: a text) |
//! | `id` | event id; of a text that is no UUID the first 16 bytes of its derived hash | it is not a UUID in lower case |
//! | `time` | key 4 | the canonical text of the instant is another one |
//! | `actor`, `on_behalf_of`, `correlation` | keys 5, 6, 7 | it is no text |
//! | `on_behalf_of_basis` | attribute of that name | it is no text |
//! | `causation`, `compensates` | keys 8, 15: the event id of that text | it is not a UUID in lower case |
//! | `batch` | the atomic batch; key 20 where its value is not the id of the batch's first event | it is no text |
//! | `authority` | key 11, one entry: `policy`, `version`, `rule`, `event`, `sha256`, `confirmed_by` are its keys 5, 6, 4, 8, 7, 9 | it has other members, or values that do not fit |
//! | `reads`, `checked` | keys 12, 13: `stream`, `version`, `state` are keys 1, 2, 3 | an entry has other members, or values that do not fit |
//! | `class`, `reversibility` | keys 10, 16: `intent`, `externally-reversible` and the other words of FORMAT.md section 8 | it is none of them |
//! | `expected_version` | key 19 | it is no integer from 0 to 2^64 - 1 |
//! | `data` | the body, byte for byte as it stands in the line | |
//! | anything else | nowhere | always |
//!
//! *Raw text kept beside* means: the attribute `import` is a map from the field's name to its JSON text, and that text is what an export shows.
//! So whatever a line holds comes back, and what has a typed place is there for questions too. Null and absent are the same;
//! an empty list and absent are not.
//!
//! Invariants: the same line gives the same metadata and the same body, always; [`export`] of [`entry`] is JSON-equal to the line.

pub(crate) mod entry;
pub(crate) mod export;
mod line;
pub(crate) mod members;
mod refs;

use chainring::EventId;

/// Context of the ids derived from texts that are no UUIDs.
const CONTEXT_ID: &str = "chainring 2026-11 v1 import id";

/// Attribute that holds the raw texts of fields without a typed home.
pub(crate) const ATTRIBUTE_RAW: &str = "import";
/// Attribute of the field of that name.
pub(crate) const ATTRIBUTE_BASIS: &str = "on_behalf_of_basis";

/// Reads a UUID in its lower-case hyphenated form, the only one that an id alone gives back.
pub(crate) fn canonical_id(text: &str) -> Option<EventId> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) { None } else { text.parse().ok() }
}

/// The id of the event that a text names, and whether the id alone gives that text back.
fn named_id(text: &str) -> (EventId, bool) {
    let id = event_id(text);
    (id, canonical_id(text) == Some(id))
}

/// The event id of the form's `id`. The zero id names no event, so its text counts as any other text.
pub(crate) fn event_id(text: &str) -> EventId {
    canonical_id(text).filter(|id| *id != EventId::default()).unwrap_or_else(|| {
        let hash = blake3::derive_key(CONTEXT_ID, text.as_bytes());
        let mut id = EventId::default();
        id.0.copy_from_slice(&hash[..16]);
        id
    })
}

#[cfg(test)]
mod tests;
