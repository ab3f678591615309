//! Owns one set of keys of a lane: the handshake that they came from, their packet number space, the greeting that must be told
//! first.
//!
//! What always holds: the greeting is repeated until it is acknowledged; keys and numbers begin and end together, so numbers never
//! restart.

mod dormant;

use std::net::SocketAddr;
use std::time::Duration;

use crate::handshake::Established;
use crate::header::LaneHeader;
use crate::keys::Role;
use crate::limits::Limits;
use crate::restarted::SentTags;
use crate::rtt::INITIAL_DEFAULT;
use crate::space::{KeyLimits, PacketSpace};
use crate::time::Instant;

pub(crate) use dormant::DormantAssociation;

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
    names: Names,
    pub(crate) address: SocketAddr,
    pub(crate) since: Instant,
    /// Round trip that the handshake measured, unless a datagram of it was repeated or took too long to be believed.
    pub(crate) rtt: Option<Duration>,
    pub(crate) space: PacketSpace,
    /// The incarnation that the peer is told under these keys.
    pub(crate) incarnation: [u8; 16],
    /// When the peer last used it.
    pub(crate) last_received: Instant,
    /// The peer may not know yet that these keys belong to the session, so nothing but the greeting is sent under them.
    pub(crate) is_candidate: bool,
    /// From here on traffic asks for fresh keys.
    rekey_at: Instant,
    pub(crate) sent_tags: SentTags,
    greeting_acknowledged: bool,
    greeting_due: Instant,
    greeting_pause: Duration,
}

/// What both sides call these keys, and who is who.
#[derive(Clone, Copy, Debug)]
struct Names {
    role: Role,
    local_index: u32,
    remote_index: u32,
    local_shard: u8,
    remote_shard: u8,
}

impl Association {
    /// The keys of the lane between our shard `local_shard` and the one that shook hands. What they come from is erased.
    pub(crate) fn new(
        now: Instant,
        address: SocketAddr,
        established: &Established,
        rtt: Option<Duration>,
        local_shard: u8,
        limits: &Limits,
        random: u64,
    ) -> Self {
        let &Established { suite, role, local_index, remote_index, remote_shard, .. } = established;
        let rtt = rtt.filter(|rtt| *rtt <= HANDSHAKE_RTT_MAX);
        let keys = established.secret.lane_keys(suite, role, local_shard, remote_shard);
        Self {
            names: Names { role, local_index, remote_index, local_shard, remote_shard },
            address,
            since: now,
            rtt,
            space: PacketSpace::new(keys, KeyLimits::new(suite, limits), random),
            incarnation: [0; 16],
            last_received: now,
            is_candidate: false,
            rekey_at: Instant::from_nanos(u64::MAX),
            sent_tags: SentTags::default(),
            greeting_acknowledged: false,
            greeting_due: now,
            greeting_pause: rtt
                .map_or(GREETING_PAUSE_UNKNOWN, |rtt| (3 * rtt).max(GREETING_PAUSE_MIN)),
        }
    }

    /// Gives the keys a lifetime of `rekey_after` that `random` moves by up to 10 %. The smaller key's side asks for fresh keys in
    /// the earlier half of that time and the other in the later one, so that they seldom ask at once.
    pub(crate) fn limit_life(&mut self, limits: &Limits, ours_is_smaller: bool, random: u64) {
        let tenth = limits.rekey_after / 10;
        let moved = tenth.mul_f64(random as f64 / u64::MAX as f64);
        let tenths = if ours_is_smaller { 9 } else { 10 };
        self.rekey_at = self.since + tenths * tenth + moved;
    }

    /// What the peer puts into its datagrams.
    #[inline]
    pub(crate) fn local_index(&self) -> u32 {
        self.names.local_index
    }

    /// What we put into ours.
    #[inline]
    pub(crate) fn remote_index(&self) -> u32 {
        self.names.remote_index
    }

    /// The shard that shook hands with us.
    pub(crate) fn remote_shard(&self) -> u8 {
        self.names.remote_shard
    }

    /// Whether we began the dial.
    pub(crate) fn is_dialled(&self) -> bool {
        self.names.role == Role::Dialler
    }

    /// Whether the side with the smaller key began the dial.
    pub(crate) fn is_from_smaller(&self, ours_is_smaller: bool) -> bool {
        self.is_dialled() == ours_is_smaller
    }

    /// The header of its datagram with this number.
    #[inline]
    pub(crate) fn header(&self, packet_number: u64, ack_now: bool) -> LaneHeader {
        LaneHeader {
            key_phase: false,
            steering: self.names.remote_shard,
            association: self.names.remote_index,
            sender_shard: self.names.local_shard,
            ack_now,
            packet_number,
        }
    }

    /// Whether fresh keys are due: so much was sent or forged under these, or they were used for so long.
    #[inline]
    pub(crate) fn is_worn(&self, now: Instant, packets_per_key: u64) -> bool {
        self.rekey_at <= now
            || self.space.sent.next_number() >= packets_per_key
            || self.space.is_attacked()
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
