//! `chainring-verify FILE --key VKEY` checks a receipt or a bundle without any store (TRUST.md section 7) and prints one JSON object.
//!
//! Exit codes: 0 it holds, 1 it does not, 2 wrong usage, 3 something could not be read.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use chainring_reader::json::Object;
use chainring_reader::{Checkpoint, Claim, Policy, Proved, Trust, VerifierKey, check};

const USAGE: &str = "usage: chainring-verify FILE [--key VKEY | --policy FILE] [--saved-checkpoint FILE]";

/// Why there is no verdict.
enum Failure {
    Usage(String),
    Cannot(String),
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(is_right) => ExitCode::from(u8::from(!is_right)),
        Err(Failure::Usage(why)) => {
            eprintln!("chainring-verify: {why}\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Failure::Cannot(why)) => {
            eprintln!("chainring-verify: {why}");
            ExitCode::from(3)
        }
    }
}

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(Path::new(path)).map_err(|error| Failure::Cannot(format!("{path}: {error}")))
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<bool, Failure> {
    let (mut file, mut trust) = (None, Trust::default());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| Failure::Usage(format!("{argument} needs a value")));
        let policy = match argument.as_str() {
            "--key" => VerifierKey::parse(&value()?).map(Policy::of_key).map_err(Failure::Usage)?,
            "--policy" => Policy::parse(&read(&value()?)?).map_err(Failure::Cannot)?,
            "--saved-checkpoint" => {
                trust.saved = Some(Checkpoint::parse(&read(&value()?)?).map_err(Failure::Cannot)?);
                continue;
            }
            _ if file.is_none() && !argument.starts_with("--") => {
                file = Some(argument);
                continue;
            }
            _ => return Err(Failure::Usage(format!("what is {argument}?"))),
        };
        if trust.policy.replace(policy).is_some() {
            return Err(Failure::Usage("one key or one policy".to_owned()));
        }
    }
    let file = file.ok_or_else(|| Failure::Usage("which file?".to_owned()))?;
    let text = std::fs::read(&file).map_err(|error| Failure::Cannot(format!("{file}: {error}")))?;
    let checked = match String::from_utf8(text) {
        Ok(text) => check(&text, &trust),
        Err(_) => Err(chainring_reader::Refused { step: 1, why: "not text".to_owned() }),
    };
    let is_right = checked.is_ok();
    let object = match checked {
        Ok(proved) => told(&proved),
        Err(refused) => Object::new().boolean("ok", false).number("step", Some(refused.step.into())).text("why", Some(&refused.why)),
    };
    println!("{}", object.finish());
    Ok(is_right)
}

fn told(proved: &Proved) -> Object {
    let events = proved.events.iter().map(|event| {
        Object::new()
            .number("version", Some(event.version))
            .hex("event_id", Some(&event.event_id))
            .number("recorded_at_ns", Some(event.recorded_at_ns))
            .hex("metadata", Some(&event.metadata))
            .hex("body", event.body.as_deref())
            .hex("link", Some(&event.link))
    });
    Object::new()
        .boolean("ok", true)
        .text("claim", Some(proved.claim.name()))
        .hex("log_id", (proved.claim != Claim::Record).then_some(&proved.log_id[..]))
        .text("origin", Some(&proved.origin))
        .text("checkpoint_name", Some(&proved.checkpoint.name))
        .number("size", Some(proved.checkpoint.size))
        .hex("root", Some(&proved.checkpoint.root))
        .hex("key", proved.key.as_ref().map(VerifierKey::public_key).as_ref().map(|key| &key[..]))
        .text("stream", proved.stream.as_deref())
        .number("position", proved.position)
        .list("events", events)
        .number("complete_to", proved.complete_to)
        .number("sealed_at_ns", proved.sealed_at_ns)
}
