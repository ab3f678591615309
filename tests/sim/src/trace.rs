//! What happened in a world, as one hash.
//!
//! Owns the hash. Two runs of one seed must give the same: then a failing seed fails again.

use std::time::Duration;

use cubed_transport::{Outcome, Token};

use crate::ledger::{Digest, NodeIndex};
use crate::script::Seen;

/// A running hash over datagrams, arrivals, outcomes and events, each with its time and node.
#[derive(Clone, Debug)]
pub struct Trace {
    hasher: blake3::Hasher,
    lines: u64,
}

impl Trace {
    /// The trace of nothing.
    pub fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), lines: 0 }
    }

    /// The hash of all so far, shortened.
    pub fn hash(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }

    /// How many things happened.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// A datagram left. Its bytes do not count: keys and seals are drawn by TLS, not by the seed.
    pub(crate) fn datagram(&mut self, at: Duration, from: NodeIndex, to: NodeIndex, bytes: usize) {
        self.line(b'd', at, from);
        self.hasher.update(&(to as u64).to_le_bytes()).update(&(bytes as u64).to_le_bytes());
    }

    pub(crate) fn arrival(
        &mut self,
        at: Duration,
        node: NodeIndex,
        from: NodeIndex,
        flow: &str,
        body: Digest,
    ) {
        self.line(b'a', at, node);
        self.hasher.update(&(from as u64).to_le_bytes()).update(&body.to_bytes());
        self.hasher.update(flow.as_bytes());
    }

    pub(crate) fn outcome(
        &mut self,
        at: Duration,
        node: NodeIndex,
        token: Token,
        outcome: Outcome,
    ) {
        self.line(b'o', at, node);
        self.hasher.update(&token.0.to_le_bytes()).update(format!("{outcome:?}").as_bytes());
    }

    pub(crate) fn seen(&mut self, at: Duration, node: NodeIndex, about: NodeIndex, seen: &Seen) {
        self.line(b's', at, node);
        self.hasher.update(&(about as u64).to_le_bytes()).update(format!("{seen:?}").as_bytes());
    }

    fn line(&mut self, kind: u8, at: Duration, node: NodeIndex) {
        self.lines += 1;
        self.hasher.update(&[kind]).update(&at.as_nanos().to_le_bytes());
        self.hasher.update(&(node as u64).to_le_bytes());
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}
