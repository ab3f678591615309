//! Owns the incoming flows of a lane: what an alias stands for, whether its sender may use it, what credit it has.
//!
//! What always holds: an alias keeps its name for the session; the application is asked once per alias and generation.

use super::{Lane, MALFORMED, Receiving};
use crate::common::Fault;
use crate::endpoint::Application;
use crate::flows::InFlow;
use crate::frame::{Bind, Credit};
use crate::limits::{ALIASES_MAX, FLOW_NAME_BYTES_MAX, FLOWS_BYTES_MAX};
use crate::order::ORDER_BYTES;
use crate::work;

pub(super) const ALIAS_TOO_HIGH: Fault = Fault::Violation("alias above the limit");

/// What an alias may cost; a list that grew may have twice the places that it needs.
const FLOW_BYTES: usize =
    FLOW_NAME_BYTES_MAX + 2 * (size_of::<Option<InFlow>>() + size_of::<u32>()) + ORDER_BYTES;
const _: () = assert!(ALIASES_MAX * FLOW_BYTES <= FLOWS_BYTES_MAX);

impl Lane {
    /// Gives credit back for messages that the application held, or is done with.
    #[inline]
    pub(crate) fn consume(&mut self, alias: u32, charge: u64) -> bool {
        let Some(Some(flow)) = self.in_flows.get_mut(alias as usize) else {
            return false;
        };
        let due = flow.consume(charge);
        if due {
            self.grants_due.push(alias);
        }
        due
    }

    /// The sender names an alias and waits for credit.
    pub(crate) fn handle_bind<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        bind: &Bind,
    ) -> Result<(), Fault> {
        if bind.name.is_empty() || bind.name.len() > FLOW_NAME_BYTES_MAX {
            return Err(MALFORMED);
        }
        let generation = rx.app.generation();
        self.in_flow(rx, generation, bind.alias, Some(&bind.name))?;
        self.handle_blocked(bind.alias, bind.wanted)
    }

    /// The sender of a bound alias waits for credit.
    pub(crate) fn handle_blocked(&mut self, alias: u32, wanted: u64) -> Result<(), Fault> {
        let flow = self.in_flows.get_mut(alias as usize).and_then(Option::as_mut);
        let flow = flow.ok_or(Fault::Violation("credit asked for an alias never named"))?;
        let was_due = flow.grant_due;
        flow.want(wanted);
        if !was_due {
            self.grants_due.push(alias);
        }
        Ok(())
    }

    /// What to tell about an alias's credit; `None` when nothing is due.
    pub(crate) fn take_grant(&mut self, alias: u32) -> Option<Credit> {
        let flow = self.in_flows.get_mut(alias as usize)?.as_mut()?;
        if !std::mem::take(&mut flow.grant_due) {
            return None;
        }
        let (message_bytes_max, refusal) = match flow.binding {
            Ok(binding) => (binding.message_bytes_max, None),
            Err(refusal) => (0, Some(refusal)),
        };
        Some(Credit { alias, limit: flow.granted, message_bytes_max, refusal })
    }

    /// Some grant may have been lost: tells them all again.
    pub(crate) fn tell_grants_again(&mut self) {
        work::count(self.in_flows.len());
        for (alias, flow) in self.in_flows.iter_mut().enumerate() {
            if let Some(flow) = flow
                && !std::mem::replace(&mut flow.grant_due, true)
            {
                self.grants_due.push(alias as u32);
            }
        }
    }

    /// The flow of an alias, bound (again) if need be.
    #[inline]
    pub(super) fn in_flow<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        alias: u32,
        name: Option<&str>,
    ) -> Result<&mut InFlow, Fault> {
        let current = self
            .in_flows
            .get(alias as usize)
            .is_some_and(|flow| flow.as_ref().is_some_and(|flow| flow.generation == generation));
        if !current || name.is_some() {
            self.bind(rx, generation, alias, name)?;
        }
        let flow = self.in_flows[alias as usize].as_mut();
        flow.ok_or(Fault::Violation("message on an alias never named"))
    }

    #[cold]
    fn bind<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        alias: u32,
        name: Option<&str>,
    ) -> Result<(), Fault> {
        let index = alias as usize;
        if index >= ALIASES_MAX {
            return Err(ALIAS_TOO_HIGH);
        }
        if self.in_flows.len() <= index {
            if index == 0 {
                // Most of many peers use one flow, and a list's first growth is to four.
                self.in_flows.reserve_exact(1);
            }
            self.in_flows.resize_with(index + 1, || None);
        }
        match (&mut self.in_flows[index], name) {
            (None, None) => return Err(Fault::Violation("message on an alias never named")),
            (slot @ None, Some(name)) => {
                let binding = rx.app.bind(rx.channel, rx.peer, rx.key, name);
                *slot = Some(InFlow::new(name, binding, generation));
                self.grants_due.push(alias);
            }
            (Some(flow), name) => {
                if name.is_some_and(|name| *name != *flow.name) {
                    return Err(Fault::Violation("alias named twice"));
                }
                if flow.generation != generation {
                    flow.generation = generation;
                    let binding = rx.app.bind(rx.channel, rx.peer, rx.key, &flow.name);
                    let changed = flow.rebind(binding);
                    if changed && !std::mem::replace(&mut flow.grant_due, true) {
                        self.grants_due.push(alias);
                    }
                }
            }
        }
        Ok(())
    }
}
