//! The bytes of a disk, in memory: only pages that are not zero exist, and a copy shares them.
//!
//! Invariant: a page that is `None` reads as zeros; offsets beyond the end are a bug of the caller.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// What the disk loses and tears in: the smallest unit any drive writes at once.
pub(crate) const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;
type Page = [u8; PAGE_BYTES];

#[derive(Clone)]
pub(crate) struct Image {
    pages: Vec<Option<Arc<Page>>>,
}

impl Image {
    pub(crate) fn new(bytes: u64) -> Image {
        Image { pages: vec![None; (bytes as usize).div_ceil(PAGE_BYTES)] }
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) {
        each_page(offset, buffer.len(), |page, within, range| match &self.pages[page] {
            Some(content) => buffer[range.clone()].copy_from_slice(&content[within..within + range.len()]),
            None => buffer[range].fill(0),
        });
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        each_page(offset, bytes.len(), |page, within, range| {
            let content = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(content)[within..within + range.len()].copy_from_slice(&bytes[range]);
        });
    }

    pub(crate) fn zero(&mut self, offset: u64, length: u64) {
        each_page(offset, length as usize, |page, within, range| {
            if range.len() == PAGE_BYTES {
                self.pages[page] = None;
            } else if let Some(content) = &mut self.pages[page] {
                Arc::make_mut(content)[within..within + range.len()].fill(0);
            }
        });
    }

    /// Offsets of all places where these bytes stand, at sector boundaries. This is how a piece of a file is found on a disk without asking the file system,
    /// which may answer in addresses of its own.
    pub(crate) fn find_sectors(&self, sector: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        for (index, page) in self.pages.iter().enumerate() {
            let Some(page) = page else { continue };
            for (within, bytes) in page.chunks(SECTOR_BYTES).enumerate() {
                if bytes == sector {
                    found.push((index * PAGE_BYTES + within * SECTOR_BYTES) as u64);
                }
            }
        }
        found
    }

    /// Writes the image to a sparse file.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.bytes())?;
        for (index, page) in self.pages.iter().enumerate() {
            if let Some(page) = page {
                file.write_all_at(&page[..], (index * PAGE_BYTES) as u64)?;
            }
        }
        Ok(())
    }
}

/// Cuts a range of the disk at page boundaries: page, offset within it, range within the caller's buffer.
fn each_page(offset: u64, length: usize, mut each: impl FnMut(usize, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < length {
        let at = offset as usize + done;
        let within = at % PAGE_BYTES;
        let count = (PAGE_BYTES - within).min(length - done);
        each(at / PAGE_BYTES, within, done..done + count);
        done += count;
    }
}
