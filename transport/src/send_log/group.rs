//! Owns what messages of a send log have in common that ask for more than the plain service: a deadline, a limit of
//! repetitions or of unacknowledged blocks; and every body that is cut while it is sent.
//!
//! What always holds: a group is either one block, or one message in blocks that nothing else shares (a large body without
//! terms may share its first and last); so that it is given up, and ends, as a whole.

use super::large::Large;
use crate::frame::Run;
use crate::time::Instant;

/// Runs of sequences in one group, so that a SKIP always fits a datagram.
pub(super) const RUNS_MAX: usize = 16;

/// What is asked of a message beside its delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// After this it is not sent any more.
    pub(crate) deadline: Option<Instant>,
    /// How often each block may be sent again.
    pub(crate) retries: Option<u16>,
    /// Blocks unacknowledged at once; zero for any number.
    pub(crate) burst: u16,
    /// The deadline counts only until the first sending.
    pub(crate) only_unsent: bool,
    /// It is not sent again once a newer value of its flow exists.
    pub(crate) is_value: bool,
}

impl Terms {
    /// Whether nothing is asked.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// Messages that share their terms and blocks.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) terms: Terms,
    pub(super) class: usize,
    /// Runs of block numbers given to it: first and count.
    pub(super) numbers: Vec<(u64, u64)>,
    /// Number of its first block.
    pub(super) origin: u64,
    /// Its numbered blocks that are not settled.
    pub(super) unsettled: u32,
    /// Its numbered blocks that are not acknowledged.
    pub(super) in_flight: u32,
    /// Its blocks that have no number yet.
    pub(super) drafts: u32,
    /// Its body is cut to the end, if it has one.
    pub(super) is_cut: bool,
    /// Its body, while `in_flight` is at the bound of `terms.burst`.
    pub(super) parked: Option<Large>,
    pub(super) messages: u64,
    /// Sequences of its ordered messages.
    pub(super) runs: Vec<Run>,
    /// What its messages took of credit: alias and charge.
    pub(super) charges: Vec<(u32, u64)>,
    /// Its values: alias and stamp.
    pub(super) values: Vec<(u32, u64)>,
    pub(super) is_given_up: bool,
    /// SKIP frames about it that are not acknowledged.
    pub(super) skips: u32,
    /// Its messages are known not to have been delivered.
    pub(super) is_undelivered: bool,
}

impl Group {
    pub(super) fn new(terms: Terms, class: usize) -> Self {
        Self {
            terms,
            class,
            numbers: Vec::new(),
            origin: super::draft::NO_ORIGIN,
            unsettled: 0,
            in_flight: 0,
            drafts: 0,
            is_cut: false,
            parked: None,
            messages: 0,
            runs: Vec::new(),
            charges: Vec::new(),
            values: Vec::new(),
            is_given_up: false,
            skips: 0,
            is_undelivered: false,
        }
    }

    /// One of its blocks got this number.
    pub(super) fn on_numbered(&mut self, number: u64) {
        self.unsettled += 1;
        self.in_flight += 1;
        match self.numbers.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            Some(_) => self.numbers.push((number, 1)),
            None => {
                self.origin = number;
                self.numbers.push((number, 1));
            }
        }
    }

    /// Whether all its blocks have numbers.
    pub(super) fn is_sent(&self) -> bool {
        self.is_cut && self.drafts == 0
    }

    /// Whether none of its blocks was ever sent.
    pub(super) fn is_unsent(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether its bound of unacknowledged blocks is reached.
    pub(super) fn is_at_burst(&self) -> bool {
        self.terms.burst > 0 && self.in_flight + self.drafts >= u32::from(self.terms.burst)
    }

    /// Notes a message: its charge, and its sequence if it is ordered.
    pub(super) fn add(&mut self, alias: u32, charge: u64, ordered: Option<u64>) {
        self.messages += 1;
        match self.charges.last_mut() {
            Some((last, sum)) if *last == alias => *sum += charge,
            _ => self.charges.push((alias, charge)),
        }
        if let Some(first) = ordered {
            match self.runs.last_mut() {
                Some(run) if run.alias == alias && run.first + run.count == first => run.count += 1,
                _ => self.runs.push(Run { alias, first, count: 1 }),
            }
        }
    }

    /// Whether nothing will be heard of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.unsettled == 0 && self.skips == 0 && (self.is_sent() || self.is_given_up)
    }
}
