//! What somebody remembers of a log, held against the log.
//!
//! A whole store that was put back to an earlier state is consistent in itself: only what somebody else kept can show it (FORMAT.md rule R4). That is a
//! receipt, or the *mark*: a small file beside the store, written now and then, that no restore of the store brings back with it.
//! The mark is a convenience against accidents, not protection: whoever can restore a store can restore its mark. Losing it loses nothing.

use std::fmt;
use std::str::FromStr;

use chainring_format::checksum::crc;
use chainring_format::{Link, Position, Violation};

use super::request::{EventReceipt, Receipt};
use crate::disk::Disk;
use crate::error::{Fault, FaultKind};

/// Something seen of a log: the log must still hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Position of a record that was durable.
    pub position: Position,
    /// Its link; without it, another history of the same length goes unnoticed.
    pub link: Option<Link>,
}

impl From<Position> for Remembered {
    fn from(position: Position) -> Remembered {
        Remembered { position, link: None }
    }
}

impl From<EventReceipt> for Remembered {
    fn from(receipt: EventReceipt) -> Remembered {
        Remembered { position: receipt.position, link: Some(receipt.link) }
    }
}

/// The last event of the receipt.
impl From<&Receipt> for Remembered {
    fn from(receipt: &Receipt) -> Remembered {
        receipt.events[receipt.events.len() - 1].into()
    }
}

impl fmt::Display for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.position)?;
        self.link.map_or(Ok(()), |link| write!(f, ":{link}"))
    }
}

/// `POSITION` or `POSITION:LINK`, the link in 64 hexadecimal digits.
impl FromStr for Remembered {
    type Err = String;

    fn from_str(text: &str) -> Result<Remembered, String> {
        let (position, link) = text.split_once(':').map_or((text, None), |(position, link)| (position, Some(link)));
        let position = position.parse().map_err(|_| format!("{position:?} is not a position"))?;
        let link = link.map(|link| hex(link).ok_or_else(|| format!("{link:?} is not a link of 64 hexadecimal digits"))).transpose()?;
        Ok(Remembered { position: Position(position), link: link.map(Link) })
    }
}

/// 64 hexadecimal digits.
pub(crate) fn hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    let digit = |at: usize| char::from(digits[at]).to_digit(16);
    if digits.len() != 64 {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (digit(2 * at)? * 16 + digit(2 * at + 1)?) as u8;
    }
    Some(bytes)
}

impl Remembered {
    /// Rule R4 of FORMAT.md: in what way a log that has `records` records does not hold this, and why; `found` is the link of its record at the
    /// position, where it reaches that far.
    #[must_use]
    pub fn violation(&self, records: u64, found: Option<Link>) -> Option<(FaultKind, String)> {
        let position = self.position;
        let Some(found) = found else {
            let why =
                format!("a record at position {position} is remembered, the store has {records}: it is older than what was seen of it");
            return Some((FaultKind::RollbackSuspected, why));
        };
        let differs = self.link.is_some_and(|link| link != found);
        let why = || format!("the record at position {position} is not the one remembered: its link is {found}");
        differs.then(|| (FaultKind::Tampered, why()))
    }

    /// The same, with the place where the log ends.
    pub(crate) fn fault(&self, records: u64, found: Option<Link>, segment: &str, end: u64) -> Option<Fault> {
        let (kind, why) = self.violation(records, found)?;
        let fault = Fault::new(kind, segment.to_owned(), end, Violation { rule: "R4", why: "" });
        Some(Fault { why, position: Some(self.position), ..fault })
    }
}

/// The file beside a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub log_id: Link,
    pub seen: Remembered,
}

const MARK_TITLE: &str = "chainring mark 1";

/// Lines with a last one that tells whether they are whole.
pub(crate) fn with_check(lines: &str) -> String {
    format!("{lines}check {:08x}\n", crc(lines.as_bytes()))
}

/// The lines before that last one, if they are whole.
pub(crate) fn without_check(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lines = &text[..text.rfind("check ")?];
    (with_check(lines) == text).then_some(lines)
}

impl Mark {
    fn encode(&self) -> String {
        with_check(&format!("{MARK_TITLE}\nlog {}\nseen {}\n", self.log_id, self.seen))
    }

    fn parse(bytes: &[u8]) -> Option<Mark> {
        let mut lines = without_check(bytes)?.strip_prefix(MARK_TITLE)?.strip_prefix('\n')?.lines();
        let log_id = Link(hex(lines.next()?.strip_prefix("log ")?)?);
        let seen = lines.next()?.strip_prefix("seen ")?.parse().ok()?;
        Some(Mark { log_id, seen })
    }

    /// The mark beside this store, if there is one for this log. One that cannot be read is none: it protects nothing.
    pub(crate) fn find(disk: &dyn Disk, log_id: Link) -> Option<Mark> {
        let mark = Mark::parse(&disk.remembered().ok()??)?;
        (mark.log_id == log_id).then_some(mark)
    }

    /// Leaves the mark. Failing changes nothing that was promised.
    pub(crate) fn leave(&self, disk: &dyn Disk) {
        let _ = disk.remember(self.encode().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_as_it_was_written() {
        let seen = Remembered { position: Position(7), link: Some(Link([0xAB; 32])) };
        assert_eq!(seen.to_string().parse(), Ok(seen));
        assert_eq!("12".parse(), Ok(Remembered::from(Position(12))));
        for bad in ["", "x", "1:", "1:ab", "-1", &format!("1:{}", "g".repeat(64)), &format!("1:{}", "é".repeat(32))] {
            assert!(bad.parse::<Remembered>().is_err(), "{bad}");
        }
        let mark = Mark { log_id: Link([1; 32]), seen };
        let text = mark.encode();
        assert_eq!(Mark::parse(text.as_bytes()), Some(mark));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            assert_eq!(Mark::parse(&changed), None, "byte {at}");
            assert_eq!(Mark::parse(&text.as_bytes()[..at]), None, "cut at {at}");
        }
    }
}
