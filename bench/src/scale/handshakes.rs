//! What a handshake costs beside its arithmetic alone: key agreement and signatures, by the same library in the same run.

use std::time::{Duration, Instant};

use ring::{
    agreement::{EphemeralPrivateKey, UnparsedPublicKey as PublicShare, X25519, agree_ephemeral},
    error::Unspecified,
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use serde_json::json;

use super::{args::HandshakesArgs, memory_network::MemoryNetwork, sheet::Sheet};
use crate::{
    error::{BenchError, Result},
    stats::{median, spread},
};

/// What TLS 1.3 signs: 64 spaces, a text of 33 bytes, a zero and a hash of 32 (RFC 8446, 4.4.3).
const SIGNED_BYTES: usize = 130;

/// Seconds for one handshake, slice by slice.
#[derive(Default)]
struct Costs {
    dialler: Vec<f64>,
    responder: Vec<f64>,
    /// Of one side.
    arithmetic: Vec<f64>,
}

/// Runs the command: slices of handshakes and of their arithmetic in turn, in one thread.
///
/// # Errors
///
/// `Corrupt` when a handshake does not come about.
pub fn run(args: &HandshakesArgs) -> Result<Sheet> {
    let each = args.handshakes.max(1);
    let mut network = MemoryNetwork::new(each * args.pairs.max(1))?;
    let arithmetic = Arithmetic::new()?;
    let mut costs = Costs::default();
    for _ in 0..args.pairs.max(1) {
        let before = network.spent();
        for _ in 0..each {
            network.welcome(0)?;
        }
        let after = network.spent();
        let per = |after: Duration, before: Duration| {
            after.saturating_sub(before).as_secs_f64() / each as f64
        };
        costs.responder.push(per(after.host, before.host));
        costs.dialler.push(per(after.guests, before.guests));
        costs.arithmetic.push(arithmetic.seconds(each)?);
    }
    Ok(costs.sheet(each))
}

impl Costs {
    fn sheet(&self, each: usize) -> Sheet {
        let mut sheet = Sheet::new("scale handshakes");
        let both: Vec<_> = self.dialler.iter().zip(&self.responder).map(|(d, r)| d + r).collect();
        let twice: Vec<_> = self.arithmetic.iter().map(|one| 2.0 * one).collect();
        let parts = [
            ("dialler", &self.dialler, &self.arithmetic),
            ("responder", &self.responder, &self.arithmetic),
            ("both sides", &both, &twice),
            ("arithmetic of one side", &self.arithmetic, &self.arithmetic),
        ];
        for (what, seconds, arithmetic) in parts {
            let ratios: Vec<_> = seconds.iter().zip(arithmetic).map(|(a, b)| a / b).collect();
            let middle = median(seconds).unwrap_or_default();
            sheet.add(vec![
                ("what", json!(what)),
                ("handshakes", json!(each * seconds.len())),
                ("each_us", json!(middle * 1e6)),
                ("per_second_and_core", json!((1.0 / middle).round())),
                ("over_arithmetic", json!(median(&ratios))),
                ("spread", json!(spread(&ratios))),
            ]);
        }
        sheet
    }
}

/// What one side computes: a key share, an agreement, a signature, and the check of one.
struct Arithmetic {
    random: SystemRandom,
    pair: Ed25519KeyPair,
    share: Vec<u8>,
}

impl Arithmetic {
    fn new() -> Result<Self> {
        let random = SystemRandom::new();
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]);
        let pair = pair.map_err(|error| BenchError::Machine(error.to_string()))?;
        let share = EphemeralPrivateKey::generate(&X25519, &random)
            .and_then(|key| key.compute_public_key())
            .map_err(refused)?;
        Ok(Self { random, pair, share: share.as_ref().to_vec() })
    }

    /// Seconds for one side of a handshake, over so many.
    fn seconds(&self, count: usize) -> Result<f64> {
        let begun = Instant::now();
        for number in 0..count {
            self.once(number).map_err(refused)?;
        }
        Ok(begun.elapsed().as_secs_f64() / count as f64)
    }

    fn once(&self, number: usize) -> Result<(), Unspecified> {
        let own = EphemeralPrivateKey::generate(&X25519, &self.random)?;
        std::hint::black_box(own.compute_public_key()?);
        agree_ephemeral(own, &PublicShare::new(&X25519, &self.share), |secret| {
            std::hint::black_box(secret[0]);
        })?;
        let mut signed = [b' '; SIGNED_BYTES];
        signed[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let signature = self.pair.sign(&signed);
        let public = UnparsedPublicKey::new(&ED25519, self.pair.public_key().as_ref());
        public.verify(&signed, signature.as_ref())
    }
}

fn refused(_: Unspecified) -> BenchError {
    BenchError::Machine("the library refused a key of its own".into())
}
