//! Making the next segment file: reserved under a temporary name, filled, synced, renamed. The rename is what makes it part of the store.

use std::io;

use chainring_format::footer::{POSITION_STRIDE, footer_bytes};
use chainring_format::frame::FRAME_BYTES_MIN;
use chainring_format::limits::ENGINE_LANE;
use chainring_format::segment::{HEADER_BYTES, SegmentHeader, file_name, number_of};
use zerocopy::{FromZeros, IntoBytes};

use crate::disk::{Disk, DiskFile};
use crate::sync::Arc;

/// How a segment ended, as its successor's header states it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Predecessor {
    pub end_offset: u64,
    pub footer_bytes: u64,
    pub cut_bytes: u64,
    pub commit_digest: [u8; 32],
    pub heads_root: [u8; 32],
}

/// What a new segment's header says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSegment {
    pub number: u64,
    pub segment_bytes: u64,
    pub block_bytes: u32,
    pub epoch: u64,
    pub first_position: u64,
    pub created_at_ns: u64,
    pub salt: [u8; 16],
    pub log_id: [u8; 32],
    /// `None` in the first segment.
    pub predecessor: Option<Predecessor>,
}

/// Space for a segment, not yet part of the store.
#[derive(Debug)]
pub(crate) struct Reserved {
    file: Arc<dyn DiskFile>,
    temporary: String,
    number: u64,
}

/// Length of a live segment's file: its commits and, behind them, the largest footer it can get.
pub(crate) fn reserved_bytes(segment_bytes: u64) -> u64 {
    let records = segment_bytes / u64::from(FRAME_BYTES_MIN) + 1;
    segment_bytes + footer_bytes(usize::from(ENGINE_LANE) + 1, records.div_ceil(POSITION_STRIDE) as usize)
}

/// Name of a segment that is made ready ahead of need.
fn spare_name(number: u64) -> String {
    format!("spare-{}.tmp", file_name(number))
}

/// Number of the segment that this was to be, if it is the name of a spare one.
pub(crate) fn spare_number(name: &str) -> Option<u64> {
    let number = number_of(name.strip_prefix("spare-")?.strip_suffix(".tmp")?)?;
    (spare_name(number) == name).then_some(number)
}

impl Reserved {
    /// Reserves the space of a segment. Failing here promises nothing and leaves nothing behind: this is where a full disk is met.
    pub(crate) fn new(disk: &dyn Disk, number: u64, segment_bytes: u64) -> io::Result<Reserved> {
        Reserved::under(format!("{}.tmp", file_name(number)), disk, number, segment_bytes)
    }

    /// The same, ahead of need: under a name that is not in the way of whoever makes the segment meanwhile.
    pub(crate) fn ahead(disk: &dyn Disk, number: u64, segment_bytes: u64) -> io::Result<Reserved> {
        Reserved::under(spare_name(number), disk, number, segment_bytes)
    }

    fn under(temporary: String, disk: &dyn Disk, number: u64, segment_bytes: u64) -> io::Result<Reserved> {
        let file = disk.create(&temporary)?;
        match file.reserve(reserved_bytes(segment_bytes)) {
            Ok(()) => Ok(Reserved { file, temporary, number }),
            Err(error) => {
                drop(file);
                // Best effort: the name is ignored by readers and removed by the next writer.
                let _ = disk.remove(&temporary);
                Err(error)
            }
        }
    }

    /// The file, to make its ground ready.
    pub(crate) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Gives the space back. Best effort: the name is ignored by readers and removed by the next writer.
    pub(crate) fn discard(self, disk: &dyn Disk) {
        let _ = disk.remove(&self.temporary);
    }

    /// Writes the header block and the first commits, and makes the segment part of the store. Returns the bytes written.
    ///
    /// write(tmp, header || commits); fsync(tmp); rename(tmp, NNNNNNNNNN.seg); fsync(directory)
    pub(crate) fn publish(self, disk: &dyn Disk, header: &SegmentHeader, commits: &[u8]) -> io::Result<(Arc<dyn DiskFile>, Vec<u8>)> {
        let mut bytes = vec![0; header.block_bytes.get() as usize];
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        bytes.extend_from_slice(commits);
        self.file.write_all_at(&bytes, 0)?;
        self.file.sync_all()?;
        disk.rename(&self.temporary, &file_name(self.number))?;
        disk.sync_directory()?;
        Ok((self.file, bytes))
    }
}

impl NewSegment {
    pub(crate) fn header(&self) -> SegmentHeader {
        let mut header = SegmentHeader::new_zeroed();
        header.block_bytes = self.block_bytes.into();
        header.number = self.number.into();
        header.segment_bytes = self.segment_bytes.into();
        header.epoch = self.epoch.into();
        header.first_position = self.first_position.into();
        header.created_at_ns = self.created_at_ns.into();
        header.salt = self.salt;
        header.log_id = self.log_id;
        if let Some(predecessor) = self.predecessor {
            header.prev_end_offset = predecessor.end_offset.into();
            header.prev_footer_bytes = predecessor.footer_bytes.into();
            header.prev_cut_bytes = predecessor.cut_bytes.into();
            header.prev_commit_digest = predecessor.commit_digest;
            header.prev_heads_root = predecessor.heads_root;
        }
        header.sealed()
    }
}
