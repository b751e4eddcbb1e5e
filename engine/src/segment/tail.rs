//! What stands behind the last valid commit of a store: nothing, a footer, a torn write, or damage (FORMAT.md section 9).

use std::io;

use chainring_format::checksum::Seed;
use chainring_format::commit::{CommitTrailer, TRAILER_BYTES};
use chainring_format::frame::FrameHeader;
use chainring_format::limits::SECTOR_BYTES;
use chainring_format::segment::SegmentHeader;
use chainring_format::{Mark, align, footer};
use zerocopy::FromBytes;

use super::cursor::{Bad, Cursor};
use crate::disk::DiskFile;
use crate::error::Watermark;

/// The verdict on the tail of the last segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing but zeros, or the end of the file.
    Empty,
    /// A valid footer of that many bytes.
    Footer(u64),
    /// A torn write: this many bytes, up to the last one that is not zero, were never acknowledged as far as the store can tell.
    Torn { cut_bytes: u64, bad: Bad },
    /// Fully written or acknowledged data that is not valid any more.
    Damaged(Bad),
}

/// The commit that says that the log was closed, if a file ends with it, and where that is. `None` also where the end cannot be read.
///
/// # Errors
/// Of asking how long the file is.
pub(crate) fn closing_commit(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<Option<(CommitTrailer, u64)>> {
    let end = file.bytes()?;
    let Some(offset) = end.checked_sub(TRAILER_BYTES as u64).filter(|_| !header.is_packed()) else { return Ok(None) };
    let mut bytes = [0; TRAILER_BYTES];
    if file.read_exact_at(&mut bytes, offset).is_err() {
        return Ok(None);
    }
    let trailer = CommitTrailer::parse(&bytes, Seed::new(&header.salt), offset).ok();
    Ok(trailer.filter(CommitTrailer::closed).map(|trailer| (trailer, end)))
}

/// Judges what stands at the cursor, where [`Cursor::next_commit`] gave `bad`.
///
/// `bytes` is the whole file, `next_position` that behind the last valid commit, `watermark` the highest one found in valid evidence so far;
/// trailers in the tail may raise it.
pub(crate) fn judge(
    bytes: &[u8],
    header: &SegmentHeader,
    cursor: &Cursor<'_>,
    bad: Bad,
    next_position: u64,
    watermark: &mut Watermark,
) -> Tail {
    let end = cursor.offset();
    let tail = bytes.get(end as usize..).unwrap_or_default();
    let used = used_bytes(tail);
    if used == 0 {
        return Tail::Empty;
    }
    if cursor.mark() == Mark::Footer
        && let Ok(footer) = footer::parse(tail, Seed::new(&header.salt), end)
        && used_bytes(&tail[footer.footer_bytes.get() as usize..]) == 0
    {
        return Tail::Footer(footer.footer_bytes.get());
    }
    let number = header.number.get();
    cursor.trailers_behind().for_each(|(offset, trailer)| watermark.raise(trailer.watermark.get(), number, offset));
    if watermark.position > next_position {
        return Tail::Damaged(bad);
    }
    // Everything before the bad structure holds, zero bytes in bodies included; it may reach farther than what was written of it.
    let block = u64::from(header.block_bytes.get());
    let region_start = bad.place / SECTOR_BYTES as u64 * SECTOR_BYTES as u64;
    let claimed_end = match footer::stated_bytes(bytes.get(bad.place as usize..).unwrap_or_default(), end) {
        Some(footer_bytes) if bad.place == end => end + footer_bytes,
        _ => claimed_end(bytes, bad.place).min(header.segment_bytes.get()),
    };
    let region_end = align((end + used as u64).max(claimed_end), block);
    let region = &bytes[(region_start as usize).min(bytes.len())..(region_end as usize).min(bytes.len())];
    let zero_sector = region.chunks(SECTOR_BYTES).any(|sector| sector.iter().all(|&b| b == 0));
    let cut_short = region_end > bytes.len() as u64;
    if cut_short || zero_sector { Tail::Torn { cut_bytes: used as u64, bad } } else { Tail::Damaged(bad) }
}

/// Where the commit of a bad structure ends at the earliest, by what the structure says of itself: a trailer follows in any case.
fn claimed_end(bytes: &[u8], offset: u64) -> u64 {
    let frame = FrameHeader::ref_from_prefix(bytes.get(offset as usize..).unwrap_or_default()).ok();
    let frame_bytes = frame.and_then(|(header, _)| header.stated_bytes()).unwrap_or(0);
    offset + u64::from(frame_bytes) + TRAILER_BYTES as u64
}

/// Bytes up to the last one that is not zero.
pub(crate) fn used_bytes(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    // Reserved space is mostly whole blocks of zeros; comparing slices is as fast as memory.
    while end > 0 {
        let start = (end - 1) / ZEROS.len() * ZEROS.len();
        if bytes[start..end] != ZEROS[..end - start] {
            return start + bytes[start..end].iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
        }
        end = start;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::used_bytes;

    #[test]
    fn used_bytes_end_at_the_last_byte_that_is_not_zero() {
        for length in [0, 1, 4095, 4096, 4097, 10_000] {
            let mut bytes = vec![0; length];
            assert_eq!(used_bytes(&bytes), 0);
            for at in [0, length / 2, length.saturating_sub(1)] {
                if at < length {
                    bytes[at] = 1;
                    assert_eq!(used_bytes(&bytes), at + 1, "length {length}");
                    bytes[at] = 0;
                }
            }
        }
    }
}
