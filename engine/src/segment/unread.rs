//! A sealed segment that nobody has read yet: what is known of it, and what it takes to read it.
//!
//! A store can have thousands of segments, of which most opens touch a few. What was not looked at when the store was opened is looked at here, before the
//! first byte of it is handed out: its header, its length, where its frames are.

use chainring_format::footer::{self, FooterHeader, HeadEntry, POSITION_STRIDE};
use chainring_format::limits::{BLOCK_BYTES_DEFAULT, BLOCK_BYTES_MAX};
use chainring_format::segment::{HEADER_BYTES, SegmentHeader, file_name};
use chainring_format::{Mark, Violation, align};

use super::{Body, MARK_BYTES, NO_FRAME, Source, offset_entry, read_header, read_start};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Fault, FaultKind, OpenError, ReadError};
use crate::sync::{Arc, AtomicU64, Ordering};

/// Position tables of sealed segments that are kept elsewhere than in footers, and need not be in memory.
pub(crate) trait PositionTables: Send + Sync + std::fmt::Debug {
    /// Brings in what [`PositionTables::mark_before`] looks at for these positions, side by side.
    fn bring_in(&self, positions: &[u64]);

    /// The offset, in units of 8 bytes, of the last eighth frame at or before a position in its segment, if the segment's file has this salt.
    fn mark_before(&self, position: u64, salt: &[u8; 16]) -> Option<u32>;

    /// Those of every eighth frame of the segment whose first record has this position, if its file has this salt.
    fn offsets(&self, first_position: u64, salt: &[u8; 16]) -> Option<Vec<u32>>;
}

/// So often a mark is looked up in the index, for about as much as having the whole table in memory costs.
const MARKS_ASKED_MAX: u64 = 256;

/// What is known of a sealed segment.
#[derive(Debug)]
pub(crate) struct Unread {
    disk: Arc<dyn Disk>,
    header: SegmentHeader,
    /// Where its commits end.
    pub(super) end: u64,
    pub(super) footer_bytes: u64,
    /// Position after its last record.
    next_position: u64,
    pub(super) tables: Arc<dyn PositionTables>,
    /// How often a mark was looked up in them. Relaxed: it only saves time.
    marks_asked: AtomicU64,
}

impl Unread {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        header: SegmentHeader,
        end: u64,
        footer_bytes: u64,
        next_position: u64,
        tables: Arc<dyn PositionTables>,
    ) -> Unread {
        Unread { disk, header, end, footer_bytes, next_position, tables, marks_asked: AtomicU64::new(0) }
    }

    pub(super) fn is_packed(&self) -> bool {
        self.header.is_packed()
    }

    /// Its file, whose header is on its way. What keeps it from being opened says so again when it has to be.
    pub(super) fn begin(&self) -> Option<Arc<dyn DiskFile>> {
        let file = self.disk.open(&file_name(self.header.number.get()), Access::Read).ok()?;
        file.read_soon(0, BLOCK_BYTES_DEFAULT.into());
        Some(file)
    }

    /// What is needed to read it, but for its position table: whoever knows the offset of a frame can do without. `begun` is its file, if it is open.
    pub(super) fn open(&self, begun: Option<Arc<dyn DiskFile>>) -> Result<Body, ReadError> {
        let number = self.header.number.get();
        let name = file_name(number);
        let io = |source| ReadError::Io { segment: name.clone(), offset: 0, source: Arc::new(source) };
        let opened = match begun {
            Some(file) => header_of(&*file, number).map(|header| (file, header)),
            None => open_segment(&*self.disk, number, Access::Read),
        };
        let (file, header) = opened.map_err(|error| match error {
            OpenError::Damaged(fault) => ReadError::Damaged(fault),
            OpenError::Read { segment, offset, source } => ReadError::Io { segment, offset, source: Arc::new(source) },
            OpenError::Io { source, .. } => io(source),
            other => io(std::io::Error::other(other.to_string())),
        })?;
        // Another process may have packed it meanwhile: then it begins and ends elsewhere, and is the same.
        let same = |header: &SegmentHeader| (header.log_id, header.first_position, header.epoch, header.prev_commit_digest);
        if same(&header) != same(&self.header) {
            let violation = Violation { rule: "S6", why: "the header is not the one that the store was opened with" };
            return Err(ReadError::Damaged(Fault::new(FaultKind::Tampered, name, 0, violation)));
        }
        let end = header.packed_end().unwrap_or(self.end);
        let file_bytes = file.bytes().map_err(io)?;
        if file_bytes < end {
            // As of a segment that was cut while it is read.
            let source = Arc::new(std::io::ErrorKind::UnexpectedEof.into());
            return Err(ReadError::Io { segment: name, offset: file_bytes, source });
        }
        let region = file.region(end as usize).map_err(io)?;
        Ok(Body::new(&header, Source::Sealed(region)))
    }

    /// The offset, in units of 8 bytes, of the last eighth frame at or before a position, if the index has it and was not asked often.
    pub(super) fn mark_before(&self, position: u64, body: &Body) -> Option<u32> {
        let is_rare = self.marks_asked.fetch_add(1, Ordering::Relaxed) < MARKS_ASKED_MAX;
        is_rare.then(|| self.tables.mark_before(position, &body.salt)).flatten()
    }

    /// The position table of the file that was opened: as the index has it, or the footer, or else as the frames themselves tell.
    pub(super) fn offsets(&self, body: &Body) -> Result<Vec<u32>, ReadError> {
        let count = self.frames().div_ceil(POSITION_STRIDE) as usize;
        let kept = self.tables.offsets(self.header.first_position.get(), &body.salt).filter(|offsets| offsets.len() == count);
        match kept.or_else(|| self.footer_offsets(body)) {
            Some(offsets) => Ok(offsets),
            None => self.walk(body),
        }
    }

    fn frames(&self) -> u64 {
        self.next_position - self.header.first_position.get()
    }

    /// The position table of the footer, if there is a footer and it holds. A reader can do without.
    fn footer_offsets(&self, body: &Body) -> Option<Vec<u32>> {
        if self.footer_bytes == 0 {
            return None;
        }
        // It was let go when it was opened, and another process may have packed it since: then its name leads to a file with another salt.
        let (file, header) = open_segment(&*self.disk, self.header.number.get(), Access::Read).ok()?;
        let end = body.end();
        if header.salt != body.salt || self.footer_bytes > file.bytes().ok()?.checked_sub(end)? {
            return None;
        }
        let count = self.frames().div_ceil(POSITION_STRIDE) as usize;
        let mut bytes = vec![0; usize::try_from(self.footer_bytes).ok()?];
        file.read_exact_at(&mut bytes, end).ok()?;
        let footer = footer::parse(&bytes, body.seed, end).ok()?;
        if footer.next_position.get() != self.next_position || footer.offset_count.get() as usize != count {
            return None;
        }
        let start = size_of::<FooterHeader>() + size_of::<HeadEntry>() * footer.head_count.get() as usize;
        let table = bytes.get(start..start + 4 * count)?;
        Some(table.chunks_exact(4).map(|entry| u32::from_le_bytes(*entry.first_chunk().expect("4 bytes"))).collect())
    }

    /// The same from the frames themselves.
    fn walk(&self, body: &Body) -> Result<Vec<u32>, ReadError> {
        let number = self.header.number.get();
        let mut offsets = Vec::new();
        let (mut at, mut count) = (align(HEADER_BYTES as u64, body.block_bytes), 0_u64);
        while at < body.end() && count < self.frames() {
            let mark = Mark::of(body.read(number, at, MARK_BYTES)?);
            if let Mark::Frame(_) = mark {
                if count.is_multiple_of(POSITION_STRIDE) {
                    offsets.push(offset_entry(at));
                }
                count += 1;
            }
            at = body.behind(mark, at).ok_or_else(|| {
                let fault = Fault::new(FaultKind::Corrupt, file_name(number), at, NO_FRAME);
                ReadError::Damaged(fault.at_position(self.header.first_position.get() + count))
            })?;
        }
        Ok(offsets)
    }
}

/// Opens a segment file and reads its header. What is read of the segment is read of this file: the name may lead to a packed one a moment later.
pub(crate) fn open_segment(disk: &dyn Disk, number: u64, access: Access) -> Result<(Arc<dyn DiskFile>, SegmentHeader), OpenError> {
    let name = file_name(number);
    let file = disk.open(&name, access).map_err(OpenError::io(format!("opening {name}")))?;
    let header = header_of(&*file, number)?;
    Ok((file, header))
}

fn header_of(file: &dyn DiskFile, number: u64) -> Result<SegmentHeader, OpenError> {
    let start = |limit: u32| read_start(file, limit.into()).map_err(|failure| failure.of(&file_name(number)));
    // Most blocks are no larger than this, and a store can have many segments.
    match read_header(&start(BLOCK_BYTES_DEFAULT)?, number) {
        Ok(header) => Ok(header),
        Err(_) => read_header(&start(BLOCK_BYTES_MAX)?, number),
    }
}
