//! Owns what is kept of a path's congestion control while nothing is in flight.
//!
//! What always holds: the window is the same before and after (RFC 9002 section 7.8 lets it stand while it is not used), and so is
//! where slow start ends. A cut is not undone after a rest, since the packets that could prove it wrong are forgotten. CUBIC
//! begins a new stage (RFC 9438 section 4.2): below its plateau that goes on along the same curve, and above it, it starts from a
//! level one, which is slower than going on. The time at rest counts for neither, as section 5.8 asks.

use super::{Controller, Cubic, Lan, State};

/// The congestion control of a path with nothing in flight.
#[derive(Clone, Debug)]
pub(crate) enum DormantController {
    Cubic(DormantCubic),
    /// All of it: losses of the round under way still count.
    Lan(Box<Lan>),
}

/// Windows of [`Cubic`], in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DormantCubic {
    window: f64,
    slow_start_threshold: f64,
    plateau: f64,
    window_before_cut: f64,
}

impl Controller {
    /// Keeps what [`Controller::wake`] needs.
    pub(crate) fn rest(self) -> DormantController {
        match self {
            Self::Cubic(cubic) => DormantController::Cubic(cubic.rest()),
            Self::Lan(lan) => DormantController::Lan(Box::new(lan)),
        }
    }

    /// The control of one of so many lanes, for datagrams of `datagram_bytes`, both as before the rest.
    pub(crate) fn wake(dormant: DormantController, datagram_bytes: u64, lanes: u16) -> Self {
        match dormant {
            DormantController::Cubic(dormant) => {
                Self::Cubic(Cubic::wake(dormant, datagram_bytes, lanes))
            }
            DormantController::Lan(lan) => Self::Lan(*lan),
        }
    }
}

impl Cubic {
    fn rest(self) -> DormantCubic {
        let State { window, slow_start_threshold, plateau, window_before_cut, .. } = self.state;
        DormantCubic { window, slow_start_threshold, plateau, window_before_cut }
    }

    fn wake(dormant: DormantCubic, datagram_bytes: u64, lanes: u16) -> Self {
        let DormantCubic { window, slow_start_threshold, plateau, window_before_cut } = dormant;
        let new = Self::new(datagram_bytes);
        let state = State { window, slow_start_threshold, plateau, window_before_cut, ..new.state };
        Self { lanes: lanes.into(), state, ..new }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a rest changes no window, and lets none grow faster than it would have.
    use std::time::Duration;

    use super::*;
    use crate::congestion::CongestionProfile;
    use crate::rtt::RttEstimator;
    use crate::time::Instant;

    const DATAGRAM: u64 = 1_000;
    const RTT: Duration = Duration::from_millis(50);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + millis * 1_000_000)
    }

    fn rested(controller: &Controller, lanes: u16) -> Controller {
        Controller::wake(controller.clone().rest(), DATAGRAM, lanes)
    }

    /// Windows full for so many round trips from `from` on.
    fn grow(controller: &mut Controller, from: Instant, rounds: u32) -> u64 {
        let rtt = RttEstimator::new(RTT);
        for round in 1..=rounds {
            let now = from + RTT * round;
            controller.on_acked(now, now - RTT, controller.window(), &rtt, false);
        }
        controller.window()
    }

    /// After slow start to so many datagrams and a cut, `rounds` later.
    fn cut(profile: CongestionProfile, rounds: u32) -> Controller {
        let mut controller = Controller::new(profile, DATAGRAM);
        grow(&mut controller, at(0), 4);
        controller.on_lost(at(300), at(290), 10_000);
        grow(&mut controller, at(310), rounds);
        controller
    }

    #[test]
    fn windows_are_the_same_before_and_after() {
        for profile in [CongestionProfile::Internet, CongestionProfile::Lan] {
            let mut unused = rested(&Controller::new(profile, DATAGRAM), 1);
            let mut fresh = Controller::new(profile, DATAGRAM);
            assert!(unused.in_slow_start());
            unused.set_lanes(4);
            fresh.set_lanes(4);
            assert_eq!(unused.window(), fresh.window(), "not used yet, it is shared out");
            for rounds in [0, 5, 200] {
                let before = cut(profile, rounds);
                let mut after = rested(&before, 1);
                assert_eq!(after.window(), before.window());
                assert_eq!(after.in_slow_start(), before.in_slow_start());
                after.set_lanes(4);
                assert_eq!(after.window(), before.window(), "used, it stays");
                after.on_spurious_loss();
                assert_eq!(after.window(), before.window(), "no cut is undone");
            }
        }
    }

    #[test]
    fn cubic_goes_on_below_its_plateau_and_no_faster_above() {
        for (rounds, is_below) in [(1, true), (20, true), (400, false)] {
            let mut before = cut(CongestionProfile::Internet, rounds);
            let mut after = rested(&before, 1);
            let end = at(310) + RTT * rounds;
            let (went_on, began_anew) = (grow(&mut before, end, 20), grow(&mut after, end, 20));
            assert!(began_anew <= went_on, "{rounds}: {began_anew} and {went_on}");
            if is_below {
                assert!(began_anew * 100 >= went_on * 97, "{rounds}: {began_anew} and {went_on}");
            }
        }
    }

    #[test]
    fn losses_of_a_lan_round_count_after_it() {
        let mut lan = Controller::new(CongestionProfile::Lan, DATAGRAM);
        lan.on_lost(at(0), at(0), 64_000);
        let mut after = rested(&lan, 1);
        assert!(grow(&mut after, at(20_000), 1) < lan.window());
    }
}
