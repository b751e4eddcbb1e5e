//! Following the writer of a store from another process: reads on where it stopped, as far as the live mark says, over segments that end and begin.
//!
//! Always: what is shown was durable. Every commit is read with its checksums and continues the one before it, as when a store is opened; whether each event
//! continues its stream is looked at when somebody asks for a stream or an id (`catch_up`). Never: writes, or
//! anything that a writer waits for.

use std::io;
use std::path::{Path, PathBuf};

use chainring_format::segment::{SegmentHeader, file_name};
use chainring_format::{Link, Violation};

use super::live::{LiveReader, Reach};
use super::recover::{LastSegment, Recovered, Scan, recover};
use super::{Directory, Shared};
use crate::disk::{Access, Disk, DiskFile, MemoryAddress};
use crate::error::{Fault, FaultKind, OpenError};
use crate::index::Index;
use crate::segment::{Cursor, Image, ImageFollower, ImageWriter, PositionTables, RetiredImages, Segment, Unread, open_segment};
use crate::sync::model::lock;
use crate::sync::{Arc, Ordering, write};

/// Read at once; more if a commit is larger.
const WINDOW_BYTES: u64 = 1 << 20;

/// How far a store was read.
#[derive(Debug)]
pub(crate) struct Follower {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    log_id: Link,
    scan: Scan,
    header: SegmentHeader,
    file: Arc<dyn DiskFile>,
    /// Where the commits end that were read.
    end: u64,
    live: LiveReader,
    /// The last segment in memory, once there was something to add to it.
    held: Option<Held>,
    /// Where the last segment is not, although the live mark says so.
    refused: Option<MemoryAddress>,
    /// Whose memory may be used again as soon as nobody reads them.
    retired: RetiredImages,
}

impl Shared {
    /// What readers of a store share that was just read. What its writer, if there is one, has not made durable is not shown yet.
    pub(crate) fn following(recovered: Recovered, disk: &Arc<dyn Disk>, directory: &Path) -> Arc<Shared> {
        let (mut watermark, epoch) = (recovered.next_position, recovered.epoch);
        let (mut follower, parts) = Follower::new(recovered, disk, directory);
        let live = follower.live.read(&**disk).filter(|live| live.is_of_this_boot && live.epoch >= epoch);
        follower.live.let_go();
        if let Some(live) = live.filter(|live| live.reach.position < watermark && disk.has_writer()) {
            watermark = live.reach.position.max(1);
        }
        let Parts { catalog, directory, index } = parts;
        let shared = Arc::new(Shared::new(catalog, directory, watermark, follower.scan.engine_records(), index));
        *lock(&shared.followed) = Some(Box::new(follower));
        // Who does not ask for it does not see what others append.
        shared.end();
        shared
    }

    /// Takes in what the writer of the store has made durable since. Whether there is anything new. Of a log that is written here there never is.
    pub(crate) fn refresh(&self) -> Result<bool, OpenError> {
        let mut followed = lock(&self.followed);
        let Some(follower) = &mut *followed else { return Ok(false) };
        let before = self.watermark();
        let disk = Arc::clone(&follower.disk);
        let Some(live) = follower.live.news(&*disk, before) else { return Ok(false) };
        if follower.advance(self, live.reach).is_err() {
            // What was read and not shown may have been cut by the next writer. Whatever it is, opening the store says so.
            follower.begin_again(self)?;
            follower.advance(self, live.reach)?;
        }
        self.engine_records.store(follower.scan.engine_records(), Ordering::Relaxed);
        let now = follower.scan.next_position().min(live.reach.position).max(before);
        self.watermark.fetch_max(now, Ordering::Release);
        self.moved.advance();
        Ok(now > before)
    }
}

/// What readers look at.
struct Parts {
    catalog: crate::segment::Catalog,
    directory: Directory,
    index: Arc<Index>,
}

/// A segment in memory.
#[derive(Debug)]
enum Held {
    /// Where its writer has it.
    Writers(ImageFollower),
    /// As it was read from its file.
    Own(ImageWriter),
}

impl Held {
    /// Memory of one's own for a segment that begins so.
    fn own(retired: &mut RetiredImages, header: &SegmentHeader, existing: &[u8]) -> Result<Held, OpenError> {
        let segment_bytes = header.segment_bytes.get();
        let image = retired.again(segment_bytes, None).map_or_else(|| Image::create(segment_bytes as usize, None), Ok);
        let mut image = image.map_err(|source| OpenError::io(format!("holding {}", file_name(header.number.get())))(source))?;
        image.place(existing.len(), |room| room.copy_from_slice(existing));
        Ok(Held::Own(image))
    }

    fn image(&self) -> &Arc<Image> {
        match self {
            Held::Writers(image) => image.image(),
            Held::Own(image) => image.image(),
        }
    }

    /// The next bytes, which are there, and were not placed.
    fn ahead(&mut self, count: usize) -> &[u8] {
        match self {
            Held::Writers(image) => image.ahead(count),
            Held::Own(image) => image.room(count),
        }
    }

    /// Lets readers see them.
    fn place(&mut self, count: usize) {
        match self {
            Held::Writers(image) => image.place(count),
            Held::Own(image) => image.place(count, |_| ()),
        }
    }
}

impl Follower {
    fn new(recovered: Recovered, disk: &Arc<dyn Disk>, directory: &Path) -> (Follower, Parts) {
        let log_id = recovered.log_id;
        let LastSegment { file, header, end, .. } = &recovered.last;
        let (file, header, end) = (Arc::clone(file), *header, *end);
        let index = Arc::clone(&recovered.index);
        let (scan, catalog, mut readers) = Scan::resume(recovered);
        readers.set_taken_to(scan.next_position());
        let (disk, directory) = (Arc::clone(disk), directory.to_owned());
        file.read_no_further();
        let live = LiveReader::new(&*disk, log_id);
        let follower = Follower {
            disk,
            directory,
            log_id,
            scan,
            header,
            file,
            end,
            live,
            held: None,
            refused: None,
            retired: RetiredImages::default(),
        };
        (follower, Parts { catalog, directory: readers, index })
    }

    /// Reads the store anew, as if it were opened now.
    fn begin_again(&mut self, shared: &Shared) -> Result<(), OpenError> {
        let recovered = recover(&self.disk, &self.directory, Access::Read)?;
        if recovered.log_id != self.log_id || recovered.next_position < shared.watermark() {
            return Err(self.irregular("the store does not continue what was read of it"));
        }
        let (follower, parts) = Follower::new(recovered, &self.disk, &self.directory);
        *self = follower;
        *write(&shared.directory) = parts.directory;
        shared.change_catalog(|catalog| *catalog = parts.catalog);
        shared.index.adopt_from(&parts.index);
        shared.indexed_to.store(shared.index.runs().end(), Ordering::Release);
        Ok(())
    }

    fn irregular(&self, why: &'static str) -> OpenError {
        let name = file_name(self.header.number.get());
        OpenError::Damaged(Fault::new(FaultKind::Tampered, name, self.end, Violation { rule: "S6", why }))
    }

    fn unreadable(&self, source: io::Error) -> OpenError {
        OpenError::io(format!("reading {}", file_name(self.header.number.get())))(source)
    }

    /// Reads on so far, or as far as there is anything.
    fn advance(&mut self, shared: &Shared, reach: Reach) -> Result<(), OpenError> {
        while self.scan.next_position() < reach.position && (self.read_on(shared, reach)? || self.step_over(shared, reach)?) {}
        Ok(())
    }

    /// Has the last segment in memory, with what was read of it: in its writer's as soon as that can be had, else in memory of its own.
    fn hold(&mut self, shared: &Shared, reach: Reach) -> Result<(), OpenError> {
        let is_offered = reach.segment == self.header.number.get() && reach.memory.is_some() && reach.memory != self.refused;
        if self.held.as_ref().is_some_and(|held| matches!(held, Held::Writers(_)) || !is_offered) {
            return Ok(());
        }
        let catalog = shared.catalog();
        let read = catalog.segment(catalog.len() - 1).read(0, self.end)?;
        let existing = &read[..self.end as usize];
        match self.writers_memory(&self.header, existing, reach) {
            Some(image) => self.show(shared, Held::Writers(image)),
            None => {
                self.refused = reach.memory;
                if self.held.is_none() {
                    let own = Held::own(&mut self.retired, &self.header, existing)?;
                    self.show(shared, own);
                }
            }
        }
        Ok(())
    }

    /// Goes on without the writer's memory: what should be there is not.
    fn let_go(&mut self, shared: &Shared, reach: Reach) -> Result<(), OpenError> {
        self.refused = reach.memory;
        let held = self.held.as_ref().expect("it was held");
        let own = Held::own(&mut self.retired, &self.header, held.image().placed())?;
        self.show(shared, own);
        Ok(())
    }

    /// Lets readers look at the last segment where it is held by now.
    fn show(&mut self, shared: &Shared, held: Held) {
        shared.change_catalog(|catalog| {
            let offsets = catalog.segment(catalog.len() - 1).offsets();
            catalog.replace_last(Arc::new(Segment::live(&self.header, Arc::clone(held.image()), offsets)));
        });
        self.replace_held(held);
    }

    fn replace_held(&mut self, held: Held) {
        if let Some(Held::Own(old)) = self.held.replace(held) {
            self.retired.push(Arc::clone(old.image()));
        }
    }

    /// The memory in which a segment is written that begins so, if that is the one that the live mark names.
    fn writers_memory(&self, header: &SegmentHeader, existing: &[u8], reach: Reach) -> Option<ImageFollower> {
        let address = reach.memory.filter(|_| reach.segment == header.number.get())?;
        ImageFollower::open(self.disk.open_memory(address)?, header.segment_bytes.get(), existing)
    }

    /// Takes in commits of the last segment, so far at most. `false` if there are none that are whole.
    fn read_on(&mut self, shared: &Shared, reach: Reach) -> Result<bool, OpenError> {
        self.hold(shared, reach)?;
        let is_named = reach.segment == self.header.number.get();
        let segment_bytes = self.header.segment_bytes.get();
        // What is behind the end is not asked for: pages of it in the cache would be in the writer's way.
        let to = if is_named { reach.end } else { self.file.bytes().map_err(|source| self.unreadable(source))? }.min(segment_bytes);
        let bytes = to.saturating_sub(self.end);
        if let Some(Held::Writers(_)) = self.held {
            // Where it ends is known only of the one that is named.
            let is_something = bytes > 0 && self.take_in(shared, bytes, reach.position)?;
            if is_something || bytes == 0 || !is_named {
                return Ok(is_something);
            }
            self.let_go(shared, reach)?;
        }
        let mut window = WINDOW_BYTES;
        loop {
            let bytes = bytes.min(window);
            let Some(Held::Own(image)) = &mut self.held else { unreachable!("it is held, and not in the writer's memory") };
            match self.file.read_exact_at(image.room(bytes as usize), self.end) {
                // It has ended meanwhile, and what was reserved of it was given back.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read.map_err(|source| self.unreadable(source))?,
            }
            if self.take_in(shared, bytes, reach.position)? {
                return Ok(true);
            }
            if bytes < window {
                return Ok(false);
            }
            window *= 4;
        }
    }

    /// Takes in the commits that are whole of so many bytes that lie ahead in memory. Whether there were any.
    fn take_in(&mut self, shared: &Shared, bytes: u64, to: u64) -> Result<bool, OpenError> {
        let held = self.held.as_mut().expect("there is something ahead in it");
        let mut cursor = Cursor::from_offset(held.ahead(bytes as usize), &self.header, self.end);
        let name = file_name(self.header.number.get());
        let mut offsets = Vec::new();
        while self.scan.next_position() < to
            && let Ok(commit) = cursor.next_commit()
        {
            self.scan.take_in(&name, &self.header, &commit, &mut offsets)?;
        }
        let end = cursor.offset();
        held.place((end - self.end) as usize);
        let catalog = shared.catalog();
        catalog.segment(catalog.len() - 1).add_offsets(&offsets);
        let is_something = end > self.end;
        self.end = end;
        Ok(is_something)
    }

    /// Goes on with the next segment, if there is one. What the last one holds up to the end that its successor names is read first.
    fn step_over(&mut self, shared: &Shared, reach: Reach) -> Result<bool, OpenError> {
        let number = self.header.number.get();
        let (file, header) = match open_segment(&*self.disk, number + 1, Access::Read) {
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let named_end = header.prev_end_offset.get();
        let whole = Reach { position: header.first_position.get(), segment: number, end: named_end, memory: None };
        while self.end < named_end && self.read_on(shared, whole)? {}
        if self.end != named_end {
            return Err(self.irregular("the segment does not end where its successor says"));
        }
        self.scan.end_segment(self.end);
        self.scan.check_lineage(&header)?;
        let name = file_name(number + 1);
        file.read_no_further();
        let mut start = vec![0; header.start() as usize];
        file.read_exact_at(&mut start, 0).map_err(OpenError::io(format!("reading {name}")))?;
        let held = match self.writers_memory(&header, &start, reach) {
            Some(image) => Held::Writers(image),
            None => Held::own(&mut self.retired, &header, &start)?,
        };
        let tables = Arc::clone(&shared.index) as Arc<dyn PositionTables>;
        let next_position = self.scan.next_position();
        let unread = Unread::new(Arc::clone(&self.disk), self.header, self.end, header.prev_footer_bytes.get(), next_position, tables);
        let ended = Arc::new(Segment::unread(&self.header, unread));
        let live = Arc::new(Segment::live(&header, Arc::clone(held.image()), Vec::new()));
        shared.change_catalog(|catalog| {
            catalog.replace_last(ended);
            catalog.push(live);
        });
        (self.file, self.header, self.end) = (file, header, header.start());
        self.refused = None;
        self.replace_held(held);
        if shared.index.adopt(number + 1) {
            shared.note_indexed();
            // What the writer has brought into the index need not be in memory here either.
            shared.begin_behind_index(&mut write(&shared.directory));
        }
        Ok(true)
    }
}
