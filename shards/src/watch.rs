//! What is told to the log: events of sessions, and the first drop of each kind. Nothing per message.

use std::collections::HashSet;

use cubed_transport::time::Instant;
use cubed_transport::{DownCause, Endpoint, Event, PeerId};

use crate::limits::LOOK_INTERVAL;

/// What has been told so far.
#[derive(Default)]
pub(crate) struct Watch {
    told: HashSet<&'static str>,
    next_check: Instant,
}

impl Watch {
    /// Tells of drops whose counter is no longer 0; looks once a second at most, and says whether it did.
    #[inline]
    pub(crate) fn check_drops(&mut self, endpoint: &Endpoint, now: Instant) -> bool {
        let is_due = now >= self.next_check;
        if is_due {
            self.next_check = now + LOOK_INTERVAL;
            self.tell_drops(endpoint);
        }
        is_due
    }

    #[cold]
    fn tell_drops(&mut self, endpoint: &Endpoint) {
        for (name, count) in endpoint.counters().iter() {
            if count > 0 && is_drop(name) && self.told.insert(name) {
                if is_ordinary(name) {
                    tracing::info!(counter = name, count, "first drop of this kind");
                } else {
                    tracing::warn!(counter = name, count, "first drop of this kind");
                }
            }
        }
    }

    /// Tells of what happened to a peer.
    pub(crate) fn tell(endpoint: &Endpoint, event: &Event) {
        let peer = |peer: &PeerId| {
            let key = endpoint.peer_key(*peer);
            key.map_or_else(|| format!("{peer:?}"), |key| key.fingerprint().to_string())
        };
        match event {
            Event::Connected { peer: id } => tracing::info!(peer = peer(id), "connected"),
            Event::Down { peer: id, cause: DownCause::Closed } => {
                tracing::info!(peer = peer(id), "peer has closed");
            }
            Event::Down { peer: id, cause } => {
                tracing::warn!(peer = peer(id), ?cause, "peer is down");
            }
            Event::Up { peer: id } => tracing::info!(peer = peer(id), "peer is up again"),
            Event::DialFailed { peer: id, error } => {
                tracing::warn!(peer = peer(id), %error, "dial failed");
            }
            Event::SessionEnded { peer: id, cause } => {
                tracing::info!(peer = peer(id), ?cause, "session ended");
            }
            Event::TurnedAway { key, address, verdict, .. } => {
                let peer = key.fingerprint();
                tracing::info!(%peer, %address, ?verdict, "peer turned away");
            }
            Event::Outcome { .. } | Event::Writable { .. } | Event::Forgotten { .. } => {}
        }
    }
}

/// Copies that a network or a probe makes: nothing is lost by dropping them.
fn is_ordinary(name: &str) -> bool {
    matches!(name, "dropped_duplicate_block" | "dropped_replayed")
}

fn is_drop(counter: &str) -> bool {
    counter.contains("dropped") || counter == "violations"
}
