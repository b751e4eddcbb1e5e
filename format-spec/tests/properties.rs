//! Properties of frames and metadata over arbitrary inputs: what goes in comes back, what is changed is refused, nothing panics.

use std::collections::BTreeMap;

use chainring_format::checksum::Seed;
use chainring_format::commit::CommitTrailer;
use chainring_format::frame::{FrameFields, FrameView, KIND_EVENT, KIND_GENESIS, slot_crc};
use chainring_format::metadata::{
    AuthorityRef, Class, ExternalRef, Metadata, ReadRef, Reversibility, Standing, Timestamp, check, event_type, holds, occurred_at,
};
use chainring_format::segment::SegmentHeader;
use chainring_format::{EventId, Link, Mark, StreamId, cbor::Value, footer};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// Everything in a frame, owned.
#[derive(Debug, Clone)]
struct Frame {
    kind: u8,
    numbers: (u64, u64),
    backs: (u32, u32),
    batch: (u32, u32),
    ids: ([u8; 16], [u8; 16]),
    link: [u8; 32],
    name: String,
    metadata: Vec<u8>,
    body: Vec<u8>,
    salt: Option<[u8; 16]>,
    mask: u32,
}

impl Frame {
    fn encode(&self) -> Vec<u8> {
        let fields = FrameFields {
            kind: self.kind,
            version: self.numbers.0,
            recorded_at_ns: self.numbers.1,
            bucket_back: self.backs.0,
            stream_back: self.backs.1,
            batch_index: self.batch.0,
            batch_count: self.batch.1,
            stream_id: StreamId(self.ids.0),
            event_id: EventId(self.ids.1),
            link: Link(self.link),
            name: &self.name,
            metadata: &self.metadata,
            body: &self.body,
            salt: self.salt.as_ref(),
            slot_crc: slot_crc(&self.body, self.salt.as_ref()),
        };
        let mut bytes = vec![0xEE; fields.frame_bytes() as usize];
        fields.encode(&mut bytes, self.mask);
        bytes
    }
}

fn any_frame(body_bytes: usize) -> impl Strategy<Value = Frame> {
    let fixed = (prop_oneof![Just(KIND_GENESIS), Just(KIND_EVENT)], any::<(u64, u64)>(), any::<(u32, u32)>(), any::<(u32, u32)>());
    let hashes = (any::<([u8; 16], [u8; 16])>(), any::<[u8; 32]>());
    let variable = (".{0,20}", vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..body_bytes), any::<Option<[u8; 16]>>(), any::<u32>());
    (fixed, hashes, variable).prop_map(|((kind, numbers, backs, batch), (ids, link), (name, metadata, body, salt, mask))| Frame {
        kind,
        numbers,
        backs,
        batch,
        ids,
        link,
        name,
        metadata,
        body,
        salt,
        mask,
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(Value::Uint),
        any::<u64>().prop_map(Value::Nint),
        vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        ".{0,10}".prop_map(Value::Text),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        any::<f64>().prop_filter("NaN is not equal to itself", |f| !f.is_nan()).prop_map(Value::Float),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| vec(inner, 0..4).prop_map(Value::Array))
}

/// Unknown keys of a map whose known keys end below `from`.
fn unknown(from: u64) -> impl Strategy<Value = Vec<(u64, Value)>> {
    btree_map(from.., any_value(), 0..3).prop_map(|map| map.into_iter().collect())
}

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn time() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0_u32..1_000_000_000).prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds })
}

fn any_authority() -> impl Strategy<Value = AuthorityRef> {
    let named = (option::of(text()), any::<Option<u64>>(), any::<Option<[u8; 32]>>(), option::of(text()), option::of(text()));
    let proof =
        (option::of(text()), option::of(vec(any::<u8>(), 0..40)), any::<Option<[u8; 16]>>(), any::<Option<[u8; 16]>>(), unknown(10));
    (named, proof).prop_map(|((stream, version, link, rule, policy), (policy_version, digest, event, confirmed_by, unknown))| {
        AuthorityRef {
            stream,
            version,
            link: link.map(Link),
            rule,
            policy,
            policy_version,
            digest,
            event: event.map(EventId),
            confirmed_by: confirmed_by.map(EventId),
            unknown,
        }
    })
}

fn any_read() -> impl Strategy<Value = ReadRef> {
    let standing = option::of(prop_oneof![Just(Standing::Relevant), Just(Standing::Authoritative)]);
    let fields = (text(), any::<u64>(), option::of(vec(any::<u8>(), 0..40)), standing, unknown(5));
    fields.prop_map(|(stream, version, state, standing, unknown)| ReadRef { stream, version, state, standing, unknown })
}

fn any_external() -> impl Strategy<Value = ExternalRef> {
    let fields = (text(), option::of(text()), option::of(vec(any::<u8>(), 0..40)), option::of(time()), any::<Option<u64>>(), unknown(6));
    fields.prop_map(|(resource, version, hash, observed_at, max_age_ns, unknown)| ExternalRef {
        resource,
        version,
        hash,
        observed_at,
        max_age_ns,
        unknown,
    })
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let texts = (text(), option::of(text()), option::of(text()), option::of(text()), option::of(text()), option::of(text()));
    let numbers = (any::<Option<u64>>(), option::of(time()), any::<Option<u64>>(), any::<Option<u64>>());
    let codes = (option::of(0_u64..9), option::of(0_u64..4), any::<Option<[u8; 16]>>(), any::<Option<[u8; 16]>>());
    let lists =
        (vec(any_authority(), 0..3), option::of(vec(any_read(), 0..3)), option::of(vec(any_read(), 0..3)), vec(any_external(), 0..3));
    let free = (option::of((text(), option::of(text()))), btree_map(text(), any_value(), 0..4), unknown(21));
    (texts, numbers, codes, lists, free).prop_map(|(texts, numbers, codes, lists, (trace, attributes, unknown))| Metadata {
        event_type: texts.0,
        content_type: texts.1,
        actor: texts.2,
        on_behalf_of: texts.3,
        correlation: texts.4,
        batch_label: texts.5,
        schema_version: numbers.0,
        occurred_at: numbers.1,
        run_epoch: numbers.2,
        expected_version: numbers.3,
        class: codes.0.and_then(Class::from_code),
        reversibility: codes.1.and_then(Reversibility::from_code),
        causation: codes.2.map(EventId),
        compensates: codes.3.map(EventId),
        authority: lists.0,
        reads: lists.1,
        checked: lists.2,
        external: lists.3,
        trace,
        attributes: attributes.into_iter().collect(),
        unknown,
    })
}

proptest! {
    #[test]
    fn a_frame_gives_back_what_went_in(frame in any_frame(300), behind in vec(any::<u8>(), 0..20)) {
        let bytes = frame.encode();
        let longer = [&bytes[..], &behind].concat();
        let view = FrameView::parse(&longer, frame.mask).unwrap();
        prop_assert_eq!(view.bytes(), &bytes[..]);
        prop_assert_eq!(Mark::of(&longer), Mark::Frame(bytes.len() as u32));
        let h = view.header;
        prop_assert_eq!((h.kind, h.version.get(), h.recorded_at_ns.get()), (frame.kind, frame.numbers.0, frame.numbers.1));
        prop_assert_eq!((h.bucket_back.get(), h.stream_back.get()), frame.backs);
        prop_assert_eq!((h.batch_index.get(), h.batch_count.get()), frame.batch);
        prop_assert_eq!((view.stream_id().0, view.event_id().0, view.link().0), (frame.ids.0, frame.ids.1, frame.link));
        prop_assert_eq!(view.name().unwrap_or_default(), &frame.name);
        prop_assert_eq!(view.metadata(), &frame.metadata[..]);
        prop_assert_eq!(view.body(), Some(&frame.body[..]));
        prop_assert_eq!(view.salt(), frame.salt.unwrap_or_default());
        prop_assert!(!view.erased());
        prop_assert_eq!(FrameView::peek(&longer).map(|view| view.bytes().len()), Some(bytes.len()));
    }

    #[test]
    fn any_changed_byte_is_refused(frame in any_frame(100), change in 1_u8..=255) {
        let mut bytes = frame.encode();
        for at in 0..bytes.len() {
            bytes[at] ^= change;
            prop_assert!(FrameView::parse(&bytes, frame.mask).is_err(), "byte {} changed by {:#x}", at, change);
            bytes[at] ^= change;
        }
    }

    #[test]
    fn a_frame_cut_short_or_in_another_place_is_refused(frame in any_frame(100), cut in any::<prop::sample::Index>(), other in 1_u32..) {
        let bytes = frame.encode();
        prop_assert!(FrameView::parse(&bytes[..cut.index(bytes.len())], frame.mask).is_err());
        prop_assert!(FrameView::parse(&bytes, frame.mask ^ other).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..700), mask in any::<u32>(), salt in any::<[u8; 16]>()) {
        let (seed, offset) = (Seed::new(&salt), u64::from(mask));
        prop_assert!(FrameView::parse(&bytes, mask).is_err());
        prop_assert!(CommitTrailer::parse(&bytes, seed, offset).is_err());
        prop_assert!(footer::parse(&bytes, seed, offset).is_err());
        prop_assert!(SegmentHeader::parse(&bytes).is_err());
        let _ = (FrameView::peek(&bytes), Mark::of(&bytes), event_type(&bytes), occurred_at(&bytes));
        prop_assert_eq!(holds(&bytes), Metadata::decode(&bytes).is_ok());
        // An empty map of attributes means the same as none, so only what was read and written once must stay as it is.
        if let Ok(metadata) = Metadata::decode(&bytes) {
            let once = metadata.encode();
            prop_assert_eq!(Metadata::decode(&once).unwrap().encode(), once);
        }
    }

    /// Right lengths and right checksums over arbitrary content: this gets past the checksums into every check behind them.
    #[test]
    fn frames_with_any_content_are_checked_without_panic(frame in any_frame(300), position in 0_u64..3) {
        let bytes = frame.encode();
        let view = FrameView::parse(&bytes, frame.mask).unwrap();
        let digest = view.digest(EventId::default());
        prop_assert_ne!(view.expected_link(&digest, &[0; 32], &[0; 32]).0, [0; 32]);
        if let Ok(()) = view.check(position) {
            prop_assert_eq!(view.is_event(), position > 0);
        }
    }

    /// A header of plausible small lengths over arbitrary bytes, as a torn or overwritten frame shows.
    #[test]
    fn plausible_lengths_never_panic(mut bytes in vec(any::<u8>(), 120..600), lengths in any::<(u8, u8, u8)>(), salted in any::<bool>()) {
        let (metadata, body, name) = lengths;
        let total = chainring_format::frame::frame_bytes(name.into(), metadata.into(), body.into(), salted) as u32;
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(metadata).to_le_bytes());
        bytes[16..20].copy_from_slice(&u32::from(body).to_le_bytes());
        bytes[20..22].copy_from_slice(&u16::from(name).to_le_bytes());
        bytes[23] = u8::from(salted);
        prop_assert!(FrameView::parse(&bytes, 7).is_err());
        if let Some(view) = FrameView::peek(&bytes) {
            prop_assert_eq!(view.bytes().len(), total as usize);
            let _ = (view.name(), view.body_commit(), view.salt(), view.check(0), view.check(1));
        }
    }

    #[test]
    fn metadata_comes_back(metadata in any_metadata()) {
        let bytes = metadata.encode();
        prop_assert!(holds(&bytes) && check(&bytes).is_ok());
        prop_assert_eq!(event_type(&bytes), Some(&metadata.event_type[..]));
        prop_assert_eq!(occurred_at(&bytes), metadata.occurred_at);
        let mut read = Metadata::decode(&bytes).unwrap();
        prop_assert_eq!(read.encode(), bytes);
        // Stored attributes are sorted by their encodings, those that went in by text.
        read.attributes.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!(read, metadata);
    }

    #[test]
    fn metadata_with_a_changed_byte_is_refused_or_means_something_else(metadata in any_metadata(), at in any::<prop::sample::Index>(), change in 1_u8..=255) {
        let mut bytes = metadata.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert_eq!(holds(&bytes), Metadata::decode(&bytes).is_ok());
        if let Ok(other) = Metadata::decode(&bytes) {
            prop_assert_ne!(other.encode(), metadata.encode());
        }
    }

    /// CBOR of any shape, also under keys that are known: the table and the decoder say the same.
    #[test]
    fn what_holds_is_what_can_be_decoded(fields in vec((0_u64..24, any_value()), 0..5), typed in any::<bool>(), cut in any::<prop::sample::Index>()) {
        let mut entries: BTreeMap<u64, Value> = fields.into_iter().collect();
        if typed {
            entries.insert(1, Value::text("T"));
        }
        let map = Value::Map(entries.into_iter().map(|(key, value)| (Value::Uint(key), value)).collect());
        let mut bytes = Vec::new();
        map.encode(&mut bytes);
        prop_assert_eq!(holds(&bytes), Metadata::decode(&bytes).is_ok());
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert_eq!(holds(cut), Metadata::decode(cut).is_ok());
    }
}

#[test]
fn nesting_is_allowed_as_deep_as_can_be_decoded() {
    for (key, wrap) in [(30, 0), (18, 1), (11, 2), (12, 2)] {
        for depth in 0..20 {
            let mut value = (0..depth)
                .fold(Value::Null, |inner, n| if n % 2 == 0 { Value::Array(vec![inner]) } else { Value::Map(vec![(Value::Null, inner)]) });
            value = match wrap {
                1 => Value::Map(vec![(Value::text("a"), value)]),
                2 => Value::Array(vec![Value::Map(vec![
                    (Value::Uint(1), Value::text("s")),
                    (Value::Uint(2), Value::Uint(1)),
                    (Value::Uint(40), value),
                ])]),
                _ => value,
            };
            let mut bytes = Vec::new();
            Value::Map(vec![(Value::Uint(1), Value::text("T")), (Value::Uint(key), value)]).encode(&mut bytes);
            assert_eq!(holds(&bytes), Metadata::decode(&bytes).is_ok(), "{key} {depth}");
        }
    }
}
