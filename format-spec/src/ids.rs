//! The small values that name things. Each is a type of its own, so that a version is never taken for a position.

use std::fmt;
use std::str::FromStr;

use crate::limits::BUCKET_COUNT;

/// Index of a record in the whole log, dense from 0; also its leaf index in the Merkle tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// Number of an event in its stream, counted from 1. "Stream at version v" means its first v events; 0 = does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u64);

/// First 16 bytes of the derived hash of a stream's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId(pub [u8; 16]);

/// The caller's identity of an event: 16 bytes, shown as a UUID. Never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId(pub [u8; 16]);

/// 32-byte hash that chains a record to its predecessors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Link(pub [u8; 32]);

impl StreamId {
    /// The lane of this stream: a published, stable function of the id.
    #[must_use]
    pub fn bucket(self) -> u16 {
        u16::from_le_bytes([self.0[0], self.0[1]]) & (BUCKET_COUNT - 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

/// The hyphenated lower-case UUID form.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, b) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// The text was not a UUID in its hyphenated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnEventId;

impl fmt::Display for NotAnEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an event id: expected a UUID such as 806fb35d-21ad-596b-bd3f-a5234076332d")
    }
}

impl std::error::Error for NotAnEventId {}

/// Reads the hyphenated UUID form, lower or upper case.
impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let text = text.as_bytes();
        if text.len() != 36 {
            return Err(NotAnEventId);
        }
        let digit = |at: usize| (text[at] as char).to_digit(16).ok_or(NotAnEventId);
        let mut id = [0_u8; 16];
        let mut at = 0;
        for (i, byte) in id.iter_mut().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                if text[at] != b'-' {
                    return Err(NotAnEventId);
                }
                at += 1;
            }
            *byte = (digit(at)? << 4 | digit(at + 1)?) as u8;
            at += 2;
        }
        Ok(EventId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_id_text_round_trips() {
        let text = "806fb35d-21ad-596b-bd3f-a5234076332d";
        assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        for bad in
            ["", "806fb35d-21ad-596b-bd3f-a5234076332", "806fb35d021ad-596b-bd3f-a5234076332d", "806fb35d-21ad-596b-bd3f-a523407633+d"]
        {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bucket_is_a_mask_of_the_first_two_bytes() {
        let mut id = [0xFF; 16];
        assert_eq!(StreamId(id).bucket(), 0x0FFF);
        id[0] = 0x34;
        id[1] = 0x12;
        assert_eq!(StreamId(id).bucket(), 0x0234);
    }
}
