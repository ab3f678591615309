//! The operator's side of a running node's keep: who waits, and what becomes of them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use cubed_router::keep::{Entry, KeepError};
use cubed_transport::ChannelId;
use cubed_transport::identity::PublicKey;

use crate::error::Stopped;
use crate::keep_writer::Stored;
use crate::outside::Gate;
use crate::shard::Shard;
use crate::trust::Word;

/// The keep of one channel of a running node, from [`crate::Node::keep`].
#[derive(Clone)]
pub struct NodeKeep {
    gate: Arc<Gate>,
    channel: ChannelId,
}

impl NodeKeep {
    pub(crate) fn new(gate: Arc<Gate>, channel: ChannelId) -> Self {
        Self { gate, channel }
    }

    /// Keys that wait to be decided about, oldest first; at most 256.
    ///
    /// # Errors
    ///
    /// [`NodeKeepError::NoKeep`], [`NodeKeepError::Stopped`].
    pub async fn pending(&self) -> Result<Vec<Entry>, NodeKeepError> {
        let channel = self.channel;
        let call = self.gate.call(async move |shard: Shard| {
            shard.with_keep(channel, |kept| kept.keep.pending().cloned().collect())
        });
        call.await?
    }

    /// All keys and what was decided of them: those decided about by key, then those that wait.
    ///
    /// # Errors
    ///
    /// As [`NodeKeep::pending`].
    pub async fn list(&self) -> Result<Vec<Entry>, NodeKeepError> {
        let channel = self.channel;
        let call = self.gate.call(async move |shard: Shard| {
            shard.with_keep(channel, |kept| kept.keep.entries().cloned().collect())
        });
        call.await?
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

    /// Rejects a key, known or not; a session with it ends. Ends when the disk has it.
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
        let channel = self.channel;
        let call = self.gate.call(async move |shard: Shard| shard.decide(channel, key, word));
        let stored: Stored = call.await??;
        stored.await.map_err(NodeKeepError::Write)
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

impl From<Stopped> for NodeKeepError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}
