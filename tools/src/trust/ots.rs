//! OpenTimestamps proofs, as far as a log has to read them: what was stamped, and who attests it. Whether a Bitcoin block says so is for those who have the
//! chain: the client of OpenTimestamps tells.

use std::fmt;

const MAGIC: &[u8; 31] = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94";
const PENDING: [u8; 8] = [0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e];
const BITCOIN: [u8; 8] = [0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01];
const SHA_256: u8 = 0x08;
/// Of what an operation takes, and of what it gives.
const MESSAGE_BYTES_MAX: u64 = 4096;
const ATTESTATION_BYTES_MAX: u64 = 8192;
const URI_BYTES_MAX: u64 = 1000;
/// Operations one behind the other; a proof has some dozens.
const DEPTH_MAX: usize = 256;

/// Who vouches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attestation {
    /// A calendar has promised; ask it later.
    Pending(String),
    /// The block of this height has it.
    Bitcoin(u64),
    /// Another one.
    Other,
}

impl fmt::Display for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attestation::Pending(uri) => write!(f, "pending at {uri}"),
            Attestation::Bitcoin(height) => write!(f, "in Bitcoin block {height}"),
            Attestation::Other => f.write_str("attested otherwise"),
        }
    }
}

/// A proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ots {
    /// SHA-256 of what was stamped.
    pub(crate) digest: [u8; 32],
    pub(crate) attestations: Vec<Attestation>,
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn varbytes(&mut self, bytes_max: u64) -> Option<&'a [u8]> {
        let count = self.varint().filter(|count| *count <= bytes_max)?;
        self.take(count as usize)
    }
}

/// The proof that a calendar's answer to these 32 bytes makes.
pub(crate) fn proof(digest: &[u8; 32], answer: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &[1, SHA_256], digest, answer].concat()
}

/// Whether bytes begin as a proof does.
pub(crate) fn is_proof(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// A calendar's address has no more than these, so that nobody is sent elsewhere by one.
fn is_of_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._/:".contains(&byte)
}

/// Reads a proof; `None` if it is none, which is asked as strictly as the client of OpenTimestamps asks.
pub(crate) fn parse(bytes: &[u8]) -> Option<Ots> {
    let mut bytes = Bytes(bytes.strip_prefix(MAGIC)?);
    (bytes.varint()? == 1 && bytes.byte()? == SHA_256).then_some(())?;
    let digest: [u8; 32] = bytes.take(32)?.try_into().ok()?;
    let mut attestations = Vec::new();
    // A timestamp is a tree of messages: every item but the last of a node has 0xff before it, and what an operation leads to is another node. Of those that
    // have items to come: how deep they are, and how many bytes the message has.
    let mut nodes = vec![(0, digest.len() as u64)];
    while let Some((depth, message_bytes)) = nodes.pop() {
        (depth < DEPTH_MAX && message_bytes <= MESSAGE_BYTES_MAX).then_some(())?;
        let mut tag = bytes.byte()?;
        if tag == 0xFF {
            nodes.push((depth, message_bytes));
            tag = bytes.byte()?;
        }
        let result_bytes = match tag {
            0x00 => {
                attestations.push(attestation(&mut bytes)?);
                continue;
            }
            // sha1, ripemd160
            0x02 | 0x03 => 20,
            // sha256, keccak256
            SHA_256 | 0x67 => 32,
            // append, prepend
            0xF0 | 0xF1 => {
                let argument = bytes.varbytes(MESSAGE_BYTES_MAX)?;
                (!argument.is_empty()).then_some(message_bytes + argument.len() as u64)?
            }
            // reverse, hexlify
            0xF2 => message_bytes,
            0xF3 => message_bytes * 2,
            _ => return None,
        };
        nodes.push((depth + 1, result_bytes));
    }
    bytes.0.is_empty().then_some(Ots { digest, attestations })
}

fn attestation(bytes: &mut Bytes<'_>) -> Option<Attestation> {
    let kind: [u8; 8] = bytes.take(8)?.try_into().ok()?;
    let mut payload = Bytes(bytes.varbytes(ATTESTATION_BYTES_MAX)?);
    let attestation = match kind {
        PENDING => {
            let uri = payload.varbytes(URI_BYTES_MAX)?;
            let is_right = uri.iter().all(|byte| is_of_uri(*byte));
            Attestation::Pending(String::from_utf8(uri.to_vec()).ok().filter(|_| is_right)?)
        }
        BITCOIN => Attestation::Bitcoin(payload.varint()?),
        _ => return Some(Attestation::Other),
    };
    payload.0.is_empty().then_some(attestation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_and_attestations_are_told() {
        let pending = |uri: &[u8]| [&[0x00][..], &PENDING, &[uri.len() as u8 + 1, uri.len() as u8], uri].concat();
        let bitcoin = [&[0x00][..], &BITCOIN, &[3, 0x80 | 0x2A, 0x80 | 0x10, 0x01]].concat();
        let head = [&MAGIC[..], &[1, 0x08], &[7; 32]].concat();
        let tree = [&[0xF0, 2, 1, 2, 0x08, 0xFF][..], &pending(b"https://a.example"), &[0xF1, 1, 9, 0x08], &bitcoin].concat();
        let proof = parse(&[&head[..], &tree].concat()).unwrap();
        assert_eq!(proof.digest, [7; 32]);
        assert_eq!(
            proof.attestations,
            [Attestation::Pending("https://a.example".into()), Attestation::Bitcoin(0x2A | 0x10 << 7 | 1 << 14)]
        );
        assert_eq!(parse(&[&head[..], &tree, &[0]].concat()), None, "something behind it");
        assert_eq!(parse(&[&head[..], &tree[..tree.len() - 1]].concat()), None, "cut short");
        assert_eq!(parse(&head), None);
        let with = |tree: &[&[u8]]| parse(&[&head[..], &tree.concat()].concat());
        assert_eq!(with(&[&pending(b"https://a.example/?b")]), None, "more than an address");
        assert_eq!(with(&[&[0xF0, 0], &bitcoin]), None, "nothing is appended");
        assert_eq!(with(&[&bitcoin[..9], &[4], &bitcoin[10..], &[0]]), None, "something behind the height");
        assert!(with(&[&[0xF3; 7], &bitcoin]).is_some());
        assert_eq!(with(&[&[0xF3; 8], &bitcoin]), None, "8192 bytes");
        assert!(with(&[&[0x08; 255], &bitcoin]).is_some());
        assert_eq!(with(&[&[0x08; 256], &bitcoin]), None, "too deep");
    }
}
