//! Reading a file that does not want to be read: in pieces, and what the device refuses is halved until only the bad sectors are left out.
//!
//! An error of the device is never an end and never zeros: every range that could not be read is named.

use std::io::{self, ErrorKind};

use chainring_format::limits::SECTOR_BYTES;

use crate::disk::{Access, Disk, DiskFile};

/// How much is asked for at once.
const PIECE_BYTES: usize = 1 << 20;

/// The bytes of a file, as far as they could be read.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Zeros where nothing could be read.
    pub bytes: Vec<u8>,
    /// Ranges of offsets that could not be read, ascending.
    pub unreadable: Vec<(u64, u64)>,
}

impl Content {
    /// Reads the first `limit` bytes of a file, or all that there are, in the place of what was held before. Gives the file's length.
    ///
    /// Fails only where the file cannot be opened, does not even tell its length, or has more bytes than there is memory for.
    pub(super) fn open(&mut self, disk: &dyn Disk, name: &str, limit: u64) -> io::Result<u64> {
        let file = disk.open(name, Access::Read)?;
        self.read(&*file, limit)?;
        file.bytes()
    }

    fn read(&mut self, file: &dyn DiskFile, limit: u64) -> io::Result<()> {
        let bytes = file.bytes()?.min(limit);
        let bytes = usize::try_from(bytes).map_err(|_| ErrorKind::OutOfMemory)?;
        self.unreadable.clear();
        self.bytes.clear();
        self.bytes.try_reserve_exact(bytes).map_err(|_| ErrorKind::OutOfMemory)?;
        self.bytes.resize(bytes, 0);
        let mut at = 0;
        while at < self.bytes.len() {
            let end = (at + PIECE_BYTES).min(self.bytes.len());
            if !read_piece(file, &mut self.bytes[at..end], at as u64, &mut self.unreadable) {
                // A writer gave back what it had reserved meanwhile.
                let left = file.bytes()?.min(self.bytes.len() as u64) as usize;
                self.bytes.truncate(left.max(at));
                if left > at && left < end {
                    continue;
                }
                break;
            }
            at = end;
        }
        Ok(())
    }

    /// Whether some of these bytes could not be read.
    pub(super) fn is_unreadable(&self, from: u64, to: u64) -> bool {
        let after = self.unreadable.partition_point(|(_, end)| *end <= from);
        self.unreadable.get(after).is_some_and(|(start, _)| *start < to)
    }
}

/// Fills a piece as far as the device lets it; `false` if the file ends before.
fn read_piece(file: &dyn DiskFile, piece: &mut [u8], offset: u64, unreadable: &mut Vec<(u64, u64)>) -> bool {
    match file.read_exact_at(piece, offset) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
        Err(_) if piece.len() > SECTOR_BYTES => {
            let half = (piece.len() / 2).next_multiple_of(SECTOR_BYTES);
            let (left, right) = piece.split_at_mut(half);
            let right_offset = offset + left.len() as u64;
            read_piece(file, left, offset, unreadable) && read_piece(file, right, right_offset, unreadable)
        }
        Err(_) => {
            // What the call left behind is not what the file holds.
            piece.fill(0);
            let end = offset + piece.len() as u64;
            match unreadable.last_mut() {
                Some((_, last)) if *last == offset => *last = end,
                _ => unreadable.push((offset, end)),
            }
            true
        }
    }
}
