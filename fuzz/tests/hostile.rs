//! What somebody may put into a store's directory: everything is answered with a verdict or a clear error, in bounded time and memory, and nothing
//! is ever written through a link. The engine and the independent reader answer alike.

use std::fs::{self, File, OpenOptions, Permissions};
use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use chainring::{Event, OpenError, Options, Store, VerifyOptions, verify};
use chainring_format::commit::CommitTrailer;
use chainring_format::footer::FooterHeader;
use chainring_format::frame::FrameHeader;
use chainring_format::limits::SEGMENT_BYTES_MAX;
use chainring_format::segment::SegmentHeader;
use chainring_fuzz::targets::archive::Archive;
use chainring_fuzz::targets::repair::{Kind, checksums, structures};
use chainring_fuzz::targets::seeds::of_directory;
use tempfile::TempDir;

const FIRST: &str = "0000000001.seg";
const SECOND: &str = "0000000002.seg";
/// No answer takes longer, however busy the machine is.
const SECONDS_MAX: u64 = 60;
/// Virtual memory of a child that meets a file of 8 GiB: enough for the program, not for the file.
const CHILD_KIBIBYTES: u64 = 2 << 20;

/// A store of two segments in a directory of its own.
struct Case {
    outer: TempDir,
}

impl Case {
    fn new() -> Case {
        let case = Case { outer: tempfile::tempdir().expect("a temporary directory") };
        fs::create_dir(case.path("")).expect("a new directory");
        case.put(&two_segments());
        case
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.outer.path().join("store").join(name)
    }

    fn put(&self, archive: &Archive) {
        for (name, content) in archive.named() {
            fs::write(self.path(&name), content).expect("a new file");
        }
    }

    /// A file outside of the store that nobody may touch, and what it holds.
    fn victim(&self) -> std::path::PathBuf {
        let victim = self.outer.path().join("victim");
        fs::write(&victim, b"precious").expect("a new file");
        victim
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read(self.outer.path().join("victim")).expect("the victim is still there"), b"precious");
    }

    fn answers(&self) -> Answers {
        answers(&self.path(""))
    }

    /// Neither side reads what is not a regular file, and both name it.
    fn assert_refused(&self, name: &str) {
        let answers = self.answers();
        for answer in [answers.store, answers.writer, answers.engine.map(drop), answers.reader.map(drop)] {
            let error = answer.expect_err("not a regular file");
            assert!(error.contains(name), "{error}");
        }
    }

    /// Both sides find the same fault.
    fn assert_fault(&self, expected: &str) -> Answers {
        let answers = self.answers();
        let found = answers.engine.as_ref().expect("a verdict").as_ref().expect("a fault");
        assert!(found.starts_with(expected), "{found}");
        assert_eq!(answers.engine, answers.reader);
        answers.store.as_ref().expect_err("a damaged store does not open");
        answers.writer.as_ref().expect_err("a damaged store does not open for writing");
        answers
    }
}

fn two_segments() -> Archive {
    of_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/vectors/valid/two-segments/store"))
}

/// What each of those who open a store says; errors in words, faults as kind, segment and offset.
#[derive(Debug)]
struct Answers {
    store: Result<(), String>,
    writer: Result<(), String>,
    engine: Result<Option<String>, String>,
    reader: Result<Option<String>, String>,
}

/// Asks everybody, within bounds.
fn answers(directory: &Path) -> Answers {
    let (sender, receiver) = channel();
    let directory = directory.to_owned();
    let asker = thread::spawn(move || {
        // The writer last: it may change what the others read.
        let store = Store::open(&directory).map(drop).map_err(|error| error.to_string());
        let engine = engine_verdict(&directory);
        let reader = reader_verdict(&directory);
        let writer = append(&directory).map_err(|error| error.to_string());
        let _ = sender.send(Answers { store, writer, engine, reader });
    });
    match receiver.recv_timeout(Duration::from_secs(SECONDS_MAX)) {
        Ok(answers) => answers,
        Err(_) if asker.is_finished() => panic!("somebody panicked"),
        Err(_) => panic!("somebody hangs"),
    }
}

fn engine_verdict(directory: &Path) -> Result<Option<String>, String> {
    let report = verify(directory, &VerifyOptions::default()).map_err(|error| error.to_string())?;
    Ok(report.fault.map(|fault| format!("{} {} {}", fault.kind, fault.segment, fault.offset)))
}

fn reader_verdict(directory: &Path) -> Result<Option<String>, String> {
    let report = chainring_reader::verify(directory, &chainring_reader::Options::default()).map_err(|error| error.to_string())?;
    Ok(report.fault.map(|fault| format!("{} {} {}", fault.kind, fault.segment, fault.offset)))
}

fn append(directory: &Path) -> Result<(), OpenError> {
    let log = Options::new().create(false).segment_bytes(64 << 10).open(directory)?;
    log.append(Event::new("hostile", "Appended")).expect("what opens takes an append");
    log.close().expect("what opens closes");
    Ok(())
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo is there").success());
}

#[test]
fn what_everything_starts_from_holds() {
    let answers = Case::new().answers();
    assert_eq!((answers.store, answers.writer, answers.engine, answers.reader), (Ok(()), Ok(()), Ok(None), Ok(None)));
}

#[test]
fn a_segment_that_is_no_regular_file_is_refused_by_name() {
    for name in [FIRST, SECOND] {
        let directory = Case::new();
        let content = fs::read(directory.path(name)).expect("a segment");
        fs::remove_file(directory.path(name)).expect("a segment");
        fs::create_dir(directory.path(name)).expect("a new directory");
        directory.assert_refused(name);

        let linked = Case::new();
        let elsewhere = linked.outer.path().join("elsewhere");
        fs::write(&elsewhere, &content).expect("a new file");
        fs::remove_file(linked.path(name)).expect("a segment");
        symlink(&elsewhere, linked.path(name)).expect("a new link");
        linked.assert_refused(name);
        assert!(fs::read(&elsewhere).expect("still there") == content, "something was written through a link");

        let pipe = Case::new();
        fs::remove_file(pipe.path(name)).expect("a segment");
        fifo(&pipe.path(name));
        pipe.assert_refused(name);

        let device = Case::new();
        fs::remove_file(device.path(name)).expect("a segment");
        symlink("/dev/zero", device.path(name)).expect("a new link");
        device.assert_refused(name);
    }
}

#[test]
fn empty_files_and_thousands_of_them_are_no_segments() {
    let case = Case::new();
    fs::write(case.path(SECOND), b"").expect("emptied");
    case.assert_fault("corrupt 0000000002.seg 0");
    for number in 3..4000 {
        File::create(case.path(&format!("{number:010}.seg"))).expect("a new file");
    }
    case.assert_fault("corrupt 0000000002.seg 0");
    fs::write(case.path(FIRST), b"").expect("emptied");
    case.assert_fault("corrupt 0000000001.seg 0");
}

#[test]
fn segments_in_each_others_places_are_found() {
    let case = Case::new();
    let (first, second) = (fs::read(case.path(FIRST)).expect("a segment"), fs::read(case.path(SECOND)).expect("a segment"));
    fs::write(case.path(FIRST), &second).expect("overwritten");
    fs::write(case.path(SECOND), &first).expect("overwritten");
    case.assert_fault("tampered 0000000001.seg 0");
    fs::write(case.path(FIRST), &first).expect("overwritten");
    case.assert_fault("tampered 0000000002.seg 0");
}

#[test]
fn names_that_are_none_of_ours_do_not_matter() {
    let case = Case::new();
    for name in [&b"\xff\xfe.seg"[..], b"000000000\xff.seg", b"0000000003.seg.\xff", b"0000000000.seg", b"1.seg", b"0000000003.SEG"] {
        fs::write(case.path("").join(std::ffi::OsStr::from_bytes(name)), b"x").expect("a new file");
    }
    let answers = case.answers();
    assert_eq!((answers.store, answers.writer, answers.engine, answers.reader), (Ok(()), Ok(()), Ok(None), Ok(None)));
}

#[test]
fn a_lock_that_is_no_regular_file_keeps_writers_out_and_nobody_else() {
    type Make = fn(&Case);
    let kinds: [(&str, Make); 4] = [
        ("a directory", |case| fs::create_dir(case.path("LOCK")).expect("a new directory")),
        ("a link", |case| symlink(case.victim(), case.path("LOCK")).expect("a new link")),
        ("a link to nothing", |case| symlink(case.outer.path().join("new"), case.path("LOCK")).expect("a new link")),
        ("a pipe", |case| fifo(&case.path("LOCK"))),
    ];
    for (kind, make) in kinds {
        let case = Case::new();
        case.victim();
        make(&case);
        let answers = case.answers();
        assert_eq!((answers.store, answers.engine, answers.reader), (Ok(()), Ok(None), Ok(None)), "{kind}");
        answers.writer.expect_err(kind);
        case.assert_untouched();
        assert!(!case.outer.path().join("new").exists(), "something was made through a link");
    }
}

#[test]
fn leftovers_are_removed_or_refused_and_never_written_through() {
    for name in ["0000000003.seg.tmp", "0000000007.seg.tmp"] {
        let linked = Case::new();
        symlink(linked.victim(), linked.path(name)).expect("a new link");
        let answers = linked.answers();
        assert_eq!((answers.store, answers.engine, answers.reader), (Ok(()), Ok(None), Ok(None)));
        answers.writer.expect("the link is removed, what it leads to stays");
        assert!(fs::symlink_metadata(linked.path(name)).is_err());
        linked.assert_untouched();

        let pipe = Case::new();
        fifo(&pipe.path(name));
        pipe.answers().writer.expect("the pipe is removed");

        let directory = Case::new();
        fs::create_dir(directory.path(name)).expect("a new directory");
        let answers = directory.answers();
        assert_eq!((answers.store, answers.engine, answers.reader), (Ok(()), Ok(None), Ok(None)));
        let refused = answers.writer.expect_err("a directory is nobody's leftover");
        assert!(refused.contains(name), "{refused}");
    }
}

#[test]
fn a_mark_beside_the_store_is_never_followed() {
    let case = Case::new();
    for name in ["store.mark", "store.mark.tmp"] {
        symlink(case.victim(), case.outer.path().join(name)).expect("a new link");
    }
    // Whether a writer starts is its own affair; that it ends and leaves the file alone is ours.
    drop(case.answers());
    case.assert_untouched();
}

#[test]
fn a_file_that_may_not_be_read_is_an_error_and_no_verdict() {
    let case = Case::new();
    fs::set_permissions(case.path(SECOND), Permissions::from_mode(0o000)).expect("our own file");
    if File::open(case.path(SECOND)).is_ok() {
        // The administrator may read everything.
        return;
    }
    case.assert_refused(SECOND);
}

#[test]
fn huge_lengths_in_every_length_field_are_found_and_cost_nothing() {
    let fields = [
        (Kind::Header, offset_of!(SegmentHeader, block_bytes), 4),
        (Kind::Header, offset_of!(SegmentHeader, segment_bytes), 8),
        (Kind::Header, offset_of!(SegmentHeader, prev_end_offset), 8),
        (Kind::Header, offset_of!(SegmentHeader, prev_footer_bytes), 8),
        (Kind::Header, offset_of!(SegmentHeader, packed_end_offset), 8),
        (Kind::Header, offset_of!(SegmentHeader, unpacked_end_offset), 8),
        (Kind::Frame, offset_of!(FrameHeader, frame_bytes), 4),
        (Kind::Frame, offset_of!(FrameHeader, metadata_bytes), 4),
        (Kind::Frame, offset_of!(FrameHeader, body_bytes), 4),
        (Kind::Frame, offset_of!(FrameHeader, name_bytes), 2),
        (Kind::Frame, offset_of!(FrameHeader, batch_count), 4),
        (Kind::Trailer, offset_of!(CommitTrailer, commit_bytes), 8),
        (Kind::Trailer, offset_of!(CommitTrailer, count), 4),
        (Kind::Footer, offset_of!(FooterHeader, footer_bytes), 8),
        (Kind::Footer, offset_of!(FooterHeader, head_count), 4),
        (Kind::Footer, offset_of!(FooterHeader, offset_count), 4),
    ];
    let packed = of_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/vectors/valid/packed-mixed/store"));
    for (store, number) in [(two_segments(), 1), (two_segments(), 2), (packed, 1)] {
        for (kind, offset, bytes) in fields {
            for huge in [u64::MAX, u64::MAX >> 1 & !7, 0x7FFF_FFF8, 0xFFFF_FFF8] {
                let mut archive = store.clone();
                let file = archive.files.get_mut(&number).expect("two segments");
                let Some(structure) = structures(file).into_iter().rfind(|structure| structure.kind == kind) else { continue };
                file[structure.offset + offset..][..bytes].copy_from_slice(&huge.to_le_bytes()[..bytes]);
                checksums(file, || false);
                let case = Case::new();
                case.put(&archive);
                let started = Instant::now();
                let answers = case.answers();
                let what = format!("{kind:?} of segment {number}, {bytes} bytes at {offset}, {huge:#x}, {:?}", started.elapsed());
                assert_eq!(answers.engine, answers.reader, "{what}");
                assert!(answers.engine.is_ok_and(|fault| fault.is_some()), "{what}");
            }
        }
    }
}

/// A valid header that allows the largest segment, over a file that is all hole.
fn sparse(case: &Case) {
    let file = OpenOptions::new().write(true).open(case.path(SECOND)).expect("a segment");
    let mut archive = two_segments();
    let bytes = archive.files.get_mut(&2).expect("two segments");
    bytes[offset_of!(SegmentHeader, segment_bytes)..][..8].copy_from_slice(&SEGMENT_BYTES_MAX.to_le_bytes());
    checksums(&mut bytes[..512], || false);
    file.write_all_at(&bytes[..512], 0).expect("our own file");
    file.set_len(SEGMENT_BYTES_MAX + (600 << 10)).expect("a file system with holes");
}

/// Run by [`a_sparse_file_of_the_largest_size_takes_no_memory`] in a process of its own.
#[test]
fn as_a_child() {
    let Some(directory) = std::env::var_os("CHAINRING_HOSTILE_DIRECTORY") else { return };
    let directory = Path::new(&directory);
    let store = Store::open(directory).map(drop).map_err(|error| error.to_string());
    println!("store {store:?}\nengine {:?}\nreader {:?}", engine_verdict(directory), reader_verdict(directory));
}

#[test]
fn a_sparse_file_of_the_largest_size_takes_no_memory() {
    let case = Case::new();
    sparse(&case);
    let program = std::env::current_exe().expect("this program");
    let limited =
        format!("ulimit -v {CHILD_KIBIBYTES} && exec timeout {SECONDS_MAX} \"$0\" --exact as_a_child --nocapture --test-threads 1");
    let child = Command::new("sh").args(["-c", &limited]).arg(program).env("CHAINRING_HOSTILE_DIRECTORY", case.path("")).output();
    let child = child.expect("a shell");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{} {said} {}", child.status, String::from_utf8_lossy(&child.stderr));
    // The reader holds a window; the engine maps the file's length in memory and is told that there is not so much.
    assert!(said.contains("reader Ok("), "{said}");
    assert!(said.lines().filter(|line| line.contains("ut of memory") || line.contains("annot allocate")).count() == 2, "{said}");
}
