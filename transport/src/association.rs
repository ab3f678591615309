//! Owns one set of keys with a peer: the finished handshake, one packet number space per pair of shards, the greeting that
//! must be told first.
//!
//! What always holds: the greeting is repeated until it is acknowledged; spaces are never removed, so numbers never restart.

use std::net::SocketAddr;
use std::time::Duration;

use crate::handshake::Established;
use crate::space::PacketSpace;
use crate::time::Instant;

/// First pause before a greeting is repeated; doubles up to [`GREETING_PAUSE_MAX`].
const GREETING_PAUSE_MIN: Duration = Duration::from_millis(20);
const GREETING_PAUSE_MAX: Duration = Duration::from_secs(1);

/// One association.
#[derive(Debug)]
pub(crate) struct Association {
    established: Established,
    pub(crate) address: SocketAddr,
    pub(crate) since: Instant,
    /// Round trip that the handshake measured, unless a datagram of it was repeated.
    pub(crate) rtt: Option<Duration>,
    pub(crate) spaces: Vec<PacketSpace>,
    /// When the peer last used it.
    pub(crate) last_received: Instant,
    greeting_acknowledged: bool,
    greeting_due: Instant,
    greeting_pause: Duration,
}

impl Association {
    pub(crate) fn new(
        now: Instant,
        address: SocketAddr,
        established: Established,
        rtt: Option<Duration>,
    ) -> Self {
        Self {
            established,
            address,
            since: now,
            rtt,
            spaces: Vec::new(),
            last_received: now,
            greeting_acknowledged: false,
            greeting_due: now,
            greeting_pause: rtt
                .map_or(GREETING_PAUSE_MAX / 2, |rtt| (3 * rtt).max(GREETING_PAUSE_MIN)),
        }
    }

    /// What the peer puts into its datagrams.
    #[inline]
    pub(crate) fn local_index(&self) -> u32 {
        self.established.local_index
    }

    /// What we put into ours.
    #[inline]
    pub(crate) fn remote_index(&self) -> u32 {
        self.established.remote_index
    }

    /// The shard that shook hands with us.
    pub(crate) fn remote_shard(&self) -> u8 {
        self.established.remote_shard
    }

    /// Whether the side with the smaller key began the dial.
    pub(crate) fn is_from_smaller(&self, ours_is_smaller: bool) -> bool {
        (self.established.role == crate::keys::Role::Dialler) == ours_is_smaller
    }

    /// The space of the lane with the peer's shard, made when first asked for.
    #[inline]
    pub(crate) fn space(
        &mut self,
        shard: u8,
        remote_shard: u8,
        random: impl FnOnce() -> u64,
    ) -> &mut PacketSpace {
        let found = self.spaces.iter().position(|space| space.remote_shard == remote_shard);
        let index = found.unwrap_or_else(|| {
            let Established { secret, suite, role, .. } = &self.established;
            let keys = secret.lane_keys(*suite, *role, shard, remote_shard);
            self.spaces.push(PacketSpace::new(remote_shard, keys, random()));
            self.spaces.len() - 1
        });
        &mut self.spaces[index]
    }

    /// Whether so much was sent under some key that fresh ones are due.
    #[inline]
    pub(crate) fn is_worn(&self, packets_per_key: u64) -> bool {
        self.spaces.iter().any(|space| space.sent.next_number() >= packets_per_key)
    }

    /// Whether the greeting is to be told now.
    pub(crate) fn is_greeting_due(&self, now: Instant) -> bool {
        !self.greeting_acknowledged && self.greeting_due <= now
    }

    /// When it is to be told next.
    pub(crate) fn greeting_due(&self) -> Option<Instant> {
        (!self.greeting_acknowledged).then_some(self.greeting_due)
    }

    /// The greeting was just told.
    pub(crate) fn on_greeting_sent(&mut self, now: Instant) {
        self.greeting_due = now + self.greeting_pause;
        self.greeting_pause = (2 * self.greeting_pause).min(GREETING_PAUSE_MAX);
    }

    /// The peer has it.
    pub(crate) fn on_greeting_acknowledged(&mut self) {
        self.greeting_acknowledged = true;
    }
}
