//! Deadlines and the tasks that sleep until them; never reads a clock.
//!
//! Given: the time, by whoever calls [`Timers::fire`] (the shard's pump). Always holds: a sleep is over
//! only once `fire` was told a time at or past its deadline; a dropped sleep leaves nothing behind;
//! equal deadlines fire in the order they were set.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A deadline and a number that tells equal ones apart.
type Key = (u64, u64);

/// All sleeps of one shard, by deadline. Setting, firing and dropping one costs O(log n).
#[derive(Debug, Default)]
pub struct Timers {
    sleeping: RefCell<BTreeMap<Key, Waker>>,
    now_nanos: Cell<u64>,
    serial: Cell<u64>,
}

impl Timers {
    /// No sleeps, at time 0.
    pub fn new() -> Rc<Self> {
        Rc::new(Self::default())
    }

    /// A future that is ready once `fire` has been told `deadline_nanos` or later.
    pub fn sleep_until(timers: &Rc<Self>, deadline_nanos: u64) -> Sleep {
        let serial = timers.serial.get();
        timers.serial.set(serial + 1);
        Sleep { timers: Rc::clone(timers), key: (deadline_nanos, serial), registered: false }
    }

    /// The time has come to `now_nanos`: wakes every task whose deadline passed; returns how many.
    ///
    /// A time before the last one is ignored.
    pub fn fire(&self, now_nanos: u64) -> usize {
        let now_nanos = now_nanos.max(self.now_nanos.get());
        self.now_nanos.set(now_nanos);
        let mut fired = 0;
        while let Some(waker) = self.take_due(now_nanos) {
            waker.wake();
            fired += 1;
        }
        fired
    }

    /// The earliest deadline that a task sleeps until.
    #[inline]
    pub fn next_deadline(&self) -> Option<u64> {
        self.sleeping.borrow().first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// How many tasks sleep.
    pub fn len(&self) -> usize {
        self.sleeping.borrow().len()
    }

    /// Whether no task sleeps.
    pub fn is_empty(&self) -> bool {
        self.sleeping.borrow().is_empty()
    }

    /// The map is free again when this returns, so that a waker may set or drop sleeps.
    fn take_due(&self, now_nanos: u64) -> Option<Waker> {
        let mut sleeping = self.sleeping.borrow_mut();
        let entry = sleeping.first_entry()?;
        (entry.key().0 <= now_nanos).then(|| entry.remove())
    }
}

/// A sleep; see [`Timers::sleep_until`]. Does nothing until polled.
#[derive(Debug)]
#[must_use = "a sleep does nothing unless awaited"]
pub struct Sleep {
    timers: Rc<Timers>,
    key: Key,
    registered: bool,
}

impl Sleep {
    /// When it ends.
    pub fn deadline_nanos(&self) -> u64 {
        self.key.0
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.key.0 <= self.timers.now_nanos.get() {
            self.registered = false;
            return Poll::Ready(());
        }
        let mut sleeping = self.timers.sleeping.borrow_mut();
        sleeping
            .entry(self.key)
            .and_modify(|waker| waker.clone_from(context.waker()))
            .or_insert_with(|| context.waker().clone());
        drop(sleeping);
        self.registered = true;
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if self.registered {
            // The waker is dropped after the map is free: it may own a task, and that one sleeps.
            let removed = self.timers.sleeping.borrow_mut().remove(&self.key);
            drop(removed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Timers;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waker() -> (Arc<Counter>, Waker) {
        let counter = Arc::new(Counter::default());
        (Arc::clone(&counter), Waker::from(counter))
    }

    #[test]
    fn a_sleep_is_over_at_its_deadline_and_not_before() {
        let timers = Timers::new();
        let (woken, waker) = waker();
        let mut context = Context::from_waker(&waker);
        let mut sleep = pin!(Timers::sleep_until(&timers, 100));
        assert_eq!(timers.next_deadline(), None, "nothing is set before the first poll");
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        assert_eq!(timers.next_deadline(), Some(100));
        assert_eq!(timers.fire(99), 0);
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        assert_eq!(timers.len(), 1);
        assert_eq!(timers.fire(100), 1);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(sleep.as_mut().poll(&mut context), Poll::Ready(()));
        assert!(timers.is_empty());
    }

    #[test]
    fn a_deadline_in_the_past_is_ready_at_once() {
        let timers = Timers::new();
        timers.fire(50);
        timers.fire(20);
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(Timers::sleep_until(&timers, 50)).poll(&mut context).is_ready());
        assert!(timers.is_empty());
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let timers = Timers::new();
        let (woken, waker) = waker();
        let mut context = Context::from_waker(&waker);
        {
            let mut sleep = pin!(Timers::sleep_until(&timers, 100));
            let mut twin = pin!(Timers::sleep_until(&timers, 100));
            assert!(sleep.as_mut().poll(&mut context).is_pending());
            assert!(twin.as_mut().poll(&mut context).is_pending());
            assert_eq!(timers.len(), 2);
        }
        assert!(timers.is_empty());
        assert_eq!(timers.fire(200), 0);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_last_task_to_poll_is_the_one_woken() {
        let timers = Timers::new();
        let ((first, first_waker), (second, second_waker)) = (waker(), waker());
        let mut sleep = pin!(Timers::sleep_until(&timers, 10));
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&first_waker)).is_pending());
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&second_waker)).is_pending());
        assert_eq!(timers.fire(10), 1);
        assert_eq!(first.0.load(Ordering::Relaxed), 0);
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_thousand_sleeps_fire_in_order() {
        let timers = Timers::new();
        let (woken, waker) = waker();
        let mut context = Context::from_waker(&waker);
        let mut sleeps: Vec<_> = (0..1_000u64)
            .map(|index| Box::pin(Timers::sleep_until(&timers, 1 + index * 7_919 % 1_000)))
            .collect();
        for sleep in &mut sleeps {
            assert!(sleep.as_mut().poll(&mut context).is_pending());
        }
        for now in 1..=1_000 {
            assert_eq!(timers.next_deadline(), Some(now));
            assert_eq!(timers.fire(now), 1);
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 1_000);
    }
}
