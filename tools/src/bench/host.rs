//! Where the numbers were taken: machine, kernel, file system, device. A number without them means nothing.
//!
//! Everything is read from `/proc` and `/sys`; what cannot be found there is left out, never guessed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Facts about the machine and about where a directory lies.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    pub(super) kernel: Option<String>,
    pub(super) cpu: Option<String>,
    pub(super) cores: usize,
    pub(super) memory_bytes: Option<u64>,
    pub(super) file_system: Option<String>,
    /// As mounted; behind a bar what the file system itself says.
    pub(super) mount_options: Option<String>,
    pub(super) device: Option<String>,
    pub(super) logical_block_bytes: Option<u64>,
    pub(super) physical_block_bytes: Option<u64>,
    /// `write back`: the device holds writes in a volatile cache until it is told to flush. `write through`: it says that it does not.
    pub(super) write_cache: Option<String>,
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Major and minor number of the device.
    device: String,
    point: PathBuf,
    options: String,
    file_system: String,
    source: String,
}

impl Host {
    /// Looks around for a directory that exists.
    pub(super) fn of(directory: &Path) -> Host {
        let mut host = Host {
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| member(&text, &["model name", "Model", "CPU part", "uarch"])),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| kibibytes(&text, "MemTotal")),
            ..Host::default()
        };
        let path = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if let Some(mount) = mount_of(&path, &mounts) {
            if let Some(queue) = queue(&mount) {
                let number = |name: &str| line(queue.join(name)).and_then(|text| text.parse().ok());
                host.logical_block_bytes = number("logical_block_size");
                host.physical_block_bytes = number("physical_block_size");
                host.write_cache = line(queue.join("write_cache"));
            }
            host.file_system = Some(mount.file_system);
            host.mount_options = Some(mount.options);
            host.device = Some(mount.source);
        }
        host
    }

    /// Whether the directory lies in memory, where syncing does nothing.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.file_system.as_deref(), Some("tmpfs" | "ramfs"))
    }

    /// What the raw baseline writes as one.
    pub(super) fn block_bytes(&self) -> u64 {
        const DEFAULT: u64 = 4096;
        self.physical_block_bytes.filter(|bytes| bytes.is_power_of_two() && (512..=65536).contains(bytes)).unwrap_or(DEFAULT)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "file_system": self.file_system,
            "mount_options": self.mount_options,
            "device": self.device,
            "logical_block_bytes": self.logical_block_bytes,
            "physical_block_bytes": self.physical_block_bytes,
            "write_cache": self.write_cache,
        })
    }

    /// The machine in a few words.
    pub(super) fn machine(&self) -> String {
        let cpu = self.cpu.as_deref().unwrap_or("unknown processor");
        let memory = self.memory_bytes.map_or_else(String::new, |bytes| format!(", {} memory", crate::output::sized(bytes)));
        let kernel = self.kernel.as_deref().map_or_else(String::new, |kernel| format!(", Linux {kernel}"));
        format!("{cpu}, {}{memory}{kernel}", crate::output::counted(self.cores as u64, "core", "cores"))
    }

    /// The storage in a few words.
    pub(super) fn storage(&self) -> String {
        let known = |text: &Option<String>| text.as_deref().unwrap_or("unknown").to_owned();
        let mut text = format!("{} ({}) on {}", known(&self.file_system), known(&self.mount_options), known(&self.device));
        if let (Some(logical), Some(physical)) = (self.logical_block_bytes, self.physical_block_bytes) {
            text += &format!(", blocks {logical}/{physical} B");
        }
        if let Some(cache) = &self.write_cache {
            text += &format!(", write cache {cache}");
        }
        text
    }
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The first of some members of a text of `name : value` lines.
fn member(text: &str, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(found, _)| found.trim() == *name).map(|(_, value)| value.trim().to_owned())
    })
}

/// A member of `/proc/meminfo` or `/proc/self/status`, in bytes.
pub(super) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = member(text, &[name])?;
    value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The mount a path lies in: the longest mount point above it, and of several at the same point the last.
fn mount_of(path: &Path, mountinfo: &str) -> Option<Mount> {
    let above = mountinfo.lines().filter_map(parse_mount).filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

fn parse_mount(line: &str) -> Option<Mount> {
    // Fields of unknown number stand before the lone hyphen.
    let (before, behind) = line.split_once(" - ")?;
    let before: Vec<&str> = before.split(' ').collect();
    let mut behind = behind.split(' ');
    let (file_system, source, own) = (behind.next()?, behind.next()?, behind.next().unwrap_or_default());
    let point = PathBuf::from(unescaped(before.get(4)?));
    let mounted = *before.get(5)?;
    let options = if own.is_empty() || own == mounted { mounted.to_owned() } else { format!("{mounted} | {own}") };
    Some(Mount {
        device: (*before.get(2)?).to_owned(),
        point,
        options: unescaped(&options),
        file_system: file_system.to_owned(),
        source: unescaped(source),
    })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// The queue directory of the device under a mount; of a partition that of its disk.
fn queue(mount: &Mount) -> Option<PathBuf> {
    let by_number = PathBuf::from(format!("/sys/dev/block/{}", mount.device));
    // A file system over several devices has a number of its own; its source names one of them.
    let by_name = || {
        let device = fs::canonicalize(&mount.source).ok()?;
        Some(Path::new("/sys/class/block").join(device.strip_prefix("/dev").ok()?.file_name()?))
    };
    let device = fs::canonicalize(by_number).ok().or_else(|| fs::canonicalize(by_name()?).ok())?;
    [device.join("queue"), device.parent()?.join("queue")].into_iter().find(|queue| queue.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw,discard
30 22 0:25 / /tmp rw,nosuid shared:5 - tmpfs tmpfs rw,size=1024k
31 22 0:26 /sub /data\\040one rw,noatime shared:6 master:1 - btrfs /dev/nvme0n1p2 rw,space_cache=v2
32 22 8:1 / /tmp rw - xfs /dev/sdb1 rw
";

    #[test]
    fn a_path_lies_in_its_nearest_and_newest_mount() {
        let found = |path: &str| mount_of(Path::new(path), MOUNTINFO).map(|mount| (mount.file_system, mount.options, mount.source));
        let expected = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(found("/home/x"), expected("ext4", "rw,relatime | rw,discard", "/dev/root"));
        assert_eq!(found("/data one/x"), expected("btrfs", "rw,noatime | rw,space_cache=v2", "/dev/nvme0n1p2"));
        assert_eq!(found("/tmp/x"), expected("xfs", "rw", "/dev/sdb1"));
        assert_eq!(found("/tmpx"), expected("ext4", "rw,relatime | rw,discard", "/dev/root"));
        assert_eq!(mount_of(Path::new("/"), "nonsense\n"), None);
    }

    #[test]
    fn members_are_found_by_their_whole_name() {
        assert_eq!(member("a : 1\nmodel name\t: X 7\n", &["model", "model name"]), Some("X 7".into()));
        assert_eq!(kibibytes("VmHWM:\t  12 kB\nVmRSS: 3 kB\n", "VmHWM"), Some(12 << 10));
        assert_eq!(kibibytes("VmHWM: lots\n", "VmHWM"), None);
    }
}
