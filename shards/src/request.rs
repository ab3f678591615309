//! One request's way from its future: offered, waiting for room, waiting for its reply.
//!
//! Always holds: at each stage the request owns at most one wait, and dropping it forgets that wait, and the request at the
//! endpoint; its body's memory goes back when it was handed over, or with it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cubed_runtime::{Sleep, Timers};
use cubed_transport::time::Instant;
use cubed_transport::{FlowId, Outcome, RequestId, SendError, Token};

use crate::bodies::SpareBodies;
use crate::error::RequestError;
use crate::limits::SPARE_BODY_BYTES_MAX;
use crate::shared::Shared;
use crate::waits::End;

/// Ends with the reply to a request. Dropped, the request is forgotten and its reply thrown away.
#[must_use = "nothing is sent until this is awaited"]
pub struct Request {
    shared: Rc<Shared>,
    flow: FlowId,
    deadline: Instant,
    body: Question,
    stage: Stage,
    /// Made when there is no room: once offered, the endpoint looks after the deadline.
    sleep: Option<Box<Sleep>>,
}

/// The body of a request that was not handed over.
pub(crate) enum Question {
    /// In memory that goes back to the shard.
    Copied(Vec<u8>),
    Owned(Bytes),
}

#[derive(Clone, Copy)]
enum Stage {
    Offer,
    Room(Token),
    Reply(Token, Option<RequestId>),
    Over,
}

impl Request {
    /// Copies the body, if it is short into memory that is used again.
    #[inline]
    pub(crate) fn copied(shared: &Rc<Shared>, flow: FlowId, body: &[u8], at: Instant) -> Self {
        let body = if body.len() <= SPARE_BODY_BYTES_MAX {
            Question::Copied(shared.bodies.copy(body))
        } else {
            Question::Owned(Bytes::copy_from_slice(body))
        };
        Self::new(Rc::clone(shared), flow, body, at)
    }

    pub(crate) fn new(shared: Rc<Shared>, flow: FlowId, body: Question, deadline: Instant) -> Self {
        Self { shared, flow, deadline, body, stage: Stage::Offer, sleep: None }
    }

    /// Offers the request to the endpoint and moves to the next stage; what is ready is why it will not be answered.
    fn offer(&mut self, context: &Context<'_>) -> Poll<Result<(), RequestError>> {
        let Self { shared, flow, deadline, body, stage, .. } = self;
        let Some(mut state) = shared.try_state() else {
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let token = state.receiver.waits.open_for(context);
        let error = match shared.request_now(&mut state, *flow, body, token, *deadline) {
            Ok(id) => {
                *stage = Stage::Reply(token, id);
                body.give_back(&shared.bodies);
                return Poll::Pending;
            }
            Err(error) => error,
        };
        state.receiver.waits.forget(token, None);
        match error {
            SendError::Full => *stage = Stage::Room(state.receiver.waits.open_room(flow.peer)),
            SendError::Moved(to) => *flow = to,
            error => return Poll::Ready(Err(RequestError::Send(error))),
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for room, at most until the deadline; then the request is to be offered again.
    #[cold]
    fn poll_room(
        &mut self,
        token: Token,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), RequestError>> {
        if let Poll::Ready(end) = self.shared.poll_wait(token, context) {
            self.stage = Stage::Offer;
            let is_over = matches!(end, End::Stopped);
            return Poll::Ready(if is_over { Err(RequestError::Stopped) } else { Ok(()) });
        }
        let (timers, at) = (&self.shared.timers, self.deadline.as_nanos());
        let sleep = self.sleep.get_or_insert_with(|| Box::new(Timers::sleep_until(timers, at)));
        ready!(Pin::new(&mut **sleep).poll(context));
        Poll::Ready(Err(RequestError::Expired))
    }

    /// Forgets the wait of the present stage, if it has one.
    fn finish(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Room(token) => self.shared.forget(token, Some(self.flow.peer), None),
            Stage::Reply(token, request) => self.shared.forget(token, None, request),
            Stage::Offer | Stage::Over => {}
        }
        self.body.give_back(&self.shared.bodies);
        self.sleep = None;
    }
}

impl Future for Request {
    type Output = Result<Bytes, RequestError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let went_on = match self.stage {
                Stage::Reply(token, _) => {
                    let end = ready!(self.shared.poll_wait(token, context));
                    // The wait is over and its slot free: there is nothing left to forget.
                    self.stage = Stage::Over;
                    return Poll::Ready(answer(end));
                }
                Stage::Offer => ready!(self.offer(context)),
                Stage::Room(token) => ready!(self.poll_room(token, context)),
                Stage::Over => Err(RequestError::Stopped),
            };
            if let Err(error) = went_on {
                self.finish();
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Question {
    /// Nothing needs the body any more: the memory of a copy goes back to the shard, and the hold on any other ends.
    #[inline]
    fn give_back(&mut self, spare: &SpareBodies) {
        match self {
            Self::Copied(copy) if copy.capacity() > 0 => spare.give(std::mem::take(copy)),
            Self::Copied(_) => {}
            Self::Owned(body) => *body = Bytes::new(),
        }
    }
}

#[inline]
fn answer(end: End) -> Result<Bytes, RequestError> {
    match end {
        End::Reply(body) => Ok(body),
        End::Outcome(outcome) => Err(request_error(outcome)),
        _ => Err(RequestError::Stopped),
    }
}

fn request_error(outcome: Outcome) -> RequestError {
    match outcome {
        Outcome::Refused(refusal) => RequestError::Refused(refusal),
        Outcome::Expired => RequestError::Expired,
        Outcome::PeerLost => RequestError::PeerLost,
        // A reply is the only proof of success, so "delivered" without one says nothing.
        Outcome::Unknown | Outcome::Delivered => RequestError::Unknown,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a request that was handed over keeps nothing of its body, however long its reply takes.
    use super::*;

    #[test]
    fn a_body_that_was_handed_over_is_kept_by_nobody_here() {
        let spare = SpareBodies::default();
        let copy = spare.copy(b"a short one");
        let place = copy.as_ptr();
        let long = Bytes::from(vec![7; 100_000]);
        let mut questions = [Question::Copied(copy), Question::Owned(long.clone())];
        for question in &mut questions {
            question.give_back(&spare);
            question.give_back(&spare);
        }
        let (next, another) = (spare.copy(b"the next"), spare.copy(b"another"));
        assert_eq!(next.as_ptr(), place);
        assert_ne!(another.as_ptr(), place, "it came back once");
        assert!(long.is_unique());
    }
}
