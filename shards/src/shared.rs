//! What all handles of one shard share: the endpoint, the receiving side, timers, and the word to stop.
//!
//! One `RefCell` guards the endpoint. It is borrowed for a moment by each call, and by the pump while a
//! datagram is handled; only inline handlers run in that time, and what they do through ordinary
//! handles goes to the outbox instead. No borrow is ever held across an await.

use std::cell::{Cell, RefCell, RefMut};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cubed_router::placement::owner_shard;
use cubed_runtime::{Clock, DriverStats, Machine, Port, SocketBuffers, Timers, is_too_long};
use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;
use cubed_transport::{
    ChannelId, Endpoint, FlowId, PeerId, PeerState, RequestId, SendError, SendOptions, Service,
    Token,
};

use crate::application::Receiver;
use crate::bodies::SpareBodies;
use crate::channel::Directory;
use crate::error::{NodeError, ResolveError};
use crate::handed::{Carried, HERE};
use crate::hellos::HelloCounters;
use crate::lent::LentQueues;
use crate::local::Terms;
use crate::node_shared::NodeShared;
use crate::outbox::Outbox;
use crate::presence::Watchers;
use crate::request::Question;
use crate::stalled::Target;
use crate::strays::StrayCounters;
use crate::tasks::Tasks;
use crate::waits::End;

/// What never changes while a shard runs.
pub(crate) struct Facts {
    pub(crate) local_addr: SocketAddr,
    /// The port that the shard dials from, and where that is if it is not the node's.
    pub(crate) source: Port,
    pub(crate) source_addr: Option<SocketAddr>,
    pub(crate) public_key: PublicKey,
    pub(crate) index: u8,
    pub(crate) shards: u8,
    pub(crate) placement_salt: [u8; 32],
    pub(crate) message_bytes_max: u64,
    pub(crate) machine: Machine,
    pub(crate) socket_buffers: SocketBuffers,
    /// Channels, and the names that the configuration gives to peers.
    pub(crate) directory: Directory,
}

/// The endpoint and the receiving side, which are always needed together.
pub(crate) struct State {
    pub(crate) endpoint: Endpoint,
    pub(crate) receiver: Receiver,
    pub(crate) watchers: Watchers,
    /// How far this shard has followed the node's changes.
    pub(crate) followed: u64,
    /// Some message of the outbox waits for room.
    pub(crate) stalled: bool,
}

impl State {
    /// The peer with this key, from the node's table if this shard has not met it. The whole node knows it from then on.
    pub(crate) fn find_or_add_peer(
        &mut self,
        channel: ChannelId,
        key: PublicKey,
    ) -> Result<PeerId, ResolveError> {
        let known = self.receiver.channels[usize::from(channel.0)].resolve(&key);
        let address = known.map_err(ResolveError::Peer)?;
        // Once met, it is dialled where it was seen last.
        let is_new = self.endpoint.find_peer_on(channel, &key).is_none();
        let added = self.endpoint.add_peer_on(channel, key, address.filter(|_| is_new));
        added.map_err(ResolveError::Send)
    }

    /// Tells the watchers of a peer what became of it.
    #[cold]
    pub(crate) fn tell(&self, peer: PeerId, now: PeerState) {
        if let Some(presence) = self.endpoint.presence(peer) {
            self.watchers.tell(peer, now, presence.since);
        }
    }
}

/// What the pump counts and leaves for whoever asks.
#[derive(Clone, Copy, Default)]
pub(crate) struct PumpCounters {
    pub(crate) turns: u64,
    pub(crate) parks: u64,
    pub(crate) commands: u64,
    pub(crate) send_errors: u64,
    pub(crate) sends_too_long: u64,
    pub(crate) driver: DriverStats,
    pub(crate) strays: StrayCounters,
    pub(crate) hellos: HelloCounters,
}

impl PumpCounters {
    /// A run that the system refused is lost, like one lost on its way: the protocol sends it again.
    #[cold]
    pub(crate) fn count_send_error(&mut self, to: SocketAddr, error: &io::Error) {
        if is_too_long(error) {
            // No error: this is how an interface answers a probe that is too long for it.
            self.sends_too_long += 1;
            return;
        }
        self.send_errors += 1;
        if self.send_errors == 1 {
            tracing::warn!(%to, %error, "first datagram that the system did not send");
        }
    }
}

/// One shard, as its handles see it.
pub(crate) struct Shared {
    pub(crate) facts: Facts,
    pub(crate) state: RefCell<State>,
    pub(crate) outbox: Rc<RefCell<Outbox>>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) tasks: Rc<Tasks>,
    /// Queues that other threads read.
    pub(crate) lent: LentQueues,
    pub(crate) counters: Cell<PumpCounters>,
    /// For bodies of requests that are not handed over.
    pub(crate) bodies: SpareBodies,
    clock: Clock,
    now: Cell<Instant>,
    node: Arc<NodeShared>,
}

/// A body on its way out.
#[derive(Clone)]
pub(crate) enum Payload<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Payload<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(body) => body,
            Self::Owned(body) => body,
        }
    }
}

impl Shared {
    pub(crate) fn new(facts: Facts, state: State, now: Instant) -> Rc<Self> {
        let outbox = Rc::clone(&state.receiver.outbox);
        let node = Arc::clone(&state.receiver.node);
        Rc::new(Self {
            facts,
            state: RefCell::new(state),
            outbox,
            timers: Timers::new(),
            tasks: Rc::default(),
            lent: LentQueues::default(),
            counters: Cell::default(),
            bodies: SpareBodies::default(),
            clock: Clock::new(),
            now: Cell::new(now),
            node,
        })
    }

    /// The time of this turn; costs nothing.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Reads the clock.
    pub(crate) fn read_clock(&self) -> Instant {
        let now = Instant::from_nanos(self.clock.now_nanos());
        self.now.set(now);
        now
    }

    /// The endpoint, unless an inline handler is running.
    #[inline]
    pub(crate) fn try_state(&self) -> Option<RefMut<'_, State>> {
        self.state.try_borrow_mut().ok()
    }

    /// [`Shared::send_row`] of one message; `false`: nothing changed.
    #[inline]
    pub(crate) fn send_short(&self, flow: FlowId, body: &[u8]) -> bool {
        let Some(mut state) = self.try_state() else { return false };
        !state.stalled && state.endpoint.send_short(flow, body)
    }

    /// [`Shared::send`] of acknowledged messages where it costs least: how many were taken, and the body behind them, with which
    /// nothing was done. No flow of this node is among the endpoint's.
    #[inline]
    pub(crate) fn send_row<'b>(
        &self,
        flow: FlowId,
        bodies: &mut impl Iterator<Item = &'b [u8]>,
    ) -> (u64, Option<&'b [u8]>) {
        match self.try_state() {
            Some(mut state) if !state.stalled => state.endpoint.send_row(flow, bodies),
            _ => (0, bodies.next()),
        }
    }

    /// Hands one message to the endpoint, or to the outbox from within an inline handler.
    pub(crate) fn send(
        &self,
        flow: FlowId,
        body: &[u8],
        service: Service,
    ) -> Result<(), SendError> {
        let Some(mut state) = self.try_state() else {
            return self.send_later(flow, body, SendOptions::new(service), None);
        };
        if state.stalled || flow.peer == HERE {
            return self.send_now(&mut state, flow, Payload::Borrowed(body), service, None);
        }
        match state.endpoint.send(self.now.get(), flow, body, service, None) {
            Ok(()) => Ok(()),
            Err(error) => Err(note_refused(&mut state, flow, error)),
        }
    }

    /// [`Shared::send`] without copying a large body, acknowledged.
    pub(crate) fn send_owned(&self, flow: FlowId, body: Bytes) -> Result<(), SendError> {
        let service = Service::Acknowledged;
        match self.try_state() {
            Some(mut state) => self.send_now(&mut state, flow, Payload::Owned(body), service, None),
            None => self.send_later(flow, &body, SendOptions::new(service), None),
        }
    }

    /// [`Shared::send`] with all that may be asked of a message.
    pub(crate) fn send_with(
        &self,
        flow: FlowId,
        body: &Payload<'_>,
        options: SendOptions,
    ) -> Result<(), SendError> {
        match self.try_state() {
            Some(mut state) => self.send_with_now(&mut state, flow, body, options, None),
            None => self.send_later(flow, body.as_slice(), options, None),
        }
    }

    /// Hands one message to the endpoint, with all that is asked of it.
    pub(crate) fn send_with_now(
        &self,
        state: &mut State,
        flow: FlowId,
        body: &Payload<'_>,
        options: SendOptions,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        if state.stalled && self.outbox.borrow().precedes(flow) {
            return Err(SendError::Full);
        }
        if flow.peer == HERE {
            let terms = Terms { options, token, answer_by: None };
            return send_here(state, flow, body.clone(), terms);
        }
        let now = self.now.get();
        let sent = match body {
            Payload::Borrowed(body) => state.endpoint.send_with(now, flow, body, &options, token),
            Payload::Owned(body) => {
                state.endpoint.send_owned_with(now, flow, body.clone(), &options, token)
            }
        };
        sent.map_err(|error| note_refused(state, flow, error))
    }

    /// Hands one message to the endpoint.
    pub(crate) fn send_now(
        &self,
        state: &mut State,
        flow: FlowId,
        body: Payload<'_>,
        service: Service,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        if state.stalled && self.outbox.borrow().precedes(flow) {
            return Err(SendError::Full);
        }
        if flow.peer == HERE {
            let options = SendOptions::new(service);
            return send_here(state, flow, body, Terms { options, token, answer_by: None });
        }
        let now = self.now.get();
        let sent = match body {
            Payload::Borrowed(body) => state.endpoint.send(now, flow, body, service, token),
            Payload::Owned(body) => state.endpoint.send_owned(now, flow, body, service, token),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(error) => Err(note_refused(state, flow, error)),
        }
    }

    /// Hands one request to the endpoint; its number there, unless it is for a flow of this node.
    #[inline]
    pub(crate) fn request_now(
        &self,
        state: &mut State,
        flow: FlowId,
        body: &Question,
        token: Token,
        deadline: Instant,
    ) -> Result<Option<RequestId>, SendError> {
        if flow.peer == HERE {
            return request_here(state, flow, body, token, deadline).map(|()| None);
        }
        let now = self.now.get();
        let sent = match body {
            Question::Copied(body) => {
                state.endpoint.request_copied(now, flow, body, token, deadline)
            }
            Question::Owned(body) => state.endpoint.request(now, flow, body, token, deadline),
        };
        sent.map(Some).map_err(|error| note_refused(state, flow, error))
    }

    #[cold]
    fn send_later(
        &self,
        flow: FlowId,
        body: &[u8],
        options: SendOptions,
        token: Option<Token>,
    ) -> Result<(), SendError> {
        debug_assert!(token.is_none(), "futures wait for the handler to return");
        let bytes_max = self.facts.message_bytes_max;
        if body.len() as u64 > bytes_max {
            let bytes = body.len() as u64;
            return Err(SendError::TooLarge { bytes, bytes_max });
        }
        self.outbox.borrow_mut().push(Target::Flow(flow, options), body)
    }

    /// Polls a wait. Within an inline handler, where there is no endpoint to ask, it is polled again.
    pub(crate) fn poll_wait(&self, token: Token, context: &Context<'_>) -> Poll<End> {
        if let Some(mut state) = self.try_state() {
            return state.receiver.waits.poll(token, context);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Forgets a wait whose future was dropped, and the request that it was for.
    pub(crate) fn forget(&self, token: Token, peer: Option<PeerId>, request: Option<RequestId>) {
        match self.try_state() {
            Some(mut state) => {
                state.receiver.waits.forget(token, peer);
                if let Some(request) = request {
                    state.endpoint.cancel_request(request);
                }
                state.receiver.local.cancel(token);
            }
            None => self.outbox.borrow_mut().forget(token, peer, request),
        }
    }

    /// The shard of this node that owns the flow `name`.
    pub(crate) fn owner(&self, name: &str) -> u8 {
        owner_shard(&self.facts.placement_salt, name, self.facts.shards)
    }

    /// Whether it is for this shard to do what one shard of the node has to do about a peer.
    pub(crate) fn looks_after(&self, key: &PublicKey) -> bool {
        spread(key, self.facts.shards) == self.facts.index
    }

    /// What all shards of the node share.
    pub(crate) fn node(&self) -> &NodeShared {
        &self.node
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.node.is_stopping()
    }

    /// Asks the whole node to end, because this shard panicked.
    pub(crate) fn fail_by_panic(&self, message: String) {
        self.node.fail(NodeError::Panicked { shard: self.facts.index, message });
    }

    /// Nanoseconds on the clock, `duration` from now.
    pub(crate) fn deadline(&self, duration: Duration) -> Instant {
        self.read_clock() + duration
    }
}

/// One of `shards`, always the same for the same value.
pub(crate) fn spread(value: impl Hash, shards: u8) -> u8 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    (hasher.finish() % u64::from(shards)) as u8
}

/// Hands one message to a flow of this node.
fn send_here(
    state: &mut State,
    flow: FlowId,
    body: Payload<'_>,
    terms: Terms,
) -> Result<(), SendError> {
    let body = match body {
        Payload::Borrowed(body) => Carried::Slice(body),
        Payload::Owned(body) => Carried::Owned(body),
    };
    let Receiver { local, waits, .. } = &mut state.receiver;
    let sent = local.send(waits, flow.alias, body, terms);
    sent.map_err(|error| note_refused(state, flow, error))
}

/// Hands one request to a flow of this node.
#[cold]
fn request_here(
    state: &mut State,
    flow: FlowId,
    body: &Question,
    token: Token,
    deadline: Instant,
) -> Result<(), SendError> {
    let options = SendOptions::new(Service::Acknowledged);
    let terms = Terms { options, token: Some(token), answer_by: Some(deadline) };
    let body = match body {
        Question::Copied(body) => Payload::Borrowed(body),
        Question::Owned(body) => Payload::Owned(body.clone()),
    };
    send_here(state, flow, body, terms)
}

/// Remembers who waits for room. Apart from the message path, whose answer then is one comparison.
#[cold]
fn note_refused(state: &mut State, flow: FlowId, error: SendError) -> SendError {
    if error == SendError::Full {
        state.receiver.waits.note_full(flow.peer);
    }
    error
}
