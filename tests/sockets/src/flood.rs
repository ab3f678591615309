//! A flood of datagrams from many sources of loopback, as fast as one core sends.
//!
//! Given: a target on loopback, its key, what to send, how long. Always holds: no target but loopback is accepted; every
//! address of 127.0.0.0/8 is local, so sources are real sockets on random addresses and ports of it, each used for a few
//! datagrams; what is sent was made before the clock starts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use cubed::PublicKey;
use cubed_transport::handshake::{Credentials, Dial};
use cubed_transport::identity::Identity;
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Sockets in use at once: datagrams go out from each in turn, so that no two in a row share a source.
const SOCKETS: usize = 64;
/// Datagrams that one source sends before another takes its place.
const DATAGRAMS_PER_SOURCE: usize = 32;
/// Different datagrams made beforehand; they go round.
const ROUNDS_MADE: usize = 16_384;
/// Bytes of a HELLO and of a data datagram (docs/PROTOCOL.md).
const HELLO_BYTES: usize = 1_200;
const DATA_BYTES: usize = 1_452;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// HELLOs that open: sealed for the target's key, each with its own dial id and key exchange
    Hello,
    /// HELLOs that do not open: a good header and noise
    Garbage,
    /// The two in turn
    Mixed,
    /// Data datagrams of associations that nobody has
    Data,
}

/// What a flood did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Datagrams handed to the system.
    pub datagrams: u64,
    /// Datagrams that it refused.
    pub refused: u64,
    /// Different sources.
    pub sources: u64,
    /// How long it took.
    pub seconds: f64,
}

/// A flood that has its datagrams made and waits to begin.
pub struct Flood {
    target: SocketAddr,
    datagrams: Vec<Vec<u8>>,
    random: Random,
}

impl Flood {
    /// Makes the datagrams.
    ///
    /// # Errors
    ///
    /// A text, when the target is not on loopback over IPv4 or the key is none.
    pub fn new(target: SocketAddr, key: PublicKey, kind: Kind, seed: u64) -> Result<Self, String> {
        if !(target.is_ipv4() && target.ip().is_loopback()) {
            return Err(format!("{target} is not on 127.0.0.0/8: this floods loopback only"));
        }
        let mut random = Random::new(seed);
        let credentials = Identity::generate().map_err(|error| error.to_string())?;
        let credentials = Credentials::new(&credentials).map_err(|error| error.to_string())?;
        let mut datagrams = Vec::with_capacity(ROUNDS_MADE);
        for round in 0..ROUNDS_MADE {
            datagrams.push(match kind {
                Kind::Data => noise(&mut random, &[0x40, 0], DATA_BYTES),
                Kind::Garbage => garbage(&mut random),
                Kind::Mixed if round % 2 == 0 => garbage(&mut random),
                Kind::Hello | Kind::Mixed => hello(&credentials, key, &mut random)?,
            });
        }
        Ok(Self { target, datagrams, random })
    }

    /// Sends for `duration`, at most `rate` datagrams a second.
    ///
    /// # Errors
    ///
    /// The system's, when it gives no sockets.
    pub fn run(mut self, duration: Duration, rate: f64) -> io::Result<Sent> {
        let mut sockets = Vec::with_capacity(SOCKETS);
        for _ in 0..SOCKETS {
            sockets.push(source(&mut self.random)?);
        }
        let mut sent = Sent { datagrams: 0, refused: 0, sources: SOCKETS as u64, seconds: 0.0 };
        let (begun, mut count) = (Instant::now(), 0);
        loop {
            // One look at the clock for each round of the sockets.
            let elapsed = begun.elapsed();
            if elapsed >= duration {
                sent.seconds = elapsed.as_secs_f64();
                return Ok(sent);
            }
            if count as f64 > rate * elapsed.as_secs_f64() {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            let is_worn = count % (SOCKETS * DATAGRAMS_PER_SOURCE) == 0 && count > 0;
            for socket in &mut sockets {
                if is_worn {
                    *socket = source(&mut self.random)?;
                    sent.sources += 1;
                }
                let datagram = &self.datagrams[count % self.datagrams.len()];
                count += 1;
                match socket.send_to(datagram, self.target) {
                    Ok(_) => sent.datagrams += 1,
                    Err(_) => sent.refused += 1,
                }
            }
        }
    }
}

fn hello(
    credentials: &Credentials,
    key: PublicKey,
    random: &mut Random,
) -> Result<Vec<u8>, String> {
    let (index, dial_id) = (random.bits() as u32, random.bits().to_le_bytes());
    let dial = Dial::new(credentials, key, "", index, dial_id, 0);
    let mut datagram = Vec::with_capacity(HELLO_BYTES);
    dial.map_err(|error| error.to_string())?.hello(None, &mut datagram);
    Ok(datagram)
}

/// A HELLO's header (kind 1, version 1, the rest at random) and noise.
fn garbage(random: &mut Random) -> Vec<u8> {
    let mut datagram = noise(random, &[1], HELLO_BYTES);
    datagram[7] = 1;
    datagram
}

fn noise(random: &mut Random, front: &[u8], bytes: usize) -> Vec<u8> {
    let mut datagram: Vec<u8> = std::iter::repeat_with(|| random.bits().to_le_bytes())
        .take(bytes.div_ceil(8))
        .flatten()
        .collect();
    datagram.truncate(bytes);
    datagram[..front.len()].copy_from_slice(front);
    datagram
}

/// A socket on a random address of 127.0.0.0/8 and a free port.
fn source(random: &mut Random) -> io::Result<UdpSocket> {
    let bits = random.bits().to_le_bytes();
    // Neither the network's address nor its broadcast address.
    let last = 1 + bits[2] % 254;
    UdpSocket::bind((Ipv4Addr::new(127, bits[0], bits[1], last), 0))
}

#[cfg(test)]
mod tests {
    //! Goal: only loopback is flooded, from many sources, with what was asked for.
    use std::collections::HashSet;

    use cubed_transport::handshake::{ChannelKeys, Hello};

    use super::*;

    fn key() -> PublicKey {
        Identity::from_seed(&[7; 32]).public_key()
    }

    #[test]
    fn only_loopback_is_accepted() {
        for target in ["192.0.2.1:1", "0.0.0.0:1", "[::1]:1", "10.0.0.1:7"] {
            assert!(Flood::new(target.parse().unwrap(), key(), Kind::Data, 1).is_err(), "{target}");
        }
    }

    #[test]
    fn hellos_open_garbage_does_not_and_none_is_twice() {
        let target = "127.0.0.1:1".parse().unwrap();
        let flood = Flood::new(target, key(), Kind::Mixed, 1).unwrap();
        let channels = [ChannelKeys::new(&key(), "").unwrap()];
        let opens = |datagram: &Vec<u8>| Hello::open(&channels, datagram).is_ok();
        let opened: Vec<bool> = flood.datagrams[..100].iter().map(opens).collect();
        assert!(opened.iter().enumerate().all(|(place, &opens)| opens == (place % 2 == 1)));
        assert_eq!(flood.datagrams.iter().collect::<HashSet<_>>().len(), ROUNDS_MADE);
    }

    #[test]
    fn sources_are_many() {
        let target = UdpSocket::bind("127.0.0.1:0").unwrap();
        target.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let flood = Flood::new(target.local_addr().unwrap(), key(), Kind::Data, 1).unwrap();
        let flooding = std::thread::spawn(move || flood.run(Duration::from_millis(200), 20_000.0));
        let mut seen = HashSet::new();
        for _ in 0..100 {
            let (bytes, from) = target.recv_from(&mut [0; 2_000]).unwrap();
            assert_eq!(bytes, DATA_BYTES);
            seen.insert(from);
        }
        assert!(seen.len() > 30, "{}", seen.len());
        let sent = flooding.join().unwrap().unwrap();
        assert!(sent.sources >= 64 && sent.datagrams > 100, "{sent:?}");
        assert!(sent.datagrams < 10_000, "the rate is kept: {sent:?}");
    }
}
