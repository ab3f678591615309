//! The ceiling's wire format: messages packed across datagrams, and taken out again.
//!
//! A datagram is a 16-byte header, frames, and a 16-byte authentication tag. A frame is a 4-byte
//! little-endian body length and the body. Frames follow each other without gaps; a body that does
//! not fit ends the datagram and goes on at the start of the next one. Fewer than 4 bytes left at
//! the end of a datagram are padding, so a length is never split. The header says where the first
//! frame begins, so that a receiver finds its way again after a lost datagram.
//!
//! This is the least that framing can cost; it shares no code with Cubed's own.

use std::fmt;

use crate::tag::write_tag;

/// Bytes of a datagram's header, authenticated and not encrypted.
pub const HEADER_BYTES: usize = 16;

/// Bytes of a frame's header.
pub const FRAME_BYTES: usize = 4;

const KIND_DATA: u8 = 0xC1;
const KIND_PROGRESS: u8 = 0xC2;

/// Header of a data or progress datagram, as numbers.
///
/// ```text
/// 0     1       2              4            8                16
/// | kind | zero | first frame  | slice      | packet number  |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Carries frames.
    Data {
        /// Offset in the payload of the first frame that begins in it.
        first_frame: u16,
        /// Which slice of the measurement it belongs to.
        slice: u32,
        /// Counts from 0 in each slice; also the nonce.
        number: u64,
    },
    /// Says how far the receiver is.
    Progress {
        /// Which slice of the measurement it belongs to.
        slice: u32,
        /// One more than the highest packet number received.
        next: u64,
    },
}

impl Header {
    /// The header's bytes.
    #[inline]
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let (kind, first_frame, slice, number) = match self {
            Self::Data { first_frame, slice, number } => (KIND_DATA, first_frame, slice, number),
            Self::Progress { slice, next } => (KIND_PROGRESS, 0, slice, next),
        };
        let low = u64::from(kind) | u64::from(first_frame) << 16 | u64::from(slice) << 32;
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[8..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    /// Reads the header of a datagram; `None` when it is too short or of no known kind.
    #[inline]
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let bytes = datagram.first_chunk::<HEADER_BYTES>()?;
        let (low, high) = bytes.split_first_chunk::<8>()?;
        let low = u64::from_le_bytes(*low);
        let number = u64::from_le_bytes(*high.first_chunk()?);
        let (first_frame, slice) = ((low >> 16) as u16, (low >> 32) as u32);
        match low as u8 {
            KIND_DATA => Some(Self::Data { first_frame, slice, number }),
            KIND_PROGRESS => Some(Self::Progress { slice, next: number }),
            _ => None,
        }
    }
}

/// The caller and its framing in one: writes numbered messages of one size into payloads.
#[derive(Debug)]
pub struct Packer {
    body: Vec<u8>,
    sequence: u64,
    body_left: usize,
}

impl Packer {
    /// Messages of `size` bytes, numbered from 0.
    pub fn new(size: usize) -> Self {
        let body = (0..size).map(|index| (index * 31 + 7) as u8).collect();
        Self { body, sequence: 0, body_left: 0 }
    }

    /// Messages written to their last byte.
    pub fn completed(&self) -> u64 {
        self.sequence - u64::from(self.body_left > 0)
    }

    /// Fills `payload` to its end. Returns the offset of the first frame that begins in it, or its
    /// length when none does.
    pub fn fill(&mut self, payload: &mut [u8]) -> u16 {
        let first_frame = self.continue_body(payload);
        let size = self.body.len();
        let mut frames = payload[first_frame..].chunks_exact_mut(FRAME_BYTES + size);
        for frame in &mut frames {
            let (length, body) = frame.split_at_mut(FRAME_BYTES);
            length.copy_from_slice(&(size as u32).to_le_bytes());
            body.copy_from_slice(&self.body);
            write_tag(body, self.sequence);
            self.sequence += 1;
        }
        self.begin_body(frames.into_remainder());
        first_frame as u16
    }

    /// Writes as much of the unfinished body as fits; returns how much that was.
    fn continue_body(&mut self, payload: &mut [u8]) -> usize {
        let count = self.body_left.min(payload.len());
        let from = self.body.len() - self.body_left;
        payload[..count].copy_from_slice(&self.body[from..from + count]);
        self.body_left -= count;
        count
    }

    /// Begins a message that does not fit into `rest`, or pads a rest without room for a length.
    fn begin_body(&mut self, rest: &mut [u8]) {
        let Some((length, rest)) = rest.split_first_chunk_mut::<FRAME_BYTES>() else {
            rest.fill(0);
            return;
        };
        *length = (self.body.len() as u32).to_le_bytes();
        write_tag(&mut self.body, self.sequence);
        self.sequence += 1;
        self.body_left = self.body.len();
        self.continue_body(rest);
    }
}

/// What a datagram that opened under the right key contradicts itself in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The first frame is said to begin elsewhere than the body before it ends.
    FirstFrame,
    /// A body longer than any that was announced.
    Length,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstFrame => "first frame not where the body before it ends",
            Self::Length => "body longer than announced",
        })
    }
}

/// Takes messages out of payloads again.
#[derive(Debug)]
pub struct Unpacker {
    body: Vec<u8>,
    body_left: usize,
    size_max: usize,
    /// Inside a body whose beginning is lost: nothing counts before the next first frame.
    is_lost: bool,
}

impl Unpacker {
    /// Accepts bodies of up to `size_max` bytes.
    pub fn new(size_max: usize) -> Self {
        Self { body: Vec::with_capacity(size_max), body_left: 0, size_max, is_lost: false }
    }

    /// Gives up the unfinished body: the datagram with its next part is lost.
    fn forget(&mut self) {
        self.body.clear();
        self.body_left = 0;
        self.is_lost = true;
    }

    /// Calls `deliver` with each message that ends in `payload`: in place when it also began
    /// there, else copied whole.
    ///
    /// `is_next` says that `payload` follows the one before; when it does not, what was unfinished
    /// is forgotten and reading starts at `first_frame`.
    ///
    /// # Errors
    ///
    /// [`FrameError`] when the payload contradicts itself; messages before that were delivered.
    #[inline]
    pub fn unpack(
        &mut self,
        payload: &[u8],
        first_frame: u16,
        is_next: bool,
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<(), FrameError> {
        if !is_next {
            self.forget();
        }
        if self.is_lost {
            // A body that fills this payload to its end may go on in the next one.
            self.is_lost = usize::from(first_frame) == payload.len();
        } else if self.body_left.min(payload.len()) != usize::from(first_frame) {
            return Err(FrameError::FirstFrame);
        }
        let (end_of_body, mut rest) =
            payload.split_at_checked(usize::from(first_frame)).ok_or(FrameError::FirstFrame)?;
        if self.body_left > 0 {
            self.extend_body(end_of_body);
            if self.body_left == 0 {
                deliver(&self.body);
                self.body.clear();
            }
        }
        while let Some((length, after)) = rest.split_first_chunk::<FRAME_BYTES>() {
            let length = u32::from_le_bytes(*length) as usize;
            if let Some((body, after)) = after.split_at_checked(length) {
                deliver(body);
                rest = after;
            } else {
                return self.begin_body(length, after);
            }
        }
        Ok(())
    }

    fn begin_body(&mut self, length: usize, start: &[u8]) -> Result<(), FrameError> {
        if length > self.size_max {
            return Err(FrameError::Length);
        }
        self.body_left = length;
        self.extend_body(start);
        Ok(())
    }

    fn extend_body(&mut self, part: &[u8]) {
        self.body.extend_from_slice(part);
        self.body_left -= part.len();
    }
}

#[cfg(test)]
mod tests;
