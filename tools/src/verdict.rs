//! What a verifier says of a store: the engine's, or the independent reader, which shares no code with it, in one form.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use chainring::{Link, OpenError, Remembered, VerifyOptions};
use serde_json::Value;

use crate::output::Failure;

/// What one of them found.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) records: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) verified_to: Option<u64>,
    /// Records before the first that was looked at.
    pub(crate) since: u64,
    /// Root over everything, where everything holds and the verifier says it.
    pub(crate) root: Option<[u8; 32]>,
    pub(crate) fault: Option<Fault>,
}

/// The first place that is not as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    pub(crate) rule: &'static str,
    pub(crate) segment: String,
    pub(crate) offset: u64,
    pub(crate) position: Option<u64>,
    pub(crate) stream: Option<String>,
    pub(crate) why: String,
}

impl Fault {
    /// Its members, as `verify --json` has them, into an object that says the rest; `why` in the words of the one who tells.
    pub(crate) fn put_into(&self, object: &mut Value, why: &str) {
        object["fault"] = self.kind.as_str().into();
        object["segment"] = self.segment.as_str().into();
        object["offset"] = self.offset.into();
        object["position"] = self.position.into();
        object["stream"] = self.stream.as_deref().into();
        object["why"] = why.into();
    }
}

/// Asks the engine.
pub(crate) fn by_engine(store: &Path, options: &VerifyOptions<'_>) -> Result<Verdict, OpenError> {
    let report = chainring::verify(store, options)?;
    let fault = report.fault.map(|fault| Fault {
        kind: fault.kind.to_string(),
        rule: fault.rule,
        segment: fault.segment,
        offset: fault.offset,
        position: fault.position.map(|position| position.0),
        stream: fault.stream,
        why: fault.why,
    });
    let verified_to = report.verified_to.map(|position| position.0);
    let root = report.head.map(|head| head.root);
    Ok(Verdict { records: report.records, events: report.events, bytes: report.bytes, verified_to, since: report.since, root, fault })
}

/// Asks the independent reader, and holds what is remembered against the records it shows.
pub(crate) fn by_reader(store: &Path, expected: &[Remembered]) -> Result<Verdict, Failure> {
    let mut links = BTreeMap::new();
    let report = if expected.is_empty() {
        chainring_reader::verify(store, &chainring_reader::Options::default())
    } else {
        chainring_reader::walk(store, |record| {
            if expected.iter().any(|seen| seen.position.0 == record.position) {
                links.insert(record.position, Link(record.link));
            }
            ControlFlow::Continue(())
        })
    };
    let report = report.map_err(|error| Failure::Cannot(error.to_string()))?;
    let fault = report.fault.map(|fault| Fault {
        kind: fault.kind.to_string(),
        rule: fault.rule,
        segment: fault.segment,
        offset: fault.offset,
        position: fault.position,
        stream: fault.stream,
        why: fault.why,
    });
    let remembered = || expected.iter().find_map(|seen| not_held(seen, links.get(&seen.position.0).copied(), report.records));
    let fault = fault.or_else(remembered);
    let (records, events, bytes) = (report.records, report.events, report.bytes);
    Ok(Verdict { records, events, bytes, verified_to: report.verified_to, since: 0, root: None, fault })
}

/// Rule R4 for a store in which everything holds; the reader does not know it, since it is not about the store's bytes.
fn not_held(seen: &Remembered, found: Option<Link>, records: u64) -> Option<Fault> {
    let (kind, why) = seen.violation(records, found)?;
    let position = Some(seen.position.0);
    Some(Fault { kind: kind.to_string(), rule: "R4", segment: String::new(), offset: 0, position, stream: None, why })
}
