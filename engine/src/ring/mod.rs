//! L3: from many callers to one writer, and the answers back.
//!
//! [`Rings`] take requests, each with its bytes in place; [`Drain`] is the one consumer, held by whoever leads; [`Slot`] carries one answer back,
//! there its caller sleeps, and [`Duty`] sees to it that somebody is awake while there is work; [`Gate`] is where everybody else waits.
//!
//! Order promise: what is published after something else was published - by the same thread, or by another one that knew of it - is drained after
//! it, whatever rings the two are in. Every request takes a ticket from one counter once its slot is claimed. The consumer reads the counter before it
//! looks at the rings and takes lower tickets only: whatever was published before such a ticket was taken is in sight. What is in sight
//! but cannot be reached, behind a slot that is not published yet, holds back everything with a later ticket, in all rings.
//!
//! Every Release in this room names its Acquire; `tests.rs` has the models that loom checks. Absent on purpose: what a request means, files, time.

use crate::sync::model::{AtomicU64, Ordering};
use crate::sync::{Arc, OnceLock};

mod buffer;
mod duty;
mod gate;
#[cfg(feature = "internals")]
mod probe;
mod slot;
#[cfg(all(test, loom))]
mod tests;

use buffer::{Content, Place, RingBuffer, Seen};

pub(crate) use buffer::Claim;
pub(crate) use duty::Duty;
pub(crate) use gate::Gate;
#[cfg(feature = "internals")]
pub use probe::RingProbe;
pub(crate) use slot::Slot;

/// Keeps what it holds on cache lines of its own. 128 bytes: Intel's prefetcher fetches lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct CachePadded<T>(T);

/// How many rings there are, and how large each is. All are powers of two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingSizes {
    pub rings: usize,
    pub slots: usize,
    pub bytes: usize,
}

impl RingSizes {
    /// The most bytes that one request may have in a ring; more travels beside it.
    pub(crate) fn request_bytes_max(&self) -> usize {
        self.bytes / 4
    }
}

/// The rings. A ring's memory is taken when it is first used.
#[derive(Debug)]
pub(crate) struct Rings<R> {
    rings: Box<[OnceLock<RingBuffer<R>>]>,
    /// One bit a ring: something was published there since it was last looked at. The consumer never looks at rings without their bit. Above
    /// them [`HELD_UP`].
    ready: Box<[AtomicU64]>,
    tickets: CachePadded<AtomicU64>,
    /// Bytes that travel beside the rings, and the most of them.
    beside_bytes: AtomicU64,
    beside_bytes_max: u64,
    sizes: RingSizes,
}

/// The one consumer of some rings.
#[derive(Debug)]
pub(crate) struct Drain<R> {
    rings: Arc<Rings<R>>,
    places: Vec<Place>,
    /// Rings that may hold something, a bit each; more than `ready`, whose bits were taken.
    active: Vec<u64>,
    /// Rings that something was taken from since the last [`Drain::give_back`].
    touched: Vec<usize>,
    /// Counts [`Drain::give_back`]s.
    round: u64,
    /// Scratch of [`Drain::drain`].
    fronts: Vec<RingFront>,
    order: Vec<(u64, usize)>,
}

/// What was drained: a request and where its bytes are.
#[derive(Debug)]
pub(crate) struct Drained<R> {
    request: R,
    taken: Taken,
}

impl<R> Drained<R> {
    pub(crate) fn split(self) -> (R, Taken) {
        (self.request, self.taken)
    }

    pub(crate) fn parts(&self) -> (&R, Taken) {
        (&self.request, self.taken)
    }

    pub(crate) fn request_mut(&mut self) -> &mut R {
        &mut self.request
    }
}

/// Where the bytes of a drained request are, until they are given back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    ring: usize,
    content: Content,
    round: u64,
}

/// Rings that share a word of ready bits.
const RINGS_A_WORD: usize = 32;
/// The consumer has left something behind that waits for a slot to be published: whoever publishes says so to those who sleep.
const HELD_UP: u64 = 1 << 63;

/// What one ring has to offer.
#[derive(Debug)]
struct RingFront {
    ring: usize,
    /// Tickets of its claimed slots, in order; `None` where a slot is not published yet.
    tickets: Vec<Option<u64>>,
    /// How many of them can be taken.
    takeable: usize,
}

/// Why nothing was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl<R> Rings<R> {
    /// Empty rings, and their one consumer.
    pub(crate) fn new(sizes: RingSizes, beside_bytes_max: u64) -> (Arc<Rings<R>>, Drain<R>) {
        assert!(sizes.rings.is_power_of_two());
        let words = sizes.rings.div_ceil(RINGS_A_WORD);
        let rings = Arc::new(Rings {
            // The model checker does not see through the standard library's lock.
            rings: (0..sizes.rings)
                .map(|_| if cfg!(loom) { OnceLock::from(RingBuffer::new(sizes.slots, sizes.bytes)) } else { OnceLock::new() })
                .collect(),
            ready: (0..words).map(|_| AtomicU64::new(0)).collect(),
            tickets: CachePadded(AtomicU64::new(0)),
            beside_bytes: AtomicU64::new(0),
            beside_bytes_max,
            sizes,
        });
        let drain = Drain {
            rings: Arc::clone(&rings),
            places: vec![Place::START; sizes.rings],
            active: vec![0; words],
            touched: Vec::new(),
            round: 0,
            fronts: Vec::new(),
            order: Vec::new(),
        };
        (rings, drain)
    }

    pub(crate) fn sizes(&self) -> RingSizes {
        self.sizes
    }

    fn ring_of(&self, lane: u16) -> (usize, &RingBuffer<R>) {
        let index = usize::from(lane) & (self.rings.len() - 1);
        (index, self.rings[index].get_or_init(|| RingBuffer::new(self.sizes.slots, self.sizes.bytes)))
    }

    /// Claims room for a request with `bytes` in the ring of a lane.
    pub(crate) fn claim(&self, lane: u16, bytes: usize) -> Result<Claim<'_, R>, Full> {
        debug_assert!(bytes <= self.sizes.request_bytes_max());
        self.ring_of(lane).1.claim(bytes).ok_or(Full)
    }

    /// Hands a claimed request in. `true` if something was held up that may go on now: then the sleepers are to be woken.
    pub(crate) fn publish(&self, lane: u16, claim: Claim<'_, R>, request: R) -> bool {
        // Release: whatever this thread did before - publishing elsewhere, say - is seen by the consumer that reads a later count. Acquire: and by
        // whoever takes a later ticket. Pairs with the Acquire in `drain`.
        let ticket = self.tickets.0.fetch_add(1, Ordering::AcqRel);
        claim.publish(ticket, request);
        let index = usize::from(lane) & (self.rings.len() - 1);
        // Release: pairs with the Acquire of the swap in `drain`, which then sees what was published. Always a read-modify-write: a mere look at the
        // bits could be older than the swap that takes them.
        let before = self.ready[index / RINGS_A_WORD].fetch_or(1 << (index % RINGS_A_WORD), Ordering::AcqRel);
        before & HELD_UP != 0
    }

    /// Whether something was published that the consumer has not looked at.
    pub(crate) fn has_news(&self) -> bool {
        // Relaxed: the caller's fence orders it.
        self.ready.iter().any(|word| word.load(Ordering::Relaxed) & !HELD_UP != 0)
    }

    /// Takes room beside the rings for a request that is too large for one. A single one is always let in.
    pub(crate) fn claim_beside(&self, bytes: u64) -> Result<(), Full> {
        // Relaxed: a count, which orders nothing.
        let mut now = self.beside_bytes.load(Ordering::Relaxed);
        loop {
            if now > 0 && now + bytes > self.beside_bytes_max {
                return Err(Full);
            }
            match self.beside_bytes.compare_exchange_weak(now, now + bytes, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => now = other,
            }
        }
    }

    /// Gives that room back.
    pub(crate) fn give_back_beside(&self, bytes: u64) {
        self.beside_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl<R> Drain<R> {
    /// Takes everything that can be taken now, in the order promised, into `drained`. What is held up behind a slot that is not published yet stays; who
    /// publishes that slot is told ([`Rings::publish`]).
    pub(crate) fn drain(&mut self, drained: &mut Vec<Drained<R>>) {
        let mut fronts = std::mem::take(&mut self.fronts);
        loop {
            // Acquire: pairs with the Release in `publish`. Read before the rings are looked at.
            let limit = self.rings.tickets.0.load(Ordering::Acquire);
            for (active, ready) in self.active.iter_mut().zip(&self.rings.ready) {
                // Relaxed look first: a bit that must be seen was set before the count of tickets was read.
                if ready.load(Ordering::Relaxed) != 0 {
                    // Acquire: pairs with the Release in `publish`.
                    *active |= ready.swap(0, Ordering::AcqRel) & !HELD_UP;
                }
            }
            let used = self.look_at_active(&mut fronts);
            if !self.take(&mut fronts[..used], limit, drained) {
                break;
            }
            // What is only too young for this look is taken by the next one, whose limit is higher. What waits for a slot to be published is the business of
            // whoever publishes it: one read-modify-write both asks to be told and shows what came too early for that.
            let is_young = self.rings.tickets.0.load(Ordering::Acquire) != limit;
            let asked = |ready: &AtomicU64| ready.fetch_or(HELD_UP, Ordering::AcqRel) & !HELD_UP != 0;
            if !self.rings.ready.iter().fold(is_young, |news, ready| asked(ready) | news) {
                break;
            }
        }
        self.fronts = fronts;
    }

    /// Notes what the active rings hold; returns how many there are.
    fn look_at_active(&self, fronts: &mut Vec<RingFront>) -> usize {
        let mut used = 0;
        for (word, &bits) in self.active.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let ring = word * RINGS_A_WORD + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if used == fronts.len() {
                    fronts.push(RingFront { ring, tickets: Vec::new(), takeable: 0 });
                }
                self.look(ring, &mut fronts[used]);
                used += 1;
            }
        }
        used
    }

    /// Notes what a ring holds.
    fn look(&self, ring: usize, front: &mut RingFront) {
        front.ring = ring;
        front.tickets.clear();
        let buffer = self.rings.rings[ring].get().expect("a ring that is ready is used");
        loop {
            match buffer.peek(self.places[ring], front.tickets.len() as u32) {
                Seen::Published(ticket) => front.tickets.push(Some(ticket)),
                Seen::Claimed => front.tickets.push(None),
                Seen::Empty => break,
            }
        }
    }

    /// Takes what may be taken of what was noted; whether something published stays behind.
    fn take(&mut self, fronts: &mut [RingFront], limit: u64, drained: &mut Vec<Drained<R>>) -> bool {
        // The lowest ticket that cannot be reached holds back all later ones, which can make more unreachable, until nothing changes.
        let mut barrier = limit;
        loop {
            let before = barrier;
            for front in &mut *fronts {
                let reach = front.tickets.iter().position(|ticket| ticket.is_none_or(|ticket| ticket >= barrier));
                front.takeable = reach.unwrap_or(front.tickets.len());
                let unreachable = front.tickets[front.takeable..].iter().flatten().min();
                barrier = barrier.min(unreachable.copied().unwrap_or(barrier));
            }
            if barrier == before {
                break;
            }
        }
        let merges = fronts.iter().filter(|front| front.takeable > 0).count() > 1;
        let (first, mut order) = (drained.len(), std::mem::take(&mut self.order));
        for front in &*fronts {
            if front.takeable > 0 {
                self.touched.push(front.ring);
            }
            for ticket in front.tickets[..front.takeable].iter().flatten() {
                if self.take_one(front.ring, drained) && merges {
                    order.push((*ticket, drained.len() - 1));
                }
            }
            if front.takeable == front.tickets.len() {
                self.active[front.ring / RINGS_A_WORD] &= !(1 << (front.ring % RINGS_A_WORD));
            }
        }
        // Within one ring the order of claims keeps the promise as well as that of tickets does.
        if merges {
            order.sort_unstable();
            let mut taken: Vec<_> = drained.drain(first..).map(Some).collect();
            drained.extend(order.drain(..).filter_map(|(_, index)| taken[index - first].take()));
        }
        self.order = order;
        fronts.iter().any(|front| front.tickets[front.takeable..].iter().any(Option::is_some))
    }

    /// Takes the next slot of a ring; whether there was a request in it.
    fn take_one(&mut self, ring: usize, drained: &mut Vec<Drained<R>>) -> bool {
        let buffer = self.rings.rings[ring].get().expect("looked at before");
        let (request, content) = buffer.take(&mut self.places[ring]);
        let is_request = request.is_some();
        let taken = Taken { ring, content, round: self.round };
        drained.extend(request.map(|request| Drained { request, taken }));
        is_request
    }

    /// The bytes of a drained request.
    ///
    /// # Panics
    /// If they were given back.
    pub(crate) fn content(&self, taken: Taken) -> &[u8] {
        assert_eq!(taken.round, self.round, "bytes are read before they are given back");
        self.rings.rings[taken.ring].get().expect("drained from it").content(taken.content)
    }

    /// Gives the memory of everything drained so far back to the producers.
    pub(crate) fn give_back(&mut self) {
        self.round += 1;
        for ring in self.touched.drain(..) {
            self.rings.rings[ring].get().expect("drained from it").give_back(self.places[ring]);
        }
    }
}
