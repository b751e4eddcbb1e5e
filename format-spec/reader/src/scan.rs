//! Step 3 for a whole segment, and section 9 at its end; the rules of the records are the ledger's.
//!
//! Always: a scan reads its segment front to back with a bounded window and ends at the first finding.
//! Never: knows another segment than by what the successor's header says of this one's end.

use std::path::PathBuf;
use std::time::Duration;

use crate::commit::{FrameAt, Layout, Trailer, read_commit};
use crate::finding::{Check, Finding, settle};
use crate::header::{Header, read_header};
use crate::ledger::{Ledger, Scan};
use crate::tail::{self, Tail};
use crate::window::Window;
use crate::{Error, FaultKind};

/// At the end of a log in use a writer may just be putting a commit: so often the tail is read again before it is judged.
const TAIL_TRIES: u32 = 3;

/// Where a segment ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// A header says so, the successor's or, in a packed segment, its own; the successor's also says how long the footer is (S1).
    Named { end: u64, footer_bytes: u64 },
    /// Last segment: by walking (S3).
    Walked,
    /// There is or was a successor, but its header cannot be used.
    Unknown,
}

/// A segment file whose header holds.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) header: Header,
    pub(crate) end: End,
}

/// A segment file and the header in it. Packing gives the name to another file, so everything that is asked of one segment is asked of one opened file.
pub(crate) struct Opened {
    pub(crate) window: Window,
    pub(crate) header: Header,
    pub(crate) end: End,
}

impl Segment {
    /// Opens the file, which may have been packed since the store was listed.
    pub(crate) fn open(&self) -> Check<Opened> {
        let mut window = Window::open(&self.path)?;
        let header = read_header(&mut window)?;
        if (header.number, header.log_id) != (self.header.number, self.header.log_id) {
            return Err(Finding::tampered("S6", 0, "the segment is another one than a moment ago").into());
        }
        let end = match (header.packed, self.end) {
            (Some(packed), End::Named { footer_bytes, .. }) => End::Named { end: packed.end, footer_bytes },
            // Nobody knows the length of its footer.
            (Some(packed), End::Walked | End::Unknown) => End::Named { end: packed.end, footer_bytes: 0 },
            (None, end) => end,
        };
        Ok(Opened { window, header, end })
    }
}

/// Walks one segment. Nothing at or behind `stop_at` is checked or counted.
pub(crate) fn scan(opened: &mut Opened, stop_at: u64, patience: Duration) -> Result<Scan, Error> {
    let Opened { window, header, end } = opened;
    window.refresh()?;
    let file_bytes = window.file_bytes();
    if let End::Named { end, .. } = *end {
        window.end_at(end);
    }
    let mut walk = Walk {
        header,
        end: *end,
        layout: Layout::of(header),
        window,
        file_bytes,
        ledger: Ledger::new(header),
        frames: Vec::new(),
        stop_at,
        patience,
    };
    let finding = settle(walk.run())?.err();
    let mut scan = walk.ledger.scan;
    scan.finding = finding;
    Ok(scan)
}

struct Walk<'a> {
    header: &'a Header,
    end: End,
    layout: Layout,
    /// Ends where the commits are said to end.
    window: &'a mut Window,
    /// Of the whole file.
    file_bytes: u64,
    ledger: Ledger<'a>,
    frames: Vec<FrameAt>,
    stop_at: u64,
    patience: Duration,
}

impl Walk<'_> {
    fn run(&mut self) -> Check<()> {
        loop {
            let (start, position) = (self.ledger.scan.end, self.ledger.scan.next_position);
            if start >= self.stop_at {
                return Ok(());
            }
            if let End::Named { end, footer_bytes } = self.end
                && start == end
            {
                self.check_genesis(start, position)?;
                return self.check_length(end, footer_bytes);
            }
            let trailer = match self.read(start, position)? {
                Ok(trailer) => trailer,
                Err(broken) => match self.at_broken(broken, start, position)? {
                    Some(trailer) => trailer,
                    None => return Ok(()),
                },
            };
            self.ledger.check_frames(self.window, &self.frames, Some(&trailer), self.stop_at)?;
            if trailer.offset >= self.stop_at {
                return Ok(());
            }
            self.ledger.check_trailer(&trailer, position)?;
        }
    }

    fn read(&mut self, start: u64, position: u64) -> Result<Result<Trailer, Finding>, Error> {
        settle(read_commit(self.window, &self.layout, start, position, &mut self.frames))
    }

    /// F7: the first segment exists only since the genesis record in it is on stable storage (L3).
    fn check_genesis(&self, end: u64, position: u64) -> Result<(), Finding> {
        if self.header.number == 1 && position == 0 {
            return Err(Finding::corrupt("F7", end, "the first segment has no genesis record"));
        }
        Ok(())
    }

    /// S1: the file must hold what its successor says it holds.
    fn check_length(&mut self, end: u64, footer_bytes: u64) -> Check<()> {
        if self.file_bytes < end.saturating_add(footer_bytes) {
            return Err(Finding::short(self.file_bytes, "the file ends inside the footer").into());
        }
        Ok(())
    }

    /// The bytes at `start` are not a commit: `broken` tells why. Gives the commit if a writer has completed it meanwhile.
    fn at_broken(&mut self, mut broken: Finding, start: u64, position: u64) -> Check<Option<Trailer>> {
        let tries = match self.end {
            End::Named { end, .. } => return self.damaged(in_named(broken, self.file_bytes, end)).map(|()| None),
            End::Walked if !self.patience.is_zero() => TAIL_TRIES,
            End::Walked | End::Unknown => 0,
        };
        for left in (0..=tries).rev() {
            let tail = tail::judge(self.window, &self.layout, start, broken.place, position)?;
            if left == 0 || matches!(tail, Tail::Empty | Tail::Footer) {
                self.ledger.scan.tail = tail;
                break;
            }
            std::thread::sleep(self.patience);
            self.window.refresh()?;
            match self.read(start, position)? {
                Ok(trailer) => return Ok(Some(trailer)),
                Err(again) => broken = again,
            }
        }
        self.at_tail(broken, start, position).map(|()| None)
    }

    /// The frames in front of a damaged structure are checked before it is blamed: one of them may be the first place that fails.
    fn damaged(&mut self, broken: Finding) -> Check<()> {
        self.ledger.check_frames(self.window, &self.frames, None, self.stop_at)?;
        Err(broken.into())
    }

    /// The verdict of section 9 on a segment whose end nobody names.
    fn at_tail(&mut self, broken: Finding, start: u64, position: u64) -> Check<()> {
        let genesis = self.check_genesis(start, position);
        match self.ledger.scan.tail {
            Tail::Empty | Tail::Footer => Ok(genesis?),
            Tail::Torn if genesis.is_err() => self.damaged(broken),
            // Behind a successor that cannot be read, what recovery cut looks like this and is no fault.
            Tail::Torn if matches!(self.end, End::Unknown) => Ok(()),
            Tail::Torn => {
                let why = format!("torn tail, never acknowledged: {}", broken.why);
                Err(Finding::new(FaultKind::Torn, "R", start, why).into())
            }
            Tail::Damaged(why) => self.damaged(Finding { why: format!("{}; {why}", broken.why), ..broken }),
        }
    }
}

/// In a segment with a successor every byte up to the named end must be valid (S1).
fn in_named(broken: Finding, file_bytes: u64, end: u64) -> Finding {
    if broken.cut && file_bytes < end {
        return Finding::short(file_bytes, &broken.why);
    }
    if broken.cut {
        return Finding { rule: "S1", why: "a commit crosses the segment's named end".to_owned(), ..broken };
    }
    if broken.rule == "T1" {
        return Finding { rule: "S1", why: "a footer stands before the segment's named end".to_owned(), ..broken };
    }
    broken
}
