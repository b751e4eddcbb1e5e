//! Proofs for those who have nothing but a checkpoint, or only a key: receipts and bundles (TRUST.md sections 5 and 6).
//!
//! Always: what leaves here was checked against the checkpoint first; a hash file that is damaged, or a log that is not the one that was signed, makes no
//! proof. Never: reads beyond the checkpoint.

use std::fmt;

use base64ct::{Base64, Encoding};
use chainring_format::frame::{BACK_FAR, FrameView, KIND_GENESIS};
use chainring_format::hash::{self, Hash, LEAF_BYTES};
use chainring_format::limits::ENGINE_LANE;
use chainring_format::record::{KIND_KEY, KIND_SEAL, SealBody};
use chainring_format::tree::{HeadsTree, Subtrees};
use chainring_format::{EventId, Link, Position};
use zerocopy::FromBytes;

use super::note::{ParsedNote, TreeHead, parse_note};
use super::seal::{CHECKPOINT_FILE, read_note, statement_before};
use super::tree::{Tree, consistency, for_each_leaf, inclusion, root, root_by_inclusion, roots_by_consistency};
use crate::disk::Access;
use crate::error::{Fault, FaultKind, ReadError};
use crate::log::Store;
use crate::query::View;
use crate::segment::Catalog;
use crate::sequencer::Buckets;
use crate::sync::Arc;

/// Why there is no proof.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ProveError {
    /// There is no checkpoint yet; seal the log.
    NoCheckpoint,
    /// The record is behind the last checkpoint.
    NotYetSealed {
        /// Records under the checkpoint.
        size: u64,
    },
    /// There is no such event, or it is one of the engine's own records.
    NotFound {
        /// What, in words.
        what: String,
    },
    /// The checkpoint in the store is not one of this log.
    OtherCheckpoint {
        /// In what it differs.
        why: &'static str,
    },
    /// The log could not be read.
    Read(ReadError),
}

impl fmt::Display for ProveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProveError::NoCheckpoint => f.write_str("the log has no checkpoint; seal it first"),
            ProveError::NotYetSealed { size } => write!(f, "not yet sealed: the last checkpoint is over the first {size} records"),
            ProveError::NotFound { what } => write!(f, "not found: {what}"),
            ProveError::OtherCheckpoint { why } => write!(f, "{CHECKPOINT_FILE} is not a checkpoint of this log: {why}"),
            ProveError::Read(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProveError {}

impl From<ReadError> for ProveError {
    fn from(error: ReadError) -> ProveError {
        ProveError::Read(error)
    }
}

/// The hashes were right when the prover was made. Another one makes them anew.
const DAMAGED_HASHES: ProveError = ProveError::OtherCheckpoint { why: "the hashes beside the log have changed since they were read" };

/// A record with everything its link is made of.
struct Record<'a> {
    frame: FrameView<'a>,
    batch_id: EventId,
    leaf: [u8; LEAF_BYTES],
}

/// Makes proofs against the last checkpoint of a store. Cheap to ask; making one reads the hashes of the whole tree.
#[derive(Debug)]
pub struct Prover {
    catalog: Arc<Catalog>,
    view: View,
    tree: Tree,
    note: String,
    head: TreeHead,
    log_id: Link,
    seal: SealBody,
    /// At the size that the seal is over.
    buckets: Buckets,
    heads_tree: HeadsTree,
}

/// A checkpoint as it lies in the store.
pub(super) struct LastCheckpoint {
    pub note: String,
    pub parsed: ParsedNote,
    pub seal: SealBody,
}

impl Store {
    /// Makes ready to prove what is under the last checkpoint.
    ///
    /// # Errors
    /// [`ProveError::NoCheckpoint`], [`ProveError::OtherCheckpoint`], and what the device says.
    pub fn prover(&self) -> Result<Prover, ProveError> {
        let disk = self.shared.index.disk();
        let catalog = self.shared.catalog();
        let LastCheckpoint { note, parsed, seal } = self.last_checkpoint(&catalog)?;
        let mut tree = Tree::load(disk, Access::Read, &catalog, Some((seal.tree_size.get(), seal.tree_root)))?;
        tree.grow(&catalog, parsed.head.size, |_| {})?;
        if tree.root() != parsed.head.root {
            return Err(ProveError::OtherCheckpoint { why: "the log has another root at its size" });
        }
        let log_id = self.log_id();
        let buckets = self.buckets_at(&catalog, seal.tree_size.get())?;
        let mut heads_tree = HeadsTree::of(|bucket| buckets.get(bucket).map_or((0, log_id), |head| (head.count, head.link)));
        if heads_tree.root() != seal.heads_root {
            return Err(ProveError::OtherCheckpoint { why: "the heads that the index has are not those under its seal" });
        }
        let view = self.latest();
        Ok(Prover { catalog, view, tree, note, head: parsed.head, log_id, seal, buckets, heads_tree })
    }

    /// The checkpoint that lies in the store, and the seal it ends with. Whether its root is that of the log is not asked.
    pub(super) fn last_checkpoint(&self, catalog: &Catalog) -> Result<LastCheckpoint, ProveError> {
        let note = read_note(self.shared.index.disk()).ok_or(ProveError::NoCheckpoint)?;
        let other = |why| ProveError::OtherCheckpoint { why };
        let size: u64 = note.lines().nth(1).and_then(|size| size.parse().ok()).ok_or(other("it is no checkpoint"))?;
        if size == 0 || size > self.shared.watermark() {
            return Err(other("it is over more records than there are"));
        }
        let last = catalog.frame(size - 1)?;
        let seal = last.body().filter(|_| last.header.kind == KIND_SEAL).and_then(|body| SealBody::read_from_bytes(body).ok());
        let seal = seal.ok_or(other("its last record is no seal"))?;
        let parsed = parse_note(&note, &seal.log_key).ok_or(other("it is not written as one signed by the key in force"))?;
        Ok(LastCheckpoint { note, parsed, seal })
    }

    /// Heads of all buckets and of the engine's lane behind the first `size` records: those of the index, and on from there.
    pub(super) fn buckets_at(&self, catalog: &Catalog, size: u64) -> Result<Buckets, ReadError> {
        let (mut position, known) = self.shared.index.runs().heads_before(size);
        let mut buckets = Buckets::of(&known);
        for_each_leaf(catalog, position, size, |leaf| {
            buckets.advance(leaf.bucket.unwrap_or(ENGINE_LANE), position, leaf.link);
            position += 1;
        })?;
        Ok(buckets)
    }
}

fn encode(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".to_owned() } else { Base64::encode_string(bytes) }
}

impl Prover {
    /// The checkpoint that everything is proved against, as a signed note.
    #[must_use]
    pub fn checkpoint(&self) -> &str {
        &self.note
    }

    /// Size and root of that checkpoint.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        self.head
    }

    /// Proof that the record at a position is under the checkpoint: a tlog-proof, whose extra data is the record's leaf.
    ///
    /// # Errors
    /// [`ProveError::NotYetSealed`], damage, or an error of the device.
    pub fn receipt(&self, position: Position) -> Result<String, ProveError> {
        let record = self.record(position.0)?;
        let mut out = format!("c2sp.org/tlog-proof@v1\nextra {}\nindex {position}\n", encode(&record.leaf));
        for hash in self.inclusion(position)? {
            out.push_str(&encode(&hash));
            out.push('\n');
        }
        out.push('\n');
        out.push_str(&self.note);
        Ok(out)
    }

    /// Proof that the tree goes on from what it was at another size.
    ///
    /// # Errors
    /// [`ProveError::NotYetSealed`], damage, or an error of the device.
    pub fn consistency(&self, old: u64) -> Result<Vec<Hash>, ProveError> {
        if old > self.head.size {
            return Err(ProveError::NotYetSealed { size: self.head.size });
        }
        let tree = self.tree.over(&self.catalog);
        let path = consistency(&tree, old, self.head.size)?;
        if old > 0 && old < self.head.size {
            // A wrong proof would be taken for two histories of the log.
            let old_root = root(&tree, old)?;
            let led_to = roots_by_consistency(old, &old_root, self.head.size, &path);
            if led_to != Some((old_root, self.head.root)) {
                return Err(DAMAGED_HASHES);
            }
        }
        Ok(path)
    }

    /// Root of the tree over the first `size` records.
    ///
    /// # Errors
    /// As for [`Prover::consistency`].
    pub fn root_at(&self, size: u64) -> Result<Hash, ProveError> {
        if size > self.head.size {
            return Err(ProveError::NotYetSealed { size: self.head.size });
        }
        Ok(root(&self.tree.over(&self.catalog), size)?)
    }

    /// The leaf of the record at a position: 116 bytes of which its link is the hash.
    ///
    /// # Errors
    /// As for [`Prover::receipt`].
    pub fn leaf(&self, position: Position) -> Result<[u8; LEAF_BYTES], ProveError> {
        Ok(self.record(position.0)?.leaf)
    }

    /// The hashes that lead from the link of the record at a position to the root of the checkpoint (RFC 9162, section 2.1.3).
    ///
    /// # Errors
    /// As for [`Prover::receipt`].
    pub fn inclusion(&self, Position(position): Position) -> Result<Vec<Hash>, ProveError> {
        if position >= self.head.size {
            return Err(ProveError::NotYetSealed { size: self.head.size });
        }
        let path = inclusion(&self.tree.over(&self.catalog), position, self.head.size)?;
        let link = self.catalog.frame(position)?.link();
        let is_right = root_by_inclusion(&link, position, self.head.size, &path) == Some(self.head.root);
        if is_right { Ok(path) } else { Err(DAMAGED_HASHES) }
    }

    /// Hashes of the tree: the roots over `2^level` records each, `count` of them from the one with number `first` on. What tiles are made of.
    ///
    /// # Errors
    /// [`ProveError::NotYetSealed`] if they reach beyond the checkpoint; damage, or an error of the device.
    pub fn hashes(&self, level: u32, first: u64, count: u64) -> Result<Vec<Hash>, ProveError> {
        if first.checked_add(count).and_then(|end| end.checked_mul(1_u64.checked_shl(level)?)).is_none_or(|end| end > self.head.size) {
            return Err(ProveError::NotYetSealed { size: self.head.size });
        }
        let tree = self.tree.over(&self.catalog);
        (first..first + count).map(|index| Ok(tree.subtree(level, index)?)).collect()
    }

    /// A bundle for one event: everything somebody needs who has only the key. With `saved`, the size of a checkpoint that they have, also that the log
    /// goes on from there.
    ///
    /// # Errors
    /// [`ProveError`].
    pub fn event(&self, position: Position, saved: Option<u64>) -> Result<String, ProveError> {
        let record = self.record(position.0)?;
        if !record.frame.is_event() {
            return Err(ProveError::NotFound { what: format!("an event at position {position}") });
        }
        let name = self.view.event(position)?.stream()?;
        let mut out = self.begin("event", saved)?;
        out.line("stream", &[&encode(name.as_bytes())]);
        out.event(&record);
        out.line("proof", &[&position.to_string(), &encode(self.inclusion(position)?.as_flattened())]);
        Ok(out.end(&self.note))
    }

    /// A bundle for a whole stream: all its events up to the last seal, and that there are no others. If it has none, that it has none.
    ///
    /// The limit, to be said aloud: a log that was written to lie can hold a second event with a version that there is already; that shows in a bundle of
    /// neither stream, but in every verification of the whole bucket or log.
    ///
    /// # Errors
    /// [`ProveError`].
    pub fn stream(&self, name: &str, saved: Option<u64>) -> Result<String, ProveError> {
        let id = hash::stream_id(name);
        let sealed_size = self.seal.tree_size.get();
        let positions = self.positions_of(name, sealed_size)?;
        let mut out = self.begin(if positions.is_empty() { "absent" } else { "stream" }, saved)?;
        out.line("stream", &[&encode(name.as_bytes())]);
        // The seal, which binds the heads.
        let seal = self.record(self.head.size - 1)?;
        out.line("seal", &[&encode(&seal.leaf), &encode(seal.frame.body().unwrap_or_default())]);
        out.line("seal-proof", &[&encode(self.inclusion(Position(self.head.size - 1))?.as_flattened())]);
        let bucket = id.bucket();
        let (count, link) = self.heads_tree.head(bucket);
        let mut at = self.buckets.get(bucket).map_or(0, |head| head.position);
        let path = self.heads_tree.clone().path(bucket);
        out.line("head", &[&count.to_string(), &encode(&link.0), &encode(path.as_flattened())]);
        // What came into the bucket after the stream's last event, or ever.
        let last = positions.first().copied();
        let mut left = count;
        while left > 0 && Some(at) != last {
            let record = self.record(at)?;
            out.line("later", &[&encode(&record.leaf)]);
            left -= 1;
            if left > 0 {
                at = back(at, record.frame.header.bucket_back.get())?;
            }
        }
        for &position in &positions {
            out.event(&self.record(position)?);
        }
        if let Some(position) = last {
            out.line("proof", &[&position.to_string(), &encode(self.inclusion(Position(position))?.as_flattened())]);
        }
        Ok(out.end(&self.note))
    }

    /// Positions of a stream's events below a size, the last one first.
    fn positions_of(&self, name: &str, size: u64) -> Result<Vec<u64>, ProveError> {
        let Some(stream) = self.view.stream(name)? else { return Ok(Vec::new()) };
        let mut positions = Vec::new();
        for event in stream.backward() {
            let position = event?.position().0;
            if position < size {
                positions.push(position);
            }
        }
        Ok(positions)
    }

    fn begin(&self, claim: &str, saved: Option<u64>) -> Result<Bundle, ProveError> {
        let mut out = Bundle(format!("chainring-bundle/v1\nclaim {claim}\n"));
        let genesis = self.record(0)?;
        out.line("genesis", &[&encode(&genesis.leaf), &encode(genesis.frame.body().unwrap_or_default())]);
        out.line("genesis-proof", &[&encode(self.inclusion(Position(0))?.as_flattened())]);
        for body in self.rotations()? {
            out.line("rotation", &[&encode(body)]);
        }
        if let Some(old) = saved.filter(|&old| old > 0 && old < self.head.size) {
            out.line("consistency", &[&old.to_string(), &encode(self.consistency(old)?.as_flattened())]);
        }
        Ok(out)
    }

    /// Bodies of all key records under the checkpoint, in order.
    fn rotations(&self) -> Result<Vec<&[u8]>, ProveError> {
        let mut bodies = Vec::new();
        let mut at = Some(self.head.size - 1);
        while let Some(position) = at {
            let frame = self.catalog.frame(position)?;
            if frame.header.kind == KIND_KEY {
                bodies.extend(frame.body());
            }
            at = statement_before(&self.catalog, position)?;
        }
        bodies.reverse();
        Ok(bodies)
    }

    /// A record, its leaf made anew from what its frame says and from the links before it.
    fn record(&self, position: u64) -> Result<Record<'_>, ProveError> {
        if position >= self.head.size {
            return Err(ProveError::NotYetSealed { size: self.head.size });
        }
        let frame = self.catalog.frame(position)?;
        let header = frame.header;
        let batch_id = match (header.batch_count.get(), header.batch_index.get()) {
            (0, _) => EventId::default(),
            (_, index) => self.catalog.frame(position.saturating_sub(index.into()))?.event_id(),
        };
        let before = |back_distance: u32| -> Result<Option<Link>, ProveError> {
            if back_distance == 0 { Ok(None) } else { Ok(Some(self.catalog.frame(back(position, back_distance)?)?.link())) }
        };
        let first = if header.kind == KIND_GENESIS { Link::default() } else { self.log_id };
        let prev_bucket = before(header.bucket_back.get())?.unwrap_or(first).0;
        let prev_stream = match (before(header.stream_back.get())?, frame.name()) {
            (Some(link), _) => link.0,
            (None, Some(name)) => hash::name_commit(&self.log_id, name),
            (None, None) => [0; 32],
        };
        let leaf = frame.leaf(&frame.digest(batch_id), &prev_bucket, &prev_stream);
        if leaf.link() != frame.link() {
            let violation =
                chainring_format::Violation { rule: "H1", why: "the link does not follow from the record and its predecessors" };
            let index = self.catalog.index_of(position);
            let segment = self.catalog.segment(index);
            let fault = Fault::new(FaultKind::Tampered, segment.name(), segment.locate(position)?, violation);
            return Err(ReadError::Damaged(fault.at_position(position)).into());
        }
        Ok(Record { frame, batch_id, leaf: *leaf.bytes() })
    }
}

/// Position of the record a distance before another one.
fn back(position: u64, distance: u32) -> Result<u64, ProveError> {
    let far = || ProveError::NotFound { what: format!("the record more than {} before position {position}", BACK_FAR - 1) };
    position.checked_sub(distance.into()).filter(|_| distance > 0 && distance < BACK_FAR).ok_or_else(far)
}

/// A bundle being written.
struct Bundle(String);

impl Bundle {
    fn line(&mut self, key: &str, values: &[&str]) {
        self.0.push_str(key);
        for value in values {
            self.0.push(' ');
            self.0.push_str(value);
        }
        self.0.push('\n');
    }

    fn event(&mut self, record: &Record<'_>) {
        let (frame, header) = (&record.frame, record.frame.header);
        self.line("event", &[&encode(&record.leaf)]);
        let index_and_count = [header.batch_index.get().to_le_bytes(), header.batch_count.get().to_le_bytes()];
        let ids = [&header.stream_id[..], &header.event_id, &record.batch_id.0, index_and_count.as_flattened()].concat();
        self.line("ids", &[&encode(&ids)]);
        self.line("metadata", &[&encode(frame.metadata())]);
        match frame.body() {
            Some(body) => self.line("body", &[&encode(&frame.salt()), &encode(body)]),
            None => self.line("erased", &[&encode(&frame.body_commit())]),
        }
    }

    fn end(mut self, note: &str) -> String {
        self.0.push_str("checkpoint\n");
        self.0.push_str(note);
        self.0
    }
}
