//! The streams that an agent sends now, and what ends them early: an order, or the silence of the controller that began them.
//!
//! A stream runs exactly as long as its future exists, so one that panicked is not waited for. No stream outlives its controller's
//! last order by more than [`SILENCE_MAX`] and a look.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::{Rc, Weak},
    task::{Poll, Waker},
    time::Duration,
};

use cubed::{Instant, PublicKey};

/// A controller that says nothing for this long is gone. Longer than it waits for an answer of another agent, as it asks them
/// one after the other.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The streams of one run.
#[derive(Debug, Default)]
pub(super) struct Streams {
    running: RefCell<Vec<Weak<Running>>>,
    /// Who began them, and when it last gave an order.
    controller: Cell<Option<(PublicKey, Instant)>>,
}

/// One stream, held by its future.
#[derive(Debug, Default)]
pub(super) struct Running {
    is_ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Streams {
    /// The streams that are added from here on are this controller's.
    pub(super) fn begin(&self, controller: PublicKey, now: Instant) {
        self.running.borrow_mut().clear();
        self.controller.set(Some((controller, now)));
    }

    /// One more stream.
    pub(super) fn add(&self) -> Rc<Running> {
        let stream = Rc::default();
        self.running.borrow_mut().push(Rc::downgrade(&stream));
        stream
    }

    /// Takes note that `controller` gave an order.
    pub(super) fn hear(&self, controller: PublicKey, now: Instant) {
        if self.is_of(controller) {
            self.controller.set(Some((controller, now)));
        }
    }

    /// Ends all of them early if their controller is silent.
    pub(super) fn look(&self, now: Instant) {
        let is_silent = |(_, heard)| now.saturating_duration_since(heard) > SILENCE_MAX;
        if self.controller.get().is_some_and(is_silent) {
            self.end();
        }
    }

    /// Ends all of them early if they are this controller's.
    pub(super) fn stop(&self, controller: PublicKey) {
        if self.is_of(controller) {
            self.end();
        }
    }

    /// Whether one has not ended.
    pub(super) fn are_running(&self) -> bool {
        self.running.borrow().iter().any(|stream| stream.strong_count() > 0)
    }

    fn is_of(&self, controller: PublicKey) -> bool {
        self.controller.get().is_some_and(|(key, _)| key == controller)
    }

    fn end(&self) {
        let running = self.running.take();
        running.iter().filter_map(Weak::upgrade).for_each(|stream| stream.end());
    }
}

impl Running {
    /// Polls `work` to its end; `None` when it was ended early, which drops it.
    pub(super) async fn until_ended<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if self.is_ended.get() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = work.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            let mut waker = self.waker.borrow_mut();
            match &mut *waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => *waker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    fn end(&self) {
        self.is_ended.set(true);
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a stream ends with its controller and with its future, and with nobody else.
    use std::future::pending;

    use cubed::{Identity, block_on};

    use super::*;

    fn key() -> PublicKey {
        Identity::generate().unwrap().public_key()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    /// Streams of a controller, heard at 0 s.
    fn begun() -> (Streams, PublicKey, Rc<Running>) {
        let (streams, controller) = (Streams::default(), key());
        streams.begin(controller, at(0));
        let stream = streams.add();
        (streams, controller, stream)
    }

    #[test]
    fn a_stream_that_is_dropped_no_longer_runs() {
        let (streams, _, stream) = begun();
        assert!(streams.are_running());
        drop(stream);
        assert!(!streams.are_running());
    }

    #[test]
    fn silence_ends_a_stream_and_the_word_of_another_does_not_keep_it() {
        let (streams, controller, stream) = begun();
        streams.hear(controller, at(10));
        streams.look(at(25));
        assert_eq!(block_on(stream.until_ended(async { 7 })), Some(7));
        streams.hear(key(), at(25));
        streams.look(at(26));
        assert_eq!(block_on(stream.until_ended(pending::<()>())), None);
    }

    #[test]
    fn only_its_own_controller_stops_a_stream() {
        let (streams, controller, stream) = begun();
        streams.stop(key());
        assert_eq!(block_on(stream.until_ended(async { 7 })), Some(7));
        streams.stop(controller);
        assert_eq!(block_on(stream.until_ended(pending::<()>())), None);
    }
}
