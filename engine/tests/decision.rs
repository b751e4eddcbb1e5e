//! What may happen once happens once, and what may not does not: grants, ceilings, approvals, runs, compensations and stops, also when many try at once, and
//! after a crash.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use chainring::disk::Environment;
use chainring::disk::sim::{SimClock, SimDisk, SimEntropy};
use chainring::{
    ActError, Action, Admission, AppendError, AuthorityRef, Bar, Branching, Class, Denial, Event, EventId, Expected, ExternalRef, Grant,
    Log, Observed, Options, Position, Receipt, Requirement, Stop, Version, View,
};

fn opened() -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    (directory, log)
}

fn act(event_type: &str) -> Event {
    Event::new("order-1", event_type).actor("agent")
}

fn denials(done: Result<Receipt, ActError>) -> Vec<Denial> {
    match done {
        Err(ActError::Denied(denials)) => denials,
        other => panic!("{other:?}"),
    }
}

fn count(log: &Log, event_type: &str) -> usize {
    log.latest().events().filter(|event| event.as_ref().unwrap().event_type() == event_type).count()
}

#[test]
fn what_was_read_must_still_be_so_and_is_kept() {
    let (_directory, log) = opened();
    log.append(vec![Event::new("order-1", "Placed"), Event::new("user-1", "Seen")]).unwrap();
    let action =
        || Action::new(act("Cancelled").expected(Expected::Exactly(Version(1)))).read("order-1", Version(1)).read("user-1", Version(1));
    let receipt = log.act(&action()).unwrap();
    let view = log.latest();
    let reads = view.event(receipt.first_position()).unwrap().metadata().unwrap().reads.unwrap();
    assert_eq!(reads.iter().map(|read| (read.stream.as_str(), read.version)).collect::<Vec<_>>(), [("order-1", 1), ("user-1", 1)]);

    // All reasons at once, with what was found.
    log.append(Event::new("user-1", "Seen")).unwrap();
    let stale = |stream: &str, found: u64| Denial::Stale { stream: stream.into(), read: Version(1), found: Version(found) };
    assert_eq!(denials(log.act(&action())), [stale("order-1", 2), stale("user-1", 2), stale("order-1", 2)]);
    assert_eq!(count(&log, "Cancelled"), 1);

    // The attempt is kept, numbered, and nowhere near the order.
    log.act(&action()).unwrap_err();
    log.act(&action().without_attempt()).unwrap_err();
    let view = log.latest();
    let attempts: Vec<_> = view.stream("$attempts/agent").unwrap().unwrap().forward(Version(1)).unwrap().map(Result::unwrap).collect();
    assert_eq!(attempts.iter().map(|event| event.version().0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(attempts[0].metadata().unwrap().class, Some(Class::Refusal));
    let told = format!("{:?}", attempts[0].metadata().unwrap().attributes);
    assert!(told.contains("order-1 was read at version 1, but is at version 2"), "{told}");
}

#[test]
fn what_was_read_outside_is_read_again() {
    let (_directory, log) = opened();
    let price = |hash: u8| ExternalRef { resource: "price".into(), hash: Some(vec![hash]), ..ExternalRef::default() };
    let again = |_: &ExternalRef| Ok(Observed { version: None, hash: Some(vec![1]) });
    let receipt = log.act(&Action::new(act("Bought")).read_outside(price(1), again)).unwrap();
    let kept = log.latest().event(receipt.first_position()).unwrap().metadata().unwrap().external;
    assert!(kept[0].observed_at.is_some() && kept[0].hash == Some(vec![1]));
    let old = ExternalRef { observed_at: Some(chainring::Timestamp { seconds: 5, nanoseconds: 0 }), max_age_ns: Some(1000), ..price(2) };
    let unknown = |_: &ExternalRef| Err("it is gone".to_owned());
    let action = Action::new(act("Bought")).read_outside(old, again).read_outside(price(1), unknown);
    let why: Vec<String> = denials(log.act(&action)).iter().map(ToString::to_string).collect();
    assert!(why[0].contains("it was read") && why[1].contains("content is another one") && why[2].contains("it is gone"), "{why:?}");
    assert_eq!(count(&log, "Bought"), 1);
}

/// A policy is asked again when what it looked at has moved by the action's turn, and its word ends when it says.
#[test]
fn a_policy_is_bound_to_what_it_saw() {
    let (_directory, log) = opened();
    log.append(Event::new("balance-1", "Set").body("10")).unwrap();
    let asked = AtomicU64::new(0);
    let admission = || Admission { streams: vec!["balance-1".into()], valid_to_ns: None };
    let enough = |view: &View, events: &[Event]| {
        assert_eq!(events.len(), 1);
        let newest = view.stream("balance-1").unwrap().unwrap().backward().next().unwrap().unwrap();
        let balance: u64 = std::str::from_utf8(newest.body().unwrap()).unwrap().parse().unwrap();
        // The first time, somebody is quicker.
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            log.append(Event::new("balance-1", "Set").body("5")).unwrap();
        }
        if balance >= 5 { Ok(admission()) } else { Err(format!("there is {balance} left")) }
    };
    log.act(&Action::new(act("Paid")).judged_by(enough)).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2, "asked again about the balance as it is by then");
    log.append(Event::new("balance-1", "Set").body("4")).unwrap();
    let denied = denials(log.act(&Action::new(act("Paid")).judged_by(enough)));
    assert_eq!(denied, [Denial::NotAdmitted { why: "there is 4 left".into() }]);
    assert_eq!(count(&log, "Paid"), 1);
    assert_eq!(log.head("$attempts/agent").unwrap(), Version(1));

    // Time passes between its word and the turn.
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::new(1_000_000_000, 10));
    let environment = Environment { disk: Arc::new(disk), clock: clock.clone(), entropy: Arc::new(SimEntropy::new(1)) };
    let log = Options::new().open_in(environment, "simulated").unwrap();
    let asked = AtomicU64::new(0);
    let until = |valid_to_ns: u64, later_ns: u64| {
        let (asked, clock) = (&asked, &clock);
        move |_: &View, _: &[Event]| {
            asked.fetch_add(1, Ordering::Relaxed);
            clock.advance(later_ns);
            Ok(Admission { streams: Vec::new(), valid_to_ns: Some(valid_to_ns) })
        }
    };
    log.act(&Action::new(act("Paid")).judged_by(until(u64::MAX, 0))).unwrap();
    let denied = denials(log.act(&Action::new(act("Paid")).judged_by(until(1_000_001_000, 2_000))));
    assert_eq!(denied, [Denial::NotAdmitted { why: "what it says is over".into() }]);
    assert_eq!((asked.load(Ordering::Relaxed), count(&log, "Paid")), (3, 1), "the sequencer did not take it, and then it was over");
    // The same of grants: what ends in between is found by the sequencer.
    let now_ns = 1_000_010_000;
    clock.step_to(now_ns);
    log.grant("short", &Grant { valid_to_ns: Some(now_ns + 1_000), ..Grant::default() }, "boss").unwrap();
    let late = Action::new(act("Paid")).judged_by(until(u64::MAX, 5_000)).allowed_by("short", "r");
    let Denial::NotInForce { .. } = &denials(log.act(&late))[0] else { panic!("it is over") };
    assert!(matches!(
        log.append(chainring::Request::event(act("Paid")).not_after(now_ns)),
        Err(AppendError::TooLate { not_after_ns, now_ns: later_ns }) if not_after_ns == now_ns && later_ns > now_ns
    ));
    assert_eq!(count(&log, "Paid"), 1);
}

#[test]
fn grants_hold_as_far_as_they_go() {
    let (_directory, log) = opened();
    let refunds = Grant {
        streams: vec!["order-".into()],
        types: vec!["Refunded".into(), "Cancelled".into()],
        actors: vec!["agent".into()],
        text: "Refunds are for orders.".into(),
        ..Grant::default()
    };
    let refund = || Action::new(act("Refunded")).allowed_by("refunds", "r1");
    let not_in_force = |why: &str| vec![Denial::NotInForce { grant: "refunds".into(), why: why.into() }];
    assert_eq!(denials(log.act(&refund())), not_in_force("missing or revoked"));
    log.grant("refunds", &refunds, "boss").unwrap();
    let receipt = log.act(&refund()).unwrap();
    let view = log.latest();
    let cited = &view.event(receipt.first_position()).unwrap().metadata().unwrap().authority[0];
    let granted = view.event_with_id(cited.event.unwrap()).unwrap();
    assert_eq!((cited.stream.as_deref(), cited.version, cited.rule.as_deref()), (Some("$authority/refunds"), Some(1), Some("r1")));
    assert_eq!((granted.link(), granted.body()), (cited.link.unwrap(), Some(refunds.text.as_bytes())));
    assert_eq!(view.grant("refunds").unwrap().unwrap(), (refunds.clone(), Version(1)));

    let outside = [
        (Event::new("user-1", "Refunded").actor("agent"), "stream user-1"),
        (act("Shipped"), "type Shipped"),
        (Event::new("order-1", "Refunded").actor("other"), "actor other"),
    ];
    for (event, what) in outside {
        let found = denials(log.act(&Action::new(event).allowed_by("refunds", "")));
        assert_eq!(found, [Denial::OutOfScope { grant: "refunds".into(), what: what.into() }]);
    }
    log.revoke("refunds", "boss").unwrap();
    assert_eq!(denials(log.act(&refund())), not_in_force("missing or revoked"));
    log.grant("refunds", &Grant { valid_from_ns: Some(u64::MAX), ..refunds.clone() }, "boss").unwrap();
    assert_eq!(denials(log.act(&refund())), not_in_force("too early"));
    log.grant("refunds", &Grant { valid_to_ns: Some(1), ..refunds.clone() }, "boss").unwrap();
    assert_eq!(denials(log.act(&refund())), not_in_force("over"));
    log.grant("refunds", &refunds, "boss").unwrap();
    log.act(&refund()).unwrap();
}

#[test]
fn what_is_delegated_is_no_more_than_what_there_was() {
    let (_directory, log) = opened();
    let all = Grant { streams: vec!["order-".into()], amount_max: Some(100), actors: vec!["lead".into()], ..Grant::default() };
    log.grant("all", &all, "boss").unwrap();
    let part = Grant { streams: vec!["order-1".into()], amount_max: Some(60), parent: Some("all".into()), ..Grant::default() };
    let too_much = [
        (Grant { streams: Vec::new(), ..part.clone() }, "other streams"),
        (Grant { streams: vec!["o".into()], ..part.clone() }, "other streams"),
        (Grant { amount_max: Some(101), ..part.clone() }, "more"),
        (Grant { amount_max: None, ..part.clone() }, "more"),
    ];
    for (grant, what) in too_much {
        assert_eq!(denials(log.grant("part", &grant, "lead")), [Denial::OutOfScope { grant: "all".into(), what: what.into() }]);
    }
    assert_eq!(denials(log.grant("part", &part, "clerk")), [Denial::OutOfScope { grant: "all".into(), what: "actor clerk".into() }]);
    log.grant("part", &part, "lead").unwrap();
    log.grant("other", &part, "lead").unwrap();
    let spend = |grant: &str, amount: u64| log.act(&Action::new(act("Refunded")).allowed_by(grant, "").spending(amount));
    spend("part", 60).unwrap();
    // What is used of a part is used of the whole.
    let over = |grant: &str, amount_left: u64| Denial::OverCeiling { grant: grant.into(), count_left: u64::MAX, amount_left };
    assert_eq!(denials(spend("part", 1)), [over("part", 0)]);
    assert_eq!(denials(spend("other", 41)), [over("all", 40)]);
    spend("other", 40).unwrap();
    // Both at once use the whole once.
    log.grant("all", &all, "boss").unwrap();
    log.grant("part", &part, "lead").unwrap();
    log.grant("other", &part, "lead").unwrap();
    log.act(&Action::new(act("Refunded")).allowed_by("part", "").allowed_by("other", "").spending(50)).unwrap();
    assert_eq!(denials(spend("part", 51)), [over("part", 10), over("all", 50)]);
    log.revoke("all", "boss").unwrap();
    let why = denials(spend("part", 1)).remove(0).to_string();
    assert!(why.contains("all, which it was delegated from, is missing or revoked"), "{why}");
}

#[test]
fn an_approval_is_of_one_thing_and_for_once() {
    let (_directory, log) = opened();
    let refund = |body: &str| Action::new(act("Refunded").body(body)).approved_by("a1");
    let not = |why| vec![Denial::NotApproved { approval: "a1".into(), why }];
    assert_eq!(denials(log.act(&refund("80"))), not("there is none"));
    log.approve("a1", refund("80").digest(), None, "boss").unwrap();
    let twice = log.approve("a1", refund("90").digest(), None, "boss");
    assert!(matches!(twice, Err(ActError::Append(AppendError::Refused(_)))));
    assert_eq!(denials(log.act(&refund("90"))), not("it is of something else"));
    log.act(&refund("80")).unwrap();
    assert_eq!(denials(log.act(&refund("80"))), not("it was used"));
    log.approve("a2", refund("80").digest(), Some(1), "boss").unwrap();
    let late = Action::new(act("Refunded").body("80")).approved_by("a2");
    assert_eq!(denials(log.act(&late)), [Denial::NotApproved { approval: "a2".into(), why: "it is over" }]);
}

#[test]
fn a_run_goes_on_in_one_place() {
    let (_directory, log) = opened();
    let first = log.begin_run("run-7", "agent").unwrap();
    let step = |epoch| Action::new(act("Step")).in_run("run-7", epoch);
    let receipt = log.act(&step(first)).unwrap();
    let metadata = log.latest().event(receipt.first_position()).unwrap().metadata().unwrap();
    assert_eq!((metadata.run_epoch, metadata.correlation.as_deref()), (Some(1), Some("run-7")));
    let second = log.begin_run("run-7", "other").unwrap();
    assert_eq!(denials(log.act(&step(first))), [Denial::Fenced { run: "run-7".into(), epoch: second }]);
    log.act(&step(second)).unwrap();
}

#[test]
fn what_is_frozen_does_not_move() {
    let (_directory, log) = opened();
    let step = |stream: &str, actor: &str| log.act(&Action::new(Event::new(stream, "Step").actor(actor)).without_attempt());
    log.freeze(Stop::Actor("agent"), "boss").unwrap();
    log.freeze(Stop::Streams("order-"), "boss").unwrap();
    let frozen = |what: &str| Denial::Frozen { what: what.into() };
    assert_eq!(denials(step("order-1", "agent")), [frozen("actor agent"), frozen("streams order-")]);
    step("user-1", "other").unwrap();
    log.unfreeze(Stop::Actor("agent"), "boss").unwrap();
    step("user-1", "agent").unwrap();
    log.freeze(Stop::Log, "boss").unwrap();
    assert_eq!(denials(step("user-1", "other")), [frozen("log")]);
    log.unfreeze(Stop::Log, "boss").unwrap();
    step("user-1", "other").unwrap();
}

#[test]
fn what_must_be_said_is_said_or_nothing_happens() {
    let (_directory, log) = opened();
    log.append(Event::new("order-1", "Placed")).unwrap();
    let refunds = Requirement { types: vec!["Refunded".into()], authority: true, ..Requirement::default() };
    let orders = Requirement { streams: vec!["order-".into()], reads: true, actor: true, ..Requirement::default() };
    log.declare(&[refunds.clone(), orders], "boss").unwrap();
    let lacking = |stream: &str, what| Denial::Lacking { stream: stream.into(), what };
    let bare = Action::new(Event::new("order-1", "Refunded"));
    assert_eq!(denials(log.act(&bare)), [lacking("order-1", "an authority"), lacking("order-1", "an actor")]);
    assert_eq!(denials(log.act(&Action::new(act("Shipped")))), [lacking("order-1", "what was read")]);
    log.act(&Action::new(Event::new("user-1", "Seen"))).unwrap();
    log.grant("refunds", &Grant::default(), "boss").unwrap();
    log.act(&Action::new(act("Refunded")).read("order-1", Version(1)).allowed_by("refunds", "")).unwrap();
    log.declare(&[refunds], "boss").unwrap();
    log.act(&Action::new(act("Shipped"))).unwrap();
}

fn bars(result: Result<Receipt, AppendError>) -> Vec<Bar> {
    match result {
        Err(AppendError::Barred(bars)) => bars,
        other => panic!("not barred: {other:?}"),
    }
}

#[test]
fn stops_and_requirements_hold_for_every_append_also_after_reopening() {
    let (directory, log) = opened();
    let event = |stream: &str, actor: &str| Event::new(stream, "Step").actor(actor);
    log.append(event("order-1", "agent").id(EventId([7; 16]))).unwrap();
    log.freeze(Stop::Actor("agent"), "boss").unwrap();
    log.freeze(Stop::Streams("order-"), "boss").unwrap();
    log.declare(&[Requirement { streams: vec!["user-".into()], actor: true, authority: true, ..Requirement::default() }], "boss").unwrap();
    let frozen = |what: &str| Bar::Frozen { what: what.into() };
    let lacking = |what| Bar::Lacking { stream: "user-1".into(), what };
    let look = |log: &Log| {
        assert_eq!(bars(log.append(event("order-1", "other"))), [frozen("streams order-")]);
        assert_eq!(
            bars(log.append(vec![event("free", "agent"), event("order-2", "other")])),
            [frozen("actor agent"), frozen("streams order-")]
        );
        assert_eq!(bars(log.append(Event::new("user-1", "Step"))), [lacking("an actor")]);
        // What it says of its authority was not looked at by anybody.
        let mut claims = event("user-1", "other");
        claims.metadata.authority.push(AuthorityRef { policy: Some("boss".into()), ..AuthorityRef::default() });
        assert_eq!(bars(log.submit(claims).unwrap().wait()), [lacking("an authority")]);
        assert!(log.append(event("order-1", "agent").id(EventId([7; 16]))).unwrap().duplicate, "what was done is done");
        log.append(event("free", "other")).unwrap();
        assert_eq!(log.head("order-1").unwrap(), Version(1));
    };
    look(&log);
    log.close().unwrap();
    let log = Log::open(directory.path()).unwrap();
    look(&log);
    // It is said to streams of the engine's own even if everything is frozen.
    log.freeze(Stop::Log, "boss").unwrap();
    assert_eq!(bars(log.append(event("free", "other"))), [frozen("log")]);
    for stop in [Stop::Log, Stop::Actor("agent"), Stop::Streams("order-")] {
        log.unfreeze(stop, "boss").unwrap();
    }
    log.grant("steps", &Grant::default(), "boss").unwrap();
    log.append(event("order-1", "agent")).unwrap();
    log.act(&Action::new(event("user-1", "agent")).allowed_by("steps", "")).unwrap();
}

#[test]
fn nothing_comes_behind_a_stop_in_the_order_of_the_log() {
    let (_directory, log) = opened();
    let began = Barrier::new(5);
    let (stop, appended) = std::thread::scope(|scope| {
        let step = |worker: usize| {
            let (log, began) = (&log, &began);
            move || {
                let mut positions = Vec::new();
                began.wait();
                loop {
                    let receipt = match worker % 2 {
                        0 => log.append(Event::new(format!("order-{worker}"), "Step")).map_err(ActError::from),
                        _ => log.act(&Action::new(Event::new(format!("order-{worker}"), "Step")).without_attempt()),
                    };
                    match receipt {
                        Ok(receipt) => positions.push(receipt.first_position()),
                        Err(ActError::Denied(_) | ActError::Append(AppendError::Barred(_))) => return positions,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        };
        let workers: Vec<_> = (0..4).map(|worker| scope.spawn(step(worker))).collect();
        began.wait();
        while log.stats().events < 100 {
            std::thread::yield_now();
        }
        let stop = log.freeze(Stop::Streams("order-"), "boss").unwrap().first_position();
        (stop, workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>())
    });
    assert!(appended.len() >= 99 && appended.iter().all(|position| *position < stop));
}

#[test]
fn a_handle_expresses_only_what_it_was_made_for() {
    let (_directory, log) = opened();
    log.grant("refunds", &Grant { count_max: Some(1), ..Grant::default() }, "boss").unwrap();
    let epoch = log.begin_run("run", "agent").unwrap();
    let agent = log.writer("agent").streams(["order-"]).types(["Refunded", "Noted"]).allowed_by("refunds", "r").in_run("run", epoch);
    let event = |stream: &str, event_type: &str| Event::new(stream, event_type);
    let not = |what: &str| vec![Denial::NotExpressible { what: what.into() }];
    assert_eq!(denials(agent.act(Action::new(event("user-1", "Noted")))), not("stream user-1"));
    assert_eq!(denials(agent.act(Action::new(event("order-1", "Deleted")))), not("type Deleted"));
    assert_eq!(denials(agent.act(Action::new(event("order-1", "Noted").actor("boss")))), not("actor boss"));
    let all = log.writer("agent");
    assert_eq!(denials(all.act(Action::new(event("$stops", "Unfrozen")))), not("stream $stops"));
    let receipt = agent.act(Action::new(event("order-1", "Refunded"))).unwrap();
    let metadata = log.latest().event(receipt.first_position()).unwrap().metadata().unwrap();
    assert_eq!((metadata.actor.as_deref(), metadata.authority.len(), metadata.run_epoch), (Some("agent"), 1, Some(epoch)));
    assert!(matches!(denials(agent.act(Action::new(event("order-1", "Noted"))))[..], [Denial::OverCeiling { count_left: 0, .. }]));
    log.begin_run("run", "other").unwrap();
    assert_eq!(denials(agent.act(Action::new(event("order-1", "Noted")))).len(), 2);
    assert_eq!(log.head("$attempts/agent").unwrap(), Version(6), "all of these are its attempts");
    assert_eq!(log.head("$attempts/boss").unwrap(), Version(0));
}

fn taking_back(target: EventId) -> Action<'static> {
    Action::new(act("Undone")).taking_back(target).without_attempt()
}

#[test]
fn an_event_is_taken_back_once_at_a_time() {
    let (_directory, log) = opened();
    let target = EventId([7; 16]);
    assert_eq!(denials(log.act(&taking_back(target))), [Denial::NotToTakeBack { event: target, by: None }]);
    log.append(act("Done").id(target)).unwrap();
    let undo = |target| -> Result<EventId, Vec<Denial>> {
        match log.act(&taking_back(target)) {
            Ok(receipt) => Ok(log.latest().event(receipt.first_position()).unwrap().event_id()),
            Err(ActError::Denied(denials)) => Err(denials),
            Err(error) => panic!("{error}"),
        }
    };
    let first = undo(target).unwrap();
    let by = |event, by| Err(vec![Denial::NotToTakeBack { event, by: Some(by) }]);
    assert_eq!(undo(target), by(target, first));
    let second = undo(first).unwrap();
    assert_eq!(undo(first), by(first, second));
    // It is in force again, and can be taken back by either name, once.
    let third = undo(target).unwrap();
    assert_eq!(undo(second), by(second, third));
    let fourth = undo(third).unwrap();
    undo(fourth).unwrap();
    assert_eq!(undo(target), by(target, third));
    let elsewhere = Denial::TakenBackElsewhere { event: fourth, stream: "order-1".into() };
    assert_eq!(denials(log.act(&Action::new(Event::new("other", "Undone")).taking_back(fourth)))[1], elsewhere);
    let view = log.latest();
    assert_eq!(view.compensation_of(target).unwrap().map(|event| event.event_id()), Some(third), "its undo was undone");
    let metadata = view.event_with_id(first).unwrap().metadata().unwrap();
    assert_eq!((metadata.class, metadata.compensates), (Some(Class::Compensation), Some(target)));
}

#[test]
fn an_action_with_an_id_is_done_once() {
    let (_directory, log) = opened();
    log.grant("one", &Grant { count_max: Some(1), ..Grant::default() }, "boss").unwrap();
    let action = |body: &str| Action::new(act("Done").id(EventId([3; 16])).body(body)).allowed_by("one", "");
    let receipt = log.act(&action("x")).unwrap();
    assert_eq!(receipt.events.len(), 2, "the event, and what it used");
    let again = log.act(&action("x")).unwrap();
    assert!(again.duplicate && again.events == receipt.events);
    assert!(matches!(log.act(&action("y")), Err(ActError::Append(AppendError::IdConflict { .. }))));
    assert_eq!(count(&log, "Done"), 1);
}

#[test]
fn a_run_forks_in_the_open_or_not_at_all() {
    let (_directory, log) = opened();
    let step = |run: &str, epoch: u64, what: &str| log.act(&Action::new(act(what)).in_run(run, epoch).without_attempt());
    let id = |receipt: &Receipt| log.latest().event(receipt.first_position()).unwrap().event_id();
    let history = |run: &str| -> Vec<String> {
        let view = log.latest();
        let run = view.run(run).unwrap();
        let events = run.events(&view).map(Result::unwrap).filter(|event| event.stream().unwrap() == "order-1");
        events.map(|event| event.event_type().to_owned()).collect()
    };
    let first = log.begin_run("run", "agent").unwrap();
    let a = id(&step("run", first, "a").unwrap());
    let b = id(&step("run", first, "b").unwrap());

    // A retry elsewhere has its name, and what both have; the run goes on.
    let other = log.branch_run("run/other", "run", a, "elsewhere").unwrap();
    let c = id(&step("run/other", other, "c").unwrap());
    step("run", first, "d").unwrap();
    assert_eq!((history("run"), history("run/other")), (vec!["a".to_owned(), "b".into(), "d".into()], vec!["a".to_owned(), "c".into()]));
    let view = log.latest();
    let branching = Branching { parent: "run".into(), epoch: first, at: a, position: view.find_event(a).unwrap().unwrap().position() };
    assert_eq!(view.run("run/other").unwrap().branched, Some(branching));
    assert_eq!(view.branches_of("run").unwrap(), ["run/other"]);

    // A branch of a branch, also from what the first one shares.
    log.branch_run("run/third", "run/other", c, "agent").unwrap();
    log.branch_run("run/late", "run", b, "agent").unwrap();
    log.branch_run("run/fourth", "run/late", a, "agent").unwrap();
    step("run/third", 1, "e").unwrap();
    step("run/other", other, "f").unwrap();
    assert_eq!((history("run/third"), history("run/fourth")), (vec!["a".to_owned(), "c".into(), "e".into()], vec!["a".to_owned()]));
    assert_eq!(log.latest().branches_of("run").unwrap(), ["run/other", "run/late"]);
    assert_eq!(log.latest().run("run").unwrap().branched, None);

    // What is not shared, not there, or has a name that is taken is no branch.
    let no = |run: &str, parent: &str, at: EventId| match &denials(log.branch_run(run, parent, at, "agent").map(|_| unreachable!()))[..] {
        [Denial::NotToBranch { why, .. }] => *why,
        other => panic!("{other:?}"),
    };
    assert_eq!(no("x", "run/other", b), "the event is none of that run");
    assert_eq!(no("x", "run", c), "the event is none of that run");
    assert_eq!(no("x", "run", EventId([1; 16])), "there is no such event");
    assert_eq!(no("run/other", "run", a), "there is a run of that name");

    // Each has epochs of its own.
    log.begin_run("run/other", "third place").unwrap();
    assert_eq!(denials(step("run/other", other, "g")), [Denial::Fenced { run: "run/other".into(), epoch: 2 }]);
    step("run", first, "h").unwrap();

    // Of many who open one branch, one does.
    let opened = race(&log, 16, |log, _| {
        let epoch = log.branch_run("run/raced", "run", b, "agent")?;
        assert_eq!(epoch, 1);
        Ok(log.append(Event::new("won", "Won")).unwrap())
    });
    assert_eq!((opened, log.head("$runs/run/raced").unwrap()), (1, Version(1)));
}

/// Runs something in many threads at once; how often it was done.
fn race(log: &Log, threads: u64, each: impl Fn(&Log, u64) -> Result<Receipt, ActError> + Sync) -> u64 {
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (done, each) = (&done, &each);
            scope.spawn(move || match each(log, thread) {
                Ok(receipt) => _ = done.fetch_add(u64::from(!receipt.duplicate), Ordering::Relaxed),
                Err(ActError::Denied(_)) => {}
                Err(error) => panic!("{error}"),
            });
        }
    });
    done.into_inner()
}

#[test]
fn of_many_as_many_succeed_as_may() {
    let (_directory, log) = opened();
    log.grant("ten", &Grant { count_max: Some(10), amount_max: Some(700), ..Grant::default() }, "boss").unwrap();
    let by_count = |log: &Log, _| log.act(&Action::new(act("Counted")).allowed_by("ten", "").without_attempt());
    assert_eq!((race(&log, 64, by_count), count(&log, "Counted")), (10, 10));
    log.grant("ten", &Grant { count_max: Some(1000), amount_max: Some(700), ..Grant::default() }, "boss").unwrap();
    let by_amount = |log: &Log, _| log.act(&Action::new(act("Spent")).allowed_by("ten", "").spending(100).without_attempt());
    assert_eq!((race(&log, 64, by_amount), count(&log, "Spent")), (7, 7));

    let approved = || Action::new(act("Approved one")).approved_by("a").without_attempt();
    log.approve("a", approved().digest(), None, "boss").unwrap();
    assert_eq!((race(&log, 64, |log, _| log.act(&approved())), count(&log, "Approved one")), (1, 1));

    log.append(act("Target").id(EventId([9; 16]))).unwrap();
    assert_eq!((race(&log, 64, |log, _| log.act(&taking_back(EventId([9; 16])))), count(&log, "Undone")), (1, 1));

    // One read, many who want to act on it.
    let fresh =
        |log: &Log, thread| log.act(&Action::new(Event::new(format!("w{thread}"), "Fresh")).read("hot", Version(0)).without_attempt());
    let moved = |log: &Log, _| log.act(&Action::new(Event::new("hot", "Moved")).read("hot", Version(0)).without_attempt());
    assert_eq!(
        race(&log, 64, |log, thread| if thread % 2 == 0 { fresh(log, thread) } else { moved(log, thread) }) - count(&log, "Fresh") as u64,
        1
    );
    assert_eq!(count(&log, "Moved"), 1);
    let view = log.latest();
    let moved = view.stream("hot").unwrap().unwrap().forward(Version(1)).unwrap().next().unwrap().unwrap().position();
    let late =
        view.events().filter(|event| event.as_ref().is_ok_and(|event| event.event_type() == "Fresh" && event.position() > moved)).count();
    assert_eq!(late, 0, "nobody acted on what was over");

    // An epoch that ends fences everybody who is still in it.
    let epoch = log.begin_run("run", "agent").unwrap();
    let in_run = |log: &Log, thread| {
        if thread == 20 {
            log.begin_run("run", "other").unwrap();
        }
        log.act(&Action::new(act("Step")).in_run("run", epoch).without_attempt())
    };
    race(&log, 64, in_run);
    let view = log.latest();
    let ended = view.stream("$runs/run").unwrap().unwrap().forward(Version(2)).unwrap().next().unwrap().unwrap().position();
    let late =
        view.events_in(ended..=Position(u64::MAX)).filter(|event| event.as_ref().is_ok_and(|event| event.event_type() == "Step")).count();
    assert_eq!(late, 0);
}

#[test]
fn a_crash_in_the_middle_of_a_race_gives_nothing_away() {
    for seed in 0..12 {
        let disk = SimDisk::new().with_block_bytes(512);
        let open = |disk: &SimDisk, seed| Options::new().segment_bytes(1 << 20).open_in(disk.environment(seed), "log").unwrap();
        let log = open(&disk, seed);
        let approved = || Action::new(act("Approved one")).approved_by("a").without_attempt();
        log.grant("five", &Grant { count_max: Some(5), ..Grant::default() }, "boss").unwrap();
        log.approve("a", approved().digest(), None, "boss").unwrap();
        log.append(act("Target").id(EventId([9; 16]))).unwrap();
        let each = |log: &Log, thread: u64| match thread % 3 {
            0 => log.act(&Action::new(act("Counted")).allowed_by("five", "").without_attempt()),
            1 => log.act(&approved()),
            _ => log.act(&taking_back(EventId([9; 16]))),
        };
        // Fewer than may; then the power goes.
        race(&log, 6 + seed % 9, each);
        std::mem::forget(log);
        let log = open(&disk.crash(seed), seed + 100);
        race(&log, 48, each);
        assert_eq!([count(&log, "Counted"), count(&log, "Approved one"), count(&log, "Undone")], [5, 1, 1], "seed {seed}");
    }
}
