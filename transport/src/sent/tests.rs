//! Goal: losses by count and by time, spurious ones noticed, lies caught, bytes in flight conserved.
use super::*;
use crate::ranges::{RangeSet, decode_ack, encode_ack};
use crate::varint::Reader;

pub(super) fn at(us: u64) -> Instant {
    Instant::from_nanos(us * 1_000)
}

fn ack(sent: &mut SentPackets, numbers: &[u64]) -> Result<AckSummary, LyingReceiver> {
    acknowledge(sent, at(5), &RttEstimator::default(), numbers)
}

pub(super) fn acknowledge(
    sent: &mut SentPackets,
    now: Instant,
    rtt: &RttEstimator,
    numbers: &[u64],
) -> Result<AckSummary, LyingReceiver> {
    let mut ranges = RangeSet::new(32);
    for &number in numbers {
        ranges.insert(number);
    }
    let mut bytes = Vec::new();
    encode_ack(&ranges, 0, 32, &mut bytes);
    let ack = decode_ack(&mut Reader::new(&bytes)).unwrap();
    sent.on_ack(now, rtt, &ack, |_| {})
}

fn five_sent() -> SentPackets {
    let mut sent = SentPackets::new();
    for number in 0..5 {
        sent.on_sent(at(number), 100, number, 0);
    }
    sent
}

#[test]
fn three_above_make_a_loss() {
    let mut sent = five_sent();
    ack(&mut sent, &[3]).unwrap();
    let rtt = RttEstimator::new(Duration::from_millis(100));
    let mut lost = Vec::new();
    let losses = sent.detect_losses(at(5), &rtt, |p| lost.push(p.block));
    assert_eq!(losses, Losses { newest: Some(at(0)), bytes: 100, ..Losses::default() });
    assert_eq!(lost, [0]);
    assert!(sent.loss_time().is_some());
    assert_eq!(sent.bytes_in_flight(), 300);
}

#[test]
fn time_makes_a_loss() {
    let mut sent = five_sent();
    ack(&mut sent, &[1]).unwrap();
    let rtt = RttEstimator::new(Duration::from_millis(8));
    let mut lost = Vec::new();
    sent.detect_losses(at(20_000), &rtt, |p| lost.push(p.block));
    assert_eq!(lost, [0]);
}

#[test]
fn spurious_losses_raise_the_threshold() {
    let mut sent = five_sent();
    ack(&mut sent, &[4]).unwrap();
    let rtt = RttEstimator::new(Duration::from_millis(100));
    sent.detect_losses(at(5), &rtt, |_| {});
    let summary = ack(&mut sent, &[0, 4]).unwrap();
    assert_eq!(summary.spurious, 1);
    assert_eq!(sent.patience.packets(), 6);
}

#[test]
fn unsent_and_skipped_numbers_are_lies() {
    let mut sent = five_sent();
    assert_eq!(ack(&mut sent, &[5]).unwrap_err(), LyingReceiver);
    sent.skip(at(6));
    sent.on_sent(at(7), 100, 7, 0);
    assert_eq!(ack(&mut sent, &[4, 5, 6]).unwrap_err(), LyingReceiver);
    assert!(ack(&mut sent, &[4, 6]).is_ok());
}

/// Five packets of which the receiver reports the last; the first two count as lost at 5 us.
fn two_lost(rtt: &RttEstimator) -> SentPackets {
    let mut sent = five_sent();
    ack(&mut sent, &[4]).unwrap();
    let losses = sent.detect_losses(at(5), rtt, |_| {});
    assert_eq!(losses.newest, Some(at(1)));
    assert!(sent.has_lost_since(at(5)));
    sent
}

fn ack_at(sent: &mut SentPackets, now: Instant, rtt: &RttEstimator, numbers: &[u64]) -> u64 {
    acknowledge(sent, now, rtt, numbers).unwrap().spurious
}

fn measured(rtt: Duration) -> RttEstimator {
    let mut estimator = RttEstimator::default();
    estimator.update(rtt, Duration::ZERO);
    estimator
}

#[test]
fn a_cut_is_disproved_only_when_all_its_losses_arrived() {
    let rtt = measured(Duration::from_millis(100));
    let mut sent = two_lost(&rtt);
    assert_eq!(ack_at(&mut sent, at(6), &rtt, &[0, 4]), 1);
    assert!(sent.has_proof_since(at(5)) && sent.has_lost_since(at(5)), "packet 1 is still missing");
    assert_eq!(ack_at(&mut sent, at(7), &rtt, &[0, 1, 4]), 1);
    assert!(sent.has_proof_since(at(5)) && !sent.has_lost_since(at(5)));
    assert!(!sent.has_proof_since(at(6)), "a later cut has other losses");
}

#[test]
fn an_arrival_claimed_after_the_retransmission_was_seen_proves_nothing() {
    let rtt = measured(Duration::from_millis(100));
    let mut sent = two_lost(&rtt);
    assert_eq!(ack_at(&mut sent, at(100_005), &rtt, &[0, 1, 4]), 2);
    assert!(!sent.has_proof_since(at(5)) && sent.has_lost_since(at(5)));
    assert_eq!(sent.patience.packets(), 3);
}

#[test]
fn whoever_claims_reordering_is_believed_a_few_times() {
    let rtt = measured(Duration::from_secs(1));
    let mut sent = SentPackets::new();
    let (mut proofs, mut now) = (0, 10);
    for _ in 0..100 {
        // A hole of one as wide as it takes, acknowledged just after it was counted as lost.
        let hole = sent.next_number();
        for number in hole..=hole + sent.patience.packets() {
            sent.on_sent(at(now), 100, number, 0);
        }
        let last = sent.next_number() - 1;
        let above: Vec<u64> = (hole + 1..=last).collect();
        ack_at(&mut sent, at(now + 1), &rtt, &above);
        if sent.detect_losses(at(now + 1), &rtt, |_| {}).newest.is_none() {
            break;
        }
        ack_at(&mut sent, at(now + 2), &rtt, &[hole, last]);
        proofs += u32::from(sent.has_proof_since(at(now + 1)));
        now += 10;
    }
    // 3, 6, 12 ... 1,024.
    assert_eq!((proofs, sent.patience.packets()), (9, 1_024));
}

#[test]
fn late_arrivals_lengthen_the_wait_up_to_two_round_trips() {
    let rtt = measured(Duration::from_millis(8));
    let mut sent = SentPackets::new();
    let mut waits = Vec::new();
    for step in 0..8 {
        let now = step * 1_000_000;
        sent.on_sent(at(now), 100, 0, 0);
        sent.on_sent(at(now), 100, 0, 0);
        let (first, second) = (sent.next_number() - 2, sent.next_number() - 1);
        ack_at(&mut sent, at(now + 8_000), &rtt, &[second]);
        sent.detect_losses(at(now + 8_000), &rtt, |_| {});
        let lost_at = sent.loss_time().unwrap();
        waits.push(lost_at.saturating_duration_since(at(now)).as_micros());
        assert!(sent.detect_losses(lost_at, &rtt, |_| {}).newest.is_some());
        ack_at(&mut sent, lost_at + Duration::from_micros(1), &rtt, &[first, second]);
    }
    assert_eq!(waits, [9_000, 10_000, 11_000, 13_000, 17_000, 25_000, 25_000, 25_000]);
}

#[test]
fn losses_with_nothing_between_them_span_their_time() {
    let rtt = measured(Duration::from_millis(1));
    let mut sent = SentPackets::new();
    for number in 0..6 {
        sent.on_sent(at(number * 10_000), 100, number, 0);
    }
    ack_at(&mut sent, at(60_000), &rtt, &[1, 5]);
    let losses = sent.detect_losses(at(60_000), &rtt, |_| {});
    // Lost: 0, 2, 3 and 4. Packet 1 arrived, so the span is that from 2 to 4.
    assert_eq!((losses.span, losses.span_begun), (Duration::from_millis(20), at(20_000)));
}

#[test]
fn a_sample_is_the_largest_packets_own() {
    let mut sent = five_sent();
    sent.on_sent_silent(at(50));
    let summary = ack(&mut sent, &[3, 5]).unwrap();
    assert_eq!((summary.newest, summary.rtt_from), (Some(at(3)), Some(at(50))));
    assert_eq!(ack(&mut sent, &[4, 5]).unwrap().rtt_from, None, "the largest is known");
}
