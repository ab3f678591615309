//! Owns the trait by which an endpoint asks its application and hands it messages, and what is said in it.
//!
//! What always holds: it is called while a datagram is handled, so it takes and answers and never calls the endpoint.

use super::{ChannelId, Newcomer, Outcome, PeerId, Refusal, ReplyTo, Service, Token, Verdict};
use crate::identity::PublicKey;
use crate::lane::Row;

/// What the application says of a flow that a peer names: its own number for it, and what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Echoed in [`Incoming::flow`].
    pub flow: u32,
    /// Credit kept open to one sender, in charge (body + 64 B a message); at least 64 KiB is kept.
    pub window_bytes: u64,
    /// Longest message that the flow takes.
    pub message_bytes_max: u64,
}

/// A message's body.
#[derive(Debug)]
pub enum Body<'a> {
    /// It lies in the datagram: copy what you keep.
    Borrowed(&'a [u8]),
    /// It was assembled from parts: it may be taken with [`std::mem::take`].
    Assembled(&'a mut Vec<u8>),
}

impl Body<'_> {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(body) => body,
            Self::Assembled(body) => body,
        }
    }
}

/// One whole message, handed over once.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The sender.
    pub peer: PeerId,
    /// Its proven key.
    pub sender: &'a PublicKey,
    /// The application's number of the flow.
    pub flow: u32,
    /// The sender's alias, for `Endpoint::release`.
    pub alias: u32,
    /// The session, for `Endpoint::release`.
    pub session: u32,
    /// The body.
    pub body: Body<'a>,
    /// Where an answer goes, if one is expected.
    pub request: Option<ReplyTo>,
    /// The service it came by.
    pub service: Service,
}

/// When a message's credit goes back to its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// At once.
    Consumed,
    /// By `Endpoint::release`. Best effort takes no credit, so this means nothing for it.
    Held,
    /// As `Held`; and whether it was accepted is said later, by `Endpoint::settle`. Until then it is not settled, nor is any
    /// message behind it on its lane. Best effort is never answered, so this is as `Consumed` for it.
    Deferred,
}

/// A message answered with [`Disposition::Deferred`]: what `Endpoint::settle` needs to know of it. There is one for each, and it is
/// given up with the answer, so that nobody answers twice.
#[derive(PartialEq, Eq, Debug)]
pub struct Deferred {
    /// Its sender.
    pub peer: PeerId,
    /// The session that it came in.
    pub session: u32,
    /// Block that it ended in, and its place there.
    pub(crate) end: (u64, u16),
}

/// Policy and flows. Called while a datagram is handled, so it cannot call the endpoint: collect answers and releases and
/// hand them over afterwards.
pub trait Application {
    /// May this proven key greet us on this channel? Asked of whoever dials; no state is kept for who may not.
    fn admit(&mut self, channel: ChannelId, key: &PublicKey) -> bool;
    /// May whoever tells this of itself have a session? Asked for each fresh set of keys, of those we dialled as well.
    fn judge(&mut self, newcomer: &Newcomer<'_>) -> Verdict {
        let _ = newcomer;
        Verdict::Accepted
    }
    /// Is there such a flow on this channel, and may this key use it? Asked once per alias and generation.
    ///
    /// # Errors
    /// The refusal that the sender of every message on it is told.
    fn bind(
        &mut self,
        channel: ChannelId,
        peer: PeerId,
        key: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal>;
    /// Bindings are asked for again when this number changes: flows registered or removed, policy changed. As it stands, it never
    /// does.
    fn generation(&self) -> u32 {
        0
    }
    /// One whole message, once. Called per message: keep it small.
    ///
    /// # Errors
    /// The refusal that its sender is told.
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal>;
    /// Messages that stand in a row, of one peer to one flow: each that is taken from it is delivered. The answer is that for the
    /// last one taken; those before it are consumed, but for those said to be held by [`Row::hold`]. As it stands, each goes to
    /// [`Application::deliver`].
    ///
    /// # Errors
    /// The refusal that the sender of the last one taken is told.
    #[inline]
    fn deliver_row(&mut self, row: &mut Row<'_>) -> Result<Disposition, Refusal> {
        row.deliver_each(self)
    }
    /// The message just answered with [`Disposition::Deferred`], unless it was best effort. To be settled once.
    fn defer(&mut self, message: Deferred) {
        let _ = message;
    }
    /// A request of ours ended: its answer, or how it ended without one. As it stands, for those who ask nothing.
    fn reply(&mut self, token: Token, result: Result<Body<'_>, Outcome>) {
        let _ = (token, result);
    }
}
