//! Goal: items arrive once and in order, batches come home, full and closed are told, sleepers are woken once.

use std::thread;
use std::time::Duration;

use super::ring::ring;
use super::{HandOff, HandOffOptions, PushError, mesh};
use crate::driver::uring::{UringDriver, UringOptions};
use crate::driver::{Driver, DriverWaker};
use crate::socket::{SocketOptions, UdpSocket};
use crate::{Clock, MemoryNetwork};

const SMALL: HandOffOptions = HandOffOptions { batch_items_max: 4, batches_max: 2 };

fn pair<T: Send>(options: HandOffOptions) -> (HandOff<T>, HandOff<T>) {
    let mut shards = mesh(2, options);
    let second = shards.pop().expect("two shards");
    (shards.pop().expect("two shards"), second)
}

fn drain(shard: &mut HandOff<u64>, items_max: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    shard.inbound.drain(items_max, |_, item| seen.push(*item));
    seen
}

#[test]
fn an_item_waits_for_the_flush_and_a_full_batch_does_not() {
    let (mut first, mut second) = pair(SMALL);
    for item in 0..5 {
        first.outbound.push(1, item).expect("room");
    }
    assert_eq!(drain(&mut second, 100), [0, 1, 2, 3]);
    first.outbound.flush();
    assert_eq!(drain(&mut second, 100), [4]);
    assert!(second.inbound.is_empty());
}

#[test]
fn a_producer_without_a_batch_keeps_its_item_and_is_told() {
    let (mut first, mut second) = pair(SMALL);
    for item in 0..8 {
        first.outbound.push(1, item).expect("room");
    }
    assert_eq!(first.outbound.push(1, 8), Err(PushError::Full(8)));
    assert_eq!(first.outbound.stats().full, 1);
    // Half a batch drained gives nothing back; the rest of it does.
    assert_eq!(drain(&mut second, 2), [0, 1]);
    assert_eq!(first.outbound.push(1, 8), Err(PushError::Full(8)));
    assert_eq!(drain(&mut second, 2), [2, 3]);
    first.outbound.push(1, 8).expect("a batch came back");
    first.outbound.flush();
    assert_eq!(drain(&mut second, 100), [4, 5, 6, 7, 8]);
    assert_eq!(first.outbound.stats().items, 9);
}

#[test]
fn what_a_budget_cut_is_taken_whole_by_a_drain_without_one() {
    let (mut first, mut second) = pair(SMALL);
    for cut in 1..4 {
        for item in 0..4 {
            first.outbound.push(1, item).expect("room");
        }
        let mut seen = drain(&mut second, cut);
        assert_eq!(seen.len(), cut);
        seen.extend(drain(&mut second, usize::MAX));
        assert_eq!(seen, [0, 1, 2, 3]);
    }
}

#[test]
fn a_drain_takes_of_each_producer_in_turn_and_says_when_more_is_there() {
    let mut shards = mesh(3, SMALL);
    for shard in shards.iter_mut().take(2) {
        for item in 0..8 {
            shard.outbound.push(2, item).expect("room");
        }
    }
    let mut seen = Vec::new();
    let drained = shards[2].inbound.drain(10, |from, item| seen.push((from, *item)));
    assert_eq!((drained.items, drained.has_more), (10, true));
    assert_eq!(seen.iter().filter(|(from, _)| *from == 1).count(), 4, "{seen:?}");
    let drained = shards[2].inbound.drain(10, |from, item| seen.push((from, *item)));
    assert_eq!((drained.items, drained.has_more), (6, true), "producers may wait to be woken");
    let drained = shards[2].inbound.drain(10, |_, _| panic!("nothing is there"));
    assert_eq!((drained.items, drained.has_more), (0, false));
    for from in 0..2 {
        let items = seen.iter().filter(|(source, _)| *source == from).map(|(_, item)| *item);
        assert!(items.eq(0..8), "in order: {seen:?}");
    }
}

#[test]
fn memory_that_stays_in_an_item_comes_back_to_its_producer() {
    let (mut first, mut second) = pair::<Vec<u8>>(SMALL);
    let mut places = Vec::new();
    for round in 0..6u8 {
        for _ in 0..4 {
            let fill = |item: &mut Vec<u8>| {
                item.clear();
                item.extend_from_slice(&[round; 1_000]);
                places.push(item.as_ptr());
            };
            first.outbound.push_with(1, fill).expect("room");
        }
        second.inbound.drain(100, |_, item| assert_eq!(item[..], [round; 1_000]));
    }
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 8, "two batches of four went round and round");
}

#[test]
fn whoever_is_gone_is_told_as_closed() {
    let (mut first, second) = pair::<u64>(SMALL);
    first.outbound.push(1, 1).expect("room");
    assert!(!first.outbound.is_closed(1));
    let (ends, network) = (second.outbound, MemoryNetwork::new());
    let mut driver = network.bind("192.0.2.1:1".parse().expect("address")).expect("free");
    first.inbound.attach(driver.waker());
    drop(second.inbound);
    assert!(first.outbound.is_closed(1));
    // What was open is counted as lost at the flush, what comes after at the push.
    first.outbound.flush();
    assert_eq!(first.outbound.push(1, 2), Err(PushError::Closed(2)));
    assert_eq!(first.outbound.stats().closed, 2);
    driver.wait(None, &mut |_| {}).expect("wait");
    assert_eq!(driver.stats().wakes, 1, "the end of a shard wakes the others");
    drop(ends);
}

#[test]
fn a_flush_without_items_wakes_nobody() {
    let (mut first, second) = pair::<u64>(SMALL);
    let network = MemoryNetwork::new();
    let mut driver = network.bind("192.0.2.1:1".parse().expect("address")).expect("free");
    second.inbound.attach(driver.waker());
    assert!(first.outbound.has_room(1));
    assert!(!first.outbound.flush());
    driver.wait(None, &mut |_| {}).expect("wait");
    assert_eq!(driver.stats().wakes, 0, "room was asked for, and nothing sent");
    assert!(first.outbound.has_room(1));
    first.outbound.push(1, 1).expect("room");
    assert!(first.outbound.flush());
    driver.wait(None, &mut |_| {}).expect("wait");
    assert_eq!(driver.stats().wakes, 1);
}

#[test]
fn a_shard_reaches_itself() {
    let mut alone = mesh(1, SMALL);
    alone[0].outbound.push(0, 7).expect("room");
    alone[0].outbound.flush();
    assert_eq!(drain(&mut alone[0], 1), [7]);
}

/// A shard's thread with a real ring: sleeps until `count` items have come, checks their order.
fn consume(mut shard: HandOff<u64>, count: u64) -> (u64, u64) {
    let address = "127.0.0.1:0".parse().expect("address");
    let socket = UdpSocket::bind(address, &SocketOptions::default()).expect("bind");
    let mut driver = UringDriver::new(socket, UringOptions::default()).expect("io_uring");
    let waker: DriverWaker = driver.waker();
    shard.inbound.attach(waker);
    let (mut next, clock) = (0, Clock::new());
    while next < count {
        let drained = shard.inbound.drain(50, |_, item| {
            assert_eq!(*item, next);
            next += 1;
        });
        if !drained.has_more && next < count {
            // A lost wake shows as this deadline: far beyond what any machine needs.
            let deadline = clock.now_nanos() + Duration::from_mins(1).as_nanos() as u64;
            driver.wait(Some(deadline), &mut |_| {}).expect("wait");
            assert!(clock.now_nanos() < deadline, "woken in time");
        }
    }
    (shard.inbound.stats().items, driver.stats().waits)
}

#[test]
fn a_sleeping_consumer_gets_everything_in_order() {
    const ITEMS: u64 = 300_000;
    let (mut first, second) = pair(HandOffOptions::default());
    let consumer = thread::spawn(move || consume(second, ITEMS));
    for item in 0..ITEMS {
        let mut item = first.outbound.push(1, item);
        while let Err(PushError::Full(kept)) = item {
            thread::yield_now();
            item = first.outbound.push(1, kept);
        }
        item.expect("the consumer lives");
        if first.outbound.stats().items % 37 == 0 {
            first.outbound.flush();
        }
    }
    first.outbound.flush();
    let (items, waits) = consumer.join().expect("no panic");
    assert_eq!(items, ITEMS);
    let stats = first.outbound.stats();
    assert!(stats.wakes <= waits, "at most one wake of {stats:?} for each of {waits} sleeps");
}

#[test]
fn a_producer_that_waits_is_woken_by_the_drain_that_the_last_one_asks_for() {
    let (mut first, mut second) = pair(SMALL);
    let network = MemoryNetwork::new();
    let driver = network.bind("192.0.2.1:1".parse().expect("address")).expect("free");
    first.inbound.attach(driver.waker());
    for item in 0..8 {
        first.outbound.push(1, item).expect("room");
    }
    assert_eq!(first.outbound.push(1, 8), Err(PushError::Full(8)));
    let mut driver = driver;
    assert_eq!(drain(&mut second, 4), [0, 1, 2, 3]);
    driver.wait(None, &mut |_| {}).expect("wait");
    assert_eq!(driver.stats().wakes, 0, "not yet");
    assert_eq!(drain(&mut second, 4), [4, 5, 6, 7]);
    driver.wait(None, &mut |_| {}).expect("wait");
    assert_eq!(driver.stats().wakes, 1);
}

#[test]
#[should_panic(expected = "`slot` gave it")]
fn a_producer_publishes_no_slot_of_the_consumer() {
    let (mut producer, _consumer) = ring::<u8>(1);
    assert!(producer.slot().is_some());
    producer.publish();
    producer.publish();
}

#[test]
#[should_panic(expected = "`slot` gave it")]
fn a_consumer_releases_no_slot_of_the_producer() {
    let (mut producer, mut consumer) = ring::<u8>(1);
    assert!(producer.slot().is_some());
    consumer.release();
}

#[test]
fn what_was_not_drained_is_dropped_with_the_mesh_and_what_was_replaced_at_once() {
    let item = std::sync::Arc::new(());
    let (mut first, second) = pair(SMALL);
    for _ in 0..6 {
        first.outbound.push(1, std::sync::Arc::clone(&item)).expect("room");
    }
    assert_eq!(std::sync::Arc::strong_count(&item), 7);
    let mut second = second;
    second.inbound.drain(4, |_, _| {});
    assert_eq!(std::sync::Arc::strong_count(&item), 7, "old ones stay in their places");
    for _ in 0..6 {
        first.outbound.push(1, std::sync::Arc::clone(&item)).expect("room");
    }
    assert_eq!(std::sync::Arc::strong_count(&item), 9, "four of them replaced old ones");
    drop((first, second));
    assert_eq!(std::sync::Arc::strong_count(&item), 1);
}
