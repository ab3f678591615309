//! The end of a handshake: who is there, and the secret that both share. Both ends compute it from
//! the same facts, so ends that disagree on any of them share nothing.

use rustls::quic::Connection;

use super::credentials::suite_of;
use super::header::VERSION;
use super::{ALPN, HandshakeError};
use crate::identity::PublicKey;
use crate::keys::{AssociationSecret, Role, Suite};

/// A finished handshake. The remote key is proven; whether it may do anything is for policy to say.
#[derive(Debug)]
pub struct Established {
    /// Where the lanes' keys come from.
    pub secret: AssociationSecret,
    /// The AEAD of the lanes.
    pub suite: Suite,
    /// Which end we were.
    pub role: Role,
    /// The association index that we drew: what the peer puts into its datagrams.
    pub local_index: u32,
    /// The association index that the peer drew: what we put into ours.
    pub remote_index: u32,
    /// The peer's shard that shook hands.
    pub remote_shard: u8,
    /// The peer's proven key.
    pub remote_key: PublicKey,
    /// The dial that this came from.
    pub dial_id: [u8; 8],
}

/// What the two ends of an association must agree on besides TLS's own transcript.
pub(super) struct Facts<'a> {
    pub(super) dialler: PublicKey,
    pub(super) responder: PublicKey,
    pub(super) channel: &'a str,
    pub(super) dialler_index: u32,
    pub(super) responder_index: u32,
    pub(super) dial_id: [u8; 8],
}

impl Facts<'_> {
    /// BLAKE3 of fields of fixed length followed by one of any length, so that there is one
    /// reading.
    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&[VERSION])
            .update(self.dialler.as_bytes())
            .update(self.responder.as_bytes())
            .update(&self.dialler_index.to_le_bytes())
            .update(&self.responder_index.to_le_bytes())
            .update(&self.dial_id)
            .update(self.channel.as_bytes());
        hasher.finalize()
    }

    /// The association's secret and suite, once TLS is done.
    pub(super) fn secret(
        &self,
        connection: &Connection,
    ) -> Result<(AssociationSecret, Suite), HandshakeError> {
        if connection.is_handshaking() || connection.alpn_protocol() != Some(ALPN) {
            return Err(HandshakeError::Incomplete);
        }
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite_of(suite.suite()));
        let suite = suite.ok_or(HandshakeError::Incomplete)?;
        let context = self.hash();
        let secret =
            connection.export_keying_material([0; 32], EXPORTER, Some(context.as_bytes()))?;
        Ok((AssociationSecret::from_bytes(secret), suite))
    }
}

const EXPORTER: &[u8] = b"EXPORTER-cubed/1 association";

#[cfg(test)]
mod tests {
    //! Goal: ends that disagree on any fact hash to different contexts, and the hash never drifts.

    use super::*;

    const fn facts() -> Facts<'static> {
        Facts {
            dialler: PublicKey::from_bytes([1; 32]),
            responder: PublicKey::from_bytes([2; 32]),
            channel: "orders",
            dialler_index: 3,
            responder_index: 4,
            dial_id: *b"dial id.",
        }
    }

    #[test]
    fn every_fact_changes_the_context() {
        let other = PublicKey::from_bytes([9; 32]);
        let changed = [
            Facts { dialler: other, ..facts() },
            Facts { responder: other, ..facts() },
            Facts { channel: "order", ..facts() },
            Facts { dialler_index: 5, ..facts() },
            Facts { responder_index: 5, ..facts() },
            Facts { dial_id: *b"dial ID.", ..facts() },
        ];
        for (position, changed) in changed.iter().enumerate() {
            assert_ne!(changed.hash(), facts().hash(), "fact {position}");
        }
    }

    /// A vector of `docs/PROTOCOL.md`. After a change on purpose, copy the printed line there and
    /// here.
    #[test]
    fn the_context_matches_the_published_vector() {
        assert_eq!(
            facts().hash().to_string(),
            "9ad2e05f47934ceaa37d94421e556bbbf696e6d6012b16c6f603c7dd8d543746"
        );
    }
}
