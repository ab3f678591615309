//! Owns how requests to one bound flow, and replies to requests of ours, are taken where they stand whole and in a row in a block:
//! with nothing in front but what each of them has.
//!
//! What always holds: what depends on the flow alone is looked up once per row; a row ends before a message that its flow does not
//! take, its credit does not cover, or that is malformed; what was taken is charged when the row ends.

use super::{Lane, Receiving, answer, reply_to};
use crate::endpoint::{Application, Body, Disposition, Incoming, Service};
use crate::flows::charge;
use crate::frame::Reason;
use crate::message::{FORM_WHOLE, REPLY, REQUEST};
use crate::varint::Reader;

/// How a request begins that needs no name.
const PLAIN_REQUEST: u8 = FORM_WHOLE | REQUEST;
/// How a reply begins.
const PLAIN_REPLY: u8 = FORM_WHOLE | REPLY;

impl Lane {
    /// Takes the requests or replies that `reader` stands in front of, of which the first has the index `index`; how many there
    /// were. None, when [`Lane::handle_block`] has to look at the next message more closely.
    #[inline]
    pub(super) fn receive_asked<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        reader: &mut Reader<'_>,
        place: (u64, u16),
    ) -> u16 {
        match reader.rest().first() {
            Some(&PLAIN_REQUEST) => self.receive_requests(rx, generation, reader, place),
            Some(&PLAIN_REPLY) => receive_replies(rx, reader),
            _ => 0,
        }
    }

    /// Takes the requests that `reader` stands in front of, of which the first has the index `index`; how many there were.
    fn receive_requests<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        reader: &mut Reader<'_>,
        (number, index): (u64, u16),
    ) -> u16 {
        let mut ahead = reader.clone();
        let Some(alias) = ahead.u8().and_then(|_| ahead.varint()) else { return 0 };
        let flow = self.in_flows.get(alias as usize).and_then(Option::as_ref);
        let Some((binding, credit)) = flow.and_then(|flow| {
            let binding = flow.binding.as_ref().ok().copied()?;
            (flow.generation == generation).then_some((binding, flow.credit()))
        }) else {
            return 0;
        };
        let (mut taken, mut accepted, mut charged, mut consumed) = (0, 0, 0, 0);
        let mut rest = reader.clone();
        while let Some((request, body)) = next_request(&mut rest, alias) {
            let cost = charge(body.len() as u64);
            if body.len() as u64 > binding.message_bytes_max || cost > credit - charged {
                break;
            }
            *reader = rest.clone();
            let end = (number, index + taken);
            taken += 1;
            charged += cost;
            let answer = rx.app.deliver(Incoming {
                peer: rx.peer,
                sender: rx.key,
                flow: binding.flow,
                alias: alias as u32,
                session: rx.session,
                body: Body::Borrowed(body),
                request: Some(reply_to(rx, request)),
                service: Service::Acknowledged,
            });
            match answer {
                Ok(Disposition::Consumed) => {
                    accepted += 1;
                    consumed += cost;
                }
                Ok(Disposition::Held) => accepted += 1,
                Ok(Disposition::Deferred) => self.defer(rx, end),
                Err(refusal) => {
                    rx.common.counters.acknowledged_refused += 1;
                    self.refuse(rx.room, end, Reason::Refused(refusal));
                    consumed += cost;
                }
            }
        }
        rx.common.counters.acknowledged_accepted += accepted;
        if let Some(Some(flow)) = self.in_flows.get_mut(alias as usize) {
            flow.receive(charged);
        }
        if consumed > 0 {
            self.consume(alias as u32, consumed);
        }
        taken
    }
}

/// Takes the replies that `reader` stands in front of; how many there were.
fn receive_replies<A: Application>(rx: &mut Receiving<'_, A>, reader: &mut Reader<'_>) -> u16 {
    let (mut taken, mut rest) = (0, reader.clone());
    while let Some((request, body)) = next_reply(&mut rest) {
        *reader = rest.clone();
        answer(rx, request, Body::Borrowed(body));
        taken += 1;
    }
    taken
}

/// The number and body of the next message, if it is a plain request to this flow. The reader is of no use if it is not.
#[inline]
fn next_request<'a>(reader: &mut Reader<'a>, alias: u64) -> Option<(u64, &'a [u8])> {
    let is_plain = reader.u8()? == PLAIN_REQUEST && reader.varint()? == alias;
    if !is_plain {
        return None;
    }
    let (request, bytes) = (reader.varint()?, reader.varint()?);
    Some((request, reader.bytes(usize::try_from(bytes).ok()?)?))
}

/// As [`next_request`], if it is a reply: the number of the request.
#[inline]
fn next_reply<'a>(reader: &mut Reader<'a>) -> Option<(u64, &'a [u8])> {
    if reader.u8()? != PLAIN_REPLY {
        return None;
    }
    let (request, bytes) = (reader.varint()?, reader.varint()?);
    Some((request, reader.bytes(usize::try_from(bytes).ok()?)?))
}
