//! What the verifiers say of a store: the engine's, and the independent reader, which shares no code with it.
//!
//! They are asked one after the other and must agree on everything but their words.

use std::path::Path;

use chainring::VerifyOptions;
use serde_json::{Value, json};

use crate::output::Failure;

/// A verifier of whole stores.
type Verifier = fn(&Path) -> Result<Verdict, Failure>;

/// All of them, by the name they are told under. The words shown are the first one's.
const VERIFIERS: [(&str, Verifier); 2] = [("the engine", by_engine), ("the independent reader", by_reader)];

/// What one of them found.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) records: u64,
    pub(super) events: u64,
    pub(super) verified_to: Option<u64>,
    pub(super) fault: Option<Fault>,
}

/// The first place that is not as it should be.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: String,
    pub(super) rule: &'static str,
    pub(super) segment: String,
    pub(super) offset: u64,
    pub(super) position: Option<u64>,
    pub(super) stream: Option<String>,
    pub(super) why: String,
}

impl Verdict {
    /// For programs, as `verify` says it.
    pub(super) fn json(&self) -> Value {
        let mut object =
            json!({ "ok": self.fault.is_none(), "records": self.records, "events": self.events, "verified_to": self.verified_to });
        if let Some(fault) = &self.fault {
            object["fault"] = fault.kind.as_str().into();
            object["segment"] = fault.segment.as_str().into();
            object["offset"] = fault.offset.into();
            object["position"] = fault.position.into();
            object["stream"] = fault.stream.as_deref().into();
            object["why"] = fault.why.as_str().into();
        }
        object
    }

    /// All that two verifiers must agree on.
    fn facts(&self) -> impl PartialEq {
        let fault = self.fault.clone().map(|fault| (fault.kind, fault.rule, fault.segment, fault.offset, fault.position, fault.stream));
        (self.records, self.events, self.verified_to, fault)
    }
}

/// Who is asked, in words.
pub(super) fn verifiers() -> String {
    VERIFIERS.map(|(name, _)| name).join(" and ")
}

/// Asks every verifier about a store.
pub(super) fn judge(store: &Path) -> Result<Verdict, Failure> {
    let [(_, first), others @ ..] = VERIFIERS;
    agreed(first(store)?, &others, store)
}

/// The verdict, if the others come to the same.
fn agreed(verdict: Verdict, others: &[(&str, Verifier)], store: &Path) -> Result<Verdict, Failure> {
    for (name, verifier) in others {
        let second = verifier(store)?;
        if second.facts() != verdict.facts() {
            return Err(Failure::No(format!("the verifiers disagree on {}: {verdict:?}, but {name} finds {second:?}", store.display())));
        }
    }
    Ok(verdict)
}

fn by_engine(store: &Path) -> Result<Verdict, Failure> {
    let report = chainring::verify(store, &VerifyOptions::default())?;
    let fault = report.fault.map(|fault| Fault {
        kind: fault.kind.to_string(),
        rule: fault.rule,
        segment: fault.segment,
        offset: fault.offset,
        position: fault.position.map(|position| position.0),
        stream: fault.stream,
        why: fault.why,
    });
    Ok(Verdict { records: report.records, events: report.events, verified_to: report.verified_to.map(|position| position.0), fault })
}

fn by_reader(store: &Path) -> Result<Verdict, Failure> {
    let report =
        chainring_reader::verify(store, &chainring_reader::Options::default()).map_err(|error| Failure::Cannot(error.to_string()))?;
    let fault = report.fault.map(|fault| Fault {
        kind: fault.kind.to_string(),
        rule: fault.rule,
        segment: fault.segment,
        offset: fault.offset,
        position: fault.position,
        stream: fault.stream,
        why: fault.why,
    });
    Ok(Verdict { records: report.records, events: report.events, verified_to: report.verified_to, fault })
}

#[cfg(test)]
mod tests {
    use chainring::{Event, Log};

    use super::*;

    fn contrary(store: &Path) -> Result<Verdict, Failure> {
        Ok(Verdict { events: 7, ..by_engine(store)? })
    }

    #[test]
    fn verifiers_must_agree() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path()).unwrap();
        log.append(Event::new("s", "E")).unwrap();
        log.close().unwrap();
        let verdict = judge(directory.path()).unwrap();
        assert_eq!((verdict.records, verdict.events, verdict.verified_to), (2, 1, Some(1)));
        assert_eq!(verdict.json(), json!({ "ok": true, "records": 2, "events": 1, "verified_to": 1 }));
        match agreed(verdict, &[("the contrary one", contrary)], directory.path()) {
            Err(Failure::No(why)) => assert!(why.contains("the contrary one"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(judge(&directory.path().join("nowhere")), Err(Failure::Cannot(_))));
    }
}
