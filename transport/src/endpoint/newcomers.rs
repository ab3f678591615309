//! Owns what becomes of a dialler that is not known here: nothing but its half-open answer is kept until its greeting was
//! judged.
//!
//! What always holds: a peer is made only of an accepted greeting; whoever is turned away is told so once per datagram of
//! its own, which was longer, at the address that it proved.

use std::net::SocketAddr;

use super::{Application, Endpoint, Event, Newcomer, NodeMode, Owner, Verdict};
use crate::association::Association;
use crate::common::Common;
use crate::frame::{Close, Greeting};
use crate::header::LaneHeader;
use crate::identity::PublicKey;
use crate::peer::open_greeting;
use crate::session::write_close;
use crate::time::Instant;

impl Endpoint {
    /// A lane datagram for a half-open answer. Whether it was taken; else it was dropped and counted.
    #[cold]
    pub(super) fn handle_stranger<A: Application>(
        &mut self,
        now: Instant,
        header: &LaneHeader,
        datagram: &mut [u8],
        app: &mut A,
    ) -> bool {
        if self.is_closed {
            self.common.counters.dropped_closed += 1;
            return false;
        }
        let index = header.association;
        let answer = self.handshakes.answers.get_mut(index);
        let Some(answer) = answer.filter(|answer| answer.stranger.is_some()) else {
            // It overtook the FINISH, or its sender was not admitted.
            self.common.counters.dropped_before_greeting += 1;
            return false;
        };
        let Some((key, association)) = answer.stranger.as_deref_mut() else { return false };
        // Where its FINISH came from. Anybody may write another source on a greeting.
        let address = association.address;
        let greeted = open_greeting(&mut self.common, association, now, header, datagram);
        let is_taken = greeted.is_ok();
        let greeting = match greeted {
            Ok(greeted) => greeted.greeting,
            Err(None) => return false,
            Err(Some(reason)) => {
                tracing::warn!(key = %key.fingerprint(), %address, reason, "greeting refused");
                answer.refusal =
                    Some(refusal(&mut self.common, association, now, Close::Violation));
                None
            }
        };
        if let Some(refusal) = &answer.refusal {
            let refusal = refusal.clone();
            self.handshakes.out.push_back((address, refusal));
            return is_taken;
        }
        let Some(greeting) = greeting else { return is_taken };
        let newcomer = greeting.newcomer(key, address, false);
        let newcomer = Newcomer { channel: answer.channel, ..newcomer };
        let verdict = app.judge(&newcomer);
        let Some((close, _)) = verdict.refusal() else {
            return self.welcome(now, index, greeting);
        };
        let refusal = refusal(&mut self.common, association, now, close);
        answer.refusal = Some(refusal.clone());
        let (channel, key) = (answer.channel, *key);
        self.handshakes.out.push_back((address, refusal));
        self.common.counters.count_turned_away(verdict);
        let events = &mut self.common.ends.events;
        events.push_back(Event::TurnedAway { channel, key, address, verdict });
        false
    }

    /// The stranger becomes a peer, with a session, if there is room for one.
    fn welcome(&mut self, now: Instant, index: u32, greeting: Greeting) -> bool {
        let answer = self.handshakes.answers.take(index);
        let answer = answer.and_then(|answer| Some((answer.channel, *answer.stranger?)));
        let Some((channel, (key, mut association))) = answer else { return false };
        let Ok(peer) = self.add_stranger(now, (channel, key), association.remote_shard()) else {
            self.common.counters.dropped_peers_full += 1;
            self.owners.remove(&index);
            return false;
        };
        self.owners.insert(index, Owner::Peer(peer.place()));
        let state = &mut self.peers[peer.place() as usize];
        state.adopt(&mut self.common, &mut association);
        self.on_greeting(now, peer.place(), association, greeting);
        true
    }
}

/// The CLOSE to whoever is turned away.
fn refusal(
    common: &mut Common,
    association: &mut Association,
    now: Instant,
    close: Close,
) -> Vec<u8> {
    let mut out = Vec::new();
    write_close(association, common, now, close, &mut out);
    out
}

impl Greeting {
    /// What the application is asked to judge, on the default channel.
    pub(crate) fn newcomer<'a>(
        &'a self,
        key: &'a PublicKey,
        address: SocketAddr,
        is_dialled: bool,
    ) -> Newcomer<'a> {
        Newcomer {
            channel: super::ChannelId::DEFAULT,
            key,
            address,
            name: &self.name,
            role: &self.role,
            mode: NodeMode::from_bits(self.mode).unwrap_or_default(),
            kind: self.kind,
            is_dialled,
        }
    }
}

impl crate::counters::Counters {
    /// Counts a greeting that led to no session.
    pub(crate) fn count_turned_away(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Accepted => return,
            Verdict::NotAdmitted => &mut self.dropped_not_admitted,
            Verdict::Pending => &mut self.dropped_pending,
            Verdict::Rejected(_) => &mut self.dropped_rejected,
        } += 1;
    }
}

#[cfg(test)]
mod tests;
