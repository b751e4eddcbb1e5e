//! Placing what was decided: every event gets its position, version and link, and its frame is put into the image.

use chainring_format::frame::{FrameFields, KIND_EVENT, back_distance};
use chainring_format::hash::{self, Leaf, LeafFields};
use chainring_format::{Link, Position, Version};

use super::core::Core;
use super::decide::Target;
use super::heads::{Birth, Directory, StreamHead, StreamNumber};
use super::request::{Content, EventReceipt, PreparedEvent, Receipt, RequestView};
use crate::condition::Durability;

/// An event on its way: all that its link is made of.
struct Placing<'a> {
    event: &'a PreparedEvent,
    content: Content<'a>,
    /// Its stream's; `None` if that is new.
    number: Option<StreamNumber>,
    position: u64,
    version: u64,
    bucket_back: u32,
    stream_back: u32,
    leaf: Leaf,
}

impl Core {
    /// Places the events of a request. Cannot fail: everything was decided and counted before.
    ///
    /// Two events in a row whose buckets differ do not hang on each other: their links are made side by side.
    pub(super) fn place(&mut self, request: RequestView<'_>, durability: Durability, directory: &mut Directory) -> Receipt {
        let batch_count = request.batch_count();
        let mut receipts = Vec::with_capacity(if request.batch { request.events.len() } else { 0 });
        let targets = std::mem::take(&mut self.found.targets);
        // Numbers of the request's new streams, as far as they have one.
        let mut news: Vec<StreamNumber> = Vec::new();
        let mut index = 0;
        let mut events = request.contents().zip(&targets).peekable();
        while let Some(((event, content), target)) = events.next() {
            let number = |target| match target {
                Target::Known(number) => Some(number),
                Target::New(place) => news.get(place).copied(),
            };
            let first = self.placing(event, content, number(*target), directory, 0);
            let second = events.next_if(|((second, _), _)| second.stream.id.bucket() != event.stream.id.bucket());
            let second = second.map(|((event, content), target)| self.placing(event, content, number(*target), directory, 1));
            let links = match &second {
                Some(second) => Leaf::links([&first.leaf, &second.leaf]),
                None => [first.leaf.link(); 2],
            };
            for (placing, link) in [Some(first), second].into_iter().flatten().zip(links) {
                self.put(&placing, link, (index, batch_count));
                index += 1;
                let Placing { event, number, version, position, .. } = placing;
                match number {
                    Some(number) => directory.advance(number, version, position, link),
                    None => {
                        let birth = Some(Birth { position, name_rest: event.stream.name_rest });
                        news.push(directory.add_stream(event.stream.id, StreamHead { version, position, link, birth }));
                    }
                }
                directory.add_id(event.event_id, position);
                let receipt = EventReceipt { position: Position(position), version: Version(version), link };
                if !request.batch {
                    self.found.targets = targets;
                    return Receipt { events: receipt.into(), epoch: self.epoch, durability, duplicate: false };
                }
                receipts.push(receipt);
            }
        }
        self.found.targets = targets;
        Receipt { events: receipts.into(), epoch: self.epoch, durability, duplicate: false }
    }

    /// The event `ahead` of the next position, behind the heads as they are.
    fn placing<'a>(
        &self,
        event: &'a PreparedEvent,
        content: Content<'a>,
        number: Option<StreamNumber>,
        directory: &Directory,
        ahead: u64,
    ) -> Placing<'a> {
        let position = self.next_position + ahead;
        let head = number.map(|number| directory.head(number));
        let bucket = event.stream.id.bucket();
        let bucket_head = self.buckets.get(bucket);
        let version = head.map_or(0, |head| head.version) + 1;
        let prev_stream = head.map_or_else(|| hash::name_commit(&self.log_id, content.name()), |head| head.link.0);
        let leaf = Leaf::new(&LeafFields {
            kind: KIND_EVENT,
            bucket,
            version,
            recorded_at_ns: self.time_ns,
            digest: event.digest.as_ref().expect("the caller or the leader has hashed it"),
            prev_bucket: &bucket_head.map_or(self.log_id, |head| head.link).0,
            prev_stream: &prev_stream,
        });
        let bucket_back = back_distance(position, bucket_head.map(|head| head.position));
        let stream_back = back_distance(position, head.map(|head| head.position));
        Placing { event, content, number, position, version, bucket_back, stream_back, leaf }
    }

    /// Puts the next event's frame into the image, and moves its bucket on.
    fn put(&mut self, placing: &Placing<'_>, link: Link, (batch_index, batch_count): (u32, u32)) {
        let &Placing { event, content, position, version, bucket_back, stream_back, .. } = placing;
        self.writer.place_frame(
            position,
            &FrameFields {
                kind: KIND_EVENT,
                version,
                recorded_at_ns: self.time_ns,
                bucket_back,
                stream_back,
                batch_index,
                batch_count,
                stream_id: event.stream.id,
                event_id: event.event_id,
                link,
                name: if version == 1 { content.name() } else { "" },
                metadata: content.metadata,
                body: content.body,
                salt: event.salt.as_ref(),
                slot_crc: event.slot_crc,
            },
        );
        let bucket = event.stream.id.bucket();
        self.buckets.advance(bucket, position, link);
        self.links.push(link);
        self.link_buckets.push(bucket);
        self.next_position += 1;
    }
}
