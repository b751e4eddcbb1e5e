//! Signed notes and checkpoints (C2SP signed-note and tlog-checkpoint, of which `TRUST.md` section 3 says what is used here).

use base64ct::{Base64, Encoding};
use chainring_format::Link;
use chainring_format::hash::Hash;
use sha2::{Digest, Sha256};

/// Signature type of an Ed25519 signature over the text of a note.
const ED25519: u8 = 1;

/// A size of the log and the root of the tree at that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Records.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

/// The name of a log in notes: its origin, if that can be the name of a key, else one made of its id.
#[must_use]
pub fn note_name(origin: &str, log_id: &Link) -> String {
    if is_key_name(origin) { origin.to_owned() } else { format!("chainring.invalid/{log_id}") }
}

/// Whether a key can have this name.
pub(super) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// Text of the checkpoint: origin, size, root, a line each.
#[must_use]
pub(super) fn checkpoint_text(name: &str, head: &TreeHead) -> String {
    format!("{name}\n{}\n{}\n", head.size, Base64::encode_string(&head.root))
}

/// The note with one signature, as it is published.
#[must_use]
pub(super) fn signed_note(name: &str, head: &TreeHead, public_key: &Hash, signature: &[u8; 64]) -> String {
    let text = checkpoint_text(name, head);
    let signed = [&key_id(name, public_key)[..], signature].concat();
    format!("{text}\n\u{2014} {name} {}\n", Base64::encode_string(&signed))
}

/// What finds the key of a signature among several; not what makes it safe.
fn key_id(name: &str, public_key: &Hash) -> [u8; 4] {
    let named = [name.as_bytes(), &[b'\n', ED25519], public_key].concat();
    *Sha256::digest(named).first_chunk().expect("4 of 32 bytes")
}

/// The id of a key as it stands in keys that are written down.
pub(super) fn key_id_text(name: &str, public_key: &Hash) -> String {
    format!("{:08x}", u32::from_be_bytes(key_id(name, public_key)))
}

/// The public key in the form that verifiers are configured with: `NAME+KEYID+KEY`.
#[must_use]
pub fn verifier_key(name: &str, public_key: &Hash) -> String {
    format!("{name}+{}+{}", key_id_text(name, public_key), Base64::encode_string(&[&[ED25519], &public_key[..]].concat()))
}

/// A checkpoint taken apart: what it says, and who signed it. Signatures are not checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedNote {
    /// First line.
    pub name: String,
    /// What it says of the log.
    pub head: TreeHead,
    /// The log's own signature, the one under `name`.
    pub signature: [u8; 64],
}

/// Reads a note that [`signed_note`] made. `None` if it is anything else.
#[must_use]
pub(super) fn parse_note(note: &str, public_key: &Hash) -> Option<ParsedNote> {
    let (name, rest) = note.split_once('\n')?;
    let (size, rest) = rest.split_once('\n')?;
    let (root, rest) = rest.split_once('\n')?;
    let head = TreeHead { size: size.parse().ok()?, root: decode(root)? };
    let signed = rest.strip_prefix(&format!("\n\u{2014} {name} "))?.strip_suffix('\n')?;
    let signed: [u8; 68] = decode(signed)?;
    let signature = *signed.last_chunk().expect("64 of 68 bytes");
    // Written the one way it is written.
    (signed_note(name, &head, public_key, &signature) == note).then(|| ParsedNote { name: name.to_owned(), head, signature })
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    Base64::decode_vec(text).ok()?.try_into().ok()
}
