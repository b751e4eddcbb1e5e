//! The story as the log tells it afterwards. Everything shown is read back; what must be so is checked before it is shown.

use std::collections::HashSet;
use std::io::Write;

use anstyle::Style;
use chainring::{AsOf, AuthorityRef, Conflict, EventId, Log, Position, ReadRef, Reversibility, Timestamp, Version, View};

use super::author::Refusal;
use super::expect;
use super::folded::Folded;
use super::story::{Mistake, ORDER, PAYMENT, Remedy};
use super::told::Told;
use crate::form::members::hex;
use crate::output::{BAD, DIM, Failure, GOOD, STRONG};
use crate::time;

fn label(text: &str) -> String {
    format!("   {DIM}{text:<13}{DIM:#}")
}

fn heading(out: &mut dyn Write, number: u8, text: &str) -> Result<(), Failure> {
    // The first stands right under the title.
    let space = if number > 1 { "\n" } else { "" };
    Ok(writeln!(out, "{space}{STRONG}{number}  {text}{STRONG:#}")?)
}

/// The title: what went wrong, and when.
pub(super) fn title(log: &Log, mistake: &Mistake, out: &mut dyn Write) -> Result<(), Failure> {
    let view = log.latest();
    let cancelled = Told::by_id(&view, log, mistake.cancelled)?;
    let (clock, actor) = (cancelled.time_of_day(), cancelled.metadata.actor.as_deref().unwrap_or_default());
    let (hour, minute) = clock.split_once(':').map(|(hour, rest)| (hour.parse::<u32>().unwrap_or_default(), rest)).unwrap_or_default();
    expect(hour > 12 && minute.starts_with("14:"), "the order is cancelled at another time")?;
    let clock = format!("{}:{} pm", hour - 12, &minute[..2]);
    writeln!(out, "{STRONG}At {clock} {actor} cancels {}. Nobody asked for that.{STRONG:#}", cancelled.stream)?;
    Ok(())
}

/// The run up to now, without the tools' steps that changed nothing, and an append that was refused.
pub(super) fn what_happened(log: &Log, mistake: &Mistake, out: &mut dyn Write) -> Result<(), Failure> {
    let view = log.latest();
    let stats = log.stats();
    let text =
        format!("What happened: {} events in {} streams, each chained and on disk before its append returned", stats.events, stats.streams);
    heading(out, 1, &text)?;
    let told = view.events().map(|event| Told::new(&event?)).collect::<Result<Vec<_>, Failure>>()?;
    // Tools that only look make a chat long and change nothing.
    let (left_out, shown): (Vec<_>, Vec<_>) = told.iter().partition(|told| told.metadata.reversibility == Some(Reversibility::ReadOnly));
    let header = format!("{:<8}  {:<24} {:<18} who, or what ({} read-only left out)", "time", "stream, version", "event", left_out.len());
    writeln!(out, "  {DIM}pos  {header}{DIM:#}")?;
    for told in shown {
        let (place, at, gist) = (format!("{} v{}", told.stream, told.version), told.time_of_day(), told.gist());
        let style = if [mistake.cancelled, mistake.refunded].contains(&told.id) { BAD } else { Style::new() };
        let what = format!("{style}{:<18}{style:#}", told.event_type());
        writeln!(out, "  {}{DIM}{:>2}  {at}{DIM:#}  {place:<24} {what} {gist}", told.batch_mark(), told.position)?;
    }
    let Refusal { actor, event_type, conflicts } = &mistake.stale;
    let found: Vec<_> = conflicts.iter().map(|conflict| (conflict.stream.as_str(), conflict.found)).collect();
    expect(found == [(PAYMENT, Version(2)), (ORDER, Version(3))], "the stale append is refused for other reasons")?;
    writeln!(out, "{}{event_type} by {actor}, which had read both earlier; nothing was appended:", label("refused"))?;
    conflicts.iter().try_for_each(|conflict| conflict_line(conflict, out))
}

fn conflict_line(conflict: &Conflict, out: &mut dyn Write) -> Result<(), Failure> {
    Ok(writeln!(out, "{}{BAD}{conflict}{BAD:#}", label(""))?)
}

/// The order as of before, within and after the batch.
pub(super) fn as_of_any_moment(log: &Log, mistake: &Mistake, out: &mut dyn Write) -> Result<(), Failure> {
    let latest = log.latest();
    let cancelled = Told::by_id(&latest, log, mistake.cancelled)?;
    let before = cancelled.metadata.occurred_at.map(|time| Timestamp { seconds: time.seconds - 1, ..time });
    let before = before.ok_or_else(|| Failure::No("the cancellation has no claimed time".into()))?;
    heading(out, 2, "The order, as of any moment: by place in the log, claimed time, event")?;
    writeln!(out, "   {DIM}{:<44}{ORDER:<20}{PAYMENT}{DIM:#}", "as of")?;
    let last = latest.end().0 - 1;
    let rows = [
        (format!("position:{}", cancelled.position - 1), AsOf::Position(Position(cancelled.position - 1)), [2, 1], ""),
        (format!("occurred:{}", time::render(before)), AsOf::OccurredAt(before), [2, 1], ""),
        (format!("event:{}", mistake.cancelled), AsOf::Event(mistake.cancelled), [3, 1], "   (inside the batch)"),
        (format!("position:{last}"), AsOf::Position(Position(last)), [3, 2], ""),
    ];
    for (name, moment, versions, remark) in rows {
        let view = log.at(moment)?;
        let (order, payment) = (Folded::of(&view, ORDER)?, Folded::of(&view, PAYMENT)?);
        expect([order.version, payment.version] == versions, "a view shows other versions")?;
        writeln!(out, "   {name:<44}{:<20}{}{DIM}{remark}{DIM:#}", shown(&order), shown(&payment))?;
    }
    Ok(())
}

fn shown(folded: &Folded) -> String {
    let amount = folded.field("refunded").map(|amount| format!(" {amount}")).unwrap_or_default();
    format!("v{} {}{amount}", folded.version, folded.field("status").unwrap_or_default())
}

/// Who acted, by whose leave, knowing what; and what has been built on it since.
pub(super) fn why(log: &Log, mistake: &Mistake, out: &mut dyn Write) -> Result<(), Failure> {
    let latest = log.latest();
    let cancelled = Told::by_id(&latest, log, mistake.cancelled)?;
    let before = log.at(AsOf::Position(Position(cancelled.position - 1)))?;
    heading(out, 3, "Why: what the cancellation itself has on record")?;
    let basis = cancelled.metadata.attributes.iter().find(|(name, _)| name == "on_behalf_of_basis");
    let basis = if let Some((_, chainring::Value::Text(basis))) = basis { format!(" (as {basis})") } else { String::new() };
    let run = cancelled.metadata.correlation.as_deref().unwrap_or_default();
    writeln!(out, "{}{}{basis}, in {run}", label("acted"), cancelled.who())?;
    writeln!(out, "{}{}", label("caused by"), causes(log, &latest, &cancelled)?.join(", caused by "))?;
    let authority = cancelled.metadata.authority.first().ok_or_else(|| Failure::No("the cancellation cites no authority".into()))?;
    allowed_by(log, &latest, authority, out)?;
    outdated(&before, authority, out)?;
    had_read(log, &before, cancelled.metadata.reads.as_deref().unwrap_or_default(), out)?;

    let required: Vec<_> = mistake.gated.conflicts.iter().map(|conflict| (Some(&conflict.stream), conflict.found)).collect();
    expect(required == [(authority.stream.as_ref(), Version(2))], "the batch is refused for other reasons when its reads are required")?;
    writeln!(out, "{}the same batch, on condition that all it had read is so still, is refused:", label("with a gate"))?;
    mistake.gated.conflicts.iter().try_for_each(|conflict| conflict_line(conflict, out))?;

    let after = built_on(&latest, &[mistake.cancelled, mistake.refunded])?;
    expect(after.len() == 4, "something else came of the cancellation")?;
    writeln!(out, "{}{}", label("built on it"), after.join(", "))?;
    Ok(())
}

/// What caused an event, and what caused that, back to the first cause.
fn causes(log: &Log, view: &View, told: &Told<'_>) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut cause = told.metadata.causation;
    while let Some(id) = cause {
        let told = Told::by_id(view, log, id)?;
        let class = told.metadata.class.map(|class| format!("{class:?}").to_lowercase()).unwrap_or_default();
        found.push(format!("{} {} ({class})", told.position, told.event_type()));
        cause = told.metadata.causation;
    }
    Ok(found)
}

/// The authority and what confirmed it, with the words of both.
fn allowed_by(log: &Log, latest: &View, authority: &AuthorityRef, out: &mut dyn Write) -> Result<(), Failure> {
    let (stream, rule) = (authority.stream.as_deref().unwrap_or_default(), authority.rule.as_deref().unwrap_or_default());
    let version = authority.version.unwrap_or_default();
    let published = Told::by_id(latest, log, authority.event.unwrap_or_default())?;
    expect((published.stream, published.version) == (stream, version), "the authority cites another event than it names")?;
    let policy = Folded::of(&log.at(AsOf::Version(Version(version)))?, stream)?;
    expect(policy.field("sha256") == authority.digest.as_deref().map(hex), "the authority cites another text than was published")?;
    writeln!(out, "{}{stream} v{version} {rule}: {:?}", label("allowed by"), rule_of(&policy, rule)?)?;
    let confirmed = Told::by_id(latest, log, authority.confirmed_by.unwrap_or_default())?;
    let (position, who, gist) = (confirmed.position, confirmed.who(), confirmed.gist());
    writeln!(out, "{}{who}, position {position}: {gist}", label("confirmed by"))?;
    Ok(())
}

/// The text of a rule: the line that starts with its name.
fn rule_of(policy: &Folded, rule: &str) -> Result<String, Failure> {
    let text = policy.field("text").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(rule)?.strip_prefix(": "));
    line.map(str::to_owned).ok_or_else(|| Failure::No(format!("the policy has no rule {rule}")))
}

/// The version that was in force already.
fn outdated(before: &View, authority: &AuthorityRef, out: &mut dyn Write) -> Result<(), Failure> {
    let stream = authority.stream.as_deref().unwrap_or_default();
    let in_force = Folded::of(before, stream)?;
    expect(Some(in_force.version) > authority.version, "the authority is the one in force")?;
    let newest = before.stream(stream)?.and_then(|stream| stream.backward().next());
    let newest = Told::new(&newest.ok_or_else(|| Failure::No(format!("there is no stream {stream}")))??)?;
    let text = rule_of(&in_force, authority.rule.as_deref().unwrap_or_default())?;
    writeln!(out, "   {BAD}{:<13}{BAD:#}v{} was in force since {}: {text:?}", "outdated", newest.version, newest.time_of_day())?;
    Ok(())
}

/// What was read, whether it was so still, and that the states on record are those the log gives for these versions.
fn had_read(log: &Log, before: &View, reads: &[ReadRef], out: &mut dyn Write) -> Result<(), Failure> {
    let (mut fresh, mut stale) = (Vec::new(), Vec::new());
    for read in reads {
        let then = Folded::of(&log.at(AsOf::Version(Version(read.version)))?, &read.stream)?;
        expect(read.state == Some(then.digest()), "a state on record is not the state of that version")?;
        let head = Folded::of(before, &read.stream)?.version;
        let seen = format!("{}@{}", read.stream, read.version);
        if head == read.version { fresh.push(seen) } else { stale.push(format!("{seen}, {BAD}stale{BAD:#}: it was at {head}")) }
    }
    expect((fresh.len(), stale.len()) == (3, 1), "other reads are stale")?;
    writeln!(out, "{}{}, fresh", label("had read"), fresh.join(", "))?;
    writeln!(out, "{}{} {DIM}(digests of all {} states hold){DIM:#}", label(""), stale.join(", "), reads.len())?;
    Ok(())
}

/// Later events that these caused, or whose author had read what these wrote, or that follow from such.
fn built_on(view: &View, roots: &[EventId]) -> Result<Vec<String>, Failure> {
    let mut ids: HashSet<EventId> = HashSet::new();
    let mut written: Vec<(String, u64)> = Vec::new();
    let mut found = Vec::new();
    for event in view.events() {
        let event = event?;
        let told = Told::new(&event)?;
        let is_root = roots.contains(&event.event_id());
        let read = |read: &ReadRef| written.iter().any(|(stream, version)| read.stream == *stream && read.version >= *version);
        let follows = told.metadata.causation.is_some_and(|cause| ids.contains(&cause)) || told.metadata.reads.iter().flatten().any(read);
        if is_root || follows {
            ids.insert(event.event_id());
            written.push((told.stream.to_owned(), told.version));
            if !is_root {
                found.push(format!("{} {}", told.position, told.event_type()));
            }
        }
    }
    Ok(found)
}

fn undo_word(reversibility: Reversibility) -> &'static str {
    match reversibility {
        Reversibility::ReadOnly => "changed nothing",
        Reversibility::Reversible => "reversible",
        Reversibility::ExternallyReversible => "externally reversible",
        Reversibility::Irreversible => "irreversible",
    }
}

/// The compensation, by whom and by which policy, and that the states are again what they were.
pub(super) fn taken_back(log: &Log, mistake: &Mistake, remedy: &Remedy, out: &mut dyn Write) -> Result<(), Failure> {
    let latest = log.latest();
    let reinstated = Told::by_id(&latest, log, remedy.reinstated)?;
    heading(out, 4, &format!("Taken back at {} by {}, in one atomic batch", reinstated.time_of_day(), reinstated.who()))?;
    for id in [remedy.reinstated, remedy.reversed] {
        let told = Told::by_id(&latest, log, id)?;
        let target = Told::by_id(&latest, log, told.metadata.compensates.unwrap_or_default())?;
        let place = format!("{} v{}", told.stream, told.version);
        let (position, what) = (told.position, told.event_type());
        let (taken_back, how) = (target.event_type(), target.metadata.reversibility.map(undo_word).unwrap_or_default());
        writeln!(out, "   {GOOD}{position}  {what:<17}{GOOD:#} {place:<20} compensates {} {taken_back} ({how})", target.position)?;
    }
    let authority = reinstated.metadata.authority.first().ok_or_else(|| Failure::No("the compensation cites no authority".into()))?;
    allowed_by(log, &latest, authority, out)?;
    let cancelled = Told::by_id(&latest, log, mistake.cancelled)?;
    let before = log.at(AsOf::Position(Position(cancelled.position - 1)))?;
    let mut states = Vec::new();
    for stream in [ORDER, PAYMENT] {
        let (then, now) = (Folded::of(&before, stream)?, Folded::of(&latest, stream)?);
        expect(then.state == now.state, "the compensation leaves another state than was there before")?;
        states.push(format!("{stream} {}", shown(&now)));
    }
    writeln!(out, "{}{}: states as at position {}", label("now"), states.join(", "), cancelled.position - 1)?;
    Ok(())
}
