//! Which part of the message path costs what, without sockets: nanoseconds per message for `send`, `poll_transmit` and
//! `handle_datagram`, acknowledgements included. `cargo bench -p cubed-transport --bench lane [-- SIZE...]`.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::SeededEntropy;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, ChannelId, Config, Disposition, Endpoint, FlowId, Incoming, PeerId,
    Refusal, SendError, Service,
};

#[derive(Default)]
struct Counting {
    messages: u64,
    bytes: u64,
}

impl Application for Counting {
    fn admit(&mut self, _: ChannelId, _key: &PublicKey) -> bool {
        true
    }
    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        _: &str,
    ) -> Result<Binding, Refusal> {
        Ok(Binding { flow: 1, window_bytes: 8 << 20, message_bytes_max: 1 << 26 })
    }
    #[inline]
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        self.messages += 1;
        self.bytes += black_box(message.body.as_slice()).len() as u64;
        Ok(Disposition::Consumed)
    }
}

fn endpoint(seed: u8) -> Endpoint {
    let config = Config::new([seed; 16], [seed; 32]);
    let identity = Identity::from_seed(&[seed; 32]);
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    Endpoint::new(config, &identity, entropy).expect("defaults are valid")
}

/// The two ends and what each part of their work cost so far.
struct Bench {
    ends: [(Endpoint, Counting); 2],
    addresses: [SocketAddr; 2],
    out: Vec<u8>,
    /// Nanoseconds: send, transmit of the sender, handling at the receiver, its transmit, handling at the sender.
    spent: [u64; 5],
}

fn stamp() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64 + 1_000_000_000
}

impl Bench {
    fn new() -> Self {
        let mut ends = [1, 2].map(|seed| (endpoint(seed), Counting::default()));
        let addresses = ["10.0.0.1:1", "10.0.0.2:2"].map(|text| text.parse().expect("an address"));
        let key = ends[1].0.public_key();
        ends[0].0.add_peer(key, Some(addresses[1])).expect("room for a peer");
        Self { ends, addresses, out: Vec::new(), spent: [0; 5] }
    }

    /// Carries everything that `side` has to send; returns nanoseconds spent in transmit and in handling.
    fn carry(&mut self, side: usize) -> (u64, u64) {
        let (mut transmit_ns, mut handle_ns) = (0, 0);
        loop {
            let begun = stamp();
            let now = Instant::from_nanos(begun);
            let transmit = self.ends[side].0.poll_transmit(now, &mut self.out);
            let built = stamp();
            transmit_ns += built - begun;
            let Some(transmit) = transmit else { return (transmit_ns, handle_ns) };
            let (end, app) = &mut self.ends[1 - side];
            for datagram in self.out.chunks_mut(transmit.segment_bytes) {
                end.handle_datagram(now, self.addresses[side], datagram, app);
            }
            handle_ns += stamp() - built;
        }
    }

    fn turn(&mut self) {
        let (transmit, handle) = self.carry(0);
        let (acknowledge, acknowledged) = self.carry(1);
        for (total, part) in
            self.spent[1..].iter_mut().zip([transmit, handle, acknowledge, acknowledged])
        {
            *total += part;
        }
        let now = Instant::from_nanos(stamp());
        for (end, app) in &mut self.ends {
            if end.poll_timeout().is_some_and(|at| at <= now) {
                end.handle_timeout(now, app);
            }
            while end.poll_event().is_some() {}
        }
    }

    fn run(&mut self, flow: FlowId, body: &Bytes, time: Duration) -> u64 {
        let before = self.ends[1].1.messages;
        self.spent = [0; 5];
        let end = stamp() + time.as_nanos() as u64;
        while stamp() < end {
            let begun = stamp();
            let now = Instant::from_nanos(begun);
            loop {
                let sender = &mut self.ends[0].0;
                let sent = if body.len() < 16_384 {
                    sender.send(now, flow, body, Service::Acknowledged, None)
                } else {
                    sender.send_owned(now, flow, body.clone(), Service::Acknowledged, None)
                };
                match sent {
                    Ok(()) => {}
                    Err(SendError::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            self.spent[0] += stamp() - begun;
            self.turn();
        }
        self.ends[1].1.messages - before
    }
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![16, 64, 256, 387, 1024, 65_536] } else { sizes };
    println!(
        "{:>8} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "bytes", "messages", "send", "transmit", "receive", "ack", "acked"
    );
    for size in sizes {
        let mut bench = Bench::new();
        let flow = bench.ends[0].0.open_flow(PeerId(0), "bench").expect("a flow");
        let body = Bytes::from(vec![7; size]);
        bench.run(flow, &body, Duration::from_millis(100));
        let messages = bench.run(flow, &body, Duration::from_millis(500)).max(1);
        let [send, transmit, receive, ack, acked] =
            bench.spent.map(|ns| ns as f64 / messages as f64);
        println!(
            "{size:>8} {messages:>9} {send:>8.1} {transmit:>8.1} {receive:>8.1} {ack:>8.2} {acked:>8.2}"
        );
    }
}
