//! Owns what is kept of an association in which nothing is under way: one that the peer greeted under and sends on, as we do.
//!
//! What always holds: its address is that of the path, and nothing is told under it any more that only a greeting tells.

use std::net::SocketAddr;

use super::{Association, GREETING_PAUSE_MAX, Names};
use crate::header::LaneHeader;
use crate::restarted::SentTags;
use crate::space::{DormantSpace, OpenError, PacketSpace};
use crate::time::Instant;

/// An association in which nothing is under way.
#[derive(Debug)]
pub(crate) struct DormantAssociation {
    names: Names,
    since: Instant,
    space: DormantSpace,
    last_received: Instant,
    rekey_at: Instant,
}

impl Association {
    /// Whether nothing under these keys calls for more.
    pub(crate) fn is_quiet(&self) -> bool {
        self.greeting_acknowledged && !self.is_candidate && self.space.is_quiet()
    }

    /// Keeps what [`Association::wake`] needs. A notice that answers what was sent before is not believed.
    pub(crate) fn rest(self) -> DormantAssociation {
        debug_assert!(self.is_quiet(), "nothing is lost");
        let Self { names, since, space, last_received, rekey_at, .. } = self;
        DormantAssociation { names, since, space: space.rest(), last_received, rekey_at }
    }

    /// The association as it was, to a peer at `address`. What the handshake measured went into the path, and which incarnation
    /// it told has been acknowledged.
    pub(crate) fn wake(dormant: DormantAssociation, address: SocketAddr) -> Self {
        let DormantAssociation { names, since, space, last_received, rekey_at } = dormant;
        Self {
            names,
            address,
            since,
            rtt: None,
            space: PacketSpace::wake(space),
            incarnation: [0; 16],
            last_received,
            is_candidate: false,
            rekey_at,
            sent_tags: SentTags::default(),
            greeting_acknowledged: true,
            greeting_due: since,
            greeting_pause: GREETING_PAUSE_MAX,
        }
    }
}

impl DormantAssociation {
    /// What the peer puts into its datagrams.
    pub(crate) fn local_index(&self) -> u32 {
        self.names.local_index
    }

    /// That, and what we put into ours.
    #[cfg(feature = "testing")]
    pub(crate) fn indices(&self) -> (u32, u32) {
        (self.names.local_index, self.names.remote_index)
    }

    /// The shard that shook hands with us.
    pub(crate) fn remote_shard(&self) -> u8 {
        self.names.remote_shard
    }

    /// See [`DormantSpace::authenticate`].
    pub(crate) fn authenticate(
        &mut self,
        header: &LaneHeader,
        datagram: &[u8],
    ) -> Result<(), OpenError> {
        self.space.authenticate(header, datagram)
    }
}
