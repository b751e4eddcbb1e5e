//! What a collector of metrics sees of a log.
#![cfg(feature = "metrics")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chainring::{AnchorForm, Event, KeyFile, Options, VerifyOptions, verify};
use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

type Values = Arc<Mutex<BTreeMap<String, f64>>>;

/// Keeps the last value of every gauge.
struct Kept(Values);

struct One(Values, String);

impl GaugeFn for One {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.0.lock().unwrap().insert(self.1.clone(), value);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        assert!(name.as_str().starts_with("chainring_") && unit.is_some() && !meaning.is_empty());
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        unreachable!("there are only gauges");
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let labels: Vec<_> = key.labels().map(|label| (label.key(), label.value())).collect();
        assert_eq!(labels, [("log", "log.example")]);
        Gauge::from_arc(Arc::new(One(Arc::clone(&self.0), key.name().to_owned())))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unreachable!("there are only gauges");
    }
}

#[test]
fn grades_are_published_as_they_come() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("log");
    let log = Options::new().origin("log.example").open(&store).unwrap();
    let values = Values::default();
    let published = || {
        values.lock().unwrap().clear();
        metrics::with_local_recorder(&Kept(Arc::clone(&values)), || log.publish_metrics()).unwrap();
        values.lock().unwrap().clone()
    };
    log.append(Event::new("s", "E")).unwrap();
    let first = published();
    assert_eq!((first["chainring_events"], first["chainring_streams"], first["chainring_durable_records"]), (1.0, 1.0, 2.0));
    assert!(!first.contains_key("chainring_sealed_records") && first["chainring_bytes"] > 4096.0);
    let sealer = log.sealer(Arc::new(KeyFile::generate(place.path().join("key"), "log.example").unwrap())).unwrap();
    let checkpoint = sealer.seal().unwrap();
    let second = published();
    assert_eq!(second["chainring_sealed_records"], checkpoint.head.size as f64);
    assert!((0.0..60.0).contains(&second["chainring_sealed_age_seconds"]));
    sealer.anchor(AnchorForm::Other, &checkpoint.note, b"seen").unwrap();
    let last = sealer.seal().unwrap();
    assert!(verify(&store, &VerifyOptions { remember: true, ..VerifyOptions::default() }).unwrap().is_ok());
    let third = published();
    assert_eq!(third["chainring_anchored_records"], checkpoint.head.size as f64);
    assert_eq!(third["chainring_verified_records"], last.head.size as f64);
    assert_eq!(third.len(), 11);
}
