//! Goal: whoever has no session yet, proven or not, makes an endpoint keep no more timers, believe no address that it has not
//! proven, and gets nothing from one that is closed.

use std::net::SocketAddr;

use super::{HOSTILE, Siege, Victim, besieged, greeting_of, shake};
use crate::endpoint::{Endpoint, Event, Limits, Verdict};
use crate::frame;
use crate::handshake::{Credentials, Dial, Established};
use crate::header::LaneHeader;
use crate::identity::Identity;
use crate::limits::{HALF_OPEN_AGE_MAX, HEADER_BYTES};
use crate::space::{KeyLimits, PacketSpace};
use crate::time::Instant;

const BEGUN: Instant = Instant::from_nanos(5_000_000_000);

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 9, 9, host], 999))
}

/// A datagram with these frames, the first of this handshake.
fn sealed(established: &Established, frames: &[u8]) -> Vec<u8> {
    let Established { secret, suite, role, remote_index, .. } = established;
    let keys = secret.lane_keys(*suite, *role, 0, 0);
    let limits = KeyLimits::new(*suite, &Limits::default());
    let mut space = PacketSpace::new(keys, limits, 1_000_000);
    let header = LaneHeader {
        key_phase: false,
        steering: 0,
        association: *remote_index,
        sender_shard: 0,
        ack_now: true,
        packet_number: space.next_number(BEGUN, || 1).unwrap(),
    };
    let mut datagram = vec![0; HEADER_BYTES];
    datagram.extend_from_slice(frames);
    space.seal(&header, &mut datagram, 0);
    datagram
}

fn hello(endpoint: &Endpoint, number: u8) -> Vec<u8> {
    let credentials = Credentials::new(&Identity::from_seed(&[6; 32])).unwrap();
    let dial = Dial::new(&credentials, endpoint.public_key(), "", 1, [number; 8], 0).unwrap();
    let mut out = Vec::new();
    dial.hello(None, &mut out);
    out
}

/// Where everything goes that the endpoint has to send.
fn sent_to(endpoint: &mut Endpoint, now: Instant) -> Vec<SocketAddr> {
    let mut out = Vec::new();
    std::iter::from_fn(|| endpoint.poll_transmit(now, &mut out)).map(|sent| sent.to).collect()
}

#[test]
fn answered_hellos_share_one_timer() {
    let (mut endpoint, mut app) = (besieged(Limits::default()), Victim::default());
    let mut now = BEGUN;
    for number in 0..60 {
        endpoint.handle_datagram(now, at(1), &mut hello(&endpoint, number), &mut app);
        now += HALF_OPEN_AGE_MAX / 20;
        endpoint.handle_timeout(now, &mut app);
        assert!(endpoint.timers_waiting() <= 1, "{} timers", endpoint.timers_waiting());
    }
    assert_eq!(endpoint.counters().hellos_answered, 60, "each cost an answer");
    assert!(endpoint.half_open() <= 21, "{}", endpoint.half_open());
    let last = endpoint.poll_timeout().expect("answers are to be forgotten");
    endpoint.handle_timeout(last + HALF_OPEN_AGE_MAX, &mut app);
    assert_eq!((endpoint.half_open(), endpoint.timers_waiting()), (0, 0));
    assert_eq!(endpoint.poll_timeout(), None);
    endpoint.handle_datagram(now, at(1), &mut hello(&endpoint, 99), &mut app);
    assert_eq!(endpoint.poll_timeout(), Some(now + HALF_OPEN_AGE_MAX), "and again");
}

#[test]
fn a_stranger_is_judged_where_its_finish_came_from() {
    let mut endpoint = besieged(Limits::default());
    let mut app = Victim { verdict: Some(Verdict::Pending), ..Victim::default() };
    for (number, frames) in [(0, greeting_of(1)), (1, vec![frame::RECORD])] {
        let stranger = Identity::from_seed(&[20 + number as u8; 32]);
        let proven = at(1);
        let keys = shake(BEGUN, &stranger, (number, proven), (&mut endpoint, &mut app));
        // The greeting says that it comes from elsewhere; anybody can write that.
        endpoint.handle_datagram(BEGUN, at(2), &mut sealed(&keys, &frames), &mut app);
        assert_eq!(sent_to(&mut endpoint, BEGUN), [proven], "where the CLOSE went");
    }
    assert_eq!(app.judged, [at(1)]);
    let turned_away: Vec<_> = std::iter::from_fn(|| endpoint.poll_event())
        .filter_map(|event| match event {
            Event::TurnedAway { address, .. } => Some(address),
            _ => None,
        })
        .collect();
    assert_eq!(turned_away, [at(1)]);
}

#[test]
fn a_known_dialler_is_judged_where_its_finish_came_from() {
    for (is_strict, judged) in [(false, 2), (true, 2)] {
        let mut siege = Siege::new(Limits::default());
        siege.victim.verdict = Some(Verdict::Pending).filter(|_| is_strict);
        let victim = (&mut siege.endpoint, &mut siege.victim);
        let proven = at(1);
        let keys = shake(siege.now, &siege.identity, (1, proven), victim);
        let mut greeting = sealed(&keys, &greeting_of(1));
        siege.endpoint.handle_datagram(siege.now, at(2), &mut greeting, &mut siege.victim);
        let judged_at: Vec<_> =
            siege.victim.judged.iter().filter(|from| from.port() != super::BYSTANDER.1).collect();
        assert_eq!(judged_at.len(), judged);
        assert_eq!(judged_at[1], &proven);
        siege.turn();
        let addresses = siege.events.iter().filter_map(|event| match event {
            Event::TurnedAway { address, .. } => Some(*address),
            _ => None,
        });
        assert_eq!(addresses.collect::<Vec<_>>(), if is_strict { vec![proven] } else { vec![] });
    }
}

#[test]
fn nobody_gets_a_session_after_the_end() {
    let (mut endpoint, mut app) = (besieged(Limits::default()), Victim::default());
    let from = SocketAddr::from(HOSTILE);
    let stranger = Identity::from_seed(&[20; 32]);
    let keys = shake(BEGUN, &stranger, (0, from), (&mut endpoint, &mut app));
    endpoint.close();
    let before = endpoint.counters();
    endpoint.handle_datagram(BEGUN, from, &mut sealed(&keys, &greeting_of(1)), &mut app);
    let after = endpoint.counters();
    assert_eq!((after.sessions_begun, app.judged.len()), (0, 0));
    assert_eq!(after.dropped_closed, before.dropped_closed + 1);
    assert_eq!(after.datagrams_taken, before.datagrams_taken);
    assert!(sent_to(&mut endpoint, BEGUN).is_empty());
}

/// Moves the attacker, with a session, to another address, and proves it there.
fn move_to(siege: &mut Siege, from: SocketAddr) {
    siege.from = from;
    siege.send(&[frame::PING]);
    let peer = siege.endpoint.find_peer(&siege.key).unwrap();
    // The challenge leaves for the new address.
    siege.turn();
    let (session, _) = siege.endpoint.parts(peer);
    let prospect = session.path.prospect.as_deref().expect("the address is challenged");
    let mut frames = vec![frame::PATH_RESPONSE];
    frames.extend_from_slice(&prospect.data);
    siege.send(&frames);
    assert_eq!(siege.endpoint.peer_address(peer), Some(from), "it has moved");
}

#[test]
fn handshakes_under_way_move_with_the_peer() {
    for is_elsewhere in [false, true] {
        let mut siege = Siege::new(Limits::default());
        siege.turn();
        // A handshake that was finished at the old address, or at one of its own, and whose greeting comes after the move.
        let (old, new, own) = (siege.from, at(7), at(8));
        let begun_at = if is_elsewhere { own } else { old };
        let victim = (&mut siege.endpoint, &mut siege.victim);
        let keys = shake(siege.now, &siege.identity, (1, begun_at), victim);
        siege.turn();
        move_to(&mut siege, new);
        let mut greeting = sealed(&keys, &greeting_of(1));
        siege.endpoint.handle_datagram(siege.now, new, &mut greeting, &mut siege.victim);
        (siege.established, siege.jump) = (keys, 1);
        siege.spaces.clear();
        siege.send(&[frame::PING]);
        let peer = siege.endpoint.find_peer(&siege.key).unwrap();
        let expected = if is_elsewhere { own } else { new };
        assert_eq!(siege.endpoint.peer_address(peer), Some(expected));
        assert_eq!(siege.endpoint.counters().rekeys, 1, "the new keys are sent on");
    }
}
