//! Owns the list of all limits, one row each: name, default, range, what happens at it, and the counter that shows it.
//! `docs/LIMITS.md` is this list; a test compares them.
//!
//! What always holds: a field of [`Limits`] without a row does not compile; a row's metric is a counter.

use std::time::Duration;

use super::Limits;
use crate::congestion::CongestionProfile;

/// One limit, as people read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitRow {
    /// The field of [`Limits`], or the constant.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What may be chosen; "fixed" for a constant.
    pub range: &'static str,
    /// What happens at it.
    pub at: &'static str,
    /// The [`Counters`](crate::Counters) entry that grows when it is met.
    pub metric: &'static str,
}

trait Shown {
    fn shown(&self) -> String;
}

impl Shown for Duration {
    fn shown(&self) -> String {
        if self.subsec_millis() > 0 {
            format!("{} ms", self.as_millis())
        } else {
            format!("{} s", self.as_secs())
        }
    }
}

impl Shown for CongestionProfile {
    fn shown(&self) -> String {
        match self {
            Self::Internet => "internet".to_owned(),
            Self::Lan => "lan".to_owned(),
        }
    }
}

macro_rules! shown_as_number {
    ($($number:ty)*) => { $(impl Shown for $number {
        fn shown(&self) -> String {
            let number = *self as u64;
            match number {
                n if n >= 1 << 20 && n.is_multiple_of(1 << 20) && n < 1 << 32 => format!("{} Mi", n >> 20),
                n if n >= 1 << 32 && n.is_power_of_two() => format!("2^{}", n.trailing_zeros()),
                n => n.to_string(),
            }
        }
    })* };
}

shown_as_number!(u16 u32 u64 usize);

macro_rules! table {
    (options { $($name:ident: $range:literal, $at:literal, $metric:ident;)* }
     fixed { $($path:path: $fixed_at:literal, $fixed_metric:ident;)* }) => {
        impl Limits {
            /// Every limit with its value, what happens at it and which counter shows it: options first, then constants.
            pub fn table(&self) -> Vec<LimitRow> {
                // Without `..`: a new field asks for its row.
                let Self { $($name),* } = self;
                vec![
                    $(LimitRow {
                        name: stringify!($name),
                        value: $name.shown(),
                        range: $range,
                        at: $at,
                        metric: stringify!($metric),
                    },)*
                    $(LimitRow {
                        name: stringify!($path).rsplit(' ').next().unwrap_or_default(),
                        value: $path.shown(),
                        range: "fixed",
                        at: $fixed_at,
                        metric: stringify!($fixed_metric),
                    },)*
                ]
            }
        }
    };
}

use super::{
    ALIASES_MAX, ASSOCIATIONS_KEPT_MAX, BEST_EFFORT_FRAGMENTED_MAX, BLOCK_CONTENT_BYTES_MAX,
    BLOCK_WINDOW, DORMANT_AFTER, GREETINGS_PENDING_MAX, HALF_OPEN_AGE_MAX, HALF_OPEN_SOURCES_MIN,
    HANDSHAKES_WAITING_MAX, HEARTBEAT_INTERVAL_MAX, HELLO_REPLIES_MAX, REFUSALS_MAX,
    REFUSALS_OVERDRAFT_MAX, REFUSED_CREDIT_BYTES, SENT_RECORDS_MAX, SEQUENCES_GONE_MAX,
    UNBOUND_CREDIT_BYTES,
};
use crate::replay::REPLAY_PACKETS_MAX;

table! {
    options {
        datagram_bytes: "1,200 to 9,000", "no longer datagram is tried", size_probes_sent;
        datagram_bytes_initial: "1,200 to datagram_bytes", "longer datagrams wait for a probe's answer", size_raised;
        message_bytes_max: "at most 64 Mi", "a longer message is not taken: too large", rejected_too_large;
        log_bytes_max: "at least 16 datagrams", "no message is taken until some are settled: full", rejected_full;
        queue_bytes_max: "any", "no message is taken until there is a session: full", rejected_full;
        peer_bytes_max: "at least 16 Mi and 5/4 of message_bytes_max", "blocks that would exceed it are dropped and come again; other excess ends the session", peers_over_memory;
        peers_max: "1 to 16 Mi", "a stranger that was silent for give_up is forgotten; if there is none, the new dialler is dropped", dropped_peers_full;
        half_open_max: "at least 1", "from half of it diallers prove their address; at it one older than a second makes room, else the new one is dropped", dropped_half_open_full;
        hellos_per_second: "at least 1", "diallers prove their address before any work is done for them", cookies_sent;
        requests_max: "any", "no request is taken until one ends: too many requests", rejected_requests;
        packets_per_key: "64 to 128 Mi", "fresh keys are shaken for", rekeys;
        packets_per_key_stop: "above packets_per_key, at most 256 Mi", "nothing is sent until fresh keys are there", rekeys;
        rekey_after: "at least 1 s", "fresh keys are shaken for", rekeys;
        forgeries_per_key: "at least 2", "at half of it fresh keys are shaken for; at it nothing is opened", dropped_key_worn;
        restarts_told_per_second: "any", "peers of an earlier start are not told", restarts_told;
        dial_timeout: "above 0", "the dial has failed", dials_failed;
        congestion: "internet, or lan on a network of one's own", "datagrams wait for the window", packets_lost;
        down_after: "above 0, at most give_up", "the peer is down", peers_down;
        give_up: "at least down_after", "the session ends, its messages as peer lost", sessions_ended;
    }
    fixed {
        ALIASES_MAX: "flows to one peer: too many; a peer that names more ends its session", violations;
        UNBOUND_CREDIT_BYTES: "flows without a grant share it: full", rejected_full;
        BLOCK_WINDOW: "a block beyond it is dropped and comes again", dropped_block_window;
        REFUSALS_MAX: "blocks are dropped until refusals are acknowledged, and messages passed on to other shards answered", dropped_refusal_limit;
        REFUSALS_OVERDRAFT_MAX: "a peer that makes so many more before any can be told ends its session", peers_over_memory;
        BLOCK_CONTENT_BYTES_MAX: "a longer block, in parts or not, ends the session", violations;
        SEQUENCES_GONE_MAX: "of sequences given up no more are noted until those before them have come", dropped_order_limit;
        REPLAY_PACKETS_MAX: "replay windows grow no further; what comes later than they span is dropped", dropped_too_old;
        SENT_RECORDS_MAX: "a peer that acknowledges nothing ends its session", peers_over_memory;
        HEARTBEAT_INTERVAL_MAX: "a silent watched peer is asked for a sign of life", heartbeats_sent;
        DORMANT_AFTER: "a session in which nothing happens keeps little more than its keys; what comes later than this is dropped", sessions_rested;
        REFUSED_CREDIT_BYTES: "a flow that is refused has no more outstanding: full", rejected_full;
        BEST_EFFORT_FRAGMENTED_MAX: "the oldest of a lane's best-effort messages in fragments is forgotten", best_effort_fragments_dropped;
        HANDSHAKES_WAITING_MAX: "an answer to a handshake is not sent, and comes when it is asked for again", handshakes_unsent;
        HALF_OPEN_AGE_MAX: "a handshake that was not finished is forgotten", half_open_expired;
        HALF_OPEN_SOURCES_MIN: "under load one address holds one in so many half-open handshakes; further hellos are dropped", dropped_half_open_source;
        HELLO_REPLIES_MAX: "the same hello is answered no more", dropped_handshake_repeated;
        GREETINGS_PENDING_MAX: "of a peer's handshakes that wait for its greeting the oldest is forgotten", associations_erased;
        ASSOCIATIONS_KEPT_MAX: "of a peer's older keys those that were quiet for longest are erased", associations_erased;
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the page lists what the code has, and nothing else; each metric exists.
    use super::*;
    use crate::Counters;

    #[test]
    fn the_page_is_this_table() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/LIMITS.md"));
        let page = page.expect("docs/LIMITS.md is part of the repository");
        let rows = Limits::default().table();
        let line = |row: &LimitRow| {
            format!(
                "| {} | {} | {} | {} | {} |",
                row.name, row.value, row.range, row.at, row.metric
            )
        };
        let lines: Vec<_> = rows.iter().map(line).collect();
        println!("{}", lines.join("\n"));
        let listed: Vec<_> = page.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
        assert_eq!(listed, lines);
    }

    #[test]
    fn each_metric_is_a_counter() {
        let counters = Counters::default();
        for row in Limits::default().table() {
            assert!(counters.iter().any(|(name, _)| name == row.metric), "{row:?}");
        }
    }
}
