//! Sets of numbers that mostly follow each other, kept as ranges: what is known of a million versions fits into a few words.

/// A set of numbers as ascending ranges, both ends included, that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a number.
    pub(super) fn insert(&mut self, number: u64) {
        match self.0.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            Some((_, last)) if *last >= number => self.insert_before(number),
            _ => self.0.push((number, number)),
        }
    }

    /// Adds a number that does not come last.
    fn insert_before(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let at = self.0.partition_point(|(first, _)| *first < number);
        self.0.insert(at, (number, number));
        // A range that now touches its neighbour is one with it.
        for left in [at, at.saturating_sub(1)] {
            if let Some(&[(first, last), (next, end)]) = self.0.get(left..left + 2)
                && last + 1 == next
            {
                self.0.splice(left..left + 2, [(first, end)]);
            }
        }
    }

    /// Adds numbers that all come last.
    pub(super) fn insert_range(&mut self, first: u64, last: u64) {
        debug_assert!(first <= last && self.last().is_none_or(|before| before < first));
        self.0.push((first, last));
    }

    /// Whether a number is in it.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && number <= self.0[after - 1].1
    }

    /// The ranges, first and last number, ascending.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// How many numbers are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The largest number in it.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// What of `1..=last` is not in it.
    #[must_use]
    pub fn missing_up_to(&self, last: u64) -> Ranges {
        let mut missing = Vec::new();
        let mut next = 1;
        for &(first, end) in &self.0 {
            if first > next {
                missing.push((next, (first - 1).min(last)));
            }
            next = end.saturating_add(1);
        }
        if next <= last {
            missing.push((next, last));
        }
        missing.retain(|(first, end)| first <= end);
        Ranges(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_set() {
        // Every order in which five numbers can come, twice each.
        let mut orders = vec![vec![]];
        for number in [1, 2, 3, 5, 6] {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<u64>| {
                    (0..=order.len()).map(move |at| {
                        let mut longer = order.clone();
                        longer.insert(at, number);
                        longer
                    })
                })
                .collect();
        }
        for order in orders {
            let mut ranges = Ranges::default();
            order.iter().chain(&order).for_each(|number| ranges.insert(*number));
            assert_eq!(ranges.0, [(1, 3), (5, 6)], "{order:?}");
            assert_eq!((ranges.count(), ranges.last(), ranges.contains(4), ranges.contains(5)), (5, Some(6), false, true));
            assert_eq!(ranges.missing_up_to(8).0, [(4, 4), (7, 8)]);
            assert_eq!(ranges.missing_up_to(6).0, [(4, 4)]);
            assert_eq!(ranges.missing_up_to(3).0, []);
        }
        assert_eq!(Ranges::default().missing_up_to(2).0, [(1, 2)]);
    }
}
