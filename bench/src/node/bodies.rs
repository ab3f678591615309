//! The caller of a throughput measurement: writes each body, whole, right before it is sent.
//!
//! Short bodies are written into one buffer and copied by the call. Long ones are handed over, so each
//! needs a buffer of its own; buffers that nobody holds any more are written again.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use cubed::{Destination, SendError};

use crate::tag::write_tag;

/// Bodies above this are handed over and not copied.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// Bytes of handed-over bodies looked after for reuse: more than a node keeps unacknowledged.
const REUSED_BYTES_MAX: usize = 16 << 20;

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Kept until the receiver has acknowledged them
    Acked,
    /// Sent once
    BestEffort,
}

/// Numbered bodies of one size, from 0.
#[derive(Debug)]
pub struct Bodies {
    pattern: Vec<u8>,
    copied: Vec<u8>,
    owned: Option<Bytes>,
    handed_over: VecDeque<Bytes>,
    mode: Mode,
    next: u64,
    is_written: bool,
}

impl Bodies {
    /// Bodies of `size` bytes to be sent by `mode`.
    pub fn new(size: usize, mode: Mode) -> Self {
        let pattern: Vec<u8> = (0..size).map(|index| (index * 31 + 7) as u8).collect();
        Self {
            copied: pattern.clone(),
            pattern,
            owned: None,
            handed_over: VecDeque::new(),
            mode,
            next: 0,
            is_written: false,
        }
    }

    /// Bodies sent.
    pub fn sent(&self) -> u64 {
        self.next
    }

    /// Writes the next body, unless it was not taken last time, and sends it.
    ///
    /// # Errors
    ///
    /// Those of the call; the body is kept for another try.
    #[inline]
    pub fn send_next(&mut self, to: &Destination) -> Result<(), SendError> {
        if self.mode == Mode::Acked && self.pattern.len() > COPIED_BYTES_MAX {
            return self.hand_over_next(to);
        }
        if !self.is_written {
            self.copied.copy_from_slice(&self.pattern);
            write_tag(&mut self.copied, self.next);
            self.is_written = true;
        }
        match self.mode {
            Mode::Acked => to.try_send_acknowledged(&self.copied)?,
            Mode::BestEffort => to.try_send(&self.copied)?,
        }
        self.is_written = false;
        self.next += 1;
        Ok(())
    }

    fn hand_over_next(&mut self, to: &Destination) -> Result<(), SendError> {
        let body = match self.owned.take() {
            Some(body) => body,
            None => self.write_owned(),
        };
        if let Err(error) = to.try_send_owned(body.clone()) {
            self.owned = Some(body);
            return Err(error);
        }
        if (self.handed_over.len() + 1) * body.len() <= REUSED_BYTES_MAX {
            self.handed_over.push_back(body);
        }
        self.next += 1;
        Ok(())
    }

    fn write_owned(&mut self) -> Bytes {
        let mut body = self.take_free().unwrap_or_else(|| BytesMut::zeroed(self.pattern.len()));
        body.copy_from_slice(&self.pattern);
        write_tag(&mut body, self.next);
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
