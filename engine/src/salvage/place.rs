//! Giving records back their positions. A frame holds none; trailers, headers and footers do, for the places where they stand or begin.
//!
//! Between two places of known position the records are counted from the left up to the first gap and from the right back to the last one. Where
//! there are as many records as positions, every one is known; what stands between two gaps of which records are missing is not, and stays so.

use super::manifest::Missing;
use super::scan::{Cell, What};

/// No log has more records; what says so is not believed, and counting on from a position never overflows.
const POSITION_MAX: u64 = 1 << 63;

/// A place in a segment where the position of the next record is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub offset: u64,
    pub position: u64,
}

/// Where counting has come to, over all segments.
#[derive(Debug, Default)]
pub(super) struct Positions {
    /// Position behind the last record whose position is known.
    next: u64,
    /// Records behind that whose positions are not known, and how many of them are intact.
    unplaced: u64,
    unplaced_intact: u64,
    /// Something may be missing behind `next`.
    open: bool,
    /// Records are missing before the next cell, and no gap shows it.
    jumped: bool,
    missing: Vec<Missing>,
}

impl Positions {
    /// Something between the cells before and those to come is gone, nobody knows how much.
    pub(super) fn interrupt(&mut self) {
        self.open = true;
    }

    /// Whether records may be missing behind the last anchor.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether records are missing behind the last cell, and no gap shows it.
    pub(super) fn has_jumped(&self) -> bool {
        self.jumped
    }

    /// Gives the cells of a segment their positions. Anchors ascend; one that cannot be, because there are more records than positions
    /// before it, is passed over.
    pub(super) fn assign(&mut self, cells: &mut [Cell], anchors: &[Anchor]) {
        let mut from = 0;
        for anchor in anchors {
            let to = from + cells[from..].partition_point(|cell| cell.offset < anchor.offset);
            if self.run(&mut cells[from..to], Some(anchor.position)) {
                from = to;
            }
        }
        self.run(&mut cells[from..], None);
    }

    /// The missing positions, when all segments were counted.
    pub(super) fn finish(mut self) -> Vec<Missing> {
        if self.open {
            self.missing.push(Missing { first: self.next, last: None, count: None });
        }
        self.missing
    }

    /// Cells between two places of known position, or behind the last one. `false` if that cannot be.
    fn run(&mut self, cells: &mut [Cell], end: Option<u64>) -> bool {
        if let Some(first) = cells.first_mut().filter(|_| self.jumped) {
            (first.loses, self.jumped) = (true, false);
        }
        let records = cells.iter().filter(|cell| cell.is_record()).count() as u64;
        if let Some(end) = end {
            let known = self.unplaced + records;
            if end > POSITION_MAX {
                return false;
            }
            match end.checked_sub(self.next) {
                Some(positions) if positions == known => {
                    let first = self.next + self.unplaced;
                    (first..)
                        .zip(cells.iter_mut().filter(|cell| cell.is_record()))
                        .for_each(|(position, cell)| cell.position = Some(position));
                    self.note_bodyless(cells);
                    self.reach(end);
                    return true;
                }
                Some(positions) if positions > known => {}
                _ => return false,
            }
        }
        let is_gap = |cell: &Cell| cell.what == What::Gap;
        let left = if self.open { 0 } else { cells.iter().position(is_gap).unwrap_or(cells.len()) };
        for cell in cells[..left].iter_mut().filter(|cell| cell.is_record()) {
            cell.position = Some(self.next);
            self.next += 1;
        }
        self.note_bodyless(&cells[..left]);
        let right = match end {
            Some(_) => cells[left..].iter().rposition(is_gap).map_or(left, |gap| left + gap + 1),
            None => cells.len(),
        };
        for cell in &mut cells[left..right] {
            cell.loses |= cell.what == What::Gap;
            self.open |= cell.what == What::Gap;
            self.unplaced += u64::from(cell.is_record());
            self.unplaced_intact += u64::from(cell.what == What::Frame);
        }
        if let Some(end) = end {
            let behind = cells[right..].iter().filter(|cell| cell.is_record()).count() as u64;
            let until = end - behind;
            let count = until - self.next - self.unplaced_intact;
            if count > 0 {
                self.note(Missing { first: self.next, last: Some(until - 1), count: Some(count) });
                // Bytes can look like padding where a record was.
                self.jumped = !cells.iter().any(is_gap);
            }
            (until..)
                .zip(cells[right..].iter_mut().filter(|cell| cell.is_record()))
                .for_each(|(position, cell)| cell.position = Some(position));
            self.note_bodyless(&cells[right..]);
            self.reach(end);
        }
        true
    }

    fn reach(&mut self, position: u64) {
        (self.next, self.unplaced, self.unplaced_intact, self.open) = (position, 0, 0, false);
    }

    /// A record without its body is missing, at a known place.
    fn note_bodyless(&mut self, cells: &[Cell]) {
        for cell in cells.iter().filter(|cell| cell.what == What::Bodyless) {
            if let Some(position) = cell.position {
                self.note(Missing { first: position, last: Some(position), count: Some(1) });
            }
        }
    }

    /// Positions that follow those noted last, none of them found, are one range with them.
    fn note(&mut self, more: Missing) {
        let is_solid = |missing: &Missing| missing.last.map(|last| last - missing.first + 1) == missing.count;
        match self.missing.last_mut() {
            Some(missing) if is_solid(missing) && is_solid(&more) && missing.last.map(|last| last + 1) == Some(more.first) => {
                missing.last = more.last;
                missing.count = missing.count.zip(more.count).map(|(a, b)| a + b);
            }
            _ => self.missing.push(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First and last position, and how many.
    type Gone = (u64, Option<u64>, Option<u64>);

    /// `f` an intact frame, `b` one without its body, `t` a trailer, `-` a gap; each 8 bytes.
    fn cells(row: &str) -> Vec<Cell> {
        let what = |letter| match letter {
            'f' => What::Frame,
            'b' => What::Bodyless,
            't' => What::Trailer,
            _ => What::Gap,
        };
        (0..).zip(row.chars()).map(|(at, letter)| Cell { what: what(letter), ..Cell::gap(at * 8, at * 8 + 8) }).collect()
    }

    fn assign(row: &str, anchors: &[(u64, u64)]) -> (Vec<Option<u64>>, Vec<Gone>) {
        let mut cells = cells(row);
        let anchors: Vec<Anchor> = anchors.iter().map(|(cell, position)| Anchor { offset: cell * 8, position: *position }).collect();
        let mut positions = Positions::default();
        positions.assign(&mut cells, &anchors);
        let found = cells.iter().filter(|cell| cell.is_record()).map(|cell| cell.position).collect();
        (found, positions.finish().into_iter().map(|missing| (missing.first, missing.last, missing.count)).collect())
    }

    #[test]
    fn positions_come_from_the_left_and_from_the_right() {
        assert_eq!(assign("fft", &[(0, 0), (3, 2)]), (vec![Some(0), Some(1)], vec![]));
        assert_eq!(assign("f-ft", &[(0, 0), (4, 5)]), (vec![Some(0), Some(4)], vec![(1, Some(3), Some(3))]));
        // As many records as positions: the gap held padding or a trailer.
        assert_eq!(assign("f-f-f", &[(5, 3)]), (vec![Some(0), Some(1), Some(2)], vec![]));
        // One of two gaps swallowed a record: which one, nobody knows.
        assert_eq!(assign("f-f-f", &[(5, 4)]), (vec![Some(0), None, Some(3)], vec![(1, Some(2), Some(1))]));
        assert_eq!(assign("fbbf", &[(4, 4)]), (vec![Some(0), Some(1), Some(2), Some(3)], vec![(1, Some(2), Some(2))]));
        assert_eq!(assign("f-f", &[]), (vec![Some(0), None], vec![(1, None, None)]));
        // A place that claims less than what stands before it is not believed.
        assert_eq!(assign("fff-f", &[(3, 1), (5, 5)]), (vec![Some(0), Some(1), Some(2), Some(4)], vec![(3, Some(3), Some(1))]));
    }

    #[test]
    fn counting_goes_on_over_segments() {
        let mut positions = Positions::default();
        let mut first = cells("f-f");
        positions.assign(&mut first, &[]);
        let mut second = cells("ff");
        positions.assign(&mut second, &[Anchor { offset: 16, position: 4 }]);
        assert_eq!(second.iter().map(|cell| cell.position).collect::<Vec<_>>(), [Some(2), Some(3)], "as many records as positions");
        positions.interrupt();
        let mut third = cells("ft");
        positions.assign(&mut third, &[Anchor { offset: 0, position: 9 }, Anchor { offset: 16, position: 10 }]);
        assert_eq!(third[0].position, Some(9));
        assert_eq!(positions.finish(), [Missing { first: 4, last: Some(8), count: Some(5) }]);
    }
}
