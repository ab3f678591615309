//! libzmq through its C library: PUSH/PULL one way, REQ/REP for the echo, in clear or with CURVE, options as they come.
//!
//! Each process has libzmq's I/O thread beside the application's, on the same core.

use cubed_peers::{
    load::{Exchange, Load, Meter, is_last},
    stack::{Outcome, Ready, Sides},
};
use zmq::{Context, CurveKeyPair, Message, Socket, SocketType};

/// libzmq over TCP.
#[derive(Debug)]
pub(crate) struct Libzmq {
    /// CURVE authenticates the server's key and encrypts.
    pub(crate) is_curve: bool,
}

impl Sides for Libzmq {
    fn receive(&self, ready: Ready<'_>, meter: &mut Meter) -> Outcome<()> {
        let context = Context::new();
        let socket = self.bind(&context, zmq::PULL, ready)?;
        let mut message = Message::new();
        loop {
            socket.recv(&mut message, 0)?;
            if !meter.take(&message) {
                return Ok(());
            }
        }
    }

    fn send(&self, address: &str, load: &mut Load) -> Outcome<()> {
        // Its end waits until all is sent: libzmq lingers without limit.
        let context = Context::new();
        let socket = self.connect(&context, zmq::PUSH, address)?;
        let mut body = vec![0; load.size()];
        while load.fill(&mut body) {
            socket.send(&body[..], 0)?;
        }
        Ok(())
    }

    fn answer(&self, ready: Ready<'_>) -> Outcome<()> {
        let context = Context::new();
        let socket = self.bind(&context, zmq::REP, ready)?;
        let mut message = Message::new();
        loop {
            socket.recv(&mut message, 0)?;
            socket.send(&message[..], 0)?;
            if is_last(&message) {
                return Ok(());
            }
        }
    }

    fn ask(&self, address: &str, exchange: &mut Exchange) -> Outcome<()> {
        let context = Context::new();
        let socket = self.connect(&context, zmq::REQ, address)?;
        let (mut body, mut message) = (vec![0; exchange.size()], Message::new());
        while exchange.ask(&mut body) {
            socket.send(&body[..], 0)?;
            socket.recv(&mut message, 0)?;
            exchange.answered(&message);
        }
        Ok(())
    }
}

impl Libzmq {
    fn bind(&self, context: &Context, kind: SocketType, ready: Ready<'_>) -> Outcome<Socket> {
        let socket = context.socket(kind)?;
        let mut key = String::new();
        if self.is_curve {
            let keys = curve_keys()?;
            socket.set_curve_server(true)?;
            socket.set_curve_secretkey(&keys.secret_key)?;
            key = zmq::z85_encode(&keys.public_key)?;
        }
        socket.bind("tcp://127.0.0.1:*")?;
        let endpoint = socket.get_last_endpoint()?.map_err(|_| "the endpoint is not text")?;
        ready(&format!("{endpoint};{key}"));
        Ok(socket)
    }

    fn connect(&self, context: &Context, kind: SocketType, address: &str) -> Outcome<Socket> {
        let (endpoint, key) = address.split_once(';').ok_or("an address without a key part")?;
        let socket = context.socket(kind)?;
        if self.is_curve {
            let keys = curve_keys()?;
            socket.set_curve_serverkey(&zmq::z85_decode(key)?)?;
            socket.set_curve_publickey(&keys.public_key)?;
            socket.set_curve_secretkey(&keys.secret_key)?;
        }
        socket.connect(endpoint)?;
        Ok(socket)
    }
}

fn curve_keys() -> Outcome<CurveKeyPair> {
    Ok(CurveKeyPair::new().map_err(|error| format!("libzmq without CURVE: {error}"))?)
}
