//! Owns one set of keys with a peer: the finished handshake, one packet number space per pair of shards, the greeting that
//! must be told first.
//!
//! What always holds: the greeting is repeated until it is acknowledged; spaces are never removed, so numbers never restart.

use std::net::SocketAddr;
use std::time::Duration;

use crate::handshake::Established;
use crate::limits::{Limits, WINDOW_GROWTH_BYTES_MAX};
use crate::restarted::SentTags;
use crate::rtt::INITIAL_DEFAULT;
use crate::sent::SentPackets;
use crate::space::{KeyLimits, PacketSpace};
use crate::time::Instant;

/// First pause before a greeting is repeated; doubles up to [`GREETING_PAUSE_MAX`].
const GREETING_PAUSE_MIN: Duration = Duration::from_millis(20);
const GREETING_PAUSE_MAX: Duration = Duration::from_secs(1);
/// First pause where the round trip is not known: that of a hello.
const GREETING_PAUSE_UNKNOWN: Duration = Duration::from_millis(100);

/// A handshake that took longer does not tell the round trip: a FINISH was lost that its sender repeated, which looks alike here,
/// or somebody slept. What is assumed without a sample is nearer.
const HANDSHAKE_RTT_MAX: Duration = INITIAL_DEFAULT;

/// One association.
#[derive(Debug)]
pub(crate) struct Association {
    established: Established,
    pub(crate) address: SocketAddr,
    pub(crate) since: Instant,
    /// Round trip that the handshake measured, unless a datagram of it was repeated or took too long to be believed.
    pub(crate) rtt: Option<Duration>,
    pub(crate) spaces: Vec<PacketSpace>,
    /// Bytes by which the replay windows of all spaces together may still grow.
    window_room: usize,
    /// The incarnation that the peer is told under these keys.
    pub(crate) incarnation: [u8; 16],
    /// When the peer last used it.
    pub(crate) last_received: Instant,
    /// The peer may not know yet that these keys belong to the session, so nothing but the greeting is sent under them.
    pub(crate) is_candidate: bool,
    /// From here on traffic asks for fresh keys.
    rekey_at: Instant,
    key_limits: KeyLimits,
    pub(crate) sent_tags: SentTags,
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
        let suite = established.suite;
        let rtt = rtt.filter(|rtt| *rtt <= HANDSHAKE_RTT_MAX);
        Self {
            established,
            address,
            since: now,
            rtt,
            spaces: Vec::new(),
            window_room: WINDOW_GROWTH_BYTES_MAX,
            incarnation: [0; 16],
            last_received: now,
            is_candidate: false,
            rekey_at: Instant::from_nanos(u64::MAX),
            key_limits: KeyLimits::new(suite, &Limits::default()),
            sent_tags: SentTags::default(),
            greeting_acknowledged: false,
            greeting_due: now,
            greeting_pause: rtt
                .map_or(GREETING_PAUSE_UNKNOWN, |rtt| (3 * rtt).max(GREETING_PAUSE_MIN)),
        }
    }

    /// Sets what the keys may be used for: so many packets and forgeries, and a lifetime of `rekey_after` that `random`
    /// moves by up to 10 %. The smaller key's side asks for fresh keys in the earlier half of that time and the other in the
    /// later one, so that they seldom ask at once.
    pub(crate) fn limit_keys(&mut self, limits: &Limits, ours_is_smaller: bool, random: u64) {
        self.key_limits = KeyLimits::new(self.established.suite, limits);
        let tenth = limits.rekey_after / 10;
        let moved = tenth.mul_f64(random as f64 / u64::MAX as f64);
        let tenths = if ours_is_smaller { 9 } else { 10 };
        self.rekey_at = self.since + tenths * tenth + moved;
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

    /// Whether we began the dial.
    pub(crate) fn is_dialled(&self) -> bool {
        self.established.role == crate::keys::Role::Dialler
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
            self.spaces.push(PacketSpace::new(remote_shard, keys, self.key_limits, random()));
            self.spaces.len() - 1
        });
        &mut self.spaces[index]
    }

    /// Lets the replay window of a lane grow within the room for all of them.
    #[cold]
    pub(crate) fn grow_window(&mut self, remote_shard: u8) {
        let mut spaces = self.spaces.iter_mut();
        if let Some(space) = spaces.find(|space| space.remote_shard == remote_shard) {
            space.grow_window(&mut self.window_room);
        }
    }

    /// Whether fresh keys are due: so much was sent or forged under some key, or all were used for so long.
    #[inline]
    pub(crate) fn is_worn(&self, now: Instant, packets_per_key: u64) -> bool {
        let is_worn = |space: &PacketSpace| {
            space.sent.next_number() >= packets_per_key || space.is_attacked()
        };
        self.rekey_at <= now || self.spaces.iter().any(is_worn)
    }

    /// Whether so much was forged under some key that it may not last.
    pub(crate) fn is_attacked(&self) -> bool {
        self.spaces.iter().any(PacketSpace::is_attacked)
    }

    /// Whether nothing more may be sealed under any key that was used.
    pub(crate) fn is_used_up(&self) -> bool {
        !self.spaces.is_empty() && self.spaces.iter().all(PacketSpace::is_used_up)
    }

    /// Bytes in flight under these keys.
    pub(crate) fn bytes_in_flight(&self) -> u64 {
        self.spaces.iter().map(|space| space.sent.bytes_in_flight()).sum()
    }

    /// When the last datagram that asks for an acknowledgement was sent.
    pub(crate) fn last_sent(&self) -> Option<Instant> {
        self.spaces.iter().map(|space| &space.sent).map(SentPackets::last_sent).max()
    }

    /// Whether the peer has our greeting, and so knows whose keys these are.
    pub(crate) fn is_greeting_acknowledged(&self) -> bool {
        self.greeting_acknowledged
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
