//! What Cubed is meant to reach beside its baselines, and whether it did.

/// Throughput over the ceiling's, at least.
pub const THROUGHPUT: Goal = Goal::AtLeast(0.85);

/// p50 of an echo over that of plain UDP while both sides spin, at most.
pub const ECHO_SPINNING: Goal = Goal::AtMost(1.3);

/// The same while both sides park.
pub const ECHO_PARKED: Goal = Goal::AtMost(1.2);

/// p99 of times one way at half of the saturation rate over their unloaded p50, at most.
pub const ONE_WAY: Goal = Goal::AtMost(5.0);

/// A bound on a ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Goal {
    /// Two words for a table: whether `ratio` meets the goal, and which goal.
    pub fn verdict(self, ratio: f64) -> String {
        let (Self::AtLeast(bound) | Self::AtMost(bound)) = self;
        format!("{} {bound}", if self.is_met(ratio) { "meets" } else { "misses" })
    }

    /// Whether `ratio` meets the goal.
    pub fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the bound itself is met, on either side of it the verdict differs.
    use super::*;

    #[test]
    fn verdicts_name_the_bound() {
        assert_eq!(THROUGHPUT.verdict(0.85), "meets 0.85");
        assert_eq!(THROUGHPUT.verdict(0.84), "misses 0.85");
        assert_eq!(ECHO_PARKED.verdict(1.2), "meets 1.2");
        assert_eq!(ECHO_SPINNING.verdict(1.31), "misses 1.3");
    }
}
