//! The segment files of a store, as far as they and their headers can be read: which of them are of this log, and which number each has.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use chainring_format::limits::BLOCK_BYTES_MAX;
use chainring_format::segment::{HEADER_BYTES, SegmentHeader, file_name, number_of};
use chainring_format::{Link, Violation};

use super::manifest::{Damage, DamageKind, Manifest};
use super::read::Content;
use crate::disk::Disk;
use crate::error::OpenError;

/// A segment file and what its first bytes say.
pub(super) struct Entry {
    pub name: String,
    pub file_bytes: u64,
    pub header: Result<SegmentHeader, Violation>,
    /// The filling of the header block holds too.
    pub is_filled: bool,
}

/// The segments of one log, by their numbers.
pub(super) struct Listing {
    pub entries: BTreeMap<u64, Entry>,
    /// Id of the log, if any header tells it.
    pub log_id: Option<Link>,
}

/// The segments of the log that most headers speak of, and its id. What is none of them is written down and left alone.
pub(super) fn list(disk: &dyn Disk, directory: &Path, manifest: &mut Manifest) -> Result<Listing, OpenError> {
    let names = match disk.list() {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(OpenError::io(format!("listing {}", directory.display()))(error)),
    };
    let mut entries: BTreeMap<u64, Entry> = names.into_iter().filter_map(|name| Some((number_of(&name)?, enter(disk, name)))).collect();
    if entries.is_empty() {
        return Err(OpenError::NotAStore { directory: directory.to_owned() });
    }
    let is_unsupported = |entry: &Entry| entry.header.as_ref().is_err_and(|violation| violation.rule == "S5");
    if let Some((number, entry)) = entries.first_key_value().filter(|_| entries.values().all(is_unsupported)) {
        let why = entry.header.map_or_else(|violation| violation.why, |_| "");
        return Err(OpenError::Unsupported { what: format!("{}: {why}", file_name(*number)) });
    }
    let log_id = majority(entries.iter().filter_map(|(number, entry)| Some((*number, entry.header.ok()?))));
    sort_out(&mut entries, log_id, manifest);
    Ok(Listing { entries, log_id: log_id.map(Link) })
}

/// Reads the header of a file, as far as that can be done. The file is not kept open: there may be more of them than a process may have.
fn enter(disk: &dyn Disk, name: String) -> Entry {
    let unread = Violation { rule: "S4", why: "the file cannot be read" };
    let mut content = Content::default();
    let Ok(file_bytes) = content.open(disk, &name, BLOCK_BYTES_MAX.into()) else {
        return Entry { name, file_bytes: 0, header: Err(unread), is_filled: true };
    };
    let is_filled = SegmentHeader::parse(&content.bytes).is_ok();
    Entry { name, file_bytes, header: header_of(&content.bytes), is_filled }
}

/// The header at the beginning of a file. It has a checksum of its own; what is wrong with the zeros behind it does not touch it.
pub(super) fn header_of(bytes: &[u8]) -> Result<SegmentHeader, Violation> {
    let mut block = bytes[..bytes.len().min(HEADER_BYTES)].to_vec();
    block.resize(BLOCK_BYTES_MAX as usize, 0);
    SegmentHeader::parse(&block)
}

/// The log that most headers speak of; where they are even, the one named first.
fn majority(headers: impl Iterator<Item = (u64, SegmentHeader)>) -> Option<[u8; 32]> {
    let mut votes: HashMap<[u8; 32], (u64, u64)> = HashMap::new();
    for (number, header) in headers {
        votes.entry(header.log_id).or_insert((0, u64::MAX - number)).0 += 1;
    }
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(log_id, _)| log_id)
}

/// Takes away what is no segment of this log, and puts a file that has another segment's name in its own place, if that is free.
fn sort_out(entries: &mut BTreeMap<u64, Entry>, log_id: Option<[u8; 32]>, manifest: &mut Manifest) {
    let numbers: Vec<u64> = entries.keys().copied().collect();
    for number in numbers {
        let entry = &entries[&number];
        let damage = |kind, why: String| Damage { segment: entry.name.clone(), offset: 0, bytes: entry.file_bytes, kind, why };
        match entry.header {
            Ok(header) if Some(header.log_id) != log_id => {
                manifest.damage.push(damage(DamageKind::Foreign, "a segment of another log".into()));
                entries.remove(&number);
            }
            Ok(header) if header.number.get() != number => {
                let own = header.number.get();
                manifest.damage.push(damage(DamageKind::Foreign, format!("its header says that it is segment {own}")));
                let entry = entries.remove(&number).expect("it was listed");
                entries.entry(own).or_insert(entry);
            }
            Err(violation) if violation.rule == "S5" => {
                manifest.damage.push(damage(DamageKind::Unsupported, violation.why.to_owned()));
                entries.remove(&number);
            }
            _ => {}
        }
    }
}
