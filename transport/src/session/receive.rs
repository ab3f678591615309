//! Owns the walk through the frames of one opened datagram of a session.
//!
//! What always holds: frames are taken in order; the first fault ends the walk and the datagram is then not acknowledged.

use super::Session;
use crate::common::{Common, Fault};
use crate::endpoint::Application;
use crate::flows::OutFlow;
use crate::frame::{self, Close, Credit, Record};
use crate::header::LaneHeader;
use crate::lane::{Lane, Receiving};
use crate::limits::{ACK_RANGES_MAX, DATAGRAM_BYTES_FLOOR};
use crate::path::CHALLENGE_BYTES;
use crate::ranges::Ack;
use crate::sent::{Cargo, NO_BLOCK, SentPacket, control};
use crate::slots::SlotPool;
use crate::time::Instant;
use crate::varint::Reader;
use crate::work;

/// What one datagram's frames amount to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// It asks for an acknowledgement.
    pub(crate) eliciting: bool,
    /// The peer ended the session.
    pub(crate) close: Option<Close>,
    /// There may be room again for messages that found none.
    pub(crate) progress: bool,
    /// It carried what a peer sends only on the association that it chose.
    pub(crate) chosen: bool,
}

impl Session {
    /// Takes the frames of a datagram that opened under the association with index `header.association`.
    #[inline]
    pub(crate) fn handle_payload<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        flows: &mut [OutFlow],
        now: Instant,
        header: &LaneHeader,
        payload: &[u8],
    ) -> Result<Taken, Fault> {
        let taken = self.take_frames(rx, flows, now, header, payload);
        self.lane.merge_refusals();
        taken
    }

    #[inline]
    fn take_frames<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        flows: &mut [OutFlow],
        now: Instant,
        header: &LaneHeader,
        payload: &[u8],
    ) -> Result<Taken, Fault> {
        let (mut taken, mut acknowledges) = (Taken::default(), false);
        let mut reader = Reader::new(payload);
        while let Some(kind) = reader.u8() {
            work::count(1);
            taken.chosen |= !matches!(kind, frame::ACK | frame::PADDING | frame::RECORD);
            match kind {
                frame::BLOCK => {
                    taken.eliciting = true;
                    let number = reader.varint().ok_or(MALFORMED)?;
                    self.lane.handle_block(rx, number, reader.rest())?;
                    break;
                }
                frame::BEST_EFFORT => {
                    taken.eliciting = true;
                    self.lane.handle_best_effort(rx, reader.rest())?;
                    break;
                }
                frame::PADDING => {}
                frame::PING => taken.eliciting = true,
                frame::ACK => {
                    let ack = read_ack(&mut reader, &mut acknowledges)?;
                    taken.progress |= self.handle_ack(rx, flows, now, header, &ack)?;
                }
                frame::SETTLED => {
                    taken.progress |= self.handle_settled(rx, flows, &mut reader)?;
                    // Only when these are acknowledged are more told.
                    taken.eliciting |= !rx.common.refusals.is_empty();
                }
                frame::CREDIT => {
                    taken.eliciting = true;
                    taken.progress |= self.handle_credit(flows, &mut reader)?;
                }
                frame::BLOCKED => {
                    taken.eliciting = true;
                    let (alias, wanted) = frame::read_blocked(&mut reader).ok_or(MALFORMED)?;
                    self.lane.handle_blocked(alias, wanted)?;
                }
                frame::RECORD => match Record::read(&mut reader).map_err(Fault::Violation)? {
                    Record::Greeting(_) => taken.eliciting = true,
                    Record::Close(close) => taken.close = Some(close),
                    Record::Bind(bind) => {
                        taken.eliciting = true;
                        self.lane.handle_bind(rx, &bind)?;
                    }
                    Record::Skipped => {}
                },
                _ => {
                    taken.eliciting = true;
                    self.handle_rare_frame(rx, kind, &mut reader)?;
                }
            }
        }
        Ok(taken)
    }

    /// Takes a frame that few datagrams carry.
    #[cold]
    fn handle_rare_frame<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        kind: u8,
        reader: &mut Reader<'_>,
    ) -> Result<(), Fault> {
        match kind {
            frame::SKIP => {
                let mut runs = Vec::new();
                let skip = frame::read_skip(reader, &mut runs).ok_or(MALFORMED)?;
                self.lane.handle_skip(rx, skip, &runs)
            }
            frame::PART => self.lane.handle_part(rx, reader),
            frame::PATH_CHALLENGE | frame::PATH_RESPONSE => self.handle_path_frame(kind, reader),
            _ => Err(Fault::Violation("unknown frame type")),
        }
    }

    /// Packets that arrived; returns whether any of them was not known to have.
    fn handle_ack<A>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        flows: &mut [OutFlow],
        now: Instant,
        header: &LaneHeader,
        ack: &Ack<'_>,
    ) -> Result<bool, Fault> {
        let Self { current, previous, lane, path, .. } = self;
        let is_current = current.local_index() == header.association;
        let association = if is_current {
            current
        } else {
            let mut others = previous.iter_mut();
            let other = others.find(|other| other.local_index() == header.association);
            let Some(other) = other else { return Ok(false) };
            other
        };
        let (space, pool) = (&mut association.space, &mut rx.common.pool);
        let in_flight = space.sent.bytes_in_flight();
        let limited_by_window = path.bytes_in_flight * 2 > path.congestion.window();
        let (mut greeted, mut told_refusals, mut told_skips) = (false, false, false);
        let (mut long, mut size_probe, since) = (Instant::default(), None, path.since);
        let summary = space
            .sent
            .on_ack(now, &path.rtt, ack, |packet| {
                let probed = on_cargo_acked(lane, pool, flows, packet);
                if packet.time >= since {
                    // What was sent on another path tells nothing of what this one carries.
                    size_probe = size_probe.or(probed);
                    let is_long = packet.bytes > DATAGRAM_BYTES_FLOOR;
                    long = if is_long { long.max(packet.time) } else { long };
                }
                greeted |= packet.control & control::GREETING != 0;
                told_refusals |= packet.control & control::REFUSALS != 0;
                told_skips |= packet.control & control::SKIP != 0;
            })
            .map_err(|_| LIE)?;
        space.on_heard(ack);
        path.bytes_in_flight -= in_flight - space.sent.bytes_in_flight();
        path.search.on_long_arrived(long);
        if told_refusals && is_current {
            lane.on_refusals_acknowledged(rx.room, ack);
        }
        if told_skips && is_current {
            lane.log.on_skips_acked(ack);
        }
        if greeted {
            association.on_greeting_acknowledged();
        }
        rx.common.counters.packets_lost_spuriously += summary.spurious;
        path.on_acked(now, &summary, ack.delay_us, &rx.common.absence, limited_by_window);
        if summary.newest.is_some() {
            self.probe_count = 0;
        }
        if summary.spurious > 0 {
            self.on_spurious_loss();
        }
        if let Some(bytes) = size_probe {
            self.on_size_probe_acked(rx.common, now, bytes);
        }
        self.detect_losses(rx.common, now, header.association);
        if greeted {
            self.settle_candidate(rx.common, now, header.association);
        }
        Ok(summary.newest.is_some())
    }

    /// Blocks that ended; returns whether any of them had not. The refusals told stay in `Common::refusals`.
    fn handle_settled<A>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        flows: &mut [OutFlow],
        reader: &mut Reader<'_>,
    ) -> Result<bool, Fault> {
        let mut refusals = std::mem::take(&mut rx.common.refusals);
        let floor = frame::read_settled(reader, &mut refusals).ok_or(MALFORMED)?;
        let Common { pool, ends, .. } = &mut *rx.common;
        let (peer, requests_pending) = (rx.peer.place(), &mut *rx.requests_pending);
        let settled = self.lane.log.on_settled(
            floor,
            &refusals,
            pool,
            |alias| bound(flows, alias),
            |waiter, outcome| *requests_pending -= u32::from(ends.tell(waiter, outcome, peer)),
        );
        rx.common.refusals = refusals;
        let settled = settled.ok_or(Fault::Violation("settled what was never sent"))?;
        if settled.delivered + settled.refused + settled.expired > 0 {
            self.settle_probes = 0;
        }
        rx.common.tally.delivered += settled.delivered;
        rx.common.tally.refused += settled.refused;
        rx.common.tally.expired += settled.expired;
        Ok(settled.is_news)
    }

    /// A grant; returns whether it gives room.
    fn handle_credit(
        &mut self,
        flows: &mut [OutFlow],
        reader: &mut Reader<'_>,
    ) -> Result<bool, Fault> {
        let Credit { alias, limit, message_bytes_max, refusal } =
            Credit::read(reader).ok_or(MALFORMED)?;
        let flow = flows.get_mut(alias as usize);
        let flow = flow.ok_or(Fault::Violation("credit for a flow never named"))?;
        if flow.moved.is_some() {
            // Flows move when a session begins: an honest peer has not heard the name of this one.
            return Ok(false);
        }
        // A refusal tells no length. It is no reason to send nothing, or nobody would hear when it falls.
        let message_bytes_max = if refusal.is_some() { u64::MAX } else { message_bytes_max };
        let news = flow.refusal != refusal || flow.message_bytes_max != message_bytes_max;
        flow.refusal = refusal;
        flow.message_bytes_max = message_bytes_max;
        Ok(self.credit.grant(flow, limit) || news)
    }

    /// Declares packets lost under one association, by count or by time.
    pub(super) fn detect_losses(&mut self, common: &mut Common, now: Instant, association: u32) {
        let Self { current, previous, lane, path, .. } = self;
        let mut all = std::iter::once(current).chain(previous);
        let Some(association) = all.find(|other| other.local_index() == association) else {
            return;
        };
        let space = &mut association.space;
        let before = space.sent.bytes_in_flight();
        let (mut lost, mut controls, mut fell) = (0, 0, false);
        let (search, since) = (&mut path.search, path.since);
        let Common { counters, pool, .. } = common;
        let losses = space.sent.detect_losses(now, &path.rtt, |packet| {
            lost += 1;
            controls |= packet.control;
            let probed = lane.on_lost(packet, pool);
            counters.size_probes_lost += u64::from(probed.is_some());
            if packet.time >= since {
                if let Some(bytes) = probed {
                    search.on_probe_lost(now, bytes);
                }
                fell |= search.on_lost(now, packet.time, packet.bytes);
            }
        });
        if lost == 0 {
            return;
        }
        counters.packets_lost += lost;
        counters.size_fell += u64::from(fell);
        path.bytes_in_flight -= before - space.sent.bytes_in_flight();
        path.on_lost(now, &losses);
        lane.refusals_due |= controls & control::REFUSALS != 0;
        if controls & control::SKIP != 0 {
            lane.log.tell_skips_again();
        }
        if controls & control::CREDIT != 0 {
            lane.tell_grants_again();
        }
        if controls & control::BLOCKED != 0 {
            self.blocked.tell_all();
        }
        if fell {
            self.on_size_changed();
        }
    }

    /// A packet counted as lost arrived: the window comes back if that proved reordering and every loss of its cut arrived.
    #[cold]
    fn on_spurious_loss(&mut self) {
        let Some(cut) = self.path.congestion.recovery_start() else { return };
        let all = std::iter::once(&self.current).chain(&self.previous);
        let mut sent = all.map(|association| &association.space.sent);
        let is_proven = sent.clone().any(|sent| sent.has_proof_since(cut));
        if is_proven && !sent.any(|sent| sent.has_lost_since(cut)) {
            self.path.congestion.on_spurious_loss();
        }
    }

    /// Notes a challenge or an answer; what follows depends on where the datagram came from.
    #[cold]
    fn handle_path_frame(&mut self, kind: u8, reader: &mut Reader<'_>) -> Result<(), Fault> {
        let bytes = reader.bytes(CHALLENGE_BYTES).and_then(|bytes| bytes.try_into().ok());
        let data = Some(bytes.ok_or(MALFORMED)?);
        let told = self.path.told.get_or_insert_default();
        if kind == frame::PATH_CHALLENGE {
            told.challenge = data;
        } else {
            told.response = data;
        }
        Ok(())
    }
}

/// Reads an acknowledgement. What one datagram can make us walk through is bounded.
#[inline]
fn read_ack<'a>(reader: &mut Reader<'a>, acknowledges: &mut bool) -> Result<Ack<'a>, Fault> {
    let ack = crate::ranges::decode_ack(reader).ok_or(MALFORMED)?;
    if std::mem::replace(acknowledges, true) {
        return Err(Fault::Violation("two acknowledgements in one datagram"));
    }
    if ack.range_count() > ACK_RANGES_MAX {
        return Err(Fault::Violation("an acknowledgement of too many ranges"));
    }
    Ok(ack)
}

/// What a datagram carried has arrived. Returns the length that a size probe had.
#[inline]
fn on_cargo_acked(
    lane: &mut Lane,
    pool: &mut SlotPool,
    flows: &mut [OutFlow],
    packet: &SentPacket,
) -> Option<u16> {
    match packet.cargo {
        Cargo::Whole if packet.block == NO_BLOCK => {}
        Cargo::Whole => lane.log.on_acked(packet.block, pool, |alias| bound(flows, alias)),
        Cargo::Part(index) => {
            let part = (packet.block, index);
            lane.log.on_part_acked(part, pool, |alias| bound(flows, alias));
        }
        Cargo::SizeProbe => return Some(packet.block as u16),
    }
    None
}

fn bound(flows: &mut [OutFlow], alias: u32) {
    if let Some(flow) = flows.get_mut(alias as usize) {
        flow.bound = true;
    }
}

const MALFORMED: Fault = Fault::Violation("malformed frame");
const LIE: Fault = Fault::Violation("acknowledged what was never sent");
