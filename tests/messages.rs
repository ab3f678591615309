//! Goal: over real sockets, messages of every size and service arrive as they were sent.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use cubed::{Capacity, Outcome, Refusal, RequestError, SendError, block_on};
use support::{PATIENCE, eventually, number, receiver, send_numbered, sender_to, stop};

#[test]
fn ten_thousand_acknowledged_messages_arrive_once() {
    let (numbers, received) = mpsc::channel();
    let bob = receiver(move |shard| {
        let numbers = numbers.clone();
        let handler = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            let _ = numbers.send((number(message.body()), message.body().len()));
        };
        shard.flow("numbers").handler(handler).expect("a new flow");
    });
    let alice = sender_to(&bob);
    send_numbered(&alice, &bob, "numbers", 10_000, 64);
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    assert_eq!((report.offered, report.delivered), (10_000, 10_000));
    let mut received: Vec<_> = received.try_iter().collect();
    received.sort_unstable();
    let expected: Vec<_> = (0..10_000).map(|number| (number, 64)).collect();
    assert_eq!(received.len(), expected.len());
    assert_eq!(received, expected);
    stop(&[&alice, &bob]);
}

#[test]
fn messages_from_nothing_to_64_mib_arrive_unchanged() {
    let (hashes, received) = mpsc::channel();
    let bob = receiver(move |shard| {
        let hashes = hashes.clone();
        let handler = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            let _ = hashes.send(blake3::hash(message.body()));
        };
        shard.flow("blobs").handler(handler).expect("a new flow");
    });
    let alice = sender_to(&bob);
    let blobs = alice.resolve(bob.public_key(), "blobs").unwrap();
    for bytes in [0, 1, 1_400, 1_452, 16 << 10, (1 << 20) + 1, 64 << 20] {
        let mut body = vec![0; bytes];
        blake3::Hasher::new().update(&bytes.to_le_bytes()).finalize_xof().fill(&mut body);
        let hash = blake3::hash(&body);
        assert_eq!(block_on(blobs.send(body)), Ok(Outcome::Delivered), "{bytes} bytes");
        assert_eq!(received.recv_timeout(PATIENCE), Ok(hash), "{bytes} bytes");
    }
    assert!(received.try_recv().is_err(), "nothing arrives twice");
    stop(&[&alice, &bob]);
}

#[test]
fn a_message_above_the_limit_is_refused_before_it_is_sent() {
    let bob = receiver(|shard| shard.flow("blobs").handler(|_, _| {}).expect("a new flow"));
    let alice = sender_to(&bob);
    let blobs = alice.resolve(bob.public_key(), "blobs").unwrap();
    block_on(blobs.connect()).unwrap();
    let limit = 64 << 20;
    let too_large = SendError::TooLarge { bytes: limit + 1, bytes_max: limit };
    let sent = block_on(blobs.send(vec![0; limit as usize + 1]));
    assert_eq!(sent, Err(cubed::WaitError::Send(too_large)));
    assert_eq!(block_on(alice.stats()).unwrap().tally().offered, 0);
    stop(&[&alice, &bob]);
}

#[test]
fn best_effort_messages_arrive_on_an_idle_path() {
    let (numbers, received) = mpsc::channel();
    let bob = receiver(move |shard| {
        let numbers = numbers.clone();
        let handler = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            assert_eq!(message.service(), cubed::Service::BestEffort);
            let _ = numbers.send(message.body().to_vec());
        };
        shard.flow("ticks").handler(handler).expect("a new flow");
    });
    let alice = sender_to(&bob);
    let ticks = alice.resolve(bob.public_key(), "ticks").unwrap();
    block_on(ticks.connect()).unwrap();
    for tick in ["one", "two", "three"] {
        block_on(ticks.send_best_effort(tick)).unwrap();
        assert_eq!(received.recv_timeout(PATIENCE).unwrap(), tick.as_bytes());
    }
    assert_eq!(block_on(alice.stats()).unwrap().tally().offered, 0, "nothing was acknowledged");
    stop(&[&alice, &bob]);
}

#[test]
fn requests_are_answered_or_end_at_their_deadline() {
    let bob = receiver(|shard| {
        let flow = shard.flow("upper");
        let upper = flow.handler(|message, context| {
            context.reply(&message.body().to_ascii_uppercase()).expect("room in the outbox");
        });
        upper.expect("a new flow");
        shard.flow("silent").handler(|_, _| {}).expect("a new flow");
        let plain = shard.flow("plain").takes_requests(false);
        plain.handler(|_, _| {}).expect("a new flow");
    });
    let alice = sender_to(&bob);
    let to = |flow| alice.resolve(bob.public_key(), flow).unwrap();
    let answer = block_on(to("upper").request("shout", PATIENCE));
    assert_eq!(answer.unwrap(), "SHOUT");
    let large = vec![b'a'; 200_000];
    assert_eq!(block_on(to("upper").request(large, PATIENCE)).unwrap(), vec![b'A'; 200_000]);
    let begun = std::time::Instant::now();
    let none = block_on(to("silent").request("anybody?", Duration::from_millis(60)));
    assert_eq!(none, Err(RequestError::Expired));
    assert!((60..2_000).contains(&begun.elapsed().as_millis()));
    let refused = block_on(to("plain").request("anybody?", PATIENCE));
    assert_eq!(refused, Err(RequestError::Refused(Refusal::NotAServer)));
    stop(&[&alice, &bob]);
}

#[test]
fn requests_that_come_together_are_handled_in_their_order_and_answered() {
    let (numbers, handled) = mpsc::channel();
    let bob = receiver(move |shard| {
        let numbers = numbers.clone();
        let echo = move |message: &cubed::Message<'_>, context: &mut cubed::Context<'_>| {
            let _ = numbers.send(number(message.body()));
            context.reply(message.body()).expect("room in the outbox");
        };
        shard.flow("echo").handler(echo).expect("a new flow");
    });
    let alice = sender_to(&bob);
    let key = bob.public_key();
    let answers = block_on(alice.on_shard(0, move |shard| async move {
        let echo = shard.resolve(key, "echo").unwrap();
        echo.connect().await.unwrap();
        // A dozen datagrams, which arrive as one batch or as a few.
        let body = |number: u64| [number.to_le_bytes(), [7; 8]].concat().repeat(5);
        let ask = |number: u64| shard.spawn_local(echo.request(&body(number), PATIENCE));
        let mut answers = 0;
        for asked in (0..200).map(ask).collect::<Vec<_>>() {
            assert_eq!(asked.await.unwrap().unwrap(), body(answers));
            answers += 1;
        }
        answers
    }));
    assert_eq!(answers, Ok(200));
    assert_eq!(handled.try_iter().collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    stop(&[&alice, &bob]);
}

#[test]
fn a_dropped_request_leaves_no_wait_behind() {
    let bob = receiver(|shard| shard.flow("silent").handler(|_, _| {}).expect("a new flow"));
    let alice = sender_to(&bob);
    let key = bob.public_key();
    let open = block_on(alice.on_shard(0, move |shard| async move {
        let silent = shard.resolve(key, "silent").unwrap();
        silent.connect().await.unwrap();
        let mut request = Box::pin(silent.request(b"anybody?", PATIENCE));
        let mut polled = false;
        // Polled once, so that it is on its way; then dropped.
        std::future::poll_fn(|context| {
            polled |= request.as_mut().poll(context).is_pending();
            std::task::Poll::Ready(())
        })
        .await;
        let during = shard.stats().unwrap().waits_open;
        drop(request);
        assert!(polled);
        (during, shard.stats().unwrap().waits_open)
    }));
    assert_eq!(open, Ok((1, 0)));
    // The same from outside: the call's task ends, and its wait with it.
    let remote = alice.resolve(key, "silent").unwrap();
    let mut request = Box::pin(remote.request("anybody?", PATIENCE));
    let waker = std::task::Waker::noop();
    assert!(request.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    let waits = || block_on(alice.stats()).unwrap().shards[0].waits_open;
    eventually("the request is on its way", || waits() == 1);
    drop(request);
    eventually("the request is forgotten", || waits() == 0);
    stop(&[&alice, &bob]);
}

#[test]
fn a_slow_queue_slows_its_sender_and_loses_nothing() {
    const COUNT: u64 = 3_000;
    let (numbers, received) = mpsc::channel();
    let bob = receiver(move |shard| {
        let numbers = numbers.clone();
        // 128 KiB of credit: 123 messages of 1,000 B, so the sender has to wait many times.
        let mut queue = shard.flow("slow").queue(Capacity::bytes(128 << 10)).expect("a new flow");
        let own = shard.clone();
        shard.spawn_local(async move {
            while let Some(batch) = queue.next_batch().await {
                assert!(batch.len() <= 124, "{} messages exceed the credit", batch.len());
                for message in &batch {
                    let _ = numbers.send((number(message.body()), message.body().len()));
                }
                own.sleep(Duration::from_micros(300)).await;
            }
        });
    });
    let alice = sender_to(&bob);
    send_numbered(&alice, &bob, "slow", COUNT, 1_000);
    let report = block_on(alice.drain(PATIENCE)).unwrap();
    assert_eq!((report.offered, report.delivered), (COUNT, COUNT));
    let received: Vec<_> = (0..COUNT).map(|_| received.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(received.iter().copied().eq((0..COUNT).map(|number| (number, 1_000))));
    eventually("all credit is given back", || {
        let stats = block_on(bob.stats()).unwrap();
        let slow = stats.flow("slow").unwrap();
        slow.accepted == COUNT && (slow.queued, slow.queued_bytes) == (0, 0)
    });
    stop(&[&alice, &bob]);
}

#[test]
fn a_queue_answers_requests_from_its_batches() {
    let bob = receiver(|shard| {
        let mut queue = shard.flow("sum").queue(Capacity::bytes(1 << 20)).expect("a new flow");
        shard.spawn_local(async move {
            let mut later = None;
            while let Some(batch) = queue.next_batch().await {
                for message in &batch {
                    let sum: u64 = message.body().iter().map(|byte| u64::from(*byte)).sum();
                    if let Some((responder, first)) = later.take() {
                        let answered: Result<(), _> =
                            cubed::Responder::reply(responder, &u64::to_le_bytes(first));
                        assert!(answered.is_ok());
                        message.reply(&sum.to_le_bytes()).expect("room in the outbox");
                    } else {
                        later = Some((message.responder().expect("a request"), sum));
                    }
                }
            }
        });
    });
    let alice = sender_to(&bob);
    let sum = alice.resolve(bob.public_key(), "sum").unwrap();
    let first = std::thread::spawn({
        let sum = sum.clone();
        move || block_on(sum.request(vec![1, 2, 3], PATIENCE))
    });
    // The first answer waits for the second request: answers may come in any order.
    eventually("the first request is queued", || {
        block_on(bob.stats()).unwrap().flow("sum").is_some_and(|flow| flow.accepted == 1)
    });
    let second = block_on(sum.request(vec![10, 20], PATIENCE)).unwrap();
    assert_eq!(number(&first.join().unwrap().unwrap()), 6);
    assert_eq!(number(&second), 30);
    stop(&[&alice, &bob]);
}

#[test]
fn handlers_send_through_context_and_ordinary_handles_alike() {
    // Bob forwards each message back to Alice, once by the context and once by the handle itself.
    let (echoes, received) = mpsc::channel();
    let alice = receiver(move |shard| {
        let echoes = echoes.clone();
        let handler = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            let _ = echoes.send(message.body().to_vec());
        };
        shard.flow("echoes").handler(handler).expect("a new flow");
    });
    let bob = receiver(|shard| {
        let own = shard.clone();
        let learn = move |message: &cubed::Message<'_>, _: &mut cubed::Context<'_>| {
            let (own, sender) = (own.clone(), *message.sender());
            assert!(own.resolve(sender, "echoes").is_err(), "not within a handler");
            let task = own.clone();
            own.spawn_local(async move {
                let back = task.resolve(sender, "echoes").expect("resolved");
                let forward =
                    move |message: &cubed::Message<'_>, context: &mut cubed::Context<'_>| {
                        context
                            .send_acknowledged(&back, message.body())
                            .expect("room in the outbox");
                        back.try_send_acknowledged(message.body()).expect("room in the outbox");
                        assert!(!back.is_connected(), "the endpoint is busy with this message");
                    };
                task.flow("forward").handler(forward).expect("a new flow");
            });
        };
        shard.flow("learn").handler(learn).expect("a new flow");
    });
    // Alice is reached over the session that she dialled.
    let (key, at) = (bob.public_key(), bob.local_addr());
    let dialled = block_on(alice.on_shard(0, move |shard| async move {
        shard.add_peer(key, at).unwrap();
        let learn = shard.resolve(key, "learn").unwrap();
        learn.send(b"").acknowledged().await.unwrap()
    }));
    assert_eq!(dialled, Ok(Outcome::Delivered));
    eventually("bob's task has learnt the way back", || {
        block_on(bob.stats()).unwrap().flow("forward").is_some()
    });
    let forward = alice.resolve(key, "forward").unwrap();
    for word in ["one", "two"] {
        assert_eq!(block_on(forward.send(word)), Ok(Outcome::Delivered));
        for _ in 0..2 {
            assert_eq!(received.recv_timeout(PATIENCE).unwrap(), word.as_bytes());
        }
    }
    assert_eq!(block_on(bob.stats()).unwrap().shards[0].outbox_taken, 4);
    stop(&[&alice, &bob]);
}
