//! Owns the short way of requests and replies into a send log: whole, into a block that is there and has room.
//!
//! What always holds: what it writes is what [`SendLog::push_with`] and [`SendLog::push`] would have written; where it cannot,
//! nothing has changed.

use super::awaited::Awaited;
use super::draft::{Link, Payload, prefix_bytes};
use super::group::{RUNS_MAX, Terms};
use super::terms::SKIPS_MAX;
use super::{NORMAL, SendLog, Waiter};
use crate::message::{FORM_WHOLE, HEAD_PLACE_BYTES, Head, REPLY, REQUEST};
use crate::slots::Slot;
use crate::time::Instant;

impl SendLog {
    /// [`SendLog::push_with`] of a request of normal priority that costs `charge` and is sent before `until`, to a flow that needs no
    /// name, if the block waiting last is one for such; `false`: nothing changed.
    #[inline]
    pub(crate) fn push_request(
        &mut self,
        alias: u32,
        number: u64,
        until: Instant,
        charge: u64,
        body: &[u8],
    ) -> bool {
        let limit = self.block_bytes - prefix_bytes(self.next_number(), Link::None);
        let Some(draft) = self.classes[NORMAL].drafts.back_mut() else { return false };
        if !draft.is_shared() {
            return false;
        }
        let Some(group) = self.groups.get_mut(&draft.group) else { return false };
        let terms = Terms { deadline: Some(until), only_unsent: true, ..Terms::default() };
        let is_alike = group.terms == terms && group.runs.len() < RUNS_MAX;
        let Payload::Slot(slot) = &mut draft.payload else { return false };
        let (flags, numbers) = (FORM_WHOLE | REQUEST, [alias.into(), number, body.len() as u64]);
        if !is_alike || self.skips.len() >= SKIPS_MAX || !append(slot, limit, flags, numbers, body)
        {
            return false;
        }
        Awaited::note(&mut draft.waiters, draft.ends, Waiter::Request(number));
        draft.ends += 1;
        group.add(alias, charge, None);
        self.pending += 1;
        true
    }

    /// [`SendLog::push`] of the reply to a request, if the open block takes the whole of it; `false`: nothing changed.
    #[inline]
    pub(crate) fn push_reply(&mut self, request: u64, body: &[u8]) -> bool {
        let open = &mut self.classes[NORMAL].open;
        let numbers = [request, body.len() as u64];
        if !append(&mut open.bytes, open.limit, FORM_WHOLE | REPLY, numbers, body) {
            return false;
        }
        open.ends += 1;
        self.pending += 1;
        true
    }
}

/// Appends a whole message with these flags and numbers in front, if it stays within `limit`.
#[inline]
fn append<const NUMBERS: usize>(
    slot: &mut Slot,
    limit: usize,
    flags: u8,
    numbers: [u64; NUMBERS],
    body: &[u8],
) -> bool {
    let filled = slot.len();
    let Some(place) = slot.place::<HEAD_PLACE_BYTES>() else { return false };
    let head_bytes = Head::put(flags, numbers, place);
    if filled + head_bytes + body.len() > limit {
        return false;
    }
    slot.fill(head_bytes);
    slot.extend_from_slice(body);
    true
}

#[cfg(test)]
mod tests {
    //! Goal: the short way writes the same bytes as the long one, and refuses where it might not.
    use super::super::{Asked, Route};
    use super::*;
    use crate::flows::{OutFlow, charge};
    use crate::slots::SlotPool;

    const BLOCK: usize = 1_420;
    const UNTIL: Instant = Instant::from_nanos(1 << 40);

    struct Bench {
        log: SendLog,
        pool: SlotPool,
        flow: OutFlow,
        by_short: bool,
        short: usize,
    }

    impl Bench {
        fn new(by_short: bool) -> Self {
            let mut flow = OutFlow::new("flow");
            flow.bound = true;
            let (log, pool) = (SendLog::new(BLOCK, 1 << 20), SlotPool::new(BLOCK));
            Self { log, pool, flow, by_short, short: 0 }
        }

        fn request(&mut self, alias: u32, number: u64, until: Instant, body: &[u8]) {
            let Self { log, pool, flow, .. } = self;
            let cost = charge(body.len() as u64);
            if self.by_short && log.push_request(alias, number, until, cost, body) {
                self.short += 1;
                return;
            }
            let terms = Terms { deadline: Some(until), only_unsent: true, ..Terms::default() };
            let waiter = Some(Waiter::Request(number));
            let asked = Asked { request: Some(number), sequence: None, waiter };
            let mut route = Route::Flow(flow, alias);
            assert!(log.push_with(pool, NORMAL, terms, &mut route, asked, body.to_vec()));
        }

        fn reply(&mut self, number: u64, body: &[u8]) {
            let Self { log, pool, .. } = self;
            if self.by_short && log.push_reply(number, body) {
                self.short += 1;
                return;
            }
            assert!(log.push(pool, &mut Route::Reply(number), Asked::default(), body));
        }

        /// All that would be sent, and what is kept of it.
        fn written(mut self) -> (Vec<u8>, String, u64) {
            let (mut out, pool) = (Vec::new(), &mut self.pool);
            while let Some((pick, _)) = self.log.peek(pool) {
                self.log.write(pick, &mut out);
            }
            let kept = format!("{:?} {:?} {:?}", self.log.notify, self.log.groups.len(), {
                let mut groups: Vec<_> = self.log.groups.iter().collect();
                groups.sort_by_key(|group| group.0);
                groups
            });
            (out, kept, self.log.pending)
        }
    }

    fn both(fill: impl Fn(&mut Bench), at_least: usize) {
        let [long, short] = [false, true].map(|by_short| {
            let mut bench = Bench::new(by_short);
            fill(&mut bench);
            bench
        });
        assert!(short.short >= at_least && long.short == 0, "{} went short", short.short);
        assert_eq!(short.written(), long.written());
    }

    #[test]
    fn requests_and_replies_are_the_same_bytes_by_either_way() {
        let body = [7; 1_500];
        both(
            |bench| {
                for (number, bytes) in (1_u64..).zip((0..1_500).step_by(7)) {
                    bench.request(3, number, UNTIL, &body[..bytes]);
                    bench.request(3, number << 12, UNTIL, &body[..bytes / 9]);
                    bench.reply(number << 12, &body[..bytes / 8]);
                    bench.reply((1 << 61) + number, &body[..bytes / 20]);
                }
            },
            300,
        );
    }

    #[test]
    fn what_differs_in_deadline_or_flow_goes_where_it_belongs() {
        let later = Instant::from_nanos(1 << 41);
        both(
            |bench| {
                for number in 1..200 {
                    let until = if number % 5 == 0 { later } else { UNTIL };
                    bench.request((number % 3) as u32 * 9_000, number, until, b"body");
                }
            },
            100,
        );
    }

    #[test]
    fn where_no_block_is_open_nothing_goes_short() {
        let mut bench = Bench::new(true);
        assert!(!bench.log.push_request(1, 1, UNTIL, 65, b"x") && !bench.log.push_reply(1, b"x"));
        assert!(bench.log.push(&mut bench.pool, &mut Route::Reply(1), Asked::default(), b"x"));
        assert!(!bench.log.push_request(1, 1, UNTIL, 65, b"x"), "that block has no terms");
        assert!(bench.log.push_reply(2, b"x"));
        assert_eq!(bench.log.pending(), 2);
    }
}
