//! What `fuzz/` and tests need of this package's insides: a line of the import form, and what comes back of it; what witnesses answer. Not for other use.

use std::collections::{BTreeMap, BTreeSet};

use chainring::Metadata;

use crate::form::entry::LineReader;
use crate::form::export::{Told, members};
use crate::form::members::Members;
use crate::rawjson;

/// The line as it comes back from a log that keeps exactly its metadata bytes and its body; `None` if it is refused.
///
/// # Panics
/// If what an accepted line becomes breaks a promise of the form.
#[must_use]
pub fn exported(line: &[u8]) -> Option<String> {
    let (entry, batch) = LineReader::new(true).read(1, line).ok()?;
    let metadata = Metadata::decode(&entry.event.metadata.encode()).expect("metadata of an accepted line is valid");
    let mut out = Vec::new();
    let mut object = Members::open(&mut out);
    let told = Told {
        stream: &entry.event.stream,
        version: entry.version.expect("the version was required"),
        id: entry.id,
        batch: batch.is_some().then_some(entry.id),
        metadata: &metadata,
        body: Some(&entry.event.body),
    };
    members(&told, &mut object);
    object.close();
    Some(String::from_utf8(out).expect("an export is text"))
}

/// Reads bytes as a proof of OpenTimestamps: the digest that was stamped and, sorted and separated by commas, who attests it.
#[must_use]
pub fn read_proof(bytes: &[u8]) -> Option<([u8; 32], String)> {
    let proof = crate::trust::read_proof(bytes)?;
    let told: BTreeSet<String> = proof.attestations.iter().map(ToString::to_string).collect();
    Some((proof.digest, told.into_iter().collect::<Vec<_>>().join(", ")))
}

/// Reads bytes as the reply of a time stamping authority: the digest that was stamped, and when.
#[must_use]
pub fn read_stamp(bytes: &[u8]) -> Option<([u8; 32], String)> {
    let stamp = crate::trust::read_stamp(bytes)?;
    Some((stamp.imprint, crate::time::render(stamp.time)))
}

/// The members of a JSON object by name, in canonical form, without those that are null and without `seq`, which is counted anew.
///
/// # Panics
/// If it is no JSON object.
#[must_use]
pub fn fields(line: &str) -> BTreeMap<String, String> {
    let members = rawjson::members(rawjson::valid(line).expect("valid JSON")).expect("an object");
    let said = members.filter(|(_, value)| *value != "null").map(|(name, value)| (rawjson::name(name), rawjson::canonical(value)));
    said.filter(|(name, _)| name != "seq").collect()
}
