//! A device that fails instead of being cut: writes and flushes that give EIO, no space, sectors that cannot be read.
//!
//! Whatever may kill a process is done by a child, so that a signal is a finding and not the end of the judge.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use chainring::{AppendError, Event, Log, OpenError, Position, Store, VerifyOptions, Version};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use crate::device::{Device, Faults};
use crate::filesystem::Mounted;
use crate::image::SECTOR_BYTES;
use crate::judge::{check_closed, judge};
use crate::model::{Found, Level, Promise, content};
use crate::power::{Trial, survival};
use crate::random::Random;
use crate::tape::{Cutter, Op};
use crate::workload::{self, Shape, Stopped};

const ROLE: &str = "POWERCUT_ROLE";
const SEGMENT_BYTES: u64 = workload::SEGMENT_BYTES_SMALL;

impl Trial<'_> {
    fn fresh(&self) -> io::Result<Mounted> {
        self.device.load(self.fresh);
        self.mount()
    }

    fn mount(&self) -> io::Result<Mounted> {
        self.kind.repair(&self.device.node)?;
        self.kind.mount(&self.device.node, &self.point)
    }

    fn violation(&self, what: &str, why: &str) -> u64 {
        println!("VIOLATION {} {what}: {why}", self.kind.name());
        if let Some(keep) = self.keep {
            let name = format!("{}-{}.img", self.kind.name(), what.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
            let kept = fs::create_dir_all(keep).and_then(|()| self.device.image().save(&keep.join(&name)));
            println!("  {}", kept.map_or_else(|error| format!("not kept: {error}"), |()| format!("kept as {}/{name}", keep.display())));
        }
        1
    }
}

/// The n-th write or flush of a run fails, for n = 1, 2, 3 ... until none does; once alone, once with everything after it. Then the store is mounted
/// anew; or the power fails as well; or the store is opened and appended to in the same mount before that.
pub(crate) fn errors(trial: &Trial<'_>, at_most: u64) -> io::Result<u64> {
    let (mut violations, mut tried, mut struck, mut noticed, mut unmountable) = (0, 0, 0, 0, 0);
    let shape = Shape {
        segment_bytes: SEGMENT_BYTES,
        sessions: 2,
        threads: 1,
        requests: 24,
        written: 4,
        noise: false,
        lone: false,
        packs: true,
        followed: true,
    };
    'all: for (flushes, for_ever) in [(false, false), (true, false), (false, true), (true, true)] {
        for number in 1.. {
            if tried >= at_most {
                break 'all;
            }
            tried += 1;
            let what =
                format!("{} {number} fails{}", if flushes { "flush" } else { "write" }, if for_ever { " and all after it" } else { "" });
            let mounted = trial.fresh()?;
            let level = Level::default();
            trial.device.record();
            let (fail_write, fail_flush) = if flushes { (0, number) } else { (number, 0) };
            trial.device.set_faults(Faults { fail_write, fail_flush, for_ever, ..Faults::default() });
            let outcome = workload::run(trial.device, &mounted.store(), &level, shape, trial.seed);
            let failed = trial.device.failed();
            trial.device.set_faults(Faults::default());
            if failed > 0 {
                struck += 1;
            }
            match outcome.map_err(|stopped| *stopped) {
                Ok(()) => {}
                Err(Stopped::Wrong(why)) => violations += trial.violation(&what, &why),
                Err(Stopped::Open(OpenError::Io { .. } | OpenError::Read { .. })) => noticed += 1,
                // `NoSegment`: reserving failed, so nothing was begun and nothing is poisoned.
                Err(Stopped::Append(AppendError::OutcomeUnknown(_) | AppendError::Poisoned(_) | AppendError::NoSegment(_), shown)) => {
                    noticed += 1;
                    // What a poisoned log shows is below the last good watermark, so it stays.
                    trial.device.promise(durable(&shown));
                }
                Err(other) => violations += trial.violation(&what, &format!("not the error of a device: {other}")),
            }
            let mut random = Random::new(trial.seed + number);
            let mut promises = trial.device.promises();
            let mut level = level;
            // In the same mount: the cache may hold what the device does not. A file system that gave up answers with errors, which is fine.
            let mut log = None;
            if number % 3 == 1 {
                match go_on(trial.device, &mounted.store(), &mut random) {
                    Ok(Some(gone_on)) => {
                        if let Err(why) = level.judge(&gone_on.level.base, &promises, true) {
                            violations += trial.violation(&format!("{what}, opened again in the same mount"), &why);
                        }
                        promises = trial.device.promises().split_off(promises.len());
                        level = gone_on.level;
                        log = Some(gone_on.log);
                    }
                    Ok(None) => {}
                    Err(why) => violations += trial.violation(&format!("{what}, opened again in the same mount"), &why),
                }
            }
            let tape = trial.device.stop_recording().expect("it was recording");
            drop(log);
            // What the file system makes of it when it is unmounted; or the power fails as well.
            let _ = mounted.unmount();
            if number % 3 != 0 {
                let survival = survival(&mut random);
                let cut = Cutter::new(&tape, trial.kind.whole()).cut(tape.ops.len(), 0, survival, &mut random);
                trial.device.load(&cut.image);
            }
            match trial.mount() {
                Ok(mounted) => {
                    if let Err(why) = judge(trial.device, &mounted.store(), &level, &promises, SEGMENT_BYTES, &mut random) {
                        violations += trial.violation(&what, &why);
                    }
                    mounted.unmount()?;
                }
                Err(error) => {
                    unmountable += 1;
                    println!("{}: {what}: the file system cannot be mounted any more: {error}", trial.kind.name());
                }
            }
            if failed == 0 {
                break;
            }
        }
    }
    println!(
        "{} errors: {tried} runs, {struck} of them with a failed request, {noticed} noticed by the engine; {unmountable} unmountable; {violations} violations",
        trial.kind.name()
    );
    Ok(violations)
}

fn durable(found: &[Found]) -> Promise {
    Promise::Durable(found.iter().map(|found| (found.position, found.link, found.id)).collect())
}

/// A log that was opened again without a new mount.
struct GoneOn {
    /// To be kept until the tape is taken: closing it would write.
    log: Log,
    /// What it held, and what was appended since.
    level: Level,
}

/// Opens for writing in the same mount and appends a little. `None`: the file system has given up and says so.
fn go_on(device: &Device, store: &Path, random: &mut Random) -> Result<Option<GoneOn>, String> {
    let log = match workload::open(store, SEGMENT_BYTES) {
        Ok(log) => log,
        Err(OpenError::Io { .. } | OpenError::Read { .. }) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    device.promise(Promise::Opened);
    let level = Level::on(content(&log)?);
    for _ in 0..random.below(4) {
        let planned = workload::plan(random, 0, SEGMENT_BYTES);
        let (request, events) = (planned.request(), planned.events.clone());
        level.plan(planned);
        match log.append(request) {
            Ok(receipt) => device.promise(Promise::durable(&receipt, &events)),
            // The file system may give up only now.
            Err(AppendError::OutcomeUnknown(_) | AppendError::Poisoned(_) | AppendError::NoSegment(_)) => break,
            Err(error) => return Err(format!("append: {error}")),
        }
    }
    Ok(Some(GoneOn { log, level }))
}

/// Writers are killed, one after the other, in the same mount; then a log is opened, appended to, and the power fails. Nothing was lost by the kills, so nothing
/// that the log showed may be lost by the cut: whatever a killed writer had not synced yet is the business of the next one.
pub(crate) fn kills(trial: &Trial<'_>, states: u64) -> io::Result<u64> {
    const STATES_PER_RUN: usize = 8;
    let (mut violations, mut judged, mut runs, mut unmountable) = (0, 0, 0, 0);
    while judged < states {
        runs += 1;
        let mut random = Random::new(trial.seed * 1_000_000 + runs);
        let mounted = trial.fresh()?;
        let what = format!("kills, run {runs}");
        trial.device.record();
        let mut acknowledged = 0;
        for _ in 0..1 + random.below(3) {
            acknowledged = acknowledged.max(kill_a_writer(&mounted.store(), &mut random)?);
        }
        let before = trial.device.promises().len();
        let gone_on = match go_on(trial.device, &mounted.store(), &mut random) {
            Ok(Some(gone_on)) => gone_on,
            other => {
                violations += trial.violation(&what, &format!("opening after the kills: {:?}", other.err()));
                mounted.unmount()?;
                continue;
            }
        };
        if (gone_on.level.base.len() as u64) < acknowledged {
            violations += trial.violation(&what, &format!("{acknowledged} were acknowledged, {} are there", gone_on.level.base.len()));
        }
        let tape = trial.device.stop_recording().expect("it was recording");
        drop(gone_on.log);
        mounted.unmount()?;
        let mut cutter = Cutter::new(&tape, trial.kind.whole());
        let opened = tape.ops.iter().position(|op| matches!(op, Op::Promise(_))).unwrap_or(tape.ops.len());
        for number in 0..STATES_PER_RUN {
            let at = opened + 1 + (tape.ops.len() - opened - 1) * number / (STATES_PER_RUN - 1).max(1);
            let survival = survival(&mut random);
            let cut = cutter.cut(at, 0, survival, &mut random);
            judged += 1;
            trial.device.load(&cut.image);
            let Ok(mounted) = trial.mount() else {
                unmountable += 1;
                continue;
            };
            let promises = tape.promises(at).split_off(before);
            let verdict = judge(trial.device, &mounted.store(), &gone_on.level, &promises, SEGMENT_BYTES, &mut random);
            mounted.unmount()?;
            if let Err(why) = verdict {
                trial.device.load(&cut.image);
                violations += trial.violation(&format!("{what}, cut before op {at} of {}, {survival:?}", tape.ops.len()), &why);
            }
        }
    }
    println!("{} kills: {judged} states from {runs} runs; {unmountable} unmountable; {violations} violations", trial.kind.name());
    Ok(violations)
}

/// Lets a child write for a moment and kills it; returns the last position it said was durable.
fn kill_a_writer(store: &Path, random: &mut Random) -> io::Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, "crowd").arg0("chainring").args(["--log".as_ref(), store.as_os_str()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    // Some are killed while they still open, and some while they make the store.
    std::thread::sleep(Duration::from_micros(random.below(60_000)));
    child.kill()?;
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text)?;
    child.wait()?;
    // The last line may be cut off.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().filter_map(|line| line.parse().ok()).max().unwrap_or(0))
}

/// Fills the disk, appends until there is no room, makes room, goes on; several times, without opening again.
pub(crate) fn full(trial: &Trial<'_>, rounds: u64) -> io::Result<u64> {
    let (mut violations, mut refusals, mut appended) = (0, 0_u64, 0_u64);
    let rounds = rounds.clamp(1, 40);
    for round in 0..rounds {
        let what = format!("full disk, round {round}");
        let mounted = trial.fresh()?;
        match fill_and_free(&mounted, trial.seed + round, round % 4 == 3) {
            Ok((refused, events)) => {
                refusals += refused;
                appended += events;
            }
            Err(why) => violations += trial.violation(&what, &why),
        }
        mounted.unmount()?;
    }
    println!("{} full: {rounds} rounds, {refusals} refusals, {appended} events appended; {violations} violations", trial.kind.name());
    Ok(violations)
}

/// Takes all room but what a few KiB leave.
fn fill(ballast: &File) -> io::Result<()> {
    let mut at = ballast.metadata()?.len();
    for piece in [16 << 20, 1 << 20, 64 << 10, 4 << 10] {
        while fallocate(ballast, FallocateFlags::empty(), at, piece).is_ok() {
            at += piece;
        }
    }
    Ok(())
}

/// Returns refusals seen and events appended.
fn fill_and_free(mounted: &Mounted, seed: u64, from_the_start: bool) -> Result<(u64, u64), String> {
    let text = |error: io::Error| error.to_string();
    let store = mounted.store();
    let ballast = File::create(mounted.point.join("ballast")).map_err(text)?;
    let mut random = Random::new(seed);
    let mut refused = 0;
    if from_the_start {
        // No room for a store either: an error, nothing half made that a later open would stumble over.
        fill(&ballast).map_err(text)?;
        match workload::open(&store, SEGMENT_BYTES) {
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => refused += 1,
            Ok(_) => {}
            Err(other) => return Err(format!("making a store on a full disk: {other}")),
        }
        ballast.set_len(0).map_err(text)?;
        ballast.sync_all().map_err(text)?;
        rustix::fs::sync();
    }
    let log = workload::open(&store, SEGMENT_BYTES).map_err(|error| error.to_string())?;
    let mut receipts = Vec::new();
    for turn in 0..4 {
        let mut append = |receipts: &mut Vec<chainring::Receipt>| -> Result<(), AppendError> {
            let length = random.below(3000) as usize;
            let body = random.fill(length);
            receipts.push(log.append(Event::new(format!("s{}", random.below(5)), "Filled").body(body))?);
            Ok(())
        };
        for _ in 0..5 + turn * 3 {
            append(&mut receipts).map_err(|error| format!("turn {turn}, with room: {error}"))?;
        }
        fill(&ballast).map_err(text)?;
        let mut full = 0;
        // The live segment is reserved; then there is no other.
        for _ in 0..400 {
            match append(&mut receipts) {
                Ok(()) => {}
                Err(AppendError::NoSpace(_)) => full += 1,
                Err(other) => return Err(format!("turn {turn}, no room: {other:?} after {} events", receipts.len())),
            }
            if full == 20 {
                break;
            }
        }
        refused += full;
        let found = content(&log)?;
        if found.len() != receipts.len() {
            return Err(format!("turn {turn}: {} events acknowledged, {} shown", receipts.len(), found.len()));
        }
        ballast.set_len(0).map_err(text)?;
        ballast.sync_all().map_err(text)?;
        // Some file systems give space back only with their next commit.
        rustix::fs::sync();
    }
    let expected = content(&log)?;
    log.close().map_err(|error| format!("close: {error}"))?;
    check_closed(&store, &expected)?;
    for (receipt, found) in receipts.iter().zip(&expected) {
        if (receipt.events[0].position.0, receipt.events[0].link) != (found.position, found.link) {
            return Err(format!("position {} is not what was acknowledged", found.position));
        }
    }
    Ok((refused, receipts.len() as u64))
}

/// Where a sector is spoiled.
#[derive(Clone, Copy, Debug)]
enum Target {
    Header,
    Commits,
    Footer,
}

/// What a child does with the store.
const ROLES: [&str; 10] =
    ["read", "write", "verify", "second", "held-read", "held-write", "held-twice", "held-each", "line verify", "line export"];

/// Spoils sectors of sealed and live segments, then opens, verifies, reads and exports; also while a process has the store open.
pub(crate) fn unreadable(trial: &Trial<'_>, at_most: u64) -> io::Result<u64> {
    let (mut violations, mut tried, mut clean, mut unharmed, mut unnamed, mut unplaced, mut lost_max) = (0, 0, 0, 0, 0, 0, 0);
    // A store with sealed segments and one that was not closed.
    let mounted = trial.fresh()?;
    let outcome = child("fill", &mounted.store(), || Ok(()))?;
    if outcome.signal != Some(libc::SIGKILL) {
        return Err(io::Error::other(format!("the filling child ended with {outcome:?}")));
    }
    let store = Store::open(mounted.store()).map_err(|error| io::Error::other(error.to_string()))?;
    let (segments, records) = (store.stats().segments, store.stats().records);
    let truth = content(&store).map_err(io::Error::other)?;
    // It maps files of the file system that is to be unmounted.
    drop(store);
    mounted.unmount()?;
    let image = trial.device.image();
    let mut random = Random::new(trial.seed);
    for number in [1, segments / 2, segments] {
        for target in [Target::Header, Target::Commits, Target::Commits, Target::Footer] {
            for role in ROLES {
                if tried >= at_most {
                    break;
                }
                trial.device.load(&image);
                let mounted = trial.mount()?;
                let path = mounted.store().join(format!("{number:010}.seg"));
                let Some((offset, sector)) = choose(&path, target, number == segments, &mut random)? else {
                    mounted.unmount()?;
                    continue;
                };
                tried += 1;
                let places: BTreeSet<u64> = image.find_sectors(&sector).into_iter().map(|offset| offset / SECTOR_BYTES as u64).collect();
                let what = format!("{role}, {target:?} of segment {number} of {segments}, offset {offset} unreadable");
                if places.is_empty() {
                    return Err(io::Error::other(format!("{what}: the sector was not found on the disk")));
                }
                let spoil = || {
                    trial.device.set_faults(Faults { unreadable: places.clone(), ..Faults::default() });
                    drop_caches(&mounted.store())
                };
                if !role.starts_with("held") {
                    spoil()?;
                }
                let outcome = child(role, &mounted.store(), spoil)?;
                let text = outcome.text.trim().to_owned();
                let named = text.contains(&format!("{number:010}.seg"));
                let verdict = if let Some(signal) = outcome.signal {
                    Err(format!("killed by signal {signal}"))
                } else if text.contains("panicked") {
                    Err(format!("panic: {text}"))
                } else if let Some(count) = text.strip_prefix("lost ") {
                    clean += 1;
                    lost_max = lost_max.max(count.parse().unwrap_or(u64::MAX));
                    Ok(())
                } else if text.starts_with("ok ") {
                    // Not every reader needs every sector; who succeeds must have everything.
                    unharmed += 1;
                    if text == "ok all" || text == format!("ok {}", truth.len()) {
                        Ok(())
                    } else {
                        Err(format!("taken for the end: {text} of {}", truth.len()))
                    }
                } else if text.contains("os error 5") {
                    clean += 1;
                    unnamed += u64::from(!named);
                    unplaced += u64::from(!text.contains("offset"));
                    if named { Ok(()) } else { Err(format!("the file is not named: {text}")) }
                } else {
                    Err(format!("an unreadable sector is not an error of the device: {text} (exit code {:?})", outcome.code))
                };
                if let Err(why) = verdict {
                    violations += trial.violation(&what, &why);
                }
                trial.device.set_faults(Faults::default());
                mounted.unmount()?;
            }
        }
    }
    println!(
        "{} unreadable: {tried} cases on {segments} segments with {records} records; {clean} clean errors ({unnamed} without the file's name, {unplaced} without an offset), {unharmed} did not need the sector; at most {lost_max} events beyond reach for one sector; {violations} violations",
        trial.kind.name()
    );
    Ok(violations)
}

/// A sector of a segment file that is like no other, and its offset. `None` where there is no such thing.
fn choose(path: &Path, target: Target, is_last: bool, random: &mut Random) -> io::Result<Option<(u64, Vec<u8>)>> {
    let bytes = fs::read(path)?;
    // Zeros and padding stand in many places; spoiling one would spoil all of them.
    let is_own = |sector: &u64| {
        let bytes = &bytes[*sector as usize * SECTOR_BYTES..][..SECTOR_BYTES];
        bytes.iter().any(|&byte| byte != bytes[0])
    };
    let sectors: Vec<u64> = (0..bytes.len() as u64 / SECTOR_BYTES as u64).filter(is_own).collect();
    let sector = match target {
        Target::Header => 0,
        Target::Footer if is_last => return Ok(None),
        Target::Footer => sectors[sectors.len() - 1],
        Target::Commits => {
            let among = &sectors[1..sectors.len() - if is_last { 0 } else { 2 }];
            among[random.below(among.len() as u64) as usize]
        }
    };
    let mut found = vec![0; SECTOR_BYTES];
    File::open(path)?.read_exact_at(&mut found, sector * SECTOR_BYTES as u64)?;
    Ok(Some((sector * SECTOR_BYTES as u64, found)))
}

/// Makes the next read of every segment file go to the device.
fn drop_caches(store: &Path) -> io::Result<()> {
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            let file = File::open(path)?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// How a child ended.
#[derive(Debug)]
struct Outcome {
    signal: Option<i32>,
    code: Option<i32>,
    text: String,
}

/// Runs this program in another role. When it says that it is ready, `then` happens before it goes on.
fn child(role: &str, store: &Path, then: impl FnOnce() -> io::Result<()>) -> io::Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, role).arg0("chainring").args(["--log".as_ref(), store.as_os_str(), role.rsplit(' ').next().unwrap_or(role).as_ref()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut output = io::BufReader::new(child.stdout.take().expect("piped"));
    let mut text = String::new();
    output.read_line(&mut text)?;
    if text == "ready\n" {
        text.clear();
        then()?;
        if role == "fill" {
            child.kill()?;
        } else {
            child.stdin.take().expect("piped").write_all(b"go\n")?;
        }
    }
    output.read_to_string(&mut text)?;
    child.stderr.take().expect("piped").read_to_string(&mut text)?;
    let status = child.wait()?;
    if role.starts_with("line") && status.success() {
        // One line an event, or a verdict on everything.
        text = if role.ends_with("export") { format!("ok {}", text.lines().count()) } else { "ok all".into() };
    }
    Ok(Outcome { signal: status.signal(), code: status.code(), text })
}

/// The other roles of this program; `None` if it is none of them.
pub(crate) fn run_as_child() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    if role.starts_with("line") {
        return Some(chainring_tools::run_program());
    }
    let store = std::env::args_os().nth(2)?;
    match act(&role, Path::new(&store)) {
        Ok(text) => println!("{text}"),
        Err(text) => println!("error: {text}"),
    }
    Some(ExitCode::SUCCESS)
}

fn wait_for_go() {
    println!("ready");
    let _ = io::stdin().read_line(&mut String::new());
}

fn act(role: &str, store: &Path) -> Result<String, String> {
    let all = |found: Vec<Found>| format!("ok {}", found.len());
    let text = |error: OpenError| error.to_string();
    match role {
        "fill" => {
            let log = workload::open(store, SEGMENT_BYTES).map_err(text)?;
            let mut random = Random::new(11);
            for number in 0..300 {
                let length = random.below(2000) as usize;
                let body = random.fill(length);
                log.append(Event::new(format!("s{}", number % 7), "Filled").body(body)).map_err(|error| error.to_string())?;
            }
            wait_for_go();
            Err("it should have been killed".into())
        }
        "crowd" => {
            let log = workload::open(store, SEGMENT_BYTES).map_err(text)?;
            let mut random = Random::new(u64::from(std::process::id()));
            loop {
                let receipt = log.append(workload::plan(&mut random, 0, SEGMENT_BYTES).request()).map_err(|error| error.to_string())?;
                println!("{}", receipt.last_position());
            }
        }
        "read" => content(&Store::open(store).map_err(text)?).map(all),
        "write" => {
            let log = workload::open(store, SEGMENT_BYTES).map_err(text)?;
            content(&log).map(all)
        }
        "verify" => {
            let report = chainring::verify(store, &VerifyOptions { threads: 1, ..VerifyOptions::default() }).map_err(text)?;
            Ok(report.fault.map_or_else(|| format!("ok {}", report.events), |fault| fault.to_string()))
        }
        "second" => {
            let report = chainring_reader::verify(store, &chainring_reader::Options::default()).map_err(|error| error.to_string())?;
            Ok(report.fault.map_or_else(|| format!("ok {}", report.events), |fault| fault.to_string()))
        }
        "held-read" => {
            let store = Store::open(store).map_err(text)?;
            wait_for_go();
            read_all_ways(&store)
        }
        "held-twice" => {
            let store = Store::open(store).map_err(text)?;
            read_all_ways(&store)?;
            wait_for_go();
            page_out_segments().map_err(|error| error.to_string())?;
            // Longer than the engine believes in what it saw; in between, only luck helps.
            std::thread::sleep(Duration::from_millis(300));
            read_all_ways(&store)
        }
        "held-each" => {
            let store = Store::open(store).map_err(text)?;
            wait_for_go();
            let (view, end) = (store.latest(), store.stats().records);
            let lost = (1..end).filter(|&position| view.event(Position(position)).is_err()).count();
            Ok(if lost == 0 { format!("ok {}", end - 1) } else { format!("lost {lost}") })
        }
        "held-write" => {
            let log = workload::open(store, SEGMENT_BYTES).map_err(text)?;
            wait_for_go();
            log.append(Event::new("late", "More")).map_err(|error| format!("append with an unreadable sector elsewhere: {error}"))?;
            read_all_ways(&log)
        }
        other => Err(format!("no such role: {other}")),
    }
}

/// Has the kernel throw out the pages of segments that this process maps, as it does when memory is short.
#[allow(unsafe_code)] // advice about mappings that are not ours by type
fn page_out_segments() -> io::Result<()> {
    for line in fs::read_to_string("/proc/self/maps")?.lines().filter(|line| line.ends_with(".seg")) {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let range = range.and_then(|(start, end)| Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?)));
        let (start, end) = range.ok_or_else(|| io::Error::other(format!("not a mapping: {line}")))?;
        // SAFETY: a clean page of a file that is thrown out is read again at its next use; the bytes do not change.
        unsafe { rustix::mm::madvise(std::ptr::without_provenance_mut(start), end - start, rustix::mm::Advice::LinuxPageOut)? };
    }
    Ok(())
}

/// Reads by position, by stream forward and backward; the first error is the answer.
fn read_all_ways(store: &Store) -> Result<String, String> {
    let view = store.latest();
    let mut outcome = content(store);
    let mut bodies = 0;
    for number in 0..7 {
        let mut read = || -> Result<(), chainring::ReadError> {
            let name = format!("s{number}");
            let Some(stream) = view.stream(&name)? else { return Ok(()) };
            for event in stream.forward(Version(1))?.chain(stream.backward()) {
                bodies += event?.body().map_or(0, <[u8]>::len);
            }
            Ok(())
        };
        if let Err(error) = read() {
            outcome = outcome.and(Err(format!("reading: {error}")));
        }
    }
    // Somebody must want the bodies, or nobody reads them.
    std::hint::black_box(bodies);
    outcome.map(|found| format!("ok {}", found.iter().filter(|found| found.stream.starts_with('s')).count()))
}
