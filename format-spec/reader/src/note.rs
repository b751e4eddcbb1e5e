//! Signed notes (C2SP signed-note), checkpoints (tlog-checkpoint), cosignatures (tlog-cosignature v1) and the policy that says whose are needed (tlog-policy).
//!
//! Always: a signature by a known key that does not hold refuses the whole note; one by an unknown key is ignored.
//! Never: finds a key by its key id alone; the key itself is configured.

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::bytes::Hash;

const ED25519: u8 = 1;
const COSIGNATURE: u8 = 4;
const SIGNATURES_MAX: usize = 64;
const GROUPS_MAX: usize = 256;

/// Why a note or a policy is refused.
pub(crate) type Why = String;

/// Canonical base64 of exactly so many bytes.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode_any(text)?.try_into().ok()
}

/// Canonical base64.
pub(crate) fn decode_any(text: &str) -> Option<Vec<u8>> {
    let bytes = Base64::decode_vec(text).ok()?;
    (Base64::encode_string(&bytes) == text).then_some(bytes)
}

/// A decimal number without leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A key that a verifier is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    /// Its name; a log's is the first line of its checkpoints.
    pub name: String,
    kind: u8,
    key: Hash,
}

impl VerifierKey {
    /// Reads `NAME+KEYID+KEY`.
    ///
    /// # Errors
    /// Why it is no such key, in words.
    pub fn parse(text: &str) -> Result<VerifierKey, String> {
        let why = || format!("{text:?} is not a verifier key of the form NAME+KEYID+KEY");
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else { return Err(why()) };
        let bytes: [u8; 33] = decode(key).ok_or_else(why)?;
        let (kind, key) = (bytes[0], *bytes.last_chunk().ok_or_else(why)?);
        let found = VerifierKey { name: name.to_owned(), kind, key };
        let is_known = matches!(kind, ED25519 | COSIGNATURE) && is_name(name);
        if is_known && id == hex(&found.id()) { Ok(found) } else { Err(why()) }
    }

    /// The Ed25519 public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key
    }

    /// The same name with another key.
    pub(crate) fn with(&self, key: Hash) -> VerifierKey {
        VerifierKey { key, ..self.clone() }
    }

    fn id(&self) -> [u8; 4] {
        let input = [self.name.as_bytes(), &[b'\n', self.kind], &self.key].concat();
        let hash: Hash = Sha256::digest(input).into();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// Whether the signature in a line of a note holds.
    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        match self.kind {
            COSIGNATURE => {
                let Some((time, signature)) = signature.split_first_chunk::<8>() else { return false };
                let message = format!("cosignature/v1\ntime {}\n{text}", u64::from_be_bytes(*time));
                verifies(&self.key, message.as_bytes(), signature)
            }
            _ => verifies(&self.key, text.as_bytes(), signature),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ed25519, strictly: keys and signatures that can be read in two ways are refused.
pub(crate) fn verifies(key: &Hash, message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(key), Signature::from_slice(signature)) else { return false };
    key.verify_strict(message, &signature).is_ok()
}

/// A note: its text, and who has signed it.
pub(crate) struct Note<'a> {
    /// Up to and with the last end of line before the empty line.
    pub(crate) text: &'a str,
    signatures: Vec<(&'a str, Vec<u8>)>,
}

impl<'a> Note<'a> {
    pub(crate) fn parse(note: &'a str) -> Result<Note<'a>, Why> {
        let no = |why: &str| format!("the note is not valid: {why}");
        if note.contains(|c: char| c.is_control() && c != '\n') {
            return Err(no("a control character"));
        }
        // The text keeps its last end of line.
        let at = note.rfind("\n\n").ok_or_else(|| no("no empty line before signatures"))?;
        let (text, rest) = (&note[..=at], &note[at + 2..]);
        let lines = rest.strip_suffix('\n').ok_or_else(|| no("it does not end with its last line"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            let (name, signature) =
                line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' ')).ok_or_else(|| no("a signature line"))?;
            let signature = decode_any(signature).filter(|signature| signature.len() > 4 && is_name(name));
            signatures.push((name, signature.ok_or_else(|| no("a signature"))?));
        }
        if signatures.len() > SIGNATURES_MAX {
            return Err(no("too many signatures"));
        }
        Ok(Note { text, signatures })
    }

    /// Whether a key has signed. A line with its name and id whose signature does not hold is an error.
    pub(crate) fn is_signed_by(&self, key: &VerifierKey) -> Result<bool, Why> {
        let mut found = false;
        for (name, signature) in &self.signatures {
            if *name == key.name && signature[..4] == key.id() {
                if !key.verifies(self.text, &signature[4..]) {
                    return Err(format!("the signature of {name} does not hold"));
                }
                found = true;
            }
        }
        Ok(found)
    }
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Origin of the log.
    pub name: String,
    /// Records.
    pub size: u64,
    /// Root of the tree over them.
    pub root: [u8; 32],
}

impl Checkpoint {
    /// Reads the note of a checkpoint that its holder trusts for having it; signatures are not asked.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn parse(note: &str) -> Result<Checkpoint, String> {
        Checkpoint::of(&Note::parse(note)?)
    }

    pub(crate) fn of(note: &Note<'_>) -> Result<Checkpoint, Why> {
        let lines: Vec<&str> = note.text.split_terminator('\n').collect();
        let no = || "the note is no checkpoint of three lines".to_owned();
        let [name, size, root] = lines.as_slice() else { return Err(no()) };
        let (Some(size), Some(root), false) = (decimal(size), decode(root), name.is_empty()) else { return Err(no()) };
        Ok(Checkpoint { name: (*name).to_owned(), size, root })
    }
}

/// Whose signatures a checkpoint needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<(String, VerifierKey)>,
    groups: Vec<(String, usize, Vec<String>)>,
    quorum: Option<String>,
}

impl Policy {
    /// A policy that asks for the log's signature only.
    #[must_use]
    pub fn of_key(key: VerifierKey) -> Policy {
        Policy { logs: vec![key], ..Policy::default() }
    }

    /// Reads a tlog-policy: lines `log VKEY`, `witness NAME VKEY`, `group NAME any|all|N MEMBER...`, `quorum NAME|none`.
    ///
    /// # Errors
    /// The line that is wrong, in words.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let mut policy = Policy::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            policy.line(line).map_err(|why| format!("policy line {line:?}: {why}"))?;
        }
        if policy.logs.is_empty() { Err("the policy names no log".to_owned()) } else { Ok(policy) }
    }

    fn line(&mut self, line: &str) -> Result<(), Why> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let known = |policy: &Policy, name: &str| {
            policy.witnesses.iter().any(|(known, _)| known == name) || policy.groups.iter().any(|(known, ..)| known == name)
        };
        match words.as_slice() {
            ["log", key, ..] => self.logs.push(VerifierKey::parse(key)?),
            ["witness", name, key, ..] if !known(self, name) => {
                let key = VerifierKey::parse(key)?;
                // One witness under two names counts once.
                if self.witnesses.iter().any(|(_, other)| other.key == key.key) {
                    return Err("the key of another witness".to_owned());
                }
                self.witnesses.push(((*name).to_owned(), key));
            }
            ["group", name, threshold, members @ ..] if !known(self, name) && !members.is_empty() && self.groups.len() < GROUPS_MAX => {
                if let Some(unknown) = members.iter().find(|member| !known(self, member)) {
                    return Err(format!("{unknown:?} is not defined before it"));
                }
                let count = match *threshold {
                    "any" => 1,
                    "all" => members.len(),
                    number => number.parse().map_err(|_| "a threshold is any, all or a number".to_owned())?,
                };
                if count == 0 || count > members.len() {
                    return Err("a threshold that cannot be met or asks for nothing".to_owned());
                }
                self.groups.push(((*name).to_owned(), count, members.iter().map(|member| (*member).to_owned()).collect()));
            }
            ["quorum", "none"] if self.quorum.is_none() => {}
            ["quorum", name] if self.quorum.is_none() && known(self, name) => self.quorum = Some((*name).to_owned()),
            _ => return Err("not understood".to_owned()),
        }
        Ok(())
    }

    /// Keys of logs.
    #[must_use]
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// Whether those have signed that must, besides the log.
    pub(crate) fn check_witnesses(&self, note: &Note<'_>) -> Result<(), Why> {
        let Some(quorum) = &self.quorum else { return Ok(()) };
        if self.is_met(quorum, note)? { Ok(()) } else { Err(format!("the quorum {quorum} of witnesses has not signed the checkpoint")) }
    }

    /// Members are defined before their groups, so this ends.
    fn is_met(&self, name: &str, note: &Note<'_>) -> Result<bool, Why> {
        if let Some((_, key)) = self.witnesses.iter().find(|(known, _)| known == name) {
            return note.is_signed_by(key);
        }
        let Some((_, threshold, members)) = self.groups.iter().find(|(known, ..)| known == name) else { return Ok(false) };
        let mut met = 0;
        for member in members {
            met += usize::from(self.is_met(member, note)?);
        }
        Ok(met >= *threshold)
    }
}
