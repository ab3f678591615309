//! A Cubed node in a race: a whole endpoint, and an application that counts.
//!
//! Owns the endpoint and what it still has to send. What always holds: a sender's log is full whenever the endpoint takes
//! more, so that nothing but the protocol limits it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, ChannelId, Config, Disposition, Endpoint, FlowId, Incoming, Limits,
    PeerId, Refusal, Service,
};

use super::{Departure, Packet, Place, Racer};

/// Bytes of one message: nearly a full datagram of the default size.
const MESSAGE_BYTES: usize = 1_390;
/// Credit kept open to each sender, far above any window.
const CREDIT_BYTES: u64 = 256 << 20;

/// What arrived, by sender.
#[derive(Debug, Default)]
struct Count {
    by_peer: BTreeMap<PeerId, u64>,
}

impl Application for Count {
    fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
        true
    }

    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        _: &str,
    ) -> Result<Binding, Refusal> {
        Ok(Binding { flow: 0, window_bytes: CREDIT_BYTES, message_bytes_max: 64 << 20 })
    }

    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        *self.by_peer.entry(message.peer).or_default() += message.body.as_slice().len() as u64;
        Ok(Disposition::Consumed)
    }
}

/// A Cubed node.
#[derive(Debug)]
pub struct Cubed {
    endpoint: Endpoint,
    count: Count,
    flow: Option<FlowId>,
    run: Vec<u8>,
    body: Vec<u8>,
}

/// Racers' addresses follow from their places.
fn address_of(place: Place) -> SocketAddr {
    SocketAddr::from(([10, 1, (place >> 8) as u8, place as u8], 7530))
}

fn place_of(address: SocketAddr) -> Option<Place> {
    match address {
        SocketAddr::V4(address) => {
            let [_, _, high, low] = address.ip().octets();
            Some(usize::from(high) << 8 | usize::from(low))
        }
        SocketAddr::V6(_) => None,
    }
}

fn identity_of(place: Place) -> Identity {
    let mut seed = [0; 32];
    SeededEntropy::new(place as u64 ^ 0x1de7_7177).fill(&mut seed);
    Identity::from_seed(&seed)
}

impl Cubed {
    /// A node that receives, at this place.
    ///
    /// # Panics
    /// When the limits are out of range.
    pub fn receiver(place: Place, limits: &Limits) -> Self {
        let mut entropy = SeededEntropy::new(place as u64 ^ 0x5eed);
        let mut config = Config {
            name: format!("racer-{place}"),
            limits: limits.clone(),
            ..Config::new([0; 16], [0; 32])
        };
        entropy.fill(&mut config.incarnation);
        let endpoint = Endpoint::new(config, &identity_of(place), Box::new(entropy));
        Self {
            endpoint: endpoint.expect("the limits of a race are in range"),
            count: Count::default(),
            flow: None,
            run: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A node that sends all it can to the node at another place.
    ///
    /// # Panics
    /// When the limits are out of range.
    pub fn sender(place: Place, to: Place, limits: &Limits) -> Self {
        let mut node = Self::receiver(place, limits);
        let key = identity_of(to).public_key();
        let peer = node.endpoint.add_peer(key, Some(address_of(to))).expect("the only peer");
        node.flow = Some(node.endpoint.open_flow(peer, "race").expect("the only flow"));
        node.body = vec![0x5a; MESSAGE_BYTES];
        node
    }

    /// Tells a sender of how many that compete together it is one.
    pub fn couple(&mut self, lanes: u16) {
        if let Some(flow) = self.flow {
            self.endpoint.set_lanes_sending(flow.peer, lanes);
        }
    }

    /// Seals `payload` for the first peer, whatever it says.
    pub(super) fn seal(&mut self, now: Instant, payload: &[u8]) -> Option<Vec<u8>> {
        self.endpoint.seal_payload(now, PeerId(0), payload, 0)
    }

    /// Packets counted as lost, those of them wrongly, and probe timeouts.
    pub fn losses(&self) -> (u64, u64, u64) {
        let counters = self.endpoint.counters();
        (counters.packets_lost, counters.packets_lost_spuriously, counters.probe_timeouts)
    }
}

impl Racer for Cubed {
    fn arrive(&mut self, now: Instant, from: Place, packet: Packet) {
        if let Packet::Datagram(mut datagram) = packet {
            let from = address_of(from);
            self.endpoint.handle_datagram(now, from, &mut datagram, &mut self.count);
        }
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Departure>) {
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now, &mut self.count);
        }
        loop {
            if let Some(flow) = self.flow {
                let service = Service::Acknowledged;
                while self.endpoint.send(now, flow, &self.body, service, None).is_ok() {}
            }
            let mut any = false;
            while let Some(transmit) = self.endpoint.poll_transmit(now, &mut self.run) {
                any = true;
                let Some(to) = place_of(transmit.to) else { continue };
                for datagram in self.run.chunks(transmit.segment_bytes.max(1)) {
                    out.push((to, datagram.len(), Packet::Datagram(datagram.to_vec())));
                }
            }
            while self.endpoint.poll_event().is_some() {}
            if !any {
                break;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.endpoint.poll_timeout()
    }

    fn received_from(&self, from: Place) -> u64 {
        let peer = self.endpoint.find_peer(&identity_of(from).public_key());
        peer.and_then(|peer| self.count.by_peer.get(&peer).copied()).unwrap_or(0)
    }

    fn describe(&self) -> String {
        let mut text = String::from("cubed:");
        if let Some(flow) = self.flow
            && let Some(path) = self.endpoint.path(flow.peer)
        {
            text = format!("cubed: {path}");
        }
        for (name, value) in self.endpoint.counters().iter().filter(|(_, value)| *value > 0) {
            let _ = write!(text, " {name}={value}");
        }
        text
    }
}
