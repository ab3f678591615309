//! A light peer: one protocol endpoint without a node around it, so that thousands fit into a process.
//!
//! It speaks what a node speaks (it is the same protocol engine), takes every message, and knows one other peer: its host.

use cubed_transport::{
    Application, Binding, Body, ChannelId, Config, Disposition, Endpoint, Incoming, Limits,
    NodeMode, Outcome, PeerId, Refusal, Token,
    identity::{Identity, PublicKey},
    random::Entropy,
};
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::{BenchError, Result};

/// The flow that guests and hosts have.
pub const FLOW: &str = "scale.sink";

/// Randomness of the system; a guest has keys of its own like any peer.
#[derive(Debug)]
struct SystemEntropy(SystemRandom);

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out).expect("the system gave random bytes before");
    }
}

/// Takes and counts what comes.
#[derive(Debug, Default)]
pub struct Counting {
    /// Messages taken.
    pub messages: u64,
}

impl Application for Counting {
    fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
        true
    }

    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        _: &str,
    ) -> Result<Binding, Refusal> {
        Ok(Binding { flow: 1, window_bytes: 1 << 20, message_bytes_max: 1 << 20 })
    }

    fn generation(&self) -> u32 {
        0
    }

    fn deliver(&mut self, _: Incoming<'_>) -> Result<Disposition, Refusal> {
        self.messages += 1;
        Ok(Disposition::Consumed)
    }

    fn reply(&mut self, _: Token, _: Result<Body<'_>, Outcome>) {}
}

/// The identity of guest `number`, always the same: the host of a measurement knows its guests' keys by their numbers.
pub fn identity(number: u64) -> Identity {
    let mut seed = *b"cubed-bench scale guest ........";
    seed[24..].copy_from_slice(&number.to_le_bytes());
    Identity::from_seed(&seed)
}

/// An endpoint with this identity.
///
/// # Errors
///
/// `Argument` with the limit that is out of range; `Machine` when the system gives no random bytes.
pub fn endpoint(identity: &Identity, limits: Limits) -> Result<Endpoint> {
    let entropy = SystemEntropy(SystemRandom::new());
    let mut drawn = [[0; 32]; 2];
    for part in &mut drawn {
        let filled = entropy.0.fill(part);
        filled.map_err(|_| BenchError::Machine("the system gives no random bytes".into()))?;
    }
    let [incarnation, placement_salt] = drawn;
    let mut config = Config {
        incarnation: [0; 16],
        name: String::new(),
        role: String::new(),
        mode: NodeMode::PLAIN,
        kind: 0,
        channels: Vec::new(),
        shard: 0,
        shards: 1,
        placement_salt,
        placement: |_, _, _| 0,
        limits,
    };
    config.incarnation.copy_from_slice(&incarnation[..16]);
    Endpoint::new(config, identity, Box::new(entropy))
        .map_err(|error| BenchError::Argument(error.to_string()))
}
