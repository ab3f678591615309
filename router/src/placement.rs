//! Which shard of a node owns a name.
//!
//! Owns one function. Sender and receiver compute it apart and must agree, so it is part of the
//! protocol: a change here is a change of the wire version.

/// The shard of the receiving node that owns flow `name`, in `0..shards`.
///
/// The first 8 bytes, little endian, of BLAKE3 keyed with `salt`, modulo `shards`. The salt comes from
/// the receiver's greeting and is random per start of a node, so that nobody can choose names
/// which all fall on one shard. The bias of the modulo is below 2^-56.
///
/// # Panics
///
/// When `shards` is zero: a node has at least one shard, and a greeting that claims none is
/// refused before it gets here.
pub fn owner_shard(salt: &[u8; 32], name: &str, shards: u8) -> u8 {
    assert!(shards > 0, "a node has at least one shard");
    if shards == 1 {
        return 0;
    }
    let hash = blake3::keyed_hash(salt, name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    (u64::from_le_bytes(first) % u64::from(shards)) as u8
}

#[cfg(test)]
mod tests {
    //! Goal: two nodes agree, names spread, and the salt decides.
    use super::*;

    /// Independent restatement: read the digest byte by byte with Horner's rule, most significant
    /// (last) byte first.
    fn by_horner(salt: &[u8; 32], name: &str, shards: u8) -> u8 {
        let digest = *blake3::Hasher::new_keyed(salt).update(name.as_bytes()).finalize().as_bytes();
        let remainder = digest[..8].iter().rev().fold(0_u32, |remainder, byte| {
            (remainder * 256 + u32::from(*byte)) % u32::from(shards)
        });
        remainder as u8
    }

    #[test]
    fn the_formula_is_the_documented_one() {
        for shards in [1, 2, 3, 7, 64, 255] {
            for number in 0..200 {
                let name = format!("flow.{number}");
                let salt = [number as u8; 32];
                assert_eq!(owner_shard(&salt, &name, shards), by_horner(&salt, &name, shards));
            }
        }
    }

    #[test]
    fn fixed_values_hold_across_versions() {
        let salt: [u8; 32] = std::array::from_fn(|index| index as u8);
        let owners =
            ["a", "orders.new", "prices.eurusd", "x.y.z"].map(|name| owner_shard(&salt, name, 16));
        assert_eq!(owners, FIXED);
    }

    /// Written down once; another implementation must reach the same.
    const FIXED: [u8; 4] = [3, 0, 3, 11];

    #[test]
    fn names_spread_evenly() {
        let mut counts = [0_u32; 8];
        for number in 0..8_000 {
            counts[usize::from(owner_shard(&[9; 32], &format!("name.{number}"), 8))] += 1;
        }
        // 1,000 expected each, standard deviation about 30: 150 is five of them.
        assert!(counts.iter().all(|count| count.abs_diff(1_000) < 150), "{counts:?}");
    }

    #[test]
    fn another_salt_gives_another_placement() {
        let moved = (0..256)
            .map(|number| format!("name.{number}"))
            .filter(|name| owner_shard(&[1; 32], name, 16) != owner_shard(&[2; 32], name, 16))
            .count();
        assert!(moved > 200, "only {moved} of 256 names moved");
    }

    #[test]
    #[should_panic(expected = "at least one shard")]
    fn zero_shards_are_a_bug_of_the_caller() {
        owner_shard(&[0; 32], "a", 0);
    }
}
