//! What only several processes show: a writer that is killed at any moment, a second writer that is told who the first is, a child of a fork, a system
//! that forbids io_uring or direct writing.
//!
//! This program starts itself in other roles; it has a `main` of its own because a forked test runner could hang on locks of its threads.

#![allow(unsafe_code)] // fork and seccomp, in one place each

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chainring::disk::WritePath;
use chainring::{
    AppendError, Durability, Event, EventId, Log, OpenError, Opened, Options, Position, Request, Store, VerifyOptions, Version, verify,
};

const ROLE: &str = "CHAINRING_TEST_ROLE";
const STORE: &str = "CHAINRING_TEST_STORE";
/// Small, so that kills also hit rotations.
const SEGMENT_BYTES: u64 = 256 << 10;

fn main() {
    let store = std::env::var_os(STORE);
    match (std::env::var(ROLE).as_deref(), store) {
        (Ok("writer"), Some(store)) => write_for_ever(Path::new(&store)),
        (Ok("follower"), Some(store)) => follow(Path::new(&store)),
        (Ok("fork"), Some(store)) => fork(Path::new(&store)),
        (Ok("few_files"), Some(store)) => few_files(Path::new(&store)),
        (Ok("no_files_to_write"), Some(store)) => read_without_files_to_write(Path::new(&store)),
        (Ok("little_memory"), Some(store)) => little_memory(Path::new(&store)),
        (Ok("uring_forbidden"), Some(store)) => write_where_forbidden(Path::new(&store), &[URING]),
        (Ok("direct_refused"), Some(store)) => write_where_forbidden(Path::new(&store), &[DIRECT]),
        (Ok("both_forbidden"), Some(store)) => write_where_forbidden(Path::new(&store), &[URING, DIRECT]),
        _ => {
            a_killed_writer_loses_nothing_it_acknowledged();
            followers_see_everything_once_in_order_and_nothing_else();
            the_second_writer_is_told_who_the_first_is();
            the_child_of_a_fork_may_not_write();
            want_of_files_refuses_and_is_no_end();
            who_may_write_no_file_reads();
            want_of_memory_ends_a_process_and_nothing_else();
            what_the_system_forbids_is_done_another_way_and_told();
            println!("8 passed, 0 failed");
        }
    }
}

/// Follows the store until it is told the end, and says what it has seen.
fn follow(store: &Path) {
    let deadline = Instant::now() + Duration::from_secs(100);
    let store = loop {
        assert!(Instant::now() < deadline, "there is no store");
        match Store::open(store) {
            Ok(store) => break store,
            Err(OpenError::NotAStore { .. }) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    };
    println!("follows from {}", store.latest().end());
    let mut subscription = store.follow(Position(0));
    let (mut count, mut versions) = (0, HashMap::new());
    loop {
        assert!(Instant::now() < deadline, "the end does not come; {count} events seen");
        let batch = subscription.next_batch_timeout(Duration::from_millis(100)).unwrap_or_else(|| panic!("{:?}", store.refresh()));
        for event in batch {
            let event = event.unwrap();
            count += 1;
            assert_eq!(event.position().0, count, "no gap, and nothing twice");
            let version: &mut u64 = versions.entry(event.stream_id()).or_default();
            *version += 1;
            assert_eq!(event.version().0, *version);
            if count % 97 == 0 {
                // Everything else that can be asked is answered as of now.
                let view = store.latest();
                let name = event.stream().unwrap();
                assert!(view.stream(name).unwrap().unwrap().version().0 >= *version);
                assert_eq!(store.locate(event.event_id()).unwrap(), Some(event.position()));
            }
            if event.event_type() == "End" {
                let forward: u64 = store
                    .latest()
                    .stream("s1")
                    .unwrap()
                    .unwrap()
                    .forward(Version(1))
                    .unwrap()
                    .map(|event| event.unwrap().version().0)
                    .max()
                    .unwrap();
                println!("{count} {} {forward}", event.link());
                return;
            }
        }
    }
}

fn followers_see_everything_once_in_order_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut writer = start("writer", path);
    let mut followers: Vec<Child> = (0..2).map(|_| start("follower", path)).collect();
    for life in 0..5 {
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        for _ in 0..300 {
            lines.next().unwrap().unwrap();
        }
        if life == 1 {
            // Some come later, while it is written.
            followers.extend((0..2).map(|_| start("follower", path)));
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        writer = start("writer", path);
    }
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    let log = open(path).unwrap();
    let receipt = log.append(Event::new("end", "End")).unwrap();
    let versions = log.head("s1").unwrap();
    let expected = format!("{} {} {versions}", receipt.first_position(), receipt.events[0].link);
    for follower in followers {
        let output = follower.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.lines().last() == Some(&expected), "{said}, not {expected}");
    }
    assert!(log.stats().segments > 5);
    log.close().unwrap();
}

fn start(role: &str, store: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program).env(ROLE, role).env(STORE, store).stdout(Stdio::piped()).spawn().unwrap()
}

fn open(store: &Path) -> Result<Log, OpenError> {
    Options::new().segment_bytes(SEGMENT_BYTES).open(store)
}

/// Appends batches of three, a few in flight, and says the last position of each as it becomes durable.
fn write_for_ever(store: &Path) {
    let log = open(store).unwrap();
    let mut number = log.stats().records;
    let mut out = std::io::stdout().lock();
    loop {
        let pending: Vec<_> = (0..4)
            .map(|_| {
                let batch: Vec<Event> = (0..3).map(|stream| Event::new(format!("s{stream}"), "E").body(vec![number as u8; 700])).collect();
                number += 3;
                log.submit(batch).unwrap()
            })
            .collect();
        for pending in pending {
            writeln!(out, "{}", pending.wait().unwrap().last_position()).unwrap();
            out.flush().unwrap();
        }
    }
}

fn a_killed_writer_loses_nothing_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    let mut torn = 0;
    for round in 0..25_u64 {
        let mut writer = start("writer", directory.path());
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // The first acknowledgement, then a while that is never the same, then the end without warning.
        let mut last = lines.next().map(|line| line.unwrap().parse::<u64>().unwrap());
        let until = Instant::now() + Duration::from_micros(500 + round * 1733 % 20_000);
        while Instant::now() < until {
            last = lines.next().map(|line| line.unwrap().parse().unwrap()).or(last);
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            last = line.parse().ok().or(last);
        }
        acknowledged = last.unwrap();

        let before = Store::open(directory.path()).unwrap().stats().records;
        let log = open(directory.path()).unwrap();
        assert_ne!(log.report().opened, Opened::Clean);
        torn += u32::from(log.report().opened == Opened::Torn);
        assert_eq!(log.stats().records, before, "reader and writer recover the same");
        assert!(before > acknowledged, "round {round}: {acknowledged} was acknowledged, {before} records are there");
        assert_eq!((before - 1) % 3, 0, "round {round}: a batch was torn");
        drop(log);
        let report = verify(directory.path(), &VerifyOptions::default()).unwrap();
        assert_eq!(report.fault, None, "round {round}");
    }
    println!("killed 25 times, {acknowledged} events acknowledged, {torn} torn tails cut");
}

fn the_second_writer_is_told_who_the_first_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = start("writer", directory.path());
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    match open(directory.path()) {
        Err(OpenError::Locked { owner }) => assert!(owner.contains(&writer.id().to_string()) && owner.contains("processes"), "{owner}"),
        other => panic!("{other:?}"),
    }
    // Who only reads is let in, and neither takes a commit in the middle of being written for a torn one.
    for _ in 0..30 {
        let report = verify(directory.path(), &VerifyOptions::default()).unwrap();
        assert_eq!(report.fault, None);
        lines.next().unwrap().unwrap();
    }
    assert!(Store::open(directory.path()).unwrap().stats().records > 3);
    writer.kill().unwrap();
    writer.wait().unwrap();
}

fn fork(store: &Path) {
    let log = open(store).unwrap();
    log.append(Event::new("s", "Parent").id(EventId([1; 16]))).unwrap();
    // SAFETY: this process has one thread, so the child's copy of every lock and allocator is usable.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = matches!(log.append(Event::new("s", "Child").id(EventId([2; 16]))), Err(AppendError::ForkedHandle));
        let closed = log.close().is_ok();
        std::process::exit(i32::from(!(refused && closed)));
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call, and `child` is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0, "the child was refused, and closing there did nothing");
    log.append(Event::new("s", "Parent").id(EventId([3; 16]))).unwrap();
    log.close().unwrap();
}

fn the_child_of_a_fork_may_not_write() {
    let directory = tempfile::tempdir().unwrap();
    assert!(start("fork", directory.path()).wait().unwrap().success());
    let store = Store::open(directory.path()).unwrap();
    assert_eq!((store.stats().events, store.report().opened), (2, Opened::Clean));
    assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
}

/// This program in a role, under a limit that `ulimit` knows.
fn limited(limit: &str, role: &str, store: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit {limit}; exec \"$0\"")).arg(std::env::current_exe().unwrap()).env(ROLE, role).env(STORE, store);
    command
}

/// Appends over a rotation with no file left to open, then with some again.
fn few_files(store: &Path) {
    let log = open(store).unwrap();
    let append = || log.append(Event::new("s", "E").body(vec![1; 20_000]));
    append().unwrap();
    // Every descriptor that may be had, but for those in use.
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
        if taken.len() == 1 << 16 {
            panic!("no limit on open files");
        }
    }
    let refused = (0..100).find_map(|_| append().err()).expect("a segment takes a file");
    assert!(matches!(refused, AppendError::NoSegment(_)), "{refused}");
    assert!(matches!(append(), Err(AppendError::NoSegment(_))), "and says so again");
    // What fits into the segment there is goes on.
    log.append(Event::new("s", "Small")).unwrap();
    drop(taken);
    append().unwrap();
    let events = log.stats().events;
    log.close().unwrap();
    assert_eq!(Store::open(store).unwrap().stats().events, events);
}

fn want_of_files_refuses_and_is_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let limited = limited("-n 64", "few_files", directory.path()).status().unwrap();
    assert!(limited.success());
    assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
}

/// Events of the stream that is read where no file may be written.
const READ: u64 = 100;

fn read_without_files_to_write(store: &Path) {
    let store = Store::open(store).unwrap();
    let view = store.latest();
    let stream = view.stream("s").unwrap().unwrap();
    let read: Vec<usize> = stream.forward(Version(1)).unwrap().map(|event| event.unwrap().body().unwrap().len()).collect();
    assert_eq!(read, vec![20_000; READ as usize]);
}

/// A process that confines itself to files of no bytes is killed if it writes to one, whatever that is for: reading writes to none.
fn who_may_write_no_file_reads() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    for _ in 0..READ {
        log.append(Event::new("s", "E").body(vec![1; 20_000])).unwrap();
    }
    log.close().unwrap();
    let limited = limited("-f 0", "no_files_to_write", directory.path()).status().unwrap();
    assert!(limited.success(), "{limited}");
}

/// Leaves itself a little memory, less in every round, and appends until that is gone; says the last position of each append as it becomes durable.
fn little_memory(store: &Path) {
    let log = open(store).unwrap();
    let left: usize = std::env::var("CHAINRING_TEST_LEFT").unwrap().parse().unwrap();
    let mut out = std::io::stdout().lock();
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    for bytes in [1 << 20, 1 << 12] {
        loop {
            let mut block = Vec::<u8>::new();
            if block.try_reserve_exact(bytes).is_err() {
                break;
            }
            hoard.push(block);
        }
    }
    hoard.truncate(hoard.len().saturating_sub(left / (1 << 12)));
    for number in 0_u64.. {
        let batch: Vec<Event> = (0..3).map(|stream| Event::new(format!("s{stream}-{number}"), "E").body(vec![1; 2000])).collect();
        match log.append(batch) {
            Ok(receipt) => writeln!(out, "{}", receipt.last_position()).and_then(|()| out.flush()).unwrap(),
            // A rotation that found no memory: refused, and the log is as it was.
            Err(AppendError::NoSegment(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Running out of memory aborts (the allocator's way) or refuses; never is half of an append there afterwards.
fn want_of_memory_ends_a_process_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (mut aborted, mut appended) = (0, 0);
    for round in 0..24_u64 {
        let limited = limited("-v 200000", "little_memory", directory.path())
            .env("CHAINRING_TEST_LEFT", (round * 400_000).to_string())
            .stderr(Stdio::null())
            .output()
            .unwrap();
        aborted += u32::from(!limited.status.success());
        let lines = String::from_utf8(limited.stdout).unwrap();
        let acknowledged = lines.lines().filter_map(|line| line.parse::<u64>().ok()).next_back();
        let log = open(directory.path()).unwrap();
        let records = log.stats().records;
        assert!(
            acknowledged.is_none_or(|last| last < records),
            "round {round}: {acknowledged:?} was acknowledged, {records} records are there"
        );
        assert_eq!((records - 1) % 3, 0, "round {round}: half of an append is there");
        appended = records;
        log.close().unwrap();
    }
    assert_eq!(verify(directory.path(), &VerifyOptions::default()).unwrap().fault, None);
    assert!(appended > 3, "some rounds had memory to append");
    println!("ran out of memory in 24 rounds, {aborted} of them ended in an abort, {appended} records");
}

/// A system call that is refused if an argument of it has any of some bits; every call of it if there are none.
#[derive(Clone, Copy)]
struct Forbidden {
    call: libc::c_long,
    argument: u32,
    bits: u32,
    errno: i32,
}

/// As containers forbid it.
const URING: Forbidden = Forbidden { call: libc::SYS_io_uring_setup, argument: 0, bits: 0, errno: libc::EPERM };
/// As file systems refuse it.
const DIRECT: Forbidden = Forbidden { call: libc::SYS_openat, argument: 2, bits: libc::O_DIRECT as u32, errno: libc::EINVAL };

/// Forbids system calls to this thread and those that it starts, for ever. `false` if the system does not let us.
fn forbid(calls: &[Forbidden]) -> bool {
    let load = |offset: u32| libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset };
    let skip_unless =
        |kind: u32, k: u32, skipped: u8| libc::sock_filter { code: (libc::BPF_JMP | kind | libc::BPF_K) as u16, jt: 0, jf: skipped, k };
    let ret = |k: u32| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    let mut filter = Vec::new();
    for forbidden in calls {
        let refused = ret(libc::SECCOMP_RET_ERRNO | forbidden.errno as u32);
        // Of `seccomp_data`: the number of the call at 0, its arguments from 16 on, 8 bytes each, lower half first.
        filter.push(load(0));
        if forbidden.bits == 0 {
            filter.extend([skip_unless(libc::BPF_JEQ, forbidden.call as u32, 1), refused]);
        } else {
            filter.extend([
                skip_unless(libc::BPF_JEQ, forbidden.call as u32, 3),
                load(16 + 8 * forbidden.argument),
                skip_unless(libc::BPF_JSET, forbidden.bits, 1),
                refused,
            ]);
        }
    }
    filter.push(ret(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads the program, which is alive, during the second call; neither call touches other memory.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

/// Says the write path, after having appended in every way.
fn write_where_forbidden(store: &Path, calls: &[Forbidden]) {
    if !forbid(calls) {
        println!("unfiltered");
        return;
    }
    for write_path in [WritePath::Auto, WritePath::Portable] {
        let log = Options::new().segment_bytes(SEGMENT_BYTES).write_path(write_path).open(store.join(format!("{write_path:?}"))).unwrap();
        let event = |n: usize| Event::new(format!("s{}", n % 7), "E").body(vec![n as u8; 700]);
        for n in 0..20 {
            log.append(event(n)).unwrap();
        }
        let pending: Vec<_> = (0..500).map(|n| log.submit(event(n)).unwrap()).collect();
        pending.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
        log.append(Request::batch((0..50).map(event).collect()).durability(Durability::Written)).unwrap();
        if write_path == WritePath::Auto {
            println!("{}", log.stats().write_path);
        }
        log.close().unwrap();
        let report = verify(store.join(format!("{write_path:?}")), &VerifyOptions::default()).unwrap();
        assert!(report.is_ok() && report.events == 570, "{report:?}");
    }
    let refused = Options::new().write_path(WritePath::Uring).open(store.join("uring"));
    assert!(refused.is_err(), "who insists is told");
    assert!(!store.join("uring").exists() || std::fs::read_dir(store.join("uring")).unwrap().next().is_none(), "and nothing was made");
}

fn what_the_system_forbids_is_done_another_way_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let free = Options::new().open(directory.path().join("free")).unwrap().stats().write_path;
    for (role, expected) in [
        ("uring_forbidden", if free == "portable" { "portable" } else { "direct" }),
        ("direct_refused", "portable"),
        ("both_forbidden", "portable"),
    ] {
        let output = start(role, &directory.path().join(role)).wait_with_output().unwrap();
        assert!(output.status.success(), "{role}");
        let told = String::from_utf8(output.stdout).unwrap();
        if told.trim() == "unfiltered" {
            println!("SKIPPED {role}: this system lets nobody install a filter of system calls");
        } else {
            assert_eq!(told.trim(), expected, "{role}, where {free} is free");
        }
    }
}
