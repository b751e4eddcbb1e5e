//! `prove`: writes a proof that holds without the log.

use std::io::Write;
use std::path::Path;

use chainring::Store;
use serde_json::json;

use super::{cannot, check};
use crate::cli::Prove;
use crate::form;
use crate::output::{Answer, Failure, GOOD, Out, sized};

/// The command.
pub(crate) fn run(path: &Path, args: &Prove, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let saved = args.saved_checkpoint.as_deref().map(check::saved).transpose()?.map(|saved| saved.size);
    let prover = store.prover()?;
    let view = store.latest();
    let event = if args.absent { None } else { view.find_event(form::event_id(&args.what))? };
    let is_stream = event.is_none() && view.stream(&args.what)?.is_some();
    let (claim, proof) = match event {
        Some(event) if args.receipt => ("record", prover.receipt(event.position())?),
        Some(event) => ("event", prover.event(event.position(), saved)?),
        None if args.receipt => return Err(Failure::No(format!("no event has the id {:?}", args.what))),
        None if is_stream && args.absent => return Err(Failure::No(format!("there is a stream {:?}", args.what))),
        None if is_stream => ("stream", prover.stream(&args.what, saved)?),
        None if args.absent => ("absent", prover.stream(&args.what, saved)?),
        None => return Err(Failure::No(format!("{:?} is neither an event nor a stream; --absent proves that", args.what))),
    };
    std::fs::write(&args.out, &proof).map_err(cannot(&args.out))?;
    if out.json {
        let object = json!({ "ok": true, "claim": claim, "bytes": proof.len(), "size": prover.head().size });
        writeln!(out, "{object}")?;
    } else {
        let proved = out.paint(GOOD, "proved").into_owned();
        let (bytes, size) = (sized(proof.len() as u64), prover.head().size);
        writeln!(out, "{proved} under the checkpoint over {size} records: {}, {bytes}", args.out.display())?;
    }
    out.flush()?;
    Ok(true)
}
