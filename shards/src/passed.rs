//! Messages of peers between two shards: which have been passed on and not answered, and which were taken and not told so.
//!
//! Always holds: a pair of shards takes them in the order they were passed on, and each is answered once; so a count tells
//! which of them were taken.

use std::collections::VecDeque;

use cubed_transport::Deferred;

/// A message that was passed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OnWay {
    pub(crate) message: Deferred,
    /// Our number of its flow.
    pub(crate) way: u32,
    /// Our number of the request, if it is one.
    pub(crate) asked: Option<u64>,
}

/// What a message that is being passed on has before its peer's session says how to answer for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing {
    pub(crate) to: usize,
    pub(crate) way: u32,
    pub(crate) asked: Option<u64>,
}

/// All of one shard, both ways.
pub(crate) struct Passed {
    /// By the shard that they went to, oldest first.
    on_way: Vec<VecDeque<OnWay>>,
    /// By the shard that they went to: how many were passed on so far.
    noted: Vec<u64>,
    passing: Option<Passing>,
    /// By the shard that they came from: how many were taken since it was last told.
    taken: Vec<u32>,
    has_taken: bool,
}

impl Passed {
    pub(crate) fn new(shards: usize) -> Self {
        let on_way = (0..shards).map(|_| VecDeque::new()).collect();
        Self {
            on_way,
            noted: vec![0; shards],
            passing: None,
            taken: vec![0; shards],
            has_taken: false,
        }
    }

    /// A message is being passed on; [`Passed::note`] follows.
    pub(crate) fn begin(&mut self, passing: Passing) {
        self.passing = Some(passing);
    }

    /// How to answer for the message that was passed on last.
    pub(crate) fn note(&mut self, message: Deferred) {
        let Some(Passing { to, way, asked }) = self.passing.take() else {
            debug_assert!(false, "a message is noted right after it was passed on");
            return;
        };
        self.noted[to] += 1;
        self.on_way[to].push_back(OnWay { message, way, asked });
    }

    /// The oldest that shard `to` has not answered, which it has now.
    pub(crate) fn answered(&mut self, to: usize) -> Option<OnWay> {
        let oldest = self.on_way[to].pop_front();
        debug_assert!(oldest.is_some(), "each is answered once");
        oldest
    }

    /// Shard `to` answers no more.
    pub(crate) fn forget(&mut self, to: usize) {
        self.on_way[to].clear();
    }

    /// A message of shard `from` was taken.
    pub(crate) fn take(&mut self, from: usize) {
        self.taken[from] += 1;
        self.has_taken = true;
    }

    /// How many messages of shard `from` were taken that it was not told of; from here on it was.
    pub(crate) fn tell(&mut self, from: usize) -> u32 {
        std::mem::take(&mut self.taken[from])
    }

    /// Whether some shard is to be told; asked once.
    pub(crate) fn has_to_tell(&mut self) -> bool {
        std::mem::take(&mut self.has_taken)
    }

    /// How many were passed on so far, for [`Passed::is_answered`].
    pub(crate) fn noted(&self) -> Vec<u64> {
        self.noted.clone()
    }

    /// Whether all that had been passed on then have their answer.
    pub(crate) fn is_answered(&self, noted: &[u64]) -> bool {
        let answered =
            self.noted.iter().zip(&self.on_way).map(|(all, rest)| all - rest.len() as u64);
        answered.zip(noted).all(|(answered, noted)| answered >= *noted)
    }

    /// Messages passed on that have no answer.
    pub(crate) fn unanswered(&self) -> u64 {
        self.on_way.iter().map(|one| one.len() as u64).sum()
    }
}
