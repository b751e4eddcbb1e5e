//! The test of the test: every fault of the simulated disk shows, and every seed gives the same again.

use std::sync::Arc;

use chainring::disk::sim::{Call, Failure, Fault, SimClock, SimDisk, SimEntropy, SimRandom};
use chainring::disk::{Access, Clock, Disk, DiskFile, Entropy};

const SECTOR: usize = 512;

/// A disk with one file of `bytes` zeros, all of it durable.
fn disk_with_file(name: &str, bytes: usize) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    disk.create_directory().unwrap();
    let file = disk.create(name).unwrap();
    file.write_all_at(&vec![0; bytes], 0).unwrap();
    file.sync_all().unwrap();
    disk.sync_directory().unwrap();
    (disk, file)
}

fn read(file: &dyn DiskFile, offset: u64, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    file.read_exact_at(&mut buffer, offset).unwrap();
    buffer
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Everything that may become of the disk: one entry for each different outcome of many cuts.
fn outcomes<T: Ord>(disk: &SimDisk, look: impl Fn(&SimDisk) -> T) -> Vec<T> {
    let mut found: Vec<T> = (0..400).map(|seed| look(&disk.crash(seed))).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn what_is_synced_survives_and_what_is_not_survives_in_any_part() {
    let (disk, file) = disk_with_file("a", 4 * SECTOR);
    file.write_all_at(&[1; 2 * SECTOR], 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(&[2; 3 * SECTOR], SECTOR as u64).unwrap();
    let sectors = |disk: &SimDisk| disk.content("a").unwrap().chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<u8>>();
    let found = outcomes(&disk, sectors);
    assert!(found.iter().all(|sectors| sectors[0] == 1 && [1, 2].contains(&sectors[1]) && [0, 2].contains(&sectors[2])), "{found:?}");
    assert_eq!(found.len(), 8, "each of the three sectors for itself: {found:?}");
    for seed in 0..50 {
        assert_eq!(disk.crash(seed).content("a"), disk.crash(seed).content("a"), "one seed, one outcome");
    }
    assert_eq!(sectors(&disk), [1, 2, 2, 2], "the disk itself goes on");
}

#[test]
fn a_sector_is_written_back_as_the_cache_holds_it() {
    let (disk, file) = disk_with_file("a", SECTOR);
    file.write_all_at(&[1; 10], 0).unwrap();
    file.write_all_at(&[2; 10], 10).unwrap();
    let found = outcomes(&disk, |disk| disk.content("a").unwrap()[..20].to_vec());
    let (none, first, both) = ([0; 20].to_vec(), [[1; 10], [0; 10]].concat(), [[1; 10], [2; 10]].concat());
    assert_eq!(found, [none, first, both], "never the second part alone");
}

#[test]
fn lengths_survive_or_not_but_never_fall_below_what_was_synced() {
    let (disk, file) = disk_with_file("a", SECTOR);
    file.reserve(8 * SECTOR as u64).unwrap();
    file.set_bytes(4 * SECTOR as u64).unwrap();
    let found = outcomes(&disk, |disk| disk.content("a").unwrap().len() / SECTOR);
    assert_eq!(found, [1, 4, 8]);
    file.sync_data().unwrap();
    file.set_bytes(2 * SECTOR as u64).unwrap();
    assert_eq!(outcomes(&disk, |disk| disk.content("a").unwrap().len() / SECTOR), [2, 4]);
}

#[test]
fn each_change_of_a_name_survives_or_not_until_the_directory_is_synced() {
    let (disk, _) = disk_with_file("a", 1);
    disk.create("b").unwrap();
    disk.rename("a", "c").unwrap();
    let names = |disk: &SimDisk| disk.names().join(" ");
    assert_eq!(outcomes(&disk, names), ["a", "a b", "b c", "c"]);
    disk.remove("b").unwrap();
    assert_eq!(outcomes(&disk, names), ["a", "a b", "b c", "c"]);
    disk.sync_directory().unwrap();
    assert_eq!(outcomes(&disk, names), ["c"]);
    // A name says nothing about what is in the file.
    let file = disk.create("d").unwrap();
    file.write_all_at(b"x", 0).unwrap();
    disk.sync_directory().unwrap();
    assert_eq!(outcomes(&disk, |disk| disk.content("d").unwrap()), [Vec::new(), b"\0".to_vec(), b"x".to_vec()]);
}

#[test]
fn what_is_remembered_beside_is_never_synced() {
    let disk = SimDisk::new();
    assert_eq!(disk.remembered().unwrap(), None);
    disk.remember(b"1").unwrap();
    disk.remember(b"2").unwrap();
    assert_eq!(disk.snapshot().remembered().unwrap(), Some(b"2".to_vec()));
    assert_eq!(outcomes(&disk, |disk| disk.remembered().unwrap()), [None, Some(b"1".to_vec()), Some(b"2".to_vec())]);
}

#[test]
fn of_two_files_that_exchange_names_each_has_one_at_any_moment() {
    let disk = SimDisk::new();
    disk.overwrite("old", vec![1]);
    disk.create_directory().unwrap();
    disk.create("new").unwrap().write_all_at(&[2], 0).unwrap();
    disk.open("new", Access::Write).unwrap().sync_all().unwrap();
    disk.sync_directory().unwrap();
    disk.replace("new", "old").unwrap();
    let both = |disk: &SimDisk| (disk.content("old").unwrap(), disk.content("new").unwrap());
    assert_eq!(both(&disk), (vec![2], vec![1]));
    assert_eq!(outcomes(&disk, both), [(vec![1], vec![2]), (vec![2], vec![1])]);
    disk.sync_directory().unwrap();
    assert_eq!(outcomes(&disk, both), [(vec![2], vec![1])]);
    assert_eq!(disk.replace("none", "old").unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_failed_sync_is_forgotten_by_everyone_but_the_device() {
    let (disk, file) = disk_with_file("a", SECTOR);
    file.write_all_at(&[1; 2 * SECTOR], 0).unwrap();
    disk.inject(Fault::Sync(1));
    assert_eq!(errno(file.sync_data()), Some(5));
    assert_eq!(errno(file.sync_data()), None, "as measured: the second one succeeds");
    assert_eq!(read(&*file, 0, 2 * SECTOR), [1; 2 * SECTOR], "the cache shows what the device never got");
    assert_eq!(disk.snapshot().content("a").unwrap(), [1; 2 * SECTOR], "so does a process that comes after");
    assert_eq!(outcomes(&disk, |disk| disk.content("a").unwrap()), [vec![0; 2 * SECTOR]], "the length is in the journal");
    file.drop_cache().unwrap();
    assert_eq!(read(&*file, 0, 2 * SECTOR), [0; 2 * SECTOR]);
}

#[test]
fn the_nth_call_of_a_kind_fails_once_or_from_then_on() {
    for call in Call::ALL {
        for failure in Failure::ALL {
            for lasting in [false, true] {
                let (disk, file) = disk_with_file("a", SECTOR);
                let region = file.region(SECTOR).unwrap();
                let act = || match call {
                    Call::CreateDirectory => disk.create_directory(),
                    Call::List => disk.list().map(drop),
                    Call::Open => disk.open("a", Access::Read).map(drop),
                    Call::Create => disk.create("new").map(drop),
                    Call::Rename => disk.rename("a", "a"),
                    Call::Replace => disk.replace("a", "a"),
                    Call::Remove => disk.overwriting_remove(),
                    Call::SyncDirectory => disk.sync_directory(),
                    Call::Lock => disk.lock().map(drop).map_err(|error| match error {
                        chainring::disk::LockError::Io(error) => error,
                        other => panic!("{other:?}"),
                    }),
                    Call::Bytes => file.bytes().map(drop),
                    Call::Read => file.read_exact_at(&mut [0; 8], 0),
                    Call::Write => file.write_all_at(&[1; 8], 0),
                    Call::Sync => file.sync_all(),
                    Call::Reserve => file.reserve(SECTOR as u64),
                    Call::SetBytes => file.set_bytes(SECTOR as u64),
                    Call::Region => file.region(8).map(drop),
                    Call::DropCache => file.drop_cache(),
                    Call::Remembered => disk.remembered().map(drop),
                    Call::Remember => disk.remember(b"seen"),
                    Call::Probe => region.read(0, 8).map(drop).map_err(|(_, error)| error),
                };
                disk.inject(Fault::Nth { call: Some(call), n: 3, failure, lasting });
                let before = disk.count(call);
                let outcomes: Vec<bool> = (0..5).map(|_| errno(act()) == failure.error().raw_os_error()).collect();
                assert_eq!(outcomes, [false, false, true, lasting, lasting], "{call:?} {failure:?}");
                assert_eq!(disk.count(call), before + 5);
                assert!(disk.trace().contains("(injected)"), "{}", disk.trace());
                disk.heal();
                assert!(act().is_ok());
            }
        }
    }
}

/// Removing needs something to remove.
trait OverwritingRemove {
    fn overwriting_remove(&self) -> std::io::Result<()>;
}

impl OverwritingRemove for SimDisk {
    fn overwriting_remove(&self) -> std::io::Result<()> {
        self.overwrite("victim", Vec::new());
        self.remove("victim")
    }
}

#[test]
fn the_nth_call_of_any_kind_fails() {
    let (disk, file) = disk_with_file("a", SECTOR);
    disk.inject(Fault::Nth { call: None, n: 3, failure: Failure::TooManyFiles, lasting: false });
    assert!(file.bytes().is_ok() && disk.list().is_ok() && disk.is_fault_waiting());
    assert_eq!(errno(file.sync_all()), Some(24));
    assert!(!disk.is_fault_waiting());
}

#[test]
fn with_a_seed_part_of_a_failing_call_is_done_all_the_same() {
    let mut writes = Vec::new();
    let (mut syncs, mut renames, mut reserves) = ([false; 2], [false; 2], [false; 2]);
    for seed in 0..40 {
        let run = || {
            let (disk, file) = disk_with_file("a", 4 * SECTOR);
            let disk = disk.with_seed(seed);
            disk.inject(Fault::Write(1));
            assert!(file.write_all_at(&[1; 4 * SECTOR], 0).is_err());
            let written: Vec<bool> = read(&*file, 0, 4 * SECTOR).chunks(SECTOR).map(|sector| sector[0] == 1).collect();
            file.sync_all().unwrap();
            file.write_all_at(&[2; SECTOR], 0).unwrap();
            disk.inject(Fault::Sync(1));
            assert!(file.sync_all().is_err());
            file.drop_cache().unwrap();
            let synced = read(&*file, 0, 1) == [2];
            let failing = |call| disk.inject(Fault::Nth { call: Some(call), n: 1, failure: Failure::Device, lasting: false });
            failing(Call::Rename);
            assert!(disk.rename("a", "b").is_err());
            failing(Call::Reserve);
            assert!(file.reserve(100 * SECTOR as u64).is_err());
            (written, synced, disk.names() == ["b"], file.bytes().unwrap() > 4 * SECTOR as u64)
        };
        let (written, synced, renamed, reserved) = run();
        assert_eq!(run(), (written.clone(), synced, renamed, reserved), "seed {seed} repeats");
        writes.push(written);
        (syncs[usize::from(synced)], renames[usize::from(renamed)], reserves[usize::from(reserved)]) = (true, true, true);
    }
    writes.sort();
    writes.dedup();
    assert!(writes.len() > 8, "{writes:?}");
    assert_eq!((syncs, renames, reserves), ([true; 2], [true; 2], [true; 2]));
}

#[test]
fn a_misdirected_write_is_hidden_by_the_cache_until_it_is_dropped() {
    let mut places = Vec::new();
    for seed in 0..40 {
        let (disk, file) = disk_with_file("a", 8 * SECTOR);
        let disk = disk.with_seed(seed);
        disk.overwrite("b", vec![0; 8 * SECTOR]);
        disk.inject(Fault::Misdirect(1));
        file.write_all_at(&[1; SECTOR], 0).unwrap();
        file.sync_all().unwrap();
        assert_eq!(read(&*file, 0, 1), [1]);
        file.drop_cache().unwrap();
        assert_eq!(read(&*file, 0, 1), [0], "it never arrived");
        let after = disk.crash(1);
        let find = |name| after.content(name).unwrap().iter().position(|&b| b == 1).map(|at| (name, at / SECTOR));
        places.push(find("a").or_else(|| find("b")));
    }
    places.sort_unstable();
    places.dedup();
    assert!(places.len() > 5 && places.contains(&Some(("b", 0))), "{places:?}");
}

#[test]
fn a_lying_drive_says_yes_and_loses_what_it_likes() {
    let (disk, file) = disk_with_file("a", SECTOR);
    disk.inject(Fault::Lie);
    file.write_all_at(&[1; SECTOR], 0).unwrap();
    file.sync_all().unwrap();
    file.drop_cache().unwrap();
    disk.rename("a", "b").unwrap();
    disk.sync_directory().unwrap();
    assert_eq!(read(&*file, 0, 1), [1], "while the power stays nobody can tell");
    let look = |disk: &SimDisk| (disk.names(), disk.content(&disk.names()[0]).unwrap()[0]);
    assert_eq!(outcomes(&disk, look).len(), 4);
}

#[test]
fn flipped_bits_and_unreadable_sectors() {
    let (disk, file) = disk_with_file("a", 4 * SECTOR);
    disk.flip("a", 700, 0x10);
    assert_eq!(read(&*file, 700, 1), [0x10]);
    assert_eq!(disk.crash(3).content("a").unwrap()[700], 0x10);
    let (name, at) = disk.flip_somewhere(5).unwrap();
    assert!(name == "a" && at <= 700, "where something is written: {at}");
    assert_eq!(disk.snapshot().flip_somewhere(6), disk.snapshot().flip_somewhere(6));
    disk.make_unreadable("a", 1024..1536);
    assert_eq!(errno(file.read_exact_at(&mut [0; 600], 900)), Some(5));
    let region = file.region(4 * SECTOR).unwrap();
    assert_eq!(region.read(900, 600).unwrap_err().1.raw_os_error(), Some(5));
    assert!(region.read(900, 100).is_ok() && region.read(1536, 512).is_ok());
    assert!(file.read_exact_at(&mut [0; 100], 900).is_ok() && file.read_exact_at(&mut [0; 100], 1536).is_ok());
    assert!(disk.crash(1).open("a", Access::Read).unwrap().read_exact_at(&mut [0; 1], 1100).is_err(), "a power cut heals nothing");
    disk.heal();
    assert!(file.read_exact_at(&mut [0; 600], 900).is_ok());
}

#[test]
fn space_runs_out_and_comes_back() {
    let (disk, file) = disk_with_file("a", SECTOR);
    disk.limit_space(Some(4 * SECTOR as u64));
    assert_eq!(errno(file.reserve(5 * SECTOR as u64)), Some(28));
    file.reserve(4 * SECTOR as u64).unwrap();
    file.write_all_at(&[1; SECTOR], 3 * SECTOR as u64).unwrap();
    assert_eq!(errno(file.write_all_at(&[1; SECTOR], 4 * SECTOR as u64)), Some(28));
    let other = disk.create("b").unwrap();
    assert_eq!(errno(other.write_all_at(&[1], 0)), Some(28));
    file.set_bytes(SECTOR as u64).unwrap();
    other.write_all_at(&[1], 0).unwrap();
    assert_eq!(disk.used_bytes(), SECTOR as u64 + 1);
    disk.remove("a").unwrap();
    other.reserve(4 * SECTOR as u64).unwrap();
    disk.limit_space(None);
    other.reserve(400 * SECTOR as u64).unwrap();
}

#[test]
fn an_unplugged_disk_takes_nothing_and_its_copy_goes_on() {
    let (disk, file) = disk_with_file("a", SECTOR);
    let _lock = disk.lock().unwrap();
    file.write_all_at(&[1], 0).unwrap();
    let copy = disk.snapshot();
    disk.unplug();
    assert!(file.write_all_at(&[2], 0).is_err() && file.sync_all().is_err() && disk.list().is_err());
    assert_eq!(copy.content("a").unwrap()[0], 1, "written is as good as synced for the next process");
    assert!(copy.lock().is_ok(), "the lock died with its process");
    assert_eq!(outcomes(&copy, |disk| disk.content("a").unwrap()[0]), [0, 1], "and is still not durable");
}

#[test]
fn time_and_randomness_do_as_they_are_told() {
    let clock = SimClock::new(1000, 10);
    assert_eq!((clock.realtime_ns(), clock.realtime_ns(), clock.monotonic_ns(), clock.now_ns()), (1000, 1010, 20, 1020));
    clock.step_to(5);
    assert_eq!((clock.realtime_ns(), clock.monotonic_ns()), (5, 30));
    clock.advance(100);
    assert_eq!((clock.realtime_ns(), clock.monotonic_ns()), (115, 140));

    let draw = |seed| {
        let mut bytes = [0; 20];
        SimEntropy::new(seed).fill(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
    let entropy = SimEntropy::new(1);
    entropy.set_failing(true);
    assert_eq!(errno(entropy.fill(&mut [0; 4])), Some(5));
    entropy.set_failing(false);
    entropy.fill(&mut [0; 4]).unwrap();
    let mut random = SimRandom::new(1);
    assert!((0..1000).all(|_| random.below(7) < 7) && (0..1000).filter(|_| random.one_in(2)).count().abs_diff(500) < 100);
}
