//! A whole store: opening, reading everything, verifying. Nothing panics, and the three answers fit each other.

use std::path::Path;

use chainring::disk::Environment;
use chainring::{
    AsOf, EventRef, FaultKind, OpenError, Opened, ReadError, Store, TreeHead, VerifyOptions, VerifyReport, Version, View, verify_in,
};
use chainring_format::limits::BLOCK_BYTES_MAX;
use chainring_format::segment::number_of;

use super::archive::Archive;
use super::{Target, is_planted, mutate, store_seeds};

/// See the module.
pub const TARGET: Target = Target {
    name: "store",
    run,
    seeds: store_seeds,
    mutate: mutate::store,
    canary: "the verifier finds nothing wrong with a body whose checksum differs (rule F3)",
};

fn run(input: &[u8]) {
    examine(&Archive::decode(input));
}

/// Verifies with one thread.
pub(super) fn verified(archive: &Archive) -> Result<VerifyReport, OpenError> {
    let environment = Archive::environment(&archive.disk());
    let mut report = verify_in(&environment, Path::new("store"), &VerifyOptions { threads: 1, ..VerifyOptions::default() });
    if let (true, Ok(report)) = (is_planted(), &mut report) {
        report.fault.take_if(|fault| fault.rule == "F3");
    }
    report
}

/// Opens, verifies and reads a store, and compares the answers.
pub(super) fn examine(archive: &Archive) {
    let environment = Archive::environment(&archive.disk());
    let opened = Store::open_in(&environment, Path::new("store"));
    let report = match verified(archive) {
        Ok(report) => report,
        Err(OpenError::NotAStore { .. }) => return assert!(matches!(opened, Err(OpenError::NotAStore { .. }))),
        Err(error) => panic!("verification of bytes in memory cannot fail: {error}"),
    };
    assert_eq!(report.verified_to.map(|position| position.0 + 1), (report.records > 0).then_some(report.records));
    go_on(&environment, &report);
    match opened {
        Ok(store) => {
            let is_whole = report.fault.as_ref().is_none_or(|fault| fault.kind == FaultKind::Torn);
            read_everything(&store, is_whole).unwrap_or_else(|error| assert!(!is_whole, "verified, but cannot be read: {error}"));
            let is_torn = report.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Torn);
            if is_whole {
                assert_eq!((store.report().records, store.report().opened == Opened::Torn), (report.records, is_torn));
            }
            let fault = report.fault.as_ref();
            assert!(
                fault.is_none_or(|fault| matches!(fault.kind, FaultKind::Torn | FaultKind::Tampered) || fault.rule == "T1"),
                "{fault:?}"
            );
        }
        Err(OpenError::Damaged(refused)) => {
            let Some(found) = &report.fault else { panic!("opening refuses what verification passes: {refused}") };
            assert!(found.kind != FaultKind::Torn, "opening refuses what is only torn: {refused}");
            // Padding and trailers are named by their block, so two faults may change places within one. And opening may have taken the word of a
            // header that verification does not trust.
            let (first, second) = (number_of(&found.segment), number_of(&refused.segment));
            let is_earlier = first < second || (first == second && found.offset < refused.offset + u64::from(BLOCK_BYTES_MAX));
            assert!(is_earlier || found.offset == 0, "opening finds a fault before the first one: {refused}; {found}");
        }
        Err(OpenError::Unsupported { .. }) => assert!(report.fault.is_some(), "opening needs what verification does not"),
        Err(error) => panic!("{error}"),
    }
}

/// Verifies behind what is vouched for: right words change nothing, wrong ones are found out.
fn go_on(environment: &Environment, report: &VerifyReport) {
    let behind = |since: TreeHead| {
        let options = VerifyOptions { threads: 1, since: Some(since), ..VerifyOptions::default() };
        verify_in(environment, Path::new("store"), &options).expect("verification of bytes in memory cannot fail")
    };
    let wrong = behind(TreeHead { size: report.records / 2 + 1, root: [7; 32] });
    assert!(wrong.fault.is_some(), "nobody has vouched for these records");
    let options = VerifyOptions { threads: 1, head: true, ..VerifyOptions::default() };
    let whole = verify_in(environment, Path::new("store"), &options).expect("verification of bytes in memory cannot fail");
    if let Some(head) = whole.head {
        let part = behind(head);
        assert_eq!((part.records, part.events, part.head, part.fault), (whole.records, whole.events, whole.head, None));
    }
}

/// Asks a store everything. `is_whole`: it must be able to answer.
fn read_everything(store: &Store, is_whole: bool) -> Result<(), ReadError> {
    let view = store.latest();
    let mut events = 0;
    for event in view.events() {
        match event.and_then(|event| read_event(store, &view, &event)) {
            Ok(()) => events += 1,
            Err(error) if is_whole => return Err(error),
            Err(_) => {}
        }
    }
    let stats = store.stats();
    assert!(!is_whole || stats.events == events, "{} events, {events} of them shown", stats.events);
    let mut in_streams = 0;
    for (name, version) in view.streams()? {
        let Some(stream) = view.stream(name)? else {
            assert!(!is_whole, "stream {name:?} is listed and not there");
            continue;
        };
        // A rewritten name leads to another stream.
        assert!(!is_whole || stream.version() == version, "stream {name:?} is listed at {version}, and is at {}", stream.version());
        let forward = stream.forward(Version(1))?.collect::<Result<Vec<_>, _>>()?;
        let backward = stream.backward().collect::<Result<Vec<_>, _>>()?;
        let same = forward.iter().rev().map(EventRef::position).eq(backward.iter().map(EventRef::position));
        assert!(!is_whole || (same && forward.len() as u64 == version.0), "stream {name:?} at {version} has {} events", forward.len());
        in_streams += forward.len() as u64;
    }
    assert!(!is_whole || in_streams == events);
    view.last_events(3)?;
    for time_ns in [0, 1_790_000_000_000_000_000, u64::MAX] {
        store.at(AsOf::RecordedAt(time_ns))?;
    }
    Ok(())
}

fn read_event(store: &Store, view: &View, event: &EventRef<'_>) -> Result<(), ReadError> {
    assert_eq!(store.locate(event.event_id())?, Some(event.position()));
    assert_eq!(view.event(event.position())?.link(), event.link());
    event.metadata()?;
    event.batch_id()?;
    event.stream()?;
    let _ = (event.body(), event.batch(), event.event_type(), event.occurred_at());
    Ok(())
}
