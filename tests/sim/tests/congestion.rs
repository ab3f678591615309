//! Goal: Cubed shares a bottleneck with itself and with a plain CUBIC flow, keeps its goodput under loss and reordering, and
//! survives incast. The bars are those of `docs/BENCHMARKS.md`, "In the simulator".

use std::time::Duration;

use cubed_sim::contest::Contender::{Cubed, Plain};
use cubed_sim::contest::{Contender, Contest, Shares};
use cubed_sim::race::Lie;
use cubed_transport::{CongestionProfile, Limits};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// 10 Mbit/s with 20 ms, and 1 Gbit/s with 1 ms.
fn slow_and_fast(contenders: &[Contender]) -> [Contest; 2] {
    [
        Contest::new(10_000_000, ms(20), contenders).lasting(ms(5_000), ms(60_000)),
        Contest::new(1_000_000_000, ms(1), contenders).lasting(ms(500), ms(3_000)),
    ]
}

/// 100 Mbit/s with a round trip of 5 ms.
fn lossy(loss: u32, measure: Duration) -> Shares {
    Contest::new(100_000_000, ms(5), &[Cubed]).losing(loss).lasting(ms(500), measure).run()
}

#[test]
fn two_sessions_are_within_a_fifth_of_the_fair_share() {
    // Each between 40 and 60 % of what the link carried over the time measured.
    for contest in slow_and_fast(&[Cubed, Cubed]) {
        let shares = contest.run();
        assert!(shares.least_of_fair() >= 0.8 && shares.greatest_of_fair() <= 1.2, "{shares:?}");
        assert!(shares.is_full(&contest), "{shares:?}");
    }
}

#[test]
fn a_session_and_a_plain_flow_each_get_a_third_of_nearly_all() {
    for contenders in [[Cubed, Plain], [Plain, Cubed]] {
        for contest in slow_and_fast(&contenders) {
            let shares = contest.run();
            assert!(shares.share(0) >= 0.3 && shares.share(1) >= 0.3, "{shares:?}");
            assert!(shares.is_full(&contest), "{shares:?}");
        }
    }
}

#[test]
fn lanes_between_two_nodes_leave_a_plain_flow_a_third() {
    // Four shards on either side.
    let mut contenders = [Cubed; 17];
    contenders[16] = Plain;
    for contest in slow_and_fast(&contenders) {
        let (coupled, each) = (contest.clone().coupled().run(), contest.run());
        assert!(coupled.share(16) >= 0.3, "{coupled:?}");
        assert!(coupled.is_full(&contest), "{coupled:?}");
        assert!(each.share(16) < 0.2, "uncoupled, they take it all: {each:?}");
    }
}

#[test]
fn random_loss_leaves_most_of_the_goodput() {
    let clean = lossy(0, ms(5_000)).total();
    assert!(clean > 0.94 * 100e6, "{clean}");
    for (loss, least, measure) in
        [(10, 0.98, 240_000), (100, 0.85, 25_000), (1_000, 0.6, 10_000), (10_000, 0.25, 20_000)]
    {
        let shares = lossy(loss, ms(measure));
        assert!(shares.link.lost >= 10, "{loss}: {shares:?}");
        let kept = shares.total() / clean;
        assert!(kept >= least, "{kept} of clean at {loss} of a million lost, {least} wanted");
    }
}

#[test]
fn reordering_of_a_quarter_costs_at_most_a_fifth() {
    let clean = lossy(0, ms(5_000)).total();
    for delay in [1, 5, 10] {
        let mut contest = Contest::new(100_000_000, ms(5), &[Cubed]).lasting(ms(500), ms(5_000));
        contest.link.reorder = 250_000;
        contest.link.reorder_delay = ms(delay);
        let shares = contest.run();
        assert!(shares.total() >= 0.8 * clean, "up to {delay} ms late: {shares:?}");
        // A sender that undoes each cut for one late packet would overrun the queue without end.
        assert!(shares.link.overflowed * 50 < shares.link.offered, "{shares:?}");
    }
}

#[test]
fn incast_of_32_keeps_the_link_busy_and_nobody_out() {
    let mut contest = Contest::new(1_000_000_000, ms(1), &[Cubed; 32]).lasting(ms(500), ms(2_000));
    contest.incast = true;
    contest.stagger = Duration::ZERO;
    let shares = contest.run();
    assert!(shares.total() >= 0.8 * 1e9, "{shares:?}");
    assert!(shares.least_of_fair() >= 0.5, "{shares:?}");
}

/// What a receiver makes its sender send, on 100 Mbit/s of which one datagram in a hundred is lost, in datagrams; and how
/// its session stands.
fn sent_to(lie: Option<Lie>) -> (u64, String) {
    let contest = Contest::new(100_000_000, ms(5), &[Cubed]).losing(10_000);
    let shares = Contest { lie, ..contest.lasting(ms(100), ms(6_000)) }.run();
    (shares.sent, shares.senders.concat())
}

#[test]
fn withheld_and_delayed_acknowledgements_gain_nothing() {
    let (honest, _) = sent_to(None);
    for lie in [Lie::Withhold(2), Lie::Withhold(8), Lie::Delay(ms(3)), Lie::Delay(ms(20))] {
        let (sent, sender) = sent_to(Some(lie));
        assert!(sent * 10 <= honest * 11, "{lie:?}: {sent} against {honest}; {sender}");
    }
}

#[test]
fn repeated_acknowledgements_gain_nothing() {
    let (honest, _) = sent_to(None);
    let (sent, sender) = sent_to(Some(Lie::Repeat(20)));
    assert!(!sender.contains(" violations=") && sent * 2 > honest, "it goes on: {sent}, {sender}");
    assert!(sent * 10 <= honest * 11, "{sent} against {honest}; {sender}");
}

#[test]
fn whoever_claims_what_did_not_arrive_is_found_out() {
    let (honest, _) = sent_to(None);
    for beyond in [0, 1, 10, 1_000_000] {
        let (sent, sender) = sent_to(Some(Lie::Claim(beyond)));
        assert!(sender.contains(" violations="), "{beyond}: {sender}");
        assert!(sent * 10 <= honest * 11, "{beyond} beyond: {sent} against {honest}; {sender}");
    }
}

/// 1 Gbit/s and 0.2 ms under the profile.
fn lan(rate: u64, profile: CongestionProfile, loss: u32) -> f64 {
    let rtt = Duration::from_micros(200);
    let mut contest = Contest::new(rate, rtt, &[Cubed]).losing(loss).lasting(ms(100), ms(500));
    contest.limits.congestion = profile;
    contest.run().total() / rate as f64
}

#[test]
fn the_lan_profile_fills_a_link_and_does_not_mind_random_loss() {
    let clean = lan(1_000_000_000, CongestionProfile::Lan, 0);
    assert!(clean > 0.93 && clean >= 0.99 * lan(1_000_000_000, CongestionProfile::Internet, 0));
    for rate in [1_000_000_000, 5_000_000_000] {
        let kept = lan(rate, CongestionProfile::Lan, 1_000);
        assert!(kept > 0.9, "{kept} of {rate} bit/s at one in a thousand lost");
    }
    // Rounds of some 170 datagrams: nearly each loses one, which is under the 2 % that the profile tolerates.
    let kept = lan(5_000_000_000, CongestionProfile::Lan, 5_000);
    assert!(kept > 0.9, "{kept} of 5 Gbit/s at five in a thousand lost");
    let (lan, internet) = [CongestionProfile::Lan, CongestionProfile::Internet]
        .map(|profile| lan(5_000_000_000, profile, 1_000))
        .into();
    assert!(lan > 1.5 * internet, "that is what it is for: {lan} against {internet}");
}

#[test]
fn the_lan_profile_is_never_the_default() {
    assert_eq!(Limits::default().congestion, CongestionProfile::Internet);
}
