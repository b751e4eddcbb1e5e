//! Models that loom runs through every order of their threads' steps that its bound allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p chainring --lib --release ring::`.

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use super::{Drain, Duty, Gate, RingSizes, Rings, Slot};
use crate::sync::model::{Mutex, fence, lock, try_lock};

/// How often a thread may be interrupted in one run. Two finds what is known to be found in such code, three is out of reach for some models.
const PREEMPTIONS_MAX: usize = 2;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(model);
}

const SMALL: RingSizes = RingSizes { rings: 1, slots: 2, bytes: 64 };

/// Publishes `value` with bytes that repeat it; `false` if the ring is full.
fn publish(rings: &Rings<u8>, lane: u16, value: u8, bytes: usize) -> bool {
    let Ok(mut claim) = rings.claim(lane, bytes) else { return false };
    claim.bytes().fill(value);
    rings.publish(lane, claim, value);
    true
}

/// Drains once, checks the bytes, gives them back.
fn drain(drain: &mut Drain<u8>, values: &mut Vec<u8>) {
    let mut drained = Vec::new();
    drain.drain(&mut drained);
    for (value, taken) in drained.into_iter().map(super::Drained::split) {
        assert!(drain.content(taken).iter().all(|&byte| byte == value), "bytes are those that were published");
        values.push(value);
    }
    drain.give_back();
}

#[test]
fn what_two_threads_publish_is_drained_once_with_its_bytes() {
    check(|| {
        let (rings, mut consumer) = Rings::new(SMALL, 0);
        let producers: Vec<_> = [1, 2]
            .map(|value| {
                let rings = std::sync::Arc::clone(&rings);
                thread::spawn(move || assert!(publish(&rings, 0, value, 9)))
            })
            .into_iter()
            .collect();
        let mut values = Vec::new();
        drain(&mut consumer, &mut values);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        drain(&mut consumer, &mut values);
        values.sort_unstable();
        assert_eq!(values, [1, 2]);
    });
}

#[test]
fn a_ring_that_wraps_around_hands_out_nothing_that_is_still_read() {
    check(|| {
        let (rings, mut consumer) = Rings::new(SMALL, 0);
        // Half of the memory is used, so that the third request has to wrap around.
        assert!(publish(&rings, 0, 1, 16) && publish(&rings, 0, 2, 16));
        let producer = {
            let rings = std::sync::Arc::clone(&rings);
            thread::spawn(move || publish(&rings, 0, 3, 16))
        };
        let mut values = Vec::new();
        drain(&mut consumer, &mut values);
        let was_taken = producer.join().unwrap();
        drain(&mut consumer, &mut values);
        assert_eq!(values, if was_taken { vec![1, 2, 3] } else { vec![1, 2] }, "in order, and a full ring says so");
    });
}

#[test]
fn requests_of_one_thread_leave_in_its_order_whatever_rings_they_are_in() {
    check(|| {
        let (rings, mut consumer) = Rings::new(RingSizes { rings: 2, slots: 2, bytes: 32 }, 0);
        let one = {
            let rings = std::sync::Arc::clone(&rings);
            thread::spawn(move || {
                assert!(publish(&rings, 0, 10, 1));
                assert!(publish(&rings, 1, 11, 1));
            })
        };
        let other = {
            let rings = std::sync::Arc::clone(&rings);
            thread::spawn(move || assert!(publish(&rings, 0, 20, 1)))
        };
        let mut values = Vec::new();
        drain(&mut consumer, &mut values);
        one.join().unwrap();
        other.join().unwrap();
        drain(&mut consumer, &mut values);
        let place = |wanted: u8| values.iter().position(|&value| value == wanted).unwrap();
        assert!(values.len() == 3 && place(10) < place(11), "{values:?}");
    });
}

#[test]
fn a_producer_that_gives_up_leaves_no_hole() {
    check(|| {
        let (rings, mut consumer) = Rings::new(SMALL, 0);
        let quitter = {
            let rings = std::sync::Arc::clone(&rings);
            thread::spawn(move || drop(rings.claim(0, 8)))
        };
        let mut values = Vec::new();
        let was_taken = publish(&rings, 0, 1, 8);
        quitter.join().unwrap();
        drain(&mut consumer, &mut values);
        assert!(was_taken && values == [1]);
    });
}

/// The smallest thing with the protocol of the sequencer: publish; lead if nobody does; sleep until one is answered or called.
struct Line {
    rings: std::sync::Arc<Rings<u8>>,
    helm: Mutex<Drain<u8>>,
    /// What was led and has not landed, each by itself.
    flights: Mutex<Vec<(u8, u64)>>,
    /// Held while somebody waits for a landing.
    reaping: Mutex<()>,
    duty: Duty<u64>,
    slots: [std::sync::Arc<Slot<u64>>; 2],
    watermark: AtomicU64,
    poison: AtomicBool,
}

impl Line {
    fn new() -> Arc<Line> {
        let (rings, drain) = Rings::new(SMALL, 0);
        Arc::new(Line {
            rings,
            helm: Mutex::new(drain),
            flights: Mutex::new(Vec::new()),
            reaping: Mutex::new(()),
            duty: Duty::default(),
            slots: [std::sync::Arc::new(Slot::new()), std::sync::Arc::new(Slot::new())],
            watermark: AtomicU64::new(0),
            poison: AtomicBool::new(false),
        })
    }

    /// As `Sequencer::try_lead`; `fails` is what the disk says.
    fn try_lead(&self, fails: bool) -> bool {
        loop {
            fence(Ordering::SeqCst);
            let led = try_lock(&self.helm).map(|mut helm| {
                let mut values = Vec::new();
                drain(&mut helm, &mut values);
                drop(helm);
                self.finish(&values, fails)
            });
            fence(Ordering::SeqCst);
            match led {
                None => return false,
                Some(true) => return true,
                Some(false) if self.rings.has_news() => {}
                Some(false) => return false,
            }
        }
    }

    fn finish(&self, values: &[u8], fails: bool) -> bool {
        if values.is_empty() {
            return false;
        }
        if fails {
            self.poison.store(true, Ordering::Release);
        }
        let answer = if self.poison.load(Ordering::Acquire) { u64::MAX } else { self.watermark.fetch_add(1, Ordering::AcqRel) + 1 };
        lock(&self.flights).extend(values.iter().map(|&value| (value, answer)));
        true
    }

    /// As `Pipeline::reap`: one waits at a time, one landing at a time.
    fn land(&self) -> bool {
        let Some(reaping) = try_lock(&self.reaping) else { return false };
        let landed = lock(&self.flights).pop();
        drop(reaping);
        let Some((value, answer)) = landed else { return false };
        self.slots[usize::from(value)].complete(answer);
        true
    }

    fn has_work(&self) -> bool {
        self.rings.has_news() || !lock(&self.flights).is_empty()
    }

    fn append(&self, value: u8, fails: bool) -> u64 {
        let mut claim = self.rings.claim(0, 8).expect("there is room for both");
        claim.bytes().fill(value);
        let has_work = || self.has_work();
        if self.rings.publish(0, claim, value) {
            self.duty.hand_over(has_work);
        }
        let slot = &self.slots[usize::from(value)];
        let work = || self.try_lead(fails) || self.land();
        self.duty.wait(slot, || slot.take(), work, || None::<Duration>, has_work).unwrap()
    }
}

#[test]
fn everybody_is_answered_whoever_leads_and_the_watermark_is_there_before_the_answer() {
    check(|| {
        let line = Line::new();
        let other = {
            let line = Arc::clone(&line);
            thread::spawn(move || {
                let answer = line.append(1, false);
                assert!(line.watermark.load(Ordering::Acquire) >= answer);
            })
        };
        let answer = line.append(0, false);
        assert!(line.watermark.load(Ordering::Acquire) >= answer);
        other.join().unwrap();
    });
}

#[test]
fn a_failure_reaches_everybody() {
    check(|| {
        let line = Line::new();
        let other = {
            let line = Arc::clone(&line);
            thread::spawn(move || line.append(1, false))
        };
        let own = line.append(0, true);
        let others = other.join().unwrap();
        // Whatever was led after the failure knows of it; what was led before does not.
        assert!(line.poison.load(Ordering::Acquire) || own != u64::MAX);
        assert!(others == u64::MAX || others <= 1);
        lock(&line.helm);
    });
}

#[test]
fn a_task_is_woken_by_what_moves_after_it_has_asked() {
    check(|| {
        let gate = Arc::new(Gate::default());
        let done = Arc::new(AtomicBool::new(false));
        let woken = std::sync::Arc::new(Woken(AtomicBool::new(false)));
        let leader = {
            let (gate, done) = (Arc::clone(&gate), Arc::clone(&done));
            thread::spawn(move || {
                done.store(true, Ordering::Release);
                gate.advance();
            })
        };
        let seen = gate.now();
        let is_done = done.load(Ordering::Acquire);
        let sleeps = !is_done && gate.wake_later(seen, &std::sync::Arc::clone(&woken).into());
        leader.join().unwrap();
        assert!(!sleeps || woken.0.load(Ordering::Acquire), "who was told to sleep is woken");
    });
}

struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
