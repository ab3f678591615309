//! Owns every number that bounds the protocol: wire constants and the [`Limits`] that a node may set.
//!
//! What always holds: relations between constants are asserted at compile time, and [`Limits::check`] is the only way a
//! [`Limits`] value reaches an endpoint.

mod table;

use std::fmt;
use std::time::Duration;

use crate::congestion::CongestionProfile;

pub use table::LimitRow;

/// Bytes of the header in front of every lane datagram; authenticated, not encrypted.
pub const HEADER_BYTES: usize = 16;
/// Bytes of the AEAD tag at the end of every sealed datagram.
pub const TAG_BYTES: usize = 16;
/// Shortest limit that a path may have: handshake datagrams are this long (RFC 9000 section 14 asks the same of every path).
pub const DATAGRAM_BYTES_FLOOR: u16 = 1_200;
/// Largest UDP payload over IPv4: 65,535 less 20 B IP and 8 B UDP header. Bounds one GSO run as well.
pub const UDP_PAYLOAD_BYTES_MAX: usize = 65_507;
/// Segments that the kernel takes in one GSO send (`UDP_MAX_SEGMENTS` of `net/ipv4/udp.c` before 6.9).
pub const GSO_SEGMENTS_MAX: usize = 64;
/// Blocks above the receiver's settled floor that it accepts; the sender stays below the floor it was told.
pub const BLOCK_WINDOW: u64 = 16_384;
/// Flow aliases that one lane may bind in a session.
pub const ALIASES_MAX: usize = 4_096;
/// Charge that all flows without a grant of their own may have outstanding together in one session.
pub const UNBOUND_CREDIT_BYTES: u64 = 64 * 1024;
/// Grant of a flow that refuses everything; keeps unacknowledged refusals few.
pub const REFUSED_CREDIT_BYTES: u64 = 4 * 1024;
/// Added to a message's length when it is charged to credit, so that credit bounds messages as well as bytes.
pub const MESSAGE_CHARGE_BYTES: u64 = 64;
/// Bytes of a block that heads may take before a body's fragment, for the estimate of how many blocks a message needs.
pub const HEAD_SLACK: usize = 320;
/// Longest flow name.
pub const FLOW_NAME_BYTES_MAX: usize = 255;
/// Longest node name in a greeting.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// Longest role in a greeting.
pub const ROLE_BYTES_MAX: usize = 64;
/// Channels of one node, the default one included: a hello is tried with each, about a microsecond apiece.
pub const CHANNELS_MAX: usize = 64;
/// Bodies longer than this are taken by ownership and cut when datagrams are built; shorter ones are copied into the log.
pub const OWNED_BODY_BYTES_MIN: usize = 16 * 1024;
/// Largest message that any configuration may allow.
pub const MESSAGE_BYTES_CEILING: u64 = 64 * 1024 * 1024;
/// Longest that a receiver waits before it acknowledges (docs/PROTOCOL.md, "Acknowledging").
pub const ACK_DELAY_MAX: Duration = Duration::from_millis(1);
/// Datagrams after which an acknowledgement is due at the end of the turn.
pub const ACK_DATAGRAMS_MAX: u32 = 32;
/// Ceiling of the probe timer's exponential back-off, so that traffic resumes soon after a path returns.
pub const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// A watched peer that says nothing is asked for a sign of life at least this often. Three fit into `down_after`'s default,
/// and a peer that comes back is found within one.
pub const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// A heartbeat comes earlier by up to this, at random, so that those of many peers do not fall together.
pub const HEARTBEAT_JITTER_MAX: Duration = Duration::from_millis(250);
/// A session in which nothing was sent or received for so long is dormant. Waking takes microseconds, so that even a peer that
/// speaks just as often costs next to nothing by it; and no path keeps a datagram for so long.
pub const DORMANT_AFTER: Duration = Duration::from_secs(10);
/// Acknowledgement ranges kept and sent per packet number space.
pub const ACK_RANGES_MAX: usize = 32;

/// Handshake datagrams that wait to leave as answers to others; the bytes of about 1,000 REPLYs, 1.4 MB.
pub const HANDSHAKES_WAITING_MAX: usize = 1_024;
/// A half-open answer is forgotten after this.
pub const HALF_OPEN_AGE_MAX: Duration = Duration::from_secs(10);
/// Under load one proven address holds at most one in this many places of the table of half-open answers.
pub const HALF_OPEN_SOURCES_MIN: usize = 8;
/// Times that one hello is answered. A dialler repeats it 8 times in the default dial timeout, and links may double it.
pub const HELLO_REPLIES_MAX: u32 = 32;
/// Associations of one peer that may wait for their greeting at once; more push out the oldest.
pub const GREETINGS_PENDING_MAX: usize = 4;
/// Associations kept beside the one that is sent on. More overlap only when dials pile up; the one that was quiet for longest
/// then goes early.
pub const ASSOCIATIONS_KEPT_MAX: usize = 8;
/// Best-effort messages assembled from fragments at once per lane; more push out the oldest.
pub const BEST_EFFORT_FRAGMENTED_MAX: usize = 16;

/// Refusals remembered per session for a sender that does not acknowledge what told them, messages whose answer was put off
/// counted as such; 1 MiB.
pub const REFUSALS_MAX: usize = 65_536;
/// Refusals remembered beyond that of blocks that had to be taken before any could be told. A sender that obeys the window of
/// blocks comes nowhere near it; one that passes it ends its session.
pub const REFUSALS_OVERDRAFT_MAX: usize = REFUSALS_MAX;
/// Longest datagram that may be configured: an Ethernet jumbo frame.
pub const DATAGRAM_BYTES_CEILING: u16 = 9_000;
/// Longest content of a block, bytes: what fits the longest datagram. One that comes in parts is no longer.
pub const BLOCK_CONTENT_BYTES_MAX: usize = payload_bytes(DATAGRAM_BYTES_CEILING);
/// Shortest message in a block: flags, alias and length of one byte each.
const MESSAGE_BYTES_MIN: usize = 3;
/// Refusals that one block may cause, at most: the shortest messages in the longest block.
pub const REFUSALS_PER_BLOCK_MAX: usize = BLOCK_CONTENT_BYTES_MAX / MESSAGE_BYTES_MIN;
/// Datagrams with refusals remembered per lane until one is acknowledged; of more, those furthest apart.
pub const REFUSALS_TOLD_MAX: usize = 64;
/// Bytes of incoming flows per session: all aliases, each with the longest name and an order.
pub const FLOWS_BYTES_MAX: usize = 3 << 20;
/// Records of datagrams sent and not acknowledged, beyond what the send log explains; about 5 MiB.
pub const SENT_RECORDS_MAX: usize = 65_536;
/// Bytes beyond the longest messages for the table of messages in fragments.
pub const FRAGMENTS_SLACK_BYTES: usize = 64 << 10;
/// What a session with its keys and windows comes to, the longest windows under all keys that are kept.
pub const KEYS_BYTES_MAX: usize = 1 << 20;
/// Part of `peer_bytes_max` that is not for messages in fragments: flows, keys and windows, records of what was sent (6 MiB),
/// refusals (3 MiB), sequences given up (3 MiB).
pub const PEER_FIXED_BYTES: usize = FLOWS_BYTES_MAX + KEYS_BYTES_MAX + (12 << 20);
/// Sequences given up ahead of those awaited, remembered per session; 160 B each.
pub const SEQUENCES_GONE_MAX: usize = 16_384;

/// Latest point at which fresh keys are asked for.
pub const PACKETS_PER_KEY_CEILING: u64 = 1 << 27;
/// Most packets that may be sent under one key (RFC 9001 appendix B.1).
pub const PACKETS_PER_KEY_STOP: u64 = 1 << 28;

const _: () = assert!(PACKETS_PER_KEY_CEILING < PACKETS_PER_KEY_STOP);
const _: () = assert!(UNBOUND_CREDIT_BYTES >= MESSAGE_CHARGE_BYTES);
const _: () = assert!(BLOCK_WINDOW.is_power_of_two());
const _: () =
    assert!(PEER_FIXED_BYTES == 16 << 20, "as the documentation of `peer_bytes_max` says");

/// What an endpoint allows. Every field has a default and is checked once, by [`Limits::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest datagram ever tried, bytes, header and tag included; 1,200 to 9,000. Default 1,452 (Ethernet less IPv6 and UDP).
    /// What a path carries is found out by probes.
    pub datagram_bytes: u16,
    /// Longest datagram of a path of which nothing is known yet; 1,200 to `datagram_bytes`. Default 1,200: the first probe, of
    /// `datagram_bytes`, is answered within a round trip, and until then nothing is lost on a path that carries less.
    pub datagram_bytes_initial: u16,
    /// Longest message sent or accepted, bytes. Default and ceiling 64 MiB.
    pub message_bytes_max: u64,
    /// Unacknowledged bytes kept per lane, at least 16 datagrams. Default 1 MiB.
    pub log_bytes_max: usize,
    /// Bytes that wait per peer while no session exists. Default 1 MiB.
    pub queue_bytes_max: usize,
    /// Memory that one peer may make this node hold, bytes: messages in fragments, flows with their names, refusals, records of
    /// unacknowledged datagrams, keys and windows. At least 16 MiB and five quarters of the longest message. Default 336 MiB: four
    /// acknowledged messages of 64 MiB and a best-effort one in fragments, and 16 MiB for the rest. What an application's queues
    /// hold is bounded by their own capacity.
    pub peer_bytes_max: usize,
    /// Peers known at once. Default 65,536.
    pub peers_max: usize,
    /// Handshakes begun by others and not finished, some 6 KiB each; once half of them are there, addresses must be proven.
    /// Default 256.
    pub half_open_max: usize,
    /// Hellos answered in a second without proof of their address; each costs public-key work, about 0.2 ms. Default 100.
    pub hellos_per_second: u32,
    /// Requests of ours outstanding over all peers. Default 65,536.
    pub requests_max: usize,
    /// Packets sent under one set of keys before a fresh handshake replaces them, 64 to 2^27 (the default).
    pub packets_per_key: u64,
    /// Packets under one key at which sending stops until fresh keys are there; above `packets_per_key`. Default 2^28, what
    /// RFC 9001 appendix B.1 allows AES-GCM for packets of at most 2 KiB.
    pub packets_per_key_stop: u64,
    /// Age at which keys are replaced by a fresh handshake if they are in use then, moved by up to 10 % at random; at least
    /// 1 s. Default 120 s.
    pub rekey_after: Duration,
    /// Datagrams that fail to open under one key before nothing more is opened with it; at half of it fresh keys are asked
    /// for, at most once a second. At least 2; default 2^52. The AEAD's own limit (RFC 9001 section 6.6: AES-GCM 2^52,
    /// ChaCha20-Poly1305 2^36) holds in any case.
    pub forgeries_per_key: u64,
    /// Peers of an earlier start of this node that are told a second that they must dial again. Default 1,000.
    pub restarts_told_per_second: u32,
    /// How long one dial lasts before [`Event::DialFailed`](crate::Event::DialFailed). Default 5 s.
    pub dial_timeout: Duration,
    /// What the network is taken for. Default: [`CongestionProfile::Internet`]; anything else is for your own network only.
    pub congestion: CongestionProfile,
    /// Silence of a peer that owes us an answer, after which it is reported down. Default 3 s.
    pub down_after: Duration,
    /// Silence after which its unsettled messages end as *peer lost*. Default 120 s.
    pub give_up: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            datagram_bytes: 1_452,
            datagram_bytes_initial: DATAGRAM_BYTES_FLOOR,
            message_bytes_max: MESSAGE_BYTES_CEILING,
            log_bytes_max: 1 << 20,
            queue_bytes_max: 1 << 20,
            peer_bytes_max: 336 << 20,
            peers_max: 65_536,
            half_open_max: 256,
            hellos_per_second: 100,
            requests_max: 65_536,
            packets_per_key: PACKETS_PER_KEY_CEILING,
            packets_per_key_stop: PACKETS_PER_KEY_STOP,
            rekey_after: Duration::from_mins(2),
            forgeries_per_key: 1 << 52,
            restarts_told_per_second: 1_000,
            dial_timeout: Duration::from_secs(5),
            congestion: CongestionProfile::Internet,
            down_after: Duration::from_secs(3),
            give_up: Duration::from_mins(2),
        }
    }
}

impl Limits {
    /// Refuses values that the protocol cannot keep.
    ///
    /// # Errors
    /// Names the first field out of range, its value and what is allowed.
    pub fn check(&self) -> Result<(), LimitError> {
        let fail = |field, value: u64, allowed| Err(LimitError { field, value, allowed });
        if !(DATAGRAM_BYTES_FLOOR..=DATAGRAM_BYTES_CEILING).contains(&self.datagram_bytes) {
            return fail("datagram_bytes", self.datagram_bytes.into(), "1,200 to 9,000");
        }
        if !(DATAGRAM_BYTES_FLOOR..=self.datagram_bytes).contains(&self.datagram_bytes_initial) {
            let value = self.datagram_bytes_initial.into();
            return fail("datagram_bytes_initial", value, "1,200 to datagram_bytes");
        }
        if self.message_bytes_max > MESSAGE_BYTES_CEILING {
            return fail("message_bytes_max", self.message_bytes_max, "at most 67,108,864");
        }
        if self.log_bytes_max < 16 * usize::from(self.datagram_bytes) {
            return fail("log_bytes_max", self.log_bytes_max as u64, "at least 16 datagrams");
        }
        let needed =
            PEER_FIXED_BYTES + (self.message_bytes_max.max(1 << 20) as usize).div_ceil(4) * 5;
        if self.peer_bytes_max < needed {
            let allowed = "at least 16 MiB and 5/4 of the longest message";
            return fail("peer_bytes_max", self.peer_bytes_max as u64, allowed);
        }
        if self.peers_max == 0 || self.peers_max > 1 << 24 {
            return fail("peers_max", self.peers_max as u64, "1 to 16,777,216");
        }
        if self.half_open_max == 0 {
            return fail("half_open_max", 0, "at least 1");
        }
        if self.hellos_per_second == 0 {
            return fail("hellos_per_second", 0, "at least 1");
        }
        if !(64..=PACKETS_PER_KEY_CEILING).contains(&self.packets_per_key) {
            return fail("packets_per_key", self.packets_per_key, "64 to 134,217,728");
        }
        if !(self.packets_per_key + 1..=PACKETS_PER_KEY_STOP).contains(&self.packets_per_key_stop) {
            let allowed = "above packets_per_key, at most 268,435,456";
            return fail("packets_per_key_stop", self.packets_per_key_stop, allowed);
        }
        if self.rekey_after < Duration::from_secs(1) {
            return fail("rekey_after (ms)", self.rekey_after.as_millis() as u64, "at least 1 s");
        }
        if self.forgeries_per_key < 2 {
            return fail("forgeries_per_key", self.forgeries_per_key, "at least 2");
        }
        if self.dial_timeout.is_zero() {
            return fail("dial_timeout", 0, "above zero");
        }
        if self.down_after.is_zero() || self.down_after > self.give_up {
            let value = self.down_after.as_millis() as u64;
            return fail("down_after (ms)", value, "above zero and at most give_up");
        }
        Ok(())
    }

    /// Bytes that a block of the longest datagram fills.
    pub(crate) fn payload_bytes(&self) -> usize {
        block_bytes(self.datagram_bytes)
    }
}

/// Bytes of a datagram of `datagram_bytes` between header and tag.
pub(crate) const fn payload_bytes(datagram_bytes: u16) -> usize {
    datagram_bytes as usize - HEADER_BYTES - TAG_BYTES
}

/// Bytes that a block fills between header and tag where `datagram_bytes` may leave: whole blocks of the AEAD's cipher. A part of
/// one at the end costs more time than its bytes are worth, and in a run all datagrams begin where the processor reads best.
pub(crate) const fn block_bytes(datagram_bytes: u16) -> usize {
    payload_bytes(datagram_bytes) / CIPHER_BLOCK_BYTES * CIPHER_BLOCK_BYTES
}

/// The longest datagram sent where `datagram_bytes` may leave: full to its last byte.
pub(crate) const fn full_bytes(datagram_bytes: u16) -> u16 {
    (HEADER_BYTES + block_bytes(datagram_bytes) + TAG_BYTES) as u16
}

/// Bytes of a block of AES (FIPS 197), in which its AEAD encrypts and authenticates (NIST SP 800-38D).
const CIPHER_BLOCK_BYTES: usize = 16;

/// A [`Limits`] field out of range: the caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// What would be allowed.
    pub allowed: &'static str,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit {} is {}: allowed is {}", self.field, self.value, self.allowed)
    }
}

impl std::error::Error for LimitError {}

#[cfg(test)]
mod tests {
    //! Goal: defaults pass, each bound is enforced and named.
    use super::*;

    #[test]
    fn defaults_pass_and_bounds_are_named() {
        assert_eq!(Limits::default().check(), Ok(()));
        let broken = Limits { datagram_bytes: 1_199, ..Limits::default() };
        assert_eq!(broken.check().unwrap_err().field, "datagram_bytes");
        let broken = Limits { datagram_bytes_initial: 1_453, ..Limits::default() };
        assert_eq!(broken.check().unwrap_err().field, "datagram_bytes_initial");
        let broken = Limits { message_bytes_max: MESSAGE_BYTES_CEILING + 1, ..Limits::default() };
        assert!(broken.check().unwrap_err().to_string().contains("67108865"));
        let broken = Limits { give_up: Duration::from_secs(1), ..Limits::default() };
        assert!(broken.check().is_err());
    }
}
