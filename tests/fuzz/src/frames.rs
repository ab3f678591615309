//! Owns the target that speaks frames to a node from behind the AEAD: a peer that proved its key and then says anything.
//!
//! What always holds: an input is a row of steps, each a byte that chooses and what it needs; a short input ends quietly.

use std::time::Duration;

use cubed_transport::testing::Pair;
use cubed_transport::{Limits, Service, Token};

/// Most that a node may answer to one datagram: a GSO run's worth of acknowledgements would already be strange.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Part of what a peer may make a node hold that is set aside for refusals.
const REFUSALS_BYTES_MAX: usize = 3 << 20;
/// Longest payload given, but for a few as long as any datagram may be.
const PAYLOAD_BYTES_MAX: usize = 1_400;
const PAYLOAD_BYTES_LONGEST: usize = 9_100;
/// Added to packet numbers from some steps on: around what a replay window spans, and at the ends of what a number can be.
const JUMPS: [u64; 8] =
    [1 << 6, 1 << 13, 1 << 18, 1 << 32, (1 << 62) - 64, 1 << 62, 1 << 63, u64::MAX];

/// Speaks the frames in `data` to a node under real keys, while it sends and asks too.
///
/// # Panics
/// When the node panics, its sums do not add up or it answers without measure.
pub fn frames(data: &[u8]) {
    let limits = limits();
    let mut pair = Pair::connected(&limits);
    let mut rest = data;
    let mut token = 0;
    while let Some((&step, more)) = rest.split_first() {
        rest = more;
        match step % 16 {
            0..=11 => {
                let Some((&[low, high], more)) = rest.split_first_chunk() else { return };
                let most = if step % 16 == 11 { PAYLOAD_BYTES_LONGEST } else { PAYLOAD_BYTES_MAX };
                let length = usize::from(u16::from_le_bytes([low, high])) % most;
                let (payload, more) = more.split_at(length.min(more.len()));
                rest = more;
                if !pair.inject(payload) {
                    return;
                }
            }
            12 => pair.wait(Duration::from_millis(u64::from(step) * 4)),
            13 if step >= 0x80 => pair.jump = JUMPS[usize::from(step >> 4) - 8],
            13 => pair.exchange(Duration::from_millis(2)),
            14 => send(&mut pair, usize::from(step) * 40, &mut token),
            _ => ask(&mut pair, &mut token),
        }
        check(&mut pair);
    }
    pair.wait(Duration::from_secs(4));
    check(&mut pair);
}

/// Limits under which what a peer may make a node hold is soon reached.
#[must_use]
pub fn limits() -> Limits {
    // The shortest datagrams: what has to fit one has the least room.
    let least = Limits { message_bytes_max: 1 << 20, datagram_bytes: 1_200, ..Limits::default() };
    Limits { peer_bytes_max: (16 << 20) + (5 << 18), ..least }
}

/// The honest node sends, so that there is something to acknowledge and settle.
fn send(pair: &mut Pair, bytes: usize, token: &mut u64) {
    let (now, hostile) = (pair.now, pair.hostile());
    let (honest, _) = &mut pair.ends[1];
    *token += 1;
    let Ok(flow) = honest.open_flow(hostile, "ab") else { return };
    let body = vec![*token as u8; bytes];
    let service =
        if bytes.is_multiple_of(80) { Service::Acknowledged } else { Service::BestEffort };
    let token = (service == Service::Acknowledged).then_some(Token(*token));
    let _ = honest.send(now, flow, &body, service, token);
}

fn ask(pair: &mut Pair, token: &mut u64) {
    let (now, hostile) = (pair.now, pair.hostile());
    let (honest, _) = &mut pair.ends[1];
    *token += 1;
    let Ok(flow) = honest.open_flow(hostile, "abcde") else { return };
    let _ = honest.request(
        now,
        flow,
        &vec![7; 100].into(),
        Token(*token),
        now + Duration::from_secs(1),
    );
}

/// What must hold after each step.
///
/// # Panics
/// When it does not.
pub fn check(pair: &mut Pair) {
    let held = pair.held();
    assert!(held.total() <= limits().peer_bytes_max, "held for one peer: {held:?}");
    assert!(held.refusals <= REFUSALS_BYTES_MAX, "held for one peer: {held:?}");
    let answered: usize = pair.answers.iter().map(Vec::len).sum();
    assert!(answered < ANSWER_BYTES_MAX, "{answered} bytes answered");
    let tally = pair.ends[1].0.tally();
    let ended = tally.delivered + tally.refused + tally.expired + tally.peer_lost + tally.unknown;
    assert_eq!(tally.offered, ended + tally.pending, "{tally:?}");
    drop(pair.events());
}
