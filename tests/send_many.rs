//! Goal: many bodies handed over by one call are as many messages, and the call tells how many were taken.
mod support;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;

use cubed::{Capacity, Destination, SendError, Shard, block_on};
use support::{PATIENCE, receiver, sender_to, stop};

/// Lengths around every bound of the ways that a body may take: short, whole, split, handed over in slices.
const LENGTHS: [usize; 12] = [0, 8, 64, 65, 191, 192, 500, 1_300, 1_440, 5_000, 16_384, 40_000];

/// The body with this number, which is told by its bytes.
fn body(number: usize) -> Vec<u8> {
    vec![number as u8; LENGTHS[(number * number + number / 3) % LENGTHS.len()]]
}

/// Sends all bodies, waiting whenever a call takes fewer than it was given.
async fn send_all(to: &Destination, bodies: &[Vec<u8>]) -> usize {
    let (mut sent, mut calls) = (0, 0);
    while sent < bodies.len() {
        calls += 1;
        let left = bodies[sent..].iter().map(Vec::as_slice);
        match to.try_send_many(left) {
            Ok(taken) => sent += taken,
            Err(error) => {
                assert_eq!(error, SendError::Full);
                to.ready().await.expect("the node runs");
            }
        }
    }
    calls
}

#[test]
fn every_body_is_a_message_and_none_comes_twice() {
    const COUNT: usize = 3_000;
    let (seen, arrived) = mpsc::channel();
    let to = receiver(move |shard| {
        let seen = seen.clone();
        shard
            .flow("many")
            .handler(move |message, _| {
                let _ = seen.send(message.body().to_vec());
            })
            .expect("a new flow");
    });
    let (from, key) = (sender_to(&to), to.public_key());
    let calls = from.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, "many").expect("a valid name");
        let bodies: Vec<Vec<u8>> = (0..COUNT).map(body).collect();
        send_all(&to, &bodies).await
    });
    assert!(block_on(calls).expect("the node runs") > 1, "the log takes fewer than all at once");
    let mut got: Vec<Vec<u8>> =
        (0..COUNT).map(|_| arrived.recv_timeout(PATIENCE).expect("all arrive")).collect();
    let mut wanted: Vec<Vec<u8>> = (0..COUNT).map(body).collect();
    got.sort();
    wanted.sort();
    assert!(got == wanted, "other bodies than were sent");
    stop(&[&from, &to]);
    assert!(arrived.try_recv().is_err(), "one came twice");
}

#[test]
fn a_flow_of_the_node_itself_takes_many_until_its_window_is_full() {
    let node = receiver(|_| ());
    let key = node.public_key();
    let done = node.on_shard(0, move |shard: Shard| async move {
        let mut queue = shard.flow("own").queue(Capacity::bytes(64 << 10)).expect("a new flow");
        let to = shard.resolve(key, "own").expect("a valid name");
        let bodies = vec![[7; 1_000]; 100];
        let window = (64 << 10) / 1_064;
        assert_eq!(to.try_send_many(bodies.iter().map(|body| &body[..])), Ok(window));
        let again = to.try_send_many(bodies.iter().map(|body| &body[..]));
        assert_eq!(again, Err(SendError::Full), "not even the first");
        assert_eq!(queue.next_batch().await.expect("runs").len(), window);
    });
    block_on(done).expect("the node runs");
    stop(&[&node]);
}

#[test]
fn what_is_wrong_with_a_body_is_told_by_the_call_that_begins_with_it() {
    let to = receiver(|shard| shard.flow("many").handler(|_, _| ()).expect("a new flow"));
    let (from, key) = (sender_to(&to), to.public_key());
    let done = from.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, "many").expect("a valid name");
        to.connect().await.expect("a session");
        let long = vec![0; 100 << 20];
        let bodies: [&[u8]; 4] = [b"one", b"two", &long, b"four"];
        assert_eq!(to.try_send_many(bodies), Ok(2));
        assert!(matches!(to.try_send_many(bodies[2..].to_vec()), Err(SendError::TooLarge { .. })));
        assert_eq!(to.try_send_many(bodies[3..].to_vec()), Ok(1));
        assert_eq!(to.try_send_many([]), Ok(0));
    });
    block_on(done).expect("the node runs");
    stop(&[&from, &to]);
}

#[test]
fn a_handler_sends_many_through_the_outbox() {
    let (seen, arrived) = mpsc::channel();
    let node = receiver(move |shard| {
        let seen = seen.clone();
        let sink = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            let _ = seen.send(message.body().to_vec());
        };
        shard.flow("sink").handler(sink).expect("a new flow");
    });
    let relay = receiver(|_| ());
    let (key, at, relay_key) = (node.public_key(), node.local_addr(), relay.public_key());
    let done = relay.on_shard(0, move |shard| async move {
        shard.add_peer(key, at).expect("room for a peer");
        let to = shard.resolve(key, "sink").expect("a valid name");
        to.connect().await.expect("a session");
        let taken = Rc::new(RefCell::new(None));
        let told = Rc::clone(&taken);
        let handler = move |_: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            *told.borrow_mut() = Some(to.try_send_many([&b"a"[..], b"bb", b"ccc"]));
        };
        shard.flow("relay").handler(handler).expect("a new flow");
        let own = shard.resolve(relay_key, "relay").expect("a valid name");
        own.send(b"go").acknowledged().await.expect("taken");
        assert_eq!(*taken.borrow(), Some(Ok(3)));
    });
    block_on(done).expect("the node runs");
    let got: Vec<_> = (0..3).map(|_| arrived.recv_timeout(PATIENCE).expect("arrives")).collect();
    assert_eq!(got, [&b"a"[..], b"bb", b"ccc"]);
    stop(&[&relay, &node]);
}

#[test]
fn an_iterator_that_panics_leaves_what_was_taken() {
    let (seen, arrived) = mpsc::channel();
    let to = receiver(move |shard| {
        let seen = seen.clone();
        let sink = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            let _ = seen.send(message.body().len());
        };
        shard.flow("many").handler(sink).expect("a new flow");
    });
    let (from, key) = (sender_to(&to), to.public_key());
    let done = from.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, "many").expect("a valid name");
        to.send(b"").acknowledged().await.expect("delivered");
        let body = [7; 100];
        // Of each length that goes its own way: by the word, whole, in parts.
        for bytes in [10, 100] {
            let bodies = (0..300).map(|number| {
                assert!(number < 250, "the caller's fault");
                &body[..bytes]
            });
            let call = AssertUnwindSafe(|| to.try_send_many(bodies));
            assert!(catch_unwind(call).is_err());
        }
        to.send(b"last").acknowledged().await.expect("delivered");
        while shard.stats().expect("no handler").tally.pending > 0 {
            shard.yield_now().await;
        }
        shard.stats().expect("no handler").tally
    });
    let tally = block_on(done).expect("the node runs");
    assert_eq!(tally.delivered, tally.offered);
    stop(&[&from, &to]);
    let got: Vec<_> = arrived.iter().collect();
    assert_eq!(got.len() as u64, tally.offered);
    assert_eq!(got.iter().filter(|bytes| **bytes == 100).count(), 250, "each was taken by itself");
}
