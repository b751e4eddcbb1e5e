//! Commits that were submitted and are not released yet, in order.
//!
//! Commits land in any order; their answers are released, and the watermark advances, in the order in which they were sequenced. So an answer
//! never leaves before everything it was decided on is durable.

use std::collections::VecDeque;

use super::live::Reach;

/// Commits in flight, each with what is to be released with it.
#[derive(Debug)]
pub(crate) struct Flights<A> {
    queue: VecDeque<Flight<A>>,
    /// Number of the first in the queue.
    first: u64,
}

#[derive(Debug)]
struct Flight<A> {
    answers: Vec<A>,
    /// How far the log is durable once this commit and all before it have landed; `None` if it changes nothing of that.
    durable_to: Option<Reach>,
    has_landed: bool,
}

/// What may leave now.
#[derive(Debug)]
pub(crate) struct Released<A> {
    pub answers: Vec<A>,
    /// Where the watermark is now, if it moved.
    pub watermark: Option<Reach>,
}

impl<A> Default for Released<A> {
    fn default() -> Released<A> {
        Released { answers: Vec::new(), watermark: None }
    }
}

impl<A> Flights<A> {
    pub(crate) fn new() -> Flights<A> {
        Flights { queue: VecDeque::new(), first: 0 }
    }

    /// Commits that are not released.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes a commit in, behind all others. Returns its number.
    pub(crate) fn launch(&mut self, answers: Vec<A>, durable_to: Option<Reach>) -> u64 {
        self.queue.push_back(Flight { answers, durable_to, has_landed: false });
        self.first + self.queue.len() as u64 - 1
    }

    /// Notes that a commit has landed well, and releases it and what was waiting for it, if nothing before it is still under way.
    ///
    /// A number that is not there belongs to a commit that was given up (see [`Flights::give_up`]).
    pub(crate) fn land(&mut self, number: u64) -> Released<A> {
        let mut released = Released::default();
        if let Some(flight) = number.checked_sub(self.first).and_then(|index| self.queue.get_mut(index as usize)) {
            flight.has_landed = true;
        }
        while self.queue.front().is_some_and(|flight| flight.has_landed) {
            let mut flight = self.queue.pop_front().expect("there is one");
            self.first += 1;
            released.watermark = flight.durable_to.or(released.watermark);
            released.answers.append(&mut flight.answers);
        }
        released
    }

    /// Gives everything up that is not released: after a failure nothing is known of it.
    pub(crate) fn give_up(&mut self) -> Vec<A> {
        self.first += self.queue.len() as u64;
        self.queue.drain(..).flat_map(|flight| flight.answers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(position: u64) -> Reach {
        Reach { position, segment: 1, end: 0, memory: None }
    }

    #[test]
    fn answers_leave_in_order_however_commits_land() {
        let mut flights = Flights::new();
        let numbers: Vec<u64> = (0..4).map(|n| flights.launch(vec![n], (n != 1).then_some(to(10 * n)))).collect();
        let mut land = |number: u64| {
            let released = flights.land(number);
            (released.answers, released.watermark)
        };
        assert_eq!(land(numbers[1]), (vec![], None));
        assert_eq!(land(numbers[3]), (vec![], None));
        assert_eq!(land(numbers[0]), (vec![0, 1], Some(to(0))));
        assert_eq!(land(numbers[2]), (vec![2, 3], Some(to(30))));
        assert!(flights.is_empty());
    }

    #[test]
    fn what_was_given_up_lands_nowhere() {
        let mut flights = Flights::new();
        let (one, two) = (flights.launch(vec!['a'], Some(to(1))), flights.launch(vec!['b'], Some(to(2))));
        assert_eq!(flights.give_up(), ['a', 'b']);
        let three = flights.launch(vec!['c'], Some(to(3)));
        assert_eq!((flights.land(one).answers, flights.land(two).answers), (vec![], vec![]));
        assert_eq!(flights.land(three).answers, ['c']);
    }
}
