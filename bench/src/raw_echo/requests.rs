//! Plain UDP with many questions outstanding: what a datagram each way per question reaches here, polled on both sides.

use std::{hint, thread, time::Duration};

use super::{ANSWER_NANOS_MAX, Asker, POLLS_PER_CHECK, RawEcho, WARM_UP, is_empty};
use crate::{
    error::{BenchError, Result},
    machine,
    subject::{ThroughputSlice, ThroughputSubject},
    tag::{TAG_BYTES, write_tag},
};

/// Questions and answers over plain UDP, so many outstanding.
#[derive(Debug)]
pub struct RawRequests {
    echo: RawEcho,
    outstanding: u64,
}

impl RawRequests {
    /// Starts the echoing process. Both sides poll, unless there is one core for both.
    ///
    /// # Errors
    ///
    /// Those of [`RawEcho::start`].
    pub fn start(size_bytes: usize, outstanding: usize) -> Result<Self> {
        let echo = RawEcho::start(size_bytes, true, None)?;
        Ok(Self { echo, outstanding: outstanding as u64 })
    }
}

impl ThroughputSubject for RawRequests {
    fn name(&self) -> &'static str {
        "raw UDP"
    }

    fn run_slice(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        self.echo.peer.begin(&())?;
        let (asker, core) = (self.echo.asker(), self.echo.cores.sender);
        let mut asking = Asking { asker, outstanding: self.outstanding, answered: 0 };
        let ask = move || {
            machine::pin(core)?;
            asking.run(WARM_UP)?;
            asking.run(duration)
        };
        let measured = thread::scope(|scope| scope.spawn(ask).join())
            .map_err(|_| BenchError::Peer("the asking thread panicked".into()))?;
        self.echo.peer.end::<u64>()?;
        measured
    }
}

/// The asking side during one slice.
struct Asking<'a> {
    asker: Asker<'a>,
    outstanding: u64,
    /// Questions before this one are answered or given up.
    answered: u64,
}

impl Asking<'_> {
    fn run(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        let start = self.asker.clock.now_nanos();
        let end = start + duration.as_nanos() as u64;
        let (mut slice, mut open) = (self.empty(), 0);
        let mut now = start;
        while now < end || open > 0 {
            while now < end && open < self.outstanding {
                self.send(&mut slice)?;
                open += 1;
            }
            let got = self.take_answer()?;
            if got {
                open -= 1;
                slice.delivered += 1;
            } else {
                // Nothing more comes: what is open is lost.
                open = 0;
                self.answered = self.asker.next;
            }
            now = self.asker.clock.now_nanos();
        }
        slice.seconds = (now - start) as f64 / 1e9;
        Ok(slice)
    }

    fn empty(&self) -> ThroughputSlice {
        let size_bytes = self.asker.question.len() as u64;
        ThroughputSlice { size_bytes, ..ThroughputSlice::default() }
    }

    fn send(&mut self, slice: &mut ThroughputSlice) -> Result<()> {
        write_tag(&mut self.asker.question, self.asker.next);
        let sent = self.asker.socket.send_to(&self.asker.question, self.asker.to);
        sent.map_err(BenchError::system("send a question"))?;
        self.asker.next += 1;
        slice.sent += 1;
        slice.datagrams += 1;
        slice.sends += 1;
        Ok(())
    }

    /// Waits for one answer to a question of this slice; false after [`ANSWER_NANOS_MAX`] without any.
    fn take_answer(&mut self) -> Result<bool> {
        let Asker { socket, to, spin, clock, next, question, answer, .. } = &mut self.asker;
        let (asked, every) = (clock.now_nanos(), if *spin { POLLS_PER_CHECK } else { 1 });
        for poll in 1_u64.. {
            match socket.recv_from(answer) {
                Ok((count, from)) => {
                    let tag = answer[..count].first_chunk::<TAG_BYTES>();
                    let tag = tag.map(|tag| u64::from_le_bytes(*tag));
                    let is_ours = from == *to && count == question.len();
                    match tag {
                        Some(tag) if is_ours && (self.answered..*next).contains(&tag) => {
                            return Ok(true);
                        }
                        // Of a question that was given up.
                        Some(tag) if is_ours && tag < self.answered => {}
                        _ => {
                            return Err(BenchError::Corrupt(format!(
                                "an answer of {count} bytes that was never asked for"
                            )));
                        }
                    }
                }
                Err(error) if is_empty(&error) => hint::spin_loop(),
                Err(error) => return Err(BenchError::system("receive an answer")(error)),
            }
            if poll % every == 0 && clock.now_nanos() - asked > ANSWER_NANOS_MAX {
                break;
            }
        }
        Ok(false)
    }
}
