//! The caller of a measurement: writes each body, whole, right before it is sent.
//!
//! Short bodies are written into one buffer and copied by the call. Long ones are handed over, so each
//! needs a buffer of its own; buffers that nobody holds any more are written again.
//! A stamped body carries behind its tag the time at which it was due, little endian nanoseconds of the machine's
//! monotonic clock, or 0.

use std::{collections::VecDeque, ops::Range};

use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use cubed::{Destination, SendError};

use crate::{
    tag::{TAG_BYTES, write_tag},
    workload::Sizes,
};

/// Bodies above this are handed over and not copied.
const COPIED_BYTES_MAX: usize = 16 << 10;

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
    copied: Vec<u8>,
    owned: Option<Bytes>,
    handed_over: VecDeque<Bytes>,
    mode: Mode,
    sizes: Vec<u32>,
    is_stamped: bool,
    next: u64,
    bytes: u64,
    is_written: bool,
}

impl Bodies {
    /// Bodies of `sizes` to be sent by `mode`, stamped ones if `is_stamped`.
    pub fn new(sizes: &Sizes, seed: u64, mode: Mode, is_stamped: bool) -> Self {
        let pattern: Vec<u8> = (0..sizes.largest()).map(|index| (index * 31 + 7) as u8).collect();
        Self {
            copied: pattern.clone(),
            pattern,
            owned: None,
            handed_over: VecDeque::new(),
            mode,
            sizes: sizes.table(seed),
            is_stamped,
            next: 0,
            bytes: 0,
            is_written: false,
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

    /// Writes the next body, unless it was not taken last time, and sends it. If bodies are stamped, with `stamp`.
    ///
    /// # Errors
    ///
    /// Those of the call; the body is kept for another try, with its stamp.
    #[inline]
    pub fn send_next(&mut self, to: &Destination, stamp: u64) -> Result<(), SendError> {
        // The table's length is a power of two.
        let size = self.sizes[self.next as usize & (self.sizes.len() - 1)] as usize;
        if self.mode == Mode::Acked && size > COPIED_BYTES_MAX {
            return self.hand_over_next(to, size, stamp);
        }
        if !self.is_written {
            self.write_copied(size, stamp);
        }
        let body = &self.copied[..size];
        match self.mode {
            Mode::Acked => to.try_send_acknowledged(body)?,
            Mode::BestEffort => to.try_send(body)?,
        }
        self.is_written = false;
        self.next += 1;
        self.bytes += size as u64;
        Ok(())
    }

    #[inline]
    fn write_copied(&mut self, size: usize, stamp: u64) {
        let body = &mut self.copied[..size];
        body.copy_from_slice(&self.pattern[..size]);
        write_tag(body, self.next);
        if self.is_stamped {
            write_stamp(body, stamp);
        }
        self.is_written = true;
    }

    fn hand_over_next(
        &mut self,
        to: &Destination,
        size: usize,
        stamp: u64,
    ) -> Result<(), SendError> {
        let body = match self.owned.take() {
            Some(body) => body,
            None => self.write_owned(size, stamp),
        };
        if let Err(error) = to.try_send_owned(body.clone()) {
            self.owned = Some(body);
            return Err(error);
        }
        if (self.handed_over.len() + 1) * self.pattern.len() <= REUSED_BYTES_MAX {
            self.handed_over.push_back(body);
        }
        self.next += 1;
        self.bytes += size as u64;
        Ok(())
    }

    fn write_owned(&mut self, size: usize, stamp: u64) -> Bytes {
        let mut body = self.take_free().unwrap_or_else(|| BytesMut::zeroed(size));
        body.resize(size, 0);
        body.copy_from_slice(&self.pattern[..size]);
        write_tag(&mut body, self.next);
        if self.is_stamped {
            write_stamp(&mut body, stamp);
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
fn write_stamp(body: &mut [u8], stamp: u64) {
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
    use super::*;

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
}
