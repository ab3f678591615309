//! Settings of channels and keeps, as a node is given them; and what addresses mean on each channel.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use cubed_router::address::{Address, NodeName};
use cubed_router::keep::Trust;
use cubed_router::policy::Policy;
use cubed_transport::ChannelId;
use cubed_transport::identity::{Identity, PublicKey};

use crate::error::ResolveError;

/// A channel of a node beside its default one: a network of nodes that share a name, with a trust of its own.
///
/// What is known, accepted or allowed on one channel means nothing on another: neither peers nor sessions nor flows are
/// shared, and a dial to the right key on the wrong channel gets no answer.
#[derive(Debug)]
#[must_use = "a channel is given to `NodeBuilder::channel`"]
pub struct Channel {
    pub(crate) name: String,
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) policy: Policy,
    pub(crate) keep: Option<KeepSettings>,
}

impl Channel {
    /// A channel of this name (1 to 64 bytes, as in addresses), on which nobody is admitted yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), identity: None, policy: Policy::deny(), keep: None }
    }

    /// Who the node is on this channel. Default: the same as on its default channel.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(Arc::new(identity));
        self
    }

    /// Who may have a session on this channel, and what they may do. Default: [`Policy::deny`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// What becomes of keys that the policy does not name. Default: they are not admitted.
    pub fn keep(mut self, keep: KeepSettings) -> Self {
        self.keep = Some(keep);
        self
    }
}

/// Which keys a channel takes beside those of its policy, and the file in which that is kept.
///
/// A key that the policy names, or a peer that this node names itself, need not wait for anybody. All others are subject
/// to the [`Trust`] given here. An accepted key may have a session; what it may do in it, the policy says under
/// `key = "accepted"`: nothing, if it says nothing.
#[derive(Clone, Debug)]
#[must_use = "settings of a keep are given to `NodeBuilder::keep` or `Channel::keep`"]
pub struct KeepSettings {
    pub(crate) file: PathBuf,
    pub(crate) trust: Trust,
    pub(crate) is_mutable: bool,
}

impl KeepSettings {
    /// A keep in this file, which is made when the first key comes. New keys wait for the operator, and nobody may change
    /// what it says of itself.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: path.into(), trust: Trust::Never, is_mutable: false }
    }

    /// What happens to keys that nobody decided about. Default: [`Trust::Never`], they wait.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Lets a known key change its name, role, mode and kind, and, under [`Trust::Always`], another key take over a role.
    /// Default: no.
    pub fn mutable(mut self, is_mutable: bool) -> Self {
        self.is_mutable = is_mutable;
        self
    }
}

/// What addresses mean at a node: its channels, and its names for peers on each.
#[derive(Clone)]
pub(crate) struct Directory(pub(crate) Vec<ChannelNames>);

/// One channel, as addresses name it.
#[derive(Clone)]
pub(crate) struct ChannelNames {
    /// Empty for the default one.
    pub(crate) name: String,
    /// The node's own key on it.
    pub(crate) own: PublicKey,
    pub(crate) peers: HashMap<String, PublicKey>,
}

impl Directory {
    /// The channel of this name; empty: the default one.
    pub(crate) fn channel(&self, name: &str) -> Result<ChannelId, ResolveError> {
        let found = self.0.iter().position(|channel| channel.name == name);
        let unknown = || ResolveError::UnknownChannel(name.to_owned());
        found.map(|index| ChannelId(index as u8)).ok_or_else(unknown)
    }

    /// The channel and the key of the node that an address means.
    pub(crate) fn node(&self, address: &Address) -> Result<(ChannelId, PublicKey), ResolveError> {
        if address.unit().is_some() {
            return Err(ResolveError::Level("unit"));
        }
        let channel = self.channel(address.channel().unwrap_or_default())?;
        let names = &self.0[usize::from(channel.0)];
        let key = match address.node() {
            None => names.own,
            Some(NodeName::Key(key)) => *key,
            Some(NodeName::Name(name)) => {
                let unknown = || ResolveError::UnknownNode(name.clone());
                names.peers.get(name).copied().ok_or_else(unknown)?
            }
        };
        Ok((channel, key))
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|channel| &channel.name)).finish()
    }
}
