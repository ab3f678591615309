//! Owns the names of everything an endpoint counts: traffic, and one counter per way a datagram or message is dropped.
//!
//! What always holds: counters only grow, and every early return of the receive path increments exactly one `dropped_*`.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one endpoint since it began. A copy is a snapshot.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Every counter with its name, in the order of declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// Adds another endpoint's counters to these.
            pub fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }
        }
    };
}

counters! {
    /// Datagrams handed out by `poll_transmit`.
    datagrams_sent,
    /// Sends (GSO runs or single datagrams) handed out by `poll_transmit`.
    runs_sent,
    /// Bytes handed out by `poll_transmit`.
    bytes_sent,
    /// Datagrams given to `handle_datagram`.
    datagrams_received,
    /// Their bytes.
    bytes_received,
    /// Datagrams received that were taken; all others are counted as dropped, once each.
    datagrams_taken,
    /// Acknowledged messages taken by `send`, `request` and `reply`.
    acknowledged_offered,
    /// Messages and requests not taken: log, credit or queue is full.
    rejected_full,
    /// Messages and requests not taken: longer than sender or receiver allow.
    rejected_too_large,
    /// Requests not taken: as many wait as `requests_max` allows.
    rejected_requests,
    /// Acknowledged messages given to the application and accepted by it.
    acknowledged_accepted,
    /// Acknowledged messages refused, here, to their sender.
    acknowledged_refused,
    /// Unsent values of latest-value flows that a newer one replaced.
    values_superseded,
    /// Values refused here because a newer one had been taken.
    values_refused_old,
    /// Ordered messages that came before their turn and were held.
    ordered_held,
    /// SKIP frames taken.
    skips_received,
    /// Flows that a greeting showed to be on another shard of the peer than was thought.
    flows_moved,
    /// Best-effort messages taken by `send`.
    best_effort_offered,
    /// Best-effort messages put into a datagram.
    best_effort_sent,
    /// Best-effort messages abandoned here: their session ended, or the path's limit fell, before they left.
    best_effort_dropped_local,
    /// Best-effort messages given to the application and accepted by it.
    best_effort_accepted,
    /// Best-effort messages refused here: no such flow, denied, too large or its queue is full.
    best_effort_refused,
    /// Best-effort fragments forgotten because newer ones needed their place.
    best_effort_fragments_dropped,
    /// Blocks sent again after a loss or a probe.
    blocks_resent,
    /// Parts sent of blocks that are longer than the path's limit now.
    parts_sent,
    /// Parts received of blocks that had not arrived.
    parts_received,
    /// Probes of a longer datagram sent.
    size_probes_sent,
    /// Probes of a longer datagram that were lost.
    size_probes_lost,
    /// How often a path turned out to carry longer datagrams.
    size_raised,
    /// How often a path carried less than before: black holes.
    size_fell,
    /// Other addresses of peers that were asked to prove themselves.
    paths_challenged,
    /// Addresses that did, and became the peer's.
    paths_validated,
    /// Times that a peer was still reached at the address that it had before another appeared, and stayed there.
    paths_kept,
    /// Addresses that did not in time, or were given up for a newer one.
    path_challenges_failed,
    /// Other addresses not asked: another was a moment ago, or the peer came from there.
    path_prospects_refused,
    /// Challenges of peers not answered because a newer one came in the same turn.
    path_answers_replaced,
    /// Answers to no challenge of ours, or from elsewhere than where it was sent.
    path_responses_ignored,
    /// Packets declared lost.
    packets_lost,
    /// Losses that a later acknowledgement proved spurious.
    packets_lost_spuriously,
    /// Times that this endpoint was run more than 10 ms after its timer was due: the process was stopped, or its machine slept.
    absences,
    /// Probe timeouts.
    probe_timeouts,
    /// Heartbeats: datagrams that ask a silent watched peer for a sign of life.
    heartbeats_sent,
    /// Times that a peer was found up, and told so.
    peers_up,
    /// Times that a peer was found down, and told so.
    peers_down,
    /// Handshakes finished.
    associations_established,
    /// Keys replaced by newer ones within their session.
    rekeys,
    /// Keys erased though their session did not end: newer ones were in use both ways, or no greeting came under them.
    associations_erased,
    /// Peers told that we know nothing of the keys they use, having restarted.
    restarts_told,
    /// Peers that told us so, and were dialled for it.
    restarts_heard,
    /// Sessions begun.
    sessions_begun,
    /// Sessions ended.
    sessions_ended,
    /// Times that a session in which nothing happened for 10 s gave back what only traffic needs.
    sessions_rested,
    /// Dials begun.
    dials_begun,
    /// Dials that failed.
    dials_failed,
    /// Hellos that public-key work was done for.
    hellos_answered,
    /// Handshake datagrams of ours that found too many others waiting to leave; they are sent when they are asked for again.
    handshakes_unsent,
    /// Half-open handshakes that were never finished.
    half_open_expired,
    /// Half-open handshakes that made room for a newer one in a full table.
    half_open_evicted,
    /// Cookies asked of diallers under load.
    cookies_sent,
    /// Replies that came after their request had ended.
    replies_late,
    /// Answers to messages put off ([`Disposition::Deferred`](crate::Disposition::Deferred)) whose session was over.
    settled_late,
    /// Dropped datagrams: of no known kind, or shorter than any.
    dropped_malformed,
    /// Dropped datagrams: for an association unknown here.
    dropped_unknown_association,
    /// Dropped datagrams: for another shard.
    dropped_misdelivered,
    /// Dropped datagrams: packet number seen before.
    dropped_replayed,
    /// Dropped datagrams: packet number below the replay window.
    dropped_too_old,
    /// Dropped datagrams: the AEAD tag does not verify.
    dropped_forged,
    /// Dropped datagrams: too many forgeries were tried on the key for it to be used any longer.
    dropped_key_worn,
    /// Dropped notices of a restart: not about a datagram that we sent just now, or too soon after another.
    dropped_restarted,
    /// Dropped datagrams: lane data before the peer's greeting or Finished.
    dropped_before_greeting,
    /// Dropped datagrams: they came after one that broke the protocol, before the CLOSE for that left.
    dropped_after_violation,
    /// Dropped datagrams: block beyond the window.
    dropped_block_window,
    /// Blocks received again and ignored.
    dropped_duplicate_block,
    /// Dropped datagrams: fragments that would exceed the assembly limit.
    dropped_assembly_limit,
    /// Dropped datagrams: a block that may be refused, while as many refusals as allowed wait to be acknowledged.
    dropped_refusal_limit,
    /// Sessions closed because the peer made this node hold more than `peer_bytes_max` allows.
    peers_over_memory,
    /// Dropped datagrams: more sequences given up ahead of their turn than are remembered.
    dropped_order_limit,
    /// Dropped handshake datagrams: not sealed for this node, corrupted, or of no dial of ours.
    dropped_handshake,
    /// Dropped handshake datagrams: this endpoint has ended all sessions for good.
    dropped_closed,
    /// Dropped hellos: the table of half-open handshakes is full.
    dropped_half_open_full,
    /// Dropped hellos: their proven address holds its share of the half-open handshakes.
    dropped_half_open_source,
    /// Dropped hellos: cookie wrong or too old while under load.
    dropped_cookie,
    /// Dropped handshake datagrams: repeated more often than they are answered, or after the end.
    dropped_handshake_repeated,
    /// Dropped FINISH datagrams: not from where their hello came from.
    dropped_finish_address,
    /// Dropped handshakes: the proven key is not admitted.
    dropped_not_admitted,
    /// Lanes forgotten: of peers that the application forgot, and of strangers to make room for others.
    peers_forgotten,
    /// Dropped handshakes: the proven key waits for an operator.
    dropped_pending,
    /// Dropped handshakes: the proven key, or what came with it, is rejected.
    dropped_rejected,
    /// Dropped handshakes: no room for another peer.
    dropped_peers_full,
    /// Sessions closed because the peer broke the protocol.
    violations,
}
