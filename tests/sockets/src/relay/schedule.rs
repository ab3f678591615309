//! When a path is open and when it is cut.

use std::str::FromStr;
use std::time::Duration;

/// Intervals in turn, open first, counted from the first datagram: `5000,2000,...` is 5 s open, 2 s cut, and so on for
/// ever; `1000,60000` is 1 s open, 60 s cut, then open for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    intervals: Vec<Duration>,
    repeats: bool,
}

impl Schedule {
    /// Whether datagrams pass at this time.
    pub fn is_open(&self, elapsed: Duration) -> bool {
        let whole: Duration = self.intervals.iter().sum();
        let mut left = elapsed;
        if self.repeats {
            left = Duration::from_nanos((left.as_nanos() % whole.as_nanos()) as u64);
        }
        for (place, interval) in self.intervals.iter().enumerate() {
            if left < *interval {
                return place % 2 == 0;
            }
            left -= *interval;
        }
        true
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (intervals, repeats) = match text.strip_suffix(",...") {
            Some(intervals) => (intervals, true),
            None => (text, false),
        };
        let millis = |word: &str| {
            let parsed = word.trim().parse().map(Duration::from_millis);
            parsed.map_err(|error| format!("{word:?} is no number of milliseconds: {error}"))
        };
        let intervals: Vec<Duration> =
            intervals.split(',').map(millis).collect::<Result<_, _>>()?;
        if intervals.iter().any(Duration::is_zero)
            || (repeats && !intervals.len().is_multiple_of(2))
        {
            return Err("intervals are above 0, and open and cut ones come in pairs".into());
        }
        Ok(Self { intervals, repeats })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the edges of each interval, the repetition, and words that are refused.
    use super::*;

    fn open_at(schedule: &str, millis: u64) -> bool {
        schedule.parse::<Schedule>().unwrap().is_open(Duration::from_millis(millis))
    }

    #[test]
    fn intervals_end_where_they_say() {
        let open = |millis| open_at("1000,500", millis);
        assert!(open(0) && open(999) && !open(1_000) && !open(1_499) && open(1_500) && open(9_000));
    }

    #[test]
    fn dots_repeat_them() {
        let open = |millis| open_at("1000,500,...", millis);
        assert!(open(0) && !open(1_000) && open(1_500) && !open(2_500) && open(3_000));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "x", "1000,0,...", "1000,...", "1,2,3,..."] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }
}
