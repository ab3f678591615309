//! Owns what an endpoint is told once, when it is made.
//!
//! What always holds: a configuration that an endpoint took was checked.

use std::fmt;

use crate::handshake::HandshakeError;
use crate::limits::{LimitError, Limits, NODE_NAME_BYTES_MAX};

/// What an endpoint is, beside its identity.
#[derive(Clone, Debug)]
pub struct Config {
    /// Random per process start; tells a restarted node from the one before.
    pub incarnation: [u8; 16],
    /// The node's name for people, at most 64 bytes; told in the greeting, under encryption.
    pub name: String,
    /// This endpoint's shard.
    pub shard: u8,
    /// Shards of the node.
    pub shards: u8,
    /// Key of the placement of flow names on this node's shards; random per node start.
    pub placement_salt: [u8; 32],
    /// What it allows.
    pub limits: Limits,
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
            Self::Shard => f.write_str("a shard's number must be below the number of shards"),
            Self::Handshake(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}
