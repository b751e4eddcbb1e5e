//! Bodies of the engine's own records behind the genesis record (FORMAT.md sections 6.6 to 6.8).

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Violation;
use crate::hash::Hash;
use crate::ids::Link;

/// Kind of a seal.
pub const KIND_SEAL: u8 = 1;
/// Kind of a key record.
pub const KIND_KEY: u8 = 2;
/// Kind of an anchor record.
pub const KIND_ANCHOR: u8 = 3;

/// Longest artefact in an anchor record.
pub const ARTEFACT_BYTES_MAX: usize = 1 << 20;

/// What a seal binds (FORMAT.md section 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SealBody {
    /// Seals are counted from 1.
    pub number: U64,
    /// Its own position.
    pub position: U64,
    /// Link of the seal before it; zero in the first.
    pub previous_seal: Hash,
    /// Records that its roots are over: the first so many of the log, at most those before it.
    pub tree_size: U64,
    /// Root of the tree over them.
    pub tree_root: Hash,
    /// Root over the heads of all buckets at that size.
    pub heads_root: Hash,
    /// Root over all streams; zero, kept for later.
    pub streams_root: Hash,
    /// Events among them.
    pub events: U64,
    /// Bodies erased among them, as far as the writer knows.
    pub erasures: U64,
    /// recorded_at_ns of this record.
    pub time_ns: U64,
    /// Ed25519 public key that signs the checkpoint of this seal; zero if none does.
    pub log_key: Hash,
    /// Size of the last checkpoint signed before this seal; 0 = none.
    pub signed_size: U64,
    /// Its root.
    pub signed_root: Hash,
    /// Its signature.
    pub signature: [u8; 64],
    /// Zero.
    pub reserved: [u8; 8],
}

/// What a key record says (FORMAT.md section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct KeyBody {
    /// Ed25519 public key in force before; zero if there was none.
    pub old_key: Hash,
    /// Ed25519 public key in force from here on.
    pub new_key: Hash,
    /// Signature of [`key_statement`] by the old key; zero if there was none.
    pub old_signature: [u8; 64],
    /// Signature of [`key_statement`] by the new key.
    pub new_signature: [u8; 64],
    /// Zero.
    pub reserved: [u8; 8],
}

/// What stands before the artefact in an anchor record (FORMAT.md section 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AnchorHead {
    /// 1 RFC 3161 reply, 2 OpenTimestamps proof, 3 signed note, 4 something else.
    pub form: u8,
    /// Zero.
    pub reserved: [u8; 7],
    /// Size of the checkpoint it speaks of.
    pub size: U64,
    /// SHA-256 of that checkpoint's note, with the log's signature only.
    pub note_sha256: Hash,
}

/// What both keys sign when one takes over from the other.
#[must_use]
pub fn key_statement(log_id: &Link, old_key: &Hash, new_key: &Hash) -> [u8; 121] {
    let mut statement = [0; 121];
    statement[..25].copy_from_slice(b"chainring 2026-11 v1 key\n");
    statement[25..57].copy_from_slice(&log_id.0);
    statement[57..89].copy_from_slice(old_key);
    statement[89..].copy_from_slice(new_key);
    statement
}

/// Whether this is a kind of the engine's own records behind the genesis record.
#[must_use]
pub fn is_engine_kind(kind: u8) -> bool {
    matches!(kind, KIND_SEAL | KIND_KEY | KIND_ANCHOR)
}

/// Rules F8 to F10: what the body of an engine record must hold by itself. `position` and `recorded_at_ns` are the record's.
///
/// # Errors
/// The rule that is broken.
pub fn check_body(kind: u8, body: &[u8], position: u64, recorded_at_ns: u64) -> Result<(), Violation> {
    match kind {
        KIND_SEAL => check_seal(body, position, recorded_at_ns).map_err(|why| Violation::new("F8", why)),
        KIND_KEY => check_key(body).map_err(|why| Violation::new("F9", why)),
        _ => check_anchor(body, position).map_err(|why| Violation::new("F10", why)),
    }
}

fn check_seal(body: &[u8], position: u64, recorded_at_ns: u64) -> Result<(), &'static str> {
    let Ok(seal) = SealBody::ref_from_bytes(body) else { return Err("a seal's body has another length") };
    if seal.number.get() == 0 || (seal.number.get() == 1) != (seal.previous_seal == [0; 32]) {
        return Err("seals are counted from 1, and only the first has none before it");
    }
    if seal.position.get() != position || seal.time_ns.get() != recorded_at_ns {
        return Err("a seal states another position or time than its record's");
    }
    if !(1..=position).contains(&seal.tree_size.get()) {
        return Err("a seal is over records before it");
    }
    if seal.signed_size.get() > position {
        return Err("a checkpoint was signed before the seal that names it");
    }
    if seal.signed_size.get() == 0 && (seal.signed_root != [0; 32] || seal.signature != [0; 64]) {
        return Err("a seal names the root or signature of no checkpoint");
    }
    if seal.streams_root != [0; 32] || seal.reserved != [0; 8] {
        return Err("reserved bytes of a seal are not zero");
    }
    Ok(())
}

fn check_key(body: &[u8]) -> Result<(), &'static str> {
    let Ok(key) = KeyBody::ref_from_bytes(body) else { return Err("a key record's body has another length") };
    if key.new_key == [0; 32] || key.new_key == key.old_key {
        return Err("a key record brings a new key");
    }
    if key.old_key == [0; 32] && key.old_signature != [0; 64] {
        return Err("a key record is signed by no key");
    }
    if key.reserved == [0; 8] { Ok(()) } else { Err("reserved bytes of a key record are not zero") }
}

fn check_anchor(body: &[u8], position: u64) -> Result<(), &'static str> {
    let Ok((head, artefact)) = AnchorHead::ref_from_prefix(body) else { return Err("an anchor record's body is cut short") };
    if !(1..=4).contains(&head.form) || head.reserved != [0; 7] {
        return Err("an anchor record has an unknown form or reserved bytes that are not zero");
    }
    if !(1..=ARTEFACT_BYTES_MAX).contains(&artefact.len()) {
        return Err("an anchor record has no artefact, or one that is too long");
    }
    if (1..=position).contains(&head.size.get()) { Ok(()) } else { Err("an anchor record is about a checkpoint before it") }
}

const _: () = {
    assert!(size_of::<SealBody>() == 320);
    assert!(size_of::<KeyBody>() == 200);
    assert!(size_of::<AnchorHead>() == 48);
};
