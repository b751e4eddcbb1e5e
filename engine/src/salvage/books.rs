//! What is known of streams, buckets and ids while the intact records go by in their order, and the verdict on each of them.
//!
//! A record's link is recomputed from the stored links of its two predecessors. That it comes out proves that both are the right ones. That it does
//! not is tampering only where they are known to be the right ones; else what lies between was lost, and nothing can be said.

use std::collections::{HashMap, HashSet};

use chainring_format::frame::{FrameHeader, FrameView, KIND_GENESIS, back_distance};
use chainring_format::hash::{Hash, name_commit, stream_id};
use chainring_format::limits::ENGINE_LANE;
use chainring_format::metadata::{Metadata, event_type};
use chainring_format::{EventId, Link, StreamId, Version, Violation};

use super::manifest::{Reason, SalvagedStream, VersionRun};
use super::ranges::Ranges;

/// What becomes of an intact record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A record of the engine's own; the new log has its own ones.
    EngineRecord,
    /// An event to copy.
    Copy { link_verified: bool },
    /// An event whose link is wrong, and nothing else: copied on request.
    Unchained(Reason),
    /// An event that cannot be copied.
    LeaveOut(Reason),
}

#[derive(Debug, Default)]
struct Stream {
    name: Option<String>,
    found: Ranges,
    left_out: Ranges,
    /// Highest version that is known of, and the link it states.
    last: Option<(u64, Link)>,
    /// Number of its last event in the order of everything known.
    last_ordinal: u64,
}

impl Stream {
    /// Versions that were there and are not intact any more.
    fn missing(&self) -> Ranges {
        self.found.missing_up_to(self.last.map_or(0, |(last, _)| last))
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    link: Link,
    position: Option<u64>,
    /// Number of the last record before which records of this bucket may be missing.
    break_ordinal: u64,
    /// Losses before its last record, or of which a footer shows that they took none behind that.
    losses_seen: u64,
    /// Intact records of the bucket so far.
    intact: u64,
    /// Records missing of this bucket by the last footer's count, and the losses before that footer.
    missing: Option<(u64, u64)>,
}

/// What other events claim of a stream.
#[derive(Debug)]
struct Mention {
    name: String,
    version: u64,
}

/// Everything known so far.
#[derive(Debug, Default)]
pub(super) struct Books {
    log_id: Option<Link>,
    copies_unchained: bool,
    streams: HashMap<StreamId, Stream>,
    buckets: HashMap<u16, Bucket>,
    ids: HashSet<EventId>,
    mentions: HashMap<StreamId, Mention>,
    /// Records known so far.
    ordinal: u64,
    /// Places so far where records nobody knows of may have been lost.
    losses: u64,
}

/// No stream has more events; what says so is not believed, and counting on from a version never overflows.
const VERSION_MAX: u64 = 1 << 63;

const fn tampered(rule: &'static str, why: &'static str) -> Reason {
    Reason::Tampered { rule, why }
}

const WRONG_VERSION: Reason = tampered("H1", "the version does not continue the stream");
const WRONG_BUCKET: Reason = tampered("H1", "the distance to the bucket's previous record is wrong");
const WRONG_LINK: Reason = tampered("H1", "the link does not follow from the record and its predecessors");

/// How far a record's link can be judged.
enum Chain {
    Verified,
    /// Its predecessors are not known, or not known to be the right ones.
    Unknown {
        bucket_is_sure: bool,
    },
    Wrong(Reason),
}

impl Books {
    pub(super) fn new(log_id: Option<Link>, copies_unchained: bool) -> Books {
        Books { log_id, copies_unchained, ..Books::default() }
    }

    pub(super) fn log_id(&self) -> Option<Link> {
        self.log_id
    }

    pub(super) fn copies_unchained(&self) -> bool {
        self.copies_unchained
    }

    /// Records nobody knows of may have been lost here.
    pub(super) fn note_loss(&mut self) {
        self.losses += 1;
    }

    /// A valid footer says how many records this bucket has up to here, and where the last one stands.
    pub(super) fn note_head(&mut self, bucket: u16, position: u64, count: u64) {
        if let Some(known) = self.buckets.get_mut(&bucket) {
            known.missing = count.checked_sub(known.intact).map(|missing| (missing, self.losses));
            if known.position == Some(position) {
                known.losses_seen = self.losses;
            }
        }
    }

    /// The buckets that hold a record, the engine's lane included.
    pub(super) fn buckets(&self) -> impl Iterator<Item = u16> + '_ {
        self.buckets.keys().copied()
    }

    /// Takes in an intact record. `batch_id` is `None` where the first event of its batch is lost.
    pub(super) fn take_in(&mut self, position: Option<u64>, frame: &FrameView<'_>, batch_id: Option<EventId>) -> Verdict {
        self.ordinal += 1;
        if !frame.is_event() {
            return if frame.header.kind == KIND_GENESIS { self.genesis(position, frame) } else { self.engine_record(position, frame) };
        }
        let version = frame.header.version.get();
        let last = self.streams.get(&frame.stream_id()).and_then(|stream| stream.last).map_or(0, |(last, _)| last);
        if version <= last || version > VERSION_MAX {
            return self.misplaced(WRONG_VERSION);
        }
        let rule = frame.check(1).and_then(|()| {
            let is_new = self.ids.insert(frame.event_id());
            is_new.then_some(()).ok_or(Violation { rule: "H2", why: "the event id occurs twice" })
        });
        let chain = self.chain(position, frame, batch_id);
        if let Chain::Wrong(reason @ (WRONG_VERSION | WRONG_BUCKET)) = chain {
            return self.misplaced(reason);
        }
        let bucket_is_sure = !matches!(chain, Chain::Unknown { bucket_is_sure: false });
        self.advance(position, frame.header, frame.name(), bucket_is_sure);
        let verdict = match (rule, chain) {
            (Err(violation), _) => Verdict::LeaveOut(tampered(violation.rule, violation.why)),
            (_, _) if frame.erased() => Verdict::LeaveOut(Reason::Erased),
            (_, _) if event_type(frame.metadata()) == Some("") => Verdict::LeaveOut(Reason::Untyped),
            (_, Chain::Wrong(reason)) => Verdict::Unchained(reason),
            (_, Chain::Verified) => Verdict::Copy { link_verified: true },
            (_, Chain::Unknown { .. }) => Verdict::Copy { link_verified: false },
        };
        let is_copied = match verdict {
            Verdict::Copy { .. } => true,
            Verdict::Unchained(_) => self.copies_unchained,
            Verdict::EngineRecord | Verdict::LeaveOut(_) => false,
        };
        let stream = self.streams.get_mut(&frame.stream_id()).expect("it was advanced");
        stream.found.insert(version);
        if let Some(bucket) = self.buckets.get_mut(&frame.bucket()) {
            bucket.intact += 1;
        }
        if is_copied {
            self.note_mentions(frame);
        } else {
            stream.left_out.insert(version);
        }
        verdict
    }

    /// A record that says it stands where it cannot. What stood there, and where this one comes from, nobody knows.
    fn misplaced(&mut self, reason: Reason) -> Verdict {
        self.losses += 1;
        Verdict::LeaveOut(reason)
    }

    /// Takes in a record of which only the body is lost: it is known what it was, and its link is there for those that follow it.
    pub(super) fn take_in_bodyless(&mut self, position: Option<u64>, header: &FrameHeader, name: Option<&str>) {
        self.ordinal += 1;
        if header.stream_id == [0; 16] || !(1..=VERSION_MAX).contains(&header.version.get()) {
            return;
        }
        let back = header.bucket_back.get();
        let before = self.buckets.get(&StreamId(header.stream_id).bucket());
        let is_sure = match before {
            None => back == 0,
            Some(before) => position.zip(before.position).is_some_and(|(position, before)| back_distance(position, Some(before)) == back),
        };
        self.advance(position, header, name, is_sure);
    }

    fn genesis(&mut self, position: Option<u64>, frame: &FrameView<'_>) -> Verdict {
        let leave_out = |violation: Violation| Verdict::LeaveOut(tampered(violation.rule, violation.why));
        if let Err(violation) = frame.check(position.unwrap_or(0)) {
            return leave_out(violation);
        }
        let digest = frame.digest(EventId::default());
        if frame.expected_link(&digest, &[0; 32], &[0; 32]) != frame.link() || self.log_id.is_some_and(|log_id| log_id != frame.link()) {
            return Verdict::LeaveOut(WRONG_LINK);
        }
        self.log_id = Some(frame.link());
        let lane = Bucket { link: frame.link(), position, break_ordinal: 0, losses_seen: self.losses, intact: 1, missing: None };
        self.buckets.insert(ENGINE_LANE, lane);
        Verdict::EngineRecord
    }

    /// A record of the engine's own is checked like any other. It is not copied: it is about this log and no other.
    fn engine_record(&mut self, position: Option<u64>, frame: &FrameView<'_>) -> Verdict {
        // Without its position, what it says of that cannot be compared.
        if let Some(violation) = position.and_then(|position| frame.check(position).err()) {
            return Verdict::LeaveOut(tampered(violation.rule, violation.why));
        }
        let before = self.buckets.get(&ENGINE_LANE).map(|lane| (lane.link, lane.position, lane.intact));
        if let (Some((link, at, _)), Some(position)) = (before, position)
            && back_distance(position, at) == frame.header.bucket_back.get()
            && at.is_some()
        {
            let digest = frame.digest(EventId::default());
            if frame.expected_link(&digest, &link.0, &link.0) != frame.link() {
                return Verdict::LeaveOut(WRONG_LINK);
            }
        }
        let intact = before.map_or(0, |(_, _, intact)| intact) + 1;
        let lane = Bucket { link: frame.link(), position, break_ordinal: 0, losses_seen: self.losses, intact, missing: None };
        self.buckets.insert(ENGINE_LANE, lane);
        Verdict::EngineRecord
    }

    fn chain(&self, position: Option<u64>, frame: &FrameView<'_>, batch_id: Option<EventId>) -> Chain {
        let header = frame.header;
        let nothing_lost = self.losses == 0;
        let back = header.bucket_back.get();
        let (prev_bucket, is_sure): (Option<Hash>, bool) = match (self.buckets.get(&frame.bucket()), back) {
            (None, 0) => (self.log_id.map(|log_id| log_id.0), true),
            (Some(_), 0) => return Chain::Wrong(WRONG_BUCKET),
            (None, _) if nothing_lost => return Chain::Wrong(WRONG_BUCKET),
            (None, _) => (None, false),
            (Some(before), _) => {
                let near = position.zip(before.position).map(|(position, before)| back_distance(position, Some(before)) == back);
                if near == Some(false) && nothing_lost {
                    return Chain::Wrong(WRONG_BUCKET);
                }
                (Some(before.link.0), nothing_lost || near == Some(true))
            }
        };
        let prev_stream = match (header.version.get(), self.streams.get(&frame.stream_id()).and_then(|stream| stream.last)) {
            (1, _) => self.log_id.zip(frame.name()).map(|(log_id, name)| name_commit(&log_id, name)),
            (version, Some((last, link))) if last + 1 == version => Some(link.0),
            _ if nothing_lost => return Chain::Wrong(WRONG_VERSION),
            _ => None,
        };
        let (Some(prev_bucket), Some(prev_stream), Some(batch_id)) = (prev_bucket, prev_stream, batch_id) else {
            return Chain::Unknown { bucket_is_sure: is_sure };
        };
        if frame.expected_link(&frame.digest(batch_id), &prev_bucket, &prev_stream) == frame.link() {
            Chain::Verified
        } else if is_sure {
            Chain::Wrong(WRONG_LINK)
        } else {
            Chain::Unknown { bucket_is_sure: false }
        }
    }

    fn advance(&mut self, position: Option<u64>, header: &FrameHeader, name: Option<&str>, bucket_is_sure: bool) {
        let (id, link) = (StreamId(header.stream_id), Link(header.link));
        let stream = self.streams.entry(id).or_default();
        if stream.last.is_none_or(|(last, _)| last < header.version.get()) {
            stream.last = Some((header.version.get(), link));
        }
        stream.last_ordinal = self.ordinal;
        if let Some(name) = name {
            stream.name.get_or_insert_with(|| name.to_owned());
        }
        let before = self.buckets.get(&id.bucket());
        let bucket = Bucket {
            link,
            position,
            break_ordinal: if bucket_is_sure { before.map_or(0, |before| before.break_ordinal) } else { self.ordinal },
            losses_seen: self.losses,
            intact: before.map_or(0, |before| before.intact),
            missing: before.and_then(|before| before.missing),
        };
        self.buckets.insert(id.bucket(), bucket);
    }

    /// Keeps what an event says of other streams, where that is more than is known of them.
    fn note_mentions(&mut self, frame: &FrameView<'_>) {
        let Ok(metadata) = Metadata::decode(frame.metadata()) else { return };
        let reads = metadata.reads.iter().chain(&metadata.checked).flatten().map(|read| (&read.stream, read.version));
        let authority = metadata.authority.iter().filter_map(|entry| Some((entry.stream.as_ref()?, entry.version.unwrap_or(0))));
        for (name, version) in reads.chain(authority) {
            let id = stream_id(name);
            let known = self.streams.get(&id);
            let is_news = known.is_none_or(|stream| stream.name.is_none() || stream.last.is_none_or(|(last, _)| last < version));
            if is_news {
                let mention = self.mentions.entry(id).or_insert_with(|| Mention { name: name.clone(), version });
                mention.version = mention.version.max(version);
            }
        }
    }

    /// Whether nothing of a stream can be missing behind its last event. `gaps`: versions known to be missing in each bucket.
    fn ends_here(&self, id: StreamId, stream: &Stream, gaps: &HashMap<u16, u64>) -> bool {
        let Some(bucket) = self.buckets.get(&id.bucket()) else { return false };
        // The bucket's chain is whole from the stream's last event on; or every record missing in the bucket is known as another one.
        let is_chained = bucket.break_ordinal <= stream.last_ordinal && bucket.losses_seen == self.losses;
        let known = gaps.get(&id.bucket()).copied().unwrap_or(0);
        is_chained || bucket.missing == Some((known, self.losses))
    }

    pub(super) fn streams_found(&self) -> u64 {
        self.streams.values().filter(|stream| !stream.found.is_empty()).count() as u64
    }

    /// Names for the streams that lost theirs, from what other events say and from `guesses`: a name is right when it gives the id.
    pub(super) fn find_names(&mut self, guesses: &[String]) {
        for (id, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.name.is_none()) {
            stream.name = self.mentions.get(id).map(|mention| mention.name.clone());
        }
        for guess in guesses {
            if let Some(stream) = self.streams.get_mut(&stream_id(guess)) {
                stream.name.get_or_insert_with(|| guess.clone());
            }
        }
    }

    /// Name of a stream in the new store. One that nobody knows the name of is called after its id.
    pub(super) fn new_name(&self, id: StreamId) -> String {
        if let Some(name) = self.streams.get(&id).and_then(|stream| stream.name.as_ref()) {
            return name.clone();
        }
        let mut name = format!("$salvaged/{id}");
        while self.streams.contains_key(&stream_id(&name)) {
            name.push('~');
        }
        name
    }

    pub(super) fn name(&self, id: StreamId) -> Option<&str> {
        self.streams.get(&id)?.name.as_deref()
    }

    /// The streams that lost something, or may have. Those that may only have gone on are left to `end_known` where that is false.
    pub(super) fn report(&self, end_known: bool) -> Vec<SalvagedStream> {
        let mut gaps: HashMap<u16, u64> = HashMap::new();
        for (id, stream) in &self.streams {
            *gaps.entry(id.bucket()).or_default() += stream.missing().count();
        }
        let mut listed: Vec<SalvagedStream> =
            self.streams.iter().filter_map(|(id, stream)| self.report_stream(*id, stream, end_known, &gaps)).collect();
        if self.losses > 0 {
            let unseen = self.mentions.iter().filter(|(id, mention)| mention.version > 0 && !self.streams.contains_key(id));
            listed.extend(unseen.map(|(id, mention)| SalvagedStream {
                name: Some(mention.name.clone()),
                stream_id: *id,
                found: Ranges::default(),
                missing: Ranges::default(),
                left_out: Ranges::default(),
                mentioned: Some(Version(mention.version)),
                new_name: None,
                versions: Vec::new(),
                complete: false,
            }));
        }
        listed.sort_unstable_by(|a, b| (&a.name, a.stream_id).cmp(&(&b.name, b.stream_id)));
        listed
    }

    fn report_stream(&self, id: StreamId, stream: &Stream, end_known: bool, gaps: &HashMap<u16, u64>) -> Option<SalvagedStream> {
        let last = stream.last.map_or(0, |(last, _)| last);
        let missing = stream.missing();
        let is_whole = missing.is_empty() && stream.left_out.is_empty();
        let complete = is_whole && end_known && self.ends_here(id, stream, gaps);
        if is_whole && stream.name.is_some() && (complete || !end_known) {
            return None;
        }
        let mentioned = self.mentions.get(&id).map(|mention| mention.version).filter(|version| *version > last);
        let versions = version_runs(&stream.found, &stream.left_out);
        Some(SalvagedStream {
            name: stream.name.clone(),
            stream_id: id,
            found: stream.found.clone(),
            missing,
            left_out: stream.left_out.clone(),
            mentioned: mentioned.map(Version),
            new_name: (!versions.is_empty()).then(|| self.new_name(id)),
            versions,
            complete,
        })
    }
}

/// Where the versions that are copied come to stand, counted anew from 1.
fn version_runs(found: &Ranges, left_out: &Ranges) -> Vec<VersionRun> {
    let mut runs: Vec<VersionRun> = Vec::new();
    let mut new = 1;
    let mut push = |first: u64, last: u64| {
        if first <= last {
            runs.push(VersionRun { first, last, new_first: new });
            new += last - first + 1;
        }
    };
    for (first, last) in found.iter() {
        let mut at = first;
        for (out_first, out_last) in left_out.iter().filter(|(out_first, out_last)| *out_first <= last && *out_last >= first) {
            push(at, out_first - 1);
            at = out_last + 1;
        }
        push(at, last);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_versions_are_counted_anew() {
        let ranges = |numbers: &[u64]| {
            let mut ranges = Ranges::default();
            numbers.iter().for_each(|number| ranges.insert(*number));
            ranges
        };
        let runs = |found: &[u64], left_out: &[u64]| {
            version_runs(&ranges(found), &ranges(left_out)).into_iter().map(|run| (run.first, run.last, run.new_first)).collect::<Vec<_>>()
        };
        assert_eq!(runs(&[1, 2, 3], &[]), [(1, 3, 1)]);
        assert_eq!(runs(&[2, 3, 7, 8], &[]), [(2, 3, 1), (7, 8, 3)]);
        assert_eq!(runs(&[1, 2, 3, 4, 7], &[1, 3]), [(2, 2, 1), (4, 4, 2), (7, 7, 3)]);
        assert_eq!(runs(&[1], &[1]), []);
    }
}
