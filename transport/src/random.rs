//! Randomness as an argument: what the protocol asks of a source, and a seeded one for simulation.
//!
//! The crate draws no randomness itself. A node passes the operating system's generator; tests and
//! simulations pass [`SeededEntropy`], so that a seed repeats a run exactly.

/// A source of random bytes.
///
/// Incarnations, dial ids and skipped packet numbers rely on it, so a node's implementation must
/// be cryptographically secure.
pub trait Entropy {
    /// Fills all of `out` with random bytes.
    fn fill(&mut self, out: &mut [u8]);

    /// A random number, uniform over all of `u64`.
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random number, uniform over `0..bound`; 0 when `bound` is 0.
    ///
    /// The high half of a 64 by 64 bit product, with the few products that would favour small
    /// results drawn again (Lemire, "Fast Random Integer Generation in an Interval", 2019).
    fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let low = product as u64;
            if low >= bound || low >= bound.wrapping_neg() % bound.max(1) {
                return (product >> 64) as u64;
            }
        }
    }
}

/// A repeatable generator for simulation and tests. **Not cryptographic**: a few outputs reveal
/// all others, so a node must never run on it.
///
/// xoshiro256** (Blackman and Vigna, 2018), its state filled by `SplitMix64` from the seed as its
/// authors advise.
#[derive(Clone, Debug)]
pub struct SeededEntropy {
    state: [u64; 4],
}

impl SeededEntropy {
    /// A generator whose whole output follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut counter)) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }
}

/// One step of `SplitMix64` (Steele, Lea and Flood, 2014): a counter and a mixing function, so no
/// two seeds give the same state and none gives the all-zero state xoshiro could not leave.
fn split_mix(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *counter;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn split_mix_matches_its_published_outputs() {
        let mut counter = 1_234_567;
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([split_mix(&mut counter), split_mix(&mut counter)], expected);
    }

    #[test]
    fn xoshiro_matches_its_published_outputs() {
        let mut entropy = SeededEntropy { state: [1, 2, 3, 4] };
        let first: [u64; 4] = std::array::from_fn(|_| entropy.next_u64());
        assert_eq!(first, [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn one_seed_repeats_and_two_seeds_differ() {
        let draw = |seed| {
            let mut bytes = [0; 29];
            SeededEntropy::new(seed).fill(&mut bytes);
            bytes
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_ne!(draw(0), [0; 29]);
    }

    #[test]
    fn below_reaches_every_value_about_equally() {
        let mut entropy = SeededEntropy::new(3);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[entropy.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn below_zero_and_one_are_zero() {
        let mut entropy = SeededEntropy::new(1);
        assert_eq!((entropy.below(0), entropy.below(1)), (0, 0));
    }

    proptest! {
        #[test]
        fn below_stays_below(seed: u64, bound in 1_u64..) {
            prop_assert!(SeededEntropy::new(seed).below(bound) < bound);
        }
    }
}
