//! Following the writer of a store from another process: reads on where it stopped, as far as the live mark says, over segments that end and begin.
//!
//! Always: what is shown was durable. Every commit is read with its checksums and continues the one before it, as when a store is opened; whether each event
//! continues its stream is looked at when somebody asks for a stream or an id (`catch_up`). Never: locks, or writes.

use std::io;
use std::path::{Path, PathBuf};

use chainring_format::segment::{SegmentHeader, file_name};
use chainring_format::{Link, Violation};

use super::live::{LiveReader, Reach};
use super::recover::{LastSegment, Recovered, Scan, recover};
use super::{Directory, Shared};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Fault, FaultKind, OpenError};
use crate::index::Index;
use crate::segment::{Cursor, Image, ImageWriter, PositionTables, RetiredImages, Segment, Unread, open_segment};
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
    image: Option<ImageWriter>,
    /// Whose memory may be used again as soon as nobody reads them.
    retired: RetiredImages,
}

impl Shared {
    /// What readers of a store share that was just read. What its writer, if there is one, has not made durable is not shown yet.
    pub(crate) fn following(recovered: Recovered, disk: &Arc<dyn Disk>, directory: &Path) -> Arc<Shared> {
        let (mut watermark, epoch) = (recovered.next_position, recovered.epoch);
        let (mut follower, parts) = Follower::new(recovered, disk, directory);
        let live = follower.live.read(&**disk).filter(|live| live.is_of_this_boot && live.epoch >= epoch);
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
        let follower = Follower { disk, directory, log_id, scan, header, file, end, live, image: None, retired: RetiredImages::default() };
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

    /// Reads on so far, or as far as there is anything.
    fn advance(&mut self, shared: &Shared, reach: Reach) -> Result<(), OpenError> {
        while self.scan.next_position() < reach.position && (self.read_on(shared, reach)? || self.step_over(shared)?) {}
        Ok(())
    }

    /// The image of the last segment, with what was read of it.
    fn image(&mut self, shared: &Shared) -> Result<&mut ImageWriter, OpenError> {
        let name = file_name(self.header.number.get());
        if self.image.is_none() {
            let mut image = Image::create(self.header.segment_bytes.get() as usize).map_err(OpenError::io(format!("holding {name}")))?;
            let catalog = shared.catalog();
            let read = catalog.segment(catalog.len() - 1);
            let existing = read.read(0, self.end)?;
            image.place(self.end as usize, |room| room.copy_from_slice(&existing[..room.len()]));
            let live = Arc::new(Segment::live(&self.header, Arc::clone(image.image()), read.offsets()));
            shared.change_catalog(|catalog| catalog.replace_last(live));
            self.image = Some(image);
        }
        Ok(self.image.as_mut().expect("it was just made"))
    }

    /// Takes in commits of the last segment, so far at most. `false` if there are none that are whole.
    fn read_on(&mut self, shared: &Shared, reach: Reach) -> Result<bool, OpenError> {
        let name = file_name(self.header.number.get());
        // What is behind the end is not asked for: pages of it in the cache would be in the writer's way.
        let to = if reach.segment == self.header.number.get() {
            reach.end
        } else {
            self.file.bytes().map_err(OpenError::io(format!("reading {name}")))?.min(self.header.segment_bytes.get())
        };
        let to = to.min(self.header.segment_bytes.get());
        self.image(shared)?;
        let mut window = WINDOW_BYTES;
        loop {
            let bytes = to.saturating_sub(self.end).min(window);
            let room = self.image.as_mut().expect("it was just made").room(bytes as usize);
            match self.file.read_exact_at(room, self.end) {
                // It has ended meanwhile, and what was reserved of it was given back.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read.map_err(OpenError::io(format!("reading {name}")))?,
            }
            if self.take_in(shared, &name, bytes as usize, reach.position)? {
                return Ok(true);
            }
            if bytes < window {
                return Ok(false);
            }
            window *= 4;
        }
    }

    /// Takes in the commits that are whole of what lies in the image's room. Whether there were any.
    fn take_in(&mut self, shared: &Shared, name: &str, bytes: usize, to: u64) -> Result<bool, OpenError> {
        let image = self.image.as_mut().expect("something was read into it");
        let mut cursor = Cursor::from_offset(image.room(bytes), &self.header, self.end);
        let mut offsets = Vec::new();
        while self.scan.next_position() < to
            && let Ok(commit) = cursor.next_commit()
        {
            self.scan.take_in(name, &self.header, &commit, &mut offsets)?;
        }
        let end = cursor.offset();
        image.place((end - self.end) as usize, |_| ());
        let catalog = shared.catalog();
        catalog.segment(catalog.len() - 1).add_offsets(&offsets);
        let is_something = end > self.end;
        self.end = end;
        Ok(is_something)
    }

    /// Goes on with the next segment, if there is one. What the last one holds up to the end that its successor names is read first.
    fn step_over(&mut self, shared: &Shared) -> Result<bool, OpenError> {
        let number = self.header.number.get();
        let (file, header) = match open_segment(&*self.disk, number + 1, Access::Read) {
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let named_end = header.prev_end_offset.get();
        let whole = Reach { position: header.first_position.get(), segment: number, end: named_end };
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
        let segment_bytes = header.segment_bytes.get();
        let again = self.retired.take_idle(segment_bytes).and_then(Image::again);
        let image = again.map_or_else(|| Image::create(segment_bytes as usize), Ok);
        let mut image = image.map_err(OpenError::io(format!("holding {name}")))?;
        image.place(start.len(), |room| room.copy_from_slice(&start));
        let tables = Arc::clone(&shared.index) as Arc<dyn PositionTables>;
        let next_position = self.scan.next_position();
        let unread = Unread::new(Arc::clone(&self.disk), self.header, self.end, header.prev_footer_bytes.get(), next_position, tables);
        let ended = Arc::new(Segment::unread(&self.header, unread));
        let live = Arc::new(Segment::live(&header, Arc::clone(image.image()), Vec::new()));
        shared.change_catalog(|catalog| {
            catalog.replace_last(ended);
            catalog.push(live);
        });
        (self.file, self.header, self.end) = (file, header, header.start());
        let old = self.image.replace(image);
        old.into_iter().for_each(|old| self.retired.push(Arc::clone(old.image())));
        if shared.index.adopt(number + 1) {
            shared.note_indexed();
            // What the writer has brought into the index need not be in memory here either.
            shared.begin_behind_index(&mut write(&shared.directory));
        }
        Ok(true)
    }
}
