//! Whether peers are there: a stream of changes for whoever watches one, and sets of all that are watched.
//!
//! Always holds: a watcher that nobody reads keeps [`PRESENCE_EVENTS_MAX`] changes, the newest, and counts those that it
//! forgot; a peer is watched as long as one of its [`PresenceEvents`] lives, and about a second longer.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use cubed_transport::identity::PublicKey;
use cubed_transport::time::Instant;
use cubed_transport::{Endpoint, PeerId, PeerPresence, PeerState};

use crate::limits::PRESENCE_EVENTS_MAX;

/// One change of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PresenceEvent {
    /// Who.
    pub key: PublicKey,
    /// How it is now: up, or down and why.
    pub state: PeerState,
    /// Since when, on the shard's clock.
    pub since: Instant,
    /// Changes before this one that were forgotten because nobody read them.
    pub missed: u64,
}

/// The changes of one watched peer, oldest first. Dropped, it ends the watch.
///
/// It may be awaited by tasks of shards and by other threads alike.
#[must_use = "the peer is watched while this lives"]
pub struct PresenceEvents {
    watcher: Arc<Watcher>,
}

impl PresenceEvents {
    /// Waits for the next change. The first is how the peer is now, if that is known. `None` once the node has stopped or
    /// forgotten the peer.
    pub async fn next(&mut self) -> Option<PresenceEvent> {
        std::future::poll_fn(|context| self.watcher.poll(context)).await
    }

    /// The next change, if there is one by now.
    pub fn try_next(&mut self) -> Option<PresenceEvent> {
        self.watcher.lock().take()
    }

    /// Who is watched.
    pub fn key(&self) -> PublicKey {
        self.watcher.key
    }
}

impl fmt::Debug for PresenceEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PresenceEvents({})", self.watcher.key.fingerprint())
    }
}

/// What one reader has not read.
pub(crate) struct Watcher {
    key: PublicKey,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    events: VecDeque<PresenceEvent>,
    missed: u64,
    newest: Option<PeerState>,
    is_over: bool,
    waker: Option<Waker>,
}

impl Slot {
    fn take(&mut self) -> Option<PresenceEvent> {
        let mut event = self.events.pop_front()?;
        event.missed = std::mem::take(&mut self.missed);
        Some(event)
    }
}

impl Watcher {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Option<PresenceEvent>> {
        let mut slot = self.lock();
        match slot.take() {
            Some(event) => Poll::Ready(Some(event)),
            None if slot.is_over => Poll::Ready(None),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn tell(&self, state: PeerState, since: Instant) {
        let mut slot = self.lock();
        let same = |known: PeerState| (known == PeerState::Up) == (state == PeerState::Up);
        if slot.newest.is_some_and(same) {
            // Watching began between the change and its telling.
            return;
        }
        slot.newest = Some(state);
        if slot.events.len() == PRESENCE_EVENTS_MAX {
            slot.events.pop_front();
            slot.missed += 1;
        }
        slot.events.push_back(PresenceEvent { key: self.key, state, since, missed: 0 });
        wake(slot);
    }

    fn end(&self) {
        let mut slot = self.lock();
        slot.is_over = true;
        wake(slot);
    }
}

/// Wakes the reader after the lock is given back: it may run at once, on another thread.
fn wake(mut slot: MutexGuard<'_, Slot>) {
    let waker = slot.waker.take();
    drop(slot);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// All watchers of one shard.
#[derive(Default)]
pub(crate) struct Watchers {
    by_peer: HashMap<PeerId, Vec<Weak<Watcher>>>,
}

impl Watchers {
    /// A new watcher of a peer that the endpoint watches by now; it begins with what is known.
    pub(crate) fn add(&mut self, now: PeerPresence) -> PresenceEvents {
        let watcher = Arc::new(Watcher { key: now.key, slot: Mutex::default() });
        if now.state != PeerState::Unknown {
            watcher.tell(now.state, now.since);
        }
        self.by_peer.entry(now.peer).or_default().push(Arc::downgrade(&watcher));
        PresenceEvents { watcher }
    }

    /// A peer changed.
    pub(crate) fn tell(&self, peer: PeerId, state: PeerState, since: Instant) {
        for watcher in self.by_peer.get(&peer).into_iter().flatten().filter_map(Weak::upgrade) {
            watcher.tell(state, since);
        }
    }

    /// Ends the watch of peers whose last reader is gone.
    pub(crate) fn sweep(&mut self, endpoint: &mut Endpoint) {
        self.by_peer.retain(|peer, watchers| {
            watchers.retain(|watcher| watcher.strong_count() > 0);
            if watchers.is_empty() {
                endpoint.unwatch(*peer);
            }
            !watchers.is_empty()
        });
    }

    /// A peer is forgotten: its readers are told that there is nothing more to tell.
    pub(crate) fn forgotten(&mut self, peer: PeerId) {
        for watcher in self.by_peer.remove(&peer).into_iter().flatten() {
            if let Some(watcher) = watcher.upgrade() {
                watcher.end();
            }
        }
    }

    /// The node stops: readers are told.
    pub(crate) fn stop(&mut self) {
        for watcher in self.by_peer.drain().flat_map(|(_, watchers)| watchers) {
            if let Some(watcher) = watcher.upgrade() {
                watcher.end();
            }
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How all watched peers of a node were at one moment.
#[derive(Clone, Debug, Default)]
pub struct PresenceSet {
    peers: Vec<PeerPresence>,
}

impl PresenceSet {
    pub(crate) fn new(mut peers: Vec<PeerPresence>) -> Self {
        peers.sort_by_key(|peer| peer.key);
        Self { peers }
    }

    pub(crate) fn plus(mut self, other: Self) -> Self {
        self.peers.extend(other.peers);
        let mut set = Self::new(self.peers);
        // Watched on several shards, a peer is up if one of them has word of it.
        set.peers.dedup_by(|later, kept| {
            let is_same = later.key == kept.key;
            if is_same && later.state == PeerState::Up && kept.state != PeerState::Up {
                *kept = *later;
            }
            is_same
        });
        set
    }

    /// Every watched peer, by key.
    pub fn iter(&self) -> impl Iterator<Item = &PeerPresence> {
        self.peers.iter()
    }

    /// One of them.
    pub fn get(&self, key: &PublicKey) -> Option<&PeerPresence> {
        let found = self.peers.binary_search_by_key(key, |peer| peer.key);
        found.ok().map(|index| &self.peers[index])
    }

    /// Those that are up.
    pub fn up(&self) -> impl Iterator<Item = &PeerPresence> {
        self.iter().filter(|peer| peer.state == PeerState::Up)
    }

    /// Those that were up and are down.
    pub fn down(&self) -> impl Iterator<Item = &PeerPresence> {
        self.iter().filter(|peer| matches!(peer.state, PeerState::Down(_)))
    }

    /// Those never heard of since they are watched.
    pub fn unknown(&self) -> impl Iterator<Item = &PeerPresence> {
        self.iter().filter(|peer| peer.state == PeerState::Unknown)
    }

    /// Those found up after `earlier` was looked at, also when they went again meanwhile.
    pub fn arrivals_since(&self, earlier: &Self) -> impl Iterator<Item = &PeerPresence> {
        self.changed(earlier, |peer| peer.arrivals)
    }

    /// Those found down after `earlier` was looked at, also when they came back meanwhile.
    pub fn departures_since(&self, earlier: &Self) -> impl Iterator<Item = &PeerPresence> {
        self.changed(earlier, |peer| peer.departures)
    }

    fn changed(
        &self,
        earlier: &Self,
        count: impl Fn(&PeerPresence) -> u64,
    ) -> impl Iterator<Item = &PeerPresence> {
        self.iter().filter(move |peer| count(peer) > earlier.get(&peer.key).map_or(0, &count))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a reader gets each change once and in order; one that does not read costs a bounded number of them.
    use cubed_transport::DownCause;
    use cubed_transport::identity::Identity;

    use super::*;

    const PEER: PeerId = PeerId(5);

    fn presence(state: PeerState, arrivals: u64, departures: u64) -> PeerPresence {
        let key = Identity::from_seed(&[3; 32]).public_key();
        let since = Instant::from_nanos(7);
        PeerPresence { peer: PEER, key, state, since, arrivals, departures }
    }

    #[test]
    fn a_reader_begins_with_what_is_known_and_gets_each_change_once() {
        let mut watchers = Watchers::default();
        let mut events = watchers.add(presence(PeerState::Up, 1, 0));
        watchers.tell(PEER, PeerState::Up, Instant::from_nanos(7));
        watchers.tell(PEER, PeerState::Down(DownCause::Silence), Instant::from_nanos(9));
        watchers.tell(PeerId(6), PeerState::Up, Instant::from_nanos(9));
        let states: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|e| e.state).collect();
        assert_eq!(states, [PeerState::Up, PeerState::Down(DownCause::Silence)]);
        assert!(events.watcher.poll(&Context::from_waker(Waker::noop())).is_pending());
        watchers.forgotten(PeerId(6));
        assert!(events.watcher.poll(&Context::from_waker(Waker::noop())).is_pending());
        watchers.forgotten(PEER);
        assert!(events.watcher.poll(&Context::from_waker(Waker::noop())) == Poll::Ready(None));
    }

    #[test]
    fn what_nobody_reads_is_bounded_and_counted() {
        let mut watchers = Watchers::default();
        let mut events = watchers.add(presence(PeerState::Unknown, 0, 0));
        for number in 0..1_000 {
            let down = PeerState::Down(DownCause::Silence);
            let state = if number % 2 == 0 { PeerState::Up } else { down };
            watchers.tell(PEER, state, Instant::from_nanos(number));
        }
        let first = events.try_next().unwrap();
        assert_eq!(first.missed, 1_000 - PRESENCE_EVENTS_MAX as u64);
        let rest = std::iter::from_fn(|| events.try_next()).collect::<Vec<_>>();
        assert_eq!(rest.len(), PRESENCE_EVENTS_MAX - 1);
        assert_eq!(rest.last().unwrap().since, Instant::from_nanos(999));
        assert!(rest.iter().all(|event| event.missed == 0));
    }

    #[test]
    fn a_look_finds_what_came_and_went_since_the_last() {
        let set = |state, arrivals, departures| {
            PresenceSet::new(vec![presence(state, arrivals, departures)])
        };
        let (first, flapped) = (set(PeerState::Up, 1, 0), set(PeerState::Up, 2, 1));
        assert_eq!(first.arrivals_since(&PresenceSet::default()).count(), 1);
        assert_eq!(first.departures_since(&PresenceSet::default()).count(), 0);
        assert_eq!(flapped.arrivals_since(&first).count(), 1);
        assert_eq!(flapped.departures_since(&first).count(), 1);
        assert_eq!(flapped.departures_since(&flapped).count(), 0);
        assert_eq!((flapped.up().count(), flapped.down().count()), (1, 0));
    }
}
