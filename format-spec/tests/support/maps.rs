//! Metadata maps that are used in more than one place.

use chainring_format::cbor::Value;
use chainring_format::metadata::{AuthorityRef, Class, ExternalRef, Metadata, ReadRef, Reversibility, Standing, Timestamp};
use chainring_format::{EventId, Link};

use super::records::event_id;
use super::{painted, painted_array};

/// Every key of FORMAT.md section 8.
pub(crate) fn full_metadata() -> Metadata {
    let read = |stream: &str, version, standing| ReadRef {
        stream: stream.into(),
        version,
        state: Some(painted(1, 32)),
        standing: Some(standing),
        unknown: vec![],
    };
    Metadata {
        event_type: "OrderCancelled".into(),
        schema_version: Some(2),
        content_type: Some("application/json".into()),
        occurred_at: Some(Timestamp { seconds: -1, nanoseconds: 999_999_999 }),
        actor: Some("agent:stock-keeper".into()),
        on_behalf_of: Some("user:7".into()),
        correlation: Some("run-19".into()),
        causation: Some(event_id(0x100)),
        run_epoch: Some(3),
        class: Some(Class::Compensation),
        authority: vec![AuthorityRef {
            stream: Some("$authority/refunds".into()),
            version: Some(24),
            link: Some(Link(painted_array(0))),
            rule: Some("below-100".into()),
            policy: Some("refunds".into()),
            policy_version: Some("2026-09".into()),
            digest: Some(painted(32, 32)),
            event: Some(event_id(0x101)),
            confirmed_by: Some(event_id(0x102)),
            unknown: vec![],
        }],
        reads: Some(vec![read("order-1", 255, Standing::Relevant), read("stock-9", 256, Standing::Authoritative)]),
        checked: Some(vec![read("order-1", 65_536, Standing::Authoritative)]),
        external: vec![ExternalRef {
            resource: "https://prices.example/9".into(),
            version: Some("W/\"7\"".into()),
            hash: Some(painted(64, 32)),
            observed_at: Some(Timestamp { seconds: 1_790_000_000, nanoseconds: 0 }),
            max_age_ns: Some(5_000_000_000),
            unknown: vec![],
        }],
        compensates: Some(EventId(painted_array(96))),
        reversibility: Some(Reversibility::Irreversible),
        trace: Some(("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(), Some("a=b".into()))),
        attributes: vec![("cost".into(), Value::Float(0.5)), ("model".into(), Value::text("m-1")), ("tries".into(), Value::int(-3))],
        expected_version: Some(0),
        batch_label: Some("close of day".into()),
        unknown: vec![],
    }
}

/// Unknown keys at the top and in every inner map.
pub(crate) fn unknown_keys() -> Metadata {
    let kept = |key| vec![(key, Value::Array(vec![Value::Bool(true), Value::Null, Value::Float(-0.0)]))];
    Metadata {
        authority: vec![AuthorityRef { unknown: kept(10), ..AuthorityRef::default() }],
        reads: Some(vec![ReadRef { stream: "s".into(), version: 0, unknown: kept(5), ..ReadRef::default() }]),
        checked: Some(vec![]),
        external: vec![ExternalRef { resource: "r".into(), unknown: kept(6), ..ExternalRef::default() }],
        unknown: [kept(0), kept(21), kept(u64::MAX)].concat(),
        ..Metadata::new("Noted")
    }
}
