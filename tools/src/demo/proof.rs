//! The last chapter: the store verifies, and proves to a stranger what happened to the order; a copy with a flipped bit and a copy with a rewritten event do
//! not verify, and it is said where.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use chainring::{EventId, KeyFile, Log, Metadata, OpenError, Store};
use chainring_reader::{Claim, Policy, Trust, VerifierKey, check};

use super::expect;
use super::folded::field;
use super::jury::{judge, verifiers};
use super::story::{Mistake, ORDER};
use super::tamper::{Place, cannot, flip, rewrite};
use crate::output::{BAD, Failure, GOOD, STRONG};
use crate::verdict::{Fault, Verdict};

/// The difference between the digits 1 and 9: one bit.
const BIT: u8 = b'1' ^ b'9';

/// What was found in the three stores.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) store: Verdict,
    pub(super) flipped: Verdict,
    pub(super) rewritten: Verdict,
}

/// Seals the log and signs for it, with a key that is thrown away: gives what a verifier knows it by.
pub(super) fn seal(log: &Log) -> Result<String, Failure> {
    let cannot = |error: &dyn std::fmt::Display| Failure::Cannot(format!("cannot sign: {error}"));
    let place = tempfile::tempdir().map_err(|error| cannot(&error))?;
    let key = KeyFile::generate(place.path().join("key"), "chainring-demo").map_err(|error| cannot(&error))?;
    let sealer = log.sealer(Arc::new(key)).map_err(|error| cannot(&error))?;
    sealer.seal().map_err(|error| cannot(&error))?;
    Ok(sealer.verifier_key())
}

/// What happened to the order, as text, and what somebody makes of it who has the key and nothing else.
fn convince_a_stranger(store: &Path, key: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let bundle = Store::open(store)?.prover()?.stream(ORDER, None)?;
    let policy = Policy::of_key(VerifierKey::parse(key).map_err(Failure::No)?);
    let trust = Trust { policy: Some(policy), ..Trust::default() };
    let proved = check(&bundle, &trust).map_err(|refused| Failure::No(format!("the proof is refused: {}", refused.why)))?;
    expect(proved.claim == Claim::Stream && proved.key.is_some(), "the proof shows something else")?;
    let events = proved.events.len();
    writeln!(out, "   a stranger  {GOOD}holds{GOOD:#}     with a file and the key alone: {ORDER} has {events} events and no others")?;
    Ok(())
}

/// Verifies the store, makes the two copies, spoils them, and verifies them.
pub(super) fn prove(root: &Path, mistake: &Mistake, key: &str, out: &mut dyn Write) -> Result<Proof, Failure> {
    let [store, flipped, rewritten] = ["store", "flipped", "rewritten"].map(|name| root.join(name));
    writeln!(out, "\n{STRONG}5  Proof: all bytes checked by {}, which agree{STRONG:#}", verifiers())?;
    let sound = judge(&store)?;
    expect(sound.fault.is_none(), "the store does not verify")?;
    let (records, to) = (sound.records, sound.verified_to.unwrap_or_default());
    writeln!(
        out,
        "   store/      {GOOD}ok{GOOD:#}        {records} records: checksums, links, digests and commits hold up to position {to}"
    )?;
    convince_a_stranger(&store, key, out)?;
    let damaged = flip_an_amount(&store, &flipped, mistake.refunded, out)?;
    let forged = blame_the_customer(&store, &rewritten, mistake.cancelled, out)?;
    Ok(Proof { store: sound, flipped: damaged, rewritten: forged })
}

/// One bit of the refund, and it is another amount.
fn flip_an_amount(store: &Path, copied: &Path, refunded: EventId, out: &mut dyn Write) -> Result<Verdict, Failure> {
    copy(store, copied)?;
    let (_, body) = read_back(store, refunded)?;
    let amount = amount_in(&body);
    let (place, body) = flip(copied, refunded, &amount, BIT)?;
    let verdict = judge(copied)?;
    let fault = caught(&verdict, "corrupt", &place)?;
    expect(matches!(Store::open(copied), Err(OpenError::Damaged(_))), "the damaged store opens")?;
    writeln!(
        out,
        "   flipped/    {BAD}{}{BAD:#}   one bit turned the refund of {amount} into {}; it does not open",
        fault.kind,
        amount_in(&body)
    )?;
    shown(fault, out)?;
    Ok(verdict)
}

/// The whole event anew, as if the customer had done it, with checksums that hold.
fn blame_the_customer(store: &Path, copied: &Path, cancelled: EventId, out: &mut dyn Write) -> Result<Verdict, Failure> {
    copy(store, copied)?;
    let (truth, _) = read_back(store, cancelled)?;
    let place = rewrite(copied, cancelled, |metadata, _| metadata.actor.clone_from(&metadata.on_behalf_of))?;
    let verdict = judge(copied)?;
    let fault = caught(&verdict, "tampered", &place)?;
    // It opens and it reads: every checksum holds.
    let (lie, _) = read_back(copied, cancelled)?;
    expect(lie.actor != truth.actor, "the rewritten event is the same")?;
    let [truth, lie] = [truth, lie].map(|metadata| metadata.actor.unwrap_or_default());
    writeln!(out, "   rewritten/  {BAD}{}{BAD:#}  {truth} became {lie}, checksums made right; it opens", fault.kind)?;
    shown(fault, out)?;
    Ok(verdict)
}

/// The fault, if it is of this kind and at this place.
fn caught<'v>(verdict: &'v Verdict, kind: &str, place: &Place) -> Result<&'v Fault, Failure> {
    let fault = verdict.fault.as_ref().ok_or_else(|| Failure::No(format!("the {kind} store verifies")))?;
    expect(fault.kind == kind, "the fault has another name")?;
    expect((fault.segment.as_str(), fault.offset) == (&place.segment, place.offset), "the fault is found at another place")?;
    Ok(fault)
}

fn shown(fault: &Fault, out: &mut dyn Write) -> Result<(), Failure> {
    let position = fault.position.map(|position| format!(", position {position}")).unwrap_or_default();
    let stream = fault.stream.as_ref().map(|stream| format!(", stream {stream}")).unwrap_or_default();
    writeln!(out, "{:25}in {} at offset {}{position}{stream}:", "", fault.segment, fault.offset)?;
    writeln!(out, "{:25}{} (rule {})", "", fault.why, fault.rule)?;
    Ok(())
}

/// Metadata and body of an event, as a reader of the store gets them.
fn read_back(store: &Path, id: EventId) -> Result<(Metadata, Vec<u8>), Failure> {
    let store = Store::open(store)?;
    let position = store.locate(id)?.ok_or_else(|| Failure::No(format!("event {id} is not in the store")))?;
    let view = store.latest();
    let event = view.event(position)?;
    Ok((event.metadata()?, event.body().unwrap_or_default().to_vec()))
}

/// The refunded amount, as it is written in the body.
fn amount_in(body: &[u8]) -> String {
    let set = field(&String::from_utf8_lossy(body), "set").unwrap_or_default();
    field(&set, "refunded").unwrap_or_default()
}

/// Copies a closed store, as anybody would.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir(to).map_err(|error| cannot("create", to, &error))?;
    for entry in fs::read_dir(from).map_err(|error| cannot("list", from, &error))? {
        let file = entry.map_err(|error| cannot("list", from, &error))?;
        fs::copy(file.path(), to.join(file.file_name())).map_err(|error| cannot("copy", &file.path(), &error))?;
    }
    Ok(())
}
