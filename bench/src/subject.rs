//! What can be measured: the two traits that every subject and every baseline implements.
//!
//! A subject is started once, then measured in slices. Between slices neither of its processes
//! may use the CPU, since the other subject of a pair runs then.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{error::Result, stats::latency_histogram};

/// Something that moves messages as fast as it can.
pub trait ThroughputSubject {
    /// Name for the live output, one or two words.
    fn name(&self) -> &str;

    /// Sends for `duration` and returns what the receiver counted.
    ///
    /// # Errors
    ///
    /// When the peer process fails or what arrived is not what was sent.
    fn run_slice(&mut self, duration: Duration) -> Result<ThroughputSlice>;
}

/// Something that answers one message with one message.
pub trait LatencySubject {
    /// Name for the live output, one or two words.
    fn name(&self) -> &str;

    /// Measures round trips for `duration`.
    ///
    /// # Errors
    ///
    /// When the peer process fails or an answer is not the one to the question.
    fn run_slice(&mut self, duration: Duration) -> Result<LatencySlice>;
}

/// One slice of throughput, as counted at the receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ThroughputSlice {
    /// From the receiver's first to its last datagram of the slice, in seconds.
    pub seconds: f64,
    /// Messages that the sender completed.
    pub sent: u64,
    /// Distinct messages that the receiver counted.
    pub delivered: u64,
    /// Messages that the receiver met more than once.
    pub duplicated: u64,
    /// Body bytes of one message.
    pub size_bytes: u64,
    /// Datagrams that the sender handed to the kernel.
    pub datagrams: u64,
    /// Send calls that carried them.
    pub sends: u64,
}

impl ThroughputSlice {
    /// Messages that were sent and never counted.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.delivered)
    }

    /// Delivered messages per second; 0 when nothing arrived.
    pub fn messages_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.delivered as f64 / self.seconds } else { 0.0 }
    }

    /// Delivered body bits per second, in 10^9.
    pub fn goodput_gbps(&self) -> f64 {
        self.messages_per_second() * self.size_bytes as f64 * 8.0 / 1e9
    }
}

/// Part of the planned messages that must have been sent in time: with less, another rate was measured than was asked for.
const SENT_PART_MIN: f64 = 0.99;

/// What is wrong when only `sent` of so many messages were sent in time; `None` when that is enough.
pub fn shortfall(planned: f64, sent: u64) -> Option<String> {
    let is_short = (sent as f64) < planned * SENT_PART_MIN;
    is_short.then(|| format!("{sent} of {planned:.0} sent in time"))
}

/// One slice of round trips.
#[derive(Debug, Clone)]
pub struct LatencySlice {
    /// Round trip times in ns.
    pub histogram: Histogram<u64>,
    /// Length of the slice in seconds.
    pub seconds: f64,
    /// Questions sent.
    pub sent: u64,
    /// Questions without an answer in time.
    pub lost: u64,
}

impl Default for LatencySlice {
    fn default() -> Self {
        Self::empty()
    }
}

impl LatencySlice {
    /// A slice in which nothing happened yet.
    pub fn empty() -> Self {
        Self { histogram: latency_histogram(), seconds: 0.0, sent: 0, lost: 0 }
    }

    /// Adds what `other` measured.
    ///
    /// # Panics
    ///
    /// Never: all slices share the bounds of [`latency_histogram`].
    pub fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("histograms share their bounds");
        self.seconds += other.seconds;
        self.sent += other.sent;
        self.lost += other.lost;
    }
}

#[cfg(test)]
mod tests {
    //! Goal: rates follow from the receiver's counts and clock alone.
    use super::*;
    use crate::stats::record_latency;

    #[test]
    fn rates_count_delivered_messages_only() {
        let slice = ThroughputSlice {
            seconds: 2.0,
            sent: 3_000_000,
            delivered: 2_000_000,
            size_bytes: 1000,
            ..ThroughputSlice::default()
        };
        assert_eq!(slice.lost(), 1_000_000);
        assert!((slice.messages_per_second() - 1e6).abs() < 1e-6);
        assert!((slice.goodput_gbps() - 8.0).abs() < 1e-9);
        assert!(ThroughputSlice::default().messages_per_second().abs() < f64::EPSILON);
    }

    #[test]
    fn a_rate_that_was_not_kept_is_told() {
        assert_eq!(shortfall(1_000.0, 990), None);
        assert_eq!(shortfall(1_000.0, 989).unwrap(), "989 of 1000 sent in time");
    }

    #[test]
    fn slices_of_round_trips_add_up() {
        let mut whole = LatencySlice::empty();
        let mut part = LatencySlice::empty();
        record_latency(&mut part.histogram, 5_000);
        part.seconds = 0.5;
        part.sent = 2;
        part.lost = 1;
        whole.add(&part);
        whole.add(&part);
        assert_eq!((whole.histogram.len(), whole.sent, whole.lost), (2, 4, 2));
    }
}
