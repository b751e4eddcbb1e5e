//! Steps 1 and 2: the segments of a store and their headers (FORMAT.md sections 2 and 3).
//!
//! Always: gives the longest run of segments from number 1 whose headers can be used, and the fault that ends it if one does.
//! Never: creates, removes or locks a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::finding::{Finding, settle};
use crate::header::{Header, read_header};
use crate::scan::{End, Segment};
use crate::window::Window;
use crate::{Error, FaultKind};

/// The usable segments of a store, and what stopped the list.
pub(crate) struct Store {
    pub(crate) segments: Vec<Segment>,
    /// File name and fault of the first segment that is missing or cannot be used.
    pub(crate) broken: Option<(String, Finding)>,
}

/// A writer that packs faster than this reader lists is not waited for any longer.
const LIST_TRIES: u32 = 100;

/// Lists the segments and reads their headers.
pub(crate) fn open(dir: &Path) -> Result<Store, Error> {
    let mut tries = 0;
    loop {
        let mut store = open_listed(&list(dir)?)?;
        let Some(last) = store.segments.last().filter(|last| store.broken.is_none() && last.header.packed.is_some()) else {
            return Ok(store);
        };
        // S8: it was packed because a successor had come, which may be since the store was listed.
        tries += 1;
        let number = last.header.number + 1;
        if tries == LIST_TRIES || !list(dir)?.contains_key(&number) {
            let finding = Finding::new(FaultKind::Missing, "S8", 0, "the segment before it is packed, so it was there");
            store.broken = Some((segment_name(number), finding));
            return Ok(store);
        }
    }
}

fn open_listed(files: &BTreeMap<u64, PathBuf>) -> Result<Store, Error> {
    // Step 1
    let mut store = Store { segments: Vec::new(), broken: None };
    for (number, (found, path)) in (1u64..).zip(files) {
        let name = segment_name(number);
        if *found != number {
            let finding = Finding::new(FaultKind::Missing, "L1", 0, "the segment is missing, a later one is there");
            store.broken = Some((name, finding));
            break;
        }
        // Step 2
        let mut window = Window::open(path)?;
        match settle(read_header(&mut window))?.and_then(|header| usable(header, number, &store.segments)) {
            Ok(header) => store.push(path, name, header),
            Err(finding) => {
                let successor = files.get(&(number + 1)).map(|path| (number + 1, path));
                store.broken = Some((name, short_or_bad(finding, window.file_bytes(), successor)?));
                break;
            }
        }
    }
    if let (Some(last), true) = (store.segments.last_mut(), store.broken.is_some()) {
        last.end = End::Unknown;
    }
    Ok(store)
}

impl Store {
    fn push(&mut self, path: &Path, name: String, header: Header) {
        if let Some(last) = self.segments.last_mut() {
            last.end = End::Named { end: header.prev_end_offset, footer_bytes: header.prev_footer_bytes };
        }
        self.segments.push(Segment { path: path.to_path_buf(), name, header, end: End::Walked });
    }
}

/// S6, as far as it must hold before a header's word on its predecessor counts: the segment is this one, of this store.
fn usable(header: Header, number: u64, before: &[Segment]) -> Result<Header, Finding> {
    if header.number != number {
        return Err(Finding::tampered("S6", 0, format!("the header says segment {}, the file name {number}", header.number)));
    }
    if before.first().is_some_and(|first| first.header.log_id != header.log_id) {
        return Err(Finding::tampered("S6", 0, "the segment belongs to another log: log_id differs"));
    }
    Ok(header)
}

/// A header cut short is missing bytes if a successor vouches for them, else it is just not a header.
fn short_or_bad(finding: Finding, file_bytes: u64, successor: Option<(u64, &PathBuf)>) -> Result<Finding, Error> {
    let Some((number, successor)) = successor.filter(|_| finding.cut) else { return Ok(finding) };
    match settle(read_header(&mut Window::open(successor)?))? {
        Ok(header) if header.number == number => Ok(Finding::short(file_bytes, &finding.why)),
        _ => Ok(finding),
    }
}

fn list(dir: &Path) -> Result<BTreeMap<u64, PathBuf>, Error> {
    let fail = |source| Error::Io { file: dir.to_path_buf(), offset: 0, source };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if let Some(number) = entry.file_name().to_str().and_then(segment_number) {
            files.insert(number, entry.path());
        }
    }
    if files.is_empty() { Err(Error::NotAStore(dir.to_path_buf())) } else { Ok(files) }
}

/// `NNNNNNNNNN.seg`, counted from 1 (L1); any other name is none of the store's (L2).
fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() != 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number > 0)
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:010}.seg")
}

#[cfg(test)]
mod tests {
    use super::{segment_name, segment_number};

    #[test]
    fn only_ten_digits_name_a_segment() {
        assert_eq!(segment_number("0000000001.seg"), Some(1));
        assert_eq!(segment_number(&segment_name(9_999_999_999)), Some(9_999_999_999));
        for name in ["0000000000.seg", "1.seg", "00000000001.seg", "0000000001.seg.tmp", "+000000001.seg", "000000000a.seg", "LOCK"] {
            assert_eq!(segment_number(name), None, "{name}");
        }
    }
}
