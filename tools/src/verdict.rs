//! What a verifier says of a store: the engine's, or the independent reader, which shares no code with it, in one form.

use std::path::Path;

use chainring::{OpenError, VerifyOptions};
use serde_json::Value;

use crate::output::Failure;

/// What one of them found.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) records: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) verified_to: Option<u64>,
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
    Ok(Verdict { records: report.records, events: report.events, bytes: report.bytes, verified_to, fault })
}

/// Asks the independent reader.
pub(crate) fn by_reader(store: &Path) -> Result<Verdict, Failure> {
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
    Ok(Verdict { records: report.records, events: report.events, bytes: report.bytes, verified_to: report.verified_to, fault })
}
