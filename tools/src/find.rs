//! `find`: events by what they say of themselves, wherever they are.
//!
//! The index is asked for what is likely to be named least often; where it cannot be asked, everything is read once.

use std::io::Write;
use std::path::Path;

use chainring::{AsOf, By, EventRef, Metadata, Position, ReadError, Store};

use crate::cli::Find;
use crate::output::{Answer, Failure, Out, progress};
use crate::{show, state, time};

/// The command. Finding nothing is a no.
pub(crate) fn run(path: &Path, args: &Find, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let view = state::view(&store, args.as_of.as_ref())?;
    // Recorded times never run backwards: they bound positions.
    let (mut from, mut to) = (Position(0), view.end());
    if let Some(between) = args.between.as_ref().filter(|_| !args.occurred) {
        let before = time::to_nanoseconds(between.from).checked_sub(1);
        from = before.map_or(Ok(Position(0)), |before| store.at(AsOf::RecordedAt(before)).map(|view| view.end()))?;
        to = to.min(store.at(AsOf::RecordedAt(time::to_nanoseconds(between.to)))?.end());
    }
    let claimed = args.between.as_ref().filter(|_| args.occurred);
    let found = match (narrowest(args), claimed) {
        (Some(by), _) => print(view.events_by(by, from), to, args, out)?,
        (None, Some(between)) => print(view.events_occurred(between.from..=between.to), to, args, out)?,
        (None, None) => print(view.events_in(from..=Position(to.0.saturating_sub(1))), to, args, out)?,
    };
    out.flush()?;
    Ok(found > 0)
}

/// What the index is asked for: of what was asked, that which fewest events are likely to name.
fn narrowest(args: &Find) -> Option<By<'_>> {
    let event_type = match &args.event_type[..] {
        [event_type] => Some(By::Type(event_type)),
        _ => None,
    };
    let correlation = args.correlation.as_deref().map(By::Correlation);
    correlation.or(args.authority.as_deref().map(By::Authority)).or(args.actor.as_deref().map(By::Actor)).or(event_type)
}

fn print<'a>(
    events: impl Iterator<Item = Result<EventRef<'a>, ReadError>>,
    to: Position,
    args: &Find,
    out: &mut Out,
) -> Result<usize, Failure> {
    let bar = progress("find", to.0, false);
    let mut found = 0;
    for (count, event) in events.enumerate() {
        let event = event?;
        if event.position() >= to {
            break;
        }
        if count % 4096 == 0 {
            bar.set_position(event.position().0);
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
    Ok(found)
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
