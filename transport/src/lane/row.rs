//! Owns how plain messages are taken: whole ones to one bound flow, with nothing but its alias and their length in front, as many
//! as stand in a row in a block. Nearly all messages are such.
//!
//! What always holds: what depends on the flow alone is looked up once per row; a row ends before a message that its flow does not
//! take, or its credit does not cover; what was taken is charged when the row ends.

#![expect(clippy::inline_always, reason = "a call costs a third of what a short message does")]

use super::{Lane, Receiving};
use crate::endpoint::{
    Application, Binding, Body, Disposition, Incoming, PeerId, Refusal, Service,
};
use crate::flows::charge;
use crate::frame::Reason;
use crate::identity::PublicKey;
use crate::message::{FORM_WHOLE, PlainStart};
use crate::varint::Reader;

/// Messages of one peer to one flow, to be taken one after the other. What is not taken comes again in a row of its own.
#[derive(Debug)]
pub struct Row<'a> {
    peer: PeerId,
    sender: &'a PublicKey,
    session: u32,
    alias: u32,
    binding: Binding,
    /// What the heads of its messages begin with; `None` for an alias that is too long for that.
    start: Option<PlainStart>,
    /// Stands in front of the next message.
    reader: Reader<'a>,
    /// Credit left to the sender.
    credit: u64,
    taken: u16,
    /// Charge of those taken, of those held, and of the last one.
    charged: u64,
    held: u64,
    last: u64,
}

impl<'a> Row<'a> {
    /// The application's number of the flow.
    #[inline]
    pub fn flow(&self) -> u32 {
        self.binding.flow
    }

    /// The sender's proven key.
    #[inline]
    pub fn sender(&self) -> &'a PublicKey {
        self.sender
    }

    /// Takes the next message; `None` at the end of the row.
    #[inline(always)]
    pub fn next_body(&mut self) -> Option<&'a [u8]> {
        let (body, rest) = self.peek()?;
        let bytes = body.len() as u64;
        let charge = charge(bytes);
        if bytes > self.binding.message_bytes_max || charge > self.credit - self.charged {
            return None;
        }
        self.charged += charge;
        self.last = charge;
        self.taken += 1;
        self.reader = rest;
        Some(body)
    }

    /// The body of the next message, and what follows it.
    #[inline(always)]
    fn peek(&self) -> Option<(&'a [u8], Reader<'a>)> {
        let rest = self.reader.rest();
        if let Some((head_bytes, bytes)) = self.start.and_then(|start| start.read(rest)) {
            let (body, rest) = rest[head_bytes..].split_at_checked(bytes)?;
            return Some((body, Reader::new(rest)));
        }
        self.peek_long()
    }

    /// [`Row::peek`] at a head of any length, and near the datagram's end.
    #[inline(never)]
    fn peek_long(&self) -> Option<(&'a [u8], Reader<'a>)> {
        let mut reader = self.reader.clone();
        let follows = reader.u8()? == FORM_WHOLE && reader.varint()? == u64::from(self.alias);
        if !follows {
            return None;
        }
        let bytes = reader.varint()?;
        let body = reader.bytes(bytes as usize)?;
        Some((body, reader))
    }

    /// As [`Row::next_body`], with all that is known of the message.
    #[inline]
    pub fn next_message(&mut self) -> Option<Incoming<'a>> {
        let body = self.next_body()?;
        Some(self.message(body))
    }

    /// What is known of the message taken last, whose body this is.
    #[inline]
    pub fn message(&self, body: &'a [u8]) -> Incoming<'a> {
        Incoming {
            peer: self.peer,
            sender: self.sender,
            flow: self.binding.flow,
            alias: self.alias,
            session: self.session,
            body: Body::Borrowed(body),
            request: None,
            service: Service::Acknowledged,
        }
    }

    /// The message taken last is answered with [`Disposition::Held`], and the row goes on. To be said once.
    #[inline]
    pub fn hold(&mut self) {
        self.held += self.last;
    }

    /// Delivers the messages one by one, up to the first that is deferred or refused.
    ///
    /// # Errors
    /// The refusal of the last message taken.
    #[inline]
    pub fn deliver_each<A: Application + ?Sized>(
        &mut self,
        app: &mut A,
    ) -> Result<Disposition, Refusal> {
        while let Some(message) = self.next_message() {
            match app.deliver(message)? {
                Disposition::Consumed => {}
                Disposition::Held => self.hold(),
                Disposition::Deferred => return Ok(Disposition::Deferred),
            }
        }
        Ok(Disposition::Consumed)
    }
}

impl Lane {
    /// Takes the plain messages that `reader` stands in front of, of which the first has the index `index`; how many there were.
    /// None, when the next one is not plain: its flow is not bound or must be asked for again, it is too long, beyond its credit,
    /// or malformed.
    #[inline]
    pub(super) fn receive_row<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        reader: &mut Reader<'_>,
        (number, index): (u64, u16),
    ) -> u16 {
        let mut ahead = reader.clone();
        let Some(alias) = ahead.u8().and_then(|_| ahead.varint()) else { return 0 };
        let flow = self.in_flows.get_mut(alias as usize).and_then(Option::as_mut);
        let Some((flow, binding)) = flow.and_then(|flow| {
            let binding = flow.binding.as_ref().ok().copied()?;
            (flow.generation == generation).then_some((flow, binding))
        }) else {
            return 0;
        };
        let mut row = Row {
            peer: rx.peer,
            sender: rx.key,
            session: rx.session,
            alias: alias as u32,
            binding,
            start: PlainStart::new(FORM_WHOLE, alias as u32),
            reader: reader.clone(),
            credit: flow.credit(),
            taken: 0,
            charged: 0,
            held: 0,
            last: 0,
        };
        let answer = rx.app.deliver_row(&mut row);
        let Row { reader: rest, taken, charged, mut held, last, .. } = row;
        reader.bytes(reader.remaining() - rest.remaining());
        flow.receive(charged);
        let mut accepted = taken;
        if answer != Ok(Disposition::Consumed) && taken > 0 {
            let end = (number, index + taken - 1);
            match answer {
                Ok(Disposition::Consumed) => {}
                Ok(Disposition::Held) => held += last,
                Ok(Disposition::Deferred) => {
                    held += last;
                    accepted -= 1;
                    self.defer(rx, end);
                }
                Err(refusal) => {
                    accepted -= 1;
                    rx.common.counters.acknowledged_refused += 1;
                    self.refuse(rx.room, end, Reason::Refused(refusal));
                }
            }
        }
        rx.common.counters.acknowledged_accepted += u64::from(accepted);
        if charged > held {
            self.consume(alias as u32, charged - held);
        }
        taken
    }
}
