//! What does a handshake cost both sides together, and what does it cost to drop a stranger's hello?
//! `cargo bench -p cubed-transport --bench handshake`.

use std::time::Instant;

use cubed_transport::handshake::{ChannelKeys, Credentials, Dial, HalfOpen, Hello};
use cubed_transport::identity::Identity;

const ROUNDS: u32 = 500;

fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn credentials(seed: u8) -> Credentials {
    Credentials::new(&identity(seed)).expect("a valid key")
}

fn channels(seed: u8) -> [ChannelKeys; 1] {
    [ChannelKeys::new(&identity(seed).public_key(), "").expect("a short name")]
}

fn dial(dialler: &Credentials) -> Dial {
    let remote = identity(2).public_key();
    Dial::new(dialler, remote, "", 1, *b"dial id.", 0).expect("random numbers")
}

/// One whole handshake.
fn shake(dialler: &Credentials, responder: &Credentials, channels: &[ChannelKeys]) {
    let mut datagram = Vec::new();
    let mut dial = dial(dialler);
    dial.hello(None, &mut datagram);
    let hello = Hello::open(channels, &datagram).expect("sealed for this key");
    let mut half_open = HalfOpen::accept(responder, &hello, 2, 0).expect("a good hello");
    datagram.clear();
    half_open.reply(&mut datagram);
    dial.handle_reply(&mut datagram).expect("a good reply");
    datagram.clear();
    assert!(dial.finish(&mut datagram));
    half_open.handle_finish(&mut datagram).expect("a good finish");
}

fn main() {
    let (dialler, responder, own) = (credentials(1), credentials(2), channels(2));
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        shake(&dialler, &responder, &own);
    }
    println!("both sides of one handshake: {:?}", begun.elapsed() / ROUNDS);
    let mut hello = Vec::new();
    dial(&dialler).hello(None, &mut hello);
    let others = channels(3);
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        assert!(Hello::open(&others, &hello).is_err());
    }
    println!("dropping a stranger's hello: {:?}", begun.elapsed() / ROUNDS);
}
