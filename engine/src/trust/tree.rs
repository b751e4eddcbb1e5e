//! The tree over the log, kept so that roots and proofs cost little (FORMAT.md section 7.6).
//!
//! Leaves are the links in the frames. What is kept besides is one hash for every 256 of them, in a file beside the segments, and above that in memory one
//! for every 65,536: 12.5 MB and 50 KB for a hundred million records. The file is derived: without it, or if it does not lead to what the last seal in the
//! log states, the hashes are made anew from the links.

use chainring_format::Link;
use chainring_format::hash::Hash;
use chainring_format::tree::{self, Frontier, Subtrees};

use crate::disk::{Access, Disk, DiskFile};
use crate::error::ReadError;
use crate::segment::{Catalog, Frames};
use crate::sequencer::LinkedRecord;
use crate::sync::Arc;

/// Name of the file with the hashes.
pub(super) const HASHES_FILE: &str = "tree";

const HASH_BYTES: usize = 32;
/// Levels between two that are kept.
const STEP: u32 = 8;
/// Leaves under one hash of the file, and hashes of one kept level under one of the next.
const FAN: u64 = 1 << STEP;

/// Calls `each` for the records in a range, in order.
pub(super) fn for_each_leaf(catalog: &Catalog, from: u64, to: u64, mut each: impl FnMut(LinkedRecord)) -> Result<(), ReadError> {
    let mut frames = Frames::new(catalog, from);
    for _ in from..to {
        let header = frames.next_header()?;
        each(LinkedRecord { link: Link(header.link), bucket: header.event_bucket() });
    }
    Ok(())
}

/// The tree over the first records of a log.
#[derive(Debug)]
pub(super) struct Tree {
    /// Over whole blocks.
    frontier: Frontier,
    /// Links behind the last of them.
    partial: Vec<Link>,
    /// Blocks whose hashes are in the file.
    in_file: u64,
    file: Option<Arc<dyn DiskFile>>,
    /// Hashes of the blocks that are not.
    blocks: Vec<Hash>,
    /// Hashes of levels 16, 24, ... from the first on.
    upper: Vec<Vec<Hash>>,
    /// Hashes of the level below that wait for one of the next to be whole, level by level.
    waiting: Vec<Vec<Hash>>,
}

impl Tree {
    fn empty() -> Tree {
        Tree {
            frontier: Frontier::new(),
            partial: Vec::new(),
            in_file: 0,
            file: None,
            blocks: Vec::new(),
            upper: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The tree as the file beside the segments has it, to be read or gone on with, if that leads to what a seal states: this root at this size. Else one without leaves.
    pub(super) fn load(disk: &dyn Disk, access: Access, catalog: &Catalog, sealed: Option<(u64, Hash)>) -> Result<Tree, ReadError> {
        let Some((size, root)) = sealed else { return Ok(Tree::empty()) };
        // Whatever the file has to say is proved or thrown away, so that it cannot be read is no error.
        let Some((file, hashes)) = read(disk, access, size / FAN) else { return Ok(Tree::empty()) };
        let mut tree = Tree::empty();
        for hash in hashes {
            tree.take_block(hash);
        }
        tree.blocks.clear();
        (tree.in_file, tree.file) = (tree.frontier.size() / FAN, Some(file));
        tree.grow(catalog, size, |_| {})?;
        Ok(if tree.root() == root { tree } else { Tree::empty() })
    }

    /// Records that are in it.
    pub(super) fn size(&self) -> u64 {
        self.frontier.size() + self.partial.len() as u64
    }

    /// Root over all of them.
    pub(super) fn root(&self) -> Hash {
        let mut whole = self.frontier.clone();
        self.partial.iter().for_each(|link| whole.push(link));
        whole.root()
    }

    /// Takes in records until there are `size`; `each` is shown every one.
    pub(super) fn grow(&mut self, catalog: &Catalog, size: u64, mut each: impl FnMut(LinkedRecord)) -> Result<(), ReadError> {
        for_each_leaf(catalog, self.size(), size, |leaf| {
            self.push(leaf.link);
            each(leaf);
        })
    }

    /// Takes in the next record.
    pub(super) fn push(&mut self, link: Link) {
        self.partial.push(link);
        if self.partial.len() as u64 == FAN {
            let block = self.partial.drain(..).map(|link| link.0).collect();
            self.take_block(tree::complete(block));
        }
    }

    fn take_block(&mut self, root: Hash) {
        self.frontier.push_subtree(STEP, root);
        self.note_block(root);
    }

    fn note_block(&mut self, root: Hash) {
        self.blocks.push(root);
        let mut carried = Some(root);
        let mut level = 0;
        while let Some(hash) = carried.take() {
            if self.waiting.len() == level {
                self.waiting.push(Vec::new());
            }
            self.waiting[level].push(hash);
            if self.waiting[level].len() as u64 == FAN {
                let whole = tree::complete(std::mem::take(&mut self.waiting[level]));
                if self.upper.len() == level {
                    self.upper.push(Vec::new());
                }
                self.upper[level].push(whole);
                carried = Some(whole);
            }
            level += 1;
        }
    }

    /// Writes what is not yet in the file. Not synced: what does not get there is made again.
    pub(super) fn save(&mut self, disk: &dyn Disk) {
        if self.blocks.is_empty() {
            return;
        }
        if self.file.is_none() {
            self.file = disk.create(HASHES_FILE).ok();
        }
        let Some(file) = &self.file else { return };
        if file.write_all_at(self.blocks.as_flattened(), self.in_file * HASH_BYTES as u64).is_ok() {
            self.in_file += self.blocks.len() as u64;
            self.blocks.clear();
        }
    }

    /// Hashes of consecutive blocks.
    fn block_hashes(&self, from: u64, count: u64) -> Result<Vec<Hash>, ReadError> {
        let mut hashes = vec![[0; HASH_BYTES]; count as usize];
        let from_file = self.in_file.saturating_sub(from).min(count) as usize;
        if let (Some(file), true) = (&self.file, from_file > 0) {
            let bytes = hashes[..from_file].as_flattened_mut();
            file.read_exact_at(bytes, from * HASH_BYTES as u64).map_err(|source| {
                let offset = from * HASH_BYTES as u64;
                ReadError::Io { segment: HASHES_FILE.to_owned(), offset, source: Arc::new(source) }
            })?;
        }
        for (index, hash) in hashes.iter_mut().enumerate().skip(from_file) {
            *hash = self.blocks[(from + index as u64 - self.in_file) as usize];
        }
        Ok(hashes)
    }

    /// The tree with the links of a log behind it, for proofs.
    pub(super) fn over<'a>(&'a self, catalog: &'a Catalog) -> Over<'a> {
        Over { tree: self, catalog }
    }
}

/// What the file holds of the first `blocks` blocks, the most it can.
fn read(disk: &dyn Disk, access: Access, blocks: u64) -> Option<(Arc<dyn DiskFile>, Vec<Hash>)> {
    let file = disk.open(HASHES_FILE, access).ok()?;
    let count = (file.bytes().ok()? / HASH_BYTES as u64).min(blocks);
    let mut hashes = vec![[0; HASH_BYTES]; usize::try_from(count).ok()?];
    file.read_exact_at(hashes.as_flattened_mut(), 0).ok()?;
    Some((file, hashes))
}

/// A tree and the log it is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over<'a> {
    tree: &'a Tree,
    catalog: &'a Catalog,
}

impl Subtrees for Over<'_> {
    type Error = ReadError;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, ReadError> {
        let (kept, above) = (level / STEP, level % STEP);
        let (from, count) = (index << above, 1_u64 << above);
        let hashes = match kept {
            0 => {
                let mut hashes = Vec::with_capacity(count as usize);
                for_each_leaf(self.catalog, from, from + count, |leaf| hashes.push(leaf.link.0))?;
                hashes
            }
            1 => self.tree.block_hashes(from, count)?,
            kept => self.tree.upper[kept as usize - 2][from as usize..(from + count) as usize].to_vec(),
        };
        Ok(tree::complete(hashes))
    }
}

pub(super) use tree::{consistency, inclusion, root, root_by_inclusion, roots_by_consistency};
