//! Owns the building of datagrams of a session: one GSO run at a time, blocks first, control frames where there is room.
//!
//! What always holds: all datagrams of a run are equally long but the last; a datagram is recorded as sent in the same
//! breath as it is sealed.

use super::{BlockedFlows, Session};
use crate::association::Association;
use crate::common::Common;
use crate::flows::OutFlow;
use crate::frame::{self, CREDIT_BYTES_MAX, Close, Greeting, Record};
use crate::header::LaneHeader;
use crate::lane::{Lane, Turn};
use crate::limits::{GSO_SEGMENTS_MAX, HEADER_BYTES, TAG_BYTES, UDP_PAYLOAD_BYTES_MAX};
use crate::send_log::Pick;
use crate::sent::{Cargo, NO_BLOCK, control};
use crate::space::PacketSpace;
use crate::time::Instant;

/// Room worth looking for control frames in.
const CONTROL_ROOM_MIN: usize = 48;

/// What the next datagram of a run carries.
#[derive(Clone, Copy)]
enum Next {
    Block(Pick, usize),
    BestEffort(usize),
    Part(u64, u8, usize),
}

/// What control frames were written.
#[derive(Clone, Copy, Default)]
struct Controls {
    bits: u8,
    eliciting: bool,
    any: bool,
}

impl Session {
    /// Appends one run to `out`, all under the current keys. Returns the length of its first datagram, or `None` when nothing may
    /// leave now.
    pub(crate) fn fill_run(
        &mut self,
        common: &mut Common,
        flows: &[OutFlow],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        self.lane.merge_refusals();
        let full = self.path.datagram_bytes as usize;
        let mut budget = self.path.budget(now) as usize;
        let (mut segment, mut count, mut last) = (0, 0, 0);
        let turn = self.lane.turn;
        while count < GSO_SEGMENTS_MAX && out.len() + full <= UDP_PAYLOAD_BYTES_MAX {
            let lane = &mut self.lane;
            if budget < full && lane.probes == 0 {
                break;
            }
            let content_max = full - HEADER_BYTES - TAG_BYTES;
            let Some(next) = next_of(lane, common, turn, content_max) else { break };
            let (Next::Block(_, content) | Next::BestEffort(content) | Next::Part(_, _, content)) =
                next;
            let bytes = HEADER_BYTES + content + TAG_BYTES;
            if count > 0 && bytes > segment {
                break;
            }
            let allowed = if count > 0 { segment } else { full };
            let room = allowed - bytes;
            let written = self.write_datagram(common, flows, now, next, room, count == 0, out);
            let Some(written) = written else { break };
            budget = budget.saturating_sub(written);
            last = written;
            count += 1;
            if count == 1 {
                segment = written;
                let is_log = !matches!(next, Next::BestEffort(_));
                self.lane.turn = if is_log { Turn::BestEffort } else { Turn::Log };
            }
            if written < segment {
                break;
            }
        }
        if count == 0 || (count < GSO_SEGMENTS_MAX && last == segment) {
            let allowed = if count > 0 { segment } else { full };
            if out.len() + allowed <= UDP_PAYLOAD_BYTES_MAX
                && let Some(bytes) = self.write_control_datagram(common, flows, now, allowed, out)
            {
                segment = if count == 0 { bytes } else { segment };
                count += 1;
            }
        }
        common.counters.datagrams_sent += count as u64;
        (count > 0).then_some(segment)
    }

    /// Writes one datagram with a block or best-effort messages; returns its length, `None` when the keys are used up.
    #[expect(clippy::too_many_arguments, reason = "one datagram's plan")]
    #[inline]
    fn write_datagram(
        &mut self,
        common: &mut Common,
        flows: &[OutFlow],
        now: Instant,
        next: Next,
        room: usize,
        is_first: bool,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let start = out.len();
        let Self { current, lane, path, blocked, .. } = self;
        let Common { entropy, pool, counters, .. } = common;
        let packet_number = current.space.next_number(now, || entropy.next_u64())?;
        out.extend_from_slice(&current.header(packet_number, false).encode());
        let mut controls = Controls::default();
        if room >= CONTROL_ROOM_MIN {
            let (space, blocked) = (&mut current.space, Some(blocked));
            controls = write_controls(lane, space, flows, blocked, now, room, packet_number, out);
        }
        let (block, cargo) = match next {
            Next::Block(pick, _) => {
                let (number, is_again) = lane.log.write(pick, out);
                counters.blocks_resent += u64::from(is_again);
                (number, Cargo::Whole)
            }
            Next::BestEffort(_) => {
                counters.best_effort_sent += u64::from(lane.best_effort.write(pool, out));
                (NO_BLOCK, Cargo::Whole)
            }
            Next::Part(number, index, _) => {
                counters.parts_sent += 1;
                lane.log.write_part(number, index, out);
                (number, Cargo::Part(index))
            }
        };
        let is_probe = lane.probes > 0;
        lane.probes = lane.probes.saturating_sub(1);
        let is_last_awaited = lane.log.is_awaited() && !lane.log.has_unsent();
        let ack_now = is_probe
            || is_last_awaited
            || (is_first && (path.wants_ack() || lane.log.is_half_full()));
        if ack_now {
            LaneHeader::ask_ack_now(&mut out[start..]);
        }
        current.space.seal_headed(packet_number, out, start);
        let bytes = out.len() - start;
        current.space.sent.on_sent_cargo(now, bytes, block, controls.bits, cargo);
        path.on_sent(bytes as u64);
        Some(bytes)
    }

    /// Writes a datagram with control frames only, when any must leave now; returns its length.
    fn write_control_datagram(
        &mut self,
        common: &mut Common,
        flows: &[OutFlow],
        now: Instant,
        allowed: usize,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let Self { current, lane, path, blocked, .. } = self;
        // It asks for an acknowledgement, so it keeps to the window (RFC 9002 section 7).
        let tells_blocked = blocked.is_due() && path.budget(now) >= path.datagram_bytes;
        let blocked = Some(blocked).filter(|_| tells_blocked);
        let is_due = current.space.is_ack_due(now)
            || !lane.grants_due.is_empty()
            || tells_blocked
            || lane.probes > 0
            || lane.ping_due
            || lane.settled_due
            || lane.log.has_skips_due()
            || lane.has_refusals_to_tell();
        if !is_due || allowed < HEADER_BYTES + TAG_BYTES + 2 * CONTROL_ROOM_MIN {
            return None;
        }
        let packet_number = current.space.next_number(now, || common.entropy.next_u64())?;
        let space = &mut current.space;
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        let room = allowed - HEADER_BYTES - TAG_BYTES - 1;
        let mut controls =
            write_controls(lane, space, flows, blocked, now, room, packet_number, out);
        if lane.probes > 0 || lane.ping_due {
            lane.probes = 0;
            lane.ping_due = false;
            out.push(frame::PING);
            controls.eliciting = true;
            controls.any = true;
        }
        if !controls.any {
            out.truncate(start);
            return None;
        }
        let ack_now = controls.eliciting && controls.bits & !control::CREDIT == controls.bits;
        let header = current.header(packet_number, ack_now);
        let space = &mut current.space;
        space.seal(&header, out, start);
        let bytes = out.len() - start;
        if controls.eliciting {
            space.sent.on_sent(now, bytes, NO_BLOCK, controls.bits);
            path.on_sent(bytes as u64);
        } else {
            space.sent.on_sent_silent(now);
            path.pacer.on_sent(bytes as u64);
        }
        Some(bytes)
    }
}

/// The next thing to send on a lane, at most `content_max` bytes long. Blocks and best effort take turns, run by run, so that neither
/// keeps the other waiting, however much there is of it.
#[inline]
fn next_of(lane: &mut Lane, common: &mut Common, turn: Turn, content_max: usize) -> Option<Next> {
    if turn == Turn::Log
        && let Some(next) = next_logged(lane, common, content_max)
    {
        return Some(next);
    }
    while !lane.best_effort.is_empty()
        && let Some(bytes) = lane.best_effort.peek()
    {
        if bytes <= content_max {
            return Some(Next::BestEffort(bytes));
        }
        let dropped = lane.best_effort.drop_next(&mut common.pool);
        common.counters.best_effort_dropped_local += u64::from(dropped);
    }
    if turn == Turn::Log { None } else { next_logged(lane, common, content_max) }
}

/// The next block or part of one.
#[inline]
fn next_logged(lane: &mut Lane, common: &mut Common, content_max: usize) -> Option<Next> {
    if lane.log.has_parts_due()
        && let Some((number, index, bytes)) = lane.log.peek_part()
    {
        return Some(Next::Part(number, index, bytes));
    }
    let (pick, bytes) = lane.log.peek(&mut common.pool)?;
    if bytes > content_max {
        common.counters.blocks_resent += u64::from(lane.log.cut_block(pick));
        let (number, index, bytes) = lane.log.peek_part()?;
        return Some(Next::Part(number, index, bytes));
    }
    Some(Next::Block(pick, bytes))
}

/// Appends whatever control frames wait, within `room` bytes.
#[expect(clippy::too_many_arguments, reason = "all that control frames tell about")]
fn write_controls(
    lane: &mut Lane,
    space: &mut PacketSpace,
    flows: &[OutFlow],
    blocked: Option<&mut BlockedFlows>,
    now: Instant,
    room: usize,
    packet_number: u64,
    out: &mut Vec<u8>,
) -> Controls {
    let limit = out.len() + room;
    let mut controls = Controls::default();
    let settled_due = std::mem::take(&mut lane.settled_due);
    if space.has_ack() || lane.refusals_due || settled_due {
        let acknowledges = space.has_ack() && space.write_ack(now, room / 2, out);
        let told = write_settled(lane, packet_number, limit - out.len(), out, &mut controls);
        // A floor alone is reason enough for a datagram only beside an acknowledgement: else it would leave without end.
        controls.any |=
            acknowledges || told == Told::Refusals || (settled_due && told == Told::Floor);
    }
    while let Some(alias) = lane.grants_due.pop() {
        if out.len() + CREDIT_BYTES_MAX > limit {
            lane.grants_due.push(alias);
            break;
        }
        if let Some(credit) = lane.take_grant(alias) {
            credit.write(out);
            controls.bits |= control::CREDIT;
        }
    }
    if lane.log.has_skips_due()
        && lane.log.write_skips(packet_number, limit.saturating_sub(out.len()), out)
    {
        controls.bits |= control::SKIP;
    }
    if let Some(blocked) = blocked
        && blocked.is_due()
        && blocked.write(flows, now, limit, out)
    {
        controls.bits |= control::BLOCKED;
    }
    controls.eliciting |= controls.bits != 0;
    controls.any |= controls.eliciting;
    controls
}

/// What a SETTLED says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It was not written.
    Nothing,
    Floor,
    Refusals,
}

/// Appends SETTLED: always beside an acknowledgement, so that it is told as often as that is.
fn write_settled(
    lane: &mut Lane,
    packet_number: u64,
    room: usize,
    out: &mut Vec<u8>,
    controls: &mut Controls,
) -> Told {
    let floor = lane.settled_floor();
    if floor == 0 || room < CONTROL_ROOM_MIN / 2 {
        return Told::Nothing;
    }
    let told = frame::write_settled(floor, lane.refusals(), room, out);
    if told == 0 {
        return Told::Floor;
    }
    let told_floor = lane.refusals().get(told).map_or(floor, |refusal| refusal.0.min(floor));
    lane.on_refusals_told(packet_number, told_floor);
    controls.bits |= control::REFUSALS;
    // What did not fit is told when this much is acknowledged.
    lane.refusals_due = false;
    Told::Refusals
}

/// Builds one datagram of an association outside its session's runs: its greeting when due, and acknowledgements.
/// Returns its length.
pub(crate) fn write_association_datagram(
    association: &mut Association,
    common: &mut Common,
    now: Instant,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let Common { entropy, greeting, counters, .. } = common;
    let greets = association.is_greeting_due(now);
    if !greets && !association.space.is_ack_due(now) {
        return None;
    }
    let incarnation = association.incarnation;
    let packet_number = association.space.next_number(now, || entropy.next_u64())?;
    let header = association.header(packet_number, greets);
    let space = &mut association.space;
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    if space.has_ack() {
        space.write_ack(now, 256, out);
    }
    if greets {
        Record::Greeting(Greeting { incarnation, ..greeting.clone() }).write(out);
    }
    space.seal(&header, out, start);
    let bytes = out.len() - start;
    if greets {
        // Outside the path's window: one short datagram per repetition.
        space.sent.on_sent(now, 0, NO_BLOCK, control::GREETING);
        association.on_greeting_sent(now);
    } else {
        space.sent.on_sent_silent(now);
    }
    association.sent_tags.on_run(&out[start..], bytes);
    counters.datagrams_sent += 1;
    Some(bytes)
}

/// Builds the datagram that ends a session, told once: whoever misses it learns from silence. Who sends it counts it.
pub(crate) fn write_close(
    association: &mut Association,
    common: &mut Common,
    now: Instant,
    close: Close,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let packet_number = association.space.next_number(now, || common.entropy.next_u64())?;
    let header = association.header(packet_number, false);
    let space = &mut association.space;
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    if space.has_ack() {
        space.write_ack(now, 256, out);
    }
    Record::Close(close).write(out);
    space.seal(&header, out, start);
    space.sent.on_sent_silent(now);
    Some(out.len() - start)
}
