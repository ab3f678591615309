//! Inline handlers: what a user hands in to receive messages without a wake-up, and how it is called.
//!
//! What always holds: a message whose handler sent to where there is no room keeps its credit until there is.

use std::cell::RefCell;
use std::rc::Rc;

use cubed_transport::time::Instant;
use cubed_transport::{Disposition, Incoming, Refusal, Row, Service};

use crate::limits::MESSAGE_CHARGE_BYTES;
use crate::message::{Context, Message};
use crate::outbox::Outbox;
use crate::stalled::Release;

/// An inline handler.
pub(crate) trait Handler {
    /// Takes one message.
    fn handle(&mut self, message: &Message<'_>, context: &mut Context<'_>);

    /// Takes a row of messages; returns how many and their bytes. One call for all, so that what is called per message can become part
    /// of the loop.
    fn handle_row(
        &mut self,
        row: &mut Row<'_>,
        outbox: &Rc<RefCell<Outbox>>,
        now: Instant,
    ) -> (u64, u64);
}

impl<F: FnMut(&Message<'_>, &mut Context<'_>)> Handler for F {
    fn handle(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        self(message, context);
    }

    fn handle_row(
        &mut self,
        row: &mut Row<'_>,
        outbox: &Rc<RefCell<Outbox>>,
        now: Instant,
    ) -> (u64, u64) {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(body) = row.next_body() {
            messages += 1;
            bytes += body.len() as u64;
            let service = Service::Acknowledged;
            let seen = Message { sender: row.sender(), body, request: None, service };
            self(&seen, &mut Context { outbox, request: None, now });
            if outbox.borrow().is_blocked() {
                let message = row.message(body);
                if withhold(&mut outbox.borrow_mut(), &message) == Disposition::Held {
                    row.hold();
                }
            }
        }
        (messages, bytes)
    }
}

/// Runs an inline handler for one message. A request is refused while the outbox is crowded: its asker hears that at
/// once, where a reply that found no room would leave it waiting.
pub(crate) fn run(
    handler: &mut dyn Handler,
    message: &Incoming<'_>,
    outbox: &Rc<RefCell<Outbox>>,
    now: Instant,
) -> Result<Disposition, Refusal> {
    if message.request.is_some() && outbox.borrow().is_crowded() {
        return Err(Refusal::QueueFull);
    }
    let seen = Message {
        sender: message.sender,
        body: message.body.as_slice(),
        request: message.request,
        service: message.service,
    };
    let mut context = Context { outbox, request: message.request, now };
    handler.handle(&seen, &mut context);
    let mut outbox = outbox.borrow_mut();
    if outbox.is_blocked() { Ok(withhold(&mut outbox, message)) } else { Ok(Disposition::Consumed) }
}

/// A message that the handler sent found no room: the credit of the one that made it send is kept back.
#[cold]
fn withhold(outbox: &mut Outbox, message: &Incoming<'_>) -> Disposition {
    match outbox.take_blocked() {
        Some(target) if message.service != Service::BestEffort => {
            let charge = message.body.as_slice().len() as u64 + MESSAGE_CHARGE_BYTES;
            let Incoming { peer, session, alias, .. } = *message;
            outbox.withhold(target, Release { peer, session, alias, charge });
            Disposition::Held
        }
        _ => Disposition::Consumed,
    }
}
