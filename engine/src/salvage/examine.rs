//! Going through a store of any damage, segment by segment, and writing down what is found.
//!
//! Always: reads only, one segment in memory at a time, and never stops at damage. Never: takes bytes for records that recovery cut, or that a
//! reader of the format would say do not exist (FORMAT.md S2).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use chainring_format::checksum::Seed;
use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::footer::{self, FooterHeader, HeadEntry};
use chainring_format::frame::{FrameHeader, FrameView, KIND_GENESIS, genesis_origin};
use chainring_format::hash::{Hash, commit_digest};
use chainring_format::limits::{BLOCK_BYTES_MIN, SECTOR_BYTES, SEGMENT_BYTES_MAX};
use chainring_format::segment::{HEADER_BYTES, SegmentHeader};
use chainring_format::{EventId, Link, Mark, Position, StreamId, Version};
use zerocopy::FromBytes;

use super::SalvageOptions;
use super::batch::OpenBatch;
use super::books::{Books, Verdict};
use super::ends::{End, Successor, Unnamed, judge_end, stand_in};
use super::files::{Entry, Listing, header_of, list};
use super::manifest::{BrokenBatch, Cut, CutStream, Damage, DamageKind, Irregular, Manifest, Reason};
use super::place::{Anchor, Positions};
use super::ranges::Ranges;
use super::read::Content;
use super::scan::{Cell, Scan, What, scan};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::segment::reserved_bytes;

/// How to find the records of a segment again.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub name: String,
    pub salt: [u8; 16],
    pub block_bytes: Option<u64>,
    /// The commits lie in this range, as far as anybody knows.
    pub start: u64,
    pub end: u64,
    /// Offsets of intact records that are not copied, ascending.
    pub skip: Vec<u64>,
    /// How many are.
    pub copied: u64,
}

/// What an examination gives.
#[derive(Debug)]
pub(super) struct Findings {
    pub manifest: Manifest,
    pub books: Books,
    pub plans: Vec<Plan>,
    /// Segment size of the old store, where a header tells it.
    pub segment_bytes: Option<u64>,
    /// When the first event to copy was recorded.
    pub first_recorded_at_ns: Option<u64>,
}

/// Examines the store on this disk.
pub(super) fn examine(disk: &dyn Disk, directory: &Path, options: &SalvageOptions<'_>) -> Result<Findings, OpenError> {
    let mut manifest = Manifest::default();
    let Listing { entries, log_id } = list(disk, directory, &mut manifest)?;
    let headers: Vec<SegmentHeader> = entries.values().filter_map(|entry| entry.header.ok()).collect();
    manifest.created_at_ns = headers.iter().find(|header| header.number.get() == 1).map(|header| header.created_at_ns.get());
    let mut examiner = Examiner {
        disk,
        books: Books::new(log_id, options.copies_tampered),
        manifest,
        positions: Positions::default(),
        plans: Vec::new(),
        begun: headers.iter().map(|header| (header.number.get(), header.created_at_ns.get())).collect(),
        recorded_to_ns: 0,
        watermark: 0,
        block_bytes: headers.iter().find(|header| !header.is_packed()).map(|header| header.block_bytes.get().into()),
        batch: OpenBatch::default(),
        first_recorded_at_ns: None,
        content: Content::default(),
        done: 0,
        all: entries.values().map(|entry| entry.file_bytes).sum(),
    };
    let last = entries.last_key_value().map_or(0, |(number, _)| *number);
    let mut expected = 1;
    for (&number, entry) in &entries {
        if number > expected {
            examiner.missing_segments(expected, number - 1);
        }
        expected = number.saturating_add(1);
        let next = entries.get(&expected);
        let successor = match next.map(|next| &next.header) {
            None if number == last => Successor::None,
            None => Successor::Lost { epoch: None },
            Some(Ok(header)) => Successor::Header(header),
            Some(Err(_)) => Successor::Lost { epoch: next.and_then(|next| examiner.first_epoch(expected, next)) },
        };
        examiner.segment(number, entry, &successor, options);
    }
    Ok(examiner.finish(headers.first().map(|header| header.segment_bytes.get()), options))
}

struct Examiner<'a> {
    disk: &'a dyn Disk,
    books: Books,
    manifest: Manifest,
    positions: Positions,
    plans: Vec<Plan>,
    /// The segments that have their headers, and when the last record before each was recorded.
    begun: Vec<(u64, u64)>,
    /// When the last record was recorded of which a segment with its header says so.
    recorded_to_ns: u64,
    /// Highest watermark found so far.
    watermark: u64,
    /// Block size of the segments whose headers are gone: that of the first one that has it and is not packed.
    block_bytes: Option<u64>,
    batch: OpenBatch,
    first_recorded_at_ns: Option<u64>,
    content: Content,
    done: u64,
    all: u64,
}

impl Examiner<'_> {
    fn missing_segments(&mut self, first: u64, last: u64) {
        // A file with an absurd number must not cost a step for every number before it.
        self.manifest.missing_segments.insert_range(first, last);
        self.positions.interrupt();
        self.books.note_loss();
        self.close_batch();
    }

    /// Between which times the records of a segment were recorded that has lost its header.
    fn times_ns(&self, number: u64) -> RangeInclusive<u64> {
        let behind = self.begun.partition_point(|(begun, _)| *begun <= number);
        let before_ns = self.begun[..behind].last().map_or(0, |(_, time_ns)| *time_ns);
        self.recorded_to_ns.max(before_ns)..=self.begun.get(behind).map_or(u64::MAX, |(_, time_ns)| *time_ns)
    }

    /// Epoch of the first commit that can be found in a segment without a header.
    fn first_epoch(&mut self, number: u64, entry: &Entry) -> Option<u64> {
        let mut content = std::mem::take(&mut self.content);
        let outcome = content.open(self.disk, &entry.name, reserved_bytes(SEGMENT_BYTES_MAX));
        self.content = content;
        let bytes = &self.content.bytes;
        let seed = Seed::new(&outcome.ok().and_then(|_| super::seed::find_salt(bytes, &self.times_ns(number)))?);
        // It may be packed: then its trailers end anywhere.
        let places = (0..bytes.len()).step_by(8).filter(|at| Mark::of(&bytes[*at..]) == Mark::Trailer);
        let mut trailers = places.filter_map(|at| CommitTrailer::parse(&bytes[at..], seed, at as u64).ok());
        trailers.next().map(|trailer| trailer.epoch.get())
    }

    fn segment(&mut self, number: u64, entry: &Entry, behind: &Successor<'_>, options: &SalvageOptions<'_>) {
        let header = entry.header.ok();
        let segment_bytes = header.map_or(SEGMENT_BYTES_MAX, |header| header.segment_bytes.get());
        // A successor that names an end before the commits begin is not believed.
        let successor = if let Successor::Header(successor) = behind { Some(*successor) } else { None };
        let start_min = header.map_or(0, |header| header.start()).max(BLOCK_BYTES_MIN.into());
        let successor = successor.filter(|successor| (start_min..=segment_bytes).contains(&successor.prev_end_offset.get()));
        let named_footer = successor.map_or(0, |successor| successor.prev_footer_bytes.get());
        // It may be packed by the time it is read, and shorter then. A packed one knows better than a successor that says less.
        let stated_end = header.and_then(|header| header.packed_end()).unwrap_or(0);
        let limit = successor.map_or(reserved_bytes(segment_bytes), |successor| {
            successor.prev_end_offset.get().max(stated_end).saturating_add(named_footer)
        });
        let mut content = std::mem::take(&mut self.content);
        self.manifest.totals.segments += 1;
        if let Err(error) = content.open(self.disk, &entry.name, limit) {
            self.nothing_of(entry, DamageKind::Unreadable, format!("the file cannot be read: {error}"));
            self.content = content;
            return;
        }
        let bytes = &content.bytes;
        // A writer may have packed it since it was listed.
        let header = header.map(|listed| header_of(bytes).ok().filter(|header| header.number == listed.number).unwrap_or(listed));
        let start = header.map_or(0, |header| header.start());
        self.manifest.totals.bytes += bytes.len() as u64;
        self.done += entry.file_bytes;
        if let Some(progress) = options.progress {
            progress(self.done, self.all);
        }
        if header.is_some() && !entry.is_filled {
            let why = "the filling of the header block is not zero".to_owned();
            let bytes = start - HEADER_BYTES as u64;
            self.damage(Damage { segment: entry.name.clone(), offset: HEADER_BYTES as u64, bytes, kind: DamageKind::Corrupt, why });
        }
        let Some(salt) = header.map(|header| header.salt).or_else(|| super::seed::find_salt(bytes, &self.times_ns(number))) else {
            let kind = if bytes.iter().all(|byte| *byte == 0) { DamageKind::Zeroed } else { DamageKind::Corrupt };
            let kind = if content.unreadable.is_empty() { kind } else { DamageKind::Unreadable };
            self.nothing_of(entry, kind, "neither the segment header nor any record in it holds".into());
            self.content = content;
            return;
        };
        let seed = Seed::new(&salt);
        let block_bytes = header.map(|header| header.block_bytes.get().into());
        let successor_end = successor.map(|successor| successor.prev_end_offset.get());
        let scan_end = header.and_then(|header| header.packed_end()).or(successor_end).unwrap_or(limit);
        let mut found = scan(bytes, seed, block_bytes, start..scan_end);
        let mut trailers = trailers(bytes, seed, &found.cells);
        let packed_end = match header {
            Some(header) => header.packed_end(),
            None if looks_packed(&found.cells, &trailers) => {
                // Packing leaves nothing behind the footer.
                let end = (bytes.len() as u64).saturating_sub(named_footer);
                Some(found.footer.map_or(end, |(offset, _)| offset))
            }
            None => None,
        };
        let named_end = packed_end.or(successor_end);
        if let Some(end) = named_end.filter(|end| *end != scan_end) {
            // It was looked for where the segment ended before it was packed.
            found = scan(bytes, seed, block_bytes, start..end);
            trailers.retain(|(offset, _)| *offset < end);
        }
        let named_footer = if packed_end.is_some() && successor.is_none() {
            (bytes.len() as u64).saturating_sub(packed_end.unwrap_or_default())
        } else {
            named_footer
        };
        let mut plan =
            Plan { name: entry.name.clone(), salt, block_bytes, start, end: named_end.unwrap_or(limit), skip: Vec::new(), copied: 0 };
        if let Some(end) = named_end {
            self.named_end(end, successor, &plan, &mut found);
        } else if found.footer.is_none() {
            let unnamed = Unnamed {
                header: header.unwrap_or_else(|| stand_in(salt, self.block_bytes, &trailers)),
                is_stand_in: header.is_none(),
                behind,
                file_bytes: entry.file_bytes,
                bytes,
                trailers: &trailers,
                watermark: self.watermark,
            };
            self.unnamed_end(&unnamed, &mut found.cells, &mut plan);
        }
        trailers.retain(|(offset, _)| *offset < plan.end);
        plan.skip = disown(bytes, start, &trailers, &mut found.cells);
        let footer = self.footer(entry, seed, named_end.map(|end| (end, named_footer)), &content, &found);
        self.damaged_places(entry, &content, &found.cells);

        let anchors = anchors(header.as_ref(), start, &trailers, &mut found.cells, {
            let by_successor = named_end.zip(successor);
            let by_successor = by_successor.map(|(offset, successor)| Anchor { offset, position: successor.first_position.get() });
            by_successor.or(footer.map(|(offset, footer)| Anchor { offset, position: footer.next_position.get() }))
        });
        self.positions.assign(&mut found.cells, &anchors);
        self.records(seed, start, bytes, &found.cells, &mut plan);
        if let Some((offset, footer)) = footer {
            self.heads(bytes, offset, &footer);
        }
        if header.is_some() {
            self.recorded_to_ns = trailers.iter().map(|(_, trailer)| trailer.time_ns.get()).fold(self.recorded_to_ns, u64::max);
        }
        self.watermark = trailers.iter().map(|(_, trailer)| trailer.watermark.get()).fold(self.watermark, u64::max);
        self.watermark = self.watermark.max(header.map_or(0, |header| header.first_position.get()));
        plan.skip.sort_unstable();
        self.plans.push(plan);
        self.content = content;
        if packed_end.is_some() && matches!(behind, Successor::None) {
            self.missing_segments(number.saturating_add(1), number.saturating_add(1));
        }
    }

    fn damage(&mut self, damage: Damage) {
        self.manifest.damage.push(damage);
    }

    /// A file that tells nothing at all.
    fn nothing_of(&mut self, entry: &Entry, kind: DamageKind, why: String) {
        self.damage(Damage { segment: entry.name.clone(), offset: 0, bytes: entry.file_bytes, kind, why });
        self.positions.interrupt();
        self.books.note_loss();
        self.close_batch();
    }

    /// It is known where this segment ends: every byte up to there is of it, and none behind.
    fn named_end(&mut self, end: u64, successor: Option<&SegmentHeader>, plan: &Plan, found: &mut Scan) {
        if let Some(successor) = successor.filter(|successor| successor.prev_cut_bytes.get() > 0) {
            let cut = Cut {
                segment: plan.name.clone(),
                offset: end.saturating_add(successor.prev_footer_bytes.get()),
                bytes: successor.prev_cut_bytes.get(),
                is_done: true,
                records: 0,
                streams: Vec::new(),
            };
            self.manifest.cut.push(cut);
        }
        // What the scan did not get to: the file ends before, or a footer says that it is the end and is not.
        let reached = found.footer.take().map_or_else(|| found.cells.last().map_or(plan.start, |cell| cell.end), |(offset, _)| offset);
        if reached < end {
            found.cells.push(Cell::gap(reached, end));
        }
    }

    /// No header and no footer says where this segment ends.
    fn unnamed_end(&mut self, unnamed: &Unnamed<'_>, cells: &mut Vec<Cell>, plan: &mut Plan) {
        match judge_end(unnamed, cells, &self.books) {
            End::Whole(end) => cells.retain(|cell| cell.offset < end),
            End::Torn { end, cut_bytes } => {
                self.cut_tail(end, cut_bytes, unnamed.bytes, cells, plan);
                plan.end = end;
            }
            End::Damaged { was_ended } => {
                // What is broken here had been written: there may have been more of it.
                let reached = cells.last().map_or(plan.start, |cell| cell.end);
                if cells.last().is_none_or(|cell| cell.what != What::Gap) {
                    cells.push(Cell::gap(reached, reached));
                }
                // Reserved space is no damage.
                if let Some(last) = cells.last_mut().filter(|_| !was_ended) {
                    let gap = &unnamed.bytes[last.offset as usize..last.end as usize];
                    let used = gap.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                    last.end = last.end.min(last.offset + used.next_multiple_of(SECTOR_BYTES) as u64);
                }
            }
        }
    }

    /// The tail was torn: nothing in it was acknowledged, and a commit is there whole or not at all.
    fn cut_tail(&mut self, end: u64, cut_bytes: u64, bytes: &[u8], cells: &mut Vec<Cell>, plan: &Plan) {
        let kept = cells.partition_point(|cell| cell.offset < end);
        let mut streams: BTreeMap<StreamId, CutStream> = BTreeMap::new();
        let mut records = 0;
        for cell in cells.drain(kept..).filter(|cell| cell.what == What::Frame) {
            records += 1;
            if let Some(frame) = FrameView::peek(&bytes[cell.offset as usize..]) {
                let stream_id = frame.stream_id();
                let new = || CutStream { name: frame.name().map(str::to_owned), stream_id, versions: Ranges::default() };
                streams.entry(stream_id).or_insert_with(new).versions.insert(frame.header.version.get());
            }
        }
        let streams = streams.into_values().collect();
        self.manifest.cut.push(Cut { segment: plan.name.clone(), offset: end, bytes: cut_bytes, is_done: false, records, streams });
    }

    /// The segment's footer, if it holds. One that is named and does not is damage that costs nothing: it is derived from the commits.
    fn footer(
        &mut self,
        entry: &Entry,
        seed: Seed,
        named: Option<(u64, u64)>,
        content: &Content,
        found: &Scan,
    ) -> Option<(u64, FooterHeader)> {
        let Some((end, footer_bytes)) = named else { return found.footer };
        if footer_bytes == 0 {
            return None;
        }
        let held = content.bytes.get(end as usize..).unwrap_or_default();
        match footer::parse(held, seed, end) {
            Ok(footer) => Some((end, footer)),
            Err(violation) => {
                let why = format!("the footer does not hold, which costs nothing: {}", violation.why);
                let kind = match (held.len() as u64) < footer_bytes {
                    true => DamageKind::Missing,
                    false if content.is_unreadable(end, end + footer_bytes) => DamageKind::Unreadable,
                    false => DamageKind::Corrupt,
                };
                self.damage(Damage { segment: entry.name.clone(), offset: end, bytes: footer_bytes, kind, why });
                None
            }
        }
    }

    /// Writes down where nothing holds.
    fn damaged_places(&mut self, entry: &Entry, content: &Content, cells: &[Cell]) {
        let is_bad = |cell: &Cell| matches!(cell.what, What::Gap | What::Bodyless);
        for run in cells.chunk_by(|a, b| is_bad(a) && is_bad(b) && a.end == b.offset).filter(|run| is_bad(&run[0])) {
            let (offset, end) = (run[0].offset, run[run.len() - 1].end);
            let held = (content.bytes.len() as u64).min(end);
            let bytes = content.bytes.get(offset as usize..held as usize).unwrap_or_default();
            let kind = if content.is_unreadable(offset, end) {
                DamageKind::Unreadable
            } else if bytes.is_empty() {
                DamageKind::Missing
            } else if bytes.iter().all(|byte| *byte == 0) {
                DamageKind::Zeroed
            } else {
                DamageKind::Corrupt
            };
            let why = match (run, &entry.header) {
                ([first, ..], Err(violation)) if first.offset == 0 => format!("the segment header does not hold: {}", violation.why),
                ([Cell { what: What::Bodyless, .. }], _) => "the body of a record does not hold; what it was is known".into(),
                _ if bytes.is_empty() => "the file ends here, and did not always".into(),
                _ => "no record, padding or trailer holds here".into(),
            };
            self.damage(Damage { segment: entry.name.clone(), offset, bytes: end - offset, kind, why });
        }
    }

    /// Judges the records of a segment in their order.
    fn records(&mut self, seed: Seed, start: u64, bytes: &[u8], cells: &[Cell], plan: &mut Plan) {
        let mut commit = OpenCommit { start, is_sound: true, links: Vec::new() };
        for cell in cells {
            let held = bytes.get(cell.offset as usize..).unwrap_or_default();
            if cell.loses {
                self.books.note_loss();
            }
            match cell.what {
                What::Gap => {
                    self.batch.interrupt();
                    commit.is_sound = false;
                }
                What::Trailer => {
                    self.close_batch();
                    self.trailer(held, seed, cell, &plan.name, &mut commit);
                }
                What::Bodyless => {
                    commit.is_sound = false;
                    if let Some((header, name)) =
                        FrameHeader::ref_from_prefix(held).ok().map(|(header, rest)| (header, name_of(header, rest)))
                    {
                        self.follow_batch(header, cell, &plan.name);
                        self.batch.interrupt();
                        self.books.take_in_bodyless(cell.position, header, name);
                    }
                }
                What::Frame => {
                    let Ok(frame) = FrameView::parse(held, seed.mask(cell.offset)) else { continue };
                    commit.links.push(frame.link());
                    self.record(&frame, cell, plan);
                }
            }
        }
        self.close_batch();
    }

    fn record(&mut self, frame: &FrameView<'_>, cell: &Cell, plan: &mut Plan) {
        self.follow_batch(frame.header, cell, &plan.name);
        let batch_id = if frame.header.batch_count.get() == 0 { Some(EventId::default()) } else { self.batch.id };
        let verdict = self.books.take_in(cell.position, frame, batch_id);
        let totals = &mut self.manifest.totals;
        totals.found += u64::from(frame.is_event());
        let irregular = |reason: Reason| Irregular {
            segment: plan.name.clone(),
            offset: cell.offset,
            position: cell.position.map(Position),
            stream_id: frame.stream_id(),
            version: Version(frame.header.version.get()),
            event_id: frame.event_id(),
            reason,
        };
        match verdict {
            Verdict::EngineRecord => {
                if frame.header.kind == KIND_GENESIS {
                    self.manifest.created_at_ns = Some(frame.header.recorded_at_ns.get());
                    self.manifest.origin = Some(genesis_origin(frame.body().unwrap_or_default()).to_owned());
                }
                plan.skip.push(cell.offset);
                return;
            }
            Verdict::Copy { link_verified } => {
                totals.copied += 1;
                totals.link_verified += u64::from(link_verified);
                totals.link_unverified += u64::from(!link_verified);
                if let (false, Some(position)) = (link_verified, cell.position) {
                    self.manifest.link_unverified.insert(position);
                }
            }
            Verdict::Unchained(reason) if self.books.copies_unchained() => {
                totals.copied += 1;
                self.manifest.copied_tampered.push(irregular(reason));
            }
            Verdict::Unchained(reason) | Verdict::LeaveOut(reason) => {
                totals.left_out += 1;
                self.manifest.left_out.push(irregular(reason));
                plan.skip.push(cell.offset);
                return;
            }
        }
        plan.copied += 1;
        self.first_recorded_at_ns.get_or_insert(frame.header.recorded_at_ns.get());
        self.batch.copied += u64::from(self.batch.count > 0);
        if cell.position.is_none() {
            self.manifest.note_unplaced(&plan.name, cell.offset);
        }
    }

    /// A trailer whose commit is there whole must count and sum up what stands in it.
    fn trailer(&mut self, held: &[u8], seed: Seed, cell: &Cell, segment: &str, commit: &mut OpenCommit) {
        let Ok(trailer) = CommitTrailer::parse(held, seed, cell.offset) else { return };
        let commit = std::mem::replace(commit, OpenCommit { start: cell.end, is_sound: true, links: Vec::new() });
        if !commit.is_sound || cell.end - commit.start != trailer.commit_bytes.get() {
            return;
        }
        let (first, count) = (trailer.first_position.get(), trailer.count.get());
        let digest = commit_digest(&trailer.previous_digest, first, count, trailer.time_ns.get(), &commit.links);
        let (kind, why) = if commit.links.len() as u64 != u64::from(count) {
            (DamageKind::Corrupt, "the trailer counts other records than its commit has")
        } else if digest != trailer.digest {
            (
                DamageKind::Tampered,
                "the commit's digest is not that of its records: one of them was rewritten with its link, or the trailer was",
            )
        } else {
            return;
        };
        let (segment, bytes) = (segment.to_owned(), TRAILER_BYTES as u64);
        self.damage(Damage { segment, offset: cell.offset, bytes, kind, why: why.into() });
    }

    /// The heads that a footer lists show which buckets lost nothing before it.
    fn heads(&mut self, bytes: &[u8], offset: u64, footer: &FooterHeader) {
        let table = bytes.get(offset as usize + size_of::<FooterHeader>()..).unwrap_or_default();
        for entry in table.chunks_exact(size_of::<HeadEntry>()).take(footer.head_count.get() as usize) {
            if let Ok(entry) = HeadEntry::ref_from_bytes(entry) {
                self.books.note_head(entry.bucket.get(), entry.position.get(), entry.count.get());
            }
        }
    }

    fn follow_batch(&mut self, header: &FrameHeader, cell: &Cell, segment: &str) {
        let (index, count) = (header.batch_index.get(), header.batch_count.get());
        if !self.batch.goes_on(index, count) {
            self.close_batch();
            if count > 0 {
                self.batch.begin(segment, cell.offset, EventId(header.event_id), index, count);
            }
        }
        self.batch.next = index.saturating_add(1);
    }

    fn close_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.count > 0 && !batch.is_whole() {
            let (events, copied) = (batch.count.into(), batch.copied);
            self.manifest.broken_batches.push(BrokenBatch { segment: batch.segment, offset: batch.offset, events, copied });
        }
    }

    fn finish(mut self, segment_bytes: Option<u64>, options: &SalvageOptions<'_>) -> Findings {
        let mut manifest = self.manifest;
        if self.positions.has_jumped() {
            self.books.note_loss();
        }
        self.books.find_names(&options.names);
        manifest.log_id = self.books.log_id();
        manifest.end_known = !self.positions.is_open();
        manifest.missing = self.positions.finish();
        manifest.totals.missing = manifest.missing.iter().filter_map(|missing| missing.count).sum();
        manifest.streams = self.books.report(manifest.end_known);
        manifest.totals.streams = self.books.streams_found();
        manifest.totals.streams_touched = manifest.streams.len() as u64;
        manifest.damage.sort_by(|a, b| (&a.segment, a.offset).cmp(&(&b.segment, b.offset)));
        for stream in manifest.cut.iter_mut().flat_map(|cut| &mut cut.streams) {
            stream.name = stream.name.take().or_else(|| self.books.name(stream.stream_id).map(str::to_owned));
        }
        Findings { manifest, books: self.books, plans: self.plans, segment_bytes, first_recorded_at_ns: self.first_recorded_at_ns }
    }
}

/// The commit whose trailer is still to come.
struct OpenCommit {
    start: u64,
    is_sound: bool,
    links: Vec<Link>,
}

/// Whether a segment that lost its header was packed: something stands where others have their header's block, or ends where no block does.
fn looks_packed(cells: &[Cell], trailers: &[(u64, CommitTrailer)]) -> bool {
    let block = u64::from(BLOCK_BYTES_MIN);
    let starts_early = cells.iter().any(|cell| cell.what != What::Gap && cell.offset < block);
    let is_off_block = |(offset, trailer): &(u64, CommitTrailer)| {
        !(offset + TRAILER_BYTES as u64).is_multiple_of(block) || !trailer.commit_bytes.get().is_multiple_of(block)
    };
    starts_early || trailers.iter().any(is_off_block)
}

/// The name in a frame of which the body does not hold.
fn name_of<'a>(header: &FrameHeader, rest: &'a [u8]) -> Option<&'a str> {
    let name = rest.get(..header.name_bytes.get() as usize)?;
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && chainring_format::hash::stream_id(name).0 == header.stream_id)
}

fn trailers(bytes: &[u8], seed: Seed, cells: &[Cell]) -> Vec<(u64, CommitTrailer)> {
    let trailers = cells.iter().filter(|cell| cell.what == What::Trailer);
    trailers.filter_map(|cell| Some((cell.offset, CommitTrailer::parse(&bytes[cell.offset as usize..], seed, cell.offset).ok()?))).collect()
}

/// Takes away what was found behind a gap and cannot be of the commit it stands in, because the commit has fewer records or others: frames that
/// somebody put into a body, and that came to light when the frame around them was damaged. Gives their offsets.
fn disown(bytes: &[u8], start: u64, trailers: &[(u64, CommitTrailer)], cells: &mut [Cell]) -> Vec<u64> {
    let mut disowned = Vec::new();
    let mut before = start;
    for (offset, trailer) in trailers {
        let behind = offset + TRAILER_BYTES as u64;
        let begin = behind.checked_sub(trailer.commit_bytes.get()).filter(|begin| *begin >= before);
        before = behind;
        let Some(begin) = begin else { continue };
        let from = cells.partition_point(|cell| cell.end <= begin);
        let to = cells.partition_point(|cell| cell.offset < *offset);
        let inside = &mut cells[from..to];
        let Some(gap) = inside.iter().position(|cell| cell.what == What::Gap) else { continue };
        let count = inside.iter().filter(|cell| cell.is_record()).count() as u64;
        let stated = u64::from(trailer.count.get());
        if count < stated || count == stated && digest_of(bytes, trailer, inside) == trailer.digest {
            continue;
        }
        for cell in inside[gap..].iter_mut().filter(|cell| cell.is_record()) {
            disowned.push(cell.offset);
            cell.what = What::Gap;
        }
    }
    disowned
}

/// Digest of a commit over the records found in it.
fn digest_of(bytes: &[u8], trailer: &CommitTrailer, cells: &[Cell]) -> Hash {
    let frames = cells.iter().filter(|cell| cell.is_record());
    let links = frames.filter_map(|cell| Some(Link(FrameHeader::ref_from_prefix(&bytes[cell.offset as usize..]).ok()?.0.link)));
    let (first, count, time_ns) = (trailer.first_position.get(), trailer.count.get(), trailer.time_ns.get());
    commit_digest(&trailer.previous_digest, first, count, time_ns, &links.collect::<Vec<_>>())
}

/// The places of a segment where positions are known. Gaps in which a commit begins are split there.
fn anchors(
    header: Option<&SegmentHeader>,
    start: u64,
    trailers: &[(u64, CommitTrailer)],
    cells: &mut Vec<Cell>,
    end: Option<Anchor>,
) -> Vec<Anchor> {
    let mut anchors: Vec<Anchor> =
        header.map(|header| Anchor { offset: start, position: header.first_position.get() }).into_iter().collect();
    let mut before = start;
    for (offset, trailer) in trailers {
        let behind = offset + TRAILER_BYTES as u64;
        // Where no trailer is known between, the commit begins where this one says, unless a record of before lies across that place.
        if let Some(begin) = behind.checked_sub(trailer.commit_bytes.get()).filter(|begin| *begin >= before) {
            let across = cells.get(cells.partition_point(|cell| cell.end <= begin)).filter(|cell| cell.offset < begin);
            if across.is_none_or(|cell| cell.what == What::Gap) {
                anchors.push(Anchor { offset: begin, position: trailer.first_position.get() });
            }
        }
        anchors.push(Anchor { offset: behind, position: trailer.next_position() });
        before = behind;
    }
    // The end is vouched for from outside: what a trailer claims beyond it is not believed.
    if let Some(end) = end {
        anchors.retain(|anchor| anchor.position <= end.position);
        anchors.push(end);
    }
    let mut places = anchors.iter().map(|anchor| anchor.offset).peekable();
    let mut split = Vec::with_capacity(cells.len());
    for mut cell in cells.drain(..) {
        while let Some(place) = places.next_if(|place| *place < cell.end) {
            if place > cell.offset && cell.what == What::Gap {
                split.push(Cell::gap(cell.offset, place));
                cell.offset = place;
            }
        }
        split.push(cell);
    }
    *cells = split;
    anchors
}
