//! A simulated disk, clock and source of randomness (feature `sim`), to test against what a real machine does only now and then.
//!
//! [`SimDisk`] keeps for every file what is on the device, what the cache shows, and what is on its way; for the directory which names are durable.
//! [`SimDisk::crash`] gives the disk as it might look after a power cut, [`SimDisk::snapshot`] as the next process finds it after this one was killed.
//! [`SimDisk::inject`] arms faults: the n-th call that fails, a write that lands elsewhere, a drive that lies about syncs. Bytes can be flipped,
//! sectors made unreadable, space limited. [`SimClock`] and [`SimEntropy`] complete the [`Environment`](super::Environment).
//!
//! Always: everything follows from seeds and the order of calls, so the same run is repeated exactly; nothing that was synced in earnest is lost by
//! a power cut; a length does not fall below what was synced unless the file was cut. Absent on purpose: any knowledge of what the bytes mean.
//!
//! ```
//! use chainring::disk::sim::{Fault, SimDisk};
//! use chainring::{AppendError, Event, Options};
//!
//! let disk = SimDisk::new();
//! let log = Options::new().open_in(disk.environment(1), "simulated").unwrap();
//! log.append(Event::new("order-1", "OrderPlaced")).unwrap();
//!
//! disk.inject(Fault::Sync(1));
//! assert!(matches!(log.append(Event::new("order-1", "OrderPaid")), Err(AppendError::OutcomeUnknown(_))));
//!
//! let after = disk.crash(7); // the power goes; what was acknowledged is there
//! let log = Options::new().open_in(after.environment(2), "simulated").unwrap();
//! assert!(log.head("order-1").unwrap().0 >= 1, "{}", after.trace());
//! ```

mod clock;
mod directory;
mod fault;
mod file;
mod inode;
mod queue;
mod random;
mod trace;

pub use clock::SimClock;
pub use directory::SimDisk;
pub use fault::{Call, Failure, Fault};
pub use random::{SimEntropy, SimRandom};
