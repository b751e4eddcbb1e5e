//! Links on their way from the leader, who has them at hand, to whoever seals: reading them from the log costs more than what is made of them.
//!
//! Nothing rests on it. What is not in the feed - it was full, or nobody wanted it yet - is read from the log.

use chainring_format::Link;
use chainring_format::limits::ENGINE_LANE;

use crate::sync::model::{Futex, Mutex, lock};
use crate::sync::{AtomicBool, Ordering};

/// Links that are kept at most: 4.5 MB.
const LINKS_MAX: usize = 1 << 17;
/// So many wake whoever takes them: while they are in the cache, and before there is no room.
const WAKING_LINKS: usize = LINKS_MAX / 2;

/// A record as the tree and the heads see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkedRecord {
    pub link: Link,
    /// Bucket of an event; `None` for the engine's own records.
    pub bucket: Option<u16>,
}

/// Leaves of consecutive records.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    /// Position of the first one.
    pub first: u64,
    pub leaves: Vec<LinkedRecord>,
}

impl Stretch {
    /// Position behind the last one.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }
}

#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// Somebody takes. Relaxed: seen late, some links are read from the log.
    is_wanted: AtomicBool,
    kept: Mutex<Stretch>,
    /// Moves when there is much to take. Whoever takes sleeps there.
    pub bell: Futex,
}

impl Feed {
    pub(crate) fn want(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
        if !is_wanted {
            *lock(&self.kept) = Stretch::default();
        }
    }

    /// Takes in the records of a commit, from a position on, before it is durable.
    pub(super) fn put(&self, first: u64, links: &[Link], buckets: &[u16]) {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut kept = lock(&self.kept);
        if kept.leaves.is_empty() {
            kept.first = first;
        }
        let before = kept.leaves.len();
        // Behind a hole, or more than there is room for: they are in the log.
        if kept.end() != first || before + links.len() > LINKS_MAX {
            return;
        }
        let leaf =
            |(link, bucket): (&Link, &u16)| LinkedRecord { link: *link, bucket: Some(*bucket).filter(|bucket| *bucket != ENGINE_LANE) };
        kept.leaves.extend(links.iter().zip(buckets).map(leaf));
        let is_much = before < WAKING_LINKS && kept.leaves.len() >= WAKING_LINKS;
        drop(kept);
        if is_much {
            self.bell.advance();
            self.bell.wake(1);
        }
    }

    /// Takes out what is there, in exchange for a stretch that is empty. Not all of it is durable.
    pub(crate) fn take(&self, into: &mut Stretch) {
        into.leaves.clear();
        std::mem::swap(&mut *lock(&self.kept), into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(count: usize) -> Vec<Link> {
        vec![Link([1; 32]); count]
    }

    #[test]
    fn what_has_no_room_leaves_a_hole_and_nothing_out_of_order() {
        let (feed, mut taken) = (Feed::default(), Stretch::default());
        feed.put(0, &links(3), &[1; 3]);
        feed.take(&mut taken);
        assert!(taken.leaves.is_empty(), "nobody wanted it");
        feed.want(true);
        feed.put(3, &links(2), &[ENGINE_LANE, 7]);
        feed.put(5, &links(1), &[8]);
        feed.take(&mut taken);
        assert_eq!((taken.first, taken.end()), (3, 6));
        assert_eq!(taken.leaves.iter().map(|leaf| leaf.bucket).collect::<Vec<_>>(), [None, Some(7), Some(8)]);
        feed.put(6, &links(LINKS_MAX - 1), &vec![1; LINKS_MAX - 1]);
        let full = 6 + LINKS_MAX as u64 - 1;
        feed.put(full, &links(2), &[1; 2]);
        feed.put(full + 2, &links(1), &[1]);
        feed.take(&mut taken);
        assert_eq!((taken.first, taken.end()), (6, full));
        feed.put(full + 3, &links(1), &[1]);
        feed.take(&mut taken);
        assert_eq!((taken.first, taken.end()), (full + 3, full + 4), "it goes on behind the hole");
    }
}
