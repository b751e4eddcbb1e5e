//! Where every stream and bucket stands: the state that the one writer decides on.
//!
//! Only the sequencer moves heads; readers look streams and ids up under a shared lock. Heads run ahead of the watermark, so a reader walks back
//! from a head to what it may see. All of it is rebuilt from the log at open.

use std::collections::HashMap;

use chainring_format::footer::BucketHead;
use chainring_format::hash::{Hash, heads_root};
use chainring_format::limits::{BUCKET_COUNT, ENGINE_LANE};
use chainring_format::{EventId, Link, StreamId};

/// Last event of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamHead {
    pub version: u64,
    pub position: u64,
    pub link: Link,
    /// Position of version 1, which holds the name.
    pub first_position: u64,
    /// Second half of the name's hash: tells two names with one id apart.
    pub name_rest: [u8; 16],
}

/// Streams and event ids.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub streams: HashMap<StreamId, StreamHead>,
    pub ids: HashMap<EventId, u64>,
}

/// Last record of a bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub count: u64,
    pub position: u64,
    pub link: Link,
}

/// Heads of all buckets and of the engine's lane.
#[derive(Debug)]
pub(crate) struct Buckets {
    heads: Vec<Option<Head>>,
}

impl Buckets {
    pub(crate) fn new() -> Buckets {
        Buckets { heads: vec![None; usize::from(ENGINE_LANE) + 1] }
    }

    pub(crate) fn get(&self, bucket: u16) -> Option<Head> {
        self.heads[usize::from(bucket)]
    }

    pub(crate) fn advance(&mut self, bucket: u16, position: u64, link: Link) {
        self.add(bucket, 1, position, link);
    }

    /// Takes in `count` records of a bucket at once; the last of them is at `position`.
    pub(crate) fn add(&mut self, bucket: u16, count: u64, position: u64, link: Link) {
        let head = &mut self.heads[usize::from(bucket)];
        *head = Some(Head { count: head.map_or(0, |head| head.count) + count, position, link });
    }

    /// Heads of the buckets that hold a record, as a footer lists them.
    pub(crate) fn list(&self) -> Vec<BucketHead> {
        let entry = |(bucket, head): (usize, &Option<Head>)| {
            head.map(|Head { count, position, link }| BucketHead { bucket: bucket as u16, count, position, link })
        };
        self.heads.iter().enumerate().filter_map(entry).collect()
    }

    /// Root over the heads of all 4096 buckets (FORMAT.md section 7.4).
    pub(crate) fn root(&self, log_id: Link) -> Hash {
        heads_root(|bucket| self.get(bucket).map_or((0, log_id), |head| (head.count, head.link)))
    }
}

const _: () = assert!(ENGINE_LANE == BUCKET_COUNT, "the engine's lane follows the buckets");

/// Second half of the hash whose first half is the stream id.
pub(crate) fn name_rest(name: &str) -> [u8; 16] {
    *chainring_format::hash::stream_name_hash(name).last_chunk().expect("32 bytes")
}
