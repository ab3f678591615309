//! What was sent, what arrived, and whether the two agree.
//!
//! Owns the record of every message and request of a world, and the rules that hold whatever the
//! links did: nothing invented, nothing twice, and no outcome that arrivals contradict. A breach
//! is reported when it happens, not at the end.

use std::collections::BTreeMap;

use cubed_transport::random::{Entropy, SeededEntropy};
use cubed_transport::{Outcome, SendError, Service, Token};

use crate::script::Asked;

/// A node of a world, by order of creation.
pub type NodeIndex = usize;

/// The content of a body, for comparison: half of its BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Digest(u128);

impl Digest {
    /// The digest of these bytes.
    pub fn of(body: &[u8]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
        Self(u128::from_le_bytes(half))
    }

    /// For hashing into a trace.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

/// The body of entry `number`: its bytes follow from the number alone.
pub fn body(number: u64, bytes: usize) -> Vec<u8> {
    let mut body = vec![0; bytes];
    SeededEntropy::new(number).fill(&mut body);
    body
}

/// The body with which a server answers.
pub fn answer_to(request: &[u8]) -> Vec<u8> {
    request.iter().rev().map(|byte| byte ^ 0x5a).chain([0xa5]).collect()
}

/// What a message is to its receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// May be lost.
    BestEffort,
    /// Ends with an outcome.
    Acknowledged,
    /// Ends with a reply or an outcome.
    Request,
}

impl Kind {
    /// What the receiver sees: the service, and whether it may answer.
    pub fn seen(service: Service, is_request: bool) -> Self {
        match service {
            _ if is_request => Self::Request,
            Service::BestEffort => Self::BestEffort,
            Service::Acknowledged | Service::Ordered | Service::LatestValue => Self::Acknowledged,
        }
    }
}

/// One message or request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who sent it.
    pub from: NodeIndex,
    /// To whom.
    pub to: NodeIndex,
    /// On which flow.
    pub flow: &'static str,
    /// As what.
    pub kind: Kind,
    /// How long the body is.
    pub bytes: usize,
    /// How it ended, as the sender was told; a reply counts as delivered.
    pub outcome: Option<Outcome>,
    /// Whether the sender's endpoint took it, and which start of the sender.
    pub taken_by_start: Option<u32>,
    /// Why the endpoint did not take it, for good.
    pub rejected: Option<SendError>,
    /// What was asked beside its delivery.
    pub asked: Option<Asked>,
}

impl Entry {
    /// A message that nobody was given yet.
    pub fn new(
        from: NodeIndex,
        to: NodeIndex,
        flow: &'static str,
        kind: Kind,
        bytes: usize,
    ) -> Self {
        let (outcome, taken_by_start, rejected, asked) = (None, None, None, None);
        Self { from, to, flow, kind, bytes, outcome, taken_by_start, rejected, asked }
    }
}

/// Messages that cannot be told apart: same way, same content.
type Class = (NodeIndex, NodeIndex, &'static str, Kind, Digest);

#[derive(Default, Debug)]
struct Count {
    entries: Vec<usize>,
    taken: u64,
    arrived: u64,
}

/// All messages of a world.
#[derive(Default, Debug)]
pub struct Ledger {
    entries: Vec<Entry>,
    classes: BTreeMap<Class, Count>,
    class_of: Vec<Class>,
    /// The last entry that arrived in order, by sender, receiver, flow and service.
    last_in_order: BTreeMap<(NodeIndex, NodeIndex, &'static str, bool), usize>,
}

/// How the messages of a world ended.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sums {
    /// Messages and requests that an endpoint took.
    pub taken: u64,
    /// Arrived, all kinds.
    pub arrived: u64,
    /// Acknowledged messages and requests by how they ended.
    pub delivered: u64,
    /// Refused by the receiver.
    pub refused: u64,
    /// Never sent in time.
    pub expired: u64,
    /// The peer was given up.
    pub peer_lost: u64,
    /// The session ended with them unanswered.
    pub unknown: u64,
    /// Not taken: too large, or best effort without a session or room.
    pub rejected: u64,
    /// Not ended, or their sender was killed.
    pub open: u64,
}

impl Ledger {
    /// Writes down a message before it is handed over; the number is its token and makes its body.
    pub fn write(&mut self, entry: Entry) -> (Token, Vec<u8>) {
        let number = self.entries.len();
        let body = body(number as u64, entry.bytes);
        let class = (entry.from, entry.to, entry.flow, entry.kind, Digest::of(&body));
        self.classes.entry(class).or_default().entries.push(number);
        self.class_of.push(class);
        self.entries.push(entry);
        (Token(number as u64), body)
    }

    /// The endpoint took it, in this start of its node.
    pub fn taken(&mut self, token: Token, start: u32) {
        let number = token.0 as usize;
        self.entries[number].taken_by_start = Some(start);
        self.class(number).taken += 1;
    }

    /// The endpoint did not take it and never will.
    pub fn rejected(&mut self, token: Token, error: SendError) {
        self.entries[token.0 as usize].rejected = Some(error);
    }

    /// A message arrived.
    ///
    /// # Errors
    ///
    /// It was never sent, or arrived more often than it was sent.
    pub fn arrived(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        flow: &'static str,
        kind: Kind,
        body: &[u8],
    ) -> Result<(), String> {
        let class = (from, to, flow, kind, Digest::of(body));
        let what = || format!("{kind:?} of {} bytes from {from} to {to} on {flow}", body.len());
        let Some(count) = self.classes.get_mut(&class) else {
            return Err(format!("invented: nobody sent the {}", what()));
        };
        count.arrived += 1;
        if count.arrived > count.taken {
            return Err(format!(
                "twice: {} (entries {:?}) arrived {} times, sent {} times",
                what(),
                count.entries,
                count.arrived,
                count.taken
            ));
        }
        Ok(())
    }

    /// An ordered message, or a value, arrived: none that was sent after it may have arrived before.
    ///
    /// # Errors
    ///
    /// One had.
    pub fn in_order(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        flow: &'static str,
        service: Service,
        body: &[u8],
    ) -> Result<(), String> {
        let is_value = service == Service::LatestValue;
        if service != Service::Ordered && !is_value {
            return Ok(());
        }
        let class = (from, to, flow, Kind::Acknowledged, Digest::of(body));
        let number = self.classes.get(&class).and_then(|count| count.entries.first());
        let number = *number.ok_or("ordered, and sent by nobody")?;
        let last = self.last_in_order.insert((from, to, flow, is_value), number);
        match last {
            Some(last) if last > number => {
                Err(format!("out of order: {service:?} entry {number} on {flow} after {last}"))
            }
            _ => Ok(()),
        }
    }

    /// The sender was told how one ended.
    ///
    /// # Errors
    ///
    /// It was told before, or nobody asked, or it is called delivered and has not arrived.
    pub fn ended(&mut self, node: NodeIndex, token: Token, outcome: Outcome) -> Result<(), String> {
        let number = token.0 as usize;
        let Some(entry) = self.entries.get_mut(number) else {
            return Err(format!("node {node} was told about token {number}, which nobody gave"));
        };
        if entry.from != node || entry.kind == Kind::BestEffort {
            return Err(format!("node {node} was told {outcome:?} about another's {entry:?}"));
        }
        if let Some(earlier) = entry.outcome.replace(outcome) {
            return Err(format!("entry {number} ended twice: {earlier:?}, then {outcome:?}"));
        }
        if outcome == Outcome::Delivered {
            let delivered = self.ended_as(number, |outcome| outcome == Outcome::Delivered);
            let arrived = self.class(number).arrived;
            if arrived < delivered {
                let entry = &self.entries[number];
                return Err(format!("lost: entry {number} is called delivered: {entry:?}"));
            }
        }
        Ok(())
    }

    /// Whether a reply to this request has the right bytes.
    pub fn is_answer(&self, token: Token, reply: &[u8]) -> bool {
        let number = token.0 as usize;
        let Some(entry) = self.entries.get(number) else {
            return false;
        };
        reply == answer_to(&body(number as u64, entry.bytes))
    }

    /// One entry.
    pub fn entry(&self, token: Token) -> &Entry {
        &self.entries[token.0 as usize]
    }

    /// All entries, in order of their numbers.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many messages arrived on flows of this name.
    pub fn arrived_on(&self, flow: &str) -> u64 {
        self.classes
            .iter()
            .filter(|(class, _)| class.2 == flow)
            .map(|(_, count)| count.arrived)
            .sum()
    }

    /// Entries that wait for an end and whose sender still runs, given each node's current start.
    pub fn open<'a>(&'a self, starts: &'a [Option<u32>]) -> impl Iterator<Item = usize> + 'a {
        let waits = |entry: &Entry| {
            entry.kind != Kind::BestEffort
                && entry.outcome.is_none()
                && entry.rejected.is_none()
                && starts[entry.from].is_some()
                && (entry.taken_by_start.is_none() || entry.taken_by_start == starts[entry.from])
        };
        self.entries
            .iter()
            .enumerate()
            .filter(move |(_, entry)| waits(entry))
            .map(|(number, _)| number)
    }

    /// Acknowledged messages and requests that this start of a node took: (messages, requests).
    pub fn taken_by(&self, node: NodeIndex, start: u32) -> (u64, u64) {
        let mut counts = (0, 0);
        for entry in &self.entries {
            if entry.from == node && entry.taken_by_start == Some(start) {
                match entry.kind {
                    Kind::BestEffort => {}
                    Kind::Acknowledged => counts.0 += 1,
                    Kind::Request => counts.1 += 1,
                }
            }
        }
        counts
    }

    /// Checks every class of messages at the end of a world.
    ///
    /// # Errors
    ///
    /// Arrivals do not lie between what the outcomes promise and what they permit.
    pub fn verify(&self) -> Result<(), String> {
        for (class, count) in &self.classes {
            let ended = |is: fn(Outcome) -> bool| {
                let is_so = |number: &&usize| self.entries[**number].outcome.is_some_and(is);
                count.entries.iter().filter(is_so).count() as u64
            };
            let promised = ended(|outcome| outcome == Outcome::Delivered);
            let excluded =
                ended(|outcome| matches!(outcome, Outcome::Refused(_) | Outcome::Expired));
            // A request may expire or be refused after its server saw it; a message may not.
            let permitted = match class.3 {
                Kind::Request => count.taken,
                _ => count.taken - excluded,
            };
            if count.arrived < promised || count.arrived > permitted {
                return Err(format!(
                    "{class:?}, entries {:?}: {} arrived; {promised} promised, {permitted} permitted",
                    count.entries, count.arrived
                ));
            }
        }
        Ok(())
    }

    /// How all ended.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for count in self.classes.values() {
            sums.taken += count.taken;
            sums.arrived += count.arrived;
        }
        for entry in &self.entries {
            if entry.rejected.is_some() {
                sums.rejected += 1;
                continue;
            }
            if entry.kind == Kind::BestEffort {
                continue;
            }
            let counter = match entry.outcome {
                Some(Outcome::Delivered) => &mut sums.delivered,
                Some(Outcome::Refused(_)) => &mut sums.refused,
                Some(Outcome::Expired) => &mut sums.expired,
                Some(Outcome::PeerLost) => &mut sums.peer_lost,
                Some(Outcome::Unknown) => &mut sums.unknown,
                None => &mut sums.open,
            };
            *counter += 1;
        }
        sums
    }

    fn class(&mut self, number: usize) -> &mut Count {
        self.classes.get_mut(&self.class_of[number]).expect("written with its class")
    }

    fn ended_as(&self, number: usize, is: fn(Outcome) -> bool) -> u64 {
        let same = &self.classes[&self.class_of[number]].entries;
        same.iter().filter(|number| self.entries[**number].outcome.is_some_and(is)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    //! Goal: each kind of breach is seen; a correct run is not blamed.
    use super::*;

    fn entry(kind: Kind, bytes: usize) -> Entry {
        Entry::new(0, 1, "a", kind, bytes)
    }

    fn sent(kind: Kind, bytes: usize) -> (Ledger, Token, Vec<u8>) {
        let mut ledger = Ledger::default();
        let (token, body) = ledger.write(entry(kind, bytes));
        ledger.taken(token, 0);
        (ledger, token, body)
    }

    #[test]
    fn a_message_that_arrives_once_is_right() {
        let (mut ledger, token, body) = sent(Kind::Acknowledged, 40);
        assert_eq!(ledger.open(&[Some(0), Some(0)]).collect::<Vec<_>>(), [0]);
        ledger.arrived(0, 1, "a", Kind::Acknowledged, &body).unwrap();
        ledger.ended(0, token, Outcome::Delivered).unwrap();
        ledger.verify().unwrap();
        assert_eq!(ledger.open(&[Some(0), Some(0)]).count(), 0);
        assert_eq!(ledger.sums().delivered, 1);
    }

    #[test]
    fn a_second_arrival_is_seen_for_every_service() {
        for kind in [Kind::BestEffort, Kind::Acknowledged, Kind::Request] {
            let (mut ledger, _, body) = sent(kind, 40);
            ledger.arrived(0, 1, "a", kind, &body).unwrap();
            let error = ledger.arrived(0, 1, "a", kind, &body).unwrap_err();
            assert!(error.starts_with("twice"), "{error}");
        }
    }

    #[test]
    fn equal_bodies_may_arrive_as_often_as_they_were_sent() {
        let (mut ledger, ..) = sent(Kind::Acknowledged, 0);
        let (second, body) = ledger.write(entry(Kind::Acknowledged, 0));
        ledger.taken(second, 0);
        for _ in 0..2 {
            ledger.arrived(0, 1, "a", Kind::Acknowledged, &body).unwrap();
        }
        assert!(ledger.arrived(0, 1, "a", Kind::Acknowledged, &body).is_err());
    }

    #[test]
    fn wrong_bytes_flow_or_sender_are_inventions() {
        let (mut ledger, _, mut body) = sent(Kind::Acknowledged, 40);
        for (from, flow, kind) in
            [(1, "a", Kind::Acknowledged), (0, "b", Kind::Acknowledged), (0, "a", Kind::BestEffort)]
        {
            let error = ledger.arrived(from, 1, flow, kind, &body).unwrap_err();
            assert!(error.starts_with("invented"), "{error}");
        }
        body[3] ^= 1;
        assert!(ledger.arrived(0, 1, "a", Kind::Acknowledged, &body).is_err());
    }

    #[test]
    fn delivered_without_an_arrival_is_a_loss() {
        let (mut ledger, token, _) = sent(Kind::Acknowledged, 40);
        let error = ledger.ended(0, token, Outcome::Delivered).unwrap_err();
        assert!(error.starts_with("lost"), "{error}");
    }

    #[test]
    fn an_end_is_told_once_and_to_the_sender() {
        let (mut ledger, token, _) = sent(Kind::Acknowledged, 40);
        assert!(ledger.ended(1, token, Outcome::Unknown).is_err());
        ledger.ended(0, token, Outcome::Unknown).unwrap();
        assert!(ledger.ended(0, token, Outcome::Unknown).is_err());
        assert!(ledger.ended(0, Token(9), Outcome::Unknown).is_err());
    }

    #[test]
    fn an_expired_message_must_not_have_arrived() {
        let (mut ledger, token, body) = sent(Kind::Acknowledged, 40);
        ledger.arrived(0, 1, "a", Kind::Acknowledged, &body).unwrap();
        ledger.ended(0, token, Outcome::Expired).unwrap();
        assert!(ledger.verify().is_err());
    }

    #[test]
    fn entries_of_a_killed_sender_are_not_waited_for() {
        let (ledger, ..) = sent(Kind::Acknowledged, 40);
        assert_eq!(ledger.open(&[None, Some(0)]).count(), 0);
        assert_eq!(ledger.open(&[Some(1), Some(0)]).count(), 0);
        assert_eq!(ledger.open(&[Some(0), None]).count(), 1);
    }

    #[test]
    fn an_answer_is_checked_by_its_bytes() {
        let (ledger, token, body) = sent(Kind::Request, 9);
        let mut answer = answer_to(&body);
        assert!(ledger.is_answer(token, &answer));
        answer[0] ^= 1;
        assert!(!ledger.is_answer(token, &answer));
    }
}
