//! What follows every event: an endpoint's outputs, then its application's work, then the checks.
//!
//! The order is fixed, and repeated until neither outputs nor work are left; the sums are checked after
//! every event of every node.

use std::collections::VecDeque;

use cubed_router::placement::owner_shard;
use cubed_transport::{Event, Outcome, PeerId, SendError, Token};

use super::{BEGUN, Happening, LANE_FLAGS, LANE_HEADER_BYTES, World};
use crate::ledger::{Digest, Kind, NodeIndex, answer_to};
use crate::script::{Fault, Seen};

/// Runs that one event may cause at one node: a full log is under 1,000 datagrams.
const RUNS_AT_ONCE_MAX: u32 = 10_000;

impl World {
    /// After any change of an endpoint: outputs, then the application's work, until neither is left.
    pub(super) fn settle(&mut self, node: NodeIndex) -> Result<(), Fault> {
        if self.nodes[node].start.is_none() {
            return Ok(());
        }
        loop {
            self.note_addresses(node)?;
            let mut worked = false;
            for shard in 0..self.shards(node) {
                self.transmit(node, shard)?;
                worked |= self.take_events(node, shard)? | self.take_deliveries(node, shard)?;
            }
            if !worked {
                break;
            }
        }
        self.check_sums(node)?;
        self.set_timer(node);
        Ok(())
    }

    fn transmit(&mut self, node: NodeIndex, shard: usize) -> Result<(), Fault> {
        let mut run = std::mem::take(&mut self.run);
        let now = self.local(node);
        let mut runs = 0;
        while let Some(transmit) = self.shard(node, shard).endpoint.poll_transmit(now, &mut run) {
            runs += 1;
            if runs > RUNS_AT_ONCE_MAX {
                return Err(self.fault(format!("node {node}: poll_transmit gives without end")));
            }
            for datagram in run.chunks(transmit.segment_bytes.max(1)) {
                self.check_number(node, datagram)?;
                let sent = self.running(node).addresses.sent(transmit.to, datagram);
                sent.map_err(|what| self.fault(format!("node {node}: {what}")))?;
                let to = self.nodes.iter().find(|other| other.address == transmit.to);
                match to.map(|other| other.index) {
                    Some(to) => self.carry(node, to, datagram),
                    None => self.strays.push((transmit.to, datagram.to_vec())),
                }
            }
        }
        self.run = run;
        Ok(())
    }

    /// No packet number is sealed twice under one key. The same bytes may go out again, as a refusal does.
    fn check_number(&mut self, node: NodeIndex, datagram: &[u8]) -> Result<(), Fault> {
        let Some(header) = datagram.first_chunk::<LANE_HEADER_BYTES>() else {
            return Ok(());
        };
        if header[0] != 0x40 {
            return Ok(());
        }
        let mut key = *header;
        key[LANE_FLAGS] = 0;
        let start = self.running(node).number;
        let hash = *blake3::hash(datagram).as_bytes();
        if *self.sealed.entry((node, start, key)).or_insert(hash) == hash {
            return Ok(());
        }
        Err(self.fault(format!("node {node} seals twice under one key and number: {key:02x?}")))
    }

    fn carry(&mut self, from: NodeIndex, to: NodeIndex, datagram: &[u8]) {
        let Some(link) = self.links.get_mut(&(from, to)) else {
            return;
        };
        if let Some(captured) = &mut self.captured {
            captured.push((from, datagram.to_vec()));
        }
        self.trace.datagram(self.now.saturating_duration_since(BEGUN), from, to, datagram.len());
        let mut fate = link.decide(BEGUN, self.now, datagram.len(), &mut self.chance);
        if !self.rules.is_empty() {
            super::tamper::apply(&mut self.rules, (from, to), datagram, &mut fate);
        }
        let address = self.nodes[from].address;
        if let Some(at) = fate.spoofed {
            let (from, datagram) = (Self::spoofer(), datagram.to_vec());
            self.agenda.put(at, Happening::Datagram { from, to, datagram, is_steered: false });
        }
        let mut arrive = |at, datagram| {
            let (from, is_steered) = (address, false);
            self.agenda.put(at, Happening::Datagram { from, to, datagram, is_steered });
        };
        if let Some(at) = fate.arrival {
            let mut datagram = datagram.to_vec();
            if let Some(bit) = fate.flipped_bit {
                datagram[bit / 8] ^= 1 << (bit % 8);
            }
            datagram.truncate(fate.cut_to.unwrap_or(usize::MAX));
            arrive(at, datagram);
        }
        if let Some(at) = fate.copy {
            arrive(at, datagram.to_vec());
        }
    }

    fn take_events(&mut self, node: NodeIndex, shard: usize) -> Result<bool, Fault> {
        let mut worked = false;
        while let Some(event) = self.shard(node, shard).endpoint.poll_event() {
            worked = true;
            match event {
                Event::Outcome { token, outcome } => self.on_outcome(node, token, outcome)?,
                Event::Writable { peer } => self.on_writable((node, shard), peer)?,
                Event::Connected { peer } => self.on_seen((node, shard), peer, Seen::Connected),
                Event::Down { peer, cause } => {
                    self.on_seen((node, shard), peer, Seen::Down(cause));
                }
                Event::Up { peer } => self.on_seen((node, shard), peer, Seen::Up),
                Event::DialFailed { peer, error } => {
                    self.on_seen((node, shard), peer, Seen::DialFailed(format!("{error:?}")));
                }
                Event::TurnedAway { .. } | Event::Forgotten { .. } => {}
                Event::SessionEnded { peer, cause } => {
                    self.on_seen((node, shard), peer, Seen::SessionEnded(cause));
                }
            }
        }
        Ok(worked)
    }

    fn on_outcome(&mut self, node: NodeIndex, token: Token, outcome: Outcome) -> Result<(), Fault> {
        self.trace.outcome(self.age(), node, token, outcome);
        if let Some(submitted) = self.submitted.get(token.0 as usize) {
            self.latencies.push((token, self.age().saturating_sub(*submitted)));
        }
        self.ledger.ended(node, token, outcome).map_err(|what| self.fault(what))
    }

    fn on_seen(&mut self, (node, shard): (NodeIndex, usize), peer: PeerId, seen: Seen) {
        let key = self.shard(node, shard).endpoint.peer_key(peer);
        let about = self.nodes.iter().find(|other| Some(other.key) == key);
        let about = about.map_or(usize::MAX, |other| other.index);
        self.trace.seen(self.age(), node, about, &seen);
        if shard > 0 && matches!(seen, Seen::Up | Seen::Down(_)) && self.watches(node, about) {
            // Each shard finds out by itself; the first is the one that was asked to watch.
            return;
        }
        self.seen.push((self.age(), node, about, seen));
    }

    /// Whether the first shard of a node watches another node.
    fn watches(&mut self, node: NodeIndex, about: NodeIndex) -> bool {
        let first = self.shard(node, 0);
        first.peer(about).is_some_and(|peer| first.endpoint.is_watched(peer))
    }

    /// Hands over what waited for room, in order, until there is none again.
    pub(super) fn on_writable(
        &mut self,
        (node, shard): (NodeIndex, usize),
        peer: PeerId,
    ) -> Result<(), Fault> {
        let here = self.shard(node, shard);
        let contact = here.endpoint.contact(peer).unwrap_or(peer);
        let Some(to) = here.peers.get(&contact).copied() else {
            return Ok(());
        };
        loop {
            let queue = self.shard(node, shard).waiting.get_mut(&to);
            let Some((token, deadline)) = queue.and_then(VecDeque::pop_front) else {
                return Ok(());
            };
            if self.hand_over(token, deadline)? == Err(SendError::Full) {
                self.wait_for_room((node, shard), to, (token, deadline));
                return Ok(());
            }
        }
    }

    fn take_deliveries(&mut self, node: NodeIndex, shard: usize) -> Result<bool, Fault> {
        let recorder = &mut self.shard(node, shard).recorder;
        let deliveries = std::mem::take(&mut recorder.deliveries);
        let replies = std::mem::take(&mut recorder.replies);
        let worked = !deliveries.is_empty() || !replies.is_empty();
        for delivery in deliveries {
            let from = self.nodes.iter().find(|other| other.key == delivery.sender);
            let Some(from) = from.map(|other| other.index) else {
                return Err(
                    self.fault(format!("node {node} heard a stranger: {:?}", delivery.sender))
                );
            };
            let kind = Kind::seen(delivery.service, delivery.request.is_some());
            self.trace.arrival(self.age(), node, from, delivery.flow, Digest::of(&delivery.body));
            self.ledger
                .arrived(from, node, delivery.flow, kind, &delivery.body)
                .map_err(|what| self.fault(what))?;
            self.ledger
                .in_order(from, node, delivery.flow, delivery.service, &delivery.body)
                .map_err(|what| self.fault(what))?;
            let (now, start) = (self.now, self.running(node));
            let owner = owner_shard(&start.salt, delivery.flow, start.shards.len() as u8);
            if usize::from(owner) != shard {
                let what = format!("shard {shard} of node {node} got {} of {owner}", delivery.flow);
                return Err(self.fault(what));
            }
            let (number, here) = (start.number, &mut start.shards[shard]);
            if let Some(to) = delivery.request {
                // A reply that finds no session any more is the asker's to time out.
                let taken = here.endpoint.reply(to, &answer_to(&delivery.body)).is_ok();
                here.acknowledged_taken += u64::from(taken);
            }
            if let Some(held) = delivery.held {
                let place = (node, shard);
                let release = Happening::Release { place, start: number, held };
                self.agenda.put(now + held.after, release);
            }
        }
        for (token, result) in replies {
            self.on_reply(node, token, result)?;
        }
        Ok(worked)
    }

    fn on_reply(
        &mut self,
        node: NodeIndex,
        token: Token,
        result: Result<Vec<u8>, Outcome>,
    ) -> Result<(), Fault> {
        let outcome = match result {
            Ok(body) if !self.ledger.is_answer(token, &body) => {
                let what = format!("the reply to {token:?} has the wrong {} bytes", body.len());
                return Err(self.fault(what));
            }
            Ok(_) => Outcome::Delivered,
            Err(outcome) => outcome,
        };
        self.on_outcome(node, token, outcome)
    }

    fn set_timer(&mut self, node: NodeIndex) {
        let (now, ahead) = (self.now, self.nodes[node].ahead);
        let start = self.running(node);
        let next = start.shards.iter().filter_map(|shard| shard.endpoint.poll_timeout()).min();
        let wanted = next.map(|at| (at - ahead).max(now));
        if wanted == start.timer {
            return;
        }
        start.timer = wanted;
        let start = start.number;
        if let Some(at) = wanted {
            self.agenda.put(at, Happening::Timeout { node, start });
        }
    }
}
