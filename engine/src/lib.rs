#![doc = include_str!("../../README.md")]
//!
//! # Map of the crate
//!
//! Rooms import only downward; a test keeps it so. Bytes go down, receipts come back.
//!
//! | layer | room | job |
//! |---|---|---|
//! | L1 | [`disk`] | the only room that calls the kernel |
//! | L2 | `segment` | one file of commits |
//! | L3 | `ring` | from many callers to one writer |
//! | L4 | `sequencer` | decide, order, link, commit, watermark, poison |
//! | L5 | `log` | the front door |
//! | L6 | `query` | asking about the past |
//! | L6 | `decision` | whether something may happen, and by whose leave |
//! | L7 | `trust` | convincing a stranger |
//! | L8 | `salvage` | getting out of a damaged store what is intact |
//! | L9 | `backup` | a copy of a store, also while it is written |
//!
//! `engine/ARCHITECTURE.md` follows one event through them.

pub mod disk;
pub mod guide;

mod backup;
mod condition;
mod decision;
mod error;
mod index;
mod log;
mod query;
mod ring;
mod salvage;
mod segment;
mod sequencer;
mod sync;
mod trust;

pub use backup::{BackupReport, backup, backup_in};
pub use chainring_format::cbor::Value;
pub use chainring_format::metadata::{AuthorityRef, Class, ExternalRef, Metadata, ReadRef, Reversibility, Standing, Timestamp};
pub use chainring_format::{EventId, Link, Position, StreamId, Version};

pub use condition::{Durability, Expected};
pub use decision::{ActError, Action, Admission, Branching, Denial, Grant, Observed, Run, Writer};
pub use error::{
    AppendError, BackupError, Bar, Conflict, Fault, FaultKind, IndexError, OpenError, PackError, Poison, ReadError, Watermark,
};
pub use log::{Event, IndexReport, Log, OpenReport, Opened, Options, PackFailure, PackReport, Pending, Request, Stats, Store, WriteBatch};
pub use query::{
    AsOf, Batch, By, Divergence, Encoding, EventRef, Events, EventsBy, FileOutput, Fold, Folded, Output, Place, Projection,
    ProjectionError, Projector, Relation, Replay, ReplayError, Snapshots, StreamEvents, StreamView, Subscription, UndoPlan, Upcasts, View,
};
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use ring::RingProbe;
pub use salvage::{
    BrokenBatch, Cut, CutStream, Damage, DamageKind, Irregular, Manifest, Missing, Ranges, Reason, Salvage, SalvageError, SalvageOptions,
    SalvagedStream, Totals, Unplaced, VersionRun,
};
pub use sequencer::{EventReceipt, EventReceipts, Receipt, Remembered, Requirement, Stop};
#[cfg(feature = "ed25519")]
pub use trust::KeyFile;
pub use trust::{
    Anchor, AnchorForm, Checkpoint, Evidence, Exposure, Grades, ProveError, Prover, SealError, Sealer, Signer, TreeHead, VerifyOptions,
    VerifyReport, note_name, verifier_key, verify, verify_in,
};
