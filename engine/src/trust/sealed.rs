//! What seals and key records state, compared with the log before them (rules E1 and E2).

use chainring_format::hash::Hash;
use chainring_format::record::{KeyBody, SealBody};
use chainring_format::tree::{self, Frontier, HeadsTree};
use chainring_format::{Link, StreamId, Violation};

use super::note::TreeHead;
use crate::sequencer::Buckets;

/// Leaves whose subtree a segment's thread hashes ahead of the merge.
pub(super) const BLOCK_LEAVES: u64 = 1 << BLOCK_LEVEL;
pub(super) const BLOCK_LEVEL: u32 = 8;

/// A record that was verified, as the tree, the heads and its successors see it: a line of the cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct VerifiedRecord {
    pub link: Link,
    pub stream_id: StreamId,
    pub version: u64,
    /// In the position table's unit.
    pub offset: u32,
    pub is_event: bool,
    /// A later record of the segment is its stream's next event.
    pub is_followed: bool,
}

const _: () = assert!(size_of::<VerifiedRecord>() == 64);

impl VerifiedRecord {
    /// Where it is in its segment, in bytes.
    pub(super) fn offset(&self) -> u64 {
        u64::from(self.offset) * 8
    }
}

/// What an engine record states of the log before it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said {
    Seal(SealBody),
    Key(KeyBody),
}

/// A statement and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement {
    pub said: Said,
    pub offset: u64,
    pub position: u64,
    pub link: Link,
}

impl Statement {
    pub(super) fn is_seal(&self) -> bool {
        matches!(self.said, Said::Seal(_))
    }
}

/// Roots over all whole blocks of leaves in a segment that begins at `first_position`.
pub(super) fn blocks(leaves: &[VerifiedRecord], first_position: u64) -> Vec<Hash> {
    let ahead = (first_position.wrapping_neg() % BLOCK_LEAVES) as usize;
    let whole = leaves.get(ahead..).unwrap_or_default().chunks_exact(BLOCK_LEAVES as usize);
    whole.map(|block| tree::complete(block.iter().map(|leaf| leaf.link.0).collect())).collect()
}

/// The log as statements are about it, after the segments taken in so far.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    pub tree: Frontier,
    pub events: u64,
    /// The last seal's number, link, and size.
    pub seals: u64,
    pub last_seal: Hash,
    pub last_size: u64,
    /// The key in force.
    pub key: Hash,
    /// What somebody vouches for, and the records taken in must lead to.
    pub vouched: Option<TreeHead>,
    /// There is no seal, and nobody asks for the tree.
    pub is_without_tree: bool,
}

/// A segment's leaves, and how far they are taken in.
struct Segment<'a> {
    leaves: &'a [VerifiedRecord],
    blocks: &'a [Hash],
    first: u64,
}

impl Sealed {
    /// Takes in the records of a segment, which are behind `buckets`; the first statement among them that does not hold, if one does not.
    pub(super) fn take_in(
        &mut self,
        leaves: &[VerifiedRecord],
        blocks: &[Hash],
        statements: &[Statement],
        buckets: &Buckets,
        log_id: Link,
    ) -> Option<(Statement, Violation)> {
        let segment = Segment { leaves, blocks, first: self.tree.size() };
        let has_seal = statements.iter().any(Statement::is_seal);
        let head = |bucket| buckets.get(bucket).map_or((0, log_id), |head| (head.count, head.link));
        let mut heads = has_seal.then(|| HeadsTree::of(head));
        for statement in statements {
            let violation = match &statement.said {
                Said::Key(body) => self.key(body).err().map(|why| Violation { rule: "E2", why }),
                Said::Seal(body) => {
                    let heads = heads.as_mut().expect("made for the seals there are");
                    self.seal(body, statement.link, &segment, heads).err().map(|why| Violation { rule: "E1", why })
                }
            };
            if let Some(violation) = violation {
                return Some((*statement, violation));
            }
        }
        if !self.is_without_tree {
            self.grow(&segment, segment.first + leaves.len() as u64, None);
        }
        None
    }

    /// Whether the records up to the end of a segment are those that are vouched for, as far as they reach. Once they do, that is no question any more.
    pub(super) fn is_as_vouched(&mut self, leaves: &[VerifiedRecord], blocks: &[Hash]) -> bool {
        let segment = Segment { leaves, blocks, first: self.tree.size() };
        let Some(head) = self.vouched.take_if(|head| head.size <= segment.first + leaves.len() as u64) else { return true };
        let mut ahead = Sealed { tree: self.tree.clone(), ..Sealed::default() };
        ahead.grow(&segment, head.size, None);
        ahead.tree.root() == head.root
    }

    fn key(&mut self, body: &KeyBody) -> Result<(), &'static str> {
        if body.old_key != self.key {
            return Err("the key record does not follow the key in force");
        }
        self.key = body.new_key;
        Ok(())
    }

    fn seal(&mut self, body: &SealBody, link: Link, segment: &Segment<'_>, heads: &mut HeadsTree) -> Result<(), &'static str> {
        if body.number.get() != self.seals + 1 || body.previous_seal != self.last_seal {
            return Err("the seal does not follow the seal before it");
        }
        let size = body.tree_size.get();
        if size < segment.first || size < self.last_size {
            return Err("the seal is over records that lie too far back");
        }
        self.grow(segment, size, Some(heads));
        if self.tree.root() != body.tree_root {
            return Err("the tree root is not that of the records before the seal");
        }
        if heads.root() != body.heads_root {
            return Err("the heads root is not that of the records before the seal");
        }
        if self.events != body.events.get() {
            return Err("the seal counts other events than there are before it");
        }
        if self.key != body.log_key {
            return Err("the seal's key is not the key in force");
        }
        (self.seals, self.last_seal, self.last_size) = (body.number.get(), link.0, size);
        Ok(())
    }

    /// Takes in leaves of a segment until there are `size`.
    fn grow(&mut self, segment: &Segment<'_>, size: u64, mut heads: Option<&mut HeadsTree>) {
        let leaf_at = |position: u64| &segment.leaves[(position - segment.first) as usize];
        while self.tree.size() < size {
            let at = self.tree.size();
            let is_block = at.is_multiple_of(BLOCK_LEAVES) && size - at >= BLOCK_LEAVES;
            let end = if is_block { at + BLOCK_LEAVES } else { at + 1 };
            for leaf in (at..end).map(leaf_at).filter(|leaf| leaf.is_event) {
                self.events += 1;
                if let Some(heads) = &mut heads {
                    heads.advance(leaf.stream_id.bucket(), leaf.link);
                }
            }
            if is_block {
                let block = (at - segment.first.next_multiple_of(BLOCK_LEAVES)) / BLOCK_LEAVES;
                self.tree.push_subtree(BLOCK_LEVEL, segment.blocks[block as usize]);
            } else {
                self.tree.push(&leaf_at(at).link);
            }
        }
    }
}
