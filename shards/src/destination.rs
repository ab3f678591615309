//! Destinations: a flow of a peer, resolved once, then cheap to send to.
//!
//! A send looks nothing up and allocates nothing: it borrows the shard's endpoint for a moment and
//! writes the body into the send log. What can be awaited (room, outcome, reply, connection) is a
//! future that may be dropped at any point and leaves nothing behind.

use std::cell::Cell;
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cubed_transport::identity::PublicKey;
use cubed_transport::{FlowId, Outcome, PathStats, PeerId, PeerInfo, SendError, Service, Token};

use crate::attempt::{Attempt, Failure, Kind};
use crate::error::{ConnectError, Stopped, WaitError};
use crate::handed::HERE;
use crate::outgoing::Outgoing;
use crate::request::{Question, Request};
use crate::shared::{Payload, Shared};
use crate::waits::End;

/// A flow of a peer, for use on the shard that resolved it. Cheap to clone.
///
/// *Best effort* is sent once and kept by nobody; *acknowledged* is repeated until the peer has it, arrives
/// once, and has an [`Outcome`]. [`Destination::message`] asks for more: order, only the latest value, a
/// deadline, a limit of repetitions, a priority. Used inside an inline handler, the
/// `try_` calls go to the shard's outbox (see [`crate::Context`]) and `Ok` means taken there.
#[derive(Clone)]
pub struct Destination {
    shared: Rc<Shared>,
    /// Follows the flow when the peer's greeting shows that another of its shards has it.
    flow: Cell<FlowId>,
}

impl Destination {
    pub(crate) fn new(shared: Rc<Shared>, flow: FlowId) -> Self {
        Self { shared, flow: Cell::new(flow) }
    }

    /// Sends one message best effort, now or not at all.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`]: await [`Destination::ready`], or drop the message.
    /// [`SendError::NotConnected`]: there is no session; a dial was begun if an address is known.
    /// [`SendError::TooLarge`]: above the node's message limit.
    #[inline]
    pub fn try_send(&self, body: &[u8]) -> Result<(), SendError> {
        self.send_following(|flow| self.shared.send(flow, body, Service::BestEffort))
    }

    /// Sends one message acknowledged, without waiting for its outcome; the node's tally counts how it
    /// ended. Without a session it waits in the flow's queue and a dial begins.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`]: await [`Destination::ready`] and try again; nothing was sent.
    /// [`SendError::TooLarge`]: above the node's message limit.
    /// [`SendError::NoAddress`]: there is no session and no address to dial.
    #[inline]
    pub fn try_send_acknowledged(&self, body: &[u8]) -> Result<(), SendError> {
        if self.shared.send_short(self.flow.get(), body) {
            return Ok(());
        }
        self.send_acknowledged(body)
    }

    /// Sends messages acknowledged, one for each body, as that many calls of [`Destination::try_send_acknowledged`] would, at a
    /// lower price for each. Returns how many were taken, from the first on: fewer than there are bodies when one was refused, and
    /// then the next call with that one says why. Of `bodies` one more is drawn than was taken; meanwhile the shard is busy, as inside
    /// an inline handler.
    ///
    /// # Errors
    ///
    /// As there, when not even the first was taken.
    #[inline]
    pub fn try_send_many<'b>(
        &self,
        bodies: impl IntoIterator<Item = &'b [u8]>,
    ) -> Result<usize, SendError> {
        let (mut bodies, mut taken) = (bodies.into_iter(), 0);
        loop {
            let (row, rest) = self.shared.send_row(self.flow.get(), &mut bodies);
            taken += row as usize;
            let Some(body) = rest else { return Ok(taken) };
            match self.send_acknowledged(body) {
                Ok(()) => taken += 1,
                Err(error) if taken == 0 => return Err(error),
                Err(_) => return Ok(taken),
            }
        }
    }

    /// The rest of [`Destination::try_send_acknowledged`], which is small enough to be part of the caller's loop.
    #[inline(never)]
    fn send_acknowledged(&self, body: &[u8]) -> Result<(), SendError> {
        self.send_following(|flow| self.shared.send(flow, body, Service::Acknowledged))
    }

    /// As [`Destination::try_send_acknowledged`], without copying a large body.
    ///
    /// # Errors
    ///
    /// As there. Keep a clone of the body (it is counted, not copied) to try again.
    pub fn try_send_owned(&self, body: Bytes) -> Result<(), SendError> {
        match self.shared.send_owned(self.flow.get(), body.clone()) {
            Err(SendError::Moved(to)) => {
                self.flow.set(to);
                self.try_send_owned(body)
            }
            sent => sent,
        }
    }

    /// Sends one message best effort, waiting for room; ask for more with
    /// [`Sending::acknowledged`] and [`Sending::deadline`].
    pub fn send<'a>(&self, body: &'a [u8]) -> Sending<'a> {
        self.sending(Payload::Borrowed(body))
    }

    /// As [`Destination::send`], without copying a large body.
    pub fn send_owned(&self, body: impl Into<Bytes>) -> Sending<'static> {
        self.sending(Payload::Owned(body.into()))
    }

    /// A message of which more is asked than to be delivered: order, a deadline, a priority. See [`Outgoing`].
    pub fn message<'a>(&self, body: &'a [u8]) -> Outgoing<'a> {
        Outgoing::new(Rc::clone(&self.shared), self.flow.get(), Payload::Borrowed(body))
    }

    /// As [`Destination::message`], without copying a large body.
    pub fn message_owned(&self, body: impl Into<Bytes>) -> Outgoing<'static> {
        Outgoing::new(Rc::clone(&self.shared), self.flow.get(), Payload::Owned(body.into()))
    }

    /// Sends a request and waits for its reply, at most `timeout` from now, time without room or
    /// session included. A short reply may keep 2 KiB of memory, which it shares with others.
    ///
    /// Awaited, it fails with [`RequestError`](crate::RequestError): refused, expired, or why it could not be sent. Only a reply says
    /// that it was handled; without one it may have been.
    #[inline]
    pub fn request(&self, body: &[u8], timeout: Duration) -> Request {
        Request::copied(&self.shared, self.flow.get(), body, self.shared.deadline(timeout))
    }

    /// As [`Destination::request`], without copying the body, which is let go when it was sent.
    pub fn request_owned(&self, body: impl Into<Bytes>, timeout: Duration) -> Request {
        let deadline = self.shared.deadline(timeout);
        let body = Question::Owned(body.into());
        Request::new(Rc::clone(&self.shared), self.flow.get(), body, deadline)
    }

    /// Waits until the peer has room after a send said [`SendError::Full`]; ready at once otherwise.
    ///
    /// Several tasks may be told of the same room: try again, and wait again if it is gone.
    pub fn ready(&self) -> Ready {
        Ready { wait: PeerWait::new(&self.shared, self.flow.get().peer) }
    }

    /// Dials the peer unless there is a session, and waits for the end of the dial.
    pub fn connect(&self) -> Connect {
        Connect { wait: PeerWait::new(&self.shared, self.flow.get().peer) }
    }

    /// Whether there is a session with the peer. False from within an inline handler.
    pub fn is_connected(&self) -> bool {
        let state = self.shared.try_state();
        self.is_local()
            || state.is_some_and(|state| state.endpoint.is_connected(self.flow.get().peer))
    }

    /// Whether the peer owes an answer and has been silent for `down_after` (3 s by default). That fails nothing: messages
    /// wait until it is back or `give_up` has passed. False from within an inline handler.
    pub fn is_down(&self) -> bool {
        let state = self.shared.try_state();
        !self.is_local() && state.is_some_and(|state| state.endpoint.is_down(self.flow.get().peer))
    }

    /// The peer's public key. `None` from within an inline handler.
    pub fn peer_key(&self) -> Option<PublicKey> {
        let state = self.shared.try_state()?;
        if self.is_local() {
            return state.receiver.local.key(self.flow.get().alias);
        }
        state.endpoint.peer_key(self.flow.get().peer)
    }

    /// What the peer proved and told of itself; `None` while there is no session, and from within an inline handler.
    pub fn peer_info(&self) -> Option<PeerInfo> {
        if self.is_local() {
            return None;
        }
        self.shared.try_state()?.endpoint.peer_info(self.flow.get().peer)
    }

    /// What the flow's session knows of the network to the peer; `None` while there is none, and from within an inline handler.
    pub fn path(&self) -> Option<PathStats> {
        self.shared.try_state()?.endpoint.path(self.flow.get().peer)
    }

    /// Whether it is a flow of this very node, which is reached without a session.
    pub fn is_local(&self) -> bool {
        self.flow.get().peer == HERE
    }

    pub(crate) fn flow_id(&self) -> FlowId {
        self.flow.get()
    }

    /// Whether a body of this length may be sent at all.
    pub(crate) fn check_bytes(&self, bytes: usize) -> Result<(), SendError> {
        let (bytes, bytes_max) = (bytes as u64, self.shared.facts.message_bytes_max);
        if bytes > bytes_max {
            return Err(SendError::TooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    /// Sends, and once more wherever the flow has moved to.
    #[inline]
    fn send_following(
        &self,
        mut send: impl FnMut(FlowId) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        loop {
            match send(self.flow.get()) {
                Err(SendError::Moved(to)) => self.flow.set(to),
                taken => return taken,
            }
        }
    }

    fn sending<'a>(&self, payload: Payload<'a>) -> Sending<'a> {
        Sending { shared: Rc::clone(&self.shared), flow: self.flow.get(), payload, deadline: None }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Destination").field(&self.flow.get()).finish()
    }
}

/// A message about to be sent; await it.
#[must_use = "nothing is sent until this is awaited"]
pub struct Sending<'a> {
    shared: Rc<Shared>,
    flow: FlowId,
    payload: Payload<'a>,
    deadline: Option<Duration>,
}

impl<'a> Sending<'a> {
    /// Asks for the acknowledged service; awaiting gives the [`Outcome`].
    pub fn acknowledged(self) -> SendingAcknowledged<'a> {
        SendingAcknowledged(self)
    }

    /// Waits at most this long, counted from when it is awaited.
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(after);
        self
    }

    fn attempt(self, kind: Kind) -> Attempt<'a> {
        let deadline = self.deadline.map(|after| self.shared.deadline(after));
        Attempt::new(self.shared, self.flow, self.payload, kind, deadline)
    }
}

impl<'a> IntoFuture for Sending<'a> {
    type Output = Result<(), WaitError>;
    type IntoFuture = Sent<'a>;

    fn into_future(self) -> Sent<'a> {
        Sent(self.attempt(Kind::BestEffort))
    }
}

/// An acknowledged message about to be sent; await it.
#[must_use = "nothing is sent until this is awaited"]
pub struct SendingAcknowledged<'a>(Sending<'a>);

impl SendingAcknowledged<'_> {
    /// Waits for room and outcome at most this long, counted from when it is awaited. A message handed
    /// over by then goes on without its future.
    pub fn deadline(mut self, after: Duration) -> Self {
        self.0.deadline = Some(after);
        self
    }
}

impl<'a> IntoFuture for SendingAcknowledged<'a> {
    type Output = Result<Outcome, WaitError>;
    type IntoFuture = Settled<'a>;

    fn into_future(self) -> Settled<'a> {
        Settled(self.0.attempt(Kind::Acknowledged))
    }
}

/// Ends when a best-effort message has been handed over.
pub struct Sent<'a>(Attempt<'a>);

impl Future for Sent<'_> {
    type Output = Result<(), WaitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(self.0.poll(context));
        Poll::Ready(ended.map(|_| ()).map_err(wait_error))
    }
}

/// Ends with the outcome of an acknowledged message.
pub struct Settled<'a>(Attempt<'a>);

impl Future for Settled<'_> {
    type Output = Result<Outcome, WaitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.0.poll(context)) {
            Ok(Some(End::Outcome(outcome))) => Ok(outcome),
            Ok(_) => Err(WaitError::Stopped),
            Err(failure) => Err(wait_error(failure)),
        })
    }
}

/// A wait on a peer, forgotten when dropped.
struct PeerWait {
    shared: Rc<Shared>,
    peer: PeerId,
    token: Option<Token>,
}

impl PeerWait {
    fn new(shared: &Rc<Shared>, peer: PeerId) -> Self {
        Self { shared: Rc::clone(shared), peer, token: None }
    }

    fn poll(&mut self, token: Token, context: &Context<'_>) -> Poll<End> {
        let end = ready!(self.shared.poll_wait(token, context));
        self.token = None;
        Poll::Ready(end)
    }
}

impl Drop for PeerWait {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.shared.forget(token, Some(self.peer), None);
        }
    }
}

/// Ends when the peer has room.
#[must_use = "waits for nothing until awaited"]
pub struct Ready {
    wait: PeerWait,
}

impl Future for Ready {
    type Output = Result<(), Stopped>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let wait = &mut self.wait;
        if wait.token.is_none() {
            let shared = Rc::clone(&wait.shared);
            let Some(mut state) = shared.try_state() else {
                context.waker().wake_by_ref();
                return Poll::Pending;
            };
            if shared.is_stopping() {
                return Poll::Ready(Err(Stopped));
            }
            if !state.receiver.waits.is_full(wait.peer) {
                return Poll::Ready(Ok(()));
            }
            wait.token = Some(state.receiver.waits.open_room(wait.peer));
        }
        let Some(token) = wait.token else {
            return Poll::Ready(Err(Stopped));
        };
        Poll::Ready(match ready!(wait.poll(token, context)) {
            End::Room => Ok(()),
            _ => Err(Stopped),
        })
    }
}

/// Ends with the dial, or at once if there is a session.
#[must_use = "dials nobody until awaited"]
pub struct Connect {
    wait: PeerWait,
}

impl Future for Connect {
    type Output = Result<(), ConnectError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let wait = &mut self.wait;
        let token = match wait.token {
            Some(token) => token,
            None => match begin_dial(wait, context) {
                Poll::Ready(Ok(Some(token))) => token,
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(match ready!(wait.poll(token, context)) {
            End::Dialled(result) => result.map_err(ConnectError::Dial),
            End::Forgotten => Err(ConnectError::Send(SendError::UnknownPeer)),
            _ => Err(ConnectError::Stopped),
        })
    }
}

/// Begins a dial and opens a wait for its end; no wait if there is a session.
fn begin_dial(
    wait: &mut PeerWait,
    context: &Context<'_>,
) -> Poll<Result<Option<Token>, ConnectError>> {
    let shared = Rc::clone(&wait.shared);
    let Some(mut state) = shared.try_state() else {
        context.waker().wake_by_ref();
        return Poll::Pending;
    };
    if shared.is_stopping() {
        return Poll::Ready(Err(ConnectError::Stopped));
    }
    if wait.peer == HERE {
        return Poll::Ready(Ok(None));
    }
    // Dials are told of by the peer's contact, whichever lane they are made for.
    wait.peer = state.endpoint.contact(wait.peer).unwrap_or(wait.peer);
    if state.endpoint.is_connected(wait.peer) {
        return Poll::Ready(Ok(None));
    }
    let now = shared.read_clock();
    if let Err(error) = state.endpoint.connect(now, wait.peer) {
        return Poll::Ready(Err(ConnectError::Send(error)));
    }
    let token = state.receiver.waits.open_dial(wait.peer);
    wait.token = Some(token);
    Poll::Ready(Ok(Some(token)))
}

pub(crate) fn wait_error(failure: Failure) -> WaitError {
    match failure {
        Failure::Send(error) => WaitError::Send(error),
        Failure::Deadline { offered } => WaitError::Deadline { offered },
        Failure::Stopped => WaitError::Stopped,
    }
}
