//! The operator's side of a running node's keep: who waits, and what becomes of them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use cubed_router::keep::{Entry, KeepError};
use cubed_transport::ChannelId;
use cubed_transport::identity::PublicKey;

use crate::changes::Change;
use crate::error::Stopped;
use crate::node_shared::NodeShared;
use crate::trust::{Decided, Kept, Word};

/// The keep of one channel of a running node, from [`crate::Node::keep`].
#[derive(Clone)]
pub struct NodeKeep {
    node: Arc<NodeShared>,
    channel: ChannelId,
}

impl NodeKeep {
    pub(crate) fn new(node: Arc<NodeShared>, channel: ChannelId) -> Self {
        Self { node, channel }
    }

    /// Keys that wait to be decided about, oldest first; at most 256.
    ///
    /// # Errors
    ///
    /// [`NodeKeepError::NoKeep`], [`NodeKeepError::Stopped`].
    #[expect(clippy::unused_async, reason = "calls to a node are awaited")]
    pub async fn pending(&self) -> Result<Vec<Entry>, NodeKeepError> {
        self.with_keep(|kept| kept.keep.pending().cloned().collect())
    }

    /// All keys and what was decided of them: those decided about by key, then those that wait.
    ///
    /// # Errors
    ///
    /// As [`NodeKeep::pending`].
    #[expect(clippy::unused_async, reason = "calls to a node are awaited")]
    pub async fn list(&self) -> Result<Vec<Entry>, NodeKeepError> {
        self.with_keep(|kept| kept.keep.entries().cloned().collect())
    }

    /// Accepts a key, known or not, and with it what it said of itself. If it waited, it is dialled where it was seen, so
    /// that it need not wait for its own next attempt. Ends when the disk has it.
    ///
    /// # Errors
    ///
    /// [`NodeKeepError`]. After [`NodeKeepError::Write`] the key is accepted, but a restart may forget it.
    pub async fn accept(&self, key: PublicKey) -> Result<(), NodeKeepError> {
        self.decide(key, Word::Accept).await
    }

    /// Rejects a key, known or not; a session with it ends, unless the policy names it. Ends when the disk has it.
    ///
    /// # Errors
    ///
    /// As [`NodeKeep::accept`].
    pub async fn reject(&self, key: PublicKey) -> Result<(), NodeKeepError> {
        self.decide(key, Word::Reject).await
    }

    /// Forgets a key: its next contact is its first. A session with it ends, unless the policy names it. Ends when the disk has it.
    ///
    /// # Errors
    ///
    /// As [`NodeKeep::accept`], and [`KeepError::Unknown`].
    pub async fn forget(&self, key: PublicKey) -> Result<(), NodeKeepError> {
        self.decide(key, Word::Forget).await
    }

    async fn decide(&self, key: PublicKey, word: Word) -> Result<(), NodeKeepError> {
        let decided = self.with_keep(|kept| kept.decide(&key, word))?;
        let Decided { address, removed, stored } = decided.map_err(NodeKeepError::Keep)?;
        let ended = removed.into_iter().map(|key| Change::Ended(self.channel, key));
        let accepted = address.map(|address| Change::Accepted(self.channel, key, address));
        self.node.tell(std::iter::once(Change::Rights).chain(ended).chain(accepted));
        stored.await.map_err(NodeKeepError::Write)
    }

    fn with_keep<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> Result<T, NodeKeepError> {
        let trust = &self.node.channels[usize::from(self.channel.0)];
        if !trust.has_keep() {
            return Err(NodeKeepError::NoKeep);
        }
        // It is closed when the last shard has ended.
        trust.with_keep(look).ok_or(NodeKeepError::Stopped)
    }
}

impl fmt::Debug for NodeKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeKeep").field(&self.channel).finish()
    }
}

/// Why a call to a node's keep did not do what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKeepError {
    /// Caller: the channel has no keep; give it one with `.keep(KeepSettings::file(path))`.
    NoKeep,
    /// Caller or resource: the keep did not take it; nothing has changed.
    Keep(KeepError),
    /// System: decided, but not stored.
    Write(String),
    /// The node has stopped.
    Stopped,
}

impl fmt::Display for NodeKeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKeep => f.write_str(
                "this channel has no keep: give it one with `.keep(KeepSettings::file(path))`",
            ),
            Self::Keep(error) => error.fmt(f),
            Self::Write(error) => write!(f, "decided, but not stored: {error}"),
            Self::Stopped => Stopped.fmt(f),
        }
    }
}

impl Error for NodeKeepError {}
