//! After the last chapter: somebody who has never seen the store, and trusts nobody but a key, checks that the order was cancelled, and by whom.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use chainring::{KeyFile, Log, note_name};
use chainring_reader::{Policy, Trust, VerifierKey, check};

use super::expect;
use super::story::Mistake;
use crate::output::{BAD, Failure, GOOD, STRONG, sized};

/// What the stranger is given.
#[derive(Debug)]
pub(super) struct Handed {
    key: String,
    bundle: String,
}

/// Seals the log, and proves the cancellation.
pub(super) fn hand_out(log: &Log, root: &Path, mistake: &Mistake) -> Result<Handed, Failure> {
    let path = root.join("key");
    let key = KeyFile::generate(&path, &note_name(log.origin(), &log.log_id())).map_err(|error| super::cannot("write", &path, &error))?;
    let verifier_key = key.verifier_key();
    log.sealer(Arc::new(key))?.seal()?;
    let position = log.locate(mistake.cancelled)?.expect("it was just told");
    let bundle = log.prover()?.event(position, None)?;
    Ok(Handed { key: verifier_key, bundle })
}

/// The stranger checks it, and then what somebody makes of it who would rather have been another.
pub(super) fn told(handed: &Handed, out: &mut dyn Write) -> Result<(), Failure> {
    let trust = Trust { policy: Some(Policy::of_key(VerifierKey::parse(&handed.key).map_err(Failure::No)?)), saved: None };
    let proved = check(&handed.bundle, &trust).map_err(|refused| Failure::No(refused.to_string()))?;
    let event = proved.events.first().expect("a bundle of an event has one");
    writeln!(out, "\n{STRONG}6  A stranger, without the store: a file of {} and a key{STRONG:#}", sized(handed.bundle.len() as u64))?;
    writeln!(
        out,
        "   {GOOD}holds{GOOD:#}       {} has version {} of {}, signed over {} records",
        proved.checkpoint.name,
        event.version,
        proved.stream.as_deref().unwrap_or_default(),
        proved.checkpoint.size
    )?;
    // The same file with other metadata: another actor, say.
    let forged: String = handed
        .bundle
        .split_inclusive('\n')
        .map(
            |line| if let Some(rest) = line.strip_prefix("metadata ") { format!("metadata {}{rest}", &rest[..4]) } else { line.to_owned() },
        )
        .collect();
    let refused = check(&forged, &trust).err();
    expect(refused.is_some(), "a forged bundle is accepted")?;
    let refused = refused.expect("it was refused");
    writeln!(out, "   {BAD}refused{BAD:#}     with another actor in it: {} (step {} of TRUST.md)", refused.why, refused.step)?;
    Ok(())
}
