//! `find`: events by what they say of themselves, wherever they are.
//!
//! Reads everything once; what is asked for first is what costs least to look at.

use std::io::Write;
use std::path::Path;

use chainring::{EventRef, Metadata, Store};

use crate::cli::Find;
use crate::output::{Answer, Failure, Out, progress};
use crate::{show, state, time};

/// The command. Finding nothing is a no.
pub(crate) fn run(path: &Path, args: &Find, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = state::view(&store, args.as_of.as_ref())?;
    let bar = progress("find", store.stats().events, false);
    let mut found = 0;
    for (count, event) in view.events().enumerate() {
        let event = event?;
        if count % 4096 == 0 {
            bar.set_position(count as u64);
        }
        if matches(args, &event)? {
            show::show(&event, true, out)?;
            found += 1;
            if args.limit == Some(found) {
                break;
            }
        }
    }
    bar.finish_and_clear();
    out.flush()?;
    Ok(found > 0)
}

fn matches(args: &Find, event: &EventRef<'_>) -> Result<bool, Failure> {
    if !args.event_type.is_empty() && args.event_type.iter().all(|wanted| wanted != event.event_type()) {
        return Ok(false);
    }
    let recorded_ns = event.recorded_at_ns();
    if !args.occurred
        && args
            .between
            .as_ref()
            .is_some_and(|between| recorded_ns < time::to_nanoseconds(between.from) || recorded_ns > time::to_nanoseconds(between.to))
    {
        return Ok(false);
    }
    let metadata = event.metadata()?;
    let between = args.between.as_ref().filter(|_| args.occurred);
    Ok(between.is_none_or(|between| metadata.occurred_at.is_some_and(|at| (between.from..=between.to).contains(&at)))
        && is(&args.actor, metadata.actor.as_deref())
        && is(&args.correlation, metadata.correlation.as_deref())
        && args.authority.as_deref().is_none_or(|wanted| is_allowed_by(&metadata, wanted)))
}

fn is(wanted: &Option<String>, found: Option<&str>) -> bool {
    wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
}

/// Whether some authority of the event is known by this name: its stream, policy or rule.
fn is_allowed_by(metadata: &Metadata, wanted: &str) -> bool {
    let names = |authority: &chainring::AuthorityRef| {
        [&authority.stream, &authority.policy, &authority.rule].into_iter().any(|name| name.as_deref() == Some(wanted))
    };
    metadata.authority.iter().any(names)
}
