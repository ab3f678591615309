//! Owns the receipt of messages with a sequence, ordered or latest value, and of SKIP.
//!
//! What always holds: a message that waits for its turn is charged, keeps its block from being settled, and delays nothing
//! but later messages of its own flow.

use super::bindings::ALIAS_TOO_HIGH;
use super::{Lane, MALFORMED, Receiving};
use crate::common::Fault;
use crate::endpoint::{Application, Body, Refusal, Service};
use crate::flows::charge;
use crate::frame::{Reason, Run, SkipHead};
use crate::limits::ALIASES_MAX;
use crate::message::{Sequence, Target};
use crate::order::{Held, Turn};
use crate::room::Room;

impl Lane {
    /// A whole message with a sequence, charged already.
    pub(super) fn receive_sequenced<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        alias: u32,
        sequence: Sequence,
        body: Body<'_>,
        end: (u64, u16),
    ) -> Result<(), Fault> {
        match sequence {
            Sequence::Latest(stamp) => self.receive_value(rx, generation, alias, stamp, body, end),
            Sequence::Ordered(number) => match self.orders.take_turn(alias, number) {
                Turn::Past => Err(Fault::Violation("sequence used twice, or given up before")),
                Turn::Later => {
                    rx.common.counters.ordered_held += 1;
                    let body = match body {
                        Body::Borrowed(body) => body.to_vec(),
                        Body::Assembled(body) => std::mem::take(body),
                    };
                    self.orders.hold(alias, number, Held { body, request: None, end });
                    Ok(())
                }
                Turn::Now => {
                    let binding = self.in_flow(rx, generation, alias, None)?.binding;
                    let service = Service::Ordered;
                    self.hand_over(rx, alias, binding, body, None, Some(end), service);
                    self.hand_over_waiting(rx, generation, alias)
                }
            },
        }
    }

    fn receive_value<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        alias: u32,
        stamp: u64,
        body: Body<'_>,
        end: (u64, u16),
    ) -> Result<(), Fault> {
        if !self.orders.is_newer(alias, stamp) {
            rx.common.counters.values_refused_old += 1;
            rx.common.counters.acknowledged_refused += 1;
            self.refuse(rx.room, end, Reason::Refused(Refusal::Superseded));
            self.consume(alias, charge(body.as_slice().len() as u64));
            return Ok(());
        }
        let binding = self.in_flow(rx, generation, alias, None)?.binding;
        let service = Service::LatestValue;
        if self.hand_over(rx, alias, binding, body, None, Some(end), service) {
            self.orders.note_stamp(alias, stamp);
        }
        Ok(())
    }

    /// Hands over the messages of a flow whose turn has come.
    fn hand_over_waiting<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        alias: u32,
    ) -> Result<(), Fault> {
        loop {
            let gone = self.orders.gone();
            let next = self.orders.take_next(alias);
            rx.room.gone += gone - self.orders.gone();
            let Some(Held { mut body, request, end }) = next else { return Ok(()) };
            rx.room.check_refusals(self.orders.unanswered())?;
            let binding = self.in_flow(rx, generation, alias, None)?.binding;
            let (body, service) = (Body::Assembled(&mut body), Service::Ordered);
            self.hand_over(rx, alias, binding, body, request, Some(end), service);
        }
    }

    /// Notes a run of sequences that will not come, out of the peer's room.
    fn skip_run(&mut self, room: &mut Room, run: Run) -> Result<(), Fault> {
        if run.alias as usize >= ALIASES_MAX {
            return Err(ALIAS_TOO_HIGH);
        }
        let gone = self.orders.gone();
        self.orders.skip(run);
        room.gone -= self.orders.gone() - gone;
        Ok(())
    }

    /// The sender gave blocks up: they count as arrived, and what they were to bring will not come.
    pub(crate) fn handle_skip<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        skip: SkipHead,
        runs: &[Run],
    ) -> Result<(), Fault> {
        let SkipHead { first, count, back } = skip;
        let end = first.checked_add(count).ok_or(MALFORMED)?;
        if end > self.blocks_end() {
            return Err(Fault::Violation("blocks given up that could not have been sent"));
        }
        // Those awaited need no room: they make some.
        if rx.room.gone < runs.iter().filter(|run| self.orders.is_ahead(run)).count() {
            return Err(Fault::OrderLimit);
        }
        if rx.room.refusals <= 0 && self.will_free_refusals() {
            return Err(Fault::RefusalLimit);
        }
        rx.room.check_refusals(self.orders.unanswered())?;
        rx.common.counters.skips_received += 1;
        let generation = rx.app.generation();
        let last_missing = self.window.insert_all(first, count);
        let room = &mut rx.room.fragments;
        let partial = if count > 0 { self.assembly.forget(room, first - back) } else { None };
        if let Some((Some(meta), total)) = &partial
            && let Target::Flow(alias) = meta.target
        {
            self.in_flow(rx, generation, alias, None)?.unreceive(charge(*total as u64));
        }
        if let Some(block) = last_missing {
            self.refuse(rx.room, (block, 0), Reason::Skipped);
        } else if partial.is_none() && count > 0 {
            // All of it had arrived: what it brought stands.
            return Ok(());
        }
        for run in runs {
            self.skip_run(rx.room, *run)?;
            self.hand_over_waiting(rx, generation, run.alias)?;
        }
        Ok(())
    }
}
