//! The few moves of TLS's QUIC interface that a handshake makes, the same for both sides.

use rustls::quic::{Connection, KeyChange, Keys, PacketKey};

use super::credentials::decode_public_key;
use super::header::Header;
use super::{DropReason, HandshakeError};
use crate::identity::PublicKey;

/// Each handshake key seals one datagram.
const PACKET_NUMBER: u64 = 0;

/// Appends what TLS has to say before it changes to the handshake keys, and returns these.
pub(super) fn write_until_handshake_keys(
    connection: &mut Connection,
    out: &mut Vec<u8>,
) -> Result<Keys, HandshakeError> {
    match connection.write_hs(out) {
        Some(KeyChange::Handshake { keys }) => Ok(keys),
        Some(KeyChange::OneRtt { .. }) | None => Err(HandshakeError::Incomplete),
    }
}

/// Appends what TLS has left to say, sealed with `key`; `header` is bound to it.
pub(super) fn write_sealed(
    connection: &mut Connection,
    key: &dyn PacketKey,
    header: Header,
    out: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    let start = out.len();
    // The last keys that TLS offers would be for QUIC's own packets; lanes use the exporter
    // instead.
    let Some(KeyChange::OneRtt { .. }) = connection.write_hs(out) else {
        return Err(HandshakeError::Incomplete);
    };
    let tag = key.encrypt_in_place(PACKET_NUMBER, &header.to_bytes(), &mut out[start..])?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Opens in place what [`write_sealed`] wrote.
pub(super) fn open<'a>(
    key: &dyn PacketKey,
    header: Header,
    sealed: &'a mut [u8],
) -> Result<&'a [u8], DropReason> {
    key.decrypt_in_place(PACKET_NUMBER, &header.to_bytes(), sealed).map_err(|_| DropReason::Sealed)
}

/// The key that the peer has proven to own. Only after its flight was read.
pub(super) fn proven_key(connection: &Connection) -> Result<PublicKey, HandshakeError> {
    connection
        .peer_certificates()
        .and_then(|keys| keys.first())
        .and_then(|key| decode_public_key(key))
        .ok_or(HandshakeError::Incomplete)
}
