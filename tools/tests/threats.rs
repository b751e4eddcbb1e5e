//! The rows of THREATS.md, each with a test that plays the attacker, and the verifiers as the defenders: the independent checker and, where it can run,
//! the one in Python.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use chainring::{Event, KeyFile, Log, Options, Position, SealError, Sealer};
use chainring_reader::{Checkpoint, Policy, Trust, VerifierKey, check};
use common::{Place, copy_log, verifier_in_python};
use sha2::{Digest, Sha256};

const ORIGIN: &str = "bank.example/ledger";

/// What a verifier has.
struct Verifier {
    key: String,
    saved: Option<String>,
}

impl Verifier {
    /// The step at which a proof is refused; `None` if it is accepted. All verifiers must say the same.
    fn refuses_at(&self, place: &Place, proof: &str) -> Option<u32> {
        let trust = Trust {
            policy: Some(Policy::of_key(VerifierKey::parse(&self.key).unwrap())),
            saved: self.saved.as_deref().map(|note| Checkpoint::parse(note).unwrap()),
        };
        let step = check(proof, &trust).err().map(|refused| refused.step);
        if let Some(mut python) = verifier_in_python() {
            python.arg(place.write("proof", proof)).args(["--key", &self.key]);
            if let Some(saved) = &self.saved {
                python.arg("--saved-checkpoint").arg(place.write("saved", saved));
            }
            let answer: serde_json::Value = serde_json::from_slice(&python.output().unwrap().stdout).unwrap();
            assert_eq!(answer["step"].as_u64().map(|step| step as u32), step, "{answer}");
        }
        step
    }
}

fn log(directory: &Path) -> Log {
    Options::new().segment_bytes(64 << 10).origin(ORIGIN).open(directory).unwrap()
}

fn transfers(log: &Log, amounts: impl IntoIterator<Item = u64>) {
    for amount in amounts {
        let event = Event::new(format!("account-{}", amount % 5), "Transferred").body(format!("{{\"amount\":{amount}}}"));
        log.append(event).unwrap();
    }
}

/// An honest log of a hundred transfers, sealed; its key, and the checkpoint.
fn honest(place: &Place) -> (Log, Sealer, Arc<KeyFile>, String) {
    let key = Arc::new(KeyFile::generate(place.join("key"), ORIGIN).unwrap());
    let log = log(&place.log());
    let sealer = log.sealer(key.clone()).unwrap();
    transfers(&log, 100..200);
    let note = sealer.seal().unwrap().note;
    (log, sealer, key, note)
}

/// The key without its memory: as somebody has it who has stolen it.
fn stolen(place: &Place, name: &str) -> Arc<KeyFile> {
    let copy = place.join(name);
    fs::copy(place.join("key"), &copy).unwrap();
    Arc::new(KeyFile::load(copy).unwrap())
}

/// The lines of a bundle, and its values taken apart and put together.
fn edited(proof: &str, key: &str, nth: usize, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> String {
    let mut lines: Vec<String> = proof.split_inclusive('\n').map(str::to_owned).collect();
    let line = lines.iter_mut().filter(|line| line.split(' ').next() == Some(key)).nth(nth).expect("there is such a line");
    let mut values: Vec<Vec<u8>> =
        line.trim_end().split(' ').skip(1).map(|value| Base64::decode_vec(value).unwrap_or_else(|_| value.into())).collect();
    change(&mut values);
    *line = format!("{key} {}\n", values.iter().map(|value| Base64::encode_string(value)).collect::<Vec<_>>().join(" "));
    lines.concat()
}

/// Makes the leaf of a bundle's first event fit what the event says now.
fn repaired(proof: &str) -> String {
    let value = |key: &str, index: usize| {
        let line = proof.lines().find(|line| line.split(' ').next() == Some(key)).unwrap();
        Base64::decode_vec(line.split(' ').nth(index).unwrap()).unwrap()
    };
    let pad = |mut bytes: Vec<u8>| {
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        bytes
    };
    let (salt, body, metadata, ids) = (value("body", 1), value("body", 2), value("metadata", 1), value("ids", 1));
    let body_commit =
        blake3::derive_key("chainring 2026-11 v1 body", &pad([&salt[..], &(body.len() as u64).to_le_bytes(), &body].concat()));
    let head = [&ids[..], &(metadata.len() as u32).to_le_bytes(), &[0; 4], &body_commit, &metadata].concat();
    let digest = blake3::derive_key("chainring 2026-11 v1 event", &pad(head));
    edited(proof, "event", 0, |values| values[0][20..52].copy_from_slice(&digest))
}

/// Row 1: an event is changed, and everything that hangs on it is made anew, without the key.
#[test]
fn a_rewrite_without_the_key_is_refused_by_whoever_has_the_key() {
    let place = Place::new("threat-1");
    let (log, _sealer, key, _) = honest(&place);
    let proof = log.prover().unwrap().event(Position(50), None).unwrap();
    let verifier = Verifier { key: key.verifier_key(), saved: None };
    assert_eq!(verifier.refuses_at(&place, &proof), None);
    let naive = edited(&proof, "body", 0, |values| values[1][11] ^= 1);
    assert_eq!(verifier.refuses_at(&place, &naive), Some(8), "the content");
    assert_eq!(verifier.refuses_at(&place, &repaired(&naive)), Some(9), "the tree");
    // The whole log anew, every checksum, link, root and seal right, by another key of the same name.
    let forged = crate::log(&place.join("forged"));
    let sealer = forged.sealer(Arc::new(KeyFile::generate(place.join("other"), ORIGIN).unwrap())).unwrap();
    transfers(&forged, 101..201);
    sealer.seal().unwrap();
    let proof = forged.prover().unwrap().event(Position(50), None).unwrap();
    assert_eq!(verifier.refuses_at(&place, &proof), Some(4));
}

/// Row 2: the whole log anew, signed with the stolen key.
#[test]
fn a_rewrite_with_the_stolen_key_is_refused_by_whoever_saved_a_checkpoint() {
    let place = Place::new("threat-2");
    let (_log, _sealer, key, note) = honest(&place);
    let forged = log(&place.join("forged"));
    let sealer = forged.sealer(stolen(&place, "stolen")).unwrap();
    transfers(&forged, 101..300);
    let forged_note = sealer.seal().unwrap().note;
    let size = Checkpoint::parse(&note).unwrap().size;
    let proof = forged.prover().unwrap().event(Position(50), Some(size)).unwrap();
    let verifier = |saved: Option<&String>| Verifier { key: key.verifier_key(), saved: saved.cloned() };
    assert_eq!(verifier(None).refuses_at(&place, &proof), None, "the key alone cannot tell");
    assert_eq!(verifier(Some(&note)).refuses_at(&place, &proof), Some(6));
    assert_eq!(verifier(Some(&forged_note)).refuses_at(&place, &proof), None, "whoever saved only the forgery cannot tell");
}

/// Row 3: the log is put back to an older state, with the checkpoint that was valid then.
#[test]
fn an_older_valid_state_is_refused_by_whoever_saved_a_later_one() {
    let place = Place::new("threat-3");
    let (log, sealer, key, older) = honest(&place);
    copy_log(&place.log(), &place.join("older"));
    transfers(&log, 200..250);
    let newer = sealer.seal().unwrap().note;
    drop(sealer);
    log.close().unwrap();
    let cut = crate::log(&place.join("older"));
    let proof = cut.prover().unwrap().event(Position(50), None).unwrap();
    let verifier = |saved: Option<&String>| Verifier { key: key.verifier_key(), saved: saved.cloned() };
    assert_eq!(verifier(None).refuses_at(&place, &proof), None, "the key alone cannot tell");
    assert_eq!(verifier(Some(&older)).refuses_at(&place, &proof), None, "nor who saved nothing newer");
    assert_eq!(verifier(Some(&newer)).refuses_at(&place, &proof), Some(6));
    // The signer remembers: it does not sign the older state anew.
    assert!(matches!(cut.sealer(key).unwrap_err(), SealError::RollbackSuspected { .. }));
}

/// Row 4: from one past, two futures, each shown to somebody else.
#[test]
fn two_views_are_refused_by_whoever_sees_both() {
    let place = Place::new("threat-4");
    let (log, sealer, key, before) = honest(&place);
    drop(sealer);
    log.close().unwrap();
    copy_log(&place.log(), &place.join("fork"));
    let view = |directory: &Path, key: Arc<KeyFile>, amounts: std::ops::Range<u64>| {
        let log = crate::log(directory);
        let sealer = log.sealer(key).unwrap();
        transfers(&log, amounts);
        let note = sealer.seal().unwrap().note;
        let proof = log.prover().unwrap().event(Position(120), Some(Checkpoint::parse(&before).unwrap().size)).unwrap();
        (note, proof)
    };
    let (one, shown_to_one) = view(&place.log(), key.clone(), 200..260);
    let (other, shown_to_other) = view(&place.join("fork"), stolen(&place, "stolen"), 300..360);
    let verifier = |saved: &String| Verifier { key: key.verifier_key(), saved: Some(saved.clone()) };
    assert_eq!(verifier(&before).refuses_at(&place, &shown_to_one), None, "either goes on from the common past");
    assert_eq!(verifier(&before).refuses_at(&place, &shown_to_other), None);
    assert_eq!(verifier(&one).refuses_at(&place, &shown_to_other), Some(6), "whoever has both sees it");
    assert_ne!(one, other);
}

/// Row 5: a bucket, or the end of one, is not shown.
#[test]
fn a_dropped_bucket_does_not_lead_to_its_head() {
    let place = Place::new("threat-5");
    let (log, _sealer, key, _) = honest(&place);
    let prover = log.prover().unwrap();
    let verifier = Verifier { key: key.verifier_key(), saved: None };
    let whole = prover.stream("account-1", None).unwrap();
    assert_eq!(verifier.refuses_at(&place, &whole), None);
    // The newest event is left out, the one before it has its own right proof.
    let event_lines = 4;
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let first = lines.iter().position(|line| line.starts_with("event ")).unwrap();
    let newest_but_one = log.latest().stream("account-1").unwrap().unwrap().backward().nth(1).unwrap().unwrap().position();
    let own = prover.event(newest_but_one, None).unwrap();
    let own_proof = own.split_inclusive('\n').find(|line| line.starts_with("proof ")).unwrap();
    let shorter: String = lines[..first]
        .iter()
        .chain(&lines[first + event_lines..])
        .map(|line| if line.starts_with("proof ") { own_proof } else { line })
        .collect();
    assert_eq!(verifier.refuses_at(&place, &shorter), Some(12), "the head is not that of the events");
    // As if the bucket ended earlier.
    let moved = edited(&shorter, "head", 0, |values| {
        // The count is a decimal number, and is put back as one below.
        let leaf = Base64::decode_vec(lines[first + event_lines].split_whitespace().nth(1).unwrap()).unwrap();
        values[1] = Sha256::digest([&[0][..], &leaf].concat()).to_vec();
    });
    let count = whole.lines().find(|line| line.starts_with("head ")).unwrap().split(' ').nth(1).unwrap();
    let head = moved.lines().find(|line| line.starts_with("head ")).unwrap().to_owned();
    let mut words: Vec<&str> = head.split(' ').collect();
    words[1] = count;
    let moved = moved.replace(&head, &words.join(" "));
    assert_eq!(verifier.refuses_at(&place, &moved), Some(11), "the head is not under the seal");
    // A stream that there is, called absent.
    let absent: String = whole
        .replace("claim stream", "claim absent")
        .split_inclusive('\n')
        .filter(|line| !["event ", "ids ", "metadata ", "body ", "proof "].iter().any(|key| line.starts_with(key)))
        .collect();
    assert_eq!(verifier.refuses_at(&place, &absent), Some(12));
}

/// Row 6: an event is shown in another bucket, stream or log than it was in.
#[test]
fn an_event_belongs_to_its_stream_and_log() {
    let place = Place::new("threat-6");
    let (log, _sealer, key, _) = honest(&place);
    let verifier = Verifier { key: key.verifier_key(), saved: None };
    let proof = log.prover().unwrap().event(Position(50), None).unwrap();
    let renamed = edited(&proof, "stream", 0, |values| values[0] = b"account-9".to_vec());
    assert_eq!(verifier.refuses_at(&place, &renamed), Some(8));
    let id = chainring_format::hash::stream_id("account-9");
    let moved = edited(&renamed, "ids", 0, |values| values[0][..16].copy_from_slice(&id.0));
    assert_eq!(verifier.refuses_at(&place, &moved), Some(8), "the bucket is that of the stream");
    let bucket = id.bucket().to_le_bytes();
    let moved = edited(&repaired(&moved), "event", 0, |values| values[0][2..4].copy_from_slice(&bucket));
    assert_eq!(verifier.refuses_at(&place, &moved), Some(9));
    // Another log's genesis record before this log's events.
    let other = crate::log(&place.join("other"));
    let sealer = other.sealer(stolen(&place, "stolen")).unwrap();
    transfers(&other, 0..9);
    sealer.seal().unwrap();
    let foreign = other.prover().unwrap().event(Position(3), None).unwrap();
    let genesis = foreign.split_inclusive('\n').find(|line| line.starts_with("genesis ")).unwrap();
    let mixed: String = proof.split_inclusive('\n').map(|line| if line.starts_with("genesis ") { genesis } else { line }).collect();
    assert_eq!(verifier.refuses_at(&place, &mixed), Some(5));
}

/// Row 7: who did it, by what authority, against what: another's.
#[test]
fn attribution_is_part_of_the_event() {
    let place = Place::new("threat-7");
    let (log, _sealer, key, _) = honest(&place);
    let verifier = Verifier { key: key.verifier_key(), saved: None };
    let prover = log.prover().unwrap();
    let (proof, other) = (prover.event(Position(50), None).unwrap(), prover.event(Position(55), None).unwrap());
    for line in ["metadata", "body", "ids", "event", "proof"] {
        let theirs = other.split_inclusive('\n').find(|other| other.split(' ').next() == Some(line)).unwrap();
        let swapped: String =
            proof.split_inclusive('\n').map(|own| if own.split(' ').next() == Some(line) { theirs } else { own }).collect();
        let step = verifier.refuses_at(&place, &swapped);
        // The metadata of these events happens to be the same.
        assert!(step.is_some_and(|step| step == 8 || step == 9) || swapped == proof, "{line}: {step:?}");
    }
    let forged = edited(&proof, "metadata", 0, |values| *values[0].last_mut().unwrap() ^= 1);
    assert_eq!(verifier.refuses_at(&place, &forged), Some(8));
    assert_eq!(verifier.refuses_at(&place, &repaired(&forged)), Some(9));
}

/// Row 8: an event, or the seal, is dated back.
#[test]
fn recorded_times_are_under_the_link() {
    let place = Place::new("threat-8");
    let (log, _sealer, key, _) = honest(&place);
    let verifier = Verifier { key: key.verifier_key(), saved: None };
    let prover = log.prover().unwrap();
    let proof = prover.event(Position(50), None).unwrap();
    let back = edited(&proof, "event", 0, |values| values[0][12..20].copy_from_slice(&1_u64.to_le_bytes()));
    assert_eq!(verifier.refuses_at(&place, &back), Some(9));
    let stream = prover.stream("account-2", None).unwrap();
    let back = edited(&stream, "seal", 0, |values| {
        values[0][12..20].copy_from_slice(&1_u64.to_le_bytes());
        values[1][168..176].copy_from_slice(&1_u64.to_le_bytes());
    });
    assert_eq!(verifier.refuses_at(&place, &back), Some(11));
}

/// Every row of THREATS.md names a test, and every test it names is there.
#[test]
fn threats_name_their_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rows = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(root.join(file)).unwrap();
        text.lines().filter(|line| line.starts_with("| ")).map(str::to_owned).collect()
    };
    let is_numbered = |line: &String| line[2..].starts_with(|c: char| c.is_ascii_digit());
    let attacks: Vec<String> = rows("format-spec/THREATS.md").into_iter().filter(is_numbered).collect();
    let peers: Vec<String> = rows("format-spec/TRUST.md").into_iter().filter(|line| line.contains(".rs::")).collect();
    for line in attacks.iter().chain(&peers) {
        let named: Vec<&str> = line.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains(".rs::")).collect();
        assert!(!named.is_empty(), "{line}");
        for test in named {
            let (file, name) = test.split_once("::").unwrap();
            let source = ["tools/tests", "engine/tests"].iter().find_map(|room| fs::read_to_string(root.join(room).join(file)).ok());
            assert!(source.is_some_and(|source| source.contains(&format!("fn {name}("))), "{test}");
        }
    }
    assert_eq!((attacks.len(), peers.len()), (12, 6));
}
