//! How busy each core of the machine was, by `/proc/stat`.
//!
//! The kernel counts in steps of 10 ms, so an interval of 100 ms is known to a tenth. What it does not tell is empty.

use std::fs;

/// Times of one core since the machine started, in the kernel's ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Times {
    total: u64,
    idle: u64,
    stolen: u64,
}

/// What the cores did since one look until another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Part of the time that each core was busy, 0 to 1, by number; stolen time counts as busy.
    pub busy: Vec<f64>,
    /// Part of all cores' time that the hypervisor gave to others, 0 to 1.
    pub stolen: f64,
}

/// The cores at one look.
#[derive(Debug, Clone, Default)]
pub struct Look(Vec<Times>);

impl Look {
    /// Looks at the cores.
    pub fn take() -> Self {
        Self(parsed(&fs::read_to_string("/proc/stat").unwrap_or_default()))
    }

    /// What happened since `earlier`. Empty when no tick has passed.
    pub fn since(&self, earlier: &Self) -> Usage {
        let pairs = earlier.0.iter().zip(&self.0);
        let passed: Vec<Times> = pairs
            .map(|(before, after)| Times {
                total: after.total.saturating_sub(before.total),
                idle: after.idle.saturating_sub(before.idle),
                stolen: after.stolen.saturating_sub(before.stolen),
            })
            .collect();
        let total: u64 = passed.iter().map(|times| times.total).sum();
        if total == 0 {
            return Usage::default();
        }
        let stolen: u64 = passed.iter().map(|times| times.stolen).sum();
        Usage {
            busy: passed.iter().map(Times::busy).collect(),
            stolen: stolen as f64 / total as f64,
        }
    }
}

impl Times {
    fn busy(&self) -> f64 {
        if self.total == 0 {
            0.0
        } else {
            1.0 - self.idle.min(self.total) as f64 / self.total as f64
        }
    }
}

/// The lines `cpuN` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
fn parsed(text: &str) -> Vec<Times> {
    let cores = text.lines().filter(|line| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    });
    let times = |line: &str| {
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or_default();
        Times { total: ticks.iter().sum(), idle: at(3) + at(4), stolen: at(7) }
    };
    cores.map(times).collect()
}

#[cfg(test)]
mod tests {
    //! Goal: parts of the time are those of the kernel's table.
    use super::*;

    const BEFORE: &str = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 100 800 0 0 0 0 0 0\ncpu1 0 0 0 1000 0 0 0 0 5 5\nintr 5\n";
    const AFTER: &str = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 150 0 110 810 10 0 10 10 0 0\ncpu1 0 0 0 1100 0 0 0 0 9 9\nintr 9\n";

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        let usage = Look(parsed(AFTER)).since(&Look(parsed(BEFORE)));
        assert_eq!(usage, Usage { busy: vec![0.8, 0.0], stolen: 0.05 });
    }

    #[test]
    fn no_time_is_no_usage() {
        let look = Look(parsed(BEFORE));
        assert_eq!(look.since(&look), Usage::default());
        assert_eq!(Look(parsed("")).since(&look), Usage::default());
    }

    #[test]
    fn this_machine_tells() {
        assert!(!Look::take().0.is_empty());
    }
}
