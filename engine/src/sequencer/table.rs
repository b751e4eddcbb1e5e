//! A hash table that never stops to grow, for tables of millions of small entries.
//!
//! Open addressing with linear probing over one flat piece of memory: an entry is found in the cache line that its hash points to, mostly, and the
//! memory is taken in huge pages where the system has them. When it is full, a table of twice the size takes its place and a few entries move
//! over with every insertion, so nobody ever waits for all of them; until then lookups ask both. The memory of the next table is taken beforehand, a
//! little with every insertion: entries come to it in no order, and the first few thousand would touch all of its pages at once.
//!
//! Entries are put in once and never change or leave. Absent on purpose: hashing, keys; the caller knows what an entry is.

use std::io;
use std::marker::PhantomData;

use memmap2::{Advice, MmapMut, MmapOptions};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries of a new table.
const ENTRIES_MIN: usize = 1 << 12;
/// Part of the places that may be taken, in sixteenths: beyond it, probing gets long.
const FILL_MAX_16THS: usize = 11;
/// Places that move over with an insertion. The table is twice as large by then, so two would do.
const MOVED_PER_INSERT: usize = 4;
/// Part of what a table can take, in sixteenths, at which the memory of the next one begins to be taken. The one before is left by then.
const NEXT_FROM_16THS: usize = 12;
/// Memory is taken in pages of at least this many bytes.
const PAGE_BYTES: usize = 4096;
/// Tables of at least this many bytes ask for huge pages.
const HUGE_BYTES_MIN: usize = 4 << 20;

/// What a table holds. All zeros is a free place.
pub(super) trait Entry: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {
    fn is_free(&self) -> bool;
}

/// The table.
#[derive(Debug)]
pub(super) struct Table<E> {
    now: Places<E>,
    /// The smaller table that is being left, and how many of its places have moved.
    before: Option<(Places<E>, usize)>,
    /// The larger table that will be needed, and how many bytes of its memory were taken.
    next: Option<(Places<E>, usize)>,
    count: usize,
}

/// Memory for flat arrays: zeros at first, taken page by page.
///
/// # Panics
/// If the system has none.
pub(crate) fn zeroed(bytes: usize) -> MmapMut {
    let map: io::Result<MmapMut> = MmapOptions::new().len(bytes).map_anon();
    let map = map.expect("memory for the tables of the log");
    if bytes >= HUGE_BYTES_MIN {
        // Where it is not to be had, nothing changes.
        let _ = map.advise(Advice::HugePage);
    }
    map
}

#[derive(Debug)]
struct Places<E> {
    map: MmapMut,
    mask: usize,
    entries: PhantomData<E>,
}

impl<E: Entry> Places<E> {
    fn new(count: usize) -> Places<E> {
        Places { map: zeroed(count * size_of::<E>()), mask: count - 1, entries: PhantomData }
    }

    /// Entries that may be in it.
    fn count_max(&self) -> usize {
        (self.mask + 1) * FILL_MAX_16THS / 16
    }

    fn all(&self) -> &[E] {
        <[E]>::ref_from_bytes(&self.map).expect("a mapping begins on a page and holds whole entries")
    }

    fn all_mut(&mut self) -> &mut [E] {
        <[E]>::mut_from_bytes(&mut self.map).expect("a mapping begins on a page and holds whole entries")
    }

    fn find(&self, hash: u64, is_it: &impl Fn(&E) -> bool) -> Option<&E> {
        let all = self.all();
        let mut place = hash as usize & self.mask;
        loop {
            let entry = &all[place];
            if entry.is_free() {
                return None;
            }
            if is_it(entry) {
                return Some(entry);
            }
            place = (place + 1) & self.mask;
        }
    }

    fn put(&mut self, hash: u64, entry: E) {
        let mask = self.mask;
        let all = self.all_mut();
        let mut place = hash as usize & mask;
        while !all[place].is_free() {
            place = (place + 1) & mask;
        }
        all[place] = entry;
    }
}

impl<E: Entry> Table<E> {
    pub(super) fn new() -> Table<E> {
        Table { now: Places::new(ENTRIES_MIN), before: None, next: None, count: 0 }
    }

    /// A table that takes so many entries without growing.
    pub(super) fn for_entries(count: usize) -> Table<E> {
        let places = (count * 16 / FILL_MAX_16THS + 1).next_power_of_two().max(ENTRIES_MIN);
        Table { now: Places::new(places), before: None, next: None, count: 0 }
    }

    /// Takes all entries out, and keeps the memory, also what was taken for a larger table: whoever fills this one as far will take it again.
    pub(super) fn clear(&mut self) {
        (self.before, self.count) = (None, 0);
        self.now.map.fill(0);
    }

    /// Memory that it takes when it is full, without what is taken for the next one.
    pub(super) fn bytes(&self) -> u64 {
        self.now.map.len() as u64
    }

    /// The entry with this hash that `is_it` says yes to.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&E) -> bool) -> Option<&E> {
        self.now.find(hash, &is_it).or_else(|| self.before.as_ref().and_then(|(before, _)| before.find(hash, &is_it)))
    }

    /// The entry at the place that a hash points to, whatever it is. Asking for many of them in a row brings their cache lines in side by side.
    pub(super) fn touch(&self, hash: u64) -> &E {
        &self.now.all()[hash as usize & self.now.mask]
    }

    /// Puts an entry in that is not there. `hash_of` gives the hash of any entry.
    pub(super) fn insert(&mut self, hash: u64, entry: E, hash_of: impl Fn(&E) -> u64) {
        self.make_room(&hash_of);
        self.now.put(hash, entry);
        self.count += 1;
    }

    fn make_room(&mut self, hash_of: &impl Fn(&E) -> u64) {
        if let Some((before, moved)) = &mut self.before {
            let next = (*moved + MOVED_PER_INSERT).min(before.mask + 1);
            for entry in before.all()[*moved..next].iter().filter(|entry| !entry.is_free()) {
                self.now.put(hash_of(entry), *entry);
            }
            *moved = next;
            if next > before.mask {
                self.before = None;
            }
        } else if self.count >= self.now.count_max() {
            let larger = self.next.take().map_or_else(|| Places::new((self.now.mask + 1) * 2), |(next, _)| next);
            self.before = Some((std::mem::replace(&mut self.now, larger), 0));
        } else {
            self.take_memory();
        }
    }

    /// Takes as much of the next table's memory as is due now: all of it with the last entry that this one takes.
    fn take_memory(&mut self) {
        let (from, to) = (self.now.count_max() / 16 * NEXT_FROM_16THS, self.now.count_max());
        let Some(beyond) = self.count.checked_sub(from) else { return };
        let (next, taken) = self.next.get_or_insert_with(|| (Places::new((self.now.mask + 1) * 2), 0));
        let due = next.map.len() * (beyond + 1) / (to - from);
        while *taken < due {
            // Written, so that the page is there; it is zero already.
            next.map[*taken] = 0;
            *taken += PAGE_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Number(u64);

    impl Entry for Number {
        fn is_free(&self) -> bool {
            self.0 == 0
        }
    }

    fn hash(number: &Number) -> u64 {
        number.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
    }

    #[test]
    fn everything_is_found_while_the_table_grows() {
        let mut table = Table::new();
        for n in 1..=100_000_u64 {
            let number = Number(n);
            assert!(table.find(hash(&number), |entry| *entry == number).is_none());
            table.insert(hash(&number), number, hash);
            // The one just put in, the first, and one on the way.
            for m in [n, 1, n / 2 + 1] {
                assert_eq!(table.find(hash(&Number(m)), |entry| entry.0 == m), Some(&Number(m)));
            }
        }
        assert_eq!(table.count, 100_000);
        assert!((1..=100_000).all(|n| table.find(hash(&Number(n)), |entry| entry.0 == n).is_some()));
    }

    #[test]
    fn the_memory_of_the_next_table_is_taken_before_it_is_needed() {
        let mut table = Table::new();
        let mut taken = Vec::new();
        for n in 1..=200_000_u64 {
            let before = table.now.mask;
            let ahead = table.next.as_ref().map(|(next, taken)| (next.map.len(), *taken));
            table.insert(hash(&Number(n)), Number(n), hash);
            if table.now.mask != before {
                taken.push(ahead);
            }
        }
        assert!(taken.len() > 4);
        assert!(taken.iter().all(|ahead| ahead.is_some_and(|(bytes, taken)| taken >= bytes)), "{taken:?}");
    }

    #[test]
    fn a_cleared_table_keeps_what_it_took_for_the_next_one() {
        let mut table = Table::for_entries(10_000);
        // As far as the next one's memory begins to be taken; then further than it goes.
        for last in [10_500, 10_500, 30_000] {
            let ahead = table.next.as_ref().map(|(_, taken)| *taken);
            (1..=last).for_each(|n| table.insert(hash(&Number(n)), Number(n), hash));
            assert!((1..=last).all(|n| table.find(hash(&Number(n)), |entry| entry.0 == n).is_some()));
            assert!(table.find(hash(&Number(last + 1)), |entry| entry.0 == last + 1).is_none());
            assert!(last > 10_500 || ahead.is_none() || table.next.as_ref().map(|(_, taken)| *taken) == ahead, "taken once");
            table.clear();
            assert!((1..=last).all(|n| table.find(hash(&Number(n)), |entry| entry.0 == n).is_none()));
        }
    }

    #[test]
    fn entries_with_one_hash_are_told_apart() {
        let mut table = Table::new();
        (1..=3000).for_each(|n| table.insert(7, Number(n), |_| 7));
        assert!((1..=3000).all(|n| table.find(7, |entry| entry.0 == n).is_some()));
        assert!(table.find(7, |entry| entry.0 == 3001).is_none());
    }
}
