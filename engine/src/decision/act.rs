//! Judging an action, and doing it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chainring_format::cbor::Value;
use chainring_format::metadata::{AuthorityRef, Class, ExternalRef};
use chainring_format::{EventId, Version};

use super::action::{Action, Admission, timestamp};
use super::grant::{self, Asked};
use super::notes;
use super::{ActError, Denial, newest, note, version_of};
use crate::condition::Expected;
use crate::error::{AppendError, ReadError};
use crate::log::{Event, Log, Request};
use crate::query::{EventRef, View};
use crate::sequencer::{Brakes, EventReceipt, Facts, Grounds, Receipt, Said, has_read, say, texts};

const APPROVED: &str = "Approved";
const APPROVAL_USED: &str = "Used";
const REFUSED: &str = "Refused";

/// So long an action is looked at again because something that it rests on, such as a ceiling, was moved by others.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found of an action.
#[derive(Default)]
struct Verdict {
    /// Streams, and the versions that they must be at.
    required: BTreeMap<String, u64>,
    /// Events that keep the books, appended with it.
    notes: Vec<Event>,
    authority: Vec<AuthorityRef>,
    external: Vec<ExternalRef>,
    /// What was the first of those that are taken back.
    taken_back: HashSet<EventId>,
    denials: Vec<Denial>,
    /// Until when all of this holds.
    not_after_ns: Option<u64>,
}

impl Log {
    /// Does an action, if everything holds that it rests on, and waits until that is durable. The receipt has the action's own events first, and behind them
    /// those that keep the books of what it used.
    ///
    /// An action whose first event has an id is done once, for ever: the same again gives the same receipt, whatever holds by then.
    ///
    /// # Errors
    /// [`ActError::Denied`] with every reason; else as for every append.
    pub fn act(&self, action: &Action<'_>) -> Result<Receipt, ActError> {
        let deadline_ns = self.clock().monotonic_ns().saturating_add(PATIENCE.as_nanos() as u64);
        // Recorded time may be ahead of a clock that was put back.
        let mut recorded_ns = 0;
        loop {
            let view = self.latest();
            if let Some(receipt) = done_before(&view, action, self.report().epoch)? {
                return Ok(receipt);
            }
            let verdict = judge(&view, &self.brakes(), action, self.clock().realtime_ns().max(recorded_ns))?;
            if !verdict.denials.is_empty() {
                self.keep_attempt(action, &verdict.denials)?;
                return Err(ActError::Denied(verdict.denials));
            }
            let error = match self.append(request(action, verdict)) {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            // Something moved between the look and the turn, or the same action was done meanwhile: once that is durable it is seen.
            // Or its time was over at its turn, and now that is seen, too.
            if let AppendError::TooLate { now_ns, .. } = error {
                recorded_ns = now_ns;
            }
            let is_moved = matches!(
                error,
                AppendError::Refused(_)
                    | AppendError::Barred(_)
                    | AppendError::IdConflict { .. }
                    | AppendError::PartlyKnown { .. }
                    | AppendError::TooLate { .. }
            );
            if !is_moved || self.clock().monotonic_ns() >= deadline_ns {
                return Err(error.into());
            }
            self.sync()?;
        }
    }

    /// Approves an action, once, up to an instant. The digest is that of [`Action::digest`].
    ///
    /// # Errors
    /// [`AppendError::Refused`] if there is an approval of that name; else as for every append.
    pub fn approve(&self, name: &str, digest: [u8; 32], valid_to_ns: Option<u64>, actor: &str) -> Result<Receipt, ActError> {
        let event = note(notes::approval(name), APPROVED, |metadata| {
            metadata.actor = Some(actor.to_owned());
            metadata.class = Some(Class::Approval);
            let entries = [("digest", Some(Value::Bytes(digest.to_vec()))), ("valid_to_ns", valid_to_ns.map(Value::Uint))];
            say(metadata, "approval", entries);
        });
        Ok(self.append(event.expected(Expected::NoStream))?)
    }

    /// Appends what is made of the log as it is; made anew as long as that has moved by the append's turn.
    pub(super) fn append_to_the_newest(&self, make: impl Fn(&View) -> Result<Request, ActError>) -> Result<Receipt, ActError> {
        loop {
            match self.append(make(&self.latest())?) {
                // Once what moved it is durable it is seen.
                Err(AppendError::Refused(_)) => self.sync()?,
                done => return Ok(done?),
            }
        }
    }

    /// Notes a refusal: what was asked only as a digest, and why it was refused. The versions of the stream number the attempts.
    pub(super) fn keep_attempt(&self, action: &Action<'_>, denials: &[Denial]) -> Result<(), ActError> {
        let Some(actor) = action.actor().filter(|_| action.keeps_attempt) else { return Ok(()) };
        let reasons: Vec<String> = denials.iter().map(ToString::to_string).collect();
        let event = note(notes::attempts(actor), REFUSED, |metadata| {
            metadata.actor = Some(actor.to_owned());
            metadata.correlation = action.run.as_ref().map(|(run, _)| run.clone());
            metadata.class = Some(Class::Refusal);
            let entries = [("digest", Some(Value::Bytes(action.digest().to_vec()))), ("reasons", texts(&reasons))];
            say(metadata, "refused", entries);
        });
        self.append(event)?;
        Ok(())
    }
}

/// The receipt of an action that was done before, by the id of its first event.
fn done_before(view: &View, action: &Action<'_>, epoch: u64) -> Result<Option<Receipt>, ActError> {
    let Some(id) = action.events.first().and_then(|event| event.id) else { return Ok(None) };
    let Some(first) = view.find_event(id)? else { return Ok(None) };
    let count = first.batch().map_or(1, |(_, count)| u64::from(count));
    let behind = (1..count).map(|ahead| view.event(chainring_format::Position(first.position().0 + ahead)));
    let stored = std::iter::once(Ok(first)).chain(behind).collect::<Result<Vec<_>, _>>()?;
    for (place, event) in action.events.iter().enumerate() {
        let is_same = match stored.get(place) {
            Some(stored) => is_done_by(event, stored)?,
            None => false,
        };
        if !is_same {
            return Err(AppendError::IdConflict { id, position: first.position() }.into());
        }
    }
    let receipt = |event: &EventRef<'_>| EventReceipt { position: event.position(), version: event.version(), link: event.link() };
    let events: Vec<EventReceipt> = stored.iter().map(receipt).collect();
    Ok(Some(Receipt { events: events.into(), epoch, durability: action.durability, duplicate: true }))
}

/// Whether a stored event is the one that was asked for. What the action rested on may have been another state, which is in its metadata.
fn is_done_by(event: &Event, stored: &EventRef<'_>) -> Result<bool, ReadError> {
    let is_named = event.id.is_none_or(|id| id == stored.event_id()) && stored.stream()? == event.stream;
    let metadata = stored.metadata()?;
    let is_alike = metadata.event_type == event.metadata.event_type && metadata.actor == event.metadata.actor;
    Ok(is_named && is_alike && stored.body().is_none_or(|body| body == event.body))
}

/// Looks at everything an action rests on.
fn judge(view: &View, brakes: &Brakes, action: &Action<'_>, now_ns: u64) -> Result<Verdict, ReadError> {
    let mut verdict = Verdict::default();
    for read in &action.reads {
        verdict.require(view, &read.stream, Version(read.version))?;
    }
    verdict.look_at_expected(view, &action.events)?;
    for (read, again) in &action.externals {
        verdict.look_outside(read, again(read), now_ns);
    }
    for policy in &action.policies {
        verdict.ask(view, policy(view, &action.events), now_ns)?;
    }
    // Nothing is required of them: the sequencer looks at them itself.
    let grounds = grounds(action);
    let facts = action.events.iter().map(|event| Facts { stream: &event.stream, metadata: &event.metadata, grounds });
    verdict.denials.extend(brakes.judge(&facts.collect::<Vec<_>>()).into_iter().map(Denial::from));
    let asked = Asked { events: &action.events, amount: action.amount, now_ns };
    for (name, rule) in &action.grants {
        let allowed = grant::judge(view, name, rule.as_deref(), &asked)?;
        verdict.required.extend(allowed.required);
        verdict.holds_before(allowed.valid_to_ns);
        // Two grants of one parent use it once.
        let is_new = |event: &Event| verdict.notes.iter().all(|note| note.stream != event.stream);
        let used: Vec<Event> = allowed.used.into_iter().filter(is_new).collect();
        verdict.notes.extend(used);
        verdict.authority.push(allowed.reference);
        verdict.denials.extend(allowed.denials);
    }
    if let Some(name) = &action.approval {
        verdict.look_at_approval(view, name, action, now_ns)?;
    }
    if let Some((run, epoch)) = &action.run {
        let stream = notes::run(run);
        let found = version_of(view, &stream)?;
        if found != *epoch {
            verdict.denials.push(Denial::Fenced { run: run.clone(), epoch: found });
        }
        verdict.required.insert(stream, found);
    }
    for event in &action.events {
        if let Some(target) = event.metadata.compensates {
            verdict.look_at_compensation(view, target, event)?;
        }
    }
    Ok(verdict)
}

impl Verdict {
    /// It holds up to an instant, without that.
    fn holds_before(&mut self, valid_to_ns: Option<u64>) {
        let Some(last_ns) = valid_to_ns.map(|to| to.saturating_sub(1)) else { return };
        self.not_after_ns = Some(self.not_after_ns.map_or(last_ns, |before| before.min(last_ns)));
    }

    /// What a policy of the caller says.
    fn ask(&mut self, view: &View, said: Result<Admission, String>, now_ns: u64) -> Result<(), ReadError> {
        match said {
            Err(why) => self.denials.push(Denial::NotAdmitted { why }),
            Ok(admission) if admission.valid_to_ns.is_some_and(|to| now_ns >= to) => {
                self.denials.push(Denial::NotAdmitted { why: "what it says is over".to_owned() });
            }
            Ok(admission) => {
                for stream in admission.streams {
                    let version = version_of(view, &stream)?;
                    self.required.insert(stream, version);
                }
                self.holds_before(admission.valid_to_ns);
            }
        }
        Ok(())
    }

    fn require(&mut self, view: &View, stream: &str, read: Version) -> Result<(), ReadError> {
        let found = Version(version_of(view, stream)?);
        if found != read {
            self.denials.push(Denial::Stale { stream: stream.to_owned(), read, found });
        }
        self.required.insert(stream.to_owned(), found.0);
        Ok(())
    }

    /// What the events themselves expect, each with those before it counted in.
    fn look_at_expected(&mut self, view: &View, events: &[Event]) -> Result<(), ReadError> {
        let mut heads: HashMap<&str, u64> = HashMap::new();
        for event in events {
            let before = match heads.get(event.stream.as_str()) {
                Some(head) => *head,
                None if event.expected == Expected::Any => continue,
                None => version_of(view, &event.stream)?,
            };
            if !event.expected.holds(before) {
                let read = if let Expected::Exactly(version) = event.expected { version } else { Version(0) };
                self.denials.push(Denial::Stale { stream: event.stream.clone(), read, found: Version(before) });
            }
            heads.insert(&event.stream, before + 1);
        }
        Ok(())
    }

    fn look_outside(&mut self, read: &ExternalRef, observed: Result<super::Observed, String>, now_ns: u64) {
        let mut differs = |why: String| self.denials.push(Denial::Diverged { resource: read.resource.clone(), why });
        let age_ns = read.observed_at.map(|at| i128::from(now_ns) - (i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanoseconds)));
        if let (Some(age_ns), Some(most_ns)) = (age_ns, read.max_age_ns)
            && age_ns > i128::from(most_ns)
        {
            differs(format!("it was read {} ms ago", age_ns / 1_000_000));
        }
        let last_ns =
            age_ns.zip(read.max_age_ns).and_then(|(age_ns, most_ns)| u64::try_from(i128::from(now_ns) - age_ns + i128::from(most_ns)).ok());
        match observed {
            Err(why) => differs(format!("it cannot be read again: {why}")),
            Ok(found) => {
                if read.version.is_some() && found.version != read.version {
                    differs(format!("it is at version {}", found.version.as_deref().unwrap_or("unknown")));
                }
                if read.hash.is_some() && found.hash != read.hash {
                    differs("its content is another one".to_owned());
                }
            }
        }
        self.holds_before(last_ns.map(|last_ns| last_ns.saturating_add(1)));
        self.external.push(ExternalRef { observed_at: Some(timestamp(now_ns)), ..read.clone() });
    }

    fn look_at_approval(&mut self, view: &View, name: &str, action: &Action<'_>, now_ns: u64) -> Result<(), ReadError> {
        let stream = notes::approval(name);
        let found = newest(view, &stream)?;
        let why = match &found {
            None => Some("there is none"),
            Some(event) if event.event_type() != APPROVED => Some("it was used"),
            Some(event) => {
                let said = Said::by(&event.metadata()?, "approval");
                self.holds_before(said.uint("valid_to_ns"));
                if said.bytes("digest") != Some(&action.digest()[..]) {
                    Some("it is of something else")
                } else if said.uint("valid_to_ns").is_some_and(|to| now_ns >= to) {
                    Some("it is over")
                } else {
                    None
                }
            }
        };
        self.denials.extend(why.map(|why| Denial::NotApproved { approval: name.to_owned(), why }));
        let head = found.as_ref().map_or(0, |event| event.version().0);
        self.required.insert(stream.clone(), head);
        if let Some(event) = found {
            let reference = AuthorityRef {
                stream: Some(stream.clone()),
                version: Some(event.version().0),
                link: Some(event.link()),
                event: Some(event.event_id()),
                ..AuthorityRef::default()
            };
            self.authority.push(reference);
        }
        self.notes.push(note(stream, APPROVAL_USED, |_| {}).expected(Expected::Exactly(Version(head))));
        Ok(())
    }

    /// An event can be taken back as long as it was not; its compensation as long as that is in force; and so on. All of that happens in the stream of the first
    /// of them: who tries at the same time meets there.
    fn look_at_compensation(&mut self, view: &View, target: EventId, event: &Event) -> Result<(), ReadError> {
        let Some(found) = view.find_event(target)? else {
            self.denials.push(Denial::NotToTakeBack { event: target, by: None });
            return Ok(());
        };
        let (barred_by, root) = view.what_bars_undoing(&found)?;
        if let Some(by) = barred_by {
            self.denials.push(Denial::NotToTakeBack { event: target, by: Some(by) });
        }
        let stream = found.stream()?;
        // Of two in one action that are about the same event, one is too many.
        if stream != event.stream || !self.taken_back.insert(root) {
            self.denials.push(Denial::TakenBackElsewhere { event: target, stream: stream.to_owned() });
        }
        self.required.insert(stream.to_owned(), version_of(view, stream)?);
        Ok(())
    }
}

/// What an action rests on, for those who require it.
fn grounds(action: &Action<'_>) -> Grounds {
    Grounds::Judged {
        authority: !action.grants.is_empty() || action.approval.is_some(),
        reads: !action.reads.is_empty() || action.events.iter().all(|event| has_read(&event.metadata)),
        run: action.run.is_some(),
    }
}

/// The append that an action and its verdict make.
fn request(action: &Action<'_>, verdict: Verdict) -> Request {
    let mut events = action.events.clone();
    for event in &mut events {
        let metadata = &mut event.metadata;
        if metadata.compensates.is_some() {
            metadata.class.get_or_insert(Class::Compensation);
        }
        if !action.reads.is_empty() {
            metadata.reads.get_or_insert_default().extend(action.reads.iter().cloned());
        }
        metadata.authority.extend(verdict.authority.iter().cloned());
        metadata.external.extend(verdict.external.iter().cloned());
        if let Some((run, epoch)) = &action.run {
            metadata.correlation.get_or_insert_with(|| run.clone());
            metadata.run_epoch = Some(*epoch);
        }
    }
    let is_single = !action.is_batch && verdict.notes.is_empty() && events.len() == 1;
    let request = match (is_single, events.pop()) {
        (true, Some(event)) => Request::event(event),
        (_, last) => {
            events.extend(last);
            events.extend(verdict.notes);
            Request::batch(events)
        }
    };
    let at = |version| Expected::Exactly(Version(version));
    let required = verdict.required.into_iter();
    let request = match verdict.not_after_ns {
        Some(instant_ns) => request.not_after(instant_ns),
        None => request,
    };
    required.fold(request.durability(action.durability).resting_on(grounds(action)), |request, (stream, version)| {
        request.require(stream, at(version))
    })
}
