//! The operating system's random numbers, as the protocol wants them.

use cubed_transport::random::Entropy;
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes fetched at once: a skipped packet number takes 8, so one system call serves 32 of them.
const POOL_BYTES: usize = 256;

/// Random numbers of the system, fetched in blocks; bytes given out are erased from the block.
pub(crate) struct SystemEntropy {
    random: SystemRandom,
    pool: [u8; POOL_BYTES],
    used: usize,
}

impl SystemEntropy {
    /// Fetches the first block, so that a system without random numbers shows here.
    pub(crate) fn new() -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let mut pool = [0; POOL_BYTES];
        random.fill(&mut pool)?;
        Ok(Self { random, pool, used: 0 })
    }

    /// Draws `N` random bytes.
    pub(crate) fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    fn fetch(&self, out: &mut [u8]) {
        self.random.fill(out).expect("getrandom gave numbers before and does not stop");
    }
}

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        if out.len() > POOL_BYTES {
            return self.fetch(out);
        }
        if self.used + out.len() > POOL_BYTES {
            let mut pool = [0; POOL_BYTES];
            self.fetch(&mut pool);
            self.pool = pool;
            self.used = 0;
        }
        let taken = &mut self.pool[self.used..self.used + out.len()];
        out.copy_from_slice(taken);
        taken.fill(0);
        self.used += out.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_equal_across_refills() {
        let mut entropy = SystemEntropy::new().unwrap();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            assert!(seen.insert(entropy.draw::<16>()));
        }
        let mut long = [0; POOL_BYTES + 1];
        entropy.fill(&mut long);
        assert!(long[POOL_BYTES - 16..].iter().any(|byte| *byte != 0));
    }
}
