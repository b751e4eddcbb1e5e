//! Programs and crates of others, which know nothing of this project, take our keys, notes, proofs and tiles, and refuse them when something is changed.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use chainring::{KeyFile, Options, Position, Prover};
use chainring_reader::{Policy, Trust, VerifierKey, check};
use common::sealed::{ORIGIN, Sealed, append};
use common::{Place, peer, ran, run, text, unhex};

/// Leaf and path of a record, as its receipt has them (C2SP tlog-proof).
fn leaf_and_path(prover: &Prover, position: u64) -> (Vec<u8>, Vec<u8>) {
    let receipt = prover.receipt(Position(position)).unwrap();
    let mut lines = receipt.lines().skip(1);
    let leaf = Base64::decode_vec(lines.next().unwrap().split(' ').nth(1).unwrap()).unwrap();
    let path = lines.skip(1).take_while(|line| !line.is_empty()).flat_map(|line| Base64::decode_vec(line).unwrap());
    (leaf, path.collect())
}

/// Crates of others, which know nothing of this project, take our notes, keys and proofs, and refuse them when something is changed.
#[test]
fn peers_take_our_notes_and_proofs() {
    use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
    use sha2_0_11::Sha256;
    use signed_note::{Note, StandardVerifier, VerifierList};
    let Sealed { place, log, sealer: _sealer, last_key, earlier, .. } = Sealed::new("peers");
    let prover = log.prover().unwrap();
    let verify = |note: &str| {
        let known = VerifierList::new(vec![Box::new(StandardVerifier::new(&last_key).unwrap())]);
        Note::from_bytes(note.as_bytes()).is_ok_and(|note| note.verify(&known).is_ok_and(|(verified, _)| verified.len() == 1))
    };
    assert!(verify(prover.checkpoint()));
    assert!(!verify(&prover.checkpoint().replacen(&prover.head().size.to_string(), &(prover.head().size - 1).to_string(), 1)));
    // The file of the key is one of theirs, too.
    let signer = signed_note::StandardSigner::new(text(place.join("second")).trim_end()).unwrap();
    let mut note = Note::new(b"log.example/orders\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", &[]).unwrap();
    note.add_sigs(&[&signer]).unwrap();
    assert!(verify(std::str::from_utf8(&note.to_bytes()).unwrap()));

    let root = |hash: [u8; 32], size: u64| RootHash::<Sha256>::new(hash.into(), size);
    let head = prover.head();
    for position in (0..head.size).step_by(37) {
        let (leaf, path) = leaf_and_path(&prover, position);
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
    let path = |name: &str| place.path(name);
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
    let Sealed { place, log, sealer, .. } = Sealed::new("tiles");
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
    assert_eq!(text(to.join("checkpoint")).lines().nth(1), Some(&*head.size.to_string()));
}

/// Go's `sumdb`, behind the program in `peers/`, which answers line by line.
struct Go {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Go {
    /// `None`, said loudly, where there is no Go, or no `golang.org/x/mod` beside it (Debian: `golang-go` and `golang-golang-x-mod-dev`).
    fn new(place: &Place) -> Option<Go> {
        let go = || {
            let mut go = Command::new("go");
            go.env("GO111MODULE", "off").env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"));
            if Path::new("/usr/share/gocode").exists() {
                go.env("GOPATH", "/usr/share/gocode");
            }
            go
        };
        let packages = ["golang.org/x/mod/sumdb/note", "golang.org/x/mod/sumdb/tlog"];
        if !go().arg("list").args(packages).output().is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: this test needs Go with golang.org/x/mod");
            return None;
        }
        let program = place.join("peer");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/peer.go");
        peer(go().args(["build", "-o"]).arg(&program).arg(source));
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (questions, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Go { child, questions, answers })
    }

    /// What it says, if that is a yes.
    fn ask(&mut self, question: &str) -> Option<String> {
        writeln!(self.questions, "{question}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let (verdict, said) = answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), ""));
        assert!(["yes", "no"].contains(&verdict), "{question}: {answer}");
        assert!(!said.starts_with("what is"), "{question}: {answer}");
        (verdict == "yes").then(|| said.to_owned())
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    if bytes.as_ref().is_empty() { "-".to_owned() } else { Base64::encode_string(bytes.as_ref()) }
}

/// Bytes with one of them changed.
fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn go_takes_our_notes_and_keys_and_we_take_its_own() {
    let Sealed { place, log, sealer, first_key, last_key, earlier } = Sealed::new("go-notes");
    let Some(mut go) = Go::new(&place) else { return };
    let prover = log.prover().unwrap();
    let note = prover.checkpoint();
    let (text_of_note, _) = note.rsplit_once("\n\n").unwrap();
    let signed = base64(format!("{text_of_note}\n"));
    assert_eq!(go.ask(&format!("note {last_key} {}", base64(note))), Some(signed.clone()));
    assert_eq!(go.ask(&format!("note {first_key} {}", base64(note))), None, "it is not this key's");
    // The last sign of 68 bytes in base64 has two bits that stand for nothing, which Go does not look at.
    let last = note.rfind('=').unwrap() - 1;
    for at in 0..note.len() {
        let said = go.ask(&format!("note {last_key} {}", base64(changed(note.as_bytes(), at))));
        assert!(said.is_none() || (at == last && said == Some(signed.clone())), "byte {at}");
    }
    // Ed25519 has one signature for a text: what Go signs with the file of our key is our note, byte for byte.
    let private = text(place.join("second"));
    assert_eq!(go.ask(&format!("sign {} {signed}", private.trim_end())), Some(base64(note)));
    // And the other way round: a key that Go made signs a log.
    let made = go.ask(&format!("key {ORIGIN}")).unwrap();
    let (private, public) = made.split_once(' ').unwrap();
    let file = place.write("made-by-go", format!("{private}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let key = KeyFile::load(file).unwrap();
    assert_eq!(key.verifier_key(), public);
    sealer.rotate(Arc::new(key)).unwrap();
    let note = sealer.seal().unwrap().note;
    assert!(go.ask(&format!("note {public} {}", base64(&note))).is_some());
    let policy = Policy::of_key(VerifierKey::parse(public).unwrap());
    let trust = Trust { policy: Some(policy), saved: Some(earlier.clone()) };
    let proof = log.prover().unwrap().event(Position(200), Some(earlier.size)).unwrap();
    assert_eq!(check(&proof, &trust).unwrap().position, Some(200));
}

#[test]
fn go_takes_our_proofs() {
    let Sealed { place, log, .. } = Sealed::new("go-proofs");
    let Some(mut go) = Go::new(&place) else { return };
    let prover = log.prover().unwrap();
    let (size, root) = (prover.head().size, prover.head().root);
    let mut record = |size: u64, root: &[u8; 32], index: u64, leaf: &[u8], path: &[u8]| {
        go.ask(&format!("record {size} {} {index} {} {}", base64(root), base64(leaf), base64(path))).is_some()
    };
    for position in 0..size {
        let (leaf, path) = leaf_and_path(&prover, position);
        assert!(record(size, &root, position, &leaf, &path), "{position}");
        if position.is_multiple_of(17) {
            assert!((0..leaf.len()).all(|at| !record(size, &root, position, &changed(&leaf, at), &path)));
            assert!((0..path.len()).all(|at| !record(size, &root, position, &leaf, &changed(&path, at))));
            assert!(!record(size, &root, position ^ 1, &leaf, &path));
            assert!(!record(size, &root, position, &leaf, &path[32..]));
            assert!(!record(size, &root, position, &leaf, &[&path[..], &[0; 32]].concat()));
            assert!(!record(size, &[7; 32], position, &leaf, &path));
        }
    }
    let mut tree = |old: u64, old_root: &[u8; 32], path: &[u8]| {
        go.ask(&format!("tree {size} {} {old} {} {}", base64(root), base64(old_root), base64(path))).is_some()
    };
    for old in 1..=size {
        let (old_root, path) = (prover.root_at(old).unwrap(), prover.consistency(old).unwrap().concat());
        assert!(tree(old, &old_root, &path), "{old}");
        if old.is_multiple_of(17) {
            assert!((0..path.len()).all(|at| !tree(old, &old_root, &changed(&path, at))));
            assert!(!tree(old, &prover.root_at(old - 1).unwrap_or_default(), &path));
            assert!(!tree(old, &old_root, &[&path[..], &[0; 32]].concat()));
        }
    }
}

#[test]
fn go_makes_proofs_from_our_tiles() {
    let Sealed { place, log, sealer, .. } = Sealed::new("go-tiles");
    let Some(mut go) = Go::new(&place) else { return };
    let mirror = place.path("mirror");
    for more in [0, 1, 254, 700] {
        append(&log, 700, more);
        let head = sealer.seal().unwrap().head;
        ran(&place, &["tiles", "--to", &mirror, "--json"]);
        let question = format!("tiles {} {} {mirror}", head.size, base64(head.root));
        assert!(go.ask(&question).is_some(), "{}", head.size);
        let tile = Path::new(&mirror).join("tile/0/001");
        let right = fs::read(&tile).unwrap();
        fs::write(&tile, changed(&right, 100)).unwrap();
        assert!(go.ask(&question).is_none());
        fs::write(&tile, right).unwrap();
    }
}
