//! Opening the log for appending, with the segment size it was made with.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use chainring::{Log, Options};
use chainring_format::limits::BLOCK_BYTES_MAX;
use chainring_format::segment::{SegmentHeader, file_name};

use crate::output::Failure;

/// Opens the log, or makes one where there is none.
pub(crate) fn open(path: &Path) -> Result<Log, Failure> {
    let mut options = Options::new();
    if let Some(bytes) = segment_bytes(path)? {
        options = options.segment_bytes(bytes);
    }
    Ok(options.open(path)?)
}

/// The segment size the log was made with: that of its first segment, later ones may have been made larger for a large batch.
/// `None` where there is no first segment, or no valid one: then opening has something to say.
fn segment_bytes(path: &Path) -> Result<Option<u64>, Failure> {
    let first = path.join(file_name(1));
    let mut block = Vec::new();
    match File::open(&first).and_then(|file| file.take(BLOCK_BYTES_MAX.into()).read_to_end(&mut block)) {
        Ok(_) => Ok(SegmentHeader::parse(&block).ok().map(|header| header.segment_bytes.get())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Failure::Cannot(format!("cannot read {}: {error}", first.display()))),
    }
}
