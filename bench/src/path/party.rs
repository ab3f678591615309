//! The application at either end of the message path: counts what comes, and answers what is asked.
//!
//! Always holds: answers wait until the datagram is handled, as they do in a shard's outbox, and say what was asked.

use cubed_transport::{
    Application, Binding, Body, ChannelId, Disposition, Endpoint, Incoming, Outcome, PeerId,
    Refusal, ReplyTo, Token, identity::PublicKey,
};

use crate::counting::Counting;

/// Counts messages and answers, and answers requests.
#[derive(Debug, Default)]
pub(super) struct Party {
    pub(super) counting: Counting,
    /// Answers to requests of ours, and requests that ended without one.
    pub(super) answered: u64,
    pub(super) unanswered: u64,
    /// Whom to answer, and where the answer ends among `bodies`.
    asked: Vec<(ReplyTo, usize)>,
    bodies: Vec<u8>,
}

impl Party {
    /// Hands the answers over; how many the endpoint did not take.
    pub(super) fn answer(&mut self, endpoint: &mut Endpoint) -> usize {
        let (mut start, mut refused) = (0, 0);
        for (to, end) in self.asked.drain(..) {
            refused += usize::from(endpoint.reply(to, &self.bodies[start..end]).is_err());
            start = end;
        }
        self.bodies.clear();
        refused
    }
}

impl Application for Party {
    fn admit(&mut self, channel: ChannelId, key: &PublicKey) -> bool {
        self.counting.admit(channel, key)
    }

    fn bind(
        &mut self,
        channel: ChannelId,
        peer: PeerId,
        key: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal> {
        self.counting.bind(channel, peer, key, flow)
    }

    #[inline]
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        if let Some(to) = message.request {
            self.bodies.extend_from_slice(message.body.as_slice());
            self.asked.push((to, self.bodies.len()));
        }
        self.counting.deliver(message)
    }

    fn reply(&mut self, _: Token, result: Result<Body<'_>, Outcome>) {
        self.answered += u64::from(result.is_ok());
        self.unanswered += u64::from(result.is_err());
    }
}
