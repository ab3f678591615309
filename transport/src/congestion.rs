//! Congestion control: CUBIC, RFC 9438's window growth in the frame of RFC 9002 section 7.
//!
//! The controller owns one number, the bytes that may be in flight, and is told of acknowledgements
//! and losses; what is in flight is its caller's to count. Windows are kept as `f64` bytes, because
//! one acknowledgement may be worth less than a byte of growth. Always true: the window is at least
//! two datagrams, and a loss cuts it at most once per round trip.

mod controller;
mod dormant;
mod lan;

use std::time::Duration;

use crate::rtt::RttEstimator;
use crate::time::Instant;

pub use controller::CongestionProfile;
pub(crate) use controller::Controller;
pub(crate) use dormant::DormantController;
pub use lan::Lan;

/// How fast the cubic grows, in segments per second cubed: `C` of RFC 9438 section 5.1.
const SCALE: f64 = 0.4;

/// What is left of the window after a loss: `beta_cubic` of RFC 9438 section 4.6.
const BETA: f64 = 0.7;

/// Segments per round trip by which Reno would grow to be as fast as one that halves: `alpha_cubic`
/// of RFC 9438 section 4.3.
const RENO_ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The most a window may aim to grow within one round trip: RFC 9438 section 4.2.
const TARGET_GROWTH_MAX: f64 = 1.5;

/// The window starts at 10 datagrams, but no more than 14,720 bytes unless two datagrams are:
/// RFC 9002 section 7.2.
const INITIAL_DATAGRAMS: u64 = 10;
const INITIAL_BYTES_MAX: u64 = 14_720;

/// Power of the number of lanes by which each one's cubic is slower: see [`Cubic::set_lanes`].
const COUPLING_CUBIC: i32 = 4;

/// `kMinimumWindow`: RFC 9002 section 7.2.
const MINIMUM_DATAGRAMS: u64 = 2;

/// The congestion window of one path.
#[derive(Clone, Debug)]
pub struct Cubic {
    datagram_bytes: u64,
    /// Lanes that share this flow's place on the path, this one among them.
    lanes: f64,
    state: State,
    /// The state before the latest cut, until that can no longer be undone.
    before_cut: Option<State>,
}

/// All that a cut changes, so that undoing one is an assignment. Windows are in bytes.
#[derive(Clone, Copy, Debug)]
struct State {
    window: f64,
    /// Slow start below this (`ssthresh`); infinite before the first loss.
    slow_start_threshold: f64,
    /// Where the cubic levels out (`W_max`).
    plateau: f64,
    /// The window just before the latest cut (`cwnd_prior`).
    window_before_cut: f64,
    /// The current stage of congestion avoidance; none in slow start and just after a cut.
    epoch: Option<Epoch>,
    /// Packets sent up to here belong to the latest recovery period (RFC 9002 section 7.3.2).
    recovery_start: Option<Instant>,
    /// Since when the application, and not the window, limits what is sent.
    limited_since: Option<Instant>,
}

/// One stage of congestion avoidance: RFC 9438 section 4.2.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// `t_epoch`, moved on by the time the application did not use the window.
    start: Instant,
    /// Seconds from the start to the plateau (`K`).
    plateau_seconds: f64,
    /// The window that Reno would have (`W_est`).
    reno_window: f64,
}

impl Cubic {
    /// A controller in slow start, for datagrams of `datagram_bytes`.
    pub fn new(datagram_bytes: u64) -> Self {
        let state = State {
            window: initial_window(datagram_bytes) as f64,
            slow_start_threshold: f64::INFINITY,
            plateau: 0.0,
            window_before_cut: 0.0,
            epoch: None,
            recovery_start: None,
            limited_since: None,
        };
        Self { datagram_bytes, lanes: 1.0, state, before_cut: None }
    }

    /// Makes this one of so many lanes that compete as about one flow between them.
    ///
    /// The first window is shared out. Later each lane grows as RFC 6356 couples subflows: with `n` equal ones on one path, its
    /// increase is `1/n^2` of a flow's, because a loss cuts one of them alone. That is Reno's part here. The cubic's follows
    /// from the same condition, that `n` windows of `1/n` come to one flow's at the same rate of losses: by
    /// RFC 9438 section 5.1 the window goes with the fourth root of `C`, so `C` is divided by `n^4`.
    pub fn set_lanes(&mut self, lanes: u16) {
        let is_unused = self.is_unused();
        self.lanes = f64::from(lanes.max(1));
        if is_unused {
            self.state.window = self.window_at_first();
        }
        // The cubic goes on at another pace, from here.
        self.state.epoch = None;
        if let Some(before) = &mut self.before_cut {
            before.epoch = None;
        }
    }

    /// Records that `bytes` in flight were acknowledged at `now`, the newest of them sent at
    /// `sent`. May be called once with the sum of one ACK frame.
    ///
    /// `app_limited` says that the window was not full when it happened: then it does not grow
    /// (RFC 9002 section 7.8), and the time until it is full again does not count (RFC 9438
    /// section 5.8). Nor does it grow for packets sent before the latest cut.
    pub fn on_acked(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        rtt: &RttEstimator,
        app_limited: bool,
    ) {
        if app_limited {
            self.state.limited_since.get_or_insert(now);
            return;
        }
        self.end_limited_period(now);
        if self.in_recovery(sent) {
            return;
        }
        let mut bytes = bytes as f64;
        if self.in_slow_start() {
            // What reaches past the threshold is congestion avoidance's.
            let room = self.state.slow_start_threshold - self.state.window;
            self.state.window += bytes.min(room);
            bytes -= room;
            if bytes <= 0.0 {
                return;
            }
        }
        self.grow_in_avoidance(now, bytes, rtt.smoothed());
    }

    /// Records that packets were lost, the newest of them sent at `sent`. True when this began a
    /// new recovery period and cut the window to 0.7 of itself; false when the loss belongs to the
    /// period that an earlier cut began (RFC 9002 section 7.3.2).
    pub fn on_lost(&mut self, now: Instant, sent: Instant) -> bool {
        if self.in_recovery(sent) {
            return false;
        }
        self.before_cut = Some(self.state);
        let floor = self.window_min();
        let state = &mut self.state;
        // Fast convergence, RFC 9438 section 4.7: a flow that lost before it was back at its old
        // plateau has company, and makes room by aiming lower.
        let shrinking = state.window < state.plateau;
        state.plateau = if shrinking { state.window * (1.0 + BETA) / 2.0 } else { state.window };
        state.window_before_cut = state.window;
        state.window = (state.window * BETA).max(floor);
        state.slow_start_threshold = state.window;
        state.epoch = None;
        state.recovery_start = Some(now);
        true
    }

    /// Falls back to the least window: everything sent over a long enough time was lost (RFC 9002
    /// section 7.6.2). Call [`on_lost`](Self::on_lost) first, it sets where slow start ends.
    pub fn on_persistent_congestion(&mut self) {
        self.state.window = self.window_min();
        // RFC 9438 section 4.8: the next stage starts at its own plateau.
        self.state.plateau = 0.0;
        self.state.epoch = None;
        self.state.recovery_start = None;
        self.before_cut = None;
    }

    /// Undoes the latest cut, because the loss that caused it was none: RFC 9438 section 4.9. True
    /// when there was a cut to undo. What the window grew to since is kept when it is more.
    ///
    /// The caller tells which cut a packet's loss caused: those sent up to
    /// [`recovery_start`](Self::recovery_start) belong to the latest.
    pub fn on_spurious_loss(&mut self) -> bool {
        let Some(before) = self.before_cut.take() else {
            return false;
        };
        let window = before.window.max(self.state.window).max(self.window_min());
        self.state = State { window, ..before };
        true
    }

    /// Takes over a new datagram size. A window not used yet starts anew with it (RFC 9002 section
    /// 7.2); any other stays, raised to the new minimum if need be.
    pub fn on_datagram_bytes_changed(&mut self, datagram_bytes: u64) {
        let unused = self.is_unused();
        self.datagram_bytes = datagram_bytes;
        self.state.window =
            if unused { self.window_at_first() } else { self.state.window.max(self.window_min()) };
        // The cubic counts in datagrams: continue on a new one from here.
        self.state.epoch = None;
        if let Some(before) = &mut self.before_cut {
            before.epoch = None;
        }
    }

    /// Bytes that may be in flight.
    #[inline]
    pub fn window(&self) -> u64 {
        self.state.window as u64
    }

    /// Whether the window still doubles per round trip.
    #[inline]
    pub fn in_slow_start(&self) -> bool {
        self.state.window < self.state.slow_start_threshold
    }

    /// When the latest recovery period began; losses of packets sent up to then are part of it.
    #[inline]
    pub fn recovery_start(&self) -> Option<Instant> {
        self.state.recovery_start
    }

    /// Whether a packet sent at `sent` was sent before the latest cut.
    #[inline]
    fn in_recovery(&self, sent: Instant) -> bool {
        self.state.recovery_start.is_some_and(|start| sent <= start)
    }

    /// Two datagrams, one if there are several lanes: many lanes at their least must leave others room on a slow path.
    fn window_min(&self) -> f64 {
        let datagrams = if self.lanes > 1.0 { 1 } else { MINIMUM_DATAGRAMS };
        (datagrams * self.datagram_bytes) as f64
    }

    fn window_at_first(&self) -> f64 {
        (initial_window(self.datagram_bytes) as f64 / self.lanes).max(self.window_min())
    }

    /// Whether nothing has changed the window yet.
    fn is_unused(&self) -> bool {
        self.state.slow_start_threshold.is_infinite()
            && self.state.window.total_cmp(&self.window_at_first()).is_eq()
    }

    /// Moves the epoch on by the time in which the application left the window unused.
    fn end_limited_period(&mut self, now: Instant) {
        let Some(since) = self.state.limited_since.take() else {
            return;
        };
        if let Some(epoch) = &mut self.state.epoch {
            epoch.start += now.saturating_duration_since(since);
        }
    }

    /// Grows along the cubic, or as Reno would where that is faster: RFC 9438 sections 4.2 to 4.5.
    fn grow_in_avoidance(&mut self, now: Instant, bytes: f64, rtt: Duration) {
        let scale = SCALE * self.datagram_bytes as f64 / self.lanes.powi(COUPLING_CUBIC);
        let state = &mut self.state;
        let epoch = state.epoch.get_or_insert_with(|| {
            state.plateau = state.plateau.max(state.window);
            Epoch {
                start: now,
                plateau_seconds: ((state.plateau - state.window) / scale).cbrt(),
                reno_window: state.window,
            }
        });
        let plateau = state.plateau;
        let cubic_at = |seconds: f64| plateau + scale * (seconds - epoch.plateau_seconds).powi(3);
        let elapsed = now.saturating_duration_since(epoch.start).as_secs_f64();

        // One acknowledgement may report more than a window; it still is one window's worth.
        let share = (bytes / state.window).min(1.0);
        let reno_grown = epoch.reno_window >= state.window_before_cut;
        let alpha = if reno_grown { 1.0 } else { RENO_ALPHA } / self.lanes.powi(2);
        let reno_window = epoch.reno_window + alpha * self.datagram_bytes as f64 * share;

        let target = cubic_at(elapsed + rtt.as_secs_f64())
            .clamp(state.window, TARGET_GROWTH_MAX * state.window);
        let mut window = state.window + (target - state.window) * share;
        if cubic_at(elapsed) < reno_window {
            window = window.max(reno_window);
        }
        epoch.reno_window = reno_window;
        state.window = window;
    }
}

/// The window of a new path: RFC 9002 section 7.2.
fn initial_window(datagram_bytes: u64) -> u64 {
    let bytes_max = INITIAL_BYTES_MAX.max(MINIMUM_DATAGRAMS * datagram_bytes);
    (INITIAL_DATAGRAMS * datagram_bytes).min(bytes_max)
}

#[cfg(test)]
mod tests;
