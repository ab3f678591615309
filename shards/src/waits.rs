//! What local futures wait for: outcomes, replies, room at a peer, the end of a dial.
//!
//! A wait is one slot, named by a token that the endpoint hands back when the wait ends. Slots are
//! reused; the generation in the token tells a late answer from the present owner. Always holds: a
//! future that is dropped forgets its slot, so nothing is kept for nobody; a token means one wait, also
//! after the slots of a burst were given back.

use std::collections::HashMap;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cubed_transport::{DialFailure, Outcome, PeerId, Token};

use crate::limits::SPARE_WAITS_MAX;

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum End {
    /// An acknowledged message was settled.
    Outcome(Outcome),
    /// A request was answered.
    Reply(Bytes),
    /// The peer takes messages again.
    Room,
    /// The dial ended.
    Dialled(Result<(), DialFailure>),
    /// The peer that was dialled is forgotten.
    Forgotten,
    /// The shard stops and will answer nothing more.
    Stopped,
}

/// All waits of one shard.
#[derive(Default)]
pub(crate) struct Waits {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Of a slot that is made: no token of those that were given back has it, or a later one.
    first_generation: u32,
    peers: HashMap<PeerId, PeerWaits>,
}

struct Slot {
    generation: u32,
    state: State,
}

enum State {
    Free,
    Waiting(Option<Waker>),
    Ended(End),
}

#[derive(Default)]
struct PeerWaits {
    /// A send said `Full` and the endpoint has not said `Writable` since.
    full: bool,
    room: Vec<Token>,
    dials: Vec<Token>,
}

impl Waits {
    /// Opens a wait; the caller polls it to its end or forgets it.
    pub(crate) fn open(&mut self) -> Token {
        self.open_with(None)
    }

    /// Opens a wait as if it had been polled with this context.
    #[inline]
    pub(crate) fn open_for(&mut self, context: &Context<'_>) -> Token {
        self.open_with(Some(context.waker().clone()))
    }

    #[inline]
    fn open_with(&mut self, waker: Option<Waker>) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: self.first_generation, state: State::Free });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.state = State::Waiting(waker);
        token(slot.generation, index)
    }

    /// Opens a wait for room at `peer`.
    pub(crate) fn open_room(&mut self, peer: PeerId) -> Token {
        let token = self.open();
        self.peers.entry(peer).or_default().room.push(token);
        token
    }

    /// Opens a wait for the end of the dial to `peer`.
    pub(crate) fn open_dial(&mut self, peer: PeerId) -> Token {
        let token = self.open();
        self.peers.entry(peer).or_default().dials.push(token);
        token
    }

    /// Ends a wait. A token that was forgotten meanwhile is ignored.
    pub(crate) fn end(&mut self, token: Token, end: End) {
        let Some(slot) = self.slot(token) else { return };
        if let State::Waiting(waker) = std::mem::replace(&mut slot.state, State::Ended(end))
            && let Some(waker) = waker
        {
            waker.wake();
        }
    }

    /// The end of a wait, which frees its slot; or pending, with the waker kept.
    ///
    /// A token that is not open (after [`Waits::stop`], say) is answered with [`End::Stopped`].
    pub(crate) fn poll(&mut self, token: Token, context: &Context<'_>) -> Poll<End> {
        let Some(slot) = self.slot(token) else {
            return Poll::Ready(End::Stopped);
        };
        match &mut slot.state {
            State::Waiting(Some(waker)) => {
                waker.clone_from(context.waker());
                return Poll::Pending;
            }
            State::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            State::Free | State::Ended(_) => {}
        }
        match self.free(token) {
            State::Ended(end) => Poll::Ready(end),
            State::Free | State::Waiting(_) => Poll::Ready(End::Stopped),
        }
    }

    /// Forgets a wait, ended or not. `peer` is given for waits on a peer.
    pub(crate) fn forget(&mut self, token: Token, peer: Option<PeerId>) {
        if self.slot(token).is_some() {
            self.free(token);
        }
        if let Some(waits) = peer.and_then(|peer| self.peers.get_mut(&peer)) {
            waits.room.retain(|other| *other != token);
            waits.dials.retain(|other| *other != token);
        }
    }

    /// A send to `peer` was turned away for want of room.
    #[cold]
    pub(crate) fn note_full(&mut self, peer: PeerId) {
        self.peers.entry(peer).or_default().full = true;
    }

    /// Whether the last word about `peer` was that it has no room.
    pub(crate) fn is_full(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|waits| waits.full)
    }

    /// `peer` has room again, or its state changed so that waiting senders had better ask again.
    pub(crate) fn room(&mut self, peer: PeerId) {
        let Some(waits) = self.peers.get_mut(&peer) else {
            return;
        };
        waits.full = false;
        for token in std::mem::take(&mut waits.room) {
            self.end(token, End::Room);
        }
    }

    /// The dial to `peer` ended.
    pub(crate) fn dialled(&mut self, peer: PeerId, result: &Result<(), DialFailure>) {
        let Some(waits) = self.peers.get_mut(&peer) else {
            return;
        };
        for token in std::mem::take(&mut waits.dials) {
            self.end(token, End::Dialled(result.clone()));
        }
    }

    /// `peer` is forgotten: whoever waits for it is told, by [`End::Room`] that sending says so, and nothing is kept for it.
    pub(crate) fn forgotten(&mut self, peer: PeerId) {
        let Some(waits) = self.peers.remove(&peer) else {
            return;
        };
        for token in waits.room {
            self.end(token, End::Room);
        }
        for token in waits.dials {
            self.end(token, End::Forgotten);
        }
    }

    /// Ends every wait with [`End::Stopped`].
    pub(crate) fn stop(&mut self) {
        self.peers.clear();
        for slot in &mut self.slots {
            if let State::Waiting(waker) = &mut slot.state {
                let waker = waker.take();
                slot.state = State::Ended(End::Stopped);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }

    /// Waits open now.
    pub(crate) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.0 as u32 as usize)?;
        let present = slot.generation == (token.0 >> 32) as u32;
        (present && !matches!(slot.state, State::Free)).then_some(slot)
    }

    fn free(&mut self, token: Token) -> State {
        let index = token.0 as u32;
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        let state = std::mem::replace(&mut slot.state, State::Free);
        if self.slots.len() > SPARE_WAITS_MAX && self.free.len() == self.slots.len() {
            self.give_back();
        }
        state
    }

    /// Frees the memory of a burst that is over. Making the slots again costs no more than it did before.
    #[cold]
    fn give_back(&mut self) {
        let generations = self.slots.iter().map(|slot| slot.generation);
        self.first_generation = generations.max().unwrap_or(self.first_generation);
        self.slots = Vec::new();
        self.free = Vec::new();
    }
}

fn token(generation: u32, index: u32) -> Token {
    Token(u64::from(generation) << 32 | u64::from(index))
}

const _: () = assert!(SPARE_WAITS_MAX * (size_of::<Slot>() + size_of::<u32>()) <= 84 << 10);

#[cfg(test)]
mod tests {
    //! Goal: an answer reaches the future that asked, never its slot's next owner.
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    const PEER: PeerId = PeerId(3);

    fn poll(waits: &mut Waits, token: Token) -> Poll<End> {
        waits.poll(token, &Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_wait_ends_once_and_frees_its_slot() {
        let mut waits = Waits::default();
        let token = waits.open();
        assert!(poll(&mut waits, token).is_pending());
        waits.end(token, End::Outcome(Outcome::Delivered));
        let end = poll(&mut waits, token);
        assert!(matches!(end, Poll::Ready(End::Outcome(Outcome::Delivered))));
        assert_eq!(waits.count(), 0);
        assert!(matches!(poll(&mut waits, token), Poll::Ready(End::Stopped)));
    }

    #[test]
    fn a_wait_that_was_opened_with_a_waker_wakes() {
        struct Woken(AtomicUsize);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (mut waits, woken) = (Waits::default(), Arc::new(Woken(AtomicUsize::new(0))));
        let waker = Waker::from(Arc::clone(&woken));
        let token = waits.open_for(&Context::from_waker(&waker));
        waits.end(token, End::Reply(Bytes::from_static(b"yes")));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        let end = poll(&mut waits, token);
        assert!(matches!(end, Poll::Ready(End::Reply(body)) if body == "yes"));
    }

    #[test]
    fn a_late_answer_misses_the_next_owner_of_the_slot() {
        let mut waits = Waits::default();
        let dropped = waits.open();
        waits.forget(dropped, None);
        let next = waits.open();
        assert_eq!(dropped.0 as u32, next.0 as u32, "the slot is reused");
        waits.end(dropped, End::Outcome(Outcome::PeerLost));
        assert!(poll(&mut waits, next).is_pending());
    }

    #[test]
    fn room_ends_all_waits_of_its_peer_and_no_other() {
        let mut waits = Waits::default();
        waits.note_full(PEER);
        let (here, elsewhere) = (waits.open_room(PEER), waits.open_room(PeerId(4)));
        assert!(waits.is_full(PEER));
        waits.room(PEER);
        assert!(!waits.is_full(PEER));
        assert!(matches!(poll(&mut waits, here), Poll::Ready(End::Room)));
        assert!(poll(&mut waits, elsewhere).is_pending());
    }

    #[test]
    fn a_forgotten_wait_on_a_peer_leaves_no_token_behind() {
        let mut waits = Waits::default();
        let (room, dial) = (waits.open_room(PEER), waits.open_dial(PEER));
        waits.forget(room, Some(PEER));
        waits.forget(dial, Some(PEER));
        let peer = &waits.peers[&PEER];
        assert!(peer.room.is_empty() && peer.dials.is_empty());
        assert_eq!(waits.count(), 0);
    }

    #[test]
    fn a_forgotten_peer_ends_all_waits_on_it() {
        let mut waits = Waits::default();
        waits.note_full(PEER);
        let (room, dial) = (waits.open_room(PEER), waits.open_dial(PEER));
        let elsewhere = waits.open_dial(PeerId(4));
        waits.forgotten(PEER);
        assert!(matches!(poll(&mut waits, room), Poll::Ready(End::Room)));
        assert!(matches!(poll(&mut waits, dial), Poll::Ready(End::Forgotten)));
        assert!(poll(&mut waits, elsewhere).is_pending());
        assert!(!waits.peers.contains_key(&PEER) && !waits.is_full(PEER));
    }

    #[test]
    fn a_burst_gives_its_memory_back_and_late_answers_miss_whoever_comes_next() {
        let mut waits = Waits::default();
        let mut old = Vec::new();
        for round in 0..3 {
            let tokens: Vec<_> = (0..=SPARE_WAITS_MAX).map(|_| waits.open()).collect();
            old.extend_from_slice(&tokens);
            for token in tokens {
                assert!(waits.slots.capacity() > SPARE_WAITS_MAX, "round {round}: not over yet");
                waits.forget(token, None);
            }
            assert_eq!((waits.slots.capacity(), waits.free.capacity()), (0, 0), "round {round}");
        }
        let next: Vec<_> = (0..SPARE_WAITS_MAX).map(|_| waits.open()).collect();
        for token in old {
            waits.end(token, End::Room);
            assert!(matches!(poll(&mut waits, token), Poll::Ready(End::Stopped)));
        }
        assert!(next.iter().all(|token| poll(&mut waits, *token).is_pending()));
        for token in next {
            waits.forget(token, None);
        }
        assert!(waits.slots.capacity() >= SPARE_WAITS_MAX, "so many are kept");
    }

    #[test]
    fn stopping_ends_what_is_open() {
        let mut waits = Waits::default();
        let token = waits.open_dial(PEER);
        waits.stop();
        assert!(matches!(poll(&mut waits, token), Poll::Ready(End::Stopped)));
    }
}
