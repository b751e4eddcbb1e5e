//! Holes in real histories: what `salvage` gets out of them, and what `fsck` says of logs in every state.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use chainring_format::Mark;
use chainring_format::checksum::Seed;
use chainring_format::frame::FrameView;
use chainring_format::segment::SegmentHeader;
use common::{Place, command, copy_log, fields, histories, import, read_json, run};
use serde_json::{Value, json};

const SEGMENT: &str = "0000000001.seg";

/// Every file of a directory: bytes and time of change.
fn state(directory: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let of = |path: &Path| (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), of(&entry.path()))).collect()
}

/// A small log of some streams.
fn filled(name: &str) -> Place {
    let place = Place::new(name);
    let line = |number: u64| {
        let (stream, version) = (format!("s{}", number % 7), number / 7 + 1);
        let id = format!("00000000-0000-4000-8000-{number:012}");
        format!(
            "{}\n",
            json!({ "stream": stream, "version": version, "type": "E", "id": id, "data": { "set": { "text": "x".repeat(300) } } })
        )
    };
    let file = place.write("in.jsonl", (0..2000).map(line).collect::<String>());
    run(&place.log(), &["init", "--segment-bytes", "256KiB"]).yes();
    assert_eq!(import(&place.log(), &file, &[]).code, 0);
    place
}

fn spoil(path: &Path, offset: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn salvage(place: &Place, log: &Path, to: &str) -> (i32, Value) {
    let target = place.join(to);
    let ran = run(log, &["salvage", "--json", "--to", target.to_str().unwrap()]);
    let printed = ran.json();
    assert_eq!(printed, read_json(&target.join("salvage.json")), "the file says what was printed");
    // The list beside the segments disturbs nobody, and the new log is as good as any.
    for args in [&["verify", "--json"][..], &["verify", "--json", "--reader"], &["fsck", "--json"]] {
        let ran = run(&target, args);
        assert_eq!((ran.code, &ran.json()["ok"]), (0, &json!(true)), "{args:?} {}", ran.out);
    }
    (ran.code, printed)
}

#[test]
fn a_sound_log_comes_out_whole_and_stays_untouched() {
    let place = filled("salvage-sound");
    let before = state(&place.log());
    fs::set_permissions(place.log(), fs::Permissions::from_mode(0o555)).unwrap();
    let (code, told) = salvage(&place, &place.log(), "new");
    fs::set_permissions(place.log(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(state(&place.log()) == before, "not a byte, not a time has changed");
    assert_eq!((code, &told["ok"], &told["events_copied"]), (0, &json!(true), &json!(2000)));
    for list in ["damage", "missing_segments", "cut", "missing_positions", "left_out", "unplaced", "broken_batches", "streams"] {
        assert_eq!(told[list], json!([]), "{list}");
    }
    assert_eq!(run(&place.log(), &["export"]).yes(), run(&place.join("new"), &["export"]).yes());
    let size = |log: &Path| run(log, &["info", "--json"]).json()["bytes"].as_u64().unwrap();
    assert!(size(&place.join("new")) < size(&place.log()) * 5 / 4, "events share commits there too");
    // The new log goes on.
    let more =
        place.write("more.jsonl", r#"{"stream":"s0","version":287,"type":"More","id":"00000000-0000-4000-8000-0000000f0000","data":1}"#);
    assert_eq!(import(&place.join("new"), &more, &[]).code, 0);
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = filled("salvage-refusals");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let inside = text(&place.log().join("new"));
    assert_eq!(run(&place.log(), &["salvage", "--to", &inside]).code, 2, "a log inside the old one would change that");
    assert_eq!(run(&place.log(), &["salvage"]).code, 2);
    assert_eq!(run(&place.join("none"), &["salvage", "--to", &text(&place.join("new"))]).code, 3);
    assert_eq!(run(&place.log(), &["salvage", "--to", &text(&place.join(""))]).code, 3, "there is something there");
    assert_eq!(run(&place.log(), &["salvage", "--to", &text(&place.join("new")), "--names", "/nowhere"]).code, 3);
    assert!(!place.join("new").exists());
    let dry = run(&place.log(), &["salvage", "--dry-run", "--json"]);
    assert_eq!((dry.code, &dry.json()["events_copied"], &dry.json()["to"]), (0, &json!(2000), &Value::Null));
}

/// Offset, length and, by position, every record of a segment that is whole.
fn records(bytes: &[u8]) -> Vec<(usize, usize)> {
    let header = SegmentHeader::parse(bytes).unwrap();
    let (seed, block) = (Seed::new(&header.salt), header.block_bytes.get() as usize);
    let (mut at, mut found) = (block, Vec::new());
    loop {
        match Mark::of(bytes.get(at..).unwrap_or_default()) {
            Mark::Frame(length) => {
                FrameView::parse(&bytes[at..], seed.mask(at as u64)).unwrap();
                found.push((at, length as usize));
                at += length as usize;
            }
            Mark::Padding => at = (at + 160).next_multiple_of(block),
            Mark::Trailer => at += 160,
            Mark::Footer | Mark::Nothing => return found,
        }
    }
}

#[test]
fn a_hole_of_a_megabyte_in_a_real_history_costs_what_was_in_it() {
    const HOLE: usize = 1 << 20;
    let Some(folder) = histories("a_hole_of_a_megabyte_in_a_real_history_costs_what_was_in_it") else { return };
    let place = Place::new("salvage-real");
    import(&place.log(), &folder.join("retail-shared.jsonl.zst"), &[]);
    let whole = fs::read(place.log().join(SEGMENT)).unwrap();
    let records = records(&whole);
    let exported = run(&place.log(), &["export"]).yes();
    let lines: Vec<BTreeMap<String, String>> = exported.lines().map(fields).collect();
    let version = |line: &BTreeMap<String, String>| line["version"].parse::<u64>().unwrap();
    assert_eq!(records.len(), lines.len() + 1, "the engine's first record is not exported");
    // Behind the last hole the closing commit is left: without it nothing would tell a hole from a commit that was cut short.
    for (name, from) in [("start", 0), ("middle", 1_000_000), ("later", 1_300_321), ("end", whole.len() - HOLE - 4096)] {
        let log = place.join(name);
        copy_log(&place.log(), &log);
        spoil(&log.join(SEGMENT), from as u64, &vec![0; HOLE]);
        let before = state(&log);
        let (code, told) = salvage(&place, &log, &format!("{name}-new"));
        assert!(state(&log) == before, "{name}: the damaged log was left as it was");
        assert_eq!((code, &told["ok"]), (1, &json!(false)), "{name}");
        let fsck = run(&log, &["fsck", "--json"]);
        assert_eq!((fsck.code, &fsck.json()["state"]), (1, &json!("damaged")), "{name}: {}", fsck.out);
        assert!(fsck.json()["advice"].to_string().contains("salvage --log"), "{name}");

        // Of a record at the edge the hole may take nothing but zeros.
        let is_kept = |&(at, length): &(usize, usize)| {
            let (start, end) = (at.max(from), (at + length).min(from + HOLE));
            start >= end || whole[start..end].iter().all(|&byte| byte == 0)
        };
        let kept: Vec<&BTreeMap<String, String>> =
            records[1..].iter().zip(&lines).filter(|(record, _)| is_kept(record)).map(|(_, line)| line).collect();
        let copied = run(&place.join(&format!("{name}-new")), &["export"]).yes();
        assert_eq!(copied.lines().count(), kept.len(), "{name}");
        assert!(kept.len() > 1000 && kept.len() < lines.len() - 500, "{name}: {} kept", kept.len());
        for (copied, kept) in copied.lines().map(fields).zip(&kept) {
            for (member, value) in &copied {
                // A stream without its first event may have lost its name, a broken batch is none any more, versions are counted anew.
                let is_same = kept.get(member) == Some(value) || value.starts_with("\"$salvaged/") || member == "version";
                assert!(is_same, "{name}: {member} is {value} and was {:?}", kept.get(member));
            }
            assert!(kept.keys().all(|member| member == "batch" || copied.contains_key(member)), "{name}: {kept:?}");
        }

        // The list names exactly the versions that are missing before the last one found.
        let mut found: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for line in &kept {
            found.entry(&line["stream"]).or_default().insert(version(line));
        }
        let listed: BTreeMap<String, &Value> = told["streams"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|stream| Some((format!("{:?}", stream["stream"].as_str()?), stream)))
            .collect();
        let numbers = |ranges: &Value| -> BTreeSet<u64> {
            let ranges = ranges.as_array().unwrap().iter();
            ranges.flat_map(|range| range[0].as_u64().unwrap()..=range[1].as_u64().unwrap()).collect()
        };
        let mut touched = 0;
        for (stream, versions) in &found {
            let lost: BTreeSet<u64> = (1..*versions.last().unwrap()).filter(|version| !versions.contains(version)).collect();
            touched += usize::from(!lost.is_empty());
            match listed.get(*stream) {
                Some(entry) => {
                    assert_eq!((numbers(&entry["found"]), &entry["complete"]), (versions.clone(), &json!(false)), "{name}: {stream}");
                    assert!(numbers(&entry["missing"]).is_superset(&lost), "{name}: {stream} {lost:?}");
                }
                // Without its first event and without anybody who names it.
                None => assert!(lost.is_empty() || lost.contains(&1), "{name}: {stream} {lost:?}"),
            }
        }
        assert!(touched > 10 || name == "end", "{name}: {touched}");
    }
}

#[test]
fn names_can_be_given() {
    let place = filled("salvage-names");
    // Up to the seventh event: where records lie depends on how many came into a commit.
    let (at, length) = records(&fs::read(place.log().join(SEGMENT)).unwrap())[7];
    spoil(&place.log().join(SEGMENT), 0, &vec![0; at + length]);
    let names = place.write("names.txt", "s1\ns2\r\n\ns77\n");
    let ran = run(&place.log(), &["salvage", "--dry-run", "--json", "--names", names.to_str().unwrap()]);
    let told = ran.json();
    let named: BTreeSet<&str> = told["streams"].as_array().unwrap().iter().filter_map(|stream| stream["stream"].as_str()).collect();
    assert_eq!((ran.code, named), (1, BTreeSet::from(["s1", "s2"])), "the other five lost their first events");
    assert_eq!(told["streams"].as_array().unwrap().len(), 7);
}

fn fsck(log: &Path) -> (i32, Value) {
    let ran = run(log, &["fsck", "--json"]);
    let words = run(log, &["fsck"]);
    assert_eq!(ran.code, words.code);
    assert!(words.out.starts_with(ran.json()["state"].as_str().unwrap()), "{}", words.out);
    (ran.code, ran.json())
}

#[test]
fn fsck_tells_how_the_last_writer_ended() {
    let place = filled("fsck-states");
    let (code, told) = fsck(&place.log());
    assert_eq!((code, &told["ok"], &told["state"], &told["in_use_by"]), (0, &json!(true), &json!("closed"), &Value::Null));
    assert_eq!((&told["advice"], &told["leftovers"]), (&json!([]), &json!([])));

    // A writer at work, and then no more.
    let mut writer = command(&place.log(), &["import", "-", "--ack"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = writer.stdin.take().unwrap();
    let (mut acks, mut line) = (std::io::BufReader::new(writer.stdout.take().unwrap()), String::new());
    writeln!(lines, r#"{{"stream":"w","version":1,"type":"E","id":"00000000-0000-4000-8000-00000000aaaa","batch":"a"}}"#).unwrap();
    writeln!(lines, r#"{{"stream":"w","version":2,"type":"E","id":"00000000-0000-4000-8000-00000000bbbb","batch":"b"}}"#).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let in_use = loop {
        // It changes while it is looked at, so it is asked once.
        let ran = run(&place.log(), &["fsck", "--json"]);
        if ran.json()["state"] == "in-use" || std::time::Instant::now() > deadline {
            break (ran.code, ran.json());
        }
    };
    assert_eq!((in_use.0, &in_use.1["ok"], &in_use.1["state"]), (0, &json!(true), &json!("in-use")), "{}", in_use.1);
    assert!(in_use.1["in_use_by"].as_str().unwrap().contains(&writer.id().to_string()), "{}", in_use.1);
    drop(lines);
    std::io::BufRead::read_line(&mut acks, &mut line).unwrap();
    writer.wait().unwrap();

    // Killed: a log that nobody closed.
    let log = chainring::Log::open(place.log()).unwrap();
    log.append(chainring::Event::new("k", "E")).unwrap();
    std::mem::forget(log);
    let killed = place.join("killed");
    copy_log(&place.log(), &killed);
    let (code, told) = fsck(&killed);
    assert_eq!((code, &told["state"], &told["cut_bytes"]), (0, &json!("killed"), &json!(0)));

    // Torn: the first sector of a commit that never came.
    let last =
        fs::read_dir(&killed).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "seg")).max();
    let last = last.unwrap();
    let bytes = fs::read(&last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    spoil(&last, end.next_multiple_of(4096), &[0x55; 300]);
    let (code, told) = fsck(&killed);
    assert_eq!(
        (code, &told["ok"], &told["state"], &told["fault"], &told["cut_bytes"]),
        (0, &json!(true), &json!("torn"), &json!("torn"), &json!(300))
    );
    fs::write(killed.join("0000000099.seg.tmp"), "half").unwrap();
    let (code, told) = fsck(&killed);
    assert_eq!((code, &told["leftovers"]), (0, &json!(["0000000099.seg.tmp"])));
    let (code, told) = salvage(&place, &killed, "from-torn");
    assert_eq!((code, &told["ok"], &told["cut"][0]["bytes"]), (0, &json!(true), &json!(300)));
}

#[test]
fn fsck_tells_what_is_wrong() {
    let place = filled("fsck-wrong");
    let broken = |name: &str, spoiled: &dyn Fn(&Path)| {
        let log = place.join(name);
        copy_log(&place.log(), &log);
        spoiled(&log);
        fsck(&log)
    };
    // Where records lie depends on how many came into a commit.
    let (at, length) = records(&fs::read(place.log().join(SEGMENT)).unwrap())[30];
    let (code, told) = broken("body", &|log| spoil(&log.join(SEGMENT), (at + length / 2) as u64, b"????"));
    assert_eq!((code, &told["ok"], &told["state"], &told["fault"]), (1, &json!(false), &json!("damaged"), &json!("corrupt")));
    assert_eq!(told["readable"]["records_missing"], json!(1));
    let (code, told) = broken("gone", &|log| fs::remove_file(log.join("0000000002.seg")).unwrap());
    assert_eq!((code, &told["fault"], &told["readable"]["missing_segments"]), (1, &json!("missing"), &json!([[2, 2]])));
    let (code, told) = broken("newer", &|log| {
        let header = |file: &str| {
            let mut bytes = fs::read(log.join(file)).unwrap()[..256].to_vec();
            bytes[12] = 2;
            let sum = chainring_format::checksum::crc(&bytes[12..]);
            bytes[8..12].copy_from_slice(&sum.to_le_bytes());
            spoil(&log.join(file), 0, &bytes);
        };
        fs::read_dir(log)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".seg"))
            .for_each(|name| header(&name));
    });
    assert_eq!((code, &told["ok"], &told["state"]), (3, &json!(false), &json!("unsupported")));
    let (code, told) = fsck(&place.join("nothing"));
    assert_eq!((code, &told["state"]), (3, &json!("no-store")));
}
