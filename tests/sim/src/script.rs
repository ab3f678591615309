//! The words of a world: what a script does to it, what nodes see, and what is wrong.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::{DownCause, EndCause, SendOptions, Service};

use crate::ledger::NodeIndex;
use crate::link::LinkConfig;

/// What is asked of a message, with its deadline counted from its sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// All but the deadline.
    pub options: SendOptions,
    /// When it is given up.
    pub deadline: Option<Duration>,
}

/// Something a script does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send a message.
    Send {
        /// Sender.
        from: NodeIndex,
        /// Receiver.
        to: NodeIndex,
        /// Flow at the receiver.
        flow: &'static str,
        /// Length of the body.
        bytes: usize,
        /// Best effort or acknowledged.
        service: Service,
    },
    /// Send the same message to several nodes, all handed over before anything leaves.
    SendToAll {
        /// Sender.
        from: NodeIndex,
        /// Receivers, in this order.
        to: Vec<NodeIndex>,
        /// Flow at the receivers.
        flow: &'static str,
        /// Length of the body.
        bytes: usize,
        /// Best effort or acknowledged.
        service: Service,
    },
    /// Send a message of which more is asked.
    Offer {
        /// Sender.
        from: NodeIndex,
        /// Receiver.
        to: NodeIndex,
        /// Flow at the receiver.
        flow: &'static str,
        /// Length of the body; at least 8 if it is ordered, so that bodies differ.
        bytes: usize,
        /// What is asked.
        asked: Asked,
    },
    /// Send a request.
    Request {
        /// Sender.
        from: NodeIndex,
        /// Receiver.
        to: NodeIndex,
        /// Flow at the receiver.
        flow: &'static str,
        /// Length of the body.
        bytes: usize,
        /// How long to wait for the reply.
        deadline: Duration,
    },
    /// Begin a dial.
    Connect {
        /// Who dials.
        from: NodeIndex,
        /// Whom.
        to: NodeIndex,
    },
    /// Watch a peer's life.
    Watch {
        /// Who watches.
        from: NodeIndex,
        /// Whom.
        to: NodeIndex,
    },
    /// An operator accepts or rejects another node's key at a node that runs.
    Decide {
        /// Where.
        at: NodeIndex,
        /// About whom.
        about: NodeIndex,
        /// On the channel "garden" instead of the default one.
        garden: bool,
        /// Accept, or reject.
        accept: bool,
    },
    /// Forget another node, and add it again at once, as one never heard of.
    Forget {
        /// Who forgets.
        at: NodeIndex,
        /// Whom.
        whom: NodeIndex,
    },
    /// End a node's process as `kill -9` does.
    Kill(NodeIndex),
    /// Start a killed node again and introduce it to all others.
    Restart(NodeIndex),
    /// Close a node's sessions in order; the process goes on.
    Close(NodeIndex),
    /// Make a node's clock jump ahead, as that of a machine that was suspended.
    Jump {
        /// Whose.
        node: NodeIndex,
        /// How far.
        by: Duration,
    },
    /// Give a node another source address, as a NAT does that forgot its mapping: what is sent to the old one is lost.
    Move {
        /// Who moves, without knowing.
        node: NodeIndex,
        /// Where to.
        address: SocketAddr,
    },
    /// Change one direction of a path.
    SetLink {
        /// Sending side.
        from: NodeIndex,
        /// Receiving side.
        to: NodeIndex,
        /// What the link does from now on.
        config: LinkConfig,
    },
}

/// A breach of the rules, or a world that does not come to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// When, since the world began.
    pub at: Duration,
    /// What.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at {:.6} s: {}", self.at.as_secs_f64(), self.what)
    }
}

impl Error for Fault {}

/// An event of an endpoint, with the peer's node instead of the endpoint's number for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A session began.
    Connected,
    /// No word for a while.
    Down(DownCause),
    /// A word again.
    Up,
    /// A dial ended; its words.
    DialFailed(String),
    /// A session ended.
    SessionEnded(EndCause),
}
