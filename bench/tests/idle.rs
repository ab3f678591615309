//! Goal: what an idle peer costs in memory stays below a bound, and does not grow with their number.

use cubed_bench::scale::memory_network::MemoryNetwork;

/// Bytes of heap that an endpoint may hold for each peer with a session in which nothing is under way.
const BYTES_PER_PEER_MAX: i64 = 1_800;

const WAVE: usize = 50;

/// Heap held for each of `peers` more than there were, as the endpoint asked for it.
fn bytes_per_peer(network: &mut MemoryNetwork, peers: usize) -> i64 {
    let counted = allocation_counter::measure(|| {
        for _ in 0..peers / WAVE {
            for _ in 0..WAVE {
                network.welcome(1).unwrap();
            }
            network.rest().unwrap();
        }
    });
    counted.bytes_current / peers as i64
}

#[test]
fn an_idle_peer_costs_little_and_always_the_same() {
    let mut network = MemoryNetwork::new(5_000).unwrap();
    // What an endpoint has once, and tables of some size.
    bytes_per_peer(&mut network, 500);
    // Tables double: from 500 to 4,000 peers three times, so their free places are as many before and after.
    let first = bytes_per_peer(&mut network, 500);
    let later = bytes_per_peer(&mut network, 3_000);
    println!("{first} B a peer among 1,000, {later} B among 4,000");
    assert!(first.max(later) <= BYTES_PER_PEER_MAX, "{first} and {later} B a peer");
}
