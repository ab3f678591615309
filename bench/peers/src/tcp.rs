//! Plain TCP: one blocking thread a side, frames of a length of 4 bytes and a body, many to a system call.
//!
//! `tcp` leaves each body where it lies and hands the kernel a list (`writev`); `tcp-packed` writes bodies into one buffer of whole
//! frames, which costs the kernel less for small ones.

use std::{
    io::{self, IoSlice, Read, Write},
    net::{TcpListener, TcpStream},
};

use crate::{
    load::{Exchange, Load, Meter, is_last},
    stack::{Outcome, Ready, Sides},
};

/// Bytes of bodies to hand over in one system call.
const BATCH_BYTES: usize = 256 * 1024;
/// Frames in one system call: each is two entries of a list of at most 1024 (`IOV_MAX`).
const BATCH_FRAMES_MAX: usize = 512;
/// Bytes read in one system call; holds several of the longest frames.
const READ_BYTES: usize = 256 * 1024;
const HEADER_BYTES: usize = 4;

/// Plain TCP.
#[derive(Debug)]
pub(crate) struct Tcp {
    /// Frames are written into one buffer.
    pub(crate) is_packed: bool,
}

impl Sides for Tcp {
    fn receive(&self, ready: Ready<'_>, meter: &mut Meter) -> Outcome<()> {
        let mut frames = Frames::new(accept(ready)?);
        while meter.take(frames.next()?) {}
        Ok(())
    }

    fn send(&self, address: &str, load: &mut Load) -> Outcome<()> {
        let mut stream = connect(address)?;
        if self.is_packed {
            send_packed(&mut stream, load)?;
        } else {
            send_lists(&mut stream, load)?;
        }
        // The receiver closes when it has the last message.
        let _ = stream.read(&mut [0])?;
        Ok(())
    }

    fn answer(&self, ready: Ready<'_>) -> Outcome<()> {
        let stream = accept(ready)?;
        let mut frames = Frames::new(stream.try_clone()?);
        let mut writer = stream;
        let mut frame = Vec::new();
        loop {
            let body = frames.next()?;
            frame.clear();
            frame.extend_from_slice(&header(body.len()));
            frame.extend_from_slice(body);
            writer.write_all(&frame)?;
            if is_last(body) {
                return Ok(());
            }
        }
    }

    fn ask(&self, address: &str, exchange: &mut Exchange) -> Outcome<()> {
        let mut stream = connect(address)?;
        let mut frames = Frames::new(stream.try_clone()?);
        let mut frame = vec![0; HEADER_BYTES + exchange.size()];
        frame[..HEADER_BYTES].copy_from_slice(&header(exchange.size()));
        while exchange.ask(&mut frame[HEADER_BYTES..]) {
            stream.write_all(&frame)?;
            exchange.answered(frames.next()?);
        }
        Ok(())
    }
}

fn send_lists(stream: &mut TcpStream, load: &mut Load) -> io::Result<()> {
    let size = load.size();
    let header = header(size);
    let mut bodies = vec![0; size * batch_frames(size)];
    loop {
        let filled =
            bodies.chunks_exact_mut(size).map_while(|body| load.fill(body).then_some(())).count();
        if filled == 0 {
            return Ok(());
        }
        let frames = bodies.chunks_exact(size).take(filled);
        let mut list: Vec<IoSlice<'_>> =
            frames.flat_map(|body| [IoSlice::new(&header), IoSlice::new(body)]).collect();
        let mut left = &mut list[..];
        while !left.is_empty() {
            let written = stream.write_vectored(left)?;
            IoSlice::advance_slices(&mut left, written);
        }
    }
}

fn send_packed(stream: &mut TcpStream, load: &mut Load) -> io::Result<()> {
    let frame_bytes = HEADER_BYTES + load.size();
    let mut frames = vec![0; frame_bytes * batch_frames(load.size())];
    for frame in frames.chunks_exact_mut(frame_bytes) {
        frame[..HEADER_BYTES].copy_from_slice(&header(load.size()));
    }
    loop {
        let bodies = frames.chunks_exact_mut(frame_bytes).map(|frame| &mut frame[HEADER_BYTES..]);
        let filled = bodies.map_while(|body| load.fill(body).then_some(())).count();
        if filled == 0 {
            return Ok(());
        }
        stream.write_all(&frames[..filled * frame_bytes])?;
    }
}

fn batch_frames(size: usize) -> usize {
    (BATCH_BYTES / size).clamp(1, BATCH_FRAMES_MAX)
}

fn header(size: usize) -> [u8; HEADER_BYTES] {
    (size as u32).to_le_bytes()
}

fn accept(ready: Ready<'_>) -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    ready(&listener.local_addr()?.to_string());
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The frames of a stream, read in large pieces.
struct Frames<R> {
    reader: R,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl<R: Read> Frames<R> {
    fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; READ_BYTES], from: 0, to: 0 }
    }

    /// The body of the next frame.
    #[inline]
    fn next(&mut self) -> io::Result<&[u8]> {
        self.hold(HEADER_BYTES)?;
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&self.buffer[self.from..self.from + HEADER_BYTES]);
        let size = u32::from_le_bytes(header) as usize;
        if size > READ_BYTES - HEADER_BYTES {
            return Err(io::Error::other("a frame longer than any that is sent"));
        }
        self.hold(HEADER_BYTES + size)?;
        let from = self.from + HEADER_BYTES;
        self.from = from + size;
        Ok(&self.buffer[from..from + size])
    }

    /// Reads until `bytes` are there.
    #[inline]
    fn hold(&mut self, bytes: usize) -> io::Result<()> {
        while self.to - self.from < bytes {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            match self.reader.read(&mut self.buffer[self.to..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.to += read,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: frames come out as they went in, however the stream is cut.
    use super::*;

    /// Gives a few bytes at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let some = self.0.len().min(7).min(into.len());
            self.0.read(&mut into[..some])
        }
    }

    #[test]
    fn frames_survive_being_cut() {
        let bodies = [vec![1; 3], vec![], vec![2; 1000]];
        let mut bytes = Vec::new();
        for body in &bodies {
            bytes.extend_from_slice(&header(body.len()));
            bytes.extend_from_slice(body);
        }
        let mut frames = Frames::new(Drip(&bytes));
        for body in &bodies {
            assert_eq!(frames.next().unwrap(), body);
        }
        assert_eq!(frames.next().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_length_beyond_the_buffer_is_an_error() {
        let mut frames = Frames::new(&[255; 8][..]);
        assert!(frames.next().is_err());
    }
}
