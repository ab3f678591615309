//! Tells another implementation of the wire format what this one says to the same bytes.
//!
//! Purpose: `tests/wire` compares both. Contract: one answer line per input line, in order, nothing else on standard output; an
//! answer depends on its own line only, but for `tell`. Lines are a word and hex:
//!
//! - `decoders BYTES`: each decoder that takes a beginning of the bytes, as `name=length`, joined by commas;
//! - `row BYTES`: `open` or `closed`, what became of a session in which these frames came;
//! - `dial KEY`: the first datagram to the node of this key;
//! - `answer DATAGRAM`: the key of a node, then what it answers to this datagram, joined by commas;
//! - `tell DATAGRAM`: the same of one node that remembers what it was told so.

use std::io::{self, BufRead, Write};

use std::net::SocketAddr;

use cubed_transport::Limits;
use cubed_transport::identity::PublicKey;
use cubed_transport::testing::{Pair, check_decoders};

fn main() -> io::Result<()> {
    let (input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let (limits, mut told) = (Limits::default(), None);
    for line in input.lines() {
        let line = line?;
        let (word, hex) = line.split_once(' ').unwrap_or((line.as_str(), ""));
        let bytes = bytes(hex)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no hex: {hex}")))?;
        let answer = match word {
            "decoders" => decoders(&bytes),
            "row" => row(&limits, &bytes),
            "dial" => dial(&limits, &bytes),
            "answer" => answer(&mut Pair::connected(&limits), bytes),
            "tell" => answer(told.get_or_insert_with(|| Pair::connected(&limits)), bytes),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no {word}"))),
        };
        writeln!(output, "{answer}")?;
    }
    output.flush()
}

fn decoders(data: &[u8]) -> String {
    let taken: Vec<_> =
        check_decoders(data).iter().map(|(name, n)| format!("{name}={n}")).collect();
    taken.join(",")
}

fn row(limits: &Limits, payload: &[u8]) -> String {
    let mut pair = Pair::connected(limits);
    assert!(pair.inject(payload), "both sides have greeted");
    if pair.is_connected() { "open" } else { "closed" }.to_owned()
}

fn dial(limits: &Limits, key: &[u8]) -> String {
    let mut pair = Pair::connected(limits);
    let key = PublicKey::from_bytes(key.try_into().expect("a key has 32 bytes"));
    let [(dialler, _), _] = &mut pair.ends;
    let peer = dialler.add_peer(key, Some(stranger())).expect("there is room for a peer");
    dialler.connect(pair.now, peer).expect("a dial begins");
    sent(&mut pair, 0)
}

fn answer(pair: &mut Pair, mut datagram: Vec<u8>) -> String {
    let now = pair.now;
    let [_, (node, app)] = &mut pair.ends;
    let key = hex(node.public_key().as_bytes());
    node.handle_datagram(now, stranger(), &mut datagram, app);
    format!("{key},{}", sent(pair, 1))
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([10, 9, 9, 9], 7530))
}

fn sent(pair: &mut Pair, side: usize) -> String {
    let (mut run, mut sent) = (Vec::new(), Vec::new());
    while let Some(transmit) = pair.ends[side].0.poll_transmit(pair.now, &mut run) {
        sent.extend(run.chunks(transmit.segment_bytes).map(hex));
    }
    sent.join(",")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits?;
    digits
        .len()
        .is_multiple_of(2)
        .then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
