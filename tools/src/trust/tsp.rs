//! Time stamps of RFC 3161, as far as a log has to read them: what was stamped, and when. Whether the authority's signature holds is for those who know
//! the authority: `openssl ts -verify` tells.

use chainring::Timestamp;

use crate::time;

const SHA_256: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const TST_INFO: [u8; 11] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x10, 0x01, 0x04];

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xA0;

fn item(tag: u8, content: &[u8]) -> Vec<u8> {
    // Nothing here is longer than what fits a short length.
    [&[tag, u8::try_from(content.len()).expect("short")], content].concat()
}

/// A query for a stamp over these 32 bytes: SHA-256, with a nonce, and the authority's certificate asked for.
pub(crate) fn query(digest: &[u8; 32], nonce: u64) -> Vec<u8> {
    let algorithm = item(SEQUENCE, &[item(OID, &SHA_256), item(NULL, &[])].concat());
    let imprint = item(SEQUENCE, &[algorithm, item(OCTETS, digest)].concat());
    // Never negative, never with a leading zero.
    let nonce = item(INTEGER, &(nonce >> 1 | 1 << 62).to_be_bytes());
    item(SEQUENCE, &[item(INTEGER, &[1]), imprint, nonce, item(BOOLEAN, &[0xFF])].concat())
}

/// Items of DER, one behind the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    fn within(&mut self, tag: u8) -> Option<Der<'a>> {
        self.take(tag).map(Der)
    }
}

/// What a time stamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// SHA-256 of what was stamped.
    pub(crate) imprint: [u8; 32],
    /// When, by the authority.
    pub(crate) time: Timestamp,
}

/// Reads the reply of an authority, or a bare token. `None` if it is neither, or the reply is a refusal.
pub(crate) fn stamp(bytes: &[u8]) -> Option<Stamp> {
    let mut outer = Der(bytes).within(SEQUENCE)?;
    let token = match outer.0.first()? {
        // TimeStampResp: status, then the token.
        &SEQUENCE => {
            let status = outer.within(SEQUENCE)?.take(INTEGER)?;
            // Granted, or granted with changes.
            matches!(status, [0 | 1]).then_some(())?;
            outer.within(SEQUENCE)?
        }
        _ => outer,
    };
    of_token(token)
}

/// ContentInfo, SignedData, EncapsulatedContentInfo, TSTInfo (RFC 5652, RFC 3161 section 2.4.2).
fn of_token(mut token: Der<'_>) -> Option<Stamp> {
    token.take(OID)?;
    let mut signed = token.within(EXPLICIT_0)?.within(SEQUENCE)?;
    signed.take(INTEGER)?;
    signed.take(SET)?;
    let mut content = signed.within(SEQUENCE)?;
    (content.take(OID)? == TST_INFO).then_some(())?;
    let mut info = content.within(EXPLICIT_0)?.within(OCTETS)?.within(SEQUENCE)?;
    info.take(INTEGER)?;
    info.take(OID)?;
    let mut imprint = info.within(SEQUENCE)?;
    (imprint.within(SEQUENCE)?.take(OID)? == SHA_256).then_some(())?;
    let imprint = imprint.take(OCTETS)?.try_into().ok()?;
    info.take(INTEGER)?;
    let time = std::str::from_utf8(info.take(GENERALIZED_TIME)?).ok()?;
    // YYYYMMDDhhmmss[.f]Z
    let (digits, rest) = time.split_at_checked(14)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    let part = |range: std::ops::Range<usize>| &digits[range];
    let iso = format!("{}-{}-{}T{}:{}:{}{rest}", part(0..4), part(4..6), part(6..8), part(8..10), part(10..12), part(12..14));
    Some(Stamp { imprint, time: time::parse(&iso)? })
}
