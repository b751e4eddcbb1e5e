//! The golden stores with exactly one fault each. The name of a case starts with the rule that must reject it.
//!
//! Two ways lead to a fault: a lie while building (everything around it stays consistent), and a change of bytes afterwards.

mod chains;
mod commits;
mod events;
mod files;
mod frames;
mod tails;

use super::case::Case;
use super::records::event;
use super::store::Store;

pub(crate) const CORRUPT: &str = "corrupt";
pub(crate) const TAMPERED: &str = "tampered";

pub(crate) fn cases() -> Vec<Case> {
    [files::cases(), commits::cases(), frames::cases(), events::cases(), chains::cases(), tails::cases()].concat()
}

/// Genesis, then one event alone (position 1), then two of two streams (positions 2 and 3), closed: every record lies below the watermark.
/// Commits 0 to 3, one block each but for commit 2.
fn base(name: &str) -> Store {
    let mut store = Store::new(name, 512);
    store.lone(&event("order-1", "placed"));
    store.event(&event("stock-9", "counted"));
    store.event(&event("order-1", "paid"));
    store.commit();
    store.close();
    store
}

/// [`base`], changed afterwards.
fn changed(name: &str, change: impl FnOnce(&mut Store)) -> Store {
    let mut store = base(name);
    change(&mut store);
    store
}

/// Segment 1 with positions 0 and 1 and a footer, segment 2 with positions 2 and 3, closed.
fn pair(name: &str) -> Store {
    let mut store = sealed(name);
    store.next_segment(512);
    finish(&mut store);
    store
}

/// The first segment of [`pair`].
fn sealed(name: &str) -> Store {
    let mut store = Store::new(name, 512);
    store.lone(&event("order-1", "placed"));
    store.seal();
    store
}

/// The commits of the second segment of [`pair`].
fn finish(store: &mut Store) {
    store.lone(&event("order-1", "paid"));
    store.lone(&event("stock-9", "counted"));
    store.close();
}
