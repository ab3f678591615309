//! Goal: a session finds out what its path carries, survives when that shrinks, and follows a peer that moved: after proof,
//! and nobody else.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Disposition, Endpoint, FlowId, Incoming, Limits, PeerId, Refusal, SendError,
    Service,
};
use support::{endpoint, open_to_all};

const DELAY: Duration = Duration::from_millis(5);

#[derive(Default)]
struct App {
    received: Vec<Vec<u8>>,
}

impl Application for App {
    open_to_all!(1 << 20, 1 << 26);
    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        self.received.push(message.body.as_slice().to_vec());
        Ok(Disposition::Consumed)
    }
}

/// Somebody who copies what side 0 sends and has it arrive from elsewhere, before or after the original.
#[derive(Clone, Copy)]
struct Spoofer {
    from: SocketAddr,
    is_first: bool,
    /// Passes on what either side sends to it, faster than the path does, as from its own address.
    is_forwarding: bool,
}

/// Two endpoints, 10 ms apart; side 0 sends, and may move.
struct Net {
    now: Instant,
    ends: [(Endpoint, App); 2],
    addresses: [SocketAddr; 2],
    /// What is on the way, by arrival and order: receiver, source, bytes.
    wire: BTreeMap<(Instant, u64), (usize, SocketAddr, Vec<u8>)>,
    order: u64,
    /// Longer datagrams vanish.
    limit: usize,
    spoofer: Option<Spoofer>,
    /// Bytes that side 1 sent to an address, and that came to it from there.
    sent_to: HashMap<SocketAddr, u64>,
    came_from: HashMap<SocketAddr, u64>,
    /// Addresses that side 1 had proof of.
    proven: Vec<SocketAddr>,
    flow: FlowId,
    sent: u64,
}

impl Net {
    fn new(limits: &Limits, limit: usize) -> Self {
        let mut ends = [1, 2].map(|seed| (endpoint(seed, limits.clone()), App::default()));
        let addresses = ["10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap()];
        let key = ends[1].0.public_key();
        let peer = ends[0].0.add_peer(key, Some(addresses[1])).unwrap();
        let flow = ends[0].0.open_flow(peer, "orders").unwrap();
        let now = Instant::from_nanos(1_000_000_000);
        ends[0].0.connect(now, peer).unwrap();
        let mut net = Self {
            now,
            ends,
            addresses,
            wire: BTreeMap::new(),
            order: 0,
            limit,
            spoofer: None,
            sent_to: HashMap::new(),
            came_from: HashMap::new(),
            proven: Vec::new(),
            flow,
            sent: 0,
        };
        net.run(Duration::from_millis(25));
        net
    }

    fn put(&mut self, at: Instant, to: usize, from: SocketAddr, datagram: &[u8]) {
        self.order += 1;
        self.wire.insert((at, self.order), (to, from, datagram.to_vec()));
    }

    fn drain(&mut self) {
        if let Some(address) = self.ends[1].0.peer_address(PeerId(0))
            && !self.proven.contains(&address)
        {
            self.proven.push(address);
        }
        let mut out = Vec::new();
        for side in 0..2 {
            while let Some(transmit) = self.ends[side].0.poll_transmit(self.now, &mut out) {
                for datagram in out.chunks(transmit.segment_bytes) {
                    self.carry(side, transmit.to, datagram);
                }
            }
            while self.ends[side].0.poll_event().is_some() {}
        }
    }

    fn carry(&mut self, side: usize, to: SocketAddr, datagram: &[u8]) {
        if side == 1 {
            let sent = self.sent_to.entry(to).or_default();
            *sent += datagram.len() as u64;
            let came = self.came_from.get(&to).copied().unwrap_or(0);
            assert!(self.proven.contains(&to) || *sent <= 3 * came, "{sent} B to {to} for {came}");
        }
        let at = self.now + DELAY;
        if let Some(spoofer) = self.spoofer.filter(|it| it.is_forwarding && it.from == to) {
            self.put(at - Duration::from_micros(10), 1 - side, spoofer.from, datagram);
        }
        if datagram.len() > self.limit || to != self.addresses[1 - side] {
            return;
        }
        if let Some(Spoofer { from, is_first, .. }) = self.spoofer.filter(|_| side == 0) {
            let micros = Duration::from_micros(10);
            self.put(if is_first { at - micros } else { at + micros }, 1, from, datagram);
        }
        self.put(at, 1 - side, self.addresses[side], datagram);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
            let timeouts = self.ends.iter().filter_map(|(end, _)| end.poll_timeout());
            let next = timeouts.chain(arrival).min().filter(|next| *next <= end);
            let Some(next) = next else { break };
            let next = next.max(self.now);
            self.now = next;
            while let Some(entry) = self.wire.first_entry()
                && entry.key().0 <= next
            {
                let (to, from, mut datagram) = entry.remove();
                if to == 1 {
                    *self.came_from.entry(from).or_default() += datagram.len() as u64;
                }
                let (end, app) = &mut self.ends[to];
                end.handle_datagram(next, from, &mut datagram, app);
            }
            for (end, app) in &mut self.ends {
                end.handle_timeout(next, app);
            }
        }
        self.now = end;
    }

    /// Sends one message; lets time pass while there is no room.
    fn send(&mut self, bytes: usize) {
        let mut body = vec![self.sent as u8; bytes];
        body[..8].copy_from_slice(&self.sent.to_le_bytes());
        self.sent += 1;
        while let Err(error) =
            self.ends[0].0.send(self.now, self.flow, &body, Service::Acknowledged, None)
        {
            assert_eq!(error, SendError::Full);
            self.run(Duration::from_millis(1));
        }
    }

    /// Sends messages of many lengths for `time`.
    fn stream(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for bytes in [64, 1_400, 5_000, 20_000] {
                self.send(bytes);
            }
            self.run(Duration::from_millis(2));
        }
    }

    fn size(&self) -> u16 {
        self.ends[0].0.peer_datagram_bytes(PeerId(0)).unwrap()
    }

    /// Every message sent so far has arrived once.
    fn check_all_arrived(&self) {
        let received = &self.ends[1].1.received;
        let mut numbers: Vec<_> = received.iter().map(|body| body[..8].to_vec()).collect();
        numbers.sort();
        numbers.dedup();
        let delivered = self.ends[0].0.tally().delivered;
        let counts = (received.len() as u64, numbers.len() as u64, delivered);
        let counters = self.ends[0].0.counters();
        assert_eq!(counts, (self.sent, self.sent, self.sent), "{counters:?}");
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_limit_of_a_path_is_found() {
    for (limit, ceiling) in [(1_200, 1_452), (1_207, 1_452), (1_300, 1_452), (1_452, 1_452)]
        .into_iter()
        .chain([(4_470, 9_000), (8_972, 9_000)])
    {
        let limits = Limits { datagram_bytes: ceiling, ..Limits::default() };
        let mut net = Net::new(&limits, limit);
        net.stream(ms(1_500));
        net.run(ms(500));
        let size = usize::from(net.size());
        // Nothing longer than whole cipher blocks is tried.
        let best = limit.min((usize::from(ceiling) - 32) / 16 * 16 + 32);
        assert!(size <= best && best - size <= 8, "{size} of {limit}");
        let longest = net.ends[0].0.counters();
        assert!(longest.size_probes_sent <= 40, "{longest:?}");
        assert_eq!(longest.size_fell, 0);
        net.check_all_arrived();
    }
}

#[test]
fn a_path_that_carries_all_is_used_in_full_after_one_round_trip() {
    let mut net = Net::new(&Limits::default(), 1_500);
    net.run(ms(15));
    let counters = net.ends[0].0.counters();
    assert_eq!((net.size(), counters.size_probes_sent, counters.size_probes_lost), (1_440, 1, 0));
    net.run(Duration::from_hours(1));
    assert_eq!(net.ends[0].0.counters().size_probes_sent, 1, "an idle session is silent");
}

#[test]
fn probes_lost_for_their_length_do_not_slow_the_sender_down() {
    let mut net = Net::new(&Limits::default(), 1_300);
    net.stream(ms(1_000));
    net.run(ms(500));
    let counters = net.ends[0].0.counters();
    assert!(counters.size_probes_lost > 3, "{counters:?}");
    assert_eq!(counters.packets_lost, counters.size_probes_lost);
    assert_eq!(counters.blocks_resent, 0);
    assert!(net.ends[0].0.path(PeerId(0)).unwrap().is_in_slow_start, "the window was never cut");
}

#[test]
fn a_path_that_shrinks_mid_stream_delivers_within_three_seconds() {
    // Full datagrams have 1,440 bytes.
    for limit in [1_200, 1_300, 1_400, 1_439] {
        let mut net = Net::new(&Limits::default(), 1_500);
        net.stream(ms(300));
        assert_eq!(net.size(), 1_440);
        net.limit = limit;
        net.stream(ms(1_000));
        net.run(ms(2_000));
        net.check_all_arrived();
        let counters = net.ends[0].0.counters();
        assert_eq!(counters.size_fell, 1, "{counters:?}");
        assert!(counters.parts_sent > 0 && net.ends[1].0.counters().parts_received > 0);
        let size = usize::from(net.size());
        assert!(size <= limit && limit - size <= 8, "{size} of {limit}");
        // Ten minutes later longer ones are tried again, if there is anything to send.
        net.limit = 1_500;
        net.run(Duration::from_mins(10));
        assert!(usize::from(net.size()) <= limit, "nothing was sent");
        net.stream(ms(100));
        net.run(ms(500));
        assert_eq!(net.size(), 1_440);
        net.check_all_arrived();
    }
}

#[test]
fn one_long_block_on_a_path_that_shrank_gets_through() {
    let mut net = Net::new(&Limits::default(), 1_500);
    net.run(ms(500));
    net.limit = 1_200;
    net.send(1_400);
    net.run(ms(3_000));
    net.check_all_arrived();
    assert_eq!(net.ends[0].0.counters().size_fell, 1);
}

#[test]
fn a_limit_that_falls_again_and_again_loses_nothing() {
    let limits = Limits { datagram_bytes: 9_000, ..Limits::default() };
    let mut net = Net::new(&limits, 9_000);
    for limit in [9_000, 3_000, 1_200, 8_000, 1_250, 1_300, 1_200] {
        net.limit = limit;
        net.stream(ms(700));
    }
    net.run(ms(3_000));
    net.check_all_arrived();
    assert!(net.ends[0].0.counters().size_fell >= 3);
}

#[test]
fn best_effort_too_long_for_the_path_is_counted_as_dropped() {
    let mut net = Net::new(&Limits::default(), 1_500);
    net.run(ms(500));
    net.limit = 1_200;
    let (flow, mut offered) = (net.flow, 0);
    for _ in 0..100 {
        net.send(1_400);
        offered += u64::from(
            net.ends[0].0.send(net.now, flow, &[1; 1_400], Service::BestEffort, None).is_ok(),
        );
        net.run(ms(5));
    }
    net.run(ms(3_000));
    let counters = net.ends[0].0.counters();
    let accounted = counters.best_effort_sent + counters.best_effort_dropped_local;
    assert_eq!((offered, counters.best_effort_offered), (accounted, offered), "{counters:?}");
}

#[test]
fn a_peer_that_moves_is_followed_once_it_has_proven_its_address() {
    for moved in ["10.0.0.1:9", "10.9.9.9:9"] {
        let moved: SocketAddr = moved.parse().unwrap();
        let mut net = Net::new(&Limits::default(), 1_500);
        net.stream(ms(200));
        let before = net.addresses[0];
        net.addresses[0] = moved;
        net.send(100);
        net.run(DELAY + ms(1));
        assert_eq!(net.ends[1].0.peer_address(PeerId(0)), Some(before), "asked, not answered");
        net.run(2 * DELAY);
        assert_eq!(net.ends[1].0.peer_address(PeerId(0)), Some(moved));
        net.stream(ms(500));
        net.run(ms(1_000));
        net.check_all_arrived();
        let counters = net.ends[1].0.counters();
        assert_eq!((counters.paths_challenged, counters.paths_validated), (1, 1));
        let sender = net.ends[0].0.counters();
        assert_eq!((sender.sessions_begun, sender.associations_established), (1, 1));
    }
}

#[test]
fn a_receiver_that_moves_in_mid_stream_is_no_black_hole() {
    let mut net = Net::new(&Limits::default(), 1_500);
    net.stream(ms(500));
    for host in 3..9 {
        assert_eq!(net.size(), 1_440);
        net.addresses[1].set_ip([10, 0, 0, host].into());
        net.stream(ms(700));
    }
    net.run(ms(3_000));
    net.check_all_arrived();
    let counters = net.ends[0].0.counters();
    assert_eq!(counters.paths_validated, 6);
    // The search begins anew on each path, and is answered at once.
    assert_eq!((counters.size_fell, counters.size_raised), (0, 7), "{counters:?}");
}

#[test]
fn a_peer_that_moves_every_second_is_followed_each_time() {
    let mut net = Net::new(&Limits::default(), 1_500);
    for port in 1..6 {
        net.addresses[0].set_port(port);
        net.stream(ms(1_000));
    }
    net.run(ms(3_000));
    net.check_all_arrived();
    assert_eq!(net.ends[1].0.counters().paths_validated, 4);
}

#[test]
fn copies_from_elsewhere_move_nothing() {
    for is_first in [true, false] {
        let mut net = Net::new(&Limits::default(), 1_500);
        net.stream(ms(100));
        let from = "203.0.113.5:53".parse().unwrap();
        net.spoofer = Some(Spoofer { from, is_first, is_forwarding: false });
        net.stream(ms(2_000));
        net.run(ms(4_000));
        net.check_all_arrived();
        assert_eq!(net.ends[1].0.peer_address(PeerId(0)), Some(net.addresses[0]));
        let (counters, sent) = (net.ends[1].0.counters(), net.sent_to.get(&from));
        if is_first {
            assert!(counters.paths_challenged > 0, "{counters:?}");
            assert!(
                sent.is_some_and(|bytes| *bytes <= 12 * 1_200),
                "one challenge at a time: {sent:?}"
            );
        } else {
            assert_eq!((counters.paths_challenged, sent), (0, None), "replays are dropped");
        }
        assert_eq!(counters.paths_validated, 0);
        assert_eq!(counters.path_challenges_failed, counters.paths_challenged);
    }
}

/// RFC 9000 section 9.3.3: whoever passes datagrams on faster than the path does can answer challenges, for as long as it likes.
#[test]
fn a_peer_that_is_reached_where_it_was_stays_there() {
    for from in ["203.0.113.5:53", "10.0.0.1:53"] {
        let from = from.parse().unwrap();
        let mut net = Net::new(&Limits::default(), 1_500);
        net.stream(ms(100));
        net.spoofer = Some(Spoofer { from, is_first: true, is_forwarding: true });
        let mut away = 0;
        for _ in 0..2_000 {
            net.send(100);
            net.run(ms(1));
            away += u32::from(net.ends[1].0.peer_address(PeerId(0)) != Some(net.addresses[0]));
        }
        let counters = net.ends[1].0.counters();
        assert!(counters.paths_kept >= 2, "{counters:?}");
        // A round trip in each second, at most.
        assert!(away <= 40, "believed to be elsewhere for {away} ms of 2 s");
        net.spoofer = None;
        net.stream(ms(100));
        net.run(ms(1_000));
        net.check_all_arrived();
        assert_eq!(net.ends[1].0.peer_address(PeerId(0)), Some(net.addresses[0]));
    }
}
