//! The RFC 6962 tree of FORMAT.md section 7.6: its root while it grows, and the proofs of RFC 9162 sections 2.1.3.2 and 2.1.4.2.
//!
//! Always: a proof must have exactly the hashes it needs; one too many fails like one too few.

use sha2::{Digest, Sha256};

use crate::bytes::Hash;

/// `SHA-256(0x01 || left || right)`.
pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

/// A tree that leaves are added to.
#[derive(Default)]
pub(crate) struct Growing {
    size: u64,
    /// One complete subtree for every bit of `size`, the largest first.
    complete: Vec<Hash>,
}

impl Growing {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn add(&mut self, leaf: &Hash) {
        let mut hash = *leaf;
        let mut full = self.size;
        while full & 1 == 1 {
            if let Some(left) = self.complete.pop() {
                hash = node(&left, &hash);
            }
            full >>= 1;
        }
        self.complete.push(hash);
        self.size += 1;
    }

    pub(crate) fn root(&self) -> Hash {
        let mut from_right = self.complete.iter().rev();
        match from_right.next() {
            None => Sha256::digest([]).into(),
            Some(last) => from_right.fold(*last, |right, left| node(left, &right)),
        }
    }
}

/// The root that an inclusion proof for the leaf at `index` leads to; `None` if the proof has not the length it must have.
pub(crate) fn root_of_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut index, mut last, mut root) = (index, size - 1, *leaf);
    for hash in proof {
        if last == 0 {
            return None;
        }
        if index & 1 == 1 || index == last {
            root = node(hash, &root);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            root = node(&root, hash);
        }
        index >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

/// Whether a tree of `size` leaves with `root` begins with the tree of `old` leaves with `old_root`.
pub(crate) fn is_consistent(old: u64, old_root: &Hash, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    if old == 0 || old > size {
        // A checkpoint of no records says nothing, and nobody publishes one.
        return false;
    }
    let mut hashes = proof.iter();
    // The old tree is a subtree of the new one, and whoever checks has its root.
    let first = if old.is_power_of_two() { Some(old_root) } else { hashes.next() };
    let Some(first) = first else { return false };
    let (mut index, mut last) = (old - 1, size - 1);
    while index & 1 == 1 {
        index >>= 1;
        last >>= 1;
    }
    let (mut old_seen, mut new_seen) = (*first, *first);
    for hash in hashes {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            old_seen = node(hash, &old_seen);
            new_seen = node(hash, &new_seen);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            new_seen = node(&new_seen, hash);
        }
        index >>= 1;
        last >>= 1;
    }
    last == 0 && old_seen == *old_root && new_seen == *root
}
