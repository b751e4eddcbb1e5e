//! Bytes of a file that nobody writes any more, read in place.
//!
//! A mapping turns a bad sector, or a file that somebody cut, into a signal that kills the process. So a range is *probed* before it is handed out:
//! the system is asked to bring its pages in and to say whether it could. Pages that are in stay readable while the system keeps them, so
//! a range that was probed a moment ago is not probed again.
//! What this cannot survive: a page that is thrown out under memory pressure, on a device that has failed, in the moment between probe and use.
//! Absent on purpose: checksums, retries.

use std::fmt::Debug;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, Mmap, MmapMut};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::touch;

/// What is probed at once. One call of the system takes about a microsecond for it, summing it up four.
const PROBE_BYTES: usize = 64 << 10;
/// The smallest page there is; larger ones only make the kernel bring in more.
const PAGE_BYTES: usize = 4096;
/// Pages of a part that are probed apart: beyond, one probe of all of them costs less.
const PAGES_APART_MAX: u32 = 4;
/// Parts that are read ahead for somebody who reads everything.
const PARTS_AHEAD: usize = 32;
/// Places that are brought in together, mostly.
const BROUGHT_IN: usize = 128;
/// What the processor is told of, of what is brought in at one place: it has found the pace of whoever reads on by then.
const ANNOUNCED_BYTES: usize = 512;
/// How long a probe counts.
const PROBE_MS_MAX: u32 = 100;

/// Says whether bytes of a region can be read, as the device would. For simulated disks.
pub trait Probe: Send + Sync + Debug {
    /// Asked before bytes of this range of the file are handed out.
    ///
    /// # Errors
    /// Any error of the device.
    fn probe(&self, range: Range<usize>) -> io::Result<()>;
}

/// Bytes of a file that do not change any more.
#[derive(Debug)]
pub struct Region {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Mapped(Mapped),
    Memory(Vec<u8>),
    /// The first so many bytes.
    Anonymous(MmapMut, usize),
    Probed(Vec<u8>, Arc<dyn Probe>),
}

impl Region {
    /// Bytes held in memory.
    #[must_use]
    pub fn memory(bytes: Vec<u8>) -> Region {
        Region { source: Source::Memory(bytes) }
    }

    /// The first `bytes` of memory that is given over, without copying them.
    pub(crate) fn anonymous(memory: MmapMut, bytes: usize) -> Region {
        assert!(bytes <= memory.len(), "there is no more");
        Region { source: Source::Anonymous(memory, bytes) }
    }

    /// Bytes held in memory whose reading fails when `probe` says so.
    #[must_use]
    pub fn probed(bytes: Vec<u8>, probe: Arc<dyn Probe>) -> Region {
        Region { source: Source::Probed(bytes, probe) }
    }

    /// A mapping of the file at `path`, from its first byte.
    pub(super) fn mapped(map: Mmap, path: PathBuf, file: &Metadata) -> Region {
        // The system would read up to megabytes around each page that is missing; what is worth reading ahead is known better here.
        let _ = map.advise(Advice::Random);
        let probed = (0..map.len().div_ceil(PROBE_BYTES)).map(|_| AtomicU64::new(0)).collect();
        Region { source: Source::Mapped(Mapped { map, path, identity: identity(file), probed }) }
    }

    /// Length in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.all().len()
    }

    fn all(&self) -> &[u8] {
        match &self.source {
            Source::Mapped(mapped) => &mapped.map,
            Source::Memory(bytes) | Source::Probed(bytes, _) => bytes,
            Source::Anonymous(memory, bytes) => &memory[..*bytes],
        }
    }

    /// Brings in so many bytes from an offset of each of these on, side by side: one after the other, each would wait alone. [`Region::read_apart`] finds them
    /// then, and says what is wrong where something is.
    pub(crate) fn bring_in_apart<'r>(places: impl Iterator<Item = (&'r Region, u64, u64)>) {
        let now_ms = now_ms();
        let (mut pages, mut bytes) = (Vec::with_capacity(BROUGHT_IN), Vec::with_capacity(BROUGHT_IN));
        for (region, offset, count) in places {
            let Source::Mapped(mapped) = &region.source else { continue };
            let range = clamped(offset, count, mapped.map.len());
            mapped.will_read(range.clone());
            touch::announce(&mapped.map[range.start..range.end.min(range.start + ANNOUNCED_BYTES)]);
            let mut at = range.start;
            while at < range.end {
                let (part, page) = (at / PROBE_BYTES, 1 << (at % PROBE_BYTES / PAGE_BYTES));
                if mapped.state(part).pages_since(now_ms) & page == 0 {
                    pages.push((mapped, part, page));
                    bytes.push(&mapped.map[at..]);
                }
                at = (at / PAGE_BYTES + 1) * PAGE_BYTES;
            }
        }
        if !bytes.is_empty() && touch::can_be_read(&bytes) {
            pages.into_iter().for_each(|(mapped, part, page)| mapped.note(part, page, now_ms));
        }
    }

    /// As [`Region::read`], of bytes whose neighbours nobody asks for: brings in their pages and no others.
    pub(crate) fn read_apart(&self, offset: u64, count: u64) -> Result<&[u8], (u64, io::Error)> {
        let Source::Mapped(mapped) = &self.source else { return self.read(offset, count) };
        let range = clamped(offset, count, mapped.map.len());
        let readable_end = mapped.probe_apart(range.clone())?;
        Ok(&mapped.map[range.start..readable_end])
    }

    /// As [`Region::read_apart`], of bytes whose neighbours are asked for now and then: the first time, the system begins to read those too.
    pub(crate) fn read_page(&self, offset: u64, count: u64) -> Result<&[u8], (u64, io::Error)> {
        if let Source::Mapped(mapped) = &self.source {
            let range = clamped(offset, count, mapped.map.len());
            if !range.is_empty() {
                mapped.bring_in(range.start / PROBE_BYTES);
            }
        }
        self.read_apart(offset, count)
    }

    /// The bytes from `offset` on: `count` of them, or more if they can be read as well; fewer where the region ends, none behind it.
    ///
    /// # Errors
    /// The offset of the first byte that could not be read, and what the device says.
    pub fn read(&self, offset: u64, count: u64) -> Result<&[u8], (u64, io::Error)> {
        let all = self.all();
        let Range { start, end } = clamped(offset, count, all.len());
        let readable_end = match &self.source {
            Source::Mapped(mapped) => mapped.probe(start..end)?,
            Source::Memory(_) | Source::Anonymous(..) => all.len(),
            Source::Probed(_, probe) => probe.probe(start..end).map(|()| end).map_err(|error| (start as u64, error))?,
        };
        Ok(&all[start..readable_end])
    }
}

/// As much of a range as there is.
fn clamped(offset: u64, count: u64, all: usize) -> Range<usize> {
    let start = usize::try_from(offset).unwrap_or(all).min(all);
    start..start + usize::try_from(count).unwrap_or(all).min(all - start)
}

/// When a part was probed, in milliseconds of a clock that never steps, of which the lower 32 bits are kept; which of its 16 pages were then, and which ever
/// were, a bit for each.
#[derive(Debug, Clone, Copy)]
struct PartState {
    ms: u32,
    ever: u16,
    pages: u16,
}

impl PartState {
    fn of(word: u64) -> PartState {
        PartState { ms: (word >> 32) as u32, ever: (word >> 16) as u16, pages: word as u16 }
    }

    fn word(self) -> u64 {
        u64::from(self.ms) << 32 | u64::from(self.ever) << 16 | u64::from(self.pages)
    }

    /// All of it was probed now.
    fn all(now_ms: u32) -> PartState {
        PartState { ms: now_ms, ever: u16::MAX, pages: u16::MAX }
    }

    /// These pages were probed now, too. The part is as old as its oldest probe.
    fn and(self, pages: u16, now_ms: u32) -> PartState {
        let known = self.pages_since(now_ms);
        let ms = if known == 0 { now_ms } else { self.ms };
        PartState { ms, ever: self.ever | pages, pages: known | pages }
    }

    fn is_untouched(self) -> bool {
        self.ever == 0
    }

    /// Something of it was probed a moment ago.
    fn is_recent(self, now_ms: u32) -> bool {
        // Of what was probed a multiple of 50 days ago it says so, too.
        self.pages != 0 && now_ms.wrapping_sub(self.ms) <= PROBE_MS_MAX
    }

    /// Pages that were probed a moment ago.
    fn pages_since(self, now_ms: u32) -> u16 {
        if self.is_recent(now_ms) { self.pages } else { 0 }
    }

    /// All of it was.
    fn is_fresh(self, now_ms: u32) -> bool {
        self.pages_since(now_ms) == u16::MAX
    }
}

/// The pages that a range touches, if it is not empty and lies in one part.
fn pages_of(range: &Range<usize>) -> Option<u16> {
    let last = range.end.checked_sub(1).filter(|last| *last >= range.start && last / PROBE_BYTES == range.start / PROBE_BYTES)?;
    let (first, last) = (range.start % PROBE_BYTES / PAGE_BYTES, last % PROBE_BYTES / PAGE_BYTES);
    Some((u16::MAX << first) & (u16::MAX >> (15 - last)))
}

#[derive(Debug)]
struct Mapped {
    map: Mmap,
    /// Not the file itself: a store can have more segments than a process may have files open.
    path: PathBuf,
    /// The name may lead to another file later: packing renames over it. This one exists as long as it is mapped.
    identity: (u64, u64),
    /// A [`PartState`] for each part. Relaxed: it only saves calls.
    probed: Box<[AtomicU64]>,
}

impl Mapped {
    /// Probes every part that the range touches; the end of what can be read then.
    fn probe(&self, range: Range<usize>) -> Result<usize, (u64, io::Error)> {
        let now_ms = now_ms();
        let mut end = range.start;
        while end < range.end {
            let part = end / PROBE_BYTES;
            let part_end = self.map.len().min((part + 1) * PROBE_BYTES);
            if self.state(part).is_fresh(now_ms) {
                end = part_end;
                continue;
            }
            self.bring_in(part);
            if self.probe_range(part * PROBE_BYTES..part_end).is_ok() {
                self.probed[part].store(PartState::all(now_ms).word(), Ordering::Relaxed);
                end = part_end;
            } else {
                // A bad sector takes only its own page with it: what was asked for may lie beside it. Not remembered, and no neighbours.
                let asked_end = range.end.min(part_end);
                self.probe_range(end / PAGE_BYTES * PAGE_BYTES..asked_end)?;
                end = asked_end;
            }
        }
        Ok(end)
    }

    /// Lets the system begin to read a part that nobody has asked for, and more behind it if the one before was asked for a moment ago: then somebody reads
    /// everything.
    fn bring_in(&self, part: usize) {
        if self.state(part).is_untouched() {
            let now_ms = now_ms();
            let is_on_the_way = part.checked_sub(1).is_some_and(|before| self.state(before).is_recent(now_ms));
            let parts = if is_on_the_way && part.is_multiple_of(PARTS_AHEAD / 2) { PARTS_AHEAD } else { 1 };
            let (start, end) = (part * PROBE_BYTES, self.map.len().min((part + parts) * PROBE_BYTES));
            // A hint: what cannot be brought in is met by whoever reads it.
            let _ = self.map.advise_range(Advice::WillNeed, start, end - start);
        }
    }

    fn state(&self, part: usize) -> PartState {
        PartState::of(self.probed[part].load(Ordering::Relaxed))
    }

    /// Probes only the pages of a range, until so many of its part were asked for that it pays to probe the whole. The end of what can be read.
    fn probe_apart(&self, range: Range<usize>) -> Result<usize, (u64, io::Error)> {
        let (part, now_ms) = (range.start / PROBE_BYTES, now_ms());
        let Some(pages) = pages_of(&range) else { return self.probe(range) };
        let end = self.map.len().min(range.end.div_ceil(PAGE_BYTES) * PAGE_BYTES);
        let known = self.state(part).pages_since(now_ms);
        if known & pages == pages {
            return Ok(end);
        }
        if (known | pages).count_ones() > PAGES_APART_MAX {
            return self.probe(range);
        }
        self.probe_range(range.start / PAGE_BYTES * PAGE_BYTES..end)?;
        self.note(part, pages, now_ms);
        Ok(end)
    }

    /// Pages of a part were probed.
    fn note(&self, part: usize, pages: u16, now_ms: u32) {
        self.probed[part].store(self.state(part).and(pages, now_ms).word(), Ordering::Relaxed);
    }

    /// madvise(pages, MADV_WILLNEED), where nobody has asked for one of them yet.
    fn will_read(&self, range: Range<usize>) {
        let is_known = pages_of(&range).is_some_and(|pages| self.state(range.start / PROBE_BYTES).ever & pages == pages);
        if !range.is_empty() && !is_known {
            let start = range.start / PAGE_BYTES * PAGE_BYTES;
            // A hint: what cannot be brought in is met by whoever reads it.
            let _ = self.map.advise_range(Advice::WillNeed, start, range.end - start);
        }
    }

    /// madvise(range, MADV_POPULATE_READ); where that is refused, pread(range) says why. Starts at a page.
    fn probe_range(&self, range: Range<usize>) -> Result<(), (u64, io::Error)> {
        let (start, count) = (range.start, range.len());
        let populate = || self.map.advise_range(Advice::PopulateRead, start, count);
        let Err(refused) = populate() else { return Ok(()) };
        let is_old_kernel = refused.raw_os_error() == Some(Errno::INVAL.raw_os_error());
        let is_read = read_through(&self.path, self.identity, start as u64, count)?;
        // The kernel is older than this advice (5.14): reading has brought the pages in. Of a file without a name nobody can tell.
        if is_old_kernel {
            return Ok(());
        }
        if is_read { populate().map_err(|error| (start as u64, error)) } else { Err((start as u64, refused)) }
    }
}

/// What tells a file from every other one that exists.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Reads bytes only to see whether that can be done; where not, says at which byte and why. `false`: the path leads to another file by now.
fn read_through(path: &Path, file_identity: (u64, u64), start: u64, count: usize) -> Result<bool, (u64, io::Error)> {
    let file = File::open(path).map_err(|error| (start, error))?;
    if identity(&file.metadata().map_err(|error| (start, error))?) != file_identity {
        return Ok(false);
    }
    let mut bytes = vec![0; count];
    let mut done = 0;
    while done < count {
        let at = start + done as u64;
        match file.read_at(&mut bytes[done..], at) {
            Ok(0) => return Err((at, io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((at, error)),
        }
    }
    Ok(true)
}

/// Milliseconds since some start, modulo 2^32; as coarse as the system's timer, and as cheap as a load.
fn now_ms() -> u32 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    (time.tv_sec as u32).wrapping_mul(1000).wrapping_add((time.tv_nsec / 1_000_000) as u32)
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Disk, PortableDisk};
    use super::*;

    fn region(bytes: usize) -> (tempfile::TempDir, Region, File) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("f"), (0..bytes).map(|at| at as u8).collect::<Vec<_>>()).unwrap();
        let region = PortableDisk::new(directory.path()).open("f", Access::Read).unwrap().region(bytes).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(directory.path().join("f")).unwrap();
        (directory, region, file)
    }

    #[test]
    fn what_is_there_is_read_and_no_more() {
        let (_directory, region, _) = region(200_000);
        assert_eq!(region.bytes(), 200_000);
        assert_eq!(region.read(70_000, 3).unwrap()[..3], [70_000_usize as u8, 70_001_usize as u8, 70_002_usize as u8]);
        for (offset, count) in [(0, 1), (0, 65_536), (65_535, 2), (131_072, 1), (10, 199_990)] {
            let bytes = region.read(offset, count).unwrap();
            assert!(bytes.len() as u64 >= count, "{offset}, {count}");
            assert!((offset..).zip(bytes).all(|(at, byte)| *byte == at as u8), "{offset}, {count}");
        }
        assert_eq!(region.read(0, u64::MAX).unwrap().len(), 200_000);
        assert_eq!(region.read(199_999, 10).unwrap(), [199_999_usize as u8]);
        assert!(region.read(200_000, 1).unwrap().is_empty() && region.read(u64::MAX, 1).unwrap().is_empty());
    }

    #[test]
    fn what_is_read_apart_is_what_is_there() {
        let (directory, region, file) = region(200_000);
        for round in 0..3 {
            for (offset, count) in
                [(0, 4), (70_000, 600), (65_500, 100), (4095, 2), (131_072, 4096), (199_999, 1), (40_000, 0), (90_000, 30_000)]
            {
                let bytes = region.read_apart(offset, count).unwrap();
                assert!(bytes.len() as u64 >= count, "{round}: {offset}, {count}");
                assert!((offset..).zip(bytes).all(|(at, byte)| *byte == at as u8), "{round}: {offset}, {count}");
            }
        }
        assert_eq!(pages_of(&(0..1)), Some(1));
        assert_eq!(pages_of(&(4095..4097)), Some(3));
        assert_eq!(pages_of(&(65_536 - 4096..65_536)), Some(1 << 15));
        assert_eq!(pages_of(&(0..65_536)), Some(u16::MAX));
        assert_eq!((pages_of(&(65_535..65_537)), pages_of(&(5..5))), (None, None));
        file.set_len(70_000).unwrap();
        let other = PortableDisk::new(directory.path()).open("f", Access::Read).unwrap();
        assert_eq!(other.bytes().unwrap(), 70_000);
        let (offset, error) = region.read_apart(180_000, 100).unwrap_err();
        assert_eq!((offset / PAGE_BYTES as u64, error.kind()), (180_000 / PAGE_BYTES as u64, io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn what_is_brought_in_side_by_side_is_what_can_be_read() {
        let (_one, first, _) = region(200_000);
        let (_other, second, cut) = region(200_000);
        let memory = Region::memory(vec![7; 10]);
        let known = |region: &Region, part: usize| match &region.source {
            Source::Mapped(mapped) => mapped.state(part).pages,
            _ => 0,
        };
        // Also across pages and parts, behind the end, and of what is no mapping.
        let places =
            [(&first, 0), (&second, 4000), (&memory, 3), (&first, 65_500), (&first, 199_999), (&second, 300_000), (&first, u64::MAX)];
        Region::bring_in_apart(places.into_iter().map(|(region, offset)| (region, offset, 512)));
        assert_eq!((known(&first, 0), known(&first, 1), known(&second, 0)), (1 | 1 << 15, 1, 0b11));
        assert_eq!(known(&first, 199_999 / PROBE_BYTES), 1 << (199_999 % PROBE_BYTES / PAGE_BYTES));
        // More than the system takes at once.
        Region::bring_in_apart((0..3000).map(|place| (&first, place * 66, 8)));
        assert_eq!((known(&first, 0), known(&first, 2)), (u16::MAX, u16::MAX));
        // Where one cannot be read nothing is said of any, and each says of itself what is wrong.
        cut.set_len(70_000).unwrap();
        Region::bring_in_apart([(&second, 66_000, 100), (&second, 150_000, 100)].into_iter());
        assert_eq!((known(&second, 1), known(&second, 2)), (0, 0));
        assert_eq!(second.read_apart(66_000, 100).unwrap()[0], 66_000_usize as u8);
        let (offset, error) = second.read_apart(150_000, 100).unwrap_err();
        assert_eq!((offset / PAGE_BYTES as u64, error.kind()), (150_000 / PAGE_BYTES as u64, io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn a_file_renamed_over_goes_on_being_read_and_is_not_taken_for_the_other_one() {
        let (directory, region, file) = region(200_000);
        let path = directory.path().join("f");
        let old = identity(&file.metadata().unwrap());
        assert!(read_through(&path, old, 100_000, 1000).unwrap());
        std::fs::write(directory.path().join("g"), [1; 1000]).unwrap();
        std::fs::rename(directory.path().join("g"), &path).unwrap();
        let bytes = region.read(100_000, 1000).unwrap();
        assert!((100_000_usize..).zip(bytes).all(|(at, byte)| *byte == at as u8));
        // Asked of the name, the other file would only say that it is shorter.
        assert!(!read_through(&path, old, 100_000, 1000).unwrap());
    }

    #[test]
    fn a_file_cut_under_a_reader_is_an_error_with_its_place_and_not_a_signal() {
        let (_directory, region, file) = region(200_000);
        file.set_len(70_000).unwrap();
        assert!(region.read(0, 1000).unwrap().len() >= 1000);
        let (offset, error) = region.read(131_072, 100).unwrap_err();
        assert_eq!((offset, error.kind()), (131_072, io::ErrorKind::UnexpectedEof));
        assert_eq!(region.read(66_000, 1000).unwrap().len(), 1000, "what is there is read, and no more of that part");
        let (offset, error) = region.read(66_000, 20_000).unwrap_err();
        assert_eq!((offset, error.kind()), (70_000, io::ErrorKind::UnexpectedEof));
    }
}
