//! Grades and sizes of a log for whoever collects metrics, through the facade of the crate `metrics` (feature `metrics`).

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Unit, describe_gauge, gauge};

use super::note::note_name;
use super::prove::ProveError;
use crate::log::Store;

/// Names, units and meanings of all gauges; every one has the label `log`, the name of the log in notes.
const GAUGES: [(&str, Unit, &str); 11] = [
    ("chainring_events", Unit::Count, "Durable events"),
    ("chainring_streams", Unit::Count, "Streams"),
    ("chainring_segments", Unit::Count, "Segment files"),
    ("chainring_bytes", Unit::Bytes, "Headers, commits and footers"),
    ("chainring_durable_records", Unit::Count, "Records on stable storage, and chained"),
    ("chainring_verified_records", Unit::Count, "Records that a verification of this place found to hold"),
    ("chainring_verified_age_seconds", Unit::Seconds, "Since that verification"),
    ("chainring_sealed_records", Unit::Count, "Records under the last checkpoint"),
    ("chainring_sealed_age_seconds", Unit::Seconds, "Since that checkpoint"),
    ("chainring_anchored_records", Unit::Count, "Records under the last checkpoint that somebody outside has seen"),
    ("chainring_anchored_age_seconds", Unit::Seconds, "Since that was bound"),
];

impl Store {
    /// Sets the gauges `chainring_…` of the recorder that the program has installed: sizes, and how far the log is durable, verified, sealed and anchored
    /// (records, and seconds since then; nothing is set of what never was). To be called as often as somebody looks. Only with the feature `metrics`.
    ///
    /// # Errors
    /// Those of [`Store::grades`].
    pub fn publish_metrics(&self) -> Result<(), ProveError> {
        for (name, unit, meaning) in GAUGES {
            describe_gauge!(name, unit, meaning);
        }
        let (stats, grades) = (self.stats(), self.grades()?);
        let log = note_name(&stats.origin, &stats.log_id);
        let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let set = |name: &'static str, value: f64| gauge!(name, "log" => log.clone()).set(value);
        set("chainring_events", stats.events as f64);
        set("chainring_streams", stats.streams as f64);
        set("chainring_segments", stats.segments as f64);
        set("chainring_bytes", stats.bytes as f64);
        set("chainring_durable_records", grades.durable_to as f64);
        let dated = [
            ("chainring_verified_records", "chainring_verified_age_seconds", grades.verified_to),
            ("chainring_sealed_records", "chainring_sealed_age_seconds", grades.sealed_to),
            ("chainring_anchored_records", "chainring_anchored_age_seconds", grades.anchored_to),
        ];
        for (records, age, graded) in dated {
            if let Some((size, at_ns)) = graded {
                set(records, size as f64);
                set(age, now_ns.saturating_sub(at_ns) as f64 / 1e9);
            }
        }
        Ok(())
    }
}
