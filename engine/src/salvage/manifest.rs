//! What a salvage found, in plain values: what is damaged, what is missing, what was left out and why, stream by stream.
//!
//! Always: a stream that is not listed lost nothing, as far as the store's bytes can show; `complete` is only said where they show it.

use std::fmt;

use chainring_format::{EventId, Link, Position, StreamId, Version};

use super::ranges::Ranges;

/// In what way a place of the store is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DamageKind {
    /// Bytes changed: nothing valid stands here.
    Corrupt,
    /// Nothing but zero bytes.
    Zeroed,
    /// The device gives an error for some of these bytes.
    Unreadable,
    /// The file ends before.
    Missing,
    /// Checksums hold and what they cover contradicts the rest.
    Tampered,
    /// A file that is no segment of this log, or not at this place. Nothing of it was read.
    Foreign,
    /// A segment that needs a newer program. Nothing of it was read.
    Unsupported,
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DamageKind::Corrupt => "corrupt",
            DamageKind::Zeroed => "zeroed",
            DamageKind::Unreadable => "unreadable",
            DamageKind::Missing => "missing",
            DamageKind::Tampered => "tampered",
            DamageKind::Foreign => "foreign",
            DamageKind::Unsupported => "unsupported",
        })
    }
}

/// A damaged place. It need not have cost a record: padding, trailers and footers are damaged too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// File name of the segment.
    pub segment: String,
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// In what way.
    pub kind: DamageKind,
    /// What stood there and what is wrong, in words.
    pub why: String,
}

/// Positions of which records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// First position of the range.
    pub first: u64,
    /// Last position; `None` = nobody knows how far it went.
    pub last: Option<u64>,
    /// How many records of the range are missing. Fewer than its positions where intact records stand among them, at places that are not known.
    pub count: Option<u64>,
}

/// Bytes that do not exist for the log: what recovery cut off a segment, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// File name of the segment.
    pub segment: String,
    /// Where they begin in the file.
    pub offset: u64,
    /// How many, up to the last one that is not zero.
    pub bytes: u64,
    /// Whether a later header names this end; otherwise the next recovery would.
    pub is_done: bool,
    /// Intact records among bytes that are not cut yet. They were never acknowledged, and are not copied.
    pub records: u64,
    /// Where they would have belonged.
    pub streams: Vec<CutStream>,
}

/// Versions of a stream that were never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutStream {
    /// Its name, where anything tells it.
    pub name: Option<String>,
    /// Its id.
    pub stream_id: StreamId,
    /// The versions.
    pub versions: Ranges,
}

/// An intact record with which something is wrong all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Irregular {
    /// File name of the segment.
    pub segment: String,
    /// Where the record begins in the file.
    pub offset: u64,
    /// Its position, where it can be told.
    pub position: Option<Position>,
    /// Its stream.
    pub stream_id: StreamId,
    /// Its version, as it says.
    pub version: Version,
    /// Its id, as it says.
    pub event_id: EventId,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with an intact record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its checksums hold, a hash or a rule does not: somebody rewrote it. The rule, and what is wrong.
    Tampered {
        /// Rule of FORMAT.md.
        rule: &'static str,
        /// What is wrong, in words.
        why: &'static str,
    },
    /// Its body was erased. A new log could only be told that by an event that never had a body, which would be a lie.
    Erased,
    /// Its type is an empty text, which the format allows and the engine does not append.
    Untyped,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Tampered { rule, why } => write!(f, "tampered: {why} (rule {rule})"),
            Reason::Erased => f.write_str("its body was erased"),
            Reason::Untyped => f.write_str("its type is empty"),
        }
    }
}

/// Intact records whose positions are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// File name of the segment.
    pub segment: String,
    /// Offset of the first one.
    pub first_offset: u64,
    /// Offset of the last one.
    pub last_offset: u64,
    /// How many.
    pub records: u64,
}

/// A batch of which a part is missing or left out. What is left of it is copied as events that stand alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenBatch {
    /// File name of the segment.
    pub segment: String,
    /// Offset of the first of its events that was found.
    pub offset: u64,
    /// How many events it had.
    pub events: u64,
    /// How many of them are copied.
    pub copied: u64,
}

/// Versions that follow each other in both stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRun {
    /// First version in the old store.
    pub first: u64,
    /// Last version in the old store.
    pub last: u64,
    /// What the first is in the new store.
    pub new_first: u64,
}

/// A stream that lost something, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalvagedStream {
    /// Its name; `None` if nothing that is left says it.
    pub name: Option<String>,
    /// Its id.
    pub stream_id: StreamId,
    /// Versions found intact.
    pub found: Ranges,
    /// Versions that were there and are not intact any more, up to the last one that is known of.
    pub missing: Ranges,
    /// Versions found and left out.
    pub left_out: Ranges,
    /// Highest version that other events claim to have seen of it, if that is more than the store itself shows.
    pub mentioned: Option<Version>,
    /// Its name in the new store, if anything of it is copied.
    pub new_name: Option<String>,
    /// Where its copied versions are in the new store.
    pub versions: Vec<VersionRun>,
    /// Nothing of it is missing, at its end neither, and nothing was left out: it is only listed for its name.
    pub complete: bool,
}

/// Numbers over everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Segment files read.
    pub segments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Intact events found.
    pub found: u64,
    /// Events copied, or to be copied.
    pub copied: u64,
    /// Intact events left out: tampered, erased, without a type.
    pub left_out: u64,
    /// Records missing, as far as that is known: where `Manifest::missing` has a range without an end it is more.
    pub missing: u64,
    /// Events copied whose link could be recomputed.
    pub link_verified: u64,
    /// Events copied whose link could not be recomputed, because what it hangs on is lost.
    pub link_unverified: u64,
    /// Events copied whose metadata had to be encoded anew, because it was not written by this engine; it says the same.
    pub reencoded: u64,
    /// Streams found.
    pub streams: u64,
    /// Streams listed, with losses or the chance of some.
    pub streams_touched: u64,
}

/// What a salvage found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// Id of the old log, if anything tells it.
    pub log_id: Option<Link>,
    /// Name of the old log, if its first record is intact.
    pub origin: Option<String>,
    /// When the old log was made, if anything tells it.
    pub created_at_ns: Option<u64>,
    /// Id of the new log, once it is made.
    pub new_log_id: Option<Link>,
    /// Damaged places, in file order.
    pub damage: Vec<Damage>,
    /// Numbers of segments that are not there.
    pub missing_segments: Ranges,
    /// What recovery cut, or would.
    pub cut: Vec<Cut>,
    /// Positions of which records are missing.
    pub missing: Vec<Missing>,
    /// Whether the log ended where it ends now, as far as its bytes can show; if not, every stream may have gone on.
    pub end_known: bool,
    /// Intact records that are not copied.
    pub left_out: Vec<Irregular>,
    /// Records that were copied although their links are wrong, because that was asked for.
    pub copied_tampered: Vec<Irregular>,
    /// Positions of copied events whose link could not be recomputed.
    pub link_unverified: Ranges,
    /// Intact records whose positions are not known.
    pub unplaced: Vec<Unplaced>,
    /// Batches of which a part is missing.
    pub broken_batches: Vec<BrokenBatch>,
    /// Streams that lost something or may have, ordered by name and id. Where `end_known` is false, those that may only have gone on are not listed.
    pub streams: Vec<SalvagedStream>,
    /// Numbers over everything.
    pub totals: Totals,
}

impl Manifest {
    /// Whether nothing is missing and nothing was left out. There may be damage that cost no record.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.missing_segments.is_empty() && self.left_out.is_empty() && self.end_known
    }

    pub(super) fn note_unplaced(&mut self, segment: &str, offset: u64) {
        match self.unplaced.last_mut() {
            Some(last) if last.segment == segment => (last.last_offset, last.records) = (offset, last.records + 1),
            _ => {
                self.unplaced.push(Unplaced { segment: segment.to_owned(), first_offset: offset, last_offset: offset, records: 1 });
            }
        }
    }
}
