//! Checking receipts and bundles without any store: the numbered steps of TRUST.md section 7, under the same numbers.
//!
//! Always: every byte of a bundle is either parsed strictly or hashed into something that is compared; what is not understood is refused.
//! Never: believes a position, a version, a time or a name that is not under the checkpoint's root.

use crate::bytes::{Hash, Id, ZERO_HASH, array_at, u16_at, u32_at, u64_at};
use crate::frame::{KIND_EVENT, KIND_GENESIS};
use crate::hash::{BUCKET_COUNT, DigestInput, ENGINE_LANE, SUITE, Suite, bucket_of};
use crate::note::{Checkpoint, Note, Policy, VerifierKey, Why, decimal, decode, decode_any, verifies};
use crate::record;
use crate::seal::{self, KIND_KEY, KIND_SEAL};
use crate::tree::{is_consistent, root_of_inclusion};
use sha2::{Digest, Sha256};

/// First line of a bundle.
pub const BUNDLE: &str = "chainring-bundle/v1";
/// First line of a receipt.
pub const RECEIPT: &str = "c2sp.org/tlog-proof@v1";

const PROOF_HASHES_MAX: usize = 63;
const HEADS_LEVELS: usize = 12;
const STREAM_NAME_BYTES_MAX: usize = 512;
const LEAF_BYTES: usize = 116;

/// What somebody claims who hands over a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A record is in the log.
    Record,
    /// An event is in the log.
    Event,
    /// These are all events of a stream.
    Stream,
    /// A stream has no events.
    Absent,
}

impl Claim {
    /// As bundles and answers name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Claim::Record => "record",
            Claim::Event => "event",
            Claim::Stream => "stream",
            Claim::Absent => "absent",
        }
    }
}

/// An event that was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedEvent {
    /// Number in its stream.
    pub version: u64,
    /// The caller's id.
    pub event_id: [u8; 16],
    /// The first event's id, place and count, if it was appended in a batch.
    pub batch: Option<([u8; 16], u32, u32)>,
    /// By the log's clock, a claim of the log.
    pub recorded_at_ns: u64,
    /// Deterministic CBOR.
    pub metadata: Vec<u8>,
    /// `None` if it was erased.
    pub body: Option<Vec<u8>>,
    /// What makes it this event and no other.
    pub link: [u8; 32],
}

/// What a proof has shown.
#[derive(Clone, Debug)]
pub struct Proved {
    /// What was claimed.
    pub claim: Claim,
    /// Link of the genesis record; zero for a receipt, which does not name it.
    pub log_id: [u8; 32],
    /// Name the log was created with.
    pub origin: String,
    /// The checkpoint everything is under: the signed one, or the saved one where there is no key.
    pub checkpoint: Checkpoint,
    /// The key that signed it; `None` if only a saved checkpoint vouches for it.
    pub key: Option<VerifierKey>,
    /// The stream it is about.
    pub stream: Option<String>,
    /// Position of the newest event, or of the record of a receipt.
    pub position: Option<u64>,
    /// The events, the newest first.
    pub events: Vec<ProvedEvent>,
    /// The stream is complete up to this size of the log.
    pub complete_to: Option<u64>,
    /// Time that the seal states, if there is one: a claim of the log.
    pub sealed_at_ns: Option<u64>,
}

/// What a verifier has besides the proof.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Whose signatures are asked for.
    pub policy: Option<Policy>,
    /// A checkpoint that was seen before.
    pub saved: Option<Checkpoint>,
}

/// A step that failed, by its number in TRUST.md, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Number of the step.
    pub step: u32,
    /// In words.
    pub why: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "step {}: {}", self.step, self.why)
    }
}

impl std::error::Error for Refused {}

fn step(step: u32) -> impl Fn(Why) -> Refused {
    move |why| Refused { step, why }
}

fn no<T>(why: &str) -> Result<T, Why> {
    Err(why.to_owned())
}

/// A leaf, which is what a link is the hash of (FORMAT.md section 7.2).
struct Leaf([u8; LEAF_BYTES]);

impl Leaf {
    fn kind(&self) -> u8 {
        self.0[0]
    }

    fn bucket(&self) -> u16 {
        u16_at(&self.0, 2)
    }

    fn version(&self) -> u64 {
        u64_at(&self.0, 4)
    }

    fn recorded_at_ns(&self) -> u64 {
        u64_at(&self.0, 12)
    }

    fn digest(&self) -> Hash {
        array_at(&self.0, 20)
    }

    fn prev_bucket(&self) -> Hash {
        array_at(&self.0, 52)
    }

    fn prev_stream(&self) -> Hash {
        array_at(&self.0, 84)
    }

    fn link(&self) -> Hash {
        let mut bytes = [0; LEAF_BYTES + 1];
        bytes[1..].copy_from_slice(&self.0);
        Sha256::digest(bytes).into()
    }

    /// What every leaf of this version has.
    fn read(text: &str) -> Result<Leaf, Why> {
        let leaf = Leaf(decode(text).ok_or("a leaf is not 116 bytes in base64")?);
        if leaf.0[1] != SUITE { no("a leaf of another hash suite") } else { Ok(leaf) }
    }
}

/// Lines `KEY VALUE VALUE...`, read in the one order that there is.
struct Lines<'a> {
    rest: &'a str,
}

impl<'a> Lines<'a> {
    /// The values of the next line, if it has this key. They must be so many.
    fn optional<const N: usize>(&mut self, key: &str) -> Result<Option<[&'a str; N]>, Why> {
        let Some((line, rest)) = self.rest.split_once('\n') else { return Ok(None) };
        let mut words = line.split(' ');
        if words.next() != Some(key) {
            return Ok(None);
        }
        let values: Vec<&str> = words.collect();
        let values = values.try_into().map_err(|_| format!("the line {key:?} has another number of values"))?;
        self.rest = rest;
        Ok(Some(values))
    }

    fn line<const N: usize>(&mut self, key: &str) -> Result<[&'a str; N], Why> {
        self.optional(key)?.ok_or_else(|| format!("a line {key:?} is missing here"))
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, Why> {
    if text == "-" {
        return Ok(Vec::new());
    }
    decode_any(text).filter(|bytes| !bytes.is_empty()).ok_or_else(|| "not canonical base64".to_owned())
}

fn hashes(text: &str) -> Result<Vec<Hash>, Why> {
    let bytes = bytes(text)?;
    if bytes.len() % 32 != 0 || bytes.len() / 32 > PROOF_HASHES_MAX {
        return no("a proof is not a list of at most 63 hashes");
    }
    Ok(bytes.chunks_exact(32).map(|hash| array_at(hash, 0)).collect())
}

fn number(text: &str) -> Result<u64, Why> {
    decimal(text).ok_or_else(|| "not a decimal number".to_owned())
}

/// An event as a bundle has it.
struct Event {
    leaf: Leaf,
    ids: [u8; 56],
    metadata: Vec<u8>,
    content: Content,
}

enum Content {
    Body { salt: [u8; 16], body: Vec<u8> },
    Erased(Hash),
}

/// A bundle, taken apart.
struct Bundle<'a> {
    claim: Claim,
    genesis: (Leaf, Vec<u8>),
    genesis_proof: Vec<Hash>,
    rotations: Vec<Vec<u8>>,
    consistency: Option<(u64, Vec<Hash>)>,
    stream: Vec<u8>,
    seal: Option<Sealing>,
    events: Vec<Event>,
    proof: Option<(u64, Vec<Hash>)>,
    note: &'a str,
}

/// What shows that a stream is complete.
struct Sealing {
    leaf: Leaf,
    body: Vec<u8>,
    proof: Vec<Hash>,
    head: (u64, Hash, Vec<Hash>),
    later: Vec<Leaf>,
}

impl<'a> Bundle<'a> {
    fn parse(text: &'a str) -> Result<Bundle<'a>, Why> {
        let mut lines = Lines { rest: text };
        lines.line::<0>(BUNDLE)?;
        let claim = match lines.line::<1>("claim")? {
            ["event"] => Claim::Event,
            ["stream"] => Claim::Stream,
            ["absent"] => Claim::Absent,
            _ => return no("an unknown claim"),
        };
        let [leaf, body] = lines.line("genesis")?;
        let genesis = (Leaf::read(leaf)?, bytes(body)?);
        let genesis_proof = hashes(lines.line::<1>("genesis-proof")?[0])?;
        let mut rotations = Vec::new();
        while let Some([body]) = lines.optional("rotation")? {
            rotations.push(bytes(body)?);
        }
        let consistency = match lines.optional("consistency")? {
            Some([old, proof]) => Some((number(old)?, hashes(proof)?)),
            None => None,
        };
        let stream = bytes(lines.line::<1>("stream")?[0])?;
        let seal = if claim == Claim::Event { None } else { Some(Sealing::parse(&mut lines)?) };
        let mut events = Vec::new();
        while let Some([leaf]) = lines.optional("event")? {
            events.push(Event::parse(leaf, &mut lines)?);
        }
        let right_count = match claim {
            Claim::Event | Claim::Record => events.len() == 1,
            Claim::Stream => !events.is_empty(),
            Claim::Absent => events.is_empty(),
        };
        if !right_count {
            return no("another number of events than the claim has");
        }
        let proof = match events.is_empty() {
            true => None,
            false => {
                let [index, proof] = lines.line("proof")?;
                Some((number(index)?, hashes(proof)?))
            }
        };
        lines.line::<0>("checkpoint")?;
        Ok(Bundle { claim, genesis, genesis_proof, rotations, consistency, stream, seal, events, proof, note: lines.rest })
    }
}

impl Sealing {
    fn parse(lines: &mut Lines<'_>) -> Result<Sealing, Why> {
        let [leaf, body] = lines.line("seal")?;
        let [proof] = lines.line("seal-proof")?;
        let [events, link, path] = lines.line("head")?;
        let head = (number(events)?, decode(link).ok_or("a link is not 32 bytes in base64")?, hashes(path)?);
        let mut later = Vec::new();
        while let Some([leaf]) = lines.optional("later")? {
            later.push(Leaf::read(leaf)?);
        }
        Ok(Sealing { leaf: Leaf::read(leaf)?, body: bytes(body)?, proof: hashes(proof)?, head, later })
    }
}

impl Event {
    fn parse(leaf: &str, lines: &mut Lines<'_>) -> Result<Event, Why> {
        let leaf = Leaf::read(leaf)?;
        let ids = decode(lines.line::<1>("ids")?[0]).ok_or("ids are not 56 bytes in base64")?;
        let metadata = bytes(lines.line::<1>("metadata")?[0])?;
        let content = match lines.optional("body")? {
            Some([salt, body]) => Content::Body { salt: decode(salt).ok_or("a salt is not 16 bytes in base64")?, body: bytes(body)? },
            None => Content::Erased(decode(lines.line::<1>("erased")?[0]).ok_or("a commitment is not 32 bytes in base64")?),
        };
        Ok(Event { leaf, ids, metadata, content })
    }
}

/// Checks a receipt or a bundle, told apart by their first lines.
///
/// # Errors
/// [`Refused`]: the first step that fails.
pub fn check(text: &str, trust: &Trust) -> Result<Proved, Refused> {
    match text.split('\n').next() {
        Some(RECEIPT) => check_receipt(text, trust),
        Some(BUNDLE) => check_bundle(text, trust),
        _ => Err(step(1)("neither a bundle nor a receipt".to_owned())),
    }
}

/// Steps 3 and 4 for the checkpoint of a proof: the key that signed it.
fn check_checkpoint(
    note: &str,
    log_id: Option<&Hash>,
    rotations: &[Vec<u8>],
    trust: &Trust,
) -> Result<(Checkpoint, Option<VerifierKey>), Refused> {
    let parsed = Note::parse(note).map_err(step(4))?;
    let checkpoint = Checkpoint::of(&parsed).map_err(step(4))?;
    let Some(policy) = &trust.policy else {
        // Without a key, only a checkpoint that somebody has saved vouches for anything.
        if trust.saved.is_none() {
            return Err(step(3)("neither a key nor a saved checkpoint to check against".to_owned()));
        }
        return Ok((checkpoint, None));
    };
    let mut signed_by = None;
    for key in policy.logs().iter().filter(|key| key.name == checkpoint.name) {
        // Step 3
        let key = match log_id {
            Some(log_id) => follow(key, log_id, rotations).map_err(step(3))?,
            None => key.clone(),
        };
        // Step 4
        if parsed.is_signed_by(&key).map_err(step(4))? {
            signed_by = Some(key);
        }
    }
    let signed_by = signed_by.ok_or_else(|| step(4)("the checkpoint is not signed by a key that is trusted".to_owned()))?;
    policy.check_witnesses(&parsed).map_err(step(4))?;
    Ok((checkpoint, Some(signed_by)))
}

/// Step 3: from a key that is trusted to the one that it has handed over to.
fn follow(key: &VerifierKey, log_id: &Hash, rotations: &[Vec<u8>]) -> Result<VerifierKey, Why> {
    let mut current = key.public_key();
    for body in rotations {
        // Position and time are no matter of a key record.
        seal::check(KIND_KEY, body, 0, 0).map_err(|(_, why)| why.to_owned())?;
        let (old, new): (Hash, Hash) = (array_at(body, 0), array_at(body, 32));
        if old != current {
            continue;
        }
        let statement = [&b"chainring 2026-11 v1 key\n"[..], log_id, &old, &new].concat();
        if !verifies(&old, &statement, &body[64..128]) || !verifies(&new, &statement, &body[128..192]) {
            return no("a key record is not signed by both keys");
        }
        current = new;
    }
    Ok(key.with(current))
}

/// Step 6. `shown` is the position of the newest record that is shown, where it says nothing of those behind it. Gives the checkpoint that vouches.
fn check_saved(
    checkpoint: Checkpoint,
    shown: Option<u64>,
    consistency: Option<&(u64, Vec<Hash>)>,
    trust: &Trust,
) -> Result<Checkpoint, Why> {
    let Some(saved) = &trust.saved else { return Ok(checkpoint) };
    if saved.name != checkpoint.name {
        return no("the saved checkpoint is of another log");
    }
    if saved.size > checkpoint.size {
        return no("the saved checkpoint is larger: this proof is older, or the log was put back");
    }
    let proof = match consistency {
        _ if saved.size == checkpoint.size => &[][..],
        Some((old, proof)) if *old == saved.size => proof,
        _ => return no("no proof that the log goes on from the saved checkpoint"),
    };
    if !is_consistent(saved.size, &saved.root, checkpoint.size, &checkpoint.root, proof) {
        return no("the log does not go on from the saved checkpoint: it has two histories");
    }
    if trust.policy.is_some() {
        return Ok(checkpoint);
    }
    // Anybody can make up how a log goes on.
    if saved.size < checkpoint.size && shown.is_none_or(|position| position >= saved.size) {
        return no("without a key nobody vouches for what is behind the saved checkpoint");
    }
    Ok(saved.clone())
}

fn check_included(leaf: &Leaf, index: u64, proof: &[Hash], checkpoint: &Checkpoint) -> Result<(), Why> {
    if root_of_inclusion(&leaf.link(), index, checkpoint.size, proof) == Some(checkpoint.root) {
        Ok(())
    } else {
        no("the record is not under the checkpoint's root")
    }
}

fn check_receipt(text: &str, trust: &Trust) -> Result<Proved, Refused> {
    // Step 1
    let parse = || -> Result<(Leaf, u64, Vec<Hash>, &str), Why> {
        let mut lines = Lines { rest: text };
        lines.line::<0>(RECEIPT)?;
        let leaf = Leaf::read(lines.line::<1>("extra")?[0])?;
        let index = number(lines.line::<1>("index")?[0])?;
        let (proof, note) = lines.rest.split_once("\n\n").ok_or("no empty line before the checkpoint")?;
        // A tree of one record needs no hash.
        let (proof, note) = if lines.rest.starts_with('\n') { ("", &lines.rest[1..]) } else { (proof, note) };
        let path = proof.split('\n').filter(|line| !line.is_empty()).map(|line| decode(line).ok_or("a hash is not 32 bytes in base64"));
        let path = path.collect::<Result<Vec<Hash>, _>>()?;
        if path.len() > PROOF_HASHES_MAX { no("too many hashes") } else { Ok((leaf, index, path, note)) }
    };
    let (leaf, index, path, note) = parse().map_err(step(1))?;
    let (checkpoint, key) = check_checkpoint(note, None, &[], trust)?;
    let vouching = check_saved(checkpoint.clone(), None, None, trust).map_err(step(6))?;
    // Step 9
    check_included(&leaf, index, &path, &checkpoint).map_err(step(9))?;
    Ok(Proved {
        claim: Claim::Record,
        log_id: ZERO_HASH,
        origin: checkpoint.name,
        checkpoint: vouching,
        key,
        stream: None,
        position: Some(index),
        events: Vec::new(),
        complete_to: None,
        sealed_at_ns: None,
    })
}

fn check_bundle(text: &str, trust: &Trust) -> Result<Proved, Refused> {
    // Step 1
    let bundle = Bundle::parse(text).map_err(step(1))?;
    let mut suite = Suite::new();
    // Step 2
    let origin = check_genesis(&bundle.genesis.0, &bundle.genesis.1, &mut suite).map_err(step(2))?;
    let log_id = bundle.genesis.0.link();
    // Steps 3 and 4
    let (checkpoint, key) = check_checkpoint(bundle.note, Some(&log_id), &bundle.rotations, trust)?;
    // Step 5
    check_included(&bundle.genesis.0, 0, &bundle.genesis_proof, &checkpoint).map_err(step(5))?;
    // Step 6
    let shown = bundle.proof.as_ref().map(|(position, _)| *position).filter(|_| bundle.seal.is_none());
    let vouching = check_saved(checkpoint.clone(), shown, bundle.consistency.as_ref(), trust).map_err(step(6))?;
    // Step 7
    let name = check_name(&bundle.stream).map_err(step(7))?;
    let stream = Stream { id: suite.stream_id(name.as_bytes()), name_commit: suite.name_commit(&log_id, name.as_bytes()) };
    // Step 8
    let mut events = Vec::with_capacity(bundle.events.len());
    for event in &bundle.events {
        events.push(check_event(event, &stream, &mut suite).map_err(step(8))?);
    }
    // Step 9
    if let (Some(newest), Some((index, proof))) = (bundle.events.first(), &bundle.proof) {
        check_included(&newest.leaf, *index, proof, &checkpoint).map_err(step(9))?;
    }
    // Steps 10 to 12
    let mut sealed = None;
    if let Some(sealing) = &bundle.seal {
        check_chain(&bundle.events, &stream).map_err(step(10))?;
        let (tree_size, time_ns) = check_seal(sealing, bucket_of(&stream.id), &checkpoint, &mut suite).map_err(step(11))?;
        check_later(sealing, bundle.events.first(), &stream, &log_id).map_err(step(12))?;
        sealed = Some((tree_size, time_ns));
    }
    Ok(Proved {
        claim: bundle.claim,
        log_id,
        origin,
        checkpoint: vouching,
        key,
        stream: Some(name.to_owned()),
        position: bundle.proof.map(|(index, _)| index),
        events,
        complete_to: sealed.map(|(tree_size, _)| tree_size),
        sealed_at_ns: sealed.map(|(_, time_ns)| time_ns),
    })
}

/// The digest of a record of the engine's own.
fn engine_digest(body: &[u8], suite: &mut Suite) -> Hash {
    let body_commit = suite.body_commit(&[0; 16], body);
    let zero = [0; 16];
    let input = DigestInput { stream_id: &zero, event_id: &zero, batch_id: &zero, batch_index: 0, batch_count: 0, metadata: &[] };
    suite.event_digest(&input, &body_commit)
}

/// Step 2: the log's name and key are under its id.
fn check_genesis(leaf: &Leaf, body: &[u8], suite: &mut Suite) -> Result<String, Why> {
    if (leaf.kind(), leaf.bucket(), leaf.version()) != (KIND_GENESIS, ENGINE_LANE, 0) {
        return no("the leaf is not that of a genesis record");
    }
    if leaf.prev_bucket() != ZERO_HASH || leaf.prev_stream() != ZERO_HASH {
        return no("the genesis record has a predecessor");
    }
    record::check_genesis_body(body, leaf.recorded_at_ns())?;
    if leaf.digest() != engine_digest(body, suite) {
        return no("the genesis body is not the one that the leaf is made of");
    }
    Ok(record::origin(body).unwrap_or_default().to_owned())
}

/// Step 7.
fn check_name(bytes: &[u8]) -> Result<&str, Why> {
    match std::str::from_utf8(bytes) {
        Ok(name) if (1..=STREAM_NAME_BYTES_MAX).contains(&name.len()) => Ok(name),
        _ => no("a stream's name is 1 to 512 bytes of UTF-8"),
    }
}

/// A stream by what its records say of it.
struct Stream {
    id: Id,
    name_commit: Hash,
}

/// Step 8: what an event says is what its leaf is made of.
fn check_event(event: &Event, stream: &Stream, suite: &mut Suite) -> Result<ProvedEvent, Why> {
    let (leaf, ids) = (&event.leaf, &event.ids);
    let (stream_id, event_id, batch_id): (Id, Id, Id) = (array_at(ids, 0), array_at(ids, 16), array_at(ids, 32));
    let (index, count) = (u32_at(ids, 48), u32_at(ids, 52));
    if stream_id != stream.id {
        return no("the event is of another stream");
    }
    if leaf.kind() != KIND_EVENT || leaf.bucket() != bucket_of(&stream_id) || leaf.version() == 0 {
        return no("the leaf is not that of an event in the bucket of its stream");
    }
    if (leaf.version() == 1) != (leaf.prev_stream() == stream.name_commit) {
        return no("the first event of a stream, and no other, follows from its name");
    }
    let fits = if count == 0 { index == 0 && batch_id == [0; 16] } else { index < count && (index > 0 || batch_id == event_id) };
    if !fits || event_id == [0; 16] {
        return no("the event's id or its place in a batch cannot be");
    }
    let body_commit = match &event.content {
        Content::Body { salt, body } => suite.body_commit(salt, body),
        Content::Erased(commit) => *commit,
    };
    let input = DigestInput {
        stream_id: &stream_id,
        event_id: &event_id,
        batch_id: &batch_id,
        batch_index: index,
        batch_count: count,
        metadata: &event.metadata,
    };
    if leaf.digest() != suite.event_digest(&input, &body_commit) {
        return no("the event's content is not the one that the leaf is made of");
    }
    Ok(ProvedEvent {
        version: leaf.version(),
        event_id,
        batch: (count > 0).then_some((batch_id, index, count)),
        recorded_at_ns: leaf.recorded_at_ns(),
        metadata: event.metadata.clone(),
        body: match &event.content {
            Content::Body { body, .. } => Some(body.clone()),
            Content::Erased(_) => None,
        },
        link: leaf.link(),
    })
}

/// Step 10: each event follows the next one in the bundle, down to version 1.
fn check_chain(events: &[Event], stream: &Stream) -> Result<(), Why> {
    for pair in events.windows(2) {
        let (newer, older) = (&pair[0].leaf, &pair[1].leaf);
        if newer.prev_stream() != older.link() || newer.version() - 1 != older.version() {
            return no("an event does not follow the one before it in its stream");
        }
    }
    match events.last() {
        Some(first) if first.leaf.version() != 1 || first.leaf.prev_stream() != stream.name_commit => {
            no("the events do not go back to the beginning of the stream")
        }
        _ => Ok(()),
    }
}

/// Step 11: the seal is the last record under the checkpoint, and the head of the bucket is under the seal.
fn check_seal(sealing: &Sealing, bucket: u16, checkpoint: &Checkpoint, suite: &mut Suite) -> Result<(u64, u64), Why> {
    let (leaf, body) = (&sealing.leaf, &sealing.body);
    if (leaf.kind(), leaf.bucket()) != (KIND_SEAL, ENGINE_LANE) || leaf.digest() != engine_digest(body, suite) {
        return no("the leaf is not that of the seal");
    }
    let position = checkpoint.size.checked_sub(1).ok_or("a checkpoint of nothing")?;
    seal::check(KIND_SEAL, body, position, leaf.recorded_at_ns()).map_err(|(_, why)| why.to_owned())?;
    check_included(leaf, position, &sealing.proof, checkpoint)?;
    let (events, link, path) = &sealing.head;
    let entry = [&[0][..], &bucket.to_le_bytes(), &events.to_le_bytes(), link].concat();
    let root = root_of_inclusion(&Sha256::digest(entry).into(), bucket.into(), BUCKET_COUNT.into(), path);
    if path.len() != HEADS_LEVELS || root != Some(array_at(body, 88)) {
        return no("the bucket's head is not under the seal");
    }
    Ok((u64_at(body, 48), u64_at(body, 168)))
}

/// Step 12: from the head of the bucket back to the stream's newest event, or to the bucket's beginning, no record continues or begins the stream.
fn check_later(sealing: &Sealing, newest: Option<&Event>, stream: &Stream, log_id: &Hash) -> Result<(), Why> {
    let (events, head, _) = &sealing.head;
    let mut link = *head;
    let next = newest.map_or(stream.name_commit, |event| event.leaf.link());
    for leaf in &sealing.later {
        if leaf.link() != link || leaf.kind() != KIND_EVENT || leaf.bucket() != bucket_of(&stream.id) {
            return no("the records behind the stream's newest event are not a chain of its bucket");
        }
        if leaf.prev_stream() == next {
            return no("the stream goes on");
        }
        link = leaf.prev_bucket();
    }
    match newest {
        Some(newest) if newest.leaf.link() != link => no("the bucket does not lead to the stream's newest event"),
        None if link != *log_id || *events != sealing.later.len() as u64 => no("the bucket does not lead to its beginning"),
        _ => Ok(()),
    }
}
