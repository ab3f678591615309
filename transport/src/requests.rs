//! Owns the requests of ours that wait for an answer: by number on the wire, and by deadline.
//!
//! What always holds: a request is in the table from `begin` until exactly one of answer, refusal, deadline, cancellation or
//! the end of its session takes it out; the table never holds more than its limit; a number is never used again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::endpoint::Token;
use crate::time::Instant;

/// Places of a table that ever had a request, at least.
const PLACES_MIN: usize = 64;
/// Places up to this number are kept for the next burst of requests: 24 KiB.
const PLACES_KEPT: usize = 1_024;
/// For each place, room for so many deadlines is kept in either order: what stands there at most ([`Requests::begin`]: two a place,
/// and 64), as a power of two.
const DEADLINES_KEPT: usize = 4;
/// No request has this number: the place is free.
const FREE: u64 = 0;

/// A request of this endpoint, to cancel it by. Its number, which is never used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId(pub(crate) u64);

/// One request waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) token: Token,
    /// Index of the peer asked.
    pub(crate) peer: u32,
}

/// A place for one request: that whose number ends in the place's own.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    waiting: Waiting,
}

const VACANT: Place = Place { number: FREE, waiting: Waiting { token: Token(0), peer: 0 } };

/// All requests waiting.
#[derive(Debug)]
pub(crate) struct Requests {
    next: u64,
    /// A power of two of them, at least twice as many as requests wait, so that few numbers are passed over because an older request
    /// still has their place.
    places: Vec<Place>,
    waiting: usize,
    /// Deadlines of all requests begun, ascending; those answered meanwhile are skipped when their turn comes.
    deadlines: VecDeque<(Instant, u64)>,
    /// Those that came before the last one's: an application whose requests all wait equally long has none.
    earlier: BinaryHeap<Reverse<(Instant, u64)>>,
    limit: usize,
}

impl Requests {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            next: 1,
            places: Vec::new(),
            waiting: 0,
            deadlines: VecDeque::new(),
            earlier: BinaryHeap::new(),
            limit,
        }
    }

    /// Whether another request may begin.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.waiting < self.limit
    }

    /// The number of the request that begins next.
    #[inline]
    pub(crate) fn next_number(&mut self) -> u64 {
        if self.places.len() < 2 * (self.waiting + 1) {
            self.grow();
        }
        while self.places[self.place_of(self.next)].number != FREE {
            self.next += 1;
        }
        self.next
    }

    /// Enters a request and returns its number.
    #[inline]
    pub(crate) fn begin(&mut self, token: Token, peer: u32, deadline: Instant) -> u64 {
        let number = self.next_number();
        let place = self.place_of(number);
        self.places[place] = Place { number, waiting: Waiting { token, peer } };
        self.next += 1;
        self.waiting += 1;
        while self.deadlines.front().is_some_and(|first| !self.is_waiting(first.1)) {
            self.deadlines.pop_front();
        }
        if self.deadlines.back().is_none_or(|last| last.0 <= deadline) {
            self.deadlines.push_back((deadline, number));
        } else {
            self.earlier.push(Reverse((deadline, number)));
        }
        // Answered requests leave their deadline behind: sweep when those are the greater part.
        if self.deadlines.len() + self.earlier.len() > 64 + 4 * self.waiting {
            self.sweep();
        }
        number
    }

    #[cold]
    fn sweep(&mut self) {
        let places = &self.places;
        let is_waiting = |number: u64| places[index(number, places.len())].number == number;
        self.deadlines.retain(|entry| is_waiting(entry.1));
        self.earlier.retain(|entry| is_waiting(entry.0.1));
        self.shrink();
    }

    /// Gives back half of what a burst of requests needed and those that wait now do not. There are deadlines of these only. Half
    /// is enough: answered requests are swept out again and again.
    fn shrink(&mut self) {
        let half = self.places.len() / 2;
        let is_spare = half >= PLACES_KEPT && self.waiting < half / 4;
        // Of two requests that would have the same place then, both stay where they are.
        if is_spare && self.numbers().all(|n| self.places[self.place_of(n) ^ half].number == FREE) {
            self.set_places(half);
        }
        let kept = DEADLINES_KEPT * self.places.len();
        self.deadlines.shrink_to(kept);
        self.earlier.shrink_to(kept);
    }

    /// The requests that have a deadline here.
    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let earlier = self.earlier.iter().map(|entry| entry.0.1);
        self.deadlines.iter().map(|entry| entry.1).chain(earlier)
    }

    /// Doubles the places. Two requests that had different ones have different ones still.
    #[cold]
    fn grow(&mut self) {
        self.set_places(PLACES_MIN.max(2 * self.places.len()));
    }

    /// Has so many places from here on, in which those that wait do not meet.
    fn set_places(&mut self, count: usize) {
        let mut places = vec![VACANT; count];
        for place in self.places.iter().filter(|place| place.number != FREE) {
            places[index(place.number, count)] = *place;
        }
        self.places = places;
    }

    /// Takes a request out, if it still waits and was made to `peer`.
    #[inline]
    pub(crate) fn take(&mut self, number: u64, peer: u32) -> Option<Waiting> {
        let waiting = self.get(number)?.waiting;
        (waiting.peer == peer).then(|| self.remove(number, waiting))
    }

    /// A request that was not sent yet goes to another lane; whether it still waits.
    pub(crate) fn reassign(&mut self, number: u64, peer: u32) -> bool {
        let is_waiting = self.is_waiting(number);
        if is_waiting {
            let place = self.place_of(number);
            self.places[place].waiting.peer = peer;
        }
        is_waiting
    }

    /// Takes a request out, whomever it was made to; returns the peer asked.
    pub(crate) fn cancel(&mut self, number: u64) -> Option<u32> {
        let waiting = self.get(number)?.waiting;
        Some(self.remove(number, waiting).peer)
    }

    /// Takes out one request whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Waiting> {
        while let Some((deadline, number)) = self.first_deadline() {
            let waiting = self.get(number).map(|place| place.waiting);
            if waiting.is_some() && deadline > now {
                return None;
            }
            if self.deadlines.front() == Some(&(deadline, number)) {
                self.deadlines.pop_front();
            } else {
                self.earlier.pop();
            }
            if let Some(waiting) = waiting {
                return Some(self.remove(number, waiting));
            }
        }
        if self.places.len() > PLACES_KEPT {
            self.clear();
        }
        None
    }

    /// Gives back all memory, when nothing waits.
    #[cold]
    fn clear(&mut self) {
        debug_assert!(self.waiting == 0, "whatever waits has a deadline");
        self.places = Vec::new();
        self.deadlines = VecDeque::new();
        self.earlier = BinaryHeap::new();
    }

    /// Takes out every request made to `peer` but those to be kept. Returns how many those are.
    pub(crate) fn take_all(
        &mut self,
        peer: u32,
        is_kept: impl Fn(u64) -> bool,
        mut on_taken: impl FnMut(Waiting),
    ) -> u32 {
        let mut kept = 0;
        for place in &mut self.places {
            if place.number == FREE || place.waiting.peer != peer {
                continue;
            }
            if is_kept(place.number) {
                kept += 1;
                continue;
            }
            place.number = FREE;
            self.waiting -= 1;
            on_taken(place.waiting);
        }
        kept
    }

    /// Whether a request still waits for its answer.
    #[inline]
    pub(crate) fn is_waiting(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// The earliest deadline, perhaps of a request answered meanwhile.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.first_deadline().map(|entry| entry.0)
    }

    fn first_deadline(&self) -> Option<(Instant, u64)> {
        let first = self.deadlines.front().copied();
        let Some(Reverse(earlier)) = self.earlier.peek() else { return first };
        Some(first.map_or(*earlier, |first| first.min(*earlier)))
    }

    /// Requests waiting.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// The place of the request with this number, if it waits. Peers choose what is looked for.
    #[inline]
    fn get(&self, number: u64) -> Option<&Place> {
        let place = self.places.get(self.place_of(number))?;
        (place.number == number && number != FREE).then_some(place)
    }

    #[inline]
    fn remove(&mut self, number: u64, waiting: Waiting) -> Waiting {
        let place = self.place_of(number);
        self.places[place].number = FREE;
        self.waiting -= 1;
        waiting
    }

    #[inline]
    fn place_of(&self, number: u64) -> usize {
        index(number, self.places.len())
    }
}

/// The place among `count`, a power of two or zero, that a request has.
#[inline]
fn index(number: u64, count: usize) -> usize {
    number as usize & count.wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    //! Goal: every request leaves the table exactly once.
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn each_leaves_once() {
        let mut requests = Requests::new(3);
        let a = requests.begin(Token(1), 0, at(10));
        let _b = requests.begin(Token(2), 0, at(5));
        let c = requests.begin(Token(3), 1, at(7));
        assert!(!requests.has_room());
        assert!(requests.take(c, 0).is_none());
        assert_eq!(requests.take(a, 0).unwrap().token, Token(1));
        assert!(requests.take(a, 0).is_none());
        assert!(requests.expire(at(4)).is_none());
        assert_eq!(requests.expire(at(20)).unwrap().token, Token(2));
        assert_eq!((requests.cancel(c), requests.cancel(c)), (Some(1), None));
        assert!(requests.expire(at(20)).is_none());
        assert_eq!((requests.len(), requests.next_deadline()), (0, None));
    }

    #[test]
    fn answered_deadlines_do_not_pile_up() {
        let mut requests = Requests::new(10);
        for token in 0..10_000 {
            let number = requests.begin(Token(token), 0, at(1_000_000));
            requests.take(number, 0).unwrap();
        }
        assert!(requests.deadlines.len() <= 65);
        // Neither do those that come before others.
        for token in 0..10_000 {
            let number = requests.begin(Token(token), 0, at(1_000 - token % 2));
            requests.take(number, 0).unwrap();
        }
        assert!(requests.deadlines.len() + requests.earlier.len() <= 65);
    }

    /// Begins so many requests; their deadlines are 1 and 2 s, the earlier ones second.
    fn burst(requests: &mut Requests, count: u64) -> Vec<u64> {
        let deadline = |place| at(if place % 2 == 0 { 2_000 } else { 1_000 });
        (0..count).map(|place| requests.begin(Token(place), 0, deadline(place))).collect()
    }

    fn capacities(requests: &Requests) -> [usize; 3] {
        let Requests { places, deadlines, earlier, .. } = requests;
        [places.capacity(), deadlines.capacity(), earlier.capacity()]
    }

    #[test]
    fn a_burst_keeps_no_memory_once_its_deadlines_are_over() {
        let mut requests = Requests::new(65_536);
        let numbers = burst(&mut requests, 65_536);
        assert_eq!(requests.places.len(), 131_072);
        for number in &numbers[..60_000] {
            requests.take(*number, 0).unwrap();
        }
        let expired = std::iter::from_fn(|| requests.expire(at(1_999))).count();
        assert_eq!((expired, requests.len()), (2_768, 2_768));
        let expired = std::iter::from_fn(|| requests.expire(at(2_000))).count();
        assert_eq!((expired, capacities(&requests)), (2_768, [0; 3]));
        let next = requests.begin(Token(7), 0, at(3_000));
        assert!(next > *numbers.last().unwrap() && requests.take(numbers[0], 0).is_none());
        assert_eq!(requests.take(next, 0).unwrap().token, Token(7));
    }

    #[test]
    fn a_burst_keeps_little_memory_beside_requests_that_wait_long() {
        let mut requests = Requests::new(65_536);
        let numbers = burst(&mut requests, 65_536);
        let (long, answered): (Vec<u64>, Vec<u64>) =
            numbers.iter().partition(|number| *number % 1_000 == 1);
        for number in answered {
            requests.take(number, 0).unwrap();
        }
        let mut last = *numbers.last().unwrap();
        for token in 0..10_000 {
            let number = requests.begin(Token(token), 0, at(1_500));
            assert!(number > last);
            assert_eq!(requests.take(number, 0).unwrap().token, Token(token));
            last = number;
        }
        let capacities = capacities(&requests);
        let kept = DEADLINES_KEPT * PLACES_KEPT;
        assert!(capacities <= [PLACES_KEPT, kept, kept], "{capacities:?}");
        assert_eq!(requests.len(), long.len());
        for number in long {
            assert_eq!(requests.take(number, 0).unwrap().token, Token(number - 1));
        }
    }

    #[test]
    fn a_number_is_never_used_again_and_means_one_request() {
        let mut requests = Requests::new(1_000);
        let (mut last, mut waiting) = (0, Vec::new());
        for round in 0..20_000_u64 {
            let number = requests.begin(Token(round), (round % 3) as u32, at(1_000_000));
            assert!(number > last, "{number} after {last}");
            last = number;
            waiting.push((number, round));
            // Of seven one waits long, in places that the others come by again and again.
            if round % 7 != 0 || waiting.len() > 900 {
                let (number, round) = waiting.swap_remove((round * 31) as usize % waiting.len());
                assert!(requests.take(number, (round + 1) as u32 % 3).is_none());
                assert_eq!(requests.take(number, (round % 3) as u32).unwrap().token, Token(round));
                assert!(!requests.is_waiting(number) && requests.cancel(number).is_none());
            }
            assert_eq!(requests.len(), waiting.len());
        }
        assert!(waiting.len() > 800);
        assert!(waiting.iter().all(|(number, _)| requests.is_waiting(*number)));
        assert!(last < 2 * 20_000, "{last}: few are passed over");
        assert!(requests.places.len() <= 4 * waiting.len());
        // Nor is one found that no request ever had, whichever place that leads to.
        let never = (0..requests.places.len() as u64).map(|place| last + 1 + place).chain([0]);
        assert!(never.into_iter().all(|number| !requests.is_waiting(number)));
    }

    #[test]
    fn a_request_made_elsewhere_is_no_longer_this_peers() {
        let mut requests = Requests::new(10);
        assert!(!requests.is_waiting(0) && !requests.reassign(1, 2));
        let numbers = [0, 0, 1].map(|peer| requests.begin(Token(9), peer, at(5)));
        assert!(requests.reassign(numbers[0], 1));
        let mut taken = 0;
        assert_eq!(requests.take_all(1, |number| number == numbers[2], |_| taken += 1), 1);
        assert_eq!((taken, requests.len()), (1, 2));
        assert!(requests.is_waiting(numbers[1]) && requests.is_waiting(numbers[2]));
    }
}
