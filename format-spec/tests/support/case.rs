//! A golden case: the files of a store, and what a verifier must say about them.

use std::collections::BTreeMap;

use chainring_format::frame::KIND_EVENT;
use chainring_format::segment::file_name;
use serde_json::json;

use super::store::Store;

/// The first place of a store that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `corrupt`, `tampered`, `torn` or `missing` (FORMAT.md section 9).
    pub(crate) kind: &'static str,
    /// Rule of FORMAT.md; `R` for the verdict over a torn tail.
    pub(crate) rule: &'static str,
    pub(crate) segment: String,
    pub(crate) offset: u64,
    pub(crate) position: Option<u64>,
}

/// What a verifier says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Records before the first fault.
    pub(crate) records: u64,
    pub(crate) fault: Option<Fault>,
}

/// One golden store.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) why: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) verdict: Verdict,
    /// Events among the records of the verdict.
    pub(crate) events: u64,
}

impl Case {
    /// A store in which everything holds.
    pub(crate) fn valid(store: &Store, why: &str) -> Case {
        Case::new(store, why, store.next_position(), None)
    }

    fn new(store: &Store, why: &str, records: u64, fault: Option<Fault>) -> Case {
        let events = store.kinds.iter().take(records as usize).filter(|&&kind| kind == KIND_EVENT).count() as u64;
        Case { name: store.name.clone(), why: why.to_owned(), files: store.files(), verdict: Verdict { records, fault }, events }
    }

    /// A store whose frame at `position` does not hold; everything before it does.
    pub(crate) fn at_frame(store: &Store, position: u64, kind: &'static str, rule: &'static str, why: &str) -> Case {
        let place = store.frames[position as usize];
        let (segment, offset) = (file_name(place.segment as u64 + 1), place.offset as u64);
        Case::new(store, why, position, Some(Fault { kind, rule, segment, offset, position: Some(position) }))
    }

    /// A store whose commit `index` has a trailer that does not hold; its frames do.
    pub(crate) fn at_trailer(store: &Store, index: usize, kind: &'static str, rule: &'static str, why: &str) -> Case {
        let commit = store.commits[index];
        let records = store.frames.iter().filter(|f| (f.segment, f.offset) < (commit.segment, commit.offset + commit.bytes)).count();
        let segment = file_name(commit.segment as u64 + 1);
        let offset = store.trailer_block(index);
        Case::new(store, why, records as u64, Some(Fault { kind, rule, segment, offset, position: None }))
    }

    /// A store that does not hold at another place; `records` stand before it.
    pub(crate) fn at(store: &Store, records: u64, place: (usize, usize), kind: &'static str, rule: &'static str, why: &str) -> Case {
        let fault = Fault { kind, rule, segment: file_name(place.0 as u64 + 1), offset: place.1 as u64, position: None };
        Case::new(store, why, records, Some(fault))
    }

    /// The files of the case, under its own name.
    pub(crate) fn golden(&self) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        let stored = self.files.iter().map(|(name, bytes)| (format!("{}/store/{name}", self.name), bytes.clone()));
        stored.chain([(format!("{}/expect.json", self.name), self.expectation().into_bytes())])
    }

    /// `expect.json`.
    fn expectation(&self) -> String {
        let Verdict { records, fault } = &self.verdict;
        let fault = fault.as_ref();
        let fields = [
            ("why", json!(self.why)),
            ("ok", json!(fault.is_none())),
            ("records", json!(records)),
            ("events", json!(self.events)),
            ("verified_to", json!(records.checked_sub(1))),
            ("fault", json!(fault.map(|fault| fault.kind))),
            ("rule", json!(fault.map(|fault| fault.rule))),
            ("segment", json!(fault.map(|fault| &fault.segment))),
            ("offset", json!(fault.map(|fault| fault.offset))),
            ("position", json!(fault.and_then(|fault| fault.position))),
        ];
        let lines: Vec<String> = fields.iter().map(|(key, value)| format!("  \"{key}\": {value}")).collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }
}
