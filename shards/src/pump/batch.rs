//! Owns how a batch of datagrams that came by the socket is handled: whole, or half by half when that lets answers leave between.
//!
//! What always holds: the half that was kept is handled before anything that came after it.

use std::net::SocketAddr;

use cubed_runtime::{Port, Received};

use super::flush;
use crate::hellos::Hellos;
use crate::limits::ANSWERED_APART_MIN;
use crate::ports::reached_from;
use crate::shared::{Shared, State};
use crate::strays::Strays;

/// The second half of a batch whose first half brought answers: those leave before it is handled.
#[derive(Default)]
pub(super) struct Rest {
    bytes: Vec<u8>,
    /// Length of each datagram, sender and port, while there are any.
    from: Option<(usize, SocketAddr, Port)>,
}

impl Rest {
    /// There is none.
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_none()
    }
}

/// [`receive`] of a whole batch, or of its first half, if that brings answers and the rest is worth a send call of its own:
/// whoever asked can then ask on while the other half is handled, and the two sides work at once instead of in turn.
pub(super) fn receive_first(
    shared: &Shared,
    strays: &mut Strays,
    hellos: &mut Hellos,
    batch: Received<'_>,
    rest: &mut Rest,
) {
    handle_rest(shared, strays, hellos, rest);
    let Received { bytes, segment_bytes, from, port } = batch;
    let datagrams = bytes.len().div_ceil(segment_bytes);
    let middle =
        if datagrams >= ANSWERED_APART_MIN { datagrams / 2 * segment_bytes } else { bytes.len() };
    let (first, second) = bytes.split_at_mut(middle);
    let set_aside = |from: SocketAddr, bytes: &[u8]| hellos.set_aside(from, bytes);
    let mut batch = Received { bytes: first, segment_bytes, from, port };
    let has_answers = receive(shared, strays, set_aside, &mut batch);
    if second.is_empty() {
        return;
    }
    if has_answers {
        rest.bytes.clear();
        rest.bytes.extend_from_slice(second);
        rest.from = Some((segment_bytes, from, port));
        return;
    }
    let set_aside = |from: SocketAddr, bytes: &[u8]| hellos.set_aside(from, bytes);
    receive(shared, strays, set_aside, &mut Received { bytes: second, segment_bytes, from, port });
}

/// Handles the half of a batch that was kept, if there is one.
pub(super) fn handle_rest(
    shared: &Shared,
    strays: &mut Strays,
    hellos: &mut Hellos,
    rest: &mut Rest,
) {
    let Some((segment_bytes, from, port)) = rest.from.take() else { return };
    let mut batch = Received { bytes: &mut rest.bytes, segment_bytes, from, port };
    receive(shared, strays, |from, bytes| hellos.set_aside(from, bytes), &mut batch);
}

/// Handles one batch of datagrams, but for those of other shards and those that were set aside, and hands over what handlers
/// said meanwhile; whether they said anything. Credit that comes back is no such thing: it splits no batch.
pub(super) fn receive(
    shared: &Shared,
    strays: &mut Strays,
    mut set_aside: impl FnMut(SocketAddr, &[u8]) -> bool,
    batch: &mut Received<'_>,
) -> bool {
    let now = shared.read_clock();
    let mut state = shared.state.borrow_mut();
    let State { endpoint, receiver, .. } = &mut *state;
    receiver.now = now;
    let from = reached_from(batch.port, batch.from);
    for datagram in batch.bytes.chunks_mut(batch.segment_bytes) {
        if let Some(other) = strays.destination(datagram) {
            strays.hand_over(other, from, datagram);
            continue;
        }
        if set_aside(from, datagram) {
            continue;
        }
        endpoint.handle_datagram(now, from, datagram, receiver);
    }
    let has_answers = shared.outbox.borrow().has_messages();
    flush(shared, &mut state);
    has_answers
}
