//! Both verifiers, asked one after the other: they must agree on everything but their words.

use std::path::Path;

use chainring::VerifyOptions;
use serde_json::{Value, json};

use crate::output::Failure;
use crate::verdict::{self, Verdict};

/// A verifier of whole stores.
type Verifier = fn(&Path) -> Result<Verdict, Failure>;

/// All of them, by the name they are told under. The words shown are the first one's.
const VERIFIERS: [(&str, Verifier); 2] = [("the engine", by_engine), ("the independent reader", by_reader)];

/// For programs, as `verify` says it.
pub(super) fn json(verdict: &Verdict) -> Value {
    let mut object = json!({
        "ok": verdict.fault.is_none(),
        "records": verdict.records,
        "events": verdict.events,
        "verified_to": verdict.verified_to,
    });
    if let Some(fault) = &verdict.fault {
        fault.put_into(&mut object, &fault.why);
    }
    object
}

/// All that two verifiers must agree on.
fn facts(verdict: &Verdict) -> impl PartialEq {
    let fault = verdict.fault.clone().map(|fault| (fault.kind, fault.rule, fault.segment, fault.offset, fault.position, fault.stream));
    (verdict.records, verdict.events, verdict.verified_to, fault)
}

fn by_engine(store: &Path) -> Result<Verdict, Failure> {
    Ok(verdict::by_engine(store, &VerifyOptions::default())?)
}

fn by_reader(store: &Path) -> Result<Verdict, Failure> {
    verdict::by_reader(store, &[])
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
        if facts(&second) != facts(&verdict) {
            return Err(Failure::No(format!("the verifiers disagree on {}: {verdict:?}, but {name} finds {second:?}", store.display())));
        }
    }
    Ok(verdict)
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
        assert_eq!(json(&verdict), json!({ "ok": true, "records": 2, "events": 1, "verified_to": 1 }));
        match agreed(verdict, &[("the contrary one", contrary)], directory.path()) {
            Err(Failure::No(why)) => assert!(why.contains("the contrary one"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(judge(&directory.path().join("nowhere")), Err(Failure::Cannot(_))));
    }
}
