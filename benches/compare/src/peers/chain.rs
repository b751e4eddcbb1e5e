//! Chainring, as it is used: links, digests and checksums cannot be switched off.

use std::collections::VecDeque;

use chainring::{Durability, Log, Options, Pending, Request};

use crate::store::{Event, Failure, Level, Peer, Pipeline, Store};

pub const PEER: Peer = Peer {
    name: "chainring",
    version: "0.1.0",
    has_streams: true,
    has_written: true,
    has_pipeline: true,
    has_group_commit: true,
    open: |directory, level| {
        let log = Options::new().open(directory.join("store"))?;
        let durability = if level == Level::Durable { Durability::Durable } else { Durability::Written };
        Ok(Box::new(Chain { log, durability }))
    },
};

struct Chain {
    log: Log,
    durability: Durability,
}

impl Chain {
    fn request(&self, mut events: Vec<Event>) -> Result<Request, Failure> {
        let mut made = chainring::Event::new("", "OrderPlaced");
        let request = if events.len() == 1 {
            let event = events.remove(0);
            (made.stream, made.body) = (event.stream, event.body);
            Request::event(made)
        } else {
            let mut batch = self.log.write_batch();
            for event in events {
                (made.stream, made.body) = (event.stream, event.body);
                batch.push(&made)?;
            }
            batch.into()
        };
        Ok(request.durability(self.durability))
    }
}

impl Store for Chain {
    fn append(&self, events: Vec<Event>) -> Result<(), Failure> {
        self.log.append(self.request(events)?)?;
        Ok(())
    }

    fn pipeline(&self) -> Option<Box<dyn Pipeline + '_>> {
        Some(Box::new(Line { chain: self, pending: VecDeque::new() }))
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.log.close()?)
    }
}

struct Line<'c> {
    chain: &'c Chain,
    pending: VecDeque<Pending>,
}

impl Pipeline for Line<'_> {
    fn submit(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        self.pending.push_back(self.chain.log.submit(self.chain.request(events)?)?);
        Ok(())
    }

    fn wait_one(&mut self) -> Result<(), Failure> {
        self.pending.pop_front().ok_or("nothing is under way")?.wait()?;
        Ok(())
    }
}
