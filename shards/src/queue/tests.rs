//! Goal: bodies, senders and credit of a batch are those of its messages.
use super::*;
use crate::origins::{FORWARDED, UNCHARGED};
use cubed_transport::PeerId;
use std::task::Context;

const KEYS: [PublicKey; 2] = [PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32])];

fn message(from: usize, body: Body<'_>) -> Incoming<'_> {
    Incoming {
        peer: PeerId(from as u64),
        sender: &KEYS[from],
        flow: 0,
        alias: 7,
        session: 9,
        body,
        request: None,
        service: Service::Acknowledged,
    }
}

fn queue(capacity: Capacity) -> (Queue, SharedQueue, Rc<RefCell<Outbox>>) {
    let state = QueueState::new(capacity);
    let outbox = Rc::new(RefCell::new(Outbox::default()));
    (Queue::new(Rc::clone(&state), Rc::clone(&outbox), None), state, outbox)
}

#[test]
fn a_batch_holds_what_was_pushed_in_order() {
    let (mut queue, state, _outbox) = queue(Capacity::bytes(1 << 20));
    let mut large = vec![5; OWNED_BODY_BYTES_MIN];
    state.borrow_mut().push(&mut message(0, Body::Borrowed(b"one"))).unwrap();
    state.borrow_mut().push(&mut message(1, Body::Assembled(&mut large))).unwrap();
    state.borrow_mut().push(&mut message(0, Body::Borrowed(b""))).unwrap();
    assert!(large.is_empty(), "an assembled body is taken, not copied");
    let batch = queue.try_next_batch().unwrap();
    let seen: Vec<_> = batch.iter().map(|one| (*one.sender(), one.body().len())).collect();
    assert_eq!(seen, [(KEYS[0], 3), (KEYS[1], OWNED_BODY_BYTES_MIN), (KEYS[0], 0)]);
    assert_eq!(batch.iter().next().unwrap().body(), b"one");
    assert!(queue.try_next_batch().is_none());
}

#[test]
fn a_dropped_batch_gives_back_what_its_messages_were_charged() {
    let (mut queue, state, outbox) = queue(Capacity::bytes(1 << 20));
    for _ in 0..10 {
        state.borrow_mut().push(&mut message(0, Body::Borrowed(&[0; 100]))).unwrap();
        state.borrow_mut().push(&mut message(1, Body::Borrowed(&[0; 36]))).unwrap();
    }
    assert_eq!(state.borrow().held(), (20, 10 * (164 + 100)));
    drop(queue.try_next_batch().unwrap());
    assert_eq!(state.borrow().held(), (0, 0));
    let released = outbox.borrow().releases_for_test();
    assert_eq!(released, [(PeerId(0), 1_640), (PeerId(1), 1_000)]);
}

#[test]
fn a_full_queue_refuses_and_takes_again_after_the_batch_is_dropped() {
    let (mut queue, state, _outbox) = queue(Capacity::bytes(200).total(200));
    let push = || state.borrow_mut().push(&mut message(0, Body::Borrowed(&[0; 100])));
    assert_eq!(push(), Ok(()));
    assert_eq!(push(), Err(Refusal::QueueFull));
    let batch = queue.try_next_batch().unwrap();
    assert_eq!(push(), Err(Refusal::QueueFull), "a batch in use is still held");
    drop(batch);
    assert_eq!(push(), Ok(()));
}

/// As another shard passes it on.
fn passed_on(origin: u32, service: Service) -> Incoming<'static> {
    Incoming { peer: HERE, alias: origin, service, ..message(0, Body::Borrowed(&[0; 100])) }
}

#[test]
fn a_full_queue_takes_nothing_whichever_shard_it_came_to() {
    for (origin, service) in
        [(UNCHARGED, Service::BestEffort), (FORWARDED | 3, Service::Acknowledged)]
    {
        let (_queue, state, _outbox) = queue(Capacity::bytes(200).total(200));
        let push = |mut message| state.borrow_mut().push(&mut message);
        assert_eq!(push(passed_on(origin, service)), Ok(()));
        assert_eq!(push(passed_on(origin, service)), Err(Refusal::QueueFull), "{service:?}");
        assert_eq!(state.borrow().held(), (1, 164));
    }
}

#[test]
fn no_capacity_takes_offsets_beyond_31_bits() {
    let (_queue, state, _outbox) = queue(Capacity::bytes(1 << 40).total(1 << 40));
    state.borrow_mut().held_bytes = QUEUE_HELD_BYTES_MAX - 200;
    let push = |mut message| state.borrow_mut().push(&mut message);
    assert_eq!(push(passed_on(FORWARDED | 3, Service::Acknowledged)), Ok(()));
    assert_eq!(push(passed_on(FORWARDED | 3, Service::Acknowledged)), Err(Refusal::QueueFull));
    assert_eq!(push(message(0, Body::Borrowed(&[0; 100]))), Err(Refusal::QueueFull));
}

#[test]
fn a_dropped_queue_refuses_and_returns_its_credit() {
    let (queue, state, outbox) = queue(Capacity::bytes(1 << 20));
    state.borrow_mut().push(&mut message(0, Body::Borrowed(b"x"))).unwrap();
    drop(queue);
    assert_eq!(outbox.borrow().releases_for_test(), [(PeerId(0), 65)]);
    let late = state.borrow_mut().push(&mut message(0, Body::Borrowed(b"x")));
    assert_eq!(late, Err(Refusal::NoSuchFlow));
}

#[test]
fn waiting_ends_with_a_message_or_with_the_shard() {
    let (mut queue, state, _outbox) = queue(Capacity::bytes(1 << 20));
    let mut context = Context::from_waker(Waker::noop());
    let mut poll = |queue: &mut Queue| {
        let mut next = std::pin::pin!(queue.next_batch());
        next.as_mut().poll(&mut context).map(|batch| batch.map(|batch| batch.len()))
    };
    assert_eq!(poll(&mut queue), Poll::Pending);
    state.borrow_mut().push(&mut message(0, Body::Borrowed(b"x"))).unwrap();
    assert_eq!(poll(&mut queue), Poll::Ready(Some(1)));
    state.borrow_mut().stop();
    assert_eq!(poll(&mut queue), Poll::Ready(None));
}

#[test]
fn best_effort_is_held_but_gives_back_no_credit() {
    let (mut queue, state, outbox) = queue(Capacity::bytes(1 << 20));
    let mut best_effort = message(0, Body::Borrowed(b"tick"));
    best_effort.service = Service::BestEffort;
    state.borrow_mut().push(&mut best_effort).unwrap();
    assert_eq!(state.borrow().held(), (1, 68));
    drop(queue.try_next_batch());
    assert_eq!(state.borrow().held(), (0, 0));
    assert_eq!(outbox.borrow().releases_for_test(), [(PeerId(0), 0)]);
}

#[test]
fn credit_that_comes_back_is_no_answer() {
    let (mut queue, state, outbox) = queue(Capacity::bytes(1 << 20));
    state.borrow_mut().push(&mut message(0, Body::Borrowed(b"one"))).unwrap();
    drop(queue.try_next_batch().unwrap());
    assert_eq!(outbox.borrow().releases_for_test().len(), 1);
    assert!(!outbox.borrow().has_messages());
}

#[test]
fn a_total_beyond_what_a_queue_can_hold_is_that_much() {
    let capacity = Capacity::bytes(1 << 20);
    assert_eq!(capacity.total(u64::MAX).total_bytes, 2 << 30);
    assert_eq!(capacity.total(3 << 29).total_bytes, 3 << 29);
}
