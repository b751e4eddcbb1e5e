//! Whether a request may happen, judged against the heads as they are at its turn. Reads memory only; changes nothing.

use std::collections::HashMap;

use chainring_format::{StreamId, Version};

use super::heads::{Directory, StreamHead};
use super::request::{RequestView, StreamKey};
use crate::error::{AppendError, Conflict};

/// Why a request does not happen.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Some of its ids are in the log, at these positions.
    Known(Vec<Option<u64>>),
    /// It may not happen.
    Failed(AppendError),
}

/// What is found while deciding about a single event, and needed again to place it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    /// Head of the stream of the first event.
    pub head: Option<StreamHead>,
}

/// Whether the request may happen. All failing conditions are reported together.
pub(super) fn decide(directory: &Directory, request: RequestView<'_>) -> Result<Found, Refusal> {
    // Ids come first: a retry of what has already happened is answered with what happened, whatever its conditions say now.
    if request.events.iter().any(|event| directory.position_of(&event.event_id).is_some()) {
        return Err(Refusal::Known(request.events.iter().map(|event| directory.position_of(&event.event_id)).collect()));
    }
    let mut conflicts = Vec::new();
    for required in request.required {
        let found = version(head_of(directory, &required.stream, || &required.name)?);
        if !required.expected.holds(found) {
            conflicts.push(Conflict { stream: required.name.clone(), expected: required.expected, found: Version(found) });
        }
    }
    let mut first = None;
    // Versions as the earlier events of the same batch leave them.
    let mut moved: HashMap<StreamId, (u64, [u8; 16])> = HashMap::new();
    for (event, content) in request.contents() {
        let stream = &event.stream;
        let found = match moved.get(&stream.id) {
            Some((_, name_rest)) if *name_rest != stream.name_rest => return Err(collision(content.name())),
            Some(&(version, _)) => version,
            None => {
                let head = head_of(directory, stream, || content.name())?;
                first = first.or(Some(Found { head }));
                version(head)
            }
        };
        if !event.expected.holds(found) {
            conflicts.push(Conflict { stream: content.name().to_owned(), expected: event.expected, found: Version(found) });
        }
        if request.events.len() > 1 {
            moved.insert(stream.id, (found + 1, stream.name_rest));
        }
    }
    if conflicts.is_empty() { Ok(first.unwrap_or_default()) } else { Err(Refusal::Failed(AppendError::Refused(conflicts))) }
}

fn version(head: Option<StreamHead>) -> u64 {
    head.map_or(0, |head| head.version)
}

fn head_of<'a>(directory: &Directory, stream: &StreamKey, name: impl FnOnce() -> &'a str) -> Result<Option<StreamHead>, Refusal> {
    match directory.stream(&stream.id) {
        Some(head) if head.name_rest != stream.name_rest => Err(collision(name())),
        head => Ok(head.copied()),
    }
}

fn collision(name: &str) -> Refusal {
    Refusal::Failed(AppendError::StreamIdCollision { stream: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use chainring_format::{EventId, Link};

    use super::super::request::{Parcel, PreparedEvent, Required};
    use super::*;
    use crate::condition::Expected;

    fn key(name_rest: u8) -> StreamKey {
        // Two names with one id: what a 128-bit collision would look like.
        StreamKey { id: StreamId([7; 16]), name_rest: [name_rest; 16] }
    }

    fn parcel(names: &[(&str, u8)]) -> Parcel {
        let event = |(number, (name, rest)): (usize, &(&str, u8))| PreparedEvent {
            stream: key(*rest),
            event_id: EventId([number as u8 + 1; 16]),
            expected: Expected::Any,
            salt: None,
            slot_crc: 0,
            digest: None,
            name_bytes: name.len() as u16,
            metadata_bytes: 0,
            body_bytes: 0,
        };
        Parcel {
            events: names.iter().enumerate().map(event).collect(),
            bytes: names.iter().flat_map(|(name, _)| name.bytes()).collect(),
            batch: true,
            required: Vec::new(),
        }
    }

    fn collides(answer: Result<Found, Refusal>, name: &str) -> bool {
        matches!(answer, Err(Refusal::Failed(AppendError::StreamIdCollision { stream })) if stream == name)
    }

    #[test]
    fn a_second_name_with_the_same_id_is_refused() {
        let mut directory = Directory::default();
        assert!(decide(&directory, parcel(&[("first", 1), ("first", 1)]).view()).is_ok());
        assert!(collides(decide(&directory, parcel(&[("first", 1), ("second", 2)]).view()), "second"), "inside one batch");
        let head = StreamHead { version: 1, position: 1, link: Link::default(), first_position: 1, name_rest: [1; 16] };
        directory.set_stream(StreamId([7; 16]), head);
        assert!(decide(&directory, parcel(&[("first", 1)]).view()).is_ok());
        assert!(collides(decide(&directory, parcel(&[("second", 2)]).view()), "second"));
        let mut required = parcel(&[]);
        required.required.push(Required { stream: key(2), name: "second".into(), expected: Expected::Any });
        assert!(collides(decide(&directory, required.view()), "second"), "also where it is only read");
    }
}
