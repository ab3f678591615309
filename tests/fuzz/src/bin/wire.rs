//! Tells another implementation of the wire format what this one says to the same bytes.
//!
//! Purpose: `tests/wire` compares both. Contract: one answer line per input line, in order, nothing else on standard output; an
//! answer depends on its own line only. Lines are a word and hex:
//!
//! - `decoders BYTES`: each decoder that takes a beginning of the bytes, as `name=length`, joined by commas;
//! - `row BYTES`: `open` or `closed`, what became of a session in which these frames came.

use std::io::{self, BufRead, Write};

use cubed_transport::Limits;
use cubed_transport::testing::{Pair, check_decoders};

fn main() -> io::Result<()> {
    let (input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let limits = Limits::default();
    for line in input.lines() {
        let line = line?;
        let (word, hex) = line.split_once(' ').unwrap_or((line.as_str(), ""));
        let bytes = bytes(hex)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no hex: {hex}")))?;
        let answer = match word {
            "decoders" => decoders(&bytes),
            "row" => row(&limits, &bytes),
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

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits?;
    digits
        .len()
        .is_multiple_of(2)
        .then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
