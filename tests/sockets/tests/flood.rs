//! Goal: a flood of hellos stops neither the traffic of a node nor a new peer, and leaves no state behind.
//!
//! At full rate and with the tables: `cubed-flood measure`, see docs/HACKING.md.

use std::path::Path;

use cubed_sockets::flood::Kind;
use cubed_sockets::siege::{self, Plan};

/// A new peer joins within this.
const JOIN_MS_MAX: f64 = 3_000.0;
/// The node grows by no more than this, KiB.
const GROWTH_KIB_MAX: i64 = 1_024;

#[test]
fn a_flood_of_hellos_stops_neither_traffic_nor_a_new_peer() {
    let plan = Plan {
        kind: Kind::Mixed,
        seconds: 2.0,
        pairs: 1,
        messages_per_second: Some(2_000.0),
        bytes: 256,
        flood_rate: 30_000.0,
        node_core: None,
        other_core: None,
    };
    let programs = Path::new(env!("CARGO_BIN_EXE_cubed-flood")).parent().expect("a folder");
    let outcome = siege::run(&plan, programs).expect("the processes run");
    println!("{outcome:?}");
    let attack = outcome.slices.iter().find(|slice| slice.is_attack).expect("a slice");
    assert!(attack.flood_per_second > 1_000.0, "there was a flood: {attack:?}");
    let counted = ["cookies_sent", "dropped_handshake"].map(|name| outcome.report.counters[name]);
    assert!(counted.iter().all(|&count| count > 0), "both kinds reached the node: {counted:?}");
    assert!(attack.messages_per_second > 0.0, "{attack:?}");
    assert_eq!(attack.kernel_drops, 0, "the flood took no buffer from the traffic");
    assert!(outcome.join_ms_max.is_some_and(|ms| ms < JOIN_MS_MAX), "{:?}", outcome.join_ms_max);
    assert!(outcome.growth_kib <= GROWTH_KIB_MAX, "{}", outcome.growth_kib);
}
