//! Records of the engine's own behind the genesis record: seals, keys, anchors. They travel through the rings like events and stand in the engine's lane.
//!
//! Nothing is decided about them here but one thing: a seal is over records of its own segment or right before it (rule E1).

use chainring_format::frame::{FrameFields, KIND_EVENT, back_distance, frame_bytes, slot_crc};
use chainring_format::hash::{self, EventContent, Hash, Leaf, LeafFields};
use chainring_format::limits::ENGINE_LANE;
use chainring_format::record::{KIND_SEAL, SealBody};
use chainring_format::{EventId, Link, Position, StreamId, Version};
use zerocopy::FromBytes;

use super::core::{Answers, Core, Held};
use super::pipeline::Pipeline;
use super::request::{Answer, Checked, EventReceipt, Load, Receipt};
use super::{Patience, Reply, Sequencer, Submission};
use crate::condition::Durability;
use crate::disk::Clock;
use crate::error::AppendError;
use crate::ring::Slot;
use crate::sync::{Arc, Ordering};

/// An engine record on its way. Of a seal, position and time are filled in at its turn.
#[derive(Debug)]
pub(crate) struct StatementDraft {
    pub kind: u8,
    pub body: Vec<u8>,
}

impl StatementDraft {
    fn frame_bytes(&self) -> u64 {
        frame_bytes(0, 0, self.body.len(), false)
    }
}

/// Link of a record of the engine's own behind the one with the link `before`; zero, where none is.
pub(super) fn statement_link(kind: u8, version: u64, recorded_at_ns: u64, body: &[u8], before: &Hash) -> Link {
    let digest = hash::event_digest(&EventContent {
        stream_id: StreamId::default(),
        event_id: EventId::default(),
        batch_id: EventId::default(),
        batch_index: 0,
        batch_count: 0,
        body_commit: &hash::body_commit(&[0; 16], body),
        metadata: &[],
    });
    Leaf::new(&LeafFields { kind, bucket: ENGINE_LANE, version, recorded_at_ns, digest: &digest, prev_bucket: before, prev_stream: before })
        .link()
}

impl Core {
    /// Places an engine record. [`Answer::Stale`] if it is a seal over records that lie too far back by now.
    pub(super) fn sequence_statement(
        &mut self,
        draft: &mut StatementDraft,
        answers: &mut Answers,
        directory: &mut Held<'_>,
        pipeline: &Pipeline,
    ) -> Answer {
        let now_ns = match self.read_clock() {
            Ok(now_ns) => now_ns,
            Err(error) => return Answer::Failed(error),
        };
        let bytes = draft.frame_bytes();
        if !self.writer.has_room(bytes) {
            directory.release();
            if let Err(error) = self.make_room(bytes, answers, pipeline) {
                return Answer::Failed(error);
            }
        }
        let position = self.next_position;
        if draft.kind == KIND_SEAL {
            let seal = SealBody::mut_from_bytes(&mut draft.body).expect("whoever seals makes a whole body");
            if seal.tree_size.get() < self.writer.header().first_position.get() {
                return Answer::Stale;
            }
            seal.position = position.into();
            seal.time_ns = now_ns.into();
        }
        self.time_ns = now_ns;
        let receipt = self.place_statement(draft);
        pipeline.shared.note_engine_record();
        Answer::Appended(Receipt { events: receipt.into(), epoch: self.epoch, durability: Durability::Durable, duplicate: false })
    }

    fn place_statement(&mut self, draft: &StatementDraft) -> EventReceipt {
        debug_assert_ne!(draft.kind, KIND_EVENT, "events are decided");
        let position = self.next_position;
        let lane = self.buckets.get(ENGINE_LANE).expect("the genesis record is in it");
        let link = statement_link(draft.kind, lane.count, self.time_ns, &draft.body, &lane.link.0);
        let back = back_distance(position, Some(lane.position));
        self.writer.place_frame(
            position,
            &FrameFields {
                kind: draft.kind,
                version: lane.count,
                recorded_at_ns: self.time_ns,
                bucket_back: back,
                stream_back: back,
                batch_index: 0,
                batch_count: 0,
                stream_id: StreamId::default(),
                event_id: EventId::default(),
                link,
                name: "",
                metadata: &[],
                body: &draft.body,
                salt: None,
                slot_crc: slot_crc(&draft.body, None),
            },
        );
        self.buckets.advance(ENGINE_LANE, position, link);
        self.links.push(link);
        self.link_buckets.push(ENGINE_LANE);
        self.next_position += 1;
        EventReceipt { position: Position(position), version: Version(lane.count), link }
    }
}

/// The right to append records of the engine's own, which are numbered and hang on each other. One has it at a time.
#[derive(Debug)]
pub(crate) struct SealingTurn(Arc<Sequencer>);

impl SealingTurn {
    /// `None` while somebody else has it.
    pub(crate) fn take(sequencer: &Arc<Sequencer>) -> Option<SealingTurn> {
        // Acquire: who has had it before has seen its last record durable.
        let is_free = !sequencer.is_being_sealed.swap(true, Ordering::Acquire);
        is_free.then(|| {
            sequencer.shared().feed.want(true);
            SealingTurn(Arc::clone(sequencer))
        })
    }
}

impl Drop for SealingTurn {
    fn drop(&mut self) {
        self.0.shared().feed.want(false);
        // Release: for the Acquire in `take`.
        self.0.is_being_sealed.store(false, Ordering::Release);
    }
}

impl Sequencer {
    /// Appends an engine record and waits until it is durable. `None` if it is a seal over records that lie too far back by now.
    pub(crate) fn append_statement(&self, draft: StatementDraft, clock: &dyn Clock) -> Result<Option<EventReceipt>, AppendError> {
        let rings = &self.pipeline.rings;
        let claim = self.claim(|| rings.claim(0, 0), Patience::Unbounded, clock)?;
        let slot = Arc::new(Slot::new());
        let load = Load::Statement(Box::new(draft));
        let submission = Submission { load, durability: Durability::Durable, reply: Reply(Arc::clone(&slot)), checked: Checked::default() };
        if rings.publish(0, claim, submission) {
            self.pipeline.gate.advance();
            self.pipeline.hand_over();
        }
        match self.wait(&slot, None, clock).expect("without a deadline there is an answer") {
            Answer::Appended(receipt) => Ok(Some(receipt.events[0])),
            Answer::Stale => Ok(None),
            Answer::Failed(error) => Err(error),
            Answer::Known { .. } => unreachable!("an engine record has no id"),
        }
    }

    /// Heads of all buckets, and how many records they are over. Under the helm, so that no record is half in them.
    pub(crate) fn heads(&self) -> (u64, Vec<Option<super::heads::Head>>) {
        let helm = crate::sync::model::lock(&self.helm);
        let heads = (helm.core.next_position, helm.core.buckets.all());
        drop(helm);
        // For who published meanwhile, and found it taken.
        self.pipeline.hand_over();
        heads
    }
}
