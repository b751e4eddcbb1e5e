//! Reading from real files that are not what they should be: an error with file and offset, never a signal, never an end of the log.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::Path;

use chainring::{By, Event, EventRef, Log, OpenError, Options, Position, ReadError, Store, VerifyOptions, Version, verify};

/// A closed store of several segments.
fn store(directory: &Path) -> u64 {
    let log = Options::new().segment_bytes(64 << 10).open(directory).unwrap();
    for number in 0..40_u8 {
        log.append(Event::new(format!("s{}", number % 3), "E").body(vec![number; 9000])).unwrap();
    }
    assert!(log.stats().segments > 3);
    let records = log.stats().records;
    log.close().unwrap();
    records
}

fn cut(directory: &Path, segment: &str, bytes: u64) {
    OpenOptions::new().write(true).open(directory.join(segment)).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_segment_cut_under_a_reader_is_an_error_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path());
    let store = Store::open(directory.path()).unwrap();
    let view = store.latest();
    cut(directory.path(), "0000000002.seg", 8192);
    let mut events = view.events();
    let error = events.by_ref().find_map(Result::err).expect("half a segment is gone");
    match error {
        ReadError::Io { segment, offset, source } => {
            assert_eq!((segment.as_str(), source.kind()), ("0000000002.seg", std::io::ErrorKind::UnexpectedEof));
            assert!((8192..64 << 10).contains(&offset), "{offset}");
        }
        other => panic!("{other}"),
    }
    assert!(events.next().is_none(), "an iterator is at its end after an error, and says no more than that");
    // Who goes through the hole on other ways is told so too, and is shown what lies before it.
    let is_cut = |events: Vec<Result<EventRef<'_>, ReadError>>| {
        let before = events.iter().take_while(|event| event.is_ok()).count();
        before > 0 && before + 1 == events.len()
    };
    assert!(is_cut(view.events_by(By::Type("E"), Position(0)).collect()));
    for name in ["s0", "s1", "s2"] {
        let stream = view.stream(name).unwrap().unwrap();
        assert!(is_cut(stream.forward(Version(1)).unwrap().collect()));
        assert!(stream.backward().any(|event| event.is_err()));
    }
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path());
    let (segment, elsewhere) = (directory.path().join("0000000002.seg"), directory.path().join("elsewhere"));
    fs::rename(&segment, &elsewhere).unwrap();
    let refused = |what: &str| {
        for error in [
            Store::open(directory.path()).map(drop).unwrap_err(),
            Log::open(directory.path()).map(drop).unwrap_err(),
            verify(directory.path(), &VerifyOptions::default()).map(drop).unwrap_err(),
        ] {
            assert!(matches!(&error, OpenError::Io { doing, .. } if doing.contains("0000000002.seg")), "{what}: {error}");
            assert!(error.to_string().contains("regular file"), "{what}: {error}");
        }
    };
    symlink(&elsewhere, &segment).unwrap();
    refused("a link");
    fs::remove_file(&segment).unwrap();
    fs::create_dir(&segment).unwrap();
    refused("a directory");
    fs::remove_dir(&segment).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &segment, rustix::fs::Mode::RWXU).unwrap();
    refused("a pipe");
    fs::remove_file(&segment).unwrap();
    fs::rename(&elsewhere, &segment).unwrap();
    assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
}

#[test]
fn nothing_is_written_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for name in ["LOCK", "0000000001.seg.tmp"] {
        let store = directory.path().join(format!("store of {name}"));
        fs::create_dir(&store).unwrap();
        symlink(&victim, store.join(name)).unwrap();
        match Log::open(&store) {
            Ok(log) => log.close().unwrap(),
            Err(error) => assert!(error.to_string().contains("regular file"), "{error}"),
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name}");
    }
    // Hard links cannot be told from files; they are never emptied. The mark beside a store is written the same way.
    let store = directory.path().join("store");
    fs::hard_link(&victim, directory.path().join("store.mark.tmp")).unwrap();
    fs::create_dir(&store).unwrap();
    fs::hard_link(&victim, store.join("0000000001.seg.tmp")).unwrap();
    Options::new().remember(true).open(&store).unwrap().close().unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(directory.path().join("store.mark").exists());
}
