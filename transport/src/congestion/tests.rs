//! The window is driven by a path that acknowledges one full window per round trip.

use proptest::prelude::*;

use super::*;

const DATAGRAM: u64 = 1_000;

/// A controller on a path of fixed round trip, with the time that has passed on it.
struct Path {
    cubic: Cubic,
    now: Instant,
    rtt: RttEstimator,
}

impl Path {
    fn new(rtt: Duration) -> Self {
        let mut estimator = RttEstimator::default();
        estimator.update(rtt, Duration::ZERO);
        let now = Instant::from_nanos(1_000_000_000);
        Self { cubic: Cubic::new(DATAGRAM), now, rtt: estimator }
    }

    /// A path whose window slow start brought to `datagrams`.
    fn at_window(rtt: Duration, datagrams: u64) -> Self {
        let mut path = Self::new(rtt);
        path.ack(datagrams * DATAGRAM - path.cubic.window(), false);
        assert_eq!(path.cubic.window(), datagrams * DATAGRAM);
        path
    }

    fn ack(&mut self, bytes: u64, app_limited: bool) {
        let sent = self.now;
        self.now += self.rtt.smoothed();
        self.cubic.on_acked(self.now, sent, bytes, &self.rtt, app_limited);
    }

    /// One round trip with the window full, and by how many datagrams it grew.
    fn round(&mut self) -> f64 {
        let before = self.cubic.state.window;
        self.ack(self.cubic.window(), false);
        (self.cubic.state.window - before) / DATAGRAM as f64
    }

    fn lose(&mut self) -> bool {
        let cut = self.cubic.on_lost(self.now, self.now);
        self.now += Duration::from_nanos(1);
        cut
    }
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_initial_window_follows_rfc_9002() {
    assert_eq!(Cubic::new(1_200).window(), 12_000);
    assert_eq!(Cubic::new(1_472).window(), 14_720);
    assert_eq!(Cubic::new(4_000).window(), 14_720);
    assert_eq!(Cubic::new(9_000).window(), 18_000);
}

#[test]
fn slow_start_doubles_per_round_trip() {
    let mut path = Path::new(millis(50));
    for round in 1..=6 {
        path.round();
        assert_eq!(path.cubic.window(), (10 * DATAGRAM) << round);
        assert!(path.cubic.in_slow_start());
    }
}

#[test]
fn a_loss_cuts_to_seven_tenths_once_per_round_trip() {
    let mut path = Path::at_window(millis(50), 100);
    let sent_before = path.now;
    assert!(path.lose());
    assert_eq!(path.cubic.window(), 70 * DATAGRAM);
    assert!(!path.cubic.in_slow_start());
    assert!(!path.cubic.on_lost(path.now, sent_before), "sent before the cut");
    assert_eq!(path.cubic.recovery_start(), Some(sent_before));
    path.cubic.on_acked(path.now, sent_before, 10 * DATAGRAM, &path.rtt, false);
    assert_eq!(path.cubic.window(), 70 * DATAGRAM, "no growth in recovery");
    assert!(path.lose(), "sent after the cut");
    assert_eq!(path.cubic.window(), 49 * DATAGRAM);
}

#[test]
fn the_window_is_never_below_two_datagrams() {
    let mut path = Path::new(millis(50));
    for _ in 0..20 {
        assert!(path.lose());
    }
    assert_eq!(path.cubic.window(), 2 * DATAGRAM);
    path.cubic.on_datagram_bytes_changed(9_000);
    assert_eq!(path.cubic.window(), 18_000);
}

#[test]
fn regrowth_is_concave_to_the_old_window_at_k_then_convex() {
    let mut path = Path::at_window(millis(100), 1_000);
    path.lose();
    let mut growth = vec![path.round()];
    let epoch = path.cubic.state.epoch.unwrap();
    // RFC 9438 section 4.2: K = cbrt((1000 - 700) / 0.4).
    assert!((epoch.plateau_seconds - 750_f64.cbrt()).abs() < 1e-9);
    let plateau_at = epoch.start + Duration::from_secs_f64(epoch.plateau_seconds);
    while path.now < plateau_at {
        growth.push(path.round());
    }
    assert!((999_500..1_001_000).contains(&path.cubic.window()), "{}", path.cubic.window());
    let after: Vec<f64> = (0..60).map(|_| path.round()).collect();
    let falls = growth.windows(2).skip(1).filter(|pair| pair[1] < pair[0]).count();
    assert!(falls + 8 > growth.len(), "{growth:?}");
    assert!(after[20..].windows(2).all(|pair| pair[1] > pair[0]), "{after:?}");
}

#[test]
fn a_second_loss_below_the_plateau_aims_lower() {
    let mut path = Path::at_window(millis(100), 1_000);
    path.lose();
    path.lose();
    // RFC 9438 section 4.7: 700 * (1 + 0.7) / 2.
    assert!((path.cubic.state.plateau - 595_000.0).abs() < 1e-6);
}

#[test]
fn on_short_paths_growth_is_renos() {
    let mut path = Path::at_window(millis(1), 100);
    path.lose();
    for _ in 0..50 {
        let grown = path.round();
        assert!((grown - RENO_ALPHA).abs() < 0.05, "{grown}");
    }
    while path.cubic.window() < 101 * DATAGRAM {
        path.round();
    }
    let grown = path.round();
    assert!((grown - 1.0).abs() < 0.05, "past the old window one datagram a round: {grown}");
}

#[test]
fn a_spurious_loss_is_undone_once() {
    let mut path = Path::at_window(millis(100), 1_000);
    path.lose();
    for _ in 0..20 {
        path.round();
    }
    let before = path.cubic.state;
    path.lose();
    path.round();
    assert!(path.cubic.on_spurious_loss());
    let after = path.cubic.state;
    assert!((after.window - before.window).abs() < 1e-9);
    assert!((after.plateau - before.plateau).abs() < 1e-9);
    assert!((after.slow_start_threshold - before.slow_start_threshold).abs() < 1e-9);
    assert_eq!(after.epoch.unwrap().start, before.epoch.unwrap().start);
    assert_eq!(after.recovery_start, before.recovery_start);
    assert!(!path.cubic.on_spurious_loss());
    assert_eq!(path.cubic.window(), before.window as u64);
}

#[test]
fn undoing_a_cut_in_slow_start_resumes_it() {
    let mut path = Path::at_window(millis(100), 40);
    path.lose();
    assert!(path.cubic.on_spurious_loss() && path.cubic.in_slow_start());
    path.round();
    assert_eq!(path.cubic.window(), 80 * DATAGRAM);
}

#[test]
fn persistent_congestion_restarts_from_the_floor() {
    let mut path = Path::at_window(millis(10), 100);
    path.lose();
    path.cubic.on_persistent_congestion();
    assert_eq!((path.cubic.window(), path.cubic.in_slow_start()), (2 * DATAGRAM, true));
    assert!(!path.cubic.on_spurious_loss(), "there is no cut left to undo");
    // 2, 4 .. 64, then up to the threshold of 70 and on in congestion avoidance.
    for _ in 0..6 {
        path.round();
    }
    assert!(!path.cubic.in_slow_start());
    assert!((70 * DATAGRAM..72 * DATAGRAM).contains(&path.cubic.window()));
    let epoch = path.cubic.state.epoch.unwrap();
    assert!(epoch.plateau_seconds.abs() < 1e-9, "RFC 9438 section 4.8: K is 0");
}

#[test]
fn an_application_limited_window_stands_still_and_does_not_jump_after() {
    let (mut busy, mut idle) =
        (Path::at_window(millis(100), 1_000), Path::at_window(millis(100), 1_000));
    for path in [&mut busy, &mut idle] {
        path.lose();
        for _ in 0..20 {
            path.round();
        }
    }
    let before = idle.cubic.window();
    for _ in 0..600 {
        idle.ack(DATAGRAM, true);
    }
    assert_eq!(idle.cubic.window(), before);
    // A minute later it goes on where it was, give or take the round trip at the border.
    let (expected, grown) = (busy.round(), idle.round());
    assert!(grown <= expected + 1.0, "{grown} against {expected}");
}

#[test]
fn an_unused_window_follows_the_datagram_size() {
    let mut cubic = Cubic::new(1_200);
    cubic.on_datagram_bytes_changed(1_452);
    assert_eq!(cubic.window(), 14_520);
    let mut used = Path::at_window(millis(10), 50);
    used.cubic.on_datagram_bytes_changed(1_452);
    assert_eq!(used.cubic.window(), 50 * DATAGRAM);
}

proptest! {
    #[test]
    fn any_history_keeps_the_window_sane(
        events in prop::collection::vec((0_u8..12, 0_u64..2_000_000_000, any::<u32>()), 1..200),
        rtt_us in 1_u64..1_000_000,
    ) {
        let mut path = Path::new(Duration::from_micros(rtt_us));
        for (event, nanos, bytes) in events {
            path.now += Duration::from_nanos(nanos);
            let before = path.cubic.window();
            let sent = path.now - path.rtt.smoothed();
            match event {
                0 => { path.cubic.on_lost(path.now, sent); }
                1 => path.cubic.on_persistent_congestion(),
                2 => { path.cubic.on_spurious_loss(); }
                3 => path.cubic.on_datagram_bytes_changed(u64::from(bytes % 9_000) + 500),
                4 => path.cubic.on_acked(path.now, sent, u64::from(bytes), &path.rtt, true),
                _ => {
                    let slow_start = path.cubic.in_slow_start();
                    let bytes = u64::from(bytes).min(before);
                    path.cubic.on_acked(path.now, sent, bytes, &path.rtt, false);
                    let window = path.cubic.window();
                    prop_assert!(window >= before);
                    let most = if slow_start { 2 * before } else { before * 3 / 2 };
                    prop_assert!(window <= most + path.cubic.datagram_bytes + 1);
                }
            }
            prop_assert!(path.cubic.state.window.is_finite());
            prop_assert!(path.cubic.window() >= 2 * path.cubic.datagram_bytes);
        }
    }
}

#[test]
fn a_lane_of_four_begins_with_its_part_and_grows_as_one_of_four() {
    let mut path = Path::new(Duration::from_millis(10));
    path.cubic.set_lanes(4);
    assert_eq!(path.cubic.window(), 2_500);
    path.cubic.set_lanes(100);
    assert_eq!(path.cubic.window(), DATAGRAM, "the least of a lane");
    path.cubic.set_lanes(1);
    assert_eq!(path.cubic.window(), 10 * DATAGRAM, "not used yet");
    // Reno's part: at this window and round trip the cubic is slower.
    let grown = |lanes| {
        let mut path = Path::at_window(Duration::from_millis(1), 20);
        path.cubic.set_lanes(lanes);
        path.lose();
        (0..10).map(|_| path.round()).sum::<f64>()
    };
    let (one, four) = (grown(1), grown(4));
    assert!((one / four - 16.0).abs() < 1.0, "{one} {four}");
}
