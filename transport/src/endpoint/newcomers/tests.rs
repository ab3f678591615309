//! Goal: a greeting that oversizes a field ends the attempt on both sides, with words that name the field; each datagram that leaves
//! is counted once.
use super::*;
use crate::endpoint::{
    Binding, ChannelId, Config, DialFailure, Disposition, Incoming, PeerId, Refusal,
};
use crate::identity::Identity;
use crate::random::SeededEntropy;

struct Anybody;

impl Application for Anybody {
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
        Err(Refusal::NoSuchFlow)
    }
    fn deliver(&mut self, _: Incoming<'_>) -> Result<Disposition, Refusal> {
        Err(Refusal::NoSuchFlow)
    }
}

fn endpoint(seed: u8) -> Endpoint {
    let config = Config { name: "node".into(), ..Config::new([seed; 16], [seed; 32]) };
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy).unwrap()
}

/// Lets the first dial the second for a second, and tells how that failed.
fn dial(ends: &mut [Endpoint; 2]) -> Vec<DialFailure> {
    let addresses: [SocketAddr; 2] = [([10, 0, 0, 1], 1).into(), ([10, 0, 0, 2], 2).into()];
    let mut now = Instant::from_nanos(1_000_000_000);
    let peer = ends[0].add_peer(ends[1].public_key(), Some(addresses[1])).unwrap();
    ends[0].connect(now, peer).unwrap();
    let (mut out, mut left) = (Vec::new(), [0; 2]);
    for _ in 0..100 {
        for side in 0..2 {
            while let Some(transmit) = ends[side].poll_transmit(now, &mut out) {
                for datagram in out.chunks_mut(transmit.segment_bytes) {
                    left[side] += 1;
                    let from = addresses[side];
                    ends[1 - side].handle_datagram(now, from, datagram, &mut Anybody);
                }
            }
            ends[side].handle_timeout(now, &mut Anybody);
        }
        now += std::time::Duration::from_millis(10);
    }
    assert_eq!([0, 1].map(|side: usize| ends[side].common.counters.datagrams_sent), left);
    let mut failures = Vec::new();
    while let Some(event) = ends[0].poll_event() {
        if let Event::DialFailed { error, .. } = event {
            failures.push(error);
        }
    }
    failures
}

#[test]
fn a_long_role_of_the_dialler_is_refused_and_told() {
    let mut ends = [1, 2].map(endpoint);
    ends[0].common.greeting.role = "r".repeat(65);
    let failures = dial(&mut ends);
    assert!(failures[0].to_string().contains("malformed"), "{failures:?}");
    assert_eq!(ends[1].common.counters.violations, 1);
    assert_eq!(ends[1].common.counters.sessions_begun, 0);
    assert_eq!(ends[1].find_peer(&ends[0].public_key()), None);
}

#[test]
fn a_long_role_of_the_responder_is_refused_by_name() {
    let mut ends = [1, 2].map(endpoint);
    ends[1].common.greeting.role = "r".repeat(65);
    let failures = dial(&mut ends);
    let words = failures[0].to_string();
    assert!(words.contains("role is longer than 64 bytes"), "{words}");
    assert_eq!(ends[0].common.counters.sessions_begun, 0);
}
