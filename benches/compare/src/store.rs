//! What a peer must do to take part.

use std::error::Error;
use std::path::Path;

/// Why a run could not be done.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What is appended.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its stream's number, for peers whose streams are numbers.
    pub stream_number: u64,
    /// Its stream's name, for the others.
    pub stream: String,
    pub body: Vec<u8>,
}

/// What an append means when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Survives a power cut.
    Durable,
    /// Handed to the operating system, where the store has that; as durable as ever otherwise.
    Written,
}

/// A store of events that many threads append to.
pub trait Store: Send + Sync {
    /// Appends the events together, and returns when they are as safe as was asked when the store was opened.
    fn append(&self, events: Vec<Event>) -> Result<(), Failure>;

    /// A way to hand in without waiting, where the store has one.
    fn pipeline(&self) -> Option<Box<dyn Pipeline + '_>> {
        None
    }

    /// Orderly end: the files are then what the store keeps.
    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}

/// One thread's requests under way.
pub trait Pipeline {
    /// Hands in one request.
    fn submit(&mut self, events: Vec<Event>) -> Result<(), Failure>;
    /// Waits until one more request than before is durable; they are counted in the order in which they were handed in.
    fn wait_one(&mut self) -> Result<(), Failure>;
}

/// How a peer is opened, and what it can do.
pub struct Peer {
    pub name: &'static str,
    /// Version of its crate.
    pub version: &'static str,
    /// Finds the events of one stream, or a condition on them, without reading everything.
    pub has_streams: bool,
    /// A weaker level than durable exists.
    pub has_written: bool,
    /// Requests can be handed in without waiting.
    pub has_pipeline: bool,
    /// Its own way lets waiting threads share a sync; without it, a group commit is put in front.
    pub has_group_commit: bool,
    pub open: Open,
}

/// Opens a new store in an empty directory.
pub type Open = fn(&Path, Level) -> Result<Box<dyn Store>, Failure>;
