//! What others attest of a checkpoint - time stamping authorities, calendars of OpenTimestamps - is asked for, bound and checked; and their own programs take it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chainring::Log;
use chainring_tools::fuzzing::{read_proof, read_stamp};
use common::http::serve;
use common::sealed::append;
use common::{Place, Ran, answers, hex, python, ran, run, sha256, text, unhex};
use serde_json::json;
use sha2::{Digest, Sha256};

/// With which key and certificate the authority signs.
const SIGNED: [&str; 6] = ["-signer", "tsa.pem", "-inkey", "tsa.key", "-config", "tsa.cnf"];

/// Runs openssl, which must say yes: what it printed.
fn openssl(directory: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(args).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
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
    let directory = config.parent()?.to_owned();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "tsa.key"];
    let certificate = ["-out", "tsa.pem", "-days", "2", "-config", "tsa.cnf"];
    openssl(&directory, &[&["req", "-x509"], &key[..], &certificate].concat());
    Some(directory)
}

/// A log of so many events with its key, sealed: its checkpoint is in `first.note`.
fn seal(place: &Place, events: usize) {
    let log = Log::open(place.log()).unwrap();
    append(&log, 0, events);
    log.close().unwrap();
    ran(place, &["keys", "generate", "--out", &place.path("key"), "--json"]);
    ran(place, &["checkpoint", "--key", &place.path("key"), "--out", &place.path("first.note")]);
}

/// What a part of a proof of OpenTimestamps says: append this and hash.
fn hashed_with(nonce: &[u8]) -> Vec<u8> {
    [&[0xF0, nonce.len() as u8], nonce, &[0x08]].concat()
}

/// A calendar's promise.
fn pending(uri: &str) -> Vec<u8> {
    let tag = [0x00, 0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e];
    [&tag[..], &[uri.len() as u8 + 1, uri.len() as u8], uri.as_bytes()].concat()
}

/// That the block of this height, below 2^21, has it.
fn in_block(height: u32) -> Vec<u8> {
    let tag = [0x00, 0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01];
    [&tag[..], &[3, 0x80 | height as u8, 0x80 | (height >> 7) as u8, (height >> 14) as u8]].concat()
}

#[test]
fn time_stamps_are_asked_for_bound_and_checked() {
    let place = Place::new("anchors");
    let Some(directory) = authority(&place) else { return };
    let path = |name: &str| place.path(name);
    seal(&place, 50);
    ran(&place, &["anchor", "rfc3161", "--request", &path("query.tsq"), "--json"]);
    openssl(&directory, &[&["ts", "-reply", "-queryfile", "query.tsq", "-out", "reply.tsr"], &SIGNED[..]].concat());
    // The peer takes our query and our note as they are.
    openssl(&directory, &["ts", "-verify", "-queryfile", "query.tsq", "-in", "reply.tsr", "-CAfile", "tsa.pem"]);
    openssl(&directory, &["ts", "-verify", "-data", "first.note", "-in", "reply.tsr", "-CAfile", "tsa.pem"]);
    place.write("other.note", text(path("first.note")).replacen("\n53\n", "\n52\n", 1));
    let other = ["ts", "-verify", "-data", "other.note", "-in", "reply.tsr", "-CAfile", "tsa.pem"];
    assert!(!Command::new("openssl").args(other).current_dir(&directory).output().unwrap().status.success());
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

/// A program that knows nothing of this project takes the stamps that we take, and of what is changed nothing that we would read otherwise.
#[test]
fn a_client_of_time_stamps_takes_what_we_bind() {
    let place = Place::new("stamps");
    let (Some(directory), Some(mut client)) = (authority(&place), python("rfc3161_client, cryptography")) else { return };
    let path = |name: &str| place.path(name);
    seal(&place, 5);
    ran(&place, &["anchor", "rfc3161", "--request", &path("query.tsq"), "--json"]);
    openssl(&directory, &[&["ts", "-reply", "-queryfile", "query.tsq", "-out", "reply.tsr"], &SIGNED[..]].concat());
    ran(&place, &["anchor", "rfc3161", "--reply", &path("reply.tsr"), "--key", &path("key"), "--json"]);
    ran(&place, &["anchor", "rfc3161", "--artefact", &path("back.tsr"), "--json"]);
    let reply = fs::read(path("back.tsr")).unwrap();
    let contents = changes(&reply);
    let answers = answers(client.arg(script("verify_stamp.py")).args([path("tsa.pem"), path("first.note")]), &place, &contents);
    assert_eq!(answers[0], "yes");
    let said = read_stamp(&reply).unwrap();
    for (answer, content) in answers.iter().zip(&contents).filter(|(answer, _)| *answer == "yes") {
        assert_eq!(read_stamp(content).as_ref(), Some(&said), "{answer}: {}", hex(content));
    }
    let refused = answers.iter().filter(|answer| *answer != "yes").count();
    assert!(refused > contents.len() / 10 * 9, "{refused} of {}", contents.len());
}

/// A calendar's answer is a list of operations and a promise; the file that goes with the note is made of both.
#[test]
fn what_a_calendar_answers_becomes_a_proof_that_is_bound_and_upgraded() {
    let place = Place::new("calendar");
    let path = |name: &str| place.path(name);
    seal(&place, 5);
    let late = run(&place.log(), &["verify", "--anchors", "--anchor-every", "24h", "--json"]);
    assert_eq!(late.code, 0, "it waits, and may");
    ran(&place, &["anchor", "ots", "--request", &path("digest"), "--digest", "--json"]);
    let digest = fs::read(place.join("digest")).unwrap();
    assert_eq!(digest.len(), 32);
    let promise = [&hashed_with(&[7, 7, 7])[..], &pending("https://calendar.example")].concat();
    place.write("answer", &promise);
    place.write("cut", &promise[..promise.len() - 1]);
    assert_eq!(run(&place.log(), &["anchor", "ots", "--reply", &path("cut"), "--key", &path("key")]).code, 1);
    let bound = ran(&place, &["anchor", "ots", "--reply", &path("answer"), "--key", &path("key"), "--json"]);
    assert_eq!((&bound["says"], &bound["checkpoint"]), (&"pending at https://calendar.example".into(), &8.into()));
    ran(&place, &["anchor", "ots", "--artefact", &path("proof.ots"), "--json"]);
    let proof = fs::read(place.join("proof.ots")).unwrap();
    assert!(proof.starts_with(b"\x00OpenTimestamps\x00\x00Proof\x00") && proof.ends_with(&promise));
    // Later the promise is replaced by a block, by somebody else's program: bound again, about the same checkpoint.
    let upgraded = [&proof[..proof.len() - promise.len()], &hashed_with(&[7, 7, 7]), &in_block(816_800)].concat();
    place.write("upgraded.ots", &upgraded);
    let bound = ran(&place, &["anchor", "ots", "--reply", &path("upgraded.ots"), "--key", &path("key"), "--json"]);
    assert_eq!((&bound["says"], &bound["checkpoint"]), (&"in Bitcoin block 816800".into(), &8.into()));
    assert_eq!(ran(&place, &["info", "--json"])["grade"]["anchored_to"]["size"], 8);
}

/// Asked by HTTP: the authority and the calendar are servers of this test.
#[cfg(feature = "http")]
#[test]
fn witnesses_are_asked_by_http() {
    let place = Place::new("http");
    let Some(directory) = authority(&place) else { return };
    let path = |name: &str| place.path(name);
    seal(&place, 5);
    let url = serve(move |asked| match &*asked.what {
        "POST /tsa" => {
            assert!(asked.head.contains("content-type: application/timestamp-query"));
            fs::write(directory.join("asked.tsq"), &asked.body).unwrap();
            ("200 OK", openssl(&directory, &[&["ts", "-reply", "-queryfile", "asked.tsq"], &SIGNED[..]].concat()))
        }
        "POST /digest" => {
            assert_eq!(asked.body.len(), 32);
            ("200 OK", pending("c"))
        }
        _ => ("404 Not Found", b"no".to_vec()),
    });
    let stamped = ran(&place, &["anchor", "rfc3161", "--url", &format!("{url}/tsa"), "--key", &path("key"), "--json"]);
    assert!(stamped["says"].as_str().unwrap().starts_with("stamped at 2"), "{stamped}");
    let pending = ran(&place, &["anchor", "ots", "--url", &format!("{url}/"), "--key", &path("key"), "--json"]);
    assert_eq!(pending["says"], "pending at c");
    let refused = run(&place.log(), &["anchor", "rfc3161", "--url", &format!("{url}/nowhere"), "--key", &path("key")]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert_eq!(run(&place.log(), &["verify", "--anchors", "--json"]).code, 0);
}

/// A program of `peers/`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// Everything that comes of changing one byte, in several ways, or of leaving out what is behind it; and what was not changed, first.
fn changes(bytes: &[u8]) -> Vec<Vec<u8>> {
    let of_byte = |at: usize| {
        let changed = [0x01, 0x08, 0x80, 0xFF].map(|flip| {
            let mut changed = bytes.to_vec();
            changed[at] ^= flip;
            changed
        });
        changed.into_iter().chain([bytes[..at].to_vec(), [&bytes[..at], &bytes[at + 1..]].concat()])
    };
    [bytes.to_vec()].into_iter().chain((0..bytes.len()).flat_map(of_byte)).chain([[bytes, &[0]].concat()]).collect()
}

/// A calendar, and the node of a chain of blocks that the calendar's promises get into.
fn calendar_and_node(is_mined: Arc<AtomicBool>) -> String {
    let (promised, mined) = (b"promised", b"mined");
    let mut root = [0; 32];
    let mut own = String::new();
    serve(move |asked| {
        let (method, what) = asked.what.split_once(' ').unwrap();
        let host = asked.head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        if own.is_empty() {
            own = format!("http://{host}");
        }
        match (method, what.strip_prefix("/timestamp/")) {
            ("POST", None) if what == "/digest" => ("200 OK", [hashed_with(promised), pending(&own)].concat()),
            ("GET", Some(commitment)) if is_mined.load(Ordering::SeqCst) => {
                root = Sha256::digest([&unhex(commitment)[..], mined].concat()).into();
                ("200 OK", [hashed_with(mined), in_block(HEIGHT)].concat())
            }
            ("GET", Some(_)) => ("404 Not Found", b"not yet".to_vec()),
            _ => {
                let call: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
                // Version, the block before, Merkle root, time, difficulty, nonce: all but root and time are as good as any.
                let header = [&[1, 0, 0, 0][..], &[0; 32], &root, &1_700_000_000_u32.to_le_bytes(), &[0; 8]].concat();
                let result = match call["method"].as_str().unwrap() {
                    "getblockcount" => (HEIGHT + 6).into(),
                    "getblockhash" => json!("ab".repeat(32)),
                    "getblockheader" => json!(hex(&header)),
                    other => panic!("{other}"),
                };
                ("200 OK", json!({ "result": result, "error": null, "id": call["id"] }).to_string().into_bytes())
            }
        }
    })
}

const HEIGHT: u32 = 870_000;

/// The client of OpenTimestamps makes, upgrades and verifies what we bind, and what we make of a calendar's answer is a proof for it.
#[test]
fn the_client_of_opentimestamps_takes_our_notes_and_proofs() {
    let place = Place::new("ots-client");
    if python("otsclient").is_none() {
        return;
    }
    let path = |name: &str| place.path(name);
    let is_mined = Arc::new(AtomicBool::new(false));
    let url = calendar_and_node(is_mined.clone());
    let ots = |args: &[&str]| {
        let mut ots = Command::new("python3");
        ots.env("TZ", "UTC").args([
            "-c",
            "from otsclient.ots import main; main()",
            "--no-cache",
            "--no-default-whitelist",
            "--whitelist",
            &url,
        ]);
        ots.args(["--bitcoin-node", &url.replace("http://", "http://user:word@")]).args(args);
        Ran::of(ots.output().unwrap())
    };
    let bind = |proof: &str| run(&place.log(), &["anchor", "ots", "--reply", &path(proof), "--key", &path("key"), "--json"]);
    seal(&place, 5);

    // The note as it is, stamped by the client.
    let stamped = ots(&["stamp", "--timeout", "60", "-c", &url, "-m", "1", &path("first.note")]);
    assert_eq!(stamped.code, 0, "{}", stamped.err);
    fs::rename(path("first.note.ots"), path("theirs.ots")).unwrap();
    assert_eq!(bind("theirs.ots").json()["says"], format!("pending at {url}"));
    // What we make of a calendar's answer.
    ran(&place, &["anchor", "ots", "--request", &path("digest"), "--digest", "--checkpoint", &path("first.note"), "--json"]);
    place.write("answer", [hashed_with(b"promised"), pending(&url)].concat());
    let bound = run(
        &place.log(),
        &["anchor", "ots", "--reply", &path("answer"), "--checkpoint", &path("first.note"), "--key", &path("key"), "--json"],
    );
    assert_eq!(bound.json()["says"], format!("pending at {url}"), "{}", bound.err);
    ran(&place, &["anchor", "ots", "--artefact", &path("ours.ots"), "--json"]);
    let told = ots(&["info", &path("ours.ots")]);
    assert!(told.out.contains(&sha256(fs::read(path("first.note")).unwrap())), "{}", told.out);

    assert_ne!(ots(&["upgrade", &path("ours.ots")]).code, 0, "not yet");
    is_mined.store(true, Ordering::SeqCst);
    for proof in ["theirs.ots", "ours.ots"] {
        let upgraded = ots(&["upgrade", &path(proof)]);
        assert_eq!(upgraded.code, 0, "{}", upgraded.err);
        let says = bind(proof).json()["says"].as_str().unwrap().to_owned();
        assert!(says.contains(&format!("in Bitcoin block {HEIGHT}")), "{says}");
        let verified = ots(&["verify", "-f", &path("first.note"), &path(proof)]);
        assert_eq!(verified.code, 0, "{}", verified.err);
        assert!(verified.err.contains(&format!("Bitcoin block {HEIGHT} attests existence as of 2023-11-14")), "{}", verified.err);
    }
    let upgraded = fs::read(path("ours.ots")).unwrap();
    let at = upgraded.windows(8).position(|bytes| bytes == b"promised").unwrap();
    place.write("other.ots", [&upgraded[..at], b"Promised", &upgraded[at + 8..]].concat());
    assert_ne!(ots(&["verify", "-f", &path("first.note"), &path("other.ots")]).code, 0, "it does not lead to the block");
    // What is changed says the same to both, or nothing.
    let forked = [&upgraded[..65], &[0xFF], &pending("https://a.example"), &hashed_with(&[9; 100]), &in_block(7)].concat();
    for proof in [&upgraded, &forked] {
        let changed = changes(proof);
        let read = answers(Command::new("python3").arg(script("read_ots.py")), &place, &changed);
        let mut taken = 0;
        for (read, changed) in read.iter().zip(&changed) {
            let ours = read_proof(changed).map_or("no".to_owned(), |(digest, says)| format!("{} {says}", hex(&digest)));
            assert_eq!(*read, ours, "{}", hex(changed));
            taken += usize::from(ours != "no");
        }
        assert!(taken > 32 && taken < changed.len() - 32, "{taken} of {}", changed.len());
    }
    let changed = place.write("changed.note", text(path("first.note")).replacen("\n8\n", "\n7\n", 1));
    assert_ne!(ots(&["verify", "-f", changed.to_str().unwrap(), &path("ours.ots")]).code, 0);
    ran(&place, &["anchor", "ots", "--artefact", &path("back.ots"), "--json"]);
    assert_eq!(fs::read(path("back.ots")).unwrap(), fs::read(path("ours.ots")).unwrap(), "as it came");
}
