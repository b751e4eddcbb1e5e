//! The footer (FORMAT.md section 5): recomputed from the segment's commits and the heads before it, and compared byte for byte (T1).
//!
//! Always: the expected footer is built in full; its size follows from what was read, never from what the file claims.

use crate::bytes::{Hash, align_down};
use crate::commit::FOOTER_MAGIC;
use crate::commit::Layout;
use crate::finding::{Check, Finding};
use crate::ledger::BucketPart;
use crate::tail::{FOOTER_BYTES_FIXED, FOOTER_HEADER_BYTES, footer_holds};
use crate::window::Window;

const TAIL_MAGIC: &[u8; 8] = b"CHRFTR\r\n";
const STRIDE: u32 = 8;
/// Granularity in which a wrong footer is reported.
const REPORT_BYTES: u64 = 512;

/// What a footer is made of.
pub(crate) struct FooterInput<'a> {
    pub(crate) end: u64,
    pub(crate) next_position: u64,
    pub(crate) commit_digest: &'a Hash,
    /// By bucket number, the engine's lane last.
    pub(crate) heads: &'a [Option<BucketPart>],
    pub(crate) frame_offsets: &'a [u32],
}

/// The only right footer for `input`.
pub(crate) fn build(input: &FooterInput<'_>, layout: &Layout) -> Vec<u8> {
    let head_count = input.heads.iter().flatten().count();
    let table_bytes = head_count * 56 + (input.frame_offsets.len() * 4).next_multiple_of(8);
    let footer_bytes = FOOTER_BYTES_FIXED + table_bytes as u64;
    let mut out = Vec::with_capacity(footer_bytes as usize);
    out.extend_from_slice(&FOOTER_MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&footer_bytes.to_le_bytes());
    out.extend_from_slice(&input.end.to_le_bytes());
    out.extend_from_slice(&input.next_position.to_le_bytes());
    out.extend_from_slice(&(head_count as u32).to_le_bytes());
    out.extend_from_slice(&STRIDE.to_le_bytes());
    out.extend_from_slice(&(input.frame_offsets.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(input.commit_digest);
    out.resize(FOOTER_HEADER_BYTES as usize, 0);
    for (bucket, head) in input.heads.iter().enumerate() {
        let Some(head) = head else { continue };
        out.extend_from_slice(&(bucket as u16).to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&head.records.to_le_bytes());
        out.extend_from_slice(&head.last.position.to_le_bytes());
        out.extend_from_slice(&head.last.link);
    }
    for offset in input.frame_offsets {
        out.extend_from_slice(&offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend_from_slice(&footer_bytes.to_le_bytes());
    out.extend_from_slice(TAIL_MAGIC);
    let crc = layout.masks.checksum(input.end, &out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

/// T1: compares the footer in the file with the right one. A footer whose own checksum holds was made wrong, any other became wrong.
pub(crate) fn compare(window: &mut Window, layout: &Layout, end: u64, right: &[u8]) -> Check<()> {
    let Some(offset) = first_difference(window, end, right)? else { return Ok(()) };
    if footer_holds(window, layout, end)? {
        return Err(Finding::tampered("T1", end, "the footer is not what its segment gives").into());
    }
    Err(Finding::corrupt("T1", end, "the footer's checksum is wrong").blaming(offset).into())
}

/// The sector of the first 8-byte word that differs from the right footer, but never one before the footer.
pub(crate) fn first_difference(window: &mut Window, end: u64, right: &[u8]) -> Result<Option<u64>, crate::Error> {
    for (index, word) in right.chunks(8).enumerate() {
        let at = end + index as u64 * 8;
        if window.get(at, word.len())? != Some(word) {
            return Ok(Some(align_down(at, REPORT_BYTES).max(end)));
        }
    }
    Ok(None)
}
