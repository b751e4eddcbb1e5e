//! Where a verification begins that does not begin at the start: behind records that somebody vouches for by the root of the tree over them.
//!
//! The segment with the first record that nobody vouches for is verified from its beginning. Of what lies before it only links are read, and not even all of
//! them. Always: the records before it lead, together with its own, to the root that was vouched for; the heads of buckets are those its header is bound to.
//! The limit: that a stream has no later event than the one an event names as its predecessor, and that no earlier event has the same id, is asked of the
//! index, which is derived. Only a verification from the start shows that.

use chainring_format::hash::Hash;
use chainring_format::limits::{BUCKET_COUNT, ENGINE_LANE};
use chainring_format::tree::{Frontier, Subtrees};
use chainring_format::{EventId, Link, Position, StreamId};

use super::note::TreeHead;
use super::seal::last_seal;
use super::sealed::{BLOCK_LEAVES, BLOCK_LEVEL, Sealed};
use super::tree::{Tree, for_each_leaf};
use crate::disk::{Access, Disk, read_small};
use crate::error::{OpenError, ReadError};
use crate::log::Store;
use crate::query::{EventRef, View};
use crate::segment::Catalog;
use crate::sequencer::{Buckets, hex, with_check, without_check};

/// The file in which a verification leaves how far it came.
const FILE: &str = "verified";
const TITLE: &str = "chainring verified 1";
/// Longest such file that is read: a frontier has at most 64 peaks.
const FILE_BYTES_MAX: u64 = 8 << 10;

/// What an earlier verification found to hold. A memory of this place, not proof: whoever can write the log can write this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    pub log_id: Link,
    /// Records that hold, and their root.
    pub head: TreeHead,
    /// Link of the last of them.
    pub last: Link,
    /// When that was found, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The tree over the records before the segment that the next run begins with.
    pub before: Frontier,
}

impl Verified {
    fn encode(&self) -> String {
        let Verified { log_id, head, last, time_ns, before } = self;
        let mut text = format!("{TITLE}\nlog {log_id}\nsize {}\nroot {}\nlast {last}\ntime {time_ns}\n", head.size, Link(head.root));
        text.push_str(&format!("before {}\n", before.size()));
        before.peaks().iter().for_each(|peak| text.push_str(&format!("peak {}\n", Link(*peak))));
        with_check(&text)
    }

    fn parse(bytes: &[u8]) -> Option<Verified> {
        let mut lines = without_check(bytes)?.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        let log_id = Link(hex(value("log")?)?);
        let head = TreeHead { size: value("size")?.parse().ok()?, root: hex(value("root")?)? };
        let last = Link(hex(value("last")?)?);
        let time_ns = value("time")?.parse().ok()?;
        let size: u64 = value("before")?.parse().ok()?;
        let peaks = lines.map(|line| line.strip_prefix("peak ").and_then(hex)).collect::<Option<Vec<Hash>>>()?;
        let before = Frontier::of_peaks(size, peaks).filter(|before| head.size > 0 && before.size() <= head.size)?;
        Some(Verified { log_id, head, last, time_ns, before })
    }

    /// What is remembered of this log. What cannot be read is not remembered.
    pub(super) fn find(disk: &dyn Disk, log_id: Link) -> Option<Verified> {
        Verified::parse(&read_small(disk, FILE, FILE_BYTES_MAX)?).filter(|verified| verified.log_id == log_id)
    }

    /// Remembers nothing any more.
    pub(super) fn forget(disk: &dyn Disk) {
        let _ = disk.remove(FILE);
    }

    /// Leaves it for the next run. Not synced: without it more is verified than must be.
    pub(super) fn leave(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        let temporary = format!("{FILE}.tmp");
        let written = disk.create(&temporary).and_then(|file| file.write_all_at(self.encode().as_bytes(), 0));
        written.and_then(|()| disk.rename(&temporary, FILE)).map_err(OpenError::io("remembering how far it was verified"))
    }
}

/// The log before the segment that is verified first.
#[derive(Debug)]
pub(super) struct Earlier {
    store: Store,
    view: View,
    end: u64,
}

impl Earlier {
    /// The first `end` records of a store.
    pub(super) fn new(store: Store, end: u64) -> Earlier {
        Earlier { view: store.latest().up_to(Position(end)), store, end }
    }

    /// The last event of a stream there.
    pub(super) fn stream(&self, id: &StreamId) -> Result<Option<EventRef<'_>>, ReadError> {
        self.view.last_of(id)
    }

    pub(super) fn has_id(&self, id: &EventId) -> Result<bool, ReadError> {
        self.store.shared.has_id_below(id, self.end)
    }

    /// When its last record was recorded.
    pub(super) fn time_ns(&self) -> Result<u64, ReadError> {
        Ok(self.store.shared.catalog().frame(self.end - 1)?.header.recorded_at_ns.get())
    }

    pub(super) fn buckets(&self) -> Result<Buckets, ReadError> {
        self.store.buckets_at(&self.store.shared.catalog(), self.end)
    }

    /// What statements behind it go on from. `known` is the tree over it, if that is remembered.
    pub(super) fn sealed(&self, buckets: &Buckets, vouched: TreeHead, known: Option<&Frontier>) -> Result<Sealed, ReadError> {
        let catalog = self.store.shared.catalog();
        let tree = match known.filter(|known| known.size() == self.end) {
            Some(known) => known.clone(),
            None => self.frontier(&catalog, vouched)?,
        };
        let events = (0..BUCKET_COUNT).filter_map(|bucket| buckets.get(bucket)).map(|head| head.count).sum();
        let lane = buckets.get(ENGINE_LANE);
        let (seal, key) = lane.map_or(Ok((None, [0; 32])), |lane| last_seal(&catalog, lane.position))?;
        let seals = seal.map_or(0, |seal| seal.body.number.get());
        let (link, size) = seal.map_or(([0; 32], 0), |seal| (seal.link.0, seal.body.tree_size.get()));
        Ok(Sealed { tree, events, seals, last_seal: link, last_size: size, key, vouched: Some(vouched), is_without_tree: false })
    }

    fn frontier(&self, catalog: &Catalog, vouched: TreeHead) -> Result<Frontier, ReadError> {
        let tree = Tree::load(self.store.shared.index.disk(), Access::Read, catalog, Some((vouched.size, vouched.root)))?;
        let mut frontier = Frontier::new();
        if tree.size() >= self.end {
            let over = tree.over(catalog);
            for block in 0..self.end / BLOCK_LEAVES {
                frontier.push_subtree(BLOCK_LEVEL, over.subtree(BLOCK_LEVEL, block)?);
            }
        }
        for_each_leaf(catalog, frontier.size(), self.end, |leaf| frontier.push(&leaf.link))?;
        Ok(frontier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_verified_is_read_as_it_was_written() {
        let mut before = Frontier::new();
        (0..5).for_each(|n| before.push(&Link([n; 32])));
        let head = TreeHead { size: 9, root: [7; 32] };
        let verified = Verified { log_id: Link([1; 32]), head, last: Link([2; 32]), time_ns: 3, before };
        let text = verified.encode();
        assert_eq!(Verified::parse(text.as_bytes()), Some(verified.clone()));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            assert_eq!(Verified::parse(&changed), None, "byte {at}");
            assert_eq!(Verified::parse(&text.as_bytes()[..at]), None, "cut at {at}");
        }
        let small = Verified { head: TreeHead { size: 4, ..head }, ..verified };
        assert_eq!(Verified::parse(small.encode().as_bytes()), None, "the tree before is not larger than the whole");
    }
}
