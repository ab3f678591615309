//! The handshake: TLS 1.3 with raw public keys on both sides, carried by three datagrams that look
//! like noise to whoever does not know the dialled public key. It yields an association's secret
//! and two proven keys.
//!
//! Pure: no socket, no clock, no state shared between attempts. Indexes and dial ids are arguments;
//! TLS draws its own random numbers. Bytes from a peer never panic. Whatever is dropped leaves the
//! attempt as it was.
//!
//! ```text
//! dialler                                   responder
//! Dial::new
//! Dial::hello        -- HELLO (1200) -->    Hello::open            strangers end here
//!                    <-- COOKIE (76) --     Hello::demand_cookie   under load, keeps no state
//! Dial::handle_cookie
//! Dial::hello        -- HELLO (1200) -->    Hello::open, HalfOpen::accept
//! Dial::handle_reply <-- REPLY ---------    HalfOpen::reply
//! Dial::finish       -- FINISH -------->    HalfOpen::handle_finish
//! Established                               Established
//! ```
//!
//! Bytes. Integers are little endian. All datagrams begin with
//!
//! ```text
//!  0  kind: 1 HELLO, 2 REPLY, 3 FINISH, 4 COOKIE
//!  1  receiver's shard (steering byte); in a HELLO the first byte of the dial id
//!  2  association index drawn by the receiver, 4 bytes; in a HELLO that drawn by its sender
//!  6  sender's shard
//!  7  version of this layout: 1
//!  8  dial id, 8 bytes
//! ```
//!
//! and go on, `[ ]` sealed with the first flight's keys and `{ }` with TLS's handshake keys as
//! packet number 0:
//!
//! ```text
//! HELLO, 1200 bytes
//!   16  cookie, 32 bytes, zeros when there is none
//!   48  nonce, 12 bytes
//!   60  [ length of the ClientHello, 2 bytes | ClientHello | zeros up to 1124 bytes ]
//! 1184  tag, 16 bytes
//!
//! REPLY, at most 1200 bytes
//!   16  nonce, 12 bytes
//!   28  [ responder's association index, 4 bytes | length of the ServerHello, 2 bytes
//!         | ServerHello
//!         | { EncryptedExtensions, CertificateRequest, Certificate, CertificateVerify, Finished }
//!         | tag, 16 bytes ]
//!  end  tag, 16 bytes
//!
//! FINISH, at most 1200 bytes
//!   16  { Certificate, CertificateVerify, Finished }
//!  end  tag, 16 bytes
//!
//! COOKIE, 76 bytes
//!   16  nonce, 12 bytes
//!   28  [ cookie, 32 bytes ]
//!   60  tag, 16 bytes
//! ```
//!
//! The first flight's seal binds all that precedes its nonce, the handshake keys' seal binds the
//! header. REPLY is sealed twice, so that damage to any of its bytes is seen before TLS is given
//! the first: TLS cannot step back.
//!
//! TLS: ALPN `cubed/1`, X25519, Ed25519 raw keys, no SNI, no tickets, empty QUIC transport
//! parameters.

mod credentials;
mod dial;
mod error;
mod established;
mod first_flight;
mod half_open;
mod header;
mod hello;
mod tls;

pub use credentials::Credentials;
pub use dial::Dial;
pub use error::{HandshakeError, StepError};
pub use established::Established;
pub use first_flight::{CHANNEL_NAME_BYTES_MAX, ChannelKeys};
pub use half_open::HalfOpen;
pub use header::{DATAGRAM_BYTES_MAX, DropReason, HEADER_BYTES, Header, Kind, VERSION};
pub use hello::Hello;

/// The protocol's name and version, agreed on within TLS.
#[cfg(not(cubed_clear))]
const ALPN: &[u8] = b"cubed/1";

/// What a build without encryption names, so that no other node speaks with it (`keys/clear.rs`).
#[cfg(cubed_clear)]
const ALPN: &[u8] = b"cubed/1 without encryption, for measuring";

/// Checks that what we are about to send is not longer than the hello that it belongs to.
const fn check_datagram_length(datagram: &[u8]) -> Result<(), HandshakeError> {
    if datagram.len() <= DATAGRAM_BYTES_MAX {
        Ok(())
    } else {
        Err(HandshakeError::FlightTooLong { bytes: datagram.len() })
    }
}

#[cfg(test)]
mod tests;
