//! A light peer: one protocol endpoint without a node around it, so that thousands fit into a process.
//!
//! It speaks what a node speaks (it is the same protocol engine), takes every message, and knows one other peer: its host.

use cubed_transport::{Config, Endpoint, Limits, identity::Identity, random::Entropy};
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
    let mut config = Config { limits, ..Config::new([0; 16], placement_salt) };
    config.incarnation.copy_from_slice(&incarnation[..16]);
    Endpoint::new(config, identity, Box::new(entropy))
        .map_err(|error| BenchError::Argument(error.to_string()))
}
