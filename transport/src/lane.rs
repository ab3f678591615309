//! Owns the lane of a session: both directions between a shard here and a shard there. Its send log and
//! best-effort queue one way; its block window, assembly and flow bindings the other way.
//!
//! What always holds: a block is taken at most once; a message is handed to the application only when it is whole, its flow
//! is bound and its sender within its credit.

mod best_effort;
mod bindings;
mod deferred;
mod dormant;
mod fitting;
mod ordered;
mod parts;
mod refusals;
mod requests;
mod row;

use crate::assembly::{Assembled, Assembly, FragmentError, FragmentMeta};
use crate::best_effort::BestEffortQueue;
use crate::block_window::{BlockWindow, Inserted};
use crate::common::{Common, Fault};
use crate::endpoint::{
    Application, Binding, Body, ChannelId, Disposition, Incoming, Limits, PeerId, PeerMemory,
    Refusal, ReplyTo, Service,
};
use crate::flows::{InFlow, charge};
use crate::frame::{Reason, RefusedMessage};
use crate::identity::PublicKey;
use crate::limits::{BEST_EFFORT_FRAGMENTED_MAX, BLOCK_CONTENT_BYTES_MAX, BLOCK_WINDOW};
use crate::message::{Continue, FORM_CONTINUE, FORM_FIRST, FORM_WHOLE, Head, Target, form};
use crate::order::Orders;
use crate::room::Room;
use crate::send_log::SendLog;
use crate::varint::Reader;
pub(crate) use dormant::DormantLane;
use parts::BlockParts;

pub use row::Row;

/// Who sends what is being received, and what may be touched meanwhile.
pub(crate) struct Receiving<'a, A> {
    pub(crate) common: &'a mut Common,
    pub(crate) app: &'a mut A,
    pub(crate) channel: ChannelId,
    pub(crate) peer: PeerId,
    pub(crate) key: &'a PublicKey,
    pub(crate) session: u32,
    /// Requests of ours that this peer has not answered.
    pub(crate) requests_pending: &'a mut u32,
    /// What this peer may still make us hold.
    pub(crate) room: &'a mut Room,
}

/// What the next run of a lane begins with, if there is any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    BestEffort,
    Log,
}

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) log: SendLog,
    pub(crate) best_effort: BestEffortQueue,
    pub(crate) turn: Turn,
    /// Datagrams to send regardless of the congestion window (RFC 9002 section 7.5).
    pub(crate) probes: u32,
    /// A short datagram is to go beside the probes: it arrives also where long ones no longer do.
    pub(crate) ping_due: bool,
    window: BlockWindow,
    /// Blocks that come in parts.
    block_parts: Option<BlockParts>,
    assembly: Assembly,
    best_effort_assembly: Assembly,
    in_flows: Vec<Option<InFlow>>,
    orders: Orders,
    /// Aliases whose grant is to be told.
    pub(crate) grants_due: Vec<u32>,
    /// Refusals that the sender may not know, ascending.
    refusals: Vec<RefusedMessage>,
    /// Those of the datagram that is being walked through and of answers given since, in any order.
    refusals_fresh: Vec<RefusedMessage>,
    /// Packets that told refusals, with the floor told; the refusals below go when the packet is acknowledged.
    pub(crate) refusals_told: Vec<(u64, u64)>,
    pub(crate) refusals_due: bool,
    /// A SETTLED is to leave though no acknowledgement is due: one left under keys no longer sent on, where no SETTLED goes beside
    /// it, or messages that were put off have their answer.
    pub(crate) settled_due: bool,
}

impl Lane {
    pub(crate) fn new(limits: &Limits, datagram_bytes: u16) -> Self {
        let slot_bytes = limits.payload_bytes();
        let mut lane = Self {
            log: SendLog::new(slot_bytes, limits.log_bytes_max),
            best_effort: BestEffortQueue::new(slot_bytes),
            turn: Turn::BestEffort,
            probes: 0,
            ping_due: false,
            window: BlockWindow::new(),
            block_parts: None,
            assembly: Assembly::new(BLOCK_WINDOW as usize),
            best_effort_assembly: Assembly::new(BEST_EFFORT_FRAGMENTED_MAX),
            in_flows: Vec::new(),
            orders: Orders::default(),
            grants_due: Vec::new(),
            refusals: Vec::new(),
            refusals_fresh: Vec::new(),
            refusals_told: Vec::new(),
            refusals_due: false,
            settled_due: false,
        };
        lane.set_datagram_bytes(datagram_bytes);
        lane
    }

    /// All blocks below this one have arrived, and their messages been handed over.
    #[inline]
    pub(crate) fn settled_floor(&self) -> u64 {
        let floor = self.window.floor();
        self.orders.first_block().map_or(floor, |block| block.min(floor))
    }

    /// First block that the sender may not send yet: it counts from what is settled.
    #[inline]
    fn blocks_end(&self) -> u64 {
        self.settled_floor() + BLOCK_WINDOW
    }

    /// Adds what this lane holds for its sender.
    pub(crate) fn add_memory(&self, memory: &mut PeerMemory) {
        memory.fragments += self.assembly.held_bytes() + self.best_effort_assembly.held_bytes();
        add_flows(&self.in_flows, &self.orders, memory);
        memory.flows += self.grants_due.capacity() * size_of::<u32>();
        let refusals = self.refusals.capacity() + self.refusals_fresh.capacity();
        memory.refusals += refusals * size_of::<RefusedMessage>()
            + self.refusals_told.capacity() * size_of::<(u64, u64)>();
        memory.keys += self.window.held_bytes();
        memory.fragments += self.block_parts.as_ref().map_or(0, BlockParts::bytes);
    }

    /// Takes one block.
    #[inline]
    pub(crate) fn handle_block<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        number: u64,
        content: &[u8],
    ) -> Result<(), Fault> {
        if number >= self.blocks_end() {
            return Err(Fault::BlockWindow);
        }
        if content.len() > BLOCK_CONTENT_BYTES_MAX {
            return Err(TOO_LONG);
        }
        if rx.room.is_tight() || self.assembly.is_tight() {
            self.check_room(rx.room, number, content)?;
        }
        match self.window.insert(number) {
            Inserted::New => {}
            Inserted::Duplicate => {
                rx.common.counters.dropped_duplicate_block += 1;
                return Ok(());
            }
            Inserted::Beyond => return Err(Fault::BlockWindow),
        }
        let generation = rx.app.generation();
        let mut reader = Reader::new(content);
        let mut index = 0;
        while let Some(&flags) = reader.rest().first() {
            let taken = match flags {
                FORM_WHOLE => self.receive_row(rx, generation, &mut reader, (number, index)),
                _ => self.receive_asked(rx, generation, &mut reader, (number, index)),
            };
            if taken > 0 {
                index += taken;
                continue;
            }
            reader.u8();
            match form(flags) {
                FORM_WHOLE => {
                    let head = Head::read(flags, &mut reader).ok_or(MALFORMED)?;
                    let length = usize::try_from(head.total).map_err(|_| MALFORMED)?;
                    let body = reader.bytes(length).ok_or(MALFORMED)?;
                    let end = Some((number, index));
                    self.receive_whole(rx, generation, &head, body, end)?;
                    index += 1;
                }
                FORM_FIRST => {
                    let head = Head::read(flags, &mut reader).ok_or(MALFORMED)?;
                    let body = reader.rest();
                    return self.receive_first(rx, generation, &head, number, body);
                }
                FORM_CONTINUE if index == 0 => {
                    index += u16::from(self.receive_fragment(
                        rx,
                        generation,
                        number,
                        flags,
                        &mut reader,
                    )?);
                }
                _ => {
                    // Padding, zero to the end; or a later fragment where none may stand.
                    let set = reader.rest().iter().fold(0, |set, byte| set | byte);
                    let is_padding = flags == crate::message::FORM_PAD && set == 0;
                    return if is_padding { Ok(()) } else { Err(MALFORMED) };
                }
            }
        }
        Ok(())
    }

    /// A message that came in one piece.
    fn receive_whole<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        head: &Head<'_>,
        body: &[u8],
        end: Option<(u64, u16)>,
    ) -> Result<(), Fault> {
        let alias = match head.target {
            Target::Flow(alias) => alias,
            Target::Reply(request) => {
                answer(rx, request, Body::Borrowed(body));
                return Ok(());
            }
        };
        let flow = self.in_flow(rx, generation, alias, head.name)?;
        if end.is_some() && !flow.receive(charge(head.total)) {
            return Err(OVERDRAWN);
        }
        let binding = flow.binding;
        let request = head.request.map(|request| reply_to(rx, request));
        let body = Body::Borrowed(body);
        if let Some(sequence) = head.sequence {
            let end = end.ok_or(MALFORMED)?;
            return self.receive_sequenced(rx, generation, alias, sequence, body, end);
        }
        let service = if end.is_some() { Service::Acknowledged } else { Service::BestEffort };
        self.hand_over(rx, alias, binding, body, request, end, service);
        Ok(())
    }

    /// The first fragment of a message that goes on in the next block.
    fn receive_first<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        head: &Head<'_>,
        origin: u64,
        body: &[u8],
    ) -> Result<(), Fault> {
        if let Target::Flow(alias) = head.target {
            let flow = self.in_flow(rx, generation, alias, head.name)?;
            if !flow.receive(charge(head.total)) {
                return Err(OVERDRAWN);
            }
        }
        let is_beginning = !body.is_empty() && (body.len() as u64) < head.total;
        if head.total > rx.common.limits.message_bytes_max || !is_beginning {
            return Err(MALFORMED);
        }
        let meta = meta_of(rx, head, Service::Acknowledged);
        let inserted = self.assembly.insert(
            &mut rx.room.fragments,
            origin,
            head.total as usize,
            0,
            body,
            Some(meta),
            None,
        );
        match inserted.map_err(fragment_fault)? {
            None => Ok(()),
            Some(assembled) => self.deliver_assembled(rx, generation, assembled),
        }
    }

    /// A later fragment, first in its block; returns whether its message ends in this block.
    fn receive_fragment<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        number: u64,
        flags: u8,
        reader: &mut Reader<'_>,
    ) -> Result<bool, Fault> {
        let (origin, fragment) = Continue::read_in_block(number, flags, reader).ok_or(MALFORMED)?;
        let left = fragment.total - fragment.offset;
        let taken = left.min(reader.remaining() as u64) as usize;
        let ends = taken as u64 == left;
        let body = reader.bytes(taken).ok_or(MALFORMED)?;
        if body.is_empty() {
            return Err(MALFORMED);
        }
        let end = ends.then_some((number, 0));
        let (total, offset) = (fragment.total as usize, fragment.offset as usize);
        let assembled =
            self.assembly.insert(&mut rx.room.fragments, origin, total, offset, body, None, end);
        if let Some(assembled) = assembled.map_err(fragment_fault)? {
            self.deliver_assembled(rx, generation, assembled)?;
        }
        Ok(ends)
    }

    fn deliver_assembled<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        assembled: Assembled,
    ) -> Result<(), Fault> {
        let Assembled { meta, mut body, end } = assembled;
        match meta.target {
            Target::Reply(request) => answer(rx, request, Body::Assembled(&mut body)),
            Target::Flow(alias) => {
                let binding = self.in_flow(rx, generation, alias, None)?.binding;
                let whole = Body::Assembled(&mut body);
                let is_kept = meta.service != Service::BestEffort;
                if let (Some(sequence), true) = (meta.sequence, is_kept) {
                    self.receive_sequenced(rx, generation, alias, sequence, whole, end)?;
                } else {
                    let (request, end) = (meta.request, is_kept.then_some(end));
                    self.hand_over(rx, alias, binding, whole, request, end, meta.service);
                }
            }
        }
        self.assembly.recycle(&mut rx.room.fragments, body);
        Ok(())
    }

    /// Gives a whole message to the application, and settles what it answers; tells whether it was taken.
    #[expect(clippy::too_many_arguments, reason = "the facts of one message")]
    fn hand_over<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        alias: u32,
        binding: Result<Binding, Refusal>,
        body: Body<'_>,
        request: Option<ReplyTo>,
        end: Option<(u64, u16)>,
        service: Service,
    ) -> bool {
        let bytes = body.as_slice().len() as u64;
        let answer = match binding {
            Ok(binding) if bytes > binding.message_bytes_max => Err(Refusal::TooLarge),
            Ok(binding) => rx.app.deliver(Incoming {
                peer: rx.peer,
                sender: rx.key,
                flow: binding.flow,
                alias,
                session: rx.session,
                body,
                request,
                service,
            }),
            Err(refusal) => Err(refusal),
        };
        let counters = &mut rx.common.counters;
        let Some(end) = end else {
            match answer {
                Ok(_) => counters.best_effort_accepted += 1,
                Err(_) => counters.best_effort_refused += 1,
            }
            return answer.is_ok();
        };
        match answer {
            Ok(Disposition::Held) => {
                counters.acknowledged_accepted += 1;
                return true;
            }
            Ok(Disposition::Deferred) => {
                self.defer(rx, end);
                return true;
            }
            Ok(Disposition::Consumed) => counters.acknowledged_accepted += 1,
            Err(refusal) => {
                counters.acknowledged_refused += 1;
                self.refuse(rx.room, end, Reason::Refused(refusal));
            }
        }
        self.consume(alias, charge(bytes));
        answer.is_ok()
    }
}

/// Adds what incoming flows hold for their sender.
fn add_flows(in_flows: &Vec<Option<InFlow>>, orders: &Orders, memory: &mut PeerMemory) {
    let flows = in_flows.iter().flatten();
    memory.flows += in_flows.capacity() * size_of::<Option<InFlow>>()
        + flows.clone().map(|flow| flow.name.len()).sum::<usize>()
        + orders.held_bytes();
    memory.queued += flows.map(|flow| flow.received - flow.consumed).sum::<u64>();
}

const MALFORMED: Fault = Fault::Violation("malformed message");
const OVERDRAWN: Fault = Fault::Violation("message beyond its credit");
const TOO_LONG: Fault = Fault::Violation("a block longer than any datagram");

fn fragment_fault(error: FragmentError) -> Fault {
    match error {
        FragmentError::Limit => Fault::Violation("message in fragments beyond every limit"),
        FragmentError::Contradiction => {
            Fault::Violation("fragments of a message contradict each other")
        }
    }
}

fn reply_to<A>(rx: &Receiving<'_, A>, request: u64) -> ReplyTo {
    ReplyTo { peer: rx.peer, session: rx.session, request }
}

fn meta_of<A>(rx: &Receiving<'_, A>, head: &Head<'_>, service: Service) -> FragmentMeta {
    let request = head.request.map(|request| reply_to(rx, request));
    FragmentMeta { target: head.target, request, sequence: head.sequence, service }
}

/// Hands the answer to a request of ours to the application.
fn answer<A: Application>(rx: &mut Receiving<'_, A>, request: u64, body: Body<'_>) {
    match rx.common.ends.requests.take(request, rx.peer.place()) {
        Some(waiting) => {
            *rx.requests_pending -= 1;
            rx.common.counters.acknowledged_accepted += 1;
            rx.app.reply(waiting.token, Ok(body));
        }
        None => rx.common.counters.replies_late += 1,
    }
}
