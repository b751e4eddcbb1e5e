//! The engine's own records behind the genesis record: what each must hold by itself (F8 to F10), and what seals and keys say of the log before them
//! (E1, E2).

use crate::bytes::{Hash, all_zero, array_at, u64_at};
use crate::hash::{BUCKET_COUNT, heads_root};
use crate::ledger::BucketPart;
use crate::record::Broken;
use crate::tree::Growing;

pub(crate) const KIND_SEAL: u8 = 1;
pub(crate) const KIND_KEY: u8 = 2;
pub(crate) const KIND_ANCHOR: u8 = 3;

const SEAL_BYTES: usize = 320;
const KEY_BYTES: usize = 200;
const ANCHOR_HEAD_BYTES: usize = 48;
const ARTEFACT_BYTES_MAX: usize = 1_048_576;

/// What a seal states, as far as it can be recomputed.
#[derive(Clone, Debug)]
pub(crate) struct Seal {
    pub(crate) number: u64,
    pub(crate) previous: Hash,
    pub(crate) tree_size: u64,
    pub(crate) tree_root: Hash,
    pub(crate) heads_root: Hash,
    pub(crate) events: u64,
    pub(crate) log_key: Hash,
}

/// A record that the merge compares with the log before it.
#[derive(Clone, Debug)]
pub(crate) enum Statement {
    Seal(Seal),
    Key { old: Hash, new: Hash },
}

/// Where a statement was made.
pub(crate) struct StatementAt {
    pub(crate) statement: Statement,
    pub(crate) offset: u64,
    pub(crate) position: u64,
    pub(crate) link: Hash,
}

/// One record, as the tree and the heads see it.
pub(crate) struct LeafAt {
    pub(crate) bucket: u16,
    pub(crate) link: Hash,
}

/// F8 to F10.
pub(crate) fn check(kind: u8, body: &[u8], position: u64, recorded_at_ns: u64) -> Result<(), Broken> {
    match kind {
        KIND_SEAL => check_seal(body, position, recorded_at_ns).map_err(|why| ("F8", why)),
        KIND_KEY => check_key(body).map_err(|why| ("F9", why)),
        _ => check_anchor(body, position).map_err(|why| ("F10", why)),
    }
}

fn check_seal(body: &[u8], position: u64, recorded_at_ns: u64) -> Result<(), &'static str> {
    if body.len() != SEAL_BYTES {
        return Err("the seal's body has not the length of a seal");
    }
    if u64_at(body, 0) == 0 || (u64_at(body, 0) == 1) != all_zero(&body[16..48]) {
        return Err("the seal's number is 0, or does not fit the seal before it");
    }
    if u64_at(body, 8) != position || u64_at(body, 168) != recorded_at_ns {
        return Err("the seal states another position or time than its record");
    }
    let tree_size = u64_at(body, 48);
    if tree_size == 0 || tree_size > position {
        return Err("the seal's tree_size is not a size before it");
    }
    let signed_size = u64_at(body, 208);
    if signed_size > position || (signed_size == 0 && !all_zero(&body[216..312])) {
        return Err("the seal names a checkpoint that cannot have been");
    }
    if all_zero(&body[120..152]) && all_zero(&body[312..]) { Ok(()) } else { Err("reserved bytes of the seal are set") }
}

fn check_key(body: &[u8]) -> Result<(), &'static str> {
    if body.len() != KEY_BYTES {
        return Err("the key record's body has not its length");
    }
    let (old, new) = (&body[..32], &body[32..64]);
    if all_zero(new) || old == new {
        return Err("the key record brings no new key");
    }
    if all_zero(old) && !all_zero(&body[64..128]) {
        return Err("the key record has a signature by no key");
    }
    if all_zero(&body[192..]) { Ok(()) } else { Err("reserved bytes of the key record are set") }
}

fn check_anchor(body: &[u8], position: u64) -> Result<(), &'static str> {
    if body.len() <= ANCHOR_HEAD_BYTES || body.len() > ANCHOR_HEAD_BYTES + ARTEFACT_BYTES_MAX {
        return Err("the anchor record has no artefact, or too long a one");
    }
    if !(1..=4).contains(&body[0]) || !all_zero(&body[1..8]) {
        return Err("the anchor record has another form, or reserved bytes that are set");
    }
    let size = u64_at(body, 8);
    if size == 0 || size > position { Err("the anchor record is about a size that is not before it") } else { Ok(()) }
}

/// What the merge has to compare of a record that passed [`check`].
pub(crate) fn statement(kind: u8, body: &[u8]) -> Option<Statement> {
    match kind {
        KIND_SEAL => Some(Statement::Seal(Seal {
            number: u64_at(body, 0),
            previous: array_at(body, 16),
            tree_size: u64_at(body, 48),
            tree_root: array_at(body, 56),
            heads_root: array_at(body, 88),
            events: u64_at(body, 152),
            log_key: array_at(body, 176),
        })),
        KIND_KEY => Some(Statement::Key { old: array_at(body, 0), new: array_at(body, 32) }),
        _ => None,
    }
}

/// The tree and the last statements, up to the end of the segments merged so far.
#[derive(Default)]
pub(crate) struct Sealed {
    tree: Growing,
    events: u64,
    number: u64,
    link: Hash,
    tree_size: u64,
    /// The key in force; the genesis record's is set when it is known.
    pub(crate) key: Hash,
}

impl Sealed {
    /// Takes in the records of a segment, which are behind `buckets`; E1 and E2 for the statements among them. The first that does not hold, with why.
    pub(crate) fn take_in<'a>(
        &mut self,
        leaves: &[LeafAt],
        statements: &'a [StatementAt],
        buckets: &[Option<BucketPart>],
        log_id: &Hash,
    ) -> Result<(), (&'a StatementAt, &'static str, &'static str)> {
        let first = self.tree.size();
        let mut rest = leaves.iter();
        let heads = |bucket: &Option<BucketPart>| bucket.map_or((0, *log_id), |part| (part.records, part.last.link));
        let mut heads: Vec<(u64, Hash)> = buckets[..usize::from(BUCKET_COUNT)].iter().map(heads).collect();
        for at in statements {
            match &at.statement {
                Statement::Key { old, new } => {
                    if *old != self.key {
                        return Err((at, "E2", "the key record does not follow the key in force"));
                    }
                    self.key = *new;
                }
                Statement::Seal(seal) => {
                    let e1 = |why| Err((at, "E1", why));
                    if seal.number != self.number + 1 || seal.previous != self.link {
                        return e1("the seal does not follow the seal before it");
                    }
                    if seal.tree_size < first || seal.tree_size < self.tree_size {
                        return e1("the seal's tree_size lies too far back");
                    }
                    while self.tree.size() < seal.tree_size {
                        // A seal's tree_size is at most its own position, which is behind these.
                        let Some(leaf) = rest.next() else { return e1("the seal's tree_size lies behind it") };
                        self.add(leaf, &mut heads);
                    }
                    if seal.tree_root != self.tree.root() {
                        return e1("the seal's tree_root is not that of the records before it");
                    }
                    if seal.heads_root != heads_root(heads.iter().copied()) || seal.events != self.events {
                        return e1("the seal's heads_root or count is not that of the records before it");
                    }
                    if seal.log_key != self.key {
                        return e1("the seal's log_key is not the key in force");
                    }
                    (self.number, self.link, self.tree_size) = (seal.number, at.link, seal.tree_size);
                }
            }
        }
        rest.for_each(|leaf| self.add(leaf, &mut heads));
        Ok(())
    }

    fn add(&mut self, leaf: &LeafAt, heads: &mut [(u64, Hash)]) {
        self.tree.add(&leaf.link);
        // The engine's lane is not among the heads.
        if let Some((records, link)) = heads.get_mut(usize::from(leaf.bucket)) {
            *records += 1;
            *link = leaf.link;
            self.events += 1;
        }
    }
}
