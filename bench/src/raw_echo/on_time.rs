//! The open loop of the plain UDP echo: each question is sent when it is due, however many wait for their answers, and is timed
//! from then.
//!
//! While nothing is due the asking side either polls or sleeps until an answer comes, as it was started; of the time before a
//! question is due it polls the last part in any case.

use std::{collections::VecDeque, hint, time::Duration};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Asker, SLEEP_LATE_NANOS_MAX, is_empty};
use crate::{
    error::{BenchError, Result},
    meter::Meter,
    stats::record_latency,
    subject::LatencySlice,
    tag::{TAG_BYTES, write_tag},
};

/// A question that waits for its answer; times in ns.
#[derive(Debug, Clone, Copy)]
struct Question {
    due_nanos: u64,
    sent_nanos: u64,
}

/// The questions of one slice.
struct Asked {
    start_nanos: u64,
    interval: Duration,
    /// The oldest is the first; none in the place of one that has its answer.
    open: VecDeque<Option<Question>>,
    /// Number of the oldest.
    first: u64,
    slice: LatencySlice,
}

impl Asker<'_> {
    /// Asks for `duration`, one question every `interval`, and waits for the last answers. The socket must not block.
    pub(super) fn run_on_time(
        &mut self,
        duration: Duration,
        interval: Duration,
        meter: Option<&Meter>,
    ) -> Result<LatencySlice> {
        let count = (duration.as_secs_f64() / interval.as_secs_f64()).ceil() as u64;
        let start_nanos = self.clock.now_nanos();
        let (open, slice) = (VecDeque::new(), LatencySlice::empty());
        let mut asked = Asked { start_nanos, interval, open, first: self.next, slice };
        loop {
            let now = self.clock.now_nanos();
            asked.give_up(now, self.answer_nanos_max);
            let due = (asked.slice.sent < count).then(|| asked.next_due());
            if let Some(due_nanos) = due.filter(|due| *due <= now) {
                self.ask(&mut asked, Question { due_nanos, sent_nanos: now })?;
            } else if due.is_none() && asked.open.is_empty() {
                break;
            }
            if let Some(number) = self.take_answer()? {
                asked.record(number, self.clock.now_nanos(), meter);
            } else if due.is_none_or(|due| due > now) {
                self.wait(due.unwrap_or(u64::MAX), now)?;
            }
        }
        let mut slice = asked.slice;
        slice.seconds = (self.clock.now_nanos() - start_nanos) as f64 / 1e9;
        Ok(slice)
    }

    fn ask(&mut self, asked: &mut Asked, question: Question) -> Result<()> {
        write_tag(&mut self.question, self.next);
        let sent = self.socket.send_to(&self.question, self.to);
        sent.map_err(BenchError::system("send a question"))?;
        self.next += 1;
        asked.slice.sent += 1;
        asked.open.push_back(Some(question));
        Ok(())
    }

    /// The number of a question whose answer is there; none when nothing is.
    fn take_answer(&mut self) -> Result<Option<u64>> {
        let (count, from) = match self.socket.recv_from(&mut self.answer) {
            Ok(received) => received,
            Err(error) if is_empty(&error) => return Ok(None),
            Err(error) => return Err(BenchError::system("receive an answer")(error)),
        };
        let is_ours = from == self.to
            && count == self.question.len()
            && self.answer[TAG_BYTES..count] == self.question[TAG_BYTES..];
        let tag = self.answer.first_chunk::<TAG_BYTES>().map(|tag| u64::from_le_bytes(*tag));
        match tag.filter(|tag| is_ours && *tag < self.next) {
            Some(tag) => Ok(Some(tag)),
            None => Err(BenchError::Corrupt(format!(
                "an answer of {count} bytes that was never asked for"
            ))),
        }
    }

    /// Waits until an answer may be there or a question is nearly due, for no longer than one is waited for.
    fn wait(&self, due_nanos: u64, now: u64) -> Result<()> {
        let nanos = due_nanos.saturating_sub(now + SLEEP_LATE_NANOS_MAX).min(self.answer_nanos_max);
        if self.spin || nanos == 0 {
            hint::spin_loop();
            return Ok(());
        }
        let timeout = Timespec {
            tv_sec: (nanos / 1_000_000_000) as i64,
            tv_nsec: (nanos % 1_000_000_000) as i64,
        };
        match poll(&mut [PollFd::new(self.socket, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(BenchError::system("wait for an answer")(error.into())),
        }
    }
}

impl Asked {
    /// When the next question is due.
    fn next_due(&self) -> u64 {
        self.start_nanos + self.interval.mul_f64(self.slice.sent as f64).as_nanos() as u64
    }

    /// Takes the answer to a question; one that was given up, or has its answer, is passed over.
    fn record(&mut self, number: u64, now: u64, meter: Option<&Meter>) {
        let place = number.checked_sub(self.first).map(|place| place as usize);
        let question = place.and_then(|place| self.open.get_mut(place)).and_then(Option::take);
        if let Some(question) = question {
            let nanos = now - question.due_nanos;
            record_latency(&mut self.slice.histogram, nanos);
            if let Some(meter) = meter {
                meter.record(nanos);
            }
        }
        self.drop_answered();
    }

    /// Gives up the questions that were sent too long ago.
    fn give_up(&mut self, now: u64, nanos_max: u64) {
        while let Some(Some(oldest)) = self.open.front() {
            if now - oldest.sent_nanos <= nanos_max {
                return;
            }
            self.slice.lost += 1;
            self.open.pop_front();
            self.first += 1;
            self.drop_answered();
        }
    }

    fn drop_answered(&mut self) {
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: questions are asked when they are due, whatever became of those before.
    use std::{
        net::{Ipv4Addr, UdpSocket},
        thread,
    };

    use cubed::runtime::clock::Clock;

    use super::*;

    /// Answers come in groups, the last question first.
    fn ask(groups: usize, of: usize, spin: bool) -> LatencySlice {
        let echo = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut asker = Asker {
            socket: &socket,
            to: echo.local_addr().unwrap(),
            spin,
            question: vec![0x5A; 64],
            answer: vec![0; 65],
            next: 1_000,
            clock: Clock::new(),
            // Nothing is given up because this machine is slow.
            answer_nanos_max: 60_000_000_000,
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let receive = || {
                    let mut body = vec![0; 64];
                    let (_, from) = echo.recv_from(&mut body).unwrap();
                    (body, from)
                };
                for _ in 0..groups {
                    let group: Vec<_> = (0..of).map(|_| receive()).collect();
                    for (body, from) in group.iter().rev() {
                        echo.send_to(body, from).unwrap();
                    }
                }
            });
            let interval = Duration::from_micros(500);
            // Half an interval less, lest rounding asks for one more.
            let duration = interval.mul_f64((groups * of) as f64 - 0.5);
            asker.run_on_time(duration, interval, None).unwrap()
        })
    }

    #[test]
    fn questions_do_not_wait_for_answers() {
        for spin in [false, true] {
            let slice = ask(5, 4, spin);
            assert_eq!((slice.sent, slice.lost, slice.histogram.len()), (20, 0, 20));
        }
    }

    #[test]
    fn what_is_never_answered_is_lost_and_holds_up_nothing() {
        let question = |due_nanos| Some(Question { due_nanos, sent_nanos: due_nanos + 5 });
        let open = [question(100), question(200), question(300)].into();
        let (interval, slice) = (Duration::from_nanos(100), LatencySlice::empty());
        let mut asked = Asked { start_nanos: 100, interval, open, first: 7, slice };
        asked.record(8, 250, None);
        asked.record(6, 260, None);
        asked.give_up(605, 500);
        assert_eq!((asked.first, asked.open.len(), asked.slice.lost), (7, 3, 0));
        asked.give_up(606, 500);
        assert_eq!((asked.first, asked.open.len(), asked.slice.lost), (9, 1, 1));
        asked.record(7, 700, None);
        asked.record(9, 700, None);
        assert_eq!((asked.open.len(), asked.slice.lost, asked.slice.histogram.len()), (0, 1, 2));
        assert!(asked.slice.histogram.max() >= 400);
    }
}
