//! The yardstick: a file of frames with a CRC32C each, no index, no hash; group commit by leader and followers.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::store::{Event, Failure, Level, Peer, Pipeline, Store};

/// The file grows with every append.
pub const GROWING: Peer = Peer {
    name: "raw",
    version: "-",
    has_streams: false,
    has_written: true,
    has_pipeline: true,
    has_group_commit: true,
    open: |directory, level| Raw::open(directory, level, 0),
};

/// The file was written with zeros before, and is written over in circles: the best a file of this file system can do.
pub const PREPARED: Peer = Peer { name: "raw-prepared", open: |directory, level| Raw::open(directory, level, PREPARED_BYTES), ..GROWING };

const PREPARED_BYTES: u64 = 256 << 20;
const CHUNK_BYTES: usize = 1 << 20;

struct Raw {
    file: File,
    level: Level,
    prepared_bytes: u64,
    state: Mutex<State>,
    turns: [Condvar; 2],
}

#[derive(Default)]
struct State {
    gathering: Vec<u8>,
    spare: Vec<u8>,
    group: u64,
    done: u64,
    is_led: bool,
    end: u64,
    error: Option<String>,
}

impl Raw {
    fn open(directory: &Path, level: Level, prepared_bytes: u64) -> Result<Box<dyn Store>, Failure> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(directory.join("log"))?;
        for offset in (0..prepared_bytes).step_by(CHUNK_BYTES) {
            file.write_all_at(&[0; CHUNK_BYTES], offset)?;
        }
        file.sync_all()?;
        Ok(Box::new(Raw { file, level, prepared_bytes, state: Mutex::default(), turns: [Condvar::new(), Condvar::new()] }))
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts frames where the next group is gathered, and says which group that is.
    fn gather(&self, events: &[Event]) -> (MutexGuard<'_, State>, u64) {
        let mut frames = Vec::with_capacity(events.len() * 320);
        for event in events {
            let from = frames.len();
            frames.extend_from_slice(&[0; 4]);
            frames.extend_from_slice(&((event.stream.len() + event.body.len()) as u32).to_le_bytes());
            frames.extend_from_slice(event.stream.as_bytes());
            frames.extend_from_slice(&event.body);
            let sum = crc32c::crc32c(&frames[from + 4..]);
            frames[from..from + 4].copy_from_slice(&sum.to_le_bytes());
        }
        let mut state = self.locked();
        state.gathering.extend_from_slice(&frames);
        let group = state.group;
        (state, group)
    }

    fn wait<'s>(&'s self, mut state: MutexGuard<'s, State>, mine: u64) -> Result<(), Failure> {
        let turn = &self.turns[(mine % 2) as usize];
        while state.is_led && state.done <= mine {
            state = turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(error) = &state.error {
            return Err(error.clone().into());
        }
        if state.done > mine {
            return Ok(());
        }
        state.is_led = true;
        state.group += 1;
        let spare = std::mem::take(&mut state.spare);
        let mut group = std::mem::replace(&mut state.gathering, spare);
        let is_round = self.prepared_bytes > 0 && state.end + group.len() as u64 > self.prepared_bytes;
        let offset = if is_round { 0 } else { state.end };
        state.end = offset + group.len() as u64;
        drop(state);
        let outcome = self.file.write_all_at(&group, offset).and_then(|()| match self.level {
            Level::Durable => self.file.sync_data(),
            Level::Written => Ok(()),
        });
        group.clear();
        let mut state = self.locked();
        state.spare = group;
        state.is_led = false;
        state.done = mine + 1;
        state.error = outcome.err().map(|error| error.to_string());
        turn.notify_all();
        self.turns[((mine + 1) % 2) as usize].notify_one();
        state.error.clone().map_or(Ok(()), |error| Err(error.into()))
    }
}

impl Store for Raw {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        let (state, mine) = self.gather(&events);
        self.wait(state, mine)
    }

    fn pipeline(&self) -> Option<Box<dyn Pipeline + '_>> {
        Some(Box::new(Line { raw: self, groups: std::collections::VecDeque::new() }))
    }
}

struct Line<'r> {
    raw: &'r Raw,
    groups: std::collections::VecDeque<u64>,
}

impl Pipeline for Line<'_> {
    fn submit(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        let (state, group) = self.raw.gather(&events);
        drop(state);
        self.groups.push_back(group);
        Ok(())
    }

    fn wait_one(&mut self) -> Result<(), Failure> {
        let mine = self.groups.pop_front().ok_or("nothing is under way")?;
        self.raw.wait(self.raw.locked(), mine)
    }
}
