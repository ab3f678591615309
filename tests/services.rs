//! Goal: over real sockets, what is asked of a message is kept, from a shard and from other threads.

mod support;

use std::future::IntoFuture;
use std::sync::mpsc;
use std::time::Duration;

use cubed::{Outcome, Priority, SendError, Service, block_on};
use support::{PATIENCE, eventually, number, receiver, sender_to, stop};

/// A receiver that tells of each message on the flow `numbers`, and what it hears.
fn listening() -> (cubed::Node, mpsc::Receiver<(u64, Service)>) {
    let (numbers, received) = mpsc::channel();
    let bob = receiver(move |shard| {
        let numbers = numbers.clone();
        let handler = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            let _ = numbers.send((number(message.body()), message.service()));
        };
        shard.flow("numbers").handler(handler).expect("a new flow");
    });
    (bob, received)
}

#[test]
fn ordered_messages_of_many_sizes_come_in_order() {
    let (bob, received) = listening();
    let alice = sender_to(&bob);
    let key = bob.public_key();
    let sent = alice.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, "numbers").expect("a valid flow name");
        for count in 0..3_000u64 {
            let mut body = vec![0; [8, 700, 3_000, 20_000][count as usize % 4]];
            body[..8].copy_from_slice(&count.to_le_bytes());
            while let Err(error) = to.message(&body).ordered().send() {
                assert_eq!(error, SendError::Full);
                to.ready().await.expect("the node runs");
            }
        }
    });
    block_on(sent).expect("the node runs");
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    assert_eq!((report.offered, report.delivered), (3_000, 3_000));
    let received: Vec<_> = received.try_iter().collect();
    let expected: Vec<_> = (0..3_000).map(|number| (number, Service::Ordered)).collect();
    assert_eq!(received, expected);
    stop(&[&alice, &bob]);
}

#[test]
fn values_end_with_the_latest() {
    let (bob, received) = listening();
    let alice = sender_to(&bob);
    let key = bob.public_key();
    let sent = alice.on_shard(0, move |shard| async move {
        let to = shard.resolve(key, "numbers").expect("a valid flow name");
        for count in 0..5_000u64 {
            to.message(&count.to_le_bytes()).latest_value().send().expect("a value finds room");
        }
    });
    block_on(sent).expect("the node runs");
    let mut last = None;
    eventually("the latest value arrives", || {
        for (number, service) in received.try_iter() {
            assert_eq!(service, Service::LatestValue);
            assert!(Some(number) > last, "{number} after {last:?}");
            last = Some(number);
        }
        last == Some(4_999)
    });
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    assert_eq!(report.delivered + report.expired + report.refused, 5_000);
    stop(&[&alice, &bob]);
}

#[test]
fn a_deadline_ends_what_nobody_answers_and_nothing_else() {
    // Somebody who never answers: a socket that is not read.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = cubed::Identity::generate().unwrap().public_key();
    let (bob, received) = listening();
    let alice = support::builder()
        .peer(bob.public_key(), bob.local_addr())
        .peer(nobody, silent.local_addr().unwrap())
        .start(async |_: cubed::Shard| ())
        .unwrap();
    let lost = alice.resolve(nobody, "numbers").unwrap();
    let message = lost.message(vec![0; 8]).deadline(Duration::from_millis(50)).retries(3).burst(4);
    assert_eq!(block_on(message.into_future()), Ok(Outcome::Expired));
    let numbers = alice.resolve(bob.public_key(), "numbers").unwrap();
    let message = numbers.message(7u64.to_le_bytes().to_vec());
    let message = message.ordered().priority(Priority::High).deadline(PATIENCE);
    assert_eq!(block_on(message.into_future()), Ok(Outcome::Delivered));
    assert_eq!(received.recv_timeout(PATIENCE), Ok((7, Service::Ordered)));
    stop(&[&alice, &bob]);
}
