//! Owns the requests of ours that wait for an answer: by number on the wire, by token for the application, by deadline.
//!
//! What always holds: a request is in the table from `begin` until exactly one of answer, refusal, deadline, cancellation or
//! the end of its session takes it out; the table never holds more than its limit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use crate::endpoint::Token;
use crate::indices::IndexHasher;
use crate::time::Instant;

/// One request waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) token: Token,
    /// Index of the peer asked.
    pub(crate) peer: u32,
}

/// All requests waiting.
#[derive(Debug)]
pub(crate) struct Requests {
    next: u64,
    waiting: HashMap<u64, Waiting, IndexHasher>,
    numbers: HashMap<Token, u64, IndexHasher>,
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
            waiting: HashMap::default(),
            numbers: HashMap::default(),
            deadlines: VecDeque::new(),
            earlier: BinaryHeap::new(),
            limit,
        }
    }

    /// Whether another request may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < self.limit
    }

    /// Enters a request and returns its number.
    pub(crate) fn begin(&mut self, token: Token, peer: u32, deadline: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, Waiting { token, peer });
        self.numbers.insert(token, number);
        if self.deadlines.back().is_none_or(|last| last.0 <= deadline) {
            self.deadlines.push_back((deadline, number));
        } else {
            self.earlier.push(Reverse((deadline, number)));
        }
        // Answered requests leave their deadline behind: sweep when those are the greater part.
        if self.deadlines.len() + self.earlier.len() > 64 + 4 * self.waiting.len() {
            let waiting = &self.waiting;
            self.deadlines.retain(|entry| waiting.contains_key(&entry.1));
            self.earlier.retain(|entry| waiting.contains_key(&entry.0.1));
        }
        number
    }

    /// Takes a request out, if it still waits and was made to `peer`.
    pub(crate) fn take(&mut self, number: u64, peer: u32) -> Option<Waiting> {
        let waiting = *self.waiting.get(&number)?;
        if waiting.peer != peer {
            return None;
        }
        self.waiting.remove(&number);
        self.numbers.remove(&waiting.token);
        Some(waiting)
    }

    /// A request that was not sent yet goes to another lane; whether it still waits.
    pub(crate) fn reassign(&mut self, number: u64, peer: u32) -> bool {
        let waiting = self.waiting.get_mut(&number);
        waiting.map(|waiting| waiting.peer = peer).is_some()
    }

    /// Takes a request out by its token; returns the peer asked.
    pub(crate) fn cancel(&mut self, token: Token) -> Option<u32> {
        let number = self.numbers.remove(&token)?;
        self.waiting.remove(&number).map(|waiting| waiting.peer)
    }

    /// Takes out one request whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Waiting> {
        while let Some((deadline, number)) = self.first_deadline() {
            let waiting = self.waiting.get(&number).copied();
            if waiting.is_some() && deadline > now {
                return None;
            }
            if self.deadlines.front() == Some(&(deadline, number)) {
                self.deadlines.pop_front();
            } else {
                self.earlier.pop();
            }
            if let Some(waiting) = waiting {
                return self.take(number, waiting.peer);
            }
        }
        None
    }

    /// Takes out every request made to `peer` but those to be kept. Returns how many those are.
    pub(crate) fn take_all(
        &mut self,
        peer: u32,
        is_kept: impl Fn(u64) -> bool,
        mut on_taken: impl FnMut(Waiting),
    ) -> u32 {
        let (numbers, mut kept) = (&mut self.numbers, 0);
        self.waiting.retain(|&number, waiting| {
            if waiting.peer != peer {
                return true;
            }
            if is_kept(number) {
                kept += 1;
                return true;
            }
            numbers.remove(&waiting.token);
            on_taken(*waiting);
            false
        });
        kept
    }

    /// Whether a request still waits for its answer.
    pub(crate) fn is_waiting(&self, number: u64) -> bool {
        self.waiting.contains_key(&number)
    }

    /// The earliest deadline, perhaps of a request answered meanwhile.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.first_deadline().map(|entry| entry.0)
    }

    fn first_deadline(&self) -> Option<(Instant, u64)> {
        let earlier = self.earlier.peek().map(|entry| entry.0);
        self.deadlines.front().copied().into_iter().chain(earlier).min()
    }

    /// Requests waiting.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
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
        assert_eq!(requests.cancel(Token(3)), Some(1));
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
}
