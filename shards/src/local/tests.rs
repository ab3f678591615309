//! Goal: who found no room towards a shard is told when that shard has some, whatever happens towards the others.
use cubed_runtime::{HandOff, HandOffOptions, handoff::mesh};

use super::*;
use crate::handed::Settlement;

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

#[test]
fn a_message_that_ended_as_unknown_gives_its_room_back_once() {
    let (mut local, mut ends) = first_of_three();
    let (mut waits, now) = (Waits::default(), Instant::from_nanos(0));
    let way = local.open(ChannelId::DEFAULT, &FlowName::new("f").unwrap()).unwrap();
    let to = usize::from(local.settle_on_shard(way));
    let terms = Terms { options: SendOptions::default(), token: None, answer_by: None };
    let mut handed = None;
    while handed.is_none() {
        // The name of the flow goes first, and takes the only place.
        let _ = local.send(&mut waits, way, Carried::Slice(b"x"), terms);
        local.run(&mut waits, now);
        ends[to].inbound.drain(8, |_, item| {
            if let What::Message(header) = std::mem::take(&mut item.what) {
                handed = Some(header);
            }
        });
    }
    let header = handed.expect("handed over");
    let Kind::Acknowledged { id } = header.kind else { panic!("acknowledged") };
    local.close(&mut waits);
    // The queue took it meanwhile, and its task was done with it.
    local.settled(&mut waits, id, Settlement::Held);
    local.give_back(header.origin, header.charge);
    assert_eq!(local.ways[way as usize].outstanding, 0);
    assert_eq!((local.tally().unknown, local.tally().pending), (1, 0));
}
