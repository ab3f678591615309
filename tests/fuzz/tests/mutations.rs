//! Goal: no copy of a datagram that differs from it in one bit, is cut off or goes on, is taken: not one of any kind, either way.
//!
//! Each datagram of a conversation is first given in all its damaged forms, then as it was. The damaged forms may do nothing but
//! grow one drop counter each, and draw RESTARTED if they name an index that nobody holds; the true one must then still be taken.

use std::net::SocketAddr;
use std::time::Duration;

use cubed_transport::handshake::HEADER_BYTES;
use cubed_transport::identity::Identity;
use cubed_transport::random::SeededEntropy;
use cubed_transport::testing::Sink;
use cubed_transport::time::Instant;
use cubed_transport::{Config, Counters, Endpoint, Limits, Service};

/// Bytes appended at most.
const APPENDED_MAX: usize = 64;
/// Header and tag: no lane datagram is shorter.
const LANE_BYTES_MIN: usize = 32;

struct World {
    now: Instant,
    ends: [(Endpoint, Sink); 2],
    /// Kinds given so far: first byte, receiver, half KiB.
    seen: Vec<(u8, usize, usize)>,
    mutations: u64,
    /// Damaged forms that drew RESTARTED.
    notices: u64,
    /// Who said that it closes; it answers nobody.
    closing: [bool; 2],
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + side as u8], 7_530))
}

fn endpoint(seed: u8) -> Endpoint {
    let config = Config {
        name: format!("node {seed}"),
        // No notice is held back for its rate, so that each that is due is seen.
        limits: Limits {
            half_open_max: 2,
            restarts_told_per_second: 1_000_000,
            ..Limits::default()
        },
        ..Config::new([seed; 16], [seed; 32])
    };
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy).unwrap()
}

/// What was dropped, and everything else that was counted.
fn split(counters: &Counters) -> (u64, Vec<(&'static str, u64)>) {
    let (dropped, others): (Vec<_>, Vec<_>) =
        counters.iter().partition(|(name, _)| name.starts_with("dropped_"));
    (dropped.into_iter().map(|(_, n)| n).sum(), others)
}

/// RESTARTED, as docs/PROTOCOL.md has it: index, the two shards the other way round, the first half of the tag.
fn restarted(datagram: &[u8]) -> Vec<u8> {
    let tag = &datagram[datagram.len() - 16..][..8];
    [&[5, datagram[6]], &datagram[2..6], &[datagram[1], 1], tag].concat()
}

impl World {
    fn new() -> Self {
        let ends = [1, 2].map(|seed| (endpoint(seed), Sink::default()));
        let now = Instant::from_nanos(1_000_000_000);
        Self { now, ends, seen: Vec::new(), mutations: 0, notices: 0, closing: [false; 2] }
    }

    fn sent_by(&mut self, side: usize) -> Vec<Vec<u8>> {
        let (mut run, mut sent) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.ends[side].0.poll_transmit(self.now, &mut run) {
            sent.extend(run.chunks(transmit.segment_bytes).map(<[u8]>::to_vec));
        }
        sent
    }

    /// Gives a damaged copy; it must be dropped and change nothing. Nothing answers it but the notice that nobody holds its index.
    fn give_damaged(&mut self, side: usize, damaged: &[u8], how: &str) {
        self.mutations += 1;
        let mut before = self.ends[side].0.counters();
        let (timeout, tally) = (self.ends[side].0.poll_timeout(), self.ends[side].0.tally());
        let mut copy = damaged.to_vec();
        let (end, app) = &mut self.ends[side];
        end.handle_datagram(self.now, address(1 - side), &mut copy, app);
        let after = end.counters();
        let is_unknown = after.dropped_unknown_association > before.dropped_unknown_association;
        let is_told = is_unknown && damaged.len() >= LANE_BYTES_MIN && !self.closing[side];
        before.datagrams_received += 1;
        before.bytes_received += damaged.len() as u64;
        before.restarts_told += u64::from(is_told);
        let (dropped_before, counted_before) = split(&before);
        let (dropped, counted) = split(&after);
        assert_eq!(dropped, dropped_before + 1, "one drop is counted: {how}");
        assert_eq!(counted, counted_before, "nothing else happens: {how}");
        assert_eq!(end.poll_timeout(), timeout, "no timer moves: {how}");
        assert_eq!(end.tally(), tally, "{how}");
        assert!(end.poll_event().is_none(), "no event: {how}");
        let answer: Vec<_> = is_told.then(|| restarted(damaged)).into_iter().collect();
        assert_eq!(self.sent_by(side), answer, "the answer: {how}");
        self.notices += u64::from(is_told);
    }

    /// Gives a datagram in all its damaged forms, then as it is.
    fn give(&mut self, side: usize, datagram: &[u8]) {
        // What is ready to leave is not an answer.
        assert!(self.sent_by(side).is_empty());
        while self.ends[side].0.poll_event().is_some() {}
        let kind = (datagram[0], side, datagram.len() / 512);
        let name = format!("kind {:02x} of {} B to side {side}", datagram[0], datagram.len());
        if !self.seen.contains(&kind) || datagram.len() < 300 {
            self.seen.push(kind);
            let mut copy = datagram.to_vec();
            for bit in 0..datagram.len() * 8 {
                copy[bit / 8] ^= 1 << (bit % 8);
                self.give_damaged(side, &copy, &format!("{name}, bit {bit} flipped"));
                copy[bit / 8] ^= 1 << (bit % 8);
            }
            for length in 0..datagram.len() {
                self.give_damaged(side, &datagram[..length], &format!("{name}, cut at {length}"));
            }
            copy[2] ^= 1;
            for length in HEADER_BYTES..datagram.len().min(2 * LANE_BYTES_MIN) {
                self.give_damaged(side, &copy[..length], &format!("{name}, both, at {length}"));
            }
            copy[2] ^= 1;
            for more in 1..=APPENDED_MAX {
                copy.push(more as u8);
                self.give_damaged(side, &copy, &format!("{name}, {more} bytes more"));
            }
        }
        let before = split(&self.ends[side].0.counters()).0;
        let mut copy = datagram.to_vec();
        let (end, app) = &mut self.ends[side];
        end.handle_datagram(self.now, address(1 - side), &mut copy, app);
        assert_eq!(split(&end.counters()).0, before, "the true one is taken: {name}");
        while end.poll_event().is_some() {}
    }

    /// Lets datagrams cross until nothing moves for `time`.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for side in 0..2 {
                for datagram in self.sent_by(side) {
                    // What the other side has to say is said first, so that it is no answer to damage.
                    let waiting = self.sent_by(1 - side);
                    self.give(1 - side, &datagram);
                    waiting.iter().for_each(|other| self.give_undamaged(side, other));
                }
            }
            self.now += Duration::from_millis(1);
            for (end, app) in &mut self.ends {
                end.handle_timeout(self.now, app);
            }
        }
    }

    fn give_undamaged(&mut self, side: usize, datagram: &[u8]) {
        let mut copy = datagram.to_vec();
        let (end, app) = &mut self.ends[side];
        end.handle_datagram(self.now, address(1 - side), &mut copy, app);
    }
}

#[test]
fn damaged_datagrams_change_nothing() {
    let mut world = World::new();
    let key = world.ends[1].0.public_key();
    // A dial that is never finished puts the responder under load: it asks the next one for a cookie.
    let mut stranger = endpoint(9);
    let peer = stranger.add_peer(key, Some(address(1))).unwrap();
    stranger.connect(world.now, peer).unwrap();
    let mut hello = Vec::new();
    stranger.poll_transmit(world.now, &mut hello).unwrap();
    world.give_undamaged(1, &hello);
    world.sent_by(1);

    let peer = world.ends[0].0.add_peer(key, Some(address(1))).unwrap();
    world.ends[0].0.connect(world.now, peer).unwrap();
    world.run(Duration::from_millis(300));
    for side in 0..2 {
        let (now, (end, _)) = (world.now, &mut world.ends[side]);
        let flow = end.open_flow(peer, "ab").unwrap();
        end.send(now, flow, &[7; 100], Service::Acknowledged, None).unwrap();
        world.run(Duration::from_millis(20));
        let (now, (end, _)) = (world.now, &mut world.ends[side]);
        end.send(now, flow, &[8; 1_400], Service::Acknowledged, None).unwrap();
        end.send(now, flow, &[9; 50], Service::BestEffort, None).unwrap();
        world.run(Duration::from_millis(20));
    }
    world.ends[0].0.close();
    world.closing[0] = true;
    world.run(Duration::from_millis(5));

    let kinds = [
        (1, 1, 2),
        (4, 0, 0),
        (2, 0, 0),
        (3, 1, 0),
        (0x40, 0, 0),
        (0x40, 1, 0),
        (0x40, 0, 2),
        (0x40, 1, 2),
    ];
    assert!(kinds.iter().all(|kind| world.seen.contains(kind)), "{:?}", world.seen);
    assert!(world.mutations > 40_000, "{}", world.mutations);
    assert!(world.notices >= 8 * 32, "each bit of the index: {}", world.notices);
    assert!(world.ends.iter().all(|(_, app)| app.messages > 0), "messages arrived both ways");
}
