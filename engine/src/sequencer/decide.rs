//! Whether a request may happen, judged against the heads as they are at its turn. Reads memory only; changes nothing.

use std::collections::HashMap;

use chainring_format::{StreamId, Version};

use super::heads::{Directory, StreamNumber};
use super::request::{RequestView, StreamKey};
use crate::condition::Expected;
use crate::error::{AppendError, Conflict};

/// Why a request does not happen.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Some of its ids are in the log, at these positions.
    Known(Vec<Option<u64>>),
    /// It may not happen.
    Failed(AppendError),
}

/// Where an event's stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// In the directory.
    Known(StreamNumber),
    /// Not there yet: the so manieth new stream of the request.
    New(usize),
}

/// What is found while deciding, and needed again to place; its memory is used from request to request.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// One for every event.
    pub targets: Vec<Target>,
    /// New streams of a batch, which may be met again in it.
    news: HashMap<StreamId, (usize, [u8; 16])>,
    /// How far earlier events of the same batch move a stream, if somebody asks.
    moved: HashMap<Target, u64>,
}

impl std::hash::Hash for Target {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Target::Known(number) => number.hash(state),
            Target::New(index) => (!index).hash(state),
        }
    }
}

/// Whether the request may happen, and where its streams are. All failing conditions are reported together.
pub(super) fn decide(directory: &Directory, request: RequestView<'_>, found: &mut Found) -> Result<(), Refusal> {
    let events = request.events;
    found.targets.clear();
    // Ids come first: a retry of what has already happened is answered with what happened, whatever its conditions say now. An id that was just drawn
    // is not in the log.
    if events.iter().any(|event| !event.is_id_drawn && directory.position_of(&event.event_id).is_some()) {
        return Err(Refusal::Known(events.iter().map(|event| directory.position_of(&event.event_id)).collect()));
    }
    let mut conflicts = Vec::new();
    for required in request.required {
        let version = number_of(directory, &required.stream, || &required.name)?.map_or(0, |number| directory.head(number).version);
        if !required.expected.holds(version) {
            conflicts.push(Conflict { stream: required.name.clone(), expected: required.expected, found: Version(version) });
        }
    }
    if events.len() > 1 {
        found.news.clear();
    }
    let asks = events.iter().any(|event| event.expected != Expected::Any);
    if asks && events.len() > 1 {
        found.moved.clear();
    }
    for (event, content) in request.contents() {
        let stream = &event.stream;
        let target = match number_of(directory, stream, || content.name())? {
            Some(number) => Target::Known(number),
            None if events.len() == 1 => Target::New(0),
            None => {
                let next = found.news.len();
                let (index, name_rest) = *found.news.entry(stream.id).or_insert((next, stream.name_rest));
                if name_rest != stream.name_rest {
                    return Err(collision(content.name()));
                }
                Target::New(index)
            }
        };
        if asks {
            let mut version = match target {
                Target::Known(number) => directory.head(number).version,
                Target::New(_) => 0,
            };
            if events.len() > 1 {
                let moved = found.moved.entry(target).or_insert(0);
                version += *moved;
                *moved += 1;
            }
            if !event.expected.holds(version) {
                conflicts.push(Conflict { stream: content.name().to_owned(), expected: event.expected, found: Version(version) });
            }
        }
        found.targets.push(target);
    }
    if conflicts.is_empty() { Ok(()) } else { Err(Refusal::Failed(AppendError::Refused(conflicts))) }
}

fn number_of<'a>(directory: &Directory, stream: &StreamKey, name: impl FnOnce() -> &'a str) -> Result<Option<StreamNumber>, Refusal> {
    match directory.number_of(&stream.id) {
        Some(number) if directory.head(number).name_rest != stream.name_rest => Err(collision(name())),
        number => Ok(number),
    }
}

fn collision(name: &str) -> Refusal {
    Refusal::Failed(AppendError::StreamIdCollision { stream: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use chainring_format::{EventId, Link};

    use super::super::heads::StreamHead;
    use super::super::request::{Parcel, PreparedEvent, Required};
    use super::*;

    fn key(name_rest: u8) -> StreamKey {
        // Two names with one id: what a 128-bit collision would look like.
        StreamKey { id: StreamId([7; 16]), name_rest: [name_rest; 16] }
    }

    fn parcel(names: &[(&str, u8)]) -> Parcel {
        let event = |(number, (name, rest)): (usize, &(&str, u8))| PreparedEvent {
            stream: key(*rest),
            event_id: EventId([number as u8 + 1; 16]),
            is_id_drawn: false,
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

    fn collides(directory: &Directory, parcel: &Parcel, name: &str) -> bool {
        matches!(decide(directory, parcel.view(), &mut Found::default()), Err(Refusal::Failed(AppendError::StreamIdCollision { stream })) if stream == name)
    }

    #[test]
    fn a_second_name_with_the_same_id_is_refused() {
        let mut directory = Directory::default();
        let may = |directory: &Directory, parcel: &Parcel| decide(directory, parcel.view(), &mut Found::default()).is_ok();
        assert!(may(&directory, &parcel(&[("first", 1), ("first", 1)])));
        assert!(collides(&directory, &parcel(&[("first", 1), ("second", 2)]), "second"), "inside one batch");
        let head = StreamHead { version: 1, position: 1, link: Link::default(), first_position: 1, name_rest: [1; 16] };
        directory.add_stream(StreamId([7; 16]), head);
        assert!(may(&directory, &parcel(&[("first", 1)])));
        assert!(collides(&directory, &parcel(&[("second", 2)]), "second"));
        let mut required = parcel(&[]);
        required.required.push(Required { stream: key(2), name: "second".into(), expected: Expected::Any });
        assert!(collides(&directory, &required, "second"), "also where it is only read");
    }
}
