//! The search for the highest rate that holds: bracketing by doubling or halving, then bisection.
//!
//! Always holds: `low` is the highest rate that passed, `high` the lowest that failed. A machine with neighbours disturbs single
//! steps, so a rate fails only when it failed twice in a row.

/// Tries of a rate before it has failed.
const TRIES_MAX: u32 = 2;

/// Below this many a second nothing is searched.
const RATE_MIN: f64 = 1.0;

/// Above this many a second nothing is searched, and no flag asks for more.
pub const RATE_MAX: f64 = 1e9;

/// The state of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    low: Option<f64>,
    high: Option<f64>,
    next: f64,
    tries: u32,
    precision: f64,
}

impl Search {
    /// Begins at `from` per second and ends when the bracket is narrower than `precision`, a part of its lower end.
    pub fn new(from: f64, precision: f64) -> Self {
        Self { low: None, high: None, next: from, tries: 0, precision }
    }

    /// The rate to try now; `None` when the search is over.
    pub fn rate(&self) -> Option<f64> {
        let is_narrow = match (self.low, self.high) {
            (Some(low), Some(high)) => high / low <= 1.0 + self.precision,
            _ => false,
        };
        let is_within = (RATE_MIN..=RATE_MAX).contains(&self.next);
        (!is_narrow && is_within).then_some(self.next)
    }

    /// Takes how the rate did.
    pub fn record(&mut self, passed: bool) {
        let rate = self.next;
        self.tries += 1;
        if passed {
            self.low = Some(rate);
        } else if self.tries < TRIES_MAX {
            return;
        } else {
            self.high = Some(rate);
        }
        self.tries = 0;
        self.next = match (self.low, self.high) {
            (Some(low), None) => low * 2.0,
            (None, Some(high)) => high / 2.0,
            // Rates matter by their ratio.
            (Some(low), Some(high)) => (low * high).sqrt(),
            (None, None) => rate,
        };
    }

    /// Steps left at most, by what is known: each rate may fail once, and then passes or fails.
    pub fn steps_left_max(&self) -> u32 {
        if self.rate().is_none() {
            return 0;
        }
        let halvings = |ratio: f64| {
            let parts = ratio.ln() / self.precision.ln_1p();
            parts.log2().ceil().max(0.0) as u32
        };
        let doublings = |low: f64, high: f64| (high / low).log2().floor() as u32;
        // Up to the last rate that there is, or down to it.
        let up = || (doublings(self.next, RATE_MAX) + 1) * TRIES_MAX;
        let down = || (doublings(RATE_MIN, self.next) + 1) * TRIES_MAX;
        let within = halvings(2.0) * TRIES_MAX;
        let left = match (self.low, self.high) {
            (Some(low), Some(high)) => halvings(high / low) * TRIES_MAX,
            (Some(_), None) => up() + within,
            (None, Some(_)) => down() + within,
            (None, None) => up().max(down()) + within,
        };
        left.saturating_sub(self.tries).max(1)
    }

    /// The highest rate that passed.
    pub fn found(&self) -> Option<f64> {
        self.low
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the search ends at the limit from either side, and one bad step does not mislead it.
    use super::*;

    fn search(from: f64, limit: f64, mut disturb: impl FnMut(u32) -> bool) -> (Option<f64>, u32) {
        let mut search = Search::new(from, 0.02);
        let mut steps = 0;
        let (mut left, most) = (Vec::new(), search.steps_left_max());
        while let Some(rate) = search.rate() {
            left.push(search.steps_left_max());
            steps += 1;
            search.record(rate <= limit && !disturb(steps));
        }
        assert_eq!(search.steps_left_max(), 0);
        // Never more steps than were left, at any time, and fewer with each.
        assert!(steps <= most, "{steps} of {most}");
        assert!(left.iter().rev().zip(1..).all(|(left, steps)| *left >= steps), "{left:?}");
        assert!(left.windows(2).all(|pair| pair[1] < pair[0]), "{left:?}");
        (search.found(), steps)
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for (from, limit) in [(100e3, 5.3e6), (9e6, 5.3e6), (5.3e6, 5.3e6), (100.0, 3.0)] {
            let (found, steps) = search(from, limit, |_| false);
            let found = found.unwrap();
            assert!(found <= limit && found >= limit / 1.02, "{found} of {limit}");
            assert!(steps < 40, "{steps}");
        }
    }

    #[test]
    fn one_disturbed_step_changes_nothing() {
        for disturbed in 1..15 {
            let (found, _) = search(100e3, 5.3e6, |step| step == disturbed);
            assert!(found.unwrap() >= 5.3e6 / 1.02, "step {disturbed}");
        }
    }

    #[test]
    fn a_search_without_an_end_ends() {
        assert_eq!(search(1e6, 0.0, |_| false).0, None);
        let (found, _) = search(1e6, f64::INFINITY, |_| false);
        assert!(found.unwrap() > RATE_MAX / 2.0);
    }
}
