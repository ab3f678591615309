//! Length-prefixed frames for stacks that carry a stream of bytes: a length of 4 bytes, little endian, then a body.
//!
//! No I/O here: a [`Batch`] is what to write in one call, [`Frames`] is given what was read.

use std::io;

use cubed_peers::load::Load;

/// Bytes before each body.
pub(crate) const HEADER_BYTES: usize = 4;
/// Bytes of bodies to hand over in one call.
const BATCH_BYTES: usize = 256 * 1024;
/// Frames of one call: as a list each is two entries of at most 1024 (`IOV_MAX`).
const BATCH_FRAMES_MAX: usize = 512;
/// Bytes asked for in one read; holds several of the longest frames.
const READ_BYTES: usize = 256 * 1024;

/// The header of a body of `size` bytes.
pub(crate) fn header(size: usize) -> [u8; HEADER_BYTES] {
    (size as u32).to_le_bytes()
}

/// Frames of one call.
pub(crate) fn batch_frames(size: usize) -> usize {
    (BATCH_BYTES / size).clamp(1, BATCH_FRAMES_MAX)
}

/// Frames one after the other in one buffer, their headers written once.
#[derive(Debug)]
pub(crate) struct Batch {
    frame_bytes: usize,
    frames: Vec<u8>,
}

impl Batch {
    /// A batch of frames with bodies of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        let frame_bytes = HEADER_BYTES + size;
        let mut frames = vec![0; frame_bytes * batch_frames(size)];
        for frame in frames.chunks_exact_mut(frame_bytes) {
            frame[..HEADER_BYTES].copy_from_slice(&header(size));
        }
        Self { frame_bytes, frames }
    }

    /// The next messages of the load; empty when there are no more.
    pub(crate) fn next(&mut self, load: &mut Load) -> &[u8] {
        let frames = self.frames.chunks_exact_mut(self.frame_bytes);
        let filled =
            frames.map_while(|frame| load.fill(&mut frame[HEADER_BYTES..]).then_some(())).count();
        &self.frames[..filled * self.frame_bytes]
    }
}

/// The frames of a stream, read in large pieces.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; READ_BYTES], from: 0, to: 0 }
    }

    /// Whether a whole frame is there; an error when its length cannot be.
    #[inline]
    pub(crate) fn has_next(&self) -> io::Result<bool> {
        let Some(header) = self.buffer[self.from..self.to].first_chunk::<HEADER_BYTES>() else {
            return Ok(false);
        };
        let size = u32::from_le_bytes(*header) as usize;
        if size > READ_BYTES - HEADER_BYTES {
            return Err(io::Error::other("a frame longer than any that is sent"));
        }
        Ok(self.to - self.from >= HEADER_BYTES + size)
    }

    /// The body of the next frame, which must be there.
    #[inline]
    pub(crate) fn next(&mut self) -> &[u8] {
        let from = self.from + HEADER_BYTES;
        let header = self.buffer[self.from..].first_chunk().expect("`has_next` found a header");
        self.from = from + u32::from_le_bytes(*header) as usize;
        &self.buffer[from..self.from]
    }

    /// Where to read more to; a frame that is there in part keeps its bytes.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        &mut self.buffer[self.to..]
    }

    /// Takes note of the bytes that were read; none is the end of the stream, which is an error as no last message came.
    pub(crate) fn filled(&mut self, bytes: usize) -> io::Result<()> {
        self.to += bytes;
        if bytes == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: frames come out as they went in, however the stream is cut.
    use std::time::Duration;

    use cubed_peers::load::{Meter, Span};

    use super::*;

    #[test]
    fn frames_survive_being_cut() {
        let bodies = [vec![1; 3], vec![], vec![2; 1000]];
        let bytes: Vec<u8> =
            bodies.iter().flat_map(|body| [&header(body.len())[..], body].concat()).collect();
        let (mut frames, mut found) = (Frames::new(), Vec::new());
        for piece in bytes.chunks(7) {
            frames.space()[..piece.len()].copy_from_slice(piece);
            frames.filled(piece.len()).unwrap();
            while frames.has_next().unwrap() {
                found.push(frames.next().to_vec());
            }
        }
        assert_eq!(found, bodies);
        assert_eq!(frames.filled(0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_length_beyond_the_buffer_is_an_error() {
        let mut frames = Frames::new();
        frames.space()[..4].fill(255);
        frames.filled(4).unwrap();
        assert!(frames.has_next().is_err());
    }

    #[test]
    fn a_batch_holds_the_messages_of_the_load_in_order() {
        let span = Span { warm_up: Duration::ZERO, measured: Duration::from_millis(1) };
        let (mut load, mut meter) = (Load::new(65536, span), Meter::new(65536, span));
        let (mut batch, mut frames, mut goes_on) = (Batch::new(65536), Frames::new(), true);
        while goes_on {
            let mut bytes = batch.next(&mut load);
            assert!(!bytes.is_empty(), "the last was not marked");
            while !bytes.is_empty() {
                let some = bytes.len().min(frames.space().len());
                frames.space()[..some].copy_from_slice(&bytes[..some]);
                frames.filled(some).unwrap();
                bytes = &bytes[some..];
                while frames.has_next().unwrap() {
                    goes_on = meter.take(frames.next());
                }
            }
        }
        assert!(batch.next(&mut load).is_empty());
        assert!(meter.report().checks.is_clean());
    }
}
