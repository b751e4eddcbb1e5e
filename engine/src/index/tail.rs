//! What events name and when they claim to have occurred, of the part of the log that is in no run yet.
//!
//! Nobody who appends works for it: it is read when somebody asks, as far as the question goes, once for all who ask. It holds 16 bytes for everything that an
//! event names, of a segment or two, and is given up when the part comes into a run.

use std::ops::RangeInclusive;

use chainring_format::metadata::{Timestamp, mentions};

use super::key::{Keys, Term};
use super::zone::{self, Zone, stretches};
use crate::error::ReadError;
use crate::segment::{Catalog, Frames};

/// Keys and positions relative to the first one, for a stretch of the log.
#[derive(Debug, Default)]
pub(super) struct Tail {
    from: u64,
    to: u64,
    /// Sorted each, and each more than twice as long as the next: new ones are merged into old ones rarely, and few are asked.
    levels: Vec<Vec<(u64, u32)>>,
    zones: Vec<Zone>,
}

impl Tail {
    /// Takes in the records below `to`, of a log whose runs end at `from`.
    ///
    /// # Errors
    /// Damage, or an error of the device. What was read before stays.
    pub(super) fn extend(&mut self, catalog: &Catalog, keys: &Keys, from: u64, to: u64) -> Result<(), ReadError> {
        if self.from != from {
            *self = Tail { from, to: from, ..Tail::default() };
        }
        let mut frames = Frames::new(catalog, self.to);
        let mut level = Vec::new();
        let mut taken_in = Ok(());
        while self.to < to {
            let frame = match frames.next_frame() {
                Ok(frame) => frame,
                Err(error) => {
                    taken_in = Err(error);
                    break;
                }
            };
            let relative = self.to - from;
            zone::take_in(&mut self.zones, relative, &frame);
            if frame.is_event() {
                let place = u32::try_from(relative).expect("what is in no run is less than 2^32 records");
                mentions(frame.metadata(), |mention| level.push((keys.of(&Term::Mention(mention)), place)));
            }
            self.to += 1;
        }
        self.push(level);
        taken_in
    }

    fn push(&mut self, mut level: Vec<(u64, u32)>) {
        level.sort_unstable();
        while let Some(mut before) = self.levels.pop_if(|before| before.len() <= 2 * level.len()) {
            before.append(&mut level);
            // Finds the two sorted parts, and merges them.
            before.sort();
            level = before;
        }
        if !level.is_empty() {
            self.levels.push(level);
        }
    }

    /// Where it begins.
    pub(super) fn from(&self) -> u64 {
        self.from
    }

    /// Positions under a key from one on, rising.
    pub(super) fn positions(&self, key: u64, from: u64) -> Vec<u64> {
        let first = u32::try_from(from.saturating_sub(self.from)).unwrap_or(u32::MAX);
        let under_key = |level: &Vec<(u64, u32)>| {
            let start = level.partition_point(|posting| *posting < (key, first));
            level[start..].iter().take_while(|posting| posting.0 == key).map(|posting| self.from + u64::from(posting.1)).collect::<Vec<_>>()
        };
        let mut positions: Vec<u64> = self.levels.iter().flat_map(under_key).collect();
        positions.sort_unstable();
        // An event may name a thing twice.
        positions.dedup();
        positions
    }

    /// The stretches of records from a position on that may hold an event of a claimed time.
    pub(super) fn claimed(&self, from: u64, times: &RangeInclusive<Timestamp>) -> Vec<(u64, u64)> {
        stretches(&self.zones, self.from, self.to, from, times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_few_and_hold_everything() {
        let mut tail = Tail { from: 1000, to: 1000, ..Tail::default() };
        let mut all = Vec::new();
        for place in 0..3000_u32 {
            let key = u64::from(place * place % 17);
            all.push((key, 1000 + u64::from(place)));
            // Most come one by one, twice each; some many at once.
            if place % 100 < 90 {
                tail.push(vec![(key, place), (key, place)]);
            } else if place % 100 == 99 {
                tail.push((place - 9..=place).map(|place| (u64::from(place * place % 17), place)).collect());
            }
            assert!(tail.levels.len() <= 14, "{}", tail.levels.len());
        }
        for key in 0..18 {
            for from in [0, 1000, 1001, 2500, 3999, 4000] {
                let expected: Vec<u64> = all.iter().filter(|(of, at)| *of == key && *at >= from).map(|(_, at)| *at).collect();
                assert_eq!(tail.positions(key, from), expected, "{key} from {from}");
            }
        }
    }
}
