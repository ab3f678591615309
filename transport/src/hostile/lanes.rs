//! Goal: four lanes of one session compete as one flow. Their sum in flight never passes the one window, and they send no
//! more than one lane does on the same path.

use std::collections::VecDeque;
use std::time::Duration;

use super::Siege;
use crate::endpoint::{Limits, PeerId};
use crate::flows::OutFlow;
use crate::frame;
use crate::header::LaneHeader;
use crate::send_log::{Asked, Route};
use crate::session::Session;
use crate::time::Instant;

const STEP: Duration = Duration::from_millis(1);
const ROUND_TRIP: Duration = Duration::from_millis(10);
const STEPS: u32 = 500;
/// Every so manieth datagram is lost: the window has to be cut now and then.
const LOSS_EVERY: usize = 700;
const MESSAGE_BYTES: usize = 1_000;

/// What the lanes of one session did.
#[derive(Default)]
struct Run {
    sent: Vec<u64>,
    /// Most of the window that was in flight, in percent.
    fullest: u64,
    /// Most lanes with anything in flight at one time.
    lanes_at_once: usize,
    cuts: u32,
    probes: u64,
}

fn in_flight(session: &Session) -> Vec<u64> {
    session.current.spaces.iter().map(|space| space.sent.bytes_in_flight()).collect()
}

/// A victim that sends as much as it may to so many shards of the attacker, which acknowledges all that arrives.
fn run(lanes: u8) -> Run {
    let mut siege = Siege::with_shards(Limits::default(), lanes);
    siege.acknowledges = false;
    for shard in 0..lanes {
        siege.send_as(shard, &[frame::PING]);
        siege.turn();
    }
    let peer = siege.endpoint.find_peer(&siege.key).unwrap();
    let mut run = Run { sent: vec![0; lanes.into()], ..Run::default() };
    let (mut acks, mut flow, mut out) =
        (VecDeque::<(Instant, LaneHeader)>::new(), OutFlow::new("ok"), Vec::new());
    let (mut count, mut window) = (0, 0);
    for _ in 0..STEPS {
        siege.now += STEP;
        if siege.endpoint.poll_timeout().is_some_and(|at| at <= siege.now) {
            siege.endpoint.handle_timeout(siege.now, &mut siege.victim);
        }
        while acks.front().is_some_and(|(at, _)| *at <= siege.now) {
            let (now, (_, header)) = (siege.now, acks.pop_front().unwrap());
            let mut frames = Vec::new();
            let space = siege.space(header.steering);
            space.on_received(now, &header, true, Duration::ZERO);
            space.write_ack(now, 512, &mut frames);
            siege.send_as(header.steering, &frames);
        }
        fill(&mut siege, peer, &mut flow);
        loop {
            let session = siege.endpoint.parts(peer).0;
            let window_before = session.path.congestion.window();
            let before = session.path.bytes_in_flight;
            // RFC 9002 section 7.5: a probe timeout is not held back by the window, nor is the PING beside it.
            let probes: u64 = session
                .lanes
                .iter()
                .map(|lane| u64::from(lane.probes) + u64::from(lane.ping_due))
                .sum();
            run.probes += probes;
            let Some(transmit) = siege.endpoint.poll_transmit(siege.now, &mut out) else { break };
            let session = siege.endpoint.parts(peer).0;
            let flying = in_flight(session);
            let sum: u64 = flying.iter().sum();
            assert_eq!(sum, session.path.bytes_in_flight, "one sum over all lanes");
            let most = window_before.max(before) + probes * session.path.datagram_bytes;
            assert!(sum <= most, "{flying:?} after {before} of {window_before}, {probes} probes");
            run.fullest = run.fullest.max(100 * sum / window_before);
            run.cuts += u32::from(window_before < window);
            window = window_before;
            run.lanes_at_once = run.lanes_at_once.max(flying.iter().filter(|&&n| n > 0).count());
            for datagram in out.chunks_mut(transmit.segment_bytes) {
                let header = LaneHeader::decode(datagram).unwrap();
                let shard = header.steering;
                run.sent[usize::from(shard)] += datagram.len() as u64;
                count += 1;
                if count % LOSS_EVERY == 0 {
                    continue;
                }
                siege.space(shard).open(&header, datagram).unwrap();
                acks.push_back((siege.now + ROUND_TRIP, header));
            }
        }
    }
    assert!(siege.is_connected(), "{:?}", siege.end());
    run
}

/// Keeps every lane's log full.
fn fill(siege: &mut Siege, peer: PeerId, flow: &mut OutFlow) {
    let (session, common) = siege.endpoint.parts(peer);
    for lane in &mut session.lanes {
        while lane.log.has_room(1, MESSAGE_BYTES) {
            let route = &mut Route::Flow(flow, 0);
            let body = [7; MESSAGE_BYTES];
            assert!(lane.log.push(&mut common.pool, route, Asked::default(), &body));
        }
    }
}

#[test]
fn lanes_share_one_window_and_one_pacer() {
    let [one, four] = [1, 4].map(run);
    assert_eq!((one.lanes_at_once, four.lanes_at_once), (1, 4));
    for run in [&one, &four] {
        assert!(run.fullest >= 95, "nothing but the window limits: {} %", run.fullest);
        assert!(run.cuts >= 2, "a loss on any lane cuts the window of all: {}", run.cuts);
    }
    let sums = [&one, &four].map(|run| run.sent.iter().sum::<u64>());
    assert!(sums[1] <= sums[0] * 11 / 10, "four lanes sent {} and one {}", sums[1], sums[0]);
}
