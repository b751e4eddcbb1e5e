//! One ring: many producers, one consumer, bounded, requests with their bytes in place.
//!
//! A ring has slots for requests and, beside them, memory for their bytes. One word counts both: a producer claims a slot *and* a range of memory with
//! one compare-and-swap, writes into what it claimed, and publishes the slot. The consumer takes published slots in order and gives slots and memory
//! back together. The idea of a per-slot turn is Dmitry Vyukov's bounded queue; counting slots and bytes in one word is what lets a request and its
//! bytes share one claim.
//!
//! Invariants
//! 1. `head <= tail` in both halves; between them at most all slots and all bytes.
//! 2. A slot in `head .. tail` and its bytes belong to its producer until its turn says published, then to the consumer, until `head` passes it.
//! 3. There is one consumer: only [`Drain`](super::Drain), which cannot be cloned, calls `peek`, `take`, `content` and `give_back`.

#![allow(unsafe_code)] // five short blocks, each resting on invariant 2

use super::CachePadded;
use crate::sync::model::{AtomicU32, AtomicU64, Ordering, UnsafeCell};

/// Bytes are claimed in units of this, so that 32 bits count them and frames stay aligned.
const UNIT_BYTES: usize = 8;

/// How far slots and units have been claimed, or given back. Both wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    slots: u32,
    units: u32,
}

impl Mark {
    fn of(word: u64) -> Mark {
        Mark { slots: (word >> 32) as u32, units: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.slots) << 32 | u64::from(self.units)
    }

    fn ahead(self, slots: u32, units: u32) -> Mark {
        Mark { slots: self.slots.wrapping_add(slots), units: self.units.wrapping_add(units) }
    }
}

/// What a published slot holds.
#[derive(Debug)]
struct Entry<R> {
    ticket: u64,
    /// `None` if the producer gave up after it had claimed.
    request: Option<R>,
    /// Where its bytes start in the ring's memory, and how many there are.
    start: usize,
    bytes: usize,
    /// Units that it takes, with what was skipped at the end of the memory.
    units: u32,
}

#[derive(Debug)]
struct Cell<R> {
    /// Number of the slot that was published here last, plus one.
    turn: AtomicU32,
    entry: UnsafeCell<Option<Entry<R>>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct RingBuffer<R> {
    /// Claimed up to here.
    tail: CachePadded<AtomicU64>,
    /// Given back up to here.
    head: CachePadded<AtomicU64>,
    cells: Box<[Cell<R>]>,
    memory: Memory,
}

/// The bytes of a ring, whose parts belong to whoever invariant 2 says.
#[derive(Debug)]
struct Memory {
    units: Box<[std::cell::UnsafeCell<[u8; UNIT_BYTES]>]>,
    /// What the model checker watches in the stead of the bytes.
    #[cfg(loom)]
    watched: Box<[UnsafeCell<()>]>,
}

impl Memory {
    fn new(bytes: usize) -> Memory {
        let units = bytes / UNIT_BYTES;
        Memory {
            units: (0..units).map(|_| std::cell::UnsafeCell::new([0; UNIT_BYTES])).collect(),
            #[cfg(loom)]
            watched: (0..units).map(|_| UnsafeCell::new(())).collect(),
        }
    }

    /// The first of `bytes` bytes from `start`, which lie within the memory.
    fn place(&self, start: usize, bytes: usize) -> *mut u8 {
        let units = &self.units[start / UNIT_BYTES..(start + bytes).div_ceil(UNIT_BYTES)];
        // A pointer to cells may be written through, and cells are laid out as what is in them.
        units.as_ptr().cast_mut().cast()
    }

    /// Tells the model checker of an access to these bytes.
    fn watch(&self, _start: usize, _bytes: usize, _is_write: bool) {
        #[cfg(loom)]
        for unit in &self.watched[_start / UNIT_BYTES..(_start + _bytes).div_ceil(UNIT_BYTES)] {
            if _is_write { unit.with_mut(|_| ()) } else { unit.with(|_| ()) }
        }
    }
}

// SAFETY: requests move from producers to the consumer, so they must be `Send`. All access to the cells follows invariant 2; who owns a slot at a
// moment is handed on by Release and Acquire of `turn` (producer to consumer) and of `head` (consumer to the next producer).
unsafe impl<R: Send> Sync for RingBuffer<R> {}
// SAFETY: it owns what is in it.
unsafe impl<R: Send> Send for RingBuffer<R> {}

/// A slot and bytes that one producer owns until it publishes them.
#[derive(Debug)]
pub(crate) struct Claim<'a, R> {
    ring: &'a RingBuffer<R>,
    slot: u32,
    start: usize,
    bytes: usize,
    units: u32,
}

/// Where the consumer stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    next: Mark,
}

impl Place {
    pub(super) const START: Place = Place { next: Mark { slots: 0, units: 0 } };
}

/// What was taken, without its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    start: usize,
    bytes: usize,
}

/// A slot as the consumer sees it before it takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Published with this ticket.
    Published(u64),
    /// Claimed and not published yet.
    Claimed,
    /// Not claimed.
    Empty,
}

impl<R> RingBuffer<R> {
    /// A ring of `slots` requests and `bytes` of memory; both powers of two.
    pub(super) fn new(slots: usize, bytes: usize) -> RingBuffer<R> {
        assert!(slots.is_power_of_two() && bytes.is_power_of_two() && bytes >= UNIT_BYTES);
        assert!(slots <= 1 << 30 && bytes / UNIT_BYTES <= 1 << 30, "differences of wrapping counts stay unambiguous");
        RingBuffer {
            tail: CachePadded(AtomicU64::new(0)),
            head: CachePadded(AtomicU64::new(0)),
            cells: (0..slots).map(|_| Cell { turn: AtomicU32::new(0), entry: UnsafeCell::new(None) }).collect(),
            memory: Memory::new(bytes),
        }
    }

    fn cell(&self, slot: u32) -> &Cell<R> {
        &self.cells[slot as usize & (self.cells.len() - 1)]
    }

    /// Claims a slot and `bytes` of memory; `None` if the ring is full.
    pub(super) fn claim(&self, bytes: usize) -> Option<Claim<'_, R>> {
        let (slots_max, units_max) = (self.cells.len() as u32, self.memory.units.len() as u32);
        let wanted = bytes.div_ceil(UNIT_BYTES);
        if wanted > self.memory.units.len() {
            return None;
        }
        // Relaxed: the claim is made by the compare-and-swap, whose order among claims is all that matters.
        let mut word = self.tail.0.load(Ordering::Relaxed);
        loop {
            let tail = Mark::of(word);
            // Acquire: pairs with the Release in `give_back`, so that the consumer is done with what is claimed again.
            let head = Mark::of(self.head.0.load(Ordering::Acquire));
            let (slots, units) = (tail.slots.wrapping_sub(head.slots), tail.units.wrapping_sub(head.units));
            if slots > slots_max || units > units_max {
                // The tail that was read is older than the head.
                word = self.tail.0.load(Ordering::Relaxed);
                continue;
            }
            // What does not fit before the end of the memory starts at its beginning.
            let first = tail.units & (units_max - 1);
            let skipped = if first as usize + wanted > self.memory.units.len() { units_max - first } else { 0 };
            let needed = skipped + wanted as u32;
            if slots == slots_max || needed > units_max - units {
                return None;
            }
            let claimed = tail.ahead(1, needed).word();
            match self.tail.0.compare_exchange_weak(word, claimed, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let start = ((first + skipped) & (units_max - 1)) as usize * UNIT_BYTES;
                    return Some(Claim { ring: self, slot: tail.slots, start, bytes, units: needed });
                }
                Err(now) => word = now,
            }
        }
    }

    /// The slot that is `ahead` of the consumer's place.
    pub(super) fn peek(&self, place: Place, ahead: u32) -> Seen {
        let slot = place.next.slots.wrapping_add(ahead);
        // Relaxed: it only tells a claimed slot from one that is not; the turn below carries the order.
        let claimed = Mark::of(self.tail.0.load(Ordering::Relaxed)).slots.wrapping_sub(place.next.slots);
        if ahead >= claimed {
            return Seen::Empty;
        }
        let cell = self.cell(slot);
        // Acquire: pairs with the Release in `Claim::put`.
        if cell.turn.load(Ordering::Acquire) != slot.wrapping_add(1) {
            return Seen::Claimed;
        }
        // SAFETY: the slot is published and not given back, so it is the consumer's (invariant 2), and the one consumer is here.
        cell.entry.with(|entry| unsafe { (*entry).as_ref() }.map_or(Seen::Claimed, |entry| Seen::Published(entry.ticket)))
    }

    /// Takes the next published slot; its memory stays where it is until [`RingBuffer::give_back`]. The request is `None` if its producer gave up.
    pub(super) fn take(&self, place: &mut Place) -> (Option<R>, Content) {
        let cell = self.cell(place.next.slots);
        assert!(matches!(self.peek(*place, 0), Seen::Published(_)), "only what is published is taken");
        // SAFETY: as in `peek`; nobody else looks at a slot that is the consumer's.
        let entry = cell.entry.with_mut(|entry| unsafe { (*entry).take() }).expect("looked at above");
        place.next = place.next.ahead(1, entry.units);
        (entry.request, Content { start: entry.start, bytes: entry.bytes })
    }

    /// The bytes of something that was taken and not given back.
    pub(super) fn content(&self, content: Content) -> &[u8] {
        self.memory.watch(content.start, content.bytes, false);
        let start = self.memory.place(content.start, content.bytes);
        // SAFETY: `place` has checked that the bytes lie in the memory. They were published with their slot, whose Acquire came before, and nobody
        // writes to them before they are given back, which needs the `Drain` that this borrow keeps.
        unsafe { std::slice::from_raw_parts(start, content.bytes) }
    }

    /// Gives everything that was taken back to the producers.
    pub(super) fn give_back(&self, place: Place) {
        // Release: pairs with the Acquire in `claim`.
        self.head.0.store(place.next.word(), Ordering::Release);
    }
}

impl<R> Claim<'_, R> {
    /// The claimed bytes, with whatever was in them before.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.ring.memory.watch(self.start, self.bytes, true);
        let start = self.ring.memory.place(self.start, self.bytes);
        // SAFETY: `place` has checked that the bytes lie in the memory; they are this claim's alone (invariant 2), and the claim is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(start, self.bytes) }
    }

    /// Hands slot and bytes to the consumer.
    pub(crate) fn publish(self, ticket: u64, request: R) {
        self.put(ticket, Some(request));
        std::mem::forget(self);
    }

    fn put(&self, ticket: u64, request: Option<R>) {
        let cell = self.ring.cell(self.slot);
        let entry = Entry { ticket, request, start: self.start, bytes: self.bytes, units: self.units };
        // SAFETY: the slot is this claim's alone until the store below (invariant 2).
        cell.entry.with_mut(|place| unsafe { *place = Some(entry) });
        // Release: pairs with the Acquire in `peek`; what was written to slot and bytes comes before.
        cell.turn.store(self.slot.wrapping_add(1), Ordering::Release);
    }
}

impl<R> Drop for Claim<'_, R> {
    /// A producer that gives up, by panic or by choice, leaves an empty slot behind instead of a hole that nobody can pass.
    fn drop(&mut self) {
        self.put(0, None);
    }
}
