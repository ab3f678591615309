//! What do insertion, look-up and churn cost in a table of few and of many peers?
//! `cargo bench -p cubed-router --bench table`.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

use cubed_router::table::Table;
use cubed_transport::identity::PublicKey;

/// Look-ups and changes measured in each table.
const ROUNDS: usize = 1_000_000;

/// Keys that look random and are the same in each run (`SplitMix64`).
fn key(number: usize) -> PublicKey {
    let mut bytes = [0; 32];
    let mut state = number as u64;
    for part in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        part.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    PublicKey::from_bytes(bytes)
}

fn insert(table: &mut Table, key: PublicKey) {
    table.add(key).expect("below the limit");
    table.prefer_address(&key, SocketAddr::from(([192, 0, 2, 7], 7530))).expect("a known peer");
}

fn nanos_each(begun: Instant, count: usize) -> f64 {
    begun.elapsed().as_nanos() as f64 / count as f64
}

fn main() {
    println!(
        "{:>9} {:>12} {:>12} {:>12} {:>12}",
        "peers", "insert, s", "ns each", "find, ns", "churn, ns"
    );
    for peers in [1_000, 10_000, 100_000, 1_000_000] {
        let keys: Vec<_> = (0..peers).map(key).collect();
        let mut table = Table::new();
        let begun = Instant::now();
        for key in &keys {
            insert(&mut table, *key);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let inserted = nanos_each(begun, peers);
        // In an order that no cache foresees: 7,919 is a prime that divides none of the sizes.
        let places = (0..ROUNDS).map(|round| round * 7_919 % peers);
        let begun = Instant::now();
        for place in places.clone() {
            black_box(table.get(&keys[place]).expect("inserted").addresses());
        }
        let found = nanos_each(begun, ROUNDS);
        let begun = Instant::now();
        for place in places {
            black_box(table.remove(&keys[place]).expect("inserted"));
            insert(&mut table, keys[place]);
        }
        let churned = nanos_each(begun, ROUNDS);
        println!("{peers:>9} {seconds:>12.3} {inserted:>12.0} {found:>12.0} {churned:>12.0}");
    }
}
