//! Step 4: what a record must be once its checksums hold (FORMAT.md sections 6 to 6.5 and 8): F4, F5, F6, F7, B1, M1 to M3.
//!
//! Always: a failure here is `tampered`, because the bytes carried a valid checksum.
//! Never: looks at hashes or at records of another commit.

use crate::bytes::{Hash, Id, all_zero, array_at, u16_at, u32_at, u64_at};
use crate::frame::{Frame, KIND_EVENT, KIND_GENESIS, Slot};
use crate::hash::{BUCKET_COUNT, SUITE, Suite};
use crate::metadata;
use crate::seal;

const GENESIS_BYTES: usize = 96;
const ORIGIN_BYTES_MAX: u16 = 512;

/// The rule that fails and why.
pub(crate) type Broken = (&'static str, &'static str);

/// Where a record stands in its batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batch {
    count: u32,
    next_index: u32,
    id: Id,
}

impl Batch {
    /// A batch has begun and lacks events.
    pub(crate) fn is_open(&self) -> bool {
        self.next_index < self.count
    }

    /// B1 for the next frame of a commit; gives the batch_id that its digest binds.
    pub(crate) fn step(&mut self, frame: &Frame<'_>) -> Result<Id, Broken> {
        let (index, count) = (frame.header.batch_index, frame.header.batch_count);
        if self.is_open() {
            if count != self.count || index != self.next_index {
                return Err(("B1", "a batch is interrupted"));
            }
        } else if index != 0 {
            return Err(("B1", "a batch does not start with its first event"));
        } else {
            let id = if count == 0 { [0; 16] } else { frame.header.event_id };
            *self = Batch { count, next_index: 0, id };
        }
        if count != 0 {
            self.next_index += 1;
        }
        Ok(self.id)
    }
}

/// F4 and F6 to F10, F5 with M1 to M3, for the record at `position`.
pub(crate) fn check_record(frame: &Frame<'_>, slot: Slot, position: u64, suite: &mut Suite) -> Result<(), Broken> {
    if (frame.header.kind == KIND_GENESIS) != (position == 0) {
        return Err(("F7", "the genesis record stands at position 0 and nowhere else"));
    }
    if frame.header.kind == KIND_EVENT {
        check_event(frame, suite).map_err(|why| ("F4", why))?;
        return metadata::check(frame.metadata, true);
    }
    check_engine_record(frame).map_err(|why| ("F6", why))?;
    if frame.header.kind == KIND_GENESIS {
        return check_genesis(frame, slot).map_err(|why| ("F7", why));
    }
    if !frame.metadata.is_empty() || slot == Slot::Erased {
        return Err(("F6", "an engine record has metadata or an erased body"));
    }
    seal::check(frame.header.kind, frame.body(), position, frame.header.recorded_at_ns)
}

/// F4
fn check_event(frame: &Frame<'_>, suite: &mut Suite) -> Result<(), &'static str> {
    let header = &frame.header;
    if header.batch_index >= header.batch_count && (header.batch_index, header.batch_count) != (0, 0) {
        return Err("batch_index is not below batch_count");
    }
    if header.version == 0 {
        return Err("an event has version 0");
    }
    if (header.version == 1) == frame.name.is_empty() {
        return Err("the stream name stands with version 1 and only there");
    }
    if header.version == 1 {
        if std::str::from_utf8(frame.name).is_err() {
            return Err("the stream name is not UTF-8");
        }
        if suite.stream_id(frame.name) != header.stream_id {
            return Err("the stream name does not give the stream id");
        }
    }
    if all_zero(&header.event_id) { Err("the event id is zero") } else { Ok(()) }
}

/// F6
fn check_engine_record(frame: &Frame<'_>) -> Result<(), &'static str> {
    let header = &frame.header;
    if !frame.name.is_empty() || (header.batch_index, header.batch_count) != (0, 0) {
        return Err("an engine record has a name or a batch");
    }
    if !all_zero(&header.stream_id) || !all_zero(&header.event_id) {
        return Err("an engine record has a stream id or an event id");
    }
    if header.is_salted() { Err("an engine record is salted") } else { Ok(()) }
}

/// F7, the body of section 6.5.
fn check_genesis(frame: &Frame<'_>, slot: Slot) -> Result<(), &'static str> {
    if frame.header.version != 0 || !frame.metadata.is_empty() {
        return Err("the genesis record has a version or metadata");
    }
    if slot == Slot::Erased {
        return Err("the genesis body is erased");
    }
    check_genesis_body(frame.body(), frame.header.recorded_at_ns)
}

/// F7, as far as the body and its record's time tell.
pub(crate) fn check_genesis_body(body: &[u8], recorded_at_ns: u64) -> Result<(), &'static str> {
    if body.len() < GENESIS_BYTES {
        return Err("the genesis body is too short");
    }
    let origin_bytes = u16_at(body, 78);
    if origin_bytes > ORIGIN_BYTES_MAX || body.len() != GENESIS_BYTES + usize::from(origin_bytes) {
        return Err("the genesis body's length is not that of its parts");
    }
    if u64_at(body, 64) != recorded_at_ns {
        return Err("the genesis body's time is not its record's");
    }
    if u32_at(body, 72) != u32::from(BUCKET_COUNT) || u16_at(body, 76) != u16::from(SUITE) || !all_zero(&body[80..96]) {
        return Err("the genesis body has other constants or reserved bytes");
    }
    if origin(body).is_none() { Err("the origin is not UTF-8") } else { Ok(()) }
}

/// The log's key in a genesis body that passed F7.
pub(crate) fn genesis_key(body: &[u8]) -> Hash {
    array_at(body, 32)
}

/// The origin in a genesis body that passed F7.
pub(crate) fn origin(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body.get(GENESIS_BYTES..)?).ok()
}
