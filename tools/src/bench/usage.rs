//! What this process has used up so far: processor time, bytes written, memory.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use super::host::kibibytes;

/// A reading.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Processor time of all threads, user and system, in ns.
    pub(super) cpu_ns: u64,
    /// Bytes that this process caused to be written to storage, pages counted when they become dirty. `None` where the kernel does not count.
    pub(super) written_bytes: Option<u64>,
}

impl Usage {
    pub(super) fn now() -> Usage {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_ns = (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64);
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Usage { cpu_ns, written_bytes: written.and_then(|text| text.trim().parse().ok()) }
    }

    /// What was used since an earlier reading.
    pub(super) fn since(self, earlier: Usage) -> Usage {
        let written_bytes = self.written_bytes.zip(earlier.written_bytes).map(|(now, then)| now.saturating_sub(then));
        Usage { cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns), written_bytes }
    }
}

/// Forgets the largest memory use so far, where the kernel lets us; else the peak is that of the whole process.
pub(super) fn forget_memory_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The largest memory use, in bytes.
pub(super) fn memory_peak_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}
