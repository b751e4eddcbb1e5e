//! A batch as a caller makes it, event by event: encoded at once into the memory that it is placed from.

use std::collections::HashSet;

use chainring_format::EventId;
use chainring_format::commit::TRAILER_BYTES;
use chainring_format::hash::Hash;
use chainring_format::lanes::Lanes;
use chainring_format::limits::BATCH_BYTES_MAX;

use super::draws::Draws;
use super::event::{Event, check_name, invalid};
use crate::condition::Expected;
use crate::error::AppendError;
use crate::sequencer::{Grounds, Parcel, PreparedEvent, Required, StreamKey};

/// A batch that takes its events in one by one and keeps none of them: whoever appends many, and uses one [`Event`] for all of them, its texts and its
/// body included, allocates nothing for an event.
///
/// ```
/// # use std::io::Write;
/// # let dir = tempfile::tempdir()?;
/// # let log = chainring::Options::new().open(dir.path().join("log"))?;
/// let mut event = chainring::Event::new("", "Refunded").actor("agent-7");
/// let mut batch = log.write_batch();
/// for number in 0..1000 {
///     event.stream.clear();
///     event.stream.push_str("order-");
///     event.stream.push_str(&number.to_string());
///     event.body.clear();
///     write!(event.body, r#"{{"cents":{number}}}"#)?;
///     batch.push(&event)?;
/// }
/// let receipt = log.append(batch)?;
/// assert_eq!(receipt.events.len(), 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct WriteBatch {
    parcel: Box<Parcel>,
    /// The most that the frames of its events can take.
    frames_bytes: u64,
}

impl WriteBatch {
    /// An empty one, in memory that `parcel` brings.
    pub(super) fn new(parcel: Box<Parcel>) -> WriteBatch {
        WriteBatch { parcel, frames_bytes: 0 }
    }

    /// One of these events.
    pub(super) fn of(events: &[Event], mut parcel: Box<Parcel>) -> Result<WriteBatch, AppendError> {
        parcel.events.reserve(events.len());
        parcel.bytes.reserve(events.iter().map(|event| event.stream.len() + event.body.len() + METADATA_BYTES_USUAL).sum());
        let mut batch = WriteBatch::new(parcel);
        events.iter().try_for_each(|event| batch.push(event))?;
        Ok(batch)
    }

    /// Takes in an event, which can be used for the next one then.
    ///
    /// # Errors
    /// [`AppendError::Invalid`] if the event breaks a limit, or makes the batch too long. The batch is as it was before.
    pub fn push(&mut self, event: &Event) -> Result<(), AppendError> {
        let Parcel { events, bytes, .. } = &mut *self.parcel;
        let before = bytes.len();
        bytes.extend_from_slice(event.stream.as_bytes());
        let encoded = event.encode(bytes).and_then(|prepared| {
            let frames_bytes = self.frames_bytes + prepared.frame_bytes_max();
            if frames_bytes + TRAILER_BYTES as u64 > BATCH_BYTES_MAX {
                return Err(invalid(format!("the batch takes more than {BATCH_BYTES_MAX} bytes")));
            }
            Ok((prepared, frames_bytes))
        });
        match encoded {
            Ok((prepared, frames_bytes)) => {
                bytes.extend_from_slice(&event.body);
                events.push(prepared);
                self.frames_bytes = frames_bytes;
                Ok(())
            }
            Err(error) => {
                bytes.truncate(before);
                Err(error)
            }
        }
    }

    /// How many events it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parcel.events.len()
    }

    /// It has no event. Such a batch cannot be appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parcel.events.is_empty()
    }

    /// The event of a batch that has one, and its bytes.
    pub(super) fn into_one(self) -> (PreparedEvent, Vec<u8>) {
        let Parcel { mut events, bytes, .. } = *self.parcel;
        (events.pop().expect("it has one"), bytes)
    }

    /// Also requires something of a stream that is only read.
    pub(super) fn require(&mut self, name: String, expected: Expected) -> Result<(), AppendError> {
        check_name(&name)?;
        self.parcel.required.push(Required { stream: StreamKey::of(&name), name, expected, cold: None });
        Ok(())
    }

    /// Draws what is to be drawn, and hashes everything.
    pub(super) fn finish(
        self,
        is_batch: bool,
        not_after_ns: Option<u64>,
        grounds: Grounds,
        draws: &Draws,
        scratch: &mut Scratch,
    ) -> Result<Box<Parcel>, AppendError> {
        let mut parcel = self.parcel;
        (parcel.batch, parcel.not_after_ns) = (is_batch, not_after_ns);
        let Parcel { events, bytes, .. } = &mut *parcel;
        let count = u32::try_from(events.len()).expect("each takes bytes, and there is a limit to those");
        if count == 0 {
            return Err(invalid("a batch has at least one event".into()));
        }
        // Drawn ids are unique.
        let mut given = HashSet::new();
        if count > 1
            && let Some(twice) = events.iter().find(|event| !event.is_id_drawn && !given.insert(event.event_id))
        {
            return Err(invalid(format!("event id {} occurs twice in one batch", twice.event_id)));
        }
        let Scratch { lanes, drawn, digests, .. } = scratch;
        let (mut rest, mut batch_id, mut index) = (&bytes[..], EventId::default(), 0);
        let (mut ids, mut contents) = (Vec::with_capacity(GROUP_EVENTS), Vec::with_capacity(GROUP_EVENTS));
        // A few at a time, in the cache.
        for group in events.chunks_mut(GROUP_EVENTS) {
            ids.clear();
            ids.extend(group.iter().map(|event| (!event.is_id_drawn).then_some(event.event_id)));
            drawn.clear();
            draws.few(&ids, lanes, drawn);
            if is_batch && index == 0 {
                batch_id = drawn[0].0;
            }
            contents.clear();
            for (event, &drawn) in group.iter_mut().zip(&*drawn) {
                let (own, behind) = rest.split_at(event.content_bytes());
                let content = event.content(own);
                event.grounds = grounds;
                event.take_drawn(drawn, content.body);
                contents.push(event.lane_event(content, batch_id, index, if is_batch { count } else { 0 }));
                (rest, index) = (behind, index + 1);
            }
            digests.clear();
            lanes.event_digests(&contents, digests);
            group.iter_mut().zip(&*digests).for_each(|(event, digest)| event.digest = Some(*digest));
        }
        Ok(parcel)
    }
}

/// Events that are hashed together.
const GROUP_EVENTS: usize = 64;
/// What metadata mostly fits into.
const METADATA_BYTES_USUAL: usize = 128;

/// Memory of a thread that appends, kept for its next request.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) metadata: Vec<u8>,
    pub(super) lanes: Lanes,
    drawn: Vec<(EventId, [u8; 16])>,
    digests: Vec<Hash>,
}
