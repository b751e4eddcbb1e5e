//! Heads and ids of a store that another process writes: taken in when somebody asks for a stream or an id. Who only follows never does.

use super::Shared;
use super::heads::{Directory, STRETCH};
use crate::error::ReadError;
use crate::segment::Frames;
use crate::sync::{RwLockReadGuard, read, write};

/// Memory for heads of streams that the index knows.
const HEADS_BYTES_MAX: u64 = 256 << 20;

impl Shared {
    /// The directory, with everything that is durable by now.
    ///
    /// # Errors
    /// Of a store that another process writes: damage, or an error of the device, met on the way there.
    pub(crate) fn directory(&self) -> Result<RwLockReadGuard<'_, Directory>, ReadError> {
        let watermark = self.watermark();
        loop {
            let directory = read(&self.directory);
            if directory.taken_to() >= watermark {
                return Ok(directory);
            }
            drop(directory);
            self.catch_up(&mut write(&self.directory), watermark)?;
        }
    }

    /// Streams of the whole log; where not all of it can be taken in, as far as it was.
    pub(crate) fn stream_count(&self) -> u64 {
        self.directory().unwrap_or_else(|_| read(&self.directory)).stream_count()
    }

    /// Takes in every record below `to`, which are in the catalog; begins behind what the index knows.
    fn catch_up(&self, directory: &mut Directory, to: u64) -> Result<(), ReadError> {
        self.begin_behind_index(directory);
        let catalog = self.catalog();
        let mut position = directory.taken_to();
        let mut frames = Frames::new(&catalog, position);
        let mut stretch = Vec::with_capacity(STRETCH);
        while position < to {
            let segment = catalog.index_of(position);
            if position == catalog.segment(segment).first_position {
                directory.begin_segment(position);
            }
            let end = to.min(catalog.end_of(segment)).min(position + STRETCH as u64);
            stretch.clear();
            for _ in position..end {
                stretch.push(frames.next_frame()?);
            }
            directory.touch_all(stretch.iter());
            for frame in &stretch {
                directory.take_in(position, frame).map_err(|violation| catalog.damaged(position, violation))?;
                position += 1;
                directory.set_taken_to(position);
            }
        }
        drop(directory.forget(self.indexed_to(), position, HEADS_BYTES_MAX));
        Ok(())
    }

    /// Begins anew where the index ends, if not everything up to there was taken in: what is below is the index's.
    pub(super) fn begin_behind_index(&self, directory: &mut Directory) {
        let runs = self.index.runs();
        if directory.taken_to() < runs.end() {
            *directory = Directory::new(runs.end(), runs.summaries().map(|summary| summary.streams).sum(), 0);
            directory.set_taken_to(runs.end());
        }
    }
}
