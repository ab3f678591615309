//! What an inline handler gets: the message, borrowed, and a context to answer and send through.
//!
//! Both live for one call. The body lies in the receive buffer and is gone when the handler
//! returns; what is to be kept must be copied.

use std::cell::RefCell;
use std::rc::Rc;

use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;
use cubed_transport::{ReplyTo, SendError, SendOptions, Service};

use crate::destination::Destination;
use crate::outbox::Outbox;
use crate::stalled::Target;

/// One message, as an inline handler sees it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub(crate) sender: &'a PublicKey,
    pub(crate) body: &'a [u8],
    pub(crate) request: Option<ReplyTo>,
    pub(crate) service: Service,
}

impl<'a> Message<'a> {
    /// The key that the sender proved when its session began.
    pub fn sender(&self) -> &'a PublicKey {
        self.sender
    }

    /// The bytes that were sent; valid until the handler returns.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Whether the sender waits for a reply.
    pub fn is_request(&self) -> bool {
        self.request.is_some()
    }

    /// Whether the sender hears that the message was delivered.
    pub fn service(&self) -> Service {
        self.service
    }
}

/// What an inline handler can do besides reading: reply, and send.
///
/// Nothing leaves before the handler returns. Messages are written to the shard's outbox and go to the
/// protocol right after the receive call, in the order they were given. While their destination has
/// no room they wait there (8 MiB for one destination, 32 MiB in all), and whoever sent the message
/// being handled gets its credit back only when they have left: a handler that sends on is slowed to
/// the pace of where it sends.
pub struct Context<'a> {
    pub(crate) outbox: &'a Rc<RefCell<Outbox>>,
    pub(crate) request: Option<ReplyTo>,
    pub(crate) now: Instant,
}

impl Context<'_> {
    /// Answers the request being handled.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] when the outbox has no room: the asker waits until its deadline.
    /// [`SendError::NotConnected`] when the message is no request or has been answered already.
    pub fn reply(&mut self, body: &[u8]) -> Result<(), SendError> {
        let to = self.request.ok_or(SendError::NotConnected)?;
        self.outbox.borrow_mut().push(Target::Reply(to), body)?;
        self.request = None;
        Ok(())
    }

    /// Takes the request out of this call, to answer it later from a task; `None` when the message is
    /// no request or has been answered already.
    pub fn responder(&mut self) -> Option<Responder> {
        let to = self.request.take()?;
        let outbox = Rc::clone(self.outbox);
        Some(Responder { outbox, to })
    }

    /// Sends best effort, like [`Destination::try_send`].
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] when the outbox has no room. Whether the protocol takes the message shows
    /// only later; drops are counted in [`crate::NodeStats`].
    pub fn send(&mut self, to: &Destination, body: &[u8]) -> Result<(), SendError> {
        self.push(to, Service::BestEffort, body)
    }

    /// Sends acknowledged, like [`Destination::try_send_acknowledged`].
    ///
    /// # Errors
    ///
    /// As [`Context::send`].
    pub fn send_acknowledged(&mut self, to: &Destination, body: &[u8]) -> Result<(), SendError> {
        self.push(to, Service::Acknowledged, body)
    }

    /// The time of this turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    fn push(&mut self, to: &Destination, service: Service, body: &[u8]) -> Result<(), SendError> {
        to.check_bytes(body.len())?;
        let target = Target::Flow(to.flow_id(), SendOptions::new(service));
        self.outbox.borrow_mut().push(target, body)
    }
}

/// Answers one request, later than its handler. Dropped unused, the asker waits until its deadline.
pub struct Responder {
    outbox: Rc<RefCell<Outbox>>,
    to: ReplyTo,
}

impl Responder {
    pub(crate) fn new(outbox: &Rc<RefCell<Outbox>>, to: ReplyTo) -> Self {
        let outbox = Rc::clone(outbox);
        Self { outbox, to }
    }

    /// Answers. The reply leaves with the shard's next turn; if the asker's session is gone by then, it
    /// is counted and dropped.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] when the outbox has no room, and the responder comes back to try again.
    pub fn reply(self, body: &[u8]) -> Result<(), (Self, SendError)> {
        let pushed = self.outbox.borrow_mut().push(Target::Reply(self.to), body);
        pushed.map_err(|error| (self, error))
    }
}
