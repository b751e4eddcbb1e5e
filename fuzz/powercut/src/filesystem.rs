//! The file systems under trial: how each is made, mounted, and what it may expect of a disk.

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::random::Random;

const EXT4_SUPERBLOCK: Range<u64> = 0x400..0x800;
const BTRFS_SUPERBLOCKS: [Range<u64>; 2] = [0x1_0000..0x1_1000, 0x400_0000..0x400_1000];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Journal of metadata, data written before it: the default of ext4.
    Ext4,
    /// The same with blocks of 1 KiB, so that a page of the cache travels in pieces.
    Ext4Small,
    /// No journal; repaired with e2fsck after a cut.
    Ext4Nojournal,
    /// Journal of metadata, data written any time.
    Ext4Writeback,
    /// Data goes through the journal.
    Ext4Datajournal,
    /// Small commits besides the journal's.
    Ext4Fastcommit,
    Xfs,
    Btrfs,
    /// Overwrites data in place, without checksums of its own, as is often advised for databases.
    BtrfsNodatacow,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().expect("none is skipped").get_name().to_owned()
    }

    fn driver(self) -> &'static str {
        match self {
            Kind::Xfs => "xfs",
            Kind::Btrfs | Kind::BtrfsNodatacow => "btrfs",
            _ => "ext4",
        }
    }

    fn options(self) -> &'static str {
        match self {
            // Without a journal the driver does not know the other options.
            Kind::Ext4 | Kind::Ext4Small | Kind::Ext4Fastcommit => "commit=1",
            Kind::Ext4Nojournal => "",
            Kind::Ext4Writeback => "data=writeback,commit=1",
            Kind::Ext4Datajournal => "data=journal,commit=1",
            Kind::Xfs => "",
            Kind::Btrfs => "commit=1",
            Kind::BtrfsNodatacow => "nodatacow,commit=1",
        }
    }

    pub(crate) fn make(self, node: &Path) -> io::Result<()> {
        // Small file systems get small blocks unless told otherwise; large ones, which are the rule, have 4 KiB.
        const EXT4: [&str; 6] = ["-q", "-F", "-E", "lazy_itable_init=0", "-b", "4096"];
        let (program, arguments, more): (&str, &[&str], &[&str]) = match self {
            Kind::Ext4 | Kind::Ext4Writeback | Kind::Ext4Datajournal => ("mkfs.ext4", &EXT4, &[]),
            Kind::Ext4Small => ("mkfs.ext4", &EXT4[..4], &["-b", "1024"]),
            Kind::Ext4Fastcommit => ("mkfs.ext4", &EXT4, &["-O", "fast_commit"]),
            Kind::Ext4Nojournal => ("mkfs.ext4", &EXT4, &["-O", "^has_journal"]),
            Kind::Xfs => ("mkfs.xfs", &["-q", "-f"], &[]),
            Kind::Btrfs | Kind::BtrfsNodatacow => ("mkfs.btrfs", &["-q", "-f"], &[]),
        };
        run(Command::new(program).args(arguments).args(more).arg(node), &[0])
    }

    /// What the file system wants done before it is mounted after a cut.
    pub(crate) fn repair(self, node: &Path) -> io::Result<()> {
        match self {
            // 0 nothing to do, 1 repaired.
            Kind::Ext4Nojournal => run(Command::new("e2fsck").args(["-f", "-y"]).arg(node), &[0, 1]),
            Kind::Btrfs | Kind::BtrfsNodatacow => {
                // The kernel remembers generations of file systems it has seen; after a cut the disk is older.
                run(Command::new("btrfs").args(["device", "scan", "--forget"]).arg(node), &[0, 1])
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn mount(self, node: &Path, point: &Path) -> io::Result<Mounted> {
        std::fs::create_dir_all(point)?;
        let options = std::ffi::CString::new(self.options()).expect("no zero in it");
        mount(node, point, self.driver(), MountFlags::NOATIME, Some(options.as_c_str()))?;
        Ok(Mounted { point: point.to_owned() })
    }

    /// Leaves bytes of a removed file in the free space.
    pub(crate) fn fill_and_remove(self, node: &Path, point: &Path, bytes: u64) -> io::Result<()> {
        let mounted = self.mount(node, point)?;
        let path = mounted.point.join("removed");
        let mut random = Random::new(1);
        let mut file = std::fs::File::create(&path)?;
        for _ in 0..bytes >> 16 {
            file.write_all(&random.fill(1 << 16))?;
        }
        file.sync_all()?;
        drop(file);
        std::fs::remove_file(path)?;
        mounted.unmount()
    }

    /// Places that the file system expects the disk to write whole: a superblock of which there is one that counts.
    pub(crate) fn whole(self) -> &'static [Range<u64>] {
        match self {
            Kind::Btrfs | Kind::BtrfsNodatacow => &BTRFS_SUPERBLOCKS,
            Kind::Xfs => &[],
            _ => std::slice::from_ref(&EXT4_SUPERBLOCK),
        }
    }
}

/// A mounted file system; unmounted when dropped.
pub(crate) struct Mounted {
    pub(crate) point: PathBuf,
}

impl Mounted {
    pub(crate) fn store(&self) -> PathBuf {
        self.point.join("store")
    }

    pub(crate) fn unmount(self) -> io::Result<()> {
        let point = self.point.clone();
        std::mem::forget(self);
        // Somebody may still be on the way out.
        for _ in 0..200 {
            match unmount(&point, UnmountFlags::empty()) {
                Err(rustix::io::Errno::BUSY) => std::thread::sleep(std::time::Duration::from_millis(5)),
                other => return other.map_err(io::Error::from),
            }
        }
        unmount(&point, UnmountFlags::DETACH)?;
        Err(io::Error::other("the file system stays busy"))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}

fn run(command: &mut Command, good: &[i32]) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr))))
}
