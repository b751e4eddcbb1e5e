//! The one place that names the primitives of concurrency, so that a model checker can be put in their stead.
//!
//! Code that rests on the order of single loads and stores (`ring`) takes them from [`model`], which is loom's under `--cfg loom` and the standard
//! library's otherwise. Everything else takes locks from here.
//!
//! Lock poisoning is not used as a signal: a panic in a leader poisons the *log* (see `sequencer`), and no lock here guards a half-done change
//! that another thread could take for a whole one.

use std::sync::PoisonError;

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// What is modelled: the same names and calls from loom and from the standard library.
pub(crate) mod model {
    #[cfg(loom)]
    pub(crate) use loom::cell::UnsafeCell;
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    #[cfg(not(loom))]
    pub(crate) use real::UnsafeCell;
    #[cfg(not(loom))]
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    pub(crate) use futex::Futex;
    #[cfg(loom)]
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    #[cfg(not(loom))]
    pub(crate) use std::sync::{Mutex, MutexGuard};

    /// Locks, whatever a thread that panicked left behind: see the module.
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// `None` while somebody else holds it.
    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        match mutex.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    #[cfg(not(loom))]
    mod real {
        /// The standard library's cell with the calls of loom's, which sees every access by its closure.
        #[derive(Debug, Default)]
        pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

        impl<T> UnsafeCell<T> {
            pub(crate) fn new(value: T) -> UnsafeCell<T> {
                UnsafeCell(std::cell::UnsafeCell::new(value))
            }

            #[inline]
            pub(crate) fn with<U>(&self, read: impl FnOnce(*const T) -> U) -> U {
                read(self.0.get())
            }

            #[inline]
            pub(crate) fn with_mut<U>(&self, write: impl FnOnce(*mut T) -> U) -> U {
                write(self.0.get())
            }
        }
    }

    /// A word to sleep on.
    #[cfg(not(loom))]
    mod futex {
        use std::sync::atomic::{AtomicU32, Ordering};
        use std::time::Duration;

        use rustix::thread::futex::{Flags, Timespec, wait, wake};

        /// The kernel's futex over one 32-bit word.
        #[derive(Debug, Default)]
        pub(crate) struct Futex(AtomicU32);

        impl Futex {
            /// The word. Acquire: pairs with the Release in [`Futex::advance`].
            pub(crate) fn now(&self) -> u32 {
                self.0.load(Ordering::Acquire)
            }

            /// Moves the word on; whoever sleeps sees it once it is woken. Sequentially consistent, so that it and a look at who sleeps cannot
            /// both be too early (see `Gate`).
            pub(crate) fn advance(&self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }

            /// Sleeps while the word is `seen`, at most as long as given. Returns early for no reason at times.
            pub(crate) fn sleep(&self, seen: u32, at_most: Option<Duration>) {
                let at_most = at_most.map(|at_most| Timespec {
                    tv_sec: at_most.as_secs().try_into().unwrap_or(i64::MAX),
                    tv_nsec: at_most.subsec_nanos().into(),
                });
                // Whatever it says - changed already, interrupted, time is up - the caller looks again.
                let _ = wait(&self.0, Flags::PRIVATE, seen, at_most.as_ref());
            }

            /// Wakes up to that many sleepers.
            pub(crate) fn wake(&self, count: u32) {
                // Fails only for a word that is not ours.
                let _ = wake(&self.0, Flags::PRIVATE, count);
            }
        }
    }

    /// What the kernel's futex promises, built from what loom knows.
    #[cfg(loom)]
    mod futex {
        use loom::sync::{Condvar, Mutex};
        use std::time::Duration;

        #[derive(Debug, Default)]
        pub(crate) struct Futex {
            word: Mutex<u32>,
            moved: Condvar,
        }

        impl Futex {
            pub(crate) fn now(&self) -> u32 {
                *self.word.lock().unwrap()
            }

            pub(crate) fn advance(&self) {
                *self.word.lock().unwrap() += 1;
            }

            pub(crate) fn sleep(&self, seen: u32, _at_most: Option<Duration>) {
                let word = self.word.lock().unwrap();
                if *word == seen {
                    drop(self.moved.wait(word).unwrap());
                }
            }

            pub(crate) fn wake(&self, count: u32) {
                // Under the lock, as the kernel wakes under the lock of its bucket: nobody is between looking at the word and sleeping.
                let _word = self.word.lock().unwrap();
                if count == 1 { self.moved.notify_one() } else { self.moved.notify_all() }
            }
        }
    }
}
