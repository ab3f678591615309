//! An honest peer beside the hostile one. For tests.
//!
//! What always holds: it offers a small message every few turns; all but the newest have been delivered by the end of a turn.

use std::net::SocketAddr;

use super::{HOSTILE, Victim};
use crate::endpoint::{Config, Endpoint, FlowId, PeerId, Service};
use crate::identity::{Identity, PublicKey};
use crate::random::SeededEntropy;
use crate::time::Instant;

/// Where it sends from.
pub(super) const BYSTANDER: ([u8; 4], u16) = ([10, 0, 0, 7], 7);
/// Where it finds the endpoint under attack; nobody checks.
const VICTIM: ([u8; 4], u16) = ([10, 0, 0, 1], 1);
/// Turns from one message to the next.
const TURNS: u64 = 8;

pub(super) struct Bystander {
    endpoint: Endpoint,
    app: Victim,
    pub(super) key: PublicKey,
    flow: FlowId,
    turns: u64,
    pub(super) offered: u64,
}

impl Bystander {
    pub(super) fn new(now: Instant, victim: PublicKey) -> Self {
        let config = Config { name: "bystander".into(), ..Config::new([7; 16], [0; 32]) };
        let identity = Identity::from_seed(&[7; 32]);
        let entropy = Box::new(SeededEntropy::new(7));
        let mut endpoint = Endpoint::new(config, &identity, entropy).unwrap();
        let peer: PeerId = endpoint.add_peer(victim, Some(SocketAddr::from(VICTIM))).unwrap();
        let flow = endpoint.open_flow(peer, "ok").unwrap();
        endpoint.connect(now, peer).unwrap();
        let key = identity.public_key();
        Self { endpoint, app: Victim::default(), key, flow, turns: 0, offered: 0 }
    }

    /// A turn begins: now and then it has something to say.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.turns += 1;
        if self.turns.is_multiple_of(TURNS) {
            let sent = self.endpoint.send(now, self.flow, b"hello", Service::Acknowledged, None);
            assert!(sent.is_ok(), "the honest peer finds room: {sent:?}");
            self.offered += 1;
        }
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now, &mut self.app);
        }
        while self.endpoint.poll_event().is_some() {}
    }

    /// Gives what it has to send to the victim; whether that was anything.
    pub(super) fn speak(&mut self, now: Instant, victim: &mut Endpoint, app: &mut Victim) -> bool {
        let (mut run, mut spoke) = (Vec::new(), false);
        while let Some(transmit) = self.endpoint.poll_transmit(now, &mut run) {
            spoke = true;
            for datagram in run.chunks_mut(transmit.segment_bytes) {
                victim.handle_datagram(now, SocketAddr::from(BYSTANDER), datagram, app);
            }
        }
        spoke
    }

    /// Hears one run of the victim's.
    pub(super) fn hear(&mut self, now: Instant, run: &mut [u8], segment_bytes: usize) {
        for datagram in run.chunks_mut(segment_bytes) {
            self.endpoint.handle_datagram(now, SocketAddr::from(VICTIM), datagram, &mut self.app);
        }
    }

    /// Whether it notices nothing of the siege.
    pub(super) fn check(&self, victim: &Endpoint, app: &Victim) {
        let tally = self.endpoint.tally();
        let (heard, told) = (app.from_bystander, tally.delivered);
        assert!(heard + 1 >= self.offered, "{heard} of {} came: {tally:?}", self.offered);
        assert!(told + 2 >= self.offered, "{told} of {} told: {tally:?}", self.offered);
        assert_eq!((tally.refused, tally.unknown, tally.peer_lost), (0, 0, 0));
        let counters = self.endpoint.counters();
        assert_eq!((counters.sessions_ended, counters.violations), (0, 0), "its session goes on");
        let peer = victim.find_peer(&self.key).expect("a peer with a session is not forgotten");
        let memory = victim.peer_memory(peer).expect("it is known").total();
        assert!(memory < 64 << 10, "{memory} B for the honest peer");
    }
}

const _: () = assert!(BYSTANDER.1 != HOSTILE.1);
