//! The HELLO datagram: sealed by a dial, opened by a responder before any state or public-key work.
//! An opened hello proves that its sender knows our public key and the channel; it does not prove
//! who or where that is.

use super::first_flight::SEAL_BYTES;
use super::header::{HEADER_BYTES, Header, Kind};
use super::{ChannelKeys, DATAGRAM_BYTES_MAX, DropReason, HandshakeError};
use crate::cookie::COOKIE_BYTES;
use crate::keys::Role;

/// Bytes that the seal binds and leaves readable: header and cookie.
const CLEAR_BYTES: usize = HEADER_BYTES + COOKIE_BYTES;
const PAYLOAD_BYTES: usize = DATAGRAM_BYTES_MAX - CLEAR_BYTES - SEAL_BYTES;
const LENGTH_BYTES: usize = 2;
/// The longest `ClientHello` that one datagram carries.
const CLIENT_HELLO_BYTES_MAX: usize = PAYLOAD_BYTES - LENGTH_BYTES;
/// In place of a cookie, when there is none.
const NO_COOKIE: [u8; COOKIE_BYTES] = [0; COOKIE_BYTES];
/// Bytes of a COOKIE datagram.
pub(super) const COOKIE_DATAGRAM_BYTES: usize = HEADER_BYTES + SEAL_BYTES + COOKIE_BYTES;
const _: () = assert!(COOKIE_DATAGRAM_BYTES < DATAGRAM_BYTES_MAX, "an answer is never longer");

/// Checks that a hello with this `ClientHello` can be written.
pub(super) const fn check_length(client_hello: &[u8]) -> Result<(), HandshakeError> {
    if client_hello.len() <= CLIENT_HELLO_BYTES_MAX {
        return Ok(());
    }
    let bytes = client_hello.len() + DATAGRAM_BYTES_MAX - CLIENT_HELLO_BYTES_MAX;
    Err(HandshakeError::FlightTooLong { bytes })
}

/// Appends a HELLO to `out`. The `ClientHello` passed [`check_length`].
pub(super) fn write(
    channel: &ChannelKeys,
    header: Header,
    cookie: Option<&[u8; COOKIE_BYTES]>,
    client_hello: &[u8],
    out: &mut Vec<u8>,
) {
    let mut clear = [0; CLEAR_BYTES];
    clear[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    clear[HEADER_BYTES..].copy_from_slice(cookie.unwrap_or(&NO_COOKIE));
    let mut payload = [0; PAYLOAD_BYTES];
    payload[..LENGTH_BYTES].copy_from_slice(&(client_hello.len() as u16).to_le_bytes());
    payload[LENGTH_BYTES..][..client_hello.len()].copy_from_slice(client_hello);
    out.extend_from_slice(&clear);
    channel.seal(Role::Dialler, header.dial_id, &clear, &payload, out);
}

/// A hello that opened. It owns its bytes and lives on the stack.
pub struct Hello {
    pub(super) header: Header,
    pub(super) channel: ChannelKeys,
    cookie: [u8; COOKIE_BYTES],
    payload: [u8; PAYLOAD_BYTES],
    client_hello_bytes: usize,
}

impl Hello {
    /// Opens a HELLO that was dialled to one of `channels`, which is tried in order: about a
    /// microsecond each. The datagram stays as it is.
    ///
    /// # Errors
    ///
    /// A [`DropReason`]; nothing is answered to such a datagram.
    pub fn open(channels: &[ChannelKeys], datagram: &[u8]) -> Result<Self, DropReason> {
        let header = Header::peek(datagram)?;
        if header.kind != Kind::Hello {
            return Err(DropReason::Kind);
        }
        let (clear, sealed) =
            datagram.split_first_chunk::<CLEAR_BYTES>().ok_or(DropReason::Length)?;
        for channel in channels {
            // A failed attempt leaves garbage, and the next channel needs the bytes as they came.
            let mut scratch = [0; PAYLOAD_BYTES + SEAL_BYTES];
            if sealed.len() != scratch.len() {
                return Err(DropReason::Length);
            }
            scratch.copy_from_slice(sealed);
            if let Ok(payload) = channel.open(Role::Dialler, header.dial_id, clear, &mut scratch) {
                return Self::from_opened(header, channel, clear, payload);
            }
        }
        Err(DropReason::Sealed)
    }

    fn from_opened(
        header: Header,
        channel: &ChannelKeys,
        clear: &[u8; CLEAR_BYTES],
        payload: &[u8],
    ) -> Result<Self, DropReason> {
        let payload: [u8; PAYLOAD_BYTES] = payload.try_into().map_err(|_| DropReason::Length)?;
        let client_hello_bytes = u16::from_le_bytes([payload[0], payload[1]]) as usize;
        if client_hello_bytes > CLIENT_HELLO_BYTES_MAX {
            return Err(DropReason::Malformed);
        }
        let cookie = *clear.last_chunk().expect("a cookie ends the clear part");
        Ok(Self { header, channel: channel.clone(), cookie, payload, client_hello_bytes })
    }

    /// The channel that was dialled.
    pub fn channel(&self) -> &ChannelKeys {
        &self.channel
    }

    /// The dialler's name for this dial.
    pub const fn dial_id(&self) -> [u8; 8] {
        self.header.dial_id
    }

    /// The association index that the dialler drew.
    pub const fn remote_index(&self) -> u32 {
        self.header.index
    }

    /// The cookie that came with the hello, if one did. Ask
    /// [`CookieSecret`](crate::cookie::CookieSecret) whether it holds.
    pub fn cookie(&self) -> Option<&[u8; COOKIE_BYTES]> {
        (self.cookie != NO_COOKIE).then_some(&self.cookie)
    }

    /// Names the hello: BLAKE3 of its header and `ClientHello`. The same when it is repeated, with
    /// or without a cookie.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.header.to_bytes()).update(self.client_hello());
        *hasher.finalize().as_bytes()
    }

    /// Appends a COOKIE datagram, the answer of a responder that wants proof of the dialler's
    /// address first. Keeps no state and is shorter than the hello. `local_shard` is ours.
    pub fn demand_cookie(&self, cookie: &[u8; COOKIE_BYTES], local_shard: u8, out: &mut Vec<u8>) {
        let header = self.answer(Kind::Cookie, local_shard).to_bytes();
        out.extend_from_slice(&header);
        self.channel.seal(Role::Responder, self.header.dial_id, &header, cookie, out);
    }

    /// The header of what answers this hello.
    pub(super) const fn answer(&self, kind: Kind, local_shard: u8) -> Header {
        Header {
            kind,
            steering: self.header.sender_shard,
            sender_shard: local_shard,
            ..self.header
        }
    }

    pub(super) fn client_hello(&self) -> &[u8] {
        &self.payload[LENGTH_BYTES..][..self.client_hello_bytes]
    }
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("header", &self.header)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
