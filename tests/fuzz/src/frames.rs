//! Owns the target that speaks frames to a node from behind the AEAD: a peer that proved its key and then says anything.
//!
//! What always holds: an input is a row of steps, each a byte that chooses and what it needs; a short input ends quietly.

use std::time::Duration;

use cubed_transport::testing::Pair;
use cubed_transport::{Limits, Service, Token};

/// Most that a node may answer to one datagram: a GSO run's worth of acknowledgements would already be strange.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Speaks the frames in `data` to a node under real keys, while it sends and asks too.
///
/// # Panics
/// When the node panics, its sums do not add up or it answers without measure.
pub fn frames(data: &[u8]) {
    let limits = Limits { message_bytes_max: 1 << 20, ..Limits::default() };
    let mut pair = Pair::connected(&limits);
    let mut rest = data;
    let mut token = 0;
    while let Some((&step, more)) = rest.split_first() {
        rest = more;
        match step % 16 {
            0..=11 => {
                let Some((&[low, high], more)) = rest.split_first_chunk() else { return };
                let length = usize::from(u16::from_le_bytes([low, high])) % 1_400;
                let (payload, more) = more.split_at(length.min(more.len()));
                rest = more;
                if !pair.inject(payload) {
                    return;
                }
            }
            12 => pair.wait(Duration::from_millis(u64::from(step) * 4)),
            13 => pair.exchange(Duration::from_millis(2)),
            14 => send(&mut pair, usize::from(step) * 40, &mut token),
            _ => ask(&mut pair, &mut token),
        }
        check(&mut pair);
    }
    pair.wait(Duration::from_secs(4));
    check(&mut pair);
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
    let _ =
        honest.request(now, flow, vec![7; 100].into(), Token(*token), now + Duration::from_secs(1));
}

fn check(pair: &mut Pair) {
    let answered: usize = pair.answers.iter().map(Vec::len).sum();
    assert!(answered < ANSWER_BYTES_MAX, "{answered} bytes answered");
    let tally = pair.ends[1].0.tally();
    let ended = tally.delivered + tally.refused + tally.expired + tally.peer_lost + tally.unknown;
    assert_eq!(tally.offered, ended + tally.pending, "{tally:?}");
    drop(pair.events());
}
