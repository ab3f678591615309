//! Limits of the joint: every queue and loop of this crate has one here.
//!
//! What is configured per node lies in the builder; these are the fixed ones.

use std::time::Duration;

/// Commands from other threads that wait for one shard, at most. A command is a boxed closure of
/// about 100 bytes; a full queue makes the caller's future wait.
pub(crate) const COMMANDS_MAX: usize = 1_024;

/// Commands run per turn, at most, so that outside threads cannot starve the socket.
pub(crate) const COMMANDS_PER_TURN_MAX: usize = 256;

/// Receive calls per turn, at most. One call brings up to 64 KiB of datagrams, so the endpoint
/// sends (and acknowledges) at least once per MiB received.
pub(crate) const RECEIVES_PER_TURN_MAX: usize = 16;

/// Hellos taken at a time, at most: some 25 us in which nothing else moves.
pub(crate) const HELLOS_PER_TURN_MAX: usize = 8;

/// Hellos that came among other datagrams and wait for their turn, at most. One honest dialler sends one at a time.
pub(crate) const HELLOS_QUEUED_MAX: usize = 4;

/// How much longer than hellos took no more of them are taken on a shard that has other work, so that they get a sixteenth of
/// its time. One that has none goes on with them at once.
pub(crate) const HELLOS_REST: u32 = 15;

/// How often a shard that never sleeps looks whether hellos have come. A look is a system call.
pub(crate) const HELLOS_LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Receive buffer for hellos: some 400 of them, 10 ms of a flood.
pub(crate) const HELLOS_BUFFER_BYTES: usize = 512 << 10;

/// A batch shorter than this has most likely emptied the socket; asking would cost a system call in front of the answer.
pub(crate) const FULL_BATCH_BYTES_MIN: usize = 16 * 1024;

/// Datagrams of a batch from which on the answers to its first half leave before its second half is handled. Two of each half share
/// a send call; with fewer the calls cost more than is won by both sides working at once.
pub(crate) const ANSWERED_APART_MIN: usize = 4;

/// Send calls per turn, at most. One call carries up to 64 KiB.
pub(crate) const SENDS_PER_TURN_MAX: usize = 32;

/// Bytes that wait in the outbox of a shard, at most: what inline handlers sent and replied during
/// one receive call, and what found no room and is kept. One message is always taken.
pub(crate) const OUTBOX_BYTES_MAX: usize = 32 << 20;

/// Bytes of the outbox that wait for one destination, at most, so that a destination that does not
/// read cannot fill it for the others. Twice the credit of a handler: one that sends back what it
/// gets fits, as its senders have no credit for more.
pub(crate) const OUTBOX_STALLED_BYTES_MAX: usize = 8 << 20;

/// Bytes that have left the front of what waits for one destination before the rest moves up.
pub(crate) const STALLED_GAP_BYTES_MAX: usize = 256 << 10;

/// What each message is charged beyond its body, in credit and in the outbox, bytes.
pub(crate) const MESSAGE_CHARGE_BYTES: u64 = 64;

/// A request's body up to this length is copied into memory that goes round.
pub(crate) const SPARE_BODY_BYTES_MAX: usize = 1 << 10;

/// Buffers for such bodies kept while no request needs them, at most: 256 KiB a shard.
pub(crate) const SPARE_BODIES_MAX: usize = 256;

/// Waits of futures for which memory is kept once none is open, at most: 84 KiB a shard.
pub(crate) const SPARE_WAITS_MAX: usize = 1_024;

/// Bodies of replies up to this length lie together in one allocation.
pub(crate) const REPLY_TOGETHER_BYTES_MAX: usize = 256;

/// Length of such an allocation, which lives as long as any reply in it: what somebody who keeps one short reply may keep beside it,
/// and less than two datagrams.
pub(crate) const REPLIES_TOGETHER_BYTES: usize = 2 << 10;

/// Bodies up to this length travel between shards in memory that goes round with the batches: 4 MiB a pair of shards at most.
pub(crate) const HANDED_SHORT_BYTES_MAX: usize = 4 << 10;

/// Items of other shards taken per turn, at most: as many as the datagrams of a turn bring.
pub(crate) const HANDED_PER_TURN_MAX: usize = 1_024;

/// Flows of this node, by name, that one of its shards can send to or pass messages on to, in its life: a destination and a
/// peer's binding hold the number of one for as long as they like, so none is used again.
pub(crate) const LOCAL_FLOWS_MAX: usize = 65_536;

/// Requests of peers that a shard passed on and that were not answered, at most. An asker that gave up is not told of here, so
/// the oldest gives way. 1.5 MB.
pub(crate) const FORWARDED_REQUESTS_MAX: usize = 65_536;

/// Deadlines of requests that have ended which a shard keeps before it looks which of them matter. 24 KiB.
pub(crate) const DEADLINES_SPARE_MAX: usize = 1_024;

/// Bodies from here on are kept as they were assembled; shorter ones are copied into the batch.
pub(crate) const OWNED_BODY_BYTES_MIN: usize = 16 << 10;

/// Credit of a queue to one sender, and what it holds unless its total is set, at most.
pub(crate) const QUEUE_BYTES_MAX: u64 = 1 << 30;

/// What a queue holds at most, whatever its capacity: offsets into a batch are 31 bits.
pub(crate) const QUEUE_HELD_BYTES_MAX: u64 = 1 << 31;

/// Cleared batches a queue keeps for reuse: one being filled, one being read, one to spare.
pub(crate) const QUEUE_SPARE_BATCHES_MAX: usize = 2;

/// Credit of an inline handler to one sender, at least. A handler consumes at once, so this bounds
/// what is in flight: 4 MiB is 10 Gb/s over 3 ms.
pub(crate) const HANDLER_WINDOW_BYTES_MIN: u64 = 4 << 20;

/// How long a stopping shard goes on trying to hand its last datagrams to a full socket.
pub(crate) const FAREWELL_DURATION_MAX: Duration = Duration::from_millis(20);

/// How often the tasks of a stopping shard get a turn, to see that it stops and to end.
pub(crate) const FAREWELL_YIELDS: usize = 16;

/// How long a shard sleeps before it offers a run again that the socket had no room for. The socket's
/// buffer drains at line rate: 50 us are 60 KiB at 10 Gb/s.
pub(crate) const SEND_RETRY_INTERVAL: Duration = Duration::from_micros(50);

/// How often the drop counters are looked at for the first drop of a kind, idle peers swept, and sending lanes counted.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Changes of a watched peer kept for one reader, at most; older ones are forgotten and counted.
pub(crate) const PRESENCE_EVENTS_MAX: usize = 16;

/// Changes of a node that its shards follow one by one, at most: 600 KB. A shard that falls behind by more looks at everything.
pub(crate) const CHANGES_MAX: usize = 8_192;

/// Changes that a shard takes per turn, at most: some 50 us of looking up keys.
pub(crate) const CHANGES_PER_TURN_MAX: usize = 256;

/// How long a start goes on trying while its port is in use. The ring of a process that was killed goes when the kernel gets
/// round to it, some milliseconds later; 50 ms is how long one attempt of its takes at most.
pub(crate) const BIND_PATIENCE: Duration = Duration::from_millis(300);

/// Datagrams of one batch from shard to shard, and batches of one pair of shards: 1,024 datagrams, 1.5 MB, four turns' worth.
pub(crate) const STRAYS_PER_BATCH_MAX: usize = 64;
pub(crate) const STRAY_BATCHES_MAX: usize = 16;

/// Datagrams that a shard takes from others per turn, at most: some 200 us of opening them.
pub(crate) const STRAYS_PER_TURN_MAX: usize = 256;

/// How often a drain looks whether everything has been settled.
pub(crate) const DRAIN_CHECK_INTERVAL: Duration = Duration::from_micros(200);

const _: () = assert!(OUTBOX_STALLED_BYTES_MAX < OUTBOX_BYTES_MAX);
const _: () = assert!(OUTBOX_STALLED_BYTES_MAX as u64 >= 2 * HANDLER_WINDOW_BYTES_MIN);
const _: () = assert!(QUEUE_BYTES_MAX < QUEUE_HELD_BYTES_MAX);
