//! Owns the target that speaks handshake datagrams to a node: strangers, and those who know its key and seal what TLS would never say.
//!
//! What always holds: a node answers a datagram with no more bytes than it has, and never more than its limits keeps.

use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::handshake::{HEADER_BYTES, VERSION};
use cubed_transport::identity::Identity;
use cubed_transport::random::SeededEntropy;
use cubed_transport::testing::{Sink, seal_first_flight};
use cubed_transport::time::Instant;
use cubed_transport::{Config, Endpoint, Limits};

/// Payload of a HELLO: 1,200 less header, cookie, nonce and tag.
const HELLO_PAYLOAD_BYTES: usize = 1_200 - 16 - 32 - 12 - 16;

struct World {
    now: Instant,
    /// A node that answers, and one that dials the key of the first.
    ends: [Endpoint; 2],
    app: Sink,
    /// Header of the dialler's last HELLO.
    dialled: [u8; HEADER_BYTES],
}

/// Gives the datagrams in `data` to a node that listens and to one that dials.
///
/// # Panics
/// When a node panics or answers a stranger with more than it was sent.
pub fn handshake(data: &[u8]) {
    let mut world = World::new();
    let mut rest = data;
    while let Some((&[step, low, high], more)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high])) % 1_300;
        let (bytes, more) = more.split_at(length.min(more.len()));
        rest = more;
        match step % 6 {
            0 => world.give(0, bytes.to_vec()),
            1 => world.give(1, bytes.to_vec()),
            2 => world.hello(bytes),
            3 => world.reply(bytes),
            4 => world.exchange(bytes),
            _ => world.wait(Duration::from_millis(u64::from(low) * 50)),
        }
    }
}

impl World {
    fn new() -> Self {
        let ends = [1, 2].map(endpoint);
        let now = Instant::from_nanos(1_000_000_000);
        let app = Sink::default();
        let mut world = Self { now, ends, app, dialled: [0; HEADER_BYTES] };
        let key = world.ends[0].public_key();
        let peer = world.ends[1].add_peer(key, Some(address(0))).expect("there is room");
        world.ends[1].connect(now, peer).expect("a dial begins");
        world.sent_by(1);
        world
    }

    fn give(&mut self, side: usize, mut datagram: Vec<u8>) {
        let bytes = datagram.len();
        self.ends[side].handle_datagram(self.now, address(9), &mut datagram, &mut self.app);
        let answered: usize = self
            .sent_by(side)
            .iter()
            .map(|(to, sent)| if *to == address(9) { sent.len() } else { 0 })
            .sum();
        assert!(answered <= bytes, "{answered} bytes answered to {bytes}");
    }

    /// A hello that is sealed as it should be, with anything in TLS's place.
    fn hello(&mut self, bytes: &[u8]) {
        let mut bound = [0; HEADER_BYTES + 32];
        bound[..8].copy_from_slice(&[1, 7, 1, 2, 3, 4, 0, VERSION]);
        let id = [5; 8];
        bound[8..16].copy_from_slice(&id);
        let mut payload = bytes.to_vec();
        payload.resize(HELLO_PAYLOAD_BYTES, 0);
        let key = self.ends[0].public_key();
        self.give(0, seal_first_flight(&key, true, id, &bound, &payload));
    }

    /// A reply to the dialler's hello, sealed as it should be, with anything inside.
    fn reply(&mut self, bytes: &[u8]) {
        let mut bound = self.dialled;
        bound[0] = 2;
        let mut id = [0; 8];
        id.copy_from_slice(&bound[8..]);
        let key = self.ends[0].public_key();
        self.give(1, seal_first_flight(&key, false, id, &bound, bytes));
    }

    /// A true step of the handshake, with one byte changed where the input says so.
    fn exchange(&mut self, bytes: &[u8]) {
        self.wait(Duration::from_millis(100));
        for side in [1, 0, 1, 0] {
            for (_, mut datagram) in self.sent_by(side) {
                if let [place, low, high, ..] = *bytes
                    && usize::from(place % 4) == side
                {
                    let at = usize::from(u16::from_le_bytes([low, high])) % datagram.len();
                    datagram[at] ^= place;
                }
                let other = &mut self.ends[1 - side];
                other.handle_datagram(self.now, address(side), &mut datagram, &mut self.app);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for end in &mut self.ends {
            end.handle_timeout(self.now, &mut self.app);
            while end.poll_event().is_some() {}
        }
    }

    fn sent_by(&mut self, side: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let (mut run, mut sent) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.ends[side].poll_transmit(self.now, &mut run) {
            sent.extend(run.chunks(transmit.segment_bytes).map(|one| (transmit.to, one.to_vec())));
        }
        let hello = sent.iter().rev().find(|(_, one)| one.first() == Some(&1));
        if let Some(header) = hello.and_then(|(_, one)| one.first_chunk()) {
            self.dialled = *header;
        }
        sent
    }
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + side as u8], 7_530))
}

fn endpoint(seed: u8) -> Endpoint {
    let config = Config {
        name: format!("node {seed}"),
        limits: Limits { half_open_max: 4, ..Limits::default() },
        ..Config::new([seed; 16], [seed; 32])
    };
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy)
        .expect("the configuration is in range")
}
