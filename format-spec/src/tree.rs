//! The Merkle tree over the log (FORMAT.md section 7.5): RFC 6962 section 2.1, with links as its leaf hashes.
//!
//! Nothing here stores a tree. Who asks for a root or a proof hands in where hashes of complete subtrees are to be had ([`Subtrees`]); who only counts
//! leaves as they come keeps a [`Frontier`], a handful of hashes.

use sha2::{Digest, Sha256};

use crate::hash::Hash;
use crate::ids::Link;
use crate::limits::BUCKET_COUNT;
use crate::two_blocks::{self, Message};

/// Levels of the tree over heads: 4096 entries are a complete tree.
pub const HEADS_LEVELS: usize = BUCKET_COUNT.trailing_zeros() as usize;

/// `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node(left: &Hash, right: &Hash) -> Hash {
    two_blocks::one(&message(left, right))
}

/// Two of them, in half the time.
fn node_two(pairs: [[&Hash; 2]; 2]) -> [Hash; 2] {
    let messages = pairs.map(|[left, right]| message(left, right));
    two_blocks::two([&messages[0], &messages[1]])
}

/// What a node is the hash of.
fn message(left: &Hash, right: &Hash) -> Message {
    let mut message = two_blocks::padding(2 * size_of::<Hash>());
    let node = message.as_flattened_mut();
    node[0] = 1;
    node[1..33].copy_from_slice(left);
    node[33..65].copy_from_slice(right);
    message
}

/// Root of a tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Root of a tree that is complete, over these leaves.
///
/// # Panics
/// If their number is not a power of two.
#[must_use]
pub fn complete(mut leaves: Vec<Hash>) -> Hash {
    assert!(leaves.len().is_power_of_two(), "a tree of {} leaves is not complete", leaves.len());
    // Level by level, each into the beginning of the one below.
    while leaves.len() > 2 {
        let above = leaves.len() / 2;
        for at in (0..above).step_by(2) {
            let [a, b, c, d] = leaves[2 * at..].first_chunk().expect("four of them, or more");
            let nodes = node_two([[a, b], [c, d]]);
            leaves[at..at + 2].copy_from_slice(&nodes);
        }
        leaves.truncate(above);
    }
    match &leaves[..] {
        [left, right] => node(left, right),
        leaves => leaves[0],
    }
}

/// The peaks of a tree that grows at its end: what is needed to go on and to tell its root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees, the largest first; one for every bit that is set in `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// A tree without leaves.
    #[must_use]
    pub fn new() -> Frontier {
        Frontier::default()
    }

    /// Leaves taken in.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees it is made of, the largest first: what a frontier is gone on from later.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// A frontier of that size with these peaks; `None` if their number is not the size's.
    #[must_use]
    pub fn of_peaks(size: u64, peaks: Vec<Hash>) -> Option<Frontier> {
        (peaks.len() == size.count_ones() as usize).then_some(Frontier { size, peaks })
    }

    /// Takes in the next leaf.
    pub fn push(&mut self, leaf: &Link) {
        self.push_subtree(0, leaf.0);
    }

    /// Takes in the next `2^level` leaves by the root over them.
    ///
    /// # Panics
    /// If the leaves before it do not end where such a subtree begins.
    pub fn push_subtree(&mut self, level: u32, root: Hash) {
        assert!(self.size.is_multiple_of(1 << level), "a subtree begins at a multiple of its size");
        let mut carried = root;
        for _ in 0..(self.size >> level).trailing_ones() {
            let left = self.peaks.pop().expect("one for every bit that is set");
            carried = node(&left, &carried);
        }
        self.peaks.push(carried);
        self.size += 1 << level;
    }

    /// Root over all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// Where hashes of complete subtrees are to be had.
pub trait Subtrees {
    /// Why one is not.
    type Error;

    /// Root over the leaves `index * 2^level .. (index + 1) * 2^level`, all of which exist.
    ///
    /// # Errors
    /// What the place they are kept at says.
    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Root of the tree over the first `size` leaves.
///
/// # Errors
/// Those of the subtrees.
pub fn root<S: Subtrees>(subtrees: &S, size: u64) -> Result<Hash, S::Error> {
    if size == 0 { Ok(empty_root()) } else { range(subtrees, 0, size) }
}

/// Proof that the leaf at `index` is in the tree over the first `size` leaves, from the leaf to the root (RFC 6962 section 2.1.1).
///
/// # Panics
/// If `index` is not below `size`.
///
/// # Errors
/// Those of the subtrees.
pub fn inclusion<S: Subtrees>(subtrees: &S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    assert!(index < size, "a leaf of the tree");
    let mut path = Vec::new();
    let (mut first, mut end) = (0, size);
    // From the root down; the proof is read the other way.
    while end - first > 1 {
        let middle = first + split(end - first);
        if index < middle {
            path.push(range(subtrees, middle, end)?);
            end = middle;
        } else {
            path.push(range(subtrees, first, middle)?);
            first = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Proof that the tree over the first `size` leaves goes on from the one over the first `old` (RFC 6962 section 2.1.2). Empty if `old` is 0 or `size`.
///
/// # Panics
/// If `old` is larger than `size`.
///
/// # Errors
/// Those of the subtrees.
pub fn consistency<S: Subtrees>(subtrees: &S, old: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    assert!(old <= size, "a tree grows");
    if old == 0 || old == size {
        return Ok(Vec::new());
    }
    let mut path = Vec::new();
    let (mut first, mut end) = (0, size);
    while end > old {
        let middle = first + split(end - first);
        if old <= middle {
            path.push(range(subtrees, middle, end)?);
            end = middle;
        } else {
            path.push(range(subtrees, first, middle)?);
            first = middle;
        }
    }
    // What is left is a complete subtree of both trees; if it is the whole old one, whoever checks has its root.
    if first > 0 {
        path.push(range(subtrees, first, old)?);
    }
    path.reverse();
    Ok(path)
}

/// Root over the leaves of a range that is a node of some tree: it begins at a multiple of the next power of two.
fn range<S: Subtrees>(subtrees: &S, first: u64, end: u64) -> Result<Hash, S::Error> {
    let count = end - first;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return subtrees.subtree(level, first >> level);
    }
    let middle = first + split(count);
    Ok(node(&range(subtrees, first, middle)?, &range(subtrees, middle, end)?))
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Root that an inclusion proof leads to from a leaf (RFC 9162 section 2.1.3.2); `None` if it has another length than it must have.
#[must_use]
pub fn root_by_inclusion(leaf: &Link, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    let (mut at, mut last, mut root) = (index, size.checked_sub(1)?, leaf.0);
    for hash in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node(hash, &root);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            root = node(&root, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0 && index < size).then_some(root)
}

/// Roots of the old and of the new tree that a consistency proof leads to (RFC 9162 section 2.1.4.2), for sizes `0 < old < size`; `None` if it has another
/// length than it must have.
#[must_use]
pub fn roots_by_consistency(old: u64, old_root: &Hash, size: u64, path: &[Hash]) -> Option<(Hash, Hash)> {
    let mut rest = path.iter();
    let first = if old.is_power_of_two() { old_root } else { rest.next()? };
    let (mut at, mut last) = (old.checked_sub(1)?, size.checked_sub(1)?);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_seen, mut new_seen) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            (old_seen, new_seen) = (node(hash, &old_seen), node(hash, &new_seen));
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_seen = node(&new_seen, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some((old_seen, new_seen))
}

/// The tree over the heads of all buckets (FORMAT.md section 7.4), of which only what changes is hashed again.
#[derive(Debug, Clone)]
pub struct HeadsTree {
    /// Events in each bucket, and its last link.
    heads: Vec<(u64, Link)>,
    /// Level by level from the entries on: 4096, 2048, ... 1.
    levels: Vec<Vec<Hash>>,
    /// Entries that were set since the nodes above them were made.
    changed: Vec<bool>,
}

impl HeadsTree {
    /// The tree of a log without events.
    #[must_use]
    pub fn new(log_id: Link) -> HeadsTree {
        HeadsTree::of(|_| (0, log_id))
    }

    /// The tree over these heads: events in the bucket, and its last link.
    #[must_use]
    pub fn of(head: impl Fn(u16) -> (u64, Link)) -> HeadsTree {
        HeadsTree {
            heads: (0..BUCKET_COUNT).map(head).collect(),
            levels: (0..=HEADS_LEVELS).map(|level| vec![[0; 32]; usize::from(BUCKET_COUNT) >> level]).collect(),
            changed: vec![true; BUCKET_COUNT.into()],
        }
    }

    /// Events in a bucket, and its last link.
    #[must_use]
    pub fn head(&self, bucket: u16) -> (u64, Link) {
        self.heads[usize::from(bucket)]
    }

    /// Takes an event into its bucket. Nothing is hashed before somebody asks for the root.
    pub fn advance(&mut self, bucket: u16, link: Link) {
        let head = &mut self.heads[usize::from(bucket)];
        *head = (head.0 + 1, link);
        self.changed[usize::from(bucket)] = true;
    }

    /// Root over all heads.
    pub fn root(&mut self) -> Hash {
        let mut changed = std::mem::replace(&mut self.changed, vec![false; BUCKET_COUNT.into()]);
        for (bucket, _) in (0..BUCKET_COUNT).zip(&changed).filter(|(_, changed)| **changed) {
            let (events, link) = self.heads[usize::from(bucket)];
            self.levels[0][usize::from(bucket)] = head_entry(bucket, events, &link);
        }
        for level in 1..=HEADS_LEVELS {
            changed = changed.chunks_exact(2).map(|pair| pair[0] || pair[1]).collect();
            let (below, above) = self.levels.split_at_mut(level);
            let pair = |node: usize| [&below[level - 1][2 * node], &below[level - 1][2 * node + 1]];
            let mut nodes = (0..changed.len()).filter(|node| changed[*node]);
            while let Some(first) = nodes.next() {
                // Without a second, the first takes its place.
                let second = nodes.next().unwrap_or(first);
                let hashes = node_two([pair(first), pair(second)]);
                (above[0][first], above[0][second]) = (hashes[0], hashes[1]);
            }
        }
        self.levels[HEADS_LEVELS][0]
    }

    /// Proof that a bucket's entry is under [`HeadsTree::root`], from the entry to the root.
    pub fn path(&mut self, bucket: u16) -> Vec<Hash> {
        self.root();
        (0..HEADS_LEVELS).map(|level| self.levels[level][(usize::from(bucket) >> level) ^ 1]).collect()
    }
}

/// Leaf hash of a bucket's head: `SHA-256(0x00 || u16 bucket || u64 events || link)`.
#[must_use]
pub fn head_entry(bucket: u16, events: u64, link: &Link) -> Hash {
    let mut entry = [0_u8; 43];
    entry[1..3].copy_from_slice(&bucket.to_le_bytes());
    entry[3..11].copy_from_slice(&events.to_le_bytes());
    entry[11..43].copy_from_slice(&link.0);
    Sha256::digest(entry).into()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    struct Leaves(Vec<Link>);

    impl Subtrees for Leaves {
        type Error = Infallible;

        fn subtree(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
            let first = (index << level) as usize;
            Ok(by_definition(&self.0[first..first + (1 << level)]))
        }
    }

    /// RFC 6962 section 2.1, as it is written there.
    fn by_definition(leaves: &[Link]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => leaf.0,
            leaves => {
                let mut k = 1;
                while 2 * k < leaves.len() {
                    k *= 2;
                }
                let (left, right) = leaves.split_at(k);
                Sha256::digest([&[1][..], &by_definition(left), &by_definition(right)].concat()).into()
            }
        }
    }

    fn leaves(count: u64) -> Vec<Link> {
        (0..count).map(|n| Link(Sha256::digest(n.to_le_bytes()).into())).collect()
    }

    #[test]
    fn the_frontier_has_the_root_of_the_definition() {
        let mut frontier = Frontier::new();
        let all = leaves(130);
        for size in 0..=all.len() {
            assert_eq!(frontier.root(), by_definition(&all[..size]), "{size} leaves");
            assert_eq!(root(&Leaves(all.clone()), size as u64), Ok(frontier.root()));
            all.get(size).into_iter().for_each(|leaf| frontier.push(leaf));
        }
    }

    #[test]
    fn complete_trees_have_the_root_of_the_definition() {
        let all = leaves(256);
        for level in 0..=8 {
            let some = &all[..1 << level];
            assert_eq!(complete(some.iter().map(|leaf| leaf.0).collect()), by_definition(some), "{level}");
        }
    }

    #[test]
    fn subtrees_count_as_their_leaves() {
        let all = leaves(29);
        let mut one = Frontier::new();
        all.iter().for_each(|leaf| one.push(leaf));
        let mut other = Frontier::new();
        other.push_subtree(3, by_definition(&all[..8]));
        other.push_subtree(3, by_definition(&all[8..16]));
        other.push_subtree(2, by_definition(&all[16..20]));
        all[20..].iter().for_each(|leaf| other.push(leaf));
        assert_eq!(one, other);
    }

    #[test]
    fn proofs_hold_by_the_procedures_of_rfc_9162() {
        let all = leaves(70);
        let tree = Leaves(all.clone());
        for size in 1..=70 {
            let whole = by_definition(&all[..size as usize]);
            for index in 0..size {
                let Ok(path) = inclusion(&tree, index, size);
                assert_eq!(root_by_inclusion(&all[index as usize], index, size, &path), Some(whole), "{index} of {size}");
                assert_ne!(root_by_inclusion(&Link([9; 32]), index, size, &path), Some(whole));
                assert_eq!(
                    root_by_inclusion(&all[index as usize], index, size, &[&path[..], &[whole]].concat()),
                    None,
                    "one hash too many"
                );
            }
            for old in 1..size {
                let Ok(path) = consistency(&tree, old, size);
                let before = by_definition(&all[..old as usize]);
                assert_eq!(roots_by_consistency(old, &before, size, &path), Some((before, whole)), "{old} to {size}");
                let mut other = path.clone();
                other[0][0] ^= 1;
                assert_ne!(roots_by_consistency(old, &before, size, &other), Some((before, whole)));
            }
        }
    }

    #[test]
    fn heads_are_hashed_again_where_they_change() {
        let log_id = Link([7; 32]);
        let mut tree = HeadsTree::new(log_id);
        let mut heads = vec![(0, log_id); BUCKET_COUNT.into()];
        let expected = |heads: &[(u64, Link)]| crate::hash::heads_root(|bucket| heads[usize::from(bucket)]);
        assert_eq!(tree.root(), expected(&heads));
        for (turn, bucket) in [0, 4095, 17, 17, 2048].into_iter().enumerate() {
            let (events, link) = (heads[usize::from(bucket)].0 + 1, Link([turn as u8; 32]));
            heads[usize::from(bucket)] = (events, link);
            tree.advance(bucket, link);
            let root = tree.root();
            assert_eq!((root, tree.head(bucket)), (expected(&heads), (events, link)));
            let entry = head_entry(bucket, events, &link);
            let path = tree.path(bucket);
            assert_eq!(root_by_inclusion(&Link(entry), bucket.into(), BUCKET_COUNT.into(), &path), Some(root));
        }
    }
}
