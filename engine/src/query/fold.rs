//! The state of a stream as of a moment: its events folded, from the nearest snapshot where there is one.

use std::time::{Duration, Instant};

use chainring_format::{Link, Position, Version};

use super::event::EventRef;
use super::snapshot::{Found, Snapshots};
use super::{Filter, View};
use crate::error::ReadError;

/// How events become a state. The same events must give the same state, whenever and wherever they are folded.
///
/// ```
/// # use chainring::{Event, EventRef, Fold, Log, ReadError, Snapshots, Version};
/// /// How much is on an account.
/// struct Balance;
///
/// impl Fold for Balance {
///     type State = i64;
///     const ID: &'static str = "balance";
///     const VERSION: u32 = 1;
///
///     fn begin(&self) -> i64 {
///         0
///     }
///
///     fn apply(&self, balance: &mut i64, event: &EventRef<'_>) -> Result<(), ReadError> {
///         let amount: i64 = event.body().and_then(|body| std::str::from_utf8(body).ok()?.parse().ok()).unwrap_or(0);
///         *balance += if event.event_type() == "Paid" { -amount } else { amount };
///         Ok(())
///     }
///
///     fn encode(&self, balance: &i64) -> Vec<u8> {
///         balance.to_le_bytes().to_vec()
///     }
///
///     fn decode(&self, bytes: &[u8]) -> Option<i64> {
///         Some(i64::from_le_bytes(bytes.try_into().ok()?))
///     }
/// }
///
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// log.append(Event::new("account-1", "Received").body("100"))?;
/// log.append(Event::new("account-1", "Paid").body("30"))?;
/// let snapshots = Snapshots::in_memory();
/// let folded = log.latest().state("account-1", &Balance, &snapshots)?.unwrap();
/// assert_eq!((folded.state, folded.version), (70, Version(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Fold {
    /// What events are folded into.
    type State;

    /// Name of the fold: snapshots of one fold are never taken for those of another.
    const ID: &'static str;

    /// To be raised whenever the same events would give another state, or a state other bytes: older snapshots are then ignored.
    const VERSION: u32;

    /// The state before the first event.
    fn begin(&self) -> Self::State;

    /// Takes an event in.
    ///
    /// # Errors
    /// What keeps the state from being known.
    fn apply(&self, state: &mut Self::State, event: &EventRef<'_>) -> Result<(), ReadError>;

    /// A state as bytes, for a snapshot.
    fn encode(&self, state: &Self::State) -> Vec<u8>;

    /// A state from the bytes of a snapshot; `None` if they are none, and then everything is folded.
    fn decode(&self, bytes: &[u8]) -> Option<Self::State>;
}

/// A state, and what it is the state of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Folded<S> {
    /// The state.
    pub state: S,
    /// Version of the last event in it.
    pub version: Version,
    /// Position of that event.
    pub position: Position,
    /// Link of that event: what the state can be cited with.
    pub link: Link,
    /// The version it was folded from: that of a snapshot, whose content rests on nothing but its own checksum; 0 if every event was folded.
    pub folded_from: Version,
}

/// A fold that took longer than this is shortened by a snapshot at its end, however few events there were.
const COST_MAX: Duration = Duration::from_micros(200);

impl View {
    /// The state of a stream in this view, from the nearest snapshot at or before it. `None` if it has no event in view. While folding, snapshots are
    /// left behind as the policy of `snapshots` says.
    ///
    /// A view that leaves events out by claimed time folds all that are left: no snapshot is of those.
    ///
    /// # Errors
    /// Damage, an error of the device, or what [`Fold::apply`] says. Snapshots that cannot be read or written cost time and nothing else.
    pub fn state<F: Fold>(&self, stream: &str, fold: &F, snapshots: &Snapshots) -> Result<Option<Folded<F::State>>, ReadError> {
        let Some(in_view) = self.stream(stream)? else { return Ok(None) };
        let uses_snapshots = !matches!(self.filter, Filter::OccurredAt(_));
        let mut state = fold.begin();
        let mut from = Version(0);
        let kept = if uses_snapshots { snapshots.of::<F>() } else { None };
        if let Some(kept) = &kept {
            let id = chainring_format::hash::stream_id(stream);
            let mut at_most = in_view.version();
            while let Some(found) = kept.newest(id, at_most) {
                match self.is_folded_from(&found)?.then(|| fold.decode(&found.state)).flatten() {
                    Some(decoded) => {
                        (state, from) = (decoded, found.version);
                        break;
                    }
                    // Of another history, or no state. The one before may do.
                    None => {
                        kept.forget(id, found.version);
                        at_most = Version(found.version.0 - 1);
                    }
                }
            }
        }
        let mut last = None;
        let mut since = (from.0, Instant::now());
        for event in in_view.forward(Version(from.0 + 1))? {
            let event = event?;
            fold.apply(&mut state, &event)?;
            if let Some(kept) = &kept {
                let distance = event.version().0 - since.0;
                if distance >= snapshots.every() || (event.version() == in_view.version() && distance > 1 && since.1.elapsed() > COST_MAX) {
                    kept.save(&event, &fold.encode(&state));
                    since = (event.version().0, Instant::now());
                }
            }
            last = Some(event);
        }
        let last = match last {
            Some(last) => last,
            // The snapshot is of the last event.
            None => in_view.backward().next().unwrap_or_else(|| unreachable!("a stream in view has an event"))?,
        };
        Ok(Some(Folded { state, version: last.version(), position: last.position(), link: last.link(), folded_from: from }))
    }

    /// Whether the event that a snapshot names is in this log.
    fn is_folded_from(&self, found: &Found) -> Result<bool, ReadError> {
        if found.position.0 >= self.limit {
            return Ok(false);
        }
        let event = self.record(found.position.0)?;
        Ok(event.is_event() && (event.stream_id(), event.version(), event.link()) == (found.stream, found.version, found.link))
    }
}
