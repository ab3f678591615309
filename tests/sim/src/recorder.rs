//! The application of a simulated node: flows with their limits, and a record of what arrived.
//!
//! Owns what a datagram caused, until the world takes it and acts on it: an application must not
//! call back into the endpoint that calls it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use cubed_router::keep::{self, Keep, Portrait, Ruling};
use cubed_router::policy::{Policy, Verb};
use cubed_transport::identity::PublicKey;
use cubed_transport::{
    Application, Binding, Body, ChannelId, Disposition, Incoming, Newcomer, Outcome, PeerId,
    Refusal, ReplyTo, Service, Token, Verdict,
};

use crate::node::{GARDEN, GARDEN_PREFIX};

/// What a message costs of credit beyond its body, bytes.
const CHARGE_PER_MESSAGE: u64 = 64;

/// A flow of a simulated node.
#[derive(Clone, Debug)]
pub struct FlowSetup {
    /// Its name.
    pub name: &'static str,
    /// Credit kept open to one sender, bytes.
    pub window_bytes: u64,
    /// Longest message.
    pub message_bytes_max: u64,
    /// How long a message keeps its credit, as in a queue; none: it is consumed at once.
    pub hold: Option<Duration>,
    /// Whether it answers requests.
    pub answers: bool,
}

impl FlowSetup {
    /// A flow that consumes at once, with 1 MiB of credit and no limit of its own, and answers.
    pub fn new(name: &'static str) -> Self {
        Self { name, window_bytes: 1 << 20, message_bytes_max: 64 << 20, hold: None, answers: true }
    }
}

/// One message that arrived.
#[derive(Debug)]
pub struct Delivery {
    /// The proven key of its sender.
    pub sender: PublicKey,
    /// The flow's name.
    pub flow: &'static str,
    /// Its service.
    pub service: Service,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Where an answer goes.
    pub request: Option<ReplyTo>,
    /// The credit to give back later, and when.
    pub held: Option<Held>,
}

/// Credit that a queued message holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// To be given back after this long.
    pub after: Duration,
    /// Its sender.
    pub peer: PeerId,
    /// Its session.
    pub session: u32,
    /// Its sender's alias.
    pub alias: u32,
    /// Bytes of credit.
    pub charge: u64,
}

/// The application of one node.
#[derive(Debug)]
pub struct Recorder {
    policy: Policy,
    flows: Vec<FlowSetup>,
    /// By channel; without any, everybody that the policy admits is accepted.
    pub(crate) keeps: Rc<RefCell<Vec<Keep>>>,
    /// What arrived since the world last took it.
    pub deliveries: Vec<Delivery>,
    /// Requests of this node that ended since the world last took them.
    pub replies: Vec<(Token, Result<Vec<u8>, Outcome>)>,
    /// How often a binding was asked for.
    pub binds: u64,
    /// Messages and requests taken, and replies.
    pub acknowledged: u64,
    /// Best-effort messages taken.
    pub best_effort: u64,
}

impl Recorder {
    /// An application with these flows and this policy.
    pub fn new(policy: Policy, flows: Vec<FlowSetup>) -> Self {
        let (deliveries, replies) = (Vec::new(), Vec::new());
        Self {
            policy,
            flows,
            keeps: Rc::default(),
            deliveries,
            replies,
            binds: 0,
            acknowledged: 0,
            best_effort: 0,
        }
    }
}

impl Application for Recorder {
    fn admit(&mut self, _: ChannelId, key: &PublicKey) -> bool {
        !self.keeps.borrow().is_empty() || self.policy.admits(key)
    }

    fn judge(&mut self, newcomer: &Newcomer<'_>) -> Verdict {
        let mut keeps = self.keeps.borrow_mut();
        let Some(keep) = keeps.get_mut(usize::from(newcomer.channel.0)) else {
            return Verdict::Accepted;
        };
        let Newcomer { name, role, mode, kind, address, is_dialled, .. } = *newcomer;
        let (name, role, mode) = (name.to_owned(), role.to_owned(), mode.bits());
        let portrait = Portrait { name, role, mode, kind };
        // Whom it dials, it knows by its configuration.
        let arrival =
            keep::Arrival { key: *newcomer.key, portrait, address, is_vouched: is_dialled };
        match keep.judge(&arrival, &mut Vec::new()) {
            Ruling::Accepted => Verdict::Accepted,
            Ruling::Pending => Verdict::Pending,
            Ruling::Rejected(cause) => Verdict::Rejected(cause.as_str()),
        }
    }

    fn bind(
        &mut self,
        channel: ChannelId,
        _: PeerId,
        key: &PublicKey,
        flow: &str,
    ) -> Result<Binding, Refusal> {
        self.binds += 1;
        let found = self.flows.iter().position(|setup| setup.name == flow);
        let index = found.ok_or(Refusal::NoSuchFlow)?;
        if flow.starts_with(GARDEN_PREFIX) != (channel == GARDEN) {
            return Err(Refusal::NoSuchFlow);
        }
        if !self.policy.allows(key, Verb::Send, flow) {
            return Err(Refusal::Denied);
        }
        let setup = &self.flows[index];
        Ok(Binding {
            flow: index as u32,
            window_bytes: setup.window_bytes,
            message_bytes_max: setup.message_bytes_max,
        })
    }

    fn generation(&self) -> u32 {
        self.policy.generation()
    }

    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        let setup = &self.flows[message.flow as usize];
        if message.request.is_some() && !setup.answers {
            return Err(Refusal::NotAServer);
        }
        let body = message.body.as_slice().to_vec();
        let charge = body.len() as u64 + CHARGE_PER_MESSAGE;
        let (peer, session, alias) = (message.peer, message.session, message.alias);
        match message.service {
            Service::BestEffort => self.best_effort += 1,
            Service::Acknowledged | Service::Ordered | Service::LatestValue => {
                self.acknowledged += 1;
            }
        }
        let held = setup.hold.map(|after| Held { after, peer, session, alias, charge });
        self.deliveries.push(Delivery {
            sender: *message.sender,
            flow: setup.name,
            service: message.service,
            body,
            request: message.request,
            held,
        });
        Ok(if held.is_some() { Disposition::Held } else { Disposition::Consumed })
    }

    fn reply(&mut self, token: Token, result: Result<Body<'_>, Outcome>) {
        self.acknowledged += u64::from(result.is_ok());
        self.replies.push((token, result.map(|body| body.as_slice().to_vec())));
    }
}
