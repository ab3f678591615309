//! Owns what a shard does about its endpoint's events: it wakes who waits for them, tries what had no room, and tells the log.
//!
//! What always holds: no event waits at the endpoint while the shard sleeps.

use cubed_runtime::{Driver, Port};
use cubed_transport::{Event, PeerId, PeerState};

use super::Pump;
use crate::application::Receiver;
use crate::follow::{prefer_listed, try_next_address};
use crate::ports::plain_event;
use crate::shared::State;
use crate::waits::End;
use crate::watch::Watch;

impl<D: Driver> Pump<D> {
    /// Wakes who waits for what happened, and tells the log.
    pub(super) fn dispatch_events(&mut self) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let mut worked = false;
        while let Some(event) = state.endpoint.poll_event().map(plain_event) {
            worked = true;
            Watch::tell(&state.endpoint, &event);
            let waits = &mut state.receiver.waits;
            match event {
                Event::Outcome { token, outcome } => waits.end(token, End::Outcome(outcome)),
                Event::Writable { peer } | Event::SessionEnded { peer, .. } => {
                    waits.room(peer);
                    self.retry_outbox(&mut state, peer);
                }
                Event::Connected { peer } => {
                    waits.dialled(peer, &Ok(()));
                    if self.shared.facts.source != Port::Shared {
                        prefer_listed(&mut state, peer);
                    }
                }
                Event::DialFailed { peer, error } => {
                    try_next_address(&mut state, peer, &error);
                    state.receiver.waits.dialled(peer, &Err(error));
                }
                Event::Down { peer, cause } => state.tell(peer, PeerState::Down(cause)),
                Event::Up { peer } => state.tell(peer, PeerState::Up),
                Event::Forgotten { peer } => {
                    waits.forgotten(peer);
                    state.watchers.forgotten(peer);
                    self.retry_outbox(&mut state, peer);
                }
                Event::TurnedAway { .. } => {}
            }
        }
        worked
    }

    pub(super) fn retry_outbox(&self, state: &mut State, peer: PeerId) {
        if !state.stalled {
            return;
        }
        let mut outbox = self.shared.outbox.borrow_mut();
        let now = self.shared.now();
        let Receiver { waits, local, .. } = &mut state.receiver;
        outbox.retry(&mut state.endpoint, waits, local, peer, now);
        state.stalled = outbox.is_stalled();
    }
}
