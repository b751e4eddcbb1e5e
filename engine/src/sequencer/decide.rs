//! Whether a request may happen, judged against the heads as they are at its turn. Reads memory only; changes nothing.

use std::collections::HashMap;

use chainring_format::{StreamId, Version};

use super::heads::Directory;
use super::request::{Answer, PreparedRequest, Target};
use crate::error::{AppendError, Conflict};

/// `Ok` gives the request back to be placed; `Err` is its answer. All failing conditions are reported together.
pub(super) fn decide(directory: &Directory, request: PreparedRequest) -> Result<PreparedRequest, Answer> {
    // Ids come first: a retry of what has already happened is answered with what happened, whatever its conditions say now.
    let positions: Vec<Option<u64>> = request.events.iter().map(|event| directory.ids.get(&event.event_id).copied()).collect();
    if positions.iter().any(Option::is_some) {
        return Err(Answer::Known { request, positions });
    }

    let mut conflicts = Vec::new();
    for (target, expected) in &request.required {
        let found = version_of(directory, target)?;
        if !expected.holds(found) {
            conflicts.push(Conflict { stream: target.name.clone(), expected: *expected, found: Version(found) });
        }
    }
    // Versions as the earlier events of the same batch leave them.
    let mut moved: HashMap<StreamId, (u64, [u8; 16])> = HashMap::new();
    for event in &request.events {
        let target = &event.stream;
        let found = match moved.get(&target.id) {
            Some((_, name_rest)) if *name_rest != target.name_rest => return Err(collision(target)),
            Some(&(version, _)) => version,
            None => version_of(directory, target)?,
        };
        if !event.expected.holds(found) {
            conflicts.push(Conflict { stream: target.name.clone(), expected: event.expected, found: Version(found) });
        }
        if request.events.len() > 1 {
            moved.insert(target.id, (found + 1, target.name_rest));
        }
    }
    if conflicts.is_empty() { Ok(request) } else { Err(Answer::Failed(AppendError::Refused(conflicts))) }
}

fn version_of(directory: &Directory, target: &Target) -> Result<u64, Answer> {
    match directory.streams.get(&target.id) {
        None => Ok(0),
        Some(head) if head.name_rest != target.name_rest => Err(collision(target)),
        Some(head) => Ok(head.version),
    }
}

fn collision(target: &Target) -> Answer {
    Answer::Failed(AppendError::StreamIdCollision { stream: target.name.clone() })
}

#[cfg(test)]
mod tests {
    use chainring_format::{EventId, Link};

    use super::super::StreamHead;
    use super::super::request::PreparedEvent;
    use super::*;
    use crate::condition::{Durability, Expected};

    fn target(name: &str, name_rest: u8) -> Target {
        // Two names with one id: what a 128-bit collision would look like.
        Target { name: name.into(), id: StreamId([7; 16]), name_rest: [name_rest; 16] }
    }

    fn request(names: &[(&str, u8)]) -> PreparedRequest {
        let event = |(number, (name, rest)): (usize, &(&str, u8))| PreparedEvent {
            stream: target(name, *rest),
            event_id: EventId([number as u8 + 1; 16]),
            expected: Expected::Any,
            metadata: Vec::new(),
            body: Vec::new(),
            salt: None,
            digest: [0; 32],
            slot_crc: 0,
        };
        PreparedRequest {
            events: names.iter().enumerate().map(event).collect(),
            batch: true,
            required: Vec::new(),
            durability: Durability::Durable,
        }
    }

    fn collides(answer: Result<PreparedRequest, Answer>, name: &str) -> bool {
        matches!(answer, Err(Answer::Failed(AppendError::StreamIdCollision { stream })) if stream == name)
    }

    #[test]
    fn a_second_name_with_the_same_id_is_refused() {
        let mut directory = Directory::default();
        assert!(decide(&directory, request(&[("first", 1), ("first", 1)])).is_ok());
        assert!(collides(decide(&directory, request(&[("first", 1), ("second", 2)])), "second"), "inside one batch");
        let head = StreamHead { version: 1, position: 1, link: Link::default(), first_position: 1, name_rest: [1; 16] };
        directory.streams.insert(StreamId([7; 16]), head);
        assert!(decide(&directory, request(&[("first", 1)])).is_ok());
        assert!(collides(decide(&directory, request(&[("second", 2)])), "second"));
        let mut required = request(&[]);
        required.required.push((target("second", 2), Expected::Any));
        assert!(collides(decide(&directory, required), "second"), "also where it is only read");
    }
}
