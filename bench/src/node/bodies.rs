//! The caller of a measurement: numbers each body before it is sent.
//!
//! Short bodies are copied by the call and lie in a small buffer that holds some of them side by side: a pattern that stays and
//! in front of it the tag, which is written anew for each. As many as fit are numbered at once, since a copy that reads what was
//! written a moment ago waits until that has reached the cache, and this wait is not the node's. Long bodies are handed over, so
//! each needs a buffer of its own; buffers that nobody holds any more are written again.
//! A stamped body carries behind its tag the time at which it is due, little endian nanoseconds of the machine's
//! monotonic clock, or 0.

use std::{collections::VecDeque, ops::Range};

use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use cubed::{Destination, SendError};

use super::schedule::Stamps;
use crate::{
    tag::{TAG_BYTES, write_tag},
    workload::Sizes,
};

/// Bodies above this are handed over and not copied.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// Bytes of short bodies numbered at once, at most: a small part of the first-level cache, some microseconds of messages.
const AHEAD_BYTES_MAX: usize = 4 << 10;

/// Bytes of handed-over bodies looked after for reuse: more than a node keeps unacknowledged.
const REUSED_BYTES_MAX: usize = 16 << 20;

/// Where the stamp of a body lies.
const STAMP: Range<usize> = TAG_BYTES..TAG_BYTES + 8;

/// Shortest body that can carry a stamp.
pub const STAMPED_BYTES_MIN: usize = STAMP.end;

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Kept until the receiver has acknowledged them
    Acked,
    /// Sent once
    BestEffort,
}

/// Numbered bodies, from 0.
#[derive(Debug)]
pub struct Bodies {
    pattern: Vec<u8>,
    /// Short bodies side by side, each in a place as long as the longest; body n lies at n modulo their number.
    copied: Vec<u8>,
    /// Length of a place, above zero.
    stride: usize,
    /// How many of them there are, a power of two.
    ahead: usize,
    owned: Option<Bytes>,
    handed_over: VecDeque<Bytes>,
    mode: Mode,
    sizes: Vec<u32>,
    stamps: Option<Stamps>,
    next: u64,
    bytes: u64,
    /// Short bodies below this number are written.
    written: u64,
}

impl Bodies {
    /// Bodies of `sizes` to be sent by `mode`, with room for `stamps` if there are any.
    pub fn new(sizes: &Sizes, seed: u64, mode: Mode, stamps: Option<Stamps>) -> Self {
        let pattern: Vec<u8> = (0..sizes.largest()).map(|index| (index * 31 + 7) as u8).collect();
        let stride = pattern.len().max(1);
        let ahead = 1 << (AHEAD_BYTES_MAX / stride).clamp(1, 64).ilog2();
        let mut place = pattern.clone();
        place.resize(stride, 0);
        Self {
            copied: place.repeat(ahead),
            stride,
            ahead,
            pattern,
            owned: None,
            handed_over: VecDeque::new(),
            mode,
            sizes: sizes.table(seed),
            stamps,
            next: 0,
            bytes: 0,
            written: 0,
        }
    }

    /// Bodies sent.
    pub fn sent(&self) -> u64 {
        self.next
    }

    /// Their bytes together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the next body, unless it is written already, and sends it.
    ///
    /// # Errors
    ///
    /// Those of the call; the body is kept for another try.
    #[inline]
    pub fn send_next(&mut self, to: &Destination) -> Result<(), SendError> {
        let size = self.size_of(self.next);
        if self.mode == Mode::Acked && size > COPIED_BYTES_MAX {
            return self.hand_over_next(to, size);
        }
        if self.next == self.written {
            self.write_copied();
        }
        let body = &self.copied[self.place_of(self.next)..][..size];
        match self.mode {
            Mode::Acked => to.try_send_acknowledged(body)?,
            Mode::BestEffort => to.try_send(body)?,
        }
        self.next += 1;
        self.bytes += size as u64;
        Ok(())
    }

    /// Whether [`Bodies::send_run`] can send them: acknowledged, of one length, copied.
    pub fn are_uniform(&self) -> bool {
        let is_copied = self.pattern.len() <= COPIED_BYTES_MAX;
        self.mode == Mode::Acked && self.sizes.len() == 1 && is_copied
    }

    /// Sends `count` bodies to one flow, up to `per_call` by one call. Returns how many were taken, and what ended it before.
    ///
    /// # Errors
    ///
    /// Those of the call; the body is kept for another try.
    ///
    /// # Panics
    ///
    /// When they are not uniform.
    pub fn send_run(
        &mut self,
        to: &Destination,
        count: usize,
        per_call: usize,
    ) -> (usize, Result<(), SendError>) {
        assert!(self.are_uniform(), "only uniform bodies are sent as a run");
        let size = self.pattern.len();
        let (mut taken, mut result) = (0, Ok(()));
        while taken < count && result.is_ok() {
            if self.next == self.written {
                self.write_copied();
            }
            let ready = ((self.written - self.next) as usize).min(count - taken);
            let places = self.copied[self.place_of(self.next)..].chunks_exact(self.stride);
            let bodies = places.map(|place| &place[..size]);
            let mut sent = 0;
            if per_call == 1 {
                for body in bodies.take(ready) {
                    result = to.try_send_acknowledged(body);
                    if result.is_err() {
                        break;
                    }
                    sent += 1;
                }
            } else {
                match to.try_send_many(bodies.take(ready.min(per_call))) {
                    Ok(taken) => sent = taken,
                    Err(error) => result = Err(error),
                }
            }
            taken += sent;
            self.next += sent as u64;
        }
        self.bytes += (taken * size) as u64;
        (taken, result)
    }

    #[inline]
    fn size_of(&self, number: u64) -> usize {
        // The table's length is a power of two.
        self.sizes[number as usize & (self.sizes.len() - 1)] as usize
    }

    /// Where the body with this number begins.
    #[inline]
    fn place_of(&self, number: u64) -> usize {
        (number as usize & (self.ahead - 1)) * self.stride
    }

    /// Writes as many bodies as there is room for, from the next one on.
    #[inline]
    fn write_copied(&mut self) {
        self.written = self.next + self.ahead as u64;
        for number in self.next..self.written {
            let (start, size) = (self.place_of(number), self.size_of(number));
            let body = &mut self.copied[start..start + size];
            write_tag(body, number);
            if let Some(stamps) = &mut self.stamps {
                write_stamp(body, stamps.take(number));
            }
        }
    }

    fn hand_over_next(&mut self, to: &Destination, size: usize) -> Result<(), SendError> {
        let body = match self.owned.take() {
            Some(body) => body,
            None => self.write_owned(size),
        };
        if let Err(error) = to.try_send_owned(body.clone()) {
            self.owned = Some(body);
            return Err(error);
        }
        if (self.handed_over.len() + 1) * self.pattern.len() <= REUSED_BYTES_MAX {
            self.handed_over.push_back(body);
        }
        self.next += 1;
        // It stands in no place: the next short body is written if this one was where those written end.
        self.written = self.written.max(self.next);
        self.bytes += size as u64;
        Ok(())
    }

    fn write_owned(&mut self, size: usize) -> Bytes {
        let mut body = self.take_free().unwrap_or_else(|| BytesMut::zeroed(size));
        body.resize(size, 0);
        body.copy_from_slice(&self.pattern[..size]);
        write_tag(&mut body, self.next);
        if let Some(stamps) = &mut self.stamps {
            write_stamp(&mut body, stamps.take(self.next));
        }
        body.freeze()
    }

    /// The oldest buffer handed over, if nobody holds it any more.
    fn take_free(&mut self) -> Option<BytesMut> {
        match self.handed_over.pop_front()?.try_into_mut() {
            Ok(free) => Some(free),
            Err(held) => {
                self.handed_over.push_front(held);
                None
            }
        }
    }
}

/// Writes `stamp` into a body that has room for it.
#[inline]
pub fn write_stamp(body: &mut [u8], stamp: u64) {
    if let Some(place) = body.get_mut(STAMP) {
        place.copy_from_slice(&stamp.to_le_bytes());
    }
}

/// The stamp of a stamped body; `None` when it has none.
#[inline]
pub fn read_stamp(body: &[u8]) -> Option<u64> {
    let stamp = u64::from_le_bytes(*body.get(STAMP)?.first_chunk()?);
    (stamp != 0).then_some(stamp)
}

#[cfg(test)]
mod tests {
    //! Goal: a stamp is read as it was written, beside the tag.
    use cubed::Instant;

    use super::*;
    use crate::node::schedule::Schedule;

    #[test]
    fn a_stamp_lies_behind_the_tag() {
        let mut body = [0xFF; STAMPED_BYTES_MIN];
        write_tag(&mut body, 3);
        write_stamp(&mut body, 77);
        assert_eq!((body[0], read_stamp(&body)), (3, Some(77)));
        write_stamp(&mut body, 0);
        assert_eq!(read_stamp(&body), None);
        assert_eq!(read_stamp(&body[..15]), None);
    }

    #[test]
    fn bodies_written_ahead_carry_the_times_at_which_they_are_due() {
        for size in ["fixed:16", "fixed:64", "fixed:5000"] {
            let size: Sizes = size.parse().unwrap();
            let schedule = Schedule::new(Instant::from_nanos(700), 1e8);
            let (mut same, stamps) = (Stamps::new(schedule, 10), Stamps::new(schedule, 10));
            let mut bodies = Bodies::new(&size, 1, Mode::Acked, Some(stamps));
            assert!(bodies.are_uniform());
            for number in 0..1_000 {
                if bodies.next == bodies.written {
                    bodies.write_copied();
                }
                let body = &bodies.copied[bodies.place_of(number)..][..bodies.size_of(number)];
                assert_eq!(read_stamp(body).unwrap_or_default(), same.take(number), "{number}");
                bodies.next += 1;
            }
        }
    }

    #[test]
    fn bodies_written_ahead_are_those_written_one_by_one() {
        for sizes in ["fixed:0", "fixed:3", "fixed:64", "fixed:5000", "mix:64*9,3*2,1K*1"] {
            let sizes: Sizes = sizes.parse().unwrap();
            let mut bodies = Bodies::new(&sizes, 1, Mode::Acked, None);
            for number in 0..200 {
                if bodies.next == bodies.written {
                    bodies.write_copied();
                }
                let size = bodies.size_of(number);
                let mut expected = bodies.pattern[..size].to_vec();
                write_tag(&mut expected, number);
                assert_eq!(bodies.copied[bodies.place_of(number)..][..size], expected, "{number}");
                bodies.next += 1;
            }
        }
    }
}
