//! Owns what an endpoint is told once, when it is made.
//!
//! What always holds: a configuration that an endpoint took was checked.

use std::fmt;
use std::sync::Arc;

use super::NodeMode;
use crate::handshake::HandshakeError;
use crate::identity::Identity;
use crate::limits::{CHANNELS_MAX, LimitError, Limits, NODE_NAME_BYTES_MAX, ROLE_BYTES_MAX};

/// What an endpoint is, beside its identity.
///
/// The endpoints of one node, one for each shard, have the same identity and differ in `shard` alone: peers take what each of them
/// greets with for the node's. Another incarnation, another salt or another number of shards is another start of the node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Random per process start; tells a restarted node from the one before.
    pub incarnation: [u8; 16],
    /// The node's name for people, at most 64 bytes; told in the greeting, under encryption.
    pub name: String,
    /// What the node is among those of its channels, at most 64 bytes; told in the greeting. Empty: its name.
    pub role: String,
    /// Flags of the node; told in the greeting.
    pub mode: NodeMode,
    /// The application's own number; told in the greeting.
    pub kind: u8,
    /// Channels beside the default one, at most 63.
    pub channels: Vec<ChannelConfig>,
    /// This endpoint's shard.
    pub shard: u8,
    /// Shards of the node.
    pub shards: u8,
    /// Key of the placement of flow names on this node's shards; random per node start.
    pub placement_salt: [u8; 32],
    /// The shard that owns a flow of this name at a node with this salt and so many shards: the same function at all nodes.
    pub placement: fn(&[u8; 32], &str, u8) -> u8,
    /// What it allows.
    pub limits: Limits,
}

/// A channel beside the default one.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// Its name: 1 to 64 bytes, and no other channel's.
    pub name: String,
    /// Who the node is on it; `None`: the same as on the default channel.
    pub identity: Option<Arc<Identity>>,
}

impl Config {
    /// A node of one shard, which owns every flow, without name and further channels, with default limits. Both numbers are random
    /// per process start; every other field may be set.
    pub fn new(incarnation: [u8; 16], placement_salt: [u8; 32]) -> Self {
        Self {
            incarnation,
            name: String::new(),
            role: String::new(),
            mode: NodeMode::PLAIN,
            kind: 0,
            channels: Vec::new(),
            shard: 0,
            shards: 1,
            placement_salt,
            placement: |_, _, _| 0,
            limits: Limits::default(),
        }
    }

    /// Checks what does not depend on the identity.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.limits.check().map_err(ConfigError::Limit)?;
        if self.name.len() > NODE_NAME_BYTES_MAX {
            return Err(ConfigError::Name { bytes: self.name.len() });
        }
        if self.role.len() > ROLE_BYTES_MAX {
            return Err(ConfigError::Role { bytes: self.role.len() });
        }
        if self.shard >= self.shards {
            return Err(ConfigError::Shard);
        }
        if self.channels.len() >= CHANNELS_MAX {
            return Err(ConfigError::Channels { count: self.channels.len() });
        }
        for (index, ChannelConfig { name, .. }) in self.channels.iter().enumerate() {
            let is_twice = self.channels[..index].iter().any(|other| other.name == *name);
            if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX || is_twice {
                return Err(ConfigError::Channel { name: name.clone() });
            }
        }
        Ok(())
    }
}

/// Why an endpoint could not be made: the caller's or the system's fault.
#[derive(Debug)]
pub enum ConfigError {
    /// A limit is out of range.
    Limit(LimitError),
    /// The node's name is longer than 64 bytes.
    Name {
        /// Its length.
        bytes: usize,
    },
    /// The node's role is longer than 64 bytes.
    Role {
        /// Its length.
        bytes: usize,
    },
    /// More channels than a node may have.
    Channels {
        /// How many, without the default one.
        count: usize,
    },
    /// A channel's name is empty, too long or another channel's.
    Channel {
        /// The name.
        name: String,
    },
    /// `shard` is not below `shards`.
    Shard,
    /// TLS could not be set up with this identity.
    Handshake(HandshakeError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(error) => error.fmt(f),
            Self::Name { bytes } => {
                write!(
                    f,
                    "the node's name has {bytes} bytes, at most {NODE_NAME_BYTES_MAX} are allowed"
                )
            }
            Self::Role { bytes } => {
                write!(f, "the node's role has {bytes} bytes, at most {ROLE_BYTES_MAX} are allowed")
            }
            Self::Channels { count } => write!(
                f,
                "{count} channels beside the default one, at most {} are allowed",
                CHANNELS_MAX - 1
            ),
            Self::Channel { name } => write!(
                f,
                "the channel {name:?} is named twice, or its name has not 1 to {NODE_NAME_BYTES_MAX} bytes"
            ),
            Self::Shard => f.write_str("a shard's number must be below the number of shards"),
            Self::Handshake(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}
