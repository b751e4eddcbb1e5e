//! A copy of a store, also while it is being written.
//!
//! Always: what is copied was durable in the original; the copy is a store at every moment, ends with a whole commit, and was read back and verified when
//! this says so; a copy that holds more than the original, or something else, is never written over.
//! Never: writes to the original, or locks it.

use std::io;
use std::path::Path;

use chainring_format::segment::{SegmentHeader, file_name};
use chainring_format::{Link, Mark, Position};
use zerocopy::IntoBytes;

use crate::disk::{Access, Disk, DiskFile, Environment, LockError};
use crate::error::{BackupError, Fault, FaultKind, OpenError};
use crate::segment::{Cursor, FileBuffer, ReadFailure, open_segment};
use crate::sequencer::{Recovered, recover};
use crate::sync::Arc;
use crate::trust::{VerifyOptions, read_note, verify_in, write_note};

/// Read and written with one call.
const CHUNK_BYTES: usize = 1 << 20;

/// What a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Records in the copy: everything below this position.
    pub records: u64,
    /// Position and link of the last one, to be remembered elsewhere (`expect_at_least`).
    pub last: Option<(Position, Link)>,
    /// Segments that were copied.
    pub segments_copied: u64,
    /// Segments that were in the copy before, whole.
    pub segments_kept: u64,
    /// Bytes that were copied.
    pub bytes_copied: u64,
    /// Bytes of the whole copy that were verified.
    pub bytes_verified: u64,
}

/// Copies the store in a directory to another one, which is absent, empty, or an earlier copy that is brought up to date. The original may be in use; the
/// copy then shows it as of a position, as if its writer had been killed there.
///
/// # Errors
/// [`BackupError`]; the copy is then what it was, or a shorter copy.
pub fn backup(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<BackupReport, BackupError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    backup_in((&Environment::system(from), from), (&Environment::system(to), to))
}

/// As [`backup`], in other environments; the directories are only named in messages.
///
/// # Errors
/// As [`backup`].
pub fn backup_in(
    (source, source_directory): (&Environment, &Path),
    (target, target_directory): (&Environment, &Path),
) -> Result<BackupReport, BackupError> {
    let (from, to) = (&*source.disk, &*target.disk);
    // Before the log: everything that it is over is copied.
    let checkpoint = read_note(from);
    let original = recover(&source.disk, source_directory, Access::Read).map_err(BackupError::Original)?;
    // What was read may not be durable yet: its writer is not asked. Now it is, so the original cannot lose what the copy has.
    let last = &original.last;
    let last_number = last.header.number.get();
    last.file.sync_data().map_err(BackupError::io(format!("syncing {} of the original", file_name(last_number))))?;

    to.create_directory().map_err(BackupError::io(format!("creating {}", target_directory.display())))?;
    let _lock = to.lock().map_err(|error| match error {
        LockError::Held { owner } => BackupError::Copy(OpenError::Locked { owner }),
        LockError::Io(source) => BackupError::Io { doing: format!("locking {}", target_directory.display()), source },
    })?;
    let copied_before = match recover(&target.disk, target_directory, Access::Read) {
        Ok(copy) => {
            check_copy(&copy, &original)?;
            copy.last.header.number.get()
        }
        Err(OpenError::NotAStore { .. }) => 0,
        Err(error) => return Err(BackupError::Copy(error)),
    };

    let mut report = BackupReport { records: 0, last: None, segments_copied: 0, segments_kept: 0, bytes_copied: 0, bytes_verified: 0 };
    for number in 1..last_number {
        let (file, header) = open_segment(from, number, Access::Read).map_err(BackupError::Original)?;
        let bytes = if header.is_packed() {
            // Its successor names the end of before.
            file.bytes().map_err(unreadable(number, 0))?
        } else {
            let successor = if number + 1 == last_number { last.header } else { header_of(from, number + 1)? };
            successor.prev_end_offset.get() + successor.prev_footer_bytes.get()
        };
        if number < copied_before && is_whole(to, number, &header, bytes) {
            report.segments_kept += 1;
        } else {
            report.bytes_copied += copy((&*file, &header), bytes, to, number <= copied_before)?;
            report.segments_copied += 1;
        }
    }
    report.bytes_copied += copy((&*last.file, &last.header), last.end, to, last_number <= copied_before)?;
    report.segments_copied += 1;

    let verified = verify_in(target, target_directory, &VerifyOptions::default()).map_err(BackupError::Copy)?;
    if let Some(fault) = verified.fault {
        return Err(BackupError::Copy(OpenError::Damaged(fault)));
    }
    (report.records, report.bytes_verified) = (verified.records, verified.bytes);
    if let Some(note) = checkpoint.filter(|note| read_note(to).as_ref() != Some(note)) {
        write_note(to, &note).map_err(BackupError::io("keeping the checkpoint of the copy"))?;
    }
    report.last = match original.next_position.checked_sub(1) {
        Some(position) => {
            let link = original.catalog.frame(position).map_err(|error| BackupError::Original(error.into()))?.link();
            Some((Position(position), link))
        }
        None => None,
    };
    Ok(report)
}

/// Whether an earlier copy is one of this log, and not ahead of it.
fn check_copy(copy: &Recovered, original: &Recovered) -> Result<(), BackupError> {
    let foreign = |why: &str| Err(BackupError::Foreign { why: why.to_owned() });
    if copy.log_id != original.log_id {
        return foreign("it is a copy of another log");
    }
    if copy.next_position > original.next_position {
        return foreign("it holds more than the log, which may have been put back to an earlier state");
    }
    let Some(position) = copy.next_position.checked_sub(1) else { return Ok(()) };
    let link = |of: &Recovered| Ok(of.catalog.frame(position).map_err(OpenError::from)?.link());
    if link(copy).map_err(BackupError::Copy)? != link(original).map_err(BackupError::Original)? {
        return foreign("it holds another history");
    }
    Ok(())
}

fn header_of(disk: &dyn Disk, number: u64) -> Result<SegmentHeader, BackupError> {
    Ok(open_segment(disk, number, Access::Read).map_err(BackupError::Original)?.1)
}

/// Whether the copy has this segment from beginning to end, as far as its length and header tell; what it holds is verified with everything else.
fn is_whole(to: &dyn Disk, number: u64, header: &SegmentHeader, bytes: u64) -> bool {
    open_segment(to, number, Access::Read)
        .is_ok_and(|(file, own)| own.as_bytes() == header.as_bytes() && file.bytes().is_ok_and(|own| own == bytes))
}

fn unreadable(number: u64, offset: u64) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::Original(ReadFailure { offset, source }.of(&file_name(number)))
}

/// Copies the first `bytes` of a segment, in which every checksum has to hold: damage is not copied.
///
/// write(tmp, the first `bytes` of the original); fsync(tmp); rename(tmp, NNNNNNNNNN.seg), or exchange; fsync(directory)
fn copy((from, header): (&dyn DiskFile, &SegmentHeader), bytes: u64, to: &dyn Disk, is_there: bool) -> Result<u64, BackupError> {
    let number = header.number.get();
    let name = file_name(number);
    let mut buffer = FileBuffer::default();
    buffer.read(from, bytes).map_err(|failure| BackupError::Original(failure.of(&name)))?;
    let mut cursor = Cursor::new(&buffer, header);
    while cursor.offset() < bytes && !matches!(cursor.mark(), Mark::Footer) {
        cursor.next_commit().map_err(|bad| {
            BackupError::Original(OpenError::Damaged(Fault::new(FaultKind::Corrupt, name.clone(), bad.offset, bad.violation)))
        })?;
    }
    let temporary = format!("{name}.tmp");
    let doing = |doing: &str| BackupError::io(format!("{doing} {name} of the copy"));
    let file: Arc<dyn DiskFile> = to.create(&temporary).map_err(doing("creating"))?;
    for (index, chunk) in buffer.chunks(CHUNK_BYTES).enumerate() {
        file.write_all_at(chunk, (index * CHUNK_BYTES) as u64).map_err(doing("writing"))?;
    }
    file.sync_all().map_err(doing("syncing"))?;
    // What is verified afterwards is read from the device.
    file.drop_cache().map_err(doing("dropping the cached pages of"))?;
    let named = if is_there { to.replace(&temporary, &name) } else { to.rename(&temporary, &name) };
    named.map_err(doing("naming"))?;
    to.sync_directory().map_err(doing("syncing the name of"))?;
    if is_there {
        // Where names are exchanged, the old file is under the temporary one now; where not, there is nothing to remove.
        let _ = to.remove(&temporary);
    }
    Ok(bytes)
}
