//! Keys, checkpoints, proofs: by the command line, checked by the independent checker; and what an attacker can do to a proof.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64ct::{Base64, Encoding};
use chainring::{Event, KeyFile, Log, Options, Position, Sealer};
use chainring_reader::{Checkpoint, Claim, Policy, Proved, Trust, VerifierKey, check};
use common::{Place, run};
use std::sync::Arc;

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn append(log: &Log, from: usize, count: usize) {
    for index in from..from + count {
        let event = Event::new(format!("order-{}", index % 23), "Placed").body(format!("{{\"n\":{index}}}"));
        log.append(event).unwrap();
    }
}

/// A log with several segments, a batch, a change of keys, and its prover's checkpoint; `sealer` is what sealed it last.
struct Sealed {
    place: Place,
    log: Log,
    sealer: Sealer,
    first_key: String,
    last_key: String,
    /// A checkpoint from before the change of keys.
    earlier: Checkpoint,
}

fn sealed(name: &str) -> Sealed {
    let place = Place::new(name);
    let key = |name: &str| Arc::new(KeyFile::generate(place.join(name), "log.example/orders").unwrap());
    let (first, second) = (key("first"), key("second"));
    let log = Options::new().segment_bytes(64 << 10).origin("log.example/orders").open(place.log()).unwrap();
    let sealer = log.sealer(first.clone()).unwrap();
    append(&log, 0, 300);
    let earlier = Checkpoint::parse(&sealer.seal().unwrap().note).unwrap();
    log.append(chainring::Request::batch(
        (0..3).map(|n| Event::new("order-5", "Changed").body(format!("{{\"b\":{n}}}"))).collect::<Vec<_>>(),
    ))
    .unwrap();
    sealer.rotate(second.clone()).unwrap();
    append(&log, 300, 400);
    sealer.seal().unwrap();
    Sealed { place, log, sealer, first_key: first.verifier_key(), last_key: second.verifier_key(), earlier }
}

fn trusting(key: &str) -> Trust {
    Trust { policy: Some(Policy::of_key(VerifierKey::parse(key).unwrap())), saved: None }
}

#[test]
fn what_is_proved_is_what_is_in_the_log() {
    let Sealed { place: _place, log, sealer, first_key, last_key, earlier } = sealed("proved");
    let prover = log.prover().unwrap();
    let view = log.latest();
    for key in [&first_key, &last_key] {
        let trust = Trust { saved: Some(earlier.clone()), ..trusting(key) };
        for event in view.events().step_by(29) {
            let event = event.unwrap();
            let proved = check(&prover.event(event.position(), Some(earlier.size)).unwrap(), &trust).unwrap();
            let [found] = &proved.events[..] else { panic!("one event") };
            assert_eq!((found.event_id, found.version, found.link), (event.event_id().0, event.version().0, event.link().0));
            assert_eq!(found.body.as_deref(), event.body());
            assert_eq!((proved.position, proved.stream.as_deref()), (Some(event.position().0), Some(event.stream().unwrap())));
            assert_eq!((proved.log_id, proved.origin.as_str()), (log.log_id().0, "log.example/orders"));
        }
        for (name, version) in view.streams().unwrap() {
            let proved = check(&prover.stream(name, Some(earlier.size)).unwrap(), &trust).unwrap();
            assert_eq!((proved.claim, proved.events.len() as u64), (Claim::Stream, version.0));
            assert_eq!(proved.complete_to, Some(prover.head().size - 1));
        }
        for name in ["order-23", "nobody", "order-05"] {
            let proved = check(&prover.stream(name, None).unwrap(), &trusting(key)).unwrap();
            assert_eq!((proved.claim, proved.events.len()), (Claim::Absent, 0));
        }
    }
    // A receipt is checked by the key that signed it.
    let receipt = prover.receipt(Position(17)).unwrap();
    assert_eq!(check(&receipt, &trusting(&last_key)).unwrap().position, Some(17));
    assert_eq!(check(&receipt, &trusting(&first_key)).unwrap_err().step, 4);
    // Behind the checkpoint nothing is proved.
    append(&log, 700, 1);
    assert!(log.prover().unwrap().receipt(Position(prover.head().size)).is_err());
    drop(sealer);
}

/// What a proof says, apart from how it is written.
fn meaning(proved: &Proved) -> String {
    format!("{proved:?}")
}

/// Every byte changed in several ways, every line left out, doubled, moved: whatever is accepted says the same.
#[test]
fn no_change_of_a_proof_changes_what_it_says() {
    let Sealed { place: _place, log, last_key, first_key, earlier, .. } = sealed("changed");
    let prover = log.prover().unwrap();
    let position = log.latest().stream("order-5").unwrap().unwrap().backward().nth(40).map(|event| event.unwrap().position());
    let bundles = [
        (prover.event(position.unwrap_or(Position(200)), Some(earlier.size)).unwrap(), &first_key),
        (prover.stream("order-5", None).unwrap(), &first_key),
        (prover.stream("nobody", None).unwrap(), &last_key),
        (prover.receipt(Position(301)).unwrap(), &last_key),
    ];
    for (index, (proof, key)) in bundles.iter().enumerate() {
        let trust = if index == 0 { Trust { saved: Some(earlier.clone()), ..trusting(key) } } else { trusting(key) };
        let said = meaning(&check(proof, &trust).unwrap());
        let (mut refused, mut same) = (0_u32, 0_u32);
        let mut judge = |changed: &[u8], what: &str| match std::str::from_utf8(changed).map(|changed| check(changed, &trust)) {
            Ok(Ok(proved)) => {
                assert_eq!(meaning(&proved), said, "{what}");
                same += 1;
            }
            _ => refused += 1,
        };
        let bytes = proof.as_bytes();
        // Long bundles are met by a stride that is no divisor of anything.
        let stride = 1 + bytes.len() / 6000;
        for at in (0..bytes.len()).step_by(stride) {
            for flip in [0x01, 0x20, 0x80] {
                let mut changed = bytes.to_vec();
                changed[at] ^= flip;
                judge(&changed, &format!("byte {at} ^ {flip:#x}"));
            }
            let mut changed = bytes.to_vec();
            changed.remove(at);
            judge(&changed, &format!("byte {at} left out"));
            judge(&bytes[..at], &format!("cut at {at}"));
        }
        let lines: Vec<&str> = proof.split_inclusive('\n').collect();
        for at in 0..lines.len() {
            let mut without = lines.clone();
            without.remove(at);
            judge(without.concat().as_bytes(), &format!("line {at} left out"));
            let mut twice = lines.clone();
            twice.insert(at, lines[at]);
            judge(twice.concat().as_bytes(), &format!("line {at} doubled"));
            let mut moved = lines.clone();
            moved.swap(at, (at + 1) % lines.len());
            judge(moved.concat().as_bytes(), &format!("line {at} moved"));
        }
        for (other, _) in &bundles {
            for line in other.split_inclusive('\n') {
                let key = line.split(' ').next().unwrap();
                for at in (0..lines.len()).filter(|&at| lines[at].split(' ').next() == Some(key)).take(3) {
                    let mut mixed = lines.clone();
                    mixed[at] = line;
                    judge(mixed.concat().as_bytes(), &format!("line {at} from another proof"));
                }
            }
        }
        assert!(refused > 1000, "{refused} refused, {same} the same");
    }
}

/// The verifier in Python, if what it needs is there.
fn python() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/verify.py");
    let there = Command::new("python3").args(["-c", "import blake3, cryptography"]).output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("SKIPPED: the verifier in Python needs python3 with blake3 and cryptography");
    }
    there.then_some(script)
}

/// Both verifiers, which share nothing but TRUST.md, say the same of proofs and of what attackers make of them.
#[test]
fn the_verifier_in_python_agrees() {
    let Some(script) = python() else { return };
    let Sealed { place, log, first_key, earlier, .. } = sealed("python");
    let prover = log.prover().unwrap();
    let saved_note = log_note(&earlier);
    let proofs = [
        prover.event(Position(200), Some(earlier.size)).unwrap(),
        prover.stream("order-5", None).unwrap(),
        prover.stream("nobody", None).unwrap(),
    ];
    let trust = trusting(&first_key);
    let mut files = Vec::new();
    let mut expected = Vec::new();
    let mut add = |bytes: &[u8]| {
        let path = place.join(&format!("{}.proof", files.len()));
        fs::write(&path, bytes).unwrap();
        files.push(path);
        expected.push(match std::str::from_utf8(bytes).map(|text| check(text, &trust)) {
            Ok(Ok(proved)) => (true, Some(proved.events.len() as u64)),
            Ok(Err(refused)) => (false, Some(refused.step.into())),
            Err(_) => (false, Some(1)),
        });
    };
    for proof in &proofs {
        add(proof.as_bytes());
        let lines: Vec<&str> = proof.split_inclusive('\n').collect();
        for at in 0..lines.len().min(60) {
            let mut without = lines.clone();
            without.remove(at);
            add(without.concat().as_bytes());
            let middle = lines[..at].concat().len() + lines[at].len() / 2;
            for flip in [0x01, 0x03] {
                let mut changed = proof.clone().into_bytes();
                changed[middle] ^= flip;
                add(&changed);
            }
        }
    }
    let list = place.write("list", files.iter().map(|path| format!("{}\n", path.display())).collect::<String>());
    let output =
        Command::new("python3").arg(&script).args(["--batch", "--key", &first_key]).stdin(fs::File::open(list).unwrap()).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told.lines().count(), files.len(), "{}", String::from_utf8_lossy(&output.stderr));
    for ((line, expected), file) in told.lines().zip(&expected).zip(&files) {
        let answer: serde_json::Value = serde_json::from_str(line).unwrap();
        let said = (
            answer["ok"].as_bool().unwrap(),
            if expected.0 { answer["events"].as_array().map(|all| all.len() as u64) } else { answer["step"].as_u64() },
        );
        assert_eq!(said, *expected, "{}: {line}", file.display());
    }
    // With a saved checkpoint, too.
    let note = place.write("saved.note", saved_note);
    let alone = Command::new("python3").arg(&script).arg(&files[0]).arg("--saved-checkpoint").arg(note).output().unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
}

/// Where the golden proofs are.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/vectors/proofs")
}

/// Makes the golden proofs anew, with other keys and salts: only when a change of TRUST.md asks for it.
fn bless() {
    let Sealed { place: _place, log, first_key, last_key, earlier, .. } = sealed("golden");
    let prover = log.prover().unwrap();
    let position = log.latest().stream("order-5").unwrap().unwrap().backward().nth(1).unwrap().unwrap().position();
    let event = prover.event(position, Some(earlier.size)).unwrap();
    let stream = prover.stream("order-5", None).unwrap();
    let absent = prover.stream("nobody", None).unwrap();
    let receipt = prover.receipt(position).unwrap();
    let without =
        |proof: &str, key: &str| -> String { proof.split_inclusive('\n').filter(|line| line.split(' ').next() != Some(key)).collect() };
    let body = event.lines().find(|line| line.starts_with("body ")).unwrap();
    let view = log.latest();
    let found = view.event(position).unwrap();
    let commit = chainring_format::hash::body_commit(&salt(body), found.body().unwrap());
    let withheld = event.replace(body, &format!("erased {}", Base64::encode_string(&commit)));
    let from = |other: &str, key: &str, proof: &str| -> String {
        let line = other.split_inclusive('\n').find(|line| line.split(' ').next() == Some(key)).unwrap();
        proof.split_inclusive('\n').map(|own| if own.split(' ').next() == Some(key) { line } else { own }).collect()
    };
    let other = prover.stream("order-6", None).unwrap();
    let newest = stream.split_inclusive('\n').skip_while(|line| !line.starts_with("event ")).take(4).collect::<String>();
    let cases = [
        ("event", event.clone(), &first_key, true),
        ("withheld", withheld, &first_key, true),
        ("stream", stream.clone(), &first_key, false),
        ("absent", absent.clone(), &last_key, false),
        ("receipt", receipt.clone(), &last_key, false),
        ("4-trailing", format!("{event}\n"), &first_key, false),
        ("1-no-seal", without(&stream, "seal"), &first_key, false),
        ("2-genesis-body", event.replace(genesis_body(&event), &Base64::encode_string(&[1; 96])), &first_key, false),
        ("4-no-rotation", without(&event, "rotation"), &first_key, false),
        ("4-receipt-of-another-key", receipt, &first_key, false),
        ("6-no-consistency", without(&event, "consistency"), &first_key, true),
        ("7-no-name", from("stream -\n", "stream", &event), &first_key, false),
        ("8-other-metadata", event.replace("metadata ", "metadata AAAA"), &first_key, false),
        ("9-other-place", from(&other, "proof", &stream), &first_key, false),
        (
            "10-gap",
            stream.replacen(
                &stream.split_inclusive('\n').skip_while(|line| !line.starts_with("event ")).skip(4).take(4).collect::<String>(),
                "",
                1,
            ),
            &first_key,
            false,
        ),
        ("11-other-head", from(&other, "head", &stream), &first_key, false),
        ("12-newest-left-out", from(&prover.event(position, None).unwrap(), "proof", &stream.replacen(&newest, "", 1)), &first_key, false),
        (
            "12-called-absent",
            ["event", "ids", "metadata", "body", "proof"]
                .iter()
                .fold(stream.replace("claim stream", "claim absent"), |proof, key| without(&proof, key)),
            &first_key,
            false,
        ),
    ];
    fs::create_dir_all(golden()).unwrap();
    let saved = log_note(&earlier);
    fs::write(golden().join("saved.note"), &saved).unwrap();
    let expectations = cases.iter().map(|(name, proof, key, with_saved)| {
        fs::write(golden().join(format!("{name}.proof")), proof).unwrap();
        let trust = Trust { saved: with_saved.then(|| earlier.clone()), ..trusting(key) };
        let step = check(proof, &trust).err().map(|refused| refused.step);
        assert_eq!(step.map(|step| step.to_string()), name.split_once('-').map(|(step, _)| step.to_owned()), "{name}");
        serde_json::json!({ "proof": format!("{name}.proof"), "key": key, "saved": with_saved, "step": step })
    });
    let without_key = serde_json::json!({ "proof": "event.proof", "key": null, "saved": true, "step": 6 });
    let text = serde_json::to_string_pretty(&expectations.chain([without_key]).collect::<Vec<_>>()).unwrap();
    fs::write(golden().join("expect.json"), text + "\n").unwrap();
}

fn salt(body_line: &str) -> [u8; 16] {
    Base64::decode_vec(body_line.split(' ').nth(1).unwrap()).unwrap().try_into().unwrap()
}

fn genesis_body(proof: &str) -> &str {
    proof.lines().find(|line| line.starts_with("genesis ")).unwrap().split(' ').nth(2).unwrap()
}

/// The golden proofs get the answers that are written beside them, from both verifiers. Anybody's verifier must give them, too.
#[test]
fn golden_proofs_get_their_answers() {
    if std::env::var_os("CHAINRING_BLESS").is_some_and(|value| value == "1") {
        bless();
    }
    let expectations: Vec<serde_json::Value> = serde_json::from_str(&text(&golden().join("expect.json"))).unwrap();
    let saved = Checkpoint::parse(&text(&golden().join("saved.note"))).unwrap();
    let script = python();
    for expected in &expectations {
        let (name, key) = (expected["proof"].as_str().unwrap(), expected["key"].as_str());
        let with_saved = expected["saved"].as_bool().unwrap();
        let trust = Trust { saved: with_saved.then(|| saved.clone()), ..key.map(trusting).unwrap_or_default() };
        let step = check(&text(&golden().join(name)), &trust).err().map(|refused| u64::from(refused.step));
        assert_eq!(step, expected["step"].as_u64(), "{name}");
        if let Some(script) = &script {
            let mut python = Command::new("python3");
            python.arg(script).arg(golden().join(name)).args(key.iter().flat_map(|key| ["--key", key]));
            if with_saved {
                python.arg("--saved-checkpoint").arg(golden().join("saved.note"));
            }
            let answer: serde_json::Value = serde_json::from_slice(&python.output().unwrap().stdout).unwrap();
            assert_eq!(answer["step"].as_u64(), expected["step"].as_u64(), "{name}: {answer}");
        }
    }
    assert!(expectations.len() >= 19);
}

/// A saved checkpoint as its holder may have written it down: nobody asks for its signature.
fn log_note(checkpoint: &Checkpoint) -> String {
    let root = Base64::encode_string(&checkpoint.root);
    format!("{}\n{}\n{root}\n\n\u{2014} {} AAAAAAA=\n", checkpoint.name, checkpoint.size, checkpoint.name)
}

/// What a verifier is shown who saved a checkpoint: two histories, an older one, another log.
#[test]
fn a_saved_checkpoint_tells_histories_apart() {
    let Sealed { place, log, sealer, first_key, earlier, .. } = sealed("saved");
    let prover = log.prover().unwrap();
    let bundle = prover.event(Position(200), Some(earlier.size)).unwrap();
    let with = |saved: Checkpoint| Trust { saved: Some(saved), ..trusting(&first_key) };
    assert!(check(&bundle, &with(earlier.clone())).is_ok());
    let forked = Checkpoint { root: [7; 32], ..earlier.clone() };
    assert_eq!(check(&bundle, &with(forked)).unwrap_err().step, 6);
    let later = Checkpoint { size: prover.head().size + 5, ..earlier.clone() };
    assert_eq!(check(&bundle, &with(later)).unwrap_err().step, 6);
    let other = Checkpoint { name: "log.example/other".into(), ..earlier.clone() };
    assert_eq!(check(&bundle, &with(other)).unwrap_err().step, 6);
    assert_eq!(check(&bundle, &Trust::default()).unwrap_err().step, 3);
    drop((sealer, log, place));
}

/// How a log goes on can be made up by anybody: an event of one's own as the next leaf, a root over it, and a proof that both are consistent.
#[test]
fn without_a_key_nothing_behind_the_saved_checkpoint_is_proved() {
    let Sealed { place, log, sealer, earlier, .. } = sealed("no-key");
    let prover = log.prover().unwrap();
    let saved = |saved: &Checkpoint| Trust { policy: None, saved: Some(saved.clone()) };
    let python = |proof: &str, checkpoint: &Checkpoint| {
        let script = python()?;
        let (proof, note) = (place.write("proof", proof), place.write("note", log_note(checkpoint)));
        let mut python = Command::new("python3");
        python.arg(script).arg(proof).arg("--saved-checkpoint").arg(note);
        Some(serde_json::from_slice::<serde_json::Value>(&python.output().unwrap().stdout).unwrap())
    };
    let own = Checkpoint::parse(prover.checkpoint()).unwrap();
    let proofs = [
        prover.event(Position(200), Some(earlier.size)).unwrap(),
        prover.event(Position(earlier.size), Some(earlier.size)).unwrap_or_default(),
        prover.event(Position(500), Some(earlier.size)).unwrap(),
        prover.stream("order-5", Some(earlier.size)).unwrap(),
        prover.stream("nobody", Some(earlier.size)).unwrap(),
        prover.receipt(Position(200)).unwrap(),
    ];
    for (index, proof) in proofs.iter().enumerate().filter(|(_, proof)| !proof.is_empty()) {
        // The same checkpoint vouches for everything under it.
        let proved = check(proof, &saved(&own)).unwrap();
        assert_eq!((proved.key, &proved.checkpoint), (None, &own));
        // An earlier one for what is under it, and it is this one that does.
        let checked = check(proof, &saved(&earlier));
        match &checked {
            Ok(proved) => assert_eq!((index, &proved.checkpoint), (0, &earlier)),
            Err(refused) => assert!(index > 0 && refused.step == 6, "{index}: {refused:?}"),
        }
        if let Some(answer) = python(proof, &earlier) {
            assert_eq!(answer["step"].as_u64(), checked.as_ref().err().map(|refused| u64::from(refused.step)), "{index}: {answer}");
            assert_eq!(answer["size"].as_u64(), checked.ok().map(|proved| proved.checkpoint.size));
        }
    }
    drop((sealer, log));
}

fn ran(place: &Place, args: &[&str]) -> serde_json::Value {
    let ran = run(&place.log(), args);
    assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.err, ran.out);
    serde_json::from_str(&ran.out).unwrap_or(serde_json::Value::Null)
}

#[test]
fn the_commands_make_and_check_proofs() {
    let place = Place::new("commands");
    let path = |name: &str| -> String { place.join(name).to_str().unwrap().to_owned() };
    let lines: String = (1..=40)
        .map(|n| {
            format!("{{\"id\":\"e{n}\",\"stream\":\"order-{}\",\"version\":{},\"type\":\"Placed\",\"time\":\"2026-01-01T00:00:{n:02}Z\",\"actor\":\"a\",\"data\":{{\"n\":{n}}}}}\n", n % 2, (n + 1) / 2)
        })
        .collect();
    let file = place.write("events.jsonl", lines);
    let none = run(&place.log(), &["checkpoint", "--key", &path("key")]);
    assert_eq!(none.code, 3);
    ran(&place, &["import", file.to_str().unwrap(), "--json"]);
    let made = ran(&place, &["keys", "generate", "--out", &path("key"), "--json"]);
    let key = made["verifier_key"].as_str().unwrap();
    ran(&place, &["keys", "generate", "--out", &path("other"), "--name", "shop.example/other", "--json"]);
    assert_eq!(run(&place.log(), &["checkpoint", "--key", &path("other")]).code, 1, "a key of another name");
    assert_eq!(run(&place.log(), &["prove", "e3", "--out", &path("x")]).code, 1, "nothing is sealed yet");
    let checkpoint = ran(&place, &["checkpoint", "--key", &path("key"), "--out", &path("saved.note"), "--json"]);
    assert_eq!(checkpoint["note"].as_str().unwrap(), text(Path::new(&path("saved.note"))));
    assert_eq!(checkpoint["size"].as_u64(), Some(43), "genesis, 40 events, the key, the seal");
    for (what, extra, claim) in
        [("e3", None, "event"), ("order-1", None, "stream"), ("order-7", Some("--absent"), "absent"), ("e4", Some("--receipt"), "record")]
    {
        let out = path(&format!("{claim}.proof"));
        let mut args = vec!["prove", what, "--out", &out, "--json"];
        args.extend(extra);
        assert_eq!(ran(&place, &args)["claim"], claim);
        let told = ran(&place, &["check", &out, "--key", key, "--saved-checkpoint", &path("saved.note"), "--json"]);
        assert_eq!((&told["ok"], &told["claim"], &told["size"]), (&true.into(), &claim.into(), &43.into()));
        let events = told["events"].as_array().unwrap().len();
        assert_eq!(events, [("event", 1), ("stream", 20), ("absent", 0), ("record", 0)].iter().find(|(of, _)| *of == claim).unwrap().1);
        let damaged = text(Path::new(&out)).replacen("proof", "prooof", 1);
        fs::write(&out, damaged).unwrap();
        let refused = run(&place.log(), &["check", &out, "--key", key, "--json"]);
        assert_eq!(refused.code, 1);
    }
    assert_eq!(run(&place.log(), &["prove", "order-7", "--out", &path("x")]).code, 1, "absence is proved on request only");
    // Rotation, and a proof that goes on from what was saved before it.
    ran(&place, &["keys", "generate", "--out", &path("key2")]);
    ran(&place, &["keys", "rotate", "--key", &path("key"), "--to", &path("key2"), "--json"]);
    assert_eq!(run(&place.log(), &["checkpoint", "--key", &path("key")]).code, 1, "another key is in force");
    let out = path("later.proof");
    ran(&place, &["prove", "e3", "--out", &out, "--saved-checkpoint", &path("saved.note"), "--json"]);
    ran(&place, &["check", &out, "--key", key, "--saved-checkpoint", &path("saved.note"), "--json"]);
    let verified = ran(&place, &["verify", "--json"]);
    assert_eq!((&verified["ok"], &verified["events"]), (&true.into(), &40.into()));
    assert_eq!(ran(&place, &["verify", "--reader", "--json"])["ok"], true);
    assert_eq!(ran(&place, &["info", "--json"])["events"], 40);
    // From a checkpoint that was kept, from what was remembered, and from another log's checkpoint.
    let since = ran(&place, &["verify", "--since", &path("saved.note"), "--json"]);
    assert_eq!((&since["ok"], &since["records"], &since["root"]), (&true.into(), &verified["records"], &verified["root"]));
    assert_eq!(ran(&place, &["info", "--json"])["grade"]["verified_to"], serde_json::Value::Null);
    assert_eq!(ran(&place, &["verify", "--resume", "--rate", "50MiB", "--json"])["ok"], true);
    assert_eq!(ran(&place, &["info", "--json"])["grade"]["verified_to"]["size"], verified["records"]);
    let grade = &ran(&place, &["explain", "e3", "--json"])["grade"];
    assert_eq!((&grade["verified_to"]["size"], &grade["sealed_to"]["size"]), (&verified["records"], &verified["records"]));
    let forged = place.write("forged.note", text(Path::new(&path("saved.note"))).replacen("\n43\n", "\n42\n", 1));
    let refused = run(&place.log(), &["verify", "--since", forged.to_str().unwrap(), "--json"]);
    let refused: serde_json::Value = serde_json::from_str(&refused.out).unwrap();
    assert_eq!((&refused["ok"], &refused["fault"]), (&false.into(), &"tampered".into()));
    let named = text(Path::new(&path("saved.note")));
    let other = place.write("other.note", named.replacen(named.lines().next().unwrap(), "other.example", 1));
    assert_eq!(run(&place.log(), &["verify", "--since", other.to_str().unwrap()]).code, 3);
    assert_eq!(run(&place.log(), &["verify", "--since", &path("saved.note"), "--resume"]).code, 2);
}

/// A time stamping authority of this machine's own, run by `openssl ts`; `None` if that is not there.
fn authority(place: &Place) -> Option<PathBuf> {
    if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: the time stamping authority needs openssl");
        return None;
    }
    let config = place.write(
        "tsa.cnf",
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=Test TSA\n[ext]\nextendedKeyUsage=critical,timeStamping\n\
         [tsa]\ndefault_tsa=tsa1\n[tsa1]\nserial=serial\nsigner_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha256\nordering=no\ntsa_name=no\n",
    );
    place.write("serial", "01\n");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "tsa.key",
            "-out",
            "tsa.pem",
            "-days",
            "2",
            "-config",
        ])
        .arg(&config)
        .current_dir(config.parent().unwrap())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    config.parent().map(Path::to_owned)
}

#[test]
fn time_stamps_are_asked_for_bound_and_checked() {
    let place = Place::new("anchors");
    let Some(directory) = authority(&place) else { return };
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(&directory).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let log = Log::open(place.log()).unwrap();
    append(&log, 0, 50);
    log.close().unwrap();
    let path = |name: &str| -> String { place.join(name).to_str().unwrap().to_owned() };
    ran(&place, &["keys", "generate", "--out", &path("key"), "--json"]);
    ran(&place, &["checkpoint", "--key", &path("key"), "--out", &path("first.note")]);
    ran(&place, &["anchor", "rfc3161", "--request", &path("query.tsq"), "--json"]);
    openssl(&[
        "ts",
        "-reply",
        "-queryfile",
        "query.tsq",
        "-signer",
        "tsa.pem",
        "-inkey",
        "tsa.key",
        "-out",
        "reply.tsr",
        "-config",
        "tsa.cnf",
    ]);
    // The peer takes our query and our note as they are.
    openssl(&["ts", "-verify", "-queryfile", "query.tsq", "-in", "reply.tsr", "-CAfile", "tsa.pem"]);
    openssl(&["ts", "-verify", "-data", "first.note", "-in", "reply.tsr", "-CAfile", "tsa.pem"]);
    let bound = ran(&place, &["anchor", "rfc3161", "--reply", &path("reply.tsr"), "--key", &path("key"), "--json"]);
    assert!(bound["says"].as_str().unwrap().starts_with("stamped at 2"), "{bound}");
    // What is about something else, or nothing, is not bound.
    let reply = fs::read(place.join("reply.tsr")).unwrap();
    let again = ran(&place, &["anchor", "rfc3161", "--reply", &path("reply.tsr"), "--key", &path("key"), "--json"]);
    assert_eq!(again["checkpoint"], 53, "it is known which of the checkpoints it fits");
    fs::copy(place.log().join("checkpoint.note"), place.join("second.note")).unwrap();
    let second = ["anchor", "rfc3161", "--reply", &path("reply.tsr"), "--checkpoint", &path("second.note"), "--key", &path("key")];
    assert_eq!(run(&place.log(), &second).code, 1, "it is over another one");
    place.write("cut.tsr", &reply[..reply.len() / 2]);
    assert_eq!(
        run(&place.log(), &["anchor", "rfc3161", "--reply", &path("cut.tsr"), "--checkpoint", &path("first.note"), "--key", &path("key")])
            .code,
        1
    );
    assert_eq!(
        run(&place.log(), &["anchor", "ots", "--reply", &path("reply.tsr"), "--checkpoint", &path("first.note"), "--key", &path("key")])
            .code,
        1
    );
    ran(&place, &["anchor", "file", "--reply", &path("key"), "--checkpoint", &path("first.note"), "--key", &path("key"), "--json"]);
    ran(&place, &["anchor", "rfc3161", "--artefact", &path("back.tsr"), "--json"]);
    assert_eq!(fs::read(place.join("back.tsr")).unwrap(), reply, "as it came");
    let checked = run(&place.log(), &["verify", "--anchors", "--anchor-every", "1h", "--json"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    let answers: Vec<serde_json::Value> = checked.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5);
    assert_eq!((&answers[1]["anchor"], &answers[1]["ok"], &answers[3]["anchor"]), (&"rfc3161".into(), &true.into(), &"file".into()));
    // Checkpoints over nothing but anchors wait for none.
    assert_eq!((&answers[4]["checkpoints"], &answers[4]["waiting_seconds"]), (&1.into(), &serde_json::Value::Null));
    let grade = &ran(&place, &["info", "--json"])["grade"];
    assert_eq!(grade["sealed_to"]["size"], grade["durable_to"]);
    assert_eq!(grade["anchored_to"]["size"], 53, "the first checkpoint: genesis, 50 events, the key, the seal");
    assert_eq!(ran(&place, &["verify", "--reader", "--json"])["ok"], true);
}

#[test]
fn a_log_is_made_with_its_key() {
    let place = Place::new("born");
    let path = |name: &str| -> String { place.join(name).to_str().unwrap().to_owned() };
    ran(&place, &["keys", "generate", "--out", &path("key"), "--name", "log.example", "--json"]);
    assert_eq!(run(&place.log(), &["init", "--origin", "other.example", "--key", &path("key")]).code, 1);
    ran(&place, &["init", "--origin", "log.example", "--key", &path("key"), "--json"]);
    assert_eq!(ran(&place, &["checkpoint", "--key", &path("key"), "--json"])["size"], 2, "genesis and seal");
    assert_eq!(ran(&place, &["verify", "--reader", "--json"])["ok"], true);
}

/// A calendar's answer is a list of operations and a promise; the file that goes with the note is made of both.
#[test]
fn what_a_calendar_answers_becomes_a_proof_that_is_bound_and_upgraded() {
    let place = Place::new("calendar");
    let path = |name: &str| -> String { place.join(name).to_str().unwrap().to_owned() };
    let log = Log::open(place.log()).unwrap();
    append(&log, 0, 5);
    log.close().unwrap();
    ran(&place, &["keys", "generate", "--out", &path("key"), "--json"]);
    ran(&place, &["checkpoint", "--key", &path("key"), "--out", &path("first.note")]);
    let late = run(&place.log(), &["verify", "--anchors", "--anchor-every", "24h", "--json"]);
    assert_eq!(late.code, 0, "it waits, and may");
    ran(&place, &["anchor", "ots", "--request", &path("digest"), "--digest", "--json"]);
    let digest = fs::read(place.join("digest")).unwrap();
    assert_eq!(digest.len(), 32);
    let uri = b"https://calendar.example";
    let pending: &[u8] = &[0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e];
    // append(nonce), sha256, pending
    let promise = [&[0xF0, 3, 7, 7, 7, 0x08, 0x00], pending, &[uri.len() as u8 + 1, uri.len() as u8], uri].concat();
    place.write("answer", &promise);
    place.write("cut", &promise[..promise.len() - 1]);
    assert_eq!(run(&place.log(), &["anchor", "ots", "--reply", &path("cut"), "--key", &path("key")]).code, 1);
    let bound = ran(&place, &["anchor", "ots", "--reply", &path("answer"), "--key", &path("key"), "--json"]);
    assert_eq!((&bound["says"], &bound["checkpoint"]), (&"pending at https://calendar.example".into(), &8.into()));
    ran(&place, &["anchor", "ots", "--artefact", &path("proof.ots"), "--json"]);
    let proof = fs::read(place.join("proof.ots")).unwrap();
    assert!(proof.starts_with(b"\x00OpenTimestamps\x00\x00Proof\x00") && proof.ends_with(&promise));
    // Later the promise is replaced by a block, by somebody else's program: bound again, about the same checkpoint.
    let block = [&[0x00, 0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01][..], &[3, 0x80 | 0x20, 0x80 | 0x6D, 0x31]].concat();
    let upgraded = [&proof[..proof.len() - promise.len()], &[0xF0, 3, 7, 7, 7, 0x08], &block].concat();
    place.write("upgraded.ots", &upgraded);
    let bound = ran(&place, &["anchor", "ots", "--reply", &path("upgraded.ots"), "--key", &path("key"), "--json"]);
    assert_eq!((&bound["says"], &bound["checkpoint"]), (&"in Bitcoin block 816800".into(), &8.into()));
    assert_eq!(ran(&place, &["info", "--json"])["grade"]["anchored_to"]["size"], 8);
}

/// Asked by HTTP: the authority and the calendar are servers of this test.
#[cfg(feature = "http")]
#[test]
fn witnesses_are_asked_by_http() {
    use std::io::{BufRead, BufReader, Read, Write};
    let place = Place::new("http");
    let Some(directory) = authority(&place) else { return };
    let path = |name: &str| -> String { place.join(name).to_str().unwrap().to_owned() };
    let log = Log::open(place.log()).unwrap();
    append(&log, 0, 5);
    log.close().unwrap();
    ran(&place, &["keys", "generate", "--out", &path("key"), "--json"]);
    ran(&place, &["checkpoint", "--key", &path("key")]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_until(b'\n', &mut head).unwrap(), 0);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let (status, answer) = if head.starts_with("post /tsa ") {
                assert!(head.contains("content-type: application/timestamp-query"));
                fs::write(directory.join("asked.tsq"), body).unwrap();
                let args = ["ts", "-reply", "-queryfile", "asked.tsq", "-signer", "tsa.pem", "-inkey", "tsa.key", "-config", "tsa.cnf"];
                let output = Command::new("openssl").args(args).current_dir(&directory).output().unwrap();
                assert!(output.status.success());
                ("200 OK", output.stdout)
            } else if head.starts_with("post /digest ") {
                assert_eq!(body.len(), 32);
                let pending = [0x00, 0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e, 2, 1, b'c'];
                ("200 OK", pending.to_vec())
            } else {
                ("404 Not Found", b"no".to_vec())
            };
            write!(stream.get_mut(), "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len()).unwrap();
            stream.get_mut().write_all(&answer).unwrap();
        }
    });
    let stamped = ran(&place, &["anchor", "rfc3161", "--url", &format!("{url}/tsa"), "--key", &path("key"), "--json"]);
    assert!(stamped["says"].as_str().unwrap().starts_with("stamped at 2"), "{stamped}");
    let pending = ran(&place, &["anchor", "ots", "--url", &format!("{url}/"), "--key", &path("key"), "--json"]);
    assert_eq!(pending["says"], "pending at c");
    let refused = run(&place.log(), &["anchor", "rfc3161", "--url", &format!("{url}/nowhere"), "--key", &path("key")]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    server.join().unwrap();
    assert_eq!(run(&place.log(), &["verify", "--anchors", "--json"]).code, 0);
}

/// Crates of others, which know nothing of this project, take our notes, keys and proofs, and refuse them when something is changed.
#[test]
fn peers_take_our_notes_and_proofs() {
    use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
    use sha2_0_11::Sha256;
    use signed_note::{Note, StandardVerifier, VerifierList};
    let Sealed { place, log, sealer: _sealer, last_key, earlier, .. } = sealed("peers");
    let prover = log.prover().unwrap();
    let verify = |note: &str| {
        let known = VerifierList::new(vec![Box::new(StandardVerifier::new(&last_key).unwrap())]);
        Note::from_bytes(note.as_bytes()).is_ok_and(|note| note.verify(&known).is_ok_and(|(verified, _)| verified.len() == 1))
    };
    assert!(verify(prover.checkpoint()));
    assert!(!verify(&prover.checkpoint().replacen(&prover.head().size.to_string(), &(prover.head().size - 1).to_string(), 1)));
    // The file of the key is one of theirs, too.
    let signer = signed_note::StandardSigner::new(text(&place.join("second")).trim_end()).unwrap();
    let mut note = Note::new(b"log.example/orders\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", &[]).unwrap();
    note.add_sigs(&[&signer]).unwrap();
    assert!(verify(std::str::from_utf8(&note.to_bytes()).unwrap()));

    let root = |hash: [u8; 32], size: u64| RootHash::<Sha256>::new(hash.into(), size);
    let head = prover.head();
    for position in (0..head.size).step_by(37) {
        let receipt = prover.receipt(Position(position)).unwrap();
        let mut lines = receipt.lines().skip(1);
        let leaf = Base64::decode_vec(lines.next().unwrap().split(' ').nth(1).unwrap()).unwrap();
        let path: Vec<u8> = lines.skip(1).take_while(|line| !line.is_empty()).flat_map(|line| Base64::decode_vec(line).unwrap()).collect();
        let proof = InclusionProof::<Sha256>::try_from_bytes(path).unwrap();
        let whole = root(head.root, head.size);
        assert!(whole.verify_inclusion(&leaf, position, &proof).is_ok(), "{position}");
        let other: Vec<u8> = leaf.iter().map(|byte| byte ^ 1).collect();
        assert!(whole.verify_inclusion(&other, position, &proof).is_err());
    }
    for old in [1, 2, 255, 256, 257, earlier.size, head.size - 1] {
        let path = prover.consistency(old).unwrap().concat();
        let proof = ConsistencyProof::<Sha256>::try_from_bytes(path).unwrap();
        let whole = root(head.root, head.size);
        assert!(whole.verify_consistency(&root(prover.root_at(old).unwrap(), old), &proof).is_ok(), "{old}");
        assert!(whole.verify_consistency(&root([5; 32], old), &proof).is_err());
    }
}

/// Whoever has nothing but the static files comes to the root of the checkpoint, also when they were written as the log grew.
#[test]
fn a_receipt_in_cose_leads_to_the_signed_root() {
    use coset::cbor::Value;
    use coset::{CborSerializable, CoseSign1, TaggedCborSerializable, iana};
    use ed25519_dalek::{Signature, VerifyingKey};

    let place = Place::new("cose");
    let path = |name: &str| -> String { place.join(name).to_str().unwrap().to_owned() };
    let keys = ["key", "other"].map(|name| KeyFile::generate(place.join(name), "log.example/cose").unwrap());
    let log = Options::new().origin("log.example/cose").open(place.log()).unwrap();
    append(&log, 0, 100);
    log.sealer(Arc::new(KeyFile::load(place.join("key")).unwrap())).unwrap().seal().unwrap();
    let event = log.latest().event(Position(37)).unwrap().event_id().to_string();
    log.close().unwrap();
    let export = ["export", "--cose", &event, "--out", &path("receipt"), "--json", "--key"];
    assert_eq!(run(&place.log(), &[&export[..], &[&path("other")]].concat()).code, 1, "this key has not signed the checkpoint");
    let told = ran(&place, &[&export[..], &[&path("key")]].concat());
    let bytes = fs::read(path("receipt")).unwrap();
    assert_eq!(told["bytes"], bytes.len());

    // What somebody does who knows the standards only: RFC 9942, section 4.3, and RFC 9162, section 2.1.3.2.
    let unhex =
        |text: &str| -> Vec<u8> { (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect() };
    let leaf = unhex(told["leaf"].as_str().unwrap());
    let accept = |bytes: &[u8]| -> Option<(u64, [u8; 32])> {
        let sign1 = CoseSign1::from_tagged_slice(bytes).ok()?;
        let protected = &sign1.protected.header;
        let is_of_our_kind = protected.alg == Some(coset::Algorithm::Assigned(iana::Algorithm::EdDSA))
            && protected.rest == [(coset::Label::Int(395), Value::from(1))]
            && sign1.payload.is_none();
        let [(coset::Label::Int(396), Value::Map(proofs))] = &sign1.unprotected.rest[..] else { return None };
        let [(Value::Integer(kind), Value::Array(proofs))] = &proofs[..] else { return None };
        let [Value::Bytes(proof)] = &proofs[..] else { return None };
        let Value::Array(proof) = Value::from_slice(proof).ok()? else { return None };
        let [Value::Integer(size), Value::Integer(index), Value::Array(path)] = &proof[..] else { return None };
        let (size, index) = (u64::try_from(*size).ok()?, u64::try_from(*index).ok()?);
        let sha256 = |parts: &[&[u8]]| -> [u8; 32] { <sha2::Sha256 as sha2::Digest>::digest(parts.concat()).into() };
        let (mut first, mut last, mut root) = (index, size.checked_sub(1)?, sha256(&[&[0], &leaf]));
        for hash in path {
            let hash = hash.as_bytes()?;
            (last > 0).then_some(())?;
            if first % 2 == 1 || first == last {
                root = sha256(&[&[1], hash, &root]);
                while first % 2 == 0 && first > 0 {
                    (first, last) = (first / 2, last / 2);
                }
            } else {
                root = sha256(&[&[1], &root, hash]);
            }
            (first, last) = (first / 2, last / 2);
        }
        let key = VerifyingKey::from_bytes(&chainring::Signer::public_key(&keys[0])).unwrap();
        let verify =
            |signature: &[u8], signed: &[u8]| key.verify_strict(signed, &Signature::from_slice(signature).map_err(|_| ())?).map_err(|_| ());
        let is_signed = sign1.verify_detached_signature(&root, &[], verify).is_ok();
        (is_of_our_kind && *kind == (-1).into() && last == 0 && index < size && is_signed).then_some((index, root))
    };
    let said = (37, unhex(told["root"].as_str().unwrap()).try_into().unwrap());
    assert_eq!(accept(&bytes), Some(said));
    let mut accepted = 0;
    for at in 0..bytes.len() {
        for bit in [0, 3, 7] {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            // The size is not signed: another one with the same path says the same of the record.
            assert!(accept(&changed).is_none_or(|found| found == said), "byte {at}");
            accepted += usize::from(accept(&changed).is_some());
        }
    }
    assert!(accepted <= 3, "{accepted} changes");
}

#[test]
fn tiles_give_the_root_of_the_checkpoint() {
    use sha2::{Digest, Sha256};
    let Sealed { place, log, sealer, .. } = sealed("tiles");
    let to = place.join("mirror");
    let mirror = || ran(&place, &["tiles", "--to", to.to_str().unwrap(), "--json"]);
    assert!(mirror()["written"].as_u64().unwrap() > 6);
    append(&log, 700, 700);
    let head = sealer.seal().unwrap().head;
    assert_eq!(mirror()["size"], head.size);
    let root = |hashes: Vec<[u8; 32]>| {
        let mut frontier = chainring_format::tree::Frontier::new();
        hashes.into_iter().for_each(|hash| frontier.push(&chainring::Link(hash)));
        frontier.root()
    };
    let tile = |path: String| -> Vec<[u8; 32]> { fs::read(to.join(path)).unwrap().as_chunks::<32>().0.to_vec() };
    let (whole, rest) = (head.size / 256, head.size % 256);
    let mut leaves = Vec::new();
    for number in 0..=whole {
        let suffix = if number < whole { String::new() } else { format!(".p/{rest}") };
        let hashes = tile(format!("tile/0/{number:03}{suffix}"));
        let entries = fs::read(to.join(format!("tile/entries/{number:03}{suffix}"))).unwrap();
        for (entry, hash) in entries.chunks(118).zip(&hashes) {
            assert_eq!(entry[..2], 116_u16.to_be_bytes());
            assert_eq!(<[u8; 32]>::from(Sha256::digest([&[0][..], &entry[2..]].concat())), *hash);
        }
        leaves.extend(hashes);
    }
    assert_eq!(root(leaves.clone()), head.root);
    let upper = tile(format!("tile/1/000.p/{whole}"));
    assert_eq!(upper, leaves.chunks_exact(256).map(|block| root(block.to_vec())).collect::<Vec<_>>());
    assert_eq!(text(&to.join("checkpoint")).lines().nth(1), Some(&*head.size.to_string()));
}
