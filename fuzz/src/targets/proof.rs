//! Proofs: whatever the checker accepts says nothing that the golden proofs, which are of a log that is known, do not say. What witnesses answer is read
//! without harm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use base64ct::{Base64, Encoding};
use chainring_reader::{Checkpoint, Claim, Policy, Proved, ProvedEvent, Trust, VerifierKey, check};

use super::random::Random;
use super::{Target, is_planted, mutate};

/// See the module.
pub const TARGET: Target = Target {
    name: "proof",
    run,
    seeds: || GOLDEN.proofs.clone(),
    mutate: near,
    canary: "the checker does not compare an event's metadata with its hash (step 8 of TRUST.md)",
};

/// The golden proofs, all of one log, and what is known of that log.
struct Golden {
    proofs: Vec<Vec<u8>>,
    /// What verifiers may have: each key, and each with the saved checkpoint.
    trusts: Vec<Trust>,
    checkpoints: Vec<Checkpoint>,
    log_ids: BTreeSet<[u8; 32]>,
    events: BTreeMap<[u8; 32], ProvedEvent>,
    /// Links of the events of streams that are proved as a whole, by name.
    streams: BTreeMap<String, Vec<[u8; 32]>>,
}

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/vectors/proofs");
    let text = |name: &str| fs::read_to_string(place.join(name)).expect("the golden proofs are part of the repository");
    let mut names: Vec<String> = fs::read_dir(&place)
        .expect("the golden proofs are part of the repository")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".proof"))
        .collect();
    names.sort();
    let expected = text("expect.json");
    let keys: BTreeSet<&str> = expected.split('"').filter(|part| part.starts_with("log.example/")).collect();
    let saved = Checkpoint::parse(&text("saved.note")).expect("a note");
    let policy = |key: &str| Policy::of_key(VerifierKey::parse(key).expect("a golden key"));
    let trusts = keys
        .iter()
        .flat_map(|key| [None, Some(saved.clone())].map(|saved| Trust { policy: Some(policy(key)), saved }))
        .chain([Trust { policy: None, saved: Some(saved.clone()) }])
        .collect();
    let mut golden = Golden {
        proofs: names.iter().map(|name| text(name).into_bytes()).collect(),
        trusts,
        checkpoints: vec![saved],
        log_ids: BTreeSet::from([[0; 32]]),
        events: BTreeMap::new(),
        streams: BTreeMap::new(),
    };
    let accepted: Vec<Proved> = names
        .iter()
        .filter(|name| !name.starts_with(|c: char| c.is_ascii_digit()))
        .flat_map(|name| golden.trusts.iter().filter_map(|trust| check(&text(name), trust).ok()).collect::<Vec<_>>())
        .collect();
    for proved in accepted {
        golden.log_ids.insert(proved.log_id);
        if let (Claim::Stream, Some(stream)) = (proved.claim, &proved.stream) {
            golden.streams.insert(stream.clone(), proved.events.iter().map(|event| event.link).collect());
        }
        for event in proved.events {
            // One of the proofs withholds a body.
            let known = golden.events.entry(event.link).or_insert_with(|| event.clone());
            known.body = known.body.take().or(event.body);
        }
        golden.checkpoints.push(proved.checkpoint);
    }
    assert!(golden.events.len() > 1 && !golden.streams.is_empty() && golden.log_ids.len() == 2);
    golden
});

fn run(bytes: &[u8]) {
    let _ = (chainring_tools::fuzzing::read_proof(bytes), chainring_tools::fuzzing::read_stamp(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (Checkpoint::parse(text), Policy::parse(text), VerifierKey::parse(text));
    for trust in &GOLDEN.trusts {
        match check(text, trust) {
            Ok(proved) => is_true(&proved),
            Err(refused) => assert!(!is_planted() || refused.step != 8, "metadata that was not hashed is taken"),
        }
    }
}

/// What was proved is so.
fn is_true(proved: &Proved) {
    assert!(GOLDEN.log_ids.contains(&proved.log_id), "another log");
    assert!(GOLDEN.checkpoints.contains(&proved.checkpoint), "a checkpoint nobody signed or saved");
    for event in &proved.events {
        let known = GOLDEN.events.get(&event.link).expect("an event that is not in the log");
        let body_fits = event.body.is_none() || event.body == known.body;
        assert!(body_fits, "another body");
        assert_eq!(
            format!("{:?}", ProvedEvent { body: None, ..event.clone() }),
            format!("{:?}", ProvedEvent { body: None, ..known.clone() })
        );
    }
    let links = || proved.events.iter().map(|event| event.link).collect::<Vec<_>>();
    match proved.claim {
        Claim::Stream => {
            let stream = proved.stream.as_ref().expect("a stream has a name");
            assert_eq!(GOLDEN.streams.get(stream), Some(&links()), "not the whole stream");
        }
        // Streams of this log are named order-0 to order-22.
        Claim::Absent => {
            let name = proved.stream.as_deref().expect("a stream has a name");
            let number = name.strip_prefix("order-").and_then(|number| number.parse::<u32>().ok().filter(|n| n.to_string() == number));
            assert!(number.is_none_or(|number| number >= 23), "a stream that is there is said to be absent");
        }
        Claim::Event | Claim::Record => assert!(proved.events.len() <= 1),
    }
}

/// Lines left out, doubled, swapped, taken from another proof; a value of a line changed and written again as it is written; bytes changed.
fn near(input: &[u8], random: &mut Random) -> Vec<u8> {
    let lines: Vec<&[u8]> = input.split_inclusive(|&byte| byte == b'\n').collect();
    if lines.is_empty() || random.once_in(4) {
        return mutate::bytes(input, random);
    }
    let mut lines: Vec<Vec<u8>> = lines.into_iter().map(<[u8]>::to_vec).collect();
    for _ in 0..=random.below(2) {
        let at = random.below(lines.len());
        match random.below(6) {
            0 if lines.len() > 1 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = random.below(lines.len());
                lines.swap(at, other);
            }
            3 => {
                let other = random.pick(&GOLDEN.proofs);
                let others: Vec<&[u8]> = other.split_inclusive(|&byte| byte == b'\n').collect();
                lines[at] = random.pick(&others).to_vec();
            }
            _ => lines[at] = changed(&lines[at], random),
        }
    }
    lines.concat()
}

/// A line with one of its values changed.
fn changed(line: &[u8], random: &mut Random) -> Vec<u8> {
    let Some(text) = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix('\n')) else { return line.to_vec() };
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let at = random.below(words.len());
    let word = &mut words[at];
    if let Ok(number) = word.parse::<u64>() {
        *word = number.wrapping_add(*random.pick(&[1, u64::MAX, 256, 1 << 32])).to_string();
    } else if let Ok(mut bytes) = Base64::decode_vec(word) {
        mutate::change_bytes(&mut bytes, random);
        *word = Base64::encode_string(&bytes);
    }
    format!("{}\n", words.join(" ")).into_bytes()
}
