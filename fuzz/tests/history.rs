//! A bounded number of random histories, the seeds that failed once, and the canaries: the harness must notice a broken promise.

use std::path::Path;

use chainring_fuzz::history::{Canary, Summary, run, seeds_in};

fn must_hold(seed: u64) {
    if let Err(failure) = run(seed, Canary::None) {
        panic!("{failure}");
    }
}

#[test]
fn random_histories_hold() {
    let mut total = Summary::default();
    for seed in 1_000_000..1_000_160 {
        match run(seed, Canary::None) {
            Ok(summary) => total.add(&summary),
            Err(failure) => panic!("{failure}"),
        }
    }
    let things = [
        "opened Created",
        "opened Clean",
        "opened Killed",
        "opened Torn",
        "opened by threads",
        "open failed",
        "poisoned",
        "power cut",
        "damaged copy",
        "second reader",
        "salvaged",
        "packed",
        "not packed",
        "ticked",
        "treason found",
        "treason unseen",
        "answer durable",
        "answer written",
        "answer duplicate",
        "answer refused",
        "answer id conflict",
        "answer partly known",
        "answer unknown",
        "answer poisoned",
        "answer no space",
        "answer no segment",
        "answer clock jump",
        "sealed",
        "not sealed",
        "rotated",
        "anchored",
        "power cut of a sealed log",
        "put back",
        "second reader of seals",
    ];
    for thing in things {
        assert!(total.of(thing) > 0, "{thing} was never met: {total}");
    }
}

#[test]
fn seeds_that_failed_once_hold() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/history.seeds");
    let seeds = seeds_in(&std::fs::read_to_string(path).unwrap());
    assert!(!seeds.is_empty());
    seeds.into_iter().for_each(must_hold);
}

#[test]
fn a_seed_repeats_its_history() {
    for seed in [7, 23, 40] {
        let told = |canary| match run(seed, canary) {
            Ok(summary) => format!("{summary}"),
            Err(failure) => format!("{failure}"),
        };
        assert_eq!(told(Canary::None), told(Canary::None));
        assert_eq!(told(Canary::LostEvent), told(Canary::LostEvent));
    }
}

/// Of so many histories, how many notice.
fn noticed(canary: Canary, seeds: u64) -> Vec<String> {
    let failed = (0..seeds).filter_map(|seed| run(seed, canary).err());
    failed.map(|failure| format!("{failure}")).collect()
}

#[test]
fn a_broken_promise_is_noticed_and_told() {
    for (canary, at_least, words) in [
        // What a lying disk loses may be the end, a file in the midst, the name of one, or all of them.
        (Canary::LyingDisk, 10, &["acknowledged events are gone", "damaged", "Damaged", "no store", "NotAStore"][..]),
        (Canary::LostEvent, 20, &["acknowledged events are gone"]),
        (Canary::ChangedEvent, 20, &["has other content"]),
    ] {
        let stories = noticed(canary, 40);
        assert!(stories.len() >= at_least, "{canary:?}: only {} of 40 noticed", stories.len());
        let named = stories.iter().filter(|story| words.iter().any(|word| story.contains(word))).count();
        assert!(named >= 8, "{canary:?}: {named} of {} say why", stories.len());
        assert!(stories.iter().all(|story| story.contains("again: cargo run --release -p chainring-fuzz -- --seed ")));
    }
}

/// What was signed for is gone, and whoever signed is told.
#[test]
fn a_lying_disk_is_noticed_by_what_was_signed() {
    let failed: Vec<_> = (7..).step_by(16).take(40).filter_map(|seed| run(seed, Canary::LyingDisk).err()).collect();
    assert!(failed.len() >= 10, "only {} of 40 noticed", failed.len());
    let of_signers =
        failed.iter().filter(|failure| failure.message.contains("rollback suspected") || failure.message.contains("signed")).count();
    assert!(of_signers > 0, "{:?}", failed.iter().map(|failure| &failure.message).collect::<Vec<_>>());
}
