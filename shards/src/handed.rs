//! What shards of one node hand to each other: messages, and what comes back for them.
//!
//! An item keeps its memory on its way round (see `cubed_runtime::handoff`). Always holds: names precede the messages
//! that use their number, as one pair's items stay in order.

use bytes::Bytes;
use cubed_router::address::FlowName;
use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;
use cubed_transport::{ChannelId, PeerId, Refusal, Service};

use crate::limits::HANDED_SHORT_BYTES_MAX;

/// Stands for this node itself among the peers of a shard: no endpoint has so many.
pub(crate) const HERE: PeerId = PeerId(u64::MAX);

/// One thing handed over.
#[derive(Default)]
pub(crate) enum What {
    #[default]
    Nothing,
    /// Messages with this number are for this flow.
    Name { way: u32, channel: ChannelId, name: FlowName },
    /// A message; its body lies beside it.
    Message(Header),
    /// The next so many messages of peers that the receiver passed on were taken.
    Taken { count: u32 },
    /// The next message of a peer that the receiver passed on was refused.
    Refused(Refusal),
    /// How an acknowledged message of the receiver ended.
    Settled { id: u64, settlement: Settlement },
    /// The answer to a request; its body lies beside it.
    Reply { id: u64 },
    /// Room that comes back.
    Credit { origin: u32, charge: u64 },
    /// The flow that the receiver calls so is not here any more. For messages whose end is not told.
    Gone { way: u32 },
}

/// What a message says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) way: u32,
    /// Whose credit it uses.
    pub(crate) origin: u32,
    /// The producer's number of it.
    pub(crate) kind: Kind,
    pub(crate) service: Service,
    pub(crate) deadline: Option<Instant>,
    pub(crate) sender: PublicKey,
    pub(crate) charge: u64,
}

/// What the producer wants to hear of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Only that its room is free again.
    BestEffort,
    /// How it ended.
    Acknowledged { id: u64 },
    /// How it ended, then its reply.
    Request { id: u64 },
    /// From a peer, which waits to hear whether it was taken unless it is best effort.
    Forwarded,
    /// From a peer, which waits for the reply.
    ForwardedRequest { id: u64 },
}

/// How an acknowledged message ended on the shard that took it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Settlement {
    /// Its room is free again.
    Consumed,
    /// Its room comes back later.
    Held,
    Refused(Refusal),
    Expired,
}

/// A body on its way.
pub(crate) enum Carried<'a> {
    Nothing,
    Slice(&'a [u8]),
    Owned(Bytes),
}

impl Carried<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Slice(body) => body.len(),
            Self::Owned(body) => body.len(),
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::Slice(body) => Bytes::copy_from_slice(body),
            Self::Owned(body) => body,
        }
    }
}

/// One item.
#[derive(Default)]
pub(crate) struct Handed {
    pub(crate) what: What,
    short: Vec<u8>,
    long: Option<Bytes>,
}

impl Handed {
    pub(crate) fn new(what: What, body: Carried<'_>) -> Self {
        let mut item = Self::default();
        item.set(what, body);
        item
    }

    /// Writes over whatever was here, using its memory.
    pub(crate) fn set(&mut self, what: What, body: Carried<'_>) {
        self.what = what;
        self.short.clear();
        self.long = match body {
            Carried::Nothing => None,
            Carried::Owned(body) if body.len() > HANDED_SHORT_BYTES_MAX => Some(body),
            Carried::Owned(body) => {
                self.short.extend_from_slice(&body);
                None
            }
            Carried::Slice(body) if body.len() > HANDED_SHORT_BYTES_MAX => {
                Some(Bytes::copy_from_slice(body))
            }
            Carried::Slice(body) => {
                self.short.extend_from_slice(body);
                None
            }
        };
    }

    pub(crate) fn short(&self) -> &[u8] {
        &self.short
    }

    /// The body, if it is not a short one.
    pub(crate) fn take_long(&mut self) -> Option<Bytes> {
        self.long.take()
    }

    pub(crate) fn take_body(&mut self) -> Bytes {
        self.long.take().unwrap_or_else(|| Bytes::copy_from_slice(&self.short))
    }
}
