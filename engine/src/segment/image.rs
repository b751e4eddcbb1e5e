//! The memory image of the live segment: what one writer has placed, and any number of readers read in place, also in other processes.
//!
//! Invariants: bytes below `placed` never change again; bytes at or above it are touched by the writer alone; `placed` only grows.
//! So a shared slice below `placed` and the writer's exclusive slice above it never overlap. What readers may *see* (the watermark) is
//! decided above this room, by position.
//!
//! While somebody in another process follows, the image is in memory that is *shown*: files in memory, which others can map. Who follows has an image over the
//! same memory, with a `placed` of its own, which never gets ahead of what the writer says is durable; a lock keeps the memory from being used again for as
//! long. A device reads and writes such memory page by page, where other memory comes in pieces of two megabytes; it costs the writer a twentieth, and is
//! not used while nobody follows.

#![allow(unsafe_code)] // five blocks, each resting on the invariants above

use std::io;

use crate::disk::{MemoryAddress, SharedBytes, SharedMemory};
use crate::sync::{Arc, AtomicUsize, Ordering};

use memmap2::{Advice, Mmap, MmapMut, MmapOptions};

/// Memory that is taken at once: a huge page.
const POPULATED_BYTES: usize = 2 << 20;

/// Memory as long as a segment, at the segment's own offsets. Pages are taken when they are first written.
#[derive(Debug)]
pub(crate) struct Image {
    /// Owns the memory behind `start`.
    memory: Memory,
    start: *mut u8,
    bytes: usize,
    /// Release in [`ImageWriter::place`] and [`ImageFollower::place`] pairs with Acquire in [`Image::placed`].
    placed: AtomicUsize,
}

#[derive(Debug)]
enum Memory {
    /// Of this process alone.
    Own(MmapMut),
    /// Of this process, and others may look at it.
    Shown(MmapMut, SharedMemory),
    /// Of another process; held, so that it is not used for anything else.
    Followed { _map: Mmap, _memory: SharedMemory },
}

// SAFETY: `start` points into `memory`, which lives as long as the image and is plain memory. Sharing is governed by the invariants in the
// module documentation: readers below `placed`, the one writer (`ImageWriter` is not `Clone`) at or above it.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// The image of an empty segment of `bytes`, and its one writer; in memory that others may look at, if some is given.
    pub(crate) fn create(bytes: usize, shown: Option<SharedMemory>) -> io::Result<ImageWriter> {
        let (mut map, shown) = match shown {
            // SAFETY: the memory was made by this process for this image and keeps its length; who else maps it does so for reading, see below.
            Some(memory) => (unsafe { MmapOptions::new().len(bytes).map_mut(memory.file())? }, Some(memory)),
            None => (MmapOptions::new().len(bytes).map_anon()?, None),
        };
        // Fewer faults while frames are placed. Where it is not to be had, nothing changes.
        let _ = map.advise(Advice::HugePage);
        let start = map.as_mut_ptr();
        let memory = match shown {
            Some(memory) => {
                memory.allow_reading_only();
                Memory::Shown(map, memory)
            }
            None => Memory::Own(map),
        };
        let image = Arc::new(Image { memory, start, bytes, placed: AtomicUsize::new(0) });
        Ok(ImageWriter { image, end: 0 })
    }

    /// Takes the memory now, so that whoever places frames does not have to wait for it.
    pub(crate) fn populate(&self) {
        let (Memory::Own(map) | Memory::Shown(map, _)) = &self.memory else { return };
        // In pieces: while the system takes memory, nothing else of this process gets any.
        for start in (0..self.bytes).step_by(POPULATED_BYTES) {
            // Where the system does not know this, memory is taken when it is first written.
            let _ = map.advise_range(Advice::PopulateWrite, start, POPULATED_BYTES.min(self.bytes - start));
        }
    }

    /// Whether nobody reads it. If it is so, nobody in another process begins to before [`ImageWriter::show`].
    fn is_idle(self: &Arc<Image>) -> bool {
        Arc::strong_count(self) == 1
            && match &self.memory {
                Memory::Own(_) => true,
                Memory::Shown(_, memory) => memory.take_alone(),
                Memory::Followed { .. } => false,
            }
    }

    /// Length of the segment that it is for.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes
    }

    /// Whether other processes may look at it.
    pub(crate) fn is_shown(&self) -> bool {
        matches!(self.memory, Memory::Shown(..))
    }

    /// Where other processes find its memory.
    pub(crate) fn shown_at(&self) -> Option<MemoryAddress> {
        let Memory::Shown(_, memory) = &self.memory else { return None };
        Some(memory.address())
    }

    /// Bytes that were placed.
    pub(crate) fn placed(&self) -> &[u8] {
        let placed = self.placed.load(Ordering::Acquire);
        // SAFETY: `placed <= bytes` (asserted where it is stored), so the range lies in the mapping; bytes below `placed` were written before the
        // Release store that this Acquire load has read, and are never written again.
        unsafe { std::slice::from_raw_parts(self.start, placed) }
    }
}

impl SharedBytes for Image {
    fn bytes(&self) -> &[u8] {
        self.placed()
    }
}

/// The one who writes an image.
#[derive(Debug)]
pub(crate) struct ImageWriter {
    image: Arc<Image>,
    /// Where the next bytes go; `placed` follows it.
    end: usize,
}

impl ImageWriter {
    pub(crate) fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Offset of the next byte.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Lets other processes look at it: what says which segment it is was placed.
    pub(crate) fn show(&self) {
        if let Memory::Shown(_, memory) = &self.image.memory {
            memory.show();
        }
    }

    /// Lets `write` fill the next `count` bytes, then places them.
    ///
    /// # Panics
    /// If the image has no such room; whoever places has counted before.
    pub(crate) fn place(&mut self, count: usize, write: impl FnOnce(&mut [u8])) {
        write(self.room(count));
        self.end += count;
        self.image.placed.store(self.end, Ordering::Release);
    }

    /// The next `count` bytes, to be filled and placed later, or something else in their stead.
    ///
    /// # Panics
    /// If the image has no such room; whoever places has counted before.
    pub(crate) fn room(&mut self, count: usize) -> &mut [u8] {
        assert!(count <= self.image.bytes - self.end, "the caller counted the room in the image");
        // SAFETY: the next `count` bytes behind `self.end` lie in the mapping (checked above) and at or above `placed`, where only this writer touches it;
        // there is one writer, and it is borrowed exclusively for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.image.start.add(self.end), count) }
    }
}

/// Who reads along what a writer in another process places.
#[derive(Debug)]
pub(crate) struct ImageFollower {
    image: Arc<Image>,
    /// As far as it was read; `placed` follows it.
    end: usize,
}

impl ImageFollower {
    /// `memory` as the image of a segment of `segment_bytes` that begins with `existing`, its header at least: that has a salt which no other segment has.
    /// `None` if it is not.
    pub(crate) fn open(memory: SharedMemory, segment_bytes: u64, existing: &[u8]) -> Option<ImageFollower> {
        let bytes = usize::try_from(segment_bytes).ok().filter(|_| memory.bytes().is_ok_and(|bytes| bytes == segment_bytes))?;
        // SAFETY: the memory keeps its length (it was sealed before it was shown), and its owner does not change what is read of it (see the module).
        let map = unsafe { MmapOptions::new().len(bytes).map(memory.file()).ok()? };
        if !map.starts_with(existing) {
            return None;
        }
        // Nobody writes through it: there is no `ImageWriter` of this image.
        let start = map.as_ptr().cast_mut();
        let placed = AtomicUsize::new(existing.len());
        let image = Arc::new(Image { memory: Memory::Followed { _map: map, _memory: memory }, start, bytes, placed });
        Some(ImageFollower { image, end: existing.len() })
    }

    pub(crate) fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// The next `count` bytes, of which their writer says that they are durable.
    ///
    /// # Panics
    /// If the image has no such bytes.
    pub(crate) fn ahead(&self, count: usize) -> &[u8] {
        assert!(count <= self.image.bytes - self.end, "the caller asks for no more than the segment has");
        // SAFETY: the range lies in the mapping (checked above); its writer has placed it and does not change it any more.
        unsafe { std::slice::from_raw_parts(self.image.start.add(self.end), count) }
    }

    /// Lets readers in this process see the next `count` bytes.
    pub(crate) fn place(&mut self, count: usize) {
        assert!(count <= self.image.bytes - self.end, "they were read");
        self.end += count;
        self.image.placed.store(self.end, Ordering::Release);
    }
}

/// Images of segments that have ended.
#[derive(Debug, Default)]
pub(crate) struct RetiredImages(Vec<Arc<Image>>);

impl RetiredImages {
    /// One may still be brought into the index, or shown, when the next segment is made ready.
    const COUNT_MAX: usize = 2;

    pub(crate) fn push(&mut self, image: Arc<Image>) {
        self.0.push(image);
        if self.0.len() > Self::COUNT_MAX {
            self.0.remove(0);
        }
    }

    /// The image of an empty segment of this size, in the memory of one that nobody reads any more, in this process or another: memory that is there costs a
    /// fraction of memory that the system has to find. What lies in it stays until it is written over, and nobody sees it. `is_shown` says whether it must be
    /// memory that others may look at, or must not; `None` takes either.
    pub(crate) fn again(&mut self, segment_bytes: u64, is_shown: Option<bool>) -> Option<ImageWriter> {
        let serves =
            |image: &Arc<Image>| image.bytes as u64 == segment_bytes && is_shown.is_none_or(|is_shown| image.is_shown() == is_shown);
        let place = self.0.iter().position(|image| serves(image) && image.is_idle())?;
        let mut image = self.0.remove(place);
        *Arc::get_mut(&mut image).expect("it is idle").placed.get_mut() = 0;
        Some(ImageWriter { image, end: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, PortableDisk};

    #[test]
    fn readers_see_what_was_placed_while_the_writer_goes_on() {
        let mut writer = Image::create(1 << 20, None).unwrap();
        let image = Arc::clone(writer.image());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..(1 << 20) / 64 {
                    writer.place(64, |room| room.fill(n as u8));
                }
            });
            loop {
                let placed = image.placed();
                assert!(placed.chunks(64).enumerate().all(|(n, chunk)| chunk.len() == 64 && chunk.iter().all(|&b| b == n as u8)));
                if placed.len() == 1 << 20 {
                    break;
                }
            }
        });
    }

    #[test]
    fn memory_is_used_again_when_nobody_reads_it() {
        let mut writer = Image::create(1 << 16, None).unwrap();
        writer.place(5000, |room| room.fill(7));
        let mut retired = RetiredImages::default();
        retired.push(Arc::clone(writer.image()));
        let reader = Arc::clone(writer.image());
        drop(writer);
        assert!(retired.again(1 << 16, None).is_none(), "somebody reads it");
        drop(reader);
        assert!(retired.again(1 << 17, None).is_none(), "it is of another size");
        assert!(retired.again(1 << 16, Some(true)).is_none(), "nobody else may look at it");
        let mut writer = retired.again(1 << 16, Some(false)).unwrap();
        assert!(writer.image().placed().is_empty() && writer.end() == 0);
        writer.place(1 << 16, |room| room.fill(8));
        assert!(writer.image().placed().iter().all(|&byte| byte == 8));
        assert!(retired.again(1 << 16, None).is_none(), "it is in use");
    }

    #[test]
    fn who_follows_reads_along_and_keeps_the_memory_from_being_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let disk = PortableDisk::new(directory.path());
        let Some(memory) = disk.create_memory(1 << 16) else { return eprintln!("SKIPPED: the system has no files in memory") };
        let mut writer = Image::create(1 << 16, Some(memory)).unwrap();
        writer.place(100, |room| room.fill(1));
        let address = writer.image().shown_at().unwrap();
        let path = format!("/proc/{}/fd/{}", address.process, address.number);
        if let Ok(file) = std::fs::OpenOptions::new().write(true).open(path) {
            assert!(std::os::unix::fs::FileExt::write_at(&file, &[9], 0).is_err(), "others only read");
        }
        let open = |segment_bytes, existing: &[u8]| {
            disk.open_memory(address).and_then(|memory| ImageFollower::open(memory, segment_bytes, existing))
        };
        assert!(open(1 << 16, &[2; 100]).is_none(), "another segment");
        assert!(open(1 << 17, &[1; 100]).is_none(), "a segment of another size");
        let mut follower = open(1 << 16, &[1; 100]).unwrap();
        writer.place(200, |room| room.fill(3));
        assert_eq!(follower.image().placed(), [1; 100]);
        assert_eq!(follower.ahead(200), [3; 200]);
        follower.place(200);
        assert_eq!(follower.image().placed(), writer.image().placed());

        let mut retired = RetiredImages::default();
        retired.push(Arc::clone(writer.image()));
        drop(writer);
        assert!(retired.again(1 << 16, None).is_none(), "somebody reads along");
        let view = Arc::clone(follower.image());
        drop(follower);
        assert!(retired.again(1 << 16, None).is_none(), "somebody still reads what was there");
        drop(view);
        let mut writer = retired.again(1 << 16, Some(true)).unwrap();
        assert!(open(1 << 16, &[1; 100]).is_none(), "it does not say yet what it is");
        writer.place(100, |room| room.fill(4));
        writer.show();
        assert!(open(1 << 16, &[1; 100]).is_none(), "it was used again");
        assert!(open(1 << 16, &[4; 100]).is_some());
    }

    #[test]
    #[should_panic(expected = "counted the room")]
    fn overrunning_the_image_is_a_broken_promise() {
        Image::create(4096, None).unwrap().place(4097, |_| {});
    }
}
