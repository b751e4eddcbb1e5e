//! The memory image of the live segment: what one writer has placed, and any number of readers read in place.
//!
//! Invariants: bytes below `placed` never change again; bytes at or above it are touched by the writer alone; `placed` only grows.
//! So a shared slice below `placed` and the writer's exclusive slice above it never overlap. What readers may *see* (the watermark) is
//! decided above this room, by position.

#![allow(unsafe_code)] // three blocks, each resting on the invariants above

use std::io;

use crate::disk::SharedBytes;
use crate::sync::{Arc, AtomicUsize, Ordering};

use memmap2::{Advice, MmapMut, MmapOptions};

/// Memory that is taken at once: a huge page.
const POPULATED_BYTES: usize = 2 << 20;

/// Memory as long as a segment, at the segment's own offsets. Pages are taken when they are first written.
#[derive(Debug)]
pub(crate) struct Image {
    /// Owns the memory behind `start`.
    map: MmapMut,
    start: *mut u8,
    bytes: usize,
    /// Release in [`ImageWriter::place`] pairs with Acquire in [`Image::read`].
    placed: AtomicUsize,
}

// SAFETY: `start` points into `map`, which lives as long as the image and is plain memory. Sharing is governed by the invariants in the
// module documentation: readers below `placed`, the one writer (`ImageWriter` is not `Clone`) at or above it.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// The image of an empty segment of `bytes`, and its one writer.
    pub(crate) fn create(bytes: usize) -> io::Result<ImageWriter> {
        let mut map = MmapOptions::new().len(bytes).map_anon()?;
        // Fewer faults while frames are placed. Where it is not to be had, nothing changes.
        let _ = map.advise(Advice::HugePage);
        let start = map.as_mut_ptr();
        let image = Arc::new(Image { map, start, bytes, placed: AtomicUsize::new(0) });
        Ok(ImageWriter { image, end: 0 })
    }

    /// Takes the memory now, so that whoever places frames does not have to wait for it.
    pub(crate) fn populate(&self) {
        // In pieces: while the system takes memory, nothing else of this process gets any.
        for start in (0..self.bytes).step_by(POPULATED_BYTES) {
            // Where the system does not know this, memory is taken when it is first written.
            let _ = self.map.advise_range(Advice::PopulateWrite, start, POPULATED_BYTES.min(self.bytes - start));
        }
    }

    /// The image of another empty segment of the same size, in the memory of one that nobody reads any more: memory that is there costs a fraction of
    /// memory that the system has to find. What lies in it stays until it is written over, and nobody sees it. `None` if somebody still reads it.
    pub(crate) fn again(mut image: Arc<Image>) -> Option<ImageWriter> {
        *Arc::get_mut(&mut image)?.placed.get_mut() = 0;
        Some(ImageWriter { image, end: 0 })
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
        // SAFETY: the next `count` bytes behind `self.end` lie in the mapping (checked above) and at or above `placed`, where only this writer touches it; there is
        // one writer, and it is borrowed exclusively for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.image.start.add(self.end), count) }
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

    /// One for a segment of this size that nobody reads any more.
    pub(crate) fn take_idle(&mut self, segment_bytes: u64) -> Option<Arc<Image>> {
        let is_idle = |image: &Arc<Image>| Arc::strong_count(image) == 1 && image.bytes as u64 == segment_bytes;
        self.0.iter().position(is_idle).map(|place| self.0.remove(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_what_was_placed_while_the_writer_goes_on() {
        let mut writer = Image::create(1 << 20).unwrap();
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
        let mut writer = Image::create(1 << 16).unwrap();
        writer.place(5000, |room| room.fill(7));
        let reader = Arc::clone(writer.image());
        let image = Arc::clone(writer.image());
        drop(writer);
        assert!(Image::again(image).is_none(), "somebody reads it");
        let mut writer = Image::again(reader).unwrap();
        assert!(writer.image().placed().is_empty() && writer.end() == 0);
        writer.place(1 << 16, |room| room.fill(8));
        assert!(writer.image().placed().iter().all(|&byte| byte == 8));
    }

    #[test]
    #[should_panic(expected = "counted the room")]
    fn overrunning_the_image_is_a_broken_promise() {
        Image::create(4096).unwrap().place(4097, |_| {});
    }
}
