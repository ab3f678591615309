//! When the messages of a slice are due, and which of them say so.
//!
//! Always holds: both follow from a message's number alone, so that messages can be written before they are due, and whoever sends on
//! time, the plain UDP baseline included, keeps the same times.

use std::time::Duration;

use cubed::Instant;

/// Message n is due at n over the rate after the start.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start: Instant,
    rate: f64,
}

impl Schedule {
    /// So many messages per second from `start` on.
    pub fn new(start: Instant, rate: f64) -> Self {
        Self { start, rate }
    }

    /// When the first message is due.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// When the message with this number is due.
    #[inline]
    pub fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos((number as f64 / self.rate * 1e9) as u64)
    }

    /// How many messages are due by `now`, the first one included.
    #[inline]
    pub fn due_count(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        (elapsed.as_secs_f64() * self.rate) as u64 + 1
    }

    /// How many messages are due within `duration`.
    pub fn count(&self, duration: Duration) -> u64 {
        (duration.as_secs_f64() * self.rate).ceil() as u64
    }
}

/// Which messages carry the time at which they were due: one of each `every` that follow each other, in a place that differs from
/// group to group, so that what repeats (sizes, flows, bursts) is timed in all its parts. The places are the multiples of the golden
/// ratio, less their whole parts, which no sequence spreads more evenly.
#[derive(Debug, Clone, Copy)]
pub struct Stamps {
    schedule: Option<Schedule>,
    every: u64,
    group: u64,
    /// Number of the next message that carries its time.
    next: u64,
}

impl Stamps {
    /// One message of `every`, which is above zero.
    pub fn new(schedule: Schedule, every: u64) -> Self {
        let first = timed(0, every);
        Self { schedule: Some(schedule), every, group: 0, next: first }
    }

    /// Room for stamps, and none in it.
    pub fn none() -> Self {
        Self { schedule: None, every: 1, group: 0, next: u64::MAX }
    }

    /// What to write into message `number`: when it was due, in nanoseconds of the machine's clock, or 0. Numbers may be passed over,
    /// and never come back.
    #[inline]
    pub fn take(&mut self, number: u64) -> u64 {
        if number < self.next { 0 } else { self.take_timed(number) }
    }

    fn take_timed(&mut self, number: u64) -> u64 {
        let is_timed = loop {
            let is_timed = number == self.next;
            self.group += 1;
            self.next = timed(self.group, self.every);
            if number < self.next {
                break is_timed;
            }
        };
        self.schedule.filter(|_| is_timed).map_or(0, |schedule| schedule.due(number).as_nanos())
    }
}

/// The number of the one message of a group that is timed.
#[inline]
fn timed(group: u64, every: u64) -> u64 {
    let turn = group.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let place = (u128::from(turn) * u128::from(every)) >> 64;
    group * every + place as u64
}

#[cfg(test)]
mod tests {
    //! Goal: what is timed is a fair part of what is sent, and says when it was due.
    use super::*;

    fn schedule() -> Schedule {
        Schedule::new(Instant::from_nanos(5_000), 1e6)
    }

    #[test]
    fn every_part_of_what_repeats_is_timed() {
        for every in [1, 2, 5, 7, 10, 16, 32, 63, 64] {
            let mut stamps = Stamps::new(schedule(), every);
            let stamped: Vec<u64> =
                (0..100_000).filter(|number| stamps.take(*number) != 0).collect();
            assert!((100_000 / every..=100_000 / every + 1).contains(&(stamped.len() as u64)));
            for period in [2_u64, 3, 10, 64, 100] {
                let even = stamped.len() as f64 / period as f64;
                for index in 0..period {
                    let count = stamped.iter().filter(|number| *number % period == index).count();
                    let part = count as f64 / even;
                    assert!(
                        (0.5..1.5).contains(&part),
                        "1 of {every}: {index} of {period}: {part}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_stamp_is_the_time_at_which_its_message_was_due() {
        let mut stamps = Stamps::new(schedule(), 1);
        assert_eq!([0, 1, 2].map(|number| stamps.take(number)), [5_000, 6_000, 7_000]);
        // Passed over: 3 to 8.
        assert_eq!(stamps.take(9), 14_000);
        assert_eq!([0, 7].map(|number| Stamps::none().take(number)), [0, 0]);
    }

    #[test]
    fn a_message_is_due_from_its_time_on() {
        let schedule = schedule();
        let due_at = |nanos| schedule.due_count(Instant::from_nanos(nanos));
        assert_eq!([0, 5_000, 5_999, 6_000, 14_999].map(due_at), [1, 1, 1, 2, 10]);
        assert_eq!(schedule.count(Duration::from_micros(7)), 7);
    }
}
