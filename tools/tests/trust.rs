//! Keys, checkpoints, proofs: by the command line, checked by the independent checker; and what an attacker can do to a proof.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use chainring::Position;
use chainring_reader::{Checkpoint, Claim, Policy, Proved, Trust, VerifierKey, check};
use common::sealed::{Sealed, append};
use common::{Place, answers, ran, run, text, verifier_in_python};

fn trusting(key: &str) -> Trust {
    Trust { policy: Some(Policy::of_key(VerifierKey::parse(key).unwrap())), saved: None }
}

#[test]
fn what_is_proved_is_what_is_in_the_log() {
    let Sealed { place: _place, log, sealer, first_key, last_key, earlier } = Sealed::new("proved");
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
    let Sealed { place: _place, log, last_key, first_key, earlier, .. } = Sealed::new("changed");
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

/// Both verifiers, which share nothing but TRUST.md, say the same of proofs and of what attackers make of them.
#[test]
fn the_verifier_in_python_agrees() {
    let (Some(mut batch), Some(mut alone)) = (verifier_in_python(), verifier_in_python()) else { return };
    let Sealed { place, log, first_key, earlier, .. } = Sealed::new("python");
    let prover = log.prover().unwrap();
    let saved_note = log_note(&earlier);
    let proofs = [
        prover.event(Position(200), Some(earlier.size)).unwrap(),
        prover.stream("order-5", None).unwrap(),
        prover.stream("nobody", None).unwrap(),
    ];
    let trust = trusting(&first_key);
    let mut contents = Vec::new();
    let mut expected = Vec::new();
    let mut add = |bytes: &[u8]| {
        contents.push(bytes.to_vec());
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
    let told = answers(batch.args(["--batch", "--key", &first_key]), &place, &contents);
    for ((line, expected), content) in told.iter().zip(&expected).zip(&contents) {
        let answer: serde_json::Value = serde_json::from_str(line).unwrap();
        let said = (
            answer["ok"].as_bool().unwrap(),
            if expected.0 { answer["events"].as_array().map(|all| all.len() as u64) } else { answer["step"].as_u64() },
        );
        assert_eq!(said, *expected, "{}: {line}", String::from_utf8_lossy(content));
    }
    // With a saved checkpoint, too.
    let note = place.write("saved.note", saved_note);
    let alone = alone.arg(place.join("0.content")).arg("--saved-checkpoint").arg(note).output().unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
}

/// Where the golden proofs are.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/vectors/proofs")
}

/// Makes the golden proofs anew, with other keys and salts: only when a change of TRUST.md asks for it.
fn bless() {
    let Sealed { place: _place, log, first_key, last_key, earlier, .. } = Sealed::new("golden");
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
    let expectations: Vec<serde_json::Value> = serde_json::from_str(&text(golden().join("expect.json"))).unwrap();
    let saved = Checkpoint::parse(&text(golden().join("saved.note"))).unwrap();
    for expected in &expectations {
        let (name, key) = (expected["proof"].as_str().unwrap(), expected["key"].as_str());
        let with_saved = expected["saved"].as_bool().unwrap();
        let trust = Trust { saved: with_saved.then(|| saved.clone()), ..key.map(trusting).unwrap_or_default() };
        let step = check(&text(golden().join(name)), &trust).err().map(|refused| u64::from(refused.step));
        assert_eq!(step, expected["step"].as_u64(), "{name}");
        if let Some(mut python) = verifier_in_python() {
            python.arg(golden().join(name)).args(key.iter().flat_map(|key| ["--key", key]));
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
    let Sealed { place, log, sealer, first_key, earlier, .. } = Sealed::new("saved");
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
    let Sealed { place, log, sealer, earlier, .. } = Sealed::new("no-key");
    let prover = log.prover().unwrap();
    let saved = |saved: &Checkpoint| Trust { policy: None, saved: Some(saved.clone()) };
    let python = |proof: &str, checkpoint: &Checkpoint| {
        let mut python = verifier_in_python()?;
        let (proof, note) = (place.write("proof", proof), place.write("note", log_note(checkpoint)));
        python.arg(proof).arg("--saved-checkpoint").arg(note);
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

#[test]
fn the_commands_make_and_check_proofs() {
    let place = Place::new("commands");
    let path = |name: &str| place.path(name);
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

#[test]
fn a_log_is_made_with_its_key() {
    let place = Place::new("born");
    let path = |name: &str| place.path(name);
    ran(&place, &["keys", "generate", "--out", &path("key"), "--name", "log.example", "--json"]);
    assert_eq!(run(&place.log(), &["init", "--origin", "other.example", "--key", &path("key")]).code, 1);
    ran(&place, &["init", "--origin", "log.example", "--key", &path("key"), "--json"]);
    assert_eq!(ran(&place, &["checkpoint", "--key", &path("key"), "--json"])["size"], 2, "genesis and seal");
    assert_eq!(ran(&place, &["verify", "--reader", "--json"])["ok"], true);
}
