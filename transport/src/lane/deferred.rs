//! Owns what a lane does with messages whose acceptance is said later.
//!
//! What always holds: a deferred message is charged and keeps its block from being settled until it is answered; it was
//! handed over once, and what comes of it is told once. Room for its refusal was taken before anybody can refuse it.

use super::{Lane, Receiving};
use crate::endpoint::{Application, Deferred, Refusal};
use crate::frame::Reason;
use crate::room::Room;

impl Lane {
    /// The application has put its answer to a message off.
    #[inline(never)]
    pub(super) fn defer<A: Application>(&mut self, rx: &mut Receiving<'_, A>, end: (u64, u16)) {
        self.orders.put_off(end.0);
        rx.room.refusals -= 1;
        rx.app.defer(Deferred { peer: rx.peer, session: rx.session, end });
    }

    /// The answer to a message that was put off; `false` if that has one. It is told in a datagram of its own if none leaves anyway.
    pub(crate) fn settle(
        &mut self,
        room: &mut Room,
        end: (u64, u16),
        result: Result<(), Refusal>,
    ) -> bool {
        let before = self.settled_floor();
        if !self.orders.make_up(end.0) {
            return false;
        }
        room.refusals += 1;
        if let Err(refusal) = result {
            // Put among the others when these are next looked at: many are often answered at once, in any order.
            self.refuse(room, end, Reason::Refused(refusal));
        }
        self.settled_due |= self.settled_floor() > before;
        true
    }
}

#[cfg(test)]
mod tests {
    //! Goal: answers cost the same in whatever order they come.
    use super::*;
    use crate::endpoint::Limits;
    use crate::limits::REFUSALS_MAX;
    use crate::work;

    #[test]
    fn refusals_said_later_cost_no_more_than_their_number() {
        const MESSAGES: usize = 50_000;
        let limits = Limits::default();
        let (mut lane, mut room) = (Lane::new(&limits, 1_200), Room::new(&limits));
        let end = |n: usize| ((n / 100) as u64, (n % 100) as u16);
        for n in 0..MESSAGES {
            lane.orders.put_off(end(n).0);
            room.refusals -= 1;
        }
        let begun = work::done();
        for n in (0..MESSAGES).rev() {
            assert!(lane.settle(&mut room, end(n), Err(Refusal::QueueFull)));
        }
        lane.merge_refusals();
        let steps = work::done() - begun;
        assert!(steps <= 2 * MESSAGES as u64, "{steps} steps");
        assert!(lane.refusals().is_sorted_by_key(|refusal| (refusal.0, refusal.1)));
        assert_eq!((lane.refusals().len(), lane.orders.unanswered()), (MESSAGES, 0));
        assert_eq!(room.refusals, (REFUSALS_MAX - MESSAGES) as isize);
    }

    #[test]
    fn a_second_answer_changes_nothing() {
        let limits = Limits::default();
        let (mut lane, mut room) = (Lane::new(&limits, 1_200), Room::new(&limits));
        lane.orders.put_off(0);
        room.refusals -= 1;
        assert!(lane.settle(&mut room, (0, 0), Ok(())));
        for result in [Ok(()), Err(Refusal::QueueFull)] {
            assert!(!lane.settle(&mut room, (0, 0), result));
        }
        lane.merge_refusals();
        assert_eq!((room.refusals, lane.refusals()), (REFUSALS_MAX as isize, &[][..]));
    }
}
