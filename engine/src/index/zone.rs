//! When events claim to have occurred, zone by zone, so that those of some time are found without reading all others.
//!
//! Claimed times may be anything, and mostly rise with positions: for every 64 records of a segment the earliest and the latest claimed second is kept, and
//! that of all of them in the segment's summary. An event that is far off the others widens its own zone and no other.

use std::ops::RangeInclusive;

use chainring_format::frame::FrameView;
use chainring_format::metadata::{Timestamp, occurred_at};

/// Records of a zone; the last one of a segment has fewer.
pub(super) const ZONE_RECORDS: u64 = 64;

/// The earliest and the latest second in which some events claim to have occurred. Seconds are rounded down, both of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone {
    pub earliest: i64,
    pub latest: i64,
}

impl Zone {
    /// No event claims a time.
    pub(crate) const EMPTY: Zone = Zone { earliest: i64::MAX, latest: i64::MIN };

    fn take_in(&mut self, time: Timestamp) {
        (self.earliest, self.latest) = (self.earliest.min(time.seconds), self.latest.max(time.seconds));
    }

    pub(super) fn join(self, other: Zone) -> Zone {
        Zone { earliest: self.earliest.min(other.earliest), latest: self.latest.max(other.latest) }
    }

    /// Whether an event of these may have occurred in this time.
    pub(super) fn may_hold(self, times: &RangeInclusive<Timestamp>) -> bool {
        self.earliest <= self.latest && self.earliest <= times.end().seconds && self.latest >= times.start().seconds
    }
}

/// Takes a record into the zones of a stretch in which it has this place; the records before it are in.
pub(super) fn take_in(zones: &mut Vec<Zone>, place: u64, frame: &FrameView<'_>) {
    if place.is_multiple_of(ZONE_RECORDS) {
        zones.push(Zone::EMPTY);
    }
    let zone = zones.last_mut().expect("the first of the zone's records made it");
    if frame.is_event() {
        occurred_at(frame.metadata()).into_iter().for_each(|time| zone.take_in(time));
    }
}

/// The stretches of records, from position to position, that the zones of a segment leave of the part from `from` on.
pub(super) fn stretches(zones: &[Zone], first: u64, next: u64, from: u64, times: &RangeInclusive<Timestamp>) -> Vec<(u64, u64)> {
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    for (zone, start) in zones.iter().zip((first..next).step_by(ZONE_RECORDS as usize)) {
        let (start, end) = (start.max(from), next.min(start + ZONE_RECORDS));
        if start < end && zone.may_hold(times) {
            match stretches.last_mut() {
                Some((_, last)) if *last == start => *last = end,
                _ => stretches.push((start, end)),
            }
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp { seconds, nanoseconds }
    }

    #[test]
    fn a_zone_holds_its_bounds_and_what_is_between() {
        let mut zone = Zone::EMPTY;
        assert!(!zone.may_hold(&(at(i64::MIN, 0)..=at(i64::MAX, 999_999_999))), "no time was claimed");
        zone.take_in(at(-5, 7));
        zone.take_in(at(10, 999_999_999));
        for (from, to, may_hold) in [(-9, -6, false), (-9, -5, true), (0, 3, true), (10, 11, true), (11, 20, false)] {
            assert_eq!(zone.may_hold(&(at(from, 0)..=at(to, 0))), may_hold, "{from}..={to}");
        }
        assert_eq!(zone.join(Zone::EMPTY), zone);
    }

    #[test]
    fn stretches_are_joined_and_cut() {
        let zone = |second| Zone { earliest: second, latest: second };
        // Of 64, 64, 64, 64 and 10 records from position 100 on.
        let zones = [zone(1), zone(1), zone(9), zone(1), zone(1)];
        let (all, ones) = (at(0, 0)..=at(9, 0), at(1, 0)..=at(2, 0));
        assert_eq!(stretches(&zones, 100, 366, 0, &all), [(100, 366)]);
        assert_eq!(stretches(&zones, 100, 366, 0, &ones), [(100, 228), (292, 366)]);
        assert_eq!(stretches(&zones, 100, 366, 165, &ones), [(165, 228), (292, 366)]);
        assert_eq!(stretches(&zones, 100, 366, 365, &ones), [(365, 366)]);
        assert_eq!(stretches(&zones, 100, 366, 366, &ones), []);
    }
}
