//! Messages that both ends can work out from a seed, and the receiver's account of them.
//!
//! Sizes are log-uniform from 1 B to 2 KiB, with long ones strewn in. Messages are told apart by the hash of the whole
//! body; bodies may be equal (there are only 256 of one byte), so the account is of how many of each are still expected.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Longest of the short messages, bytes.
const SHORT_BYTES_MAX: f64 = 2_048.0;

/// Which messages are sent.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Plan {
    /// Decides sizes and contents
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Short messages, log-uniform from 1 B to 2 KiB
    #[arg(long, default_value_t = 0)]
    pub short: u64,
    /// Long messages, strewn evenly among the short ones
    #[arg(long, default_value_t = 0)]
    pub long: u64,
    /// Bytes of a long message
    #[arg(long, default_value_t = 1 << 20)]
    pub long_bytes: usize,
}

impl Plan {
    /// How many messages there are.
    pub fn count(&self) -> u64 {
        self.short + self.long
    }

    /// The body of message `number`, which is below [`Plan::count`].
    pub fn body(&self, number: u64) -> Vec<u8> {
        let mut body = vec![0; self.bytes(number)];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&number.to_le_bytes());
        hasher.finalize_xof().fill(&mut body);
        body
    }

    fn bytes(&self, number: u64) -> usize {
        if self.is_long(number) {
            return self.long_bytes;
        }
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        SHORT_BYTES_MAX.powf(random.fraction()).round() as usize
    }

    /// `long` of the numbers, evenly: those at which a line of slope `long / count` reaches the next integer.
    fn is_long(&self, number: u64) -> bool {
        let reached = |number: u64| number * self.long / self.count().max(1);
        reached(number + 1) > reached(number)
    }
}

/// What the receiver found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Messages handed to the application.
    pub received: u64,
    /// Sent and not received.
    pub missing: u64,
    /// Received more often than sent.
    pub duplicate: u64,
    /// Received with a body that was never sent.
    pub damaged: u64,
}

/// What the receiver still expects.
pub struct Account {
    expected: HashMap<[u8; 32], u64>,
    missing: u64,
    verdict: Verdict,
}

impl Account {
    /// Expects every message of the plan once.
    pub fn new(plan: &Plan) -> Self {
        let mut expected = HashMap::new();
        for number in 0..plan.count() {
            *expected.entry(hash(&plan.body(number))).or_default() += 1;
        }
        Self { expected, missing: plan.count(), verdict: Verdict::default() }
    }

    /// Takes a message that arrived.
    pub fn take(&mut self, body: &[u8]) {
        self.verdict.received += 1;
        match self.expected.get_mut(&hash(body)) {
            None => self.verdict.damaged += 1,
            Some(0) => self.verdict.duplicate += 1,
            Some(left) => {
                *left -= 1;
                self.missing -= 1;
            }
        }
    }

    /// How things stand.
    pub fn verdict(&self) -> Verdict {
        Verdict { missing: self.missing, ..self.verdict }
    }
}

fn hash(body: &[u8]) -> [u8; 32] {
    *blake3::hash(body).as_bytes()
}

#[cfg(test)]
mod tests {
    //! Goal: every kind of fault shows in the account, and the plan has the sizes it promises.
    use super::*;

    const PLAN: Plan = Plan { seed: 7, short: 1_000, long: 5, long_bytes: 50_000 };

    fn account_of(bodies: impl Iterator<Item = Vec<u8>>) -> Verdict {
        let mut account = Account::new(&PLAN);
        bodies.for_each(|body| account.take(&body));
        account.verdict()
    }

    fn all() -> impl Iterator<Item = Vec<u8>> {
        (0..PLAN.count()).map(|number| PLAN.body(number))
    }

    #[test]
    fn what_arrives_as_sent_has_no_fault_in_any_order() {
        let fine = Verdict { received: 1_005, ..Verdict::default() };
        assert_eq!(account_of(all()), fine);
        let mut backwards: Vec<_> = all().collect();
        backwards.reverse();
        assert_eq!(account_of(backwards.into_iter()), fine);
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        assert_eq!(account_of(all().skip(3)).missing, 3);
        let doubled = account_of(all().chain(all().take(4)));
        assert_eq!((doubled.duplicate, doubled.missing), (4, 0));
        // A long body with one bit flipped is none that was sent, and the one sent is missing.
        let damaged = account_of(all().map(|mut body| {
            body[0] ^= u8::from(body.len() == PLAN.long_bytes);
            body
        }));
        assert_eq!((damaged.damaged, damaged.missing), (5, 5));
    }

    #[test]
    fn sizes_are_log_uniform_and_long_ones_strewn_evenly() {
        let sizes: Vec<usize> = all().map(|body| body.len()).collect();
        let long: Vec<usize> = (0..sizes.len()).filter(|&at| sizes[at] == 50_000).collect();
        assert_eq!(long, [200, 401, 602, 803, 1_004]);
        let short = || sizes.iter().filter(|&&bytes| bytes != 50_000);
        assert!(short().all(|bytes| (1..=2_048).contains(bytes)));
        // Half of them lie below the geometric middle.
        let small = short().filter(|&&bytes| bytes < 45).count();
        assert!((430..570).contains(&small), "{small}");
    }
}
