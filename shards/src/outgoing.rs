//! Messages of which more is asked than to be delivered: a builder, on a shard and from other threads.
//!
//! Always holds: nothing is sent before [`Outgoing::send`] or an await; each thing asked is obeyed by itself.

use std::future::IntoFuture;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cubed_router::address::FlowName;
use cubed_transport::identity::PublicKey;
use cubed_transport::{ChannelId, FlowId, Outcome, Priority, SendError, SendOptions, Service};

use crate::attempt::{Attempt, Failure, Kind};
use crate::destination::wait_error;
use crate::error::WaitError;
use crate::outside::Gate;
use crate::shard::Shard;
use crate::shared::{Payload, Shared};
use crate::waits::End;

/// What is asked of one message, with the deadline still counted from its sending.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    options: SendOptions,
    deadline: Option<Duration>,
}

macro_rules! wishes {
    () => {
        /// Asks that it be handed over after all ordered messages sent on this flow before, within a session. Other
        /// flows, and messages that ask for no order, do not wait for it.
        pub fn ordered(mut self) -> Self {
            self.wishes.options.service = Service::Ordered;
            self
        }

        /// Sends it as a value, of which only the latest counts: a newer one takes its place until it has left, and
        /// the older one ends as expired; one that comes late is refused as superseded.
        pub fn latest_value(mut self) -> Self {
            self.wishes.options.service = Service::LatestValue;
            self
        }

        /// After this, counted from its sending, it is not sent any more and ends as [`Outcome::Expired`], unless it
        /// had arrived. One that arrived ends with its receiver's answer, which may come later: a flow on another shard than the
        /// one that its messages come to answers when that shard does. Default: none.
        pub fn deadline(mut self, after: Duration) -> Self {
            self.wishes.deadline = Some(after);
            self
        }

        /// Each datagram of it is sent again at most so often after losses, 0 for never; then it is given up and ends as
        /// [`Outcome::Expired`], unless it had arrived. Default: as often as it takes.
        pub fn retries(mut self, times: u16) -> Self {
            self.wishes.options.retries = Some(times);
            self
        }

        /// What goes first where several messages wait to be sent. Default: [`Priority::Normal`].
        pub fn priority(mut self, priority: Priority) -> Self {
            self.wishes.options.priority = priority;
            self
        }

        /// At most so many of its datagrams unacknowledged at once; 0, the default, for any number.
        pub fn burst(mut self, datagrams: u16) -> Self {
            self.wishes.options.burst = datagrams;
            self
        }
    };
}

/// A message about to be sent acknowledged, and what is asked of it.
///
/// [`Outgoing::send`] hands it over now; awaiting it waits for room and gives its [`Outcome`].
/// The front page of `cubed` shows one in use.
#[must_use = "nothing is sent until this is sent or awaited"]
pub struct Outgoing<'a> {
    shared: Rc<Shared>,
    flow: FlowId,
    payload: Payload<'a>,
    wishes: Wishes,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(shared: Rc<Shared>, flow: FlowId, payload: Payload<'a>) -> Self {
        Self { shared, flow, payload, wishes: Wishes::default() }
    }

    wishes!();

    /// Sends it without waiting for its outcome, which the node's tally counts.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`]: await [`crate::Destination::ready`] and send it again; nothing was sent. A value always finds
    /// room. [`SendError::TooLarge`], [`SendError::NoAddress`], [`SendError::Refused`]: as they say.
    pub fn send(self) -> Result<(), SendError> {
        let (options, mut flow) = (self.options(), self.flow);
        loop {
            match self.shared.send_with(flow, &self.payload, options) {
                Err(SendError::Moved(to)) => flow = to,
                sent => return sent,
            }
        }
    }

    fn options(&self) -> SendOptions {
        let deadline = self.wishes.deadline.map(|after| self.shared.deadline(after));
        SendOptions { deadline, ..self.wishes.options }
    }
}

impl<'a> IntoFuture for Outgoing<'a> {
    type Output = Result<Outcome, WaitError>;
    type IntoFuture = Ending<'a>;

    fn into_future(self) -> Ending<'a> {
        let options = self.options();
        let kind = Kind::Asked(options);
        // The endpoint ends it in time once it is handed over: this bounds the wait for room.
        Ending(Attempt::new(self.shared, self.flow, self.payload, kind, options.deadline))
    }
}

/// Ends with the outcome of a message of which more was asked.
pub struct Ending<'a>(Attempt<'a>);

impl Future for Ending<'_> {
    type Output = Result<Outcome, WaitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.0.poll(context)) {
            Ok(Some(End::Outcome(outcome))) => Ok(outcome),
            Ok(_) => Err(WaitError::Stopped),
            Err(Failure::Deadline { offered: false }) => Ok(Outcome::Expired),
            Err(failure) => Err(wait_error(failure)),
        })
    }
}

/// [`Outgoing`] for use from any thread; await it for its [`Outcome`].
#[must_use = "nothing is sent until this is awaited"]
pub struct RemoteOutgoing {
    gate: Arc<Gate>,
    channel: ChannelId,
    key: PublicKey,
    flow: FlowName,
    body: Bytes,
    wishes: Wishes,
}

impl RemoteOutgoing {
    pub(crate) fn new(
        gate: Arc<Gate>,
        (channel, key): (ChannelId, PublicKey),
        flow: FlowName,
        body: Bytes,
    ) -> Self {
        Self { gate, channel, key, flow, body, wishes: Wishes::default() }
    }

    wishes!();
}

impl IntoFuture for RemoteOutgoing {
    type Output = Result<Outcome, WaitError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { gate, channel, key, flow, body, wishes } = self;
            let call = gate.call(async move |shard: Shard| {
                let to =
                    shard.resolve_in(channel, key, flow.as_str()).map_err(WaitError::Resolve)?;
                let mut outgoing = to.message_owned(body);
                outgoing.wishes = wishes;
                outgoing.await
            });
            call.await.unwrap_or(Err(WaitError::Stopped))
        })
    }
}
