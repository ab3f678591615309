//! Plain TCP: one blocking thread a side, frames of a length of 4 bytes and a body, many to a system call.
//!
//! `tcp` leaves each body where it lies and hands the kernel a list (`writev`); `tcp-packed` writes bodies into one buffer of whole
//! frames, which costs the kernel less for small ones.

use std::{
    io::{self, IoSlice, Read, Write},
    net::{TcpListener, TcpStream},
};

use cubed_peers::{
    load::{Exchange, Load, Meter, is_last},
    stack::{Outcome, Ready, Sides},
};

use crate::frames::{Batch, Frames, HEADER_BYTES, batch_frames, header};

/// Plain TCP.
#[derive(Debug)]
pub(crate) struct Tcp {
    /// Frames are written into one buffer.
    pub(crate) is_packed: bool,
}

impl Sides for Tcp {
    fn receive(&self, ready: Ready<'_>, meter: &mut Meter) -> Outcome<()> {
        let (mut stream, mut frames) = (accept(ready)?, Frames::new());
        while meter.take(next(&mut frames, &mut stream)?) {}
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
        let (mut stream, mut frames) = (accept(ready)?, Frames::new());
        let mut frame = Vec::new();
        loop {
            let body = next(&mut frames, &mut stream)?;
            frame.clear();
            frame.extend_from_slice(&header(body.len()));
            frame.extend_from_slice(body);
            stream.write_all(&frame)?;
            if is_last(body) {
                return Ok(());
            }
        }
    }

    fn ask(&self, address: &str, exchange: &mut Exchange) -> Outcome<()> {
        let (mut stream, mut frames) = (connect(address)?, Frames::new());
        let mut frame = vec![0; HEADER_BYTES + exchange.size()];
        frame[..HEADER_BYTES].copy_from_slice(&header(exchange.size()));
        while exchange.ask(&mut frame[HEADER_BYTES..]) {
            stream.write_all(&frame)?;
            exchange.answered(next(&mut frames, &mut stream)?);
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
    let mut batch = Batch::new(load.size());
    loop {
        let frames = batch.next(load);
        if frames.is_empty() {
            return Ok(());
        }
        stream.write_all(frames)?;
    }
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

/// The body of the next frame.
#[inline]
fn next<'a>(frames: &'a mut Frames, stream: &mut TcpStream) -> io::Result<&'a [u8]> {
    while !frames.has_next()? {
        let read = stream.read(frames.space())?;
        frames.filled(read)?;
    }
    Ok(frames.next())
}
