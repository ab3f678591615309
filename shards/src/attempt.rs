//! One message's way from a future: offered, waiting for room, waiting for its end.
//!
//! Always holds: at each stage the attempt owns at most one wait, and dropping it forgets that wait. A
//! message that was handed over stays handed over; only its outcome goes unheard.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use cubed_runtime::{Sleep, Timers};
use cubed_transport::time::Instant;
use cubed_transport::{FlowId, SendError, SendOptions, Service, Token};

use crate::shared::{Payload, Shared, State};
use crate::waits::End;

/// What is to become of the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    BestEffort,
    Acknowledged,
    /// With an outcome, and all that is asked.
    Asked(SendOptions),
}

/// Why an attempt ended without an end of its message.
#[derive(Clone, Copy)]
pub(crate) enum Failure {
    Send(SendError),
    /// The deadline passed; `offered`: after the message had been handed over.
    Deadline {
        offered: bool,
    },
    Stopped,
}

/// A message being sent by a future.
pub(crate) struct Attempt<'a> {
    shared: Rc<Shared>,
    flow: FlowId,
    payload: Payload<'a>,
    kind: Kind,
    deadline: Option<Instant>,
    /// Made when there is first something to wait for that does not end by itself.
    sleep: Option<Sleep>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Offer,
    Room(Token),
    End(Token),
    Over,
}

enum Step {
    Again,
    Pending,
    Done(Result<Option<End>, Failure>),
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(
        shared: Rc<Shared>,
        flow: FlowId,
        payload: Payload<'a>,
        kind: Kind,
        deadline: Option<Instant>,
    ) -> Self {
        Self { shared, flow, payload, kind, deadline, sleep: None, stage: Stage::Offer }
    }

    /// `Ok(None)` for best effort that was handed over, else the end of the message.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<End>, Failure>> {
        loop {
            match self.step(context) {
                Step::Again => {}
                Step::Pending => return Poll::Pending,
                Step::Done(result) => {
                    self.finish();
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn step(&mut self, context: &mut Context<'_>) -> Step {
        let token = match self.stage {
            Stage::Over => return Step::Done(Err(Failure::Stopped)),
            Stage::Offer => return self.offer(context),
            Stage::Room(token) | Stage::End(token) => token,
        };
        let offered = matches!(self.stage, Stage::End(_));
        let Poll::Ready(end) = self.shared.poll_wait(token, context) else {
            return self.poll_deadline(context, offered);
        };
        // The wait is over and its slot free: there is nothing left to forget.
        self.stage = Stage::Over;
        match end {
            End::Stopped => Step::Done(Err(Failure::Stopped)),
            end if offered => Step::Done(Ok(Some(end))),
            _ => {
                self.stage = Stage::Offer;
                Step::Again
            }
        }
    }

    /// Offers the message to the endpoint and moves to the next stage.
    fn offer(&mut self, context: &Context<'_>) -> Step {
        let shared = Rc::clone(&self.shared);
        let Some(mut state) = shared.try_state() else {
            context.waker().wake_by_ref();
            return Step::Pending;
        };
        let flow = self.flow;
        let payload = self.payload.clone();
        if self.kind == Kind::BestEffort {
            let sent = shared.send_now(&mut state, flow, payload, Service::BestEffort, None);
            return match sent {
                Ok(()) => Step::Done(Ok(None)),
                Err(error) => self.turned_away(&mut state, error),
            };
        }
        let token = state.receiver.waits.open();
        let sent = match self.kind {
            Kind::Asked(options) => {
                shared.send_with_now(&mut state, flow, &payload, options, Some(token))
            }
            _ => shared.send_now(&mut state, flow, payload, Service::Acknowledged, Some(token)),
        };
        self.offered(&mut state, token, sent)
    }

    /// Goes on after a message with an end was offered.
    fn offered(&mut self, state: &mut State, token: Token, sent: Result<(), SendError>) -> Step {
        if let Err(error) = sent {
            state.receiver.waits.forget(token, None);
            return self.turned_away(state, error);
        }
        self.stage = Stage::End(token);
        Step::Again
    }

    fn turned_away(&mut self, state: &mut State, error: SendError) -> Step {
        match error {
            SendError::Full => {}
            SendError::Moved(to) => {
                self.flow = to;
                self.stage = Stage::Offer;
                return Step::Again;
            }
            error => return Step::Done(Err(Failure::Send(error))),
        }
        self.stage = Stage::Room(state.receiver.waits.open_room(self.flow.peer));
        Step::Again
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>, offered: bool) -> Step {
        let ends_itself = offered && matches!(self.kind, Kind::Asked(_));
        let Some(deadline) = self.deadline.filter(|_| !ends_itself) else { return Step::Pending };
        let timers = &self.shared.timers;
        let sleep = || Timers::sleep_until(timers, deadline.as_nanos());
        match Pin::new(self.sleep.get_or_insert_with(sleep)).poll(context) {
            Poll::Ready(()) => Step::Done(Err(Failure::Deadline { offered })),
            Poll::Pending => Step::Pending,
        }
    }

    /// Forgets the wait of the present stage, if it has one.
    fn finish(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Room(token) => self.shared.forget(token, Some(self.flow.peer), None),
            Stage::End(token) => self.shared.forget(token, None, None),
            Stage::Offer | Stage::Over => {}
        }
        self.sleep = None;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}
