//! Owns how a session with a peer ends, and how what was under way beside it does: handshakes, our dial, messages that wait.
//!
//! What always holds: a message that was taken by no session waits for the next one, which is dialled for until `give_up`; a
//! dial goes when the association that it came to does.

use super::{Dialling, Peer, REDIAL};
use crate::common::{Common, Ends};
use crate::endpoint::{DownCause, EndCause, Event, Outcome};
use crate::frame::Close;
use crate::session::write_close;
use crate::time::Instant;

impl Peer {
    /// The session is over: what it was to deliver ends, what it had not taken yet waits for the next one, which is dialled for.
    /// Unless the peer ended it, the peer may not know and may keep its side of it: so we are another
    /// incarnation to it from here on, and what it still numbers for the old session meets nothing of the next.
    pub(crate) fn end_session(
        &mut self,
        common: &mut Common,
        now: Instant,
        cause: EndCause,
        outcome: Outcome,
    ) {
        self.wake();
        let Some(mut session) = self.session.take() else {
            return;
        };
        let ended = session.end(common, &mut self.flows, outcome, self.id.place());
        self.requests_pending -= ended;
        if !matches!(cause, EndCause::NewIncarnation | EndCause::ClosedByPeer) {
            self.incarnation = Some(common.draw_incarnation());
            // They told the old one, or may have.
            self.forget_greetings(common, None);
        }
        self.end_requests(common, outcome);
        self.stamp_values();
        self.closing = None;
        self.violated = None;
        if self.is_watching(common) {
            self.on_down(common, now, down_cause(cause));
        }
        self.silence.forget();
        self.presence_mut(common).on_session_ended();
        common.ends.events.push_back(Event::SessionEnded { peer: self.contact, cause });
        self.tell_writable(common);
        if !self.waiting.is_empty() || !self.values.is_empty() {
            self.wanted_since.get_or_insert(now);
            self.redial_at.get_or_insert(now + REDIAL);
        }
    }

    /// A session ended: so do the requests to this peer that had left, and those that wait go on waiting.
    fn end_requests(&mut self, common: &mut Common, outcome: Outcome) {
        let kept = self.waiting.requests();
        let Ends { requests, ended_requests, .. } = &mut common.ends;
        let is_kept = |number: u64| kept.binary_search(&number).is_ok();
        self.requests_pending = requests.take_all(self.id.place(), is_kept, |waiting| {
            ended_requests.push_back((waiting.token, outcome));
        });
    }

    /// Values that wait get stamps of the next session, in which their flows begin anew.
    fn stamp_values(&mut self) {
        self.values.is_starved = false;
        for (alias, value) in self.values.iter_mut() {
            if let Some(flow) = self.flows.get_mut(alias as usize) {
                flow.stamp += 1;
                value.stamp = flow.stamp;
            }
        }
    }

    /// Tells the peer that the session is over; it ends here once that is sent.
    pub(crate) fn close(&mut self, close: Close) {
        self.wake();
        if self.session.is_some() {
            self.closing = Some(close);
        }
    }

    /// All that there is with the peer ends now, and is not begun again by itself: it is told by a CLOSE.
    #[cold]
    pub(crate) fn end_for_good(&mut self, common: &mut Common, now: Instant, close: Close) {
        let close = self.closing.take().unwrap_or(close);
        self.wake();
        if let Some(session) = &mut self.session {
            let (mut farewell, address) = (Vec::new(), session.address());
            if write_close(&mut session.current, common, now, close, &mut farewell).is_some() {
                common.farewells.push((address, farewell));
            }
        }
        let cause = self.violated.take().map_or(EndCause::ClosedHere, EndCause::Violation);
        self.end_session(common, now, cause, Outcome::Unknown);
        self.forget_greetings(common, None);
        self.abandon_waiting(common, Outcome::PeerLost);
        debug_assert_eq!((self.requests_pending, self.pending()), (0, 0), "something has no end");
    }

    /// Messages that wait for a session end without one.
    pub(crate) fn abandon_waiting(&mut self, common: &mut Common, outcome: Outcome) {
        for message in self.waiting.take_all() {
            if let Some(flow) = self.flows.get_mut(message.alias as usize) {
                flow.ordered_waiting = 0;
            }
            self.end_waiting(common, message.waiter, outcome);
        }
        self.abandon_values(common, outcome);
        self.wanted_since = None;
        self.redial_at = None;
        self.retire_dial(common);
        self.tell_writable(common);
    }

    /// Whether our dial was answered under this index, and goes on until the peer speaks under it.
    pub(super) fn is_dial_answered_by(&self, local_index: u32) -> bool {
        let dialling = self.dialling.as_ref().filter(|dialling| dialling.is_answered);
        dialling.is_some_and(|dialling| dialling.dial.local_index() == local_index)
    }

    /// Forgets handshakes that wait for their greeting and ended before `since`, and our dial if it came to one of them.
    pub(crate) fn forget_greetings(&mut self, common: &mut Common, since: Option<Instant>) {
        for pending in std::mem::take(&mut self.greeting_pending) {
            if since.is_some_and(|since| pending.since >= since) {
                self.greeting_pending.push(pending);
                continue;
            }
            common.retired.push(pending.local_index());
            if self.is_dial_answered_by(pending.local_index()) {
                self.retire_dial(common);
            }
        }
    }

    /// Forgets our dial; its index goes on only if an association already has it.
    pub(crate) fn retire_dial(&mut self, common: &mut Common) -> Option<Box<Dialling>> {
        let dialling = self.dialling.take()?;
        if !dialling.is_answered {
            common.retired.push(dialling.dial.local_index());
        }
        Some(dialling)
    }
}

/// What a session's end says of the peer's life.
fn down_cause(cause: EndCause) -> DownCause {
    match cause {
        EndCause::GaveUp => DownCause::Silence,
        EndCause::NewIncarnation => DownCause::Restarted,
        EndCause::ClosedByPeer | EndCause::RejectedByPeer | EndCause::ClosedHere => {
            DownCause::Closed
        }
        EndCause::Violation(_) => DownCause::Violation,
    }
}
