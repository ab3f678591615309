//! The workloads: what is sent, how it is checked and how it is timed, the same for every stack.
//!
//! Each message carries its number, little endian, in bytes 0 to 8 and in bytes 8 to 16 whether it is the last. The sender decides
//! by its clock when to end; the receiver times itself, from the end of its warm-up. Every message is checked, those of the
//! warm-up too.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Fewest bytes of a message: its number and its mark.
pub const SIZE_MIN: usize = 16;

/// Messages between two looks at the clock, which costs some 25 ns.
const LOOK_EVERY: u64 = 32;

/// What a sender goes on for after the receiver's time, so that the receiver is never left without messages.
const MARGIN: Duration = Duration::from_millis(300);

/// The mark of the last message.
const LAST: u64 = u64::from_le_bytes(*b"the last");

/// How long one measurement takes.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Time that is left out, from the first message.
    pub warm_up: Duration,
    /// Time that is measured after it.
    pub measured: Duration,
}

/// What a receiver saw of a one-way load.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Received {
    /// Messages per second in the measured time; `None` when the machine was disturbed.
    pub messages_per_second: Option<f64>,
    /// The checks of all messages.
    pub checks: Checks,
}

/// What an asker saw of an echo.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Echoed {
    /// Median of the round trips, and the time that 99 of 100 kept, in microseconds; `None` when the measured time had none.
    pub p50_p99_us: Option<(f64, f64)>,
    /// Round trips in the measured time.
    pub round_trips: usize,
    /// The checks of all answers.
    pub checks: Checks,
}

/// Whether what arrived is what was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// Messages that arrived.
    pub messages: u64,
    /// Messages whose length is not the one sent.
    pub wrong_length: u64,
    /// Numbers that were left out when a later one arrived, or before the end.
    pub missing: u64,
    /// Messages with a number that had passed: late or doubled.
    pub repeated: u64,
}

impl Checks {
    /// Whether all arrived once, in order and whole.
    pub fn is_clean(&self) -> bool {
        self.wrong_length + self.missing + self.repeated == 0
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: Checks) {
        self.messages += other.messages;
        self.wrong_length += other.wrong_length;
        self.missing += other.missing;
        self.repeated += other.repeated;
    }
}

/// The sender's side of a one-way load.
#[derive(Debug)]
pub struct Load {
    size: usize,
    length: Duration,
    until: Option<Instant>,
    next: u64,
    is_ended: bool,
}

impl Load {
    /// A load of messages of `size` bytes that outlasts a receiver's `span`.
    pub fn new(size: usize, span: Span) -> Self {
        let length = span.warm_up + span.measured + MARGIN;
        Self { size, length, until: None, next: 0, is_ended: false }
    }

    /// Bytes of each message.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Writes the next message's number into `body`, which is all of it; `false` when there is no further message.
    #[inline]
    pub fn fill(&mut self, body: &mut [u8]) -> bool {
        self.fill_at(body, Instant::now)
    }

    /// The same by another clock.
    #[inline]
    fn fill_at(&mut self, body: &mut [u8], clock: impl FnOnce() -> Instant) -> bool {
        if self.is_ended {
            return false;
        }
        if self.next.is_multiple_of(LOOK_EVERY) {
            let now = clock();
            self.is_ended = now >= *self.until.get_or_insert(now + self.length);
        }
        write(body, self.next, self.is_ended);
        self.next += 1;
        true
    }
}

/// The receiver's side of a one-way load.
#[derive(Debug, Clone)]
pub struct Meter {
    size: usize,
    span: Span,
    order: Order,
    begun: Option<Instant>,
    from: Option<(Instant, u64)>,
    to: Option<(Instant, u64)>,
}

impl Meter {
    /// A meter of messages of `size` bytes.
    pub fn new(size: usize, span: Span) -> Self {
        Self { size, span, order: Order::default(), begun: None, from: None, to: None }
    }

    /// Bytes of each message.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes one message; `false` when it was the last.
    #[inline]
    pub fn take(&mut self, body: &[u8]) -> bool {
        self.take_at(body, Instant::now)
    }

    /// The same by another clock.
    #[inline]
    fn take_at(&mut self, body: &[u8], clock: impl FnOnce() -> Instant) -> bool {
        let is_last = self.order.check(body, self.size);
        if self.order.checks.messages.is_multiple_of(LOOK_EVERY) || is_last {
            self.look(clock(), is_last);
        }
        !is_last
    }

    fn look(&mut self, now: Instant, is_last: bool) {
        let messages = self.order.checks.messages;
        let begun = *self.begun.get_or_insert(now);
        match (self.from, self.to) {
            (None, _) if now >= begun + self.span.warm_up => self.from = Some((now, messages)),
            (Some((from, _)), None) if is_last || now >= from + self.span.measured => {
                self.to = Some((now, messages));
            }
            _ => {}
        }
    }

    /// What was received.
    pub fn report(&self) -> Received {
        let rate = match (self.from, self.to) {
            (Some((from, before)), Some((to, after))) => {
                rate(after - before, to - from, self.span.measured)
            }
            _ => None,
        };
        Received { messages_per_second: rate, checks: self.order.checks }
    }
}

/// Messages per second over the time that `passed`. `None` when that is not the time that was meant to be measured: one side stood
/// still while the other's clock went on, and the figure would be that of a backlog or of a pause.
pub fn rate(messages: u64, passed: Duration, measured: Duration) -> Option<f64> {
    let part = passed.as_secs_f64() / measured.as_secs_f64();
    (0.5..=1.5).contains(&part).then(|| messages as f64 / passed.as_secs_f64())
}

/// The asking side of an echo.
#[derive(Debug)]
pub struct Exchange {
    size: usize,
    span: Span,
    order: Order,
    begun: Option<Instant>,
    asked: Option<Instant>,
    next: u64,
    is_ended: bool,
    nanoseconds: Vec<u64>,
}

impl Exchange {
    /// Questions of `size` bytes, each sent when the one before is answered.
    pub fn new(size: usize, span: Span) -> Self {
        let (order, nanoseconds) = (Order::default(), Vec::with_capacity(1 << 20));
        let (begun, asked) = (None, None);
        Self { size, span, order, begun, asked, next: 0, is_ended: false, nanoseconds }
    }

    /// Bytes of each question.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Writes the next question's number into `body` and starts its time; `false` when there is no further question.
    pub fn ask(&mut self, body: &mut [u8]) -> bool {
        if self.is_ended {
            return false;
        }
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        self.is_ended = now >= begun + self.span.warm_up + self.span.measured;
        write(body, self.next, self.is_ended);
        self.next += 1;
        self.asked = Some(now);
        true
    }

    /// Takes the answer to the last question.
    pub fn answered(&mut self, body: &[u8]) {
        self.order.check(body, self.size);
        if let (Some(asked), Some(begun)) = (self.asked.take(), self.begun)
            && asked >= begun + self.span.warm_up
        {
            self.nanoseconds.push(asked.elapsed().as_nanos() as u64);
        }
    }

    /// The times.
    pub fn report(&mut self) -> Echoed {
        self.nanoseconds.sort_unstable();
        let round_trips = self.nanoseconds.len();
        let at = |part: f64| {
            let rank = (round_trips as f64 * part).ceil() as usize;
            Some(*self.nanoseconds.get(rank.checked_sub(1)?)? as f64 / 1e3)
        };
        let mut checks = self.order.checks;
        checks.missing += self.next - checks.messages.min(self.next);
        Echoed { p50_p99_us: at(0.5).zip(at(0.99)), round_trips, checks }
    }
}

/// Whether `body` is the last question: whoever answers ends after it.
pub fn is_last(body: &[u8]) -> bool {
    body.get(8..16).is_some_and(|mark| mark == LAST.to_le_bytes())
}

#[inline]
fn write(body: &mut [u8], number: u64, is_last: bool) {
    body[..8].copy_from_slice(&number.to_le_bytes());
    body[8..16].copy_from_slice(&(if is_last { LAST } else { 0 }).to_le_bytes());
}

/// The numbers that arrived.
#[derive(Debug, Clone, Default)]
struct Order {
    next: u64,
    checks: Checks,
}

impl Order {
    /// Takes note of one message; whether it is the last.
    #[inline]
    fn check(&mut self, body: &[u8], size: usize) -> bool {
        self.checks.messages += 1;
        self.checks.wrong_length += u64::from(body.len() != size);
        let Some(number) = body.first_chunk::<8>() else { return false };
        let number = u64::from_le_bytes(*number);
        match number.checked_sub(self.next) {
            Some(skipped) => {
                self.checks.missing += skipped;
                self.next = number + 1;
            }
            None => self.checks.repeated += 1,
        }
        is_last(body)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is wrong with a stream shows, and what is right is not called wrong.
    use super::*;

    const SPAN: Span = Span { warm_up: Duration::ZERO, measured: Duration::from_millis(5) };

    fn body(number: u64, is_last: bool) -> Vec<u8> {
        let mut body = vec![0; 64];
        write(&mut body, number, is_last);
        body
    }

    fn checks_of(bodies: &[Vec<u8>]) -> Checks {
        let mut meter = Meter::new(64, SPAN);
        for body in bodies {
            meter.take(body);
        }
        meter.order.checks
    }

    #[test]
    fn a_load_that_arrives_whole_is_clean_and_has_a_rate() {
        // A message a microsecond from the warm-up's end on, and before it one in ten.
        let warm_up = Duration::from_millis(20);
        let span = Span { warm_up, measured: Duration::from_millis(50) };
        let (mut load, mut meter) = (Load::new(64, span), Meter::new(64, span));
        let (mut body, mut went_on) = (vec![0; 64], true);
        let begun = Instant::now();
        let mut now = begun;
        while load.fill_at(&mut body, || now) {
            assert!(went_on, "a message after the last");
            now += Duration::from_micros(if now < begun + warm_up { 10 } else { 1 });
            went_on = meter.take_at(&body, || now);
        }
        assert!(!went_on, "the last was not marked");
        let Received { messages_per_second, checks } = meter.report();
        assert!(checks.is_clean() && checks.messages == load.next);
        let rate = messages_per_second.expect("a rate");
        assert!((rate - 1e6).abs() < 5e3, "{rate}: the warm-up has a tenth of it");
    }

    #[test]
    fn a_time_cut_short_or_drawn_out_has_no_rate() {
        let second = Duration::from_secs(1);
        assert_eq!(rate(3000, second, second), Some(3000.0));
        assert_eq!(rate(3000, second * 3 / 2, second), Some(2000.0));
        assert_eq!(rate(32, Duration::from_micros(5), second), None, "a backlog before the last");
        assert_eq!(rate(32, second * 100, second), None, "the receiver stood still");
        assert_eq!(rate(32, Duration::ZERO, second), None);
    }

    #[test]
    fn a_load_that_ends_before_the_measured_time_has_no_rate() {
        let mut meter = Meter::new(64, Span { warm_up: Duration::from_hours(1), ..SPAN });
        assert!(!meter.take(&body(0, true)));
        assert_eq!(meter.report().messages_per_second, None);
    }

    #[test]
    fn gaps_repeats_and_wrong_lengths_are_counted() {
        let clean = checks_of(&[body(0, false), body(1, false), body(2, true)]);
        assert!(clean.is_clean() && clean.messages == 3);
        assert_eq!(checks_of(&[body(0, false), body(3, true)]).missing, 2);
        assert_eq!(checks_of(&[body(0, false), body(0, false)]).repeated, 1);
        assert_eq!(checks_of(&[body(0, false)[..63].to_vec()]).wrong_length, 1);
        assert_eq!(checks_of(&[vec![]]).wrong_length, 1);
    }

    #[test]
    fn an_exchange_times_its_answers_and_notices_a_wrong_one() {
        let mut exchange = Exchange::new(64, SPAN);
        let mut question = vec![0; 64];
        while exchange.ask(&mut question) {
            exchange.answered(&question);
        }
        let echoed = exchange.report();
        assert!(echoed.checks.is_clean() && echoed.round_trips > 0 && is_last(&question));
        let (p50, p99) = echoed.p50_p99_us.unwrap();
        assert!(p50 <= p99);
        exchange.answered(&question);
        assert!(!exchange.report().checks.is_clean());
        assert_eq!(Exchange::new(64, SPAN).report().p50_p99_us, None);
    }
}
