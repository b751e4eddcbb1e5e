//! Projections: something made of all events, kept with the position up to which it was made, and made anew beside the old one.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use chainring_format::checksum::{crc, crc_append};
use chainring_format::{Link, Position};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::View;
use super::event::EventRef;
use super::scan::Events;
use crate::disk::{Access, Disk, PortableDisk};
use crate::error::ReadError;
use crate::log::Store;

/// What is made of events. The same events in the same order within every stream must make the same, whatever the order between streams.
pub trait Projection: Send {
    /// Takes an event in.
    ///
    /// # Errors
    /// What keeps it from being taken in; the projection is left where it was.
    fn apply(&mut self, event: &EventRef<'_>) -> Result<(), ReadError>;

    /// Takes in what another one made of other streams.
    fn merge(&mut self, other: Self);
}

/// Where a projection is kept. Bytes and place are stored together or not at all: a projection that has seen an event knows that it has.
pub trait Output {
    /// What was stored last; `None` if nothing was.
    ///
    /// # Errors
    /// Those of the place.
    fn load(&mut self) -> io::Result<Option<(Place, Vec<u8>)>>;

    /// Stores a projection and its place, both or neither.
    ///
    /// # Errors
    /// Those of the place. What was stored before is still there.
    fn store(&mut self, place: Place, bytes: &[u8]) -> io::Result<()>;
}

/// How far a projection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Position behind the last event that was taken in or passed over.
    pub next: Position,
    /// Link of the record before it: a projection of another history is not taken for one of this.
    pub link: Link,
}

/// How a projection is written down.
pub trait Encoding: Projection + Sized {
    /// Name and version of the projection: bytes of another one, or of an older version, are not read.
    const ID: &'static str;

    /// Before the first event.
    fn begin() -> Self;

    /// As bytes.
    fn encode(&self) -> Vec<u8>;

    /// From bytes; `None` if they are none, and then it is made anew.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// Why a projection cannot be brought up to date.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProjectionError {
    /// The log cannot be read, or an event cannot be taken in.
    Read(ReadError),
    /// It cannot be stored or loaded.
    Output(io::Error),
}

impl fmt::Display for ProjectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProjectionError::Read(error) => error.fmt(f),
            ProjectionError::Output(error) => write!(f, "the projection cannot be kept: {error}"),
        }
    }
}

impl std::error::Error for ProjectionError {}

impl From<ReadError> for ProjectionError {
    fn from(error: ReadError) -> ProjectionError {
        ProjectionError::Read(error)
    }
}

impl From<io::Error> for ProjectionError {
    fn from(error: io::Error) -> ProjectionError {
        ProjectionError::Output(error)
    }
}

/// A projection that is kept.
///
/// ```
/// # use chainring::{Encoding, Event, EventRef, FileOutput, Log, Projection, Projector, ReadError};
/// /// How many orders there are.
/// struct Orders(u64);
///
/// impl Projection for Orders {
///     fn apply(&mut self, event: &EventRef<'_>) -> Result<(), ReadError> {
///         self.0 += u64::from(event.event_type() == "OrderPlaced");
///         Ok(())
///     }
///
///     fn merge(&mut self, other: Orders) {
///         self.0 += other.0;
///     }
/// }
///
/// impl Encoding for Orders {
///     const ID: &'static str = "orders, version 1";
///
///     fn begin() -> Orders {
///         Orders(0)
///     }
///
///     fn encode(&self) -> Vec<u8> {
///         self.0.to_le_bytes().to_vec()
///     }
///
///     fn decode(bytes: &[u8]) -> Option<Orders> {
///         Some(Orders(u64::from_le_bytes(bytes.try_into().ok()?)))
///     }
/// }
///
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path().join("log"))?;
/// log.append(Event::new("order-1", "OrderPlaced"))?;
/// let mut orders: Projector<Orders, _> = Projector::open(FileOutput::new(directory.path(), "orders"))?;
/// assert_eq!(orders.catch_up(&log)?.0, 1);
/// log.append(Event::new("order-2", "OrderPlaced"))?;
/// // Another process, later: it goes on where it was.
/// let mut orders: Projector<Orders, _> = Projector::open(FileOutput::new(directory.path(), "orders"))?;
/// assert_eq!((orders.get().0, orders.catch_up(&log)?.0), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Projector<P, O> {
    projection: P,
    place: Option<Place>,
    output: O,
}

/// Events that are handed to a thread at a time.
const HANDED_OVER: usize = 1024;

impl<P: Encoding, O: Output> Projector<P, O> {
    /// What was kept, or the beginning.
    ///
    /// # Errors
    /// Those of the output.
    pub fn open(mut output: O) -> io::Result<Projector<P, O>> {
        let (projection, place) = kept(&mut output)?;
        Ok(Projector { projection, place, output })
    }

    /// As it is.
    pub fn get(&self) -> &P {
        &self.projection
    }

    /// How far it has come; `None` at the beginning.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// Takes in everything that has become durable, and keeps what came of it. One of another history begins anew.
    ///
    /// # Errors
    /// [`ProjectionError`]. Nothing that was not kept is shown after an error: it is as it was kept last.
    pub fn catch_up(&mut self, store: &Store) -> Result<&P, ProjectionError> {
        let view = store.latest();
        if !self.place.map_or(Ok(true), |place| is_of(&view, place))? {
            (self.projection, self.place) = (P::begin(), None);
        }
        let from = self.place.map_or(0, |place| place.next.0);
        if from == view.limit {
            return Ok(&self.projection);
        }
        let done = self.apply(&view, from);
        if done.is_err() {
            // What was half taken in is not what anybody asked for.
            (self.projection, self.place) = kept(&mut self.output)?;
        }
        done?;
        Ok(&self.projection)
    }

    fn apply(&mut self, view: &View, from: u64) -> Result<(), ProjectionError> {
        for event in Events::new(view, from, view.limit) {
            self.projection.apply(&event?)?;
        }
        self.keep(view)
    }

    fn keep(&mut self, view: &View) -> Result<(), ProjectionError> {
        let Some(last) = view.limit.checked_sub(1) else { return Ok(()) };
        let place = Place { next: Position(view.limit), link: view.record(last)?.link() };
        self.output.store(place, &[&id::<P>()[..], &self.projection.encode()].concat())?;
        self.place = Some(place);
        Ok(())
    }

    /// Makes it anew from the first event on, beside the one that is there, and puts it in its place when it is as far. One thread reads, `threads` take in,
    /// each the streams of its buckets, in their order.
    ///
    /// # Errors
    /// [`ProjectionError`]; the one that is there stays.
    pub fn rebuild(&mut self, store: &Store, threads: usize) -> Result<&P, ProjectionError> {
        let view = store.latest();
        let made = make::<P>(&view, threads.max(1))?;
        let before = std::mem::replace(&mut self.projection, made);
        if let Err(error) = self.keep(&view) {
            self.projection = before;
            return Err(error);
        }
        self.catch_up(store)
    }
}

/// What was kept of this projection, or its beginning.
fn kept<P: Encoding>(output: &mut impl Output) -> io::Result<(P, Option<Place>)> {
    let kept = output.load()?.and_then(|(place, bytes)| Some((P::decode(bytes.strip_prefix(&id::<P>()[..])?)?, Some(place))));
    Ok(kept.unwrap_or_else(|| (P::begin(), None)))
}

/// Whether a place is in this log.
fn is_of(view: &View, place: Place) -> Result<bool, ReadError> {
    match place.next.0.checked_sub(1).filter(|last| *last < view.limit) {
        Some(last) => Ok(view.record(last)?.link() == place.link),
        None => Ok(false),
    }
}

/// What stands before the bytes of a projection.
fn id<P: Encoding>() -> [u8; 32] {
    *blake3::hash(P::ID.as_bytes()).as_bytes()
}

fn make<P: Encoding>(view: &View, threads: usize) -> Result<P, ReadError> {
    std::thread::scope(|scope| {
        let mut workers = Vec::with_capacity(threads);
        for _ in 0..threads {
            let (sender, receiver) = sync_channel::<Vec<EventRef<'_>>>(4);
            let worker = scope.spawn(move || {
                let mut part = P::begin();
                receiver.into_iter().flatten().try_for_each(|event| part.apply(&event)).map(|()| part)
            });
            workers.push((sender, Vec::with_capacity(HANDED_OVER), worker));
        }
        let mut read = Ok(());
        for event in Events::new(view, 0, view.limit) {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    read = Err(error);
                    break;
                }
            };
            // A stream is in one bucket, and a bucket with one thread.
            let (sender, events, _) = &mut workers[usize::from(event.stream_id().bucket()) % threads];
            events.push(event);
            if events.len() == HANDED_OVER && sender.send(std::mem::replace(events, Vec::with_capacity(HANDED_OVER))).is_err() {
                // It has failed, and says so below.
                break;
            }
        }
        let mut made: Option<P> = None;
        let mut failed = None;
        for (sender, events, worker) in workers {
            let _ = sender.send(events);
            drop(sender);
            match worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                Ok(part) => match &mut made {
                    Some(made) => made.merge(part),
                    None => made = Some(part),
                },
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        read?;
        failed.map_or_else(|| Ok(made.unwrap_or_else(P::begin)), Err)
    })
}

const MAGIC: u32 = 0xF150_4A50;

/// What stands before the bytes of a projection in its file.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: U32,
    /// Over what follows of the header, and the bytes.
    crc: U32,
    next: U64,
    link: [u8; 32],
}

impl Header {
    fn sum(&self, bytes: &[u8]) -> u32 {
        crc_append(crc(&self.as_bytes()[8..]), bytes)
    }
}

/// A projection in a file, which is replaced as a whole: for outputs that fit into memory.
#[derive(Debug)]
pub struct FileOutput {
    disk: PortableDisk,
    name: String,
}

impl FileOutput {
    /// In the file of this name in a directory that is there; the file need not be.
    #[must_use]
    pub fn new(directory: impl AsRef<Path>, name: impl Into<String>) -> FileOutput {
        FileOutput { disk: PortableDisk::new(directory.as_ref()), name: name.into() }
    }
}

impl Output for FileOutput {
    /// A file that does not hold what it should counts as none.
    fn load(&mut self) -> io::Result<Option<(Place, Vec<u8>)>> {
        let file = match self.disk.open(&self.name, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = vec![0; usize::try_from(file.bytes()?).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        let Ok((header, rest)) = Header::read_from_prefix(&bytes) else { return Ok(None) };
        let place = Place { next: Position(header.next.get()), link: Link(header.link) };
        Ok((header.magic.get() == MAGIC && header.crc.get() == header.sum(rest)).then(|| (place, rest.to_vec())))
    }

    fn store(&mut self, place: Place, bytes: &[u8]) -> io::Result<()> {
        let mut header = Header { magic: MAGIC.into(), crc: 0.into(), next: place.next.0.into(), link: place.link.0 };
        header.crc = header.sum(bytes).into();
        let beside = format!("{}.new", self.name);
        // Left behind by somebody who did not get so far.
        match self.disk.remove(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.create(&beside)?;
        file.write_all_at(&[header.as_bytes(), bytes].concat(), 0)?;
        file.sync_all()?;
        self.disk.rename(&beside, &self.name)?;
        self.disk.sync_directory()
    }
}
