//! One simulated file: what the device has, what the cache shows, and what is on its way from one to the other.
//!
//! Always: `pending`, applied to `durable` in order, gives what the cache shows, but for what a failed sync or a misdirected write took away.

use std::ops::Range;

use chainring_format::limits::SECTOR_BYTES;

const SECTOR: u64 = SECTOR_BYTES as u64;

/// A change that is not durable yet.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// Its place in the order of all changes to the disk.
    pub(super) number: u64,
    change: Change,
    /// Part of this write of the queue, which no sync brings to the device.
    queued: Option<u64>,
}

#[derive(Debug, Clone)]
enum Change {
    Length(u64),
    /// A sector as the cache held it after a write: caches are written back whole.
    Sector {
        offset: u64,
        bytes: Box<[u8]>,
    },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// The name it had last, for traces.
    pub(super) label: String,
    pub(super) durable: Vec<u8>,
    pub(super) cached: Vec<u8>,
    pub(super) pending: Vec<Pending>,
    pub(super) unreadable: Vec<Range<u64>>,
    /// A page was made dirty while a part of it was written past the cache. As the kernel does, the next sync fails for it.
    pub(super) has_collided: bool,
}

/// What the cache holds together.
const PAGE_BYTES: u64 = 4096;

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(bytes) => content.resize(*bytes as usize, 0),
        Change::Sector { offset, bytes } => put(content, *offset, bytes),
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

/// Splits a write where sectors begin.
pub(super) fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let place = offset + at as u64;
        let count = ((SECTOR - place % SECTOR) as usize).min(bytes.len() - at);
        let chunk = &bytes[at..at + count];
        at += count;
        (count > 0).then_some((place, chunk))
    })
}

impl Inode {
    /// A file that is wholly on stable storage.
    pub(super) fn settled(label: &str, content: Vec<u8>, unreadable: Vec<Range<u64>>) -> Inode {
        Inode { label: label.to_owned(), durable: content.clone(), cached: content, pending: Vec::new(), unreadable, has_collided: false }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cached.len() as u64
    }

    pub(super) fn set_length(&mut self, number: u64, bytes: u64) {
        self.cached.resize(bytes as usize, 0);
        self.pending.push(Pending { number, change: Change::Length(bytes), queued: None });
    }

    /// Writes what lies within one sector.
    pub(super) fn write_sector(&mut self, number: u64, offset: u64, chunk: &[u8]) {
        let end = offset + chunk.len() as u64;
        if end > self.bytes() {
            // A length of its own: a failed sync takes bytes away, and not the length, which is in the file system's journal.
            self.set_length(number, end);
        }
        put(&mut self.cached, offset, chunk);
        let start = offset / SECTOR * SECTOR;
        let stop = (start + SECTOR).min(self.bytes());
        let bytes = self.cached[start as usize..stop as usize].into();
        self.pending.push(Pending { number, change: Change::Sector { offset: start, bytes }, queued: None });
    }

    /// Notes that the page of a place is made dirty.
    pub(super) fn soil(&mut self, place: u64) {
        let meets = |pending: &Pending| {
            let same_page = matches!(pending.change, Change::Sector { offset, .. } if offset / PAGE_BYTES == place / PAGE_BYTES);
            same_page && pending.queued.is_some()
        };
        self.has_collided |= self.pending.iter().any(meets);
    }

    /// Writes to the cache alone.
    pub(super) fn write_cached(&mut self, number: u64, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if end > self.bytes() {
            self.set_length(number, end);
        }
        put(&mut self.cached, offset, bytes);
    }

    /// Writes to the device behind the cache's back.
    pub(super) fn write_durable(&mut self, offset: u64, bytes: &[u8]) {
        put(&mut self.durable, offset, bytes);
    }

    pub(super) fn sync(&mut self) {
        let durable = &mut self.durable;
        self.pending.retain(|pending| {
            if pending.queued.is_none() {
                apply(durable, &pending.change);
            }
            pending.queued.is_some()
        });
    }

    /// As measured on ext4, xfs and btrfs: the pages are marked clean, so later syncs succeed and the bytes never reach the device, while the cache
    /// goes on showing them. Lengths stay on their way. `arrives` says which sectors got there before the failure.
    pub(super) fn fail_sync(&mut self, mut arrives: impl FnMut() -> bool) {
        let durable = &mut self.durable;
        self.pending.retain(|pending| {
            let stays = matches!(pending.change, Change::Length(_)) || pending.queued.is_some();
            if !stays && arrives() {
                apply(durable, &pending.change);
            }
            stays
        });
    }

    /// What a read finds when nothing is cached.
    pub(super) fn drop_cache(&mut self) {
        let queued: Vec<u64> = self.pending.iter().filter(|pending| pending.queued.is_some()).map(|pending| pending.number).collect();
        self.cached = self.survivor(|number| !queued.contains(&number));
    }

    /// Starts a write past the cache, within one sector: until it lands, the device may have it or not.
    pub(super) fn queue_sector(&mut self, number: u64, offset: u64, chunk: &[u8], write: u64) {
        self.pending.push(Pending { number, change: Change::Sector { offset, bytes: chunk.into() }, queued: Some(write) });
    }

    /// Ends a write past the cache; what becomes of its sectors is the caller's choice.
    pub(super) fn take_queued(&mut self, write: u64) -> Vec<(u64, Box<[u8]>)> {
        let (of_it, others) = std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.queued == Some(write));
        self.pending = others;
        let sector = |pending: Pending| match pending.change {
            Change::Sector { offset, bytes } => (offset, bytes),
            Change::Length(_) => unreachable!("lengths are not queued"),
        };
        Vec::into_iter(of_it).map(sector).collect()
    }

    /// Brings a sector to the device, past the cache: nothing older comes after it.
    pub(super) fn write_through(&mut self, place: u64, bytes: &[u8]) {
        let is_older =
            |pending: &Pending| matches!(pending.change, Change::Sector { offset, .. } if offset == place) && pending.queued.is_none();
        self.pending.retain(|pending| !is_older(pending));
        put(&mut self.durable, place, bytes);
        put(&mut self.cached, place, bytes);
    }

    /// The content if of the pending changes those survive that `keeps` names.
    pub(super) fn survivor(&self, mut keeps: impl FnMut(u64) -> bool) -> Vec<u8> {
        let mut content = self.durable.clone();
        for pending in &self.pending {
            if keeps(pending.number) {
                apply(&mut content, &pending.change);
            }
        }
        content
    }

    pub(super) fn is_readable(&self, range: Range<u64>) -> bool {
        self.unreadable.iter().all(|bad| bad.end <= range.start || range.end <= bad.start)
    }
}
