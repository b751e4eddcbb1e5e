//! Rule H1: the link of one record, from its leaf and its two predecessors (FORMAT.md section 7.2).
//!
//! A segment can be checked before the segments in front of it: a record whose predecessor stands there is kept as a [`Step`] and checked when they
//! are known, by the same function.

use crate::bytes::{Hash, Id, ZERO_HASH};
use crate::frame::KIND_EVENT;
use crate::hash::{self, Leaf};

/// Distance that means "that far or farther".
const FAR: u64 = 0xFFFF_FFFF;

/// What a chain needs to know of its last record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Previous {
    pub(crate) version: u64,
    pub(crate) position: u64,
    pub(crate) link: Hash,
}

/// One record as its chains see it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// File offset of its frame.
    pub(crate) offset: u64,
    pub(crate) position: u64,
    pub(crate) kind: u8,
    pub(crate) bucket: u16,
    pub(crate) version: u64,
    pub(crate) recorded_at_ns: u64,
    pub(crate) bucket_back: u32,
    pub(crate) stream_back: u32,
    pub(crate) stream_id: Id,
    pub(crate) digest: Hash,
    pub(crate) link: Hash,
    /// Only with version 1, where it stands for the previous event of the stream.
    pub(crate) name_commit: Hash,
}

impl Step {
    pub(crate) fn is_event(&self) -> bool {
        self.kind == KIND_EVENT
    }

    fn distance(&self, previous: Option<&Previous>) -> u32 {
        previous.map_or(0, |previous| self.position.saturating_sub(previous.position).min(FAR) as u32)
    }

    /// H1, given the bucket's and the stream's previous records. An engine record has one predecessor, its lane's.
    pub(crate) fn check(&self, in_bucket: Option<&Previous>, in_stream: Option<&Previous>, log_id: &Hash) -> Result<(), &'static str> {
        let in_stream = if self.is_event() { in_stream } else { in_bucket };
        let expected_version = match (in_stream, self.is_event()) {
            (Some(previous), _) => previous.version.checked_add(1),
            (None, true) => Some(1),
            (None, false) => Some(0),
        };
        if expected_version != Some(self.version) {
            return Err("the version does not continue its stream");
        }
        if self.bucket_back != self.distance(in_bucket) || self.stream_back != self.distance(in_stream) {
            return Err("a distance to the previous record is wrong");
        }
        let (first_in_bucket, first_in_stream) = if self.is_event() { (log_id, &self.name_commit) } else { (&ZERO_HASH, &ZERO_HASH) };
        let leaf =
            Leaf { kind: self.kind, bucket: self.bucket, version: self.version, recorded_at_ns: self.recorded_at_ns, digest: &self.digest };
        let previous_in_bucket = in_bucket.map_or(first_in_bucket, |previous| &previous.link);
        let previous_in_stream = in_stream.map_or(first_in_stream, |previous| &previous.link);
        if hash::link(&leaf, previous_in_bucket, previous_in_stream) != self.link {
            return Err("the link is not the hash of the record and its predecessors");
        }
        Ok(())
    }
}
