//! `export --cose`: a receipt for one record in the form of RFC 9942, for those who check COSE and not C2SP notes.
//!
//! A COSE_Sign1 with a detached payload: what is signed is the root of the tree, which whoever checks computes from the record's leaf and the proof. It is a
//! mapping of what the log has signed already, under the same key, and nothing in the log rests on it.

use std::io::Write;
use std::path::Path;

use chainring::{Position, Prover, Signer, Store, Value};
use chainring_format::cbor;
use chainring_reader::{Policy, Trust, VerifierKey, check};
use serde_json::json;

use super::{cannot, load_key};
use crate::form;
use crate::form::members::hex;
use crate::output::{Answer, Failure, GOOD, Out, sized};

/// Tag of a COSE_Sign1 (RFC 9052, section 4.2).
const SIGN1_TAG: u64 = 18;
/// Label of the algorithm, and EdDSA (RFC 9053, section 2.2).
const ALGORITHM: i64 = 1;
const EDDSA: i64 = -8;
/// Label of the kind of verifiable data structure, and the tree of RFC 9162 with SHA-256 (RFC 9942, section 4).
const STRUCTURE: i64 = 395;
const RFC9162_SHA256: i64 = 1;
/// Label of its proofs, and of proofs of inclusion among them.
const PROOFS: i64 = 396;
const INCLUSION: i64 = -1;

/// Writes the receipt for an event to a file.
pub(crate) fn export(path: &Path, event: &str, key_file: &Path, to: &Path, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let prover = store.prover()?;
    let event = store.latest().event_with_id(form::event_id(event))?.position();
    let key = load_key(key_file)?;
    let policy = VerifierKey::parse(&key.verifier_key()).map(Policy::of_key).map_err(|refusal| Failure::No(refusal.to_string()))?;
    // A root is signed only if the same key has signed it before.
    if let Err(refusal) = check(&prover.receipt(event)?, &Trust { policy: Some(policy), saved: None }) {
        return Err(Failure::No(format!("{} is not the key that signed the checkpoint: {refusal}", key_file.display())));
    }
    let receipt = receipt(&prover, event, &*key)?;
    std::fs::write(to, &receipt).map_err(cannot(to))?;
    let (head, leaf) = (prover.head(), prover.leaf(event)?);
    if out.json {
        let object = json!({
            "ok": true, "position": event.0, "leaf": hex(&leaf), "size": head.size, "root": hex(&head.root), "bytes": receipt.len(),
        });
        writeln!(out, "{object}")?;
    } else {
        let written = out.paint(GOOD, "written").into_owned();
        writeln!(out, "{written} {}, {}: position {event} of {} records", to.display(), sized(receipt.len() as u64), head.size)?;
        writeln!(out, "leaf    {}", hex(&leaf))?;
    }
    out.flush()?;
    Ok(true)
}

/// The receipt for the record at a position, signed with this key.
fn receipt(prover: &Prover, position: Position, signer: &dyn Signer) -> Result<Vec<u8>, Failure> {
    let head = prover.head();
    let path = prover.inclusion(position)?.into_iter().map(|hash| Value::Bytes(hash.to_vec())).collect();
    let proof = encoded(&Value::Array(vec![Value::Uint(head.size), Value::Uint(position.0), Value::Array(path)]));
    let protected =
        encoded(&Value::Map(vec![(Value::int(ALGORITHM), Value::int(EDDSA)), (Value::int(STRUCTURE), Value::int(RFC9162_SHA256))]));
    let proofs = Value::Map(vec![(Value::int(INCLUSION), Value::Array(vec![Value::Bytes(proof)]))]);
    // RFC 9052, section 4.4: context, protected header, no data of the application's, payload.
    let signed = encoded(&Value::Array(vec![
        Value::text("Signature1"),
        Value::Bytes(protected.clone()),
        Value::Bytes(Vec::new()),
        Value::Bytes(head.root.to_vec()),
    ]));
    let signature = signer.sign(&signed).map_err(|error| Failure::Cannot(format!("cannot sign: {error}")))?;
    let mut receipt = Vec::new();
    cbor::head(&mut receipt, 6, SIGN1_TAG);
    Value::Array(vec![
        Value::Bytes(protected),
        Value::Map(vec![(Value::int(PROOFS), proofs)]),
        Value::Null,
        Value::Bytes(signature.to_vec()),
    ])
    .encode(&mut receipt);
    Ok(receipt)
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}
