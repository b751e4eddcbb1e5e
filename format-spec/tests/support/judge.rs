//! Walks a store and names its first fault, over the crate's own types: shows that each golden case is wrong for the reason it states.
//!
//! It follows FORMAT.md sections 9 and 10 in one pass, in file order. It holds whole files and every head in memory, and is never
//! used for anything but these small stores; verifiers for real ones live elsewhere.

use std::collections::{BTreeMap, HashSet};

use chainring_format::commit::{CommitTrailer, PADDING_BYTE, TRAILER_BYTES, TRAILER_MAGIC};
use chainring_format::footer::{self, BucketHead, FooterContent, POSITION_STRIDE};
use chainring_format::frame::{FrameHeader, FrameView, KIND_GENESIS, back_distance};
use chainring_format::hash::{self, Hash};
use chainring_format::limits::{BUCKET_COUNT, SECTOR_BYTES};
use chainring_format::record::{KIND_KEY, KIND_SEAL, KeyBody, SealBody};
use chainring_format::segment::{SegmentHeader, file_name, number_of};
use chainring_format::tree::Frontier;
use chainring_format::{EventId, Link, Mark, StreamId, Violation, align, checksum::Seed};

use zerocopy::FromBytes;

use super::bless::first_difference;
use super::case::{Fault, Verdict};
use super::store::Head;

type Files = BTreeMap<String, Vec<u8>>;

/// What the records so far lead to.
#[derive(Clone, Default)]
struct State {
    next: u64,
    lanes: BTreeMap<u16, Head>,
    streams: BTreeMap<StreamId, Head>,
    ids: HashSet<EventId>,
    log_id: Hash,
    digest: Hash,
    time_ns: u64,
    watermark: u64,
    epoch: u64,
    /// What the next header must call the end of the segment before it.
    end: u64,
    /// The batch being read: its id, the index that must come next, its count.
    batch: Option<(EventId, u32, u32)>,
    links: Vec<Link>,
    /// Position table of the segment being read.
    offsets: Vec<u32>,
    /// Bucket and link of every record.
    records: Vec<(u16, Link)>,
    /// Number, link and tree_size of the last seal.
    seal: (u64, Hash, u64),
    /// The key in force.
    key: Hash,
}

/// One segment being read.
struct Segment<'a> {
    number: u64,
    file: &'a [u8],
    header: SegmentHeader,
    successor: Option<SegmentHeader>,
    last: bool,
}

impl Segment<'_> {
    fn seed(&self) -> Seed {
        Seed::new(&self.header.salt)
    }

    fn block(&self) -> u64 {
        self.header.block_bytes.get().into()
    }

    /// Where its commits stop, as far as a header says so.
    fn named_end(&self) -> Option<u64> {
        self.header.packed_end().or(self.successor.map(|next| next.prev_end_offset.get()))
    }

    fn fault(&self, kind: &'static str, rule: &'static str, offset: u64, position: Option<u64>) -> Fault {
        Fault { kind, rule, segment: file_name(self.number), offset, position }
    }

    /// A fault of the trailer that stands at this offset.
    fn trailer_fault(&self, kind: &'static str, rule: &'static str, offset: u64) -> Fault {
        self.fault(kind, rule, offset / self.block() * self.block(), None)
    }
}

/// The verdict over a store.
pub(crate) fn judge(files: &Files) -> Verdict {
    let mut state = State::default();
    let fault = walk(files, &mut state).err();
    Verdict { records: state.next, fault }
}

fn walk(files: &Files, state: &mut State) -> Result<(), Fault> {
    let highest = files.keys().filter_map(|name| number_of(name)).max().expect("a golden store has a segment");
    for number in 1..=highest {
        let Some(file) = files.get(&file_name(number)) else {
            return Err(Fault { kind: "missing", rule: "L1", segment: file_name(number), offset: 0, position: None });
        };
        let broken = |kind, rule| Fault { kind, rule, segment: file_name(number), offset: 0, position: None };
        let header = SegmentHeader::parse(file).map_err(|violation| broken("corrupt", violation.rule))?;
        let successor = files.get(&file_name(number + 1)).and_then(|file| SegmentHeader::parse(file).ok());
        let segment = Segment { number, file, header, successor, last: number == highest };
        lineage(&segment, state).map_err(|()| broken("tampered", "S6"))?;
        state.epoch = segment.header.epoch.get();
        state.offsets.clear();
        state.end = read_segment(files, &segment, state)?;
        if segment.header.is_packed() {
            state.end = segment.header.unpacked_end_offset.get();
            if segment.last {
                return Err(Fault { kind: "missing", rule: "S8", segment: file_name(number + 1), offset: 0, position: None });
            }
        }
    }
    Ok(())
}

/// Rule S6.
fn lineage(segment: &Segment<'_>, state: &mut State) -> Result<(), ()> {
    let header = &segment.header;
    let right = if segment.number == 1 {
        // The link of the genesis record is the log id: taken from the first frame, which is checked in its turn.
        let genesis = segment.file.get(segment.header.start() as usize..).and_then(FrameView::peek);
        state.log_id = genesis.map_or(header.log_id, |frame| frame.link().0);
        let zeros = header.prev_commit_digest == [0; 32] && header.prev_heads_root == [0; 32];
        zeros && [header.prev_end_offset, header.prev_footer_bytes, header.prev_cut_bytes].iter().all(|field| field.get() == 0)
    } else {
        let none = Head { count: 0, position: 0, link: state.log_id };
        let head = |bucket| state.lanes.get(&bucket).unwrap_or(&none);
        let root = hash::heads_root(|bucket| (head(bucket).count, Link(head(bucket).link)));
        header.prev_end_offset.get() == state.end && header.prev_commit_digest == state.digest && header.prev_heads_root == root
    };
    let continues = header.first_position.get() == state.next && header.epoch.get() >= state.epoch.max(1);
    let named = header.number.get() == segment.number && header.log_id == state.log_id;
    if right && continues && named { Ok(()) } else { Err(()) }
}

/// The commits of a segment, its footer, and in the last one its tail. Gives its end.
fn read_segment(files: &Files, segment: &Segment<'_>, state: &mut State) -> Result<u64, Fault> {
    let (length, mut at) = (segment.file.len() as u64, segment.header.start());
    loop {
        if segment.named_end() == Some(at) {
            let footer_bytes = segment.successor.map_or(0, |next| next.prev_footer_bytes.get());
            if length < at + footer_bytes {
                return Err(segment.fault("missing", "S1", length, None));
            }
            if footer_bytes > 0 {
                check_footer(segment, state, at, at + footer_bytes)?;
            }
            return Ok(at);
        }
        if segment.named_end().is_some_and(|end| length <= at && length < end) {
            return Err(segment.fault("missing", "S1", length, None));
        }
        let rest = &segment.file[at as usize..];
        if segment.named_end().is_none() {
            if rest.iter().all(|&b| b == 0) {
                return Ok(at);
            }
            let mark = Mark::of(rest);
            if mark == Mark::Footer && (!segment.last || footer::parse(rest, segment.seed(), at).is_ok()) {
                let length = footer::parse(rest, segment.seed(), at).map_or(rest.len() as u64, |header| header.footer_bytes.get());
                return check_footer(segment, state, at, at + length).map(|()| at);
            }
        }
        let before = state.clone();
        match read_commit(segment, state, at) {
            Ok(end) => at = end,
            Err(fault) if segment.last && fault.kind == "corrupt" && is_torn(files, segment, &before, at, place_of(segment, &fault)) => {
                *state = before;
                return Err(segment.fault("torn", "R", at, None));
            }
            // The header that names the end is unreadable: nothing is said about bytes that may lie behind it.
            Err(fault) if !segment.last && segment.named_end().is_none() && fault.kind == "corrupt" => {
                *state = before;
                return Ok(at);
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Where the bad structure itself begins: a trailer's fault names its block.
fn place_of(segment: &Segment<'_>, fault: &Fault) -> u64 {
    if fault.rule == "C4" { align(fault.offset + 1, segment.block()) - TRAILER_BYTES as u64 } else { fault.offset }
}

/// Whether the tail behind `end` is a write that never finished, and holds nothing that was acknowledged.
fn is_torn(files: &Files, segment: &Segment<'_>, state: &State, end: u64, bad: u64) -> bool {
    let headers = files.iter().filter(|(name, _)| number_of(name).is_some()).filter_map(|(_, file)| SegmentHeader::parse(file).ok());
    let mut watermark = headers.map(|header| header.first_position.get()).max().unwrap_or(0).max(state.watermark);
    let mut block_end = end + segment.block();
    while block_end <= segment.file.len() as u64 {
        let offset = block_end - TRAILER_BYTES as u64;
        if let Ok(trailer) = CommitTrailer::parse(&segment.file[offset as usize..], segment.seed(), offset) {
            watermark = watermark.max(trailer.watermark.get());
        }
        block_end += segment.block();
    }
    let used = segment.file.iter().rposition(|&b| b != 0).map_or(0, |last| last as u64 + 1);
    let frame = FrameHeader::ref_from_prefix(&segment.file[bad as usize..]).ok().and_then(|(header, _)| header.stated_bytes());
    let claimed = match footer::stated_bytes(&segment.file[bad as usize..], end) {
        Some(footer_bytes) if bad == end => end + footer_bytes,
        _ => (bad + u64::from(frame.unwrap_or(0)) + TRAILER_BYTES as u64).min(segment.header.segment_bytes.get()),
    };
    let region_end = align(used.max(claimed), segment.block()) as usize;
    let region = &segment.file[bad as usize / SECTOR_BYTES * SECTOR_BYTES..region_end.min(segment.file.len())];
    let zero_sector = region.chunks(SECTOR_BYTES).any(|sector| sector.iter().all(|&b| b == 0));
    watermark <= state.next && (region_end > segment.file.len() || zero_sector)
}

/// One commit; its end.
fn read_commit(segment: &Segment<'_>, state: &mut State, start: u64) -> Result<u64, Fault> {
    let mut at = start;
    state.links.clear();
    loop {
        let bytes = segment.file.get(at as usize..).unwrap_or_default();
        match Mark::of(bytes) {
            Mark::Frame(_) => at = read_frame(segment, state, at)?,
            Mark::Padding | Mark::Trailer => {
                let offset = align(at + TRAILER_BYTES as u64, segment.block()) - TRAILER_BYTES as u64;
                let padding = segment.file.get(at as usize..offset as usize).unwrap_or(bytes);
                if let Some(wrong) = padding.iter().position(|&b| b != PADDING_BYTE) {
                    let block = (at + wrong as u64) / segment.block() * segment.block();
                    return Err(segment.fault("corrupt", "C1", block, None));
                }
                read_trailer(segment, state, start, offset)?;
                return Ok(offset + TRAILER_BYTES as u64);
            }
            Mark::Footer | Mark::Nothing if is_own_trailer_without_magic(segment, state, start, at) => {
                return Err(segment.trailer_fault("corrupt", "C4", at));
            }
            Mark::Footer | Mark::Nothing => return Err(segment.fault("corrupt", "C1", at, None)),
        }
    }
}

/// Whether the trailer of the commit that began at `start` stands here, but for its first four bytes.
fn is_own_trailer_without_magic(segment: &Segment<'_>, state: &State, start: u64, at: u64) -> bool {
    let Some(mut bytes) = segment.file.get(at as usize..).and_then(|bytes| bytes.first_chunk::<TRAILER_BYTES>()).copied() else {
        return false;
    };
    bytes[..4].copy_from_slice(&TRAILER_MAGIC.to_le_bytes());
    CommitTrailer::parse(&bytes, segment.seed(), at).is_ok_and(|trailer| {
        trailer.count.get() as usize == state.links.len() && trailer.commit_bytes.get() == at + TRAILER_BYTES as u64 - start
    })
}

/// One frame; its end.
fn read_frame(segment: &Segment<'_>, state: &mut State, at: u64) -> Result<u64, Fault> {
    let position = state.next;
    let bytes = &segment.file[at as usize..];
    let fault = |kind, rule| segment.fault(kind, rule, at, Some(position));
    let frame = FrameView::parse(bytes, segment.seed().mask(at)).map_err(|violation| fault("corrupt", violation.rule))?;
    let tampered = |violation: Violation| fault("tampered", violation.rule);
    frame.check(position).map_err(tampered)?;
    let batch_id = batch_of(&frame, state).ok_or_else(|| fault("tampered", "B1"))?;
    chains(&frame, state, batch_id).ok_or_else(|| fault("tampered", "H1"))?;
    if frame.is_event() && !state.ids.insert(frame.event_id()) {
        return Err(fault("tampered", "H2"));
    }
    statement(&frame, state, segment.header.first_position.get()).map_err(|rule| fault("tampered", rule))?;
    let link = frame.link();
    state.records.push((frame.bucket(), link));
    let count = state.lanes.get(&frame.bucket()).map_or(0, |head| head.count) + 1;
    state.lanes.insert(frame.bucket(), Head { count, position, link: link.0 });
    if frame.is_event() {
        state.streams.insert(frame.stream_id(), Head { count: frame.header.version.get(), position, link: link.0 });
    }
    if (position - segment.header.first_position.get()).is_multiple_of(POSITION_STRIDE) {
        state.offsets.push((at / 8) as u32);
    }
    state.links.push(link);
    state.time_ns = frame.header.recorded_at_ns.get();
    state.next += 1;
    Ok(at + frame.bytes().len() as u64)
}

/// Rules E1 and E2, by counting everything anew.
fn statement(frame: &FrameView<'_>, state: &mut State, first_position: u64) -> Result<(), &'static str> {
    let body = frame.body().unwrap_or_default();
    match frame.header.kind {
        KIND_GENESIS => state.key = body[32..64].try_into().expect("32 bytes"),
        KIND_KEY => {
            let body = KeyBody::ref_from_bytes(body).expect("rule F9");
            if body.old_key != state.key {
                return Err("E2");
            }
            state.key = body.new_key;
        }
        KIND_SEAL => {
            let body = SealBody::ref_from_bytes(body).expect("rule F8");
            let size = body.tree_size.get();
            let (mut tree, mut heads, mut events) = (Frontier::new(), BTreeMap::new(), 0);
            for (bucket, link) in &state.records[..size as usize] {
                tree.push(link);
                if *bucket < BUCKET_COUNT {
                    events += 1;
                    let head = heads.entry(*bucket).or_insert((0, *link));
                    *head = (head.0 + 1, *link);
                }
            }
            let log_id = Link(state.log_id);
            let heads_root = hash::heads_root(|bucket| heads.get(&bucket).copied().unwrap_or((0, log_id)));
            let follows = (body.number.get(), body.previous_seal) == (state.seal.0 + 1, state.seal.1);
            let is_near = size >= first_position && size >= state.seal.2;
            let stated = (body.tree_root, body.heads_root, body.events.get(), body.log_key);
            if !follows || !is_near || stated != (tree.root(), heads_root, events, state.key) {
                return Err("E1");
            }
            state.seal = (body.number.get(), frame.link().0, size);
        }
        _ => {}
    }
    Ok(())
}

/// Rule B1; the batch's id, zero for a record alone.
fn batch_of(frame: &FrameView<'_>, state: &mut State) -> Option<EventId> {
    let (index, count) = (frame.header.batch_index.get(), frame.header.batch_count.get());
    let (id, expected, of) = state.batch.unwrap_or((frame.event_id(), 0, count));
    if (index, count) != (expected, of) {
        return None;
    }
    state.batch = (index + 1 < count).then_some((id, index + 1, count));
    Some(if count == 0 { EventId::default() } else { id })
}

/// Rule H1.
fn chains(frame: &FrameView<'_>, state: &State, batch_id: EventId) -> Option<()> {
    let (header, position) = (frame.header, state.next);
    let lane = state.lanes.get(&frame.bucket());
    let stream = if frame.is_event() { state.streams.get(&frame.stream_id()) } else { lane };
    let version = if frame.is_event() { stream.map_or(0, |head| head.count) + 1 } else { lane.map_or(0, |head| head.count) };
    let (prev_bucket, prev_stream) = if frame.is_event() {
        let first = || frame.name().map_or([0; 32], |name| hash::name_commit(&Link(state.log_id), name));
        (lane.map_or(state.log_id, |head| head.link), stream.map_or_else(first, |head| head.link))
    } else {
        (lane.map_or([0; 32], |head| head.link), lane.map_or([0; 32], |head| head.link))
    };
    let link = frame.expected_link(&frame.digest(batch_id), &prev_bucket, &prev_stream);
    let backs = header.bucket_back.get() == back_distance(position, lane.map(|head| head.position))
        && header.stream_back.get() == back_distance(position, stream.map(|head| head.position));
    let right = frame.link() == link && header.version.get() == version && header.recorded_at_ns.get() >= state.time_ns;
    (right && backs).then_some(())
}

/// Rules C4, C5, C6, and B1 where a batch is cut off.
fn read_trailer(segment: &Segment<'_>, state: &mut State, start: u64, offset: u64) -> Result<(), Fault> {
    let bytes = segment.file.get(offset as usize..).unwrap_or_default();
    let corrupt = |violation: Violation| segment.trailer_fault("corrupt", violation.rule, offset);
    let trailer = CommitTrailer::parse(bytes, segment.seed(), offset).map_err(corrupt)?;
    let end = offset + TRAILER_BYTES as u64;
    let count = state.links.len() as u64;
    if u64::from(trailer.count.get()) != count || trailer.commit_bytes.get() != end - start {
        return Err(segment.trailer_fault("corrupt", "C4", offset));
    }
    if state.batch.is_some() {
        return Err(segment.trailer_fault("tampered", "B1", offset));
    }
    let steady = trailer.watermark.get() >= state.watermark && trailer.epoch.get() >= state.epoch;
    let first = state.next - count;
    if trailer.first_position.get() != first || trailer.time_ns.get() != state.time_ns || !steady {
        return Err(segment.trailer_fault("tampered", "C5", offset));
    }
    let digest = hash::commit_digest(&state.digest, first, count as u32, state.time_ns, &state.links);
    if trailer.previous_digest != state.digest || trailer.digest != digest {
        return Err(segment.trailer_fault("tampered", "C6", offset));
    }
    (state.digest, state.watermark, state.epoch) = (digest, trailer.watermark.get(), trailer.epoch.get());
    Ok(())
}

/// Rule T1.
fn check_footer(segment: &Segment<'_>, state: &State, at: u64, end: u64) -> Result<(), Fault> {
    let entry = |(&bucket, head): (&u16, &Head)| BucketHead { bucket, count: head.count, position: head.position, link: Link(head.link) };
    let heads: Vec<BucketHead> = state.lanes.iter().map(entry).collect();
    let content =
        FooterContent { end_offset: at, next_position: state.next, commit_digest: &state.digest, heads: &heads, offsets: &state.offsets };
    let right = footer::encode(&content, segment.seed());
    let found = &segment.file[at as usize..end as usize];
    let Some(wrong) = first_difference(found, &right) else { return Ok(()) };
    if footer::parse(found, segment.seed(), at).is_ok() {
        return Err(segment.fault("tampered", "T1", at, None));
    }
    let sector = (at + wrong as u64) / SECTOR_BYTES as u64 * SECTOR_BYTES as u64;
    Err(segment.fault("corrupt", "T1", sector.max(at), None))
}
