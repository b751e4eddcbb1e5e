//! What the log holds about itself: checkpoints that were signed, and what came back from outside about them.

use chainring_format::Position;
use chainring_format::hash::Hash;
use chainring_format::record::{AnchorHead, KIND_ANCHOR, KIND_SEAL, SealBody};
use zerocopy::FromBytes;

use super::note::{TreeHead, note_name, signed_note};
use super::prove::{LastCheckpoint, ProveError};
use super::seal::{AnchorForm, Checkpoint, statement_before};
use super::since::Verified;
use crate::error::ReadError;
use crate::log::Store;

/// An artefact that was bound into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Position of its record.
    pub position: Position,
    /// When it was bound, by the engine's clock, in nanoseconds since 1970.
    pub recorded_at_ns: u64,
    /// What it is.
    pub form: AnchorForm,
    /// Size of the checkpoint it is about.
    pub size: u64,
    /// SHA-256 of that checkpoint's note.
    pub note_sha256: Hash,
    /// The artefact as it came.
    pub artefact: Vec<u8>,
}

/// Checkpoints and anchors under the last checkpoint, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Every checkpoint that was signed.
    pub checkpoints: Vec<Checkpoint>,
    /// Every anchor.
    pub anchors: Vec<Anchor>,
}

/// How long events that were signed for waited until somebody outside had seen them. Until then whoever has the key can tell another story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Exposure {
    /// Checkpoints over events that were not anchored before.
    pub checkpoints: u64,
    /// Those among them that waited for longer than they should, or wait.
    pub late: u64,
    /// The longest of these times, in nanoseconds.
    pub longest_ns: u64,
    /// When the oldest checkpoint was signed that still waits.
    pub waiting_since_ns: Option<u64>,
}

impl Evidence {
    /// How long checkpoints waited for an anchor, with this time as the longest that they should, in nanoseconds. Checkpoints over nothing new but anchors
    /// wait for none.
    #[must_use]
    pub fn exposure(&self, wait_ns_max: u64, now_ns: u64) -> Exposure {
        let events_of = |size: u64| self.checkpoints.iter().find(|checkpoint| checkpoint.head.size == size).map_or(0, |of| of.events);
        let anchored: Vec<(u64, u64)> = self.anchors.iter().map(|anchor| (events_of(anchor.size), anchor.recorded_at_ns)).collect();
        let mut exposure = Exposure::default();
        let mut events_before = 0;
        for checkpoint in &self.checkpoints {
            if checkpoint.events <= events_before {
                continue;
            }
            events_before = checkpoint.events;
            let seen_at = anchored.iter().filter(|(events, _)| *events >= checkpoint.events).map(|(_, at_ns)| *at_ns).min();
            let waited_ns = seen_at.unwrap_or(now_ns).saturating_sub(checkpoint.time_ns);
            exposure.checkpoints += 1;
            exposure.late += u64::from(waited_ns > wait_ns_max);
            exposure.longest_ns = exposure.longest_ns.max(waited_ns);
            if seen_at.is_none() {
                exposure.waiting_since_ns.get_or_insert(checkpoint.time_ns);
            }
        }
        exposure
    }
}

/// How far the log is what, and since when. Of nothing there is more than of what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Grades {
    /// Records on stable storage, and chained: the two are one here.
    pub durable_to: u64,
    /// Records that a verification with [`VerifyOptions::remember`](super::VerifyOptions::remember) found to hold at this place, and when. A memory that lies in
    /// the store: whoever can change the one can change the other.
    pub verified_to: Option<(u64, u64)>,
    /// Size of the last checkpoint, and when its seal was recorded.
    pub sealed_to: Option<(u64, u64)>,
    /// Size of the last checkpoint that an anchor under the last checkpoint is about, and when that was bound.
    pub anchored_to: Option<(u64, u64)>,
}

impl Store {
    /// Reads what the log holds about itself, from its last checkpoint back. Grows with the number of seals, not with the log.
    ///
    /// # Errors
    /// [`ProveError::NoCheckpoint`], [`ProveError::OtherCheckpoint`], damage, or an error of the device.
    pub fn evidence(&self) -> Result<Evidence, ProveError> {
        let mut evidence = Evidence::default();
        let note = self.walk_lane(|lane| {
            match lane {
                Lane::Seal(seal, checkpoint) => evidence.checkpoints.extend(checkpoint.map(|note| Checkpoint {
                    head: note.0,
                    events: seal.events.get(),
                    time_ns: seal.time_ns.get(),
                    note: note.1,
                })),
                Lane::Anchor(anchor) => evidence.anchors.push(anchor),
            }
            true
        })?;
        debug_assert_eq!(evidence.checkpoints.first().map(|last| &last.note), Some(&note), "the last one comes first");
        evidence.checkpoints.reverse();
        evidence.anchors.reverse();
        Ok(evidence)
    }

    /// How far the log is durable, verified, sealed and anchored.
    ///
    /// # Errors
    /// Damage, or an error of the device.
    pub fn grades(&self) -> Result<Grades, ProveError> {
        let mut grades = Grades { durable_to: self.stats().records, verified_to: self.verified_to()?, ..Grades::default() };
        let walked = self.walk_lane(|lane| match lane {
            Lane::Seal(seal, Some((head, _))) if grades.sealed_to.is_none() => {
                grades.sealed_to = Some((head.size, seal.time_ns.get()));
                true
            }
            Lane::Seal(..) => true,
            Lane::Anchor(anchor) => {
                grades.anchored_to = Some((anchor.size, anchor.recorded_at_ns));
                false
            }
        });
        match walked {
            Ok(_) | Err(ProveError::NoCheckpoint | ProveError::OtherCheckpoint { .. }) => Ok(grades),
            Err(error) => Err(error),
        }
    }

    /// What an earlier verification remembered, if the log still has the record it ended with.
    fn verified_to(&self) -> Result<Option<(u64, u64)>, ReadError> {
        let left = Verified::find(self.shared.index.disk(), self.log_id());
        let Some(left) = left.filter(|left| left.head.size <= self.shared.watermark()) else { return Ok(None) };
        let last = self.shared.catalog().frame(left.head.size - 1)?.link();
        Ok((last == left.last).then_some((left.head.size, left.time_ns)))
    }

    /// Walks the engine's lane back from the seal of the last checkpoint; `each` says whether to go on. Returns the last note.
    fn walk_lane(&self, mut each: impl FnMut(Lane) -> bool) -> Result<String, ProveError> {
        let catalog = self.shared.catalog();
        let LastCheckpoint { note, parsed, .. } = self.last_checkpoint(&catalog)?;
        let name = note_name(self.origin(), &self.log_id());
        // Of the checkpoint that ends with a seal, the signature is known from the seal behind it; of the last one, from the note.
        let mut known = Some((parsed.head, parsed.signature));
        let mut position = parsed.head.size - 1;
        loop {
            let frame = catalog.frame(position)?;
            let body = frame.body().unwrap_or_default();
            let goes_on = match frame.header.kind {
                KIND_SEAL => {
                    let seal = SealBody::read_from_bytes(body).expect("rule F8");
                    let own = known.filter(|(head, _)| head.size == position + 1);
                    let checkpoint = own.map(|(head, signature)| (head, signed_note(&name, &head, &seal.log_key, &signature)));
                    if seal.signed_size.get() > 0 {
                        known = Some((TreeHead { size: seal.signed_size.get(), root: seal.signed_root }, seal.signature));
                    }
                    each(Lane::Seal(Box::new(seal), checkpoint))
                }
                KIND_ANCHOR => {
                    let (head, artefact) = AnchorHead::ref_from_prefix(body).expect("rule F10");
                    let form = match head.form {
                        1 => AnchorForm::Rfc3161,
                        2 => AnchorForm::OpenTimestamps,
                        3 => AnchorForm::Note,
                        _ => AnchorForm::Other,
                    };
                    each(Lane::Anchor(Anchor {
                        position: Position(position),
                        recorded_at_ns: frame.header.recorded_at_ns.get(),
                        form,
                        size: head.size.get(),
                        note_sha256: head.note_sha256,
                        artefact: artefact.to_vec(),
                    }))
                }
                _ => true,
            };
            position = match statement_before(&catalog, position)? {
                Some(before) if goes_on => before,
                _ => return Ok(note),
            };
        }
    }
}

/// A record of the engine's lane.
enum Lane {
    Seal(Box<SealBody>, Option<(TreeHead, String)>),
    Anchor(Anchor),
}
