//! Owns when a lane's session becomes dormant, and that it wakes for whatever concerns it.
//!
//! What always holds: a peer has no session, one at work or a dormant one, never two; while its session is dormant the lane has no
//! timer, no message that waits and no handshake under way.

use super::{Peer, Waiting};
use crate::association::DormantAssociation;
use crate::common::Common;
use crate::endpoint::PeerMemory;
use crate::frame::Greeting;
use crate::path::Path;
use crate::session::{DormantSession, Session};
use crate::time::Instant;
use crate::values::Values;

impl Peer {
    /// Whether there is a session, at work or dormant.
    #[inline]
    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some() || self.dormant.is_some()
    }

    /// The association with this index, if a dormant session of this lane has it.
    pub(super) fn dormant_under(&mut self, index: u32) -> Option<&mut DormantAssociation> {
        let association = &mut self.dormant.as_mut()?.association;
        (association.local_index() == index).then_some(association)
    }

    /// Puts a dormant session to work again; whether there was one. It is ready to be asked what there is to send then, which also
    /// sets the timer for it to rest again.
    #[inline]
    pub(crate) fn wake(&mut self) -> bool {
        let Some(dormant) = self.dormant.take() else { return false };
        self.begin_again(*dormant);
        true
    }

    #[cold]
    fn begin_again(&mut self, dormant: DormantSession) {
        self.session = Some(Box::new(Session::wake(dormant)));
    }

    /// From when on the session may be dormant, if nothing happens until then; `None` while anything is under way.
    pub(super) fn dormant_at(&self) -> Option<Instant> {
        let session = self.session.as_deref()?;
        let is_quiet = self.dialling.is_none()
            && self.greeting_pending.is_empty()
            && self.waiting.is_empty()
            && self.values.is_empty()
            && self.requests_pending == 0
            && self.wanted_since.is_none()
            && self.redial_at.is_none()
            && self.closing.is_none()
            && self.violated.is_none();
        if is_quiet { session.dormant_at() } else { None }
    }

    /// Lets the session rest if it has been silent for long enough and nothing else is to come.
    pub(super) fn try_rest(&mut self, common: &mut Common, now: Instant) {
        let is_over = self.dormant_at().is_some_and(|at| at <= now);
        if !is_over || self.next_due(common, now).is_some() {
            return;
        }
        let Some(session) = self.session.take() else { return };
        common.counters.sessions_rested += 1;
        self.dormant = Some(Box::new(session.rest(common, &mut self.room)));
        (self.waiting, self.values) = (Waiting::default(), Values::default());
        self.flows.shrink_to_fit();
    }

    /// What the peer told of itself in the session there is.
    pub(crate) fn greeting(&self) -> Option<&Greeting> {
        let dormant = self.dormant.as_ref().map(|dormant| &dormant.greeting);
        self.session.as_ref().map(|session| &session.greeting).or(dormant)
    }

    /// What the session there is holds now.
    pub(crate) fn memory(&self) -> PeerMemory {
        let dormant = self.dormant.as_ref().map(|dormant| dormant.memory());
        self.session.as_ref().map(|session| session.memory()).or(dormant).unwrap_or_default()
    }

    /// The indexes, ours and the peer's, of the association that the session sends on.
    #[cfg(feature = "testing")]
    pub(crate) fn indices(&self) -> Option<(u32, u32)> {
        let current = self.session.as_ref().map(|session| &session.current);
        let dormant = self.dormant.as_ref().map(|dormant| dormant.association.indices());
        current.map(|current| (current.local_index(), current.remote_index())).or(dormant)
    }

    /// Calls `look` with the path of the session there is.
    pub(crate) fn look_at_path<T>(&self, look: impl FnOnce(&Path) -> T) -> Option<T> {
        if let Some(session) = &self.session {
            return Some(look(&session.path));
        }
        let dormant = self.dormant.as_ref()?;
        Some(look(&Path::wake(dormant.path.clone())))
    }
}
