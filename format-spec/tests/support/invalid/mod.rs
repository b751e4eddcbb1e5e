//! The golden stores with exactly one fault each. The name of a case starts with the rule that must reject it.
//!
//! Two ways lead to a fault: a lie while building (everything around it stays consistent), and a change of bytes afterwards.

mod chains;
mod commits;
mod events;
mod files;
mod frames;
mod packed;
mod statements;
mod tails;

use super::case::Case;
use super::records::event;
use super::store::Store;

pub(crate) const CORRUPT: &str = "corrupt";
pub(crate) const TAMPERED: &str = "tampered";

pub(crate) fn cases() -> Vec<Case> {
    [
        files::cases(),
        commits::cases(),
        frames::cases(),
        events::cases(),
        chains::cases(),
        tails::cases(),
        packed::cases(),
        statements::cases(),
    ]
    .concat()
}

/// Genesis, one event (position 1), closed: every record lies below the watermark. Commits 0 to 2, one block each.
fn base(name: &str) -> Store {
    let mut store = Store::new(name, 512);
    store.lone(&event("order-1", "placed"));
    store.close();
    store
}

/// [`base`], changed afterwards.
fn changed(name: &str, change: impl FnOnce(&mut Store)) -> Store {
    let mut store = base(name);
    change(&mut store);
    store
}

/// Segment 1 with positions 0 and 1 and a footer, segment 2 with position 2.
fn pair(name: &str) -> Store {
    let mut store = sealed(name);
    store.next_segment(512);
    store.lone(&event("order-1", "paid"));
    store
}

/// The first segment of [`pair`].
fn sealed(name: &str) -> Store {
    let mut store = Store::new(name, 512);
    store.lone(&event("order-1", "placed"));
    store.seal();
    store
}
