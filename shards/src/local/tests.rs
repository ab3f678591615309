//! Goal: who found no room towards a shard is told when that shard has some, whatever happens towards the others.
use cubed_runtime::{HandOff, HandOffOptions, handoff::mesh};

use super::*;

const ONE_ITEM: HandOffOptions = HandOffOptions { batch_items_max: 1, batches_max: 1 };

/// The first shard of three that may each have one item under way to another, and the ends of all.
fn first_of_three() -> (Local, Vec<HandOff<Handed>>) {
    let facts = LocalFacts {
        index: 0,
        placement_salt: [0; 32],
        registry: Arc::default(),
        message_bytes_max: 1 << 20,
        requests_max: 1,
        keys: vec![PublicKey::from_bytes([1; 32])],
    };
    let mut ends = mesh(3, ONE_ITEM);
    let spare = mesh(1, ONE_ITEM).remove(0).outbound;
    let out = std::mem::replace(&mut ends[0].outbound, spare);
    (Local::new(facts, out), ends)
}

#[test]
fn room_at_one_shard_is_told_while_another_has_none() {
    for (free, full) in [(1, 2), (2, 1)] {
        let (mut local, mut ends) = first_of_three();
        let mut waits = Waits::default();
        for to in [free, full] {
            local.answer(to, What::Credit { origin: 0, charge: 64 }, Carried::Nothing);
            assert!(!local.has_channel_room(to));
        }
        local.run(&mut waits, Instant::from_nanos(0));
        assert!(!local.take_room(), "nobody has room");
        ends[free].inbound.drain(1, |_, _| {});
        local.run(&mut waits, Instant::from_nanos(0));
        assert!(local.take_room(), "shard {free} has room");
        assert!(!local.has_channel_room(full));
    }
}

#[test]
fn a_message_that_is_dropped_without_room_keeps_no_sender_waiting() {
    let (mut local, mut ends) = first_of_three();
    local.answer(1, What::Credit { origin: 0, charge: 64 }, Carried::Nothing);
    assert!(!local.is_open(1));
    ends[1].inbound.drain(1, |_, _| {});
    local.run(&mut Waits::default(), Instant::from_nanos(0));
    assert!(!local.take_room(), "nobody asked to be told");
}
