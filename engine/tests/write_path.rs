//! Two ways to the disk at a time: past the page cache and through it, on a real file system, in blocks smaller than a page.

use std::io;
use std::sync::Arc;
use std::thread;

use chainring::disk::{Access, DirectoryLock, Disk, DiskFile, Environment, LockError, WriteQueue};
use chainring::{Durability, Event, Options, Request, VerifyOptions, verify};

/// The system's disk, which says that its blocks are the smallest there are.
#[derive(Debug)]
struct SmallBlocks(Arc<dyn Disk>);

impl Disk for SmallBlocks {
    fn create_directory(&self) -> io::Result<()> {
        self.0.create_directory()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(name, access)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.0.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.sync_directory()
    }

    fn lock(&self) -> Result<Box<dyn DirectoryLock>, LockError> {
        self.0.lock()
    }

    fn block_bytes(&self) -> u32 {
        512
    }

    fn write_path(&self) -> &'static str {
        self.0.write_path()
    }

    fn queue(&self) -> Option<&dyn WriteQueue> {
        self.0.queue()
    }
}

/// The kernel fails the next sync of a file in which a page was made dirty while a block of it was written past the cache.
#[test]
fn what_goes_through_the_cache_never_meets_what_goes_past_it() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = directory.path().join("store");
    let mut environment = Environment::system(&store);
    environment.disk = Arc::new(SmallBlocks(environment.disk));
    let log = Options::new().segment_bytes(4 << 20).open_in(environment, &store).unwrap();
    thread::scope(|scope| {
        for writer in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..400_u64 {
                    let durability = if (n + writer) % 3 == 0 { Durability::Written } else { Durability::Durable };
                    let event = Event::new(format!("s{writer}"), "E").body(vec![n as u8; (n % 5 * 90) as usize]);
                    log.append(Request::from(event).durability(durability)).unwrap();
                }
            });
        }
    });
    log.close().unwrap();
    let report = verify(&store, &VerifyOptions::default()).unwrap();
    assert!(report.is_ok() && report.events == 1600, "{report:?}");
}
