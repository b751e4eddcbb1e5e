//! Files of the import form, read on a thread of their own: bytes to lines to events to units.
//!
//! A *unit* is what is appended at once: the events of one batch, or one event that has none. A unit is handed on when it is known to be whole.
//! Where a line cannot be read at all, the batch before it may not be whole, so that batch is dropped: its file, once mended, can then be imported again.
//! Invariants: units come in the order of the files; nothing comes after a stop; memory is bounded by the channel and the largest batch.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use chainring_format::limits::BATCH_BYTES_MAX;

use crate::form::entry::{BatchName, Entry, LineReader, Malformed};
use crate::output::Failure;

const BUFFER_BYTES: usize = 1 << 20;
/// Units travel in groups of about this many bytes of input.
const GROUP_BYTES: usize = 256 << 10;
/// Groups that may wait between the two threads.
const GROUPS_WAITING: usize = 8;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// What is appended at once.
#[derive(Debug)]
pub(super) struct Unit {
    /// Index of its file.
    pub(super) file: usize,
    /// `None`: one event, appended alone.
    pub(super) batch: Option<BatchName>,
    pub(super) entries: Vec<Entry>,
    /// Bytes of its lines.
    pub(super) bytes: usize,
}

/// Where an import ends before its input does, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    /// Index of the file.
    pub(super) file: usize,
    /// Number of the line, from 1.
    pub(super) line: u64,
    pub(super) reason: String,
    /// Whether the input or the log could not be read or written, rather than being wrong.
    pub(super) is_io: bool,
}

/// What the reading thread hands on.
#[derive(Debug)]
pub(super) enum Feed {
    Units(Vec<Unit>),
    Stop(Stop),
}

/// The input of an import: units arrive at `feed`.
pub(super) struct Source {
    pub(super) feed: Receiver<Feed>,
    /// Bytes of the files read so far, before decompression.
    pub(super) bytes_read: Arc<AtomicU64>,
    /// Bytes of all files whose size is known.
    pub(super) bytes_total: u64,
}

/// Opens every file, so that a missing one is noticed before anything is appended, and starts reading.
pub(super) fn open(paths: &[PathBuf], version_required: bool) -> Result<Source, Failure> {
    let bytes_read = Arc::new(AtomicU64::new(0));
    let mut bytes_total = 0;
    let mut inputs: Vec<Box<dyn Read + Send>> = Vec::with_capacity(paths.len());
    for path in paths {
        let input: Box<dyn Read + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdin())
        } else {
            let cannot = |error: io::Error| Failure::Cannot(format!("cannot read {}: {error}", path.display()));
            let file = File::open(path).map_err(cannot)?;
            let about = file.metadata().map_err(cannot)?;
            if about.is_dir() {
                return Err(Failure::Cannot(format!("cannot read {}: it is a directory", path.display())));
            }
            bytes_total += about.len();
            Box::new(file)
        };
        inputs.push(Box::new(Counting { inner: input, read: Arc::clone(&bytes_read) }));
    }
    let (sender, feed) = sync_channel(GROUPS_WAITING);
    // The thread is not joined: it may wait for ever on an input that nobody needs any more.
    let parse = move || {
        let mut reader = FileReader { sender, group: Vec::new(), group_bytes: 0, version_required };
        for (file, input) in inputs.into_iter().enumerate() {
            match reader.file(file, input) {
                Ok(()) => {}
                Err(End::Gone) => return,
                Err(End::Stop(stop)) => {
                    reader.finish(Some(stop));
                    return;
                }
            }
        }
        reader.finish(None);
    };
    std::thread::Builder::new()
        .name("parse".into())
        .spawn(parse)
        .map_err(|error| Failure::Cannot(format!("cannot start a thread: {error}")))?;
    Ok(Source { feed, bytes_read, bytes_total })
}

struct Counting {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Why reading ends early.
enum End {
    /// Nobody takes units any more.
    Gone,
    Stop(Stop),
}

/// Puts a decoder before the input if it starts like zstd.
fn decoded(mut input: Box<dyn Read + Send>) -> io::Result<BufReader<Box<dyn Read>>> {
    let mut start = Vec::with_capacity(4);
    (&mut input).take(4).read_to_end(&mut start)?;
    let is_zstd = start == ZSTD_MAGIC;
    let whole = io::Cursor::new(start).chain(input);
    let plain: Box<dyn Read> = if is_zstd { Box::new(zstd::stream::read::Decoder::new(whole)?) } else { Box::new(whole) };
    Ok(BufReader::with_capacity(BUFFER_BYTES, plain))
}

/// A unit that may still grow, and the batches its file had before.
struct FileState {
    file: usize,
    open: Option<Unit>,
    seen: HashSet<u128>,
}

struct FileReader {
    sender: SyncSender<Feed>,
    group: Vec<Unit>,
    group_bytes: usize,
    version_required: bool,
}

impl FileReader {
    fn file(&mut self, file: usize, input: Box<dyn Read + Send>) -> Result<(), End> {
        let mut state = FileState { file, open: None, seen: HashSet::new() };
        let mut lines = LineReader::new(self.version_required);
        let stop = |line: u64, error: &io::Error| {
            // An error with a number is the system's; one without is the decoder's.
            let is_io = error.raw_os_error().is_some();
            End::Stop(Stop { file, line, reason: format!("cannot read on: {error}"), is_io })
        };
        let mut input = decoded(input).map_err(|error| stop(1, &error))?;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if input.buffer().is_empty() {
                // The next read may wait; what is whole need not.
                self.send()?;
            }
            (&mut input).take(BATCH_BYTES_MAX).read_until(b'\n', &mut line).map_err(|error| stop(number, &error))?;
            if line.is_empty() {
                break;
            }
            if line.len() as u64 == BATCH_BYTES_MAX {
                return Err(malformed(file, number, format!("the line is longer than {BATCH_BYTES_MAX} bytes")));
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                self.line(&mut state, lines.read(number, &line), number)?;
            }
        }
        self.close(&mut state)
    }

    fn line(&mut self, state: &mut FileState, read: Result<(Entry, Option<BatchName>), Malformed>, number: u64) -> Result<(), End> {
        let (entry, batch) = match read {
            Ok(read) => read,
            Err(Malformed { why, batch }) => {
                if state.open.as_ref().is_some_and(|open| batch.is_some_and(|batch| batch != open.batch)) {
                    self.close(state)?;
                }
                return Err(malformed(state.file, number, why));
            }
        };
        match &mut state.open {
            Some(open) if open.batch == batch => {
                open.bytes += entry.bytes;
                open.entries.push(entry);
                if open.bytes as u64 > 2 * BATCH_BYTES_MAX {
                    return Err(malformed(state.file, number, format!("the batch is larger than {BATCH_BYTES_MAX} bytes")));
                }
                return Ok(());
            }
            _ => self.close(state)?,
        }
        if let Some(name) = &batch
            && !state.seen.insert(name.key())
        {
            return Err(malformed(state.file, number, format!("batch {} recurs: its events must be consecutive lines", name.shown())));
        }
        state.open = Some(Unit { file: state.file, bytes: entry.bytes, batch, entries: vec![entry] });
        if state.open.as_ref().is_some_and(|open| open.batch.is_none()) {
            self.close(state)?;
        }
        Ok(())
    }

    /// Hands on the open unit, which is whole now.
    fn close(&mut self, state: &mut FileState) -> Result<(), End> {
        if let Some(unit) = state.open.take() {
            self.group_bytes += unit.bytes;
            self.group.push(unit);
            if self.group_bytes >= GROUP_BYTES {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), End> {
        if self.group.is_empty() {
            return Ok(());
        }
        self.group_bytes = 0;
        self.sender.send(Feed::Units(std::mem::take(&mut self.group))).map_err(|_| End::Gone)
    }

    fn finish(&mut self, stop: Option<Stop>) {
        if self.send().is_ok()
            && let Some(stop) = stop
        {
            // Nobody there to hear it: then the import ended for a reason of its own.
            let _ = self.sender.send(Feed::Stop(stop));
        }
    }
}

fn malformed(file: usize, line: u64, reason: String) -> End {
    End::Stop(Stop { file, line, reason, is_io: false })
}
