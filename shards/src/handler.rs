//! Inline handlers: what a user hands in to receive messages without a wake-up, and how it is called.
//!
//! What always holds: a message whose handler sent to where there is no room keeps its credit until there is, and no other does.

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
        outbox.borrow_mut().begin_handling();
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
    let mut said = outbox.borrow_mut();
    if message.request.is_some() && said.is_crowded() {
        return Err(Refusal::QueueFull);
    }
    said.begin_handling();
    drop(said);
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

#[cfg(test)]
mod tests {
    //! Goal: who makes a handler send to where there is no room waits for its credit, and nobody else does.
    use std::net::SocketAddr;

    use cubed_transport::identity::{Identity, PublicKey};
    use cubed_transport::random::SeededEntropy;
    use cubed_transport::{
        Binding, Body, ChannelId, Config, Endpoint, Outcome, PeerId, ReplyTo, Token,
    };

    use super::*;
    use crate::stalled::Target;

    const SLOW: Target = Target::Reply(ReplyTo { peer: PeerId(8), session: 1, request: 5 });

    /// A handler that answers the slow asker when a message says so.
    fn handler() -> Box<dyn Handler> {
        Box::new(|message: &Message<'_>, context: &mut Context<'_>| {
            if message.body() == b"answer" {
                context.outbox.borrow_mut().push(SLOW, b"an answer").unwrap();
            }
        })
    }

    /// An outbox in which a task has just answered the slow asker.
    fn outbox() -> Rc<RefCell<Outbox>> {
        let mut outbox = Outbox::default();
        outbox.stall_for_test(SLOW);
        outbox.push(SLOW, b"a task's answer").unwrap();
        Rc::new(RefCell::new(outbox))
    }

    #[test]
    fn a_message_keeps_no_credit_for_what_a_task_said_before() {
        let outbox = outbox();
        let sender = PublicKey::from_bytes([1; 32]);
        let taken = |body| {
            let message = Incoming {
                peer: PeerId(1),
                sender: &sender,
                flow: 0,
                alias: 7,
                session: 9,
                body: Body::Borrowed(body),
                request: None,
                service: Service::Acknowledged,
            };
            run(&mut *handler(), &message, &outbox, Instant::default())
        };
        assert_eq!(taken(b"listen"), Ok(Disposition::Consumed));
        assert_eq!(taken(b"answer"), Ok(Disposition::Held));
        assert_eq!(taken(b"listen"), Ok(Disposition::Consumed));
        assert_eq!(outbox.borrow_mut().withheld_for_test(), [6 + MESSAGE_CHARGE_BYTES]);
    }

    /// Takes rows only by the handler.
    struct Taker {
        outbox: Rc<RefCell<Outbox>>,
        in_rows: u64,
    }

    impl cubed_transport::Application for Taker {
        fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
            true
        }
        fn bind(
            &mut self,
            _: ChannelId,
            _: PeerId,
            _: &PublicKey,
            _: &str,
        ) -> Result<Binding, Refusal> {
            Ok(Binding { flow: 0, window_bytes: 1 << 20, message_bytes_max: 1 << 20 })
        }
        fn deliver(&mut self, _: Incoming<'_>) -> Result<Disposition, Refusal> {
            Ok(Disposition::Consumed)
        }
        fn deliver_row(&mut self, row: &mut Row<'_>) -> Result<Disposition, Refusal> {
            self.in_rows += handler().handle_row(row, &self.outbox, Instant::default()).0;
            Ok(Disposition::Consumed)
        }
        fn reply(&mut self, _: Token, _: Result<Body<'_>, Outcome>) {}
    }

    #[test]
    fn no_message_of_a_row_does_either() {
        let endpoint = |seed: u8| {
            let (config, identity) =
                (Config::new([seed; 16], [seed; 32]), Identity::from_seed(&[seed; 32]));
            Endpoint::new(config, &identity, Box::new(SeededEntropy::new(seed.into()))).unwrap()
        };
        let taker = || Taker { outbox: outbox(), in_rows: 0 };
        let mut sides = [(endpoint(1), taker()), (endpoint(2), taker())];
        let address = |side: usize| SocketAddr::from(([10, 0, 0, 1 + side as u8], 7));
        let mut now = Instant::from_nanos(1_000_000_000);
        let (key, there) = (sides[1].0.public_key(), Some(address(1)));
        let peer = sides[0].0.add_peer(key, there).unwrap();
        let flow = sides[0].0.open_flow(peer, "rows").unwrap();
        for bodies in [&[&b"named"[..]][..], &[b"listen", b"answer", b"listen", b"listen"]] {
            for body in bodies {
                sides[0].0.send(now, flow, body, Service::Acknowledged, None).unwrap();
            }
            let mut run = Vec::new();
            for step in 0..200 {
                let [one, other] = &mut sides;
                let (from, to) = if step % 2 == 0 { (one, other) } else { (other, one) };
                while let Some(transmit) = from.0.poll_transmit(now, &mut run) {
                    for datagram in run.chunks_mut(transmit.segment_bytes) {
                        to.0.handle_datagram(now, address(step % 2), datagram, &mut to.1);
                    }
                }
                now += std::time::Duration::from_millis(1);
                to.0.handle_timeout(now, &mut to.1);
            }
        }
        let Taker { outbox, in_rows } = &sides[1].1;
        assert_eq!(*in_rows, 4);
        assert_eq!(outbox.borrow_mut().withheld_for_test(), [6 + MESSAGE_CHARGE_BYTES]);
    }
}
