//! Event stores with tags and conditions instead of streams: one writer thread each, which shares syncs among those who wait.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use flume::{Receiver, Sender, unbounded};
use tephra::{EventType, SegmentConfig, SegmentSet, Tag, Tags, WriteCoordinator, WriteHandle, WriterConfig};
use tokio::sync::{mpsc, oneshot, watch};
use umadb_core::mvcc::{Mvcc, StorageOptions};
use umadb_core::writer_thread_blocking::writer_thread_blocking;
use umadb_core::writer_thread_request::WriterThreadRequest;
use umadb_dcb::{DcbEvent, DcbResult};

use crate::store::{Event, Failure, Level, Peer, Pipeline, Store};

pub const TEPHRA: Peer = Peer {
    name: "tephra",
    version: "0.4.1",
    has_streams: true,
    has_written: false,
    has_pipeline: true,
    has_group_commit: true,
    open: Tephra::open,
};

struct Tephra {
    coordinator: WriteCoordinator,
    handle: WriteHandle,
    event_type: EventType,
}

impl Tephra {
    fn open(directory: &Path, _: Level) -> Result<Box<dyn Store>, Failure> {
        // The size its README opens with.
        let set = SegmentSet::open(directory, SegmentConfig::new(256 << 20))?;
        let (coordinator, handle) = WriteCoordinator::start(set, WriterConfig::default())?;
        Ok(Box::new(Tephra { coordinator, handle, event_type: EventType::new("OrderPlaced")? }))
    }

    fn events(&self, events: Vec<Event>) -> Result<Vec<tephra::Event>, Failure> {
        let encode = |event: Event| -> Result<tephra::Event, Failure> {
            Ok(tephra::Event::new(&self.event_type, &Tags::new([Tag::new(event.stream)?])?, &event.body)?)
        };
        events.into_iter().map(encode).collect()
    }
}

impl Store for Tephra {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        self.handle.append(self.events(events)?, None)?;
        Ok(())
    }

    fn pipeline(&self) -> Option<Box<dyn Pipeline + '_>> {
        let (reply, answers) = unbounded();
        Some(Box::new(TephraLine { tephra: self, reply, answers }))
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        drop(self.handle);
        self.coordinator.shutdown();
        Ok(())
    }
}

type TephraAnswer = (u64, Result<tephra::PositionRange, tephra::AppendError>);

struct TephraLine<'t> {
    tephra: &'t Tephra,
    reply: Sender<TephraAnswer>,
    answers: Receiver<TephraAnswer>,
}

impl Pipeline for TephraLine<'_> {
    fn submit(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        Ok(self.tephra.handle.append_submit(self.tephra.events(events)?, None, 0, self.reply.clone())?)
    }

    fn wait_one(&mut self) -> Result<(), Failure> {
        self.answers.recv()?.1?;
        Ok(())
    }
}

pub const UMADB: Peer = Peer {
    name: "umadb",
    version: "0.7.8",
    has_streams: true,
    has_written: false,
    has_pipeline: true,
    has_group_commit: true,
    open: Uma::open,
};

struct Uma {
    requests: mpsc::Sender<WriterThreadRequest>,
    writer: thread::JoinHandle<()>,
}

impl Uma {
    /// As its server does it: a thread that writes, fed by a channel.
    fn open(directory: &Path, _: Level) -> Result<Box<dyn Store>, Failure> {
        let mvcc = Arc::new(Mvcc::new(false, StorageOptions::default().db_path(directory))?);
        let (requests, taken) = mpsc::channel(10_000);
        let (head, _) = watch::channel(None);
        let writer = thread::spawn(move || writer_thread_blocking(mvcc, taken, head, 2000));
        Ok(Box::new(Uma { requests, writer }))
    }

    fn submit(&self, events: Vec<Event>) -> Result<oneshot::Receiver<DcbResult<u64>>, Failure> {
        let (response_tx, answer) = oneshot::channel();
        let events = events
            .into_iter()
            .map(|event| DcbEvent {
                event_type: "OrderPlaced".into(),
                tags: vec![event.stream],
                data: event.body,
                uuid: None,
                metadata: Vec::new(),
            })
            .collect();
        let request = WriterThreadRequest::Append { events, condition: None, tracking_info: None, response_tx, cancel: None };
        self.requests.blocking_send(request).map_err(|_| "the writer is gone")?;
        Ok(answer)
    }
}

impl Store for Uma {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        self.submit(events)?.blocking_recv()??;
        Ok(())
    }

    fn pipeline(&self) -> Option<Box<dyn Pipeline + '_>> {
        Some(Box::new(UmaLine { uma: self, answers: VecDeque::new() }))
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.requests.blocking_send(WriterThreadRequest::Shutdown).map_err(|_| "the writer is gone")?;
        drop(self.requests);
        self.writer.join().map_err(|_| "the writer panicked".into())
    }
}

struct UmaLine<'u> {
    uma: &'u Uma,
    answers: VecDeque<oneshot::Receiver<DcbResult<u64>>>,
}

impl Pipeline for UmaLine<'_> {
    fn submit(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        self.answers.push_back(self.uma.submit(events)?);
        Ok(())
    }

    fn wait_one(&mut self) -> Result<(), Failure> {
        self.answers.pop_front().ok_or("nothing is under way")?.blocking_recv()??;
        Ok(())
    }
}
