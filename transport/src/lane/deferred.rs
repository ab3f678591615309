//! Owns what a lane does with messages whose acceptance is said later.
//!
//! What always holds: a deferred message is charged and keeps its block from being settled until it is answered; it was
//! handed over once, and what comes of it is told once.

use super::{Lane, Receiving};
use crate::endpoint::{Application, Deferred, Refusal};
use crate::frame::Reason;
use crate::room::Room;

impl Lane {
    /// The application has put its answer to a message off.
    #[inline(never)]
    pub(super) fn defer<A: Application>(&mut self, rx: &mut Receiving<'_, A>, end: (u64, u16)) {
        self.orders.put_off(end.0);
        rx.app.defer(Deferred { peer: rx.peer, session: rx.session, end });
    }

    /// The answer to a message that was put off. It is told in a datagram of its own if none leaves anyway.
    pub(crate) fn settle(&mut self, room: &mut Room, end: (u64, u16), result: Result<(), Refusal>) {
        let before = self.settled_floor();
        self.orders.make_up(end.0);
        if let Err(refusal) = result {
            self.refuse(room, end, Reason::Refused(refusal));
            self.end_datagram();
        }
        self.settled_due |= self.settled_floor() > before;
    }
}
