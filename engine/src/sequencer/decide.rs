//! Whether a request may happen, judged against the heads as they are at its turn.
//!
//! Reads memory. What is not there its caller has asked the index for. Only what went from memory into the index between that and now is asked for here:
//! handing the request back instead would let those overtake it that were published after it.

use std::collections::HashMap;

use chainring_format::{EventId, StreamId, Version};

use super::heads::{Birth, Directory, StreamHead, StreamNumber};
use super::request::{PreparedEvent, RequestView, StreamKey};
use crate::condition::Expected;
use crate::error::{AppendError, Conflict, ReadError};

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

/// What the index knows.
pub(super) trait Cold {
    /// Where a stream stands.
    fn head(&self, id: &StreamId) -> Result<Option<StreamHead>, ReadError>;
    /// Where a stream begins.
    fn birth(&self, id: &StreamId) -> Result<Option<Birth>, ReadError>;
    /// Where the event with this id is.
    fn position(&self, id: &EventId) -> Result<Option<u64>, ReadError>;
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Refusal {
        Refusal::Failed(AppendError::Read(error))
    }
}

/// Positions of the request's ids, if one of them is in the log. An id that was just drawn is not.
fn known_ids(directory: &Directory, cold: &dyn Cold, request: RequestView<'_>) -> Result<Option<Vec<Option<u64>>>, ReadError> {
    let is_checked = directory.ids_from() <= request.checked.ids_to;
    let find = |event: &PreparedEvent| match directory.position_of(&event.event_id) {
        None if event.known_at > 0 => Ok(Some(event.known_at)),
        None if !is_checked => cold.position(&event.event_id),
        found => Ok(found),
    };
    let mut is_known = false;
    for event in request.events.iter().filter(|event| !event.is_id_drawn) {
        is_known |= find(event)?.is_some();
    }
    if is_known { request.events.iter().map(find).collect::<Result<_, _>>().map(Some) } else { Ok(None) }
}

/// Whether the request may happen, and where its streams are. All failing conditions are reported together.
pub(super) fn decide(directory: &mut Directory, cold: &dyn Cold, request: RequestView<'_>, found: &mut Found) -> Result<(), Refusal> {
    let events = request.events;
    found.targets.clear();
    // Ids come first: a retry of what has already happened is answered with what happened, whatever its conditions say now.
    if let Some(positions) = known_ids(directory, cold, request)? {
        return Err(Refusal::Known(positions));
    }
    let mut streams = Streams { directory, cold, oblivion: request.checked.oblivion };
    let mut conflicts = Vec::new();
    for required in request.required {
        let number = streams.number_of(&required.stream, required.cold.as_deref(), || &required.name)?;
        let version = number.map_or(0, |number| streams.directory.head(number).version);
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
        let target = match streams.number_of(stream, event.cold.as_deref(), || content.name())? {
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
                Target::Known(number) => streams.directory.head(number).version,
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

/// Streams, wherever they are known.
struct Streams<'a> {
    directory: &'a mut Directory,
    cold: &'a dyn Cold,
    /// When the caller looked, heads had been forgotten this often.
    oblivion: u64,
}

impl Streams<'_> {
    /// Where a stream is in the directory, where it is brought if the index has it; `evidence` is what its caller has found there.
    fn number_of<'n>(
        &mut self,
        stream: &StreamKey,
        evidence: Option<&StreamHead>,
        name: impl FnOnce() -> &'n str,
    ) -> Result<Option<StreamNumber>, Refusal> {
        let number = match self.directory.recall(&stream.id) {
            Some(number) => number,
            None => {
                let is_checked = self.directory.oblivion() == self.oblivion;
                let head = if is_checked { evidence.copied() } else { self.cold.head(&stream.id)? };
                let Some(head) = head else { return Ok(None) };
                self.directory.add_stream(stream.id, head)
            }
        };
        let birth = match self.directory.head(number).birth {
            Some(birth) => birth,
            None => {
                let found = evidence.and_then(|head| head.birth).map_or_else(|| self.cold.birth(&stream.id), |birth| Ok(Some(birth)))?;
                let birth = found.ok_or_else(|| ReadError::NotFound { what: format!("the first event of stream {}", stream.id) })?;
                self.directory.set_birth(number, birth);
                birth
            }
        };
        if birth.name_rest == stream.name_rest { Ok(Some(number)) } else { Err(collision(name())) }
    }
}

fn collision(name: &str) -> Refusal {
    Refusal::Failed(AppendError::StreamIdCollision { stream: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use chainring_format::Link;

    use super::super::brakes::Grounds;
    use super::super::request::{Checked, Parcel, Required};
    use super::*;

    /// An index that knows one stream with three events, the last of them under an id.
    struct Past;

    const PAST: StreamId = StreamId([8; 16]);
    /// A caller has asked for everything that `Directory::new(10, ..)` does not have.
    const LOOKED: Checked = Checked { ids_to: 10, oblivion: 1 };

    impl Cold for Past {
        fn head(&self, id: &StreamId) -> Result<Option<StreamHead>, ReadError> {
            let birth = self.birth(id)?;
            Ok(birth.map(|birth| StreamHead { version: 3, position: 9, link: Link::default(), birth: Some(birth) }))
        }

        fn birth(&self, id: &StreamId) -> Result<Option<Birth>, ReadError> {
            Ok((*id == PAST).then_some(Birth { position: 5, name_rest: [1; 16] }))
        }

        fn position(&self, id: &EventId) -> Result<Option<u64>, ReadError> {
            Ok((id.0 == [200; 16]).then_some(9))
        }
    }

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
            is_engines: false,
            grounds: Grounds::default(),
            salt: None,
            slot_crc: 0,
            digest: None,
            known_at: 0,
            cold: None,
            name_bytes: name.len() as u16,
            metadata_bytes: 0,
            body_bytes: 0,
        };
        Parcel {
            events: names.iter().enumerate().map(event).collect(),
            bytes: names.iter().flat_map(|(name, _)| name.bytes()).collect(),
            batch: true,
            required: Vec::new(),
            not_after_ns: None,
        }
    }

    fn collides(directory: &mut Directory, parcel: &Parcel, name: &str) -> bool {
        matches!(decide(directory, &Past, parcel.view(Checked::default()), &mut Found::default()), Err(Refusal::Failed(AppendError::StreamIdCollision { stream })) if stream == name)
    }

    #[test]
    fn a_second_name_with_the_same_id_is_refused() {
        let mut directory = Directory::new(0, 0, 0);
        let may = |directory: &mut Directory, parcel: &Parcel| {
            decide(directory, &Past, parcel.view(Checked::default()), &mut Found::default()).is_ok()
        };
        assert!(may(&mut directory, &parcel(&[("first", 1), ("first", 1)])));
        assert!(collides(&mut directory, &parcel(&[("first", 1), ("second", 2)]), "second"), "inside one batch");
        let head = StreamHead { version: 1, position: 1, link: Link::default(), birth: Some(Birth { position: 1, name_rest: [1; 16] }) };
        directory.add_stream(StreamId([7; 16]), head);
        assert!(may(&mut directory, &parcel(&[("first", 1)])));
        assert!(collides(&mut directory, &parcel(&[("second", 2)]), "second"));
        let mut required = parcel(&[]);
        required.required.push(Required { stream: key(2), name: "second".into(), expected: Expected::Any, cold: None });
        assert!(collides(&mut directory, &required, "second"), "also where it is only read");
    }

    #[test]
    fn what_went_into_the_index_after_its_caller_has_looked_is_looked_up_again() {
        // Everything below position 10 is in the index and nowhere else.
        let mut directory = Directory::new(10, 1, 0);
        let mut late = parcel(&[("past", 1)]);
        late.events[0].stream.id = PAST;
        late.events[0].expected = Expected::Exactly(Version(3));
        assert!(decide(&mut directory, &Past, late.view(Checked::default()), &mut Found::default()).is_ok());
        assert!(directory.recall(&PAST).is_some(), "it is in memory now");
        late.events[0].event_id = EventId([200; 16]);
        let known = |directory: &mut Directory, parcel: &Parcel, checked| matches!(decide(directory, &Past, parcel.view(checked), &mut Found::default()), Err(Refusal::Known(positions)) if positions == [Some(9)]);
        assert!(known(&mut directory, &late, Checked::default()));
        assert!(!known(&mut directory, &late, LOOKED), "a caller who has looked is believed");
        late.events[0].known_at = 9;
        assert!(known(&mut directory, &late, LOOKED));
    }

    #[test]
    fn what_its_caller_found_in_memory_and_was_forgotten_since_is_looked_up_again() {
        let mut directory = Directory::new(0, 0, 0);
        let past = Past.head(&PAST).unwrap().unwrap();
        directory.add_stream(PAST, past);
        // Its caller looks now: there is nothing to ask the index for.
        let checked = Checked { ids_to: 10, oblivion: directory.oblivion() };
        for _ in 0..2 {
            drop(directory.forget(10, 10, 0));
            directory.add_stream(StreamId([9; 16]), past);
        }
        assert!(directory.stream(&PAST).is_none() && directory.streams_from() <= checked.ids_to);
        let mut request = parcel(&[("past", 1)]);
        request.events[0].stream.id = PAST;
        request.events[0].expected = Expected::Exactly(Version(3));
        assert!(decide(&mut directory, &Past, request.view(checked), &mut Found::default()).is_ok(), "it is no new stream");
    }

    #[test]
    fn what_a_caller_has_found_in_the_index_is_taken_in() {
        let mut directory = Directory::new(10, 1, 0);
        let mut request = parcel(&[("a", 4)]);
        let birth = Some(Birth { position: 2, name_rest: [4; 16] });
        request.events[0].cold = Some(Box::new(StreamHead { version: 7, position: 8, link: Link([1; 32]), birth }));
        request.events[0].expected = Expected::Exactly(Version(7));
        assert!(decide(&mut directory, &Past, request.view(LOOKED), &mut Found::default()).is_ok());
        request.events[0].cold = None;
        assert!(decide(&mut directory, &Past, request.view(LOOKED), &mut Found::default()).is_ok(), "it is in memory now");
        // A stream whose newest events were found at open, and its first one was not.
        let unborn = StreamHead { version: 2, position: 12, link: Link::default(), birth: None };
        directory.add_stream(PAST, unborn);
        let mut request = parcel(&[("past", 1)]);
        request.events[0].stream.id = PAST;
        assert!(decide(&mut directory, &Past, request.view(LOOKED), &mut Found::default()).is_ok());
        request.events[0].stream.name_rest = [2; 16];
        assert!(collides(&mut directory, &request, "past"));
    }
}
