//! What the two ends of each stream counted, held against each other and against the plan.
//!
//! A stream of acknowledged messages whose two ends do not agree voids the run.

use super::{AgentCounts, Stream};
use crate::{
    error::{BenchError, Result},
    node::sink::SinkCounts,
    subject::shortfall,
};

/// What the two ends of a stream counted: messages and bytes sent, and the receiver's counts.
pub(super) fn ends<'a>(
    stream: &Stream,
    counts: &'a [AgentCounts],
) -> Result<((u64, u64), &'a SinkCounts)> {
    let sent = counts.get(stream.from).and_then(|counts| {
        let found = counts.sent.iter().find(|(number, ..)| *number == stream.number);
        found.map(|(_, messages, bytes)| (*messages, *bytes))
    });
    let received = counts.get(stream.to).and_then(|counts| {
        let found = counts.received.iter().find(|(number, _)| *number == stream.number);
        found.map(|(_, received)| received)
    });
    sent.zip(received)
        .ok_or_else(|| BenchError::Peer(format!("nothing was counted of stream {}", stream.number)))
}

/// A line for each stream that did not keep its rate for so many seconds.
pub(super) fn late(streams: &[Stream], counts: &[AgentCounts], seconds: f64) -> Vec<String> {
    let late = streams.iter().filter_map(|stream| {
        let ((sent, _), _) = ends(stream, counts).ok()?;
        let what = shortfall(stream.rate? * seconds, sent)?;
        let Stream { number, from, to, .. } = stream;
        Some(format!("late: stream {number} from agent {from} to agent {to}: {what}"))
    });
    late.collect()
}

/// A line when by the clocks messages came before they were due.
pub(super) fn before_due(counts: &[AgentCounts]) -> Option<String> {
    let received = counts.iter().flat_map(|counts| &counts.received);
    let count: u64 = received.map(|(_, received)| received.before_due).sum();
    (count > 0).then(|| {
        format!("clocks: {count} messages came before they were due; times one way are wrong by more than they last")
    })
}

/// An error when the two ends cannot both be right, or when an acknowledged message was not counted exactly once.
pub(super) fn check(
    stream: &Stream,
    (messages, bytes): (u64, u64),
    received: &SinkCounts,
) -> Result<()> {
    let invented =
        received.delivered > messages || received.next_message > messages || received.missized > 0;
    let broken = stream.is_acknowledged
        && (received.delivered != messages || received.duplicated > 0 || received.bytes != bytes);
    if invented || broken {
        return Err(BenchError::Corrupt(format!(
            "stream {} from agent {} to agent {}: sent {messages} messages of {bytes} bytes, but received {} of {}, and {} \
             twice",
            stream.number,
            stream.from,
            stream.to,
            received.delivered,
            received.bytes,
            received.duplicated
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: a stream whose ends do not agree voids the run, unless losses are allowed, and what else is wrong is told.
    use super::*;

    fn stream(is_acknowledged: bool) -> Stream {
        Stream {
            number: 0,
            from: 0,
            to: 1,
            sizes: "fixed:64".into(),
            is_acknowledged,
            rate: None,
            stamp_every: None,
            seed: 0,
            offset_nanos: 0,
        }
    }

    #[test]
    fn losses_are_for_best_effort_and_inventions_for_nobody() {
        let right =
            SinkCounts { delivered: 5, next_message: 5, bytes: 320, ..SinkCounts::default() };
        for is_acknowledged in [true, false] {
            let stream = stream(is_acknowledged);
            assert!(check(&stream, (5, 320), &right).is_ok());
            assert_eq!(check(&stream, (6, 384), &right).is_err(), is_acknowledged);
            assert!(check(&stream, (4, 256), &right).is_err());
        }
    }

    #[test]
    fn a_stream_that_did_not_keep_its_rate_is_named() {
        let received = (0, SinkCounts::default());
        let counts = [
            AgentCounts { sent: vec![(0, 900, 57_600)], ..AgentCounts::default() },
            AgentCounts { received: vec![received], ..AgentCounts::default() },
        ];
        let at = |rate: Option<f64>| late(&[Stream { rate, ..stream(true) }], &counts, 2.0);
        assert_eq!(at(None), [""; 0]);
        assert_eq!(at(Some(450.0)), [""; 0]);
        assert_eq!(
            at(Some(500.0)),
            ["late: stream 0 from agent 0 to agent 1: 900 of 1000 sent in time"]
        );
    }

    #[test]
    fn clocks_that_cannot_be_right_are_told() {
        let counts = |before_due| {
            let received = vec![(0, SinkCounts { before_due, ..SinkCounts::default() })];
            [AgentCounts { received, ..AgentCounts::default() }]
        };
        assert_eq!(before_due(&counts(0)), None);
        assert!(before_due(&counts(3)).unwrap().contains("3 messages"));
    }

    #[test]
    fn a_stream_that_nobody_counted_is_an_error() {
        let counts = [AgentCounts { sent: vec![(0, 5, 320)], ..AgentCounts::default() }];
        assert!(ends(&stream(true), &counts).is_err());
    }
}
