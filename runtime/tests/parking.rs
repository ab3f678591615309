//! Goal: no order of two threads' steps loses a wake, nor lets both reach a slot. The real `parking` and the hand-off's real
//! `ring`, every order with at most three preemptions, by loom.
//!
//! Queues are one number each, published and read as a channel's tail is: that is all the order they give. A lost wake is
//! a thread that sleeps for ever, which loom reports as a deadlock.

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    // Not watched by loom: the models make the slots before the second thread begins.
    pub(crate) use std::sync::{Arc, OnceLock};

    /// As the real one, and loom fails where two threads may reach the content at a time.
    #[derive(Debug)]
    pub(crate) struct SlotCell<T>(loom::cell::UnsafeCell<T>);

    impl<T> SlotCell<T> {
        pub(crate) fn new(content: T) -> Self {
            Self(loom::cell::UnsafeCell::new(content))
        }

        #[expect(clippy::mut_from_ref, reason = "whose it is the caller knows")]
        pub(crate) unsafe fn get_mut(&self) -> &mut T {
            // SAFETY: the caller's promise, which loom checks.
            self.0.with_mut(|content| unsafe { &mut *content })
        }
    }
}

#[path = "../src/parking.rs"]
mod parking;

#[path = "../src/handoff/ring.rs"]
mod ring;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use parking::{ParkWord, Starved};
use sync::{AtomicBool, AtomicU32, Ordering, fence};

/// Runs a model in every order of its steps that takes a running thread off its core at most three times: a lost wake
/// needs one such moment on either side.
fn every_order(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A thread's word and the eventfd that it sleeps on.
struct Sleeper {
    word: ParkWord,
    event: Mutex<u32>,
    ends: Condvar,
}

impl Sleeper {
    fn new() -> Self {
        Self { word: ParkWord::new(), event: Mutex::new(0), ends: Condvar::new() }
    }

    fn wake(&self) {
        if self.word.wake() {
            self.signal();
        }
    }

    fn wake_fenced(&self) {
        if self.word.wake_fenced() {
            self.signal();
        }
    }

    fn signal(&self) {
        *self.event.lock().expect("no panic") += 1;
        self.ends.notify_one();
    }

    /// As a driver's wait. Returns how often the event was signalled in this sleep.
    fn wait(&self) -> u32 {
        if !self.word.park() {
            return 0;
        }
        let mut event = self.event.lock().expect("no panic");
        while *event == 0 {
            event = self.ends.wait(event).expect("no panic");
        }
        let signals = std::mem::take(&mut *event);
        drop(event);
        self.word.unpark();
        signals
    }
}

/// Batches sent so far, as a channel publishes them.
struct Queue(AtomicU32);

impl Queue {
    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn send(&self, batches: u32) {
        self.0.store(batches, Ordering::Release);
    }

    fn has(&self, batches: u32) -> bool {
        self.0.load(Ordering::Acquire) == batches
    }
}

#[test]
fn a_wake_is_never_lost_and_a_sleep_costs_one() {
    every_order(|| {
        let shared = Arc::new((Sleeper::new(), Queue::new()));
        let theirs = Arc::clone(&shared);
        let producer = thread::spawn(move || {
            for batch in 1..=2 {
                theirs.1.send(batch);
                theirs.0.wake();
            }
        });
        while !shared.1.has(2) {
            assert!(shared.0.wait() <= 1, "one wake per sleep");
        }
        producer.join().expect("no panic");
    });
}

#[test]
fn two_producers_wake_one_consumer() {
    every_order(|| {
        let shared = Arc::new((Sleeper::new(), [Queue::new(), Queue::new()]));
        let producers = [0, 1].map(|index: usize| {
            let theirs = Arc::clone(&shared);
            thread::spawn(move || {
                theirs.1[index].send(1);
                theirs.0.wake();
            })
        });
        while !(shared.1[0].has(1) && shared.1[1].has(1)) {
            assert!(shared.0.wait() <= 1, "one wake per sleep, whoever sent");
        }
        for producer in producers {
            producer.join().expect("no panic");
        }
    });
}

#[test]
fn a_producer_that_waits_for_a_batch_is_woken() {
    every_order(|| {
        let shared = Arc::new((Sleeper::new(), Queue::new(), Starved::new()));
        let theirs = Arc::clone(&shared);
        let consumer = thread::spawn(move || {
            theirs.1.send(1);
            fence(Ordering::SeqCst);
            if theirs.2.take_fenced() {
                theirs.0.wake_fenced();
            }
        });
        let (sleeper, returned, starved) = &*shared;
        while !returned.has(1) {
            starved.set();
            if returned.has(1) {
                starved.clear();
                break;
            }
            sleeper.wait();
        }
        consumer.join().expect("no panic");
    });
}

#[test]
fn what_was_sent_before_the_consumer_could_be_woken_is_found() {
    every_order(|| {
        let shared = Arc::new((Sleeper::new(), Queue::new(), AtomicBool::new(false)));
        let theirs = Arc::clone(&shared);
        let producer = thread::spawn(move || {
            theirs.1.send(1);
            fence(Ordering::SeqCst);
            if theirs.2.load(Ordering::Acquire) {
                theirs.0.wake_fenced();
            }
        });
        let (sleeper, queue, is_attached) = &*shared;
        is_attached.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        while !queue.has(1) {
            sleeper.wait();
        }
        producer.join().expect("no panic");
    });
}

/// A ring whose slots are made.
fn made<S: Default>(len: usize) -> (ring::Producer<S>, ring::Consumer<S>) {
    let (mut producer, consumer) = ring::ring(len);
    let _ = producer.slot().expect("an empty ring has room");
    (producer, consumer)
}

/// Fills slot after slot, each with its number behind what was left in it; yields while there is none.
fn fill(mut producer: ring::Producer<Vec<u32>>, slots: u32) {
    for number in 0..slots {
        loop {
            if let Some(slot) = producer.slot() {
                slot.push(number);
                break;
            }
            thread::yield_now();
        }
        producer.publish();
    }
}

#[test]
fn a_slot_is_reached_by_one_end_at_a_time_and_carries_what_the_other_left() {
    for len in [1, 2] {
        every_order(move || {
            const SLOTS: u32 = 3;
            let (producer, mut consumer) = made::<Vec<u32>>(len);
            let filling = thread::spawn(move || fill(producer, SLOTS));
            for number in 0..SLOTS {
                loop {
                    if let Some(slot) = consumer.slot() {
                        let before =
                            (0..number).filter(|old| old % len as u32 == number % len as u32);
                        let expected: Vec<u32> = before.chain([number]).collect();
                        assert_eq!(*slot, expected);
                        break;
                    }
                    thread::yield_now();
                }
                consumer.release();
            }
            assert!(!consumer.is_ready());
            filling.join().expect("no panic");
        });
    }
}

/// One end of a hand-off asleep or about to be, the other one too: who waits for room and who waits for work.
#[test]
fn neither_end_of_a_full_ring_sleeps_for_ever() {
    every_order(|| {
        const SLOTS: u32 = 2;
        let (mut producer, mut consumer) = made::<u32>(1);
        let ends = Arc::new((Sleeper::new(), Sleeper::new(), Starved::new()));
        let theirs = Arc::clone(&ends);
        let filling = thread::spawn(move || {
            let (filler, emptier, starved) = &*theirs;
            for number in 0..SLOTS {
                while !producer.has_room() {
                    starved.set();
                    if producer.has_room() {
                        starved.clear();
                        break;
                    }
                    filler.wait();
                }
                *producer.slot().expect("there is room") = number;
                producer.publish();
                emptier.wake();
            }
        });
        let (filler, emptier, starved) = &*ends;
        let mut taken = 0;
        while taken < SLOTS {
            if let Some(slot) = consumer.slot() {
                assert_eq!(*slot, taken);
                consumer.release();
                taken += 1;
                // As the drain after this one does.
                fence(Ordering::SeqCst);
                if starved.take_fenced() {
                    filler.wake_fenced();
                }
            } else {
                emptier.wait();
            }
        }
        filling.join().expect("no panic");
    });
}
