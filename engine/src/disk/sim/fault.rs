//! What can be made to go wrong, and when.

use std::io;

use rustix::io::Errno;

/// A kind of call to the disk or to one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`Disk::create_directory`](crate::disk::Disk::create_directory)
    CreateDirectory,
    /// [`Disk::list`](crate::disk::Disk::list)
    List,
    /// [`Disk::open`](crate::disk::Disk::open)
    Open,
    /// [`Disk::create`](crate::disk::Disk::create)
    Create,
    /// [`Disk::rename`](crate::disk::Disk::rename)
    Rename,
    /// [`Disk::replace`](crate::disk::Disk::replace)
    Replace,
    /// [`Disk::remove`](crate::disk::Disk::remove)
    Remove,
    /// [`Disk::sync_directory`](crate::disk::Disk::sync_directory)
    SyncDirectory,
    /// [`Disk::lock`](crate::disk::Disk::lock)
    Lock,
    /// [`DiskFile::bytes`](crate::disk::DiskFile::bytes)
    Bytes,
    /// [`DiskFile::read_exact_at`](crate::disk::DiskFile::read_exact_at)
    Read,
    /// [`DiskFile::write_all_at`](crate::disk::DiskFile::write_all_at)
    Write,
    /// [`DiskFile::sync_data`](crate::disk::DiskFile::sync_data) and [`DiskFile::sync_all`](crate::disk::DiskFile::sync_all)
    Sync,
    /// [`DiskFile::reserve`](crate::disk::DiskFile::reserve)
    Reserve,
    /// [`DiskFile::set_bytes`](crate::disk::DiskFile::set_bytes)
    SetBytes,
    /// [`DiskFile::region`](crate::disk::DiskFile::region)
    Region,
    /// [`DiskFile::drop_cache`](crate::disk::DiskFile::drop_cache)
    DropCache,
    /// [`Disk::remembered`](crate::disk::Disk::remembered)
    Remembered,
    /// [`Disk::remember`](crate::disk::Disk::remember)
    Remember,
    /// Reading in place what [`DiskFile::region`](crate::disk::DiskFile::region) gave. It is no call to the disk, so only faults that name it count it.
    Probe,
}

impl Call {
    /// Every kind.
    pub const ALL: [Call; 20] = [
        Call::CreateDirectory,
        Call::List,
        Call::Open,
        Call::Create,
        Call::Rename,
        Call::Replace,
        Call::Remove,
        Call::SyncDirectory,
        Call::Lock,
        Call::Bytes,
        Call::Read,
        Call::Write,
        Call::Sync,
        Call::Reserve,
        Call::SetBytes,
        Call::Region,
        Call::DropCache,
        Call::Remembered,
        Call::Remember,
        Call::Probe,
    ];
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// EIO: the device failed.
    Device,
    /// ENOSPC: the file system is full.
    NoSpace,
    /// EMFILE: the process has too many open files.
    TooManyFiles,
}

impl Failure {
    /// Every kind.
    pub const ALL: [Failure; 3] = [Failure::Device, Failure::NoSpace, Failure::TooManyFiles];

    /// The system's error.
    #[must_use]
    pub fn error(self) -> io::Error {
        let errno = match self {
            Failure::Device => Errno::IO,
            Failure::NoSpace => Errno::NOSPC,
            Failure::TooManyFiles => Errno::MFILE,
        };
        io::Error::from_raw_os_error(errno.raw_os_error())
    }
}

/// Something that goes wrong. Several can be armed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The n-th write from now on (1 is the next) fails with EIO.
    Write(u64),
    /// The n-th sync of a file or of the directory from now on fails with EIO.
    Sync(u64),
    /// Reserving space fails from now on, as on a full disk.
    Full,
    /// The n-th call of a kind fails.
    Nth {
        /// Which kind; `None` counts calls of every kind but [`Call::Probe`].
        call: Option<Call>,
        /// 1 is the next.
        n: u64,
        /// How.
        failure: Failure,
        /// Every later one fails as well.
        lasting: bool,
    },
    /// What the n-th write from now on writes lands at another place, of this file or of another one, as the disk's seed decides. The cache
    /// shows it where it belongs until it is dropped.
    Misdirect(u64),
    /// From now on every sync says that all is well and makes nothing durable.
    Lie,
}

/// Which calls an armed fault counts.
#[derive(Debug, Clone, Copy)]
enum Counts {
    Any,
    Only(Call),
    Syncs,
}

impl Counts {
    fn includes(self, call: Call) -> bool {
        match self {
            Counts::Any => call != Call::Probe,
            Counts::Only(only) => only == call,
            Counts::Syncs => matches!(call, Call::Sync | Call::SyncDirectory),
        }
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Fail(Failure),
    Misdirect,
}

#[derive(Debug, Clone, Copy)]
struct Armed {
    counts: Counts,
    /// Calls until the one that goes wrong, that one included; 0 when it has, and all later ones do as well.
    left: u64,
    effect: Effect,
    lasting: bool,
}

/// The faults that are armed.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    armed: Vec<Armed>,
    pub(super) lies: bool,
}

/// What the plan has in store for one call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fate {
    pub(super) failure: Option<Failure>,
    pub(super) misdirected: bool,
}

impl Plan {
    pub(super) fn arm(&mut self, fault: Fault) {
        let failing = |counts, n: u64, failure, lasting| Armed { counts, left: n.max(1), effect: Effect::Fail(failure), lasting };
        self.armed.push(match fault {
            Fault::Write(n) => failing(Counts::Only(Call::Write), n, Failure::Device, false),
            Fault::Sync(n) => failing(Counts::Syncs, n, Failure::Device, false),
            Fault::Full => failing(Counts::Only(Call::Reserve), 1, Failure::NoSpace, true),
            Fault::Nth { call, n, failure, lasting } => failing(call.map_or(Counts::Any, Counts::Only), n, failure, lasting),
            Fault::Misdirect(n) => Armed { counts: Counts::Only(Call::Write), left: n.max(1), effect: Effect::Misdirect, lasting: false },
            Fault::Lie => {
                self.lies = true;
                return;
            }
        });
    }

    /// Counts a call.
    pub(super) fn meet(&mut self, call: Call) -> Fate {
        let mut fate = Fate::default();
        self.armed.retain_mut(|armed| {
            if !armed.counts.includes(call) {
                return true;
            }
            armed.left = armed.left.saturating_sub(1);
            if armed.left > 0 {
                return true;
            }
            match armed.effect {
                Effect::Fail(failure) => fate.failure = fate.failure.or(Some(failure)),
                Effect::Misdirect => fate.misdirected = true,
            }
            armed.lasting
        });
        fate
    }

    /// Whether something is armed that has not happened yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.armed.iter().any(|armed| armed.left > 0)
    }
}
