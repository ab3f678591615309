//! Goal: a flow of the node's own is sent to like one of a peer, with the same outcomes, order and back-pressure.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cubed::{
    Bytes, Capacity, Destination, Node, Outcome, Policy, Refusal, RequestError, SendError, Shard,
    block_on,
};
use support::{PATIENCE, builder, stop};

/// Runs `body` on the one shard of a node that lets nobody in, and ends the node.
fn alone<T, F, Fut>(body: F) -> T
where
    T: Send + 'static,
    F: FnOnce(Shard) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let node = started();
    let result = block_on(node.on_shard(0, body)).expect("the node runs");
    stop(&[&node]);
    result
}

fn started() -> Node {
    builder().policy(Policy::deny()).start(async |_: Shard| ()).expect("starts")
}

fn own(shard: &Shard, flow: &str) -> Destination {
    shard.resolve(shard.public_key(), flow).expect("our own flow")
}

#[test]
fn a_handler_gets_what_its_own_node_sends() {
    let seen = alone(async |shard: Shard| {
        let (seen, key) = (Rc::new(RefCell::new(Vec::new())), shard.public_key());
        let sink = Rc::clone(&seen);
        let handler = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            assert_eq!(*message.sender(), key);
            sink.borrow_mut().push(message.body().to_vec());
        };
        shard.flow("log").handler(handler).expect("registered");
        let to = own(&shard, "log");
        assert!(to.is_local() && to.is_connected() && !to.is_down());
        assert_eq!(to.peer_key(), Some(key));
        to.connect().await.expect("always");
        for number in 0..100u32 {
            let body = vec![number as u8; number as usize * 200];
            assert_eq!(to.message(&body).ordered().await, Ok(Outcome::Delivered));
        }
        to.send(b"best effort").await.expect("room");
        assert_eq!(to.send(b"last").acknowledged().await, Ok(Outcome::Delivered));
        let tally = shard.stats().expect("no handler").tally;
        assert_eq!((tally.offered, tally.delivered, tally.pending), (101, 101, 0));
        seen.take()
    });
    assert_eq!(seen.len(), 102);
    assert!((0..100).all(|number| seen[number] == vec![number as u8; number * 200]));
    assert_eq!(seen[101], b"last");
}

#[test]
fn what_nobody_takes_is_refused_by_name() {
    alone(async |shard: Shard| {
        let to = own(&shard, "later");
        let refused = Ok(Outcome::Refused(Refusal::NoSuchFlow));
        assert_eq!(to.send(b"x").acknowledged().await, refused);
        shard
            .flow("later")
            .message_bytes_max(10)
            .takes_requests(false)
            .handler(|_, _| {})
            .expect("new");
        assert_eq!(to.send(b"x").acknowledged().await, Ok(Outcome::Delivered));
        let refused = Ok(Outcome::Refused(Refusal::TooLarge));
        assert_eq!(to.send(&[0; 11]).acknowledged().await, refused);
        let refused = Err(RequestError::Refused(Refusal::NotAServer));
        assert_eq!(to.request(b"x", PATIENCE).await, refused);
        shard.remove_flow("later").expect("no handler");
        let refused = Ok(Outcome::Refused(Refusal::NoSuchFlow));
        assert_eq!(to.send(b"x").acknowledged().await, refused);
        to.send(b"x").await.expect("room");
        // An acknowledged one behind it: the best effort has been dropped, and counted.
        assert_eq!(to.send(b"x").acknowledged().await, refused);
        assert_eq!(shard.stats().expect("no handler").local.dropped, 1);
    });
}

/// The memory of a body, which says when it ends.
struct Memory(Vec<u8>, Arc<AtomicU32>);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_long_body_that_nobody_takes_is_freed_at_once() {
    alone(async |shard: Shard| {
        let freed = Arc::new(AtomicU32::new(0));
        let body = || Bytes::from_owner(Memory(vec![7; 100_000], Arc::clone(&freed)));
        shard.flow("plain").takes_requests(false).handler(|_, _| {}).expect("new");
        let (plain, nowhere) = (own(&shard, "plain"), own(&shard, "nowhere"));
        let refused = Ok(Outcome::Refused(Refusal::NoSuchFlow));
        assert_eq!(nowhere.send_owned(body()).acknowledged().await, refused);
        assert_eq!(freed.load(Ordering::Relaxed), 1, "no such flow");
        let refused = Err(RequestError::Refused(Refusal::NotAServer));
        assert_eq!(plain.request_owned(body(), PATIENCE).await, refused);
        assert_eq!(freed.load(Ordering::Relaxed), 2, "no server");
        let late = plain.message_owned(body()).deadline(Duration::ZERO).await;
        assert_eq!(late, Ok(Outcome::Expired));
        assert_eq!(freed.load(Ordering::Relaxed), 3, "too late");
        assert_eq!(plain.send_owned(body()).acknowledged().await, Ok(Outcome::Delivered));
        assert_eq!(freed.load(Ordering::Relaxed), 4, "handled");
    });
}

#[test]
fn requests_are_answered_or_expire() {
    alone(async |shard: Shard| {
        let answer = |message: &cubed::Message<'_>, context: &mut cubed::Context<'_>| {
            if message.body() != b"silence" {
                context.reply(&[message.body(), b"!"].concat()).expect("room");
            }
        };
        shard.flow("ask").handler(answer).expect("new");
        let to = own(&shard, "ask");
        assert_eq!(to.request(b"hear", PATIENCE).await.expect("a reply"), b"hear!"[..]);
        let expired = to.request(b"silence", Duration::from_millis(20)).await;
        assert_eq!(expired, Err(RequestError::Expired));
        let stats = shard.stats().expect("no handler");
        assert_eq!((stats.local.pending, stats.waits_open), (0, 0));
    });
}

#[test]
fn a_queue_that_is_not_read_holds_its_senders_up() {
    alone(async |shard: Shard| {
        let capacity = Capacity::bytes(64 << 10);
        let mut queue = shard.flow("slow").queue(capacity).expect("new");
        let to = own(&shard, "slow");
        let body = [7; 1_000];
        let mut sent = 0u64;
        loop {
            match to.try_send_acknowledged(&body) {
                Ok(()) => sent += 1,
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    break;
                }
            }
        }
        assert_eq!(
            sent,
            (64 << 10) / 1_064,
            "the window of the queue, in bodies and 64 bytes each"
        );
        // Accepted is delivered; room comes back only when the batch has been dropped.
        while shard.stats().expect("no handler").tally.pending > 0 {
            shard.yield_now().await;
        }
        assert_eq!(to.try_send_acknowledged(&body), Err(SendError::Full));
        let batch = queue.next_batch().await.expect("runs");
        assert_eq!(batch.len() as u64, sent);
        drop(batch);
        to.ready().await.expect("runs");
        assert_eq!(to.send(&body).acknowledged().await, Ok(Outcome::Delivered));
    });
}

#[test]
fn only_the_latest_value_waits_for_room() {
    alone(async |shard: Shard| {
        let mut queue = shard.flow("level").queue(Capacity::bytes(64 << 10)).expect("new");
        let to = own(&shard, "level");
        let first = vec![1; 60_000];
        to.message(&first).latest_value().send().expect("always room");
        // These find no room: each takes the place of the one before.
        for value in 2..10u8 {
            to.message(&vec![value; 60_000]).latest_value().send().expect("always room");
        }
        let mut values = Vec::new();
        while values.len() < 2 {
            let batch = queue.next_batch().await.expect("runs");
            values.extend(batch.iter().map(|message| message.body()[0]));
        }
        assert_eq!(values, [1, 9]);
        while shard.stats().expect("no handler").tally.pending > 0 {
            shard.yield_now().await;
        }
        let tally = shard.stats().expect("no handler").tally;
        assert_eq!((tally.offered, tally.delivered, tally.expired), (9, 2, 7));
    });
}

#[test]
fn a_handler_reaches_its_own_node_through_the_outbox() {
    alone(async |shard: Shard| {
        let next = own(&shard, "second");
        let relay = move |message: &cubed::Message<'_>, context: &mut cubed::Context<'_>| {
            context.send_acknowledged(&next, message.body()).expect("room");
        };
        shard.flow("first").handler(relay).expect("new");
        let mut queue = shard.flow("second").queue(Capacity::bytes(1 << 20)).expect("new");
        let to = own(&shard, "first");
        for number in 0..1_000u32 {
            while to.try_send_acknowledged(&number.to_le_bytes()) == Err(SendError::Full) {
                to.ready().await.expect("runs");
            }
        }
        let mut seen = Vec::new();
        while seen.len() < 1_000 {
            let batch = queue.next_batch().await.expect("runs");
            seen.extend(batch.iter().map(|message| message.body().to_vec()));
        }
        assert!(seen.iter().zip(0u32..).all(|(body, number)| body[..] == number.to_le_bytes()));
    });
}

#[test]
fn other_threads_reach_a_flow_of_the_node_and_a_drain_waits_for_it() {
    let node = started();
    let register = async |shard: Shard| {
        shard.flow("echo").handler(|message, context| {
            if message.is_request() {
                context.reply(message.body()).expect("room");
            }
        })
    };
    block_on(node.on_shard(0, register)).expect("runs").expect("new");
    let to = node.resolve(node.public_key(), "echo").expect("a name");
    assert_eq!(block_on(to.request(&b"hear"[..], PATIENCE)).expect("a reply"), b"hear"[..]);
    assert_eq!(block_on(to.send(&b"x"[..])), Ok(Outcome::Delivered));
    let report = block_on(node.drain(PATIENCE)).expect("runs");
    assert_eq!((report.offered, report.delivered), (3, 3), "request, its reply, and a message");
    let closing = block_on(to.send(&b"x"[..]));
    assert_eq!(closing, Err(cubed::WaitError::Send(SendError::Closing)));
    stop(&[&node]);
}

#[test]
fn a_message_past_its_deadline_is_not_delivered() {
    alone(async |shard: Shard| {
        shard.flow("punctual").handler(|_, _| unreachable!("past its deadline")).expect("new");
        let to = own(&shard, "punctual");
        let expired = to.message(b"late").deadline(Duration::ZERO).await;
        assert_eq!(expired, Ok(Outcome::Expired));
    });
}

#[test]
fn another_thread_reads_a_flow_in_order_and_answers() {
    const MESSAGES: u32 = 5_000;
    let node = started();
    let subscribed = block_on(node.subscribe("in", Capacity::bytes(64 << 10)));
    let mut queue = subscribed.expect("a new flow");
    let again = block_on(node.subscribe("in", Capacity::bytes(64 << 10)));
    assert!(matches!(again, Err(cubed::FlowError::Exists(_))));
    let send = async |shard: Shard| {
        let to = own(&shard, "in");
        for number in 0..MESSAGES {
            while to.message(&number.to_le_bytes()).ordered().send() == Err(SendError::Full) {
                to.ready().await.expect("runs");
            }
        }
        to.request(b"done?", PATIENCE).await.expect("an answer")
    };
    let sender = std::thread::spawn({
        let node = node.clone();
        move || block_on(node.on_shard(0, send)).expect("runs")
    });
    let mut next = 0;
    while next <= MESSAGES {
        // One that is not waited for loses nothing.
        let polled = {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            std::pin::pin!(queue.next_batch()).as_mut().poll(&mut context)
        };
        let batch = match polled {
            std::task::Poll::Ready(batch) => batch,
            std::task::Poll::Pending => block_on(queue.next_batch()),
        };
        for message in &batch.expect("the node runs") {
            assert_eq!(*message.sender(), node.public_key());
            if message.is_request() {
                assert_eq!(block_on(message.reply(&b"yes"[..])), Ok(()));
            } else {
                assert_eq!(message.body()[..], next.to_le_bytes());
            }
            next += 1;
        }
    }
    assert_eq!(sender.join().expect("no panic"), b"yes"[..]);
    drop(queue);
    // Its name is free again, soon.
    support::eventually("the flow is gone", || {
        block_on(node.subscribe("in", Capacity::bytes(64 << 10))).is_ok()
    });
    node.shutdown();
    assert_eq!(node.join(), Ok(()));
}
