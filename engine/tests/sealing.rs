//! Sealing, checkpoints, and what a signer refuses.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use chainring::disk::Environment;
use chainring::disk::sim::{Fault, SimDisk, SimRandom};
use chainring::{AnchorForm, Event, KeyFile, Log, Options, Position, SealError, Signer, verify};

fn key(directory: &std::path::Path, name: &str) -> Arc<KeyFile> {
    Arc::new(KeyFile::generate(directory.join(name), "log.example").unwrap())
}

fn append(log: &Log, count: usize) {
    for index in 0..count {
        log.append(Event::new(format!("order-{}", index % 17), "Placed").body(format!("{{\"n\":{index}}}"))).unwrap();
    }
}

fn holds(store: &std::path::Path) -> u64 {
    let report = verify(store, &chainring::VerifyOptions::default()).unwrap();
    assert_eq!(report.fault, None);
    report.records
}

#[test]
fn seals_hold_across_segments_and_opens() {
    let place = tempfile::tempdir().unwrap();
    let (store, key) = (place.path().join("log"), key(place.path(), "key"));
    let mut sizes = Vec::new();
    for round in 0..3 {
        let log = Options::new().segment_bytes(64 << 10).origin("log.example").open(&store).unwrap();
        let sealer = log.sealer(key.clone()).unwrap();
        for _ in 0..4 {
            append(&log, 150 + round);
            let checkpoint = sealer.seal().unwrap();
            assert_eq!(sealer.seal().unwrap(), checkpoint, "nothing has come since");
            assert!(checkpoint.note.starts_with(&format!("log.example\n{}\n", checkpoint.head.size)));
            sizes.push(checkpoint.head);
        }
        let prover = log.prover().unwrap();
        for head in &sizes {
            assert_eq!(prover.root_at(head.size).unwrap(), head.root, "one tree, however often it was opened");
        }
        drop(sealer);
        log.close().unwrap();
        assert_eq!(holds(&store), sizes.last().unwrap().size);
    }
}

/// The leader hands links over as far as there is room: the rest comes from the log, in the middle and at the end.
#[test]
fn what_the_sealer_was_not_handed_it_reads() {
    let place = tempfile::tempdir().unwrap();
    let (store, key) = (place.path().join("log"), key(place.path(), "key"));
    let log = Options::new().segment_bytes(8 << 20).origin("log.example").open(&store).unwrap();
    append(&log, 10);
    let sealer = log.sealer(key).unwrap();
    let burst = |count: u64| {
        for first in (0..count).step_by(1000) {
            log.append((first..first + 1000).map(|n| Event::new(format!("s{}", n % 300), "E")).collect::<Vec<_>>()).unwrap();
        }
    };
    for count in [3000, 200_000, 1000, 150_000] {
        burst(count);
        let sealed = sealer.seal().unwrap();
        assert_eq!(chainring::Store::open(&store).unwrap().prover().unwrap().root_at(sealed.head.size).unwrap(), sealed.head.root);
    }
    burst(200_000);
    append(&log, 10);
    let sealer = sealer.every(Duration::from_millis(20));
    burst(100_000);
    let last = sealer.finish().unwrap();
    log.close().unwrap();
    assert_eq!(holds(&store), last.head.size);
}

#[test]
fn a_log_can_be_born_with_its_key() {
    let place = tempfile::tempdir().unwrap();
    let (store, key, other) = (place.path().join("log"), key(place.path(), "key"), key(place.path(), "other"));
    let log = Options::new().origin("log.example").log_key(key.public_key()).open(&store).unwrap();
    append(&log, 10);
    assert!(matches!(log.sealer(other), Err(SealError::OtherKey { .. })), "also before anything was sealed");
    let sealer = log.sealer(key).unwrap();
    assert_eq!(sealer.seal().unwrap().head.size, 12, "genesis, ten events, the seal: no key record");
    let bundle = log.prover().unwrap().event(Position(3), None).unwrap();
    assert!(!bundle.contains("\nrotation "));
    drop(sealer);
    log.close().unwrap();
    assert_eq!(holds(&store), 12);
}

#[test]
fn a_copy_of_a_sealed_log_can_be_proved_from() {
    let place = tempfile::tempdir().unwrap();
    let (store, copy, key) = (place.path().join("log"), place.path().join("copy"), key(place.path(), "key"));
    let log = Log::open(&store).unwrap();
    let sealer = log.sealer(key.clone()).unwrap();
    for _ in 0..3 {
        append(&log, 100);
        let note = sealer.seal().unwrap().note;
        append(&log, 10);
        chainring::backup(&store, &copy).unwrap();
        let copied = chainring::Store::open(&copy).unwrap();
        assert_eq!(copied.prover().unwrap().checkpoint(), note);
        assert_eq!(copied.evidence().unwrap().checkpoints, chainring::Store::open(&store).unwrap().evidence().unwrap().checkpoints);
    }
    // It was not signed for: that the signer remembers what the original has seals no second history.
    append(&log, 1);
    sealer.seal().unwrap();
    drop(sealer);
    log.close().unwrap();
    let log = Log::open(&copy).unwrap();
    append(&log, 50);
    assert!(matches!(log.sealer(key), Err(SealError::RollbackSuspected { .. })));
}

/// The file with hashes can be damaged, cut or gone: nothing is signed from it that was not proved by the last seal.
#[test]
fn hashes_beside_the_log_are_never_believed() {
    let place = tempfile::tempdir().unwrap();
    let (store, key) = (place.path().join("log"), key(place.path(), "key"));
    let log = Log::open(&store).unwrap();
    let sealer = log.sealer(key.clone()).unwrap();
    append(&log, 3000);
    let before = sealer.seal().unwrap();
    drop(sealer);
    log.close().unwrap();
    let whole = std::fs::read(store.join("tree")).unwrap();
    // Changed behind the back of whoever has read it: no proof, rather than a wrong one.
    let read_only = chainring::Store::open(&store).unwrap();
    let prover = read_only.prover().unwrap();
    std::fs::write(store.join("tree"), vec![7; whole.len()]).unwrap();
    assert!(matches!(prover.receipt(Position(100)).unwrap_err(), chainring::ProveError::OtherCheckpoint { .. }));
    assert!(matches!(prover.consistency(700).unwrap_err(), chainring::ProveError::OtherCheckpoint { .. }));
    std::fs::write(store.join("tree"), &whole).unwrap();
    assert!(prover.receipt(Position(100)).is_ok() && prover.consistency(700).is_ok());
    assert_eq!(whole.len(), 3002 / 256 * 32);
    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    for bytes in [Some(flipped), Some(whole[..70].to_vec()), Some(Vec::new()), None, Some([&whole[..], &[7; 64]].concat())] {
        match bytes {
            Some(bytes) => std::fs::write(store.join("tree"), bytes).unwrap(),
            None => std::fs::remove_file(store.join("tree")).unwrap(),
        }
        let log = Log::open(&store).unwrap();
        assert_eq!(log.prover().unwrap().root_at(before.head.size).unwrap(), before.head.root);
        let sealer = log.sealer(key.clone()).unwrap();
        append(&log, 300);
        let checkpoint = sealer.seal().unwrap();
        let prover = log.prover().unwrap();
        assert_eq!(prover.head(), checkpoint.head);
        assert_eq!(prover.root_at(before.head.size).unwrap(), before.head.root);
        drop(sealer);
        log.close().unwrap();
        holds(&store);
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A store that was put back is not signed for again: neither shorter nor with another history.
#[test]
fn two_histories_are_not_signed() {
    let place = tempfile::tempdir().unwrap();
    let (store, earlier, key) = (place.path().join("log"), place.path().join("earlier"), key(place.path(), "key"));
    let log = Log::open(&store).unwrap();
    let sealer = log.sealer(key.clone()).unwrap();
    append(&log, 20);
    sealer.seal().unwrap();
    drop(sealer);
    log.close().unwrap();
    copy(&store, &earlier);
    let log = Log::open(&store).unwrap();
    let sealer = log.sealer(key.clone()).unwrap();
    append(&log, 20);
    let signed = sealer.seal().unwrap();
    drop(sealer);
    log.close().unwrap();

    let log = Log::open(&earlier).unwrap();
    let refused = log.sealer(key.clone()).unwrap_err();
    assert!(matches!(refused, SealError::RollbackSuspected { signed_size, .. } if signed_size == signed.head.size), "{refused}");
    append(&log, 60);
    let refused = log.sealer(key.clone()).unwrap_err();
    assert!(matches!(refused, SealError::RollbackSuspected { .. }), "longer, but another history: {refused}");
    assert_eq!(key.last_signed(&log.log_id()).unwrap(), Some(signed.note));
}

#[test]
fn another_key_signs_only_after_both_have_said_so() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("log");
    let (first, second) = (key(place.path(), "first"), key(place.path(), "second"));
    let log = Log::open(&store).unwrap();
    let sealer = log.sealer(first.clone()).unwrap();
    append(&log, 5);
    let before = sealer.seal().unwrap();
    assert!(matches!(log.sealer(first.clone()).unwrap_err(), SealError::Busy), "one at a time");
    drop(sealer);
    assert!(matches!(log.sealer(second.clone()).unwrap_err(), SealError::OtherKey { .. }));
    let sealer = log.sealer(first.clone()).unwrap();
    assert_eq!(sealer.seal().unwrap(), before, "nothing has come since");
    sealer.rotate(second.clone()).unwrap();
    let after = sealer.seal().unwrap();
    assert_ne!(before.note.lines().last(), after.note.lines().last());
    sealer.anchor(AnchorForm::Other, &after.note, b"seen by the notary").unwrap();
    assert!(matches!(sealer.anchor(AnchorForm::Other, &after.note, b"").unwrap_err(), SealError::InvalidAnchor));
    sealer.seal().unwrap();
    drop(sealer);
    assert!(matches!(log.sealer(first).unwrap_err(), SealError::OtherKey { .. }));
    log.sealer(second).unwrap();
    log.close().unwrap();
    holds(&store);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("key");
    let made = KeyFile::generate(&path, "log.example").unwrap();
    assert!(KeyFile::generate(&path, "log.example").is_err(), "a key is not written over");
    let read = KeyFile::load(&path).unwrap();
    assert_eq!((read.public_key(), read.verifier_key()), (made.public_key(), made.verifier_key()));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(KeyFile::load(&path).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    let turned = |bytes: &[u8]| Ok(bytes.iter().map(|byte| byte ^ 0x5A).collect());
    let hidden = place.path().join("hidden");
    let made = KeyFile::generate_with(&hidden, "log.example", turned).unwrap();
    assert!(KeyFile::load(&hidden).is_err());
    assert_eq!(KeyFile::load_with(&hidden, turned).unwrap().public_key(), made.public_key());
}

/// In a thread of its own, beside writers; views and counts know nothing of the engine's records.
#[test]
fn sealing_goes_on_beside_appends() {
    let place = tempfile::tempdir().unwrap();
    let (store, key) = (place.path().join("log"), key(place.path(), "key"));
    let log = Options::new().segment_bytes(256 << 10).open(&store).unwrap();
    let sealer = log.sealer(key).unwrap().every(Duration::from_millis(2));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| append(&log, 500));
        }
    });
    let checkpoint = sealer.seal().unwrap();
    assert_eq!(checkpoint.head.size, log.stats().records);
    assert_eq!(log.stats().events, 2000);
    assert_eq!(log.latest().events().count(), 2000);
    assert!(log.stats().records > 2010, "it has sealed now and then");
    let prover = log.prover().unwrap();
    for position in [0, 1, 7, checkpoint.head.size - 1] {
        assert!(prover.receipt(Position(position)).unwrap().ends_with(&checkpoint.note));
    }
    append(&log, 3);
    assert_eq!(sealer.finish().unwrap().head.size, log.stats().records);
    log.close().unwrap();
    holds(&store);
    let log = Log::open(&store).unwrap();
    assert_eq!(log.stats().events, 2003);
}

/// A signer in memory, which outlives the machine that crashes.
#[derive(Debug)]
struct Remembering {
    key: ed25519_dalek::SigningKey,
    notes: Mutex<Vec<String>>,
}

impl Signer for Remembering {
    fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> std::io::Result<[u8; 64]> {
        Ok(ed25519_dalek::Signer::sign(&self.key, message).to_bytes())
    }

    fn last_signed(&self, _: &chainring::Link) -> std::io::Result<Option<String>> {
        Ok(self.notes.lock().unwrap().last().cloned())
    }

    fn remember(&self, _: &chainring::Link, note: &str) -> std::io::Result<()> {
        self.notes.lock().unwrap().push(note.to_owned());
        Ok(())
    }
}

/// Appends and seals until something fails or it is enough.
fn work_and_seal(environment: &Environment, signer: &Arc<Remembering>, random: &mut SimRandom) {
    let Ok(log) = support::open(environment) else { return };
    let Ok(sealer) = log.sealer(signer.clone()) else { return };
    for _ in 0..random.below(40) {
        if log.append(support::request(random, 9).1).is_err() {
            break;
        }
        if random.below(4) == 0 && sealer.seal().is_err() {
            break;
        }
    }
    drop(sealer);
    match random.below(3) {
        0 => std::mem::forget(log),
        1 => drop(log),
        _ => drop(log.close()),
    }
}

/// Power goes at any moment, over and over, writes and syncs fail: whatever was signed is in the log that comes back, and sealing goes on from it.
#[test]
fn what_was_signed_survives_every_crash() {
    let mut signed_in_all = 0;
    for seed in 0..80 {
        let mut random = SimRandom::new(seed);
        let mut disk = SimDisk::new().with_block_bytes(if random.below(2) == 0 { 512 } else { 4096 });
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed as u8 + 1; 32]);
        let signer = Arc::new(Remembering { key, notes: Mutex::default() });
        for round in 0..6 {
            match random.below(4) {
                0 => disk.inject(Fault::Write(1 + random.below(60))),
                1 => disk.inject(Fault::Sync(1 + random.below(60))),
                _ => {}
            }
            work_and_seal(&disk.environment(seed * 31 + round), &signer, &mut random);
            disk = disk.crash(random.next_u64());
        }
        let environment = disk.environment(seed * 31 + 100);
        let Ok(log) = support::open(&environment) else {
            assert!(signer.notes.lock().unwrap().is_empty(), "seed {seed}: a log that was signed is gone");
            continue;
        };
        log.sealer(signer.clone()).unwrap_or_else(|error| panic!("seed {seed}: {error}")).seal().unwrap();
        let prover = log.prover().unwrap();
        let notes = signer.notes.lock().unwrap();
        signed_in_all += notes.len();
        for note in notes.iter() {
            let lines: Vec<&str> = note.lines().collect();
            let root = Base64::encode_string(&prover.root_at(lines[1].parse().unwrap()).unwrap());
            assert_eq!(root, lines[2], "seed {seed}: a checkpoint that was signed is not one of this log");
        }
        log.close().unwrap();
        assert_eq!(support::check(&environment).fault, None, "seed {seed}");
    }
    assert!(signed_in_all > 500, "{signed_in_all}");
}
